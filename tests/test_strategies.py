"""What each strategy computes, against references written by hand or by the method's own library."""

from __future__ import annotations

import dataclasses
import importlib.util
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel
from transformers.pytorch_utils import Conv1D

from adapt import params
from adapt.adapted import assemble, fit_model, load_model
from adapt.backbones import Loader
from adapt.backbones.families import FAMILIES, family_of, residual_projections
from adapt.data import Data
from adapt.spec import OptionError, Unsupported
from adapt.strategies import STRATEGIES, BottleneckAdapter, Full, Head, LoRA, Prefix, QLoRA, disabled, make
from adapt.strategies.bottleneck_layer import Adapted
from adapt.strategies.lora_layer import LoRALinear
from adapt.strategies.prefix_attention import PrefixKV

Build = Callable[..., nn.Module]


@pytest.fixture(scope="session")
def words(task_data: Callable[[str], Any]) -> Any:
    return task_data("single_label")


@pytest.fixture
def loader(backbone: Callable[..., Path], words: Any) -> Callable[..., Loader]:
    def make_loader(architecture: str = "bert", layers: int = tiny.LAYERS, **choices: Any) -> Loader:
        choices = {"device": "cpu", "precision": "fp32", "dropout": 0.0, **choices}
        max_length = choices.pop("max_length", 32)
        run, _, source = assemble(
            backbone(architecture, layers),
            words,
            "full",
            max_length=32,
            pooling=choices.pop("pooling", "mean"),
            **choices,
        )
        return Loader(source, dataclasses.replace(run.task, max_length=max_length), run.budget, 0)

    return make_loader


@pytest.fixture
def build(loader: Callable[..., Loader]) -> Build:
    def make_model(strategy: Any, architecture: str = "bert", **choices: Any) -> nn.Module:
        load = loader(architecture, **choices)
        return strategy.build(load, load.task)

    return make_model


@pytest.fixture(scope="session")
def batch(words: Any) -> dict[str, torch.Tensor]:
    """Rows of different lengths, padded."""
    tokens = tiny.tokenizer_for("bert")(list(words.splits["test"]["text"])[:8], padding=True, return_tensors="pt")
    return {name: value for name, value in tokens.items() if name != "token_type_ids"}


def logits(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(**batch).logits


def randomise(model: nn.Module, std: float = 0.3) -> nn.Module:
    """Give everything trainable values as training would, so that no branch is zero."""
    generator = torch.Generator().manual_seed(5)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = torch.randn(parameter.shape, generator=generator) * std
    return model


# Bottleneck adapters

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


@pytest.mark.parametrize(("kind", "architecture"), tiny.TASK_CELLS)
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


def test_an_unknown_family_is_unsupported() -> None:
    with pytest.raises(Unsupported, match=r"architecture 'mamba' are not known; known are albert, bart, bert"):
        family_of("mamba")


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_the_names_of_a_family_are_those_of_the_model(backbone: Callable[..., Path], architecture: str) -> None:
    config = AutoConfig.from_pretrained(backbone(architecture))
    with torch.device("meta"):
        model = AutoModel.from_config(config)
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear | Conv1D)]
    family = FAMILIES[architecture]
    for ending in (*family.query_value, *family.attention_outputs, *family.feed_forward_outputs):
        assert any(name.endswith("." + ending) for name in linear), ending


@pytest.mark.parametrize("architecture", sorted(FAMILIES.keys() - tiny.ARCHITECTURES.keys()))
def test_the_names_of_other_members_of_a_family(architecture: str) -> None:
    config = AutoConfig.for_model(architecture)
    with torch.device("meta"):
        model = AutoModel.from_config(config)
    attention, feed_forward = residual_projections(model)
    both = architecture in ("mt5", "mbart")
    assert len(feed_forward) == config.num_hidden_layers * (2 if both else 1)
    assert len(attention) == config.num_hidden_layers * (3 if both else 1)
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    assert all(any(n.endswith("." + ending) for n in linear) for ending in FAMILIES[architecture].query_value)


