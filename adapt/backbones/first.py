"""Whether a head reads its base model's first token and nothing else, so that a memo need keep no other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

_COPIES = ("ToCopyBackward0", "CloneBackward0", "AliasBackward0")
"""Steps of autograd's graph that hand on a tensor as it is, in another precision or place."""


def reads_first(model: Any, holder: Any, name: str) -> bool:
    """Whether what `model` computes depends on its base model's last hidden states by the first token's alone.

    The head is run on hidden states that stand in for the base model's, in evaluation mode, and autograd's graph shows
    what it took of them. A head that cannot be run so (its input has another width, say) counts as one that reads more.
    Works on tensors of the meta device too.

    Args:
        model: A transformers model whose forward pass takes `input_ids` and `attention_mask` (batch, length).
        holder: The module that has the base model.
        name: Its attribute there, a module with `memo`, which is called for (batch, length, hidden).
    """
    base, modes = getattr(holder, name), [(module, module.training) for module in model.modules()]
    inside = {id(parameter) for parameter in base.memo.parameters()}
    head = {n: p.detach().float() for n, p in model.named_parameters() if id(p) not in inside and p.is_floating_point()}
    device = next(iter(head.values())).device if head else torch.device("cpu")
    width = getattr(model.config, "hidden_size", None)
    if not isinstance(width, int):
        return False
    hidden = torch.zeros(2, 3, width, device=device, requires_grad=True)
    ids = torch.ones(2, 3, dtype=torch.long, device=device)
    memo, base.memo = base.memo, _StandIn(base.memo, hidden)
    try:
        with torch.enable_grad():
            model.eval()
            out = torch.func.functional_call(model, head, kwargs={"input_ids": ids, "attention_mask": ids})
            return _takes_first(out.logits, hidden)
    except Exception:  # whatever a head does with what is not its base model's
        return False
    finally:
        base.memo = memo
        for module, mode in modes:
            module.training = mode


class _StandIn(nn.Module):
    """Stands where a memo stood, and gives the same hidden states whatever it is asked for."""

    def __init__(self, memo: Any, hidden: torch.Tensor) -> None:
        super().__init__()
        self.features, self.padding = memo.features, memo.padding
        self.hidden = hidden

    def forward(self, **_rows: torch.Tensor) -> torch.Tensor:
        return self.hidden


def _takes_first(out: torch.Tensor, hidden: torch.Tensor) -> bool:
    """Whether `out` (any shape) depends on `hidden` (batch, length, hidden), and only by `hidden[:, 0]`."""
    readers: dict[Any, list[Any]] = {}
    source = None
    for node in _graph_of(out):
        for below, _ in node.next_functions:
            readers.setdefault(below, []).append(node)
            if getattr(below, "variable", None) is hidden:
                source = below
    return source is not None and _only_first(source, readers)


def _only_first(node: Any, readers: dict[Any, list[Any]]) -> bool:
    """Whether each node that reads this one takes the first token; False for the graph's end."""
    return node in readers and all(
        _only_first(reader, readers) if reader.name() in _COPIES else _is_first(reader) for reader in readers[node]
    )


def _is_first(node: Any) -> bool:
    if node.name() == "SelectBackward0":
        return bool(node._saved_dim == 1 and node._saved_index == 0)
    if node.name() == "SliceBackward0":
        return bool(node._saved_dim == 1 and node._saved_start == 0 and node._saved_end == 1 and node._saved_step == 1)
    return False


def _graph_of(out: torch.Tensor) -> Iterator[Any]:
    seen, waiting = set(), [out.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node
        waiting += [below for below, _ in node.next_functions]
