"""Gradient checkpointing of a backbone's layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adapt.spec import Unsupported

if TYPE_CHECKING:
    from torch import nn


def checkpoint_layers(model: nn.Module) -> None:
    """Compute the activations of each layer again in the backward pass, instead of keeping them (Chen et al. 2016).

    It applies in training mode alone. Layers behind a memo are never trained, and stay as they are.

    Of torch's two kinds the non-reentrant one is taken, but for layers with weights in 8 bits: these keep their inputs
    where no hook of torch's sees them (bitsandbytes' MatMul8bitLt), so that only running them without gradients, as
    the reentrant kind does, lets go of them. That kind needs an input that has a gradient, which the output of the
    frozen embeddings is then given.

    Raises:
        Unsupported: transformers does not have it for this architecture.
    """
    from transformers import PreTrainedModel

    from adapt.backbones.lower import Lower
    from adapt.backbones.memo import Memo

    found = {type(module) for module in model.modules()}
    if Memo in found and Lower not in found:
        return
    body: Any = next(module for module in model.modules() if isinstance(module, PreTrainedModel))
    if not body.supports_gradient_checkpointing:
        raise Unsupported(f"transformers has no gradient checkpointing for '{body.config.model_type}'")
    reentrant = has_8_bit_weights(model)
    # its name in recent releases of transformers 5, and in earlier ones
    enable = getattr(body, "activation_checkpointing_enable", None) or body.gradient_checkpointing_enable
    enable({"use_reentrant": reentrant})
    if getattr(body, "_require_grads_hooks", None):  # transformers gives the other kind such an input, too
        body.disable_input_require_grads()
    if reentrant:
        body.enable_input_require_grads()


def has_8_bit_weights(model: nn.Module) -> bool:
    """Whether a parameter is held in 8 bits by bitsandbytes."""
    return any(type(parameter).__name__ == "Int8Params" for parameter in model.parameters())
