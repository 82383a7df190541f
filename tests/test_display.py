"""What a person sees of results at a prompt and in a notebook, as data frames, and how far something has come."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import io
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import tiny
from attention_helpers import drawn, made
from comparison_helpers import behave, contents, execute, in_this_process, result_of, run_of, words
from fit_helpers import TEXTS, fitted

import adapt
from adapt.adapted import Adapted
from adapt.backbones import resolve
from adapt.comparison import Comparison, grid, table_of
from adapt.comparison.progress import Progress
from adapt.comparison.runner import Event
from adapt.display import AskedBar, StepBar
from adapt.extraction import LayerProbe, Probed, heads
from adapt.memory import Memory
from adapt.options import BUDGET_FIELDS, TASK_OPTIONS
from adapt.scoring import Scored
from adapt.spec import Task
from adapt.strategies import STRATEGIES
from adapt.tables.cells import escape
from adapt.tables.table import COLUMNS
from adapt.tasks import KINDS
from adapt.tasks.kind import NoOptions

MARKUP = "<b>*bold*\x1b[31m"
"""As the name of a data set, whose files are somebody else's."""


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    good = [result_of(run_of(strategy, seed), 0.7 + seed / 10) for strategy in ("full", "lora") for seed in (0, 1)]
    bad = result_of(run_of("head"), status="diverged", reason="the loss is nan", scores={}, train_seconds=None)
    results = contents([*good, bad])
    return Comparison(table_of(results), results, Path("out"))


@pytest.fixture(scope="module")
def model(backbone: Callable[..., Path]) -> Adapted:
    return fitted(backbone("bert"), "single_label")


SCORES = adapt.Scores(
    MARKUP, "s" * 64, None, 4, "single_label", "accuracy",
    (
        Scored("one", "k" * 64, "head", "bert", {"accuracy": 0.5, "mcc": 0.0}, ((0, 0), (1, 0), (0, 1), (1, 1))),
        Scored("two", "l" * 64, "lora", "bert", {"accuracy": 0.75, "mcc": 0.5}, ((0, 0), (1, 0), (1, 1), (1, 1))),
    ),
)  # fmt: skip
PROBING = adapt.Probing(
    MARKUP, "s" * 64,
    {
        "kind": "sequence_classification", "problem": "single_label", "metric": "accuracy", "pooling": "mean",
        "max_length": 16, "seeds": 2, "max_train": 9, "max_held_out": 9, "classes": 2,
        "penalties": [0.1, 1.0],
    },
    {"train": [{"vectors": 9, "rows": 9}], "validation": {"vectors": 4}, "test": {"vectors": 4}},
    (Probed("bert", {}, (
        LayerProbe(0, (0.5, 0.75), (0.5, 0.75), (0.5, 0.5), (1.0, 1.0)),
        LayerProbe(1, (0.75, 1.0), (0.75, 1.0), (0.5, 0.25), (1.0, 0.1)),
    )),),
    (),
)  # fmt: skip
MEMORY = Memory(2**21, 2**18, 2**19, 2**17, 2**16, 2**16, at="backward")
HEADS = heads([made(drawn(2, 3, 4), source=MARKUP)])


def test_what_prints_as_a_table_is_rendered_as_one(comparison: Comparison) -> None:
    for result in (comparison, comparison.table, SCORES, PROBING, MEMORY, HEADS):
        shown = result._repr_markdown_()
        assert shown == str(result)
        assert re.search(r"^\|( ---:? \|)*( ---: \|)+$", shown, re.MULTILINE)
        assert "<b>" not in shown
        assert "\x1b" not in shown
        line = repr(result)
        assert line.startswith(f"<{type(result).__name__}")
        assert len(line) < 250
        assert line.isprintable()
    assert str(comparison) == comparison.table.markdown()
    assert str(SCORES) == SCORES.table()
    assert str(PROBING) == PROBING.table()
    assert escape(MARKUP) in str(SCORES)
    assert str(MEMORY).splitlines()[2] == (
        "| 2.0 MiB | 256.0 KiB | 512.0 KiB | 128.0 KiB | 64.0 KiB | 64.0 KiB | 3.0 MiB |"
    )


