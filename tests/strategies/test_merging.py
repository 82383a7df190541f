"""Taking an adaptation off, merging it into the weights, and handing it to PEFT: on every architecture and kind."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import tiny
import torch
import transformers
from tiny_tasks import TASKS

import adapt
from adapt import params
from adapt.adapted import fit_model
from adapt.backbones.classes import AUTO_CLASSES
from adapt.backbones.plain import save_plain
from adapt.backbones.source import resolve
from adapt.spec import OptionError, Unsupported
from adapt.strategies import BottleneckAdapter, Full, Head, LoRA, Prefix, QLoRA, disabled

Folder = Callable[..., Path]


def outputs(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        return tiny.outputs_of(model.eval(), inputs).float()


# Taking it off


def test_it_is_on_again_after_an_error(backbone: Folder) -> None:
    load = tiny.loader_for(backbone("bert"), "sequence_classification")
    inputs = tiny.inputs_for("bert", "sequence_classification")
    for name in ("lora", "bottleneck"):
        model = tiny.moved(tiny.STRATEGIES[name].build(load, load.task))
        before = outputs(model, inputs)
        with pytest.raises(KeyError), disabled(model), disabled(model):
            raise KeyError
        assert torch.equal(outputs(model, inputs), before)


@pytest.mark.parametrize(("kind", "architecture"), [("sequence_classification", "bert"), ("causal_lm", "gpt2")])
def test_full_fine_tuning_cannot_be_taken_off(backbone: Folder, kind: str, architecture: str) -> None:
    load = tiny.loader_for(backbone(architecture), kind)
    with pytest.raises(Unsupported, match="own weights were trained"), disabled(Full().build(load, load.task)):
        pass


# Merging


@pytest.mark.parametrize(
    ("architecture", "settings"),
    [
        *((name, {}) for name in ("bert", "gpt2", "llama", "t5", "bart")),
        *((name, {"layers": "last:1"}) for name in ("bert", "gpt2", "llama")),
        *((name, {"targets": "attention"}) for name in ("gpt2", "bart")),
        ("bert", {"dora": True}),
    ],
    ids=str,
)
def test_qlora_in_4_bits_merges_into_what_these_stand_for(
    backbone: Folder, architecture: str, settings: dict[str, Any]
) -> None:
    """So that predictions stay what they are; also in layers that have no branch."""
    load = tiny.loader_for(backbone(architecture), "sequence_classification")
    strategy = QLoRA(rank=4, bits=4, **settings)
    model = tiny.moved(strategy.build(load, load.task))
    inputs = tiny.inputs_for(architecture, "sequence_classification")
    plain = strategy.merge(model, load)
    assert not any("quant" in name or "lora" in name for name in plain.state_dict())
    torch.testing.assert_close(outputs(plain, inputs), outputs(model, inputs), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("architecture", ["bert", "gpt2", "llama", "t5", "bart"])
def test_qlora_in_8_bits_merges_into_weights_that_were_never_quantised(backbone: Folder, architecture: str) -> None:
    load = tiny.loader_for(backbone(architecture), "sequence_classification")
    strategy = QLoRA(rank=4, bits=8)
    model = tiny.moved(strategy.build(load, load.task))
    exact = LoRA(rank=4).build(load, load.task)
    params.fill(exact, params.trainable_state(model), "here")
    inputs = tiny.inputs_for(architecture, "sequence_classification")
    found = outputs(strategy.merge(model, load), inputs)
    torch.testing.assert_close(found, outputs(exact, inputs), rtol=1e-4, atol=1e-5)
    assert not torch.equal(found, outputs(model, inputs))


@pytest.mark.parametrize("settings", [{"rslora": True}, {"dora": True}, {"targets": "attention"}], ids=str)
@pytest.mark.parametrize("architecture", ["bert", "gpt2", "t5"])
def test_every_switch_of_lora_merges(backbone: Folder, architecture: str, settings: dict[str, Any]) -> None:
    load = tiny.loader_for(backbone(architecture), "sequence_classification")
    strategy = LoRA(rank=4, **settings)
    model = tiny.moved(strategy.build(load, load.task))
    inputs = tiny.inputs_for(architecture, "sequence_classification")
    plain = strategy.merge(model, load)
    assert not any("lora" in name for name in plain.state_dict())
    torch.testing.assert_close(outputs(plain, inputs), outputs(model, inputs), rtol=1e-4, atol=1e-5)


def test_a_merged_tokenizer_cuts_no_text_whatever_it_was_used_for(
    backbone: Folder, task_data: Callable[[str], Any], tmp_path: Path
) -> None:
    """Its file may hold a length, which transformers passes over and others go by; and it is part of the hash."""
    how = {"max_steps": 1, "max_length": 6, "device": "cpu", "precision": "fp32"}
    model = fit_model(backbone("bert"), task_data("single_label"), LoRA(rank=2), **how)
    model.predict(["word1 " * 20])
    merged = model.merge(tmp_path / "one")
    assert json.loads((merged / "tokenizer.json").read_text())["truncation"] is None
    later = adapt.load(model.save(tmp_path / "saved")).merge(tmp_path / "two")
    assert (later / "tokenizer.json").read_bytes() == (merged / "tokenizer.json").read_bytes()
    assert resolve(later).source.sha256 == resolve(merged).source.sha256


def test_a_fitted_model_is_merged_by_name_of_its_labels(
    backbone: Folder, task_data: Callable[[str], Any], tmp_path: Path
) -> None:
    data = task_data("single_label")
    model = fit_model(
        backbone("gpt2"), data, LoRA(rank=2, learning_rate=1e-2), epochs=1, batch_size=16, device="cpu",
        precision="fp32", dropout=0.0,
    )  # fmt: skip
    folder = model.merge(tmp_path / "merged")
    texts = list(data.splits["test"]["text"])[:8]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    plain = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    with torch.no_grad():
        logits = plain(**tokenizer(texts, padding=True, return_tensors="pt")).logits
    for row, prediction in zip(logits, model.predict(texts), strict=True):
        assert plain.config.id2label[int(row.argmax())] == prediction["label"]
        found = dict(zip(data.labels, row.softmax(-1).tolist(), strict=True))
        assert found == pytest.approx(prediction["probabilities"], abs=1e-5)
    own = json.loads((backbone("gpt2") / "config.json").read_text())
    merged = json.loads((folder / "config.json").read_text())
    for name in ("attn_pdrop", "resid_pdrop", "use_cache"):  # as they were, whatever training set
        assert merged[name] == own[name]


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("single_label", "single_label_classification"),
        ("multi_label", "multi_label_classification"),
        ("regression", "regression"),
    ],
)
def test_a_merged_model_says_what_its_outputs_mean(
    backbone: Folder, task_data: Callable[[str], Any], tmp_path: Path, name: str, problem: str
) -> None:
    """transformers' pipelines go by it: classes by softmax, labels by sigmoid, numbers as they are."""
    model = fit_model(backbone("gpt2"), task_data(name), LoRA(rank=2), max_steps=2, device="cpu", precision="fp32")
    folder = model.merge(tmp_path / "merged")
    assert json.loads((folder / "config.json").read_text())["problem_type"] == problem
    texts = list(task_data(name).splits["test"]["text"])[:4]
    pipeline = transformers.pipeline("text-classification", str(folder), top_k=None, device="cpu")
    for found, prediction in zip(pipeline(texts), model.predict(texts), strict=True):
        if name == "regression":
            assert model.fitted.kind.state()["std"] * found[0]["score"] + model.fitted.kind.state()["mean"] == (
                pytest.approx(prediction["value"], abs=1e-4)
            )
        else:
            scores = {row["label"]: row["score"] for row in found}
            assert scores == pytest.approx(prediction["probabilities"], abs=1e-5)


