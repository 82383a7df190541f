"""Measures a training step."""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from adapt import params
from adapt.backbones.exhausted import give_back
from adapt.backbones.load import Loader
from adapt.backbones.memo import memos_of
from adapt.backbones.seen import hold_some
from adapt.memory.tracker import Tracker
from adapt.memory.types import Memory
from adapt.spec import Strategy
from adapt.tasks import KINDS, Example, Lesson
from adapt.training.optimizer import optimizer_for
from adapt.training.step import accelerator_for, gradients, save_memory

CUDA_BLOCK = 512
"""Bytes that torch's CUDA allocator rounds sizes up to."""


@dataclass(frozen=True)
class Step:
    """A training step that can be done again and again: what `measure` runs. It is the loop's own."""

    model: nn.Module
    lesson: Lesson
    optimizer: torch.optim.Optimizer
    accelerator: Any
    group: Sequence[Sequence[Example]]
    """The encoded rows of each of its batches."""
    rows: int
    """Most rows of a forward pass."""
    clip: float
    """Largest global L2 norm of the gradient."""

    def __call__(self) -> None:
        """Gradients, clipping, update."""
        gradients(self.model, self.lesson, self.group, self.accelerator, self.rows)
        self.accelerator.clip_grad_norm_(list(params.trainable(self.model).values()), self.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


def made_up(load: Loader, strategy: Strategy, rows: int, length: int, words: int | None = None) -> Step:
    """A step over a batch of made-up rows, or over two of them with accumulation, with its savers, as training has it.

    Args:
        load: Its task and budget.
        strategy: Builds the model.
        rows: Rows of the batch.
        length: Tokens of each row.
        words: Different words of all rows, where the embeddings of these alone are trained; None: the vocabulary.
    """
    kind = KINDS[load.task.kind](load.task, load.tokenizer())
    model = strategy.build(load, load.task)
    hold_some(model, words)
    save_memory(model, load.budget)
    optimizer = optimizer_for(model, load.budget, 1e-4)
    batches = [kind.examples(rows, length)] * min(load.budget.accumulation, 2)
    return Step(model, kind, optimizer, accelerator_for(load.budget), batches, rows, load.budget.clip)


def measure(step: Step) -> Memory:
    """The peak of a training step once the optimizer has its state, by category, in bytes.

    The step is run twice: the first makes the optimizer's state. Where features are kept by a memo, the second encodes
    its rows again, as the first epoch does: the peak is that of a row's first time, with the memo as large as it is.
    It changes the model as any step does, but computes the same bits as an unmeasured one. On CUDA the figures of
    torch's allocator stand beside the count.

    Args:
        step: Its model is put into training mode.
    """
    device = next(step.model.parameters()).device
    cuda = device.type == "cuda"
    step.model.train()
    if cuda:
        give_back("cuda")  # what is reserved is the step's, not what loading and training left
    prepare(step)
    if cuda:
        gc.collect()  # what cycles of references hold from before is not the step's; the tracker does not see it
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    found = max(track(step, block=CUDA_BLOCK if cuda else 1).values(), key=lambda memory: memory.peak)
    if not cuda:
        return found
    return dataclasses.replace(
        found, allocated=torch.cuda.max_memory_allocated(), reserved=torch.cuda.max_memory_reserved()
    )


def prepare(step: Step) -> None:
    """Run the step once, and have its rows encoded again."""
    step()
    for memo in memos_of(step.model):
        memo.forget()


def track(step: Step, *, block: int = 1, device: str | None = None) -> dict[str, Memory]:
    """The peak of each segment (`Tracker`) of a step whose optimizer has its state already."""
    counted = Tracker(step.model, step.optimizer, beside=step.lesson.beside, block=block, device=device)
    with _no_collection(), counted as tracker:
        tracker.restart()
        step()
    return tracker.segments()


@contextmanager
def _no_collection() -> Iterator[None]:
    """Without collections of garbage, which come when they like."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
