"""Rows without labels, which a teacher labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import pytest
import task_helpers
import torch
from comparison_helpers import in_this_process
from distillation_helpers import CELLS, OPTIONS, QUICK, SHORT, lesson_of
from tiny_tasks import TASKS

import adapt
import adapt.training
from adapt.adapted import Adapted
from adapt.comparison import grid
from adapt.distillation import labelled_by, said
from adapt.distillation.said import said_of
from adapt.spec import DataError
from adapt.tasks import KINDS, QuestionAnswering
from adapt.tasks.generation import Written
from adapt.training import predict


@pytest.mark.parametrize("task", [task for task in CELLS if task != "masked"])
def test_the_teacher_labels_rows_of_every_kind(task: str, teachers: Callable[[str], Adapted]) -> None:
    teacher, data = teachers(task), TASKS[task]()
    labels = {"label", "tags", "answer_texts", "answer_starts", "target", "references", "completion"}
    inputs = data.splits["test"].remove_columns(sorted(labels & set(data.splits["test"].column_names)))
    if task == "messages":
        inputs = inputs.map(lambda row: {"messages": row["messages"][:-1]})
    predicted = teacher.predict(inputs)
    labelled = labelled_by(teacher, inputs, data)
    found = labelled.rows
    assert found.features == data.splits["train"].features
    ended = [
        not isinstance(o, dict) or bool(o["written"].ended and o["text"]) for o in said_of(teacher, inputs).outputs
    ]
    predicted = [p for i, p in enumerate(predicted) if len(ended) > len(predicted) or ended[i]]
    assert any("were left out" in note for note in labelled.notes) == (len(predicted) < len(inputs))
    for row, prediction in zip(found, predicted, strict=True):
        if task == "tags" or task == "spans":
            assert [data.labels[tag] for tag in row["tags"]] == prediction["tags"]
        elif task == "multi_label":
            assert [name for name, on in zip(data.labels, row["label"], strict=True) if on] == prediction["labels"]
        elif task == "regression":
            assert row["label"] == prediction["value"]
        elif task == "answers":
            (text,), (start,) = row["answer_texts"], row["answer_starts"]
            assert row["context"][start : start + len(text)] == text == prediction["answer"]
        elif task == "text":
            assert row["references"] == [row["target"]] == [prediction["text"].strip()]
        elif task == "completion":
            assert row["completion"].strip() == prediction["text"]
        elif task == "messages":
            assert row["messages"][-1] == {"role": "assistant", "content": row["messages"][-1]["content"]}
            assert row["messages"][-1]["content"].strip() == prediction["text"]
        else:
            assert data.labels[row["label"]] == prediction["label"]


@pytest.mark.parametrize("learnt", ["messages", "completion"])
def test_a_teacher_is_asked_in_the_form_that_it_learnt(learnt: str, teachers: Callable[[str], Adapted]) -> None:
    """Whatever the student's."""
    asked, data = [], TASKS["completion" if learnt == "messages" else "messages"]()

    def ask(teacher: Adapted, rows: Any) -> Any:
        asked.append(rows.column_names)
        found = said_of(teacher, rows)
        made = [{**output, "written": Written("cold", (), True), "text": "cold"} for output in found.outputs]
        return dataclasses.replace(found, outputs=made)

    found = labelled_by(teachers(learnt), ["sunny word1", "warm"], data, ask=ask).rows
    assert asked == [["messages" if learnt == "messages" else "prompt"]]
    if learnt == "messages":
        assert found.to_dict() == {"prompt": ["sunny word1", "warm"], "completion": ["cold", "cold"]}
    else:
        said = [[turn["content"] for turn in turns] for turns in found["messages"]]
        assert said == [["sunny word1", "cold"], ["warm", "cold"]]


