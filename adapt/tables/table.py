"""The table of a comparison, made from result files alone."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Any

from adapt.display import Rendered, counted, one_line
from adapt.memory.budget import shown
from adapt.result import Content
from adapt.tables.apart import set_apart
from adapt.tables.cells import digits, escape, grid, heading, interval, share, within
from adapt.tables.curve import curve_table, curves, training_rows
from adapt.tables.facts import facts
from adapt.tables.folds import by_section, merged
from adapt.tables.rows import section_of
from adapt.tables.section import Row, Section

if TYPE_CHECKING:
    import pandas

COLUMNS = (
    "task", "strategy", "seeds", "metric", "mean", "ci_low", "ci_high", "trainable", "trainable_share",
    "saved_bytes", "peak_bytes", "train_seconds", "examples_per_second",
)  # fmt: skip
"""Columns of `table.csv`: scores and shares as fractions, sizes in bytes, times in seconds; empty: not measured."""

FURTHER_COLUMNS = ("backbone", "setting")
"""Columns that follow where a task has several sections; of one backbone, `setting` is what its sections have otherwise
(`adapt.tables.apart`)."""

CURVE_COLUMNS = ("backbone", "training_rows", "rows_per_class", *COLUMNS, "setting")
"""Columns of `curve.csv`: rows trained on, or of each class, then as in `table.csv`."""


@dataclass(frozen=True)
class Table(Rendered):
    """A table of one or several tasks."""

    sections: Sequence[Section]

    @property
    def rows(self) -> list[Row]:
        """All rows."""
        return [row for section in self.sections for row in section.rows]

    @property
    def columns(self) -> tuple[str, ...]:
        """`COLUMNS`, and `FURTHER_COLUMNS` where they are needed to tell rows apart."""
        tasks = [section.task for section in self.sections]
        return COLUMNS if len(tasks) == len(set(tasks)) else COLUMNS + FURTHER_COLUMNS

    def csv(self) -> str:
        """The table with its columns."""
        return _csv(self.columns, self._cells())

    def curve_csv(self) -> str:
        """The points of the learning curves, with the columns `CURVE_COLUMNS`; empty where there is no curve.

        A point of two curves (all rows, over `max_train` and over `few_shot`) is there once.
        """
        points = [
            {**_size(section.results[0]["spec"]["task"]), **_cells(section, row)}
            for curve in curves(self.sections)
            for section in curve.columns.values()
            for row in section.rows
        ]
        once = [dict(point) for point in dict.fromkeys(tuple(point.items()) for point in points)]
        return _csv(CURVE_COLUMNS, once) if once else ""

    def markdown(self) -> str:
        """The table for readers: a section for each task, with the facts below it, and learning curves."""
        return "\n".join([*map(_shown, self.sections), *map(curve_table, curves(self.sections))])

    def to_frame(self) -> pandas.DataFrame:
        """The table with its columns, as numbers; NaN or None: not measured."""
        import pandas

        return pandas.DataFrame(self._cells(), columns=self.columns)

    def _cells(self) -> list[dict[str, Any]]:
        return [_cells(section, row) for section in self.sections for row in section.rows]

    def __str__(self) -> str:
        return self.markdown()

    def __repr__(self) -> str:
        tasks = dict.fromkeys(section.task for section in self.sections)
        return one_line(f"<Table: {counted(len(self.rows), 'row')} on {', '.join(tasks)}>")


def table_of(results: Iterable[Content], *, tuned: bool | Collection[str] | None = None) -> Table:
    """The table of result files' contents: sections by task, backbone, budget and general texts; rows by strategy,
    settings and teacher.

    Args:
        results: The contents.
        tuned: Whether a strategy that was run at several learning rates has a row for the one with the best mean
            validation score alone, where the seeds tell; else it has one for each. Keys of runs: in their sections, and
            in those of which a run was one of several trials; None: in these alone.
    """
    ordered = sorted(
        by_section(merged(results)), key=lambda s: (s[0]["task"], s[0]["backbone"], training_rows(s[0]["spec"]["task"]))
    )

    def chosen(section: Sequence[Content]) -> bool | None:
        if tuned is None or isinstance(tuned, bool):
            return tuned
        return any(result["key"] in tuned for result in section) or None

    return Table(set_apart([section_of(section, chosen(section)) for section in ordered]))


def _csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _cells(section: Section, row: Row) -> dict[str, Any]:
    """The cells of `COLUMNS` and `FURTHER_COLUMNS`."""
    mean, low, high = (None, None, None) if row.score is None else astuple(within(row.score, row.metric))
    return {
        "task": row.task, "strategy": row.strategy, "seeds": len(row.scores), "metric": row.metric,
        "mean": _number(mean), "ci_low": _number(low), "ci_high": _number(high),
        "trainable": row.trainable, "trainable_share": _number(row.trainable_share), "saved_bytes": row.saved_bytes,
        "peak_bytes": row.peak_bytes, "train_seconds": _number(row.train_seconds),
        "examples_per_second": _number(row.examples_per_second),
        "backbone": section.results[0]["backbone"], "setting": section.setting,
    }  # fmt: skip


def _size(task: Mapping[str, Any]) -> dict[str, Any]:
    """Rows of each class that were trained on, or of all."""
    each, rows = training_rows(task)
    return {"training_rows": int(rows)} if each == math.inf else {"rows_per_class": int(each)}


def _number(value: float | None) -> float | None:
    """Six digits that matter."""
    return None if value is None else float(f"{value:.6g}")


def _shown(section: Section) -> str:
    """A section for readers."""
    further = _further(section.rows)
    head = [
        "strategy", heading(section.rows[0].metric), "seeds", f"difference to {escape(section.base)}", "trainable",
        "share", "saved", "peak memory", "train time", "examples/s", *further,
    ]  # fmt: skip
    rows = [[*_shown_cells(row), *more] for row, *more in zip(section.rows, *further.values(), strict=True)]
    title = f"### {escape(section.task)}, {escape(section.results[0]['backbone'])}"
    title += f", {escape(section.setting)}" if section.setting else ""
    return "\n".join([title, "", *grid(head, rows), "", *facts(section), ""])


def _shown_cells(row: Row) -> list[str]:
    """The cells that a row of any section has."""
    bad = "; ".join(f"{status}: {reason}" if reason else status for status, reason in row.statuses.items())
    score = interval(row.score, row.metric) if row.score else "" if bad else "not scored"
    return [
        escape(row.strategy),
        ", ".join(part for part in (score, escape(bad)) if part),
        str(row.runs) if len(row.scores) == row.runs else f"{len(row.scores)} of {row.runs}",
        _difference(row),
        "" if row.trainable is None else f"{row.trainable:,}",
        "" if row.trainable_share is None else share(row.trainable_share),
        "" if row.saved_bytes is None else shown(row.saved_bytes),
        "" if row.peak_bytes is None else shown(row.peak_bytes),
        "" if row.train_seconds is None else f"{row.train_seconds:.1f} s",
        "" if row.examples_per_second is None else digits(row.examples_per_second),
    ]


def _further(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Head and cells of the columns that older results have nothing for, where some row has something."""
    columns = {
        "predictions/s": ["" if row.predicted_per_second is None else digits(row.predicted_per_second) for row in rows],
        "forgetting [95 % CI], nats a token": [
            "" if row.forgetting is None else interval(row.forgetting, "loss", signed=True) for row in rows
        ],
    }
    return {name: cells for name, cells in columns.items() if any(cells)}


def _difference(row: Row) -> str:
    found = row.difference
    if found is None:
        return ""
    return interval(found.interval, row.metric, signed=True) + found.shared
