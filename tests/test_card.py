"""The card beside a saved model: what the hub reads at its head, scores with intervals, and nobody else's words."""

from __future__ import annotations

import ast
import dataclasses
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import tiny_tasks
import torch
import transformers
from huggingface_hub import ModelCard
from peft import PeftConfig, PeftModel

import adapt
from adapt.adapted import Adapted, score_in
from adapt.stats import Interval


@pytest.fixture(scope="module")
def model(backbone: Callable[..., Path]) -> Adapted:
    choices = {"epochs": 1, "batch_size": 16, "device": "cpu", "precision": "fp32"}
    return adapt.fit(backbone("bert"), tiny.classification(), adapt.LoRA(rank=2), **choices)


def test_the_card_says_what_the_model_is_what_it_scores_and_how_it_is_used(model: Adapted, tmp_path: Path) -> None:
    saved = model.save(tmp_path / "model")
    card = ModelCard.load(saved / "README.md")
    assert card.data.to_dict() == {
        "library_name": "adapt", "pipeline_tag": "text-classification", "tags": ["adapt", "lora"],
    }  # fmt: skip
    assert model.result is not None
    content = model.result.to_json()
    score = score_in(content, "test", "accuracy")
    assert score.mean == content["scores"]["test"]["accuracy"]
    assert score.low is not None
    assert score.high is not None
    assert score.low < score.mean < score.high
    limits = f"[{100 * max(score.low, 0):.1f}, {100 * min(score.high, 1):.1f}]"
    validation = 100 * content["scores"]["validation"]["accuracy"]
    assert f"| accuracy, % | {validation:.1f} | {100 * score.mean:.1f} {limits} |" in card.text
    assert f"| lora(rank=2) | {100 * score.mean:.1f} {limits} | 1 |" in card.text
    assert "adapt.load(FOLDER)" in card.text
    assert "`peft`" in card.text
    again = adapt.load(saved).save(tmp_path / "again")
    assert (again / "README.md").read_bytes() == (saved / "README.md").read_bytes()


def test_a_merged_model_is_one_of_transformers(model: Adapted, tmp_path: Path) -> None:
    card = ModelCard.load(model.merge(tmp_path / "plain") / "README.md")
    assert card.data.library_name == "transformers"
    assert "BertForSequenceClassification.from_pretrained(FOLDER)" in card.text
    assert "adapt.load" not in card.text


def test_a_merged_regression_says_what_its_output_stands_for(backbone: Callable[..., Path], tmp_path: Path) -> None:
    rows = [{"text": f"word{i % 9}", "label": 200.5 + 10 * (i % 7)} for i in range(30)]
    model = adapt.fit(
        backbone("bert"), adapt.data.load(rows), adapt.LoRA(rank=2), max_steps=1, device="cpu", precision="fp32"
    )
    folder = model.merge(tmp_path / "plain")
    std, mean = map(
        float, re.findall(r"its output times ([\d.]+) plus ([\d.]+)\.", (folder / "README.md").read_text())[0]
    )
    plain = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        output = plain(**tokenizer("word1 word2", return_tensors="pt")).logits.item()
    assert std * output + mean == pytest.approx(model.predict(["word1 word2"])[0]["value"], rel=1e-5)
    saved = (model.save(tmp_path / "saved") / "README.md").read_text()
    assert f"PEFT the target is the model's output times {std:.8g} plus" in saved
    head = adapt.fit(backbone("bert"), adapt.data.load(rows), adapt.Head(), max_steps=1, device="cpu")
    assert "output times" not in (head.save(tmp_path / "head") / "README.md").read_text()


