"""What the cells of tables have in common: numbers with their uncertainty, units, text that is no markup."""

from __future__ import annotations

import re
from collections.abc import Sequence

from adapt.stats import Interval

_SHARES = frozenset({
    "accuracy", "exact_match", "macro_f1", "micro_f1", "span_f1", "span_precision", "span_recall", "token_accuracy",
    "answer_f1", "answer_exact_match", "text_exact_match", "chrf", "bleu", "rouge_l",
})  # fmt: skip
_CORRELATIONS = frozenset({"mcc", "pearson", "spearman"})
"""Metrics that readers are shown times 100; any other in its own unit."""


def unit_of(metric: str) -> str:
    """What follows a metric's name at the head of a column; nothing where values are in the metric's own unit."""
    return ", %" if metric in _SHARES else " × 100" if metric in _CORRELATIONS else ""


def interval(found: Interval, times_100: bool, signed: bool = False) -> str:
    """Times 100 with one decimal, or in the metric's own unit with three digits that matter."""

    def text(value: float) -> str:
        sign = "+" if signed else ""
        return f"{round(100 * value, 1) + 0.0:{sign}.1f}" if times_100 else sign * (value >= 0) + digits(value + 0.0)

    if found.low is None or found.high is None or found.low == found.high:
        return text(found.mean)
    return f"{text(found.mean)} [{text(found.low)}, {text(found.high)}]"


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


def escape(text: str) -> str:
    """Text from names and messages, which must not become markup or steer a terminal."""
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*\[\]|~]|(?<!\w)_|_(?!\w))", r"\\\1", text)
