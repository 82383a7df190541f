"""Logits of a few tokens at a time: with a large vocabulary those of a whole batch take more memory than all else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from adapt.spec import Unsupported

if TYPE_CHECKING:
    import torch
    from torch import nn

_BIAS = "final_logits_bias"
"""What BART and its kin add to the logits after the output layer."""

_CHANGES = ("final_logit_softcapping", "logits_scaling", "logit_scale")
"""What configurations call a change of the logits after the output layer (Gemma 2, Granite, Cohere); 1: none."""


def chunk_logits(model: nn.Module, tokens: int) -> None:
    """Have the losses of a language model made from the logits of `tokens` tokens at a time; kept in `loss_chunk`.

    Raises:
        Unsupported: The model has no output layer over a vocabulary.
    """
    from adapt.backbones.classes import output_layer

    if output_layer(model) is None:
        raise Unsupported(f"{type(model).__name__} has no output layer over a vocabulary; leave loss_chunk out")
    model.loss_chunk = tokens  # type: ignore[assignment]


def loss_chunk(model: nn.Module) -> int | None:
    """Tokens whose logits may be held at a time; None: those of the whole batch."""
    return getattr(model, "loss_chunk", None)


def before_logits(
    model: nn.Module, inputs: Mapping[str, Any]
) -> tuple[torch.Tensor, Callable[[torch.Tensor], torch.Tensor]]:
    """What goes into the output layer, and what makes logits of it.

    The model runs as ever, but its output layer is given one position, whose logits tell whether the model does
    anything with them that is not known here.

    Args:
        model: A language model.
        inputs: What it is called with.

    Returns:
        (batch, length, hidden), and a function from (..., hidden) to (..., vocabulary).

    Raises:
        Unsupported: The model changes the logits after its output layer (scales or caps them).
    """
    import torch

    from adapt.backbones.classes import output_layer

    layer = output_layer(model)
    assert layer is not None
    bias = getattr(model, _BIAS, None)
    states: list[torch.Tensor] = []

    def keep(module: nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor]:
        states.append(args[0])
        return (args[0][:1, :1].detach(),)

    def logits(hidden: torch.Tensor) -> torch.Tensor:
        found = layer(hidden)
        return found if bias is None else found + bias.to(found.device)

    handle = layer.register_forward_pre_hook(keep)
    try:
        probe = model(**inputs).logits
    finally:
        handle.remove()
    (hidden,) = states
    changed = [name for name in _CHANGES if getattr(model.config, name, None) not in (None, 1)]
    if changed:  # said here because a plan has no values to look at
        raise Unsupported(
            f"{type(model).__name__} changes its logits after the output layer ({changed[0]}); leave loss_chunk out"
        )
    if not getattr(model, "logits_known", False):
        with torch.no_grad():
            expected = logits(hidden[:1, :1])
        if not torch.equal(probe.float(), expected.float()):
            raise Unsupported(f"{type(model).__name__} changes its logits after the output layer; leave loss_chunk out")
        model.logits_known = True  # type: ignore[assignment]
    return hidden, logits
