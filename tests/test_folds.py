"""Cross-validation: each row is scored once, by a model trained without it, and the table scores all of them as one."""

from __future__ import annotations

import dataclasses
import json
import random
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import tiny
from click.testing import CliRunner
from comparison_helpers import MEMORY, by_job_files, contents, in_this_process, result_of, run_of

import adapt
from adapt.cli import cli
from adapt.comparison import Store, grid
from adapt.data import Data, cross, folds, load
from adapt.data.groups import Division, division
from adapt.data.samples import generator
from adapt.data.splits import cut
from adapt.metrics import score
from adapt.metrics.jackknife import pseudo_values
from adapt.result import FOUND_FEATURES, Result
from adapt.run import run_from
from adapt.spec import DataError, OptionError
from adapt.stats import RIGHT_OR_WRONG, RIGHT_OR_WRONG_PAIRED, crossed_interval
from adapt.tables.folds import _together, merged
from adapt.tables.table import table_of

CHOICES: dict[str, Any] = {"epochs": 1, "device": "cpu", "precision": "fp32", "batch_size": 16}


def labelled(counts: dict[str, int], **options: Any) -> Data:
    rows = [(f"{label} text {i}", label) for label, n in counts.items() for i in range(n)]
    texts, labels = zip(*rows, strict=True)
    return load((list(texts), list(labels)), test=0, **{"validation": 0, **options})


def texts_of(data: Data) -> dict[str, list[str]]:
    return {split: list(rows["text"]) for split, rows in data.splits.items()}


def test_each_row_is_in_one_test_split_and_each_class_in_proportion() -> None:
    data = labelled({"a": 40, "b": 20, "rare": 2})
    parts = folds(data, 4, validation=0.25).parts
    assert [part.fold for part in parts] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    tested = [text for part in parts for text in texts_of(part)["test"]]
    assert sorted(tested) == sorted(data.splits["train"]["text"])
    for part in parts:
        rows = texts_of(part)
        assert sorted(rows["train"] + rows["validation"] + rows["test"]) == sorted(data.splits["train"]["text"])
        assert len(rows["validation"]) == round(0.25 * (62 - len(rows["test"])))
        classes = Counter(text.split()[0] for text in rows["test"])
        assert (classes["a"], classes["b"]) == (10, 5)
        assert classes["rare"] <= 1
        assert list(part.splits["train"]["text"]) == [t for t in data.splits["train"]["text"] if t in rows["train"]]
    assert len({part.sha256 for part in parts}) == 1
    again = folds(data, 4, validation=0.25).parts
    assert [texts_of(part) for part in again] == [texts_of(part) for part in parts]
    other = folds(data, 4, validation=0.25, seed=1).parts
    assert [texts_of(part) for part in other] != [texts_of(part) for part in parts]
    assert other[0].sha256 != parts[0].sha256 != folds(data, 4).parts[0].sha256


def test_the_validation_rows_of_a_fold_are_those_that_the_seed_draws() -> None:
    data = labelled({"a": 40, "b": 20})
    rows = {name: list(data.splits["train"][name]) for name in ("text", "label")}
    by = division(rows, data.problem)
    for part in folds(data, 4, validation=0.25, seed=3).parts:
        out = set(part.splits["test"]["text"])
        rest = [i for i, text in enumerate(rows["text"]) if text not in out]
        _, held = cut(rest, by, round(0.25 * len(rest)), generator(3, 1), where="here")
        assert list(part.splits["validation"]["text"]) == [rows["text"][i] for i in held]


def test_rows_of_one_context_are_in_one_fold() -> None:
    rows = [
        {"question": f"what {i} ?", "context": f"word {c} is here", "answers": f"word {c}"}
        for c in range(9)
        for i in (1, 2)
    ]
    parts = folds(load(rows, test=0, validation=0), 3).parts
    for part in parts:
        held = set(part.splits["test"]["context"])
        assert not held & {*part.splits["train"]["context"], *part.splits["validation"]["context"]}
        assert len(part.splits["test"]) == 6


