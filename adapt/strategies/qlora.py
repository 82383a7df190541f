"""QLoRA: LoRA beside weights quantised to 8 or 4 bits by bitsandbytes."""

from __future__ import annotations

import importlib.util
import logging
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from adapt.backbones.slow_imports import import_bitsandbytes
from adapt.display import shows_fields
from adapt.spec import Load, Task, Unsupported
from adapt.strategies.lora import LoRA

_EXPECTED = {
    "bitsandbytes.autograd._functions": "MatMul8bitLt: inputs will be cast",
    "bitsandbytes.backends.cpu.ops": "Failed to load CPU gemm_4bit_forward",
}
"""What bitsandbytes warns of at every product or import and nobody can act on: logger to start of message."""


def _unexpected(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith(_EXPECTED[record.name])


for _logger in _EXPECTED:
    logging.getLogger(_logger).addFilter(_unexpected)


@shows_fields
@dataclass(frozen=True)
class QLoRA(LoRA):
    """LoRA on a backbone held in 8 bits (Dettmers et al. 2022) or 4-bit NormalFloat (Dettmers et al. 2023)."""

    name: ClassVar[str] = "qlora"
    learning_rate: float = 2e-3
    """Peak learning rate."""
    bits: Literal[8, 4] = 8
    """8: LLM.int8(); 4: nf4 with double quantisation; of linear layers. Embeddings, the head, poolers, T5's `wo` and
    experts that are held as one tensor stay as they are."""

    def build(self, load: Load, task: Task) -> Any:
        """Load the backbone quantised, the head in float32, and add trainable low-rank branches.

        Raises:
            Unsupported: bitsandbytes is not installed, cannot quantise here, or finds nothing to quantise; or DoRA is
                asked for with 8 bits.
            OptionError: As for LoRA.
        """
        from adapt.backbones.checkpointing import weight_bits
        from adapt.backbones.lower import memoise_lower

        self.check()
        if self.dora and self.bits == 8:
            raise Unsupported(
                "DoRA fails beside 8-bit weights, whose scale PEFT reads before bitsandbytes has set it; "
                "use 4 bits, or LoRA with DoRA"
            )
        model = load(frozen=True, quantization_config=self._quantization())
        if weight_bits(model) is None:
            raise Unsupported(
                f"bitsandbytes holds no layer of '{model.config.model_type}' in {self.bits} bits, for none is a linear "
                "layer of torch's own class; use LoRA"
            )
        _keep_layout(model)
        memoise_lower(model, self._inject(model))
        return model

    def _as_trained(self, plain: Any, model: Any) -> None:
        """Of 4 bits W is what these stand for, which the branches have made up for: other weights predict otherwise.
        Of 8 bits, which lose little, it is the weight as it was before."""
        if self.bits == 8:
            return
        import_bitsandbytes()
        from bitsandbytes.functional import dequantize_4bit
        from transformers.pytorch_utils import Conv1D

        from adapt.backbones.lower import Lower

        lower = [name for name, module in model.named_modules() if isinstance(module, Lower)]
        for name, weight in model.named_parameters():
            state = getattr(weight, "quant_state", None)
            if state is None:
                continue
            inside = next((n for n in lower if name.startswith(f"{n}.layer.")), None)
            own = name if inside is None else inside + name.removeprefix(f"{inside}.layer")
            layer = plain.get_submodule(own.removesuffix(".weight"))
            found = dequantize_4bit(weight.data, state)
            layer.weight.data.copy_(found.t() if isinstance(layer, Conv1D) else found)

    def exported_for(self, precision: str) -> str:
        """As for LoRA, and how it is quantised."""
        how = "8 bits (LLM.int8())" if self.bits == 8 else "4 bits (nf4, double quantisation)"
        return f"{how}, what is not quantised in {super().exported_for(precision)}"

    def base_in_code(self, model: Any) -> list[str]:
        """Lines of Python that say how the backbone under an exported adapter is quantised, and what of it is not.

        transformers by itself quantises heads that end in a bias, and poolers that the checkpoint lacks; the forward
        pass of these fails.
        """
        how = model.base_model.config.quantization_config
        kept = [*(how.llm_int8_skip_modules or []), *([] if hasattr(model, "base_model_prefix") else ["pooler"])]
        said: dict[str, Any] = {f"load_in_{self.bits}bit": True, "llm_int8_skip_modules": kept}
        if self.bits == 4:
            said |= {"bnb_4bit_quant_type": how.bnb_4bit_quant_type}
            said |= {"bnb_4bit_use_double_quant": how.bnb_4bit_use_double_quant}
            said |= {"bnb_4bit_compute_dtype": str(how.bnb_4bit_compute_dtype).removeprefix("torch.")}
        fields = [f"    {name}={value!r}," for name, value in said.items()]
        return [
            "from transformers import BitsAndBytesConfig",
            "",
            "quantization_config = BitsAndBytesConfig(",
            *fields,
            ")",
        ]

    def _quantization(self) -> Any:
        from transformers import BitsAndBytesConfig

        import_bitsandbytes()
        if importlib.util.find_spec("bitsandbytes") is None:
            raise Unsupported("quantised loading needs the package bitsandbytes: pip install bitsandbytes")
        if self.bits == 8:
            return BitsAndBytesConfig(load_in_8bit=True)
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
        )


def _keep_layout(model: Any) -> None:
    """Forbid bitsandbytes to repack 4-bit weights in place at the first evaluation, after which training fails."""
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
