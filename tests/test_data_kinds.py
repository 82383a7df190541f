"""Words with tags, questions with contexts, texts made of texts, completions: every form gives canonical rows."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import datasets
import numpy
import pandas
import pytest

from adapt.data import Data, few_shot, load, read_inputs, subsample
from adapt.data.forms import FORMS
from adapt.data.kinds import ALIASES
from adapt.metrics import METRICS
from adapt.spec import DataError, OptionError, Source, Task
from adapt.tasks import KINDS

NONE: Any = {"validation": 0, "test": 0}
WORDS = [["Ada", "saw", "New", "York"], ["it", "rained"], ["Bo", "left"]]
SPANS = [["B-PER", "O", "B-LOC", "I-LOC"], ["O", "O"], ["B-PER", "O"]]
TAGS = [["NOUN", "VERB", "ADJ", "NOUN"], ["PRON", "VERB"], ["NOUN", "VERB"]]
CONTEXT = "Ada saw New York. Ada left."
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
TURNS = [
    [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "ho"},
    ],
    [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}],
]


def columns(data: Data, split: str = "train") -> dict[str, list[Any]]:
    return {name: data.splits[split].to_dict()[name] for name in data.splits[split].column_names}


def task(kind: str) -> Task:
    return Task("task", Source("task", "0" * 64), kind=kind)


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
    }
    for name, (kind, problem) in ALIASES.items():
        data = load(tables[kind], kind=name, **NONE)
        assert data.kind == kind
        assert problem in (None, data.problem)
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


def test_a_missing_split_is_cut_for_every_kind() -> None:
    n = 40
    tables: dict[str, dict[str, list[Any]]] = {
        "tokens": {"tokens": [[f"w{i}", "x"] for i in range(n)], "tags": [["A", "B"]] * (n - 1) + [["rare", "B"]]},
        "id": {**{c: [f"{c} {i}" for i in range(n)] for c in ("id", "question")},
               "context": [f"c {i // 4}" for i in range(n)], "answers": [{"text": ["c"], "answer_start": [0]}] * n},
        "source": {"source": [f"s {i // 4}" for i in range(n)], "target": [f"t {i}" for i in range(n)]},
        "completion": {"prompt": [""] * n, "completion": [f"c {i}" for i in range(n)]},
    }  # fmt: skip
    for column, table in tables.items():
        data = load(table, test=0.2)
        assert {split: len(rows) for split, rows in data.splits.items()} == {"train": 28, "validation": 4, "test": 8}
        order = [str(value) for value in table[column]]
        parts = {split: [str(value) for value in rows[column]] for split, rows in data.splits.items()}
        assert all(part == sorted(part, key=order.index) for part in parts.values())
        assert sorted(value for part in parts.values() for value in part) == sorted(order)
        assert load(table, test=0.2).sha256 == data.sha256 != load(table, test=0.2, seed=1).sha256
        together = {"id": "context", "source": "source"}.get(column)
        if together:
            values = [set(rows[together]) for rows in data.splits.values()]
            assert sum(map(len, values)) == len(set.union(*values)) == 10, "one context, one split"
        if column == "tokens":
            assert "rare" in {data.labels[tag] for row in data.splits["train"]["tags"] for tag in row}


def test_samples_of_training_rows() -> None:
    data = load({"prompt": [""] * 20, "completion": [f"c {i}" for i in range(20)]}, **NONE)
    train = data.splits["train"]
    sample = list(subsample(train, data.problem, 7, seed=1)["completion"])
    assert sample == sorted(sample, key=list(train["completion"]).index)
    assert len(set(sample)) == 7
    assert sample == list(subsample(train, data.problem, 7, seed=1)["completion"])
    assert sample != list(subsample(train, data.problem, 7, seed=2)["completion"])
    for problem in ("spans", "tags", "answers", "text", "completion"):
        with pytest.raises(OptionError, match=f"rows of each class and {problem} has none; use max_train instead"):
            few_shot(train, problem, 2, seed=0)


def test_inputs_of_each_kind_need_no_labels(tmp_path: Path) -> None:
    words = task("token_classification")
    conll = tmp_path / "x.bio"
    conll.write_text("Ada\nsaw\nNew\nYork\n\nit\nrained\n\nBo\nleft\n")
    for source in (
        WORDS,
        {"words": WORDS},
        conll,
        [{"tokens": row, "tags": "?"} for row in WORDS],
        pandas.Series(WORDS),
    ):
        assert read_inputs(source, words).to_dict() == {"tokens": WORDS}
    assert read_inputs({"w": WORDS}, words, {"tokens": "w"}).to_dict() == {"tokens": WORDS}

    asked = task("question_answering")
    both = {"question": ["Who?"], "context": [CONTEXT]}
    assert read_inputs([("Who?", CONTEXT)], asked).to_dict() == {"id": ["1"], **both}
    assert read_inputs([{"id": 7, "question": "Who?", "context": CONTEXT, "answers": None}], asked)["id"][0] == "7"
    assert read_inputs({"q": ["Who?"], "passage": [CONTEXT]}, asked, {"question": "q"}).to_dict() == {
        "id": ["1"],
        **both,
    }

    (tmp_path / "x.csv").write_text("document\na\nb\n")
    for source in (["a", "b"], tmp_path / "x.csv", {"source": ["a", "b"], "target": [None, ""]}):
        assert read_inputs(source, task("seq2seq")).to_dict() == {"source": ["a", "b"]}

    for source in (["a", "b"], {"question": ["a", "b"], "answer": ["", ""]}, {"text": ["a", "b"]}):
        assert read_inputs(source, task("causal_lm")).to_dict() == {"prompt": ["a", "b"]}
    asking = [turns[:-1] for turns in TURNS]
    for source in (asking, TURNS, {"messages": TURNS}):
        assert read_inputs(source, task("causal_lm")).to_dict() == {"messages": asking}, "without the turn to be made"
    table = {"instruction": ["Add."], "input": ["1 and 2"]}
    assert read_inputs(table, task("causal_lm")).to_dict() == {"prompt": ["Add.\n\n1 and 2"]}


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


def test_comments_of_conll_files_are_no_words(tmp_path: Path) -> None:
    (tmp_path / "x.conll").write_text(
        "# id abc\tdomain=en\nAda _ _ B-PER\nsaw _ _ O\n\n"
        "#\n# id d\tdomain=en\n# text = # saw\n# \n#\n# _ _ O\nsaw _ _ O\n"
    )
    (tmp_path / "y.conll").write_text("# B-PER\nsaw O\n\nit O\n# O\n")
    assert columns(load(tmp_path / "x.conll", **NONE))["tokens"] == [["Ada", "saw"], ["#", "saw"]]
    assert columns(load(tmp_path / "y.conll", **NONE))["tokens"] == [["#", "saw"], ["it", "#"]]


def test_marks_of_documents_and_paragraphs_in_conll_files_are_no_words(tmp_path: Path) -> None:
    (tmp_path / "x.conll").write_text("# newdoc\n# newpar\nAda B-PER\nsaw O\n\n# newpar\nit O\n# newpar\n")
    assert columns(load(tmp_path / "x.conll", problem="tags", **NONE))["tokens"] == [["Ada", "saw"], ["it", "#"]]


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


def test_completions_of_one_prompt_stay_together() -> None:
    rows = [{"prompt": f"prompt {i % 20}", "completion": f"completion {i}"} for i in range(160)]
    talks = [
        {"messages": [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["completion"]}]}
        for row in rows
    ]
    for read in (load(rows), load(talks)):
        asked = {
            split: {str(p) for p in part["prompt"]}
            if "prompt" in part.column_names
            else {str(messages[:-1]) for messages in part["messages"]}
            for split, part in read.splits.items()
        }
        assert len(asked["train"]) == 16
        assert not asked["train"] & (asked["validation"] | asked["test"])


def test_a_frequent_prompt_does_not_part_the_others() -> None:
    rows = [
        {"prompt": "Continue:" if i % 4 == 0 else f"prompt {i % 41}", "completion": f"completion {i}"}
        for i in range(400)
    ]
    read = load(rows)
    train, test = (set(read.splits[split]["prompt"]) for split in ("train", "test"))
    assert train & test <= {"Continue:"}
    assert len(test) > 2


def test_the_columns_that_a_caller_names_go_before_those_of_training() -> None:
    data = load([{"q": f"q {i}", "r": "r"} for i in range(40)], columns={"prompt": "q", "completion": "r"})
    rows = [{"q": "asked", "story": "told", "talk": [{"role": "user", "content": "said"}]}]
    asked = Task("t", Source("t", "0" * 64), kind="causal_lm", problem="completion")
    assert list(read_inputs(rows, asked, None, data.columns)["prompt"]) == ["asked"]
    assert list(read_inputs(rows, asked, {"text": "story"}, data.columns)["prompt"]) == ["told"]
    assert list(read_inputs(rows, asked, {"messages": "talk"}, data.columns)["prompt"]) == ["said"]


def test_splits_of_few_contexts_say_why_they_are_large() -> None:
    found = {"text": ["cat"], "answer_start": [4]}
    rows = [{"question": f"who {i}", "context": f"the cat {i % 4}", "answers": found} for i in range(100)]
    assert "test has 25 rows, where 10 were asked for: rows of one context stay together" in load(rows).notes
    rows[0]["context"] = "the cat alone"
    assert "test has 1 rows, where 20 were asked for: rows of one context stay together" in [
        note for seed in range(20) for note in load(rows, validation=0, test=0.2, seed=seed).notes
    ]


def test_an_instruction_that_all_rows_share_does_not_hold_them_together() -> None:
    rows = [{"prompt": "Continue:", "completion": f"completion {i}"} for i in range(40)]
    assert len(load(rows, kind="causal_lm").splits["test"]) == 4
    alone = [{"text": f"a text {i}"} for i in range(40)]
    assert len(load(alone, kind="causal_lm").splits["test"]) == 4


def test_withheld_answers_are_no_questions_without_an_answer() -> None:
    def rows(n: int, answered: bool, first: int = 0) -> list[dict[str, Any]]:
        found = {"text": ["cat"], "answer_start": [4]} if answered else {"text": [], "answer_start": []}
        return [{"question": f"who {i}", "context": f"the cat {i}", "answers": found} for i in range(first, first + n)]

    read = load({"train": rows(20, True), "validation": rows(4, True), "test": rows(4, False)})
    assert "the test split is left out: its answers are withheld" in read.notes
    assert all(read.splits["test"]["answer_texts"])  # cut from train
    both = rows(10, True) + [dict(row, question=f"not {row['question']}") for row in rows(10, False)]
    read = load({"train": both, "validation": rows(4, True, 30), "test": rows(4, False, 40)})
    assert (len(read.splits["test"]), read.notes) == (4, ())


@pytest.mark.parametrize("role", ["label", "tags", "answers", "target", "completion"])
@pytest.mark.parametrize("how", ["absent", "empty", "misspelt", "renamed"])
def test_a_held_out_split_without_labels_counts_as_missing(role: str, how: str) -> None:
    def rows(n: int) -> list[dict[str, Any]]:
        found = {
            "label": [{"text": f"text {i}", "label": i % 2} for i in range(n)],
            "tags": [{"tokens": ["a", f"{i}"], "tags": ["x", "y"]} for i in range(n)],
            "answers": [{"question": "who?", "context": f"the cat {i}", "answers": ["cat"]} for i in range(n)],
            "target": [{"source": f"text {i}", "target": f"{i}"} for i in range(n)],
            "completion": [{"prompt": f"text {i}", "completion": f"{i}"} for i in range(n)],
        }
        return found[role]

    test: list[dict[str, Any]] = [{name: value for name, value in row.items() if name != role} for row in rows(4)]
    source = {"train": rows(40), "validation": rows(4), "test": test}
    if how == "misspelt":
        source["test"] = [row | {f"{role}_": "x"} for row in test]
        with pytest.raises(DataError, match=rf"split 'test': no column '{role}' .*did you mean '{role}_'"):
            load(source)
        return
    if how == "renamed":
        other = {
            "label": "sentiment", "tags": "upos", "answers": "answer", "target": "summary", "completion": "response",
        }[role]  # fmt: skip
        source["test"] = [row | {other: "x"} for row in test]
        with pytest.raises(DataError, match=rf"split 'test': no column '{role}'"):
            load(source)
        return
    if how == "empty":
        source["test"] = [row | {role: value} for row, value in zip(test, [None, "", " ", math.nan], strict=True)]
    data = load(source)
    assert {split: len(found) for split, found in data.splits.items()} == {"train": 36, "validation": 4, "test": 4}
    assert f"the test split is left out: it has no column '{role}', or nothing in it" in data.notes


def test_a_file_of_words_alone_is_no_test_split_of_tags(tmp_path: Path) -> None:
    (tmp_path / "train.conll").write_text("Ada B-x\nsaw O\n\n" * 10)
    (tmp_path / "test.conll").write_text("Ada\nsaw\n")
    assert list(load(tmp_path, validation=0).splits) == ["train", "test"]


def test_a_test_file_may_hold_only_questions_without_an_answer(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("question,context,answer,answer_start\nwho,the cat,cat,4\nwhat,the cat,,\n")
    (tmp_path / "test.csv").write_text("question,context,answer,answer_start\nwhere,the cat,,\n")
    assert list(load(tmp_path, validation=0).splits["test"]["answer_texts"]) == [[]]


def test_a_csv_file_may_hold_questions_without_an_answer(tmp_path: Path) -> None:
    file = tmp_path / "questions.csv"
    file.write_text("question,context,answer,answer_start\nwho,the cat,cat,4\nwhat,the cat,,\n")
    read = load(file, validation=0, test=0)
    assert list(read.splits["train"]["answer_texts"]) == [["cat"], []]


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


def test_conll_u_is_told_from_conll(tmp_path: Path) -> None:
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


def test_languages_of_training_are_found_in_rows_to_be_predicted() -> None:
    table = {"translation": [{"de": "Haus", "en": "house"}, {"de": "Hund", "en": "dog"}]}
    found = read_inputs(table, task("seq2seq"), usual={"source": "en", "target": "de"})
    assert list(found["source"]) == ["house", "dog"]


def test_an_input_is_added_to_a_prompt_only_where_it_was_in_training() -> None:
    rows = {"question": ["Q1", "Q2"], "answer": ["A1", "A2"], "context": ["C1", "C2"]}
    named = load(rows, kind="instructions", columns={"prompt": "question", "completion": "answer"}, **NONE)
    assert list(named.splits["train"]["prompt"]) == ["Q1", "Q2"]
    usual = load(rows, kind="instructions", **NONE)
    assert list(usual.splits["train"]["prompt"]) == ["Q1\n\nC1", "Q2\n\nC2"]
    assert list(read_inputs(rows, task("causal_lm"), usual={"prompt": "question"})["prompt"]) == ["Q1", "Q2"]
    both = {"prompt": "question", "input": "context"}
    assert list(read_inputs(rows, task("causal_lm"), usual=both)["prompt"]) == ["Q1\n\nC1", "Q2\n\nC2"]


def test_questions_without_answers_can_be_predicted_and_not_learnt(tmp_path: Path) -> None:
    questions = [{"id": name, "question": "Who?"} for name in "ab"]

    def file(*extra: dict[str, Any]) -> Path:
        qas = [{**question, **more} for question, more in zip(questions, extra or ({}, {}), strict=True)]
        path = tmp_path / "new.json"
        path.write_text(json.dumps({"data": [{"paragraphs": [{"context": CONTEXT, "qas": qas}]}]}))
        return path

    assert list(read_inputs(str(file()), task("question_answering"))["question"]) == ["Who?", "Who?"]
    with pytest.raises(DataError, match="answers"):
        load(file(), **NONE)
    with pytest.raises(DataError, match="question 'b' has no answers, and others have"):
        load(file({"answers": [{"text": "Ada", "answer_start": 0}]}, {}), **NONE)


def test_a_new_conversation_is_answered_after_the_users_last_turn() -> None:
    turns = [{"role": role, "content": word} for role, word in (("user", "hi"), ("assistant", "a"), ("assistant", "b"))]
    (found,) = read_inputs({"messages": [turns]}, task("causal_lm"))["messages"]
    assert [turn["content"] for turn in found] == ["hi"]


def test_prompts_are_turns_of_the_user_where_conversations_were_learnt(tmp_path: Path) -> None:
    usual = {"messages": "conversations"}
    file = tmp_path / "new.csv"
    file.write_text("prompt\nhi\n", encoding="utf-8")
    for source in (["hi"], [{"prompt": "hi"}], str(file)):
        assert list(read_inputs(source, task("causal_lm"), usual=usual)["messages"]) == [
            [{"role": "user", "content": "hi"}]
        ]
        assert list(read_inputs(source, task("causal_lm"), usual={"prompt": "q"})["prompt"]) == ["hi"]
    assert list(read_inputs({"q": ["hi", ""]}, task("causal_lm"), {"prompt": "q"}, usual)["messages"]) == [
        [{"role": "user", "content": "hi"}], [],
    ]  # fmt: skip


def test_a_conversation_is_a_prompt_where_prompts_were_learnt() -> None:
    for usual in ({"prompt": "prompt", "completion": "completion"}, {"prompt": "q"}):
        found = read_inputs([[{"role": "user", "content": "hi"}]], task("causal_lm"), usual=usual)
        assert {name: list(found[name]) for name in found.column_names} == {"prompt": ["hi"]}
        for first in ("assistant", "system", "user"):
            turns = [{"role": first, "content": "so"}, {"role": "user", "content": "hi"}]
            with pytest.raises(DataError, match="row 1: the model was trained on prompts, and this conversation is"):
                read_inputs({"messages": [turns]}, task("causal_lm"), usual=usual)


def test_a_second_text_is_no_column_of_single_texts() -> None:
    rows = {"text": ["a"], "note": ["b"]}
    with pytest.raises(OptionError, match="text_pair is for models of pairs of texts"):
        read_inputs(rows, task("sequence_classification"), {"text_pair": "note"}, {"text": "text"})


def test_rows_may_have_numbers_as_names_of_columns() -> None:
    rows = [{0: "good", 1: "x"}, {0: "bad", 1: "y"}]
    assert list(load(rows, columns={"text": "0", "label": "1"}, **NONE).splits["train"]["text"]) == ["good", "bad"]


def test_names_that_differ_in_case_alone_are_said() -> None:
    rows = [{"text": f"text {i}", "label": name} for i, name in enumerate(["good", "Good ", "bad", "GOOD"] * 3)]
    differ = "that differ in upper and lower case alone are taken for different ones:"
    assert load(rows, **NONE).notes == (f"labels {differ} 'GOOD', 'Good', 'good'",)
    words = [{"tokens": ["Ada", "Oslo"], "tags": tags} for tags in [["B-PER", "B-LOC"], ["B-per", "B-loc"]] * 3]
    assert load(words, **NONE).notes == (f"tags {differ} 'B-LOC', 'B-loc'; 'B-PER', 'B-per'",)
