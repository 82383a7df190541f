"""Learning curves: which sections make one, what their cells say, and the comparisons that they are of."""

from __future__ import annotations

import dataclasses
import io
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import tiny
from click.testing import CliRunner
from comparison_helpers import by_job_files, contents, result_of, run_of, words

import adapt
from adapt.adapted import assemble
from adapt.backbones import resolve
from adapt.cli import cli
from adapt.comparison import Store, grid, runner, worker
from adapt.comparison.jobs import Job, Todo
from adapt.comparison.progress import Progress
from adapt.comparison.runner import Event
from adapt.data import folds
from adapt.result import Result
from adapt.spec import DataError, OptionError, Source
from adapt.stats import RIGHT_OR_WRONG_PAIRED, Interval, crossed_interval, mean_interval
from adapt.strategies import FLOORS
from adapt.tables.curve import _marks, curves
from adapt.tables.table import Table, table_of

CHOICES: dict[str, Any] = {"epochs": 1, "device": "cpu", "precision": "fp32", "batch_size": 16}


def results(scores: dict[str, list[float]], settings: Any = None, budget: Any = None, **task: Any) -> list[Result]:
    """One for each strategy and seed; their outcomes tell nothing of rows."""
    return [
        result_of(run_of(name, seed, settings=settings, budget=budget, **task), value)
        for name, values in scores.items()
        for seed, value in enumerate(values)
    ]


def table(*parts: list[Result], tuned: bool = False) -> Table:
    return table_of(contents(result for part in parts for result in part), tuned=tuned)


def shown(made: Table) -> dict[str, list[str]]:
    """The cells of the curve by the first of their line; those of its second table with `+` before."""
    text = made.markdown().split(", by training rows\n")
    assert len(text) == 2
    first, second, _ = text[1].strip().split("\n\n")
    lines = [("", row) for row in first.splitlines()] + [("+", row) for row in second.splitlines()]
    return {before + row.split("|")[1].strip(): [c.strip() for c in row.split("|")[2:-1]] for before, row in lines}


def of_rows(name: str, seed: int, hits: list[int], **task: Any) -> Result:
    """A result whose outcomes tell which test rows are right."""
    return result_of(run_of(name, seed, **task), sum(hits) / len(hits), test_outcomes=[[hit, 1] for hit in hits])


FEW = {"full": [0.50, 0.60], "lora": [0.55, 0.64]}
MANY = {"full": [0.80, 0.70], "lora": [0.81, 0.73]}


def test_sections_that_differ_in_the_number_of_rows_alone_are_columns_in_its_order() -> None:
    made = table(results(MANY), results(FEW, max_train=8), results(MANY, max_train=20))
    cells = shown(made)
    assert cells["accuracy, % [95 % CI]"] == ["8 rows", "20 rows", "40 rows"]
    assert cells["full"][0] == "55.0 [0.0, 100.0] ≈"
    gain = mean_interval([0.81 - 0.55, 0.73 - 0.64])
    assert cells["+difference [95 % CI]"] == ["8 rows to 20 rows", "20 rows to 40 rows"]
    assert cells["+lora"] == [f"+17.5 [{100 * gain.low:+.1f}, +100.0]", "+0.0"]
    assert gain.high > 1
    assert [row.scores for row in made.rows[::2]] == [dict(enumerate(each["full"])) for each in (FEW, MANY, MANY)]
    assert len(made.csv().splitlines()) == 1 + 6
    head, *lines = [line.split(",") for line in made.curve_csv().splitlines()]
    assert head[:6] == ["backbone", "training_rows", "rows_per_class", "task", "strategy", "seeds"]
    assert [line[:5] for line in lines] == [
        ["tiny", number, "", "words", strategy] for number in ("8", "20", "40") for strategy in ("full", "lora")
    ]
    table_lines = [line.split(",") for line in made.csv().splitlines()[1:]]
    assert [line[3:] for line in lines] == [[*cells, setting] for *cells, _, setting in table_lines]
    assert [line[-1] for line in lines] == [f"{number} rows" for number in (8, 8, 20, 20, 40, 40)]
    assert not table(results(MANY)).curve_csv()
    both = table(results(FEW, few_shot=2), results(FEW, max_train=8), results(MANY)).curve_csv().splitlines()
    assert len(both) == len(set(both)) == 1 + 3 * 2
    few = table(results(FEW, few_shot=2), results(MANY, few_shot=4)).curve_csv().splitlines()
    assert [line.split(",")[1:3] for line in few[1::2]] == [["", "2"], ["", "4"]]
    assert (
        table_of(contents(reversed(results(MANY) + results(FEW, max_train=8)))).markdown()
        == table(results(MANY), results(FEW, max_train=8)).markdown()
    )


