"""What only a GPU shows: its kernels, CUDA graphs, and plans against what is counted on its tensors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matrix
import pytest
import tiny_tasks
import torch
from made import Made
from torch import nn

import adapt
from adapt.adapted import load_model
from adapt.backbones import Loader, resolve
from adapt.backbones.norms import FrozenLayerNorm, FrozenRMSNorm, keep_precision
from adapt.backbones.seen import only_seen_words
from adapt.comparison.given import EMBEDDED_BACKBONES
from adapt.data.kinds import problem_of
from adapt.memory import measure
from adapt.memory.planner import Planner, Setting
from adapt.memory.shapes import shape_of
from adapt.memory.step import made_up
from adapt.metrics import METRICS
from adapt.options import budget_of
from adapt.spec import Source, Task
from adapt.strategies import make
from adapt.tasks import KINDS
from adapt.training import graphs as graphs_module
from adapt.training import train
from adapt.training.graphs import Graphs
from adapt.training.step import accelerator_for, gradients

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


CELLS = [
    cell for cell in matrix.CELLS
    if cell.task in matrix.TASKS_OF[cell.architecture] and cell.pooling == "native" and cell.attention == "eager"
    and (cell.architecture in ("bert", "llama", "t5") or (cell.strategy, cell.task) == ("lora", "single_label"))
]  # fmt: skip
"""Every strategy on a task of every kind, and every architecture."""
DRAWN_THERE = ("bottleneck", "qlora", "qlora4")
"""Strategies whose first weights are drawn by the GPU."""


def task_of(kind: str, **fields: Any) -> Task:
    problem = problem_of(kind)
    labels = {"single_label": ("no", "yes"), "tags": ("X", "Y", "Z")}.get(problem, ())
    metric = next(iter(METRICS[problem]))
    return Task("t", Source("t", ""), kind=kind, problem=problem, labels=labels, metric=metric, **fields)


def built(kind: str, strategy: Any, *, precision: str = "bf16", **choices: Any) -> tuple[Any, Any, Any]:
    """A shipped backbone on the GPU under a strategy or the one of a name, its kind, and its budget."""
    task = task_of(kind)
    budget = budget_of(device="cuda", precision=precision, dropout=0.0, batch_size=8, **choices)
    loader = Loader(resolve(EMBEDDED_BACKBONES[kind]), task, budget, 0)
    torch.manual_seed(0)
    model = (make(strategy) if isinstance(strategy, str) else strategy).build(loader, task)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model.train(), KINDS[kind](task, loader.tokenizer()), budget


def error(found: torch.Tensor, exact: torch.Tensor) -> float:
    return float((found.double().cpu() - exact.double().cpu()).norm() / exact.double().norm().cpu())


@pytest.mark.parametrize("rows", [5, 400])
@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "bfloat16"])
def test_the_lora_layer_gives_pefts_numbers(rows: int, autocast: bool) -> None:
    from lora_helpers import IN, layers

    torch.manual_seed(1)
    x = torch.randn(rows, IN)
    found: dict[str, dict[str, torch.Tensor]] = {}
    for name, layer in zip(("peft", "ours"), layers(), strict=True):
        for device in ("cpu", "cuda"):
            layer = layer.to(device)
            if autocast and device == "cuda":
                layer.get_base_layer().bfloat16()
            given = x.detach().clone().to(device).requires_grad_()
            with torch.autocast(device, dtype=torch.bfloat16, enabled=autocast and device == "cuda"):
                y = layer(given)
            weights = torch.linspace(-1, 1, y.numel(), device=device).view_as(y)
            layer.zero_grad()
            (y.float() * weights).sum().backward()
            assert given.grad is not None
            grads = {n: p.grad.clone() for n, p in layer.named_parameters() if p.grad is not None}
            found[f"{name}-{device}"] = {"y": y.detach(), "x": given.grad, **grads}
    for name, exact in found["peft-cpu"].items():
        ours, peft = (error(found[f"{side}-cuda"][name], exact) for side in ("ours", "peft"))
        assert ours < max(1.5 * peft, 2**-8 if autocast else 1e-5), name
        assert not name.startswith("lora") or found["ours-cuda"][name].dtype == torch.float32


def test_frozen_norms_are_as_near_to_float32_as_those_they_replace() -> None:
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    torch.manual_seed(0)
    for made, expected in ((nn.LayerNorm(64), FrozenLayerNorm), (LlamaRMSNorm(64), FrozenRMSNorm)):
        nn.init.normal_(made.weight, mean=1.0, std=0.2)
        exact = nn.Sequential(made).double()
        x = torch.randn(7, 5, 64)
        low, given = exact.float().cuda().bfloat16().requires_grad_(False), x.cuda().bfloat16()
        with torch.autocast("cuda", torch.bfloat16):
            before = low(given)
            keep_precision(low)
            after = low(given)
        assert type(low[0]) is expected
        assert after.dtype == torch.bfloat16
        reference = type(made).__mro__[1] if expected is FrozenLayerNorm else LlamaRMSNorm
        low[0].__class__ = reference
        truth = low.double()(given.double())
        assert error(after, truth) < max(1.5 * error(before, truth), 2**-8)


@pytest.mark.parametrize("own", [True, False], ids=["own-gradients", "in-place"])
@pytest.mark.parametrize("strategy", ["full", "lora", "prefix"])
@pytest.mark.parametrize("kind", sorted(EMBEDDED_BACKBONES))
def test_graphs_give_the_gradients_of_plain_passes(
    kind: str, strategy: str, own: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not own:
        monkeypatch.setattr(graphs_module, "OWN_GRADIENT_BYTES", 0)
    model, task_kind, budget = built(kind, strategy, precision="fp32")
    accelerator = accelerator_for(budget)
    groups = [[task_kind.examples(8, 20)], [task_kind.examples(8, 20)] * 2, [task_kind.examples(8, 12)]]
    trainable = {n: p for n, p in model.named_parameters() if p.requires_grad}
    plain = []
    for group in groups:
        loss = gradients(model, task_kind, group, accelerator, 8)
        plain.append((float(loss), {n: p.grad.clone() for n, p in trainable.items() if p.grad is not None}))
        model.zero_grad(set_to_none=True)
    graphs = Graphs(model, task_kind, accelerator)
    for _ in range(4):
        for group, (loss, expected) in zip(groups, plain, strict=True):
            found = gradients(model, task_kind, group, accelerator, 8, graphs=graphs)
            assert float(found) == pytest.approx(loss, rel=1e-3)
            for name, exact in expected.items():
                grad = trainable[name].grad
                assert grad is not None
                if float(exact.norm()) > 1e-4:
                    assert error(grad, exact) < 2e-2, name
            for parameter in trainable.values():
                if parameter.grad is not None:
                    parameter.grad = None if own else parameter.grad.zero_()
    assert not graphs.given_up
    assert graphs.captured == 2
    assert graphs.drop()
    assert all(p.grad is None for p in trainable.values())


def test_each_replay_drops_other_values() -> None:
    model, kind, budget = built("sequence_classification", "lora")
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.5
    graphs = Graphs(model, kind, accelerator_for(budget))
    losses = [
        float(gradients(model, kind, [kind.examples(8, 20)], accelerator_for(budget), 8, graphs=graphs))
        for _ in range(6)
    ]
    assert graphs.captured == 1
    assert len(set(losses)) == 6


def test_a_shape_that_cannot_be_captured_ends_graphs_and_not_the_run() -> None:
    """Numbers are drawn after it as before, also by a torch whose generator counts as captured then (before 2.13)."""
    model, kind, budget = built("sequence_classification", "lora")
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.5

    def wait(*_: Any) -> None:
        if torch.cuda.is_current_stream_capturing():
            torch.cuda.synchronize()

    model.register_forward_hook(wait)
    graphs = Graphs(model, kind, accelerator_for(budget))
    losses = [
        float(gradients(model, kind, [kind.examples(8, 20)], accelerator_for(budget), 8, graphs=graphs))
        for _ in range(4)
    ]
    assert graphs.given_up
    assert graphs.captured == 0
    assert len(set(losses)) == 4


def test_a_backbone_is_read_as_under_a_model_that_leaves_it_as_it_was() -> None:
    """Else its layers would differ from the model's by rounding."""
    texts = [f"word{i} word{3 * i}" for i in range(8)]
    rows = [{"text": text, "label": "ab"[i % 2]} for i, text in enumerate(texts)]
    data = adapt.data.load(rows, validation=0, test=0)
    head = adapt.fit("tiny-encoder", data, "head", max_steps=1, device="cuda", precision="bf16", progress=False)
    bare, under = (
        adapt.representations(model, texts, pooling="tokens", device="cuda", precision="bf16", max_length=16)
        for model in ("tiny-encoder", head)
    )
    assert (bare.values == under.values).all()


