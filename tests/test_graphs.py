"""CUDA graphs: who gets them, how their gradients add up, and what has to hold so that they can be made.

The graphs themselves need a GPU (`test_cuda.py`); here a stand-in runs again what a graph would replay.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny
import torch
from torch import nn

from adapt.metrics import METRICS
from adapt.spec import Diverged
from adapt.strategies import make
from adapt.tasks import KINDS
from adapt.tasks.losses import IGNORED, fixed_sizes, mean_loss
from adapt.tasks.tokens import rounded_length
from adapt.training import graphs as graphs_module
from adapt.training.graphs import Graphs, _Captured, flops_per_layer, graphs_for, is_pure
from adapt.training.halving import halving
from adapt.training.step import accelerator_for, gradients, one_pass, random_state
from adapt.training.watch import Watch

ARCHITECTURES = {
    "sequence_classification": "bert", "token_classification": "bert", "question_answering": "bert", "seq2seq": "t5",
    "causal_lm": "llama", "masked_lm": "bert",
}  # fmt: skip
Backbone = Callable[..., Path]


def setting(backbone: Backbone, kind: str, strategy: str, **budget: Any) -> tuple[Any, Any, list[Any], Any]:
    """Model, kind, rows and budget."""
    loader = tiny.loader_for(backbone(ARCHITECTURES[kind]), kind, dropout=0.0, batch_size=8, **budget)
    task = dataclasses.replace(loader.task, metric=next(iter(METRICS[loader.task.problem])))
    made = KINDS[kind](task, loader.tokenizer())
    model = tiny.without_dropout(make(strategy).build(loader, loader.task)).train()
    return model, made, [*made.examples(16, 10), *made.examples(8, 13)], loader.budget


def test_lengths_are_few_and_hardly_longer() -> None:
    for tokens in range(1, 2049):
        found = rounded_length(tokens)
        assert tokens <= found < tokens + max(8, tokens / 8 + 1)
        assert found % 8 == 0
    assert len({rounded_length(tokens) for tokens in range(1, 129)}) == 16
    assert len({rounded_length(tokens) for tokens in range(129, 1025)}) == 24


@pytest.mark.parametrize("kind", sorted(ARCHITECTURES))
def test_a_longer_padding_changes_no_loss(backbone: Backbone, kind: str) -> None:
    model, task_kind, examples, _ = setting(backbone, kind, "lora")
    plain, padded = task_kind.collate(examples), task_kind.collate(examples, longest=32)
    width = padded["input_ids"].shape[1]
    assert width % 8 == 0
    assert width >= plain["input_ids"].shape[1]
    assert task_kind.collate(examples, longest=3)["input_ids"].shape == plain["input_ids"].shape
    with fixed_sizes():
        found = task_kind.loss(model, padded)
    torch.testing.assert_close(found, task_kind.loss(model, plain), rtol=1e-4, atol=1e-5)


def test_a_loss_of_fixed_sizes_is_the_same() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(3, 5, 7), torch.randint(0, 7, (3, 5))
    labels[1:, 2:] = IGNORED
    for wanted in (labels, torch.full_like(labels, IGNORED)):
        with fixed_sizes():
            found = mean_loss(logits, wanted)
        torch.testing.assert_close(found, mean_loss(logits, wanted))


@pytest.mark.parametrize(
    ("strategy", "pure"), [("full", True), ("lora", True), ("prefix", True), ("head", False), ("qlora", False)]
)
def test_a_model_whose_steps_depend_on_its_inputs_gets_no_graphs(backbone: Backbone, strategy: str, pure: bool) -> None:
    model, *_ = setting(backbone, "sequence_classification", strategy)
    assert is_pure(model) is pure


def test_layers_skipped_at_random_forbid_graphs(backbone: Backbone) -> None:
    model, *_ = setting(backbone, "seq2seq", "lora")
    assert is_pure(model)
    model.config.decoder_layerdrop = 0.1
    assert not is_pure(model)


def test_they_are_for_small_models_on_cuda(backbone: Backbone) -> None:
    model, kind, _, budget = setting(backbone, "sequence_classification", "full")
    tokens = 8 * 10
    layers = [m for m in model.modules() if isinstance(m, nn.Linear)]
    weights = sum(layer.weight.numel() for layer in layers)
    assert flops_per_layer(model, tokens) == pytest.approx(6 * weights * tokens / len(layers))
    lora = setting(backbone, "sequence_classification", "lora")[0]
    every = [m for m in lora.modules() if isinstance(m, nn.Linear)]
    trained = sum(m.weight.numel() for m in every if m.weight.requires_grad)
    frozen = sum(m.weight.numel() for m in every) - trained
    assert flops_per_layer(lora, tokens) == pytest.approx((6 * trained + 4 * frozen) * tokens / len(every))
    assert len(every) > 2 * len(layers)
    assert graphs_for(model, kind, accelerator_for(budget), budget, [10] * 20) is None  # a CPU
    cuda: Any = SimpleNamespace(device=torch.device("cuda"))
    assert graphs_for(model, kind, cuda, budget, [10] * 20) is not None
    for options in ({"graphs": "off"}, {"checkpointing": True}):
        other = setting(backbone, "sequence_classification", "full", **options)[3]
        assert graphs_for(model, kind, cuda, other, [10] * 20) is None
    assert graphs_for(model, kind, cuda, budget, [10**9]) is None
    assert graphs_for(model, kind, cuda, budget, []) is None


class StandIn(Graphs):
    """A graph that runs its pass again, on its own inputs, into its own gradients."""

    def _try(self, batch: Mapping[str, torch.Tensor], weight: float) -> torch.Tensor:
        loss = self._plainly(batch, weight)
        self._trainable = [p for p in self._trainable if p.grad is not None]
        return loss

    def _capture(self, batch: Mapping[str, torch.Tensor], weight: float) -> _Captured:
        static = {name: value.clone() for name, value in batch.items()}
        factor, loss = torch.tensor(weight), torch.zeros(())
        own = [torch.zeros_like(p) for p in self._trainable] if self._own else None

        def replay() -> None:
            before = [p.grad for p in self._trainable]
            if own is not None:
                for parameter in self._trainable:
                    parameter.grad = None
            loss.copy_(one_pass(self._model, self._lesson, self._accelerator, static, factor))
            if own is not None:
                for parameter, buffer, held in zip(self._trainable, own, before, strict=True):
                    assert parameter.grad is not None
                    buffer.copy_(parameter.grad)
                    parameter.grad = held

        self.captured += 1
        graph: Any = SimpleNamespace(replay=replay)
        return _Captured(graph, static, factor, loss, own)


@pytest.mark.parametrize("own", [True, False], ids=["own-gradients", "in-place"])
def test_gradients_add_up_as_those_of_plain_passes(
    backbone: Backbone, own: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self)
    if not own:
        monkeypatch.setattr(graphs_module, "OWN_GRADIENT_BYTES", 0)
    model, kind, examples, budget = setting(backbone, "sequence_classification", "lora")
    accelerator = accelerator_for(budget)
    groups = [[examples[:8]], [examples[:8], examples[8:16]], [examples[8:16], examples[8:16], examples[16:20]]]
    trainable = [p for p in model.parameters() if p.requires_grad]
    expected = []
    for group in groups:
        loss = gradients(model, kind, group, accelerator, 8)
        expected.append((loss, [p.grad.clone() for p in trainable if p.grad is not None]))
        model.zero_grad(set_to_none=True)
    graphs = StandIn(model, kind, accelerator)
    assert graphs.in_place is not own
    for _ in range(3):
        for group, (loss, grads) in zip(groups, expected, strict=True):
            found = gradients(model, kind, group, accelerator, 8, graphs=graphs)
            torch.testing.assert_close(found, loss, rtol=1e-4, atol=1e-5)
            for parameter, grad in zip(trainable, grads, strict=True):
                torch.testing.assert_close(parameter.grad, grad, rtol=1e-3, atol=1e-5)
            model.zero_grad(set_to_none=own)
    assert graphs.captured == 2  # of the last rows there are too few, and they come once
    assert graphs.drop()
    assert not graphs.drop()
    assert graphs.given_up
    assert all(p.grad is None for p in trainable)


def test_what_other_threads_do_spoils_no_capture(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    model, kind, examples, budget = setting(backbone, "sequence_classification", "lora")
    modes: list[str] = []

    @contextmanager
    def captured(graph: Any, *, pool: Any, capture_error_mode: str = "global") -> Iterator[None]:
        modes.append(capture_error_mode)
        yield

    for name in ("CUDAGraph", "current_stream", "graph_pool_handle"):
        monkeypatch.setattr(torch.cuda, name, lambda: None)
    monkeypatch.setattr(torch.cuda, "graph", captured)
    monkeypatch.setattr(graphs_module, "random_state", lambda device: random_state("cpu"))
    graphs = Graphs(model, kind, accelerator_for(budget))
    assert graphs._capture(kind.collate(examples[:8]), 1.0) is not None
    assert modes == ["thread_local"]


def test_once_given_up_passes_are_as_ever(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    model, kind, examples, budget = setting(backbone, "sequence_classification", "lora")

    @contextmanager
    def waited() -> Iterator[None]:
        yield
        raise RuntimeError("called a synchronizing CUDA operation")

    monkeypatch.setattr(graphs_module, "_no_waiting", waited)
    monkeypatch.setattr(graphs_module, "random_state", lambda device: random_state("cpu"))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    accelerator = accelerator_for(budget)
    expected = gradients(model, kind, [examples[:8]], accelerator, 8)
    grads = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    graphs = Graphs(model, kind, accelerator)
    torch.testing.assert_close(gradients(model, kind, [examples[:8]], accelerator, 8, graphs=graphs), expected)
    for name, parameter in model.named_parameters():
        if name in grads:
            torch.testing.assert_close(parameter.grad, grads[name])
    assert graphs.given_up
    assert not graphs.in_place
    widths = []
    collate = kind.collate
    monkeypatch.setattr(kind, "collate", lambda rows, **given: (widths.append(given), collate(rows, **given))[1])
    graphs(examples[:8], 1.0)
    assert widths == [{}]
    assert graphs.captured == 0


def test_what_is_found_out_once_may_be_waited_for(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a model changes its logits is looked at in its first pass, which masked LM asks of it on any device."""
    model, kind, examples, budget = setting(backbone, "masked_lm", "lora")
    accelerator, equal, waited = accelerator_for(budget), torch.equal, []

    @contextmanager
    def no_waiting() -> Iterator[None]:
        def synchronising(*_: Any) -> bool:
            raise RuntimeError("called a synchronizing CUDA operation")

        monkeypatch.setattr(torch, "equal", synchronising)
        yield
        monkeypatch.setattr(torch, "equal", lambda *given: waited.append(given) or equal(*given))

    monkeypatch.setattr(torch, "equal", lambda *given: waited.append(given) or equal(*given))
    monkeypatch.setattr(graphs_module, "_no_waiting", no_waiting)
    monkeypatch.setattr(graphs_module, "random_state", lambda device: random_state("cpu"))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    graphs = Graphs(model, kind, accelerator)
    torch.manual_seed(0)
    found = graphs(examples[:8], 1.0)
    grads = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    assert len(waited) == 1
    assert not graphs.given_up
    model.zero_grad(set_to_none=True)
    torch.manual_seed(0)
    torch.testing.assert_close(gradients(model, kind, [examples[:8]], accelerator, 8), found)
    for parameter, grad in zip([p for p in model.parameters() if p.grad is not None], grads, strict=True):
        torch.testing.assert_close(parameter.grad, grad)


