"""Learning curves: sections of a table that differ in nothing but the number of training rows, side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from adapt.metrics import LOWER_IS_BETTER
from adapt.spec import canonical
from adapt.strategies import recorded
from adapt.tables.cells import escape, grid, heading, interval, limits_of, named
from adapt.tables.folds import without_fold
from adapt.tables.section import Row, Section, difference, goodness, of_most_seeds


@dataclass(frozen=True)
class Curve:
    """What is reached with more and more training rows."""

    columns: Mapping[str, Section]
    """The number of rows, in words, to the section of its results; the fewest first."""

    @property
    def labels(self) -> list[str]:
        """Those of all rows, in the order of the fullest column."""
        fullest = sorted(self.columns.values(), key=lambda section: -len(section.rows))
        return list(dict.fromkeys(row.strategy for section in fullest for row in section.rows))

    @property
    def strategies(self) -> list[str]:
        """The labels of rows that runs were made for."""
        return [label for label in self.labels if any(label in section.groups for section in self.columns.values())]

    @property
    def without_model(self) -> list[str]:
        """The labels of what is reached without a model."""
        return [label for label in self.labels if label not in self.strategies]


def curves(sections: Sequence[Section]) -> list[Curve]:
    """The curves over `max_train` and over `few_shot` in a table; a section trained on all rows is a point of either.

    Sections come in the order of their training rows, and so do columns.
    """
    found: dict[str, dict[tuple[float, float], list[Section]]] = {}
    for section in sections:
        task = section.results[0]["spec"]["task"]
        spec = without_fold(section.results[0]["spec"])
        shared = {name: value for name, value in spec["task"].items() if name not in ("max_train", "few_shot")}
        key = canonical([shared, *(spec.get(name) for name in ("backbone", "budget", "general"))])
        each, rows = size = training_rows(task)
        for option, other_is_all in (("max_train", each == math.inf), ("few_shot", rows == _all(task))):
            if other_is_all:
                found.setdefault(option + key, {}).setdefault(size, []).append(section)
    return [
        Curve({_words(*size): _joined(alike) for size, alike in columns.items()})
        for columns in found.values()
        if len(columns) > 1
    ]


def training_rows(task: Mapping[str, Any]) -> tuple[float, float]:
    """Rows trained on, of each class (infinity: as many as there are) and of all, by a result's task."""
    return task["few_shot"] or math.inf, min(task["max_train"] or math.inf, _all(task))


def _all(task: Mapping[str, Any]) -> float:
    return float(task["rows"]["train"])


def rows_in_words(task: Mapping[str, Any]) -> str:
    """How many rows were trained on, by a result's task."""
    return _words(*training_rows(task))


def _words(each: float, rows: float) -> str:
    return f"{rows:,.0f} rows" if each == math.inf else f"{each:,.0f} a class"


def _joined(sections: Sequence[Section]) -> Section:
    """Sections that were trained on the same rows as one; of a strategy in several the first row stands."""
    rows = {row.strategy: row for section in reversed(sections) for row in section.rows}
    groups = {label: group for section in reversed(sections) for label, group in section.groups.items()}
    return replace(sections[0], rows=list(rows.values()), groups=groups)


def curve_table(curve: Curve) -> str:
    """The curve for readers: a line for each strategy, what more rows bring, and the facts below."""
    columns = [{row.strategy: row for row in section.rows} for section in curve.columns.values()]
    marks = [_marks([rows[label] for label in curve.strategies if label in rows]) for rows in columns]
    first = next(iter(curve.columns.values()))
    most = max(len(row.scores) for rows in columns for row in rows.values())
    marked = list(zip(columns, marks, strict=True))
    scores = [
        [escape(label), *(mark.get(label, "{}").format(_cell(rows.get(label), most)) for rows, mark in marked)]
        for label in [*curve.strategies, *curve.without_model]
    ]
    gains = [
        [escape(label), *(_gain(few.get(label), many.get(label)) for few, many in pairwise(columns))]
        for label in curve.strategies
    ]
    lines = [
        f"### {escape(first.task)}, {escape(first.results[0]['backbone'])}, by training rows",
        "",
        *grid([heading(first.rows[0].metric), *curve.columns], scores),
        "",
        *grid(["difference [95 % CI]", *(f"{few} to {many}" for few, many in pairwise(curve.columns))], gains),
        "",
        *_facts(curve, columns, any(marks)),
        "",
    ]
    return "\n".join(lines)


