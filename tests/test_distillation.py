"""A student learns what its teacher says: the loss against references, rows without labels, and what is refused."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import task_helpers
import tiny
import torch
from comparison_helpers import result_of, run_of
from tiny_tasks import TASKS
from torch.nn import functional as F

import adapt
import adapt.training
from adapt.adapted import Adapted, assemble
from adapt.comparison.table import table_of
from adapt.data import Data
from adapt.distillation import Distilled, labelled_by, prepare
from adapt.distillation.fit import taught
from adapt.distillation.language import Tokens
from adapt.distillation.said import Said, copy_of_kind, said_of
from adapt.distillation.soft import Classes, Places, Tags, _within, divergence
from adapt.run import run_from
from adapt.spec import DataError, OptionError, Teacher, Unsupported
from adapt.tasks import KINDS, QuestionAnswering
from adapt.tasks.generation import Written
from adapt.tasks.question_answering import _tokens_of
from adapt.training import predict

QUICK: dict[str, Any] = {"device": "cpu", "precision": "fp32", "dropout": 0.0}
SHORT: dict[str, Any] = {**QUICK, "max_steps": 3, "epochs": 1}
CELLS = {
    "single_label": "bert", "pairs": "bert", "multi_label": "roberta", "regression": "bert", "spans": "bert",
    "tags": "roberta", "answers": "distilbert", "text": "t5", "completion": "gpt2", "messages": "llama",
}  # fmt: skip
"""Every task, each with an architecture."""


@pytest.fixture(scope="module")
def teachers(backbone: Callable[..., Path]) -> Callable[[str], Adapted]:
    """A teacher of each task, briefly trained, made once."""
    made: dict[str, Adapted] = {}

    def make(task: str) -> Adapted:
        if task not in made:
            architecture = CELLS[task]
            choices = {**SHORT, "max_length": 48, **OPTIONS.get(task, {}), **LONGER.get(task, {})}
            made[task] = adapt.fit(backbone(architecture), TASKS[task](), adapt.Full(learning_rate=5e-3), **choices)
        return made[task]

    return make


OPTIONS: dict[str, dict[str, Any]] = {
    "text": {"max_target_length": 12},
    "completion": {"max_new_tokens": 4},
    "messages": {"max_new_tokens": 4},
}
LONGER = {task: {"epochs": 30, "max_steps": None} for task in OPTIONS}
"""Until they come to an end of what they write."""


def lesson_of(teacher: Adapted, backbone: Path, data: Data, *, weight: float = 1.0, temperature: float = 2.0) -> Any:
    """Everything of a student but its training: its run, the kind with the lesson, encoded splits."""
    choices = {**SHORT, "max_length": 48, **OPTIONS.get(data.name, {})}
    spec, rows, source = assemble(backbone, data, adapt.Full(), **choices)
    spec = dataclasses.replace(spec, teacher=Teacher("t", "0" * 64, temperature, weight))
    return spec, taught(spec, rows, source, teacher)


# --- the loss ---


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_the_distance_is_torchs_divergence_times_the_squared_temperature(temperature: float) -> None:
    teacher, student = torch.randn(5, 7), torch.randn(5, 7)
    wanted = F.kl_div(
        (student / temperature).log_softmax(-1), (teacher / temperature).log_softmax(-1), reduction="none",
        log_target=True,
    ).sum(-1)  # fmt: skip
    assert torch.allclose(divergence(teacher, student, temperature), wanted * temperature**2, atol=1e-6)


def test_at_a_high_temperature_the_gradient_is_that_of_matching_logits() -> None:
    """Hinton et al. 2015, equation 4: for zero-meaned logits it is their difference over the number of classes."""
    teacher, student = torch.randn(1, 6), torch.randn(1, 6)
    teacher, student = teacher - teacher.mean(), (student - student.mean()).requires_grad_()
    divergence(teacher.double(), student.double(), 1e4).sum().backward()
    assert torch.allclose(student.grad, (student - teacher).detach() / 6, atol=1e-3)


@pytest.mark.parametrize("task", CELLS)
def test_a_teacher_has_nothing_to_teach_itself(
    task: str, teachers: Callable[[str], Adapted], backbone: Callable[..., Path]
) -> None:
    """With the teacher's own weights the distance is zero, and so is its gradient; any other model is further off."""
    teacher = teachers(task)
    spec, encoded = lesson_of(teacher, backbone(CELLS[task]), TASKS[task]())
    kind, model = encoded.kind, teacher.fitted.model
    kind.fit(encoded.splits["train"])
    batch = kind.collate(encoded.splits["train"][:6])
    loss = kind.loss(model, batch)
    loss.backward()
    gradients = [p.grad.abs().max() for p in model.parameters() if p.grad is not None]
    model.zero_grad(set_to_none=True)
    assert loss.abs() < 1e-5
    assert gradients
    assert max(gradients) < 1e-5
    other = adapt.Full().build(teacher.fitted.loader, spec.task).eval()
    assert kind.loss(other, batch) > 1e-3


