"""Attention maps made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np

from adapt.extraction import Attention


def made(weights: Any, **fields: Any) -> Attention:
    """Maps (layers, heads, tokens, prefix + tokens) of a text of single letters."""
    array = np.asarray(weights, dtype=np.float32)
    fields = {"tokens": tuple("abcdefgh"[: array.shape[2]]), "layers": tuple(range(1, len(array) + 1))} | fields
    return Attention(weights=array, **fields)


def drawn(layers: int, heads: int, tokens: int, prefix: int = 0, seed: int = 0) -> np.ndarray:
    """Random maps whose rows sum to 1."""
    return np.random.default_rng(seed).dirichlet(np.ones(prefix + tokens), (layers, heads, tokens))
