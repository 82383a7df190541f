"""Fixtures of the tests of strategies: a small data set, and models that a strategy builds for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from strategy_helpers import Build
from torch import nn

from adapt.adapted import assemble
from adapt.backbones import Loader


@pytest.fixture(scope="session")
def words(task_data: Callable[[str], Any]) -> Any:
    return task_data("single_label")


@pytest.fixture
def loader(backbone: Callable[..., Path], words: Any) -> Callable[..., Loader]:
    def make_loader(architecture: str = "bert", layers: int = tiny.LAYERS, **choices: Any) -> Loader:
        choices = {"device": "cpu", "precision": "fp32", "dropout": 0.0, **choices}
        max_length = choices.pop("max_length", 32)
        run, _, source = assemble(
            backbone(architecture, layers),
            words,
            "full",
            max_length=32,
            pooling=choices.pop("pooling", "mean"),
            **choices,
        )
        return Loader(source, dataclasses.replace(run.task, max_length=max_length), run.budget, 0)

    return make_loader


@pytest.fixture
def build(loader: Callable[..., Loader]) -> Build:
    def make_model(strategy: Any, architecture: str = "bert", **choices: Any) -> nn.Module:
        load = loader(architecture, **choices)
        return strategy.build(load, load.task)

    return make_model


@pytest.fixture(scope="session")
def batch(words: Any) -> dict[str, torch.Tensor]:
    """Rows of different lengths, padded."""
    tokens = tiny.tokenizer_for("bert")(list(words.splits["test"]["text"])[:8], padding=True, return_tensors="pt")
    return {name: value for name, value in tokens.items() if name != "token_type_ids"}
