"""Files: nothing half-written is taken for whole, nothing temporary stays, and what cannot be read is told of."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from adapt.spec import AdaptError, OptionError

if sys.platform != "win32":
    import fcntl

TMPDIR = "have TMPDIR name a folder on another disk"
"""What can be done where the disk of temporary files is full."""
_MOUNTS = Path("/proc/self/mountinfo")
_IN_MEMORY = ("tmpfs", "ramfs")
"""Kinds of file systems, as proc(5) has them."""
_SCRATCH, _OWNER, _WORK = "adapt-", "owner.lock", "work"
"""How the names of temporary folders begin, and what is in them: the file that their process holds locked, and what it
works with."""


def path_of(given: Any) -> Path:
    """A path as somebody gives it, whether there is such a file or not; `~` is the home folder.

    Raises:
        OptionError: It is no path, or one that cannot be looked up.
    """
    try:
        if given == "":
            raise ValueError("it is empty")
        path = Path(given).expanduser()
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            path.lstat()
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error).rstrip(".")
        raise OptionError(f"{str(given)[:200]!r} is no path that can be used: {reason}; give another.") from error
    return path


@contextlib.contextmanager
def reading(what: str) -> Iterator[None]:
    """A block that reads the files of `what`.

    Raises:
        AdaptError: One of them may not be read, or not even looked at.
    """
    try:
        yield
    except OSError as error:
        raise AdaptError(f"{what} cannot be read ({error}); see to its permissions.") from error


def writable_folder(folder: str | Path) -> Path:
    """Make a folder, and find out before the work whether it can be written; `~` is the home folder.

    Raises:
        OptionError: It cannot.
    """
    path = path_of(folder)
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
    path = path_of(target)
    if isinstance(source, str | Path) and path.resolve() == path_of(source).resolve():
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


@contextlib.contextmanager
def writing(folder: Path, instead: str = "give another folder") -> Iterator[None]:
    """A block that writes into a folder.

    Args:
        folder: The folder.
        instead: What can be done where its disk is full.

    Raises:
        OptionError: Something cannot be written.
    """
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OptionError(f"Folder {folder} cannot be written: {reason}; free some space, or {instead}.") from error


@contextlib.contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A folder to write into, whose files go to `folder` once the block has ended well, and else are gone.

    Raises:
        OptionError: They cannot be written; what was there is as it was.
    """
    part = _beside(folder / "new")
    try:
        with writing(folder):
            part.mkdir(parents=True)
            yield part
            for file in part.iterdir():
                file.replace(folder / file.name)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def folders_on_disk() -> list[Path]:
    """Folders for temporary files that do not lie in memory: that of TMPDIR, and /var/tmp."""
    try:
        known = dict.fromkeys((tempfile.gettempdir(), "/var/tmp"))  # Filesystem Hierarchy Standard, section 5.15
    except FileNotFoundError:  # none can be written
        return []
    return [folder for folder in map(Path, known) if folder.is_dir() and not _in_memory(folder)]


def _in_memory(folder: Path) -> bool:
    """Whether what is written there takes memory, as far as Linux tells."""
    try:
        mounts = _MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    device = folder.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    kinds = [line.partition(" - ")[2].split()[0] for line in mounts if line.split()[2] == number]
    return any(kind in _IN_MEMORY for kind in kinds)


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder among those for temporary files, gone at the end of the block: in that of TMPDIR, or in /var/tmp where
    that one lies in memory itself, as /tmp does on many systems, for gigabytes may be put there.

    One whose process was killed stays, and is removed by the next call: beside each there is a file that its process
    holds locked, and which the system unlocks with the end of the process, however that comes.

    Raises:
        OptionError: It cannot be made.
    """
    try:
        usual = Path(tempfile.gettempdir())
    except FileNotFoundError as error:
        raise OptionError(f"{error.strerror}; free some space, or {TMPDIR}.") from error
    others = [folder for folder in folders_on_disk() if os.access(folder, os.W_OK)]
    place = others[0] if others and usual.is_dir() else usual
    for folder in {usual, place}:
        _remove_left(folder)
    with writing(place, TMPDIR):
        folder = Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=place))
    with _owned(folder):
        try:
            with writing(place, TMPDIR):
                (folder / _WORK).mkdir()
            yield folder / _WORK
        finally:
            _remove(folder)


def _remove(folder: Path) -> None:
    """Remove a temporary folder, the lock last, by which it is known where this is interrupted."""
    shutil.rmtree(folder / _WORK, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _owned(folder: Path) -> Iterator[None]:
    """A folder as that of this process, as others know by a lock; where there are no locks they do not."""
    with contextlib.ExitStack() as stack:
        if sys.platform != "win32":
            with contextlib.suppress(OSError):
                mark = stack.enter_context((folder / f"{_OWNER}.part").open("xb"))
                fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
                Path(mark.name).rename(folder / _OWNER)  # whoever finds it finds it locked
        yield


def _remove_left(place: Path) -> None:
    """Remove the folders of processes that have ended."""
    if sys.platform == "win32":
        return
    for folder in place.glob(f"{_SCRATCH}*"):
        with contextlib.suppress(OSError):  # it is not one of ours, it is in use, or it has gone meanwhile
            if folder.lstat().st_uid == os.geteuid():
                with (folder / _OWNER).open("rb") as mark:
                    fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    _remove(folder)


def _beside(path: Path) -> Path:
    """A hidden name in the same folder that no other process or thread has, in whichever container it runs."""
    return path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")
