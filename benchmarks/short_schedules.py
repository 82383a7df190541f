"""Rate and warm-up where steps are few: the two strategies of high rates on small data sets, judged on validation.

    python benchmarks/short_schedules.py --data ../shared/data --jobs 2

Made for two CPU cores with AVX512-BF16 or AMX; half an hour. Reads NusaX (Javanese, 500 rows, 64 steps) and STS-B
(1,000 rows, 96 steps), folders `nusax_jav` and `stsb` below --data, as the recipes `low_resource_sentiment` and
`similarity` do. What `learning_rates.py` found on Banking77 and AG News fails here in some seeds, where a warm-up over
a tenth of the steps is seven or ten of them. A default is the lowest rate whose mean validation score over sets and
seeds, at the warm-up that is better there, is within one standard error of the best one's (as in `learning_rates.py`;
here of the seeds). Writes result files, `table.md` and `table.csv` (scores of test) to results/short_schedules, and the
means that decide to `validation.md`, which `--page` makes anew from the result files.
"""

import argparse
import math
import statistics
from pathlib import Path
from typing import Any

import adapt
from adapt.comparison.store import Store
from adapt.spec import Budget
from adapt.strategies import make, recorded

RATES = {"bottleneck": (2e-3, 4e-3), "prefix": (1e-2, 2e-2, 3e-2)}
WARMUPS = (0.0, 0.3)
"""Shares of the steps; the budget's own tenth is the least."""
SETS: dict[str, dict[str, Any]] = {
    "nusax_jav": {"epochs": 4, "metric": "macro_f1"},
    "stsb": {"epochs": 3, "max_train": 1000},
}
"""Folder to budget and options of the task."""
Setting = tuple[str, float, float]
"""Strategy, learning rate, warm-up."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help=f"folder with the folders {' and '.join(SETS)}")
    parser.add_argument("--out", default="results/short_schedules", help="folder of results")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds (default: %(default)s)")
    parser.add_argument("--jobs", type=int, help="runs done at the same time")
    parser.add_argument("--page", action="store_true", help="train nothing")
    options = parser.parse_args()
    if options.data is None and not options.page:
        parser.error("give --data, or --page")
    strategies = [
        make(name, {"learning_rate": rate, "warmup": warmup})
        for name, rates in RATES.items()
        for rate in rates
        for warmup in WARMUPS
    ]
    for name, choices in {} if options.page else SETS.items():
        data = adapt.data.load(Path(options.data) / name, name=name)
        adapt.compare(
            "minilm", data, strategies, seeds=options.seeds, dropout=0.0, out=options.out, jobs=options.jobs, **choices
        )
    store = Store(options.out)
    print(store.write_table())
    text = page(store.all())
    (Path(options.out) / "validation.md").write_text(text, encoding="utf-8")
    print(text)


def page(results: list[dict[str, Any]]) -> str:
    """The mean validation scores by setting, those chosen in bold."""
    found, defaults = means(results), chosen(results)
    lines = ["# Rate and warm-up where steps are few", ""]
    lines += [f"Validation scores × 100, best epoch, mean over {' and '.join(SETS)} and their seeds. Chosen (bold):"]
    lines += ["the lowest rate that, at its better warm-up, is within one standard error of the best score.", ""]
    lines += ["| strategy | learning rate | warm-up | score | standard error |", "| --- | ---: | ---: | ---: | ---: |"]
    for (name, rate, warmup), (mean, error) in found.items():
        score = f"{100 * mean:.1f}"
        score = f"**{score}**" if defaults[name] == (rate, warmup) else score
        lines.append(f"| {name} | {rate:g} | {max(warmup, Budget.warmup):g} | {score} | {100 * error:.1f} |")
    return "\n".join(lines) + "\n"


def means(results: list[dict[str, Any]]) -> dict[Setting, tuple[float, float]]:
    """Each setting's best validation score, its mean over the seeds of a set and then over sets, and the standard error
    of that mean over seeds."""
    scores: dict[Setting, dict[str, list[float]]] = {}
    for result in results:
        fields, task = recorded(result["spec"]["strategy"]), result["spec"]["task"]
        setting = (result["strategy"], fields["learning_rate"], fields["warmup"])
        by_set = scores.setdefault(setting, {})
        by_set.setdefault(task["name"], []).append(result["scores"]["validation"][task["metric"]])
    return {
        setting: (
            statistics.mean(map(statistics.mean, by_set.values())),
            math.sqrt(sum(statistics.variance(found) / len(found) for found in by_set.values())) / len(by_set),
        )
        for setting, by_set in sorted(scores.items())
    }


def chosen(results: list[dict[str, Any]]) -> dict[str, tuple[float, float]]:
    """Strategy to its default rate and warm-up, as said above."""
    by_strategy: dict[str, dict[tuple[float, float], tuple[float, float]]] = {}
    for (name, rate, warmup), judged in means(results).items():
        by_strategy.setdefault(name, {})[rate, warmup] = judged
    defaults = {}
    for name, scores in by_strategy.items():
        best, error = max(scores.values())
        lowest = min(rate for (rate, _), (mean, _) in scores.items() if mean >= best - error)
        defaults[name] = max((key for key in scores if key[0] == lowest), key=scores.__getitem__)
    return defaults


if __name__ == "__main__":
    main()
