"""Prefix tuning on every architecture: against attention written out, against PEFT, and against itself with a cache."""

from __future__ import annotations

import copy
import math
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
import transformers
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, eager_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from adapt.spec import Unsupported
from adapt.strategies.prefix_attention import attach
from adapt.strategies.prefix_kv import PrefixKV
from adapt.strategies.prefix_layers import check_coverage

HIDDEN, HEADS, LAYERS, VOCABULARY, TOKENS, SIZE = 32, 4, 2, 40, 3, 8
KERNELS = ("eager", "sdpa")
_SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": HIDDEN,
    "intermediate_size": 48,
    "num_attention_heads": HEADS,
    "num_hidden_layers": LAYERS,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
    "pad_token_id": 0,
}
_ENDS = {"bos_token_id": 1, "eos_token_id": 2}
_QWEN = {**_SIZES, **_ENDS, "num_key_value_heads": 2, "head_dim": 12}
_WINDOW = {"use_sliding_window": True, "sliding_window": 4, "layer_types": ["full_attention", "sliding_attention"]}
_T5 = {"d_model": HIDDEN, "d_kv": SIZE, "d_ff": 48, "num_layers": 3, "num_heads": HEADS, "vocab_size": VOCABULARY}
_DEBERTA = {
    "relative_attention": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
    "position_buckets": 8,
}

CONFIGS: dict[str, Callable[[], Any]] = {
    "bert": lambda: transformers.BertConfig(**_SIZES),
    "roberta": lambda: transformers.RobertaConfig(**_SIZES),
    "distilbert": lambda: transformers.DistilBertConfig(
        vocab_size=VOCABULARY, dim=HIDDEN, hidden_dim=48, n_heads=HEADS, n_layers=LAYERS, initializer_range=0.2,
        max_position_embeddings=64,
    ),
    "electra": lambda: transformers.ElectraConfig(**_SIZES, embedding_size=24),
    "albert": lambda: transformers.AlbertConfig(**_SIZES, embedding_size=24),
    "deberta-v2": lambda: transformers.DebertaV2Config(**_SIZES, **_DEBERTA, share_att_key=True),
    "deberta-v2-own": lambda: transformers.DebertaV2Config(**_SIZES, **{**_DEBERTA, "pos_att_type": ["c2p"]}),
    "modernbert": lambda: transformers.ModernBertConfig(
        **_SIZES, cls_token_id=1, sep_token_id=2, **_ENDS, local_attention=4, global_attn_every_n_layers=2,
        reference_compile=False,
    ),
    "gpt2": lambda: transformers.GPT2Config(
        vocab_size=VOCABULARY, n_embd=HIDDEN, n_head=HEADS, n_layer=LAYERS, n_positions=64, initializer_range=0.2,
        pad_token_id=0, **_ENDS,
    ),
    "llama": lambda: transformers.LlamaConfig(**_SIZES, **_ENDS, num_key_value_heads=2),
    "qwen3": lambda: transformers.Qwen3Config(**_QWEN),
    "qwen3-window": lambda: transformers.Qwen3Config(**_QWEN, **_WINDOW),
    "t5": lambda: transformers.T5Config(
        **_T5, num_decoder_layers=LAYERS, decoder_start_token_id=0, pad_token_id=0, eos_token_id=2
    ),
    "bart": lambda: transformers.BartConfig(
        vocab_size=VOCABULARY, d_model=HIDDEN, encoder_layers=3, decoder_layers=LAYERS, encoder_attention_heads=HEADS,
        decoder_attention_heads=2, encoder_ffn_dim=48, decoder_ffn_dim=48, max_position_embeddings=64, init_std=0.2,
        pad_token_id=0, decoder_start_token_id=2, forced_eos_token_id=None, **_ENDS,
    ),
}  # fmt: skip
"""Tiny configurations; names after the dash tell variants apart."""
DECODERS = ("gpt2", "llama", "qwen3", "qwen3-window")
PAIRS = ("t5", "bart")
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
on_architectures = pytest.mark.parametrize("architecture", CONFIGS)
MODULES = {**dict.fromkeys(CONFIGS, LAYERS), "albert": 1, "t5": 3 + 2 * LAYERS, "bart": 3 + 2 * LAYERS}
"""Attention modules, each of which has a gate a key-value head."""
KV_HEADS = {**dict.fromkeys(CONFIGS, HEADS), **dict.fromkeys(("llama", "qwen3", "qwen3-window"), 2)}
GATES = {**{name: MODULES[name] * KV_HEADS[name] for name in CONFIGS}, "bart": 3 * HEADS + 2 * LAYERS * 2}
on_kernels = pytest.mark.parametrize("kernel", KERNELS)
gated_or_not = pytest.mark.parametrize("gated", [False, True])
on_generators = pytest.mark.parametrize("architecture", [*DECODERS, *PAIRS])


