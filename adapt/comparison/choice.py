"""From results to the model: the settings with the best validation score, as `adapt.fit` takes them."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from adapt.comparison.store import Store, given_result, holds_runs
from adapt.files import path_of
from adapt.options import BUDGET_FIELDS, TASK_OPTIONS
from adapt.result import Content
from adapt.spec import OptionError, canonical
from adapt.strategies import FLOORS, make, remade
from adapt.tables.best import best_of
from adapt.tables.curve import training_rows
from adapt.tables.folds import by_section, merged, without_fold
from adapt.tables.groups import groups
from adapt.tasks import KINDS


def choose(
    results: Iterable[Content],
    strategy: str | None = None,
    start: str | None = None,
    backbone: Callable[[], str] | None = None,
    data: str | None = None,
    kind: str | None = None,
    otherwise: Collection[str] = (),
) -> Content:
    """The result of the lowest seed that ended well under the settings with the best mean validation score.

    Settings are everything but seed and fold: strategy, its fields, budget, options of the task. Of a learning curve
    the runs on most training rows count alone. The mean is over seeds that settings have in common (`best_of`); of
    equals it is the one that trains fewest parameters, then that with the lowest rate.

    Args:
        results: Contents of result files.
        strategy: Its name, where the choice is among its settings alone (without those that had a teacher or went on
            from a model, if there are others), or that of a row of the table (`lora(rank=4)`), where it is among that
            row's runs.
        start: Hash of a model: the choice is among runs that went on from it, if there are any.
        backbone: Gives the hash of one, where there are several: the choice is among its runs, if there are any.
        data: Hash of data: the choice is among runs on these, if there are any.
        kind: Kind of task: the choice is among runs of it, if there are any.
        otherwise: Options of the task that are given in place of those of the result.

    Raises:
        OptionError: None of them ended well; those that are left are of several backbones or tasks; several settings
            are there, and no seed has a validation score under all of them; the best ones differ in nothing that a
            validation score tells; or the name is not known.
    """
    trained = [result for result in merged(results) if result["strategy"] not in FLOORS]
    of_it = trained if strategy is None else _named(trained, strategy)
    if start is not None:
        of_it = [r for r in of_it if "start" in r["spec"] and r["spec"]["start"]["sha256"] == start] or of_it
    if data is not None:
        of_it = [r for r in of_it if r["spec"]["task"]["data"]["sha256"] == data] or of_it
    if kind is not None:
        of_it = [r for r in of_it if r["spec"]["task"]["kind"] == kind] or of_it
    if backbone is not None and len({r["spec"]["backbone"]["sha256"] for r in of_it}) > 1:
        own = backbone()
        of_it = [r for r in of_it if r["spec"]["backbone"]["sha256"] == own] or of_it
    if not any(result["status"] == "ok" for result in of_it):
        there = sorted({str(result["strategy"]) for result in trained if result["status"] == "ok"})
        raise OptionError(
            f"No run{f' of {strategy}' if strategy else ''} ended well there"
            f"{'; give one of ' + ', '.join(there) if there else ''}."
        )
    problems = {canonical(_problem(result["spec"])): result for result in of_it if result["status"] == "ok"}
    of_it = [result for result in of_it if canonical(_problem(result["spec"])) in problems]
    if len(problems) > 1:
        named = sorted({f"{result['task']} with {result['backbone']}" for result in problems.values()})
        kinds = sorted({result["spec"]["task"]["kind"] for result in problems.values()})
        or_kind = f", or say of which kind the data are ({', '.join(kinds)})" if len(kinds) > 1 else ""
        raise OptionError(
            f"The results are of {len(problems)} problems ({', '.join(named)}; data, backbone, metric or what the loss "
            f"is of differ); give the file of one result{or_kind}."
        )
    most = max(_rows_trained_on(result["spec"]["task"]) for result in of_it if result["status"] == "ok")
    of_it = [result for result in of_it if _rows_trained_on(result["spec"]["task"]) == most]
    settings = _settings(of_it)
    in_order = [group for _, group in sorted(settings.items(), key=_cheapest)]
    best = best_of(in_order) if len(settings) > 1 else in_order[0]
    if best is None:
        raise OptionError(
            f"There are {len(settings)} settings, and no seed has a validation score under all of them to choose by; "
            "give the file of one result."
        )
    alike = _alike_but_for_texts(best, in_order)
    if not alike <= set(otherwise):
        raise OptionError(
            f"The best settings differ from others in {', '.join(sorted(alike))} alone, by which texts are written and "
            "which no validation loss can tell apart; give the file of one result."
        )
    return min((result for result in best if result["status"] == "ok"), key=lambda result: result["seed"])


def _alike_but_for_texts(best: Sequence[Content], groups: Iterable[Sequence[Content]]) -> set[str]:
    """The options by which alone groups with scores differ from the best one, where its metric judges texts and it is
    chosen by something else."""

    def told(group: Sequence[Content]) -> dict[str, Any]:
        spec = _decides(group[0], hashes=False)
        return {**spec, **spec["task"], **spec["task"].get("options", {})}

    task, found = best[0]["spec"]["task"], set[str]()
    for group in groups if task.get("selection") else ():
        names = {name.rpartition(".")[2] for name in differences(told(best), told(group))} - {"options"}
        if names <= set(KINDS[task["kind"]].decides_texts) and any(result["status"] == "ok" for result in group):
            found |= names
    return found


def _rows_trained_on(task: Mapping[str, Any]) -> float:
    """How many rows at most, of all classes; of rows with several labels there may be fewer."""
    each, rows = training_rows(task)
    return min(each * max(len(task["labels"]), 1), rows)


def _cheapest(setting: tuple[str, list[Content]]) -> tuple[float, float, str]:
    """Parameters that are trained, and the learning rate; and the settings, so that no listing orders them."""
    name, group = setting
    trained = [n for result in group if (n := result["params"]["trainable"]) is not None]
    rate = group[0]["spec"]["strategy"].get("learning_rate")
    return max(trained, default=math.inf), math.inf if rate is None else rate, name


def _named(results: Sequence[Content], strategy: str) -> list[Content]:
    """Those of a strategy, or of a row of the table, by the name that it has in its section.

    Raises:
        OptionError: There is no such row, and the strategy is not known.
    """
    if not isinstance(strategy, str) or strategy == strategy_in(strategy):
        make(strategy)
        of_it = [result for result in results if result["strategy"] == strategy]
        return [result for result in of_it if not result["spec"].keys() & {"teacher", "start"}] or of_it
    rows: dict[str, list[Content]] = {}
    for section in by_section(results):
        for label, group in (groups(section) | groups(section, by_rate=False)).items():
            rows.setdefault(label, []).extend(group)
    if strategy not in rows:
        make(strategy_in(strategy))
        raise OptionError(f"No row is called '{strategy}'; give one of {', '.join(map(repr, sorted(rows)))}.")
    return rows[strategy]


def strategy_in(row: str) -> str:
    """The name of a strategy in that of a table's row."""
    return row.partition("(")[0].partition(",")[0]


