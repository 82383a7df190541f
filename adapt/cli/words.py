"""The words of the command line, as a command keeps them and as they are shown to others."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

import click

WORDS = "adapt.words"
"""Where a command's context keeps them."""


class Commands(click.Group):
    """Keeps the words of the command line, which click tells no command."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[WORDS] = list(args)
        return super().parse_args(ctx, args)


def shown_command(program: str, words: Sequence[str]) -> str:
    """A command line as it is shown to others: without the folder of results (`--out`), and of paths the last part.

    Args:
        program: What it begins with, as it is shown.
        words: What follows.
    """
    shown, words = list[str](), list(words)
    while words:
        option, equals, value = words.pop(0).partition("=")
        if option == "--out":
            del words[: not equals]
            continue
        if not (equals and option.startswith("--")):
            option, equals, value = "", "", option + equals + value
        shown.append(option + equals + ((Path(value).name or value) if os.path.exists(value) else value))  # noqa: PTH110
    line = f"{program} {shlex.join(shown)}".rstrip()
    return line.encode(errors="replace").decode()  # a file may have a name that is not UTF-8
