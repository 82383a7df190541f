"""One optimizer step, in the two halves between which the loop looks at what it got."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from adapt.tasks import Kind

Batch = Mapping[str, torch.Tensor]


def backpropagate(
    model: nn.Module, kind: Kind, accelerator: Any, batches: Sequence[Batch], clip: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Add the gradient of the mean loss over the rows of some batches to the trainable parameters', and clip it.

    Args:
        model: In training mode.
        kind: Computes the loss.
        accelerator: Knows precision and clipping.
        batches: On the model's device; each is one forward and backward pass.
        clip: Largest global L2 norm of the gradient.

    Returns:
        The loss and the gradient's norm before clipping, float32 scalars.
    """
    rows = sum(_rows(batch) for batch in batches)
    total = torch.zeros((), device=accelerator.device)
    for batch in batches:
        with accelerator.autocast():
            loss = kind.loss(model, batch)
        share = loss * (_rows(batch) / rows)
        accelerator.backward(share)
        total += share.detach()
    norm = accelerator.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], clip)
    return total, norm


def update(optimizer: torch.optim.Optimizer) -> None:
    """Apply the gradients, and let go of them."""
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def _rows(batch: Batch) -> int:
    return len(batch["input_ids"])
