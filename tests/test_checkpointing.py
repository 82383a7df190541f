"""Gradient checkpointing changes what is kept, not what is computed."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from adapt.adapted import fit_model
from adapt.backbones.checkpointing import checkpoint_layers
from adapt.spec import Unsupported
from adapt.strategies import Prefix, QLoRA


def gradients_of(model: Any, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    tiny.outputs_of(model.train(), inputs).pow(2).mean().backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def test_an_architecture_without_it_is_unsupported(backbone: Callable[..., Path]) -> None:
    load = tiny.loader_for(backbone("albert"), "sequence_classification")
    with pytest.raises(Unsupported, match="no gradient checkpointing for 'albert'"):
        checkpoint_layers(load())


@pytest.mark.parametrize("pooling", ["mean", "native"])
@pytest.mark.parametrize("strategy", ["full", "head", "lora", "bottleneck"])
def test_training_with_it_is_training_without(
    backbone: Callable[..., Path], task_data: Callable[[str], Any], pooling: str, strategy: str
) -> None:
    def losses(checkpointing: bool) -> list[float]:
        model = fit_model(
            backbone("bert"), task_data("single_label"), tiny.STRATEGIES[strategy], epochs=2, batch_size=16,
            device="cpu", precision="fp32", pooling=pooling, checkpointing=checkpointing,
        )  # fmt: skip
        assert model.result is not None
        on = [m for m in model.fitted.model.modules() if getattr(m, "gradient_checkpointing", False)]
        assert bool(on) is (checkpointing and strategy != "head")
        return [point["loss"] for point in model.result.curve]

    assert losses(True) == pytest.approx(losses(False), abs=1e-5)


def held_after_forward(model: Any, inputs: dict[str, torch.Tensor]) -> int:
    """Bytes of the tensors that live only for the backward pass, those kept outside of autograd's sight included."""
    before = {id(tensor) for tensor in _tensors()}
    loss = tiny.outputs_of(model.train(), inputs).pow(2).mean()
    gc.collect()
    storages = [t.untyped_storage() for t in _tensors() if id(t) not in before]
    loss.backward()
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def _tensors() -> list[torch.Tensor]:
    return [found for found in gc.get_objects() if type(found) is torch.Tensor]


@pytest.mark.parametrize("architecture", ["llama", "t5", "bert"])
def test_layers_in_8_bits_let_go_of_what_they_keep_by_themselves(
    backbone: Callable[..., Path], architecture: str
) -> None:
    """bitsandbytes keeps the input of each product in an attribute, which only the reentrant kind gives back."""
    kind = "seq2seq" if architecture == "t5" else "sequence_classification"
    load = tiny.loader_for(backbone(architecture, 4), kind, dropout=0.0)
    inputs = {name: value.repeat(8, 1) for name, value in tiny.inputs_for(architecture, kind).items()}
    held = {}
    # with dropout on the branch the product is bitsandbytes'; without, on the CPU, it is ours
    strategy = QLoRA(dropout=0.1)
    for name in ("none", "non-reentrant", "ours"):
        model = strategy.build(load, load.task)
        if name == "ours":
            checkpoint_layers(model)
        elif name == "non-reentrant":
            enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
            enable({"use_reentrant": False})
        held_after_forward(model, inputs)  # bitsandbytes keeps further tensors from the first product on
        held[name] = held_after_forward(model, inputs)
    assert held["ours"] < 0.5 * held["non-reentrant"]
    assert held["ours"] < 0.5 * held["none"]


@pytest.mark.parametrize("architecture", ["bert", "llama", "t5", "bart"])
def test_a_prefix_beside_weights_in_8_bits_gets_its_gradients(backbone: Callable[..., Path], architecture: str) -> None:
    """No strategy of ours asks for both; the kind of checkpointing must not cut the prefix off."""
    kind = "seq2seq" if architecture in ("t5", "bart") else "sequence_classification"
    load = tiny.loader_for(backbone(architecture), kind, dropout=0.0)
    inputs, found = tiny.inputs_for(architecture, kind), []

    def quantised(**options: Any) -> Any:
        return load(**options, quantization_config=QLoRA()._quantization())

    for checkpointing in (False, True):
        torch.manual_seed(0)
        model = tiny.without_dropout(Prefix().build(quantised, load.task))
        if checkpointing:
            checkpoint_layers(model)
        found.append(gradients_of(model, inputs))
        assert found[-1].keys() == {name for name, p in model.named_parameters() if p.requires_grad}
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(("strategy", "asked"), [("lora", False), ("qlora", True)])
def test_only_the_reentrant_kind_has_embeddings_whose_output_has_a_gradient(
    backbone: Callable[..., Path], strategy: str, asked: bool
) -> None:
    load = tiny.loader_for(backbone("bert"), "sequence_classification", dropout=0.0)
    model = tiny.STRATEGIES[strategy].build(load, load.task)
    checkpoint_layers(model)
    found = []
    model.get_input_embeddings().register_forward_hook(lambda _m, _i, output: found.append(output.requires_grad))
    tiny.outputs_of(model.train(), tiny.inputs_for("bert", "sequence_classification"))
    assert found[0] == asked
