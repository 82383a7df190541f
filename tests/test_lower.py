"""Layers below those that are adapted: frozen, computed once a row, and nothing else changes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from tiny_tasks import TASKS
from torch import nn
from transformers import AutoModel, MPNetConfig, XLMConfig

from adapt.adapted import Adapted, assemble, fit_model, load_model
from adapt.backbones import Loader
from adapt.backbones.lower import Lower
from adapt.backbones.memo import memos_of
from adapt.backbones.memoise import release
from adapt.data import Data
from adapt.inputs import Inputs
from adapt.run import fit, run
from adapt.spec import OptionError, Unsupported, fields_of
from adapt.strategies import BottleneckAdapter, Full, Head, LoRA, Prefix, QLoRA
from adapt.tasks import KINDS
from adapt.training import train

ONE_STACK = ("bert", "roberta", "distilbert", "electra", "deberta-v2", "modernbert", "gpt2", "llama", "qwen3")
STRATEGIES = (Full(layers="last:1"), LoRA(layers="last:1"), BottleneckAdapter(layers="last:1"), Prefix(layers="last:1"))


def trained(
    folder: Path, data: Data, strategy: Any, *, memo: bool = True, **choices: Any
) -> tuple[Any, Any, list[int]]:
    """Model, curve, and rows that the lowest layer saw, of two epochs."""
    budget = {"epochs": 2, "device": "cpu", "precision": "fp32", "dropout": 0.0, **choices}
    run, data, source = assemble(folder, data, strategy, **budget)
    loader = Loader(source, run.task, run.budget, 0)
    kind = KINDS[run.task.kind](run.task, loader.tokenizer())
    parts = {name: kind.encode(rows, split=name) for name, rows in data.splits.items()}
    torch.manual_seed(0)
    model: Any = strategy.build(loader, run.task)
    (lowest,) = [m.layer for m in model.modules() if isinstance(m, Lower) and hasattr(m, "memo")]
    if not memo:
        release(model)
    seen: list[int] = []
    lowest.register_forward_hook(lambda module, args, kwargs, out: seen.append(
        len(out[0] if isinstance(out, tuple) else out)), with_kwargs=True)  # fmt: skip
    done = train(
        model, kind, parts["train"], parts["validation"], run.budget, learning_rate=1e-3, metric=run.task.metric,
        higher_is_better=True, seed=0,
    )  # fmt: skip
    return model, done, seen


@pytest.mark.parametrize("architecture", ONE_STACK)
@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda s: s.name)
def test_training_is_the_same_with_the_lower_layers_run_once_a_row(
    backbone: Callable[..., Path], task_data: Callable[[str], Data], architecture: str, strategy: Any
) -> None:
    data = task_data("single_label")
    plain, expected, every = trained(backbone(architecture), data, strategy, memo=False)
    model, found, seen = trained(backbone(architecture), data, strategy)
    assert [p["loss"] for p in found.curve] == pytest.approx([p["loss"] for p in expected.curve], abs=2e-5)
    rows = len(data.splits["train"]) + len(data.splits["validation"])
    assert sum(every) == 2 * rows
    assert sum(seen) <= rows  # equal rows once
    release(model)
    assert not any(isinstance(module, Lower) for module in model.modules())
    ours = {name: p for name, p in model.named_parameters() if p.requires_grad}
    theirs = {name: p for name, p in plain.named_parameters() if p.requires_grad}
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        if name.endswith(("key.bias", "k_lin.bias", "c_attn.bias")):
            continue  # no gradient but rounding, which AdamW blows up: softmax does not see what all keys share
        torch.testing.assert_close(ours[name], value, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.parametrize("architecture", ONE_STACK)
@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda s: s.name)
def test_what_is_trainable_is_in_the_uppermost_layers_or_after_them(
    backbone: Callable[..., Path], task_data: Callable[[str], Data], architecture: str, strategy: Any
) -> None:
    run, _, source = assemble(backbone(architecture), task_data("single_label"), strategy, device="cpu")
    model: Any = strategy.build(Loader(source, run.task, run.budget, 0), run.task)
    release(model)
    names = [name for name, p in model.named_parameters() if p.requires_grad and name not in model.head_names]
    layers = [name for name in names if any(part.isdigit() for part in name.split("."))]
    assert layers
    assert all(next(part for part in name.split(".") if part.isdigit()) == "1" for name in layers)
    others = {name for name in names if name not in layers}
    assert all("norm" in name or "ln_f" in name or "pooler" in name or "head" in name for name in others), others
    everything = dataclasses.replace(strategy, layers="all").build(Loader(source, run.task, run.budget, 0), run.task)
    assert len(names) < sum(p.requires_grad for p in everything.parameters())


@pytest.mark.parametrize("kind", ["tags", "causal_lm"])
@pytest.mark.parametrize("strategy", [LoRA(layers="last:1"), QLoRA(layers="last:1")], ids=lambda s: s.name)
def test_other_kinds_and_quantised_layers(kind: str, strategy: Any, tmp_path: Path) -> None:
    from adapt.comparison.given import embedded_data

    data = embedded_data({"tags": "ner"}.get(kind, kind))
    data = dataclasses.replace(data, splits={name: rows.select(range(12)) for name, rows in data.splits.items()})
    backbone = {"tags": "tiny-encoder", "causal_lm": "tiny-decoder"}[kind]
    choices = {"epochs": 1, "max_length": 64, "device": "cpu", "checkpointing": strategy.name == "qlora"}
    run, rows, source = assemble(backbone, data, strategy, **choices)
    result, fitted = fit(run, Inputs(rows, source))
    assert result.status == "ok"
    model = Adapted(fitted, run, source, result)
    some = rows.splits["test"].select(range(4)).to_pandas()
    loaded = load_model(model.save(tmp_path / "model"), device="cpu")
    assert [str(x) for x in loaded.predict(some)] == [str(x) for x in model.predict(some)]


@pytest.mark.parametrize("strategy", [QLoRA(layers="last:1"), LoRA(layers="last:1")], ids=lambda s: s.name)
def test_gradients_flow_under_checkpointing(
    backbone: Callable[..., Path], task_data: Callable[[str], Data], strategy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the reentrant kind, which needs an input with a gradient, and of the other, which gets none."""
    data = task_data("single_label")
    given: list[bool] = []

    def watched(layer: Lower, *args: Any, **kwargs: Any) -> Any:
        out = forward(layer, *args, **kwargs)
        given.append((out[0] if isinstance(out, tuple) else out).requires_grad)
        return out

    forward = Lower.forward
    monkeypatch.setattr(Lower, "forward", watched)
    curves = [
        trained(backbone("bert"), data, strategy, checkpointing=checkpointing)[1].curve
        for checkpointing in (False, True)
    ]
    assert any(given) == (strategy.name == "qlora")
    assert [p["loss"] for p in curves[1]] == pytest.approx([p["loss"] for p in curves[0]], abs=1e-4)
    assert curves[0][1]["loss"] != curves[0][0]["loss"]


