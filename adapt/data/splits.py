"""Cutting splits from train; which rows belong together, and which ones training has seen.

Every cut keeps the order of the rows and depends on nothing but the labels, on which rows belong together, and on a
generator (`adapt.data.samples`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from adapt.data.labels import NUMBER
from adapt.data.samples import check_rows_kept, generator, quotas, rows_of
from adapt.data.table import column_of
from adapt.spec import DataError, OptionError, Problem, canonical

if TYPE_CHECKING:
    import datasets
    import numpy

_DECISIVE: dict[Problem, str] = {
    "single_label": "label", "multi_label": "label", "spans": "tags", "tags": "tags", "answers": "context",
    "text": "source", "completion": "prompt",
}  # fmt: skip
"""Problem to the column that decides how rows are divided; rows of others are divided at random."""
_GROUPED = ("answers", "text", "completion")
"""Problems whose rows of one context, source or prompt stay together: what training has seen of it would help. Of
others with a decisive column each class is divided in proportion, or each label and tag has a row in train."""
GROUP = "group"
"""Role, and canonical column, of what the caller says that rows belong together by, in place of context, source or
prompt."""


def check_options(
    shares: Mapping[str, float], seed: int, most: Mapping[str, int | None] = MappingProxyType({})
) -> None:
    """Check what `cut_missing` and `shortened` will be asked.

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


def cut_missing(
    rows: Mapping[str, Sequence[Any]],
    problem: Problem,
    names: Sequence[str],
    shares: Mapping[str, float],
    seed: int,
    *,
    where: str,
) -> dict[str, list[int]]:
    """Cut splits out of train.

    Args:
        rows: Canonical columns of train.
        problem: What is predicted.
        names: Label names, for the error.
        shares: Split to the share of train's rows that it gets; none for 0.
        seed: The same seed cuts the same rows; the test split does not depend on the validation share.
        where: What an error calls train.

    Returns:
        Split, with "train", to rising row numbers.

    Raises:
        DataError: Too few rows, also of each class; or a class has a single example, which cannot be in two splits; or
            all rows have one context or source, or are of one group.
    """
    labels, groups = deciding(rows, problem, names), rows.get(GROUP)
    shares = {split: shares[split] for split in ("test", "validation") if shares.get(split)}
    if shares and problem == "single_label" and groups is None:
        single = [names[i] for i, examples in enumerate(rows_of(labels)) if len(examples) == 1]
        if single:
            more = f" (and {len(single) - 1} more)" if len(single) > 1 else ""
            hint = ", or problem='regression'" if all(map(NUMBER.fullmatch, names)) else ""
            raise DataError(
                f"{where}: label {single[0]!r}{more} has one example, so that no {' and no '.join(shares)} "
                f"split with a share of each class can be cut; add examples, give those splits, or pass "
                f"{' and '.join(f'{split}=0' for split in shares)}{hint}"
            )
    parts: dict[str, list[int]] = {}
    left = list(range(len(labels)))
    for stream, (split, share) in enumerate(shares.items(), 1):
        share = share * len(labels) / len(left)  # a share of the rows there were at first
        of = f" of what is left after {' and '.join(parts)}" if parts else ""
        left, parts[split] = cut(
            left, labels, problem, share, generator(seed, stream), groups=groups,
            where=f"{where}, cutting out {split}{of}",
        )  # fmt: skip
        if not parts[split]:
            raise DataError(
                f"{where}: with a row of each class in every other split none is left for {split}; add rows, give that "
                f"split, or pass {split}=0"
            )
    return {"train": left, **parts}


def deciding(rows: Mapping[str, Sequence[Any]], problem: Problem, names: Sequence[str]) -> Sequence[Any]:
    """What `cut` divides rows by: class, 0 and 1 for each label or tag, context, source or prompt; else anything.

    Args:
        rows: Canonical columns.
        problem: What is predicted.
        names: Of labels or tags.
    """
    found = _prompts(rows) if problem == "completion" else rows[_DECISIVE.get(problem, next(iter(rows)))]
    if problem in ("spans", "tags"):
        return [[int(i in present) for i in range(len(names))] for present in map(set, found)]
    return found


