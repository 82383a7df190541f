"""CoNLL files: a word and its tag a line, an empty line after each sentence."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from adapt.data.table import Table
from adapt.metrics.spans import TAG
from adapt.spec import DataError


def read_conll(path: Path, text: str) -> Table:
    """A row for each sentence, which stands at the line of its first word.

    The first field of a line is the word and the last one its tag; where lines have one field, there are words alone.
    Tabs separate fields, or spaces where no word of the sentence has a tab; other white space, such as a no-break
    space, is part of a word.

    Skipped are lines that begin with -DOCSTART-, and comments in front of a sentence or by themselves: a number sign,
    alone or with a space and more, unless the line has as many fields as the words below it (by itself: as most words)
    and does not end in `newdoc` or `newpar`. Where such lines say that documents begin (-DOCSTART-, `# newdoc`), a
    column `document` names them by the file and their number.

    Raises:
        DataError: Some lines have one field and others more, or lines of a sentence differ in their number; or the
            words are numbers of words, as CoNLL-U has them, or stand behind their tags.
    """
    lines = [line.rstrip("\r") for line in text.split("\n")]
    split = [_fields(line, tabs) for line, tabs in zip(lines, _with_tabs(lines), strict=True)]
    sentences, documents, begun = _sentences(lines, split)
    columns: dict[str, list[Any]] = {"tokens": [[split[i][0] for i in sentence] for sentence in sentences]}
    if sentences:
        _check_fields(path, split, sentences)
        width = len(split[sentences[0][0]])
        if width > 2 and _are_numbers(columns["tokens"], in_order=width != _OF_CONLLU):
            ranges = any(not word.isdecimal() for words in columns["tokens"] for word in words)
            raise DataError(
                f"{path}, line {sentences[0][0] + 1}: "
                + (_CONLLU if ranges or width == _OF_CONLLU else "the first field numbers the words of each sentence; "
                   "leave it out, so that a word comes first and its tag last")
            )  # fmt: skip
        if width > 1:
            _check_order(path, split, sentences)
            columns["tags"] = [[split[i][-1] for i in sentence] for sentence in sentences]
    if begun:
        name = Path(path.name.removesuffix(".gz")).stem
        columns["document"] = [f"{name}-{number}" for number in documents]
    return Table(
        str(path), tuple(columns), len(sentences), columns.__getitem__, [s[0] + 1 for s in sentences],
        by_name_only=("document",),
    )  # fmt: skip


_OF_CONLLU = 10
"""Fields of a line of CoNLL-U."""
_CONLLU = (
    "this looks like CoNLL-U, whose first field numbers the words; keep the fields FORM and UPOS, a word and its tag a "
    "line, and leave out the lines of several words (2-3) and of empty nodes (2.1)"
)


def _sentences(lines: Sequence[str], split: Sequence[Sequence[str]]) -> tuple[list[list[int]], list[int], int]:
    """Of each sentence the lines of its words, counted from 0, and the number of its document; and how many documents
    are said to begin."""
    sentences: list[list[int]] = []
    documents: list[int] = []
    document, inside, usual = 0, False, _usual(lines, split)
    for i, fields in enumerate(split):
        if not _is_word(fields):
            inside = False
            document += any(fields)
        elif not inside and _is_comment(i, lines, split, usual):
            document += lines[i].startswith("# newdoc")
        elif inside:
            sentences[-1].append(i)
        else:
            sentences.append([i])
            documents.append(document)
            inside = True
    return sentences, documents, document


def _check_fields(path: Path, split: Sequence[Sequence[str]], sentences: Sequence[Sequence[int]]) -> None:
    """
    Raises:
        DataError: Lines have other numbers of fields than they may.
    """
    begin = sentences[0][0]
    for sentence in sentences:
        for i in sentence:
            if (len(split[i]) == 1) != (len(split[begin]) == 1):
                alone, both = sorted((begin, i), key=lambda line: len(split[line]))
                raise DataError(
                    f"{path}, line {alone + 1}: one field where line {both + 1} has a word and a tag; give each word "
                    "its tag"
                )
            if len(split[i]) != len(split[sentence[0]]):
                raise DataError(
                    f"{path}, line {i + 1}: {len(split[i])} fields where line {sentence[0] + 1} of the same sentence "
                    f"has {len(split[sentence[0]])}; give each word the same"
                )


def _check_order(path: Path, split: Sequence[Sequence[str]], sentences: Sequence[Sequence[int]]) -> None:
    """
    Raises:
        DataError: Every first field has the form of a tag of entities, and not every last one.
    """
    first, last = ({split[i][at] for sentence in sentences for i in sentence} for at in (0, -1))
    if first != {"O"} and all(map(TAG.fullmatch, first)) and not all(map(TAG.fullmatch, last)):
        raise DataError(
            f"{path}, line {sentences[0][0] + 1}: the first field is a tag; write the word first and its tag last"
        )


def _with_tabs(lines: Sequence[str]) -> list[bool]:
    """For each line whether a line of its sentence has a tab, lines that may be comments aside."""
    found: list[bool] = []
    for blank, group in groupby(lines, lambda line: not line.strip()):
        block = list(group)
        words = [line for line in block if not line.startswith(("# ", _DOCUMENT))]
        found += [not blank and any("\t" in line for line in words)] * len(block)
    return found


def _fields(line: str, tabs: bool) -> list[str]:
    if tabs or ("\t" in line and line.startswith("# ")):
        return [field.strip(" ") for field in line.split("\t")]
    return [field for field in line.split(" ") if field] if line.strip() else []


def _is_word(fields: Sequence[str]) -> bool:
    return any(fields) and not fields[0].startswith(_DOCUMENT)


_DOCUMENT = "-DOCSTART-"
_NUMBER = re.compile(r"\d+([-.]\d+)?")
"""What CoNLL-U has in place of a word: its number, those of several words (2-3), or that of an empty node (2.1)."""


def _are_numbers(sentences: Sequence[Sequence[str]], *, in_order: bool) -> bool:
    """Whether words are numbered in the way of CoNLL-U.

    Args:
        sentences: Their words.
        in_order: Only if those of each sentence are numbered from 1 or from 0, and some has several.
    """
    if not all(_NUMBER.fullmatch(word) for words in sentences for word in words):
        return False
    plain = [[int(word) for word in words if word.isdecimal()] for words in sentences]
    ordered = any(all(numbers == [*range(first, first + len(numbers))] for numbers in plain) for first in (0, 1))
    return not in_order or (ordered and any(len(words) > 1 for words in sentences))


def _is_marked(line: str) -> bool:
    return line.startswith("# ") or line.rstrip() == "#"


def _usual(lines: Sequence[str], split: Sequence[Sequence[str]]) -> tuple[int, bool] | None:
    """How many fields most words have, and whether tabs separate them; None: there are no words."""
    words = [i for i, fields in enumerate(split) if _is_word(fields) and not _is_marked(lines[i])]
    counts = Counter((len(split[i]), "\t" in lines[i]) for i in words)
    return counts.most_common(1)[0][0] if counts else None


def _is_comment(i: int, lines: Sequence[str], split: Sequence[Sequence[str]], usual: tuple[int, bool] | None) -> bool:
    """Whether a line in front of a sentence, or by itself, has not the form of the words that follow it, or of most, or
    says what begins there."""
    if not _is_marked(lines[i]):
        return False
    follows = next((j for j in range(i + 1, len(lines)) if not _is_marked(lines[j])), None)
    if follows is not None and any(split[follows]) and not _is_word(split[follows]):
        return True  # a document begins below it
    if split[i][-1] in ("newdoc", "newpar") or split[i][2:3] == ["="]:  # `# sent_id = 17`
        return True
    if follows is None or not _is_word(split[follows]):
        return usual is not None and (len(split[i]), "\t" in lines[i]) != usual
    return len(split[i]) != len(split[follows]) or " " in split[i][0]