def test_the_file_of_a_curve_is_there_as_long_as_the_curve(tmp_path: Path) -> None:
    store = Store(tmp_path)
    few = [store.write(result) for result in results(FEW, max_train=8)]
    for result in results(MANY):
        store.write(result)
    made = store.write_table()
    assert (tmp_path / "table.csv").read_text() == made.csv()
    assert (tmp_path / "curve.csv").read_text() == made.curve_csv() != made.csv()
    assert len(made.curve_csv().splitlines()) == 1 + 2 * 2
    for path in few:
        path.unlink()
    assert len(store.write_table().rows) == 2
    assert not (tmp_path / "curve.csv").exists()


def test_what_differs_in_more_is_no_curve() -> None:
    base = results(FEW, max_train=8)
    assert [len(curve.columns) for curve in curves(table(base, results(MANY)).sections)] == [2]
    others: list[dict[str, Any]] = [
        {"budget": {"epochs": 9}}, {"metric": "macro_f1"}, {"name": "other"}, {"fold": (1, 1)}, {"few_shot": 4},
    ]  # fmt: skip
    for other in others:
        assert curves(table(base, results(MANY, **other)).sections) == []
    assert curves(table(base).sections) == []
    assert curves(table(base, results(MANY, max_train=20, few_shot=4)).sections) == []


def test_all_rows_are_one_column_whatever_was_asked_for() -> None:
    beyond = {"full": [0.9, 0.9], "head": [0.4, 0.5]}
    cells = shown(table(results(FEW, max_train=8), results(MANY), results(beyond, max_train=99)))
    assert cells["accuracy, % [95 % CI]"] == ["8 rows", "40 rows"]
    assert cells["head"][1].startswith("45.0")
    assert cells["full"][1][:4] in {"75.0", "90.0"}
    assert cells["lora"][1].startswith(("**77.0", "77.0"))
    few = shown(table(results(FEW, few_shot=2), results(MANY, few_shot=16), results(beyond, max_train=99)))
    assert few["accuracy, % [95 % CI]"] == ["2 a class", "16 a class", "40 rows"]


def test_the_best_is_bold_and_what_may_be_as_good_is_marked() -> None:
    draw = random.Random(0)
    hits = {name: [[int(draw.random() < p) for _ in range(60)] for _ in range(2)] for name, p in
            (("full", 0.9), ("lora", 0.85), ("head", 0.4))}  # fmt: skip
    many = [of_rows(name, seed, each[seed]) for name, each in hits.items() for seed in (0, 1)]
    made = table(many, results(FEW, max_train=8))
    cells = shown(made)
    assert cells["full"][1].startswith("**")
    assert cells["full"][1].endswith("**")
    assert cells["lora"][1].endswith(" ≈")
    assert cells["head"][1].endswith("]")
    assert "the best mean of each column is bold" in made.markdown()
    alone = table([r for r in many if r.run.strategy.name == "head"], results({"head": [0.3]}, max_train=8))
    assert "≈" not in alone.markdown()
    assert "**" not in alone.markdown()


def test_where_lower_is_better_the_best_is_the_lowest() -> None:
    task: dict[str, Any] = {"metric": "mse", "problem": "regression", "labels": ()}
    losses = {"full": [0.10, 0.11, 0.10], "lora": [0.20, 0.22, 0.21], "head": [0.11, 0.10, 0.11]}
    cells = shown(table(results(losses, **task), results(losses, max_train=8, **task)))
    assert cells["full"][0].startswith("**0.103")
    assert cells["head"][0].endswith("≈")
    assert cells["lora"][0].endswith("]")


