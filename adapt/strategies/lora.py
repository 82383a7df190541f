"""LoRA: low-rank updates beside frozen linear layers, by PEFT."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from adapt import params
from adapt.backbones.classes import output_layer, renaming, shared_parameters
from adapt.backbones.families import family_of, is_projection
from adapt.backbones.slow_imports import import_bitsandbytes
from adapt.backbones.source import on_hub
from adapt.display import shows_fields
from adapt.files import writable_folder, write_atomically
from adapt.spec import FieldError, Load, OptionError, Task, Unsupported
from adapt.strategies.checks import check_words

if TYPE_CHECKING:
    from torch import nn

    from adapt.backbones.lower import UpperLayers

Targets = tuple[str, ...] | str
_TASK_TYPES = {
    "sequence_classification": "SEQ_CLS",
    "token_classification": "TOKEN_CLS",
    "question_answering": "QUESTION_ANS",
    "seq2seq": "SEQ_2_SEQ_LM",
    "causal_lm": "CAUSAL_LM",
}
"""What PEFT calls the task kinds; it has no name for masked LM."""


@shows_fields
@dataclass(frozen=True)
class LoRA:
    """Add s·B·A to frozen weights, A and B of low rank (Hu et al. 2021, section 4).

    Switches: rank-stabilised scaling (Kalajdzievski 2023) and weight decomposition (DoRA, Liu et al. 2024).
    """

    name: ClassVar[str] = "lora"
    learning_rate: float = 2e-3
    """Peak learning rate."""
    rank: int = 16
    """Rank r of the update."""
    alpha: float = 16.0
    """The update is scaled by alpha / rank, or alpha / sqrt(rank) with rsLoRA."""
    dropout: float = field(default=0.0, metadata={"course": True})
    """Dropout on the input of the update branch."""
    targets: Targets = "all-linear"
    """`attention` (query and value), `all-linear` (each linear layer of the backbone; experts that are held as one
    tensor are none), or module names."""
    rslora: bool = False
    """Scale by alpha / sqrt(rank)."""
    dora: bool = False
    """Learn the magnitude of each output's weights apart from their direction."""
    layers: str = field(default="all", metadata={"neutral": "all"})
    """`all`, or `last:N`: only the N uppermost layers are adapted, and what lies below them is computed once a row."""
    embedding_rank: int = field(default=0, metadata={"neutral": 0})
    """Rank of an update of the word embeddings, for words that the backbone knows too little of; 0: none."""
    embedding_rate: float = field(default=5e-4, metadata={"neutral": 5e-4, "course": True})
    """Peak learning rate of that update, whatever that of the rest is."""

    def __post_init__(self) -> None:
        if isinstance(self.targets, str) and self.targets not in ("all-linear", "attention"):
            object.__setattr__(self, "targets", (self.targets,))

    def build(self, load: Load, task: Task) -> Any:
        """Load the model frozen and add trainable low-rank branches to the backbone's linear layers.

        Raises:
            OptionError: A field is out of range, or a target name matches no linear layer, or one that PEFT refuses or
                takes for another.
            Unsupported: The backbone has no linear layers, or word embeddings are to be updated, which more than one
                module looks up.
        """
        from adapt.backbones.lower import memoise_lower

        self.check()
        model = load(frozen=True)
        memoise_lower(model, self._inject(model))
        return model

    def exported_for(self, precision: str) -> str:
        """How the backbone is held that an exported adapter was trained on, in words; `precision`: the budget's."""
        return "bfloat16" if precision == "bf16" else "float32"

    def beside_export(self, model: Any) -> list[str]:
        """What must be said to who puts an exported adapter on the backbone with PEFT."""
        if _TASK_TYPES.get(model.task_kind) != "QUESTION_ANS":
            return []
        said = ["Call the loaded model's get_base_model(), for PEFT's class for question answering drops segment ids."]
        renamed = renaming(type(model), model.config)
        return [*said, f"Load the backbone with key_mapping={renamed!r}."] if renamed else said

    def export(self, model: Any, folder: Path, reference: str) -> None:
        """Write the adapter in PEFT's format (`adapter_config.json`, `adapter_model.safetensors`).

        It loads with `peft.PeftModel.from_pretrained` on what transformers calls the backbone: `AutoModel` under
        mean pooling, else the class for the task kind (`AutoModelForTokenClassification`, ...). The head is then in
        the file too, with a pooler that the checkpoint lacked; that of a language model only where it was drawn anew,
        with the word embeddings that are its output layer.

        Load the backbone as the model's card says (transformers takes the dtype of the checkpoint unless it is told),
        without which predictions differ, most of all those of QLoRA in 4 bits. The head's outputs are
        in the order of the card's labels, whatever the backbone's own configuration calls them. A decoder that
        classifies finds the end of a row by `model.config.pad_token_id`, which the card names where it is to be set.

        For question answering take the loaded model's `get_base_model()`, for PEFT's own class drops segment ids; and
        on Llama and Qwen3 load the backbone with the `key_mapping` of the card, without which transformers leaves all
        of it random.

        Raises:
            OptionError: A file cannot be written.
        """
        import_bitsandbytes()
        from peft import get_peft_model_state_dict

        from adapt.strategies.word_embeddings import updated_embedding

        base = model.base_model
        native = hasattr(model, "base_model_prefix")
        inner = next((f"{name}." for name, module in model.named_children() if native and module is base), "")
        weights = get_peft_model_state_dict(base, state_dict=base.state_dict())
        state = {inner + name: value for name, value in weights.items()}
        backbone, revision = (reference, None) if Path(reference).is_absolute() else on_hub(reference)
        settings = {
            **base.peft_config["default"].to_dict(),
            "base_model_name_or_path": backbone,
            "revision": revision,
            "inference_mode": True,
        }
        words = updated_embedding(base)
        if words is not None:
            name, table = inner + words[0], words[1]
            state |= {
                f"{name}.lora_embedding_A": table.coefficients.detach().t(),
                f"{name}.lora_embedding_B": table.directions.detach().t(),
            }
            rank = table.directions.shape[0]
            settings["rank_pattern"] = {name: rank}
            settings["alpha_pattern"] = {name: rank**0.5 if self.rslora else rank}  # a scale of one
        # PEFT shortens the names it targets to suffixes, which may match modules of the head as well
        settings["target_modules"] = sorted({name.split(".lora_")[0] for name in state})
        if native:
            head = model.head_names
            modules = {n.rpartition(".")[0] if inner and n.startswith(inner) else n.split(".")[0] for n in head}
            for module in modules:  # whole, as PEFT reads them
                state |= {f"{module}.{n}": value for n, value in model.get_submodule(module).state_dict().items()}
            settings["task_type"] = _TASK_TYPES.get(model.task_kind)
            settings["modules_to_save"] = sorted(modules) or None
        tensors = {f"base_model.model.{n}": value.to("cpu", copy=True).contiguous() for n, value in state.items()}
        params.write(tensors, writable_folder(folder) / "adapter_model.safetensors")
        text = json.dumps(settings, indent=2, sort_keys=True, default=_plain)
        write_atomically(folder / "adapter_config.json", text + "\n")

    def merge(self, model: Any, load: Load) -> Any:
        """A model as transformers has it: W + s·B·A in place of W.

        Word embeddings that were updated are no longer those of an output layer that shared them.

        Args:
            model: The trained model.
            load: Loads in float32.

        Raises:
            Unsupported: Layers that are adapted each by itself have a weight in common.
        """
        from adapt.strategies.word_embeddings import merge_word_embeddings

        plain = load(frozen=True)
        self._inject(plain)
        params.fill(plain, params.trainable_state(model), "the trained state")
        self._as_trained(plain, model)
        base, shared = plain.base_model, shared_parameters(plain)
        for name, layer in [(n, m) for n, m in base.named_modules() if hasattr(m, "lora_A")]:
            if id(layer.get_base_layer().weight) in shared:
                raise Unsupported(
                    f"'{self.name}' cannot be merged: '{base.config.model_type}' has the weight of {name} in other "
                    "layers, too, whose update is not the same; keep the saved model"
                )
            layer.merge()
            base.set_submodule(name, layer.get_base_layer())
        del base.peft_config
        merge_word_embeddings(plain)
        return plain

    def _as_trained(self, plain: Any, model: Any) -> None:
        """Set the weights of `plain` to those that the branches of `model` were trained beside, where they are not."""

    def check(self) -> None:
        """
        Raises:
            OptionError: A field is out of range, or two do not go together, whatever the backbone.
        """
        if self.rank < 1:
            raise OptionError(f"{self.name}.rank is {self.rank}; give at least 1.")
        if not math.isfinite(self.alpha) or self.alpha <= 0:
            raise OptionError(f"{self.name}.alpha is {self.alpha}; give a finite number above zero, such as the rank.")
        if not 0.0 <= self.dropout < 1.0:
            raise OptionError(f"{self.name}.dropout is {self.dropout}; give a number from 0 to below 1.")
        check_words(self)
        if self.dora and self.embedding_rank:
            raise OptionError(
                f"{self.name}.dora splits each weight into size and direction, which {self.name}.embedding_rank does "
                "not; set one of them."
            )

    def _inject(self, model: Any) -> UpperLayers | None:
        """Add the branches to a model loaded frozen, in place; gives the layers that have them, None for all."""
        import torch

        from adapt.backbones.lower import upper_layers
        from adapt.strategies.word_embeddings import update_word_embeddings

        base = model.base_model
        upper = upper_layers(model, self.layers, self.name)
        linear = _linear_layers(model)
        names = [n for n in self._target_names(linear, base.config.model_type) if upper is None or n in upper]
        if not names:
            raise FieldError(
                f"{self.name}.targets={self.targets!r} with layers='{self.layers}' leaves no linear layer to adapt; "
                "name some of these layers, or set targets='all-linear'."
            )
        fresh = {id(p) for p in base.parameters() if p.requires_grad}
        self._add_branches(model, names, {name.rpartition(".")[2] for name in linear})
        for parameter in base.parameters():
            if id(parameter) in fresh:  # PEFT froze what was fresh inside the base
                parameter.requires_grad_(True)
            if parameter.requires_grad:  # and made its own in the dtype of the frozen weights
                parameter.data = parameter.data.float()
        if base.dtype != torch.float32 and not self.dora:  # autocast casts: no detour of each input through float32
            for module in base.modules():
                if hasattr(module, "cast_input_dtype_enabled"):
                    module.cast_input_dtype_enabled = False
        update_word_embeddings(model, self.embedding_rank, self.embedding_rate)
        return upper

    def _target_names(self, linear: Collection[str], model_type: str) -> list[str]:
        """Those of the names of linear layers that `targets` means, sorted.

        Raises:
            FieldError: A name matches no linear layer; the message lists what there is.
            Unsupported: There are no linear layers, or `attention` is asked for in an architecture whose layers are
                not known.
        """
        if not linear:
            raise Unsupported(f"'{model_type}' has no linear layers that {self.name} could adapt; use another strategy")
        if self.targets == "all-linear":
            return sorted(linear)
        if self.targets == "attention":
            wanted = family_of(model_type).query_value
        else:
            wanted = (self.targets,) if isinstance(self.targets, str) else tuple(self.targets)
        found = {w: [n for n in linear if n == w or n.endswith("." + w)] for w in wanted}
        lost = [w for w, names in found.items() if not names]
        some = self.targets == "attention" and len(lost) < len(wanted)  # T5's encoder alone has no cross-attention
        if lost and not some:
            kinds = sorted({".".join(part for part in name.split(".") if not part.isdigit()) for name in linear})
            raise FieldError(
                f"{self.name}.targets names {', '.join(map(repr, lost))}, which no linear layer of the backbone that "
                f"can be adapted is called; there are: {', '.join(kinds)}."
            )
        return sorted({name for names in found.values() for name in names})

    def _add_branches(self, model: Any, names: Sequence[str], known: Set[str]) -> None:
        """Have PEFT put its layers in place of those that are named, and ours in place of its where these are faster.

        Args:
            model: Its base model is changed in place.
            names: Within the base model.
            known: What linear layers are called there, for an error.

        Raises:
            FieldError: PEFT refuses one of them, or takes it for another.
        """
        import_bitsandbytes()
        from peft import LoraConfig, inject_adapter_in_model
        from torch import nn
        from transformers.pytorch_utils import Conv1D

        from adapt.strategies.lora_layer import LoRALinear

        base = model.base_model
        flags = ("is_loaded_in_8bit", "is_loaded_in_4bit")
        quantised = [flag for flag in flags if getattr(model, flag, False) or getattr(base, flag, False)]
        for flag in quantised:
            setattr(base, flag, True)
        config = LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=names,
            use_rslora=self.rslora,
            use_dora=self.dora,
            # GPT-2 keeps its weights transposed, until they are quantised
            fan_in_fan_out=not any(isinstance(base.get_submodule(name), nn.Linear) for name in names),
        )
        if not quantised and not self.dora:
            config._register_custom_module(dict.fromkeys((nn.Linear, Conv1D), LoRALinear))
        try:
            inject_adapter_in_model(config, base)
        except ValueError as error:  # such as layers of Mamba whose weights are read past their forward pass
            raise FieldError(
                f"{self.name}.targets={self.targets!r} does not go with '{base.config.model_type}', whose linear "
                f"layers are {', '.join(sorted(known))}; name others of them. PEFT says: {error}"
            ) from error
        lost = {n.rpartition(".")[2] for n in names if not hasattr(base.get_submodule(n), "lora_A")}
        if lost:  # PEFT takes names for what transformers called so in earlier versions
            raise FieldError(
                f"{self.name}.targets={self.targets!r} has {', '.join(sorted(lost))}, by which PEFT means the routed "
                f"experts of '{base.config.model_type}', whose linear layers of these names stay as they are; name "
                f"others: {', '.join(sorted(known - lost))}."
            )
        if self.dora:
            _norms_in_float32(base, names, quantised=bool(quantised))
        if "is_loaded_in_8bit" in quantised:
            from adapt.strategies.lora_int8_layer import fuse_8_bit

            fuse_8_bit(base)


