"""Runs, results and a stand-in worker for the tests of the comparison; nothing here loads torch."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adapt.adapted.starting import again
from adapt.backbones.source import Backbone
from adapt.comparison import Store, runner, worker
from adapt.comparison.jobs import Todo
from adapt.data import Data, load
from adapt.distillation import Lessons
from adapt.inputs import Inputs, encode
from adapt.result import Result
from adapt.run import run
from adapt.spec import Budget, Run, Source, Task
from adapt.strategies import make

FAKE = (sys.executable, str(Path(__file__).with_name("fake_worker.py")))
"""Command of a worker that serves as the real one does, but whose runs train nothing."""


def run_of(strategy: str = "full", seed: int = 0, *, settings: Any = None, budget: Any = None, **task: Any) -> Run:
    """A run with some fields set."""
    fields: dict[str, Any] = {
        "name": "words", "data": Source("words", "d" * 64), "labels": ("bad", "good"),
        "rows": {"train": 40, "validation": 10, "test": 10}, **task,
    }  # fmt: skip
    return Run(Source("tiny", "b" * 64), Task(**fields), make(strategy, settings or {}), Budget(**(budget or {})), seed)


MEMORY = {
    "weights": 2**21, "gradients": 2**18, "optimizer": 2**19, "activations": 2**17, "logits": 2**16, "temporary": 2**16,
    "at": "backward", "peak": 3 * 2**20,
}  # fmt: skip
"""As of a measured step: its parts add up."""


def result_of(run: Run, value: float = 0.75, **changes: Any) -> Result:
    """A result that ended well, with some fields changed."""
    fields: dict[str, Any] = {
        "status": "ok", "scores": {"validation": {run.task.metric: 0.5}, "test": {run.task.metric: value}},
        "learning_rate": run.strategy.learning_rate, "trainable": 1_000, "total": 20_000, "head": 66,
        "saved_bytes": 4_096, "memory": MEMORY, "process_bytes": 2**29, "baseline_bytes": 2**28, "train_seconds": 2.0,
        "examples_per_second": 60.0, "best_epoch": 2, "curve": [{"epoch": 1, "step": 3, "loss": 0.5}],
        "test_outcomes": [0, 1], "environment": {"versions": {"torch": "2"}, "device": "cpu", "threads": 1}, **changes,
    }  # fmt: skip
    return Result(run=run, **fields)


def contents(results: Iterable[Result]) -> list[dict[str, Any]]:
    """As read back from result files."""
    return [json.loads(json.dumps(result.to_json())) for result in results]


def words() -> Data:
    """A few rows of two classes, in three splits."""
    part = (["a good word", "a bad word"] * 4, ["good", "bad"] * 4)
    return load({"train": part, "validation": part, "test": part}, name="words")


def execute(runs: list[Run], folder: Path, **options: Any) -> tuple[Store, list[runner.Event]]:
    """Do runs with whichever worker is set; gives the store and what was told."""
    store, events = Store(folder), list[runner.Event]()
    backbone = options.pop("backbone", Backbone(Source("tiny", "b" * 64), "tiny", folder))
    rows = words()
    runner.execute(Todo([(run, rows) for run in runs], backbone), store, **{"on_event": events.append, **options})
    return store, events


def in_this_process(todo: Todo, store: Store, *, on_event: runner.OnEvent = lambda event: None, **_: Any) -> None:
    """What `execute` does in processes of their own, whose imports take ten times as long as a tiny run."""
    lessons = todo.lessons
    if lessons is not None:
        with tempfile.TemporaryDirectory() as folder:
            lessons.save(Path(folder) / "lessons")
            lessons = Lessons.load(Path(folder) / "lessons")
    for one, data in todo.runs:
        on_event(runner.Event("started", one))
        inputs = Inputs(data, todo.backbone, lessons.encode if lessons else encode, todo.general)
        if one.start is not None:
            inputs = replace(inputs, begin=again(todo.starts[one.start.sha256], one, todo.backbone, data))
        result = run(one, inputs)
        store.write(replace(result, environment={**result.environment, **todo.made_by}))
        on_event(runner.Event("ended", one, status=result.status, reason=result.reason))


def by_job_files(todo: Todo, store: Store, *, on_event: runner.OnEvent = lambda event: None, **_: Any) -> None:
    """What `execute` has processes of their own do, in this one: they find everything in files."""
    with tempfile.TemporaryDirectory() as folder:
        todo.save(Path(folder), store)
        shared = None
        for number, (one, _data) in enumerate(todo.runs):
            on_event(runner.Event("started", one))
            file = Path(folder) / f"{number}.json"
            shared = worker.share(file, shared)
            assert shared is not None
            worker.work(file, lambda *_: None, lambda _: None, shared)
            result = store.read(one)
            assert result is not None
            on_event(runner.Event("ended", one, status=result["status"], reason=result["reason"]))


def behave(monkeypatch: pytest.MonkeyPatch, **behaviours: str) -> None:
    """Take the stand-in worker, with something that happens in a run: `full_1="kill"` in seed 1 of `full`.

    It encodes the rows of its runs where `encode` is given.
    """
    monkeypatch.setattr(runner, "WORKER", FAKE)
    monkeypatch.setenv("FAKE_WORKER", json.dumps(behaviours))
