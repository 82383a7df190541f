"""CUDA graphs of the forward and backward pass, for models so small that launching kernels takes longer than they run.

A transformer's step launches thousands of kernels from Python, some ten microseconds each; a graph launches them all at
once ("Accelerating PyTorch with CUDA Graphs", PyTorch's blog, 2021). A graph is of one shape: rows are padded to one of
few lengths, the first batch of a shape runs as ever, the second is captured, and from then on its graph is replayed.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from adapt import params
from adapt.backbones.calls import longest_of
from adapt.backbones.exhausted import is_out_of_memory
from adapt.backbones.families import is_projection
from adapt.backbones.masks import masks_traced
from adapt.backbones.memo import Memo
from adapt.spec import Budget
from adapt.tasks import Example, Lesson
from adapt.tasks.losses import fixed_sizes
from adapt.training.step import on, one_pass, random_state, set_random_state

LAUNCH_BOUND = 5e10
"""Floating-point operations of a step for each linear layer below which launching takes longer: some 150 microseconds
of Python and launches a layer, in which a GPU of 300 TFLOP/s does so many."""
MOST = 32
"""Graphs that are captured; batches of further shapes run as ever."""
OWN_GRADIENT_BYTES = 512 * 2**20
"""Up to so many bytes of gradients in all, each graph has its own."""
_SYNCHRONISING = ("Linear8bitLt",)
"""Layers that wait for the GPU to see what is in their inputs (outliers of LLM.int8())."""


def graphs_for(
    model: nn.Module, lesson: Lesson, accelerator: Any, budget: Budget, lengths: Sequence[int]
) -> Graphs | None:
    """Graphs where they pay: on CUDA, for a step bound by its launches that a graph can hold; else None.

    What decides is in the run, and nothing is measured: the same run takes the same way.

    Args:
        model: Built, with its savers.
        lesson: Collates and computes the loss.
        accelerator: Knows device and precision.
        budget: Batch size and savers.
        lengths: Tokens of each training row.
    """
    if budget.graphs == "off" or accelerator.device.type != "cuda" or budget.checkpointing or not lengths:
        return None
    if not is_pure(model) or budget.loss_chunk is not None:
        return None
    tokens = budget.batch_size * sum(lengths) / len(lengths)
    return Graphs(model, lesson, accelerator) if flops_per_layer(model, tokens) < LAUNCH_BOUND else None


def flops_per_layer(model: nn.Module, tokens: float) -> float:
    """Floating-point operations of a step's products over the number of linear layers.

    Six a token and weight that is trained, four for a frozen one. Branches beside a layer (adapters) are layers too:
    they are launched as well.
    """
    weights: list[Any] = [module.weight for module in model.modules() if is_projection(module)]
    flops = sum((6.0 if weight.requires_grad else 4.0) * params.numel(weight) * tokens for weight in weights)
    return flops / max(1, len(weights))


def is_pure(model: nn.Module) -> bool:
    """Whether a forward pass does the same whatever is in its inputs: no memo, no layers skipped at random."""
    for module in model.modules():
        if isinstance(module, Memo) or type(module).__name__ in _SYNCHRONISING:
            return False
        config = getattr(module, "config", None)
        if config is not None and any("layerdrop" in name and value for name, value in vars(config).items()):
            return False
    return True


@dataclass(frozen=True)
class _Captured:
    graph: torch.cuda.CUDAGraph
    batch: Mapping[str, torch.Tensor]
    """What is read on a replay."""
    weight: torch.Tensor
    loss: torch.Tensor
    """What a replay writes."""
    gradients: list[torch.Tensor | None] | None
    """What it writes where each graph has gradients of its own, one for each trainable parameter."""


class Graphs:
    """Forward and backward passes of batches, replayed where their shape is known.

    Where gradients are small, each graph writes its own, which are handed to the parameters. Else all graphs add to
    those that the first pass made (`in_place`), which must then be set to zero and never to None. All graphs share one
    pool of memory: each is used up before the next is replayed.
    """

    def __init__(self, model: Any, lesson: Lesson, accelerator: Any) -> None:
        self._model, self._lesson, self._accelerator = model, lesson, accelerator
        self._longest = longest_of(model)
        self._graphs: dict[Any, _Captured | None] = {}
        self._pool: Any = None
        self.captured = 0
        """Graphs that were captured."""
        self.given_up = False
        """Whether a pass turned out to need what a graph cannot hold; all passes are then made as ever."""
        self._trainable = list(params.trainable(model).values())
        self._own = MOST * sum(p.nbytes for p in self._trainable) <= OWN_GRADIENT_BYTES

    @property
    def in_place(self) -> bool:
        """Whether gradients must be set to zero, and never to None."""
        return not self._own and not self.given_up

    def __call__(self, examples: Sequence[Example], weight: float) -> torch.Tensor:
        """Add the gradient of a batch's mean loss, times a weight, to the model's; give the loss times the weight."""
        if self.given_up:
            return self._plainly(self._lesson.collate(examples), weight)
        batch = self._lesson.collate(examples, longest=self._longest)
        key = tuple((name, value.shape) for name, value in batch.items())
        with masks_traced(True), fixed_sizes():
            if not self._graphs:
                self._graphs[key] = None
                return self._try(batch, weight)
            if key not in self._graphs:
                if len(self._graphs) < MOST:
                    self._graphs[key] = None
                return self._plainly(batch, weight)
            found = self._graphs[key]
            if found is None:
                found = self._graphs[key] = self._capture(batch, weight)
                if found is None:
                    return self._plainly(batch, weight)
        for name, value in batch.items():
            found.batch[name].copy_(value.pin_memory(), non_blocking=True)
        found.weight.fill_(weight)
        if found.gradients is None:
            found.graph.replay()
            return found.loss
        # those of an earlier batch may lie where the replay writes
        before = [None if p.grad is None else p.grad.clone() for p in self._trainable]
        found.graph.replay()
        for parameter, held, new in zip(self._trainable, before, found.gradients, strict=True):
            parameter.grad = new if held is None else held if new is None else held.add_(new)
        return found.loss

    def drop(self) -> bool:
        """Let go of the graphs, their memory and the gradients; passes are then made as ever.

        Returns:
            Whether there was something to let go of.
        """
        held = not self.given_up
        self._give_up()
        self._model.zero_grad()
        return held

    def _give_up(self) -> None:
        self._graphs.clear()
        self._pool, self.given_up = None, True

    def _plainly(self, batch: Mapping[str, torch.Tensor], weight: float) -> torch.Tensor:
        moved = on(batch, self._accelerator.device)
        return one_pass(self._model, self._lesson, self._accelerator, moved, weight)

    def _try(self, batch: Mapping[str, torch.Tensor], weight: float) -> torch.Tensor:
        """The first pass of all, which finds out whether the device is waited for: no graph could hold that.

        A loss is made before it, and forgotten: for what a model finds out once, and keeps, the device may be waited
        for.
        """
        state = random_state("cuda")
        moved = on(batch, self._accelerator.device)
        with torch.no_grad(), self._accelerator.autocast():
            self._lesson.loss(self._model, moved)
        set_random_state(state)
        torch.cuda.synchronize()
        try:
            with _no_waiting():
                loss = one_pass(self._model, self._lesson, self._accelerator, moved, weight)
        except RuntimeError as error:
            if "synchroniz" not in str(error):
                raise
        else:
            # what no pass reaches stays without a gradient, and the optimizer leaves it alone
            self._trainable = [p for p in self._trainable if p.grad is not None]
            return loss
        self.drop()
        set_random_state(state)
        return self._plainly(batch, weight)

    def _capture(self, batch: Mapping[str, torch.Tensor], weight: float) -> _Captured | None:
        """A graph of a pass over a batch of this shape; None where that cannot be had, and is given up."""
        device = self._accelerator.device
        static = {name: value.to(device) for name, value in batch.items()}
        factor = torch.tensor(weight, device=device)
        graph, stream, state = torch.cuda.CUDAGraph(), torch.cuda.current_stream(), random_state("cuda")
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        before = [p.grad for p in self._trainable]
        if self._own:
            for parameter in self._trainable:
                parameter.grad = None
        made: list[torch.Tensor | None] | None = None
        unused = torch.Generator(device)
        try:
            # what other threads do meanwhile (such as a monitor of the GPU) is no part of the graph and cannot spoil it
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                loss = one_pass(self._model, self._lesson, self._accelerator, static, factor)
            made = [p.grad for p in self._trainable] if self._own else None
        except RuntimeError as error:
            torch.cuda.set_stream(stream)
            if is_out_of_memory(error):
                raise
            torch.cuda.synchronize()
            # before torch 2.13 the generator counts as captured from here on, and refuses to draw
            torch.cuda.default_generators[torch.cuda.current_device()].graphsafe_set_state(unused.graphsafe_get_state())
            set_random_state(state)
            self._give_up()
            return None
        finally:
            if self._own:
                for parameter, held in zip(self._trainable, before, strict=True):
                    parameter.grad = held
        self.captured += 1
        return _Captured(graph, static, factor, loss, made)


@contextmanager
def _no_waiting() -> Iterator[None]:
    """Raise a RuntimeError where the device is waited for."""
    mode = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.cuda.set_sync_debug_mode(mode)
