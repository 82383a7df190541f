"""Which of several settings has the best validation scores."""

from __future__ import annotations

from collections.abc import Sequence
from math import fsum

from adapt.metrics import LOWER_IS_BETTER
from adapt.result import Content


def best_rate(results: Sequence[Content]) -> float | None:
    """The rate with the best mean validation score over seeds that rates have in common (`best_of`); of equals the
    lowest.

    Args:
        results: Contents of result files, alike but for learning rate and seed.

    Returns:
        None where no seed was run at every rate, or none has a validation score.
    """
    by_rate: dict[float, list[Content]] = {}
    for result in sorted(results, key=rate_of):
        by_rate.setdefault(rate_of(result), []).append(result)
    best = best_of(list(by_rate.values()))
    return None if best is None else rate_of(best[0])


def best_of(groups: Sequence[Sequence[Content]]) -> Sequence[Content] | None:
    """The group with the best mean validation score; of equals the first.

    Groups with most seeds that ended well are compared over the seeds that all of these have, and the best of them with
    each of the others over those that both have. A group in which more of these seeds ended well goes before one with a
    better mean, which of equally many is over those that ended well in all, if there are such.

    Args:
        groups: Contents of result files, those of a group alike but for the seed, all with one metric.

    Returns:
        None where no seed was run in every group of most seeds, or none has a validation score.
    """
    task = groups[0][0]["spec"]["task"]
    metric = task.get("selection") or task["metric"]
    sign = -1 if metric in LOWER_IS_BETTER else 1
    by_seed = [
        {r["seed"]: r["scores"].get("validation", {}).get(metric) if r["status"] == "ok" else None for r in group}
        for group in groups
    ]

    def best(among: Sequence[int]) -> int | None:
        seeds = set.intersection(*(set(by_seed[i]) for i in among))
        found = {i: {s: score for s in seeds if (score := by_seed[i][s]) is not None} for i in among}
        most = max(map(len, found.values()))
        tied = [i for i in among if len(found[i]) == most > 0]
        both = set[int]().union(*(found[i] for i in tied)).intersection(*(found[i] for i in tied))

        def mean(i: int) -> float:
            scores = [found[i][seed] for seed in both or found[i]]
            return sign * round(fsum(scores) / len(scores), 12)  # equal ones also where the order of seeds would tell

        return max(tied, key=lambda i: (mean(i), -i)) if tied else None

    well = [sum(score is not None for score in scores.values()) for scores in by_seed]
    chosen = best([i for i, n in enumerate(well) if n == max(well)])
    if chosen is None:
        return None
    for i in sorted((i for i, n in enumerate(well) if n < max(well)), key=lambda i: -well[i]):
        other = best((chosen, i))
        chosen = chosen if other is None else other
    return groups[chosen]


def rate_of(result: Content) -> float:
    """The learning rate that a result's strategy was given."""
    return float(result["spec"]["strategy"]["learning_rate"])
