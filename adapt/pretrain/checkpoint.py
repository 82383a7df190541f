"""The state of a pretraining that was stopped, as one safetensors file."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from adapt.files import writing
from adapt.options import plain as plain_number
from adapt.spec import OptionError
from adapt.training.step import random_state, set_random_state

_DROPOUT = ("dropout", "dropout.cuda")
"""Names of the states of torch's own generators, in the order of `random_state`."""


@dataclass
class Progress:
    """Where the loop stands."""

    order: Tensor
    """Indices, int64, of the rows that are left of this pass."""
    step: int = 0
    """Optimizer steps made."""
    history: list[dict[str, float]] = field(default_factory=list)
    """Scores so far."""


def save(
    file: str | Path, settings: Any, progress: Progress, model: Any, optimizer: Any, generator: torch.Generator
) -> None:
    """Write the state; the file is replaced as a whole. `settings` are plain values that a resumed run must share.

    Raises:
        OptionError: It cannot be written; what was there is as it was.
    """
    tensors = {
        "order": progress.order,
        "generator": generator.get_state(),
        **dict(zip(_DROPOUT, random_state(_device(model)), strict=False)),
        **{f"model.{name}": tensor.detach() for name, tensor in _state(model).items()},
    }
    for index, values in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": tensor for name, tensor in values.items()}
    partial = Path(f"{file}.partial")
    facts = {"settings": settings, "step": progress.step, "history": progress.history}
    plain = {name: tensor.contiguous().cpu() for name, tensor in tensors.items()}
    try:
        with writing(partial.parent):
            save_file(plain, partial, metadata={"state": json.dumps(facts)})
            with partial.open("rb+") as handle:
                os.fsync(handle.fileno())  # else a machine that is lost may leave neither the old state nor the new
            partial.replace(file)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def restore(file: str | Path, settings: Any, model: Any, optimizer: Any, generator: torch.Generator) -> Progress:
    """Bring model, optimizer and generators to the state that a file holds.

    Raises:
        OptionError: The file is damaged, or belongs to other settings, text or starting weights, or to another model.
    """
    progress, written, tensors = _read(file)
    given = json.loads(json.dumps(settings))
    start, began = given.pop("weights", None), written.pop("weights", None)
    other = sorted(name for name in {*given, *written} if written.get(name) != given.get(name))
    if other:
        held = ", ".join(f"{name} {written.get(name)!r}" for name in other)
        raise OptionError(f"{file} was written with other settings or text ({held}): remove it to start anew")
    own, found = _state(model), _below("model.", tensors)
    shapes, others = ({name: t.shape for name, t in state.items()} for state in (own, found))
    if shapes != others:
        name = min(name for name, _ in shapes.items() ^ others.items())
        raise OptionError(f"{file} belongs to another model ({name} differs): remove it to start anew")
    if began not in (start, None):  # which earlier versions did not write
        raise OptionError(
            f"{file} is of a training that began with other weights: give the model as it was then, or remove the file "
            "to start anew"
        )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(found[name])
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _below("optimizer.", tensors).items():
        index, _, key = name.partition(".")
        moments.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
    generator.set_state(tensors["generator"])
    states = [tensors[name] for name in _DROPOUT if name in tensors]
    set_random_state(states[: len(random_state(_device(model)))], _device(model))
    return progress


def _read(file: str | Path) -> tuple[Progress, dict[str, Any], dict[str, Tensor]]:
    """What `save` wrote: where the loop stood, the settings, and all tensors.

    Raises:
        OptionError: The file is damaged.
    """
    try:
        with safe_open(file, "pt") as content:
            facts = json.loads((content.metadata() or {})["state"])
            tensors = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
        progress = Progress(tensors["order"], int(facts["step"]), list(facts["history"]))
        if "generator" not in tensors:
            raise KeyError("generator")
        return progress, dict(facts["settings"]), tensors
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise OptionError(f"{file} is no checkpoint of a pretraining ({error}): remove it to start anew") from error


def is_checkpoint(file: Path) -> bool:
    """Whether `save` wrote a file."""
    try:
        with safe_open(file, "pt") as content:
            return "state" in (content.metadata() or {})
    except (SafetensorError, OSError):
        return False


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those whose names begin so, by the rest of the name."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def digest(rows: Tensor) -> str:
    """Shape and hash of token ids, which differ with the text and the tokenizer."""
    values = rows.contiguous().cpu()
    return f"{list(values.shape)} {hashlib.sha256(values.numpy().tobytes()).hexdigest()[:16]}"


def digest_of_weights(model: Any) -> str:
    """Hash of what a model begins with."""
    found = hashlib.sha256()
    for tensor in _state(model).values():
        found.update(tensor.detach().contiguous().cpu().numpy().tobytes())
    return found.hexdigest()[:16]


def described_model(model: Any) -> str:
    """Hash of a model's class and configuration, of which the shapes of its weights do not tell all (heads, say)."""
    values = {name: value for name, value in model.config.to_dict().items() if name not in _NOT_THE_MODEL}
    text = json.dumps([type(model).__name__, values], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


_NOT_THE_MODEL = (
    "transformers_version", "_name_or_path", "architectures", "dtype", "torch_dtype", "_attn_implementation",
)  # fmt: skip


_PLAIN = (bool, int, float, str)


def described(objective: Any) -> Any:
    """An objective's name and its plain settings, with those of its parts."""
    if isinstance(objective, _PLAIN):
        return objective
    if isinstance(objective, list | tuple):
        return [described(part) for part in objective]
    fields = dataclasses.fields(objective) if dataclasses.is_dataclass(objective) else ()
    values = {field.name: plain_number(getattr(objective, field.name)) for field in fields}
    plain = {name: value for name, value in values.items() if isinstance(value, _PLAIN)}
    parts = {name: described(value) for name, value in values.items() if isinstance(value, list | tuple)}
    return [type(objective).__name__, {**plain, **parts}]


def _state(model: Any) -> dict[str, Tensor]:
    """Parameters and buffers of the state dict; one that is shared stands under its first name alone."""
    own = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    kept = model.state_dict().keys()
    return {name: tensor for name, tensor in own.items() if name in kept}


def _device(model: Any) -> str:
    return str(next(model.parameters()).device)
