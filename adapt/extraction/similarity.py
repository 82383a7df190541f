"""How alike the representations of two models are, layer by layer: linear CKA."""

from __future__ import annotations

from typing import Any

import numpy as np

from adapt.extraction.representations import Representations
from adapt.spec import DataError


def similarity(a: Any, b: Any, *, debiased: bool = False) -> np.ndarray:
    """Linear centred kernel alignment of each layer of `a` with each of `b`; the public `adapt.similarity`.

    ‖YᵀX‖² / (‖XᵀX‖ ‖YᵀY‖), Frobenius norms, columns centred (Kornblith et al. 2019, section 3): 1 where one is a
    rotation of the other times a number, whatever their sizes. It is computed in the space of features, so that there
    may be many vectors; with fewer vectors than features it is too high even where nothing is shared.

    Args:
        a: `Representations`, or an array (layers, vectors, hidden) or (vectors, hidden).
        b: The same, of the same rows (or words) in the same order; its hidden size may be another.
        debiased: Estimate without that bias (Nguyen et al. 2021, equation 3, after Song et al. 2012); it may be a
            little below 0.

    Returns:
        (layers of a, layers of b), float64; NaN for a layer whose vectors are all the same, as those of the first
        token among the embeddings (debiased also where noise makes a layer's own alignment no more than 0).

    Raises:
        DataError: The two are not of the same vectors, of rows cut alike, there are too few, or one is not of finite
            numbers.
    """
    _check_alike(a, b)
    one, two = _centred(a, debiased), _centred(b, debiased)
    if len(one[0]) != len(two[0]):
        raise DataError(
            f"The representations are of {len(one[0])} and of {len(two[0])} vectors; make both of the same rows."
        )
    own = [_alignment(x, x, debiased) for x in one], [_alignment(y, y, debiased) for y in two]
    found = np.full((len(one), len(two)), np.nan)
    for i, x in enumerate(one):
        for j, y in enumerate(two):
            if own[0][i] > 0 and own[1][j] > 0:
                found[i, j] = _alignment(x, y, debiased) / np.sqrt(own[0][i] * own[1][j])
    return found


def _check_alike(a: Any, b: Any) -> None:
    if not (isinstance(a, Representations) and isinstance(b, Representations)):
        return
    vectors = np.array_equal(a.rows, b.rows) and np.array_equal(a.positions, b.positions)
    if not vectors or len(a.cut) != len(b.cut):
        raise DataError(
            f"The representations by {a.source} and {b.source} are not of the same rows, words or tokens; make both of "
            "the same rows, pooled alike (of models with different tokenizers by words or rows) and cut alike."
        )
    if not np.array_equal(a.cut, b.cut):
        row = int((a.cut != b.cut).argmax())
        one, two = ("cut" if one.cut[row] else "read whole" for one in (a, b))
        how = f"{one} by {a.source} and {two} by {b.source}" if one != two else f"cut by {a.source} and {b.source} at "
        how += "" if one != two else "different places"
        raise DataError(
            f"Row {row + 1} was {how}; make both with the same max_length, and with two tokenizers shorten such rows "
            "until both read them whole."
        )


def _centred(given: Any, debiased: bool) -> list[np.ndarray]:
    """(vectors, hidden) of each layer, float64, the largest about 1; zero where a layer's vectors are all the same."""
    try:
        values = np.asarray(given.values if isinstance(given, Representations) else given)
        values = values.astype(np.float64, casting="same_kind")
    except (RuntimeError, TypeError, ValueError) as error:
        raise DataError(f"Representations are no array of real numbers ({error}); give one of numpy's.") from error
    if values.ndim not in (2, 3) or (values.ndim == 3 and not len(values)):
        raise DataError(f"Representations have the shape {values.shape}; give (layers, vectors, hidden).")
    least = 4 if debiased else 2
    if values.shape[-2] < least:
        raise DataError(f"There are {values.shape[-2]} vectors; similarity needs at least {least}.")
    if not np.isfinite(values).all():
        raise DataError("Representations are not finite; look at the model that gave them.")
    layers = values[None] if values.ndim == 2 else values
    # a mean's rounding would make differences where there are none
    return [_scaled(np.where((x == x[0]).all(0), 0.0, x - x.mean(0))) for x in layers]


def _scaled(x: np.ndarray) -> np.ndarray:
    """Times the power of two that makes the largest about 1, which is exact: fourth powers are summed up."""
    _, exponent = np.frexp(np.abs(x).max(initial=0.0))
    return np.ldexp(x, -exponent)


def _alignment(x: np.ndarray, y: np.ndarray, debiased: bool) -> float:
    """‖YᵀX‖²; or, times a constant, the unbiased estimate of HSIC that goes with it (Song et al. 2012, equation 5)."""
    product = float(np.square(y.T @ x).sum())
    if not debiased:
        return product
    n, a, b = len(x), np.square(x).sum(1), np.square(y).sum(1)
    return product - n / (n - 2) * float(a @ b) + float(a.sum() * b.sum()) / ((n - 1) * (n - 2))
