"""The language-model head that a backbone was pretrained with, which an adapted backbone may be put under."""

from __future__ import annotations

from typing import Any

from adapt.backbones.classes import output_layer, unordered
from adapt.spec import Unsupported


def language_class(config: Any) -> tuple[Any, bool]:
    """The transformers class of an architecture as it was pretrained, and whether it predicts masked tokens, not the
    next one.

    Raises:
        Unsupported: There is none, or none whose loss is one of a text alone, predicted in its order.
    """
    import transformers

    found, reason = config.model_type, unordered(config)
    if reason is not None:
        raise Unsupported(f"'{found}' {reason}")
    kinds = [(transformers.MODEL_FOR_MASKED_LM_MAPPING, True), (transformers.MODEL_FOR_CAUSAL_LM_MAPPING, False)]
    if getattr(config, "is_decoder", False):  # of families that have both
        kinds.reverse()
    for classes, masked in kinds:
        if type(config) in classes:
            return classes[type(config)], masked
    raise Unsupported(f"transformers has no language-model head for '{found}'")


def put_under(head: Any, model: Any) -> None:
    """Put the pretrained part of a model where that of a language model is, in place.

    An output layer that is tied to the word embeddings is from then on tied to the model's; to their frozen table,
    where these have an update of their own, as a language model's output layer is.

    Args:
        head: As `Loader.language_model` gives it.
        model: Of the same architecture, with another head; it is left as it is.

    Raises:
        Unsupported: Its pretrained part is of another class.
    """
    base = model.base_model
    if type(base) is not type(head.base_model):
        raise Unsupported(f"the pretrained part is a {type(base).__name__}, and not {type(head.base_model).__name__}")
    layer, words = output_layer(head), head.get_input_embeddings()
    tied = layer is not None and layer.weight is words.weight
    setattr(head, head.base_model_prefix, base)
    if tied:
        layer.weight = base.get_input_embeddings().weight  # type: ignore[union-attr]
