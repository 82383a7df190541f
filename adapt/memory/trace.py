"""A training step on fake tensors."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from adapt.backbones.checkpointing import checkpoint_layers
from adapt.backbones.chunked import chunk_logits
from adapt.backbones.load import ATTENTION_DROPOUTS
from adapt.backbones.memo import Memo
from adapt.memory.blueprint import Blueprint, to_fake, without_padding
from adapt.memory.measure import CUDA_BLOCK, Step, prepare, track
from adapt.memory.types import Memory
from adapt.tasks import KINDS
from adapt.training.loop import accelerator_for
from adapt.training.optimizer import optimizer_for

if TYPE_CHECKING:
    from adapt.memory.plan import Setting


def trace(setting: Setting, config: Any, rows: int, length: int) -> dict[str, Memory]:
    """Run a training step of a model of fake tensors and count what they would hold.

    Args:
        setting: Strategy, task and budget.
        config: The backbone's configuration (transformers), its depth perhaps another than the shape's.
        rows: Rows of a forward pass.
        length: Tokens of each row; of source and of target where there are both.

    Returns:
        The peak of each segment of the step (`adapt.memory.tracker`).
    """
    budget = setting.budget
    cuda = budget.device == "cuda"
    if cuda:  # fused attention keeps no mask of its dropout, which the CPU's kernels would make
        config = type(config).from_dict(_without_attention_dropout(config.to_dict()))
    task = dataclasses.replace(setting.task, max_length=length)
    loader = Blueprint(None, task, budget, 0, config, setting.shape.lacks_pooler)  # type: ignore[arg-type]
    kind = KINDS[task.kind](task, loader.tokenizer())
    with torch.random.fork_rng(devices=[]), without_padding():
        model = setting.strategy.build(loader, task)
        if budget.checkpointing:
            checkpoint_layers(model)
        if budget.loss_chunk is not None:
            chunk_logits(model, budget.loss_chunk)
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    to_fake(model, mode)
    with torch.random.fork_rng(devices=[]), mode, without_padding():
        model.train()
        optimizer = optimizer_for(model, dataclasses.replace(budget, device="cpu"), 1.0)
        for parameter in model.parameters():  # the optimizer's state, without a step of the model
            if parameter.requires_grad:
                parameter.grad = torch.empty_like(parameter)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        accelerator = accelerator_for(dataclasses.replace(budget, device="cpu"))
        step = Step(model, kind, optimizer, accelerator, [kind.examples(rows, length)], rows, budget.clip)
        memos = [module for module in model.modules() if isinstance(module, Memo)]
        for memo in memos:
            memo.keys = _numbered
        if memos:
            prepare(step)
        return track(step, block=CUDA_BLOCK if cuda else 1, device=budget.device)


def _numbered(batch: Mapping[str, torch.Tensor]) -> list[bytes]:
    """Keys of rows of which no two are equal."""
    return [str(row).encode() for row in range(len(batch["input_ids"]))]


def _without_attention_dropout(values: dict[str, Any]) -> dict[str, Any]:
    return {**values, **{name: 0.0 for name in ATTENTION_DROPOUTS if values.get(name)}}
