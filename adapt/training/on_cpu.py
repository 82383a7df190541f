"""Functions of torch that are slow on the CPU, with faster ones in their place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch.nn import functional as F

from adapt.training.dropout import attention, dropout
from adapt.training.softmax import softmax


@contextmanager
def faster_on_cpu() -> Iterator[None]:
    """Within it `dropout`, `scaled_dot_product_attention` and `softmax` of `torch.nn.functional` are ours.

    Modules of torch and the attention functions of transformers look them up there, in the backward pass of a
    checkpointed layer too. Other threads get them as well, which do the same as torch's.
    """
    before = F.dropout, F.scaled_dot_product_attention, F.softmax
    F.dropout, F.scaled_dot_product_attention, F.softmax = dropout, attention, softmax
    try:
        yield
    finally:
        F.dropout, F.scaled_dot_product_attention, F.softmax = before
