"""When memory runs out, rows go through in smaller parts and results stay; where none can be parted, it is said."""

from __future__ import annotations

import dataclasses
import gc
import json
import shutil
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from comparison_helpers import contents
from torch import nn
from torch.nn import functional as F

import adapt.data
from adapt.adapted import assemble, fit_model
from adapt.backbones import Loader
from adapt.backbones.exhausted import asked_for, give_back, is_out_of_memory
from adapt.backbones.standardised import Standardised
from adapt.data import Data
from adapt.inputs import Inputs
from adapt.memory.observe import observe
from adapt.run import fit, run
from adapt.spec import AdaptError, Budget, OutOfMemory
from adapt.strategies import Head, LoRA, QLoRA
from adapt.tables.table import table_of
from adapt.tasks import KINDS, SequenceClassification
from adapt.training import predict, train
from adapt.training.halving import halving
from adapt.training.loop import _advice, _advice_on_state
from adapt.training.on_cpu import faster_on_cpu
from adapt.training.step import accelerator_for, gradients

BUDGET = Budget(epochs=2, batch_size=8, warmup=0.0, weight_decay=0.0, decay="constant")
ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has 1 GiB in /a/b"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried to allocate"
                 " 64 bytes. Error code 12 (Cannot allocate memory)"),
    MemoryError("Unable to allocate 2.5 GiB for an array"),
]  # fmt: skip


