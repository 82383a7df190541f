"""Bottleneck adapters: where they are, and what they compute, against the papers written out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matrix
import pytest
import test_contracts
import tiny
import torch
from made import Made
from matrix import Cell
from strategy_helpers import Build, logits, randomise
from torch import nn
from torch.nn import functional as F

from adapt.adapted import load_model
from adapt.backbones import Loader, resolve
from adapt.backbones.families import FAMILIES
from adapt.data import Data
from adapt.memory import measure
from adapt.memory.planner import Planner, setting_of
from adapt.memory.step import made_up
from adapt.spec import OptionError, Run, Unsupported
from adapt.strategies import BottleneckAdapter, disabled
from adapt.strategies.bottleneck_layer import Adapted, Bottleneck

PFEIFFER = BottleneckAdapter(placement="pfeiffer", reduction_factor=4)

SHARED = "encoder.albert_layer_groups.0.albert_layers.0."
ENDS = {
    **dict.fromkeys(("bert", "roberta", "electra", "deberta-v2"), "encoder.layer.{}.output.LayerNorm"),
    "distilbert": "transformer.layer.{}.output_layer_norm",
    "albert": f"{SHARED}full_layer_layer_norm",
    "bart": "{}coder.layers.{}.final_layer_norm",
    "modernbert": "layers.{}.bottleneck",
    "gpt2": "h.{}.bottleneck",
    "llama": "layers.{}.bottleneck",
    "qwen3": "layers.{}.bottleneck",
    "t5": "{}coder.block.{}.layer.{}.bottleneck",
}
"""Where a layer ends: in a norm, or in a sum that nothing norms."""
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
def test_adapters_are_at_the_right_modules(backbone: Callable[..., Path], kind: str, architecture: str) -> None:
    load = tiny.loader_for(backbone(architecture), kind)
    model = BottleneckAdapter(reduction_factor=8).build(load, load.task)
    found = {name for name, module in model.base_model.named_modules() if isinstance(module, Adapted)}
    attention, output = sites(architecture, kind)
    assert found == output | attention


@pytest.mark.parametrize(("kind", "architecture"), tiny.BODIES)
def test_a_single_adapter_is_at_the_end_of_each_layer(
    backbone: Callable[..., Path], kind: str, architecture: str
) -> None:
    load = tiny.loader_for(backbone(architecture), kind)
    model = PFEIFFER.build(load, load.task)
    found = {name for name, module in model.base_model.named_modules() if isinstance(module, Bottleneck)}
    end, layers = ENDS[architecture], range(tiny.LAYERS)
    if architecture in ("t5", "bart"):
        parts = [("en", 1), ("de", 2)][: 1 if kind == "token_classification" else 2]  # the former of T5's encoder alone
        assert found == {end.format(part, i, last) for part, last in parts for i in layers}
    else:
        assert found == {end.format(i) for i in layers}


class WithOne(Made):
    """A cell of the matrix of contracts whose layers have a single adapter."""

    def run_of(self, seed: int = 0, **choices: Any) -> Run:
        return dataclasses.replace(super().run_of(seed, **choices), strategy=PFEIFFER)


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_a_single_adapter_keeps_the_contracts(
    backbone: Callable[..., Path], task_data: Callable[[str], Data], architecture: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    made = WithOne(Cell("bottleneck", architecture, "single_label"), backbone(architecture), task_data("single_label"),
                   tmp_path / "saved")  # fmt: skip
    test_contracts.test_1_frozen_weights_keep_their_bits(made)
    test_contracts.test_2_every_new_parameter_is_trained_and_saved(made)
    test_contracts.test_3_a_strategy_starts_as_a_no_op(made)
    test_contracts.test_4_every_trainable_parameter_gets_a_gradient_within_two_steps_and_the_loss_falls(made)
    test_contracts.test_6_a_seed_decides_every_bit(made, monkeypatch)
    test_contracts.test_7_a_row_is_the_same_alone_and_in_a_padded_batch(made)
    test_contracts.test_8_disabled_the_model_is_its_base_with_the_trained_head(made)
    test_contracts.test_12_bf16_changes_no_result_beyond_rounding(made)
    if architecture not in matrix.NOT_CHECKPOINTED:
        test_contracts.test_12_gradient_checkpointing_changes_no_loss_and_no_gradient_and_less_is_kept(made, capfd)
    texts = ["sunny word1", "rotten word2 word3"]
    assert load_model(made.saved, device="cpu").predict(texts) == made.fitted.predict(texts)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("architecture", ["bert", "llama"])
def test_a_plan_for_a_single_adapter_is_what_is_measured(
    backbone: Callable[..., Path], architecture: str, checkpointing: bool
) -> None:
    folder = backbone(architecture)
    setting = setting_of(folder, PFEIFFER, device="cpu", precision="fp32", checkpointing=checkpointing)
    load = Loader(resolve(folder), setting.task, setting.budget, 0)
    assert Planner(setting).memory(4, 16) == measure(made_up(load, PFEIFFER, 4, 16))


def test_a_single_adapter_of_the_upper_layers_alone(backbone: Callable[..., Path]) -> None:
    for architecture, norm in (("bert", "encoder.layer.1.output.LayerNorm"), ("llama", "layers.1.bottleneck")):
        load = tiny.loader_for(backbone(architecture), "sequence_classification")
        model = dataclasses.replace(PFEIFFER, layers="last:1").build(load, load.task)
        modules = model.base_model.named_modules()
        assert [name for name, module in modules if isinstance(module, Bottleneck)] == [norm]


def layer_of(model: Any, path: str, batch: dict[str, torch.Tensor]) -> tuple[Any, torch.Tensor]:
    """A layer and what it gives for a batch."""
    layer, seen = model.base_model.get_submodule(path), []
    layer.register_forward_hook(lambda module, args, out: seen.append(out[0] if isinstance(out, tuple) else out))
    logits(model, batch)
    return layer, seen[0]


def adapter(module: Bottleneck, x: torch.Tensor) -> torch.Tensor:
    return torch.relu(x @ module.down.weight.T + module.down.bias) @ module.up.weight.T + module.up.bias


def test_a_single_adapter_reads_the_normed_sum_and_adds_to_the_sum(
    build: Build, batch: dict[str, torch.Tensor]
) -> None:
    """The last part of a BERT layer: LN(x + h + A(LN(x + h))), as the adapters library has it (`SeqBnConfig`)."""
    model: Any = randomise(build(PFEIFFER)).eval()
    last, seen = model.base_model.encoder.layer[0].output, []
    last.register_forward_hook(lambda module, args, out: seen.append((args, out)))
    logits(model, batch)
    ((inner, x), found), norm = seen[0], last.LayerNorm.norm
    total = x + inner @ last.dense.weight.T + last.dense.bias

    def normed(value: torch.Tensor) -> torch.Tensor:
        return F.layer_norm(value, (tiny.HIDDEN,), norm.weight, norm.bias, norm.eps)

    with torch.no_grad():
        torch.testing.assert_close(found, normed(total + adapter(last.LayerNorm, normed(total))))


def test_where_layers_norm_their_inputs_a_single_adapter_reads_the_sum(backbone: Callable[..., Path]) -> None:
    """h + A(h), where h is what a Llama's layer gives without it."""
    load = tiny.loader_for(backbone("llama"), "sequence_classification")
    model: Any = randomise(PFEIFFER.build(load, load.task)).eval()
    batch = tiny.inputs_for("llama", "sequence_classification")
    layer, found = layer_of(model, "layers.0", batch)
    with disabled(model):
        _, before = layer_of(model, "layers.0", batch)
    with torch.no_grad():
        torch.testing.assert_close(found, before + adapter(layer.bottleneck, before))


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
    with pytest.raises(OptionError, match=r"reduction_factor is .*(from 1 to 32|1 or more)"):
        build(BottleneckAdapter(reduction_factor=factor))
