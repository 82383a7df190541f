"""Fake tensors that remember what an operation came to: the next time it is not worked out again.

The layers of a model are alike, and so are its steps: of thousands of operations a few dozen differ. torch remembers
them, too, but takes several times as long to find them as is needed here, where sizes are numbers and what an operation
is given is plain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from adapt.memory.uncompiled import DEVICE, Uncompiled

_PLAIN = frozenset((int, float, bool, str, type(None), torch.dtype, torch.device, torch.layout, torch.memory_format))
"""Types of what operations are given beside tensors."""


class _Result(NamedTuple):
    """How a result of an operation is made again."""

    given: int | None
    """Which of the tensors that the operation was given it is, or shares the storage of; None: none of them."""
    looks: tuple[Any, ...] | None
    """As of `_looks`; None: it is that tensor itself, or no tensor."""


_known: dict[tuple[Any, ...], tuple[type | None, list[_Result]]] = {}
"""What operations came to: the type of list that results are in, None where it is a single one, and the results."""

_MOST = 50_000
"""Operations that are remembered, of 1.4 KB each: those of some hundred plans for one model. Then all are forgotten."""


class Repeated(Uncompiled, FakeTensorMode):
    """torch's mode, with another memory than its own."""

    def __init__(self, **options: Any) -> None:
        """
        Args:
            options: Of torch's mode.
        """
        super().__init__(**options)
        self.cache_enabled = False  # torch's own

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        """Run an operation, or make again what it came to."""
        if func is DEVICE:
            return args[0].device
        given: list[Any] = []
        with torch._C.DisableTorchFunction():  # modes are for the model's own calls
            key = self._key(func, args, kwargs or {}, given)
            known = None if key is None else _known.get(key)
            if known is not None:
                kind, results = known
                made = [self._again(result, given) for result in results]
                return made[0] if kind is None else kind(made)
        out: Any = self.dispatch(func, types, args, kwargs or {})
        with torch._C.DisableTorchFunction():
            if key is not None and self._key(func, args, kwargs or {}, []) == key:  # else what was given has changed
                kind = type(out) if type(out) in (list, tuple) else None
                found = self._results([out] if kind is None else out, given)
                if found is not None:
                    if len(_known) >= _MOST:
                        _known.clear()
                    _known[key] = kind, found
        return out

    def _key(self, func: Any, args: Any, kwargs: Mapping[str, Any], given: list[Any]) -> tuple[Any, ...] | None:
        """All that decides what an operation comes to; None where it is not plain. Its tensors are gathered."""
        parts = [func, torch.get_default_dtype(), torch.is_inference_mode_enabled()]
        plain = self._add(args, parts, given)
        for name, value in kwargs.items():
            parts.append(name)
            plain = plain and self._add((value,), parts, given)
        return tuple(parts) if plain else None

    def _add(self, values: Any, parts: list[Any], given: list[Any]) -> bool:
        """Add what an operation is given; False where it is not plain."""
        parts.append(len(values))
        for value in values:
            if isinstance(value, FakeTensor):
                if value.fake_mode is not self or not _is_plain(value):
                    return False
                given.append(value)
                parts.append(_looks(value))
            elif isinstance(value, list | tuple):
                if not self._add(value, parts, given):
                    return False
            elif type(value) in _PLAIN:
                parts += type(value), value  # 1 is not 1.0
            else:
                return False
        return True

    def _results(self, made: Sequence[Any], given: list[Any]) -> list[_Result] | None:
        """How the results of an operation are to be made again; None where they cannot be."""
        results, own = [], set[int]()
        storages = [tensor.untyped_storage()._cdata for tensor in given]
        for one in made:
            same = next((i for i, tensor in enumerate(given) if tensor is one), None)
            if one is None or same is not None:
                results.append(_Result(same, None))
                continue
            if not isinstance(one, FakeTensor) or not _is_plain(one):
                return None
            storage = one.untyped_storage()._cdata
            shared = [i for i, each in enumerate(storages) if each == storage]
            result = _Result(shared[0] if shared else None, _looks(one))
            if len(shared) > 1 or storage in own or _looks(self._again(result, given)) != result.looks:
                return None
            if not shared:
                own.add(storage)
            results.append(result)
        return results

    def _again(self, result: _Result, given: list[Any]) -> Any:
        if result.looks is None:
            return None if result.given is None else given[result.given]
        shape, stride, dtype, offset, _, _, device = result.looks
        made = torch.empty_strided(shape, stride, dtype=dtype, device="meta")
        if result.given is not None:
            made.set_(given[result.given].untyped_storage(), offset, shape, stride)
        return FakeTensor(self, made, device)


def _is_plain(tensor: Any) -> bool:
    return tensor.constant is None and tensor.layout is torch.strided and not tensor.dtype.is_complex


def _looks(tensor: Any) -> tuple[Any, ...]:
    """All that operations go by."""
    return (
        tensor.shape, tensor.stride(), tensor.dtype, tensor.storage_offset(), tensor.untyped_storage().nbytes(),
        tensor.requires_grad, tensor.fake_device,
    )  # fmt: skip
