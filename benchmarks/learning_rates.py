"""The default learning rates: every strategy at the same number of rates, judged on validation.

    python benchmarks/learning_rates.py --data ../shared/data --jobs 2

Made for two CPU cores with AVX512-BF16 or AMX.
Reads AG News and Banking77 (folders `ag_news` and `banking77` below --data); no test split is loaded. A default is the
rate with the best mean over the two sets. Writes result files, `table.md` and `table.csv` to results/learning_rates.
"""

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Any

import adapt
from adapt.comparison.progress import Progress
from adapt.comparison.store import Store
from adapt.comparison.table import write_table
from adapt.strategies import make

RATES = {
    "full": (5e-5, 1e-4, 2e-4),
    "head": (5e-3, 1e-2, 2e-2),
    "lora": (5e-4, 1e-3, 2e-3),
    "bottleneck": (5e-4, 1e-3, 2e-3),
    "prefix": (5e-3, 1e-2, 2e-2),
}
"""Three rates a strategy; QLoRA takes LoRA's, whose updates it shares."""
BUDGETS: dict[str, dict[str, Any]] = {
    "banking77": {"max_train": 4000, "max_length": 64},
    "ag_news": {"max_train": 1500, "max_length": 64},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder with the folders ag_news and banking77")
    parser.add_argument("--out", default="results/learning_rates", help="folder of results")
    parser.add_argument("--strategies", default=",".join(RATES), help="names with commas between them")
    parser.add_argument("--jobs", type=int, help="runs done at the same time")
    options = parser.parse_args()
    strategies = [make(name, {"learning_rate": rate}) for name in options.strategies.split(",") for rate in RATES[name]]
    for name, budget in BUDGETS.items():
        data = adapt.data.load(Path(options.data) / name, name=name)
        splits = {split: rows for split, rows in data.splits.items() if split != "test"}
        data = dataclasses.replace(data, splits=splits)
        with Progress(sys.stderr) as progress:
            adapt.compare(
                "minilm", data, strategies, seeds=1, epochs=3, dropout=0.0, out=options.out, jobs=options.jobs,
                on_event=progress, **budget,
            )  # fmt: skip
    print(write_table(Store(options.out)))


if __name__ == "__main__":
    main()
