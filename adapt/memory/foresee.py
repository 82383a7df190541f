"""A word before training where the plan does not fit the device."""

from __future__ import annotations

from pathlib import Path

from adapt.backbones.source import Backbone
from adapt.memory.budget import allowance, shown, verdict
from adapt.spec import AdaptError, Run

_SMALL = 0.05
"""Backbones whose weights, four times over, are below this share of the memory need no plan."""


def available(device: str) -> int | None:
    """Bytes that are free on the device; None where the system does not tell."""
    if device == "cuda":
        import torch

        return int(torch.cuda.mem_get_info()[0])
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    found = next((line.split()[1] for line in lines if line.startswith("MemAvailable:")), None)
    return None if found is None else int(found) * 1024


def foresee(spec: Run, backbone: Backbone, length: int) -> str | None:
    """What to say before training, where it will hardly fit: a plan costs seconds, so only large backbones have one.

    Args:
        spec: The run.
        backbone: Its backbone.
        length: Tokens of the longest training row.
    """
    budget, task = spec.budget, spec.task
    room = available(budget.device)
    weights = sum(file.stat().st_size for file in backbone.path.glob("*.safetensors"))
    if room is None or spec.strategy.learning_rate is None or 4 * weights < _SMALL * room:
        return None
    from adapt.memory.planner import Planner, Setting
    from adapt.memory.shapes import shape_at

    try:
        setting = Setting(shape_at(backbone.path, backbone.source.name), spec.strategy, task, budget)
        peak = Planner(setting).memory(budget.batch_size, length).peak
    except AdaptError:
        return None  # what is wrong is said where it is met
    required = peak + allowance(peak, budget.device, running=True)
    judged = verdict(required, room)
    if judged == "fits":
        return None
    how = "hardly fits" if judged == "tight" else "does not fit"
    return (
        f"{spec.strategy.name} needs about {shown(required)} with {budget.batch_size} rows of {length} tokens, which "
        f"{how} the {shown(room)} that {budget.device} has free; see adapt plan for what would"
    )
