"""Every attention of a model gets a prefix, or the model is refused with its name."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from prefix_helpers import CONFIGS, DECODERS, LAYERS, SIZES, TOKENS, make

from adapt.spec import Unsupported
from adapt.strategies.prefix_attention import attach
from adapt.strategies.prefix_layers import check_coverage

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
    config = transformers.AlbertConfig(**{**SIZES, "num_hidden_layers": 6}, num_hidden_groups=2, inner_group_num=2)
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
    config = transformers.BertConfig(**SIZES, is_decoder=True, add_cross_attention=True)
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
