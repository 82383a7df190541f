"""Reading one file (CSV, TSV, JSON lines, Parquet) into a `Table`, which knows where each row stood."""

from __future__ import annotations

import csv
import difflib
import io
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adapt.spec import DataError

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_JSON_LINES = (".jsonl", ".ndjson", ".json")
SUFFIXES = (*_DELIMITERS, *_JSON_LINES, ".parquet")
"""Kinds of file that can be read."""
_BOM = b"\xef\xbb\xbf"


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

    def at(self, row: int) -> str:
        """What an error calls the row at this position (from 0)."""
        return f"{self.where}, " + (f"line {self.lines[row]}" if self.lines else f"row {row + 1}")


def nearest(name: str, names: Sequence[str]) -> str:
    """A hint for an error message: `; did you mean 'x'?`, or nothing."""
    folded = {n.casefold(): n for n in names}
    found = difflib.get_close_matches(name.casefold(), folded, n=1)
    return f"; did you mean {folded[found[0]]!r}?" if found else ""


def listing(names: Sequence[str], limit: int = 20) -> str:
    """Quoted names for an error message, cut after `limit`."""
    shown = ", ".join(repr(n) for n in names[:limit])
    return shown + (f" and {len(names) - limit} more" if len(names) > limit else "")


def classes_of(features: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Names of the classes of every `ClassLabel` column, and of lists of them."""
    inner = {name: getattr(feature, "feature", feature) for name, feature in features.items()}
    return {name: tuple(f.names) for name, f in inner.items() if type(f).__name__ == "ClassLabel"}


def no_duplicates(names: Sequence[str], where: str) -> None:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{where}: two columns are named {twice!r}; rename one (columns: {listing(names)})")


def read_file(path: Path) -> Table:
    """Read one CSV, TSV, JSON-lines or Parquet file, by its suffix."""
    suffix = path.suffix.casefold()
    if not path.is_file():
        if path.is_dir():
            raise DataError(f"{path}: is a folder; give a file")
        near = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise DataError(f"{path}: no such file{nearest(path.name, near) or '; check the path'}")
    if suffix not in SUFFIXES:
        raise DataError(f"{path}: unknown kind of file {suffix!r}; convert it to one of {', '.join(SUFFIXES)}")
    try:
        content = path.read_bytes() if suffix != ".parquet" or not path.stat().st_size else None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
    if content is None:
        return _parquet(path)
    bom = len(_BOM) if content.startswith(_BOM) else 0
    try:
        text = content[bom:].decode("utf-8")
    except UnicodeDecodeError as error:
        offset = error.start + bom
        line = content.count(b"\n", 0, offset) + 1
        raise DataError(
            f"{path}, line {line}: byte {offset} (0x{content[offset]:02x}) is not UTF-8; save the file as UTF-8"
        ) from error
    if not text.strip():
        raise DataError(f"{path}: the file is empty; give one with rows")
    return _json_lines(path, text) if suffix in _JSON_LINES else _delimited(path, text, _DELIMITERS[suffix])


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        raise ValueError("a key stands twice in the object")
    return row


def _json_lines(path: Path, text: str) -> Table:
    rows: list[dict[str, Any]] = []
    lines: list[int] = []
    for number, line in enumerate(text.split("\n"), 1):  # not splitlines: U+2028 and the like are text
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=_object)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}, line {number}: not JSON ({error}); write one object a line") from error
        if not isinstance(row, dict):
            raise DataError(f"{path}, line {number}: a JSON {type(row).__name__}; write one object {{...}} a line")
        rows.append(row)
        lines.append(number)
    names = tuple(dict.fromkeys(name for row in rows for name in row))
    return Table(str(path), names, len(rows), lambda name: [row.get(name) for row in rows], lines)


def _delimited(path: Path, text: str, delimiter: str) -> Table:
    rows: list[list[str]] = []
    lines: list[int] = []
    names: list[str] = []
    limit = csv.field_size_limit(sys.maxsize)  # a document may be longer than the default of 131,072 characters
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    start = 1
    try:
        for row in reader:
            line, start = start, reader.line_num + 1
            if not names:
                names = row
                continue
            if not row and len(names) == 1:
                row = [""]  # in a file of one column an empty line is an empty value
            if row and len(row) != len(names):
                raise DataError(
                    f"{path}, line {line}: {len(row)} fields where the header has {len(names)}; "
                    f"put double quotes around a field that holds {delimiter!r} or a line break"
                )
            if row:
                rows.append(row)
                lines.append(line)
    except csv.Error as error:
        raise DataError(f"{path}, line {start}: {error}; inside a quoted field write a quote twice") from error
    finally:
        csv.field_size_limit(limit)
    while len(names) == 1 and rows and rows[-1] == [""]:  # empty lines at the end of the file are none
        rows.pop(), lines.pop()
    no_duplicates(names, str(path))
    other = next((d for d in ";\t|," if d != delimiter and len(names) == 1 and d in names[0]), None)
    if other:
        raise DataError(f"{path}, line 1: fields seem to be separated by {other!r}; write them with {delimiter!r}")

    def column(name: str) -> list[str]:
        position = names.index(name)
        return [row[position] for row in rows]

    return Table(str(path), tuple(names), len(rows), column, lines, untyped=True)


def _parquet(path: Path) -> Table:
    import pyarrow
    import pyarrow.parquet

    try:
        schema = pyarrow.parquet.read_schema(path)
        rows = pyarrow.parquet.read_metadata(path).num_rows
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path}: not a Parquet file that can be read ({error}); write it again") from error
    no_duplicates(schema.names, str(path))
    classes: dict[str, tuple[str, ...]] = {}
    if b"huggingface" in (schema.metadata or {}):  # `datasets` keeps the class names there
        import datasets

        classes = classes_of(datasets.Features.from_arrow_schema(schema))

    def column(name: str) -> list[Any]:
        return pyarrow.parquet.read_table(path, columns=[name]).column(0).to_pylist()

    return Table(str(path), tuple(schema.names), rows, column, classes=classes)
