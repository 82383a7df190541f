"""CSV and TSV files: a header that names the columns, then a row a line, or more where a field holds line breaks."""

from __future__ import annotations

import contextlib
import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from adapt.data.table import Table, no_duplicates
from adapt.spec import DataError

_SAID = re.compile(r'"?sep=([,;\t|])"?\r?\n', re.IGNORECASE)
"""A first line that tells Excel what separates the fields of the others."""
_RETURN = "new-line character seen in unquoted field"
"""What `csv` says of a carriage return amid a line."""
_LONGEST = 2**31 - 1
"""Characters of a field, where documents may be longer than the 131,072 that `csv` allows unless it is told otherwise;
more than fits 32 bits is refused on Windows."""


def read_csv(path: Path, text: str) -> Table:
    """A table of CSV. Fields are separated by commas, by semicolons where the header is, or by what a first line `sep=`
    says.

    Empty lines are no rows, nor are rows of empty fields at the end of the file, which spreadsheets leave where cells
    were cleared. Elsewhere such rows, and empty lines of a file of one column, are rows without values.

    Raises:
        DataError: It cannot be read.
    """
    said = _SAID.match(text)
    if said is None:
        return _read(path, text, ",")
    return _read(path, "\n" + text[said.end() :], said[1])  # the empty line keeps the numbers of the others


def read_tsv(path: Path, text: str) -> Table:
    """A table of TSV, which is mostly written without quoting, so that a quotation mark is one.

    It is read with quoting where no field then holds a tab, as one does whose quotation marks belong to two fields;
    where lines have other fields than the header without it; or where the first name is quoted.

    Raises:
        DataError: It cannot be read; its only column, whose name has no quotation marks, holds a text of several
            lines, which may as well be two texts; or a field holds tabs and line breaks, and may as well be fields of
            two rows, for all quotation marks are as a program that quotes writes them.
    """
    try:
        quoted = _read(path, text, "\t")
    except DataError:
        plain = _unquoted(path, text)
        if plain is None:
            raise
        marked = [value for value in _values(plain) if '"' in value]
        if 2 * sum(len(value) > 1 and value[0] == value[-1] == '"' for value in marked) > len(marked):
            raise  # quoting was meant, and one field has it wrong
        return plain
    if text.lstrip().startswith('"'):
        return quoted
    if any("\t" in value for value in _values(quoted)):
        plain = _unquoted(path, text)
        if plain is None:
            return quoted
        if _is_as_written(quoted, text):
            _check_tabs(quoted)
        return plain
    if len(quoted.names) == 1:
        _check_lines(quoted)
    return quoted


def _unquoted(path: Path, text: str) -> Table | None:
    """A table of TSV without quoting; None where lines have other fields than the header."""
    with contextlib.suppress(DataError):
        return _read(path, text, "\t", csv.QUOTE_NONE)
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


def _is_as_written(table: Table, text: str) -> bool:
    """Whether a program that quotes the fields which need it, and no others, writes this text of the table."""
    written = io.StringIO(newline="")
    writer = csv.writer(written, delimiter="\t", lineterminator="\n")
    writer.writerows([table.names, *zip(*map(table.column, table.names), strict=True)])
    return written.getvalue().splitlines() == text.splitlines()


def _check_tabs(table: Table) -> None:
    """
    Raises:
        DataError: A field holds a tab.
    """
    for row, values in enumerate(zip(*map(table.column, table.names), strict=True)):
        if any("\t" in value for value in values):
            raise DataError(
                f"{table.at(row)}: a quotation mark here and one some lines below may hold a text with tabs and line "
                "breaks or be parts of two texts; save the file as .jsonl, or quote every field, names too"
            )


def _lines(text: str) -> io.StringIO:
    """The lines of a text whose lines a line feed ends: a carriage return within one is part of a field."""
    return io.StringIO(text, newline="\n")


def _other_delimiter(text: str, delimiter: str) -> str | None:
    """The other delimiter that divides most rows in as many fields as the header, two or more; None: there is none."""
    for other in (d for d in ";\t|," if d != delimiter):
        try:
            widths = [len(row) for row in csv.reader(_lines(text), delimiter=other) if row]
        except csv.Error:
            continue
        if widths[0] > 1 and 2 * widths[1:].count(widths[0]) >= len(widths) - 1:
            return other
    return None


def _divided_by(path: Path, text: str, delimiter: str, other: str, line: int) -> Table:
    """
    Raises:
        DataError: It cannot be read, or the other delimiter is none of the format.
    """
    if (delimiter, other) == (",", ";"):  # as Excel writes CSV where the comma is the decimal sign
        return _read(path, text, other)
    suffix = {"\t": ".tsv", ",": ".csv", ";": ".csv"}.get(other)
    named = f"name the file {suffix}, or " if suffix else ""
    raise DataError(
        f"{path}, line {line}: fields seem to be separated by {other!r}; {named}write them with {delimiter!r}"
    )


def _read(path: Path, text: str, delimiter: str, quoting: Literal[0, 3] = csv.QUOTE_MINIMAL) -> Table:
    rows: list[list[str]] = []
    lines: list[int] = []
    names: list[str] = []
    limit = csv.field_size_limit(_LONGEST)
    reader = csv.reader(_lines(text), delimiter=delimiter, strict=True, quoting=quoting)
    start = 1
    try:
        for row in reader:
            line, start = start, reader.line_num + 1
            if not names:
                names = row
                if len(names) == 1 and (other := _other_delimiter(text, delimiter)):
                    return _divided_by(path, text, delimiter, other, line)
                continue
            if len(row) < 2 and not any(map(str.strip, row)):  # an empty line: in a file of one column an empty value
                row = [""] if len(names) == 1 else []
            if row and len(row) != len(names):
                lacking = delimiter * (len(names) - len(row))
                raise DataError(
                    f"{path}, line {line}: {len(row)} fields where the header has {len(names)}; "
                    f"put double quotes around a field that holds {delimiter!r} or a line break"
                    + (f", or end it with {lacking!r} where its last fields are empty" if lacking else "")
                )
            if row:
                rows.append(row)
                lines.append(line)
    except csv.Error as error:
        if not names and (other := _other_delimiter(text, delimiter)):  # each field of the header in quotes
            return _divided_by(path, text, delimiter, other, start)
        if _RETURN in str(error):
            raise DataError(
                f"{path}, line {start}: a field holds a carriage return; put double quotes around it"
            ) from error
        raise DataError(f"{path}, line {start}: {error}; inside a quoted field write a quote twice") from error
    finally:
        csv.field_size_limit(limit)
    while rows and not any(map(str.strip, rows[-1])):
        rows.pop(), lines.pop()
    no_duplicates([name for name in names if name.strip()], str(path))

    def column(name: str) -> list[str]:
        position = names.index(name)
        return [row[position] for row in rows]

    return Table(str(path), tuple(names), len(rows), column, lines, untyped=True)
