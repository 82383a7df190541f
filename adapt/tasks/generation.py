"""Texts that a model writes, and how they are scored: what seq2seq and causal LM share."""

from __future__ import annotations

import hashlib
import math
import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adapt.backbones.swapped import swapped
from adapt.data.groups import WORTH_SAYING
from adapt.metrics import LOSSES, METRICS, score
from adapt.metrics.texts import bleu_counts, chrf_counts, rouge_l, text_exact_match
from adapt.spec import canonical
from adapt.tasks.kind import Example, Kind
from adapt.tasks.language import mean_language_loss, row_losses
from adapt.tasks.losses import IGNORED, check_finite
from adapt.tasks.tokens import by_row, decoded, distinct_rows, pad, special_ids, token_tensors, unknown_share

if TYPE_CHECKING:
    import torch
    from torch import nn

_KEPT = (
    "bos_token_id", "decoder_start_token_id", "forced_bos_token_id", "forced_eos_token_id", "bad_words_ids",
    "suppress_tokens", "begin_suppress_tokens",
)  # fmt: skip
"""What is kept of a checkpoint's generation configuration."""
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")


@dataclass(frozen=True)
class Written:
    """What a model wrote."""

    raw: str
    """With the white space that it has around."""
    ids: tuple[int, ...]
    """Its tokens, without the one that ended it."""
    ended: bool
    """Whether the model came to an end, rather than to the most tokens that it may write."""

    @property
    def text(self) -> str:
        """Without white space around."""
        return self.raw.strip()


def generate(
    model: nn.Module,
    tokenizer: Any,
    inputs: Mapping[str, torch.Tensor],
    *,
    new_tokens: int,
    beams: int,
    length_penalty: float = 1.0,
    ends: Sequence[int] = (),
    start: int | None = None,
    first: int | None = None,
) -> list[Written]:
    """What the model writes, without special tokens.

    The most likely token (or beam) is always taken. Of a checkpoint's own way of generating the tokens are kept that a
    text must begin or end with or must not have; all else is set aside.

    Args:
        model: In eval mode, with `generate` as transformers has it.
        tokenizer: Turns ids to text.
        inputs: `input_ids` and `attention_mask`, (batch, length); of a decoder-only model padded on the left.
        new_tokens: Most tokens written.
        beams: Beams of the search; 1 is greedy.
        length_penalty: Exponent of the length by which a beam's log-probability is divided.
        ends: Tokens that end a text, beside those of the model's generation configuration.
        start: Token that a decoder's text begins with; None: that of the model's generation configuration.
        first: Token written first, which is no part of the text; None: that of the model's generation configuration,
            or any.

    Returns:
        One a row.
    """
    from transformers import GenerationConfig

    own = model.generation_config
    stops = sorted({*ends, *_ends(model)})
    kept = {name: getattr(own, name, None) for name in _KEPT}
    kept |= {} if start is None else {"decoder_start_token_id": start}
    kept |= {} if first is None else {"forced_bos_token_id": first}
    config = GenerationConfig(
        max_new_tokens=new_tokens, num_beams=beams, length_penalty=length_penalty, early_stopping=False, use_cache=True,
        pad_token_id=tokenizer.pad_token_id, eos_token_id=stops or None, **kept,
    )  # fmt: skip
    with swapped(model, generation_config=config):  # from which transformers takes what the one it is given leaves open
        made = model.generate(**inputs, generation_config=config)  # type: ignore[operator]
    # an encoder-decoder's text begins with the decoder's start token, which may be the one that ends a text
    begin = 1 if getattr(model.config, "is_encoder_decoder", False) else inputs["input_ids"].shape[1]
    begin += first is not None
    # BART's end is forced where the most tokens are written, whatever the model would have
    last = new_tokens - 1 - (first is not None) if kept["forced_eos_token_id"] is not None else None
    rows = []
    for ids in made[:, begin:].tolist():
        end = next((i for i, token in enumerate(ids) if token in stops), len(ids))
        rows.append(Written(decoded(tokenizer, ids[:end]), tuple(ids[:end]), end < len(ids) and end != last))
    return rows


