"""`Table`: columns that know where each row stood; what errors say of them; and what a data set's columns hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from adapt.spec import DataError

if TYPE_CHECKING:
    import datasets


@dataclass(frozen=True)
class Table:
    """Columns of equal length from one file or object, read when asked for."""

    where: str
    """What an error calls it: the file as the caller named it, or a description of the object."""
    names: tuple[str, ...]
    """Column names in order."""
    rows: int
    """Number of rows."""
    column: Callable[[str], list[Any]]
    """The values of one column, one a row, None where missing."""
    lines: Sequence[int] | None = None
    """Line of a text file, from 1, at which each row starts; None where there are no lines."""
    untyped: bool = False
    """Whether every value is a string because the format (CSV, TSV) has no other type."""
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Column to class names, where the column holds indices of named classes."""
    by_name_only: tuple[str, ...] = ()
    """Columns that the file does not name itself, which are found only where the caller names them."""

    def without(self, name: str) -> Table:
        """The table as if it had no column of this name."""
        return replace(self, names=tuple(other for other in self.names if other != name))

    def at(self, row: int) -> str:
        """What an error calls the row at this position (from 0)."""
        return f"{self.where}, " + (f"line {self.lines[row]}" if self.lines else f"row {row + 1}")


def listing(names: Iterable[str], limit: int = 20) -> str:
    """Quoted names for an error message, cut after `limit`."""
    quoted = list(map(repr, names))
    more = f" and {len(quoted) - limit} more" if len(quoted) > limit else ""
    return ", ".join(quoted[:limit]) + more


def classes_of(features: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Names of the classes of every `ClassLabel` column, and of lists of them."""
    inner = {name: getattr(feature, "feature", feature) for name, feature in features.items()}
    return {name: tuple(f.names) for name, f in inner.items() if type(f).__name__ == "ClassLabel"}


def column_of(dataset: datasets.Dataset, name: str) -> list[Any]:
    """The values of one column as plain Python objects, whatever the format set on the data set."""
    form = dataset.format
    if form["type"] is not None or name not in form["columns"]:
        dataset = dataset.with_format(None)
    return dataset[name][:]  # all at once: to go through a column makes a table of every row


def no_duplicates(names: Sequence[str], where: str) -> None:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{where}: two columns are named {twice!r}; rename one (columns: {listing(names)})")
