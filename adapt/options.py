"""From what a user gives to a task and a budget: device, precision, pooling and metric left to us are decided here."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
import operator
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Literal, SupportsIndex, TypeVar, cast, get_args

from adapt.backbones.classes import LANGUAGE_MODELS
from adapt.backbones.families import positions_of
from adapt.backbones.source import Backbone
from adapt.data import Data, load
from adapt.fields import check_choice, check_count, fill, nearest
from adapt.metrics import METRICS, check_metric
from adapt.spec import Budget, Checked, OptionError, Source, Strategy, Task, fields_of, hints_of
from adapt.strategies import STRATEGIES, is_known, make
from adapt.tasks import KINDS

_NOTHING: Mapping[str, Any] = MappingProxyType({})
Pooling = Literal["auto", "mean", "native"]
Function = TypeVar("Function", bound=Callable[..., Any])


def device_of(device: str) -> Literal["cpu", "cuda"]:
    """`auto` is CUDA where torch finds one.

    Raises:
        OptionError: CUDA is asked for and there is none, or the name is not known.
    """
    check_choice("device", device, ("auto", "cpu", "cuda"))
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
    check_choice("precision", precision, ("auto", "fp32", "bf16"))
    if precision != "auto":
        return precision  # type: ignore[return-value]
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
    values = {name: plain(value) for name, value in values.items()}
    values = _DECIDED | values
    device = device_of(values.pop("device"))
    precision = precision_of(values.pop("precision"), device)
    budget = Budget(device=device, precision=precision, **values)
    for name in ("decay", "graphs", "optimizer"):
        check_choice(name, getattr(budget, name), get_args(hints_of(Budget)[name]))
    if budget.optimizer == "paged_adamw_8bit" and device != "cuda":
        raise OptionError(
            f"optimizer 'paged_adamw_8bit' pages between a GPU and its host, and the device is '{device}'; use "
            "adamw_8bit, or --device cuda."
        )
    if not isinstance(budget.checkpointing, bool):
        raise OptionError(f"checkpointing is {budget.checkpointing!r}; give True or False.")
    for name in ("epochs", "batch_size", "accumulation"):
        check_count(name, getattr(budget, name))
    for name in ("max_steps", "patience", "loss_chunk"):
        if getattr(budget, name) is not None:
            check_count(name, getattr(budget, name))
    check_steps(budget)
    if budget.dropout is not None and not (_finite(budget.dropout) and 0 <= budget.dropout < 1):
        raise OptionError(f"dropout is {budget.dropout!r}; give a number from 0 to below 1.")
    if budget.learning_rate is not None:
        check_learning_rate(budget.learning_rate, "learning_rate")
    return budget


def check_budget(budget: Budget, data: Data) -> None:
    """
    Raises:
        OptionError: An option of the budget does not go with the task kind, or with the splits that there are.
    """
    kind = data.kind
    if budget.patience is not None and "validation" not in data.splits:
        raise OptionError(
            f"patience is {budget.patience}, and the data have no validation split by whose scores training could end; "
            "leave patience out, or have one."
        )
    check_loss_chunk(budget, kind)


def check_loss_chunk(budget: Budget, kind: str) -> None:
    """
    Raises:
        OptionError: A loss in chunks is asked for, and models of the task kind have no vocabulary to score.
    """
    if budget.loss_chunk is not None and kind not in LANGUAGE_MODELS:
        raise OptionError(
            f"loss_chunk is for {', '.join(LANGUAGE_MODELS)}, whose logits are as many as the vocabulary has "
            f"entries; leave it out for {kind}."
        )


def plain(value: Any) -> Any:
    """A number of numpy as Python's, which specs are made of; anything else as it is."""
    import numpy as np

    return value.item() if isinstance(value, np.generic) else value


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def check_steps(settings: Any) -> None:
    """
    Raises:
        OptionError: `warmup`, `clip` or `weight_decay` of a budget, or of what has these too, is out of range.
    """
    check_warmup(settings.warmup, "warmup")
    if not (_finite(settings.clip) and settings.clip > 0):
        raise OptionError(f"clip is {settings.clip!r}; give a finite number above 0.")
    if not (_finite(settings.weight_decay) and settings.weight_decay >= 0):
        raise OptionError(f"weight_decay is {settings.weight_decay!r}; give a finite number of at least 0.")


