"""The optimizers of bitsandbytes take AdamW's steps with a fraction of its state."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from adapt.adapted import fit_model
from adapt.options import budget_of
from adapt.spec import Budget, OptionError, Unsupported
from adapt.training.optimizer import optimizer_for

BUDGET = Budget(weight_decay=0.1)
WIDTH = 128


def stepped(name: Any, steps: int = 8) -> tuple[nn.Linear, torch.optim.Optimizer]:
    """A layer after some steps towards zero output."""
    torch.manual_seed(0)
    model, x = nn.Linear(WIDTH, WIDTH), torch.randn(32, WIDTH)
    optimizer = optimizer_for(model, dataclasses.replace(BUDGET, optimizer=name), 1e-2)
    for _ in range(steps):
        model(x).pow(2).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return model, optimizer


def test_adamw_in_8_bits_goes_where_adamw_goes_with_a_quarter_of_its_state() -> None:
    torch.manual_seed(0)
    start = nn.Linear(WIDTH, WIDTH).weight.detach()
    plain, _ = stepped("adamw")
    model, optimizer = stepped("adamw_8bit")
    off, moved = (model.weight - plain.weight).norm(), (plain.weight - start).norm()
    assert 0 < off < 0.1 * moved
    state = optimizer.state[model.weight]
    assert (state["state1"].dtype, state["state2"].dtype) == (torch.uint8, torch.uint8)
    own = sum(state[name].nbytes for name in ("state1", "state2", "absmax1", "absmax2"))
    assert own == 2 * WIDTH**2 + 2 * 4 * WIDTH**2 // 256
    assert optimizer.state[model.bias]["state1"].dtype == torch.float32


def test_groups_and_schedule_are_those_of_adamw() -> None:
    model = nn.Linear(WIDTH, WIDTH)
    groups = optimizer_for(model, dataclasses.replace(BUDGET, optimizer="adamw_8bit"), 0.5).param_groups
    assert [(g["lr"], g["weight_decay"]) for g in groups] == [(0.5, 0.1), (0.5, 0.0)]


def test_in_8_bits_no_parameter_is_moved_by_a_step() -> None:
    """As bitsandbytes moves one that is not contiguous; a CUDA graph would go on reading the old one."""
    model = nn.Linear(WIDTH, WIDTH)
    model.weight = nn.Parameter(torch.randn(WIDTH, WIDTH).t())
    optimizer = optimizer_for(model, dataclasses.replace(BUDGET, optimizer="adamw_8bit"), 1e-2)
    before, place = model.weight.detach().clone(), model.weight.data_ptr()
    model(torch.randn(8, WIDTH)).pow(2).mean().backward()
    optimizer.step()
    assert model.weight.data_ptr() == place
    assert not torch.equal(model.weight, before)


def test_a_model_is_trained_with_it(backbone: Callable[..., Path], task_data: Callable[[str], Any]) -> None:
    model = fit_model(
        backbone("bert"), task_data("single_label"), "full", epochs=6, batch_size=16, device="cpu", precision="fp32",
        optimizer="adamw_8bit", learning_rate=3e-3,
    )  # fmt: skip
    assert model.result is not None
    losses = [point["loss"] for point in model.result.curve]
    assert losses[-1] < 0.8 * losses[0]
    assert model.result.to_json()["spec"]["budget"]["optimizer"] == "adamw_8bit"


def test_the_nearest_optimizer_is_named() -> None:
    with pytest.raises(OptionError, match="optimizer is 'adamw8bit'; choose one of adamw, adamw_8bit, "):
        budget_of(device="cpu", optimizer="adamw8bit")


def test_paging_needs_a_gpu() -> None:
    with pytest.raises(OptionError, match=r"optimizer 'paged_adamw_8bit' pages .* the device is 'cpu'; use adamw_8bit"):
        budget_of(device="cpu", optimizer="paged_adamw_8bit")


def test_a_machine_without_bitsandbytes_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Unsupported, match="'adamw_8bit' needs the package bitsandbytes: pip install bitsandbytes"):
        stepped("adamw_8bit")


def test_a_measurement_makes_no_second_paged_optimizer(monkeypatch: pytest.MonkeyPatch) -> None:
    """bitsandbytes never gives the memory of a paged optimizer back."""
    from adapt.memory import observe as subject

    made: list[str] = []

    def optimizer_for(model: Any, budget: Budget, rate: float) -> Any:
        made.append(budget.optimizer)
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(subject, "optimizer_for", optimizer_for)
    for name in ("paged_adamw_8bit", "adamw_8bit", "adamw"):
        budget = Budget(device="cpu", optimizer=name)
        subject.observe(torch.nn.Linear(2, 2), None, [{"input_ids": [1]}], budget, 1)  # type: ignore[arg-type]
    assert made == ["adamw_8bit", "adamw_8bit", "adamw"]
