"""Batches of rows of similar length in a seeded order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import TypeVar

import torch

from adapt.tasks import Example
from adapt.training.halving import parts

T = TypeVar("T")

_POOL = 50
"""Batches' worth of shuffled rows that are sorted by length together: little padding, still a random order."""


def length_bucketed(
    lengths: Sequence[int],
    batch_size: int,
    generator: torch.Generator,
    targets: Sequence[int] | None = None,
    accumulation: int = 1,
) -> list[list[int]]:
    """Row indices in batches of similar length, shuffled between and within buckets.

    Optimizer steps are as few as can be and of equally many batches, which differ by one row at most. Were all full but
    the last, that one would hold the longest rows, which in an optimizer step of their own would weigh many times as
    much as others.

    Args:
        lengths: Tokens of each row.
        batch_size: Rows of a batch at most.
        generator: Decides the order.
        accumulation: Batches of an optimizer step at most.
        targets: Tokens of each row's target, where it is padded on its own (`targets_of`): the rows of a batch are
            then of similar length in both.

    Returns:
        Batches that together hold each row once.
    """
    order = torch.randperm(len(lengths), generator=generator).tolist()
    pools = parts([len(batch) for batch in _parted(order, count_of(len(order), batch_size, accumulation))], _POOL)
    batches: list[list[int]] = []
    for pool, sizes in zip(_cut(order, [sum(sizes) for sizes in pools]), pools, strict=True):
        if min(sizes) < max(sizes):  # else it were always the longest rows whose batch is smaller, and which weigh more
            sizes = [sizes[i] for i in torch.randperm(len(sizes), generator=generator).tolist()]
        if targets is None:
            batches += _cut(sorted(pool, key=lambda i: lengths[i]), sizes)
        else:
            batches += _tiles(pool, lengths, targets, sizes)
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


def _tiles(
    pool: Sequence[int], lengths: Sequence[int], targets: Sequence[int], sizes: Sequence[int]
) -> list[list[int]]:
    """Batches of these sizes, of rows near each other in two lengths (sort-tile-recursive, Leutenegger et al. 1997).

    Rows sorted by the one length are cut into slabs, and each slab, sorted by the other, into batches.
    """
    slabs = parts(sizes, round(math.sqrt(len(sizes))) or 1)
    rows = _cut(sorted(pool, key=lambda i: (lengths[i], targets[i])), [sum(slab) for slab in slabs])
    return [
        batch
        for members, slab in zip(rows, slabs, strict=True)
        for batch in _cut(sorted(members, key=lambda i: targets[i]), slab)
    ]


def steps_of(rows: int, batch_size: int, accumulation: int) -> int:
    """Optimizer steps of an epoch of so many rows."""
    return math.ceil(math.ceil(rows / batch_size) / accumulation)


def count_of(rows: int, batch_size: int, accumulation: int) -> int:
    """Batches of an epoch of so many rows: a multiple of its steps, as long as each batch has a row."""
    steps = steps_of(rows, batch_size, accumulation)
    return min(rows, steps * math.ceil(math.ceil(rows / batch_size) / steps)) if rows else 0


def batches_of_step(rows: int, batch_size: int, accumulation: int) -> int:
    """Batches of an optimizer step of so many rows."""
    return math.ceil(count_of(rows, batch_size, accumulation) / steps_of(rows, batch_size, accumulation)) if rows else 0


def largest(rows: int, batch_size: int, accumulation: int) -> int:
    """Rows of the largest batch of so many."""
    return math.ceil(rows / count_of(rows, batch_size, accumulation)) if rows else 0


def evenly(members: Sequence[T], most: int) -> list[list[T]]:
    """The members in order, in as few parts as can be of `most` at most, which differ by one member at most."""
    return _parted(members, math.ceil(len(members) / most))


def _parted(members: Sequence[T], count: int) -> list[list[T]]:
    """The members in order, in so many parts, which differ by one member at most."""
    bounds = [math.ceil(len(members) * part / count) for part in range(count + 1)] if count else [0]
    return [list(members[start:end]) for start, end in pairwise(bounds)]


def _cut(members: Sequence[T], sizes: Sequence[int]) -> list[list[T]]:
    """The members in order, in parts of these sizes."""
    return [list(members[start:end]) for start, end in pairwise(accumulate(sizes, initial=0))]


def by_length(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """Row indices in batches from the longest to the shortest row, for prediction."""
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    return parts(order, batch_size)


def sizes_of(examples: Sequence[Example]) -> list[int]:
    """Tokens of each encoded row, those of its target too."""
    return [len(example["input_ids"]) + len(example.get("labels", ())) for example in examples]


def lengths_of(examples: Sequence[Example]) -> list[int]:
    """Tokens of each encoded row."""
    return [len(example["input_ids"]) for example in examples]


def targets_of(examples: Sequence[Example]) -> list[int] | None:
    """Tokens of each row's target; None where labels belong to the tokens that are read."""
    targets = [len(example["labels"]) for example in examples if isinstance(example.get("labels"), list)]
    return targets if len(targets) == len(examples) and targets != lengths_of(examples) else None
