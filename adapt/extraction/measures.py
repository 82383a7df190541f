"""What each attention head does over many texts, in a few numbers."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from adapt.display import Rendered, counted, one_line
from adapt.extraction.attention import Attention
from adapt.spec import OptionError
from adapt.tables.cells import escape, line

MEASURES = {
    "entropy": "entropy, nats",
    "distance": "distance, tokens",
    "confidence": "confidence, %",
    "special": "on special tokens, %",
    "punctuation": "on punctuation, %",
    "prefix": "on prefix, %",
}
"""Measure to the heading of its column."""


@dataclass(frozen=True, eq=False)
class HeadMeasures(Rendered):
    """Measures of each head, means over the queries (tokens) of all texts: arrays (layers, heads) of float64.

    A measure that no token has a value for is NaN.
    """

    layers: tuple[int, ...]
    """Numbers of the layers, from 1."""
    texts: int
    """How many were read."""
    queries: int
    """Their tokens, special ones too."""
    entropy: np.ndarray
    """Nats over all keys (Clark et al. 2019, section 3.3): 0 looks at one, the logarithm of their number at all."""
    distance: np.ndarray
    """Tokens from query to key, by attention, whatever goes to a prefix left out (Vig & Belinkov 2019)."""
    confidence: np.ndarray
    """The largest weight on a token that is not special, over queries that are not (Voita et al. 2019, section 4)."""
    special: np.ndarray
    """Share of attention on special tokens, such as [CLS] and [SEP] (Clark et al. 2019, section 3.2)."""
    punctuation: np.ndarray
    """Share on tokens of punctuation marks alone (Clark et al. 2019, section 3.2)."""
    prefix: np.ndarray
    """Share on learned keys."""
    source: str = ""
    """The model's name."""
    cut: int = 0
    """Texts of which tokens were left out."""

    def __str__(self) -> str:
        return self.table()

    def __repr__(self) -> str:
        layers, heads = self.entropy.shape
        what = f"{counted(layers, 'layer')} of {counted(heads, 'head')}, {counted(self.texts, 'text')}"
        return one_line(f"<HeadMeasures of {self.source}: {what}>")

    def table(self) -> str:
        """The measures in Markdown, one row a head; shares are in points of a hundred, left out where all are 0."""
        shown = [name for name in MEASURES if not _is_share(name) or getattr(self, name).any()]
        lines = [line(["layer", "head", *(MEASURES[name] for name in shown)]), line(["---:"] * (2 + len(shown)))]
        for i, layer in enumerate(self.layers):
            for head in range(self.entropy.shape[1]):
                cells = [_cell(name, float(getattr(self, name)[i, head])) for name in shown]
                lines.append(line([str(layer), str(head + 1), *cells]))
        texts = counted(self.texts, "text") + (f" ({self.cut:,} cut short)" if self.cut else "")
        source = f" of {escape(self.source)}" if self.source else ""
        return "\n".join([*lines, "", f"- Attention{source}: means over the {self.queries:,} tokens of {texts}.", ""])

    def to_json(self) -> dict[str, Any]:
        """Plain values: one object a head, shares as fractions; None where there is no value."""
        rows = [
            {"layer": layer, "head": head + 1, **{name: _value(getattr(self, name)[i, head]) for name in MEASURES}}
            for i, layer in enumerate(self.layers)
            for head in range(self.entropy.shape[1])
        ]
        counts = {"texts": self.texts, "queries": self.queries, "cut": self.cut}
        return {"source": self.source, **counts, "heads": rows}


def heads(attentions: Iterable[Attention]) -> HeadMeasures:
    """Measure each head over the maps of any number of texts, of which only one is held at a time.

    Args:
        attentions: Of one model, in the same layers.

    Raises:
        OptionError: There is none, or they are not of the same heads.
    """
    sums: dict[str, np.ndarray] = {}
    layers: tuple[int, ...] = ()
    texts = queries = cut = 0
    source = ""
    for attention in attentions:
        found = _sums(attention)
        if texts and (attention.layers != layers or found["entropy"].shape != sums["entropy"].shape):
            raise OptionError("The attention maps are not of the same layers and heads; give those of one model.")
        sums = {name: sums[name] + value for name, value in found.items()} if texts else found
        layers, texts, queries = attention.layers, texts + 1, queries + len(attention.tokens)
        source, cut = attention.source, cut + attention.cut
    if not queries:
        raise OptionError("There is no attention to be measured; give a text.")
    return HeadMeasures(
        layers,
        texts,
        queries,
        distance=_ratio(sums["distance"], sums["on text"]),
        confidence=_ratio(sums["confidence"], sums["ordinary"]),
        **{name: sums[name] / queries for name in ("entropy", "special", "punctuation", "prefix")},
        source=source,
        cut=cut,
    )


def _sums(attention: Attention) -> dict[str, np.ndarray]:
    """Sums over the queries of one text, (layers, heads) each."""
    special = np.isin(np.arange(len(attention.tokens)), list(attention.special))
    marks = np.array([_is_punctuation(token) for token in attention.tokens], dtype=bool) & ~special
    layers = [_of_layer(layer.astype(np.float64), attention.prefix, special, marks) for layer in attention.weights]
    return {name: np.stack([layer[name] for layer in layers]) for name in layers[0]}


def _of_layer(weights: np.ndarray, prefix: int, special: np.ndarray, marks: np.ndarray) -> dict[str, np.ndarray]:
    """
    Args:
        weights: (heads, tokens, prefix + tokens).
        prefix: Learned keys.
        special: Whether each token is special.
        marks: Whether each token is of punctuation marks alone.

    Returns:
        (heads) each.
    """
    from scipy.special import entr

    text, places = weights[..., prefix:], np.arange(len(special))
    ordinary = text[:, ~special][..., ~special]
    return {
        "entropy": entr(weights).sum((-2, -1)),
        "distance": (text * abs(places[:, None] - places)).sum((-2, -1)),
        "on text": text.sum((-2, -1)),
        "confidence": ordinary.max(-1, initial=0.0).sum(-1),
        "ordinary": np.full(len(weights), float((~special).sum())),
        "special": text[..., special].sum((-2, -1)),
        "punctuation": text[..., marks].sum((-2, -1)),
        "prefix": weights[..., :prefix].sum((-2, -1)),
    }


def _is_punctuation(token: str) -> bool:
    return bool(token) and all(unicodedata.category(character).startswith("P") for character in token)


def _ratio(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    return np.divide(total, count, out=np.full_like(total, math.nan), where=count > 0)


def _value(number: float) -> float | None:
    return None if math.isnan(number) else float(number)


def _cell(name: str, number: float) -> str:
    if math.isnan(number):
        return ""
    return f"{100 * number:.1f}" if _is_share(name) else f"{number:.2f}"


def _is_share(name: str) -> bool:
    return MEASURES[name].endswith("%")
