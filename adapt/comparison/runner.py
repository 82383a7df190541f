"""Executes runs, each in a process of its own, and reports what happens."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, MappingProxyType
from typing import TYPE_CHECKING, Any

from adapt.backbones.source import Backbone
from adapt.comparison.store import Store
from adapt.data import Data
from adapt.files import TMPDIR, scratch_folder, writing
from adapt.machine import STOPPING, cores, killed_for_memory
from adapt.spec import AdaptError, Result, Run, fields_of

if TYPE_CHECKING:
    from adapt.distillation import Lessons

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
    total: int = 0
    loss: float | None = None
    status: str | None = None
    reason: str | None = None
    """Why it ended so; what the note says."""


OnEvent = Callable[[Event], None]


def execute(
    todo: Sequence[tuple[Run, Data]],
    backbone: Backbone,
    store: Store,
    *,
    jobs: int = 1,
    on_event: OnEvent = lambda event: None,
    lessons: Lessons | None = None,
    general: Sequence[str] = (),
    starts: Mapping[str, Path] = MappingProxyType({}),
    made_by: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Do runs and store each result as it comes.

    Args:
        todo: Runs on one backbone that have no result yet, each with the rows of its task; those of the same rows one
            after another.
        backbone: Where the backbone is.
        store: Takes the results.
        jobs: Runs done at the same time (one where the system cannot fork). The cores are shared out between them,
            unless OMP_NUM_THREADS says how many threads each has.
        on_event: Told what happens.
        lessons: What those of them that have a teacher take from it.
        general: The texts that the runs' `general` is of.
        starts: Folders of the models that runs go on from, by the hash of their `start`.
        made_by: What their results' `environment` says of how they came to be made.

    Raises:
        AdaptError: A run met bad input, which concerns them all; results stored so far stay.
    """
    if not todo:
        return
    with scratch_folder() as work:
        with writing(work.parents[1], TMPDIR):
            _lay_out(work, todo, backbone, store, lessons, general, starts, made_by)
        named = {str(i): run for i, (run, _) in enumerate(todo)}
        if hasattr(os, "fork"):
            with _interrupts() as check, _worker(work, _threads(jobs)) as process:
                _serve(process, named, work, store, jobs, on_event, check)
        else:
            _one_by_one(named, work, store, on_event)


def _lay_out(
    work: Path,
    todo: Sequence[tuple[Run, Data]],
    backbone: Backbone,
    store: Store,
    lessons: Lessons | None,
    general: Sequence[str],
    starts: Mapping[str, Path],
    made_by: Mapping[str, Any],
) -> None:
    """Write a file for each job, named by its number, and what the jobs read; see `execute` for the arguments."""
    (work / "general.json").write_text(json.dumps(general), encoding="utf-8")
    if lessons is not None:
        with _without_bars():
            lessons.save(work / "lessons")
    shared = {
        "lessons": None if lessons is None else str(work / "lessons"),
        "general": str(work / "general.json"),
        "starts": {digest: str(folder.resolve()) for digest, folder in starts.items()},
        "store": str(store.folder.resolve()),
        "made_by": dict(made_by),
        "backbone": {
            "source": fields_of(backbone.source),
            "reference": backbone.reference,
            "path": str(backbone.path.resolve()),
        },
    }
    saved: dict[int, Path] = {}
    for i, (run, data) in enumerate(todo):
        if id(data) not in saved:
            saved[id(data)] = work / f"rows{len(saved)}"
            _save_rows(data, saved[id(data)])
        rows = {"data": str(saved[id(data)]), "notes": data.notes, "columns": dict(data.columns)}
        (work / f"{i}.json").write_text(json.dumps({"spec": run.spec(), **rows, **shared}), encoding="utf-8")


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
    while waiting or running:
        check()
        line = process.stdout.readline().decode().split()
        if not line:
            code, last = process.wait(), _last_line(work / "worker.log")
            raise AdaptError(
                f"The process that does the runs {_how(code)} unexpectedly{last and ': ' + last}. Results so far are "
                "kept; the same command goes on from there."
            )
        if line[0] == "step":
            on_event(Event("step", runs[line[1]], int(line[2]), int(line[3]), float(line[4])))
            continue
        if line[0] == "note":
            on_event(Event("note", runs[line[1]], reason=" ".join(line[2:])))
            continue
        if line[0] == "end":
            started, kills = running.pop(line[1])
            took[id(runs[line[1]].strategy)] = time.monotonic() - started
            on_event(_ended(work / line[1], runs[line[1]], int(line[2]), store, kills))
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
    for name, run in runs.items():
        on_event(Event("started", run))
        command, kills = [*WORKER, str(work / f"{name}.json")], killed_for_memory()
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env=_environment(_threads(1)), check=False,
        )  # fmt: skip
        on_event(_ended(work / name, run, done.returncode, store, kills))


