"""Models of a shape with random weights, made on the device: nothing is read from disk."""

from typing import Any


def random_weights(task: Any, setting: Any) -> Any:
    """A loader of models with random weights on the budget's device, quantised there where that is asked for."""
    import torch
    from torch import nn

    from adapt.backbones.load import Loader
    from adapt.memory.blueprint import Blueprint

    class Random(Blueprint):
        def _place(self, model: nn.Module, quantised: bool) -> nn.Module:
            return Loader._place(self, model, quantised)

        def _from_pretrained(self, cls: Any, config: Any, options: dict[str, Any]) -> tuple[nn.Module, set[str]]:
            meta, fresh = super()._from_pretrained(cls, config, options)
            device, before = self.budget.device, torch.get_default_dtype()
            torch.set_default_dtype(options["dtype"])
            try:
                with torch.device(device):
                    extra = {} if options.get("add_pooling_layer", True) else {"add_pooling_layer": False}
                    model = cls(config, **extra)
            finally:
                torch.set_default_dtype(before)
            for name, layer in list(meta.named_modules()):
                if type(layer).__name__ in ("Linear8bitLt", "Linear4bit"):
                    old = model.get_submodule(name)
                    kind, kept = type(layer.weight), dict(layer.weight.__dict__)
                    transposed = type(old).__name__ == "Conv1D"
                    values = (old.weight.data.t() if transposed else old.weight.data).contiguous().cpu()
                    names = ("blocksize", "compress_statistics", "quant_type", "quant_storage", "has_fp16_weights")
                    layer.weight = kind(values, requires_grad=False, **{n: kept[n] for n in names if n in kept})
                    if layer.bias is not None:
                        layer.bias = nn.Parameter(old.bias.data, requires_grad=False)
                    model.set_submodule(name, layer.to(device))
            for name in ("is_loaded_in_8bit", "is_loaded_in_4bit", "is_quantized"):
                if hasattr(meta, name):
                    setattr(model, name, getattr(meta, name))
            model.tie_weights()
            return model.eval(), fresh

    return Random(None, task, setting.budget, 0, setting.shape.config)  # type: ignore[arg-type]
