"""Frozen lower layers, computed once for each row where only the layers above them are trained.

`upper_layers` says which layers a strategy may touch; `memoise_lower` puts the others behind a memo. The base model's
own forward pass stays in charge: the frozen layers hand on the memo's features instead of computing anything.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from torch import nn

from adapt.backbones.calls import goes_on, lone_decoder, longest_of, padding_of, rows_of
from adapt.backbones.checkpointing import weight_bits
from adapt.backbones.classes import REDRAWN
from adapt.backbones.memo import Memo
from adapt.backbones.uppermost import uppermost
from adapt.spec import Unsupported

_LOWER_BYTES = 2**30
"""Memory that the features of lower layers may take; rows beyond it are computed each time."""


@dataclass(frozen=True)
class UpperLayers:
    """The layers of a base model that are adapted."""

    path: str
    """Name of the list of layers within the base model."""
    first: int
    """Index of the lowest layer among them."""

    def __contains__(self, name: object) -> bool:
        """Whether a name within the base model is in one of the layers."""
        found = re.match(re.escape(self.path) + r"\.(\d+)\.", str(name))
        return found is not None and int(found[1]) >= self.first


def upper_layers(model: Any, layers: str, strategy: str) -> UpperLayers | None:
    """What `layers` means for a model; None where it means all.

    Args:
        model: As `Loader` gives it.
        layers: `all`, or `last:N`; N may be more than there are.
        strategy: Name for the message.

    Raises:
        OptionError: It is neither.
        Unsupported: The model has two stacks, or layers that cannot be told apart or cannot be left out.
    """
    most = uppermost(layers, strategy)
    if most is None:
        return None
    base = model.base_model
    config = base.config
    if getattr(config, "is_encoder_decoder", False):
        raise Unsupported("layers='last:N' is for models of one stack, and this one has an encoder and a decoder")
    depth = config.num_hidden_layers
    lists = [name for name, m in base.named_modules() if isinstance(m, nn.ModuleList) and len(m) == depth]
    if getattr(config, "num_hidden_groups", None) is not None or not lists:
        raise Unsupported(f"the layers of '{config.model_type}' share their weights, or are not known one by one")
    path = min(lists, key=len)
    if sum(name.rpartition(".")[0] == path.rpartition(".")[0] for name in lists) > 1:  # XLM's, a list for each part
        raise Unsupported(f"'{config.model_type}' has no list of whole layers")
    if getattr(base.get_submodule(path.rpartition(".")[0]), "conv", None) is not None:
        raise Unsupported(f"'{config.model_type}' joins what its first layer got to what it gave (conv_kernel_size)")
    first = max(0, depth - most)
    if first and getattr(config, "num_kv_shared_layers", 0):  # Gemma's, whose upper layers attend to keys of lower ones
        raise _hand_on_more(config)
    return UpperLayers(path, first)


def _hand_on_more(config: Any) -> Unsupported:
    return Unsupported(
        f"the layers of '{config.model_type}' hand on more than hidden states, so that those below cannot be left out; "
        "set layers='all'"
    )


def freeze_below(model: Any, upper: UpperLayers) -> None:
    """Leave the upper layers and what comes after them trainable: a pooler, the head, in most families a last norm.

    What stands beside the layers in a module of the base model's, such as OPT's last norm, is frozen. A pooler, or what
    else is new, is trainable wherever it stands: some families name it before the layers.

    Args:
        model: Every parameter is trainable.
        upper: The layers.
    """
    base = model.base_model
    after = False
    fresh = {id(parameter) for name, parameter in model.named_parameters() if name in model.head_names}
    for name, parameter in base.named_parameters():
        inside = name.startswith(upper.path + ".")
        after = after or inside
        # the layers of DeBERTa share what stands beside them: relative positions and their norm
        beside = "." in upper.path and name.startswith(upper.path.rpartition(".")[0] + ".")
        own = id(parameter) in fresh or "pooler" in name.split(".")
        parameter.requires_grad_(name in upper if inside else own or (after and not beside))


def memoise_lower(model: Any, upper: UpperLayers | None) -> None:
    """Compute what lies below the upper layers once for each row, in evaluation mode: without dropout.

    Args:
        model: Nothing below the upper layers is trainable.
        upper: None, or what begins at the lowest layer: nothing is done.
    """
    if upper is None or upper.first == 0:
        return
    layers = model.base_model.get_submodule(upper.path)
    base = model.base_model.get_submodule(lone_decoder(model.base_model))
    state = _State(base, layers[upper.first])
    dtypes = sorted(
        {str(p.dtype).removeprefix("torch.") for layer in layers[: upper.first] for p in layer.parameters()}
    )
    name = "-".join([f"below-{upper.first}", *dtypes])
    kept = 0 if getattr(model, "task_kind", None) in REDRAWN else _LOWER_BYTES
    memo = Memo(_UpTo(state), kept, longest_of(base), padding_of(base.config), name)
    for i in range(upper.first):
        layers[i] = Lower(layers[i], state)
    layers[0].memo = memo
    parameters = list(signature(base.forward).parameters)

    def look_up(base: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        if state.encoding:
            return
        call = {**dict(zip(parameters, args, strict=False)), **kwargs}
        state.features = None if goes_on(call) else memo(**rows_of(call, memo.padding))

    def forget(*_: Any) -> None:
        state.features = None

    state.hooks = [
        base.register_forward_pre_hook(look_up, with_kwargs=True),
        base.register_forward_hook(forget, always_call=True),
    ]


def restore_lower(model: Any) -> None:
    """Undo `memoise_lower`, where it was done."""
    for parent in list(model.modules()):
        if isinstance(parent, nn.ModuleList) and len(parent) and isinstance(parent[0], Lower):
            for hook in parent[0].state.hooks:
                hook.remove()
            for i, layer in enumerate(parent):
                if isinstance(layer, Lower):
                    parent[i] = layer.layer


class _State:
    """What the layers of a base model share while it runs."""

    def __init__(self, base: Any, above: Any) -> None:
        self.base = base
        self.above = above
        """The lowest of the upper layers."""
        self.bits = weight_bits(above)
        """Of its weights, which may be turned into tensors of another type later (`adapt.memory.blueprint`)."""
        self.features: torch.Tensor | None = None
        self.beside: int | None = None
        """How many values the layers give beside their hidden states; None: not yet seen."""
        self.bare = True
        """Whether they give hidden states by themselves, and no tuple."""
        self.encoding = False
        self.given: tuple[Any, ...] = ()
        """What the layer gave that ran last while features are made."""
        self.by_row = False
        """Whether the layers were seen to give a vector a token, row by row."""
        self.hooks: list[Any] = []

    def reached(self, _: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Called before the lowest of the upper layers while features are made.

        Raises:
            _Reached: Always, else.
            Unsupported: The layer takes more than hidden states of those below, such as the positions of T5's.
        """
        hidden, *beside = self.given
        taken = {id(value) for value in (*args, *kwargs.values())}
        if any(value is not None and id(value) in taken for value in beside):
            raise _hand_on_more(self.base.config)
        raise _Reached(hidden)


