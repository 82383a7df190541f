"""What the labels mean: which problem they pose, the classes, and which values cannot be used."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from adapt.data.columns import tidy
from adapt.data.table import Table, listing
from adapt.data.values import blank, plain
from adapt.spec import DataError, OptionError, Problem

INTEGER = re.compile(r"[+-]?(0|[1-9][0-9]{0,17})")
"""An integer in an untyped table; 007 and what a float cannot tell apart are codes, not numbers."""
NUMBER = re.compile(r"[+-]?((0|[1-9][0-9]{0,17})(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
"""A number in an untyped table."""
_LIST = re.compile(r"""\[\s*(['"].*['"]|[+-]?\.?\d[\d\s,.+-]*)?\s*\]""", re.DOTALL)
"""A list of strings or of numbers as Python and JSON write it."""
_COMMA = re.compile(r"[+-]?\d+(,\d+)?")
"""A number with a comma for its point, or a whole one."""
_NOT_FINITE = re.compile(r"[+-]?(nan|inf|infinity)", re.IGNORECASE)
_PLURAL = {"bool": "booleans", "int": "integers", "float": "numbers", "str": "strings", "list": "lists"}
Encoded = tuple[tuple[str, ...], dict[str, list[Any]]]


@dataclass(frozen=True)
class _Labels:
    """The labels of every split, and the tables that they stand in; those of train decide the classes."""

    tables: Mapping[str, Table]
    of: Mapping[str, list[Any]]

    def __iter__(self) -> Iterator[tuple[str, int, Any]]:
        """Split, row (from 0) and label of each."""
        return ((split, row, label) for split, labels in self.of.items() for row, label in enumerate(labels))

    @property
    def where(self) -> str:
        """What an error calls train."""
        return self.tables["train"].where

    def at(self, split: str, row: int) -> str:
        """What an error calls a row."""
        return self.tables[split].at(row)

    def each(self, change: Callable[[Any], Any], splits: Collection[str] | None = None) -> _Labels:
        """The same with every label changed, or those of some splits."""
        within = self.of if splits is None else splits
        changed = {s: list(map(change, labels)) if s in within else labels for s, labels in self.of.items()}
        return replace(self, of=changed)


def encode(
    tables: Mapping[str, Table],
    columns: Mapping[str, str],
    problem: Problem | None,
    known: Sequence[str] | None,
) -> tuple[Problem, tuple[str, ...], dict[str, list[Any]]]:
    """What the labels of all splits mean, and their canonical form.

    Args:
        tables: Split to table; "train" decides the classes.
        columns: Split to its label column.
        problem: What is predicted; None: the values tell.
        known: Names of the classes in index order; None: train decides.

    Returns:
        The problem; the label names in index order; and split to labels: class indices, 0/1 lists as long as
        the names, or floats.

    Raises:
        DataError: A label is missing, of mixed type, not finite, no number where most are, or not among those of
            train; or there is one class only.
        OptionError: The problem asked for does not fit the values.
    """
    labels = _Labels(tables, {split: _present(table, columns[split]) for split, table in tables.items()})
    if problem is None and known is None:
        _refuse_written_lists(labels)
        _refuse_written_numbers(labels, [s for s, table in tables.items() if columns[s] not in table.classes])
    if known is None or any(label not in known for _, _, label in labels):
        labels = _typed(labels, problem)
    kind = _one_kind(labels)
    if kind == "float":
        labels = labels.each(float)
    whole = kind == "float" and all(label.is_integer() for _, _, label in labels)
    if problem is None:
        problem = "multi_label" if kind == "list" else "single_label" if kind != "float" or whole else "regression"
    if (problem == "multi_label") != (kind == "list"):
        lists = "a list of labels in each row (as JSON and Parquet hold)"
        needs = lists if problem == "multi_label" else "one label in each row"
        raise OptionError(
            f"{labels.where}: problem={problem!r} needs {needs}; column {columns['train']!r} holds {_PLURAL[kind]}"
        )
    if problem == "regression":
        return problem, (), _regression(labels)
    if whole:
        labels = labels.each(int)
    order = _order(tables["train"], columns["train"])
    names, encoded = (_multi_label if kind == "list" else _single_label)(labels, order, known)
    for name in names:
        if any("\ud800" <= character <= "\udfff" for character in name):
            raise DataError(
                f"{labels.where}: label {name!r} holds half of a surrogate pair, which is no character; mend it"
            )
    return problem, names, encoded


def _order(table: Table, column: str) -> list[str] | None:
    """The names that the column declares, tidy as labels are."""
    declared = table.classes.get(column)
    if declared is None:
        return None
    names = [tidy(name) for name in declared]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(
            f"{table.where}: column {column!r} declares class {twice!r} twice; give each class its own name"
        )
    return names


def withheld(table: Table, column: str | None, train: Table, train_column: str | None, *, empty: bool = False) -> bool:
    """Whether every label is -1, or a list of it, or with `empty` an empty list, while train's are not: how hub sets
    withhold those of test."""

    def unknown(values: Table, name: str | None) -> Iterator[bool]:
        return (_is_unknown(plain(value)) or (empty and plain(value) == []) for value in values.column(str(name)))

    return table.rows > 0 and all(unknown(table, column)) and not any(unknown(train, train_column))


def _is_unknown(label: Any) -> bool:
    if isinstance(label, list):
        return len(label) > 0 and all(map(_is_unknown, label))
    return str(label) in ("-1", "-1.0")


def _present(table: Table, column: str) -> list[Any]:
    """The labels as plain Python values, class indices replaced by their names; none is missing."""
    values = [plain(value) for value in table.column(column)]
    names = table.classes.get(column)
    if names is not None:
        values = [_class_name(table, row, value, names) for row, value in enumerate(values)]
    values = [tidy(value) if isinstance(value, str) else value for value in values]
    bad = [row for row, value in enumerate(values) if value is None or value == ""]
    if bad:
        raise blank(table, column, "label", bad)
    for row, value in enumerate(values):
        if table.untyped and _LIST.fullmatch(value):
            raise DataError(
                f"{table.at(row)}: column {column!r} holds {value!r:.60}, a list, which a CSV or TSV file cannot; "
                "write the rows as JSON lines or Parquet"
            )
    return values


def _refuse_written_lists(labels: _Labels) -> None:
    """Raise where a label is a string that looks like a list, as one that went through a CSV file does."""
    for split, row, label in labels:
        if isinstance(label, str) and _LIST.fullmatch(label):
            raise DataError(
                f"{labels.at(split, row)}: label {label!r:.60} is a string that looks like a list; make lists of such "
                "strings (ast.literal_eval does; JSON and Parquet hold lists), or pass problem='single_label' "
                "(--problem single_label) to make classes of them"
            )


def _refuse_written_numbers(labels: _Labels, splits: Collection[str]) -> None:
    """Raise where most strings of the typed tables among the splits are numbers, not all of them whole, as in a column
    read as text."""
    typed = [split for split in splits if not labels.tables[split].untyped]
    cells = [(split, row, label) for split, row, label in labels if split in typed]
    numbers = [(split, row, label) for split, row, label in cells if isinstance(label, str) and NUMBER.fullmatch(label)]
    broken = [cell for cell in numbers if not _is_whole(cell[2])]
    if broken and 2 * len(numbers) > len(cells):
        split, row, label = broken[0]
        raise DataError(
            f"{labels.at(split, row)}: label {label!r:.60} is a number written as a string, as most labels are; make "
            "numbers of them (astype(float) of pandas does), or pass problem='single_label' (--problem single_label) "
            "to make classes of them"
        )


def _class_name(table: Table, row: int, value: Any, names: Sequence[str]) -> Any:
    if isinstance(value, list):
        return [_class_name(table, row, item, names) for item in value]
    if value is None or value == -1:
        return None
    if not isinstance(value, int) or not 0 <= value < len(names):
        raise DataError(f"{table.at(row)}: label {value!r} is no index of the {len(names)} class names; mend it")
    return names[value]


def _typed(labels: _Labels, problem: Problem | None) -> _Labels:
    """The same, with numbers for the strings of untyped tables where all of them, in every split, are numbers.

    Where classes are asked for and not all are whole, they stay as they are written (1.1 and 1.10 are two), unless
    another split holds numbers of its own.
    """
    untyped = [split for split, table in labels.tables.items() if table.untyped]
    if any(isinstance(label, str) for split, _, label in labels if split not in untyped):
        return labels
    if problem is None:
        _refuse_odd_numbers(labels, untyped)
    strings = {label for split in untyped for label in labels.of[split]}
    if all(map(INTEGER.fullmatch, strings)):
        return labels.each(int, untyped)
    if (
        problem == "single_label"
        and len(untyped) == len(labels.of)
        and all(map(NUMBER.fullmatch, strings))
        and not all(map(_is_whole, strings))
    ):
        return labels
    if all(NUMBER.fullmatch(s) or _NOT_FINITE.fullmatch(s) for s in strings) and any(map(NUMBER.fullmatch, strings)):
        return labels.each(float, untyped)
    return labels


def _refuse_odd_numbers(labels: _Labels, untyped: Collection[str]) -> None:
    """Raise where most strings of untyped tables are numbers, not all of them whole, and others would make classes."""
    cells = [(split, row, label) for split, row, label in labels if split in untyped]
    numbers = [label for _, _, label in cells if NUMBER.fullmatch(label)]
    commas = [label for _, _, label in cells if _COMMA.fullmatch(label)]
    classes = "or pass problem='single_label' (--problem single_label) to make classes of them"
    if 2 * len(numbers) > len(cells) and not all(map(_is_whole, numbers)):
        for split, row, label in cells:
            if not (NUMBER.fullmatch(label) or _NOT_FINITE.fullmatch(label)):
                raise DataError(
                    f"{labels.at(split, row)}: label {label!r:.60} is no number, and most labels are; mend it, take "
                    f"the row out, {classes}"
                )
    elif 2 * len(commas) > len(cells):
        for split, row, label in cells:
            if "," in label and _COMMA.fullmatch(label):
                raise DataError(
                    f"{labels.at(split, row)}: label {label!r:.60} is a number with a comma, or two of them; write "
                    f"decimals with a point, lists as lists (JSON lines, Parquet), {classes}"
                )


def _is_whole(number: str) -> bool:
    return float(number).is_integer()


def _one_kind(labels: _Labels) -> str:
    """The name of the one type that all labels have; that of integers beside floats is float."""
    first: dict[str, str] = {}
    for split, row, label in labels:
        kind = type(label).__name__
        if kind not in _PLURAL:
            raise DataError(
                f"{labels.at(split, row)}: label {label!r:.60} is a {kind}; give a string, a number or a list"
            )
        if kind not in first:
            first[kind] = f"{labels.at(split, row)} holds {label!r:.60}"
        if kind in ("int", "float") and not abs(label) < 1e300:  # also true of NaN
            raise DataError(f"{labels.at(split, row)}: label {label!r:.60} is not finite; mend it or take the row out")
    if set(first) == {"int", "float"}:
        return "float"
    if len(first) > 1:
        (a, where_a), (b, where_b) = list(first.items())[:2]
        raise DataError(
            f"labels are of mixed types: {where_a} ({_PLURAL[a]}), {where_b} ({_PLURAL[b]}); write them all as one type"
        )
    return next(iter(first))


def _regression(labels: _Labels) -> dict[str, list[Any]]:
    for split, row, label in labels:
        if isinstance(label, str) and not NUMBER.fullmatch(label):
            raise DataError(f"{labels.at(split, row)}: label {label!r} is not a number, as regression needs; mend it")
    return dict(labels.each(float).of)


def unseen(place: str, what: str, split: str, known: Sequence[str] | None) -> DataError:
    """The error for a class or tag that is not in train, or that a model does not know.

    Args:
        place: Where it is.
        what: It, and what it is called.
        split: The split of its row.
        known: Those that the model knows; None: those of train are meant.
    """
    if known is not None:
        return DataError(
            f"{place}: {what} is none that the model knows ({listing(known)}); mend it, or take its rows out"
        )
    return DataError(
        f"{place}: {what} is in {split} but not in train; add examples of it to train, or take its rows out of {split}"
    )


def _single_label(labels: _Labels, order: Sequence[str] | None, known: Sequence[str] | None) -> Encoded:
    if known is not None:
        labels, order = _under_known_names(labels, known), known
    seen = set(labels.of["train"] if known is None else known)
    if len(seen) == 1:
        raise DataError(
            f"{labels.where}: every label is {labels.of['train'][0]!r}; a classifier needs rows of two classes at least"
        )
    classes = sorted(seen) if order is None else order
    for split, row, label in labels:
        if label not in seen:
            raise unseen(labels.at(split, row), f"label {label!r}", split, known)
    index = {name: i for i, name in enumerate(classes)}
    return tuple(map(str, classes)), dict(labels.each(index.__getitem__).of)


def _under_known_names(labels: _Labels, known: Sequence[str]) -> _Labels:
    """The same as names of classes. A number that is none of them as it stands has the name of its value, where one
    name alone has it: 1 is the class 1.0."""
    named: dict[float, set[str]] = {}
    every = frozenset(known)
    for name in filter(NUMBER.fullmatch, known):
        named.setdefault(_value_of(name), set()).add(name)

    def under(label: Any, untyped: bool) -> str:
        name = str(label)
        if name in every or not (untyped or isinstance(label, int | float)) or not NUMBER.fullmatch(name):
            return name
        found = named.get(_value_of(name), ())
        return next(iter(found)) if len(found) == 1 else name

    of = {s: [under(label, labels.tables[s].untyped) for label in split] for s, split in labels.of.items()}
    return replace(labels, of=of)


def _value_of(number: str) -> float:
    return int(number) if INTEGER.fullmatch(number) else float(number)


def _multi_label(labels: _Labels, order: Sequence[str] | None, known: Sequence[str] | None) -> Encoded:
    labels = labels.each(lambda items: [_item(item) for item in items])
    for split, row, items in labels:
        for item in items:
            if not isinstance(item, int | str) or item == "":
                raise DataError(
                    f"{labels.at(split, row)}: {item!r:.60} in the list of labels is no string and no integer; mend it"
                )
    kinds = {type(item) for _, _, items in labels for item in items}
    if len(kinds) > 1:
        found = " and ".join(sorted(_PLURAL[kind.__name__] for kind in kinds))
        raise DataError(f"{labels.where}: label lists hold {found}; make all of one type")
    width = _width(labels, known) if kinds == {int} and order is None else None
    if width is not None:
        labels = labels.each(lambda bits: [i for i, bit in enumerate(bits) if bit])
    classes: Sequence[Any]
    if known is not None:
        labels = labels.each(lambda items: list(map(str, items)))
        classes, seen = known, set(known)
    else:
        seen = {item for items in labels.of["train"] for item in items}
        if not seen:
            raise DataError(f"{labels.where}: no row has any label; give rows of every label")
        classes = order or (sorted(seen) if width is None else range(width))
    for split, row, items in labels:
        for item in items:
            if item not in seen:
                raise unseen(labels.at(split, row), f"label {item!r}", split, known)
    return tuple(map(str, classes)), dict(labels.each(lambda items: [int(c in items) for c in classes]).of)


def _item(item: Any) -> Any:
    """A boolean or a whole float as an integer, a name tidy."""
    if isinstance(item, bool) or (isinstance(item, float) and item.is_integer()):
        return int(item)
    return tidy(item) if isinstance(item, str) else item


def _width(labels: _Labels, known: Sequence[str] | None) -> int | None:
    """Length of the lists of 0 and 1, one for each label; None where they are lists of indices.

    Raises:
        DataError: They are of 0 and 1, and do not say which of the model's labels each is for.
    """
    width = _multi_hot(labels)
    if width is None or known is None:
        return width
    numbered = list(known) == list(map(str, range(len(known))))
    twice = any(len(set(items)) < len(items) for _, _, items in labels)
    if twice if width != len(known) else not numbered:
        knows = f"{len(known)} labels; give one for each of them, or" if numbered else f"{listing(known)}; give"
        raise DataError(
            f"{labels.where}: {width} zeros and ones a row, and the model knows {knows} lists of their names"
        )
    return width if width == len(known) else None


def _multi_hot(labels: _Labels) -> int | None:
    """Length of the 0/1 lists, or None where the lists name class indices.

    Lists of differing length whose items rise, such as [0] and [0, 1], name indices.
    """
    if any(item not in (0, 1) for _, _, items in labels for item in items):
        _check_indices(labels)
        return None
    width = len(labels.of["train"][0])
    rising = all(list(items) == sorted(set(items)) for _, _, items in labels)
    for split, row, items in labels:
        if len(items) != width:
            if rising:
                return None
            raise DataError(
                f"{labels.at(split, row)}: {len(items)} zeros and ones where the first row has {width}; "
                f"give one for each label in every row"
            )
    return width if width > 1 else None


def _check_indices(labels: _Labels) -> None:
    """Raise for an index below zero.

    Lists of one length are no indices where some have an item twice and most items are 0 or 1; there raise for others.
    """
    every = [items for _, _, items in labels]
    one_length = len(set(map(len, every))) == 1
    bits = sum(item in (0, 1) for items in every for item in items)
    most = 2 * bits > sum(map(len, every))
    indices = not (one_length and most and any(len(set(items)) < len(items) for items in every))
    for split, row, items in labels:
        for item in items:
            if indices and item < 0:
                raise DataError(f"{labels.at(split, row)}: {item} in the list of labels is no index; mend it")
            if not indices and item not in (0, 1):
                raise DataError(
                    f"{labels.at(split, row)}: {item} in the list of labels is not 0 or 1; mend it, or take the row "
                    f"out (a list of indices has none twice)"
                )
