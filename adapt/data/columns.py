"""Finding columns by name, and checking what they hold; every form uses these."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

from adapt.data.table import Table, listing
from adapt.fields import nearest
from adapt.spec import DataError

OPTIONS = ("text", "text_pair", "label")
"""Roles with an option of their own; the others are named by the option `columns`."""
_UNSEEN = r"[\s\u200b\ufeff\u200e\u200f\u202a-\u202e\u2066-\u2069]+"
_AROUND = re.compile(f"^{_UNSEEN}|{_UNSEEN}$")
"""White space, and marks that are not seen and join no letters, such as those of a text's direction."""


def named(table: Table, role: str, name: str) -> str:
    """The column that the caller named; upper and lower case are the same, and what is around it (`tidy`).

    Raises:
        DataError: It does not exist; the nearest is named.
    """
    if name in table.names:
        return name
    found = first(table, (name,))
    if found is None:
        raise DataError(
            f"{table.where}: no column {name!r} for {role}{nearest(name, table.names)}; name one of "
            f"{listing(table.names)}"
        )
    return found


def all_named(table: Table, given: Mapping[str, str]) -> dict[str, str]:
    """`named` for each role; also the columns chosen in train, in another split."""
    return {role: named(table, role, name) for role, name in given.items()}


def first(table: Table, usual: Iterable[str], taken: Iterable[str] = ()) -> str | None:
    """The column that has the likeliest of these names, as `named` finds them, and is not taken."""
    there: dict[str, str] = {}
    for name in table.names:
        if name not in taken:
            there.setdefault(tidy(name).casefold(), name)
    return next((there[found] for n in usual if (found := tidy(n).casefold()) in there), None)


def needed(table: Table, given: Mapping[str, str], role: str, usual: Iterable[str]) -> str:
    """The column of a role, which rows must have: as the caller named it, else of the likeliest name.

    Raises:
        DataError: There is none.
    """
    column = named(table, role, given[role]) if role in given else first(table, usual)
    if column is None:
        raise missing(table, role)
    return column


def by_usual_names(
    table: Table, given: Mapping[str, str], usual: Mapping[str, Sequence[str]], must: Container[str]
) -> dict[str, str]:
    """Role to column: those that the caller named, others by their usual names.

    Raises:
        DataError: A role that there `must` be has no column.
    """
    found = all_named(table, given)
    for role, names in usual.items():
        name = found.get(role) or first(table, names, found.values())
        if name is not None:
            found[role] = name
        elif role in must:
            raise missing(table, role)
    return found


def pair(
    table: Table, found: Mapping[str, str], roles: tuple[str, str], usual: Sequence[tuple[str, str]]
) -> dict[str, str]:
    """Two columns that go together.

    Args:
        table: Where to look.
        found: Role to column, where the caller named one; columns that are taken.
        roles: The two roles.
        usual: Usual names of the two, the likeliest first. Beside a column that was named, its partner goes first.

    Raises:
        DataError: No two columns have usual names; the message names the role that is missing.
    """
    one, two = (found.get(role) for role in roles)
    taken = list(found.values())
    known = [str(name).casefold() for name in (one, two)]
    for x, y in sorted(usual, key=lambda names: not any(n == k for n, k in zip(names, known, strict=True))):
        a, b = one or first(table, (x,), taken), two or first(table, (y,), taken)
        if a and b:
            return {roles[0]: a, roles[1]: b}
    alone = one or first(table, (x for x, _ in usual), taken)
    raise missing(table, roles[1] if alone else roles[0])


_OF_TEXT = {
    "label": ", or for text without labels name the kind: masked_lm or causal_lm",
    "tokens": ", or of CoNLL data let the file's name end in .conll",
}
"""What may help where `text` is the only column, by the role that none has."""


def _option(role: str) -> str:
    """How the caller names the column of a role."""
    return f"the option {role}" if role in OPTIONS else f"columns={{{role!r}: NAME}} or --column {role}=NAME"


def missing(table: Table, role: str, *others: str) -> DataError:
    """The error for a role that no column has."""
    header = " (line 1 must name the columns)" if table.untyped else ""
    plain_text = _OF_TEXT.get(role, "") if table.names == ("text",) else ""
    return DataError(
        f"{table.where}: no {' or '.join((role, *others))} column found among {listing(table.names) or 'no columns'}"
        f"{header}; name it with {_option(role)}{plain_text}"
    )


def check_rows(table: Table) -> None:
    """
    Raises:
        DataError: The table has no rows.
    """
    if not table.rows:
        raise DataError(f"{table.where}: there are no rows; give at least one, or leave the split out")


def blank(table: Table, column: str, what: str, bad: Sequence[int]) -> DataError:
    """The error for rows that hold nothing in a column."""
    if len(bad) == table.rows:
        return DataError(
            f"{table.where}: column {column!r} is empty in every row; fill it in, or name another column for {what}"
        )
    more = f" (and in {len(bad) - 1} more rows)" if len(bad) > 1 else ""
    return DataError(f"{table.at(bad[0])}: no {what} in column {column!r}{more}; fill it in or take the row out")


