"""Parameter-efficient adaptation of pretrained transformers: every strategy, one loop, one honest table.

Names are imported when they are first used, so that `import adapt` is instant.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adapt import backbones, comparison, data, extraction, memory, pretrain, strategies, tasks
    from adapt.adapted import Adapted
    from adapt.adapted import fit_model as fit
    from adapt.adapted import load_model as load
    from adapt.comparison import Comparison, compare
    from adapt.distillation import distill
    from adapt.extraction.attention import attention
    from adapt.extraction.probed import Probing
    from adapt.extraction.probing import probe
    from adapt.extraction.representations import Representations, representations
    from adapt.extraction.similarity import similarity
    from adapt.memory import plan
    from adapt.result import Result
    from adapt.scoring import Scores, score
    from adapt.spec import (
        AdaptError,
        Budget,
        DataError,
        Diverged,
        OptionError,
        OutOfMemory,
        Run,
        Task,
        Teacher,
        Unsupported,
    )
    from adapt.strategies import BottleneckAdapter, Full, Head, LoRA, Prefix, QLoRA

_MODULES = ("backbones", "comparison", "data", "extraction", "memory", "pretrain", "strategies", "tasks")
_FROM = {
    "adapt.adapted": ("Adapted",),
    "adapt.comparison": ("Comparison", "compare"),
    "adapt.distillation": ("distill",),
    "adapt.extraction": ("Probing", "Representations", "attention", "probe", "representations", "similarity"),
    "adapt.memory": ("plan",),
    "adapt.result": ("Result",),
    "adapt.scoring": ("Scores", "score"),
    "adapt.spec": (
        "AdaptError", "Budget", "DataError", "Diverged", "OptionError", "OutOfMemory", "Run", "Task", "Teacher",
        "Unsupported",
    ),
    "adapt.strategies": ("BottleneckAdapter", "Full", "Head", "LoRA", "Prefix", "QLoRA"),
}  # fmt: skip
_PUBLIC: dict[str, tuple[str, str | None]] = {
    **{name: (module, name) for module, names in _FROM.items() for name in names},
    **{name: (f"adapt.{name}", None) for name in _MODULES},
    "fit": ("adapt.adapted", "fit_model"),
    "load": ("adapt.adapted", "load_model"),
}

__all__ = [
    "AdaptError", "Adapted", "BottleneckAdapter", "Budget", "Comparison", "DataError", "Diverged", "Full", "Head",
    "LoRA", "OptionError", "OutOfMemory", "Prefix", "Probing", "QLoRA", "Representations", "Result", "Run", "Scores",
    "Task", "Teacher", "Unsupported", "attention", "backbones", "compare", "comparison", "data", "distill",
    "extraction", "fit", "load", "memory", "plan", "pretrain", "probe", "representations", "score", "similarity",
    "strategies", "tasks",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("adapt")
    if name not in _PUBLIC:
        raise AttributeError(f"module 'adapt' has no attribute '{name}'", name=name, obj=sys.modules[__name__])
    module, attribute = _PUBLIC[name]
    found = importlib.import_module(module)
    return found if attribute is None else getattr(found, attribute)


def __dir__() -> list[str]:
    return sorted(__all__)
