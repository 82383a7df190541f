"""Job files: what a run in a process of its own needs, written for it and read there."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapt.adapted.starting import again
from adapt.backbones.source import Backbone
from adapt.comparison.store import Store
from adapt.data import Data
from adapt.inputs import Inputs, draws_of, encode
from adapt.result import Result
from adapt.run import run_from
from adapt.spec import Run, Source, canonical, fields_of

if TYPE_CHECKING:
    from adapt.distillation import Lessons


@dataclass(frozen=True)
class Todo:
    """Runs on one backbone that are to be done, and what they need."""

    runs: Sequence[tuple[Run, Data]]
    """Each with the rows of its task; those of the same rows one after another."""
    backbone: Backbone
    lessons: Lessons | None = None
    """What those of them that have a teacher take from it."""
    general: Sequence[str] = ()
    """The texts that their `general` is of."""
    starts: Mapping[str, Path] = field(default_factory=dict)
    """Folders of the models that they go on from, by the hash of their `start`."""
    made_by: Mapping[str, Any] = field(default_factory=dict)
    """What the `environment` of their results says of how they came to be made."""

    def save(self, folder: Path, store: Store) -> None:
        """Write a file for each job, named by its number, and what the jobs read.

        Args:
            folder: That is there and empty.
            store: Takes the results.
        """
        (folder / "general.json").write_text(json.dumps(self.general), encoding="utf-8")
        if self.lessons is not None:
            with _without_bars():
                self.lessons.save(folder / "lessons")
        shared = {
            "lessons": None if self.lessons is None else str(folder / "lessons"),
            "general": str(folder / "general.json"),
            "starts": {digest: str(place.resolve()) for digest, place in self.starts.items()},
            "store": str(store.folder.resolve()),
            "made_by": dict(self.made_by),
            "backbone": {
                "source": fields_of(self.backbone.source),
                "reference": self.backbone.reference,
                "path": str(self.backbone.path.resolve()),
                "stamp": self.backbone.stamp,
            },
        }
        saved: dict[int, Path] = {}
        for i, (run, data) in enumerate(self.runs):
            if id(data) not in saved:
                saved[id(data)] = folder / f"rows{len(saved)}"
                _save_rows(data, saved[id(data)])
            rows = {"data": str(saved[id(data)]), "notes": data.notes, "columns": dict(data.columns)}
            (folder / f"{i}.json").write_text(json.dumps({"spec": run.spec(), **rows, **shared}), encoding="utf-8")


@dataclass(frozen=True)
class Job:
    """A run as its process finds it."""

    file: Path
    run: Run
    given: Mapping[str, Any]
    """What else the file says."""

    @classmethod
    def read(cls, file: Path) -> Job:
        """What `Todo.save` wrote."""
        given = json.loads(file.read_text(encoding="utf-8"))
        return cls(file, run_from(given.pop("spec")), given)

    @property
    def key(self) -> str:
        """Says what its `inputs` and their rows, encoded, are: the same for runs that can share them."""
        task, teacher = fields_of(self.run.task), self.run.teacher and fields_of(self.run.teacher)
        return json.dumps([self.given, task, draws_of(self.run), teacher], sort_keys=True)

    def inputs(self) -> Inputs:
        """What it is done with, but for the model that it goes on from."""
        from datasets import load_from_disk

        from adapt.distillation import Lessons

        task, given = self.run.task, self.given
        data = Data(
            task.name, task.problem, task.labels, dict(load_from_disk(given["data"])), task.data.sha256, task.kind,
            tuple(given["notes"]), given["columns"], task.fold,
        )  # fmt: skip
        encoded_by = encode if given["lessons"] is None else Lessons.load(Path(given["lessons"])).encode
        general = json.loads(Path(given["general"]).read_text(encoding="utf-8"))
        return Inputs(data, self.backbone, encoded_by, general, features=self.features)

    @property
    def backbone(self) -> Backbone:
        """Of the run."""
        place = self.given["backbone"]
        return Backbone(Source(**place["source"]), place["reference"], Path(place["path"]), place["stamp"])

    @property
    def features(self) -> Path:
        """Where its features lie: each number of training rows, and each row of the table, has a run that computes them
        all, so that its time is what they cost; of several rates that are tried, one of them."""
        task, fields, start = self.run.task, fields_of(self.run.strategy), self.run.start
        tried = "trials" in self.given["made_by"]
        row = {name: value for name, value in fields.items() if not (tried and name == "learning_rate")}
        what = canonical([task.max_train, task.few_shot, self.run.strategy.name, row, start and start.sha256])
        return self.file.parent / "features" / hashlib.sha256(what.encode()).hexdigest()[:12]

    def begun(self, inputs: Inputs) -> Inputs:
        """All that it is done with.

        Raises:
            AdaptError: The backbone, or the model that it goes on from, is another one by now, or gone.
        """
        self.backbone.check_unchanged_since_stamped()
        start = self.run.start
        if start is None:
            return inputs
        folder = Path(self.given["starts"][start.sha256])
        return replace(inputs, begin=again(folder, self.run, inputs.backbone, inputs.data))

    def store(self, result: Result) -> None:
        """Write its result, unless it is of what memory or versions decide, and another comparison has one by now.

        Raises:
            OptionError: It cannot be written.
        """
        made_by, store = self.given["made_by"], Store(self.given["store"], reading=True)
        if result.status in ("ok", "diverged") or store.read(result.run) is None:
            store.write(replace(result, environment={**result.environment, **made_by}))


def _save_rows(data: Data, folder: Path) -> None:
    from datasets import DatasetDict

    with _without_bars():
        DatasetDict(dict(data.splits)).save_to_disk(folder)


@contextlib.contextmanager
def _without_bars() -> Iterator[None]:
    """Have `datasets` show no progress bars, which would stand among those of the runs."""
    from datasets import disable_progress_bars, enable_progress_bars
    from datasets.utils import is_progress_bar_enabled

    bars = is_progress_bar_enabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if bars:
            enable_progress_bars()
