"""Folders for temporary files, and folders that are written whole or not at all."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from safetensors import SafetensorError

from adapt import files
from adapt.files import scratch_folder, whole_folder, writing
from adapt.spec import OptionError

KILLED = """
import os, signal
from adapt.files import scratch_folder
with scratch_folder() as folder:
    (folder / "rows").mkdir()
    (folder / "rows" / "data").write_text("much")
    print(folder, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.skipif(sys.platform == "win32", reason="locks of POSIX")
def test_what_a_killed_process_left_is_removed_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    (tmp_path / "adapt-notes").mkdir()
    (tmp_path / "adapt-notes" / "mine.txt").write_text("dear")
    (tmp_path / "adapt-file").write_text("dear")
    with scratch_folder() as living:
        (living / "general.json").write_text("[]")
        done = subprocess.run([sys.executable, "-c", KILLED], capture_output=True, text=True, check=False)
        left = Path(done.stdout.strip())
        assert (left.parents[1], (left / "rows" / "data").read_text()) == (tmp_path, "much")
        others = sorted(path.name for path in tmp_path.iterdir() if path != left.parent)
        with scratch_folder() as another:
            assert sorted(path.name for path in tmp_path.iterdir() if path != another.parent) == others
        assert (living / "general.json").read_text() == "[]"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapt-file", "adapt-notes"]


@pytest.mark.skipif(sys.platform == "win32", reason="locks of POSIX")
def test_what_was_not_removed_to_the_end_is_removed_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill() -> None:
        with scratch_folder() as folder:
            (folder / "general.json").write_text("[]")
            monkeypatch.setattr("os.rmdir", interrupt)

    def interrupt(*given: object, **rest: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        fill()
    monkeypatch.undo()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert len(list(tmp_path.iterdir())) == 1
    with scratch_folder():
        assert len(list(tmp_path.iterdir())) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="users of POSIX")
def test_what_belongs_to_another_user_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left = tmp_path / "adapt-left"
    left.mkdir()
    (left / "owner.lock").touch()
    monkeypatch.setattr("os.geteuid", lambda: left.stat().st_uid + 1)
    with scratch_folder():
        assert left.exists()
    monkeypatch.undo()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with scratch_folder():
        assert not left.exists()


def test_where_no_temporary_file_can_be_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(OptionError, match=r"nowhere cannot be written: No such file .*have TMPDIR name a folder"):
        scratch_folder().__enter__()
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_get_default_tempdir", lambda: open(tmp_path / "none"))  # noqa: PTH123, SIM115
    with pytest.raises(OptionError, match="No such file or directory; free some space, or have TMPDIR name a folder"):
        scratch_folder().__enter__()


@pytest.mark.parametrize("error", [FULL, SafetensorError("I/O error: No space left on device (os error 28)")])
def test_a_folder_is_filled_as_a_whole_or_not_at_all(tmp_path: Path, error: Exception) -> None:
    (tmp_path / "config.json").write_text("old")

    def fill() -> None:
        with whole_folder(tmp_path) as new:
            (new / "config.json").write_text("new")
            raise error

    with pytest.raises(OptionError, match=f"^Folder {tmp_path} cannot be written: .*No space left on device.*; free"):
        fill()
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
    assert (tmp_path / "config.json").read_text() == "old"
    with whole_folder(tmp_path) as new:
        (new / "config.json").write_text("new")
        (new / "weights").write_text("1")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"config.json": "new", "weights": "1"}


def test_errors_of_ours_are_not_told_of_the_disk(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"^row 3$"), writing(tmp_path):
        raise OptionError("row 3")


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone has this")
def test_folders_in_memory_are_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert files._in_memory(Path("/proc/self")) is False
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    number = f"{os.major(tmp_path.stat().st_dev)}:{os.minor(tmp_path.stat().st_dev)}"
    mounts = tmp_path / "mountinfo"
    monkeypatch.setattr(files, "_MOUNTS", mounts)
    line = f"29 1 {number} / / rw,relatime shared:1 - "
    for kind, there in (("ext4 /dev/vda rw", True), ("tmpfs tmpfs rw", False)):
        mounts.write_text(f"30 1 0:1 / /elsewhere rw - tmpfs tmpfs rw\n{line}{kind}\n")
        assert (tmp_path in files.folders_on_disk()) is there


def test_what_is_put_aside_lies_on_a_disk_where_the_usual_folder_does_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    usual, other = tmp_path / "usual", tmp_path / "other"
    for folder in (usual, other):
        folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(usual))
    for on_disk, expected in (([usual, other], usual), ([other], other), ([], usual)):
        monkeypatch.setattr(files, "folders_on_disk", lambda found=on_disk: found)
        with scratch_folder() as work:
            assert expected in work.parents
    assert not [*usual.iterdir(), *other.iterdir()]
