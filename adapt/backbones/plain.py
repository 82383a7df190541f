"""Writing a model as transformers itself would."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adapt.backbones.classes import LANGUAGE_MODELS, ends_at_padding, name_of_base
from adapt.backbones.load import Loader
from adapt.backbones.log import quiet
from adapt.backbones.source import POOLING, has_model_type, is_a_models
from adapt.files import whole_folder

_TEMPLATES = "additional_chat_templates"
"""Folder of a tokenizer with several chat templates."""


def save_plain(model: Any, loader: Loader, folder: Path, writes: Mapping[str, Any] | None = None) -> None:
    """Write weights (safetensors), configuration and tokenizer, for transformers' `from_pretrained`.

    A language model on a sentence encoder, which is pretrained on, says how it pools, as that does. One that finds
    masked tokens has the checkpoint's pooler, which its class leaves out and classifiers begin with.

    Args:
        model: A model of a transformers class, as `loader` gives it.
        loader: What loaded it; its configuration, where loading changed ours, is the one written.
        folder: Made where it is not there. What else is in it stays, but for the files of another model.
        writes: Settings of generation in place of the checkpoint's (`adapt.tasks.Kind.writes`).

    Raises:
        OptionError: The folder cannot be written; what was there is as it was.
    """
    own = loader.config(dropout=False)
    if hasattr(own, "use_cache"):
        model.config.use_cache = own.use_cache
    padding = getattr(own, "pad_token_id", None)
    if padding is not None and not ends_at_padding(loader.task.kind, own):
        model.config.pad_token_id = padding  # from which RoBERTa numbers its positions
    generation, writes = getattr(model, "generation_config", None), writes or {}
    for name, value in writes.items():
        if hasattr(model.config, name) and name != "eos_token_id":  # by which classifiers of BART pool
            setattr(model.config, name, value)
    said = loader.backbone.path / "generation_config.json"
    if generation is not None:
        generation.pad_token_id = model.generation_padding
        generation.update(**writes)
        if said.exists():
            # whose settings are taken over as they are: transformers writes them only where all go together
            model.generation_config = type(generation)()
    state = model.state_dict()
    if loader.task.kind in LANGUAGE_MODELS:
        state = {f"{name_of_base(model)}.{name}": value for name, value in loader.pooler().items()} | state
    replaced = has_model_type(folder) or (folder / "tokenizer_config.json").is_file()
    with whole_folder(folder) as new:
        with quiet():
            model.save_pretrained(new, state_dict=state)
            _as_if_unused(loader.tokenizer()).save_pretrained(new)
        if generation is not None and said.exists():
            settings = json.loads(said.read_text(encoding="utf-8"))
            (new / said.name).write_text(json.dumps({**settings, **writes}, indent=2) + "\n", encoding="utf-8")
            model.generation_config = generation
        for file in new.glob("*.safetensors"):
            file.chmod(0o644)  # safetensors writes files that only their owner can read
        kept = {file.name for file in new.iterdir()}
        shutil.rmtree(folder / _TEMPLATES, ignore_errors=True)
    if loader.task.kind in LANGUAGE_MODELS and loader.backbone.is_sentence_encoder:
        with whole_folder(folder / POOLING.parent) as new:
            shutil.copyfile(loader.backbone.path / POOLING, new / POOLING.name)
    else:
        (folder / POOLING).unlink(missing_ok=True)  # of an earlier model
    for file in folder.iterdir():
        if file.name not in kept and (is_a_models(file) if replaced else file.match("model*.safetensors*")):
            file.unlink()


def _as_if_unused(tokenizer: Any) -> Any:
    """The tokenizer, without the length that it has cut and padded texts to, which its file would hold."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        backend.no_truncation()
        backend.no_padding()
    return tokenizer
