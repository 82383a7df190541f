"""Plans as a table and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from adapt.backbones.classes import REDRAWN
from adapt.backbones.load import SHORT
from adapt.data.kinds import kind_named
from adapt.memory.budget import BESIDE, FIXED, GROWN, ROOM, shown
from adapt.memory.planner import planned_precision
from adapt.memory.types import CATEGORIES
from adapt.memory.within import Plan
from adapt.spec import Source, Task
from adapt.tasks import KINDS

_COLUMNS = (*CATEGORIES, "peak", "allowance", "required")

_KERNELS = {
    ("cuda", "sdpa"): "fused, no mask kept",
    ("cpu", "sdpa"): "fused, its weights kept where some are dropped",
    ("cuda", "eager"): "eager, its weights kept",
    ("cpu", "eager"): "eager, its weights kept",
}
"""What is said of each attention kernel of a device."""
_PADDING = {
    "cuda": "padding costs a mask, which the allowance has, and, with grouped heads, copies of keys and values",
    "cpu": f"beyond {SHORT} tokens padding costs a mask in each attention and, with grouped heads, copies of keys and "
    "values",
}
"""What rows of other lengths take besides."""
_MASKED = {"cuda": "; for several rows the mask of padded ones", "cpu": ""}
_TAKEN = {"cuda": "the CUDA context", "cpu": "libraries, rows and the like"}
"""What has the fixed part of the allowance."""
_HELD = {
    "cuda": "fragmentation",
    "cpu": "what a process was seen to hold besides (freed memory, scratch)",
}
"""What the share of the peak is for."""


def json_text(plans: Sequence[Plan]) -> str:
    """A list of objects; sizes in bytes."""
    return json.dumps([plan.as_dict() for plan in plans], indent=1)


def markdown(
    plans: Sequence[Plan], backbone: str | Path, batch: tuple[int, int], budget: int | None, **options: Any
) -> str:
    """A table with a line for each strategy, what would make those fit that do not, and what the plans rest on.

    Args:
        plans: Of the strategies.
        backbone: As it was given.
        batch: Rows and tokens.
        budget: Bytes of the device; None: no verdicts.
        options: Further options of `adapt.memory.plan` that were given.
    """
    within = "" if budget is None else f", within {shown(budget)}"
    lines = [
        f"### {backbone}, {batch[0]} x {batch[1]} tokens{within}", "", *_table(plans, judged=budget is not None), "",
    ]  # fmt: skip
    lines += [f"- {plan.strategy} fits with: {plan.advice}." for plan in plans if plan.advice]
    lines += [f"- {plan.strategy} has no plan: {plan.reason.rstrip('.')}." for plan in plans if plan.reason]
    lines += _basis(plans, **options)
    if budget is not None:
        lines.append(
            f"- Tight is above {100 * ROOM:g} % of the budget. Largest batch: of rows of {batch[1]} tokens; longest "
            f"text: {batch[0]} rows of it. Accumulation keeps the rows of an update with a smaller batch."
        )
    return "\n".join(lines)


def _table(plans: Sequence[Plan], *, judged: bool) -> Iterator[str]:
    columns = (*_COLUMNS, *(("verdict", "largest batch", "longest text") if judged else ()))
    yield f"| strategy | {' | '.join(columns)} |"
    yield f"| --- |{' ---: |' * len(columns)}"
    for plan in plans:
        values = plan.as_dict()
        cells = [shown(values[name]) if plan.memory is not None else "" for name in _COLUMNS]
        if judged:
            text = "" if plan.longest_text is None else f"{plan.longest_text:,}{' (all)' if plan.at_limit else ''}"
            rows = "" if plan.largest_batch is None else f"{plan.largest_batch:,}"
            cells += [plan.verdict or "", rows, text]
        yield f"| {plan.strategy} | {' | '.join(cells)} |"


def _basis(
    plans: Sequence[Plan],
    *,
    device: str = "cuda",
    precision: str = "auto",
    kind: str = "sequence_classification",
    **others: Any,
) -> Iterator[str]:
    """What is assumed, and what is allowed for, by the options of `adapt.memory.plan`."""
    said = "".join(f", {name} {value}" for name, value in others.items() if name not in ("labels", "pooling"))
    kernels = sorted({_KERNELS.get((device, plan.attention), plan.attention) for plan in plans if plan.attention})
    attention = f"; attention {' or '.join(kernels)}" if kernels else ""
    earlier = " (head and layers=last:N keep up to 1 GiB of those of earlier rows, less where memory is short)"
    kept = "" if kind_named(kind) in REDRAWN else earlier
    most = KINDS[kind_named(kind)].most_target(Task("plan", Source("plan", ""), kind=kind_named(kind)))
    if most is not None and "targets" not in others:
        said += f", targets as long as sources but of at most {most} tokens (--targets)"
    yield (
        f"- Assumed: {device}, {planned_precision(precision, device)}{said}{attention}; no outliers in 8-bit layers; "
        f"rows of equal length ({_PADDING[device]}); features of the batch alone{kept}."
    )
    yield (
        f"- Allowance: {shown(FIXED[device] + GROWN[device])} for {_TAKEN[device]} and {100 * BESIDE[device]:g} % of "
        f"the peak for {_HELD[device]}{_MASKED[device]}."
    )