@pytest.mark.parametrize("task", CELLS)
def test_the_weight_is_the_teachers_share(
    task: str, teachers: Callable[[str], Adapted], backbone: Callable[..., Path]
) -> None:
    teacher, folder, data = teachers(task), backbone(CELLS[task]), TASKS[task]()
    losses, own = {}, torch.zeros(())
    for weight in (1e-9, 0.25, 1.0):
        spec, encoded = lesson_of(teacher, folder, data, weight=weight)
        encoded.kind.fit(encoded.splits["train"])
        model = adapt.Full().build(teacher.fitted.loader, spec.task).eval()
        batch = encoded.kind.collate(encoded.splits["train"][:5])
        losses[weight] = encoded.kind.loss(model, batch).detach()
        own = encoded.kind.kind.loss(model, batch).detach()
    assert torch.allclose(losses[1e-9], own, rtol=1e-4)
    assert torch.allclose(losses[0.25], 0.75 * own + 0.25 * losses[1.0], rtol=1e-4)


@pytest.mark.parametrize("task", ["text", "completion"])
def test_logits_of_a_few_tokens_at_a_time_make_the_same_gradient(
    task: str, teachers: Callable[[str], Adapted], backbone: Callable[..., Path]
) -> None:
    teacher = teachers(task)
    spec, encoded = lesson_of(teacher, backbone(CELLS[task]), TASKS[task](), weight=0.7)
    kind = encoded.kind
    batch = kind.collate(encoded.splits["train"][:6])

    def gradients(chunk: int | None) -> list[torch.Tensor]:
        model = adapt.Full().build(teacher.fitted.loader, spec.task).eval()
        if chunk is None:
            model.changes_logits = True  # all logits at once, and autograd
        else:
            model.loss_chunk = chunk
        loss = kind.loss(model, batch)
        loss.backward()
        return [loss.detach(), *(p.grad for p in model.parameters() if p.grad is not None)]

    whole = gradients(None)
    for parts in (gradients(3), gradients(1000)):
        assert len(parts) == len(whole)
        assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(parts, whole, strict=True))


def test_labels_of_several_are_each_a_distribution() -> None:
    kind = task_helpers.kind("sequence_classification", task_helpers.wordpiece(), "multi_label", "micro_f1",
                             labels="abc")  # fmt: skip
    lesson = Classes(kind, kind.task, temperature=3.0, weight=1.0)
    teacher, student = torch.randn(4, 3), torch.randn(4, 3)
    q, p = (teacher / 3).sigmoid(), (student / 3).sigmoid()
    wanted = (F.binary_cross_entropy(p, q) - F.binary_cross_entropy(q, q)) * 9
    found = lesson.distance(type("Output", (), {"logits": student}), {"teacher": teacher})
    assert torch.allclose(found, wanted, atol=1e-5)


def test_numbers_are_compared_in_standard_deviations(
    teachers: Callable[[str], Adapted], backbone: Callable[..., Path]
) -> None:
    teacher, data = teachers("regression"), TASKS["regression"]()
    _, encoded = lesson_of(teacher, backbone("bert"), data)
    encoded.kind.fit(encoded.splits["train"])
    scale = encoded.kind.state()
    said = [prediction["value"] for prediction in teacher.predict(data.splits["train"].remove_columns("label"))]
    batch = encoded.kind.collate(encoded.splits["train"])
    assert torch.allclose(batch["teacher"][:, 0].double() * scale["std"] + scale["mean"], torch.tensor(said).double())


