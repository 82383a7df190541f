"""Labelled text from anywhere, in one form: `load` gives `Data`, whose splits have canonical columns."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adapt.data import columns, labels, sources, splits
from adapt.data.splits import few_shot, subsample
from adapt.spec import Problem, canonical

if TYPE_CHECKING:
    import datasets

__all__ = ["Data", "few_shot", "load", "read_texts", "subsample"]


@dataclass(frozen=True)
class Data:
    """A labelled data set in canonical form."""

    name: str
    """Short readable name: the hub name, or the file or folder without path and suffix."""
    problem: Problem
    """One class of several, any number of labels, or a real number."""
    labels: tuple[str, ...]
    """Label names in index order; empty for regression."""
    splits: Mapping[str, datasets.Dataset]
    """`train`, and `validation` and `test` where they are there. Columns: `text`, for pairs `text_pair`, and
    `label`: an int (index into `labels`), a list of 0 and 1 (one for each of `labels`), or a float."""
    sha256: str
    """Hash of the problem, the label names and every row of every split in order (64 hexadecimal digits)."""
    kind: str = "sequence_classification"
    """Key in `adapt.tasks.KINDS`."""

    @property
    def pair(self) -> bool:
        """Whether rows hold two texts."""
        return "text_pair" in self.splits["train"].column_names


def load(
    source: Any,
    *,
    name: str | None = None,
    text: str | None = None,
    text_pair: str | None = None,
    label: str | None = None,
    validation: float = 0.1,
    test: float = 0.1,
    seed: int = 0,
    problem: Problem | None = None,
    config: str | None = None,
    revision: str | None = None,
) -> Data:
    """Load a data set for classification or regression of texts or of pairs of texts.

    Labels that are strings make classes in alphabetical order, integers and booleans in numeric order, and
    class names that a data set declares keep their order; numbers that are not all whole make a regression;
    lists (of names, of indices, or of 0 and 1 all of one length) make a multi-label problem. White space
    around a label is dropped. A column of a CSV or TSV file holds numbers if every value of every split is
    one. Where a hub data set withholds the labels of a split (all are -1), that split counts as missing.

    Args:
        source: The name of a data set of the hub; the path of a CSV, TSV, JSON-lines or Parquet file, or of
            a folder with files `train`, `validation` (or `valid`, `val`, `dev`) and `test`; a pandas
            DataFrame; a `datasets.Dataset` or `DatasetDict`; a dict of columns; a list of dicts; two lists
            `(texts, labels)`, where a text may be a pair of texts; or a dict of splits, each any of these
            but a hub name.
        name: Readable name; None takes the hub name or the last part of the path, else "data".
        text: Column of the text, or of the first text of a pair; None looks for the usual names. Given
            without `text_pair`, it asks for single texts.
        text_pair: Column of the second text of a pair.
        label: Column of the labels.
        validation: Share of train's rows to cut out for validation where that split is missing; 0: none.
        test: The same for test.
        seed: Decides which rows are cut out.
        problem: Overrides the problem that the labels suggest.
        config: Configuration of a hub data set.
        revision: Revision (branch, tag or commit) of a hub data set.

    Returns:
        The data. Splits that are missing are cut from train with their rows in order, each class in
        proportion (single_label) and with an example of each class left in train.

    Raises:
        DataError: A file, column, row or label cannot be used; the message says which and what to do.
        OptionError: An option's value cannot be used.
    """
    shares = {"validation": validation, "test": test}
    splits.check_options(shares, seed)
    found, tables = sources.read(source, config=config, revision=revision)
    chosen = {"train": columns.find(tables["train"], text, text_pair, label)}
    for split in [split for split in ("validation", "test") if split in tables]:
        chosen[split] = columns.same(tables[split], chosen["train"])
        if labels.withheld(tables[split], chosen[split].label, tables["train"], chosen["train"].label):
            del tables[split], chosen[split]
    texts = {split: columns.texts(table, chosen[split]) for split, table in tables.items()}
    columns.refuse_numbers(tables["train"], chosen["train"])
    problem, names, encoded = labels.encode(tables, {s: str(chosen[s].label) for s in tables}, problem)
    rows = {split: {**texts[split], "label": encoded[split]} for split in tables}
    missing = {split: share for split, share in shares.items() if split not in rows}
    parts = splits.cut_missing(encoded["train"], problem, names, missing, seed, where=tables["train"].where)
    train = rows["train"]
    rows |= {split: {c: [train[c][i] for i in part] for c in train} for split, part in parts.items()}
    rows = {split: rows[split] for split in sources.SPLITS if split in rows}
    made = {split: _dataset(columns_, problem) for split, columns_ in rows.items()}
    return Data(name or found, problem, names, made, _hash(problem, names, rows))


def read_texts(source: Any, *, text: str | None = None, text_pair: str | None = None, pair: bool) -> datasets.Dataset:
    """Read texts without labels, for prediction.

    Args:
        source: A path (a string is always a path), a DataFrame, a `datasets.Dataset`, a dict of columns,
            a list of dicts, or texts or pairs of texts in a list, array or series.
        text: Column of the text, or of the first text of a pair; None looks for the usual names.
        text_pair: Column of the second text of a pair.
        pair: Whether pairs are needed. If not, and a pair is found, `text` has to be named.

    Returns:
        Columns `text` and, for pairs, `text_pair`; rows as they came.

    Raises:
        DataError: A file, column or row cannot be used; the message says which and what to do.
    """
    table = sources.read_rows(source)
    return _dataset(columns.texts(table, columns.find(table, text, text_pair, pair=pair, labelled=False)))


def _dataset(rows: Mapping[str, Sequence[Any]], problem: Problem | None = None) -> datasets.Dataset:
    import datasets

    label = datasets.Value("float64" if problem == "regression" else "int64")
    kinds = {"label": datasets.List(label) if problem == "multi_label" else label}
    features = datasets.Features({c: kinds.get(c, datasets.Value("string")) for c in rows})
    return datasets.Dataset.from_dict(dict(rows), features=features)


def _hash(problem: Problem, names: Sequence[str], rows: Mapping[str, Mapping[str, Sequence[Any]]]) -> str:
    """SHA-256 over lines of canonical JSON: what the labels mean, then the size and rows of each split."""
    digest = hashlib.sha256(canonical({"problem": problem, "labels": names}).encode())
    for split, columns_ in rows.items():
        digest.update(f"\n{split} {len(columns_['label'])}".encode())
        for row in zip(*columns_.values(), strict=True):
            digest.update(b"\n" + canonical(dict(zip(columns_, row, strict=True))).encode())
    return digest.hexdigest()