def together(labels: Sequence[Any], problem: Problem, size: int) -> Sequence[Any]:
    """A value for each row, equal for rows that are not divided: those of one context, source or prompt.

    Args:
        labels: From `deciding`.
        problem: What is predicted.
        size: Rows of the smaller part.
    """
    if problem not in _GROUPED:
        return range(len(labels))
    if problem != "completion":
        return labels
    counts = Counter(labels)  # a prompt of more rows than that is an instruction that they have in common
    return [label if counts[label] <= size else (i, label) for i, label in enumerate(labels)]


def holding(columns: Collection[str], problem: Problem) -> str | None:
    """The canonical column whose rows of one value stay together; None: each row is alone."""
    return GROUP if GROUP in columns else _DECISIVE[problem] if problem in _GROUPED else None


def belonging(
    splits: Mapping[str, datasets.Dataset], problem: Problem, group: str | None, split: str = "test"
) -> dict[str, Any]:
    """Which rows of a split belong together, as `adapt.spec.Result.test_groups` has it; nothing where each is alone.

    Rows of one prompt are no group where it is an instruction that rows have in common: where train has it too or, if
    there is no train, where it is that of most rows.

    Args:
        splits: Rows in canonical form.
        problem: What is predicted.
        group: What the caller calls the column `group`, where there is one.
        split: Which one.
    """
    name = holding(splits[split].column_names, problem)
    if name is None:
        return {}

    def prompts(of: str) -> list[Any]:
        there = splits[of].column_names
        return _prompts({name: column_of(splits[of], name) for name in ("prompt", "messages") if name in there})

    if name == _DECISIVE["completion"]:
        found = prompts(split)
        if "train" in splits and split != "train":
            common = set(prompts("train"))
        else:
            common = {prompt for prompt, n in Counter(found).items() if 2 * n > len(found)}
        found = [(i, prompt) if prompt in common else prompt for i, prompt in enumerate(found)]
    else:
        found = column_of(splits[split], name)
    numbers = {value: number for number, value in enumerate(dict.fromkeys(found))}
    if len(numbers) == len(found):
        return {}
    return {"of": group or name if name == GROUP else name, "numbers": [numbers[value] for value in found]}


def beyond(
    rows: Mapping[str, Sequence[Any]],
    problem: Problem,
    parts: Mapping[str, Sequence[int]],
    shares: Mapping[str, float],
) -> list[str]:
    """What must be said of splits that are much larger or smaller than was asked for.

    Args:
        rows: Of train, before anything was cut out.
        problem: As given to `cut_missing`.
        parts: From `cut_missing`.
        shares: As given to it.
    """
    size, held_by = len(next(iter(rows.values()))), holding(rows, problem)
    asked = {split: max(1, round(share * size)) for split, share in shares.items() if share}
    large, small = "each class has at least one in it", "each class, label or tag has at least one in train"
    if held_by is not None:
        large = small = f"rows of one {held_by} stay together"
    return [
        f"{split} has {len(parts[split])} rows, where {n} were asked for: {large if len(parts[split]) > n else small}"
        for split, n in asked.items()
        if split in parts and not n / 1.5 <= len(parts[split]) <= 1.5 * n
    ]


def seen_before(rows: Mapping[str, Mapping[str, Sequence[Any]]], where: str = "in train") -> list[str]:
    """What must be said of held-out rows that training has seen, which make a score better than it is on new text.

    Args:
        rows: Split to canonical columns. Rows are the same where they differ at most in their labels, ids and groups; a
            completion is no label.
        where: What the note calls the rows of `train`.
    """
    inputs = {split: inputs_of(columns) for split, columns in rows.items()}
    known = set(inputs.pop("train"))
    found = {split: sum(row in known for row in held_out) for split, held_out in inputs.items()}
    return [
        f"{n} of {len(inputs[split])} rows of {split} are {where} too ({n / len(inputs[split]):.0%})"
        for split, n in found.items()
        if n >= WORTH_SAYING * len(inputs[split]) > 0
    ]


