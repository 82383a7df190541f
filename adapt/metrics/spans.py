"""Spans in BIO tags, and their scores by seqeval.

Strict reading: `B-X` begins a span, `I-X` right after continues it; an `I-X` that continues nothing is no span
(seqeval's strict mode with scheme IOB2). A span is right where its type, start and end are.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

TAG = re.compile(r"O|[BIESLUM]-.+")
"""A tag of entities in any of the usual schemes."""


def spans_of(tags: Sequence[str]) -> list[tuple[str, int, int]]:
    """Type, start and end (exclusive) of each span of a row."""
    found: list[tuple[str, int, int]] = []
    kind, start = "", 0
    for i, tag in enumerate([*tags, "O"]):
        if kind and tag == f"I-{kind}":
            continue
        if kind:
            found.append((kind, start, i))
        kind, start = (tag[2:], i) if tag.startswith("B-") else ("", i)
    return found


def unpredicted(names: Sequence[str]) -> list[str]:
    """I- tags that are none of the names, of types whose B- tag is one.

    A model with these names predicts spans of the type of one word alone, and rows that it is scored on may have longer
    ones: what is true there has its number after those of the names, in this order.
    """
    return [tag for name in names if name.startswith("B-") and (tag := f"I{name[1:]}") not in names]


def counts(prediction: Sequence[str], reference: Sequence[str]) -> list[int]:
    """Spans of a row that are right, wrong and missed: `[tp, fp, fn]`."""
    guess, truth = set(spans_of(prediction)), set(spans_of(reference))
    return [len(guess & truth), len(guess - truth), len(truth - guess)]


def scores(predictions: Any, references: Any) -> dict[str, float]:
    """Share of the predicted spans that are right, share of the true ones that are found, and F1 of both, over all rows
    together, by the name of the metric; 0 where there are none."""
    from seqeval.metrics.v1 import precision_recall_fscore_support
    from seqeval.scheme import IOB2

    found = precision_recall_fscore_support(references, predictions, average="micro", scheme=IOB2, zero_division=0)
    return dict(zip(("span_precision", "span_recall", "span_f1"), map(float, found[:3]), strict=True))


def summed(predictions: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """The same as `scores`, from the `counts` of each row, which take a twentieth of the time."""
    found = [counts(*row) for row in zip(predictions, references, strict=True)]
    right, wrong, missed = (sum(numbers) for numbers in zip(*found, strict=True)) if found else (0, 0, 0)
    precision, recall = (right / every if every else 0.0 for every in (right + wrong, right + missed))
    f1 = 2 * precision * recall / (precision + recall) if right else 0.0
    return {"span_precision": precision, "span_recall": recall, "span_f1": f1}


def score(name: str, predictions: Any, references: Any) -> float:
    """One of `scores`."""
    return scores(predictions, references)[name]