@pytest.mark.parametrize("labels", ["ab", range(60)])
def test_rows_of_one_input_are_in_one_fold(labels: Any) -> None:
    rows = [{"text": f"row {i}", "label": labels[i % len(labels)]} for i in range(60) for _ in range(1 + (i % 3 == 0))]
    data = load(rows, test=0, validation=0, problem="regression" if len(labels) == 60 else None)
    for part in folds(data, 4, validation=0.25).parts:
        assert [len(part.splits[split]) for split in ("train", "validation", "test")] == [45, 15, 20]
        texts = [set(rows) for rows in texts_of(part).values()]
        assert sum(map(len, texts)) == len(set[str]().union(*texts)) == 60
        assert not [note for note in part.notes if "trained on" in note]


def test_rows_of_validation_that_are_in_train_too_are_told_of() -> None:
    rows = [{"text": f"row {i}" if i % 2 else "the same", "label": "ab"[i % 4 > 1]} for i in range(40)]
    [said] = [note for note in folds(load(rows, test=0, validation=0), 4).parts[0].notes if "validation" in note]
    assert re.fullmatch(r"\d+ of 12 rows of the folds' validation are in train too \(\d+%\)", said)


def test_rows_that_are_in_no_split_of_a_fold_are_told_of_once() -> None:
    rows = [{"text": f"{c} {i}", "label": c} for c in "abcdefgh" for i in range(7) for _ in range(3)]
    parts = folds(load(rows, test=0, validation=0), 4, validation=0.04).parts
    texts = {(row["text"], row["label"]) for row in rows}
    there = [Counter(text for split in ("train", "validation", "test") for text in part.splits[split]["text"])
             for part in parts]  # fmt: skip
    lost = {text for text, _ in texts for counts in there if counts[text] < 3}
    assert sum(3 - counts[text] for text, _ in texts for counts in there) == 4 * 8 * 2
    assert len(lost) > 8
    assert any(re.fullmatch(r"\d+ rows are in no split of some fold: .*", note) for note in parts[0].notes)
    [said] = [note for note in parts[0].notes if "no split" in note]
    assert 2 * len(lost) <= int(said.split()[0]) < 4 * 8 * 2


def test_a_validation_split_that_is_there_is_that_of_every_fold() -> None:
    rows = {"train": (["a b", "c d"] * 6, [0, 1] * 6), "validation": (["x", "y"], [0, 1])}
    for part in folds(load(rows, test=0), 3).parts:
        assert list(part.splits["validation"]["text"]) == ["x", "y"]
        assert {split: len(part.splits[split]) for split in ("train", "test")} == {"train": 8, "test": 4}
    for part in folds(labelled({"a": 6, "b": 6}), 3, validation=0).parts:
        assert sorted(part.splits) == ["test", "train"]


def test_rows_that_other_folds_have_too_are_told_of() -> None:
    texts = [f"text {i}" for i in range(18)] + ["the same"] * 2
    data = load((texts, [0.5 * i for i in range(20)]), test=0, validation=0)
    said = [note for note in folds(data, 20).parts[0].notes if "trained on" in note]
    assert said == ["2 of 20 rows are among those that the model which scores them was trained on (10%)"]
    assert not [note for note in folds(labelled({"a": 9, "b": 9}), 3).parts[0].notes if "trained on" in note]


def test_what_cannot_be_divided_is_refused() -> None:
    data = labelled({"a": 6, "b": 6})
    for count in (1, 13, True, 2.0):
        with pytest.raises(OptionError, match="give a number from 2 to that of the rows, 12"):
            folds(data, count)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="has a test split, and folds are test splits of their own; give its rows of"):
        folds(load((["a", "b"] * 9, [0, 1] * 9)), 3)
    with pytest.raises(OptionError, match=r"folds are for adapt\.compare, which trains a model on each"):
        load(folds(labelled({"a": 6, "b": 6}), 2))
    with pytest.raises(OptionError, match="validation=1"):
        folds(data, 3, validation=1.0)
    same = [{"question": f"what {i} ?", "context": "word is here", "answers": "word"} for i in range(6)]
    message = r"rows of 1 contexts, sources or prompts cannot be divided in 2 folds, for .* stay together; add rows$"
    with pytest.raises(DataError, match=message):
        folds(load(same, test=0, validation=0), 2)


