"""Words with tags, questions with contexts, texts made of texts, completions: every form gives canonical rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import numpy
import pandas
import pytest
from data_helpers import CONTEXT, NONE, TURNS, WORDS, columns, task

from adapt.data import load, read_inputs
from adapt.data.forms import FORMS
from adapt.data.kinds import ALIASES
from adapt.metrics import METRICS
from adapt.spec import DataError, OptionError
from adapt.tasks import KINDS

SPANS = [["B-PER", "O", "B-LOC", "I-LOC"], ["O", "O"], ["B-PER", "O"]]
TAGS = [["NOUN", "VERB", "ADJ", "NOUN"], ["PRON", "VERB"], ["NOUN", "VERB"]]
QA = {
    "id": ["a", "b", "c"],
    "question": ["Where?", "When?", "Who left?"],
    "context": [CONTEXT] * 3,
    "answers": [
        {"text": ["New York", "York"], "answer_start": [8, 12]},
        {"text": [], "answer_start": []},
        {"text": ["Ada"], "answer_start": [18]},
    ],
}


def write_jsonl(path: Path, table: dict[str, list[Any]]) -> Path:
    rows = [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (("tokens", "tags"), "token_classification"),
        (("id", "Words", "ner_tags"), "token_classification"),
        (("text", "tokens", "upos"), "token_classification"),
        (("id", "title", "question", "context", "answers"), "question_answering"),
        (("question", "passage", "answer"), "question_answering"),
        (("source", "target"), "seq2seq"),
        (("document", "summary", "id"), "seq2seq"),
        (("article", "highlights", "id"), "seq2seq"),
        (("text", "summary", "title"), "seq2seq"),
        (("input", "output"), "seq2seq"),
        (("instruction", "input", "output"), "causal_lm"),
        (("instruction", "context", "response", "category"), "causal_lm"),
        (("prompt", "completion"), "causal_lm"),
        (("question", "answer", "final_answer"), "causal_lm"),
        (("text", "label"), "sequence_classification"),
        (("text", "label", "tokens", "tags"), "sequence_classification"),
        (("Text", "Summary", "Score"), "sequence_classification"),
        (("source", "target", "text"), "seq2seq"),
        (("question", "answer", "label"), "sequence_classification"),
        (("question", "context", "label"), "sequence_classification"),
        (("document", "target"), "sequence_classification"),
        (("title", "content", "category"), "sequence_classification"),
    ],
)
def test_the_columns_tell_the_kind(names: tuple[str, ...], kind: str) -> None:
    values = {"id": ["1", "2"], "passage": ["yes x", "no x"], "context": ["yes x", "no x"], "answer": ["yes", "no"]}
    values |= {"answers": [{"text": ["yes"], "answer_start": [0]}, {"text": ["no"], "answer_start": [0]}]}
    lists = {"tokens", "tags", "words", "ner_tags", "upos"}
    table = {n: [["a"], ["b"]] if n.lower() in lists else values.get(n, [f"{n} 1", f"{n} 2"]) for n in names}
    assert load(table, **NONE).kind == kind


@pytest.mark.parametrize("names", [("question", "answer"), ("query", "document"), ("query", "answer")])
def test_a_question_and_what_may_answer_it_are_a_pair(names: tuple[str, str]) -> None:
    """As in WikiQA, where neither alone tells the label."""
    one, two = names
    table = {"id": [1, 2], one: ["who", "when"], "title": ["t", "u"], two: ["Ada", "Bo"], "label": [0, 1]}
    data = load(table, **NONE)
    assert (data.kind, data.pair) == ("sequence_classification", True)
    assert (columns(data)["text"], columns(data)["text_pair"]) == (["who", "when"], ["Ada", "Bo"])
    assert f"rows are pairs of {one} and {two}; name one with the option text for single texts" in data.notes
    alone = load(table, text=one, **NONE)
    assert not alone.pair
    assert not any("pairs of" in note for note in alone.notes)
    assert columns(load({**table, "text": ["a", "b"]}, **NONE))["text"] == ["a", "b"]


def test_a_short_name_of_a_kind_is_meant_as_it_is() -> None:
    versions = {"text": ["a", "b", "c"], "label": [1.1, 1.2, 2.5]}
    assert load(versions, **NONE).problem == "regression"
    assert load(versions, kind="classification", problem="single_label", **NONE).labels == ("1.1", "1.2", "2.5")
    assert load(versions, kind="classification", problem="regression", **NONE).problem == "regression"
    with pytest.raises(OptionError, match="not all whole, which make a regression; give kind='regression', or problem"):
        load(versions, kind="classification", **NONE)
    with pytest.raises(OptionError, match="kind='regression' means problem='regression', and problem='single_label'"):
        load(versions, kind="regression", problem="single_label", **NONE)


@pytest.mark.parametrize("text", ["text", "sentence"])
def test_a_label_for_each_word_beside_the_text_is_a_tag(text: str) -> None:
    table = {text: ["Ada saw New York", "it rained", "Bo left"], "tokens": WORDS, "labels": SPANS}
    data = load(table, **NONE)
    assert data.sha256 == load({"tokens": WORDS, "tags": SPANS}, **NONE).sha256
    assert load(pandas.DataFrame(table), **NONE).sha256 == data.sha256
    with pytest.raises(DataError, match=r"no tags column found .* --column tags=NAME"):
        load({"label" if name == "labels" else name: values for name, values in table.items()}, **NONE)
    assert load({**table, "labels": [["x"], ["y"], []]}, **NONE).problem == "multi_label", "labels of the texts"


def test_every_kind_has_a_form_and_every_problem_its_metrics() -> None:
    assert set(KINDS) <= set(FORMS)
    assert set(METRICS) == {problem for form in FORMS.values() for problem in form.problems}


def test_every_short_name() -> None:
    tables: dict[str, Any] = {
        "sequence_classification": {"text": ["a", "b"], "label": [1, 2]},
        "token_classification": {"tokens": WORDS, "tags": SPANS},
        "question_answering": QA,
        "seq2seq": {"source": ["a"], "target": ["b"]},
        "causal_lm": {"prompt": ["a"], "completion": ["b"]},
        "masked_lm": {"text": ["a", "b"]},
    }
    for name, (kind, problem) in ALIASES.items():
        data = load(tables[kind], kind=name, **NONE)
        assert data.kind == kind
        assert problem in (None, data.problem)
    del tables["masked_lm"]  # which is only asked for
    for kind, table in tables.items():
        assert load(table, kind=kind, **NONE).sha256 == load(table, **NONE).sha256
    assert load(tables["sequence_classification"], kind="regression", **NONE).problem == "regression"


def test_an_unusual_column_is_named(tmp_path: Path) -> None:
    named = load({"w": WORDS, "g": SPANS}, columns={"tokens": "w", "tags": "G"}, **NONE)
    assert named.sha256 == load({"tokens": WORDS, "tags": SPANS}, **NONE).sha256
    assert load({"article": ["a"], "head": ["b"]}, columns={"target": "head"}, **NONE).kind == "seq2seq"
    both = load({"text": ["a", "b"], "y": [0, 1]}, columns={"label": "y"}, **NONE)
    assert (both.kind, columns(both)["label"]) == ("sequence_classification", [0, 1])


def test_spans_from_every_source(tmp_path: Path) -> None:
    table = {"tokens": WORDS, "tags": SPANS}
    names = ["B-PER", "O", "I-LOC", "B-LOC", "I-PER"]
    features = datasets.Features(
        {"tokens": datasets.List(datasets.Value("string")), "tags": datasets.List(datasets.ClassLabel(names=names))}
    )
    indexed = {"tokens": WORDS, "tags": [[names.index(tag) for tag in row] for row in SPANS]}
    made = datasets.Dataset.from_dict(indexed, features=features)
    made.to_parquet(tmp_path / "x.parquet")
    (tmp_path / "x.conll").write_text(
        "-DOCSTART- -X- O\n\nAda NNP B-PER\nsaw VBD O\nNew NNP B-LOC\nYork NNP I-LOC\n\n\r\nit PRP O\nrained VBD O\n"
        "\nBo\tB-PER\nleft\tO"
    )
    sources = [
        table,
        write_jsonl(tmp_path / "x.jsonl", table),
        pandas.DataFrame(table),
        made,
        tmp_path / "x.parquet",
        tmp_path / "x.conll",
    ]
    loaded = [load(source, **NONE) for source in sources]
    assert columns(loaded[0]) == {"tokens": WORDS, "tags": [[2, 0, 1, 3], [0, 0], [2, 0]]}
    assert (loaded[0].problem, loaded[0].labels) == ("spans", ("O", "B-LOC", "B-PER", "I-LOC"))
    assert [data.sha256 for data in loaded] == [loaded[0].sha256] * len(sources)
    pandas.DataFrame(table).to_parquet(tmp_path / "y.parquet")
    assert load(pandas.read_parquet(tmp_path / "y.parquet"), **NONE).sha256 == loaded[0].sha256, "arrays of words"


def test_tags() -> None:
    data = load({"tokens": WORDS, "tags": TAGS}, **NONE)
    assert (data.problem, data.labels) == ("tags", ("ADJ", "NOUN", "PRON", "VERB"))
    assert columns(data)["tags"] == [[1, 3, 0, 1], [2, 3], [1, 3]]
    numbers = load({"tokens": [["a", "b", "c"]], "tags": [[10, 2, 0]]}, **NONE)
    assert (numbers.labels, columns(numbers)["tags"]) == (("0", "2", "10"), [[2, 1, 0]])
    assert [note.split(",")[0] for note in numbers.notes] == ["tags are numbers without names"]
    assert load({"tokens": [["a", "b", "c"]], "tags": [["²", "2", "x"]]}, **NONE).labels == ("2", "x", "²")
    asked = load({"tokens": WORDS, "tags": SPANS}, problem="tags", **NONE)
    assert (asked.labels, asked.notes) == (("B-LOC", "B-PER", "I-LOC", "O"), ())
    names = ["X", "VERB", "NOUN"]
    feature = datasets.List(datasets.ClassLabel(names=names))
    features = datasets.Features({"tokens": datasets.List(datasets.Value("string")), "tags": feature})
    made = datasets.Dataset.from_dict({"tokens": [["a", "b"]], "tags": [[2, 1]]}, features=features)
    assert load(made, **NONE).labels == tuple(names), "declared names keep their order"
    other = load({"tokens": [["a", "b", "c"]], "tags": [["B-x", "E-x", "O"]]}, **NONE)
    assert other.problem == "tags"
    assert [note.split(",")[0] for note in other.notes] == ["tags look like spans"]
    for tags in (["O", "O", "PER"], ["o", "b-per", "o"], ["O", "PER-B", "O"]):
        other = load({"tokens": [["a", "b", "c"]], "tags": [tags]}, **NONE)
        assert (other.problem, [note.split(",")[0] for note in other.notes]) == ("tags", ["most words have the tag O"])


def test_the_column_of_groups_is_no_label_where_the_others_make_a_kind() -> None:
    columns = {"text": [f"long {i}" for i in range(20)], "summary": [f"s {i}" for i in range(20)]}
    rows = {**columns, "topic": ["a", "b", "c", "d"] * 5}
    assert load(rows).kind == "sequence_classification"
    held = load(rows, columns={"group": "topic"})
    assert (held.kind, held.columns["group"]) == ("seq2seq", "topic")
    alone = load({"text": rows["text"], "label": rows["topic"]}, columns={"group": "label"}, **NONE)
    assert alone.kind == "sequence_classification", "the only label that there is"


def test_prompts_of_white_space_are_none() -> None:
    rows = [{"prompt": " \n", "completion": "a"}, {"prompt": "ask", "completion": "b"}]
    read = load(rows, kind="causal_lm", **NONE)
    assert read.splits["train"]["prompt"][:] == ["", "ask"]
    assert read.notes == ("1 of 2 rows have no prompt, and are texts by themselves",)
    both = load([{"instruction": " ", "input": "this", "output": "c"}] * 2, kind="causal_lm", **NONE)
    assert both.splits["train"]["prompt"][:] == ["this"] * 2


def test_rows_that_lack_a_prompt_are_told_of() -> None:
    rows = [
        {"prompt": "ask", "completion": "a"},
        {"promt": "x", "completion": "b"},
        {"prompt": "", "completion": "c"},
    ]
    assert load(rows, **NONE).notes == ("2 of 3 rows have no prompt, and are texts by themselves",)
    assert not load([{**row, "prompt": "", "promt": ""} for row in rows], **NONE).notes


def test_short_names_choose_among_columns_of_tags() -> None:
    table = {"tokens": WORDS, "pos_tags": TAGS, "ner_tags": SPANS}
    assert load(table, **NONE).problem == "spans"
    assert load(table, kind="ner", **NONE).problem == "spans"
    assert load(table, kind="pos", **NONE).labels == ("ADJ", "NOUN", "PRON", "VERB")
    assert load(table, kind="pos", columns={"tags": "ner_tags"}, **NONE).labels == ("B-LOC", "B-PER", "I-LOC", "O")


def test_tags_that_break_bio_are_mended_and_said() -> None:
    table = {"tokens": [["a", "b", "c", "d", "e"]], "tags": [["I-x", "I-x", "I-y", "O", "I-y"]]}
    data = load({"train": table, "test": table}, repair_tags=True, validation=0)
    assert data.labels == ("O", "B-x", "B-y", "I-x")
    assert columns(data)["tags"] == [[1, 3, 2, 0, 2]]
    assert data.notes[0] == "6 I- tags that continued no span were made B-"
    mended = {"tokens": table["tokens"], "tags": [["B-x", "I-x", "B-y", "O", "B-y"]]}
    assert load({"train": mended, "test": mended}, validation=0).sha256 == data.sha256, "notes are not part of it"


def test_a_type_of_one_span_among_many_is_said() -> None:
    def notes(spans: int) -> tuple[str, ...]:
        tags = [["B-PER", "I-PER"]] * spans + [["B-PERS", "O"]]
        return load({"tokens": [["a", "b"]] * len(tags), "tags": tags}, validation=0, test=0).notes

    assert notes(99) == ("types of one span in train, which may be mistyped: 'PERS'",)
    assert notes(98) == ()


def test_a_continued_span_of_a_type_that_train_has() -> None:
    test = {"tokens": [["a", "b"]], "tags": [["B-PER", "I-PER"]]}
    data = load({"train": {"tokens": WORDS, "tags": SPANS}, "test": test}, validation=0)
    assert data.labels == ("O", "B-LOC", "B-PER", "I-LOC", "I-PER")
    assert columns(data, "test")["tags"] == [[2, 4]]
    assert data.notes == ("tag 'I-PER' is not in train, where 'B-PER' is (words: 1)",)


def test_answers_in_every_form(tmp_path: Path) -> None:
    two = [{"text": "New York", "answer_start": 8}, {"text": "York", "answer_start": 12}]
    singles = [[{"text": "New York", "start": 8}, two[1]], [], {"text": ["Ada"], "start": [18]}]
    paragraph = {
        "context": CONTEXT,
        "qas": [
            {"id": "a", "question": "Where?", "answers": two},
            {"id": "b", "question": "When?", "is_impossible": True, "answers": [{"text": "x", "answer_start": 99}]},
            {"id": "c", "question": "Who left?", "answers": [{"text": "Ada", "answer_start": 18}]},
        ],
    }  # fmt: skip
    for indent in (None, 2):
        document = {"version": "2.0", "data": [{"title": "t", "paragraphs": [paragraph]}]}
        (tmp_path / f"nested{indent}.json").write_text(json.dumps(document, indent=indent))
    sources = [
        QA,
        {**QA, "answers": singles},
        write_jsonl(tmp_path / "x.jsonl", QA),
        datasets.Dataset.from_dict(QA),
        tmp_path / "nestedNone.json",
        tmp_path / "nested2.json",
    ]
    loaded = [load(source, **NONE) for source in sources]
    assert (loaded[0].problem, loaded[0].labels) == ("answers", ())
    assert columns(loaded[0]) == {
        **{name: QA[name] for name in ("id", "question", "context")},
        "answer_texts": [["New York", "York"], [], ["Ada"]],
        "answer_starts": [[8, 12], [], [18]],
    }
    assert [data.sha256 for data in loaded] == [loaded[0].sha256] * len(sources)


def test_answers_as_texts(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(f"question,context,answer\nWhere?,{CONTEXT},New York\n")
    (tmp_path / "y.csv").write_text(f"question,context,answer,answer_start\nWho?,{CONTEXT},Ada,18\n")
    first, second = load(tmp_path / "x.csv", **NONE), load(tmp_path / "y.csv", **NONE)
    assert (columns(first)["answer_starts"], columns(second)["answer_starts"]) == ([[8]], [[18]])
    assert columns(first)["id"] == ["train-1"], "rows without ids are numbered"
    frame = pandas.DataFrame(
        {"question": ["?", "!"], "context": CONTEXT, "answers": ["left", None], "answer_start": [22.0, None]}
    )
    assert columns(load(frame[:1], **NONE))["answer_starts"] == [[22]]
    frame.to_csv(tmp_path / "z.csv", index=False)  # writes 22.0
    assert columns(load(tmp_path / "z.csv", **NONE))["answer_starts"] == [[22], []]


def test_bad_answers_are_dropped_and_counted() -> None:
    table = {**QA, "answers": [QA["answers"][0], {"text": ["Rome"], "answer_start": [0]}, QA["answers"][2]]}
    data = load({"train": table, "test": QA}, bad_answers="drop", validation=0)
    assert columns(data)["id"] == ["a", "c"]
    assert data.notes[0] == "1 of 3 train rows left out: their answers are not in their contexts"


def test_sources_targets_and_references() -> None:
    test = {"source": ["c", "d"], "target": ["z", "w"], "references": [["y", "z"], "v"]}
    data = load({"train": {"source": ["a"], "target": ["b"]}, "test": test}, validation=0)
    assert (data.problem, data.labels) == ("text", ())
    assert columns(data) == {"source": ["a"], "target": ["b"], "references": [["b"]]}
    assert columns(data, "test") == {**test, "references": [["y", "z"], ["w", "v"]]}, "the target is among them"
    renamed = {"train": {"source": ["a"], "target": ["b"]}, "test": {**test, "refs2": [["q"], None]}}
    named = load(renamed, columns={"references": "Refs2"}, validation=0)
    assert columns(named, "test")["references"] == [["z", "q"], ["w"]]


def test_languages_of_a_translation_are_named() -> None:
    table = {"id": [0, 1], "translation": [{"de": "Haus", "en": "house"}, {"de": "Hund", "en": "dog"}]}
    data = load(table, columns={"source": "en", "target": "DE"}, **NONE)
    assert columns(data) == {"source": ["house", "dog"], "target": ["Haus", "Hund"], "references": [["Haus"], ["Hund"]]}
    assert (
        load(datasets.Dataset.from_dict(table), columns={"source": "en", "target": "de"}, **NONE).sha256 == data.sha256
    )
    with pytest.raises(OptionError, match=r"'translation' holds the languages 'de', 'en'; say .*'source': 'de'"):
        load(table, **NONE)
    rows = read_inputs(table, task("seq2seq"), {"source": "de"})
    assert list(rows["source"]) == ["Haus", "Hund"]
    table["translation"].insert(1, None)
    with pytest.raises(DataError, match="row 2: no source in column 'en'; fill it in or take the row out"):
        load({"translation": table["translation"]}, columns={"source": "en", "target": "de"}, **NONE)


def test_prompts_and_completions(tmp_path: Path) -> None:
    data = load({"prompt": ["a", None, ""], "completion": [" b", "c", "d"]}, **NONE)
    assert (data.problem, columns(data)) == ("completion", {"prompt": ["a", "", ""], "completion": [" b", "c", "d"]})
    table = {"instruction": ["Add.", "Sing."], "input": ["1 and 2", ""], "output": ["3", "la"]}
    assert columns(load(table, **NONE)) == {"prompt": ["Add.\n\n1 and 2", "Sing."], "completion": ["3", "la"]}
    (tmp_path / "x.csv").write_text("question,answer\nwhy?,so\n")
    assert columns(load(tmp_path / "x.csv", **NONE)) == {"prompt": ["why?"], "completion": ["so"]}
    asked = load({"question": ["Who?"], "context": ["Ada left."], "answer": ["Ada did"]}, kind="causal_lm", **NONE)
    assert columns(asked)["prompt"] == ["Who?\n\nAda left."], "with what the question is about"
    for options in ({"kind": "causal_lm"}, {"kind": "causal_lm", "text": "text"}):
        lone = load({"text": ["once", "upon"]}, **options, **NONE)
        assert columns(lone) == {"prompt": ["", ""], "completion": ["once", "upon"]}


def test_conversations() -> None:
    sharegpt = [
        [{"from": "system", "value": "be brief"}, {"from": "human", "value": "hi"}, {"from": "gpt", "value": "ho"}],
        [{"from": "human", "value": "one"}, {"from": "gpt", "value": "two"}],
    ]
    data = load({"messages": TURNS, "prompt": ["hi", "one"]}, **NONE)
    assert (data.kind, data.problem, columns(data)) == ("causal_lm", "completion", {"messages": TURNS})
    assert load({"conversations": sharegpt}, **NONE).sha256 == data.sha256
    assert load(datasets.Dataset.from_dict({"messages": TURNS}), **NONE).sha256 == data.sha256
    silent = [[{"role": "system", "content": None}, *TURNS[0]], [{"role": "system", "content": ""}, *TURNS[1]]]
    assert load({"messages": silent}, **NONE).sha256 == data.sha256, "a system that says nothing is left out"


def test_the_hash_of_a_classification_is_that_of_committed_results() -> None:
    data = load({"text": ["a", "b"], "label": ["x", "y"]}, **NONE)
    assert data.sha256 == "9b088f73274f36590c8b832a0dcbc004ff01c3381a91fea7116b251f54f1f811"


@pytest.mark.parametrize(
    ("name", "kind", "problem", "labels", "rows", "canonical"),
    [
        ("wnut17", "token_classification", "spans", 13, (3394, 1009, 1287), ["tokens", "tags"]),
        ("masakhaner_swa", "token_classification", "spans", 9, (2109, 300, 604), ["tokens", "tags"]),
        ("ud_ewt_pos", "token_classification", "tags", 17, (7000, 2001, 2077), ["tokens", "tags"]),
        ("squad_v11_subset", "question_answering", "answers", 0, (4370, 1000, 838),
         ["id", "question", "context", "answer_texts", "answer_starts"]),
        ("e2e_nlg", "seq2seq", "text", 0, (4162, 60, 630), ["source", "target", "references"]),
        ("multi30k_en_de", "seq2seq", "text", 0, (8000, 1014, 1000), ["source", "target", "references"]),
        ("gsm8k", "causal_lm", "completion", 0, (2500, 400, 1319), ["prompt", "completion"]),
    ],
)  # fmt: skip
def test_real_data(
    real_data: Path, name: str, kind: str, problem: str, labels: int, rows: tuple[int, ...], canonical: list[str]
) -> None:
    data = load(real_data / name)
    assert (data.kind, data.problem, len(data.labels)) == (kind, problem, labels)
    assert [note for note in data.notes if "are in train too" not in note] == []
    assert tuple(len(data.splits[split]) for split in ("train", "validation", "test")) == rows
    lines = (real_data / name / "test.jsonl").read_text(encoding="utf-8").strip().split("\n")
    expected = [json.loads(line) for line in lines]
    got = columns(data, "test")
    assert list(got) == canonical
    if kind == "token_classification":
        assert got["tokens"] == [row["tokens"] for row in expected]
        assert [[data.labels[tag] for tag in tags] for tags in got["tags"]] == [row["tags"] for row in expected]
    elif kind == "question_answering":
        assert got["answer_texts"] == [row["answers"]["text"] for row in expected]
        assert got["answer_starts"] == [row["answers"]["answer_start"] for row in expected]
    elif kind == "seq2seq":
        assert got["references"] == [row.get("references", [row["target"]]) for row in expected]
        assert (got["source"], got["target"]) == tuple([row[c] for row in expected] for c in ("source", "target"))
    else:
        assert list(zip(got["prompt"], got["completion"], strict=True)) == [
            (r["question"], r["answer"]) for r in expected
        ]


def test_numbers_of_numpy_in_lists_are_numbers() -> None:
    one, two = numpy.int64(1), numpy.int64(2)
    assert load((["a", "b"], [[one, two], (two,)]), **NONE).labels == ("1", "2")
    assert load((["a", "b"], [one, two]), **NONE).labels == ("1", "2")
    assert load({"tokens": [["a", "b"]], "tags": [[one, two]]}, **NONE).labels == ("1", "2")
    answers = {"text": ["New York"], "answer_start": [numpy.int64(8)]}
    rows = [{"id": numpy.int64(7), "question": "Where?", "context": CONTEXT, "answers": answers}]
    data = load(rows, **NONE)
    assert (columns(data)["id"], columns(data)["answer_starts"]) == (["7"], [[8]])
    single = [{"question": "Where?", "context": CONTEXT, "answer": "New York", "answer_start": numpy.int64(8)}]
    assert columns(load(single, kind="qa", **NONE))["answer_starts"] == [[8]]


def test_a_csv_file_may_hold_questions_without_an_answer(tmp_path: Path) -> None:
    file = tmp_path / "questions.csv"
    file.write_text("question,context,answer,answer_start\nwho,the cat,cat,4\nwhat,the cat,,\n")
    read = load(file, validation=0, test=0)
    assert list(read.splits["train"]["answer_texts"]) == [["cat"], []]


def test_white_space_of_declared_classes_is_no_part_of_them() -> None:
    single = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no ", " yes"])})
    rows = {"text": [f"t{i}" for i in range(8)], "label": [1, 0] * 4}
    data = load(datasets.Dataset.from_dict(rows, features=single), **NONE)
    assert data.labels == ("no", "yes")
    assert list(data.splits["train"]["label"]) == [1, 0] * 4
    several = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.List(datasets.ClassLabel(names=["rock ", "pop"]))}
    )
    rows = {"text": ["a", "b", "c"], "label": [[0], [1], [0, 1]]}
    data = load(datasets.Dataset.from_dict(rows, features=several), **NONE)
    assert list(data.splits["train"]["label"]) == [[1, 0], [0, 1], [1, 1]]
    twice = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["a", "a "])})
    with pytest.raises(DataError, match="declares class 'a' twice"):
        load(datasets.Dataset.from_dict({"text": ["x", "y"], "label": [0, 1]}, features=twice), **NONE)


def test_rows_may_have_numbers_as_names_of_columns() -> None:
    rows = [{0: "good", 1: "x"}, {0: "bad", 1: "y"}]
    assert list(load(rows, columns={"text": "0", "label": "1"}, **NONE).splits["train"]["text"]) == ["good", "bad"]


def test_names_that_differ_in_case_alone_are_said() -> None:
    rows = [{"text": f"text {i}", "label": name} for i, name in enumerate(["good", "Good ", "bad", "GOOD"] * 3)]
    differ = "that differ in upper and lower case alone are taken for different ones:"
    assert load(rows, **NONE).notes == (f"labels {differ} 'GOOD', 'Good', 'good'",)
    words = [{"tokens": ["Ada", "Oslo"], "tags": tags} for tags in [["B-PER", "B-LOC"], ["B-per", "B-loc"]] * 3]
    assert load(words, **NONE).notes == (f"tags {differ} 'B-LOC', 'B-loc'; 'B-PER', 'B-per'",)


def test_what_conversations_have_beside_content_is_told_of() -> None:
    turns = [{"role": "user", "content": "6*7?"}, {"role": "assistant", "content": "42", "thinking": "6*7=42"}]
    rows = [{"messages": turns, "system": "Answer in Swahili."} for _ in range(9)]
    notes = load(rows, validation=0, test=0).notes
    assert "column 'system' is not used; write it into the conversations as their first turn" in notes
    assert any(note.startswith("9 messages of column 'messages' have 'thinking', which is not used") for note in notes)
    assert not load([{"messages": [{"role": t["role"], "content": t["content"]} for t in turns]}] * 9, **NONE).notes


def test_columns_of_questions_that_need_not_be_there_need_not_be_in_each_split() -> None:
    rows = [
        {"id": f"q{i}", "question": f"who is {i}?", "context": f"{i} is bob", "answers": ["bob"], "answer_start": [6]}
        for i in range(10, 14)
    ]
    bare = [{name: row[name] for name in ("question", "context", "answers")} for row in rows]
    other = [{"qid" if name == "id" else name: value for name, value in row.items()} for row in rows]
    for test, ids in ((bare, "test-1"), (other, "q10")):
        found = load({"train": rows, "test": test}, validation=0).splits["test"][0]
        assert (found["id"], found["answer_starts"]) == (ids, [6])
    with pytest.raises(DataError, match="split 'test': no column 'id'"):
        load({"train": rows, "test": bare}, validation=0, columns={"id": "id"})
