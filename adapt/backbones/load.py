"""Loads a backbone with a task's fresh head: precision, quantisation, dropout, attention kernel, initialisation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adapt.backbones.source import Backbone
from adapt.spec import AdaptError, Budget, Task, Unsupported

if TYPE_CHECKING:
    import torch
    from torch import nn

_DROPOUT_FIELDS = (
    "hidden_dropout_prob", "attention_probs_dropout_prob", "hidden_dropout", "dropout", "attention_dropout",
    "activation_dropout", "pooler_dropout", "embedding_dropout", "mlp_dropout", "resid_pdrop", "embd_pdrop",
    "attn_pdrop", "dropout_rate",
)  # fmt: skip


@dataclass(frozen=True)
class Loader:
    """Callable that a strategy's `build` receives; loads the same head bits for every strategy of a seed."""

    backbone: Backbone
    task: Task
    budget: Budget
    seed: int

    def __call__(
        self, *, frozen: bool = False, output_layer: bool = False, quantization_config: Any = None
    ) -> nn.Module:
        """Load the backbone with a fresh head for the task.

        Args:
            frozen: The strategy does not train the backbone: its parameters get `requires_grad=False` and are held
                in bfloat16 where the budget's precision is bf16. The head stays trainable, in float32.
            output_layer: A pretrained output layer, that of a language model, is trained too: in float32, and in a
                copy of its own where it is tied to the input embeddings.
            quantization_config: As in transformers' `from_pretrained`; modules of the head are never quantised.

        Returns:
            A model whose call returns an object with `logits` (batch, labels), whose `base_model` is the pretrained
            part, and whose `head_size` counts the head's parameters. Every parameter that the checkpoint does not
            hold is drawn from the seed.

        Raises:
            Unsupported: transformers has no such head for this architecture, or the device cannot quantise.
            AdaptError: The weights cannot be read.
        """
        import torch

        if quantization_config is not None:
            self._check_device(quantization_config)
        low = torch.bfloat16 if frozen and self.budget.precision == "bf16" else torch.float32
        options: dict[str, Any] = {
            "dtype": low,
            "local_files_only": True,
            "trust_remote_code": False,
            "use_safetensors": True,
        }
        if quantization_config is not None:
            options |= {"quantization_config": quantization_config, "device_map": {"": self.budget.device}}
        with _quiet():
            model, fresh = self._mean(options) if self.task.pooling == "mean" else self._native(options)
        head = set(fresh) | _outside_base(model)
        self._initialise(model, set(fresh), head)
        model.head_size = sum(  # type: ignore[assignment]
            p.numel() for name, p in model.named_parameters() if name in head
        )
        if frozen:
            for name, parameter in model.named_parameters():
                parameter.requires_grad_(name in head)
        return model.to(self.budget.device) if quantization_config is None else model

    def _check_device(self, quantization_config: Any) -> None:
        import torch

        if self.budget.device != "cuda" or torch.version.hip:
            return
        bits, needed = (8, (7, 5)) if quantization_config.load_in_8bit else (4, (6, 0))
        found = torch.cuda.get_device_capability()
        if found < needed:
            raise Unsupported(
                f"{bits}-bit weights need a CUDA device of compute capability {needed[0]}.{needed[1]} or above, and "
                f"this one has {found[0]}.{found[1]}; use --device cpu, or a strategy that does not quantise"
            )

    @property
    def notes(self) -> list[str]:
        """What a reader of the result must be told about how the backbone was loaded."""
        return []

    def attention(self) -> str:
        """The attention kernel: eager for short rows on the CPU, where it trains faster than sdpa; else sdpa."""
        return "eager" if self.budget.device == "cpu" and self.task.max_length <= 256 else "sdpa"

    def tokenizer(self) -> Any:
        """The backbone's tokenizer.

        Raises:
            AdaptError: It cannot be loaded.
        """
        from transformers import AutoTokenizer

        try:
            return AutoTokenizer.from_pretrained(self.backbone.path, local_files_only=True, trust_remote_code=False)
        except Exception as error:
            raise AdaptError(
                f"The tokenizer of backbone {self.backbone.reference} cannot be loaded: {error}"
            ) from error

    def config(self) -> Any:
        """The model's configuration with the task's labels and the budget's dropout; the head keeps its own."""
        from transformers import AutoConfig

        config = AutoConfig.from_pretrained(self.backbone.path, local_files_only=True, trust_remote_code=False)
        config.num_labels = max(len(self.task.labels), 1)
        if self.budget.dropout is not None:
            from adapt.backbones.heads import HEAD_DROPOUT_FIELDS, head_dropout

            head = head_dropout(config)
            for name in HEAD_DROPOUT_FIELDS:  # also those it lacks: DeBERTa's head would fall back to the backbone's
                setattr(config, name, head)
            for name in _DROPOUT_FIELDS:
                if getattr(config, name, None) is not None:
                    setattr(config, name, self.budget.dropout)
        return config

    def _native(self, options: dict[str, Any]) -> tuple[nn.Module, list[str]]:
        from transformers import AutoModelForSequenceClassification

        config = self.config()
        try:
            cls = AutoModelForSequenceClassification._model_mapping[type(config)]
        except KeyError as error:
            raise Unsupported(
                f"transformers has no sequence classification head for '{self.backbone.model_type}'"
            ) from error
        if "quantization_config" in options:
            options["quantization_config"].llm_int8_skip_modules = self._head_modules(cls, config)
        return self._from_pretrained(cls, config, options)

    def _head_modules(self, cls: Any, config: Any) -> list[str]:
        """Full names of the modules of the head, and of the pooler, which many checkpoints lack."""
        import torch

        with torch.device("meta"):
            model = cls(config)
        head = _outside_base(model) | {name for name, _ in model.named_parameters() if "pooler" in name.split(".")}
        return sorted({name.rpartition(".")[0] for name in head})

    def _mean(self, options: dict[str, Any]) -> tuple[nn.Module, list[str]]:
        from inspect import signature

        from transformers import MODEL_MAPPING

        from adapt.backbones.heads import MeanPoolingClassifier  # imports torch

        config = self.config()
        if getattr(config, "is_encoder_decoder", False):
            raise Unsupported("mean pooling is for encoders; use pooling='native' for encoder-decoders")
        cls = MODEL_MAPPING[type(config)]
        if isinstance(cls, tuple):
            cls = cls[0]
        if "add_pooling_layer" in signature(cls.__init__).parameters:
            options = {**options, "add_pooling_layer": False}
        base, fresh = self._from_pretrained(cls, config, options)
        model = MeanPoolingClassifier(base, max(len(self.task.labels), 1))
        prefix = next(name for name, module in model.named_modules() if module is base)
        return model, [f"{prefix}.{name}" for name in fresh] + sorted(_outside_base(model))

    def _from_pretrained(self, cls: Any, config: Any, options: dict[str, Any]) -> tuple[nn.Module, list[str]]:
        """The model and the names of its fresh parameters; a head of another shape than the checkpoint's is fresh."""
        from safetensors import SafetensorError

        kernel = self.attention() if cls._supports_sdpa else "eager"
        options = {**options, "attn_implementation": kernel, "ignore_mismatched_sizes": True}
        try:
            model, info = cls.from_pretrained(self.backbone.path, config=config, output_loading_info=True, **options)
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise AdaptError(f"Backbone {self.backbone.reference} cannot be loaded: {error}") from error
        outside = _outside_base(model)
        other = sorted(name for name, *_ in info["mismatched_keys"])
        if set(other) - outside:
            raise AdaptError(
                f"Backbone {self.backbone.reference}: weights do not fit the configuration: {', '.join(other[:5])}"
            )
        lost = sorted(n for n in info["missing_keys"] if n not in outside and "pooler" not in n.split("."))
        if lost:
            raise AdaptError(
                f"Backbone {self.backbone.reference}: its weights lack {', '.join(lost[:5])}, which would be random; "
                "give the folder of a model that is pretrained whole"
            )
        return model, sorted({*info["missing_keys"], *other})

    def _initialise(self, model: nn.Module, fresh: set[str], head: set[str]) -> None:
        """Draw fresh parameters from the seed alone, alike under every strategy; the head becomes float32."""
        import torch

        generator = torch.Generator().manual_seed(self.seed)
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


def _outside_base(model: Any) -> set[str]:
    """Names of the parameters that are not in the pretrained part: the head."""
    inside = {id(p) for p in model.base_model.parameters()}
    return {name for name, p in model.named_parameters() if id(p) not in inside}


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' progress bars and its report on a missing head, which is meant to be missing."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
