"""Linear probing on standardised features."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from torch import nn

from adapt.adapted import fit_model, load_model
from adapt.backbones.memo import memos_of
from adapt.backbones.memoise import release
from adapt.backbones.standardised import Standardised
from adapt.data import Data
from adapt.spec import Unsupported, fields_of
from adapt.strategies import Head
from adapt.strategies import make as strategy_named


def seen(parts: list[torch.Tensor]) -> Standardised:
    module = Standardised(parts[0].shape[-1], torch.device("cpu"))
    for part in parts:
        module(part, torch.ones(part.shape[:2]))
    return module


def test_mean_and_deviation_are_those_of_all_rows_so_far() -> None:
    torch.manual_seed(0)
    rows = torch.randn(50, 6) * torch.tensor([1e-3, 1.0, 5.0, 0.1, 2.0, 30.0]) + torch.linspace(-9, 9, 6)
    module = seen(list(rows.split([7, 1, 30, 12])))
    torch.testing.assert_close(module.mean, rows.mean(0))
    torch.testing.assert_close(module.deviation, rows.std(0, correction=0), rtol=1e-4, atol=1e-4)
    found = module.eval()(rows, torch.ones(50, 4))
    assert found.mean(0).abs().max() < 1e-3
    torch.testing.assert_close(found[:, 1:].std(0, correction=0), torch.ones(5), rtol=1e-4, atol=1e-4)


def test_padding_does_not_count_and_stays_zero() -> None:
    torch.manual_seed(0)
    rows = torch.randn(3, 5, 4) + 7
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [0, 0, 1, 1, 1]])
    module = Standardised(4, torch.device("cpu"))
    found = module(rows * mask[..., None], mask)
    assert module.seen == 10
    torch.testing.assert_close(module.mean, rows[mask.bool()].mean(0))
    assert not found[~mask.bool()].any()


def test_evaluation_changes_nothing_and_ends_the_counting() -> None:
    torch.manual_seed(0)
    module, mask = seen([torch.randn(8, 3)]), torch.ones(8, 2)
    before = module.mean.clone(), module.deviation
    module.eval()(torch.randn(8, 3) + 5, mask)
    module.train()(torch.randn(8, 3) + 5, mask)
    assert torch.equal(module.mean, before[0])
    assert torch.equal(module.deviation, before[1])


def test_before_any_row_it_is_the_identity() -> None:
    x, mask = torch.randn(4, 3), torch.ones(4, 2)
    module = Standardised(3, torch.device("cpu")).eval()
    assert torch.equal(module(x, mask), x)
    module.train()(x, mask)
    assert not module.fixed


def test_folding_keeps_the_outputs() -> None:
    torch.manual_seed(0)
    layer, x, mask = nn.Linear(5, 2), torch.randn(20, 5) * 3 + 2, torch.ones(20, 2)
    module = seen([x]).eval()
    expected = layer(module(x, mask)).detach()
    module.fold_into(layer)
    torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-5)


ALL = [("sequence_classification", a, "mean") for a in (*tiny.ENCODERS, *tiny.DECODERS)]
ALL += [(kind, a, "native") for kind, a in tiny.TASK_CELLS]


@pytest.mark.parametrize(("kind", "architecture", "pooling"), ALL)
def test_released_it_gives_what_it_gave_or_the_head_is_refused(
    backbone: Callable[..., Path], kind: str, architecture: str, pooling: str
) -> None:
    load = tiny.loader_for(backbone(architecture), kind)
    load = dataclasses.replace(load, task=dataclasses.replace(load.task, pooling=pooling))
    shapes = [p.shape for n, p in Head().build(load, load.task).named_parameters() if p.requires_grad]
    try:
        model: Any = Head(standardise=True).build(load, load.task)
    except Unsupported:
        # GPT-2's, Llama's and Qwen's classifiers have no bias, and what a pooler gives is no feature of the backbone
        pooled = kind == "sequence_classification" and pooling == "native"
        assert len(shapes) != 2 or pooled or kind in ("seq2seq", "causal_lm")
        return
    inputs = tiny.inputs_for(architecture, kind)
    before = tiny.outputs_of(model.eval(), inputs).detach()
    tiny.outputs_of(model.train(), inputs)
    tiny.moved(model)
    expected = tiny.outputs_of(model.eval(), inputs).detach()
    assert not torch.allclose(before, expected)
    release(model)
    assert not any(isinstance(module, Standardised) for module in model.modules())
    torch.testing.assert_close(tiny.outputs_of(model, inputs).detach(), expected, rtol=1e-4, atol=1e-4)


def test_a_model_trained_so_is_saved_as_a_plain_one(
    backbone: Callable[..., Path], task_data: Callable[[str], Data], tmp_path: Path
) -> None:
    words = task_data("single_label")
    choices: dict[str, Any] = {"epochs": 3, "device": "cpu", "precision": "fp32", "pooling": "mean", "batch_size": 8}
    model = fit_model(backbone("bert"), words, Head(learning_rate=1e-2, standardise=True), **choices)
    inner: Any = model.fitted.model
    loaded: Any = load_model(model.save(tmp_path), device="cpu").fitted.model
    rows = tiny.inputs_for("bert", "sequence_classification")
    with torch.no_grad():
        assert torch.equal(loaded.eval()(**rows).logits, inner.eval()(**rows).logits)
        assert torch.equal(nn.functional.linear(inner.features(**rows), inner.classifier.weight, inner.classifier.bias),
                           inner(**rows).logits)  # fmt: skip
    plain = fit_model(backbone("bert"), words, Head(learning_rate=1e-2), **choices)
    other: Any = plain.fitted.model
    assert not torch.allclose(other.classifier.weight, inner.classifier.weight)


def test_without_validation_mean_and_deviation_are_those_of_the_first_epoch(
    backbone: Callable[..., Path], task_data: Callable[[str], Data], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing later counts: not the second epoch, not the step that memory is measured in."""
    found: list[tuple[int, torch.Tensor]] = []
    fold_into = Standardised.fold_into

    def look(self: Standardised, layer: nn.Linear) -> None:
        found.append((self.seen, self.mean.clone()))
        fold_into(self, layer)

    monkeypatch.setattr(Standardised, "fold_into", look)
    data = task_data("single_label")
    rows = {name: split for name, split in data.splits.items() if name != "validation"}
    for epochs in (1, 3):
        fit_model(
            backbone("bert"), dataclasses.replace(data, splits=rows), Head(learning_rate=1e-2, standardise=True),
            epochs=epochs, device="cpu", precision="fp32", pooling="mean",
        )  # fmt: skip
    (once, mean), (thrice, same) = found
    assert once == thrice == len(rows["train"])
    assert torch.equal(mean, same)


