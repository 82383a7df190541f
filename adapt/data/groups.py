"""What rows are divided by: their classes, labels or tags, and which of them belong together."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adapt.data.table import column_of
from adapt.spec import Problem, canonical

if TYPE_CHECKING:
    import datasets

WORTH_SAYING = 0.01
"""Share of a split's rows that are in train too, are copies or contradict each other; fewer change a score, or its
interval, by less than its noise."""
GROUP = "group"
"""Role, and canonical column, of what the caller says that rows belong together by, in place of context, source or
prompt."""
_PROMPT = "prompt"
_HELD_BY: dict[Problem, str] = {"answers": "context", "text": "source", "completion": _PROMPT}
"""Problem to the column whose rows of one value stay together: what training has seen of it would help."""
LABELS = ("label", "tags", "answer_texts", "answer_starts", "target", "references")
"""Canonical columns of what is predicted of a row, but for a completion, which is a text of its own."""


@dataclass(frozen=True)
class Division:
    """What decides how rows are divided, of each row by its number."""

    strata: Sequence[Sequence[int]]
    """Its class, labels or tags, by their numbers; of problems without such nothing."""
    held: Sequence[Any] | None
    """Its group, context, source or prompt, or else the first row with its input (`inputs_of`); None: each row is
    alone."""
    held_by: str | None
    """The canonical column of `held`; None where that is a row."""
    in_proportion: bool
    """Whether each class has its share of every part (single_label), as nearly as what is held together allows."""
    spans: Sequence[bool] | None = None
    """Whether each row has a span, of which every part has its share in the same way; None: there are no spans."""

    @property
    def by_class(self) -> bool:
        """Whether the rows of each class can be divided by themselves."""
        return self.in_proportion and self.held_by is None

    def classes(self, rows: Sequence[int], units: Sequence[Any]) -> list[int | None]:
        """The class of each row, those held together being of the one that most of them are of, of equals the one that
        has fewest so far.

        None: the row stays where it is, with those that it is held with, for a class is in no others.

        Args:
            rows: Their numbers, of classes that can be divided.
            units: Theirs.
        """
        own = [self.strata[row][0] for row in rows]
        counts: dict[Any, Counter[int]] = {}
        for unit, label in zip(units, own, strict=True):
            counts.setdefault(unit, Counter())[label] += 1
        of_unit: dict[Any, int] = {}
        won = Counter[int]()
        for unit, found in counts.items():
            of_unit[unit] = min(found, key=lambda label: (-found[label], won[label], label))
            won[of_unit[unit]] += 1
        lost = set(own) - set(of_unit.values())
        stay = {unit for unit, found in counts.items() if not lost.isdisjoint(found)} if lost else set()
        return [None if unit in stay else of_unit[unit] for unit in units]

    def texts_of_classes(self) -> dict[int, int]:
        """Class to how many different inputs its rows have."""
        found: dict[int, set[Any]] = {}
        for row, stratum in enumerate(self.strata):
            found.setdefault(stratum[0], set()).add(row if self.held is None else self.held[row])
        return {label: len(inputs) for label, inputs in found.items()}

    def units(self, rows: Sequence[int], size: int) -> Sequence[Any]:
        """A value for each of the rows, equal for those that are not divided.

        Args:
            rows: Their numbers.
            size: Rows of the smaller part. A prompt of more rows than that is an instruction that they have in common,
                and holds none together; likewise an input.
        """
        if self.held is None:
            return rows
        found = [self.held[row] for row in rows]
        if self.held_by not in (_PROMPT, None):
            return found
        counts = Counter(found)
        return [value if counts[value] <= size else (row, value) for row, value in zip(rows, found, strict=True)]


def division(rows: Mapping[str, Sequence[Any]], problem: Problem, names: Sequence[str] = ()) -> Division:
    """What decides how rows are divided, from their canonical columns and the names of labels or tags."""
    by = holding(rows, problem)
    held = _first_alike(rows) if by is None else prompts_of(rows) if by == _PROMPT else list(map(_composed, rows[by]))
    if by == _PROMPT and "completion" in rows:  # texts without a prompt
        texts = map(_composed, rows["completion"])
        held = [("", text) if isinstance(p, int) else p for p, text in zip(held or (), texts, strict=True)]
    spans = [any(names[tag] != "O" for tag in tags) for tags in rows["tags"]] if problem == "spans" else None
    return Division(_strata(rows, problem), held, by, problem == "single_label", spans)


def inputs_of(columns: Mapping[str, Sequence[Any]]) -> list[str]:
    """Each row without its labels, id and group, as text, in Unicode's composed form (NFC)."""
    shown = (columns[name] for name in columns if name not in (GROUP, "id", *LABELS))
    return [_composed(canonical(row)) for row in zip(*shown, strict=True)]


