"""A task kind whose loss is a teacher's, too; all else is the kind's own, and the loop does not know."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from adapt.tasks import Example, Kind

if TYPE_CHECKING:
    import torch
    from torch import nn


class Lesson(Protocol):
    """What a teacher adds to the loss of a kind that it was made for."""

    def collate(self, examples: Sequence[Example], *, longest: int | None = None) -> dict[str, torch.Tensor]:
        """What `loss` needs beside the kind's batch; nothing for rows that the teacher was not asked about."""

    def loss(self, model: nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Mean over the kind's `terms` of (1 - weight) times its own loss plus weight times the distance from the
        teacher, a float32 scalar."""


class Distilled:
    """A kind that has a teacher's lesson for its loss."""

    def __init__(
        self, kind: Kind, lesson: Lesson | None, labelled: int, begin: Callable[[], Lesson] | None = None
    ) -> None:
        """
        Args:
            kind: What the student is trained for.
            lesson: None where the teacher has only labelled rows, or where `begin` is to give it.
            labelled: Training rows whose labels are not the teacher's; they come first.
            begin: Gives the lesson in the process of the run, and loads the teacher for it.
        """
        self.kind = kind
        self.lesson = lesson
        self.labelled = labelled
        self._begin = begin

    @property
    def beside(self) -> tuple[nn.Module, ...]:
        """The teacher, where it runs in each step: its weights are held in training too."""
        found = getattr(self.lesson, "teacher", None)
        return () if found is None else (found,)

    def __getattr__(self, name: str) -> Any:
        """What is not said here is as the kind has it."""
        return getattr(self.kind, name)

    def fit(self, examples: Sequence[Example]) -> None:
        """As the kind's; then a lesson that is yet to begin does."""
        self.kind.fit(examples)
        if self._begin is not None:
            self.lesson = self._begin()

    def collate(self, examples: Sequence[Example], *, longest: int | None = None) -> dict[str, torch.Tensor]:
        """The kind's batch, with what the lesson needs."""
        batch = self.kind.collate(examples, longest=longest)
        return batch if self.lesson is None else batch | self.lesson.collate(examples, longest=longest)

    def loss(self, model: nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Mean loss of a batch, a float32 scalar."""
        return self.kind.loss(model, batch) if self.lesson is None else self.lesson.loss(model, batch)

    def baseline(self, train: Sequence[Example], examples: Sequence[Example]) -> tuple[str, list[Any]] | None:
        """The kind's, from the training rows that the teacher did not label."""
        own = [example for i, example in enumerate(train) if example.get("row", i) < self.labelled]
        return self.kind.baseline(own, examples)
