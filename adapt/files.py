"""Writing files so that nothing half-written is taken for whole."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from adapt.spec import OptionError


def writable_folder(folder: str | Path) -> Path:
    """Make a folder, and find out before the work whether it can be written; `~` is the home folder.

    Raises:
        OptionError: It cannot.
    """
    try:
        path = Path(folder).expanduser()
    except RuntimeError as error:  # ~name of nobody
        raise OptionError(f"Output folder {folder} cannot be written: {error}; choose another.") from error
    probe = _beside(path / "write-test")
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        reason = "it is a file" if path.is_file() else error.strerror
        raise OptionError(f"Output folder {path} cannot be written: {reason}; choose another.") from error
    return path


def output_file(target: str | Path, suffixes: Sequence[str], source: object = None) -> Path:
    """Where something is written, found out before the work.

    Args:
        target: The file.
        suffixes: How its name may end.
        source: What is read; no file where it is neither a text nor a path.

    Raises:
        OptionError: It cannot be written there.
    """
    path = Path(target).expanduser()
    if isinstance(source, str | Path) and path.resolve() == Path(source).expanduser().resolve():
        raise OptionError(f"Output {path} is the input, which would be lost; give another file.")
    if path.suffix not in suffixes:
        several = f"{', '.join(suffixes[:-1])} or {suffixes[-1]}" if suffixes[1:] else suffixes[0]
        raise OptionError(f"Output {path} ends in '{path.suffix}'; write to {several}.")
    if path.is_dir():
        raise OptionError(f"Output {path} is a folder; give a file.")
    writable_folder(path.parent)
    return path


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that readers find the old content or the new, never a part.

    Raises:
        OptionError: It cannot be written; what was there is as it was.
    """
    with whole(path) as handle:
        handle.write(text)


@contextlib.contextmanager
def whole(path: Path) -> Iterator[TextIO]:
    """A text file to write into, which takes the place of `path` once the block has ended well, and else is gone.

    Raises:
        OptionError: It cannot be written; what was there is as it was.
    """
    part = _beside(path)
    try:
        with part.open("x", encoding="utf-8", newline="") as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        part.replace(path)
    except OSError as error:
        raise OptionError(f"{path} cannot be written: {error.strerror}.") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


def _beside(path: Path) -> Path:
    """A hidden name in the same folder that no other process or thread has, in whichever container it runs."""
    return path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")
