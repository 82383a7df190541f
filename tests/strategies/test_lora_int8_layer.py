"""LoRA beside 8-bit weights on the CPU against PEFT's layer: the same numbers, fewer products."""

from __future__ import annotations

import copy
from typing import Any

import needed
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

needed.package("bitsandbytes")

import bitsandbytes  # noqa: E402
from lora_helpers import outcome  # noqa: E402
from peft import LoraConfig, inject_adapter_in_model  # noqa: E402
from peft.tuners.lora.bnb import Linear8bitLt  # noqa: E402

from adapt.backbones.kernels import planned_for  # noqa: E402
from adapt.strategies.lora_int8_layer import LoRALinear8bit, fuse_8_bit  # noqa: E402

IN, OUT, RANK = 24, 40, 4


def layers(*, bias: bool = True, **options: Any) -> tuple[nn.Module, nn.Module]:
    """PEFT's layer and ours with the same 8-bit weights, B not zero."""
    torch.manual_seed(0)
    plain = nn.Linear(IN, OUT, bias=bias)
    base = bitsandbytes.nn.Linear8bitLt(IN, OUT, bias=bias, has_fp16_weights=False, threshold=6.0)
    base.load_state_dict(plain.state_dict())
    base = base.to("cpu").requires_grad_(False)
    base(torch.zeros(1, IN, dtype=torch.float16))  # quantises
    model = nn.Sequential(base)
    model.is_loaded_in_8bit = True  # type: ignore[assignment]
    config = LoraConfig(r=RANK, lora_alpha=2 * RANK + 1, target_modules=["0"], **options)
    peft = inject_adapter_in_model(config, model)[0]
    nn.init.normal_(peft.lora_B["default"].weight, std=0.1)
    ours = copy.deepcopy(nn.Sequential(peft))
    fuse_8_bit(ours)
    assert type(peft) is Linear8bitLt
    assert type(ours[0]) is LoRALinear8bit
    return peft.train(), ours[0].train()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("options", [{}, {"use_rslora": True}], ids=["plain", "rslora"])
@pytest.mark.parametrize("at_once", [2**18, 7 * IN + 1, 1])
def test_outputs_and_gradients_are_those_of_peft(
    bias: bool, options: dict[str, Any], at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapt.strategies.lora_layer._AT_ONCE", at_once)
    peft, ours = layers(bias=bias, **options)
    x = torch.randn(3, 5, IN)
    expected, found = outcome(peft, x), outcome(ours, x)
    assert found.keys() == expected.keys() >= {"lora_A.default.weight", "lora_B.default.weight"}
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-5)


def test_in_bf16_it_is_as_near_to_float32_as_pefts_is() -> None:
    peft, ours = layers()
    x = torch.randn(64, 7, IN)
    exact = outcome(peft, x)
    errors = [
        {n: float((found[n].float() - v).norm() / v.norm()) for n, v in exact.items()}
        for found in (outcome(layer, x, autocast=True) for layer in (peft, ours))
    ]
    for name, error in errors[1].items():
        assert error < max(1.5 * errors[0][name], 2**-8), name


def test_a_step_costs_two_products_and_two_thin_ones() -> None:
    peft, ours = layers()
    rows = 100
    x = torch.randn(rows, IN, requires_grad=True)
    whole, thin = 2 * rows * IN * OUT, 2 * rows * RANK * (IN + OUT)

    def flops(layer: nn.Module) -> int:
        with FlopCounterMode(display=False) as counter:
            layer(x).sum().backward()
        return counter.get_total_flops()

    assert flops(ours) == 2 * whole + 2 * thin  # the counter does not know addmm_, which forms the weights
    assert flops(peft) == 2 * whole + 3 * thin


@pytest.mark.parametrize("why", ["evaluation", "cuda", "disabled", "dropout"])
def test_what_cannot_be_fused_is_left_to_peft(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _, ours = layers(**({"lora_dropout": 0.5} if why == "dropout" else {}))
    calls: list[str] = []
    forward = Linear8bitLt.forward
    monkeypatch.setattr(Linear8bitLt, "forward", lambda self, *a, **k: (calls.append(why), forward(self, *a, **k))[1])
    x = torch.randn(3, IN)
    ours(x)
    assert not calls or why == "dropout"
    calls.clear()
    if why == "evaluation":
        ours.eval()
    elif why == "disabled":
        ours.enable_adapters(False)
    with planned_for("cuda" if why == "cuda" else "cpu"):
        ours(x)
    assert calls == [why]
