"""Texts that a model writes, and how they are scored; shared by seq2seq and causal LM."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adapt.metrics import LOSSES, METRICS, score
from adapt.metrics.texts import bleu_counts, chrf_counts, rouge_l, text_exact_match
from adapt.spec import Problem
from adapt.tasks.losses import check_finite

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
    found = getattr(own, "eos_token_id", None)
    stops = sorted({*ends, *(found if isinstance(found, list) else [] if found is None else [found])})
    kept = {name: getattr(own, name, None) for name in _KEPT}
    kept |= {} if start is None else {"decoder_start_token_id": start}
    kept |= {} if first is None else {"forced_bos_token_id": first}
    config = GenerationConfig(
        max_new_tokens=new_tokens, num_beams=beams, length_penalty=length_penalty, early_stopping=False, use_cache=True,
        pad_token_id=tokenizer.pad_token_id, eos_token_id=stops or None, **kept,
    )  # fmt: skip
    with _instead(model, config):
        made = model.generate(**inputs, generation_config=config)  # type: ignore[operator]
    # an encoder-decoder's text begins with the decoder's start token, which may be the one that ends a text
    begin = 1 if getattr(model.config, "is_encoder_decoder", False) else inputs["input_ids"].shape[1]
    begin += first is not None
    # BART's end is forced where the most tokens are written, whatever the model would have
    last = new_tokens - 1 - (first is not None) if kept["forced_eos_token_id"] is not None else None
    rows = []
    for ids in made[:, begin:].tolist():
        end = next((i for i, token in enumerate(ids) if token in stops), len(ids))
        text = tokenizer.decode(ids[:end], skip_special_tokens=True, clean_up_tokenization_spaces=False)
        rows.append(Written(text, tuple(ids[:end]), end < len(ids) and end != last))
    return rows


@contextmanager
def _instead(model: Any, config: Any) -> Iterator[None]:
    """With another generation configuration: transformers takes what one that it is given leaves open from the
    model's."""
    own = model.generation_config
    model.generation_config = config
    try:
        yield
    finally:
        model.generation_config = own


def until(text: str, stop: str) -> str:
    """A text up to what stops it (empty: nothing does), which white space at its beginning is no part of."""
    place = text.find(stop, len(text) - len(text.lstrip())) if stop else -1
    return text if place < 0 else text[:place]


def needs_text(metric: str) -> bool:
    """Whether a metric of `text` or `completion` judges a generated text."""
    return metric not in LOSSES


def score_texts(
    problem: Problem, outputs: Sequence[Mapping[str, Any]], references: Sequence[Sequence[str]], marker: str = ""
) -> dict[str, float]:
    """Losses and, where there are texts, the metrics of texts.

    Args:
        problem: `text` or `completion`.
        outputs: One a row: `nll`, summed negative log-likelihood in nats, `tokens` and `text`; each None where it was
            not asked for.
        references: True texts of each row.
        marker: Exact match compares what follows the last marker, 1,200 being 1200; empty: whole texts.

    Raises:
        Diverged: A negative log-likelihood is not finite.
    """
    found: dict[str, float] = {}
    nlls = [output["nll"] for output in outputs]
    if None not in nlls:
        check_finite(nlls)
        found |= score(problem, nlls, [output["tokens"] for output in outputs], LOSSES)
    texts = [output["text"] for output in outputs]
    if None not in texts:
        names = [name for name in METRICS[problem] if needs_text(name)]
        found |= score(problem, texts, references, names)
        if marker:
            found |= score(problem, *_marked(texts, references, marker), ["text_exact_match"])
    return found


def text_outcome(problem: Problem, output: Mapping[str, Any], references: Sequence[str], marker: str = "") -> list[Any]:
    """What one row adds to each metric of its problem, as `adapt.metrics.jackknife` reads it.

    Returns:
        Negative log-likelihood in nats and tokens (None where there is no target); where there is a text also ROUGE-L,
        exact match, the counts of chrF and, of `text`, those of BLEU.
    """
    nll, text = output["nll"], output["text"]
    outcome: list[Any] = [None if nll is None else round(nll, 4), output["tokens"]]
    if text is None:
        return outcome
    compared = _marked([text], [references], marker) if marker else ([text], [references])
    outcome += [round(rouge_l([text], [references]), 4), text_exact_match(*compared), chrf_counts(text, references)]
    return outcome + ([bleu_counts(text, references)] if "bleu" in METRICS[problem] else [])


def _marked(
    texts: Sequence[str], references: Sequence[Sequence[str]], marker: str
) -> tuple[list[str], list[list[str]]]:
    """What follows the marker in texts and references."""
    truth = [[after(text, marker, text) for text in several] for several in references]
    return [after(text, marker, "") for text in texts], truth


def after(text: str, marker: str, otherwise: str) -> str:
    """What follows the last marker, numbers without commas between thousands; or something else where there is none."""
    return _THOUSANDS.sub("", text.rpartition(marker)[2].strip()) if marker in text else otherwise


def row_losses(losses: torch.Tensor, counts: torch.Tensor) -> list[dict[str, Any]]:
    """Outputs without text from the losses of tokens (batch, length) and the number of tokens of each row."""
    return [
        {"nll": math.fsum(row), "tokens": int(n), "text": None}
        for row, n in zip(losses.detach().cpu().tolist(), counts.cpu().tolist(), strict=True)
    ]
