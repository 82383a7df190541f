"""Heads that read a text's first token and nothing else, of which a memo keeps no other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from torch import nn

from adapt.adapted import assemble
from adapt.backbones import Loader
from adapt.backbones.first import _takes_first
from adapt.backbones.memo import memos_of
from adapt.backbones.memoise import memoise
from adapt.data import Data
from adapt.strategies import Head
from adapt.tasks import SequenceClassification


@pytest.fixture
def data(task_data: Callable[[str], Data]) -> Data:
    return task_data("single_label")


@pytest.mark.parametrize("where", ["cpu", "meta"])
@pytest.mark.parametrize("architecture", tiny.ENCODERS)
def test_a_memo_keeps_the_first_token_alone_where_the_head_reads_no_other(
    backbone: Callable[..., Path], data: Data, architecture: str, where: str
) -> None:
    run, _, source = assemble(backbone(architecture), data, Head(), pooling="native", device="cpu", precision="fp32")
    model: Any = Loader(source, run.task, run.budget, 0)(frozen=True).train()
    model.to(where)
    memoise(model, 2**30)
    assert memos_of(model)[0].name == "first"
    assert model.classifier.training  # as before


@pytest.mark.parametrize(
    ("kind", "architecture"),
    [cell for cell in tiny.TASK_CELLS if cell[0] in ("token_classification", "question_answering")],
)
def test_a_memo_keeps_all_tokens_for_a_head_that_reads_them(
    backbone: Callable[..., Path], kind: str, architecture: str
) -> None:
    load = tiny.loader_for(backbone(architecture), kind)
    model: Any = load(frozen=True)
    memoise(model, 2**20)
    assert memos_of(model)[0].name == "whole"


def test_a_memo_keeps_all_tokens_for_a_head_on_their_mean(backbone: Callable[..., Path], data: Data) -> None:
    run, _, source = assemble(backbone("modernbert"), data, Head(), pooling="native", device="cpu", precision="fp32")
    model: Any = Loader(source, run.task, run.budget, 0)(frozen=True)
    model.config.classifier_pooling = "mean"
    memoise(model, 2**20)
    assert memos_of(model)[0].name == "whole"


def test_first_tokens_of_a_pooler_that_is_held_in_low_precision_are_kept(
    backbone: Callable[..., Path], data: Data
) -> None:
    run, _, source = assemble(backbone("bert"), data, Head(), pooling="native", device="cpu", precision="fp32")
    model: Any = Loader(source, run.task, run.budget, 0)(frozen=True)
    model.base_model.pooler.to(torch.bfloat16)
    memoise(model, 2**30)
    assert memos_of(model)[0].name == "first"
    assert model.base_model.pooler.dense.weight.dtype == torch.bfloat16


def test_a_memo_of_first_tokens_holds_a_vector_a_row_and_gives_the_same_logits(
    backbone: Callable[..., Path], data: Data
) -> None:
    run, _, source = assemble(backbone("bert"), data, Head(), pooling="native", device="cpu", precision="fp32")
    loader = Loader(source, run.task, run.budget, 0)
    model: Any = loader(frozen=True).eval()
    kind = SequenceClassification(run.task, loader.tokenizer())
    batch = kind.collate(kind.encode(data.splits["test"].remove_columns("label")))
    with torch.no_grad():
        expected = model(**batch).logits
        memoise(model, 2**30)
        (memo,) = memos_of(model)
        for _ in range(2):  # encoded, and looked up
            torch.testing.assert_close(model(**batch).logits, expected)
        rows = len({tuple(ids.tolist()) for ids in batch["input_ids"]})
        assert memo._used == rows < batch["attention_mask"].sum()


class _Head(nn.Module):
    """A classifier of a base model's states, read as the test says."""

    def __init__(self, read: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.read = read
        self.out = nn.Linear(8, 2)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.out(self.read(hidden))


@pytest.mark.parametrize(
    ("read", "first"),
    [
        (lambda h: h[:, 0], True),
        (lambda h: h[:, 0, :].tanh() + h[:, 0], True),
        (lambda h: h[:, :1].squeeze(1), True),
        (lambda h: h.to(torch.float64)[:, 0].float(), True),
        (lambda h: h[:, 0] + h.mean(1), False),
        (lambda h: h[:, -1], False),
        (lambda h: h[:, 1], False),
        (lambda h: h[:, :2].sum(1), False),
        (lambda h: h.max(1).values, False),
        (lambda h: h[0], False),  # another dimension
        (lambda h: h[torch.arange(2), torch.zeros(2, dtype=torch.long)], False),  # by an index that may be any
        (lambda h: h.detach()[:, 0], False),
    ],
)
def test_what_a_head_reads_is_seen_in_autograds_graph(read: Any, first: bool) -> None:
    hidden = torch.randn(2, 3, 8, requires_grad=True)
    assert _takes_first(_Head(read)(hidden), hidden) is first
