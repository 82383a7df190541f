"""What the generators share: words, noise, and the way from rows to `Data`."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from adapt.data.canonical import Data, dataset_of, hash_of
from adapt.spec import Problem, canonical

Row = dict[str, Any]
"""Canonical column to value."""

NOISE = 0.05
"""Share of the rows of every split whose answer breaks the rule."""


def word_lists(**words: str) -> dict[str, list[str]]:
    """What words name to the words, given as one text: nouns that the shipped vocabularies know, most as one token."""
    return {name: text.split() for name, text in words.items()}


def unique_rows(
    sizes: Mapping[str, int], seed: int, make: Callable[[random.Random, bool, bool], Row], parts: Sequence[str]
) -> dict[str, list[Row]]:
    """Rows of every split.

    Args:
        sizes: Split to number of rows.
        seed: Decides the rows.
        make: One row, from a generator, whether its words are the held-out ones, which only `test` has, and whether its
            answer is to break the rule.
        parts: Columns that say what a row asks: no two rows agree in all of them.
    """
    rng = random.Random(seed)
    seen: set[str] = set()
    splits: dict[str, list[Row]] = {}
    for split, size in sizes.items():
        noisy = set(rng.sample(range(size), round(NOISE * size)))
        rows = splits[split] = []
        while len(rows) < size:
            row = make(rng, split == "test", len(rows) in noisy)
            asked = canonical([row[part] for part in parts])
            if asked not in seen:
                seen.add(asked)
                rows.append(row)
    return splits


def data_of(
    name: str, kind: str, problem: Problem, splits: Mapping[str, Sequence[Row]], labels: Sequence[str] = ()
) -> Data:
    """Canonical rows as `Data`."""
    columns = {split: {part: [row[part] for row in rows] for part in rows[0]} for split, rows in splits.items()}
    made = {split: dataset_of(of_split, problem, labels) for split, of_split in columns.items()}
    return Data(name, problem, tuple(labels), made, hash_of(problem, labels, columns), kind)
