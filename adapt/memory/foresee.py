"""A word before training where the plan does not fit the device."""

from __future__ import annotations

from adapt.backbones.source import Backbone
from adapt.machine import free_memory
from adapt.memory.budget import allowance, shown, verdict
from adapt.spec import AdaptError, Run

_SMALL = 0.2
"""No plan is needed where a backbone's weights, four times over and once more for every 64 tokens of a batch, are below
this share of the memory: no backbone was found to take twice as much."""


def foresee(spec: Run, backbone: Backbone, length: int) -> str | None:
    """What to say before training, where it will hardly fit: a plan costs seconds, so that small ones are not made.

    Args:
        spec: The run.
        backbone: Its backbone.
        length: Tokens of the longest training row.
    """
    budget, task = spec.budget, spec.task
    room = free_memory(budget.device)
    weights = sum(file.stat().st_size for file in backbone.path.glob("*.safetensors"))
    likely = weights * (4 + budget.batch_size * length / 64)
    if spec.strategy.learning_rate is None or likely < _SMALL * room:
        return None
    from adapt.memory.planner import Planner
    from adapt.memory.shapes import shape_at
    from adapt.memory.trace import Setting

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