@pytest.mark.parametrize("kind", ["sequence_classification", "masked_lm"])
def test_positions_stay_where_configuration_and_tokenizer_pad_by_other_tokens(tmp_path: Path, kind: str) -> None:
    """RoBERTa numbers them from the padding index of its configuration."""
    own = tiny.save_backbone(tmp_path / "own", "roberta", masked=True)
    config = json.loads((own / "config.json").read_text())
    (own / "config.json").write_text(json.dumps({**config, "pad_token_id": 1}))
    load, inputs = tiny.loader_for(own, kind), tiny.inputs_for("roberta", kind)
    before: Any = load()
    with torch.no_grad():
        found, expected = (
            base.eval()(**inputs)[0] for base in (before.base_model, transformers.AutoModel.from_pretrained(own))
        )
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    model = tiny.moved(LoRA(rank=2).build(load, load.task))
    save_plain(LoRA(rank=2).merge(model, load), load, tmp_path / "merged")
    plain = getattr(transformers, AUTO_CLASSES[kind]).from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(outputs(plain, inputs), outputs(model, inputs), rtol=1e-4, atol=1e-5)


@dataclasses.dataclass(frozen=True)
class Own:
    """A strategy that a user made, and that cannot be merged."""

    name: ClassVar[str] = "own"
    learning_rate: float = 1e-3

    def build(self, load: Any, task: Any) -> Any:
        return load(frozen=True)


