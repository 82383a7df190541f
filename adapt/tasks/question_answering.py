"""The part of a context that answers a question, as in SQuAD (Rajpurkar et al. 2016, 2018)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

from adapt.data.table import column_of
from adapt.display import shows_fields
from adapt.metrics import score
from adapt.metrics.texts import answer_scores, end_of_words
from adapt.spec import DataError, OptionError, RowError, Task
from adapt.tasks.kind import Example, Kind
from adapt.tasks.losses import check_finite
from adapt.tasks.tokens import (
    between,
    by_row,
    check_at_least,
    check_fast,
    made_up,
    model_inputs,
    of_split,
    pad,
    token_fields,
    token_tensors,
    windows_within,
)

if TYPE_CHECKING:
    import datasets
    import torch
    from torch import nn

_QUESTION_TOKENS = 64
"""Tokens a question is cut to, or a third of `max_length` where that is less."""
_BASELINE_WORDS = 3


@shows_fields
@dataclass(frozen=True)
class Options:
    """Options of question answering."""

    stride: int = 64
    """Context tokens that neighbouring windows share; never more than half a window's."""
    max_answer_tokens: int = 30
    """Tokens of the longest answer that is predicted."""
    null_threshold: float = 0.0
    """By how much the score of no answer must exceed the best span's for no answer to be predicted."""


@dataclass(frozen=True)
class _Answer:
    """What is predicted for a row."""

    text: str
    """A part of the context, without white space around; empty for no answer."""
    start: int
    """The character of the context where it begins."""
    margin: float | None
    """By how much the best span's logits exceed those of no answer; None where the context has no token."""


