"""Strategies: ways of adapting a pretrained model. One file each, one line each below."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from adapt.fields import fill, nearest
from adapt.spec import OptionError, Strategy, left_out
from adapt.strategies.bottleneck_adapter import BottleneckAdapter
from adapt.strategies.full import Full
from adapt.strategies.head import Head
from adapt.strategies.lora import LoRA
from adapt.strategies.prefix import Prefix
from adapt.strategies.qlora import QLoRA
from adapt.strategies.switch import disabled
from adapt.strategies.untrained import Untrained

STRATEGIES: dict[str, type[Strategy]] = {
    "full": Full,
    "head": Head,
    "lora": LoRA,
    "bottleneck": BottleneckAdapter,
    "prefix": Prefix,
    "qlora": QLoRA,
}
"""Strategies by their name on the command line."""

FLOORS: dict[str, type[Strategy]] = {"untrained": Untrained}
"""Run beside the strategies to show where these start from; not among `all`."""

SMALLER: tuple[tuple[str, Mapping[str, Any]], ...] = (("qlora", {}), ("qlora", {"bits": 4}))
"""Strategies that hold the backbone in ever fewer bits: name and fields, for advice where memory is short."""

_TINY: Mapping[str, Mapping[str, Any]] = {
    "full": {"learning_rate": 5e-4},
    "bottleneck": {"learning_rate": 5e-3, "warmup": 0.0},
    "prefix": {"learning_rate": 3e-2, "warmup": 0.0},
}
SHIPPED_SETTINGS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "sequence_classification": _TINY,
    "token_classification": _TINY,
    "question_answering": _TINY,
    "causal_lm": _TINY,
    "masked_lm": _TINY,
    "seq2seq": {
        "full": {"learning_rate": 1e-3},
        "lora": {"learning_rate": 5e-3},
        "bottleneck": {"learning_rate": 1e-2, "warmup": 0.0},
        "prefix": {"learning_rate": 3e-2, "warmup": 0.0},
        "qlora": {"learning_rate": 5e-3},
    },
}
"""Task kind to strategy to fields that suit the shipped backbones, which have a tenth of the parameters of the one that
the defaults were found with; these were found on the embedded tasks."""

__all__ = [
    "FLOORS", "SHIPPED_SETTINGS", "SMALLER", "STRATEGIES", "BottleneckAdapter", "Full", "Head", "LoRA", "Prefix",
    "QLoRA", "Strategy", "Untrained", "disabled", "is_known", "make", "recorded", "remade",
]  # fmt: skip


def is_known(strategy: Strategy) -> bool:
    """Whether a strategy is the library's own, all of which its name and fields tell, and not one that a user made."""
    return type(strategy) is {**STRATEGIES, **FLOORS}.get(strategy.name)


def recorded(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a strategy whose name and fields a spec has; what was left out there has its neutral value.

    The fields of a strategy that is not the library's are as they are there.
    """
    cls = {**STRATEGIES, **FLOORS}.get(spec["name"])
    fields = {name: value for name, value in spec.items() if name != "name"}
    return fields if cls is None else left_out(cls) | fields


def remade(spec: Mapping[str, Any]) -> Strategy:
    """The strategy whose name and fields a spec has.

    Raises:
        OptionError: The name or a field does not exist, or a value has not the type of its field.
    """
    make(spec["name"])
    return make(spec["name"], recorded(spec))


def make(name: str, settings: Mapping[str, Any] | None = None) -> Strategy:
    """A strategy from its name and some of its fields.

    Args:
        name: Key of `STRATEGIES` or `FLOORS`.
        settings: Field to value; a string is read as the field's type.

    Raises:
        OptionError: The name or a field does not exist (the nearest is named), or a value cannot be read.
    """
    known = {**STRATEGIES, **FLOORS}
    if not isinstance(name, str) or name not in known:
        raise OptionError(
            f"There is no strategy '{name}'{nearest(str(name), STRATEGIES)}; choose from {', '.join(STRATEGIES)}."
        )
    return cast(Strategy, fill(known[name], settings or {}, f"Strategy '{name}'", f"{name}."))
