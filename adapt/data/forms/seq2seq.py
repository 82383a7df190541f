"""A text made of another text: translation, summarisation, text from data.

Columns `source`, `target` and `references`, all the texts that count as right, the target among them. Rows that are not
learnt may have references alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from adapt.data.columns import NoColumn, all_named, first, needed, pair
from adapt.data.forms.form import Columns, Form, Read, Wishes
from adapt.data.table import Table, listing
from adapt.data.values import check_characters, labelled, plain, texts
from adapt.spec import DataError, OptionError, Task

PAIRS: tuple[tuple[str, str], ...] = (
    ("source", "target"), ("document", "summary"), ("article", "highlights"), ("article", "summary"),
    ("dialogue", "summary"), ("text", "summary"), ("src", "tgt"), ("input_text", "target_text"),
    ("meaning_representation", "human_reference"), ("input", "output"),
)  # fmt: skip
"""Usual names of the two columns, the likeliest first."""
REFERENCES = ("references", "refs")
_LIST = re.compile(r"""\[\s*(['"]).*\1\s*\]""", re.DOTALL)


def find(table: Table, given: Mapping[str, str]) -> dict[str, str]:
    """Source and target."""
    table = _by_language(table, given)
    found = all_named(table, {role: name for role, name in given.items() if role != "references"})
    return pair(table, found, ("source", "target"), PAIRS)


def read(tables: Mapping[str, Table], given: Mapping[str, str], wishes: Wishes) -> Read:
    """
    Raises:
        DataError: A source, a target or a reference is missing, empty or not text.
    """
    usual = (given["references"],) if "references" in given else REFERENCES
    if "references" in given and not any(first(table, usual) for table in tables.values()):
        all_named(tables["train"], {"references": given["references"]})
    expanded = {split: _by_language(table, given) for split, table in tables.items()}
    scored = wishes.labels is not None
    try:
        chosen = find(expanded["train"], given)
    except NoColumn as error:
        if not (scored and error.role == "target" and first(tables["train"], usual)):
            raise
        chosen = find(_with_target(expanded["train"], "target", usual), {**given, "target": "target"})
    targets = [target for _, target in PAIRS]
    said = []
    for split, table in expanded.items():
        if (scored or split != "train") and not first(table, (chosen["target"], *targets)) and first(table, usual):
            expanded[split] = _with_target(table, chosen["target"], usual)
            said += [] if scored else [f"the {split} split has no targets, and its references alone count"]
    expanded, notes = labelled(expanded, chosen, "target", targets)
    notes += said
    rows = {}
    for split, table in expanded.items():
        references = first(tables[split], usual)  # often only held-out splits have them
        given_ones = tables[split].column(references) if references else [None] * table.rows
        columns = all_named(table, chosen)
        found: Columns = {role: texts(table, columns[role], role) for role in ("source", "target")}
        pairs = enumerate(zip(found["target"], given_ones, strict=True))
        found["references"] = [_references(table, row, target, plain(value)) for row, (target, value) in pairs]
        rows[split] = found
    return Read("text", (), rows, tuple(notes))


def sources(rows: list[Any]) -> Columns:
    """Texts."""
    return {"source": rows}


def inputs(table: Table, given: Mapping[str, str], task: Task) -> Columns:
    """`source`."""
    column = needed(table, given, "source", [name for name, _ in PAIRS])
    return {"source": texts(table, column, "source")}


def _by_language(table: Table, given: Mapping[str, str]) -> Table:
    """A table whose column `translation` holds dicts of languages, as one with a column for each language.

    Raises:
        OptionError: It is not said which language is the source.
    """
    column = None if given.get("source") in table.names else first(table, ("translation",))
    values = table.column(column) if column else []
    there = [value for value in values if value is not None]
    if not there or not all(isinstance(value, Mapping) for value in there):
        return table
    languages = tuple(dict.fromkeys(language for value in there for language in value))
    if "source" not in given:
        example = dict(zip(("source", "target"), languages, strict=False))
        raise OptionError(
            f"{table.where}: column {column!r} holds the languages {listing(languages)}; say which is which, as in "
            f"columns={example}"
        )
    cells = [value or {} for value in values]
    return replace(table, names=languages, column=lambda name: [value.get(name) for value in cells], classes={})


def _with_target(table: Table, name: str, usual: Sequence[str]) -> Table:
    """A table of references alone as one with a target, the first of each row's."""
    references = first(table, usual)

    def target(value: Any) -> Any:
        return value[0] if isinstance(value, list) and value else value

    def column(other: str) -> list[Any]:
        return (
            [target(plain(value)) for value in table.column(str(references))] if other == name else table.column(other)
        )

    return replace(table, names=(*table.names, name), column=column)


def _references(table: Table, row: int, target: str, value: Any) -> list[str]:
    if table.untyped and isinstance(value, str) and _LIST.fullmatch(value.strip()):
        raise DataError(
            f"{table.at(row)}: references {value!r:.60} are a list, which a CSV or TSV file cannot hold; write the "
            "rows as JSON lines or Parquet"
        )
    references = [] if value is None or value == "" else [value] if isinstance(value, str) else value
    if not isinstance(references, list) or not all(isinstance(text, str) and text.strip() for text in references):
        raise DataError(
            f"{table.at(row)}: references {value!r:.60} are not texts; give a list of texts, none of them empty"
        )
    for text in references:
        check_characters(table, row, "a reference", text)
    return references if target in references else [target, *references]


FORM = Form(("text",), ("source", "target", "references"), find, read, sources, inputs, expand=_by_language)
