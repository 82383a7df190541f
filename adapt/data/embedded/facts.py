"""The embedded task `facts`: two to four sentences, each about somebody and some thing, some place or some time.

The question names one part of a sentence and asks for the other part. What sort of words the answer has follows from
the question; where two sentences say something of that sort, and whenever a person is asked for, the sentence that
shares the question's words has to be found.
"""

from __future__ import annotations

import random
import re

from adapt.data.canonical import Data
from adapt.data.embedded.build import Row, data_of, unique_rows, word_lists

SIZES = {"train": 1000, "validation": 200, "test": 400}
"""Rows of each split."""
TRAINED = word_lists(
    people="John Mary George James Robert David Peter Michael Joe Tom Harry Mark",
    things="book picture table box bed gun car phone camera key paper hat watch",
    places="garden hall office school church market station farm hotel park",
)
HELD_OUT = word_lists(
    people="Jack William Charles Paul Bill Sam Elizabeth Frank Dan Rose",
    things="chair window radio computer pen card stone dress machine battery",
    places="court bank bar field camp street store lake beach town",
)
TIMES = ("last year", "last week", "last month", "last summer", "last night", "this morning", "this evening")
REPEATED = 0.4
"""Share of the contexts in which two sentences say the same sort of thing."""
WHO_ASKED = 0.3
"""Share of the questions that ask for the person."""

FRAMES = {
    "what": ("{who} bought {it}.", "{who} found {it} again.", "{it} was given to {who}.", "{who} looked for {it}."),
    "where": ("{who} was at {it}.", "{who} went to {it}.", "At {it} there was {who}.", "{who} came from {it}."),
    "when": ("{who} left {it}.", "It was {it} that {who} came.", "{who} called {it}.", "{it} we saw {who}."),
}
"""Sort of what is said of a person to its sentences; the first letter is made a capital."""
QUESTIONS = {
    "what": ("What did {who} have?", "Who had {it}?"),
    "where": ("Where was {who}?", "Who was at {it}?"),
    "when": ("When was {who} here?", "Who was here {it}?"),
}
"""Sort to the question for it and to the question for the person."""


def data(seed: int = 0) -> Data:
    """The task as `Data`, problem `answers`."""
    return data_of("facts", "question_answering", "answers", generate(seed))


def generate(seed: int = 0) -> dict[str, list[Row]]:
    """Split to rows with `id`, `question`, `context`, `answer_texts` and `answer_starts`."""
    splits = unique_rows(SIZES, seed, _row, ["question", "context"])
    return {split: [{"id": f"{split}-{i}", **row} for i, row in enumerate(rows)] for split, rows in splits.items()}


def _row(rng: random.Random, held_out: bool, noisy: bool) -> Row:
    """A context and its question; `noisy`: the answer is taken from another sentence."""
    words, count = HELD_OUT if held_out else TRAINED, rng.choice((2, 3, 4))
    sorts = rng.sample(list(FRAMES), min(count, len(FRAMES)))
    if count > len(sorts):
        sorts.append(rng.choice(sorts))
    elif rng.random() < REPEATED:
        sorts[0] = sorts[1]
    rng.shuffle(sorts)
    people = rng.sample(words["people"], count)
    pools = {"what": words["things"], "where": words["places"], "when": TIMES}
    drawn = {sort: iter(rng.sample(pool, count)) for sort, pool in pools.items()}
    said = [("" if sort == "when" else "the ") + next(drawn[sort]) for sort in sorts]
    context, spans = "", []  # of each sentence: part to its first character and its text
    for sort, who, it in zip(sorts, people, said, strict=True):
        context += " " if context else ""
        context, found = _say(rng.choice(FRAMES[sort]), {"who": who, "it": it}, context)
        spans.append(found)
    about, asked = rng.randrange(count), "who" if rng.random() < WHO_ASKED else "it"
    source = rng.choice([i for i in range(count) if i != about]) if noisy else about
    start, answer = spans[source][asked]
    return {
        "question": QUESTIONS[sorts[about]][asked == "who"].format(who=people[about], it=said[about]),
        "context": context,
        "answer_texts": [answer],
        "answer_starts": [start],
    }


def _say(frame: str, fact: dict[str, str], before: str) -> tuple[str, dict[str, tuple[int, str]]]:
    """Text with a sentence added, and where in the text the parts of the sentence are."""
    found = {}
    text = before
    for piece in re.split(r"(\{\w+\})", frame):
        words = fact[piece[1:-1]] if piece.startswith("{") else piece
        if text == before:
            words = words[:1].upper() + words[1:]
        if piece.startswith("{"):
            found[piece[1:-1]] = (len(text), words)
        text += words
    return text, found
