"""Bottleneck adapters: small residual networks after the sub-layers of a frozen backbone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from adapt.backbones.families import end_of_layer, residual_projections
from adapt.display import shows_fields
from adapt.spec import FieldError, Load, OptionError, Task
from adapt.strategies.checks import check_words


@shows_fields
@dataclass(frozen=True)
class BottleneckAdapter:
    """Houlsby's two adapters a layer (2019, section 2.1) or Pfeiffer's single one (2021, AdapterFusion).

    A(h) = up(f(down(h))). Houlsby's are A(h) + h on the output h of a sub-layer's last projection, before the residual
    sum; norms stay frozen, where Houlsby et al. train them, too. Pfeiffer's reads what the layer gives: the normed sum
    of x and the feed-forward output h, and adds to that sum before it is normed, LN(x + h + A(LN(x + h))); where layers
    norm their inputs instead, x + h + A(x + h). So has it the adapters library (`SeqBnConfig`).
    """

    name: ClassVar[str] = "bottleneck"
    learning_rate: float = 4e-3
    """Peak learning rate."""
    placement: Literal["houlsby", "pfeiffer"] = "houlsby"
    """`houlsby`: after attention and after feed-forward; `pfeiffer`: once, at the end of the layer."""
    reduction_factor: float = 8.0
    """Hidden size over bottleneck size."""
    non_linearity: Literal["relu", "gelu", "silu", "tanh"] = "relu"
    """Function between the two projections."""
    layers: str = field(default="all", metadata={"neutral": "all"})
    """`all`, or `last:N`: only the N uppermost layers are adapted, and what lies below them is computed once a row."""
    embedding_rank: int = field(default=0, metadata={"neutral": 0})
    """Rank of an update of the word embeddings, for words that the backbone knows too little of; 0: none."""
    embedding_rate: float = field(default=5e-4, metadata={"neutral": 5e-4, "course": True})
    """Peak learning rate of that update, whatever that of the rest is."""
    warmup: float = field(default=0.3, metadata={"neutral": 0.0, "course": True})
    """Share of all steps in which the learning rate rises, where the budget's own is shorter."""

    def check(self) -> None:
        """
        Raises:
            OptionError: A field is out of range, or two do not go together, whatever the backbone.
        """
        check_words(self)
        if self.reduction_factor < 1:
            raise OptionError(f"{self.name}.reduction_factor is {self.reduction_factor:g}; give a number of 1 or more.")

    def build(self, load: Load, task: Task) -> Any:
        """Load the model frozen and add trainable adapters, which start as the identity.

        Raises:
            OptionError: The reduction factor leaves no bottleneck, or what is asked of word embeddings is out of range.
            Unsupported: The layers of the architecture are not known, or not all of them are found; or word embeddings
                are to be updated, which more than one module looks up.
        """
        from adapt.backbones.lower import memoise_lower, upper_layers
        from adapt.strategies.bottleneck_layer import Adapted, AdaptedNorm, adapt_sum, width_of
        from adapt.strategies.word_embeddings import update_word_embeddings

        self.check()
        model = load(frozen=True)
        base = model.base_model
        attention, feed_forward = residual_projections(base)
        upper = upper_layers(model, self.layers, self.name)
        for name in feed_forward if self.placement == "pfeiffer" else [*attention, *feed_forward]:
            if upper is not None and name not in upper:
                continue
            module = base.get_submodule(name)
            shape = self._size(width_of(module)), self.non_linearity
            if self.placement == "houlsby":
                base.set_submodule(name, Adapted(module, *shape))
                continue
            around, norm = end_of_layer(base, name)
            if norm is not None:
                base.set_submodule(norm, AdaptedNorm(base.get_submodule(norm), *shape))
            else:
                adapt_sum(base.get_submodule(around), width_of(module), *shape, module.weight.device)
        update_word_embeddings(model, self.embedding_rank, self.embedding_rate)
        memoise_lower(model, upper)
        return model

    def _size(self, width: int) -> int:
        size = round(width / self.reduction_factor) if self.reduction_factor >= 1 else 0
        if size < 1:
            raise FieldError(
                f"{self.name}.reduction_factor is {self.reduction_factor}, which makes no bottleneck of a hidden size "
                f"of {width}; give a number from 1 to {width}."
            )
        return size
