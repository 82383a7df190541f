"""Predicts what a training step holds in memory, from a configuration alone."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from adapt.backbones.checkpointing import checkpoint_layers
from adapt.backbones.memo import Memo
from adapt.memory.blueprint import Blueprint, to_fake, without_padding
from adapt.memory.measure import CUDA_BLOCK, Step, prepare, track
from adapt.memory.types import Memory
from adapt.spec import Strategy
from adapt.tasks import KINDS
from adapt.training.loop import accelerator_for
from adapt.training.optimizer import optimizer_for


def trace(loader: Blueprint, strategy: Strategy, rows: int, length: int) -> Memory:
    """Run a training step of a model of fake tensors and count what they would hold.

    Args:
        loader: Its configuration, task and budget.
        strategy: Builds the model.
        rows: Rows of a forward pass.
        length: Tokens of each row; of source and of target where there are both.
    """
    budget = loader.budget
    kind = KINDS[loader.task.kind](loader.task, loader.tokenizer())
    with torch.random.fork_rng(devices=[]), without_padding():
        model = strategy.build(loader, loader.task)
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    to_fake(model, mode)
    with torch.random.fork_rng(devices=[]), mode, without_padding():
        model.train()
        if budget.checkpointing:
            checkpoint_layers(model)
        batch = {name: torch.empty_like(value) for name, value in kind.collate(kind.examples(rows, length)).items()}
        memos = [module for module in model.modules() if isinstance(module, Memo)]
        optimizer = optimizer_for(model, budget, 1.0)
        for parameter in model.parameters():  # the optimizer's state, without a step of the model
            if parameter.requires_grad:
                parameter.grad = torch.empty_like(parameter)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step = Step(model, kind, optimizer, accelerator_for(budget), [batch], budget.clip)
        for memo in memos:
            memo.keys = _numbered
        if memos:
            prepare(step)
        cuda = budget.device == "cuda"
        return track(step, block=CUDA_BLOCK if cuda else 1, device=budget.device)


def _numbered(batch: Mapping[str, torch.Tensor]) -> list[bytes]:
    """Keys of rows of which no two are equal."""
    return [str(row).encode() for row in range(len(batch["input_ids"]))]
