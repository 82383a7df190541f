"""Optimizer and learning-rate schedule for whatever is trainable."""

from __future__ import annotations

import dataclasses
import importlib.util
import math
from typing import Any

import torch
from torch import nn

from adapt import params
from adapt.backbones.slow_imports import import_bitsandbytes
from adapt.spec import Budget, OptionError, Unsupported


def optimizer_for(model: nn.Module, budget: Budget, learning_rate: float) -> torch.optim.Optimizer:
    """The budget's AdamW over the trainable parameters; matrices decay, vectors (biases, norms) do not.

    Parameters that `model.head_names` names are trained at `model.head_factor` times the learning rate, and those in
    `model.own_rates` at the rate it gives them, where a strategy has set these.

    Raises:
        OptionError: Nothing is trainable.
        Unsupported: The optimizer is that of bitsandbytes, which is not installed.
    """
    head: frozenset[str] = getattr(model, "head_names", frozenset())
    factor = getattr(model, "head_factor", 1.0)
    own: dict[str, float] = getattr(model, "own_rates", {})
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in params.trainable(model).items():
        rate = own.get(name, learning_rate * factor if name in head else learning_rate)
        decay = budget.weight_decay if parameter.dim() >= 2 else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    if not groups:
        raise OptionError("Nothing is trainable: the strategy left every parameter frozen.")
    settings: list[dict[str, Any]] = [
        {"params": members, "lr": rate, "weight_decay": decay} for (rate, decay), members in groups.items()
    ]
    if budget.optimizer == "adamw":
        return torch.optim.AdamW(settings, lr=learning_rate, fused=True)
    for group in settings:  # else its first step would move parameters, away from where CUDA graphs read them
        for parameter in group["params"]:
            parameter.data = parameter.data.contiguous()
    return _eight_bit(budget.optimizer)(settings, lr=learning_rate)


def _eight_bit(name: str) -> Any:
    """The class in bitsandbytes: moments in 8 bits by blocks of 256, those of tensors below 4096 elements in float32.

    Raises:
        Unsupported: bitsandbytes is not installed.
    """
    if importlib.util.find_spec("bitsandbytes") is None:
        raise Unsupported(f"optimizer '{name}' needs the package bitsandbytes: pip install bitsandbytes")
    import_bitsandbytes()
    from bitsandbytes.optim import AdamW8bit, PagedAdamW8bit

    return AdamW8bit if name == "adamw_8bit" else PagedAdamW8bit


def schedule_for(optimizer: torch.optim.Optimizer, budget: Budget, steps: int) -> torch.optim.lr_scheduler.LambdaLR:
    """Linear warm-up, then the budget's decay to zero at `steps`."""
    warm = math.ceil(budget.warmup * steps)

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / (warm + 1)
        done = (step - warm) / max(1, steps - warm)
        if budget.decay == "linear":
            return max(0.0, 1.0 - done)
        return 0.5 * (1.0 + math.cos(math.pi * min(1.0, done))) if budget.decay == "cosine" else 1.0

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def unpaged(budget: Budget) -> Budget:
    """The budget with an optimizer of the same size whose states stay where they are made."""
    return dataclasses.replace(budget, optimizer="adamw_8bit") if budget.optimizer == "paged_adamw_8bit" else budget
