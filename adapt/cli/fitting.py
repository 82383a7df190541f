"""One model trained and saved: `adapt fit`, `adapt distill`."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from adapt.cli import options
from adapt.cli.ending import one_line
from adapt.cli.given import of_task, read_data
from adapt.fields import settings_from
from adapt.files import path_of
from adapt.result import Content, Result
from adapt.spec import DataError, OptionError, Strategy
from adapt.strategies import make
from adapt.tables.cells import limits_of, share

if TYPE_CHECKING:
    from adapt.data import Data
    from adapt.stats import Interval


@click.command()
@click.option("--backbone", help=options.BACKBONE_HELP + "  [default: that of --start]")
@click.option("--data", required=True, help=options.DATA_HELP)
@click.option(
    "--strategy",
    help="Its name; with --like also that of a row, as 'lora(rank=4)'.  [default: lora, or that of --start; with "
    "--like the best by mean validation score]",
)
@click.option("--seed", type=int, help="Seed of sample, head and order of rows.  [default: 0]")
@click.option("--out", required=True, help="Folder for the model.")
@click.option(
    "--like",
    metavar="RESULTS",
    help="Folder of a comparison, whose best run by mean validation score is done again, or the file of one run. Of "
    "several backbones or data in a folder, those of --backbone and --data are meant. Other options override those of "
    "the run, --device also where it is not given; data are read as its kind of task where they tell another. A run "
    "that went on from a model needs --start, too.",
)
@click.option(
    "--start",
    metavar="FOLDER",
    help="A saved model, from whose weights training starts, with its pooling where its head goes on, too.",
)
@options.general
@options.settings
@options.data
@options.training
def fit(
    backbone: str | None, data: str, strategy: str | None, seed: int | None, out: str, start: str | None,
    like: str | None, general: Any, settings: tuple[str, ...], **rest: Any,
) -> None:  # fmt: skip
    """Adapt a backbone to data with one strategy and save the model to OUT."""
    from adapt.adapted import fit_model, start_of
    from adapt.backbones import resolve
    from adapt.comparison.choice import choose_from, data_in, place_of

    first, own = None, None
    if start is not None:
        first = start_of(start)
        backbone = str(first.backbone(backbone))
        if like is None:
            own = first.strategy(strategy, rest["learning_rate"])
            strategy = own.name
    if backbone is None:
        raise click.UsageError("Missing option '--backbone'.")
    fitting = functools.partial(fit_model, general=general, start=first)
    if like is None:
        strategy = "lora" if strategy is None else strategy
        _fit(fitting, backbone, data, strategy, seed or 0, out, settings, rest, own=own)
        return
    place = place_of(like)

    def chosen(rows: Data | None) -> Content:
        begun, sha256 = None if first is None else first.source.sha256, None if rows is None else rows.sha256
        result = choose_from(
            place, strategy, start=begun, backbone=lambda: resolve(str(backbone)).source.sha256, data=sha256,
            kind=None if rows is None else rows.kind, otherwise=settings_from(settings).get("task", {}),
        )  # fmt: skip
        origin = result["spec"].get("start")
        if origin is not None and first is None:
            raise OptionError(
                f"The run {result['key'][:12]} of {result['strategy']} went on from a model for {origin['name']} "
                f"(content {origin['sha256'][:12]}); give its folder (--start)."
            )
        return result

    known = functools.partial(data_in, place)
    _fit(fitting, backbone, data, strategy, seed, out, settings, rest, like=chosen, known=known)


@click.command()
@click.argument("teacher")
@click.option("--backbone", required=True, help="Of the student: " + options.BACKBONE_HELP)
@click.option("--data", required=True, help=options.DATA_HELP)
@options.teaching
@click.option("--strategy", default="full", show_default=True, help="Of the student.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of sample, head and order of rows.")
@click.option("--out", required=True, help="Folder for the student.")
@options.general
@options.settings
@options.data
@options.training
def distill(
    teacher: str, backbone: str, data: str, strategy: str, seed: int, out: str, general: Any,
    settings: tuple[str, ...], **rest: Any,
) -> None:  # fmt: skip
    """Train a student on data and on what the model in TEACHER predicts for them, and save it to OUT."""
    from adapt.distillation import distill as distill_model

    if path_of(out).resolve() == path_of(teacher).resolve():
        raise OptionError(f"{out} is the folder of the teacher, which must stay as it is; give another.")
    taught = functools.partial(distill_model, teacher, general=general)
    _fit(taught, backbone, data, strategy, seed, out, settings, rest)


def _fit(
    fitting: Callable[..., Any], backbone: str, data: str, strategy: str | None, seed: int | None, out: str,
    settings: tuple[str, ...], rest: dict[str, Any], own: Strategy | None = None,
    like: Callable[[Data | None], Content] | None = None, known: Callable[[], Mapping[str, set[str]]] = dict,
) -> None:  # fmt: skip
    """Train one model, save it, and say what it scores and costs.

    What is not given of the strategy is as in `own`, and what is not given of anything as in the result that `like`
    finds for the data, among those on data that are `known`.
    """
    from adapt.adapted import model_folder, preset
    from adapt.backbones.source import check_hides_none, locate
    from adapt.comparison.choice import best_epochs, differences, strategy_in
    from adapt.options import check_rates

    given = settings_from(settings)
    of_kind = of_task(given)
    if strategy is not None:  # a mistyped name is found before the data is read
        _only(given, strategy if like is None else strategy_in(strategy))
    check_hides_none(out, backbone, data)
    model_folder(out, locate(backbone)[1])
    rows, choices, result = (*read_data(data, rest), None) if like is None else _read_like(like, known, data, rest)
    choices |= of_kind
    strategy = str(strategy if result is None else result["strategy"])
    fields, rate = _only(given, strategy), choices.get("learning_rate")
    check_rates(rate, settings={strategy: fields})
    if result is None:
        base = preset(backbone, rows.kind, strategy, rate) if own is None else vars(own)
        chosen = make(strategy, {**base, **fields})
    else:
        chosen, choices = _as_in(result, rows, fields, choices)
        seed = result["seed"] if seed is None else seed
    model = fitting(backbone, rows, chosen, seed=seed, **choices)
    model.save(out)
    _report(model.result)
    if result is not None:
        others = differences(model.result.run.spec(), result["spec"])
        there, here = ((e.get("device"), e.get("threads")) for e in (result["environment"], model.result.environment))
        if there != here and there[0] == here[0] == "cpu":
            others.append(f"threads ({there[1]} there, {here[1]} here: OMP_NUM_THREADS), which the last bits depend on")
        but = f", but for {', '.join(others)}" if others else ""
        click.echo(f"The run {result['key'][:12]} of {strategy}, seed {result['seed']}{but}", err=True)
        best, epochs = best_epochs(result), len(model.result.curve)
        if "validation" not in rows.splits and best and min(best) < epochs:
            which = f"s {min(best)} to {max(best)}" if min(best) < max(best) else f" {best[0]}"
            click.echo(
                f"Note: trained for all {epochs} epochs, for there are no validation rows to choose one by; that run "
                f"was scored as it was after epoch{which}",
                err=True,
            )
        task, before = model.result.run.task, result["spec"]["task"]
        some = task.few_shot is not None or (task.max_train or math.inf) < len(rows.splits["train"])
        if some and (task.max_train, task.few_shot) == (before["max_train"], before["few_shot"]):
            sample = f"--few-shot {task.few_shot}" if task.max_train is None else f"--max-train {task.max_train}"
            click.echo(
                f"Note: trained on some of the rows, as that run was ({sample}); --max-train takes more", err=True
            )
    click.echo(f"Model: {out}", err=True)


def _read_like(
    like: Callable[[Data | None], Content], known: Callable[[], Mapping[str, set[str]]], data: str, rest: dict[str, Any]
) -> tuple[Data, dict[str, Any], Content]:
    """The data, the options of budget and task, and the result that `like` finds for the data.

    Where nothing says of which kind the data are, they are read as they tell. If there are no results on them as they
    are then, they are read as a kind of which there are; else as the kind of the result, where they tell none or
    another one.

    Args:
        like: Finds a result for data.
        known: Finds which data there are results on: kind to hashes.
        data: Where they are.
        rest: The options of the command.

    Raises:
        DataError: They cannot be read.
        OptionError: There is no such result.
    """

    def read(kind: str | None = None) -> tuple[Data, dict[str, Any]]:
        return read_data(data, {**rest, **({} if kind is None else {"kind": kind})})

    if rest["kind"] is not None or rest["problem"] is not None:
        rows, choices = read()
        return rows, choices, like(rows)
    found: tuple[Data, dict[str, Any]] | None = None
    failed: DataError | OptionError | None = None
    try:
        found = read()
    except (DataError, OptionError) as error:
        failed = error
    there = known()
    if found is None or found[0].sha256 not in there.get(found[0].kind, ()):
        for kind, hashes in there.items():
            other = _read_as(read, kind)
            if other is not None and other[0].sha256 in hashes:
                return *other, like(other[0])
    if isinstance(failed, OptionError):
        raise failed
    if found is None:
        assert failed is not None
        try:
            kind = like(None)["spec"]["task"]["kind"]
        except OptionError:
            raise failed from None
        found = read(kind)
        return *found, like(found[0])
    result = like(found[0])
    kind = result["spec"]["task"]["kind"]
    other = None if kind == found[0].kind else _read_as(read, kind)
    return (*found, result) if other is None else (*other, like(other[0]))


def _read_as(
    read: Callable[[str | None], tuple[Data, dict[str, Any]]], kind: str
) -> tuple[Data, dict[str, Any]] | None:
    """The data as those of a kind, and the options; None: they cannot be read so."""
    try:
        return read(kind)
    except (DataError, OptionError):
        return None


def _only(given: Mapping[str, Mapping[str, Any]], strategy: str) -> Mapping[str, Any]:
    """The fields given of a strategy.

    Raises:
        OptionError: One of them does not exist or cannot be what it is given as, or others have some, too.
    """
    fields = given.get(strategy, {})
    make(strategy, fields)
    others = [name for name in given if name != strategy]
    if others:
        raise OptionError(f"Settings are given for {', '.join(others)}, but the strategy is {strategy}.")
    return fields


def _report(result: Result) -> None:
    """Say what a model scores and costs."""
    from adapt.adapted import score_in

    content = result.to_json()
    for split, scores in content["scores"].items():
        click.echo(f"{split}: " + ", ".join(_shown(score_in(content, split, metric), metric) for metric in scores))
    trainable, total = result.trainable or 0, result.total or 1
    click.echo(f"trainable: {trainable:,} of {total:,} parameters ({share(trainable / total)})")
    if lost := result.forgetting:
        click.echo(f"forgetting: {lost['before']:.4f} to {lost['after']:.4f} nats a token of general text")
    for note in result.notes:
        click.echo(one_line(f"Note: {note}"), err=True)


def _shown(score: Interval, metric: str) -> str:
    """A score with four digits, and the limits of its 95 % interval where they are known."""
    limits = limits_of(score, metric)
    return f"{metric} {score.mean:.4f}" + (f" [{limits[0]:.4f}, {limits[1]:.4f}]" if limits else "")


def _as_in(
    like: Content, rows: Data, fields: Mapping[str, Any], choices: Mapping[str, Any]
) -> tuple[Strategy, dict[str, Any]]:
    """The strategy and the choices of a result, but for those given.

    Raises:
        OptionError: The result is of another task kind or problem than the rows.
    """
    from adapt.comparison.choice import fit_arguments

    task = like["spec"]["task"]
    if (task["kind"], task["problem"]) != (rows.kind, rows.problem):
        raise OptionError(
            f"The result is of {task['kind']} ({task['problem']}), and the data are read as {rows.kind} "
            f"({rows.problem}); give --kind {task['kind']}, and --problem and columns as for the comparison."
        )
    found = fit_arguments(like["spec"])
    if "validation" not in rows.splits:  # by whose scores a run of the comparison may have ended early
        found.pop("patience", None)
    if choices.keys() & {"max_train", "few_shot"}:  # another sample
        found |= {"max_train": None, "few_shot": None}
    strategy, _ = found.pop("strategy"), found.pop("seed")
    if "learning_rate" in fields:
        del found["learning_rate"]
    mine = {"learning_rate": make(strategy.name).learning_rate} if "learning_rate" in choices else {}
    return make(strategy.name, {**vars(strategy), **mine, **fields}), {**found, **choices}
