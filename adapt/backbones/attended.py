"""Attention weights on keys that are no tokens of the text: whether a model hands them out with the others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

_seen: ContextVar[set[int] | None] = ContextVar("adapt_extra_keys", default=None)


@contextmanager
def all_keys() -> Iterator[set[int]]:
    """Have `own_keys` leave the weights whole; gives the numbers of extra keys that it meets, in this thread alone."""
    found: set[int] = set()
    token = _seen.set(found)
    try:
        yield found
    finally:
        _seen.reset(token)


def own_keys(weights: torch.Tensor, extra: int) -> torch.Tensor:
    """The weights that an attention module hands out, without those on keys that are no tokens of the text.

    Args:
        weights: (batch, heads, queries, extra + keys).
        extra: Learned keys, which come first.

    Returns:
        (batch, heads, queries, keys); within `all_keys` the weights as they are.
    """
    found = _seen.get()
    if found is None:
        return weights[..., extra:]
    found.add(extra)
    return weights
