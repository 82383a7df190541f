"""Comparisons in which a model that was adapted before is a row: its strategy, going on from it."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import tiny_tasks
from comparison_helpers import by_job_files, contents, in_this_process, result_of, run_of, words
from fit_helpers import QUICK
from test_starting import Norms

import adapt
from adapt.adapted import Adapted, start_of
from adapt.adapted.starting import again
from adapt.comparison import grid
from adapt.comparison.started import Starts
from adapt.data import folds
from adapt.spec import AdaptError, OptionError, Run, Source, Teacher
from adapt.tables.table import table_of

CHOICES: dict[str, Any] = {"max_steps": 2, "batch_size": 8, "max_length": 48, **QUICK}


@pytest.fixture(scope="module")
def first(backbone: Callable[..., Path]) -> Adapted:
    """Bottleneck adapters that have seen texts."""
    folder = backbone("bert", masked=True)
    return tiny.adapted(folder, tiny_tasks.TASKS["masked"](), tiny.STRATEGIES["bottleneck"], precision="fp32")


def test_a_model_is_a_row_beside_its_strategy_without_it(
    first: Adapted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it is in memory or in a folder; what it makes is what fitting makes of it."""
    monkeypatch.setattr(grid, "execute", by_job_files)
    data, lora = tiny_tasks.TASKS["spans"](), adapt.LoRA(rank=2)
    done = adapt.compare(None, data, [lora], seeds=1, start=first, out=tmp_path / "out", **CHOICES)
    begun = f"bottleneck, started from {first.run.task.name}"
    assert [row.strategy for row in done.table.rows][:2] == ["lora(rank=2)", begun]
    found = done.results[1]
    assert found["status"] == "ok"
    assert found["spec"]["start"] == dataclasses.asdict(start_of(first).source)
    model = adapt.fit(None, data, **done.chosen("bottleneck"))
    assert model.result is not None
    assert model.run.key() == found["key"]
    assert json.loads(json.dumps(model.result.scores)) == found["scores"]
    assert done.chosen("lora").keys().isdisjoint({"start"})
    events: list[Any] = []
    folder = first.save(tmp_path / "first")
    again = adapt.compare(
        None, data, [lora], seeds=1, start=[folder], out=tmp_path / "out", on_event=events.append, **CHOICES
    )  # fmt: skip
    assert [event.what for event in events] == ["found", "found"]
    assert again.results == done.results


def test_a_table_says_what_rows_started_from() -> None:
    texts = [Source("texts", digit * 64) for digit in "ab"]
    runs = [run_of("full"), *(dataclasses.replace(run_of("full", i), start=texts[i]) for i in (0, 1))]
    (line,) = (line for line in table_of(contents(map(result_of, runs))).markdown().splitlines() if "Started" in line)
    assert line == (
        "- Started from models trained before, which no column counts: texts (content aaaaaaaaaaaa, bbbbbbbbbbbb)."
    )
    assert "Started" not in table_of(contents([result_of(runs[0])])).markdown()


@pytest.mark.parametrize("role", ["start", "teacher"])
def test_a_model_before_that_several_seeds_share_is_told_of(role: str) -> None:
    """Also where there are as many of one name as seeds."""

    def said(*made: tuple[int, str]) -> bool:
        runs = []
        for seed, digit in made:
            found = Source("texts", digit * 64) if role == "start" else Teacher("texts", digit * 64)
            run = dataclasses.replace(run_of("full", seed), **{role: found})
            runs.append(result_of(dataclasses.replace(run, strategy=adapt.LoRA(rank="abc".index(digit) + 1))))
        table = table_of(contents([result_of(run_of("full", s)) for s in {seed for seed, _ in made}] + runs)).markdown()
        return "seeds share one, and what another one would change is in no interval" in table

    assert not said((0, "a"), (1, "b"), (2, "c"))
    assert said((0, "a"), (1, "a"))
    assert said(*((seed, digit) for seed in (0, 1) for digit in "ab"))


