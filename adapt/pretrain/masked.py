"""Masked language modelling (Devlin et al. 2019, section 3.1), drawn anew each time a row is used.

Dynamic masking is that of Liu et al. 2019 ("RoBERTa", section 4.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from adapt.pretrain.corpus import before_padding
from adapt.spec import DataError, Unsupported
from adapt.tasks.losses import IGNORED
from adapt.tasks.masking import (
    ANOTHER_BELOW,
    MASKED_BELOW,
    MASKED_SHARE,
    check_share,
    masked_count,
    ordinary_tokens,
)


@dataclass(frozen=True)
class HiddenTokens:
    """What objectives that hide tokens share."""

    pads: ClassVar[bool] = True
    """Whether padding at the end of a row is none of its text."""
    tokenizer: Any
    """Says which ids are special, and which are mask, separator and padding."""
    share: float = MASKED_SHARE
    """Share of the tokens that are asked for."""

    def hide(self, ids: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """As `mask_tokens`."""
        return _hidden(ids, self.tokenizer, generator, self.share, self._sorts)

    @cached_property
    def _sorts(self) -> tuple[Tensor, Tensor]:
        return _sorts_of(self.tokenizer)


@dataclass(frozen=True)
class MaskedLM(HiddenTokens):
    """Predict hidden tokens from both sides."""

    def draw(self, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """`input_ids` and `targets`, int64 (rows, length); `attention_mask` too where a row is padded."""
        inputs, targets = self.hide(rows, generator)
        padding, ends = self.tokenizer.pad_token_id, (self.tokenizer.sep_token_id, self.tokenizer.eos_token_id)
        text = before_padding(rows, None if padding in ends else padding)
        padded = {} if text.all() else {"attention_mask": text.long()}
        return {"input_ids": inputs, "targets": targets, **padded}

    def answers(self, model: Any, batch: dict[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
        """`masked`: logits (masked, vocabulary) and original ids (masked,)."""
        targets = batch["targets"]
        logits = masked_logits(model, batch["input_ids"], targets, batch.get("attention_mask"))
        return {"masked": (logits, targets[targets != IGNORED])}


def mask_tokens(
    ids: Tensor, tokenizer: Any, generator: torch.Generator, share: float = MASKED_SHARE
) -> tuple[Tensor, Tensor]:
    """Hide tokens as BERT does: a share is to be predicted, 80 % of it `[MASK]`, 10 % random, 10 % unchanged.

    `ids` is (rows, length). Exactly `round(share * n)` of the n tokens that are not special are drawn, and at
    least one. Returns the inputs, int64 (rows, length), and the targets of that shape: the original id where the
    model is asked, -100 elsewhere. Raises `DataError` where every token is special, `OptionError` where the share is
    none, `Unsupported` where the tokenizer has no mask.
    """
    return _hidden(ids, tokenizer, generator, share, _sorts_of(tokenizer))


def _sorts_of(tokenizer: Any) -> tuple[Tensor, Tensor]:
    """Ids of a tokenizer that are special, and those that are not."""
    return torch.tensor(sorted(tokenizer.all_special_ids)), torch.tensor(ordinary_tokens(tokenizer))


def _hidden(
    ids: Tensor, tokenizer: Any, generator: torch.Generator, share: float, sorts: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    check_share("share", share)
    if tokenizer.mask_token_id is None:
        raise Unsupported(f"{type(tokenizer).__name__} has no mask token to hide others by: take one like BERT's")
    special, ordinary = sorts
    ids = ids.long()
    candidates = (~torch.isin(ids, special)).flatten().nonzero().flatten()  # (n,) positions in the flat batch
    if len(candidates) == 0:
        raise DataError("a batch holds special tokens only: there is nothing to mask")
    count = masked_count(share, len(candidates))
    chosen = candidates[torch.randperm(len(candidates), generator=generator)[:count]]
    replaced = ordinary[torch.randint(len(ordinary), (count,), generator=generator)]
    kind = torch.rand(count, generator=generator)
    original = ids.flatten()[chosen]
    replaced = torch.where(kind < ANOTHER_BELOW, replaced, original)
    inputs, targets = ids.clone(), torch.full_like(ids, IGNORED)
    inputs.view(-1)[chosen] = torch.where(kind < MASKED_BELOW, tokenizer.mask_token_id, replaced)
    targets.view(-1)[chosen] = original
    return inputs, targets


def masked_logits(model: Any, input_ids: Tensor, targets: Tensor, attention_mask: Tensor | None = None) -> Tensor:
    """Logits, (masked, vocabulary), of the positions that have a target, in row-major order.

    Only these hidden states go through the language-model head, which at 15 % of the positions saves most of the
    head's time and memory; where transformers keeps the head in several modules (DistilBERT, ALBERT, ELECTRA,
    ModernBERT), or has others between, all do. Raises `Unsupported` where the model has no such head.
    """
    heads = getattr(model, "cls", None) or getattr(model, "lm_head", None)
    head = getattr(heads, "predictions", heads)  # without the one for next sentence prediction
    if model.get_output_embeddings() is None or model.base_model is model:
        raise Unsupported(f"{type(model).__name__} has no masked-language-model head: take a class for masked LM")
    beside = [child for child in model.children() if child is not heads and child is not model.base_model]
    if head is None or any(True for child in beside for _ in child.parameters()):
        return model(input_ids=input_ids, attention_mask=attention_mask).logits[targets != IGNORED]
    hidden = model.base_model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
    return head(hidden[targets != IGNORED])
