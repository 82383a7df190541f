"""The head of a task kind: which transformers class carries it, which parameters it is, and what it starts from."""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from adapt.spec import Unsupported

if TYPE_CHECKING:
    import torch
    from torch import nn

AUTO_CLASSES: dict[str, str] = {
    "sequence_classification": "AutoModelForSequenceClassification",
    "token_classification": "AutoModelForTokenClassification",
    "question_answering": "AutoModelForQuestionAnswering",
    "seq2seq": "AutoModelForSeq2SeqLM",
    "causal_lm": "AutoModelForCausalLM",
    "masked_lm": "AutoModelForMaskedLM",
}
"""By task kind, as transformers names them."""
CLASSIFIERS = ("sequence_classification", "token_classification")
"""Kinds whose head has a row for each class."""
LANGUAGE_MODELS = ("seq2seq", "causal_lm", "masked_lm")
"""Kinds whose output layer is pretrained, so that a model does the task before any training."""
REDRAWN = ("masked_lm",)
"""Kinds whose training rows are other token ids in each epoch, so that nothing computed of them serves twice."""
_INSTEAD = ("seq2seq", "masked_lm", "token_classification")
"""Kinds for what cannot continue a text, the nearest first."""
_DECODERS, _ENCODERS = "a decoder (such as GPT-2, Llama or Qwen3)", "an encoder (such as BERT, RoBERTa or ModernBERT)"
_ABLE = {
    "seq2seq": "an encoder-decoder (such as T5, BART or NLLB)", "causal_lm": _DECODERS, "masked_lm": _ENCODERS,
}  # fmt: skip
"""By kind what backbones do it."""
_REFUSED: dict[str, str] = {
    "rwkv": "transformers changes its weights in place between training and evaluation, and does not mask its padding",
}
"""Architectures, by `model_type`, whose classes do not do what training and saving rely on; and why."""


def check_architecture(config: Any) -> None:
    """
    Raises:
        Unsupported: No kind of task can rely on transformers' classes for this architecture, or there is none for its
            pretrained part.
    """
    found = config.model_type
    if found in _REFUSED:
        raise Unsupported(f"'{found}' cannot be adapted: {_REFUSED[found]}; use another backbone")
    base_class(config)


def model_class(kind: str, config: Any) -> Any:
    """The transformers class of an architecture for a task kind.

    Raises:
        Unsupported: transformers has none, or has one that this architecture was not pretrained for.
    """
    import transformers

    title, found = kind.replace("_", " "), config.model_type
    if kind == "sequence_classification" and getattr(config, "summary_type", None) == "last":  # XLNet
        raise Unsupported(
            f"transformers' classifier for '{found}' reads the last position, be it padding; use the mean of all "
            "(pooling='mean')"
        )
    if kind == "sequence_classification" and found == "t5gemma" and config.is_encoder_decoder:
        raise Unsupported(
            f"transformers' classifier for '{found}' reads another position of a row where it is the longest of its "
            "batch; use an encoder, a decoder or another encoder-decoder"
        )
    reason = unordered(config)
    if kind == "causal_lm" and (reason is not None or type(config) in transformers.MODEL_FOR_MASKED_LM_MAPPING):
        able = [other for other in _INSTEAD if type(config) in _classes(other)]
        others = [other for other in able if other != "masked_lm" or not _is_one_sided(config)]
        raise Unsupported(
            f"'{found}' was not pretrained to continue a text from the left, which causal LM needs"
            f"{'' if reason is None else f': it {reason}'}; use {_DECODERS}"
            f"{f', or the kind {others[0]}' if others else ''}"
        )
    if kind == "masked_lm" and _is_one_sided(config):
        raise Unsupported(
            f"'{found}' was not pretrained to find masked tokens from both sides, which masked LM needs; use "
            f"{_ENCODERS}"
        )
    try:
        return _classes(kind)[type(config)]
    except KeyError as error:
        instead = f"; use {_ABLE[kind]}" if kind in _ABLE else ""
        raise Unsupported(f"transformers has no {title} head for '{found}'{instead}") from error


def unordered(config: Any) -> str | None:
    """Why a model does not predict each token of a text from those before it alone, by its configuration; None: it
    does, or finds masked tokens, which is of no order."""
    found = config.model_type
    if getattr(config, "is_encoder_decoder", False):
        return "is an encoder-decoder, which predicts a text from another"
    if found == "xlnet":
        return "predicts tokens in an order that is drawn"
    if found == "cpmant":
        return "attends to later tokens, too"
    both_ways = getattr(config, "use_bidirectional_attention", False) in (True, "all")
    both_ways |= found == "bert-generation" and not config.is_decoder
    if both_ways or getattr(config, "is_causal", True) is False:
        return "attends to later tokens, too, as its configuration says"
    return None


def _is_one_sided(config: Any) -> bool:
    """Whether a model, by its configuration, reads each token with those before it alone; the last name is XLM's."""
    return any(getattr(config, name, False) for name in ("is_encoder_decoder", "is_decoder", "causal"))


