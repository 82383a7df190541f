"""What each row scored adds to a metric, from the outcomes that a result file holds.

Pseudo-values (Tukey 1958; Efron & Stein 1981): of n rows with score T, and T without row i, the value of row i is
n·T - (n - 1)·T without i. For a mean over rows they are the rows' own values; for any other smooth metric (F1 of a
corpus, chrF, a correlation) they are nearly so, and what is known of means holds for them too. Those of a group of rows
are taken together by what makes an interval of them (`adapt.stats.crossed_interval`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from adapt.metrics import texts
from adapt.spec import Problem

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]
    Value = Callable[[Array], Array]
    """From statistics summed over rows (sets of rows, statistics) to the metric of each set."""


_MOST = 2 * 10**7
"""Different pairs of classes times classes, of which each takes some 35 bytes."""


def pseudo_values(problem: Problem, metric: str, outcomes: Sequence[Any]) -> list[float] | None:
    """The pseudo-value of each row; their mean is the metric, less a bias that shrinks as rows grow.

    Args:
        problem: What the rows are of.
        metric: A name in `adapt.metrics.METRICS` of the problem.
        outcomes: One a row, as the kind of task makes them (`adapt.tasks.Kind.outcomes`).

    Returns:
        None where they do not tell: of older results, of macro F1 of tags, or of one row alone; or where classes are so
        many (thousands) that macro F1 or MCC without a row takes gigabytes.
    """
    import numpy as np

    table = _table(problem, outcomes)
    if table is None or len(table) < 2:
        return None
    if problem == "regression" and metric == "spearman":
        return _spearman(table).tolist() if table.shape[1] == 2 else None
    kinds, which, counts = np.unique(table, axis=0, return_inverse=True, return_counts=True)
    found = _statistics(problem, metric, kinds)
    if found is None:
        return None
    stats, value = found
    total, n = counts @ stats, len(table)
    values = n * value(total[None]) - (n - 1) * value(total[None] - stats)
    return values[which.ravel()].tolist() if np.isfinite(values).all() else None


def score_of(problem: Problem, metric: str, outcomes: Sequence[Any]) -> float | None:
    """The metric of rows by their outcomes; see `pseudo_values` for the arguments, and for where it is None."""
    import numpy as np

    table = _table(problem, outcomes)
    if table is None or not len(table):
        return None
    if problem == "regression" and metric == "spearman":
        return float(_spearman(table).mean()) if table.shape[1] == 2 and len(table) > 1 else None
    found = _statistics(problem, metric, table)
    if found is None:
        return None
    stats, value = found
    score = float(value(stats.sum(0)[None])[0])
    return score if np.isfinite(score) else None


def _table(problem: Problem, outcomes: Sequence[Any]) -> Array | None:
    """The numbers of all outcomes (rows, numbers); None where they are not as many in each row, or no numbers."""
    import numpy as np

    if problem == "multi_label" and not all(map(_two_lists, outcomes)):
        return None
    with suppress(TypeError, ValueError):  # where lists within a row are not alike, or are no numbers
        return np.array(outcomes, dtype=float).reshape(len(outcomes), -1)
    try:
        rows = [list(_numbers(outcome)) for outcome in outcomes]
    except (TypeError, ValueError):  # of a file that somebody has changed
        return None
    return np.array(rows, dtype=float) if len(set(map(len, rows))) == 1 else None


def _two_lists(outcome: Any) -> bool:
    """Predicted and true labels; older results have the predicted ones alone."""
    return isinstance(outcome, list) and len(outcome) == 2 and all(isinstance(side, list) for side in outcome)


def _numbers(outcome: Any) -> Iterator[float]:
    """The numbers of an outcome in a row; what is not there is not a number."""
    if isinstance(outcome, list | tuple):
        for part in outcome:
            yield from _numbers(part)
    else:
        yield float("nan") if outcome is None else float(outcome)


def _statistics(problem: Problem, metric: str, table: Array) -> tuple[Array, Value] | None:
    """Statistics of each row (rows, statistics), and what makes the metric of their sums."""
    width = table.shape[1]
    if problem == "single_label":
        return _of_classes(metric, table.astype(int)) if width == 2 else None
    if problem == "multi_label":
        return _of_labels(metric, table.reshape(len(table), 2, -1)) if width % 2 == 0 else None
    if problem == "regression":
        return _of_numbers(metric, table) if width == 2 else None
    if problem == "spans":
        ratio = _OF_SPANS[metric]
        return (table, ratio) if width == 5 or (width == 3 and metric != "token_accuracy") else None
    if problem == "tags":
        return (table, _ratio) if width == 2 and metric == "token_accuracy" else None
    if problem == "answers":
        return _mean(table[:, 0 if metric == "answer_exact_match" else 1]) if width == 2 else None
    if problem == "masked":
        return _of_masked(metric, table) if width == 3 else None
    return _of_texts(metric, table) if width in (2, 22, 32) else None


def _of_classes(metric: str, pairs: Array) -> tuple[Array, Value] | None:
    """Of predicted and true class; None where there are so many that their table takes gigabytes."""
    import numpy as np

    guess, truth = pairs.T
    if metric == "accuracy":
        return _mean(guess == truth)
    labels = np.unique(pairs)
    if pairs.size * labels.size > _MOST:
        return None
    sides = np.stack([guess[:, None] == labels, truth[:, None] == labels], 1).astype(float)
    compute = _matthews if metric == "mcc" else _macro_f1
    return _by_label(sides, compute)


def _of_labels(metric: str, sides: Array) -> tuple[Array, Value]:
    """Of 0 and 1 for each label: (rows, predicted and true, labels)."""
    if metric == "exact_match":
        return _mean((sides[:, 0] == sides[:, 1]).all(1))
    return _by_label(sides, _macro_f1 if metric == "macro_f1" else _micro_f1)


def _by_label(sides: Array, compute: Callable[[Array, Array, Array], Array]) -> tuple[Array, Value]:
    """Whether a row has a label on both sides, is given it, and truly has it, for each label; `compute` takes the three
    numbers of such rows, each (sets of rows, labels)."""
    import numpy as np

    rows, _, labels = sides.shape
    stats = np.concatenate([sides.prod(1), sides.reshape(rows, -1)], 1)
    return stats, lambda sums: compute(*sums.reshape(len(sums), 3, labels).transpose(1, 0, 2))


def _macro_f1(both: Array, guessed: Array, true: Array) -> Array:
    """Of the labels that a row has or is given."""
    return _share(_share(2 * both, guessed + true).sum(1), (guessed + true > 0).sum(1))


def _micro_f1(both: Array, guessed: Array, true: Array) -> Array:
    return _share(2 * both.sum(1), (guessed + true).sum(1))


def _matthews(both: Array, guessed: Array, true: Array) -> Array:
    """Of several classes (Gorodkin 2004, equation 8)."""
    import numpy as np

    n, right = true.sum(1), both.sum(1)
    spread = (n**2 - (guessed**2).sum(1)) * (n**2 - (true**2).sum(1))
    return _share(right * n - (guessed * true).sum(1), np.sqrt(np.maximum(spread, 0.0)))


def _of_numbers(metric: str, pairs: Array) -> tuple[Array, Value]:
    """Of predicted and true number."""
    import numpy as np

    if metric == "mse":
        return _mean((pairs[:, 0] - pairs[:, 1]) ** 2)
    a, b = (pairs - pairs.mean(0)).T  # so that squares cancel nothing
    return np.stack([np.ones_like(a), a, b, a * a, b * b, a * b], 1), _pearson


def _pearson(sums: Array) -> Array:
    import numpy as np

    n, a, b, aa, bb, ab = sums.T
    return _share(ab - a * b / n, np.sqrt(np.maximum((aa - a * a / n) * (bb - b * b / n), 0.0)))


_OF_SPANS: dict[str, Value] = {
    "span_f1": lambda sums: _share(2 * sums[:, 0], 2 * sums[:, 0] + sums[:, 1] + sums[:, 2]),
    "span_precision": lambda sums: _share(sums[:, 0], sums[:, 0] + sums[:, 1]),
    "span_recall": lambda sums: _share(sums[:, 0], sums[:, 0] + sums[:, 2]),
    "token_accuracy": lambda sums: _ratio(sums[:, 3:]),
}


def _of_texts(metric: str, table: Array) -> tuple[Array, Value] | None:
    """Of log-likelihood and tokens; then, of a text, ROUGE-L, exact match, 18 counts of chrF and 10 of BLEU."""
    import numpy as np

    if metric == "loss":
        return table[:, :2], _ratio
    if metric == "perplexity":
        return table[:, :2], lambda sums: np.exp(np.minimum(_ratio(sums), 700.0))
    if table.shape[1] == 2:
        return None
    if metric in ("rouge_l", "text_exact_match"):
        return _mean(table[:, 2 if metric == "rouge_l" else 3])
    counts, compute = (table[:, 4:22], texts.chrf_of) if metric == "chrf" else (table[:, 22:], texts.bleu_of)
    return counts.astype(int), lambda sums: np.array([compute(row) for row in sums.tolist()])


def _of_masked(metric: str, table: Array) -> tuple[Array, Value] | None:
    """Of log-likelihood, masked tokens, and those that are found."""
    return (table[:, [2, 1]], _ratio) if metric == "masked_accuracy" else _of_texts(metric, table[:, :2])


def _mean(values: Array) -> tuple[Array, Value]:
    import numpy as np

    return np.stack([values.astype(float), np.ones(len(values))], 1), _ratio


def _ratio(sums: Array) -> Array:
    import numpy as np

    return sums[:, 0] / np.maximum(sums[:, 1], 1.0)


def _share(part: Array, whole: Array) -> Array:
    """Quotients; 0 where the whole is 0."""
    import numpy as np

    return np.divide(part, whole, out=np.zeros(part.shape), where=whole > 0)


def _spearman(pairs: Array) -> Array:
    """By the derivative in a row's weight (the infinitesimal jackknife; Jaeckel 1972), in n·log n operations."""
    import numpy as np
    from scipy.stats import rankdata

    n = len(pairs)
    a, b = ((rankdata(side) - (n + 1) / 2) / n for side in pairs.T)  # shares of rows below, less their mean

    def above(side: Array, other: Array) -> Array:
        """Of each row the sum of `other` over the rows that are higher on `side`, by n; those as high count by half."""
        order = np.argsort(side, kind="stable")
        below = np.concatenate([[0.0], np.cumsum(other[order])])
        first, last = (np.searchsorted(side[order], side, where) for where in ("left", "right"))
        return (below[-1] - (below[first] + below[last]) / 2) / n

    def moved(one: Array, two: Array) -> tuple[float, Array]:
        """A covariance, and how fast the weight of each row moves it."""
        product = float((one * two).mean())
        return product, one * two + above(one, two) + above(two, one) - 3 * product

    (ab, d_ab), (aa, d_aa), (bb, d_bb) = moved(a, b), moved(a, a), moved(b, b)
    if aa <= 0 or bb <= 0:
        return np.zeros(n)
    score = ab / np.sqrt(aa * bb)
    return score + d_ab / np.sqrt(aa * bb) - score / 2 * (d_aa / aa + d_bb / bb)
