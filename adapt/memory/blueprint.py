"""A model without weights: built from its configuration on torch's `meta` device, then given fake tensors.

A fake tensor has a shape, a type and a storage of known size, and nothing in it; operations on fake tensors give fake
tensors. The strategies build on this loader as they do on the one that reads weights.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from adapt.backbones.classes import LANGUAGE_MODELS, may_be_lacking
from adapt.backbones.load import Loader
from adapt.backbones.masks import masks_traced
from adapt.memory.tracker import held_tensors
from adapt.memory.uncompiled import Uncompiled


@dataclass(frozen=True)
class Tokenizer:
    """What task kinds ask of a tokenizer when no text is read."""

    pad_token_id: int
    eos_token_id: int
    pad_token_type_id: int = 0
    sep_token_id: int | None = None
    is_fast: bool = True
    model_input_names: tuple[str, ...] = ("input_ids", "attention_mask")


@dataclass(frozen=True)
class Blueprint(Loader):
    """Loads a model as `Loader` does, but for its weights: from a configuration alone, on the `meta` device."""

    model_config: Any = None
    """The backbone's configuration (transformers)."""
    weights: frozenset[str] = frozenset()
    """Names of the backbone's weights; where there are none, a pooler and a language model's head are taken to be
    among them."""

    def _pretrained_config(self) -> Any:
        return self.model_config

    def tokenizer(self) -> Any:
        """A stand-in."""
        padding = getattr(self.model_config, "pad_token_id", None)
        end = getattr(self.model_config, "eos_token_id", None)
        end = end[0] if isinstance(end, list) else end
        named = Tokenizer.model_input_names
        unsaid = 2 if self.model_config.model_type == "xlnet" else 0  # whose embedding of them is of this size
        if (getattr(self.model_config, "type_vocab_size", unsaid) or 0) > 1:
            named = (*named, "token_type_ids")
        return Tokenizer(0 if padding is None else padding, 1 if end is None else end, model_input_names=named)

    def _check_device(self, how: Any) -> None:
        """The device need not be there."""

    def _place(self, model: nn.Module, quantised: bool) -> nn.Module:
        return model

    def _from_pretrained(self, cls: Any, config: Any, options: dict[str, Any]) -> tuple[nn.Module, set[str]]:
        config._attn_implementation = self.attention_of(cls)
        extra = {} if options.get("add_pooling_layer", True) else {"add_pooling_layer": False}
        quantization = options.get("quantization_config")
        config.dtype, before = options["dtype"], torch.get_default_dtype()
        torch.set_default_dtype(options["dtype"])
        try:
            with torch.device("meta"):
                model = cls(config, **extra)
                if quantization is not None:
                    _quantise(model, quantization)
        finally:
            torch.set_default_dtype(before)
        model.eval()
        model.tie_weights()
        return model, self._lacking(model)

    def _lacking(self, model: Any) -> set[str]:
        """Names of the parameters that are drawn anew: the head of a task; of a pooler, or of a language model's head,
        what has no weight of its module among `weights`."""
        fresh = may_be_lacking(self.task.kind, model)
        if not self.weights:
            return set() if self.task.kind in LANGUAGE_MODELS else fresh
        if self.task.kind in LANGUAGE_MODELS:
            there = {name.rpartition(".")[0] for name in self.weights}
            fresh = {name for name in fresh if name.rpartition(".")[0] not in there}
        if not any("pooler" in name for name in self.weights):
            fresh |= {name for name, _ in model.named_parameters() if "pooler" in name.split(".")}
        return fresh


def _quantise(model: Any, config: Any) -> None:
    """Put bitsandbytes' layers where transformers does when it loads."""
    from transformers.integrations import replace_with_bnb_linear

    kept = [*(config.llm_int8_skip_modules or []), *(model._keep_in_fp32_modules or [])]
    replace_with_bnb_linear(model, modules_to_not_convert=kept, quantization_config=config, pre_quantized=False)
    model.is_loaded_in_8bit, model.is_loaded_in_4bit = config.load_in_8bit, config.load_in_4bit
    model.is_quantized = True
    for module in model.modules():
        if type(getattr(module, "weight", None)).__name__ == "Params4bit":
            _as_read(module.weight, module)


def _as_read(weight: Any, module: Any) -> None:
    """Give a 4-bit weight what those have that were read, which PEFT may copy and turn back."""
    weight.quant_state = _state(weight, module)
    weight.__deepcopy__ = lambda memo: weight


def to_fake(model: nn.Module, mode: FakeTensorMode) -> None:
    """Give a model on the `meta` device fake tensors on the CPU, in place; what is shared stays shared."""
    made: dict[int, torch.Tensor] = {}

    def fake(tensor: torch.Tensor, module: nn.Module) -> torch.Tensor:
        if id(tensor) not in made:
            made[id(tensor)] = _quantised(tensor, module) if _is_quantised(tensor) else _empty(tensor, "cpu")
        return made[id(tensor)]

    with mode:
        for module in model.modules():
            for tensors in (module._parameters, module._buffers):
                for name, tensor in tensors.items():
                    if tensor is not None:
                        tensors[name] = fake(tensor, module)  # type: ignore[assignment]
            for name, value in list(vars(module).items()):  # kept beside the buffers, as rotary frequencies are
                if isinstance(value, torch.Tensor):
                    object.__setattr__(module, name, fake(value, module))


