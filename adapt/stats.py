"""Means with their uncertainty."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray


_ROUNDING = 1e-20
"""Variance that rounding alone may leave of values of at most 1."""
RIGHT_OR_WRONG: Mapping[float, float] = {0.0: 2.0, 1.0: 2.0}
"""Rows added to those of a share, value to number (Agresti & Coull 1998): two wrong ones and two right ones."""
RIGHT_OR_WRONG_PAIRED: Mapping[float, float] = {-1.0: 0.5, 0.0: 1.0, 1.0: 0.5}
"""Rows added to those of a difference of two shares (Agresti & Min 2005): half a row for each of the four outcomes."""


@dataclass(frozen=True)
class Interval:
    """A mean and its two-sided confidence interval; the limits are None where they are not known."""

    mean: float
    low: float | None
    high: float | None


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Student's t interval of the mean over seeds.

    Args:
        values: One value a seed.
        confidence: Coverage, between 0 and 1.

    Raises:
        ValueError: There is no value.
    """
    if not values:
        raise ValueError("an interval needs at least one value")
    n = len(values)
    mean = math.fsum(values) / n
    if n == 1:
        return Interval(mean, None, None)
    if min(values) == max(values):  # of which a sum's rounding would make a mean that none of them is
        return Interval(values[0], values[0], values[0])
    from scipy.stats import t

    error = math.hypot(*(v - mean for v in values)) / math.sqrt((n - 1) * n)
    half = float(t.ppf((1 + confidence) / 2, n - 1)) * error
    return Interval(mean, mean - half, mean + half)


def paired_difference(ours: Sequence[float], base: Sequence[float]) -> Interval:
    """95 % interval of the mean of `ours - base`, the values paired by seed.

    Raises:
        ValueError: The sequences are empty or differ in length.
    """
    return mean_interval([a - b for a, b in zip(ours, base, strict=True)])


def effective_groups(groups: Sequence[int]) -> float:
    """The number of groups of equal size that tell as much as these: n² / Σ n_g², of n rows with n_g in group g (Kish
    1965; Carter, Schnepel & Steigerwald 2017).

    Args:
        groups: The group of each row.
    """
    return len(groups) ** 2 / sum(size**2 for size in Counter(groups).values())


def one_prevails(groups: Sequence[int]) -> bool:
    """Whether most rows are of one group, so that they tell nothing of other groups."""
    return bool(groups) and effective_groups(groups) < 2


def crossed_interval(
    values: Sequence[Sequence[float]],
    mean: float,
    confidence: float = 0.95,
    *,
    groups: Sequence[int] = (),
    added: Mapping[float, float] = MappingProxyType({}),
) -> Interval:
    """Interval of a mean for other seeds and other rows.

    Seeds and rows are crossed random effects (Cornfield & Tukey 1956): the variance of the mean is
    (MS of seeds + MS of rows - MS of the residual) / number of values, its degrees of freedom are Satterthwaite's
    (1946). With one seed it is the interval over rows alone.

    Rows of one group are not independent, so that a group counts as one row. Its deviation is what the mean changes by
    without it, times the other groups (the jackknife over groups; CR3 of Bell & McCaffrey 2002), for a large group
    draws the mean to itself. There is one degree of freedom less than there are effective groups. Together these make
    the interval wide enough where some groups are much larger than others.

    Of rows that are right or wrong, few of which are wrong, too little is seen of what others might be, and nothing
    where all are right. With `added`, the variance of the mean over rows is at least what it is with these beside them;
    rows in groups are then as many as rows on their own that would have the mean's variance (Korn & Graubard 1998;
    Dean & Pagano 2015), or as there are effective groups where it has none.

    Args:
        values: (seeds, rows), the same rows for each seed; at least two rows.
        mean: What the interval is put around: the mean of `values`, or the estimate whose pseudo-values they are.
        confidence: Coverage, between 0 and 1.
        groups: The group of each row; empty: each row is alone.
        added: `RIGHT_OR_WRONG`, or `RIGHT_OR_WRONG_PAIRED` where the values are differences: of a mean over rows, each
            of which counts from 0 to 1.

    Raises:
        ValueError: There are fewer than two rows or effective groups, or not the same rows for each seed.
    """
    import numpy as np
    from scipy.stats import t

    if len(set(map(len, values))) != 1 or len(values[0]) < 2:
        raise ValueError("an interval over rows needs the same two rows or more for each seed")
    table = np.array(values, dtype=float)
    largest = 1.0 if added else float(abs(table).max()) or 1.0
    table /= largest  # so that no square is too large
    given = table.mean(0)
    free = table.shape[1] - 1.0
    if groups:
        free = effective_groups(groups) - 1
        if len(groups) != table.shape[1] or free < 1:
            raise ValueError("an interval over groups needs the group of each row, and two effective groups or more")
    by_seed = table.mean(1, keepdims=True)
    table = table - by_seed
    if groups:
        table = _by_group(table, groups)
    seeds, rows = table.shape
    by_row = table.mean(0)
    of_seeds = rows * float(by_seed.var(ddof=1)) if seeds > 1 else None
    rest = float(((table - by_row) ** 2).sum()) / max((seeds - 1) * (rows - 1), 1)
    of_rows = seeds * float((by_row**2).sum()) / (rows - 1)
    found = [_crossed(of_seeds, of_rows, rest, seeds, free)]
    if added:  # more variance of rows is more degrees of freedom, too
        least = table.size * _variance_with(given, of_rows / table.size, free + 1, added)
        found.append(_crossed(of_seeds, max(of_rows, least), rest, seeds, free))
    halves = [
        float(t.ppf((1 + confidence) / 2, freedom)) * math.sqrt(variance / table.size)
        for variance, freedom in found
        if variance > _ROUNDING
    ]
    half = max(halves, default=0.0) * largest
    return Interval(mean, mean - half, mean + half)


