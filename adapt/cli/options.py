"""Options that several commands have, as decorators of these."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from adapt.spec import OptionError

BACKBONE_HELP = (
    "tiny-encoder, tiny-decoder or tiny-encoder-decoder (shipped), minilm (optional package), a local folder, or a hub "
    "name (NAME@REVISION: a branch, tag or commit)."
)
DATA_HELP = (
    "CSV, TSV, JSON-lines, Parquet, CoNLL or plain text (.txt, a text a line) file, a folder with train, validation "
    "and test files, or a hub name."
)


device = click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
label = click.option("--label", help="Column of the labels.")
moved = click.option("--backbone", help="Where the backbone is now, if it was moved.")
seeds = click.option("--seeds", type=int, default=3, show_default=True, help="How many.")
strategies = click.option(
    "--strategies", default="all", show_default=True, help="Names with commas between them, or all."
)


def together(*decorators: Callable[..., Any]) -> Callable[..., Any]:
    """Several options as one decorator, in the order in which help shows them."""
    return lambda command: functools.reduce(lambda c, d: d(c), reversed(decorators), command)


def _named(example: str) -> Callable[[click.Context, click.Parameter, tuple[str, ...]], dict[str, str]]:
    """A callback that reads `what=name` items by what they name; `example` stands in its errors."""

    def read(context: click.Context, option: click.Parameter, items: tuple[str, ...]) -> dict[str, str]:
        found: dict[str, str] = {}
        for item in items:
            what, equals, name = (part.strip() for part in item.partition("="))
            if not (equals and what and name):
                form = str(option.metavar).lower()
                raise OptionError(f"{option.opts[0]} {item} cannot be read; write {form}, such as {example}.")
            if what in found:
                raise OptionError(f"{option.opts[0]} {what} is given twice; give it once.")
            found[what] = name
        return found

    return read


columns = together(
    click.option("--text", help="Column of the text."),
    click.option("--text-pair", help="Column of the second text of a pair."),
    click.option("--column", "columns", multiple=True, metavar="ROLE=NAME", callback=_named("tokens=words"),
                 help="Column of tokens, tags, question, context, answers, source, target, prompt, ...; or of group: "
                      "what rows belong together by, such as a document or a speaker.  Repeatable."),
)  # fmt: skip

mending = together(
    click.option("--repair-tags", is_flag=True, help="Make I- tags that continue no span B- tags."),
    click.option("--bad-answers", type=click.Choice(["refuse", "drop"]),
                 help="Rows whose answer is not where it should be in the context.  [default: refuse]"),
)  # fmt: skip

hub = together(
    click.option("--config", metavar="NAME", help="Configuration of a hub data set, such as sst2 of nyu-mll/glue."),
    click.option("--revision", metavar="NAME", help="Branch, tag or commit of a hub data set."),
)  # fmt: skip

data = together(
    click.option("--kind", help="classification, ner, pos, qa, translation, summarisation, instructions, ... or a "
                                "task kind's full name.  [default: the columns tell]"),
    columns,
    label,
    click.option("--problem", type=click.Choice(["single_label", "multi_label", "regression", "spans", "tags"]),
                 help="What the labels are, where they do not tell."),
    mending,
    hub,
    click.option("--split", "splits", multiple=True, metavar="SPLIT=NAME",
                 callback=_named("validation=validation_matched"),
                 help="What the data call train, validation or test (validation=validation_matched): a split, or a "
                      "file without suffix.  Repeatable."),
    click.option("--validation", type=float,
                 help="Share of train cut out where there is no validation split.  [default: 0.1]"),
    click.option("--test", type=float, help="Share of train cut out where there is no test split.  [default: 0.1]"),
    click.option("--max-validation", type=int, metavar="ROWS",
                 help="Rows of validation, which is scored after each epoch, at most.  [default: all]"),
    click.option("--max-test", type=int, metavar="ROWS", help="The same of test."),
    click.option("--split-seed", type=int, help="Seed of these cuts and choices of rows.  [default: 0]"),
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


training = together(
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
    click.option("--class-weights", type=click.Choice(["none", "balanced"]),
                 help="balanced: in the loss all classes count alike, whatever their rows.  [default: none]"),
    click.option("--checkpointing", is_flag=True, default=None, help="Gradient checkpointing."),
    click.option("--loss-chunk", type=int, metavar="TOKENS",
                 help="Tokens of a language model whose logits are held at a time.  [default: on CUDA all]"),
    click.option("--optimizer", metavar="NAME",
                 help="adamw, or adamw_8bit or paged_adamw_8bit by bitsandbytes.  [default: adamw]"),
    click.option("--graphs", type=click.Choice(["auto", "off"]),
                 help="CUDA graphs for small models.  [default: auto]"),
    device,
    click.option("--precision", type=click.Choice(["auto", "fp32", "bf16"]), help="[default: auto]"),
)  # fmt: skip


def set_option(what: str) -> Any:
    return click.option("--set", "settings", multiple=True, metavar="NAME.FIELD=VALUE", help=f"{what}; repeatable.")


def _texts(context: click.Context, option: click.Parameter, value: str | None) -> Any:
    """The general texts of a file, read before the data are."""
    from adapt.data.general import read_general

    return None if value is None else read_general(value)


general = click.option(
    "--general", metavar="FILE", callback=_texts,
    help="Plain text, one text a line: how much of it the backbone forgets is measured, where its checkpoint has a "
         "language-model head.",
)  # fmt: skip

teaching = together(
    click.option("--unlabelled", metavar="FILE",
                 help="Further training rows without labels, which the teacher labels."),
    click.option("--temperature", type=float, help="What logits are divided by, 0.1 to 100.  [default: 2]"),
    click.option("--weight", type=float, help="Share of the loss that is the teacher's.  [default: 0.5]"),
)  # fmt: skip

settings = set_option("Set a field of a strategy (lora.rank=8) or of the task's kind (task.beams=4)")