def test_the_choice_among_several_makes_intervals_wider() -> None:
    """At 95 % the difference does not hold 0, at the 98 % of six strategies it does."""
    gap = [0.09, 0.13, 0.17]
    assert (mean_interval(gap, 0.95).low or 0) > 0 > (mean_interval(gap, 0.98).low or 0)
    two = {"full": [0.5 + g for g in gap], "head": [0.5] * 3}
    six = two | {name: [0.58, 0.60, 0.62] for name in ("lora", "bottleneck", "prefix", "qlora")}
    assert shown(table(results(two), results(two, max_train=8)))["head"][0] == "50.0"
    assert shown(table(results(six), results(six, max_train=8)))["head"][0] == "50.0 ≈"


def test_the_truly_best_is_bold_or_marked_as_often_as_is_said() -> None:
    """Of equal strategies each is one of the best, and its mean is often the lowest of them."""
    draw = numpy.random.default_rng(0)
    row = table(results({"lora": [0.5]})).rows[0]
    lost = 0
    for _ in range(150):
        common = draw.normal(0, 0.05, (3, 1)) + draw.normal(0, 1, (1, 40))
        made = []
        for name in "abcd":
            own = draw.normal(0, 0.1, (3, 1)) + draw.normal(0, 0.3, (1, 40)) + draw.normal(0, 0.5, (3, 40))
            parts = dict(enumerate((common + own).tolist()))
            means = {seed: float(numpy.mean(values)) for seed, values in parts.items()}
            mean = Interval(sum(means.values()) / 3, None, None)
            made.append(dataclasses.replace(row, strategy=name, scores=means, parts=parts, score=mean))
        lost += "a" not in _marks(made)
    assert lost <= 0.08 * 150


def test_a_mean_of_fewer_seeds_is_not_the_best() -> None:
    scores = {"full": [0.9, 0.9, 0.6], "lora": [0.85, 0.85]}
    cells = shown(table(results(scores), results(scores, max_train=8)))
    assert cells["full"][0].startswith("**80.0 ")
    assert cells["lora"][0] == "85.0 (2 seeds) ≈"


def test_what_is_not_trained_may_be_behind_with_its_one_seed() -> None:
    task: dict[str, Any] = {"kind": "causal_lm", "problem": "completion", "metric": "perplexity", "labels": ()}

    def column(**sample: Any) -> list[Result]:
        floor = dataclasses.replace(run_of("full", **task, **sample), strategy=FLOORS["untrained"]())
        of = results({"full": [16.8, 16.7, 16.9], "lora": [20.5, 20.6, 20.7]}, **task, **sample)
        return [*of, result_of(floor, 136.0, learning_rate=None, head=0)]

    cells = shown(table(column(), column(max_train=8)))
    assert [cell.split(" ")[-1] for cell in cells["untrained"]] == ["seed)"] * 2
    assert cells["full"][0].startswith("**16.8")


def test_a_difference_over_one_seed_of_several_is_not_behind() -> None:
    best = [of_rows("full", seed, [1] * 7 + [0], max_train=8) for seed in (0, 1)]
    other = [of_rows("lora", seed, [0] * 7 + [1], max_train=8) for seed in (1, 2)]
    cells = shown(table(best, other, results({"full": [0.9]})))
    assert cells["lora"][0].endswith("≈")


def test_what_cannot_be_told_apart_is_not_called_worse() -> None:
    one = {"full": [0.9], "lora": [0.5]}
    assert shown(table(results(one), results(one, max_train=8)))["lora"] == ["50.0 ≈", "50.0 ≈"]
    alike = {"full": [0.75, 0.75], "lora": [0.5, 0.5]}  # by the same amount, of which no interval can be made
    assert shown(table(results(alike), results(alike, max_train=8)))["lora"] == ["50.0 ≈", "50.0 ≈"]
    apart = [result_of(run_of("lora", seed), 0.5) for seed in (7, 8)]
    assert shown(table(results({"full": [0.9, 0.8]}), apart, results(one, max_train=8)))["lora"][1] == "50.0 ≈"


