"""Dropout on the CPU from 16 random bits an element.

torch draws a 64-bit number for each element, one after another on one thread (`bernoulli_`,
`aten/src/ATen/native/cpu/DistributionTemplates.h`), which takes a large share of a training step. Here four elements
share such a number, which is made from a counter by vector instructions on all threads. torch's attention with dropout
draws as slowly, and multiplies in float32; `attention` does neither.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from adapt.backbones.kernels import kernels_of
from adapt.training.softmax import made_here, made_in_float32

_BITS = 16
_LEVELS = 2**_BITS
_HALF = _LEVELS // 2
torch_dropout = F.dropout
"""Torch's own, whatever stands in its place."""
_torch_attention = F.scaled_dot_product_attention


def dropout(input: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> torch.Tensor:
    """Zero elements with probability p and divide the others by 1 - p (Srivastava et al. 2014).

    On CPUs p is taken to the nearest multiple of 2^-16, in the division too, so that the mean is kept. Otherwise, and
    in place, or where that is 0 or 1, it is torch's own.

    Args:
        input: Any shape, in a floating dtype.
        p: Probability to be zeroed, 0 to 1.
        training: False: the input is returned.
        inplace: As torch's.

    Returns:
        The shape and dtype of the input.

    Raises:
        ValueError: p is not between 0 and 1.
    """
    dropped = round(p * _LEVELS) if training and 0.0 < p < 1.0 else 0
    if not 0 < dropped < _LEVELS or inplace or kernels_of(input) != "cpu" or input.numel() == 0:
        return torch_dropout(input, p, training, inplace)
    drawn = random_bits(-(-input.numel() * _BITS // 64), input.device).view(torch.int16)[: input.numel()]
    kept = drawn.ge_(dropped - _HALF).to(torch.uint8)  # torch's loops over booleans are many times as slow
    how = _DroppedWeights if made_here(input) else _Dropped
    made: torch.Tensor = how.apply(input, kept, _LEVELS / (_LEVELS - dropped))
    return made


class _Dropped(torch.autograd.Function):
    """What is kept, times a factor. For the backward pass a byte an element is held, where torch holds the factors."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, kept: torch.Tensor, factor: float) -> torch.Tensor:
        ctx.save_for_backward(kept)
        ctx.factor = factor
        return x * _factors(x, kept, factor)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (kept,) = ctx.saved_tensors
        return g * _factors(g, kept, ctx.factor), None, None


class _DroppedWeights(torch.autograd.Function):
    """The same for the output of a softmax. No mask is held, only the output, as the product with the values does.

    An element is zero there if it was dropped, or was zero before. The latter gets a wrong gradient, zero, which does
    no harm: the softmax multiplies it by its output, which is zero.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, kept: torch.Tensor, factor: float) -> torch.Tensor:
        made = x * _factors(x, kept, factor)
        ctx.save_for_backward(made)
        ctx.factor = factor
        return made

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (made,) = ctx.saved_tensors
        return g * made.sign().mul_(ctx.factor), None, None


def _factors(like: torch.Tensor, kept: torch.Tensor, factor: float) -> torch.Tensor:
    return kept.to(like.dtype).mul_(factor).view(like.shape)


def random_bits(count: int, device: torch.device) -> torch.Tensor:
    """Random 64-bit numbers, int64 (count,), by SplitMix64 (Steele et al. 2014, figure 16); torch draws its start."""
    bits = torch.arange(count, device=device).mul_(_GAMMA)
    bits += torch.empty((), dtype=torch.int64, device=device).random_(-(2**63), None)  # all 64 bits
    shifted = torch.empty_like(bits)
    for shift, factor in _MIXES:
        torch.bitwise_right_shift(bits, shift, out=shifted)
        bits ^= shifted.bitwise_and_((1 << 64 - shift) - 1)  # the shift of a signed number brings in its sign
        bits *= factor
    torch.bitwise_right_shift(bits, 31, out=shifted)
    bits ^= shifted.bitwise_and_(2**33 - 1)
    return bits


def _signed(number: int) -> int:
    return number - 2**64 if number >= 2**63 else number


_GAMMA = _signed(0x9E3779B97F4A7C15)
_MIXES = ((30, _signed(0xBF58476D1CE4E5B9)), (27, _signed(0x94D049BB133111EB)))


def attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor:
    """Scaled dot-product attention (Vaswani et al. 2017, equation 1): torch's own, except with dropout on the CPU.

    There torch has no fused kernel and makes all weights in float32. Here products are in the dtype of the query, the
    softmax is computed in float32, and weights are held in the dtype of the values. In float32 on CUDA groups of query
    heads have their own copies of a key head, without which torch has no fused kernel either.

    Args:
        query: (..., heads, queries, size).
        key: (..., heads or a divisor of them with `enable_gqa`, keys, size).
        value: As key, of any size.
        attn_mask: Broadcast to (..., heads, queries, keys): boolean, True where a key is seen, or added to the scores.
        dropout_p: Probability of a weight to be zeroed.
        is_causal: A query sees keys up to its own position.
        scale: What scores are multiplied by; None: 1 / sqrt(size).
        enable_gqa: Groups of query heads share a key head.

    Returns:
        (..., heads, queries, size of a value).
    """
    cuda = kernels_of(query) == "cuda"
    theirs = dropout_p == 0.0 or kernels_of(query) != "cpu"
    cast = torch.is_autocast_enabled("cuda") or torch.is_autocast_enabled("cpu")  # the latter in plans
    whole = query.dtype == torch.float32 and not cast if cuda else not theirs
    if enable_gqa and whole:
        groups, enable_gqa = query.shape[-3] // key.shape[-3], False
        if groups > 1:
            key, value = key.repeat_interleave(groups, -3), value.repeat_interleave(groups, -3)
    if theirs:
        return _torch_attention(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)
    scores = query @ key.transpose(-2, -1) * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
    blind = attn_mask is not None
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, float("-inf"))
    elif attn_mask is not None:
        scores = scores + attn_mask
    # where a query sees nothing its weights are 0, as torch has it
    return dropout(made_in_float32(scores, value.dtype, blind=blind), dropout_p) @ value
