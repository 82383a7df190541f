"""Fitting: a backbone, data, a strategy and choices become a run, and the run a model."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

from adapt import options
from adapt.adapted.model import Adapted
from adapt.adapted.starting import Start, start_of
from adapt.backbones import Backbone, resolve
from adapt.backbones.source import SHIPPED, check_reference
from adapt.data import Data, data_of, load
from adapt.data.general import General, read_general
from adapt.data.learnt import Learnt
from adapt.display import steps_shown
from adapt.fields import IN_PYTHON, nearest
from adapt.inputs import Inputs, drawn
from adapt.run import OnStep, fit
from adapt.spec import DataError, OptionError, Run, Strategy, fields_of
from adapt.strategies import SHIPPED_SETTINGS, make
from adapt.tasks import KINDS
from adapt.tasks.general import text_rows


@options.shows_choices
def fit_model(
    backbone: str | Path | None,
    data: Any,
    strategy: Strategy | str | None = None,
    *,
    kind: str | None = None,
    start: Adapted | str | Path | Start | None = None,
    seed: int = 0,
    general: Any = None,
    progress: bool = True,
    on_step: OnStep | None = None,
    **choices: Any,
) -> Adapted:
    """Adapt a backbone to data; the public `adapt.fit`.

    Args:
        backbone: Shipped name, local folder or hub name, also with a revision (see `adapt.backbones.resolve`); None:
            that of `start`.
        data: `Data`, or anything that `adapt.data.load` reads.
        strategy: A strategy, or its name; None: LoRA. On shipped backbones, which are tiny, one given by its name has
            a learning rate that suits them (`adapt.strategies.SHIPPED_SETTINGS`). With a `start` a name, or None,
            stands for that model's, with the learning rate that it was trained with.
        kind: Task kind, or a short name such as `mlm` (`adapt.data.load`); None: what the data tells.
        start: An adapted model, or its folder, to go on from: its trained tensors are what training starts from. The
            head is among them where the task is of the same kind and the model knows all classes of the data; these
            are then its classes, too, and its pooling is taken where none is given. Else the head is a fresh one.
        seed: Decides the sample, the head's initialisation and the order of rows.
        general: Texts on which it is measured what the backbone has forgotten (`Result.forgetting`): a file of plain
            text, one text a line, or whatever else `adapt.data.general.read_general` reads.
        progress: Whether a bar of the optimizer steps is shown, on a terminal or in a notebook.
        on_step: Called after each optimizer step with steps done, steps in all, and the loss.
        choices: Fields of `adapt.Budget` (`epochs`, `batch_size` in rows, `learning_rate`, ...; `device="auto"` is a
            GPU where there is one, `precision="auto"` bf16 where the device multiplies it in hardware) and of the task
            (`metric`, None for the problem's first, `max_length` in tokens, `pooling`, `class_weights`, and the
            training rows kept, `max_train` of all or `few_shot` of each class), and the options of its kind (fields of
            `adapt.tasks.KINDS[kind].Options`).

    Raises:
        AdaptError: Bad input, an unsupported combination, or a loss that is not finite.
    """
    if start is not None:
        start = start_of(start)
        backbone, strategy = start.backbone(backbone), start.strategy(strategy, choices.get("learning_rate"))
        data = start.data(data_of(data, kind))
        choices = start.choices(data, choices)
    if backbone is None:
        raise OptionError("backbone is None; give one, or a model to start from.")
    strategy = "lora" if strategy is None else strategy
    spec, inputs = begun(backbone, data, strategy, kind=kind, seed=seed, general=general, **choices)
    trains = spec.strategy.learning_rate is not None
    own = Learnt.of(drawn(spec, inputs.data)["train"], inputs.data.kind) if trains else Learnt(frozenset(), True)
    learnt: Learnt | None = own
    if start is not None:
        spec = start.check(spec)
        begin = partial(start.hand_on, run=spec, backbone=inputs.backbone, data=inputs.data)
        inputs = dataclasses.replace(inputs, begin=begin)
        learnt = None if start.learnt is None else own | start.learnt
    with steps_shown(spec.strategy.name, on_step, progress) as told:
        result, fitted = fit(spec, inputs, told)
    return Adapted(fitted, spec, inputs.backbone, result, columns=inputs.data.columns, learnt=learnt)


def begun(
    backbone: str | Path,
    data: Any,
    strategy: Strategy | str,
    *,
    kind: str | None,
    seed: int,
    general: Any,
    **choices: Any,
) -> tuple[Run, Inputs]:
    """One run and what it is done with, checked; see `fit_model` for the arguments."""
    own = [] if isinstance(strategy, str) else [options.check_strategy(strategy)]
    options.check_rates(choices.get("learning_rate"), own)
    texts = None if general is None else read_general(general)
    spec, rows, source = assemble(backbone, data, strategy, kind=kind, seed=seed, **choices)
    return with_general(spec, texts, source), Inputs(rows, source, general=texts.texts if texts else ())


def assemble(
    backbone: str | Path,
    data: Any,
    strategy: Strategy | str,
    *,
    kind: str | None = None,
    seed: int = 0,
    **choices: Any,
) -> tuple[Run, Data, Backbone]:
    """Everything that decides a run, checked; see `fit_model` for the arguments."""
    check_reference(backbone)
    if isinstance(strategy, str):
        make(strategy)  # a mistyped name is found before the data is read
    budget = options.budget_of(**{n: v for n, v in choices.items() if n in options.BUDGET_FIELDS})
    rows = data_of(data, kind)
    if isinstance(strategy, str):
        strategy = make(strategy, preset(backbone, rows.kind, strategy, budget.learning_rate))
    chosen = options.check_strategy(strategy)
    options.check_budget(budget, rows)
    choices = {name: options.plain(value) for name, value in choices.items()}
    own = {n: v for n, v in choices.items() if n not in options.BUDGET_FIELDS and n not in options.TASK_OPTIONS}
    known = [f.name for f in dataclasses.fields(KINDS[rows.kind].Options)]
    for name in own.keys() - set(known):
        if (there := IN_PYTHON.get(name, name)) in signature(load).parameters:
            called = "" if there == name else f", where it is called '{there}'"
            raise OptionError(f"'{name}' is an option of adapt.data.load{called}; give what that returns as data.")
        if name == "folds":
            raise OptionError("'folds' is a function, adapt.data.folds; give adapt.compare what that returns as data.")
        if name in fields_of(chosen):
            raise OptionError(f"'{name}' is a field of {chosen.name}; give it to {type(chosen).__name__}({name}=...).")
        every = (*options.BUDGET_FIELDS, *options.TASK_OPTIONS, *known)
        raise OptionError(
            f"There is no option '{name}' for {rows.kind}{nearest(name, every)}; there are {', '.join(every)}."
        )
    source = resolve(backbone)
    task = options.task_of(rows, source, own, **{n: v for n, v in choices.items() if n in options.TASK_OPTIONS})
    return Run(source.source, task, chosen, budget, options.seed_of(seed)), rows, source


def preset(backbone: str | Path, kind: str, strategy: str, rate: float | None) -> Mapping[str, Any]:
    """Fields of a strategy given by its name that suit a shipped backbone, which is tiny; none for any other.

    Nor where there is a rate for all: a run is the same run however its strategy was given.
    """
    return SHIPPED_SETTINGS.get(kind, {}).get(strategy, {}) if backbone in SHIPPED and rate is None else {}


def with_general(run: Run, general: General | None, backbone: Backbone) -> Run:
    """The run with texts on which it is measured what its backbone has forgotten, if there are any.

    Raises:
        DataError: None of them has two tokens, or a word that the tokenizer knows.
        OptionError: Texts are cut to less than the tokenizer's own tokens.
    """
    if general is None:
        return run
    tokenizer, most, some = backbone.tokenizer, run.task.max_length, 1000
    parts = (text_rows(tokenizer, general.texts[i : i + some], most) for i in range(0, len(general.texts), some))
    rows = itertools.chain.from_iterable(parts)
    first = next(rows, None)
    if first is None:
        raise DataError(
            f"{general.source.name}: no text has two tokens within {run.task.max_length}; give longer ones, one a line."
        )
    unknown = tokenizer.unk_token_id
    if all(row["input_ids"][place] == unknown for row, own in itertools.chain([first], rows) for place in own):
        raise DataError(
            f"{general.source.name}: the tokenizer knows no word of it; give text in the language of the backbone."
        )
    return dataclasses.replace(run, general=general.source)
