"""How a command ends: errors are a line, what stops it lets it tidy up, and any text can be written."""

from __future__ import annotations

import errno
import io
import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from adapt.machine import STOPPING
from adapt.spec import AdaptError

_FULL = (errno.ENOSPC, errno.EDQUOT)
"""Errors of the system that say that a disk is full; EDQUOT: for this user."""


def heed_signals() -> None:
    """Ended from outside (a scheduler's time limit, a closed terminal), we stop our processes and tidy up too."""
    for number in STOPPING:
        if signal.getsignal(number) is signal.SIG_DFL:  # `nohup` ignores the last
            signal.signal(number, signal.default_int_handler)


def ignore_signals() -> None:
    """Have a command that is being stopped end by its exit code: Python undoes handlers of signals as it exits, and a
    second signal would end the process by itself."""
    try:
        for number in STOPPING:
            signal.signal(number, signal.SIG_IGN)
    except KeyboardInterrupt:  # one more has come
        ignore_signals()


def write_any_text() -> None:
    """Have standard output escape what its encoding lacks, as standard error does, where it would raise an error: names
    in another script, in a table that is redirected to a file on Windows."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def one_line(text: str) -> str:
    """Text on one line, its control characters escaped: names of others in it must not steer a terminal."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", lambda found: f"\\x{ord(found[0]):02x}", " ".join(text.split()))


@contextmanager
def plain_errors(goes_on: bool) -> Iterator[None]:
    """An error of ours, or a full disk, is one line on standard error and exit code 2; so is an interrupt, with exit
    code 130. Where nobody reads what is printed any longer, it ends with exit code 1.

    Args:
        goes_on: The command is a comparison, which the next one goes on with.
    """
    heed_signals()
    write_any_text()
    try:
        yield
    except AdaptError as error:
        click.echo(f"adapt: {one_line(str(error))}", err=True)
        sys.exit(2)
    except BrokenPipeError:  # whoever reads what is printed has read enough, as `head`; click does the same in commands
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # where what is left is written at exit
        sys.exit(1)
    except OSError as error:
        if error.errno not in _FULL:
            raise
        click.echo(f"adapt: {error.strerror}; free some space.", err=True)
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        ignore_signals()
        kept = "; results so far are kept, the same command goes on from there" if goes_on else ""
        click.echo(f"adapt: stopped{kept}.", err=True)
        sys.exit(130)
