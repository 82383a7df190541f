"""Architectures outside the contract matrix, whose classes do things that those inside do not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import tiny
import torch
from tiny_tasks import TASKS
from torch import nn
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    BigBirdConfig,
    BloomConfig,
    CanineConfig,
    CodeGenConfig,
    DbrxConfig,
    DebertaV2Config,
    EncoderDecoderConfig,
    FalconConfig,
    FNetConfig,
    FunnelConfig,
    FunnelModel,
    Gemma3Config,
    Gemma4TextConfig,
    Glm4MoeConfig,
    GPTJConfig,
    GPTNeoConfig,
    LayoutLMConfig,
    LEDConfig,
    Llama4Config,
    LlamaConfig,
    LongformerConfig,
    LongT5Config,
    MambaConfig,
    MBartConfig,
    MixtralConfig,
    ModernBertConfig,
    MptConfig,
    NllbMoeConfig,
    NomicBertConfig,
    OpenAIGPTConfig,
    OPTConfig,
    PegasusConfig,
    PLBartConfig,
    ProphetNetConfig,
    Qwen3_5Config,
    RwkvConfig,
    SqueezeBertConfig,
    Starcoder2Config,
    SwitchTransformersConfig,
    T5Config,
    T5GemmaConfig,
    T5Model,
    XLNetConfig,
    Zamba2Config,
)

import adapt
from adapt.adapted import assemble, fit_model
from adapt.backbones import Loader
from adapt.backbones.classes import encoder_of, model_class, output_layer, renaming
from adapt.backbones.families import computes_by_row
from adapt.backbones.memo import memos_of
from adapt.backbones.memoise import memoise, release
from adapt.backbones.plain import save_plain
from adapt.data import Data
from adapt.inputs import Inputs
from adapt.memory import plan
from adapt.run import run
from adapt.spec import FieldError, OptionError, Unsupported
from adapt.strategies import Full, Head, LoRA, Prefix, QLoRA
from adapt.tasks import KINDS

LLAMA: dict[str, Any] = {**tiny._SIZES, "num_key_value_heads": 2, "bos_token_id": 2, "eos_token_id": 3}


def saved(folder: Path, config: Any, tokenizer: str, cls: Any = AutoModel, **changes: Any) -> Path:
    torch.manual_seed(0)
    cls.from_config(config).save_pretrained(folder)
    made = tiny.tokenizer_for(tokenizer)
    for name, value in changes.items():
        setattr(made, name, value)
    made.save_pretrained(folder)
    return folder


def alone_and_together(folder: Path, data: Data, strategy: str, **changes: Any) -> None:
    """A row's prediction is the same alone and in a batch, after training."""
    model = fit_model(folder, data, tiny.STRATEGIES[strategy], epochs=1, device="cpu", precision="fp32", **changes)
    texts = [*data.splits["test"]["text"][:6], "sunny"]
    together = model.predict(texts)
    for text, expected in zip(texts, together, strict=True):
        (found,) = model.predict([text])
        assert found["probabilities"] == pytest.approx(expected["probabilities"], abs=1e-4)
    assert len({round(max(row["probabilities"].values()), 3) for row in together}) > 1


@pytest.mark.parametrize("strategy", ["full", "head", "lora"])
def test_a_decoder_whose_configuration_pads_with_another_token_than_its_tokenizer(
    tmp_path: Path, task_data: Callable[[str], Data], strategy: str
) -> None:
    """transformers' classifier finds the last token of a row by the configuration's."""
    config = LlamaConfig(**{**LLAMA, "pad_token_id": 0})
    folder = saved(tmp_path, config, "llama", pad_token="[SEP]")
    alone_and_together(folder, task_data("single_label"), strategy)


@pytest.mark.parametrize("strategy", ["full", "head", "lora"])
def test_a_tokenizer_that_pads_on_the_left(
    backbone: Callable[..., Path], tmp_path: Path, task_data: Callable[[str], Data], strategy: str
) -> None:
    """GPT-2 counts its positions from the first token, be it padding."""
    import shutil

    folder = Path(shutil.copytree(backbone("gpt2"), tmp_path / "copy"))
    made = tiny.tokenizer_for("gpt2")
    made.padding_side = "left"
    made.save_pretrained(folder)
    alone_and_together(folder, task_data("single_label"), strategy)


def test_a_classifier_that_reads_the_last_position_is_refused(tmp_path: Path, task_data: Callable[[str], Data]) -> None:
    config = XLNetConfig(vocab_size=len(tiny.VOCABULARY), d_model=32, n_layer=2, n_head=4, d_inner=48)
    folder = saved(tmp_path, config, "bert")
    options: dict[str, Any] = {"device": "cpu", "precision": "fp32", "epochs": 1}
    spec, data, source = assemble(folder, task_data("single_label"), LoRA(), pooling="native", **options)
    result = run(spec, Inputs(data, source))
    assert result.status == "unsupported"
    assert "reads the last position, be it padding; use the mean of all (pooling='mean')" in str(result.reason)


