"""What the stand-in for a GPU reckons in the place of kernels that the processor does not have."""

from __future__ import annotations

import pytest
import torch
from stand_in import kernels
from torch.nn import functional as F

aten = torch.ops.aten


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("shared", [1, 2])
def test_flash_attention_is_torchs(causal: bool, shared: int) -> None:
    q, k, v = (torch.randn(2, 4 // heads, 5, 8, requires_grad=True) for heads in (1, shared, shared))
    expected = F.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=0.3, enable_gqa=True)
    g = torch.randn_like(expected)
    gradients = torch.autograd.grad(expected, (q, k, v), g)
    with torch.no_grad():
        torch.testing.assert_close(kernels.flash(q, k, v, 0.0, causal, False, scale=0.3)[0], expected)
        rest = (None, None, None, None, 5, 5, 0.0, causal, None, None)
        torch.testing.assert_close(kernels.flash_backward(g, q, k, v, *rest, scale=0.3), gradients)


def test_efficient_attention_is_torchs() -> None:
    q, k, v = (torch.randn(2, 4, length, 8, requires_grad=True) for length in (5, 7, 7))
    bias = torch.randn(2, 1, 5, 7, requires_grad=True)
    expected = F.scaled_dot_product_attention(q, k, v, bias)
    g = torch.randn_like(expected)
    gradients = torch.autograd.grad(expected, (q, k, v, bias), g)
    with torch.no_grad():
        torch.testing.assert_close(kernels.efficient(q, k, v, bias, True)[0], expected)
        rest = (None, None, None, None, 0.0, [True] * 4)
        torch.testing.assert_close(kernels.efficient_backward(g, q, k, v, bias, *rest), gradients)


def test_norms_are_torchs() -> None:
    x, w, b, g = torch.randn(3, 5, 8), torch.randn(8), torch.randn(8), torch.randn(3, 5, 8)
    _, mean, rstd = aten.native_layer_norm(x, [8], w, b, 1e-5)
    expected = aten.native_layer_norm_backward(g, x, [8], mean, rstd, w, b, [True] * 3)
    torch.testing.assert_close(kernels.layer_norm_backward(g, x, [8], mean, rstd, w, b, [True] * 3), expected)
    inputs = [x.requires_grad_(), w.requires_grad_()]
    made = F.rms_norm(x, (8,), w, 1e-5)
    with torch.no_grad():
        again, rstd = kernels.rms_norm(x, [8], w, 1e-5)
        found = kernels.rms_norm_backward(g, x, [8], rstd, w, [True] * 2)
    torch.testing.assert_close(again, made)
    torch.testing.assert_close(found, torch.autograd.grad(made, inputs, g))


def test_results_and_views_and_writes_are_told_apart() -> None:
    for view in (aten.t.default, aten.view.default, aten.split.Tensor, aten.detach.default):
        assert kernels.is_view(view)
    for other in (aten.add_.Tensor, aten.add.Tensor, aten.copy_.default, aten._foreach_mul_.Scalar, aten.mm.out):
        assert not kernels.is_view(other)


def test_results_go_to_where_a_gpu_writes_them() -> None:
    places = (torch.zeros(2), None, torch.zeros(3, dtype=torch.bfloat16), torch.zeros(1))
    kernels.put(places, (torch.ones(2), None, torch.ones(3)))
    assert [None if p is None else p.tolist() for p in places] == [[1, 1], None, [1, 1, 1], [0]]
    with pytest.raises(RuntimeError, match=r"of shape \(3,\), where a GPU has \(2,\)"):
        kernels.put(places[0], torch.ones(3))
