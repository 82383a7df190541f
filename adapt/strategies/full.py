"""Full fine-tuning: every parameter is trained."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from adapt import params
from adapt.backbones.uppermost import uppermost
from adapt.display import shows_fields
from adapt.spec import Load, OptionError, Task


@shows_fields
@dataclass(frozen=True)
class Full:
    """Train the whole backbone and the head (Devlin et al. 2019, section 3.2)."""

    name: ClassVar[str] = "full"
    learning_rate: float = 1e-4
    """Peak learning rate of the backbone."""
    head_factor: float = field(default=10.0, metadata={"course": True})
    """The head's learning rate as a multiple of the backbone's: what is new has further to go than what is pretrained
    (discriminative fine-tuning, Howard & Ruder 2018, section 3.2). Language models have no new head, as a rule."""

    layers: str = field(default="all", metadata={"neutral": "all"})
    """`all`, or `last:N`: only the N uppermost layers and what follows them are trained; what lies below them is frozen
    and computed once a row."""
    embeddings: Literal["all", "seen"] = field(default="all", metadata={"neutral": "all", "course": True})
    """`seen`: of the word embeddings only those that occur in the training rows are held as trainable (Williams &
    Aletras 2023), unless they are more than half. The others have no gradient in either case; so they need no room for
    one, nor for the optimizer's state, and are spared weight decay. An output layer that shares them refuses it. (An
    optimizer in 8 bits rounds by blocks, which are others then.)"""

    def check(self) -> None:
        """
        Raises:
            OptionError: The head's factor is not above zero, or layers cannot be read.
        """
        uppermost(self.layers, self.name)
        if self.head_factor <= 0:
            raise OptionError(f"{self.name}.head_factor is {self.head_factor}; give a number above zero.")

    def build(self, load: Load, task: Task) -> Any:
        """Load the model; every parameter is trainable, or those of the uppermost layers.

        Raises:
            OptionError: As for `check`.
            Unsupported: Some layers are asked for in a model where they cannot be told apart, or seen words in one
                that uses their embeddings elsewhere too.
        """
        from adapt.backbones.lower import freeze_below, memoise_lower, upper_layers
        from adapt.backbones.seen import train_seen_words

        self.check()
        model = load()
        model.head_factor = self.head_factor
        upper = upper_layers(model, self.layers, self.name)
        if upper is not None:
            freeze_below(model, upper)
        if self.embeddings == "seen":
            train_seen_words(model)
        memoise_lower(model, upper)
        return model

    def merge(self, model: Any, load: Load) -> Any:
        """The model as transformers has it: what was trained, in a fresh copy of the backbone."""
        plain, trained = load(), params.trainable_state(model)
        for name, parameter in plain.named_parameters():
            parameter.requires_grad_(name in trained)
        params.fill(plain, trained, "the trained state")
        return plain
