"""What a teacher said, in files: for the processes of its students, and for a comparison that goes on."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from adapt.files import whole_folder
from adapt.tasks.generation import Written


def save_rows(file: Path, rows: Sequence[np.ndarray]) -> None:
    """Write arrays of one type and number of dimensions, at least one of them."""
    from safetensors.numpy import save_file

    shapes = np.array([row.shape for row in rows], dtype=np.int64)
    save_file({"shapes": shapes, "values": np.concatenate([row.ravel() for row in rows])}, file)


def load_rows(file: Path) -> list[np.ndarray]:
    """What `save_rows` wrote."""
    from safetensors.numpy import load_file

    stored = load_file(file)
    shapes, ends = stored["shapes"].tolist(), np.cumsum(stored["shapes"].prod(1))
    return [part.reshape(shape) for part, shape in zip(np.split(stored["values"], ends[:-1]), shapes, strict=True)]


def save_outputs(file: Path, outputs: Sequence[Any]) -> None:
    """Write the outputs of unlabelled rows: tensors (safetensors), or texts that were written (JSON).

    Args:
        file: Without suffix; its folder is made where it is not there.
        outputs: As `Kind.outputs` gives them, at least one.

    Raises:
        OptionError: They cannot be written.
    """
    with whole_folder(file.parent) as folder:
        if isinstance(outputs[0], dict):
            texts = json.dumps([dataclasses.asdict(output["written"]) for output in outputs])
            (folder / f"{file.name}.json").write_text(texts, encoding="utf-8")
        else:
            save_rows(folder / f"{file.name}.safetensors", [output.numpy() for output in outputs])


def load_outputs(file: Path) -> list[Any] | None:
    """What `save_outputs` wrote; None where there is nothing that can be read."""
    import torch
    from safetensors import SafetensorError

    texts = file.with_suffix(".json")
    try:
        if not texts.exists():
            return [torch.from_numpy(row) for row in load_rows(file.with_suffix(".safetensors"))]
        written = [Written(**{**row, "ids": tuple(row["ids"])}) for row in json.loads(texts.read_text("utf-8"))]
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None
    return [{"nll": None, "tokens": None, "text": each.text, "written": each} for each in written]
