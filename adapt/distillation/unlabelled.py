"""Rows without labels, labelled by a teacher (pseudo-labels, Lee 2013; of texts sequence-level distillation, Kim & Rush
2016, section 3.2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from adapt.adapted import Adapted
from adapt.data import Data, read_inputs
from adapt.distillation.said import said_of
from adapt.spec import DataError

if TYPE_CHECKING:
    import datasets


def labelled_by(teacher: Adapted, rows: Any, data: Data, columns: Mapping[str, str] | None = None) -> datasets.Dataset:
    """Rows with what the teacher predicts in place of labels; those for which it writes nothing are left out.

    Args:
        teacher: Predicts.
        rows: Anything that `adapt.data.read_inputs` reads.
        data: Labelled rows of the same task, whose columns, and numbers of classes, these are to have.
        columns: As for `read_inputs`.

    Raises:
        DataError: A row cannot be used, or the teacher writes nothing for any.
    """
    import datasets

    like = data.splits["train"]
    inputs = read_inputs(rows, teacher.run.task, columns, {**teacher.columns, **data.columns})
    said = said_of(teacher, inputs)
    found = said.kind.decode(said.outputs, said.examples)
    made = [_LABELS[data.kind](prediction, row, data) for prediction, row in zip(found, inputs, strict=True)]
    kept = [{**row, **labels} for row, labels in zip(inputs, made, strict=True) if labels is not None]
    if not kept:
        raise DataError("The teacher writes nothing for any of the rows without labels; leave them out.")
    return datasets.Dataset.from_dict({c: [row[c] for row in kept] for c in like.column_names}, features=like.features)


def _label(prediction: Mapping[str, Any], row: Mapping[str, Any], data: Data) -> dict[str, Any] | None:
    if data.problem == "regression":
        return {"label": prediction["value"]}
    if data.problem == "multi_label":
        return {"label": [int(name in prediction["labels"]) for name in data.labels]}
    return {"label": data.labels.index(prediction["label"])}


def _tags(prediction: Mapping[str, Any], row: Mapping[str, Any], data: Data) -> dict[str, Any] | None:
    return {"tags": [data.labels.index(tag) for tag in prediction["tags"]]}


def _answer(prediction: Mapping[str, Any], row: Mapping[str, Any], data: Data) -> dict[str, Any] | None:
    if not prediction["answer"]:
        return {"answer_texts": [], "answer_starts": []}
    return {"answer_texts": [prediction["answer"]], "answer_starts": [prediction["start"]]}


def _target(prediction: Mapping[str, Any], row: Mapping[str, Any], data: Data) -> dict[str, Any] | None:
    text = prediction["text"].strip()
    return {"target": text, "references": [text]} if text else None


def _completion(prediction: Mapping[str, Any], row: Mapping[str, Any], data: Data) -> dict[str, Any] | None:
    text = prediction["text"]
    if not text.strip():
        return None
    if "messages" in row:
        return {"messages": [*row["messages"], {"role": "assistant", "content": text}]}
    return {"completion": text}


_LABELS: dict[str, Callable[[Mapping[str, Any], Mapping[str, Any], Data], dict[str, Any] | None]] = {
    "sequence_classification": _label,
    "token_classification": _tags,
    "question_answering": _answer,
    "seq2seq": _target,
    "causal_lm": _completion,
}
"""A prediction as the columns that labelled rows have; None where it cannot be learnt."""
