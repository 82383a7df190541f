"""The layer that bottleneck adapters are made of."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

_FUNCTIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh}


class Adapted(nn.Module):
    """A frozen projection followed by a trainable residual bottleneck."""

    def __init__(self, projection: Any, size: int, non_linearity: str) -> None:
        """
        Args:
            projection: A linear layer, torch's or GPT-2's.
            size: Width of the bottleneck.
            non_linearity: `relu`, `gelu`, `silu` or `tanh`.
        """
        super().__init__()
        width, device = width_of(projection), projection.weight.device
        self.projection = projection
        self.down = nn.Linear(width, size, device=device, dtype=torch.float32)
        self.function = _FUNCTIONS[non_linearity]()
        self.up = nn.Linear(size, width, device=device, dtype=torch.float32)
        self.enabled = True
        nn.init.normal_(self.down.weight, std=0.02)
        nn.init.zeros_(self.down.bias)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    @property
    def weight(self) -> torch.Tensor:
        """The projection's weight, whose dtype T5 casts the input to."""
        return self.projection.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., in) to (..., out), in the projection's dtype."""
        out = self.projection(x)
        if not self.enabled:
            return out
        dtype = out.dtype if torch.is_autocast_enabled(out.device.type) else self.down.weight.dtype
        return out + self.up(self.function(self.down(out.to(dtype)))).to(out.dtype)


def width_of(projection: Any) -> int:
    """Size of a linear layer's output, torch's or GPT-2's."""
    return int(projection.out_features if isinstance(projection, nn.Linear) else projection.nf)
