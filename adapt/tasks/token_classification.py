"""A tag for each word of a row: spans in BIO tags (named entities) or any tags (parts of speech)."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from adapt.data.table import column_of
from adapt.display import shows_fields
from adapt.metrics import score
from adapt.metrics.spans import counts, spans_of, unpredicted
from adapt.spec import DataError, OptionError, Task
from adapt.tasks.kind import Example, Kind
from adapt.tasks.losses import IGNORED, check_finite, mean_loss
from adapt.tasks.tokens import (
    by_row,
    check_at_least,
    check_fast,
    encoded_words,
    made_up,
    model_inputs,
    of_split,
    pad,
    read_at,
    token_fields,
    token_tensors,
    windows_within,
)

if TYPE_CHECKING:
    import datasets
    import torch
    from torch import nn


@shows_fields
@dataclass(frozen=True)
class Options:
    """Options of token classification."""

    stride: int = 32
    """Tokens that neighbouring windows of a row longer than `max_length` share; never more than half a window."""


class TokenClassification(Kind):
    """A tag for each word, read at the word's first token that is more than white space (Devlin et al. 2019).

    The space before a word is a token of its own where the tokenizer joins it to nothing, as before digits and Chinese
    characters; there a causal model has not seen the word yet.

    A row longer than `max_length` tokens becomes several windows that overlap, in training too. Each word is learnt
    and predicted in one of them: where it has the most context on its poorer side. A word that the tokenizer makes
    nothing of gets `O` (spans) or the most frequent tag of the training rows (tags).
    """

    Options: ClassVar[type] = Options
    pipeline: ClassVar[str | None] = "token-classification"
    long_texts: ClassVar[str] = "texts read at most {} tokens at a time"

    def __init__(self, task: Task, tokenizer: Any) -> None:
        """
        Raises:
            OptionError: The metric does not go with the problem, or an option is out of range.
            Unsupported: The tokenizer is not a fast one.
            DataError: Tags of spans are not BIO tags.
        """
        super().__init__(task, tokenizer)
        check_at_least(self.options, stride=0)
        check_fast(tokenizer, "Token classification")
        self._common = 0
        self._counts: Counter[int] = Counter()
        self._names = task.labels
        if task.problem == "spans":
            self._names = (*task.labels, *unpredicted(task.labels))
            for tag in task.labels:
                if tag != "O" and tag[:2] not in ("B-", "I-"):
                    raise DataError(f"Tag '{tag}' is not a BIO tag (O, B-TYPE, I-TYPE); use problem 'tags'.")
            self._common = task.labels.index("O") if "O" in task.labels else 0

    def encode(self, rows: datasets.Dataset, *, split: str | None = None) -> list[Example]:
        """Words to token ids: one or more windows a row.

        Each window has `words`, the words read in it, `positions`, the token of each, and `tags`, the tag of each;
        the row's first window also has all its words (`row_words`) and tags (`row_tags`).

        Raises:
            OptionError: `max_length` leaves no room beside the tokenizer's special tokens.
        """
        if not len(rows):
            return []
        words = column_of(rows, "tokens")
        tags = column_of(rows, "tags") if "tags" in rows.column_names else None
        tokens = encoded_words(self.tokenizer, words, truncation=False, verbose=False)
        examples: list[Example] = []
        long = 0
        for row in range(len(words)):
            made = self._windows(token_fields(tokens, row), tokens.word_ids(row), tokens.tokens(row))
            long += len(made) > 1
            for example in made:
                example["row"] = row
                if tags is not None:
                    example["tags"] = [tags[row][word] for word in example["words"]]
            made[0]["row_words"] = words[row]
            if tags is not None:
                made[0]["row_tags"] = list(tags[row])
            examples += made
        if long:
            self.notes.append(
                f"{long} rows of {of_split(split)} are longer than {self.task.max_length} tokens and were cut into "
                "windows that overlap"
            )
        return examples

    def _windows(
        self, fields: Mapping[str, list[int]], owners: list[int | None], tokens: Sequence[str]
    ) -> list[Example]:
        """The windows of a row.

        Args:
            fields: Token fields of the whole row, special tokens included.
            owners: The word that each token belongs to; None for special tokens, which stand around every window.
            tokens: What the vocabulary calls each token.
        """
        own = [i for i, word in enumerate(owners) if word is not None]
        first, parts = windows_within(fields, own, self.task.max_length, self.options.stride)
        if not parts:
            raise OptionError(
                f"max_length is {self.task.max_length}, which the tokenizer's special tokens fill; raise it."
            )
        found: list[list[tuple[int, int]]] = [[] for _ in parts]
        starts, ends = [start for start, _, _ in parts], [end for _, end, _ in parts]
        for word, i in read_at(owners, tokens).items():
            holding = range(bisect_right(ends, i), bisect_right(starts, i))  # the windows that have the token
            best = max(holding, key=lambda w: min(i - starts[w], ends[w] - 1 - i))
            found[best].append((word, first + i - parts[best][0]))
        made: list[Example] = []
        # a window whose words are all read in its neighbours is not needed
        for w in [w for w, places in enumerate(found) if places] or [0]:
            (_, _, example), places = parts[w], found[w]
            if not example["input_ids"]:  # nothing is left of the row: one token that nobody reads
                example = {name: [self.tokenizer.pad_token_id if name == "input_ids" else 0] for name in fields}
            made.append({**example, "words": [word for word, _ in places], "positions": [p for _, p in places]})
        return made

    def fit(self, examples: Sequence[Example]) -> None:
        """How often each tag is, and the most frequent one, for words that the tokenizer makes nothing of."""
        self._counts = Counter(tag for example in examples for tag in example.get("tags", ()))
        if self.task.problem == "tags":
            self._common = _most_frequent(Counter(tag for e in examples for tag in e.get("row_tags", ())))

    def start(self, model: nn.Module) -> None:
        """Set the biases of a fresh head to the log frequencies of the tags (one is added to each count).

        Nearly all words of a text are outside of names. A head that starts from even odds has to be taught this first,
        by gradients that are alike for all tokens: at the rates of adapters they wipe out what tells the tokens apart
        (Lin et al. 2017, "Focal loss", section 3.3, start rare classes from a prior for the same reason).
        """
        import torch
        from torch import nn

        names: frozenset[str] = getattr(model, "fresh_names", frozenset())
        tags = len(self.task.labels)
        for name, module in model.named_modules():
            if isinstance(module, nn.Linear) and module.out_features == tags and f"{name}.bias" in names:
                counts = torch.tensor([self._counts[tag] + 1.0 for tag in range(tags)])
                module.bias.data.copy_((counts / counts.sum()).log())

    def state(self) -> dict[str, float]:
        """Index of the most frequent tag."""
        return {"common": float(self._common)}

    def load_state(self, state: Mapping[str, float]) -> None:
        """Set the most frequent tag."""
        self._common = int(state["common"])

    def examples(self, rows: int, length: int) -> list[Example]:
        """Made-up windows of `length` tokens, each of them a word, for planning."""
        return [
            {**row, "positions": list(range(length)), "tags": [0] * length}
            for row in made_up(self.tokenizer, rows, length)
        ]

    def collate(self, examples: Sequence[Example], *, longest: int | None = None) -> dict[str, torch.Tensor]:
        """Windows padded on the right: token fields, `read` (whether a token is a word's first) and `labels` (the
        word's tag there, `IGNORED` elsewhere), each (batch, length)."""
        batch = token_tensors(self.tokenizer, examples, longest=longest)

        def spread(values: Sequence[Sequence[int]], fill: int) -> torch.Tensor:
            """What each word of a window has at the word's position, `fill` elsewhere: (batch, length)."""
            rows = [[fill] * len(example["input_ids"]) for example in examples]
            for row, example, own in zip(rows, examples, values, strict=True):
                for position, value in zip(example["positions"], own, strict=True):
                    row[position] = value
            return pad(rows, fill, longest=longest)

        batch["read"] = spread([[1] * len(example["positions"]) for example in examples], 0).bool()
        if "tags" in examples[0]:
            batch["labels"] = spread([example["tags"] for example in examples], IGNORED)
        return batch

    def loss(self, model: nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Mean cross-entropy of the words of a batch, a float32 scalar."""
        return mean_loss(model(**model_inputs(batch)).logits, batch["labels"])

    def terms(self, examples: Sequence[Example]) -> int:
        """Words that are read and have a tag."""
        return sum(tag != IGNORED for example in examples for tag in example["tags"])

    def outputs(self, model: nn.Module, batch: Mapping[str, torch.Tensor], *, final: bool = True) -> list[Any]:
        """Logits of the words read in each window, float32 tensors (words, tags)."""
        logits = model(**model_inputs(batch)).logits.detach().float().cpu()  # at once: a GPU is waited for
        return [row[read] for row, read in zip(logits, batch["read"].cpu(), strict=True)]

    def _decisions(self, outputs: Sequence[Any], examples: Sequence[Example]) -> list[list[int]]:
        """Tag index of each word of each row."""
        rows = []
        for parts in by_row(examples):
            row = [self._common] * len(examples[parts[0]]["row_words"])
            for i in parts:
                for word, tag in zip(examples[i]["words"], outputs[i].argmax(-1).tolist(), strict=True):
                    row[word] = tag
            rows.append(row)
        return rows

    def _named(self, rows: Sequence[Sequence[int]]) -> list[list[str]]:
        return [[self._names[tag] for tag in row] for row in rows]

    def score(self, outputs: Sequence[Any], examples: Sequence[Example]) -> dict[str, float]:
        """All metrics of the problem (`adapt.metrics.METRICS`).

        Raises:
            Diverged: An output is not finite.
        """
        check_finite(outputs)
        truth = self._named(_true_tags(examples))
        return score(self.task.problem, self._named(self._decisions(outputs, examples)), truth)

    def outcomes(self, outputs: Sequence[Any], examples: Sequence[Example]) -> list[Any]:
        """Words that are right, and words in all; of spans before these spans that are right, wrong and missed."""
        pairs = list(zip(self._decisions(outputs, examples), _true_tags(examples), strict=True))
        words = [[sum(a == b for a, b in zip(*pair, strict=True)), len(pair[1])] for pair in pairs]
        if self.task.problem == "tags":
            return words
        return [counts(*self._named(pair)) + row for pair, row in zip(pairs, words, strict=True)]

    def decode(self, outputs: Sequence[Any], examples: Sequence[Example]) -> list[dict[str, Any]]:
        """`tags` of the words; for spans also `spans`: type, first word, end (exclusive) and text."""
        rows = self._named(self._decisions(outputs, examples))
        if self.task.problem == "tags":
            return [{"tags": tags} for tags in rows]
        words = [example["row_words"] for example in examples if "row_words" in example]
        return [
            {
                "tags": tags,
                "spans": [
                    {"type": kind, "start": start, "end": end, "text": " ".join(row[start:end])}
                    for kind, start, end in spans_of(tags)
                ],
            }
            for tags, row in zip(rows, words, strict=True)
        ]

    def baseline(self, train: Sequence[Example], examples: Sequence[Example]) -> tuple[str, list[Any]] | None:
        """`O` for every word; or each word's most frequent tag in training, for new words that of all words."""
        import torch

        tags_of: dict[str, Counter[int]] = {}
        if self.task.problem == "tags":
            for example in train:
                for word, tag in zip(example.get("row_words", ()), example.get("row_tags", ()), strict=True):
                    tags_of.setdefault(word, Counter())[tag] += 1
        common = _most_frequent(sum(tags_of.values(), Counter[int]())) if tags_of else self._common
        choice = {word: _most_frequent(found) for word, found in tags_of.items()}
        rows = {e["row"]: e["row_words"] for e in examples if "row_words" in e}
        scores = torch.eye(len(self.task.labels))
        return "majority", [scores[[choice.get(rows[e["row"]][word], common) for word in e["words"]]] for e in examples]


def _true_tags(examples: Sequence[Example]) -> list[list[int]]:
    return [example["row_tags"] for example in examples if "row_tags" in example]


def _most_frequent(found: Counter[int]) -> int:
    """The value counted most often, of several the smallest; 0 where nothing was counted."""
    return min(found, key=lambda value: (-found[value], value), default=0)
