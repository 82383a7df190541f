"""How cost grows: with training rows, with seeds; and what of a comparison is neither training nor scoring.

    python benchmarks/scaling.py --data ../shared/data/banking77

Trains the shipped tiny encoder one epoch on 1, 2, 4 and 8 thousand rows of Banking77 (seconds of the training steps), a
comparison of LoRA on 500 rows with 1, 2, 4 and 8 seeds (seconds of the whole command), and the default comparison
(`adapt compare`), whose runs say how long they trained and scored. Times are written as multiples of the first, with
the line through them, its share of explained variance (R squared) and the exponent of growth, the slope in logarithms:
1 is linear. Ten minutes on two cores, which nothing else should use.
"""

import argparse
import dataclasses
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import adapt
from adapt.files import write_atomically
from adapt.strategies import STRATEGIES
from adapt.tables.cells import line

ROWS = (1000, 2000, 4000, 8000)
SEEDS = (1, 2, 4, 8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="the folder banking77")
    parser.add_argument("--out", default="results/benchmarks", help="folder of scaling.json and scaling.md")
    parser.add_argument("--repeats", type=int, default=3, help="of each number of rows; the fastest counts")
    options = parser.parse_args()
    data = adapt.data.load(options.data, name="banking77")
    few = {"train": data.splits["train"], "validation": data.splits["validation"].select(range(64))}
    data = dataclasses.replace(data, splits=few)  # scoring is not what is measured
    rows: list[dict[str, Any]] = []
    for strategy in STRATEGIES:
        seconds = [min(trained(data, strategy, n) for _ in range(options.repeats)) for n in ROWS]
        rows.append({"what": f"training rows, {strategy}", **growth(ROWS, seconds)})
        print(rows[-1], flush=True)
    rows.append({"what": "seeds of a comparison, lora", **growth(SEEDS, [compared(data, n) for n in SEEDS])})
    content = {
        "growth": rows,
        "default_comparison": overhead(),
        "cores": os.cpu_count(),
        "torch": version("torch"),
    }
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / "scaling.json", json.dumps(content, indent=1) + "\n")
    write_atomically(out / "scaling.md", page(content))


def trained(data: Any, strategy: str, rows: int) -> float:
    """Seconds of the training steps of one epoch."""
    result = adapt.fit("tiny-encoder", data, strategy, epochs=1, max_train=rows, max_length=64, device="cpu").result
    assert result is not None
    assert result.train_seconds is not None
    return result.train_seconds


def compared(data: Any, seeds: int) -> float:
    """Seconds of a whole comparison, one run at a time."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        adapt.compare(
            "tiny-encoder", data, "lora", seeds=seeds, out=folder, jobs=1, epochs=1, max_train=500, max_length=64,
            device="cpu",
        )  # fmt: skip
        return time.perf_counter() - started


def growth(sizes: Sequence[int], seconds: Sequence[float]) -> dict[str, Any]:
    """The least-squares line through the times, and the slope of their logarithms."""
    slope, start = statistics.linear_regression(sizes, seconds)
    exponent, _ = statistics.linear_regression([math.log(x) for x in sizes], [math.log(y) for y in seconds])
    return {
        "sizes": list(sizes),
        "times_of_the_first": [round(y / seconds[0], 3) for y in seconds],
        "start_of_the_first": round(start / seconds[0], 3),
        "slope_of_the_first": round(slope * sizes[0] / seconds[0], 3),
        "r_squared": round(statistics.correlation(sizes, seconds) ** 2, 5),
        "exponent": round(exponent, 3),
    }


def overhead() -> dict[str, Any]:
    """Shares of the time of `adapt compare`, from the start of the command to its end, of all cores."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            shutil.which("adapt") or str(Path(sys.executable).parent / "adapt"),
            "compare",
            "--device",
            "cpu",
            "--out",
            folder,
        ]
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        wall = time.perf_counter() - started
        runs = [json.loads(file.read_text()) for file in Path(folder, "runs").glob("*.json")]
    cores = len(os.sched_getaffinity(0))
    train = sum(run["time"]["train_seconds"] for run in runs) / (wall * cores)
    evaluate = sum(run["time"]["evaluate_seconds"] for run in runs) / (wall * cores)
    return {
        "runs": len(runs),
        "training": round(train, 3),
        "scoring": round(evaluate, 3),
        "neither": round(1 - train - evaluate, 3),
    }


def page(content: dict[str, Any]) -> str:
    """The numbers as Markdown."""
    lines = [
        "# How cost grows",
        "",
        "Written by `python benchmarks/scaling.py` from `scaling.json`; the script says how it is measured.",
        "",
        "| what grows | sizes | time, the first being 1 | R² of a line | exponent |",
        "| --- | --- | --- | ---: | ---: |",
    ]
    for row in content["growth"]:
        sizes = ", ".join(map(str, row["sizes"]))
        times = ", ".join(f"{value:.2f}" for value in row["times_of_the_first"])
        lines.append(line([row["what"], sizes, times, f"{row['r_squared']:.4f}", f"{row['exponent']:.2f}"]))
    whole = content["default_comparison"]
    lines += [
        "",
        f"`adapt compare` ({whole['runs']} runs, {content['cores']} cores): {whole['training']:.1%} of the time in "
        f"training,",
        f"{whole['scoring']:.1%} scoring, {whole['neither']:.1%} neither (starting, loading, tokenising, waiting).",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
