"""Strategies: ways of adapting a pretrained model. One file each, one line each below."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from typing import Any

from adapt.spec import OptionError, Strategy
from adapt.strategies.bottleneck_adapter import BottleneckAdapter
from adapt.strategies.full import Full
from adapt.strategies.head import Head
from adapt.strategies.lora import LoRA
from adapt.strategies.prefix import Prefix
from adapt.strategies.qlora import QLoRA

STRATEGIES: dict[str, type[Strategy]] = {
    "full": Full,
    "head": Head,
    "lora": LoRA,
    "bottleneck": BottleneckAdapter,
    "prefix": Prefix,
    "qlora": QLoRA,
}
"""Strategies by their name on the command line."""

EMBEDDED_SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "full": {"learning_rate": 5e-4},
    "bottleneck": {"learning_rate": 5e-3},
    "prefix": {"learning_rate": 3e-2},
}
"""Fields that suit the shipped encoder, which has a tenth of the parameters that the defaults were found with."""

__all__ = [
    "EMBEDDED_SETTINGS",
    "STRATEGIES",
    "BottleneckAdapter",
    "Full",
    "Head",
    "LoRA",
    "Prefix",
    "QLoRA",
    "Strategy",
    "make",
]


def make(name: str, settings: Mapping[str, Any] | None = None) -> Strategy:
    """A strategy from its name and some of its fields.

    Args:
        name: Key of `STRATEGIES`.
        settings: Field to value; a string is read as the field's type.

    Raises:
        OptionError: The name or a field does not exist (the nearest is named), or a value cannot be read.
    """
    if name not in STRATEGIES:
        raise OptionError(
            f"There is no strategy '{name}'{_nearest(name, STRATEGIES)}; choose from {', '.join(STRATEGIES)}."
        )
    cls: Any = STRATEGIES[name]
    hints = typing.get_type_hints(cls)
    fields = [f.name for f in dataclasses.fields(cls)]
    values = {}
    for field, value in (settings or {}).items():
        if field not in fields:
            raise OptionError(
                f"Strategy '{name}' has no field '{field}'{_nearest(field, fields)}; it has {', '.join(fields)}."
            )
        values[field] = _read(value, hints[field], f"{name}.{field}")
    return cls(**values)


def _nearest(word: str, known: Any) -> str:
    close = difflib.get_close_matches(word, list(known), 1, 0.5)
    return f" (did you mean '{close[0]}'?)" if close else ""


def _read(value: Any, hint: Any, where: str) -> Any:
    """A value as the type that a field declares."""
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    for option in options:
        if typing.get_origin(option) is typing.Literal:
            for choice in typing.get_args(option):
                if value in (choice, str(choice)):
                    return choice
        elif option is type(None):
            if value is None or value in ("none", "None", ""):
                return None
        elif option is bool:
            if isinstance(value, bool):
                return value
            if str(value).lower() in ("true", "false", "1", "0", "yes", "no"):
                return str(value).lower() in ("true", "1", "yes")
        elif option in (int, float):
            try:
                number = option(value)
            except (TypeError, ValueError, OverflowError):
                continue
            if (not isinstance(value, bool) and number == float(value)) or number != number:
                return number
        elif typing.get_origin(option) is tuple:
            if isinstance(value, (list, tuple)):
                return tuple(value)
            if isinstance(value, str) and "," in value:
                return tuple(part.strip() for part in value.split(","))
        elif option is str and isinstance(value, str):
            return value
    raise OptionError(f"{where} is {value!r}; give {' or '.join(_wanted(option) for option in options)}.")


def _wanted(option: Any) -> str:
    if typing.get_origin(option) is typing.Literal:
        return f"one of {', '.join(map(str, typing.get_args(option)))}"
    if typing.get_origin(option) is tuple:
        return "several names"
    return {int: "a whole number", float: "a number", bool: "true or false", str: "a name"}.get(option, "none")
