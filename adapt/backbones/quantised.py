"""Weights that bitsandbytes holds in 8 or 4 bits: how they are asked for, what stays whole, and where they lie."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adapt.backbones.classes import head_names, output_layer
from adapt.spec import Unsupported

if TYPE_CHECKING:
    import torch
    from torch import nn


def agreed(found: Mapping[str, Any] | None, asked: Any) -> Any:
    """How weights are to be quantised: as a checkpoint's own are, where it has such, or as is asked; None: not at all.

    Raises:
        Unsupported: They are quantised otherwise than is asked for.
    """
    if found is None:
        return asked
    from transformers import BitsAndBytesConfig

    method = str(found.get("quant_method", "unknown"))
    bits = next((bits for bits in (4, 8) if found.get(f"load_in_{bits}bit")), None)  # by bitsandbytes
    if bits is None:
        raise Unsupported(
            f"the backbone's weights are quantised by '{method}', beside which nothing is trained; give the "
            "backbone as it was before, which qlora quantises itself"
        )
    if asked is None or not getattr(asked, f"load_in_{bits}bit"):
        raise Unsupported(
            f"the backbone's weights are quantised to {bits} bits by {method}; use qlora with bits={bits}, or give "
            "the backbone as it was before"
        )
    return BitsAndBytesConfig.from_dict(found)


def check_capability(how: Any) -> None:
    """
    Raises:
        Unsupported: The CUDA device is too old for products with such weights.
    """
    import torch

    if torch.version.hip:
        return
    bits, needed = (8, (7, 5)) if how.load_in_8bit else (4, (6, 0))
    found = torch.cuda.get_device_capability()
    if found < needed:
        raise Unsupported(
            f"{bits}-bit weights need a CUDA device of compute capability {needed[0]}.{needed[1]} or above, and "
            f"this one has {found[0]}.{found[1]}; use --device cpu, or a strategy that does not quantise"
        )


def keep_whole(how: Any, cls: Any, config: Any) -> None:
    """Have modules of a class left as they are: its head, a pooler, which many checkpoints lack, and `wo`.

    T5's relatives give `wo` inputs of its weight's type, which in 4 bits is one of integers.
    """
    import torch

    with torch.device("meta"):
        model = cls(config)
    names = head_names(model) | {name for name, _ in model.named_parameters() if "pooler" in name.split(".")}
    last = output_layer(model)
    kept = {name for name, module in model.named_modules() if module is last or name.endswith(".wo")}
    found = sorted({name.rpartition(".")[0] for name in names} | kept)
    how.llm_int8_skip_modules = [*(how.llm_int8_skip_modules or []), *found]


def hold_whole_in(model: nn.Module, dtype: torch.dtype) -> None:
    """Hold what is not quantised in the type that was asked for, or float32: transformers leaves weights as they lie.

    It does so where a checkpoint is quantised already, so that norms in bfloat16 would meet biases in float32.

    Args:
        model: As it was read, changed in place.
        dtype: Of what is not quantised.
    """
    import torch

    for parameter in model.parameters():
        packed = hasattr(parameter, "quant_state") or hasattr(parameter, "CB")  # bitsandbytes' own, of whatever type
        if not packed and parameter.is_floating_point() and parameter.dtype not in (dtype, torch.float32):
            parameter.data = parameter.data.to(dtype)


def place_rest(model: nn.Module, device: str) -> nn.Module:
    """Move what is not on the device yet, such as a head: quantised weights were made there, and stay as they are."""
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            if parameter.device.type != device:
                parameter.data = parameter.data.to(device)
        for name, buffer in module.named_buffers(recurse=False):
            if buffer.device.type != device:
                module._buffers[name] = buffer.to(device)
    return model
