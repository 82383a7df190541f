"""Executes runs, each in a process of its own, and reports what happens."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from adapt.comparison.ended import lost, outcome
from adapt.comparison.jobs import Todo
from adapt.comparison.store import Store
from adapt.comparison.times import Times
from adapt.files import TMPDIR, scratch_folder, writing
from adapt.machine import STOPPING, cores, killed_for_memory, short_waits
from adapt.spec import Run

WORKER = (sys.executable, "-P", "-m", "adapt.comparison.worker")
"""Command of the process that does the runs; modules are not looked for in the working folder, which is the user's."""

_INSTALLED = ("site-packages", "dist-packages")
"""Folders in which any process looks for packages."""


@dataclass(frozen=True)
class Event:
    """Something to show: a run was `found` done, `started`, has a `note`, made a `step`, or `ended` with a status; or
    its teacher, and that of others, is `asked` about rows."""

    what: str
    run: Run
    done: int = 0
    """Steps made, rows asked about; where a run has ended, how many have of those that were still to be done."""
    total: int = 0
    """Of how many."""
    loss: float | None = None
    status: str | None = None
    reason: str | None = None
    """Why it ended so; what the note says."""
    seconds_left: float | None = None
    """Where a run has ended: about how long the others will take; None while that cannot be said."""


OnEvent = Callable[[Event], None]


def execute(todo: Todo, store: Store, *, jobs: int = 1, on_event: OnEvent = lambda event: None) -> None:
    """Do runs and store each result as it comes.

    Args:
        todo: Runs that have no result yet, and what they need.
        store: Takes the results.
        jobs: Runs done at the same time (one where the system cannot fork). The cores are shared out between as many,
            unless OMP_NUM_THREADS says how many threads each has; also where fewer runs are left, for bits of a result
            depend on the threads, and what goes on later is to be as if it had never stopped.
        on_event: Told what happens.

    Raises:
        AdaptError: A run met bad input, which concerns them all; results stored so far stay.
        OutOfMemory: The system killed the process that does the runs.
    """
    if not todo.runs:
        return
    with scratch_folder() as work:
        with writing(work.parents[1], TMPDIR):
            todo.save(work, store)
        named = {str(i): run for i, (run, _) in enumerate(todo.runs)}
        if hasattr(os, "fork"):
            with _interrupts() as check, _worker(work, _threads(jobs)) as process:
                _serve(process, named, work, store, jobs, on_event, check)
        else:
            _one_by_one(named, work, store, on_event)


def _serve(
    process: subprocess.Popen[bytes],
    runs: Mapping[str, Run],
    work: Path,
    store: Store,
    jobs: int,
    on_event: OnEvent,
    check: Callable[[], None],
) -> None:
    """Hand the jobs to the worker, as many at a time as asked for, until all have ended."""
    assert process.stdin is not None
    assert process.stdout is not None
    waiting, running = list(runs), dict[str, tuple[float, int]]()
    took: dict[int, float] = {}
    times, before = Times(jobs), killed_for_memory()
    while waiting or running:
        check()
        line = process.stdout.readline().decode().split()
        if not line:
            raise lost(process.wait(), work / "worker.log", before)
        if line[0] == "step":
            on_event(Event("step", runs[line[1]], int(line[2]), int(line[3]), float(line[4])))
            continue
        if line[0] == "note":
            on_event(Event("note", runs[line[1]], reason=" ".join(line[2:])))
            continue
        if line[0] == "end":
            (started, kills), run, now = running.pop(line[1]), runs[line[1]], time.monotonic()
            took[id(run.strategy)] = now - started
            status, reason = outcome(work / line[1], run, int(line[2]), store, kills)
            times.took(run, now - started, status)
            others = [(runs[name], 0.0) for name in waiting]
            others += [(runs[name], now - begun) for name, (begun, _) in running.items()]
            done, left = len(runs) - len(others), times.left(others)
            on_event(Event("ended", run, done, len(runs), status=status, reason=reason, seconds_left=left))
        while waiting and len(running) < jobs:
            name = next_of(waiting, runs, took)
            waiting.remove(name)
            running[name] = time.monotonic(), killed_for_memory()
            on_event(Event("started", runs[name]))
            with contextlib.suppress(BrokenPipeError):  # it died: reading its next line says so
                process.stdin.write(os.fsencode(work / f"{name}.json") + b"\n")
                process.stdin.flush()


