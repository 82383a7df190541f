"""The embedded task `choices`: generated sentences, a rule, noise, and a test split with words never trained on.

Every sentence names two things of different kinds, one chosen and one passed over; the label is the kind of the
chosen one. Both kinds, and every frame, occur with either order, so that words alone tell two kinds but not which:
which one was chosen has to be read from word order and from the scope of `not`, `instead of`, `rather than`, `but`.
"""

from __future__ import annotations

import itertools
import random

from adapt.data import Data, load
from adapt.data.embedded.build import NOISE, word_lists

SIZES = {"train": 1000, "validation": 300, "test": 600}
"""Rows of each split."""

TRAINED = word_lists(
    person="father sister son wife aunt captain king lady boy child officer judge governor author",
    place="city river church hotel island street park hill valley market school farm lake station",
    work="film book song picture letter script report comedy message chapter story review",
    machine="phone camera computer car ship gun clock battery radio software",
)
"""Kind to the nouns of the training and validation rows."""
HELD_OUT = word_lists(
    person="mother brother daughter husband doctor gentleman girl actor minister master",
    place="town garden house mountain coast shop university beach hall bay",
    work="movie novel paper opera document video series speech",
    machine="train boat machine bus engine screen",
)
"""Kind to the nouns of the test rows; none of them occurs in the other splits."""
KINDS = tuple(sorted(TRAINED))
"""Label names in index order."""

PAIRS = tuple((KINDS[i], KINDS[(i + shift) % 4]) for shift in (1, 2, 3) for i in range(4))
"""Every ordered pair of two kinds, so that any four in a row begin with the four kinds."""

FRAMES = (
    "{who} wanted {yes} , not {no}",
    "{who} wanted not {no} but {yes}",
    "{who} took {yes} instead of {no}",
    "instead of {no} {who} took {yes}",
    "{who} talked about {yes} rather than {no}",
    "rather than {no} {who} mentioned {yes}",
    "{who} gave up {no} for {yes}",
    "{who} would not give up {yes} for {no}",
    "{who} asked for {no} at first , but then for {yes}",
    "{who} asked for {yes} , although {no} was there",
    "although {no} was there {who} asked for {yes}",
    "{no} was there , but {who} asked for {yes}",
)
"""Sentences; `{yes}` is the thing chosen and `{no}` the one passed over."""
PEOPLE = ("he", "she", "they", "we", "i", "you")
OPENINGS = ("", "", "", "in the end ", "of course ", "at last ", "last year ", "in fact ", "once again ", "this time ")
THINGS = (
    "the {}",
    "the {}",
    "the {}",
    "the old {}",
    "the new {}",
    "the other {}",
    "the first {}",
    "that {}",
    "this {}",
)


def data(seed: int = 0) -> Data:
    """The task as `Data` with the splits of `SIZES`; the same seed gives the same rows on every machine.

    Labels are balanced in every split, and no sentence occurs twice in or across splits.
    """
    return load({split: (texts, labels) for split, (texts, labels) in generate(seed).items()}, name="choices")


def generate(seed: int = 0) -> dict[str, tuple[list[str], list[str]]]:
    """Split to texts and label names; pure Python, without the data library."""
    rng = random.Random(seed)
    seen: set[str] = set()
    splits = {}
    for split, size in SIZES.items():
        nouns = HELD_OUT if split == "test" else TRAINED
        pairs = itertools.cycle(PAIRS)
        rows: list[tuple[str, str]] = []
        while len(rows) < size:
            chosen, passed_over = next(pairs)
            text = sentence(rng, nouns[chosen], nouns[passed_over])
            while text in seen:
                text = sentence(rng, nouns[chosen], nouns[passed_over])
            seen.add(text)
            rows.append((text, chosen))
        rows = mislabel(rng, rows)
        rng.shuffle(rows)
        splits[split] = ([text for text, _ in rows], [label for _, label in rows])
    return splits


def sentence(rng: random.Random, yes: list[str], no: list[str]) -> str:
    """One sentence in which a noun of `yes` is chosen and one of `no` passed over."""
    frame = rng.choice(OPENINGS) + rng.choice(FRAMES) + " ."
    return frame.format(
        who=rng.choice(PEOPLE),
        yes=rng.choice(THINGS).format(rng.choice(yes)),
        no=rng.choice(THINGS).format(rng.choice(no)),
    )


def mislabel(rng: random.Random, rows: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Give `NOISE` of the rows, to a multiple of 12, another kind: of each as many to each other, so that labels stay
    balanced."""
    order = list(range(len(rows)))
    rng.shuffle(order)
    noisy = list(rows)
    for true, false in PAIRS * round(NOISE * len(rows) / len(PAIRS)):
        index = next(i for i in order if rows[i][1] == true)
        order.remove(index)
        noisy[index] = (rows[index][0], false)
    return noisy
