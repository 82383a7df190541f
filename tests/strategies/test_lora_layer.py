"""The fused LoRA layer against PEFT's own: the same numbers, fewer products."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from lora_helpers import IN, OUT, RANK, layers, outcome
from peft import LoraConfig
from peft.tuners.lora.layer import Linear
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from adapt.adapted import assemble
from adapt.backbones import Loader
from adapt.backbones.kernels import planned_for
from adapt.data import Data
from adapt.strategies import lora_layer
from adapt.strategies.lora_layer import LoRALinear, _formed

ROWS = (3, 5)


@pytest.mark.parametrize("options", [{}, {"use_rslora": True}], ids=["plain", "rslora"])
@pytest.mark.parametrize(("kind", "bias"), [("linear", True), ("linear", False), ("conv1d", True)])
@pytest.mark.parametrize(("kernels", "rows"), [("cpu", 3), ("cuda", 3), ("cuda", 80)])
def test_outputs_and_gradients_are_those_of_peft(
    kernels: str, rows: int, kind: str, bias: bool, options: dict[str, Any]
) -> None:
    peft, ours = layers(kind, bias=bias, **options)
    x = torch.randn(rows, 5, IN)
    expected = outcome(peft, x)
    with planned_for(kernels):  # the operations that a GPU is given are right on a CPU, too
        found = outcome(ours, x)
    assert found.keys() == expected.keys() >= {"lora_A.default.weight", "lora_B.default.weight"}
    for name, value in expected.items():
        torch.testing.assert_close(
            found[name],
            value,
            rtol=1e-5,
            atol=1e-4 if rows > 3 else 1e-5,
            msg=lambda text, name=name: f"{name}: {text}",
        )


@pytest.mark.parametrize(("kernels", "rows"), [("cpu", 64), ("cuda", 2), ("cuda", 64)])
def test_in_bf16_it_is_as_near_to_float32_as_pefts_is(kernels: str, rows: int) -> None:
    peft, ours = layers()
    x = torch.randn(rows, 7, IN)
    exact = outcome(peft, x)
    errors = []
    for layer in (peft, ours):
        layer.get_base_layer().bfloat16()
        with planned_for(kernels):
            found = outcome(layer, x, autocast=True)
        errors.append({n: float((found[n].float() - v).norm() / v.norm()) for n, v in exact.items()})
        assert found["y"].dtype == torch.bfloat16
        assert found["lora_A.default.weight"].dtype == torch.float32
    for name, error in errors[1].items():
        assert error < max(1.5 * errors[0][name], 2**-9), name


def flops(layer: nn.Module, x: torch.Tensor) -> int:
    with FlopCounterMode(display=False) as counter:
        layer(x).sum().backward()
    return counter.get_total_flops()


def test_a_step_costs_two_products_and_two_thin_ones() -> None:
    peft, ours = layers()
    rows = 100
    whole, thin = 2 * rows * IN * OUT, 2 * rows * RANK * (IN + OUT)
    formed = 2 * IN * OUT * RANK
    x = torch.randn(rows, IN, requires_grad=True)
    assert flops(ours, x) == 2 * whole + 2 * thin + 2 * formed
    assert flops(peft, x) == 2 * whole + 3 * thin


def test_nothing_but_the_input_and_the_weights_is_kept_for_the_backward_pass() -> None:
    _, ours = layers()
    kept: list[int] = []

    def keep(value: torch.Tensor) -> torch.Tensor:
        kept.append(value.untyped_storage().data_ptr())
        return value

    x = torch.randn(6, IN, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        ours(x)
    own = {value.untyped_storage().data_ptr() for value in (x, *ours.parameters())}
    assert set(kept) <= own


@pytest.mark.parametrize("why", ["dropout", "dora", "disabled", "merged", "two"])
def test_what_cannot_be_fused_is_left_to_peft(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"dropout": {"lora_dropout": 0.5}, "dora": {"use_dora": True}}.get(why, {})
    peft, ours = layers(**options)
    for layer in (peft, ours):
        if why == "disabled":
            layer.enable_adapters(False)
        elif why == "merged":
            layer.merge()
        elif why == "two":
            layer.update_layer("other", RANK, lora_alpha=1, config=LoraConfig(r=RANK))
            layer.set_adapter(["default", "other"])
    x = torch.randn(*ROWS, IN)
    calls: list[str] = []
    forward = Linear.forward
    monkeypatch.setattr(Linear, "forward", lambda self, *a, **k: (calls.append(why), forward(self, *a, **k))[1])
    torch.manual_seed(1)
    found = ours(x)
    assert calls == [why]
    torch.manual_seed(1)
    torch.testing.assert_close(found, peft(x), rtol=0, atol=0)
    if why == "dropout":  # there is none in evaluation
        calls.clear()
        torch.testing.assert_close(ours.eval()(x), peft.eval()(x))
        assert calls == [why]  # that of PEFT's layer alone


@pytest.mark.parametrize("architecture", ["bert", "gpt2", "llama"])
def test_a_text_is_written_without_forming_the_weights(
    backbone: Callable[..., Path], task_data: Callable[[str], Data], architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few rows at a time, whose outputs are the same either way."""
    spec, _, source = assemble(
        backbone(architecture), task_data("single_label"), tiny.STRATEGIES["lora"], device="cpu", precision="fp32"
    )
    model = tiny.moved(spec.strategy.build(Loader(source, spec.task, spec.budget, 0), spec.task), 0.1).eval()
    layer = next(m for m in model.modules() if isinstance(m, LoRALinear))
    formed: list[int] = []
    monkeypatch.setattr(lora_layer, "_formed", lambda *args: [formed.append(1), _formed(*args)][1])
    few, many = torch.randn(3, layer.in_features), torch.randn(64, layer.in_features)
    with torch.no_grad():
        written = layer(few)
        assert not formed
        layer(many)
        assert len(formed) == 1
    torch.testing.assert_close(layer(few), written, rtol=1e-4, atol=1e-5)
    assert len(formed) == 2


@pytest.mark.parametrize("architecture", ["bert", "llama"])
def test_lora_in_bfloat16_also_runs_outside_autocast(
    backbone: Callable[..., Path], task_data: Callable[[str], Data], architecture: str
) -> None:
    spec, _, source = assemble(
        backbone(architecture), task_data("single_label"), tiny.STRATEGIES["lora"], device="cpu", precision="bf16",
        pooling="mean" if architecture == "bert" else "native",
    )  # fmt: skip
    model = tiny.moved(spec.strategy.build(Loader(source, spec.task, spec.budget, 0), spec.task), 0.1).eval()
    base, ids = model.base_model, torch.arange(8)[None]
    with torch.no_grad():
        outside = base(input_ids=ids)[0]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            within = base(input_ids=ids)[0]
    torch.testing.assert_close(outside.float(), within.float(), rtol=0.1, atol=0.1)
