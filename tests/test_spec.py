"""What decides a run has one key; what a result says has one layout, without a path of this machine."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from typing import Any

import pytest
from comparison_helpers import result_of, run_of

from adapt.run import run_from
from adapt.spec import Budget, Run, Source, Task, canonical
from adapt.strategies import STRATEGIES, BottleneckAdapter, LoRA, make, recorded

CHANGES: dict[str, Any] = {
    "name": "other", "data": Source("words", "e" * 64), "kind": "masked_lm", "problem": "multi_label",
    "labels": ("good", "bad"), "pair": True, "metric": "mcc", "max_length": 64, "pooling": "mean",
    "class_weights": "balanced", "max_train": 20, "few_shot": 4, "rows": {"train": 41},
    "epochs": 4, "max_steps": 7, "batch_size": 16, "accumulation": 2, "learning_rate": 1e-3, "weight_decay": 0.1,
    "warmup": 0.2, "decay": "cosine", "clip": 2.0, "precision": "bf16", "dropout": 0.3, "patience": 2,
    "device": "cuda", "selection": "loss", "options": {"stride": 8}, "checkpointing": True,
    "optimizer": "adamw_8bit", "loss_chunk": 64, "graphs": "off", "fold": (2, 5),
}  # fmt: skip
"""Another value for every field of `Task` and `Budget`."""


@pytest.mark.parametrize("name", [f.name for f in dataclasses.fields(Task)])
def test_every_field_of_the_task_changes_the_key(name: str) -> None:
    run = run_of()
    assert dataclasses.replace(run, task=dataclasses.replace(run.task, **{name: CHANGES[name]})).key() != run.key()


@pytest.mark.parametrize("name", [f.name for f in dataclasses.fields(Budget)])
def test_every_field_of_the_budget_changes_the_key(name: str) -> None:
    run = run_of()
    assert dataclasses.replace(run, budget=dataclasses.replace(run.budget, **{name: CHANGES[name]})).key() != run.key()


def test_fields_that_came_later_leave_the_key_of_earlier_results_as_it_was() -> None:
    spec = run_of().spec()
    later = [f.name for cls in (Task, Budget) for f in dataclasses.fields(cls) if "neutral" in f.metadata]
    assert later
    assert not (spec["task"].keys() | spec["budget"].keys()) & set(later)
    assert not spec.keys() & {"teacher", "general", "start"}


def test_a_field_that_is_left_out_of_a_spec_has_its_neutral_value_and_not_its_default() -> None:
    assert make("bottleneck").warmup > 0  # type: ignore[attr-defined]
    run = run_of("bottleneck", settings={"warmup": 0.0})  # what a spec from before that field says
    spec = run.spec()
    assert "warmup" not in spec["strategy"]
    again = run_from(spec)
    assert again.strategy == BottleneckAdapter(warmup=0.0)
    assert (again.spec(), again.key()) == (spec, run.key())
    assert run_of("bottleneck").spec()["strategy"]["warmup"] == make("bottleneck").warmup  # type: ignore[attr-defined]
    assert recorded({"name": "mine", "size": 3}) == {"size": 3}


def test_backbone_strategy_settings_and_seed_change_the_key() -> None:
    run = run_of("lora")
    others = [
        dataclasses.replace(run, backbone=Source("other", "b" * 64)),
        dataclasses.replace(run, backbone=Source("tiny", "c" * 64)),
        dataclasses.replace(run, seed=1),
        dataclasses.replace(run, general=Source("news", "a" * 64)),
        dataclasses.replace(run, general=Source("news", "b" * 64)),
        dataclasses.replace(run, start=Source("news", "a" * 64)),
        dataclasses.replace(run, start=Source("news", "b" * 64)),
        run_of("lora", settings={"rank": 4}),
        *(run_of(name) for name in STRATEGIES if name != "lora"),
    ]
    keys = {run.key(), *(other.key() for other in others)}
    assert len(keys) == len(others) + 1
    assert len({run.filename(), *(other.filename() for other in others)}) == len(others) + 1


def test_the_key_does_not_depend_on_the_order_of_a_mapping() -> None:
    rows = {"train": 40, "validation": 10, "test": 10}
    assert run_of(rows=rows).key() == run_of(rows=dict(reversed(rows.items()))).key()


def test_a_whole_number_is_the_float_that_it_stands_for() -> None:
    assert BottleneckAdapter(reduction_factor=8) == BottleneckAdapter()
    for given, default in [(LoRA(alpha=16), LoRA()), (BottleneckAdapter(reduction_factor=8), BottleneckAdapter())]:
        run = dataclasses.replace(run_of(), strategy=given)
        assert run.key() == dataclasses.replace(run, strategy=default).key()
    assert run_of(budget={"clip": 1}).key() == run_of().key()


def test_the_key_is_the_same_in_every_process() -> None:
    program = "from comparison_helpers import run_of; print(run_of('lora', 3).key())"
    keys = {run_of("lora", 3).key()}
    for seed in ("0", "1"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.path.dirname(__file__)}  # noqa: PTH120
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        )
        keys.add(done.stdout.strip())
    assert len(keys) == 1


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_run_comes_back_from_its_spec(name: str) -> None:
    run = run_of(name, 2, budget={"learning_rate": 3e-4, "max_steps": 5}, few_shot=3, problem="multi_label")
    back = run_from(json.loads(canonical(run.spec())))
    assert back == run
    assert back.key() == run.key()


def test_settings_of_every_type_come_back() -> None:
    lora = make("lora", {"targets": "query,value", "dora": "true", "alpha": "32"})
    assert lora == LoRA(targets=("query", "value"), dora=True, alpha=32.0)
    run = dataclasses.replace(run_of(), strategy=lora)
    assert run_from(json.loads(canonical(run.spec()))) == run
    run = dataclasses.replace(run, general=Source("news.txt", "a" * 64), start=Source("words", "b" * 64))
    assert run_from(json.loads(canonical(run.spec()))) == run


def test_a_result_has_the_documented_layout() -> None:
    content = result_of(run_of("lora", 1)).to_json()
    for name in (
        "status", "reason", "backbone", "task", "strategy", "settings", "seed", "scores.validation", "scores.test",
        "params.trainable", "params.total", "params.saved_bytes", "memory.peak_bytes", "time.train_seconds",
        "time.evaluate_seconds",
        "throughput.examples_per_second", "throughput.predicted_per_second", "environment",
        "spec.backbone.name", "spec.backbone.sha256",
        "spec.task.data.name", "spec.task.data.sha256", "spec.budget", "spec.seed",
    ):  # fmt: skip
        value = content
        for part in name.split("."):
            value = value[part]
    assert (content["strategy"], content["seed"], content["status"]) == ("lora", 1, "ok")
    assert content["backbone"] == "tiny"
    assert content["task"] == "words"
    assert content["settings"]["rank"] == 16
    assert "name" not in content["settings"]
    assert content["scores"]["test"] == {"accuracy": 0.75}
    assert content["forgetting"] == {}


def test_the_settings_say_the_learning_rate_that_was_used() -> None:
    strategy = make("lora", {"learning_rate": 0.5})
    run = dataclasses.replace(run_of("lora", budget={"learning_rate": 0.25}), strategy=strategy)
    assert result_of(run, learning_rate=0.25).to_json()["settings"]["learning_rate"] == 0.25
    failed = result_of(run, status="failed", learning_rate=None)
    assert failed.to_json()["settings"]["learning_rate"] == 0.25
    alone = dataclasses.replace(run, budget=Budget())
    assert result_of(alone, status="failed", learning_rate=None).to_json()["settings"]["learning_rate"] == 0.5


@pytest.mark.parametrize("name", ["../../etc/passwd", "a b\n|<c>`", "語" * 300, "x" * 300, ".."])
def test_a_file_name_is_safe_whatever_the_task_is_called(name: str) -> None:
    filename = run_of(name=name).filename()
    assert "/" not in filename
    assert not any(c.isspace() or c in "|<>`" for c in filename)
    assert len(f".{filename}.1234567.part".encode()) < 255


def test_fields_are_frozen() -> None:
    run: Run = run_of()
    with pytest.raises(dataclasses.FrozenInstanceError):
        run.seed = 3  # type: ignore[misc]