def test_what_cannot_be_merged_says_why(backbone: Folder, task_data: Callable[[str], Any], tmp_path: Path) -> None:
    def fit(strategy: Any, pooling: str = "native") -> Any:
        return fit_model(
            backbone("bert"), task_data("single_label"), strategy, epochs=1, max_steps=1, device="cpu",
            precision="fp32", pooling=pooling,
        )  # fmt: skip

    for strategy in (BottleneckAdapter(reduction_factor=8), Prefix(virtual_tokens=2)):
        with pytest.raises(Unsupported, match=f"'{strategy.name}' cannot be merged: .*use LoRA"):
            fit(strategy).merge(tmp_path / "out")
    with pytest.raises(Unsupported, match=r"mean pooling cannot be merged: .*pooling='native'"):
        fit(Head(), "mean").merge(tmp_path / "out")
    with pytest.raises(Unsupported, match=r"'own', a strategy of your own, .* give it a method merge\(model, load\)"):
        fit(Own()).merge(tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(OptionError):
        fit(Head()).merge(tmp_path / "file")


def test_a_merged_model_is_written_whole_or_not_at_all(
    backbone: Folder, task_data: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = fit_model(
        backbone("bert"), task_data("single_label"), Head(), max_steps=1, device="cpu", precision="fp32",
        pooling="native",
    )  # fmt: skip
    folder = model.merge(tmp_path / "merged")
    (folder / "model-00001-of-00002.safetensors").write_text("of an older model")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(*given: Any, **rest: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(transformers.PreTrainedTokenizerBase, "save_pretrained", full)
    for target in (folder, tmp_path / "new"):
        with pytest.raises(OptionError, match=f"^Folder {target} cannot be written: No space left on device; free"):
            model.merge(target)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert list((tmp_path / "new").iterdir()) == []
    monkeypatch.undo()
    model.merge(folder)
    assert {path.name for path in folder.iterdir()} == before.keys() - {"model-00001-of-00002.safetensors"}


def test_what_was_not_trained_has_nothing_to_merge(backbone: Folder, tmp_path: Path) -> None:
    model = fit_model(
        backbone("gpt2"), TASKS["completion"](), "untrained", max_length=32, device="cpu", precision="fp32"
    )
    with pytest.raises(Unsupported, match=r"'untrained' has nothing to merge: .* use the backbone as it is"):
        model.merge(tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("bits", [8, 4])
def test_nothing_is_merged_into_weights_that_were_quantised_before(
    backbone: Folder, task_data: Callable[[str], Any], tmp_path: Path, bits: Any
) -> None:
    how = transformers.BitsAndBytesConfig(**{f"load_in_{bits}bit": True}, llm_int8_skip_modules=["score"])
    own = transformers.AutoModel.from_pretrained(backbone("llama"), quantization_config=how, device_map={"": "cpu"})
    own.save_pretrained(tmp_path / "own")
    tiny.tokenizer_for("llama").save_pretrained(tmp_path / "own")
    strategy = QLoRA(rank=2, bits=bits)
    model = fit_model(
        tmp_path / "own", task_data("single_label"), strategy, max_steps=1, device="cpu", precision="fp32"
    )
    with pytest.raises(Unsupported, match="own weights are quantised cannot be merged; keep the saved model"):
        model.merge(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_merged_model_is_generated_from_as_its_checkpoint_says(backbone: Folder, tmp_path: Path) -> None:
    """Many checkpoints have settings of generation that transformers refuses to write."""
    own = Path(shutil.copytree(backbone("llama"), tmp_path / "own"))
    settings = {"bos_token_id": 2, "eos_token_id": tiny.END, "temperature": 0.9, "top_p": 0.6}
    (own / "generation_config.json").write_text(json.dumps(settings))
    load = tiny.loader_for(own, "causal_lm")
    plain = Head().merge(Head().build(load, load.task), load)
    assert plain.generation_config.pad_token_id == tiny.END
    (tmp_path / "plain").mkdir()
    save_plain(plain, load, tmp_path / "plain")
    assert json.loads((tmp_path / "plain" / "generation_config.json").read_text()) == settings
    assert plain.generation_config.top_p == 0.6


def test_files_that_are_of_no_model_stay(backbone: Folder, tmp_path: Path) -> None:
    load = tiny.loader_for(backbone("bert"), "sequence_classification")
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).write_text("mine")
    save_plain(Full().merge(Full().build(load, load.task), load), load, tmp_path)
    assert [(tmp_path / name).read_text() for name in ("vocab.json", "merges.txt")] == ["mine"] * 2


def test_a_tokenizer_that_was_there_alone_does_not_stay(backbone: Folder, tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text("{}")
    (tmp_path / "chat_template.jinja").write_text("another's")
    load = tiny.loader_for(backbone("bert"), "sequence_classification")
    save_plain(Full().merge(Full().build(load, load.task), load), load, tmp_path)
    assert not (tmp_path / "chat_template.jinja").exists()


def test_nothing_of_a_model_merged_before_stays(backbone: Folder, tmp_path: Path) -> None:
    """Its chat templates would be those of the new one."""
    out, fresh = tmp_path / "out", tmp_path / "fresh"
    for architecture, folders in (("gpt2", [out]), ("gpt2", [out]), ("bert", [out, fresh])):
        kind = "causal_lm" if architecture == "gpt2" else "masked_lm"
        own = Path(shutil.copytree(backbone(architecture, masked=kind == "masked_lm"), tmp_path / "own"))
        if architecture == "gpt2":
            tokenizer = transformers.AutoTokenizer.from_pretrained(own)
            tokenizer.chat_template = {"default": "{{ messages }}", "other": "{{ tools }}"}
            tokenizer.save_pretrained(own)
        load = tiny.loader_for(own, kind)
        for folder in folders:
            folder.mkdir(exist_ok=True)
            (folder / "notes.txt").write_text("mine")
            save_plain(Full().merge(Full().build(load, load.task), load), load, folder)
        shutil.rmtree(own)
    assert sorted(file.name for file in out.iterdir()) == sorted(file.name for file in fresh.iterdir())
    assert (out / "notes.txt").read_text() == "mine"
    assert transformers.AutoTokenizer.from_pretrained(out).chat_template is None


def test_a_t5_with_an_output_layer_of_its_own_stays_so(backbone: Folder, tmp_path: Path) -> None:
    """T5 1.1: embeddings and output layer differ, and the decoder's outputs are not scaled."""
    reference: Any = transformers.T5ForConditionalGeneration.from_pretrained(backbone("t5"))
    reference.lm_head.weight = torch.nn.Parameter(torch.randn_like(reference.lm_head.weight))
    reference.save_pretrained(tmp_path / "untied")
    config = json.loads((tmp_path / "untied" / "config.json").read_text())
    config.pop("scale_decoder_outputs", None)
    (tmp_path / "untied" / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))
    tiny.tokenizer_for("t5").save_pretrained(tmp_path / "untied")
    inputs = tiny.inputs_for("t5", "seq2seq")
    load = tiny.loader_for(tmp_path / "untied", "seq2seq")
    with torch.no_grad():
        scaled = reference.eval()(**inputs).logits
    model: Any = load()
    expected = outputs(model, inputs)
    mask = expected.abs().sum(-1) > 0
    torch.testing.assert_close(expected[mask], (scaled * tiny.HIDDEN**0.5)[mask], rtol=1e-4, atol=1e-5)
    for strategy in (Full(), Head(), LoRA(rank=2)):
        adapted = tiny.moved(strategy.build(load, load.task))
        save_plain(strategy.merge(adapted, load), load, tmp_path / strategy.name)
        again = tiny.loader_for(tmp_path / strategy.name, "seq2seq")()
        torch.testing.assert_close(outputs(again, inputs), outputs(adapted, inputs), rtol=1e-4, atol=1e-5)
