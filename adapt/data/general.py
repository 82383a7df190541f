"""General texts, on which it is measured what a backbone has forgotten."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import Any

from adapt.data import read_texts
from adapt.data.files import PLAIN, SUFFIXES, kind_of, local_path, read_lines
from adapt.data.table import column_of
from adapt.spec import DataError, Source, canonical


@dataclass(frozen=True)
class General:
    """Texts of no task."""

    source: Source
    """Name of the file, and hash of the texts in order."""
    texts: tuple[str, ...]


def read_general(given: Any) -> General:
    """Read general texts.

    Args:
        given: The path of a plain text file, one text a line (lines without text are passed over), or of a table with
            a column `text`, both also packed by gzip (`.gz`); or a list of texts, or another table that
            `adapt.data.read_texts` reads. `General` is handed back.

    Raises:
        DataError: A file or row cannot be used, or rows are pairs of texts or lists of words.
    """
    if isinstance(given, General):
        return given
    name, plain = "texts", False
    if isinstance(given, str | os.PathLike):
        path = local_path(given)
        name = path.name.encode(errors="replace").decode()  # a file may have a name that is not UTF-8
        kind = kind_of(path)
        plain = kind == PLAIN or kind not in SUFFIXES
    if plain:
        texts = read_lines(given)
    else:
        rows = read_texts(given)
        if rows.column_names != ["text"]:
            what = "pairs of texts" if "text" in rows.column_names else "lists of words"
            raise DataError(f"General texts ({name}) are {what}; give single texts.")
        texts = column_of(rows, "text")
    return General(Source(name, hashlib.sha256(canonical(texts).encode()).hexdigest()), tuple(texts))