@pytest.mark.parametrize(
    ("architecture", "rows", "said"),
    [
        ("gpt2", "pairs", "The second of two texts begins with a line break."),
        ("bert", "pairs", None),
        ("gpt2", "asked", r"Between prompt and completion stood '\n'."),
        ("gpt2", "talks", "Messages were written as a line"),
        ("gpt2", "texts", None),
    ],
)
def test_who_uses_a_model_without_this_package_is_told_how_texts_are_written(
    backbone: Callable[..., Path], tmp_path: Path, architecture: str, rows: str, said: str | None
) -> None:
    data = {
        "pairs": [{"text": f"word{i}", "text_pair": "cold", "label": "ab"[i % 2]} for i in range(20)],
        "asked": [{"prompt": f"word{i}", "completion": "cold"} for i in range(20)],
        "talks": [
            {"messages": [{"role": "user", "content": f"word{i}"}, {"role": "assistant", "content": "cold"}]}
            for i in range(20)
        ],
        "texts": [{"text": f"word{i} cold"} for i in range(20)],
    }
    model = adapt.fit(
        backbone(architecture), data[rows], adapt.LoRA(rank=2), max_steps=1, device="cpu", precision="fp32",
        progress=False, kind="causal_lm" if rows == "texts" else None,
    )  # fmt: skip
    saved = model.save(tmp_path / "saved")
    for folder in (saved, model.merge(tmp_path / "plain"), adapt.load(saved).save(tmp_path / "again")):
        card = (folder / "README.md").read_text(encoding="utf-8")
        unsaid = "line break" not in card and "stood" not in card and "written as" not in card
        assert unsaid if said is None else said in card.replace(r"\\n", r"\n")
        assert ("Labels, in the order of its outputs: a, b." in card) == (rows == "pairs")


@pytest.mark.parametrize(("reference", "revision"), [("some/encoder", None), ("some/encoder@v1", "v1")])
def test_a_backbone_of_the_hub_is_named_as_the_hub_does(
    model: Adapted, tmp_path: Path, reference: str, revision: str | None
) -> None:
    source = dataclasses.replace(model.backbone.source, name=reference)
    backbone = dataclasses.replace(model.backbone, source=source, reference=reference)
    saved = dataclasses.replace(model, backbone=backbone).save(tmp_path)
    assert ModelCard.load(saved / "README.md").data.base_model == "some/encoder"
    config = PeftConfig.from_pretrained(saved / "peft")
    assert (config.base_model_name_or_path, config.revision) == ("some/encoder", revision)


def test_names_and_labels_are_no_markup(model: Adapted, tmp_path: Path) -> None:
    task = dataclasses.replace(model.run.task, name="a\n---\n<b>|", labels=("[no](x)", "`yes`"))
    card = dataclasses.replace(model, run=dataclasses.replace(model.run, task=task)).save(tmp_path) / "README.md"
    text = card.read_text(encoding="utf-8")
    assert "for a --- &lt;b&gt;\\|\n" in text
    assert "Labels, in the order of its outputs: \\[no\\](x), \\`yes\\`." in text


def test_somebody_elses_words_stay(model: Adapted, tmp_path: Path) -> None:
    card = model.save(tmp_path) / "README.md"
    ours = card.read_text(encoding="utf-8")
    card.write_text(ours.replace("scored", "rated"), encoding="utf-8")
    model.save(tmp_path)
    assert card.read_text(encoding="utf-8") == ours
    card.write_text("My own model.", encoding="utf-8")
    model.save(tmp_path)
    assert card.read_text(encoding="utf-8") == "My own model."
    card.unlink()
    card.mkdir()
    model.save(tmp_path)
    assert list(card.iterdir()) == []


def test_a_model_without_a_result_has_a_card_without_scores(model: Adapted, tmp_path: Path) -> None:
    text = (dataclasses.replace(model, result=None).save(tmp_path) / "README.md").read_text(encoding="utf-8")
    assert "# lora on" in text
    assert "|" not in text


def test_only_the_split_scored_last_has_an_interval(model: Adapted) -> None:
    assert model.result is not None
    content = model.result.to_json()
    assert score_in(content, "validation", "mcc") == Interval(content["scores"]["validation"]["mcc"], None, None)
    alone = {**content, "scores": {"validation": content["scores"]["validation"]}}
    assert score_in(alone, "validation", "accuracy").low is not None
    right = {**content, "scores": {"test": {"accuracy": 1.0}}, "test_outcomes": [[1, 1]] * 20}
    low = score_in(right, "test", "accuracy").low
    assert low is not None
    assert 0.8 < low < 0.9, "as with two wrong rows more"


def test_the_model_of_one_fold_is_whole(backbone: Callable[..., Path], tmp_path: Path) -> None:
    data = tiny.classification()
    pool = dataclasses.replace(data, splits={"train": data.splits["train"]})
    choices = {"epochs": 1, "batch_size": 16, "device": "cpu", "precision": "fp32"}
    saved = adapt.fit(backbone("bert"), adapt.data.folds(pool, 3).parts[1], "head", **choices).save(tmp_path / "model")
    card = (saved / "README.md").read_text(encoding="utf-8")
    assert "unfinished" not in card
    assert "folds" not in card
    assert re.search(r"^\| head \| [0-9.]+ .*\| 1 \|", card, re.MULTILINE)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft asks for it