# LoRA


def merged(model: Any, scale: float) -> Any:
    """The plain encoder whose weights are W + s B A, by hand from the tensors alone."""
    state = params.trainable_state(model)
    encoder = AutoModel.from_config(model.base_model.config, attn_implementation="eager", add_pooling_layer=False)
    weights = {}
    for name, value in model.base_model.state_dict().items():
        if "lora_" in name:
            continue
        plain = name.replace(".base_layer", "")
        a = state.get(f"features.encoder.{plain.removesuffix('.weight')}.lora_A.default.weight")
        if plain.endswith(".weight") and a is not None:
            b = state[f"features.encoder.{plain.removesuffix('.weight')}.lora_B.default.weight"]
            value = value + scale * b @ a
        weights[plain] = value
    encoder.load_state_dict(weights)
    return encoder


@pytest.mark.parametrize("rslora", [False, True])
@pytest.mark.parametrize("targets", ["all-linear", "attention", ("intermediate.dense", "query")])
def test_lora_is_the_merged_reference(build: Build, batch: dict[str, torch.Tensor], rslora: bool, targets: Any) -> None:
    strategy = LoRA(rank=4, alpha=6.0, rslora=rslora, targets=targets)
    model = build(strategy)
    before = logits(model, batch)
    randomise(model, 0.1)
    reference = merged(model, 6.0 / math.sqrt(4) if rslora else 6.0 / 4).eval()
    mask = batch["attention_mask"][..., None]
    with torch.no_grad():
        hidden = reference(**batch).last_hidden_state
        expected = model.classifier((hidden * mask).sum(1) / mask.sum(1))
    torch.testing.assert_close(logits(model, batch), expected, rtol=1e-4, atol=1e-5)
    assert (logits(model, batch) - before).abs().max() > 1e-2


def test_dora_is_the_merged_reference(build: Build) -> None:
    """Direction of W + s B A, magnitude learned for each output (Liu et al., equation 5)."""
    model = randomise(build(LoRA(rank=4, alpha=8.0, dora=True)), 0.2).eval()
    layer: Any = model.base_model.encoder.layer[0].intermediate.dense
    x = torch.randn(3, tiny.HIDDEN)
    with torch.no_grad():
        w = layer.base_layer.weight + 2.0 * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
        magnitude = layer.lora_magnitude_vector["default"].weight[:, None]
        expected = x @ (magnitude * w / w.norm(dim=1, keepdim=True)).T + layer.base_layer.bias
        torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-5)


def test_dora_trains(backbone: Callable[..., Path], words: Any, tmp_path: Path) -> None:
    model = fit_model(
        backbone("bert"), words, LoRA(rank=2, dora=True, learning_rate=1e-2), epochs=2, batch_size=16, device="cpu",
        precision="fp32",
    )  # fmt: skip
    names = params.trainable_state(model.fitted.model)
    assert sum("magnitude" in name for name in names) == 6 * tiny.LAYERS
    texts = list(words.splits["test"]["text"])
    assert load_model(model.save(tmp_path), device="cpu").predict(texts) == model.predict(texts)


TARGETS = {
    "attention": {"query", "value"},
    "all-linear": {"query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense"},
    "key": {"key"},
    ("encoder.layer.1.attention.self.key", "value"): {"key", "value"},
}


@pytest.mark.parametrize("architecture", ["bert", "gpt2"])
def test_lora_layers_are_fused_where_weights_are_not_quantised(build: Build, architecture: str) -> None:
    fused = [layer for layer in build(LoRA(), architecture).modules() if hasattr(layer, "lora_A")]
    assert fused
    assert all(type(layer) is LoRALinear for layer in fused)
    for other in (QLoRA(), LoRA(dora=True)):
        assert not any(isinstance(layer, LoRALinear) for layer in build(other, architecture).modules())