def test_a_column_that_is_filled_in_part_says_so() -> None:
    bad = [result_of(run_of("head", max_train=8), status="diverged", reason="the loss is nan", scores={})]
    made = table(results({**FEW, "head": [0.3]}), results({"lora": [0.5]}, max_train=8), bad)
    cells = shown(made)
    assert cells["full"][0] == ""
    assert cells["lora"][0] == "50.0 (1 seed)"
    assert cells["head"] == ["diverged", "30.0 (1 seed) ≈"]
    assert (cells["+full"], cells["+head"]) == ([""], [""])
    assert cells["+lora"] == ["+5.0 (1 seed)"]


def test_differences_between_columns_are_paired_by_seed_and_row() -> None:
    few, many = [[1, 0, 0, 1], [0, 0, 1, 1]], [[1, 1, 0, 1], [1, 0, 1, 1]]
    made = table(
        [of_rows("lora", seed, hits, max_train=8) for seed, hits in enumerate(few)],
        [of_rows("lora", seed, hits) for seed, hits in enumerate(many)],
    )
    found = crossed_interval([[0, 1, 0, 0], [1, 0, 0, 0]], 0.25, added=RIGHT_OR_WRONG_PAIRED)
    assert shown(made)["+lora"] == [f"+25.0 [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"]


def test_what_is_reached_without_a_model_is_a_line_and_said_where_it_is_not_bettered() -> None:
    majority = {"baseline": {"name": "majority", "scores": {"accuracy": 0.6}}}
    made = table(
        [dataclasses.replace(result, **majority) for result in results(FEW, max_train=8)],
        [dataclasses.replace(result, **majority) for result in results(MANY)],
    )
    cells = shown(made)
    assert cells["majority"] == ["60.0", "60.0"]
    assert "+majority" not in cells
    assert "- Without a model: at 8 rows no strategy has a better mean than majority.\n" in made.markdown()
    assert "- Without a model: at" not in table(results(FEW, max_train=8), results(MANY)).markdown()


def test_below_the_curve_stands_what_it_takes_besides() -> None:
    made = table(results(FEW, max_train=8), results(MANY)).markdown().split("by training rows")[1]
    assert "a seed draws them from the 40 of train, for each number anew" in made
    assert "Besides, 10 labelled rows of validation choose the epoch. All else" in made
    assert "Learning rates" not in made
    without = {"rows": {"train": 40, "test": 10}}
    assert "Besides" not in table(results(FEW, max_train=8, **without), results(MANY, **without)).markdown()


def test_a_curve_over_runs_of_several_warmups_says_so() -> None:
    def at(warmup: float, **task: Any) -> Result:
        return result_of(run_of("prefix", settings={"warmup": warmup}, **task))

    made = table([at(0.0, max_train=8)], [at(0.3)]).markdown()
    assert "- Warm-ups are not those of every column: prefix 0.0, 0.3." in made
    assert "Warm-ups" not in table([at(0.3, max_train=8)], [at(0.3)]).markdown()


def test_a_tuned_curve_has_the_rate_chosen_at_each_number() -> None:
    def at(rate: float, validation: float, test: float, **task: Any) -> Result:
        scores = {"validation": {"accuracy": validation}, "test": {"accuracy": test}}
        return result_of(run_of("lora", settings={"learning_rate": rate}, **task), learning_rate=rate, scores=scores)

    few = [at(1e-3, 0.5, 0.4, max_train=8), at(2e-3, 0.6, 0.5, max_train=8)]
    made = table(few, [at(1e-3, 0.8, 0.7), at(2e-3, 0.7, 0.9)], tuned=True)
    assert shown(made)["lora"] == ["50.0", "70.0"]
    assert "- Learning rates are not those of every column: lora 0.002, 0.001." in made.markdown()
    assert "choose the epoch and the learning rate." in made.markdown()


