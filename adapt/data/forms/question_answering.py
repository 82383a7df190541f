"""Questions whose answer is a part of a context, in the form of SQuAD (Rajpurkar et al. 2016, 2018).

Columns `id`, `question`, `context`, `answer_texts` and `answer_starts`, where `context[start:][:len(text)] == text`
for each answer; a question without an answer has two empty lists.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from adapt.data.columns import by_usual_names, named_there
from adapt.data.forms.form import Columns, Form, Read, Wishes
from adapt.data.table import Table
from adapt.data.values import check_characters, labelled, plain, texts, two_columns
from adapt.spec import DataError, Task

NAMES: dict[str, tuple[str, ...]] = {
    "question": ("question", "query"),
    "context": ("context", "passage", "paragraph"),
    "answers": ("answers", "answer"),
    "id": ("id", "qid", "question_id"),
    "answer_start": ("answer_start", "answer_starts"),
}
"""Usual names of a column, the likeliest first."""
_NEEDED = ("question", "context", "answers")
_SQUAD = '{"text": [...], "answer_start": [...]}'


def find(table: Table, given: Mapping[str, str], needed: Sequence[str] = _NEEDED) -> dict[str, str]:
    """The columns that are needed, and `id` and `answer_start` where they are there."""
    return by_usual_names(table, given, NAMES, needed)


def read(tables: Mapping[str, Table], given: Mapping[str, str], wishes: Wishes) -> Read:
    """
    Raises:
        DataError: A row cannot be used, two rows of a split have one id, or an answer is not in its context.
    """
    chosen = find(tables["train"], given)
    tables, notes = labelled(tables, chosen, "answers", NAMES["answers"], empty=True)
    rows, left_out = {}, {}
    for split, table in tables.items():
        must = {r: name for r, name in chosen.items() if r in _NEEDED or r in given or named_there(table, name)}
        columns = by_usual_names(table, must, {role: NAMES[role] for role in chosen}, _NEEDED)
        found = {"id": _ids(table, columns.get("id"), f"{split}-"), **_questions(table, columns)}
        found["answer_texts"], found["answer_starts"], bad = _located(table, columns, found["id"], found["context"])
        if bad and wishes.bad_answers == "refuse":
            more = f" (and in {len(bad) - 1} more rows)" if len(bad) > 1 else ""
            raise DataError(
                f"{next(iter(bad.values()))}{more}; mend it, or pass bad_answers='drop' (--bad-answers drop) "
                f"to leave such rows out"
            )
        if len(bad) == table.rows:
            raise DataError(f"{table.where}: no row has its answer in its context; the first is {bad[0]}")
        if bad:
            which = f"{split} " if len(tables) > 1 else ""
            notes.append(f"{len(bad)} of {table.rows} {which}rows left out: their answers are not in their contexts")
        left_out[split] = bad
        rows[split] = {name: [v for row, v in enumerate(values) if row not in bad] for name, values in found.items()}
    if all(rows["train"]["answer_texts"]):
        for split in [s for s in rows if not any(rows[s]["answer_texts"])]:
            del rows[split]
            notes.append(f"the {split} split is left out: its answers are withheld")
    elif any(rows["train"]["answer_texts"]):
        notes += [
            f"no question of {split} has an answer; where they are withheld, leave {split} out"
            for split in rows
            if not any(rows[split]["answer_texts"])
        ]
    return Read("answers", (), rows, tuple(notes), left_out)


def pairs(rows: list[Any]) -> Columns:
    """Pairs of a question and its context."""
    return two_columns(rows, ("question", "context"), "the questions", "(question, context)")


def inputs(table: Table, given: Mapping[str, str], task: Task) -> Columns:
    """`id`, `question` and `context`."""
    columns = find(table, {role: given[role] for role in ("id", "question", "context") if role in given}, _NEEDED[:2])
    return {"id": _ids(table, columns.get("id"), ""), **_questions(table, columns)}


def _questions(table: Table, columns: Mapping[str, str]) -> Columns:
    return {role: texts(table, columns[role], role) for role in ("question", "context")}


def _ids(table: Table, column: str | None, prefix: str) -> list[str]:
    """The ids of the rows; without a column, their numbers behind a prefix."""
    if column is None:
        return [f"{prefix}{row + 1}" for row in range(table.rows)]
    seen: dict[str, int] = {}
    for row, value in enumerate(map(plain, table.column(column))):
        if isinstance(value, bool) or not isinstance(value, int | str) or value == "":
            raise DataError(f"{table.at(row)}: {value!r:.60} is no id; give a text or an integer in {column!r}")
        check_characters(table, row, f"column {column!r}", str(value))
        if str(value) in seen:
            raise DataError(
                f"{table.at(row)}: id {value!r:.60} is that of {table.at(seen[str(value)])} too; give each row its own"
            )
        seen[str(value)] = row
    return list(seen)


def _located(
    table: Table, columns: Mapping[str, str], ids: Sequence[str], contexts: Sequence[str]
) -> tuple[list[list[str]], list[list[int | str]], dict[int, str]]:
    """Texts and starts of the answers of each row, and what is wrong with those rows whose answers are not there."""
    all_texts, all_starts, bad = [], [], {}
    given_starts = table.column(columns["answer_start"]) if "answer_start" in columns else [None] * table.rows
    for row, (value, start) in enumerate(zip(table.column(columns["answers"]), given_starts, strict=True)):
        where = f"{table.at(row)}, id {ids[row]!r}" if "id" in columns else table.at(row)
        value, start = plain(value), plain(start)
        if table.untyped and not str(value or "").strip() and not str(start or "").strip():
            value, start = [], []  # how CSV says that there is no answer
        answers = _answers(where, columns["answers"], value, start)
        located = [_locate(contexts[row], *answer) for answer in answers]
        reason = next((place for place in located if isinstance(place, str)), None)
        if reason is not None:
            bad[row] = f"{where}: {reason}"
        all_texts.append([text for text, _ in answers])
        all_starts.append(located)
    return all_texts, all_starts, bad


def _answers(where: str, column: str, value: Any, start: Any) -> list[tuple[str, int | None]]:
    """Texts and starts, which are None where they are not said, of any of the forms that answers come in."""
    if isinstance(value, Mapping) and "text" in value:
        found, starts = value["text"], value.get("answer_start", value.get("start"))
    elif isinstance(value, list) and value and all(isinstance(answer, Mapping) for answer in value):
        found = [answer.get("text") for answer in value]
        starts = [answer.get("answer_start", answer.get("start")) for answer in value]
    else:
        found, starts = value, start
    found, starts = plain(found), plain(starts)
    found = [found] if isinstance(found, str) else found
    if starts is None or starts == "":
        starts = [None] * len(found) if isinstance(found, list) else []
    starts = [starts] if isinstance(starts, int | float | str) else starts
    if not isinstance(found, list) or not isinstance(starts, list) or not all(isinstance(t, str) for t in found):
        raise DataError(
            f"{where}: column {column!r} holds {value!r:.60}, not answers; write {_SQUAD}, both lists empty where "
            f"there is no answer (where answers are no parts of the context, the kind is seq2seq or causal_lm)"
        )
    if len(found) != len(starts):
        raise DataError(f"{where}: {len(found)} answer texts and {len(starts)} starts; give one start for each text")
    if not all(text.strip() for text in found):
        raise DataError(f"{where}: an answer is empty; write {_SQUAD} with both lists empty where there is no answer")
    return [(text, _start(where, start)) for text, start in zip(found, starts, strict=True)]


def _start(where: str, start: Any) -> int | None:
    if isinstance(start, str) and re.fullmatch(r"\d+(\.0+)?", start.strip()):  # from CSV, also of a column with a hole
        return int(start.partition(".")[0])
    if isinstance(start, float) and start.is_integer():  # from a column of a DataFrame with a hole
        return int(start)
    if start is None or (isinstance(start, int) and not isinstance(start, bool)):
        return start
    raise DataError(f"{where}: {start!r:.40} is no start of an answer; give its position in characters from 0")


def _locate(context: str, text: str, start: int | None) -> int | str:
    """Where the answer starts, or why it is not there."""
    if start is not None and start >= 0 and context.startswith(text, start):
        return start
    places = [i for i in range(len(context)) if context.startswith(text, i)]
    if start is None and len(places) == 1:
        return places[0]
    elsewhere = {0: "it occurs nowhere in it", 1: f"it occurs once, at {places[0] if places else None}"}.get(
        len(places), f"it occurs {len(places)} times"
    )
    if start is None:
        return f"no start is given for answer {text!r:.60} in its context, and {elsewhere}"
    there = context[max(start, 0) : max(start, 0) + len(text)]
    return f"answer {text!r:.60} is not at character {start} of its context ({there!r:.60} is); {elsewhere}"


FORM = Form(("answers",), tuple(NAMES), find, read, pairs, inputs)
