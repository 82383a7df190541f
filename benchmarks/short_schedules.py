"""Rate and warm-up where steps are few: the two strategies of high rates on small data sets, judged on validation.

    python benchmarks/short_schedules.py --data ../shared/data --jobs 2

Made for two CPU cores with AVX512-BF16 or AMX; half an hour. Reads NusaX (Javanese, 500 rows, 64 steps) and STS-B
(1,000 rows, 96 steps), folders `nusax_jav` and `stsb` below --data, as the recipes `low_resource_sentiment` and
`similarity` do. What `learning_rates.py` found on Banking77 and AG News fails here in some seeds, where a warm-up over
a tenth of the steps is seven or ten of them. Writes result files, `table.md` and `table.csv` to
results/short_schedules, and prints the mean validation score of each setting over sets and seeds.
"""

import argparse
from pathlib import Path
from typing import Any

import adapt
from adapt.comparison.store import Store
from adapt.strategies import make, recorded

RATES = {"bottleneck": (2e-3, 4e-3), "prefix": (1e-2, 2e-2, 3e-2)}
WARMUPS = (0.0, 0.3)
"""Shares of the steps; the budget's own tenth is the least."""
SETS: dict[str, dict[str, Any]] = {
    "nusax_jav": {"epochs": 4, "metric": "macro_f1"},
    "stsb": {"epochs": 3, "max_train": 1000},
}
"""Folder to budget and options of the task."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help=f"folder with the folders {' and '.join(SETS)}")
    parser.add_argument("--out", default="results/short_schedules", help="folder of results")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds (default: %(default)s)")
    parser.add_argument("--jobs", type=int, help="runs done at the same time")
    options = parser.parse_args()
    strategies = [
        make(name, {"learning_rate": rate, "warmup": warmup})
        for name, rates in RATES.items()
        for rate in rates
        for warmup in WARMUPS
    ]
    for name, choices in SETS.items():
        data = adapt.data.load(Path(options.data) / name, name=name)
        adapt.compare(
            "minilm", data, strategies, seeds=options.seeds, dropout=0.0, out=options.out, jobs=options.jobs, **choices
        )
    print(Store(options.out).write_table())
    for (name, rate, warmup), score in means(Store(options.out).all()).items():
        print(f"{name}: learning rate {rate:g}, warm-up {warmup:g}: {100 * score:.1f}")


def means(results: list[dict[str, Any]]) -> dict[tuple[str, float, float], float]:
    """Strategy, rate and warm-up to the mean over sets of the mean over seeds of the best validation score."""
    scores: dict[tuple[str, float, float], dict[str, list[float]]] = {}
    for result in results:
        fields, task = recorded(result["spec"]["strategy"]), result["spec"]["task"]
        setting = (result["strategy"], fields["learning_rate"], fields["warmup"])
        by_set = scores.setdefault(setting, {})
        by_set.setdefault(task["name"], []).append(result["scores"]["validation"][task["metric"]])
    return {
        setting: sum(sum(found) / len(found) for found in by_set.values()) / len(by_set)
        for setting, by_set in sorted(scores.items())
    }


if __name__ == "__main__":
    main()
