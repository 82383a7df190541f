"""Parameter-efficient adaptation of pretrained transformers: every strategy, one loop, one honest table.

Names are imported when they are first used, so that `import adapt` is instant.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adapt import data, extraction, memory, pretrain, strategies
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
        Run,
        Task,
        Teacher,
        Unsupported,
    )
    from adapt.strategies import BottleneckAdapter, Full, Head, LoRA, Prefix, QLoRA

_PUBLIC = {
    "Adapted": ("adapt.adapted", "Adapted"),
    "AdaptError": ("adapt.spec", "AdaptError"),
    "BottleneckAdapter": ("adapt.strategies", "BottleneckAdapter"),
    "Budget": ("adapt.spec", "Budget"),
    "Comparison": ("adapt.comparison", "Comparison"),
    "DataError": ("adapt.spec", "DataError"),
    "Diverged": ("adapt.spec", "Diverged"),
    "Full": ("adapt.strategies", "Full"),
    "Head": ("adapt.strategies", "Head"),
    "LoRA": ("adapt.strategies", "LoRA"),
    "OptionError": ("adapt.spec", "OptionError"),
    "Prefix": ("adapt.strategies", "Prefix"),
    "Probing": ("adapt.extraction", "Probing"),
    "QLoRA": ("adapt.strategies", "QLoRA"),
    "Representations": ("adapt.extraction", "Representations"),
    "Result": ("adapt.result", "Result"),
    "Run": ("adapt.spec", "Run"),
    "Scores": ("adapt.scoring", "Scores"),
    "Task": ("adapt.spec", "Task"),
    "Teacher": ("adapt.spec", "Teacher"),
    "Unsupported": ("adapt.spec", "Unsupported"),
    "attention": ("adapt.extraction", "attention"),
    "compare": ("adapt.comparison", "compare"),
    "data": ("adapt.data", None),
    "distill": ("adapt.distillation", "distill"),
    "extraction": ("adapt.extraction", None),
    "fit": ("adapt.adapted", "fit_model"),
    "load": ("adapt.adapted", "load_model"),
    "memory": ("adapt.memory", None),
    "plan": ("adapt.memory", "plan"),
    "pretrain": ("adapt.pretrain", None),
    "probe": ("adapt.extraction", "probe"),
    "representations": ("adapt.extraction", "representations"),
    "score": ("adapt.scoring", "score"),
    "similarity": ("adapt.extraction", "similarity"),
    "strategies": ("adapt.strategies", None),
}

__all__ = [
    "AdaptError", "Adapted", "BottleneckAdapter", "Budget", "Comparison", "DataError", "Diverged", "Full", "Head",
    "LoRA", "OptionError", "Prefix", "Probing", "QLoRA", "Representations", "Result", "Run", "Scores", "Task",
    "Teacher", "Unsupported", "attention", "compare", "data", "distill", "extraction", "fit", "load", "memory", "plan",
    "pretrain", "probe", "representations", "score", "similarity", "strategies",
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
