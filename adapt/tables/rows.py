"""Results of one task, backbone and budget as the rows of a section."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import harmonic_mean
from typing import Any

from adapt.backbones.classes import LANGUAGE_MODELS
from adapt.metrics import added_rows
from adapt.result import Content
from adapt.stats import Interval, mean_interval, one_prevails
from adapt.strategies import FLOORS, STRATEGIES
from adapt.tables.best import best_rate, rate_of
from adapt.tables.folds import environments_of, found_features, largest, mean, parts_of
from adapt.tables.groups import groups
from adapt.tables.section import Row, Section, difference, interval_of

_BASELINE = "full"
"""Name of the strategy that the others are compared with."""


def section_of(results: Sequence[Content], tuned: bool | None) -> Section:
    """The section of results that are alike but for strategy, teacher, start and seed; see `table_of` for `tuned`."""
    if tuned is None:
        tuned = any(environment.get("trials") for environment in environments_of(results))
    shown: Mapping[str, Sequence[Content]] = groups(results)
    others: Mapping[str, Sequence[Content]] = {}
    tried: Mapping[str, Sequence[float]] = {}
    if tuned:
        others = groups(results, by_rate=False)
        shown, tried = _chosen(others, shown)
    together: Mapping[str, Any] = next((found for result in results if (found := result.get("test_groups"))), {})
    numbers = together.get("numbers", ())
    made = [(group[0]["spec"], _row(group, label, others.get(label, ()), numbers)) for label, group in shown.items()]
    full = [(spec, row) for spec, row in made if spec["strategy"]["name"] == _BASELINE]
    alone = [row for spec, row in full if not spec.keys() & {"teacher", "start"}]
    base = _baseline(alone or [row for _, row in full], shown)
    named = {} if base is None else {"base": base.strategy}
    made.sort(key=lambda pair: (_place(pair[0]["strategy"]["name"]), pair[1].strategy))
    rows = [row if base is None or row is base else replace(row, difference=difference(row, base)) for _, row in made]
    every = [result for group in shown.values() for result in group]
    return Section(results[0]["task"], rows + _without_model(every), shown, tried, test_groups=together, **named)


def _chosen(
    of_all_rates: Mapping[str, Sequence[Content]], by_rate: Mapping[str, Sequence[Content]]
) -> tuple[dict[str, Sequence[Content]], dict[str, list[float]]]:
    """The results at each strategy's best learning rate, and the rates tried, where it was run at several; those at
    each rate where none is best."""
    kept: dict[str, Sequence[Content]] = {}
    tried: dict[str, list[float]] = {}
    for label, group in of_all_rates.items():
        rates = {rate_of(result) for result in group if result["spec"]["strategy"].get("learning_rate") is not None}
        if len(rates) < 2:
            kept[label] = group
        elif (best := best_rate(group)) is None:
            its = set(map(id, group))
            for own, part in by_rate.items():
                if mine := [result for result in part if id(result) in its]:
                    kept[own] = [*kept.get(own, ()), *mine]
        else:
            kept[label] = [result for result in group if rate_of(result) == best]
            tried[label] = sorted(rates)
    return kept, tried


def _without_model(results: Sequence[Content]) -> list[Row]:
    """A row for what is reached without a model (majority, copy), which each run computed on its own rows; without an
    interval, for what each row adds to such a score is not recorded."""
    metric = results[0]["spec"]["task"]["metric"]
    found: dict[str, dict[int, float]] = {}
    for result in results:
        simple = result.get("baseline") or {}
        if metric in simple.get("scores", {}):
            found.setdefault(simple["name"], {})[result["seed"]] = float(simple["scores"][metric])
    return [
        Row(
            task=results[0]["task"], strategy=name, metric=metric, runs=len(scores), statuses={}, scores=scores,
            parts={}, score=Interval(mean_interval(list(scores.values())).mean, None, None),
        )
        for name, scores in found.items()
    ]  # fmt: skip


def _baseline(rows: Sequence[Row], shown: Mapping[str, Sequence[Content]]) -> Row | None:
    """Of rows of full fine-tuning that with the default settings, else the only one, else that of the best learning
    rate where nothing else sets them apart."""
    default = [row for row in rows if row.strategy == _BASELINE]
    if default or len(rows) < 2:
        return next(iter(default or rows), None)
    if len(alike := groups([result for row in rows for result in shown[row.strategy]], by_rate=False)) > 1:
        return None
    best = best_rate(*alike.values())
    return next((row for row in rows if best is not None and rate_of(shown[row.strategy][0]) == best), None)


def _row(group: Sequence[Content], label: str, others: Sequence[Content], numbers: Sequence[int]) -> Row:
    """The row of a group.

    Args:
        group: Contents of result files, alike but for the seed.
        label: The row's name.
        others: The same at all learning rates; their times stand in where all runs of the group found features.
        numbers: The group of each test row.
    """
    good = sorted((r for r in group if r["status"] == "ok"), key=lambda r: r["seed"])
    timed = [r for r in good if not found_features(r)]
    timed = timed or [r for r in others if r["status"] == "ok" and not found_features(r)]
    first = group[0]
    metric = first["spec"]["task"]["metric"]
    scores = {r["seed"]: float(_final(r)[metric]) for r in good if metric in _final(r)}
    parts = _parts([r for r in good if r["seed"] in scores], metric, numbers)
    added = added_rows(metric)
    score = interval_of(list(scores.values()), list(parts.values()), numbers, added=added) if scores else None
    counts = [r["params"] for r in good]
    trainable, total = largest(each["trainable"] for each in counts), largest(each["total"] for each in counts)
    lost = [found["after"] - found["before"] for r in good if (found := r.get("forgetting"))]
    return Row(
        task=first["task"],
        strategy=label,
        metric=metric,
        runs=len(group),
        statuses={r["status"]: r["reason"] for r in group if r["status"] != "ok"},
        scores=scores,
        parts=parts,
        score=score,
        trainable=trainable,
        trainable_share=trainable / total if trainable is not None and total else None,
        saved_bytes=largest(each["saved_bytes"] for each in counts),
        peak_bytes=largest(r["memory"]["peak_bytes"] for r in good if r["memory"].get("breakdown")),
        train_seconds=mean([r["time"]["train_seconds"] for r in timed]),
        examples_per_second=_rate(timed),
        predicted_per_second=_predicted(timed),
        forgetting=mean_interval(lost) if lost else None,
        groups=numbers,
        any_seed=_any_seed(group),
    )


def _any_seed(group: Sequence[Content]) -> bool:
    """Whether the results are of a language model as it is, no part of which a seed has drawn."""
    kind, heads = group[0]["spec"]["task"]["kind"], [result["params"].get("head") for result in group]
    return group[0]["strategy"] in FLOORS and kind in LANGUAGE_MODELS and not any(heads)


def _parts(results: Sequence[Content], metric: str, groups: Sequence[int]) -> dict[int, list[float]]:
    """What each test row adds to the score, by seed; nothing where one of the results does not tell, or where most rows
    are of one group, which tells nothing of others."""
    if one_prevails(groups):
        return {}
    found: dict[int, list[float]] = {}
    for result in results:
        values = parts_of(result, metric)
        if values is None:
            return {}
        found[result["seed"]] = values
    sizes = {*map(len, found.values()), *([len(groups)] if groups else [])}
    return found if len(sizes) == 1 else {}


def _final(result: Content) -> Mapping[str, float]:
    return result["scores"].get("test") or result["scores"].get("validation") or {}


def _rate(results: Sequence[Content]) -> float | None:
    """Rows of all runs over the seconds of all of them."""
    timed = [
        (r["throughput"]["examples_per_second"] * seconds, seconds)
        for r in results
        if (seconds := r["time"]["train_seconds"]) and r["throughput"]["examples_per_second"] is not None
    ]
    return sum(rows for rows, _ in timed) / sum(seconds for _, seconds in timed) if timed else None


def _predicted(results: Sequence[Content]) -> float | None:
    """Rows predicted by all runs, each of which predicts the same, over the seconds of all of them."""
    rates = [rate for r in results if (rate := r["throughput"].get("predicted_per_second")) is not None]
    return harmonic_mean(rates) if rates else None


def _place(strategy: str) -> int:
    """Where the rows of a strategy stand; others come last."""
    order = list(STRATEGIES)
    return order.index(strategy) if strategy in order else len(order)
