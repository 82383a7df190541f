"""The default learning rates: strategies at several rates, each twice the one before, judged on validation.

    python benchmarks/learning_rates.py --data ../shared/data --jobs 2

Made for two CPU cores with AVX512-BF16 or AMX; an hour.
Reads Banking77 (77 classes, 4,000 rows) and AG News (4 classes, 1,000 rows), folders `banking77` and `ag_news` below
--data; their test splits are not used. A default is the lowest rate whose mean score over the two is within one
standard error of the best one's (the one-standard-error rule, Breiman et al. 1984, section 3.4.3): a rate that looks
best by less than chance should not be handed on to other data. QLoRA takes LoRA's; prefixes and bottleneck adapters,
here without the warm-up of their own, those of `short_schedules.py`. Writes result files, `table.md` and `table.csv` to
results/learning_rates and prints the choice.
"""

import argparse
import dataclasses
import math
from pathlib import Path
from typing import Any

import adapt
from adapt.comparison.store import Store
from adapt.spec import Strategy
from adapt.strategies import make

RATES = {
    "full": (5e-5, 1e-4, 2e-4, 4e-4),
    "head": (5e-3, 1e-2, 2e-2, 4e-2, 8e-2),
    "lora": (5e-4, 1e-3, 2e-3, 4e-3),
    "bottleneck": (5e-4, 1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2),
    "prefix": (5e-3, 1e-2, 2e-2, 4e-2),
}
"""Rates of each strategy; QLoRA takes LoRA's."""
SETS = {"banking77": 4000, "ag_news": 1000}
"""Folder to training rows: many classes and many rows, few classes and few rows."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder with the folders banking77 and ag_news")
    parser.add_argument("--out", default="results/learning_rates", help="folder of results")
    parser.add_argument("--strategies", default=",".join(RATES), help="names with commas between them")
    parser.add_argument("--jobs", type=int, help="runs done at the same time")
    options = parser.parse_args()
    strategies = [at(name, rate) for name in options.strategies.split(",") for rate in RATES[name]]
    for name, rows in SETS.items():
        data = adapt.data.load(Path(options.data) / name, name=name)
        data = dataclasses.replace(data, splits={s: part for s, part in data.splits.items() if s != "test"})
        adapt.compare(
            "minilm", data, strategies, seeds=1, epochs=3, dropout=0.0, max_train=rows, max_length=64, out=options.out,
            jobs=options.jobs,
        )  # fmt: skip
    print(Store(options.out).write_table())
    for name, rate in chosen(Store(options.out).all()).items():
        print(f"{name}: {rate:g}")


def at(name: str, rate: float) -> Strategy:
    """The strategy at a rate, with the warm-up of the budget."""
    own = {"warmup": 0.0} if hasattr(make(name), "warmup") else {}
    return make(name, {"learning_rate": rate, **own})


def chosen(results: list[dict[str, Any]]) -> dict[str, float]:
    """Strategy to the lowest rate whose mean accuracy over the sets is within one standard error of the best one's."""
    scores: dict[str, dict[float, dict[str, float]]] = {}
    rows = {}
    for result in results:
        task, rate = result["spec"]["task"], result["settings"]["learning_rate"]
        rows[task["name"]] = task["rows"]["validation"]
        by_set = scores.setdefault(result["strategy"], {}).setdefault(rate, {})
        by_set[task["name"]] = result["scores"]["validation"]["accuracy"]
    found = {}
    for name, by_rate in scores.items():
        means = {rate: sum(by_set.values()) / len(rows) for rate, by_set in by_rate.items() if len(by_set) == len(rows)}
        if not means:
            continue  # not yet run on every set
        best = max(means, key=means.__getitem__)
        error = math.sqrt(sum(p * (1 - p) / rows[s] for s, p in by_rate[best].items())) / len(rows)
        found[name] = min(rate for rate, mean in means.items() if mean >= means[best] - error)
    return found


if __name__ == "__main__":
    main()
