"""An attention function that puts learned keys and values in front, registered with transformers.

transformers hands the attention module to whichever function its configuration names, after rotary positions and the
generation cache. Ours looks the prefix up on that module, joins it, widens masks and position biases on the left, and
delegates to eager or sdpa. No position is used up, nothing enters the cache, and outputs keep their shapes.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from adapt.backbones.attended import own_keys
from adapt.backbones.calls import longest_of
from adapt.backbones.classes import configs_of
from adapt.backbones.swapped import swapped
from adapt.spec import Unsupported
from adapt.strategies.prefix_kv import KeysValues, PrefixKV, prefix_of, record, recording
from adapt.strategies.prefix_layers import check_coverage, stacks_of

if TYPE_CHECKING:
    from collections.abc import Callable, Container

_OF_TYPES = re.compile("scalar type|same dtype")
"""What torch says where a model multiplies tensors of two types, as XLNet's does under autocast."""
_NAME = "adapt_prefix_"
_KERNELS = ("eager", "sdpa")


def attach(
    model: Any, tokens: int, init: str = "activations", among: Container[str] | None = None, *, gated: bool = False
) -> list[PrefixKV]:
    """Give every attention module of a model, self and cross, encoder and decoder, trainable keys and values.

    Layers that share an attention module, as in ALBERT, share its prefix. The model's configuration is changed in
    place, so that its attention goes through this file; what is trainable otherwise is left as it is.

    Args:
        model: A transformers model, with or without a head.
        tokens: Key-value pairs that each attention module gets.
        init: `activations`, the keys and values of random words of the vocabulary, or `random`.
        among: Names within the base model of the modules that get a prefix; None: all.
        gated: The prefix is attended to apart from the text, by a gate that is shut at the start.

    Returns:
        The prefixes, in the order of the modules.

    Raises:
        Unsupported: The attention implementation is neither eager nor sdpa, or some attention of the model cannot
            carry a prefix.
    """
    base = model.base_model
    _route(model)
    found = _dry_run(base, tokens)
    check_coverage(base, found)
    names = {module: name for name, module in base.named_modules()}
    for module, (keys, values) in found.items():
        if among is None or names[module] in among:
            module.add_module("prefix", PrefixKV(keys, values, init, gated=gated))
    return [module for module in model.modules() if isinstance(module, PrefixKV)]


def _route(model: Any) -> None:
    configs = configs_of(model)
    for kernel in map(kernel_of, configs):
        if kernel not in _KERNELS:
            raise Unsupported(f"prefix tuning needs attn_implementation='eager' or 'sdpa', not '{kernel}'")
    for config in configs:
        config._attn_implementation = _NAME + kernel_of(config)
    if model.base_model.config.model_type == "deberta-v2":
        from adapt.strategies import prefix_deberta

        prefix_deberta.route(model)


def kernel_of(config: Any) -> str:
    """The attention kernel that a model's configuration names, with a prefix in front of it or without."""
    return str(config._attn_implementation).removeprefix(_NAME)


def _dry_run(base: Any, tokens: int) -> dict[nn.Module, KeysValues]:
    """Keys and values, (heads, tokens, size), of random words in each attention module that can carry a prefix."""
    device = next(base.parameters()).device
    length = min(tokens, longest_of(base))  # as many rows as the backbone's positions ask for
    shape = (-(-tokens // length), length)
    words = torch.randint(0, base.config.vocab_size, shape, device="cpu").to(device)
    inputs: dict[str, Any] = {"input_ids": words, "attention_mask": torch.ones_like(words)}
    if len(stacks_of(base)) == 2:
        inputs["decoder_input_ids"] = words
    if getattr(base.config, "use_cache", False):  # T5's would have no room where the decoder is the deeper one
        inputs["use_cache"] = False
    training = base.training
    meta = device.type == "meta"  # planning: there are no weights
    low = base.dtype != torch.float32 and not meta
    autocast = torch.autocast("cpu" if meta else device.type, torch.bfloat16, enabled=low)
    # a pooler has no attention, and a fresh one is float32 where the rest is not
    pooler = {"pooler": nn.Identity()} if base._modules.get("pooler") is not None else {}
    try:
        with recording() as found, torch.no_grad(), swapped(base, **pooler), autocast:
            base.eval()(**inputs)
    except RuntimeError as error:
        if not _OF_TYPES.search(str(error)):
            raise
        raise Unsupported(
            f"where a prefix would go is seen by a pass before training, which fails in '{base.config.model_type}' "
            f"({str(error).splitlines()[0]})"
        ) from error
    base.train(training)

    def flat(rows: torch.Tensor) -> torch.Tensor:
        return rows.transpose(0, 1).flatten(1, 2)[:, :tokens]

    return {module: (flat(keys), flat(values)) for module, (keys, values) in found.items()}


def _prefixed(kernel: str) -> Callable[..., Any]:
    def attention(
        module: nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        record(module, key, value)
        inner = _kernel(kernel, module)
        prefix = prefix_of(module)
        if prefix is None:
            return inner(module, query, key, value, attention_mask, **kwargs)
        if prefix.gate is not None:
            out, weights = inner(module, query, key, value, attention_mask, **kwargs)
            scale = kwargs.get("scaling")
            scale = query.shape[-1] ** -0.5 if scale is None else scale
            own = prefix.attend(query, scale, kwargs.get("dropout", 0.0), fused=kernel == "sdpa")
            return out + own.transpose(1, 2), weights
        if kernel == "sdpa":  # its mask-free causal path would hide the wrong columns: say the mask in full
            causal = kwargs.pop("is_causal", None)
            causal = getattr(module, "is_causal", True) if causal is None else causal
            if attention_mask is None and causal and query.shape[2] > 1:
                # with more keys than queries the rest is a static cache not yet filled; transformers drops it too
                attention_mask = query.new_ones(query.shape[2], key.shape[2], dtype=torch.bool).tril()[None, None]
            kwargs["is_causal"] = False
        key, value = prefix.join(key, value)
        if attention_mask is not None:
            visible: float = True if attention_mask.dtype == torch.bool else 0.0
            attention_mask = F.pad(attention_mask, (prefix.tokens, 0), value=visible)
        if kwargs.get("position_bias") is not None:  # T5: a prefix is at no distance
            kwargs["position_bias"] = F.pad(kwargs["position_bias"], (prefix.tokens, 0))
        out, weights = inner(module, query, key, value, attention_mask, **kwargs)
        return out, None if weights is None else own_keys(weights, prefix.tokens)

    return attention


def _kernel(name: str, module: nn.Module) -> Callable[..., Any]:
    if name != "eager":
        return ALL_ATTENTION_FUNCTIONS[name]
    if getattr(module, "reorder_and_upcast_attn", False):  # GPT-2 asks for this by the name 'eager', which ours is not
        return _upcast
    for cls in type(module).__mro__:  # each modelling file has its own
        function = getattr(sys.modules[cls.__module__], "eager_attention_forward", None)
        if function is not None:
            return function
    raise Unsupported(f"prefix tuning finds no eager attention for {type(module).__name__}; load the model with sdpa")


def _upcast(
    module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, **_: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    return module._upcast_and_reordered_attn(query, key, value, mask)


for _kernel_name in _KERNELS:
    ALL_ATTENTION_FUNCTIONS.register(_NAME + _kernel_name, _prefixed(_kernel_name))
    ALL_MASK_ATTENTION_FUNCTIONS.register(_NAME + _kernel_name, ALL_MASK_ATTENTION_FUNCTIONS[_kernel_name])
