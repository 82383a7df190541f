"""CSV, TSV and JSON files: quotes, types, long fields, blank lines."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path
from typing import Any

import datasets
import pandas
import pyarrow
import pyarrow.parquet
import pytest
from data_helpers import NONE, ROWS, TEXTS, columns, write_csv, write_jsonl

import adapt
import adapt.data
from adapt.data import load, read_inputs
from adapt.data.files import read_file
from adapt.spec import DataError, Source, Task


def test_csv_and_jsonl_splits_agree_on_types(tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", [{"text": "a", "label": 0}, {"text": "b", "label": 1}])
    write_jsonl(tmp_path / "test.jsonl", [{"text": "c", "label": 1}])
    assert columns(load(tmp_path, validation=0), "test") == {"text": ["c"], "label": [1]}
    write_jsonl(tmp_path / "test.jsonl", [{"text": "c", "label": "1"}])
    assert columns(load(tmp_path, validation=0), "test") == {"text": ["c"], "label": [1]}
    write_csv(tmp_path / "train.csv", [{"text": "a", "label": 1.5}, {"text": "b", "label": 2.5}])
    write_jsonl(tmp_path / "test.jsonl", [{"text": "c", "label": 2.5}])
    assert columns(load(tmp_path, validation=0, problem="single_label"), "test")["label"] == [1]


def test_long_fields_and_blank_lines(tmp_path: Path) -> None:
    before = csv.field_size_limit(131_072)
    long = "long " * 40_000
    path = tmp_path / "x.csv"
    path.write_text(f"text,label\r\n{long},0\r\n\r\nb,1\r\n  \r\n\r\n", newline="")
    assert columns(load(path, **NONE)) == {"text": [long, "b"], "label": [0, 1]}
    assert csv.field_size_limit(before) == 131_072, "the setting of the whole process is put back"
    path = tmp_path / "x.jsonl"
    path.write_text('\n{"text": "a", "label": 0}\n\n{"label": 1, "text": "b", "more": null}\n')
    assert columns(load(path, **NONE)) == {"text": ["a", "b"], "label": [0, 1]}


def test_a_json_file_may_hold_one_array_as_pandas_writes_it(tmp_path: Path) -> None:
    pandas.DataFrame(ROWS).to_json(tmp_path / "x.json", orient="records", indent=2)
    assert columns(load(tmp_path / "x.json", **NONE)) == columns(load(write_csv(tmp_path / "x.csv", ROWS), **NONE))
    (tmp_path / "y.json").write_text('[{"text": "a", "label": 1}, {"label": 0, "text": ""}]')
    with pytest.raises(DataError, match=r"y\.json, row 2: no text in column 'text'"):
        load(tmp_path / "y.json", **NONE)


@pytest.mark.parametrize("orient", ["columns", "index", "split", "table"])
def test_a_json_object_that_holds_all_rows_is_refused(tmp_path: Path, orient: Any) -> None:
    pandas.DataFrame(ROWS).to_json(tmp_path / "x.json", orient=orient, indent=2)
    with pytest.raises(DataError, match=r"x\.json: one JSON object that holds all rows, .* orient='records'"):
        load(tmp_path / "x.json", **NONE)


def test_a_json_object_of_objects_may_be_one_row(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"translation": {"en": "a", "de": "b"}}')
    data = load(tmp_path / "x.json", columns={"source": "en", "target": "de"}, **NONE)
    assert columns(data) == {"source": ["a"], "target": ["b"], "references": [["b"]]}


def test_csv_files_are_read_where_a_c_long_has_32_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_limit = csv.field_size_limit

    def of_32_bits(limit: int) -> int:
        if limit > 2**31 - 1:
            raise OverflowError("Python int too large to convert to C long")
        return set_limit(limit)

    monkeypatch.setattr(csv, "field_size_limit", of_32_bits)
    assert columns(load(write_csv(tmp_path / "x.csv", ROWS), **NONE))["text"] == TEXTS


def test_csv_may_be_separated_by_semicolons_as_excel_does_where_commas_are_decimal_signs(tmp_path: Path) -> None:
    file = tmp_path / "tickets.csv"
    rows = ["text;label;date", "gut, sehr gut;ja;3,5", '"nein; ""nie""";nein;', "so lala, na ja;nein;2", "fein;ja;1"]
    file.write_text("\r\n".join(rows), encoding="utf-8-sig", newline="")
    read = load(file, validation=0, test=0).splits["train"]
    assert list(read["text"]) == ["gut, sehr gut", 'nein; "nie"', "so lala, na ja", "fein"]
    file.write_text("\n".join([*rows, "a; b;ja;"]))
    with pytest.raises(DataError, match=r"line 6: 4 fields where the header has 3; put double quotes .* ';'"):
        load(file, validation=0, test=0)


