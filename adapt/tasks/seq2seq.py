"""A text from a text, by an encoder-decoder: translation, summaries."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from adapt.data.table import column_of
from adapt.display import shows_fields
from adapt.fields import nearest
from adapt.spec import OptionError, RowError, Task, Unsupported
from adapt.tasks.generation import TextGeneration, Written, ending, generate
from adapt.tasks.kind import Example
from adapt.tasks.losses import IGNORED, learnt_labels
from adapt.tasks.tokens import check_at_least, check_room, cut_texts, frame, of_split, spelling_special, unlike

if TYPE_CHECKING:
    import datasets
    import torch
    from torch import nn


@shows_fields
@dataclass(frozen=True)
class Options:
    """Options of seq2seq."""

    max_target_length: int = field(default=64, metadata={"positions": True})
    """Tokens a target is cut to, and most tokens written; each needs a position of the backbone."""
    beams: int = 1
    """Beams of the search for a text; 1 is greedy."""
    prefix: str = ""
    """Text put before every source, as T5 wants its tasks named."""
    length_penalty: float = 1.0
    """Exponent of the length by which a beam's log-probability is divided; above 1 favours longer texts."""
    source_language: str | None = field(default=None, metadata={"neutral": None})
    """Language of the sources, as the tokenizer of a multilingual model calls it (`eng_Latn`, `en_XX`, `en`); None: the
    tokenizer's own."""
    target_language: str | None = field(default=None, metadata={"neutral": None})
    """Language of the targets, likewise; without one that the tokenizer has of its own it must be given."""


