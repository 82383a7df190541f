"""Linear CKA beside its definition by Gram matrices, and what it must not depend on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tiny
import torch

import adapt
from adapt.spec import DataError

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(40, 7)), RNG.normal(size=(40, 12))
Z = X @ RNG.normal(size=(7, 5)) + 0.3 * RNG.normal(size=(40, 5))
ROTATION = np.linalg.qr(RNG.normal(size=(7, 7)))[0]


def by_grams(x: np.ndarray, y: np.ndarray) -> float:
    """Kornblith et al. 2019, equations 3 to 4: HSIC of centred Gram matrices."""
    n = len(x)
    centre = np.eye(n) - 1 / n

    def hsic(k: np.ndarray, m: np.ndarray) -> float:
        return float(np.trace(k @ centre @ m @ centre)) / (n - 1) ** 2

    k, m = x @ x.T, y @ y.T
    return hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m))


def unbiased(x: np.ndarray, y: np.ndarray) -> float:
    """Nguyen et al. 2021, equation 3: Gram matrices without their diagonals, as they are."""
    n, ones = len(x), np.ones(len(x))

    def hsic(k: np.ndarray, m: np.ndarray) -> float:
        k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
        both = ones @ k @ ones * (ones @ m @ ones) / ((n - 1) * (n - 2))
        return float(np.trace(k @ m) + both - 2 / (n - 2) * (ones @ k @ m @ ones)) / (n * (n - 3))

    k, m = x @ x.T, y @ y.T
    return hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m))


def test_it_is_what_gram_matrices_give() -> None:
    found, other = adapt.similarity([X], [Y]), adapt.similarity(X + 3, Z, debiased=True)
    assert found[0, 0] == pytest.approx(by_grams(X, Y))
    assert other[0, 0] == pytest.approx(unbiased(X, Z))
    layers = adapt.similarity(np.stack([X, X[::-1]]), np.stack([Y, Y * Y, Y[::-1]]))
    assert layers.shape == (2, 3)
    assert layers[1, 1] == pytest.approx(by_grams(X[::-1], Y * Y))


@pytest.mark.parametrize("debiased", [False, True])
def test_rotations_scales_and_shifts_change_nothing(debiased: bool) -> None:
    before = adapt.similarity(X, Z, debiased=debiased)
    for changed in (X @ ROTATION, 5.5 * X, X - 4, X[:, ::-1]):
        assert adapt.similarity(changed, Z, debiased=debiased) == pytest.approx(before)
        assert adapt.similarity(changed, X, debiased=debiased) == pytest.approx(1)
    assert adapt.similarity(X @ np.diag(np.arange(1.0, 8)), X)[0, 0] < 0.99  # another linear map is another thing
    assert pytest.approx(before) == adapt.similarity(Z, X, debiased=debiased).T


@pytest.mark.parametrize("factor", [1e-200, 1e-90, 1e90, 1e200])
def test_numbers_of_any_size_are_alike(factor: float) -> None:
    assert adapt.similarity(X * factor, X)[0, 0] == pytest.approx(1)
    assert adapt.similarity(X * factor, Z) == pytest.approx(adapt.similarity(X, Z))
    assert np.array_equal(adapt.similarity(X * 2.0**300, Z), adapt.similarity(X, Z))


def test_few_vectors_of_many_features_look_alike_unless_debiased() -> None:
    one, two = RNG.normal(size=(30, 300)), RNG.normal(size=(30, 300))
    assert adapt.similarity(one, two)[0, 0] > 0.8
    assert abs(adapt.similarity(one, two, debiased=True)[0, 0]) < 0.1


@pytest.mark.parametrize("debiased", [False, True])
def test_a_layer_of_one_vector_has_no_similarity(debiased: bool) -> None:
    layers = np.stack([np.tile(X[3] / 3, (40, 1)), X])
    found = adapt.similarity(layers, X, debiased=debiased)
    assert np.isnan(found[0, 0])
    assert found[1, 0] == pytest.approx(1)


def test_layers_of_a_model_are_alike_most_with_themselves() -> None:
    texts = [" ".join(tiny.FILL[i : i + 4]) for i in range(20)] + ["the old man went home", "a good day"]
    every = adapt.representations("tiny-encoder", texts, device="cpu")
    found = adapt.similarity(every, every)
    assert found.shape == (len(every.layers), len(every.layers))
    assert np.diag(found) == pytest.approx(1)
    assert (found <= 1 + 1e-9).all()
    assert np.array_equal(found, adapt.similarity(every, every))
    other = adapt.representations("tiny-encoder", texts[::-1], layers="last", pooling="words", device="cpu")
    with pytest.raises(DataError, match="by tiny-encoder and tiny-encoder are not of the same rows"):
        adapt.similarity(every, other)


def test_rows_must_be_cut_alike() -> None:
    texts = [" ".join(["good day"] * n) for n in (2, 5, 6)]

    def read(most: int) -> adapt.Representations:
        return adapt.representations("tiny-encoder", texts, max_length=most, device="cpu")

    assert np.diag(adapt.similarity(read(64), read(32))) == pytest.approx(1)  # no row is as long
    with pytest.raises(DataError, match=r"Row \d was read whole by tiny-encoder and cut by tiny-encoder; make both"):
        adapt.similarity(read(64), read(6))
    with pytest.raises(DataError, match=r"Row \d was cut by tiny-encoder and tiny-encoder at different places"):
        adapt.similarity(read(7), read(6))


def test_a_word_that_is_cut_is_cut_somewhere() -> None:
    words = [["unbelievablenesses"] * 9, ["a"] * 3]
    read = [adapt.representations("tiny-encoder", words, max_length=n, device="cpu", layers="last") for n in (6, 7)]
    with pytest.raises(DataError, match="Row 1 was cut by tiny-encoder and tiny-encoder at different places"):
        adapt.similarity(*read)


def test_two_tokenizers_must_cut_alike() -> None:
    """As many tokens are other parts of a text."""
    texts = ["unbelievable extraordinary happenings everywhere " * 12, "day good " * 20, "fine"]

    def read(name: str, most: int) -> adapt.Representations:
        return adapt.representations(name, texts, max_length=most, device="cpu", layers="last")

    one, other = read("tiny-encoder", 24), read("tiny-decoder", 24)
    assert (one.cut > 0).tolist() == (other.cut > 0).tolist() == [True, True, False]
    with pytest.raises(DataError, match=r"Row 1 was cut by tiny-encoder and tiny-decoder at different places; make"):
        adapt.similarity(one, other)


@pytest.mark.parametrize(
    ("a", "b", "debiased", "message"),
    [
        (X, Y[:-1], False, "of 40 and of 39 vectors; make both of the same rows"),
        (X[0], Y, False, r"shape \(7,\)"),
        (X[:1], Y[:1], False, "1 vectors; similarity needs at least 2"),
        (X[:3], Y[:3], True, "3 vectors; similarity needs at least 4"),
        (np.where(X > 2, np.nan, X), Y, False, "not finite"),
        (np.zeros((0, 40, 7)), Y, False, r"shape \(0, 40, 7\)"),
        ([[1.0, 2.0], [3.0]], Y, False, "no array of real numbers"),
        (X + 1j, Y, False, "no array of real numbers"),
        ([["a", "b"]] * 40, Y, False, "no array of real numbers"),
        (torch.ones(40, 7, dtype=torch.bfloat16), Y, False, "no array of real numbers"),
        (torch.ones(40, 7, requires_grad=True), Y, False, "no array of real numbers"),
    ],
)
def test_what_cannot_be_compared(a: Any, b: Any, debiased: bool, message: str) -> None:
    with pytest.raises(DataError, match=message):
        adapt.similarity(a, b, debiased=debiased)
