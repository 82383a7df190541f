"""The embedded task `offers`: a list of attributes is to be said in one or two sentences (data to text).

The source gives a name, a thing, a place, and often how the thing looks and what it costs; the target says all of it in
one of three ways, each of which is a reference. `price: low` is said as `costs very little`, `high` as `costs a lot`.
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
LOOKS = ("", "", "red", "blue", "green", "white", "black", "old", "new", "small", "large")
PRICES = {"": "", "low": "costs very little", "high": "costs a lot"}
WAYS = (
    ("{who} has the {thing} at the {place}, and it {cost}.", "{who} has the {thing} at the {place}."),
    ("The {thing} that {who} left at the {place} {cost}.", "The {thing} at the {place} is from {who}."),
    ("At the {place} is the {thing} that {who} made. It {cost}.", "At the {place} is the {thing} that {who} made."),
)  # fmt: skip
"""Ways of saying it, with a price and without."""


def data(seed: int = 0) -> Data:
    """The task as `Data`, problem `text`."""
    return data_of("offers", "seq2seq", "text", generate(seed))


def generate(seed: int = 0) -> dict[str, list[Row]]:
    """Split to rows with `source`, `target` and `references`."""
    return rows_of(SIZES, seed, _row, ["source"])


def _row(rng: random.Random, split: str, noisy: bool) -> Row:
    """A list and its sentences; `noisy`: they name another place."""
    words = words_of(split)
    who, noun, look = rng.choice(words.people), rng.choice(words.things), rng.choice(LOOKS)
    place, other = rng.sample(words.places, 2)
    price = rng.choice(list(PRICES))
    thing = f"{look} {noun}".strip()
    source = f"name: {who} | thing: {thing} | place: {place}" + (f" | price: {price}" if price else "")
    said = {"who": who, "thing": thing, "place": other if noisy else place, "cost": PRICES[price]}
    references = [(priced if price else unpriced).format(**said) for priced, unpriced in WAYS]
    return {"source": source, "target": rng.choice(references), "references": references}