def test_a_header_in_quotes_may_be_separated_by_semicolons_too(tmp_path: Path) -> None:
    file = tmp_path / "r.csv"
    file.write_text('"";"text";"label"\n"1";"gut, sehr gut";"ja"\n"2";"so; la";"nein"\n')
    read = load(file, validation=0, test=0)
    assert (list(read.splits["train"]["text"]), read.labels) == (["gut, sehr gut", "so; la"], ("ja", "nein"))
    file.write_text('"text"\t"label"\n"a"\t"0"\n"b"\t"1"\n')
    with pytest.raises(DataError, match=r"fields seem to be separated by '\\t'; name the file \.tsv, or write them w"):
        load(file, validation=0, test=0)


@pytest.mark.parametrize("said", ["sep=;", '"sep=,"', "SEP=|", "sep=\t"])
def test_a_csv_file_may_say_what_separates_its_fields(tmp_path: Path, said: str) -> None:
    file, separator = tmp_path / "said.csv", said.strip('"')[-1]
    texts = ["a, b; c", "d\te|f"]
    rows = [["text", "label"], *([text, text[0]] for text in texts)]
    with file.open("w", newline="", encoding="utf-8-sig") as handle:
        handle.write(f"{said}\r\n")
        csv.writer(handle, delimiter=separator).writerows(rows)
    assert columns(load(file, **NONE)) == {"text": texts, "label": [0, 1]}
    with file.open("a", newline="") as handle:
        handle.write(separator * 2)
    with pytest.raises(DataError, match=r"said\.csv, line 5: 3 fields where the header has 2"):
        load(file)


def test_cells_that_a_spreadsheet_leaves_empty_are_no_rows_and_no_columns(tmp_path: Path) -> None:
    file = tmp_path / "sheet.csv"
    file.write_text("text,label,,\r\na,x,,\r\nb,y,, \r\n,,,\r\n ,,,\r\n", newline="")
    assert columns(load(file, **NONE)) == {"text": ["a", "b"], "label": [0, 1]}
    file.write_text("text,label\na,x\n,\nb,y\n")
    with pytest.raises(DataError, match=r"line 3: no text in column 'text'; fill it in or take the row out"):
        load(file, **NONE)


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


def test_lines_may_end_as_on_old_macs(tmp_path: Path) -> None:
    for name, text in {"x.txt": "a\rb\r", "x.csv": "text\ra\rb\r", "x.jsonl": '{"text": "a"}\r{"text": "b"}'}.items():
        (tmp_path / name).write_text(text, newline="")
        assert columns(load(tmp_path / name, kind="mlm", **NONE)) == {"text": ["a", "b"]}
    (tmp_path / "x.conll").write_text("Ada B-x\rsaw O\r\rBo B-x\r", newline="")
    assert columns(load(tmp_path / "x.conll", **NONE))["tokens"] == [["Ada", "saw"], ["Bo"]]


def test_lines_may_end_as_on_windows(tmp_path: Path) -> None:
    """Rows are the same, and stand at the same lines."""
    files = {
        "x.csv": 'text,label\na,0\n\n"b, c",1\nd,0\n', "one.csv": "text\na\n\nb\n",
        "semicolons.csv": "text;label\na;0\nb;1\n", "said.csv": "sep=;\ntext;label\na;0\n",
        "x.tsv": 'text\tlabel\na\t0\n"b"\t1\n', "x.txt": "a\n\nb\n", "x.jsonl": '{"text": "a"}\n\n{"text": "b"}\n',
        "x.json": '[\n{"text": "a"},\n{"text": "b"}\n]\n', "x.conll": "# one\nAda B-x\nsaw O\n\n\nBo B-x\n",
    }  # fmt: skip
    for name, text in files.items():
        found = []
        for end in ("\n", "\r\n"):
            (tmp_path / name).write_text(text.replace("\n", end), newline="")
            table = read_file(tmp_path / name)
            found.append((table.rows, {each: table.column(each) for each in table.names}, table.lines))
        assert found[0] == found[1], name


