"""A start from counts of the corpus, which brings a small model past its first plateau."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from adapt.pretrain.corpus import before_padding, check_vocabulary
from adapt.spec import OptionError

MOST_WORDS = 10_000
"""Of a vocabulary whose counts are held and taken apart as a whole: about 7 GB and several minutes."""


def warm_start(model: Any, rows: Tensor, window: int = 4, period: float = 200.0) -> None:
    """Start a fresh language model from counts of its corpus instead of from noise alone, in float32.

    Word embeddings: the singular vectors, scaled by the roots of the singular values, of the positive pointwise
    mutual information of each word with the words up to `window` tokens to its left and, apart, to its right
    (Levy & Goldberg 2014; Levy et al. 2015), brought to the standard deviation of the noise; words that never occur
    keep their noise. Learnt position embeddings, where they stand in BERT's place: sinusoids (Vaswani et al. 2017) of
    periods up to 2 pi `period` tokens. Output bias, where it has one of each word: log frequencies. `rows` is
    (rows, length), from `pack` or `pack_pairs`; padding at its end does not count.

    Memory grows with the square of the vocabulary, time with its cube: `OptionError` above `MOST_WORDS`, and where the
    embeddings are wider than the vocabulary is large.
    """
    words = model.get_input_embeddings().weight
    positions = getattr(getattr(model.base_model, "embeddings", None), "position_embeddings", None)
    bias = getattr(model.get_output_embeddings(), "bias", None)
    size, width = words.shape
    if size < width:
        raise OptionError(f"a vocabulary of {size} cannot fill embeddings of width {width}: use a smaller hidden_size")
    if size > MOST_WORDS:
        raise OptionError(
            f"a vocabulary of {size} is too large for a start from counts, which takes at most {MOST_WORDS}: do "
            "without warm_start, or train a smaller tokenizer"
        )
    check_vocabulary(int(rows.max()) + 1, size)
    model.float()
    inner = rows[:, 1:-1].long()
    counted = before_padding(inner, getattr(model.config, "pad_token_id", None))
    counts = _neighbours(inner, counted, size, window)
    seen = counts.sum(1) > 0  # words that never occur would make the matrix singular
    vectors = _vectors(counts, seen, width)
    deviation = words.std().item()
    frequency = torch.bincount(inner[counted], minlength=size) + 1.0
    with torch.no_grad():
        words[seen.to(words.device)] = (vectors * (deviation / vectors.std())).to(words.device)
        if positions is not None:
            count, wide = positions.weight.shape
            angles = torch.arange(count)[:, None] * period ** -(torch.arange(0, wide, 2) / wide)
            positions.weight[:, 0::2] = angles.sin() * 1.4 * deviation
            positions.weight[:, 1::2] = angles[:, : wide // 2].cos() * 1.4 * deviation
        if bias is not None and len(bias) == size:
            bias.copy_(frequency.log() - frequency.log().mean())


def _neighbours(rows: Tensor, counted: Tensor, size: int, window: int) -> Tensor:
    """How often each word has each other to its left, then to its right, the farther the less: (size, 2 * size)."""
    counts = torch.zeros(size, 2 * size)
    for distance in range(1, window + 1):
        left, right = rows[:, :-distance].flatten(), rows[:, distance:].flatten()
        weight = counted[:, distance:].flatten() / distance
        counts.index_put_((right, left), weight, accumulate=True)
        counts.index_put_((left, right + size), weight, accumulate=True)
    return counts


def _vectors(counts: Tensor, seen: Tensor, width: int) -> Tensor:
    """Singular vectors of the positive mutual information of the words seen, scaled: (words seen, width)."""
    context = counts.sum(0) ** 0.75  # lifts rare contexts
    expected = counts.sum(1, keepdim=True) * (context / context.sum())
    information = (counts / expected.clamp(min=1e-9)).clamp(min=1.0).log()
    information = information[seen].double()
    squares, vectors = torch.linalg.eigh(information @ information.T)  # ascending
    vectors = (vectors[:, -width:] * squares[-width:].clamp(min=0) ** 0.25).float()
    return pad(vectors, (width - vectors.shape[1], 0))  # where fewer words occur than the embeddings are wide
