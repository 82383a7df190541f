"""Frozen norms in one operation: the same numbers, in the dtype of the input."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm

from adapt.backbones.kernels import planned_for
from adapt.backbones.norms import FrozenLayerNorm, FrozenRMSNorm, keep_precision
from adapt.memory.like_cuda import like_cuda

WIDTH = 48


def norm(cls: type[nn.Module], **options: float) -> nn.Module:
    torch.manual_seed(0)
    made = cls(WIDTH, **options)
    for parameter in made.parameters():
        nn.init.normal_(parameter, mean=1.0, std=0.3)
    return made.requires_grad_(False).bfloat16()


@pytest.mark.parametrize(
    ("cls", "replaced"),
    [(nn.LayerNorm, FrozenLayerNorm), (LlamaRMSNorm, FrozenRMSNorm), (Qwen3RMSNorm, FrozenRMSNorm)],
)
def test_numbers_and_names_are_those_of_the_norm_replaced(cls: type[nn.Module], replaced: type[nn.Module]) -> None:
    before = norm(cls, eps=1e-3)
    after = copy.deepcopy(before)
    keep_precision(nn.Sequential(after))
    assert type(after) is replaced
    assert after.state_dict().keys() == before.state_dict().keys()
    x = torch.randn(5, 7, WIDTH, dtype=torch.bfloat16) * 0.02  # so small that eps counts
    exact = before.double()(x.double()) if cls is nn.LayerNorm else before.float()(x.float())
    for given in (x, x.float()):
        with torch.autocast("cpu", torch.bfloat16):
            found = after(given)
        assert found.dtype == given.dtype
        assert float((found.double() - exact.double()).norm() / exact.double().norm()) < 2**-7


def test_what_is_trained_or_not_known_or_in_float32_stays() -> None:
    trained = norm(nn.LayerNorm).requires_grad_(True)
    wide = norm(LlamaRMSNorm).float()
    other = norm(GemmaRMSNorm)  # multiplies by one plus the weight
    keep_precision(nn.Sequential(trained, wide, other))
    assert [type(m) for m in (trained, wide, other)] == [nn.LayerNorm, LlamaRMSNorm, GemmaRMSNorm]


def test_a_plan_keeps_what_the_fused_kernel_keeps() -> None:
    made = norm(LlamaRMSNorm)
    keep_precision(nn.Sequential(made))
    x = torch.randn(5, 7, WIDTH, dtype=torch.bfloat16, requires_grad=True)
    kept: list[tuple[torch.dtype, torch.Size]] = []
    with (
        planned_for("cuda"),
        torch.autograd.graph.saved_tensors_hooks(lambda t: (kept.append((t.dtype, t.shape)), t)[1], lambda t: t),
    ):
        y = made(x)
    assert (y.dtype, y.shape) == (x.dtype, x.shape)
    assert kept == [
        (torch.bfloat16, x.shape), (torch.bfloat16, torch.Size([WIDTH])), (torch.float32, torch.Size([5, 7, 1])),
    ]  # fmt: skip
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.shape == x.shape


def test_cudas_autocast_runs_layer_norms_in_float32_and_its_dropout_keeps_a_byte_an_element() -> None:
    x = torch.randn(3, WIDTH, dtype=torch.bfloat16, requires_grad=True)
    kept: list[torch.dtype] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (kept.append(t.dtype), t)[1], lambda t: t):
        for like, dtypes in ((False, {torch.bfloat16}), (True, {torch.bool})):
            kept.clear()
            if like:
                with like_cuda(), torch.autocast("cpu", torch.bfloat16):
                    assert nn.functional.layer_norm(x.detach(), (WIDTH,)).dtype == torch.float32
                    assert x.detach().softmax(-1).dtype == torch.float32
                    nn.functional.dropout(x, 0.5)
                    assert nn.functional.dropout(x, 0.5, training=False) is x
            else:
                with torch.autocast("cpu", torch.bfloat16):
                    assert nn.functional.layer_norm(x.detach(), (WIDTH,)).dtype == torch.bfloat16
                    nn.functional.dropout(x, 0.5)
            assert set(kept) == dtypes


def test_cudas_attention_with_a_trained_bias_keeps_no_weights() -> None:
    """As T5's has under full fine-tuning."""
    shape = (2, 4, 24, 8)
    query, key, value = (torch.randn(shape, requires_grad=True) for _ in range(3))
    bias = torch.randn(1, 4, 24, 24, requires_grad=True)
    kept: list[tuple[torch.dtype, tuple[int, ...]]] = []
    with (
        like_cuda(),
        torch.autocast("cpu", torch.bfloat16),
        torch.autograd.graph.saved_tensors_hooks(lambda t: (kept.append((t.dtype, tuple(t.shape))), t)[1], lambda t: t),
    ):
        out = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
    assert (out.dtype, out.shape) == (torch.bfloat16, shape)
    low = torch.bfloat16
    assert kept == [*[(low, shape)] * 3, (low, (2, 4, 24, 24)), (low, shape), (torch.float32, shape[:-1])]
    out.sum().backward()
    assert bias.grad is not None
    assert bias.grad.shape == bias.shape
