"""Batches of rows of similar length in a seeded order."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from adapt.tasks import Example
from adapt.training.halving import parts

_POOL = 50
"""Batches' worth of shuffled rows that are sorted by length together: little padding, still a random order."""


def length_bucketed(lengths: Sequence[int], batch_size: int, generator: torch.Generator) -> list[list[int]]:
    """Row indices in batches of similar length, shuffled between and within buckets.

    Args:
        lengths: Tokens of each row.
        batch_size: Rows of a batch; the last one may be smaller.
        generator: Decides the order.

    Returns:
        Batches that together hold each row once.
    """
    order = torch.randperm(len(lengths), generator=generator).tolist()
    batches: list[list[int]] = []
    for pool in parts(order, _POOL * batch_size):
        batches += parts(sorted(pool, key=lambda i: lengths[i]), batch_size)
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


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
