"""Means with their uncertainty."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """A mean and its two-sided confidence interval; the limits are None where there is one value only."""

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


def paired_difference(ours: Sequence[float], base: Sequence[float], confidence: float = 0.95) -> Interval:
    """Interval of the mean of `ours - base`, the values paired by seed.

    Raises:
        ValueError: The sequences are empty or differ in length.
    """
    return mean_interval([a - b for a, b in zip(ours, base, strict=True)], confidence)
