"""What a table is made of: a row for each strategy, and a section for each task, backbone and budget."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from adapt.metrics import LOWER_IS_BETTER, added_rows
from adapt.result import Content
from adapt.stats import Interval, crossed_interval, mean_interval


@dataclass(frozen=True)
class Difference:
    """The score of a row minus that of another, with the same seeds and on the same test rows."""

    interval: Interval
    seeds: int
    """Those that both have."""
    all_seeds: bool
    """Whether these are all that each of both has."""
    by_rows: bool
    """Whether the interval is over test rows, too."""

    @property
    def shared(self) -> str:
        """What is put behind the interval: how many seeds it is of, where one of both has others."""
        return "" if self.all_seeds else f" ({self.seeds} seed{'s' if self.seeds > 1 else ''})"


@dataclass(frozen=True)
class Row:
    """One strategy on one task, over its seeds."""

    task: str
    strategy: str
    """Name, with the settings that are not the defaults; learning rate and warm-up only where it has several."""
    metric: str
    runs: int
    """Runs done, whatever their status."""
    statuses: Mapping[str, str | None]
    """Status of the runs that did not end well, with the reason of one of them."""
    scores: Mapping[int, float]
    """Seed to test score (validation score where there is no test split) of the runs that ended well."""
    parts: Mapping[int, Sequence[float]] = field(repr=False)
    """Seed to what each test row adds to its score (`adapt.metrics.jackknife`), where the results of all tell, and
    where most rows are not of one group."""
    score: Interval | None
    """Over seeds and test rows, or groups of them; over seeds alone where there are no `parts`."""
    difference: Difference | None = None
    """To full fine-tuning."""
    trainable: int | None = None
    trainable_share: float | None = None
    saved_bytes: int | None = None
    peak_bytes: int | None = None
    train_seconds: float | None = None
    examples_per_second: float | None = None
    predicted_per_second: float | None = None
    forgetting: Interval | None = None
    """Loss on general text after adaptation minus before, in nats a token."""
    groups: Sequence[int] = field(default=(), repr=False)
    """The group of each test row; empty: each is alone."""
    any_seed: bool = False
    """Whether it is the same with any seed, for nothing is trained or drawn, so that it was run with one."""


@dataclass(frozen=True)
class Section:
    """The rows of one task, backbone, budget and general texts, with what a reader must know about them."""

    task: str
    rows: Sequence[Row]
    groups: Mapping[str, Sequence[Content]] = field(repr=False)
    """A row's strategy to the contents of the result files that it is of."""
    tried: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """A row's strategy to the learning rates that its own was chosen from, the lowest first."""
    base: str = "full"
    """What the other rows' scores are compared with."""
    test_groups: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Which test rows belong together (`adapt.result.Result.test_groups`)."""
    setting: str = ""
    """What other sections of the same task and backbone have otherwise; nothing where there are none."""

    @property
    def results(self) -> list[Content]:
        """Those of all rows."""
        return [result for group in self.groups.values() for result in group]


def goodness(row: Row) -> float:
    """The mean score, such that more is better; of none the least."""
    if row.score is None:
        return -math.inf
    return -row.score.mean if row.metric in LOWER_IS_BETTER else row.score.mean


def interval_of(
    scores: Sequence[float],
    parts: Sequence[Sequence[float]],
    groups: Sequence[int],
    confidence: float = 0.95,
    *,
    added: Mapping[float, float],
) -> Interval:
    """Over seeds and test rows, or groups of rows, or over seeds alone where there are no parts; see
    `adapt.metrics.added_rows` for `added`."""
    alone = mean_interval(scores, confidence)
    return crossed_interval(parts, alone.mean, confidence, groups=groups, added=added) if parts else alone


def difference(row: Row, base: Row, confidence: float = 0.95) -> Difference | None:
    """Of a row to another, over test rows, too, where both tell; None: they have no seed in common."""
    row = _at_seeds_of(base, row)
    base = _at_seeds_of(row, base)
    seeds = sorted(row.scores.keys() & base.scores.keys())
    if not seeds:
        return None
    scores = [row.scores[s] - base.scores[s] for s in seeds]
    pairs = [(row.parts[s], base.parts[s]) for s in seeds if row.parts and base.parts]
    alike = all(len(ours) == len(theirs) for ours, theirs in pairs)
    parts = [[a - b for a, b in zip(*pair, strict=True)] for pair in pairs] if alike else []
    added = added_rows(row.metric, of_difference=True)
    found = interval_of(scores, parts, row.groups or base.groups, confidence, added=added)
    every = row.scores.keys() | base.scores.keys()
    return Difference(found, len(seeds), len(seeds) == len(every), bool(parts))


def _at_seeds_of(other: Row, row: Row) -> Row:
    """A row that is the same with any seed, as if run with those of another; other rows as they are."""
    if not row.any_seed or len(row.scores) != 1:
        return row
    [score], parts = row.scores.values(), list(row.parts.values())
    same = dict.fromkeys(other.scores, parts[0]) if parts else {}
    return replace(row, scores=dict.fromkeys(other.scores, score), parts=same)


def of_most_seeds(rows: Sequence[Row]) -> list[Row]:
    """Rows of which no other has more seeds: the means of others are of fewer, maybe of the easier ones."""
    most = max((len(row.scores) for row in rows), default=0)
    return [row for row in rows if len(row.scores) == most or (row.any_seed and row.scores)]
