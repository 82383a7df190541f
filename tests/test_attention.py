"""Attention maps are the probabilities that the model computes, of every architecture and after every strategy."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import task_helpers
import tiny
import torch
from tiny_tasks import TASKS
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from transformers import AutoModel, AutoTokenizer, ByT5Tokenizer, PerceiverTokenizer

import adapt
from adapt.backbones import load
from adapt.data import Data
from adapt.extraction import Attention, each_attention, heads
from adapt.extraction.shown import shown
from adapt.spec import OptionError, Unsupported

TEXTS = ["sunny word1 word2 warm", "rotten", "cold word5 kind word7 word8 word9", "word3 word3 bitter"]
LONG = " ".join(f"word{i % 24}" for i in range(20))
"""Longer than ModernBERT's window."""


class Softmaxes(TorchFunctionMode):
    """What each softmax gives, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[torch.Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func in (F.softmax, torch.softmax, torch.Tensor.softmax):
            self.found.append(out)
        return out


def encoder_of(model: Any) -> Any:
    return model.get_encoder() if model.config.is_encoder_decoder else model


def plain(folder: Path, text: str, architecture: str) -> np.ndarray:
    """transformers' own weights of a text by itself, (layers, heads, tokens, tokens)."""
    model = encoder_of(AutoModel.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval())
    batch = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")
    with torch.no_grad():
        found = model(**batch, output_attentions=True).attentions
    return torch.cat(found).numpy()


@pytest.fixture(scope="session")
def fitted(backbone: Callable[..., Path], task_data: Callable[[str], Data]) -> Callable[..., adapt.Adapted]:
    """A tiny classifier of an architecture after a strategy, moved far from where it starts; made once."""
    made: dict[Any, adapt.Adapted] = {}

    def fit(architecture: str, strategy: str, **choices: Any) -> adapt.Adapted:
        key = architecture, strategy, repr(choices)
        if key not in made:
            options = {"precision": "fp32", "max_length": 32, "pooling": "native"} | choices
            fields, short = options.pop("fields", {}), options.pop("short", load.SHORT)
            chosen = dataclasses.replace(tiny.STRATEGIES[strategy], **fields)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(load, "SHORT", short)
                made[key] = tiny.adapted(backbone(architecture), task_data("single_label"), chosen, **options)
        return made[key]

    return fit


def sums_to_1(attention: Attention) -> None:
    np.testing.assert_allclose(attention.weights.sum(-1), 1, atol=1e-5)
    assert (attention.weights >= 0).all()
    assert attention.weights.dtype == np.float32


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_maps_are_those_of_transformers(architecture: str, backbone: Callable[..., Path]) -> None:
    folder = backbone(architecture)
    texts = [*TEXTS, LONG]
    found = adapt.attention(folder, texts)
    for text, attention in zip(texts, found, strict=True):
        expected = plain(folder, text, architecture)
        assert attention.weights.shape == expected.shape == (tiny.LAYERS, tiny.HEADS, *2 * [len(attention.tokens)])
        np.testing.assert_allclose(attention.weights, expected, atol=2e-6)
        sums_to_1(attention)
        assert (attention.prefix, attention.layers) == (0, (1, 2))
        assert [token for i, token in enumerate(attention.tokens) if i not in attention.special] == text.split()
        if architecture in tiny.DECODERS:
            assert (np.triu(attention.weights, 1) == 0).all()
        elif len(attention.tokens) > 1:
            assert np.triu(attention.weights, 1).any()


