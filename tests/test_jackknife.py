"""Pseudo-values are those of scoring anew without each row, for every metric of every problem."""

from __future__ import annotations

import random
from typing import Any

import numpy
import pytest

from adapt.metrics import LOSSES, METRICS, score
from adapt.metrics.jackknife import pseudo_values
from adapt.metrics.spans import counts
from adapt.metrics.texts import answer_scores, bleu_counts, chrf_counts, rouge_l, text_exact_match

ROWS = 40
TAGS = ["O", "B-PER", "I-PER", "B-LOC"]
WORDS = ["the", "big", "red", "cat", "saw", "anna", "in", "a", "house"]


def sentence(draw: random.Random, words: int) -> str:
    return " ".join(draw.choice(WORDS) for _ in range(words))


def made_up(problem: str) -> tuple[list[Any], list[Any], list[Any]]:
    """Predictions and references as `score` takes them, and the outcomes of the same rows."""
    draw = random.Random(problem)
    if problem == "single_label":  # two classes have one row each: without it they are not there
        truth = [4, 5, *(draw.randrange(4) for _ in range(ROWS - 2))]
        guess = [t if draw.random() < 0.6 else draw.randrange(4) for t in truth]
        return guess, truth, [list(pair) for pair in zip(guess, truth, strict=True)]
    if problem == "multi_label":
        truth = [[draw.randrange(2) for _ in range(3)] for _ in range(ROWS)]
        guess = [[bit if draw.random() < 0.7 else 1 - bit for bit in row] for row in truth]
        for side, i in ((truth, 4), (guess, 9)):  # of six labels two have one row each, and one has none
            for at, row in enumerate(side):
                row += [int(at == i), int(at == i + 1), 0]
        return guess, truth, [list(pair) for pair in zip(guess, truth, strict=True)]
    if problem == "regression":
        truth = [round(draw.gauss(3, 1), 1) for _ in range(ROWS)]
        guess = [round(t + draw.gauss(0, 1), 1) for t in truth]
        return guess, truth, [list(pair) for pair in zip(guess, truth, strict=True)]
    if problem in ("spans", "tags"):
        truth = [[draw.choice(TAGS) for _ in range(draw.randint(1, 7))] for _ in range(ROWS)]
        guess = [[tag if draw.random() < 0.7 else draw.choice(TAGS) for tag in row] for row in truth]
        pairs = list(zip(guess, truth, strict=True))
        words = [[sum(a == b for a, b in zip(*pair, strict=True)), len(pair[1])] for pair in pairs]
        spans = [counts(*pair) + row for pair, row in zip(pairs, words, strict=True)]
        return guess, truth, spans if problem == "spans" else words
    if problem == "masked":
        counts_ = [(draw.randint(1, 9), draw.random()) for _ in range(ROWS)]
        found = [[draw.random() * 9, tokens, round(share * tokens)] for tokens, share in counts_]
        return [row[2] for row in found], [row[1] for row in found], found
    references = [[sentence(draw, 5) for _ in range(draw.randint(1, 3))] for _ in range(ROWS)]
    texts = [r[0] if draw.random() < 0.2 else sentence(draw, draw.randint(1, 7)) for r in references]
    if problem == "answers":
        both = [answer_scores(text, several) for text, several in zip(texts, references, strict=True)]
        return texts, references, [[int(exact), f1] for exact, f1 in both]
    outcomes = []
    for text, several in zip(texts, references, strict=True):
        outcome = [
            draw.random() * 9,
            draw.randint(1, 5),
            rouge_l([text], [several]),
            text_exact_match([text], [several]),
        ]
        outcomes.append(
            [*outcome, chrf_counts(text, several), *([bleu_counts(text, several)] if problem == "text" else [])]
        )
    return texts, references, outcomes


CASES = [
    (problem, name) for problem, names in METRICS.items() for name in names if (problem, name) != ("tags", "macro_f1")
]


@pytest.mark.parametrize(("problem", "metric"), [case for case in CASES if case[1] != "spearman"])
def test_pseudo_values_are_those_of_scoring_without_each_row(problem: Any, metric: str) -> None:
    guess, truth, outcomes = made_up(problem)
    if metric in LOSSES:
        guess, truth = [row[0] for row in outcomes], [row[1] for row in outcomes]
    whole = score(problem, guess, truth, [metric])[metric]
    rest = [
        score(problem, guess[:i] + guess[i + 1 :], truth[:i] + truth[i + 1 :], [metric])[metric] for i in range(ROWS)
    ]
    expected = [ROWS * whole - (ROWS - 1) * without for without in rest]
    assert pseudo_values(problem, metric, outcomes) == pytest.approx(expected, abs=1e-9)
    assert max(expected) > min(expected)


def test_those_of_ranks_have_their_mean_and_nearly_their_values() -> None:
    draw = random.Random(0)
    truth = [float(draw.randint(0, 9)) for _ in range(400)]  # many are tied
    guess = [t + draw.gauss(0, 3) for t in truth]
    whole = score("regression", guess, truth, ["spearman"])["spearman"]
    found = pseudo_values("regression", "spearman", [list(pair) for pair in zip(guess, truth, strict=True)])
    assert found is not None
    assert numpy.mean(found) == pytest.approx(whole, abs=1e-9)
    rest = [
        score("regression", guess[:i] + guess[i + 1 :], truth[:i] + truth[i + 1 :], ["spearman"])["spearman"]
        for i in range(400)
    ]
    expected = 400 * whole - 399 * numpy.array(rest)
    assert numpy.std(found) == pytest.approx(numpy.std(expected), rel=0.01)
    assert numpy.corrcoef(found, expected)[0, 1] > 0.9999
    assert pseudo_values("regression", "spearman", [[1.0, float(i)] for i in range(9)]) == [0.0] * 9


def test_without_the_only_row_with_a_label_macro_f1_is_nothing() -> None:
    rows = [[[1, 0], [1, 0]], [[0, 0], [0, 0]]]
    assert pseudo_values("multi_label", "macro_f1", rows) == [2 * 1.0 - 0.0, 2 * 1.0 - 1.0]


def test_outcomes_that_do_not_tell_give_none() -> None:
    older: list[tuple[Any, str, list[Any]]] = [
        ("single_label", "accuracy", [0, 1, 1]), ("regression", "spearman", [0.5, 2.0]),
        ("spans", "token_accuracy", [[1, 0, 2]] * 3), ("tags", "macro_f1", [[3, 4]] * 3),
        ("multi_label", "micro_f1", [[0, 1, 1, 0]] * 3), ("multi_label", "exact_match", [[0, 1]] * 3),
        ("text", "chrf", [[2.5, 0.3, 0.4, 0.0]] * 3), ("completion", "chrf", [[9.5, 12]] * 3),
        ("text", "loss", [[None, None, 0.5, 0.0, [1] * 18, [1] * 10]] * 3), ("single_label", "accuracy", []),
        ("single_label", "accuracy", [["a", "b"]] * 3), ("single_label", "accuracy", [[1, 1]]),
        ("completion", "perplexity", [[9.5, 12], [9.5, 12, 1.0]]),
    ]  # fmt: skip
    assert [pseudo_values(*case) for case in older] == [None] * len(older)
    assert pseudo_values("spans", "span_f1", [[1, 0, 2], [1, 1, 0]]) is not None
    assert pseudo_values("text", "rouge_l", [[None, None, r, 0.0, [1] * 18, [1] * 10] for r in (0.5, 1.0)]) == [
        0.5,
        1.0,
    ]
