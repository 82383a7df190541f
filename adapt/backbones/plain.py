"""Writing a model as transformers itself would."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from adapt.backbones.classes import LANGUAGE_MODELS
from adapt.backbones.load import Loader
from adapt.backbones.log import quiet
from adapt.backbones.source import POOLING
from adapt.files import whole_folder


def save_plain(model: Any, loader: Loader, folder: Path) -> None:
    """Write weights (safetensors), configuration and tokenizer, for transformers' `from_pretrained`.

    A language model on a sentence encoder, which is pretrained on, says how it pools, as that does.

    Args:
        model: A model of a transformers class, as `loader` gives it.
        loader: What loaded it; its configuration, where loading changed ours, is the one written.
        folder: Made where it is not there. What else is in it stays, but for the weights of another model.

    Raises:
        OptionError: The folder cannot be written; what was there is as it was.
    """
    own = loader.config(dropout=False)
    if hasattr(own, "use_cache"):
        model.config.use_cache = own.use_cache
    if getattr(model, "generation_config", None) is not None:
        # transformers writes what was changed only where everything in it is valid
        model.generation_config.pad_token_id = model.generation_padding
    with whole_folder(folder) as new:
        with quiet():
            model.save_pretrained(new)
            loader.tokenizer().save_pretrained(new)
        for file in new.glob("*.safetensors"):
            file.chmod(0o644)  # safetensors writes files that only their owner can read
        kept = {file.name for file in new.iterdir()}
    if loader.task.kind in LANGUAGE_MODELS and loader.backbone.is_sentence_encoder:
        with whole_folder(folder / POOLING.parent) as new:
            shutil.copyfile(loader.backbone.path / POOLING, new / POOLING.name)
    for file in folder.glob("model*.safetensors*"):
        if file.name not in kept:
            file.unlink()
