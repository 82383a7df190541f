"""An attention function that puts learned keys and values in front, registered with transformers.

transformers hands the attention module to whichever function its configuration names. Ours looks the prefix up on
that module, joins it, widens the mask on the left with visible columns and delegates to eager or sdpa.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from adapt.spec import Unsupported

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_NAME = "adapt_prefix_"
_KERNELS = ("eager", "sdpa")
KeysValues = tuple[torch.Tensor, torch.Tensor]
_record: dict[nn.Module, KeysValues] | None = None


class PrefixKV(nn.Module):
    """Learned keys and values of one attention module."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, init: str) -> None:
        """
        Args:
            keys: (heads, tokens, key size): keys of real words, or only a shape where `init` is `random`.
            values: (heads, tokens, value size), likewise.
            init: `activations` or `random`.
        """
        super().__init__()
        keys, values = keys.float(), values.float()
        if init == "random":
            keys, values = torch.randn_like(keys) * 0.02, torch.randn_like(values) * 0.02
        self.keys = nn.Parameter(keys.clone())
        self.values = nn.Parameter(values.clone())
        self.enabled = True

    def join(self, key: torch.Tensor, value: torch.Tensor) -> KeysValues:
        """(batch, heads, length, size) to (batch, heads, tokens + length, size)."""
        batch = key.shape[0]
        keys = self.keys.to(key.dtype).expand(batch, -1, -1, -1)
        values = self.values.to(value.dtype).expand(batch, -1, -1, -1)
        return torch.cat([keys, key], 2), torch.cat([values, value], 2)


def discover(base: Any, tokens: int) -> dict[nn.Module, KeysValues]:
    """Route the attention of `base` through this module and find its attention modules.

    Args:
        base: A transformers model; its configuration is changed in place.
        tokens: Random words of the vocabulary to run through it.

    Returns:
        Each attention module with its keys and values, (heads, tokens, size), for those words.

    Raises:
        Unsupported: The attention implementation is neither eager nor sdpa.
    """
    for config in {id(m.config): m.config for m in base.modules() if hasattr(m, "config")}.values():
        kernel = str(config._attn_implementation).removeprefix(_NAME)
        if kernel not in _KERNELS:
            raise Unsupported(f"prefix tuning needs eager or sdpa attention, not '{kernel}'")
        config._attn_implementation = _NAME + kernel
    device = next(base.parameters()).device
    words = torch.randint(0, base.config.vocab_size, (1, tokens), device="cpu").to(device)
    training = base.training
    low = base.dtype != torch.float32  # a fresh pooler is float32 even then
    with _recording() as found, torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=low):
        base.eval()(input_ids=words, attention_mask=torch.ones_like(words))
    base.train(training)
    return found


@contextmanager
def _recording() -> Iterator[dict[nn.Module, KeysValues]]:
    global _record
    found: dict[nn.Module, KeysValues] = {}
    _record = found
    try:
        yield found
    finally:
        _record = None


def _prefixed(kernel: str) -> Callable[..., Any]:
    def attention(
        module: nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        inner = _kernel(kernel, module)
        if _record is not None:
            _record.setdefault(module, (key[0].clone(), value[0].clone()))
        prefix = getattr(module, "prefix", None)
        if not isinstance(prefix, PrefixKV) or not prefix.enabled:
            return inner(module, query, key, value, attention_mask, **kwargs)
        tokens, length = prefix.keys.shape[1], query.shape[2]
        if kernel == "sdpa":  # its mask-free causal path would hide the wrong columns: say the mask in full
            causal = kwargs.pop("is_causal", None)
            causal = getattr(module, "is_causal", True) if causal is None else causal
            if attention_mask is None and causal and length > 1:
                attention_mask = query.new_ones(length, key.shape[2], dtype=torch.bool).tril()[None, None]
            kwargs["is_causal"] = False
        key, value = prefix.join(key, value)
        if attention_mask is not None:
            visible: float = True if attention_mask.dtype == torch.bool else 0.0
            attention_mask = F.pad(attention_mask, (tokens, 0), value=visible)
        out, weights = inner(module, query, key, value, attention_mask, **kwargs)
        return out, None if weights is None else weights[..., tokens:]

    return attention


def _kernel(name: str, module: nn.Module) -> Callable[..., Any]:
    if name == "eager":  # each modelling file has its own
        return sys.modules[type(module).__module__].eager_attention_forward
    return ALL_ATTENTION_FUNCTIONS[name]


for _kernel_name in _KERNELS:
    ALL_ATTENTION_FUNCTIONS.register(_NAME + _kernel_name, _prefixed(_kernel_name))
    ALL_MASK_ATTENTION_FUNCTIONS.register(_NAME + _kernel_name, ALL_MASK_ATTENTION_FUNCTIONS[_kernel_name])