def test_merging_gives_a_plain_model(
    backbone: Callable[..., Path], task_data: Callable[[str], Data], tmp_path: Path
) -> None:
    data = task_data("single_label")
    for strategy in (Full(layers="last:1"), LoRA(layers="last:1")):
        model = fit_model(backbone("bert"), data, strategy, epochs=1, device="cpu", precision="fp32", pooling="native")
        folder = model.merge(tmp_path / strategy.name)
        from transformers import AutoModelForSequenceClassification

        plain = AutoModelForSequenceClassification.from_pretrained(folder).eval()
        kind = model.fitted.kind
        batch = kind.collate(kind.encode(data.splits["test"].remove_columns("label")))
        with torch.no_grad():
            torch.testing.assert_close(
                plain(**batch).logits, model.fitted.model.eval()(**batch).logits, atol=1e-4, rtol=1e-4
            )


def test_runs_share_the_features_of_what_lies_below(
    backbone: Callable[..., Path], task_data: Callable[[str], Data], tmp_path: Path
) -> None:
    data = task_data("single_label")

    def run_once(strategy: Any, seed: int, shelf: Path | None) -> tuple[Any, bool]:
        run, rows, source = assemble(
            backbone("bert"), data, strategy, seed=seed, epochs=1, device="cpu", precision="bf16", pooling="mean"
        )
        result, _ = fit(run, Inputs(rows, source, features=shelf))
        return result, any("an earlier run had left them" in note for note in result.notes)

    alone, _ = run_once(LoRA(layers="last:1"), 1, None)
    for strategy in (Head(), LoRA(layers="last:1"), QLoRA(layers="last:1")):  # features of three kinds
        assert not run_once(strategy, 0, tmp_path)[1], strategy
    # in 8 bits a column with an outlier in any row is another one for all rows of the batch
    assert not run_once(QLoRA(layers="last:1"), 1, tmp_path)[1]
    second, shared = run_once(LoRA(layers="last:1"), 1, tmp_path)
    assert shared
    assert second.scores == alone.scores
    assert [p["loss"] for p in second.curve] == [p["loss"] for p in alone.curve]
    _, shared = run_once(Full(layers="last:1"), 0, tmp_path)
    assert not shared  # made from weights in float32


