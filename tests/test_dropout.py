"""Dropout from few random bits: what torch's does, from other draws."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from adapt.backbones.kernels import planned_for
from adapt.memory.tracker import Tracker
from adapt.spec import Budget
from adapt.training import dropout as subject
from adapt.training.dropout import attention, dropout, random_bits
from adapt.training.on_cpu import faster_on_cpu
from adapt.training.step import accelerator_for, one_pass


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_elements_are_zero_with_probability_p_and_the_mean_is_kept(dtype: torch.dtype, p: float) -> None:
    found = dropout(torch.ones(1001, 203, dtype=dtype), p)

    assert found.dtype == dtype
    assert found.shape == (1001, 203)
    zeros = (found == 0).double().mean().item()
    assert zeros == pytest.approx(p, abs=5 * (p * (1 - p) / found.numel()) ** 0.5)
    left = found[found != 0].double()
    assert left.unique().tolist() == pytest.approx([1 / (1 - p)], rel=4e-3 if dtype == torch.bfloat16 else 1e-4)


@pytest.mark.parametrize("p", [2**-16, 0.1, 1 / 3, 0.5, 1 - 2**-16])
def test_of_all_that_may_be_drawn_the_nearest_share_is_dropped(p: float, monkeypatch: pytest.MonkeyPatch) -> None:
    every = torch.arange(-(2**15), 2**15, dtype=torch.int16).view(torch.int64)
    monkeypatch.setattr(subject, "random_bits", lambda count, device: every.clone())

    found = dropout(torch.ones(2**16, dtype=torch.float64), p)

    assert (found == 0).sum().item() == round(p * 2**16)
    assert found.mean().item() == pytest.approx(1, rel=1e-12)


def test_random_bits_are_those_of_splitmix64() -> None:
    """Written again after Steele et al. 2014, figure 16, in whole numbers; that generator adds before it mixes."""

    def published(state: int) -> int:
        z = state
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        return z ^ (z >> 31)

    torch.manual_seed(5)
    start = torch.empty((), dtype=torch.int64).random_(-(2**63), None).item()
    torch.manual_seed(5)
    found = random_bits(1000, torch.device("cpu"))
    assert [bits % 2**64 for bits in found.tolist()] == [
        published((start + i * 0x9E3779B97F4A7C15) % 2**64) for i in range(1000)
    ]
    assert not torch.equal(found, random_bits(1000, torch.device("cpu")))  # the next start is another


def test_each_bit_is_set_half_of_the_time() -> None:
    bits = random_bits(100_000, torch.device("cpu")).numpy().view("uint8")
    import numpy

    share = numpy.unpackbits(bits.reshape(-1, 8), axis=1).mean(0)
    assert abs(share - 0.5).max() < 5 * 0.5 / 100_000**0.5


def test_elements_are_dropped_independently() -> None:
    dropped = (dropout(torch.ones(200_000), 0.5) == 0).double() - 0.5
    for lag in (1, 2, 3, 4, 5, 8, 624, 1248):  # four share a draw
        correlation = 4 * (dropped[lag:] * dropped[:-lag]).mean().item()
        assert abs(correlation) < 5 / 200_000**0.5


def test_the_gradient_is_that_of_what_was_kept() -> None:
    x = torch.randn(7, 33, requires_grad=True)
    y = dropout(x, 0.3)
    y.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad * x, y)


def test_a_seed_decides_it_and_shapes_need_not_be_multiples() -> None:
    for shape in [(), (1,), (3,), (5, 7), (2, 3, 5)]:
        torch.manual_seed(3)
        first = dropout(torch.ones(shape), 0.5)
        torch.manual_seed(3)
        assert torch.equal(first, dropout(torch.ones(shape), 0.5))
    assert dropout(torch.ones(0, 4), 0.5).shape == (0, 4)
    strided = torch.randn(6, 4).T
    found = dropout(strided, 0.5)
    torch.testing.assert_close(found[found != 0], 2 * strided[found != 0])


@pytest.mark.parametrize("p", [0.0, 1e-9, 1.0])
def test_what_bits_do_not_say_is_torchs(p: float) -> None:
    x = torch.randn(50)
    assert torch.equal(dropout(x, p), F.dropout(x, p))
    assert torch.equal(dropout(x, 0.5, training=False), x)
    with pytest.raises(ValueError, match="between 0 and 1"):
        dropout(x, 1.5)


def test_in_place_it_is_in_place() -> None:
    x = torch.ones(1000)
    assert dropout(x, 0.5, True, True) is x
    assert (x == 0).any()


def test_it_is_in_force_within_a_step_alone() -> None:
    before = F.dropout, F.scaled_dot_product_attention
    with faster_on_cpu():
        torch.manual_seed(1)
        found = nn.Dropout(0.4)(torch.ones(40))
        torch.manual_seed(1)
        assert torch.equal(found, dropout(torch.ones(40), 0.4))
        with pytest.raises(ValueError, match="between"), faster_on_cpu():
            F.dropout(found, 2.0)
        assert F.dropout is dropout
    assert (F.dropout, F.scaled_dot_product_attention) == before


def test_threads_may_come_and_go() -> None:
    before = F.dropout
    first, second = faster_on_cpu(), faster_on_cpu()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert F.dropout is dropout
    second.__exit__(None, None, None)
    assert F.dropout is before


def test_for_other_devices_it_is_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "_Dropped", None)
    with planned_for("cuda"):
        assert dropout(torch.ones(8), 0.5).shape == (8,)
        assert attention(*(torch.randn(1, 2, 3, 4) for _ in range(3)), dropout_p=0.5).shape == (1, 2, 3, 4)


@pytest.mark.parametrize("mask", ["none", "boolean", "added", "causal"])
@pytest.mark.parametrize("groups", [1, 2])
def test_attention_is_torchs_but_for_what_is_dropped(mask: str, groups: int, monkeypatch: pytest.MonkeyPatch) -> None:
    query = torch.randn(2, 4, 5, 8, requires_grad=True)
    key, value = torch.randn(2, 4 // groups, 5, 8), torch.randn(2, 4 // groups, 5, 6)
    seen = torch.rand(2, 1, 5, 5) < 0.6
    seen[0, 0, 0] = False  # a query that sees nothing
    given = {
        "none": {},
        "boolean": {"attn_mask": seen},
        "added": {"attn_mask": torch.randn(2, 1, 5, 5)},
        "causal": {"is_causal": True},
    }[mask]
    monkeypatch.setattr(subject, "dropout", lambda weights, p: weights)

    found = attention(query, key, value, dropout_p=0.1, scale=0.3, enable_gqa=True, **given)
    wanted = F.scaled_dot_product_attention(query, key, value, scale=0.3, enable_gqa=True, **given)

    torch.testing.assert_close(found, wanted)
    gradients = [torch.autograd.grad(out.square().sum(), query)[0] for out in (found, wanted)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize(
    ("device", "autocast", "apart"), [("cuda", False, False), ("cuda", True, True), ("cpu", False, True)]
)
def test_heads_share_keys_only_where_torch_has_a_fused_kernel_for_it(
    device: str, autocast: bool, apart: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On CUDA it has none in float32, and would keep all weights; of what autocast makes bfloat16 it has one."""
    query, key = torch.randn(2, 4, 5, 8), torch.randn(2, 2, 5, 8)
    given = []

    def torchs(query: torch.Tensor, key: torch.Tensor, *rest: Any, enable_gqa: bool, **how: Any) -> torch.Tensor:
        given.append((key.shape[1], enable_gqa))
        return before(query, key, *rest, enable_gqa=enable_gqa, **how)

    before = subject._torch_attention
    monkeypatch.setattr(subject, "_torch_attention", torchs)
    with planned_for(device), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        found = attention(query, key, key, enable_gqa=True)
    assert given == [(2, True) if apart else (4, False)]
    wanted = F.scaled_dot_product_attention(query, key, key, enable_gqa=True)
    torch.testing.assert_close(found.float(), wanted, rtol=0.05, atol=0.05 if autocast else 1e-6)