def test_a_student_may_go_on_from_a_model(
    first: Adapted, backbone: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grid, "execute", in_this_process)
    data = tiny_tasks.TASKS["spans"]()
    teacher = tiny.adapted(backbone("bert"), data, adapt.Full(), precision="fp32")
    done = adapt.compare(None, data, "head", seeds=1, teacher=teacher, start=first, out=tmp_path, **CHOICES)
    by, origin = f", taught by {teacher.backbone.source.name} full", first.run.task.name
    assert [row.strategy for row in done.table.rows][:2] == [f"head{by}", f"bottleneck{by}, started from {origin}"]
    alone = adapt.compare(None, data, "head", seeds=1, start=first, out=tmp_path, **CHOICES)
    scores = [each.results[1]["curve"][0]["loss"] for each in (done, alone)]
    assert scores[0] != scores[1]


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    """Takes the runs of a comparison, which are not done."""
    seen: list[Run] = []
    monkeypatch.setattr(grid, "execute", lambda todo, *args, **rest: seen.extend(run for run, _ in todo.runs))
    return seen


def test_each_model_is_run_at_every_rate_and_seed(first: Adapted, runs: list[Run], tmp_path: Path) -> None:
    adapt.compare(None, tiny_tasks.TASKS["spans"](), "head", seeds=2, trials=3, start=first, out=tmp_path, **CHOICES)
    begun = [run for run in runs if run.start is not None]
    assert (len(begun), len(runs)) == (6, 12)
    assert {(run.seed, run.strategy.learning_rate) for run in begun} == {
        (seed, rate) for seed in (0, 1) for rate in (3.2e-3, 1e-2, 3.2e-2)
    }
    assert first.run.strategy.learning_rate == 1e-2


def test_rows_have_the_classes_that_a_model_knows(
    backbone: Callable[..., Path], runs: list[Run], tmp_path: Path
) -> None:
    data = tiny_tasks.TASKS["single_label"]()
    known = ("another", *data.labels)
    model = tiny.adapted(backbone("bert"), data.under(known, "a model"), tiny.STRATEGIES["lora"])
    adapt.compare(None, data, "head", seeds=1, start=model, out=tmp_path, **CHOICES)
    assert [run.task.labels for run in runs] == [known, known]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("start",), r"The data, or a model to start from, have classes that the teacher does not know \(another\)"),
        (("teacher",), r"one list of classes, and .* \('blame', .*\) and the teacher \('another', 'blame', .*\) know"),
    ],
)
def test_a_start_and_a_teacher_know_the_same_classes(
    backbone: Callable[..., Path], runs: list[Run], tmp_path: Path, more: tuple[str, ...], message: str
) -> None:
    """Else the head of the model to start from would be drawn anew, and its row come out worse for that alone."""
    data = tiny_tasks.TASKS["single_label"]()
    known = data.under(("another", *data.labels), "a model")
    start, teacher = (
        tiny.adapted(backbone("bert"), known if who in more else data, tiny.STRATEGIES["full"], precision="fp32")
        for who in ("start", "teacher")
    )
    with pytest.raises(OptionError, match=message):
        adapt.compare(None, data, "head", seeds=1, start=start, teacher=teacher, out=tmp_path, **CHOICES)


def test_a_model_of_no_use_for_the_task_is_a_row_that_says_so(
    backbone: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grid, "execute", in_this_process)
    masked = tiny.adapted(
        backbone("bert", masked=True), tiny_tasks.TASKS["masked"](), tiny.STRATEGIES["head"], precision="fp32"
    )
    start, data = masked.save(tmp_path / "first"), tiny_tasks.TASKS["spans"]()
    done = adapt.compare(None, data, adapt.Head(), seeds=1, start=start, out=tmp_path / "out", **CHOICES)
    assert [(result["status"], result["reason"]) for result in done.results] == [
        ("ok", None),
        (
            "unsupported",
            f"the model for {masked.run.task.name} has nothing that head could go on from but a head, and that is a "
            "model for masked lm; leave the start out",
        ),
    ]