def test_a_mixture_of_experts_trains_its_output_layer(tmp_path: Path) -> None:
    config = MixtralConfig(**{**LLAMA, "num_local_experts": 2, "num_experts_per_tok": 1})
    folder = saved(tmp_path, config, "llama", AutoModelForCausalLM)
    model = fit_model(
        folder, TASKS["completion"](), tiny.STRATEGIES["head"], epochs=2, device="cpu", precision="fp32", max_length=32
    )
    assert model.result is not None
    assert model.result.curve[-1]["loss"] < model.result.curve[0]["loss"]


@pytest.mark.parametrize("strategy", ["head", "prefix", "lora"])
def test_a_pooler_that_is_always_called(tmp_path: Path, task_data: Callable[[str], Data], strategy: str) -> None:
    config = LayoutLMConfig(**tiny._SIZES)
    folder = saved(tmp_path, config, "bert")
    options: dict[str, Any] = {"device": "cpu", "precision": "fp32", "epochs": 2}
    spec, data, source = assemble(folder, task_data("single_label"), tiny.STRATEGIES[strategy], **options)
    loader = Loader(source, spec.task, spec.budget, 0)
    assert any("pooler" in name for name, _ in loader().named_parameters())
    assert KINDS[spec.task.kind].__name__ == "SequenceClassification"
    assert run(spec, Inputs(data, source)).status == "ok"


def test_a_head_that_calls_its_backbone_by_the_place_of_arguments(tmp_path: Path) -> None:
    load = tiny.loader_for(saved(tmp_path, LayoutLMConfig(**tiny._SIZES), "bert", AutoModelForMaskedLM), "masked_lm")
    model, inputs = Head().build(load, load.task).eval(), tiny.inputs_for("bert", "masked_lm")
    expected = tiny.outputs_of(load().eval(), inputs)
    torch.testing.assert_close(tiny.outputs_of(model, inputs), expected)


def test_a_pooler_that_is_a_bare_linear_layer(tmp_path: Path) -> None:
    """BigBird's, whose activation is the model's."""
    config = BigBirdConfig(**tiny._SIZES, attention_type="original_full")
    load = tiny.loader_for(saved(tmp_path, config, "bert", AutoModelForMaskedLM), "masked_lm")
    model, plain, inputs = Head().build(load, load.task).eval(), load().eval(), tiny.inputs_for("bert", "masked_lm")
    torch.testing.assert_close(tiny.outputs_of(model, inputs), tiny.outputs_of(plain, inputs))
    found, expected = (made.base_model(**inputs).pooler_output for made in (model, plain))
    torch.testing.assert_close(found, expected)


def test_attention_does_not_depend_on_the_batches_before(tmp_path: Path, task_data: Callable[[str], Data]) -> None:
    """transformers' BigBird gives its sparse attention up for good at the first batch of few tokens."""
    config = BigBirdConfig(**tiny._SIZES, attention_type="block_sparse", block_size=2, num_random_blocks=1)
    folder = saved(tmp_path, config, "bert", AutoModelForMaskedLM)
    options: dict[str, Any] = {"device": "cpu", "precision": "fp32", "epochs": 1}
    model = adapt.fit(folder, task_data("single_label"), LoRA(rank=2, learning_rate=0.01), max_length=40, **options)
    assert any("attends to all tokens also of rows of more than 14:" in note for note in model.result.notes)
    long = [" ".join(["warm good"] * n) for n in (15, 17)]
    expected = model.predict(long)
    loaded = adapt.load(model.save(tmp_path / "saved"), device="cpu")
    assert loaded.predict(long) == expected
    loaded.predict(["warm"])
    assert loaded.predict(long) == expected
    merged = AutoModelForSequenceClassification.from_pretrained(model.merge(tmp_path / "merged"))
    assert merged.config.attention_type == "original_full"
    with torch.no_grad():
        tokens = AutoTokenizer.from_pretrained(tmp_path / "merged")(long, return_tensors="pt", padding=True)
        probabilities = merged.eval()(**tokens).logits.softmax(-1)
    found = torch.tensor([list(row["probabilities"].values()) for row in expected])
    torch.testing.assert_close(probabilities, found, atol=1e-4, rtol=0)
    short = adapt.fit(folder, task_data("single_label"), LoRA(rank=2), max_length=14, **options)
    assert not any("attends to all" in note for note in short.result.notes)