def test_folds_make_a_curve_too() -> None:
    def fold(number: int, value: float, **task: Any) -> Result:
        rows = {"train": 30 + number, "test": 2}
        outcomes = [[int(value > 0.4), 1], [int(value > 0.8), 1]]
        return result_of(run_of("lora", fold=(number, 2), rows=rows, **task), value, test_outcomes=outcomes)

    whole = [fold(1, 0.5, max_train=8), fold(2, 0.0, max_train=8), fold(1, 1.0), fold(2, 0.5)]
    cells = shown(table(whole, [fold(2, 0.5, max_train=20)]))
    assert cells["accuracy, % [95 % CI]"] == ["8 rows", "20 rows", "32 rows"]
    assert [cell.split(" ")[0] for cell in cells["lora"]] == ["25.0", "unfinished", "75.0"]
    most = [fold(1, 0.5, max_train=31), fold(2, 1.0, max_train=31)]  # all rows of one fold, but not of the other
    assert shown(table(whole, most))["accuracy, % [95 % CI]"] == ["8 rows", "31 rows", "32 rows"]


def grid_of(monkeypatch: pytest.MonkeyPatch, *arguments: Any, **options: Any) -> list[tuple[adapt.Run, Any]]:
    """What a comparison would run, in its order."""
    seen: list[tuple[adapt.Run, Any]] = []
    monkeypatch.setattr(grid, "execute", lambda todo, *rest, **more: seen.extend(todo.runs))
    adapt.compare(*arguments, **CHOICES, **options)
    return seen


