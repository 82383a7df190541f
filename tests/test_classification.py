"""Losses and predictions of sequence classification and regression, against values worked out by hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import tiny
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch import nn

import adapt.data
from adapt.adapted import fit_model
from adapt.data import Data
from adapt.spec import Source, Task
from adapt.tasks import SequenceClassification
from adapt.training import Trained


def task_of(data: Data, **choices: Any) -> Task:
    from adapt.metrics import METRICS

    return Task(
        data.name, Source(data.name, data.sha256), problem=data.problem, labels=data.labels, pair=data.pair,
        metric=METRICS[data.problem][0], **choices,
    )  # fmt: skip


class Fixed(nn.Module):
    """A model that gives the logits it was made with."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, **inputs: torch.Tensor) -> Any:
        from transformers.modeling_outputs import SequenceClassifierOutput

        return SequenceClassifierOutput(logits=self.logits)


@pytest.mark.parametrize("declared", [(), ("a", "none", "b", "c")])
def test_balanced_weights_are_those_of_scikit_learn(declared: tuple[str, ...]) -> None:
    """A class without rows has no part in them."""
    labels = [0] * 6 + [1] * 3 + [2]
    data = adapt.data.load(([f"word{i}" for i in range(10)], labels), validation=0, test=0)
    if declared:
        labels = [label + (label > 0) for label in labels]
        data = dataclasses.replace(
            data, labels=declared,
            splits={"train": data.splits["train"].remove_columns("label").add_column("label", labels)},
        )  # fmt: skip
    kind = SequenceClassification(task_of(data, class_weights="balanced"), tiny.tokenizer_for("bert"))
    examples = kind.encode(data.splits["train"])
    kind.fit(examples)
    logits = torch.randn(10, len(data.labels))
    weights = compute_class_weight("balanced", classes=numpy.unique(labels), y=numpy.array(labels))
    chosen = logits.log_softmax(-1)[torch.arange(10), labels]
    expected = -(chosen * torch.tensor(weights[numpy.unique(labels, return_inverse=True)[1]])).mean()
    torch.testing.assert_close(kind.loss(Fixed(logits), kind.collate(examples)), expected.float())


def test_balanced_weights_of_several_labels_make_both_sides_equal() -> None:
    texts = [f"word{i}" for i in range(8)]
    labels = [[1, 0], [1, 1], [1, 0], [1, 0], [1, 0], [1, 0], [0, 0], [0, 0]]
    data = adapt.data.load((texts, labels), validation=0, test=0, problem="multi_label")
    kind = SequenceClassification(task_of(data, class_weights="balanced"), tiny.tokenizer_for("bert"))
    examples = kind.encode(data.splits["train"])
    kind.fit(examples)
    logits = torch.randn(8, 2)
    positive = torch.tensor(labels, dtype=torch.float32)
    ratio = torch.tensor([2 / 6, 7 / 1])  # absent to present
    losses = -(positive * ratio * logits.sigmoid().log() + (1 - positive) * (-logits).sigmoid().log())
    torch.testing.assert_close(kind.loss(Fixed(logits), kind.collate(examples)), losses.mean())
    assert (positive * ratio).sum(0).tolist() == pytest.approx((1 - positive).sum(0).tolist())


def test_regression_is_scaled_for_training_and_back_for_predicting(task_data: Callable[[str], Data]) -> None:
    data = task_data("regression")
    kind = SequenceClassification(task_of(data), tiny.tokenizer_for("bert"))
    examples = kind.encode(data.splits["train"])
    kind.fit(examples)
    targets = numpy.array(data.splits["train"]["label"])
    assert kind.state() == {"mean": pytest.approx(targets.mean()), "std": pytest.approx(targets.std())}
    batch = kind.collate(examples)
    scaled = torch.tensor((targets - targets.mean()) / targets.std(), dtype=torch.float32)[:, None]
    assert kind.loss(Fixed(scaled), batch).item() == pytest.approx(0.0, abs=1e-9)
    assert kind.loss(Fixed(torch.zeros(len(targets), 1)), batch).item() == pytest.approx(1.0, rel=1e-5)
    outputs = kind.outputs(Fixed(scaled), batch)
    assert [float(o) for o in outputs] == pytest.approx(targets.tolist(), rel=1e-5)
    assert kind.score(outputs, examples)["mse"] == pytest.approx(0.0, abs=1e-6)
    assert [row["value"] for row in kind.decode(outputs, examples)] == pytest.approx(targets.tolist(), rel=1e-5)


def test_the_scale_of_a_regression_is_that_of_its_training_rows_alone(
    backbone: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {"train": [1.5, 2.5, 8.0], "validation": [100.5, 300.5], "test": [-40.5, 70.5]}
    data = adapt.data.load({split: ([f"word{i}" for i in range(len(of))], of) for split, of in values.items()})
    monkeypatch.setattr("adapt.training.train", lambda *args, **named: Trained(seconds=0.0))
    monkeypatch.setattr("adapt.memory.observe.observe", lambda *args: ({}, 0))
    model = fit_model(backbone("bert"), data, tiny.STRATEGIES["head"], device="cpu", precision="fp32")
    assert model.fitted.kind.state() == {"mean": 4.0, "std": pytest.approx(numpy.std(values["train"]))}
    assert model.result is not None
    assert model.result.baseline == {"name": "mean", "scores": model.result.baseline["scores"]}
    assert model.result.baseline["scores"]["mse"] == pytest.approx((44.5**2 + 66.5**2) / 2)


def test_a_fitted_regression_predicts_in_the_targets_units(
    backbone: Callable[..., Path], task_data: Callable[[str], Data], tmp_path: Path
) -> None:
    model = fit_model(
        backbone("bert"), task_data("regression"), tiny.STRATEGIES["full"], epochs=10, batch_size=8, device="cpu",
        precision="fp32", pooling="mean", dropout=0.0,
    )  # fmt: skip
    values = [row["value"] for row in model.predict(["word1 word2", "sunny sweet warm kind sunny"])]
    assert 150 < values[0] < values[1] < 420
    assert model.result is not None
    assert model.result.scores["test"]["spearman"] > 0.7
    assert model.result.scores["test"]["mse"] < 0.7 * 56**2  # the targets' variance


def test_multi_label_is_learnt(backbone: Callable[..., Path], task_data: Callable[[str], Data]) -> None:
    model = fit_model(
        backbone("bert"), task_data("multi_label"), tiny.STRATEGIES["full"], epochs=15, batch_size=8, device="cpu",
        precision="fp32", pooling="mean", dropout=0.0, max_length=16,
    )  # fmt: skip
    assert model.result is not None
    assert model.result.scores["test"]["micro_f1"] > 0.8
    found = model.predict(["cold word1 warm word2"])[0]
    assert set(found["labels"]) <= {"cold", "kind", "warm"}
    assert found["labels"] == [name for name, p in found["probabilities"].items() if p > 0.5]
