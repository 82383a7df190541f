"""Finding columns by name; every form does."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Container, Iterable, Mapping, Sequence

from adapt.data.table import Table, listing
from adapt.fields import nearest
from adapt.spec import DataError

OPTIONS = ("text", "text_pair", "label")
"""Roles with an option of their own; the others are named by the option `columns`."""
_UNSEEN = r"[\s\u200b\ufeff\u200e\u200f\u202a-\u202e\u2066-\u2069]+"
_AROUND = re.compile(f"^{_UNSEEN}|{_UNSEEN}$")
"""White space, and marks that are not seen and join no letters, such as those of a text's direction."""


def named(table: Table, role: str, name: str) -> str:
    """The column that the caller named, as `first` finds it.

    Raises:
        DataError: It does not exist; the nearest is named.
    """
    found = by_name(table, name)
    if found is None:
        raise DataError(
            f"{table.where}: no column {name!r} for {role}{nearest(name, table.names)}; name one of "
            f"{listing(table.names)}"
        )
    return found


def by_name(table: Table, name: str) -> str | None:
    """The column that somebody named, as `first` finds it, if there is one."""
    return _likeliest(table.names, (name,))


def named_there(table: Table, name: str) -> bool:
    """Whether there is a column that somebody named, as `first` finds it."""
    return by_name(table, name) is not None


def all_named(table: Table, given: Mapping[str, str]) -> dict[str, str]:
    """`named` for each role; also the columns chosen in train, in another split."""
    return {role: named(table, role, name) for role, name in given.items()}


def first(table: Table, usual: Iterable[str], taken: Iterable[str] = ()) -> str | None:
    """The column that has the likeliest of these names and is not taken.

    Upper and lower case are the same, and what is around a name (`tidy`) is no part of it; a column that has it exactly
    goes first.
    """
    return _likeliest([name for name in table.names if name not in {*taken, *table.by_name_only}], usual)


def _likeliest(free: Sequence[str], usual: Iterable[str]) -> str | None:
    alike: dict[str, str] = {}
    for name in free:
        alike.setdefault(tidy(name).casefold(), name)
    likely = (name if name in free else alike.get(tidy(name).casefold()) for name in usual)
    return next((found for found in likely if found is not None), None)


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


def option_for(role: str) -> str:
    """How the caller names the column of a role."""
    columns = f"columns={{{role!r}: NAME}}"
    return f"the option {role} or {columns}" if role in OPTIONS else f"{columns} or --column {role}=NAME"


class NoColumn(DataError):
    """No column has a role."""

    def __init__(self, message: str, role: str = "", found: str = "") -> None:
        super().__init__(message)
        self.role = role
        self.found = found
        """What of the message is no advice."""

    def scored(self, before: str | None) -> DataError:
        """The same of rows that a model is scored on; `before` is the name of the column in training, if it is known.

        What a model predicts is compared with that column, so that naming another kind of task is no way out.
        """
        if self.role not in ("label", "tags", "answers", "target", "completion"):
            return self
        was = f" (in training it was {before!r})" if before else ""
        return DataError(
            f"{self.found}, with which scoring compares what is predicted; name it with {option_for(self.role)}, or "
            f"give rows that have one{was}"
        )


def missing(table: Table, role: str, *others: str) -> NoColumn:
    """The error for a role that no column has."""
    header = " (line 1 must name the columns)" if table.untyped else ""
    plain_text = _OF_TEXT.get(role, "") if table.names == ("text",) else ""
    wanted, names = " or ".join((role, *others)), listing(table.names) or "no columns"
    found = f"{table.where}: no {wanted} column found among {names}{header}"
    return NoColumn(f"{found}; name it with {option_for(role)}{plain_text}", role, found)


def tidy(name: str) -> str:
    """The name of a class, a tag or a column without white space and unseen marks around it, in Unicode's composed form
    (NFC)."""
    return unicodedata.normalize("NFC", _AROUND.sub("", name))
