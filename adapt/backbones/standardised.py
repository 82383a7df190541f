"""Frozen features of mean 0 and deviation 1, on which a linear head trains evenly whatever their scale."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from adapt.backbones.classes import LANGUAGE_MODELS
from adapt.backbones.heads import MeanPoolingClassifier
from adapt.spec import Unsupported


class Standardised(nn.Module):
    """(x - mean) / standard deviation by feature, both over the training rows.

    He et al. 2022 (masked autoencoders, section A.1) put a batch normalisation without affine part in front of a linear
    probe for the same reason. Here mean and variance are those of all tokens (or pooled texts) seen so far (Chan et al.
    1979), and stay as they are from the first time in evaluation mode on: the end of the first epoch.
    """

    mean: torch.Tensor
    squares: torch.Tensor

    def __init__(self, width: int, device: torch.device) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width, device=device), persistent=False)
        self.register_buffer("squares", torch.zeros(width, device=device), persistent=False)
        self.seen = 0
        self.fixed = False

    @property
    def deviation(self) -> torch.Tensor:
        """(features); 1 before anything was seen."""
        if self.seen == 0:
            return torch.ones_like(self.squares)
        return (self.squares / self.seen + 1e-8).sqrt()

    def train(self, mode: bool = True) -> Standardised:
        """Evaluation ends the counting."""
        self.fixed = self.fixed or (not mode and self.seen > 0)
        return super().train(mode)

    @torch.no_grad()
    def forward(self, features: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """
        Args:
            features: (batch, hidden), or (batch, length, hidden).
            mask: (batch, length); where it is 0, tokens neither count nor become anything but zero.

        Returns:
            As `features`, in their dtype.
        """
        x = features.float()
        real = mask.bool() if x.dim() == 3 else None
        if self.training and not self.fixed:
            self._count(x if real is None else x[real])
        out = (x - self.mean) / self.deviation
        return (out if real is None else out * real[..., None]).to(features.dtype)

    def counted(self) -> tuple[int, torch.Tensor, torch.Tensor]:
        """What has been counted so far, for `set_counted`."""
        return self.seen, self.mean.clone(), self.squares.clone()

    def set_counted(self, counted: tuple[int, torch.Tensor, torch.Tensor]) -> None:
        """Go back to what had been counted."""
        self.seen, mean, squares = counted
        self.mean.copy_(mean)
        self.squares.copy_(squares)

    def _count(self, x: torch.Tensor) -> None:
        n, mean = len(x), x.mean(0)
        apart, total = mean - self.mean, self.seen + n
        self.squares.add_((x - mean).square().sum(0) + apart.square() * (self.seen * n / total))
        self.mean.add_(apart * (n / total))
        self.seen = total

    @torch.no_grad()
    def fold_into(self, layer: nn.Linear) -> None:
        """Let the layer that reads the output read the input instead."""
        layer.weight.div_(self.deviation)
        layer.bias.sub_(layer.weight @ self.mean)


def linear_head(model: Any) -> nn.Linear:
    """The head of a model behind a memo, which is one linear layer on the memo's features.

    Raises:
        Unsupported: It is more than that: a hidden layer, a pooler, or the output layer of a language model.
    """
    owners = {name.rpartition(".")[0] for name in model.head_names}
    layer = model.get_submodule(owners.pop()) if len(owners) == 1 else None
    mean = isinstance(model, MeanPoolingClassifier)
    pooled = not mean and isinstance(getattr(model.base_model, "pooler", None), nn.Module)
    if pooled or model.task_kind in LANGUAGE_MODELS or not isinstance(layer, nn.Linear) or layer.bias is None:
        raise Unsupported(
            "features can be standardised for heads that are one linear layer on them; set standardise=False, or for "
            "classification pooling='mean'"
        )
    return layer
