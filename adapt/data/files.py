"""Reading one file (CSV, TSV, JSON, Parquet, CoNLL, SQuAD's JSON, plain text) into a `Table`."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from adapt.data.conll import read_conll
from adapt.data.delimited import read_csv, read_tsv
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


def local_path(source: str | os.PathLike[str], *, advice: str = "check the path") -> Path:
    """The path, where `~` is the home folder.

    Args:
        source: A path, or a text in its place.
        advice: What to do where there can be no such file.

    Raises:
        DataError: It is empty, no path can be so long, or it cannot be looked at.
    """
    if source == "":
        raise DataError(f"'' is no path, for it is empty; {advice}")
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


def kind_of(path: Path) -> str:
    """Which of `SUFFIXES` a file has; of one packed by gzip the suffix before `.gz`. That of another may be any."""
    inner = Path(path.stem).suffix.casefold()
    return inner if is_packed(path) and inner in SUFFIXES else path.suffix.casefold()


def stem_of(path: Path) -> str:
    """The name of a file without that suffix, and without `.gz`."""
    return Path(path.stem).stem if is_packed(path) else path.stem


def is_packed(path: Path) -> bool:
    """Whether a file is packed by gzip, by its name."""
    return path.suffix.casefold() == ".gz"


def read_file(source: str | os.PathLike[str], *, advice: str = "check the path", every_line: bool = False) -> Table:
    """Read one file, by its suffix; a `.json` file holds JSON lines, an array of objects, or SQuAD as it is published.
    All but Parquet, which packs what it holds, may be packed by gzip (`.csv.gz`).

    Args:
        source: The file.
        advice: What to do where there is no such file.
        every_line: Whether a blank line of plain text is a row without text unless it is at the end, as in a CSV file
            of one column; else it is passed over, as what parts documents.

    Raises:
        DataError: It cannot be read.
    """
    path = _existing(source, advice)
    suffix = kind_of(path)
    if suffix not in SUFFIXES:
        raise DataError(f"{path}: unknown kind of file {suffix!r}; convert it to one of {', '.join(SUFFIXES)}")
    if suffix == ".parquet" and is_packed(path):
        raise DataError(f"{path}: Parquet is not read packed, for it packs what it holds; unpack it")
    if suffix == ".parquet" and path.stat().st_size:
        return _parquet(path)
    text = _some_text_of(path)
    if suffix in _CONLL:
        return read_conll(path, text)
    if suffix == PLAIN:
        lines = {number: line for number, line in enumerate(lines_of(text.rstrip()), 1) if line or every_line}
        return Table(str(path), ("text",), len(lines), lambda _: list(lines.values()), list(lines))
    if suffix == ".json" and text.lstrip().startswith("["):
        return _json_array(path, text)
    document = _document(text) if suffix == ".json" else None
    if is_squad(document):
        return read_squad(path, document)
    if _is_whole_table(document):
        raise DataError(
            f"{path}: one JSON object that holds all rows, as pandas writes a table; write one object a row, as its "
            "to_json does with orient='records'"
        )
    if suffix in _JSON_LINES:
        return _json_lines(path, text)
    return (read_tsv if suffix == ".tsv" else read_csv)(path, text)


def read_lines(source: str | os.PathLike[str]) -> list[str]:
    """The lines of a plain text file, also one packed by gzip, that hold any text, without white space around them."""
    return [line for line in lines_of(_some_text_of(_existing(source, "check the path"))) if line]


def lines_of(text: str) -> list[str]:
    """The lines of a text without white space around them; U+2028, form feeds and the like end none."""
    return [line.strip() for line in _with_line_feeds(text).split("\n")]


def _existing(source: str | os.PathLike[str], advice: str) -> Path:
    path = local_path(source, advice=advice)
    if not path.is_file():
        if path.is_dir():
            raise DataError(f"{path}: is a folder; give a file")
        near: list[str] = []
        with contextlib.suppress(OSError):
            near = [p.name for p in path.parent.iterdir()]
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
    if is_packed(path):
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
    return _with_line_feeds(text)


def _with_line_feeds(text: str) -> str:
    return text if "\n" in text else text.replace("\r", "\n")  # lines as old Macs ended them


def _document(text: str) -> Any:
    """The text as one JSON document, or None."""
    try:
        return json.loads(text)  # JSON lines end this at the second line
    except (ValueError, RecursionError):
        return None


def _is_whole_table(document: Any) -> bool:
    """Whether it is a table as pandas writes it: values by row and column, or beside the names of the columns."""
    if not isinstance(document, dict) or not document:
        return False
    if isinstance(document.get("data"), list) and document.keys() & {"columns", "schema"}:
        return True
    inner = list(document.values())
    if not all(isinstance(values, dict) and values for values in inner):
        return False
    return any(all(map(str.isdecimal, keys)) for keys in (document, inner[0]))


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
    return _table_of(path, rows, lines)


def _json_array(path: Path, text: str) -> Table:
    try:
        rows = json.loads(text, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{path}: not one JSON array ({error}); write [{{...}}, {{...}}], or one object a line"
        ) from error
    if not rows:
        raise DataError(f"{path}: the array is empty; give one with rows")
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise DataError(f"{path}, row {number}: a JSON {type(row).__name__}; write an object {{...}} for each row")
    return _table_of(path, rows)


def _table_of(path: Path, rows: list[dict[str, Any]], lines: Sequence[int] | None = None) -> Table:
    names = tuple(dict.fromkeys(name for row in rows for name in row))
    return Table(str(path), names, len(rows), lambda name: [row.get(name) for row in rows], lines)


def _parquet(path: Path) -> Table:
    import pyarrow
    import pyarrow.parquet

    @contextlib.contextmanager
    def reading() -> Iterator[None]:
        try:
            yield
        except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
            reason = " ".join(str(error).split())
            raise DataError(f"{path}: not a Parquet file that can be read ({reason}); write it again") from error

    with reading():
        schema = pyarrow.parquet.read_schema(path)
        rows = pyarrow.parquet.read_metadata(path).num_rows
    no_duplicates(schema.names, str(path))
    classes: dict[str, tuple[str, ...]] = {}
    if b"huggingface" in (schema.metadata or {}):  # `datasets` keeps the class names there
        import datasets

        classes = classes_of(datasets.Features.from_arrow_schema(schema))

    def column(name: str) -> list[Any]:
        with reading():
            return pyarrow.parquet.read_table(path, columns=[name]).column(0).to_pylist()

    return Table(str(path), tuple(schema.names), rows, column, classes=classes)
