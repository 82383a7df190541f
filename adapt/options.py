"""From what a user gives to a task and a budget: device, precision, pooling and metric left to us are decided here."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal, get_args, get_type_hints

from adapt.backbones.source import Backbone
from adapt.data import Data
from adapt.metrics import METRICS
from adapt.spec import Budget, OptionError, Source, Strategy, Task

Pooling = Literal["auto", "mean", "native"]


def device_of(device: str) -> Literal["cpu", "cuda"]:
    """`auto` is CUDA where torch finds one.

    Raises:
        OptionError: CUDA is asked for and there is none, or the name is not known.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise OptionError(f"Device '{device}' is not known; choose auto, cpu or cuda.")
    if device == "cpu":
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if device == "cuda":
        raise OptionError("Device 'cuda' was asked for, but torch finds no CUDA device; use --device cpu or auto.")
    return "cpu"


def precision_of(precision: str, device: str) -> Literal["fp32", "bf16"]:
    """`auto` is bf16 where the device multiplies bfloat16 matrices in hardware (AVX512-BF16, AMX, recent GPUs).

    Raises:
        OptionError: The name is not known.
    """
    if precision in ("fp32", "bf16"):
        return precision  # type: ignore[return-value]
    if precision != "auto":
        raise OptionError(f"Precision '{precision}' is not known; choose auto, fp32 or bf16.")
    import torch

    if device == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return "bf16" if any(getattr(torch.cpu, probe, bool)() for probe in probes) else "fp32"


def budget_of(**values: Any) -> Budget:
    """A checked budget; `device` and `precision` may be `auto`.

    Raises:
        OptionError: A value is out of range; the message names it.
    """
    device = device_of(values.pop("device", "auto"))
    precision = precision_of(values.pop("precision", "auto"), device)
    budget = Budget(device=device, precision=precision, **values)
    hints = get_type_hints(Budget)
    if budget.decay not in get_args(hints["decay"]):
        raise OptionError(f"decay is '{budget.decay}'; choose one of {', '.join(get_args(hints['decay']))}.")
    for name, low in (
        ("epochs", 1),
        ("batch_size", 1),
        ("accumulation", 1),
        ("max_steps", 1),
        ("patience", 1),
    ):
        value = getattr(budget, name)
        if value is not None and (not isinstance(value, int) or value < low):
            raise OptionError(f"{name} is {value}; give a whole number of at least {low}.")
    for name in ("warmup", "dropout"):
        value = getattr(budget, name)
        if value is not None and not 0 <= value < 1:
            raise OptionError(f"{name} is {value}; give a number from 0 to below 1.")
    if not budget.clip > 0:
        raise OptionError(f"clip is {budget.clip}; give a number above 0.")
    if not (math.isfinite(budget.weight_decay) and budget.weight_decay >= 0):
        raise OptionError(f"weight_decay is {budget.weight_decay}; give a number of at least 0.")
    if budget.learning_rate is not None:
        check_learning_rate(budget.learning_rate, "The learning rate")
    return budget


def check_learning_rate(value: float, what: str) -> None:
    """
    Raises:
        OptionError: The learning rate is zero, negative, infinite or not a number.
    """
    if not (math.isfinite(value) and value > 0):
        raise OptionError(f"{what} is {value}; give a finite number above zero, such as 1e-4.")


def check_strategy(strategy: Strategy) -> Strategy:
    """
    Raises:
        OptionError: The strategy's learning rate cannot be used.
    """
    check_learning_rate(strategy.learning_rate, f"{strategy.name}.learning_rate")
    return strategy


def task_of(
    data: Data,
    backbone: Backbone,
    *,
    metric: str | None = None,
    max_length: int = 128,
    pooling: Pooling = "auto",
    class_weights: Literal["none", "balanced"] = "none",
    max_train: int | None = None,
    few_shot: int | None = None,
) -> Task:
    """The task that the data poses to the backbone.

    Args:
        data: Rows and labels.
        backbone: Decides what `auto` pooling is: `mean` where its folder says that it is a sentence encoder.
        metric: Validation score that chooses the epoch; None takes the problem's first.
        max_length: Tokens a row is cut to; never more than the backbone has positions.
        pooling: `auto`, `mean` or `native`.
        class_weights: `none` or `balanced`.
        max_train: Training rows kept.
        few_shot: Training rows kept of each class.

    Raises:
        OptionError: An option's value cannot be used; the message names it.
    """
    known = METRICS[data.problem]
    if metric is not None and metric not in known:
        raise OptionError(f"Metric '{metric}' does not go with {data.problem}; choose one of {', '.join(known)}.")
    if pooling not in ("auto", "mean", "native"):
        raise OptionError(f"Pooling '{pooling}' is not known; choose auto, mean or native.")
    if class_weights not in ("none", "balanced"):
        raise OptionError(f"class_weights is '{class_weights}'; choose none or balanced.")
    if class_weights != "none" and data.problem == "regression":
        raise OptionError("Class weights do not go with regression; leave class_weights at 'none'.")
    for name, value in (("max_length", max_length), ("max_train", max_train), ("few_shot", few_shot)):
        if value is not None and value < 1:
            raise OptionError(f"{name} is {value}; give at least 1.")
    if few_shot is not None and data.problem == "regression":
        raise OptionError("few_shot counts rows of a class and does not go with regression; use max_train.")
    if pooling == "auto":
        pooling = "mean" if backbone.is_sentence_encoder else "native"
    return Task(
        name=data.name,
        data=Source(data.name, data.sha256),
        kind=data.kind,
        problem=data.problem,
        labels=data.labels,
        pair=data.pair,
        metric=metric or known[0],
        max_length=min(max_length, _positions(backbone)),
        pooling=pooling,
        class_weights=class_weights,
        max_train=max_train,
        few_shot=few_shot,
        rows={split: len(rows) for split, rows in data.splits.items()},
    )


def _positions(backbone: Backbone) -> int:
    """Tokens the backbone has positions for; RoBERTa's kind keeps the first two for padding."""
    positions = backbone.config.get("max_position_embeddings")
    if not isinstance(positions, int):
        return 10**9
    offset = 2 if backbone.model_type in {"roberta", "xlm-roberta", "camembert"} else 0
    return positions - offset


BUDGET_FIELDS = tuple(field.name for field in dataclasses.fields(Budget))
TASK_OPTIONS = ("metric", "max_length", "pooling", "class_weights", "max_train", "few_shot")
