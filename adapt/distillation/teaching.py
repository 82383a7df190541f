"""What makes runs those of students: their teacher, the rows that it labels, and what it says of those of training."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapt.adapted import Adapted, load_model
from adapt.backbones import Backbone
from adapt.data import Data
from adapt.data.learnt import Learnt, beyond_sample, held_out
from adapt.data.table import column_of
from adapt.distillation.checks import check_knows_none, check_reads_alike, check_same_task, check_softens
from adapt.distillation.kept import load_rows, save_rows
from adapt.distillation.language import Tokens
from adapt.distillation.said import Ask, copy_of_kind, digest_of, hash_of, said_of, shown
from adapt.distillation.soft import SOFT, Soft
from adapt.distillation.unlabelled import WITHOUT_LABELS, Labelled, labelled_by
from adapt.files import path_of
from adapt.inputs import Encoded, drawn, draws_of, encode, encode_splits
from adapt.spec import AdaptError, OptionError, Run, Source, Teacher
from adapt.strategies import is_known
from adapt.tasks import KINDS, Example, Kind, Lesson
from adapt.tasks.sequence_classification import other_scale
from adapt.tasks.tokens import check_embedded, of_split, rows_needed

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Teaching:
    """A teacher that can teach the students of a task, and how it does."""

    teacher: Adapted
    described: Teacher
    """As the runs of its students have it."""
    data: Data
    """The labelled rows, with the teacher's classes where it knows all of theirs and others."""
    extra: Labelled | None
    """Further training rows, which it labelled."""
    folder: Path | None
    """Where it is saved, if it was given so."""
    notes: Sequence[str]
    """What must be said of it with the results of its students."""

    @property
    def runs_beside(self) -> bool:
        """Whether it runs beside each student, as that of a language model does."""
        return self.described.weight > 0 and self.teacher.run.task.kind not in SOFT

    def student(self, run: Run) -> Run:
        """The run on `data` with this teacher, from one without."""
        source = Source(self.data.name, self.data.sha256)
        return replace(run, task=replace(run.task, data=source, labels=self.data.labels), teacher=self.described)

    def learnt(self, run: Run) -> Learnt | None:
        """The rows that a student learns from, and its teacher has learnt from; None: these are not known."""
        if self.teacher.learnt is None:
            return None
        found = Learnt.of(drawn(run, self.data)["train"], self.data.kind) | self.teacher.learnt
        return found if self.extra is None else found | Learnt.of(self.extra.rows, self.data.kind)

    def lessons(
        self,
        runs: Iterable[Run],
        backbone: Backbone,
        away: Path | None = None,
        ask: Ask = said_of,
    ) -> Lessons:
        """Ask the teacher about the training rows of runs, once about the same ones.

        Args:
            runs: Of one task, budget and backbone, but for seeds, strategies and samples.
            backbone: The students'.
            away: A folder for the teacher of language models, where it is not saved yet and the students are trained in
                processes of their own; None: in this one.
            ask: How it is asked.

        Raises:
            OptionError: Those processes cannot load the teacher.
            DataError: The teacher cannot use a row.
        """
        samples = {(run.task.max_train, run.task.few_shot, draws_of(run)): run for run in runs if run.teacher}
        if not (samples and self.described.weight):
            return Lessons({}, self.extra, None, self.notes, self.teacher.learnt)
        if self.runs_beside:
            place = self.teacher if away is None else self._saved(away)
            return Lessons({}, self.extra, place, self.notes, self.teacher.learnt)
        task = next(iter(samples.values())).task
        lesson = _soft(self.described, KINDS[task.kind](task, backbone.tokenizer))
        answers: dict[str, Answers] = {}
        parts = [(drawn(run, self.data)["train"], of_split("train")) for run in samples.values()]
        parts += [(self.extra.rows, WITHOUT_LABELS)] if self.extra else []
        for rows, which in parts:
            key = hash_of(shown(rows))
            if key not in answers:
                said = ask(self.teacher, rows)
                answers[key] = Answers(lesson.rows(said), said.notes(which))
        return Lessons(answers, self.extra, None, self.notes, self.teacher.learnt)

    def _saved(self, folder: Path) -> Path:
        if not is_known(self.teacher.run.strategy):
            raise OptionError(
                f"The teacher was trained with '{self.teacher.run.strategy.name}', a strategy of your own, and the "
                "processes of a comparison, in which a language model's teacher runs beside its students, know no "
                "other; train each student with adapt.distill."
            )
        return self.folder or self.teacher.save(folder)


