"""What the tests of distillation share: a cell of each task, and everything of a student but its training."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tiny_tasks import TASKS

import adapt
from adapt.adapted import Adapted, assemble
from adapt.data import Data
from adapt.distillation.fit import taught
from adapt.spec import Teacher

QUICK: dict[str, Any] = {"device": "cpu", "precision": "fp32", "dropout": 0.0}
SHORT: dict[str, Any] = {**QUICK, "max_steps": 3, "epochs": 1}
CELLS = {
    "single_label": "bert", "pairs": "bert", "multi_label": "roberta", "regression": "bert", "spans": "bert",
    "tags": "roberta", "answers": "distilbert", "text": "t5", "completion": "gpt2", "messages": "llama",
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


def lesson_of(teacher: Adapted, backbone: Path, data: Data, *, weight: float = 1.0, temperature: float = 2.0) -> Any:
    """Everything of a student but its training: its run, the kind with the lesson, encoded splits."""
    choices = {**SHORT, "max_length": 48, **OPTIONS.get(data.name, {})}
    spec, rows, source = assemble(backbone, data, adapt.Full(), **choices)
    spec = dataclasses.replace(spec, teacher=Teacher("t", "0" * 64, temperature, weight))
    return spec, taught(spec, rows, source, teacher)
