"""Every way of giving a data set leads to the same canonical form."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pandas
import pytest
import tiny

import adapt
import adapt.data
from adapt.data import Data, load, read_inputs
from adapt.spec import DataError, OptionError, Source, Task

TEXTS = [
    "NA",
    "null",
    "007",
    'a "quoted", text',
    "two\nlines",
    "the separator\u2028stays",
    "Dinggo pesen tiket",
    "酒店不错",
]
LABELS = ["good", "bad", "bad", "good", "bad", "good", "good", "bad"]
ROWS = [{"text": t, "label": x} for t, x in zip(TEXTS, LABELS, strict=True)]
NONE: Any = {"validation": 0, "test": 0}
SINGLE = Task("texts", Source("texts", "0" * 64))
PAIR = Task("texts", Source("texts", "0" * 64), pair=True)


def write_csv(path: Path, rows: list[dict[str, Any]], delimiter: str = ",", bom: bool = False) -> Path:
    with path.open("w", newline="", encoding="utf-8-sig" if bom else "utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def columns(data: Data, split: str = "train") -> dict[str, list[Any]]:
    return {name: list(data.splits[split][name]) for name in data.splits[split].column_names}


def test_every_source_gives_the_same_data(tmp_path: Path) -> None:
    pandas.DataFrame(ROWS).to_parquet(tmp_path / "rows.parquet")
    sources = {
        "csv": write_csv(tmp_path / "rows.csv", ROWS),
        "csv with a byte order mark": write_csv(tmp_path / "bom.csv", ROWS, bom=True),
        "tsv": write_csv(tmp_path / "rows.tsv", ROWS, delimiter="\t"),
        "jsonl": write_jsonl(tmp_path / "rows.jsonl", ROWS),
        "json": str(write_jsonl(tmp_path / "rows.json", ROWS)),
        "parquet": tmp_path / "rows.parquet",
        "frame": pandas.DataFrame(ROWS),
        "dataset": datasets.Dataset.from_list(ROWS),
        "columns": {"text": TEXTS, "label": LABELS},
        "dicts": ROWS,
        "lists": (TEXTS, LABELS),
    }
    loaded = {kind: load(source) for kind, source in sources.items()}
    reference = loaded.pop("lists")
    assert reference.problem == "single_label"
    assert reference.labels == ("bad", "good")
    assert {len(reference.splits[s]) for s in ("validation", "test")} == {2}  # one of each class
    for kind, data in loaded.items():
        for split in ("train", "validation", "test"):
            assert columns(data, split) == columns(reference, split), kind
        assert (data.problem, data.labels, data.sha256) == (
            reference.problem,
            reference.labels,
            reference.sha256,
        ), kind
    assert columns(load(sources["csv"], **NONE)) == {"text": TEXTS, "label": [1, 0, 0, 1, 0, 1, 1, 0]}
    assert loaded["csv"].name == "rows"
    assert loaded["frame"].name == "data"
    assert load(sources["csv"], name="reviews").name == "reviews"


def test_hash_depends_on_content_alone(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    a = load(write_jsonl(tmp_path / "a.jsonl", ROWS), **NONE).sha256
    assert load(write_jsonl(tmp_path / "elsewhere" / "b.jsonl", ROWS), **NONE).sha256 == a
    swapped = [ROWS[1], ROWS[0], *ROWS[2:]]
    renamed = [{"text": r["text"], "label": {"good": "fine"}.get(r["label"], r["label"])} for r in ROWS]
    for other in (swapped, renamed, ROWS[:-1], [{**ROWS[0], "text": "other"}, *ROWS[1:]]):
        assert load(other, **NONE).sha256 != a
    assert load(ROWS, seed=0).sha256 != load(ROWS, seed=1).sha256, "other rows are in the splits"
    assert load({"train": ROWS, "test": ROWS}, **NONE).sha256 != load({"train": ROWS, "dev": ROWS}, **NONE).sha256


def test_folder_with_splits(tmp_path: Path) -> None:
    folder = tmp_path / "reviews"
    folder.mkdir()
    write_csv(folder / "train.csv", ROWS)
    write_jsonl(folder / "dev.jsonl", ROWS[:3])
    pandas.DataFrame(ROWS[2:4]).to_parquet(folder / "test.parquet")
    (folder / "SOURCE.md").write_text("where it came from")
    data = load(folder)
    assert data.name == "reviews"
    assert list(data.splits) == ["train", "validation", "test"]
    assert columns(data)["text"] == TEXTS
    assert columns(data, "validation") == {"text": TEXTS[:3], "label": [1, 0, 0]}
    assert columns(data, "test") == {"text": TEXTS[2:4], "label": [0, 1]}
    (folder / "test.parquet").unlink()
    cut = load(folder)
    assert len(cut.splits["train"]) + len(cut.splits["test"]) == len(ROWS)
    assert len(cut.splits["validation"]) == 3, "a split that is given is not touched"
    assert list(load(folder, test=0).splits) == ["train", "validation"]


def test_dict_of_splits_and_dataset_dict(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "x.csv", ROWS)
    given = load({"train": path, "valid": pandas.DataFrame(ROWS[:2]), "test": (TEXTS[:4], LABELS[:4])})
    assert {split: len(rows) for split, rows in given.splits.items()} == {
        "train": 8,
        "validation": 2,
        "test": 4,
    }
    hub_like = datasets.DatasetDict(
        train=datasets.Dataset.from_list(ROWS),
        test=datasets.Dataset.from_list(ROWS[:4]),
        unsupervised=datasets.Dataset.from_list(ROWS),
    )
    data = load(hub_like, validation=0)
    assert list(data.splits) == ["train", "test"]
    assert data.notes[0] == (
        "splits that are not used: 'unsupervised'; to use one, name it one of train, validation, test, or give a dict "
        "of splits"
    )
    hub_like["eval"] = hub_like.pop("unsupervised")
    assert list(load(hub_like).splits) == ["train", "validation", "test"]
    hub_like["validation"] = hub_like["train"].select(range(3))
    data = load(hub_like)
    assert len(data.splits["validation"]) == 3, "of several names the likeliest"
    assert data.notes[0].startswith("splits that are not used: 'eval'; to use one, ")


@pytest.mark.parametrize("name", ["development", "eval", "Evaluation"])
def test_a_validation_split_has_many_names(tmp_path: Path, name: str) -> None:
    write_csv(tmp_path / "train.csv", ROWS)
    write_csv(tmp_path / f"{name}.csv", ROWS[:3])
    data = load(tmp_path, test=0)
    assert (len(data.splits["train"]), columns(data, "validation")["text"]) == (len(ROWS), TEXTS[:3])


def test_files_that_are_no_split_are_told_of(tmp_path: Path) -> None:
    for name in ("train.csv", "validation_matched.csv", "held out.csv", ".validation.csv"):
        write_csv(tmp_path / name, ROWS)
    (tmp_path / "SOURCE.md").write_text("where it came from")
    assert load(tmp_path, **NONE).notes == (
        "files that are not used: 'held out.csv', 'validation_matched.csv'; to use one, name it one of train, "
        "validation, test, or give a dict of splits",
    )


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    asked: list[tuple[Any, ...]] = []

    def load_dataset(name: str, config: str | None = None, *, revision: str | None = None) -> Any:
        asked.append((name, config, revision))
        features = datasets.Features(
            {
                "sentence": datasets.Value("string"),
                "label": datasets.ClassLabel(names=["negative", "positive"]),
            }
        )
        rows = {"sentence": [f"text {i}" for i in range(20)], "label": [0, 1] * 10}
        return datasets.DatasetDict(
            train=datasets.Dataset.from_dict(rows, features=features),
            validation=datasets.Dataset.from_dict(rows, features=features),
            test=datasets.Dataset.from_dict({**rows, "label": [-1] * 20}, features=features),
        )

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return asked


def test_hub_name_with_withheld_test_labels(hub: list[tuple[Any, ...]]) -> None:
    data = load("nyu-mll/glue", config="sst2", revision="main")
    assert hub == [("nyu-mll/glue", "sst2", "main")]
    assert data.name == "nyu-mll/glue"
    assert data.labels == ("negative", "positive")
    rows = {split: len(rows) for split, rows in data.splits.items()}
    assert rows == {"train": 18, "validation": 20, "test": 2}, "test is cut from train: its labels are withheld"
    assert "the test split is left out: its labels are withheld" in data.notes


def test_a_label_of_minus_one_is_a_label_where_train_has_it() -> None:
    train = (["a", "b"], [-1, 1])
    assert columns(load({"train": train, "test": (["c"], [-1])}, validation=0), "test")["label"] == [0]


def test_lists_of_minus_one_are_withheld_labels() -> None:
    train = ([f"text {i}" for i in range(20)], [[i % 2, 1 - i % 2, 1] for i in range(20)])
    data = load({"train": train, "test": (["a", "b"], [[-1, -1, -1]] * 2)}, validation=0)
    assert len(data.splits["test"]) == 2
    assert set(data.splits["test"]["text"]) < set(train[0])
    assert data.notes == ("the test split is left out: its labels are withheld",)


def test_a_folder_goes_before_a_hub_name(
    hub: list[tuple[Any, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "imdb").mkdir()
    write_jsonl(tmp_path / "imdb" / "train.jsonl", ROWS)
    monkeypatch.chdir(tmp_path)
    assert load("imdb", **NONE).labels == ("bad", "good")
    assert not hub


def test_pairs(tmp_path: Path) -> None:
    rows = [{"text": f"a{i}", "text_pair": f"b{i}", "label": i % 2} for i in range(6)]
    loaded = [
        load(source, **NONE)
        for source in (
            rows,
            ([(r["text"], r["text_pair"]) for r in rows], [r["label"] for r in rows]),
            write_csv(tmp_path / "pairs.csv", rows),
        )
    ]
    assert loaded[0].pair
    assert columns(loaded[0]) == {k: [r[k] for r in rows] for k in ("text", "text_pair", "label")}
    assert len({data.sha256 for data in loaded}) == 1


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("Sentence", "Label"), ("Sentence", None, "Label")),
        (("id", "REVIEW ", "stars"), ("REVIEW ", None, "stars")),
        (("idx", "sentence1", "sentence2", "label"), ("sentence1", "sentence2", "label")),
        (("premise", "hypothesis", "label"), ("premise", "hypothesis", "label")),
        (("question", "sentence", "label"), ("question", "sentence", "label")),
        (("title", "content", "category"), ("content", None, "category")),
        (("intent", "text"), ("text", None, "intent")),
        (("text", "score", "label"), ("text", None, "label")),
    ],
)
def test_usual_names(names: tuple[str, ...], expected: tuple[str, str | None, str]) -> None:
    table = {name: [f"{name} {i}" for i in range(4)] for name in names}
    table[expected[2]] = ["x", "y", "x", "y"]
    got = columns(load(table, **NONE))
    assert got.pop("label") == [0, 1, 0, 1]
    assert got == {role: table[name] for role, name in zip(("text", "text_pair"), expected, strict=False) if name}


def test_named_columns() -> None:
    table = {"a": ["x", "y"], "text": ["u", "v"], "b": ["p", "q"], "y": [1, 0], "label": ["n", "m"]}
    assert columns(load(table, text="a", label="Y", **NONE)) == {"text": ["x", "y"], "label": [1, 0]}
    got = columns(load(table, text="b", text_pair="a", **NONE))
    assert got == {"text": ["p", "q"], "text_pair": ["x", "y"], "label": [1, 0]}
    assert columns(load(table, text_pair="b", **NONE))["text"] == ["u", "v"]
    single = {"sentence1": ["x", "y"], "sentence2": ["u", "v"], "label": [0, 1]}
    assert not load(single, text="sentence2", **NONE).pair, "naming text alone asks for single texts"


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


def test_names_of_columns_are_the_same_in_every_normal_form_of_unicode(tmp_path: Path) -> None:
    composed, parted = "\u00e9tiquette", "e\u0301tiquette"
    write_csv(tmp_path / "train.csv", [{"text": f"text {i}", composed: i % 2} for i in range(4)])
    write_csv(tmp_path / "test.csv", [{"text\u200b": f"test {i}", parted: i % 2} for i in range(2)])
    for label in (composed, parted, parted.upper()):
        data = load(tmp_path, label=label, validation=0)
        assert columns(data, "test") == {"text": ["test 0", "test 1"], "label": [0, 1]}


def test_csv_and_jsonl_splits_agree_on_types(tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", [{"text": "a", "label": 0}, {"text": "b", "label": 1}])
    write_jsonl(tmp_path / "test.jsonl", [{"text": "c", "label": 1}])
    assert columns(load(tmp_path, validation=0), "test") == {"text": ["c"], "label": [1]}
    write_jsonl(tmp_path / "test.jsonl", [{"text": "c", "label": "1"}])
    assert columns(load(tmp_path, validation=0), "test") == {"text": ["c"], "label": [1]}
    write_csv(tmp_path / "train.csv", [{"text": "a", "label": 1.5}, {"text": "b", "label": 2.5}])
    write_jsonl(tmp_path / "test.jsonl", [{"text": "c", "label": 2.5}])
    assert columns(load(tmp_path, validation=0, problem="single_label"), "test")["label"] == [1]


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


def test_long_fields_and_blank_lines(tmp_path: Path) -> None:
    before = csv.field_size_limit(131_072)
    long = "long " * 40_000
    path = tmp_path / "x.csv"
    path.write_text(f"text,label\r\n{long},0\r\n\r\nb,1\r\n\r\n", newline="")
    assert columns(load(path, **NONE)) == {"text": [long, "b"], "label": [0, 1]}
    assert csv.field_size_limit(before) == 131_072, "the setting of the whole process is put back"
    path = tmp_path / "x.jsonl"
    path.write_text('\n{"text": "a", "label": 0}\n\n{"label": 1, "text": "b", "more": null}\n')
    assert columns(load(path, **NONE)) == {"text": ["a", "b"], "label": [0, 1]}


def test_csv_files_are_read_where_a_c_long_has_32_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_limit = csv.field_size_limit

    def of_32_bits(limit: int) -> int:
        if limit > 2**31 - 1:
            raise OverflowError("Python int too large to convert to C long")
        return set_limit(limit)

    monkeypatch.setattr(csv, "field_size_limit", of_32_bits)
    assert columns(load(write_csv(tmp_path / "x.csv", ROWS), **NONE))["text"] == TEXTS


def test_read_inputs_keeps_order_and_needs_no_label(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "x.csv", [{"id": i, "text": t} for i, t in enumerate(TEXTS)])
    for source in (
        path,
        str(path),
        TEXTS,
        {"Text": TEXTS},
        [{"text": t} for t in TEXTS],
        pandas.DataFrame(ROWS),
    ):
        got = read_inputs(source, SINGLE)
        assert got.column_names == ["text"]
        assert list(got["text"]) == TEXTS
    pairs = [("a", "b"), ("c", "d")]
    got = read_inputs(pairs, PAIR)
    assert (list(got["text"]), list(got["text_pair"])) == (["a", "c"], ["b", "d"])
    assert list(read_inputs({"sentence1": ["x"], "sentence2": ["y"]}, SINGLE, {"text": "sentence2"})["text"]) == ["y"]
    assert list(read_inputs(pandas.Series(["x"]), SINGLE)["text"]) == ["x"]
    assert list(read_inputs({"q": ["x"], "text": ["y"]}, SINGLE, {"text": "q"})["text"]) == ["x"]
    assert list(read_inputs(["42"], SINGLE)["text"]) == ["42"]
    one_column = tmp_path / "one.csv"
    one_column.write_text("text\na\nb\n\n")
    assert list(read_inputs(one_column, SINGLE)["text"]) == ["a", "b"]


def test_read_inputs_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the texts: no text_pair column found among 'text'.*option text_pair"):
        read_inputs(["a"], PAIR)
    with pytest.raises(DataError, match="the texts, row 2: not a pair of two texts"):
        read_inputs([("a", "b"), "c"], PAIR)
    for pairs in ([("a", "b")], {"Premise": ["a"], "hypothesis": ["b"]}):
        with pytest.raises(DataError, match="one text a row is needed and there are two"):
            read_inputs(pairs, SINGLE)
    with pytest.raises(DataError, match="there are no rows"):
        read_inputs([], SINGLE)
    with pytest.raises(DataError, match=r"absent\.csv: no such file"):
        read_inputs(tmp_path / "absent.csv", SINGLE)
    for text in ("a good film", "a good\nfilm " * 100, "~ 5 dollars", "~nobody's film", "a\0b"):
        with pytest.raises(DataError, match=r"check the path, or give texts as a list$") as caught:
            read_inputs(text, SINGLE)
        assert len(str(caught.value).splitlines()) == 1
        assert len(str(caught.value)) < 300
    one_column = tmp_path / "one.csv"
    one_column.write_text("text\na\n\nb\n")
    with pytest.raises(DataError, match=r"one\.csv, line 3: no text"):
        read_inputs(one_column, SINGLE)


def test_config_is_for_the_hub(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "x.csv", ROWS)
    with pytest.raises(OptionError, match="config='sst2' is for data sets of the hub"):
        load(path, config="sst2")
    with pytest.raises(OptionError, match="revision='main'"):
        load(ROWS, revision="main")


def test_import_is_light() -> None:
    heavy = ("datasets", "pandas", "pyarrow", "sklearn", "numpy", "torch")
    code = f"import adapt.data, sys; print([m for m in {heavy!r} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
    assert set(adapt.data.__all__) == {
        "Data", "Folds", "few_shot", "folds", "load", "read_inputs", "read_labelled", "read_texts",
        "subsample",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "problem", "classes", "rows", "pair", "digits"),
    [
        ("sst2", "single_label", 2, (6920, 872, 1821), False, "88bd4e7918ca"),
        ("banking77", "single_label", 77, (9003, 1000, 3080), False, "19c83926a0d0"),
        ("nusax_jav", "single_label", 3, (500, 100, 400), False, "33e9a0e4c2df"),
        ("mrpc", "single_label", 2, (3676, 400, 1725), True, "eba32775be4a"),
        ("stsb", "regression", 0, (5749, 1500, 1379), True, "f1c2ae947820"),
    ],
)
def test_real_data(
    real_data: Path, name: str, problem: str, classes: int, rows: tuple[int, int, int], pair: bool, digits: str
) -> None:
    data = load(real_data / name)
    assert (data.name, data.problem, len(data.labels), data.pair) == (name, problem, classes, pair)
    assert data.sha256.startswith(digits), "committed results name the rows they were made on by this hash"
    assert tuple(len(data.splits[s]) for s in ("train", "validation", "test")) == rows
    lines = (real_data / name / "test.jsonl").read_text(encoding="utf-8").strip().split("\n")
    expected = [json.loads(line) for line in lines]
    got = columns(data, "test")
    assert got["text"] == [row["text"] for row in expected]
    assert [data.labels[x] if classes else x for x in got["label"]] == [
        str(row["label"]) if classes else row["label"] for row in expected
    ]


# TSV, shares of few rows


def test_a_tsv_file_need_not_quote(tmp_path: Path) -> None:
    file = tmp_path / "plain.tsv"
    rows = ['"So good\tpos', 'never again"\tneg', 'he said "no"\tneg', '"""\tpos', "fine\tpos"]
    file.write_text("text\tlabel\n" + "".join(f"{row}\n" for row in rows))
    read = adapt.data.load(file, validation=0, test=0)
    assert columns(read)["text"] == [row.split("\t")[0] for row in rows]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ('"fine"\tpos\n"a "b" c"\tneg\n"x"\tpos\n', "line 3: .* inside a quoted field write a quote twice"),
        ('"two\nlines"\tpos\n"ok"\tneg\textra\n', "line 4: 3 fields where the header has 2"),
    ],
)
def test_a_tsv_file_that_quotes_and_has_it_wrong_names_the_line(tmp_path: Path, rows: str, message: str) -> None:
    file = tmp_path / "quoted.tsv"
    file.write_text("text\tlabel\n" + rows)
    with pytest.raises(DataError, match=message):
        load(file)


