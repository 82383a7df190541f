"""Plain texts, on which a language model is scored: the next token, or tokens that are masked."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adapt.spec import Unsupported
from adapt.tasks.kind import Example
from adapt.tasks.language import row_losses
from adapt.tasks.losses import IGNORED
from adapt.tasks.masking import MASKED_SHARE, hidden, masked_count
from adapt.tasks.tokens import check_room, cut_texts, model_inputs, pad, special_ids, token_fields, token_tensors

if TYPE_CHECKING:
    import torch
    from torch import nn

_SEED = 0


def text_rows(tokenizer: Any, texts: Sequence[str], max_length: int) -> list[tuple[Example, list[int]]]:
    """The token ids and numbers of texts, cut to `max_length`, and the positions of those that are no special tokens.

    Texts of fewer than two such tokens are left out.

    Raises:
        OptionError: `max_length` leaves no room beside the tokenizer's own tokens.
    """
    check_room(tokenizer, max_length, pair=False)
    special = special_ids(tokenizer)
    tokens, _ = cut_texts(tokenizer, {"text": list(texts)}, max_length)
    places = [[place for place, token in enumerate(ids) if token not in special] for ids in tokens["input_ids"]]
    return [({**token_fields(tokens, i), "row": i}, own) for i, own in enumerate(places) if len(own) > 1]


@dataclass(frozen=True)
class GeneralText:
    """How a language model is asked about plain texts, as a kind of task is about rows."""

    tokenizer: Any
    masked: bool
    """Whether masked tokens are predicted, not the next one."""

    def encode(self, texts: Sequence[str], max_length: int) -> list[Example]:
        """`text_rows` with `labels`; which tokens are masked is the same each time.

        The token for unknown words is never masked, as in pretraining; texts of nothing else are left out.

        Raises:
            Unsupported: Tokens are to be masked, and the tokenizer has no mask.
        """
        rows = text_rows(self.tokenizer, texts, max_length)
        if not self.masked:
            return [{**example, "labels": example["input_ids"]} for example, _ in rows]
        mask = self.tokenizer.mask_token_id
        if mask is None:
            raise Unsupported("the tokenizer has no mask token")
        draw, unknown = random.Random(_SEED), self.tokenizer.unk_token_id
        known = [(row, [place for place in own if row["input_ids"][place] != unknown]) for row, own in rows]
        return [hidden(row, draw.sample(own, masked_count(MASKED_SHARE, len(own))), mask) for row, own in known if own]

    def collate(self, examples: Sequence[Example], *, longest: int | None = None) -> dict[str, torch.Tensor]:
        """What the model takes, and `labels`, padded on the right: (batch, length) each."""
        batch = token_tensors(self.tokenizer, examples, longest=longest)
        return {**batch, "labels": pad([example["labels"] for example in examples], IGNORED, longest=longest)}

    def outputs(self, model: nn.Module, batch: Mapping[str, torch.Tensor], *, final: bool = True) -> list[Any]:
        """For each text `nll`, the summed negative log-likelihood in nats, and `tokens`, how many it is of."""
        inputs, labels = model_inputs(batch), batch["labels"]
        if not self.masked:
            inputs, labels = {name: batch[name] for name in ("input_ids", "attention_mask")}, labels[:, 1:]
        return row_losses(model, inputs, labels, few=True)
