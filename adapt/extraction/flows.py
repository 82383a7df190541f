"""How much of each input token is in a layer's state of another, by the attention weights alone."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import SupportsIndex

import numpy as np

from adapt.extraction.attention import Attention
from adapt.spec import OptionError

_UNIT = 1 << 26
"""A capacity of 1 in maximum flow, which takes whole numbers."""


def rollout(attention: Attention) -> np.ndarray:
    """Attention rollout (Abnar & Zuidema 2020, section 3): the product of the layers' attention from the first on.

    Each layer's attention is the mean over its heads, half of it the residual connection, which is the identity. What
    goes to learned keys stays with them.

    Returns:
        (layers, tokens, prefix + tokens), float64: shares of the inputs in each state; rows sum to 1.

    Raises:
        OptionError: Layers below are left out.
    """
    mixed = _mixed(attention)
    prefix = attention.prefix
    found = np.eye(mixed.shape[-1])[prefix:]  # before the first layer each state is its input
    states = []
    for layer in mixed:
        found = layer[:, prefix:] @ found
        found[:, :prefix] += layer[:, :prefix]
        states.append(found.copy())
    return np.stack(states)


def flow(attention: Attention, queries: Sequence[int] | None = None) -> np.ndarray:
    """Attention flow (Abnar & Zuidema 2020, section 3): the most that can flow from a state to an input.

    The weights, half of them the residual connection, are the capacities of a network whose nodes are the states of all
    layers. There is one maximum flow for each pair of a query and a key: this is for short texts.

    Args:
        attention: Of all layers from the first to that whose states are asked about.
        queries: Places of the tokens asked about; None: all.

    Returns:
        (queries, prefix + tokens), float64, each between 0 and 1.

    Raises:
        OptionError: Layers below are left out, or a place is none of the text's.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import maximum_flow

    mixed = _mixed(attention)
    depth, tokens, keys = mixed.shape
    asked = range(tokens) if queries is None else queries
    for place in asked:
        if not isinstance(place, SupportsIndex) or not 0 <= operator.index(place) < tokens:
            raise OptionError(f"Query {place!r} is no token of the text; give places from 0 to {tokens - 1}.")
    # inputs are the nodes 0 to keys - 1, learned keys first, which every layer sees; then come the states, by layer
    edges: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for i, layer in enumerate(mixed):
        capacities = np.rint(layer * _UNIT).astype(np.int32)
        above, below = np.nonzero(capacities)
        shift = 0 if i == 0 else keys - attention.prefix + (i - 1) * tokens
        into = np.where(below < attention.prefix, below, below + shift)
        edges.append((capacities[above, below], above + keys + i * tokens, into))
    values, sources, targets = (np.concatenate(part) for part in zip(*edges, strict=True))
    size = keys + depth * tokens
    graph = coo_array((values, (sources, targets)), shape=(size, size)).tocsr()
    top = size - tokens
    found = [[maximum_flow(graph, top + q, key).flow_value / _UNIT for key in range(keys)] for q in asked]
    return np.array(found).clip(max=1)


def _mixed(attention: Attention) -> np.ndarray:
    """(layers, tokens, prefix + tokens): the mean over heads, half of it the identity."""
    if attention.layers != tuple(range(1, len(attention.layers) + 1)):
        raise OptionError(
            f"The maps are of layers {', '.join(map(str, attention.layers))}; what reaches a layer goes through all "
            "below it: give those of every layer from the first."
        )
    weights = attention.weights.astype(np.float64).mean(1)
    tokens = len(attention.tokens)
    return (weights + np.eye(tokens, attention.prefix + tokens, k=attention.prefix)) / 2
