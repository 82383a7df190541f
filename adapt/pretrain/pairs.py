"""BERT's own objective: masked language modelling and next sentence prediction at once (Devlin et al. 2019, 3.1)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import Any, ClassVar

import torch
from torch import Tensor

from adapt.pretrain.corpus import as_lines, encoded
from adapt.pretrain.masked import HiddenTokens
from adapt.spec import DataError, OptionError, Unsupported
from adapt.tasks.losses import IGNORED


@dataclass(frozen=True)
class NextSentence(HiddenTokens):
    """Predict hidden tokens, and whether the second text of a row is the one that followed the first."""

    least_rows: ClassVar[int] = 2
    """Of a batch, so that a row can have another one's text."""

    def draw(self, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Exchange the second text of about half of the rows, then hide tokens (`mask_tokens`).

        Two rows whose second texts are of nearly the same length are partners, and a coin says for each of them whose
        it gets, so that lengths tell next to nothing. What does not fit is cut off. Of an odd number of rows a random
        one has no partner, and keeps its own.

        Args:
            rows: Token ids (rows, length) from `pack_pairs`.
            generator: The only source of chance.

        Returns:
            `input_ids`, `token_type_ids`, `attention_mask` and `targets`, int64 (rows, length), and `random`, int64
            (rows,): 0 where the second text followed, 1 where it is another row's.

        Raises:
            DataError: A row has not two texts.
        """
        rows = rows.long()
        count, length = rows.shape
        first, second = _lengths(rows, self.tokenizer)
        partner = _partners(second, generator)
        random = torch.randint(2, (count,), generator=generator) * (partner != torch.arange(count))
        source = torch.where(random == 1, partner, torch.arange(count))
        second = torch.minimum(second[source], length - first)
        place = torch.arange(length) - first[:, None]  # (rows, length): within the second text
        taken = rows[source[:, None], (place + first[source][:, None]).clamp(0, length - 1)]
        ids = torch.where(place < 0, rows, taken)
        ids = torch.where(place == second[:, None] - 1, self.tokenizer.sep_token_id, ids)
        seen = place < second[:, None]
        ids = torch.where(seen, ids, self.tokenizer.pad_token_id)
        inputs, targets = self.hide(ids, generator)
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
        OptionError: A row has no room for two texts, or a document is a text instead of its lines.
        Unsupported: The tokenizer lacks a special token.
    """
    start, sep, pad = tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id
    if None in (start, sep, pad):
        raise Unsupported("pairs need a tokenizer with tokens of class, separator and padding, as BERT's has")
    room = length - 3
    if room < 2:
        raise OptionError(f"length={length} leaves no room for two texts; give 5 or more")
    rows = []
    for document in as_lines(documents):
        lines = [line for line in encoded(document, tokenizer) if line]
        at = 0
        while at < len(lines) - 1:
            taken, size = 2, len(lines[at]) + len(lines[at + 1])
            while at + taken < len(lines) and size + len(lines[at + taken]) <= room:
                size += len(lines[at + taken])
                taken += 1
            first, second = _parted(lines[at : at + taken])
            if size > room:
                kept = min(len(first), max(room // 2, room - len(second)))
                first, second = first[-kept:], second[: room - kept]
            row = [start, *first, sep, *second, sep]
            rows.append(row + [pad] * (length - len(row)))
            at += taken
    if not rows:
        raise DataError("no document has two lines: give text with a sentence a line and empty lines between documents")
    return torch.tensor(rows, dtype=torch.int32)


def _parted(lines: Sequence[list[int]]) -> tuple[list[int], list[int]]:
    """Lines as two texts, parted where these are most alike in length."""
    ends = list(accumulate(len(line) for line in lines))
    cut = min(range(1, len(lines)), key=lambda place: abs(2 * ends[place - 1] - ends[-1]))
    return list(chain(*lines[:cut])), list(chain(*lines[cut:]))


def _partners(lengths: Tensor, generator: torch.Generator) -> Tensor:
    """The row of nearly the same length that each row is paired with; of an odd number a random one, itself. (rows,)"""
    order = (lengths + torch.rand(len(lengths), generator=generator)).argsort()
    if len(order) % 2:
        alone = int(torch.randint(len(order), (), generator=generator))
        order = torch.cat([order[:alone], order[alone + 1 :]])
    pairs = order.view(-1, 2)
    partner = torch.arange(len(lengths))
    partner[pairs.flatten()] = pairs.flip(1).flatten()
    return partner


def _lengths(rows: Tensor, tokenizer: Any) -> tuple[Tensor, Tensor]:
    """Tokens of each row's first text, with what frames it, and of its second, with the separator; (rows,) each."""
    ends = rows == tokenizer.sep_token_id
    if not ((ends.sum(1) == 2) & (rows[:, 0] == tokenizer.cls_token_id)).all():
        raise DataError("a row has not two texts with their separators: make rows for next sentences by `pack_pairs`")
    places = ends.nonzero()[:, 1].view(-1, 2) + 1
    return places[:, 0], places[:, 1] - places[:, 0]
