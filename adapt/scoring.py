"""Trained models scored on new labelled rows, with how sure the scores are and the differences between models."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, astuple, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from adapt.adapted import Adapted, load_model
from adapt.backbones.swapped import swapped
from adapt.data import Data, as_learnt, read_labelled
from adapt.data.canonical import LabelledRows
from adapt.data.groups import GROUP, LABELS, belonging
from adapt.data.kinds import given_roles
from adapt.data.table import column_of, listing
from adapt.display import Rendered, StepBar, counted, one_line, shows_fields
from adapt.files import path_of
from adapt.metrics import LOSSES, METRICS, added_rows, check_metric
from adapt.metrics.jackknife import pseudo_values
from adapt.metrics.spans import unpredicted
from adapt.spec import DataError, OptionError, Problem, Task, texts_in_words
from adapt.stats import Interval, interval_over_rows, one_prevails
from adapt.tables.cells import apart, escape, grid, heading, interval, within
from adapt.tasks.tokens import check_embedded

if TYPE_CHECKING:
    import datasets
    import pandas

_SCHEMA = 1


@dataclass(frozen=True)
class Scored:
    """One model on the rows."""

    name: str
    """The folder's, or strategy and backbone of a model in memory; with a number where another one has it."""
    run: str
    """Key of the run that trained it."""
    strategy: str
    backbone: str
    scores: Mapping[str, float]
    """By metric."""
    outcomes: Sequence[Any] = field(repr=False)
    """What each row adds to the metrics, as `Result.test_outcomes`."""
    asked: str | None = None
    """Of texts a hash of the tokens that the loss is of (`adapt.tasks.Kind.digest`)."""
    marker: str = ""
    """Exact match compares what follows the last such text (`answer_marker`); empty: whole texts."""


