"""Has the CPU's operations choose dtypes and keep masks as CUDA's do, for plans: fake tensors lie on the CPU.

Read from torch's `aten/src/ATen/autocast_mode.h` (the operations that autocast runs in float32 on CUDA, which on CPUs
keep the dtype of their inputs) and `aten/src/ATen/native/Dropout.cpp` (CUDA keeps a mask of one byte an element), and
from bitsandbytes' `autograd/_functions.py`. Attention whose mask is trained (T5's bias of positions) is fused there,
too (`_scaled_dot_product_efficient_attention_backward` in `torch/_meta_registrations.py` gives the mask a gradient),
where the CPU's kernels refuse it and every weight would be kept.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from adapt.backbones.kernels import planned_for
from adapt.backbones.slow_imports import import_bitsandbytes
from adapt.backbones.swapped import swapped
from adapt.training.dropout import dropout, torch_dropout

_FLOAT32 = frozenset(
    {
        "layer_norm", "group_norm", "softmax", "log_softmax", "softplus", "pow", "__pow__", "exp", "expm1", "log",
        "log1p", "log2", "log10", "logsumexp", "rsqrt", "reciprocal", "sum", "prod", "cumsum", "norm",
        "cosine_similarity",
        "cross_entropy", "nll_loss", "kl_div", "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss",
        "binary_cross_entropy_with_logits",
    }
)  # fmt: skip
"""Names of functions and methods that CUDA's autocast runs in float32."""
_LOW = (torch.bfloat16, torch.float16)


@contextmanager
def like_cuda() -> Iterator[None]:
    """Within it, under the CPU's autocast, operations return and keep what those of CUDA would."""
    with ExitStack() as stack:
        if importlib.util.find_spec("bitsandbytes") is not None:
            import_bitsandbytes()
            from bitsandbytes.autograd import _functions

            # the product of LLM.int8(), in place of that with floating weights, which it trains with on CPUs
            stack.enter_context(swapped(_functions, MatMul8bitFp=_functions.MatMul8bitLt))
        stack.enter_context(planned_for("cuda"))
        stack.enter_context(_Functions())
        yield


def in_layers(model: nn.Module) -> None:
    """Have checkpointed layers do the same when the backward pass computes them again: `like_cuda` is not on there."""
    for module in model.modules():
        checkpoint = vars(module).get("_gradient_checkpointing_func")
        if checkpoint is not None:
            module._gradient_checkpointing_func = functools.partial(_checkpointed, checkpoint)  # type: ignore[assignment]


def _checkpointed(checkpoint: Callable[..., Any], layer: Callable[..., Any], *args: Any) -> Any:
    return checkpoint(functools.partial(_within, layer), *args)


def _within(layer: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    with _Functions():
        return layer(*args, **kwargs)


class _Functions(TorchFunctionMode):
    """Torch's own functions."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run a function of torch."""
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if func in (torch_dropout, dropout):  # torch names itself by what stands in its place
            found = _dropout(*args, **kwargs)
            if found is not None:
                return found
        elif name == "scaled_dot_product_attention":  # fused, it keeps no mask of its dropout; the CPU's would
            if len(args) > 4:
                args = (*args[:4], 0.0, *args[5:])
            else:
                kwargs = {**kwargs, "dropout_p": 0.0}
            mask = args[3] if len(args) > 3 else kwargs.get("attn_mask")
            if isinstance(mask, torch.Tensor) and mask.requires_grad:
                query, key, value = map(_lowered, args[:3])
                shape = (*query.shape[:-1], key.shape[-2])  # which its gradient has before it is summed
                return _Fused.apply(query, key, value, _lowered(mask).expand(shape))
        elif name in _FLOAT32 and torch.is_autocast_enabled("cpu"):
            args = tuple(_float32(value) for value in args)
            kwargs = {key: _float32(value) for key, value in kwargs.items()}
        return func(*args, **kwargs)


def _float32(value: Any) -> Any:
    return value.float() if isinstance(value, torch.Tensor) and value.dtype in _LOW else value


def _lowered(value: torch.Tensor) -> torch.Tensor:
    """As autocast has it."""
    low = torch.is_autocast_enabled("cpu")
    return value.to(torch.get_autocast_dtype("cpu")) if low and value.is_floating_point() else value


class _Fused(torch.autograd.Function):
    """What the fused kernel keeps and returns; values are none of a plan's."""

    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        """
        Args:
            ctx: Of autograd.
            query: (batch, heads, length, size).
            key: (batch, heads, read, size).
            value: (batch, heads, read, size of values).
            mask: Added to the scores, (batch, heads, length, read).
        """
        out = query.new_empty((*query.shape[:-1], value.shape[-1]))
        ctx.save_for_backward(query, key, value, mask, out, query.new_empty(query.shape[:-1], dtype=torch.float32))
        return out

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(torch.empty_like(tensor) for tensor in ctx.saved_tensors[:4])


def _dropout(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    """Dropout by CUDA's one operation; None where it does not take it."""
    if not training or inplace or not 0.0 < p < 1.0:
        return None
    return torch.native_dropout(input, p, True)[0]
