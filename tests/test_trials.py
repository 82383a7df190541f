"""Learning rates tried for each strategy: which, how one is chosen, and what the table says of it."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
from click.testing import CliRunner
from comparison_helpers import contents, in_this_process, result_of, run_of

import adapt
from adapt.cli import cli
from adapt.comparison import grid
from adapt.comparison.given import rates_around, tried
from adapt.comparison.progress import Progress
from adapt.comparison.runner import Event
from adapt.comparison.store import Store
from adapt.data import folds
from adapt.result import FOUND_FEATURES, Result
from adapt.spec import OptionError, Teacher
from adapt.strategies import FLOORS
from adapt.tables.best import best_rate
from adapt.tables.table import table_of

CHOICES: dict[str, Any] = {"epochs": 1, "device": "cpu", "precision": "fp32", "batch_size": 16}


def trial(name: str, rate: float, seed: int, validation: float, test: float, **changes: Any) -> Result:
    run = run_of(name, seed, settings={"learning_rate": rate}, **changes.pop("task", {}))
    scores = {"validation": {run.task.metric: validation}, "test": {run.task.metric: test}}
    return result_of(run, scores=scores, **changes)


def best(*results: Result) -> float | None:
    return best_rate(contents(results))


def test_rates_lie_around_their_own_half_a_power_of_ten_apart() -> None:
    assert rates_around(0.002, 1) == [0.002]
    assert rates_around(0.002, 3) == [0.002, 0.00063, 0.0063]
    assert rates_around(0.0001, 5) == [0.0001, 3.2e-05, 0.00032, 1e-05, 0.001]
    assert rates_around(0.00123, 2) == [0.00123, 0.00039]
    lora, floor = adapt.LoRA(rank=2), FLOORS["untrained"]()
    made = tried([lora, floor], 2)
    assert made == [lora, dataclasses.replace(lora, learning_rate=0.00063), floor]


def test_the_best_mean_validation_score_chooses_whatever_test_says() -> None:
    results = [
        trial("lora", 1e-3, 0, 0.80, 0.10), trial("lora", 1e-3, 1, 0.90, 0.10),
        trial("lora", 1e-2, 0, 0.95, 0.90), trial("lora", 1e-2, 1, 0.70, 0.90),
    ]  # fmt: skip
    assert best(*results) == 1e-3
    assert best(*results[:1], *results[2:3]) == 1e-2
    equal = [trial("lora", rate, 0, 0.8, 0.5) for rate in (1e-2, 1e-3, 1e-1)]
    assert best(*equal) == 1e-3
    apart = {1e-3: (0.3, 0.2, 0.1), 1e-2: (0.1, 0.2, 0.3)}  # of which naive sums differ
    equal = [trial("lora", rate, seed, score, 0.5) for rate, each in apart.items() for seed, score in enumerate(each)]
    assert best(*equal) == 1e-3


def test_where_lower_is_better_and_where_another_metric_chooses() -> None:
    mse = {"task": {"metric": "mse", "problem": "regression"}}
    assert best(trial("lora", 1e-3, 0, 0.8, 0.5, **mse), trial("lora", 1e-2, 0, 0.4, 0.5, **mse)) == 1e-2
    chosen = {"kind": "seq2seq", "problem": "text", "metric": "chrf", "selection": "loss"}
    results = [
        result_of(
            run_of("lora", settings={"learning_rate": rate}, **chosen),
            scores={"validation": {"chrf": chrf, "loss": loss}},
        )
        for rate, chrf, loss in ((1e-3, 0.9, 3.0), (1e-2, 0.1, 2.0))
    ]
    assert best(*results) == 1e-2


def test_a_rate_that_ended_badly_is_chosen_only_where_no_other_is_left() -> None:
    results = [trial("lora", 1e-3, seed, 0.5, 0.5) for seed in (0, 1)] + [trial("lora", 1e-2, 0, 0.9, 0.9)]
    bad = result_of(run_of("lora", 1, settings={"learning_rate": 1e-2}), status="diverged", scores={})
    assert best(*results, bad) == 1e-3
    assert best(results[2], bad, *(dataclasses.replace(r, status="diverged", scores={}) for r in results[:2])) == 1e-2
    assert best(dataclasses.replace(bad, run=results[0].run), bad) is None  # no seed was run at both


def test_seeds_that_only_one_rate_has_do_not_choose() -> None:
    results = [trial("lora", 1e-3, 0, 0.8, 0.5), trial("lora", 1e-2, 0, 0.7, 0.5), trial("lora", 1e-2, 1, 1.0, 0.5)]
    assert best(*results) == 1e-3


def test_what_has_fewer_seeds_does_not_decide_between_others() -> None:
    scores = {1e-3: (0.5, 0.9, 0.9), 1e-2: (0.6, 0.6, 0.6)}
    results = [trial("lora", rate, seed, each, 0.5) for rate, of in scores.items() for seed, each in enumerate(of)]
    assert best(*results) == 1e-3
    assert best(*results, trial("lora", 1e-1, 0, 0.4, 0.5)) == 1e-3
    assert best(*results, trial("lora", 1e-1, 7, 0.4, 0.5)) == 1e-3, "of a seed of its own"
    bad = result_of(run_of("lora", 0, settings={"learning_rate": 1e-1}), status="failed", scores={})
    assert best(*results, bad) == 1e-3


def test_the_tuned_table_has_the_chosen_rate_and_says_what_it_was_chosen_from() -> None:
    rates = {1e-3: (0.9, 0.70), 2e-3: (0.8, 0.80), 5e-3: (0.7, 0.90)}
    results = [
        trial("lora", rate, seed, *scores, train_seconds=9.0, notes=[f"lora {FOUND_FEATURES}"] if rate == 1e-3 else [])
        for rate, scores in rates.items()
        for seed in (0, 1)
    ]
    results += [trial("full", rate, seed, 1 - rate, 0.65) for rate in (1e-5, 1e-4, 1e-3) for seed in (0, 1)]
    results += [trial("head", 1e-2, seed, 0.5, 0.5) for seed in (0, 1)]
    found = table_of(contents(results), tuned=True)
    scores = {row.strategy: row.score.mean for row in found.rows if row.score}
    assert scores == {"full": 0.65, "head": 0.5, "lora": 0.70}
    lora = next(row for row in found.rows if row.strategy == "lora")
    assert lora.difference is not None
    assert lora.difference.interval.mean == pytest.approx(0.05)
    assert lora.train_seconds == 9.0  # of other rates, for these runs had found features
    text = found.markdown()
    assert (
        "learning rates by the best mean validation accuracy (full 1e-05 of 1e-05, 0.0001, 0.001; head 0.01; lora "
        "0.001 of 0.001, 0.002, 0.005); of full, lora it is the lowest or highest tried, so that one beyond it may be "
        "better still."
    ) in text
    assert len(table_of(contents(results)).rows) == 7
    assert "own learning rate" in table_of(contents(results)).markdown()
    middle = [trial("lora", rate, 0, score, 0.5) for rate, score in ((1e-3, 0.7), (2e-3, 0.9), (5e-3, 0.8))]
    assert "lowest or highest tried" not in table_of(contents(middle), tuned=True).markdown()


def test_the_highest_rate_tried_is_as_near_the_edge_as_the_lowest() -> None:
    highest = [trial("lora", rate, 0, 100 * rate, 0.5) for rate in (1e-3, 2e-3, 5e-3)]
    said = "(lora 0.005 of 0.001, 0.002, 0.005); of lora it is the lowest or highest tried"
    assert said in table_of(contents(highest), tuned=True).markdown()


def test_the_rates_that_runs_were_made_with_stand_below_the_table() -> None:
    """Which need not be those of their strategies today; what trains nothing has none."""
    made = [result_of(run_of("lora"), learning_rate=0.00042), result_of(run_of("full"), learning_rate=1e-6)]
    floor = result_of(dataclasses.replace(run_of("full"), strategy=FLOORS["untrained"]()), learning_rate=None)
    said = "each strategy's own learning rate (full 1e-06, lora 0.00042)"
    assert said in table_of(contents([*made, floor])).markdown()


def test_settings_of_one_strategy_are_tuned_each_for_itself() -> None:
    def of(rate: float, validation: float, **settings: Any) -> Result:
        run = run_of("lora", settings={"learning_rate": rate, **settings})
        scores = {"validation": {"accuracy": validation}, "test": {"accuracy": rate}}
        return result_of(run, scores=scores)

    results = [of(1e-3, 0.9), of(2e-3, 0.8), of(1e-3, 0.7, rank=4), of(2e-3, 0.8, rank=4), of(5e-3, 0.5, rank=2)]
    made = table_of(contents(results), tuned=True)
    assert {row.strategy: row.scores for row in made.rows} == {
        "lora": {0: 1e-3}, "lora(rank=2)": {0: 5e-3}, "lora(rank=4)": {0: 2e-3},
    }  # fmt: skip
    assert "(lora 0.001 of 0.001, 0.002; lora(rank=2) 0.005; lora(rank=4) 0.002 of 0.001, 0.002)" in made.markdown()
    apart = [of(1e-3, 0.9), dataclasses.replace(of(2e-3, 0.8), run=run_of("lora", 1, settings={"learning_rate": 2e-3}))]
    labels = [row.strategy for row in table_of(contents(apart), tuned=True).rows]
    assert labels == ["lora", "lora(learning_rate=0.001)"]  # no seed tells which is better; 0.002 is the default


def test_where_no_rate_is_best_a_row_keeps_what_tells_it_from_others() -> None:
    def of(rate: float, seed: int, warmup: float) -> Result:
        return result_of(run_of("prefix", seed, settings={"learning_rate": rate, "warmup": warmup}))

    own = adapt.Prefix()
    before = [of(own.learning_rate, 0, 0.0), of(0.5, 1, 0.0)]  # no seed tells which is better
    made = table_of(contents([*before, of(own.learning_rate, 0, own.warmup)]), tuned=True)
    assert [row.strategy for row in made.rows] == [
        "prefix", "prefix(learning_rate=0.5, warmup=0.0)", "prefix(warmup=0.0)"
    ]  # fmt: skip


def test_students_of_one_teacher_are_tuned_together() -> None:
    results = []
    for seed in (0, 1):
        for rate, value in ((1e-3, 0.9), (2e-3, 0.8)):
            run = run_of("lora", seed, settings={"learning_rate": rate})
            run = dataclasses.replace(run, teacher=Teacher("big", str(seed) * 64))
            results.append(result_of(run, scores={"validation": {"accuracy": value}, "test": {"accuracy": value}}))
    (row,) = table_of(contents(results), tuned=True).rows
    assert (row.strategy, row.scores) == ("lora, taught by big", {0: 0.9, 1: 0.9})


def test_rates_that_two_given_strategies_share_are_run_once() -> None:
    made = tried([adapt.LoRA(learning_rate=1e-3), adapt.LoRA(learning_rate=1e-2)], 3)
    assert [strategy.learning_rate for strategy in made] == [1e-3, 3.2e-4, 3.2e-3, 1e-2, 3.2e-2]


def test_a_strategy_is_one_object_for_all_seeds_and_folds(
    backbone: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By which the runner knows how long it took before."""
    seen: list[Any] = []
    monkeypatch.setattr(grid, "execute", lambda todo, *args, **rest: seen.extend(run.strategy for run, _ in todo.runs))
    data = tiny.classification()
    pool = dataclasses.replace(data, splits={"train": data.splits["train"]})
    adapt.compare(backbone("bert"), folds(pool, 2), [adapt.LoRA(), adapt.Head()], seeds=2, out=tmp_path, **CHOICES)
    assert len(seen) == 8
    assert len(set(map(id, seen))) == 2


