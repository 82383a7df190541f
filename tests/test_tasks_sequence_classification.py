"""Sequence classification: what is cut, and numbers as exact as they are given."""

from __future__ import annotations

import math
from typing import Any

import datasets
import pytest
import torch
from task_helpers import kind, wordpiece
from tokenizers import Tokenizer, models
from transformers import ByT5Tokenizer, PreTrainedTokenizerFast

from adapt.spec import DataError


def table(texts: list[Any], labels: list[Any], **more: Any) -> datasets.Dataset:
    return datasets.Dataset.from_dict({"text": texts, "label": labels, **more})


@pytest.mark.parametrize(("tokenizer", "piece"), [(wordpiece(), "the cat "), (ByT5Tokenizer(), "ab")])
def test_texts_that_are_cut_are_counted(tokenizer: Any, piece: str) -> None:
    made = kind("sequence_classification", tokenizer, "single_label", "accuracy", length=8)
    made.encode(table([piece * n for n in (1, 2, 3, 4, 9)], [0] * 5), split="train")
    made.encode(table([piece], [0]), split="test")
    assert made.notes == ["2 texts of the train split were cut to 8 tokens"]


def test_a_row_of_no_token_is_named() -> None:
    made = kind("sequence_classification", wordpiece(single="$A"), "single_label", "accuracy", length=8)
    with pytest.raises(DataError, match=r"Row 2 of the test split \('\\x01'\): the tokenizer makes no token of it"):
        made.encode(table(["the", "\x01"], [0, 0]), split="test")
    framed = kind("sequence_classification", wordpiece(), "single_label", "accuracy", length=8)
    assert len(framed.encode(table(["\x01"], [0]))[0]["input_ids"]) == 2, "tokens of its own are enough"


def test_a_tokenizer_of_another_script_makes_nothing_of_an_a() -> None:
    letters = Tokenizer(models.BPE({"<pad>": 0, "</s>": 1, "ሀ": 2}, []))
    tokens = PreTrainedTokenizerFast(tokenizer_object=letters, pad_token="<pad>", eos_token="</s>")
    made = kind("sequence_classification", tokens, "single_label", "accuracy", length=8)
    assert [row["input_ids"] for row in made.encode(table(["ሀሀ"], [0]))] == [[2, 2]]


def test_numbers_that_are_all_but_equal_have_a_deviation_to_be_divided_by() -> None:
    made = kind("sequence_classification", wordpiece(), "regression", "spearman", length=8)
    made.fit([{"label": 0.1}] * 3)
    assert made.state() == {"mean": pytest.approx(0.1), "std": 1.0}
    made.fit([{"label": 0.0}, {"label": 1e-170}])
    assert made.state()["std"] == 1.0


def test_numbers_are_standardised_before_they_lose_their_digits() -> None:
    """Such as times in seconds since 1970, whose differences float32 does not hold."""
    labels = [1.7e9 + 10.0 * i for i in range(8)]
    made = kind("sequence_classification", wordpiece(), "regression", "spearman", length=8)
    examples = made.encode(table(["the cat"] * 8, labels), split="train")
    made.fit(examples)
    found = made.collate(examples)["labels"]
    assert found.dtype == torch.float32
    deviation = 10.0 * math.sqrt(63 / 12)
    expected = [10.0 * (i - 3.5) / deviation for i in range(8)]
    assert found.tolist() == pytest.approx(expected, rel=1e-6)

    class Model(torch.nn.Module):
        def forward(self, input_ids: torch.Tensor, **_: Any) -> Any:
            logits = torch.tensor(expected, dtype=torch.float32)[:, None]
            return type("Output", (), {"logits": logits})

    outputs = made.outputs(Model(), made.collate(examples))
    assert [row["value"] for row in made.decode(outputs, examples)] == pytest.approx(labels, abs=1e-4)
    assert made.score(outputs, examples)["spearman"] == 1.0
    told = made.outcomes(outputs, examples)
    assert [guess for guess, _ in told] == pytest.approx(labels, abs=1e-4)  # no digit of the differences is lost
    assert [truth for _, truth in told] == labels


@pytest.mark.parametrize(
    ("problem", "metric", "train", "name", "predicted"),
    [
        ("single_label", "accuracy", [2, 0, 2, 1], "majority", {"label": "c"}),
        ("multi_label", "micro_f1", [[1, 0, 1], [1, 0, 0], [1, 1, 0], [0, 0, 1]], "majority", {"labels": ["a"]}),
        ("regression", "mse", [1.0, 2.0, 6.0], "mean", {"value": 3.0}),
    ],
)
def test_the_baseline_is_the_majority_of_training_or_its_mean(
    problem: str, metric: str, train: list[Any], name: str, predicted: dict[str, Any]
) -> None:
    """A label that half of the rows have is not predicted; whatever the rows that are scored have for labels."""
    made = kind(
        "sequence_classification", wordpiece(), problem, metric, labels=[] if problem == "regression" else "abc"
    )
    scored = [{"label": train[1]}] * 2
    found, outputs = made.baseline([{"label": label} for label in train], scored)
    assert found == name
    rows = made.decode(outputs, scored)
    assert [{key: row[key] for key in predicted} for row in rows] == [predicted] * 2