def teaching_of(
    teacher: Adapted | str | Path,
    run: Run,
    data: Data,
    backbone: Backbone,
    *,
    temperature: float,
    weight: float,
    unlabelled: Any = None,
    columns: Mapping[str, str] | None = None,
    ask: Ask = said_of,
) -> Teaching:
    """A teacher, checked, with the rows that it labels.

    Args:
        teacher: Trained, or the folder of a saved model.
        run: Of one of the students, as without a teacher.
        data: The labelled rows.
        backbone: The student's.
        temperature: As `how_of` gives it.
        weight: The same.
        unlabelled: Rows without labels, in any form that can be predicted.
        columns: What a column of these is for to its name.
        ask: How it is asked.

    Raises:
        OptionError: The teacher is none or is for another task, or a temperature has nothing to soften.
        Unsupported: A language model's teacher has another vocabulary.
        AdaptError: There is no such teacher, or it cannot use a row.
    """
    if not isinstance(teacher, Adapted | str | Path):
        raise OptionError(f"The teacher is of type {type(teacher).__name__}; give a trained model, or its folder.")
    check_softens(temperature, weight, run)
    folder = None
    if not isinstance(teacher, Adapted):
        folder = path_of(teacher).resolve()
        teacher = load_model(teacher, device=run.budget.device)
    check_same_task(teacher, run)
    check_knows_none(teacher, data)
    if weight and run.task.kind not in SOFT:
        check_reads_alike(teacher, run, data, backbone.tokenizer)
    classes = teacher.run.task.labels
    if set(classes) > set(data.labels):  # it may have to label further rows with any of its own
        data = data.under(classes, "the teacher")
    extra = None if unlabelled is None else labelled_by(teacher, unlabelled, data, columns, ask)
    rows, sha256 = (0, None) if extra is None else (len(extra.rows), hash_of(extra.rows))
    name = f"{teacher.run.backbone.name} {teacher.run.strategy.name}"
    described = Teacher(name, digest_of(teacher), temperature, weight, rows, sha256)
    told = held_out("the teacher", teacher.run.task, teacher.learnt, data, "its students")
    if run.task.problem == "regression":
        kind = copy_of_kind(teacher)
        its = kind.state()
        labels = column_of(data.splits["train"], "label")
        kind.fit([{"label": label} for label in labels])
        other = other_scale("the teacher", its, kind.state(), len(labels))
        both = "the teacher's" if weight == 1 else "both"
        told += [] if other is None else [f"{other}: its students learn {both}"]
    return Teaching(teacher, described, data, extra, folder, told)


@dataclass(frozen=True)
class Answers:
    """What a teacher said of rows."""

    rows: Sequence[np.ndarray]
    """One each, as a student's lesson takes it."""
    notes: Sequence[str]
    """What of them the teacher did not read."""


