"""Which tokens are hidden to be found again, and what stands in their place (Devlin et al. 2019, section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from adapt.spec import OptionError
from adapt.tasks.kind import Example
from adapt.tasks.losses import IGNORED

MASKED_SHARE = 0.15
"""Share of a text's tokens that is hidden, unless another is asked for."""
MASKED_BELOW, ANOTHER_BELOW = 0.8, 0.9
"""What stands in training for a hidden token, by a number drawn evenly from 0 to 1: the mask below the first, any
ordinary token below the second, else the token itself."""


def check_share(name: str, share: float) -> None:
    """
    Raises:
        OptionError: The option `name` is no share of tokens to be hidden.
    """
    if not 0 < share <= 1:
        raise OptionError(f"{name} is {share}; give a number above 0 and up to 1, such as 0.15 for 15 %.")


def masked_count(share: float, tokens: int) -> int:
    """How many of so many tokens are hidden: at least one, where there is any."""
    return min(tokens, max(1, round(share * tokens)))


def ordinary_tokens(tokenizer: Any, embeddings: int | None = None) -> list[int]:
    """Ids that may stand for a hidden token: those that have an embedding (None: all) and are not special."""
    return sorted(set(range(len(tokenizer))[:embeddings]) - set(tokenizer.all_special_ids))


def hidden(example: Example, places: Sequence[int], mask: int) -> Example:
    """The example with the mask at some places, whose tokens are the labels."""
    ids = list(example["input_ids"])
    labels = [IGNORED] * len(ids)
    for place in places:
        labels[place], ids[place] = ids[place], mask
    return {**example, "input_ids": ids, "labels": labels}


def restored(example: Example) -> list[int]:
    """The tokens of a labelled row as they were before some were hidden."""
    pairs = zip(example["input_ids"], example["labels"], strict=True)
    return [token if label == IGNORED else label for token, label in pairs]
