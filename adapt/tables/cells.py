"""What Markdown tables have in common: numbers with their uncertainty, units, text that is no markup."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from adapt.display import one_line
from adapt.metrics import LOWER_IS_BETTER
from adapt.stats import Interval

_SHARES = frozenset({
    "accuracy", "exact_match", "macro_f1", "micro_f1", "span_f1", "span_precision", "span_recall", "token_accuracy",
    "answer_f1", "answer_exact_match", "text_exact_match", "chrf", "bleu", "rouge_l", "masked_accuracy",
})  # fmt: skip
"""Metrics from 0 to 1, that readers are shown in per cent."""
_CORRELATIONS = frozenset({"mcc", "pearson", "spearman"})
"""Metrics from -1 to 1, that readers are shown times 100; any other is shown in its own unit."""

_NOISE = 1e-9
"""What sums of floating point may leave of nothing, in points of a hundred."""


def unit_of(metric: str) -> str:
    """What follows a metric's name at the head of a column; nothing where values are in the metric's own unit."""
    return ", %" if metric in _SHARES else " × 100" if metric in _CORRELATIONS else ""


def heading(metric: str) -> str:
    """The head of a column with means of a metric and their intervals."""
    better = ", lower is better" if metric in LOWER_IS_BETTER else ""
    return f"{metric.replace('_', ' ')}{unit_of(metric)} [95 % CI]{better}"


def interval(found: Interval, metric: str, signed: bool = False) -> str:
    """Of a metric that is shown times 100 with one decimal, else in its own unit with three digits that matter.

    Limits end where the metric does, and those of a difference (`signed`) where that of two of its values does. Such a
    limit that rounds to 0 has the sign that it had before, for whether 0 is within is what is read off.
    """
    times_100 = bool(unit_of(metric))

    def text(value: float, least: float = 0.05) -> str:
        sign = "+" if signed else ""
        shown = 0.0 if abs(100 * value) < least else value
        return f"{100 * shown:{sign}.1f}" if times_100 else sign * (value >= 0) + digits(value + 0.0)

    limits = limits_of(found, metric, signed)
    least = _NOISE if signed else 0.05
    return text(found.mean) + (f" [{text(limits[0], least)}, {text(limits[1], least)}]" if limits else "")


def limits_of(found: Interval, metric: str | None, signed: bool = False) -> tuple[float, float] | None:
    """The limits of an interval, if they are known and not one value; where there is a metric, as `within` has them."""
    if metric is not None:
        found = within(found, metric, signed)
    return None if found.low is None or found.high is None or found.low == found.high else (found.low, found.high)


def within(found: Interval, metric: str, signed: bool = False) -> Interval:
    """The interval of a score, whose limits end where its metric does, or (`signed`) of a difference of two; without
    any where they are one value."""
    if found.low is None or found.high is None:
        return found
    least = -1.0 if metric in _CORRELATIONS else 1.0 if metric == "perplexity" else 0.0
    most = 1.0 if unit_of(metric) else math.inf
    if signed:
        least, most = least - most, most - least
    low, high = max(found.low, least), min(found.high, most)
    return Interval(found.mean, None, None) if low == high else Interval(found.mean, low, high)


def digits(value: float) -> str:
    """Three digits that matter, or all before the point."""
    whole = len(f"{abs(value):.0f}")
    return f"{value:,.0f}" if 3 <= whole < 10 else f"{value:#.3g}".rstrip(".")


def share(value: float) -> str:
    """In per cent; what is there is never shown as nothing."""
    return "< 0.01 %" if 0 < value < 5e-5 else f"{100 * value:.2f} %"


def line(cells: Sequence[str]) -> str:
    """A row of a Markdown table."""
    return "| " + " | ".join(cells) + " |"


def grid(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table, its numbers, which are in all columns but the first, flush right."""
    return [line(head), line(["---", *["---:"] * (len(head) - 1)]), *map(line, rows)]


def named(label: str) -> str:
    """The label of a row in a sentence or list; one that has commas of its own, as those of students, is in quotes."""
    return f'"{escape(label)}"' if "," in re.sub(r"\([^()]*\)", "", label) else escape(label)


def apart(name: str, taken: Sequence[str]) -> str:
    """The name of a model, with a number behind it where another one has it."""
    found, number = name, 1
    while found in taken:
        number += 1
        found = f"{name} ({number})"
    return found


def machine(environment: Mapping[str, Any]) -> str:
    """What something was made on, and with, by the environment recorded with it."""
    versions = ", ".join(f"{name} {v}" for name, v in environment.get("versions", {}).items() if v)
    hardware = f"{environment.get('hardware', 'unknown')}, {environment.get('device')}"
    threads = environment.get("threads")
    return escape(f"{hardware}, {threads} thread{'' if threads == 1 else 's'}; {versions}")


def escape(text: str) -> str:
    """Text from names and messages, which must not become markup or steer a terminal."""
    text = one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*\[\]|~$]|(?<!\w)_|_(?!\w))", r"\\\1", text)
