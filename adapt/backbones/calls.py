"""What a model may be called with, and what a memo of its features sees of a call."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from typing import Any

import torch

from adapt.backbones.families import positions_of


def lone_decoder(base: Any) -> str:
    """`decoder`, where a base model has that alone and other classes call it in the base's place (OPT); else empty."""
    alone = hasattr(base, "decoder") and not hasattr(base, "encoder")
    return "decoder" if alone and "input_ids" in signature(base.decoder.forward).parameters else ""


def longest_of(model: Any) -> int:
    """Tokens that a model has positions for, by the configuration that it was made with."""
    config, embeddings = model.config.to_dict(), getattr(model.base_model, "embeddings", None)
    padding = getattr(embeddings, "padding_idx", config.get("pad_token_id"))  # which loading sets to the tokenizer's
    return positions_of({**config, "pad_token_id": padding})


def padding_of(config: Any) -> int:
    """Index of the token that pads, by a configuration (transformers), which need not name one."""
    return max(getattr(config, "pad_token_id", None) or 0, 0)


_EARLIER = ("cache", "past_key_values", "encoder_outputs", "inputs_embeds")
"""Inputs that earlier calls computed; the first is what transformers calls the second from 5.24 on."""


def goes_on(call: Mapping[str, Any]) -> bool:
    """Whether a call has no token ids, or goes on from what earlier ones computed: of these a memo knows nothing."""
    earlier = any(call.get(name) is not None for name in _EARLIER)
    return call.get("input_ids") is None or earlier or bool(call.get("use_cache"))


def rows_of(call: Mapping[str, Any], padding: int) -> dict[str, torch.Tensor]:
    """The inputs of a call that have a value for each token, with their masks.

    Args:
        call: Inputs by name, `input_ids` (batch, length) among them.
        padding: Index of the token that pads.
    """
    ids, mask = call["input_ids"], call.get("attention_mask")
    mask = torch.ones_like(ids) if mask is None else mask
    each = {n: v for n, v in call.items() if isinstance(v, torch.Tensor) and v.shape == ids.shape}
    rows = {n: v for n, v in each.items() if "decoder" not in n}
    rows["attention_mask"] = mask
    target, target_mask = call.get("decoder_input_ids"), call.get("decoder_attention_mask")
    if target is not None:
        if target_mask is None:
            target_mask = _target_mask(target, ids, mask, padding)
        rows |= {"decoder_input_ids": target, "decoder_attention_mask": target_mask}
    return rows


def _target_mask(target: torch.Tensor, source: torch.Tensor, mask: torch.Tensor, padding: int) -> torch.Tensor:
    """(batch, target length): 1 up to the last token, for none sees a later one; T5 starts with its padding token."""
    if target.shape == source.shape and bool(mask[:, 0].all()) and torch.equal(target[:, 1:], source[:, :-1]):
        return mask  # the source again, shifted, as in classification
    real = target != padding
    real[:, 0] = True
    return real.flip(1).cumsum(1).flip(1).clamp(max=1)