class _Reached(Exception):
    """Ends a forward pass after the last of the lower layers."""

    def __init__(self, hidden: torch.Tensor) -> None:
        self.hidden = hidden


class Lower(nn.Module):
    """A frozen layer, which hands the memo's features on where there are any."""

    def __init__(self, layer: nn.Module, state: _State) -> None:
        super().__init__()
        self.layer = layer.eval()
        self.state = state

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "layer":
                raise
            return getattr(self.layer, name)

    def train(self, mode: bool = True) -> Lower:
        """The layer stays in evaluation mode: its features must not depend on dropout."""
        self.training = mode
        self.layer.eval()
        return self

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """As the layer's; in place of what it gives beside hidden states, such as weights of attention, None."""
        state, features = self.state, self.state.features
        if features is None or state.encoding:
            return self._computed(*args, **kwargs)
        if state.beside is None:  # another process made the features
            with torch.no_grad():
                self._computed(*args, **kwargs)
        checkpointed = getattr(state.above, "gradient_checkpointing", False) and torch.is_grad_enabled()
        if checkpointed and state.bits == 8:  # the reentrant kind asks for an input with a gradient
            features = features.detach().requires_grad_()
        return features if state.bare else (features, *[None] * (state.beside or 0))

    def _computed(self, *args: Any, **kwargs: Any) -> Any:
        out, state = self.layer(*args, **kwargs), self.state
        state.bare = not isinstance(out, tuple | list)  # GPT's is a list
        state.beside = 0 if state.bare else len(out) - 1
        state.given = ((out,) if state.bare else tuple(out)) if state.encoding else ()
        return out


class _UpTo(nn.Module):
    """The base model up to its last lower layer. The base model is no submodule: it holds this one."""

    def __init__(self, state: _State) -> None:
        super().__init__()
        self._state = state

    def forward(self, **inputs: Any) -> torch.Tensor:
        state = self._state
        rows, length = inputs["input_ids"].shape
        if rows == length > 1 and not state.by_row:  # a square of features does not tell which way it lies
            self(**{name: value[:1] for name, value in inputs.items()})
        training = state.base.training
        state.encoding = True
        state.base.eval()
        hook = state.above.register_forward_pre_hook(state.reached, prepend=True, with_kwargs=True)
        try:
            state.base(**inputs)
        except _Reached as reached:
            windows = getattr(state.base.config, "attention_window", None)  # to which such models pad rows themselves
            state.by_row = reached.hidden.shape[:2] == (rows, length) and not windows
            if not state.by_row:  # XLNet's, Longformer's
                raise Unsupported(
                    f"the layers of '{state.base.config.model_type}' do not see a vector a token, row by row, so that "
                    "those below cannot be left out; set layers='all'"
                ) from None
            return reached.hidden
        finally:
            hook.remove()
            state.base.train(training)
            state.encoding, state.given = False, ()
        raise Unsupported(f"the layers of '{state.base.config.model_type}' cannot be left out; set layers='all'")