def test_a_comparison_tries_as_many_rates_of_each_strategy(
    backbone: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grid, "execute", in_this_process)
    arguments: dict[str, Any] = {"seeds": 1, "trials": 2, "out": tmp_path, **CHOICES}
    strategies = [adapt.Head(learning_rate=3e-2), adapt.LoRA(rank=2)]
    done = adapt.compare(backbone("bert"), tiny.classification(), strategies, **arguments)
    assert [(r["strategy"], r["settings"]["learning_rate"], r["status"]) for r in done.results] == [
        ("head", 0.03, "ok"), ("head", 0.0095, "ok"), ("lora", 0.002, "ok"), ("lora", 0.00063, "ok"),
    ]  # fmt: skip
    assert [row.strategy.partition("(")[0] for row in done.table.rows] == ["head", "lora", "majority"]
    assert (tmp_path / "table.md").read_text() == done.table.markdown()
    assert done.table.markdown() == table_of(Store(tmp_path).all(), tuned=True).markdown()
    assert {result["environment"]["trials"] for result in done.results} == {2}
    every = CliRunner().invoke(cli, ["table", str(tmp_path), "--every-rate"], catch_exceptions=False).stdout
    assert every.count("learning_rate=") > 2
    assert (tmp_path / "table.md").read_text() + "\n" == every
    for words in ([], ["--tuned"]):
        tuned = CliRunner().invoke(cli, ["table", str(tmp_path), *words], catch_exceptions=False).stdout
        assert tuned == done.table.markdown() + "\n"

    alone = adapt.compare(backbone("bert"), tiny.classification(), strategies[:1], **{**arguments, "trials": 1})
    assert alone.results == done.results[:1]
    assert "own learning rate" in alone.table.markdown()
    assert (tmp_path / "table.md").read_text() == done.table.markdown()  # of all that the folder holds
    both = adapt.compare(
        backbone("bert"), tiny.classification(), [strategies[0], adapt.Head(learning_rate=0.0095)],
        **{**arguments, "trials": 1},
    )  # fmt: skip
    assert [row.strategy for row in both.table.rows] == ["head(learning_rate=0.0095)", "head(learning_rate=0.03)",
                                                         "majority"]  # fmt: skip


