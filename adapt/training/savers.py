"""What a budget does to a model to save memory."""

from __future__ import annotations

from torch import nn

from adapt.backbones.checkpointing import checkpoint_layers
from adapt.backbones.chunked import chunk_logits
from adapt.spec import Budget


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
