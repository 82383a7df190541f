"""What an adaptation makes a backbone forget: the loss on general text under its own language-model head, before and
after. Biderman et al. (2024, "LoRA Learns Less and Forgets Less") ask the same of accuracy on benchmarks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from adapt.backbones import Loader
from adapt.backbones.exhausted import explained
from adapt.backbones.language_head import put_under
from adapt.spec import Diverged
from adapt.tasks.general import GeneralText
from adapt.tasks.masking import restored
from adapt.tasks.tokens import check_embedded
from adapt.training.loop import predict


def forgetting(model: Any, loader: Loader, texts: Sequence[str]) -> dict[str, Any]:
    """Mean negative log-likelihood of texts, in nats a token, under the backbone as it was and as it is adapted.

    A language model is scored as it is, with the output layer that it may have trained; of any other model the
    pretrained part is, under the head that the checkpoint has. The backbone is loaded once more, in the dtype that the
    model's frozen weights have; what quantising has lost is part of what is forgotten.

    Args:
        model: Adapted, with nothing in place of its layers; it is left as it is.
        loader: What loaded it.
        texts: Of which some have two tokens; cut to the task's `max_length`.

    Returns:
        `before` and `after`, `tokens` (how many are predicted), and what the head `predicts`: `masked tokens` or `next
        tokens`.

    Raises:
        Unsupported: The checkpoint has no language-model head, or one whose loss is none of a text alone.
        RowError: A text has a token that was added to the tokenizer and not to the model.
        Diverged: A loss is not finite.
        OutOfMemory: The backbone does not fit beside the model, or one text does not.
    """
    with explained("while the backbone was loaded once more", "leave general texts out"):
        scored, masked = loader.language_model(_dtype_of(model.base_model))
    text = GeneralText(loader.tokenizer(), masked)
    rows = text.encode(texts, loader.task.max_length)
    check_embedded(scored, loader.tokenizer(), [{**row, "input_ids": restored(row)} for row in rows])

    def loss(of: nn.Module) -> tuple[float, int]:
        outputs = predict(of, text, rows, loader.budget)
        tokens = sum(row["tokens"] for row in outputs)
        return math.fsum(row["nll"] for row in outputs) / tokens, tokens

    before, tokens = loss(scored)
    if type(model) is type(scored):
        scored = model
    else:
        put_under(scored, model)
    after, _ = loss(scored)
    if not math.isfinite(before) or not math.isfinite(after):
        raise Diverged("a loss on the general texts is not finite")
    return {"before": before, "after": after, "tokens": tokens, "predicts": f"{'masked' if masked else 'next'} tokens"}


def _dtype_of(model: nn.Module) -> torch.dtype:
    """Of the weights that are not quantised: of frozen ones, where there are such."""
    frozen = (p.dtype for p in model.parameters() if p.is_floating_point() and not p.requires_grad)
    return next(frozen, torch.float32)