@pytest.mark.parametrize("other", [False, True])
def test_who_puts_an_adapter_on_a_decoder_is_told_which_token_pads(
    backbone: Callable[..., Path], tmp_path: Path, other: bool
) -> None:
    """By which transformers finds where rows end."""
    folder = Path(shutil.copytree(backbone("llama"), tmp_path / "llama"))
    config = json.loads((folder / "config.json").read_text())
    tokenizer = tiny.tokenizer_for("llama")
    tokenizer.pad_token = tokenizer.eos_token
    config["pad_token_id"] = 7 if other else tokenizer.pad_token_id
    (folder / "config.json").write_text(json.dumps(config))
    choices = {"epochs": 1, "device": "cpu", "precision": "fp32", "pooling": "native"}
    model = adapt.fit(folder, tiny.classification(), adapt.LoRA(rank=2), **choices)
    saved = model.save(tmp_path / "saved")
    line = f"Set model.config.pad_token_id = {tokenizer.pad_token_id}, the token"
    assert (line in (saved / "README.md").read_text().replace("\\", "")) == other
    assert line not in (model.merge(tmp_path / "merged") / "README.md").read_text().replace("\\", "")
    if other:
        plain = transformers.AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2, dtype="float32")
        loaded = PeftModel.from_pretrained(plain, saved / "peft").eval()
        loaded.get_base_model().config.pad_token_id = tokenizer.pad_token_id
        texts = ["warm", "cold word5 kind word7"]
        tokens = tokenizer(texts, padding=True, return_tensors="pt", return_token_type_ids=False)
        with torch.no_grad():
            chosen = loaded(**tokens).logits.softmax(-1)
        expected = [list(row["probabilities"].values()) for row in model.predict(texts)]
        torch.testing.assert_close(chosen, torch.tensor(expected), rtol=1e-3, atol=1e-4)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft asks for it
def test_under_mean_pooling_the_adapter_is_said_to_be_the_encoders_alone(
    backbone: Callable[..., Path], tmp_path: Path
) -> None:
    rows = [{"text": f"word{i}", "label": i + 0.5} for i in range(20)]
    model = adapt.fit(
        backbone("bert"), rows, adapt.LoRA(rank=2), epochs=1, device="cpu", precision="fp32",
        pooling="mean",
    )  # fmt: skip
    card = (model.save(tmp_path / "saved") / "README.md").read_text()
    assert "holds the encoder's part of it in PEFT's format, without the head on the mean of its outputs" in card
    assert "AutoModel` in float32" in card
    assert "the model's output times" not in card
    plain = transformers.AutoModel.from_pretrained(backbone("bert"), dtype="float32")
    loaded = PeftModel.from_pretrained(plain, tmp_path / "saved" / "peft").eval()
    tokens = model.fitted.tokenizer(["word1"], return_tensors="pt")
    with torch.no_grad():
        ours = model.fitted.model.base_model(**tokens).last_hidden_state
        assert torch.allclose(loaded(**tokens).last_hidden_state, ours, atol=1e-6)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft asks for it
@pytest.mark.parametrize("architecture", ["bert", "llama"])
def test_who_puts_an_adapter_for_questions_on_the_backbone_is_told_how(
    backbone: Callable[..., Path], tmp_path: Path, architecture: str
) -> None:
    choices: dict[str, Any] = {"epochs": 1, "max_steps": 1, "device": "cpu", "precision": "fp32"}
    model = adapt.fit(backbone(architecture), tiny_tasks.TASKS["answers"](), adapt.LoRA(rank=2), **choices)
    card = (model.save(tmp_path / "saved") / "README.md").read_text().replace("\\", "")
    assert "Call the loaded model's get_base_model(), for PEFT's class for question answering drops segment" in card
    found = re.search(r"Load the backbone with key_mapping=(\{.*?\})\.", card)
    assert (found is None) == (architecture == "bert")
    if found is None:
        return
    _, report = transformers.AutoModelForQuestionAnswering.from_pretrained(
        backbone(architecture), dtype="float32", key_mapping=ast.literal_eval(found[1].replace("\\\\", "\\")),
        output_loading_info=True,
    )  # fmt: skip
    assert {name.partition(".")[0] for name in report["missing_keys"]} == {"qa_outputs"}