def lora_layers(model: Any) -> set[str]:
    return {name for name, module in model.base_model.named_modules() if hasattr(module, "lora_A")}


@pytest.mark.parametrize("pooling", ["mean", "native"])
@pytest.mark.parametrize("targets", TARGETS, ids=str)
def test_targets_are_what_they_say(build: Build, targets: Any, pooling: str) -> None:
    found = lora_layers(build(LoRA(rank=2, targets=targets), pooling=pooling))
    parts = ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense",
             "intermediate.dense", "output.dense")  # fmt: skip
    every = {f"encoder.layer.{i}.{part}" for i in range(tiny.LAYERS) for part in parts}
    if targets == "all-linear":
        assert found == every
    elif targets == "attention":
        assert found == {name for name in every if name.endswith(("query", "value"))}
    elif targets == "key":
        assert found == {name for name in every if name.endswith("key")}
    else:
        assert found == {n for n in every if n.endswith("value") or n == "encoder.layer.1.attention.self.key"}


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_attention_targets_are_query_and_value_of_each_layer(build: Build, architecture: str) -> None:
    found = lora_layers(build(LoRA(rank=2, targets="attention"), architecture, pooling="native"))
    layers = {"albert": 1, "t5": 3 * tiny.LAYERS, "bart": 3 * tiny.LAYERS}.get(architecture, tiny.LAYERS)
    assert len(found) == layers * (1 if architecture in ("modernbert", "gpt2") else 2)


def test_attention_targets_of_an_encoder_alone(backbone: Callable[..., Path]) -> None:
    load = tiny.loader_for(backbone("t5"), "token_classification")
    found = lora_layers(LoRA(rank=2, targets="attention").build(load, load.task))
    assert {name.split("SelfAttention.")[1] for name in found} == {"q", "v"}
    assert len(found) == 2 * tiny.LAYERS


@pytest.mark.parametrize(
    ("strategy", "kind", "architecture"),
    [
        *((strategy, *cell) for strategy in (LoRA(rank=2), QLoRA(rank=2)) for cell in tiny.TASK_CELLS),
        *((QLoRA(rank=2, bits=4), "sequence_classification", architecture) for architecture in tiny.ARCHITECTURES),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{value.name}{getattr(value, 'bits', '')}",
)
def test_every_linear_layer_is_adapted_and_no_head_is(
    backbone: Callable[..., Path], kind: str, architecture: str, strategy: Any
) -> None:
    load = tiny.loader_for(backbone(architecture), kind)
    model = strategy.build(load, load.task)
    plain = load(frozen=True)
    head = {name.rpartition(".")[0] for name in model.head_names} | {"lm_head"}
    last = [n for n, m in plain.named_modules() if isinstance(m, nn.Linear | Conv1D)]
    expected = {name for name in last if name not in head and "pooler" not in name.split(".")}
    assert {name for name, module in model.named_modules() if hasattr(module, "lora_A")} == expected
    for name, module in model.named_modules():
        if name in head:
            assert type(module) is type(plain.get_submodule(name))
    out = tiny.outputs_of(model.train(), tiny.inputs_for(architecture, kind))
    out.pow(2).mean().backward()
    assert all(p.grad is not None for n, p in model.named_parameters() if ".lora_" in n)


def test_a_misnamed_target_lists_what_there_is(build: Build) -> None:
    with pytest.raises(OptionError, match=r"lora\.targets names 'q_proj', 'attn'.*there are: .*attention\.self\.query"):
        build(LoRA(targets=("q_proj", "value", "attn")))


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"rank": 0}, "lora.rank is 0"), ({"dropout": 1.0}, "lora.dropout is 1.0"), ({"dropout": -0.1}, "lora.dropout")],
)
def test_lora_refuses_values_out_of_range(build: Build, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message.replace(".", r"\.")):
        build(LoRA(**settings))


