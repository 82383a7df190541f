"""Bad input: one clear error that names the file, row, column or option and says what to do."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import datasets
import numpy
import pandas
import pytest

from adapt.data import load
from adapt.spec import DataError, OptionError

NONE: Any = {"validation": 0, "test": 0}

FILES: dict[str, tuple[str, bytes | str, str]] = {
    "empty file": ("x.csv", "", r"x\.csv: the file is empty"),
    "white space only": ("x.jsonl", " \n\n", r"x\.jsonl: the file is empty"),
    "empty parquet": ("x.parquet", b"", r"x\.parquet: the file is empty"),
    "header only": ("x.csv", "text,label\n", r"x\.csv: there are no rows; give"),
    "unknown suffix": ("x.xlsx", "text,label\n", r"x\.xlsx: unknown kind of file '\.xlsx'; convert .*\.csv"),
    "no text column": ("x.csv", "txt,label\na,0\n", r"no text column found among 'txt', 'label' \(line 1"),
    "no label column": ("x.jsonl", '{"text": "a"}\n', r"no label column found among 'text'; .* option label"),
    "row without text": (
        "x.jsonl",
        '{"text": "a", "label": 0}\n\n{"label": 1}\n',
        r"x\.jsonl, line 3: no text in column 'text'; fill it in or take the row out",
    ),
    "null text": ("x.jsonl", '{"text": "a", "label": 0}\n{"text": null, "label": 1}', r"line 2: no text"),
    "blank texts": (
        "x.csv",
        'text,label\n"a\nb",0\n  ,1\n,1\n',
        r"x\.csv, line 4: .* \(and in 1 more rows\)",
    ),
    "empty text column": ("x.csv", "text,label\n,0\n,1\n", r"x\.csv: column 'text' is empty in every row"),
    "empty second text": (
        "x.csv",
        "sentence1,sentence2,label\na,b,0\nc,,1\n",
        r"line 3: no text_pair in column 'sentence2'",
    ),
    "missing label": ("x.csv", "text,label\na,0\nb, \nc,1\n", r"x\.csv, line 3: no label in column 'label'"),
    "empty label column": ("x.csv", "text,label\na,\nb,\n", r"column 'label' is empty in every row"),
    "one class only": (
        "x.csv",
        "text,label\na,yes\nb,yes\n",
        r"x\.csv: every label is 'yes'; a classifier needs",
    ),
    "not UTF-8": (
        "x.csv",
        b"text,label\na,0\ncaf\xe9,1\n",
        r"x\.csv, line 3: byte 18 \(0xe9\) is not UTF-8; save",
    ),
    "not UTF-8 after a byte order mark": ("x.jsonl", b"\xef\xbb\xbf\xff", r"line 1: byte 3 \(0xff\)"),
    "numbers as text": (
        "x.csv",
        "text,id,label\na,1,0\nb,2,1\n",
        r"column 'id' holds numbers, not text; .* option text",
    ),
    "too many fields": (
        "x.csv",
        'text,label\n"a\nb",0\nb, c,1\n',
        r"x\.csv, line 4: 3 fields where the header has 2",
    ),
    "too few fields": (
        "x.tsv",
        "text\tlabel\na\n",
        r"x\.tsv, line 2: 1 fields where the header has 2; .* or end it with '\\t' where its last fields are empty",
    ),
    "open quote": (
        "x.csv",
        'text,label\na,0\n"b,1\nc,2\n',
        r"x\.csv, line 3: unexpected end of data; inside",
    ),
    "other delimiter": ("x.csv", "text|label\na|0\n", r"line 1: fields seem to be separated by '\|'"),
    "duplicate columns": (
        "x.csv",
        "text,label,text\na,0,b\n",
        r"x\.csv: two columns are named 'text'; rename",
    ),
    "broken JSON": (
        "x.jsonl",
        '{"text": "a", "label": 0}\n{"text": "b"',
        r"x\.jsonl, line 2: not JSON .*one object",
    ),
    "key twice": ("x.jsonl", '{"text": "a", "text": "b"}', r"line 1: not JSON \(a key stands twice"),
    "JSON list": ("x.jsonl", '[{"text": "a", "label": 0}]', r"x\.jsonl, line 1: a JSON list; write one object"),
    "broken array": (
        "x.json",
        '[\n{"text": "a"},\n{"text"]',
        r"x\.json: not one JSON array \(.* line 3 column 8 .*\); write",
    ),
    "two arrays": ("x.json", '[{"text": "a"}]\n[{"text": "b"}]', r"x\.json: not one JSON array \(Extra data: line 2"),
    "array of no objects": ("x.json", '[{"text": "a"}, "b"]', r"x\.json, row 2: a JSON str; write an object"),
    "empty array": ("x.json", " []\n", r"x\.json: the array is empty; give one with rows"),
    "key twice in an array": ("x.json", '[{"text": "a", "text": "b"}]', r"not one JSON array \(a key stands twice"),
    "half a character": (
        "x.jsonl",
        '{"text": "\\ud800", "label": 0}',
        r"line 1: .* half of a surrogate pair",
    ),
    "half a character in a label": (
        "x.jsonl",
        '{"text": "a", "label": "\\udfff"}\n{"text": "b", "label": "x"}',
        r"x\.jsonl: label '\\udfff' holds half of a surrogate pair",
    ),
    "integer beyond floats": (
        "x.jsonl",
        '{"text": "a", "label": 0.5}\n{"text": "b", "label": 1' + "0" * 400 + "}",
        r"line 2: label 10+ is not finite",
    ),
    "text is a number": (
        "x.jsonl",
        '{"text": "a", "label": 0}\n{"text": 5, "label": 1}',
        r"line 2: column 'text' holds 5 \(int\), not text; name the text column with the option text",
    ),
    "NaN score": (
        "x.jsonl",
        '{"text": "a", "label": 0.5}\n{"text": "b", "label": NaN}',
        "line 2: label nan is not fin",
    ),
    "infinite score": (
        "x.csv",
        "text,label\na,0.5\nb,1\nc,-inf\n",
        r"x\.csv, line 4: label -inf is not finite; mend",
    ),
    "mixed labels": (
        "x.jsonl",
        '{"text": "a", "label": 0}\n{"text": "b", "label": "1"}',
        r"mixed types: .*line 1 holds 0 \(integers\), .*line 2 holds '1' \(strings\); write them",
    ),
    "object as label": (
        "x.jsonl",
        '{"text": "a", "label": {"x": 1}}',
        r"line 1: label .* is a dict; give a string",
    ),
    "multi-hot lists of differing length": (
        "x.jsonl",
        '{"text": "a", "label": [1, 0, 1]}\n{"text": "b", "label": [0, 1]}',
        r"x\.jsonl, line 2: 2 zeros and ones where the first row has 3",
    ),
    "no label at all": (
        "x.jsonl",
        '{"text": "a", "label": []}\n{"text": "b", "label": []}',
        "no row has any label",
    ),
    "mixed label lists": ("x.jsonl", '{"text": "a", "label": [1, "x"]}', "lists hold integers and strings"),
    "null in a label list": (
        "x.jsonl",
        '{"text": "a", "label": [null]}',
        "line 1: None in the list of labels",
    ),
    "not Parquet": ("x.parquet", b"text,label\n", r"x\.parquet: not a Parquet file"),
}


@pytest.mark.parametrize("case", FILES)
def test_bad_file(tmp_path: Path, case: str) -> None:
    name, content, message = FILES[case]
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    options = {"text": "id"} if case == "numbers as text" else {}
    with pytest.raises(DataError, match=message) as caught:
        load(path, **NONE, **options)
    assert len(str(caught.value).splitlines()) == 1


def test_missing_file(tmp_path: Path) -> None:
    (tmp_path / "reviews.csv").write_text("text,label\n")
    with pytest.raises(DataError, match=r"revews\.csv: no such file \(did you mean 'reviews\.csv'\?\); check the path"):
        load(tmp_path / "revews.csv")
    with pytest.raises(DataError, match=r"nothing/x\.csv: no such file; check the path"):
        load(str(tmp_path / "nothing" / "x.csv"))
    with pytest.raises(DataError, match=r"^'' is no path, for it is empty; check the path$"):
        load("")  # not the working folder
    for text in ("x" * 300, "a text " * 100):
        with pytest.raises(DataError, match="check the path"):
            load(text)


@pytest.mark.parametrize("name", ["org/name@main", "org/name:en", "https://huggingface.co/datasets/org/name"])
def test_a_hub_name_with_more_than_the_name(name: str) -> None:
    with pytest.raises(DataError, match=r"is given by its name alone, such as org/name, beside revision"):
        load(name)


@pytest.mark.parametrize("name", ["C:/data/x.csv", "reviews@2024.csv", "https://example.org/x.csv"])
def test_other_names_with_such_marks_are_paths(name: str) -> None:
    with pytest.raises(DataError, match=r"no such file; check the path$"):
        load(name)


def test_hub_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(*_: Any, **__: Any) -> None:
        raise ConnectionError("Couldn't reach 'org/name' on the Hub (OfflineModeIsEnabled)\nmore")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(DataError, match=r"'org/name': no such file or folder, .*Couldn't reach .*HF_HUB_OFFLINE"):
        load("org/name")


def test_folder_without_train(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no train file .it holds nothing.; name one train.csv"):
        load(tmp_path)
    (tmp_path / "test.csv").write_text("text,label\na,0\n")
    with pytest.raises(DataError, match=r"no train file \(it holds 'test\.csv'\).*, or say which it is \(splits, or -"):
        load(tmp_path)


def test_two_files_for_one_split(tmp_path: Path) -> None:
    for name, text in (("train.csv", "train"), ("dev.csv", "dev"), ("eval.csv", "eval"), ("valid.csv", "valid")):
        (tmp_path / name).write_text(f"text,label\n{text},0\nb,1\n")
    (tmp_path / "dev.tsv").write_text("text\tlabel\na\t0\nb\t1\n")
    data = load(tmp_path, test=0)
    assert "valid" in data.splits["validation"]["text"]
    assert any("files that are not used: 'dev.csv', 'dev.tsv', 'eval.csv'" in note for note in data.notes)
    (tmp_path / "valid.tsv").write_text("text\tlabel\na\t0\nb\t1\n")
    with pytest.raises(DataError, match=r"both 'valid\.csv' and 'valid\.tsv' are the validation split; keep one"):
        load(tmp_path)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_label_outside_train(tmp_path: Path, split: str) -> None:
    (tmp_path / "train.csv").write_text("text,label\na,x\nb,y\n")
    (tmp_path / f"{split}.csv").write_text("text,label\na,x\nb,z\n")
    with pytest.raises(DataError, match=rf"{split}\.csv, line 3: label 'z' is in {split} but not in train; add"):
        load(tmp_path, **NONE)
    multi = {"train": (["a", "b"], [["x"], ["y"]]), split: (["c"], [["x", "z"]])}
    with pytest.raises(DataError, match=rf"split '{split}', row 1: label 'z' is in {split} but not in train"):
        load(multi, **NONE)


def test_declared_class_without_training_rows() -> None:
    names = datasets.ClassLabel(names=["a", "b", "c"])
    features = datasets.Features({"text": datasets.Value("string"), "label": names})
    train, test = (
        datasets.Dataset.from_dict({"text": ["x", "y"], "label": labels}, features=features)
        for labels in ([0, 1], [0, 2])
    )
    with pytest.raises(DataError, match="split 'test', row 2: label 'c' is in test but not in train"):
        load({"train": train, "test": test}, **NONE)


def test_bad_other_split(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text,label\na,x\nb,y\n")
    test = tmp_path / "test.csv"
    test.write_text("text,lable\na,x\n")
    with pytest.raises(DataError, match=r"test\.csv: no column 'label' for label \(did you mean 'lable'\?\)"):
        load(tmp_path, **NONE)
    test.write_text("text,label\n")
    with pytest.raises(DataError, match=r"test\.csv: there are no rows; give at least one, or leave"):
        load(tmp_path, **NONE)


def test_label_with_one_example() -> None:
    source = (["a", "b", "c", "d", "e"], ["x", "x", "x", "x", "y"])
    with pytest.raises(
        DataError,
        match=r"the lists: label 'y' has one example, .* test and no validation .*test=0 and validation=0",
    ):
        load(source)
    with pytest.raises(DataError, match=r"pass test=0$"):
        load(source, validation=0)
    with pytest.raises(DataError, match=r"\(and 4 more\).*or problem='regression'"):
        load((["a", "b", "c", "d", "e"], [10, 20, 30, 40, 50]))
    assert len(load(source, **NONE).splits["train"]) == 5, "without a cut one example will do"


@pytest.mark.parametrize("options", [{"text": "txt"}, {"text_pair": "txt"}, {"label": "txt"}])
def test_unknown_column_option(options: dict[str, str]) -> None:
    role = next(iter(options))
    message = rf"no column 'txt' for {role} \(did you mean 'text'\?\); name one of 'text', 'label'"
    with pytest.raises(DataError, match=message):
        load((["a", "b"], [0, 1]), **options, **NONE)


def test_one_column_for_two_roles() -> None:
    with pytest.raises(OptionError, match="one column cannot be two of text, text_pair and label"):
        load((["a", "b"], [0, 1]), text="label", label="label", **NONE)


@pytest.mark.parametrize("option", ["validation", "test"])
@pytest.mark.parametrize("value", [-0.1, 1.0, 20, float("nan"), True, "0.1"])
def test_share_out_of_range(option: str, value: Any) -> None:
    with pytest.raises(OptionError, match=f"{option}={value!r}: give the share .* from 0 to below 1"):
        load((["a", "b"], [0, 1]), **{option: value})


def test_other_options_out_of_range() -> None:
    source = (["a", "b"], [0, 1])
    with pytest.raises(OptionError, match=r"validation=0\.5 and test=0\.5 leave no rows to train on"):
        load(source, validation=0.5, test=0.5)
    with pytest.raises(OptionError, match="seed=-1: give an integer of zero or more"):
        load(source, seed=-1)
    with pytest.raises(OptionError, match="problem='binary' is unknown; choose one of single_label, multi_label"):
        load(source, problem="binary")  # type: ignore[arg-type]


@pytest.mark.parametrize("cell", ["['joy', 'anger']", "[0, 1]", '["joy"]', "[]", "[0.5 -1]"])
def test_a_csv_file_holds_no_lists_of_labels(tmp_path: Path, cell: str) -> None:
    path = tmp_path / "x.csv"
    with path.open("w", newline="") as handle:
        csv.writer(handle).writerows([["text", "label"], ["a", "joy"], ["b", cell]])
    with pytest.raises(DataError, match=r"x\.csv, line 3: column 'label' holds .*, a list, which .*JSON lines or Parq"):
        load(path, **NONE)
    path.write_text("text,label\na,[NEG]\nb,[+]\n")
    assert load(path, **NONE).labels == ("[+]", "[NEG]")


@pytest.mark.parametrize("odd", ["NA", "#N/A", "n/a", "-", "3,5"])
def test_a_label_that_is_no_number_does_not_make_classes_of_numbers(tmp_path: Path, odd: str) -> None:
    cells = ["1", "1.5", "2", odd, odd, "4.5"]
    (tmp_path / "x.csv").write_text("text,label\n" + "".join(f'text {i},"{cell}"\n' for i, cell in enumerate(cells)))
    message = (
        rf"x\.csv, line 5: label '{odd}' is no number, and most labels are; mend it, take the row out, or pass "
        r"problem='single_label' \(--problem single_label\) to make classes"
    )
    with pytest.raises(DataError, match=message):
        load(tmp_path / "x.csv", **NONE)
    assert len(load(tmp_path / "x.csv", problem="single_label", **NONE).labels) == 5


def test_decimals_with_a_comma_are_no_classes(tmp_path: Path) -> None:
    (tmp_path / "x.tsv").write_text("text\tlabel\na\t1\nb\t1,5\nc\t-2,5\nd\tNA\n")
    with pytest.raises(
        DataError,
        match=r"x\.tsv, line 3: label '1,5' is a number with a comma, or two .* with a point, lists .*, or",
    ):
        load(tmp_path / "x.tsv", **NONE)
    assert load(tmp_path / "x.tsv", problem="single_label", **NONE).labels == ("-2,5", "1", "1,5", "NA")


@pytest.mark.parametrize("odd", [-1, 2, -1.0])
def test_zeros_and_ones_hold_nothing_else(odd: float) -> None:
    rows = [{"text": f"text {i}", "label": [i % 2, 1, 0, 0]} for i in range(6)]
    rows[4] = {"text": "text", "label": [0, 1, odd, 1]}
    with pytest.raises(
        DataError, match=rf"the rows, row 5: {int(odd)} in the list of labels is not 0 or 1; mend it, or"
    ):
        load(rows, **NONE)


def test_an_index_given_twice_counts_once() -> None:
    rows = [{"text": f"text {i}", "label": [1 + i % 3, 3]} for i in range(6)]
    assert load(rows, **NONE).labels == ("1", "2", "3")


def test_indices_of_labels_are_not_negative() -> None:
    with pytest.raises(DataError, match="row 2: -1 in the list of labels is no index; mend it"):
        load((["a", "b"], [[0, 2], [-1]]), **NONE)


def test_problem_that_does_not_fit(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"'multi_label' needs a list of labels in each row \(as .*\); .* holds int"):
        load((["a", "b"], [0, 1]), problem="multi_label", **NONE)
    with pytest.raises(OptionError, match=r"'regression' needs one label in each row; .* holds lists"):
        load((["a", "b"], [[0], [1]]), problem="regression", **NONE)
    path = tmp_path / "x.csv"
    path.write_text("text,label\na,3.5\nb,4.x\n")
    with pytest.raises(DataError, match=r"x\.csv, line 3: label '4\.x' is not a number, as regression needs"):
        load(path, problem="regression", **NONE)
    asked = load({"text": ["a", "b"], "label": ["3", "4"]}, problem="regression", **NONE)
    assert asked.splits["train"]["label"][:] == [3.0, 4.0], "numbers that became texts, and are meant as numbers"


def test_too_few_rows_to_cut() -> None:
    with pytest.raises(DataError, match="the lists, cutting out test: 1 row cannot be divided"):
        load((["a"], [0.5]))
    with pytest.raises(DataError, match="cutting out validation of what is left after test: 1 row cannot be divided"):
        load((["a", "b"], [0.5, 0.7]))


def test_bad_objects() -> None:
    with pytest.raises(DataError, match=r"the lists: lengths differ \('text' has 2, 'label' has 1 values\)"):
        load((["a", "b"], [0]))
    with pytest.raises(DataError, match=r"the columns: lengths differ \('text' has 1, 'label' has 2"):
        load({"text": ["a"], "label": [0, 1]})
    with pytest.raises(DataError, match="the columns: 'text' is a str, not a list of values"):
        load({"text": "a", "label": [0]})
    with pytest.raises(DataError, match="the columns: 'label' is a int64, not a list of values"):
        load({"text": ["a"], "label": numpy.int64(0)})
    with pytest.raises(DataError, match="cannot read int as a table; give a path, a DataFrame"):
        load(3)
    with pytest.raises(DataError, match="cannot read list as a table"):
        load([("a", 0), ("b", 1), ("c", 0)])
    with pytest.raises(DataError, match=r"unknown split 'tets' \(did you mean 'test'\?\) beside 'train'; splits are"):
        load({"train": (["a"], [0]), "tets": (["a"], [0])})
    with pytest.raises(DataError, match=r"no split 'train' .given: 'test'.; give one"):
        load({"test": (["a"], [0])})
    with pytest.raises(DataError, match="two splits mean 'validation'"):
        load({"train": (["a"], [0]), "dev": (["a"], [0]), "valid": (["a"], [0])})


def test_bad_frames() -> None:
    frame = pandas.DataFrame([["a", "b", 0]], columns=["text", "text", "label"])
    with pytest.raises(DataError, match="the DataFrame: two columns are named 'text'"):
        load(frame)
    holes = pandas.DataFrame({"text": ["a", float("nan"), "c"], "label": [0.0, 1.0, float("nan")]})
    with pytest.raises(DataError, match="the DataFrame, row 2: no text in column 'text'"):
        load(holes)
    with pytest.raises(DataError, match="the DataFrame, row 3: no label in column 'label'"):
        load(holes.assign(text="a"))
    with pytest.raises(DataError, match=r"the DataFrame, row 1: column 'text' holds b'a' .bytes., not text"):
        load(holes.assign(text=b"a", label=0))


def test_class_index_without_a_name() -> None:
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["a", "b"])})
    rows = datasets.Dataset.from_dict({"text": ["x", "y", "z"], "label": [0, -1, 1]}, features=features)
    with pytest.raises(DataError, match="the Dataset, row 2: no label in column 'label'"):
        load(rows, **NONE)


def test_no_split_is_left_without_rows() -> None:
    rows = [{"text": f"text {i}", "label": f"class {i % 40}"} for i in range(80)]
    with pytest.raises(DataError, match=r"with a row of each class in every other split none is left for validation"):
        load(rows)
    read = load(rows, validation=0)
    assert {split: len(part) for split, part in read.splits.items()} == {"train": 40, "test": 40}


@pytest.mark.parametrize("separator", ["\t", "|"])
def test_another_separator_is_named_also_where_texts_hold_commas(tmp_path: Path, separator: str) -> None:
    file = tmp_path / "other.csv"
    file.write_text(f"text{separator}label\nwell, fine{separator}1\nno{separator}0\n")
    with pytest.raises(
        DataError, match=r"line 1: fields seem to be separated by .*; (name .*, or )?write them with ','"
    ):
        load(file)


@pytest.mark.parametrize("wrap", [lambda rows: rows, lambda rows: {k: [r[k] for r in rows] for k in rows[0]}])
def test_a_hole_of_a_data_frame_is_a_missing_text(wrap: Any) -> None:
    rows = [{"text": "a", "label": 1}, {"text": float("nan"), "label": 0}]
    with pytest.raises(DataError, match=r"row 2: no text in column 'text'; fill it in"):
        load(wrap(rows))


@pytest.mark.parametrize("wrap", [lambda rows: rows, lambda rows: {k: [r[k] for r in rows] for k in rows[0]}])
def test_a_value_that_pandas_calls_missing_is_a_missing_label(wrap: Any) -> None:
    rows = [{"text": "a", "label": 1}, {"text": "b", "label": pandas.NA}]
    with pytest.raises(DataError, match=r"row 2: no label in column 'label'; fill it in"):
        load(wrap(rows))


def test_a_split_may_not_be_an_empty_list() -> None:
    rows = [{"text": f"text {i}", "label": i % 2} for i in range(8)]
    with pytest.raises(DataError, match="split 'test': there are no rows; give at least one, or leave the split out"):
        load({"train": rows, "test": []})


def test_a_blank_label_in_a_list_is_refused() -> None:
    with pytest.raises(DataError, match=r"row 2: '' in the list of labels is no string and no integer"):
        load([{"text": "a", "label": ["x", "y"]}, {"text": "b", "label": ["  ", "y"]}], validation=0, test=0)


def test_the_configurations_of_a_hub_set_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def several(*arguments: Any, **options: Any) -> None:
        raise ValueError("Config name is missing.\nPlease pick one among the available configs: ['cola', 'sst2']\nmore")

    monkeypatch.setattr(datasets, "load_dataset", several)
    with pytest.raises(DataError, match=r"missing\. Please pick one among .*\['cola', 'sst2'\]\);"):
        load("org/name")


@pytest.mark.parametrize("closed", ["iterdir", "is_file"])
def test_a_folder_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed: str) -> None:
    (tmp_path / "train.csv").write_text("text,label\na,x\nb,y\n")

    def refuse(path: Path) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, closed, refuse)
    with pytest.raises(DataError, match=rf"{tmp_path}: cannot be read \(Permission denied\); check its permissions"):
        load(tmp_path)


def test_a_file_is_missed_in_a_folder_that_may_not_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(DataError, match=r"review\.csv: no such file; "):
        load(tmp_path / "review.csv")
