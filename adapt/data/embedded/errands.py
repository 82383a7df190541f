"""The embedded task `errands`: a short record, and the sentence that says what somebody should do.

The record names somebody, a thing, a time, and whether the thing is wanted. What is to be done depends on the kind of
the thing (a person, a place, a work, a machine) and on whether it is wanted: a rule to be learnt, `ACTIONS`. The kind
is not in the record and has to be known of the word, and the test split has other things, those of `choices`. Somebody
and the time are copied.
"""

from __future__ import annotations

import random

from adapt.data.canonical import Data
from adapt.data.embedded.build import Row, data_of, unique_rows
from adapt.data.embedded.choices import HELD_OUT, TRAINED

SIZES = {"train": 600, "validation": 150, "test": 200}
"""Rows of each split."""
PROMPT = "who: {who}\nthing: {thing}\nwhen: {when}\nwanted: {wanted}\nreply:"
COMPLETION = " {who} should {action} {when}."
PEOPLE = ("John", "Mary", "George", "Jack", "James", "David", "Peter", "Tom")
TIMES = ("today", "tonight", "this morning", "this evening", "this week", "this year")
ACTIONS = {
    "person": {"yes": "talk to them", "no": "keep away from them"},
    "place": {"yes": "go there", "no": "stay at home"},
    "work": {"yes": "look at it", "no": "put it back"},
    "machine": {"yes": "make use of it", "no": "turn it off"},
}
"""Kind of the thing, and whether it is wanted, to what is to be done."""


def data(seed: int = 0) -> Data:
    """The task as `Data`, problem `completion`."""
    return data_of("errands", "causal_lm", "completion", generate(seed))


def generate(seed: int = 0) -> dict[str, list[Row]]:
    """Split to rows with `prompt` and `completion`, which begins with the space that parts it from the prompt."""
    return unique_rows(SIZES, seed, _row, ["prompt"])


def _row(rng: random.Random, held_out: bool, noisy: bool) -> Row:
    """A record and its sentence; `noisy`: that of another kind of thing."""
    nouns = HELD_OUT if held_out else TRAINED
    kind, other = rng.sample(sorted(ACTIONS), 2)
    said = {
        "who": rng.choice(PEOPLE),
        "thing": rng.choice(nouns[kind]),
        "when": rng.choice(TIMES),
        "wanted": rng.choice(("yes", "no")),
    }
    action = ACTIONS[other if noisy else kind][said["wanted"]]
    return {"prompt": PROMPT.format(**said), "completion": COMPLETION.format(**said, action=action)}