def test_a_layer_before_the_output_that_its_class_takes_for_it(tmp_path: Path) -> None:
    """DeBERTa's head multiplies by the word embeddings themselves."""
    config = DebertaV2Config(**tiny._SIZES, relative_attention=True, legacy=False)
    load = tiny.loader_for(saved(tmp_path, config, "bert", AutoModelForMaskedLM), "masked_lm")
    with pytest.raises(Unsupported, match="DebertaV2ForMaskedLM has no output layer that could be trained alone"):
        Head().build(load, load.task)
    model = LoRA(rank=2).build(load, load.task)
    assert output_layer(model) is None
    assert not model.head_names
    words = LoRA(rank=2, embedding_rank=2)
    with pytest.raises(Unsupported, match="head of 'deberta-v2' multiplies by its word embeddings, which merg"):
        words.merge(words.build(load, load.task), load)
    sizes = dict.fromkeys(("vocab_size", "hidden_size", "word_embed_proj_dim"), 32)
    as_wide = AutoModelForCausalLM.from_config(OPTConfig(**sizes, num_hidden_layers=1, num_attention_heads=4))
    assert output_layer(as_wide) is as_wide.lm_head, "a square layer that is the output layer"


def test_layers_that_do_not_see_a_vector_a_token_cannot_be_computed_once(
    tmp_path: Path, task_data: Callable[[str], Data]
) -> None:
    config = XLNetConfig(vocab_size=len(tiny.VOCABULARY), d_model=32, n_layer=2, n_head=4, d_inner=48)
    xlnet = saved(tmp_path / "xlnet", config, "bert")
    windows = saved(tmp_path / "longformer", LongformerConfig(**tiny._SIZES, attention_window=4), "bert")
    upper = "do not see a vector a token"
    for folder, strategy, precision, reason in (
        (xlnet, LoRA(layers="last:1"), "fp32", upper), (xlnet, LoRA(layers="last:1"), "bf16", upper),
        (xlnet, Prefix(), "fp32", "prefix"), (xlnet, Prefix(), "bf16", "pass before training, which fails in 'xlnet'"),
        (windows, LoRA(layers="last:1"), "fp32", upper), (windows, LoRA(layers="last:1"), "bf16", upper),
    ):  # fmt: skip
        spec, rows, source = assemble(
            folder, task_data("single_label"), strategy, epochs=1, pooling="mean", device="cpu", precision=precision
        )
        result = run(spec, Inputs(rows, source))
        assert result.status == "unsupported", (precision, strategy)
        assert reason in str(result.reason)


def test_a_classifier_that_reads_another_position_of_the_longest_row() -> None:
    config = T5GemmaConfig()
    with pytest.raises(Unsupported, match="classifier for 't5gemma' reads another position of a row where"):
        model_class("sequence_classification", config)
    for kind in ("token_classification", "seq2seq"):
        assert model_class(kind, config) is not None


def test_features_of_rows_that_are_computed_together_are_not_shared() -> None:
    sizes: dict[str, Any] = {**LLAMA, "num_local_experts": 2, "num_experts_per_tok": 1}
    one = MixtralConfig(**{**sizes, "num_local_experts": 1})
    for config in (BertConfig(), one):
        assert computes_by_row(config)
    for config in (LongformerConfig(), MixtralConfig(**sizes), DbrxConfig()):
        assert not computes_by_row(config)


@pytest.mark.filterwarnings("ignore:The following .* keys did not match any targeted module")
@pytest.mark.parametrize("targets", ["all-linear", ("gate_proj", "up_proj")])
def test_linear_layers_that_peft_takes_for_experts_are_refused(tmp_path: Path, targets: Any) -> None:
    """The first layer and the shared expert have linear layers called as the experts were in older versions."""
    experts = {"moe_intermediate_size": 16, "n_routed_experts": 4, "num_experts_per_tok": 2, "head_dim": 8}
    config = Glm4MoeConfig(**LLAMA, **experts, n_group=1, topk_group=1, first_k_dense_replace=1)
    load = tiny.loader_for(saved(tmp_path, config, "llama", AutoModelForCausalLM), "causal_lm")
    names = "down_proj, gate_proj, up_proj" if targets == "all-linear" else "gate_proj, up_proj"
    with pytest.raises(FieldError, match=rf"has {names}, by which PEFT means .* name others: .*k_proj, o_proj, q_proj"):
        LoRA(targets=targets).build(load, load.task)
    with pytest.raises(FieldError, match=r"does not go with 'glm4_moe'.* are down_proj, .* without also targeting"):
        LoRA(targets="gate_proj").build(load, load.task)
    model = LoRA(targets=("q_proj", "v_proj")).build(load, load.task)
    assert sum(hasattr(module, "lora_A") for module in model.modules()) == 4


