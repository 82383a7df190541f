"""What each layer knows, as a linear probe of the frozen model finds it, beside a control task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from adapt.data import Data, data_of, subsample
from adapt.data.learnt import held_out
from adapt.data.samples import generator
from adapt.data.table import column_of
from adapt.environment import code_state, versions
from adapt.extraction.linear import PENALTIES
from adapt.extraction.probed import Probing
from adapt.extraction.probes import STREAM, Found, Probes
from adapt.extraction.reading import Reader, kernel_of, precision_of_all, reader
from adapt.extraction.representations import layers_of
from adapt.fields import check_choice, check_count
from adapt.machine import hardware
from adapt.metrics import METRICS
from adapt.options import plain
from adapt.spec import DataError, OptionError, Source, Task, Unsupported
from adapt.tables.cells import apart
from adapt.tasks import KINDS

if TYPE_CHECKING:
    import datasets

_KINDS = ("sequence_classification", "token_classification")
_POOLINGS = ("mean", "first", "last")


def probe(
    source: Any,
    data: Any,
    *,
    kind: str | None = None,
    layers: Any = "all",
    seeds: int = 3,
    control: bool = True,
    metric: str | None = None,
    pooling: str = "mean",
    max_train: int = 20_000,
    max_held_out: int = 10_000,
    max_length: int = 128,
    device: str = "auto",
    precision: str | None = None,
    report: Callable[[str], None] | None = None,
) -> Probing:
    """Probe layers of one or several models; the public `adapt.probe`.

    A probe is a linear model on vectors of the frozen model, standardised: multinomial logistic regression (of each
    label where a row has several) or ridge regression. Its penalty is chosen on validation, and it is scored on test,
    by the metric that is asked for. A word is read at its first token that is more than white space, a row as `pooling`
    says.

    The control task (Hewitt & Liang 2019) has the same rows with targets that are drawn for each word type with the
    seed, so that a probe can only learn them by heart; of a row the first word is taken for its type. Selectivity is
    the probe's accuracy (macro F1 of several labels, Spearman's correlation of numbers) minus that on the control task,
    both of probes that this accuracy chooses.

    Args:
        source: An adapted model, its folder, or a backbone, as `adapt.extraction.reader` takes it; or a list of them.
            All are probed with the same rows, and compared with the first. Each is loaded before any is probed, so that
            what cannot be used is found first; one is held at a time.
        data: `adapt.data.Data` of classification, regression or token classification with a validation and a test
            split, or anything that `adapt.data.load` reads.
        kind: Task kind, or a short name such as `pos` (`adapt.data.load`); None: what the data tells.
        layers: As for `adapt.representations`.
        seeds: How many. A seed draws the training rows, where there are more than `max_train`, and the control targets.
        control: Whether the control task is probed too.
        metric: The score; None takes the problem's first.
        pooling: Of rows: `mean`, `first` or `last`, as for `adapt.representations`.
        max_train: Vectors (rows, or words) that a probe is fitted on, at most; words come in whole rows.
        max_held_out: The same of validation and of test, drawn once.
        max_length: Tokens that a row is cut to, for all models; fewer where one of them reads no more. Words of a
            longer row are read in several windows.
        device: `auto`, `cpu` or `cuda`.
        precision: As for `adapt.extraction.reader`; but None reads several models alike, in the precision of training
            where those that are adapted share one and all weights are held alike, else in fp32. Where their kernels of
            attention differ, it is eager for all.
        report: Told of each layer that is probed.

    Raises:
        Unsupported: The data are of another kind, or a model does not tell words or give a vector a token.
        DataError: The data have no validation or test split, or cannot be read.
        OptionError: An option cannot be used.
        AdaptError: A model cannot be loaded, or its states are not finite.
    """
    seeds, max_train, max_held_out, max_length = map(plain, (seeds, max_train, max_held_out, max_length))
    for name, value in (("seeds", seeds), ("max_train", max_train), ("max_held_out", max_held_out)):
        check_count(name, value)
    check_choice("pooling", pooling, _POOLINGS)
    rows = data_of(data, kind)
    _check_data(rows)
    given = list(source) if isinstance(source, list | tuple) else [source]
    if not given:
        raise OptionError("There is no model to be probed; give one.")
    task = Task(
        rows.name, Source(rows.name, rows.sha256), kind=rows.kind, problem=rows.problem, labels=rows.labels,
        pair=rows.kind == _KINDS[0] and rows.pair, metric=metric or METRICS[rows.problem][0], max_length=max_length,
        rows={split: len(of_split) for split, of_split in rows.splits.items()},
    )  # fmt: skip
    drawn = {
        **{f"train {seed}": _draw(rows, "train", max_train, seed) for seed in range(seeds)},
        **{split: _draw(rows, split, max_held_out, 0) for split in ("validation", "test")},
    }

    def open_all(precision: str | None) -> tuple[Callable[[Any], Reader], list[Reader], list[_Outline]]:
        def opened(one: Any) -> Reader:
            if isinstance(one, Reader):
                return one
            return reader(one, device=device, precision=precision, max_length=max_length)

        later = [_outline(opened(one), layers) for one in given[1:]]
        first = opened(given[0])
        return opened, [first], [_outline(first, layers), *later]

    opened, held, outlines = open_all(precision or precision_of_all(given))
    told_how = precision is not None or any(isinstance(one, Reader) for one in given)
    if not told_how and len({outline.dtype for outline in outlines}) > 1:
        del held
        opened, held, outlines = open_all("fp32")
    kernels = {outline.kernel for outline in outlines}  # of which each rounds otherwise
    shortest = min(outlines, key=lambda outline: outline.max_length)
    task = replace(task, max_length=min(max_length, shortest.max_length))
    for outline in outlines:  # whose tokenizer may leave no room, or not tell words
        KINDS[task.kind](task, outline.tokenizer).encode(drawn["test"].select([0]), split="test")
    found: list[Found] = []
    told: list[tuple[str, list[str]]] = []
    """Of each model what must be said of it, where it does not say of which."""
    notes = list(rows.notes)
    if task.max_length < max_length:
        notes.append(f"every model reads {task.max_length} tokens at a time, for {shortest.name} reads no more")
    for one, outline in zip(given, outlines, strict=True):
        model = held.pop() if held else opened(one)
        if len(kernels) > 1:
            model = replace(model, attention="eager")
        own = Probes(model, task, outline.layers, pooling).found(drawn, seeds, control, report or (lambda line: None))
        name = apart(own.probed.name, [other.probed.name for other in found])
        found.append(own._replace(probed=replace(own.probed, name=name)))
        if model.task is not None:
            notes += held_out(name, model.task, model.learnt, rows, "its layers")
        told.append((name, [*model.notes, *own.notes]))
        del model
    if len({(outline.device, outline.precision, outline.dtype) for outline in outlines}) > 1:
        notes.append(
            "models were read in different precisions, with weights held in different ones, or on different devices, "
            "so that differences hold rounding too"
        )
    of_all = [note for note in told[0][1] if all(note in of_one for _, of_one in told)]
    notes += [*of_all, *(f"{name}: {note}" for name, of_one in told for note in of_one if note not in of_all)]
    settings = {
        "kind": task.kind, "problem": task.problem, "classes": len(task.labels), "metric": task.metric,
        "pooling": pooling, "max_length": task.max_length, "seeds": seeds,
        "max_train": max_train, "max_held_out": max_held_out, "penalties": list(PENALTIES),
    }  # fmt: skip
    place = outlines[0].device
    environment = {
        "versions": versions(), **code_state(), "device": place, "hardware": hardware(place),
        "threads": torch.get_num_threads(),
    }  # fmt: skip
    return Probing(
        rows.name, rows.sha256, settings, found[0].counts, tuple(own.probed for own in found),
        tuple(next((own.baseline for own in found if own.baseline), ())), tuple(notes), environment,
    )  # fmt: skip


def _check_data(data: Data) -> None:
    """
    Raises:
        Unsupported: The data are of a kind that is not probed.
        DataError: They have no validation or test split.
    """
    if data.kind not in _KINDS:
        raise Unsupported(f"probes are for {' and '.join(_KINDS)}, and the data are for {data.kind}")
    for split in ("validation", "test"):
        if not len(data.splits.get(split, ())):
            raise DataError(
                f"{data.name} has no {split} split, which probes need; give one, or have it cut from train."
            )


class _Outline(NamedTuple):
    """What must be known of a model before any is probed."""

    name: str
    tokenizer: Any
    device: str
    max_length: int
    layers: tuple[int, ...]
    """Those to be probed."""
    precision: str
    dtype: torch.dtype
    """That most of its weights are held in, of the floating ones that no strategy added."""
    kernel: str
    """Of its attention."""


def _outline(model: Reader, layers: Any) -> _Outline:
    """
    Raises:
        OptionError: The model has not the layers asked for.
    """
    chosen = layers_of(layers, model.layers)
    floating = [weight for weight in model.model.parameters() if weight.is_floating_point()]
    held: Counter[torch.dtype] = Counter()
    for weight in [weight for weight in floating if not weight.requires_grad] or floating:
        held[weight.dtype] += weight.numel()
    most = max(held, key=held.__getitem__, default=torch.float32)
    kernel = model.attention or kernel_of(model.model)
    return _Outline(model.name, model.tokenizer, model.device, model.max_length, chosen, model.precision, most, kernel)


def _draw(data: Data, split: str, most: int, seed: int) -> datasets.Dataset:
    """Rows of a split, in order: as many as hold at most so many vectors, but one at least."""
    rows = data.splits[split]
    if data.kind == "sequence_classification":
        return subsample(rows, data.problem, most, seed, STREAM + 1)
    order = generator(seed, STREAM + 1).permutation(len(rows))
    words = np.cumsum(np.array([len(tokens) for tokens in column_of(rows, "tokens")])[order])
    if words[-1] <= most:
        return rows
    return rows.select(sorted(order[: max(1, int(np.searchsorted(words, most, side="right")))].tolist()))