# --- tokenizers that differ ---


def encoded_by(tokenizer: Any, name: str, problem: str, rows: Any, length: int = 64, **more: Any) -> tuple[Any, Any]:
    metrics = {"tags": "token_accuracy", "answers": "answer_f1"}
    kind = task_helpers.kind(name, tokenizer, problem, metrics[problem], length=length, **more)
    return kind, kind.encode(rows, split="train")


def test_what_is_said_of_a_word_goes_to_its_first_token() -> None:
    data = adapt.data.load([{"tokens": ["anna", "playing", "\x07", "house"], "tags": ["n", "v", "n", "n"]}] * 3,
                           kind="pos", validation=0, test=0)  # fmt: skip
    rows = data.splits["train"]
    its, shown = encoded_by(task_helpers.byte_level("roberta"), "token_classification", "tags", rows, labels=["v", "n"],
                            length=8, stride=2)  # fmt: skip
    own, examples = encoded_by(task_helpers.wordpiece(), "token_classification", "tags", rows, labels=["n", "v"])
    assert len(shown) > len(examples)  # windows
    said = [torch.tensor([[float(word), -float(word)] for word in e["words"]]).reshape(-1, 2) for e in shown]
    lesson = Tags(own, own.task, 1.0, 1.0)
    lesson.teach(examples, [Said(its, its.task, shown, said)])
    batch = own.collate(examples[:1]) | lesson.collate(examples[:1])
    found = batch["teacher"][0][batch["read"][0]]
    assert found.tolist() == [[-0.0, 0.0], [-1.0, 1.0], [-3.0, 3.0]]  # the third is no word to WordPiece
    assert batch["teacher"].isfinite().all(-1).equal(batch["read"])
    logits = torch.randn(*batch["read"].shape, 2)
    distance = lesson.distance(type("Output", (), {"logits": logits}), batch)
    wanted = divergence(found, logits[0][batch["read"][0]], 1.0).mean()
    assert torch.allclose(distance, wanted)


def test_a_word_that_the_teacher_cannot_read_teaches_nothing() -> None:
    rows = adapt.data.load([{"tokens": ["anna", "\x07"], "tags": ["n", "v"]}] * 2, kind="pos", validation=0,
                           test=0).splits["train"]  # fmt: skip
    its, shown = encoded_by(task_helpers.wordpiece(), "token_classification", "tags", rows, labels=["n", "v"])
    own, examples = encoded_by(task_helpers.byte_level(), "token_classification", "tags", rows, labels=["n", "v"])
    lesson = Tags(own, own.task, 1.0, 1.0)
    lesson.teach(examples, [Said(its, its.task, shown, [torch.tensor([[3.0, 0.0]])] * 2)])
    batch = own.collate(examples) | lesson.collate(examples)
    logits = torch.zeros(*batch["read"].shape, 2, requires_grad=True)
    loss = lesson.distance(type("Output", (), {"logits": logits}), batch)
    loss.backward()
    once = divergence(torch.tensor([3.0, 0.0]), torch.zeros(2), 1.0)
    assert torch.allclose(loss, once / 2)  # a mean over both words
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


CONTEXT = "anna saw bob in paris on monday while the cat sat there"


def answers() -> Any:
    row = {"question": "who saw bob ?", "context": CONTEXT,
           "answers": {"text": ["paris"], "answer_start": [CONTEXT.index("paris")]}}  # fmt: skip
    return adapt.data.load([row] * 2, validation=0, test=0).splits["train"]


