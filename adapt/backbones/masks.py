"""Whether transformers looks at what is in a batch before it makes the mask of its attention."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from adapt.backbones.swapped import swapped


@contextmanager
def masks_traced(traced: bool) -> Iterator[None]:
    """
    Args:
        traced: Whether it takes itself to be traced for all inputs to come, and so makes every mask. Otherwise it makes
            none where it sees no padding.
    """
    from transformers import masking_utils

    with swapped(masking_utils, is_tracing=lambda tensor=None: traced):
        yield
