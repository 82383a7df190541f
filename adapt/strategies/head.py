"""Head only: the backbone is frozen and its features are computed once a row."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from adapt import params
from adapt.display import shows_fields
from adapt.spec import Load, Task


@shows_fields
@dataclass(frozen=True)
class Head:
    """Train the head on features of the frozen backbone (linear probing where the head is one layer)."""

    name: ClassVar[str] = "head"
    learning_rate: float = 1e-2
    """Peak learning rate."""
    memo_bytes: int = field(default=2**30, metadata={"course": True})
    """Memory the features may take; rows beyond it are encoded in every epoch."""
    standardise: bool = field(default=False, metadata={"neutral": False, "course": True})
    """Train on features of mean 0 and deviation 1, at a rate of about 1e-3; for heads that are one linear layer."""

    def build(self, load: Load, task: Task) -> Any:
        """Load the model frozen but for its head, and put the backbone behind a memo.

        Raises:
            Unsupported: Features are to be standardised, and the head is more than one linear layer.
        """
        from adapt.backbones.memoise import memoise, standardise

        model = load(frozen=True, output_layer=True)
        memoise(model, self.memo_bytes)
        if self.standardise:
            standardise(model)
        return model

    def merge(self, model: Any, load: Load) -> Any:
        """The model as transformers has it: the trained head on a fresh copy of the backbone."""
        plain = load(frozen=True, output_layer=True)
        params.fill(plain, params.trainable_state(model), "the trained state")
        return plain
