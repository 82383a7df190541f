"""CoNLL files: a word and its tag a line, an empty line after each sentence."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from adapt.data.table import Table
from adapt.spec import DataError


def read_conll(path: Path, text: str) -> Table:
    """A row for each sentence, which stands at the line of its first word.

    The first field of a line is the word and the last one the tag; tabs separate them, or spaces where no line of the
    sentence has a tab; other white space, such as a no-break space, is part of a word. Lines that begin with -DOCSTART-
    are skipped, and so are comments: lines in front of a sentence that are a number sign alone, or one and a space and
    more, and have not the fields of its words, or end in `newdoc` or `newpar`. A file with one field a line has words
    only. Where such lines say that documents begin (-DOCSTART-, `# newdoc`), a column `document` numbers them.

    Raises:
        DataError: Some lines have one field and others more, or lines of a sentence differ in their number; or the
            words are numbers of words.
    """
    lines = [line.rstrip("\r") for line in text.split("\n")]
    split = [_fields(line, tabs) for line, tabs in zip(lines, _with_tabs(lines), strict=True)]
    tokens: list[list[str]] = []
    tags: list[list[str]] = []
    begins: list[int] = []
    documents: list[int] = []
    alone = both = first = document = 0
    for number, fields in enumerate(split, 1):
        if not _is_word(fields):
            first = 0
            document += any(fields)
            continue
        if not first:
            if _is_comment(number - 1, lines, split):
                document += lines[number - 1].startswith("# newdoc")
                continue
            tokens.append([])
            tags.append([])
            begins.append(number)
            documents.append(document)
            first = number
        alone, both = (alone or number, both) if len(fields) == 1 else (alone, both or number)
        if alone and both:
            raise DataError(
                f"{path}, line {alone}: one field where line {both} has a word and a tag; give each word its tag"
            )
        width = len(split[first - 1])
        if begins == [number] and width == 10 and _is_numbered(split[number - 1 : number + 1]):
            raise DataError(
                f"{path}, line {number}: this looks like CoNLL-U, whose first field numbers the words; keep the fields "
                "FORM and UPOS, a word and its tag a line"
            )
        if len(fields) != width:
            raise DataError(
                f"{path}, line {number}: {len(fields)} fields where line {first} of the same sentence has {width}; "
                "give each word the same"
            )
        tokens[-1].append(fields[0])
        tags[-1].append(fields[-1])
    if both and len(split[begins[0] - 1]) > 2 and _are_numbers(tokens):
        raise DataError(
            f"{path}, line {begins[0]}: the first field numbers the words of each sentence; leave it out, so that a "
            "word comes first and its tag last"
        )
    columns: dict[str, list[Any]] = {"tokens": tokens, "tags": tags} if both else {"tokens": tokens}
    if document:
        columns["document"] = documents
    return Table(str(path), tuple(columns), len(tokens), columns.__getitem__, begins)


def _with_tabs(lines: Sequence[str]) -> list[bool]:
    """For each line whether its sentence has tabs, but for lines that may be comments."""
    found: list[bool] = []
    for blank, group in groupby(lines, lambda line: not line.strip()):
        block = list(group)
        found += [not blank and any("\t" in line for line in block if not line.startswith("# "))] * len(block)
    return found


def _fields(line: str, tabs: bool) -> list[str]:
    if tabs or ("\t" in line and line.startswith("# ")):
        return [field.strip(" ") for field in line.split("\t")]
    return [field for field in line.split(" ") if field] if line.strip() else []


def _is_word(fields: Sequence[str]) -> bool:
    return any(fields) and fields[0] != "-DOCSTART-"


def _is_numbered(fields: Sequence[Sequence[str]]) -> bool:
    """Whether the first two lines of a sentence have numbers where others have words; one of a single word may."""
    return [row[0] for row in fields if any(row)] in (["1", "2"], ["1"], ["1-2", "1"])


def _are_numbers(sentences: Sequence[Sequence[str]]) -> bool:
    """Whether all sentences, some of several words, are 1, 2, 3 and so on, or begin with 0."""
    several = any(len(words) > 1 for words in sentences)
    return several and any(
        all(list(words) == [str(first + i) for i in range(len(words))] for words in sentences) for first in (0, 1)
    )


def _is_marked(line: str) -> bool:
    return line.startswith("# ") or line.rstrip() == "#"


def _is_comment(i: int, lines: Sequence[str], split: Sequence[Sequence[str]]) -> bool:
    """Whether a line in front of a sentence has not the form of the words that follow it, or says what begins there."""
    if not _is_marked(lines[i]):
        return False
    follows = next((j for j in range(i + 1, len(lines)) if not _is_marked(lines[j])), None)
    if follows is None or not _is_word(split[follows]):
        return False
    return len(split[i]) != len(split[follows]) or " " in split[i][0] or split[i][-1] in ("newdoc", "newpar")
