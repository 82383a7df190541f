"""The strategy prefix on the tiny backbones: against BERT written out by hand, and against the backbone itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from strategy_helpers import Build, logits, prefixes, randomise
from torch import nn
from torch.nn import functional as F

from adapt import params
from adapt.spec import OptionError, Unsupported
from adapt.strategies import Prefix, disabled
from adapt.strategies.prefix_attention import PrefixKV


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


@pytest.mark.parametrize(("kind", "architecture"), tiny.BODIES)
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