def test_lora_dropout_is_for_training_only(build: Build, batch: dict[str, torch.Tensor]) -> None:
    model = randomise(build(LoRA(rank=4, dropout=0.5)))
    with torch.no_grad():
        first, second = model.train()(**batch).logits, model.train()(**batch).logits
    assert not torch.equal(first, second)
    assert torch.equal(logits(model, batch), logits(model, batch))


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft asks for it
@pytest.mark.parametrize(("architecture", "pooling"), [("roberta", "native"), ("bert", "mean")])
def test_the_exported_names_reach_no_further_than_ours(
    backbone: Callable[..., Path], words: Any, tmp_path: Path, architecture: str, pooling: str
) -> None:
    """From 20 targets on PEFT shortens their names to suffixes, such as `dense`, which a head or a pooler has too."""
    import json

    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    folder = backbone(architecture, layers=4)
    model = fit_model(
        folder, words, LoRA(rank=2, learning_rate=1e-2), epochs=1, batch_size=16, device="cpu", precision="fp32",
        pooling=pooling,
    )  # fmt: skip
    out = model.save(tmp_path) / "peft"
    names = json.loads((out / "adapter_config.json").read_text())["target_modules"]
    assert len(names) == 4 * 6
    cls = AutoModelForSequenceClassification if pooling == "native" else AutoModel
    theirs: Any = PeftModel.from_pretrained(cls.from_pretrained(folder, attn_implementation="eager"), str(out)).eval()
    ours: Any = model.fitted.model.eval()
    batch = model.fitted.kind.collate(model.fitted.kind.encode(words.splits["test"].remove_columns("label")))
    layers = [name for name, module in theirs.named_modules() if hasattr(module, "lora_A")]
    assert len(layers) == len(names)
    with torch.no_grad():
        if pooling == "native":
            found, expected = theirs(**batch).logits, ours(**batch).logits
        else:
            found, expected = theirs(**batch).last_hidden_state, ours.base_model(**batch).last_hidden_state
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


# QLoRA


def test_8_bit_weights_are_8_bit_and_the_head_is_not(build: Build) -> None:
    import bitsandbytes

    for pooling in ("mean", "native"):
        model: Any = build(QLoRA(rank=2), pooling=pooling)
        quantised = {n for n, m in model.named_modules() if isinstance(m, bitsandbytes.nn.Linear8bitLt)}
        assert len(quantised) == 6 * tiny.LAYERS
        assert all("encoder.layer" in name for name in quantised)
        assert model.classifier.weight.dtype == torch.float32
        assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
@pytest.mark.parametrize("bits", [8, 4])
def test_no_module_of_a_head_is_quantised(build: Build, architecture: str, bits: Any) -> None:
    model: Any = build(QLoRA(rank=2, bits=bits), architecture, pooling="native")
    inside = {id(module) for module in model.base_model.modules()}
    head = [m for m in model.modules() if id(m) not in inside and isinstance(m, nn.Linear)]
    assert head
    assert {type(module) for module in head} == {nn.Linear}


