"""The same beside weights in 8 bits, for training on the CPU.

There bitsandbytes makes floating weights of the 8-bit ones at each pass and multiplies by those (`MatMul8bitFp`), and
PEFT adds its branch. With the update added to these weights while they are there, one product does for both.
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora.bnb import Linear8bitLt
from torch import nn
from torch.autograd.function import once_differentiable

from adapt.backbones.kernels import kernels_of
from adapt.strategies.lora_layer import only_adapter


class _UpdatedInt8(torch.autograd.Function):
    """y = x·(diag(c)·Q + s·B·A)ᵀ + b with gradients of x, A and B; the sum is formed again for that of x."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        codes: torch.Tensor,
        steps: torch.Tensor,
        bias: torch.Tensor | None,
        a: torch.Tensor,
        b: torch.Tensor,
        scale: float,
    ) -> torch.Tensor:
        """
        Args:
            ctx: Of autograd.
            x: (rows, in).
            codes: Q, (out, in), int8.
            steps: c, (out, 1), float32.
            bias: (out), or None.
            a: (rank, in).
            b: (out, rank).
            scale: s.
        """
        ctx.save_for_backward(x, codes, steps, a, b)
        ctx.scale = scale
        return nn.functional.linear(x, _formed(codes, steps, a, b, scale), bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, codes, steps, a, b = ctx.saved_tensors
        into_x, _, _, _, into_a, into_b, _ = ctx.needs_input_grad
        of_a = (g @ b).mul_(ctx.scale).t() @ x if into_a else None
        of_b = ((x @ a.t()).mul_(ctx.scale).t() @ g).t() if into_b else None
        of_x = g @ _formed(codes, steps, a, b, ctx.scale) if into_x else None
        return of_x, None, None, None, of_a, of_b, None


def _formed(codes: torch.Tensor, steps: torch.Tensor, a: torch.Tensor, b: torch.Tensor, scale: float) -> torch.Tensor:
    return codes.to(a.dtype).mul_(steps).addmm_(b, a, alpha=scale)


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
        a, b = (factors[name].weight.to(x.dtype) for factors in (self.lora_A, self.lora_B))
        bias = None if base.bias is None else base.bias.to(x.dtype)
        steps = base.state.SCB.unsqueeze(1) * (1 / 127)
        rows = x.reshape(-1, x.shape[-1])
        y = _UpdatedInt8.apply(rows, base.state.CB, steps, bias, a, b, self.scaling[name])
        return y.view(*x.shape[:-1], -1)


def fuse_8_bit(model: nn.Module) -> None:
    """Have PEFT's layers beside 8-bit weights computed so, in place; names and values of parameters stay."""
    for module in model.modules():
        if type(module) is Linear8bitLt:
            module.__class__ = LoRALinear8bit
