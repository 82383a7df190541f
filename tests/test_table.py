"""The table says what the result files say: intervals, costs, reasons, and nothing that would become markup."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
import random
import re
from pathlib import Path
from typing import Any

import numpy
import pytest
import scipy.stats
from comparison_helpers import MEMORY, contents, result_of, run_of

from adapt.comparison.store import Store
from adapt.result import FOUND_FEATURES, Result
from adapt.spec import Source
from adapt.stats import (
    RIGHT_OR_WRONG,
    RIGHT_OR_WRONG_PAIRED,
    Interval,
    crossed_interval,
    mean_interval,
    paired_difference,
)
from adapt.strategies import FLOORS
from adapt.tables.cells import escape, interval, share
from adapt.tables.section import Difference
from adapt.tables.table import COLUMNS, Table, table_of

SCORES = {"full": [0.80, 0.84, 0.79], "lora": [0.78, 0.85, 0.80], "head": [0.60, 0.66, 0.61]}


def grid(scores: Any = SCORES, **task: Any) -> list[Result]:
    return [
        result_of(run_of(name, seed, **task), value)
        for name, values in scores.items()
        for seed, value in enumerate(values)
    ]


def table(*results: Result) -> Table:
    return table_of(contents(results))


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def cells_of(markdown: str) -> list[list[str]]:
    """The cells of every row of the first table, split where Markdown splits them."""
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


@pytest.mark.parametrize("n", [2, 3, 10])
def test_intervals_are_those_of_scipy(n: int) -> None:
    draw = random.Random(n)
    values = [draw.random() for _ in range(n)]
    base = [draw.random() for _ in range(n)]
    low, high = scipy.stats.t.interval(0.95, n - 1, loc=numpy.mean(values), scale=scipy.stats.sem(values))
    interval = mean_interval(values)
    assert interval.mean == pytest.approx(numpy.mean(values), rel=1e-12)
    assert (interval.low, interval.high) == (pytest.approx(low, rel=1e-9), pytest.approx(high, rel=1e-9))
    reference = scipy.stats.ttest_rel(values, base).confidence_interval(0.95)
    difference = paired_difference(values, base)
    assert difference.low == pytest.approx(reference.low, rel=1e-9)
    assert difference.high == pytest.approx(reference.high, rel=1e-9)


def test_the_columns_are_those_promised_and_the_numbers_parse() -> None:
    text = table(*grid()).csv()
    assert text.splitlines()[0] == (
        "task,strategy,seeds,metric,mean,ci_low,ci_high,trainable,trainable_share,saved_bytes,peak_bytes,"
        "train_seconds,examples_per_second"
    )
    rows = rows_of(text)
    assert [row["strategy"] for row in rows] == ["full", "head", "lora"]  # the order of the command line
    expected = mean_interval(SCORES["full"])
    full = rows[0]
    assert (full["task"], full["metric"], full["seeds"]) == ("words", "accuracy", "3")
    for name, value in (("mean", expected.mean), ("ci_low", expected.low), ("ci_high", expected.high)):
        assert float(full[name]) == pytest.approx(value, abs=1e-5)
    assert int(full["trainable"]) == 1_000
    assert float(full["trainable_share"]) == 0.05
    assert int(full["saved_bytes"]) == 4_096
    assert int(full["peak_bytes"]) == 3 * 2**20
    assert float(full["train_seconds"]) == 2.0
    assert float(full["examples_per_second"]) == 60.0
    assert list(full) == list(COLUMNS)


def test_costs_are_those_of_the_runs_that_ended_well() -> None:
    good = [
        result_of(
            run_of("lora", seed), train_seconds=seconds, memory={**MEMORY, "peak": peak}, examples_per_second=None
        )
        for seed, seconds, peak in ((0, 1.0, 100), (1, 4.0, 300))
    ]
    failed = result_of(run_of("lora", 2), status="failed", reason="killed", scores={}, train_seconds=99.0)
    (row,) = rows_of(table(*good, failed).csv())
    assert (row["seeds"], row["train_seconds"], row["peak_bytes"]) == ("2", "2.5", "300")
    assert row["examples_per_second"] == ""


def test_a_peak_that_was_not_counted_by_category_is_not_shown_beside_those_that_were() -> None:
    older = contents([result_of(run_of("lora", 0), memory={})])
    older[0]["memory"]["peak_bytes"] = 2**30  # the resident set of its process, as it was once
    (row,) = rows_of(table_of(older).csv())
    assert row["peak_bytes"] == ""


def test_a_difference_is_paired_by_seed() -> None:
    results = [*grid({"full": SCORES["full"]}), *(r for r in grid({"lora": SCORES["lora"]}) if r.run.seed != 1)]
    (full, lora) = table(*results).rows
    assert full.difference is None
    assert lora.difference == Difference(
        paired_difference([0.78, 0.80], [0.80, 0.79]), seeds=2, all_seeds=False, by_rows=False
    )
    markdown = table(*results).markdown()
    assert re.search(r"\(2 seeds\) \|", markdown)
    fewer = table(*grid({"lora": SCORES["lora"]}), *grid({"full": SCORES["full"][:2]}))
    assert re.search(r"\(2 seeds\) \|", fewer.markdown())
    other = [result_of(run_of("head", seed), 0.5) for seed in (7, 8)]
    assert [row.difference for row in table(*grid({"full": SCORES["full"]}), *other).rows] == [None, None]


def test_what_is_not_trained_is_compared_as_if_run_with_every_seed() -> None:
    task = {"kind": "causal_lm", "problem": "completion", "metric": "perplexity", "labels": ()}
    trained = [result_of(run_of("full", seed, **task), value) for seed, value in enumerate((4.0, 5.0, 6.0))]
    floor = dataclasses.replace(run_of("full", **task), strategy=FLOORS["untrained"]())
    (_, untrained) = table(*trained, result_of(floor, 9.0, learning_rate=None, head=0)).rows
    assert untrained.difference is not None
    drawn = table(*trained, result_of(floor, 9.0, learning_rate=None)).rows[1].difference
    assert drawn is not None
    assert drawn.seeds == 1, "a head that a seed has drawn is another with others"
    found = untrained.difference.interval
    assert (found.mean, untrained.difference.seeds) == (4.0, 3)
    assert found == paired_difference([9.0] * 3, [4.0, 5.0, 6.0])
    assert (untrained.scores, untrained.score) == ({0: 9.0}, mean_interval([9.0]))


def test_intervals_are_over_seeds_and_rows_where_the_outcomes_of_all_tell() -> None:
    right = {"full": [[1, 1, 0, 1], [1, 0, 0, 1]], "lora": [[1, 1, 1, 1], [1, 0, 0, 1]], "head": [[1, 0, 0, 0]]}
    results = [
        result_of(run_of(name, seed), sum(hits) / 4, test_outcomes=[[hit, 1] for hit in hits])
        for name, seeds in right.items()
        for seed, hits in enumerate(seeds)
    ]
    made = table(*results)
    found = {row.strategy: row for row in made.rows}
    assert found["lora"].score == crossed_interval(right["lora"], 0.75, added=RIGHT_OR_WRONG)
    gains = [[a - b for a, b in zip(*pair, strict=True)] for pair in zip(right["lora"], right["full"], strict=True)]
    assert found["lora"].difference.interval == crossed_interval(gains, 0.125, added=RIGHT_OR_WRONG_PAIRED)
    assert found["head"].score == crossed_interval(right["head"], 0.25, added=RIGHT_OR_WRONG)
    assert found["head"].difference.interval == crossed_interval([[0, -1, 0, -1]], -0.5, added=RIGHT_OR_WRONG_PAIRED)
    assert (
        "intervals are for other seeds and other test rows like these (crossed random effects), differences paired by "
        "both; of head, with one seed, for other rows alone."
    ) in made.markdown()

    results[3] = result_of(run_of("lora", 1), 0.5, test_outcomes=[1, 0, 0, 1])  # as older ones are
    made = table(*results)
    found = {row.strategy: row for row in made.rows}
    assert found["lora"].score == mean_interval([1.0, 0.5])
    assert found["lora"].difference.interval == mean_interval([0.25, 0.0])
    assert found["full"].score == crossed_interval(right["full"], 0.625)
    assert "with one seed, for other rows alone; of lora for other seeds alone." in made.markdown()
    assert "are for other test rows like these; what another seed would change is" in table(results[0]).markdown()
    assert "like these, differences paired by row; what another" in table(results[0], results[4]).markdown()
    assert "differences paired by both where both rows tell;" in made.markdown()
    older = [result_of(run_of("full", seed), 0.5, test_outcomes=[1, 0, 0, 1]) for seed in (0, 1)]
    assert "differences paired by seed alone;" in table(*older, *results[2:3], *results[4:]).markdown()


def test_intervals_are_over_groups_of_rows_where_a_result_tells_them() -> None:
    right = {
        "full": [[1, 1, 0, 1, 0, 0, 0, 0], [1, 0, 0, 1, 0, 0, 0, 0]],
        "lora": [[1, 1, 1, 1, 0, 0, 0, 0], [1, 1, 0, 1, 0, 1, 0, 0]],
    }

    def results(numbers: list[int], of: str = "context", told: int = 2) -> list[Result]:
        return [
            result_of(
                run_of(name, seed), sum(hits) / 8, test_outcomes=[[hit, 1] for hit in hits],
                test_groups={"of": of, "numbers": numbers} if name == "lora" and seed < told else {},
            )
            for name, seeds in right.items()
            for seed, hits in enumerate(seeds)
        ]  # fmt: skip

    groups = [0, 0, 1, 2, 1, 2, 3, 3]
    made = table(*results(groups))
    full, lora = made.rows
    assert full.score == crossed_interval(right["full"], 5 / 16, groups=groups, added=RIGHT_OR_WRONG)
    assert lora.score == crossed_interval(right["lora"], 1 / 2, groups=groups, added=RIGHT_OR_WRONG)
    gains = [[a - b for a, b in zip(*pair, strict=True)] for pair in zip(right["lora"], right["full"], strict=True)]
    assert lora.difference.interval == crossed_interval(gains, 3 / 16, groups=groups, added=RIGHT_OR_WRONG_PAIRED)
    assert (
        "intervals are for other seeds and other contexts than the 4 of these test rows (crossed random effects), "
        "differences paired by both."
    ) in made.markdown()
    assert table(*results(groups, told=1)).rows == made.rows  # the other is older
    one = table(*results(groups, "spea|ker")[1:])
    assert "other groups by spea\\|ker than the 4 of these test rows (crossed" in one.markdown()
    said = "differences of lora, over the one seed that both have, for other groups by spea\\|ker alone."
    assert f"of full, with one seed, for other groups by spea\\|ker alone; {said}" in one.markdown()

    most = table(*results([0] * 6 + [1, 1]))
    assert [row.score for row in most.rows] == [mean_interval([3 / 8, 1 / 4]), mean_interval([1 / 2, 1 / 2])]
    assert most.rows[1].difference.interval == mean_interval([1 / 8, 1 / 4])
    said = "the choice of rows scored is not in them, for most are of one"
    assert f"{said} context." in most.markdown()
    assert f"{said} group by day." in table(*results([0] * 8, "day")).markdown()
    assert table(*results([0, 1])).rows[0].score == mean_interval([3 / 8, 1 / 4])  # of a file that somebody changed


def test_of_rows_that_are_all_right_others_may_be_wrong() -> None:
    right = {"lora": [[1, 1, 1, 1]] * 2, "full": [[row % 2, 1 - row % 2] * 2 for row in range(2)]}
    made = table(*(
        result_of(run_of(name, seed), sum(hits) / 4, test_outcomes=[[hit, 1] for hit in hits])
        for name, seeds in right.items() for seed, hits in enumerate(seeds)
    ))  # fmt: skip
    full, lora = made.rows
    assert (lora.score.mean, full.score.mean) == (1, 0.5)
    assert lora.score.low == crossed_interval([[1] * 4], 1, added=RIGHT_OR_WRONG).low < 1
    assert full.score.low < 0.5, "each row is right by one of the seeds"
    assert "none can be made" not in made.markdown()


def test_rows_that_all_count_alike_have_no_interval_and_that_is_said() -> None:
    said = "(crossed random effects); of lora, whose rows all have the same mean score, none can be made."
    for score, outcomes in ((1.0, [[0, 0], [1, 1]] * 2), (0.0, [[0, 0], [0, 1]] * 2)):
        results = [result_of(run_of("lora", seed, metric="mcc"), score, test_outcomes=outcomes) for seed in range(3)]
        made = table(*results).markdown()
        assert f"| lora | {100 * score:.1f} | 3 |" in made
        assert said in made


def test_what_no_other_row_betters_is_said() -> None:
    costs = {"full": (0.9, 300, 3.0), "lora": (0.9, 200, 4.0), "bottleneck": (0.8, 250, 4.0), "head": (0.5, 10, 0.1)}
    results = [
        result_of(run_of(name), score, memory={**MEMORY, "peak": peak}, train_seconds=seconds)
        for name, (score, peak, seconds) in costs.items()
    ]
    said = "- Trade-off: on the Pareto front of mean score, peak memory and train time: "
    assert f"{said}full, head, lora; each other row" in table(*results).markdown()
    assert said not in table(results[0]).markdown()
    losses = [
        result_of(run_of(name, metric="mse", problem="regression"), score, memory={**MEMORY, "peak": peak})
        for name, (score, peak, _) in costs.items()
    ]
    assert f"{said}head; each other row" in table(*losses).markdown()
    lost = result_of(run_of("lora", 1), status="diverged", scores={})
    seeds = [result_of(run_of("full", seed), score) for seed, score in enumerate((0.9, 0.5))]
    seeds += [result_of(run_of("head", seed), 0.6) for seed in (0, 1)]
    markdown = table(*seeds, result_of(run_of("lora"), 0.85), lost).markdown()  # worse than full where both ended well
    assert f"{said}full; each other row with all three and as many seeds" in markdown


def test_what_shares_no_seed_with_what_needs_no_model_is_compared_by_its_mean() -> None:
    simple = {"name": "majority", "scores": {"accuracy": 0.6}}
    older = [result_of(run_of("full", seed), 0.5) for seed in (7, 8)]  # which say nothing of it
    text = table(*older, result_of(run_of("lora"), 0.7, baseline=simple)).markdown()
    assert "majority has at least as good a mean score as full." in text


def test_the_baseline_may_have_settings_but_must_be_one_or_of_the_best_rate() -> None:
    changed = [result_of(run_of("full", s, settings={"learning_rate": 3e-5}), 0.9) for s in range(2)]
    more = [result_of(run_of("full", s, settings={"learning_rate": 1e-5}), 0.7) for s in range(2)]
    lora = [result_of(run_of("lora", s), 0.8) for s in range(2)]
    default = [result_of(run_of("full", s), 0.6) for s in range(2)]

    def differences(*results: Result) -> dict[str, float | None]:
        return {r.strategy: r.difference and round(r.difference.interval.mean, 6) for r in table(*results).rows}

    assert differences(*changed, *lora)["lora"] == -0.1
    assert differences(*changed, *more, *lora)["lora"] == 0.1, "of equal validation scores the lowest rate"
    for result in changed:
        result.scores["validation"]["accuracy"] = 0.6
    assert differences(*changed, *more, *lora)["lora"] == -0.1
    upper = [result_of(run_of("full", s, settings={"layers": "last:1"}), 0.7) for s in range(2)]
    assert differences(*changed, *upper, *lora)["lora"] is None
    found = differences(*changed, *more, *lora, *default)
    assert (found["full"], found["lora"], found["full(learning_rate=3e-05)"]) == (None, 0.2, 0.3)


def test_a_baseline_that_went_on_from_a_model_is_named() -> None:
    def started(name: str) -> Result:
        return result_of(dataclasses.replace(run_of(name), start=Source("a|b", "e" * 64)), 0.9)

    def heading(*results: Result) -> str:
        return cells_of(table(*results).markdown())[0][3]

    head = result_of(run_of("head"), 0.5)
    assert heading(started("full"), head) == "difference to full, started from a\\|b"
    assert heading(started("full"), head, result_of(run_of("full"), 0.7)) == "difference to full"
    assert heading(started("lora"), head) == "difference to full"
    assert (
        heading(result_of(run_of("full", settings={"layers": "last:1"})), head) == "difference to full(layers=last:1)"
    )


def test_two_settings_of_one_strategy_are_two_rows() -> None:
    results = [result_of(run_of("lora", 0, settings=s), 0.7) for s in ({}, {"rank": 4}, {"targets": "query,value"})]
    rows = rows_of(table(*results).csv())
    assert [row["strategy"] for row in rows] == ["lora", "lora(rank=4)", "lora(targets=query+value)"]
    assert [row["seeds"] for row in rows] == ["1", "1", "1"]
    assert [row["ci_low"] for row in rows] == ["", "", ""]


def test_tasks_backbones_and_budgets_are_sections() -> None:
    results = [*grid(), *grid(name="other"), *grid(max_train=20)]
    results += [result_of(run_of("full", 0, budget={"epochs": 1}), 0.5)]
    made = table(*results)
    assert [(section.task, len(section.rows)) for section in made.sections] == [
        ("other", 3), ("words", 3), ("words", 3), ("words", 1),
    ]  # fmt: skip
    text = made.markdown()
    assert text.count("### other, tiny\n") == 1
    assert text.count("### words, tiny, ") == 4  # and the curve over training rows
    assert text.count("| strategy |") == 4
    assert "at most 20 of the training rows" in text
    assert "Budget: 1 epoch, batch" in text
    assert len(rows_of(made.csv())) == 10


def test_runs_that_did_not_end_well_are_shown_with_their_reason() -> None:
    results = [
        *grid({"full": SCORES["full"]}),
        result_of(run_of("qlora"), status="unsupported", reason="8 bits need bitsandbytes", scores={}, trainable=None),
        result_of(run_of("head"), status="diverged", reason="the loss is nan at step 3", scores={}),
        result_of(run_of("prefix"), status="out_of_memory", reason="tried to allocate 3 GiB", scores={}),
        result_of(run_of("lora", 0), 0.7),
        result_of(run_of("lora", 1), status="failed", reason="ended by signal 9", scores={}),
    ]
    made = table(*results)
    cells = {row[0]: row for row in cells_of(made.markdown())}
    assert cells["qlora"][1] == "unsupported: 8 bits need bitsandbytes"
    assert cells["head"][1] == "diverged: the loss is nan at step 3"
    assert cells["prefix"][1] == r"out_of_memory: tried to allocate 3 GiB"
    assert cells["lora"][1:3] == ["70.0, failed: ended by signal 9", "1 of 2"]
    assert cells["qlora"][2:6] == ["0 of 1", "", "", ""]
    assert cells["full"][2] == "3"
    by_name = {row["strategy"]: row for row in rows_of(made.csv())}
    assert (by_name["qlora"]["seeds"], by_name["qlora"]["mean"], by_name["qlora"]["trainable"]) == ("0", "", "")
    assert by_name["lora"]["mean"] == "0.7"


@pytest.mark.parametrize(
    ("metric", "problem", "header", "score", "difference"),
    [
        ("accuracy", "single_label", "accuracy, % [95 % CI]", "70.0", "-10.0"),
        ("macro_f1", "multi_label", "macro f1, % [95 % CI]", "70.0", "-10.0"),
        ("spearman", "regression", "spearman × 100 [95 % CI]", "70.0", "-10.0"),
        ("mse", "regression", "mse [95 % CI], lower is better", "0.700", "-0.100"),
    ],
)
def test_the_unit_of_a_metric_is_said(metric: str, problem: str, header: str, score: str, difference: str) -> None:
    made = table(*grid({"full": [0.8, 0.8], "lora": [0.7, 0.7]}, metric=metric, problem=problem))
    head, _, _, lora = cells_of(made.markdown())
    assert (head[1], lora[1], lora[3]) == (header, score, difference)
    assert {row["mean"] for row in rows_of(made.csv())} == {"0.8", "0.7"}


def test_intervals_of_numbers_end_where_the_metric_does() -> None:
    rows = rows_of(table(*grid({"full": [0.7, 0.99], "lora": [0.8, 0.8]})).csv())
    assert [(row["ci_low"], row["ci_high"]) for row in rows] == [
        ("0.0", "1.0"),
        ("", ""),
    ]  # equal scores have none


def test_no_difference_is_not_a_negative_one() -> None:
    made = table(*grid({"full": [0.8, 0.8], "lora": [0.79999, 0.79999]}))
    assert cells_of(made.markdown())[3][3] == "+0.0"
    assert interval(Interval(-0.0, None, None), "loss", signed=True) == "+0.00"


def test_a_limit_of_a_difference_says_on_which_side_of_nothing_it_is() -> None:
    """Whether 0 is within an interval is what is read off it."""
    assert interval(Interval(0.0043, -0.0003, 0.0089), "accuracy", signed=True) == "+0.4 [-0.0, +0.9]"
    assert interval(Interval(-0.0043, -0.0089, 0.0003), "accuracy", signed=True) == "-0.4 [-0.9, +0.0]"
    assert interval(Interval(-0.0043, -0.0089, -0.0003), "accuracy", signed=True) == "-0.4 [-0.9, -0.0]"
    assert interval(Interval(0.0001, -1e-17, 0.0002), "accuracy", signed=True) == "+0.0 [+0.0, +0.0]"
    assert interval(Interval(0.0, -0.0, 0.5), "accuracy") == "0.0 [0.0, 50.0]"


@pytest.mark.parametrize(
    ("metric", "shown", "difference"),
    [
        ("accuracy", "50.0 [0.0, 100.0]", "+50.0 [-100.0, +100.0]"),
        ("mcc", "50.0 [-100.0, 100.0]", "+50.0 [-200.0, +200.0]"),
        ("loss", "0.500 [0.00, 3.00]", "+0.500 [-2.50, +3.00]"),
        ("perplexity", "0.500 [1.00, 3.00]", "+0.500 [-2.50, +3.00]"),
    ],
)
def test_limits_end_where_the_metric_does(metric: str, shown: str, difference: str) -> None:
    found = Interval(0.5, -2.5, 3.0)
    assert interval(found, metric) == shown
    assert interval(found, metric, signed=True) == difference


def test_without_scores_the_table_says_so() -> None:
    made = table(result_of(run_of(rows={"train": 40}), scores={}))
    assert cells_of(made.markdown())[2][1] == "not scored"
    assert "scored on nothing, after the last epoch" in made.markdown()
    assert "for every strategy alike; there are no scores to make intervals of." in made.markdown()
    only = table(result_of(run_of(rows={"train": 40, "validation": 5}), scores={"validation": {"accuracy": 0.5}}))
    assert cells_of(only.markdown())[2][1] == "50.0"
    assert "scored on validation, at the epoch with the best validation accuracy" in only.markdown()


HOSTILE = [
    "a|b||c", "<script>alert(1)</script>", "line\nbreak\r\nand tab\t", "`code` and ``more``", "[link](http://host)",
    "*bold* _slanted_ ~~gone~~", "$\\pi$ for 5$", "back\\slash\\|", "\x1b[31mred\x07", "&lt;", "\u202eright to left",
    '"quoted", with commas',
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_names_and_reasons_do_not_become_markup(text: str) -> None:
    results = [
        *grid({"full": SCORES["full"]}, name=text),
        result_of(run_of("lora", name=text), status="failed", reason=text, scores={}),
    ]
    made = table(*results)
    markdown = made.markdown()
    cells = cells_of(markdown)
    assert {len(row) for row in cells} == {10}
    assert len(cells) == 4
    heading = markdown.splitlines()[0]
    assert heading.startswith("### ")
    for shown in (heading.removeprefix("### ").removesuffix(", tiny"), cells[3][1]):
        assert not re.search(r"(?<!\\)(\\\\)*[`*\[\]~$]", shown)
        assert "<" not in shown
        assert all(character.isprintable() for character in shown)
    rows = rows_of(made.csv())
    assert {row["task"] for row in rows} == {text}
    assert len(rows) == 2


def test_plain_names_are_left_as_they_are() -> None:
    assert escape("سلام\u200cها") == "سلام\u200cها"
    settings = {"rank": 3, "learning_rate": 3e-5}
    text = table(result_of(run_of("lora", 0, settings=settings, name="nusax_jav, v2.1 (100%)"))).markdown()
    assert text.startswith("### nusax_jav, v2.1 (100%), tiny\n")
    assert "| lora(rank=3) |" in text  # one rate for all its rows: said below the table
    assert "lora(rank=3) 3e-05" in text


def test_below_the_table_stands_what_a_reader_must_know() -> None:
    text = table(
        *grid(class_weights="balanced", few_shot=8, pooling="mean", max_length=64),
        result_of(
            run_of("lora", 0, settings={"rank": 2}, class_weights="balanced", few_shot=8, pooling="mean", max_length=64)
        ),
    ).markdown()
    for fact in (
        "words (content dddddddddddd)", "40 train, 10 validation, 10 test", "8 a class", "loss weighted by class",
        "cut to 64 tokens", "tiny (content bbbbbbbbbbbb), mean pooling", "3 epochs, batch 32 × 1, fp32",
        "own learning rate (", "lora(rank=2)", "Seeds: 0, 1, 2", "cpu, 1 thread; torch 2",
    ):  # fmt: skip
        assert fact in text
    same = table(result_of(run_of(budget={"learning_rate": 1e-3, "patience": 2, "max_steps": 50}))).markdown()
    assert "learning rate 0.001 for all" in same
    assert "at most 50 steps, stopped after 2 epochs without a better score" in same
    least = table(result_of(run_of(budget={"patience": 1, "max_steps": 1}))).markdown()
    assert "at most 1 step, stopped after 1 epoch without a better score" in least


def test_the_tables_of_a_folder_are_the_same_in_any_order_of_writing(tmp_path: Path) -> None:
    results = [*grid(), *grid(name="other"), *grid(max_train=20)]
    made = []
    for i in range(2):
        store = Store(tmp_path / str(i))
        for result in random.Random(i).sample(results, len(results)):
            store.write(result)
        store.write_table()
        store.write_table()
        made.append([(store.folder / name).read_bytes() for name in ("table.md", "table.csv")])
    assert made[0] == made[1]
    assert made[0][0].decode() == table_of(store.all()).markdown()
    assert str(table_of([])) == ""
    assert table_of([]).csv().count("\n") == 1


def test_a_table_that_another_comparison_has_written_meanwhile_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, other = Store(tmp_path), Store(tmp_path)
    store.write(result_of(run_of("full")))
    read = store.all

    def slowly() -> list[dict[str, Any]]:
        found = read()
        if len(found) == 1:
            other.write(result_of(run_of("lora")))
            other.write_table()
        return found

    monkeypatch.setattr(store, "all", slowly)
    table = store.write_table()
    assert [row.strategy for row in table.rows] == ["full", "lora"]
    assert (tmp_path / "table.md").read_text(encoding="utf-8") == table.markdown()


def test_numbers_are_not_rounded_away() -> None:
    made = table(result_of(run_of("head"), math.pi / 4, trainable=66, total=22_000_000))
    (row,) = rows_of(made.csv())
    assert row["mean"] == "0.785398"
    assert float(row["trainable_share"]) == 3e-06
    assert cells_of(made.markdown())[2][5] == "< 0.01 %"
    assert [share(value) for value in (0.0, 4e-5, 6e-5, 1.0)] == ["0.00 %", "< 0.01 %", "0.01 %", "100.00 %"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.04321, "0.0432"), (2.0, "2.00"), (20.96, "21.0"), (136.4, "136"), (1234.5, "1,234"), (1e304, "1.00e+304")],
)
def test_speeds_and_losses_have_three_digits_that_matter(value: float, shown: str) -> None:
    made = table(
        result_of(run_of("head"), value, examples_per_second=value),
        result_of(
            run_of("head", metric="perplexity", problem="text"),
            examples_per_second=value,
            scores={"test": {"perplexity": value}},
        ),
    )
    first, second = (cells for cells in cells_of(made.markdown()) if cells[0] == "head")
    assert first[-1] == second[-1] == second[1] == shown


def test_what_is_reached_without_a_model_is_a_row_and_notes_stand_below() -> None:
    simple = {"name": "majority", "scores": {"accuracy": 0.5}}
    results = [
        result_of(run_of(strategy, seed), 0.75, baseline=simple, notes=["3 rows were left out"])
        for strategy in ("full", "lora") for seed in (0, 1)
    ]  # fmt: skip
    table = table_of(contents(results))
    assert [row.strategy for row in table.rows] == ["full", "lora", "majority"]
    assert table.rows[-1].scores == {0: 0.5, 1: 0.5}
    assert table.rows[-1].trainable is None
    assert "| majority | 50.0 | 2 |" in table.markdown()
    assert table.markdown().count("- Note: 3 rows were left out") == 1
    assert table.csv().splitlines()[-1] == "words,majority,2,accuracy,0.5,,,,,,,,"
    assert "- Without a model:" not in table.markdown()


def test_a_guess_that_differs_by_seed_has_no_interval_of_seeds_alone() -> None:
    """What each test row adds to it is not recorded."""
    results = [
        result_of(run_of("full", seed), 0.75, baseline={"name": "majority", "scores": {"accuracy": 0.5 + seed / 10}})
        for seed in (0, 1)
    ]
    made = table_of(contents(results))
    assert made.rows[-1].score == Interval(mean_interval([0.5, 0.6]).mean, None, None)
    assert "| majority | 55.0 | 2 |" in made.markdown()


def test_results_that_do_not_say_how_large_the_head_is_have_a_table() -> None:
    found = contents([result_of(run_of("untrained", kind="causal_lm", metric="perplexity"), 2.0)])
    del found[0]["params"]["head"]
    assert table_of(found).rows[0].any_seed


def test_rows_that_are_no_better_than_what_is_reached_without_a_model_are_named() -> None:
    def said(scores: dict[str, float | None], simple: float, **task: Any) -> str:
        baseline = {"name": "majority", "scores": {task.get("metric", "accuracy"): simple}}
        results = [result_of(run_of(name, **task), score, baseline=baseline) for name, score in scores.items()]
        return table(*results).markdown()

    words = "- Without a model: majority has at least as good a mean score as "
    assert f"{words}full, head.\n" in said({"full": 0.9, "lora": 0.98, "head": 0.97}, 0.97)
    assert f"{words}lora.\n" in said({"full": 0.4, "lora": 0.6}, 0.5, metric="mse", problem="regression")


def test_the_kind_its_options_and_the_score_that_chose_the_epoch_are_said() -> None:
    run = run_of(
        "lora", kind="seq2seq", problem="text", labels=(), metric="chrf", selection="loss",
        options={"beams": 4, "prefix": "", "max_target_length": 64},
    )  # fmt: skip
    text = table_of(contents([result_of(run)])).markdown()
    assert "at the epoch with the best validation loss" in text
    assert "seq2seq (beams 4, max target length 64)." in text
    assert "pooling" not in text


def test_what_differs_from_the_usual_schedule_is_said() -> None:
    def budget_line(**budget: Any) -> str:
        run = run_of("full", 0)
        run = dataclasses.replace(run, budget=dataclasses.replace(run.budget, **budget))
        return next(x for x in table(result_of(run, 0.5)).markdown().splitlines() if x.startswith("- Budget"))

    assert "decay" not in budget_line()
    assert "warm-up" not in budget_line()
    changed = budget_line(decay="cosine", warmup=0.2, weight_decay=0.5, clip=3.0)
    assert "decay cosine, warm-up 0.2, weight decay 0.5, gradients clipped at 3.0" in changed


def test_runs_of_several_machines_are_told_apart() -> None:
    first, second = (
        dataclasses.replace(result_of(run_of("full", seed), 0.5), environment={
            "hardware": hardware, "device": "cpu", "threads": 2, "versions": {"torch": "2.6"},
        })
        for seed, hardware in enumerate(("one | CPU", "another CPU"))
    )  # fmt: skip
    assert "- Hardware: one \\| CPU, cpu, 2 threads; torch 2.6." in table(first).markdown()
    both = table(first, second).markdown()
    assert "- Hardware: runs were made in 2 surroundings, so that times are not alike: one" in both
    assert "; or another CPU, cpu, 2 threads; torch 2.6." in both


def test_a_difference_of_fewer_seeds_than_its_score_says_so() -> None:
    results = [*(r for r in grid({"full": SCORES["full"]}) if r.run.seed != 1), *grid({"lora": SCORES["lora"]})]
    lora = cells_of(table(*results).markdown())[3]
    assert (lora[2], lora[3].rpartition(" (")[2]) == ("3", "2 seeds)")
    one = table(*grid({"full": [0.8]}), *grid({"lora": SCORES["lora"]}))
    assert cells_of(one.markdown())[3][3] == "-2.0 (1 seed)"
    assert "seeds)" not in table(*grid()).markdown()


def test_speed_is_rows_over_seconds_of_runs_that_computed_their_features() -> None:
    found = f"head {FOUND_FEATURES}"
    times = {0: (38.0, []), 1: (1.0, [found]), 2: (2.0, [found])}
    runs = [
        result_of(run_of("head", s), 0.5, train_seconds=t, examples_per_second=1900 / t, notes=notes)
        for s, (t, notes) in times.items()
    ]
    (cold,) = rows_of(table(*runs).csv())
    assert (cold["train_seconds"], cold["examples_per_second"]) == ("38.0", "50.0")
    said = "steps without scoring, of the runs that computed all features themselves (empty where none did)."
    assert said in str(table(*runs))
    others = grid({"full": SCORES["full"]})
    full, warm = rows_of(table(*others, *runs[1:]).csv())
    assert (full["strategy"], warm["train_seconds"], warm["examples_per_second"]) == ("full", "", "")
    assert said in str(table(*others, *runs[1:]))
    assert "training steps without scoring." in str(table(*others))


def test_speed_of_prediction_is_a_column_where_some_run_has_one() -> None:
    older = grid()
    found = f"head {FOUND_FEATURES}"
    runs = [
        result_of(run_of("head", s), 0.5, predicted_per_second=rate, notes=notes)
        for s, (rate, notes) in enumerate([(100.0, []), (300.0, []), (9000.0, [found])])
    ]
    text = table(*grid({"full": SCORES["full"]}), *runs).markdown()
    assert [row[-1] for row in cells_of(text)] == ["predictions/s", "---:", "", "150"]  # rows over seconds
    (said,) = (line for line in text.splitlines() if line.startswith("- Predictions"))
    assert said == (
        "- Predictions: rows of test a second after training, without scoring, of the same runs; full fine-tuning has "
        "the backbone's own speed."
    )
    assert rows_of(table(*runs).csv())[0].keys() == set(COLUMNS)
    assert "redictions" not in table(*older).markdown()
    assert "redictions" not in table(*older, runs[2]).markdown()
    before = contents(runs)
    for result in before:
        del result["throughput"]["predicted_per_second"]
    assert "redictions" not in table_of(before).markdown()


def test_forgetting_is_a_column_where_it_was_measured_and_its_texts_are_named() -> None:
    def runs(name: str, lost: list[float], **changes: Any) -> list[Result]:
        return [
            result_of(
                dataclasses.replace(run_of(name, seed), general=Source("news_1.txt", "e" * 64)),
                forgetting={"before": 2.5, "after": 2.5 + value, "tokens": 1234, "predicts": "masked tokens"},
                **changes,
            )
            for seed, value in enumerate(lost)
        ]

    lost = [0.25, 0.5, 0.375]
    results = [*runs("full", lost), *runs("head", [0.0] * 3), *runs("lora", [-0.125])]
    text = table(*results).markdown()
    expected = mean_interval(lost)
    assert [row[-1] for row in cells_of(text) if row[0] != "---"] == [
        "forgetting [95 % CI], nats a token", f"+0.375 [+{expected.low:.4f}, +{expected.high:.3f}]", "+0.00", "-0.125",
    ]  # fmt: skip
    assert (
        "- Forgetting: loss on news_1.txt (content eeeeeeeeeeee, 1,234 masked tokens) after adaptation minus before "
        "(then 2.50), under the backbone's own language-model head; its intervals are over seeds.\n"
    ) in text
    assert rows_of(table(*results).csv())[0].keys() == set(COLUMNS)
    unmeasured = [dataclasses.replace(result, forgetting={}) for result in results]
    assert "orgetting" not in table(*unmeasured).markdown()
    assert "orgetting" not in table_of([{**c, "forgetting": None} for c in contents(unmeasured)]).markdown()


def test_runs_with_and_without_general_texts_are_sections_of_their_own() -> None:
    """A comparison that is done again with such texts in the same folder has two results of each seed."""
    sources = None, Source("a", "e" * 64), Source("b", "f" * 64)
    results = [result_of(dataclasses.replace(run_of("full"), general=source)) for source in sources]
    made = table(*results)
    assert [[row.runs for row in section.rows] for section in made.sections] == [[1], [1], [1]]