def check_warmup(value: Any, what: str) -> None:
    """
    Raises:
        OptionError: It is no share of all steps in which a learning rate can rise.
    """
    if not (_finite(value) and 0 <= value < 1):
        raise OptionError(f"{what} is {value!r}; give a number from 0 to below 1.")


def check_learning_rate(value: float, what: str) -> None:
    """
    Raises:
        OptionError: The learning rate is zero, negative, infinite or not a number.
    """
    if not (_finite(value) and value > 0):
        raise OptionError(f"{what} is {value!r}; give a finite number above zero, such as 1e-4.")


def check_strategy(strategy: Strategy) -> Strategy:
    """
    Raises:
        OptionError: The strategy's learning rate or warm-up cannot be used, another of its numbers is not finite, or a
            field is not of its type; or what the strategy itself says of its fields; or it is no dataclass of plain
            values with what every strategy has.
    """
    if isinstance(strategy, type):
        raise OptionError(f"{strategy.__name__} is a class; give one of it: {strategy.__name__}().")
    missing = [name for name in ("name", "learning_rate", "build") if not hasattr(strategy, name)]
    if missing:
        raise OptionError(
            f"{strategy!r:.200} is no strategy: it has no {', '.join(missing)}; give a name, or a frozen dataclass "
            "with a name, a learning_rate and the method build(load, task)."
        )
    if is_known(strategy):
        strategy = fill(type(strategy), vars(strategy), f"Strategy '{strategy.name}'", f"{strategy.name}.")
    try:
        fields_of(strategy)
    except TypeError as error:
        raise OptionError(
            f"Strategy {strategy!r} cannot be recorded ({error}); give an instance of a dataclass whose fields are "
            "numbers, texts, or lists of them."
        ) from error
    if strategy.learning_rate is not None:
        check_learning_rate(strategy.learning_rate, f"{strategy.name}.learning_rate")
    _check_finite(strategy, f"{strategy.name}.")
    check_warmup(getattr(strategy, "warmup", 0.0), f"{strategy.name}.warmup")
    if isinstance(strategy, Checked):
        strategy.check()
    return strategy


def seed_of(seed: Any) -> int:
    """
    Args:
        seed: Any whole number, such as numpy's.

    Raises:
        OptionError: It is none, negative, or of more than 63 bits.
    """
    if isinstance(seed, bool) or not isinstance(seed, SupportsIndex) or not 0 <= operator.index(seed) < 2**63:
        raise OptionError(f"seed is {seed!r}; give a whole number from 0 to below 2**63.")
    return operator.index(seed)


def check_rates(
    rate: float | None, strategies: Iterable[Strategy] = (), settings: Mapping[str, Mapping[str, Any]] = _NOTHING
) -> None:
    """
    Args:
        rate: The learning rate of the budget, which is for all.
        strategies: As the caller made them.
        settings: Strategy name to the fields that the caller gives.

    Raises:
        OptionError: One of them has a learning rate of its own too, which would not be used.
    """
    if rate is None:
        return
    given = [(name, fields["learning_rate"]) for name, fields in settings.items() if "learning_rate" in fields]
    for strategy in strategies:
        if is_known(strategy) and strategy.learning_rate != make(strategy.name).learning_rate:
            given.append((strategy.name, strategy.learning_rate))
    for name, own in given:
        raise OptionError(f"learning_rate is {rate} for all strategies, and {name}.learning_rate is {own}; give one.")


def _check_finite(given: Any, where: str = "") -> None:
    """
    Raises:
        OptionError: A number among the fields of a dataclass is not finite.
    """
    for name, value in vars(given).items():
        if isinstance(value, float) and not math.isfinite(value):
            raise OptionError(f"{where}{name} is {value}; give a finite number.")


def pooling_of(pooling: str, kind: str, backbone: Any) -> Literal["mean", "native"]:
    """`auto` is `mean` for sentence encoders; only classifiers of texts have a choice.

    Args:
        pooling: `auto`, `mean` or `native`.
        kind: Of the task.
        backbone: Says `is_sentence_encoder`.

    Raises:
        OptionError: The name is not known.
    """
    check_choice("pooling", pooling, get_args(Pooling))
    if kind != "sequence_classification" or pooling == "native":
        return "native"
    return "mean" if pooling == "mean" or backbone.is_sentence_encoder else "native"


