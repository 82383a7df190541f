"""Parameters that each strategy adds to each tiny architecture, by arithmetic."""

from __future__ import annotations

import tiny
from tiny import INNER, RANK, REDUCTION, VIRTUAL

H, E, L = tiny.HIDDEN, tiny.EMBEDDING, tiny.LAYERS
KV = tiny.KV_HEADS * 8
"""Width of keys and of values where queries are grouped."""


def dense(n: int, m: int) -> int:
    """Parameters of a linear layer with bias."""
    return n * m + m


_ATTENTION, _FEED_FORWARD = 4 * (H + H), 2 * (H + INNER)
_BERT = L * (_ATTENTION + _FEED_FORWARD)
_GROUPED = L * (2 * (H + H) + 2 * (H + KV) + 3 * (H + INNER))
LINEAR = {
    "bert": _BERT,
    "roberta": _BERT,
    "distilbert": _BERT,
    "electra": _BERT + E + H,
    "albert": _BERT // L + E + H,
    "deberta-v2": _BERT,
    "modernbert": L * ((H + 3 * H) + (H + H) + (H + 2 * INNER) + (INNER + H)),
    "gpt2": L * ((H + 3 * H) + (H + H) + _FEED_FORWARD),
    "llama": _GROUPED,
    "qwen3": _GROUPED,
}
"""Inputs plus outputs of every linear layer of the body: what an update of rank 1 has."""
_TWO_SIDED = {False: _BERT, True: _BERT + L * (2 * _ATTENTION + _FEED_FORWARD)}
"""Of an encoder alone, and of an encoder and a decoder, which attends twice a layer."""


def added(strategy: str, architecture: str, decoder: bool) -> int:
    """Parameters of the strategy beside the head's.

    Args:
        strategy: Its name.
        architecture: Its `model_type`.
        decoder: Of an encoder-decoder: whether the kind's model has the decoder.
    """
    two_sided = architecture in ("t5", "bart")
    layers = 1 if architecture == "albert" else L  # ALBERT's layers share one set of weights
    small = round(H / REDUCTION)
    sub_layers = 2 * layers + (3 * L if two_sided and decoder else 0)
    keys = KV if architecture in ("llama", "qwen3") else H
    attentions = layers + (2 * L if two_sided and decoder else 0)
    rank = RANK * (_TWO_SIDED[decoder] if two_sided else LINEAR[architecture])
    return {
        "full": 0,
        "head": 0,
        "lora": rank,
        "bottleneck": sub_layers * (dense(H, small) + dense(small, H)),
        "prefix": 2 * VIRTUAL * attentions * keys,
        "qlora": rank,
        "qlora4": rank,
    }[strategy]
