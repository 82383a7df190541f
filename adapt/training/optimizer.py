"""Optimizer and learning-rate schedule for whatever is trainable."""

from __future__ import annotations

import math

import torch
from torch import nn

from adapt.spec import Budget, OptionError


def optimizer_for(model: nn.Module, budget: Budget, learning_rate: float) -> torch.optim.AdamW:
    """AdamW over the trainable parameters; matrices decay, vectors (biases, norms) do not.

    Parameters that `model.head_names` names are trained at `model.head_factor` times the learning rate, where a
    strategy has set it.

    Raises:
        OptionError: Nothing is trainable, or the learning rate is not a positive finite number.
    """
    if not math.isfinite(learning_rate) or learning_rate <= 0:
        raise OptionError(f"The learning rate is {learning_rate}; give a finite number above zero, such as 1e-4.")
    head, factor = getattr(model, "head_names", frozenset()), getattr(model, "head_factor", 1.0)
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            rate = learning_rate * factor if name in head else learning_rate
            decay = budget.weight_decay if parameter.dim() >= 2 else 0.0
            groups.setdefault((rate, decay), []).append(parameter)
    if not groups:
        raise OptionError("Nothing is trainable: the strategy left every parameter frozen.")
    return torch.optim.AdamW(
        [{"params": members, "lr": rate, "weight_decay": decay} for (rate, decay), members in groups.items()],
        lr=learning_rate,
        fused=True,
    )


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
