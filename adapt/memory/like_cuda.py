"""Has the CPU's operations choose dtypes and keep masks as CUDA's do, for plans: fake tensors lie on the CPU.

Read from torch's `aten/src/ATen/autocast_mode.h` (the operations that autocast runs in float32 on CUDA, which on CPUs
keep the dtype of their inputs) and `aten/src/ATen/native/Dropout.cpp` (CUDA keeps a mask of one byte an element), and
from bitsandbytes' `autograd/_functions.py`.
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
        elif name in _FLOAT32 and torch.is_autocast_enabled("cpu"):
            args = tuple(_float32(value) for value in args)
            kwargs = {key: _float32(value) for key, value in kwargs.items()}
        return func(*args, **kwargs)


def _float32(value: Any) -> Any:
    return value.float() if isinstance(value, torch.Tensor) and value.dtype in _LOW else value


def _dropout(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    """Dropout by CUDA's one operation; None where it does not take it."""
    if not training or inplace or not 0.0 < p < 1.0:
        return None
    return torch.native_dropout(input, p, True)[0]
