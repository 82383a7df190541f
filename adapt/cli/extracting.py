"""What a model knows, read out of it: `adapt probe`, `adapt represent`, `adapt attention`."""

from __future__ import annotations

from typing import Any

import click

from adapt.cli import options
from adapt.cli.ending import one_line
from adapt.cli.given import read_data, taken_columns

_reading_options = options.together(
    click.option("--layers", default="all", show_default=True,
                 help="all, last, or numbers with commas between them; 0 are the embeddings, -1 is the last. Memory "
                      "holds the vectors of all that are asked for."),
    options.device,
    click.option("--precision", type=click.Choice(["auto", "fp32", "bf16"]),
                 help="Of matrix products.  [default: an adapted model's own, for a backbone fp32; one for all that "
                      "adapt probe compares]"),
)  # fmt: skip

_input_option = click.option(
    "--input", "rows", required=True, help="CSV, TSV, JSON, Parquet, CoNLL or text file: texts or words."
)

_input_reading_options = options.together(
    click.option(
        "--max-length", type=int, help="Tokens a row is cut to.  [default: as in training; of a backbone at most 512]"
    ),
    options.moved,
    _reading_options,
    options.text_columns,
)


@click.command()
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option("--data", required=True, help=options.DATA_HELP)
@options.seeds
@click.option(
    "--max-train", type=int, default=20_000, show_default=True, help="Most rows, or words, that a probe is fitted on."
)
@click.option("--max-held-out", type=int, default=10_000, show_default=True, help="Most of validation, and of test.")
@click.option("--max-length", type=int, default=128, show_default=True,
              help="Tokens a row is cut to; fewer where a model reads no more.")  # fmt: skip
@click.option("--pooling", type=click.Choice(["mean", "first", "last"]), default="mean", show_default=True,
              help="How a row becomes a vector.")  # fmt: skip
@click.option("--metric", help="The score.  [default: the task's first]")
@click.option("--no-control", is_flag=True, help="Leave the control task out.")
@click.option("--out", help="Folder for probe.json and probe.md.")
@_reading_options
@options.data_probed
def probe(
    sources: tuple[str, ...], data: str, seeds: int, max_train: int, max_held_out: int, max_length: int, pooling: str,
    metric: str | None, no_control: bool, out: str | None, layers: str, device: str, precision: str | None, **rest: Any,
) -> None:  # fmt: skip
    """Probe the layers of models: what a linear model can read from each, beside a control task.

    A SOURCE is a folder that fit wrote, or a backbone as for compare; several are probed with the same rows and
    compared with the first.
    """
    import json

    from adapt.extraction import probe as probe_layers
    from adapt.files import writable_folder, write_atomically

    folder = None if out is None else writable_folder(out)
    rows, _ = read_data(data, rest)
    found = probe_layers(
        list(sources), rows, layers=layers, seeds=seeds, control=not no_control, metric=metric, pooling=pooling,
        max_train=max_train, max_held_out=max_held_out, max_length=max_length, device=device, precision=precision,
        report=lambda line: click.echo(one_line(line), err=True),
    )  # fmt: skip
    if folder is not None:
        write_atomically(folder / "probe.json", json.dumps(found.to_json(), indent=1, ensure_ascii=False) + "\n")
        write_atomically(folder / "probe.md", found.table())
    click.echo(found.table())


@click.command()
@click.argument("source")
@_input_option
@click.option("--output", "target", required=True, help="File to write: .safetensors.")
@click.option("--pooling", type=click.Choice(["mean", "first", "last", "words", "word_means", "tokens"]),
              default="mean", show_default=True, help="A vector for each row, word or token.")  # fmt: skip
@_input_reading_options
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
    columns = taken_columns(rest)
    found = representations(
        source, rows, layers=layers, pooling=pooling, columns=columns, max_length=max_length, device=device,
        precision=precision, backbone=backbone,
    )  # fmt: skip
    found.save(target)
    for note in found.notes:
        click.echo(f"Note: {note}", err=True)
    chosen = ", ".join(map(str, found.layers))
    click.echo(f"{found.values.shape[1]} vectors of {found.values.shape[2]} in layers {chosen}: {target}", err=True)


@click.command()
@click.argument("source")
@_input_option
@click.option("--output", "target", help="File to write the maps of the first rows to: .html or .json.")
@click.option("--max-rows", type=int, default=10, show_default=True, help="Most rows whose maps are written.")
@_input_reading_options
def attention(source: str, rows: str, target: str | None, **rest: Any) -> None:
    """Print what each attention head of SOURCE looks at in the rows of a file.

    SOURCE is a folder that fit wrote, or a backbone as for compare.
    """
    from adapt.extraction.report import report_heads

    columns = taken_columns(rest)
    measures, maps = report_heads(source, rows, target, columns=columns, **rest)
    click.echo(measures.table())
    if target is not None:
        click.echo(f"Maps of {maps} rows: {target}", err=True)
