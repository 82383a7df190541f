"""Writing a model as transformers itself would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from adapt.backbones.load import Loader
from adapt.backbones.log import quiet


def save_plain(model: Any, loader: Loader, folder: Path) -> None:
    """Write weights (safetensors), configuration and tokenizer, for transformers' `from_pretrained`.

    Args:
        model: A model of a transformers class, as `loader` gives it.
        loader: What loaded it; its configuration, where loading changed ours, is the one written.
        folder: An existing folder.
    """
    own = loader.config(dropout=False)
    if hasattr(own, "use_cache"):
        model.config.use_cache = own.use_cache
    if getattr(model, "generation_config", None) is not None:
        # transformers writes what was changed only where everything in it is valid
        model.generation_config.pad_token_id = model.generation_padding
    with quiet():
        model.save_pretrained(folder)
        loader.tokenizer().save_pretrained(folder)
    for file in folder.glob("*.safetensors"):
        file.chmod(0o644)  # safetensors writes files that only their owner can read
