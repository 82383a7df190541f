"""Heads measured over a file and the maps of its first rows, from Python and from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

import adapt
from adapt.cli import cli
from adapt.extraction import heads, report_heads
from adapt.spec import AdaptError, DataError, OptionError

TEXTS = ["a fine, kind film", "a dull <b>film</b>", "ships and towns"]


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    file = tmp_path / "rows.csv"
    file.write_text("text,label\n" + "".join(f'"{text}",x\n' for text in TEXTS), encoding="utf-8")
    return file


def command(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["attention", *map(str, arguments)])


def test_measures_are_of_all_rows_and_maps_of_the_first(rows: Path, tmp_path: Path) -> None:
    file = tmp_path / "new" / "maps.json"
    found, written = report_heads("tiny-encoder", rows, file, max_rows=2, layers="1,3")
    assert written == 2
    maps = adapt.attention("tiny-encoder", TEXTS, layers=[1, 3])
    assert found.to_json() == heads(maps).to_json()
    content = json.loads(file.read_text(encoding="utf-8"))
    assert content["heads"] == found.to_json()
    assert [m["tokens"] for m in content["maps"]] == [list(attention.tokens) for attention in maps[:2]]
    for one, attention in zip(content["maps"], maps, strict=False):
        np.testing.assert_allclose(one["weights"], attention.weights, atol=1e-6)
        assert (one["layers"], one["special"]) == ([1, 3], sorted(attention.special))


def test_the_command_prints_the_table_and_writes_the_page(rows: Path, tmp_path: Path) -> None:
    done = command("tiny-encoder", "--input", rows, "--output", tmp_path / "maps.html", "--layers", "last")
    assert done.exit_code == 0
    assert done.stdout == heads(adapt.attention("tiny-encoder", TEXTS, layers="last")).table() + "\n"
    text = (tmp_path / "maps.html").read_text(encoding="utf-8")
    assert text.count("<section>") == 3
    assert done.stderr == f"Maps of 3 rows: {tmp_path / 'maps.html'}\n"
    assert "<title>Attention of tiny-encoder</title>" in text
    without = command("tiny-encoder", "--input", rows, "--layers", "last")
    assert without.stdout == done.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"rows.csv", "maps.html"}


def test_maps_are_no_more_than_a_browser_opens(rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from adapt.extraction import report

    for suffix in (".html", ".json"):
        size = sum(report._bytes(attention, suffix) for attention in adapt.attention("tiny-encoder", TEXTS))
        for most, expected in ((size, 3), (size - 1, 2), (1, 1)):
            monkeypatch.setitem(report._MOST, suffix, most)
            measures, written = report_heads("tiny-encoder", rows, tmp_path / f"maps{suffix}")
            assert (written, measures.texts) == (expected, 3)
            text = (tmp_path / f"maps{suffix}").read_text(encoding="utf-8")
            assert text.count("<section>" if suffix == ".html" else '"weights"') == expected


@pytest.mark.parametrize("layers", ["all", "last"])
@pytest.mark.parametrize("suffix", [".html", ".json"])
def test_a_file_is_about_as_large_as_it_is_taken_for(suffix: str, layers: str, tmp_path: Path) -> None:
    from adapt.extraction import report

    texts, file = ["good day " * 60], tmp_path / f"maps{suffix}"
    (attention,) = adapt.attention("tiny-encoder", texts, layers=layers)
    report_heads("tiny-encoder", texts, file, layers=layers)
    assert file.stat().st_size == pytest.approx(report._bytes(attention, suffix), rel=0.1)


def test_a_column_can_be_named(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("said,number\nkind ships,1\n", encoding="utf-8")
    done = command("tiny-encoder", "--input", file, "--text", "said", "--layers", "1")
    assert "tokens of 1 text." in done.stdout


def test_bad_input_is_one_error(rows: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty.csv"
    empty.write_text("text,label\nfine,x\n,x\n", encoding="utf-8")
    for arguments, message in (
        (("tiny-encoder", "--input", rows, "--layers", "9"), "There is no layer 9"),
        (("tiny-encoder", "--input", rows, "--layers", "0"), "have no attention"),
        (("tiny-encoder", "--input", empty), r"empty\.csv, line 3: no text in column"),
        (("tiny-encoder", "--input", tmp_path / "none.csv"), "no such file"),
        (("tiny-encoder", "--input", rows, "--max-rows", "0"), "max_rows is 0; give a whole number of at least 1"),
        (("tiny-encoder", "--input", rows, "--output", rows), "is the input, which would be lost"),
        (("tiny-encoder", "--input", rows, "--output", tmp_path), r"write to \.html or \.json"),
        ((tmp_path, "--input", rows), "has no config.json"),
    ):
        error = command(*arguments).exception
        assert isinstance(error, AdaptError)
        with pytest.raises(AdaptError, match=message):
            raise error
    (tmp_path / "maps.html").mkdir()
    with pytest.raises(OptionError, match="is a folder; give a file"):
        report_heads("tiny-encoder", rows, tmp_path / "maps.html")
    given = rows.rename(rows.with_suffix(".json"))
    with pytest.raises(OptionError, match="is the input, which would be lost"):
        report_heads("tiny-encoder", given, given)


def test_a_file_without_rows_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("text,label\n", encoding="utf-8")
    with pytest.raises(DataError, match="no row"):
        report_heads("tiny-encoder", file)
