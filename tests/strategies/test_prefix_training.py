"""Training a prefix: its gradients on every architecture, also when recomputed and in bfloat16, and its dropout."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import transformers
from prefix_helpers import (
    CONFIGS,
    HEADS,
    HIDDEN,
    LAYERS,
    SIZE,
    TOKENS,
    batch,
    gated_or_not,
    make,
    on_architectures_and_kernels,
    on_kernels,
    outputs,
    prefixed,
)
from strategy_helpers import prefixes
from torch import nn
from torch.utils.checkpoint import checkpoint

from adapt.strategies.prefix_attention import attach

NUMBERS = {
    **dict.fromkeys(CONFIGS, LAYERS * 2 * HEADS * SIZE * TOKENS),
    "albert": 2 * HEADS * SIZE * TOKENS,  # its layers share one attention module
    "llama": LAYERS * 2 * 2 * SIZE * TOKENS,
    "qwen3": LAYERS * 2 * 2 * 12 * TOKENS,
    "qwen3-window": LAYERS * 2 * 2 * 12 * TOKENS,
    "t5": (3 + 2 * LAYERS) * 2 * HEADS * SIZE * TOKENS,
    "bart": (3 + 2 * LAYERS) * 2 * HIDDEN * TOKENS,  # four heads of 8, two of 16
}
"""Trainable numbers in a prefix: modules x 2 x key-value heads x head size x tokens."""
MODULES = {**dict.fromkeys(CONFIGS, LAYERS), "albert": 1, "t5": 3 + 2 * LAYERS, "bart": 3 + 2 * LAYERS}
"""Attention modules, each of which has a gate a key-value head."""
KV_HEADS = {**dict.fromkeys(CONFIGS, HEADS), **dict.fromkeys(("llama", "qwen3", "qwen3-window"), 2)}
GATES = {**{name: MODULES[name] * KV_HEADS[name] for name in CONFIGS}, "bart": 3 * HEADS + 2 * LAYERS * 2}


def gradients(model: Any, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    model.train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name in ("dropout", "attention_dropout", "activation_dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
    model.zero_grad()
    out = model(**inputs, use_cache=False)[0] if hasattr(model.config, "use_cache") else model(**inputs)[0]
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(4))
    (
        out.float() * weights * inputs.get("decoder_input_ids", inputs["attention_mask"]).clamp(max=1)[..., None]
    ).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}


def recompute(model: Any) -> None:
    options = {"use_reentrant": False}
    if isinstance(model, transformers.AlbertModel):  # which transformers does not recompute; its layers are shared
        for layer in model.encoder.albert_layer_groups[0].albert_layers:
            layer.forward = partial(checkpoint, layer.forward, **options)
    elif hasattr(model, "activation_checkpointing_enable"):  # its name in newer versions of transformers
        model.activation_checkpointing_enable(activation_checkpointing_kwargs=options)
    else:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=options)


@gated_or_not
@on_architectures_and_kernels
def test_gradients_reach_all_and_are_the_same_when_recomputed(architecture: str, kernel: str, gated: bool) -> None:
    model, inputs = prefixed(architecture, kernel, gated=gated), batch(architecture)
    trainable = {name: p.numel() for name, p in model.named_parameters() if p.requires_grad}
    assert all(name.endswith((".prefix.keys", ".prefix.values", ".prefix.gate")) for name in trainable)
    assert sum(trainable.values()) == NUMBERS[architecture] + gated * GATES[architecture]
    expected = gradients(model, inputs)
    assert expected.keys() == trainable.keys()
    assert all(bool((grad != 0).all()) for grad in expected.values())
    recompute(model)
    found = gradients(model, inputs)
    for name, grad in found.items():
        torch.testing.assert_close(grad, expected[name], rtol=1e-4, atol=1e-4 * float(expected[name].abs().max()))


@on_architectures_and_kernels
def test_frozen_bf16_weights_under_autocast(architecture: str, kernel: str) -> None:
    whole = prefixed(architecture, kernel)
    inputs = batch(architecture)
    model = make(architecture, kernel).bfloat16()
    for own, other in zip(attach(model, TOKENS), prefixes(whole), strict=True):
        assert own.keys.dtype == torch.float32
        own.load_state_dict(other.state_dict())
    expected = gradients(whole, inputs)
    with torch.autocast("cpu", torch.bfloat16):
        found = gradients(model, inputs)
    for name, grad in found.items():
        assert torch.nn.functional.cosine_similarity(grad.flatten(), expected[name].flatten(), 0) > 0.98, name


@on_architectures_and_kernels
def test_behind_a_shut_gate_the_model_is_its_base_and_the_gate_has_a_gradient(architecture: str, kernel: str) -> None:
    inputs, model = batch(architecture), make(architecture, kernel)
    base = outputs(model, inputs)
    own = attach(model, TOKENS, gated=True)
    assert torch.equal(outputs(model, inputs), base)
    found = gradients(model, inputs)
    gates = [p.gate for p in own if p.gate is not None]
    assert len(gates) == MODULES[architecture]
    assert all(bool((found[n] != 0).all()) for n in found if n.endswith(".gate"))
    assert all(bool((found[n] == 0).all()) for n in found if not n.endswith(".gate"))


@gated_or_not
def test_dropout_falls_on_the_prefix_too(gated: bool) -> None:
    """In disentangled attention, whose host draws the mask."""
    model, inputs = prefixed("deberta-v2", gated=gated).train(), batch("deberta-v2")
    layer = model.encoder.layer[0].attention.self
    layer.dropout.p = 1.0
    seen: list[torch.Tensor] = []
    layer.register_forward_hook(lambda module, args, out: seen.append(out[0]))
    outputs(model, inputs)
    assert seen[0].abs().max() == 0.0


@on_kernels
def test_dropout_falls_on_a_gated_prefix_too(kernel: str) -> None:
    model, inputs = prefixed("bert", kernel, gated=True), batch("bert")
    layer = model.encoder.layer[0].attention.self.train()
    layer.dropout.p = 1.0
    seen: list[torch.Tensor] = []
    layer.register_forward_hook(lambda module, args, out: seen.append(out[0]))
    outputs(model, inputs)
    assert seen[0].abs().max() == 0.0
