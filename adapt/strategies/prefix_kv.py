"""The learned keys and values of one attention module, and what a dry run records about it."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Iterator

KeysValues = tuple[torch.Tensor, torch.Tensor]
_recorded: ContextVar[dict[nn.Module, KeysValues] | None] = ContextVar("adapt_prefix_recorded", default=None)


class PrefixKV(nn.Module):
    """Learned keys and values of one attention module; the depths that share the module share them."""

    gate: nn.Parameter | None
    """(key-value heads): its tanh is what `attend` multiplies by; None: keys and values join those of the text."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, init: str, *, gated: bool = False) -> None:
        """
        Args:
            keys: (key-value heads, tokens, key size): keys of real words, or only a shape where `init` is `random`.
            values: (key-value heads, tokens, value size), likewise.
            init: `activations` or `random`.
            gated: Whether there is a gate, which is shut.
        """
        super().__init__()
        keys, values = keys.float(), values.float()
        if init == "random":
            keys, values = torch.randn_like(keys) * 0.02, torch.randn_like(values) * 0.02
        self.keys = nn.Parameter(keys.clone())
        self.values = nn.Parameter(values.clone())
        self.gate = nn.Parameter(keys.new_zeros(len(keys))) if gated else None
        self.enabled = True

    @property
    def tokens(self) -> int:
        """Key-value pairs of each head."""
        return self.keys.shape[1]

    def join(self, key: torch.Tensor, value: torch.Tensor) -> KeysValues:
        """(batch, heads, length, size) to (batch, heads, tokens + length, size)."""
        return torch.cat([_rows(self.keys, key), key], 2), torch.cat([_rows(self.values, value), value], 2)

    def attend(self, query: torch.Tensor, scale: float, dropout: float, *, fused: bool = False) -> torch.Tensor:
        """Attention to the prefix alone, with a softmax of its own, by the gate (Zhang et al. 2023, equations 6 to 8).

        Args:
            query: (batch, heads, length, key size); heads are a multiple of the key-value heads, which share one
                in turn.
            scale: What scores are multiplied by.
            dropout: Probability of a weight to be zeroed.
            fused: Take torch's fused attention; False: the weights are made.

        Returns:
            (batch, heads, length, value size).
        """
        assert self.gate is not None
        groups = query.unflatten(1, (len(self.gate), -1))
        rows = groups.flatten(2, 3)
        if fused:
            keys, values = _rows(self.keys, query), _rows(self.values, query)
            out = F.scaled_dot_product_attention(rows, keys, values, dropout_p=dropout, scale=scale)
        else:
            scores = rows @ self.keys.to(query.dtype).transpose(-2, -1) * scale
            weights = F.dropout(scores.softmax(-1, dtype=torch.float32).to(query.dtype), dropout)
            out = weights @ self.values.to(query.dtype)
        out = out * self.gate.tanh().to(query.dtype)[:, None, None]
        return out.unflatten(2, groups.shape[2:4]).flatten(1, 2)


def _rows(prefix: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    return prefix.to(own.dtype).expand(own.shape[0], -1, -1, -1)


def prefix_of(module: nn.Module) -> PrefixKV | None:
    """The module's prefix where it has one that is switched on."""
    prefix = getattr(module, "prefix", None)
    return prefix if isinstance(prefix, PrefixKV) and prefix.enabled else None


@contextmanager
def recording() -> Iterator[dict[nn.Module, KeysValues]]:
    """Collect the keys and values that each attention module computes first, in this thread alone."""
    found: dict[nn.Module, KeysValues] = {}
    token = _recorded.set(found)
    try:
        yield found
    finally:
        _recorded.reset(token)


def is_recording() -> bool:
    """Whether a dry run is under way."""
    return _recorded.get() is not None


def record(module: nn.Module, key: torch.Tensor, value: torch.Tensor) -> None:
    """In a dry run, note the module's keys and values, (batch, heads, length, size)."""
    found = _recorded.get()
    if found is not None:
        found.setdefault(module, (key.clone(), value.clone()))
