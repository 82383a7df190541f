"""The probes of one model: rows to vectors, vectors to scores by the task's own metric."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from adapt.data.samples import generator
from adapt.data.table import column_of
from adapt.display import counted
from adapt.extraction.linear import Fit, Vectors, best, fits, measure
from adapt.extraction.probed import LayerProbe, Probed
from adapt.extraction.reading import Reader
from adapt.extraction.representations import read
from adapt.metrics import LOWER_IS_BETTER
from adapt.spec import DataError, Task
from adapt.tasks import KINDS, Example, Kind
from adapt.tasks.tokens import check_embedded

if TYPE_CHECKING:
    import datasets

STREAM = 100
"""Of random numbers, which no other choice by the seed draws from: of control targets, and next to it of rows."""


@dataclass(frozen=True)
class Part:
    """Rows of a split as one model reads them."""

    examples: Sequence[Example]
    values: np.ndarray
    """(layers, vectors, hidden): a vector a row or a word."""
    targets: np.ndarray
    types: Sequence[str]
    """The word type that decides the control target of each vector."""
    every_type: Sequence[str]
    """The same of all words of the rows, also of those that the tokenizer makes nothing of: for all models alike."""
    every_target: np.ndarray
    """And their targets."""


class _Fitted(NamedTuple):
    """The probe of a layer."""

    score: float
    accuracy: float
    """Of the probe that this chooses, which is another one where the score chooses another penalty."""
    penalty: float
    """Chosen by the score."""


class Found(NamedTuple):
    """What the probes of one model found."""

    probed: Probed
    baseline: list[tuple[str, float]]
    """Name and score of a prediction made without a model, for each seed."""
    counts: dict[str, Any]
    """As of `Probing`."""
    notes: list[str]
    """What must be said of rows, such as how many were cut; of those of train by the first seed's."""