def make(architecture: str, kernel: str = "eager", cls: Any = None) -> Any:
    """A tiny frozen model in eval mode, with a language-model head where it can generate."""
    pairs, decoders = transformers.AutoModelForSeq2SeqLM, transformers.AutoModelForCausalLM
    cls = cls or (pairs if architecture in PAIRS else decoders if architecture in DECODERS else transformers.AutoModel)
    kernel = "eager" if architecture.startswith("deberta") else kernel
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = cls.from_config(CONFIGS[architecture](), attn_implementation=kernel)
        if hasattr(model, "lm_head") and architecture == "t5":  # tied, a random T5 repeats its last word for ever
            model.lm_head.weight = nn.Parameter(torch.randn(VOCABULARY, HIDDEN))
    return model.requires_grad_(False).eval()


def prefixed(
    architecture: str, kernel: str = "eager", cls: Any = None, std: float = 0.7, *, gated: bool = False
) -> Any:
    """The same model with a prefix that matters."""
    model = make(architecture, kernel, cls)
    generator = torch.Generator().manual_seed(1)
    for prefix in attach(model, TOKENS, gated=gated):
        for parameter in prefix.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator) * std
    return model


def prefixes(model: nn.Module) -> list[PrefixKV]:
    return [module for module in model.modules() if isinstance(module, PrefixKV)]