def _classes(kind: str) -> Any:
    """transformers' classes for a task kind, by those of the configurations."""
    import transformers

    return getattr(transformers, AUTO_CLASSES[kind])._model_mapping


def ends_at_padding(kind: str, config: Any) -> bool:
    """Whether transformers' class for a task kind looks for the end of a row by the token that its configuration pads
    with: classifiers of decoders read the last one before, and mBART's have their decoder begin with it."""
    import transformers

    if getattr(config, "is_encoder_decoder", False):
        return kind not in LANGUAGE_MODELS
    decoder = type(config) in transformers.MODEL_FOR_CAUSAL_LM_MAPPING
    encoder = type(config) in transformers.MODEL_FOR_MASKED_LM_MAPPING
    return kind == "sequence_classification" and decoder and not encoder


def text_part(kind: str, config: Any) -> Any:
    """The configuration itself, or that of the part for text where a model reads images, too, or sound.

    Raises:
        Unsupported: transformers' class for the task kind is one of the whole.
    """
    part = config.sub_configs.get("text_config")
    if part is None:
        return config
    text = config.get_text_config()
    if model_class(kind, config).config_class is not part and not (type(text) in _classes(kind) and _is_read(text)):
        raise Unsupported(
            f"transformers loads '{config.model_type}' whole for {kind.replace('_', ' ')}, with the parts that read no "
            "text; use a backbone that reads text alone"
        )
    return text


def _is_read(part: Any) -> bool:
    """Whether transformers reads the weights of a part from a checkpoint of the whole."""
    try:
        from transformers.conversion_mapping import get_checkpoint_conversion_mapping
    except ImportError:
        return False
    return bool(get_checkpoint_conversion_mapping(part.model_type))


def base_class(config: Any) -> Any:
    """The transformers class of the pretrained part alone.

    Raises:
        Unsupported: transformers has none.
    """
    from transformers import MODEL_MAPPING

    try:
        found = MODEL_MAPPING[type(config)]
    except KeyError as error:  # two models joined, for one
        raise Unsupported(
            f"transformers has no class for the pretrained part of '{config.model_type}' alone"
        ) from error
    return found[0] if isinstance(found, tuple) else found


def renaming(cls: Any, config: Any) -> dict[str, str]:
    """Pattern to replacement for the names in a checkpoint, where the class calls its pretrained part otherwise.

    Llama's and Qwen's classes for question answering call it `transformer` and every other `model`: without this all
    weights would be taken for missing.
    """
    import transformers

    saved_as = (config.architectures or [""])[0]
    usual = base_class(config).base_model_prefix
    there = getattr(getattr(transformers, saved_as, None), "base_model_prefix", usual)  # an auto class has none
    return {} if cls.base_model_prefix == there else {rf"^{re.escape(there)}\.": f"{cls.base_model_prefix}."}


def encoder_of(base: Any) -> Any:
    """The part of a pretrained model that reads a text: of an encoder-decoder the encoder, else all of it.

    The configuration does not tell: that of a token classifier of T5's says that it is no encoder-decoder. Nor do
    the names: Funnel's encoder, which is no model of its own, hands on to what it calls its decoder.
    """
    from transformers import PreTrainedModel

    both = hasattr(base, "decoder") and isinstance(getattr(base, "encoder", None), PreTrainedModel)
    return base.encoder if both else base


def configs_of(model: nn.Module) -> list[Any]:
    """The configurations of a model and its parts, each once."""
    return list({id(m.config): m.config for m in model.modules() if hasattr(m, "config")}.values())


def head_names(model: Any) -> set[str]:
    """Names of the parameters that are not in the pretrained part: the head.

    Some of T5's classes have no inner base model; their head is what the base class has not.
    """
    import torch

    base = model.base_model
    if base is not model:
        inside = {id(p) for p in base.parameters()}
        return {name for name, p in model.named_parameters() if id(p) not in inside}
    with torch.device("meta"):
        pretrained = base_class(model.config)(model.config)
    known = {name for name, _ in pretrained.named_parameters(remove_duplicate=False)}
    return {name for name, _ in model.named_parameters() if name not in known}


def name_of_base(model: Any) -> str:
    """Name of the pretrained part within a model; empty where it is the model itself."""
    return next(name for name, module in model.named_modules() if module is model.base_model)


def may_be_lacking(kind: str, model: Any) -> set[str]:
    """Names of the parameters that a checkpoint may lack, which are then drawn anew; of shared ones every name.

    They are the head. Of language models there are none, but where masked tokens are found: sentence encoders come
    without what lies between the pretrained part and the matrix over the vocabulary, and without that matrix's bias.
    The matrix itself must be there: one that is drawn would know no word.
    """
    if kind in LANGUAGE_MODELS and kind != "masked_lm":
        return set()
    head = head_names(model)
    every = dict(model.named_parameters(remove_duplicate=False))
    if kind == "masked_lm":
        words = model.config.vocab_size
        head = {name for name in head if every[name].dim() < 2 or words not in every[name].shape}
    same = {id(every[name]) for name in head}
    return {name for name, parameter in every.items() if id(parameter) in same}


