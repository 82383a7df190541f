"""A student's loss against references."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import task_helpers
import torch
from distillation_helpers import CELLS, begun, lesson_of
from tiny_tasks import TASKS
from torch.nn import functional as F

import adapt
import adapt.training
from adapt.adapted import Adapted
from adapt.distillation.soft import Classes, Places, Tags, divergence


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
    spec, encoded, lesson = lesson_of(teacher, backbone(CELLS[task]), TASKS[task]())
    model = teacher.fitted.model
    batch = lesson.collate(encoded.splits["train"][:6])
    loss = lesson.loss(model, batch)
    loss.backward()
    gradients = [p.grad.abs().max() for p in model.parameters() if p.grad is not None]
    model.zero_grad(set_to_none=True)
    assert loss.abs() < 1e-5
    assert gradients
    assert max(gradients) < 1e-5
    other = adapt.Full().build(teacher.fitted.loader, spec.task).eval()
    assert lesson.loss(other, batch) > 1e-3


@pytest.mark.parametrize("task", CELLS)
def test_the_weight_is_the_teachers_share(
    task: str, teachers: Callable[[str], Adapted], backbone: Callable[..., Path]
) -> None:
    teacher, folder, data = teachers(task), backbone(CELLS[task]), TASKS[task]()
    losses, own = {}, torch.zeros(())
    for weight in (1e-9, 0.25, 1.0):
        spec, encoded, lesson = lesson_of(teacher, folder, data, weight=weight)
        model = adapt.Full().build(teacher.fitted.loader, spec.task).eval()
        batch = lesson.collate(encoded.splits["train"][:5])
        losses[weight] = lesson.loss(model, batch).detach()
        own = encoded.kind.loss(model, batch).detach()
    assert torch.allclose(losses[1e-9], own, rtol=1e-4)
    assert torch.allclose(losses[0.25], 0.75 * own + 0.25 * losses[1.0], rtol=1e-4)


@pytest.mark.parametrize("task", ["text", "completion"])
def test_logits_of_a_few_tokens_at_a_time_make_the_same_gradient(
    task: str, teachers: Callable[[str], Adapted], backbone: Callable[..., Path]
) -> None:
    teacher = teachers(task)
    spec, encoded, lesson = lesson_of(teacher, backbone(CELLS[task]), TASKS[task](), weight=0.7)
    batch = lesson.collate(encoded.splits["train"][:6])

    def gradients(chunk: int | None) -> list[torch.Tensor]:
        model = adapt.Full().build(teacher.fitted.loader, spec.task).eval()
        if chunk is None:
            model.changes_logits = True  # all logits at once, and autograd
        else:
            model.loss_chunk = chunk
        loss = lesson.loss(model, batch)
        loss.backward()
        return [loss.detach(), *(p.grad for p in model.parameters() if p.grad is not None)]

    whole = gradients(None)
    for parts in (gradients(3), gradients(1000)):
        assert len(parts) == len(whole)
        assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(parts, whole, strict=True))


def test_places_are_compared_at_both_ends_times_the_squared_temperature() -> None:
    kind = task_helpers.kind("question_answering", task_helpers.wordpiece(), "answers", "answer_f1")
    lesson = Places(kind, temperature=3.0, weight=1.0)
    start, end = torch.randn(4, 5), torch.randn(4, 5)
    choices = torch.tensor([[True, False, True, True, False]] * 4)
    teacher = torch.randn(4, 2, 5).masked_fill(~choices[:, None], float("-inf")).softmax(-1)
    found = lesson.distance(
        type("Output", (), {"start_logits": start, "end_logits": end}), {"teacher": teacher, "choices": choices}
    )
    wanted = [
        F.kl_div((logits[:, choices[0]] / 3).log_softmax(-1), teacher[:, side, choices[0]], reduction="batchmean") * 9
        for side, logits in enumerate((start, end))
    ]
    assert torch.allclose(found, (wanted[0] + wanted[1]) / 2, atol=1e-5)


def test_labels_of_several_are_each_a_distribution() -> None:
    kind = task_helpers.kind("sequence_classification", task_helpers.wordpiece(), "multi_label", "micro_f1",
                             labels="abc")  # fmt: skip
    lesson = Classes(kind, temperature=3.0, weight=1.0)
    teacher, student = torch.randn(4, 3), torch.randn(4, 3)
    q, p = (teacher / 3).sigmoid(), (student / 3).sigmoid()
    wanted = (F.binary_cross_entropy(p, q) - F.binary_cross_entropy(q, q)) * 9
    found = lesson.distance(type("Output", (), {"logits": student}), {"teacher": teacher})
    assert torch.allclose(found, wanted, atol=1e-5)


def test_numbers_on_another_scale_than_the_teachers_are_told_of(
    teachers: Callable[[str], Adapted], backbone: Callable[..., Path]
) -> None:
    teacher, data = teachers("regression"), TASKS["regression"]()
    splits = {split: rows.map(lambda row: {"label": 20 * row["label"]}) for split, rows in data.splits.items()}
    for rows, differs in ((data, False), (dataclasses.replace(data, splits=splits), True)):
        notes = begun(teacher, backbone("bert"), rows)[2].notes
        assert any("numbers of the teacher have mean" in note for note in notes) == differs


def test_numbers_are_compared_in_standard_deviations(
    teachers: Callable[[str], Adapted], backbone: Callable[..., Path]
) -> None:
    teacher, data = teachers("regression"), TASKS["regression"]()
    _, encoded, lesson = lesson_of(teacher, backbone("bert"), data)
    scale = encoded.kind.state()
    said = [prediction["value"] for prediction in teacher.predict(data.splits["train"].remove_columns("label"))]
    batch = lesson.collate(encoded.splits["train"])
    assert torch.allclose(batch["teacher"][:, 0].double() * scale["std"] + scale["mean"], torch.tensor(said).double())


def test_classes_and_tags_are_softened_as_they_are_told_to() -> None:
    teacher, student = torch.randn(4, 5, 3), torch.randn(4, 5, 3)

    def wanted(said: torch.Tensor, found: torch.Tensor) -> torch.Tensor:
        each = F.kl_div((found / 3).log_softmax(-1), (said / 3).softmax(-1), reduction="none").sum(-1)
        return each.mean() * 9

    output = type("Output", (), {"logits": student})
    tags = task_helpers.kind("token_classification", task_helpers.wordpiece(), "tags", "token_accuracy", labels="abc")
    batch = {"labels": torch.zeros(4, 5, dtype=torch.long), "teacher": teacher}
    found = Tags(tags, temperature=3.0, weight=1.0).distance(output, batch)
    assert torch.allclose(found, wanted(teacher, student), atol=1e-5)
    classes = task_helpers.kind(
        "sequence_classification", task_helpers.wordpiece(), "single_label", "accuracy", labels="abc"
    )
    output = type("Output", (), {"logits": student[:, 0]})
    found = Classes(classes, temperature=3.0, weight=1.0).distance(output, {"teacher": teacher[:, 0]})
    assert torch.allclose(found, wanted(teacher[:, 0], student[:, 0]), atol=1e-5)
