"""The head for masked tokens, where a checkpoint lacks it: drawn, trained under every strategy, saved and merged."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
import tiny_tasks
import torch
from peft import PeftModel
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForPreTraining,
    AutoModelForSequenceClassification,
    BertConfig,
    BertModel,
)

from adapt import AdaptError
from adapt.adapted import fit_model, load_model
from adapt.backbones import Loader, resolve
from adapt.backbones.plain import save_plain
from adapt.memory import measure
from adapt.memory.planner import Planner, setting_of
from adapt.memory.step import made_up
from adapt.strategies import Full, disabled

TRANSFORM = {f"cls.predictions.transform.{part}" for part in ("dense.weight", "dense.bias", "LayerNorm.weight")}
TRANSFORM |= {"cls.predictions.transform.LayerNorm.bias"}
TABLE = "deberta.embeddings.word_embeddings.weight"
ROWS = [f"[MASK] {text}" for text in tiny_tasks.TASKS["masked"]().splits["test"]["text"]]


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft asks for it
@pytest.mark.parametrize("strategy", tiny.STRATEGIES)
def test_it_is_drawn_trained_saved_and_merged(backbone: Callable[..., Path], tmp_path: Path, strategy: str) -> None:
    folder, chosen = backbone("deberta-v2"), tiny.STRATEGIES[strategy]
    fitted = fit_model(folder, tiny_tasks.TASKS["masked"](), chosen, epochs=1, precision="fp32", device="cpu")
    load, model = fitted.fitted.loader, fitted.fitted.model
    alone = strategy == "head"
    bias = "cls.predictions.decoder.bias" if alone else "cls.predictions.bias"
    assert model.fresh_names == TRANSFORM | {bias}
    assert model.head_names == model.fresh_names | ({"cls.predictions.decoder.weight"} if alone else set())
    assert fitted.result is not None
    lacking = (
        "cls.predictions.bias, cls.predictions.transform.LayerNorm.bias, cls.predictions.transform.LayerNorm.weight"
    )
    note = f"the head for masked tokens is not pretrained: the checkpoint lacks {lacking} and more"
    assert note in fitted.result.notes, "the same under every strategy"

    whole = dict(load().named_parameters())
    start = dict(chosen.build(load, load.task).named_parameters())
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    for name in model.fresh_names:
        assert torch.equal(start[name], whole.get(name, torch.zeros_like(start[name]))), "alike under every strategy"
        assert not torch.equal(trained[name], start[name]), name
    if alone:
        assert torch.equal(start["cls.predictions.decoder.weight"], whole[TABLE])

    again = load_model(fitted.save(tmp_path / "saved"), device="cpu")
    assert again.predict(ROWS) == fitted.predict(ROWS)
    if strategy in ("full", "head", "lora"):
        plain = AutoModelForMaskedLM.from_pretrained(fitted.merge(tmp_path / "merged")).eval()
        inputs = tiny.inputs_for("deberta-v2", "masked_lm")
        expected = tiny.outputs_of(model.eval(), inputs)
        torch.testing.assert_close(tiny.outputs_of(plain, inputs), expected, rtol=1e-4, atol=1e-4)
    if strategy == "lora":
        bare = AutoModelForMaskedLM.from_pretrained(folder)
        adapter = PeftModel.from_pretrained(bare, tmp_path / "saved" / "peft").eval()
        torch.testing.assert_close(tiny.outputs_of(adapter, inputs), expected, rtol=1e-4, atol=1e-4)
        with disabled(model):
            assert not torch.equal(tiny.outputs_of(model, inputs), expected)


def test_a_sentence_encoder_that_went_on_is_one_still(backbone: Callable[..., Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(backbone("distilbert"), tmp_path / "encoder"))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}', encoding="utf-8")
    for task, still in ((tiny_tasks.TASKS["masked"](), True), (tiny.classification(4, 4), False)):
        model = tiny.adapted(folder, task, Full(), pooling="native", precision="fp32")
        merged = resolve(model.merge(tmp_path / f"merged-{task.kind}"))
        assert merged.is_sentence_encoder == still
    again = resolve(model.merge(tmp_path / "merged-masked_lm"))
    assert not again.is_sentence_encoder, "the folder says no more how an earlier model pooled"
    assert again.source.sha256 == merged.source.sha256


@pytest.mark.parametrize("architecture", ["bert", "albert"])
def test_the_checkpoints_pooler_goes_on_too(tmp_path: Path, architecture: str) -> None:
    """Classifiers begin with it, and transformers' class for masked tokens has none."""
    own = AutoModelForPreTraining.from_config(tiny.ARCHITECTURES[architecture](1).config)
    own.save_pretrained(tmp_path / "own")
    tiny.tokenizer_for(architecture).save_pretrained(tmp_path / "own")
    load = tiny.loader_for(tmp_path / "own", "masked_lm")
    model = tiny.moved(Full().build(load, load.task))
    save_plain(Full().merge(model, load), load, tmp_path / "merged")
    there, (plain, masked), (classifier, found) = (
        cls.from_pretrained(tmp_path / folder, output_loading_info=True)
        for cls, folder in (
            (AutoModelForMaskedLM, "own"), (AutoModelForMaskedLM, "merged"),
            (AutoModelForSequenceClassification, "merged"),
        )
    )  # fmt: skip
    pooler = {name: value for name, value in own.base_model.state_dict().items() if "pooler" in name.split(".")}
    assert pooler
    assert all(torch.equal(classifier.base_model.state_dict()[name], value) for name, value in pooler.items())
    assert found["missing_keys"] == {"classifier.weight", "classifier.bias"}
    assert not masked["missing_keys"]
    assert masked["unexpected_keys"] <= there[1]["unexpected_keys"]
    inputs = tiny.inputs_for(architecture, "masked_lm")
    expected = tiny.outputs_of(model.eval(), inputs)
    torch.testing.assert_close(tiny.outputs_of(plain.eval(), inputs), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("architecture", [a for a in tiny.ENCODERS if a not in ("bert", "roberta", "deberta-v2")])
def test_other_encoders_have_it_too(backbone: Callable[..., Path], architecture: str) -> None:
    load = tiny.loader_for(backbone(architecture), "masked_lm", seed=3, precision="bf16")
    model, other = load(frozen=True), tiny.loader_for(backbone(architecture), "masked_lm", seed=4)()
    matrices = {name for name, p in model.named_parameters() if p.requires_grad and p.dim() == 2}
    assert matrices == model.head_names & {name for name in matrices if "dense" in name or "transform" in name}
    assert len(matrices) == 1
    parameters = dict(other.named_parameters())
    for name, p in model.named_parameters():
        assert p.requires_grad == (name in model.head_names)
        assert name not in matrices or not torch.equal(p, parameters[name])
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


def test_a_matrix_over_the_vocabulary_is_never_drawn(tmp_path: Path) -> None:
    config = BertConfig(**tiny._SIZES, tie_word_embeddings=False)
    BertModel(config).save_pretrained(tmp_path)
    tiny.tokenizer_for("bert").save_pretrained(tmp_path)
    with pytest.raises(AdaptError, match=r"its weights lack cls\.predictions\.decoder\.weight, which would be random"):
        tiny.loader_for(tmp_path, "masked_lm")()


@pytest.mark.parametrize("strategy", ["head", "lora"])
def test_a_plan_knows_that_it_is_lacking(backbone: Callable[..., Path], strategy: str) -> None:
    """By the names in the headers of the weights."""
    folder = backbone("albert", layers=1)
    setting = setting_of(folder, strategy, kind="masked_lm", device="cpu", precision="fp32")
    found = measure(made_up(Loader(resolve(folder), setting.task, setting.budget, 0), setting.strategy, 4, 16))
    assert Planner(setting).memory(4, 16) == found
