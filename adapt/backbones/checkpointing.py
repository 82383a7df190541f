"""Gradient checkpointing of a backbone's layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adapt.spec import Unsupported

if TYPE_CHECKING:
    from torch import nn


def checkpoint_layers(model: nn.Module) -> None:
    """Compute the activations of each layer again in the backward pass, instead of keeping them (Chen et al. 2016).

    It applies in training mode alone. Layers behind a memo are never trained, and stay as they are.

    Raises:
        Unsupported: transformers does not have it for this architecture.
    """
    from transformers import PreTrainedModel

    from adapt.backbones.memo import Memo

    if any(isinstance(module, Memo) for module in model.modules()):
        return
    body: Any = next(module for module in model.modules() if isinstance(module, PreTrainedModel))
    if not body.supports_gradient_checkpointing:
        raise Unsupported(f"transformers has no gradient checkpointing for '{body.config.model_type}'")
    # its name in recent releases of transformers 5, and in earlier ones
    enable = getattr(body, "activation_checkpointing_enable", None) or body.gradient_checkpointing_enable
    enable({"use_reentrant": False})  # the other kind needs an input with a gradient, which frozen embeddings lack