@pytest.mark.parametrize("masked", [False, True])
def test_attention_in_low_precision_holds_nothing_in_float32(masked: bool) -> None:
    query, key, value = (torch.randn(2, 4, 16, 8, dtype=torch.bfloat16, requires_grad=True) for _ in range(3))
    held: list[torch.Tensor] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        held.append(tensor)
        return tensor

    mask = torch.ones(2, 1, 16, 16, dtype=torch.bool).tril() if masked else None
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        attention(query, key, value, attn_mask=mask, dropout_p=0.1).float().sum().backward()
    assert query.grad is not None
    assert {tensor.dtype for tensor in held} <= {torch.bfloat16, torch.bool}
    weights = {
        tensor.untyped_storage().data_ptr()
        for tensor in held
        if tensor.shape[-2:] == (16, 16) and tensor.dtype != torch.bool
    }
    assert len(weights) == 2  # before and after dropout


def test_attention_drops_weights() -> None:
    eye = torch.eye(64)[None, None]
    found = attention(torch.zeros(1, 1, 200, 64), eye, eye, dropout_p=0.25)  # the weights themselves
    assert (found == 0).double().mean().item() == pytest.approx(0.25, abs=0.02)
    assert found.mean().item() == pytest.approx(1 / 64, rel=0.03)


def test_without_dropout_attention_is_torchs() -> None:
    query, key, value = (torch.randn(1, 2, 3, 4) for _ in range(3))
    assert torch.equal(attention(query, key, value), F.scaled_dot_product_attention(query, key, value))


def test_a_step_of_training_uses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Kind:
        def loss(self, model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
            return model(batch["x"]).mean()

    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))
    budget = Budget(device="cpu", precision="fp32")
    accelerator, x = accelerator_for(budget), torch.ones(3, 4)
    torch.manual_seed(2)
    loss = one_pass(model, Kind(), accelerator, {"x": x}, 1.0)  # type: ignore[arg-type]
    torch.manual_seed(2)
    assert torch.equal(loss, dropout(model[0](x), 0.5).mean())


def test_it_holds_a_byte_an_element_for_the_backward_pass() -> None:
    peaks = []
    for function in (F.dropout, dropout):
        x = torch.nn.Parameter(torch.randn(512, 64))
        model = nn.ParameterList([x])
        optimizer = torch.optim.SGD([x], lr=0.1)
        with Tracker(model, optimizer) as tracker:
            tracker.restart()
            y = function(x, 0.1)
            y.sum().backward()
        peaks.append(max(memory.activations for memory in tracker.segments().values()))
        del y
    assert peaks[0] - peaks[1] == (4 - 1) * 512 * 64  # torch holds its factors