@pytest.mark.parametrize("length", [64, 14])
@pytest.mark.parametrize("tokenizer", ["wordpiece", "byte_level"])
def test_a_place_is_that_of_its_characters(tokenizer: str, length: int) -> None:
    """The mass of each of the teacher's tokens comes to stand where its characters are; none of it is lost."""
    rows = answers()
    its, shown = encoded_by(task_helpers.byte_level("roberta"), "question_answering", "answers", rows, length=24,
                            stride=4)  # fmt: skip
    own, examples = encoded_by(getattr(task_helpers, tokenizer)(), "question_answering", "answers", rows, length=length,
                               stride=2)  # fmt: skip
    sure = 40.0
    begin, end = CONTEXT.index("bob"), CONTEXT.index("paris") + len("paris")
    said = []
    for example in shown:
        logits = torch.zeros(2, 1 + len(example["offsets"]))
        for j, (a, b) in enumerate(example["offsets"]):
            if CONTEXT[a:b].strip() and a + len(CONTEXT[a:b]) - len(CONTEXT[a:b].lstrip()) == begin:
                logits[0, 1 + j] = sure
            if b == end:
                logits[1, 1 + j] = sure
        said.append(logits)
    lesson = Places(own, own.task, 1.0, 1.0)
    lesson.teach(examples, [Said(its, its.task, shown, said)])
    batch = own.collate(examples) | lesson.collate(examples)
    assert torch.allclose(batch["teacher"].sum(-1), torch.ones(len(examples), 2), atol=1e-5)
    assert not batch["teacher"][~batch["choices"][:, None].expand_as(batch["teacher"])].any()
    for row, example in zip(batch["teacher"], examples, strict=True):
        for side, character in ((0, begin), (1, end - 1)):
            places = [i for i, (a, b) in enumerate(example["offsets"]) if a <= character < b]
            wanted = example["first"] + places[0] if places else example["null"]
            assert row[side].argmax() == wanted
            assert row[side, wanted] > 0.999


@pytest.mark.parametrize("text", ["anna “saw” bob", "安娜在巴黎看见鲍勃", "café – naïve ☃☃ bob"])
@pytest.mark.parametrize("length", [64, 20])
def test_tokens_that_share_a_character_keep_what_is_theirs(text: str, length: int) -> None:
    """Tokens of bytes: what a teacher of the same tokenizer says is what the student is taught, to the last token."""
    row = {"question": "who ?", "context": text, "answers": {"text": [text[:2]], "answer_start": [0]}}
    rows = adapt.data.load([row] * 2, validation=0, test=0).splits["train"]
    its, shown = encoded_by(task_helpers.byte_level("roberta"), "question_answering", "answers", rows, length=64)
    own, examples = encoded_by(task_helpers.byte_level("roberta"), "question_answering", "answers", rows, length=length)
    said = [torch.randn(2, 1 + len(example["offsets"])) for example in shown]
    lesson = Places(own, own.task, 1.0, 1.0)
    lesson.teach(examples, [Said(its, its.task, shown, said)])
    for example in examples:
        assert np.allclose(example["teacher"].sum(1), 1.0, atol=1e-5)
    if length == 64:
        shares, wanted = said[0].softmax(-1).numpy(), np.zeros((2, len(said[0][0])))
        wanted[:, 0] = shares[:, 0]
        for token, (a, b) in enumerate(shown[0]["offsets"]):
            for side, place in enumerate(_tokens_of(shown[0]["offsets"], a, b)):  # type: ignore[arg-type]
                wanted[side, 1 + place] += shares[side, 1 + token]
        assert np.allclose(examples[0]["teacher"], wanted, atol=1e-6)


def test_a_token_that_begins_with_the_space_before_a_window_is_in_it() -> None:
    """Of byte-level vocabularies a word's token has the space before it, of others it has not."""
    shares = np.zeros((2, 3))
    shares[:, 2] = 1.0
    assert _within([(7, 12)], shares, [(0, 6), (6, 12)]).tolist() == [[0.0, 1.0], [0.0, 1.0]]
    assert _within([(0, 6)], shares, [(0, 6), (6, 12)]).tolist() == [[1.0, 0.0], [1.0, 0.0]]
    assert _within([], shares, [(0, 6), (6, 12)]).tolist() == [[1.0], [1.0]]


