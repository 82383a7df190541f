"""Splits of every kind: what is cut where one is missing, what stays together, and what counts as missing."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from data_helpers import NONE

from adapt.data import few_shot, load, subsample
from adapt.spec import DataError, OptionError


def test_a_missing_split_is_cut_for_every_kind() -> None:
    n = 40
    tables: dict[str, dict[str, list[Any]]] = {
        "tokens": {"tokens": [[f"w{i}", "x"] for i in range(n)], "tags": [["A", "B"]] * (n - 1) + [["rare", "B"]]},
        "id": {**{c: [f"{c} {i}" for i in range(n)] for c in ("id", "question")},
               "context": [f"c {i // 4}" for i in range(n)], "answers": [{"text": ["c"], "answer_start": [0]}] * n},
        "source": {"source": [f"s {i // 4}" for i in range(n)], "target": [f"t {i}" for i in range(n)]},
        "completion": {"prompt": [""] * n, "completion": [f"c {i}" for i in range(n)]},
    }  # fmt: skip
    for column, table in tables.items():
        data = load(table, test=0.2)
        assert {split: len(rows) for split, rows in data.splits.items()} == {"train": 28, "validation": 4, "test": 8}
        order = [str(value) for value in table[column]]
        parts = {split: [str(value) for value in rows[column]] for split, rows in data.splits.items()}
        assert all(part == sorted(part, key=order.index) for part in parts.values())
        assert sorted(value for part in parts.values() for value in part) == sorted(order)
        assert load(table, test=0.2).sha256 == data.sha256 != load(table, test=0.2, seed=1).sha256
        together = {"id": "context", "source": "source"}.get(column)
        if together:
            values = [set(rows[together]) for rows in data.splits.values()]
            assert sum(map(len, values)) == len(set.union(*values)) == 10, "one context, one split"
        if column == "tokens":
            assert "rare" in {data.labels[tag] for row in data.splits["train"]["tags"] for tag in row}


def test_samples_of_training_rows() -> None:
    data = load({"prompt": [""] * 20, "completion": [f"c {i}" for i in range(20)]}, **NONE)
    train = data.splits["train"]
    sample = list(subsample(train, data.problem, 7, seed=1)["completion"])
    assert sample == sorted(sample, key=list(train["completion"]).index)
    assert len(set(sample)) == 7
    assert sample == list(subsample(train, data.problem, 7, seed=1)["completion"])
    assert sample != list(subsample(train, data.problem, 7, seed=2)["completion"])
    for problem in ("spans", "tags", "answers", "text", "completion"):
        with pytest.raises(OptionError, match=f"rows of each class and {problem} has none; use max_train instead"):
            few_shot(train, problem, 2, seed=0)


def test_completions_of_one_prompt_stay_together() -> None:
    rows = [{"prompt": f"prompt {i % 20}", "completion": f"completion {i}"} for i in range(160)]
    talks = [
        {"messages": [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["completion"]}]}
        for row in rows
    ]
    for read in (load(rows), load(talks)):
        asked = {
            split: {str(p) for p in part["prompt"]}
            if "prompt" in part.column_names
            else {str(messages[:-1]) for messages in part["messages"]}
            for split, part in read.splits.items()
        }
        assert len(asked["train"]) == 16
        assert not asked["train"] & (asked["validation"] | asked["test"])


def test_a_frequent_prompt_does_not_part_the_others() -> None:
    rows = [
        {"prompt": "Continue:" if i % 4 == 0 else f"prompt {i % 41}", "completion": f"completion {i}"}
        for i in range(400)
    ]
    read = load(rows)
    train, test = (set(read.splits[split]["prompt"]) for split in ("train", "test"))
    assert train & test <= {"Continue:"}
    assert len(test) > 2


def test_splits_of_few_contexts_say_why_they_are_large() -> None:
    found = {"text": ["cat"], "answer_start": [4]}
    rows = [{"question": f"who {i}", "context": f"the cat {i % 4}", "answers": found} for i in range(100)]
    assert "test has 25 rows, where 10 were asked for: rows of one context stay together" in load(rows).notes
    rows[0]["context"] = "the cat alone"
    assert "test has 1 rows, where 20 were asked for: rows of one context stay together" in [
        note for seed in range(20) for note in load(rows, validation=0, test=0.2, seed=seed).notes
    ]


def test_an_instruction_that_all_rows_share_does_not_hold_them_together() -> None:
    rows = [{"prompt": "Continue:", "completion": f"completion {i}"} for i in range(40)]
    assert len(load(rows, kind="causal_lm").splits["test"]) == 4
    alone = [{"text": f"a text {i}"} for i in range(40)]
    assert len(load(alone, kind="causal_lm").splits["test"]) == 4


def test_withheld_answers_are_no_questions_without_an_answer() -> None:
    def rows(n: int, answered: bool, first: int = 0) -> list[dict[str, Any]]:
        found = {"text": ["cat"], "answer_start": [4]} if answered else {"text": [], "answer_start": []}
        return [{"question": f"who {i}", "context": f"the cat {i}", "answers": found} for i in range(first, first + n)]

    read = load({"train": rows(20, True), "validation": rows(4, True), "test": rows(4, False)})
    assert "the test split is left out: its answers are withheld" in read.notes
    assert all(read.splits["test"]["answer_texts"])  # cut from train
    both = rows(10, True) + [dict(row, question=f"not {row['question']}") for row in rows(10, False)]
    read = load({"train": both, "validation": rows(4, True, 30), "test": rows(4, False, 40)})
    said = "no question of test has an answer; where they are withheld, leave test out"
    assert (len(read.splits["test"]), read.notes) == (4, (said,))


@pytest.mark.parametrize("role", ["label", "tags", "answers", "target", "completion"])
@pytest.mark.parametrize("how", ["absent", "empty", "misspelt", "renamed"])
def test_a_held_out_split_without_labels_counts_as_missing(role: str, how: str) -> None:
    def rows(n: int) -> list[dict[str, Any]]:
        found = {
            "label": [{"text": f"text {i}", "label": i % 2} for i in range(n)],
            "tags": [{"tokens": ["a", f"{i}"], "tags": ["x", "y"]} for i in range(n)],
            "answers": [{"question": "who?", "context": f"the cat {i}", "answers": ["cat"]} for i in range(n)],
            "target": [{"source": f"text {i}", "target": f"{i}"} for i in range(n)],
            "completion": [{"prompt": f"text {i}", "completion": f"{i}"} for i in range(n)],
        }
        return found[role]

    test: list[dict[str, Any]] = [{name: value for name, value in row.items() if name != role} for row in rows(4)]
    source = {"train": rows(40), "validation": rows(4), "test": test}
    if how == "misspelt":
        source["test"] = [row | {f"{role}_": "x"} for row in test]
        with pytest.raises(DataError, match=rf"split 'test': no column '{role}' for {role} \(did you mean '{role}_'"):
            load(source)
        return
    if how == "renamed":
        other = {
            "label": "sentiment", "tags": "upos", "answers": "answer", "target": "summary", "completion": "response",
        }[role]  # fmt: skip
        source["test"] = [row | {other: "x"} for row in test]
        with pytest.raises(DataError, match=rf"split 'test': no column '{role}'"):
            load(source)
        return
    if how == "empty":
        source["test"] = [row | {role: value} for row, value in zip(test, [None, "", " ", math.nan], strict=True)]
    data = load(source)
    assert {split: len(found) for split, found in data.splits.items()} == {"train": 36, "validation": 4, "test": 4}
    assert f"the test split is left out: it has no column '{role}', or nothing in it" in data.notes


def test_a_file_of_words_alone_is_no_test_split_of_tags(tmp_path: Path) -> None:
    (tmp_path / "train.conll").write_text("Ada B-x\nsaw O\n\n" * 10)
    (tmp_path / "test.conll").write_text("Ada\nsaw\n")
    assert list(load(tmp_path, validation=0).splits) == ["train", "test"]


def test_a_test_file_may_hold_only_questions_without_an_answer(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("question,context,answer,answer_start\nwho,the cat,cat,4\nwhat,the cat,,\n")
    (tmp_path / "test.csv").write_text("question,context,answer,answer_start\nwhere,the cat,,\n")
    assert list(load(tmp_path, validation=0).splits["test"]["answer_texts"]) == [[]]


def _sentences(rows: int, every: int) -> list[dict[str, list[str]]]:
    """Of which one in so many has a span."""
    return [
        {"tokens": [f"w{i}", "is", "here"], "tags": ["B-P" if i % every == 0 else "O", "O", "O"]} for i in range(rows)
    ]


@pytest.mark.parametrize(("rows", "every"), [(40, 5), (200, 20), (300, 2)])
@pytest.mark.parametrize("grouped", [False, True])
def test_spans_are_in_every_split_in_proportion(rows: int, every: int, grouped: bool) -> None:
    given = [{**row, **({"doc": i // 2} if grouped else {})} for i, row in enumerate(_sentences(rows, every))]
    drawn = set()
    for seed in range(6):
        data = load(given, seed=seed, columns={"group": "doc"} if grouped else None)
        for split in ("validation", "test"):
            part = data.splits[split]
            spans = sum(any(tags) for tags in part["tags"])
            assert len(part) == rows // 10
            assert spans == max(1, round(rows / 10 / every)), split
            drawn.add(tuple(word for (word, *_) in part["tokens"]))
        assert not data.notes
    assert len(drawn) == 12


def test_rare_tags_stay_in_train_and_splits_without_spans_are_told_of() -> None:
    """As where each span is the only one of its type, or a test file's tags are blank."""
    rare = [{"tokens": ["a", f"w{i}"], "tags": ["O", f"B-{i}" if i < 8 else "O"]} for i in range(40)]
    data = load(rare)
    assert sum(any(tags) for tags in data.splits["train"]["tags"]) == 8
    told = [note for note in data.notes if "has a span" in note]
    assert told == [
        f"no row of {split} has a span, so that span F1 is 0 there whatever is predicted; give one that has spans, or "
        f"leave {split} out"
        for split in ("validation", "test")
    ]
    blank = [{**row, "tags": ["O"] * 3} for row in _sentences(9, 3)]
    data = load({"train": _sentences(60, 3), "test": blank})
    assert [note for note in data.notes if "has a span" in note] == [told[1]]
    assert not [note for note in load(_sentences(60, 3), test=0).notes if "has a span" in note]
