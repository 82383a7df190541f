"""Switching an adaptation off for a while, whatever it is made of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from adapt.spec import Unsupported


@contextmanager
def disabled(model: Any) -> Iterator[None]:
    """Within it the model gives what its backbone would give under the same head.

    Every module of an adaptation can be switched: ours by their flag `enabled`, PEFT's by `enable_adapters`.

    Args:
        model: What a strategy's `build` returned, trained or not.

    Raises:
        Unsupported: The backbone's own weights were trained, so that they are no longer there.
    """
    flags = [m for m in model.modules() if isinstance(getattr(m, "enabled", None), bool)]
    layers = [m for m in model.modules() if isinstance(getattr(m, "disable_adapters", None), bool)]  # else a method
    adapted = {id(p) for module in (*flags, *layers) for p in module.parameters()}
    trained = [
        n for n, p in model.named_parameters() if p.requires_grad and id(p) not in adapted and n not in model.head_names
    ]
    if trained:
        raise Unsupported(
            f"the adaptation cannot be switched off: the backbone's own weights were trained ({trained[0]} and "
            f"{len(trained) - 1} more); load the backbone beside the model to compare with it"
        )
    switches = [partial(setattr, module, "enabled") for module in flags if module.enabled]
    switches += [layer.enable_adapters for layer in layers if not layer.disable_adapters]
    for switch in switches:
        switch(False)
    try:
        yield
    finally:
        for switch in switches:
            switch(True)