def _ended(job: Path, run: Run, code: int, store: Store, kills: int) -> Event:
    """What became of a run whose process ended.

    One that left no result is recorded as `out_of_memory` where the system killed it for want of memory, else as
    `failed`, with its log.

    Args:
        job: Its job file, without suffix.
        run: The run.
        code: Exit code of the process.
        store: Takes the result.
        kills: Processes that the system had killed for want of memory when the run began.

    Raises:
        AdaptError: It met bad input, which concerns every run.
    """
    error = job.with_suffix(".error")
    if error.exists():
        raise AdaptError(error.read_text(encoding="utf-8"))
    content = store.read(run, failed=code == 0)  # whatever the code: another comparison here may have done it
    if content is not None and content["status"] != "failed":
        return Event("ended", run, status=content["status"], reason=content["reason"])
    if _was_killed(code) and killed_for_memory() > kills:
        reason = "memory ran out, and the system killed the process; use fewer jobs, a smaller batch_size or backbone"
        store.write(Result(run=run, status="out_of_memory", reason=reason))
        return Event("ended", run, status="out_of_memory", reason=reason)
    reason = _without_paths(_why(job, code))
    store.write(Result(run=run, status="failed", reason=reason))
    with contextlib.suppress(OSError):
        shutil.copyfile(job.with_suffix(".log"), store.log(run))
    return Event("ended", run, status="failed", reason=f"{reason} (see {store.log(run)})")


def _why(job: Path, code: int) -> str:
    if _was_killed(code):
        return f"the process {_how(code)}; the system may have run out of memory"
    if code > 0 and (reason := job.with_suffix(".reason")).exists():
        return " ".join(reason.read_text(encoding="utf-8").split())[:500]
    last = _last_line(job.with_suffix(".log"))
    return f"the process {_how(code)} and left no result{last and ': ' + last}"


def _was_killed(code: int) -> bool:
    return code == -getattr(signal, "SIGKILL", 9)  # there is no such signal on Windows


def _how(code: int) -> str:
    return f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.exists() else []
    return lines[-1][:500] if lines else ""


def _without_paths(text: str) -> str:
    """Absolute paths cut to their last part: results say nothing about the machine's folders."""
    return re.sub(r"(?<![\w/.])(?<!:/)(?:/[^/\s'\"]+)+/([^/\s'\"]*)", r"\1", text)


def _save_rows(data: Data, folder: Path) -> None:
    from datasets import DatasetDict

    with _without_bars():
        DatasetDict(dict(data.splits)).save_to_disk(folder)


@contextlib.contextmanager
def _without_bars() -> Iterator[None]:
    """Have `datasets` show no progress bars, which would stand among those of the runs."""
    from datasets import disable_progress_bars, enable_progress_bars
    from datasets.utils import is_progress_bar_enabled

    bars = is_progress_bar_enabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if bars:
            enable_progress_bars()


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
    found = package in {Path(entry).resolve() for entry in sys.path}  # as the user's own process has found it
    if found and package.name not in _INSTALLED:
        own["PYTHONPATH"] = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(package))))
    return {**os.environ, **dict.fromkeys(names, str(threads)), **own}


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
