"""Loading a backbone: its tokenizer and weights, a fresh head, dropout, precision and attention."""

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
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, AutoTokenizer, ByT5Tokenizer

from adapt import options
from adapt.adapted import assemble
from adapt.backbones import Loader, resolve
from adapt.backbones.calls import longest_of
from adapt.data import Data
from adapt.spec import AdaptError, Unsupported

LoaderOf = Callable[..., Loader]


@pytest.fixture
def loader(backbone: Callable[..., Path], task_data: Callable[[str], Data]) -> LoaderOf:
    def make(
        folder: Path | str = "bert", pooling: Any = "native", seed: int = 0, task: str = "single_label", **choices: Any
    ) -> Loader:
        choices = {"device": "cpu", "precision": "fp32", **choices}
        path = folder if isinstance(folder, Path) else backbone(folder)
        run, _, found = assemble(path, task_data(task), "full", pooling=pooling, **choices)
        return Loader(found, run.task, run.budget, seed)

    return make


@pytest.fixture
def batch(task_data: Callable[[str], Data]) -> dict[str, torch.Tensor]:
    texts = list(task_data("single_label").splits["test"]["text"])
    tokens = tiny.tokenizer_for("roberta")(texts, padding=True, return_tensors="pt")
    return dict(tokens)


def logits(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(**batch).logits


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_a_decoder_pads_with_the_token_that_ends_a_text(backbone: Callable[..., Path], architecture: str) -> None:
    load = tiny.loader_for(backbone(architecture), "sequence_classification")
    tokenizer = load.tokenizer()
    assert tokenizer.pad_token_id == (tiny.END if architecture in tiny.DECODERS else 0)
    note = ["The tokenizer has no padding token; its end-of-text token '[SEP]' pads instead."]
    assert load.notes == (note if architecture in tiny.DECODERS else [])
    model = load()
    assert model.config.pad_token_id == tokenizer.pad_token_id
    assert model.get_input_embeddings().num_embeddings == len(tiny.VOCABULARY)
    assert model.get_input_embeddings().padding_idx != tiny.END  # its embedding is trained like any other


def test_a_causal_lm_is_generated_from_with_its_padding(
    backbone: Callable[..., Path], capfd: pytest.CaptureFixture[str]
) -> None:
    for architecture in tiny.DECODERS:
        model: Any = tiny.loader_for(backbone(architecture), "causal_lm")().eval()
        capfd.readouterr()  # a backbone being made
        ids = torch.tensor([[7, tiny.END]])
        model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=3, do_sample=False)
        assert model.generation_config.pad_token_id == tiny.END
        assert capfd.readouterr().err == ""


