"""Text-to-text objectives of an encoder-decoder: span corruption, prefix language modelling, and a mixture.

Span corruption is that of T5 (Raffel et al. 2020, section 3.1.4); the choice of targets and the prefix objective are
compared there in section 3.3 (tables 3 to 7). A small model needs more than one of them: span corruption alone teaches
neither to go on in fluent text nor to copy (Tay et al. 2022, "UL2", mix denoisers for the first reason; Lewis et al.
2019, "BART", section 2.2, have whole texts restored).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from adapt.spec import OptionError, Unsupported


class TextToText:
    """What the objectives here share: every token of the target is asked for."""

    def answers(self, model: Any, batch: dict[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
        """`target`: logits (rows * target length, vocabulary) and target ids, in row-major order.

        Raises:
            Unsupported: The model does not say with which token a target is begun.
        """
        shifted = _shifted(model, batch["labels"])
        logits = model(input_ids=batch["input_ids"], decoder_input_ids=shifted, use_cache=False).logits
        return {"target": (logits.flatten(0, 1), batch["labels"].flatten())}


def _shifted(model: Any, labels: Tensor) -> Tensor:
    """What the decoder reads to write rows of labels, which have no padding."""
    if hasattr(model, "prepare_decoder_input_ids_from_labels"):
        shifted: Tensor = model.prepare_decoder_input_ids_from_labels(labels)
        return shifted
    start = getattr(model.config, "decoder_start_token_id", None)
    if start is None:
        raise Unsupported("the model does not say with which token a target is begun (decoder_start_token_id); set it")
    return torch.cat([torch.full_like(labels[:, :1], start), labels[:, :-1]], 1)


@dataclass(frozen=True)
class SpanCorruption(TextToText):
    """Spans of the text are each replaced by a sentinel token; the target restores them."""

    tokenizer: Any
    """Has the sentinels `<extra_id_0>`, `<extra_id_1>`, ..., and ends a text with its end token."""
    share: float = 0.15
    """Share of the tokens that are hidden."""
    mean_span: float = 3.0
    """Mean length of the spans."""
    whole: bool = False
    """Whether the target is the whole text instead of the hidden spans between sentinels."""

    def draw(self, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Hide spans of each row.

        Every row has the same number of hidden tokens and of spans, so no batch needs padding; which, the generator
        decides, all divisions into spans alike. A text begins and ends with a visible token.

        Args:
            rows: Token ids (rows, length), the end token last.
            generator: The only source of chance.

        Returns:
            `input_ids`, `x <extra_id_0> y ... </s>`, and `labels`, `<extra_id_0> span <extra_id_1> span ...
            <extra_id_n> </s>` or the row; int64, (rows, their length).

        Raises:
            OptionError: A row has more spans than the tokenizer has sentinels, or too few tokens to part them; or the
                share is none that can be hidden, or spans are to be of less than a token.
        """
        if not 0 < self.share <= 0.5:
            raise OptionError(f"share is {self.share}; give a number above 0 and up to 0.5")
        if not self.mean_span >= 1:
            raise OptionError(f"mean_span is {self.mean_span}; give a number of at least 1")
        text, end = rows[:, :-1].long(), rows[:, -1:].long()
        count, length = text.shape
        hidden = min(max(1, round(self.share * length)), length // 2)
        spans = min(max(1, round(hidden / self.mean_span)), hidden)
        if not 0 < spans < length - hidden:
            raise OptionError(
                f"{spans} spans of {hidden} hidden tokens cannot be parted in rows of {length}: have longer spans or "
                "longer rows"
            )
        marks = sentinels(self.tokenizer, spans + 1)
        lengths = torch.zeros(count, 2 * spans + 1, dtype=torch.int64)  # visible, hidden, visible, ..., visible
        lengths[:, 0::2] = divide(length - hidden, spans + 1, count, generator)
        lengths[:, 1::2] = divide(hidden, spans, count, generator)
        first = lengths.cumsum(1) - lengths  # (rows, segments): where each begins
        begins = torch.zeros(count, length, dtype=torch.int64).scatter_(1, first, 1)
        segment = begins.cumsum(1) - 1  # (rows, length): number of the segment that a token is in
        noise, start = segment % 2 == 1, begins.bool()
        inputs = torch.where(noise, marks[segment // 2], text)[~noise | start].view(count, -1)
        if self.whole:
            return {"input_ids": torch.cat([inputs, end], 1), "labels": rows.long()}
        answer = torch.where(noise, text, marks[segment // 2])[noise | start].view(count, -1)
        return {"input_ids": torch.cat([inputs, end], 1), "labels": torch.cat([answer, end], 1)}


@dataclass(frozen=True)
class PrefixLM(TextToText):
    """The beginning of a text is given, what follows is the target."""

    least: float = 0.25
    """Smallest share of the text on either side of the cut."""

    def draw(self, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Cut all rows at one place drawn evenly; the end token of the rows closes both sides.

        Returns:
            `input_ids` and `labels`, int64 (rows, their length).

        Raises:
            OptionError: There is no place at which both sides have `least` of the text.
        """
        text, end = rows[:, :-1].long(), rows[:, -1:].long()
        least = self._least(text.shape[1])
        if 2 * least > text.shape[1]:
            raise OptionError(f"rows of {text.shape[1]} tokens have no two sides of {least}: choose a smaller least")
        cut = int(torch.randint(least, text.shape[1] - least + 1, (), generator=generator))
        return {"input_ids": torch.cat([text[:, :cut], end], 1), "labels": torch.cat([text[:, cut:], end], 1)}

    def longest(self, rows: Tensor) -> int:
        """The most tokens that a side has, its end among them, wherever rows (rows, length) are cut."""
        return rows.shape[1] - self._least(rows.shape[1] - 1)

    def _least(self, tokens: int) -> int:
        return max(1, round(self.least * tokens))


@dataclass(frozen=True)
class Copying(TextToText):
    """The tokens of a text in random order, all to be repeated.

    Without the order of a language nothing but copying lowers the loss, so that a small model learns it in minutes:
    to find in the source what it wrote last, and to write what stood behind it (the induction of Olsson et al. 2022).
    In fluent text the same lesson is hidden behind easier ones.
    """

    def draw(self, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Shuffle each row but its end token.

        Returns:
            `input_ids` and `labels`, the same int64 (rows, length).
        """
        text, end = rows[:, :-1].long(), rows[:, -1:].long()
        order = torch.rand(text.shape, generator=generator).argsort(1)
        shuffled = torch.cat([text.gather(1, order), end], 1)
        return {"input_ids": shuffled, "labels": shuffled}


@dataclass(frozen=True)
class Mixture(TextToText):
    """Each batch has one of several objectives, drawn evenly."""

    parts: tuple[SpanCorruption | PrefixLM | Copying, ...]

    def __post_init__(self) -> None:
        """
        Raises:
            OptionError: There is no part.
        """
        object.__setattr__(self, "parts", tuple(self.parts))
        if not self.parts:
            raise OptionError("a mixture has no parts: give objectives to draw from")

    def draw(self, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """What the objective drawn makes of the rows."""
        return self.parts[int(torch.randint(len(self.parts), (), generator=generator))].draw(rows, generator)


def sentinels(tokenizer: Any, count: int) -> Tensor:
    """Ids of the first `count` sentinel tokens, int64 (count,). Raises `OptionError` where there are fewer."""
    vocabulary = tokenizer.get_vocab()
    names = [f"<extra_id_{i}>" for i in range(count)]
    if names[-1] not in vocabulary:
        raise OptionError(
            f"a row needs {count} sentinel tokens and the tokenizer has no {names[-1]}: use shorter rows, fewer spans "
            "or a tokenizer with more sentinels"
        )
    return torch.tensor([vocabulary[name] for name in names])


def divide(total: int, parts: int, count: int, generator: torch.Generator) -> Tensor:
    """Divide `total` into `parts` whole numbers of at least 1, all divisions alike, `count` times: (count, parts)."""
    drawn = torch.rand(count, total - 1, generator=generator).argsort(1)[:, : parts - 1]
    edges = torch.zeros(count, parts + 1, dtype=torch.int64)
    edges[:, 1:-1] = drawn.sort(1).values + 1
    edges[:, -1] = total
    return edges.diff(dim=1)
