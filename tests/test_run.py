"""A run from its spec to its result: what is scored, sampled and counted."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import tiny
import tiny_tasks
import torch

import adapt.data
from adapt import params
from adapt.adapted import assemble, fit_model
from adapt.data import Data
from adapt.inputs import Inputs
from adapt.memory import CATEGORIES
from adapt.run import fit, run
from adapt.strategies import BottleneckAdapter, LoRA
from adapt.tasks import SequenceClassification
from adapt.training import peak


@pytest.mark.parametrize("name", ["single_label", "regression", "multi_label"])
@pytest.mark.parametrize("max_steps", [1, None])
def test_a_run_that_diverges_says_so(
    backbone: Callable[..., Path], task_data: Callable[[str], Data], name: str, max_steps: int | None
) -> None:
    """Also where the last step is the one that breaks it, which no loss sees."""
    spec, data, source = assemble(
        backbone("bert"), task_data(name), "full", epochs=2, batch_size=16, learning_rate=1e38, clip=1e9,
        max_steps=max_steps, warmup=0.0, precision="fp32", device="cpu",
    )  # fmt: skip
    result = run(spec, Inputs(data, source))
    assert result.status == "diverged"
    assert "lower the learning rate" in str(result.reason)
    assert result.scores == {}
    assert result.to_json()["status"] == "diverged"


def test_the_test_split_is_scored_once(
    backbone: Callable[..., Path], task_data: Callable[[str], Data], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = task_data("single_label")
    sizes = {split: len(data.splits[split]) for split in data.splits}
    data = dataclasses.replace(data, splits={**data.splits, "test": data.splits["test"].select(range(11))})
    scored: list[int] = []
    score = SequenceClassification.score

    def counted(self: SequenceClassification, outputs: Any, examples: Any) -> dict[str, float]:
        scored.append(len(examples))
        return score(self, outputs, examples)

    monkeypatch.setattr(SequenceClassification, "score", counted)
    spec, rows_, source = assemble(backbone("bert"), data, "head", epochs=3, device="cpu", precision="fp32")
    result, _ = fit(spec, Inputs(rows_, source))
    assert scored == [sizes["validation"]] * 3 + [11, 11]  # the model once, and the majority
    assert len(result.test_outcomes) == 11
    assert result.best_epoch is not None
    assert result.scores["validation"] == result.curve[result.best_epoch - 1]["validation"]


@pytest.mark.parametrize("sampling", [{"few_shot": 5}, {"max_train": 13}])
def test_every_strategy_gets_the_same_sample_in_the_same_order(
    backbone: Callable[..., Path],
    task_data: Callable[[str], Data],
    monkeypatch: pytest.MonkeyPatch,
    sampling: dict[str, int],
) -> None:
    seen: list[list[str]] = []
    collate = SequenceClassification.collate

    def watched(self: SequenceClassification, examples: Any) -> Any:
        seen[-1] += [f"{e['input_ids']}" for e in examples]
        return collate(self, examples)

    monkeypatch.setattr(SequenceClassification, "collate", watched)
    orders = {}
    for seed in (0, 1):
        for name, strategy in [*tiny.STRATEGIES.items()][: 2 if seed else None]:
            seen.append([])
            spec, data, source = assemble(
                backbone("bert"), task_data("single_label"), strategy, seed=seed, epochs=2, batch_size=4, device="cpu",
                precision="fp32", **sampling,
            )  # fmt: skip
            result, _ = fit(spec, Inputs(data, source))
            orders[name, seed] = seen[-1]
            assert result.environment["train_rows"] == (10 if "few_shot" in sampling else 13)
    assert all(order == orders["full", seed] for (_, seed), order in orders.items())
    assert len(orders) == len(tiny.STRATEGIES) + 2
    assert orders["full", 0] != orders["full", 1]


def test_rows_that_were_cut_in_windows_are_counted_once(backbone: Callable[..., Path]) -> None:
    model = fit_model(
        backbone("bert"), tiny_tasks.TASKS["spans"](), "head", epochs=2, batch_size=16, max_length=5, stride=1,
        device="cpu", precision="fp32",
    )  # fmt: skip
    result = model.result
    assert result is not None
    rows = len(tiny_tasks.TASKS["spans"]().splits["train"])
    assert result.curve[0]["rows"] > rows, "windows"
    assert result.environment["train_rows"] == rows
    assert (result.examples_per_second or 0) * (result.train_seconds or 0) == pytest.approx(2 * rows)


def test_a_result_counts_what_was_done(backbone: Callable[..., Path], task_data: Callable[[str], Data]) -> None:
    model = fit_model(
        backbone("bert"), task_data("single_label"), "lora", epochs=2, batch_size=16, device="cpu", precision="fp32"
    )
    result = model.result
    assert result is not None
    assert (result.trainable, result.total) == params.count(model.fitted.model)
    assert [point["rows"] for point in result.curve] == [48, 48]
    assert result.train_seconds == pytest.approx(sum(point["seconds"] for point in result.curve))
    assert (result.evaluate_seconds or 0) > 0
    predicting = 16 / (result.predicted_per_second or 0)  # one pass over test; validation was predicted twice besides
    assert 0 < predicting < (result.evaluate_seconds or 0)
    assert result.examples_per_second == pytest.approx(96 / (result.train_seconds or 0))
    assert result.process_bytes is not None
    assert result.baseline_bytes is not None
    assert result.baseline_bytes > 50_000_000  # that of torch alone
    assert result.process_bytes > result.baseline_bytes - 2**20  # a tiny model may add none, and pages be given back
    assert result.memory["peak"] == sum(result.memory[name] for name in CATEGORIES)
    text = result.to_json()
    assert text["params"]["trainable"] == result.trainable
    assert text["memory"]["peak_bytes"] == result.memory["peak"]


def test_a_speed_of_prediction_is_that_of_rows_that_were_predicted(
    backbone: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = {"text": ["a b", "c d e"] * 8, "label": ["x", "y"] * 8}
    data = adapt.data.load(rows, test=0)
    choices: dict[str, Any] = {"epochs": 1, "batch_size": 16, "device": "cpu", "precision": "fp32"}
    unseen = fit_model(backbone("bert"), data, "lora", **choices).result
    assert unseen is not None
    assert unseen.scores["validation"]
    assert unseen.predicted_per_second is None  # validation was scored after the epoch and not again
    seconds = iter(range(0, 10**6, 4))
    monkeypatch.setattr("adapt.run.time.perf_counter", lambda: next(seconds))
    seen = fit_model(backbone("bert"), {"train": rows, "test": rows}, "untrained", **choices).result
    assert seen is not None
    assert (seen.predicted_per_second, seen.evaluate_seconds) == (4.0, 8)


def test_where_the_system_tells_no_peak_there_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As on Windows, which has no module `resource`, and whose peak goes by a name of its own."""
    monkeypatch.setitem(sys.modules, "resource", None)
    for name in ("_STATUS", "_CLEAR"):
        monkeypatch.setattr(peak, name, tmp_path / "missing" / name)
    memory = peak.PeakMemory("cpu")
    told: dict[str, int] = {}
    monkeypatch.setattr(psutil.Process, "memory_info", lambda self: SimpleNamespace(**told))
    for expected in (None, 64, 64):
        with memory.track():
            assert memory.now() == told.get("peak_wset")
        assert memory.peak_bytes == expected
        told["peak_wset"] = 64 if expected is None else 32


@pytest.mark.parametrize(
    ("own", "of_all", "used"), [(0.3, 0.1, 0.3), (0.3, 0.5, 0.5), (0.0, 0.1, 0.1), (None, 0.2, 0.2)]
)
def test_the_longer_warmup_of_strategy_and_budget_is_used(
    backbone: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, own: float | None, of_all: float, used: float
) -> None:
    rates: list[float] = []
    step = torch.optim.AdamW.step

    def watched(self: torch.optim.AdamW, closure: Any = None) -> Any:
        rates.append(self.param_groups[0]["lr"])
        return step(self, closure)

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    strategy = LoRA(learning_rate=1e-3) if own is None else BottleneckAdapter(learning_rate=1e-3, warmup=own)
    fit_model(
        backbone("bert"), tiny.classification(), strategy, max_steps=20, epochs=20, warmup=of_all, device="cpu",
        precision="fp32",
    )  # fmt: skip
    training = rates[:20]  # what follows is a look at memory
    assert training.index(max(training)) == pytest.approx(20 * used, abs=1)
