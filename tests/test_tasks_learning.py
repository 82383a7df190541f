"""Every task kind through the training loop: a tiny model learns its rows by heart and beats the baseline."""

from __future__ import annotations

from typing import Any

import datasets
import pytest
import torch
from task_helpers import byte_level, kind, model, wordpiece

from adapt.metrics import LOWER_IS_BETTER
from adapt.metrics.jackknife import score_of
from adapt.spec import Budget
from adapt.tasks import KINDS
from adapt.training import predict, train

PEOPLE, PLACES = ["anna", "bob", "cat", "tree"], ["paris", "monday", "house", "there"]
PAIRS = [(who, where) for who in PEOPLE for where in PLACES]
SPANS = ("O", "B-LOC", "B-PER")


def _spans() -> datasets.Dataset:
    words = [["the", who, "sat", "in", where] for who, where in PAIRS]
    return datasets.Dataset.from_dict({"tokens": words, "tags": [[0, 2, 0, 0, 1]] * len(words)})


def _answers() -> datasets.Dataset:
    return datasets.Dataset.from_list([
        {"id": f"{who}{where}", "question": "where ?", "context": f"the {who} sat in {where} .",
         "answer_texts": [where], "answer_starts": [len(f"the {who} sat in ")]}
        for who, where in PAIRS
    ])  # fmt: skip


def _texts() -> datasets.Dataset:
    targets = [where for _, where in PAIRS]
    rows = {"source": [f"the {who} sat in {where}" for who, where in PAIRS], "target": targets}
    return datasets.Dataset.from_dict(rows | {"references": [[target] for target in targets]})


def _completions() -> datasets.Dataset:
    rows = {"prompt": [f"the {who} sat in {where} ?" for who, where in PAIRS]}
    return datasets.Dataset.from_dict(rows | {"completion": [who for who, _ in PAIRS]})


def _recited() -> datasets.Dataset:
    """The same words in the same places, a few more in each row."""
    words = [*PEOPLE, *PLACES]
    return datasets.Dataset.from_dict({"text": [" ".join(words[: 4 + i // 4]) for i in range(len(PAIRS))]})


def _masked() -> Any:
    made = wordpiece()
    made.add_special_tokens({"mask_token": "[MASK]"})
    return made


def _ended() -> Any:
    return wordpiece(cls=False, single="$A [SEP]")


CASES: dict[str, tuple[Any, ...]] = {
    # kind: architecture, head, tokenizer, rows, problem, labels, metric, metric in which it beats the baseline
    "token_classification": ("Bert", "TokenClassification", wordpiece(), _spans, "spans", SPANS, "span_f1", "span_f1"),
    "question_answering": ("Bert", "QuestionAnswering", wordpiece(), _answers, "answers", (), "answer_f1", "answer_f1"),
    "seq2seq": (
        "Bart", "ConditionalGeneration", _ended(), _texts, "text", (), "text_exact_match", "text_exact_match",
    ),
    "masked_lm": ("Bert", "MaskedLM", _masked(), _recited, "masked", (), "masked_accuracy", "perplexity"),
    "causal_lm": ("Llama", "CausalLM", byte_level(), _completions, "completion", (), "text_exact_match", "perplexity"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "accumulation"), [*((name, 1) for name in CASES), ("causal_lm", 2)])
def test_a_kind_learns(name: str, accumulation: int) -> None:
    architecture, head, tokenizer, rows, problem, labels, metric, judged = CASES[name]
    bound = kind(name, tokenizer, problem, metric, labels=labels)
    net = model(architecture, head, tokenizer, max(len(labels), 2))
    epochs = 20 if bound.selection(metric) is None else 40
    budget = Budget(
        epochs=60 if name == "masked_lm" else epochs,  # which asks for a word a row
        batch_size=8 // accumulation,
        accumulation=accumulation,
        warmup=0.0,
    )
    examples, validation = bound.encode(rows(), split="train"), bound.encode(rows(), split="validation")
    bound.fit(examples)
    selection = bound.selection(metric) or metric
    trained = train(
        net, bound, examples, validation, budget, learning_rate=3e-3, metric=selection,
        higher_is_better=selection not in LOWER_IS_BETTER, seed=0,
    )  # fmt: skip
    assert trained.curve[-1]["loss"] < trained.curve[0]["loss"] / 3
    assert selection in trained.curve[-1]["validation"]
    found = bound.score(predict(net, bound, validation, budget), validation)
    assert found[metric] > 0.9
    simple = bound.baseline(examples, validation)
    assert simple is not None
    worse, better = bound.score(simple[1], validation)[judged], found[judged]
    assert better < worse if judged in LOWER_IS_BETTER else better > worse
    assert len(bound.outcomes(predict(net, bound, validation, budget), validation)) == len(PAIRS)
    told = score_of(problem, judged, bound.outcomes(simple[1], validation))  # as those of folds are put together
    assert told is None or told == pytest.approx(worse, rel=1e-3)
    assert told is not None or (problem, judged) == ("tags", "macro_f1")


@pytest.mark.parametrize("name", CASES)
def test_bfloat16_changes_the_loss_only_by_rounding(name: str) -> None:
    architecture, head, tokenizer, rows, problem, labels, metric, _ = CASES[name]
    bound = kind(name, tokenizer, problem, metric, labels=labels)
    net = model(architecture, head, tokenizer, max(len(labels), 2))
    batch = bound.collate(bound.encode(rows(), split="train"))
    with torch.no_grad():
        exact = bound.loss(net, batch)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rounded = bound.loss(net, batch)
    assert exact.dtype == rounded.dtype == torch.float32
    assert float(rounded) == pytest.approx(float(exact), rel=0.05)
    assert float(rounded) != float(exact)


def test_every_kind_is_tried() -> None:
    assert {"sequence_classification", *CASES} == set(KINDS)
