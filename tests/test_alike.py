"""Plans of memos: what is done for one row is counted for all."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from adapt.backbones.memo import Memo
from adapt.memory.alike import Alike, counting
from adapt.memory.blueprint import to_fake, without_padding
from adapt.memory.planner import Planner, setting_of
from adapt.memory.tracker import Tracker
from adapt.memory.types import Memory
from adapt.strategies import make

ROW_BY_ROW = ("parted", "write", "joined")
"""What a memo of a plan does otherwise than one that trains."""


class Encoder(nn.Module):
    """Holds so little while it runs that the peak is where its features are kept."""

    def __init__(self, pooled: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, 33)
        self.pooled = pooled

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.embedding(input_ids)
        return features[:, 0] if self.pooled else features


def peaks(pooled: bool, max_bytes: int, rows: int, block: int) -> list[dict[str, Memory]]:
    """Of rows of nine tokens that are looked up for the first time, again, and anew."""
    memo, mode, found = Memo(Encoder(pooled), max_bytes), FakeTensorMode(allow_non_fake_inputs=True), []
    counting(memo, block)
    to_fake(memo, mode)
    with mode, without_padding():
        ids, mask = torch.zeros(rows, 9, dtype=torch.long), torch.ones(rows, 9, dtype=torch.long)
        for again in (True, True, False):
            if not again:
                memo.forget()
            with Tracker(memo, block=block, device="cuda") as tracker:
                assert memo(ids, mask).shape[0] == rows
            found.append(tracker.segments())
    return found


@pytest.mark.parametrize("block", [1, 512])
@pytest.mark.parametrize("rows", [1, 2, 20])
@pytest.mark.parametrize("max_bytes", [0, 9 * 33 * 4 * 5, 2**20])  # for no row, for some of them, for all
@pytest.mark.parametrize("pooled", [True, False])
def test_all_rows_are_counted(
    monkeypatch: pytest.MonkeyPatch, pooled: bool, max_bytes: int, rows: int, block: int
) -> None:
    found = peaks(pooled, max_bytes, rows, block)
    for name in ROW_BY_ROW:
        monkeypatch.setattr(Alike, name, getattr(Memo, name))
    assert found == peaks(pooled, max_bytes, rows, block)


@pytest.mark.parametrize(
    ("strategy", "fields", "backbone", "kind", "device"),
    [
        ("head", {}, "tiny-encoder", "classification", "cuda"),
        ("head", {"standardise": True}, "tiny-encoder", "ner", "cpu"),
        ("head", {}, "tiny-encoder-decoder", "seq2seq", "cuda"),
        ("lora", {"layers": "last:1"}, "tiny-encoder", "classification", "cpu"),
    ],
)
def test_a_plan_is_what_it_is_where_each_row_is_done(
    monkeypatch: pytest.MonkeyPatch, strategy: str, fields: dict[str, Any], backbone: str, kind: str, device: str
) -> None:
    setting = setting_of(backbone, make(strategy, fields), kind=kind, device=device, accumulation=2)
    found = Planner(setting).memory(20, 33)
    for name in ROW_BY_ROW:
        monkeypatch.setattr(Alike, name, getattr(Memo, name))
    assert found == Planner(setting).memory(20, 33)


@pytest.mark.parametrize(("strategy", "fields"), [("head", {}), ("lora", {"layers": "last:1"})])
@pytest.mark.parametrize("kind", ["classification", "ner"])
def test_more_rows_take_no_more_operations(
    monkeypatch: pytest.MonkeyPatch, strategy: str, fields: dict[str, Any], kind: str
) -> None:
    done: list[int] = []
    dispatch = Tracker.__torch_dispatch__

    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        done[-1] += 1
        return dispatch(self, *args, **kwargs)

    monkeypatch.setattr(Tracker, "__torch_dispatch__", counted)
    planner = Planner(setting_of("tiny-encoder", make(strategy, fields), kind=kind, device="cpu"))
    for rows in (2, 50):
        done.append(0)
        planner.memory(rows, 16)
    assert done[0] == done[1] > 0
