"""The embedded task `offers`: a list of attributes is to be said in one or two sentences (data to text).

The source gives somebody, a thing, a place, and often how the thing looks and what it costs; the target says all of it
in one of three ways, each of which is a reference. `price: low` is said as `costs very little`, `high` as `costs a
lot`; everything else is copied.
"""

from __future__ import annotations

import random

from adapt.data.canonical import Data
from adapt.data.embedded.build import Row, data_of, unique_rows, word_lists

SIZES = {"train": 600, "validation": 150, "test": 200}
"""Rows of each split."""
TRAINED = word_lists(
    people="father mother brother wife son man woman child captain king author actor major general master lady guy",
    things="ball bed block board book box camera car cat dog dress film gun hat horse key letter machine message movie "
    "paper phone picture plan record report rock rose script ship song star table tree window",
    places="bank bar camp church city coast corner country court farm garden hall hill house market office port river "
    "road room school sea station street",
)
HELD_OUT = word_lists(
    people="daughter girl boy friend minister leader agent official hero crew",
    things="battery cap card chair computer drug image instrument novel pen radio screen stock stone story text video "
    "watch",
    places="building center field ground island land space town path region",
)
LOOKS = ("", "", "red", "blue", "green", "white", "black", "old", "new", "small", "large")
PRICES = {"": "", "low": "costs very little", "high": "costs a lot"}
WAYS = (
    ("The {who} has the {thing} at the {place}, and it {cost}.", "The {who} has the {thing} at the {place}."),
    ("The {thing} of the {who} at the {place} {cost}.", "The {thing} of the {who} is at the {place}."),
    ("At the {place} is the {thing} of the {who}. It {cost}.", "At the {place} is the {thing} of the {who}."),
)
"""Ways of saying it, with a price and without."""


def data(seed: int = 0) -> Data:
    """The task as `Data`, problem `text`."""
    return data_of("offers", "seq2seq", "text", generate(seed))


def generate(seed: int = 0) -> dict[str, list[Row]]:
    """Split to rows with `source`, `target` and `references`."""
    return unique_rows(SIZES, seed, _row, ["source"])


def _row(rng: random.Random, held_out: bool, noisy: bool) -> Row:
    """A list and its sentences; `noisy`: they name another place."""
    words = HELD_OUT if held_out else TRAINED
    who, noun, look = rng.choice(words["people"]), rng.choice(words["things"]), rng.choice(LOOKS)
    place, other = rng.sample(words["places"], 2)
    price = rng.choice(list(PRICES))
    thing = f"{look} {noun}".strip()
    source = f"who: {who} | thing: {thing} | place: {place}" + (f" | price: {price}" if price else "")
    said = {"who": who, "thing": thing, "place": other if noisy else place, "cost": PRICES[price]}
    references = [(priced if price else unpriced).format(**said) for priced, unpriced in WAYS]
    return {"source": source, "target": rng.choice(references), "references": references}
