"""What every form of data supplies to `adapt.data.load`: which columns it needs, and how they become canonical."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from adapt.data.table import Table
from adapt.spec import Problem, Task

Columns = dict[str, list[Any]]
"""Canonical column to its values, one a row."""


@dataclass(frozen=True)
class Wishes:
    """Options of `adapt.data.load` that a form looks at."""

    problem: Problem | None = None
    """Overrides what the values suggest."""
    repair_tags: bool = False
    """Whether tags that break BIO are mended."""
    bad_answers: Literal["refuse", "drop"] = "refuse"
    """What happens to rows whose answer is not where it should be."""
    labels: tuple[str, ...] | None = None
    """The classes or tags that a model knows, in index order, for rows that it is scored on; None: train decides."""
    pair: bool | None = None
    """Whether the model reads pairs of texts; None: the columns decide."""


@dataclass(frozen=True)
class Read:
    """The canonical form of all splits that the source has."""

    problem: Problem
    labels: tuple[str, ...]
    rows: dict[str, Columns]
    """Split to canonical columns; a split that cannot be used (labels withheld) is left out."""
    notes: tuple[str, ...] = ()
    """What must be said beside results on these rows."""
    left_out: Mapping[str, Collection[int]] = field(default_factory=dict)
    """Split to the rows of its table that are not among `rows`."""


@dataclass(frozen=True)
class Form:
    """The form of the rows of one task kind."""

    problems: tuple[Problem, ...]
    """What it can be."""
    roles: tuple[str, ...]
    """What a column can be for; keys of the option `columns`."""
    find: Callable[[Table, Mapping[str, str]], dict[str, str]]
    """Role to column: those that the caller named, the others by usual names; raises DataError where one is missing."""
    read: Callable[[Mapping[str, Table], Mapping[str, str], Wishes], Read]
    """Check and encode all splits, from the columns that the caller named."""
    plain: Callable[[list[Any]], Columns]
    """Columns of rows to be predicted that came as a plain list."""
    inputs: Callable[[Table, Mapping[str, str], Task], Columns]
    """Canonical columns of rows to be predicted: those of `read` without labels."""
    expand: Callable[[Table, Mapping[str, str]], Table] = lambda table, _: table
    """Before rows to be predicted are looked at: columns that stand within one, such as languages."""
    like_training: Callable[[Columns, Mapping[str, str]], Columns] = lambda columns, _: columns
    """After rows for a trained model are read: their columns as those of training were, whose roles are given."""
    alternatives: tuple[str, ...] = ()
    """Roles of which rows for a trained model need one, each in place of the others."""
