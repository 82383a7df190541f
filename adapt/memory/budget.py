"""What a plan needs besides its peak, and whether that fits a budget."""

from __future__ import annotations

import math
import re
from typing import Literal

from adapt.spec import OptionError

Verdict = Literal["fits", "tight", "no"]

_UNITS = {
    "": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
}  # fmt: skip
FIXED = {"cuda": 600 * 2**20, "cpu": 600 * 2**20}
"""Bytes that are taken before the first tensor: on a GPU by the CUDA context, cuBLAS and cuDNN (0.4 to 0.6 GiB on
recent ones; the 64 MiB of cuBLAS's workspace are in torch's figures: H100, `results/benchmarks/memory.md`), on CPUs by
a Python process with torch, transformers and PEFT loaded."""
GROWN = {"cuda": 0, "cpu": 900 * 2**20}
"""Bytes that a process takes in training whatever the peak: on CPUs its rows, compiled kernels, and what batches of
other lengths leave between blocks of freed memory."""
BESIDE = {"cuda": 0.05, "cpu": 1.5}
"""Share of the peak that is held beside it: on a GPU what torch's allocator loses between blocks, which is assumed
(where memory is not short it keeps more: `reserved` in `results/benchmarks/memory_allocator.md`); on CPUs also what the
C library keeps of freed memory, and products' own scratch. With the fixed parts nine in ten of the runs under `results`
held less (`memory.process_bytes`)."""
ROOM = 0.9
"""Above this share of the budget a plan is tight."""


def parse_bytes(text: str | int) -> int:
    """Bytes from text such as `12GiB`, `24 GB`, `800MiB` or a plain number.

    Raises:
        OptionError: It cannot be read, or is below one MiB, as where the unit was forgotten.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?i?b?)\s*", str(text).lower())
    unit = _UNITS.get(found[2]) if found else None
    if found is None or unit is None:
        raise OptionError(f"The memory budget '{text}' cannot be read; write it as 12GiB, 24GB or 800MiB.")
    value = int(float(found[1]) * unit)
    if value < 2**20:
        raise OptionError(f"The memory budget '{text}' is {value} bytes; give one with its unit, such as 12GiB.")
    return value


def parse_batch(text: str) -> tuple[int, int]:
    """Rows and tokens from text such as `4x2048`.

    Raises:
        OptionError: It cannot be read, or one of them is zero.
    """
    found = re.fullmatch(r"\s*(\d+)\s*[x×]\s*(\d+)\s*", str(text))
    if found is None:
        raise OptionError(f"The batch '{text}' cannot be read; write rows x tokens, such as 4x2048.")
    rows, tokens = int(found[1]), int(found[2])
    if not rows or not tokens:
        raise OptionError(f"The batch is '{text}'; give at least one row of at least one token, such as 4x2048.")
    return rows, tokens


def allowance(peak: int, device: str, *, running: bool = False) -> int:
    """Bytes that are needed beside what tensors hold: `FIXED`, `GROWN`, and `BESIDE` of the peak.

    Args:
        peak: Bytes that tensors hold at the peak.
        device: `cpu` or `cuda`.
        running: Whether context and libraries have their memory already.
    """
    return (0 if running else FIXED[device]) + GROWN[device] + math.ceil(BESIDE[device] * peak)


def mask_bytes(rows: int, length: int, device: str, precision: str) -> int:
    """What the mask of padded rows takes, of which a plan of rows of equal length has none: on a GPU each query and key
    of a row has a truth value, and in front of the kernel a number of the scores' type; one row has no padding."""
    if device != "cuda" or rows < 2:
        return 0
    return (1 + (2 if precision == "bf16" else 4)) * rows * length**2


def verdict(required: int, budget: int) -> Verdict:
    """Whether it fits: with room, barely, or not."""
    return "no" if required > budget else "tight" if required > ROOM * budget else "fits"


def shown(size: int) -> str:
    """Bytes for people: `1.4 GiB`."""
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} B"
