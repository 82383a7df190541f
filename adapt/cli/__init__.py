"""The command `adapt`."""

from __future__ import annotations

import logging
import os
import sys
import warnings

import click

from adapt.cli.comparing import compare, plan, table
from adapt.cli.ending import plain_errors
from adapt.cli.extracting import attention, probe, represent
from adapt.cli.fitting import distill, fit
from adapt.cli.using import merge, predict, score
from adapt.cli.words import Commands, shown_command
from adapt.machine import few_threads, short_waits

__all__ = ["cli", "main", "plain_errors", "shown_command"]


@click.group(
    cls=Commands,
    commands=[attention, compare, distill, fit, merge, plan, predict, probe, represent, score, table],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="adapt")
def cli() -> None:
    """Adapt a pretrained transformer to your data, and see what each way of doing so costs."""


def main() -> None:
    """Entry point."""
    warnings.formatwarning = lambda message, *rest, **more: f"adapt: {message}\n"
    comparing = "compare" in sys.argv[1:2]
    os.environ.update(short_waits(os.environ))
    if not comparing:  # which shares out the cores itself
        os.environ.update(few_threads(os.environ))
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it names kernels that it can do without
    try:
        with plain_errors(comparing):
            cli(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