def groups_seen_before(rows: Mapping[str, Mapping[str, Sequence[Any]]]) -> list[str]:
    """What must be said of held-out rows whose group train has rows of, so that scores are not those of new groups.

    Args:
        rows: Split to canonical columns.
    """
    known = set(rows["train"].get(GROUP, ()))
    found = {split: sum(group in known for group in of_split[GROUP]) for split, of_split in rows.items() if known}
    return [
        f"{n} of {len(rows[split][GROUP])} rows of {split} are of groups that train has rows of, too"
        for split, n in found.items()
        if n and split != "train"
    ]


def contradicting(rows: Mapping[str, Sequence[Any]], problem: Problem) -> list[str]:
    """What must be said of rows of a classification whose texts other rows have with another label.

    Args:
        rows: Canonical columns of train, before anything was cut out.
        problem: What is predicted.
    """
    if problem not in ("single_label", "multi_label"):
        return []
    texts = list(_shown(rows))
    labels: dict[tuple[Any, ...], set[str]] = {}
    for text, label in zip(texts, rows["label"], strict=True):
        labels.setdefault(text, set()).add(str(label))
    n = sum(len(labels[text]) > 1 for text in texts)
    if n < WORTH_SAYING * len(texts) or not n:
        return []
    return [f"{n} of {len(texts)} rows of train have the text of another row and not its label ({n / len(texts):.0%})"]


WORTH_SAYING = 0.01
"""Share of a split's rows that are in train too, or contradict each other; fewer change a score by less than its
noise."""
LABELS = ("label", "tags", "answer_texts", "answer_starts", "target", "references")
"""Canonical columns of what is predicted of a row, but for a completion, which is a text of its own."""


def inputs_of(columns: Mapping[str, Sequence[Any]]) -> list[str]:
    """Each row without its labels and names, as text."""
    return list(map(canonical, _shown(columns)))


def _shown(columns: Mapping[str, Sequence[Any]]) -> Iterator[tuple[Any, ...]]:
    """Each row without its labels, names and group."""
    return zip(*(columns[name] for name in columns if name not in (GROUP, "id", *LABELS)), strict=True)


def _prompts(rows: Mapping[str, Sequence[Any]]) -> list[Any]:
    """What rows are the completions of, as text; rows without a prompt have one each of their own."""
    if "messages" in rows:
        return [canonical(list(messages)[:-1]) for messages in rows["messages"]]
    return [prompt or i for i, prompt in enumerate(rows["prompt"])]


def cut(
    rows: Sequence[int],
    labels: Sequence[Any],
    problem: Problem,
    share: float,
    rng: numpy.random.Generator,
    *,
    groups: Sequence[Any] | None = None,
    where: str,
) -> tuple[list[int], list[int]]:
    """Divide rows in two, each class in proportion for single_label problems; rows of one context stay together.

    So do rows of one group, where there are such; then classes are in proportion as nearly as whole groups allow.

    Args:
        rows: Numbers of the rows, rising.
        labels: By number of a row, what `deciding` says of it.
        problem: What is predicted.
        share: Part of the rows to cut out, above 0 and below 1.
        rng: Source of the choice.
        groups: The group by number of a row, where the data say it.
        where: What an error calls the rows.

    Returns:
        Rows that stay and rows cut out, both rising. Every class, label or tag that was there stays in the first; a
        class of two rows or more is in the second too, unless there are groups.

    Raises:
        DataError: Too few rows.
    """
    size = max(1, round(share * len(rows)))
    if len(rows) < 2:
        raise DataError(f"{where}: {len(rows)} row cannot be divided; add rows, or give every split")
    labels = [labels[row] for row in rows]
    if problem == "single_label" and groups is None:
        classes = [members for members in rows_of(labels) if members]
        sizes = quotas([len(c) for c in classes], size, [len(c) - 1 for c in classes])
        chosen = [int(i) for c, n in zip(classes, sizes, strict=True) for i in rng.choice(c, n, replace=False)]
    else:
        values = together(labels, problem, size) if groups is None else [groups[row] for row in rows]
        of_row = [strata(label, problem) for label in labels]
        chosen = _whole_groups(values, of_row, size, rng, in_proportion=problem == "single_label")
        if not chosen:
            what = GROUP if groups is not None else _DECISIVE[problem] if problem in _GROUPED else "row"
            reason = (
                f"every row has the same {what}, so that no split can be cut out"
                if len(set(values)) == 1
                else f"no {what} can be cut out without taking a label's last example; add rows"
            )
            raise DataError(f"{where}: {reason}; give every split, or pass validation=0 and test=0")
    out = {rows[i] for i in chosen}
    return [row for row in rows if row not in out], sorted(out)