def test_rare_classes_and_labels_make_no_fold_larger_than_another() -> None:
    data = labelled({"a": 100, "b": 100, **{f"rare {i}": 2 for i in range(50)}})
    for part in folds(data, 5, validation=0).parts:
        classes = Counter(text.split()[0] for text in texts_of(part)["test"])
        assert classes == {"a": 20, "b": 20, "rare": 20}
    many = labelled({f"class {i}": 4 for i in range(20)})
    assert {len(part.splits["test"]) for part in folds(many, 5, validation=0).parts} == {16}
    draw = random.Random(0)
    lists = [[name for name in "abcdefgh" if draw.random() < 0.2] for _ in range(100)]
    parts = folds(load(([f"text {i}" for i in range(100)], lists), test=0, validation=0), 5).parts
    assert max(len(part.splits["test"]) for part in parts) - min(len(part.splits["test"]) for part in parts) <= 3
    for label in range(8):
        held = [sum(row[label] for row in part.splits["test"]["label"]) for part in parts]
        assert max(held) - min(held) <= 3


def test_the_label_of_which_fewest_rows_are_left_is_dealt_next() -> None:
    """Against algorithm 1 of Sechidis et al. (2011), written out."""
    rng = random.Random(0)
    for _ in range(20):
        strata = [rng.sample(range(8), rng.randint(0, 4)) for _ in range(60)]
        by = Division(strata, held=None, held_by=None, in_proportion=False)
        waiting = generator(3, 2).permutation(len(strata)).tolist()
        folds: list[list[int]] = [[] for _ in range(5)]
        while any(strata[row] for row in waiting):
            left = Counter(label for row in waiting for label in strata[row])
            rarest = min(left, key=lambda label: (left[label], label))
            for row in [row for row in waiting if rarest in strata[row]]:
                has = [sum(rarest in strata[other] for other in fold) for fold in folds]
                folds[min(range(5), key=lambda n: (has[n], len(folds[n])))].append(row)
                waiting.remove(row)
        for row in waiting:
            min(folds, key=len).append(row)
        assert cross._parts(by, "rows", 5, seed=3) == [sorted(fold) for fold in folds]


def test_rows_of_a_common_instruction_are_divided_and_those_of_one_prompt_are_not() -> None:
    rows = [{"prompt": "translate", "completion": f"word {i}"} for i in range(12)]
    rows += [{"prompt": f"who {i // 2}", "completion": f"name {i}"} for i in range(12)]
    for part in folds(load(rows, kind="instructions", test=0, validation=0), 4).parts:
        prompts = {split: Counter(rows["prompt"]) for split, rows in part.splits.items()}
        assert len(part.splits["test"]) == 6
        assert not [name for name in prompts["test"] if name in prompts["train"] and name != "translate"]


def fold(name: str, seed: int, number: int, outcomes: list[Any], **changes: Any) -> Result:
    task = {"fold": (number, 2), "rows": {"train": 9 + number, "validation": 2, "test": len(outcomes)}}
    run = run_of(name, seed, **{**task, **changes.pop("task", {})})
    guess, truth = zip(*outcomes, strict=True)
    scores = {"validation": {run.task.metric: 0.4 + 0.1 * number}, "test": score("single_label", guess, truth)}
    return result_of(run, **{"scores": scores, "test_outcomes": outcomes, **changes})


RIGHT, WRONG = [1, 1], [0, 1]


