"""Softmax of low precision on the CPU, made in float32.

torch's kernel takes four times as long in bfloat16 as in float32, forward and, by more, backward; bfloat16 attention
of transformers' BERT runs it. A few rows are made at a time, so that what is held in float32 stays small.

Where weights are float32, so is the mask that transformers adds to the scores. Under autocast the scores, their softmax
and its dropout are then float32 too, twice as large, until the product with the values casts them; this softmax casts
its output at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.overrides import has_torch_function_unary

from adapt.backbones.kernels import kernels_of

_AT_ONCE = 2**18
"""Elements held in float32: 1 MiB, which the caches hold."""
_PARTS = 32
"""Parts at most, each larger where there would be more: a plan runs them all, on tensors without contents."""
torch_softmax = F.softmax
"""Torch's own, whatever stands in its place."""


def softmax(
    input: torch.Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: torch.dtype | None = None
) -> torch.Tensor:
    """Torch's softmax, on the CPU computed in float32 where the output is bfloat16 or float16.

    It is where the input is, and under autocast where the input has the dimensions of attention's scores.

    Args:
        input: Any shape.
        dim: Values along it sum to one.
        _stacklevel: As torch's.
        dtype: That of the output, and of the computation; None: the input's.

    Returns:
        The shape of the input.
    """
    cast = dtype is None and input.dtype == torch.float32 and input.dim() == 4 and torch.is_autocast_enabled("cpu")
    made_in = torch.get_autocast_dtype("cpu") if cast else input.dtype
    low = made_in in (torch.bfloat16, torch.float16) and dtype in (None, input.dtype)
    watched = has_torch_function_unary(input)  # torch's shows it to those who watch
    if (
        watched
        or not low
        or dim not in (-1, input.ndim - 1)
        or 0 in (input.ndim, input.numel())
        or kernels_of(input) != "cpu"
    ):
        return torch_softmax(input, dim, _stacklevel, dtype)
    return made_in_float32(input, made_in)


def made_in_float32(scores: torch.Tensor, dtype: torch.dtype, *, blind: bool = False) -> torch.Tensor:
    """Softmax over the last dimension, computed in float32, a few rows at a time.

    Args:
        scores: (..., keys).
        dtype: That of the output.
        blind: Whether all of a row may be -inf, which gives 0 then; it takes three times as long.
    """
    made: torch.Tensor = _InFloat32.apply(scores, dtype, blind)
    return made


def made_here(weights: torch.Tensor) -> bool:
    """Whether they came out of this softmax, in the dtype of the product that follows, and have a gradient."""
    return type(weights.grad_fn).__name__ == f"{_InFloat32.__name__}Backward"


class _InFloat32(torch.autograd.Function):
    """Softmax over the last dimension in some dtype; the output is kept, in that dtype, as torch's keeps it."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, dtype: torch.dtype, blind: bool) -> torch.Tensor:
        made = torch.ops.aten._safe_softmax if blind else torch.softmax
        p = torch.empty_like(x, dtype=dtype, memory_format=torch.contiguous_format)
        for into, given in _parts(p, x):
            into.copy_(made(given, -1, torch.float32))
        ctx.save_for_backward(p)
        ctx.dtype = x.dtype
        return p

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (p,) = ctx.saved_tensors
        of_x = torch.empty_like(p, dtype=ctx.dtype)
        for into, given, made in _parts(of_x, g, p):
            into.copy_(torch._softmax_backward_data(given.float(), made.float(), -1, torch.float32))
        return of_x, None, None


def _parts(*tensors: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
    """The rows of tensors of one shape, a few at a time."""
    rows = [tensor.reshape(-1, tensor.shape[-1]) for tensor in tensors]
    count, size = rows[0].shape
    at_once = max(1, _AT_ONCE // size, -(-count // _PARTS))
    return zip(*(tensor.split(at_once) for tensor in rows), strict=True)