@shows_fields
@dataclass(frozen=True)
class Scores(Rendered):
    """One or several models on the same rows."""

    name: str
    """Of the rows."""
    sha256: str
    """Hash of the rows and of the labels that the first model knows; of `Data` that of all its splits."""
    split: str | None
    """Which of several the rows are."""
    rows: int
    problem: Problem
    metric: str
    """By which models are compared: that of the first one's task, if all have it."""
    models: tuple[Scored, ...]
    notes: tuple[str, ...] = ()
    groups: Mapping[str, Any] = field(default_factory=dict)
    """Which rows belong together, as `Result.test_groups`."""

    @property
    def shared(self) -> list[str]:
        """The metrics that all models have."""
        return [metric for metric in self.models[0].scores if all(metric in model.scores for model in self.models)]

    def interval(self, model: int, metric: str) -> Interval:
        """A score with its 95 % interval for other rows like these, or other groups of rows; without limits where
        outcomes do not tell, or most rows are of one group."""
        scored = self.models[model]
        values = pseudo_values(self.problem, metric, scored.outcomes)
        groups, score = self.groups.get("numbers", ()), scored.scores[metric]
        return within(interval_over_rows(score, values, groups, added_rows(metric)), metric)

    def difference(self, model: int) -> Interval | None:
        """Score of a model minus that of the first, by `metric`, paired by row; None where their tokens differ."""
        ours, base = (self.models[i] for i in (model, 0))
        if (self.metric in LOSSES or self.problem == "masked") and not self._reads_alike(model):
            return None
        if self.metric == "text_exact_match" and ours.marker != base.marker:
            return None
        mean = ours.scores[self.metric] - base.scores[self.metric]
        parts = [pseudo_values(self.problem, self.metric, each.outcomes) for each in (ours, base)]
        told = parts[0] is not None and parts[1] is not None
        values = [a - b for a, b in zip(*parts, strict=True)] if told else None
        added = added_rows(self.metric, of_difference=True)
        return interval_over_rows(mean, values, self.groups.get("numbers", ()), added)

    def _reads_alike(self, model: int) -> bool:
        """Whether a model's loss on texts is over the same tokens of each row as that of the first."""
        return self.models[model].asked == self.models[0].asked

    def to_json(self) -> dict[str, Any]:
        """Plain values: the fields, and of each model the `intervals` by metric and its `difference` to the first."""
        content = {"schema": _SCHEMA, **asdict(self)}
        for i, model in enumerate(content["models"]):
            model["intervals"] = {metric: _limits(self.interval(i, metric)) for metric in model["scores"]}
            found = self.difference(i) if i else None
            model["difference"] = found and {"mean": found.mean, "interval": _limits(found)}
        return content

    def to_frame(self) -> pandas.DataFrame:
        """A row for each model and metric, with its mean and interval; for the metric by which models are compared also
        the difference to the first model."""
        import pandas

        columns = (
            "model", "strategy", "backbone", "metric", "mean", "ci_low", "ci_high", "difference", "difference_low",
            "difference_high",
        )  # fmt: skip
        rows = []
        for i, model in enumerate(self.models):
            for metric in model.scores:
                compared = self.difference(i) if i and metric == self.metric else None
                values = *astuple(self.interval(i, metric)), *(astuple(compared) if compared else (None,) * 3)
                rows.append((model.name, model.strategy, model.backbone, metric, *values))
        return pandas.DataFrame(rows, columns=columns)

    def __str__(self) -> str:
        return self.table()

    def __repr__(self) -> str:
        scores = ", ".join(f"{model.name} {model.scores[self.metric]:.4f}" for model in self.models)
        return one_line(f"<Scores: {self.metric} on {counted(self.rows, 'row')} of {self.name}: {scores}>")

    def table(self) -> str:
        """Markdown: a row for each model, and the facts below."""
        metrics = self.shared
        several = len(self.models) > 1
        head = ["model", *map(heading, metrics)]
        head += [f"{self.metric.replace('_', ' ')}: difference to {escape(self.models[0].name)}"] if several else []
        rows = []
        for i, model in enumerate(self.models):
            cells = [interval(self.interval(i, metric), metric) for metric in metrics]
            if several:
                found = self.difference(i) if i else None
                cells.append(interval(found, self.metric, signed=True) if found else "")
            rows.append([escape(model.name), *cells])
        made = ", ".join(
            f"{escape(m.name)} ({escape(f'{m.strategy} on {m.backbone}')}, run {m.run[:12]})" for m in self.models
        )
        paired = ", differences paired by row" if several else ""
        numbers = self.groups.get("numbers", ())
        of = escape(str(self.groups.get("of")))
        others = f"groups of rows by {of} than these {len(set(numbers)):,}"
        others = others if numbers else "rows like these, of which each is by itself"
        sure = f"Intervals are for other {others}{paired}; what another seed of training would change is not in them"
        if one_prevails(numbers):
            sure = f"There are no intervals, for most rows are of one {of}"
        split = f", {escape(self.split)} split" if self.split else ""
        facts = [
            f"- Data: {escape(self.name)}{split} (content {self.sha256[:12]}).",
            f"- Models: {made}.",
            f"- {sure}.",
            *(f"- Note: {escape(note)}" for note in (*self.notes, *self._not_compared())),
        ]
        return "\n".join([f"### {escape(self.name)}, {self.rows:,} rows", "", *grid(head, rows), "", *facts, ""])

    def _not_compared(self) -> list[str]:
        """Which scores some models have and others not, and which cannot be compared."""
        every = dict.fromkeys(metric for model in self.models for metric in model.scores)
        some = [metric for metric in every if metric not in self.shared]
        notes = [f"not every model writes texts to be judged, so that {', '.join(some)} are left out"] if some else []
        others = [model.name for i, model in enumerate(self.models) if not self._reads_alike(i)]
        if others and self.problem == "masked":
            notes.append(
                f"scores are of the tokens that are hidden, which are others for {', '.join(others)} than for "
                f"{self.models[0].name}; they are not compared"
            )
        elif others:
            notes.append(
                f"loss and perplexity are per token, and {', '.join(others)} read these rows as other tokens than "
                f"{self.models[0].name}; they are not compared"
            )
        markers = {model.name: model.marker for model in self.models}
        if "text_exact_match" in self.shared and len(set(markers.values())) > 1:
            of = (f"{name}: {f'what follows {mark}' if mark else 'whole texts'}" for name, mark in markers.items())
            notes.append(f"text exact match is of other parts of the texts ({', '.join(of)}); it is not compared")
        return notes


