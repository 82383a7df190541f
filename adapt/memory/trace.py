"""A training step on fake tensors."""

from __future__ import annotations

import dataclasses
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    UnsupportedOperatorException,
)

from adapt.backbones.classes import configs_of
from adapt.backbones.memo import memos_of
from adapt.backbones.seen import hold_some
from adapt.memory.alike import counting
from adapt.memory.blueprint import Blueprint, fake_copy, to_fake, without_padding
from adapt.memory.like_cuda import in_layers, like_cuda
from adapt.memory.repeated import Repeated
from adapt.memory.shapes import Shape
from adapt.memory.step import CUDA_BLOCK, Step, prepare, track
from adapt.memory.types import Memory
from adapt.spec import Budget, Strategy, Task, Unsupported
from adapt.strategies.prefix_attention import kernel_of
from adapt.tasks import KINDS, Lesson
from adapt.training.optimizer import optimizer_for, unpaged
from adapt.training.step import accelerator_for, save_memory

MEASURE = "a run of few steps measures what it takes (adapt compare --max-steps 2)"
"""What to do where there is no plan."""
_NOT_FAKED = (DataDependentOutputException, DynamicOutputShapeException, UnsupportedOperatorException)


@dataclass(frozen=True)
class Setting:
    """All that decides a plan, but for the size of the batch."""

    shape: Shape
    strategy: Strategy
    task: Task
    budget: Budget
    lesson: Lesson | None = None
    """What is learnt, where it is more than labels."""
    words: int | None = None
    """Different words of the training rows, where the embeddings of these alone are trained; None: the vocabulary."""
    targets: int | None = None
    """Tokens of each row's target, where it has one; None: as many as of the row, and no more than the task keeps."""


class Trace:
    """A model of fake tensors with its optimizer, whose training step is run for batches of any size."""

    def __init__(self, setting: Setting, config: Any, length: int) -> None:
        """
        Args:
            setting: Strategy, task, budget and lesson.
            config: The backbone's configuration (transformers), its depth perhaps another than the shape's.
            length: Most tokens of a row; where they are more than the task has, they decide the attention kernel on
                CPUs.
        """
        budget = setting.budget
        self._cuda = budget.device == "cuda"
        task = KINDS[setting.task.kind].planned_task(setting.task)
        task = dataclasses.replace(task, max_length=max(task.max_length, length))
        loader = Blueprint(None, task, budget, 0, config, setting.shape.weights)  # type: ignore[arg-type]
        self._budget = dataclasses.replace(unpaged(budget), device="cpu")  # paged states may leave the GPU, but count
        self._kind = KINDS[task.kind](task, loader.tokenizer())
        with torch.random.fork_rng(devices=[]), without_padding():
            self._model = setting.strategy.build(loader, task)
            hold_some(self._model, setting.words)
            save_memory(self._model, budget)
        self.attention = kernel_of(configs_of(self._model)[0])
        """The attention kernel."""
        if self._cuda and budget.checkpointing:
            in_layers(self._model)
        self._mode = Repeated(allow_non_fake_inputs=True)
        to_fake(self._model, self._mode)
        self._model.train()
        stand_in = partial(fake_copy, mode=self._mode)
        self._lesson = (setting.lesson or self._kind).planned(self._kind, stand_in)
        self._block = CUDA_BLOCK if self._cuda else 1
        self._memos = memos_of(self._model)
        for memo in self._memos:
            counting(memo, self._block)
        self._optimizer = optimizer_for(self._model, self._budget, 1.0)
        self._optimizer.register_step_pre_hook(_forget_unreached)
        with self._mode:
            for parameter in self._model.parameters():  # the optimizer's state, without a step of the model
                if parameter.requires_grad:
                    parameter.grad = torch.empty_like(parameter)
            self._optimizer.step()
            self._optimizer.zero_grad(set_to_none=True)

    def run(self, rows: int, length: int, targets: int | None = None) -> dict[str, Memory]:
        """Count what a step holds.

        Args:
            rows: Rows of a forward pass.
            length: Tokens of each row.
            targets: Tokens of each row's target, where it has one; None: as many.

        Returns:
            The peak of each segment of the step (`adapt.memory.tracker`).

        Raises:
            Unsupported: The model's step depends on what its tensors hold.
        """
        examples = self._kind.examples(rows, length)
        if targets is not None:
            others = self._kind.examples(rows, targets)
            examples = [{**one, "labels": other["labels"]} for one, other in zip(examples, others, strict=True)]
        batches = [examples] * min(self._budget.accumulation, 2)  # the second finds gradients
        kernels = like_cuda() if self._cuda else nullcontext()
        with torch.random.fork_rng(devices=[]), self._mode, without_padding(), kernels:
            accelerator = accelerator_for(self._budget)
            step = Step(self._model, self._lesson, self._optimizer, accelerator, batches, rows, self._budget.clip)
            for memo in self._memos:
                memo.clear()
            try:
                if self._memos:
                    prepare(step)
                states = len(self._optimizer.state)
                found = self._tracked(step)
                return found if len(self._optimizer.state) == states else self._tracked(step)
            except _NOT_FAKED as error:
                raise Unsupported(
                    f"the step of {type(self._model).__name__} depends on what its tensors hold "
                    f"({type(error).__name__}); {MEASURE}"
                ) from error

    def _tracked(self, step: Step) -> dict[str, Memory]:
        return track(step, block=self._block, device="cuda" if self._cuda else "cpu")


def _forget_unreached(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    """Let go of the state of parameters that no pass reaches, for which a real optimizer never makes any."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.grad is None:
                optimizer.state.pop(parameter, None)