@dataclass(frozen=True)
class Lessons:
    """What students take from their teacher: its answers to their rows, or itself, to run beside them."""

    answers: Mapping[str, Answers]
    """By hash of the rows."""
    extra: Labelled | None
    """Further training rows, which the teacher labelled."""
    teacher: Adapted | Path | None
    """One that runs beside its students, or its folder; None: it need not be asked any more."""
    notes: Sequence[str]
    """What must be said of the teacher."""
    learnt: Learnt | None = None
    """The rows that it was trained on; None: it does not tell."""

    def save(self, folder: Path) -> None:
        """Write them to a folder that does not exist yet, for other processes; `teacher` is none that was loaded."""
        assert not isinstance(self.teacher, Adapted)
        folder.mkdir()
        for key, answers in self.answers.items():
            save_rows(folder / f"{key}.safetensors", answers.rows)
        if self.extra is not None:
            self.extra.rows.save_to_disk(folder / "extra")
        content = {
            "answers": {key: list(answers.notes) for key, answers in self.answers.items()},
            "extra": None if self.extra is None else list(self.extra.notes),
            "teacher": None if self.teacher is None else str(self.teacher),
            "notes": list(self.notes),
            "learnt": None if self.learnt is None else self.learnt.content(),
        }
        (folder / "lessons.json").write_text(json.dumps(content), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Lessons:
        """What `save` wrote."""
        from datasets import Dataset

        content = json.loads((folder / "lessons.json").read_text(encoding="utf-8"))
        told = content["answers"].items()
        answers = {key: Answers(load_rows(folder / f"{key}.safetensors"), notes) for key, notes in told}
        extra = None
        if content["extra"] is not None:
            extra = Labelled(Dataset.load_from_disk(str(folder / "extra")), tuple(content["extra"]))
        teacher = None if content["teacher"] is None else Path(content["teacher"])
        learnt = None if content["learnt"] is None else Learnt.from_content(content["learnt"])
        return cls(answers, extra, teacher, content["notes"], learnt)

    def encode(self, run: Run, data: Data, backbone: Backbone) -> Encoded:
        """As `adapt.inputs.encode`; a run that has a teacher gets the rows that it labelled, and its lesson.

        Raises:
            AdaptError: Bad input.
        """
        import datasets

        if run.teacher is None:
            return encode(run, data, backbone)
        rows = drawn(run, data)
        parts = [rows["train"], *([self.extra.rows] if self.extra else [])]
        rows["train"] = datasets.concatenate_datasets(parts)
        kind = KINDS[run.task.kind](run.task, backbone.tokenizer)
        splits = encode_splits(kind, rows)
        kind.notes += self.notes
        kind.notes += beyond_sample("the teacher", self.learnt, parts[0], data.splits["train"], data.kind)
        lesson: Callable[[], Lesson] | None = None
        if self.teacher is not None:
            lesson = partial(_tokens, run, kind, splits["train"], self.teacher)
        elif run.teacher.weight:
            answers = [self.answers[hash_of(shown(part))] for part in parts]
            kind.notes += answers[0].notes  # those of further rows were taken when these were labelled
            lesson = _taught(run.teacher, kind, splits["train"], [row for each in answers for row in each.rows])
        labelled = None
        if self.extra is not None:
            labelled = [row for i, row in enumerate(splits["train"]) if row.get("row", i) < len(parts[0])]
            kind.notes += [
                f"{len(self.extra.rows):,} training rows have no labels but what {run.teacher.name} predicts",
                *self.extra.notes,
            ]
        return Encoded(kind, splits, len(rows["train"]) - kind.left_out, lesson, labelled)


def _soft(teacher: Teacher, kind: Kind) -> Soft:
    """The lesson of a kind for which a teacher is asked once a row; nothing is taught yet."""
    return SOFT[kind.task.kind](kind, teacher.temperature, teacher.weight)


def _taught(
    teacher: Teacher, kind: Kind, examples: Sequence[Example], rows: Sequence[np.ndarray]
) -> Callable[[], Soft]:
    """What gives the lesson of such a kind, for which each example has been given its part of what was said of rows."""
    lesson = _soft(teacher, kind)
    lesson.teach(examples, rows)
    return lambda: lesson


def _tokens(run: Run, kind: Kind, examples: Sequence[Example], teacher: Adapted | Path) -> Tokens:
    """The lesson of a language model, whose teacher runs beside it.

    Raises:
        AdaptError: The teacher cannot be loaded, is another one by now, or has no embedding for a token of a row.
    """
    assert run.teacher is not None
    if not isinstance(teacher, Adapted):
        folder, teacher = teacher, load_model(teacher, device=run.budget.device)
        if digest_of(teacher) != run.teacher.sha256:
            raise AdaptError(
                f"The teacher in {folder} is no longer the one that this comparison began with; leave the folder as it "
                "is until all students are trained. The same command begins anew, with the one that is there now."
            )
    model = teacher.fitted.model.eval()
    check_embedded(model, kind.tokenizer, examples, "train", who="the teacher")
    kind.heed(model)
    held = sum(p.nbytes for p in model.parameters())
    kind.notes.append(
        f"{run.teacher.name} ran beside the student; its weights, {held / 2**20:.1f} MiB, are part of the memory shown"
    )
    return Tokens(
        kind, copy_of_kind(teacher), model, teacher.run.budget.precision, rows_needed(teacher.fitted.tokenizer),
        run.teacher.temperature, run.teacher.weight,
    )  # fmt: skip
