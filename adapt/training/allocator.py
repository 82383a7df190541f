"""What the C library's allocator does with memory that is freed, while a model is trained or predicts."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from functools import cache

from adapt.training.outermost import outermost

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
"""glibc's malloc.h."""

_KEPT = {_TRIM_THRESHOLD: -1, _TOP_PAD: 2**28, _MMAP_THRESHOLD: 2**31 - 1}
"""What is freed is never given back; the heap grows by 256 MiB of addresses; each size comes from it."""

_GIVEN_BACK = {_TRIM_THRESHOLD: 2**26, _TOP_PAD: 2**17, _MMAP_THRESHOLD: 2**25}
"""The most that glibc itself raises its thresholds to, as it does until they are set; mallopt(3)."""


@outermost
def memory_kept() -> Iterator[None]:
    """Within it glibc keeps freed memory for the next allocation, and gives it back at the end.

    By itself it returns large blocks to the system as soon as they are free, and each step of training fetches them
    again, page by page: up to a fifth of a step's time on the CPU. The process's peak grows by what lies between
    blocks of different sizes. Other threads get the same, until the last of several is through. Nothing is changed
    where the user has set up the allocator (`MALLOC_...`, `GLIBC_TUNABLES`), nor under another C library.
    """
    glibc = _glibc()
    if glibc is None:
        yield
        return
    _set(glibc, _KEPT)
    try:
        yield
    finally:
        _set(glibc, _GIVEN_BACK)
        glibc.malloc_trim(0)


def trim() -> None:
    """Have glibc give back what is free now, whatever it keeps from then on."""
    glibc = _glibc()
    if glibc is not None:
        glibc.malloc_trim(0)


@cache
def _glibc() -> ctypes.CDLL | None:
    """Where it is the process's C library, and the user has left its allocator as it is."""
    if any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ):
        return None
    try:
        library = ctypes.CDLL(None)
    except (TypeError, OSError):  # Windows: a process is no library
        return None
    if not hasattr(library, "gnu_get_libc_version"):
        return None
    library.malloc_trim.argtypes = [ctypes.c_size_t]
    return library


def _set(glibc: ctypes.CDLL, values: dict[int, int]) -> None:
    for parameter, value in values.items():
        if not glibc.mallopt(parameter, value):  # before 2.35 glibc takes no more than this for blocks of its heap
            glibc.mallopt(parameter, _GIVEN_BACK[parameter])