def score(
    models: Any,
    data: Any,
    *,
    split: str = "test",
    metric: str | None = None,
    text: str | None = None,
    text_pair: str | None = None,
    label: str | None = None,
    columns: Mapping[str, str] | None = None,
    repair_tags: bool = False,
    bad_answers: Literal["refuse", "drop"] = "refuse",
    config: str | None = None,
    revision: str | None = None,
    backbone: str | Path | None = None,
    device: str = "auto",
    progress: bool = False,
) -> Scores:
    """Score trained models on labelled rows that they have not seen; the public `adapt.score`.

    Args:
        models: A model, the folder of one, or a list of these: of one kind of task, with the same classes or tags. They
            are compared with the first. One that is read from a folder is held as long as it is scored.
        data: Labelled rows: `Data` with the labels that the models know, or anything that `adapt.data.load` reads; it
            needs no `train`, and what has no splits is taken whole.
        split: Which split is scored where there are several: `train`, `validation`, `test`, or what the source calls
            another.
        metric: By which models are compared, one of the task's; None: that of training. Causal language models write
            texts where it judges these, so that the scores have all such metrics.
        text: Column of the text, or of the first of two, as for `adapt.data.load`; what is not named is read from the
            column of training where the rows have it, else from one of the usual names.
        text_pair: Column of the second text of a pair.
        label: Column of the label.
        columns: What a column is for to its name, for any column.
        repair_tags: As for `adapt.data.load`.
        bad_answers: As for `adapt.data.load`.
        config: Configuration of a hub data set.
        revision: Revision of one.
        backbone: Where the models' backbone is now, if not where it was.
        device: Of models read from folders.
        progress: Whether a bar of the rows is shown for each model, on a terminal or in a notebook.

    Raises:
        DataError: A file, split, column, row or label cannot be used; a class that a model does not know among them.
        OptionError: An option cannot be used, among them a metric that is not of the task, or the models do not do the
            same task, or learnt it from other columns and `columns` does not say which is right.
        AdaptError: A model cannot be loaded.
    """
    given = list(models) if isinstance(models, list | tuple) else [models]
    if not given:
        raise OptionError("There is no model to be scored; give one.")
    for each in given:
        if not isinstance(each, Adapted | str | os.PathLike):
            raise OptionError(f"What is to be scored is of type {type(each).__name__}; give a model, or its folder.")
    columns = given_roles(columns, {"text": text, "text_pair": text_pair, "label": label})
    if isinstance(data, Data) and (columns or repair_tags or bad_answers != "refuse" or config or revision):
        raise OptionError(
            "text, text_pair, label, columns, repair_tags, bad_answers, config and revision say how data are read, and "
            "these have been; give them to adapt.data.load."
        )
    found: list[Scored] = []
    notes: list[str] = []
    first: tuple[Task, LabelledRows] | None = None
    groups: Mapping[str, Any] = {}
    for each in given:
        model = each if isinstance(each, Adapted) else load_model(each, backbone=backbone, device=device)
        task = model.run.task
        if metric is not None:
            check_metric(metric, task.problem)
            task = replace(task, metric=metric)
        if first is not None:
            _check_alike(first[0], task, found[0].name, _name(each, model))
        if isinstance(data, Data):
            rows = _split_of(data, task, split, model.columns)
        else:
            rows = read_labelled(
                data, task, split=split, columns=columns, usual=model.columns, repair_tags=repair_tags,
                bad_answers=bad_answers, config=config, revision=revision,
            )  # fmt: skip
        name = apart(_name(each, model), [other.name for other in found])
        if first is not None:
            _check_rows(first, (task, rows), found[0].name, name)
            notes += _read_otherwise(first, (task, rows), found[0].name, name)
        first = first or (task, rows)
        if groups and rows.groups and groups["numbers"] != rows.groups["numbers"]:
            notes.append(
                f"intervals are for groups by {groups['of']}; {name} learnt from rows in groups by {rows.groups['of']}"
            )
        groups = groups or rows.groups
        with swapped(model.fitted.kind, task=replace(model.fitted.kind.task, metric=task.metric)):
            scored, of_model = _score(model, rows, name, progress)
        if model.learnt is not None:
            of_model += model.learnt.told(
                name, rows.rows, task.kind, f"rows of {rows.split}" if rows.split else "rows scored"
            )
        notes += [note for note in (*rows.notes, *of_model) if note not in notes]
        found.append(scored)
        del model
    assert first is not None
    task, rows = first
    shared = [metric for metric in METRICS[task.problem] if all(metric in each.scores for each in found)]
    compared = task.metric if task.metric in shared else shared[0]
    return Scores(
        rows.name, rows.sha256, rows.split, len(rows.rows), task.problem, compared, tuple(found), tuple(notes),
        groups,
    )  # fmt: skip


def _name(given: Any, model: Adapted) -> str:
    if isinstance(given, Adapted):
        return f"{model.run.strategy.name} on {model.run.backbone.name}"
    return path_of(given).resolve().name


def _check_alike(first: Task, task: Task, first_name: str, name: str) -> None:
    """
    Raises:
        OptionError: The tasks differ in what is predicted.
    """
    ours, theirs = ((each.kind, each.problem, frozenset(each.labels)) for each in (task, first))
    if ours != theirs:
        raise OptionError(
            f"{name} is for {_what(task)}, and {first_name} for {_what(first)}; score each of them by itself."
        )


