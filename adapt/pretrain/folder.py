"""Writing the folder of a pretrained model."""

from __future__ import annotations

import json
import shutil
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch

from adapt.files import writable_folder
from adapt.spec import OptionError

COMPACT: dict[str, Any] = {"ensure_ascii": False, "separators": (",", ":")}
"""The tokenizer's file is several times larger with white space."""


def exportable(folder: str | Path) -> Path:
    """The folder, which `export` may replace; to be asked before the work.

    Raises:
        OptionError: The folder holds something else than a model, or cannot be written.
    """
    folder = Path(folder).expanduser()
    writable_folder(folder.parent)
    _, old = _beside(folder)
    if old.exists() and not folder.exists():  # an earlier export was ended between its last two steps
        old.rename(folder)
    held = list(folder.iterdir()) if folder.exists() else []
    if held and (folder / "config.json" not in held or any(path.is_dir() for path in held)):
        raise OptionError(f"{folder} holds more than a model, which would be lost; give a new folder.")
    return folder


def _beside(folder: Path) -> tuple[Path, Path]:
    """Where the new folder is made, and where the old one is until that is whole."""
    return folder.with_name(f".{folder.name}.partial"), folder.with_name(f".{folder.name}.old")


def export(model: Any, tokenizer: Any, folder: str | Path, **facts: Any) -> None:
    """Write a model folder that the auto classes of transformers load, weights in bfloat16.

    The folder is replaced as a whole, so that no reader sees half of one; a `README.md` that it held is kept.
    `facts` go into `config.json` under `pretraining`.

    Raises:
        OptionError: As `exportable`.
    """
    folder = exportable(folder)
    partial, old = _beside(folder)
    for leftover in (partial, old):
        shutil.rmtree(leftover, ignore_errors=True)
    deepcopy(model).to(torch.bfloat16).save_pretrained(partial)  # which writes into a model's configuration
    tokenizer.save_pretrained(partial)
    vocabulary = partial / "tokenizer.json"
    vocabulary.write_text(json.dumps(json.loads(vocabulary.read_text(encoding="utf-8")), **COMPACT), encoding="utf-8")
    config = json.loads((partial / "config.json").read_text(encoding="utf-8"))
    (partial / "config.json").write_text(json.dumps(config | {"pretraining": facts}, indent=2) + "\n", encoding="utf-8")
    if (folder / "README.md").exists():
        shutil.copy(folder / "README.md", partial)
    for file in partial.iterdir():
        file.chmod(0o644)  # safetensors writes files that only their owner reads
    if folder.exists():
        folder.rename(old)
    partial.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
