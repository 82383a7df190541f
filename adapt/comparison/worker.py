"""A warm process that runs each job in a fork of itself.

Importing torch, transformers and peft takes seconds; this process does it once, and reads and encodes the rows once. It
never runs an operation of torch, so that its forks are clean. Each run has a process of its own: its crash and its
memory are its own. Where the system cannot fork, the runner starts this module once for each job, with the job file as
its argument.

Lines in, on standard input: the path of a job file. Lines out, on what was standard output at the start: `ready`;
`step JOB DONE TOTAL LOSS`; `note JOB WORDS`; `end JOB EXIT-CODE`, where JOB is the file's name without suffix. A run
that ends by itself writes its result file. Beside the job file there may come to be: `JOB.error`, bad input that
concerns every run; `JOB.reason`, the exception that ended the run; `JOB.log`, everything that the run printed.
"""

from __future__ import annotations

import gc
import importlib
import importlib.abc
import importlib.machinery
import os
import select
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from adapt.backbones.slow_imports import import_bitsandbytes
from adapt.comparison.jobs import Job
from adapt.environment import code_state
from adapt.inputs import Inputs
from adapt.run import run
from adapt.spec import AdaptError

_IMPORTS = (
    "accelerate", "datasets", "peft", "scipy.stats", "sklearn.metrics", "torch", "transformers",
    "adapt.backbones.heads", "adapt.memory.observe", "adapt.training",
)  # fmt: skip
"""What a run imports sooner or later, and takes long."""
_POLL_SECONDS = 0.02


def main() -> None:
    """Do the job named by the argument; without one, serve jobs until standard input ends."""
    channel = os.dup(1)
    os.dup2(2, 1)  # what libraries print must not be taken for a line to the runner
    if len(sys.argv) > 1:
        _child(Path(sys.argv[1]), channel)
    warm()
    serve(channel)


def warm() -> None:
    """Import what every run needs, and run nothing; a GPU is left to the forks."""
    gc.disable()  # to look for garbage among modules takes a quarter of the time
    import_all(_IMPORTS)
    code_state()  # now, of what is imported: the forks inherit it, whatever is written there meanwhile
    gc.freeze()  # nor do the forks look there, and copy what they look at
    gc.enable()
    import datasets
    import torch

    datasets.disable_progress_bars()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))


def import_all(names: Sequence[str]) -> None:
    """Import modules without taking hold of a GPU, which forks could then not use.

    bitsandbytes does, and peft imports it where it is installed; it is left to the forks.

    Raises:
        RuntimeError: A GPU is in use nevertheless.
    """
    import torch

    on_a_gpu = torch.version.cuda or torch.version.hip
    if not on_a_gpu:
        import_bitsandbytes()
    with _postponed("bitsandbytes") if on_a_gpu else nullcontext():
        for name in names:
            importlib.import_module(name)
    if torch.cuda.is_initialized():
        raise RuntimeError("an import has taken hold of the GPU, which the runs could then not use")


class _Later(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds a package, and refuses to import it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        found = importlib.machinery.PathFinder.find_spec(name) if name == self._name else None
        return None if found is None else importlib.machinery.ModuleSpec(name, self, origin=found.origin)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        raise ImportError(f"{spec.name} is imported later")

    def exec_module(self, module: ModuleType) -> None:
        """Never called: there is no module."""


@contextmanager
def _postponed(name: str) -> Iterator[None]:
    """Let imports of a package fail, where it has not been imported; whoever asks is told that it is installed."""
    finder = _Later(name)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


def serve(channel: int) -> None:
    """Fork for each job that comes on standard input, until it ends and the last fork with it."""
    children: dict[int, str] = {}
    shared = None
    _say(channel, "ready")
    open_ended = True
    buffered = b""
    while open_ended or children:
        readable = select.select([0] if open_ended else [], [], [], _POLL_SECONDS)[0]
        if readable:
            chunk = os.read(0, 65536)
            open_ended = bool(chunk)
            buffered += chunk
            *lines, buffered = buffered.split(b"\n")
            for line in lines:
                file = Path(os.fsdecode(line))
                shared = share(file, shared)
                pid = os.fork()
                if pid == 0:
                    _child(file, channel, shared)
                children[pid] = file.stem
        for pid in list(children):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                _say(channel, f"end {children.pop(pid)} {os.waitstatus_to_exitcode(status)}")


def _say(channel: int, line: str) -> None:
    """One line to the runner, in one write, so that lines of several processes do not mix."""
    os.write(channel, (line + "\n").encode())


def _child(file: Path, channel: int, shared: Shared | None = None) -> NoReturn:
    code, parent = 1, os.getppid()

    def on_step(done: int, total: int, loss: float) -> None:
        if os.getppid() != parent:  # nobody is there to take the result
            os._exit(1)
        _say(channel, f"step {file.stem} {done} {total} {loss:.4f}")

    def on_note(note: str) -> None:
        _say(channel, f"note {file.stem} {' '.join(note.split())}")

    try:
        log = os.open(file.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(0)
        work(file, on_step, on_note, shared)
        code = 0
    except BaseException as error:
        traceback.print_exc()
        file.with_suffix(".reason").write_text(f"{type(error).__name__}: {error}", encoding="utf-8")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


@dataclass(frozen=True)
class Shared:
    """What the runs of a comparison have in common: it is read and encoded once, and their processes inherit it."""

    key: str
    """Says what it is of."""
    inputs: Inputs
    """With rows that are encoded, whichever run asks."""


def share(file: Path, before: Shared | None) -> Shared | None:
    """What the run of a job file shares with others; what was made `before`, where it is the same.

    None where it cannot be made: the run itself meets what is wrong, and says so.
    """
    try:
        job = Job.read(file)
        if before is not None and before.key == job.key:
            return before
        inputs = job.inputs()
        encoded = inputs.encoded(job.run)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # a tokenizer's panic is no Exception
        return None
    gc.freeze()  # the rows, too
    return Shared(job.key, replace(inputs, encoded_by=lambda *_: encoded))


def work(
    file: Path,
    on_step: Callable[[int, int, float], None],
    on_note: Callable[[str], None],
    shared: Shared | None = None,
) -> None:
    """Do one job: read the file, run, write the result."""
    job = Job.read(file)
    try:
        inputs = job.inputs() if shared is None else replace(shared.inputs, features=job.features)
        job.store(run(job.run, job.begun(inputs), on_step, on_note))
    except AdaptError as error:
        file.with_suffix(".error").write_text(str(error), encoding="utf-8")


if __name__ == "__main__":
    main()
