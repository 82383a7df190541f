"""Full fine-tuning: every parameter is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from adapt.spec import Load, Task


@dataclass(frozen=True)
class Full:
    """Train the whole backbone and the head (Devlin et al. 2019, section 3.2)."""

    name: ClassVar[str] = "full"
    learning_rate: float = 2e-4
    """Peak learning rate."""

    def build(self, load: Load, task: Task) -> Any:
        """Load the model; every parameter is trainable."""
        return load()

    def merge(self, model: Any, load: Load) -> Any:
        """The model as transformers has it: what was trained, in a fresh copy of the backbone."""
        from adapt import params

        plain = load()
        params.fill(plain, params.trainable_state(model), "the trained state")
        return plain
