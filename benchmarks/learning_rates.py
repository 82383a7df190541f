"""The default learning rates: every strategy at the same number of rates, judged on validation.

    python benchmarks/learning_rates.py --data ../shared/data --jobs 2

Made for two CPU cores with AVX512-BF16 or AMX; half an hour.
Reads Banking77 (folder `banking77` below --data); its test split is not used. A default is the lowest rate whose score
is within one standard error of the best one's (the one-standard-error rule, Breiman et al. 1984, section 3.4.3): a rate
that looks best by less than chance should not be handed on to other data. QLoRA takes LoRA's. Writes result files,
`table.md` and `table.csv` to results/learning_rates and prints the choice.
"""

import argparse
import dataclasses
import math
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
BUDGET: dict[str, Any] = {"max_train": 4000, "max_length": 64}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder with the folder banking77")
    parser.add_argument("--out", default="results/learning_rates", help="folder of results")
    parser.add_argument("--strategies", default=",".join(RATES), help="names with commas between them")
    parser.add_argument("--jobs", type=int, help="runs done at the same time")
    options = parser.parse_args()
    strategies = [make(name, {"learning_rate": rate}) for name in options.strategies.split(",") for rate in RATES[name]]
    data = adapt.data.load(Path(options.data) / "banking77", name="banking77")
    data = dataclasses.replace(data, splits={s: rows for s, rows in data.splits.items() if s != "test"})
    with Progress(sys.stderr) as progress:
        adapt.compare(
            "minilm", data, strategies, seeds=1, epochs=3, dropout=0.0, out=options.out, jobs=options.jobs,
            on_event=progress, **BUDGET,
        )  # fmt: skip
    print(write_table(Store(options.out)))
    for name, rate in chosen(Store(options.out).all()).items():
        print(f"{name}: {rate:g}")


def chosen(results: list[dict[str, Any]]) -> dict[str, float]:
    """Strategy to the lowest rate within one standard error of the best validation accuracy."""
    scores: dict[str, dict[float, float]] = {}
    for result in results:
        rate = result["settings"]["learning_rate"]
        scores.setdefault(result["strategy"], {})[rate] = result["scores"]["validation"]["accuracy"]
    rows = results[0]["spec"]["task"]["rows"]["validation"]
    found = {}
    for name, by_rate in scores.items():
        best = max(by_rate.values())
        error = math.sqrt(best * (1 - best) / rows)
        found[name] = min(rate for rate, score in by_rate.items() if score >= best - error)
    return found


if __name__ == "__main__":
    main()
