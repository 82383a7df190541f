"""What the generators share: words, noise, and the way from rows to `Data`."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adapt.data.canonical import Data, dataset_of, hash_of
from adapt.spec import Problem, canonical

Row = dict[str, Any]
"""Canonical column to value."""

NOISE = 0.05
"""Share of the rows of every split whose answer breaks the rule."""


@dataclass(frozen=True)
class Words:
    """Nouns that the shipped vocabularies know, most as one token; each pool is words with spaces between them."""

    people: str
    things: str
    places: str

    def pool(self, part: str) -> list[str]:
        """The words of a pool."""
        return getattr(self, part).split()


def words_of(split: str, trained: Any, held_out: Any) -> Any:
    """The words of a split: held out in test, trained on in the others."""
    return held_out if split == "test" else trained


def generate(
    sizes: Mapping[str, int], seed: int, make: Callable[[random.Random, str, bool], Row], parts: Sequence[str]
) -> dict[str, list[Row]]:
    """Rows of every split.

    Args:
        sizes: Split to number of rows.
        seed: Decides the rows.
        make: One row, from a generator, the split, and whether its answer is to break the rule.
        parts: Columns that say what a row asks: no two rows agree in all of them.
    """
    rng = random.Random(seed)
    seen: set[str] = set()
    splits = {}
    for split, size in sizes.items():
        noisy = set(rng.sample(range(size), round(NOISE * size)))
        splits[split] = [_unseen(rng, split, index in noisy, make, parts, seen) for index in range(size)]
    return splits


def _unseen(rng: random.Random, split: str, noisy: bool, make: Any, parts: Sequence[str], seen: set[str]) -> Row:
    while True:
        row = make(rng, split, noisy)
        key = canonical([row[part] for part in parts])
        if key not in seen:
            seen.add(key)
            return row


def data_of(
    name: str, kind: str, problem: Problem, splits: Mapping[str, Sequence[Row]], labels: Sequence[str] = ()
) -> Data:
    """Canonical rows as `Data`."""
    columns = {split: {part: [row[part] for row in rows] for part in rows[0]} for split, rows in splits.items()}
    made = {split: dataset_of(of_split, problem) for split, of_split in columns.items()}
    return Data(name, problem, tuple(labels), made, hash_of(problem, labels, columns), kind)