def test_a_model_whose_first_pass_waits_for_the_gpu_gets_graphs() -> None:
    """Masked LM's looks at whether its logits are changed."""
    model, kind, budget = built("masked_lm", "lora")
    accelerator = accelerator_for(budget)
    graphs = Graphs(model, kind, accelerator)
    for _ in range(3):
        gradients(model, kind, [kind.examples(8, 20)], accelerator, 8, graphs=graphs)
    assert graphs.captured == 1


@pytest.mark.parametrize("strategy", ["full", "lora", "bottleneck", "prefix"])
def test_training_with_graphs_has_the_same_bits_twice(strategy: str) -> None:
    seen = []
    for _ in range(2):
        model, kind, budget = built("sequence_classification", strategy, epochs=3)
        examples = kind.examples(64, 24)
        for i, example in enumerate(examples):
            example["label"] = i % 2
        trained = train(
            model, kind, examples, [], budget, learning_rate=1e-3, metric="accuracy", higher_is_better=True, seed=0
        )
        assert trained.graphs == 1
        seen.append({n: p.detach().cpu() for n, p in model.named_parameters() if p.requires_grad})
    assert all(torch.equal(value, seen[1][name]) for name, value in seen[0].items())


@pytest.mark.parametrize("strategy", ["full", "head", "lora", "bottleneck", "prefix", "qlora"])
@pytest.mark.parametrize("kind", sorted(EMBEDDED_BACKBONES))
def test_the_plan_is_what_is_counted(kind: str, strategy: str) -> None:
    if strategy == "qlora":
        pytest.importorskip("bitsandbytes")
    task = task_of(kind, max_length=64)
    budget = budget_of(device="cuda", precision="bf16")
    loader = Loader(resolve(EMBEDDED_BACKBONES[kind]), task, budget, 0)
    found = measure(made_up(loader, make(strategy), 8, 64))
    setting = Setting(shape_of(EMBEDDED_BACKBONES[kind]), make(strategy), task, budget)
    assert Planner(setting).memory(8, 64).peak == pytest.approx(found.peak, rel=0.03)