def test_several_numbers_are_the_runs_of_each_of_them(
    backbone: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tiny.classification()
    arguments: dict[str, Any] = {"seeds": 2, "out": tmp_path, "trials": 2}
    for option, numbers in (("max_train", (20, 8)), ("few_shot", numpy.array([4, 2]))):
        made = grid_of(monkeypatch, backbone("bert"), data, ["head"], **{option: numbers}, **arguments)
        assert [(getattr(run.task, option), run.seed) for run, _ in made] == [
            (n, seed) for n in numbers for seed in (0, 1) for _ in range(2)
        ]
        one, *_ = assemble(backbone("bert"), data, "head", seed=1, **CHOICES, **{option: int(numbers[1])})
        assert one.key() in {run.key() for run, _ in made}
    pool = dataclasses.replace(data, splits={"train": data.splits["train"]})
    made = grid_of(monkeypatch, backbone("bert"), folds(pool, 2), ["head"], max_train=(8, 4), seeds=1, out=tmp_path)
    assert [(run.task.max_train, run.task.fold) for run, _ in made] == [
        (8, (1, 2)),
        (8, (2, 2)),
        (4, (1, 2)),
        (4, (2, 2)),
    ]


def test_all_rows_are_trained_on_once(
    backbone: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, numbers = tiny.classification(), (99, 5, 48, 100)
    made = grid_of(monkeypatch, backbone("bert"), data, ["head"], max_train=numbers, seeds=1, out=tmp_path)
    assert [run.task.max_train for run, _ in made] == [5, 48]


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"max_train": ()}, r"max_train is \(\); give at least one number of rows, and none twice"),
        ({"max_train": (5, 5)}, r"max_train is \(5, 5\); give at least one number of rows, and none twice"),
        ({"few_shot": [4, 0]}, "few_shot is 0; give a whole number of at least 1"),
        ({"max_train": (5, "all")}, "max_train is 'all'; give a whole number of at least 1"),
        ({"max_train": (5, None)}, "max_train is None; give a whole number of at least 1"),
        ({"max_train": "5,10"}, "max_train is '5,10'; give a whole number of at least 1"),
        ({"max_train": (5, 10), "few_shot": (2, 4)}, "max_train and few_shot are both given, and a learning curve is"),
        ({"max_train": 5, "few_shot": (2, 4)}, "max_train and few_shot are both given, and a learning curve is over"),
    ],
)
def test_numbers_that_make_no_curve_are_refused(
    choices: dict[str, Any], message: str, backbone: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(OptionError, match=message):
        adapt.compare(backbone("bert"), tiny.classification(), "head", out=tmp_path, **choices)


def test_more_rows_of_a_class_than_there_are_are_an_error_before_the_first_run(
    backbone: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match="few_shot=999: too few training rows"):
        grid_of(monkeypatch, backbone("bert"), tiny.classification(), "head", few_shot=(2, 999), out=tmp_path)


@pytest.mark.parametrize(
    ("command", "numbers", "message"),
    [
        ("compare", "5,many", "--max-train is '5,many'; give a whole number, or several with commas between them"),
        ("compare", "5,", "--max-train is '5,'; give a whole number, or several with commas between them"),
        ("fit", "5,10", r"max_train is \(5, 10\); give a whole number of at least 1"),
    ],
)
def test_numbers_of_the_command_line_are_read(
    command: str, numbers: str, message: str, backbone: Callable[..., Path], tmp_path: Path
) -> None:
    file = tmp_path / "words.csv"
    file.write_text("text,label\n" + "a good one,good\na bad one,bad\n" * 10)
    options = ["--backbone", str(backbone("bert")), "--data", str(file), "--out", str(tmp_path / "out")]
    with pytest.raises(OptionError, match=message):
        CliRunner().invoke(cli, [command, *options, "--max-train", numbers], catch_exceptions=False)


def test_progress_names_a_run_by_its_rows() -> None:
    stream = io.StringIO()
    with Progress(stream) as progress:
        progress(Event("found", run_of("lora", 1, max_train=1000), status="ok"))
        progress(Event("found", run_of("lora", 1, few_shot=4), status="ok"))
    assert stream.getvalue().splitlines() == [
        "words 1000 rows lora seed 1: ok, done before", "words 4 a class lora seed 1: ok, done before",
    ]  # fmt: skip


def test_runs_on_the_same_rows_are_started_one_after_another() -> None:
    """So that these are encoded once, whichever strategy is slow."""
    few, more = run_of("full", max_train=8), run_of("lora", max_train=20)
    runs = {"0": few, "1": more}
    assert runner.next_of(list("01"), runs, {id(few.strategy): 1.0, id(more.strategy): 9.0}) == "0"


def test_runs_share_features_with_those_of_the_same_row_alone(tmp_path: Path) -> None:
    """So that of each row and number one run computes them all, whose time is what the strategy costs."""
    slow = {"learning_rate": 1e-4}
    runs = [run_of("head", 0, max_train=8), run_of("head", 1, max_train=8)]
    others = [run_of("head", 1, settings=slow, max_train=8), dataclasses.replace(runs[0], start=Source("a", "b" * 64))]
    others += [run_of("head", 0, max_train=20), run_of("head", 0, settings={"standardise": True}, max_train=8)]
    others += [run_of("lora", 0, settings={"layers": "last:1"}, max_train=8)]
    rows = words()
    every = [(run, rows) for run in runs + others]
    for made_by, folders in (({}, 6), ({"trials": 3}, 5)):  # of which the best rate alone has a row
        Todo(every, resolve("tiny-encoder"), made_by=made_by).save(tmp_path, Store(tmp_path / "out"))
        found = [Job.read(tmp_path / f"{i}.json").inputs().features for i in range(7)]
        assert found[0] == found[1]
        assert (found[0] == found[2]) == bool(made_by)
        assert len(set(found)) == folders


def test_processes_that_share_rows_share_features_with_the_same_row_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []

    def run(one: Any, inputs: Any, *_: Any) -> Result:
        found.append(inputs.features)
        return result_of(one)

    monkeypatch.setattr(worker, "run", run)
    rows, runs = words(), [run_of("head", 0), run_of("lora", 0), run_of("head", 1)]
    store = Store(tmp_path / "out")
    by_job_files(Todo([(run, rows) for run in runs], resolve("tiny-encoder")), store)
    assert found[0] == found[2] != found[1]
