"""A whole comparison with the real worker, from data to table."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import psutil
import pytest
import tiny
from comparison_helpers import in_this_process

import adapt
from adapt.adapted import assemble
from adapt.comparison import Store, grid, runner
from adapt.spec import OptionError
from adapt.strategies import STRATEGIES as REGISTERED
from adapt.tables.table import COLUMNS, table_of

pytestmark = pytest.mark.xdist_group("compared")  # runs that take ten seconds are made once

STRATEGIES = [adapt.Full(learning_rate=2e-3), adapt.Head(learning_rate=3e-2), adapt.LoRA(learning_rate=1e-2, rank=2)]
CHOICES: dict[str, Any] = {"epochs": 2, "device": "cpu", "precision": "fp32", "batch_size": 16}


def stable(content: dict[str, Any]) -> dict[str, Any]:
    """What a run decides, without what the clock and the system say."""
    point = ("epoch", "step", "loss", "rows", "validation")
    return {
        **{name: content[name] for name in ("key", "status", "scores", "params", "test_outcomes", "best_epoch")},
        "curve": [{name: entry[name] for name in point} for entry in content["curve"]],
    }


@pytest.fixture(scope="module")
def compared(
    tmp_path_factory: pytest.TempPathFactory, backbone: Callable[..., Path]
) -> tuple[adapt.Comparison, list[runner.Event], dict[str, Any]]:
    """Three strategies with two seeds, two runs at a time, where files of the user have the names of modules."""
    events: list[runner.Event] = []
    scripts = tmp_path_factory.mktemp("scripts")
    for name in ("evaluate", "datasets", "torch", "adapt", "queue"):
        (scripts / f"{name}.py").write_text("raise SystemExit('a script of the user')")
    data = dataclasses.replace(tiny.classification(), notes=("2 rows left out",))
    arguments = {"backbone": backbone("bert"), "data": data, "strategies": STRATEGIES, "seeds": 2}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.chdir(scripts)
        done = adapt.compare(
            **arguments, **CHOICES, out=tmp_path_factory.mktemp("compared"), jobs=2, on_event=events.append
        )
    return done, events, arguments


def test_every_run_is_done_and_tabulated(compared: Any) -> None:
    done, events, _ = compared
    assert [(r["strategy"], r["seed"], r["status"]) for r in done.results] == [
        (strategy, seed, "ok") for seed in (0, 1) for strategy in ("full", "head", "lora")
    ]
    assert all(result["notes"][0] == "2 rows left out" for result in done.results)
    assert sum(event.what == "ended" for event in events) == 6
    assert sum(event.what == "step" for event in events) == 6 * 2 * 3
    assert not psutil.Process().children(recursive=True)
    assert {path.name for path in done.folder.iterdir()} == {"runs", "table.md", "table.csv"}
    assert len(list((done.folder / "runs").iterdir())) == 6
    assert (done.folder / "table.md").read_text() == done.table.markdown()
    with (done.folder / "table.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert list(rows[0]) == list(COLUMNS)
    majority = rows.pop()
    assert (majority["strategy"], majority["trainable"], float(majority["mean"])) == ("majority", "", 0.5)
    for row in rows:
        results = [r for r in done.results if r["strategy"] == row["strategy"].split("(")[0]]
        scores = [r["scores"]["test"]["accuracy"] for r in results]
        assert float(row["mean"]) == pytest.approx(sum(scores) / len(scores), abs=1e-5)
        assert int(row["trainable"]) == results[0]["params"]["trainable"]
        assert int(row["saved_bytes"]) == results[0]["params"]["saved_bytes"]
        assert int(row["peak_bytes"]) == max(r["memory"]["peak_bytes"] for r in results)
        assert float(row["train_seconds"]) > 0
        assert float(row["examples_per_second"]) > 0
    trainable = {row["strategy"].split("(")[0]: int(row["trainable"]) for row in rows}
    assert trainable["head"] < trainable["lora"] < trainable["full"]


def test_results_say_no_path_of_this_machine(compared: Any, backbone: Callable[..., Path]) -> None:
    done, _, arguments = compared
    private = {str(backbone("bert")), str(done.folder), str(Path(__file__).parents[1]), str(Path.home()), "/tmp"}
    for file in [*(done.folder / "runs").iterdir(), done.folder / "table.md", done.folder / "table.csv"]:
        text = file.read_text()
        assert not [path for path in private if path in text]
        assert arguments["backbone"].name in text or file.suffix == ".csv"


def test_done_runs_are_not_done_again(compared: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    done, _, arguments = compared
    before = {path: path.read_bytes() for path in done.folder.rglob("*") if path.is_file()}
    monkeypatch.setattr(runner, "WORKER", ("/nowhere/python",))
    events: list[runner.Event] = []
    again = adapt.compare(**arguments, **CHOICES, out=done.folder, on_event=events.append)
    assert again.results == done.results
    assert [event.what for event in events] == ["found"] * 6
    assert {path: path.read_bytes() for path in done.folder.rglob("*") if path.is_file()} == before
    fewer = adapt.compare(**{**arguments, "strategies": STRATEGIES[1:2], "seeds": [1]}, **CHOICES, out=done.folder)
    assert [(r["strategy"], r["seed"]) for r in fewer.results] == [("head", 1)]
    assert [row.strategy for row in fewer.table.rows] == ["head", "majority"]
    assert len(table_of(Store(done.folder).all()).rows) == 4


def test_side_by_side_gives_the_same_bits(compared: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done, _, arguments = compared
    monkeypatch.setattr(grid, "execute", in_this_process)
    one_by_one = adapt.compare(**arguments, **CHOICES, out=tmp_path, jobs=1)
    assert [stable(result) for result in one_by_one.results] == [stable(result) for result in done.results]
    assert done.results[0]["environment"]["threads"] == 1


def test_a_run_in_a_process_of_its_own_gives_what_fit_gives(compared: Any) -> None:
    done, _, arguments = compared
    model = adapt.fit(arguments["backbone"], arguments["data"], STRATEGIES[2], seed=1, **CHOICES)
    assert model.result is not None
    alone = json.loads(json.dumps(model.result.to_json()))
    assert stable(alone) == stable(next(r for r in done.results if (r["strategy"], r["seed"]) == ("lora", 1)))


def test_a_seed_decides(compared: Any) -> None:
    done, _, _ = compared
    heads = [stable(result) for result in done.results if result["strategy"] == "head"]
    assert heads[0]["curve"] != heads[1]["curve"]


def test_what_one_strategy_cannot_do_is_a_row_and_bad_input_is_an_error(
    compared: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, arguments = compared
    monkeypatch.setattr(grid, "execute", in_this_process)
    with pytest.raises(OptionError, match="jobs is 0"):
        adapt.compare(**arguments, **CHOICES, out=tmp_path, jobs=0)
    wrong = {
        r"lora\.rank is 0; give at least 1": adapt.LoRA(rank=0),
        r"full\.layers is 'top'; write all": adapt.Full(layers="top"),
        r"prefix\.virtual_tokens is 0; give": adapt.Prefix(virtual_tokens=0),
        r"bottleneck\.embedding_rank is -1; give": adapt.BottleneckAdapter(embedding_rank=-1),
        r"learning_rate is 0\.1 for all strategies, and lora\.learning_rate is 0\.5; give": adapt.LoRA(
            learning_rate=0.5
        ),
    }
    for message, strategy in wrong.items():
        choices = {**CHOICES, **({"learning_rate": 0.1} if "for all" in message else {})}
        with pytest.raises(OptionError, match=message):
            adapt.compare(**{**arguments, "strategies": [adapt.Head(), strategy]}, **choices, out=tmp_path / "none")
    assert Store(tmp_path / "none").all() == []
    both = {**arguments, **CHOICES, "strategies": "full,head", "settings": {"full": {"learning_rate": 0.2}}}
    with pytest.raises(OptionError, match=r"full\.learning_rate is 0\.2; give one"):
        adapt.compare(**both, learning_rate=0.1, out=tmp_path / "none")
    strategies = [adapt.QLoRA(dora=True), adapt.LoRA(targets=("qurey",)), STRATEGIES[1]]  # DoRA does not go with 8 bits
    adapt.compare(**{**arguments, "strategies": strategies, "seeds": 1}, **CHOICES, out=tmp_path / "out", jobs=1)
    found = {result["strategy"]: result["status"] for result in Store(tmp_path / "out").all()}
    assert found == {"qlora": "unsupported", "lora": "unsupported", "head": "ok"}
    table = (tmp_path / "out" / "table.md").read_text()
    assert "| qlora(dora=True) | unsupported: " in table
    assert "| lora(targets=qurey) | unsupported: lora.targets names 'qurey', which no linear layer" in table


def test_tiny_backbones_are_compared_on_all_cores(
    compared: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, arguments = compared
    seen: list[int] = []
    monkeypatch.setattr(grid, "execute", lambda *args, jobs, **rest: seen.append(jobs))
    monkeypatch.setattr(grid, "cores", lambda: 5)
    adapt.compare(**arguments, **CHOICES, out=tmp_path)
    monkeypatch.setattr(grid, "_SMALL_BYTES", 10)
    adapt.compare(**arguments, **CHOICES, out=tmp_path)
    adapt.compare(**arguments, **CHOICES, out=tmp_path, jobs=3)
    assert seen == [5, 1, 3]


def test_a_run_is_the_same_run_however_its_strategy_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid, "execute", in_this_process)
    data, choices = tiny.classification(), {**CHOICES, "learning_rate": 1e-3}
    keys = {
        assemble("tiny-encoder", data, strategy, **choices)[0].key() for strategy in ("full", adapt.Full())
    }  # a shipped backbone, with rates of its own for strategies given by their names
    for strategies in ("full", ["full"], {"full"}, adapt.Full(), (s for s in [adapt.Full()])):
        done = adapt.compare("tiny-encoder", data, strategies, seeds=numpy.int64(1), out=tmp_path, **choices)
        keys |= {result["key"] for result in done.results}
    assert len(keys) == 1
    assert [row.strategy for row in table_of(Store(tmp_path).all()).rows] == ["full", "majority"]


def test_the_spec_of_a_comparison_is_that_of_a_fit(backbone: Callable[..., Path]) -> None:
    run, rows, source = assemble(backbone("bert"), tiny.classification(), "lora", **CHOICES)
    assert (run.backbone.name, run.task.name) == (backbone("bert").name, "words")
    assert run.backbone == source.source
    assert run.task.data.sha256 == rows.sha256


def test_data_of_another_kind_than_asked_for_are_refused(backbone: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="kind is 'ner', but the data are for sequence_classification"):
        adapt.compare(backbone("bert"), tiny.classification(), ["head"], kind="ner", out=tmp_path)
    with pytest.raises(OptionError, match=r"kind is 'regression', but the data are for .* \(single_label\)"):
        adapt.compare(backbone("bert"), tiny.classification(), ["head"], kind="regression", out=tmp_path)
    with pytest.raises(OptionError, match="kind='nir' is unknown \\(did you mean 'ner'"):
        adapt.compare(kind="nir", out=tmp_path)


def test_a_language_model_is_also_scored_without_training(
    backbone: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six strategies and the floor under them, and the prediction that needs no model."""
    import tiny_tasks

    monkeypatch.setattr(grid, "execute", in_this_process)
    done = adapt.compare(
        backbone("llama"), tiny_tasks.TASKS["completion"](), seeds=1, epochs=1, device="cpu", precision="fp32",
        max_length=48, out=tmp_path,
    )  # fmt: skip
    assert [r["strategy"] for r in done.results] == [*REGISTERED, "untrained"]
    assert {r["status"] for r in done.results} == {"ok"}
    rows = {row.strategy: row for row in done.table.rows}
    assert rows["untrained"].trainable == 0
    assert rows["untrained"].train_seconds is None
    assert rows["full"].score.mean < rows["untrained"].score.mean  # perplexity
    assert "unigram" in rows