def fit_arguments(spec: Mapping[str, Any]) -> dict[str, Any]:
    """What `adapt.fit` takes, beside backbone, data and start, to make the run of this spec.

    Raises:
        OptionError: It had a teacher; or its strategy is not one of the library's.
    """
    if "teacher" in spec:
        use = "adapt.compare with that start" if "start" in spec else "`adapt distill` with its settings"
        raise OptionError(
            f"The run was taught by {spec['teacher']['name']}, which adapt.fit knows nothing of; use {use}, or name a "
            "strategy that has runs without a teacher."
        )
    return arguments_of(spec)


def arguments_of(spec: Mapping[str, Any]) -> dict[str, Any]:
    """What makes the run of this spec again, with what is given beside it: backbone, data, start and teacher.

    Raises:
        OptionError: Its strategy is not one of the library's.
    """
    task, budget = spec["task"], spec["budget"]
    strategy = remade(spec["strategy"])
    if budget.get("learning_rate") is not None and strategy.learning_rate is not None:
        # that of the budget was used; the default, which is recorded beside it, may be another one today
        strategy = replace(strategy, learning_rate=make(strategy.name).learning_rate)  # type: ignore[type-var]
    return {
        "strategy": strategy,
        "seed": spec["seed"],
        **{name: budget[name] for name in BUDGET_FIELDS if name in budget},
        **{name: task[name] for name in TASK_OPTIONS if name in task},
        **task.get("options", {}),
    }


