"""Metrics of classes and numbers, by scikit-learn and scipy; and of numbers summed over tokens."""

from __future__ import annotations

import math
import warnings
from typing import Any, Literal


def accuracy(predictions: Any, references: Any) -> float:
    """Share of equal classes, or of rows all of whose labels are equal."""
    from sklearn.metrics import accuracy_score

    return accuracy_score(references, predictions)


def ratio(predictions: Any, references: Any) -> float:
    """Sum of the rows' numbers (tokens found, nats lost) by the sum of their tokens."""
    return math.fsum(predictions) / max(math.fsum(references), 1.0)


def perplexity(predictions: Any, references: Any) -> float:
    """Exponential of the loss, which is a `ratio`; cut at e^700, near the largest number there is."""
    return math.exp(min(ratio(predictions, references), 700.0))


def f1(average: str, predictions: Any, references: Any) -> float:
    """F1 with scikit-learn's way of averaging, over the classes or labels that a row has or is predicted to have; 0 for
    one that nobody predicts.

    Labels of 0 and 1, (rows, labels), count where they are 1. A single column of them scikit-learn would take for two
    classes, and of several it would count those that no row has on either side as never found.
    """
    import numpy as np
    from sklearn.metrics import f1_score

    if np.ndim(references) == 2 and np.shape(references)[1] == 1:
        return f1_score(np.ravel(references), np.ravel(predictions), average="binary", zero_division=0.0)
    there = None
    if np.ndim(references) == 2:
        there = np.flatnonzero(np.any(references, 0) | np.any(predictions, 0))
        if not len(there):
            return 0.0
    return f1_score(references, predictions, labels=there, average=average, zero_division=0.0)


def mcc(predictions: Any, references: Any) -> float:
    """Matthews correlation coefficient of several classes (Gorodkin 2004, equation 8); 0 where one side has one class
    alone. scikit-learn makes a table of all classes by all of it, which are gigabytes where there are thousands."""
    import numpy as np

    both = np.concatenate([np.asarray(references), np.asarray(predictions)])
    index = np.unique(both, return_inverse=True)[1]
    n = len(both) // 2
    true, guessed = (
        np.bincount(part, minlength=index.max(initial=0) + 1).astype(float) for part in (index[:n], index[n:])
    )
    right = float((index[:n] == index[n:]).sum())
    spread = (n**2 - guessed @ guessed) * (n**2 - true @ true)
    return float((right * n - guessed @ true) / np.sqrt(spread)) if spread > 0 else 0.0


def correlation(kind: Literal["pearson", "spearman"], predictions: Any, references: Any) -> float:
    """Correlation; 0 where one side is constant, as a single row is."""
    import scipy.stats

    if len(references) < 2:
        return 0.0
    function = scipy.stats.pearsonr if kind == "pearson" else scipy.stats.spearmanr
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a constant prediction has no correlation: 0, not a warning and NaN
        value = float(function(predictions, references)[0])
    return 0.0 if math.isnan(value) else value


def mse(predictions: Any, references: Any) -> float:
    """Mean squared error."""
    from sklearn.metrics import mean_squared_error

    return mean_squared_error(references, predictions)