@pytest.mark.parametrize(
    ("architecture", "strategy"),
    [
        (architecture, strategy)
        for architecture in tiny.ARCHITECTURES
        for strategy in tiny.STRATEGIES
        if strategy == "prefix" or architecture in ("bert", "modernbert", "gpt2", "t5")
    ],
)
def test_adaptations_are_in_force(architecture: str, strategy: str, fitted: Any, backbone: Any) -> None:
    model = fitted(architecture, strategy)
    base = encoder_of(model.fitted.model.base_model)
    virtual = tiny.VIRTUAL if strategy == "prefix" else 0
    before = adapt.attention(backbone(architecture), TEXTS[2:3])[0].weights
    for text, attention in zip(TEXTS, adapt.attention(model, TEXTS), strict=True):
        batch = model.fitted.tokenizer(text, return_tensors="pt")
        with torch.no_grad(), Softmaxes() as softmaxes:
            base(**batch)
        expected = torch.cat(softmaxes.found).numpy()
        assert attention.prefix == virtual
        assert attention.weights.shape[-1] == virtual + len(attention.tokens) == len(attention.keys)
        np.testing.assert_allclose(attention.weights, expected, atol=2e-6)
        sums_to_1(attention)
        if text == TEXTS[2]:
            own = attention.weights[..., virtual:]
            # a head alone changes nothing; adapters change what the layers above theirs see
            changed = slice(1, None) if strategy == "bottleneck" else slice(None)
            assert (abs(own - before)[changed].max() > 1e-3) == (strategy != "head")
    if virtual:
        assert attention.keys[:2] == ("prefix 1", "prefix 2")
        assert (attention.weights[..., :virtual] > 0).all()


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_a_map_is_the_same_whatever_texts_are_beside_it(architecture: str, backbone: Callable[..., Path]) -> None:
    together = adapt.attention(backbone(architecture), TEXTS)
    for text, attention in zip(TEXTS, together, strict=True):
        alone = adapt.attention(backbone(architecture), [text])[0]
        np.testing.assert_allclose(attention.weights, alone.weights, atol=2e-6)
        assert attention.tokens == alone.tokens


@pytest.mark.parametrize("architecture", ["bert", "deberta-v2", "modernbert", "llama", "t5"])
@pytest.mark.parametrize("strategy", ["full", "prefix"])
def test_maps_of_bfloat16_sum_to_1(architecture: str, strategy: str, fitted: Any) -> None:
    low = fitted(architecture, strategy, precision="bf16")
    exact = adapt.attention(low, TEXTS, precision="fp32")
    for attention, same in zip(adapt.attention(low, TEXTS), exact, strict=True):
        sums_to_1(attention)
        np.testing.assert_allclose(attention.weights, same.weights, atol=0.05)


@pytest.mark.parametrize("strategy", ["full", "prefix"])
@pytest.mark.parametrize("architecture", ["bert", "llama", "bart"])
def test_a_model_with_another_kernel_is_left_as_it_was(architecture: str, strategy: str, fitted: Any) -> None:
    eager, fused = fitted(architecture, strategy), fitted(architecture, strategy, short=0)
    configs = [m.config for m in fused.fitted.model.modules() if hasattr(m, "config")]
    before = [config._attn_implementation for config in configs]
    assert all(name.endswith("sdpa") for name in before)
    found = adapt.attention(fused, TEXTS)
    assert [config._attn_implementation for config in configs] == before
    for one, other in zip(found, adapt.attention(eager, TEXTS), strict=True):
        np.testing.assert_allclose(one.weights, other.weights, atol=2e-6)
    base = encoder_of(fused.fitted.model.base_model)
    hook = base.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        adapt.attention(fused, TEXTS)
    hook.remove()
    assert [config._attn_implementation for config in configs] == before


def test_layers_without_a_prefix_give_it_nothing(fitted: Any) -> None:
    model = fitted("bert", "prefix", fields={"layers": "last:1"})
    attention = adapt.attention(model, TEXTS[:1])[0]
    assert attention.prefix == tiny.VIRTUAL
    assert (attention.weights[0, ..., : tiny.VIRTUAL] == 0).all()
    assert (attention.weights[1, ..., : tiny.VIRTUAL] > 0).all()
    sums_to_1(attention)


def test_a_prefix_with_a_gate_is_apart(fitted: Any) -> None:
    attention = adapt.attention(fitted("bert", "prefix", fields={"gated": True}), TEXTS[:1])[0]
    assert attention.prefix == 0
    sums_to_1(attention)


