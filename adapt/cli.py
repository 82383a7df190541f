"""The command `adapt`."""

from __future__ import annotations

import functools
import io
import logging
import os
import re
import shlex
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from adapt.fields import settings_from
from adapt.spec import AdaptError, OptionError

BACKBONE_HELP = (
    "tiny-encoder, tiny-decoder or tiny-encoder-decoder (shipped), minilm (optional package), a local folder, or a hub "
    "name."
)
DATA_HELP = (
    "CSV, TSV, JSON-lines, Parquet or CoNLL file, a folder with train, validation and test files, or a hub name."
)


class _Commands(click.Group):
    """Keeps the words of the command line, which click tells no command."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[_WORDS] = list(args)
        return super().parse_args(ctx, args)


_WORDS = "adapt.words"


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
    return f"{program} {shlex.join(shown)}".rstrip()


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="adapt")
def cli() -> None:
    """Adapt a pretrained transformer to your data, and see what each way of doing so costs."""


def _options(*decorators: Callable[..., Any]) -> Callable[..., Any]:
    return lambda command: functools.reduce(lambda c, d: d(c), reversed(decorators), command)


_column_options = _options(
    click.option("--text", help="Column of the text."),
    click.option("--text-pair", help="Column of the second text of a pair."),
    click.option("--column", "columns", multiple=True, metavar="ROLE=NAME",
                 help="Column of tokens, tags, question, context, answers, source, target, prompt, ...; or of group: "
                      "what rows belong together by, such as a document or a speaker.  Repeatable."),
)  # fmt: skip

_mending_options = _options(
    click.option("--repair-tags", is_flag=True, help="Make I- tags that continue no span B- tags."),
    click.option("--bad-answers", type=click.Choice(["refuse", "drop"]),
                 help="Rows whose answer is not where it should be in the context.  [default: refuse]"),
)  # fmt: skip

_data_options = _options(
    click.option("--kind", help="classification, ner, pos, qa, translation, summarisation, instructions, ... or a "
                                "task kind's full name.  [default: the columns tell]"),
    _column_options,
    click.option("--label", help="Column of the labels."),
    click.option("--problem", type=click.Choice(["single_label", "multi_label", "regression", "spans", "tags"]),
                 help="What the labels are, where they do not tell."),
    _mending_options,
    click.option("--validation", type=float,
                 help="Share of train cut out where there is no validation split.  [default: 0.1]"),
    click.option("--test", type=float, help="Share of train cut out where there is no test split.  [default: 0.1]"),
    click.option("--split-seed", type=int, help="Seed of these cuts.  [default: 0]"),
    click.option("--name", help="Name of the task in tables and file names."),
)  # fmt: skip


def _counts(context: click.Context, option: click.Parameter, value: str | None) -> int | tuple[int, ...] | None:
    """One number, or several with commas between them."""
    if value is None:
        return None
    try:
        numbers = tuple(map(int, value.split(",")))
    except ValueError as error:
        given = option.opts[0]
        raise OptionError(f"{given} is '{value}'; give a whole number, or several with commas between them.") from error
    return numbers if len(numbers) > 1 else numbers[0]


_training_options = _options(
    click.option("--epochs", type=int, help="Passes over the training rows.  [default: 3; of embedded tasks up to 5]"),
    click.option("--max-steps", type=int, help="Optimizer steps after which training ends."),
    click.option("--batch-size", type=int, help="Rows of a forward pass.  [default: 32]"),
    click.option("--accumulation", type=int, help="Forward passes to an optimizer step.  [default: 1]"),
    click.option("--learning-rate", type=float, help="Peak rate.  [default: each strategy's own]"),
    click.option("--warmup", type=float, help="Share of steps with rising rate.  [default: 0.1]"),
    click.option("--decay", type=click.Choice(["linear", "cosine", "constant"]), help="[default: linear]"),
    click.option("--weight-decay", type=float, help="[default: 0.01]"),
    click.option("--clip", type=float, help="Largest norm of the gradient.  [default: 1]"),
    click.option("--dropout", type=float, help="Dropout of the backbone.  [default: its own]"),
    click.option("--patience", type=int, help="Epochs without a better score before stopping.  [default: never]"),
    click.option("--max-train", metavar="ROWS", callback=_counts,
                 help="Training rows kept, drawn with the seed; for compare also several (50,200): a learning curve."),
    click.option("--few-shot", metavar="K", callback=_counts, help="The same of each class."),
    click.option("--max-length", type=int, help="Tokens a row is cut to.  [default: 128; of embedded tasks 32 to 96]"),
    click.option("--metric", help="Validation score that chooses the epoch, and the table's column."),
    click.option("--pooling", type=click.Choice(["auto", "mean", "native"]),
                 help="Encoder head: mean over tokens (sentence encoders) or the family's own.  [default: auto]"),
    click.option("--class-weights", type=click.Choice(["none", "balanced"]), help="[default: none]"),
    click.option("--checkpointing", is_flag=True, default=None, help="Gradient checkpointing."),
    click.option("--loss-chunk", type=int, metavar="TOKENS",
                 help="Tokens of a language model whose logits are held at a time.  [default: on CUDA all]"),
    click.option("--optimizer", metavar="NAME",
                 help="adamw, or adamw_8bit or paged_adamw_8bit by bitsandbytes.  [default: adamw]"),
    click.option("--graphs", type=click.Choice(["auto", "off"]),
                 help="CUDA graphs for small models.  [default: auto]"),
    click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True),
    click.option("--precision", type=click.Choice(["auto", "fp32", "bf16"]), help="[default: auto]"),
)  # fmt: skip


def _set_options(what: str) -> Any:
    return click.option("--set", "settings", multiple=True, metavar="NAME.FIELD=VALUE", help=f"{what}; repeatable.")


_general_option = click.option(
    "--general", metavar="FILE",
    help="Plain text, one text a line: how much of it the backbone forgets is measured, where its checkpoint has a "
         "language-model head.",
)  # fmt: skip

_set_option = _set_options("Set a field of a strategy (lora.rank=8) or of the task's kind (task.beams=4)")


@cli.command()
@click.option("--backbone", help=BACKBONE_HELP + "  [default: the shipped one for the kind of task]")
@click.option("--data", help=DATA_HELP + " Without it, the embedded task of the kind.")
@click.option("--strategies", default="all", show_default=True, help="Names with commas between them, or all.")
@click.option("--seeds", type=int, default=3, show_default=True, help="How many.")
@click.option(
    "--out", default="adapt-results", show_default=True, help="Folder of results; a comparison goes on there."
)
@click.option("--jobs", type=int, help="Runs done at the same time.  [default: 1; tiny backbones: one a core]")
@click.option(
    "--trials",
    type=int,
    default=1,
    show_default=True,
    help="Learning rates of each strategy, around its own; the table shows the best by validation score.",
)
@click.option("--folds", type=int, help="Cross-validation: every row is scored, by a model trained without its fold.")
@_general_option
@_set_option
@_data_options
@_training_options
def compare(
    backbone: str | None, data: str | None, strategies: str, seeds: int, out: str, jobs: int | None, trials: int,
    folds: int | None, general: str | None, settings: tuple[str, ...], **rest: Any,
) -> None:  # fmt: skip
    """Run strategies with several seeds and print the table of accuracy against cost.

    Writes OUT/runs/*.json, OUT/table.md and OUT/table.csv; the exit code is 1 where no run ended well. With no
    argument, all six strategies run on a tiny encoder and an embedded task, in minutes on two cores.
    """
    from adapt.comparison import compare as run_comparison
    from adapt.comparison.grid import strategies_of
    from adapt.comparison.progress import Progress
    from adapt.data.general import read_general

    given = settings_from(settings)
    own = _of_task(given)
    strategies_of(strategies, given)  # a mistyped name is found before the data is read
    texts = None if general is None else read_general(general)
    rows, choices = _read(data, rest, folds)
    choices |= own
    with Progress(sys.stderr, rates=trials > 1) as progress:
        done = run_comparison(
            backbone, rows, strategies, seeds=seeds, settings=given, general=texts, out=out, jobs=jobs, trials=trials,
            command=shown_command("adapt", click.get_current_context().meta[_WORDS]), on_event=progress, **choices,
        )  # fmt: skip
    click.echo(done.table.markdown())
    click.echo(f"Results: {done.folder}", err=True)
    if not any(result["status"] == "ok" for result in done.results):
        raise SystemExit(1)


@cli.command()
@click.option("--backbone", required=True, help=BACKBONE_HELP)
@click.option("--data", required=True, help=DATA_HELP)
@click.option("--strategy", default="lora", show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--out", required=True, help="Folder for the model.")
@_general_option
@_set_option
@_data_options
@_training_options
def fit(
    backbone: str, data: str, strategy: str, seed: int, out: str, general: str | None, settings: tuple[str, ...],
    **rest: Any,
) -> None:  # fmt: skip
    """Adapt a backbone to data with one strategy and save the model to OUT."""
    from adapt.adapted import fit_model
    from adapt.data.general import read_general

    texts = None if general is None else read_general(general)
    _fit(functools.partial(fit_model, general=texts), backbone, data, strategy, seed, out, settings, rest)


@cli.command()
@click.argument("teacher")
@click.option("--backbone", required=True, help="Of the student: " + BACKBONE_HELP)
@click.option("--data", required=True, help=DATA_HELP)
@click.option("--unlabelled", help="File of further training rows without labels, which the teacher labels.")
@click.option("--temperature", type=float, help="What logits are divided by.  [default: 2]")
@click.option("--weight", type=float, help="Share of the loss that is the teacher's.  [default: 0.5]")
@click.option("--strategy", default="full", show_default=True, help="Of the student.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--out", required=True, help="Folder for the student.")
@_set_option
@_data_options
@_training_options
def distill(
    teacher: str, backbone: str, data: str, unlabelled: str | None, temperature: float | None, weight: float | None,
    strategy: str, seed: int, out: str, settings: tuple[str, ...], **rest: Any,
) -> None:  # fmt: skip
    """Train a student on data and on what the model in TEACHER says of them, and save it to OUT."""
    from adapt.distillation import distill as distill_model

    if Path(out).expanduser().resolve() == Path(teacher).expanduser().resolve():
        raise OptionError(f"{out} is the folder of the teacher, which must stay as it is; give another.")
    given = {"unlabelled": unlabelled, "temperature": temperature, "weight": weight}
    rest |= {name: value for name, value in given.items() if value is not None}
    _fit(functools.partial(distill_model, teacher), backbone, data, strategy, seed, out, settings, rest)


def _fit(
    fitting: Callable[..., Any], backbone: str, data: str, strategy: str, seed: int, out: str,
    settings: tuple[str, ...], rest: dict[str, Any],
) -> None:  # fmt: skip
    """Train one model, save it, and say what it scores and costs."""
    from adapt.adapted import model_folder, preset
    from adapt.backbones.source import locate
    from adapt.comparison.progress import StepBar
    from adapt.options import check_rates
    from adapt.strategies import make

    given = settings_from(settings)
    own = _of_task(given)
    fields = given.pop(strategy, {})
    make(strategy, fields)  # a mistyped name is found before the data is read
    if given:
        raise OptionError(f"Settings are given for {', '.join(given)}, but the strategy is {strategy}.")
    model_folder(out, locate(backbone, None)[1])
    rows, choices = _read(data, rest)
    choices |= own
    rate = choices.get("learning_rate")
    check_rates(rate, settings={strategy: fields})
    chosen = make(strategy, {**preset(backbone, rows.kind, strategy, rate), **fields})
    with StepBar(sys.stderr, strategy) as bar:
        model = fitting(backbone, rows, chosen, seed=seed, on_step=bar, **choices)
    model.save(out)
    assert model.result is not None
    for split, scores in model.result.scores.items():
        click.echo(f"{split}: " + ", ".join(f"{name} {value:.4f}" for name, value in scores.items()))
    trainable, total = model.result.trainable or 0, model.result.total or 1
    click.echo(f"trainable: {trainable:,} of {total:,} parameters ({100 * trainable / total:.2f} %)")
    lost = model.result.forgetting
    if lost:
        click.echo(f"forgetting: {lost['before']:.4f} to {lost['after']:.4f} nats a token of general text")
    for note in model.result.notes:
        click.echo(f"Note: {note}", err=True)
    click.echo(f"Model: {out}", err=True)


@cli.command()
@click.argument("folder")
@click.option("--input", "source", required=True, help="CSV, TSV, JSON-lines, Parquet or CoNLL file.")
@click.option("--output", "target", required=True, help="File to write: .jsonl, .csv or .tsv.")
@click.option("--backbone", help="Where the backbone is now, if it was moved.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@_column_options
def predict(folder: str, source: str, target: str, backbone: str | None, device: str, **rest: Any) -> None:
    """Predict the rows of a file with the model in FOLDER, in input order."""
    from adapt.adapted import PREDICTION_FILES, load_model, write_predictions
    from adapt.files import output_file

    output_file(target, PREDICTION_FILES, source)
    columns = _taken_columns(rest)
    model = load_model(folder, backbone=backbone, device=device)
    count = write_predictions(model, source, target, columns)
    for note in model.notes:
        click.echo(f"Note: {note}", err=True)
    click.echo(f"{count} predictions: {target}", err=True)


@cli.command()
@click.argument("folders", nargs=-1, required=True, metavar="FOLDER...")
@click.option("--data", required=True, help=DATA_HELP + " Labelled; it needs no train.")
@click.option("--split", type=click.Choice(["train", "validation", "test"]), default="test", show_default=True,
              help="Which is scored, where there are several.")  # fmt: skip
@click.option("--output", help="File to write the scores to, with what each row adds: .json.")
@click.option("--backbone", help="Where the backbone is now, if it was moved.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@_column_options
@click.option("--label", help="Column of the labels.")
@_mending_options
def score(folders: tuple[str, ...], data: str, output: str | None, **rest: Any) -> None:
    """Score the models in FOLDERS on new labelled rows, and compare them with the first.

    Each score has its 95 % interval for other rows like these.
    """
    import json

    from adapt.files import output_file, write_atomically
    from adapt.scoring import score as score_models

    target = None if output is None else output_file(output, (".json",), data)
    label = rest.pop("label")
    columns = {**_taken_columns(rest), **({"label": label} if label else {})}
    rest["bad_answers"] = rest["bad_answers"] or "refuse"
    found = score_models(folders, data, columns=columns, **rest)
    if target is not None:
        write_atomically(target, json.dumps(found.to_json(), ensure_ascii=False) + "\n")
    click.echo(found.table())


@cli.command()
@click.option(
    "--backbone",
    required=True,
    help="shape:llama-1b, shape:llama-8b, shape:bert-base, shape:bert-large, or as for compare; of a folder or "
    "hub name only config.json is needed.",
)
@click.option("--strategies", default="all", show_default=True, help="Names with commas between them, or all.")
@click.option("--kind", default="classification", show_default=True, help="Task kind, as for compare.")
@click.option("--batch", default="32x128", show_default=True, metavar="ROWSxTOKENS", help="Of a forward pass.")
@click.option("--budget", metavar="BYTES", help="Memory of the device, such as 12GiB: what fits, and what would help.")
@click.option(
    "--device", type=click.Choice(["cpu", "cuda"]), default="cuda", show_default=True, help="It need not be there."
)
@click.option(
    "--precision", type=click.Choice(["auto", "fp32", "bf16"]), default="auto", show_default=True,
    help="auto: what training takes here; for a CUDA device that is not here bf16, which GPUs before Ampere lack.",
)  # fmt: skip
@click.option("--accumulation", type=int, help="Forward passes to an optimizer step.  [default: 1]")
@click.option("--checkpointing", is_flag=True, default=None, help="Gradient checkpointing.")
@click.option("--loss-chunk", type=int, metavar="TOKENS", help="Tokens whose logits are held at a time.")
@click.option("--optimizer", help="adamw, adamw_8bit or paged_adamw_8bit.")
@click.option("--dropout", type=float, help="Dropout of the backbone.  [default: its own]")
@click.option("--labels", type=int, default=2, show_default=True, help="Classes, where the kind has some.")
@click.option("--pooling", type=click.Choice(["auto", "mean", "native"]), default="auto", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print a list of objects, sizes in bytes.")
@_set_options("Set a field of a strategy (lora.rank=8)")
def plan(
    backbone: str, strategies: str, kind: str, batch: str, budget: str | None, as_json: bool,
    settings: tuple[str, ...], **rest: Any,
) -> None:  # fmt: skip
    """Predict the memory that training will take, strategy by strategy; no weights are read."""
    from adapt.comparison.grid import strategies_of
    from adapt.memory.budget import parse_batch, parse_bytes
    from adapt.memory.report import json_text, markdown
    from adapt.memory.within import plans

    size = parse_batch(batch)
    room = None if budget is None else parse_bytes(budget)
    chosen = strategies_of(strategies, settings_from(settings))
    options = {name: value for name, value in rest.items() if value is not None}
    found = plans(backbone, chosen, kind=kind, batch=size, budget=room, **options)
    click.echo(json_text(found) if as_json else markdown(found, backbone, size, room, **options))


_reading_options = _options(
    click.option("--layers", default="all", show_default=True,
                 help="all, last, or numbers with commas between them; 0 are the embeddings, -1 is the last."),
    click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True),
    click.option("--precision", type=click.Choice(["auto", "fp32", "bf16"]),
                 help="[default: an adapted model's own, for a backbone fp32]"),
)  # fmt: skip


@cli.command()
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option("--data", required=True, help=DATA_HELP)
@click.option("--seeds", type=int, default=3, show_default=True, help="How many.")
@click.option("--max-train", type=int, default=20_000, show_default=True, help="Rows, or words, a probe is fitted on.")
@click.option("--max-held-out", type=int, default=10_000, show_default=True, help="The same of validation and of test.")
@click.option("--max-length", type=int, default=128, show_default=True,
              help="Tokens a row is cut to, at most: as many as every model reads.")  # fmt: skip
@click.option("--pooling", type=click.Choice(["mean", "first", "last"]), default="mean", show_default=True,
              help="How a row becomes a vector.")  # fmt: skip
@click.option("--metric", help="The score.  [default: the task's first]")
@click.option("--no-control", is_flag=True, help="Leave the control task out.")
@click.option("--out", help="Folder for probe.json and probe.md.")
@_reading_options
@_data_options
def probe(
    sources: tuple[str, ...], data: str, seeds: int, max_train: int, max_held_out: int, max_length: int, pooling: str,
    metric: str | None, no_control: bool, out: str | None, layers: str, device: str, precision: str | None, **rest: Any,
) -> None:  # fmt: skip
    """Probe the layers of models: what a linear model reads from each, beside a control task.

    A SOURCE is a folder that fit wrote, or a backbone as for compare; several are probed with the same rows and
    compared with the first.
    """
    import json

    from adapt.extraction import probe as probe_layers
    from adapt.files import writable_folder, write_atomically

    folder = None if out is None else writable_folder(out)
    rows, _ = _read(data, rest)
    found = probe_layers(
        list(sources), rows, layers=layers, seeds=seeds, control=not no_control, metric=metric, pooling=pooling,
        max_train=max_train, max_held_out=max_held_out, max_length=max_length, device=device, precision=precision,
        report=lambda line: click.echo(line, err=True),
    )  # fmt: skip
    if folder is not None:
        write_atomically(folder / "probe.json", json.dumps(found.to_json(), indent=1, ensure_ascii=False) + "\n")
        write_atomically(folder / "probe.md", found.table())
    click.echo(found.table())


@cli.command()
@click.argument("source")
@click.option("--input", "rows", required=True, help="CSV, TSV, JSON-lines, Parquet or CoNLL file of texts or words.")
@click.option("--output", "target", required=True, help="File to write: .safetensors.")
@click.option("--pooling", type=click.Choice(["mean", "first", "last", "words", "word_means", "tokens"]),
              default="mean", show_default=True, help="A vector for each row, word or token.")  # fmt: skip
@click.option("--max-length", type=int, help="Tokens a row is cut to.  [default: as in training, at most 512]")
@click.option("--backbone", help="Where the backbone is now, if it was moved.")
@_reading_options
@_column_options
def represent(
    source: str, rows: str, target: str, pooling: Any, max_length: int | None, backbone: str | None, layers: str,
    device: str, precision: str | None, **rest: Any,
) -> None:  # fmt: skip
    """Write the hidden states that SOURCE has for the rows of a file.

    SOURCE is a folder that fit wrote, or a backbone as for compare.
    """
    from adapt.extraction import representations
    from adapt.extraction.representations import REPRESENTATION_FILES
    from adapt.files import output_file

    output_file(target, REPRESENTATION_FILES)
    columns = _taken_columns(rest)
    found = representations(
        source, rows, layers=layers, pooling=pooling, columns=columns, max_length=max_length, device=device,
        precision=precision, backbone=backbone,
    )  # fmt: skip
    found.save(target)
    for note in found.notes:
        click.echo(f"Note: {note}", err=True)
    chosen = ", ".join(map(str, found.layers))
    click.echo(f"{found.values.shape[1]} vectors of {found.values.shape[2]} in layers {chosen}: {target}", err=True)


@cli.command()
@click.argument("source")
@click.option("--input", "rows", required=True, help="CSV, TSV, JSON-lines, Parquet or CoNLL file of texts or words.")
@click.option("--output", "target", help="File to write the maps of the first rows to: .html or .json.")
@click.option("--max-rows", type=int, default=10, show_default=True, help="Most rows whose maps are written.")
@click.option("--max-length", type=int, help="Tokens a row is cut to.  [default: as in training, at most 512]")
@click.option("--backbone", help="Where the backbone is now, if it was moved.")
@_reading_options
@_column_options
def attention(source: str, rows: str, target: str | None, **rest: Any) -> None:
    """Print what each attention head of SOURCE looks at in the rows of a file.

    SOURCE is a folder that fit wrote, or a backbone as for compare.
    """
    from adapt.extraction.report import report_heads

    columns = _taken_columns(rest)
    measures, maps = report_heads(source, rows, target, columns=columns, **rest)
    click.echo(measures.table())
    if target is not None:
        click.echo(f"Maps of {maps} rows: {target}", err=True)


@cli.command()
@click.argument("folder")
@click.option(
    "--tuned", is_flag=True, help="Of a strategy run at several learning rates only the best by validation score."
)
def table(folder: str, tuned: bool) -> None:
    """Make FOLDER/table.md and FOLDER/table.csv again from FOLDER/runs/*.json, and print the table."""
    from adapt.comparison.store import Store
    from adapt.comparison.table import write_table

    if not (Path(folder).expanduser() / "runs").is_dir():
        raise OptionError(f"{folder} has no folder 'runs'; give the folder that `adapt compare --out` wrote.")
    store = Store(folder)
    if not store.all():
        raise OptionError(f"{store.runs} holds no result; give the folder that `adapt compare --out` wrote.")
    click.echo(write_table(store, tuned=tuned).markdown())


def _taken_columns(options: dict[str, Any]) -> dict[str, str]:
    """What `_column_options` say, taken out of the options of a command."""
    named = {name: value for name in ("text", "text_pair") if (value := options.pop(name)) is not None}
    return _columns(options.pop("columns")) | named


def _columns(pairs: tuple[str, ...]) -> dict[str, str]:
    """`role=name` items by role."""
    found: dict[str, str] = {}
    for pair in pairs:
        role, equals, name = pair.partition("=")
        if not (equals and role.strip() and name.strip()):
            raise OptionError(f"--column {pair} cannot be read; write role=name, such as tokens=words.")
        if role.strip() in found:
            raise OptionError(f"--column {role.strip()} is given twice; give it once.")
        found[role.strip()] = name.strip()
    return found


def _read(data: str | None, options: dict[str, Any], folds: int | None = None) -> tuple[Any, dict[str, Any]]:
    """The data set, or its folds, and the options of budget and task that were given."""
    named = ("kind", "text", "text_pair", "label", "columns", "problem", "repair_tags", "bad_answers", "name")
    own = {name: value for name in named if (value := options.pop(name))}
    own |= {name: value for name in ("validation", "test", "split_seed") if (value := options.pop(name)) is not None}
    given = {name: value for name, value in options.items() if value is not None}
    if data is None:
        kind = own.pop("kind", None)
        if own or folds is not None:
            option = next(iter(own), "folds").replace("columns", "column").replace("_", "-")
            raise OptionError(f"--{option} goes with --data, which is not given.")
        return None, given | ({"kind": kind} if kind else {})
    from adapt.data import load

    if "columns" in own:
        own["columns"] = _columns(own["columns"])
    if "split_seed" in own:
        own["seed"] = own.pop("split_seed")
    if folds is None:
        return load(data, **own), given
    from adapt.data import folds as divide

    if own.pop("test", 0):
        raise OptionError("--test cuts a test split, and --folds makes one of each fold; give one of them.")
    share = own.pop("validation", 0.1)
    return divide(load(data, **own, validation=0, test=0), folds, seed=own.get("seed", 0), validation=share), given


def _of_task(settings: dict[str, dict[str, str]]) -> dict[str, Any]:
    """Take out the settings of the task's kind; in texts `\\n`, `\\t` and `\\\\` are line break, tab and backslash.

    Raises:
        OptionError: One of them is an option of the command.
    """
    own = settings.pop("task", {})
    options = {parameter.name for parameter in click.get_current_context().command.params}
    for name in own:
        if name in options:
            raise OptionError(f"--set task.{name} is not a field of the task's kind; use --{name.replace('_', '-')}.")
    return {name: re.sub(r"\\([nt\\])", lambda found: _ESCAPES[found[1]], value) for name, value in own.items()}


_ESCAPES = {"n": "\n", "t": "\t", "\\": "\\"}
"""What a backslash and a character stand for in a shell, where a line break is hard to type."""


def heed_signals() -> None:
    """Ended from outside (a scheduler's time limit, a closed terminal), we stop our processes and tidy up too."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # there is none of the latter on Windows
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:  # `nohup` ignores the latter
            signal.signal(number, signal.default_int_handler)


def write_any_text() -> None:
    """Standard output escapes characters that it has none for, as standard error does, where it would raise an error: a
    table redirected to a file on Windows, whose names are in another script."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


@contextmanager
def plain_errors(goes_on: bool) -> Iterator[None]:
    """An error of ours is one line on standard error and exit code 2; so is an interrupt, with exit code 130.

    Args:
        goes_on: The command is a comparison, which the next one goes on with.
    """
    heed_signals()
    write_any_text()
    try:
        yield
    except AdaptError as error:
        click.echo(f"adapt: {' '.join(str(error).split())}", err=True)
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        kept = "; results so far are kept, the same command goes on from there" if goes_on else ""
        click.echo(f"adapt: stopped{kept}.", err=True)
        sys.exit(130)


def main() -> None:
    """Entry point."""
    warnings.formatwarning = lambda message, *rest, **more: f"adapt: {message}\n"
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it names kernels that it can do without
    try:
        with plain_errors("compare" in sys.argv[1:2]):
            cli(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