def test_layers_whose_weights_fused_kernels_take_are_left_alone(tmp_path: Path) -> None:
    """A branch beside them would do nothing in training with mamba_ssm; PEFT refuses some of them."""
    config = MambaConfig(vocab_size=len(tiny.VOCABULARY), hidden_size=32, state_size=4, num_hidden_layers=2)
    load = tiny.loader_for(saved(tmp_path, config, "llama", AutoModelForCausalLM), "causal_lm")
    model = LoRA().build(load, load.task)
    assert {name.split(".")[-4] for name, p in model.named_parameters() if p.requires_grad} == {"in_proj"}
    for name in ("dt_proj", "x_proj", "out_proj"):
        with pytest.raises(OptionError, match=name):
            LoRA(targets=name).build(load, load.task)


@pytest.mark.parametrize("bits", [8, 4])
def test_a_backbone_of_which_nothing_is_quantised_is_none_for_qlora(tmp_path: Path, bits: int) -> None:
    """Falcon's linear layers are of a class of its own, which transformers passes over."""
    load = tiny.loader_for(saved(tmp_path, DECODERS["falcon"](), "llama", AutoModelForCausalLM), "causal_lm")
    with pytest.raises(Unsupported, match=f"bitsandbytes holds no layer of 'falcon' in {bits} bits.*use LoRA"):
        QLoRA(rank=2, bits=bits).build(load, load.task)


SMALL: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28}


@pytest.mark.parametrize("strategy", [Full(), LoRA(rank=2)], ids=lambda s: s.name)
def test_the_part_for_text_of_a_model_that_reads_images_too(tmp_path: Path, strategy: Any) -> None:
    experts = {"num_local_experts": 2, "num_experts_per_tok": 1, "moe_layers": [1], "intermediate_size_mlp": 48}
    images = {"intermediate_size": 128, "vision_output_dim": 32, "projector_input_dim": 32, "projector_output_dim": 32}
    text = {**LLAMA, **experts, "head_dim": 8, "pad_token_id": 0}
    config = Llama4Config(text_config=text, vision_config={**SMALL, **images})
    load = tiny.loader_for(saved(tmp_path, config, "llama", AutoModelForImageTextToText), "causal_lm")
    model = strategy.build(load, load.task)
    assert not any("vision" in name for name, _ in model.named_parameters())
    assert model(**tiny.inputs_for("llama", "causal_lm")).logits.shape[-1] == len(tiny.VOCABULARY)


@pytest.mark.parametrize("kind", ["causal_lm", "sequence_classification"])
def test_a_model_that_reads_images_too_and_is_loaded_whole(tmp_path: Path, kind: str) -> None:
    text = {**LLAMA, "head_dim": 8}
    config = Gemma3Config(text_config=text, vision_config={**SMALL, "intermediate_size": 32, "patch_size": 14})
    load = tiny.loader_for(saved(tmp_path, config, "llama", AutoModelForImageTextToText), kind)
    with pytest.raises(Unsupported, match=rf"loads 'gemma3' whole for {kind.replace('_', ' ')}, .* reads text alone"):
        Full().build(load, load.task)


@pytest.mark.parametrize("config", [MBartConfig, PLBartConfig])
def test_an_encoder_decoder_that_finds_the_end_of_a_text_by_its_padding(config: Any) -> None:
    sizes = {"vocab_size": len(tiny.VOCABULARY), "d_model": 32, "max_position_embeddings": 64, "init_std": 0.15}
    for part in ("encoder", "decoder"):
        sizes |= {f"{part}_layers": 1, f"{part}_ffn_dim": 48, f"{part}_attention_heads": 4}
    model = AutoModelForSequenceClassification.from_config(config(**sizes, pad_token_id=1, eos_token_id=2)).eval()
    ids = torch.tensor([[5, 6, 7, 8, 9, 10, 11, 12, 2]])
    longer = nn.functional.pad(ids, (0, 7), value=1)  # as the memo has them in low precision
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        expected = model(input_ids=longer, attention_mask=(longer != 1).long()).logits
        memoise(model, 2**20)
        found = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=0)


HIDDEN: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
GPT: dict[str, Any] = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
DECODERS: dict[str, Callable[[], Any]] = {
    "bloom": lambda: BloomConfig(hidden_size=32, n_layer=2, n_head=4, vocab_size=len(tiny.VOCABULARY)),
    "codegen": lambda: CodeGenConfig(**GPT, rotary_dim=4, vocab_size=len(tiny.VOCABULARY)),
    "falcon": lambda: FalconConfig(**HIDDEN, vocab_size=len(tiny.VOCABULARY)),
    "gptj": lambda: GPTJConfig(**GPT, rotary_dim=4, vocab_size=len(tiny.VOCABULARY)),
    "openai-gpt": lambda: OpenAIGPTConfig(**GPT, vocab_size=len(tiny.VOCABULARY)),
    "opt": lambda: OPTConfig(**HIDDEN, ffn_dim=48, word_embed_proj_dim=16, vocab_size=len(tiny.VOCABULARY)),
}
"""Whose layers give weights of attention beside hidden states, or whose class asks a part of the base model (OPT)."""


