"""Runs of a comparison that go on from an adapted model, each of which is a row of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapt.adapted import Adapted, start_of
from adapt.adapted.starting import Start
from adapt.data import Data
from adapt.data.table import listing
from adapt.files import path_of
from adapt.spec import OptionError, Source, Strategy
from adapt.strategies import is_known

Given = Adapted | str | Path


@dataclass(frozen=True)
class Starts:
    """The models that runs of a comparison go on from, without their tensors."""

    given: Mapping[str, Given]
    """By the hash that runs have of them."""
    described: Sequence[Start]

    @classmethod
    def of(cls, start: Given | Iterable[Given] | None) -> Starts:
        """
        Args:
            start: A model or its folder, or several; None: there is none.

        Raises:
            OptionError: One is given twice, or its strategy is not one of the library's.
            AdaptError: A folder is not that of a model, or is not whole.
        """
        given: list[Given] = []
        if isinstance(start, Iterable) and not isinstance(start, str):
            given += start
        elif start is not None:
            given.append(start)
        described = []
        for each in given:
            found = start_of(each)
            found.state.clear()  # each run reads them anew
            if not is_known(found.run.strategy):
                raise OptionError(
                    f"{found.where} was trained with a strategy of your own, and the processes of a comparison know no "
                    "other than the library's; go on from it with adapt.fit."
                )
            described.append(found)
        by_hash = {found.source.sha256: each for found, each in zip(described, given, strict=True)}
        if len(by_hash) < len(given):
            raise OptionError("A model to start from is given twice; give it once.")
        return cls(by_hash, described)

    def data(self, parts: Sequence[Data]) -> Sequence[Data]:
        """The rows, with the classes of a model that has these and others.

        Raises:
            OptionError: They are folds, and a model was trained for what they are scored by; or models that have all
                their classes have not the same ones, so that the head of one would not go on.
        """
        for start in self.described:
            task = start.run.task
            if parts[0].fold is not None and (task.kind, task.problem) == (parts[0].kind, parts[0].problem):
                raise OptionError(
                    "Folds score every row, and which of them a model to start from was trained on is not known, so "
                    "that it may know the answers; give data with a test split that it has not seen."
                )
        knowing = {start.run.task.labels: start for start in self.described if start.knows(parts[0])}
        if len(knowing) > 1:
            each = "; ".join(f"{start.where}: {listing(labels)}" for labels, start in knowing.items())
            raise OptionError(
                f"A comparison has one list of classes, and models to start from know different ones ({each}), so that "
                "the head of one would not go on; start from one of them at a time."
            )
        for start in knowing.values():
            parts = [start.data(part) for part in parts]
        return parts

    def choices(self, data: Data, given: Mapping[str, Any]) -> dict[str, Any]:
        """The options of a comparison: those given, and the pooling that the heads of all models read that know the
        classes of the data, where that is one."""
        found = [start.choices(data, given) for start in self.described if start.knows(data)]
        return found[0] if found and all(each == found[0] for each in found) else dict(given)

    def check_classes(self, data: Data, taught: Data) -> None:
        """
        Args:
            data: With the classes of a model that knows them all.
            taught: The same with the classes of the teacher.

        Raises:
            OptionError: They differ, so that the head of that model would not go on.
        """
        if data.labels != taught.labels and (found := next((s for s in self.described if s.knows(data)), None)):
            raise OptionError(
                f"A comparison has one list of classes, and {found.where} ({listing(data.labels)}) and the teacher "
                f"({listing(taught.labels)}) know different ones, so that the head of the former would not go on; give "
                "one of them."
            )

    def strategies(self, backbone: Source, rate: float | None) -> list[tuple[Strategy, Source]]:
        """Each model's strategy, and what runs with it start from.

        Args:
            backbone: Of the comparison.
            rate: The learning rate for all, if there is one.

        Raises:
            AdaptError: A model was trained on another backbone.
        """
        for start in self.described:
            start.check_backbone(backbone)
        return [(start.strategy(None, rate), start.source) for start in self.described]

    def places(self, away: Path) -> dict[str, Path]:
        """The folder of each by its hash; one that is not saved yet is saved in `away`."""
        return {
            digest: each.save(away / f"start-{digest[:12]}") if isinstance(each, Adapted) else path_of(each)
            for digest, each in self.given.items()
        }
