"""LoRA: the layers that it adapts, and what it computes, against merged weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from strategy_helpers import Build, logits, randomise
from torch import nn
from transformers import AutoModel
from transformers.pytorch_utils import Conv1D

from adapt import params
from adapt.adapted import assemble, fit_model, load_model
from adapt.backbones import Loader
from adapt.data import Data
from adapt.spec import OptionError
from adapt.strategies import LoRA, QLoRA
from adapt.strategies.lora_layer import LoRALinear


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
        *((strategy, *cell) for strategy in (LoRA(rank=2), QLoRA(rank=2)) for cell in tiny.BODIES),
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
