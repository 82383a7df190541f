"""No adaptation: the pretrained model as it is, the floor under every strategy of a language model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from adapt.spec import Load, Task, Unsupported


@dataclass(frozen=True)
class Untrained:
    """Score the pretrained model without training anything."""

    name: ClassVar[str] = "untrained"
    learning_rate: ClassVar[None] = None
    """Nothing is trained."""

    def build(self, load: Load, task: Task) -> Any:
        """Load the model; nothing is trainable, so that the run only scores it."""
        return load(frozen=True).requires_grad_(False)

    def merge(self, model: Any, load: Load) -> Any:
        """
        Raises:
            Unsupported: Always.
        """
        raise Unsupported(f"'{self.name}' has nothing to merge: nothing was trained; use the backbone as it is")
