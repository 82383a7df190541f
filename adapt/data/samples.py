"""Samples of rows: few-shot samples, smaller training sets and held-out splits.

Every sample keeps the order of the rows and depends on nothing but their labels and a generator seeded here.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any

from adapt.data.table import column_of
from adapt.spec import DataError, OptionError, Problem

if TYPE_CHECKING:
    import datasets
    import numpy


def generator(seed: int, stream: int = 0) -> numpy.random.Generator:
    """A generator of its own for each seed and stream."""
    import numpy

    if not isinstance(seed, Integral) or seed < 0:
        raise OptionError(f"seed={seed!r}: give an integer of zero or more")
    return numpy.random.default_rng([seed, stream])


def few_shot(
    dataset: datasets.Dataset, problem: Problem, k: int, seed: int, *, names: Sequence[str] = ()
) -> datasets.Dataset:
    """A sample of k rows a class, in the order of the data set.

    For multi_label problems every label has at least k rows, of which one counts for each of its labels, and k rows
    have no label, or as many as there are.

    Args:
        dataset: Rows in canonical form, as in `Data.splits`.
        problem: What is predicted.
        k: Rows a class, 1 or more.
        seed: The same seed draws the same rows.
        names: Label names, for the error.

    Raises:
        OptionError: The problem has no classes of rows; or k is below 1.
        DataError: A class has fewer than k rows.
    """
    if problem not in ("single_label", "multi_label"):
        raise OptionError(f"few_shot draws k rows of each class and {problem} has none; use max_train instead")
    check_rows_kept("few_shot", k)
    rng, labels = generator(seed), column_of(dataset, "label")
    rows = rows_of(labels)
    short = {i: len(r) for i, r in enumerate(rows) if 0 < len(r) < k}
    if short:
        shown = ", ".join(f"{names[i] if i < len(names) else i!r} ({n})" for i, n in list(short.items())[:5])
        more = f" and {len(short) - 5} more" if len(short) > 5 else ""
        raise DataError(
            f"few_shot={k}: too few training rows of {shown}{more}; ask for {min(short.values())} at most, or add rows"
        )
    without = [i for i, label in enumerate(labels) if not any(label)] if problem == "multi_label" else []
    chosen = set(rng.choice(without, min(k, len(without)), replace=False).tolist()) if without else set[int]()
    for indices in sorted(rows, key=len):  # rare labels first: their rows count for the common ones
        missing = k - len(chosen.intersection(indices))
        free = [i for i in indices if i not in chosen]
        if missing > 0 and free:
            chosen.update(rng.choice(free, missing, replace=False).tolist())
    return dataset.select(sorted(chosen))


def subsample(dataset: datasets.Dataset, problem: Problem, n: int, seed: int, stream: int = 0) -> datasets.Dataset:
    """A sample of n rows in the order of the data set, or all of them where there are no more.

    For single_label problems each class keeps its share, and at least one row where n allows. The same seed and stream
    draw the same rows; those of training are of stream 0.

    Raises:
        OptionError: n below 1.
    """
    check_rows_kept("max_train", n)
    labels = column_of(dataset, "label") if problem == "single_label" else None
    return dataset if n >= len(dataset) else dataset.select(_drawn(labels, len(dataset), n, generator(seed, stream)))


def shortened(
    rows: dict[str, dict[str, list[Any]]], problem: Problem, most: Mapping[str, int | None], seed: int
) -> tuple[dict[str, dict[str, list[Any]]], list[str]]:
    """Held-out splits of no more rows than were asked for, and what must be said of them.

    Rows are drawn as by `subsample`, each by itself, also those of a context or a group: a few rows of many groups tell
    more than all rows of a few.

    Args:
        rows: Split to canonical columns.
        problem: What is predicted.
        most: Split to its rows at most; None: all.
        seed: The same seed draws the same rows.
    """
    found, notes = dict(rows), []
    for stream, (split, n) in enumerate(most.items(), _HELD_OUT):
        size = len(next(iter(rows.get(split, {}).values()), ()))
        if n is None or n >= size:
            continue
        labels = rows[split]["label"] if problem == "single_label" else None
        kept = _drawn(labels, size, n, generator(seed, stream))
        found[split] = {name: [values[i] for i in kept] for name, values in rows[split].items()}
        notes.append(f"{split} is {n:,} of its {size:,} rows, drawn with the seed of the splits, {seed}, for every run")
    return found, notes


_HELD_OUT = 3
"""The stream of random numbers from which on held-out splits have theirs; those before cut splits and folds."""


def _drawn(labels: Sequence[int] | None, size: int, n: int, rng: numpy.random.Generator) -> list[int]:
    """n of the rows, rising; of classes, where there are such, each with its share, and one at least where n allows."""
    rows = [r for r in rows_of(labels) if r] if labels is not None else []
    if not rows or n < len(rows):
        return sorted(rng.choice(size, n, replace=False).tolist())
    counts = [len(r) for r in rows]
    sizes = quotas(counts, n, counts)
    return sorted(i for r, m in zip(rows, sizes, strict=True) for i in rng.choice(r, m, replace=False).tolist())


def check_rows_kept(option: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise OptionError(f"{option}={value!r}: give a number of rows, 1 or more")


def rows_of(labels: Sequence[Any]) -> list[list[int]]:
    """The rows of each class, in index order; a row with several labels is under each."""
    found: dict[int, list[int]] = {}
    for row, label in enumerate(labels):
        for index in [label] if isinstance(label, int) else [i for i, bit in enumerate(label) if bit]:
            found.setdefault(index, []).append(row)
    return [found.get(index, []) for index in range(max(found, default=-1) + 1)]


def quotas(counts: Sequence[int], total: int, caps: Sequence[int]) -> list[int]:
    """Rows to take of each class: its share of the total, at least one and at most its cap.

    Largest remainders go first. The sum is the total unless the ones or the caps forbid it.
    """
    shares = [total * count / sum(counts) for count in counts]
    sizes = [min(cap, max(1, int(share))) for share, cap in zip(shares, caps, strict=True)]
    above = sum(sizes) - total
    step, limits = (-1, [1] * len(sizes)) if above > 0 else (1, caps)
    # who is farthest from its share gives or takes one, the first of equals, as long as it may
    waiting = [(step * (sizes[i] - share), i) for i, share in enumerate(shares) if step * (limits[i] - sizes[i]) > 0]
    heapq.heapify(waiting)
    for _ in range(abs(above)):
        if not waiting:
            break
        _, i = heapq.heappop(waiting)
        sizes[i] += step
        if sizes[i] != limits[i]:
            heapq.heappush(waiting, (step * (sizes[i] - shares[i]), i))
    return sizes
