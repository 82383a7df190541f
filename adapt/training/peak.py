"""Peak memory while a block of code runs.

On CUDA this is the peak of torch's allocator. On the CPU it is the peak of the process's resident set (Linux: what is
free is given back and the high-water mark set back at the start of each block, so that loading and evaluating do not
count). Where the
mark cannot be set back, the peak of the whole process is given, which is an upper bound; where the system tells none,
there is none.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from adapt.training.allocator import trim

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def _status(field: str) -> int | None:
    """A memory line of the process's status in bytes; None where there is none."""
    try:
        match = re.search(rf"^{field}:\s+(\d+) kB$", _STATUS.read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(match[1]) * 1024 if match else None


def _process_peak() -> int | None:
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        return getattr(psutil.Process().memory_info(), "peak_wset", None)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


class PeakMemory:
    """Largest memory seen within the blocks it tracked, in bytes."""

    def __init__(self, device: str) -> None:
        """
        Args:
            device: `cpu` or `cuda`.
        """
        self._cuda = device == "cuda"
        self.peak_bytes: int | None = None

    def now(self) -> int | None:
        """Memory in use now: resident set without what is free (CPU) or allocated bytes (CUDA)."""
        if not self._cuda:
            trim()
        return torch.cuda.memory_allocated() if self._cuda else _status("VmRSS") or _process_peak()

    @contextmanager
    def track(self) -> Iterator[None]:
        """Take the peak of the enclosed block into account."""
        if self._cuda:
            torch.cuda.reset_peak_memory_stats()
        else:
            trim()
            with suppress(OSError):  # proc(5): sets the high-water mark back to the resident set of now
                _CLEAR.write_text("5")
        try:
            yield
        finally:
            found = torch.cuda.max_memory_allocated() if self._cuda else _status("VmHWM") or _process_peak()
            if found is not None:
                self.peak_bytes = max(self.peak_bytes or 0, found)
