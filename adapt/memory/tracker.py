"""Counts the bytes that tensors hold while a training step runs, on real tensors or on fake ones alike.

Every tensor that an operation returns is looked at; its storage is registered once, and leaves the count when it is
freed. What a storage is for is found out as the step goes on: a result is temporary until autograd saves it or the
forward pass ends with it alive (an activation), until it turns out to be a parameter's gradient, or until the optimizer
keeps it. Running totals are kept by category, and those of the peak are copied when something is freed after it, for
until then the peak still stands and its parts may yet be told apart.

A step is divided into segments, in each of which memory rises or falls by the same amount a layer; their peaks are kept
apart, for each of them is affine in the number of layers, of which the highest is not.
"""

from __future__ import annotations

import contextlib
import functools
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode, is_traceable_wrapper_subclass
from torch.utils._pytree import tree_leaves

from adapt.backbones.chunked import in_backward, makes_gradients
from adapt.backbones.classes import output_layer
from adapt.backbones.memo import memos_of
from adapt.backbones.swapped import swapped
from adapt.memory.scratch import scratch_bytes
from adapt.memory.types import CATEGORIES, Memory, Phase
from adapt.memory.uncompiled import DEVICE, Uncompiled


class _Storage:
    """A storage that is alive: its size, rounded to the allocator's blocks, and its category."""

    __slots__ = ("category", "late", "nbytes", "ref")

    def __init__(self, ref: weakref.ref[Any], category: str, late: bool) -> None:
        self.ref, self.nbytes, self.category, self.late = ref, 0, category, late


class _Peak:
    """The highest total within a segment, and its parts once they are known."""

    __slots__ = ("parts", "phase", "total")

    def __init__(self, phase: Phase) -> None:
        self.total, self.parts, self.phase = 0, dict.fromkeys(CATEGORIES, 0), phase


