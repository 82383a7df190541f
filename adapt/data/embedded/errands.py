"""The embedded task `errands`: a short record of somebody's thing, and the sentence that says what to do with it.

The state of the thing decides what is to be done (a rule to be learnt, `STATES`); whose thing it is, what it is and
where it is are copied from the record.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from adapt.data.embedded.build import Row, data_of, words_of
from adapt.data.embedded.build import generate as rows_of

if TYPE_CHECKING:
    from adapt.data import Data

SIZES = {"train": 800, "validation": 150, "test": 300}
"""Rows of each split."""
PROMPT = "name: {who}\nthing: {thing}\nplace: {place}\nstate: {state}\nreply:"
STATES = {
    "broken": "Please send somebody for the {thing} of {who} in the {place}.",
    "lost": "Please look for the {thing} of {who} in the {place}.",
    "new": "Please show the {thing} of {who} to the people in the {place}.",
    "old": "Please take the {thing} of {who} out of the {place}.",
    "clean": "Please put the {thing} of {who} back in the {place}.",
    "hot": "Please keep away from the {thing} of {who} in the {place}.",
}
"""State to what is to be done."""


def data(seed: int = 0) -> Data:
    """The task as `Data`, problem `completion`."""
    return data_of("errands", "causal_lm", "completion", generate(seed))


def generate(seed: int = 0) -> dict[str, list[Row]]:
    """Split to rows with `prompt` and `completion`, which begins with the space that parts it from the prompt."""
    return rows_of(SIZES, seed, _row, ["prompt"])


def _row(rng: random.Random, split: str, noisy: bool) -> Row:
    """A record and its sentence; `noisy`: that of another state."""
    words = words_of(split)
    who, thing, place = rng.choice(words.people), rng.choice(words.things), rng.choice(words.places)
    state, other = rng.sample(list(STATES), 2)
    prompt = PROMPT.format(who=who, thing=thing, place=place, state=state)
    completion = STATES[other if noisy else state].format(who=who, thing=thing, place=place)
    return {"prompt": prompt, "completion": f" {completion}"}