class QuestionAnswering(Kind):
    """Start and end of the answer among the tokens of the context (Devlin et al. 2019).

    A context longer than a window becomes several that overlap. A window that does not hold the whole answer is
    trained to point at its null position: the `[CLS]` token, or the first token where there is none. The softmax goes
    over the context's tokens and the null position. Where every training question has an answer, the best span is
    always predicted; else no answer is predicted where its score, the lowest over the windows, exceeds the best span's
    by `null_threshold`.
    """

    Options: ClassVar[type] = Options
    pipeline: ClassVar[str | None] = "question-answering"
    long_texts: ClassVar[str] = "texts read at most {} tokens at a time"

    def __init__(self, task: Task, tokenizer: Any) -> None:
        """
        Raises:
            OptionError: The metric does not go with the problem, or an option is out of range.
            Unsupported: The tokenizer is not a fast one.
        """
        super().__init__(task, tokenizer)
        check_at_least(self.options, stride=0, max_answer_tokens=1)
        check_fast(tokenizer, "Question answering")
        self._unanswerable = False

    def encode(self, rows: datasets.Dataset, *, split: str | None = None) -> list[Example]:
        """Questions with windows of their contexts to token ids.

        Each window has `first`, the place of its first context token, `begin`, the number of that token in the whole
        context, `null`, its null position, `offsets`, the characters of each context token, and where labelled
        `target`, the answer's first and last token; the row's first window also has `id`, `context` and `answers`.

        Training rows whose answer lies whole in no window are left out, and counted in `notes` and `left_out`.

        Raises:
            OptionError: `max_length` leaves no room for the context.
            DataError: No answer of the training rows lies in a window.
            RowError: The tokenizer makes nothing of a question.
        """
        if not len(rows):
            return []
        contexts = column_of(rows, "context")
        questions = self._questions(column_of(rows, "question"), contexts, split)
        tokens = self.tokenizer(questions, contexts, truncation=False, return_offsets_mapping=True, verbose=False)
        labelled = "answer_texts" in rows.column_names
        texts, starts = (column_of(rows, name) if labelled else [] for name in ("answer_texts", "answer_starts"))
        examples: list[Example] = []
        lost = long = 0
        for row, (name, context) in enumerate(zip(column_of(rows, "id"), contexts, strict=True)):
            sides = tokens.sequence_ids(row)
            made = self._windows(token_fields(tokens, row), sides, tokens["offset_mapping"][row])
            made[0] |= {"id": name, "context": context}
            offsets = [pair for pair, side in zip(tokens["offset_mapping"][row], sides, strict=True) if side == 1]
            if labelled and not _label(made, texts[row], starts[row], offsets):
                lost += 1
                if split == "train":
                    self.left_out += 1
                    continue
            most = self.options.max_answer_tokens
            long += labelled and any(window["target"][1] - window["target"][0] >= most for window in made)
            examples += [{**example, "row": row} for example in made]
        if long:
            self.notes.append(
                f"{long} answers of {of_split(split)} are longer than the {self.options.max_answer_tokens} tokens that "
                "are predicted at most (max_answer_tokens)"
            )
        if lost:
            self.notes.append(f"{lost} answers of {of_split(split)} lie in no window of {self.task.max_length} tokens")
            if not examples:
                raise DataError(
                    f"No answer of {of_split(split)} lies in a window of {self.task.max_length} tokens; "
                    "raise max_length."
                )
        return examples

    def beside_plain(self) -> list[str]:
        """That questions end with a line break, where the tokenizer puts nothing after them."""
        return [*super().beside_plain(), *(["A line break follows a question."] * bool(between(self.tokenizer)))]

    def _questions(self, questions: list[str], contexts: list[str], split: str | None) -> list[str]:
        """Questions cut to their share of a window, followed by a line break where the tokenizer adds nothing."""
        most = max(1, min(_QUESTION_TOKENS, self.task.max_length // 3))
        found = self.tokenizer(
            questions, add_special_tokens=False, return_offsets_mapping=True, truncation=False, verbose=False
        )["offset_mapping"]
        long = sum(len(offsets) > most for offsets in found)
        if long:
            self.notes.append(f"{long} questions of {of_split(split)} were cut to {most} tokens")
        for row, offsets in enumerate(found):
            if not offsets:
                nothing = "the tokenizer makes nothing of the question; leave the row out."
                raise RowError(row, split, nothing, contexts[row])
        apart = between(self.tokenizer)
        return [
            (text[: offsets[most - 1][1]] if len(offsets) > most else text) + apart
            for text, offsets in zip(questions, found, strict=True)
        ]

    def _windows(
        self, fields: Mapping[str, list[int]], sides: list[int | None], offsets: list[tuple[int, int]]
    ) -> list[Example]:
        """The windows of a row.

        Args:
            fields: Token fields of the whole row.
            sides: For each token 0 (question), 1 (context) or None (special).
            offsets: Characters of each token in its text.
        """
        context = [i for i, side in enumerate(sides) if side == 1]
        first, parts = windows_within(fields, context, self.task.max_length, self.options.stride)
        if not parts:
            raise OptionError(f"max_length is {self.task.max_length}, which leaves no room for the context; raise it.")
        head = fields["input_ids"][:first]
        cls = self.tokenizer.cls_token_id
        null = head.index(cls) if cls is not None and cls in head else 0
        return [
            {
                **window,
                "first": first,
                "begin": start - first,
                "null": null,
                "offsets": [tuple(pair) for pair in offsets[start:end]],
            }
            for start, end, window in parts
        ]

    def fit(self, examples: Sequence[Example]) -> None:
        """Whether there are training questions without an answer."""
        self._unanswerable = any(not example["answers"] for example in examples if "answers" in example)

    def state(self) -> dict[str, float]:
        """Whether no answer may be predicted."""
        return {"unanswerable": float(self._unanswerable)}

    def load_state(self, state: Mapping[str, float]) -> None:
        """Set whether no answer may be predicted."""
        self._unanswerable = bool(state["unanswerable"])

    def go_on(self, state: Mapping[str, float]) -> list[str]:
        """Predict no answer, too, where the head was trained on questions without one."""
        self._unanswerable = self._unanswerable or bool(state["unanswerable"])
        return []

    def examples(self, rows: int, length: int) -> list[Example]:
        """Made-up windows of `length` tokens, for planning."""
        return [
            {**row, "null": 0, "first": 0, "offsets": [(0, 0)] * length, "target": (0, 0)}
            for row in made_up(self.tokenizer, rows, length)
        ]

    def collate(self, examples: Sequence[Example], *, longest: int | None = None) -> dict[str, torch.Tensor]:
        """Windows padded on the right: token fields and `choices` (the null position and the context's tokens), each
        (batch, length); `labels` (batch, 2), the first and last token of the answer."""
        import torch

        batch = token_tensors(self.tokenizer, examples, longest=longest)
        choices = []
        for example in examples:
            row = [0] * len(example["input_ids"])
            for i in (example["null"], *range(example["first"], example["first"] + len(example["offsets"]))):
                row[i] = 1
            choices.append(row)
        batch["choices"] = pad(choices, 0, longest=longest).bool()
        if "target" in examples[0]:
            batch["labels"] = torch.tensor([example["target"] for example in examples])
        return batch

    def loss(self, model: nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Mean cross-entropy of start and end, a float32 scalar."""
        from torch.nn import functional as F

        start, end = self._logits(model, batch)
        labels = batch["labels"]
        return (F.cross_entropy(start, labels[:, 0]) + F.cross_entropy(end, labels[:, 1])) / 2

    @staticmethod
    def _logits(model: nn.Module, batch: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits of start and end, (batch, length) each, minus infinity where no answer can begin or end."""
        found = model(**model_inputs(batch))
        outside = ~batch["choices"]
        return (
            found.start_logits.float().masked_fill(outside, float("-inf")),
            found.end_logits.float().masked_fill(outside, float("-inf")),
        )

    def outputs(self, model: nn.Module, batch: Mapping[str, torch.Tensor], *, final: bool = True) -> list[Any]:
        """Logits of start and end at the null position and the context's tokens: float32 tensors (2, 1 + tokens)."""
        import torch

        logits = torch.stack(self._logits(model, batch), 1).detach().cpu()  # at once: a GPU is waited for
        return [row[:, choices] for row, choices in zip(logits, batch["choices"].cpu(), strict=True)]

    def _answers(self, outputs: Sequence[Any], examples: Sequence[Example]) -> list[_Answer]:
        """The answer of each row: the best span of its windows, unless no answer is better."""
        rows = []
        for parts in by_row(examples):
            spans = [best_span(outputs[i], self.options.max_answer_tokens) for i in parts]
            best, (logit, first, last) = max(zip(parts, spans, strict=True), key=lambda found: found[1][0])
            if first < 0:
                rows.append(_Answer("", 0, None))
                continue
            margin = logit - min(float(outputs[i][:, 0].sum()) for i in parts)
            offsets, text = examples[best]["offsets"], ""
            context, start = examples[parts[0]]["context"], offsets[first][0]
            if not self._unanswerable or margin >= -self.options.null_threshold:
                text = context[start : _whole_character(context, offsets[last][1])]
            # byte-level tokens begin with the space before their word
            rows.append(_Answer(text.strip(), start + len(text) - len(text.lstrip()), margin))
        return rows

    def score(self, outputs: Sequence[Any], examples: Sequence[Example]) -> dict[str, float]:
        """All metrics of the problem (`adapt.metrics.METRICS`).

        Raises:
            Diverged: An output is not finite.
        """
        check_finite(outputs)
        answers = [found.text for found in self._answers(outputs, examples)]
        return score(self.task.problem, answers, _references(examples))

    def outcomes(self, outputs: Sequence[Any], examples: Sequence[Example]) -> list[Any]:
        """Exact match (0 or 1) and F1."""
        pairs = zip(self._answers(outputs, examples), _references(examples), strict=True)
        scores = [answer_scores(found.text, references) for found, references in pairs]
        return [[int(exact), round(f1, 4)] for exact, f1 in scores]

    def decode(self, outputs: Sequence[Any], examples: Sequence[Example]) -> list[dict[str, Any]]:
        """`id`, `answer` (a part of the context; empty for none), `start`, the character of the context where it
        begins (None for none), and `score`: by how much the best span's logits exceed those of no answer."""
        names = [example["id"] for example in examples if "id" in example]
        return [
            {"id": name, "answer": found.text, "start": found.start if found.text else None, "score": found.margin}
            for name, found in zip(names, self._answers(outputs, examples), strict=True)
        ]

    def baseline(self, train: Sequence[Example], examples: Sequence[Example]) -> tuple[str, list[Any]] | None:
        """The first words of the context, or no answer where that scores better on the training rows."""
        metric = self.task.metric
        if not all(_references(train)):
            none, words = (self.score(guess(train), train)[metric] for guess in (self._no_answer, self._first_words))
            if none > words:
                return "no answer", self._no_answer(examples)
        return "first words", self._first_words(examples)

    def _no_answer(self, examples: Sequence[Example]) -> list[Any]:
        """Outputs of a model that finds no answer anywhere."""
        import torch

        outputs = [torch.zeros(2, 1 + len(example["offsets"])) for example in examples]
        for scores in outputs:
            scores[:, 0] = 1 + abs(self.options.null_threshold)
        return outputs

    def _first_words(self, examples: Sequence[Example]) -> list[Any]:
        """Outputs of a model whose answer is always the first words of the context."""
        import torch

        outputs = []
        for example in examples:
            scores = torch.zeros(2, 1 + len(example["offsets"]))
            scores[:, 0] = -1 - abs(self.options.null_threshold)
            if "context" in example and example["offsets"]:
                end = end_of_words(example["context"], _BASELINE_WORDS)
                last = sum(a < end for a, _ in example["offsets"])
                scores[0, 1] = scores[1, min(last, self.options.max_answer_tokens)] = 1.0
            outputs.append(scores)
        return outputs


def _whole_character(text: str, end: int) -> int:
    """Where the character ends that is read as one with what stands before `end`: a token ends before the accents and
    vowel signs that its tokenizer's normaliser takes off or composes, and before a joiner that ends a word."""
    return int(_rest().match(text, end).end())


@cache
def _rest() -> Any:
    """Marks, and vowels and finals of Hangul written in parts; then joiners with nothing to join to."""
    import regex

    return regex.compile(r"[\p{M}\u1160-\u11ff]*(?:[\u200c\u200d]+(?![\p{L}\p{M}\p{N}\p{S}\u200c\u200d]))?")


def best_span(logits: torch.Tensor, longest: int) -> tuple[float, int, int]:
    """The best span of a window, found among all.

    Args:
        logits: Start and end, (2, 1 + tokens), the null position first.
        longest: Tokens of the longest span.

    Returns:
        Sum of both logits; first and last token, counted from the first one of the context. Minus infinity and -1
        where the window holds no context.
    """
    from torch.nn import functional as F

    start, end = logits[:, 1:]
    if not len(start):
        return float("-inf"), -1, -1
    longest = min(longest, len(start))
    ends = F.pad(end, (0, longest - 1), value=float("-inf")).unfold(0, longest, 1)  # (tokens, longest): end - start
    sums = start[:, None] + ends
    best = int(sums.argmax())
    a, more = divmod(best, longest)
    return float(sums.view(-1)[best]), a, a + more


def _references(examples: Sequence[Example]) -> list[list[str]]:
    """The true answers of each row."""
    return [example["answers"] for example in examples if "answers" in example]


def _label(
    windows: Sequence[Example], answers: Sequence[str], starts: Sequence[int], offsets: Sequence[tuple[int, int]]
) -> bool:
    """Give each window of a row `target`, and the first one `answers`.

    Args:
        windows: Of one row.
        answers: The true answers, of which the first is learnt; none where there is no answer.
        starts: The character of the context where each begins.
        offsets: Characters of each token of the context.

    Returns:
        False where there is an answer, and it lies whole in no window.
    """
    windows[0]["answers"] = list(answers)
    span = _tokens_of(offsets, starts[0], starts[0] + len(answers[0])) if answers else None
    for window in windows:
        window["target"] = _target(window, span)
    return not answers or any(window["target"][0] != window["null"] for window in windows)


def _tokens_of(offsets: Sequence[tuple[int, int]], start: int, end: int) -> tuple[int, int] | None:
    """First and last token that share a character with part [start, end) of the context; None where none does."""
    inside = [i for i, (a, b) in enumerate(offsets) if a < end and b > start]
    return (inside[0], inside[-1]) if inside else None


def _target(example: Example, answer: tuple[int, int] | None) -> tuple[int, int]:
    """Place of the answer's first and last token in a window; the null position twice where it does not hold both.

    Args:
        example: A window.
        answer: The first and last token, counted from the context's first.
    """
    begin, size = example["begin"], len(example["offsets"])
    if answer is None or answer[0] < begin or answer[1] >= begin + size:
        return example["null"], example["null"]
    shift = example["first"] - begin
    return answer[0] + shift, answer[1] + shift