def _ends(model: Any) -> list[int]:
    """The tokens that end a text by the model's generation configuration."""
    found = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    return found if isinstance(found, list) else [] if found is None else [found]


def ending(model: Any, ends: Sequence[int]) -> dict[str, int | list[int]]:
    """What a plain model's generation configuration must say for its texts to end as they were learnt: `eos_token_id`,
    nothing where it says so.

    Args:
        model: Whose configuration says what it does.
        ends: Tokens that end a text.
    """
    there = _ends(model)
    every = [*there, *(token for token in ends if token not in there)]
    return {} if every == there else {"eos_token_id": every if len(every) > 1 else every[0]}


def needs_text(metric: str) -> bool:
    """Whether a metric of `text` or `completion` judges a generated text."""
    return metric not in LOSSES


class TextGeneration(Kind):
    """A text token by token, each from the true ones before it in training.

    The epoch is chosen by the loss where the metric judges generated texts, which are written once, at the end.
    """

    marker = ""
    """Exact match compares what follows the last such text, 1,200 being 1200; empty: whole texts."""

    @classmethod
    def selection(cls, metric: str) -> str | None:
        """The loss for metrics of generated texts."""
        return "loss" if needs_text(metric) else None

    @abstractmethod
    def asked(self, model: nn.Module, batch: Mapping[str, torch.Tensor]) -> tuple[dict[str, Any], torch.Tensor]:
        """What a model is called with, and what its first positions are to predict, (batch, length); `IGNORED` takes no
        part."""

    @abstractmethod
    def written(self, model: nn.Module, batch: Mapping[str, torch.Tensor]) -> list[Written]:
        """What the model writes, one a row; none where the batch does not ask for texts."""

    def examples(self, rows: int, length: int) -> list[Example]:
        """Made-up rows of `length` tokens, all to be learnt, for planning; of an encoder-decoder as many of source."""
        return [{"input_ids": row, "labels": row} for row in distinct_rows(rows, length)]

    def collate(self, examples: Sequence[Example], *, longest: int | None = None) -> dict[str, torch.Tensor]:
        """Padded on the right: `input_ids` and `attention_mask` (batch, length), `labels` (batch, their length),
        `IGNORED` at padding."""
        batch = token_tensors(self.tokenizer, examples, longest=longest)
        if "labels" in examples[0]:
            batch["labels"] = pad([example["labels"] for example in examples], IGNORED, longest=longest)
        return batch

    def digest(self, examples: Sequence[Example]) -> str | None:
        """Of the tokens of each row that the loss is of, special ones without their names."""
        every = [
            [token for i in parts for token in examples[i].get("labels", ()) if token != IGNORED]
            for parts in by_row(examples)
        ]
        special = special_ids(self.tokenizer)
        ids = sorted({token for tokens in every for token in tokens} - special)
        names = dict(zip(ids, self.tokenizer.convert_ids_to_tokens(ids), strict=True))
        asked = canonical([[names.get(token, "") for token in tokens] for tokens in every])
        return hashlib.sha256(asked.encode(errors="replace")).hexdigest()

    def unknown(self, examples: Sequence[Example], which: str = "the rows") -> list[str]:
        """Also of the tokens that are learnt."""
        learnt = unknown_share(self.tokenizer, [example.get("labels", ()) for example in examples])
        if learnt < WORTH_SAYING:
            return super().unknown(examples, which)
        return [
            f"{learnt:.0%} of the tokens that are to be predicted stand for words that the tokenizer does not know: "
            "losses count them, and such words cannot be written"
        ]

    def loss(self, model: nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Mean negative log-likelihood of the tokens that are learnt, a float32 scalar."""
        return mean_language_loss(model, *self.asked(model, batch))

    def outputs(self, model: nn.Module, batch: Mapping[str, torch.Tensor], *, final: bool = True) -> list[Any]:
        """`nll`, the summed negative log-likelihood of the true text in nats, `tokens`, the number of its tokens (both
        None for rows without one), and `text`, what the model writes (None where not asked for), with `written`."""
        rows: list[dict[str, Any]] = [{"nll": None, "tokens": None, "text": None} for _ in batch["input_ids"]]
        if "labels" in batch:
            for row, found in zip(rows, row_losses(model, *self.asked(model, batch)), strict=True):
                row |= found
        written = self.written(model, batch) if final else []
        if written:
            for row, made in zip(rows, written, strict=True):
                row |= {"text": made.text, "written": made}
        return rows

    @staticmethod
    def _rows(outputs: Sequence[Any], examples: Sequence[Example]) -> list[tuple[dict[str, Any], list[str]]]:
        """Of each row the outputs, its blocks' losses summed, and the true texts, where there are any."""
        rows = []
        for parts in by_row(examples):
            row = outputs[parts[0]]
            if row["nll"] is not None:
                nll, tokens = (math.fsum(outputs[i][name] for i in parts) for name in ("nll", "tokens"))
                row = {**row, "nll": nll, "tokens": int(tokens)}
            rows.append((row, examples[parts[0]].get("references", [])))
        return rows

    def score(self, outputs: Sequence[Any], examples: Sequence[Example]) -> dict[str, float]:
        """Losses where the outputs have them, and metrics of texts where they have texts.

        Raises:
            Diverged: A negative log-likelihood is not finite.
        """
        problem, rows = self.task.problem, self._rows(outputs, examples)
        found: dict[str, float] = {}
        nlls = [row["nll"] for row, _ in rows]
        if None not in nlls:
            check_finite(nlls)
            found |= score(problem, nlls, [row["tokens"] for row, _ in rows], LOSSES)
        texts, references = [row["text"] for row, _ in rows], [truths for _, truths in rows]
        if None not in texts:
            found |= score(problem, texts, references, [name for name in METRICS[problem] if needs_text(name)])
            if self.marker:
                found |= score(problem, *self._compared(texts, references), ["text_exact_match"])
        return found

    def outcomes(self, outputs: Sequence[Any], examples: Sequence[Example]) -> list[Any]:
        """Of each row its negative log-likelihood in nats and tokens (None where there is no target); where there is a
        text also ROUGE-L, exact match, the counts of chrF and, of `text`, those of BLEU."""
        return [self._outcome(row, truths) for row, truths in self._rows(outputs, examples)]

    def _outcome(self, row: Mapping[str, Any], references: list[str]) -> list[Any]:
        nll, text = row["nll"], row["text"]
        outcome: list[Any] = [None if nll is None else round(nll, 4), row["tokens"]]
        if text is None:
            return outcome
        exact = text_exact_match(*self._compared([text], [references]))
        outcome += [round(rouge_l([text], [references]), 4), exact, chrf_counts(text, references)]
        return outcome + ([bleu_counts(text, references)] if "bleu" in METRICS[self.task.problem] else [])

    def _compared(self, texts: Sequence[str], references: Sequence[list[str]]) -> tuple[list[str], list[list[str]]]:
        """Of texts and references what exact match compares: what follows the marker, or all of those without one; but
        nothing of a text without one where a reference of its row has one."""
        if not self.marker:
            return list(texts), list(references)
        marked = [any(self.marker in text for text in several) for several in references]
        truth = [[_after(text, self.marker, text) for text in several] for several in references]
        found = zip(texts, marked, strict=True)
        return [_after(text, self.marker, "" if of_answer else text) for text, of_answer in found], truth

    def decode(self, outputs: Sequence[Any], examples: Sequence[Example]) -> list[dict[str, Any]]:
        """`text`."""
        return [{"text": row["text"]} for row, _ in self._rows(outputs, examples)]


def _after(text: str, marker: str, otherwise: str) -> str:
    """What follows the last marker, or something else where there is none; numbers without commas between thousands."""
    return _THOUSANDS.sub("", text.rpartition(marker)[2].strip() if marker in text else otherwise)