def test_features_below_another_layer_lie_on_another_shelf(
    backbone: Callable[..., Path], task_data: Callable[[str], Data]
) -> None:
    data = task_data("single_label")
    made = [build(backbone("bert", 3), data, LoRA(layers=f"last:{n}"), precision="bf16") for n in (1, 2)]
    assert [[memo.name for memo in memos_of(model)] for model in made] == [["below-2-bfloat16"], ["below-1-bfloat16"]]


@pytest.mark.parametrize("architecture", tiny.DECODERS)
@pytest.mark.parametrize("use_cache", [True, False])
def test_generation_goes_past_the_memo(backbone: Callable[..., Path], architecture: str, use_cache: bool) -> None:
    load = tiny.loader_for(backbone(architecture), "causal_lm")
    model: Any = tiny.moved(LoRA(layers="last:1").build(load, load.task)).eval()
    inputs = tiny.inputs_for(architecture, "causal_lm")
    prompt = {name: inputs[name].flip(1) for name in ("input_ids", "attention_mask")}  # padded on the left
    options: dict[str, Any] = {"max_new_tokens": 6, "do_sample": False, "use_cache": use_cache}
    with torch.no_grad():
        before = tiny.outputs_of(model, inputs)
    (memo,) = memos_of(model)
    assert memo.encoded_rows == len(inputs["input_ids"])
    found = model.generate(**prompt, **options)
    assert (memo.encoded_rows == len(inputs["input_ids"])) == use_cache
    with torch.no_grad():
        assert torch.equal(tiny.outputs_of(model, inputs), before)
    release(model)
    assert torch.equal(model.generate(**prompt, **options), found)


def build(folder: Path, data: Data, strategy: Any, **choices: Any) -> nn.Module:
    run, _, source = assemble(folder, data, strategy, device="cpu", **choices)
    return strategy.build(Loader(source, run.task, run.budget, 0), run.task)  # type: ignore[no-any-return]


@pytest.mark.parametrize("layers", ["last", "last:0", "last:-1", "first:2", "2", "last:2.5"])
def test_what_cannot_be_read_is_refused(
    backbone: Callable[..., Path], task_data: Callable[[str], Data], layers: str
) -> None:
    with pytest.raises(OptionError, match=rf"lora\.layers is '{layers}'; write all, or last:N"):
        build(backbone("bert"), task_data("single_label"), LoRA(layers=layers))


def test_more_layers_than_there_are_is_all_of_them(
    backbone: Callable[..., Path], task_data: Callable[[str], Data]
) -> None:
    model = build(backbone("bert"), task_data("single_label"), LoRA(layers="last:9"))
    assert not any(isinstance(module, Lower) for module in model.modules())
    assert sum(hasattr(module, "lora_A") for module in model.modules()) == 2 * 6


