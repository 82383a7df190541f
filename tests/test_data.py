"""Every way of giving a data set leads to the same canonical form."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import pandas
import pytest
from data_helpers import LABELS, NONE, ROWS, TEXTS, columns, write_csv, write_jsonl

import adapt
import adapt.data
from adapt.data import load, read_labelled
from adapt.spec import DataError, OptionError, Source, Task


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
        "splits that are not used: 'unsupervised'; to use one, say which it is (splits, or --split, such as test=NAME)"
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
        "files that are not used: 'held out.csv', 'validation_matched.csv'; to use one, say which it is (splits, or "
        "--split, such as test=NAME)",
    )


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    asked: list[tuple[Any, ...]] = []

    def load_dataset(path: str, *, name: str | None = None, revision: str | None = None) -> Any:
        asked.append((path, name, revision))
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
    assert data.name == "nyu-mll/glue:sst2"
    assert data.labels == ("negative", "positive")
    rows = {split: len(rows) for split, rows in data.splits.items()}
    assert rows == {"train": 18, "validation": 20, "test": 2}, "test is cut from train: its labels are withheld"
    assert "the test split is left out: its labels are withheld" in data.notes


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
        (("Text", "text", "Label", "label"), ("text", None, "label")),
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
    unnamed = {"": ["g", "h"], "text": ["u", "v"], "label": ["n", "m"]}  # as the first column that pandas writes
    assert columns(load(unnamed, columns={"group": ""}, **NONE))["group"] == ["g", "h"]


def test_names_of_columns_are_the_same_in_every_normal_form_of_unicode(tmp_path: Path) -> None:
    composed, parted = "\u00e9tiquette", "e\u0301tiquette"
    write_csv(tmp_path / "train.csv", [{"text": f"text {i}", composed: i % 2} for i in range(4)])
    write_csv(tmp_path / "test.csv", [{"text\u200b": f"test {i}", parted: i % 2} for i in range(2)])
    for label in (composed, parted, parted.upper()):
        data = load(tmp_path, label=label, validation=0)
        assert columns(data, "test") == {"text": ["test 0", "test 1"], "label": [0, 1]}


def test_splits_that_were_read_have_the_names_of_their_classes() -> None:
    """Read again, they are the same, also where names are numbers that do not count from 0."""
    stars = load({"text": [f"t{i}" for i in range(40)], "label": [1, 2, 3, 4, 5] * 8}, validation=0)
    again = load(dict(stars.splits), validation=0)
    assert (again.labels, again.sha256) == (stars.labels, stars.sha256) != ((), "")
    model = Task("t", Source("t", ""), labels=stars.labels)
    upper = stars.splits["train"].filter(lambda row: row["label"] > 0)
    assert read_labelled(upper, model).rows["label"][:] == upper["label"][:]
    spans = load({"tokens": [["a", "b"]] * 4, "tags": [["B-x", "I-x"], ["O", "B-y"]] * 2}, validation=0, test=0)
    tagged = load(spans.splits["train"], validation=0, test=0)
    assert (tagged.problem, tagged.labels, tagged.sha256) == (spans.problem, spans.labels, spans.sha256)


def test_a_transform_is_not_passed_over() -> None:
    rows = datasets.Dataset.from_list(ROWS)
    assert load(rows.with_format("numpy")).sha256 == load(ROWS).sha256
    with pytest.raises(DataError, match="has a transform, which is not applied when rows are read"):
        load(rows.with_transform(lambda batch: batch))


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
