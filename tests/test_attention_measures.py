"""Measures on attention maps made by hand, against closed forms."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from attention_helpers import drawn, made
from scipy.stats import entropy

from adapt.extraction import Attention, flow, heads, rollout
from adapt.spec import OptionError, Unsupported

IDENTITY, EVEN = np.eye(4), np.full((4, 4), 0.25)
PREVIOUS = np.eye(4, k=-1)
PREVIOUS[0, 0] = 1


# ---------------------------------------------------------------- measures of heads


def test_entropy_is_0_for_one_key_and_the_logarithm_of_their_number_for_all() -> None:
    found = heads([made([[IDENTITY, EVEN]])])
    np.testing.assert_allclose(found.entropy, [[0, math.log(4)]])


def test_entropy_is_scipys() -> None:
    weights = drawn(2, 3, 5, prefix=2).astype(np.float32)
    expected = entropy(weights.astype(np.float64), axis=-1).mean(-1)
    np.testing.assert_allclose(heads([made(weights, prefix=2)]).entropy, expected, rtol=1e-6)


def test_distance_is_that_to_the_key() -> None:
    found = heads([made([[IDENTITY, EVEN, PREVIOUS]])])
    # of 4 tokens the mean distance of all pairs is (0 * 4 + 1 * 6 + 2 * 4 + 3 * 2) / 16
    np.testing.assert_allclose(found.distance, [[0, 20 / 16, 3 / 4]])


def test_distance_leaves_out_the_prefix() -> None:
    half = np.concatenate([np.full((4, 2), 0.25), EVEN / 2], 1)
    np.testing.assert_allclose(heads([made([[half]], prefix=2)]).distance, [[20 / 16]])
    all_to_prefix = np.concatenate([np.ones((4, 1)), 0 * EVEN], 1)
    assert np.isnan(heads([made([[all_to_prefix]], prefix=1)]).distance).all()


def test_confidence_is_the_largest_weight_without_special_tokens() -> None:
    weights = [[[[0.6, 0.3, 0.1], [0.5, 0.2, 0.3], [0.2, 0.7, 0.1]]]]
    np.testing.assert_allclose(heads([made(weights)]).confidence, [[(0.6 + 0.5 + 0.7) / 3]], rtol=1e-6)
    special = heads([made(weights, special=frozenset({0}))])
    np.testing.assert_allclose(special.confidence, [[(0.3 + 0.7) / 2]], rtol=1e-6)
    assert np.isnan(heads([made(weights, special=frozenset({0, 1, 2}))]).confidence).all()


def test_shares_of_special_tokens_punctuation_and_prefix() -> None:
    row = [0.1, 0.4, 0.2, 0.05, 0.25]
    fields = {"tokens": ("[CLS]", "word", "...", "["), "special": frozenset({0, 3}), "prefix": 1}
    found = heads([made([[[row] * 4]], **fields)])
    np.testing.assert_allclose(found.special, [[0.4 + 0.25]], rtol=1e-6)
    np.testing.assert_allclose(found.punctuation, [[0.05]], rtol=1e-6)  # a special token is none of it
    np.testing.assert_allclose(found.prefix, [[0.1]], rtol=1e-6)


def test_every_token_of_all_texts_counts_alike() -> None:
    short, long = made([[[[1.0]]]]), made([[EVEN]])
    found = heads(iter([short, long]))
    np.testing.assert_allclose(found.entropy, [[4 * math.log(4) / 5]])
    assert (found.texts, found.queries) == (2, 5)
    np.testing.assert_allclose(found.distance, [[5 / 5]])  # 20 / 16 over 4 of them, and 0


def test_one_map_is_held_at_a_time() -> None:
    import gc
    import weakref

    alive: list[weakref.ref[Attention]] = []
    most = 0

    def texts() -> Any:
        nonlocal most
        for seed in range(5):
            attention = made(drawn(1, 1, 3, seed=seed))
            alive.append(weakref.ref(attention))
            yield attention
            del attention
            gc.collect()
            most = max(most, sum(reference() is not None for reference in alive))

    heads(texts())
    assert most <= 1


def test_maps_of_different_models_are_refused() -> None:
    with pytest.raises(OptionError, match="not of the same layers and heads"):
        heads([made(drawn(2, 3, 4)), made(drawn(2, 2, 4))])
    with pytest.raises(OptionError, match="not of the same layers and heads"):
        heads([made(drawn(1, 2, 4)), made(drawn(1, 2, 4), layers=(2,))])
    with pytest.raises(OptionError, match="give a text"):
        heads([])


def test_table_and_json_have_a_row_for_each_head() -> None:
    found = heads([made([[IDENTITY, EVEN]], layers=(3,), special=frozenset({0, 1, 2, 3}))])
    lines = found.table().splitlines()
    assert lines[0].startswith("| layer | head | entropy, nats | distance, tokens |")
    assert "prefix" not in lines[0]
    assert lines[2:4] == ["| 3 | 1 | 0.00 | 0.00 |  | 100.0 |", "| 3 | 2 | 1.39 | 1.25 |  | 100.0 |"]
    assert lines[5] == "- Attention: means over the 4 tokens of 1 text."
    assert repr(found) == "<HeadMeasures of : 1 layer of 2 heads, 1 text>"
    rows = json.loads(json.dumps(found.to_json()))["heads"]
    assert [(row["layer"], row["head"]) for row in rows] == [(3, 1), (3, 2)]
    assert rows[1]["entropy"] == pytest.approx(math.log(4))
    assert rows[1]["confidence"] is None
    assert "prefix" in heads([made(drawn(1, 1, 3, prefix=2), prefix=2)]).table()


def test_a_name_is_no_markup() -> None:
    found = heads([made(drawn(1, 1, 3), source="<b>a</b> | *mine*\n# x")])
    assert found.table().splitlines()[-1].startswith(r"- Attention of &lt;b&gt;a&lt;/b&gt; \| \*mine\* # x: means")


# ---------------------------------------------------------------- words


def test_to_a_word_is_the_sum_and_from_it_the_mean() -> None:
    weights = np.array([[[[0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1], [0.25, 0.25, 0.25, 0.25]]]])
    found = made(
        weights, tokens=("[CLS]", "un", "##seen"), prefix=1, special=frozenset({0}), words=(("[CLS]", 1), ("unseen", 2))
    ).by_word()
    assert found.tokens == ("[CLS]", "unseen")
    assert found.keys == ("prefix 1", "[CLS]", "unseen")
    assert found.special == {0}
    expected = [[0.1, 0.2, 0.7], [(0.4 + 0.25) / 2, (0.3 + 0.25) / 2, (0.3 + 0.5) / 2]]
    np.testing.assert_allclose(found.weights[0, 0], expected, rtol=1e-6)
    assert found.weights.dtype == np.float32


def test_rows_between_words_sum_to_1() -> None:
    words = (("a", 3), ("b", 1), ("c", 2))
    found = made(drawn(2, 3, 6, prefix=4), prefix=4, words=words).by_word()
    assert found.weights.shape == (2, 3, 3, 7)
    np.testing.assert_allclose(found.weights.sum(-1), 1, rtol=1e-5)
    np.testing.assert_array_equal(found.by_word().weights, found.weights)


def test_words_that_are_not_known_are_refused() -> None:
    with pytest.raises(Unsupported, match="only fast tokenizers tell"):
        made([[EVEN]]).by_word()


# ---------------------------------------------------------------- rollout and flow


def test_rollout_is_the_product_with_half_the_identity() -> None:
    weights = drawn(3, 2, 4)
    one, two, three = (0.5 * layer.mean(0) + 0.5 * np.eye(4) for layer in weights.astype(np.float32))
    found = rollout(made(weights))
    np.testing.assert_allclose(found, [one, two @ one, three @ two @ one], rtol=1e-6)
    np.testing.assert_allclose(found.sum(-1), 1)


def test_what_goes_to_a_prefix_stays_there() -> None:
    # every token gives half of its attention to the one learned key, half to itself: a quarter goes to it in each layer
    layer = np.concatenate([np.full((3, 1), 0.5), np.eye(3) / 2], 1)
    found = rollout(made([[layer], [layer]], prefix=1))
    np.testing.assert_allclose(found[0], np.concatenate([np.full((3, 1), 1 / 4), np.eye(3) * 3 / 4], 1))
    np.testing.assert_allclose(found[1, :, 0], 1 / 4 + 3 / 4 * 1 / 4)
    np.testing.assert_allclose(found.sum(-1), 1)


def test_flow_of_one_layer_is_its_attention() -> None:
    weights = drawn(1, 2, 4, prefix=2)
    attention = made(weights, prefix=2)
    np.testing.assert_allclose(flow(attention), rollout(attention)[0], atol=1e-6)


def test_flow_is_limited_by_the_narrowest_way() -> None:
    # two layers of two tokens, a and b; token b looks at a alone, token a at itself alone
    to_a = [[1.0, 0.0], [1.0, 0.0]]
    found = flow(made([[to_a], [to_a]]))
    # a to a: 1. b to b: 1/2 then 1/2. b to a: 1/2 by a above, and 1/2 by b above, of which 1/2 goes on to a
    np.testing.assert_allclose(found, [[1, 0], [1, 0.5]], atol=1e-7)
    np.testing.assert_allclose(flow(made([[to_a], [to_a]]), [1]), [[1, 0.5]], atol=1e-7)


def test_flow_is_scipys_linear_programme() -> None:
    """Against the linear programme of a maximum flow, for two layers with a learned key."""
    from scipy.optimize import linprog

    prefix, tokens = 1, 3
    attention = made(drawn(2, 2, tokens, prefix), prefix=prefix)
    mixed = attention.weights.astype(float).mean(1) / 2 + np.eye(tokens, prefix + tokens, k=prefix) / 2
    query, key = 2, 1
    edges = [("top", query, ("learned" if k < prefix else "middle", k), mixed[1, query, k]) for k in range(4)]
    edges += [("middle", q, ("input", k), mixed[0, q - prefix, k]) for q in (1, 2, 3) for k in range(4)]
    keep = np.zeros((3, len(edges)))  # what goes into a state of the middle goes out
    for column, (part, number, (target, k), _) in enumerate(edges):
        if target == "middle":
            keep[k - 1, column] += 1
        if part == "middle":
            keep[number - 1, column] -= 1
    gain = [-float(target == ("input", prefix + key)) for _, _, target, _ in edges]
    best = linprog(gain, A_eq=keep, b_eq=np.zeros(3), bounds=[(0, capacity) for *_, capacity in edges])
    assert flow(attention, [query])[0, prefix + key] == pytest.approx(-best.fun, abs=1e-6)


def test_layers_below_must_be_there() -> None:
    for measure in (rollout, flow):
        with pytest.raises(OptionError, match="layers 2, 3; what reaches a layer goes through all below it"):
            measure(made(drawn(2, 1, 3), layers=(2, 3)))
    with pytest.raises(OptionError, match="Query 3 is no token"):
        flow(made(drawn(1, 1, 3)), [3])
    with pytest.raises(OptionError, match=r"Query 1\.5 is no token of the text; give places from 0 to 2"):
        flow(made(drawn(1, 1, 3)), [1.5])  # type: ignore[list-item]
