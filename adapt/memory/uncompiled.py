"""Dispatch modes that tell torch that nothing is compiled within them."""

from __future__ import annotations

from typing import Any

import torch

DEVICE: Any = torch.ops.prim.device.default
"""The operation that asks a fake tensor for its device, which torch does several times an operation."""


class Uncompiled:
    """The first base of a dispatch mode: its operations are not put through what keeps torch's compiler away from them,
    which takes as long as many of them do."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False
