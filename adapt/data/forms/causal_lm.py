"""Text that goes on: a completion of a prompt, or the assistant's last turn of a conversation.

Columns `prompt` (may be empty) and `completion`; or `messages`, each `role` (system, user or assistant) and `content`,
the last one the assistant's; a system's turn without content is left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from adapt.data.columns import all_named, first, missing, pair
from adapt.data.forms.form import Columns, Form, Read, Wishes
from adapt.data.table import Table
from adapt.data.values import check_characters, labelled, lists, plain, texts
from adapt.spec import DataError, Task

PAIRS: tuple[tuple[str, str], ...] = (
    ("prompt", "completion"), ("prompt", "response"), ("instruction", "output"), ("instruction", "response"),
    ("instruction", "completion"), ("question", "answer"), ("query", "response"), ("query", "answer"),
)  # fmt: skip
"""Usual names of prompt and completion, the likeliest first."""
INPUTS = ("input", "context")
"""Usual names of what an instruction or a question is about; put below it after an empty line."""
SYSTEM = ("system", "system_prompt", "system_message")
"""Usual names of what a system says before prompts, which is no role."""
MESSAGES = ("messages", "conversations", "conversation", "dialogue", "dialog")
PARTS = ("reasoning_content", "reasoning", "thinking", "tool_calls")
"""What messages may have beside content, by the names of chat templates."""
SPEAKERS = {
    "system": "system", "user": "user", "human": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "model": "assistant", "bot": "assistant",
}  # fmt: skip
"""Who speaks, as data sets say it, to the role's name here."""


def find(table: Table, given: Mapping[str, str]) -> dict[str, str]:
    """`messages`; or `prompt` and `completion`, and `input` where it is there, unless both were named; or `text`."""
    found = all_named(table, given)
    if "text" in found:
        return {"text": found["text"]}
    if not {"prompt", "completion"} & found.keys():
        column = found.get("messages") or _conversations(table)
        if column is not None:
            return {"messages": column}
    try:
        found |= pair(table, found, ("prompt", "completion"), PAIRS)
    except DataError:
        lone = first(table, ("text",))
        if found or lone is None:
            raise
        return {"text": lone}
    if "input" not in found and not {"prompt", "completion"} <= given.keys():
        extra = first(table, INPUTS, found.values())
        found |= {"input": extra} if extra else {}
    return found


def read(tables: Mapping[str, Table], given: Mapping[str, str], wishes: Wishes) -> Read:
    """
    Raises:
        DataError: A completion or a turn is missing, empty or not text, or a conversation does not end in an answer.
    """
    chosen, notes = find(tables["train"], given), list[str]()
    if "text" not in chosen:
        notes = _unused(tables["train"], chosen)
    if "completion" in chosen:
        tables, further = labelled(tables, chosen, "completion", [completion for _, completion in PAIRS])
        notes += further
    rows: dict[str, Columns] = {}
    for split, table in tables.items():
        columns = all_named(table, chosen)
        if "messages" in columns:
            rows[split] = {"messages": _messages(table, columns["messages"], answered=True)}
        elif "text" in columns:
            rows[split] = {"prompt": [""] * table.rows, "completion": texts(table, columns["text"], "text")}
        else:
            completions = texts(table, columns["completion"], "completion")
            rows[split] = {"prompt": _prompts(table, columns), "completion": completions}
            lacking = sum(not prompt.strip() for prompt in rows[split]["prompt"])
            if 0 < lacking < table.rows:
                which = f" of {split}" if len(tables) > 1 else ""
                notes.append(f"{lacking} of {table.rows} rows{which} have no prompt, and are texts by themselves")
    return Read("completion", (), rows, tuple(notes))


def _unused(table: Table, chosen: Mapping[str, str]) -> list[str]:
    """What must be said of columns beside prompts and completions that would change what is learnt."""
    notes = []
    system = first(table, SYSTEM, chosen.values())
    if system is not None and any(isinstance(text, str) and text.strip() for text in table.column(system)):
        how = (
            "conversations as their first turn"
            if "messages" in chosen
            else "prompts, or rows as messages of system and user"
        )
        notes.append(f"column {system!r} is not used; write it into the {how}")
    if "messages" in chosen:
        notes += _unused_parts(table, chosen["messages"])
    label = first(table, ("label",), chosen.values())
    if label is not None and {str(value).casefold() for value in table.column(label)} == {"true", "false"}:
        notes.append(f"column {label!r} is not used, and all completions are learnt; take out rows that are not wanted")
    return notes


def _unused_parts(table: Table, column: str) -> list[str]:
    """What must be said of parts of messages that are not content."""
    found = Counter(
        part
        for turns in lists(table, column, "messages")
        for turn in turns
        if isinstance(turn, Mapping)
        for part in PARTS
        if turn.get(part)
    )
    return [
        f"{n} messages of column {column!r} have {part!r}, which is not used; write what of it is to be learnt into "
        "the content, thoughts between <think> and </think>"
        for part, n in sorted(found.items())
    ]


def prompts(rows: list[Any]) -> Columns:
    """Prompts, or conversations."""
    return {"messages" if rows and isinstance(rows[0], list | tuple) else "prompt": rows}


