"""What a GPU's kernels would write, reckoned on the processor where a stand-in for the GPU is (`run.py`).

The stand-in's memory is the host's. An operation on CUDA tensors is first done as ever, so that what it allocates, and
what it says of its inputs, is the real thing; its kernels do nothing. Then it is done with tensors of the processor
over the same memory, and the results are copied to where the kernels would have written them. What is captured into a
CUDA graph is done at each replay.

It is not so for what the host waits for, such as the number of elements that are not zero: that is only done with the
processor's tensors, so that the allocator is not asked for what the GPU would need meanwhile. Attention drops no
weights, and no generator counts but the device's own.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import threading
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

AS_EVER = {
    "_local_scalar_dense", "_pin_memory", "empty", "empty_like", "empty_strided", "is_pinned", "lift_fresh",
    "new_empty", "new_empty_strided", "record_stream", "resize_", "set_",
}  # fmt: skip
"""Operations that write nothing, or whose copies the stand-in makes."""
WAITING = {
    "_unique2", "argwhere", "bincount", "equal", "histc", "int8_vectorwise_quant", "is_nonzero", "masked_select",
    "nonzero", "repeat_interleave", "unique_consecutive", "unique_dim",
}  # fmt: skip
"""Operations whose outputs' shapes, or what the host gets, follow from values: the device is waited for."""
ON_THE_HOST = ("_linalg", "cholesky", "geqrf", "linalg_", "lu_unpack", "orgqr", "ormqr", "triangular_solve")
"""Beginnings of the names of operations that call libraries which have no stand-in; but `linalg_vector_norm`."""
RANDOM = ("bernoulli", "dropout", "exponential", "multinomial", "normal", "rand", "random", "uniform")
INDEXED = {"_index_put_impl_", "_unsafe_index", "index", "index_put", "index_put_"}
LARGEST = int(os.environ.get("STAND_IN_KERNELS", 2**62))
"""Most numbers of an operation that is done: of its results, and of its inputs but the largest, for a product of a few
rows with a large weight is no work."""


def install() -> None:
    """From here on, in every thread that does not have a `run` of its own."""
    torch.backends.cuda.enable_cudnn_sdp(False)  # cuDNN has no stand-in
    torch.backends.cudnn.enabled = False
    StandIn().__enter__()
    _in_threads()
    _in_graphs()
    _in_print()


class StandIn(TorchDispatchMode):
    """Does operations on CUDA tensors on the processor."""

    captured: ClassVar[list[tuple[Callable[[int], object], bool]] | None] = None
    """What is done at a replay of the graph that is being captured, and whether random numbers are drawn for it."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        device = kwargs.get("device")
        on_cuda = any(map(is_cuda, tensors)) or (device is not None and torch.device(device).type == "cuda")
        name = func._schema.name.split("::")[1]
        fake = any(type(x) not in (torch.Tensor, torch.nn.Parameter) and hasattr(x, "fake_mode") for x in tensors)
        if not on_cuda or fake or name in AS_EVER or is_view(func):
            return func(*args, **kwargs)
        capturing = torch.cuda.is_current_stream_capturing()
        compute = computed(func, name, args, kwargs, kept=capturing)
        sizes = [x.numel() for x in tensors]
        if waits(name, args):
            if capturing:
                raise RuntimeError(f"{name}: operation not permitted when stream is capturing")
            found = compute(0)
            return (
                args[0] if writes(func) else tree_map(lambda x: x.cuda() if isinstance(x, torch.Tensor) else x, found)
            )
        random = any(r in name for r in RANDOM)
        seed = seed_of_now() if random and not capturing else 0
        made = func(*args, **kwargs)
        results = sum(x.numel() for x in tree_leaves(made) if isinstance(x, torch.Tensor))
        if sum(sizes) - max(sizes, default=0) + (sum(sizes) if writes(func) else results) > LARGEST:
            return made
        places = tree_map(lambda x: on_host(x) if is_cuda(x) else x, made)

        def write(seed: int) -> None:
            found = compute(seed)
            if not writes(func):
                put(places, found)

        if capturing:
            assert StandIn.captured is not None
            StandIn.captured.append((write, random))
        else:
            write(seed)
        return made


def is_cuda(x: Any) -> bool:
    return isinstance(x, torch.Tensor) and x.device.type == "cuda"


def writes(func: Any) -> bool:
    """Whether an operation changes one of its inputs."""
    return any(a.alias_info is not None and a.alias_info.is_write for a in func._schema.arguments)


def is_view(func: Any) -> bool:
    """Whether it gives its input seen in another way, and writes nothing."""
    returns = func._schema.returns
    return bool(returns) and not writes(func) and all(r.alias_info is not None for r in returns)


def waits(name: str, args: Any) -> bool:
    """Whether the host waits for values."""
    chosen = name in INDEXED and any(is_cuda(x) and x.dtype in (torch.bool, torch.uint8) for x in tree_leaves(args[1]))
    return chosen or name in WAITING or (name.startswith(ON_THE_HOST) and name != "linalg_vector_norm")


def on_host(tensor: torch.Tensor) -> torch.Tensor:
    """The processor's tensor over the memory of a CUDA tensor."""
    storage = tensor.untyped_storage()
    size = storage.nbytes() // tensor.element_size() * tensor.element_size()
    if size == 0:
        return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype)
    memory = (ctypes.c_char * size).from_address(storage.data_ptr())
    flat = torch.frombuffer(memory, dtype=torch.uint8).view(tensor.dtype)
    return flat.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())


