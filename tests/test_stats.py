"""Intervals against scipy."""

from __future__ import annotations

import numpy
import pytest
import scipy.stats

from adapt.stats import Interval, mean_interval, paired_difference

OURS, BASE = [0.91, 0.88, 0.93, 0.90], [0.90, 0.89, 0.91, 0.86]


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_the_interval_is_that_of_the_t_test(confidence: float) -> None:
    expected = scipy.stats.ttest_1samp(OURS, 0).confidence_interval(confidence)
    found = mean_interval(OURS, confidence)
    assert found.mean == pytest.approx(numpy.mean(OURS))
    assert (found.low, found.high) == (pytest.approx(expected.low), pytest.approx(expected.high))


def test_the_interval_of_three_by_hand() -> None:
    # mean 2, standard deviation 1, t(0.975, 2) = 4.302653
    found = mean_interval([1, 2, 3])
    assert found.mean == 2
    assert (found.low, found.high) == (pytest.approx(2 - 4.302653 / 3**0.5), pytest.approx(2 + 4.302653 / 3**0.5))


def test_the_paired_difference_is_that_of_the_paired_test() -> None:
    expected = scipy.stats.ttest_rel(OURS, BASE).confidence_interval(0.95)
    found = paired_difference(OURS, BASE)
    assert found.mean == pytest.approx(numpy.mean(OURS) - numpy.mean(BASE))
    assert (found.low, found.high) == (pytest.approx(expected.low), pytest.approx(expected.high))


def test_one_value_has_no_interval_and_equal_values_a_point() -> None:
    assert mean_interval([0.5]) == Interval(0.5, None, None)
    for value in (0.1, 0.49917627677100496):  # the sum of three of the latter, by three, is another number
        assert mean_interval([value] * 3) == Interval(value, value, value)


def test_values_whose_squares_no_float_holds_have_an_interval() -> None:
    values = [1e300, 3e300, 2e300]  # a perplexity of a model that learnt nothing but to be sure
    small, found = mean_interval([1.0, 3.0, 2.0]), mean_interval(values)
    assert small.low is not None
    assert found.low == pytest.approx(1e300 * small.low)


def test_no_value_and_unequal_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one value"):
        mean_interval([])
    with pytest.raises(ValueError, match="zip"):
        paired_difference([1.0], [1.0, 2.0])


def test_the_interval_covers_the_mean_as_often_as_it_says() -> None:
    rng = numpy.random.default_rng(0)
    hits = 0
    for _ in range(1000):
        found = mean_interval(rng.normal(3.0, 2.0, 5).tolist(), 0.9)
        hits += found.low is not None and found.high is not None and found.low <= 3.0 <= found.high
    assert hits == pytest.approx(900, abs=40)