def batch(architecture: str, left: bool = False) -> dict[str, torch.Tensor]:
    """Two rows of words, the second shorter and padded."""
    ids = torch.randint(3, VOCABULARY, (2, 9), generator=torch.Generator().manual_seed(2))
    mask = torch.ones_like(ids)
    mask[1, : 3 if left else None] = 0
    if not left:
        mask[1] = torch.tensor([1] * 6 + [0] * 3)
    inputs = {"input_ids": ids * mask, "attention_mask": mask}
    if architecture in DECODERS:
        inputs["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)
    if architecture in PAIRS:
        inputs["decoder_input_ids"] = torch.randint(3, VOCABULARY, (2, 7), generator=torch.Generator().manual_seed(3))
    return inputs


def second_alone(inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The second row without its padding."""
    kept = inputs["attention_mask"][1].bool()
    return {name: value[1:] if name.startswith("decoder") else value[1:, kept] for name, value in inputs.items()}


def outputs(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        return model(**inputs)[0]


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


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


# What is computed


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


@on_kernels
@on_architectures
def test_a_row_alone_and_in_a_padded_batch_is_the_same(architecture: str, kernel: str) -> None:
    model = prefixed(architecture, kernel)
    for left in (False, True) if architecture in DECODERS else (False,):
        inputs = batch(architecture, left)
        found, alone = outputs(model, inputs)[1], outputs(model, second_alone(inputs))[0]
        close(found if architecture in PAIRS else found[inputs["attention_mask"][1].bool()], alone)


@on_kernels
@gated_or_not
@on_architectures
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
        second = model(input_ids=ids[:, 5:], position_ids=positions[:, 5:], past_key_values=first.past_key_values)
    assert second.past_key_values.get_seq_length() == 9  # the prefix is not in it
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


# Against PEFT


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # PEFT asks for it
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


# Training


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


@on_kernels
@gated_or_not
@on_architectures
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


@on_kernels
@on_architectures
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


@on_kernels
@on_architectures
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


# Coverage

KINDS = {
    "none": transformers.AutoModel,
    "sequence": transformers.AutoModelForSequenceClassification,
    "tokens": transformers.AutoModelForTokenClassification,
    "answers": transformers.AutoModelForQuestionAnswering,
    "seq2seq": transformers.AutoModelForSeq2SeqLM,
    "causal": transformers.AutoModelForCausalLM,
}
CELLS = [
    (name, kind)
    for name in CONFIGS
    for kind, cls in KINDS.items()
    if type(CONFIGS[name]()) in cls._model_mapping and (kind != "causal" or name in DECODERS or name == "bart")
]


@pytest.mark.parametrize(("architecture", "kind"), CELLS)
def test_every_attention_of_every_head_has_a_prefix(architecture: str, kind: str) -> None:
    expected = {"albert": 1, "t5": 3 + 2 * LAYERS, "bart": 3 + 2 * LAYERS}.get(architecture, LAYERS)
    if (architecture, kind) == ("t5", "tokens"):  # the encoder alone
        expected = 3
    if (architecture, kind) == ("bart", "causal"):  # the decoder alone, looking at nothing
        expected = LAYERS
    assert len(attach(make(architecture, cls=KINDS[kind]), TOKENS, "random")) == expected


def test_the_cells_are_many() -> None:
    assert len(CELLS) > 50
    assert ("t5", "tokens") in CELLS


def test_layers_shared_by_groups_share_a_prefix() -> None:
    config = transformers.AlbertConfig(**{**_SIZES, "num_hidden_layers": 6}, num_hidden_groups=2, inner_group_num=2)
    assert len(attach(transformers.AlbertModel(config), TOKENS)) == 4


@pytest.mark.parametrize(
    ("module", "cls", "architecture", "message"),
    [
        ("bert", "BertSelfAttention", "bert", r"0 of 2 attention modules of 'bert'.*encoder.layer.0 \(0 of 1\)"),
        ("t5", "T5LayerCrossAttention", "t5", r"5 of 7 .* 't5'.*decoder.block.0 \(1 of 2\), decoder.block.1"),
        ("deberta_v2", "DisentangledSelfAttention", "deberta-v2", r"0 of 2 attention modules of 'deberta-v2'"),
    ],
)
def test_attention_outside_the_interface_is_named(
    monkeypatch: pytest.MonkeyPatch, module: str, cls: str, architecture: str, message: str
) -> None:
    from importlib import import_module

    def forward(self: Any, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        return (hidden_states, None, None)[: 3 if architecture == "t5" else 2]

    model = make(architecture)
    if architecture == "deberta-v2":  # a class of somebody's own, which would not look for a prefix
        for layer in model.encoder.layer:
            layer.attention.self.__class__ = type("Own", (type(layer.attention.self),), {"forward": forward})
    else:
        file = import_module(f"transformers.models.{module}.modeling_{module}")
        monkeypatch.setattr(getattr(file, cls), "forward", forward)
    with pytest.raises(Unsupported, match=message):
        attach(model, TOKENS)


def test_cross_attention_that_nothing_feeds_is_named() -> None:
    config = transformers.BertConfig(**_SIZES, is_decoder=True, add_cross_attention=True)
    with pytest.raises(Unsupported, match=r"2 of 4 attention modules of 'bert'.*encoder.layer.1 \(1 of 2\)"):
        attach(transformers.BertModel(config), TOKENS)


def test_attention_in_no_layer_is_named() -> None:
    model = make("bert")
    attentions = [layer.attention.self for layer in model.encoder.layer]
    check_coverage(model, attentions)
    with pytest.raises(Unsupported, match=r"look at pooler \(in no layer\)"):
        check_coverage(model, [*attentions, model.pooler])


def test_layers_that_cannot_be_found_are_named() -> None:
    model = make("bert")
    model.config.num_hidden_layers = 5
    with pytest.raises(Unsupported, match="does not find the 5 layers of 'bert'"):
        attach(model, TOKENS)


@pytest.mark.parametrize("kernel", ["flash_attention_2", "flex_attention"])
def test_other_kernels_are_refused(kernel: str) -> None:
    model = make("llama")
    model.config._attn_implementation = kernel
    with pytest.raises(Unsupported, match=f"needs attn_implementation='eager' or 'sdpa', not '{kernel}'"):
        attach(model, TOKENS)
    assert model.config._attn_implementation == kernel


def test_a_disentangled_attention_with_another_softmax_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.models.deberta_v2 import modeling_deberta_v2

    forward = modeling_deberta_v2.DisentangledSelfAttention.forward

    def twice(self: Any, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        return forward(self, hidden_states.softmax(-1), *args, **kwargs)

    monkeypatch.setattr(modeling_deberta_v2.DisentangledSelfAttention, "forward", twice)
    with pytest.raises(Unsupported, match=r"one softmax and one product after it.*has 2 and"):
        attach(make("deberta-v2"), TOKENS)


# Copies and threads


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
