"""Plain text, of which tokens are masked and found again from both sides: what encoders are pretrained by.

Going on with it on texts of one's own domain, language or task fits a backbone to them before it learns from labels
(Gururangan et al. 2020, "Don't Stop Pretraining").
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from adapt.data.groups import WORTH_SAYING
from adapt.data.table import column_of
from adapt.display import shows_fields
from adapt.metrics import LOSSES, score
from adapt.spec import DataError, RowError, Task, Unsupported, canonical
from adapt.tasks.kind import Example, Kind
from adapt.tasks.language import mean_loss_at, read_at_places
from adapt.tasks.losses import IGNORED, check_finite, learnt_labels, unigram
from adapt.tasks.masking import MASKED_SHARE, Masking, check_share, masked_count, restored
from adapt.tasks.tokens import (
    TOKEN_FIELDS,
    by_row,
    check_fast,
    check_room,
    decoded,
    frame,
    made_up,
    model_inputs,
    of_split,
    rounded_length,
    special_ids,
    token_fields,
    token_tensors,
)

if TYPE_CHECKING:
    import datasets
    import torch
    from torch import nn

_LIKELIEST = 5
"""Tokens that a prediction names for a mask."""


@shows_fields
@dataclass(frozen=True)
class Options:
    """Options of masked language modelling."""

    masked_share: float = MASKED_SHARE
    """Share of a text's tokens that is to be found (Devlin et al. 2019, section 3.1); Wettig et al. 2023 take more."""
    masking: Literal["tokens", "words"] = field(default="tokens", metadata={"neutral": "tokens"})
    """`words`: all tokens of a word are to be found together (whole word masking; Cui et al. 2021), where
    words are what the tokenizer parts texts into before it looks into its vocabulary: in BERT's each Chinese character
    is one, in SentencePiece's what stands between spaces. Words of more tokens than a text may hide are left as they
    are, unless there are no others: then single tokens are hidden. Scores of the two are not comparable."""
    joined: bool = field(default=False, metadata={"neutral": False})
    """Whether training texts that follow each other are put together, the tokenizer's separator between them, as many
    as `max_length` holds whole (Liu et al. 2019, section 4.2, full sentences). Held-out texts stay alone, so that
    scores are of the same tokens in the same context."""