class Tracker(Uncompiled, TorchDispatchMode):
    """Context in which the storages of tensors are counted by category.

    It sees what operations return, not what a kernel allocates and gives back within itself; of the kernels that do so
    on a large scale, `adapt.memory.scratch` knows how much.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer | None = None,
        *,
        beside: Sequence[nn.Module] = (),
        block: int = 1,
        device: str | None = None,
    ) -> None:
        """
        Args:
            model: Its parameters, buffers and what it holds besides are the weights.
            optimizer: Its state is found after each of its steps.
            beside: Models that the step runs too, whose weights are among the model's.
            block: Bytes that sizes are rounded up to, as the device's allocator does (CUDA: 512).
            device: `cpu` or `cuda`: whose kernels' scratch is counted; None: the model's.
        """
        super().__init__()
        self._model, self._optimizer, self._block = model, optimizer, block
        self._beside = beside
        self._device = next(model.parameters()).device.type
        self._kernels = device or self._device
        self._live: dict[int, _Storage] = {}  # by address
        self._now = dict.fromkeys(CATEGORIES, 0)
        self._total = 0
        self._phase: Phase = "forward"
        self._peaks: dict[str, _Peak] = {}  # by segment
        self._segment = "forward"
        self._dirty = False  # whether the segment's peak stands, and its parts are still to be copied
        self._head = False  # whether the head is running, forward or backward
        self._backward = False
        self._done: dict[int, int] = {}  # layers that the backward pass has left, by stack
        self._sizes: set[int] = set()  # bytes of the head's trained parameters, by which their gradients are known
        self._exit = contextlib.ExitStack()

    def restart(self) -> None:
        """Forget the peaks so far: they are sought from here on."""
        self._peaks.clear()
        self._dirty = False
        self._turn_to("forward", "beside" if self._beside else None)

    def segments(self) -> dict[str, Memory]:
        """The peak of each segment of the step."""
        self._settle()
        found = {}
        for name, peak in self._peaks.items():
            parts = dict(peak.parts)
            parts["temporary"] += peak.total - sum(parts.values())  # a kernel's scratch
            found[name] = Memory(**parts, at=peak.phase)
        return found

    def __enter__(self) -> Tracker:
        """Register what is there already, and start to look."""
        self._see_all((memo.buffer for memo in memos_of(self._model)), "activations")
        for module in (self._model, *self._beside):
            self._see_all(held_tensors(module), "weights")
        for parameter in self._model.parameters():
            if parameter.requires_grad:
                if parameter.grad is not None:
                    self._see(parameter.grad, "gradients")
                self._exit.callback(parameter.register_post_accumulate_grad_hook(self._accumulated).remove)
        if self._optimizer is not None:
            self._updated()
            self._exit.callback(self._optimizer.register_step_pre_hook(self._updating).remove)
            self._exit.callback(self._optimizer.register_step_post_hook(self._updated).remove)
        heads = _head_modules(self._model)
        self._sizes = {p.nbytes for module in heads for p in module.parameters() if p.requires_grad}
        for module in heads:
            self._exit.callback(module.register_forward_pre_hook(self._reached_head).remove)
        for number, stack in enumerate(_stacks(self._model)):
            for layer in stack:
                hook = functools.partial(self._reached_layer, number)
                self._exit.callback(layer.register_forward_pre_hook(hook, with_kwargs=True).remove)
        self._exit.callback(self._model.register_forward_pre_hook(self._started).remove)
        self._exit.enter_context(_saved_tensors(self._saved))
        self._exit.enter_context(_generator_states(self._see_state))
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        """Stop looking; hooks are taken away."""
        super().__exit__(*error)
        self._exit.close()
        self._settle()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation and register what it returns."""
        backward = in_backward()
        if backward != self._backward:
            self._turn(backward)
        if func is DEVICE:
            return args[0].device
        scratch = scratch_bytes(func, args, self._kernels)
        if scratch:  # taken and given back within the operation
            self._reach(self._total + -(-scratch // self._block) * self._block)
        out = func(*args, **(kwargs or {}))
        category = "logits" if self._head else "temporary"
        if isinstance(out, torch.Tensor):
            self._see(out, category)
        else:
            self._see_all(tree_leaves(out), category)
        return out

    def _turn(self, backward: bool) -> None:
        self._backward = backward
        if not backward:
            self._head = False
            self._turn_to("update")
            return
        for storage in list(self._live.values()):  # what outlived the forward pass was kept for this one
            if storage.category == "temporary":
                self._move(storage, "activations")
        self._done.clear()
        self._turn_to("backward", "logits backward" if self._head else "backward")

    def _turn_to(self, phase: Phase, segment: str | None = None) -> None:
        self._settle()
        self._phase, self._segment = phase, segment or phase
        self._reach(self._total)

    def _started(self, *_: Any) -> None:
        if not self._backward:
            self._turn_to("forward")

    def _reached_head(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        if makes_gradients():
            return
        if not self._head:
            self._head = True
            self._turn_to(self._phase, "logits")
        inputs = next((a for a in args if isinstance(a, torch.Tensor)), None)
        if inputs is not None and inputs.requires_grad:
            inputs.register_hook(self._left_head)

    def _left_head(self, gradient: torch.Tensor) -> None:
        if self._head:
            self._head = False
            for storage in self._live.values():  # the head's gradients that wait for more (tied embeddings)
                if storage.category == "logits" and storage.late and storage.nbytes in self._sizes:
                    self._move(storage, "gradients")
            self._turn_to("backward", "backward")

    def _reached_layer(self, stack: int, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        inputs = next((a for a in (*args, *kwargs.values()) if isinstance(a, torch.Tensor)), None)
        if inputs is not None and inputs.requires_grad:
            inputs.register_hook(functools.partial(self._left_layer, stack))

    def _left_layer(self, stack: int, gradient: torch.Tensor) -> None:
        """Memory rises or falls evenly from layer to layer: only the first and the last can be the highest."""
        self._done[stack] = self._done.get(stack, 0) + 1
        if self._backward and not self._head:
            self._turn_to("backward", f"backward {stack} {'first' if self._done[stack] < 2 else 'rest'}")

    def _saved(self, tensor: torch.Tensor) -> None:
        self._see(tensor, "activations", over=("temporary",))

    def _see_state(self, state: torch.Tensor) -> None:
        self._see(state, "activations")

    def _accumulated(self, parameter: torch.Tensor) -> None:
        if parameter.grad is not None:
            self._see(parameter.grad, "gradients", over=("temporary", "activations", "logits"))

    def _updating(self, *_: Any) -> None:
        self._head = False
        self._turn_to("update")

    def _updated(self, *_: Any) -> None:
        assert self._optimizer is not None
        for state in self._optimizer.state.values():
            for value in tree_leaves(state):
                if isinstance(value, torch.Tensor):
                    self._see(value, "optimizer", over=("temporary", "activations", "logits"))

    def _see_all(self, values: Iterable[Any], category: str) -> None:
        for value in values:
            if isinstance(value, torch.Tensor):
                self._see(value, category)

    def _see(self, tensor: torch.Tensor, category: str, over: tuple[str, ...] = ()) -> None:
        if tensor.device.type != self._device:
            return
        for storage in _storages(tensor):
            key = storage._cdata
            found = self._live.get(key)
            if found is not None and found.ref() is None:  # its address was used again before the callback ran
                self._free(key)
                found = None
            size = -(-storage.nbytes() // self._block) * self._block
            if found is None:
                if not size:
                    continue
                found = _Storage(weakref.ref(storage, self._callback(key)), category, self._backward)
                self._live[key] = found
            if found.nbytes != size:  # new, or resized
                self._total += size - found.nbytes
                self._now[found.category] += size - found.nbytes
                found.nbytes = size
                self._reach(self._total)
            if found.category in over:
                self._move(found, category)

    def _callback(self, key: int) -> Callable[[Any], None]:
        return lambda _: self._free(key)

    def _free(self, key: int) -> None:
        storage = self._live.pop(key, None)
        if storage is not None:
            self._settle()
            self._total -= storage.nbytes
            self._now[storage.category] -= storage.nbytes

    def _settle(self) -> None:
        if self._dirty:  # what is alive is still what was alive at the peak
            self._peaks[self._segment].parts, self._dirty = dict(self._now), False

    def _reach(self, total: int) -> None:
        peak = self._peaks.get(self._segment)
        if peak is None:
            peak = self._peaks[self._segment] = _Peak(self._phase)
        if total > peak.total:
            peak.total, peak.phase, self._dirty = total, self._phase, True

    def _move(self, storage: _Storage, category: str) -> None:
        self._now[storage.category] -= storage.nbytes
        self._now[category] += storage.nbytes
        storage.category = category


def _storages(tensor: torch.Tensor) -> list[Any]:
    """The untyped storages behind a tensor, or behind those that a wrapper subclass consists of."""
    if is_traceable_wrapper_subclass(tensor):
        names, _ = tensor.__tensor_flatten__()
        return [storage for name in names for storage in _storages(getattr(tensor, name))]
    return [tensor.untyped_storage()]


def held_tensors(model: nn.Module) -> Iterator[torch.Tensor]:
    """Parameters, buffers, and what quantised weights carry beside them."""
    yield from model.buffers()
    for parameter in model.parameters():
        yield parameter
        yield from _quantised(parameter)
    for module in model.modules():
        yield from (value for value in vars(module).values() if isinstance(value, torch.Tensor))
        state = getattr(module, "state", None)  # of an 8-bit layer, after its first forward pass
        if state is not None and not isinstance(state, torch.Tensor) and hasattr(state, "CB"):
            yield from (value for value in vars(state).values() if isinstance(value, torch.Tensor))


def held_bytes(models: Iterable[nn.Module]) -> int:
    """Bytes of the storages of what models hold, each counted once."""
    tensors = (tensor for model in models for tensor in held_tensors(model))
    return sum({storage._cdata: storage.nbytes() for tensor in tensors for storage in _storages(tensor)}.values())


def _quantised(parameter: Any) -> Iterator[torch.Tensor]:
    for name in ("CB", "SCB"):
        value = getattr(parameter, name, None)
        if isinstance(value, torch.Tensor):
            yield value
    state = getattr(parameter, "quant_state", None)
    while state is not None:  # double quantisation: the statistics are quantised, too
        yield from (value for value in vars(state).values() if isinstance(value, torch.Tensor))
        state = getattr(state, "state2", None)


def _head_modules(model: Any) -> list[nn.Module]:
    """The modules that own the head's parameters, or the output layer of a language model."""
    names = {name.rpartition(".")[0] for name in getattr(model, "head_names", ())}
    modules = [model.get_submodule(name) for name in sorted(names)]
    last = output_layer(model)
    return modules if last is None or any(last is module for module in modules) else [*modules, last]


def _stacks(model: nn.Module) -> list[nn.ModuleList]:
    """The stacks of layers: the outermost lists of modules."""
    found: dict[str, nn.ModuleList] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and not any(name.startswith(f"{outer}.") for outer in found):
            found[name] = module
    return list(found.values())


@contextlib.contextmanager
def _saved_tensors(see: Callable[[torch.Tensor], None]) -> Iterator[None]:
    """Show each tensor that autograd saves, those saved anew under gradient checkpointing included.

    Checkpointing has saved-tensor hooks of its own, inside of which ours are not called: while the backward pass
    computes a segment again, what its hooks are given is shown as well.
    """
    hooks = torch.autograd.graph.saved_tensors_hooks
    enter = hooks.__enter__

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        see(tensor)
        return tensor

    def entered(self: Any) -> None:
        inner = self.pack_hook
        self.pack_hook = _Shown(inner, see)
        enter(self)
        self.pack_hook = inner  # to which torch adds what it takes away again at the end

    with hooks(pack, lambda tensor: tensor), swapped(hooks, __enter__=entered):
        yield


class _Shown:
    """A hook that shows what it is given during a backward pass, and else is as the one within it."""

    def __init__(self, hook: Callable[[torch.Tensor], Any], see: Callable[[torch.Tensor], None]) -> None:
        self._hook, self._see = hook, see

    def __call__(self, tensor: torch.Tensor) -> Any:
        if torch._C._current_graph_task_id() != -1:
            self._see(tensor)
        return self._hook(tensor)

    def __getattr__(self, name: str) -> Any:
        """By what it carries torch knows its own hooks, those of checkpointing."""
        return getattr(self._hook, name)


@contextlib.contextmanager
def _generator_states(see: Callable[[torch.Tensor], None]) -> Iterator[None]:
    """Show each copy of the random number generator's state, which checkpointing keeps for every segment."""
    get = torch.get_rng_state

    def got() -> torch.Tensor:
        state = get()
        see(state)
        return state

    with swapped(torch, get_rng_state=got):
        yield