def _cell(row: Row | None, most: int) -> str:
    """The score, or what became of the runs; and its seeds, where other cells have more."""
    if row is None:
        return ""
    if row.score is None:
        return escape(", ".join(row.statuses)) or "not scored"
    seeds = len(row.scores)
    return interval(row.score, row.metric) + ("" if seeds == most else f" ({seeds} seed{'s' if seeds > 1 else ''})")


def _gain(few: Row | None, many: Row | None) -> str:
    found = difference(many, few) if few is not None and many is not None else None
    return interval(found.interval, few.metric, signed=True) + found.shared if few is not None and found else ""


def _marks(rows: Sequence[Row]) -> dict[str, str]:
    """How the best mean of those with most seeds is shown, and others that may be the best; nothing for those that are
    behind it.

    The truly best of k strategies counts as behind only if it seems worse than one of the k - 1 others, each of which
    may happen in 0.05 / (k - 1) of all cases (subset selection, Gupta 1965; by Bonferroni's inequality). What holds 0
    at 95 % is never behind.
    """
    scored = [row for row in rows if row.score is not None]
    if len(scored) < 2:
        return {}
    best = max(of_most_seeds(scored), key=goodness)
    confidence = max(0.95, 1 - 0.1 / (len(scored) - 1))
    return {
        row.strategy: "**{}**" if row is best else "{} ≈"
        for row in scored
        if row is best or not _is_behind(row, best, confidence)
    }


def _is_behind(row: Row, best: Row, confidence: float) -> bool:
    """Whether an interval can be made of the difference, and lies on the worse side of 0.

    None is made over one seed that both have of several, of which it would know no other.
    """
    found = difference(row, best, confidence)
    one_of_several = found is not None and found.seeds == 1 and not found.all_seeds
    limits = None if found is None or one_of_several else limits_of(found.interval, None)
    if limits is None:
        return False
    return limits[0] > 0 if row.metric in LOWER_IS_BETTER else limits[1] < 0


def _facts(curve: Curve, columns: Sequence[Mapping[str, Row]], marked: bool) -> list[str]:
    """What a reader must know beside the facts of each section."""
    sections = list(curve.columns.values())
    rows = sections[0].results[0]["spec"]["task"]["rows"]
    chosen = "the epoch and the learning rate" if any(section.tried for section in sections) else "the epoch"
    best = (
        "- Best: the best mean of each column is bold, and ≈ marks others that may be the best: the interval of "
        "their difference to it, paired as differences to full are, holds 0 or cannot be made. Among more than "
        "three it is made wider (Bonferroni), so that with three seeds or more the truly best strategy is bold or "
        "marked in about 95 of 100 cases."
    )
    return [
        f"- Rows: a seed draws them from the {rows['train']:,} of train, for each number anew: those of a smaller one "
        "need not be among those of a larger one. The nearer a number is to all, the more rows have seeds in "
        "common, and the less do intervals know of other training rows."
        + (f" Besides, {n:,} labelled rows of validation choose {chosen}." if (n := rows.get("validation")) else "")
        + " All else is said below the table of each number.",
        *([best] if marked else []),
        "- More rows: the second table has what each strategy gains from one number to the next, paired in the same "
        "way, each interval for itself.",
        *_lost(curve, columns),
        *_rates(curve),
    ]


def _lost(curve: Curve, columns: Sequence[Mapping[str, Row]]) -> list[str]:
    """At which numbers of rows no strategy is better than what is reached without a model."""
    lost = [
        name
        for name, rows in zip(curve.columns, columns, strict=True)
        if _best(rows, curve.without_model) >= _best(rows, curve.strategies) > -math.inf
    ]
    simple = " or ".join(map(named, curve.without_model))
    return [f"- Without a model: at {', '.join(lost)} no strategy has a better mean than {simple}."] if lost else []


def _rates(curve: Curve) -> list[str]:
    """The learning rates and warm-ups of strategies that have not the same at each number of rows."""
    settings = {
        label: [recorded(group[0]["spec"]["strategy"]) | group[0]["settings"] for group in groups]
        for label in curve.strategies
        if (groups := [section.groups[label] for section in curve.columns.values() if label in section.groups])
    }
    lines = []
    for name, words in (("learning_rate", "Learning rates"), ("warmup", "Warm-ups")):
        used = {label: [fields.get(name) for fields in each] for label, each in settings.items()}
        several = "; ".join(
            f"{named(label)} {', '.join(escape(str(value)) for value in values)}"
            for label, values in used.items()
            if len(set(map(str, values))) > 1
        )
        lines += [f"- {words} are not those of every column: {several}."] if several else []
    return lines


def _best(rows: Mapping[str, Row], labels: Sequence[str]) -> float:
    return max((goodness(rows[label]) for label in labels if label in rows), default=-math.inf)
