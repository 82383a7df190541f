"""Predictions of the rows of a file, written to a file."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from adapt.adapted.model import Adapted
from adapt.files import output_file, whole

PREDICTION_FILES = (".jsonl", ".csv", ".tsv")
"""How the name of a file of predictions may end."""


def write_predictions(
    model: Adapted,
    source: str | Path,
    target: str | Path,
    columns: Mapping[str, str] | None = None,
    on_done: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Predict the rows of a file and write one prediction a row, in input order.

    CSV and TSV have lists as JSON, but several labels joined by `|` and tags by spaces; these are JSON too, in every
    row, where the name of one of the model's holds what would join them or begins with `[`. So a cell of them that
    begins with `[` is JSON, and no other is.

    Args:
        model: The model.
        source: A file that `adapt.data.read_inputs` reads.
        target: `.jsonl`, `.csv` or `.tsv`; appears whole or not at all.
        columns: What a column is for (`text`, `tokens`, `question`, ...) to its name, where that is unusual.
        on_done: Told of rows that are done, and of all.

    Returns:
        Rows written.

    Raises:
        OptionError: The suffix is not known or the file cannot be written.
        DataError: The input cannot be used.
    """
    path = output_file(target, PREDICTION_FILES, source)
    joined = _joined(model.run.task.labels)
    written, writer = 0, None
    with whole(path) as handle:
        for row in model.iterate(source, columns, on_done):
            written += 1
            if path.suffix == ".jsonl":
                handle.write(json.dumps(row, ensure_ascii=False) + "\n")
                continue
            cells = _cells(row, joined)
            if writer is None:
                delimiter = "\t" if path.suffix == ".tsv" else ","
                writer = csv.DictWriter(_Lines(handle), list(cells), delimiter=delimiter, lineterminator="\r\n")
                writer.writeheader()
            writer.writerow(cells)
    return written


class _Lines:
    """Ends lines without the carriage return that the writer of CSV is told of, so that it quotes cells with one."""

    def __init__(self, handle: TextIO) -> None:
        self._handle = handle

    def write(self, line: str) -> None:
        self._handle.write(line.removesuffix("\r\n") + "\n")


_JOINED = {"labels": "|", "tags": " "}
"""What stands between the names of a list in a cell of CSV or TSV; other lists are written as JSON."""


def _joined(names: Sequence[str]) -> dict[str, str]:
    """Those of `_JOINED` by which lists of the names can be parted again, and whose cells do not look like JSON."""
    return {
        column: between
        for column, between in _JOINED.items()
        if not any(between in name or name.startswith("[") for name in names)
    }


def _cells(row: Mapping[str, Any], joined: Mapping[str, str]) -> dict[str, Any]:
    """A prediction as cells of CSV or TSV, by column; `joined` is what stands between the names of a list there."""
    cells: dict[str, Any] = {}
    for name, value in row.items():
        if name == "probabilities":
            cells |= {f"probability_{label}": p for label, p in value.items()}
        elif name in joined:
            cells[name] = joined[name].join(value)
        else:
            cells[name] = json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value
    return cells