def test_of_overlapping_windows_the_one_with_most_context_is_believed() -> None:
    rows = answers()
    its, shown = encoded_by(task_helpers.wordpiece(), "question_answering", "answers", rows, length=14, stride=4)
    own, examples = encoded_by(task_helpers.wordpiece(), "question_answering", "answers", rows)
    shown = [example for example in shown if example["row"] == 0]
    said = [torch.full((2, 1 + len(example["offsets"])), float(i)) for i, example in enumerate(shown)]
    lesson = Places(own, own.task, 1.0, 1.0)
    lesson.teach(examples[:1], [Said(its, its.task, shown, said)])
    tokens = len(examples[0]["offsets"])
    best = []
    for token in range(tokens):
        room = [min(token - e["begin"], e["begin"] + len(e["offsets"]) - 1 - token) for e in shown]
        best.append(float(room.index(max(room))))
    wanted = torch.tensor([0.0, *best]).softmax(-1)  # of no answer the least of any window
    assert torch.allclose(torch.from_numpy(examples[0]["teacher"]), wanted.expand(2, -1), atol=1e-6)


# --- whole runs ---


@pytest.mark.parametrize("strategy", tiny.STRATEGIES)
def test_every_strategy_comes_nearer_to_the_teacher(
    strategy: str, teachers: Callable[[str], Adapted], backbone: Callable[..., Path]
) -> None:
    """Labels of no use (weight 1), another architecture as the teacher: what is learnt is the teacher's."""
    teacher, data = teachers("single_label"), TASKS["single_label"]()
    student = adapt.distill(
        teacher, backbone("electra"), data, tiny.STRATEGIES[strategy], weight=1.0, epochs=12, **QUICK
    )
    assert student.result is not None
    losses = [point["loss"] for point in student.result.curve]
    assert losses[-1] < 0.8 * losses[0]


def test_a_student_is_a_model_like_any_other(
    teachers: Callable[[str], Adapted], backbone: Callable[..., Path], tmp_path: Path
) -> None:
    teacher, data = teachers("single_label"), TASKS["single_label"]()
    before = [p.clone() for p in teacher.fitted.model.parameters()]
    notes = list(teacher.fitted.kind.notes)
    made = [adapt.distill(teacher, backbone("electra"), data, "lora", temperature=3, **SHORT) for _ in range(2)]
    assert made[0].result is not None
    assert made[0].run.teacher == Teacher("bert-2-0 full", made[0].run.teacher.sha256, 3.0, 0.5)  # type: ignore[union-attr]
    assert all(a.equal(b) for a, b in zip(before, teacher.fitted.model.parameters(), strict=True))
    assert teacher.fitted.kind.notes == notes
    assert not isinstance(made[0].fitted.kind, Distilled)
    texts = [row["text"] for row in data.splits["test"]]
    assert made[0].predict(texts) == made[1].predict(texts)
    made[0].save(tmp_path / "student")
    loaded = adapt.load(tmp_path / "student", device="cpu")
    assert loaded.predict(texts) == made[0].predict(texts)
    assert loaded.run == made[0].run
    content = made[0].result.to_json()
    assert run_from(content["spec"]) == made[0].run
    plain = dataclasses.replace(made[0].run, teacher=None)
    assert plain.key() != made[0].run.key()
    assert "teacher" not in plain.spec()


def test_a_saved_teacher_says_the_same(
    teachers: Callable[[str], Adapted], backbone: Callable[..., Path], tmp_path: Path
) -> None:
    teacher, data = teachers("single_label"), TASKS["single_label"]()
    folder = teacher.save(tmp_path / "teacher")
    made = [adapt.distill(t, backbone("electra"), data, "head", **SHORT) for t in (teacher, folder, str(folder))]
    assert made[0].run == made[1].run == made[2].run
    results = [student.result.scores for student in made if student.result is not None]
    assert results[0] == results[1] == results[2]


