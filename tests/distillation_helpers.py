"""What the tests of distillation share: a cell of each task, and everything of a student but its training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tiny_tasks import TASKS

import adapt
from adapt.adapted import Adapted, assemble
from adapt.backbones import Backbone
from adapt.data import Data
from adapt.distillation import Teaching, teaching_of
from adapt.inputs import Encoded
from adapt.spec import Run
from adapt.tasks import Lesson

QUICK: dict[str, Any] = {"device": "cpu", "precision": "fp32", "dropout": 0.0}
SHORT: dict[str, Any] = {**QUICK, "max_steps": 3, "epochs": 1}
CELLS = {
    "single_label": "bert", "pairs": "bert", "multi_label": "roberta", "regression": "bert", "spans": "bert",
    "tags": "roberta", "answers": "distilbert", "text": "t5", "completion": "gpt2", "messages": "llama",
    "masked": "bert",
}  # fmt: skip
"""Every task, each with an architecture."""
OPTIONS: dict[str, dict[str, Any]] = {
    "text": {"max_target_length": 12},
    "completion": {"max_new_tokens": 4},
    "messages": {"max_new_tokens": 4},
}
LONGER = {task: {"epochs": 30, "max_steps": None} for task in OPTIONS}
"""Until they come to an end of what they write."""


def teacher_of(task: str, backbone: Callable[..., Path]) -> Adapted:
    """A teacher, briefly trained."""
    choices = {**SHORT, "max_length": 48, **OPTIONS.get(task, {}), **LONGER.get(task, {})}
    return adapt.fit(backbone(CELLS[task]), TASKS[task](), adapt.Full(learning_rate=5e-3), **choices)


def begun(
    teacher: Adapted | Path, backbone: str | Path, data: Data, *, weight: float = 0.5, temperature: float = 2.0,
    unlabelled: Any = None, **choices: Any,
) -> tuple[Run, Backbone, Teaching]:  # fmt: skip
    """A student's run up to its rows: what it is, its backbone, and its teacher."""
    run, rows, source = assemble(backbone, data, adapt.Full(), **{**SHORT, **choices})
    teaching = teaching_of(teacher, run, rows, source, temperature=temperature, weight=weight, unlabelled=unlabelled)
    return teaching.student(run), source, teaching


def lesson_of(teacher: Adapted, backbone: Path, data: Data, **how: Any) -> tuple[Run, Encoded, Lesson]:
    """Everything of a student but its training: its run, the kind with encoded splits, the lesson."""
    choices = {"max_length": 48, **OPTIONS.get(data.name, {})}
    run, source, teaching = begun(teacher, backbone, data, **{"weight": 1.0, **how}, **choices)
    encoded = teaching.lessons([run], source).encode(run, teaching.data, source)
    encoded.kind.fit(encoded.splits["train"])
    assert encoded.lesson is not None
    return run, encoded, encoded.lesson()