def test_line_breaks_within_a_quoted_field_are_kept_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text('text,label\r\n"a\r\nb",0\r\n"c\nd",1\r\n"e\rf",0\r\n', newline="")
    table = read_file(tmp_path / "x.csv")
    assert (table.column("text"), table.lines) == (["a\r\nb", "c\nd", "e\rf"], [2, 4, 6])


def test_a_carriage_return_amid_a_line_ends_no_row(tmp_path: Path) -> None:
    """pandas writes it without quotation marks; rows that are predicted would be others than those of the file."""
    pandas.DataFrame({"text": ["a\rb", "c"]}).to_csv(tmp_path / "x.csv", index=False)
    pandas.DataFrame({"text": ["a\rb", "c"], "label": [0, 1]}).to_csv(tmp_path / "x.tsv", index=False, sep="\t")
    for name in ("x.csv", "x.tsv"):
        with pytest.raises(DataError, match=r", line 2: a field holds a carriage return; put double quotes around it$"):
            read_file(tmp_path / name)
    (tmp_path / "one.csv").write_text('text\n"a\rb"\nc\r\r\n', newline="")
    assert read_file(tmp_path / "one.csv").column("text") == ["a\rb", "c"]


def test_a_parquet_file_that_is_damaged_within_is_told(tmp_path: Path) -> None:
    file = tmp_path / "x.parquet"
    table = pyarrow.table({"text": [f"text {i}" for i in range(200)], "label": [i % 2 for i in range(200)]})
    for compression, at, byte in (("snappy", 4, 0), ("none", 200, 0xFF)):
        pyarrow.parquet.write_table(table, file, compression=compression, use_dictionary=False)
        content = bytearray(file.read_bytes())
        content[at] = byte
        file.write_bytes(content)
        with pytest.raises(DataError, match=r"^[^\n]*x\.parquet: not a Parquet file that can be read [^\n]*again$"):
            load(file)


