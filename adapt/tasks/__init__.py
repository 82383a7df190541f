"""Task kinds: how rows become tensors, what the loss is, how outputs are decoded and scored."""

from __future__ import annotations

from adapt.tasks.kind import Example, Kind
from adapt.tasks.sequence_classification import SequenceClassification

KINDS: dict[str, type[SequenceClassification]] = {
    "sequence_classification": SequenceClassification,
}
"""Task kinds by name."""

__all__ = ["KINDS", "Example", "Kind", "SequenceClassification"]
