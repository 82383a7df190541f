"""What a budget makes of a model's passes, gradients (the first half of an optimizer step), and random numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from adapt.backbones.checkpointing import checkpoint_layers
from adapt.backbones.chunked import chunk_logits
from adapt.spec import Budget
from adapt.tasks import Example, Lesson
from adapt.training.halving import parts
from adapt.training.on_cpu import faster_on_cpu

Batch = Mapping[str, torch.Tensor]


def accelerator_for(budget: Budget) -> Any:
    """The accelerate object that knows device, precision and gradient clipping.

    Accelerate keeps its state for the whole process; it is set back so that each run has its own precision.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    made = Accelerator(mixed_precision="bf16" if budget.precision == "bf16" else "no", cpu=budget.device == "cpu")
    made.gradient_accumulation_steps = 1  # the loop's own; a launcher's variable would divide the loss by it once more
    return made


def save_memory(model: nn.Module, budget: Budget) -> None:
    """Checkpoint the model's layers and have its loss made in chunks, where the budget says so.

    Raises:
        Unsupported: transformers has no gradient checkpointing for the architecture; or a loss in chunks is asked for,
            and the model does with its logits what is not known.
    """
    if budget.checkpointing:
        checkpoint_layers(model)
    if budget.loss_chunk is not None:
        chunk_logits(model, budget.loss_chunk)


@torch.enable_grad()
def gradients(
    model: nn.Module,
    lesson: Lesson,
    group: Sequence[Sequence[Example]],
    accelerator: Any,
    rows: int,
    *,
    terms_a_row: float | None = None,
    graphs: Callable[[Sequence[Example], float], torch.Tensor] | None = None,
) -> torch.Tensor:
    """The loss of a group of batches, whose gradient is added to the model's.

    It is the summed loss over the terms (rows, or tokens that are learnt) that so many rows have on average. So each
    token of an epoch weighs alike; in means of each batch's own tokens those of short rows, which length puts into
    batches of their own, would weigh more than others, and a model would learn to stop early. A batch of more than
    `rows` rows is taken in parts, of which each is weighted by its terms, so that the group is as one batch, but for
    what dropout draws, and where features are standardised, in the first epoch by those seen so far. Gradients are made
    even where the caller has switched them off.

    Args:
        model: In training mode.
        lesson: Collates and computes the loss.
        group: The encoded rows of each batch.
        accelerator: Knows device and precision.
        rows: Most rows of a forward pass.
        terms_a_row: Terms that a training row has on average; None: as many as those of this group.
        graphs: `adapt.training.graphs.Graphs` of this model, lesson and accelerator; None: each operation is launched
            by itself.
    """
    if terms_a_row is None:
        terms = float(sum(lesson.terms(batch) for batch in group))
    else:
        terms = terms_a_row * sum(map(len, group))
    total = torch.zeros((), device=accelerator.device)
    for members in group:
        for part in parts(members, rows):
            weight = lesson.terms(part) / (terms or 1.0)
            if graphs is not None:
                total += graphs(part, weight)
            else:
                total += one_pass(model, lesson, accelerator, on(lesson.collate(part), accelerator.device), weight)
    return total


def clip_of(clip: float, terms: float, usual: float) -> float:
    """The norm that the gradient of a group of batches is clipped to.

    It is the budget's for as many terms as the rows have on average, and else goes with the square root of their
    number, as does the norm of a sum of gradients that are mostly noise. One norm for all would cut the batches of long
    rows most, so that their tokens weighed less than others.

    Args:
        clip: The budget's.
        terms: Of the group.
        usual: Terms that as many training rows have on average.
    """
    return clip * math.sqrt(terms / (usual or 1.0))


def one_pass(
    model: nn.Module, lesson: Lesson, accelerator: Any, batch: Batch, weight: float | torch.Tensor
) -> torch.Tensor:
    """Forward and backward: the mean loss of a batch times its weight, whose gradient is added to the model's.

    Args:
        model: In training mode.
        lesson: Computes the loss.
        accelerator: Knows precision.
        batch: On the device.
        weight: A number, or a scalar on the device.
    """
    with faster_on_cpu():
        with accelerator.autocast():
            loss = lesson.loss(model, batch)
        share = loss * weight
        accelerator.backward(share)  # draws again for checkpointed layers
    return share.detach()


def on(batch: Batch, device: torch.device) -> dict[str, torch.Tensor]:
    """The batch on a device."""
    return {name: value.to(device, non_blocking=True) for name, value in batch.items()}


def random_state(device: str) -> list[torch.Tensor]:
    """What decides the random numbers drawn next, also on a device such as `cuda:1`: dropout, skipped layers."""
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.startswith("cuda") else [])]


def set_random_state(state: Sequence[torch.Tensor], device: str = "cuda") -> None:
    """Draw the same random numbers again as after `random_state` of the device."""
    torch.set_rng_state(state[0])
    if len(state) > 1:
        torch.cuda.set_rng_state(state[1], device)