class Seq2Seq(TextGeneration):
    """The target token by token after the source (Sutskever et al. 2014)."""

    Options: ClassVar[type] = Options
    form: ClassVar[tuple[str, ...]] = ("prefix", "source_language", "target_language")
    decides_loss: ClassVar[tuple[str, ...]] = ("max_target_length",)
    decides_texts: ClassVar[tuple[str, ...]] = ("beams", "length_penalty")

    @classmethod
    def most_target(cls, task: Task) -> int | None:
        """`max_target_length`."""
        most: int = cls.options_of(task).max_target_length
        return most

    @classmethod
    def planned_task(cls, task: Task) -> Task:
        """Without languages."""
        kept = {name: value for name, value in task.options.items() if not name.endswith("_language")}
        return dataclasses.replace(task, options=kept)

    def __init__(self, task: Task, tokenizer: Any) -> None:
        """
        Raises:
            OptionError: The metric does not go with the problem, an option is out of range, or the tokenizer does not
                know a language, or is not told that of the targets.
        """
        super().__init__(task, tokenizer)
        check_at_least(self.options, max_target_length=1, beams=1)
        self._first: int | None = None
        self._start: int | None = None
        self._tell_languages()

    def encode(self, rows: datasets.Dataset, *, split: str | None = None) -> list[Example]:
        """Sources (`input_ids`, cut to `max_length`) and targets (`labels`, cut to `max_target_length`) to token ids.

        Raises:
            OptionError: A maximum length leaves no room for text.
            RowError: The tokenizer makes nothing of a source or a target.
        """
        if not len(rows):
            return []
        self.tokenizer.truncation_side = "right"  # texts lose their end, whatever a checkpoint's chats lose
        check_room(self.tokenizer, self.task.max_length, pair=False, prefix=self.options.prefix)
        sources = column_of(rows, "source")
        ids = self._ids(sources, split)
        examples: list[Example] = [
            {"input_ids": ids[row], "row": row, "source": source} for row, source in enumerate(sources)
        ]
        if "target" in rows.column_names:
            most = self.options.max_target_length
            end = [] if self._end[1] else [self._end[0]]
            check_room(self.tokenizer, most, pair=False, option="max_target_length", more=len(end))
            texts = column_of(rows, "target")
            targets, cut = cut_texts(self.tokenizer, {"text_target": texts}, most + 1 - len(end))
            longer = [lost or len(ids) + len(end) > most for ids, lost in zip(targets["input_ids"], cut, strict=True)]
            self.notes += spelling_special(self.tokenizer, texts, f"targets of {of_split(split)}")
            if split != "train":
                self.notes += unlike(self.tokenizer, texts, f"targets of {of_split(split)}", target=True)
            if any(longer):
                self.notes.append(
                    f"{sum(longer)} targets of {of_split(split)} were cut to {most} tokens, after which they do not end"
                )
            references_of = column_of(rows, "references")
            nothing = self.tokenizer(text_target="")["input_ids"]
            rows_of = zip(examples, targets["input_ids"], references_of, longer, strict=True)
            for example, labels, references, long in rows_of:
                if not labels or labels == nothing:
                    raise RowError(
                        example["row"], split, "the tokenizer makes nothing of the target; leave the row out.",
                        example["source"],
                    )  # fmt: skip
                ended = [*labels, *end]
                if long:  # the token that ends a text gives its place to one more of the text
                    ended = [*labels] if end else [*_without_last(labels, self._end[0])]
                example |= {"labels": ended, "references": references}
        return examples

    @cached_property
    def _end(self) -> tuple[int | None, bool]:
        """The token at which a text ends, and whether the tokenizer puts it there; without an end of sequence it is the
        first that the tokenizer puts after a text, as BERT's [SEP]."""
        _, after = frame(self.tokenizer)
        own = self.tokenizer.eos_token_id
        if own is None:
            return (after[0], True) if after else (None, True)
        return own, own in after

    def end_of(self, columns: Collection[str]) -> int | None:
        """The end of a target."""
        return self._end[0]

    def _tell_languages(self) -> None:
        """Tell the tokenizer the languages, and find where its token of the target's stands.

        Most families have it first in a target. mBART has it last, and it is what the decoder's text begins with.
        """
        known = _languages(self.tokenizer)
        some = ", ".join(sorted(known)[:8]) + (f" and {len(known) - 8} more" if len(known) > 8 else "")
        for option, attribute in (("source_language", "src_lang"), ("target_language", "tgt_lang")):
            name = getattr(self.options, option)
            if name is None:
                continue
            if not known:
                raise OptionError(f"{option} is '{name}', but the backbone's tokenizer has no languages; leave it out.")
            if name not in known:
                raise OptionError(f"{option} is '{name}'{nearest(name, known)}; the tokenizer knows {some}.")
            setattr(self.tokenizer, attribute, name)
        target = getattr(self.tokenizer, "tgt_lang", None)
        if target is None and known and self.tokenizer.src_lang is not None:
            raise OptionError(
                "The backbone's tokenizer must be told the language of the targets: --set task.target_language=NAME, "
                f"or target_language='NAME' in Python (and source_language, unless it is {self.tokenizer.src_lang}). "
                f"It knows {some}."
            )
        if target in known:
            frame = self.tokenizer(text_target="")["input_ids"]
            self._first = known[target] if frame[0] == known[target] else None
            self._start = known[target] if frame[-1] == known[target] else None

    def _ids(self, sources: list[str], split: str | None) -> list[list[int]]:
        bare, _ = cut_texts(self.tokenizer, {"text": sources}, 1, add_special_tokens=False)
        for row, ids in enumerate(bare["input_ids"]):
            if not ids:
                raise RowError(
                    row, split, "the tokenizer makes nothing of the source; leave the row out.", sources[row]
                )
        texts, most = [self.options.prefix + source for source in sources], self.task.max_length
        tokens, longer = cut_texts(self.tokenizer, {"text": texts}, most)
        if any(longer):
            self.notes.append(f"{sum(longer)} sources of {of_split(split)} were cut to {most} tokens")
        found: list[list[int]] = tokens["input_ids"]
        return found

    def asked(self, model: nn.Module, batch: Mapping[str, torch.Tensor]) -> tuple[dict[str, Any], torch.Tensor]:
        """What a model is called with, source and target, where what each target token is predicted from stands before
        it; and what each position of the target is to predict, (batch, length); `IGNORED` takes no part, nor does the
        token of the target's language, which is given."""
        labels = batch["labels"]
        before = labels.masked_fill(labels == IGNORED, self.tokenizer.pad_token_id).roll(1, -1)
        before[:, 0] = self._begins(model)
        inputs = {
            "input_ids": batch["input_ids"],
            "attention_mask": batch["attention_mask"],
            "decoder_input_ids": before,
            "decoder_attention_mask": (labels != IGNORED).long(),
            "use_cache": False,
        }
        given = self._language
        return inputs, labels if given is None else labels.masked_fill(labels == given, IGNORED)

    @property
    def _language(self) -> int | None:
        """The token of the target's language, which nobody has to find: a text begins with it (NLLB, M2M100), or it
        stands behind the end (mBART)."""
        return self._start if self._first is None else self._first

    def _begins(self, model: nn.Module) -> int:
        """The token that a target begins with, in the loss as where one is written."""
        return _start(model) if self._start is None else self._start

    def terms(self, examples: Sequence[Example]) -> int:
        """Tokens of the targets that are to be found."""
        return learnt_labels(examples) - sum(example["labels"].count(self._language) for example in examples)

    def written(self, model: nn.Module, batch: Mapping[str, torch.Tensor]) -> list[Written]:
        """What the model writes for the sources."""
        return generate(
            model,
            self.tokenizer,
            {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]},
            new_tokens=self.options.max_target_length,
            beams=self.options.beams,
            length_penalty=self.options.length_penalty,
            ends=[] if self._end[0] is None else [self._end[0]],
            start=self._begins(model),
            first=self._first,
        )

    def writes(self, model: nn.Module) -> dict[str, int | list[int]]:
        """The target's language, where the tokenizer knows languages; and what a text begins or ends with, where the
        model's settings of generation say another."""
        said = getattr(model, "generation_config", None)
        begins, (ends, _) = self._begins(model), self._end
        tokens = {"decoder_start_token_id": self._start, "forced_bos_token_id": self._first}
        if getattr(said, "decoder_start_token_id", None) != begins:
            tokens["decoder_start_token_id"] = begins
        kept = {name: token for name, token in tokens.items() if token is not None}
        return kept | ending(model, [] if ends is None else [ends])

    def baseline(self, train: Sequence[Example], examples: Sequence[Example]) -> tuple[str, list[Any]] | None:
        """The source as it is."""
        return "copy", [{"nll": None, "tokens": None, "text": example["source"].strip()} for example in examples]


