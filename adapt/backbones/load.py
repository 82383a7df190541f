"""Loads a backbone with a task's fresh head: precision, dropout, attention kernel, initialisation."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from inspect import signature
from typing import TYPE_CHECKING, Any

from adapt.backbones.classes import (
    CLASSIFIERS,
    LANGUAGE_MODELS,
    base_class,
    check_architecture,
    class_outputs,
    configs_of,
    encoder_of,
    head_names,
    initialise,
    keep_head_dropout,
    model_class,
    name_of_base,
    order_of,
    renaming,
    text_part,
    with_output_layer,
)
from adapt.backbones.exhausted import is_out_of_memory, tells_of_memory
from adapt.backbones.families import attend_to_all, check_length, check_precision, least_tokens
from adapt.backbones.language_head import language_class
from adapt.backbones.log import failures, quiet
from adapt.backbones.padding import reads_padding
from adapt.backbones.quantised import agreed, check_capability, hold_whole_in, keep_whole, place_rest
from adapt.backbones.source import Backbone
from adapt.backbones.weights import check_weights, computed, first_few, left_out
from adapt.spec import AdaptError, Budget, Task, Unsupported

if TYPE_CHECKING:
    import torch
    from torch import nn

_DROPOUT_FIELDS = (
    "hidden_dropout_prob", "attention_probs_dropout_prob", "hidden_dropout", "dropout", "attention_dropout",
    "activation_dropout", "pooler_dropout", "embedding_dropout", "mlp_dropout", "resid_pdrop", "embd_pdrop",
    "attn_pdrop", "dropout_rate", "residual_dropout", "resid_dropout", "embed_dropout", "emb_pdrop", "dropout_p",
    "local_attention_probs_dropout_prob", "lsh_attention_probs_dropout_prob",
)  # fmt: skip
SHORT = 256
"""Tokens up to which attention is eager on CPUs. It is the faster for longer rows too, by 10 to 20 % at 400 to 500
tokens, but holds its weights, which grow with the square of the tokens; sdpa holds none where nothing is dropped."""


@dataclass(frozen=True)
class Loader:
    """Callable that a strategy's `build` receives; loads the same head bits for every strategy of a seed."""

    backbone: Backbone
    task: Task
    budget: Budget
    seed: int
    _told: list[str] = field(default_factory=list, init=False, repr=False, compare=False)

    def __call__(
        self, *, frozen: bool = False, output_layer: bool = False, quantization_config: Any = None
    ) -> nn.Module:
        """Load the backbone with a fresh head for the task.

        Args:
            frozen: The strategy does not train the backbone: its parameters get `requires_grad=False` and are held
                in bfloat16 where the budget's precision is bf16. The head stays trainable, in float32.
            output_layer: A pretrained output layer, that of a language model, is trained too: in float32, and in a
                copy of its own where it is tied to the input embeddings.
            quantization_config: As in transformers' `from_pretrained`; modules of the head are never quantised, and
                products with 4-bit weights are in the budget's precision.

        Returns:
            A model of transformers' class for the task's kind, or of mean pooling's own. Its `base_model` is the
            pretrained part, or the model itself where its class has none. Every parameter that the checkpoint does not
            hold is drawn from the seed. It has these attributes, too:

            - `head_names`, a frozenset: the parameters that are trained under every strategy; of a language model what
              the checkpoint lacks, and the output layer where that is trained;
            - `head_size`: the number of their elements;
            - `fresh_names`: those of them that are drawn. What the checkpoint has of a head for the same kind of task
              is kept, its output layer only if it is for the same classes, in whichever order;
            - `task_kind`: the task's kind;
            - `generation_padding`: the token that the checkpoint pads with in generation; None: it does not say.

        Raises:
            Unsupported: transformers has no such head for this architecture (or one for more than text); the device
                cannot quantise, or these weights cannot be quantised, or are quantised otherwise than is asked for.
            AdaptError: The weights cannot be read, or are not all there.
        """
        import torch

        from adapt.backbones.norms import keep_precision

        check_precision(self._pretrained_config().model_type, self.budget.precision)
        how = agreed(self.quantised(), quantization_config)
        low = torch.bfloat16 if frozen and self.budget.precision == "bf16" else torch.float32
        options = _options(low)
        if how is not None:
            self._check_device(how)
            if hasattr(how, "bnb_4bit_compute_dtype"):
                how.bnb_4bit_compute_dtype = low
            options |= {"quantization_config": how, "device_map": {"": self.budget.device}}
        with quiet():
            model, fresh = self._mean(options) if self.task.pooling == "mean" else self._native(options)
        if self.quantised() is not None:
            hold_whole_in(model, low)
        head = head_names(model)
        if self.task.kind not in LANGUAGE_MODELS:
            head |= fresh
        else:
            head &= fresh
            if head:
                lacking = first_few(sorted(head))
                self._told.append(f"the head for masked tokens is not pretrained: the checkpoint lacks {lacking}")
            if output_layer and frozen:
                head = with_output_layer(model, head)
        initialise(model, fresh, head, self.seed)
        parameters = dict(model.named_parameters())
        model.task_kind = self.task.kind  # type: ignore[assignment]
        model.head_names = frozenset(head)  # type: ignore[assignment]
        model.fresh_names = frozenset(head & fresh)  # type: ignore[assignment]
        model.head_size = sum(parameters[name].numel() for name in head)  # type: ignore[assignment]
        if frozen:
            for name, parameter in parameters.items():
                parameter.requires_grad_(name in head)
        self._configure(model)
        if frozen and self.budget.device == "cuda" and self.budget.precision == "bf16":
            keep_precision(model)
        return self._place(model, how is not None)

    def pretrained(self) -> nn.Module:
        """The part that reads a text, without a head or a pooler: frozen, in evaluation mode.

        Of an encoder-decoder it is the encoder, and the checkpoint may be one of the encoder alone.
        It is in bfloat16 where the budget's precision is bf16, else in float32.

        Raises:
            Unsupported: These weights are quantised, or the architecture has no class for its pretrained part.
            AdaptError: The weights cannot be read, or are not all there.
        """
        import torch

        from adapt.backbones.norms import keep_precision

        check_precision(self._pretrained_config().model_type, self.budget.precision)
        agreed(self.quantised(), None)
        low = torch.bfloat16 if self.budget.precision == "bf16" else torch.float32
        with quiet():
            model, _ = self._base(self.config(), _options(low))
        self._configure(model.requires_grad_(False).eval())
        if self.budget.device == "cuda" and low == torch.bfloat16:  # as under an adapted model, so that both are alike
            keep_precision(model)
        return self._place(encoder_of(model), False)

    def pooler(self) -> dict[str, torch.Tensor]:
        """The checkpoint's pooler in float32, by the names of the pretrained part; empty where it has none, or where
        transformers' classes are not made with or without one.

        Raises:
            AdaptError: The weights cannot be read, or are not all there.
        """
        import torch

        config = self.config(dropout=False)
        cls = base_class(config)
        if "add_pooling_layer" not in signature(cls.__init__).parameters:
            return {}
        with quiet():
            model, fresh = self._from_pretrained(cls, config, _options(torch.float32))
        return {n: p.data for n, p in model.named_parameters() if "pooler" in n.split(".") and n not in fresh}

    def language_model(self, dtype: torch.dtype) -> tuple[nn.Module, bool]:
        """The backbone as it was pretrained, under its own language-model head: frozen, in evaluation mode.

        Args:
            dtype: Of its weights.

        Returns:
            The model, and whether it predicts masked tokens, not the next one.

        Raises:
            Unsupported: The checkpoint has no such head, or its weights are quantised.
            AdaptError: The weights cannot be read.
        """
        import torch

        from adapt.backbones.norms import keep_precision

        config = self.config(dropout=False)
        cls, masked = language_class(config)
        if self.quantised() is not None:
            raise Unsupported("the backbone's own weights are quantised")
        with quiet():
            model, fresh = self._from_pretrained(cls, config, _options(dtype))
        lost = sorted(fresh & head_names(model))
        if lost:
            raise Unsupported(
                f"the checkpoint has no language-model head that transformers reads (it lacks {first_few(lost)})"
            )
        self._configure(model.requires_grad_(False).eval())
        if self.budget.device == "cuda" and dtype == torch.bfloat16:
            keep_precision(model)
        return self._place(model, False), masked

    def _place(self, model: nn.Module, quantised: bool) -> nn.Module:
        return place_rest(model, self.budget.device) if quantised else model.to(self.budget.device)

    def quantised(self) -> Mapping[str, Any] | None:
        """How the checkpoint says that its weights are quantised; None: they are not."""
        found: Mapping[str, Any] | None = getattr(self._pretrained_config(), "quantization_config", None)
        return copy.deepcopy(found)

    def _check_device(self, how: Any) -> None:
        if self.budget.device == "cuda":
            check_capability(how)

    @property
    def notes(self) -> list[str]:
        """What a reader of the result must be told about how the backbone was loaded."""
        return [*self.backbone.tokenizer_notes, *dict.fromkeys(self._told)]

    def attention(self) -> str:
        """The attention kernel: eager for short rows on the CPU, where it trains faster than sdpa; else sdpa."""
        return "eager" if self.budget.device == "cpu" and self.task.max_length <= SHORT else "sdpa"

    def attention_of(self, cls: Any) -> str:
        """The same for a class, which may have no choice."""
        return self.attention() if cls._supports_sdpa else "eager"

    def tokenizer(self) -> Any:
        """The backbone's tokenizer, with a padding token: where it has none, one of its own pads.

        Raises:
            AdaptError: It cannot be loaded, or has no token that can pad.
        """
        return self.backbone.tokenizer

    def config(self, *, dropout: bool = True) -> Any:
        """The model's configuration with the task's labels and, unless `dropout` is False, the budget's dropout."""
        config = text_part(self.task.kind, copy.deepcopy(self._pretrained_config()))
        check_architecture(config)
        if self.task.kind in CLASSIFIERS:
            labels = self.task.labels or ("value",)
            config.id2label = dict(enumerate(labels))
            config.label2id = {label: i for i, label in enumerate(labels)}
        elif self.task.kind == "question_answering":
            config.num_labels = 2  # start and end
        short = attend_to_all(config)
        if short is not None and self.task.max_length > short:
            self._told.append(
                f"'{config.model_type}' attends to all tokens also of rows of more than {short:,}: its sparse "
                "attention would depend on other rows; elsewhere give attention_type='original_full' when it is loaded"
            )
        if dropout and self.budget.dropout is not None:
            for name in _DROPOUT_FIELDS:
                if getattr(config, name, None) is not None:
                    setattr(config, name, self.budget.dropout)
            for name in [name for name in vars(config) if name.endswith("layerdrop") and not self.budget.dropout]:
                setattr(config, name, 0.0)
        return config

    def _pretrained_config(self) -> Any:
        """As the checkpoint has it, not to be changed."""
        return self.backbone.pretrained_config

    def _configure(self, model: Any) -> None:
        """Set what a configuration must say after loading: said before, it would change how weights are loaded."""
        for config in configs_of(model):
            if getattr(config, "use_cache", None):
                config.use_cache = False  # generation asks for its cache itself; training must not fill one
        least = least_tokens(model.config)
        if least > 1:
            model.base_model.register_forward_pre_hook(partial(check_length, least), with_kwargs=True)
        padding = self.tokenizer().pad_token_id
        generation = getattr(model, "generation_config", None)
        model.generation_padding = getattr(generation, "pad_token_id", None)
        if generation is not None and generation.pad_token_id is None:
            generation.pad_token_id = padding
        # an embedding made with this index would never be trained there, and it may be that of a token of the text;
        # in a causal LM nothing reads it but a warning, for generation drops masks that hide nothing; classifiers of
        # decoders find a row's last token by it, which must not be padding where the configuration names another
        if self.task.kind != "causal_lm":
            model.config.pad_token_id = padding

    def _native(self, options: dict[str, Any]) -> tuple[nn.Module, set[str]]:
        config = self.config()
        cls = model_class(self.task.kind, config)
        if "quantization_config" in options:
            keep_whole(options["quantization_config"], cls, self.config())
        model, fresh = self._from_pretrained(cls, config, options)
        if self.budget.dropout is not None:
            keep_head_dropout(model, self.config(dropout=False))
        return model, fresh | self._of_other_classes(model, fresh)

    def _of_other_classes(self, model: Any, fresh: set[str]) -> set[str]:
        """The parameters of a checkpoint's head whose rows are for other classes than the task's, which must be fresh.

        Rows for the same classes are put into the task's order.
        """
        if self.task.kind not in CLASSIFIERS or not head_names(model) - fresh:
            return set()
        if not (outputs := class_outputs(model) - fresh):
            return set()
        if not self.task.labels:
            self._told.append("the checkpoint has a head for a number, from which training starts")
            return set()
        there = self._pretrained_config().id2label
        order = order_of(self.task.labels, there)
        if order is None:
            known = ", ".join(list(there.values())[:5]) + (", ..." if len(there) > 5 else "")
            self._told.append(f"the checkpoint's head is for other classes ({known}), and its output layer drawn anew")
            return outputs
        for parameter in (p for name, p in model.named_parameters() if name in outputs):
            parameter.data = parameter.data[order]
        self._told.append("the checkpoint's head is for the same classes, and training starts from it")
        return set()

    def _mean(self, options: dict[str, Any]) -> tuple[nn.Module, set[str]]:
        from adapt.backbones.heads import MeanPoolingClassifier, head_dropout  # imports torch

        config, advice = self.config(), "mean pooling is for encoders; use pooling='native' for encoder-decoders"
        if getattr(config, "is_encoder_decoder", False):  # before its weights are read
            raise Unsupported(advice)
        base, fresh = self._base(config, options)
        if encoder_of(base) is not base:
            raise Unsupported(advice)
        dropout = head_dropout(self.config(dropout=False))
        model = MeanPoolingClassifier(base, max(len(self.task.labels), 1), dropout)
        return model, {f"{name_of_base(model)}.{name}" for name in fresh} | head_names(model)

    def _base(self, config: Any, options: dict[str, Any]) -> tuple[nn.Module, set[str]]:
        """The pretrained part without a pooler, and the names of its fresh parameters."""
        cls = base_class(config)
        if "add_pooling_layer" in signature(cls.__init__).parameters:
            options = {**options, "add_pooling_layer": False}
        return self._from_pretrained(cls, config, options)

    def _from_pretrained(self, cls: Any, config: Any, options: dict[str, Any]) -> tuple[nn.Module, set[str]]:
        """The model and the names of its fresh parameters; a head of another shape than the checkpoint's is fresh."""
        from safetensors import SafetensorError

        options = {**options, "attn_implementation": self.attention_of(cls), "ignore_mismatched_sizes": True}
        if self.quantised() is not None:  # which transformers reads from the configuration alone
            config.quantization_config = options.pop("quantization_config").to_dict()
        names = renaming(cls, config)
        if names:
            options["key_mapping"] = names
        try:
            with failures() as causes:
                model, info = cls.from_pretrained(
                    self.backbone.path, config=config, output_loading_info=True, **options
                )
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            if is_out_of_memory(error):
                raise
            cause = causes[0] if causes else str(error)
            if tells_of_memory(cause):
                raise MemoryError(cause) from error
            if causes and "quantization_config" in options:
                raise Unsupported(f"the weights of {self.backbone.reference} cannot be quantised: {cause}") from error
            raise AdaptError(f"Backbone {self.backbone.reference} cannot be loaded: {cause}") from error
        if names and hasattr(model, "_weight_conversions"):
            del model._weight_conversions  # saving would undo the renaming, and transformers not find its weights again
        missing, other = set(info["missing_keys"]), {name for name, *_ in info["mismatched_keys"]}
        check_weights(model, self.task.kind, self.backbone.reference, missing, other)
        tables = computed(model)
        for table in tables:
            model.get_parameter(table).requires_grad_(False)
        self._told.extend(left_out(model, self.backbone, info["unexpected_keys"]))
        if reads_padding(config):
            self._told.append(
                f"'{config.model_type}' reads padding: what it makes of a row depends on how long others of its batch "
                "are"
            )
        return model, (missing | other) - tables


def _options(dtype: Any) -> dict[str, Any]:
    """Options of `from_pretrained` that hold for every model."""
    return {"dtype": dtype, "local_files_only": True, "trust_remote_code": False, "use_safetensors": True}