def test_the_rows_of_all_folds_are_scored_as_one() -> None:
    outcomes = {("lora", 0): ([RIGHT, WRONG, RIGHT], [RIGHT]), ("lora", 1): ([RIGHT, RIGHT, RIGHT], [WRONG])}
    outcomes |= {("full", 0): ([RIGHT, RIGHT, RIGHT], [RIGHT]), ("full", 1): ([RIGHT, WRONG, WRONG], [RIGHT])}
    results = [
        fold(name, seed, number, rows, train_seconds=float(number), memory={**MEMORY, "peak": 100 * number})
        for (name, seed), both in outcomes.items()
        for number, rows in enumerate(both, 1)
    ]
    (section,) = table_of(contents(reversed(results))).sections
    rows = {row.strategy: row for row in section.rows}
    assert rows["lora"].scores == {0: 0.75, 1: 0.75}
    assert rows["lora"].score == crossed_interval([[1, 0, 1, 1], [1, 1, 1, 0]], 0.75, added=RIGHT_OR_WRONG)
    assert rows["full"].scores == {0: 1.0, 1: 0.5}
    gains = [[0, -1, 0, 0], [0, 1, 1, -1]]
    assert rows["lora"].difference.interval == crossed_interval(gains, 0.0, added=RIGHT_OR_WRONG_PAIRED)
    assert (rows["lora"].train_seconds, rows["lora"].peak_bytes, rows["lora"].runs) == (1.5, 200, 2)
    text = table_of(contents(results)).markdown()
    assert (
        "rows: up to 11 train, 2 validation, 3 test in one of 2 folds, of which each row is in the test split of one"
        in text
    )
    assert "scored on the test rows of all folds together, at the epoch with the best validation accuracy" in text
    assert "models of several folds share training rows" in text


def test_groups_of_rows_are_those_of_each_fold() -> None:
    rows = [[RIGHT, WRONG, RIGHT, RIGHT], [RIGHT, WRONG, WRONG]]
    told = [{"of": "group", "numbers": [0, 0, 1, 0]}, {}]  # in the other each is alone
    results = [fold("lora", 0, n, part, test_groups=groups) for n, part, groups in zip((1, 2), rows, told, strict=True)]
    made = table_of(contents(results))
    assert made.rows[0].score == crossed_interval([[1, 0, 1, 1, 1, 0, 0]], 4 / 7, groups=[0, 0, 1, 0, 4, 5, 6])
    assert "intervals are for other groups by group than the 5 of these test rows; what another" in made.markdown()


def test_of_a_metric_that_outcomes_do_not_tell_it_is_the_mean_over_rows() -> None:
    tags = {"task": {"kind": "token_classification", "problem": "tags", "metric": "macro_f1"}}
    results = [
        fold("lora", 0, number, [RIGHT] * rows, scores={"test": {"macro_f1": value}}, **tags)
        for number, rows, value in ((1, 3, 0.8), (2, 1, 0.4))
    ]
    (row,) = table_of(contents(results)).rows
    assert row.scores == {0: pytest.approx(0.7)}


@pytest.mark.parametrize("metric", ["spearman", "pearson"])
def test_a_correlation_is_the_mean_over_folds(metric: str) -> None:
    """For the level of each fold's model, which moves against the mean of its own test rows, is no part of it."""
    task = {"problem": "regression", "metric": metric, "labels": ()}
    rows = ([[1.0, 5.0], [1.5, 6.0], [1.2, 7.0]], [[5.0, 1.0], [5.5, 2.0], [5.7, 2.5], [5.6, 3.0]])
    scores = [score("regression", *zip(*part, strict=True))[metric] for part in rows]
    results = [
        result_of(
            run_of("lora", 0, **task, fold=(number, 2), rows={"train": 7, "test": len(part)}),
            scores={"test": {metric: value}},
            test_outcomes=part,
        )
        for number, (part, value) in enumerate(zip(rows, scores, strict=True), 1)
    ]
    (row,) = table_of(contents(results)).rows
    assert row.scores == {0: pytest.approx((3 * scores[0] + 4 * scores[1]) / 7)}
    assert row.scores[0] > 0 > score("regression", *zip(*rows[0], *rows[1], strict=True))[metric]
    values = [value for part in rows for value in pseudo_values("regression", metric, part) or ()]
    assert row.parts == {0: values}
    said = table_of(contents(results)).markdown()
    assert "scored on the test rows of each fold, and the mean over rows taken, after the last epoch" in said


