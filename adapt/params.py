"""Trainable and frozen parameters: counts, and saving and loading what is trainable.

`requires_grad` is the only definition of trainable. Everything here is derived from it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapt.spec import AdaptError, OptionError

if TYPE_CHECKING:
    import torch
    from torch import nn

STATE_FILE = "trainable.safetensors"


def numel(parameter: torch.Tensor) -> int:
    """Number of elements; of a 4-bit weight, which is stored packed, that of the matrix it stands for."""
    state = getattr(parameter, "quant_state", None)
    shape = getattr(state, "shape", None)
    return math.prod(shape) if shape is not None else parameter.numel()


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Name to parameter of all that is trained, shared ones under their first name."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def count(model: nn.Module) -> tuple[int, int]:
    """Trainable and all parameters, shared ones counted once."""
    return sum(map(numel, trainable(model).values())), sum(map(numel, model.parameters()))


def trainable_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """Name to a copy on the CPU of every trainable tensor."""
    return {name: p.detach().to("cpu", copy=True).contiguous() for name, p in trainable(model).items()}


def save(model: nn.Module, folder: Path) -> int:
    """Write every trainable tensor to `folder/trainable.safetensors`.

    Returns:
        Size of the file in bytes.

    Raises:
        OptionError: The file cannot be written.
    """
    file = folder / STATE_FILE
    write(trainable_state(model), file)
    return file.stat().st_size


def write(state: dict[str, torch.Tensor], file: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors in the format of safetensors, and what `metadata` says of them.

    Raises:
        OptionError: The file cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(state, file, metadata={"format": "pt", **(metadata or {})})
    except (OSError, SafetensorError) as error:
        raise OptionError(f"{file} cannot be written ({error}); free some space, or give another folder.") from error
    file.chmod(0o644)  # safetensors writes files that only their owner can read


def saved_bytes(model: nn.Module) -> int:
    """Size in bytes of the file that `save` would write, of float32 parameters; nothing is copied.

    The format of safetensors is 8 bytes, a header in JSON that is padded to a multiple of 8, and the tensors.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, p in sorted(trainable(model).items()):
        start, end = end, end + p.nbytes
        header[name] = {"dtype": "F32", "shape": list(p.shape), "data_offsets": [start, end]}
    size = len(json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode())
    return 8 + -(-size // 8) * 8 + end


def fill(model: nn.Module, state: Mapping[str, torch.Tensor], where: str) -> None:
    """Copy `state` into the trainable parameters of `model`, which must be exactly those.

    Raises:
        AdaptError: A tensor is missing, extra or of another shape; the message names it and `where`.
    """
    put(state, trainable(model), where)


def put(state: Mapping[str, torch.Tensor], own: Mapping[str, nn.Parameter], where: str) -> None:
    """Copy `state` into parameters of the same names, which must be exactly those.

    Raises:
        AdaptError: As for `fill`.
    """
    import torch

    missing, extra = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    problems = [f"missing: {', '.join(missing[:5])}"] if missing else []
    problems += [f"not expected: {', '.join(extra[:5])}"] if extra else []
    problems += [
        f"{name} has shape {tuple(state[name].shape)}, expected {tuple(p.shape)}"
        for name, p in own.items()
        if name in state and state[name].shape != p.shape
    ]
    if problems:
        raise AdaptError(f"{where} does not fit this model: {'; '.join(problems)}.")
    with torch.no_grad():
        for name, p in own.items():
            p.copy_(state[name])


def digest(state: Mapping[str, torch.Tensor], about: str) -> str:
    """Hash of tensors, by name, and of what is to be said about them (64 hexadecimal digits)."""
    found = hashlib.sha256(about.encode())
    for name in sorted(state):
        found.update(name.encode())
        found.update(state[name].detach().cpu().contiguous().view(-1).numpy().data)
    return found.hexdigest()


def load(model: nn.Module, folder: Path, needless: Collection[str] = ()) -> None:
    """Fill the trainable parameters from `folder/trainable.safetensors`.

    Args:
        model: The model.
        folder: Where the file is.
        needless: Tensors that may be there, too, for earlier versions saved them.

    Raises:
        AdaptError: As for `read`, or the tensors are not those of the model.
    """
    own = trainable(model)
    state = {name: value for name, value in read(folder).items() if name in own or name not in needless}
    fill(model, state, str(folder / STATE_FILE))


def read(folder: Path) -> dict[str, torch.Tensor]:
    """The tensors of `folder/trainable.safetensors`, by name.

    Raises:
        AdaptError: The file is missing or not safetensors.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    file = folder / STATE_FILE
    if not file.is_file():
        raise AdaptError(f"{file} is missing: {folder} does not hold a saved model.")
    try:
        return load_file(file)
    except SafetensorError as error:
        raise AdaptError(f"{file} is damaged ({error}); save the model again.") from error