def test_a_padding_token_without_an_embedding_is_not_used(backbone: Callable[..., Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(backbone("llama"), tmp_path / "added"))
    tokenizer = tiny.tokenizer_for("llama")
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    tokenizer.save_pretrained(folder)
    load = tiny.loader_for(folder, "sequence_classification")
    assert load.tokenizer().pad_token_id == tiny.END
    assert load.notes == [
        "The tokenizer has a padding token without an embedding; its end-of-text token '[SEP]' pads instead."
    ]


def test_a_tokenizer_without_any_token_that_pads_is_refused(backbone: Callable[..., Path], tmp_path: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    folder = Path(shutil.copytree(backbone("llama"), tmp_path / "bare"))
    (folder / "tokenizer_config.json").unlink()
    PreTrainedTokenizerFast(tokenizer_object=tiny.tokenizer_for("llama").backend_tokenizer).save_pretrained(folder)
    with pytest.raises(AdaptError, match=r"bare has no padding token.*set its pad_token"):
        tiny.loader_for(folder, "causal_lm").tokenizer()


@pytest.mark.parametrize(
    ("architecture", "numbered"), [("bert", True), ("roberta", False), ("deberta-v2", False), ("gpt2", False)]
)
def test_texts_of_a_pair_are_numbered_where_the_backbone_has_embeddings_for_it(
    backbone: Callable[..., Path], loader: LoaderOf, tmp_path: Path, architecture: str, numbered: bool
) -> None:
    folder = Path(shutil.copytree(backbone(architecture), tmp_path / "pairs"))
    tiny.tokenizer_for("bert").save_pretrained(folder)
    load = loader(folder, task="pairs")
    tokens = load.tokenizer()(["sunny"], ["warm kind"], return_tensors="pt")
    assert ("token_type_ids" in tokens) == numbered
    assert load().eval()(**tokens).logits.shape == (1, 2)
    load.tokenizer().save_pretrained(tmp_path / "saved")
    again = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert ("token_type_ids" in again("sunny", "warm")) == numbered


@pytest.mark.parametrize("architecture", [*tiny.ENCODERS, *tiny.DECODERS])
def test_mean_pooling_is_the_mean_over_tokens(
    loader: LoaderOf, backbone: Callable[..., Path], batch: dict[str, torch.Tensor], architecture: str
) -> None:
    model: Any = loader(architecture, "mean")()
    encoder = AutoModel.from_pretrained(backbone(architecture), attn_implementation="eager").eval()
    with torch.no_grad():
        hidden = encoder(**batch).last_hidden_state
        means = [row[: int(mask.sum())].mean(0) for row, mask in zip(hidden, batch["attention_mask"], strict=True)]
        expected = torch.stack(means) @ model.classifier.weight.T + model.classifier.bias
    torch.testing.assert_close(logits(model, batch), expected, rtol=1e-5, atol=1e-5)


def test_the_head_is_drawn_from_the_seed_alone(loader: LoaderOf) -> None:
    def head(seed: int, noise: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(noise)
        model = loader(seed=seed)()
        return {n: p.detach().clone() for n, p in model.named_parameters() if "classifier" in n or "pooler" in n}

    one, same, other = head(0, 1), head(0, 2), head(5, 1)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["classifier.weight"], other["classifier.weight"])
    assert not torch.equal(one["bert.pooler.dense.weight"], other["bert.pooler.dense.weight"])
    weight = one["bert.pooler.dense.weight"]
    assert weight.std().item() == pytest.approx(0.15, rel=0.1)  # the configuration's initializer_range
    assert one["classifier.bias"].eq(0).all()


def test_a_head_that_the_checkpoint_holds_is_kept_and_trained(loader: LoaderOf, copy: Path) -> None:
    labels = dict(enumerate(loader(copy).task.labels))
    model = AutoModelForSequenceClassification.from_pretrained(copy, id2label=labels)
    model.save_pretrained(copy)
    for frozen in (False, True):
        loaded = loader(copy)(frozen=frozen)
        weights = dict(loaded.named_parameters())
        assert torch.equal(weights["classifier.weight"], model.classifier.weight)
        assert weights["classifier.weight"].requires_grad
        assert weights["bert.pooler.dense.weight"].requires_grad is not frozen  # pretrained, so it is no head
        assert loaded.head_size == tiny.HIDDEN * 2 + 2


def test_the_head_of_a_regression_is_kept(loader: LoaderOf, copy: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(copy, num_labels=1)
    model.save_pretrained(copy)
    load = loader(copy, task="regression")
    assert torch.equal(dict(load().named_parameters())["classifier.weight"], model.classifier.weight)
    assert load.notes == ["the checkpoint has a head for a number, from which training starts"]


@pytest.mark.parametrize("frozen", [False, True])
def test_a_head_for_other_labels_is_drawn_anew(loader: LoaderOf, copy: Path, frozen: bool) -> None:
    fresh = dict(loader(copy)().named_parameters())
    saved = AutoModelForSequenceClassification.from_pretrained(copy, num_labels=5)
    saved.save_pretrained(copy)
    model = loader(copy)(frozen=frozen)
    weights = dict(model.named_parameters())
    assert weights["classifier.weight"].shape == (2, tiny.HIDDEN)
    assert weights["classifier.weight"].std().item() == pytest.approx(fresh["classifier.weight"].std().item(), rel=0.5)
    assert torch.equal(weights["bert.pooler.dense.weight"], saved.bert.pooler.dense.weight)
    assert {n for n, p in weights.items() if p.requires_grad} >= {"classifier.weight", "classifier.bias"}
    assert model.head_size == tiny.HIDDEN * 2 + 2


def test_weights_that_do_not_fit_the_configuration_are_refused(loader: LoaderOf, copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "intermediate_size": 40}))
    with pytest.raises(AdaptError, match=r"copy.*intermediate\.dense"):
        loader(copy)()


def test_damaged_weights_are_refused(loader: LoaderOf, copy: Path) -> None:
    file = copy / "model.safetensors"
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(AdaptError, match="copy cannot be loaded"):
        loader(copy)()


@pytest.mark.parametrize("lost", ["", "encoder.layer.1.output"])
def test_weights_that_lack_a_part_of_the_backbone_are_refused(loader: LoaderOf, copy: Path, lost: str) -> None:
    """Random weights would otherwise be taken for pretrained ones without a word."""
    file = copy / "model.safetensors"
    state = {f"other.{n}" if lost in n else n: value for n, value in load_file(file).items()}
    save_file(state, file, metadata={"format": "pt"})
    for pooling in ("native", "mean"):
        with pytest.raises(AdaptError, match=rf"copy: its weights lack .*{lost}"):
            loader(copy, pooling)()


@pytest.mark.parametrize("pooling", ["mean", "native"])
def test_weights_and_code_that_are_left_out_are_said(loader: LoaderOf, copy: Path, pooling: str) -> None:
    whole = loader(copy, pooling)
    whole()
    assert whole.notes == []
    config = json.loads((copy / "config.json").read_text())
    own = {"AutoConfig": "of_its_own.Config", "AutoModel": "of_its_own.Model"}
    (copy / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 1, "auto_map": own}))
    made = loader(copy, pooling)
    made()
    code, weights = made.notes
    assert code.endswith("code of its own, which is not run: it is read as transformers' own 'bert'")
    assert weights.startswith("8 of the backbone's weights have no place in transformers' 'bert'")
    assert weights.endswith("bert.encoder.layer.1.attention.self.key.weight and more")


