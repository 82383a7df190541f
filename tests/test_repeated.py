"""Fake tensors that remember what operations came to: as torch's own are, whether they were asked before or not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.nn import functional as F

from adapt.memory import repeated, trace
from adapt.memory.planner import setting_of
from adapt.memory.repeated import Repeated


@pytest.fixture
def mode(monkeypatch: pytest.MonkeyPatch) -> Repeated:
    """A mode that remembers nothing yet."""
    monkeypatch.setattr(repeated, "_known", {})
    return Repeated()


def looks(made: Any) -> list[Any]:
    """What is to be the same, of one result or several."""
    several = made if isinstance(made, list | tuple) else [made]
    return [(t.shape, t.stride(), t.dtype, t.storage_offset(), t.untyped_storage().nbytes(), t.device) for t in several]


@pytest.mark.parametrize(
    ("backbone", "kind", "strategy"), [("decoder", "causal_lm", "full"), ("encoder", "mlm", "head")]
)
def test_a_step_is_what_it_is_with_torchs_own(
    backbone: str, kind: str, strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = setting_of(f"tiny-{backbone}", strategy, kind=kind, device="cuda", precision="bf16")

    def planned() -> Any:
        return trace.Trace(setting, setting.shape.config, 24).run(3, 24)

    found = planned()
    assert planned() == found
    monkeypatch.setattr(trace, "Repeated", FakeTensorMode)
    assert planned() == found


def test_no_more_is_remembered_than_is_said(mode: Repeated, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeated, "_MOST", 3)
    with mode:
        for width in range(1, 9):
            assert torch.ones(2, width).t().shape == (width, 2)
            assert 0 < len(repeated._known) <= 3


OPERATIONS: list[Callable[[torch.Tensor], Any]] = [
    lambda x: x @ x.t(),
    lambda x: x[1:, ::2],
    lambda x: x.expand(2, 6, 6),
    lambda x: x.split(2),
    lambda x: x.to(torch.bfloat16),
    lambda x: torch.native_layer_norm(x, [6], None, None, 1e-5),
    lambda x: torch._foreach_mul([x, x[0]], 2.0),
    lambda x: F.softmax(x, -1, dtype=torch.float64),
    *(lambda x, dtype=dtype: x.to(dtype) + 1 for dtype in (torch.float32, torch.int64)),
    *(lambda x, number=number: x.long() + number for number in (1, 1.0, True)),
    *(lambda x, number=number: torch.full((2,), number) for number in (1, 1.0, True)),
]


def test_operations_give_the_same_again(mode: Repeated) -> None:
    with FakeTensorMode():
        expected = [operation(torch.empty(6, 6)) for operation in OPERATIONS]
    with mode:
        for _ in range(2):
            for operation, one in zip(OPERATIONS, expected, strict=True):
                made = operation(torch.empty(6, 6))
                assert looks(made) == looks(one)
                assert type(made) is type(one)


def test_a_view_is_one_of_what_it_is_taken_from_and_a_change_in_place_is_in_place(mode: Repeated) -> None:
    with mode:
        for _ in range(2):
            x = torch.empty(4, 4)
            assert x[1:].untyped_storage()._cdata == x.untyped_storage()._cdata
            assert (x + 1).untyped_storage()._cdata != x.untyped_storage()._cdata
            assert x.mul_(2) is x


def test_what_changes_the_shape_of_a_tensor_is_done_each_time(mode: Repeated) -> None:
    with mode:
        for _ in range(2):
            x = torch.empty(2, 3)
            x.t_()
            assert x.shape == (3, 2)
            x.resize_(4, 4)
            assert x.shape == (4, 4)
            out = torch.empty(0)
            torch.add(torch.empty(5), 1, out=out)
            assert out.shape == (5,)


def test_what_depends_on_contents_is_known_of_numbers_alone(mode: Repeated) -> None:
    with mode:
        assert [(torch.tensor(number) + 1).item() for number in (3, 4, 3)] == [4, 5, 4]
        for _ in range(2):
            with pytest.raises(DataDependentOutputException):
                torch.empty(()).item()


def test_the_default_dtype_counts(mode: Repeated) -> None:
    with mode:
        assert (torch.empty(2, dtype=torch.long) / 2).dtype == torch.float32
        torch.set_default_dtype(torch.bfloat16)
        try:
            assert (torch.empty(2, dtype=torch.long) / 2).dtype == torch.bfloat16
        finally:
            torch.set_default_dtype(torch.float32)


def test_what_was_done_before_is_not_done_again(mode: Repeated, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[Any] = []
    dispatch = mode.dispatch
    monkeypatch.setattr(mode, "dispatch", lambda func, *rest: done.append(func) or dispatch(func, *rest))
    with mode:
        x = torch.empty(3, 3)
        for _ in range(4):
            (x + 1).view(9).mul_(2)
    assert len(set(done)) == len(done)