class Narrow:
    """A kind whose loss and outputs take at most so many rows; it counts the rows of each pass that fitted."""

    def __init__(self, most: int, error: BaseException = ERRORS[0], final_most: int = 10**9) -> None:
        self.most, self.final_most, self.error = most, final_most, error
        self.passes: list[list[float]] = []
        self.scored: list[int] = []
        self.late = False
        """Whether memory runs out after the forward pass rather than before it."""

    def collate(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        return {"x": torch.tensor([e["x"] for e in examples])}

    def terms(self, examples: Sequence[Any]) -> int:
        return len(examples)

    def redraw(self, examples: Sequence[Any], seed: int, epoch: int) -> Sequence[Any]:
        return examples

    def loss(self, model: nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        x = batch["x"]
        if not self.late and len(x) > self.most:
            raise self.error
        loss = F.mse_loss(model(x[:, None])[:, 0], 3 * x)
        if len(x) > self.most:
            raise self.error
        self.passes.append(x.tolist())
        return loss

    def outputs(self, model: nn.Module, batch: Mapping[str, torch.Tensor], *, final: bool = True) -> list[Any]:
        if len(batch["x"]) > self.final_most:
            raise self.error
        self.scored.append(len(batch["x"]))
        return [value.item() for value in model(batch["x"][:, None])[:, 0]]

    def score(self, outputs: Sequence[Any], examples: Sequence[Any]) -> dict[str, float]:
        return {"score": float(len(outputs))}


def rows(n: int) -> list[dict[str, Any]]:
    return [{"input_ids": [0] * (1 + i % 5), "x": float(i + 1) / n} for i in range(n)]


def network(dropout: float = 0.0) -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(1, 8), nn.Dropout(dropout), nn.Linear(8, 1))


def trained(
    kind: Any, budget: Budget = BUDGET, n: int = 20, dropout: float = 0.0, validation: int = 0
) -> tuple[nn.Module, Any]:
    model = network(dropout)
    return model, train(
        model, kind, rows(n), rows(validation), budget, learning_rate=1e-2, metric="score", higher_is_better=True,
        seed=0,
    )  # fmt: skip


def bits(model: nn.Module) -> list[float]:
    return [value for p in model.parameters() for value in p.flatten().tolist()]


# Training goes on


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("late", [False, True])
def test_a_step_that_does_not_fit_is_done_in_halves(error: BaseException, late: bool) -> None:
    kind = Narrow(3, error)
    kind.late = late
    model, done = trained(kind, dataclasses.replace(BUDGET, accumulation=2), n=32)
    whole = Narrow(8)
    plain, expected = trained(whole, dataclasses.replace(BUDGET, accumulation=2), n=32)
    assert done.micro_batch == 2
    assert expected.micro_batch is None
    assert max(map(len, kind.passes)) == 2
    # the same rows in the same order in each step, those of a try that failed once
    assert [x for part in kind.passes for x in part] == [x for batch in whole.passes for x in batch]
    assert done.rows == expected.rows == 64
    assert [point["step"] for point in done.curve] == [point["step"] for point in expected.curve]
    assert [p["loss"] for p in done.curve] == pytest.approx([p["loss"] for p in expected.curve], rel=1e-5)
    assert bits(model) == pytest.approx(bits(plain), rel=1e-4)


def test_where_memory_suffices_not_a_bit_changes() -> None:
    """Against the loop written out: the loss of each batch by its share of the rows, with no parts and no terms."""
    model, done = trained(Narrow(8), dataclasses.replace(BUDGET, accumulation=2), dropout=0.5)
    other, kind = network(0.5), Narrow(8)
    seen: list[list[float]] = []
    recorded = Narrow(8)
    trained(recorded, dataclasses.replace(BUDGET, accumulation=2), dropout=0.5)
    seen = recorded.passes
    optimizer = torch.optim.AdamW(
        [{"params": [p for p in other.parameters() if (p.dim() >= 2) is matrix]} for matrix in (True, False)],
        lr=1e-2, weight_decay=0.0, fused=True,
    )  # fmt: skip
    torch.manual_seed(0)
    for group in (seen[0:2], seen[2:4], seen[4:6], seen[6:8]):  # 20 rows: four batches of 5
        for batch in group:
            with faster_on_cpu():
                loss = kind.loss(other, {"x": torch.tensor(batch)})
            (loss * (len(batch) / sum(map(len, group)))).backward()
        torch.nn.utils.clip_grad_norm_(other.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    assert bits(model) == bits(other)
    assert done.micro_batch is None


def test_a_step_starts_again_with_the_random_numbers_it_had() -> None:
    """Whether dropout had been drawn before memory ran out makes no difference, and a second run none either."""
    found = []
    for late in (False, True, True):
        kind = Narrow(4)
        kind.late = late
        found.append(bits(trained(kind, dropout=0.5)[0]))
    assert found[0] == found[1] == found[2]


def test_gradients_of_a_try_that_failed_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory runs out in the second of two batches, once, for a reason that has nothing to do with rows."""

    class Once(Narrow):
        failed = False

        def loss(self, model: nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
            if len(self.passes) == 1 and not self.failed:
                self.failed = True
                raise self.error
            return super().loss(model, batch)

    gradients: list[list[float]] = []
    step = torch.optim.AdamW.step

    def watched(self: torch.optim.AdamW) -> Any:
        gradients.append([g for group in self.param_groups for p in group["params"] for g in p.grad.flatten().tolist()])
        return step(self)

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    budget = dataclasses.replace(BUDGET, accumulation=2, clip=1e9, max_steps=1)
    assert trained(Once(8), budget, n=32)[1].micro_batch == 4
    trained(Narrow(8), budget, n=32)
    assert gradients[0] == pytest.approx(gradients[1], rel=1e-4)


def test_what_a_failed_try_held_is_free_when_the_next_begins() -> None:
    held: list[weakref.ref[torch.Tensor]] = []

    def work(most: int) -> int:
        assert all(ref() is None for ref in held)
        activations = torch.zeros(most)
        held.append(weakref.ref(activations))
        if most > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return most

    gc.disable()  # not even a cycle's worth of luck
    try:
        assert halving(work, 9, "cpu", advice="") == (2, 2)
    finally:
        gc.enable()
    assert len(held) == 4  # 9, 5, 3, 2


def test_on_a_gpu_the_cache_is_emptied_before_the_next_try(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: said.append("emptied"))

    def work(most: int) -> int:
        said.append(f"try {most}")
        if most > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return most

    halving(work, 2, "cuda", advice="", reset=lambda: said.append("reset"))
    assert said == ["try 2", "reset", "emptied", "try 1"]


def test_a_cache_that_torch_cannot_empty_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As before torch 2.12, once a CUDA graph could not be captured."""

    def refuse() -> None:
        raise RuntimeError(message)

    monkeypatch.setattr(torch.cuda, "empty_cache", refuse)
    message = 'captures_underway.empty() INTERNAL ASSERT FAILED at "CUDACachingAllocator.cpp":3941'
    give_back("cuda")
    message = "CUDA error: an illegal memory access was encountered"
    with pytest.raises(RuntimeError, match="illegal"):
        give_back("cuda")


def test_other_errors_are_not_taken_for_it() -> None:
    with pytest.raises(RuntimeError, match="shapes"):
        trained(Narrow(2, RuntimeError("shapes do not fit")))


# Each kind's loss in parts is its loss


def _rows_of(kind: str) -> Any:
    """Training rows whose numbers of learnt tokens differ much."""
    words = [f"word{i}" for i in range(12)]
    texts = [" ".join(words[: 1 + (5 * i) % 11]) for i in range(7)]
    made: dict[str, list[dict[str, Any]]] = {
        "causal_lm": [{"prompt": "kind" if i % 3 else "", "completion": text} for i, text in enumerate(texts)],
        "seq2seq": [{"source": "kind", "target": text} for text in texts],
        "token_classification": [
            {"tokens": text.split(), "tags": [("noun", "verb")[len(w) % 2] for w in text.split()]} for text in texts
        ],
        "question_answering": [
            {"id": str(i), "question": "who", "context": text, "answers": {"text": ["word0"], "answer_start": [0]}}
            for i, text in enumerate(texts)
        ],
        "sequence_classification": [{"text": text, "label": ("good", "bad")[i % 2]} for i, text in enumerate(texts)],
    }
    return adapt.data.load(dict.fromkeys(("train", "validation", "test"), made[kind]), kind=kind)


@pytest.mark.parametrize(
    ("kind_name", "architecture"),
    [("sequence_classification", "bert"), ("token_classification", "bert"), ("question_answering", "bert"),
     ("seq2seq", "t5"), ("causal_lm", "llama")],
)  # fmt: skip
def test_the_gradient_of_parts_is_that_of_the_batch(
    backbone: Callable[..., Path], kind_name: str, architecture: str
) -> None:
    spec, data, source = assemble(
        backbone(architecture), _rows_of(kind_name), "full", precision="fp32", device="cpu", dropout=0.0, max_length=16
    )
    loader = Loader(source, spec.task, spec.budget, 0)
    model = tiny.without_dropout(loader())
    kind = KINDS[kind_name](spec.task, loader.tokenizer())
    examples = kind.encode(data.splits["train"], split="train")
    kind.fit(examples)
    accelerator, found = accelerator_for(spec.budget), []
    for most in (len(examples), 3, 1):
        model.zero_grad()
        loss = gradients(model, kind, [examples], accelerator, most)
        found.append((loss.item(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}))
    for loss_of_parts, slopes in found[1:]:
        assert loss_of_parts == pytest.approx(found[0][0], rel=1e-5)
        for name, gradient in found[0][1].items():
            torch.testing.assert_close(slopes[name], gradient, rtol=1e-3, atol=1e-6)


# Scoring goes on


@torch.no_grad()
def test_prediction_goes_on_with_halves_and_keeps_the_order() -> None:
    narrow, wide = Narrow(8, final_most=5), Narrow(8)
    model, examples = network(), rows(37)
    assert predict(model, narrow, examples, BUDGET) == pytest.approx(predict(model, wide, examples, BUDGET))  # type: ignore[arg-type]
    assert wide.scored == [16, 16, 5]
    assert narrow.scored == [4, 4, 4, 4, 4, 4, 4, 4, 4, 1]


def test_a_row_that_cannot_be_scored_ends_it() -> None:
    with pytest.raises(OutOfMemory, match=r"one row at a time \(20.00 MiB more were asked for\); cut texts shorter"):
        trained(Narrow(8, final_most=0), validation=4)


# What the result says


def narrowed(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """Classification for which memory holds so many rows."""
    loss = SequenceClassification.loss

    def limited(self: SequenceClassification, model: nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        found = loss(self, model, batch)
        if len(batch["labels"]) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3.00 GiB.")
        return found

    monkeypatch.setattr(SequenceClassification, "loss", limited)


CHOICES: dict[str, Any] = {"epochs": 2, "batch_size": 16, "device": "cpu", "precision": "fp32", "dropout": 0.0}


@pytest.mark.parametrize("strategy", ["full", "lora", "head"])
def test_a_result_says_what_a_forward_pass_came_down_to(
    backbone: Callable[..., Path],
    task_data: Callable[[str], Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    strategy: str,
) -> None:
    folder = tmp_path / "backbone"
    shutil.copytree(backbone("bert"), folder)
    config = json.loads((folder / "config.json").read_text())
    config["hidden_dropout_prob"] = 0.0  # of the head too: what that drops depends on how rows are parted
    (folder / "config.json").write_text(json.dumps(config))
    plain = fit_model(folder, task_data("single_label"), strategy, **CHOICES).result
    narrowed(monkeypatch, 5)
    spec, data, source = assemble(folder, task_data("single_label"), strategy, **CHOICES)
    result = run(spec, Inputs(data, source))
    assert plain is not None
    assert (result.status, result.micro_batch, plain.micro_batch) == ("ok", 4, None)
    note = f"{strategy} ran out of memory with 16 rows at a time and went on with 4"
    assert [n for n in result.notes if n.startswith(note)]
    assert not [n for n in plain.notes if "memory" in n]
    assert [p["loss"] for p in result.curve] == pytest.approx([p["loss"] for p in plain.curve], rel=1e-3)
    assert result.run.key() == plain.run.key()
    content = json.loads(json.dumps(result.to_json()))
    assert content["micro_batch"] == 4
    assert f"Note: {note}" in table_of([content]).markdown()


def test_a_run_of_which_no_row_fits_has_its_row_in_the_table(
    backbone: Callable[..., Path], task_data: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    narrowed(monkeypatch, 0)
    spec, data, source = assemble(backbone("bert"), task_data("single_label"), "lora", **CHOICES)
    result = run(spec, Inputs(data, source))
    assert result.status == "out_of_memory"
    assert result.reason == (
        "memory ran out with one row at a time (3.00 GiB more were asked for); use gradient checkpointing "
        "(checkpointing), shorter texts (max_length) or a backbone in 8 or 4 bits (qlora)"
    )
    (row,) = table_of(contents([result])).rows
    assert (row.strategy, row.statuses) == ("lora", {"out_of_memory": result.reason})
    with pytest.raises(AdaptError, match="one row at a time"):
        fit(spec, Inputs(data, source))


def test_a_run_that_ended_for_want_of_memory_keeps_what_was_foreseen(
    backbone: Callable[..., Path], task_data: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    narrowed(monkeypatch, 0)
    monkeypatch.setattr("adapt.memory.foresee.foresee", lambda *_: "lora needs 9 GiB, which does not fit")
    spec, data, source = assemble(backbone("bert"), task_data("single_label"), "lora", **CHOICES)
    told: list[str] = []
    result = run(spec, Inputs(data, source), on_note=told.append)
    assert result.status == "out_of_memory"
    assert list(result.notes) == told == ["lora needs 9 GiB, which does not fit"]
    with pytest.warns(UserWarning, match="does not fit"):
        run(spec, Inputs(data, source))


def test_rows_of_a_step_that_is_done_again_are_counted_once(
    backbone: Callable[..., Path], task_data: Callable[[str], Data], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a head is trained on standardised features."""
    options: dict[str, Any] = {**CHOICES, "pooling": "mean"}
    counted: list[Any] = []

    def watched(self: Standardised, layer: nn.Linear) -> None:
        counted.append(self.counted())

    monkeypatch.setattr(Standardised, "fold_into", watched)
    for most in (16, 5):
        narrowed(monkeypatch, most)
        spec, data, source = assemble(backbone("bert"), task_data("single_label"), Head(standardise=True), **options)
        fit(spec, Inputs(data, source))
    (rows, *sums), (again, *others) = counted
    assert rows == again == len(data.splits["train"])
    for one, other in zip(sums, others, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-5)


def test_memory_is_measured_with_fewer_rows_where_the_longest_do_not_fit(
    backbone: Callable[..., Path], task_data: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, _, source = assemble(backbone("bert"), task_data("single_label"), "lora", **CHOICES)
    loader = Loader(source, spec.task, spec.budget, 0)
    model, kind = spec.strategy.build(loader, spec.task), KINDS[spec.task.kind](spec.task, loader.tokenizer())
    examples = kind.examples(16, 12)
    whole, halved = (observe(model, kind, examples, spec.budget, rows) for rows in (16, 4))
    narrowed(monkeypatch, 5)
    assert (whole[1], halved[1]) == (16, 4)
    assert observe(model, kind, examples, spec.budget, 16) == halved
    assert halved[0]["peak"] < whole[0]["peak"]
    assert all(parameter.grad is None for parameter in model.parameters())
    narrowed(monkeypatch, 0)
    assert observe(model, kind, examples, spec.budget, 16) == ({}, 0)


def test_a_result_says_of_how_many_rows_its_memory_is(
    backbone: Callable[..., Path], task_data: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where training had no batch of the longest rows."""

    def measured(rows: int) -> list[str]:
        monkeypatch.setattr("adapt.memory.observe.observe", lambda *_: ({"peak": 1}, rows))
        spec, data, source = assemble(backbone("bert"), task_data("single_label"), "lora", **CHOICES)
        return [note for note in fit(spec, Inputs(data, source))[0].notes if "peak memory is that of" in note]

    assert measured(3) == [
        "lora: peak memory is that of 3 rows at a time, for as many of the longest as a batch may have did not fit"
    ]
    assert measured(CHOICES["batch_size"]) == measured(0) == []


def test_validation_lets_go_of_what_it_does_not_need_before_it_takes_fewer_rows() -> None:
    kind, freed = Narrow(8, final_most=4), list[int]()

    def reset() -> bool:
        if freed:
            return False
        freed.append(1)
        kind.final_most = 16
        return True

    budget = dataclasses.replace(BUDGET, batch_size=8)
    predict(network(), kind, rows(16), budget, reset=reset)  # type: ignore[arg-type]
    assert freed
    assert kind.scored == [16]


def test_what_is_done_already_is_not_advised(
    backbone: Callable[..., Path], task_data: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    narrowed(monkeypatch, 0)
    spec, data, source = assemble(backbone("bert"), task_data("single_label"), "lora", **CHOICES, checkpointing=True)
    assert "checkpointing" not in str(run(spec, Inputs(data, source)).reason)


@pytest.mark.parametrize(
    ("device", "tokens", "advised"), [("cuda", None, True), ("cuda", 8, False), ("cpu", None, False)]
)
def test_to_hold_fewer_logits_is_advised_where_all_are_held(device: Any, tokens: int | None, advised: bool) -> None:
    budget, model = Budget(device=device, loss_chunk=tokens), network()
    model.task_kind = "causal_lm"  # type: ignore[assignment]
    assert ("(loss_chunk)" in _advice(budget, model)) is advised
    model.task_kind = "token_classification"  # type: ignore[assignment]
    assert "(loss_chunk)" not in _advice(budget, model)


@pytest.mark.parametrize(
    ("architecture", "strategy", "checkpointing", "bits"),
    [("bert", LoRA(), True, "8 or 4 bits"), ("albert", LoRA(), False, "8 or 4 bits"), ("bert", Head(), False, "8 or 4"),
     ("bert", QLoRA(), True, "in 4 bits"), ("bert", QLoRA(bits=4), True, None)],
)  # fmt: skip
def test_what_would_change_nothing_is_not_advised(
    backbone: Callable[..., Path], task_data: Callable[[str], Any], architecture: str, strategy: Any,
    checkpointing: bool, bits: str | None,
) -> None:  # fmt: skip
    choices = {**CHOICES, "pooling": "mean"}
    spec, _, source = assemble(backbone(architecture), task_data("single_label"), strategy, **choices)
    advice = _advice(spec.budget, strategy.build(Loader(source, spec.task, spec.budget, 0), spec.task))
    assert ("(checkpointing)" in advice) is checkpointing
    assert (bits in advice) if bits else "bits" not in advice
    assert advice.endswith("(qlora)" if bits else "(max_length)")


@pytest.mark.parametrize(
    ("device", "optimizer", "advised"),
    [("cpu", "adamw", "adamw_8bit, or a"), ("cuda", "adamw_8bit", "paged_adamw_8bit, or a"),
     ("cpu", "adamw_8bit", None),
     ("cuda", "paged_adamw_8bit", None)],
)  # fmt: skip
def test_a_smaller_optimizer_is_advised_where_there_is_one(device: Any, optimizer: Any, advised: str | None) -> None:
    found = _advice_on_state(Budget(device=device, optimizer=optimizer))
    assert found.endswith("a strategy that trains fewer parameters")
    assert (f"optimizer {advised}" in found) if advised else "optimizer" not in found


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_model_that_does_not_fit_is_out_of_memory(
    backbone: Callable[..., Path], task_data: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Also from within transformers' loading, where other errors mean that the backbone is unusable."""
    import transformers

    def failing(*args: Any, **kwargs: Any) -> Any:
        raise error

    monkeypatch.setattr(transformers.PreTrainedModel, "from_pretrained", failing)
    spec, data, source = assemble(backbone("bert"), task_data("single_label"), "lora", **CHOICES)
    result = run(spec, Inputs(data, source))
    assert result.status == "out_of_memory"
    assert str(result.reason).startswith("memory ran out while the model was loaded (")
    assert "use a smaller backbone, precision bf16" in str(result.reason)
    assert "/a/b" not in str(result.reason)


@pytest.mark.parametrize("error", [*ERRORS, ValueError("no such kernel")], ids=lambda error: type(error).__name__)
def test_weights_that_cannot_be_quantised_end_their_run_alone(
    backbone: Callable[..., Path], task_data: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """transformers logs what was wrong, and raises an error that does not say it."""
    from transformers.integrations.bitsandbytes import Bnb8bitQuantize

    def failing(*args: Any, **kwargs: Any) -> Any:
        raise error

    monkeypatch.setattr(Bnb8bitQuantize, "convert", failing)
    spec, data, source = assemble(backbone("bert"), task_data("single_label"), "qlora", **CHOICES)
    result = run(spec, Inputs(data, source))
    if isinstance(error, ValueError):
        assert result.status == "unsupported"
        assert str(result.reason).endswith("cannot be quantised: ValueError: no such kernel")
    else:
        assert result.status == "out_of_memory"
        assert str(result.reason).startswith("memory ran out while the model was loaded (")


def test_an_optimizer_that_does_not_fit_is_out_of_memory(
    backbone: Callable[..., Path], task_data: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(self: Any) -> None:
        raise ERRORS[0]

    monkeypatch.setattr(torch.optim.AdamW, "step", failing)
    spec, data, source = assemble(backbone("bert"), task_data("single_label"), "full", **CHOICES)
    result = run(spec, Inputs(data, source))
    assert result.status == "out_of_memory"
    assert "while the optimizer made its state" in str(result.reason)
    assert "use optimizer adamw_8bit" in str(result.reason)


def test_scoring_that_does_not_fit_is_out_of_memory(
    backbone: Callable[..., Path], task_data: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    outputs = SequenceClassification.outputs

    def failing(self: Any, model: Any, batch: Any, *, final: bool = True) -> Any:
        sizes.append(len(batch["input_ids"]))
        if len(sizes) < 4:
            raise ERRORS[1]
        return outputs(self, model, batch, final=final)

    monkeypatch.setattr(SequenceClassification, "outputs", failing)
    spec, data, source = assemble(backbone("bert"), task_data("single_label"), "full", **CHOICES)
    assert run(spec, Inputs(data, source)).status == "ok"
    assert sizes[:4] == [16, 8, 4, 2]
    monkeypatch.setattr(SequenceClassification, "outputs", partial(_fail, ERRORS[1]))
    assert run(spec, Inputs(data, source)).status == "out_of_memory"


def _fail(error: Exception, *args: Any, **kwargs: Any) -> Any:
    raise error


@pytest.mark.parametrize(
    ("error", "expected", "size"),
    [
        *zip(ERRORS, [True] * 3, ["20.00 MiB", "64 bytes", "2.5 GiB"], strict=True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True, ""),
        (RuntimeError("CUDA driver error: out of memory"), True, ""),
        (RuntimeError("could not create a primitive"), True, ""),
        (RuntimeError("could not create a primitive descriptor for a matmul primitive"), False, ""),
        (RuntimeError("CUDA driver error: invalid argument"), False, ""),
        (OSError(12, "Cannot allocate memory"), True, ""),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False, ""),
        (ValueError("cannot allocate memory for that"), False, ""),
        (OSError(2, "No such file"), False, ""),
    ],
)
def test_which_errors_mean_it(error: Exception, expected: bool, size: str) -> None:
    assert is_out_of_memory(error) is expected
    assert asked_for(error) == (f" ({size} more were asked for)" if size else "")


def test_a_run_ends_well_where_its_weights_cannot_be_set_aside_to_be_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As where no disk takes them, and memory has no room for a copy."""

    def full(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("adapt.memory.observe.Aside.put", full)
    rows = (["good", "bad"] * 8, ["yes", "no"] * 8)
    found = fit_model("tiny-encoder", rows, "head", epochs=1, device="cpu").result
    assert found is not None
    assert found.status == "ok"
    assert not found.memory.get("breakdown")