def test_the_pooling_is_that_of_the_starts_heads_unless_one_is_given(
    first: Adapted, backbone: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Heads would be fresh ones otherwise."""
    monkeypatch.setattr(grid, "execute", in_this_process)
    data = tiny_tasks.TASKS["single_label"]()
    mean, native = (
        tiny.adapted(backbone("bert"), data, tiny.STRATEGIES["lora"], pooling=pooling) for pooling in ("mean", "native")
    )
    assert Starts.of(mean).choices(data, {"epochs": 1}) == {"pooling": "mean", "epochs": 1}
    assert Starts.of(mean).choices(data, {"pooling": "native"}) == {"pooling": "native"}
    assert Starts.of([mean, native]).choices(data, {}) == Starts.of(first).choices(data, {}) == {}
    done = adapt.compare(None, data, adapt.Head(), seeds=1, start=mean, out=tmp_path / "out", **CHOICES)
    assert [result["spec"]["task"]["pooling"] for result in done.results] == ["mean", "mean"]
    assert not any("in all but the head" in note for result in done.results for note in result["notes"])


def test_models_whose_classes_differ_are_no_starts_of_one_comparison(
    backbone: Callable[..., Path], runs: list[Run], tmp_path: Path
) -> None:
    """The head of one would be a fresh one, though it has all classes of the rows."""
    data = tiny_tasks.TASKS["single_label"]()
    small, large = (
        tiny.adapted(backbone("bert"), data.under(labels, "a model"), tiny.STRATEGIES["lora"])
        for labels in (data.labels, (*data.labels, "another"))
    )
    spans = tiny.adapted(backbone("bert"), tiny_tasks.TASKS["spans"](), tiny.STRATEGIES["lora"])
    for start in ([small, large], [large, small]):
        with pytest.raises(OptionError, match=r"know different ones \(.*'another'.*; start from one of them at a time"):
            adapt.compare(None, data, "head", seeds=1, start=start, out=tmp_path, **CHOICES)
    assert not runs
    for model in (small, large):  # what was trained for another task has no classes of these rows
        adapt.compare(None, data, "head", seeds=1, start=[spans, model], out=tmp_path, **CHOICES)
    assert [len(run.task.labels) for run in runs] == [2] * 3 + [3] * 3


def test_what_no_comparison_can_start_from_is_refused(
    first: Adapted, backbone: Callable[..., Path], tmp_path: Path
) -> None:
    data = tiny_tasks.TASKS["single_label"]()
    options = {"out": tmp_path / "out", **CHOICES}
    with pytest.raises(OptionError, match="A model to start from is given twice"):
        adapt.compare(None, data, "head", start=[first, first.save(tmp_path / "first")], **options)
    with pytest.raises(AdaptError, match=r"was trained on 'bert.*, which the backbone given, .* is not"):
        adapt.compare(backbone("bert", seed=1), data, "head", start=first, **options)
    with pytest.raises(AdaptError, match=r"out does not hold a saved model"):
        adapt.compare(None, data, "head", start=tmp_path / "out", **options)
    own = tiny.adapted(backbone("bert"), data, Norms())
    with pytest.raises(OptionError, match=r"with a strategy of your own, .*; go on from it with adapt\.fit"):
        adapt.compare(None, data, "head", start=own, **options)
    model = tiny.adapted(backbone("bert"), data, adapt.LoRA(rank=2))
    pool = dataclasses.replace(data, splits={"train": data.splits["train"]})
    with pytest.raises(
        OptionError, match=r"Folds score every row, and which of them a model to start from was trained"
    ):
        adapt.compare(None, folds(pool, 2), "head", start=model, **options)
    assert not list((tmp_path / "out").rglob("*.json"))


def test_starts_may_be_none_and_must_be_models(first: Adapted, runs: list[Run], tmp_path: Path) -> None:
    data, folder = tiny_tasks.TASKS["spans"](), first.backbone.path
    adapt.compare(folder, data, "head", seeds=1, start=None, out=tmp_path, **CHOICES)
    assert [run.start for run in runs] == [None]
    with pytest.raises(OptionError, match="start is 5; give the folder of a saved model"):
        adapt.compare(folder, data, "head", seeds=1, start=5, out=tmp_path, **CHOICES)


def test_a_folder_that_holds_another_model_by_now_is_told(first: Adapted, tmp_path: Path) -> None:
    folder = first.save(tmp_path / "first")
    run = dataclasses.replace(first.run, start=Source("texts", "a" * 64))
    with pytest.raises(AdaptError, match=r"The model in .*first is no longer the one that this comparison began with"):
        again(folder, run, first.backbone, words())
    again(folder, dataclasses.replace(run, start=start_of(first).source), first.backbone, words())
    shutil.rmtree(folder)
    with pytest.raises(AdaptError, match=r"does not hold a saved model"):
        again(folder, run, first.backbone, words())
