"""The training loop, its optimizer and its batches, against values worked out by hand."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import accelerate
import numpy
import pytest
import tiny
import torch
from tiny_tasks import TASKS
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from adapt.adapted import assemble
from adapt.backbones import Loader
from adapt.data import Data
from adapt.spec import Budget, Diverged, OptionError
from adapt.strategies import make
from adapt.tasks import KINDS
from adapt.training import predict, train
from adapt.training.batching import by_length, evenly, largest, length_bucketed, targets_of
from adapt.training.optimizer import optimizer_for, schedule_for
from adapt.training.step import accelerator_for, clip_of

BUDGET = Budget(epochs=4, batch_size=4, warmup=0.0, weight_decay=0.0, decay="constant")


class Line(nn.Module):
    """y = w x, so that every gradient can be worked out by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.w * x


class Squares:
    """The kind of `Line`: squared error, scored by a scripted list of values."""

    def __init__(self, scores: Sequence[float] = ()) -> None:
        self.scores = list(scores)
        self.batches: list[list[float]] = []

    def collate(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        return {name: torch.tensor([e[name] for e in examples]) for name in ("x", "y")}

    def terms(self, examples: Sequence[Any]) -> int:
        return len(examples)

    def redraw(self, examples: Sequence[Any], seed: int, epoch: int) -> Sequence[Any]:
        return examples

    def loss(self, model: nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        self.batches.append(batch["x"].tolist())
        return F.mse_loss(model(batch["x"]), batch["y"])

    def outputs(self, model: nn.Module, batch: Mapping[str, torch.Tensor], *, final: bool = True) -> list[Any]:
        return list(model(batch["x"]))

    def score(self, outputs: Sequence[Any], examples: Sequence[Any]) -> dict[str, float]:
        return {"score": self.scores.pop(0)}


def rows(n: int) -> list[dict[str, Any]]:
    return [{"input_ids": [0] * (1 + i % 5), "x": float(i + 1), "y": 3.0 * (i + 1)} for i in range(n)]


def fit_line(kind: Squares, budget: Budget = BUDGET, n: int = 8, **choices: Any) -> tuple[Line, Any]:
    model = choices.pop("model", None) or Line()
    options = {"learning_rate": 0.1, "metric": "score", "higher_is_better": True, "seed": 0, **choices}
    return model, train(model, kind, rows(n), rows(2) if kind.scores else [], budget, **options)  # type: ignore[arg-type]


def states(budget: Budget = BUDGET, **choices: Any) -> list[float]:
    """The parameter after each step."""
    model, seen = Line(), []
    fit_line(Squares(), budget, model=model, on_step=lambda *_: seen.append(model.w.item()), **choices)
    return seen


# Which epoch is kept


@pytest.mark.parametrize(
    ("scores", "higher", "best"),
    [([0.1, 0.5, 0.3, 0.2], True, 2), ([0.1, 0.5, 0.05, 0.2], False, 3), ([0.4, 0.4, 0.4, 0.4], True, 1),
     ([0.1, 0.2, 0.3, 0.4], True, 4)],
)  # fmt: skip
def test_the_best_epoch_is_kept_and_of_equals_the_first(scores: list[float], higher: bool, best: int) -> None:
    after = states()
    model, done = fit_line(Squares(scores), higher_is_better=higher)
    assert done.best_epoch == best
    assert model.w.item() == after[2 * best - 1]  # two steps an epoch
    assert [point["validation"]["score"] for point in done.curve] == scores


def test_without_validation_the_last_epoch_is_kept() -> None:
    model, done = fit_line(Squares())
    assert done.best_epoch is None
    assert len(done.curve) == 4
    assert model.w.item() == states()[-1]


@pytest.mark.parametrize(("patience", "epochs"), [(1, 3), (2, 4), (None, 6)])
def test_training_stops_after_epochs_without_a_better_score(patience: int | None, epochs: int) -> None:
    kind = Squares([0.1, 0.5, 0.4, 0.3, 0.2, 0.1])
    _, done = fit_line(kind, dataclasses.replace(BUDGET, epochs=6, patience=patience))
    assert len(done.curve) == epochs
    assert done.best_epoch == 2
    assert done.rows == 8 * epochs


# Steps


def test_steps_are_those_of_adamw_by_hand() -> None:
    """Kingma & Ba's update with its bias corrections, and Loshchilov & Hutter's decay, in plain numbers."""
    model, seen = nn.Linear(1, 1), []
    model.w = None  # type: ignore[assignment]
    with torch.no_grad():
        model.weight.fill_(0.5)
        model.bias.fill_(0.25)

    class Kind(Squares):
        def loss(self, m: nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
            return F.mse_loss(m(batch["x"][:, None])[:, 0], batch["y"])

    budget = Budget(epochs=3, batch_size=2, warmup=0.0, weight_decay=0.1, decay="constant", clip=1e9)
    train(
        model, Kind(), rows(2), [], budget, learning_rate=0.1, metric="", higher_is_better=True, seed=0,
        on_step=lambda *_: seen.append((model.weight.item(), model.bias.item())),
    )  # fmt: skip
    w, b, expected = 0.5, 0.25, []
    m, v = numpy.zeros(2), numpy.zeros(2)
    for t in (1, 2, 3):
        errors = [(w * x + b - 3 * x, x) for x in (1.0, 2.0)]
        g = numpy.array([sum(2 * e * x for e, x in errors) / 2, sum(2 * e for e, _ in errors) / 2])
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        step = 0.1 * (m / (1 - 0.9**t)) / (numpy.sqrt(v / (1 - 0.999**t)) + 1e-8)
        w, b = w * (1 - 0.1 * 0.1) - step[0], b - step[1]  # the matrix decays, the bias does not
        expected.append((w, b))
    assert numpy.allclose(seen, expected, rtol=1e-5)


@pytest.mark.parametrize(("decay", "expected"), [
    ("linear", [1 / 3, 2 / 3, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8]),
    ("cosine", [1 / 3, 2 / 3, *(0.5 + 0.5 * math.cos(math.pi * i / 8) for i in range(8))]),
    ("constant", [1 / 3, 2 / 3, *([1.0] * 8)]),
])  # fmt: skip
def test_the_learning_rate_warms_up_and_decays(decay: Any, expected: list[float]) -> None:
    budget = dataclasses.replace(BUDGET, warmup=0.2, decay=decay)
    optimizer = optimizer_for(Line(), budget, 0.5)
    schedule = schedule_for(optimizer, budget, 10)
    found = []
    for _ in range(10):
        found.append(optimizer.param_groups[0]["lr"] / 0.5)
        optimizer.step()
        schedule.step()
    assert found == pytest.approx(expected)


def test_a_caller_that_has_switched_gradients_off_trains_alike() -> None:
    with torch.no_grad():
        found = states()
        assert not torch.is_grad_enabled()
    assert found == states()


def test_a_part_of_a_step_warms_up_for_a_whole_one() -> None:
    optimizer = optimizer_for(Line(), BUDGET, 0.5)
    schedule_for(optimizer, dataclasses.replace(BUDGET, warmup=0.25), 10)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.5 / 4)  # the first of three, before the full rate


def test_the_loop_follows_the_schedule() -> None:
    """The first update of Adam is the learning rate itself, here after one of two warm-up steps."""
    first = states(dataclasses.replace(BUDGET, epochs=5, warmup=0.2, decay="linear"))[0]
    assert first == pytest.approx(0.1 / 3, rel=1e-4)
    assert states()[0] == pytest.approx(0.1, rel=1e-4)


@pytest.mark.parametrize(("max_steps", "steps", "epochs"), [(3, 3, 2), (2, 2, 1), (100, 8, 4), (None, 8, 4)])
def test_max_steps_ends_training_even_within_an_epoch(max_steps: int | None, steps: int, epochs: int) -> None:
    seen: list[tuple[int, int]] = []
    kind = Squares([0.1] * 4)
    _, done = fit_line(
        kind, dataclasses.replace(BUDGET, max_steps=max_steps), on_step=lambda s, of, _: seen.append((s, of))
    )
    assert seen == [(i + 1, steps) for i in range(steps)]
    assert len(done.curve) == epochs
    assert done.rows == 4 * steps
    assert done.curve[-1]["step"] == steps
    assert sum(point["rows"] for point in done.curve) == done.rows


def test_gradients_are_clipped_to_a_global_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    norms: list[float] = []
    step = torch.optim.AdamW.step

    def watched(self: torch.optim.AdamW, *args: Any, **kwargs: Any) -> Any:
        grads = [p.grad for group in self.param_groups for p in group["params"]]
        norms.append(torch.stack([g.norm() for g in grads]).norm().item())
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    for clip in (0.5, 1e9):
        norms.clear()
        fit_line(Squares(), dataclasses.replace(BUDGET, epochs=1, clip=clip), n=4)
        # at w = 0 the gradient is the mean of -2 x y = -6 x^2 over x = 1..4, which is -45
        assert norms == [pytest.approx(min(clip, 45.0), rel=1e-5)]


def _mean_gradients(folder: Path, data: Data, task: dict[str, Any], **budget: Any) -> dict[str, torch.Tensor]:
    """What the optimizer gets in a step of a real model: the mean over an epoch in which nothing moves."""
    spec, rows_, source = assemble(
        folder,
        data,
        "full",
        epochs=1,
        precision="fp32",
        device="cpu",
        dropout=0.0,
        learning_rate=1e-4,
        **task,
        **budget,
    )
    steps: list[dict[str, torch.Tensor]] = []
    loader = Loader(source, spec.task, spec.budget, 0)
    model = tiny.without_dropout(loader())
    kind: Any = KINDS[spec.task.kind](spec.task, loader.tokenizer())
    examples = kind.encode(rows_.splits["train"], split="train")[:32]
    kind.fit(examples)
    step = torch.optim.AdamW.step

    def watched(self: torch.optim.AdamW, *args: Any, **kwargs: Any) -> Any:
        steps.append({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
        return step(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", watched)
        train(
            model, kind, examples, [], spec.budget, learning_rate=0.0, metric="accuracy", higher_is_better=True, seed=0
        )
    return {name: torch.stack([found[name] for found in steps]).mean(0) for name in steps[0]}


@pytest.mark.parametrize("name", ["single_label", "multi_label", "regression"])
@pytest.mark.parametrize("class_weights", ["none", "balanced"])
def test_accumulated_batches_are_one_batch(
    backbone: Callable[..., Path], task_data: Callable[[str], Data], name: str, class_weights: str
) -> None:
    """2 x 16 against 1 x 32 rows; also 10 + 10 + 10 + 2, where the parts differ in size."""
    if name == "regression" and class_weights == "balanced":
        return
    data = task_data(name)
    if name == "single_label":  # three of one class for each of the other
        train_rows = data.splits["train"]
        order = [i for i in range(len(train_rows)) if train_rows[i]["label"] or i % 6 == 0]
        data = dataclasses.replace(data, splits={**data.splits, "train": train_rows.select(order)})
    task = {"class_weights": class_weights}
    whole = _mean_gradients(backbone("bert"), data, task, batch_size=32, clip=1e9)
    for batch_size, accumulation in ((16, 2), (10, 4)):
        parts = _mean_gradients(
            backbone("bert"), data, task, batch_size=batch_size, accumulation=accumulation, clip=1e9
        )
        assert parts.keys() == whole.keys()
        for key, gradient in whole.items():
            torch.testing.assert_close(parts[key], gradient, rtol=1e-3, atol=2e-6)


@pytest.mark.parametrize(
    ("architecture", "name"), [("llama", "completion"), ("bart", "text"), ("bert", "spans"), ("bert", "answers")]
)
def test_accumulated_batches_of_tokens_are_one_batch(
    backbone: Callable[..., Path], architecture: str, name: str
) -> None:
    """Each token that is learnt counts the same, whether its batch has many or few of them.

    So do the tokens of different steps, of which each has rows of similar length: 4 x 8 rows.
    """
    folder, data = backbone(architecture), TASKS[name]()
    whole = _mean_gradients(folder, data, {}, batch_size=32, clip=1e9, max_length=32)
    for batch_size, accumulation in ((16, 2), (10, 4), (8, 1)):
        parts = _mean_gradients(
            folder, data, {}, batch_size=batch_size, accumulation=accumulation, clip=1e9, max_length=32
        )
        for key, gradient in whole.items():
            torch.testing.assert_close(parts[key], gradient, rtol=1e-3, atol=5e-6)


def test_the_last_step_of_an_epoch_takes_what_is_left() -> None:
    kind = Squares()
    _, done = fit_line(kind, dataclasses.replace(BUDGET, epochs=1, batch_size=2, accumulation=3), n=8)
    assert done.curve[0]["step"] == 2
    assert [len(batch) for batch in kind.batches] == [2, 2, 2, 2]


def test_rows_and_batches_that_are_left_make_a_step_of_their_own() -> None:
    seen: list[int] = []
    budget = dataclasses.replace(BUDGET, epochs=2, batch_size=4, accumulation=2)
    _, done = fit_line(Squares(), budget, n=9, on_step=lambda _, of, __: seen.append(of))
    assert seen == [4] * 4  # three batches an epoch, in two steps
    assert [point["step"] for point in done.curve] == [2, 4]


def test_the_loss_of_an_epoch_is_the_mean_of_its_steps() -> None:
    told: list[float] = []
    _, done = fit_line(
        Squares(), dataclasses.replace(BUDGET, epochs=2), n=12, on_step=lambda *step: told.append(step[2])
    )
    assert len(set(told)) == 6
    for epoch, point in enumerate(done.curve):
        assert point["loss"] == pytest.approx(sum(told[3 * epoch : 3 * epoch + 3]) / 3)


# What goes wrong


def test_a_loss_that_is_not_finite_stops_the_run() -> None:
    class Broken(Squares):
        def loss(self, model: nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
            loss = super().loss(model, batch)
            return loss * math.nan if len(self.batches) == 3 else loss

    with pytest.raises(Diverged, match="the loss is nan at step 3 of 8; lower the learning rate"):
        fit_line(Broken())


def test_a_gradient_that_is_not_finite_stops_the_run_before_the_step() -> None:
    class Broken(Squares):
        def loss(self, model: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
            super().loss(model, batch)
            return (model.w * 0).sqrt().sum()  # 0, with an infinite slope

    model = Line()
    with pytest.raises(Diverged, match=r"gradient's norm is \w+ at step 1 of 8"):
        fit_line(Broken(), model=model)
    assert model.w.item() == 0.0


def test_nothing_trainable_is_an_error() -> None:
    model = Line()
    model.requires_grad_(False)
    with pytest.raises(OptionError, match="Nothing is trainable"):
        fit_line(Squares(), model=model)


def test_frozen_parameters_get_no_gradient_and_no_optimizer_state() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    model[0].requires_grad_(False)
    optimizer = optimizer_for(model, BUDGET, 0.1)
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in model[1].parameters()}
    groups = optimizer_for(model, Budget(weight_decay=0.3), 1.0).param_groups
    assert {p.dim(): group["weight_decay"] for group in groups for p in group["params"]} == {2: 0.3, 1: 0.0}


def test_what_is_new_goes_as_many_times_as_fast_as_the_strategy_says(backbone: Any, task_data: Any) -> None:
    data = task_data("single_label")
    made = assemble(backbone("bert"), data, make("full", {"learning_rate": 1e-4, "head_factor": 10.0}))
    spec, _, source = made
    model = spec.strategy.build(Loader(source, spec.task, spec.budget, 0), spec.task)
    names = {id(p): name for name, p in model.named_parameters()}
    for group in optimizer_for(model, BUDGET, 1e-4).param_groups:
        for parameter in group["params"]:
            head = names[id(parameter)] in model.head_names
            assert group["lr"] == pytest.approx(1e-3 if head else 1e-4)
    frozen = make("lora").build(Loader(source, spec.task, spec.budget, 0), spec.task)
    assert {group["lr"] for group in optimizer_for(frozen, BUDGET, 1e-4).param_groups} == {1e-4}


# Batches


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("n", "size"), [(1, 4), (7, 4), (8, 4), (1000, 8), (450, 2)])
def test_batches_hold_each_row_once(n: int, size: int) -> None:
    lengths = [1 + (i * 7919) % 50 for i in range(n)]
    batches = length_bucketed(lengths, size, _generator(0))
    assert Counter(i for batch in batches for i in batch) == Counter(range(n))
    assert max(map(len, batches)) <= size
    assert len(batches) == math.ceil(n / size)
    assert [i for batch in by_length(lengths, size) for i in batch] == sorted(range(n), key=lambda i: -lengths[i])


@pytest.mark.parametrize("targets", [False, True])
@pytest.mark.parametrize(("n", "size"), [(33, 32), (36, 32), (100, 32), (1610, 32), (97, 8)])
def test_no_row_is_in_a_batch_much_smaller_than_those_of_others(n: int, size: int, targets: bool) -> None:
    """In which it would weigh more; where batches were full but for the last, the longest rows were in that."""
    lengths = [1 + (i * 7919) % 50 for i in range(n)]
    sizes = list(map(len, length_bucketed(lengths, size, _generator(0), lengths[::-1] if targets else None)))
    assert sum(sizes) == n
    assert max(sizes) <= size
    assert len(sizes) == math.ceil(n / size)
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(("n", "size", "rows"), [(33, 32, 17), (100, 32, 25), (96, 32, 32), (5, 32, 5), (0, 8, 0)])
def test_the_largest_batch_is_known_beforehand(n: int, size: int, rows: int) -> None:
    assert largest(n, size, 1) == rows
    if n:
        assert max(map(len, length_bucketed([1] * n, size, _generator(0)))) == rows


@pytest.mark.parametrize(
    ("n", "size", "accumulation", "steps", "batches"),
    [(96, 32, 2, 2, 4), (100, 16, 2, 4, 8), (100, 16, 4, 2, 8), (130, 32, 4, 2, 6), (3, 1, 2, 2, 3), (64, 16, 4, 1, 4)],
)
def test_no_row_is_in_a_step_much_smaller_than_those_of_others(
    n: int, size: int, accumulation: int, steps: int, batches: int
) -> None:
    """Which would be the last of each epoch where batches did not come out even."""
    found = length_bucketed([1 + i % 9 for i in range(n)], size, _generator(0), accumulation=accumulation)
    assert sorted(i for batch in found for i in batch) == [*range(n)]
    assert (len(found), max(map(len, found))) == (batches, largest(n, size, accumulation))
    rows = [sum(map(len, step)) for step in evenly(found, accumulation)]
    assert (len(rows), steps) == (steps, math.ceil(math.ceil(n / size) / accumulation))
    assert max(rows) - min(rows) <= accumulation


def test_a_whole_number_of_batches_is_full() -> None:
    assert set(map(len, length_bucketed([*range(96)], 32, _generator(0)))) == {32}


def test_parts_are_as_few_as_can_be_and_alike() -> None:
    assert evenly([*range(5)], 4) == [[0, 1, 2], [3, 4]]
    assert evenly([*range(8)], 4) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert evenly([], 4) == []


def test_gradients_of_many_tokens_are_clipped_at_a_larger_norm() -> None:
    """As the root of their number, with which a sum of noise grows; rows are always as many as rows."""

    assert [clip_of(3.0, terms, 4.0) for terms in (16, 4, 1, 0)] == [6.0, 3.0, 1.5, 0.0]
    assert clip_of(3.0, 0, 0.0) == 0.0

    class Tokens(Squares):
        def terms(self, examples: Sequence[Any]) -> int:
            return sum(len(example["input_ids"]) for example in examples)

    norms: list[float] = []
    clip = accelerate.Accelerator.clip_grad_norm_

    def clipped(self: Any, parameters: Any, norm: float, *rest: Any) -> Any:
        norms.append(norm)
        return clip(self, parameters, norm, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accelerate.Accelerator, "clip_grad_norm_", clipped)
        for kind in (Squares(), Tokens()):
            fit_line(kind, dataclasses.replace(BUDGET, epochs=1, batch_size=4, clip=3.0), n=12)
    assert norms[:3] == [3.0] * 3
    assert len(set(norms[3:])) > 1
    assert sum((norm / 3.0) ** 2 for norm in norms[3:]) == pytest.approx(3.0)  # as many terms as there are


def test_batches_are_of_similar_length_and_seeded() -> None:
    lengths = [1 + (i * 7919) % 50 for i in range(1000)]
    batches = length_bucketed(lengths, 8, _generator(0))
    padded = sum(max(lengths[i] for i in batch) * len(batch) for batch in batches)
    assert padded < 1.06 * sum(lengths)  # unsorted batches pad by two thirds
    assert batches == length_bucketed(lengths, 8, _generator(0))
    assert batches != length_bucketed(lengths, 8, _generator(1))
    means = [sum(lengths[i] for i in batch) / len(batch) for batch in batches]
    assert means != sorted(means)  # short and long batches are mixed
    generator = _generator(0)
    assert length_bucketed(lengths, 8, generator) != length_bucketed(lengths, 8, generator)  # another order each epoch


@pytest.mark.parametrize(("n", "size"), [(1, 4), (7, 4), (8, 4), (1000, 8), (450, 2)])
def test_batches_of_rows_with_targets_hold_each_row_once(n: int, size: int) -> None:
    lengths, targets = [1 + (i * 7919) % 50 for i in range(n)], [1 + (i * 104729) % 40 for i in range(n)]
    batches = length_bucketed(lengths, size, _generator(0), targets)
    assert Counter(i for batch in batches for i in batch) == Counter(range(n))
    assert max(map(len, batches)) <= size
    assert len(batches) == math.ceil(n / size)
    assert batches == length_bucketed(lengths, size, _generator(0), targets)
    if n == 1000:
        assert batches != length_bucketed(lengths, size, _generator(1), targets)


def test_batches_are_of_similar_length_in_source_and_target() -> None:
    draw = _generator(3)
    lengths = [int(x) for x in torch.randint(5, 45, (2000,), generator=draw)]
    targets = [max(1, x + int(d)) for x, d in zip(lengths, torch.randint(-9, 10, (2000,), generator=draw), strict=True)]

    def padding(batches: list[list[int]]) -> float:
        padded = sum(len(batch) * max(size[i] for i in batch) for batch in batches for size in (lengths, targets))
        return 1 - (sum(lengths) + sum(targets)) / padded

    by_source = padding(length_bucketed(lengths, 16, _generator(0)))
    by_both = padding(length_bucketed(lengths, 16, _generator(0), targets))
    assert by_both < 0.65 * by_source


def test_only_targets_that_are_padded_on_their_own_are_counted() -> None:
    assert targets_of([{"input_ids": [1, 2], "labels": [1]}, {"input_ids": [3], "labels": [4, 5]}]) == [1, 2]
    assert targets_of([{"input_ids": [1, 2], "labels": [1, 2]}, {"input_ids": [3], "labels": [4]}]) is None  # a token's
    assert targets_of([{"input_ids": [1, 2], "label": 0}]) is None


def test_training_takes_batches_alike_in_source_and_target() -> None:
    kind, size = Squares(), 4
    targets = [1 + (i * 7) % 11 for i in range(40)]
    examples = [{**row, "labels": [1] * target} for row, target in zip(rows(40), targets, strict=True)]
    budget = dataclasses.replace(BUDGET, epochs=1, batch_size=size)
    train(Line(), kind, examples, [], budget, learning_rate=0.1, metric="score", higher_is_better=True, seed=5)  # type: ignore[arg-type]
    lengths = [len(row["input_ids"]) for row in examples]
    expected = length_bucketed(lengths, size, _generator(5), targets)
    assert kind.batches == [[examples[i]["x"] for i in batch] for batch in expected]
    assert expected != length_bucketed(lengths, size, _generator(5))


@pytest.mark.parametrize("lengths", [[7] * 64, list(range(1000))], ids=["alike", "all different"])
def test_rows_have_other_companions_in_each_epoch(lengths: list[int]) -> None:
    """Also where lengths differ: rows are sorted among some, not among all."""
    generator = _generator(0)
    first, second = ({frozenset(b) for b in length_bucketed(lengths, 2, generator)} for _ in range(2))
    assert len(first & second) < len(first) / 4


def test_batches_of_one_pool_are_shuffled() -> None:
    batches = length_bucketed(list(range(40)), 4, _generator(0))
    assert [sorted(batch) for batch in sorted(batches)] == [list(range(i, i + 4)) for i in range(0, 40, 4)]
    assert batches != sorted(batches)


def test_the_order_of_rows_depends_on_the_seed_alone() -> None:
    orders = []
    for seed in (0, 0, 1):
        kind = Squares()
        fit_line(kind, n=40, seed=seed)
        orders.append(kind.batches)
    assert orders[0] == orders[1] != orders[2]


def test_predictions_come_in_the_order_of_the_rows() -> None:
    model = Line()
    model.w.data.fill_(2.0)
    examples = rows(23)
    found = predict(model, Squares(), examples, BUDGET)  # type: ignore[arg-type]
    assert [float(value) for value in found] == [2.0 * e["x"] for e in examples]
    assert predict(model, Squares(), [], BUDGET) == []  # type: ignore[arg-type]


def test_predicting_leaves_no_dropout_and_no_graph() -> None:
    model = nn.Sequential(nn.Dropout(0.9), Line()).train()
    model[1].w.data.fill_(1.0)
    found = predict(model, Squares(), rows(9), BUDGET)  # type: ignore[arg-type]
    assert [float(value) for value in found] == [e["x"] for e in rows(9)]
    assert not any(value.requires_grad for value in found)


def test_weights_in_float32_are_cast_once_for_all_that_is_predicted() -> None:
    class Casts(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.count += func is torch.ops.aten._to_copy.default and args[0] is model.weight
            return func(*args, **(kwargs or {}))

    class Sums(Squares):
        def outputs(self, model: nn.Module, batch: Mapping[str, torch.Tensor], *, final: bool = True) -> list[Any]:
            return list(model(batch["x"][:, None]))

    model = nn.Linear(1, 2)
    with Casts() as casts:
        found = predict(model, Sums(), rows(23), dataclasses.replace(BUDGET, precision="bf16"))  # type: ignore[arg-type]
    assert (len(found), found[0].dtype) == (23, torch.bfloat16)
    assert casts.count == 1


def test_a_launchers_accumulation_is_not_added_to_the_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "8")
    weight = torch.ones((), requires_grad=True)
    accelerator_for(BUDGET).backward(3 * weight)
    assert weight.grad == 3


def test_the_longest_rows_are_not_always_those_of_a_smaller_batch() -> None:
    """In which each weighs more."""
    generator, alone = _generator(0), []
    for _ in range(40):
        batches = length_bucketed([*range(1, 100)], 2, generator)
        assert sorted(i for batch in batches for i in batch) == [*range(99)]
        alone += [batch[0] for batch in batches if len(batch) == 1]
    assert len(alone) == 40
    assert len(set(alone)) > 20
    assert sum(i == 98 for i in alone) < 8