@pytest.mark.parametrize("strategy", [Head(), LoRA(rank=2, layers="last:1")], ids=lambda s: s.name)
@pytest.mark.parametrize("architecture", DECODERS)
def test_what_is_frozen_in_other_decoders_is_computed_once(tmp_path: Path, architecture: str, strategy: Any) -> None:
    config = DECODERS[architecture]()
    assert architecture != "codegen" or not hasattr(config, "pad_token_id")
    load = tiny.loader_for(saved(tmp_path, config, "llama", AutoModelForCausalLM), "causal_lm")
    inputs = tiny.inputs_for("llama", "causal_lm")
    expected = tiny.outputs_of(load(frozen=True).eval(), inputs)
    model = strategy.build(load, load.task).eval()
    for _ in range(2):
        torch.testing.assert_close(tiny.outputs_of(model, inputs), expected)
    (memo,) = memos_of(model)
    assert memo.encoded_rows == 3
    release(model)
    assert not memos_of(model)
    torch.testing.assert_close(tiny.outputs_of(model, inputs), expected)


def test_layers_that_are_called_past_their_hooks_cannot_be_left_out(tmp_path: Path) -> None:
    config = SqueezeBertConfig(**tiny._SIZES, embedding_size=32)
    load = tiny.loader_for(saved(tmp_path, config, "bert"), "sequence_classification")
    model = Full(layers="last:1").build(load, load.task)
    with pytest.raises(Unsupported, match="the layers of 'squeezebert' cannot be left out; set layers='all'"):
        model(**tiny.inputs_for("bert", "sequence_classification"))


def test_layers_that_attend_to_keys_of_lower_ones_cannot_be_left_out(tmp_path: Path) -> None:
    layers = {"num_kv_shared_layers": 1, "layer_types": ["full_attention"] * 2, "sliding_window": 8}
    words = {"hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": len(tiny.VOCABULARY)}
    config = Gemma4TextConfig(**LLAMA, **layers, **words, head_dim=8, global_head_dim=8)
    load = tiny.loader_for(saved(tmp_path, config, "llama", AutoModelForCausalLM), "causal_lm")
    with pytest.raises(Unsupported, match=r"layers of 'gemma4_text' hand on more than hidden states.*layers='all'"):
        LoRA(rank=2, layers="last:1").build(load, load.task)


def test_a_backbone_without_linear_layers(tmp_path: Path) -> None:
    load = tiny.loader_for(
        saved(tmp_path, SqueezeBertConfig(**tiny._SIZES, embedding_size=32), "bert"), "sequence_classification"
    )
    for strategy in (LoRA(), LoRA(targets="query"), LoRA(layers="last:1")):
        with pytest.raises(Unsupported, match="'squeezebert' has no linear layers that lora could adapt"):
            strategy.build(load, load.task)


def test_a_decoder_whose_weights_change_between_training_and_evaluation_is_refused(tmp_path: Path) -> None:
    config = RwkvConfig(vocab_size=len(tiny.VOCABULARY), hidden_size=32, num_hidden_layers=2, context_length=64)
    load = tiny.loader_for(saved(tmp_path, config, "llama", AutoModelForCausalLM), "causal_lm")
    with pytest.raises(Unsupported, match=r"'rwkv' cannot be adapted: .* between training and evaluation"):
        Full().build(load, load.task)


