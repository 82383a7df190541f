"""What a model may be called with, and what a memo of its features sees of a call."""

from __future__ import annotations

from inspect import signature
from typing import Any

import torch

from adapt.backbones.families import positions_of


def asked(base: Any) -> str:
    """Name, within a base model, of the part that classes ask for features: a lone decoder (OPT's), or '' for all."""
    alone = hasattr(base, "decoder") and not hasattr(base, "encoder")
    return "decoder" if alone and "input_ids" in signature(base.decoder.forward).parameters else ""


def longest_of(model: Any) -> int:
    """Tokens that a model has positions for, by the configuration."""
    return positions_of(model.config.to_dict())


def padding_of(base: Any) -> int:
    """Index of the token that pads, by the configuration, which need not name one."""
    return max(getattr(base.config, "pad_token_id", None) or 0, 0)


def goes_on(kwargs: dict[str, Any]) -> bool:
    """Whether a call goes on from what earlier ones computed, which a memo does not know."""
    earlier = any(kwargs.get(name) is not None for name in ("past_key_values", "encoder_outputs", "inputs_embeds"))
    return earlier or bool(kwargs.get("use_cache"))


def rows_of(
    input_ids: torch.Tensor, attention_mask: torch.Tensor | None, kwargs: dict[str, Any], padding: int
) -> dict[str, torch.Tensor]:
    """The inputs of a call that have a value for each token, with their masks."""
    mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
    shape = input_ids.shape
    rows = {n: v for n, v in kwargs.items() if isinstance(v, torch.Tensor) and v.shape == shape and "decoder" not in n}
    rows |= {"input_ids": input_ids, "attention_mask": mask}
    target, target_mask = kwargs.get("decoder_input_ids"), kwargs.get("decoder_attention_mask")
    if target is not None:
        if target_mask is None:
            target_mask = _target_mask(target, input_ids, mask, padding)
        rows |= {"decoder_input_ids": target, "decoder_attention_mask": target_mask}
    return rows


def _target_mask(target: torch.Tensor, source: torch.Tensor, mask: torch.Tensor, padding: int) -> torch.Tensor:
    """(batch, target length): 1 up to the last token, for none sees a later one; T5 starts with its padding token."""
    if target.shape == source.shape and bool(mask[:, 0].all()) and torch.equal(target[:, 1:], source[:, :-1]):
        return mask  # the source again, shifted, as in classification
    real = target != padding
    real[:, 0] = True
    return real.flip(1).cumsum(1).flip(1).clamp(max=1)
