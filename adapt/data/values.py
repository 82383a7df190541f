"""What columns hold: checking texts, lists and groups, with errors that name the row; every form does."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from adapt.data.columns import first, option_for, tidy
from adapt.data.table import Table, listing
from adapt.fields import nearest
from adapt.spec import DataError


def check_rows(table: Table, *, split: bool = False) -> None:
    """
    Args:
        table: What was read.
        split: It is one that may be left out.

    Raises:
        DataError: It has no rows.
    """
    if not table.rows:
        instead = ", or leave the split out" if split else ""
        raise DataError(f"{table.where}: there are no rows; give at least one{instead}")


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
                f"not text; name the {role} column with {option_for(role)} (columns: {listing(table.names)})"
            )
        check_characters(table, row, f"column {column!r}", value)
    return values


def group_names(table: Table, column: str) -> list[str]:
    """A column that says which group each row is of, tidy as names of classes are.

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
    return [tidy(str(value)) for value in values]


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
    if len(rows[0]) != 2:
        raise DataError(
            f"{where}, row 1: a list of {len(rows[0])}, which is neither a text nor a pair of texts; give one of these "
            "a row, or words with their tags as a dict of columns, 'tokens' and 'tags'"
        )
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
