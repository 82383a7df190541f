"""A linear layer with a low-rank update that costs next to nothing: W + s·B·A is formed, and one product made with it.

PEFT's layer makes three products forward, scales one and adds two; on small models that is slower than full fine-tuning
(its issues 925, 1514, 2063). With V = W + s·B·A and y = x·Vᵀ, forward is one product, and so is the gradient of the
input, g·V; the gradients of the factors, s·gᵀ·(x·Aᵀ) and s·(g·B)ᵀ·x, are thin ones.

A weight held in bfloat16 lies on a grid of steps of some 1/256 of each of its elements, and so does V: of an update of
1/200 of the weights' size 98 % are left, of 1/1000 60 %, as where it is merged in that precision. At the default rates
updates grow beyond that; for low rates in short runs there is float32.

On a GPU what counts is what is read and written, and how often something is launched. To form V moves some 4·in·out
elements, to add the branch to y in place 2·rows·out: so it is added where there are fewer rows than 2·in, and in the
backward pass fewer than 2·out.
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora.layer import Linear
from torch import nn
from torch.autograd.function import once_differentiable
from transformers.pytorch_utils import Conv1D

from adapt.backbones.kernels import kernels_of


class Updated(torch.autograd.Function):
    """y = x·(W + s·B·A)ᵀ + b with gradients of x, A and B; W and b are frozen, and W may be held in 8 bits.

    V is formed again for the gradient of the input rather than kept: that costs rank / rows of a product, and keeping
    it would take as much memory as the frozen weights.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        a: torch.Tensor,
        b: torch.Tensor,
        scale: float,
        steps: torch.Tensor | None,
    ) -> torch.Tensor:
        """
        Args:
            ctx: Of autograd.
            x: (rows, in), in the dtype of the products.
            weight: (out, in).
            bias: (out), or None.
            a: (rank, in), in its own dtype, which its gradient has too.
            b: (out, rank), likewise.
            scale: s.
            steps: (out, 1), what the rows of a weight in int8 are multiplied by; None: it is in floating point.
        """
        low_a, low_b = a.to(x.dtype), b.to(x.dtype)
        ctx.save_for_backward(x, weight, low_a, low_b, steps)
        ctx.scale, ctx.dtype = scale, a.dtype
        return nn.functional.linear(x, _formed(weight, steps, low_a, low_b, scale), bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight, a, b, steps = ctx.saved_tensors
        into_x, _, _, into_a, into_b, _, _ = ctx.needs_input_grad
        of_a = (_scaled(g @ b, ctx.scale).t() @ x).to(ctx.dtype) if into_a else None
        of_b = None
        if into_b:  # the wide product, turned and taken to its dtype at once
            of_b = torch.empty_like(b, dtype=ctx.dtype).copy_((_scaled(x @ a.t(), ctx.scale).t() @ g).t())
        of_x = g @ _formed(weight, steps, a, b, ctx.scale) if into_x else None
        return of_x, None, None, of_a, of_b, None, None


def _formed(
    weight: torch.Tensor, steps: torch.Tensor | None, a: torch.Tensor, b: torch.Tensor, scale: float
) -> torch.Tensor:
    if steps is None:
        return torch.addmm(weight, b, a, alpha=scale)
    formed = torch.empty_like(weight, dtype=a.dtype)
    rows = max(1, _AT_ONCE // weight.shape[1])
    for into, codes, their in zip(formed.split(rows), weight.split(rows), steps.split(rows), strict=True):
        into.copy_(codes.float().mul_(their))
    return formed.addmm_(b, a, alpha=scale)


_AT_ONCE = 2**18
"""Elements of a weight in 8 bits held in float32, which is faster than bfloat16 times float32: 1 MiB, which the caches
hold."""


class _UpdatedOnCuda(torch.autograd.Function):
    """The same with the kernels of a GPU; factors are given in their own dtype, and so are their gradients."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        a: torch.Tensor,
        b: torch.Tensor,
        scale: float,
    ) -> torch.Tensor:
        """See `Updated`."""
        low_a, low_b = a.to(x.dtype), b.to(x.dtype)
        inner = x @ low_a.t()
        if len(x) < 2 * x.shape[1]:
            y = nn.functional.linear(x, weight, bias).addmm_(inner, low_b.t(), alpha=scale)
        else:
            y = nn.functional.linear(x, torch.addmm(weight, low_b, low_a, alpha=scale), bias)
        ctx.save_for_backward(x, weight, low_a, low_b, inner)
        ctx.scale, ctx.dtype = scale, a.dtype
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight, a, b, inner = ctx.saved_tensors
        into_x, _, _, into_a, into_b, _ = ctx.needs_input_grad
        of_inner = _scaled(g @ b, ctx.scale)
        of_a = _product(of_inner.t(), x, ctx.dtype) if into_a else None
        of_b = _scaled(_product(g.t(), inner, ctx.dtype), ctx.scale) if into_b else None
        of_x = None
        if into_x and len(g) < 2 * g.shape[1]:
            of_x = (g @ weight).addmm_(of_inner, a)
        elif into_x:
            of_x = g @ torch.addmm(weight, b, a, alpha=ctx.scale)
        return of_x, None, None, of_a, of_b, None


def _product(left: torch.Tensor, right: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """A product given in some dtype, and summed in it where the GPU can."""
    if left.dtype == dtype:
        return left @ right
    if left.is_cuda and dtype == torch.float32 and torch.version.hip is None:
        return torch.mm(left, right, out_dtype=dtype)
    return (left @ right).to(dtype)


def _scaled(values: torch.Tensor, scale: float) -> torch.Tensor:
    """The values times the scale, in place; where that is one, nothing is launched."""
    return values if scale == 1.0 else values.mul_(scale)


_WRITING = 4
"""On CPUs V is not formed for fewer rows than in / 4, as when a text is written token by token. In bfloat16 a short
text alone is so predicted with the whole update, and in a batch with that part of it which V holds."""


class LoRALinear(Linear):
    """PEFT's layer for a frozen `nn.Linear` or `Conv1D`, with its names and its file format, computed as above.

    What that does not hold for is left to PEFT: dropout on the branch while training, DoRA, several adapters, merged or
    disabled ones.
    """

    def __init__(self, base_layer: nn.Module, *args: Any, **kwargs: Any) -> None:
        super().__init__(base_layer, *args, is_target_conv_1d_layer=isinstance(base_layer, Conv1D), **kwargs)

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """
        Args:
            x: (..., in).
            args: Left to PEFT.
            kwargs: Left to PEFT.

        Returns:
            (..., out).
        """
        name = None if args or kwargs else only_adapter(self)
        if name is None:
            return super().forward(x, *args, **kwargs)
        base = self.get_base_layer()
        weight, bias = base.weight, base.bias
        a, b = self.lora_A[name].weight, self.lora_B[name].weight
        cuda = kernels_of(x) == "cuda"
        if torch.is_autocast_enabled(x.device.type):
            dtype = torch.get_autocast_dtype(x.device.type)
            x, weight = x.to(dtype), weight.to(dtype)
            bias = None if bias is None else bias.to(dtype)
        if self.fan_in_fan_out:
            weight = weight.t()
        rows, scale = x.reshape(-1, x.shape[-1]), self.scaling[name]
        if cuda:
            y = _UpdatedOnCuda.apply(rows, weight, bias, a, b, scale)
        elif not torch.is_grad_enabled() and len(rows) < rows.shape[1] // _WRITING:
            a, b = a.to(rows.dtype), b.to(rows.dtype)
            y = nn.functional.linear(rows, weight, bias).addmm_(rows @ a.t(), b.t(), alpha=scale)
        else:
            y = Updated.apply(rows, weight, bias, a, b, scale, None)
        return y.view(*x.shape[:-1], -1)


def only_adapter(layer: Any) -> str | None:
    """Name of the only active adapter of a PEFT layer; None where its update cannot be fused with the weight.

    That is so where the layer is disabled or merged, has other active adapters or a variant (DoRA), or drops inputs of
    the branch.
    """
    if layer.disable_adapters or layer.merged or len(layer.active_adapters) != 1:
        return None
    (name,) = layer.active_adapters
    if name not in layer.lora_A or name in layer.lora_variant:
        return None
    return None if layer.training and not isinstance(layer.lora_dropout[name], nn.Identity) else str(name)