def fake_copy(model: nn.Module, mode: FakeTensorMode) -> nn.Module:
    """A copy of a model that has weights, of fake tensors on the CPU; of what it holds nothing is copied."""
    held = {id(tensor): tensor if _is_quantised(tensor) else _empty(tensor, "meta") for tensor in held_tensors(model)}
    made = copy.deepcopy(model, held)
    to_fake(made, mode)
    return made


def _is_quantised(tensor: torch.Tensor) -> bool:
    return type(tensor).__name__ in ("Int8Params", "Params4bit")


def _empty(tensor: torch.Tensor, device: str) -> torch.Tensor:
    empty = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=device)
    return nn.Parameter(empty, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty


def _quantised(weight: Any, module: Any) -> torch.Tensor:
    """A parameter of the stored size, with what bitsandbytes' forward passes read from it."""
    outputs, inputs = module.out_features, module.in_features
    if type(weight).__name__ == "Int8Params":
        made: Any = nn.Parameter(torch.empty(outputs, inputs, dtype=torch.int8), requires_grad=False)
        made.CB, made.SCB, made.has_fp16_weights = made.data, torch.empty(outputs), False
        module.state.threshold = 0.0  # which rows hold outliers is in the data: none are assumed
        return made
    made = nn.Parameter(torch.empty((outputs * inputs + 1) // 2, 1, dtype=torch.uint8), requires_grad=False)
    made.__class__ = _Packed
    made.quant_state, made.bnb_quantized = _state(weight, module), True
    module.quant_state = made.quant_state
    return made


_Packed = type("Params4bit", (FakeTensor,), {})
"""PEFT tells by its name what must be turned back to be read."""


def _state(weight: Any, module: Any) -> Any:
    """The statistics of a 4-bit weight, on the device that is the default."""
    from bitsandbytes.functional import QuantState

    def empty(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype)

    outputs, inputs = module.out_features, module.in_features
    blocks = -(-outputs * inputs // weight.blocksize)
    shared = {
        "code": empty(16), "blocksize": weight.blocksize, "quant_type": weight.quant_type,
        "shape": torch.Size((outputs, inputs)), "dtype": module.compute_dtype or torch.float32,
    }  # fmt: skip
    if not weight.compress_statistics:
        return QuantState(absmax=empty(blocks), **shared)
    second = QuantState(absmax=empty(-(-blocks // 256)), code=empty(256), blocksize=256, dtype=torch.float32)
    return QuantState(absmax=empty(blocks, dtype=torch.uint8), offset=empty(), state2=second, **shared)


class _NoPadding(Uncompiled, TorchDispatchMode):
    """Answers what a model asks about values, where there are none, and mends what torch's fake kernels do otherwise.

    No token is padding. All rows have as many end tokens (T5's and BART's classifiers ask). A number drawn at random is
    not below another: no layer is skipped (layerdrop). As torch's real kernels have it, the statistics of a layer norm
    are float32 where its weights are and its input is not, a mean squared error keeps the storage of its summands, and
    products of a mixture's experts take float32.
    """

    def __init__(self) -> None:
        super().__init__()
        self._drawn: list[torch.Tensor] = []
        self._below: list[torch.Tensor] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        aten, kwargs = torch.ops.aten, kwargs or {}
        if func is aten._local_scalar_dense.default and args[0].dtype == torch.bool:
            return not _among(args[0], self._below)
        number = func is aten.rand.default and not args[0]
        if number or (func is aten.detach.default and _among(args[0], self._drawn)):
            self._drawn.append(func(*args, **kwargs))
            return self._drawn[-1]
        if func is aten.lt.Scalar and _among(args[0], self._drawn):
            self._below.append(func(*args, **kwargs))
            return self._below[-1]
        if func is aten.equal.default:
            return True
        if func is aten.unique_consecutive.default:
            return args[0].new_empty(1), args[0].new_empty(0), args[0].new_empty(0)
        if func is aten.native_layer_norm.default and args[2] is not None and args[2].dtype != args[0].dtype:
            out, *statistics = func(*args, **kwargs)
            return out, *(each.to(args[2].dtype) for each in statistics)
        if func is aten.mse_loss.default:
            out = func(*args, **kwargs)
            return out if out.dim() else out.new_empty(args[0].numel())[0]
        if func is aten._grouped_mm.default and args[0].dtype != torch.bfloat16:
            low = (each.to(torch.bfloat16) for each in args[:2])
            return func(*low, *args[2:], **kwargs).to(args[0].dtype)
        if func in (aten.index.Tensor, aten.index_put.default, aten.index_put_.default):
            args = (args[0], _all_of(args[1]), *args[2:])
        return func(*args, **kwargs)


def _among(tensor: Any, tensors: list[torch.Tensor]) -> bool:
    return any(each is tensor for each in tensors)


def _all_of(indices: list[torch.Tensor | None]) -> list[torch.Tensor | None]:
    """Masks among indices, which are true throughout, as the positions that they choose."""
    found: list[torch.Tensor | None] = []
    for index in indices:
        if index is not None and index.dtype == torch.bool:
            found += [torch.empty(index.numel(), dtype=torch.long, device=index.device) for _ in range(index.dim())]
        else:
            found.append(index)
    return found


@contextmanager
def without_padding() -> Iterator[None]:
    """Have models of fake or `meta` tensors do without masks, as real ones do where all rows are equally long.

    transformers makes a mask for every input that it cannot look at: it takes itself to be traced for all inputs.
    """
    with masks_traced(False), _NoPadding():
        yield