def _languages(tokenizer: Any) -> dict[str, int]:
    """The languages that the tokenizer of a multilingual model knows, and the token of each; empty for other models."""
    if not hasattr(tokenizer, "tgt_lang"):
        return {}
    found = getattr(tokenizer, "lang_code_to_id", None)
    if found is None:
        found = {name: tokenizer.convert_tokens_to_ids(name) for name in map(str, tokenizer.extra_special_tokens)}
    return {name: token for name, token in found.items() if token != tokenizer.unk_token_id}


def _start(model: nn.Module) -> int:
    """The token that a decoder's text begins with.

    Raises:
        Unsupported: The model does not say.
    """
    configs = (model.config, getattr(model, "generation_config", None))
    for name in ("decoder_start_token_id", "bos_token_id"):  # T5Gemma's begin as any text does
        for config in configs:
            start = getattr(config, name, None)
            if start is not None:
                return int(start)
    raise Unsupported("the backbone's configuration lacks decoder_start_token_id, which a decoder's text begins with")


def _without_last(ids: list[int], end: int | None) -> list[int]:
    """Token ids without the last one that ends a text; mBART has the language after it."""
    last = next((i for i in range(len(ids) - 1, len(ids) - 3, -1) if i >= 0 and ids[i] == end), len(ids))
    return ids[:last] + ids[last + 1 :]
