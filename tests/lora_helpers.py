"""A LoRA layer of PEFT and ours with the same weights, and what a layer gives."""

from __future__ import annotations

import copy
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora.layer import Linear
from torch import nn
from transformers.pytorch_utils import Conv1D

from adapt.strategies.lora_layer import LoRALinear

IN, OUT, RANK = 24, 40, 4


def layers(kind: str = "linear", *, bias: bool = True, **options: Any) -> tuple[nn.Module, nn.Module]:
    """PEFT's layer and ours with the same weights, B not zero."""
    torch.manual_seed(0)
    base: nn.Module = nn.Linear(IN, OUT, bias=bias) if kind == "linear" else Conv1D(OUT, IN)
    base.requires_grad_(False)
    made = []
    for ours in (False, True):
        config = LoraConfig(
            r=RANK, lora_alpha=2 * RANK + 1, target_modules=["0"], fan_in_fan_out=kind != "linear", **options
        )
        if ours:
            config._register_custom_module(dict.fromkeys((nn.Linear, Conv1D), LoRALinear))
        made.append(inject_adapter_in_model(config, nn.Sequential(copy.deepcopy(base)))[0])
    peft, ours = made
    nn.init.normal_(peft.lora_B["default"].weight, std=0.1)
    ours.load_state_dict(peft.state_dict())
    assert type(peft) is Linear
    assert type(ours) is LoRALinear
    return peft, ours


def outcome(layer: nn.Module, x: torch.Tensor, *, autocast: bool = False) -> dict[str, torch.Tensor]:
    """The output, and the gradients of a sum of its weighted elements."""
    x = x.clone().requires_grad_()
    layer.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        y = layer(x)
    (y.float() * torch.linspace(-1, 1, y.numel()).view_as(y)).sum().backward()
    grads = {name: p.grad.clone() for name, p in layer.named_parameters() if p.grad is not None}
    assert x.grad is not None
    return {"y": y.detach(), "x": x.grad, **grads}