def test_a_baseline_is_the_mean_over_rows_and_times_are_of_folds_that_computed_their_features() -> None:
    results = [
        fold(
            "head", 0, number, [RIGHT] * rows, baseline={"name": "majority", "scores": {"accuracy": value}},
            train_seconds=seconds, notes=notes,
        )
        for number, rows, value, seconds, notes in (
            (1, 3, 0.5, 8.0, []), (2, 1, 0.1, 1.0, [f"head {FOUND_FEATURES}"])
        )
    ]  # fmt: skip
    head, majority = table_of(contents(results)).rows
    assert head.train_seconds == 8.0
    assert (majority.strategy, majority.scores) == ("majority", {0: pytest.approx(0.4)})
    said = table_of(contents(results)).markdown()
    assert FOUND_FEATURES not in said
    assert "of all folds together, at the epoch" in said


@pytest.mark.parametrize("told", [True, False])
def test_a_baseline_is_scored_as_the_strategies_are_or_not_at_all(told: bool) -> None:
    """Each fold's majority is another class, so that macro F1 of all rows is far from the mean over folds."""
    simple = [[[1, 1], [1, 1], [1, 0]], [[0, 0], [0, 0], [0, 1]]]
    results = []
    for number, outcomes in enumerate(simple, 1):
        guess, truth = zip(*outcomes, strict=True)
        baseline: dict[str, Any] = {"name": "majority", "scores": score("single_label", guess, truth)}
        baseline |= {"outcomes": outcomes} if told else {}
        right = [[true, true] for true in truth]
        results.append(fold("lora", 0, number, right, baseline=baseline, task={"metric": "macro_f1"}))
    rows = {row.strategy: row.scores for row in table_of(contents(results)).rows}
    everything = score("single_label", *zip(*simple[0], *simple[1], strict=True))["macro_f1"]
    assert rows == {"lora": {0: 1.0}} | ({"majority": {0: pytest.approx(everything)}} if told else {})
    assert everything > sum(score("single_label", *zip(*part, strict=True))["macro_f1"] for part in simple) / 2 + 0.2


@pytest.mark.parametrize("words", [(100, None), (None, 100)])
def test_what_is_recorded_of_some_folds_is_kept(words: tuple[int | None, int | None]) -> None:
    """Words that occur are counted up to half of the vocabulary."""
    results = [fold("full", 0, number, [RIGHT], seen_words=each) for number, each in enumerate(words, 1)]
    assert merged(contents(results))[0]["params"]["seen_words"] == 100


def test_what_any_fold_was_made_in_and_noted_is_said() -> None:
    results = [
        fold(
            "head", 0, number, [RIGHT], environment={"device": "cpu", "hardware": name, "code": name, "threads": 1},
            notes=[f"{name} rows were cut", *found],
        )
        for number, name, found in ((1, "one", []), (2, "two", [f"head {FOUND_FEATURES}"]))
    ]  # fmt: skip
    said = table_of(contents(results)).markdown()
    assert "runs were made in 2 surroundings" in said
    assert "Code: runs were made with 2 states" in said
    assert "Note: one rows were cut\n- Note: two rows were cut" in said
    assert FOUND_FEATURES not in said


