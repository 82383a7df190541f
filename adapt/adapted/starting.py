"""Going on from an adapted model: what another run on the same backbone takes from it.

For the same task that is all of it, for another one what was learnt within the backbone, under a fresh head: from a
related task (Phang et al. 2018, "Sentence Encoders on STILTs"), or from texts of the task's language (where Pfeiffer et
al. 2020, MAD-X, put the task's adapters on top of those of the language).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapt import params
from adapt.adapted.loading import read_model
from adapt.adapted.model import Adapted
from adapt.backbones import Backbone, Loader
from adapt.backbones.classes import base_class, model_class, name_of_base
from adapt.backbones.source import locate
from adapt.data import Data
from adapt.data.learnt import Learnt, beyond_sample, held_out
from adapt.files import path_of
from adapt.inputs import Begin, drawn
from adapt.spec import (
    AdaptError,
    OptionError,
    Run,
    Source,
    Strategy,
    Task,
    Unsupported,
    canonical,
    computing,
    texts_in_words,
)
from adapt.strategies import is_known, make
from adapt.tasks import KINDS, Kind

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Start:
    """An adapted model that a run goes on from."""

    run: Run
    """The run that made it."""
    source: Source
    """Its description in the run that goes on."""
    where: str
    """What messages call it."""
    reference: str
    """Where its backbone was."""
    kind_state: Mapping[str, float]
    """What its kind of task had found in the training rows."""
    learnt: Learnt | None
    """The rows that it was trained on; None: it is not known."""
    state: dict[str, torch.Tensor]
    """What was trained, until it is handed on."""

    def backbone(self, given: str | Path | None) -> str | Path:
        """The backbone that was given, or None: the model's own.

        Raises:
            AdaptError: It is no longer where it was.
        """
        if given is not None:
            return given
        try:
            locate(self.reference)
        except AdaptError as error:
            raise AdaptError(f"{self.where} does not find its backbone: {error} Say where it is (backbone).") from error
        return self.reference

    def strategy(self, given: Strategy | str | None, rate: float | None) -> Strategy:
        """The strategy that was given, or by its name or None: the model's own, with the learning rate that it had.

        Args:
            given: By the caller.
            rate: The learning rate that the caller gives for whatever strategy, if any.

        Raises:
            OptionError: The name is another one.
        """
        own = self.run.strategy
        if not (given is None or isinstance(given, str)):
            return given
        if given is not None and given != own.name:
            raise self._otherwise(given)
        before = self.run.budget.learning_rate
        if rate is not None:
            before = make(own.name).learning_rate if is_known(own) else None
        if before is None or not any(each.name == "learning_rate" and each.init for each in dataclasses.fields(own)):
            return own
        return dataclasses.replace(own, learning_rate=before)

    def _otherwise(self, name: str) -> OptionError:
        return OptionError(
            f"{self.where} was trained with {self.run.strategy.name}, from which {name} cannot go on; leave the "
            f"strategy out, or start from a model that was trained with {name}."
        )

    def knows(self, data: Data) -> bool:
        """Whether the rows are of the model's kind of task and have no classes but its own."""
        task = self.run.task
        return (data.kind, data.problem) == (task.kind, task.problem) and set(data.labels) <= set(task.labels)

    def data(self, data: Data) -> Data:
        """The rows; with the model's classes, where it knows them."""
        return data.under(self.run.task.labels, self.source.name) if self.knows(data) else data

    def choices(self, data: Data, given: Mapping[str, Any]) -> dict[str, Any]:
        """The options of a run on these rows: those given, and the pooling that the model's head reads, unless one is
        given or that head would not go on."""
        pooled = self.run.task.kind == "sequence_classification" and self.knows(data)
        return {**({"pooling": self.run.task.pooling} if pooled else {}), **given}

    def check_backbone(self, given: Source) -> None:
        """
        Raises:
            AdaptError: It is not the one that the model was trained on.
        """
        own = self.run.backbone
        if own.sha256 != given.sha256:
            raise AdaptError(
                f"{self.where} was trained on '{own.name}' (content {own.sha256[:12]}), which the backbone given, "
                f"'{given.name}' ({given.sha256[:12]}), is not; give that one, or leave the backbone out."
            )

    def check(self, run: Run) -> Run:
        """The run, with what it goes on from.

        Raises:
            AdaptError: Its backbone or strategy is another one than the model's.
        """
        self.check_backbone(run.backbone)
        before, now = self.run.strategy, run.strategy
        if type(before) is not type(now):
            raise self._otherwise(now.name)
        fields = computing(before)
        for name, value in computing(now).items():
            if value != fields[name]:
                raise OptionError(
                    f"{self.where} was trained with {now.name}.{name}={fields[name]}, on which what it computes "
                    f"depends, and {value} is given; give the same, or leave it to the start."
                )
        return dataclasses.replace(run, start=self.source)

    def hand_on(self, model: Any, kind: Kind, run: Run, backbone: Backbone, data: Data) -> list[str]:
        """Give a model that was just built the trained tensors, which are not held any longer.

        Args:
            model: Of `run`.
            kind: Of `run`, after `fit` and `start`.
            run: That goes on.
            backbone: Of `run`.
            data: Of `run`.

        Returns:
            What is to be told: where the model is for another task, whose head and classes are not those of `run`, or
            reads rows otherwise, and where it was trained on rows that are held out.

        Raises:
            AdaptError: A tensor is missing, extra or of another shape.
            Unsupported: Nothing of the model is of use for the task of `run`; or a head goes on that is to be trained
                on standardised features.
        """
        from adapt.backbones.standardised import Standardised

        theirs, ours = self.run.task, run.task
        state, own = dict(self.state), params.trainable(model)
        self.state.clear()
        other, left = _difference(theirs, ours), 0
        if other is not None:
            own = {name: p for name, p in own.items() if name not in model.head_names}
            if not own:
                state = {}
            elif (theirs.kind, theirs.pooling) == (ours.kind, ours.pooling):
                state = {name: tensor for name, tensor in state.items() if name not in model.head_names}
            else:
                state = _renamed(state, Loader(backbone, theirs, run.budget, run.seed), model)
                left = len(own.keys() - state.keys())
                own = {name: p for name, p in own.items() if name in state}
                state = {name: state[name] for name in own}
        if not state:
            raise Unsupported(
                f"the model for {self.source.name} has nothing that {run.strategy.name} could go on from"
                f"{f' but a head, and {other}' if other else ''}; leave the start out"
            )
        params.put(state, own, self.where)
        who = f"the model for {self.source.name} that training began with"
        notes = held_out(who, theirs, self.learnt, data, "what goes on from it")
        notes += beyond_sample(who, self.learnt, drawn(run, data)["train"], data.splits["train"], data.kind)
        notes += _read_otherwise(theirs, ours, self.source.name)
        if other is not None:
            but = f" and {left} of {left + len(own)} other tensors" if left else ""
            return [f"{run.strategy.name} starts from {self.source.name} in all but the head{but}: {other}", *notes]
        if any(isinstance(module, Standardised) for module in model.modules()):
            raise Unsupported(
                "a head that goes on from another reads features as they are; set standardise=False, or leave the "
                "start out"
            )
        return [*kind.go_on(self.kind_state), *notes]


