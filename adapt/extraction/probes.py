"""The probes of one model: rows to vectors, vectors to scores by the task's own metric."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from adapt.extraction.control import control_targets
from adapt.extraction.linear import Vectors, fit, measure
from adapt.extraction.probed import LayerProbe, Probed
from adapt.extraction.reading import Reader
from adapt.extraction.representations import read
from adapt.spec import DataError, Task
from adapt.tasks import KINDS, Example, Kind

if TYPE_CHECKING:
    import datasets


@dataclass(frozen=True)
class _Part:
    """Rows of a split as one model reads them."""

    examples: Sequence[Example]
    values: np.ndarray
    """(layers, vectors, hidden): a vector a row or a word."""
    targets: np.ndarray
    types: Sequence[str]
    """The word that decides the control target of each vector."""


class Probes:
    """One model, a layer at a time."""

    def __init__(
        self, model: Reader, task: Task, layers: Sequence[int], pooling: Any, report: Callable[[str], None]
    ) -> None:
        self.model, self.task, self.layers, self.pooling, self.report = model, task, layers, pooling, report
        self.notes: list[str] = []
        """What must be said of rows, such as how many were cut; of those of train by the first seed's."""

    def probed(
        self, drawn: dict[str, datasets.Dataset], seeds: int, control: bool
    ) -> tuple[Probed, list[tuple[str, float]], dict[str, Any]]:
        """What the probes find; name and score of a prediction without a model, for each seed; numbers of vectors."""
        kind = self._kind()
        held = [self._part(kind, drawn[split], split) for split in ("validation", "test")]
        self.notes = list(kind.notes)
        results: dict[int, list[dict[str, float]]] = {layer: [] for layer in self.layers}
        baselines, sizes = [], []
        before: datasets.Dataset | None = None
        for seed in range(seeds):
            rows = drawn[f"train {seed}"]
            if rows is not before:  # else they are all there are, and the probes the same
                kind, before = self._kind(), rows
                train = self._part(kind, rows, "train")
                kind.fit(train.examples)
                self.notes += kind.notes if seed == 0 else []
                parts = [train, *held]
                own = [self._task(kind, parts, place) for place in range(len(self.layers))]
                simple = kind.baseline(train.examples, held[1].examples)
            sizes.append({"vectors": len(train.targets), "rows": len(rows)})
            if simple is not None:
                baselines.append((simple[0], kind.score(simple[1], held[1].examples)[self.task.metric]))
            targets = control_targets([part.types for part in parts], train.targets, seed) if control else None
            for place, layer in enumerate(self.layers):
                also = {} if targets is None else {"control": self._control(parts, place, targets)}
                found = {**own[place], **also}
                results[layer].append(found)
                self.report(f"{self.model.name}, seed {seed}, layer {layer}: {self.task.metric} {found['score']:.4f}")
        probed = Probed(self.model.name, {**self.model.origin, "precision": self.model.precision}, tuple(
            LayerProbe(
                layer, tuple(f["score"] for f in found), tuple(f["measure"] for f in found),
                tuple(f["control"] for f in found if "control" in f), tuple(f["penalty"] for f in found),
            )
            for layer, found in results.items()
        ))  # fmt: skip
        counts: dict[str, Any] = {"train": sizes}
        for split, part in zip(("validation", "test"), held, strict=True):
            counts[split] = {"vectors": len(part.targets), "rows": len(drawn[split])}
        return probed, baselines, counts

    def _kind(self) -> Kind:
        return KINDS[self.task.kind](self.task, self.model.tokenizer)

    def _part(self, kind: Kind, rows: datasets.Dataset, split: str) -> _Part:
        examples = kind.encode(rows, split=split)
        if self.task.kind == "sequence_classification":
            values = read(self.model, examples, self.layers, self.pooling)[0]
            types = [text.split()[0] for text in rows["text"]]
            return _Part(examples, values, np.array([example["label"] for example in examples]), types)
        words = {e["row"]: e["row_words"] for e in examples if "row_words" in e}
        if not any(example["words"] for example in examples):
            raise DataError(
                f"{self.model.name}: its tokenizer makes no token of any word of {split}; give it words that it knows"
            )
        values = read(self.model, [_marked(example) for example in examples], self.layers, "words")[0]
        targets = np.array([tag for example in examples for tag in example["tags"]])
        return _Part(examples, values, targets, [words[e["row"]][word] for e in examples for word in e["words"]])

    def _task(self, kind: Kind, parts: Sequence[_Part], place: int) -> dict[str, float]:
        """Score, measure and penalty of the probe of a layer."""
        problem, test = self.task.problem, parts[2]
        train, validation, last = (Vectors(part.values[place], part.targets) for part in parts)
        best = fit(problem, train, validation)
        decisions = best.decide(last.values)
        scores = kind.score(self._outputs(decisions, test.examples), test.examples)
        return {
            "score": scores[self.task.metric],
            "measure": measure(problem, decisions, last.targets),
            "penalty": best.penalty,
        }

    def _control(self, parts: Sequence[_Part], place: int, targets: Sequence[np.ndarray]) -> float:
        """Measure of the probe of a layer that learns the control task."""
        problem = self.task.problem
        train, validation, last = (Vectors(part.values[place], own) for part, own in zip(parts, targets, strict=True))
        return measure(problem, fit(problem, train, validation).decide(last.values), last.targets)

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