def inputs(table: Table, given: Mapping[str, str], task: Task) -> Columns:
    """`messages` up to the turn to be answered, or `prompt`, with `input` where it was named or `prompt` was not."""
    named = all_named(table, {role: name for role, name in given.items() if role != "completion"})
    asked = named.get("prompt") or named.get("text")
    conversations = None if asked else named.get("messages") or _conversations(table)
    if conversations is not None:
        return {"messages": _messages(table, conversations, answered=False)}
    column = asked or first(table, (*(name for name, _ in PAIRS), "text"), named.values())
    if column is None:
        raise missing(table, "prompt", "messages")
    extra = named.get("input") or (None if asked else first(table, INPUTS, [column]))
    return {"prompt": _prompts(table, {"prompt": column, **({"input": extra} if extra else {})})}


def like_training(columns: Columns, usual: Mapping[str, str]) -> Columns:
    """Prompts as the user's turn where conversations were learnt, and such a turn as a prompt where those were; a
    completion is the assistant's.

    Raises:
        DataError: Prompts were learnt, and a conversation has other turns.
    """
    if "messages" in columns and "prompt" in usual:
        found = [_lone_prompt(row, turns) for row, turns in enumerate(columns["messages"])]
        answered = any(len(contents) > 1 for contents in found)
        roles = ("prompt", "completion") if answered else ("prompt",)
        return {role: [contents[i] for contents in found] for i, role in enumerate(roles)}
    if "prompt" not in columns or "messages" not in usual:
        return columns
    turns = [[{"role": "user", "content": prompt}] if prompt.strip() else [] for prompt in columns["prompt"]]
    for before, completion in zip(turns, columns.get("completion", ()), strict=False):
        before.append({"role": "assistant", "content": completion})
    return {"messages": turns}


def _lone_prompt(row: int, turns: list[dict[str, str]]) -> list[str]:
    """The user's turn, and the assistant's where there is one."""
    if [turn["role"] for turn in turns] not in (["user"], ["user", "assistant"]):
        raise DataError(
            f"row {row + 1}: the model was trained on prompts, and this conversation is more than one turn of a user; "
            "give the prompt alone"
        )
    return [turn["content"] for turn in turns]


def _conversations(table: Table) -> str | None:
    """The column of conversations: lists of dicts under a usual name."""
    for name in MESSAGES:
        column = first(table, (name,))
        if column is not None:
            value = next((plain(value) for value in table.column(column) if value is not None), None)
            if isinstance(value, list) and all(isinstance(message, Mapping) for message in value):
                return column
    return None


def _prompts(table: Table, columns: Mapping[str, str]) -> list[str]:
    found = _or_none(table, columns["prompt"], "prompt")
    if "input" not in columns:
        return found
    extra = _or_none(table, columns["input"], "input")
    return ["\n\n".join(filter(None, both)) for both in zip(found, extra, strict=True)]


def _or_none(table: Table, column: str, what: str) -> list[str]:
    """Texts, empty where there is nothing but white space."""
    return [text if text.strip() else "" for text in texts(table, column, what, empty=True)]


def _messages(table: Table, column: str, *, answered: bool) -> list[list[dict[str, str]]]:
    """Conversations with the turn to be learnt (`answered`) or without it."""
    found = []
    for row, turns in enumerate(lists(table, column, "messages")):
        every = [_message(f"{table.at(row)}, message {n}", turn) for n, turn in enumerate(turns, 1)]
        messages = [message for message in every if message["content"].strip()]
        if answered and (not messages or messages[-1]["role"] != "assistant"):
            last = f"the last message is the {messages[-1]['role']}'s" if messages else "there are no messages"
            raise DataError(f"{table.at(row)}: {last}; end {column!r} with the assistant's, which is what is learnt")
        while not answered and messages and messages[-1]["role"] == "assistant":
            messages.pop()
        if len(messages) < 1 + answered:
            raise DataError(f"{table.at(row)}: no message to answer in {column!r}; give one before the assistant's")
        for message in messages:
            check_characters(table, row, f"column {column!r}", message["content"])
        found.append(messages)
    return found


def _message(where: str, turn: Any) -> dict[str, str]:
    if not isinstance(turn, Mapping):
        raise DataError(f'{where}: {turn!r:.60} is no message; write {{"role": ..., "content": ...}}')
    speaker = turn.get("role") or turn.get("from")
    content = turn.get("content") if turn.get("content") is not None else turn.get("value")
    role = SPEAKERS.get(speaker.casefold()) if isinstance(speaker, str) else None
    if role is None:
        raise DataError(f"{where}: role {speaker!r:.40} is unknown; write system, user or assistant")
    if content is None and role == "system":
        content = ""
    if not isinstance(content, str):
        raise DataError(f"{where}: content {content!r:.60} is not text; give text")
    if not content.strip() and role != "system":
        raise DataError(f"{where}: the content is empty; fill it in or take the row out")
    return {"role": role, "content": content}


FORM = Form(
    ("completion",), ("prompt", "input", "completion", "messages", "text"), find, read, prompts, inputs,
    like_training=like_training, alternatives=("prompt", "messages", "text"),
)  # fmt: skip