@pytest.mark.parametrize(("architecture", "why"), [
    ("t5", "an encoder and a decoder"), ("bart", "an encoder and a decoder"), ("albert", "share their weights"),
])  # fmt: skip
def test_where_layers_cannot_be_told_apart_it_says_so(
    backbone: Callable[..., Path], task_data: Callable[[str], Data], architecture: str, why: str
) -> None:
    with pytest.raises(Unsupported, match=why):
        build(backbone(architecture), task_data("single_label"), LoRA(layers="last:1"))


def test_layers_that_hand_on_more_than_hidden_states_cannot_be_left_out(backbone: Callable[..., Path]) -> None:
    """T5's hand on what they add to attention for positions, which the first of them makes."""
    for strategy in STRATEGIES:
        spec, data, source = assemble(backbone("t5"), TASKS["spans"](), strategy, device="cpu", max_length=32)
        result = run(spec, Inputs(data, source))
        assert result.status == "unsupported"
        assert "the layers of 't5' hand on more than hidden states" in str(result.reason)


def test_layers_that_give_a_tuple_of_hidden_states_are_left_out(
    tmp_path: Path, task_data: Callable[[str], Data]
) -> None:
    """MPNet's; also where another process has left their features, so that they have not been seen to give one."""
    torch.manual_seed(0)
    AutoModel.from_config(MPNetConfig(**tiny._SIZES)).save_pretrained(tmp_path / "backbone")
    tiny.tokenizer_for("roberta").save_pretrained(tmp_path / "backbone")
    data, strategy = task_data("single_label"), LoRA(layers="last:1")
    _, expected, _ = trained(tmp_path / "backbone", data, strategy, memo=False)
    _, found, seen = trained(tmp_path / "backbone", data, strategy)
    assert [p["loss"] for p in found.curve] == pytest.approx([p["loss"] for p in expected.curve], abs=2e-5)
    assert sum(seen) <= len(data.splits["train"]) + len(data.splits["validation"])
    results = []
    for _ in range(2):
        spec, rows, source = assemble(
            tmp_path / "backbone", data, strategy, device="cpu", precision="bf16", pooling="mean", epochs=2
        )
        results.append(fit(spec, Inputs(rows, source, features=tmp_path / "features"))[0])
    assert any("an earlier run had left them" in note for note in results[1].notes)
    assert results[0].scores == results[1].scores


def test_a_model_with_a_list_for_each_part_of_its_layers_is_refused(
    tmp_path: Path, task_data: Callable[[str], Data]
) -> None:
    config = XLMConfig(vocab_size=len(tiny.VOCABULARY), emb_dim=32, n_layers=2, n_heads=4, max_position_embeddings=64)
    AutoModel.from_config(config).save_pretrained(tmp_path)
    tiny.tokenizer_for("bert").save_pretrained(tmp_path)
    with pytest.raises(Unsupported, match="'xlm' has no list of whole layers"):
        build(tmp_path, task_data("single_label"), LoRA(layers="last:1"))


def test_deberta_with_a_convolution_is_refused_for_it_reads_what_its_first_layer_got(
    tmp_path: Path, task_data: Callable[[str], Data]
) -> None:
    from transformers import DebertaV2Config, DebertaV2Model

    config = DebertaV2Config.from_pretrained(tiny.save_backbone(tmp_path, "deberta-v2"))
    config.conv_kernel_size = 3
    DebertaV2Model(config).save_pretrained(tmp_path)
    with pytest.raises(Unsupported, match="conv_kernel_size"):
        build(tmp_path, task_data("single_label"), LoRA(layers="last:1"))
    assert build(tmp_path, task_data("single_label"), LoRA()) is not None


def test_the_field_is_no_part_of_a_run_that_adapts_every_layer() -> None:
    assert "layers" not in fields_of(LoRA())
    assert fields_of(LoRA(layers="last:2"))["layers"] == "last:2"
