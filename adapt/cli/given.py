"""What the options that commands share say: columns, data, settings of the task."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import click

from adapt.fields import nearest
from adapt.spec import OptionError


def taken_columns(options: dict[str, Any]) -> dict[str, str]:
    """What `adapt.cli.options.input_columns` says, taken out of the options of a command."""
    from adapt.data.kinds import given_roles

    own = {name: options.pop(name) for name in ("text", "text_pair")}
    return given_roles(options.pop("columns"), own)


def read_data(data: str | None, options: dict[str, Any], folds: int | None = None) -> tuple[Any, dict[str, Any]]:
    """The data set, or its folds, and the options of budget and task that were given."""
    named = (
        "kind", "text", "text_pair", "label", "columns", "problem", "repair_tags", "bad_answers", "name", "config",
        "revision", "splits",
    )  # fmt: skip
    own = {name: value for name in named if (value := options.pop(name)) not in (None, False, {})}
    numbers = ("validation", "test", "max_validation", "max_test", "split_seed")
    own |= {name: value for name in numbers if (value := options.pop(name)) is not None}
    given = {name: value for name, value in options.items() if value is not None}
    if data is None:
        kind = own.pop("kind", None)
        if own or folds is not None:
            option = next(iter(own), "folds")
            option = {"columns": "column", "splits": "split"}.get(option, option).replace("_", "-")
            raise OptionError(f"--{option} goes with --data, which is not given.")
        return None, given | ({"kind": kind} if kind else {})
    from adapt.data import load

    if "split_seed" in own:
        own["seed"] = own.pop("split_seed")
    if folds is None:
        return load(data, **own), given
    from adapt.data import folds as divide

    for option, value in (("--test", own.pop("test", 0)), ("--max-test", own.get("max_test"))):
        if value:
            raise OptionError(f"{option} cuts a test split, and --folds makes one of each fold; give one of them.")
    share = own.pop("validation", 0.1)
    return divide(load(data, **own, validation=0, test=0), folds, seed=own.get("seed", 0), validation=share), given


def of_task(settings: dict[str, dict[str, str]]) -> dict[str, Any]:
    """Take out the settings of the task's kind; in texts `\\n`, `\\t` and `\\\\` are line break, tab and backslash.

    Raises:
        OptionError: One of them is an option of the command, or a field of no kind.
    """
    from adapt.tasks import KINDS

    own = settings.pop("task", {})
    options = {parameter.name for parameter in click.get_current_context().command.params}
    known = {field.name for kind in KINDS.values() for field in dataclasses.fields(kind.Options)}
    for name in own:
        if name in options:
            raise OptionError(f"--set task.{name} is not a field of the task's kind; use --{name.replace('_', '-')}.")
        if name not in known:
            fields = ", ".join(sorted(known))
            raise OptionError(
                f"--set task.{name}: no kind of task has this field{nearest(name, known)}; there are {fields}."
            )
    return {name: re.sub(r"\\([nt\\])", lambda found: _ESCAPES[found[1]], value) for name, value in own.items()}


_ESCAPES = {"n": "\n", "t": "\t", "\\": "\\"}
"""What a backslash and a character stand for in a shell, where a line break is hard to type."""
