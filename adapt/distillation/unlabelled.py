"""Rows without labels, labelled by a teacher (pseudo-labels, Lee 2013; of texts sequence-level distillation, Kim & Rush
2016, section 3.2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adapt.adapted import Adapted
from adapt.data import Data, as_learnt, read_inputs
from adapt.data.groups import GROUP, prompts_of
from adapt.data.remarks import seen_before
from adapt.data.table import column_of
from adapt.distillation.said import Ask, Said, said_of
from adapt.spec import DataError, OptionError

if TYPE_CHECKING:
    import datasets

WITHOUT_LABELS = "the rows without labels"
"""What notes call them."""


@dataclass(frozen=True)
class Labelled:
    """Rows with what a teacher predicts in place of labels."""

    rows: datasets.Dataset
    """With the columns that labelled rows have, but for their groups."""
    notes: tuple[str, ...]
    """What must be said: rows left out, texts that the teacher did not read whole, held-out rows among them."""


@dataclass(frozen=True)
class _Asked:
    """A row, and what the teacher says of it."""

    row: Mapping[str, Any]
    prediction: Mapping[str, Any]
    """As `Kind.decode` gives it."""
    asked: Mapping[str, Any]
    """The row in the form in which the teacher reads it."""
    output: Any
    """As `Kind.outputs` gives it, where a row has one."""
    kind: Any
    """The teacher's."""
    data: Data
    """The labelled rows, whose classes have their numbers."""


def labelled_by(
    teacher: Adapted,
    rows: Any,
    data: Data,
    columns: Mapping[str, str] | None = None,
    ask: Ask = said_of,
) -> Labelled:
    """Have a teacher label rows.

    Left out are rows for which it writes nothing, or no end (`max_new_tokens`, `max_target_length`), and questions that
    it answers by white space where all that it was trained on had answers.

    Args:
        teacher: Predicts.
        rows: Anything that `adapt.data.read_inputs` reads; blank lines of a plain text file are passed over.
        data: Labelled rows of the same task, whose columns, and numbers of classes, these are to have.
        columns: As for `read_inputs`.
        ask: How it is asked.

    Raises:
        DataError: A row cannot be used, or all are left out.
        OptionError: Rows of the task have no labels.
    """
    import datasets

    if data.kind not in AS_LABELS:
        raise OptionError(
            f"unlabelled: rows for {data.kind} are texts alone, to which a teacher has nothing to add; put them among "
            "those of the data."
        )
    like = {name: feature for name, feature in data.splits["train"].features.items() if name != GROUP}
    try:
        usual = data.columns or teacher.columns
        inputs = read_inputs(rows, teacher.run.task, columns, usual, every_line=False)
        asked = as_learnt(inputs, teacher.run.task, teacher.columns)
        said = ask(teacher, asked)
    except DataError as error:
        raise DataError(f"unlabelled: {error}") from None
    made = _with_labels(inputs, asked, said, data)
    if not made:
        raise DataError(
            f"To none of the {len(inputs)} rows without labels the teacher finds an answer, or an end; leave them "
            "out, or take a teacher that may write more (max_new_tokens, max_target_length)."
        )
    missing = sorted(like.keys() - made[0].keys())
    if missing:
        raise DataError(
            f"The rows without labels have no {', '.join(missing)}, which the labelled rows have; give them in the "
            "same form."
        )
    notes = said.notes(WITHOUT_LABELS)
    if left := len(inputs) - len(made):
        notes.append(
            f"{left} of {len(inputs)} rows without labels were left out, to which the teacher finds no answer or end"
        )
    own = {name: [row[name] for row in made] for name in like}
    held_out = {
        split: {name: column_of(of_split, name) for name in like}
        for split, of_split in data.splits.items()
        if split != "train"
    }
    if not {"completion", "messages"}.isdisjoint(like):
        notes += _asked_before(inputs, data)
    else:
        notes += seen_before({"train": own, **held_out}, f"among {WITHOUT_LABELS}")
    return Labelled(datasets.Dataset.from_dict(own, features=datasets.Features(like)), tuple(notes))


def _asked_before(inputs: datasets.Dataset, data: Data) -> list[str]:
    """What must be said of held-out prompts that are among those without labels, instructions that train has aside."""

    def prompts(rows: datasets.Dataset, **how: bool) -> list[Any]:
        there = [name for name in ("prompt", "messages") if name in rows.column_names]
        return prompts_of({name: column_of(rows, name) for name in there}, **how)

    common = set(prompts(data.splits["train"]))
    asked = {"train": {"prompt": prompts(inputs, answered=False)}}
    for split, rows in data.splits.items():
        if split != "train":
            own = enumerate(prompts(rows))
            asked[split] = {"prompt": [p if isinstance(p, str) and p not in common else -1 - i for i, p in own]}
    return seen_before(asked, f"among {WITHOUT_LABELS}")


def _with_labels(inputs: datasets.Dataset, asked: datasets.Dataset, said: Said, data: Data) -> list[dict[str, Any]]:
    """Rows with what the teacher says in place of labels, without those of which it says nothing that can be learnt."""
    predictions = said.kind.decode(said.outputs, said.examples)
    outputs = said.outputs if len(said.outputs) == len(inputs) else [None] * len(inputs)  # of windows
    rows = []
    for row, read, prediction, output in zip(inputs, asked, predictions, outputs, strict=True):
        labels = AS_LABELS[data.kind](_Asked(row, prediction, read, output, said.kind, data))
        if labels is not None:
            rows.append({**row, **labels})
    return rows


def _label(asked: _Asked) -> dict[str, Any] | None:
    if asked.data.problem == "regression":
        return {"label": asked.prediction["value"]}
    if asked.data.problem == "multi_label":
        return {"label": [int(name in asked.prediction["labels"]) for name in asked.data.labels]}
    return {"label": asked.data.labels.index(asked.prediction["label"])}


def _tags(asked: _Asked) -> dict[str, Any] | None:
    return {"tags": [asked.data.labels.index(tag) for tag in asked.prediction["tags"]]}


def _answer(asked: _Asked) -> dict[str, Any] | None:
    answer = asked.prediction["answer"]
    if answer:
        return {"answer_texts": [answer], "answer_starts": [asked.prediction["start"]]}
    return {"answer_texts": [], "answer_starts": []} if asked.kind.state()["unanswerable"] else None


def _target(asked: _Asked) -> dict[str, Any] | None:
    written = asked.output["written"]
    return {"target": written.text, "references": [written.text]} if written.text and written.ended else None


def _completion(asked: _Asked) -> dict[str, Any] | None:
    written, messages = asked.output["written"], asked.row.get("messages")
    if not (written.text and written.ended):
        return None
    given = asked.asked["messages"] if "messages" in asked.asked else asked.asked["prompt"]
    prompt, text = asked.kind.learnable(asked.output, given)
    if messages is not None:
        return {"messages": [*messages, {"role": "assistant", "content": text if prompt == given else written.text}]}
    return {"prompt": prompt if isinstance(given, str) else asked.row["prompt"], "completion": text}


AS_LABELS: dict[str, Callable[[_Asked], dict[str, Any] | None]] = {
    "sequence_classification": _label,
    "token_classification": _tags,
    "question_answering": _answer,
    "seq2seq": _target,
    "causal_lm": _completion,
}
"""What the teacher says as the columns that labelled rows have; None where it cannot be learnt."""