def test_8_bit_weights_are_near_the_real_ones(build: Build, batch: dict[str, torch.Tensor]) -> None:
    exact, rounded = logits(build(LoRA(rank=2)), batch), logits(build(QLoRA(rank=2)), batch)
    assert not torch.equal(exact, rounded)
    torch.testing.assert_close(rounded, exact, rtol=0, atol=0.05)


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_4_bit_products_are_in_the_precision_of_the_run(build: Build, precision: str, dtype: torch.dtype) -> None:
    model = build(QLoRA(rank=2, bits=4), precision=precision)
    assert {m.compute_dtype for m in model.modules() if hasattr(m, "compute_dtype")} == {dtype}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_4_bit_trains_evaluates_and_trains_again(build: Build, batch: dict[str, torch.Tensor], precision: str) -> None:
    """Evaluating repacks the weights on some processors, after which training fails, unless that is forbidden."""
    model = tiny.without_dropout(build(QLoRA(rank=2, bits=4), precision=precision))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    labels = torch.tensor([0, 1] * 4)
    losses, evaluated = [], []
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        for _ in range(6):
            loss = F.cross_entropy(model.train()(**batch).logits.float(), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            evaluated.append(F.cross_entropy(logits(model, batch).float(), labels).item())
    assert losses[-1] < losses[0]
    # what is evaluated is what is trained on: the same loss but for rounding, one step later
    assert evaluated[:-1] == pytest.approx(losses[1:], abs=0.02)


@pytest.mark.parametrize("bits", [8, 4])
def test_qlora_counts_the_parameters_the_weights_stand_for(build: Build, bits: Any) -> None:
    model, plain = build(QLoRA(rank=2, bits=bits)), build(LoRA(rank=2))
    assert params.count(model) == params.count(plain)


def test_qlora_without_bitsandbytes_says_what_to_install(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "bitsandbytes" else find(name, *a)
    )
    with pytest.raises(Unsupported, match="pip install bitsandbytes"):
        build(QLoRA())


@pytest.mark.parametrize(("bits", "capability", "needed"), [(8, (7, 0), "7.5"), (8, (6, 1), "7.5"), (4, (5, 2), "6.0")])
def test_qlora_on_an_old_gpu_says_what_to_do(
    loader: Callable[..., Loader], monkeypatch: pytest.MonkeyPatch, bits: Any, capability: tuple[int, int], needed: str
) -> None:
    load = loader()
    load = dataclasses.replace(load, budget=dataclasses.replace(load.budget, device="cuda"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *a: capability)
    found = ".".join(map(str, capability))
    with pytest.raises(
        Unsupported, match=rf"{bits}-bit weights need .* {needed} or above.*has {found}; use --device cpu"
    ):
        QLoRA(bits=bits).build(load, load.task)


def test_dora_beside_8_bit_weights_is_unsupported(build: Build) -> None:
    with pytest.raises(Unsupported, match="use 4 bits"):
        build(QLoRA(dora=True))
    assert build(QLoRA(rank=2, dora=True, bits=4))


def test_bitsandbytes_does_not_fill_the_screen() -> None:
    import adapt.strategies.qlora  # noqa: F401

    for name, message in (
        (
            "bitsandbytes.autograd._functions",
            "MatMul8bitLt: inputs will be cast from %s to float16 during quantization",
        ),
        ("bitsandbytes.backends.cpu.ops", "Failed to load CPU gemm_4bit_forward from kernels-community: %s."),
    ):
        logger = logging.getLogger(name)

        def passes(text: str, logger: logging.Logger = logger) -> bool:
            return bool(logger.filter(logger.makeRecord(logger.name, logging.WARNING, "", 0, text, (), None)))

        assert not passes(message)
        assert passes("something is wrong")


# Prefix


def prefixes(model: nn.Module) -> list[PrefixKV]:
    return [module for module in model.modules() if isinstance(module, PrefixKV)]


def reference_bert(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """The last hidden states of a BERT whose keys and values are preceded by the prefix, written out."""
    base, heads = model.base_model, tiny.HEADS
    size = tiny.HIDDEN // heads
    ids, mask = batch["input_ids"], batch["attention_mask"]
    n, length = ids.shape

    def norm(module: Any, x: torch.Tensor) -> torch.Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.pow(2).mean(-1, keepdim=True) + module.eps).sqrt()
        return scaled * module.weight + module.bias

    def linear(module: Any, x: torch.Tensor) -> torch.Tensor:
        return x @ module.weight.T + module.bias

    def split(x: torch.Tensor) -> torch.Tensor:
        return x.view(n, length, heads, size).permute(0, 2, 1, 3)

    e = base.embeddings
    x = e.word_embeddings.weight[ids] + e.position_embeddings.weight[:length] + e.token_type_embeddings.weight[0]
    x = norm(e.LayerNorm, x)
    for layer in base.encoder.layer:
        own = layer.attention.self
        k, v = own.prefix.keys.expand(n, -1, -1, -1), own.prefix.values.expand(n, -1, -1, -1)
        keys = torch.cat([k, split(linear(own.key, x))], dim=2)
        values = torch.cat([v, split(linear(own.value, x))], dim=2)
        scores = split(linear(own.query, x)) @ keys.transpose(2, 3) / math.sqrt(size)
        hidden = torch.cat([torch.ones(n, k.shape[2]), mask], dim=1)[:, None, None, :] == 0
        weights = scores.masked_fill(hidden, -math.inf).softmax(-1)
        context = (weights @ values).permute(0, 2, 1, 3).reshape(n, length, tiny.HIDDEN)
        x = norm(layer.attention.output.LayerNorm, linear(layer.attention.output.dense, context) + x)
        inner = F.gelu(linear(layer.intermediate.dense, x))
        x = norm(layer.output.LayerNorm, linear(layer.output.dense, inner) + x)
    return x


@pytest.mark.parametrize("max_length", [32, 300], ids=["eager", "sdpa"])
def test_prefix_is_attention_over_joined_keys_and_values(
    build: Build, batch: dict[str, torch.Tensor], max_length: int
) -> None:
    model: Any = randomise(build(Prefix(virtual_tokens=5), max_length=max_length), 0.8)
    with torch.no_grad():
        hidden = reference_bert(model, batch)
        mask = batch["attention_mask"][..., None]
        expected = model.classifier((hidden * mask).sum(1) / mask.sum(1))
    torch.testing.assert_close(logits(model, batch), expected, rtol=1e-4, atol=1e-5)
    for prefix in prefixes(model):
        prefix.enabled = False
    assert (logits(model, batch) - expected).abs().max() > 0.05


@pytest.mark.parametrize("architecture", [a for a in tiny.ENCODERS if a != "deberta-v2"])
def test_prefix_is_the_same_under_eager_and_sdpa(
    build: Build, batch: dict[str, torch.Tensor], architecture: str
) -> None:
    models: list[Any] = [
        randomise(build(Prefix(virtual_tokens=5), architecture, max_length=length), 0.8) for length in (32, 300)
    ]
    kernels = [model.base_model.config._attn_implementation for model in models]
    assert [kernel.split("_")[-1] for kernel in kernels] == ["eager", "sdpa"]
    expected, found = (logits(model, batch) for model in models)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    single = {name: value[:1, : int(batch["attention_mask"][0].sum())] for name, value in batch.items()}
    torch.testing.assert_close(logits(models[1], single), found[:1], rtol=1e-4, atol=1e-5)  # where no mask is needed


@pytest.mark.parametrize("architecture", tiny.ENCODERS)
def test_a_prefix_switched_off_is_the_base_model(
    build: Build, loader: Callable[..., Loader], batch: dict[str, torch.Tensor], architecture: str
) -> None:
    model = build(Prefix(virtual_tokens=5), architecture)
    base = logits(loader(architecture)(frozen=True), batch)
    assert not torch.allclose(logits(model, batch), base, atol=1e-4)
    for prefix in prefixes(model):
        prefix.enabled = False
    assert torch.equal(logits(model, batch), base)


@pytest.mark.parametrize("architecture", tiny.ENCODERS)
def test_every_attention_has_a_prefix(build: Build, architecture: str) -> None:
    model = build(Prefix(virtual_tokens=7), architecture)
    found = prefixes(model)
    assert len(found) == (1 if architecture == "albert" else tiny.LAYERS)
    shape = (tiny.HEADS, 7, tiny.HIDDEN // tiny.HEADS)
    assert all(prefix.keys.shape == shape == prefix.values.shape for prefix in found)


def test_a_prefix_starts_as_keys_and_values_of_words(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = torch.tensor([[7, 9, 11]])
    monkeypatch.setattr(torch, "randint", lambda *a, **k: ids)
    model: Any = build(Prefix(virtual_tokens=3))
    own = model.base_model.encoder.layer[0].attention.self
    with torch.no_grad():
        x = model.base_model.embeddings(input_ids=ids)
        for name, projection in (("keys", own.key), ("values", own.value)):
            expected = projection(x)[0].view(3, tiny.HEADS, -1).transpose(0, 1)
            torch.testing.assert_close(getattr(own.prefix, name).data, expected, rtol=1e-5, atol=1e-6)


def test_a_random_prefix_is_small_noise(build: Build) -> None:
    for prefix in prefixes(build(Prefix(virtual_tokens=64, init="random"))):
        assert prefix.keys.std().item() == pytest.approx(0.02, rel=0.15)
        assert abs(prefix.values.mean().item()) < 0.002


@pytest.mark.parametrize("length", [1, 4])
@pytest.mark.parametrize("causal", [False, True])
def test_a_causal_row_sees_the_prefix_and_no_later_token(length: int, causal: bool) -> None:
    """sdpa without a mask would shift its causal triangle by the prefix."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    module = nn.Module()
    module.is_causal = causal  # type: ignore[assignment]
    query, key, value = torch.randn(3, 2, tiny.HEADS, length, 8).unbind(0)
    module.prefix = PrefixKV(torch.randn(tiny.HEADS, 3, 8), torch.randn(tiny.HEADS, 3, 8), "activations")
    with torch.no_grad():
        out, _ = ALL_ATTENTION_FUNCTIONS["adapt_prefix_sdpa"](module, query, key, value, None)
        keys = torch.cat([module.prefix.keys.expand(2, -1, -1, -1), key], 2)
        values = torch.cat([module.prefix.values.expand(2, -1, -1, -1), value], 2)
        scores = query @ keys.transpose(2, 3) / math.sqrt(8)
        if causal:
            later = torch.arange(3 + length) - 3 > torch.arange(length)[:, None]
            scores = scores.masked_fill(later, -math.inf)
        expected = (scores.softmax(-1) @ values).transpose(1, 2)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)


def test_partial_coverage_is_unsupported(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """A prefix in some layers only would be another method under the same name."""
    from transformers.models.bert import modeling_bert

    forward = modeling_bert.BertSelfAttention.forward

    def partly(self: Any, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if self.layer_idx == 1:  # a layer that computes its attention without the interface
            return hidden_states, None
        return forward(self, hidden_states, *args, **kwargs)

    monkeypatch.setattr(modeling_bert.BertSelfAttention, "forward", partly)
    with pytest.raises(Unsupported, match="1 of 2 attention modules of 'bert'"):
        build(Prefix(virtual_tokens=3))


def test_no_virtual_token_is_refused(build: Build) -> None:
    with pytest.raises(OptionError, match=r"prefix\.virtual_tokens is 0; give at least 1"):
        build(Prefix(virtual_tokens=0))


# Full and head


def test_full_trains_everything_and_head_the_head_alone(build: Build) -> None:
    assert all(p.requires_grad for p in build(Full()).parameters())
    trainable = {n for n, p in build(Head()).named_parameters() if p.requires_grad}
    assert trainable == {"classifier.weight", "classifier.bias"}


# By name


def test_a_strategy_is_made_from_its_name_and_fields() -> None:
    assert make("lora", {"rank": "16", "rslora": "true", "targets": "query,value"}) == LoRA(
        rank=16, rslora=True, targets=("query", "value")
    )
    assert make("lora", {"targets": "attention", "alpha": 8}) == LoRA(targets="attention", alpha=8.0)
    assert make("qlora", {"bits": 4}) == QLoRA(bits=4)
    assert all(make(name).name == name for name in STRATEGIES)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("loar", {}, r"no strategy 'loar' \(did you mean 'lora'\?\)"),
        ("lora", {"rnk": 4}, r"no field 'rnk' \(did you mean 'rank'\?\)"),
        ("lora", {"rank": "four"}, r"lora\.rank is 'four'"),
        ("lora", {"rank": 2.5}, r"lora\.rank is 2\.5"),
        ("lora", {"dora": "perhaps"}, r"lora\.dora is 'perhaps'"),
        ("bottleneck", {"placement": "parallel"}, r"bottleneck\.placement is 'parallel'"),
        ("qlora", {"bits": "3"}, r"qlora\.bits is '3'"),
    ],
)
def test_bad_names_and_values_are_named(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        make(name, settings)


def test_bits_are_read_from_text() -> None:
    assert make("qlora", {"bits": "4"}) == QLoRA(bits=4)


def test_each_field_is_documented_and_each_strategy_names_its_source() -> None:
    import ast
    import inspect

    for cls in STRATEGIES.values():
        assert cls.__doc__
        tree = ast.parse(inspect.getsource(cls)).body[0]
        assert isinstance(tree, ast.ClassDef)
        for field, following in zip(tree.body, tree.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and "ClassVar" not in ast.unparse(field.annotation):
                documented = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
                assert documented, f"{cls.__name__}.{ast.unparse(field.target)}"


def test_untrained_scores_the_model_as_it_is(backbone: Callable[..., Path], task_data: Callable[[str], Any]) -> None:
    from adapt.run import fit
    from adapt.strategies import FLOORS, Untrained

    spec, rows, source = assemble(backbone("bert"), task_data("single_label"), "untrained", device="cpu")
    result, fitted = fit(spec, rows, source)
    assert (result.status, result.trainable, result.learning_rate, result.train_seconds) == ("ok", 0, None, None)
    assert result.scores.keys() == {"test"}
    assert not [name for name, p in fitted.model.named_parameters() if p.requires_grad]
    assert spec.strategy == Untrained()
    assert not FLOORS.keys() & STRATEGIES.keys()


@pytest.mark.parametrize(("kind", "architecture"), tiny.TASK_CELLS)
def test_a_gated_prefix_starts_as_the_backbone_is_saved_and_taken_off(
    backbone: Callable[..., Path], kind: str, architecture: str, tmp_path: Path
) -> None:
    load, inputs = tiny.loader_for(backbone(architecture), kind), tiny.inputs_for(architecture, kind)
    strategy = Prefix(virtual_tokens=5, gated=True)

    def outputs(model: Any) -> torch.Tensor:
        with torch.no_grad():
            return tiny.outputs_of(model.eval(), inputs)

    base, model, joined = load(frozen=True), strategy.build(load, load.task), Prefix(virtual_tokens=5)
    assert torch.equal(outputs(model), outputs(base))
    heads = sum(len(prefix.keys) for prefix in prefixes(model))
    assert params.count(model)[0] == params.count(joined.build(load, load.task))[0] + heads
    head = {n: p.detach().clone() for n, p in model.named_parameters() if n in model.head_names}
    tiny.moved(model)
    for name, value in head.items():
        model.get_parameter(name).data.copy_(value)
    assert not torch.equal(outputs(model), outputs(base))
    with disabled(model):
        assert torch.equal(outputs(model), outputs(base))
    params.save(model, tmp_path)
    again = strategy.build(load, load.task)
    params.load(again, tmp_path)
    assert torch.equal(outputs(again), outputs(model))


# Targets


def test_targets_that_leave_no_layer_are_an_error(
    backbone: Callable[..., Path], task_data: Callable[[str], Data]
) -> None:
    for strategy in (
        LoRA(targets=("encoder.layer.0.attention.self.query",), layers="last:1"),
        LoRA(targets=()),
    ):
        spec, _, source = assemble(backbone("bert"), task_data("single_label"), strategy, device="cpu")
        with pytest.raises(OptionError, match=r"lora\.targets=\(.* leaves no linear layer to adapt; name some"):
            strategy.build(Loader(source, spec.task, spec.budget, 0), spec.task)
