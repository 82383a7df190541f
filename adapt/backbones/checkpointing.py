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
    if not _trains_layers(model):
        return
    body = _body(model)
    if not body.supports_gradient_checkpointing:
        raise Unsupported(f"transformers has no gradient checkpointing for '{body.config.model_type}'")
    reentrant = weight_bits(model) == 8
    # its name in recent releases of transformers 5, and in earlier ones
    enable = getattr(body, "activation_checkpointing_enable", None) or body.gradient_checkpointing_enable
    enable({"use_reentrant": reentrant})
    if getattr(body, "_require_grads_hooks", None):  # transformers gives the other kind such an input, too
        body.disable_input_require_grads()
    if reentrant:
        body.enable_input_require_grads()


def saves_memory(model: nn.Module) -> bool:
    """Whether there are layers that `checkpoint_layers` would change."""
    body = _body(model)
    return body is not None and _trains_layers(model) and bool(body.supports_gradient_checkpointing)


def _trains_layers(model: nn.Module) -> bool:
    """Whether not all layers are behind a memo."""
    from adapt.backbones.lower import Lower
    from adapt.backbones.memo import Memo

    found = {type(module) for module in model.modules()}
    return Memo not in found or Lower in found


def _body(model: nn.Module) -> Any:
    from transformers import PreTrainedModel

    return next((module for module in model.modules() if isinstance(module, PreTrainedModel)), None)


def weight_bits(model: nn.Module) -> int | None:
    """The bits that bitsandbytes holds weights in; None where it holds none."""
    found = {type(parameter).__name__ for parameter in model.parameters()}
    return 4 if "Params4bit" in found else 8 if "Int8Params" in found else None
