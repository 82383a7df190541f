"""The head that a backbone gets for each kind of task, and the one that a checkpoint holds."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import BertConfig

import adapt
from adapt.backbones.classes import model_class
from adapt.backbones.heads import MeanPoolingClassifier
from adapt.spec import AdaptError, Unsupported

HEADS = {
    "sequence_classification": {
        "distilbert": {"pre_classifier", "classifier"},
        "deberta-v2": {"pooler.dense", "classifier"},
        "modernbert": {"head.dense", "head.norm", "classifier"},
        "bert": {"bert.pooler.dense", "classifier"},  # the checkpoint has no pooler
        "albert": {"classifier"},
        **{key: {"classifier.dense", "classifier.out_proj"} for key in ("roberta", "electra")},
        **{key: {"score"} for key in tiny.DECODERS},
        **{key: {"classification_head.dense", "classification_head.out_proj"} for key in tiny.ENCODER_DECODERS},
    },
    "token_classification": {
        **{key: {"classifier"} for key in tiny.ARCHITECTURES},
        "modernbert": {"head.dense", "head.norm", "classifier"},
        **{key: {"score"} for key in ("llama", "qwen3")},
    },
    "question_answering": {
        **{key: {"qa_outputs"} for key in tiny.ARCHITECTURES},
        "modernbert": {"head.dense", "head.norm", "classifier"},
    },
}
"""Modules of the head."""


@pytest.mark.parametrize(("kind", "architecture"), tiny.TASK_CELLS)
def test_a_native_head_is_that_of_transformers(backbone: Callable[..., Path], kind: str, architecture: str) -> None:
    """Its class, its modules, and the outputs of the plain class on the same backbone under the same head."""
    model: Any = tiny.loader_for(backbone(architecture), kind)()
    cls = type(model)
    assert cls.__module__.startswith("transformers.models.")
    assert {name.rpartition(".")[0] for name in model.head_names} == HEADS.get(kind, {}).get(architecture, set())
    parameters = dict(model.named_parameters())
    assert model.head_size == sum(parameters[name].numel() for name in model.head_names)
    names = {} if model.base_model_prefix == "model" else {r"^model\.": f"{model.base_model_prefix}."}
    config = tiny.loader_for(backbone(architecture), kind).config()
    config.pad_token_id = model.config.pad_token_id
    reference = cls.from_pretrained(
        backbone(architecture), config=config, attn_implementation="eager", key_mapping=names
    ).eval()
    with torch.no_grad():
        for name, parameter in reference.named_parameters():
            if name in model.head_names:
                parameter.copy_(parameters[name])
            assert torch.equal(parameter, parameters[name]), name
        inputs = tiny.inputs_for(architecture, kind)
        assert torch.equal(tiny.outputs_of(model.eval(), inputs), tiny.outputs_of(reference, inputs))


@pytest.mark.parametrize(("kind", "architecture"), [c for c in tiny.BODIES if c[0] in HEADS])
def test_a_head_is_drawn_alike_whatever_is_frozen(backbone: Callable[..., Path], kind: str, architecture: str) -> None:
    load = tiny.loader_for(backbone(architecture), kind)
    torch.manual_seed(1)
    whole, frozen = load(), load(frozen=True, output_layer=True)
    low = tiny.loader_for(backbone(architecture), kind, precision="bf16")(frozen=True)
    weights = dict(whole.named_parameters())
    other = dict(tiny.loader_for(backbone(architecture), kind, seed=1)().named_parameters())
    for model in (frozen, low):
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        assert trained.keys() == model.head_names == whole.head_names
        for name, parameter in trained.items():
            assert parameter.dtype == torch.float32
            assert torch.equal(parameter, weights[name]), name
    assert any(not torch.equal(other[name], weights[name]) for name in whole.head_names)
    assert {p.dtype for p in low.parameters() if not p.requires_grad} == {torch.bfloat16}


def test_a_head_for_a_number_is_told_of(backbone: Callable[..., Path], tmp_path: Path) -> None:
    folder, rows = backbone("bert"), [{"text": f"word{i}", "label": i / 7} for i in range(40)]
    choices: dict[str, Any] = {"epochs": 1, "device": "cpu", "precision": "fp32", "pooling": "native"}
    first = adapt.fit(folder, rows, "head", **choices)
    assert first.result is not None
    assert not any("from which training starts" in note for note in first.result.notes)
    more = adapt.fit(first.merge(tmp_path / "merged"), rows, "head", **choices).result
    assert more is not None
    assert "the checkpoint has a head for a number, from which training starts" in more.notes


@pytest.mark.parametrize(
    ("kind", "architecture"),
    [
        *(("sequence_classification", architecture) for architecture in tiny.ARCHITECTURES),
        *(("token_classification", architecture) for architecture in ("bert", "modernbert", "llama")),
    ],
)
def test_the_head_of_a_checkpoint_is_kept_for_the_same_classes_alone(
    backbone: Callable[..., Path], tmp_path: Path, kind: str, architecture: str
) -> None:
    """What it says of a class it says of that class still, in whichever order the checkpoint has them."""
    plain = tiny.loader_for(backbone(architecture), kind)
    labels = plain.task.labels
    trained: Any = plain()
    shutil.copytree(backbone(architecture), tmp_path / "trained")
    trained.save_pretrained(tmp_path / "trained")
    before, inputs = dict(trained.named_parameters()), tiny.inputs_for(architecture, kind)
    outputs = tiny.outputs_of(trained.eval(), inputs)
    numbers = tuple(map(str, range(len(labels))))
    for there, task_labels, kept in (
        (labels, labels, True),
        ([label.upper() for label in reversed(labels)], labels, True),
        ([f"LABEL_{number}" for number in numbers], numbers, True),
        ([f"LABEL_{number}" for number in numbers], tuple(f"LABEL_{number}" for number in numbers), True),
        ([f"LABEL_{number}" for number in numbers], labels, False),
        ([f"other {number}" for number in numbers], labels, False),
    ):
        values = json.loads((tmp_path / "trained/config.json").read_text())
        values |= {"id2label": dict(enumerate(there)), "label2id": {label: i for i, label in enumerate(there)}}
        (tmp_path / "trained/config.json").write_text(json.dumps(values))
        load = dataclasses.replace(
            tiny.loader_for(tmp_path / "trained", kind, seed=1),
            task=dataclasses.replace(plain.task, labels=task_labels),
        )
        model: Any = load().eval()
        (note,) = [note for note in load.notes if "head" in note]
        assert ("training starts from it" in note) == kept
        assert ("drawn anew" in note) != kept
        assert (model.fresh_names == set()) == kept
        found = tiny.outputs_of(model, inputs)
        if kept:
            turned = outputs.flip(-1) if there[0] == labels[-1].upper() else outputs
            assert torch.equal(found, turned)
        else:
            redrawn = {name: p for name, p in model.named_parameters() if name in model.fresh_names}
            assert {p.shape[0] for p in redrawn.values()} == {len(labels)}
            assert all(p.dim() < 2 or not torch.equal(p, before[name]) for name, p in redrawn.items())


@pytest.mark.parametrize(("kind", "architecture"), [c for c in tiny.TASK_CELLS if c[0] not in HEADS])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_output_layer_of_a_language_model_is_trained_on_request(
    backbone: Callable[..., Path], kind: str, architecture: str, precision: str
) -> None:
    load = tiny.loader_for(backbone(architecture), kind, precision=precision)
    plain = load(frozen=True)
    assert plain.head_size == 0
    assert not any(p.requires_grad for p in plain.parameters())
    assert all(p.requires_grad for p in load().parameters())
    model: Any = load(frozen=True, output_layer=True)
    assert [n for n, p in model.named_parameters() if p.requires_grad] == ["lm_head.weight"]
    assert model.head_names == {"lm_head.weight"}
    assert model.head_size == len(tiny.VOCABULARY) * tiny.HIDDEN
    assert model.lm_head.weight.dtype == torch.float32
    embeddings = model.get_input_embeddings().weight
    assert embeddings.dtype == (torch.float32 if precision == "fp32" else torch.bfloat16)
    assert embeddings.data_ptr() != model.lm_head.weight.data_ptr()
    assert torch.equal(model.lm_head.weight, plain.get_output_embeddings().weight.float())
    inputs = tiny.inputs_for(architecture, kind)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        assert torch.equal(tiny.outputs_of(model.eval(), inputs), tiny.outputs_of(plain.eval(), inputs))


@pytest.mark.parametrize(
    ("kind", "architecture", "message"),
    [
        ("seq2seq", "bert", "no seq2seq head for 'bert'"),
        ("seq2seq", "llama", "no seq2seq head for 'llama'"),
        ("token_classification", "bart", "no token classification head for 'bart'"),
        ("causal_lm", "bert", "'bert' was not pretrained to continue a text .* use a decoder"),
        ("causal_lm", "roberta", "'roberta' was not pretrained"),
        ("causal_lm", "bart", "'bart' was not pretrained .* or the kind seq2seq"),
        ("causal_lm", "t5", "'t5'"),
        ("causal_lm", "deberta-v2", "'deberta-v2' was not pretrained"),
    ],
)
def test_a_kind_without_a_head_is_unsupported(
    backbone: Callable[..., Path], kind: str, architecture: str, message: str
) -> None:
    with pytest.raises(Unsupported, match=message):
        tiny.loader_for(backbone(architecture), kind)()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (BertConfig(), "causal LM needs; use a decoder .*, or the kind masked_lm"),
        (transformers.XLNetConfig(), "it predicts tokens in an order that is drawn; use .* token_classification"),
        (transformers.CpmAntConfig(), "it attends to later tokens, too; use a decoder .*Qwen3[)]$"),
        (transformers.BertGenerationConfig(), "it attends to later tokens, too, as its configuration says"),
        (transformers.LlamaConfig(is_causal=False), "it attends to later tokens, too, .* kind token_classification"),
        (transformers.Gemma3TextConfig(use_bidirectional_attention=True), "it attends to later tokens, too"),
        (transformers.MarianConfig(), "it is an encoder-decoder, .*; use a decoder .*, or the kind seq2seq"),
        (transformers.PegasusConfig(), "it is an encoder-decoder, .* or the kind seq2seq"),
        (transformers.PLBartConfig(), "it is an encoder-decoder, .* or the kind seq2seq"),
        (transformers.WhisperConfig(), "it is an encoder-decoder, .*Qwen3[)]$"),
        (transformers.BertConfig(is_decoder=True), "or the kind token_classification$"),
    ],
    ids=lambda value: getattr(value, "model_type", ""),
)
def test_what_does_not_read_from_the_left_alone_is_no_causal_lm(config: Any, message: str) -> None:
    with pytest.raises(Unsupported, match=f"'{config.model_type}' was not pretrained to continue a text .*{message}"):
        model_class("causal_lm", config)


def test_what_reads_from_the_left_alone_is_a_causal_lm() -> None:
    for config in [
        transformers.BertGenerationConfig(is_decoder=True),
        transformers.LlamaConfig(is_causal=True),
        transformers.Gemma3TextConfig(use_bidirectional_attention=False),
    ]:
        assert model_class("causal_lm", config).__name__.endswith(("ForCausalLM", "Decoder"))


def test_a_language_model_without_its_output_layer_is_refused(backbone: Callable[..., Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(backbone("llama"), tmp_path / "headless"))
    state = load_file(folder / "model.safetensors")
    del state["lm_head.weight"]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    assert tiny.loader_for(folder, "sequence_classification")()
    with pytest.raises(AdaptError, match=r"headless: its weights lack lm_head\.weight"):
        tiny.loader_for(folder, "causal_lm")()


def test_the_mean_and_what_is_made_of_it_are_computed_in_float32() -> None:
    """Whatever the encoder computes in, and whatever autocast would."""

    class Encoder(torch.nn.Module):
        config = BertConfig(hidden_size=tiny.HIDDEN)

        def forward(self, **_: Any) -> tuple[torch.Tensor]:
            return (hidden,)

    hidden = (torch.randn(3, 50, tiny.HIDDEN) + 5).bfloat16()
    mask = torch.arange(50)[None] < torch.tensor([[50], [31], [1]])
    head = MeanPoolingClassifier(Encoder(), 4, 0.0).eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = head(input_ids=mask.long(), attention_mask=mask.long()).logits
    mean = torch.stack([row[real].double().mean(0) for row, real in zip(hidden, mask, strict=True)])
    expected = mean @ head.classifier.weight.double().T + head.classifier.bias.double()
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)


def test_mean_pooling_of_an_encoder_decoder_is_unsupported(backbone: Callable[..., Path]) -> None:
    load = tiny.loader_for(backbone("t5"), "sequence_classification")
    load = dataclasses.replace(load, task=dataclasses.replace(load.task, pooling="mean"))
    with pytest.raises(Unsupported, match="mean pooling is for encoders"):
        load()


def _numbers(factor: float = 1.0) -> list[dict[str, Any]]:
    return [{"text": f"word{i}", "label": factor * (i / 7 + 3)} for i in range(40)]


NATIVE: dict[str, Any] = {"epochs": 2, "device": "cpu", "precision": "fp32", "pooling": "native", "dropout": 0.0}


def values(model: Any) -> list[float]:
    return [row["value"] for row in model.predict([f"word{i} word1" for i in range(8)])]


@pytest.mark.parametrize("factor", [1.0, 10.0, 1e-3])
def test_the_head_for_a_number_of_a_merged_model_gives_what_it_gave(
    backbone: Callable[..., Path], tmp_path: Path, factor: float
) -> None:
    """Unless it is trained, and the rows are on another scale."""
    first = adapt.fit(backbone("bert"), _numbers(), adapt.Full(learning_rate=5e-3), **NATIVE)
    merged = first.merge(tmp_path / "merged")
    for strategy in ("untrained", adapt.Full(learning_rate=1e-12), adapt.LoRA(learning_rate=1e-12)):
        model = adapt.fit(merged, _numbers(factor), strategy, **NATIVE)
        assert model.result is not None
        told = any("that training began with have mean" in note for note in model.result.notes)
        assert told == (factor != 1.0 and strategy != "untrained")
        scale = first.fitted.kind.state() if told else {"mean": 0.0, "std": 1.0}
        own = model.fitted.kind.state() if told else {"mean": 0.0, "std": 1.0}
        expected = [(value - scale["mean"]) / scale["std"] * own["std"] + own["mean"] for value in values(first)]
        assert values(model) == pytest.approx(expected, rel=1e-4)
        assert values(adapt.load(model.save(tmp_path / f"saved {model.run.strategy.name}"))) == values(model)


@pytest.mark.parametrize("architecture", ["bert", "llama"])
def test_the_head_for_a_number_of_another_library_gives_numbers_as_they_are(
    backbone: Callable[..., Path], tmp_path: Path, architecture: str
) -> None:
    plain = transformers.AutoModelForSequenceClassification.from_pretrained(backbone(architecture), num_labels=1)
    plain.save_pretrained(tmp_path / "own")
    tiny.tokenizer_for(architecture).save_pretrained(tmp_path / "own")
    model = adapt.fit(tmp_path / "own", _numbers(), "untrained", **NATIVE)
    tokens = model.fitted.tokenizer("word3 word1", return_tensors="pt")
    with torch.no_grad():
        raw = plain.eval()(**tokens).logits.item()
    assert values(model)[3] == pytest.approx(raw, rel=1e-3)