def test_a_teacher_is_asked_once(
    teachers: Callable[[str], Adapted], backbone: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data = TASKS["multi_label"]()
    teacher = adapt.load(teachers("multi_label").save(tmp_path / "teacher"), device="cpu")
    asked: list[int] = []

    def counted(model: Any, kind: Any, examples: Any, budget: Any, **more: Any) -> Any:
        asked.append(len(examples))
        return predict(model, kind, examples, budget, **more)

    monkeypatch.setattr(adapt.training, "predict", counted)
    texts = [row["text"] for row in data.splits["test"]]
    students = [
        prepare(teacher, backbone("roberta"), data, strategy, unlabelled=texts, temperature=t, **SHORT)
        for strategy in ("head", "lora") for t in (1.0, 2.0)
    ]  # fmt: skip
    for student in students:
        taught(student.run, student.data, student.backbone, teacher, student.extra)
    assert asked == [len(texts), len(data.splits["train"])]


def test_a_teacher_in_bfloat16_teaches_a_student_in_float32(backbone: Callable[..., Path]) -> None:
    data = TASKS["completion"]()
    teacher = adapt.fit(
        backbone("gpt2"), data, tiny.STRATEGIES["lora"], **{**SHORT, "precision": "bf16"}, **OPTIONS["completion"]
    )
    student = adapt.distill(teacher, backbone("gpt2"), data, "lora", **SHORT, **OPTIONS["completion"])
    assert student.result is not None
    assert student.result.scores["test"]["perplexity"] > 0


def test_rows_are_sampled_as_without_a_teacher(
    teachers: Callable[[str], Adapted], backbone: Callable[..., Path]
) -> None:
    student = adapt.distill(teachers("answers"), backbone("bert"), TASKS["answers"](), "head", max_train=10, **SHORT)
    assert student.result is not None
    assert student.result.environment["train_rows"] == 10


# --- rows without labels ---


@pytest.mark.parametrize("task", CELLS)
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


@pytest.mark.parametrize("weight", [0.0, 0.5])
@pytest.mark.parametrize("task", ["single_label", "spans", "answers", "text", "completion"])
def test_rows_without_labels_join_those_of_training(
    task: str, weight: float, teachers: Callable[[str], Adapted], backbone: Callable[..., Path]
) -> None:
    teacher, data = teachers(task), TASKS[task]()
    labels = {"label", "tags", "answer_texts", "answer_starts", "target", "references", "completion"}
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
    assert f"{more:,} training rows have no labels but what {description.name} predicts" in result.notes
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
    _, encoded = lesson_of(teacher, backbone("bert"), other)
    said = encoded.kind.collate(encoded.splits["train"])["teacher"]
    rows = teacher.fitted.kind.encode(data.splits["train"])
    outputs = predict(teacher.fitted.model, teacher.fitted.kind, rows, teacher.run.budget)
    assert torch.allclose(said, torch.stack(outputs).flip(-1))


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


@pytest.mark.parametrize("name", ["M2M100", "MBart50", "MBart"])
def test_a_teacher_of_many_languages_begins_as_its_student_does(name: str) -> None:
    tokens, net = task_helpers.multilingual(name)
    languages = ("fra_Latn", "deu_Latn") if name == "M2M100" else ("fr_XX", "de_DE")
    kind = task_helpers.kind("seq2seq", tokens, "text", "chrf", max_target_length=5, source_language=languages[0],
                             target_language=languages[1])  # fmt: skip
    rows = adapt.data.load({"train": [{"source": "a b", "target": "b a"}] * 3}, validation=0, test=0).splits["train"]
    batch = kind.collate(kind.encode(rows))
    teacher = SimpleNamespace(run=SimpleNamespace(task=kind.task), fitted=SimpleNamespace(tokenizer=tokens, kind=kind))
    lesson = Tokens(kind, copy_of_kind(teacher), net, "fp32", len(tokens), 2.0, 1.0)  # type: ignore[arg-type]
    assert lesson.loss(net, batch).abs() < 1e-6


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


# --- what is refused ---


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ({"temperature": 0}, "temperature is 0; give a finite number above 0"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"temperature": "hot"}, "temperature is hot"),
        ({"weight": 1.5}, "weight is 1.5; give a number from 0 to 1"),
        ({"weight": 0}, "weight is 0, with which the teacher teaches nothing"),
        ({"epoch": 3}, "There is no option 'epoch'"),
    ],
)
def test_an_option_that_cannot_be_used(
    choices: dict[str, Any], words: str, teachers: Callable[[str], Adapted], backbone: Callable[..., Path]
) -> None:
    with pytest.raises(OptionError, match=words):
        adapt.distill(teachers("single_label"), backbone("bert"), TASKS["single_label"](), **choices)


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("spans", "trained for kind sequence_classification, and the data are for token_classification"),
        ("regression", "trained for problem single_label, and the data are for regression"),
        ("pairs", "trained on single texts, and the data are pairs of texts"),
    ],
)
def test_a_teacher_of_another_task(
    task: str, words: str, teachers: Callable[[str], Adapted], backbone: Callable[..., Path]
) -> None:
    with pytest.raises(OptionError, match=words):
        adapt.distill(teachers("single_label"), backbone("bert"), TASKS[task](), "head", **SHORT)