def test_there_are_no_more_graphs_than_that(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self)
    monkeypatch.setattr(graphs_module, "MOST", 2)
    model, kind, _, budget = setting(backbone, "sequence_classification", "lora")
    graphs = StandIn(model, kind, accelerator_for(budget))
    for _ in range(3):
        for length in (6, 12, 20, 30):
            graphs(kind.examples(8, length), 1.0)
    assert graphs.captured == 2


def test_memory_that_graphs_held_is_tried_before_fewer_rows() -> None:
    tried: list[int] = []
    held = [True]

    def work(rows: int) -> str:
        tried.append(rows)
        if len(tried) < 3:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return "done"

    assert halving(work, 8, "cpu", advice="give up", reset=lambda: bool(held and held.pop())) == ("done", 4)
    assert tried == [8, 8, 4]
    tried[:], held[:] = [0], [True]
    assert halving(work, 1, "cpu", advice="give up", reset=lambda: bool(held and held.pop())) == ("done", 1)


def test_on_the_cpu_a_step_is_looked_at_before_and_told_after() -> None:
    told: list[tuple[int, int, float]] = []
    watch = Watch("cpu", 2, lambda *step: told.append(step))
    watch.see(torch.tensor(0.5), torch.tensor(1.0))
    assert told == []
    watch.tell()
    watch.tell()
    assert told == [(1, 2, 0.5)]
    with pytest.raises(Diverged, match="the loss is nan at step 2 of 2"):
        watch.see(torch.tensor(float("nan")), torch.tensor(1.0))
    with pytest.raises(Diverged, match="gradient's norm is inf at step 2 of 2"):
        watch.see(torch.tensor(1.0), torch.tensor(float("inf")))
    watch.finish()
    assert len(told) == 1