def _crossed(of_seeds: float | None, of_rows: float, rest: float, seeds: int, free: float) -> tuple[float, float]:
    """Variance of the mean, times the number of values, and its degrees of freedom.

    Args:
        of_seeds: Mean square of the seeds; None: there is one.
        of_rows: That of the rows, or groups of them.
        rest: That of the residual.
        seeds: How many.
        free: Degrees of freedom of the rows.
    """
    if of_seeds is None:
        return of_rows, free
    variance = of_seeds + of_rows - rest
    if variance < max(of_seeds, of_rows):  # one of them is not seen at all
        return max((of_seeds, seeds - 1.0), (of_rows, free))
    if variance <= 0:
        return 0.0, free
    parts = of_seeds**2 / (seeds - 1) + of_rows**2 / free + rest**2 / ((seeds - 1) * free)
    return variance, variance**2 / parts


def interval_over_rows(
    mean: float,
    values: Sequence[float] | None,
    groups: Sequence[int] = (),
    added: Mapping[float, float] = MappingProxyType({}),
) -> Interval:
    """The 95 % interval of one model's score, or of a difference of two, for other rows or groups of rows like these.

    Args:
        mean: The score, or the difference.
        values: What each row adds to it; None: that is not known.
        groups: The group of each row; empty: each row is alone.
        added: As of `crossed_interval`.

    Returns:
        Without limits where the values are not known, or where most rows are of one group.
    """
    if values is None or one_prevails(groups):
        return Interval(mean, None, None)
    return crossed_interval([values], mean, groups=groups, added=added)


def _variance_with(values: NDArray[Any], seen: float, groups: float, added: Mapping[float, float]) -> float:
    """The variance of the mean of rows with others added.

    Args:
        values: One a row.
        seen: The variance of the mean without others.
        groups: Effective groups of the rows; as many as rows where each is alone.
        added: Value to number of those that are added.
    """
    import numpy as np

    alone = float(values.var(ddof=1))
    many = groups if alone <= _ROUNDING else min(alone / max(seen, _ROUNDING), len(values))
    where, numbers = np.array(list(added)), np.array(list(added.values()))
    every = many + numbers.sum()
    mean = (many * values.mean() + (where * numbers).sum()) / every
    return float((many * ((values - mean) ** 2).mean() + ((where - mean) ** 2 * numbers).sum()) / every**2)


def _by_group(deviations: NDArray[Any], groups: Sequence[int]) -> NDArray[Any]:
    """Deviations from the mean of their seed, (seeds, rows) to (seeds, groups)."""
    import numpy as np

    _, group_of, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    sums = np.zeros((len(sizes), len(deviations)))
    np.add.at(sums, group_of, deviations.T)
    others = deviations.shape[1] - sizes
    return (len(sizes) - 1) * sums.T / others


def pareto_front(points: Sequence[Sequence[float]]) -> list[int]:
    """Indices of the points that no other dominates: is at least as good in every number and better in one.

    Larger numbers are better.
    """
    return [
        i
        for i, point in enumerate(points)
        if not any(other != point and all(a >= b for a, b in zip(other, point, strict=True)) for other in points)
    ]
