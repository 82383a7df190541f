"""Texts and pairs of texts that are to be predicted, from every source."""

from __future__ import annotations

import decimal
from collections.abc import Callable
from pathlib import Path

import pandas
import pyarrow
import pytest
import tiny
from data_helpers import ROWS, TEXTS, write_csv

import adapt
import adapt.data
from adapt.data import load, read_inputs, read_texts
from adapt.data.general import read_general
from adapt.spec import DataError, Source, Task

SINGLE = Task("texts", Source("texts", "0" * 64))
PAIR = Task("texts", Source("texts", "0" * 64), pair=True)


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


def test_rows_are_those_of_the_lines_of_plain_text(tmp_path: Path) -> None:
    """So that a blank line is not passed over, but where documents are parted or the file ends."""
    file = tmp_path / "x.txt"
    file.write_text("a\r\nb\r\n\r\n \t\n")
    for read in (read_inputs(file, SINGLE), read_texts(file)):
        assert list(read["text"]) == ["a", "b"]
    file.write_text("a\n\n \nb\n")
    expected = r"x\.txt, line 2: no text in column 'text' \(and in 1 more rows\); fill it in or take the row out$"
    with pytest.raises(DataError, match=expected):
        read_inputs(file, SINGLE)
    with pytest.raises(DataError, match=expected):
        read_texts(file)
    assert list(read_inputs(file, SINGLE, every_line=False)["text"]) == ["a", "b"]
    prompts = Task("texts", Source("texts", "0" * 64), kind="causal_lm", problem="completion")
    assert list(read_inputs(file, prompts)["prompt"]) == ["a", "", "", "b"], "as of a CSV file"
    assert read_general(file).texts == ("a", "b")
    assert list(adapt.data.load(file, kind="mlm", validation=0, test=0).splits["train"]["text"]) == ["a", "b"]


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


def test_tables_of_other_packages_are_read_as_pandas_reads_them() -> None:
    rows = {"text": [f"row {i}" for i in range(20)], "label": ["good", "bad"] * 10}
    made = load(pyarrow.table(rows))
    assert made.sha256 == load(pandas.DataFrame(rows)).sha256
    for pair in (
        (pandas.DataFrame(rows)[["text"]], pandas.Series(rows["label"])),
        {"train": (pandas.DataFrame(rows)[["text"]], rows["label"])},
    ):
        with pytest.raises(
            DataError, match=r"give texts and labels as two Series \(df\['text'\], not df\[\['text'\]\]\)"
        ):
            load(pair)
    with pytest.raises(DataError, match=r"cannot read decimal.Decimal as a table"):
        load(decimal.Decimal(1))