def test_a_tsv_file_may_quote(tmp_path: Path) -> None:
    texts = ['a "quoted" word', "two\nlines", "a\ttab", "plain"]
    file = write_csv(tmp_path / "quoted.tsv", [{"text": t, "label": i % 2} for i, t in enumerate(texts)], "\t")
    assert columns(adapt.data.load(file, validation=0, test=0))["text"] == texts


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


def test_columns_of_training_are_not_those_of_plain_lists(backbone: Callable[..., Path]) -> None:
    pairs = [("first", "second")]
    got = read_inputs(pairs, PAIR, None, {"text": "text_pair", "text_pair": "text"})
    assert got.to_dict() == {"text": ["first"], "text_pair": ["second"]}
    data = adapt.data.load(([*tiny.GOOD, *tiny.BAD] * 4, ([1] * len(tiny.GOOD) + [0] * len(tiny.BAD)) * 4))
    model = adapt.fit(backbone("bert"), data, "head", epochs=1, device="cpu")
    assert model.columns["text"] == "text"
    for rows in (pairs, [(tiny.GOOD[0], 1)]):
        with pytest.raises(DataError, match="the texts: one text a row is needed and there are two"):
            model.predict(rows)


def test_named_columns_are_looked_for_in_rows_to_be_predicted(backbone: Callable[..., Path], tmp_path: Path) -> None:
    rows = [
        {"text": f"id{i}", "body": tiny.GOOD[i % 4] if i % 2 else tiny.BAD[i % 4], "label": i % 2} for i in range(40)
    ]
    model = adapt.fit(backbone("bert"), adapt.data.load(rows, text="body"), "full", epochs=1, device="cpu")
    model.save(tmp_path / "model")
    loaded = adapt.load(tmp_path / "model", device="cpu")
    bodies = [row["body"] for row in rows]
    for one in (model, loaded):
        assert one.predict(rows) == one.predict(bodies) != one.predict([row["text"] for row in rows])
        assert one.predict([{"text": body} for body in bodies]) == one.predict(bodies)
        assert list(one.iterate(rows, {"text": "text"})) == one.predict([row["text"] for row in rows])
