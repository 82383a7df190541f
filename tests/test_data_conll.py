"""CoNLL files: comments, columns, white space."""

from __future__ import annotations

from pathlib import Path

import pytest
from data_helpers import NONE, columns

from adapt.data import load, read_inputs
from adapt.spec import DataError, Source, Task


def test_comments_of_conll_files_are_no_words(tmp_path: Path) -> None:
    (tmp_path / "x.conll").write_text(
        "# id abc\tdomain=en\nAda _ _ B-PER\nsaw _ _ O\n\n"
        "#\n# id d\tdomain=en\n# text = # saw\n# \n#\n# _ _ O\nsaw _ _ O\n"
    )
    (tmp_path / "y.conll").write_text("# B-PER\nsaw O\n\nit O\n# O\n")
    assert columns(load(tmp_path / "x.conll", **NONE))["tokens"] == [["Ada", "saw"], ["#", "saw"]]
    assert columns(load(tmp_path / "y.conll", **NONE))["tokens"] == [["#", "saw"], ["it", "#"]]
    as_wide = "".join(f"# sent_id = {i}\nAda N NP B-PER\nsaw V VP O\n\n" for i in range(9))
    (tmp_path / "z.conll").write_text(as_wide)
    assert columns(load(tmp_path / "z.conll", **NONE))["tokens"] == [["Ada", "saw"]] * 9


@pytest.mark.parametrize("between", [" ", "\t"])
@pytest.mark.parametrize(
    "comment",
    ["# Licence: free for all\n\n{}", "{}\n# the end\n", "# first\n-DOCSTART-\n\n{}", "# newpar\n\n{}"],
)
def test_comments_by_themselves_are_no_words(tmp_path: Path, comment: str, between: str) -> None:
    (tmp_path / "x.conll").write_text(comment.format(f"the{between}DET\ncat{between}NOUN\n\n#{between}SYM\n"))
    data = load(tmp_path / "x.conll", **NONE)
    assert (columns(data)["tokens"], data.labels) == ([["the", "cat"], ["#"]], ("DET", "NOUN", "SYM"))


def test_documents_of_several_files_are_different_ones(tmp_path: Path) -> None:
    for split in ("train", "dev", "test"):
        words = "".join(f"-DOCSTART- O\n\n{split}{i} B-x\nword O\n\n" for i in range(4))
        (tmp_path / f"eng.{split}.conll").write_text(words)
    files = {split: tmp_path / f"eng.{split}.conll" for split in ("train", "dev", "test")}
    data = load({"validation" if split == "dev" else split: file for split, file in files.items()},
                columns={"group": "document"})  # fmt: skip
    assert not data.notes
    assert list(data.splits["test"]["group"]) == [f"eng.test-{i}" for i in (1, 2, 3, 4)]


def test_tags_that_come_first_are_no_words(tmp_path: Path) -> None:
    (tmp_path / "x.bio").write_text("O\twho\nB-TITLE\tDie\nI-TITLE\tHard\n")
    with pytest.raises(DataError, match=r"x\.bio, line 1: the first field is a tag; write the word first"):
        load(tmp_path / "x.bio", **NONE)
    (tmp_path / "x.bio").write_text("O\tO\nB-12\tB-x\n")
    assert columns(load(tmp_path / "x.bio", **NONE))["tokens"] == [["O", "B-12"]]


def test_marks_of_documents_and_paragraphs_in_conll_files_are_no_words(tmp_path: Path) -> None:
    (tmp_path / "x.conll").write_text("# newdoc\n# newpar\nAda B-PER\nsaw O\n\n# newpar\nit O\n# newpar\n")
    assert columns(load(tmp_path / "x.conll", problem="tags", **NONE))["tokens"] == [["Ada", "saw"], ["it", "#"]]


def test_a_conll_file_with_tabs_is_read_by_them_alone(tmp_path: Path) -> None:
    file = tmp_path / "tabs.conll"
    file.write_text("# 123\nAda\tB-PER\nNew York\tB-LOC\n\n# newdoc\n# sent_id = 4\nit\tO\n")
    data = load(file, **NONE)
    assert columns(data)["tokens"] == [["Ada", "New York"], ["it"]]
    assert data.labels == ("O", "B-LOC", "B-PER")
    file.write_text("Ada\tB-PER\nNew York\nsaw\tO\n")
    with pytest.raises(DataError, match="line 2: one field where line 1 has a word and a tag"):
        load(file, **NONE)


def test_words_of_a_conll_file_may_hold_other_white_space(tmp_path: Path) -> None:
    words = ["10\u00a0000", "a\u3000b", "c"]
    (tmp_path / "x.conll").write_text("".join(f"{word}  O\n" for word in words) + "\u00a0\nd B-x \n", encoding="utf-8")
    (tmp_path / "y.conll").write_text("".join(f"{word}\tO\n" for word in words) + "\nd\tB-x\n", encoding="utf-8")
    for name in ("x", "y"):
        assert columns(load(tmp_path / f"{name}.conll", **NONE))["tokens"] == [words, ["d"]]


