"""Bottleneck adapters: small residual networks after the sub-layers of a frozen backbone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from adapt.backbones.families import family_of
from adapt.spec import Load, OptionError, Task

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class BottleneckAdapter:
    """Houlsby's two adapters a layer (2019, section 2.1) or Pfeiffer's single one (2021, section 3).

    x + up(f(down(x))) on the output of a sub-layer's last projection, before the residual sum.
    """

    name: ClassVar[str] = "bottleneck"
    learning_rate: float = 2e-3
    """Peak learning rate."""
    placement: Literal["houlsby", "pfeiffer"] = "houlsby"
    """After attention and after feed-forward, or after feed-forward only."""
    reduction_factor: float = 16.0
    """Hidden size over bottleneck size."""
    non_linearity: Literal["relu", "gelu", "silu", "tanh"] = "relu"
    """Function between the two projections."""

    def build(self, load: Load, task: Task) -> Any:
        """Load the model frozen and add trainable adapters, which start as the identity.

        Raises:
            OptionError: The reduction factor leaves no bottleneck.
            Unsupported: The layers of the architecture are not known.
        """
        from torch import nn

        from adapt.strategies.bottleneck_layer import Adapted

        model = load(frozen=True)
        base = model.base_model
        family = family_of(base.config.model_type)
        endings = [family.feed_forward_output]
        if self.placement == "houlsby":
            endings.append(family.attention_output)
        attention = "." + family.attention_output
        for name, module in list(base.named_modules()):
            if not isinstance(module, nn.Linear) or not _ends(name, endings):
                continue
            if self.placement == "pfeiffer" and name.endswith(attention):
                continue  # "output.dense" also ends "attention.output.dense"
            parent, _, child = name.rpartition(".")
            setattr(base.get_submodule(parent), child, Adapted(module, self._size(module), self.non_linearity))
        return model

    def _size(self, projection: nn.Linear) -> int:
        size = round(projection.out_features / self.reduction_factor) if self.reduction_factor > 0 else 0
        if size < 1:
            raise OptionError(
                f"{self.name}.reduction_factor is {self.reduction_factor}, which leaves no bottleneck for a hidden "
                f"size of {projection.out_features}; give a number from 1 to {projection.out_features}."
            )
        return size


def _ends(name: str, endings: list[str]) -> bool:
    return any(name.endswith("." + ending) for ending in endings)
