"""Bad words, tags, answers, texts and turns: one clear error that names file, row and field and says what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pytest

from adapt.data import load, read_inputs
from adapt.spec import AdaptError, DataError, OptionError, Source, Task

NONE: Any = {"validation": 0, "test": 0}
GOOD = {"tokens": ["a", "b"], "tags": ["B-x", "O"]}
CONTEXT = "Ada saw New York. Ada left."


def qa(text: Any, start: Any, **more: Any) -> dict[str, Any]:
    answers = {"text": [text], "answer_start": [start]}
    return {"id": "q7", "question": "Where?", "context": CONTEXT, "answers": answers, **more}


def says(*turns: tuple[Any, Any]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


USER, ASSISTANT = ("user", "hi"), ("assistant", "ho")
ROWS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "tags and tokens of unequal length": (
        GOOD, {"tokens": ["a", "b", "c"], "tags": ["O", "O"]},
        r"line 2: 3 tokens and 2 tags in column 'tags'; give one tag for each token",
    ),
    "no token": (GOOD, {"tokens": [], "tags": []}, r"line 2: column 'tokens' holds no word; take the row out"),
    "empty token": (
        GOOD, {"tokens": ["a", " "], "tags": ["O", "O"]}, r"line 2, word 2 \(' '\): the word is empty; take it and"
    ),
    "token that is no text": (
        GOOD, {"tokens": ["a", 5], "tags": ["O", "O"]}, r"line 2, word 2 \(5\): not text; give every word as text"
    ),
    "null token": (GOOD, {"tokens": [None], "tags": ["O"]}, r"line 2, word 1 \(None\): not text"),
    "half a character in a token": (GOOD, {"tokens": ["\ud800"], "tags": ["O"]}, r"line 2: column 'tokens' holds half"),
    "tokens that are a text": (
        GOOD, {"tokens": "a b", "tags": ["O", "O"]},
        r"line 2: column 'tokens' holds 'a b' \(str\), not a list of tokens; give a list in each row",
    ),
    "no tokens": (GOOD, {"tokens": None, "tags": ["O"]}, r"line 2: no tokens in column 'tokens'; fill it in or take"),
    "no tags": (GOOD, {"tokens": ["a"]}, r"line 2: no tags in column 'tags'; fill it in"),
    "null tag": (GOOD, {"tokens": ["a"], "tags": [None]}, r"line 2, word 1 \('a'\): None is no tag; give its name"),
    "empty tag": (GOOD, {"tokens": ["a"], "tags": [""]}, r"line 2, word 1 \('a'\): '' is no tag"),
    "negative tag": (GOOD, {"tokens": ["a"], "tags": [-100]}, r"line 2, word 1 \('a'\): -100 is no tag"),
    "I- at the start": (
        GOOD, {"tokens": ["Jane", "b"], "tags": ["I-x", "O"]},
        r"line 2, word 1 \('Jane'\): tag 'I-x' is the first and so continues no span; mend it, or pass "
        r"repair_tags=True \(--repair-tags\) to make it 'B-x'",
    ),
    "I- after another type": (
        GOOD, {"tokens": ["a", "Jane", "c", "d"], "tags": ["B-x", "I-y", "O", "I-y"]},
        r"line 2, word 2 \('Jane'\): tag 'I-y' follows 'B-x' and so continues no span \(and 1 more such tags\)",
    ),
    "one tag only": (
        {"tokens": ["a"], "tags": ["O"]}, {"tokens": ["b"], "tags": ["O"]}, r"every tag is 'O'; a tagger needs two",
    ),
    "answer elsewhere": (
        qa("Ada", 0, id="ok"), qa("New York", 7),
        r"line 2, id 'q7': answer 'New York' is not at character 7 of its context \(' New Yor' is\); it occurs once, "
        r"at 8; mend it, or pass bad_answers='drop' \(--bad-answers drop\) to leave such rows out",
    ),
    "answer at several places": (qa("Ada", 0, id="ok"), qa("Ada", 5), r"it occurs 2 times; mend it"),
    "answer nowhere": (qa("Ada", 0, id="ok"), qa("Rome", 0), r"answer 'Rome' is not at character 0 .*nowhere in it"),
    "negative start": (qa("Ada", 0, id="ok"), qa("Ada", -9), r"id 'q7': answer 'Ada' is not at character -9"),
    "start that is no number": (qa("Ada", 0, id="ok"), qa("Ada", "x"), r"id 'q7': 'x' is no start of an answer; give"),
    "empty answer": (qa("Ada", 0, id="ok"), qa("", 0), r"id 'q7': an answer is empty; write"),
    "text without a start that is there twice": (
        qa("Ada", 0, id="ok"), qa("", 0, answers="Ada"), r"no start is given for answer 'Ada' .* it occurs 2 times",
    ),
    "answers and starts of unequal length": (
        qa("Ada", 0, id="ok"), qa("", 0, answers={"text": ["Ada", "left"], "answer_start": [0]}),
        r"id 'q7': 2 answer texts and 1 starts; give one start for each text",
    ),
    "answer that is no text": (
        qa("Ada", 0, id="ok"), qa("", 0, answers=True), r"column 'answers' holds True, not answers; write \{.*seq2seq",
    ),
    "no answers": (qa("Ada", 0, id="ok"), qa("", 0, answers=None), r"id 'q7': column 'answers' holds None, not answ"),
    "one id twice": (
        qa("Ada", 0), qa("Ada", 0), r"x\.jsonl, line 2: id 'q7' is that of .*x\.jsonl, line 1 too; give each row its",
    ),
    "no id": (qa("Ada", 0), qa("Ada", 0, id=None), r"line 2: None is no id; give a text or an integer in 'id'"),
    "half a character in an id": (qa("Ada", 0, id="ok"), qa("Ada", 0, id="\ud83d"), r"line 2: column 'id' holds half"),
    "empty question": (qa("Ada", 0, id="ok"), qa("Ada", 0, question=" "), r"line 2: no question in column"),
    "empty context": (qa("Ada", 0, id="ok"), qa("Ada", 0, context=""), r"line 2: no context in column"),
    "empty source": (
        {"source": "a", "target": "b"}, {"source": " ", "target": "b"},
        r"line 2: no source in column 'source'; fill it in or take the row out",
    ),
    "empty target": ({"source": "a", "target": "b"}, {"source": "a"}, r"line 2: no target in column 'target'"),
    "target that is no text": (
        {"source": "a", "target": "b"}, {"source": "a", "target": 5},
        r"line 2: column 'target' holds 5 \(int\), not text; name the target column with columns=\{'target': NAME\}",
    ),
    "references that are no texts": (
        {"source": "a", "target": "b"}, {"source": "a", "target": "b", "references": ["b", ""]},
        r"line 2: references \['b', ''\] are not texts; give a list of texts, none of them empty",
    ),
    "half a character in a reference": (
        {"source": "a", "target": "b"}, {"source": "a", "target": "b", "references": ["b", "\ud83d"]},
        r"line 2: a reference holds half of a surrogate pair",
    ),
    "empty completion": (
        {"prompt": "a", "completion": "b"}, {"prompt": "a", "completion": "\n"},
        r"line 2: no completion in column 'completion'; fill it in",
    ),
    "prompt that is no text": ({"prompt": "a", "completion": "b"}, {"prompt": 1, "completion": "b"}, r"1 \(int\)"),
    "no turn of the assistant at the end": (
        says(USER, ASSISTANT), says(USER, ASSISTANT, USER),
        r"line 2: the last message is the user's; end 'messages' with the assistant's, which is what is learnt",
    ),
    "unknown role": (
        says(USER, ASSISTANT), says(("narrator", "x"), ASSISTANT),
        r"line 2, message 1: role 'narrator' is unknown; write system, user or assistant",
    ),
    "no role": (says(USER, ASSISTANT), says((None, "x"), ASSISTANT), r"line 2, message 1: role None is unknown"),
    "empty content": (says(USER, ASSISTANT), says(USER, ("assistant", " ")), r"message 2: the content is empty; fill"),
    "content that is no text": (says(USER, ASSISTANT), says(("user", 3), ASSISTANT), r"message 1: content 3 is not t"),
    "message that is no message": (says(USER, ASSISTANT), {"messages": ["hi"]}, r"message 1: 'hi' is no message"),
    "answer to nothing": (says(USER, ASSISTANT), says(ASSISTANT), r"line 2: no message to answer in 'messages'; give"),
    "no messages": (says(USER, ASSISTANT), {"messages": []}, r"line 2: there are no messages; end 'messages' with"),
}  # fmt: skip


@pytest.mark.parametrize("case", ROWS)
def test_bad_row(tmp_path: Path, case: str) -> None:
    good, bad, message = ROWS[case]
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps(good) + "\n" + json.dumps(bad) + "\n")
    with pytest.raises(DataError, match=message) as caught:
        load(path, **NONE)
    assert "x.jsonl" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


KINDS = {
    "token_classification": GOOD,
    "question_answering": qa("Ada", 0),
    "seq2seq": {"source": "a", "target": "b"},
    "causal_lm": {"prompt": "a", "completion": "b"},
}
MISSING = {
    "token_classification": "tags",
    "question_answering": "context",
    "seq2seq": "target",
    "causal_lm": "completion",
}


@pytest.mark.parametrize("kind", KINDS)
def test_errors_of_files_hold_for_every_kind(tmp_path: Path, kind: str) -> None:
    row, role = KINDS[kind], MISSING[kind]
    path = tmp_path / "rows.jsonl"
    with pytest.raises(DataError, match=r"rows\.jsonl: no such file"):
        load(path, kind=kind)
    path.write_bytes(json.dumps(row).encode() + b"\n\xff")
    with pytest.raises(DataError, match=r"rows\.jsonl, line 2: byte .* is not UTF-8; save the file as UTF-8"):
        load(path, kind=kind)
    with pytest.raises(DataError, match="there are no rows; give at least one"):
        load({name: [] for name in row}, kind=kind)
    path.write_text(json.dumps({name: value for name, value in row.items() if name != role}))
    with pytest.raises(DataError, match=rf"no {role} column found among .*; name it with columns={{'{role}': NAME}}"):
        load(path, kind=kind)
    path.write_text(json.dumps(row))
    with pytest.raises(DataError, match=rf"no column '{role}x' for {role} \(did you mean '{role}'\?\); name one of "):
        load(path, columns={role: f"{role}x"})
    role = {"tags": "tokens", "target": "source", "completion": "prompt"}.get(
        role, role
    )  # without those it is left out
    with pytest.raises(DataError, match=rf"split 'test': no column '{role}' for {role}"):
        load({"train": path, "test": [{name: value for name, value in row.items() if name != role}]}, kind=kind)


def test_a_csv_file_holds_no_lists(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("tokens,tags\na b,O O\n")
    with pytest.raises(DataError, match=r"x\.csv: column 'tokens' should hold a list .*JSON lines or Parquet.*\.conll"):
        load(tmp_path / "x.csv")


@pytest.mark.parametrize("split", ["validation", "test"])
def test_tag_outside_train(split: str) -> None:
    train = {"tokens": [["a", "b"]], "tags": [["B-x", "O"]]}
    for tags, tag in ((["O", "B-y"], "B-y"), (["B-y", "I-y"], "B-y")):
        with pytest.raises(DataError, match=rf"split '{split}', row 1, word .*: tag '{tag}' is in {split} but not in "):
            load({"train": train, split: {"tokens": [["c", "d"]], "tags": [tags]}}, **NONE)
    train = {"tokens": [["a", "b"]], "tags": [["N", "V"]]}
    with pytest.raises(DataError, match=rf"row 1, word 2 \('d'\): tag 'A' is in {split} but not in train; add"):
        load({"train": train, split: {"tokens": [["c", "d"]], "tags": [["N", "A"]]}}, **NONE)


def test_index_without_a_tag_name() -> None:
    feature = datasets.List(datasets.ClassLabel(names=["O", "B-x"]))
    features = datasets.Features({"tokens": datasets.List(datasets.Value("string")), "tags": feature})
    rows = datasets.Dataset.from_dict({"tokens": [["a", "b"]], "tags": [[0, -1]]}, features=features)
    with pytest.raises(DataError, match=r"row 1, word 2 \('b'\): -1 is no tag; give .* index among the 2 tag names"):
        load(rows, **NONE)


def test_tags_that_are_no_spans() -> None:
    with pytest.raises(OptionError, match="problem='spans' needs the tags O, B-x and I-x, and there are 'N', 'V'; c"):
        load({"tokens": [["a", "b"]], "tags": [["N", "V"]]}, kind="ner", **NONE)


@pytest.mark.parametrize("odd", ["0", "o", "B_PER", "b-PER", "B-", "I PER", "PER"])
def test_a_mistyped_tag_does_not_make_tags_of_spans(odd: str) -> None:
    train = {"tokens": [["a", "b"], ["Jane", "saw", "it"]], "tags": [["B-PER", "I-PER"], ["B-LOC", odd, "O"]]}
    for table in (train, {**train, "tags": [["B-PER", "I-PER"], ["B-LOC", odd, "E-LOC"]]}):
        with pytest.raises(
            DataError,
            match=rf"split 'train', row 2, word 2 \('saw'\): tag '{odd}' is not O, B-x or I-x, .* problem='tags' \(--p",
        ):
            load({"train": table}, kind="tagging", **NONE)
        assert load({"train": table}, problem="tags", **NONE).problem == "tags"
    chunks = {"tokens": [["a", "b", "c", "d"]], "tags": [["O", "B-X", odd, "NOUN"]]}
    assert load(chunks, **NONE).problem == "tags", "most are not of spans"


def test_every_answer_is_bad() -> None:
    with pytest.raises(DataError, match=r"no row has its answer in its context; the first is .*'Rome'"):
        load([qa("Rome", 0)], bad_answers="drop", **NONE)
    with pytest.raises(DataError, match=r"id 'a': answer 'Rome' .* \(and in 1 more rows\); mend it"):
        load([qa("Rome", 0, id="a"), qa("Rome", 0, id="b")], **NONE)


def test_nothing_to_cut_out() -> None:
    table = {"source": ["a", "a"], "target": ["b", "c"]}
    with pytest.raises(DataError, match=r"every row has the same source, .* give every split, or pass validation=0"):
        load(table)
    assert len(load(table, **NONE).splits["train"]) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "nre"}, r"kind='nre' is unknown \(did you mean 'ner'\?\); choose one of sequence_classification, "),
        ({"kind": "seq2seq", "problem": "spans"}, "problem='spans' is unknown for seq2seq; choose one of text"),
        ({"problem": "span"}, "problem='span' is unknown; choose one of single_label, multi_label, regression, spans"),
        ({"columns": {"tokns": "a"}}, r"columns: there is no 'tokns' \(did you mean 'tokens'\?\); name columns for"),
        ({"columns": {"tokens": "tokens", "source": "a"}}, r"no kind has 'tokens', 'source' together; name the kind"),
        ({"kind": "ner", "columns": {"source": "a"}}, r"columns: token_classification has no 'source'.* tokens, tags"),
        ({"kind": "ner", "text": "tokens"}, "columns: token_classification has no 'text'"),
        ({"columns": "tokens"}, "columns='tokens': give a dict of what a column is for to its name"),
        ({"text": "a", "columns": {"text": "b"}}, "text='a', and columns say 'b'; give one of them"),
        ({"bad_answers": "keep"}, "bad_answers='keep' is unknown; choose refuse or drop"),
        ({"bad_answers": "drop"}, "bad_answers is for question_answering and the data are for token_classification"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        load([GOOD], **options, **NONE)


def test_repair_of_what_are_no_tags() -> None:
    with pytest.raises(OptionError, match="repair_tags is for token_classification and the data are for seq2seq"):
        load([{"source": "a", "target": "b"}], repair_tags=True, **NONE)


def test_conll_lines_of_one_field(tmp_path: Path) -> None:
    (tmp_path / "x.conll").write_text("Ada B-x\nsaw\n")
    with pytest.raises(DataError, match=r"x\.conll, line 2: one field where line 1 has a word and a tag; give each"):
        load(tmp_path / "x.conll")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"qas": [{"question": "?", "answers": []}]},
            r"x\.json, article 1, paragraph 1: .*KeyError\('id'\).*; write",
        ),
        ({"qas": None}, r"article 1, paragraph 1: not as SQuAD has it"),
        ({"qas": []}, r"x\.json: there are no rows"),
    ],
)
def test_nested_questions_that_lack_something(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    document = {"data": [{"paragraphs": [{"context": CONTEXT, **change}]}]}
    (tmp_path / "x.json").write_text(json.dumps(document))
    with pytest.raises(DataError, match=message):
        load(tmp_path / "x.json", **NONE)


def test_lists_of_references_are_not_written_in_csv(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("source,target,references\na,b,\"['b', 'c']\"\n")
    with pytest.raises(DataError, match=r"line 2: references .* are a list, which a CSV or TSV file cannot hold"):
        load(tmp_path / "x.csv", **NONE)
    (tmp_path / "x.csv").write_text("source,target,references\na,b,[c]\n")
    assert list(load(tmp_path / "x.csv", **NONE).splits["train"]["references"]) == [["b", "[c]"]]


def test_a_document_without_a_list_of_paragraphs_is_not_that_of_squad(tmp_path: Path) -> None:
    for paragraphs in (None, 5):
        (tmp_path / "x.json").write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}))
        with pytest.raises(DataError, match=r"x\.json: no text column found among 'data'"):
            load(tmp_path / "x.json")


@pytest.mark.parametrize(
    ("kind", "source", "message"),
    [
        ("token_classification", ["a text"], r"the texts, row 1: column 'tokens' holds 'a text' \(str\), not a list"),
        ("token_classification", [["a"], []], "row 2: column 'tokens' holds no word"),
        ("token_classification", {"text": ["a"]}, "no tokens column found among 'text'"),
        ("question_answering", ["Who?"], r"row 1: not a pair \(question, context\); give two texts a row"),
        ("question_answering", [("Who?", "")], "column 'context' is empty in every row"),
        ("question_answering", {"question": ["a"]}, "no context column found among 'question'"),
        ("seq2seq", ["a", ""], "row 2: no source in column 'source'"),
        ("seq2seq", {"x": ["a"]}, r"no source column found among 'x'; name it with .* --column source=NAME"),
        ("causal_lm", {"x": ["a"]}, "no prompt or messages column found among 'x'"),
        ("causal_lm", [[]], "row 1: no message to answer"),
        ("causal_lm", [], "there are no rows"),
        ("sequence_classification", {"text": ["a"]}, "columns: sequence_classification has no 'tokens'"),
    ],
)
def test_inputs_that_cannot_be_used(kind: str, source: Any, message: str) -> None:
    columns = {"tokens": "a"} if kind == "sequence_classification" else None
    with pytest.raises(AdaptError, match=message):
        read_inputs(source, Task("task", Source("task", "0" * 64), kind=kind), columns)


def test_conll_lines_of_other_fields(tmp_path: Path) -> None:
    (tmp_path / "x.conll").write_text("# sent_id = 1\nAda NNP B-x\nsaw VBD\n")
    with pytest.raises(DataError, match=r"x\.conll, line 3: 2 fields where line 2 of the same sentence has 3; give"):
        load(tmp_path / "x.conll")
