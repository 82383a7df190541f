"""Batches of rows of similar length in a seeded order."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from adapt.tasks import Example
from adapt.training.halving import parts

_POOL = 50
"""Batches' worth of shuffled rows that are sorted by length together: little padding, still a random order."""


def length_bucketed(
    lengths: Sequence[int], batch_size: int, generator: torch.Generator, targets: Sequence[int] | None = None
) -> list[list[int]]:
    """Row indices in batches of similar length, shuffled between and within buckets.

    Args:
        lengths: Tokens of each row.
        batch_size: Rows of a batch; the last one may be smaller.
        generator: Decides the order.
        targets: Tokens of each row's target, where it is padded on its own (`targets_of`): the rows of a batch are
            then of similar length in both.

    Returns:
        Batches that together hold each row once.
    """
    order = torch.randperm(len(lengths), generator=generator).tolist()
    batches: list[list[int]] = []
    for pool in parts(order, _POOL * batch_size):
        if targets is None:
            batches += parts(sorted(pool, key=lambda i: lengths[i]), batch_size)
        else:
            batches += _tiles(pool, lengths, targets, batch_size)
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


def _tiles(pool: Sequence[int], lengths: Sequence[int], targets: Sequence[int], batch_size: int) -> list[list[int]]:
    """Batches of rows near each other in two lengths (sort-tile-recursive, Leutenegger et al. 1997).

    Rows sorted by the one length are cut into slabs, and each slab, sorted by the other, into batches.
    """
    slab = round(math.sqrt(len(pool) / batch_size)) or 1
    slabs = parts(sorted(pool, key=lambda i: (lengths[i], targets[i])), slab * batch_size)
    return [batch for rows in slabs for batch in parts(sorted(rows, key=lambda i: targets[i]), batch_size)]


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
