"""Prefix tuning on every architecture: against attention written out, against PEFT, and against itself with a cache."""

from __future__ import annotations

import copy
import math
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from prefix_helpers import (
    CONFIGS,
    DECODERS,
    HEADS,
    HIDDEN,
    LAYERS,
    PAIRS,
    SIZE,
    TOKENS,
    batch,
    close,
    gated_or_not,
    make,
    on_architectures,
    on_architectures_and_kernels,
    on_generators,
    on_kernels,
    outputs,
    prefixed,
    second_alone,
)
from strategy_helpers import prefixes
from torch import nn
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, eager_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from adapt.strategies.prefix_attention import attach
from adapt.strategies.prefix_kv import PrefixKV


def written_out(
    module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor, **kwargs: Any
) -> tuple[torch.Tensor, None]:
    """Attention over the prefix and the row, step by step; masks are additive and always there.

    With a gate, each has a softmax of its own.
    """
    n, heads = query.shape[:2]
    groups = heads // key.shape[1]
    columns = []
    for part, own in ((module.prefix.keys, key), (module.prefix.values, value)):
        rows = [torch.cat([part[h // groups].repeat(n, 1, 1), own[:, h // groups]], 1) for h in range(heads)]
        columns.append(torch.stack(rows, 1))
    scaling = kwargs.get("scaling")
    scores = torch.einsum("nhqd,nhkd->nhqk", query, columns[0]) * (
        query.shape[-1] ** -0.5 if scaling is None else scaling
    )
    scores[..., TOKENS:] += kwargs.get("position_bias") if kwargs.get("position_bias") is not None else 0.0
    scores[..., TOKENS:] = scores[..., TOKENS:].masked_fill(mask < -1.0, -math.inf)
    if module.prefix.gate is not None:
        front, own = scores[..., :TOKENS].softmax(-1), scores[..., TOKENS:].softmax(-1)
        gate = module.prefix.gate.tanh().repeat_interleave(groups)[:, None, None]
        return torch.einsum("nhqk,nhkd->nqhd", torch.cat([gate * front, own], -1), columns[1]), None
    weights = scores.exp() / scores.exp().sum(-1, keepdim=True)
    return torch.einsum("nhqk,nhkd->nqhd", weights, columns[1]), None


def explicit_mask(**kwargs: Any) -> torch.Tensor:
    return eager_mask(**{**kwargs, "allow_is_bidirectional_skip": False})


@pytest.fixture
def reference() -> Iterator[Callable[[Any], Any]]:
    """A copy of a model with a prefix whose attention is the one written out above."""
    ALL_ATTENTION_FUNCTIONS.register("written_out", written_out)
    ALL_MASK_ATTENTION_FUNCTIONS.register("written_out", explicit_mask)

    def rewrite(model: Any) -> Any:
        model = copy.deepcopy(model)
        for module in model.modules():
            if hasattr(module, "config"):
                module.config._attn_implementation = "written_out"
        return model

    yield rewrite
    for functions in (ALL_ATTENTION_FUNCTIONS, ALL_MASK_ATTENTION_FUNCTIONS):
        del functions._global_mapping["written_out"]


@on_kernels
@gated_or_not
@pytest.mark.parametrize("architecture", [name for name in CONFIGS if not name.startswith("deberta")])
def test_the_prefix_is_attention_over_joined_keys_and_values(
    reference: Callable[[Any], Any], architecture: str, kernel: str, gated: bool
) -> None:
    model, inputs = prefixed(architecture, kernel, gated=gated), batch(architecture)
    real = inputs["attention_mask"].bool() if architecture not in PAIRS else ...
    found, expected = outputs(model, inputs), outputs(reference(model), inputs)
    close(found[real], expected[real])
    full = {name: value[:1] for name, value in inputs.items()}  # where sdpa needs no mask
    close(outputs(model, full), expected[:1])


@on_kernels
@pytest.mark.parametrize("biased", [False, True])
def test_masks_may_be_bool_or_additive(kernel: str, biased: bool) -> None:
    """On one attention module of T5, with and without its position bias."""
    model = prefixed("t5", kernel)
    module = model.decoder.block[0].layer[0].SelfAttention
    own = ALL_ATTENTION_FUNCTIONS[f"adapt_prefix_{kernel}"]
    query, key, value = torch.randn(3, 2, HEADS, 5, SIZE).unbind(0)
    seen = (torch.rand(2, 1, 5, 5) < 0.5) | torch.eye(5, dtype=torch.bool)
    additive = torch.zeros(2, 1, 5, 5).masked_fill(~seen, torch.finfo(torch.float32).min)
    bias = torch.randn(1, HEADS, 5, 5) if biased else None
    with torch.no_grad():
        expected, _ = written_out(module, query, key, value, additive, scaling=1.0, position_bias=bias)
        for mask in (additive, seen) if kernel == "sdpa" else (additive,):  # eager adds its masks
            found, _ = own(module, query, key, value, mask, scaling=1.0, position_bias=bias)
            close(found, expected)
        if kernel == "sdpa":
            causal = torch.zeros(5, 5).masked_fill(torch.ones(5, 5).triu(1).bool(), torch.finfo(torch.float32).min)
            found, _ = own(module, query, key, value, None, scaling=1.0, position_bias=bias)
            expected, _ = written_out(module, query, key, value, causal, scaling=1.0, position_bias=bias)
            close(found, expected)


@gated_or_not
@pytest.mark.parametrize("architecture", ["deberta-v2", "deberta-v2-own"])
def test_disentangled_attention_is_joined_at_its_softmax(architecture: str, gated: bool) -> None:
    model, mask = prefixed(architecture, gated=gated), batch(architecture)["attention_mask"]
    layer = model.encoder.layer[1].attention.self
    x, pairs = torch.randn(2, 9, HIDDEN), (mask[:, None, :, None] * mask[:, None, None, :]).bool()
    relative, embeddings = model.encoder.get_rel_pos(x), model.encoder.get_rel_embedding()

    def heads(projection: nn.Module) -> torch.Tensor:
        return projection(x).view(2, 9, HEADS, SIZE).transpose(1, 2)

    with torch.no_grad():
        q, k, v = heads(layer.query_proj), heads(layer.key_proj), heads(layer.value_proj)
        terms = 1 + len(layer.pos_att_type)
        bias = layer.disentangled_attention_bias(q.flatten(0, 1), k.flatten(0, 1), relative, embeddings, terms)
        own = q @ k.transpose(2, 3) / math.sqrt(SIZE * terms) + bias.view(2, HEADS, 9, 9)
        front = q @ layer.prefix.keys.transpose(1, 2) / math.sqrt(SIZE * terms)
        own = own.masked_fill(~pairs, torch.finfo(torch.float32).min)
        weights = torch.cat([front, own], -1).softmax(-1)
        if gated:
            gate = layer.prefix.gate.tanh()[:, None, None]
            weights = torch.cat([gate * front.softmax(-1), own.softmax(-1)], -1)
        expected = weights[..., :TOKENS] @ layer.prefix.values + weights[..., TOKENS:] @ v
        found, shown = layer(x, pairs, output_attentions=True, relative_pos=relative, rel_embeddings=embeddings)
    close(found[mask.bool()], expected.transpose(1, 2).flatten(2)[mask.bool()])
    close(shown, weights[..., TOKENS:])


@on_architectures_and_kernels
def test_a_row_alone_and_in_a_padded_batch_is_the_same(architecture: str, kernel: str) -> None:
    model = prefixed(architecture, kernel)
    for left in (False, True) if architecture in DECODERS else (False,):
        inputs = batch(architecture, left)
        found, alone = outputs(model, inputs)[1], outputs(model, second_alone(inputs))[0]
        close(found if architecture in PAIRS else found[inputs["attention_mask"][1].bool()], alone)


@gated_or_not
@on_architectures_and_kernels
def test_a_prefix_switched_off_is_the_base_model(architecture: str, kernel: str, gated: bool) -> None:
    model, inputs = prefixed(architecture, kernel, gated=gated), batch(architecture)
    base = outputs(make(architecture, kernel), inputs)
    assert (outputs(model, inputs) - base).abs().max() > 0.05
    for prefix in prefixes(model):
        prefix.enabled = False
    assert torch.equal(outputs(model, inputs), base)


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "qwen3"])
def test_a_causal_prefix_starts_as_the_words_themselves(architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys and values of words in front of a text are what a causal model would have kept of them."""
    words = torch.tensor([[7, 9, 11]])
    model, inputs = make(architecture), second_alone(batch(architecture))
    longer = torch.cat([words, inputs["input_ids"]], 1)
    positions = torch.cat([torch.arange(3)[None], inputs["position_ids"]], 1)
    expected = outputs(model, {"input_ids": longer, "attention_mask": longer.clamp(1, 1), "position_ids": positions})
    monkeypatch.setattr(torch, "randint", lambda *args, **kwargs: words)
    attach(model, 3)
    close(outputs(model, inputs), expected[:, 3:])


@pytest.mark.parametrize("architecture", ["t5", "bart"])
def test_cross_attention_starts_from_the_encoded_words(architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    words = torch.tensor([[7, 9, 11]])
    model = make(architecture)
    with torch.no_grad():
        states = model.get_encoder()(input_ids=words)[0]
    monkeypatch.setattr(torch, "randint", lambda *args, **kwargs: words)
    attach(model, 3)
    if architecture == "t5":
        cross = model.decoder.block[1].layer[1].EncDecAttention
        keys, values = cross.k(states), cross.v(states)
    else:
        cross = model.model.decoder.layers[1].encoder_attn
        keys, values = cross.k_proj(states), cross.v_proj(states)
    close(cross.prefix.keys.transpose(0, 1).flatten(1), keys[0])
    close(cross.prefix.values.transpose(0, 1).flatten(1), values[0])


def test_more_virtual_tokens_than_positions() -> None:
    model = make("roberta")
    assert {tuple(p.shape) for prefix in attach(model, 100) for p in prefix.parameters()} == {(HEADS, 100, SIZE)}
    assert outputs(model, batch("roberta")).isfinite().all()


@on_architectures
def test_attention_weights_keep_their_shape(architecture: str) -> None:
    model, inputs = prefixed(architecture), batch(architecture)
    with torch.no_grad():
        found = model(**inputs, output_attentions=True)
    names = [name for name in found if "attentions" in name and found[name]]
    assert len(names) == (3 if architecture in PAIRS else 1)
    for name in names:
        rows = 7 if name != "encoder_attentions" and architecture in PAIRS else 9
        columns = 7 if name == "decoder_attentions" else 9
        for weights in found[name]:
            assert weights.shape[2:] == (rows, columns)
            assert 0.0 < weights[0, 0, -1].sum() < 0.999  # the rest is on the prefix


@pytest.mark.parametrize("architecture", DECODERS)
@on_kernels
def test_a_text_in_two_parts_through_the_cache(architecture: str, kernel: str) -> None:
    """Fewer queries than keys, in a causal model."""
    model, inputs = prefixed(architecture, kernel), batch(architecture)
    ids, positions = inputs["input_ids"][:1], inputs["position_ids"][:1]
    expected = outputs(model, {"input_ids": ids})
    with torch.no_grad():
        first = model(input_ids=ids[:, :5], use_cache=True)
        cache = next(name for name in ("cache", "past_key_values") if name in first)  # as of transformers 5.24, before
        second = model(input_ids=ids[:, 5:], position_ids=positions[:, 5:], **{cache: first[cache]})
    assert second[cache].get_seq_length() == 9  # the prefix is not in it
    close(torch.cat([first.logits, second.logits], 1), expected)


@pytest.mark.parametrize("beams", [1, 3])
@on_kernels
@on_generators
def test_generation_is_the_same_with_and_without_cache(architecture: str, kernel: str, beams: int) -> None:
    model = prefixed(architecture, kernel)
    inputs = {name: batch(architecture, architecture in DECODERS)[name] for name in ("input_ids", "attention_mask")}
    options = {"max_new_tokens": 8, "min_new_tokens": 8, "num_beams": beams, "do_sample": False}
    cached = model.generate(**inputs, **options)
    assert torch.equal(model.generate(**inputs, **options, use_cache=False), cached)
    assert torch.equal(model.generate(**second_alone(inputs), **options)[0, -8:], cached[1, -8:])
    for prefix in prefixes(model):
        prefix.enabled = False
    assert not torch.equal(model.generate(**inputs, **options), cached)


def test_gpt2_with_upcast_attention_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        CONFIGS, "gpt2", lambda make_config=CONFIGS["gpt2"]: _set(make_config(), reorder_and_upcast_attn=True)
    )
    model, inputs = prefixed("gpt2"), batch("gpt2")
    real = inputs["attention_mask"].bool()
    close(outputs(model, inputs)[real], outputs(prefixed("gpt2", "sdpa"), inputs)[real])
    for prefix in prefixes(model):
        prefix.enabled = False
    assert torch.equal(outputs(model, inputs), outputs(make("gpt2"), inputs))


def _set(config: Any, **values: Any) -> Any:
    for name, value in values.items():
        setattr(config, name, value)
    return config


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # PEFT asks for it
@pytest.mark.filterwarnings("ignore:.past_key_values. is deprecated:FutureWarning")  # and gives it, as of 5.24
@on_kernels
@pytest.mark.parametrize("architecture", ["gpt2", "llama", "bert", "roberta"])
def test_outputs_are_those_of_peft_where_positions_agree(architecture: str, kernel: str) -> None:
    """PEFT's prefix takes the first positions; ours takes none."""
    from peft import PrefixTuningConfig, get_peft_model

    inputs = batch(architecture)
    ours = prefixed(architecture, kernel)
    task = "CAUSAL_LM" if architecture in DECODERS else "FEATURE_EXTRACTION"
    config = PrefixTuningConfig(num_virtual_tokens=TOKENS, task_type=task)
    theirs = get_peft_model(make(architecture, kernel), config).eval()
    flat = [part.transpose(0, 1).flatten(1) for own in prefixes(ours) for part in (own.keys, own.values)]
    theirs.prompt_encoder["default"].embedding.weight.data = torch.cat(flat, 1).data  # (tokens, layers * 2 * width)
    real = inputs["attention_mask"].bool()
    expected = outputs(theirs, {name: inputs[name] for name in ("input_ids", "attention_mask")})
    first = TOKENS + (1 if architecture == "roberta" else 0)  # RoBERTa numbers from behind its padding's number
    found = outputs(ours, {**inputs, "position_ids": torch.arange(9).expand(2, -1) + first})
    close(found[real], expected[real])


@pytest.mark.parametrize("architecture", ["bert", "deberta-v2", "t5"])
def test_a_copy_has_a_prefix_of_its_own(architecture: str) -> None:
    model, inputs = prefixed(architecture), batch(architecture)
    expected = outputs(model, inputs)
    other = copy.deepcopy(model)
    assert torch.equal(outputs(other, inputs), expected)
    for prefix in prefixes(other):
        torch.nn.init.zeros_(prefix.values)
    assert torch.equal(outputs(model, inputs), expected)
    assert not torch.equal(outputs(other, inputs), expected)
    other.load_state_dict(model.state_dict())
    assert torch.equal(outputs(other, inputs), expected)


@pytest.mark.parametrize("architecture", ["bert", "deberta-v2"])
def test_two_models_in_two_threads_do_not_meet(architecture: str) -> None:
    models = [prefixed(architecture, std=std) for std in (0.3, 0.9)]
    inputs = batch(architecture)
    expected = [outputs(model, inputs) for model in models]
    found: list[list[torch.Tensor]] = [[], []]
    counts: list[int] = []

    def run(i: int) -> None:
        for _ in range(10):
            found[i].append(outputs(models[i], inputs))

    def build() -> None:
        counts.extend(len(attach(make(architecture), TOKENS)) for _ in range(3))

    threads = [*(threading.Thread(target=run, args=(i,)) for i in (0, 1)), threading.Thread(target=build)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [LAYERS] * 3
    for i in (0, 1):
        assert len(found[i]) == 10
        assert all(torch.equal(out, expected[i]) for out in found[i])


def test_a_gate_lies_where_its_keys_do() -> None:
    rows = torch.zeros(2, 3, 4, device="meta")
    prefix = PrefixKV(rows, rows, "activations", gated=True)
    assert {parameter.device.type for parameter in prefix.parameters()} == {"meta"}
