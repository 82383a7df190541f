"""CoNLL files: a word and its tag a line, an empty line after each sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from adapt.data.table import Table
from adapt.spec import DataError


def read_conll(path: Path, text: str) -> Table:
    """A row for each sentence, which stands at the line of its first word.

    The first field of a line is the word and the last one the tag; tabs separate them, or white space where there is
    no tab. Lines that begin with -DOCSTART- are skipped. A file with one field a line has words only.

    Raises:
        DataError: Some lines have one field and others more.
    """
    tokens: list[list[str]] = []
    tags: list[list[str]] = []
    lines: list[int] = []
    alone = both = 0
    inside = False
    for number, line in enumerate(text.split("\n"), 1):
        fields = [field.strip() for field in line.rstrip("\r").split("\t")] if "\t" in line else line.split()
        if not any(fields) or fields[0] == "-DOCSTART-":
            inside = False
            continue
        if not inside:
            tokens.append([])
            tags.append([])
            lines.append(number)
            inside = True
        if len(fields) == 1:
            alone = alone or number
        else:
            both = both or number
        if alone and both:
            raise DataError(
                f"{path}, line {alone}: one field where line {both} has a word and a tag; give each word its tag"
            )
        tokens[-1].append(fields[0])
        tags[-1].append(fields[-1])
    columns: dict[str, list[Any]] = {"tokens": tokens, "tags": tags} if both else {"tokens": tokens}
    return Table(str(path), tuple(columns), len(tokens), columns.__getitem__, lines)
