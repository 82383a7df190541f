"""Intervals against scipy."""

from __future__ import annotations

from typing import Any

import numpy
import pytest
import scipy.stats

from adapt.stats import (
    RIGHT_OR_WRONG,
    RIGHT_OR_WRONG_PAIRED,
    Interval,
    crossed_interval,
    effective_groups,
    mean_interval,
    paired_difference,
    pareto_front,
)

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


@pytest.mark.parametrize("turned", [False, True])
def test_where_the_rest_hides_seeds_or_rows_the_others_alone_count(turned: bool) -> None:
    # of means 1 and 1 the mean square is 0, which is less than what the rest would make it
    table = numpy.array([[0, 1, 2], [0.3, 0.7, 2]])
    of_others = 2 * numpy.var(table.mean(0), ddof=1)
    assert ((table - table.mean(0)) ** 2).sum() > 0
    found = crossed_interval((table.T if turned else table).tolist(), 1.0)
    half = scipy.stats.t.ppf(0.975, 3 - 1) * (of_others / 6) ** 0.5
    assert (found.low, found.high) == (pytest.approx(1 - half), pytest.approx(1 + half))


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


def covered(rows: int, right: float, **options: Any) -> float:
    """How often the interval covers the chance of a row to be right, summed over all numbers that may be right."""
    found = 0.0
    for wrong in range(rows + 1):
        if (chance := float(scipy.stats.binom.pmf(wrong, rows, 1 - right))) < 1e-6:
            continue
        its = crossed_interval(*right_or_wrong(rows, wrong), **options)
        if its.low is not None and its.high is not None and its.low <= right <= its.high:
            found += chance
    return found


@pytest.mark.parametrize("rows", [20, 25, 30, 50, 100])
def test_the_interval_of_rows_that_are_right_or_wrong_covers_however_many_are_right(rows: int) -> None:
    chances = numpy.arange(0.5, 1, 0.005)
    found = [crossed_interval(*right_or_wrong(rows, wrong), added=RIGHT_OR_WRONG) for wrong in range(rows + 1)]
    covers = [[its.low <= chance <= its.high for its in found] for chance in chances]
    likely = scipy.stats.binom.pmf(numpy.arange(rows + 1), rows, 1 - chances[:, None])
    assert (covers * likely).sum(1).min() > 0.91


def right_or_wrong(rows: int, wrong: int) -> tuple[list[list[float]], float]:
    return [[0.0] * wrong + [1.0] * (rows - wrong)], 1 - wrong / rows


def test_without_rows_added_the_interval_is_too_narrow_where_nearly_all_are_right() -> None:
    assert round(covered(100, 0.95), 2) == 0.88
    assert round(covered(100, 0.95, added=RIGHT_OR_WRONG), 2) == 0.96