def test_folds_that_are_missing_or_ended_badly_leave_no_score() -> None:
    whole = [fold("full", 0, number, [RIGHT]) for number in (1, 2)]
    half = [fold("lora", 0, 2, [RIGHT])]
    bad = [fold("head", 0, 1, [RIGHT]), fold("head", 0, 2, [RIGHT], status="diverged", reason="the loss is nan")]
    assert "diverged: the loss is nan" in table_of(contents(bad)).markdown()
    rows = {row.strategy: row for row in table_of(contents([*whole, *half, *bad])).rows}
    assert rows["full"].scores == {0: 1.0}
    assert (rows["lora"].scores, rows["lora"].statuses) == ({}, {"unfinished": "1 of 2 folds are done"})
    assert (rows["head"].scores, rows["head"].statuses) == ({}, {"diverged": "the loss is nan"})


def test_numbers_of_numpy_are_numbers() -> None:
    data = labelled({"a": 12, "b": 9})
    given, plain = (folds(data, number(3), seed=number(1)) for number in (numpy.int64, int))
    assert [texts_of(part) for part in given.parts] == [texts_of(part) for part in plain.parts]
    assert given.parts[0].sha256 == plain.parts[0].sha256
    rows = {"text": [f"text {i}" for i in range(30)], "label": ["a", "b"] * 15}
    given, plain = (load(rows, seed=number(1), max_test=number(2)) for number in (numpy.int64, int))
    assert (given.sha256, given.notes) == (plain.sha256, plain.notes)
    assert len(given.splits["test"]) == 2


def test_folds_that_are_missing_change_no_other_interval() -> None:
    """Whose rows belong together otherwise than those of a part of the folds."""
    groups = {"numbers": [0, 0, 1, 1], "name": "documents"}
    whole = [fold("full", 0, n, [RIGHT, WRONG, RIGHT, RIGHT], test_groups=groups) for n in (1, 2)]
    (alone,) = table_of(contents(whole)).rows
    assert alone.score.low is not None
    for more in ({}, {"status": "failed", "reason": "killed"}):
        unfinished = fold("bottleneck", 0, 1, [RIGHT] * 4, test_groups=groups, **more)
        rows = {row.strategy: row for row in table_of(contents([unfinished, *whole])).rows}
        assert rows["full"].score == alone.score


def test_a_baseline_is_not_that_of_one_fold() -> None:
    def majority(value: float) -> dict[str, Any]:
        return {"name": "majority", "scores": {"accuracy": value}}

    whole = [fold("full", 0, n, [RIGHT], baseline=majority(value)) for n, value in ((1, 0.9), (2, 0.5))]
    half = fold("lora", 0, 1, [RIGHT], baseline=majority(0.9))
    bad = fold("head", 0, 2, [RIGHT], baseline=majority(0.5), status="failed", reason="killed")
    rows = {row.strategy: row for row in table_of(contents([*whole, half, bad])).rows}
    assert rows["majority"].scores == {0: pytest.approx(0.7)}


