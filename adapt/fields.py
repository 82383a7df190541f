"""Making a frozen dataclass of settings from names and values, as a command line or a file of JSON has them."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar, cast

from adapt.spec import OptionError, hints_of

Function = TypeVar("Function", bound=Callable[..., Any])
IN_PYTHON: Mapping[str, str] = types.MappingProxyType({"split_seed": "seed", "split": "splits", "column": "columns"})
"""Options of the command line that say how data are read, where arguments in Python have another name."""


def fill(cls: Any, settings: Mapping[str, Any], what: str, where: str) -> Any:
    """A dataclass from some of its fields.

    Args:
        cls: The dataclass.
        settings: Field to value; a string is read as the field's type.
        what: What an error calls the dataclass, such as "Strategy 'lora'".
        where: What stands before a field's name, such as "lora.".

    Raises:
        OptionError: A field does not exist (the nearest is named), or a value cannot be read.
    """
    hints = hints_of(cls)
    fields = [f.name for f in dataclasses.fields(cls)]
    values = {}
    for field, value in settings.items():
        if field not in fields:
            known = f"it has {', '.join(fields)}" if fields else "it has none"
            raise OptionError(f"{what} has no field '{field}'{nearest(field, fields)}; {known}.")
        values[field] = _read(value, hints[field], f"{where}{field}")
    return cls(**values)


def settings_from(pairs: Sequence[str]) -> dict[str, dict[str, str]]:
    """`strategy.field=value` items, as the command line has them, by strategy and field.

    Raises:
        OptionError: An item cannot be read.
    """
    found: dict[str, dict[str, str]] = {}
    for pair in pairs:
        target, equals, value = pair.partition("=")
        strategy, dot, field = target.partition(".")
        if not (equals and dot and strategy and field):
            raise OptionError(f"--set {pair} cannot be read; write strategy.field=value, such as lora.rank=16.")
        found.setdefault(strategy.strip(), {})[field.strip()] = value
    return found


def refuses_others(function: Function) -> Function:
    """Have a function refuse arguments that it does not have as other options are refused, by an OptionError."""
    known = inspect.signature(function).parameters

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        for name in kwargs:
            if name not in known:
                here = IN_PYTHON.get(name)
                hint = f"; it is called '{here}' here" if here in known else nearest(name, known)
                raise OptionError(f"adapt.data.{function.__name__} has no argument '{name}'{hint}.")
        return function(*args, **kwargs)

    return cast(Function, called)


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint for an error message: ` (did you mean 'x'?)`, or nothing; upper and lower case are the same."""
    folded = {name.casefold(): name for name in known}
    close = difflib.get_close_matches(word.casefold(), folded, 1)
    return f" (did you mean {folded[close[0]]!r}?)" if close else ""


def check_choice(name: str, value: Any, known: Sequence[str]) -> None:
    """
    Raises:
        OptionError: The value of an option is none of those known, which are named.
    """
    if value not in known:
        raise OptionError(f"{name} is {value!r}; choose one of {', '.join(known)}.")


def check_count(name: str, value: Any, least: int = 1) -> None:
    """
    Raises:
        OptionError: The value of an option is no whole number, or below the least.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise OptionError(f"{name} is {value!r}; give a whole number of at least {least}.")


def _read(value: Any, hint: Any, where: str) -> Any:
    """A value as the type that a field declares."""
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    text = value.strip() if isinstance(value, str) else value  # what is a string stays as it is given
    for option in options:
        if typing.get_origin(option) is typing.Literal:
            for choice in typing.get_args(option):
                if text in (choice, str(choice)):
                    return choice
        elif option is type(None):
            if value is None or value in ("none", "None", ""):
                return None
        elif option is bool:
            if isinstance(value, bool):
                return value
            if str(text).lower() in ("true", "false", "1", "0", "yes", "no"):
                return str(text).lower() in ("true", "1", "yes")
        elif option in (int, float):
            try:
                number = option(value)
            except (TypeError, ValueError, OverflowError):
                continue
            if isinstance(value, bool):
                continue
            if isinstance(value, int | str) or number == float(value) or number != number:
                return number
        elif typing.get_origin(option) is tuple:
            several = isinstance(value, str) and "," in value
            parts = [part.strip() for part in value.split(",")] if several else value
            if isinstance(parts, (list, tuple)):
                first, *rest = typing.get_args(option)
                hints = [first] * len(parts) if rest == [Ellipsis] else [first, *rest]
                if len(parts) == len(hints):
                    return tuple(_read(part, own, where) for part, own in zip(parts, hints, strict=True))
        elif dataclasses.is_dataclass(option):
            if isinstance(value, Mapping):
                return fill(option, value, where, f"{where}.")
        elif typing.get_origin(option) is Mapping:
            if isinstance(value, Mapping):
                return dict(value)
        elif option is str and isinstance(value, str):
            _check_characters(where, value)
            return value
    raise OptionError(f"{where} is {value!r}; give {' or '.join(_wanted(option) for option in options)}.")


def _check_characters(where: str, value: str) -> None:
    """
    Raises:
        OptionError: The text holds what is no character, and which no tokenizer or file takes.
    """
    try:
        value.encode()
    except UnicodeEncodeError:
        raise OptionError(
            f"{where} is {value!r}, with half of a surrogate pair, which is no character; mend it."
        ) from None


def _wanted(option: Any) -> str:
    if typing.get_origin(option) is typing.Literal:
        return f"one of {', '.join(map(str, typing.get_args(option)))}"
    if typing.get_origin(option) is tuple:
        return "several names"
    if dataclasses.is_dataclass(option) or typing.get_origin(option) is Mapping:
        return "names with values"
    return {int: "a whole number", float: "a number", bool: "true or false", str: "a name"}.get(option, "none")
