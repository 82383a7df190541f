"""Bottleneck adapters: where they are, and what they compute, against the papers written out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from strategy_helpers import Build, logits, randomise
from torch import nn
from torch.nn import functional as F

from adapt.backbones.families import FAMILIES
from adapt.spec import OptionError, Unsupported
from adapt.strategies import BottleneckAdapter
from adapt.strategies.bottleneck_layer import Adapted

SHARED = "encoder.albert_layer_groups.0.albert_layers.0."
SITES = {
    "bert": ("encoder.layer.{}.attention.output.dense", "encoder.layer.{}.output.dense"),
    "roberta": ("encoder.layer.{}.attention.output.dense", "encoder.layer.{}.output.dense"),
    "electra": ("encoder.layer.{}.attention.output.dense", "encoder.layer.{}.output.dense"),
    "deberta-v2": ("encoder.layer.{}.attention.output.dense", "encoder.layer.{}.output.dense"),
    "distilbert": ("transformer.layer.{}.attention.out_lin", "transformer.layer.{}.ffn.lin2"),
    "modernbert": ("layers.{}.attn.Wo", "layers.{}.mlp.Wo"),
    "albert": (f"{SHARED}attention.dense", f"{SHARED}ffn_output"),
    "gpt2": ("h.{}.attn.c_proj", "h.{}.mlp.c_proj"),
    "llama": ("layers.{}.self_attn.o_proj", "layers.{}.mlp.down_proj"),
    "qwen3": ("layers.{}.self_attn.o_proj", "layers.{}.mlp.down_proj"),
}
"""Ends of the attention and of the feed-forward block in each layer."""
BOTH_SIDES = {
    "t5": (
        ("encoder.block.{}.layer.0.SelfAttention.o", "decoder.block.{}.layer.0.SelfAttention.o",
         "decoder.block.{}.layer.1.EncDecAttention.o"),
        ("encoder.block.{}.layer.1.DenseReluDense.wo", "decoder.block.{}.layer.2.DenseReluDense.wo"),
    ),
    "bart": (
        ("encoder.layers.{}.self_attn.out_proj", "decoder.layers.{}.self_attn.out_proj",
         "decoder.layers.{}.encoder_attn.out_proj"),
        ("encoder.layers.{}.fc2", "decoder.layers.{}.fc2"),
    ),
}  # fmt: skip
"""The same in encoder-decoders."""


def sites(architecture: str, kind: str) -> tuple[set[str], set[str]]:
    attention, output = BOTH_SIDES.get(architecture) or tuple((site,) for site in SITES[architecture])
    parts = tuple({s.format(i) for s in each for i in range(tiny.LAYERS)} for each in (attention, output))
    if architecture == "t5" and kind == "token_classification":  # of its encoder alone
        parts = tuple({name for name in each if name.startswith("encoder.")} for each in parts)
    return parts[0], parts[1]


@pytest.mark.parametrize(("kind", "architecture"), tiny.BODIES)
@pytest.mark.parametrize("placement", ["houlsby", "pfeiffer"])
def test_adapters_are_at_the_right_modules(
    backbone: Callable[..., Path], kind: str, architecture: str, placement: Any
) -> None:
    load = tiny.loader_for(backbone(architecture), kind)
    model = BottleneckAdapter(placement=placement, reduction_factor=8).build(load, load.task)
    found = {name for name, module in model.base_model.named_modules() if isinstance(module, Adapted)}
    attention, output = sites(architecture, kind)
    assert found == (output | attention if placement == "houlsby" else output)


def test_adapters_in_some_layers_only_are_refused(
    backbone: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    load = tiny.loader_for(backbone("t5"), "seq2seq")
    family = FAMILIES["t5"]
    monkeypatch.setitem(FAMILIES, "t5", dataclasses.replace(family, attention_outputs=("SelfAttention.o",)))
    with pytest.raises(Unsupported, match=r"the outputs of 4 of 6 attentions of 't5' were found"):
        BottleneckAdapter().build(load, load.task)
    monkeypatch.setitem(FAMILIES, "t5", dataclasses.replace(family, feed_forward_outputs=("nowhere",)))
    with pytest.raises(Unsupported, match=r"the outputs of 0 of 4 feed-forward blocks of 't5' were found"):
        BottleneckAdapter().build(load, load.task)


def test_an_adapter_enters_before_the_residual_sum(build: Build, batch: dict[str, torch.Tensor]) -> None:
    """One BERT layer, from its parts: adapter(projection) + input, then the norm (Houlsby et al., figure 2)."""
    model = randomise(build(BottleneckAdapter(reduction_factor=8))).eval()
    layer: Any = model.base_model.encoder.layer[0]
    seen: dict[str, Any] = {}
    layer.register_forward_hook(lambda m, a, out: seen.update(x=a[0], y=out[0] if isinstance(out, tuple) else out))
    layer.attention.self.register_forward_hook(lambda m, a, out: seen.update(context=out[0]))
    logits(model, batch)

    def adapted(module: Adapted, x: torch.Tensor) -> torch.Tensor:
        h = x @ module.projection.weight.T + module.projection.bias
        inner = torch.relu(h @ module.down.weight.T + module.down.bias)
        return h + inner @ module.up.weight.T + module.up.bias

    with torch.no_grad():
        norm = layer.attention.output.LayerNorm
        middle = F.layer_norm(adapted(layer.attention.output.dense, seen["context"]) + seen["x"], (tiny.HIDDEN,),
                              norm.weight, norm.bias, norm.eps)  # fmt: skip
        norm, first = layer.output.LayerNorm, layer.intermediate.dense
        inner = F.gelu(middle @ first.weight.T + first.bias)
        out = F.layer_norm(
            adapted(layer.output.dense, inner) + middle, (tiny.HIDDEN,), norm.weight, norm.bias, norm.eps
        )
    torch.testing.assert_close(seen["y"], out, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "function"),
    [("relu", F.relu), ("gelu", F.gelu), ("silu", F.silu), ("tanh", torch.tanh)],
)
def test_the_non_linearity_is_the_one_named(name: str, function: Callable[..., torch.Tensor]) -> None:
    module = randomise(Adapted(nn.Linear(6, 8).requires_grad_(False), 3, name))
    x = torch.randn(4, 6)
    h = module.projection(x)
    torch.testing.assert_close(module(x), h + module.up(function(module.down(h))))
    module.enabled = False
    assert torch.equal(module(x), h)


@pytest.mark.parametrize(("factor", "size"), [(1, 32), (4, 8), (5, 6), (32, 1)])
def test_the_bottleneck_is_the_hidden_size_over_the_factor(build: Build, factor: float, size: int) -> None:
    model = build(BottleneckAdapter(reduction_factor=factor))
    assert {m.down.out_features for m in model.modules() if isinstance(m, Adapted)} == {size}


@pytest.mark.parametrize("factor", [0, -1, 100])
def test_a_factor_that_leaves_no_bottleneck_is_refused(build: Build, factor: float) -> None:
    with pytest.raises(OptionError, match=r"reduction_factor is .*from 1 to 32"):
        build(BottleneckAdapter(reduction_factor=factor))