def _check_rows(first: tuple[Task, LabelledRows], other: tuple[Task, LabelledRows], first_name: str, name: str) -> None:
    """
    Raises:
        OptionError: What is right for the rows differs, as where models learnt the labels of other columns.
    """
    for column in (*LABELS, "completion"):
        theirs, ours = (_right(task, rows.rows, column) for task, rows in (first, other))
        if theirs != ours:
            raise OptionError(
                f"{name} is scored by another {column.removesuffix('s')} than {first_name}, or on other rows, for its "
                "columns were others in training; say which are read (label=, columns=), or score each by "
                "itself."
            )


def _read_otherwise(
    first: tuple[Task, LabelledRows], other: tuple[Task, LabelledRows], first_name: str, name: str
) -> list[str]:
    """What is said of models that are asked about the same rows by other columns."""
    theirs, ours = (_asked(task, rows.rows) for task, rows in (first, other))
    return [] if theirs == ours else [f"{name} reads other columns of the rows than {first_name}, as in training"]


def _asked(task: Task, rows: datasets.Dataset) -> dict[str, list[Any]]:
    """The columns that a model reads, prompts as conversations."""
    shown = as_learnt(rows, task, {"messages": "messages"})
    return {name: column_of(shown, name) for name in shown.column_names if name not in (*LABELS, GROUP)}


def _right(task: Task, rows: datasets.Dataset, column: str) -> list[Any] | None:
    """A canonical column, of which classes are named, for each model may have them in an order of its own; of a
    conversation the completion is its last answer."""
    if column == "completion" and "messages" in rows.column_names:
        return [turns[-1]["content"] for turns in column_of(rows, "messages")]
    values = column_of(rows, column) if column in rows.column_names else None
    if values is None or not task.labels or column not in ("label", "tags"):
        return values
    if task.problem == "multi_label":
        return [{name for name, there in zip(task.labels, row, strict=True) if there} for row in values]
    names = (*task.labels, *(unpredicted(task.labels) if task.problem == "spans" else ()))
    return [names[each] if isinstance(each, int) else [names[tag] for tag in each] for each in values]


def _what(task: Task) -> str:
    labels = f" ({listing(task.labels)})" if task.labels else ""
    return f"{task.kind}, {task.problem}{labels}"


def _split_of(data: Data, task: Task, split: str, usual: Mapping[str, str]) -> LabelledRows:
    """
    Raises:
        OptionError: The data are of another task than the model's.
        DataError: They have no such split, or conversations of other turns than a prompt.
    """
    if (data.kind, data.problem, data.labels) != (task.kind, task.problem, task.labels):
        raise OptionError(
            f"{data.name} is not for {_what(task)}, as the model is; give the file or folder itself, of which the "
            "labels are read as the model knows them."
        )
    if data.pair != task.pair:
        one, other = map(texts_in_words, (data.pair, task.pair))
        raise OptionError(f"{data.name} is of {one}, and the model was trained on {other}; give such rows.")
    if split not in data.splits:
        raise DataError(
            f"{data.name}: no split {split!r} (it has {', '.join(data.splits)}); name one of these as split"
        )
    together = belonging(data.splits, data.problem, data.columns.get(GROUP), split)
    rows = as_learnt(data.splits[split], task, usual)
    return LabelledRows(data.name, rows, data.sha256, split, data.notes, together)


def _score(model: Adapted, rows: LabelledRows, name: str, progress: bool) -> tuple[Scored, list[str]]:
    """The scores of a model, and what must be said of the rows as it reads them; `progress` as of `score`."""
    from adapt.training import predict

    kind, run = model.fitted.kind, model.run
    before = len(kind.notes)
    called = rows.split if rows.split not in (None, "train") else "scored"  # nothing is done as in training
    examples = kind.encode(rows.rows, split=called)
    check_embedded(model.fitted.model, kind.tokenizer, examples, called)
    kind.notes += kind.unknown(examples)
    with closing(StepBar(sys.stderr if progress else None, name, "example", notebook=True)) as bar:
        told = partial(bar, total=len(examples))
        outputs = predict(model.fitted.model, kind, examples, run.budget, on_done=told)
    scores = kind.score(outputs, examples)
    outcomes = tuple(kind.outcomes(outputs, examples))
    digest = kind.digest(examples)
    marker = getattr(kind, "marker", "")
    scored = Scored(name, model.key, run.strategy.name, run.backbone.name, scores, outcomes, digest, marker)
    return scored, kind.notes[before:]


def _limits(found: Interval) -> list[float | None]:
    return [found.low, found.high]
