"""Going on with fewer rows at a time when memory runs out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from adapt.backbones.exhausted import asked_for, give_back, is_out_of_memory
from adapt.spec import OutOfMemory

T = TypeVar("T")
R = TypeVar("R")


def halving(
    work: Callable[[int], R],
    rows: int,
    device: str,
    *,
    advice: str,
    all_rows: int | None = None,
    reset: Callable[[], bool | None] | None = None,
) -> tuple[R, int]:
    """Do some work, and do it again from its start with half as many rows at a time whenever memory runs out.

    Args:
        work: Takes the most rows of a forward pass.
        rows: How many these may be.
        device: Whose cache is emptied before the next try.
        advice: What to do where not even one row fits, in the imperative.
        all_rows: Rows of the whole work; None: no fewer than `rows`.
        reset: Undoes what an unfinished try has left; true where it let go of memory that is not needed, so that the
            same number of rows may fit now.

    Returns:
        What the work gave, and `rows`, or what they came down to.

    Raises:
        OutOfMemory: One row does not fit.
    """
    most = rows if all_rows is None else min(rows, all_rows)
    while True:
        try:
            return work(most), rows
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            asked = asked_for(error)
        # here the error is gone, and with its traceback the activations of the try
        again = reset is not None and reset()
        give_back(device)
        if again:
            continue
        if most == 1:
            raise OutOfMemory(f"memory ran out with one row at a time{asked}; {advice}")
        most = rows = (most + 1) // 2


def parts(members: Sequence[T], rows: int) -> list[list[T]]:
    """The members in order, `rows` at a time; the last part may be smaller."""
    return [list(members[start : start + rows]) for start in range(0, len(members), rows)]
