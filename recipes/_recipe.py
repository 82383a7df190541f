"""What every recipe does: read its options, load its data, compare the strategies, print the table."""

import argparse
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import adapt
from adapt.adapted import MODEL_FILE, assemble
from adapt.backbones import resolve
from adapt.cli import plain_errors, shown_command
from adapt.comparison import Store
from adapt.fields import settings_from
from adapt.spec import Run


def recipe(
    doc: str | None, name: str, *, hub: str, on_hub: Mapping[str, Any] | None = None, backbone: str = "minilm",
    kind: str | None = None, validation: bool = True, settings: Mapping[str, Mapping[str, Any]] | None = None,
    max_steps: int | None = None, folder: str | None = None, tiny: bool = False, **choices: Any,
) -> None:  # fmt: skip
    """Run a recipe from the command line.

    Args:
        doc: The recipe's docstring, shown by --help.
        name: Name of the task in tables and file names; other data have their own.
        hub: Hub name of its data set, the default of --data.
        on_hub: How to load that data set on the hub: options of `adapt.data.load`.
        backbone: The default of --backbone.
        kind: Task kind, where the columns do not tell it.
        validation: Whether the data's validation split is used, and one cut out where there is none.
        settings: Strategy name to fields that differ from the defaults.
        max_steps: The default of --max-steps.
        folder: Name of the folder that the data set is in where it is not on the hub; None: that of the task.
        tiny: Whether the settings are for backbones of a few megabytes alone.
        choices: Budget and options of the task, as for `adapt.compare`.
    """
    parser = parser_of(doc, data=hub, backbone=backbone, strategies="all", max_steps=max_steps)
    parser.add_argument("--jobs", type=int, help="runs done at the same time, which share the cores")
    parser.add_argument("--trials", type=int, default=1, help="learning rates tried of each; validation chooses one")
    parser.add_argument("--general", help="plain text, one text a line, on which forgetting is measured")
    parser.add_argument("--set", action="append", default=[], metavar="STRATEGY.FIELD=VALUE", help="repeatable")
    options = parser.parse_args()
    with plain_errors(goes_on=True):
        how: dict[str, Any] = {
            "name": name_of(options.data, hub, name, folder),
            "kind": kind,
            **({} if validation else {"validation": 0}),
        }
        data = adapt.data.load(options.data, **{**how, **(on_hub or {} if options.data == hub else {})})
        if not validation:
            data = replace(data, splits={split: rows for split, rows in data.splits.items() if split != "validation"})
        fits = not tiny or resolve(options.backbone).weight_bytes < _TINY
        own = settings_of(options.strategies, (settings or {}) if fits else {})
        for name, fields in settings_from(options.set).items():
            own.setdefault(name, {}).update(fields)
        done = adapt.compare(
            options.backbone, data, options.strategies, settings=own, seeds=options.seeds, general=options.general,
            out=options.out, jobs=options.jobs, trials=options.trials, max_steps=options.max_steps, command=command(),
            **choices,
        )  # fmt: skip
        print(done.table)


_TINY = 16 * 2**20
"""Bytes of weights."""


def command() -> str:
    """The command line of the recipe, as tables show it."""
    return shown_command(f"python recipes/{Path(sys.argv[0]).name}", sys.argv[1:])


def parser_of(doc: str | None, **defaults: Any) -> argparse.ArgumentParser:
    """The options of every recipe that compares strategies, some with the defaults given."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--data", help="hub name, file, or folder of splits (default: %(default)s)")
    parser.add_argument("--backbone", help="hub name, folder, or name of a shipped model (default: %(default)s)")
    parser.add_argument("--strategies", help="names with commas between them, or all")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds (default: %(default)s)")
    parser.add_argument("--max-steps", type=int, help="optimizer steps after which training ends")
    parser.add_argument("--out", default="recipe-results", help="folder of results; what is there is not done again")
    parser.set_defaults(**defaults)
    return parser


def name_of(data: str, hub: str, name: str, folder: str | None = None) -> str | None:
    """The task's name for the recipe's own data, on the hub or in a folder so called; None: others have their own."""
    return name if data == hub or Path(data).resolve().name == (folder or name) else None


def settings_of(strategies: str, settings: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Those of the strategies that are asked for."""
    wanted = [name.strip() for name in strategies.split(",")]
    return {name: dict(fields) for name, fields in settings.items() if name in wanted or wanted == ["all"]}


def fitted(out: str, name: str, backbone: Any, data: Any, strategy: Any, **choices: Any) -> tuple[Path, Run]:
    """A folder below `out` with a model that is fitted so, unless it is there, its result among those of `out`; and
    its run."""
    run, *_ = assemble(backbone, data, strategy, **choices)
    folder = Path(out) / f"{name}-{run.key()[:12]}"
    if not (folder / MODEL_FILE).exists():
        model = adapt.fit(backbone, data, strategy, **choices)
        if model.result is not None:
            Store(out).write(model.result)
        model.save(folder)
    return folder, run