def test_plain_text_is_one_text_a_line(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_bytes('\ufeffone, two\r\n\r\n "three\u2028four" \n'.encode())
    (tmp_path / "LICENSE.txt").write_text("as you like")
    texts = {"text": ["one, two", '"three\u2028four"']}
    data = load(tmp_path, kind="mlm", **NONE)
    assert (columns(data), data.problem, data.notes) == (texts, "masked", ())
    assert load(tmp_path / "train.txt", kind="mlm", **NONE).sha256 == data.sha256
    assert columns(load(tmp_path, kind="causal_lm", **NONE))["completion"] == texts["text"]
    with pytest.raises(DataError, match=r"no label column .* or for text without labels name the kind: masked_lm or"):
        load(tmp_path)
    with pytest.raises(DataError, match=r"no tokens column .* of CoNLL data let the file's name end in \.conll"):
        load(tmp_path, kind="ner")
    for name in ("dev.txt", "validation.txt"):
        (tmp_path / name).write_text(name)
    assert columns(load(tmp_path, kind="mlm", test=0), "validation") == {"text": ["validation.txt"]}
    write_csv(tmp_path / "train.csv", ROWS)  # a table goes before text
    both = load(tmp_path, **NONE)
    assert columns(both)["text"] == TEXTS
    assert both.notes[0].startswith("files that are not used: 'dev.txt', 'train.txt'; ")


def test_files_may_be_packed_by_gzip(tmp_path: Path) -> None:
    plain, packed = tmp_path / "plain", tmp_path / "packed"
    for folder in (plain, packed):
        folder.mkdir()
    write_csv(plain / "train.csv", ROWS)
    write_jsonl(plain / "Dev.jsonl", ROWS[:2])
    (plain / "test.tsv").write_text(f"text\tlabel\nnew\t{ROWS[0]['label']}\n")
    for file in plain.iterdir():
        (packed / f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
    found, expected = load(packed), load(plain)
    assert (found.sha256, found.notes) == (expected.sha256, expected.notes)
    one = load(packed / "train.csv.gz", **NONE)
    assert (one.name, columns(one)) == ("train", columns(load(plain / "train.csv", **NONE)))
    assert load(packed, splits={"test": "Dev"}).splits["test"].num_rows == 2
    (packed / "train.tsv.gz").write_bytes(b"")
    with pytest.raises(DataError, match=r"both 'train\.csv\.gz' and 'train\.tsv\.gz' are the train split; keep one"):
        load(packed)
    (packed / "train.csv").write_bytes((plain / "train.csv").read_bytes())
    told = "files that are not used: 'train.csv.gz', 'train.tsv.gz'"
    assert [note for note in load(packed).notes if told in note]


@pytest.mark.parametrize("files", [["a.txt", "b.txt"], ["a.csv", "b.csv.gz", "c.parquet"]])
def test_a_list_of_file_names_is_no_list_of_texts(files: list[str]) -> None:
    for source in (files, {"train": files}):
        with pytest.raises(DataError, match=r"a list of file names \('a\..*\), which .*; give one file, or a folder"):
            load(source, kind="mlm")
    assert columns(load([*files, "a text"], kind="mlm", **NONE)) == {"text": [*files, "a text"]}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv.gz", "text,label\na,1\n,0\n", r"x\.csv\.gz, line 3: no text in column 'text'"),
        ("x.json.gz", "", r"x\.json\.gz: the file is empty"),
        ("x.parquet.gz", "", r"x\.parquet\.gz: Parquet is not read packed.*; unpack it"),
        ("x.gz", "a", r"x\.gz: unknown kind of file '\.gz'"),
        ("x.tar.gz", "a", r"x\.tar\.gz: unknown kind of file '\.gz'"),
    ],
)
def test_a_packed_file_that_cannot_be_read_is_one_error(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_bytes(gzip.compress(content.encode()))
    with pytest.raises(DataError, match=message):
        load(tmp_path / name, **NONE)


@pytest.mark.parametrize("form", [list, tuple, pandas.Series])
def test_a_list_of_texts_needs_no_column(form: Any) -> None:
    texts = [f"text {i}" for i in range(10)]
    data = load(form(texts), kind="mlm", **NONE)
    assert (data.kind, columns(data)) == ("masked_lm", {"text": texts})
    splits = load({"train": form(texts), "test": form(["new"])}, kind="causal_lm", validation=0)
    assert columns(splits, "test") == {"prompt": [""], "completion": ["new"]}
    with pytest.raises(DataError, match=r"the texts: no label column found .* name the kind: masked_lm or causal_lm"):
        load(form(texts))
    with pytest.raises(DataError, match=r"the texts, row 11: no text"):
        load(form([*texts, None]), kind="mlm", **NONE)


def test_a_tsv_file_of_one_column(tmp_path: Path) -> None:
    file, task = tmp_path / "x.tsv", Task("x", Source("x", ""), labels=("a", "b"))

    def texts(content: str, **columns: str) -> list[str]:
        file.write_text(content)
        return list(read_inputs(file, task, columns)["text"])

    assert texts('text\na, b\n"c" d\n"e\n') == ["a, b", '"c" d', '"e']
    assert texts('text\n"a ""b"" c"\nd\n') == ['a "b" c', "d"]
    assert texts('"text"\n"a\nb"\n"c"\n') == ["a\nb", "c"], "where its name is quoted, so are its texts"
    with pytest.raises(DataError, match=r"x\.tsv, line 3: a quotation mark here and one some lines below .* \.jsonl"):
        texts('text\na\n"So what\nwho cares"\nb\n')
    assert texts("text, cleaned\na\nb, c\nd\n", text="text, cleaned") == ["a", "b, c", "d"]
    with pytest.raises(DataError, match=r"no text column found among 'a fine, long film' \(line 1 must name"):
        texts("a fine, long film\nbad\nlong\n")


@pytest.mark.parametrize(
    "formatted",
    [
        lambda rows: rows.with_format(None, columns=["text"]),
        lambda rows: rows.with_format("numpy"),
        lambda rows: rows.with_format("torch", columns=["label"]),
    ],
    ids=["columns", "numpy", "torch"],
)
def test_a_data_set_is_read_whatever_its_format(formatted: Any) -> None:
    rows = datasets.Dataset.from_dict({"text": ["a", "b", "c"], "label": [1, 0, 1]}).select([2, 1])
    assert columns(load(formatted(rows), **NONE)) == {"text": ["c", "b"], "label": [1, 0]}


def test_a_tsv_field_of_tabs_and_lines_is_not_two_rows(tmp_path: Path) -> None:
    file = tmp_path / "x.tsv"
    rows = '"first line\nsecond line\tcol"\tpos\nplain\tneg\n'
    file.write_text('"text"\t"label"\n' + rows)
    assert columns(load(file, **NONE))["text"] == ["first line\nsecond line\tcol", "plain"]
    file.write_text('label\ttext\npos\t"first line\nsecond line\tcol"\nneg\tplain\n')
    with pytest.raises(DataError, match=r"x\.tsv, line 2: a quotation mark here .* names too"):
        load(file, **NONE)
