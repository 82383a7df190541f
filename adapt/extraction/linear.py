"""The probe: a linear model on standardised vectors, its penalty chosen on validation."""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from adapt.metrics import score
from adapt.spec import Problem

PENALTIES = (1000.0, 100.0, 10.0, 1.0)
"""Weights of the squared L2 norm of the coefficients, beside the summed loss (half of it for classes, as scikit-learn
has it); the first of the best is taken."""
MEASURES: dict[str, str] = {
    "single_label": "accuracy", "multi_label": "macro_f1", "regression": "spearman", "spans": "token_accuracy",
    "tags": "token_accuracy",
}  # fmt: skip
"""Problem to the metric of single vectors by which a penalty is chosen and a probe is compared with its control."""
_STEPS = 200
"""Most steps of the solver, which most fits end long before."""
Decide = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Vectors:
    """Vectors of one layer with what is to be read from them."""

    values: np.ndarray
    """(vectors, hidden), float32."""
    targets: np.ndarray
    """(vectors,): classes or numbers; or (vectors, labels) of 0 and 1."""


@dataclass(frozen=True)
class Fit:
    """A fitted probe."""

    decide: Decide
    """(vectors, hidden) to targets, in the form of those of training."""
    penalty: float
    """The one chosen."""


def fit(problem: Problem, train: Vectors, validation: Vectors) -> Fit:
    """Fit a probe: logistic regression of classes (multinomial) and of each of several labels, ridge of numbers.

    It runs on one thread: its steps are so small that several would wait for each other most of the time.

    Args:
        problem: What the targets are.
        train: What it is fitted on; features are scaled to mean 0 and deviation 1 over them.
        validation: What chooses the penalty, by the metric of `MEASURES`.
    """
    from threadpoolctl import threadpool_limits

    mean = train.values.mean(0, dtype=np.float64).astype(np.float32)
    deviation = train.values.std(0, dtype=np.float64).astype(np.float32)
    deviation[deviation < 1e-6] = 1.0

    def scaled(values: np.ndarray) -> np.ndarray:
        return (values - mean) / deviation

    with threadpool_limits(1, "blas"):
        ready = scaled(validation.values)
        tried = [
            (measure(problem, decide(ready), validation.targets), penalty, decide)
            for penalty, decide in zip(PENALTIES, _fits(problem, scaled(train.values), train.targets), strict=True)
        ]
    _, penalty, decide = max(tried, key=operator.itemgetter(0))
    return Fit(lambda values: decide(scaled(values)), penalty)


def measure(problem: Problem, decisions: np.ndarray, targets: np.ndarray) -> float:
    """The metric of `MEASURES` over single vectors."""
    if problem in ("spans", "tags"):
        return float((decisions == targets).mean())
    name = MEASURES[problem]
    return score(problem, decisions.tolist(), targets.tolist(), [name])[name]


def _fits(problem: Problem, x: np.ndarray, y: np.ndarray) -> Iterator[Decide]:
    """What is fitted with each of `PENALTIES`."""
    if problem == "regression":
        from sklearn.linear_model import Ridge

        mean = y.mean()  # taken off, for the numbers are fitted in the precision of the vectors
        return (partial(_values_of, Ridge(alpha=penalty).fit(x, y - mean), mean) for penalty in PENALTIES)
    if problem == "multi_label":
        columns = [_classifiers(x, column) for column in y.T]
        return (partial(_labels_of, classifiers) for classifiers in zip(*columns, strict=True))
    return _classifiers(x, y)


def _values_of(model: Any, mean: float, values: np.ndarray) -> np.ndarray:
    return np.asarray(model.predict(values).astype(np.float64) + mean)


def _classifiers(x: np.ndarray, y: np.ndarray) -> Iterator[partial[np.ndarray]]:
    """Logistic regression, which goes on from the solution of the penalty before; of one class alone, that class."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    classes = np.unique(y)
    model = LogisticRegression(max_iter=_STEPS, warm_start=True)
    for penalty in PENALTIES:
        if len(classes) == 1:
            yield partial(_classes_of, np.zeros((1, x.shape[1])), np.zeros(1), classes)
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a probe that stopped early is still a probe
            model.set_params(C=1 / penalty).fit(x, y)
        yield partial(_classes_of, model.coef_.copy(), model.intercept_.copy(), classes)


def _classes_of(coefficients: np.ndarray, intercept: np.ndarray, classes: np.ndarray, values: np.ndarray) -> np.ndarray:
    logits = values @ coefficients.T + intercept
    return classes[logits.argmax(1) if logits.shape[1] > 1 else (logits[:, 0] > 0).astype(int)]


def _labels_of(classifiers: Sequence[Decide], values: np.ndarray) -> np.ndarray:
    return np.stack([decide(values) for decide in classifiers], 1)
