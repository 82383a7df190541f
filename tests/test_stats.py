"""Intervals against scipy."""

from __future__ import annotations

import numpy
import pytest
import scipy.stats

from adapt.stats import Interval, crossed_interval, mean_interval, paired_difference, pareto_front

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


def test_the_crossed_interval_by_hand() -> None:
    # grand mean 3; seeds 2 and 4, rows 2, 3 and 4, and nothing else: mean squares 6, 2 and 0, of which rests 8 / 6
    found = crossed_interval([[1, 2, 3], [3, 4, 5]], 3.0)
    freedom = 8**2 / (6**2 / 1 + 2**2 / 2)
    half = scipy.stats.t.ppf(0.975, freedom) * (8 / 6) ** 0.5
    assert (found.mean, found.low, found.high) == (3.0, pytest.approx(3 - half), pytest.approx(3 + half))


def test_of_one_seed_the_crossed_interval_is_that_over_rows() -> None:
    expected = mean_interval(OURS)
    found = crossed_interval([OURS], 0.5)
    assert found.low is not None
    assert expected.low is not None
    assert (found.mean, 0.5 - found.low) == (0.5, pytest.approx(expected.mean - expected.low))


def test_where_all_seeds_or_all_rows_agree_the_others_alone_count() -> None:
    rows_alone = crossed_interval([OURS] * 3, 0.9)
    assert rows_alone.low == pytest.approx(0.9 - (mean_interval(OURS).mean - mean_interval(OURS).low))  # type: ignore[operator]
    seeds_alone, expected = crossed_interval([[v] * 5 for v in OURS], numpy.mean(OURS).item()), mean_interval(OURS)
    assert (seeds_alone.low, seeds_alone.high) == (pytest.approx(expected.low), pytest.approx(expected.high))
    assert crossed_interval([[0.5, 0.5]] * 3, 0.5) == Interval(0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("seeds", "rows", "rest", "fewest", "most"),
    [(0, 0.4, 0.2, 0, 0.75), (0.01, 0.4, 0.2, 0.6, 0.85), (0.02, 0.4, 0.2, 0.75, 0.92), (0.05, 0.1, 0.2, 0.9, 0.98)],
)
def test_the_crossed_interval_holds_for_other_seeds_and_other_rows(
    seeds: float, rows: float, rest: float, fewest: float, most: float
) -> None:
    rng = numpy.random.default_rng(0)
    crossed, alone = 0, 0
    for _ in range(500):
        table = rng.normal(0, seeds, (3, 1)) + rng.normal(0, rows, (1, 400)) + rng.normal(0, rest, (3, 400))
        crossed += covers_0(crossed_interval(table.tolist(), float(table.mean())))
        alone += covers_0(mean_interval(table.mean(1).tolist()))
    assert 0.91 < crossed / 500 < 0.98
    assert fewest <= alone / 500 <= most  # that over seeds alone knows nothing of other rows


def covers_0(found: Interval) -> bool:
    return found.low is not None and found.high is not None and found.low <= 0 <= found.high


def test_crossed_values_whose_squares_no_float_holds_have_an_interval() -> None:
    values = [[1.0, 2.0, 4.0], [3.0, 3.0, 5.0]]
    small = crossed_interval(values, 3.0)
    found = crossed_interval([[1e200 * value for value in row] for row in values], 3e200)
    assert small.low is not None
    assert found.low == pytest.approx(1e200 * small.low)


def test_rows_that_are_not_the_same_for_each_seed_are_refused() -> None:
    for values in ([[1.0], [2.0]], [[1.0, 2.0], [1.0]], []):
        with pytest.raises(ValueError, match="the same two rows or more"):
            crossed_interval(values, 1.0)


def test_the_front_holds_what_nothing_else_betters() -> None:
    assert pareto_front([(1, 1), (2, 0), (0, 2), (0, 1), (2, 0), (1, 0.5)]) == [0, 1, 2, 4]
    assert pareto_front([]) == []
