"""A warm process that runs each job in a fork of itself.

Importing torch, transformers and peft takes seconds; this process does it once and never runs an operation, so that
its forks are clean. Each run has a process of its own: its crash and its memory are its own. Where the system cannot
fork, the runner starts one such process a run.

Lines in, on standard input: the path of a job file. Lines out, on standard output: `ready`;
`step ID DONE TOTAL LOSS`; `end ID EXIT-CODE`. A run that ends by itself writes its result file; bad input is written
to the job's `error` file.
"""

from __future__ import annotations

import json
import os
import select
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

_POLL_SECONDS = 0.02


def main() -> None:
    """Serve jobs until standard input ends."""
    import accelerate  # noqa: F401
    import datasets
    import evaluate  # noqa: F401
    import peft  # noqa: F401
    import torch
    import transformers  # noqa: F401

    import adapt.run
    import adapt.training  # noqa: F401

    datasets.disable_progress_bars()
    torch.set_num_threads(int(os.environ.get("ADAPT_THREADS", "1")))
    children: dict[int, str] = {}
    say("ready")
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
                job = line.decode()
                pid = os.fork()
                if pid == 0:
                    _child(Path(job))
                children[pid] = job
        for pid in list(children):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                say(f"end {children.pop(pid)} {os.waitstatus_to_exitcode(status)}")


def say(line: str) -> None:
    """One line to the runner, in one write, so that lines of several processes do not mix."""
    os.write(1, (line + "\n").encode())


def _child(file: Path) -> NoReturn:
    code = 1
    try:
        log = os.open(str(file.with_suffix(".log")), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 2)
        os.close(0)
        sys.stdout = sys.stderr
        work(file)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def work(file: Path) -> None:
    """Do one job: read the file, run, write the result."""
    from datasets import load_from_disk

    from adapt.backbones import Backbone
    from adapt.comparison.store import Store
    from adapt.data import Data
    from adapt.run import run, run_from
    from adapt.spec import AdaptError, Source

    job: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    spec = run_from(job["spec"])
    stored = load_from_disk(job["data"])
    data = Data(spec.task.name, spec.task.problem, spec.task.labels, dict(stored), spec.task.data.sha256)
    backbone = Backbone(
        Source(**job["backbone"]["source"]), job["backbone"]["reference"], Path(job["backbone"]["path"])
    )
    try:
        result = run(spec, data, backbone, lambda done, total, loss: say(f"step {file} {done} {total} {loss:.4f}"))
    except AdaptError as error:
        file.with_suffix(".error").write_text(str(error), encoding="utf-8")
        return
    Store(job["store"]).write(result)


if __name__ == "__main__":
    main()
