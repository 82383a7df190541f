"""The results of the folds of a cross-validation as one, whose test rows are those of all folds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import fsum
from typing import Any

from adapt.metrics.jackknife import pseudo_values, score_of
from adapt.result import FOUND_FEATURES, Content
from adapt.spec import canonical

_OF_EACH = frozenset({"pearson", "spearman"})
"""Metrics that are means over folds."""

_OF_ROWS = frozenset({"accuracy", "exact_match", "mse", "answer_f1", "answer_exact_match", "text_exact_match"})
"""Metrics that are means over rows, so that those of folds, weighted by rows, give that of all folds together."""


def merged(results: Iterable[Content]) -> list[Content]:
    """The results, with those that differ in nothing but the fold as one.

    Its score is that of the rows of all folds together where outcomes tell, else the mean over folds weighted by rows.
    The mean it is, too, of correlations, which the different levels of the folds' models would lower (Forman & Scholz
    2010). What is reached without a model is scored in the same way, or left out where a fold's result does not tell.
    Times are means over folds; sizes, also of splits, the largest. Where a fold ended badly or has no result, the
    status says so.
    """
    found: dict[str, list[Content]] = {}
    for result in results:
        found.setdefault(canonical(without_fold(result["spec"])), []).append(result)
    return [
        _one(sorted(group, key=lambda r: r["spec"]["task"]["fold"]))
        if group[0]["spec"]["task"].get("fold")
        else group[0]
        for group in found.values()
    ]


def without_fold(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The spec with nothing that differs from fold to fold."""
    task = spec["task"]
    if not task.get("fold"):
        return dict(spec)
    return {**spec, "task": {**task, "fold": task["fold"][1], "rows": {}}}


def by_section(results: Iterable[Content]) -> list[list[Content]]:
    """The results of each section of a table: of one task, backbone and budget, and the same general texts."""
    sections: dict[str, list[Content]] = {}
    for result in results:
        spec = without_fold(result["spec"])
        key = canonical({name: spec.get(name) for name in ("backbone", "task", "budget", "general")})
        sections.setdefault(key, []).append(result)
    return list(sections.values())


def _one(group: Sequence[Content]) -> Content:
    sizes = [result["spec"]["task"]["rows"] for result in group]
    most = {split: max(size.get(split, 0) for size in sizes) for split in sizes[0]}
    group = [{**r, "spec": {**r["spec"], "task": {**r["spec"]["task"], "rows": most}}} for r in group]
    first = group[0]
    task = first["spec"]["task"]
    count = task["fold"][1]
    none: dict[str, Any] = {"baseline": {}, "test_groups": {}}  # of the test rows of a part of the folds
    bad = [result for result in group if result["status"] != "ok"]
    if bad:
        return {**bad[0], **none}
    if len(group) < count:
        return {**first, **none, "status": "unfinished", "reason": f"{len(group)} of {count} folds are done"}
    rows = [size.get("test", 0) for size in sizes]
    timed = [result for result in group if not found_features(result)]
    notes = [note for result in group for note in result.get("notes", ()) if not (timed and _found(note))]
    timed = timed or list(group)
    outcomes = [outcome for result in group for outcome in result.get("test_outcomes") or ()]
    scores = {
        split: _weighted([result["scores"].get(split, {}) for result in group], rows)
        for split in ("validation", "test")
    }
    pooled = None if task["metric"] in _OF_EACH else score_of(task["problem"], task["metric"], outcomes)
    if pooled is not None:
        scores["test"] = {**scores["test"], task["metric"]: pooled}
    return {
        **first,
        "scores": scores,
        "params": {
            name: largest(result["params"].get(name) for result in group)
            for name in dict.fromkeys(name for result in group for name in result["params"])
        },
        "memory": max((result["memory"] for result in group), key=lambda memory: memory["peak_bytes"] or 0),
        "time": {name: mean([result["time"].get(name) for result in timed]) for name in first["time"]},
        "throughput": {name: mean([r["throughput"].get(name) for r in timed]) for name in first["throughput"]},
        "test_outcomes": outcomes,
        "test_groups": _test_groups(group),
        "folds": {
            "rows": [len(result.get("test_outcomes") or ()) for result in group],
            "pooled": pooled is not None,
            "alike": all(size == most for size in sizes),
            "environments": [result["environment"] for result in group],
            "best_epochs": [result["best_epoch"] for result in group],
        },
        "baseline": _baseline(group, rows, pooled is not None),
        "forgetting": _forgetting(group),
        "notes": _together(notes),
    }


