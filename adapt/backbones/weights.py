"""Whether a checkpoint has the weights of a model that was loaded from it, and what of them has no place there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Set
from typing import Any

from adapt.backbones.classes import base_class, encoder_of, may_be_lacking
from adapt.backbones.source import Backbone
from adapt.spec import AdaptError


def check_weights(model: Any, kind: str, reference: str, missing: Set[str], other: Set[str]) -> None:
    """Parameters that a checkpoint lacks, or has in another shape, must be those of the head for a task kind.

    Raises:
        AdaptError: Others are among them.
    """
    fresh = may_be_lacking(kind, model)
    if other - fresh:
        raise AdaptError(
            f"Backbone {reference}: weights do not fit the configuration: {', '.join(sorted(other - fresh)[:5])}"
        )
    lost = sorted(name for name in missing - fresh - computed(model) if "pooler" not in name.split("."))
    if type(model) is base_class(model.config) and encoder_of(model) is not model:  # the encoder alone is used
        lost = [name for name in lost if not name.startswith("decoder.")]
    if lost:
        raise AdaptError(
            f"Backbone {reference}: its weights lack {', '.join(lost[:5])}, which would be random; give the folder of "
            "a model that is pretrained whole"
        )


def computed(model: Any) -> set[str]:
    """Names of tables that transformers computes where a checkpoint lacks them, and that nothing trains: the sinusoids
    of Marian and Pegasus."""
    return {f"{name}.weight" for name, module in model.named_modules() if hasattr(module, "create_weight")}


def left_out(model: Any, backbone: Backbone, unread: Iterable[str]) -> Iterator[str]:
    """What to say where transformers' own class reads what was made for another, or leaves out weights of what it has.

    Heads of other tasks and poolers are left out of any checkpoint.
    """
    if backbone.config.get("auto_map"):
        yield (
            "the backbone comes with code of its own, which is not run: it is read as transformers' own "
            f"'{backbone.model_type}'"
        )
    parts = {name for name, _ in model.base_model.named_children()} - {"pooler"}
    prefix = f"{model.base_model_prefix}."
    lost = sorted(
        name for name in unread if name.endswith(".weight") and name.removeprefix(prefix).split(".")[0] in parts
    )
    if lost:
        yield (
            f"{len(lost)} of the backbone's weights have no place in transformers' '{backbone.model_type}' as its "
            f"configuration has it, and are not used: {first_few(lost)}"
        )


def first_few(names: Sequence[str]) -> str:
    """Three names, and whether there are more."""
    return ", ".join(names[:3]) + (" and more" if names[3:] else "")
