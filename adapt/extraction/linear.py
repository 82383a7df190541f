"""The probe: a linear model on standardised vectors."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from adapt.metrics import score
from adapt.spec import Problem

PENALTIES = (100_000.0, 10_000.0, 1000.0, 100.0, 10.0, 1.0)
"""Weights of the squared L2 norm of the coefficients, beside the summed loss (half of it for classes, as scikit-learn
has it)."""
MEASURES: dict[str, str] = {
    "single_label": "accuracy", "multi_label": "macro_f1", "regression": "spearman", "spans": "token_accuracy",
    "tags": "token_accuracy",
}  # fmt: skip
"""Problem to the metric of single vectors by which a probe is compared with its control, and both are chosen for it."""
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


def fits(problem: Problem, train: Vectors) -> list[Fit]:
    """A probe of each penalty: logistic regression of classes (multinomial) and of each of several labels, ridge of
    numbers.

    They run on one thread: their steps are so small that several would wait for each other most of the time.

    Args:
        problem: What the targets are.
        train: What they are fitted on; features are scaled to mean 0 and deviation 1 over them.
    """
    from threadpoolctl import threadpool_limits

    mean = train.values.mean(0, dtype=np.float64).astype(np.float32)
    deviation = train.values.std(0, dtype=np.float64).astype(np.float32)
    deviation[deviation < 1e-6] = 1.0

    def scaled(values: np.ndarray) -> np.ndarray:
        return (values - mean) / deviation

    def decided(decide: Decide, values: np.ndarray) -> np.ndarray:
        return decide(scaled(values))

    with threadpool_limits(1, "blas"):
        deciding = list(_deciding(problem, scaled(train.values), train.targets))
    return [Fit(partial(decided, decide), penalty) for penalty, decide in zip(PENALTIES, deciding, strict=True)]


def best(tried: Sequence[Fit], validation: np.ndarray, value: Callable[[np.ndarray], float]) -> Fit:
    """The probe whose decisions on validation are worth most; of several the one of the strongest penalty.

    Args:
        tried: As `fits` gives them.
        validation: (vectors, hidden).
        value: Of decisions; more is better, and NaN is least.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, "blas"):
        values = [value(fit.decide(validation)) for fit in tried]
    return tried[int(np.argmax(np.nan_to_num(values, nan=-np.inf)))]


def measure(problem: Problem, decisions: np.ndarray, targets: np.ndarray) -> float:
    """The metric of `MEASURES` over single vectors."""
    if problem in ("spans", "tags"):
        return float((decisions == targets).mean())
    name = MEASURES[problem]
    return score(problem, decisions.tolist(), targets.tolist(), [name])[name]


def _deciding(problem: Problem, x: np.ndarray, y: np.ndarray) -> Iterator[Decide]:
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