class Probes:
    """The probes of one model."""

    def __init__(self, model: Reader, task: Task, layers: Sequence[int], pooling: Any) -> None:
        self.model, self.task, self.layers, self.pooling = model, task, layers, pooling

    def found(
        self, drawn: Mapping[str, datasets.Dataset], seeds: int, control: bool, report: Callable[[str], None]
    ) -> Found:
        """Fit and score the probes of all layers and seeds.

        Args:
            drawn: Rows of `train 0`, `train 1`, ... (one object where they are the same), `validation` and `test`.
            seeds: How many.
            control: Whether the control task is probed too.
            report: Told of each layer that is probed.
        """
        kind = self._kind()
        held = {split: self._part(kind, drawn[split], split) for split in ("validation", "test")}
        notes, test = list(kind.notes), held["test"]
        fitted: list[list[_Fitted]] = [[] for _ in self.layers]
        controls: list[list[float]] = [[] for _ in self.layers]
        baseline, sizes = [], []
        before: datasets.Dataset | None = None
        parts: list[Part] = []
        for seed in range(seeds):
            rows = drawn[f"train {seed}"]
            if rows is not before:  # else they are all there are, and the probes the same
                kind, before = self._kind(), rows
                parts.clear()  # the last sample's vectors are gone before the next are there
                parts += [self._part(kind, rows, "train"), *held.values()]
                kind.fit(parts[0].examples)
                if seed == 0:
                    notes += kind.notes
                    notes += kind.unknown([example for part in parts for example in part.examples])
                own = [self._fitted(kind, parts, place) for place in range(len(self.layers))]
                simple = kind.baseline(parts[0].examples, test.examples)
            sizes.append({"vectors": len(parts[0].targets), "rows": len(rows)})
            if simple is not None:
                baseline.append((simple[0], kind.score(simple[1], test.examples)[self.task.metric]))
            targets = control_targets(parts, seed) if control else None
            notes += self._of_types(parts[0].types, test.types) if control and seed == 0 else []
            for place, layer in enumerate(self.layers):
                fitted[place].append(own[place])
                if targets is not None:
                    controls[place].append(self._control(parts, place, targets))
                score = own[place].score
                report(f"{self.model.name}, seed {seed}, layer {layer}: {self.task.metric} {score:.4f}")
        layers = []
        for layer, of_layer, on_control in zip(self.layers, fitted, controls, strict=True):
            scores, accuracies, penalties = zip(*of_layer, strict=True)
            layers.append(LayerProbe(layer, scores, accuracies, tuple(on_control), penalties))
        origin = {**self.model.origin, "precision": self.model.precision}
        counts = {split: {"vectors": len(part.targets), "rows": len(drawn[split])} for split, part in held.items()}
        return Found(Probed(self.model.name, origin, tuple(layers)), baseline, {"train": sizes, **counts}, notes)

    def _of_types(self, train: Sequence[str], test: Sequence[str]) -> list[str]:
        """What must be said where the control task is none of learning by heart: types are few, or others in test."""
        words = "words" if self.task.kind == "token_classification" else "first words"
        known = set(train)
        share = sum(each in known for each in test) / len(test)
        if len(known) == 1:
            return [
                f"all {words} of train are {train[0]!r}, so that the control task has one target and selectivity tells "
                "nothing"
            ]
        if share < _KNOWN:
            return [
                f"{share:.0%} of the {words} of test occur as such in train, too: what the control task asks for "
                "cannot be learnt by heart, and selectivity is hardly more than the distance from a guess"
            ]
        reached = np.cumsum([count for _, count in Counter(train).most_common()])
        few = int(np.searchsorted(reached, len(train) / 2)) + 1
        if few >= _FEW:
            return []
        return [
            f"half of the {words} of train are of {counted(few, 'type')}: the control task asks for hardly more than "
            "which of them it is, and selectivity tells little of learning by heart"
        ]

    def _kind(self) -> Kind:
        return KINDS[self.task.kind](self.task, self.model.tokenizer)

    def _part(self, kind: Kind, rows: datasets.Dataset, split: str) -> Part:
        examples = kind.encode(rows, split=split)
        check_embedded(self.model.model, kind.tokenizer, examples, split)
        if self.task.kind == "sequence_classification":
            values = read(self.model, examples, self.layers, self.pooling)[0]
            types = [text.split()[0] for text in column_of(rows, "text")]
            labels = np.array([example["label"] for example in examples])
            return Part(examples, values, labels, types, types, labels)
        words = {e["row"]: e["row_words"] for e in examples if "row_words" in e}
        if not any(example["words"] for example in examples):
            raise DataError(
                f"{self.model.name}: its tokenizer makes no token of any word of {split}; give it words that it knows"
            )
        values = read(self.model, [_marked(example) for example in examples], self.layers, "words")[0]
        targets = np.array([tag for example in examples for tag in example["tags"]])
        types = [words[e["row"]][word] for e in examples for word in e["words"]]
        every_tag = np.array([tag for tags in column_of(rows, "tags") for tag in tags])
        every_word = [word for row in column_of(rows, "tokens") for word in row]
        return Part(examples, values, targets, types, every_word, every_tag)

    def _fitted(self, kind: Kind, parts: Sequence[Part], place: int) -> _Fitted:
        """The probe of a layer, scored on test."""
        train, validation, last = (Vectors(part.values[place], part.targets) for part in parts)
        tried, metric = fits(self.task.problem, train), self.task.metric

        def score(decisions: np.ndarray, part: Part) -> float:
            return kind.score(self._outputs(decisions, part.examples), part.examples)[metric]

        def value(decisions: np.ndarray) -> float:
            return -score(decisions, parts[1]) if metric in LOWER_IS_BETTER else score(decisions, parts[1])

        by_score = best(tried, validation.values, value)
        return _Fitted(
            score(by_score.decide(last.values), parts[2]), self._measured(tried, validation, last), by_score.penalty
        )

    def _measured(self, tried: Sequence[Fit], validation: Vectors, last: Vectors) -> float:
        """The metric of `MEASURES` on test, of the probe that it chooses."""

        def value(decisions: np.ndarray, of: Vectors) -> float:
            return measure(self.task.problem, decisions, of.targets)

        chosen = best(tried, validation.values, partial(value, of=validation))
        return value(chosen.decide(last.values), last)

    def _control(self, parts: Sequence[Part], place: int, targets: Sequence[np.ndarray]) -> float:
        """Accuracy of the probe of a layer that learns the control task."""
        train, validation, last = (Vectors(part.values[place], own) for part, own in zip(parts, targets, strict=True))
        return self._measured(fits(self.task.problem, train), validation, last)

    def _outputs(self, decisions: np.ndarray, examples: Sequence[Example]) -> list[Any]:
        """Decisions as the task kind has a model's outputs: one tensor a row or window."""
        problem, classes = self.task.problem, torch.eye(max(len(self.task.labels), 1))
        if problem == "regression":
            return list(torch.from_numpy(np.asarray(decisions, dtype=np.float64))[:, None])
        if problem == "multi_label":
            return list(torch.from_numpy(np.asarray(decisions, dtype=np.float32)) - 0.5)
        logits = classes[torch.from_numpy(np.asarray(decisions, dtype=np.int64))]
        return list(logits if problem == "single_label" else logits.split([len(e["words"]) for e in examples]))


def _marked(example: Example) -> Example:
    """The window with its words where they are read, as `read` looks for them."""
    words: list[int | None] = [None] * len(example["input_ids"])
    for number, position in enumerate(example["positions"]):
        words[position] = number
    return {**example, "words": words}


_KNOWN = 0.2
"""Share of test's types that train has, below which the control task is hardly one; of words it is some 0.8."""
_FEW = 10
"""Types that make up half of train's, below which the control task is hardly one: a probe that tells so few apart knows
their targets. Of words they are 100 and more, of the first words of reviews some 20, and of questions 4 and fewer."""


def control_targets(parts: Sequence[Part], seed: int) -> list[np.ndarray]:
    """Targets of the control task (Hewitt & Liang 2019, section 2): drawn for each word type from those of train.

    Args:
        parts: Rows of train, and of further splits, in which a type has the same target.
        seed: Decides the targets.

    Returns:
        For each part (vectors,) or (vectors, labels).
    """
    known = {word: i for i, word in enumerate(sorted({word for part in parts for word in part.every_type}))}
    pool = parts[0].every_target
    drawn = pool[generator(seed, STREAM).integers(len(pool), size=len(known))]
    return [drawn[[known[word] for word in part.types]] for part in parts]