def next_of(waiting: Sequence[str], runs: Mapping[str, Run], took: Mapping[int, float]) -> str:
    """The run to start next: of those on the first rows that wait, the one whose strategy took longest before.

    So the last to end are short ones, and few cores wait for them.

    Args:
        waiting: Names of runs, those on the same training rows one after another.
        runs: Name to run.
        took: Seconds of a run, by the identity of its strategy; one not seen yet comes before others.
    """
    first = runs[waiting[0]]
    return max(
        (name for name in waiting if runs[name].seed == first.seed and runs[name].task == first.task),
        key=lambda name: took.get(id(runs[name].strategy), float("inf")),
    )


@contextlib.contextmanager
def _interrupts() -> Iterator[Callable[[], None]]:
    """A function that raises KeyboardInterrupt once there was an interrupt, also one that got lost.

    Python drops an exception that a signal raises within a finaliser, as a progress bar's; a comparison that is told to
    stop must stop nevertheless.
    """
    came = False

    def remember(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = True
        raise KeyboardInterrupt

    def check() -> None:
        if came:
            raise KeyboardInterrupt

    ours = threading.current_thread() is threading.main_thread()
    numbers = [number for number in STOPPING if ours and signal.getsignal(number) is signal.default_int_handler]
    for number in numbers:
        signal.signal(number, remember)
    try:
        yield check
    finally:
        for number in numbers:
            signal.signal(number, signal.default_int_handler)


def _one_by_one(runs: Mapping[str, Run], work: Path, store: Store, on_event: OnEvent) -> None:
    """Where the system cannot fork: a fresh process a run, which imports everything anew."""
    times, waiting = Times(1), list(runs.values())
    for name, run in runs.items():
        on_event(Event("started", run))
        command, kills, started = [*WORKER, str(work / f"{name}.json")], killed_for_memory(), time.monotonic()
        process = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env=_environment(_threads(1)), check=False,
        )  # fmt: skip
        status, reason = outcome(work / name, run, process.returncode, store, kills)
        times.took(run, time.monotonic() - started, status)
        del waiting[0]
        done, left = len(runs) - len(waiting), times.left([(other, 0.0) for other in waiting])
        on_event(Event("ended", run, done, len(runs), status=status, reason=reason, seconds_left=left))


def _threads(jobs: int) -> int:
    """Threads of each run: what OMP_NUM_THREADS says, else the cores shared out."""
    given = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return int(given) if given.isdigit() and int(given) > 0 else max(1, cores() // jobs)


def _environment(threads: int) -> dict[str, str]:
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    own = {
        "TOKENIZERS_PARALLELISM": "false",
        "PYTORCH_NVML_BASED_CUDA_CHECK": "1",  # to see whether there is a GPU must not take hold of it before a fork
    }
    package = Path(__file__).resolve().parents[2]
    if package.name not in _INSTALLED:  # the user's own process found it by a path, maybe one from another folder
        own["PYTHONPATH"] = os.pathsep.join(filter(None, (str(package), os.environ.get("PYTHONPATH"))))
    return {**os.environ, **dict.fromkeys(names, str(threads)), **short_waits(os.environ), **own}


@contextlib.contextmanager
def _worker(work: Path, threads: int) -> Iterator[subprocess.Popen[bytes]]:
    """The warm process, in a session of its own; at the end it is stopped with whatever it runs."""
    with (work / "worker.log").open("wb") as log:
        process = subprocess.Popen(
            WORKER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
            env=_environment(threads), start_new_session=True,
        )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process
    finally:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGTERM)
        process.stdout.read()  # ends when the last of its processes has
        process.stdout.close()
        process.wait()
