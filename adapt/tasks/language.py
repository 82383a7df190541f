"""Losses of language models, shared by their task kinds: from all logits at once, or from those of a few tokens.

With a vocabulary of 150,000 the float32 logits of 8 texts of 512 tokens take 2.5 GB, and as much again for their
gradient. With the budget's `loss_chunk`, and on CPUs unasked, only so many tokens' logits are held at a time; those of
labels that take no part are never made (`adapt.backbones.chunked`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from adapt.spec import Unsupported
from adapt.tasks.losses import IGNORED, mean_loss, token_losses

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from torch import nn


class Learnt(NamedTuple):
    """What the losses of a batch are made from, a few tokens at a time."""

    states: torch.Tensor
    """(learnt, hidden), of the positions whose labels count."""
    labels: torch.Tensor
    """(learnt)."""
    logits: Callable[[torch.Tensor], torch.Tensor]
    """From (..., hidden) to (..., vocabulary)."""
    tokens: int
    """Positions whose logits are held at a time."""


def mean_language_loss(model: nn.Module, inputs: Mapping[str, Any], labels: torch.Tensor) -> torch.Tensor:
    """Mean negative log-likelihood of the labels that count, a float32 scalar; 0 where there are none.

    Args:
        model: A language model.
        inputs: What it is called with.
        labels: (batch, length): what each of its first `length` positions is to predict; `IGNORED` takes no part.
    """
    from adapt.backbones.chunked import summed_loss

    found = learnt_states(model, inputs, labels)
    if found is None:
        return mean_loss(_logits(model, inputs, labels), labels)
    return summed_loss(model, *found) / (labels != IGNORED).sum().clamp(min=1)


def language_losses(
    model: nn.Module, inputs: Mapping[str, Any], labels: torch.Tensor, *, few: bool = False
) -> torch.Tensor:
    """The loss of each label, (batch, length), as `token_losses`, without gradients; see `mean_language_loss`.

    Args:
        few: Hold the logits of a few tokens at a time on every device, and of one row of a model that changes its
            logits. All inputs are then tensors, (batch, length).
    """
    import torch

    from adapt.backbones.chunked import each_loss

    with torch.no_grad():
        found = learnt_states(model, inputs, labels, few=few)
        if found is None:
            if few and len(labels) > 1:
                rows = [{name: value[i : i + 1] for name, value in inputs.items()} for i in range(len(labels))]
                each = zip(rows, labels.split(1), strict=True)
                return torch.cat([language_losses(model, *row, few=True) for row in each])
            return token_losses(_logits(model, inputs, labels), labels)
        losses = torch.zeros(labels.shape, dtype=torch.float32, device=labels.device)
        losses[labels != IGNORED] = each_loss(*found)
    return losses


def row_losses(
    model: nn.Module, inputs: Mapping[str, Any], labels: torch.Tensor, *, few: bool = False
) -> list[dict[str, Any]]:
    """Of each row `nll`, the sum of its `language_losses` in nats, and `tokens`, how many labels that is of."""
    losses = language_losses(model, inputs, labels, few=few)
    counts = (labels != IGNORED).sum(-1)
    return [{"nll": math.fsum(row), "tokens": n} for row, n in zip(losses.tolist(), counts.tolist(), strict=True)]


def _logits(model: nn.Module, inputs: Mapping[str, Any], labels: torch.Tensor) -> torch.Tensor:
    return model(**inputs).logits[:, : labels.shape[1]]


def learnt_states(
    model: nn.Module, inputs: Mapping[str, Any], labels: torch.Tensor, *, few: bool = False
) -> Learnt | None:
    """What the losses of `labels` are made from; None where all logits are to be made at once.

    Raises:
        Unsupported: Chunks are asked for, and the model changes its logits.
    """
    from adapt.backbones.chunked import few_tokens, loss_chunk

    tokens = loss_chunk(model, inputs["input_ids"])
    if tokens is None and few:
        tokens = few_tokens(model)
    if tokens is None:
        return None
    found = _before_logits(model, inputs)
    if found is None:
        return None
    states, logits = found
    learnt = labels != IGNORED
    return Learnt(states[:, : labels.shape[1]][learnt], labels[learnt], logits, tokens)


def _before_logits(
    model: nn.Module, inputs: Mapping[str, Any]
) -> tuple[torch.Tensor, Callable[[torch.Tensor], torch.Tensor]] | None:
    """Hidden states, and what makes logits of them; None where the model changes its logits, unless chunks are asked
    for.

    Raises:
        Unsupported: Chunks are asked for, and the model changes its logits.
    """
    from adapt.backbones.chunked import before_logits

    try:
        return before_logits(model, inputs)
    except Unsupported:
        if getattr(model, "loss_chunk", None) is not None:
            raise
        return None


def mean_loss_at(
    model: nn.Module, inputs: Mapping[str, Any], places: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    """Mean negative log-likelihood of the tokens at some places, whose logits alone are made; a float32 scalar, 0 where
    there are none.

    Args:
        model: A language model.
        inputs: What it is called with.
        places: (asked), positions in the flat batch.
        targets: (asked), the tokens there; `IGNORED` takes no part, and there is none where logits are made a few
            tokens at a time.
    """
    from torch.nn import functional as F

    from adapt.backbones.chunked import summed_loss

    states, logits, tokens = _states_at(model, inputs, places)
    count = (targets != IGNORED).sum().clamp(min=1)
    if tokens is not None:
        return summed_loss(model, states, targets, logits, tokens) / count
    found = logits(states[None])[0].float()
    return F.cross_entropy(found, targets, ignore_index=IGNORED, reduction="sum") / count


def read_at_places(
    model: nn.Module,
    inputs: Mapping[str, Any],
    places: torch.Tensor,
    targets: torch.Tensor | None,
    most: int,
    known: Sequence[int] | None = None,
) -> list[Any]:
    """What a model says of some places, one after the other, without gradients.

    Args:
        model: A language model.
        inputs: What it is called with.
        places: (asked), positions in the flat batch.
        targets: (asked), the tokens there; None: they are not known.
        most: Tokens that are named.
        known: Tokens that can be named, where not all rows of the model are such.

    Returns:
        With targets pairs of negative log-likelihood in nats and whether it is the likeliest token; else the likeliest
        tokens with their probabilities, as pairs.
    """
    import torch
    from torch.nn import functional as F

    from adapt.backbones.chunked import few_tokens

    rows: list[Any] = []
    named: torch.Tensor | None = None
    with torch.no_grad():
        states, logits, tokens = _states_at(model, inputs, places)
        size = tokens or few_tokens(model) or max(1, len(places))
        for start in range(0, len(places), size):
            found = logits(states[None, start : start + size])[0].float()
            if targets is None:
                shares = found.softmax(-1)
                if known is not None and named is None:
                    named = torch.zeros(shares.shape[-1], dtype=torch.bool, device=shares.device)
                    named[[token for token in known if token < len(named)]] = True
                if named is not None:
                    shares = shares.masked_fill(~named, 0.0)
                likely = shares.topk(min(most, shares.shape[-1]))
                pairs = zip(likely.indices.tolist(), likely.values.tolist(), strict=True)
                rows += [list(zip(*pair, strict=True)) for pair in pairs]
            else:
                wanted = targets[start : start + size]
                losses = F.cross_entropy(found, wanted, reduction="none")
                rows += zip(losses.tolist(), (found.argmax(-1) == wanted).tolist(), strict=True)
    return rows


def _states_at(
    model: nn.Module, inputs: Mapping[str, Any], places: torch.Tensor
) -> tuple[torch.Tensor, Callable[[torch.Tensor], torch.Tensor], int | None]:
    """Hidden states at some places, what makes logits of them, and of how many tokens at a time (None: of all).

    Where the model changes its logits, these stand for the states, and are logits already.
    """
    from adapt.backbones.chunked import few_tokens, loss_chunk

    length = inputs["input_ids"].shape[1]  # beyond it some have states, and logits, of more (Perceiver's)
    tokens = loss_chunk(model, inputs["input_ids"])
    if tokens is not None or few_tokens(model) is not None:
        found = _before_logits(model, inputs)
        if found is not None:
            return found[0][:, :length].flatten(0, 1).index_select(0, places), found[1], tokens
    every = model(**inputs).logits[:, :length]
    return every.flatten(0, 1).index_select(0, places), lambda logits: logits, None