def test_the_interval_with_rows_added_by_hand() -> None:
    # ten rows and four: the variance of 14 rows of which 12 are right, over 14
    half = scipy.stats.t.ppf(0.975, 9) * (12 / 14 * 2 / 14 / 14) ** 0.5
    found = crossed_interval([[1.0] * 10], 1.0, added=RIGHT_OR_WRONG)
    assert (found.mean, found.low, found.high) == (1.0, pytest.approx(1 - half), pytest.approx(1 + half))
    of_seeds = crossed_interval([[1.0] * 10] * 3, 1.0, added=RIGHT_OR_WRONG)
    assert of_seeds.low == pytest.approx(found.low), "that are all alike"
    of_groups = crossed_interval([[1.0] * 10], 1.0, groups=[0, 0, 1, 1, 2, 2, 3, 3, 4, 4], added=RIGHT_OR_WRONG)
    assert of_groups.low == pytest.approx(crossed_interval([[1.0] * 5], 1.0, added=RIGHT_OR_WRONG).low)
    # rows of a group alike: four of five groups right
    values, groups = [[1.0] * 8 + [0.0] * 2], [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    same = crossed_interval(values, 0.8, groups=groups, added=RIGHT_OR_WRONG)
    assert same.low == pytest.approx(crossed_interval([[1.0] * 4 + [0.0]], 0.8, added=RIGHT_OR_WRONG).low, abs=0.02)
    # of ten differences of 0, and of one of 1 and one of -1 over two rows more
    half = scipy.stats.t.ppf(0.975, 9) * (1 / 12**2) ** 0.5
    alike = crossed_interval([[0.0] * 10], 0.0, added=RIGHT_OR_WRONG_PAIRED)
    assert (alike.low, alike.high) == (pytest.approx(-half), pytest.approx(half))


def test_a_row_of_which_a_part_is_right_makes_no_interval_narrower() -> None:
    right = crossed_interval([[1.0] * 100], 1.0, added=RIGHT_OR_WRONG)
    nearly = crossed_interval([[1.0] * 99 + [0.9]], 0.999, added=RIGHT_OR_WRONG)
    assert right.low is not None
    assert nearly.low is not None
    assert 1.0 < (0.999 - nearly.low) / (1 - right.low) < 1.01


@pytest.mark.parametrize(("groups", "rows", "right"), [(10, 10, 0.9), (20, 10, 0.95), (30, 5, 0.95), (20, 5, 0.7)])
@pytest.mark.parametrize(("alike", "least"), [(1.0, 0.9), (0.5, 0.82), (0.0, 0.9)])
def test_of_groups_whose_rows_are_right_together_the_interval_covers(
    groups: int, rows: int, right: float, alike: float, least: float
) -> None:
    rng = numpy.random.default_rng(0)
    numbers = numpy.repeat(numpy.arange(groups), rows)
    hits = 0
    for _ in range(300):
        shared, own = rng.random(groups)[numbers] < right, rng.random(len(numbers)) < right
        values = numpy.where(rng.random(len(numbers)) < alike, shared, own).astype(float)
        found = crossed_interval([values.tolist()], values.mean(), groups=numbers.tolist(), added=RIGHT_OR_WRONG)
        hits += found.low is not None and found.high is not None and found.low <= right <= found.high
    assert hits / 300 > least


@pytest.mark.parametrize(
    ("rows", "ours", "base"), [(20, 0.95, 0.9), (50, 0.99, 0.98), (100, 0.9, 0.9), (400, 0.9, 0.8)]
)
def test_the_interval_of_a_difference_of_shares_covers(rows: int, ours: float, base: float) -> None:
    rng = numpy.random.default_rng(0)
    hits = {"alone": 0, "added": 0}
    for _ in range(500):
        hard = rng.random(rows)  # rows that one gets wrong the other mostly does, too
        right = [(hard + rng.normal(0, 0.02, rows) < share).astype(float) for share in (ours, base)]
        values = right[0] - right[1]
        found = {
            "alone": crossed_interval([values.tolist()], values.mean()),
            "added": crossed_interval([values.tolist()], values.mean(), added=RIGHT_OR_WRONG_PAIRED),
        }
        for name, its in found.items():
            assert its.low is not None
            assert its.high is not None
            hits[name] += its.low <= ours - base <= its.high
    assert hits["added"] / 500 > 0.92
    assert hits["alone"] <= hits["added"]


@pytest.mark.parametrize("right", [0.9, 0.97])
def test_of_three_seeds_too_the_interval_of_rows_right_or_wrong_covers(right: float) -> None:
    rng = numpy.random.default_rng(0)
    hits = 0
    for _ in range(500):
        hard = rng.normal(0, 1, 100)
        limit = scipy.stats.norm.ppf(right, scale=1.25**0.5)
        table = (hard + rng.normal(0, 0.5, (3, 100)) < limit).astype(float)
        found = crossed_interval(table.tolist(), table.mean().item(), added=RIGHT_OR_WRONG)
        hits += found.low is not None and found.high is not None and found.low <= right <= found.high
    assert hits / 500 > 0.92


def test_of_two_seeds_that_decide_most_the_crossed_interval_is_too_narrow() -> None:
    """As the README says: two that happen to be alike look as if rows decided, of which there are many."""
    rng = numpy.random.default_rng(0)
    hits = 0
    for _ in range(500):
        table = rng.normal(0, 0.1, (2, 1)) + rng.normal(0, 0.4, (1, 400)) + rng.normal(0, 0.2, (2, 400))
        hits += covers_0(crossed_interval(table.tolist(), float(table.mean())))
    assert 0.84 < hits / 500 < 0.91


def test_the_interval_over_groups_by_hand() -> None:
    # means 2.5 and 3.5; groups of two rows, one and one, so twice what each mean changes by without each of them
    values, groups = [[1, 2, 3, 4], [2, 4, 3, 5]], [7, 7, 0, 2]
    found = crossed_interval(values, 0.5, groups=groups)
    table = 2 * numpy.array([[2.5 - 7 / 2, 2.5 - 7 / 3, 2.5 - 6 / 3], [3.5 - 8 / 2, 3.5 - 11 / 3, 3.5 - 9 / 3]])
    of_groups = 2 * (table.mean(0) ** 2).sum() / 2
    of_seeds = 3 * numpy.var([2.5, 3.5], ddof=1)
    rest = ((table - table.mean(0)) ** 2).sum() / 2
    free = 16 / 6 - 1  # of Kish's effective groups
    variance = of_seeds + of_groups - rest
    freedom = variance**2 / (of_seeds**2 + of_groups**2 / free + rest**2 / free)
    half = scipy.stats.t.ppf(0.975, freedom) * (variance / 6) ** 0.5
    assert (found.low, found.high) == (pytest.approx(0.5 - half), pytest.approx(0.5 + half))
    alike = crossed_interval([[1.0, 0.1, 0.7] * 3], 0.6, groups=[0, 0, 0, 1, 1, 1, 2, 2, 2])
    assert alike == Interval(0.6, 0.6, 0.6), "of groups that score alike no interval is made, whatever their rounding"
    alone = crossed_interval(values, 3.0, groups=[3, 1, 2, 0])
    assert alone.low == pytest.approx(crossed_interval(values, 3.0).low)


def test_groups_of_one_size_count_each_and_others_fewer() -> None:
    assert effective_groups([4, 4, 1, 1, 0, 0]) == 3
    assert effective_groups([0] * 5 + [1, 2, 3, 4, 5]) == pytest.approx(100 / 30)


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("sizes", ["equal", "unequal", "one large", "two large"])
def test_the_interval_over_groups_holds_for_rows_that_are_alike_within_them(sizes: str, seeds: int) -> None:
    rng = numpy.random.default_rng(0)
    hits = {"rows": 0, "groups": 0}
    for _ in range(400):
        many = rng.geometric(0.125, 30) if sizes == "unequal" else numpy.full(30, 8)
        if sizes == "one large":
            many[0] = 100
        if sizes == "two large":
            many = numpy.array([80, 80, *[2] * 28])
        groups = numpy.repeat(numpy.arange(30), many)
        shared = rng.normal(0, 0.3, (1, 30)) + rng.normal(0, 0.1, (seeds, 30))
        own = rng.normal(0, 0.4, (1, len(groups))) + rng.normal(0, 0.2, (seeds, len(groups)))
        values = rng.normal(0, 0.01, (seeds, 1)) + shared[:, groups] + own
        hits["rows"] += covers_0(crossed_interval(values.tolist(), float(values.mean())))
        hits["groups"] += covers_0(crossed_interval(values.tolist(), float(values.mean()), groups=groups.tolist()))
    assert 0.91 < hits["groups"] / 400 < 0.98
    assert hits["rows"] / 400 < 0.8


def test_groups_that_tell_nothing_of_others_are_refused() -> None:
    for groups in ([0, 0, 0, 0], [0, 0, 0, 1], [0, 1]):
        with pytest.raises(ValueError, match="the group of each row, and two effective groups or more"):
            crossed_interval([[1.0, 2.0, 3.0, 4.0]], 2.5, groups=groups)


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


def test_rows_added_make_no_interval_narrower() -> None:
    rng = numpy.random.default_rng(0)
    for seeds, rows in ((2, 20), (3, 20), (2, 60), (3, 100)):
        for _ in range(200):
            table = (rng.random((seeds, rows)) < rng.random((seeds, 1)) * 0.3 + 0.7).astype(float)
            plain, found = (crossed_interval(table.tolist(), 0.5, **kind) for kind in ({}, {"added": RIGHT_OR_WRONG}))
            assert plain.low is not None
            assert found.low is not None
            assert found.low <= plain.low + 1e-12
