"""Plans against what a GPU's allocator had: random weights of well-known shapes, every strategy.

    python benchmarks/memory.py --out results/benchmarks

Needs a CUDA GPU; with 80 GiB all cases run, with less those that are planned not to fit are left out. Each case runs in
a process of its own and is written as it ends; a case that is there is not run again. Without a GPU the script writes
the plans alone (`--plans`): what an 8B model needs and the longest text that fits 8, 12 and 24 GiB.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from adapt.files import write_atomically

CASES: tuple[tuple[str, str, tuple[int, int], dict[str, Any]], ...] = (
    ("shape:bert-large", "sequence_classification", (32, 128), {}),
    ("shape:llama-1b", "causal_lm", (4, 1024), {"checkpointing": True}),
    ("shape:llama-8b", "causal_lm", (1, 2048), {"checkpointing": True, "loss_chunk": 512}),
)
STRATEGIES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("full", {}), ("head", {}), ("lora", {}), ("bottleneck", {}), ("prefix", {}), ("qlora", {}), ("qlora", {"bits": 4}),
)  # fmt: skip
SAVED: dict[str, Any] = {"checkpointing": True, "loss_chunk": 512, "optimizer": "paged_adamw_8bit"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="results/benchmarks", help="folder of memory.json and memory_plans.json")
    parser.add_argument("--plans", action="store_true", help="only plan, without a GPU")
    parser.add_argument("--case", help="used by the script itself: one case, as JSON")
    options = parser.parse_args()
    if options.case:
        print(json.dumps(measured(**json.loads(options.case))))
        return
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    if options.plans:
        plans = out / "memory_plans.json"
        rows = json.loads(plans.read_text()) if plans.exists() else longest()
        write_atomically(plans, json.dumps(rows, indent=1) + "\n")
        write_atomically(out / "memory_plans.md", page(rows))
        return
    file = out / "memory.json"
    found: list[dict[str, Any]] = json.loads(file.read_text()) if file.exists() else []
    for shape, kind, batch, choices in CASES:
        for strategy, fields in STRATEGIES:
            case = {"shape": shape, "kind": kind, "batch": batch, "choices": choices, "strategy": strategy,
                    "fields": fields}  # fmt: skip
            if any(all(row[name] == json.loads(json.dumps(value)) for name, value in case.items()) for row in found):
                continue
            command = [sys.executable, __file__, "--case", json.dumps(case)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                print(f"{shape} {strategy}: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
                continue
            found.append(case | json.loads(done.stdout.splitlines()[-1]))
            write_atomically(file, json.dumps(found, indent=1) + "\n")
            print(
                shape, strategy, fields, f"{found[-1]['difference']:+.2%}" if "difference" in found[-1] else "left out"
            )


def measured(
    shape: str, kind: str, batch: tuple[int, int], choices: dict[str, Any], strategy: str, fields: dict[str, Any]
) -> dict[str, Any]:
    """Plan and measurement of one case on this GPU."""
    import dataclasses

    import torch
    from _random_weights import random_weights

    from adapt.memory.planner import Planner, setting_of
    from adapt.memory.step import made_up, measure
    from adapt.strategies import make

    rows, length = batch
    setting = setting_of(shape, make(strategy, fields), kind=kind, device="cuda", **choices)
    planned = Planner(setting).memory(rows, length)
    free, total = torch.cuda.mem_get_info()
    gpu = {"gpu": torch.cuda.get_device_name(), "total": total, "planned": planned.as_dict()}
    if planned.peak > 0.92 * free:
        return gpu | {"left_out": "planned not to fit"}
    task = dataclasses.replace(setting.task, max_length=length)
    found = measure(made_up(random_weights(task, setting), setting.strategy, rows, length))
    assert found.allocated is not None
    return gpu | {"measured": found.as_dict(), "difference": planned.peak / found.allocated - 1}


def longest() -> list[dict[str, Any]]:
    """The longest texts, a row at a time, of the 8B shape in three sizes of GPU, with every saver on."""
    from adapt.memory.budget import parse_bytes
    from adapt.memory.planner import setting_of
    from adapt.memory.within import plan_within
    from adapt.strategies import make

    rows = []
    for bits in (4, 8):
        setting = setting_of("shape:llama-8b", make("qlora", {"bits": bits}), kind="causal_lm", **SAVED)
        for size in ("8GiB", "12GiB", "24GiB"):
            plan = plan_within(setting, f"qlora(bits={bits})", (1, 2048), parse_bytes(size))
            rows.append({"shape": "shape:llama-8b", "budget": size, "choices": SAVED, **plan.as_dict()})
            print(size, plan.strategy, plan.longest_text)
    return rows


UNSLOTH = {"8GiB": 2_972, "24GiB": 78_475}
"""Longest texts that unsloth publishes for an 8B model and QLoRA in GPUs of 8 and 24 GB (its documentation, 2025)."""


def page(rows: list[dict[str, Any]]) -> str:
    """The longest texts as a table."""
    from adapt.memory.budget import shown

    savers = ", ".join(f"{name} {value}" for name, value in SAVED.items())
    lines = [
        "# Longest text of an 8B model, planned",
        "",
        f"`python benchmarks/memory.py --plans`: one row of text, {savers}; context and fragmentation allowed for.",
        "The text is the longest whose required memory is within the budget. These are plans: no GPU was measured.",
        "",
        "| GPU | strategy | longest text, tokens | unsloth's published figure | required for 2,048 tokens |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    for row in rows:
        other = f"{UNSLOTH[row['budget']]:,}" if row["budget"] in UNSLOTH and "bits=4" in row["strategy"] else ""
        found = f"{row['longest_text']:,}"
        lines.append(f"| {row['budget']} | {row['strategy']} | {found} | {other} | {shown(row['required'])} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
