"""Whose kernels an operation on a tensor is for: its device's, or in a plan those of the device that is planned for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

_planned: str | None = None


def kernels_of(tensor: torch.Tensor) -> str:
    """`cpu`, `cuda`, ..."""
    return _planned or tensor.device.type


@contextmanager
def planned_for(device: str) -> Iterator[None]:
    """Have `kernels_of` name a device, whatever tensors lie on."""
    global _planned
    before, _planned = _planned, device
    try:
        yield
    finally:
        _planned = before
