"""Checks of fields that several strategies have; they need no backbone, and come before any run of a comparison."""

from __future__ import annotations

import math
from typing import Any

from adapt.backbones.uppermost import uppermost
from adapt.spec import OptionError


def check_words(strategy: Any) -> None:
    """
    Args:
        strategy: With `name`, `layers`, `embedding_rank` and `embedding_rate`.

    Raises:
        OptionError: Layers cannot be read; rank or rate is out of range; or word embeddings are to be trained below
            layers whose outputs are computed once a row.
    """
    name, rank, rate = strategy.name, strategy.embedding_rank, strategy.embedding_rate
    some = uppermost(strategy.layers, name) is not None
    if rank < 0:
        raise OptionError(f"{name}.embedding_rank is {rank}; give 0 for frozen word embeddings, or more.")
    if not math.isfinite(rate) or rate <= 0:
        raise OptionError(f"{name}.embedding_rate is {rate}; give a finite number above zero, such as 5e-4.")
    if rank and some:
        raise OptionError(
            f"{name}.embedding_rank={rank} trains what lies below every layer, and {name}.layers='{strategy.layers}' "
            "computes that once a row; set embedding_rank=0, or layers='all'."
        )
