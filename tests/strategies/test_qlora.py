"""QLoRA: which weights are quantised, and how near they are to the real ones."""

from __future__ import annotations

import dataclasses
import importlib.util
import logging
from collections.abc import Callable
from typing import Any

import pytest
import tiny
import torch
from strategy_helpers import Build, logits
from torch import nn
from torch.nn import functional as F

from adapt import params
from adapt.backbones import Loader
from adapt.spec import Unsupported
from adapt.strategies import LoRA, QLoRA


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


def test_4_bits_are_of_normal_floats_twice_quantised(build: Build) -> None:
    """Dettmers et al. 2023, sections 3: NF4, and the constants of the blocks quantised, too."""
    import bitsandbytes

    model: Any = build(QLoRA(rank=2, bits=4))
    held = [module.weight for module in model.modules() if isinstance(module, bitsandbytes.nn.Linear4bit)]
    assert held
    assert {weight.quant_state.quant_type for weight in held} == {"nf4"}
    assert all(weight.quant_state.nested for weight in held)
