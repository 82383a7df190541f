"""The machine, as much of it as this process may use: cores, memory, what it is called.

A container bounds its processes by control groups, of the second version (one tree for everything) or the first (a tree
for each controller): <https://docs.kernel.org/admin-guide/cgroup-v2.html>.
"""

from __future__ import annotations

import os
import platform
import signal
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

_CPUINFO, _OWN_GROUPS, _GROUPS = Path("/proc/cpuinfo"), Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
_VMSTAT = Path("/proc/vmstat")
_MEMORY = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
"""Of each version of control groups: the files of limit and use, and what of the use is a copy of files, that the
system lets go of."""
_KILLS = ("memory.events", "memory.oom_control")
"""Of each version: the file that says how many processes were killed."""
_TIME = (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us"))
"""Of each version: the files with the microseconds of processor time in a period, and the period."""

STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Signals that stop a command; there is none of the last on Windows."""


def cores() -> int:
    """Cores that this process may use: those it is bound to, or fewer where its container has not as much time."""
    found = _bound()
    for folder, version in _groups("cpu"):
        words = [word for name in _TIME[version] for line in _lines(folder / name) for word in line.split()]
        if len(words) == 2 and all(word.isdigit() for word in words):  # others say that there is no limit
            quota, period = map(int, words)
            found = min(found, max(1, -(-quota // period)))
    return found


def short_waits(given: Mapping[str, str]) -> dict[str, str]:
    """Environment variables by which a process's threads wait for one another awake for a moment only, then asleep.

    GNU's OpenMP, which torch has on Linux, lets them wait awake for milliseconds. Where other processes want the cores
    too, the thread that is waited for then waits for a core that one that waits has taken
    (`results/benchmarks/waiting.md`). It reads the variables when torch is imported.

    Args:
        given: The environment. Where it says how threads wait, nothing is to be set.
    """
    return {} if {"OMP_WAIT_POLICY", _SPINS} & given.keys() else {_SPINS: "10000"}


def few_threads(given: Mapping[str, str]) -> dict[str, str]:
    """Environment variables by which torch has no more threads than its container has processor time for.

    It counts the cores that the process is bound to, be their time as little as it may, when it is imported.

    Args:
        given: The environment. Where it says how many threads there are, nothing is to be set.
    """
    found = cores()
    some = found < _bound() and not {"OMP_NUM_THREADS", "MKL_NUM_THREADS"} & given.keys()
    return {"OMP_NUM_THREADS": str(found)} if some else {}


def _bound() -> int:
    """Cores that this process is bound to."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


_SPINS = "GOMP_SPINCOUNT"
"""How many times they look before they sleep; 300,000 unless it is set."""


def free_memory(device: str) -> int:
    """Bytes that are free: on the GPU also what torch holds for later, on the CPU at most what the container has."""
    if device == "cuda":
        import torch

        reused = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
        return int(torch.cuda.mem_get_info()[0]) + reused
    import psutil

    return min([psutil.virtual_memory().available, *_memory()])


def killed_for_memory() -> int:
    """Processes that the system has killed because memory ran out: of this one's control group where that tells, else
    of the machine; 0 where neither does."""
    files = [folder / _KILLS[version] for folder, version in _groups("memory")]
    counts = (line.split()[1] for file in (*files, _VMSTAT) for line in _lines(file) if line.startswith("oom_kill "))
    return int(next(counts, 0))


def hardware(device: str) -> str:
    """Name of the GPU, where the device is one that is there, or of the processor."""
    import torch

    return torch.cuda.get_device_name() if device == "cuda" and torch.cuda.is_available() else _processor()


@cache
def _processor() -> str:
    named = (line.partition(":")[2].strip() for line in _lines(_CPUINFO) if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


def _memory() -> Iterator[int]:
    """Bytes that each control group of this process has below its limit."""
    for folder, version in _groups("memory"):
        *files, given_back = _MEMORY[version]
        bounds = [int(text) for name in files for text in _lines(folder / name) if text.isdigit()]
        if len(bounds) == 2:
            stat = dict(text.split() for text in _lines(folder / "memory.stat"))
            yield bounds[0] - bounds[1] + int(stat.get(given_back, 0))


def _groups(controller: str) -> Iterator[tuple[Path, int]]:
    """The control groups that bound this process, from its own to the root, each with its version's place above.

    The path may be that of the host, of which a container sees the end alone: folders that are not there are harmless.
    """
    for line in _lines(_OWN_GROUPS):
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        root = _GROUPS / controllers
        group = root / path.lstrip("/")
        for folder in (group, *group.parents):
            if not folder.is_relative_to(root):
                break
            yield folder, 1 if controllers else 0


def _lines(file: Path) -> list[str]:
    """Lines of a file; none where it cannot be read."""
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
