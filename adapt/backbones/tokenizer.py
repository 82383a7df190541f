"""A backbone's tokenizer, which must be able to pad."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from adapt.spec import AdaptError

VOCABULARIES = (
    "tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model",
    "spm.model", "tekken.json", "tiktoken.model",
)  # fmt: skip
"""Files that a tokenizer's vocabulary is in."""
_PADDING = {"eos_token": "end-of-text", "unk_token": "unknown-word", "bos_token": "start-of-text"}
"""Tokens that pad where there is no padding token: attribute of the tokenizer to what it is called."""


def load_tokenizer(path: Path, reference: str, config: Mapping[str, Any]) -> tuple[Any, list[str]]:
    """The tokenizer with a padding token, and what a reader of a result must be told about it.

    Where it has none, or one that the backbone has no embedding for, another of its special tokens pads: the mask hides
    padding in any case, and the embeddings keep their size. It numbers the texts of a pair (`token_type_ids`) only
    where the backbone has more than one embedding for these numbers. A RoBERTa with BERT's tokenizer has not; a GPT-2
    with it would take the numbers for words.

    Args:
        path: The backbone's folder.
        reference: What the user gave for it.
        config: Its configuration, with the defaults of its class.

    Raises:
        AdaptError: It cannot be loaded, lacks its vocabulary, or has no token that can pad.
    """
    from transformers import AutoTokenizer

    there = any((path / name).is_file() for name in VOCABULARIES)
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        if not there:
            raise without_tokenizer(reference) from error
        raise AdaptError(f"The tokenizer of backbone {reference} cannot be loaded: {_cause(error, path)}") from error
    own = tokenizer.vocab_files_names.values()
    if own and not there and not any((path / name).is_file() for name in own):  # it has a few tokens
        raise without_tokenizer(reference)
    numbers = config.get("type_vocab_size", (config.get("text_config") or {}).get("type_vocab_size"))
    if config.get("model_type") not in _NUMBERED and not (isinstance(numbers, int) and numbers > 1):
        tokenizer.model_input_names = [name for name in tokenizer.model_input_names if name != "token_type_ids"]
    size = config.get("vocab_size") or len(tokenizer)
    if tokenizer.pad_token_id is not None and tokenizer.pad_token_id < size:
        return tokenizer, []
    for role, words in _PADDING.items():
        token, index = getattr(tokenizer, role), getattr(tokenizer, f"{role}_id")
        if token is not None and index is not None and index < size:
            lacks = "no padding token" if tokenizer.pad_token is None else "a padding token without an embedding"
            tokenizer.pad_token = token
            return tokenizer, [f"The tokenizer has {lacks}; its {words} token {token!r} pads instead."]
    raise AdaptError(
        f"The tokenizer of backbone {reference} has no padding token, and no other special token that could "
        "pad; set its pad_token and save it."
    )


_NUMBERED = ("xlnet", "funnel", "tapas")
"""Families that tell texts apart and have no `type_vocab_size`."""


def without_tokenizer(reference: str) -> AdaptError:
    """The error where a backbone's folder has no vocabulary."""
    return AdaptError(
        f"Backbone {reference} has no tokenizer ({', '.join(VOCABULARIES)}); save the tokenizer beside the weights "
        "with tokenizer.save_pretrained(folder)."
    )


def _cause(error: Exception, folder: Path) -> str:
    """Why a tokenizer could not be loaded; transformers tries other ways where sentencepiece is missing."""
    pieces = sorted([*folder.glob("*.model"), *folder.glob("*.spm")])
    if pieces and not (folder / "tokenizer.json").is_file() and find_spec("sentencepiece") is None:
        return f"{pieces[0].name} needs the package sentencepiece: pip install sentencepiece."
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