def test_sections_of_trials_alone_are_tuned() -> None:
    rates = (1e-3, 2e-3)
    trials = [trial("lora", rate, 0, rate, 0.5, environment={"trials": 2}) for rate in rates]
    other = [trial("lora", rate, 0, rate, 0.5, task={"max_length": 64}) for rate in rates]
    one, two = table_of(contents([trials[0], dataclasses.replace(trials[1], environment={}), *other])).sections
    assert [row.strategy for row in one.rows] == ["lora"]
    assert [row.strategy for row in two.rows] == ["lora", "lora(learning_rate=0.001)"]
    assert len(table_of(contents(trials), tuned=False).rows) == 2
    both = contents([*(dataclasses.replace(trial, environment={}) for trial in trials), *other])
    for of, rows in (
        (both[:1], [["lora"], ["lora", "lora(learning_rate=0.001)"]]),
        ([], [["lora", "lora(learning_rate=0.001)"]] * 2),
    ):
        found = table_of(both, tuned={result["key"] for result in of}).sections
        assert [[row.strategy for row in section.rows] for section in found] == rows, "those of other comparisons stay"


def test_rates_chosen_over_folds_say_that_rows_of_others_chose_them() -> None:
    fold = [
        trial("lora", rate, 0, rate, 0.5, task={"fold": (number, 2)}, test_outcomes=[[1, 1]])
        for rate in (1e-3, 2e-3) for number in (1, 2)
    ]  # fmt: skip
    said = "validation accuracy over all folds, also of rows that others are scored on (lora 0.002 of 0.001, 0.002)"
    assert said in table_of(contents(fold), tuned=True).markdown()