def computed(func: Any, name: str, args: Any, kwargs: Any, *, kept: bool) -> Callable[[int], Any]:
    """The operation with tensors of the processor, a function of the seed of its random numbers.

    Args:
        kept: Numbers of the host are those of now, as a graph has them, whatever becomes of them.
    """

    def moved(x: Any) -> Any:
        if is_cuda(x):
            return on_host(x)
        if kept and isinstance(x, torch.Tensor) and x.dim() == 0:
            return x.clone()
        if isinstance(x, torch.device):
            return torch.device("cpu")
        return None if isinstance(x, torch.Generator) else x

    here, named = tree_map(moved, (tuple(args), dict(kwargs)))
    named.pop("pin_memory", None)
    way = OWN.get(f"{name}.{func._schema.overload_name}") or OWN.get(name, func)

    def compute(seed: int) -> Any:
        state = torch.get_rng_state()
        torch.random.default_generator.manual_seed(seed)
        try:
            with torch.no_grad():
                return way(*here, **named)
        finally:
            torch.set_rng_state(state)

    return compute


def put(places: Any, found: Any) -> None:
    """Copy results to where they belong; those that only the GPU has are left out."""
    for place, value in zip(tree_leaves(places), tree_leaves(found), strict=False):
        if isinstance(place, torch.Tensor) and isinstance(value, torch.Tensor):
            if place.shape != value.shape:
                raise RuntimeError(f"a result of shape {tuple(value.shape)}, where a GPU has {tuple(place.shape)}")
            place.copy_(value)


def seed_of_now() -> int:
    """A seed from the state of the GPU's generator, which the operation then moves on."""
    state = torch.cuda.default_generators[0].get_state().numpy().tobytes()
    return int.from_bytes(hashlib.sha256(state).digest()[:7], "big")


# ---- operations that the processor does not have, or not with these dtypes ----


def attention(q: Any, k: Any, v: Any, bias: Any, causal: bool, scale: float | None) -> tuple[Any, Any, Any, Any]:
    """Weights, and queries, keys and values in float32, with as many heads as queries have."""
    heads = q.shape[1] // k.shape[1]
    query, key, value = q.float(), *(x.float().repeat_interleave(heads, 1) for x in (k, v))
    scores = query @ key.mT * (q.shape[-1] ** -0.5 if scale is None else scale)
    if bias is not None:
        scores = scores + bias.float()
    if causal:
        scores = scores.masked_fill(~torch.ones(scores.shape[-2:], dtype=torch.bool).tril(), -torch.inf)
    return torch.softmax(scores, -1).nan_to_num(), query, key, value