T5: dict[str, Any] = {"vocab_size": len(tiny.VOCABULARY), "d_model": 32, "d_ff": 48, "num_heads": 4, "d_kv": 8}
T5 |= {"num_layers": 2, "pad_token_id": 0, "eos_token_id": 3, "decoder_start_token_id": 0}
BART: dict[str, Any] = {"vocab_size": len(tiny.VOCABULARY), "d_model": 32, "init_std": 0.15, "pad_token_id": 0}
BART |= {f"{part}_{what}": n for part in ("encoder", "decoder") for what, n in (("layers", 2), ("ffn_dim", 48))}
BART |= {"encoder_attention_heads": 4, "decoder_attention_heads": 4, "eos_token_id": 3, "decoder_start_token_id": 3}
FEW_EXPERTS = {"num_experts": 2, "num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 1}
ENCODER_DECODERS: dict[str, Callable[[], Any]] = {
    "led": lambda: LEDConfig(**BART, attention_window=4),
    "longt5": lambda: LongT5Config(**T5, local_radius=4),
    "nllb-moe": lambda: NllbMoeConfig(**BART, num_experts=2, encoder_sparse_step=2, decoder_sparse_step=2),
    "switch": lambda: SwitchTransformersConfig(**T5, **FEW_EXPERTS),
}
"""Whose classes look for more in the outputs of their parts, or for the type of a weight."""


@pytest.mark.parametrize("architecture", ["longt5", "switch"])
def test_no_layer_beside_4_bit_weights_gets_integers(tmp_path: Path, architecture: str) -> None:
    """transformers gives the second layer of a feed-forward block inputs of the type of its weight."""
    folder = saved(tmp_path, ENCODER_DECODERS[architecture](), "t5", AutoModelForSeq2SeqLM)
    load = tiny.loader_for(folder, "seq2seq")
    model = QLoRA(rank=2, bits=4).build(load, load.task).eval()
    seen: set[torch.dtype] = set()
    for name, module in model.named_modules():
        if name.endswith(".wo"):
            module.register_forward_pre_hook(lambda _, args: seen.add(args[0].dtype))
    with torch.no_grad():
        model(**tiny.inputs_for("t5", "seq2seq"))
    assert seen == {torch.float32}
    assert any(type(module).__name__ == "Linear4bit" for module in model.modules())


def test_funnels_decoder_is_part_of_its_encoder() -> None:
    config = FunnelConfig(
        vocab_size=30, d_model=16, n_head=2, d_head=8, d_inner=24, block_sizes=[1, 1], num_decoder_layers=1
    )
    base = FunnelModel(config)
    assert encoder_of(base) is base
    both = T5Model(T5Config(vocab_size=30, d_model=16, d_kv=8, d_ff=24, num_layers=1, num_heads=2))
    assert encoder_of(both) is both.encoder


@pytest.mark.parametrize("names", [None, [], ["AutoModel"], ["AutoModelForCausalLM"], ["JinaBertModel"], ["BertModel"]])
def test_what_a_configuration_says_of_its_class_may_be_anything(names: list[str] | None) -> None:
    config = BertConfig(architectures=names)
    assert renaming(BertForSequenceClassification, config) == {}


@pytest.mark.parametrize("architecture", ["led", "nllb-moe", "switch"])
def test_features_of_other_encoder_decoders_are_computed_once(tmp_path: Path, architecture: str) -> None:
    folder = saved(tmp_path, ENCODER_DECODERS[architecture](), "t5", AutoModelForSeq2SeqLM)
    load = tiny.loader_for(folder, "seq2seq")
    inputs = tiny.inputs_for("t5", "seq2seq")
    with torch.no_grad():
        expected = tiny.outputs_of(load(frozen=True).eval(), inputs)
        model = Head().build(load, load.task).eval()
        for _ in range(2):
            torch.testing.assert_close(tiny.outputs_of(model, inputs), expected, rtol=1e-4, atol=1e-5)
    (memo,) = memos_of(model)
    assert memo.encoded_rows == 3


def test_an_output_layer_that_reads_more_than_the_last_hidden_states(tmp_path: Path) -> None:
    sizes: dict[str, Any] = {"vocab_size": len(tiny.VOCABULARY), "hidden_size": 32, "pad_token_id": 0}
    for part in ("encoder", "decoder"):
        sizes |= {f"num_{part}_layers": 1, f"num_{part}_attention_heads": 4, f"{part}_ffn_dim": 48}
    config = ProphetNetConfig(**sizes, decoder_start_token_id=3)
    load = tiny.loader_for(saved(tmp_path, config, "t5", AutoModelForSeq2SeqLM), "seq2seq")
    with pytest.raises(Unsupported, match="'prophetnet' reads streams for several tokens ahead"):
        Head().build(load, load.task)


def test_two_models_joined_are_refused(tmp_path: Path) -> None:
    part = BertConfig(**tiny._SIZES)
    config = EncoderDecoderConfig.from_encoder_decoder_configs(part, part)
    config.decoder_start_token_id, config.pad_token_id, config.eos_token_id = 2, 0, 3
    load = tiny.loader_for(saved(tmp_path, config, "t5", AutoModelForSeq2SeqLM), "seq2seq")
    message = "no class for the pretrained part of 'encoder-decoder' alone"
    with pytest.raises(Unsupported, match=message):
        LoRA().build(load, load.task)
    with pytest.raises(Unsupported, match=message):
        plan(tmp_path, "lora", kind="seq2seq", batch=(2, 8), device="cpu")


def shared_layers(folder: Path) -> Loader:
    """Of a decoder whose second and fourth layer have their attention in common."""
    mamba = {"mamba_d_state": 4, "mamba_headdim": 8, "mamba_ngroups": 1, "n_mamba_heads": 8, "use_mamba_kernels": False}
    sizes = {**LLAMA, "num_hidden_layers": 4, "num_key_value_heads": 4, "pad_token_id": 0}
    config = Zamba2Config(**sizes, **mamba, layers_block_type=["mamba", "hybrid"] * 2, num_mem_blocks=1)
    return tiny.loader_for(saved(folder, config, "llama", AutoModelForCausalLM), "causal_lm")


@pytest.mark.parametrize("layers", ["all", "last:1"])
def test_updates_of_layers_that_share_their_weights_cannot_be_merged(tmp_path: Path, layers: str) -> None:
    load = shared_layers(tmp_path)
    strategy = LoRA(rank=2, layers=layers)
    with pytest.raises(Unsupported, match=r"cannot be merged: 'zamba2' has the weight of layers\.\d.* in other layers"):
        strategy.merge(strategy.build(load, load.task), load)


def test_layers_that_share_their_weights_still_do_in_a_merged_model(tmp_path: Path) -> None:
    load, plain = shared_layers(tmp_path / "own"), tmp_path / "plain"
    inputs = tiny.inputs_for("llama", "causal_lm")
    model = tiny.moved(Head().build(load, load.task))
    release(model)
    plain.mkdir()
    save_plain(Head().merge(model, load), load, plain)
    found, info = AutoModelForCausalLM.from_pretrained(plain, output_loading_info=True)
    assert not info["missing_keys"]
    with torch.no_grad():
        expected = tiny.outputs_of(model.eval(), inputs)
        torch.testing.assert_close(tiny.outputs_of(found.eval(), inputs), expected, rtol=1e-4, atol=1e-4)


def test_a_pooler_that_reads_more_than_the_last_hidden_states_is_no_probe(
    tmp_path: Path, task_data: Callable[[str], Data]
) -> None:
    config = CanineConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, num_hash_buckets=16,
        max_position_embeddings=64, local_transformer_stride=8, downsampling_rate=2,
    )  # fmt: skip
    folder, given = saved(tmp_path, config, "bert"), {"pooling": "native", "device": "cpu", "max_steps": 1}
    with pytest.raises(Unsupported, match="the pooler of 'canine' reads more than the last hidden states"):
        fit_model(folder, task_data("single_label"), "head", **given)
    made = fit_model(folder, task_data("single_label"), "full", **given)
    assert made.result is not None
    assert made.result.scores


