"""Whether transformers looks at what is in a batch before it makes the mask of its attention."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def masks_traced(traced: bool) -> Iterator[None]:
    """Have it make every mask, as while it is traced for all inputs to come; or none where it would see no padding."""
    from transformers import masking_utils

    asked = masking_utils.is_tracing
    masking_utils.is_tracing = lambda tensor=None: traced
    try:
        yield
    finally:
        masking_utils.is_tracing = asked