def _composed(text: str) -> str:
    """In one normal form, so that texts which look the same, and are to many tokenizers, are the same."""
    return unicodedata.normalize("NFC", text)


def _first_alike(rows: Mapping[str, Sequence[Any]]) -> list[int] | None:
    """The number of the first row with the input of each row; None where no two have one."""
    first: dict[str, int] = {}
    found = [first.setdefault(given, row) for row, given in enumerate(inputs_of(rows))]
    return found if len(first) < len(found) else None


def _strata(rows: Mapping[str, Sequence[Any]], problem: Problem) -> list[Sequence[int]]:
    if problem == "single_label":
        return [(label,) for label in rows["label"]]
    if problem == "multi_label":
        return [[i for i, there in enumerate(label) if there] for label in rows["label"]]
    if problem in ("spans", "tags"):
        return [sorted(set(tags)) for tags in rows["tags"]]
    return [()] * len(next(iter(rows.values())))


def holding(columns: Collection[str], problem: Problem) -> str | None:
    """The canonical column whose rows of one value stay together; None: each row is alone."""
    return GROUP if GROUP in columns else _HELD_BY.get(problem)


def belonging(
    splits: Mapping[str, datasets.Dataset], problem: Problem, group: str | None, split: str = "test"
) -> dict[str, Any]:
    """Which rows of a split belong together, as `adapt.result.Result.test_groups` has it; nothing where each is alone.

    Rows of one prompt are no group where it is an instruction that rows have in common: where train has it too or, if
    there is no train, where it is that of most rows. Rows that nothing else holds together are a group where they have
    one text (with its completion), as copies of rows do or what several annotators said of it, unless these are too few
    to matter.

    Args:
        splits: Rows in canonical form.
        problem: What is predicted.
        group: What the caller calls the column `group`, where there is one.
        split: Which one.
    """
    name = holding(splits[split].column_names, problem)

    def prompts(of: str) -> list[Any]:
        there = splits[of].column_names
        return prompts_of({name: column_of(splits[of], name) for name in (_PROMPT, "messages") if name in there})

    columns = {name: column_of(splits[split], name) for name in splits[split].column_names}
    if name in (None, _PROMPT):  # copies of rows that nothing else holds
        texts: list[Any] = [(text,) for text in inputs_of(columns)]
        held: list[Any] = [None] * len(texts)
        if name == _PROMPT:
            asked = prompts(split)
            if "train" in splits and split != "train":
                common = set(prompts("train"))
            else:
                common = {prompt for prompt, n in Counter(asked).items() if 2 * n > len(asked)}
            held = [None if isinstance(prompt, int) or prompt in common else prompt for prompt in asked]
        alone = [text for text, by in zip(texts, held, strict=True) if by is None]
        if len(alone) - len(set(alone)) < WORTH_SAYING * len(texts):
            texts = list(range(len(texts)))
        found = [text if by is None else by for text, by in zip(texts, held, strict=True)]
        of = _PROMPT if len(set(held) - {None}) < sum(by is not None for by in held) else "text"
    else:
        found = list(map(_composed, columns[name]))
        of = group or name if name == GROUP else name
    numbers = {value: number for number, value in enumerate(dict.fromkeys(found))}
    return {"of": of, "numbers": [numbers[value] for value in found]} if len(numbers) < len(found) else {}


def prompts_of(rows: Mapping[str, Sequence[Any]], *, answered: bool = True) -> list[Any]:
    """What rows are the completions of, as text; rows without a prompt have one each of their own, their number.

    Args:
        rows: Canonical columns, `prompt` or `messages` among them.
        answered: Whether the last message is the completion.
    """
    if "messages" in rows:
        end = -1 if answered else None
        return [_composed(canonical(list(messages)[:end])) for messages in rows["messages"]]
    return [_composed(prompt) if prompt else i for i, prompt in enumerate(rows[_PROMPT])]
