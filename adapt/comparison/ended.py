"""What became of a process that has ended: that of a run, or the one that does all runs."""

from __future__ import annotations

import contextlib
import re
import shutil
import signal
from pathlib import Path

from adapt.comparison.store import Store
from adapt.machine import killed_for_memory
from adapt.result import Result
from adapt.spec import AdaptError, OutOfMemory, Run

_SMALLER = "use fewer jobs, a smaller batch_size or backbone"


def outcome(job: Path, run: Run, code: int, store: Store, kills: int) -> tuple[str, str | None]:
    """The status of a run whose process ended, and why it has that.

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
    if error := _text(job.with_suffix(".error")):
        raise AdaptError(error)
    content = store.read(run, failed=code == 0)  # whatever the code: another comparison here may have done it
    if content is not None and content["status"] != "failed":
        return content["status"], content["reason"]
    if _for_memory(code, kills):
        reason = f"memory ran out, and the system killed the process; {_SMALLER}"
        store.write(Result(run=run, status="out_of_memory", reason=reason))
        return "out_of_memory", reason
    reason = _without_paths(_why(job, code))
    store.write(Result(run=run, status="failed", reason=reason))
    with contextlib.suppress(OSError):
        shutil.copyfile(job.with_suffix(".log"), store.log(run))
    return "failed", f"{reason} (see {store.log(run)})"


def lost(code: int, log: Path, kills: int) -> AdaptError:
    """The error that the process which does the runs ended before they did.

    Args:
        code: Its exit code.
        log: What it printed.
        kills: Processes that the system had killed for want of memory when it began.
    """
    kept = "Results so far are kept; the same command goes on from there."
    if _for_memory(code, kills):
        return OutOfMemory(f"Memory ran out, and the system killed the process that does the runs; {_SMALLER}. {kept}")
    last = _last_line(log)
    return AdaptError(f"The process that does the runs {_how(code)} unexpectedly{last and ': ' + last}. {kept}")


def _for_memory(code: int, kills: int) -> bool:
    """Whether a process was killed, and the system has killed one for want of memory meanwhile."""
    return _was_killed(code) and killed_for_memory() > kills


def _was_killed(code: int) -> bool:
    return code == -getattr(signal, "SIGKILL", 9)  # there is no such signal on Windows


def _why(job: Path, code: int) -> str:
    if _was_killed(code):
        return f"the process {_how(code)}; the system may have run out of memory"
    if code > 0 and (reason := " ".join(_text(job.with_suffix(".reason")).split())):
        return reason[:500]
    last = _last_line(job.with_suffix(".log"))
    return f"the process {_how(code)} and left no result{last and ': ' + last}"


def _how(code: int) -> str:
    return f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"


def _last_line(log: Path) -> str:
    lines = _text(log).strip().splitlines()
    return lines[-1][:500] if lines else ""


def _text(file: Path) -> str:
    """What a file says; nothing where it is not there, or where there was no room for what it was to say."""
    return file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""


def _without_paths(text: str) -> str:
    """Absolute paths cut to their last part: results say nothing about the machine's folders."""
    windows = r"(?<!\w)(?:[A-Za-z]:[\\/]+|\\\\+)(?:[^\\/\s'\"]+[\\/]+)*([^\\/\s'\"]*)"
    text = re.sub(windows, r"\1", text)
    return re.sub(r"(?<![\w/.])(?<!:/)(?:/[^/\s'\"]+)+/([^/\s'\"]*)", r"\1", text)
