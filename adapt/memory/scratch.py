"""What kernels allocate and give back within themselves, which no look at tensors shows.

Read from the sources of bitsandbytes 0.50, `backends/default/ops.py` (used on CPUs) and `csrc` (CUDA), and of torch's
`TensorIterator`, which on CPUs copies inputs of another dtype than the result's. What an operation returns is counted
with the scratch where it lives beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

Formula = Callable[..., int]


def _int8_product_cpu(m: int, n: int) -> int:
    return 16 * m * n + 4 * n  # the int32 product, it in float32, the outer product of the scales, and their product


def _quantise_rows_cpu(a: Any, *_: Any) -> int:
    return 9 * int(a.numel())  # a mask of outliers, and two float32 copies


def _four_bit(a: Any, packed: Any, shape: Any, absmax: Any, blocksize: int, *_: Any) -> int:
    n, k = shape
    return (n * k + a.numel() // a.shape[-1] * n) * a.element_size()  # the weight, beside the result


def _four_bit_cpu(a: Any, packed: Any, shape: Any, absmax: Any, blocksize: int, *_: Any) -> int:
    return _four_bit(a, packed, shape, absmax, blocksize) + 4 * -(-shape[0] * shape[1] // blocksize)


def _mixed_in_place(out: Any, other: Any, *_: Any) -> int:
    """Of a product or sum in place whose dtypes differ: both are copied to the common one, the first as output, too."""
    if not isinstance(other, torch.Tensor) or other.dtype == out.dtype or not other.dim():
        return 0
    common = torch.promote_types(out.dtype, other.dtype)
    copies = 2 * out.numel() * (out.dtype != common) + other.numel() * (other.dtype != common)
    return int(copies * common.itemsize)


def _rows(a: Any) -> int:
    return int(a.numel()) // int(a.shape[-1])


_CPU: Mapping[str, Formula] = {
    "bitsandbytes.int8_vectorwise_quant.default": _quantise_rows_cpu,
    "bitsandbytes.int8_scaled_mm.default": lambda a, b, *_: _int8_product_cpu(_rows(a), b.shape[0]),
    "bitsandbytes.int8_mixed_scaled_mm.default": lambda a, ca, cb, *_: _int8_product_cpu(_rows(ca), cb.shape[0]),
    "bitsandbytes.gemm_4bit.default": _four_bit_cpu,
    # both states, the gradient, the root of the second and its quotient, each whole and in float32
    "bitsandbytes.optimizer_update_8bit_blockwise.default": lambda name, g, *_: 20 * int(g.numel()),
    "aten.mul_.Tensor": _mixed_in_place,
    "aten.add_.Tensor": _mixed_in_place,
}
_CUDA: Mapping[str, Formula] = {
    "bitsandbytes.int8_scaled_mm.default": lambda a, b, *_: 6 * _rows(a) * b.shape[0],  # int32, beside the result
    # int32, and float16, which is cast where the result is of another dtype
    "bitsandbytes.int8_mixed_scaled_mm.default": lambda a, ca, cb, *_: (
        (6 + (0 if a.dtype == torch.float16 else a.itemsize)) * _rows(ca) * cb.shape[0]
    ),
    "bitsandbytes.gemm_4bit.default": _four_bit,
}


def scratch_bytes(func: Any, args: tuple[Any, ...], device: str) -> int:
    """Bytes that an operation holds beside what was there before it, at the most, while it runs; 0 where not known.

    Args:
        func: The operation, as a dispatch mode is given it.
        args: Its positional arguments.
        device: `cpu` or `cuda`: whose kernel.
    """
    formula = (_CUDA if device == "cuda" else _CPU).get(str(func))
    return formula(*args) if formula is not None else 0
