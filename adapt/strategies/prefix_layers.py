"""How many attention modules an architecture has, from its configuration, and whether each takes part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import nn

from adapt.spec import Unsupported

if TYPE_CHECKING:
    from collections.abc import Collection


@dataclass(frozen=True)
class Stack:
    """The layers of an encoder or of a decoder."""

    layers: dict[str, nn.Module]
    """By full name."""
    attentions: int
    """Attention modules in each layer: two where the decoder looks at an encoder."""


def stacks_of(base: Any) -> list[Stack]:
    """The transformer layers of a model, by its configuration.

    An encoder taken from an encoder-decoder, as for token classification, is a single stack.

    Args:
        base: A transformers model without its head, or one whose base is itself.

    Raises:
        Unsupported: The configuration does not tell the number of layers, or no such layers are found.
    """
    config = base.config
    cross = int(bool(getattr(config, "add_cross_attention", False)))
    if getattr(config, "num_hidden_groups", None):  # ALBERT: depths share the layers of a group
        return [_stack(base, "", config.num_hidden_groups, config.inner_group_num)]
    encoder, decoder = (isinstance(getattr(base, part, None), nn.Module) for part in ("encoder", "decoder"))
    depth = getattr(config, "num_hidden_layers", None)  # of the encoder, where there are two stacks
    if not decoder:
        return [_stack(base, "", depth, 1 + cross)]
    names = ("num_decoder_layers", "decoder_layers", "num_hidden_layers")
    of_decoder = next((value for name in names if (value := getattr(config, name, None)) is not None), None)
    if not encoder:
        return [_stack(base, "decoder", of_decoder, 1 + cross)]
    return [_stack(base, "encoder", depth, 1), _stack(base, "decoder", of_decoder, 2)]


def _stack(base: Any, part: str, depth: int | None, attentions: int) -> Stack:
    for name, module in base.get_submodule(part).named_modules(prefix=part):
        if isinstance(module, nn.ModuleList) and len(module) == depth:
            return Stack({f"{name}.{i}": layer for i, layer in enumerate(module)}, attentions)
    what = f"the {depth} layers" if depth is not None else "the number of layers"
    raise Unsupported(f"prefix tuning does not find {what} of '{base.config.model_type}'")


def check_coverage(base: Any, found: Collection[nn.Module]) -> None:
    """A prefix in some layers only would be another method under the same name.

    Args:
        base: As for `stacks_of`.
        found: The attention modules that can carry a prefix.

    Raises:
        Unsupported: Not exactly these are the attention modules of every layer.
    """
    stacks, inside, wrong = stacks_of(base), set(), []
    for stack in stacks:
        for name, layer in stack.layers.items():
            own = [module for module in layer.modules() if module in found]
            inside.update(own)
            if len(own) != stack.attentions:
                wrong.append(f"{name} ({len(own)} of {stack.attentions})")
    wrong += [
        f"{name} (in no layer)" for name, module in base.named_modules() if module in found and module not in inside
    ]
    if wrong:
        expected = sum(len(stack.layers) * stack.attentions for stack in stacks)
        raise Unsupported(
            f"{len(inside)} of {expected} attention modules of '{base.config.model_type}' go through transformers' "
            f"attention interface, which carries the prefix; look at {', '.join(wrong)}"
        )
