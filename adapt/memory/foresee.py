"""A word before training where the plan does not fit the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from adapt.backbones.seen import words_of
from adapt.backbones.source import Backbone
from adapt.machine import free_memory
from adapt.memory.budget import allowance, shown, verdict
from adapt.spec import AdaptError, Run
from adapt.tasks import Example, Lesson
from adapt.training.batching import batches_of_step, largest, lengths_of, targets_of

_SMALL = 0.2
"""No plan is needed where a backbone's weights, four times over and once more for every 64 tokens of a batch, are below
this share of the memory: no backbone was found to take twice as much."""


def foresee(spec: Run, backbone: Backbone, examples: Sequence[Example], lesson: Lesson | None = None) -> str | None:
    """What to say before training where it will hardly fit; None where it fits, or is so small that it surely does.

    Of a teacher that runs beside, the weights are loaded by then, and no longer free.

    Args:
        spec: The run.
        backbone: Its backbone.
        examples: Encoded training rows, the longest of which may come into one batch.
        lesson: What is learnt from them; None: their labels.
    """
    from adapt.memory.tracker import held_bytes

    budget, task = spec.budget, spec.task
    rows = largest(len(examples), budget.batch_size, budget.accumulation)
    budget = replace(budget, accumulation=batches_of_step(len(examples), budget.batch_size, budget.accumulation))
    length = max(lengths_of(examples))
    targets = max(targets_of(examples) or [0]) or None
    beside = 0 if lesson is None else held_bytes(lesson.beside)
    room = free_memory(budget.device)
    likely = 4 * backbone.weight_bytes + (backbone.weight_bytes + beside) * rows * length / 64
    if spec.strategy.learning_rate is None or likely < _SMALL * room:
        return None
    from adapt.memory.planner import Planner
    from adapt.memory.shapes import shape_at
    from adapt.memory.trace import Setting
    from adapt.memory.within import masks

    try:
        shape = shape_at(backbone.path, backbone.source.name)
        words = len(words_of(examples, shape.config, task.kind))
        setting = Setting(shape, spec.strategy, task, budget, lesson, words)
        peak = Planner(setting).memory(rows, length, targets).peak - beside
    except AdaptError:
        return None  # what is wrong is said where it is met
    required = peak + allowance(peak, budget.device, running=True)
    if len(set(lengths_of(examples))) > 1:
        required += masks(setting, rows, length)
    judged = verdict(required, room)
    if judged == "fits":
        return None
    who = f"{spec.strategy.name} and its teacher need" if beside else f"{spec.strategy.name} needs"
    how = "hardly fits" if judged == "tight" else "does not fit"
    told = f" --words {words}" if getattr(spec.strategy, "embeddings", None) == "all" else ""
    told += "" if targets is None else f" --targets {targets}"
    also = "" if targets is None else f" and targets of {targets}"
    return (
        f"{who} about {shown(required)} with {rows} rows of {length} tokens{also}, which {how} the {shown(room)} that "
        f"{budget.device} has free; see adapt plan{told} for what would"
    )
