"""Sections of a table that are of one task and one backbone say what sets them apart."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from comparison_helpers import contents, result_of, run_of

from adapt.spec import Budget, left_out
from adapt.tables.table import COLUMNS, table_of


def settings(*results: Any) -> list[str]:
    return [section.setting for section in table_of(results).sections]


def test_sections_of_one_task_and_backbone_are_told_apart() -> None:
    runs = [run_of("full", 0, max_train=4), run_of("full", 0, max_length=16), run_of("full", 0)]
    made = table_of(contents([result_of(run, 0.7) for run in runs]))
    found = [section.setting for section in made.sections]
    assert len(set(found)) == 3
    assert "4 rows, max_length=" in found[0]
    heading = next(line for line in made.markdown().splitlines() if line.startswith("### "))
    assert heading.endswith(f", tiny, {found[0]}")
    rows = list(csv.DictReader(io.StringIO(made.csv())))
    assert [row["setting"] for row in rows] == found
    assert [row["backbone"] for row in rows] == ["tiny"] * 3
    assert list(made.to_frame()["setting"]) == found


def test_sections_that_differ_in_held_out_rows_alone_are_told_apart() -> None:
    rows = {"train": 40, "validation": 10, "test": 10}
    runs = [run_of("full", 0, rows=rows), run_of("full", 0, rows={"train": 40, "test": 10})]
    assert settings(*contents(result_of(run, 0.7) for run in runs)) == ["10 validation", "no validation"]
    other = run_of("full", 0, rows={"train": 40, "test": 10}, max_length=16)
    assert not any("validation" in each for each in settings(*contents(map(result_of, (runs[0], other)))))


def test_one_section_of_a_task_has_the_columns_promised_and_no_setting() -> None:
    made = table_of(contents([result_of(run_of(name), 0.7) for name in ("full", "head")]))
    assert made.columns == COLUMNS
    assert [section.setting for section in made.sections] == [""]


def test_a_setting_that_older_results_do_not_have_is_told_with_the_value_that_they_had() -> None:
    one, other = contents([result_of(run_of("full", 0), 0.9), result_of(run_of("full", 0), 0.8)])
    other["spec"]["budget"]["optimizer"] = "adamw_8bit"
    assert settings(one, other) == [f"optimizer={left_out(Budget)['optimizer']}", "optimizer=adamw_8bit"]


@pytest.mark.parametrize(
    ("choices", "told"),
    [
        ([{"few_shot": 4}, {"few_shot": 4, "max_train": 6}], ["max_train=None", "max_train=6"]),
        ([{"max_train": 10_000}, {}], ["max_train=10000", "max_train=None"]),
        ([{"few_shot": 4}, {"few_shot": 2}, {"few_shot": 2, "max_train": 3}],
         ["4 a class", "2 a class, max_train=None", "2 a class, max_train=3"]),
    ],
)  # fmt: skip
def test_sections_of_as_many_rows_are_told_apart(choices: Any, told: list[str]) -> None:
    results = contents([result_of(run_of("full", 0, **each), 0.7) for each in choices])
    assert sorted(settings(*results)) == sorted(told)


def test_folds_do_not_say_how_many_rows_one_of_them_has() -> None:
    results = contents([result_of(run_of("full", 0), 0.7) for _ in range(3)])
    for epochs, rows, fold, result in zip((3, 3, 5), (36, 37, 37), (0, 1, 1), results, strict=True):
        result["spec"]["budget"]["epochs"] = epochs
        result["spec"]["task"] |= {"fold": [fold, 2], "rows": {"train": rows, "test": rows}}
    assert settings(*results) == ["epochs=3", "epochs=5"]
    (whole,) = contents([result_of(run_of("full", 0), 0.7)])
    assert {found.split(", ")[-1] for found in settings(whole, results[1])} == {"no folds", "2 folds"}


def test_an_option_of_the_kind_of_task_is_told_by_its_name() -> None:
    results = contents([result_of(run_of("full", 0), 0.9) for _ in range(2)])
    for stride, result in enumerate(results, 32):
        result["spec"]["task"]["options"] = {"stride": stride, "beams": 1}
    assert settings(*results) == ["stride=32", "stride=33"]


@pytest.mark.parametrize("what", ["data", "backbone"])
def test_other_contents_of_one_name_are_told_by_their_hash(what: str) -> None:
    results = contents([result_of(run_of("full", 0), 0.9) for _ in range(2)])
    for digit, result in zip("ab", results, strict=True):
        spec = result["spec"]
        (spec["task"]["data"] if what == "data" else spec["backbone"])["sha256"] = digit * 64
    assert settings(*results) == [f"{what} aaaaaa", f"{what} bbbbbb"]