def class_outputs(model: Any) -> set[str]:
    """Names of the head's parameters that have a row for each class: whose shape another number of classes changes."""
    import torch

    config = copy.deepcopy(model.config)
    config.num_labels += 1
    with torch.device("meta"):
        larger = dict(type(model)(config).named_parameters())
    head = head_names(model)
    return {name for name, p in model.named_parameters() if name in head and p.shape != larger[name].shape}


def order_of(labels: Sequence[str], there: Mapping[int, str]) -> list[int] | None:
    """Where each label is among those of a checkpoint; None where they are not the same ones.

    Args:
        labels: The task's.
        there: A configuration's `id2label`; its names that nobody gave, `LABEL_3`, stand for the class 3.
    """

    def plain(name: object) -> str:
        return re.sub(r"^LABEL_(?=\d+$)", "", str(name)).casefold()

    places = {plain(name): place for place, name in there.items()}
    found = [places.get(plain(label), -1) for label in labels]
    return found if sorted(found) == list(range(len(there))) else None


def output_layer(model: nn.Module) -> nn.Module | None:
    """The layer from hidden states to the vocabulary, where the model is a language model.

    DeBERTa's class calls so the square layer before a product with the word embeddings (`legacy=False`): it has none.
    """
    find = getattr(model, "get_output_embeddings", None)
    found = find() if find is not None else None
    sizes = {getattr(found, "in_features", 0), getattr(found, "out_features", 1)}
    square = len(sizes) == 1 and getattr(model.config, "vocab_size", None) not in sizes
    return None if square else found


def with_output_layer(model: Any, lacking: set[str]) -> set[str]:
    """Names of the parameters of a language model that are trained where its head is trained alone.

    Args:
        model: Its output layer is part of them, and gets a copy of what it shares.
        lacking: Names of the parameters of its head that its checkpoint lacks.

    Raises:
        Unsupported: It has no output layer.
    """
    last, parameters = output_layer(model), dict(model.named_parameters())
    inside = set() if last is None else {id(p) for p in last.parameters()}
    return {name for name in lacking if id(parameters[name]) not in inside} | untie_output_layer(model)


def untie_output_layer(model: Any) -> set[str]:
    """Names of the parameters of a language model's output layer, which gets a copy of what it shares.

    Raises:
        Unsupported: It has no such layer.
    """
    from torch import nn

    last = output_layer(model)
    if last is None:
        raise Unsupported(
            f"{type(model).__name__} has no output layer that could be trained alone; use a strategy that trains more "
            "than the head"
        )
    prefix = next(name for name, module in model.named_modules() if module is last)
    shared = {id(p) for name, p in model.named_parameters(remove_duplicate=False) if not name.startswith(f"{prefix}.")}
    for name, parameter in list(last.named_parameters()):
        if id(parameter) in shared:
            setattr(last, name, nn.Parameter(parameter.detach().clone()))
            # it may tie more: the embeddings of encoder and decoder, whole layers (Zamba2's)
            if not model.config.is_encoder_decoder and not shared_parameters(model.base_model):
                model.config.tie_word_embeddings = False
    return {f"{prefix}.{name}" for name, _ in last.named_parameters()}


def shared_parameters(model: nn.Module) -> set[int]:
    """Ids of the parameters that several modules have in common."""
    held = Counter(id(p) for module in model.modules() for p in module.parameters(recurse=False))
    return {parameter for parameter, times in held.items() if times > 1}


def keep_head_dropout(model: Any, own: Any) -> None:
    """Give the dropouts outside the pretrained part the probabilities that the configuration `own` has for them.

    Some heads take the backbone's general dropout, so that no configuration can change the one without the other.
    """
    import torch
    from torch import nn

    inside = {id(module) for module in model.base_model.modules()}
    head = {n: m for n, m in model.named_modules() if isinstance(m, nn.Dropout) and id(m) not in inside}
    if not head:
        return
    with torch.device("meta"):
        reference = dict(type(model)(own).named_modules())
    for name, module in head.items():
        module.p = reference[name].p


def initialise(model: nn.Module, fresh: set[str], head: set[str], seed: int) -> None:
    """Draw fresh parameters from the seed alone, alike under every strategy; the head becomes float32."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    std = getattr(getattr(model, "config", None), "initializer_range", None) or 0.02
    for name, parameter in sorted(model.named_parameters()):
        if name not in head:
            continue
        parameter.data = parameter.data.float()
        if name in fresh:
            parameter.data.copy_(_fresh(name, parameter, std, generator))


def _fresh(name: str, parameter: torch.Tensor, std: float, generator: torch.Generator) -> torch.Tensor:
    import torch

    if parameter.dim() >= 2:
        return torch.randn(parameter.shape, generator=generator) * std
    return torch.ones(parameter.shape) if name.endswith("weight") else torch.zeros(parameter.shape)