def test_trials_that_cannot_be_are_refused(backbone: Callable[..., Path], tmp_path: Path) -> None:
    data = tiny.classification()
    given: dict[str, Any] = {"seeds": 1, "out": tmp_path, **CHOICES}
    with pytest.raises(OptionError, match=r"learning_rate is 0\.1 for all strategies, and 3 trials each want several"):
        adapt.compare(backbone("bert"), data, "lora", trials=3, learning_rate=0.1, **given)
    with pytest.raises(OptionError, match="trials is 0; give a whole number of at least 1"):
        adapt.compare(backbone("bert"), data, "lora", trials=0, **given)
    alone = dataclasses.replace(data, splits={s: rows for s, rows in data.splits.items() if s != "validation"})
    with pytest.raises(OptionError, match="2 trials are judged by validation scores, and the data have no validation"):
        adapt.compare(backbone("bert"), alone, "lora", trials=2, **given)


def test_progress_names_a_run_by_its_rate_where_there_are_several() -> None:
    stream = io.StringIO()
    with Progress(stream, rates=True) as progress:
        progress(Event("found", run_of("lora", 1), status="ok"))
    assert stream.getvalue() == "words lora at 0.002 seed 1: ok, done before\n"


def test_equally_many_seeds_that_are_not_the_same_ones_are_compared_over_those_that_both_have() -> None:
    def bad(rate: float, seed: int) -> Result:
        return result_of(run_of("lora", seed, settings={"learning_rate": rate}), status="diverged", scores={})

    one = [trial("lora", 1e-3, 0, 0.90, 0), trial("lora", 1e-3, 1, 0.60, 0), bad(1e-3, 2)]
    other = [bad(1e-2, 0), trial("lora", 1e-2, 1, 0.65, 0), trial("lora", 1e-2, 2, 0.70, 0)]
    assert best(*one, *other) == 1e-2
    assert best(*one[:1], bad(1e-3, 1), bad(1e-3, 2), *other[:2], bad(1e-2, 2)) == 1e-3, "none that both have"
