"""The layers that bottleneck adapters are made of."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

_FUNCTIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh}


class Bottleneck(nn.Module):
    """A trainable network of two narrow layers, whose output is added to hidden states; at first it is zero."""

    def __init__(self, width: int, size: int, non_linearity: str, device: torch.device) -> None:
        """
        Args:
            width: Size of the hidden states.
            size: Width of the bottleneck.
            non_linearity: `relu`, `gelu`, `silu` or `tanh`.
            device: Where its weights are.
        """
        super().__init__()
        self.down = nn.Linear(width, size, device=device, dtype=torch.float32)
        self.function = _FUNCTIONS[non_linearity]()
        self.up = nn.Linear(size, width, device=device, dtype=torch.float32)
        self.enabled = True
        nn.init.normal_(self.down.weight, std=0.02)
        nn.init.zeros_(self.down.bias)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def change(self, x: torch.Tensor) -> torch.Tensor:
        """(..., width) to what is added, of the same shape and dtype."""
        dtype = x.dtype if torch.is_autocast_enabled(x.device.type) else self.down.weight.dtype
        return self.up(self.function(self.down(x.to(dtype)))).to(x.dtype)


class Adapted(Bottleneck):
    """A frozen projection followed by a residual bottleneck."""

    def __init__(self, projection: Any, size: int, non_linearity: str) -> None:
        """
        Args:
            projection: A linear layer, torch's or GPT-2's.
            size: Width of the bottleneck.
            non_linearity: As for `Bottleneck`.
        """
        super().__init__(width_of(projection), size, non_linearity, projection.weight.device)
        self.projection = projection

    @property
    def weight(self) -> torch.Tensor:
        """The projection's weight, whose dtype T5 casts the input to."""
        return self.projection.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., in) to (..., out), in the projection's dtype."""
        out = self.projection(x)
        return out + self.change(out) if self.enabled else out


class AdaptedNorm(Bottleneck):
    """A frozen norm of a residual sum, to which a bottleneck that reads the normed sum adds before it is normed."""

    def __init__(self, norm: Any, size: int, non_linearity: str) -> None:
        """
        Args:
            norm: A layer norm.
            size: Width of the bottleneck.
            non_linearity: As for `Bottleneck`.
        """
        super().__init__(norm.weight.numel(), size, non_linearity, norm.weight.device)
        self.norm = norm

    def forward(self, total: torch.Tensor) -> torch.Tensor:
        """(..., width) to the same shape."""
        out = self.norm(total)
        return self.norm(total + self.change(out).to(total.dtype)) if self.enabled else out


def adapt_sum(module: nn.Module, width: int, size: int, non_linearity: str, device: torch.device) -> None:
    """Have a module that ends in a residual sum give it with the output of a bottleneck added, which reads it.

    Args:
        module: Gets the bottleneck as `bottleneck`; its output is a tensor, or a tuple that begins with one.
        width: Size of its output.
        size: Width of the bottleneck.
        non_linearity: As for `Bottleneck`.
        device: As for `Bottleneck`.
    """
    module.bottleneck = Bottleneck(width, size, non_linearity, device)
    module.register_forward_hook(_with_change)


def _with_change(module: Any, args: Any, output: Any) -> Any:
    if not module.bottleneck.enabled:
        return None
    total, *rest = output if isinstance(output, tuple) else (output,)
    changed = total + module.bottleneck.change(total)
    return (changed, *rest) if isinstance(output, tuple) else changed


def width_of(projection: Any) -> int:
    """Size of a linear layer's output, torch's or GPT-2's."""
    return int(projection.out_features if isinstance(projection, nn.Linear) else projection.nf)
