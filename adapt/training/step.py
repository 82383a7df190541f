"""The first half of an optimizer step: gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from adapt.tasks import Example, Kind
from adapt.training.halving import parts

Batch = Mapping[str, torch.Tensor]


def gradients(
    model: nn.Module, kind: Kind, group: Sequence[Sequence[Example]], accelerator: Any, rows: int
) -> torch.Tensor:
    """The mean loss of a group of batches, whose gradient is added to the model's.

    Batches are averaged by their rows. One of more than `rows` rows is gone through in parts, which are averaged by
    the terms of their losses, so that together they are the batch.

    Args:
        model: In training mode.
        kind: Collates and computes the loss.
        group: The encoded rows of each batch.
        accelerator: Knows device and precision.
        rows: Most rows of a forward pass.
    """
    group_rows = sum(len(batch) for batch in group)
    total = torch.zeros((), device=accelerator.device)
    for members in group:
        for part in parts(members, rows):
            batch = on(kind.collate(part), accelerator.device)
            with accelerator.autocast():
                loss = kind.loss(model, batch)
            weight = len(members) / group_rows
            if len(part) < len(members):
                weight *= kind.terms(part) / max(1, kind.terms(members))
            share = loss * weight
            accelerator.backward(share)
            total += share.detach()
    return total


def on(batch: Batch, device: torch.device) -> dict[str, torch.Tensor]:
    """The batch on a device."""
    return {name: value.to(device, non_blocking=True) for name, value in batch.items()}
