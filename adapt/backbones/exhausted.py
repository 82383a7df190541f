"""When memory runs out: which errors mean it, what can be given back, and what a reader is told."""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator
from contextlib import contextmanager

from adapt.spec import OutOfMemory

_MARKS = ("allocate memory", "not enough memory", "error: out of memory", "STATUS_ALLOC_FAILED")
"""In messages of errors that have no class of their own: torch's CPU allocator, the system, CUDA (or HIP), the driver
that torch's expandable segments ask, and their libraries."""
_AT_END = "could not create a primitive"
"""How a message of oneDNN, which makes torch's products on CPUs, ends where memory ran out. Where it lacks a kernel for
one, the message goes on after these words."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that the device, or the host, had no memory left."""
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError | OSError) and tells_of_memory(str(error))


def tells_of_memory(text: str) -> bool:
    """Whether a message, or the last line of a traceback, is that of an error that means it."""
    return "MemoryError" in text or text.rstrip().endswith(_AT_END) or any(mark in text for mark in _MARKS)


def give_back(device: str) -> None:
    """Free what is held in cycles of references, and on CUDA what torch's allocator keeps for later."""
    gc.collect()
    if device == "cuda":
        import torch

        try:
            torch.cuda.empty_cache()
        except RuntimeError as error:
            if "captures_underway" not in str(error):  # torch before 2.12, once a CUDA graph could not be captured
                raise


def asked_for(error: BaseException) -> str:
    """` (N GiB more were asked for)`, where the error tells."""
    found = re.search(r"allocate (\d+(?:\.\d+)? ?[A-Za-z]+)", str(error))
    return f" ({found[1]} more were asked for)" if found else ""


@contextmanager
def explained(where: str, advice: str) -> Iterator[None]:
    """Say where in a run memory ran out and what to do, in place of what the allocator says.

    Args:
        where: What was done, as in "while loading the model".
        advice: What to do, in the imperative.

    Raises:
        OutOfMemory: Memory ran out within.
    """
    try:
        yield
    except (RuntimeError, OSError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(f"memory ran out {where}{asked_for(error)}; {advice}") from None
