"""Prefix tuning: learned keys and values in front of every attention of a frozen backbone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from adapt.display import shows_fields
from adapt.spec import Load, OptionError, Task
from adapt.strategies.checks import check_words


@shows_fields
@dataclass(frozen=True)
class Prefix:
    """Learn keys and values of virtual tokens in each layer (Li & Liang 2021, section 4; Liu et al. 2022).

    They join inside the attention function, after the projections: no position is used up, the mask and the
    outputs keep their shapes, and no generation cache is involved. Encoder, decoder and cross attention each have
    their own; the depths that share a layer, as in ALBERT, share its prefix. They are trained directly, as Liu et al.
    do, and not by way of the network that Li & Liang put before them (section 4.3).
    """

    name: ClassVar[str] = "prefix"
    learning_rate: float = 2e-2
    """Peak learning rate."""
    virtual_tokens: int = 60
    """Key-value pairs added to each attention."""
    init: Literal["activations", "random"] = field(default="activations", metadata={"course": True})
    """Start from the keys and values of random words of the vocabulary (Li & Liang, section 7.4), or from noise."""
    layers: str = field(default="all", metadata={"neutral": "all"})
    """`all`, or `last:N`: only the N uppermost layers are adapted, and what lies below them is computed once a row."""
    gated: bool = field(default=False, metadata={"neutral": False})
    """Attend to the prefix apart from the text, and add what is found by a gate for each head of keys that is shut at
    the start (Zhang et al. 2023, LLaMA-Adapter, section 3.2): training starts from the backbone's own outputs."""
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
        if self.virtual_tokens < 1:
            raise OptionError(f"{self.name}.virtual_tokens is {self.virtual_tokens}; give at least 1.")
        check_words(self)

    def build(self, load: Load, task: Task) -> Any:
        """Load the model frozen and give every attention module trainable keys and values.

        Raises:
            OptionError: There is less than one virtual token, or what is asked of word embeddings is out of range.
            Unsupported: Some attention of the model cannot carry a prefix, or word embeddings are to be updated, which
                more than one module looks up.
        """
        from adapt.backbones.lower import memoise_lower, upper_layers
        from adapt.strategies.prefix_attention import attach
        from adapt.strategies.word_embeddings import update_word_embeddings

        self.check()
        model = load(frozen=True)
        upper = upper_layers(model, self.layers, self.name)
        attach(model, self.virtual_tokens, self.init, upper, gated=self.gated)
        update_word_embeddings(model, self.embedding_rank, self.embedding_rate)
        memoise_lower(model, upper)
        return model
