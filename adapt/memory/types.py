"""What a training step holds in memory at its peak, by what it is for."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from adapt.display import Rendered
from adapt.memory.budget import shown

Phase = Literal["forward", "backward", "update"]

CATEGORIES = ("weights", "gradients", "optimizer", "activations", "logits", "temporary")
"""The parts of a peak, in the order of tables."""


@dataclass(frozen=True)
class Memory(Rendered):
    """The largest number of bytes that tensors hold at any moment of a training step, and what they are for.

    `measure` and `plan` give the same type. Storages are counted once each, whole, whatever views there are of them.
    """

    weights: int
    """Parameters, trained and frozen, buffers, and the statistics of quantised weights."""
    gradients: int
    """Gradients of trainable parameters."""
    optimizer: int
    """State of the optimizer (AdamW: two moments and a step count a parameter)."""
    activations: int
    """What the forward pass keeps for the backward pass, the batch itself, and features that a memo holds."""
    logits: int
    """What the head, or a language model's output layer, and the loss hold, their gradients included."""
    temporary: int
    """All the rest: results not kept, gradients on their way down."""
    at: Phase = "forward"
    """Where in the step the peak is."""
    allocated: int | None = None
    """CUDA, measured: `torch.cuda.max_memory_allocated` of the step."""
    reserved: int | None = None
    """CUDA, measured: `torch.cuda.max_memory_reserved` of the step, fragmentation included."""

    @property
    def peak(self) -> int:
        """Bytes at the peak: the sum of the parts."""
        return sum(getattr(self, name) for name in CATEGORIES)

    def __str__(self) -> str:
        names = (*CATEGORIES, "peak")
        cells = [shown(getattr(self, name)) for name in names]
        return f"| {' | '.join(names)} |\n|{' ---: |' * len(names)}\n| {' | '.join(cells)} |"

    def __repr__(self) -> str:
        parts = ", ".join(f"{name} {shown(getattr(self, name))}" for name in CATEGORIES)
        return f"<Memory: peak {shown(self.peak)} ({self.at}): {parts}>"

    def as_dict(self) -> dict[str, Any]:
        """Plain values, `peak` among them; what was not measured is left out."""
        values = {name: value for name, value in dataclasses.asdict(self).items() if value is not None}
        return values | {"peak": self.peak}