def test_the_scale_of_the_features_does_not_matter_to_training(backbone: Callable[..., Path]) -> None:
    load = tiny.loader_for(backbone("bert"), "sequence_classification")
    load = dataclasses.replace(load, task=dataclasses.replace(load.task, pooling="mean"))
    made = []
    for scale in (1.0, 1000.0):
        model: Any = Head(standardise=True).build(load, load.task)
        tiny.without_dropout(model)
        model.features.features.register_forward_hook(lambda module, args, out, scale=scale: out * scale)
        optimizer = torch.optim.AdamW(model.classifier.parameters(), lr=1e-2)
        model.train()
        for _ in range(5):
            logits = model(**tiny.inputs_for("bert", "sequence_classification")).logits
            nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2])).backward()
            optimizer.step()
            optimizer.zero_grad()
        made.append(model.classifier.weight.detach())
    torch.testing.assert_close(made[0], made[1], rtol=1e-2, atol=1e-3)


def test_where_the_head_is_no_single_layer_it_says_so(backbone: Callable[..., Path]) -> None:
    load = tiny.loader_for(backbone("roberta"), "sequence_classification")
    with pytest.raises(Unsupported, match="for heads that are one linear layer on them; set standardise=False"):
        Head(standardise=True).build(load, load.task)


def test_the_field_is_no_part_of_a_run_without_it() -> None:
    assert "standardise" not in fields_of(Head())
    assert fields_of(strategy_named("head", {"standardise": True}))["standardise"] is True


def test_what_is_scored_last_is_the_model_as_it_is_handed_over(
    backbone: Callable[..., Path], task_data: Callable[[str], Data], monkeypatch: pytest.MonkeyPatch
) -> None:
    import adapt.training

    scalings = []
    predict = adapt.training.predict

    def watched(model: Any, *arguments: Any) -> Any:
        scalings.append([memo.scaling for memo in memos_of(model)])
        return predict(model, *arguments)

    monkeypatch.setattr(adapt.training, "predict", watched)
    made = fit_model(
        backbone("bert"), task_data("single_label"), Head(standardise=True), epochs=1, device="cpu", pooling="mean"
    )
    assert scalings == [[None]]
    assert made.result is not None
    assert made.result.scores["test"]
