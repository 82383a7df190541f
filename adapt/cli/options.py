"""Options that several commands have, as decorators of these."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from adapt.spec import OptionError
from adapt.strategies import STRATEGIES

BACKBONE_HELP = (
    "A hub name (NAME@REVISION: a branch, tag or commit), a folder, minilm (optional package), or tiny-encoder, "
    "tiny-decoder or tiny-encoder-decoder (shipped)."
)
DATA_HELP = (
    "A file (CSV, TSV, JSON, Parquet, CoNLL, or .txt with one text a line; also packed, as .csv.gz), a folder with "
    "train, validation and test files, or the hub name of a data set."
)


device = click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True,
    help="auto: a CUDA GPU where there is one, else the CPU.",
)  # fmt: skip
label = click.option("--label", help="Column of the labels.")
moved = click.option("--backbone", help="Where the backbone is now, if it was moved.")
seeds = click.option("--seeds", type=int, default=3, show_default=True, help="Number of seeds, counted from 0.")
strategies = click.option(
    "--strategies", default="all", show_default=True,
    help=f"Names with commas between them ({', '.join(STRATEGIES)}), or all.",
)  # fmt: skip


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


def _columns(roles: str) -> Callable[..., Any]:
    return together(
        click.option("--text", help="Column of the text."),
        click.option("--text-pair", help="Column of the second text of a pair."),
        click.option("--column", "columns", multiple=True, metavar="ROLE=NAME", callback=_named("tokens=words"),
                     help=f"Column with {roles}.  Repeatable."),
    )  # fmt: skip


columns = _columns(
    "tokens, tags, question, context, answers, source, target, prompt, ...; or with the group that a row belongs to, "
    "such as a document or a speaker"
)
"""Of labelled rows."""
input_columns = _columns("tokens, question, context, source, prompt, ...")
"""Of rows that are predicted."""
text_columns = _columns("tokens")
"""Of texts, and lists of words."""

mending = together(
    click.option("--repair-tags", is_flag=True, help="Turn I- tags that continue no span into B- tags."),
    click.option("--bad-answers", type=click.Choice(["refuse", "drop"]),
                 help="What to do with rows whose answer is not in the context where it should be.  [default: refuse]"),
)  # fmt: skip

hub = together(
    click.option("--config", metavar="NAME", help="Configuration of a hub data set, such as sst2 of nyu-mll/glue."),
    click.option("--revision", metavar="NAME", help="Branch, tag or commit of a hub data set."),
)  # fmt: skip


def _data(validation: str, name: str) -> Callable[..., Any]:
    """
    Args:
        validation: What follows the word, where rows of it are counted.
        name: Where the name of the task is seen.
    """
    return together(
        click.option("--kind", help="classification, ner, pos, qa, translation, summarisation, instructions, ... or a "
                                    "task kind's full name.  [default: the columns tell]"),
        columns,
        label,
        click.option("--problem", type=click.Choice(["single_label", "multi_label", "regression", "spans", "tags"]),
                     help="What the labels are, where this cannot be told from them."),
        mending,
        hub,
        click.option("--split", "splits", multiple=True, metavar="SPLIT=NAME",
                     callback=_named("validation=validation_matched"),
                     help="Name that the data have for train, validation or test (validation=validation_matched): of a "
                          "split, or of a file without its suffix.  Repeatable."),
        click.option("--validation", type=float,
                     help="Share of train held out for validation where there is no such split.  [default: 0.1]"),
        click.option("--test", type=float, help="The same for test.  [default: 0.1]"),
        click.option("--max-validation", type=int, metavar="ROWS",
                     help=f"Most rows of validation{validation}.  [default: all]"),
        click.option("--max-test", type=int, metavar="ROWS", help="Most rows of test.  [default: all]"),
        click.option("--split-seed", type=int, help="Seed by which these rows are drawn.  [default: 0]"),
        click.option("--name", help=f"Name of the task {name}."),
    )  # fmt: skip


data = _data(", which is scored after each epoch", "in what is said of the model")
"""Of commands that train one model."""
data_compared = _data(", which is scored after each epoch", "in tables and file names")
data_probed = _data(", by which a probe's penalty is chosen", "in the table")


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


def _training(compares: bool) -> Callable[..., Any]:
    """
    Args:
        compares: Whether several models are trained, on an embedded task where no data are given.
    """
    of_embedded = "up to 5", "32 to 96", "mean"
    embedded = [f"; of embedded tasks {values}" if compares else "" for values in of_embedded]
    several = "; several (50,200): a learning curve" if compares else ""
    metric = "Score in the table; it chooses the epoch too" if compares else "Score that chooses the epoch"
    whose = "each" if compares else "the"
    return together(
        click.option("--epochs", type=int, help=f"Passes over the training rows.  [default: 3{embedded[0]}]"),
        click.option("--max-steps", type=int, help="Optimizer steps after which training ends."),
        click.option("--batch-size", type=int, help="Rows of a forward pass.  [default: 32]"),
        click.option("--accumulation", type=int, help="Forward passes to an optimizer step.  [default: 1]"),
        click.option("--learning-rate", type=float, help=f"Peak rate.  [default: {whose} strategy's own]"),
        click.option("--warmup", type=float,
                     help="Share of all steps in which the rate rises; a strategy's own may be longer.  "
                          "[default: 0.1]"),
        click.option("--decay", type=click.Choice(["linear", "cosine", "constant"]),
                     help="Course of the rate after warm-up.  [default: linear]"),
        click.option("--weight-decay", type=float, help="AdamW's, on matrices.  [default: 0.01]"),
        click.option("--clip", type=float, help="Norm to which gradients are clipped.  [default: 1]"),
        click.option("--dropout", type=float, help="Dropout of the backbone.  [default: its own]"),
        click.option("--patience", type=int,
                     help="Epochs without a better score before training ends.  [default: never]"),
        click.option(
            "--max-train", metavar="ROWS", callback=_counts, help=f"Training rows kept, drawn with the seed{several}."
        ),
        click.option("--few-shot", metavar="K", callback=_counts, help="The same, of each class of a classifier."),
        click.option("--max-length", type=int,
                     help="Tokens of a row. Longer ones are cut; of tagged words, contexts and plain texts they are "
                          f"read in parts.  [default: 128{embedded[1]}]"),
        click.option("--metric", help=f"{metric}, unless texts must be generated for it.  [default: the task's first]"),
        click.option("--pooling", type=click.Choice(["auto", "mean", "native"]),
                     help="Encoder head: mean over tokens or the family's own; auto: mean for sentence encoders.  "
                          f"[default: auto{embedded[2]}]"),
        click.option("--class-weights", type=click.Choice(["none", "balanced"]),
                     help="balanced: all classes count alike in the loss, however many rows they have.  "
                          "[default: none]"),
        click.option("--checkpointing", is_flag=True, default=None,
                     help="Gradient checkpointing: less memory for more time."),
        click.option("--loss-chunk", type=int, metavar="TOKENS",
                     help="Tokens for which a language model's logits are held at a time.  [default: on CUDA all]"),
        click.option("--optimizer", metavar="NAME",
                     help="adamw, or adamw_8bit or paged_adamw_8bit by bitsandbytes.  [default: adamw]"),
        click.option("--graphs", type=click.Choice(["auto", "off"]),
                     help="CUDA graphs: auto takes them for small models.  [default: auto]"),
        device,
        click.option("--precision", type=click.Choice(["auto", "fp32", "bf16"]),
                     help="Of matrix products; auto: bf16 where the hardware has it.  [default: auto]"),
    )  # fmt: skip


training = _training(compares=False)
training_compared = _training(compares=True)


def set_option(what: str) -> Any:
    return click.option("--set", "settings", multiple=True, metavar="NAME.FIELD=VALUE", help=f"{what}; repeatable.")


def _texts(context: click.Context, option: click.Parameter, value: str | None) -> Any:
    """The general texts of a file, read before the data are."""
    from adapt.data.general import read_general

    return None if value is None else read_general(value)


general = click.option(
    "--general", metavar="FILE", callback=_texts,
    help="Plain text, one text a line, on which forgetting is measured: the loss of the backbone's language-model head "
         "before training and with the model that is kept.",
)  # fmt: skip

teaching = together(
    click.option("--unlabelled", metavar="FILE",
                 help="Further training rows without labels, which the teacher labels."),
    click.option("--temperature", type=float, help="What all logits are divided by, 0.1 to 100.  [default: 2]"),
    click.option("--weight", type=float, help="Share of the loss that is the teacher's.  [default: 0.5]"),
)  # fmt: skip

settings = set_option("Set a field of a strategy (lora.rank=8) or of the task's kind (task.beams=4)")