@pytest.mark.parametrize("graphs", ["auto", "off"])
def test_embeddings_of_words_that_occur_are_trained_as_all_are(graphs: str) -> None:
    found = {}
    for way in ("all", "seen"):
        model, kind, budget = built(
            "sequence_classification", make("full", {"embeddings": way}), graphs=graphs, epochs=2, weight_decay=0.0
        )
        examples = kind.examples(64, 24)
        for i, example in enumerate(examples):
            example["label"] = i % 2
            example["input_ids"] = [5 + (i + at) % 40 for at in range(24)]
        with only_seen_words(model, examples, kind.tokenizer.pad_token_id) as words:
            train(
                model, kind, examples, [], budget, learning_rate=1e-3, metric="accuracy", higher_is_better=True, seed=0
            )
        assert (words is None) == (way == "all")
        found[way] = {n: p.detach() for n, p in model.named_parameters()}
    for name, value in found["all"].items():
        assert error(found["seen"][name], value) < 1e-3, name


def test_a_plan_for_words_that_occur_is_what_is_counted() -> None:
    task, budget = task_of("sequence_classification", max_length=64), budget_of(device="cuda", precision="bf16")
    strategy = make("full", {"embeddings": "seen"})
    found = measure(made_up(Loader(resolve("tiny-encoder"), task, budget, 0), strategy, 8, 64, 500))
    setting = Setting(shape_of("tiny-encoder"), strategy, task, budget, words=500)
    assert Planner(setting).memory(8, 64).peak == pytest.approx(found.peak, rel=0.03)


def test_a_head_beside_quantised_weights_is_put_on_the_gpu() -> None:
    pytest.importorskip("bitsandbytes")
    loader = Loader(
        resolve("tiny-encoder"), task_of("sequence_classification", pooling="mean"), budget_of(device="cuda"), 0
    )
    model = make("qlora").build(loader, loader.task)
    assert {t.device.type for t in (*model.parameters(), *model.buffers())} == {"cuda"}


@pytest.mark.filterwarnings("ignore:inner dimension .* is not aligned:UserWarning")  # of a model so small
@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_training_is_what_it_is_on_the_processor(
    cell: matrix.Cell, backbone: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nn.Dropout, "forward", lambda _, x: x)
    folder = backbone(cell.architecture, masked=cell.task == "masked")
    made = Made(cell, folder, tiny_tasks.TASKS[cell.task](), tmp_path)
    here, there = (made.fit(device=device, dropout=0.0, batch_size=8) for device in ("cpu", "cuda"))
    assert here.result is not None
    assert there.result is not None
    assert here.result.status == there.result.status == "ok"
    if cell.strategy not in DRAWN_THERE:
        losses = [[epoch["loss"] for epoch in model.result.curve] for model in (here, there)]
        assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    moved = load_model(there.save(tmp_path / "there"), device="cpu")
    on_gpu = {name: value.cuda() for name, value in made.train_batch.items()}
    expected = made.outputs(there.fitted.model, on_gpu).cpu()
    assert expected.numel() > 0
    assert error(made.outputs(moved.fitted.model), expected) < (0.03 if cell.strategy == "qlora" else 1e-3)
