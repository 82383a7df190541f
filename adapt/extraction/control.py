"""Control tasks: what a probe can learn by heart, whatever a representation knows (Hewitt & Liang 2019)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from adapt.data.samples import generator

_STREAM = 100
"""Of random numbers, which no other choice by the seed draws from."""


def control_targets(types: Sequence[Sequence[str]], train: np.ndarray, seed: int) -> list[np.ndarray]:
    """Targets that a word type decides by chance, with the frequencies that the true ones have (section 2).

    Args:
        types: The word type of each vector of train, and of further sets, in which a type has the same target.
        train: True targets of the vectors of train: (vectors,) or (vectors, labels).
        seed: Decides the targets.

    Returns:
        For each set (vectors of the set, ...).
    """
    known = {word: i for i, word in enumerate(sorted({word for words in types for word in words}))}
    drawn = train[generator(seed, _STREAM).integers(len(train), size=len(known))]
    return [drawn[[known[word] for word in words]] for words in types]
