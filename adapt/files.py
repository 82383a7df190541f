"""Writing files so that nothing half-written is taken for whole."""

from __future__ import annotations

import os
from pathlib import Path

from adapt.spec import OptionError


def writable_folder(folder: str | Path) -> Path:
    """Make a folder, and find out before the work whether it can be written.

    Raises:
        OptionError: It cannot.
    """
    path = Path(folder)
    probe = path / f".write-test-{os.getpid()}"
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OptionError(f"Output folder {path} cannot be written: {error.strerror}; choose another.") from error
    return path


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that readers find the old content or the new, never a part."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with part.open("w", encoding="utf-8") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    part.replace(path)
