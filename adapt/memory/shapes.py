"""Where a plan's configuration comes from: a folder, a shipped model, the hub, or a well-known shape."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapt.backbones.source import (
    MINILM,
    PACKAGED,
    POOLING,
    SHIPPED,
    Backbone,
    check_config,
    check_reference,
    locate,
    on_hub,
    read_config,
    said_by_hub,
    weight_files,
)
from adapt.fields import nearest
from adapt.files import path_of, reading
from adapt.spec import AdaptError, OptionError, Source

PREFIX = "shape:"
SHAPES: Mapping[str, Mapping[str, Any]] = {
    "bert-base": {"model_type": "bert"},  # transformers' defaults
    "bert-large": {
        "model_type": "bert", "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16,
        "intermediate_size": 4096,
    },
    "llama-1b": {
        "model_type": "llama", "vocab_size": 128_256, "hidden_size": 2048, "intermediate_size": 8192,
        "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64,
        "max_position_embeddings": 131_072, "rope_theta": 500_000.0, "tie_word_embeddings": True,
    },
    "llama-8b": {
        "model_type": "llama", "vocab_size": 128_256, "hidden_size": 4096, "intermediate_size": 14_336,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
        "max_position_embeddings": 131_072, "rope_theta": 500_000.0,
    },
    "xlm-roberta-base": {
        "model_type": "xlm-roberta", "vocab_size": 250_002, "max_position_embeddings": 514, "type_vocab_size": 1,
    },
}  # fmt: skip
"""Published dimensions: BERT (Devlin et al. 2019, section 3), Llama 3.2 1B and Llama 3.1 8B (their model cards and
Grattafiori et al. 2024, table 3), XLM-R (Conneau et al. 2020, table 6, with the special words of its tokenizer)."""


@dataclass(frozen=True)
class Shape:
    """A backbone of which nothing but the configuration is known."""

    name: str
    config: Any
    """transformers' configuration."""
    weights: frozenset[str] = frozenset()
    """Names of its weights, where there are some to look at."""
    is_sentence_encoder: bool = False
    """Whether its folder says that it pools by the mean over tokens."""


def shape_of(reference: str | Path) -> Shape:
    """The configuration of a backbone; its weights are not read, nor downloaded.

    Args:
        reference: `shape:` and a name in `SHAPES`, a shipped model, `minilm`, a folder with `config.json`, or a hub
            name, after which `@` and a revision may stand.

    Raises:
        OptionError: There is no such shape, folder or model, or its configuration cannot be used.
        AdaptError: The folder cannot be read, or has no configuration.
    """
    check_reference(reference)
    text = str(reference)
    if text.startswith(PREFIX):
        return Shape(text, _known(text.removeprefix(PREFIX)))
    local = text in PACKAGED or path_of(text).is_dir()
    name, path = locate(text) if local else (text, _download(text))
    with reading(f"Backbone {text}"):
        check_config(path, text)
    return shape_at(path, name)


def shape_at(path: Path, name: str) -> Shape:
    """The shape of the model in a folder.

    Raises:
        OptionError: Its configuration cannot be used.
    """
    backbone = Backbone(Source(name, ""), name, path)
    return Shape(name, read_config(path, name), _names(path), backbone.is_sentence_encoder)


def _known(name: str) -> Any:
    from transformers import AutoConfig

    if name not in SHAPES:
        raise OptionError(f"There is no shape '{name}'{nearest(name, SHAPES)}; choose from {', '.join(SHAPES)}.")
    values = dict(SHAPES[name])
    return AutoConfig.for_model(values.pop("model_type"), **values)


def _download(reference: str) -> Path:
    from huggingface_hub import hf_hub_download

    name, revision = on_hub(reference)
    try:
        folder = Path(hf_hub_download(name, "config.json", revision=revision)).parent
        with contextlib.suppress(Exception):  # most models have none: it says that this is a sentence encoder
            hf_hub_download(name, POOLING.as_posix(), revision=revision)
        return folder
    except Exception as error:  # as in `adapt.backbones.source`
        raise OptionError(
            f"Backbone '{reference}' is neither a local folder nor could its configuration be fetched from the hub "
            f"({said_by_hub(error)}). Give a folder, a hub name that exists, "
            f"{', '.join(f'{PREFIX}{shape}' for shape in SHAPES)}, {', '.join(sorted(SHIPPED))} or {MINILM}."
        ) from error


def _names(path: Path) -> frozenset[str]:
    """Of the weights in a folder, by their headers."""
    from safetensors import SafetensorError, safe_open

    names: list[str] = []
    try:
        for file in weight_files(path):
            with safe_open(file, framework="pt") as weights:
                names += weights.keys()
    except (AdaptError, SafetensorError, OSError):  # a plan reads no weights; loading says what is wrong with them
        return frozenset()
    return frozenset(names)