def start_of(start: Adapted | str | Path | Start) -> Start:
    """What a run goes on from.

    Args:
        start: The model, trained or loaded, or the folder that it was saved to.

    Raises:
        AdaptError: The folder is not that of a model, or is not whole.
    """
    if isinstance(start, Start):
        return start
    if isinstance(start, Adapted):
        run, kind_state, where = start.run, start.fitted.kind.state(), "The model to start from"
        learnt = start.learnt
        reference, state = start.backbone.found_again_by, params.trainable_state(start.fitted.model)
    elif isinstance(start, str | Path):
        folder = path_of(start)
        content, run = read_model(folder)
        learnt = content["learnt"]
        kind_state, reference, where = content["kind_state"], content["reference"], f"The model in {folder}"
        state = params.read(folder)
    else:
        raise OptionError(f"start is {start!r}; give the folder of a saved model, or the model itself.")
    task = run.task
    about = [task.kind, task.problem, task.labels, task.pooling, kind_state]
    source = Source(task.name, params.digest(state, canonical(about)))
    return Start(run, source, where, reference, kind_state, learnt, state)


def again(folder: Path, run: Run, backbone: Backbone, data: Data) -> Begin:
    """How a run goes on from the model in a folder, which its `start` describes.

    Raises:
        AdaptError: It is another model by now, or none.
    """
    start = start_of(folder)
    if start.source != run.start:
        raise AdaptError(
            f"{start.where} is no longer the one that this comparison began with; leave the folder as it is until all "
            "runs are done. The same command begins anew, with the one that is there now."
        )
    return partial(start.hand_on, run=run, backbone=backbone, data=data)


def _difference(theirs: Task, ours: Task) -> str | None:
    """Why a head for one task is none for the other; None: it is."""
    if theirs.kind != ours.kind:
        return f"that is a model for {theirs.kind.replace('_', ' ')}"
    if theirs.problem != ours.problem:
        return f"that is a model for the problem {theirs.problem}"
    if theirs.pooling != ours.pooling:
        return f"that has {theirs.pooling} pooling"
    if theirs.labels != ours.labels:
        return f"that has other classes ({', '.join(theirs.labels[:5])}{', ...' if theirs.labels[5:] else ''})"
    return None


def _read_otherwise(theirs: Task, ours: Task, name: str) -> list[str]:
    """What must be said where a model learnt from rows in another form."""
    if theirs.kind != ours.kind:
        return []
    before, now = (KINDS[task.kind].options_of(task) for task in (theirs, ours))
    one, other = map(texts_in_words, (theirs.pair, ours.pair))
    pairs = f"the model for {name} was trained on {one}, and training goes on with {other}"
    return [pairs] * (theirs.pair != ours.pair) + [
        f"the model for {name} was trained with {option} {there!r}, and training goes on with {here!r}"
        for option in KINDS[ours.kind].form
        if (there := getattr(before, option)) != (here := getattr(now, option))
    ]


def _renamed(state: Mapping[str, torch.Tensor], loader: Loader, model: Any) -> dict[str, torch.Tensor]:
    """What is in the pretrained part of a model of another class, by the names that `model` has for it.

    Args:
        state: Of that model.
        loader: That loads it, without which its names cannot be told apart.
        model: Of the run that goes on.
    """
    import torch

    task, config = loader.task, loader.config()
    with torch.device("meta"):
        if task.pooling == "mean":
            from adapt.backbones.heads import MeanPoolingClassifier

            other: Any = MeanPoolingClassifier(base_class(config)(config), max(len(task.labels), 1), 0.0)
        else:
            other = model_class(task.kind, config)(config)
    before, now = (f"{name}." if name else "" for name in (name_of_base(other), name_of_base(model)))
    return {now + name.removeprefix(before): tensor for name, tensor in state.items() if name.startswith(before)}
