"""Losses of language models, shared by seq2seq and causal LM: from all logits at once, or from those of a few tokens.

With a vocabulary of 150,000 the float32 logits of 8 texts of 512 tokens take 2.5 GB, and as much again for their
gradient. With the budget's `loss_chunk` only so many tokens' logits are held at a time: they are made from the hidden
states chunk by chunk and again in the backward pass; those of labels that take no part are never made.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adapt.backbones.chunked import before_logits, loss_chunk
from adapt.tasks.tokens import IGNORED, mean_loss, token_losses

if TYPE_CHECKING:
    import torch
    from torch import nn


def mean_language_loss(model: nn.Module, inputs: Mapping[str, Any], labels: torch.Tensor) -> torch.Tensor:
    """Mean negative log-likelihood of the labels that count, a float32 scalar; 0 where there are none.

    Args:
        model: A language model.
        inputs: What it is called with.
        labels: (batch, length): what each of its first `length` positions is to predict; `IGNORED` takes no part.
    """
    tokens = loss_chunk(model)
    if tokens is None:
        return mean_loss(_logits(model, inputs, labels), labels)
    return _losses(model, inputs, labels, tokens).sum() / (labels != IGNORED).sum().clamp(min=1)


def language_losses(model: nn.Module, inputs: Mapping[str, Any], labels: torch.Tensor) -> torch.Tensor:
    """The loss of each label, (batch, length), as `token_losses`; see `mean_language_loss` for the arguments."""
    import torch

    tokens = loss_chunk(model)
    if tokens is None:
        return token_losses(_logits(model, inputs, labels), labels)
    losses = torch.zeros(labels.shape, dtype=torch.float32, device=labels.device)
    losses[labels != IGNORED] = _losses(model, inputs, labels, tokens)
    return losses


def _logits(model: nn.Module, inputs: Mapping[str, Any], labels: torch.Tensor) -> torch.Tensor:
    return model(**inputs).logits[:, : labels.shape[1]]


def _losses(model: nn.Module, inputs: Mapping[str, Any], labels: torch.Tensor, tokens: int) -> torch.Tensor:
    """Losses of the labels that count, one after the other, from the logits of `tokens` of them at a time."""
    import torch
    from torch.nn import functional as F
    from torch.utils.checkpoint import checkpoint

    states, logits = before_logits(model, inputs)
    learnt = labels != IGNORED
    hidden, wanted = states[:, : labels.shape[1]][learnt], labels[learnt]

    def losses(part: torch.Tensor, of: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(logits(part[None])[0].float(), of, reduction="none")

    parts = zip(hidden.split(tokens), wanted.split(tokens), strict=True)
    return torch.cat([checkpoint(losses, part, of, use_reentrant=False) for part, of in parts])
