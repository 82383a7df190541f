"""Norms of a frozen backbone in bfloat16 by one kernel of CUDA's, that keep the dtype of what they are given.

CUDA's autocast runs layer norms in float32 and leaves their outputs so: hidden states then take twice the memory, and
each projection casts its input anew. The kernel reckons mean and variance in float32 whatever its input is (torch's
`layer_norm_kernel.cu`), and the CPU's autocast leaves the dtype alone. transformers writes root mean square norms as
half a dozen operations in float32, each of which reads and writes all hidden states.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from adapt.backbones.kernels import kernels_of

_ROOT_MEAN_SQUARE = ("LlamaRMSNorm", "MistralRMSNorm", "Qwen2RMSNorm", "Qwen3RMSNorm")
"""Classes of transformers that reckon x / sqrt(mean(x²) + eps) in float32 and multiply by the weight."""


def keep_precision(model: nn.Module) -> None:
    """Have the frozen norms in bfloat16 take one kernel and keep the dtype of their inputs, in place.

    Args:
        model: Of which the norms change class; names and values of parameters stay.
    """
    for module in model.modules():
        if any(p.requires_grad or p.dtype != torch.bfloat16 for p in module.parameters(recurse=False)):
            continue
        if type(module) is nn.LayerNorm and module.elementwise_affine:
            module.__class__ = FrozenLayerNorm
        elif type(module).__name__ in _ROOT_MEAN_SQUARE:
            module.__class__ = FrozenRMSNorm


class FrozenLayerNorm(nn.LayerNorm):
    """A layer norm that autocast leaves alone."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """
        Args:
            input: (..., *normalized_shape), in any floating dtype.

        Returns:
            The same shape and dtype.
        """
        weight, bias = (None if v is None else v.to(input.dtype) for v in (self.weight, self.bias))
        with _without_autocast(input):
            return nn.functional.layer_norm(input, self.normalized_shape, weight, bias, self.eps)


class FrozenRMSNorm(nn.Module):
    """A root mean square norm (Zhang & Sennrich 2019) by torch's fused kernel."""

    weight: nn.Parameter
    variance_epsilon: float

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """
        Args:
            hidden_states: (..., hidden), in any floating dtype.

        Returns:
            The same shape and dtype.
        """
        weight = self.weight.to(hidden_states.dtype)
        with _without_autocast(hidden_states):
            if hidden_states.is_cuda:
                shape = list(weight.shape)
                return torch.ops.aten._fused_rms_norm(hidden_states, shape, weight, self.variance_epsilon)[0]
            if kernels_of(hidden_states) == "cuda":
                return _Planned.apply(hidden_states, weight)
            return nn.functional.rms_norm(hidden_states, weight.shape, weight, self.variance_epsilon)

    def extra_repr(self) -> str:
        """Shape and epsilon."""
        return f"{tuple(self.weight.shape)}, eps={self.variance_epsilon}"


class _Planned(torch.autograd.Function):
    """What the fused kernel returns and keeps, without values: elsewhere its operation is made of others."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """
        Args:
            ctx: Of autograd.
            x: (..., hidden).
            weight: (hidden).
        """
        ctx.save_for_backward(x, weight, x.new_empty((*x.shape[:-1], 1), dtype=torch.float32))
        return torch.empty_like(x)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return torch.empty_like(gradient), None


def _without_autocast(tensor: torch.Tensor) -> torch.autocast:
    device = tensor.device.type
    return torch.autocast("cpu" if device == "meta" else device, enabled=False)