def test_blank_lines_are_no_rows_to_be_labelled(teachers: Callable[[str], Adapted], tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("word1\n\nword2\n")
    found = labelled_by(teachers("single_label"), tmp_path / "x.txt", TASKS["single_label"]()).rows
    assert list(found["text"]) == ["word1", "word2"]


@pytest.mark.parametrize("task", ["regression", "spans", "answers", "text"])
def test_what_a_teacher_said_is_kept_to_the_bit(
    task: str, teachers: Callable[[str], Adapted], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher, rows = teachers(task), TASKS[task]().splits["test"]
    found = []
    for _ in range(2):
        monkeypatch.setattr(said, "_known", WeakKeyDictionary())
        found.append(said_of(teacher, rows, kept=tmp_path / "new"))
        monkeypatch.setattr(adapt.training, "predict", None)
    first, again = found
    assert again.examples == first.examples
    for one, other in zip(first.outputs, again.outputs, strict=True):
        assert one == other if task == "text" else (torch.equal(one, other) and one.dtype == other.dtype)


@pytest.mark.parametrize("weight", [0.0, 0.5])
@pytest.mark.parametrize("task", ["single_label", "spans", "answers", "text", "completion"])
def test_rows_without_labels_join_those_of_training(
    task: str, weight: float, teachers: Callable[[str], Adapted], backbone: Callable[..., Path]
) -> None:
    teacher, data = teachers(task), TASKS[task]()
    grouped = {s: rows.add_column("group", [f"{i // 2}" for i in range(len(rows))]) for s, rows in data.splits.items()}
    data = dataclasses.replace(data, splits=grouped)
    labels = {"group", "label", "tags", "answer_texts", "answer_starts", "target", "references", "completion"}
    inputs = data.splits["validation"].remove_columns(sorted(labels & set(data.splits["train"].column_names)))
    student = adapt.distill(
        teacher, backbone(CELLS[task], seed=3), data, "full", unlabelled=inputs, weight=weight, max_train=20, **SHORT,
        **OPTIONS.get(task, {}),
    )  # fmt: skip
    result, description = student.result, student.run.teacher
    assert result is not None
    assert description is not None
    more = len(labelled_by(teacher, inputs, data).rows)
    assert description.unlabelled_rows == more
    assert result.test_groups["numbers"][:3] == [0, 0, 1]
    assert f"{more:,} training rows have no labels but what {description.name} predicts" in result.notes
    seen = [note for note in result.notes if note.endswith("are among the rows without labels too (100%)")]
    assert len(seen) == (task == "completion" or more == len(inputs))
    assert result.environment["train_rows"] == 20 + more
    plain = adapt.fit(backbone(CELLS[task], seed=3), data, "full", max_train=20, **SHORT, **OPTIONS.get(task, {}))
    assert plain.result is not None
    assert result.baseline == plain.result.baseline  # which no teacher has a part in
    assert student.run.task == plain.run.task


def test_classes_in_another_order_are_the_same_classes(
    teachers: Callable[[str], Adapted], backbone: Callable[..., Path]
) -> None:
    teacher, data = teachers("single_label"), TASKS["single_label"]()
    turned = {
        split: rows.map(lambda row: {"label": len(data.labels) - 1 - row["label"]})
        for split, rows in data.splits.items()
    }
    other = dataclasses.replace(data, labels=data.labels[::-1], splits=turned)
    texts = [row["text"] for row in data.splits["test"]]
    wanted = [prediction["label"] for prediction in teacher.predict(texts)]
    assert [other.labels[row["label"]] for row in labelled_by(teacher, texts, other).rows] == wanted
    _, encoded, lesson = lesson_of(teacher, backbone("bert"), other)
    said = lesson.collate(encoded.splits["train"])["teacher"]
    rows = teacher.fitted.kind.encode(data.splits["train"])
    outputs = predict(teacher.fitted.model, teacher.fitted.kind, rows, teacher.run.budget)
    assert torch.allclose(said, torch.stack(outputs).flip(-1))


def test_classes_that_the_teacher_alone_knows_are_its_students_too(
    backbone: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where few rows are labelled: those without labels may be of any class."""
    every = adapt.data.load((["sunny", "cold", "word1"] * 8, ["good", "bad", "none"] * 8), name="three", validation=0)
    teacher = adapt.fit(backbone("bert"), every, adapt.Full(learning_rate=5e-3), **{**QUICK, "epochs": 12})
    data = adapt.data.load((["sunny", "word1"] * 12, ["good", "none"] * 12), name="two", validation=0)
    how: dict[str, Any] = {"unlabelled": ["cold"] * 8, "weight": 0.0, **QUICK, "epochs": 12}
    student = adapt.distill(teacher, backbone("bert"), data, adapt.Full(learning_rate=5e-3), **how)
    assert student.run.task.labels == ("bad", "good", "none")
    assert [row["label"] for row in student.predict(["cold", "sunny", "word1"])] == ["bad", "good", "none"]
    assert student.result is not None
    (note,) = (note for note in student.result.notes if "alone" in note)
    assert note == "1 of 3 classes are the teacher's alone, of which no row has the label: bad"
    assert student.result.scores["test"]["accuracy"] == 1.0
    monkeypatch.setattr(grid, "execute", in_this_process)
    compared = adapt.compare(
        backbone("bert"), data, [adapt.Full(learning_rate=5e-3)], seeds=1, teacher=teacher, out=tmp_path, **how
    )
    assert compared.results[0]["key"] == student.run.key()
    assert compared.results[0]["scores"] == student.result.scores


def test_texts_without_an_end_are_left_out(teachers: Callable[[str], Adapted], monkeypatch: pytest.MonkeyPatch) -> None:
    teacher, data = teachers("text"), TASKS["text"]()
    said = [Written("", (), True), Written(" sunny ", (5,), True), Written("sunny", (5,), False)]
    outputs = [{"nll": None, "tokens": None, "text": written.text, "written": written} for written in said]
    monkeypatch.setattr(adapt.training, "predict", lambda *_, **__: outputs)
    found = labelled_by(teacher, ["word1 word1", "word2 word1", "word3 word1"], data)
    assert [(row["source"], row["target"]) for row in found.rows] == [("word2 word1", "sunny")]
    assert found.notes == ("2 of 3 rows without labels were left out, to which the teacher finds no answer or end",)
    del outputs[1:]
    with pytest.raises(DataError, match="To none of the 1 rows without labels the teacher finds an answer, or an end"):
        labelled_by(teacher, ["word1 word2"], data)


def test_a_model_that_may_not_write_more_has_not_ended(teachers: Callable[[str], Adapted]) -> None:
    teacher = teachers("completion")
    prompts = [row["prompt"] for row in TASKS["completion"]().splits["test"]]
    outputs = {}
    for most in (1, 4):
        kind = KINDS["causal_lm"](
            dataclasses.replace(teacher.run.task, options={"max_new_tokens": most}), teacher.fitted.tokenizer
        )
        examples = kind.encode(adapt.data.read_inputs(prompts, teacher.run.task))
        outputs[most] = predict(teacher.fitted.model, kind, examples, teacher.run.budget)
    assert all(output["written"].ended == (not output["written"].ids) for output in outputs[1])
    assert True in {output["written"].ended for output in outputs[4]}
    assert all(len(output["written"].ids) < 4 for output in outputs[4] if output["written"].ended)
    assert False in {output["written"].ended for output in outputs[1]}


@pytest.mark.parametrize("separator", ["", " ", "\n", ": "])
@pytest.mark.parametrize("tokenizer", ["gpt2", "llama3", "wordpiece"])
@pytest.mark.parametrize("prompted", [True, False])
def test_what_was_written_is_learnt_token_by_token(tokenizer: str, separator: str, prompted: bool) -> None:
    """The made-up row has the tokens that the teacher read and wrote, whatever white space lies between."""
    made = task_helpers.wordpiece(cls=False) if tokenizer == "wordpiece" else task_helpers.byte_level(tokenizer)
    kind = task_helpers.kind("causal_lm", made, "completion", "perplexity", separator=separator)
    kind.load_state({"prompted": float(prompted)})
    for prompt in ("anna saw", "anna saw ", "in paris  "):
        rows = adapt.data.load({"train": [{"prompt": prompt, "completion": "bob in paris"}] * 2}, kind="causal_lm",
                               validation=0, test=0).splits["train"]  # fmt: skip
        (asked, *_) = kind.encode(rows.remove_columns("completion"))
        space = "" if tokenizer == "wordpiece" else kind._prompts.moved(prompt) or " "
        wrote = made(f"{space}bob in paris", add_special_tokens=False)["input_ids"]
        written = Written(made.decode(wrote), tuple(wrote), True)
        ours, text = kind.learnable({"written": written}, prompt)
        again = adapt.data.load({"train": [{"prompt": ours, "completion": text}] * 2}, kind="causal_lm", validation=0,
                                test=0).splits["train"]  # fmt: skip
        (learnt, *_) = kind.encode(again, split="validation")
        assert learnt["input_ids"] == [*asked["prompt_ids"], *wrote, made.eos_token_id], (prompt, ours, text)


def test_an_answer_of_white_space_is_none(teachers: Callable[[str], Adapted], monkeypatch: pytest.MonkeyPatch) -> None:
    teacher, data = teachers("answers"), TASKS["answers"]()
    inputs = data.splits["test"].select(range(2)).remove_columns(["answer_texts", "answer_starts"])
    first = teacher.predict(inputs)[0]
    monkeypatch.setattr(
        QuestionAnswering, "decode", lambda *_: [first, {"id": "x", "answer": "", "start": None, "score": 0.0}]
    )
    found = labelled_by(teacher, inputs, data)
    assert [row["answer_texts"] for row in found.rows] == [[first["answer"]]]
    teacher.fitted.kind.load_state({"unanswerable": 1.0})
    try:
        also = labelled_by(teacher, inputs.map(lambda row: {"question": row["question"] + " word1"}), data)
    finally:
        teacher.fitted.kind.load_state({"unanswerable": 0.0})
    assert [row["answer_texts"] for row in also.rows] == [[first["answer"]], []]
