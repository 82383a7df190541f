"""What the recipes of pretraining have in common: options, corpus, rows, and training in stages."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adapt import pretrain as lm
from adapt.spec import DataError

LEAVE_OUT = ["gum.txt.gz"]  # parts are for non-commercial use only; README.md of the result lists the rest
Rows = dict[int, Tensor]
"""Length of rows to token ids, (rows, length)."""


def parser_of(doc: str | None, name: str) -> argparse.ArgumentParser:
    """The options of a recipe that makes the model of that name."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--corpus", required=True, help="folder of .txt or .txt.gz files")
    parser.add_argument("--out", default=f"pretrained/{name}", help="model folder to write")
    parser.add_argument("--checkpoint", help="start of the names of the files to resume from; that of --out otherwise")
    return parser


def documents_of(options: argparse.Namespace) -> tuple[list[list[str]], list[list[str]]]:
    """The documents to train on, and those that are held out; what cannot be written is found before they are read."""
    lm.exportable(options.out)
    torch.set_num_threads(1)  # the same sums in the same order on every machine of a kind
    return lm.split_documents(lm.read_corpus(options.corpus, LEAVE_OUT), share=0.01, seed=0)


def packed(
    documents: Sequence[list[str]], held_out: Sequence[list[str]], tokenizer: Any, lengths: Sequence[int]
) -> tuple[Rows, Rows]:
    """Rows of each length, and those held out."""
    rows = {n: lm.pack(documents, tokenizer, n) for n in lengths}
    try:
        others = {n: lm.pack(held_out, tokenizer, n) for n in lengths}
    except DataError as error:
        raise DataError(
            f"of {len(documents) + len(held_out)} documents {len(held_out)} are held out, and {error}; or have longer "
            "documents"
        ) from error
    counts = [part[max(lengths)].numel() for part in (rows, others)]
    print(f"{len(documents)} documents, {counts[0]} tokens; held out {counts[1]} tokens")
    return rows, others


def trained(
    model: Any, tokenizer: Any, stages: Sequence[tuple[lm.Objective, int, lm.Pretraining]], rows: Rows, held_out: Rows,
    options: argparse.Namespace,
) -> list[dict[str, float]]:  # fmt: skip
    """Train the model in stages of objective, length and settings, exported at each checkpoint; the last's history."""

    def report(line: str) -> None:
        print(line, flush=True)
        lm.export(model, tokenizer, options.out)  # usable from the first checkpoint on

    history: list[dict[str, float]] = []
    for objective, length, settings in stages:
        checkpoint = f"{options.checkpoint or Path(options.out)}-{length}.safetensors"
        history = lm.pretrain(model, objective, rows[length], held_out[length], settings, checkpoint, report)
    return history
