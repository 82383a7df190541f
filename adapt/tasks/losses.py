"""Negative log-likelihoods of tokens, labels that take no part in them, and outputs that are not finite."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from adapt.spec import Diverged
from adapt.tasks.kind import Example

if TYPE_CHECKING:
    import torch

IGNORED = -100
"""Label of a token that takes no part in the loss."""


def token_losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Negative log-likelihood of each label in float32 nats, 0 where the label is `IGNORED`.

    Args:
        logits: (batch, length, vocabulary), in any precision.
        labels: (batch, length).

    Returns:
        (batch, length).
    """
    import torch
    from torch.nn import functional as F

    losses = torch.zeros(labels.shape, dtype=torch.float32, device=logits.device)
    learnt = labels != IGNORED
    losses[learnt] = F.cross_entropy(logits[learnt].float(), labels[learnt], reduction="none")
    return losses


_fixed_sizes = False


@contextmanager
def fixed_sizes() -> Iterator[None]:
    """Have `mean_loss` make only tensors whose size does not depend on the labels, as CUDA graphs need."""
    global _fixed_sizes
    before, _fixed_sizes = _fixed_sizes, True
    try:
        yield
    finally:
        _fixed_sizes = before


def mean_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean of `token_losses` over the labels that count, a float32 scalar; 0 where there are none."""
    from torch.nn import functional as F

    learnt = labels != IGNORED
    if _fixed_sizes:
        losses = F.cross_entropy(logits.float().flatten(0, -2), labels.flatten(), ignore_index=IGNORED, reduction="sum")
        return losses / learnt.sum().clamp(min=1)
    # a sum over a count, not a mean: a batch may hold nothing to be learnt
    return F.cross_entropy(logits[learnt].float(), labels[learnt], reduction="sum") / learnt.sum().clamp(min=1)


def learnt_labels(examples: Sequence[Example], first: int = 0) -> int:
    """Labels that take part in the loss, from the label `first` of each row on."""
    return sum(label != IGNORED for example in examples for label in example["labels"][first:])


def unigram(found: Counter[int], vocabulary: int) -> Callable[[Iterable[int]], float]:
    """The summed negative log-likelihood, in nats, of tokens by their shares of those found in training, one added to
    the count of every token of the vocabulary (Laplace)."""
    total = found.total() + vocabulary
    return lambda tokens: math.fsum(math.log(total / (found[token] + 1)) for token in tokens)


def check_finite(outputs: Sequence[float] | Sequence[torch.Tensor]) -> None:
    """
    Raises:
        Diverged: A number, or one of a tensor, that the model gave is not finite.
    """
    for output in outputs:
        if not (math.isfinite(output) if isinstance(output, int | float) else bool(output.isfinite().all())):
            raise Diverged("the model's outputs are not finite; lower the learning rate")
