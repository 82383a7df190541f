"""Memory of training: measured on a step, and planned before anything is loaded.

Names are imported when they are first used: a run that only measures does not load what plans.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adapt.memory.planner import plan
    from adapt.memory.step import Step, measure
    from adapt.memory.types import CATEGORIES, Memory
    from adapt.memory.within import Plan, plans

__all__ = ["CATEGORIES", "Memory", "Plan", "Step", "measure", "plan", "plans"]

_FILES = {
    "CATEGORIES": "types", "Memory": "types", "Plan": "within", "Step": "step", "measure": "step",
    "plan": "planner", "plans": "within",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _FILES:
        raise AttributeError(f"module 'adapt.memory' has no attribute '{name}'")
    return getattr(importlib.import_module(f"adapt.memory.{_FILES[name]}"), name)
