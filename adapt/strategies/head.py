"""Head only: the backbone is frozen and its features are computed once a row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from adapt.spec import Load, Task


@dataclass(frozen=True)
class Head:
    """Train the head on features of the frozen backbone (linear probing where the head is one layer)."""

    name: ClassVar[str] = "head"
    learning_rate: float = 1e-2
    """Peak learning rate."""
    memo_bytes: int = 2**30
    """Memory the features may take; rows beyond it are encoded in every epoch."""

    def build(self, load: Load, task: Task) -> Any:
        """Load the model frozen but for its head, and put the backbone behind a memo."""
        from adapt.backbones.memoise import memoise

        model = load(frozen=True, output_layer=True)
        memoise(model, self.memo_bytes)
        return model

    def merge(self, model: Any, load: Load) -> Any:
        """The model as transformers has it: the trained head on a fresh copy of the backbone."""
        from adapt import params

        plain = load(frozen=True, output_layer=True)
        params.fill(plain, params.trainable_state(model), "the trained state")
        return plain
