"""What must be said beside results: how rows were divided, which ones training has seen, which labels may be wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from adapt.data.groups import GROUP, WORTH_SAYING, holding, inputs_of
from adapt.data.table import listing
from adapt.spec import Problem


def beyond(
    columns: Mapping[str, Sequence[Any]],
    problem: Problem,
    names: Sequence[str],
    parts: Mapping[str, Sequence[int]],
    sizes: Mapping[str, int],
    most: Mapping[str, int | None],
) -> list[str]:
    """What must be said of splits that are much larger or smaller than was asked for or lack a class, and of rows that
    are in none.

    Args:
        columns: Canonical ones of train.
        problem: What is predicted.
        names: Label names.
        parts: From `adapt.data.splits.cut_missing`.
        sizes: As given to it.
        most: As given to it. A split of just so many rows is as it was asked for.
    """
    held_by, notes = holding(columns, problem), []
    large = "each class has at least one in it"
    small = "each class, label or tag has at least one in train" if names else "rows of one text stay together"
    if held_by is not None:
        large = small = f"rows of one {held_by} stay together"
    for split, asked in sizes.items():
        found, limit = len(parts[split]), most[split]
        if limit is not None and found > limit:
            notes.append(f"{found - limit} rows cut out for {split} are in no split: {large}")
        elif found != limit and not asked / 1.5 <= found <= 1.5 * asked:
            why = large if found > asked else small
            notes.append(f"{split} has {found} rows, where {asked} were asked for: {why}")
        if problem == "single_label":
            labels = columns["label"]
            lacking = set(labels) - {labels[row] for row in parts[split]}
            shared = _in_shared_texts(columns) & lacking if held_by is None and lacking else set[int]()
            reasons = [(lacking, large)]
            if held_by is None:
                too_few = lacking - shared if limit is None or limit >= len(set(labels)) else set[int]()
                reasons = [(shared, "their texts are of other classes, too"), (too_few, "too few rows for every split")]
            notes += [
                f"{split} has no row of {listing([names[i] for i in sorted(those)], 5)}: {why}"
                for those, why in reasons
                if those
            ]
        if problem == "multi_label":
            there = {i for row in parts[split] for i, given in enumerate(columns["label"][row]) if given}
            rows = map(sum, zip(*columns["label"], strict=True))  # the only one of a label is kept in train
            lost = [names[i] for i, n in enumerate(rows) if n > 1 and i not in there]
            notes += [f"{split} has no row with {listing(lost, 5)}, by which nothing is scored there"] if lost else []
    nowhere = len(next(iter(columns.values()))) - sum(map(len, parts.values()))
    if nowhere:
        notes.append(f"{nowhere} rows are in no split: others of their text are held out")
    return notes


def _in_shared_texts(columns: Mapping[str, Sequence[Any]]) -> set[int]:
    """Classes of texts that rows of several classes have."""
    of_text: dict[str, set[int]] = {}
    for text, label in zip(inputs_of(columns), columns["label"], strict=True):
        of_text.setdefault(text, set()).add(label)
    return set[int]().union(*(labels for labels in of_text.values() if len(labels) > 1))


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


def without_spans(rows: Mapping[str, Mapping[str, Sequence[Any]]], problem: Problem, names: Sequence[str]) -> list[str]:
    """What must be said of held-out splits that hold no span.

    Args:
        rows: Split to canonical columns.
        problem: What is predicted.
        names: Of the tags.
    """
    if problem != "spans":
        return []
    outside = names.index("O")
    return [
        f"no row of {split} has a span, so that span F1 is 0 there whatever is predicted; give one that has spans, or "
        f"leave {split} out"
        for split, columns in rows.items()
        if split != "train" and not any(tag != outside for tags in columns["tags"] for tag in tags)
    ]


def contradicting(rows: Mapping[str, Sequence[Any]], problem: Problem) -> list[str]:
    """What must be said of rows of a classification whose texts other rows have with another label.

    Args:
        rows: Canonical columns of train, before anything was cut out.
        problem: What is predicted.
    """
    if problem not in ("single_label", "multi_label"):
        return []
    texts = inputs_of(rows)
    labels: dict[str, set[str]] = {}
    for text, label in zip(texts, rows["label"], strict=True):
        labels.setdefault(text, set()).add(str(label))
    n = sum(len(labels[text]) > 1 for text in texts)
    if n < WORTH_SAYING * len(texts) or not n:
        return []
    return [f"{n} of {len(texts)} rows of train have the text of another row and not its label ({n / len(texts):.0%})"]


_RARE, _SHORTEST = 0.02, 5
"""Share of the rows of another class up to which one looks mistyped whose name is so alike, and the fewest letters of
such names."""


def mistyped(names: Sequence[str], labels: Iterable[int]) -> list[str]:
    """What must be said of a class of few rows, whose name is that of one of many but for a letter.

    A letter is left out, put in, another, or in another place; one put in at the beginning makes another word in many
    languages, and a digit another name.

    Args:
        names: Of the classes.
        labels: The class of each row.
    """
    rows = Counter(labels)
    most = max(rows.values(), default=0)
    letters = [i for i, name in enumerate(names) if len(name) >= _SHORTEST and not any(map(str.isdigit, name))]
    known: dict[str, list[int]] = {}
    for i in letters:
        if rows[i] >= 1 / _RARE:
            for part in _without_a_letter(names[i]):
                known.setdefault(part, []).append(i)
    found = []
    for i in (i for i in letters if 0 < rows[i] <= _RARE * most):
        near = {other for part in _without_a_letter(names[i]) for other in known.get(part, ())} - {i}
        for other in sorted(near):
            one, many = names[i], names[other]
            first = one[1:] == many or many[1:] == one
            if rows[i] <= _RARE * rows[other] and not first and one.casefold() != many.casefold():
                found.append(f"{one} ({rows[i]} rows) is nearly {many} ({rows[other]:,} rows)")
                break
    more = f" and {len(found) - 5} more" if len(found) > 5 else ""
    return [f"labels that look mistyped are classes of their own: {'; '.join(found[:5])}{more}"] if found else []


def _without_a_letter(name: str) -> set[str]:
    """The name, and each that is left of it without one letter: names that differ by one letter share one of these."""
    return {name, *(name[:i] + name[i + 1 :] for i in range(len(name)))}


def alike(names: Iterable[str], what: str) -> list[str]:
    """What must be said of names of classes or tags that differ in upper and lower case alone, and may be meant as one.

    Args:
        names: All of them.
        what: What the note calls them.
    """
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(name.casefold(), []).append(name)
    several = [listing(group) for group in found.values() if len(group) > 1]
    more = f" and {len(several) - 5} more" if len(several) > 5 else ""
    differ = f"{what} that differ in upper and lower case alone are taken for different ones"
    return [f"{differ}: {'; '.join(several[:5])}{more}"] if several else []
