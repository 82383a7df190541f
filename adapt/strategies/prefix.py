"""Prefix tuning: learned keys and values in front of every attention of a frozen backbone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from adapt.spec import Load, OptionError, Task, Unsupported


@dataclass(frozen=True)
class Prefix:
    """Learn keys and values of virtual tokens in each layer (Li & Liang 2021, section 4; Liu et al. 2022).

    They join inside the attention function, after the projections: no position is used up, the mask and the
    outputs keep their shapes, and no generation cache is involved.
    """

    name: ClassVar[str] = "prefix"
    learning_rate: float = 1e-2
    """Peak learning rate."""
    virtual_tokens: int = 20
    """Key-value pairs added to each attention."""
    init: Literal["activations", "random"] = "activations"
    """Start from the keys and values of random words of the vocabulary (Li & Liang, section 7.4), or from noise."""

    def build(self, load: Load, task: Task) -> Any:
        """Load the model frozen and give every attention module trainable keys and values.

        Raises:
            OptionError: There is less than one virtual token.
            Unsupported: Some attention of the model does not go through transformers' attention interface.
        """
        from adapt.strategies import prefix_attention as attention

        if self.virtual_tokens < 1:
            raise OptionError(f"{self.name}.virtual_tokens is {self.virtual_tokens}; give at least 1.")
        model = load(frozen=True)
        base = model.base_model
        found = attention.discover(base, self.virtual_tokens)
        expected = _attentions(base.config)
        if len(found) != expected:
            raise Unsupported(
                f"{len(found)} of {expected} attention modules of '{base.config.model_type}' go through transformers' "
                "attention interface, which carries the prefix"
            )
        for module, (keys, values) in found.items():
            module.add_module("prefix", attention.PrefixKV(keys, values, self.init))
        return model


def _attentions(config: Any) -> int:
    """Attention modules of an encoder; layers that share weights count once."""
    groups = getattr(config, "num_hidden_groups", None)
    if groups is not None:
        return int(groups) * int(getattr(config, "inner_group_num", 1))
    return int(config.num_hidden_layers)
