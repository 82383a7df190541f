"""Plans against what a GPU's allocator had: random weights of well-known shapes, every strategy.

    python benchmarks/memory.py --out results/benchmarks

Needs a CUDA GPU; with 80 GiB all cases run but full fine-tuning of the 8B shape, with less those that are planned not
to fit are left out, and those whose weights in bf16, of which the quantised ones are made here, would not. Each case
runs in a process of its own (several at a time where the GPU has room for their plans) and is written as it ends; a
case that is there, measured by this state of the code with this version of torch (with `--keep` by any), is not run
again. `memory.json` gets the numbers, `memory.md` the table.

What torch holds for cuBLAS (`workspace`) is no tensor's, and no plan's: it is what the allocator has between two steps
beyond the model and the optimizer's state. `difference` is the plan over what was allocated beside it, less one.

Without a GPU the script writes the plans alone (`--plans`): what an 8B model needs, and the longest text that fits 8,
12 and 24 GiB. `--table` makes `memory.md` of `memory.json`. Torch's allocator alone can be asked without one, too, as
`tests/stand_in/run.py` says:

    STAND_IN_BYTES=150000000000 STAND_IN_KERNELS=1000000 \\
        python tests/stand_in/run.py benchmarks/memory.py --name memory_allocator
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from _forked import Forked, warm
from _state import commit

from adapt.files import write_atomically
from adapt.tables.cells import line

CASES: tuple[tuple[str, str, tuple[int, int], dict[str, Any]], ...] = (
    ("shape:bert-large", "sequence_classification", (32, 128), {}),
    ("shape:llama-1b", "causal_lm", (4, 1024), {"checkpointing": True}),
    ("shape:llama-8b", "causal_lm", (1, 2048), {"checkpointing": True, "loss_chunk": 512}),
)
STRATEGIES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("full", {}), ("head", {}), ("lora", {}), ("bottleneck", {}), ("prefix", {}), ("qlora", {}), ("qlora", {"bits": 4}),
)  # fmt: skip
SAVED: dict[str, Any] = {"checkpointing": True, "loss_chunk": 512, "optimizer": "paged_adamw_8bit"}
AT_ONCE = 4
"""Most cases at the same time."""
EXTRA = (("shape:llama-8b", "causal_lm", (1, 2048), SAVED, "qlora", {"bits": 4}),)
"""What an 8B model needs at the least."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="results/benchmarks", help="folder of memory.json and memory_plans.json")
    parser.add_argument("--name", default="memory", help="of the files with measurements")
    parser.add_argument("--plans", action="store_true", help="only plan, without a GPU")
    parser.add_argument(
        "--table",
        action="store_true",
        help="run nothing; write NAME.md from NAME.json, with --plans memory_plans.md",
    )
    parser.add_argument(
        "--keep", action="store_true", help="do only what is not measured, by whatever state of the code"
    )
    options = parser.parse_args()
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    if options.plans:
        plans = out / "memory_plans.json"
        rows = json.loads(plans.read_text()) if options.table else longest()
        write_atomically(plans, json.dumps(rows, indent=1) + "\n")
        write_atomically(out / "memory_plans.md", page(rows))
        return
    file = out / f"{options.name}.json"
    found: list[dict[str, Any]] = json.loads(file.read_text()) if file.exists() else []
    failed = 0 if options.table else run_all(file, found, keep=options.keep)
    write_atomically(out / f"{options.name}.md", measured_page(found))
    if failed:
        raise SystemExit(f"{failed} cases failed; call again to do them again")


def cases() -> Iterator[dict[str, Any]]:
    """All of them."""
    names = ("shape", "kind", "batch", "choices", "strategy", "fields")
    for shape, kind, batch, choices in CASES:
        for strategy, fields in STRATEGIES:
            yield dict(zip(names, (shape, kind, list(batch), choices, strategy, fields), strict=True))
    for extra in EXTRA:
        yield json.loads(json.dumps(dict(zip(names, extra, strict=True))))


