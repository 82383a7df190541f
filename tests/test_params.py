"""Counting, saving and loading what is trainable."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from adapt import params
from adapt.spec import AdaptError


class Tied(nn.Module):
    """A frozen layer, a trained layer, and one weight used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = nn.Linear(3, 4).requires_grad_(False)
        self.first = nn.Linear(4, 4, bias=False)
        self.second = nn.Linear(4, 4, bias=False)
        self.second.weight = self.first.weight
        self.register_buffer("steps", torch.zeros(7))


def test_shared_parameters_count_once_and_buffers_never() -> None:
    assert params.count(Tied()) == (16, 16 + 4 * 3 + 4)


def test_a_packed_4_bit_weight_counts_as_the_matrix_it_stands_for() -> None:
    import bitsandbytes

    weight = torch.randn(64, 32)
    packed, state = bitsandbytes.functional.quantize_4bit(weight, quant_type="nf4")
    assert packed.numel() == 64 * 32 // 2
    parameter = bitsandbytes.nn.Params4bit(packed, requires_grad=False, quant_state=state, bnb_quantized=True)
    assert params.numel(parameter) == 64 * 32
    assert params.numel(weight) == 64 * 32


def test_what_is_saved_is_what_requires_a_gradient(tmp_path: Path) -> None:
    model = Tied()
    size = params.save(model, tmp_path)
    file = tmp_path / params.STATE_FILE
    assert size == file.stat().st_size == params.saved_bytes(model)
    saved = load_file(file)
    assert saved.keys() == {"first.weight"}
    assert torch.equal(saved["first.weight"], model.first.weight)


@pytest.mark.parametrize("shapes", [[], [()], [(0,)], [(3, 5)], [(4,), (1, 1, 7), (2, 2)], [(11,)] * 120])
def test_the_size_of_the_file_is_known_without_a_copy(
    shapes: list[tuple[int, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = nn.Module()
    for i, shape in enumerate(shapes):
        model.register_parameter(f"weight_{i}", nn.Parameter(torch.zeros(shape)))
    model.register_parameter("über", nn.Parameter(torch.zeros(5)))
    size = params.save(model, tmp_path)
    monkeypatch.setattr(params, "trainable_state", None)
    assert params.saved_bytes(model) == size


def test_the_state_is_a_copy() -> None:
    model = Tied()
    state = params.trainable_state(model)
    before = state["first.weight"].clone()
    with torch.no_grad():
        model.first.weight.zero_()
    assert torch.equal(state["first.weight"], before)
    params.fill(model, state, "the copy")
    assert torch.equal(model.second.weight, before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_loading_gives_the_same_bits_and_leaves_the_rest(tmp_path: Path, dtype: torch.dtype) -> None:
    model, other = Tied().to(dtype), Tied().to(dtype)
    frozen = other.frozen.weight.clone()
    params.save(model, tmp_path)
    params.load(other, tmp_path)
    assert torch.equal(other.first.weight, model.first.weight)
    assert other.first.weight is other.second.weight
    assert other.first.weight.requires_grad
    assert torch.equal(other.frozen.weight, frozen)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({}, "missing: first.weight"),
        ({"first.weight": torch.zeros(4, 4), "more": torch.zeros(1)}, "not expected: more"),
        ({"first.weight": torch.zeros(4, 4), "frozen.weight": torch.zeros(4, 3)}, "not expected: frozen.weight"),
        ({"first.weight": torch.zeros(4, 5)}, r"first\.weight has shape \(4, 5\), expected \(4, 4\)"),
        ({"first.weight": torch.zeros(16)}, r"first\.weight has shape \(16,\), expected \(4, 4\)"),
    ],
)
def test_tensors_that_do_not_fit_are_named_and_nothing_is_changed(
    tmp_path: Path, state: dict[str, torch.Tensor], message: str
) -> None:
    model = Tied()
    before = model.first.weight.clone()
    save_file(state, tmp_path / params.STATE_FILE)
    with pytest.raises(AdaptError, match=f"{params.STATE_FILE} does not fit this model.*{message}"):
        params.load(model, tmp_path)
    assert torch.equal(model.first.weight, before)


def test_all_problems_are_told_at_once() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    state = {
        "0.weight": torch.zeros(3, 2),
        "1.weight": torch.zeros(2, 2),
        "1.bias": torch.zeros(2),
        "x": torch.zeros(1),
    }
    with pytest.raises(AdaptError, match=r"here does not fit this model: missing: 0\.bias; not expected: x; 0\.weight"):
        params.fill(model, state, "here")


def test_a_missing_file_and_one_that_is_not_safetensors_are_named(tmp_path: Path) -> None:
    with pytest.raises(AdaptError, match=rf"{params.STATE_FILE} is missing"):
        params.load(Tied(), tmp_path)
    for content in (b"", b"not tensors", b"\x08" + b"\0" * 7 + b"{}      "[:3]):
        (tmp_path / params.STATE_FILE).write_bytes(content)
        with pytest.raises(AdaptError, match=rf"{params.STATE_FILE} is damaged"):
            params.load(Tied(), tmp_path)
