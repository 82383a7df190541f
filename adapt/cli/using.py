"""Saved models on new rows, and without this package: `adapt predict`, `adapt score`, `adapt merge`."""

from __future__ import annotations

import contextlib
import sys
from typing import Any

import click

from adapt.cli import options
from adapt.cli.given import taken_columns


@click.command()
@click.argument("folder")
@click.option("--input", "source", required=True, help="CSV, TSV, JSON, Parquet, CoNLL or plain text file.")
@click.option("--output", "target", required=True, help="File to write: .jsonl, .csv or .tsv.")
@options.moved
@options.device
@options.input_columns
def predict(folder: str, source: str, target: str, backbone: str | None, device: str, **rest: Any) -> None:
    """Predict the rows of a file with the model in FOLDER, in input order; one of masked LM fills the masks.

    CSV and TSV have lists as JSON, but several labels joined by | and tags by spaces where no name holds these.
    """
    from adapt.adapted import PREDICTION_FILES, load_model, write_predictions
    from adapt.display import StepBar
    from adapt.files import output_file

    output_file(target, PREDICTION_FILES, source)
    columns = taken_columns(rest)
    model = load_model(folder, backbone=backbone, device=device)
    with contextlib.closing(StepBar(sys.stderr, "predicted", "row")) as bar:
        count = write_predictions(model, source, target, columns, bar)
    for note in model.notes:
        click.echo(f"Note: {note}", err=True)
    click.echo(f"{count} predictions: {target}", err=True)


@click.command()
@click.argument("folders", nargs=-1, required=True, metavar="FOLDER...")
@click.option("--data", required=True, help=options.DATA_HELP + " Labelled; it needs no train.")
@click.option("--split", default="test", show_default=True,
              help="The split to score, where there are several; also by its name in the data.")  # fmt: skip
@click.option("--metric", help="Score by which models are compared; causal language models write texts for one that "
              "judges these.  [default: that of training]")  # fmt: skip
@click.option("--output", help="File to write the scores to, with the outcome of each row: .json.")
@options.moved
@options.device
@options.columns
@options.label
@options.mending
@options.hub
def score(folders: tuple[str, ...], data: str, output: str | None, **rest: Any) -> None:
    """Score the models in FOLDERS on new labelled rows, and compare them with the first.

    Each score has its 95 % interval for other rows like these.
    """
    import json

    from adapt.files import output_file, write_atomically
    from adapt.scoring import score as score_models

    target = None if output is None else output_file(output, (".json",), data)
    rest["bad_answers"] = rest["bad_answers"] or "refuse"
    found = score_models(folders, data, progress=True, **rest)
    if target is not None:
        write_atomically(target, json.dumps(found.to_json(), ensure_ascii=False) + "\n")
    click.echo(found.table())


@click.command()
@click.argument("folder")
@click.option("--out", required=True, help="Folder for the plain model.")
@options.moved
def merge(folder: str, out: str, backbone: str | None) -> None:
    """Write the model in FOLDER as a plain transformers model, with the adaptation merged, and its tokenizer.

    It loads without this package, and is a backbone as any other.
    """
    from adapt.adapted import check_holds_no_other, load_model, merging, read_model
    from adapt.backbones.source import check_hides_none
    from adapt.files import path_of

    content, run = read_model(path_of(folder))
    merging(run)  # what cannot be is said before weights are read
    check_hides_none(out, content["reference"] if backbone is None else backbone)
    check_holds_no_other(out, merged=True)
    path = load_model(folder, backbone=backbone, device="cpu").merge(out)
    click.echo(f"Merged: {path}", err=True)
