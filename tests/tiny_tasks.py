"""Synthetic tasks of every kind that a tiny random model learns in a few steps."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import tiny

import adapt.data
from adapt.data import Data

ROWS, HELD_OUT = 32, 12


def _words(rng: random.Random, least: int = 3, most: int = 8) -> list[str]:
    return rng.choices(tiny.FILL, k=rng.randint(least, most))


def _made(name: str, seed: int, row: Callable[[random.Random, int], dict[str, Any]], **options: Any) -> Data:
    rng = random.Random(seed)
    sizes = {"train": ROWS, "validation": HELD_OUT, "test": HELD_OUT}
    return adapt.data.load({s: [row(rng, i) for i in range(n)] for s, n in sizes.items()}, name=name, **options)


def _spans(rng: random.Random, i: int) -> dict[str, Any]:
    tokens = _words(rng)
    tags = ["O"] * len(tokens)
    at = rng.randint(0, len(tokens))
    found = [rng.choice(tiny.GOOD)] if i % 2 else rng.sample(tiny.BAD, 2)
    names = ["B-praise"] if i % 2 else ["B-blame", "I-blame"]
    return {"tokens": tokens[:at] + found + tokens[at:], "tags": tags[:at] + names + tags[at:]}


def _tags(rng: random.Random, i: int) -> dict[str, Any]:
    row = _spans(rng, i)
    return {**row, "tags": [{"O": "noun", "B-praise": "adjective"}.get(tag, "verb") for tag in row["tags"]]}


def _answers(rng: random.Random, i: int) -> dict[str, Any]:
    words = _words(rng, 4, 10)
    answer = rng.choice(tiny.GOOD)
    words.insert(rng.randint(0, len(words)), answer)
    context = " ".join(words)
    start = context.index(answer)
    found = {"text": [answer], "answer_start": [start]}
    return {"id": f"{i}-{rng.random()}", "question": " ".join(_words(rng, 2, 3)), "context": context, "answers": found}


def _text(rng: random.Random, i: int) -> dict[str, Any]:
    words = _words(rng)
    return {"source": " ".join(words), "target": " ".join([rng.choice(tiny.GOOD), *words[:2]])}


def _completion(rng: random.Random, i: int) -> dict[str, Any]:
    kind = (tiny.GOOD, tiny.BAD)[i % 2]
    return {"prompt": " ".join([*_words(rng), rng.choice(kind)]), "completion": " ".join(kind[:2])}


def _messages(rng: random.Random, i: int) -> dict[str, Any]:
    row = _completion(rng, i)
    turns = [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["completion"]}]
    return {"messages": turns}


def _masked(rng: random.Random, i: int) -> dict[str, Any]:
    return {"text": " ".join([*_words(rng), *(tiny.GOOD, tiny.BAD)[i % 2][:3]])}


TASKS: dict[str, Callable[[], Data]] = {
    **tiny.TASKS,
    "spans": lambda: _made("spans", 4, _spans),
    "tags": lambda: _made("tags", 5, _tags),
    "answers": lambda: _made("answers", 6, _answers),
    "text": lambda: _made("text", 7, _text),
    "completion": lambda: _made("completion", 8, _completion),
    "messages": lambda: _made("messages", 9, _messages),
    "masked": lambda: _made("masked", 10, _masked, kind="masked_lm"),
}
"""By name; the kind of each is in `matrix.TASKS`."""
