"""Rows of every kind that are to be predicted, and the columns that training knew."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas
import pytest
from data_helpers import CONTEXT, NONE, TURNS, WORDS, task

from adapt.data import load, read_inputs
from adapt.spec import DataError, OptionError, Source, Task


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


def test_the_columns_that_a_caller_names_go_before_those_of_training() -> None:
    data = load([{"q": f"q {i}", "r": "r"} for i in range(40)], columns={"prompt": "q", "completion": "r"})
    rows = [{"q": "asked", "story": "told", "talk": [{"role": "user", "content": "said"}]}]
    asked = Task("t", Source("t", "0" * 64), kind="causal_lm", problem="completion")
    assert list(read_inputs(rows, asked, None, data.columns)["prompt"]) == ["asked"]
    assert list(read_inputs(rows, asked, {"text": "story"}, data.columns)["prompt"]) == ["told"]
    assert list(read_inputs(rows, asked, {"messages": "talk"}, data.columns)["prompt"]) == ["said"]


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