def _norms_in_float32(base: Any, names: Sequence[str], *, quantised: bool) -> None:
    """Have DoRA begin with the norms of weights as they are: PEFT takes those of the weights' dtype, and, where its
    inputs are cast, computes the others in float32. Of quantised layers on CUDA it leaves the sum in that type, too.

    Args:
        base: Its layers of these names have their branches.
        names: Of the layers.
        quantised: Whether bitsandbytes holds their weights.
    """
    import torch
    from peft.utils.integrations import dequantize_module_weight

    for name in names:
        layer = base.get_submodule(name)
        weight = dequantize_module_weight(layer.get_base_layer()).float()
        norm = torch.linalg.norm(weight.T if layer.fan_in_fan_out else weight, dim=1)
        layer.lora_magnitude_vector["default"].weight.data = norm
        if quantised:
            layer.register_forward_hook(lambda module, args, output: output.to(args[0].dtype))


_OUT = ("out_proj",)
_READ_PAST = {
    "mamba": ("x_proj", *_OUT), "falcon_mamba": ("x_proj", *_OUT), "mamba2": _OUT, "falcon_h1": _OUT, "bamba": _OUT,
    "nemotron_h": _OUT, "granitemoehybrid": _OUT, "zamba2": _OUT,
}  # fmt: skip
"""Architecture to the linear layers of its Mamba mixers whose weights mamba_ssm's fused kernels take in training."""


def _linear_layers(model: Any) -> Mapping[str, nn.Module]:
    """Linear layers of the base model by name, but for a pooler's and those of a head, pretrained or new, and for those
    of Mamba whose weights are read past their forward pass, so that a branch would do nothing."""
    last, base = output_layer(model), model.base_model
    past = {"dt_proj", *_READ_PAST.get(base.config.model_type, ())}
    return {
        name: module
        for name, module in base.named_modules()
        if is_projection(module)
        and module is not last
        and "pooler" not in name.split(".")
        and not (name.rpartition(".")[2] in past and hasattr(base.get_submodule(name.rpartition(".")[0]), "A_log"))
        and not any(p.requires_grad for p in module.parameters())
        and not type(module).__name__.endswith("Router")  # whose outputs are two
    }


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, (set, frozenset)) else getattr(value, "value", str(value))