def _together(notes: Sequence[str]) -> list[str]:
    """Notes that differ in the number that they begin with as one: with its sum where they are of test, whose rows are
    those of all folds, else with the largest."""
    numbers: dict[str, list[int]] = {}
    for note in notes:
        number, _, rest = note.partition(" ")
        numbers.setdefault(rest if number.isdecimal() else note, []).append(int(number) if number.isdecimal() else -1)
    made = []
    for rest, found in numbers.items():
        if found[0] < 0:
            made.append(rest)
        elif " of the test split " in f"{rest} ":
            made.append(f"{sum(found)} {rest}")
        else:
            made.append(f"{'up to ' if len(set(found)) > 1 else ''}{max(found)} {rest}")
    return made


def _baseline(group: Sequence[Content], rows: Sequence[int], pooled: bool) -> dict[str, Any]:
    """What is reached without a model over all folds; `pooled`: scored as the rows of all together."""
    task, folds = group[0]["spec"]["task"], [result.get("baseline") or {} for result in group]
    metric, scores = task["metric"], _weighted([fold.get("scores", {}) for fold in folds], rows)
    if pooled and metric in scores and metric not in _OF_ROWS:
        scored = [len(result.get("test_outcomes") or ()) for result in group]
        told = [len(fold.get("outcomes", ())) for fold in folds] == scored
        outcomes = [outcome for fold in folds for outcome in fold.get("outcomes", ())]
        found = score_of(task["problem"], metric, outcomes) if told else None
        scores = {} if found is None else {**scores, metric: found}
    names = [str(fold["name"]) for fold in folds if fold.get("name")]
    return {"name": " or ".join(dict.fromkeys(names)) or None, "scores": scores}


def parts_of(result: Content, metric: str) -> list[float] | None:
    """What each test row adds to the score (`adapt.metrics.jackknife`); None where outcomes do not tell."""
    outcomes, problem = list(result.get("test_outcomes") or ()), result["spec"]["task"]["problem"]
    rows = result["folds"]["rows"] if metric in _OF_EACH and "folds" in result else ()
    if not rows:
        return pseudo_values(problem, metric, outcomes)
    found: list[float] = []
    for n in rows:
        values, outcomes = pseudo_values(problem, metric, outcomes[:n]), outcomes[n:]
        if values is None:
            return None
        found += values
    return found


def environments_of(results: Iterable[Content]) -> list[Mapping[str, Any]]:
    """What the runs of results were made in, those of each fold too."""
    return [each for r in results for each in r.get("folds", {"environments": [r["environment"]]})["environments"]]


def _test_groups(group: Sequence[Content]) -> dict[str, Any]:
    """The groups of the rows of all folds; rows of two folds are of two groups."""
    there = [found for result in group if (found := result.get("test_groups"))]
    numbers: list[int] = []
    for result in group if there else ():
        first, rows = len(numbers), len(result.get("test_outcomes") or ())
        numbers += [first + number for number in (result.get("test_groups") or {}).get("numbers", range(rows))]
    return {**there[0], "numbers": numbers} if there else {}


def _forgetting(group: Sequence[Content]) -> dict[str, Any]:
    """The mean over folds of the loss after adaptation, where all have one."""
    found = [result.get("forgetting") or {} for result in group]
    return {**found[0], "after": mean([each["after"] for each in found])} if all(found) else {}


def found_features(result: Content) -> bool:
    """Whether the run took over features that another had computed, so that its time is not what the strategy costs."""
    return any(map(_found, result.get("notes", ())))


def _found(note: str) -> bool:
    return note.endswith(FOUND_FEATURES)


def _weighted(scores: Sequence[Mapping[str, float]], rows: Sequence[int]) -> dict[str, float]:
    """The mean of each metric that all have, weighted by rows."""
    names = [name for name in scores[0] if all(name in each for each in scores)]
    return {
        name: fsum(each[name] * n for each, n in zip(scores, rows, strict=True)) / max(sum(rows), 1) for name in names
    }


def mean(values: Sequence[float | None]) -> float | None:
    """Of those that are known; None where none is."""
    there = [value for value in values if value is not None]
    return sum(there) / len(there) if there else None


def largest(values: Iterable[int | None]) -> int | None:
    """Of those that are known; None where none is."""
    return max((value for value in values if value is not None), default=None)
