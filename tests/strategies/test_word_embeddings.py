"""A low-rank update of the word embeddings, under each strategy that leaves the table frozen."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import transformers
from torch import nn

from adapt import params
from adapt.adapted import fit_model
from adapt.backbones.classes import AUTO_CLASSES
from adapt.backbones.plain import save_plain
from adapt.spec import OptionError, Unsupported
from adapt.strategies import disabled
from adapt.strategies.word_embeddings import UpdatedEmbedding, update_word_embeddings
from adapt.training.optimizer import optimizer_for

Folder = Callable[..., Path]
RANK = 3
STRATEGIES = {
    name: dataclasses.replace(tiny.STRATEGIES[name], embedding_rank=RANK, embedding_rate=1e-2)  # type: ignore[type-var]
    for name in ("lora", "bottleneck", "prefix", "qlora")
}
ONE_TABLE = [a for a in tiny.ARCHITECTURES if a not in tiny.ENCODER_DECODERS]
CELLS = [("sequence_classification", a) for a in ONE_TABLE] + [("causal_lm", a) for a in tiny.DECODERS]
ON = pytest.mark.parametrize("strategy", list(STRATEGIES))


def outputs(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        return tiny.outputs_of(model.eval(), inputs).float()


def test_it_is_the_table_and_the_product_and_starts_as_the_table() -> None:
    table = nn.Embedding(7, 5).requires_grad_(False)
    words, ids = UpdatedEmbedding(table, 2), torch.tensor([[3, 0], [6, 3]])
    assert torch.equal(words(ids), table(ids))
    nn.init.normal_(words.coefficients)
    whole = (table.weight + words.coefficients @ words.directions).detach().requires_grad_()
    expected = nn.functional.embedding(ids, whole)
    torch.testing.assert_close(words(ids), expected)
    torch.testing.assert_close(words.merged(), whole.detach())
    expected.square().sum().backward()
    words(ids).square().sum().backward()
    assert whole.grad is not None
    torch.testing.assert_close(words.coefficients.grad, whole.grad @ words.directions.detach().t())
    torch.testing.assert_close(words.directions.grad, words.coefficients.detach().t() @ whole.grad)


def test_padding_is_updated_where_the_table_updates_it() -> None:
    ids = torch.tensor([[3, 0, 0]])
    for padding, updated in ((None, True), (0, False)):
        words = UpdatedEmbedding(nn.Embedding(7, 5, padding_idx=padding).requires_grad_(False), 2)
        nn.init.normal_(words.coefficients)
        words(ids).square().sum().backward()
        assert words.coefficients.grad is not None
        assert bool(words.coefficients.grad[0].any()) is updated
        assert words.coefficients.grad[3].any()


@pytest.mark.parametrize(
    ("kind", "architecture", "strategy"),
    [
        (*cell, strategy)
        for cell in CELLS
        for strategy in STRATEGIES
        if strategy == "lora" or cell[1] in ("bert", "gpt2", "deberta-v2")
    ],
)
def test_it_is_trained_counted_saved_and_taken_off(
    backbone: Folder, tmp_path: Path, kind: str, architecture: str, strategy: str
) -> None:
    source, chosen = tiny.loader_for(backbone(architecture), kind), STRATEGIES[strategy]
    inputs = tiny.inputs_for(architecture, kind)
    torch.manual_seed(0)
    without = dataclasses.replace(chosen, embedding_rank=0).build(source, source.task)
    torch.manual_seed(0)
    model = chosen.build(source, source.task)
    assert torch.equal(outputs(model, inputs), outputs(without, inputs))
    words, hidden = model.base_model.get_input_embeddings().weight.shape
    assert params.count(model)[0] == params.count(without)[0] + RANK * (words + hidden)
    model.train()
    tiny.outputs_of(tiny.moved(model), inputs).square().sum().backward()
    own = {n: p for n, p in model.named_parameters() if n.endswith((".coefficients", ".directions"))}
    assert len(own) == 2
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in own.values())
    if strategy != "prefix":
        off = outputs(without, inputs)
        trained = params.trainable_state(model)
        for name in model.head_names:
            dict(without.named_parameters())[name].data.copy_(trained[name])
        off = outputs(without, inputs)
        with disabled(model):
            torch.testing.assert_close(outputs(model, inputs), off, rtol=1e-5, atol=1e-5)
    params.save(model, tmp_path)
    again = chosen.build(source, source.task)
    params.load(again, tmp_path)
    assert torch.equal(outputs(again, inputs), outputs(model, inputs))


@ON
def test_it_has_a_learning_rate_of_its_own(backbone: Folder, strategy: str) -> None:
    source = tiny.loader_for(backbone("bert"), "sequence_classification")
    model = STRATEGIES[strategy].build(source, source.task)
    optimizer = optimizer_for(model, source.budget, 0.25)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    names = {n: rates[id(p)] for n, p in model.named_parameters() if p.requires_grad}
    own = {n for n, rate in names.items() if rate == 1e-2}
    assert own == {n for n in names if n.endswith((".coefficients", ".directions"))}
    assert {rate for n, rate in names.items() if n not in own} == {0.25}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("kind", "architecture"), CELLS)
def test_it_merges_and_an_output_layer_that_shared_the_table_keeps_it(
    backbone: Folder, tmp_path: Path, kind: str, architecture: str
) -> None:
    source, chosen = tiny.loader_for(backbone(architecture), kind), STRATEGIES["lora"]
    model = tiny.moved(chosen.build(source, source.task))
    inputs = tiny.inputs_for(architecture, kind)
    expected = outputs(model, inputs)
    plain = chosen.merge(model, source)  # type: ignore[attr-defined]
    save_plain(plain, source, tmp_path)
    loaded, info = getattr(transformers, AUTO_CLASSES[kind]).from_pretrained(
        tmp_path, output_loading_info=True, attn_implementation="eager"
    )
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    torch.testing.assert_close(outputs(loaded, inputs), expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(outputs(model, inputs), expected)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft asks for it
@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning")  # which merging would untie
@pytest.mark.parametrize(
    ("kind", "architecture", "rslora"), [(*cell, False) for cell in CELLS] + [("sequence_classification", "bert", True)]
)
def test_peft_loads_it(backbone: Folder, tmp_path: Path, kind: str, architecture: str, rslora: bool) -> None:
    from peft import PeftModel

    folder = backbone(architecture)
    source, chosen = tiny.loader_for(folder, kind), dataclasses.replace(STRATEGIES["lora"], rslora=rslora)  # type: ignore[type-var]
    model, inputs = tiny.moved(chosen.build(source, source.task)), tiny.inputs_for(architecture, kind)
    chosen.export(model, tmp_path, str(folder))  # type: ignore[attr-defined]
    base = getattr(transformers, AUTO_CLASSES[kind]).from_pretrained(
        folder, attn_implementation="eager", num_labels=3, pad_token_id=inputs["input_ids"].min().item()
    )
    theirs = PeftModel.from_pretrained(base, str(tmp_path)).eval()
    torch.testing.assert_close(outputs(theirs, inputs), outputs(model, inputs), rtol=1e-4, atol=1e-5)


@ON
def test_it_tells_apart_words_that_the_table_does_not(tmp_path: Path, strategy: str) -> None:
    """Praise and blame have one and the same embedding: nothing that stands above it can learn which is which."""
    folder = tiny.save_backbone(tmp_path / "backbone", "bert", layers=1)
    file = folder / "model.safetensors"
    from safetensors.torch import load_file, save_file

    state = load_file(file)
    (name,) = [n for n in state if n.endswith("word_embeddings.weight")]
    alike = [tiny.VOCABULARY.index(word) for word in (*tiny.GOOD, *tiny.BAD)]
    state[name][alike] = state[name][alike[0]].clone()
    save_file(state, file, metadata={"format": "pt"})
    data = tiny.classification(rows=96, held_out=64)
    scores = {}
    for rank in (0, RANK):
        chosen = dataclasses.replace(STRATEGIES[strategy], embedding_rank=rank, embedding_rate=3e-2)  # type: ignore[type-var]
        model = fit_model(folder, data, chosen, epochs=5, batch_size=8, device="cpu", precision="fp32", dropout=0.0)
        result = model.result
        assert result is not None
        scores[rank] = result.scores["test"]["accuracy"]
    assert scores[0] < 0.65
    assert scores[RANK] > 0.85


def test_a_table_that_scales_what_it_finds_is_refused() -> None:
    sizes = {"vocab_size": 12, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "head_dim": 4}
    config = transformers.Gemma3TextConfig(**sizes, num_attention_heads=2, num_key_value_heads=1)
    with pytest.raises(Unsupported, match=r"'gemma3_text' \(Gemma3TextScaledWordEmbedding\) does something"):
        update_word_embeddings(transformers.Gemma3ForCausalLM(config), 2, 1e-3)


@ON
def test_bad_settings(backbone: Folder, strategy: str) -> None:
    def build(architecture: str = "bert", **fields: Any) -> None:
        source = tiny.loader_for(backbone(architecture), "sequence_classification")
        dataclasses.replace(STRATEGIES[strategy], **fields).build(source, source.task)  # type: ignore[type-var]

    with pytest.raises(OptionError, match=rf"{strategy}.embedding_rank is -1; give 0"):
        build(embedding_rank=-1)
    with pytest.raises(OptionError, match=rf"{strategy}.embedding_rate is nan; give a finite number"):
        build(embedding_rate=float("nan"))
    with pytest.raises(OptionError, match=rf"{strategy}.layers='last:1' computes that once a row; set embedding_rank"):
        build(layers="last:1")
    for architecture in tiny.ENCODER_DECODERS:
        with pytest.raises(Unsupported, match=rf"'{architecture}' looks them up in [23] places"):
            build(architecture)
    if "lora" in strategy:
        bits = {"bits": 4} if strategy == "qlora" else {}
        with pytest.raises(OptionError, match=rf"{strategy}.dora splits each weight"):
            build(dora=True, **bits)
