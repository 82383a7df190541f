"""DeBERTa-v2 and -v3, whose attention does not go through transformers' attention interface.

Its forward stays transformers' own. While it runs, the prefix joins where the softmax is taken: scores of the prefix
columns enter it, and the prefix's values enter the product that follows. Masks are applied before, so they hide no
prefix column; relative positions (He et al. 2021, equation 4) have no meaning for a prefix and add nothing to its
scores; dropout falls on its probabilities as on all others.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from transformers.models.deberta_v2.modeling_deberta_v2 import DisentangledSelfAttention

from adapt.backbones.attended import own_keys
from adapt.spec import Unsupported
from adapt.strategies.prefix_kv import PrefixKV, is_recording, prefix_of, record

_SOFTMAX = (torch.softmax, torch.Tensor.softmax)


class PrefixedAttention(DisentangledSelfAttention):
    """Disentangled attention that a prefix joins."""

    def forward(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, Any]:
        """As transformers', with the prefix in front of the keys and values where there is one.

        Raises:
            Unsupported: The forward has not the one softmax, between two products, that the prefix joins.
        """
        prefix = prefix_of(self)
        if is_recording():
            record(self, self._heads(self.key_proj(hidden_states)), self._heads(self.value_proj(hidden_states)))
        elif prefix is None:
            return super().forward(hidden_states, *args, **kwargs)
        with _JoinAtSoftmax(self, prefix) as join:
            context, weights = super().forward(hidden_states, *args, **kwargs)
        join.check()
        if weights is not None and prefix is not None and prefix.gate is None:
            weights = own_keys(weights, prefix.tokens)
        return context, weights

    def _heads(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, length, hidden) to (batch, heads, length, size)."""
        return x.unflatten(-1, (self.num_attention_heads, -1)).transpose(1, 2)


class _JoinAtSoftmax(TorchFunctionMode):
    """Sees the torch functions of one forward of one attention module, in this thread alone."""

    def __init__(self, module: Any, prefix: PrefixKV | None) -> None:
        super().__init__()
        self.module, self.prefix = module, prefix
        self.query: torch.Tensor | None = None
        self.softmaxes = self.products = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        prefix = self.prefix
        if func is F.softmax or func in _SOFTMAX:  # the first is looked up now, for it may be another than at import
            self.softmaxes += 1
            if prefix is not None and prefix.gate is None and self.query is not None:
                return func(self._scores(prefix, self.query, args[0]), *args[1:], **kwargs)
        elif func is torch.bmm:
            if self.query is None:  # the first product is that of queries and keys
                self.query = args[0]
            elif self.softmaxes:
                self.products += 1
                if prefix is not None and prefix.gate is None:
                    return func(args[0], self._values(prefix, args[1]), **kwargs)
                if prefix is not None:
                    return func(*args, **kwargs) + self._apart(prefix, self.query)
        return func(*args, **kwargs)

    def _scores(self, prefix: PrefixKV, query: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """(batch, heads, length, length) to (batch, heads, length, tokens + length)."""
        query = query.unflatten(0, (-1, self.module.num_attention_heads))
        keys = prefix.keys.to(query.dtype) / self._root(query)
        return torch.cat([(query @ keys.transpose(1, 2)).to(scores.dtype), scores], -1)

    def _values(self, prefix: PrefixKV, values: torch.Tensor) -> torch.Tensor:
        """(batch * heads, length, size) to (batch * heads, tokens + length, size)."""
        own = values.unflatten(0, (-1, self.module.num_attention_heads))
        return prefix.join(own, own)[1].flatten(0, 1)

    def _apart(self, prefix: PrefixKV, query: torch.Tensor) -> torch.Tensor:
        """(batch * heads, length, size), of a prefix with a gate."""
        heads = query.unflatten(0, (-1, self.module.num_attention_heads))
        dropout = self.module.dropout.p if self.module.training else 0.0
        return prefix.attend(heads, 1 / self._root(query), dropout).flatten(0, 1)

    def _root(self, query: torch.Tensor) -> float:
        """What scores are divided by."""
        terms = 1 + sum(kind in self.module.pos_att_type for kind in ("c2p", "p2c"))
        return float((query.shape[-1] * terms) ** 0.5)

    def check(self) -> None:
        if (self.softmaxes, self.products) != (1, 1) or self.query is None:
            raise Unsupported(
                f"prefix tuning needs one softmax and one product after it in DeBERTa's attention; this version of "
                f"transformers has {self.softmaxes} and {self.products}"
            )


def route(model: nn.Module) -> None:
    """Let every disentangled attention of the model look for a prefix; without one it does as before."""
    for module in model.modules():
        if type(module) is DisentangledSelfAttention:
            module.__class__ = PrefixedAttention