def labelled(
    tables: Mapping[str, Table], chosen: Mapping[str, str], role: str, usual: Iterable[str], *, empty: bool = False
) -> tuple[dict[str, Table], list[str]]:
    """The splits that have labels, and what must be said of held-out ones that are left out.

    A split has none where train's column of them is missing or wholly empty. But where it is missing and a column that
    train lacks has a usual name or one like it, that was meant: the split stays, and its labels are missed when read.

    Args:
        tables: Split to table.
        chosen: Role to column of train.
        role: That of the labels.
        usual: Usual names of their column.
        empty: Whether an empty cell of a CSV or TSV file is a label (no answer).
    """
    name = chosen[role]

    def has_labels(table: Table) -> bool:
        column = first(table, (name,))
        if column is None:
            others = [other for other in table.names if other not in tables["train"].names]
            return bool(first(table, usual, tables["train"].names) or nearest(name, others))
        return (empty and table.untyped) or not all(map(_is_blank, table.column(column)))

    without = [split for split, table in tables.items() if split != "train" and not has_labels(table)]
    kept = {split: table for split, table in tables.items() if split not in without}
    return kept, [f"the {split} split is left out: it has no column {name!r}, or nothing in it" for split in without]


def _is_blank(value: Any) -> bool:
    return _is_hole(value) or (isinstance(value, str) and not value.strip())


def _is_hole(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def texts(table: Table, column: str, role: str, *, empty: bool = False) -> list[str]:
    """A column of texts.

    Args:
        table: Where it is.
        column: Its name.
        role: What an error calls its content.
        empty: Whether a text may be empty or missing; it is then "".

    Raises:
        DataError: A value is missing, blank or not text.
    """
    values = table.column(column)
    if empty:
        values = ["" if _is_hole(value) else value for value in values]
    elif bad := [row for row, value in enumerate(values) if _is_blank(value)]:
        raise blank(table, column, role, bad)
    for row, value in enumerate(values):
        if not isinstance(value, str):
            raise DataError(
                f"{table.at(row)}: column {column!r} holds {value!r:.60} ({type(value).__name__}), "
                f"not text; name the {role} column with {_option(role)} (columns: {listing(table.names)})"
            )
        check_characters(table, row, f"column {column!r}", value)
    return values


def groups(table: Table, column: str) -> list[str]:
    """A column that says which group each row is of.

    Raises:
        DataError: A value is missing, or neither text nor a whole number.
    """
    values = [plain(value) for value in table.column(column)]
    bad = [row for row, value in enumerate(values) if _is_blank(value)]
    if bad:
        raise blank(table, column, "group", bad)
    for row, value in enumerate(values):
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise DataError(
                f"{table.at(row)}: {value!r:.60} in column {column!r} is no group; give a text or an integer"
            )
        check_characters(table, row, f"column {column!r}", str(value))
    return list(map(str, values))


def check_characters(table: Table, row: int, what: str, value: str) -> None:
    """
    Raises:
        DataError: The text holds what is no character and cannot be written as UTF-8.
    """
    try:
        value.encode()
    except UnicodeEncodeError:
        raise DataError(
            f"{table.at(row)}: {what} holds half of a surrogate pair, which is no character; mend the text"
        ) from None


def tidy(name: str) -> str:
    """The name of a class, a tag or a column without white space and unseen marks around it, in Unicode's composed form
    (NFC)."""
    return unicodedata.normalize("NFC", _AROUND.sub("", name))


def alike(names: Iterable[str], what: str) -> list[str]:
    """What must be said of names of classes or tags that differ in upper and lower case alone, and may be meant as one.

    Args:
        names: All of them.
        what: What the note calls them.
    """
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(name.casefold(), []).append(name)
    several = [listing(group) for group in found.values() if len(group) > 1]
    more = f" and {len(several) - 5} more" if len(several) > 5 else ""
    differ = f"{what} that differ in upper and lower case alone are taken for different ones"
    return [f"{differ}: {'; '.join(several[:5])}{more}"] if several else []


def lists(table: Table, column: str, role: str) -> list[list[Any]]:
    """A column of lists.

    Raises:
        DataError: A value is missing or not a list.
    """
    if table.untyped:
        raise DataError(
            f"{table.where}: column {column!r} should hold a list of {role} in each row, which a CSV or TSV file "
            f"cannot; write the rows as JSON lines or Parquet, or words and tags as a .conll file"
        )
    values = [plain(value) for value in table.column(column)]
    bad = [row for row, value in enumerate(values) if value is None]
    if bad:
        raise blank(table, column, role, bad)
    for row, value in enumerate(values):
        if not isinstance(value, list):
            raise DataError(
                f"{table.at(row)}: column {column!r} holds {value!r:.60} ({type(value).__name__}), "
                f"not a list of {role}; give a list in each row"
            )
    return values


def texts_or_pairs(rows: list[Any], where: str) -> dict[str, list[Any]]:
    """Columns of plain texts, or of pairs of texts, whichever the first row is; `where` is what an error calls them.

    Raises:
        DataError: A row is no pair, as the first is.
    """
    if not rows or not isinstance(rows[0], list | tuple):
        return {"text": rows}
    return two_columns(rows, ("text", "text_pair"), where, "of two texts as row 1 is")


def two_columns(rows: list[Any], roles: tuple[str, str], where: str, what: str) -> dict[str, list[Any]]:
    """Columns of pairs; an error calls the rows `where`, and a row no pair `what`.

    Raises:
        DataError: A row is no pair.
    """
    for row, both in enumerate(rows):
        if not isinstance(both, list | tuple) or len(both) != 2:
            raise DataError(f"{where}, row {row + 1}: not a pair {what}; give two texts a row")
    return {role: [both[i] for both in rows] for i, role in enumerate(roles)}


def plain(value: Any) -> Any:
    """An array or a tuple as a list, and the numbers of numpy in it as those of Python; anything else as it is."""
    if hasattr(value, "tolist"):
        return value.tolist()
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value
