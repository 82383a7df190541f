"""Softmax of low precision in float32: what torch's does, more exactly."""

from __future__ import annotations

import pytest
import torch
import transformers
from torch import nn
from torch.nn import functional as F

from adapt.backbones.kernels import planned_for
from adapt.spec import Budget
from adapt.training import predict
from adapt.training import softmax as subject
from adapt.training.on_cpu import faster_on_cpu
from adapt.training.softmax import softmax


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("at_once", [2**18, 40])
def test_it_is_that_of_float32_rounded_once(
    dtype: torch.dtype, turned: bool, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "_AT_ONCE", at_once)
    given = (3 * torch.randn(4, 3, 5, 17)).to(dtype)
    given[0, 0, 0, 3:] = float("-inf")
    x = given.transpose(0, 2) if turned else given
    x.requires_grad_()
    found, wanted = softmax(x, dim=-1), F.softmax(x.float(), -1)
    assert found.dtype == dtype
    assert torch.equal(found, wanted.to(dtype))
    weights = torch.randn(found.shape).to(dtype)
    (gradient,) = torch.autograd.grad((found * weights).sum(), x)
    (expected,) = torch.autograd.grad((wanted * weights.float()).sum(), x)
    assert gradient.dtype == dtype
    torch.testing.assert_close(gradient.float(), expected.float(), rtol=0.02, atol=0.004)


def test_gradients_are_those_of_softmax() -> None:
    """In numbers of which all steps are exact: as near as float32 comes to float64."""
    x = torch.tensor([[0.0, 1.0, -2.0], [0.5, 0.5, 4.0]], dtype=torch.bfloat16, requires_grad=True)
    (found,) = torch.autograd.grad(softmax(x, -1)[:, 0].sum(), x)
    p = F.softmax(x.double(), -1)
    expected = p[:, :1] * (torch.eye(3)[:1] - p)
    torch.testing.assert_close(found.double(), expected.detach(), rtol=0.02, atol=1e-4)


@pytest.mark.parametrize(
    ("x", "options"),
    [
        (torch.randn(3, 4), {"dim": -1}),
        (torch.randn(3, 4).bfloat16(), {"dim": 0}),
        (torch.randn(3, 4).bfloat16(), {"dim": -1, "dtype": torch.float32}),
        (torch.randn(3, 0).bfloat16(), {"dim": -1}),
        (torch.tensor(2.0).bfloat16(), {"dim": -1}),
    ],
)
def test_all_else_is_torchs(x: torch.Tensor, options: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "_InFloat32", None)
    found = softmax(x, **options)
    assert torch.equal(found, F.softmax(x, **options))
    assert found.dtype == options.get("dtype", x.dtype)
    with planned_for("cuda"):
        assert softmax(torch.randn(2, 3).bfloat16(), dim=-1).dtype == torch.bfloat16


def test_it_is_in_force_within_a_step_alone() -> None:
    before, x = F.softmax, torch.randn(6, 11).bfloat16()
    with faster_on_cpu():
        assert F.softmax is softmax
        assert torch.equal(nn.Softmax(-1)(x), F.softmax(x.float(), -1).bfloat16())
    assert F.softmax is before


def test_predictions_use_it() -> None:
    class Kind:
        def collate(self, rows: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
            return {"input_ids": torch.tensor([row["input_ids"] for row in rows])}

        def outputs(self, model: nn.Module, batch: dict[str, torch.Tensor], *, final: bool) -> list[bool]:
            return [F.softmax is softmax for _ in batch["input_ids"]]

    rows = [{"input_ids": [1, 2]}] * 3
    assert predict(nn.Identity(), Kind(), rows, Budget(device="cpu")) == [True] * 3  # type: ignore[arg-type]


def test_what_is_held_in_float32_stays_small() -> None:
    from adapt.memory.tracker import Tracker

    x = nn.Parameter(torch.randn(3000, 512).bfloat16())
    optimizer = torch.optim.SGD([x], lr=0.1)
    with Tracker(nn.ParameterList([x]), optimizer) as tracker:
        tracker.restart()
        softmax(x, -1).sum().backward()
    temporary = max(memory.temporary for memory in tracker.segments().values())
    assert temporary < 4 * 4 * 2**18 + 2 * x.nbytes


def test_under_autocast_scores_in_float32_become_weights_in_its_dtype_at_once() -> None:
    x = torch.randn(2, 3, 5, 7, requires_grad=True)
    weights = torch.randn(2, 3, 5, 7)
    with torch.autocast("cpu", torch.bfloat16):
        found = softmax(x, dim=-1)
        assert softmax(x[0], dim=-1).dtype == softmax(x, dim=-1, dtype=torch.float32).dtype == torch.float32
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, F.softmax(x, -1).bfloat16())
    (gradient,) = torch.autograd.grad((found * weights.bfloat16()).sum(), x)
    (expected,) = torch.autograd.grad((F.softmax(x, -1) * weights).sum(), x)
    assert gradient.dtype == torch.float32
    torch.testing.assert_close(gradient, expected, rtol=0.02, atol=0.004)


def test_dropout_of_weights_holds_no_mask_beside_them() -> None:
    x = torch.randn(2, 3, 40, 50).bfloat16().requires_grad_()
    held: list[torch.Tensor] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        held.append(tensor)
        return tensor

    with faster_on_cpu(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        weights = F.softmax(x, dim=-1)
        found = F.dropout(weights, 0.25)
    assert {tensor.data_ptr() for tensor in held} == {weights.data_ptr(), found.data_ptr()}
    dropped = found == 0
    assert 0.2 < dropped.double().mean() < 0.3
    given = torch.randn(found.shape).bfloat16()
    (gradient,) = torch.autograd.grad(found, weights, given)
    assert torch.equal(gradient, torch.where(dropped, 0.0, given * torch.tensor(4 / 3).bfloat16()))


def test_attention_of_gpt2_that_insists_on_float32_is_left_alone() -> None:
    """Which checks the dtype that torch's softmax gives; others are ours again after it."""
    sizes = {"n_layer": 2, "n_head": 2, "n_embd": 16, "vocab_size": 30, "n_positions": 16}
    config = transformers.GPT2Config(**sizes, reorder_and_upcast_attn=True, attn_implementation="eager")
    model = transformers.GPT2LMHeadModel(config).eval()
    ids = torch.randint(30, (3, 9))
    with torch.autocast("cpu", torch.bfloat16):
        wanted = model(ids).logits
        with faster_on_cpu():
            found = model(ids).logits
            assert F.softmax is softmax
    assert torch.equal(found, wanted)
    assert F.softmax is subject.torch_softmax
