"""Reading one file (CSV, TSV, JSON lines, Parquet, CoNLL, SQuAD's JSON, plain text) into a `Table`."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from adapt.data.conll import read_conll
from adapt.data.squad import is_squad, read_squad
from adapt.data.table import Table, classes_of, no_duplicates
from adapt.fields import nearest
from adapt.spec import DataError

_JSON_LINES = (".jsonl", ".ndjson", ".json")
_CONLL = (".conll", ".bio")
PLAIN = ".txt"
"""Plain text, one text a line: a table with the column `text`."""
SUFFIXES = (".csv", ".tsv", *_JSON_LINES, ".parquet", *_CONLL, PLAIN)
"""Kinds of file that can be read."""
_BOM = b"\xef\xbb\xbf"
_LONGEST = 2**31 - 1
"""Characters of a field in a CSV file, where documents may be longer than the 131,072 that `csv` allows unless it is
told otherwise; more than fits 32 bits is refused on Windows."""


def local_path(source: str | os.PathLike[str], *, advice: str = "check the path") -> Path:
    """The path, where `~` is the home folder.

    Args:
        source: A path, or a text in its place.
        advice: What to do where there can be no such file.

    Raises:
        DataError: No path can be so long, or it cannot be looked at.
    """
    path = Path(source)
    with contextlib.suppress(RuntimeError):  # a name that begins with ~ and is no user's
        path = path.expanduser()
    try:
        path.exists()
    except OSError as error:
        raise DataError(f"{_shown(path)}: {error.strerror}; {advice}") from error
    return path


def _shown(path: Path) -> str:
    """One line of what may be a text."""
    return " ".join(str(path).splitlines())[:200]


def read_file(source: str | os.PathLike[str], *, advice: str = "check the path") -> Table:
    """Read one file, by its suffix; a `.json` file holds JSON lines, or one document as SQuAD has it.

    `advice` is what to do where there is no such file.
    """
    path = _existing(source, advice)
    suffix = path.suffix.casefold()
    if suffix not in SUFFIXES:
        raise DataError(f"{path}: unknown kind of file {suffix!r}; convert it to one of {', '.join(SUFFIXES)}")
    if suffix == ".parquet" and path.stat().st_size:
        return _parquet(path)
    text = _some_text_of(path)
    if suffix in _CONLL:
        return read_conll(path, text)
    if suffix == PLAIN:
        lines = {number: line for number, line in enumerate(_lines(text), 1) if line}
        return Table(str(path), ("text",), len(lines), lambda _: list(lines.values()), list(lines))
    if suffix == ".json" and (document := _document(text)) is not None:
        return read_squad(path, document)
    if suffix in _JSON_LINES:
        return _json_lines(path, text)
    return _tsv(path, text) if suffix == ".tsv" else _delimited(path, text, ",")


def read_lines(source: str | os.PathLike[str]) -> list[str]:
    """The lines of a plain text file, also one packed by gzip, that hold any text, without white space around them."""
    return [line for line in _lines(_some_text_of(_existing(source, "check the path"))) if line]


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.split("\n")]  # not splitlines: U+2028 and the like are text


def _existing(source: str | os.PathLike[str], advice: str) -> Path:
    path = local_path(source, advice=advice)
    if not path.is_file():
        if path.is_dir():
            raise DataError(f"{path}: is a folder; give a file")
        near = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise DataError(f"{_shown(path)}: no such file{nearest(path.name, near)}; {advice}")
    return path


def text_of(path: Path) -> str:
    """What a file of UTF-8 holds, also one packed by gzip; a byte order mark is left out.

    Raises:
        DataError: It cannot be read or unpacked, or is not UTF-8.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
    if path.suffix.casefold() == ".gz":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{path}: is no whole gzip file ({error}); pack it again") from error
    bom = len(_BOM) if content.startswith(_BOM) else 0
    try:
        return content[bom:].decode("utf-8")
    except UnicodeDecodeError as error:
        offset = error.start + bom
        line = content.count(b"\n", 0, offset) + 1
        raise DataError(
            f"{path}, line {line}: byte {offset} (0x{content[offset]:02x}) is not UTF-8; save the file as UTF-8"
        ) from error


def _some_text_of(path: Path) -> str:
    """What a file holds, which is more than white space."""
    text = text_of(path)
    if not text.strip():
        raise DataError(f"{path}: the file is empty; give one with rows")
    return text


def _document(text: str) -> Any:
    """The text as one JSON document in the form of SQuAD, or None."""
    try:
        document = json.loads(text)  # JSON lines end this at the second line
    except (ValueError, RecursionError):
        return None
    return document if is_squad(document) else None


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


def _tsv(path: Path, text: str) -> Table:
    """A table of TSV, which is mostly written without quoting, so that a quotation mark is one.

    It is read with quoting where no field then holds a tab, as one does whose quotation marks belong to two fields, or
    where lines have other fields than the header without it.

    Raises:
        DataError: It cannot be read; or its only column, whose name has no quotation marks, holds a text of several
            lines, which may as well be two texts.
    """
    try:
        quoted = _delimited(path, text, "\t")
    except DataError:
        plain = _unquoted(path, text)
        if plain is None:
            raise
        marked = [value for value in _values(plain) if '"' in value]
        if 2 * sum(len(value) > 1 and value[0] == value[-1] == '"' for value in marked) > len(marked):
            raise  # quoting was meant, and one field has it wrong
        return plain
    if any("\t" in value for value in _values(quoted)):
        return _unquoted(path, text) or quoted
    if len(quoted.names) == 1 and not text.lstrip().startswith('"'):
        _check_lines(quoted)
    return quoted


def _unquoted(path: Path, text: str) -> Table | None:
    """A table of TSV without quoting; None where lines have other fields than the header."""
    with contextlib.suppress(DataError):
        return _delimited(path, text, "\t", csv.QUOTE_NONE)
    return None


def _values(table: Table) -> Iterator[str]:
    return (value for name in table.names for value in table.column(name))


def _check_lines(table: Table) -> None:
    """
    Raises:
        DataError: A text of the only column is of several lines.
    """
    for row, value in enumerate(table.column(table.names[0])):
        if "\n" in value or "\r" in value:
            raise DataError(
                f"{table.at(row)}: a quotation mark here and one some lines below may hold a text of several lines or "
                "be parts of two texts; save the file as .jsonl, or as .txt where each line is a text"
            )


def _other_delimiter(text: str, delimiter: str) -> str | None:
    """The other delimiter that divides most rows in as many fields as the header, two or more; None: there is none."""
    for other in (d for d in ";\t|," if d != delimiter):
        widths = [len(row) for row in csv.reader(io.StringIO(text, newline=""), delimiter=other) if row]
        if widths[0] > 1 and 2 * widths[1:].count(widths[0]) >= len(widths) - 1:
            return other
    return None


def _delimited(path: Path, text: str, delimiter: str, quoting: Literal[0, 3] = csv.QUOTE_MINIMAL) -> Table:
    rows: list[list[str]] = []
    lines: list[int] = []
    names: list[str] = []
    limit = csv.field_size_limit(_LONGEST)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, quoting=quoting)
    start = 1
    try:
        for row in reader:
            line, start = start, reader.line_num + 1
            if not names:
                names = row
                if len(names) == 1 and (other := _other_delimiter(text, delimiter)):
                    if (delimiter, other) == (",", ";"):  # as Excel writes CSV where the comma is the decimal sign
                        return _delimited(path, text, other)
                    raise DataError(
                        f"{path}, line 1: fields seem to be separated by {other!r}; write them with {delimiter!r}"
                    )
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
