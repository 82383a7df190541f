"""Plain text, of which tokens are masked and found again. Column `text`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapt.data.columns import named, needed
from adapt.data.forms.form import Columns, Form, Read, Wishes
from adapt.data.forms.sequence_classification import NAMES
from adapt.data.table import Table
from adapt.data.values import texts
from adapt.spec import Task


def find(table: Table, given: Mapping[str, str]) -> dict[str, str]:
    """`text`."""
    return {"text": needed(table, given, "text", NAMES["text"])}


def read(tables: Mapping[str, Table], given: Mapping[str, str], wishes: Wishes) -> Read:
    """
    Raises:
        DataError: A text is missing, empty or not text.
    """
    chosen = find(tables["train"], given)
    return Read("masked", (), {split: _texts(table, chosen["text"]) for split, table in tables.items()})


def plain(rows: list[Any]) -> Columns:
    """Texts."""
    return {"text": rows}


def inputs(table: Table, given: Mapping[str, str], task: Task) -> Columns:
    """`text`."""
    return _texts(table, find(table, given)["text"])


def _texts(table: Table, column: str) -> Columns:
    return {"text": texts(table, named(table, "text", column), "text")}


FORM = Form(("masked",), ("text",), find, read, plain, inputs)
