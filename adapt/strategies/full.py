"""Full fine-tuning: every parameter is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from adapt.spec import Load, OptionError, Task


@dataclass(frozen=True)
class Full:
    """Train the whole backbone and the head (Devlin et al. 2019, section 3.2)."""

    name: ClassVar[str] = "full"
    learning_rate: float = 1e-4
    """Peak learning rate of the backbone."""
    head_factor: float = 10.0
    """The head's learning rate as a multiple of the backbone's: what is new has further to go than what is pretrained
    (discriminative fine-tuning, Howard & Ruder 2018, section 3.1). Language models have no new head."""

    def build(self, load: Load, task: Task) -> Any:
        """Load the model; every parameter is trainable.

        Raises:
            OptionError: The head's factor is not above zero.
        """
        if self.head_factor <= 0:
            raise OptionError(f"{self.name}.head_factor is {self.head_factor}; give a number above zero.")
        model = load()
        model.head_factor = self.head_factor
        return model

    def merge(self, model: Any, load: Load) -> Any:
        """The model as transformers has it: what was trained, in a fresh copy of the backbone."""
        from adapt import params

        plain = load()
        params.fill(plain, params.trainable_state(model), "the trained state")
        return plain
