"""Context managers whose effect is the whole process's, be they nested or entered by several threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from contextlib import _GeneratorContextManager


def outermost(block: Callable[[], Iterator[None]]) -> Callable[[], _GeneratorContextManager[None]]:
    """`contextlib.contextmanager` for blocks that overlap: the first one entered begins, the last one left ends."""
    manager, lock, within = contextmanager(block), Lock(), 0
    entered: _GeneratorContextManager[None]

    @contextmanager
    @wraps(block)
    def shared() -> Iterator[None]:
        nonlocal within, entered
        with lock:
            if within == 0:
                entered = manager()
                entered.__enter__()
            within += 1
        try:
            yield
        finally:
            with lock:
                within -= 1
                if within == 0:
                    entered.__exit__(None, None, None)

    return shared
