"""Held-out splits of fewer rows than there are."""

from __future__ import annotations

from typing import Any

import pytest
from click.testing import CliRunner

from adapt import cli
from adapt.data import load, read_labelled
from adapt.spec import DataError, OptionError, Source, Task


def rows_of(split: str, count: int) -> list[dict[str, Any]]:
    """Rows of two classes, one row in four of the rarer."""
    return [{"text": f"{split} {i}", "label": "rare" if i % 4 == 0 else "usual"} for i in range(count)]


SPLITS = {"train": rows_of("train", 8), "validation": rows_of("validation", 40), "test": rows_of("test", 20)}


def test_a_split_of_more_rows_is_a_sample_of_each_class_with_its_share() -> None:
    whole, data = load(SPLITS), load(SPLITS, max_validation=12, max_test=20)
    held = data.splits["validation"]
    assert (len(held), list(held["label"]).count(data.labels.index("rare"))) == (12, 3)
    numbers = [int(text.split()[1]) for text in held["text"]]
    assert numbers == sorted(numbers)
    assert data.splits["train"]["text"] == whole.splits["train"]["text"]
    assert data.splits["test"]["text"] == whole.splits["test"]["text"], "of as many rows all are there"
    assert data.sha256 != whole.sha256
    assert data.notes == ("validation is 12 of its 40 rows, drawn with the seed of the splits, 0, for every run",)
    assert load(SPLITS, max_validation=40, max_test=50).sha256 == whole.sha256


def test_the_seed_of_the_splits_decides_which() -> None:
    def drawn(**options: Any) -> list[str]:
        return list(load(SPLITS, max_validation=12, **options).splits["validation"]["text"])

    assert drawn() == drawn(max_test=3) == drawn(seed=0)
    assert drawn() != drawn(seed=1)


def test_a_split_that_is_cut_takes_no_more_from_train() -> None:
    data = load({"train": rows_of("train", 100)}, max_validation=4, test=0.2)
    assert {split: len(rows) for split, rows in data.splits.items()} == {"train": 76, "validation": 4, "test": 20}
    assert data.notes == ()
    small = load({"train": rows_of("train", 100)}, validation=0.03, test=0.2, max_validation=50)
    assert len(small.splits["validation"]) == 3, "the share is not raised"


def test_a_cut_of_fewer_rows_than_classes_leaves_the_others_in_train() -> None:
    rows = [{"text": f"row {i}", "label": f"class {i % 8}"} for i in range(160)]
    data = load(rows, max_validation=2, max_test=3)
    found = {split: list(part["text"]) for split, part in data.splits.items()}
    assert {split: len(texts) for split, texts in found.items()} == {"train": 155, "validation": 2, "test": 3}
    assert sorted(text for texts in found.values() for text in texts) == sorted(row["text"] for row in rows)
    assert all(texts == sorted(texts, key=lambda text: int(text[4:])) for texts in found.values())
    assert data.notes == ()
    assert found["test"] != list(load(rows, max_test=3, seed=1).splits["test"]["text"])
    few = load([{**row, "label": f"class {i % 3}"} for i, row in enumerate(rows[:9])], max_validation=2, test=0)
    assert len(few.splits["validation"]) == 2
    assert few.notes == (), "not each of the classes has a row in it"


def test_of_a_group_that_is_larger_than_the_split_no_row_is_trained_on() -> None:
    rows = [{"text": f"row {i}", "label": "ab"[i % 2], "doc": i // 8} for i in range(160)]
    data = load(rows, columns={"group": "doc"}, max_validation=2, test=0)
    groups = {split: set(part["group"]) for split, part in data.splits.items()}
    assert {split: len(part) for split, part in data.splits.items()} == {"train": 152, "validation": 2}
    assert not groups["train"] & groups["validation"]
    assert data.notes == (
        "validation is 2 of its 8 rows, drawn with the seed of the splits, 0, for every run",
        "6 rows cut out for validation are in no split: rows of one group stay together",
    )


def test_questions_on_one_context_are_drawn_each_by_itself() -> None:
    rows = {
        "question": [f"which {i}?" for i in range(24)],
        "context": [f"Ada saw Bo, {i // 6}." for i in range(24)],
        "answers": [{"text": ["Bo"], "answer_start": [8]}] * 24,
    }
    data = load({"train": rows, "validation": rows}, max_validation=8, test=0)
    assert len(data.splits["validation"]) == 8
    assert len(set(data.splits["validation"]["context"])) > 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_validation": 0}, "max_validation=0: give a number of rows, 1 or more"),
        ({"max_test": True}, "max_test=True: give a number of rows, 1 or more"),
        ({"max_test": 2.5}, "max_test=2.5: give a number of rows, 1 or more"),
        ({"max_test": 5, "test": 0}, "max_test=5: there is no test split, and none is cut from all of train .test=0"),
    ],
)
def test_numbers_of_rows_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        load({"train": rows_of("train", 40)}, **options)


def test_on_the_command_line(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("text,label\n" + "".join(f"{row['text']},{row['label']}\n" for row in rows_of("x", 100)))
    found: list[Any] = []
    monkeypatch.setattr("adapt.comparison.compare", lambda backbone, data, *_, **__: found.append(data))
    CliRunner().invoke(cli.cli, ["compare", "--data", str(file), "--max-validation", "5", "--max-test", "6"])
    assert {split: len(rows) for split, rows in found[0].splits.items()} == {"train": 89, "validation": 5, "test": 6}


@pytest.mark.parametrize("tags", [[[-1, -1], [-1]], [[], []]])
def test_tags_that_are_withheld_leave_a_split_out(tags: list[list[int]]) -> None:
    train = {"tokens": [["Ada", "ran"], ["Bo"]] * 10, "tags": [["B-x", "O"], ["B-x"]] * 10}
    data = load({"train": train, "test": {"tokens": [["Cy", "sat"], ["Di"]], "tags": tags}})
    assert "the test split is left out: its tags are withheld" in data.notes
    assert sum(split.num_rows for split in data.splits.values()) == 20


def test_held_out_rows_may_have_references_alone() -> None:
    train = {"source": [f"s {i}" for i in range(9)], "target": [f"t {i}" for i in range(9)]}
    test = {"source": ["x", "y"], "references": [["a", "b"], ["c"]]}
    data = load({"train": train, "test": test}, validation=0)
    assert data.splits["test"]["target"][:] == ["a", "c"]
    assert data.splits["test"]["references"][:] == [["a", "b"], ["c"]]
    assert "the test split has no targets, and its references alone count" in data.notes
    task = Task("x", Source("x", ""), kind="seq2seq", problem="text", labels=(), metric="chrf")
    assert read_labelled(test, task).rows["target"][:] == ["a", "c"]


def test_two_words_with_two_tags_are_no_pairs_of_texts() -> None:
    with pytest.raises(DataError, match="two strings a row with two labels each, which may be words with tags or"):
        load(([["Addis", "Ababa"], ["go", "home"]], [["B-x", "I-x"], ["O", "O"]]))


def test_columns_that_would_change_what_is_learnt_are_named() -> None:
    rows = {
        "system": ["be kind"] * 9,
        "prompt": list("abcdefghi"),
        "completion": ["x"] * 9,
        "label": [True, False, True] * 3,
    }
    told = load(rows, kind="causal_lm", validation=0, test=0).notes
    assert [note.split(";")[0].split(",")[0] for note in told][:2] == [
        "column 'system' is not used",
        "column 'label' is not used",
    ]
