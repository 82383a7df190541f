"""Writing files so that nothing half-written is taken for whole."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from adapt.spec import OptionError


def writable_folder(folder: str | Path) -> Path:
    """Make a folder, and find out before the work whether it can be written; `~` is the home folder.

    Raises:
        OptionError: It cannot.
    """
    path = Path(folder).expanduser()
    probe = path / f".write-test-{os.getpid()}"
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        reason = "it is a file" if path.is_file() else error.strerror
        raise OptionError(f"Output folder {path} cannot be written: {reason}; choose another.") from error
    return path


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that readers find the old content or the new, never a part.

    Raises:
        OptionError: It cannot be written; what was there is as it was.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("w", encoding="utf-8", newline="") as handle:
            handle.write(text)
            handle.flush()
            os.fsync(handle.fileno())
        part.replace(path)
    except OSError as error:
        raise OptionError(f"{path} cannot be written: {error.strerror}.") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink()