def strata(label: Any, problem: Problem) -> Sequence[int]:
    """The class of a row, or its labels or tags; nothing of what has none."""
    if problem == "single_label":
        return (label,)
    return [i for i, there in enumerate(label) if there] if problem in ("multi_label", "spans", "tags") else ()


def _whole_groups(
    values: Sequence[Any],
    labels: Sequence[Sequence[int]],
    size: int,
    rng: numpy.random.Generator,
    *,
    in_proportion: bool,
) -> list[int]:
    """Random groups of rows that have one value, of up to `size` rows in all; where none fits, the smallest.

    Every label that there is keeps a row outside them.

    Args:
        values: Of each row, what its group is known by.
        labels: Of each row.
        size: Rows wanted.
        rng: Source of the choice.
        in_proportion: Whether each label is to have about its share of the rows. A draw then passes over groups that
            bring the labels no nearer to their shares, and of `_DRAWS` draws the nearest is taken (rerandomisation;
            Morgan & Rubin 2012); unlike a greedy order this gives groups of all sizes that fit a like chance.

    Returns:
        Positions of the rows; none where no group can be spared.
    """
    groups: dict[Any, list[int]] = {}
    for row, value in enumerate(values):
        groups.setdefault(value, []).append(row)
    found = list(groups.values())
    every = Counter(label for row in labels for label in row)
    has = [Counter(label for row in rows for label in labels[row]) for rows in found]
    wanted = {label: n * size / len(values) for label, n in every.items()}
    room = min(size, len(values) - 1)

    def spare(index: int, left: Counter[int]) -> bool:
        return all(left[label] > n for label, n in has[index].items())

    def nearer(index: int, left: Counter[int]) -> bool:
        off = {label: every[label] - left[label] - wanted[label] for label in has[index]}
        return sum(n * (n + 2 * off[label]) / wanted[label] for label, n in has[index].items()) < 0

    def draw(choosing: bool) -> tuple[float, list[int]]:
        """How far the labels are from their shares (chi squared), and the rows, maybe none where groups are chosen."""
        left, chosen = every.copy(), list[int]()
        for index in rng.permutation(len(found)).tolist():
            fits = len(chosen) + len(found[index]) <= room and spare(index, left)
            if fits and (not choosing or nearer(index, left)):
                chosen += found[index]
                left -= has[index]
            if len(chosen) == room:
                break
        return sum((n - left[label] - wanted[label]) ** 2 / wanted[label] for label, n in every.items()), chosen

    chosen: list[int] = []
    if in_proportion:
        _, chosen = min((draw(True) for _ in range(_DRAWS)), key=lambda drawn: drawn[0])
    if not chosen:  # as where each group is of one class and as large as the split
        _, chosen = draw(False)
    if chosen or len(found) == 1:
        return chosen
    return min((rows for index, rows in enumerate(found) if spare(index, every)), key=len, default=[])


_DRAWS = 20
"""Enough for two classes to have their shares to a percent where groups are some hundred."""
