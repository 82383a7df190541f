"""Memory of training: measured on a step, and planned before anything is loaded."""

from adapt.memory.measure import Step, measure
from adapt.memory.plan import Plan, plan
from adapt.memory.types import CATEGORIES, Memory

__all__ = ["CATEGORIES", "Memory", "Plan", "Step", "measure", "plan"]
