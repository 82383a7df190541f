"""Metrics against scikit-learn and scipy, with the network cut off."""

from __future__ import annotations

import math
import random
import socket
from typing import Any

import numpy
import pytest
import scipy.stats
import sklearn.metrics

from adapt.metrics import LOWER_IS_BETTER, METRICS, metric, score
from adapt.spec import OptionError


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a metric asked for the network")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def classes(n: int, k: int, seed: int) -> list[int]:
    rng = random.Random(seed)
    return [rng.randrange(k) for _ in range(n)]


@pytest.mark.parametrize("k", [2, 5])
def test_single_label_scores_are_those_of_scikit_learn(k: int) -> None:
    truth, guess = classes(200, k, 0), classes(200, k, 1)
    assert score("single_label", guess, truth) == {
        "accuracy": pytest.approx(sklearn.metrics.accuracy_score(truth, guess)),
        "macro_f1": pytest.approx(sklearn.metrics.f1_score(truth, guess, average="macro")),
        "mcc": pytest.approx(sklearn.metrics.matthews_corrcoef(truth, guess)),
    }


def test_single_label_scores_by_hand() -> None:
    found = score("single_label", [1, 1, 0, 0], [1, 0, 0, 0])
    # class 0: precision 1, recall 2/3; class 1: precision 1/2, recall 1; MCC: (1*2 - 1*0) / sqrt(2*1*3*2)
    assert found["accuracy"] == pytest.approx(0.75)
    assert found["macro_f1"] == pytest.approx((0.8 + 2 / 3) / 2)
    assert found["mcc"] == pytest.approx(2 / math.sqrt(12))


def test_multi_label_scores_are_those_of_scikit_learn() -> None:
    rng = numpy.random.default_rng(0)
    truth, guess = rng.integers(0, 2, (100, 4)), rng.integers(0, 2, (100, 4))
    found = score("multi_label", guess.tolist(), truth.tolist())
    assert found == {
        "macro_f1": pytest.approx(sklearn.metrics.f1_score(truth, guess, average="macro")),
        "micro_f1": pytest.approx(sklearn.metrics.f1_score(truth, guess, average="micro")),
        "exact_match": pytest.approx((truth == guess).all(1).mean()),
    }


def test_a_label_that_nobody_predicts_counts_as_zero_without_a_warning() -> None:
    found = score("multi_label", [[1, 0], [1, 0]], [[1, 1], [1, 0]])
    assert found["macro_f1"] == pytest.approx(0.5)
    assert score("single_label", [0, 0], [0, 1])["mcc"] == 0.0


def test_regression_scores_are_those_of_scipy() -> None:
    rng = numpy.random.default_rng(1)
    truth = rng.normal(size=80)
    guess = truth**3 + rng.normal(size=80)
    found = score("regression", guess.tolist(), truth.tolist())
    assert found == {
        "spearman": pytest.approx(scipy.stats.spearmanr(truth, guess)[0]),
        "pearson": pytest.approx(scipy.stats.pearsonr(truth, guess)[0]),
        "mse": pytest.approx(((truth - guess) ** 2).mean()),
    }


def test_values_keep_double_precision() -> None:
    assert score("regression", [1e-9, 0.0], [0.0, 0.0])["mse"] == pytest.approx(5e-19)


def test_a_constant_prediction_has_correlation_zero() -> None:
    found = score("regression", [2.0, 2.0, 2.0], [1.0, 2.0, 3.0])
    assert (found["pearson"], found["spearman"]) == (0.0, 0.0)


def test_a_metric_can_be_asked_again() -> None:
    for guess, expected in (([1, 1], 0.5), ([1, 0], 1.0), ([0, 1], 0.0)):
        assert metric("accuracy").compute(predictions=guess, references=[1, 0]) == {"accuracy": expected}


def test_they_are_modules_of_evaluate() -> None:
    import evaluate

    for problem, names in METRICS.items():
        for name in names:
            found = metric(name, problem == "multi_label")
            assert isinstance(found, evaluate.Metric)
            assert found.description


def test_an_unknown_metric_lists_what_there_is() -> None:
    with pytest.raises(OptionError, match=r"no metric 'bleu'; choose one of accuracy, macro_f1"):
        metric("bleu")


def test_only_errors_and_losses_are_better_when_lower() -> None:
    names = {name for names in METRICS.values() for name in names}
    assert names & LOWER_IS_BETTER == {"mse"}
