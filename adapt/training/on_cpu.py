"""Functions of torch that are slow on the CPU, with faster ones in their place."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch.nn import functional as F

from adapt.backbones.swapped import swapped
from adapt.training.dropout import attention, dropout
from adapt.training.outermost import outermost
from adapt.training.softmax import softmax, torch_softmax

_OURS = {"dropout": dropout, "scaled_dot_product_attention": attention, "softmax": softmax}


@outermost
def faster_on_cpu() -> Iterator[None]:
    """Within it `dropout`, `scaled_dot_product_attention` and `softmax` of `torch.nn.functional` are ours.

    Modules of torch and the attention functions of transformers look them up there, in the backward pass of a
    checkpointed layer too. Other threads get them as well, until the last of several is through: they do the same as
    torch's, but for derivatives of derivatives, which they do not have.
    """
    with swapped(F, **_OURS), _upcasting_left():
        yield


@contextmanager
def _upcasting_left() -> Iterator[None]:
    """GPT-2's attention in float32 (`reorder_and_upcast_attn`) keeps torch's softmax, whose dtype it checks."""
    cls = getattr(sys.modules.get("transformers.models.gpt2.modeling_gpt2"), "GPT2Attention", None)
    own = getattr(cls, "_upcast_and_reordered_attn", None)
    if own is None:
        yield
        return

    def attend(*args: Any, **kwargs: Any) -> Any:
        with swapped(F, softmax=torch_softmax):
            return own(*args, **kwargs)

    with swapped(cls, _upcast_and_reordered_attn=attend):
        yield
