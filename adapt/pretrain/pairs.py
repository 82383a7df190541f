"""BERT's own objective: masked language modelling and next sentence prediction at once (Devlin et al. 2019, 3.1)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from adapt.pretrain.masked import IGNORED, MASKED_SHARE, mask_tokens
from adapt.spec import DataError, Unsupported


@dataclass(frozen=True)
class NextSentence:
    """Predict hidden tokens, and whether the second text of a row is the one that followed the first."""

    tokenizer: Any
    """Says which ids are special, and which are mask, separator and padding."""
    share: float = MASKED_SHARE
    """Share of the tokens that are asked for."""

    def draw(self, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Exchange the second text of about half of the rows, then hide tokens (`mask_tokens`).

        Each row draws another one, and a coin says whose second text it gets; either is cut to the shorter of the two,
        so that its length tells nothing. A row by itself keeps its own.

        Args:
            rows: Token ids (rows, length) from `pack_pairs`.
            generator: The only source of chance.

        Returns:
            `input_ids`, `token_type_ids`, `attention_mask` and `targets`, int64 (rows, length), and `random`, int64
            (rows,): 0 where the second text followed, 1 where it is another row's.
        """
        rows = rows.long()
        count, length = rows.shape
        own = torch.arange(count)
        if count > 1:
            other = (own + torch.randint(1, count, (count,), generator=generator)) % count
            random = torch.randint(2, (count,), generator=generator)
        else:
            other, random = own, torch.zeros(count, dtype=torch.int64)
        first, both = _lengths(rows, self.tokenizer)
        second = both - first  # with the separator that ends it
        second = torch.minimum(second, second[other])
        source = torch.where(random == 1, other, own)
        place = torch.arange(length) - first[:, None]  # (rows, length): within the second text
        taken = rows[source[:, None], (place + first[source][:, None]).clamp(0, length - 1)]
        ids = torch.where(place < 0, rows, taken)
        ids = torch.where(place == second[:, None] - 1, self.tokenizer.sep_token_id, ids)
        seen = place < second[:, None]
        ids = torch.where(seen, ids, self.tokenizer.pad_token_id)
        inputs, targets = mask_tokens(ids, self.tokenizer, generator, self.share)
        types = ((place >= 0) & seen).long()
        return {
            "input_ids": inputs, "token_type_ids": types, "attention_mask": seen.long(), "targets": targets,
            "random": random,
        }  # fmt: skip

    def answers(self, model: Any, batch: dict[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
        """`masked`, as of `MaskedLM`, and `next_sentence`: logits (rows, 2) and `random`.

        Raises:
            Unsupported: The model is none such as `BertForPreTraining`.
        """
        heads: Any = getattr(model, "cls", None)
        if not hasattr(heads, "predictions") or not hasattr(heads, "seq_relationship"):
            raise Unsupported(
                f"{type(model).__name__} has no head for next sentence prediction: take BertForPreTraining or a class "
                "like it"
            )
        names = ("input_ids", "token_type_ids", "attention_mask")
        found = model.base_model(**{name: batch[name] for name in names})
        asked = batch["targets"] != IGNORED
        return {
            "masked": (heads.predictions(found.last_hidden_state[asked]), batch["targets"][asked]),
            "next_sentence": (heads.seq_relationship(found.pooler_output), batch["random"]),
        }


def pack_pairs(documents: Iterable[Sequence[str]], tokenizer: Any, length: int = 128) -> Tensor:
    """Pack text into rows of two texts that follow one another in a document: `[CLS] A [SEP] B [SEP]`, then padding.

    A row holds as many whole lines of a document as fit and at least two, parted where the halves are most alike; two
    lines that do not fit are cut at their outer ends, so that what stands beside the separator stays. A line that is
    left alone at the end of a document is dropped.

    Args:
        documents: Lists of lines, as `read_corpus` gives them: a sentence or paragraph a line.
        tokenizer: Has `[CLS]`, `[SEP]` and `[PAD]` tokens, by whatever names.
        length: Tokens of a row.

    Returns:
        Token ids, int32 (rows, length).

    Raises:
        DataError: No document has two lines.
        Unsupported: The tokenizer lacks a special token.
    """
    start, sep, pad = tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id
    if None in (start, sep, pad):
        raise Unsupported("pairs need a tokenizer with tokens of class, separator and padding, as BERT's has")
    room = length - 3
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}  # as text that spells one would have it
    rows = []
    for document in documents:
        found = tokenizer(list(document), add_special_tokens=False, verbose=False)["input_ids"]
        lines = [line for ids in found if (line := [token for token in ids if token not in special])]
        while len(lines) > 1:
            ends = list(accumulate(len(line) for line in lines))
            taken = max(2, sum(end <= room for end in ends))
            cut = min(range(1, taken), key=lambda place: abs(2 * ends[place - 1] - ends[taken - 1]))
            first, second = ([token for line in part for token in line] for part in (lines[:cut], lines[cut:taken]))
            if len(first) + len(second) > room:
                kept = min(len(first), max(room // 2, room - len(second)))
                first, second = first[-kept:], second[: room - kept]
            row = [start, *first, sep, *second, sep]
            rows.append(row + [pad] * (length - len(row)))
            lines = lines[taken:]
    if not rows:
        raise DataError("no document has two lines: give text with a sentence a line and empty lines between documents")
    return torch.tensor(rows, dtype=torch.int32)


def _lengths(rows: Tensor, tokenizer: Any) -> tuple[Tensor, Tensor]:
    """Tokens of each row up to the separator of its first text, and up to that of its second, (rows,) each."""
    ends = (rows == tokenizer.sep_token_id).int()
    return ends.argmax(1) + 1, rows.shape[1] - ends.flip(1).argmax(1)
