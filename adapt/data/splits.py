"""Cutting splits from train.

Every cut keeps the order of the rows and depends on nothing but what they are divided by (`adapt.data.groups`) and on a
generator (`adapt.data.samples`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from adapt.data.groups import Division, division
from adapt.data.labels import NUMBER
from adapt.data.samples import check_rows_kept, generator, quotas, rows_of
from adapt.spec import DataError, OptionError, Problem

if TYPE_CHECKING:
    import numpy


def check_options(
    shares: Mapping[str, float], seed: int, most: Mapping[str, int | None] = MappingProxyType({})
) -> None:
    """Check what `cut_missing` and `adapt.data.samples.shortened` will be asked.

    Raises:
        OptionError: A share is no number from 0 (no such split) to below 1, or the shares leave nothing to
            train on, or the seed is no integer of zero or more, or a number of rows is none.
    """
    for option, value in shares.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
            raise OptionError(f"{option}={value!r}: give the share of the rows to cut out, from 0 to below 1")
    if sum(shares.values()) >= 1:
        given = " and ".join(f"{option}={value!r}" for option, value in shares.items())
        raise OptionError(f"{given} leave no rows to train on; give shares that sum to less than 1")
    for split, n in most.items():
        if n is not None:
            check_rows_kept(f"max_{split}", n)
    generator(seed)


def size_of(share: float, rows: int) -> int:
    """How many rows a share of them is, one at least."""
    return max(1, round(share * rows))


def sizes_of_missing(
    shares: Mapping[str, float], most: Mapping[str, int | None], rows: Mapping[str, Mapping[str, Sequence[Any]]]
) -> dict[str, int]:
    """How many rows of train are to be cut out for each split that is missing.

    Args:
        shares: Split to the share of train's rows that it gets; 0: there is to be none.
        most: Split to its rows at most; None: all.
        rows: The splits that are there, with their canonical columns.

    Raises:
        OptionError: A number of rows is given for a split that is not cut out.
    """
    of_train, sizes = len(next(iter(rows["train"].values()))), {}
    for split, share in shares.items():
        n = most[split]
        if split in rows:
            continue
        if share:
            size = size_of(share, of_train)
            sizes[split] = size if n is None else min(size, n)
        elif n is not None:
            raise OptionError(
                f"max_{split}={n}: there is no {split} split, and none is cut from all of train ({split}=0, or "
                f"folds, each of which has its own); leave max_{split} out"
            )
    return sizes


def cut_missing(
    columns: Mapping[str, Sequence[Any]],
    problem: Problem,
    names: Sequence[str],
    sizes: Mapping[str, int],
    most: Mapping[str, int | None],
    seed: int,
    *,
    where: str,
) -> dict[str, list[int]]:
    """Cut splits out of train.

    Args:
        columns: Canonical ones of train.
        problem: What is predicted.
        names: Label names, for the error.
        sizes: From `sizes_of_missing`.
        most: Split to its rows at most. A group, context, source or prompt of more rows is cut out whole all the same.
        seed: The same seed cuts the same rows; the test split does not depend on the size of validation.
        where: What an error calls train.

    Returns:
        Split, with "train", to rising row numbers.

    Raises:
        DataError: Too few rows, also of each class; or a class has a single example, which cannot be in two splits; or
            all rows have one context or source, or are of one group.
    """
    by = division(columns, problem, names)
    order = [split for split in ("test", "validation") if split in sizes]
    if order and by.by_class:
        single = [names[i] for i, examples in enumerate(rows_of(columns["label"])) if len(examples) == 1]
        if single:
            more = f" (and {len(single) - 1} more)" if len(single) > 1 else ""
            hint = ", or problem='regression'" if all(map(NUMBER.fullmatch, names)) else ""
            raise DataError(
                f"{where}: label {single[0]!r}{more} has one example, so that no {' and no '.join(order)} "
                f"split with a share of each class can be cut; add examples, give those splits, or pass "
                f"{' and '.join(f'{split}=0' for split in order)}{hint}"
            )
    parts: dict[str, list[int]] = {}
    left = list(range(len(by.strata)))
    for stream, split in enumerate(order, 1):
        of = f" of what is left after {' and '.join(parts)}" if parts else ""
        left, parts[split] = cut(
            left, by, sizes[split], generator(seed, stream), most=most[split], more=len(order) - stream,
            splits=len(order), where=f"{where}, cutting out {split}{of}",
        )  # fmt: skip
        if not parts[split]:
            raise DataError(
                f"{where}: with a row of each class in every other split none is left for {split}; add rows, give that "
                f"split, or pass {split}=0"
            )
    return {"train": left, **parts}


def cut(
    rows: Sequence[int],
    by: Division,
    size: int,
    rng: numpy.random.Generator,
    *,
    most: int | None = None,
    more: int = 0,
    splits: int = 1,
    where: str,
) -> tuple[list[int], list[int]]:
    """Divide rows in two, each class in proportion where there are such, and what is held together not at all.

    Args:
        rows: Numbers of the rows, rising.
        by: What they are divided by.
        size: Rows to cut out. There are more where classes are more, so that each has one, or where whatever is held
            together is larger.
        rng: Source of the choice.
        most: Rows to cut out at most, also where classes are more; those of some are then missing among them.
        more: Splits that are still to be cut out of what stays, which are left a group of each class, too.
        splits: All that are cut out, with this one.
        where: What an error calls the rows.

    Returns:
        Rows that stay and rows cut out, both rising. Every class, label or tag that was there stays in the first. Rows
        of a class are in neither where others of their text are cut out and they would be more than its share; those of
        a class that has not a text for every split are divided for all that.

    Raises:
        DataError: Too few rows.
    """
    if len(rows) < 2:
        raise DataError(f"{where}: {len(rows)} row cannot be divided; add rows, or give every split")
    strata = [by.strata[row] for row in rows]
    chosen: list[int] = []
    alike: dict[int, Any] = {}
    if by.by_class:
        held = by.units(rows, size)
        classes: dict[int, list[int]] = {}
        for i, label in enumerate(by.classes(rows, held)):
            if label is not None:
                classes.setdefault(label, []).append(i)
        labels = sorted(classes)
        counts = [len(classes[label]) for label in labels]
        texts = by.texts_of_classes()
        for label, n in zip(labels, quotas(counts, size, [count - 1 for count in counts]), strict=True):
            members = classes[label]
            units: Sequence[Any] = [held[i] for i in members]
            if len(set(units)) < 2 + more or texts[label] <= splits:
                units = members = [i for i in members if strata[i][0] == label]
                n = min(n, len(members) - 1)
            alike |= {i: (label, unit) for i, unit in zip(members, units, strict=True)}
            if n < 1:
                continue
            chosen += _of_class(members, n, units, rng, more)
        if most is not None and len(chosen) > most:
            chosen = rng.choice(chosen, most, replace=False).tolist()
    else:
        held = by.units(rows, size)
        up_to = 2 * size if most is None else min(2 * size, most)
        shares = strata if by.in_proportion else None if by.spans is None else [[by.spans[row]] for row in rows]
        chosen = _whole_groups(held, strata, size, rng, up_to=up_to, more=more, shares=shares)
        if not chosen:
            what = by.held_by or ("row" if by.held is None else "input")
            reason = (
                f"every row has the same {what}, so that no split can be cut out"
                if len(set(held)) == 1
                else f"no {what} can be cut out without taking a label's last example; add rows"
            )
            raise DataError(
                f"{where}: {reason}; give every split, or pass validation=0 and test=0 (--validation 0 --test 0)"
            )
    out, held_out = set(chosen), {alike[i] for i in chosen if i in alike}
    stay = [row for i, row in enumerate(rows) if i not in out and alike.get(i) not in held_out]
    return stay, sorted(rows[i] for i in out)


def _of_class(members: Sequence[int], n: int, held: Sequence[Any], rng: numpy.random.Generator, more: int) -> list[int]:
    """Random n of a class, or fewer, in groups that are held together.

    A group that is larger than what is wanted yet is taken in part, and the rest of it is for nobody: where the class
    would else have less than half of n, or where fewer are lost than won; and if it is no more than half of the class.

    Args:
        members: Positions of the rows.
        n: Fewer than the members.
        held: Of each member a value, equal for those that are held together.
        rng: Source of the choice.
        more: Groups that are left whole, beside one.
    """
    units: dict[Any, list[int]] = {}
    for member, unit in zip(members, held, strict=True):
        units.setdefault(unit, []).append(member)
    if len(units) == len(members):
        return rng.choice(members, n, replace=False).tolist()
    groups = list(units.values())
    shuffled = [groups[i] for i in rng.permutation(len(groups))]
    chosen: list[int] = []
    too_large: list[list[int]] = []
    spare = len(units) - 1 - more
    for alike in shuffled:
        if spare and len(chosen) + len(alike) <= n:
            chosen += alike
            spare -= 1
        else:
            too_large.append(alike)
    smallest = min((alike for alike in too_large if 2 * len(alike) <= len(members)), key=len, default=[])
    wanted = n - len(chosen)
    missed = 2 * len(chosen) < n
    if spare and (missed or len(smallest) - wanted < wanted):
        chosen += smallest[:wanted]
    elif missed:
        chosen = max(chosen, smallest[:n], key=len)
    return chosen


def _whole_groups(
    units: Sequence[Any],
    strata: Sequence[Sequence[int]],
    size: int,
    rng: numpy.random.Generator,
    *,
    up_to: int,
    more: int,
    shares: Sequence[Sequence[int]] | None,
) -> list[int]:
    """Random groups of rows that have one value, of up to `size` rows in all; where none fits, the smallest.

    Every label that there is keeps a row outside them. Of what is to be in proportion, that which is then missing has
    its smallest group taken as well, if it can be spared and there is room.

    Args:
        units: Of each row, what its group is known by.
        strata: Of each row.
        size: Rows wanted.
        rng: Source of the choice.
        up_to: Rows at most with the groups of labels that would be missing.
        more: Further groups of such a label that must be left, beside those of one row at least.
        shares: Of each row, what is to have about its share of the rows, such as its labels; None: nothing is. A draw
            then passes over groups that bring these no nearer to their shares, and of `_DRAWS` draws the nearest is
            taken (rerandomisation; Morgan & Rubin 2012); unlike a greedy order this gives groups of all sizes that fit
            a like chance.

    Returns:
        Positions of the rows; none where no group can be spared.
    """
    groups: dict[Any, list[int]] = {}
    for row, unit in enumerate(units):
        groups.setdefault(unit, []).append(row)
    found = list(groups.values())
    every = Counter(label for row in strata for label in row)
    has = [Counter(label for row in rows for label in strata[row]) for rows in found]
    shared = has if shares is None else [Counter(what for row in rows for what in shares[row]) for rows in found]
    in_all = Counter(what for row in (strata if shares is None else shares) for what in row)
    wanted = {what: n * size / len(units) for what, n in in_all.items()}
    room = min(size, len(units) - 1)

    def spare(index: int, left: Counter[int]) -> bool:
        return all(left[label] > n for label, n in has[index].items())

    def nearer(index: int, there: Counter[int]) -> bool:
        return sum(n * (n + 2 * (there[w] - wanted[w])) / wanted[w] for w, n in shared[index].items()) < 0

    def draw(choosing: bool) -> tuple[float, list[int]]:
        """How far what is shared is from its shares (chi squared), and groups, maybe none where they are chosen."""
        left, chosen, taken, there = every.copy(), list[int](), 0, Counter[int]()
        for index in rng.permutation(len(found)).tolist():
            fits = taken + len(found[index]) <= room and spare(index, left)
            if fits and (not choosing or nearer(index, there)):
                chosen.append(index)
                taken += len(found[index])
                left -= has[index]
                there += shared[index]
            if taken == room:
                break
        return sum((there[what] - wanted[what]) ** 2 / wanted[what] for what in in_all), chosen

    def complete(chosen: list[int]) -> list[int]:
        """The groups with one of each label, or what else is shared, that they lack, the rarest first."""
        left, taken = every.copy(), sum(len(found[index]) for index in chosen)
        for index in chosen:
            left -= has[index]
        there = {what for index in chosen for what in shared[index]}
        order = rng.permutation(len(found)).tolist()
        for what in sorted(in_all, key=lambda what: (in_all[what], what)):
            its = [index for index in order if what in shared[index]] if what not in there else []
            able = [index for index in its if taken + len(found[index]) <= up_to and spare(index, left)]
            if able and len(its) > 1 + more:
                index = min(able, key=lambda index: len(found[index]))
                chosen, taken = [*chosen, index], taken + len(found[index])
                left -= has[index]
                there |= shared[index].keys()
        return chosen

    chosen: list[int] = []
    if shares is not None:
        draws = _DRAWS if len(found) < len(units) else 1
        _, chosen = min((draw(True) for _ in range(draws)), key=lambda drawn: drawn[0])
    if not chosen:  # as where each group is of one class and as large as the split
        _, chosen = draw(False)
    if not chosen and len(found) > 1:
        able = [index for index in range(len(found)) if spare(index, every)]
        chosen = sorted(able, key=lambda index: len(found[index]))[:1]
    if shares is not None and chosen:
        chosen = complete(chosen)
    return [row for index in chosen for row in found[index]]


_DRAWS = 20
"""Enough for two classes to have their shares to a percent where groups are some hundred; of single rows one does."""