def task_of(
    data: Data,
    backbone: Backbone,
    own: Mapping[str, Any] = _NOTHING,
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
        own: The kind's own options: fields of its `Options`.
        backbone: Decides what `auto` pooling is, and the most tokens.
        metric: Validation score that chooses the epoch; None takes the problem's first.
        max_length: Tokens of a row, as `Task.max_length`; never more than the backbone has positions.
        pooling: As for `pooling_of`.
        class_weights: `none` or `balanced`.
        max_train: Training rows kept.
        few_shot: Training rows kept of each class.

    Raises:
        OptionError: An option's value cannot be used; the message names it.
    """
    metric = METRICS[data.problem][0] if metric is None else metric
    check_metric(metric, data.problem)
    pooled = pooling_of(pooling, data.kind, backbone)
    check_choice("class_weights", class_weights, ("none", "balanced"))
    if class_weights != "none" and data.problem == "regression":
        raise OptionError("Class weights do not go with regression; leave class_weights at 'none'.")
    for name, value in (("max_length", max_length), ("max_train", max_train), ("few_shot", few_shot)):
        if value is not None:
            check_count(name, value)
    if few_shot is not None and data.problem == "regression":
        raise OptionError("few_shot counts rows of a class and does not go with regression; use max_train.")
    kind = KINDS[data.kind]
    if data.kind != "sequence_classification":
        for name, given in (("pooling", pooling == "mean"), ("class_weights", class_weights != "none")):
            if given:
                raise OptionError(f"{name} is for sequence classification, and the data are for {data.kind}.")
        if few_shot is not None:
            raise OptionError(
                f"few_shot counts rows of a class, which {data.kind} does not have; give max_train, which counts all."
            )
    chosen = fill(kind.Options, own, f"Task kind {data.kind}", "")
    _check_finite(chosen)
    positions = positions_of(backbone.config)
    for field in dataclasses.fields(kind.Options):
        value = getattr(chosen, field.name)
        if field.metadata.get("positions") and value > positions:
            if field.name in own:
                raise OptionError(
                    f"{field.name} is {value}, and the backbone has {positions} positions; give at most those."
                )
            chosen = dataclasses.replace(chosen, **{field.name: positions})
    return Task(
        name=data.name,
        data=Source(data.name, data.sha256),
        kind=data.kind,
        problem=data.problem,
        labels=data.labels,
        pair=data.pair,
        metric=metric,
        max_length=min(max_length, positions),
        pooling=pooled,
        class_weights=class_weights,
        max_train=max_train,
        few_shot=few_shot,
        rows={split: len(rows) for split, rows in data.splits.items()},
        selection=kind.selection(metric),
        fold=data.fold,
        options=fields_of(chosen),
    )


BUDGET_FIELDS = tuple(field.name for field in dataclasses.fields(Budget))
TASK_OPTIONS = ("metric", "max_length", "pooling", "class_weights", "max_train", "few_shot")
_DECIDED = {"device": "auto", "precision": "auto"}
"""Fields of the budget that are decided here where nothing is given."""


def shows_choices(function: Function) -> Function:
    """Have `help` and completion show what `**choices` takes for every task kind: fields of the budget, options of the
    task, and their defaults; and a mistyped argument of the function itself is not taken for an option.

    Raises:
        OptionError: By the function, for the name of no option that is closest to that of an argument.
    """
    own, of_task = inspect.signature(function), inspect.signature(task_of).parameters
    *given, choices = own.parameters.values()
    of_budget = [
        inspect.Parameter(
            f.name, inspect.Parameter.KEYWORD_ONLY, default=_DECIDED.get(f.name, f.default),
            annotation="str" if f.name in _DECIDED else f.type,
        )
        for f in dataclasses.fields(Budget)
    ]  # fmt: skip
    shown = own.replace(parameters=[*given, *of_budget, *(of_task[name] for name in TASK_OPTIONS), choices])
    arguments = [parameter.name for parameter in given]
    taken = {*shown.parameters} | {f.name for kind in KINDS.values() for f in dataclasses.fields(kind.Options)}
    known = taken | {*inspect.signature(load).parameters}
    known |= {name for strategy in STRATEGIES for name in vars(make(strategy))}

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        for name in kwargs:
            hint = "" if name in known else nearest(name, taken)
            if hint and hint == nearest(name, arguments):
                raise OptionError(f"There is no argument '{name}'{hint}.")
        return function(*args, **kwargs)

    called.__signature__ = shown  # type: ignore[attr-defined]
    return cast(Function, called)