def attention_gradients(
    g: Any, q: Any, k: Any, v: Any, bias: Any, causal: bool, scale: float | None, of_bias: bool
) -> tuple[Any, ...]:
    weights, query, key, value = attention(q, k, v, bias, causal, scale)
    factor = q.shape[-1] ** -0.5 if scale is None else scale
    by_weights = g.float() @ value.mT
    scores = weights * (by_weights - (by_weights * weights).sum(-1, keepdim=True))
    shared = (*k.shape[:2], q.shape[1] // k.shape[1])
    keys, values = (
        x.reshape(*shared, *x.shape[-2:]).sum(2) for x in (scores.mT @ query * factor, weights.mT @ g.float())
    )
    found = (scores @ key * factor).to(q.dtype), keys.to(k.dtype), values.to(v.dtype)
    return (*found, scores.sum_to_size(bias.shape).to(bias.dtype)) if of_bias else found


def flash(q: Any, k: Any, v: Any, p: float = 0.0, causal: bool = False, *_: Any, scale: float | None = None) -> Any:
    """Without dropout."""
    weights, _query, _key, value = attention(q, k, v, None, causal, scale)
    return ((weights @ value).to(q.dtype),)


def flash_backward(g: Any, q: Any, k: Any, v: Any, *rest: Any, scale: float | None = None) -> Any:
    return attention_gradients(g, q, k, v, None, rest[7], scale, False)


def efficient(
    q: Any, k: Any, v: Any, bias: Any, sums: bool, p: float = 0.0, causal: bool = False, *, scale: float | None = None
) -> Any:
    """Without dropout."""
    weights, _query, _key, value = attention(q, k, v, bias, causal, scale)
    return ((weights @ value).to(q.dtype),)


def efficient_backward(g: Any, q: Any, k: Any, v: Any, bias: Any, *rest: Any, scale: float | None = None) -> Any:
    causal = rest[6] if len(rest) > 6 else False
    return attention_gradients(g, q, k, v, bias, causal, scale, bias is not None and rest[5][3])


def layer_norm_backward(g: Any, x: Any, shape: Any, mean: Any, rstd: Any, w: Any, b: Any, asked: Any) -> Any:
    up = [None if t is None else t.float() for t in (w, b)]
    found = torch.ops.aten.native_layer_norm_backward(
        g.float(), x.float(), shape, mean.float(), rstd.float(), *up, asked
    )
    return tuple(t.to(like.dtype) if wanted else None for t, like, wanted in zip(found, (x, w, b), asked, strict=True))


def rms_norm(x: Any, shape: Any, w: Any, eps: float | None) -> Any:
    rstd = torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + (torch.finfo(x.dtype).eps if eps is None else eps))
    normed = x.float() * rstd
    return (normed if w is None else normed * w.float()).to(x.dtype), rstd


def rms_norm_backward(g: Any, x: Any, shape: Any, rstd: Any, w: Any, asked: Any) -> Any:
    normed = x.float() * rstd
    weighted = g.float() if w is None else g.float() * w.float()
    of_x = rstd * (weighted - normed * (weighted * normed).mean(-1, keepdim=True))
    of_w = (g.float() * normed).flatten(0, -2).sum(0).to(w.dtype) if asked[1] else None
    return of_x.to(x.dtype) if asked[0] else None, of_w


def histogram(x: Any, *of: Any) -> Any:
    return torch.ops.aten.histc(x.double(), *of).to(x.dtype)


def _product(func: Any) -> Callable[..., Any]:
    return lambda *of, **named: func(*(x.to(of[-1]) for x in of[:-1]), **named)


OWN: dict[str, Callable[..., Any]] = {
    "_scaled_dot_product_flash_attention": flash,
    "_scaled_dot_product_flash_attention_backward": flash_backward,
    "_scaled_dot_product_efficient_attention": efficient,
    "_scaled_dot_product_efficient_attention_backward": efficient_backward,
    "native_layer_norm_backward": layer_norm_backward,
    "_fused_rms_norm": rms_norm,
    "_fused_rms_norm_backward": rms_norm_backward,
    "histc": histogram,
    "mm.dtype": _product(torch.ops.aten.mm),
    "bmm.dtype": _product(torch.ops.aten.bmm),
    "addmm.dtype": _product(torch.ops.aten.addmm),
}


# ---- what a mode does not reach ----


def _in_threads() -> None:
    run = threading.Thread.run

    def within(self: threading.Thread) -> None:
        with StandIn():
            run(self)

    threading.Thread.run = within  # type: ignore[method-assign]


def _in_graphs() -> None:
    graph = torch.cuda.CUDAGraph
    begin, end, replay = graph.capture_begin, graph.capture_end, graph.replay

    def capture_begin(self: Any, *args: Any, **kwargs: Any) -> None:
        StandIn.captured = self.captured = []
        begin(self, *args, **kwargs)

    def capture_end(self: Any) -> None:
        try:
            end(self)
        finally:
            StandIn.captured = None

    def replayed(self: Any) -> None:
        seed = seed_of_now()
        replay(self)
        for write, random in self.captured:
            seed += random
            write(seed)

    graph.capture_begin, graph.capture_end, graph.replay = capture_begin, capture_end, replayed


def _in_print() -> None:
    """Printing switches modes off, and would show what no kernel wrote."""
    shown = torch.Tensor.__repr__

    def __repr__(self: torch.Tensor, *, tensor_contents: Any = None) -> str:
        if type(self) in (torch.Tensor, torch.nn.Parameter) and is_cuda(self):
            return f"on cuda: {shown(on_host(self.detach()).clone())}"
        return shown(self, tensor_contents=tensor_contents)

    torch.Tensor.__repr__ = __repr__  # type: ignore[assignment]