def test_a_line_says_what_something_is(comparison: Comparison, backbone: Callable[..., Path]) -> None:
    data = dataclasses.replace(words(), name=MARKUP, notes=("2 rows\nleft out",))
    assert repr(data) == (
        "<Data <b>*bold* [31m: sequence_classification, single_label, 2 labels (bad, good); rows: 8 train, "
        "8 validation, 8 test>\nNote: 2 rows left out"
    )
    folds = adapt.data.folds(adapt.data.load(TEXTS_AND_LABELS, validation=0, test=0), 3)
    assert repr(folds) == "<Folds: 3 of data>"
    assert "; fold 2 of 3>" in repr(folds.parts[1])
    task = Task("intents", data=run_of().task.data, labels=tuple("abcdefg"))
    assert repr(task) == (
        "<Task intents: sequence_classification, single_label, 7 labels (a, b, c, d, e, ...); by accuracy>"
    )
    run = run_of("lora", 3)
    assert repr(run) == "<Run: lora on tiny for words, seed 3>"
    assert repr(result_of(run)) == (
        "<Result: lora on tiny for words, seed 3; ok, validation accuracy 0.5000, test accuracy 0.7500>"
    )
    assert repr(result_of(run, status="failed", reason="why", scores={})).endswith("; failed (why)>")
    assert repr(comparison) == "<Comparison: 5 runs, 1 of which did not end well; <Table: 3 rows on words> in out>"
    assert re.fullmatch(rf"<Backbone {backbone('bert')}: content \w{{12}}, in .*>", repr(resolve(backbone("bert"))))
    assert repr(MEMORY).startswith("<Memory: peak 3.0 MiB (backward): weights 2.0 MiB, gradients 256.0 KiB")
    maps = made(drawn(2, 3, 4, prefix=2), prefix=2)
    assert repr(maps) == "<Attention: 2 layers of 3 heads, 4 tokens and 2 learned keys: a b c d>"
    vectors = adapt.Representations(
        np.zeros((2, 3, 8), np.float32), (0, 1), "mean", "bert", np.arange(3), np.zeros(3), np.zeros(3), ("cut",)
    )
    assert repr(vectors) == "<Representations by bert: 2 layers, 3 vectors of 8 (mean) of 3 rows>\nNote: cut"
    assert len(repr(dataclasses.replace(task, labels=("a" * 500, "b")))) < 200
    assert "(0, 0)" not in repr(SCORES.models)
    assert "test_outcomes" not in repr(comparison.table.sections)


TEXTS_AND_LABELS = ([f"a word {i}" for i in range(12)], ["good", "bad"] * 6)


def test_a_model_says_what_it_is_before_and_after_it_is_saved(model: Adapted, tmp_path: Path) -> None:
    assert model.result is not None
    scores = [f"{split} accuracy {of['accuracy']:.4f}" for split, of in model.result.scores.items()]
    data = tiny.TASKS["single_label"]()
    said = (
        f"<Adapted: head on {model.run.backbone.name} for {data.name}, seed 0; sequence_classification, single_label, "
        f"{len(data.labels)} labels ({', '.join(data.labels)}), {', '.join(scores)}>"
    )
    assert repr(model).splitlines()[0] == said
    assert repr(adapt.load(model.save(tmp_path), device="cpu")) == repr(model)


def test_results_are_data_frames(comparison: Comparison, model: Adapted) -> None:
    import pandas

    table = comparison.table.to_frame()
    assert tuple(table.columns) == COLUMNS
    assert list(table["strategy"]) == ["full", "head", "lora"]
    assert table["mean"].tolist()[::2] == [0.75, 0.75]
    assert table["train_seconds"].isna().tolist() == [False, True, False]
    runs = comparison.to_frame()
    assert runs[["strategy", "seed", "status"]].to_numpy().tolist() == [
        ["full", 0, "ok"], ["full", 1, "ok"], ["lora", 0, "ok"], ["lora", 1, "ok"], ["head", 0, "diverged"],
    ]  # fmt: skip
    assert runs["scores.test.accuracy"].tolist()[:4] == pytest.approx([0.7, 0.8, 0.7, 0.8])
    assert runs["params.trainable"].tolist()[0] == 1_000
    scores = SCORES.to_frame().set_index(["model", "metric"])
    assert scores["mean"].tolist() == [0.5, 0.0, 0.75, 0.5]
    assert scores.loc[("two", "accuracy"), "difference"] == 0.25
    limits = scores.loc[("one", "accuracy"), ["ci_low", "ci_high"]].tolist()
    assert limits == [SCORES.interval(0, "accuracy").low, SCORES.interval(0, "accuracy").high]
    assert scores["difference"].isna().tolist() == [True, True, False, True]
    probes = PROBING.to_frame()
    assert probes["score"].tolist() == [0.5, 0.75, 0.75, 1.0]
    assert probes["control"].tolist() == [0.5, 0.5, 0.5, 0.25]
    layers = tuple(dataclasses.replace(layer, controls=()) for layer in PROBING.models[0].layers)
    alone = dataclasses.replace(PROBING, models=(dataclasses.replace(PROBING.models[0], layers=layers),))
    assert alone.to_frame()["control"].isna().all()
    assert probes[["layer", "seed"]].to_numpy().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert {"max_train", "few_shot", "settings.learning_rate"} < set(runs.columns)
    assert runs["fold"].tolist() == [None] * 5
    assert Comparison(table_of([]), contents([result_of(run_of(fold=(2, 5)))]), Path()).to_frame()["fold"][0] == 2
    predicted = pandas.json_normalize(model.predict(TEXTS))
    assert list(predicted["label"]) == [row["label"] for row in model.predict(TEXTS)]
    assert {f"probabilities.{label}" for label in model.run.task.labels} < set(predicted.columns)