def test_a_tokenizer_that_cannot_be_read_is_named(loader: LoaderOf, copy: Path) -> None:
    (copy / "tokenizer.json").write_text("{", encoding="utf-8")
    with pytest.raises(AdaptError, match=r"tokenizer of backbone .*copy cannot be loaded"):
        loader(copy).tokenizer()


def test_a_tokenizer_that_lost_its_vocabulary_is_refused(loader: LoaderOf, copy: Path) -> None:
    (copy / "tokenizer.json").unlink()
    for cls in ("PreTrainedTokenizerFast", "BertTokenizer"):
        (copy / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": cls}), encoding="utf-8")
        with pytest.raises(
            AdaptError, match=r"Backbone .*copy has no tokenizer \(tokenizer\.json, .*; save the tokenizer"
        ):
            loader(copy).tokenizer()


def test_a_tokenizer_of_bytes_needs_no_vocabulary(backbone: Callable[..., Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(backbone("t5"), tmp_path / "bytes"))
    for file in folder.glob("token*"):
        file.unlink()
    ByT5Tokenizer().save_pretrained(folder)
    assert not (folder / "tokenizer.json").exists()
    assert tiny.loader_for(folder, "seq2seq").tokenizer()("a")["input_ids"] == [100, 1]


@pytest.mark.parametrize("name", ["tokenizer.model", "spiece.model", "spm.model", "source.spm"])
def test_a_package_that_a_tokenizer_needs_is_named(
    loader: LoaderOf, copy: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = loader(copy)
    (copy / "tokenizer.json").unlink()
    (copy / "tokenizer_config.json").unlink()
    (copy / name).write_bytes(b"")
    if name.endswith(".spm"):
        (copy / "vocab.json").write_text("{}", encoding="utf-8")
    resolve(copy)

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise ValueError("Unrecognized configuration class.\nModel type should be one of many.")

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", refuse)
    for found, message in (
        (None, f"{name} needs the package sentencepiece"),
        (1, r"Unrecognized configuration class\.$"),
    ):
        monkeypatch.setattr("adapt.backbones.tokenizer.find_spec", lambda package, found=found: found)
        with pytest.raises(AdaptError, match=rf"copy cannot be loaded: {message}"):
            load.tokenizer()


def test_an_architecture_without_such_a_head_is_unsupported(loader: LoaderOf, copy: Path) -> None:
    from transformers import ViTConfig, ViTModel

    ViTModel(
        ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, image_size=32)
    ).save_pretrained(copy)
    with pytest.raises(Unsupported, match="no sequence classification head for 'vit'"):
        loader(copy)()


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
@pytest.mark.parametrize("pooling", ["mean", "native"])
def test_what_is_frozen_is_held_in_the_budgets_precision(
    loader: LoaderOf, pooling: str, precision: str, dtype: torch.dtype
) -> None:
    model = loader("bert", pooling, precision=precision)(frozen=True)
    assert {p.dtype for p in model.parameters() if not p.requires_grad} == {dtype}
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    assert {p.dtype for p in loader("bert", pooling, precision=precision)().parameters()} == {torch.float32}


def states(base: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """What the pretrained part gives; T5's must be told what to decode."""
    if hasattr(base, "decoder") and "decoder_input_ids" not in batch:
        batch = {**batch, "decoder_input_ids": batch["input_ids"]}
    with torch.no_grad():
        return next(iter(base(**batch).values()))


HEAD_DROPOUT = {"distilbert": 0.2, **dict.fromkeys(("modernbert", "t5", "bart"), 0.0), **dict.fromkeys(tiny.DECODERS)}
"""Where it is not 0.1; None where there is none."""


@pytest.mark.parametrize(
    ("architecture", "pooling"),
    [*((a, "native") for a in tiny.ARCHITECTURES), *((a, "mean") for a in tiny.ENCODERS)],
)
def test_the_budgets_dropout_is_that_of_the_backbone_alone(
    loader: LoaderOf, batch: dict[str, torch.Tensor], architecture: str, pooling: str
) -> None:
    model: Any = loader(architecture, pooling, dropout=0.0)().train()
    base = model.base_model
    assert torch.equal(states(base, batch), states(base, batch))
    inside = {id(module) for module in base.modules()}
    dropouts = [m for m in model.modules() if isinstance(m, nn.Dropout)]
    assert {m.p for m in dropouts if id(m) in inside} <= {0.0}
    head = [m.p for m in dropouts if id(m) not in inside]
    expected = HEAD_DROPOUT.get(architecture, 0.1)
    assert head[-1:] == ([] if expected is None else [expected])
    own: Any = loader(architecture, pooling)()
    inside = {id(module) for module in own.base_model.modules()}
    assert [m.p for m in own.modules() if isinstance(m, nn.Dropout) and id(m) not in inside] == head


@pytest.mark.parametrize(("kind", "architecture"), tiny.TASK_CELLS)
def test_no_kind_loses_the_dropout_of_its_head(backbone: Callable[..., Path], kind: str, architecture: str) -> None:
    """Some heads take the backbone's general dropout, or one of their own that no configuration names."""

    def outside(model: Any) -> list[float]:
        inside = {id(module) for module in model.base_model.modules()}
        return [m.p for m in model.modules() if isinstance(m, nn.Dropout) and id(m) not in inside]

    own = tiny.loader_for(backbone(architecture), kind)()
    without = tiny.loader_for(backbone(architecture), kind, dropout=0.0)()
    assert outside(without) == outside(own)
    inputs = tiny.inputs_for(architecture, kind)
    assert torch.equal(states(without.base_model.train(), inputs), states(without.base_model, inputs))


def test_without_dropout_no_layer_is_left_out_either(backbone: Callable[..., Path], tmp_path: Path) -> None:
    """As M2M100 does of itself."""
    shutil.copytree(backbone("bart"), tmp_path / "own")
    file = tmp_path / "own" / "config.json"
    drops = {"encoder_layerdrop": 0.5, "decoder_layerdrop": 0.5}
    file.write_text(json.dumps({**json.loads(file.read_text()), **drops}))
    for given, expected in ((None, 0.5), (0.1, 0.5), (0.0, 0.0)):
        model = tiny.loader_for(tmp_path / "own", "seq2seq", dropout=given)()
        assert [part.layerdrop for part in (model.model.encoder, model.model.decoder)] == [expected] * 2


def test_a_dropout_given_replaces_the_backbones_own(loader: LoaderOf) -> None:
    for given, expected in ((None, 0.1), (0.3, 0.3)):
        model: Any = loader("bert", dropout=given)()
        assert {m.p for m in model.base_model.modules() if isinstance(m, nn.Dropout)} == {expected}
        assert model.dropout.p == 0.1


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_long_rows_go_through_sdpa_where_the_family_has_it(
    loader: LoaderOf, batch: dict[str, torch.Tensor], architecture: str
) -> None:
    load = loader(architecture)
    long = dataclasses.replace(load, task=dataclasses.replace(load.task, max_length=300))
    short_model, long_model = load(), long()
    assert short_model.config._attn_implementation == "eager"
    assert long_model.config._attn_implementation == ("eager" if architecture == "deberta-v2" else "sdpa")
    torch.testing.assert_close(logits(long_model, batch), logits(short_model, batch), rtol=1e-4, atol=1e-5)


def test_loading_is_silent(loader: LoaderOf, capfd: pytest.CaptureFixture[str]) -> None:
    for pooling in ("native", "mean"):
        loader("bert", pooling)()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("architecture", "positions"), [("bert", 64), ("roberta", 63), ("distilbert", 64)])
def test_rows_are_cut_to_the_positions_there_are(
    backbone: Callable[..., Path], task_data: Callable[[str], Data], loader: LoaderOf, architecture: str, positions: int
) -> None:
    task = options.task_of(task_data("single_label"), resolve(backbone(architecture)), max_length=128)
    assert task.max_length == positions
    ids = torch.full((1, positions), 9)
    assert logits(loader(architecture)(), {"input_ids": ids, "attention_mask": torch.ones_like(ids)}).isfinite().all()


@pytest.mark.parametrize(
    ("model_type", "padding", "positions"), [("roberta", 4, 59), ("roberta", 1, 62), ("mpnet", 4, 62)]
)
def test_positions_up_to_the_padding_index_are_no_tokens(
    tmp_path: Path, task_data: Callable[[str], Data], model_type: str, padding: int, positions: int
) -> None:
    """Whatever token the tokenizer pads with."""
    config = AutoConfig.for_model(model_type, **tiny._SIZES | {"pad_token_id": padding})
    AutoModel.from_config(config).save_pretrained(tmp_path)
    tiny.tokenizer_for("roberta").save_pretrained(tmp_path)
    model = tiny.loader_for(tmp_path, "sequence_classification")()
    assert longest_of(model) == positions
    assert options.task_of(task_data("single_label"), resolve(tmp_path), max_length=128).max_length == positions
    ids = torch.full((1, positions), 9)
    assert logits(model, {"input_ids": ids, "attention_mask": torch.ones_like(ids)}).isfinite().all()
    with pytest.raises((IndexError, RuntimeError), match="out of"):
        model(input_ids=torch.full((1, positions + 1), 9))
