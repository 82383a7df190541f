"""Which tokens are hidden to be found again, and what stands in their place (Devlin et al. 2019, section 3.1)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cached_property
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
    known = set(tokenizer.get_vocab().values()) - set(tokenizer.all_special_ids)
    return sorted(token for token in known if embeddings is None or token < embeddings)


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


class Masking:
    """Draws which tokens of a row are hidden: a share of them, each for itself, or whole words."""

    def __init__(self, tokenizer: Any, share: float) -> None:
        """
        Args:
            tokenizer: One with a mask.
            share: Of a row's tokens that may be hidden.
        """
        self._tokenizer, self._share = tokenizer, share
        self.embeddings: int | None = None
        """Tokens that the model has embeddings for; None: all of the tokenizer's."""

    @cached_property
    def never(self) -> set[int]:
        """Tokens that are never hidden: special ones, and what stands for unknown words."""
        return set(self._tokenizer.all_special_ids)

    @cached_property
    def _ordinary(self) -> list[int]:
        return ordinary_tokens(self._tokenizer, self.embeddings)

    def held_out(self, example: Example) -> Example:
        """A row with the mask in place of some tokens, which are its labels; its tokens decide which.

        Args:
            example: A row; its field `words`, where it has one, says of each token at which place its word begins.
        """
        ids = example["input_ids"]
        places = self._places(ids, example.get("words"), random.Random(" ".join(map(str, ids))))
        return hidden(example, places, self._tokenizer.mask_token_id)

    def epoch(self, examples: Sequence[Example], draw: str) -> Sequence[Example]:
        """Rows with tokens to be found in training, which are drawn when a row is asked for.

        Args:
            examples: As `held_out` gives them.
            draw: Decides what is drawn, with the number of the row.
        """
        return _Drawn(self, examples, draw)

    def in_training(self, example: Example, draw: random.Random) -> Example:
        """A row with tokens to be found in training.

        Args:
            example: As `held_out` gives it.
            draw: Decides which, and what stands in their place.
        """
        ids = restored(example)
        labels = [IGNORED] * len(ids)
        for place in self._places(ids, example.get("words"), draw):
            labels[place], way = ids[place], draw.random()
            if way < MASKED_BELOW:
                ids[place] = self._tokenizer.mask_token_id
            elif way < ANOTHER_BELOW:
                ids[place] = draw.choice(self._ordinary)
        return {**example, "input_ids": ids, "labels": labels}

    def _places(self, ids: Sequence[int], words: Sequence[int] | None, draw: random.Random) -> list[int]:
        """Where tokens are to be found: a share of all, or whole words as they are drawn, while they hold no more."""
        own = [place for place, token in enumerate(ids) if token not in self.never]
        number = masked_count(self._share, len(own))
        found: list[int] = []
        if words is not None:
            places: dict[int, list[int]] = {}
            for place in own:
                places.setdefault(words[place], []).append(place)
            for word in draw.sample(list(places.values()), len(places)):
                if len(found) + len(word) <= number:
                    found += word
        return found or draw.sample(own, number)


class _Drawn(Sequence[Example]):
    """Rows whose tokens to be found are drawn when they are asked for."""

    def __init__(self, masking: Masking, examples: Sequence[Example], draw: str) -> None:
        self._masking, self._examples, self._draw = masking, examples, draw

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, row: Any) -> Any:
        return self._masking.in_training(self._examples[row], random.Random(f"{self._draw} {row}"))