def run_all(file: Path, found: list[dict[str, Any]], *, keep: bool = False) -> int:
    """Do what is not there, as many at a time as the GPU has room for; give the number of failures."""
    warm()
    import torch

    here = {"commit": commit(), "torch": str(torch.__version__)}
    total = Forked(gpu_bytes).result()
    stands_in = _STANDS_IN in Forked(gpu_name).result()
    if any((_STANDS_IN in row["gpu"]) != stands_in for row in found):
        raise SystemExit(f"{file} is of another kind of GPU; give the files another --name.")
    found[:] = [row for row in found if "measured" in row or row["total"] >= total]  # a larger GPU may have room
    asked = {} if keep else here
    wanted = [case for case in cases() if not any((case | asked).items() <= row.items() for row in found)]
    tried = [(case, Forked(planned, case)) for case in wanted]
    todo = [(case, plan) for case, fork in tried if (plan := outcome(case, fork)) is not None]
    known = [*found, *(case | {"planned": plan} for case, plan in todo)]
    made = [made_in(case, known) for case, _ in todo]
    needed = [1.25 * max(plan["peak"], whole) + 2 * 2**30 for (_, plan), whole in zip(todo, made, strict=True)]
    running: dict[int, Forked] = {}
    failed = len(wanted) - len(todo)
    queue = list(range(len(todo)))
    while queue or running:
        free = 0.9 * total - sum(needed[i] for i in running)
        room = [i for i in queue if needed[i] <= free or not running]
        if room and len(running) < AT_ONCE:
            running[room[0]] = Forked(measured, *todo[room[0]], made[room[0]], total)
            queue.remove(room[0])
            continue
        for i in [i for i, fork in running.items() if fork.done]:
            case, _ = todo[i]
            done = outcome(case, running.pop(i))
            if done is None:
                failed += 1
                continue
            row = put(found, case, case | here | done)
            write_atomically(file, json.dumps(found, indent=1) + "\n")
            shown = f"{row['difference']:+.2%}" if "difference" in row else "left out"
            print(case["shape"], case["strategy"], case["fields"], shown, flush=True)
        time.sleep(0.05)
    return failed


def outcome(case: dict[str, Any], fork: Forked) -> dict[str, Any] | None:
    """What a fork gave; None where it failed, which is told."""
    try:
        return fork.result()
    except RuntimeError as error:
        print(f"{case['shape']} {case['strategy']} {case['fields']}: {error}", file=sys.stderr, flush=True)
        return None