def test_rows_are_data_frames_with_labels_by_name() -> None:
    frame = words().to_frame("test")
    assert frame.iloc[:2].to_numpy().tolist() == [["a good word", "good"], ["a bad word", "bad"]]
    several = adapt.data.load({"text": ["a b", "c d", "e f"], "label": [["x", "y"], [], ["y"]]}, validation=0, test=0)
    assert several.to_frame()["label"].tolist() == [["x", "y"], [], ["y"]]
    tags = adapt.data.load({"tokens": [["in", "Java"]], "tags": [["O", "B-LOC"]]}, validation=0, test=0)
    assert tags.to_frame()["tags"].tolist() == [["O", "B-LOC"]]
    assert tags.to_frame()["tokens"].tolist() == [["in", "Java"]]
    numbers = adapt.data.load((["a", "b"], [0.5, 1.5]), validation=0, test=0)
    assert numbers.to_frame()["label"].tolist() == [0.5, 1.5]
    with pytest.raises(adapt.DataError, match="data: no split 'validation'; name one of train"):
        numbers.to_frame("validation")


# ---------------------------------------------------------------- how far it has come


def test_a_comparison_shows_its_progress_unless_it_is_not_to(
    backbone: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(grid, "execute", in_this_process)
    told: list[str] = []

    def compare(**options: Any) -> str:
        del told[:]
        adapt.compare(
            backbone("bert"), tiny.TASKS["single_label"](), "head", seeds=1, max_steps=1, device="cpu", out=tmp_path,
            on_event=lambda event: told.append(event.what), **options,
        )  # fmt: skip
        captured = capsys.readouterr()
        assert captured.out == ""
        return captured.err

    name = f"{tiny.TASKS['single_label']().name} head seed 0"
    assert compare() == f"{name}: ok\n"
    assert told == ["started", "ended"]
    assert compare() == f"{name}: ok, done before\n"
    assert compare(progress=False) == ""
    assert told == ["found"]


def test_a_fit_shows_a_bar_in_a_notebook(
    backbone: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told: list[int] = []

    def fit(**options: Any) -> str:
        adapt.fit(
            backbone("bert"), tiny.TASKS["single_label"](), adapt.Head(), max_steps=2, device="cpu",
            on_step=lambda done, total, loss: told.append(done), **options,
        )  # fmt: skip
        return capsys.readouterr().err

    assert fit() == ""  # in a file of errors a bar is noise
    monkeypatch.setitem(sys.modules, "ipykernel", sys)
    assert "head:" in fit()
    assert fit(progress=False) == ""
    assert told == [1, 2] * 3


def test_bars_are_for_terminals_and_nothing_is_shown_where_there_is_no_standard_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal, file = Terminal(), io.StringIO()
    for stream in (terminal, file, None):
        bar = StepBar(stream, "lora")
        bar(1, 2, 0.5)
        bar.close()
        asked = AskedBar(stream, "words")
        asked(0, 3)
        asked(3, 3)
    assert "lora" in terminal.getvalue()
    assert file.getvalue() == "words: the teacher is asked about 3 rows\n"
    monkeypatch.setitem(sys.modules, "ipykernel", sys)
    StepBar(file, "lora")(1, 2)
    assert "lora" not in file.getvalue()  # of several bars notebooks make a mess


def test_what_stands_in_for_standard_error_may_be_a_log_or_closed_and_is_not_steered() -> None:
    class Log:
        """As programs put in its place: it has no other method."""

        def __init__(self) -> None:
            self.text = ""

        def write(self, text: str) -> None:
            self.text += text

    log, closed, pipe = Log(), io.StringIO(), io.StringIO()
    closed.close()
    pipe.write = lambda text: (_ for _ in ()).throw(BrokenPipeError)  # type: ignore[method-assign]
    for stream in (log, closed, pipe):
        bar = StepBar(stream, MARKUP)  # type: ignore[arg-type]
        bar(1, 2, 0.5)
        bar.close()
        with Progress(stream) as progress:  # type: ignore[arg-type]
            run = run_of("head")
            run = dataclasses.replace(run, task=dataclasses.replace(run.task, name=MARKUP))
            progress(Event("started", run))
            progress(Event("ended", run, status="failed", reason="why\x1b[0m\nnot"))
    assert log.text == "<b>*bold* [31m head seed 0: failed: why [0m not\n"


@pytest.mark.parametrize(
    ("done", "total", "left", "told"),
    [
        (1, 1, 0.0, ""), (1, 9, None, " (1 of 9)"), (9, 9, 0.0, " (9 of 9)"),
        (8, 1000, 3.0, " (8 of 1,000, about 10 s left)"), (2, 3, 86.0, " (2 of 3, about 90 s left)"),
        (2, 3, 94.0, " (2 of 3, about 2 min left)"),
        (2, 3, 5390.0, " (2 of 3, about 90 min left)"), (2, 3, 9000.0, " (2 of 3, about 2.5 h left)"),
    ],
)  # fmt: skip
def test_after_a_run_it_is_said_how_many_are_left_and_for_how_long(
    done: int, total: int, left: float | None, told: str
) -> None:
    stream, run = io.StringIO(), run_of("head")
    Progress(stream)(Event("ended", run, done, total, status="ok", seconds_left=left))
    assert stream.getvalue() == f"{run.task.name} head seed 0: ok{told}\n"


def test_runs_that_were_done_before_are_counted_with_those_that_end() -> None:
    stream, run = io.StringIO(), run_of("head")
    progress = Progress(stream)
    progress(Event("found", run, status="ok"))
    progress(Event("ended", run, 1, 1, status="ok", seconds_left=0.0))
    assert stream.getvalue().endswith("head seed 0: ok (2 of 2)\n")


def test_runs_are_done_from_a_thread_beside_an_event_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    behave(monkeypatch)

    async def main() -> tuple[Any, int]:
        beats, doing = 0, asyncio.create_task(asyncio.to_thread(execute, [run_of("full"), run_of("lora")], tmp_path))
        while not doing.done():
            beats += 1
            await asyncio.sleep(0.01)
        return (await doing)[0], beats

    store, beats = asyncio.run(main())
    assert [content["status"] for content in store.all()] == ["ok", "ok"]
    assert beats > 1


# ---------------------------------------------------------------- the public face


def test_modules_that_the_documents_name_are_there_before_they_are_used() -> None:
    for name in ("extraction", "memory", "pretrain", "strategies"):
        assert adapt.__getattr__(name) is sys.modules[f"adapt.{name}"]
    with pytest.raises(AttributeError) as caught:
        _ = adapt.fitt
    assert (caught.value.name, caught.value.obj) == ("fitt", adapt)  # of which Python makes "Did you mean: 'fit'?"


def test_help_and_completion_show_what_may_be_chosen() -> None:
    for function in (adapt.fit, adapt.compare, adapt.distill):
        shown = inspect.signature(function).parameters
        expected = {"epochs": 3, "batch_size": 32, "device": "auto", "precision": "auto", "max_length": 128}
        assert {name: shown[name].default for name in expected} == expected
        assert {*BUDGET_FIELDS, *TASK_OPTIONS, "progress", "choices"} < set(shown)
        assert "choices" in (inspect.getdoc(function) or "")


WITH_FIELDS = [cls for name in adapt.__all__ if dataclasses.is_dataclass(cls := getattr(adapt, name))]
"""The public types, of which each strategy is one."""
GIVEN = [*STRATEGIES.values(), adapt.Budget, *(kind.Options for kind in KINDS.values() if kind.Options != NoOptions)]
"""Those whose every field a user may give."""


@pytest.mark.parametrize("cls", dict.fromkeys([*WITH_FIELDS, *GIVEN, adapt.data.Data]), ids=lambda cls: cls.__name__)
def test_help_says_what_fields_mean(cls: type) -> None:
    summary, _, said = (inspect.getdoc(cls) or "").partition("\n\nFields:\n")
    named = re.findall(r"^    (\w+): [\w`]", said, re.MULTILINE)
    fields = [f.name for f in dataclasses.fields(cls)]
    assert summary
    assert named == (fields if cls in GIVEN else [name for name in fields if name in named])
    assert named


def test_what_is_inherited_comes_first_and_without_source_there_is_the_summary(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = inspect.getdoc(adapt.QLoRA) or ""
    assert shown.startswith("LoRA on a backbone held in 8 bits")
    assert shown.index("    rank: Rank r of the update.\n") < shown.index("    bits: 8: LLM.int8(); ")
    monkeypatch.setattr(inspect, "getsource", Mock(side_effect=OSError("could not get source code")))
    assert inspect.getdoc(adapt.QLoRA) == shown.partition("\n")[0]
