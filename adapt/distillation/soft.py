"""What a teacher says of each row, made once: distributions over classes, tags and places of an answer; numbers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from adapt.distillation.said import Said
from adapt.tasks import Example, Kind, Lesson
from adapt.tasks.losses import IGNORED
from adapt.tasks.tokens import by_row, padded_length

if TYPE_CHECKING:
    import torch
    from torch import nn

_FIELD = "teacher"
"""Field of an encoded row, and of a batch, with what the teacher said of it."""


@dataclass(frozen=True)
class Soft(ABC):
    """A lesson of which each row of the student's holds its part."""

    kind: Kind
    """The student's."""
    temperature: float
    weight: float

    beside = ()

    def collate(self, examples: Sequence[Example], *, longest: int | None = None) -> dict[str, torch.Tensor]:
        """The kind's batch, and `teacher`: what `together` makes of the rows' parts."""
        import torch

        batch = self.kind.collate(examples, longest=longest)
        return {**batch, _FIELD: torch.from_numpy(self.together(examples, longest))}

    def terms(self, examples: Sequence[Example]) -> int:
        """As many as the kind's."""
        return self.kind.terms(examples)

    def planned(self, kind: Kind, stand_in: Callable[[nn.Module], nn.Module]) -> Lesson:
        """What the kind learns: what a teacher said is small beside its batch."""
        return kind

    @abstractmethod
    def together(self, examples: Sequence[Example], longest: int | None) -> np.ndarray:
        """The parts of a batch, float32, padded as `adapt.tasks.tokens.pad` does."""

    def loss(self, model: nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """(1 - weight) times the kind's own loss plus weight times `distance`; the model runs once for both."""
        seen = _Seen(model)
        own = self.kind.loss(seen, batch)  # type: ignore[arg-type]
        return (1 - self.weight) * own + self.weight * self.distance(seen.output, batch)

    @abstractmethod
    def distance(self, found: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """How far the student's outputs are from the teacher's."""

    def teach(self, examples: Sequence[Example], rows: Sequence[np.ndarray]) -> None:
        """Give each row what the teacher said of it.

        Args:
            examples: The student's training rows.
            rows: What `rows` gives for these.
        """
        for i, example in enumerate(examples):
            example[_FIELD] = self.part(rows[example.get("row", i)], example)

    @abstractmethod
    def rows(self, said: Said) -> list[np.ndarray]:
        """What the teacher said of each row, the same for all students of a task and temperature."""

    @abstractmethod
    def part(self, row: np.ndarray, example: Example) -> np.ndarray:
        """Of that, what concerns an example, which may be a window of the row."""

    def order(self, said: Said) -> list[int]:
        """Where the student's classes stand among the teacher's."""
        return [said.kind.task.labels.index(name) for name in self.kind.task.labels]


class Classes(Soft):
    """The class of a row: KL divergence of softened distributions, times the squared temperature, so that its gradient
    keeps its size (Hinton et al. 2015, section 2). Of labels that a row may have several of, each is a distribution of
    its own. A number: the squared difference, in standard deviations of the labels."""

    def rows(self, said: Said) -> list[np.ndarray]:
        """Logits in the student's order, or the number."""
        order = self.order(said) if self.kind.task.labels else [0]
        return [output[order].numpy() for output in said.outputs]

    def part(self, row: np.ndarray, example: Example) -> np.ndarray:
        """All of it."""
        return row

    def together(self, examples: Sequence[Example], longest: int | None) -> np.ndarray:
        """(batch, labels): logits, or the number in standard deviations from the mean."""
        said = np.stack([example[_FIELD] for example in examples])
        if self.kind.task.problem == "regression":
            scale = self.kind.state()
            said = (said - scale["mean"]) / scale["std"]
        return said.astype(np.float32)

    def distance(self, found: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Mean over rows."""
        import torch
        from torch.nn import functional as F

        logits, said = found.logits.float(), batch[_FIELD]
        if self.kind.task.problem == "regression":
            return F.mse_loss(logits, said)
        if self.kind.task.problem == "single_label":
            return divergence(said, logits, self.temperature).mean()
        none = said.new_zeros(())  # a sigmoid is a softmax beside 0
        beside = [torch.stack([x, none.expand_as(x)], -1) for x in (said, logits)]
        return divergence(beside[0], beside[1], self.temperature).mean()


class Tags(Soft):
    """The tag of each word, as `Classes`; the tokenizers may differ, for words are the same."""

    def rows(self, said: Said) -> list[np.ndarray]:
        """Logits of each word, (words, tags); NaN where the teacher's tokenizer had nothing."""
        order, rows = self.order(said), []
        for parts in by_row(said.examples):
            words = len(said.examples[parts[0]]["row_words"])
            row = np.full((words, len(order)), np.nan, dtype=np.float32)
            for i in parts:
                if said.examples[i]["words"]:
                    row[said.examples[i]["words"]] = said.outputs[i][:, order].numpy()
            rows.append(row)
        return rows

    def part(self, row: np.ndarray, example: Example) -> np.ndarray:
        """The words that are read in a window."""
        return np.asarray(row[example["words"]])

    def together(self, examples: Sequence[Example], longest: int | None) -> np.ndarray:
        """(batch, length, tags): logits, NaN where no word is read."""
        shape = len(examples), _length(examples, longest), len(self.kind.task.labels)
        said = np.full(shape, np.nan, dtype=np.float32)
        for i, example in enumerate(examples):
            said[i, example["positions"]] = example[_FIELD]
        return said

    def distance(self, found: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Mean over words that are learnt; one that the teacher said nothing of adds nothing."""
        learnt, said = batch["labels"] != IGNORED, batch[_FIELD]
        each = divergence(said.nan_to_num(), found.logits.float(), self.temperature)
        return (each * (learnt & said[..., 0].isfinite())).sum() / learnt.sum().clamp(min=1)


class Places(Soft):
    """First and last token of an answer, or none; the tokenizers may differ, for characters are the same.

    The teacher's distribution is over the whole context. A window of the student's gets the part that lies in it; the
    rest is the share of no answer there.
    """

    def rows(self, said: Said) -> list[np.ndarray]:
        """(4, 1 + tokens): both distributions over no answer and the tokens of the whole context, and where in it each
        token begins and ends, in characters."""
        return [_whole(said, parts, self.temperature) for parts in by_row(said.examples)]

    def part(self, row: np.ndarray, example: Example) -> np.ndarray:
        """The distributions of a window, (2, 1 + tokens), that of no answer first."""
        return _within(example["offsets"], row[:2], row[2:, 1:].astype(np.int64).T)

    def together(self, examples: Sequence[Example], longest: int | None) -> np.ndarray:
        """(batch, 2, length): probabilities."""
        said = np.zeros((len(examples), 2, _length(examples, longest)), dtype=np.float32)
        for i, example in enumerate(examples):
            first = example["first"]
            said[i, :, first : first + len(example["offsets"])] = example[_FIELD][:, 1:]
            said[i, :, example["null"]] += example[_FIELD][:, 0]
        return said

    def distance(self, found: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Mean over windows, and over first and last token."""
        import torch

        logits = torch.stack([found.start_logits, found.end_logits], 1).float()
        outside = ~batch["choices"][:, None]
        student = (logits / self.temperature).masked_fill(outside, float("-inf")).log_softmax(-1)
        said = batch[_FIELD]
        each = torch.xlogy(said, said) - said * student.masked_fill(outside, 0.0)
        return each.sum(-1).mean() * self.temperature**2


SOFT: dict[str, type[Soft]] = {
    "sequence_classification": Classes,
    "token_classification": Tags,
    "question_answering": Places,
}
"""Lessons of the kinds for which a teacher's whole outputs are small, by kind."""


class _Seen:
    """A model that remembers what it gave."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.output: Any = None

    def __call__(self, **inputs: Any) -> Any:
        self.output = self.model(**inputs)
        return self.output


def divergence(teacher: torch.Tensor, student: torch.Tensor, temperature: float) -> torch.Tensor:
    """KL(teacher || student) of softened distributions, times the squared temperature, in nats: (...).

    Args:
        teacher: Logits (..., classes).
        student: The same.
        temperature: What both are divided by.
    """
    wanted = (teacher / temperature).log_softmax(-1)
    found = (student / temperature).log_softmax(-1)
    return (wanted.exp() * (wanted - found)).sum(-1) * temperature**2


def _length(examples: Sequence[Example], longest: int | None) -> int:
    return padded_length([example["input_ids"] for example in examples], longest)


def _whole(said: Said, parts: Sequence[int], temperature: float) -> np.ndarray:
    """The teacher's distributions over no answer and each token of the context, and the characters of these tokens, as
    `Places.rows` has them.

    A token that lies in several windows has its logits from where it has the most context on its poorer side; those of
    no answer are of the window where their sum is least, as when answers are chosen.

    Args:
        said: The teacher's outputs.
        parts: The windows of the row.
        temperature: What logits are divided by.
    """
    offsets: dict[int, tuple[int, int]] = {}
    room: dict[int, int] = {}
    logits: dict[int, np.ndarray] = {}
    for i in parts:
        example, output = said.examples[i], said.outputs[i].numpy()
        tokens = len(example["offsets"])
        for j, characters in enumerate(example["offsets"]):
            token = example["begin"] + j
            if min(j, tokens - 1 - j) > room.get(token, -1):
                room[token], offsets[token] = min(j, tokens - 1 - j), characters
                logits[token] = output[:, 1 + j]
    null = min((said.outputs[i][:, 0].numpy() for i in parts), key=np.sum)
    ordered = sorted(logits)
    every = np.stack([null, *(logits[token] for token in ordered)], axis=1).astype(np.float64) / temperature
    shares = np.exp(every - every.max(1, keepdims=True))
    places = np.array([(0, 0), *(offsets[token] for token in ordered)]).T
    return np.concatenate([shares / shares.sum(1, keepdims=True), places])


def _within(window: Sequence[tuple[int, int]], shares: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """The part of a distribution over a context that lies in a window, (2, 1 + tokens); the rest is in the first place.

    As for labels, an answer begins with the first token that has its first character, and ends with the last that has
    its last (tokens of bytes may share one). A first character between two tokens, or before a window in which the rest
    of its token lies, is white space.

    Args:
        window: Characters of each token of the window.
        shares: (2, 1 + tokens of the context).
        offsets: (tokens, 2), characters of each token that `shares` is over.
    """
    found = np.zeros((2, 1 + len(window)))
    if window and len(offsets):
        (begins, ends), (first, end) = np.array(window).T, offsets.T
        last = np.maximum(first, end - 1)
        first = np.where(end > begins[0], np.maximum(first, begins[0]), first)
        for side, characters, places in (
            (0, first, np.searchsorted(ends, first, side="right")),
            (1, last, np.searchsorted(begins, last, side="right") - 1),
        ):
            inside = (begins[0] <= characters) & (characters < ends[-1])
            np.add.at(found[side], 1 + places[inside], shares[side, 1:][inside])
    found[:, 0] = np.maximum(0.0, 1.0 - found[:, 1:].sum(1))
    return found.astype(np.float32)
