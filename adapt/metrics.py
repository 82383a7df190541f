"""Local metric modules for `evaluate`: the same classes as on the hub, with no code fetched at run time.

`evaluate.load("accuracy")` downloads a module from the hub; these are subclasses of `evaluate.Metric` in this
package, computed by scikit-learn and scipy.
"""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

from adapt.spec import OptionError, Problem

METRICS: dict[Problem, tuple[str, ...]] = {
    "single_label": ("accuracy", "macro_f1", "mcc"),
    "multi_label": ("macro_f1", "micro_f1", "exact_match"),
    "regression": ("spearman", "pearson", "mse"),
    "spans": ("span_f1", "span_precision", "span_recall", "token_accuracy"),
    "tags": ("token_accuracy", "macro_f1"),
    "answers": ("answer_f1", "answer_exact_match"),
    "text": ("chrf", "bleu", "rouge_l", "text_exact_match", "loss", "perplexity"),
    "completion": ("perplexity", "loss", "text_exact_match", "chrf", "rouge_l"),
}
"""Metrics of each problem; the first chooses the epoch unless another is asked for."""

LOWER_IS_BETTER = frozenset({"mse", "loss", "perplexity"})


def _accuracy(predictions: Any, references: Any) -> float:
    from sklearn.metrics import accuracy_score

    return accuracy_score(references, predictions)


def _f1(average: str) -> Any:
    def compute(predictions: Any, references: Any) -> float:
        from sklearn.metrics import f1_score

        return f1_score(references, predictions, average=average, zero_division=0.0)

    return compute


def _mcc(predictions: Any, references: Any) -> float:
    from sklearn.metrics import matthews_corrcoef

    return matthews_corrcoef(references, predictions)


def _correlation(kind: str) -> Any:
    def compute(predictions: Any, references: Any) -> float:
        import math

        import scipy.stats

        function = scipy.stats.pearsonr if kind == "pearson" else scipy.stats.spearmanr
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a constant prediction has no correlation: 0, not a warning and NaN
            value = float(function(predictions, references)[0])
        return 0.0 if math.isnan(value) else value

    return compute


def _mse(predictions: Any, references: Any) -> float:
    from sklearn.metrics import mean_squared_error

    return mean_squared_error(references, predictions)


_COMPUTE: dict[str, tuple[Any, str, str]] = {
    "accuracy": (_accuracy, "int32", "Share of rows whose class is right."),
    "macro_f1": (_f1("macro"), "int32", "F1 of each class, averaged without weights."),
    "micro_f1": (_f1("micro"), "int32", "F1 over all decisions together."),
    "exact_match": (_accuracy, "int32", "Share of rows whose labels are all right."),
    "mcc": (_mcc, "int32", "Matthews correlation coefficient (Matthews 1975)."),
    "pearson": (_correlation("pearson"), "float64", "Pearson's correlation; 0 where one side is constant."),
    "spearman": (
        _correlation("spearman"),
        "float64",
        "Spearman's rank correlation; 0 where one side is constant.",
    ),
    "mse": (_mse, "float64", "Mean squared error."),
}


@cache
def metric(name: str, multi_label: bool = False) -> Any:
    """The `evaluate.Metric` of that name.

    Args:
        name: A name in `METRICS`.
        multi_label: Whether predictions and references are rows of 0 and 1 instead of numbers.

    Raises:
        OptionError: There is no such metric.
    """
    if name not in _COMPUTE:
        raise OptionError(f"There is no metric '{name}'; choose one of {', '.join(_COMPUTE)}.")
    import datasets
    import evaluate

    function, dtype, description = _COMPUTE[name]
    value = datasets.Value(dtype)
    feature = datasets.List(value) if multi_label else value

    class LocalMetric(evaluate.Metric):
        def _info(self) -> Any:
            return evaluate.MetricInfo(
                description=description,
                citation="",
                features=datasets.Features({"predictions": feature, "references": feature}),
            )

        def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
            return {name: float(function(predictions, references))}

    return LocalMetric(config_name=name, keep_in_memory=True)


def score(problem: Problem, predictions: Any, references: Any) -> dict[str, float]:
    """All metrics of a problem.

    Args:
        problem: Which metrics.
        predictions: Class indices (n,), 0/1 rows (n, labels) or numbers (n,).
        references: The same for the true labels.

    Returns:
        Metric name to value.
    """
    multi = problem == "multi_label"
    return {
        name: metric(name, multi).compute(predictions=predictions, references=references)[name]
        for name in METRICS[problem]
    }