@pytest.mark.parametrize(
    ("architecture", "task"),
    [("bert", "spans"), ("electra", "answers"), ("gpt2", "completion"), ("t5", "text"), ("bart", "text")],
)
def test_models_of_other_kinds(architecture: str, task: str, backbone: Callable[..., Path]) -> None:
    chosen = tiny.STRATEGIES["prefix"]
    model = adapt.fit(backbone(architecture), TASKS[task](), chosen, max_steps=1, max_length=48, precision="fp32")
    attention = adapt.attention(model, TEXTS[:1])[0]
    assert attention.prefix == tiny.VIRTUAL
    sums_to_1(attention)


def test_models_hand_out_weights_on_the_text_alone(fitted: Any) -> None:
    """As they did before, wherever it is not asked otherwise."""
    model = fitted("deberta-v2", "prefix")
    batch = model.fitted.tokenizer(TEXTS[0], return_tensors="pt")
    with torch.no_grad():
        given = model.fitted.model(**batch, output_attentions=True).attentions[0]
    assert given.shape[-1] == batch["input_ids"].shape[1]
    torch.testing.assert_close(given[0].numpy(), adapt.attention(model, TEXTS[:1])[0].weights[0, ..., tiny.VIRTUAL :])


def test_a_saved_model_gives_the_same_bits(fitted: Any, tmp_path: Path) -> None:
    model = fitted("bert", "lora")
    model.save(tmp_path)
    for one, other in zip(adapt.attention(model, TEXTS), adapt.attention(tmp_path, TEXTS, device="cpu"), strict=True):
        assert np.array_equal(one.weights, other.weights)


def test_chosen_layers(backbone: Callable[..., Path]) -> None:
    folder = backbone("bert", layers=3)
    every = adapt.attention(folder, TEXTS[:1])[0]
    for layers, numbers in (
        ("last", (3,)),
        ("1, 3", (1, 3)),
        (2, (2,)),
        ([3, 1], (3, 1)),
        (-1, (3,)),
        (np.arange(1, 3), (1, 2)),
    ):
        found = adapt.attention(folder, TEXTS[:1], layers=layers)[0]
        assert found.layers == numbers
        assert np.array_equal(found.weights, every.weights[[n - 1 for n in numbers]])
    with pytest.raises(OptionError, match="There is no layer 4"):
        adapt.attention(folder, TEXTS[:1], layers="4")
    for layers in (0, "0,1", -4):
        with pytest.raises(OptionError, match="embeddings, which have no attention; give layers from 1 to 3"):
            adapt.attention(folder, TEXTS[:1], layers=layers)


def test_pairs_and_lists_of_words(backbone: Callable[..., Path]) -> None:
    pair = adapt.attention(backbone("bert"), [("warm word1", "cold")])[0]
    assert pair.tokens == ("[CLS]", "warm", "word1", "[SEP]", "cold", "[SEP]")
    assert pair.special == {0, 3, 5}
    words = adapt.attention(backbone("bert"), [["warm", "word1"]])[0]
    assert words.words == (("[CLS]", 1), ("warm", 1), ("word1", 1), ("[SEP]", 1))


def test_many_texts_come_in_order(backbone: Callable[..., Path]) -> None:
    texts = [" ".join(f"word{(i + j) % 24}" for j in range(1 + i % 7)) for i in range(70)]
    found = each_attention(backbone("bert"), texts, layers="last")
    for text, attention in zip(texts, found, strict=True):
        assert list(attention.tokens[1:-1]) == text.split()


def test_a_text_that_is_cut_says_so(backbone: Callable[..., Path]) -> None:
    short, long = adapt.attention(backbone("bert"), ["warm", "warm word1 word2"], max_length=4)
    assert long.tokens == ("[CLS]", "warm", "word1", "[SEP]")
    assert (short.cut, long.cut) == (False, True)
    assert "(1 cut short)" in heads([short, long]).table()
    assert long.source.startswith("bert")