class MaskedLM(Kind):
    """Tokens that are hidden, from those around them.

    In training they are drawn anew in each epoch (Liu et al. 2019, section 4.1): 80 % become the mask, 10 % any token,
    10 % stay as they are, each token of a word for itself (Devlin et al. 2019, section 3.1). On held-out rows all
    become the mask, and the row's tokens alone decide which they are, so that every model with the tokenizer has the
    same to find. The token for unknown words is never hidden. A text longer than `max_length` becomes several blocks.
    New rows have masks of their own, which are filled.
    """

    Options: ClassVar[type] = Options
    pipeline: ClassVar[str | None] = "fill-mask"
    long_texts: ClassVar[str] = "texts read at most {} tokens at a time"
    decides_loss: ClassVar[tuple[str, ...]] = ("max_length", "masked_share", "masking")

    def __init__(self, task: Task, tokenizer: Any) -> None:
        """
        Raises:
            OptionError: The metric does not go with the problem, or an option is out of range.
        """
        super().__init__(task, tokenizer)
        check_share("masked_share", self.options.masked_share)
        self._masking = Masking(tokenizer, self.options.masked_share)

    def encode(self, rows: datasets.Dataset, *, split: str | None = None) -> list[Example]:
        """Texts to token ids, in blocks; of labelled rows some are the mask, and `labels` says which tokens these were.

        Raises:
            RowError: A new row has no mask.
            DataError: No labelled row has a token that could be found.
            OptionError: `max_length` leaves no room beside the tokenizer's own tokens.
            Unsupported: The tokenizer has no mask, or words are to be hidden and it does not tell them apart.
        """
        if not len(rows):
            return []
        mask = self.tokenizer.mask_token_id
        if mask is None:
            raise Unsupported(
                f"the backbone's tokenizer ({type(self.tokenizer).__name__}) has no mask token to hide others by; "
                "use an encoder that was pretrained with one (BERT, RoBERTa, ModernBERT), or the kind causal_lm"
            )
        check_room(self.tokenizer, self.task.max_length, pair=False)
        if self.options.masking == "words":
            self._check_words()
        texts = column_of(rows, "text")
        examples = self._blocks(texts)
        blocks = by_row(examples)
        if split is None:
            for row, parts in enumerate(blocks):
                if not any(mask in examples[i]["input_ids"] for i in parts):
                    raise RowError(
                        row, None, f"there is no {self.tokenizer.mask_token}, which stands for a word to be found; put "
                        "one in", texts[row],
                    )  # fmt: skip
            return examples
        parted = sum(len(parts) > 1 for parts in blocks)
        if parted:
            self.notes.append(
                f"{parted} texts of {of_split(split)} were cut into blocks of {self.task.max_length} tokens"
            )
        self._tell_of_unknown(examples, split)
        if split == "train" and self.options.joined:
            examples = self._joined(examples)
        return [self._masking.held_out(example) for example in examples]

    def _check_words(self) -> None:
        """
        Raises:
            Unsupported: The tokenizer does not tell words apart.
        """
        check_fast(self.tokenizer, "masking='words'")
        if self.tokenizer.backend_tokenizer.pre_tokenizer is None:
            raise Unsupported(
                "the backbone's tokenizer does not part texts into words, which masking='words' needs; use "
                "masking='tokens'"
            )

    def _blocks(self, texts: list[str]) -> list[Example]:
        """The token ids of texts within the tokenizer's own tokens; a text longer than `max_length` is several.

        Where words are hidden, `words` says of each token at which place of the block its word begins.
        """
        most = self.task.max_length
        if self.tokenizer.is_fast:
            made = self.tokenizer(texts, truncation=True, max_length=most, return_overflowing_tokens=True)
            owners = made["overflow_to_sample_mapping"]
            blocks = [{"row": row, **token_fields(made, i)} for i, row in enumerate(owners)]
            if self.options.masking == "words":
                for i, block in enumerate(blocks):
                    block["words"] = _beginnings(made.word_ids(i))
            if self.tokenizer.truncation_side == "left":  # the last block of each text comes first
                blocks = blocks[::-1]
                blocks.sort(key=lambda block: block["row"])
            return blocks
        room = most - self.tokenizer.num_special_tokens_to_add(pair=False)
        found: list[Example] = []
        for row, ids in enumerate(self.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]):
            for start in range(0, max(len(ids), 1), room):
                block = self.tokenizer.prepare_for_model(ids[start : start + room])
                found.append({"row": row, **{name: list(block[name]) for name in TOKEN_FIELDS if name in block}})
        return found

    def _joined(self, blocks: Sequence[Example]) -> list[Example]:
        """Blocks put together within one frame of the tokenizer's own tokens, as many as fit whole."""
        begin, end = map(len, frame(self.tokenizer))
        between = self.tokenizer.sep_token_id
        joined: list[Example] = []
        for block in blocks:
            if len(block["input_ids"]) <= begin + end:  # the tokenizer made nothing of the text
                continue
            more = len(block["input_ids"]) - begin - end + (between is not None)
            if not joined or len(joined[-1]["input_ids"]) + more > self.task.max_length:
                joined.append({name: value if name == "row" else [*value] for name, value in block.items()})
                continue
            into = joined[-1]
            at = len(into["input_ids"]) - end
            shift = at - begin + (between is not None)
            for name in into.keys() - {"row"}:
                values = block[name][begin:]
                if name == "words":
                    values = [place + shift for place in values]
                if between is not None:
                    values = [{"input_ids": between, "words": at}.get(name, values[0]), *values]
                into[name][at:] = values
        for row, block in enumerate(joined):
            block["row"] = row
        if len(joined) < len(blocks):
            self.notes.append(
                f"the texts of the train split were joined into {len(joined)} blocks of at most "
                f"{self.task.max_length} tokens"
            )
        return joined

    def _tell_of_unknown(self, examples: Sequence[Example], split: str) -> None:
        """
        Raises:
            DataError: The tokenizer knows no word of the texts.
        """
        tokens = Counter(token for example in examples for token in example["input_ids"])
        known = sum(n for token, n in tokens.items() if token not in self._masking.never)
        unknown = sum(tokens[token] for token in self._masking.never - special_ids(self.tokenizer))
        if not known:
            raise DataError(
                f"There is nothing to be found in {of_split(split)}: the backbone's tokenizer knows no word of its "
                "texts; take a backbone that was pretrained on their language and script"
            )
        if unknown >= WORTH_SAYING * (unknown + known):
            self.notes.append(
                f"{unknown / (unknown + known):.0%} of the tokens of {of_split(split)} stand for words that the "
                "tokenizer does not know, and are never those to be found"
            )

    def unknown(self, examples: Sequence[Example], which: str = "the rows") -> list[str]:
        """Nothing: it was said when the rows were encoded."""
        return []

    def redraw(self, examples: Sequence[Example], seed: int, epoch: int) -> Sequence[Example]:
        """The rows with other tokens to be found in each epoch; each is made when it is asked for."""
        return self._masking.epoch(examples, f"{seed} {epoch}")

    def start(self, model: nn.Module) -> None:
        """See how many tokens the model has embeddings for, where its tokenizer was given more.

        Raises:
            Unsupported: It has none for the mask.
        """
        self.heed(model)
        known = getattr(model.config, "vocab_size", None)
        if known is not None and self.tokenizer.mask_token_id >= known:
            raise Unsupported(
                f"the backbone has no embedding for {self.tokenizer.mask_token}, by which its tokenizer hides tokens; "
                "use an encoder that was pretrained with one (BERT, RoBERTa, ModernBERT), or the kind causal_lm"
            )

    def heed(self, model: nn.Module) -> None:
        """Draw no token in place of one to be found that the model has no embedding for."""
        known = getattr(model.config, "vocab_size", None)
        if known is not None:
            self._masking.embeddings = min(known, self._masking.embeddings or known)

    def examples(self, rows: int, length: int) -> list[Example]:
        """Made-up rows of `length` tokens, of which the first are to be found, for planning."""
        asked = masked_count(self.options.masked_share, length)
        return [
            {**row, "labels": [*row["input_ids"][:asked], *[IGNORED] * (length - asked)]}
            for row in made_up(self.tokenizer, rows, length)
        ]

    def collate(self, examples: Sequence[Example], *, longest: int | None = None) -> dict[str, torch.Tensor]:
        """What the model takes, (batch, length) each; `places`, (asked), where in the flat batch tokens are to be
        found, and, of labelled rows, `targets`, (asked), which they are."""
        import torch

        batch = token_tensors(self.tokenizer, examples, longest=longest)
        length = batch["input_ids"].shape[1]
        places: list[int] = []
        targets: list[int] = []
        for row, example in enumerate(examples):
            labels = example.get("labels")
            if labels is None:
                mask = self.tokenizer.mask_token_id
                places += [row * length + i for i, token in enumerate(example["input_ids"]) if token == mask]
                continue
            asked = [i for i, label in enumerate(labels) if label != IGNORED]
            places += [row * length + i for i in asked]
            targets += [labels[i] for i in asked]
        if longest is not None:  # one of few numbers
            more = rounded_length(len(places)) - len(places)
            places += [0] * more
            targets += [IGNORED] * more
        batch["places"] = torch.tensor(places, dtype=torch.int64)
        if "labels" in examples[0]:
            batch["targets"] = torch.tensor(targets, dtype=torch.int64)
        return batch

    def loss(self, model: nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Mean negative log-likelihood of the tokens to be found, a float32 scalar."""
        return mean_loss_at(model, model_inputs(batch), batch["places"], batch["targets"])

    def asked(self, model: nn.Module, batch: Mapping[str, torch.Tensor]) -> tuple[dict[str, Any], torch.Tensor]:
        """What a model is called with, and what each of its positions is to predict, (batch, length); `IGNORED` takes
        no part."""
        import torch

        labels = torch.full_like(batch["input_ids"], IGNORED)
        found = batch["targets"] != IGNORED  # else the padding of few lengths
        labels.view(-1)[batch["places"][found]] = batch["targets"][found]
        return model_inputs(batch), labels

    def terms(self, examples: Sequence[Example]) -> int:
        """Tokens to be found."""
        return learnt_labels(examples)

    def outputs(self, model: nn.Module, batch: Mapping[str, torch.Tensor], *, final: bool = True) -> list[Any]:
        """Of labelled rows `nll`, the summed negative log-likelihood in nats of the tokens to be found, `tokens`, their
        number, and `right`, how many of them are the likeliest; of others `fills`, the likeliest tokens of each mask
        with their probabilities."""
        rows, length = batch["input_ids"].shape
        owners = (batch["places"] // length).tolist()
        targets = batch.get("targets")
        found = read_at_places(model, model_inputs(batch), batch["places"], targets, _LIKELIEST, known=self._known)
        if targets is None:
            fills: list[dict[str, Any]] = [{"fills": []} for _ in range(rows)]
            for row, fill in zip(owners, found, strict=True):
                fills[row]["fills"].append(fill)
            return fills
        made: list[dict[str, Any]] = [{"nll": [], "tokens": 0, "right": 0} for _ in range(rows)]
        for row, (nll, right) in zip(owners, found, strict=True):
            made[row]["nll"].append(nll)
            made[row]["tokens"] += 1
            made[row]["right"] += right
        return [{**row, "nll": math.fsum(row["nll"])} for row in made]

    @cached_property
    def _known(self) -> list[int]:
        """The tokens of the tokenizer, which may have gaps and end before those of a model."""
        return sorted(set(self.tokenizer.get_vocab().values()))

    @staticmethod
    def _rows(outputs: Sequence[Any], examples: Sequence[Example]) -> list[dict[str, Any]]:
        """The outputs of a row's blocks together."""
        return [
            {name: math.fsum(outputs[i][name] for i in parts) for name in ("nll", "tokens", "right")}
            for parts in by_row(examples)
        ]

    def score(self, outputs: Sequence[Any], examples: Sequence[Example]) -> dict[str, float]:
        """Losses, and the share of tokens that are found.

        Raises:
            Diverged: A negative log-likelihood is not finite.
        """
        rows = self._rows(outputs, examples)
        nlls, tokens, right = ([row[name] for row in rows] for name in ("nll", "tokens", "right"))
        check_finite(nlls)
        return score("masked", nlls, tokens, LOSSES) | score("masked", right, tokens, ["masked_accuracy"])

    def digest(self, examples: Sequence[Example]) -> str | None:
        """Of the tokens as they are hidden and to be found."""
        asked = canonical([[example["input_ids"], example["labels"]] for example in examples])
        return hashlib.sha256(asked.encode()).hexdigest()

    def outcomes(self, outputs: Sequence[Any], examples: Sequence[Example]) -> list[Any]:
        """Of each row the negative log-likelihood in nats, tokens that were to be found, and those that are."""
        return [[round(row["nll"], 4), int(row["tokens"]), int(row["right"])] for row in self._rows(outputs, examples)]

    def decode(self, outputs: Sequence[Any], examples: Sequence[Example]) -> list[dict[str, Any]]:
        """`text`, with the likeliest token in place of each mask, and `fills`, for each mask the likeliest tokens with
        their probabilities, the likeliest first."""
        made = []
        for parts in by_row(examples):
            fills = [fill for i in parts for fill in outputs[i]["fills"]]
            ids = [token for i in parts for token in examples[i]["input_ids"]]
            best = iter([fill[0][0] for fill in fills])
            mask = self.tokenizer.mask_token_id
            left_out = special_ids(self.tokenizer) - {mask}
            whole = [next(best) if token == mask else token for token in ids if token not in left_out]
            made.append({
                "text": decoded(self.tokenizer, whole, special=True),
                "fills": [self._named(fill) for fill in fills],
            })  # fmt: skip
        return made

    def _named(self, fill: Sequence[tuple[int, float]]) -> dict[str, float]:
        """Probabilities by how tokens read; of those that read as nothing, or alike (parts of a character; with a space
        before them or not), by what the vocabulary calls them."""
        read = [self.tokenizer.decode([token]).strip() for token, _ in fill]
        called = self.tokenizer.convert_ids_to_tokens([token for token, _ in fill])
        names = [name if name and read.count(name) == 1 else other for name, other in zip(read, called, strict=True)]
        return {name: share for name, (_, share) in zip(names, fill, strict=True)}

    def baseline(self, train: Sequence[Example], examples: Sequence[Example]) -> tuple[str, list[Any]] | None:
        """Each token by its share of the training texts, one added to every token's count (Laplace)."""
        found: Counter[int] = Counter()
        for example in train:
            found.update(token for token in restored(example) if token not in self._masking.never)
        nll = unigram(found, len(self.tokenizer))
        usual = max(found, key=lambda token: (found[token], -token), default=None)
        outputs = []
        for example in examples:
            asked = [token for token in example["labels"] if token != IGNORED]
            outputs.append({"nll": nll(asked), "tokens": len(asked), "right": sum(token == usual for token in asked)})
        return "unigram", outputs


def _beginnings(words: Sequence[int | None]) -> list[int]:
    """Of each token where the first one of its word stands; one of no word stands alone."""
    first: dict[int, int] = {}
    return [place if word is None else first.setdefault(word, place) for place, word in enumerate(words)]
