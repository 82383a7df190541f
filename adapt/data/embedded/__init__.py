"""Tasks that need no file: generated rows with a documented rule, noise, and words that only the test split has.

One generator a task kind. Each is pure Python and seeded, so the same seed gives the same rows on every machine; every
sentence is made from the frames and words in these files.
"""

from __future__ import annotations

from collections.abc import Callable

from adapt.data.canonical import Data
from adapt.data.embedded import choices, entities, errands, facts, offers, sentences
from adapt.spec import OptionError

GENERATORS: dict[str, Callable[[int], Data]] = {
    "sequence_classification": choices.data,
    "token_classification": entities.data,
    "question_answering": facts.data,
    "seq2seq": offers.data,
    "causal_lm": errands.data,
    "masked_lm": sentences.data,
}
"""Task kind to its embedded task."""


def embedded(kind: str = "sequence_classification", seed: int = 0) -> Data:
    """The embedded task of a kind, with splits `train`, `validation` and `test`; no row occurs twice.

    Raises:
        OptionError: There is no such kind.
    """
    if kind not in GENERATORS:
        raise OptionError(f"There is no embedded task for kind '{kind}'; choose one of {', '.join(GENERATORS)}.")
    return GENERATORS[kind](seed)
