"""How a command ends: an error is one line, and any text can be written."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys

import click
import pytest

import adapt
from adapt.cli import plain_errors
from adapt.spec import AdaptError


@pytest.fixture(autouse=True)
def _signals_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapt.cli.ending.heed_signals", lambda: None)


def test_names_of_others_do_not_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"), plain_errors(goes_on=False):
        raise AdaptError("Backbone \x1b[2Jnone\x9b0m of\n سلام‌ها is\tgone.")
    assert capsys.readouterr().err == "adapt: Backbone \\x1b[2Jnone\\x9b0m of سلام‌ها is gone.\n"


def test_a_full_disk_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"), plain_errors(goes_on=False):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert capsys.readouterr().err == "adapt: No space left on device; free some space.\n"
    with pytest.raises(PermissionError), plain_errors(goes_on=False):
        raise PermissionError(errno.EACCES, "Permission denied")


def test_python_runs_the_package_as_the_command() -> None:
    command = [sys.executable, "-m", "adapt", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"python -m adapt, version {adapt.__version__}\n"


def test_a_reader_who_has_read_enough_sees_no_error() -> None:
    script = """
from adapt.cli import plain_errors
with plain_errors(goes_on=False):
    for line in range(100_000):
        print(line)
"""
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "0\n"
        process.stdout.close()
        assert process.stderr is not None
        assert (process.stderr.read(), process.wait()) == ("", 1)


def test_what_standard_output_has_no_character_for_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="cp1251"))
    with plain_errors(goes_on=False):
        click.echo("32 × 1, ግምገማ, слово")
    assert written.getvalue().decode("cp1251") == rf"32 \xd7 1, \u130d\u121d\u1308\u121b, слово{os.linesep}"
