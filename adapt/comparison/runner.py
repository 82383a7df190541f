"""Executes runs, each in a process of its own, and reports what happens."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from adapt.backbones.source import Backbone
from adapt.comparison.store import Store
from adapt.data import Data
from adapt.spec import AdaptError, Result, Run, fields_of


@dataclass(frozen=True)
class Event:
    """Something to show: a run `started`, made a `step`, or `ended` with a status."""

    what: str
    run: Run
    done: int = 0
    total: int = 0
    loss: float | None = None
    status: str | None = None


def execute(
    runs: Sequence[Run],
    data: Data,
    backbone: Backbone,
    store: Store,
    *,
    jobs: int = 1,
    on_event: Callable[[Event], None] = lambda event: None,
) -> None:
    """Do `runs` and store each result as it comes.

    Args:
        runs: Runs of one task and backbone that have no result yet.
        data: The task's rows.
        backbone: Where the backbone is.
        store: Takes the results.
        jobs: Runs done at the same time; the cores are shared out between them.
        on_event: Told what happens.

    Raises:
        AdaptError: A run met bad input, which concerns them all; results stored so far stay.
    """
    if not runs:
        return
    with tempfile.TemporaryDirectory(prefix="adapt-") as folder:
        work = Path(folder)
        _save_rows(data, work / "rows")
        files = {str(work / f"{i}.json"): run for i, run in enumerate(runs)}
        for file, run in files.items():
            job = {
                "spec": run.spec(),
                "data": str(work / "rows"),
                "store": str(store.folder.resolve()),
                "backbone": {
                    "source": fields_of(backbone.source),
                    "reference": backbone.reference,
                    "path": str(backbone.path.resolve()),
                },
            }
            Path(file).write_text(json.dumps(job), encoding="utf-8")
        process = _start(max(1, (os.cpu_count() or 1) // jobs))
        try:
            _serve(process, files, store, jobs, on_event)
        finally:
            _stop(process)


def _serve(
    process: subprocess.Popen[bytes],
    files: dict[str, Run],
    store: Store,
    jobs: int,
    on_event: Callable[[Event], None],
) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    waiting, running = list(files), set[str]()
    while waiting or running:
        line = process.stdout.readline().decode().split()
        if not line:
            raise AdaptError(f"The process that does the runs ended unexpectedly (exit code {process.wait()}).")
        if line[0] == "step" and line[1] in files:
            done, total, loss = int(line[2]), int(line[3]), float(line[4])
            on_event(Event("step", files[line[1]], done, total, loss))
            continue
        if line[0] == "end":
            running.discard(line[1])
            status = _ended(line[1], files[line[1]], int(line[2]), store)
            on_event(Event("ended", files[line[1]], status=status))
        while waiting and len(running) < jobs:
            file = waiting.pop(0)
            running.add(file)
            on_event(Event("started", files[file]))
            process.stdin.write(f"{file}\n".encode())
            process.stdin.flush()


def _ended(file: str, run: Run, code: int, store: Store) -> str:
    """The status of a run whose process ended; one that left no result has failed."""
    error = Path(file).with_suffix(".error")
    if error.exists():
        raise AdaptError(error.read_text(encoding="utf-8"))
    if code == 0:
        content = store.read(run)
        if content is not None:
            return str(content["status"])
    reason = _why(Path(file).with_suffix(".log"), code)
    store.write(Result(run=run, status="failed", reason=reason))
    return "failed"


def _why(log: Path, code: int) -> str:
    if code < 0:
        hint = "; the system may have run out of memory" if code == -9 else ""
        return f"the process was ended by signal {-code}{hint}"
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.exists() else []
    return lines[-1] if lines else f"the process ended with exit code {code} and no result"


def _save_rows(data: Data, folder: Path) -> None:
    from datasets import DatasetDict, disable_progress_bars, enable_progress_bars
    from datasets.utils import is_progress_bar_enabled

    bars = is_progress_bar_enabled()
    disable_progress_bars()
    DatasetDict(dict(data.splits)).save_to_disk(folder)
    if bars:
        enable_progress_bars()


def _start(threads: int) -> subprocess.Popen[bytes]:
    environment = {
        **os.environ,
        "ADAPT_THREADS": str(threads),
        "OMP_NUM_THREADS": str(threads),
        "OPENBLAS_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "false",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "adapt.comparison.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,
    )


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the worker and whatever it runs."""
    import contextlib
    import signal

    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    process.wait()
    process.stdout.close()
