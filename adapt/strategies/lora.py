"""LoRA: low-rank updates beside frozen linear layers, by PEFT."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from adapt.backbones.families import family_of
from adapt.spec import Load, OptionError, Task

if TYPE_CHECKING:
    from torch import nn

Targets = tuple[str, ...] | str


@dataclass(frozen=True)
class LoRA:
    """Add s·B·A to frozen weights, A and B of low rank (Hu et al. 2021, section 4).

    Switches: rank-stabilised scaling (Kalajdzievski 2023) and weight decomposition (DoRA, Liu et al. 2024).
    """

    name: ClassVar[str] = "lora"
    learning_rate: float = 2e-3
    """Peak learning rate."""
    rank: int = 8
    """Rank r of the update."""
    alpha: float = 16.0
    """The update is scaled by alpha / rank, or alpha / sqrt(rank) with rsLoRA."""
    dropout: float = 0.0
    """Dropout on the input of the update branch."""
    targets: Targets = "all-linear"
    """`attention` (query and value), `all-linear` (each linear layer of the backbone), or module names."""
    rslora: bool = False
    """Scale by alpha / sqrt(rank)."""
    dora: bool = False
    """Learn the magnitude of each weight's columns apart from their direction."""

    def build(self, load: Load, task: Task) -> Any:
        """Load the model frozen and add trainable low-rank branches to the backbone's linear layers.

        Raises:
            OptionError: A field is out of range, or a target name matches no linear layer.
        """
        self._check()
        model = load(frozen=True)
        self._inject(model)
        return model

    def export(self, model: Any, folder: Path, reference: str) -> None:
        """Write the adapter in PEFT's format (`adapter_config.json`, `adapter_model.safetensors`).

        It loads with `peft.PeftModel.from_pretrained` on what transformers calls the backbone: `AutoModel` under
        mean pooling, else `AutoModelForSequenceClassification`, whose head, with a pooler that the checkpoint lacked,
        is then in the file too.
        """
        from peft import get_peft_model_state_dict
        from safetensors.torch import save_file

        base = model.base_model
        inner = getattr(model, "base_model_prefix", "")
        prefix = f"base_model.model.{inner}." if inner else "base_model.model."
        config = base.peft_config["default"]
        state = {
            prefix + name: value.detach().cpu().contiguous()
            for name, value in get_peft_model_state_dict(base, state_dict=base.state_dict()).items()
        }
        # PEFT shortens the names it targets to suffixes, which may match modules of the head as well
        targets = sorted({name.removeprefix("base_model.model.").split(".lora_")[0] for name in state})
        values = {
            **config.to_dict(),
            "base_model_name_or_path": reference,
            "inference_mode": True,
            "target_modules": targets,
        }
        if inner:
            fresh = {n: p for n, p in model.named_parameters() if p.requires_grad and ".lora_" not in n}
            state |= {f"base_model.model.{n}": p.detach().cpu().contiguous() for n, p in fresh.items()}
            modules = {n.rpartition(".")[0] if n.startswith(f"{inner}.") else n.split(".")[0] for n in fresh}
            values |= {"task_type": "SEQ_CLS", "modules_to_save": sorted(modules)}
        folder.mkdir(parents=True, exist_ok=True)
        save_file(state, folder / "adapter_model.safetensors", metadata={"format": "pt"})
        text = json.dumps(values, indent=2, sort_keys=True, default=_plain)
        (folder / "adapter_config.json").write_text(text + "\n", encoding="utf-8")

    def _check(self) -> None:
        if self.rank < 1:
            raise OptionError(f"{self.name}.rank is {self.rank}; give at least 1.")
        if not 0.0 <= self.dropout < 1.0:
            raise OptionError(f"{self.name}.dropout is {self.dropout}; give a number from 0 to below 1.")

    def _inject(self, model: Any) -> None:
        import torch
        from peft import LoraConfig, inject_adapter_in_model

        base = model.base_model
        for flag in ("is_loaded_in_8bit", "is_loaded_in_4bit"):
            if getattr(model, flag, False):
                setattr(base, flag, True)
        fresh = {id(p) for p in base.parameters() if p.requires_grad}
        config = LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=target_names(base, self.targets, self.name),
            use_rslora=self.rslora,
            use_dora=self.dora,
        )
        inject_adapter_in_model(config, base)
        for parameter in base.parameters():
            if id(parameter) in fresh:  # PEFT froze what was fresh inside the base
                parameter.requires_grad_(True)
            if parameter.requires_grad:  # and made its own in the dtype of the frozen weights
                parameter.data = parameter.data.float()
        if base.dtype != torch.float32:  # autocast does the casting: no detour of each input through float32
            for module in base.modules():
                if hasattr(module, "cast_input_dtype_enabled"):
                    module.cast_input_dtype_enabled = False


def target_names(base: Any, targets: Targets, strategy: str) -> list[str]:
    """Full names of the linear layers of `base` that `targets` means; layers being trained anyway are left out.

    Raises:
        OptionError: A name matches no linear layer; the message lists what there is.
    """
    linear = _linear_layers(base)
    if targets == "all-linear":
        return sorted(linear)
    if targets == "attention":
        wanted: tuple[str, ...] = family_of(base.config.model_type).query_value
    else:
        wanted = (targets,) if isinstance(targets, str) else tuple(targets)
    found = {w: [n for n in linear if n == w or n.endswith("." + w)] for w in wanted}
    lost = [w for w, names in found.items() if not names]
    if lost:
        kinds = sorted({".".join(part for part in name.split(".") if not part.isdigit()) for name in linear})
        raise OptionError(
            f"{strategy}.targets names {', '.join(map(repr, lost))}, which no linear layer of the backbone is "
            f"called; there are: {', '.join(kinds)}."
        )
    return sorted({name for names in found.values() for name in names})


def _linear_layers(base: nn.Module) -> Mapping[str, nn.Module]:
    from torch import nn

    return {
        name: module
        for name, module in base.named_modules()
        if isinstance(module, nn.Linear)
        and "pooler" not in name.split(".")
        and not any(p.requires_grad for p in module.parameters())
    }


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, (set, frozenset)) else getattr(value, "value", str(value))
