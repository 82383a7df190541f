"""Local metric modules for `evaluate`: the same classes as on the hub, with no code fetched at run time.

`evaluate.load("accuracy")` downloads a module from the hub; these are subclasses of `evaluate.Metric` in this
package, computed by scikit-learn, scipy, seqeval, sacrebleu and rouge-score. `metric` gives a module; `score`, which
training calls, computes the same without its table of Arrow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Literal

from adapt.metrics import numbers, spans, texts
from adapt.spec import OptionError, Problem
from adapt.stats import RIGHT_OR_WRONG, RIGHT_OR_WRONG_PAIRED

METRICS: dict[Problem, tuple[str, ...]] = {
    "single_label": ("accuracy", "macro_f1", "mcc"),
    "multi_label": ("macro_f1", "micro_f1", "exact_match"),
    "regression": ("spearman", "pearson", "mse"),
    "spans": ("span_f1", "span_precision", "span_recall", "token_accuracy"),
    "tags": ("token_accuracy", "macro_f1"),
    "answers": ("answer_f1", "answer_exact_match"),
    "text": ("chrf", "bleu", "rouge_l", "text_exact_match", "loss", "perplexity"),
    "completion": ("perplexity", "loss", "text_exact_match", "chrf", "rouge_l"),
    "masked": ("perplexity", "loss", "masked_accuracy"),
}
"""Metrics of each problem; the first chooses the epoch unless another is asked for."""

_RIGHT_OR_WRONG = frozenset({"accuracy", "exact_match", "answer_exact_match", "answer_f1", "text_exact_match"})
"""Means over rows most of which count 0 or 1."""
LOWER_IS_BETTER = frozenset({"mse", "loss", "perplexity"})
LOSSES = ("loss", "perplexity")
"""Metrics of what a model says of the true text; the others of `text` and `completion` judge a generated one."""


@dataclass(frozen=True)
class _Measure:
    """How a metric is computed, and of what: classes or numbers; tags, a list a row; texts, each beside references."""

    compute: Callable[[Any, Any], float]
    of: Literal["classes", "numbers", "tags", "texts"]
    description: str


_span_f1, _span_precision, _span_recall = (
    partial(spans.score, f"span_{name}") for name in ("f1", "precision", "recall")
)
_pearson, _spearman = (partial(numbers.correlation, name) for name in ("pearson", "spearman"))
_MEASURES: dict[str, _Measure] = {
    "accuracy": _Measure(numbers.accuracy, "classes", "Share of rows whose class is right."),
    "macro_f1": _Measure(
        partial(numbers.f1, "macro"), "classes", "F1 of each class that is there, averaged without weights."
    ),
    "micro_f1": _Measure(partial(numbers.f1, "micro"), "classes", "F1 over all decisions together."),
    "exact_match": _Measure(numbers.accuracy, "classes", "Share of rows whose labels are all right."),
    "mcc": _Measure(numbers.mcc, "classes", "Matthews correlation coefficient (Matthews 1975)."),
    "pearson": _Measure(_pearson, "numbers", "Pearson's correlation; 0 where one side is constant."),
    "spearman": _Measure(_spearman, "numbers", "Spearman's rank correlation; 0 where one side is constant."),
    "mse": _Measure(numbers.mse, "numbers", "Mean squared error."),
    "token_accuracy": _Measure(numbers.accuracy, "classes", "Share of words whose tag is right."),
    "span_f1": _Measure(_span_f1, "tags", "F1 of whole spans in BIO tags over all rows together."),
    "span_precision": _Measure(_span_precision, "tags", "Share of the predicted spans that are right."),
    "span_recall": _Measure(_span_recall, "tags", "Share of the true spans that are found."),
    "answer_f1": _Measure(
        texts.answer_f1, "texts", "F1 of the answer's words (Rajpurkar et al. 2016), the best reference's."
    ),
    "answer_exact_match": _Measure(
        texts.answer_exact_match, "texts", "Share of answers equal to a reference after normalisation."
    ),
    "chrf": _Measure(texts.chrf, "texts", "chrF2 of the corpus (Popović 2015), from 0 to 1."),
    "bleu": _Measure(texts.bleu, "texts", "BLEU of the corpus (Papineni et al. 2002), from 0 to 1."),
    "rouge_l": _Measure(texts.rouge_l, "texts", "ROUGE-L F of each text (Lin 2004), averaged."),
    "text_exact_match": _Measure(
        texts.text_exact_match, "texts", "Share of texts equal to a reference, white space around aside."
    ),
    "loss": _Measure(numbers.ratio, "numbers", "Negative log-likelihood of a token, in nats."),
    "perplexity": _Measure(numbers.perplexity, "numbers", "Exponential of the loss."),
    "masked_accuracy": _Measure(numbers.ratio, "numbers", "Share of the masked tokens that are found."),
}


def check_metric(name: str, problem: Problem) -> None:
    """
    Raises:
        OptionError: The metric does not go with the problem.
    """
    if name not in METRICS[problem]:
        raise OptionError(f"Metric '{name}' does not go with {problem}; choose one of {', '.join(METRICS[problem])}.")


def added_rows(metric: str, of_difference: bool = False) -> Mapping[float, float]:
    """The rows that make an interval of the metric, or of a difference of two of its values, wide enough where nearly
    all rows are right (`added` of `adapt.stats.crossed_interval`); none of a metric that is no mean over rows, which
    may hang on a few of them."""
    if metric not in _RIGHT_OR_WRONG:
        return {}
    return RIGHT_OR_WRONG_PAIRED if of_difference else RIGHT_OR_WRONG


@cache
def metric(name: str, multi_label: bool = False) -> Any:
    """The `evaluate.Metric` of that name.

    Args:
        name: A name in `METRICS`.
        multi_label: Whether predictions and references are rows of 0 and 1 instead of numbers.

    Raises:
        OptionError: There is no such metric.
    """
    if name not in _MEASURES:
        raise OptionError(f"There is no metric '{name}'; choose one of {', '.join(_MEASURES)}.")
    import datasets
    import evaluate

    measure = _MEASURES[name]
    string, number = datasets.Value("string"), datasets.Value("int32" if measure.of == "classes" else "float64")
    if measure.of in ("tags", "texts"):
        prediction, reference = string if measure.of == "texts" else datasets.List(string), datasets.List(string)
    else:
        prediction = reference = datasets.List(number) if multi_label else number
    features = datasets.Features({"predictions": prediction, "references": reference})

    class LocalMetric(evaluate.Metric):
        def _info(self) -> Any:
            return evaluate.MetricInfo(description=measure.description, citation="", features=features)

        def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
            return {name: float(measure.compute(predictions, references))}

    return LocalMetric(config_name=name, keep_in_memory=True)


def score(
    problem: Problem, predictions: Sequence[Any], references: Sequence[Any], names: Sequence[str] | None = None
) -> dict[str, float]:
    """Metrics of a problem.

    Args:
        problem: Which metrics.
        predictions: One a row: class index, 0/1 for each label or number (sequence classification); tag names (`spans`
            and `tags`); text (`answers`, `text`, `completion`), or for `LOSSES` the summed negative log-likelihood, and
            for `masked_accuracy` how many tokens are found.
        references: The same for the true labels; lists of texts for a text, of which the best counts (none: the
            question has no answer), or for `LOSSES` and `masked_accuracy` the number of tokens.
        names: Metrics wanted; None: all of the problem.

    Returns:
        Metric name to value; shares and F1 from 0 to 1.
    """
    import numpy as np

    flat: Any = _flat(predictions, references) if problem in ("spans", "tags") else (predictions, references)
    found: dict[str, float] = {}
    of_spans: dict[str, float] = {}  # which are found together
    for name in METRICS[problem] if names is None else names:
        if _MEASURES[name].of == "tags":
            of_spans = of_spans or spans.summed(predictions, references)
            found[name] = of_spans[name]
            continue
        if _MEASURES[name].of == "classes":
            flat = tuple(map(np.asarray, flat))  # once for all, and checked sooner than lists are
        # what the module of `evaluate` computes, without its detour by way of a table of Arrow: 5 ms a metric
        found[name] = float(_MEASURES[name].compute(*flat))
    return found


def _flat(predictions: Sequence[Any], references: Sequence[Any]) -> tuple[list[int], list[int]]:
    """The tags of all rows in one list each, as indices."""
    every = [[tag for row in rows for tag in row] for rows in (predictions, references)]
    index = {tag: i for i, tag in enumerate(sorted({*every[0], *every[1]}))}
    return [index[tag] for tag in every[0]], [index[tag] for tag in every[1]]
