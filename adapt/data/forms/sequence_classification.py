"""A label (or several, or a number) for a text or a pair of texts.

Columns `text`, for pairs `text_pair`, and `label`: an int (index into the label names), a list of 0 and 1 (one for
each name), or a float.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapt.data import labels
from adapt.data.columns import all_named, first, missing
from adapt.data.forms.form import Columns, Form, Read, Wishes
from adapt.data.remarks import alike, mistyped
from adapt.data.table import Table, listing
from adapt.data.values import labelled, texts, texts_or_pairs
from adapt.spec import DataError, OptionError, Task

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
ANSWERED: tuple[tuple[str, str], ...] = (("question", "answer"), ("query", "answer"), ("query", "document"))
"""Further ones, where no column is called `text`."""
PLAIN_LABELS = ("label", "labels", "gold_label", "class", "intent", "sentiment")
"""Names that a label has and metadata have not: beside a text, one of them makes a classification of any table."""


def find(table: Table, given: Mapping[str, str], *, pair: bool | None = None, labelled: bool = True) -> dict[str, str]:
    """The columns named, or else found by their usual names.

    Naming `text` without `text_pair` asks for single texts. `pair` says how many texts are needed; None
    takes what the table has.

    Raises:
        DataError: A column named does not exist, or none has a usual name.
    """
    named = all_named(table, given)
    label = named.get("label") or (first(table, NAMES["label"], named.values()) if labelled else None)
    taken = [*named.values(), *([label] if label else [])]
    one, two = named.get("text"), named.get("text_pair")
    if one is None and two is None:
        usual = PAIRS if first(table, ("text",), taken) else (*PAIRS, *ANSWERED)
        there = ((first(table, (x,), taken), first(table, (y,), taken)) for x, y in usual)
        one, two = next((both for both in there if all(both)), (None, None))
        if two and pair is False:
            raise DataError(
                f"{table.where}: one text a row is needed and there are two, {one!r} and {two!r}; "
                f"name the column with the option text, or give single texts"
            )
    one = one or first(table, (*NAMES["text"], *(x for x, _ in PAIRS if two)), taken)
    found = {"text": one, "text_pair": None if pair is False else two, "label": label}
    for role, must in (("text", True), ("text_pair", pair), ("label", labelled)):
        if must and found[role] is None:
            raise missing(table, role)
    used = {role: name for role, name in found.items() if name}
    if len(set(used.values())) < len(used):
        raise OptionError(
            f"{table.where}: one column cannot be two of text, text_pair and label (got {list(used.values())})"
        )
    return used


def read(tables: Mapping[str, Table], given: Mapping[str, str], wishes: Wishes) -> Read:
    """
    Raises:
        DataError: A column, row or label cannot be used.
        OptionError: The problem asked for does not fit the labels.
    """
    chosen = {"train": find(tables["train"], given, pair=wishes.pair)}
    tables, notes = labelled(tables, chosen["train"], "label", NAMES["label"])
    both = tuple(chosen["train"].get(role, "").casefold() for role in ("text", "text_pair"))
    if both in ANSWERED and not given.keys() & {"text", "text_pair"}:
        notes.append(f"rows are pairs of {both[0]} and {both[1]}; name one with the option text for single texts")
    for split in [split for split in tables if split != "train"]:
        chosen[split] = all_named(tables[split], chosen["train"])
        if labels.withheld(tables[split], chosen[split]["label"], tables["train"], chosen["train"]["label"]):
            del tables[split], chosen[split]
            notes.append(f"the {split} split is left out: its labels are withheld")
    rows = {split: _texts(table, chosen[split]) for split, table in tables.items()}
    _refuse_numbers(tables["train"], chosen["train"])
    columns = {split: chosen[split]["label"] for split in tables}
    problem, names, encoded = labels.encode(tables, columns, wishes.problem, wishes.labels)
    found = {split: {**rows[split], "label": encoded[split]} for split in tables}
    if problem == "single_label":
        notes += mistyped(names, encoded["train"])
    elif problem == "multi_label" and wishes.problem is None and all(sum(row) == 1 for row in encoded["train"]):
        raw = tables["train"].column(columns["train"])
        alone = any(isinstance(value, list) and len(value) == 1 for value in raw)
        how = (
            "the labels themselves (y.ravel() of an array)" if alone else "the class of each (y.argmax(1) of an array)"
        )
        notes.append(
            "each row has one label, given as if it might have several, and is read so; for classes of which each row "
            f"has one, give {how}"
        )
    return Read(problem, names, found, (*notes, *alike(names, "labels")))


def plain(rows: list[Any]) -> Columns:
    """Texts, or pairs of texts."""
    return texts_or_pairs(rows, "the texts")


def inputs(table: Table, given: Mapping[str, str], task: Task) -> Columns:
    """`text` and, where the task has pairs, `text_pair`.

    Raises:
        OptionError: A second text is named, and the task has single ones.
    """
    if "text_pair" in given and not task.pair:
        raise OptionError("text_pair is for models of pairs of texts, and this one was trained on single texts.")
    named = {role: name for role, name in given.items() if role != "label"}
    return _texts(table, find(table, named, pair=task.pair, labelled=False))


def _texts(table: Table, chosen: Mapping[str, str]) -> Columns:
    return {role: texts(table, chosen[role], role) for role in ("text", "text_pair") if role in chosen}


def _refuse_numbers(table: Table, chosen: Mapping[str, str]) -> None:
    """Raise where every text of an untyped table is a number: the column chosen is the wrong one."""
    for role in ("text", "text_pair"):
        name = chosen.get(role)
        if table.untyped and name and all(labels.NUMBER.fullmatch(value) for value in table.column(name)):
            raise DataError(
                f"{table.where}: column {name!r} holds numbers, not text; "
                f"name another with the option {role} (columns: {listing(table.names)})"
            )


FORM = Form(("single_label", "multi_label", "regression"), ("text", "text_pair", "label"), find, read, plain, inputs)