def test_a_teacher_of_other_classes(teachers: Callable[[str], Adapted], backbone: Callable[..., Path]) -> None:
    data = adapt.data.load((["word1", "word2"] * 20, ["red", "green"] * 20))
    with pytest.raises(OptionError, match=r"not have the same classes \(.*green.*on one side only\)"):
        adapt.distill(teachers("single_label"), backbone("bert"), data, "head", **SHORT)


def test_a_language_model_with_another_vocabulary(
    teachers: Callable[[str], Adapted], backbone: Callable[..., Path]
) -> None:
    data = TASKS["completion"]()
    with pytest.raises(Unsupported, match=r"vocabulary .* is not the student's .* weight=0 and unlabelled prompts"):
        adapt.distill(teachers("completion"), "tiny-decoder", data, "head", **SHORT)
    prompts = [row["prompt"] for row in data.splits["test"]]
    student = adapt.distill(teachers("completion"), "tiny-decoder", data, "head", weight=0, unlabelled=prompts, **SHORT)
    assert student.result is not None


def test_rows_without_labels_that_are_of_another_form(teachers: Callable[[str], Adapted]) -> None:
    said = [{"role": role, "content": "word1"} for role in ("user", "assistant", "user")]
    with pytest.raises(DataError, match="trained on prompts, and this conversation is more than one turn of a user"):
        labelled_by(teachers("messages"), [said], TASKS["completion"]())
    found = labelled_by(teachers("completion"), [said[:1]], TASKS["messages"]())
    assert [turn["role"] for turn in found.rows[0]["messages"]] == ["user", "assistant"]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (
            {"template": "Q {prompt}"},
            r"with template '{prompt}', .* to be with 'Q {prompt}'; .*task\.template=",
        ),
        ({"separator": " "}, r"trained with separator '\\n', .* to be with ' '"),
        ({"max_length": 65}, "max_length is 65, and the teacher has positions for 64 tokens; lower it"),
    ],
)
def test_a_teacher_that_would_read_other_tokens(
    changed: dict[str, Any], words: str, teachers: Callable[[str], Adapted], backbone: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Said before it is asked about any row; where it only labels rows, it reads them in its own way."""
    teacher, data = teachers("completion"), TASKS["completion"]()
    prompts = [row["prompt"] for row in data.splits["test"]]
    student = "tiny-decoder" if "max_length" in changed else backbone("gpt2")
    if "max_length" in changed:
        monkeypatch.setattr(type(teacher.fitted.tokenizer), "get_vocab", lambda self: {})
    with monkeypatch.context() as patched:
        patched.setattr(adapt.training, "predict", None)
        with pytest.raises(OptionError, match=words):
            prepare(teacher, student, data, "head", unlabelled=prompts, **SHORT, **changed)
    assert prepare(teacher, student, data, "head", unlabelled=prompts, weight=0, **SHORT, **changed).extra is not None


def test_a_teacher_elsewhere(teachers: Callable[[str], Adapted], backbone: Callable[..., Path]) -> None:
    teacher = teachers("completion")
    model = copy.deepcopy(teacher.fitted.model).to("meta")
    far = dataclasses.replace(teacher, fitted=dataclasses.replace(teacher.fitted, model=model))
    with pytest.raises(OptionError, match="The teacher is on device 'meta', and the student is to be trained on 'cpu'"):
        prepare(far, backbone("gpt2"), TASKS["completion"](), "head", **SHORT)


def test_another_chat_template(teachers: Callable[[str], Adapted], backbone: Callable[..., Path]) -> None:
    teacher = teachers("messages")
    tokenizer = copy.deepcopy(teacher.fitted.tokenizer)
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    other = dataclasses.replace(teacher, fitted=dataclasses.replace(teacher.fitted, tokenizer=tokenizer))
    with pytest.raises(OptionError, match="The chat template of the student's tokenizer is not that of the teacher's"):
        prepare(other, backbone("llama"), TASKS["messages"](), "head", **SHORT)


# --- what is said of it ---


def test_the_memory_of_training_holds_a_language_models_teacher(backbone: Callable[..., Path]) -> None:
    data = TASKS["completion"]()
    choices = {**SHORT, **OPTIONS["completion"], "max_length": 48}
    teacher = adapt.fit(backbone("gpt2", 5), data, "lora", **choices)
    alone = adapt.fit(backbone("gpt2", 1), data, "lora", **choices).result
    taught_ = adapt.distill(teacher, backbone("gpt2", 1), data, "lora", **choices).result
    assert alone is not None
    assert taught_ is not None
    held = sum({p.data_ptr(): p.nbytes for p in teacher.fitted.model.parameters()}.values())
    held += sum(b.nbytes for b in teacher.fitted.model.buffers())
    assert taught_.memory["weights"] - alone.memory["weights"] == held
    (note,) = (note for note in taught_.notes if "ran beside" in note)
    assert note.endswith("are part of the memory shown")


def test_texts_that_a_teacher_does_not_read_whole_are_told(
    teachers: Callable[[str], Adapted], backbone: Callable[..., Path]
) -> None:
    data = TASKS["single_label"]()
    teacher = adapt.fit(backbone("bert"), data, "head", **SHORT, max_length=5)
    texts = ["word1 word2 word3 word4 word5", "word1"]
    student = adapt.distill(teacher, backbone("bert"), data, "head", **SHORT, unlabelled=texts)
    assert student.result is not None
    assert "the teacher: 1 texts of new rows were cut to 5 tokens" in student.result.notes
    assert sum(note.startswith("the teacher: ") for note in student.result.notes) == 2


def test_teachers_of_one_name_are_one_row() -> None:
    """Each seed has a teacher of its own; two of one seed are told apart."""

    def content(seed: int, digest: str, rows: int) -> dict[str, Any]:
        teacher = Teacher("big lora", digest * 64, unlabelled_rows=rows, unlabelled_sha256=digest * 64)
        return json.loads(json.dumps(result_of(dataclasses.replace(run_of("full", seed), teacher=teacher)).to_json()))

    (row,) = table_of([content(0, "a", 1200), content(1, "b", 1201)]).rows
    assert (row.strategy, len(row.scores)) == ("full, taught by big lora (on rows that it labelled, too)", 2)
    assert row.score is not None
    assert row.score.low is not None
    rows = table_of([content(0, "a", 1200), content(0, "b", 1200), content(1, "a", 1200)]).rows
    assert [(row.strategy.split(", content ")[1], sorted(row.scores)) for row in rows] == [
        ("aaaaaaaaaaaa", [0, 1]), ("bbbbbbbbbbbb", [0]),
    ]  # fmt: skip


# --- the table ---


def test_a_table_has_a_row_for_each_teacher() -> None:
    teacher = Teacher("big lora", "0" * 64)
    how = [None, teacher, dataclasses.replace(teacher, temperature=4.0, unlabelled_rows=1200)]
    runs = [dataclasses.replace(run_of("full", seed), teacher=t) for t in how for seed in (0, 1)]
    contents = [json.loads(json.dumps(result_of(run, 0.7 + 0.1 * (run.teacher is not None)).to_json())) for run in runs]
    table = table_of(contents)
    assert len(table.sections) == 1
    assert [row.strategy for row in table.rows] == [
        "full",
        "full, taught by big lora",
        "full, taught by big lora (temperature 4, on rows that it labelled, too)",
    ]
    assert table.rows[0].difference is None
    assert [round(row.difference.mean, 6) for row in table.rows[1:] if row.difference is not None] == [0.1, 0.1]