@pytest.mark.parametrize(
    "config",
    [
        Starcoder2Config(**LLAMA, residual_dropout=0.1, attention_dropout=0.1, embedding_dropout=0.1),
        GPTNeoConfig(
            vocab_size=len(tiny.VOCABULARY), hidden_size=32, num_layers=2, num_heads=2, resid_dropout=0.1,
            attention_types=[[["global"], 2]], embed_dropout=0.1, attention_dropout=0.1,
        ),
        MptConfig(
            vocab_size=len(tiny.VOCABULARY), d_model=32, n_layers=2, n_heads=2, emb_pdrop=0.1, resid_pdrop=0.1
        ),
    ],
    ids=lambda config: config.model_type,
)  # fmt: skip
def test_the_dropout_of_a_budget_is_that_of_every_layer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: Any
) -> None:
    """What each call of torch's dropout is asked for, and what modules say."""
    load = tiny.loader_for(saved(tmp_path, config, "llama"), "causal_lm", dropout=0.0)
    model, asked = load().train(), set[float]()
    dropout = torch.nn.functional.dropout

    def spy(input: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> torch.Tensor:
        if training:
            asked.add(p)
        return dropout(input, p, training, inplace)

    monkeypatch.setattr(torch.nn.functional, "dropout", spy)
    tiny.outputs_of(model, tiny.inputs_for("llama", "causal_lm"))
    assert asked == {0.0}


def test_a_model_that_transformers_does_not_know_is_one_error(tmp_path: Path, task_data: Callable[[str], Data]) -> None:
    folder = saved(tmp_path, BertConfig(**tiny._SIZES), "bert")
    for changes, told in (
        ({"model_type": "perceptron-9"}, "model_type must be one that transformers knows"),
        (
            {"model_type": "internlm2", "auto_map": {"AutoConfig": "c.C", "AutoModel": "m.M"}},
            "config.json cannot be used",
        ),
    ):
        (folder / "config.json").write_text(json.dumps(changes))
        with pytest.raises(OptionError, match=told) as caught:
            fit_model(folder, task_data("single_label"), "head", device="cpu", pooling="native")
        assert "trust_remote_code" not in str(caught.value)


def test_a_masked_language_models_layers_are_no_head_for_classes(tmp_path: Path) -> None:
    """ModernBERT's classifiers have the dense layer of its language model."""
    config = ModernBertConfig(**tiny._SIZES, local_attention=8)
    folder = saved(tmp_path, config, "modernbert", AutoModelForMaskedLM)
    load = tiny.loader_for(folder, "sequence_classification")
    model: Any = load()
    assert not load.notes
    assert {"classifier.weight", "classifier.bias"} <= model.fresh_names
    assert "head.dense.weight" not in model.fresh_names


def test_outputs_that_are_projected_have_a_mean(tmp_path: Path, task_data: Callable[[str], Data]) -> None:
    sizes = {"hidden_size": 32, "word_embed_proj_dim": 16, "ffn_dim": 32, "num_hidden_layers": 1}
    config = OPTConfig(vocab_size=len(tiny.VOCABULARY), num_attention_heads=2, max_position_embeddings=64, **sizes)
    folder = saved(tmp_path, config, "gpt2")
    assert fit_model(folder, task_data("single_label"), "head", device="cpu", pooling="mean", max_steps=1).result


def test_fnet_is_not_trained_in_bfloat16(tmp_path: Path, task_data: Callable[[str], Data]) -> None:
    config = FNetConfig(
        vocab_size=len(tiny.VOCABULARY), hidden_size=32, num_hidden_layers=1, intermediate_size=32,
        max_position_embeddings=64,
    )  # fmt: skip
    folder = saved(tmp_path, config, "bert")
    with pytest.raises(Unsupported, match=r"'fnet' mixes tokens by transforms .*; use precision fp32"):
        fit_model(folder, task_data("single_label"), "lora", device="cpu", precision="bf16")


def test_a_new_pooler_is_trained_wherever_it_stands(tmp_path: Path) -> None:
    """Nomic's stands before the layers, and published checkpoints lack it."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    config = NomicBertConfig(vocab_size=len(tiny.VOCABULARY), max_position_embeddings=64, pad_token_id=0, **sizes)
    load = tiny.loader_for(saved(tmp_path, config, "bert", AutoModelForMaskedLM), "sequence_classification")
    model = Full(layers="last:1").build(load, load.task)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert any("pooler" in name for name in model.fresh_names)
    assert model.head_names <= trained
    assert not any("layers.0." in name or "embed" in name for name in trained)
    assert any("layers.1." in name for name in trained)


@pytest.mark.parametrize("lacking", [False, True])
def test_sinusoids_that_a_checkpoint_lacks_are_computed_and_never_trained(tmp_path: Path, lacking: bool) -> None:
    sizes = {"d_model": 32, "max_position_embeddings": 64, "decoder_start_token_id": 0, "pad_token_id": 0}
    for part in ("encoder", "decoder"):
        sizes |= {f"{part}_layers": 1, f"{part}_ffn_dim": 48, f"{part}_attention_heads": 4}
    folder = saved(tmp_path, PegasusConfig(vocab_size=len(tiny.VOCABULARY), **sizes), "t5", AutoModelForSeq2SeqLM)
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    tables = {name for name in weights if "embed_positions" in name}
    assert len(tables) == 2
    if lacking:
        rest = {name: tensor for name, tensor in weights.items() if name not in tables}
        safetensors.torch.save_file(rest, folder / "model.safetensors", {"format": "pt"})
    load = tiny.loader_for(folder, "seq2seq")
    model = Full().build(load, load.task)
    parameters = dict(model.named_parameters())
    for name in tables:
        assert torch.equal(parameters[name], weights[name])
        assert not parameters[name].requires_grad
    assert sum(not parameter.requires_grad for parameter in parameters.values()) == 2


@pytest.mark.parametrize("pooling", ["native", "mean"])
def test_a_classifier_of_the_part_for_text_where_transformers_reads_it_from_the_whole(
    tmp_path: Path, pooling: Any
) -> None:
    text = {**LLAMA, "head_dim": 8, "layer_types": ["full_attention"], "num_hidden_layers": 1, "pad_token_id": 0}
    images = {"depth": 1, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": 32}
    config = Qwen3_5Config(text_config=text, vision_config=images)
    whole = saved(tmp_path, config, "llama", AutoModelForImageTextToText)
    load = tiny.loader_for(whole, "sequence_classification")
    load = replace(load, task=replace(load.task, pooling=pooling))
    model = LoRA(rank=2).build(load, load.task)
    assert not any("vision" in name or "visual" in name for name, _ in model.named_parameters())
    there = safetensors.torch.load_file(whole / "model.safetensors")
    (found,) = [tensor for name, tensor in there.items() if name.endswith("embed_tokens.weight")]
    assert torch.equal(model.base_model.get_input_embeddings().weight, found)
