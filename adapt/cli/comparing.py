"""Strategies beside one another: `adapt compare`, `adapt table`, `adapt plan`."""

from __future__ import annotations

from typing import Any

import click

from adapt.cli import options
from adapt.cli.given import of_task, read_data
from adapt.cli.words import WORDS, shown_command
from adapt.fields import settings_from
from adapt.files import path_of
from adapt.spec import OptionError


@click.command()
@click.option(
    "--backbone", help=options.BACKBONE_HELP + "  [default: that of --start, or the shipped one for the kind of task]"
)
@click.option("--data", help=options.DATA_HELP + " Without it, the embedded task of the kind.")
@options.strategies
@options.seeds
@click.option(
    "--out", default="adapt-results", show_default=True, help="Folder of results; runs found there are not repeated."
)
@click.option("--jobs", type=int, help="Runs done at the same time.  [default: 1; tiny backbones: one a core]")
@click.option(
    "--trials",
    type=int,
    default=1,
    show_default=True,
    help="Learning rates tried for each strategy, around its own; the table shows the best by validation score.",
)
@click.option("--folds", type=int, help="Cross-validation: each row is scored by a model trained without its fold.")
@click.option("--teacher", metavar="FOLDER", help="A saved model that teaches every run, as with distill.")
@options.teaching
@click.option(
    "--start", multiple=True, metavar="FOLDER", help="A saved model, from which its own strategy goes on in a "
    "row of its own; repeatable. Where its head goes on, its pooling is the default of all rows.",
)  # fmt: skip
@options.general
@options.settings
@options.data_compared
@options.training_compared
def compare(
    backbone: str | None, data: str | None, strategies: str, seeds: int, out: str, jobs: int | None, trials: int,
    folds: int | None, start: tuple[str, ...], general: Any, settings: tuple[str, ...], **rest: Any,
) -> None:  # fmt: skip
    """Run strategies with several seeds and print the table of accuracy against cost.

    Writes OUT/runs/*.json, OUT/table.md and OUT/table.csv, a learning curve to OUT/curve.csv, and what a teacher says
    to OUT/answers; the exit code is 1 where no run ended well. With no argument, all six strategies run on a tiny
    encoder and an embedded task, in minutes on two cores.
    """
    from adapt.backbones.source import check_hides_none
    from adapt.comparison import compare as run_comparison
    from adapt.comparison.given import strategies_of

    given = settings_from(settings)
    own = of_task(given)
    strategies_of(strategies, given)  # a mistyped name is found before the data is read
    check_hides_none(out, *filter(None, (backbone, data)))
    rows, choices = read_data(data, rest, folds)
    choices |= own
    done = run_comparison(
        backbone, rows, strategies, seeds=seeds, settings=given, general=general, start=start, out=out, jobs=jobs,
        trials=trials, command=shown_command("adapt", click.get_current_context().meta[WORDS]), **choices,
    )  # fmt: skip
    click.echo(done.table.markdown())
    click.echo(f"Results: {done.folder}", err=True)
    if not any(result["status"] == "ok" for result in done.results):
        raise SystemExit(1)


@click.command()
@click.argument("folder")
@click.option(
    "--tuned/--every-rate", default=None,
    help="Of a strategy run at several learning rates show only the best by validation score, or every one.  [default: "
         "the best after --trials]",
)  # fmt: skip
def table(folder: str, tuned: bool | None) -> None:
    """Make FOLDER/table.md, FOLDER/table.csv and, of a learning curve, FOLDER/curve.csv again from FOLDER/runs/*.json,
    and print the table.

    Where they cannot be written the table is printed nevertheless; the exit code is then 2.
    """
    from adapt.comparison.store import Store, holds_runs
    from adapt.tables.table import table_of

    if not holds_runs(path_of(folder)):
        raise OptionError(f"{folder} has no folder 'runs'; give the folder that `adapt compare --out` wrote.")
    store = Store(folder, reading=True)
    results = store.all()
    if not results:
        raise OptionError(f"{store.runs} holds no result; give the folder that `adapt compare --out` wrote.")
    try:
        made = store.write_table(tuned=tuned)
    except OptionError:
        click.echo(table_of(results, tuned=tuned).markdown())
        raise
    click.echo(made.markdown())


@click.command()
@click.option(
    "--backbone",
    required=True,
    help="shape:llama-1b, shape:llama-8b, shape:bert-base, shape:bert-large, shape:xlm-roberta-base, or as for "
    "compare; of a folder or hub name only config.json is needed.",
)
@options.strategies
@click.option("--kind", default="classification", show_default=True, help="Kind of task, as for compare.")
@click.option(
    "--batch", default="32x128", show_default=True, metavar="ROWSxTOKENS", help="Rows and tokens of a forward pass."
)
@click.option(
    "--budget", metavar="BYTES", help="Memory of the device, such as 12GiB; adds what fits, and what would help."
)
@click.option(
    "--device", type=click.Choice(["cpu", "cuda"]), default="cuda", show_default=True, help="Need not be there."
)
@click.option(
    "--precision", type=click.Choice(["auto", "fp32", "bf16"]), default="auto", show_default=True,
    help="auto: what training takes here; for a CUDA device that is not here bf16, which GPUs before Ampere lack.",
)  # fmt: skip
@click.option("--accumulation", type=int, help="Forward passes to an optimizer step.  [default: 1]")
@click.option("--checkpointing", is_flag=True, default=None, help="Gradient checkpointing.")
@click.option("--loss-chunk", type=int, metavar="TOKENS", help="As for compare.")
@click.option("--optimizer", help="adamw, adamw_8bit or paged_adamw_8bit.  [default: adamw]")
@click.option("--dropout", type=float, help="Dropout of the backbone.  [default: its own]")
@click.option("--labels", type=int, default=2, show_default=True, help="Number of classes, where the kind has some.")
@click.option(
    "--pooling", type=click.Choice(["auto", "mean", "native"]), default="auto", show_default=True,
    help="As for compare.",
)  # fmt: skip
@click.option(
    "--words", type=int,
    help="Different tokens in the training rows, special ones among them, for full.embeddings=seen.  [default: the "
         "vocabulary's]",
)  # fmt: skip
@click.option(
    "--targets", type=int, metavar="TOKENS",
    help="Tokens of a target in seq2seq.  [default: as many as of a row, at most 64]",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print a list of objects, sizes in bytes.")
@options.set_option("Set a field of a strategy (lora.rank=8)")
def plan(
    backbone: str, strategies: str, kind: str, batch: str, budget: str | None, as_json: bool,
    settings: tuple[str, ...], **rest: Any,
) -> None:  # fmt: skip
    """Predict the memory that training takes under each strategy; no weights are read.

    Exits with 1 if no strategy has a plan.
    """
    from adapt.comparison.given import strategies_of
    from adapt.memory.budget import parse_batch, parse_bytes
    from adapt.memory.report import json_text, markdown
    from adapt.memory.within import plans

    size = parse_batch(batch)
    room = None if budget is None else parse_bytes(budget)
    chosen = strategies_of(strategies, settings_from(settings))
    given = {name: value for name, value in rest.items() if value is not None}
    found = plans(backbone, chosen, kind=kind, batch=size, budget=room, **given)
    click.echo(json_text(found) if as_json else markdown(found, backbone, size, room, kind=kind, **given))
    if all(each.reason for each in found):
        raise SystemExit(1)