@pytest.mark.parametrize(
    ("name", "tokens", "words"),
    [
        ("tiny-encoder", ["un", "##be", "##li", "##e", "##v", "##ably"], ["unbelievably"]),
        ("tiny-decoder", ["un", "b", "el", "ie", "v", "ably"], ["unbelievably"]),
    ],
)
def test_tokens_are_decoded(name: str, tokens: list[str], words: list[str]) -> None:
    attention = adapt.attention(name, ["so unbelievably café “good”"])[0]
    start = attention.tokens.index(tokens[0])
    assert list(attention.tokens[start : start + len(tokens)]) == tokens
    by_word = attention.by_word()
    plain = [word for i, word in enumerate(by_word.tokens) if i not in by_word.special]
    assert plain == ["so", *words, "café", "“good”"]
    sums_to_1(by_word)
    assert not any(character in "".join(attention.tokens) for character in "Ġ▁Ã")


def test_parts_of_a_character_are_bytes_and_spaces_are_kept() -> None:
    tokens = adapt.attention("tiny-decoder", ["x ï 🙂\n y"])[0].tokens
    assert "<0xC3>" in tokens
    assert "\n" in tokens
    assert not any("\ufffd" in token for token in tokens)


@pytest.mark.parametrize("cls", [ByT5Tokenizer, PerceiverTokenizer])
def test_tokens_that_are_bytes_are_shown_as_such(cls: Any) -> None:
    tokenizer = cls()
    tokens = shown(tokenizer, tokenizer("a é日", add_special_tokens=False)["input_ids"])
    assert tokens == ("a", " ", "<0xC3>", "<0xA9>", "<0xE6>", "<0x97>", "<0xA5>")


def test_bytes_that_a_vocabulary_names_are_shown_by_their_names() -> None:
    tokenizer = task_helpers.byte_fallback()
    tokens = shown(tokenizer, tokenizer("the 你")["input_ids"])
    assert tokens == ("<s>", "the", " ", "<0xE4>", "<0xBD>", "<0xA0>")


def test_an_unknown_word_is_a_word(backbone: Callable[..., Path]) -> None:
    attention = adapt.attention(backbone("bert"), ["warm 🙂"])[0]
    assert attention.tokens == ("[CLS]", "warm", "[UNK]", "[SEP]")
    assert attention.special == {0, 3}


# ---------------------------------------------------------------- what has no such weights


def small(folder: Path, name: str, **fields: Any) -> Path:
    from transformers import CONFIG_MAPPING

    padding = {"pad_token_id": 0}
    config = CONFIG_MAPPING[name](
        vocab_size=len(tiny.VOCABULARY), hidden_size=32, num_hidden_layers=2, **fields, **padding
    )
    AutoModel.from_config(config).save_pretrained(folder)
    tiny.tokenizer_for("bert").save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("mamba", {"state_size": 4}),
        ("fnet", {"intermediate_size": 32}),
        ("longformer", {"intermediate_size": 32, "num_attention_heads": 2, "attention_window": [8, 8]}),
    ],
)
def test_other_architectures_are_refused(name: str, fields: dict[str, Any], tmp_path: Path) -> None:
    folder = small(tmp_path, name, **fields)
    with pytest.raises(Unsupported, match=f"'{name}'"):
        adapt.attention(folder, TEXTS)
    with pytest.raises(Unsupported, match=f"'{name}'"):  # as many tokens as places in a window
        adapt.attention(folder, [" ".join(["word1"] * 7)])


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        (
            "gpt_oss",
            {"num_key_value_heads": 2, "head_dim": 8, "num_local_experts": 2, "num_experts_per_tok": 1},
        ),  # sinks
        ("squeezebert", {"embedding_size": 32}),  # scores, before the softmax
    ],
)
def test_weights_that_are_no_probabilities_are_refused(name: str, fields: dict[str, Any], tmp_path: Path) -> None:
    """A part of GPT-OSS' attention goes to sinks; SqueezeBERT gives scores before the softmax."""
    fields = {"intermediate_size": 32, "num_attention_heads": 4, **fields}
    with pytest.raises(Unsupported, match=f"weights of '{name}' do not sum to 1"):
        adapt.attention(small(tmp_path, name, **fields), TEXTS)
