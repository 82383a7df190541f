"""What the tests of strategies share: outputs of models, values for what is trained, the prefixes in a model."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from adapt.strategies.prefix_attention import PrefixKV

Build = Callable[..., nn.Module]


def logits(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(**batch).logits


def randomise(model: nn.Module, std: float = 0.3) -> nn.Module:
    """Give everything trainable values as training would, so that no branch is zero."""
    generator = torch.Generator().manual_seed(5)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = torch.randn(parameter.shape, generator=generator) * std
    return model


def prefixes(model: nn.Module) -> list[PrefixKV]:
    return [module for module in model.modules() if isinstance(module, PrefixKV)]
