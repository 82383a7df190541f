"""The embedded task `sentences`: the sentences of `choices` and `entities` as plain text, of which tokens are masked.

Which words stand where in their frames is to be learnt; the test split has other names and things.
"""

from __future__ import annotations

import random

from adapt.data.canonical import Data
from adapt.data.embedded import choices, entities
from adapt.data.embedded.build import Row, data_of


def data(seed: int = 0) -> Data:
    """The task as `Data`, problem `masked`."""
    return data_of("sentences", "masked_lm", "masked", generate(seed))


def generate(seed: int = 0) -> dict[str, list[Row]]:
    """Split to rows with `text`, shuffled."""
    rng = random.Random(seed)
    named, chosen = entities.generate(seed), choices.generate(seed)
    splits = {}
    for split, (texts, _) in chosen.items():
        rows = [{"text": text} for text in (*texts, *(" ".join(row["tokens"]) for row in named[split]))]
        splits[split] = rng.sample(rows, len(rows))
    return splits
