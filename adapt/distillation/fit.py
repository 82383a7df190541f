"""`adapt.distill`: fit a student that has a teacher."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapt import options
from adapt.adapted import Adapted, assemble, load_model
from adapt.backbones import Backbone
from adapt.backbones.classes import LANGUAGE_MODELS
from adapt.data import Data
from adapt.distillation.checks import check_reads_alike, check_same_task
from adapt.distillation.kind import Distilled, Lesson
from adapt.distillation.language import Tokens
from adapt.distillation.said import copy_of_kind, digest_of, hash_of, said_of
from adapt.distillation.soft import SOFT
from adapt.distillation.unlabelled import Labelled, labelled_by
from adapt.run import Encoded, OnStep, drawn, fit
from adapt.spec import OptionError, Run, Strategy, Teacher
from adapt.tasks import KINDS, Example, Kind

if TYPE_CHECKING:
    import datasets


def distill(
    teacher: Adapted | str | Path,
    backbone: str | Path,
    data: Any,
    strategy: Strategy | str = "full",
    *,
    unlabelled: Any = None,
    columns: Mapping[str, str] | None = None,
    temperature: float = Teacher.temperature,
    weight: float = Teacher.weight,
    seed: int = 0,
    on_step: OnStep | None = None,
    **choices: Any,
) -> Adapted:
    """Adapt a backbone to data and to what a teacher says of them; the public `adapt.distill`.

    The loss is (1 - weight) times that of the labels, plus weight times temperature squared times the KL divergence of
    the student's distribution from the teacher's, both softened by the temperature (Hinton et al. 2015, "Distilling the
    Knowledge in a Neural Network", section 2): over classes, over the tags of each word, over the first and last token
    of an answer, over the next token. For regression it is weight times the squared difference from the teacher's
    number. Scores are those of the true labels.

    Args:
        teacher: What `adapt.fit` or `adapt.load` gave, or the folder of a saved model. It was trained for the same kind
            of task, and the same classes, on whatever data, backbone and strategy.
        backbone: Of the student, as for `adapt.fit`.
        data: The labelled rows, as for `adapt.fit`.
        strategy: Of the student.
        unlabelled: Further rows for training without labels, in any form that can be predicted: the teacher's
            predictions stand for their labels.
        columns: What a column of these is for to its name.
        temperature: Above 0. Where it is high, what the teacher thinks of the classes that it does not choose counts
            for more.
        weight: From 0 to 1; 0 with rows without labels: the teacher's predictions alone are learnt from.
        seed: As for `adapt.fit`, and `on_step` and `choices` too.

    Raises:
        OptionError: The teacher is for another task, or an option cannot be used.
        Unsupported: A language model's teacher has another vocabulary.
        AdaptError: Bad input, as for `adapt.fit`.
    """
    student = prepare(
        teacher, backbone, data, strategy, unlabelled=unlabelled, columns=columns, temperature=temperature,
        weight=weight, seed=seed, **choices,
    )  # fmt: skip
    return student.fit(on_step)


@dataclass(frozen=True)
class Student:
    """A run with all that it needs, not yet done."""

    run: Run
    data: Data
    backbone: Backbone
    teacher: Adapted
    extra: Labelled | None
    """Training rows that the teacher labelled."""

    def fit(self, on_step: OnStep | None = None) -> Adapted:
        """Train and score; `on_step` as for `adapt.fit`.

        Raises:
            AdaptError: As for `distill`.
        """
        encoded = taught(self.run, self.data, self.backbone, self.teacher, self.extra)
        result, fitted = fit(self.run, self.data, self.backbone, on_step, encoded=encoded)
        result = dataclasses.replace(result, notes=[*result.notes, *self._notes(encoded)])
        plain = dataclasses.replace(fitted, kind=encoded.kind.kind)  # type: ignore[attr-defined]
        return Adapted(plain, self.run, self.backbone, result, columns=self.data.columns)

    def _notes(self, encoded: Encoded) -> list[str]:
        """What a reader must know of the teacher."""
        name, notes = teacher_name(self.teacher), []
        if self.extra is not None:
            notes += [
                f"{len(self.extra.rows):,} training rows have no labels but what {name} predicts",
                *self.extra.notes,
            ]
        lesson = encoded.kind.lesson  # type: ignore[attr-defined]
        if lesson is not None and self.run.task.kind in LANGUAGE_MODELS:
            held = sum(p.nbytes for p in self.teacher.fitted.model.parameters())
            notes.append(
                f"{name} ran beside the student; its weights, {held / 2**20:.1f} MiB, are part of the memory shown"
            )
        return notes


def prepare(
    teacher: Adapted | str | Path,
    backbone: str | Path,
    data: Any,
    strategy: Strategy | str = "full",
    *,
    unlabelled: Any = None,
    columns: Mapping[str, str] | None = None,
    temperature: float = Teacher.temperature,
    weight: float = Teacher.weight,
    seed: int = 0,
    **choices: Any,
) -> Student:
    """Everything that decides a student's run, checked, its rows without labels labelled; see `distill`."""
    temperature, weight = options.plain(temperature), options.plain(weight)
    if not (isinstance(temperature, int | float) and math.isfinite(temperature) and temperature > 0):
        raise OptionError(f"temperature is {temperature}; give a finite number above 0.")
    if not (isinstance(weight, int | float) and 0 <= weight <= 1):
        raise OptionError(f"weight is {weight}; give a number from 0 to 1.")
    if weight == 0 and unlabelled is None:
        raise OptionError("weight is 0, with which the teacher teaches nothing; raise it, or give unlabelled rows.")
    own = [] if isinstance(strategy, str) else [options.check_strategy(strategy)]
    options.check_rates(choices.get("learning_rate"), own)
    run, rows, source = assemble(backbone, data, strategy, seed=seed, **choices)
    if not isinstance(teacher, Adapted):
        teacher = load_model(teacher, device=run.budget.device)
    check_same_task(teacher, run)
    if weight and run.task.kind in LANGUAGE_MODELS:
        check_reads_alike(teacher, run, rows, source.tokenizer)
    extra = None if unlabelled is None else labelled_by(teacher, unlabelled, rows, columns)
    run = dataclasses.replace(run, teacher=_described(teacher, temperature, weight, extra))
    return Student(run, rows, source, teacher, extra)


def teacher_name(teacher: Adapted) -> str:
    """Its backbone and its strategy."""
    return f"{teacher.run.backbone.name} {teacher.run.strategy.name}"


def taught(run: Run, data: Data, backbone: Backbone, teacher: Adapted, extra: Labelled | None = None) -> Encoded:
    """The rows of a run, encoded, with what its teacher says of those of train, and its lesson as the loss.

    Args:
        run: The student's, of which `teacher` says how it is taught.
        data: The labelled rows.
        backbone: The student's.
        teacher: Trained.
        extra: Further training rows, which it labelled.

    Raises:
        AdaptError: Bad input.
    """
    import datasets

    rows = drawn(run, data)
    parts = [rows["train"], *([] if extra is None else [extra.rows])]
    rows["train"] = datasets.concatenate_datasets(parts)
    kind = KINDS[run.task.kind](run.task, backbone.tokenizer)
    splits = {split: kind.encode(dataset, split=split) for split, dataset in rows.items()}
    lesson = _lesson(run, kind, splits["train"], parts, teacher)
    return Encoded(Distilled(kind, lesson, len(parts[0])), splits)  # type: ignore[arg-type]


def _lesson(
    run: Run, kind: Kind, examples: list[Example], parts: list[datasets.Dataset], teacher: Adapted
) -> Lesson | None:
    """What the teacher adds to the loss; None: nothing.

    Args:
        run: The student's.
        kind: The student's.
        examples: Its training rows; what the teacher says of them is put in.
        parts: The same rows as the teacher is asked about them.
        teacher: Trained.
    """
    assert run.teacher is not None
    temperature, weight = run.teacher.temperature, run.teacher.weight
    if weight == 0:
        return None
    if run.task.kind not in SOFT:
        model, precision, tokens = teacher.fitted.model.eval(), teacher.run.budget.precision, teacher.fitted.tokenizer
        return Tokens(kind, copy_of_kind(teacher), model, precision, len(tokens), temperature, weight)
    said = [said_of(teacher, rows) for rows in parts]
    kind.notes += said[0].notes  # those of further rows were taken when these were labelled
    lesson = SOFT[run.task.kind](kind, run.task, temperature, weight)
    lesson.teach(examples, said)
    return lesson


def _described(teacher: Adapted, temperature: float, weight: float, extra: Labelled | None) -> Teacher:
    rows, sha256 = (0, None) if extra is None else (len(extra.rows), hash_of(extra.rows))
    return Teacher(teacher_name(teacher), digest_of(teacher), float(temperature), float(weight), rows, sha256)