def test_numbers_of_words_are_no_words(tmp_path: Path) -> None:
    file = tmp_path / "words.conll"
    file.write_text(
        "# text = Who saw\n1\tWho\twho\tPRON\tWP\t_\t2\tnsubj\t_\t_\n2\tsaw\tsee\tVERB\tVBD\t_\t0\troot\t_\t_\n"
    )
    with pytest.raises(DataError, match=r"line 2: this looks like CoNLL-U, .* keep the fields FORM and UPOS"):
        load(file)
    rows = (["the", "cat"], ["1", "cat"])  # a word that is a number, in a file of ten columns
    lines = ["".join("\t".join([word, *"abcdefgh", word.upper()]) + "\n" for word in row) for row in rows]
    file.write_text("\n".join(lines))
    assert columns(load(file, kind="pos", validation=0, test=0))["tokens"] == [["the", "cat"], ["1", "cat"]]
    file.write_text("1\tAnna\tB-x\tO\n2\tsaw\tO\tO\n\n1\tBob\tB-x\tB-y\n")
    with pytest.raises(DataError, match=r"line 1: the first field numbers the words of each sentence; leave it out"):
        load(file)


_UNIT = [("1", "Chef", "NOUN"), ("2-3", "du", "_"), ("2", "de", "ADP"), ("3", "le", "DET")]
_NODES = [("0.1", "_", "_"), ("1", "he", "PRON"), ("1.1", "sees", "VERB"), ("2", "it", "PRON")]
_LONG = [("1-3", "ubayta", "_"), ("1", "u", "CCONJ"), ("2", "b", "ADP"), ("3", "bayta", "NOUN")]


@pytest.mark.parametrize("width", [3, 10])
@pytest.mark.parametrize("lines", [_UNIT, _NODES, _LONG])
def test_conllu_is_known_by_numbers_of_several_words_and_of_empty_nodes(
    tmp_path: Path, lines: list[tuple[str, str, str]], width: int
) -> None:
    sentence = "".join("\t".join([*line, *["_"] * (width - 3)]) + "\n" for line in lines)
    (tmp_path / "x.conll").write_text(f"# text = it\n{sentence}\n{sentence}")
    with pytest.raises(DataError, match=r"x\.conll, line 2: this looks like CoNLL-U, .*the lines of several words"):
        load(tmp_path / "x.conll", kind="pos", **NONE)


def test_ten_fields_with_numbers_first_are_conllu_in_any_order(tmp_path: Path) -> None:
    """As where an empty line is missing between two sentences, or words were taken out."""
    lines = ["\t".join([str(i), "w", *["_"] * 8]) for i in (1, 2, 1, 2, 4)]
    (tmp_path / "x.conll").write_text("\n".join(lines))
    with pytest.raises(DataError, match="this looks like CoNLL-U"):
        load(tmp_path / "x.conll", kind="pos", **NONE)


def test_words_that_are_numbers_are_words(tmp_path: Path) -> None:
    (tmp_path / "x.conll").write_text("1 - B-x\n2-3 - O\n\n10 - O\n11 - O\n")
    assert columns(load(tmp_path / "x.conll", **NONE))["tokens"] == [["1", "2-3"], ["10", "11"]]


@pytest.mark.parametrize("between", [" ", "\t"])
def test_a_mark_of_a_document_right_before_words_is_none_of_them(tmp_path: Path, between: str) -> None:
    words = "".join(f"{word}{between}{tag}\n" for word, tag in (("Ada", "B-x"), ("saw", "O")))
    for mark in ("-DOCSTART- -X- -X- O", "-DOCSTART- (1 EU)", "-DOCSTART-\tO"):
        (tmp_path / "x.conll").write_text(f"{mark}\n{words}\n{mark}\n\n{words}")
        data = load(tmp_path / "x.conll", columns={"group": "document"}, **NONE)
        assert columns(data)["tokens"] == [["Ada", "saw"]] * 2
        assert columns(data)["group"] == ["x-1", "x-2"]


def test_names_of_documents_are_no_texts(tmp_path: Path) -> None:
    (tmp_path / "x.conll").write_text("-DOCSTART- O\n\nAda B-x\nsaw O\n\n" * 6)
    for kind in ("masked_lm", "causal_lm", "classification"):
        with pytest.raises(DataError, match=r"x\.conll: no (text|prompt) column found"):
            load(tmp_path / "x.conll", kind=kind)
    task = Task("t", Source("t", ""), labels=("a", "b"))
    with pytest.raises(DataError, match="no text column found"):
        read_inputs(tmp_path / "x.conll", task, None, {})
