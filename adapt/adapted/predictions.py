"""Predictions of the rows of a file, written to a file."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from adapt.adapted.model import Adapted
from adapt.files import output_file, whole

PREDICTION_FILES = (".jsonl", ".csv", ".tsv")
"""How the name of a file of predictions may end."""


def write_predictions(
    model: Adapted, source: str | Path, target: str | Path, columns: Mapping[str, str] | None = None
) -> int:
    """Predict the rows of a file and write one prediction a row, in input order.

    Args:
        model: The model.
        source: A file that `adapt.data.read_inputs` reads.
        target: `.jsonl`, `.csv` or `.tsv`; appears whole or not at all.
        columns: What a column is for (`text`, `tokens`, `question`, ...) to its name, where that is unusual.

    Returns:
        Rows written.

    Raises:
        OptionError: The suffix is not known or the file cannot be written.
        DataError: The input cannot be used.
    """
    path = output_file(target, PREDICTION_FILES, source)
    written, writer = 0, None
    with whole(path) as handle:
        for row in model.iterate(source, columns):
            written += 1
            if path.suffix == ".jsonl":
                handle.write(json.dumps(row, ensure_ascii=False) + "\n")
                continue
            cells = _cells(row)
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


def _cells(row: Mapping[str, Any]) -> dict[str, Any]:
    """A prediction as cells of CSV or TSV, by column."""
    cells: dict[str, Any] = {}
    for name, value in row.items():
        if name == "probabilities":
            cells |= {f"probability_{label}": p for label, p in value.items()}
        elif name in _JOINED:
            cells[name] = _JOINED[name].join(value)
        else:
            cells[name] = json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value
    return cells
