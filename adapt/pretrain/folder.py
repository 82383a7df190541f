"""Writing the folder of a pretrained model."""

from __future__ import annotations

import json
import shutil
import warnings
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch

from adapt.backbones.source import ADAPTER, is_a_models
from adapt.files import path_of, writable_folder, writing
from adapt.pretrain.checkpoint import is_checkpoint
from adapt.spec import OptionError


def exportable(folder: str | Path) -> Path:
    """Find out, before the work, whether `export` may replace a folder.

    Returns:
        Its full path.

    Raises:
        OptionError: The folder holds something else than a model, is the working directory, or cannot be written.
    """
    folder = path_of(folder).resolve()
    writable_folder(folder.parent)
    _, old = _beside(folder)
    if old.exists() and not folder.exists():  # an earlier export was ended between its last two steps
        old.rename(folder)
    held = [path for path in _held(folder) if not is_checkpoint(path)]
    if folder.exists() and folder.samefile("."):
        raise OptionError(f"{folder} is the working directory, which cannot be replaced; give another folder.")
    if held and (folder / "config.json" not in held or any(path.is_dir() for path in held)):
        raise OptionError(f"{folder} holds more than a model, which would be lost; give a new folder.")
    if folder / ADAPTER in held:
        raise OptionError(f"{folder} holds an adapter of PEFT, which a new model would be loaded with; give another.")
    return folder


def _held(folder: Path) -> list[Path]:
    """What a folder holds, nothing where there is none."""
    return list(folder.iterdir()) if folder.exists() else []


def _beside(folder: Path) -> tuple[Path, Path]:
    """Where the new folder is made, and where the old one is until that is whole."""
    return folder.with_name(f".{folder.name}.partial"), folder.with_name(f".{folder.name}.old")


def export(model: Any, tokenizer: Any, folder: str | Path, **facts: Any) -> None:
    """Write a model folder that the auto classes of transformers load, weights in bfloat16.

    The folder is replaced as a whole, so that no reader sees half of one; what it held beside a model, such as a
    `README.md` or the checkpoint of a pretraining, is kept. `facts` go into `config.json` under `pretraining`. A
    warning says where the auto classes make another tokenizer of this one.

    Raises:
        OptionError: As `exportable`; or the folder cannot be written, and what was there is as it was.
    """
    folder = exportable(folder)
    partial, old = _beside(folder)
    for leftover in (partial, old):
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        with writing(folder):
            _write(model, tokenizer, partial, facts)
            for file in _held(folder):
                if (not is_a_models(file) or is_checkpoint(file)) and not (partial / file.name).exists():
                    shutil.copy2(file, partial)
            if folder.exists():
                folder.rename(old)
            partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)
    if tokenizer.is_fast:
        _compare(tokenizer, folder)


def _write(model: Any, tokenizer: Any, partial: Path, facts: dict[str, Any]) -> None:
    """Write the files of the model, weights in bfloat16, and of the tokenizer; see `export`."""
    deepcopy(model).to(torch.bfloat16).save_pretrained(partial)  # which writes into a model's configuration
    tokenizer.save_pretrained(partial)
    vocabulary = partial / "tokenizer.json"
    if vocabulary.exists():
        content = json.loads(vocabulary.read_text(encoding="utf-8"))
        compact = json.dumps(content, ensure_ascii=False, separators=(",", ":"))  # white space is most of the file
        vocabulary.write_text(compact, encoding="utf-8")
    config = json.loads((partial / "config.json").read_text(encoding="utf-8"))
    (partial / "config.json").write_text(json.dumps(config | {"pretraining": facts}, indent=2) + "\n", encoding="utf-8")
    for file in partial.iterdir():
        file.chmod(0o644)  # safetensors writes files that only their owner reads


def _compare(tokenizer: Any, folder: Path) -> None:
    """Warn where transformers has a tokenizer of its own for a kind of model and reads the folder's into that."""
    from transformers import AutoTokenizer

    loaded = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    given, found = (json.loads(each.backend_tokenizer.to_str()) for each in (tokenizer, loaded))
    other = [name for name in ("normalizer", "pre_tokenizer", "post_processor") if given[name] != found[name]]
    if other:
        warnings.warn(
            f"{folder}: AutoTokenizer makes a {type(loaded).__name__} of its tokenizer, with another "
            f"{', '.join(other)} than the model was trained with; take a model of another type.",
            stacklevel=3,
        )
