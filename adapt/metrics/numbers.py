"""Metrics of classes and numbers, by scikit-learn and scipy."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any


def accuracy(predictions: Any, references: Any) -> float:
    """Share of equal classes, or of rows all of whose labels are equal."""
    from sklearn.metrics import accuracy_score

    return accuracy_score(references, predictions)


def share(predictions: Any, references: Any) -> float:
    """Of numbers that are right and numbers of all, one of each a row: what is right of all."""
    return math.fsum(predictions) / max(math.fsum(references), 1.0)


def f1(average: str) -> Callable[[Any, Any], float]:
    """F1 with scikit-learn's way of averaging; 0 for a class that nobody predicts.

    Of several labels a row, (rows, labels) of 0 and 1, it is that of the labels that are there; so it is of one alone,
    whose column scikit-learn would take for two classes.
    """

    def compute(predictions: Any, references: Any) -> float:
        import numpy as np
        from sklearn.metrics import f1_score

        if np.ndim(references) == 2 and np.shape(references)[1] == 1:
            return f1_score(np.ravel(references), np.ravel(predictions), average="binary", zero_division=0.0)
        return f1_score(references, predictions, average=average, zero_division=0.0)

    return compute


def mcc(predictions: Any, references: Any) -> float:
    """Matthews correlation coefficient; 0 where one side has one class alone."""
    from sklearn.metrics import matthews_corrcoef

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # both sides have one class alone
        return matthews_corrcoef(references, predictions)


def correlation(kind: str) -> Callable[[Any, Any], float]:
    """Correlation `pearson` or `spearman`; 0 where one side is constant, as a single row is."""

    def compute(predictions: Any, references: Any) -> float:
        import scipy.stats

        if len(references) < 2:
            return 0.0
        function = scipy.stats.pearsonr if kind == "pearson" else scipy.stats.spearmanr
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a constant prediction has no correlation: 0, not a warning and NaN
            value = float(function(predictions, references)[0])
        return 0.0 if math.isnan(value) else value

    return compute


def mse(predictions: Any, references: Any) -> float:
    """Mean squared error."""
    from sklearn.metrics import mean_squared_error

    return mean_squared_error(references, predictions)
