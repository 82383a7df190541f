"""`lora_layer` beside weights in 8 bits, for training on the CPU.

There bitsandbytes makes floating weights of the 8-bit ones at each pass and multiplies by those (`MatMul8bitFp`), and
PEFT adds its branch. With the update added to these weights while they are there, one product does for both.
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora.bnb import Linear8bitLt
from torch import nn

from adapt.backbones.kernels import kernels_of
from adapt.strategies.lora_layer import Updated, only_adapter


class LoRALinear8bit(Linear8bitLt):
    """PEFT's layer beside bitsandbytes' `Linear8bitLt`; what is not training on a CPU is left to them."""

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """
        Args:
            x: (..., in).
            args: Left to PEFT.
            kwargs: Left to PEFT.

        Returns:
            (..., out).
        """
        name = only_adapter(self) if self.training and not args and not kwargs and kernels_of(x) == "cpu" else None
        if name is None:
            return super().forward(x, *args, **kwargs)
        base = self.get_base_layer()
        if base.weight.CB is not None:  # as bitsandbytes does at the first pass
            base.init_8bit_state()
        if torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.get_autocast_dtype(x.device.type))
        a, b = (factors[name].weight for factors in (self.lora_A, self.lora_B))
        bias = None if base.bias is None else base.bias.to(x.dtype)
        steps = base.state.SCB.unsqueeze(1) * (1 / 127)
        rows = x.reshape(-1, x.shape[-1])
        y = Updated.apply(rows, base.state.CB, bias, a, b, self.scaling[name], steps)
        return y.view(*x.shape[:-1], -1)


def fuse_8_bit(model: nn.Module) -> None:
    """Have PEFT's layers beside 8-bit weights computed so, in place; names and values of parameters stay."""
    for module in model.modules():
        if type(module) is Linear8bitLt:
            module.__class__ = LoRALinear8bit
