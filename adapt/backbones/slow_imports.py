"""bitsandbytes without the compiler that it loads, which takes longer than everything else that PEFT imports."""

from __future__ import annotations

import functools
import importlib.util
import sys
from collections.abc import Callable
from typing import Any


def import_bitsandbytes() -> None:
    """Import bitsandbytes where it is installed, as PEFT does, which is to be imported after it.

    Some of its functions are made by `torch.compile`, which loads torch's compiler; here they are compiled when they
    are first called, and most runs call none.
    """
    if "bitsandbytes" in sys.modules or importlib.util.find_spec("bitsandbytes") is None:
        return
    import torch

    at_once = torch.compile
    torch.compile = _when_called  # type: ignore[assignment]
    try:
        import bitsandbytes  # noqa: F401
    finally:
        torch.compile = at_once


def _when_called(function: Callable[..., Any] | None = None, **options: Any) -> Callable[..., Any]:
    """`torch.compile`, also as a decorator with options, at the first call."""
    if function is None:
        return functools.partial(_when_called, **options)
    uncompiled = function

    @functools.cache
    def compiled() -> Callable[..., Any]:
        import torch

        return torch.compile(uncompiled, **options)

    @functools.wraps(uncompiled)
    def call(*args: Any, **kwargs: Any) -> Any:
        return compiled()(*args, **kwargs)

    return call