def test_a_comparison_over_folds(
    backbone: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grid, "execute", in_this_process)
    data = tiny.classification()
    train = data.splits["train"].add_column("group", [f"{i // 3}" for i in range(len(data.splits["train"]))])
    pool = dataclasses.replace(data, splits={"train": train}, columns={"group": "speaker"})
    strategies = [adapt.Full(learning_rate=2e-3), adapt.Head(learning_rate=3e-2)]
    arguments: dict[str, Any] = {"seeds": 2, "out": tmp_path, "trials": 2, **CHOICES}
    done = adapt.compare(backbone("bert"), folds(pool, 3), strategies, **arguments)
    assert len(done.results) == 2 * 2 * 2 * 3
    assert {result["status"] for result in done.results} == {"ok"}
    assert len({result["key"] for result in done.results}) == 24
    full = next(row for row in done.table.rows if row.strategy.startswith("full"))
    assert len(full.parts[0]) == len(pool.splits["train"])
    assert full.runs == 2
    one = next(result for result in done.results if result["spec"]["task"]["fold"] == [2, 3])
    assert run_from(one["spec"]).key() == one["key"]
    size = len(folds(pool, 3).parts[1].splits["test"])
    assert one["test_groups"] == {"of": "speaker", "numbers": [i // 3 for i in range(size)]}
    assert len(one["baseline"]["outcomes"]) == len(one["test_outcomes"]) == size
    assert [truth for _, truth in one["baseline"]["outcomes"]] == [truth for _, truth in one["test_outcomes"]]
    alone = adapt.fit(
        backbone("bert"), folds(pool, 3).parts[1], dataclasses.replace(strategies[0]), seed=0, **CHOICES
    ).result
    assert alone is not None
    assert json.loads(json.dumps(alone.to_json()))["test_outcomes"] == one["test_outcomes"]


def test_the_command_divides_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs that read each fold's rows from files, as processes of their own do, score the same."""
    file = tmp_path / "few.csv"
    rows = "".join(f"{word} thing {i},{word}\n" for i in range(8) for word in ("good", "bad"))
    file.write_text(f"text,label\n{rows}")
    common = ["compare", "--data", str(file), "--folds", "2"]
    options = ["--test", "0", "--strategies", "head", "--seeds", "1", "--epochs", "1", "--device", "cpu", "--out"]
    monkeypatch.setattr(grid, "execute", by_job_files)
    said = CliRunner().invoke(cli, [*common, *options, str(tmp_path / "out")], catch_exceptions=False)
    assert said.exit_code == 0
    assert "6 train, 2 validation, 8 test in one of 2 folds" in said.stdout
    assert "few fold 2 head seed 0: ok" in said.stderr
    monkeypatch.setattr(grid, "execute", in_this_process)
    CliRunner().invoke(cli, [*common, *options, str(tmp_path / "here")], catch_exceptions=False)
    outcomes = [{r["key"]: r["test_outcomes"] for r in Store(tmp_path / name).all()} for name in ("out", "here")]
    assert outcomes[0] == outcomes[1]
    assert len(outcomes[0]) == 2
    for arguments, message in (
        ([*common, "--test", "0.2"], "--test cuts a test split, and --folds makes one of each fold; give one of them"),
        ([*common, "--max-test", "9"], "--max-test cuts a test split, and --folds makes one of each fold; give one of"),
        (["compare", "--folds", "2"], "--folds goes with --data, which is not given"),
    ):
        with pytest.raises(OptionError, match=message):
            CliRunner().invoke(cli, arguments, catch_exceptions=False)


def test_folds_say_where_their_validation_is_large_or_has_no_span() -> None:
    rows = [{"text": f"{c} {i}", "label": f"c{c}"} for c in range(20) for i in range(3)]
    made = folds(load(rows, validation=0, test=0), 3)
    assert [note for note in made.parts[0].notes if "asked for" in note] == [
        "the folds' validation has 60 rows in all, where 12 were asked for: each class has at least one in it, or rows "
        "stay together"
    ]
    several = [{"text": f"text {i}", "label": "ab"[i % 2]} for i in range(60)]
    assert not [note for note in folds(load(several, validation=0, test=0), 3).parts[0].notes if "asked for" in note]
    spans = [{"tokens": ["a", f"w{i}"], "tags": ["O", "B-x" if i in (3, 4) else "O"]} for i in range(40)]
    told = [note for note in folds(load(spans, validation=0, test=0), 4).parts[0].notes if "has a span" in note]
    assert told[0] == "in 2 of 4 folds no row of test has a span, so that span F1 is 0 there whatever is predicted"
    assert "no row of validation has a span" in told[1]


def test_notes_of_folds_that_differ_in_a_number_are_one() -> None:
    assert _together([
        "12 texts of the test split were cut to 8 tokens", "5 texts of the train split were cut to 8 tokens", "other",
        "9 texts of the test split were cut to 8 tokens", "7 texts of the train split were cut to 8 tokens", "other",
        "1 texts of the validation split were cut to 8 tokens",
    ]) == [
        "21 texts of the test split were cut to 8 tokens", "up to 7 texts of the train split were cut to 8 tokens",
        "other", "1 texts of the validation split were cut to 8 tokens",
    ]  # fmt: skip
