"""What labels are: classes, several of them, or numbers; their names and what is said of them."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import datasets
import pandas
import pytest
from data_helpers import NONE, columns, write_csv

import adapt
import adapt.data
from adapt.data import Data, load
from adapt.spec import DataError


def test_a_label_of_minus_one_is_a_label_where_train_has_it() -> None:
    train = (["a", "b"], [-1, 1])
    assert columns(load({"train": train, "test": (["c"], [-1])}, validation=0), "test")["label"] == [0]


def test_lists_of_minus_one_are_withheld_labels() -> None:
    train = ([f"text {i}" for i in range(20)], [[i % 2, 1 - i % 2, 1] for i in range(20)])
    data = load({"train": train, "test": (["a", "b"], [[-1, -1, -1]] * 2)}, validation=0)
    assert len(data.splits["test"]) == 2
    assert set(data.splits["test"]["text"]) < set(train[0])
    assert data.notes[0] == "the test split is left out: its labels are withheld"


@pytest.mark.parametrize(
    ("values", "problem", "names", "encoded"),
    [
        (["b", "a", " b "], "single_label", ("a", "b"), [1, 0, 1]),
        ([10, 2, -1], "single_label", ("-1", "2", "10"), [2, 1, 0]),
        ([True, False, True], "single_label", ("False", "True"), [1, 0, 1]),
        ([1.0, 3.0, 1.0], "single_label", ("1", "3"), [0, 1, 0]),
        ([5, 3.8, 0], "regression", (), [5.0, 3.8, 0.0]),
        ([["x", "y"], [], ["z"]], "multi_label", ("x", "y", "z"), [[1, 1, 0], [0, 0, 0], [0, 0, 1]]),
        ([[0, 2], [7], []], "multi_label", ("0", "2", "7"), [[1, 1, 0], [0, 0, 1], [0, 0, 0]]),
        ([[0], [1], [1]], "multi_label", ("0", "1"), [[1, 0], [0, 1], [0, 1]]),
        ([[0], [1], [0, 1]], "multi_label", ("0", "1"), [[1, 0], [0, 1], [1, 1]]),
        (
            [[0, 1, 0], [1, 1, 0], [0, 0, 0]],
            "multi_label",
            ("0", "1", "2"),
            [[0, 1, 0], [1, 1, 0], [0, 0, 0]],
        ),
        ([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], "multi_label", ("0", "1"), [[0, 1], [1, 0], [1, 1]]),
    ],
)
def test_problem_and_labels(values: Any, problem: str, names: tuple[str, ...], encoded: list[Any]) -> None:
    data = load((["t1", "t2", "t3"], values), **NONE)
    assert (data.problem, data.labels) == (problem, names)
    assert columns(data)["label"] == encoded


def test_problem_option_overrides() -> None:
    scores = load((["t1", "t2", "t3"], [1, 2, 3]), problem="regression", **NONE)
    assert columns(scores)["label"] == [1.0, 2.0, 3.0]
    assert isinstance(columns(scores)["label"][0], float)
    stars = load((["t1", "t2", "t3"], [0.5, 1.0, 0.5]), problem="single_label", **NONE)
    assert (stars.labels, columns(stars)["label"]) == (("0.5", "1.0"), [0, 1, 0])


@pytest.mark.parametrize(
    ("cells", "problem", "names"),
    [
        (["10", "2", "2"], "single_label", ("2", "10")),
        (["5.0", "3.8", "1"], "regression", ()),
        (["5.0", "3.0", "3"], "single_label", ("3", "5")),
        (["007", "7", "7"], "single_label", ("007", "7")),
        (
            ["10000000000000000001", "10000000000000000002", "3"],
            "single_label",
            ("10000000000000000001", "10000000000000000002", "3"),
        ),
        (["NA", "null", "NA"], "single_label", ("NA", "null")),
        (["1", "2", "NA"], "single_label", ("1", "2", "NA")),
        (["1.5", "b", "c"], "single_label", ("1.5", "b", "c")),
        (["nan", "inf", "nan"], "single_label", ("inf", "nan")),
    ],
)
def test_csv_labels_take_the_type_that_all_have(
    tmp_path: Path, cells: list[str], problem: str, names: tuple[str, ...]
) -> None:
    rows = [{"text": f"text {i}", "label": cell} for i, cell in enumerate(cells)]
    data = load(write_csv(tmp_path / "x.csv", rows), **NONE)
    assert (data.problem, data.labels) == (problem, names)


def test_classes_that_are_numbers_stay_as_a_csv_file_writes_them(tmp_path: Path) -> None:
    def read(*cells: str) -> Data:
        rows = [{"text": f"text {i}", "label": cell} for i, cell in enumerate(cells)]
        return load(write_csv(tmp_path / "x.csv", rows), problem="single_label", **NONE)

    codes = read("1.1", "1.10", "2")
    assert (codes.labels, columns(codes)["label"]) == (("1.1", "1.10", "2"), [0, 1, 2])
    assert read("10.0", "2.0", "2").labels == ("2", "10")
    with pytest.raises(DataError, match=r"line 4: label nan is not finite"):
        read("1.1", "2", "nan")


def test_names_are_the_same_in_every_normal_form_of_unicode() -> None:
    composed, parted = "caf\u00e9", "cafe\u0301"
    data = load((["t1", f"{parted} t2", "t3"], [composed, parted, "bar"]), **NONE)
    assert (data.labels, columns(data)["label"]) == (("bar", composed), [1, 1, 0])
    assert columns(data)["text"][1] == f"{parted} t2"
    assert load((["t1", "t2"], [[composed, "bar"], [parted]]), **NONE).labels == ("bar", composed)
    words = {"tokens": [["a", "b"], [parted, "d"]], "tags": [[composed, "x"], [parted, "x"]]}
    data = load(words, **NONE)
    assert (data.labels, columns(data)["tags"]) == ((composed, "x"), [[0, 1], [0, 1]])
    assert columns(data)["tokens"][1] == [parted, "d"]
    declared = {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["x", parted])}
    rows = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=datasets.Features(declared))
    assert load(rows, **NONE).labels == ("x", composed)
    tags = datasets.List(datasets.ClassLabel(names=["x", parted]))
    features = datasets.Features({"tokens": datasets.List(datasets.Value("string")), "tags": tags})
    rows = datasets.Dataset.from_dict({"tokens": [["a", "b"]], "tags": [[1, 0]]}, features=features)
    assert load(rows, **NONE).labels == ("x", composed)


def test_unseen_marks_around_names_are_no_part_of_them(tmp_path: Path) -> None:
    labels = ["\u200fpos", "pos\u200b \ufeff", "neg", "\u202aneg\u202c", "\u2067a\u200b\u200fb\u2069", "a\u200d"]
    data = load(([f"t{i}" for i in range(6)], labels), **NONE)
    assert data.labels == ("a\u200b\u200fb", "a\u200d", "neg", "pos"), (
        "what joins letters, and all within a name, stays"
    )
    assert load((["t1", "t2"], [["x\u200e"], ["x", "y"]]), **NONE).labels == ("x", "y")
    tags = {"tokens": [["a\u200b", "b"]], "tags": [["O\u200b", "B-x\u200f"]]}
    assert load(tags, **NONE).labels == ("O", "B-x")
    assert columns(load(tags, **NONE))["tokens"] == [["a\u200b", "b"]]
    with pytest.raises(DataError, match="row 2: no label in column 'label'"):
        load((["t1", "t2", "t3"], ["x", "\u200b", "y"]), **NONE)
    with pytest.raises(DataError, match=r"word 2 .*is no tag"):
        load({**tags, "tags": [["O", "\u200b"]]}, **NONE)


def test_declared_class_names_keep_their_order(tmp_path: Path) -> None:
    names = ["unused", "positive", "negative"]
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=names)})
    made = datasets.Dataset.from_dict({"text": ["a", "b", "c"], "label": [2, 1, 2]}, features=features)
    made.to_parquet(tmp_path / "x.parquet")
    for source in (made, tmp_path / "x.parquet", made.select([0, 1, 2])):
        data = load(source, **NONE)
        assert (data.labels, columns(data)["label"]) == (tuple(names), [2, 1, 2])
    assert columns(load(made.select([2, 1]), **NONE))["text"] == ["c", "b"], "selected rows, not all rows"
    other = load({"train": made, "test": (["d"], ["positive"])}, validation=0)
    assert columns(other, "test")["label"] == [1], "names and indices of the same classes"
    lists = datasets.Features(
        {"text": datasets.Value("string"), "labels": datasets.List(datasets.ClassLabel(names=names))}
    )
    multi = datasets.Dataset.from_dict({"text": ["a", "b"], "labels": [[1, 2], []]}, features=lists)
    data = load(multi, **NONE)
    assert (data.problem, data.labels, columns(data)["label"]) == (
        "multi_label",
        tuple(names),
        [[0, 1, 1], [0, 0, 0]],
    )


def test_splits_of_classes_of_few_rows_say_that_they_are_large() -> None:
    rows = [{"text": f"text {i}", "label": f"class {i % 20}"} for i in range(100)]
    read = adapt.data.load(rows)
    assert {split: len(part) for split, part in read.splits.items()} == {"train": 60, "validation": 20, "test": 20}
    assert read.notes == (
        "validation has 20 rows, where 10 were asked for: each class has at least one in it",
        "test has 20 rows, where 10 were asked for: each class has at least one in it",
    )
    assert adapt.data.load([{"text": f"text {i}", "label": i % 2} for i in range(100)]).notes == ()


def test_rows_that_contradict_each_other_are_said() -> None:
    texts = [*(f"text {i}" for i in range(20)), "mixed", "mixed", "mixed", "twice", "twice"]
    data = adapt.data.load((texts, [*[0, 1] * 10, 0, 1, 1, 0, 0]), **NONE)
    assert data.notes == ("3 of 25 rows of train have the text of another row and not its label (12%)",)
    assert adapt.data.load((texts, [0.5 * i for i in range(25)]), **NONE).notes == ()


def test_lists_that_became_strings_are_no_classes() -> None:
    """As pandas reads them from CSV."""
    frame = pandas.DataFrame({"text": ["a", "b", "c"], "label": ["['x', 'y']", "['x']", "[]"]})
    message = r"row 1: label .*\['x', 'y'\].* is a string that looks like a list; make lists .*problem='single_label'"
    with pytest.raises(DataError, match=message):
        load(frame, **NONE)
    assert load(frame, problem="single_label", **NONE).labels == ("['x', 'y']", "['x']", "[]")
    assert load(frame.assign(label=frame["label"].map(ast.literal_eval)), **NONE).labels == ("x", "y")


def test_decimals_that_became_strings_are_no_classes() -> None:
    """As pandas reads them with dtype=str."""
    frame = pandas.DataFrame({"text": ["a", "b", "c", "d"], "label": ["1", "2.5", " 3.5", "unknown"]})
    message = r"row 2: label '2\.5' is a number written as a string, as most .*astype\(float\).*problem='single_label'"
    with pytest.raises(DataError, match=message):
        load(frame, **NONE)
    assert load(frame, problem="single_label", **NONE).labels == ("1", "2.5", "3.5", "unknown")
    assert load(frame[:3].astype({"label": float}), **NONE).problem == "regression"
    assert load(frame.assign(label=["1", "2", "3.0", "4"]), **NONE).labels == ("1", "2", "3.0", "4")
    assert load(frame.assign(label=["2.5", "3.5", "many", "few"]), **NONE).labels == ("2.5", "3.5", "few", "many")


def test_names_of_classes_that_look_like_decimals_are_names() -> None:
    names = ["0.5", "1.0", "1.5"]
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=names)})
    rows = datasets.Dataset.from_dict({"text": list("abcdef"), "label": [0, 1, 2] * 2}, features=features)
    assert load(rows, **NONE).labels == tuple(names)


def test_labels_that_look_mistyped_are_told_of() -> None:
    labels = ["positive"] * 197 + ["negative"] * 200 + ["postive"] * 3
    texts = [f"row {i}" for i in range(400)]
    (note,) = load((texts, labels)).notes
    assert note == "labels that look mistyped are classes of their own: postive (3 rows) is nearly positive (197 rows)"
    for rare in ("neutral", "positive3", "unpositive", "apositive", "posit"):  # other words, and numbers may tell apart
        assert load((texts, [rare if label == "postive" else label for label in labels])).notes == ()
    even = ["positive"] * 200 + ["postive"] * 200
    assert load((texts, even)).notes == (), "of which there are too many for a mistake"


def test_lists_of_one_label_are_told_of() -> None:
    rows = ([f"row {i}" for i in range(40)], [["good"], ["bad"]] * 20)
    found = load(rows)
    assert found.problem == "multi_label"
    assert any("each row has one label" in note and "y.ravel()" in note for note in found.notes)
    hot = load((rows[0], [[i % 2, 1 - i % 2] for i in range(40)]))
    assert any("each row has one label" in note and "y.argmax(1)" in note for note in hot.notes)
    assert not any("has one label" in note for note in load(rows, problem="multi_label").notes)
    rows[1][0] = ["good", "bad"]
    assert not any("has one label" in note for note in load(rows).notes)


def test_labels_that_a_split_of_several_labels_lacks_are_told_of() -> None:
    given = [["common", "rare"] if i < 2 else ["common"] if i % 2 else ["other"] for i in range(60)]
    found = load(([f"row {i}" for i in range(60)], given))
    lacking = [
        split
        for split, rows in found.splits.items()
        if not any(row[found.labels.index("rare")] for row in rows["label"])
    ]
    assert lacking
    assert [f"{split} has no row with 'rare', by which nothing is scored there" for split in lacking] == [
        note for note in found.notes if "has no row with" in note
    ]
