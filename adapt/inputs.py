"""What a run is done with: rows, sampled and encoded, a backbone, and all else of which its spec has but names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from adapt.backbones import Backbone
from adapt.data import Data, few_shot, subsample
from adapt.spec import Run
from adapt.tasks import KINDS, Example, Kind, Lesson
from adapt.tasks.tokens import of_split, shared

if TYPE_CHECKING:
    import datasets
    from torch import nn

Begin = Callable[["nn.Module", Kind], Sequence[str]]
"""Puts the values that training starts from into a model just built; returns notes about them."""
Encode = Callable[[Run, Data, Backbone], "Encoded"]
"""Draws the rows of a run and encodes them, as `encode` does."""


@dataclass(frozen=True)
class Encoded:
    """The rows of a run as its kind of task encodes them."""

    kind: Kind
    """Which took notes of them."""
    splits: Mapping[str, list[Example]]
    train_rows: int
    """Rows of train that are learnt, of which a long one may make several examples, and several short ones one."""
    lesson: Callable[[], Lesson] | None = None
    """Makes the lesson, in the process of the run and once the kind was fitted; None: the kind is the lesson."""
    labelled: Sequence[Example] | None = None
    """The training rows, where others among them have a teacher's predictions for labels; None: there are none such."""


def encode(spec: Run, data: Data, backbone: Backbone) -> Encoded:
    """Draw the rows of a run and encode them.

    The outcome is the same for all runs of a task and backbone with the same `draws_of`. No operation of torch runs, so
    that the process may be forked afterwards.

    Raises:
        AdaptError: Bad input.
    """
    kind = KINDS[spec.task.kind](spec.task, backbone.tokenizer)
    rows = drawn(spec, data)
    splits = encode_splits(kind, rows)
    return Encoded(kind, splits, len(rows["train"]) - kind.left_out)


_IDS = frozenset({"input_ids", "token_type_ids", "prompt_ids", "labels"})
"""Fields of an example that are lists of small numbers."""


def encode_splits(kind: Kind, rows: Mapping[str, datasets.Dataset]) -> dict[str, list[Example]]:
    """The rows of each split as a kind of task encodes them, which notes what is to be said of them."""
    splits = {split: kind.encode(of_split, split=split) for split, of_split in rows.items()}
    known: dict[int, int] = {}
    for example in chain.from_iterable(splits.values()):
        for name in _IDS & example.keys():
            example[name] = shared(example[name], known)
    told = kind.unknown([example for examples in splits.values() for example in examples])
    if not told:  # of all, of which those of one split may be few
        told = [note for split, examples in splits.items() for note in kind.unknown(examples, of_split(split))]
    kind.notes += dict.fromkeys(told)
    return splits


def drawn(spec: Run, data: Data) -> dict[str, datasets.Dataset]:
    """The rows of each split, those of train sampled as the run says.

    Raises:
        AdaptError: There are too few rows for the sample.
    """
    task, rows = spec.task, dict(data.splits)
    if task.few_shot is not None:
        rows["train"] = few_shot(rows["train"], task.problem, task.few_shot, spec.seed, names=task.labels)
    if task.max_train is not None:
        rows["train"] = subsample(rows["train"], task.problem, task.max_train, spec.seed)
    return rows


def draws_of(spec: Run) -> int | None:
    """The seed, where it decides which rows a run trains on; None: it trains on all."""
    return spec.seed if spec.task.few_shot is not None or spec.task.max_train is not None else None


@dataclass(frozen=True)
class Inputs:
    """What a run is done with."""

    data: Data
    """The rows of its task, before sampling."""
    backbone: Backbone
    """The folder of its backbone."""
    encoded_by: Encode = encode
    """Gives the rows, the kind and the lesson; the run takes them over."""
    general: Sequence[str] = ()
    """The texts of its `general`."""
    begin: Begin | None = None
    """What the model of its `start` hands on."""
    features: Path | None = None
    """Folder where runs share what a frozen backbone gives for their rows."""

    def encoded(self, run: Run) -> Encoded:
        """The rows of a run.

        Raises:
            AdaptError: Bad input.
        """
        return self.encoded_by(run, self.data, self.backbone)