def place_of(path: str | Path) -> Path:
    """Where a result file or a comparison's folder is.

    Raises:
        OptionError: There is neither.
        AdaptError: The system does not let the folder be looked into.
    """
    place = path_of(path)
    if not place.is_file() and not holds_runs(place):
        raise OptionError(f"{path} is neither a result file nor the folder of a comparison; give one of these.")
    return place


def choose_from(path: str | Path, strategy: str | None = None, **among: Any) -> Content:
    """The result of a file, or the chosen one of a comparison's folder; see `choose`.

    Raises:
        OptionError: There is neither there; or what `choose` says.
    """
    place = place_of(path)
    if place.is_file():
        result = given_result(place)
        own = [result["strategy"], *groups([result]), *groups([result], by_rate=False)]
        if strategy is not None and strategy not in own:
            raise OptionError(f"{path} is a result of {own[1]}, not {strategy}; leave the strategy out.")
        return result
    try:
        return choose(Store(place, reading=True).all(), strategy, **among)
    except OptionError as error:
        raise OptionError(f"{path}: {error}") from error


def data_in(path: str | Path) -> dict[str, set[str]]:
    """Kind of task to the hashes of the data that the result in a file, or those in a comparison's folder, are of.

    Raises:
        OptionError: There is neither there.
    """
    place, found = place_of(path), dict[str, set[str]]()
    for result in [given_result(place)] if place.is_file() else Store(place, reading=True).all():
        task = result["spec"]["task"]
        found.setdefault(task["kind"], set()).add(task["data"]["sha256"])
    return found


def best_epochs(result: Content) -> list[int]:
    """The epochs that a run, or each fold of it, was scored after, where validation chose them."""
    every = result["folds"]["best_epochs"] if "folds" in result else [result["best_epoch"]]
    return [epoch for epoch in every if epoch is not None]


def differences(one: Mapping[str, Any], other: Mapping[str, Any], prefix: str = "") -> list[str]:
    """The names of what differs between two specs (`task.max_length`), in order; both sides may lack some."""
    found: list[str] = []
    for name in dict.fromkeys((*one, *other)):
        mine, theirs = one.get(name), other.get(name)
        if mine == theirs:
            continue
        if isinstance(mine, Mapping) and isinstance(theirs, Mapping):
            found += differences(mine, theirs, f"{prefix}{name}.")
        else:
            found.append(prefix + name)
    return found


def _problem(spec: Mapping[str, Any]) -> dict[str, Any]:
    task = spec["task"]
    named = {name: task[name] for name in ("kind", "problem", "metric")}
    options = {**task, **task.get("options", {})}
    named |= {name: options.get(name) for name in KINDS[task["kind"]].decides_loss}
    return {**named, "data": task["data"]["sha256"], "backbone": spec["backbone"]["sha256"]}


def _settings(results: Iterable[Content]) -> dict[str, list[Content]]:
    """Results by everything that decides them but seed and fold.

    Of teachers and starts that differ by seed, as in a row of the table, the hashes are none of it; where a seed has
    several of them they are.
    """
    found: dict[str, list[Content]] = {}
    for result in results:
        found.setdefault(canonical(_decides(result, hashes=False)), []).append(result)
    for name, group in list(found.items()):
        if len({result["seed"] for result in group}) < len(group):
            del found[name]
            for result in group:
                found.setdefault(canonical(_decides(result, hashes=True)), []).append(result)
    return found


def _decides(result: Content, *, hashes: bool) -> dict[str, Any]:
    spec = {name: value for name, value in without_fold(result["spec"]).items() if name not in ("seed", "general")}
    for name in () if hashes else spec.keys() & {"teacher", "start"}:
        spec[name] = {key: value for key, value in spec[name].items() if key not in ("sha256", "unlabelled_sha256")}
    return spec
