"""Rows in canonical form: `Data`, what it is made of, and the hash that tells rows from others."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from adapt.data.groups import GROUP, belonging
from adapt.data.table import column_of
from adapt.display import labelled, shows_fields, with_notes
from adapt.spec import DataError, Problem, canonical

if TYPE_CHECKING:
    import datasets
    import pandas


@shows_fields
@dataclass(frozen=True)
class Data:
    """A data set in canonical form: the columns of its kind, as the file of that kind in `adapt.data.forms` says."""

    name: str
    """Short readable name: the hub name, with its configuration, or the file or folder without path and suffix."""
    problem: Problem
    """What is predicted."""
    labels: tuple[str, ...]
    """Names of classes or tags in index order; empty where there are none."""
    splits: Mapping[str, datasets.Dataset]
    """`train`, and `validation` and `test` where they are there. Rows that were changed are to be loaded anew: put in
    their place here they would have the old `sha256`, and the results of the old rows."""
    sha256: str
    """Hash of the problem, the label names and every row of every split in order (64 hexadecimal digits)."""
    kind: str = "sequence_classification"
    """Key in `adapt.tasks.KINDS`."""
    notes: tuple[str, ...] = ()
    """What must be said beside results on these rows: rows left out, tags mended. Not part of the hash."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Role to the column of train that has it: rows to be predicted are likely to have these too."""
    fold: tuple[int, int] | None = None
    """Of cross-validation: the number, from 1, of the fold that is the test split, and how many there are. The hash is
    that of all rows and of how they were divided, the same for each."""

    def __repr__(self) -> str:
        rows = ", ".join(f"{len(of_split):,} {split}" for split, of_split in self.splits.items())
        fold = f"; fold {self.fold[0]} of {self.fold[1]}" if self.fold else ""
        said = f"<Data {self.name}: {labelled(self.kind, self.problem, self.labels)}; rows: {rows}{fold}>"
        return with_notes(said, self.notes)

    @property
    def pair(self) -> bool:
        """Whether rows hold two texts."""
        return "text_pair" in self.splits["train"].column_names

    def to_frame(self, split: str = "train") -> pandas.DataFrame:
        """The rows of a split as they were read, labels and tags by name.

        Raises:
            DataError: There is no such split.
        """
        import pandas

        if split not in self.splits:
            raise DataError(f"{self.name}: no split {split!r}; name one of {', '.join(self.splits)}")
        rows, names = self.splits[split], self.labels

        def by_name(value: Any) -> Any:
            if isinstance(value, int):
                return names[value]
            if self.problem == "multi_label":
                return [name for name, there in zip(names, value, strict=True) if there]
            return [names[tag] for tag in value]

        return pandas.DataFrame(
            {
                column: [by_name(value) for value in column_of(rows, column)]
                if names and column in ("label", "tags")
                else column_of(rows, column)
                for column in rows.column_names
            }
        )

    def under(self, labels: tuple[str, ...], model: str) -> Data:
        """The same rows for a model whose classes or tags, in its order, are those of the data and maybe others.

        Args:
            labels: The model's.
            model: What a note calls it, which says of what no row is.
        """
        if labels == self.labels:
            return self
        place = [labels.index(name) for name in self.labels]
        own = [self.labels.index(name) if name in self.labels else None for name in labels]

        def there(value: Any) -> Any:
            if isinstance(value, int):
                return place[value]
            if self.problem == "multi_label":
                return [0 if i is None else value[i] for i in own]
            return [place[tag] for tag in value]

        def placed(of_split: datasets.Dataset, name: str) -> list[Any]:
            values = column_of(of_split, name)
            return [there(value) for value in values] if name in ("label", "tags") else values

        rows = {
            split: {name: placed(of_split, name) for name in of_split.column_names}
            for split, of_split in self.splits.items()
        }
        made = {split: dataset_of(columns, self.problem, labels) for split, columns in rows.items()}
        notes, further = self.notes, [name for name in labels if name not in self.labels]
        if further:
            some = ", ".join(further[:5]) + (", ..." if further[5:] else "")
            of = f"{len(further)} of {len(labels)} classes are {model}'s alone"
            notes = (*notes, f"{of}, of which no row has the label: {some}")
        return replace(self, labels=labels, splits=made, sha256=hash_of(self.problem, labels, rows), notes=notes)

    @property
    def test_groups(self) -> dict[str, Any]:
        """Which test rows belong together, as `adapt.result.Result.test_groups` has it."""
        return belonging(self.splits, self.problem, self.columns.get(GROUP)) if "test" in self.splits else {}


@dataclass(frozen=True)
class LabelledRows:
    """Rows of a task's kind with their labels, for a model that knows the task."""

    name: str
    """Short readable name, as that of `Data`."""
    rows: datasets.Dataset
    """In canonical form."""
    sha256: str
    """Hash of the problem, the label names and every row in order (64 hexadecimal digits)."""
    split: str | None = None
    """Which of several they are."""
    notes: tuple[str, ...] = ()
    """What must be said beside scores on these rows."""
    groups: Mapping[str, Any] = field(default_factory=dict)
    """Which of them belong together, as `adapt.result.Result.test_groups` has it."""


def dataset_of(
    columns: Mapping[str, Sequence[Any]], problem: Problem | None = None, labels: Sequence[str] = ()
) -> datasets.Dataset:
    """A data set of canonical columns; the problem decides the type of labels, which have the names of classes."""
    import datasets
    import pyarrow

    string, integer = datasets.Value("string"), datasets.Value("int64")
    number = datasets.Value("float64") if problem == "regression" else integer
    named = datasets.ClassLabel(names=list(labels)) if labels else number
    special = {
        "label": datasets.List(number) if problem == "multi_label" else named,
        "tokens": datasets.List(string),
        "tags": datasets.List(named),
        "answer_texts": datasets.List(string),
        "answer_starts": datasets.List(integer),
        "references": datasets.List(string),
        "messages": datasets.List({"role": string, "content": string}),
    }
    features = datasets.Features({name: special.get(name, string) for name in columns})
    # what `Dataset.from_dict` makes, too, by going through the values one by one and pickling them for a fingerprint
    table = pyarrow.table({name: list(values) for name, values in columns.items()}, schema=features.arrow_schema)
    info, fingerprint = datasets.DatasetInfo(features=features), secrets.token_hex(8)
    return datasets.Dataset(datasets.table.InMemoryTable(table), info=info, fingerprint=fingerprint)


def hash_of(problem: Problem, labels: Sequence[str], splits: Mapping[str, Mapping[str, Sequence[Any]]]) -> str:
    """SHA-256 over lines of canonical JSON: what the labels mean, then the size and rows of each split."""
    digest = hashlib.sha256(canonical({"problem": problem, "labels": labels}).encode())
    for split, columns in splits.items():
        digest.update(f"\n{split} {len(next(iter(columns.values())))}".encode())
        for row in zip(*columns.values(), strict=True):
            digest.update(b"\n" + canonical(dict(zip(columns, row, strict=True))).encode())
    return digest.hexdigest()
