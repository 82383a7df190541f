"""Which columns hold the texts and the labels, and whether the texts are texts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from adapt.data.files import Table, listing, nearest
from adapt.spec import DataError, OptionError

NAMES: dict[str, tuple[str, ...]] = {
    "text": (
        "text", "sentence", "content", "review", "document", "utterance", "comment", "tweet", "message",
        "query", "body", "question", "description", "title",
    ),
    "label": (
        "label", "labels", "class", "category", "intent", "sentiment", "emotion", "topic", "target", "score",
        "rating", "stars", "similarity_score", "similarity", "is_duplicate", "gold_label",
    ),
}  # fmt: skip
"""Usual names of a column, the likeliest first; upper and lower case are the same."""
PAIRS: tuple[tuple[str, str], ...] = (
    ("text", "text_pair"), ("sentence1", "sentence2"), ("premise", "hypothesis"), ("question1", "question2"),
    ("question", "sentence"), ("question", "passage"), ("question", "context"), ("query", "passage"),
    ("text1", "text2"), ("text_a", "text_b"), ("sentence_a", "sentence_b"),
)  # fmt: skip
"""Usual names of the two columns of a pair; looked for before single texts."""

INTEGER = re.compile(r"[+-]?(0|[1-9][0-9]{0,17})")
"""An integer in an untyped table; 007 and what a float cannot tell apart are codes, not numbers."""
NUMBER = re.compile(r"[+-]?((0|[1-9][0-9]{0,17})(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
"""A number in an untyped table."""


@dataclass(frozen=True)
class Columns:
    """Names of the columns of a table that are used."""

    text: str
    text_pair: str | None = None
    label: str | None = None


def find(
    table: Table,
    text: str | None = None,
    text_pair: str | None = None,
    label: str | None = None,
    *,
    pair: bool | None = None,
    labelled: bool = True,
) -> Columns:
    """The columns named, or else found by their usual names.

    Naming `text` without `text_pair` asks for single texts. `pair` says how many texts are needed; None
    takes what the table has.

    Raises:
        DataError: A column named does not exist, or none has a usual name.
    """
    options = {"text": text, "text_pair": text_pair, "label": label}
    named = {role: _named(table, role, name) for role, name in options.items() if name is not None}
    label = named.get("label") or (_first(table, NAMES["label"], named.values()) if labelled else None)
    taken = [*named.values(), *([label] if label else [])]
    one, two = named.get("text"), named.get("text_pair")
    if one is None and two is None:
        there = ((_first(table, (x,), taken), _first(table, (y,), taken)) for x, y in PAIRS)
        one, two = next((both for both in there if all(both)), (None, None))
        if two and pair is False:
            raise DataError(
                f"{table.where}: one text a row is needed and there are two, {one!r} and {two!r}; "
                f"name the column with the option text, or give single texts"
            )
    one = one or _first(table, (*NAMES["text"], *(x for x, _ in PAIRS if two)), taken)
    needed = {"text": one, **({"text_pair": two} if pair else {}), **({"label": label} if labelled else {})}
    role = next((role for role, name in needed.items() if name is None), None)
    if one is None or role is not None:
        header = " (line 1 must name the columns)" if table.untyped else ""
        raise DataError(
            f"{table.where}: no {role} column found among {listing(table.names) or 'no columns'}{header}; "
            f"name it with the option {role}"
        )
    used = [name for name in (one, two, label) if name]
    if len(set(used)) < len(used):
        raise OptionError(f"{table.where}: one column cannot be two of text, text_pair and label (got {used})")
    return Columns(one, None if pair is False else two, label)


def texts(table: Table, columns: Columns) -> dict[str, list[str]]:
    """Canonical text columns of one split: `text` and, for pairs, `text_pair`.

    Raises:
        DataError: The split has no rows, or a value is missing, blank or not text.
    """
    if not table.rows:
        raise DataError(f"{table.where}: there are no rows; give at least one, or leave the split out")
    found = {"text": _texts(table, columns.text, "text")}
    if columns.text_pair:
        found["text_pair"] = _texts(table, columns.text_pair, "text_pair")
    return found


def refuse_numbers(table: Table, columns: Columns) -> None:
    """Raise where every text of an untyped table is a number: the column chosen is the wrong one."""
    for role, name in (("text", columns.text), ("text_pair", columns.text_pair)):
        if table.untyped and name and all(NUMBER.fullmatch(value) for value in table.column(name)):
            raise DataError(
                f"{table.where}: column {name!r} holds numbers, not text; "
                f"name another with the option {role} (columns: {listing(table.names)})"
            )


def same(table: Table, columns: Columns) -> Columns:
    """The columns chosen in train, in another split.

    Raises:
        DataError: The split lacks one of them.
    """
    roles = {"text": columns.text, "text_pair": columns.text_pair, "label": columns.label}
    return Columns(**{role: _named(table, role, name) for role, name in roles.items() if name})


def _named(table: Table, role: str, name: str) -> str:
    if name in table.names:
        return name
    found = _first(table, (name,), ())
    if found is None:
        raise DataError(
            f"{table.where}: no column {name!r} for {role}; the columns are {listing(table.names)}"
            f"{nearest(name, table.names) or '; name one of them'}"
        )
    return found


def _first(table: Table, usual: Iterable[str], taken: Iterable[str]) -> str | None:
    there: dict[str, str] = {}
    for name in table.names:
        if name not in taken:
            there.setdefault(name.strip().casefold(), name)
    return next((there[n.strip().casefold()] for n in usual if n.strip().casefold() in there), None)


def blank(table: Table, column: str, what: str, bad: Sequence[int]) -> DataError:
    """The error for rows that hold nothing in a column."""
    if len(bad) == table.rows:
        return DataError(
            f"{table.where}: column {column!r} is empty in every row; fill it in, or name another column for {what}"
        )
    more = f" (and in {len(bad) - 1} more rows)" if len(bad) > 1 else ""
    return DataError(f"{table.at(bad[0])}: no {what} in column {column!r}{more}; fill it in or take the row out")


def _texts(table: Table, column: str, role: str) -> list[str]:
    values = table.column(column)
    bad = [row for row, value in enumerate(values) if value is None or (isinstance(value, str) and not value.strip())]
    if bad:
        raise blank(table, column, role, bad)
    for row, value in enumerate(values):
        if not isinstance(value, str):
            raise DataError(
                f"{table.at(row)}: column {column!r} holds {value!r:.60} ({type(value).__name__}), "
                f"not text; name the text column with the option {role} (columns: {listing(table.names)})"
            )
        try:
            value.encode()
        except UnicodeEncodeError:
            raise DataError(
                f"{table.at(row)}: column {column!r} holds half of a surrogate pair, "
                f"which is no character; mend the text"
            ) from None
    return values
