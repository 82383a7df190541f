"""The probe: a linear model on standardised vectors, its penalty chosen on validation."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from adapt.metrics import score
from adapt.spec import Problem

PENALTIES = (1000.0, 100.0, 10.0, 1.0)
"""Weights of the squared L2 norm of the coefficients, beside the summed loss; the first of the best is taken."""
MEASURES: dict[str, str] = {
    "single_label": "accuracy", "multi_label": "macro_f1", "regression": "spearman", "spans": "token_accuracy",
    "tags": "token_accuracy",
}  # fmt: skip
"""Problem to the metric of single vectors by which a penalty is chosen and a probe is compared with its control."""
_STEPS = 200
"""Most steps of the solver, which most fits end long before."""


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

    decide: Callable[[np.ndarray], np.ndarray]
    """(vectors, hidden) to targets, in the form of those of training."""
    penalty: float
    """The one chosen."""


def fit(problem: Problem, train: Vectors, validation: Vectors) -> Fit:
    """Fit a probe: logistic regression of classes (multinomial) and of each of several labels, ridge of numbers.

    Args:
        problem: What the targets are.
        train: What it is fitted on; features are scaled to mean 0 and deviation 1 over them.
        validation: What chooses the penalty, by the metric of `MEASURES`.

    It runs on one thread: its steps are so small that several would wait for each other most of the time.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, "blas"):
        return _fit(problem, train, validation)


def _fit(problem: Problem, train: Vectors, validation: Vectors) -> Fit:
    mean = train.values.mean(0, dtype=np.float64).astype(np.float32)
    deviation = train.values.std(0, dtype=np.float64).astype(np.float32)
    deviation[deviation < 1e-6] = 1.0

    def scaled(values: np.ndarray) -> np.ndarray:
        return (values - mean) / deviation

    best: tuple[float, Fit] | None = None
    ready = scaled(validation.values)
    for penalty, decide in _fits(problem, scaled(train.values), train.targets):
        found = measure(problem, decide(ready), validation.targets)
        if best is None or found > best[0]:
            best = found, Fit(_after(scaled, decide), penalty)
    assert best is not None
    return best[1]


def measure(problem: Problem, decisions: np.ndarray, targets: np.ndarray) -> float:
    """The metric of `MEASURES` over single vectors."""
    if problem in ("spans", "tags"):
        return float((decisions == targets).mean())
    name = MEASURES[problem]
    return score(problem, decisions.tolist(), targets.tolist(), [name])[name]


def _after(first: Callable[[np.ndarray], np.ndarray], then: Callable[[np.ndarray], np.ndarray]) -> Any:
    return lambda values: then(first(values))


def _fits(problem: Problem, x: np.ndarray, y: np.ndarray) -> Iterator[tuple[float, Callable[[np.ndarray], np.ndarray]]]:
    """What is fitted with each penalty, the strongest first."""
    if problem == "regression":
        from sklearn.linear_model import Ridge

        for penalty in PENALTIES:
            yield penalty, Ridge(alpha=penalty).fit(x, y).predict
        return
    columns = y.T if problem == "multi_label" else y[None]
    models = [_Classes(x, column) for column in columns]
    for penalty in PENALTIES:
        decide = [model.fit(penalty) for model in models]
        if problem == "multi_label":
            yield penalty, lambda values, each=decide: np.stack([one(values) for one in each], 1)  # type: ignore[misc]
        else:
            yield penalty, decide[0]


class _Classes:
    """Logistic regression that goes on from the solution of the penalty before; of one class alone, that class."""

    def __init__(self, x: np.ndarray, y: np.ndarray) -> None:
        from sklearn.linear_model import LogisticRegression

        self.x, self.y = x, y
        self.model = LogisticRegression(max_iter=_STEPS, warm_start=True) if len(np.unique(y)) > 1 else None

    def fit(self, penalty: float) -> Callable[[np.ndarray], np.ndarray]:
        """Fit with a penalty, and take the decisions of now along."""
        from sklearn.exceptions import ConvergenceWarning

        if self.model is None:
            only = self.y[0]
            return lambda values: np.full(len(values), only)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a probe that stopped early is still a probe
            self.model.set_params(C=1 / penalty).fit(self.x, self.y)
        coefficients, intercept, classes = self.model.coef_.copy(), self.model.intercept_.copy(), self.model.classes_

        def decide(values: np.ndarray) -> np.ndarray:
            logits = values @ coefficients.T + intercept
            return classes[logits.argmax(1) if logits.shape[1] > 1 else (logits[:, 0] > 0).astype(int)]

        return decide
