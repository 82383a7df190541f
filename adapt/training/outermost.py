"""What holds for the whole process within a block, be the block nested or entered by several threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock


class Outermost:
    """Begins with the first block that is entered and ends with the last one left."""

    def __init__(self, begin: Callable[[], None], end: Callable[[], None]) -> None:
        self._begin, self._end = begin, end
        self._within = 0
        self._lock = Lock()

    @contextmanager
    def block(self) -> Iterator[None]:
        """A block of it."""
        with self._lock:
            if self._within == 0:
                self._begin()
            self._within += 1
        try:
            yield
        finally:
            with self._lock:
                self._within -= 1
                if self._within == 0:
                    self._end()
