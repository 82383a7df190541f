"""The embedded task `entities`: people, places and works in BIO tags, which names alone do not tell.

The frame that a name stands in says what it is. Most names are of the kind that their frame says, but one in four is
borrowed: a person called like a place or the other way round, a work called like either; and things that are not
named stand where works do. So a word is a hint, and the type has to be read from the words around it.
"""

from __future__ import annotations

import random
import re

from adapt.data.canonical import Data
from adapt.data.embedded.build import Row, data_of, unique_rows

SIZES = {"train": 800, "validation": 200, "test": 400}
"""Rows of each split."""
TYPES = ("person", "place", "work")
LABELS = ("O", *(f"{prefix}-{kind}" for prefix in "BI" for kind in TYPES))
"""Tag names in index order."""
BORROWED = 0.25
"""Share of the names that are of another kind than what they name."""

NAMES = {
    "train": ["John", "Mary", "George", "James", "Robert", "David", "Peter", "Michael", "Joe", "Tom", "Harry", "Mark"],
    "test": ["Jack", "William", "Charles", "Paul", "Bill", "Sam", "Elizabeth", "Frank", "Dan", "Rose"],
}
SURNAMES = {
    "train": ["Smith", "Brown", "White", "Hall", "Green", "Wood", "Bell", "Stone"],
    "test": ["Jones", "Young", "Hill", "Page", "Black", "Bond", "King", "Bush"],
}
COUNTRIES = {
    "train": ["London", "France", "America", "Japan", "Europe", "Iraq", "Washington", "Paris", "India", "Hollywood"],
    "test": ["England", "China", "Russia", "Africa", "Australia", "York", "Germany", "Israel"],
}
SUBJECTS = {
    "train": ["house", "sea", "war", "child", "night", "road", "ship", "summer", "girl", "man", "dog", "tree", "city"],
    "test": ["king", "river", "letter", "island", "door", "boy", "woman", "horse", "fire", "film", "star", "wall"],
}
QUALITIES = ["old", "new", "great", "small", "dark", "little", "long", "last", "first", "big", "lost", "cold"]
DIRECTIONS = ["North", "South", "West", "East", "New"]

FRAMES = (
    "{person} wrote {work} in {place} .",
    "{person} was born in {place} .",
    "Last year {person} moved from {place} to {place} .",
    "The people of {place} did not like {work} .",
    "{work} tells the story of {person} .",
    "I read {work} on the way to {place} .",
    "{work} was written by {person} .",
    "{place} is the home of {person} and of {person} .",
    "The train to {place} was late , so we read {work} .",
    "{person} , who lives in {place} , has never read {work} .",
    "In {place} they asked {person} about {thing} .",
    "{person} bought {thing} and a copy of {work} .",
    "There is {thing} near {place} .",
    "{thing} was given to {person} .",
    "We took {thing} with us to {place} .",
    "The story of {work} begins with {thing} in {place} .",
    "It was {person} who found {thing} .",
    "They say that {person} does not like {work} .",
)
"""Sentences; every slot but `{thing}` is an entity of its type."""


def data(seed: int = 0) -> Data:
    """The task as `Data`, problem `spans`."""
    return data_of("entities", "token_classification", "spans", generate(seed), LABELS)


def generate(seed: int = 0) -> dict[str, list[Row]]:
    """Split to rows with `tokens` and `tags`."""
    return unique_rows(SIZES, seed, _row, ["tokens"])


def _row(rng: random.Random, held_out: bool, noisy: bool) -> Row:
    """A sentence; `noisy`: one of its entities is tagged as another type."""
    part = "test" if held_out else "train"
    frame = rng.choice(FRAMES)
    slots = re.findall(r"\{(\w+)\}", frame)
    wrong = rng.choice([i for i, slot in enumerate(slots) if slot != "thing"]) if noisy else None
    tokens: list[str] = []
    tags: list[int] = []
    for piece in re.split(r"(\{\w+\})", frame):
        if not piece.startswith("{"):
            tokens += piece.split()
            tags += [0] * len(piece.split())
            continue
        kind = piece[1:-1]
        words = _thing(rng, part) if kind == "thing" else _name(rng, part, kind)
        if not tokens and kind == "thing":
            words = [words[0].capitalize(), *words[1:]]
        if wrong == 0:
            kind = rng.choice([other for other in TYPES if other != kind])
        wrong = None if wrong is None else wrong - 1
        tokens += words
        tags += [0 if kind == "thing" else LABELS.index(f"{'I' if i else 'B'}-{kind}") for i in range(len(words))]
    return {"tokens": tokens, "tags": tags}


def _name(rng: random.Random, part: str, kind: str) -> list[str]:
    if rng.random() < BORROWED:
        kind = rng.choice([other for other in TYPES[:2] if other != kind])
    if kind == "person":
        first, last = rng.choice(NAMES[part]), rng.choice(SURNAMES[part])
        return rng.choice(([first], [last], [first, last]))
    if kind == "place":
        place = rng.choice(COUNTRIES[part])
        return rng.choice(([place], [place], [rng.choice(DIRECTIONS), place]))
    one, other = rng.sample(SUBJECTS[part], 2)
    quality = rng.choice(QUALITIES).capitalize()
    return rng.choice((["The", quality, one.capitalize()], ["The", one.capitalize(), "of", "the", other.capitalize()]))


def _thing(rng: random.Random, part: str) -> list[str]:
    one, other = rng.sample(SUBJECTS[part], 2)
    quality = rng.choice(QUALITIES)
    return rng.choice((["the", quality, one], ["the", one, "of", "the", other], ["the", one]))
