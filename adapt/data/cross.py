"""Cross-validation: every labelled row is scored once, by a model that was trained without it."""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any

from adapt.data.canonical import Data
from adapt.data.groups import GROUP, WORTH_SAYING, Division, division, inputs_of
from adapt.data.samples import generator
from adapt.data.splits import check_options, cut, size_of
from adapt.data.table import column_of
from adapt.display import one_line
from adapt.fields import refuses_others
from adapt.spec import DataError, OptionError, canonical


@dataclass(frozen=True)
class Folds:
    """The same rows divided in several ways, each row in the test split of one of them."""

    parts: tuple[Data, ...]
    """In the order of their numbers (`Data.fold`)."""

    def __repr__(self) -> str:
        return one_line(f"<Folds: {len(self.parts)} of {self.parts[0].name}>")


@refuses_others
def folds(data: Data, count: int, *, seed: int = 0, validation: float = 0.1) -> Folds:
    """Divide the rows of train in folds, each of them the test split of one division (Stone 1974).

    Each class is in every fold in proportion, as far as it has the rows; rows of one context, source or prompt, or of
    one group where the data say it, are in one fold; where nothing else holds rows together, those of one input are.

    Args:
        data: Without a test split: `load(..., validation=0, test=0)`. A validation split that it has is that of every
            division.
        count: How many, 2 or more.
        seed: Decides which rows are in which fold.
        validation: Share of a division's training rows that is cut out for validation where there is no such split;
            0: none.

    Raises:
        OptionError: The data have a test split, or there are more folds than rows, or the share cannot be.
        DataError: Too few rows, or all of one context, source or group.
    """
    if not isinstance(data, Data):
        raise OptionError(
            f"folds are of data that were read, and this is of type {type(data).__name__}; give "
            "adapt.data.load(..., validation=0, test=0)"
        )
    check_options({"validation": validation}, seed)
    if "test" in data.splits:
        raise OptionError(
            f"{data.name} has a test split, and folds are test splits of their own; give its rows of train alone, and "
            "test=0, so that none is cut from them"
        )
    train = data.splits["train"]
    if isinstance(count, bool) or not isinstance(count, Integral) or not 2 <= count <= len(train):
        raise OptionError(f"folds={count!r}: give a number from 2 to that of the rows, {len(train)}")
    count, seed, validation = int(count), int(seed), float(validation)  # from numpy's, perhaps
    rows = {name: column_of(train, name) for name in train.column_names}
    by = division(rows, data.problem, data.labels)
    parts = _parts(by, data.name, count, seed)
    unknown = _of_unknown_class(rows["label"], parts) if data.problem == "single_label" else 0
    shared = hashlib.sha256(canonical([data.sha256, count, seed, validation]).encode()).hexdigest()
    inputs = inputs_of(rows)
    seen = _seen(inputs, parts)
    notes = [
        *data.notes,
        *([f"{seen} of {len(train)} rows are among those that the model which scores them was trained on "
           f"({seen / len(train):.0%})"] if seen >= WORTH_SAYING * len(train) else []),
        *([f"{unknown} of {len(train)} rows are of a class that their fold alone has, so that their model never saw it"]
          if unknown else []),
        *([f"correlations are means over folds, which come out too low where folds are small, as here with "
           f"{len(train) // count} rows; take fewer folds, or compare by mse"]
          if data.problem == "regression" and len(train) // count < _ENOUGH else []),
    ]  # fmt: skip
    made, of_validation, nowhere = list[Data](), list[tuple[int, int]](), set[int]()
    asked, empty = 0, Counter[str]()
    for number, test in enumerate(parts, 1):
        out = set(test)
        rest = [i for i in range(len(train)) if i not in out]
        splits = dict(data.splits)
        if validation and "validation" not in splits:
            where, before = f"{data.name}, cutting out validation beside fold {number}", set(rest)
            rest, held = cut(rest, by, size_of(validation, len(rest)), generator(seed, 1), where=where)
            if not held:
                raise DataError(
                    f"{where}: no row can be spared; add rows, take fewer folds, or pass validation=0 (--validation 0)"
                )
            splits["validation"] = train.select(held)
            asked += size_of(validation, len(before))
            known = {inputs[i] for i in rest}
            there = sum(inputs[i] in known for i in held)
            of_validation.append((there, len(held)))
            nowhere |= before.difference(rest, held)
        splits |= {"train": train.select(rest), "test": train.select(test)}
        if by.spans is not None:
            parts_of = {"test": test} | ({"validation": held} if "validation" not in data.splits and validation else {})
            empty.update(split for split, part in parts_of.items() if not any(by.spans[i] for i in part))
        made.append(replace(data, splits=splits, sha256=shared, fold=(number, count)))
    if of_validation:
        there, held_out = (sum(numbers) for numbers in zip(*of_validation, strict=True))
        if there >= WORTH_SAYING * held_out:
            notes.append(
                f"{there} of {held_out} rows of the folds' validation are in train too ({there / held_out:.0%})"
            )
        if held_out > 1.5 * asked:
            notes.append(
                f"the folds' validation has {held_out} rows in all, where {asked} were asked for: each class has at "
                "least one in it, or rows stay together"
            )
        if nowhere:
            notes.append(
                f"{len(nowhere)} rows are in no split of some fold: others of their text are in its validation"
            )
    notes += [
        f"in {number} of {count} folds no row of {split} has a span, so that span F1 is 0 there whatever is predicted"
        for split, number in sorted(empty.items())
    ]
    return Folds(tuple(replace(part, notes=tuple(notes)) for part in made))


def _parts(by: Division, name: str, count: int, seed: int) -> list[list[int]]:
    """The rows of each fold, rising.

    Rows of a class or label, each time that of which fewest are left, are dealt to the fold that has fewest of it
    (iterative stratification; Sechidis et al. 2011, algorithm 1); rows that have none, or that belong together, to the
    smallest.
    """
    units: dict[Any, list[int]] = {}
    rows = len(by.strata)
    values = by.units(range(rows), rows // count)
    for row in generator(seed, 2).permutation(rows).tolist():
        units.setdefault(values[row], []).append(row)
    if len(units) < count:
        what = "groups" if by.held_by == GROUP else "contexts, sources or prompts"
        fewer = f"take {len(units)} folds at most, or " if len(units) > 1 else ""
        raise DataError(
            f"{name}: rows of {len(units)} {what} cannot be divided in {count} folds, for those of one stay "
            f"together; {fewer}add rows"
        )
    folds: list[list[int]] = [[] for _ in range(count)]
    have = [Counter[int]() for _ in range(count)]
    waiting = {unit: [s for row in those for s in by.strata[row]] for unit, those in units.items()}
    of: dict[int, list[Any]] = {}
    for unit, those in waiting.items():
        for stratum in dict.fromkeys(those):
            of.setdefault(stratum, []).append(unit)

    left = {stratum: len(those) for stratum, those in of.items()}
    rarest = [(number, stratum) for stratum, number in left.items()]
    heapq.heapify(rarest)

    def deal(unit: Any, stratum: int | None) -> None:
        number = min(range(count), key=lambda n: (0 if stratum is None else have[n][stratum], len(folds[n]), n))
        folds[number] += units[unit]
        dealt = waiting.pop(unit)
        have[number].update(dealt)
        for other in dict.fromkeys(dealt):
            left[other] -= 1
            heapq.heappush(rarest, (left[other], other))

    while rarest:
        number, stratum = heapq.heappop(rarest)
        if number == left[stratum] > 0:  # else others of it have been dealt meanwhile
            for unit in of[stratum]:
                if unit in waiting:
                    deal(unit, stratum)
    for unit in sorted(waiting, key=lambda unit: -len(units[unit])):
        deal(unit, None)
    return [sorted(fold) for fold in folds]


_ENOUGH = 20
"""Rows of which a rank correlation is little biased: 0.89 comes out as 0.87; of ten as 0.84, of five as 0.80, of three
as 0.77 (means of 4,000 simulated samples, bivariate normal)."""


def _of_unknown_class(labels: Sequence[int], parts: Sequence[Sequence[int]]) -> int:
    """Rows whose class is in no other fold."""
    of = [Counter(labels[row] for row in part) for part in parts]
    every = Counter(labels)
    return sum(n for part in of for label, n in part.items() if n == every[label])


def _seen(inputs: Sequence[str], parts: Sequence[Sequence[int]]) -> int:
    """Rows whose text is in another fold too."""
    places: Mapping[str, set[int]] = {text: set() for text in inputs}
    for number, part in enumerate(parts):
        for i in part:
            places[inputs[i]].add(number)
    return sum(len(places[text]) > 1 for text in inputs)