def put(found: list[dict[str, Any]], case: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    """Put a row in the place of the case's earlier one, unless that was measured, on a larger GPU, and this was not."""
    before = next((other for other in found if case.items() <= other.items()), None)
    if before is not None and "measured" in before and "left_out" in row:
        row = before
    found[:] = [*(other for other in found if other is not before), row]
    return row


def gpu_name() -> str:
    """What the GPU calls itself."""
    import torch

    return torch.cuda.get_device_name()


def gpu_bytes() -> int:
    """Memory of the GPU."""
    import torch

    return int(torch.cuda.mem_get_info()[1])


def _setting(case: dict[str, Any]) -> Any:
    from adapt.memory.planner import setting_of
    from adapt.strategies import make

    strategy = make(case["strategy"], case["fields"])
    return setting_of(case["shape"], strategy, kind=case["kind"], device="cuda", precision="bf16", **case["choices"])


def planned(case: dict[str, Any]) -> dict[str, Any]:
    """The plan of a case."""
    from adapt.memory.planner import Planner

    return Planner(_setting(case)).memory(*case["batch"]).as_dict()


def made_in(case: dict[str, Any], known: list[dict[str, Any]]) -> int:
    """Bytes that the weights take before they are quantised: what LoRA's do, by its plan."""
    same = [row["planned"]["weights"] for row in known if (row["shape"], row["strategy"]) == (case["shape"], "lora")]
    return max(same, default=0)


def measured(case: dict[str, Any], plan: dict[str, Any], made: int, total: int) -> dict[str, Any]:
    """Plan and measurement of one case on this GPU."""
    import dataclasses

    import torch
    from _random_weights import random_weights

    from adapt.memory.step import made_up, measure, prepare

    setting = _setting(case)
    rows, length = case["batch"]
    gpu = {"gpu": gpu_name(), "total": total, "planned": plan}
    if plan["peak"] > 0.92 * total:
        return gpu | {"left_out": "planned not to fit"}
    if made > 0.92 * total:
        return gpu | {"left_out": "made in bf16 first, which would not fit"}
    task = dataclasses.replace(setting.task, max_length=length)
    step = made_up(random_weights(task, setting), setting.strategy, rows, length)
    prepare(step)
    torch.cuda.synchronize()
    workspace = torch.cuda.memory_allocated() - at_rest(step)
    found = measure(step)
    assert found.allocated is not None
    return gpu | {
        "measured": found.as_dict(), "workspace": workspace, "difference": plan["peak"] / found.allocated - 1,
        "difference_with_workspace": (plan["peak"] + workspace) / found.allocated - 1,
    }  # fmt: skip


def at_rest(step: Any) -> int:
    """Bytes of the model, the optimizer's state and what a memo keeps, as the allocator rounds them."""
    import torch

    from adapt.memory.step import CUDA_BLOCK
    from adapt.memory.tracker import held_tensors

    state = [value for values in step.optimizer.state.values() for value in values.values()]
    sizes = {}
    for tensor in (*held_tensors(step.model), *state):
        if isinstance(tensor, torch.Tensor) and tensor.device.type == "cuda":
            storage = tensor.untyped_storage()
            sizes[storage.data_ptr()] = -(-storage.nbytes() // CUDA_BLOCK) * CUDA_BLOCK
    return sum(sizes.values())


_STANDS_IN = "stand-in"
"""In the name of what stands in for a GPU."""
_WITHOUT_GPU = """\
- There was no GPU: torch's build for CUDA and its allocator were used over a stand-in whose kernels do nothing
  (`tests/stand_in/run.py`). [memory.md](memory.md) has what was seen on a GPU."""


def measured_page(rows: list[dict[str, Any]]) -> str:
    """Plans beside measurements as a table."""
    from adapt.memory.budget import shown

    lines = [
        "# Plans against a GPU's allocator",
        "",
        "The peak of a training step with random weights in bf16, written by `python benchmarks/memory.py`.",
        "",
        "- Planned: from the configuration alone. Counted: by the tracker of training. Allocated: torch's",
        "  `max_memory_allocated`. Reserved: its `max_memory_reserved`, with what lies between blocks, of which it",
        "  gives some back where memory is short: the allowance of a plan for it is an assumption.",
        "- Workspace: what torch holds for cuBLAS, which is part of what is allocated and of no plan.",
        "- Difference: of the plan to what was allocated; then of the plan with the workspace added.",
        *([_WITHOUT_GPU] if any(_STANDS_IN in row["gpu"] for row in rows) else []),
        "",
        "| shape | batch | strategy | planned | counted | allocated | reserved | workspace | difference "
        "| with workspace | GPU |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    order = [list(case.values()) for case in cases()]
    for row in sorted(rows, key=lambda row: order.index([row[name] for name in next(cases())])):
        name = row["strategy"] + "".join(f" {k}={v}" for k, v in row["fields"].items())
        name += " (" + ", ".join(f"{k} {v}" for k, v in row["choices"].items()) + ")" if row["choices"] else ""
        start = [row["shape"], "x".join(map(str, row["batch"])), name, shown(row["planned"]["peak"])]
        if "measured" in row:
            found = row["measured"]
            reserved = shown(found["reserved"]) if row.get("commit") else ""
            start += [shown(found["peak"]), shown(found["allocated"]), reserved, shown(row["workspace"])]
            start += [f"{row['difference']:+.2%}", f"{row['difference_with_workspace']:+.2%}"]
        else:
            start += [row["left_out"], "", "", "", "", ""]
        where = row["gpu"] + (f", {row['commit']}" if row.get("commit") else "")
        lines.append(line([*start, where]))
    if not all(row.get("commit") for row in rows):
        lines += [
            "",
            "Rows without a commit beside the GPU were measured with an earlier state of the code, which did not let",
            "go of what loading had left, so that what was reserved was not the step's alone; it is left out.",
        ]  # fmt: skip
    return "\n".join(lines) + "\n"


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
        "The text is the longest whose required memory is within the budget. These are plans; what a GPU held with",
        "2,048 tokens and 4 bits is the last row of [memory.md](memory.md).",
        "",
        "| GPU | strategy | longest text, tokens | unsloth's published figure | required for 2,048 tokens |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    for row in rows:
        other = f"{UNSLOTH[row['budget']]:,}" if row["budget"] in UNSLOTH and "bits=4" in row["strategy"] else ""
        found = f"{row['longest_text']:,}"
        lines.append(line([row["budget"], row["strategy"], found, other, shown(row["required"])]))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
