"""What a student cannot be taught is refused."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from distillation_helpers import SHORT, begun
from tiny_tasks import TASKS

import adapt
import adapt.training
from adapt.adapted import Adapted
from adapt.distillation import labelled_by
from adapt.spec import DataError, OptionError, RowError, Unsupported


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ({"temperature": 0}, "temperature is 0; give a number from 0.1 to 100"),
        ({"temperature": 1e200}, r"temperature is 1e\+200; give a number from 0.1 to 100"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"temperature": "hot"}, "temperature is hot"),
        ({"weight": 1.5}, "weight is 1.5; give a number from 0 to 1"),
        ({"weight": 0}, "weight is 0, with which the teacher teaches nothing"),
        ({"epoch": 3}, "There is no option 'epoch'"),
        ({"strategy": "untrained"}, "'untrained' trains nothing, so that nobody learns; give another strategy"),
    ],
)
def test_an_option_that_cannot_be_used(
    choices: dict[str, Any], words: str, teachers: Callable[[str], Adapted], backbone: Callable[..., Path]
) -> None:
    with pytest.raises(OptionError, match=words):
        adapt.distill(teachers("single_label"), backbone("bert"), TASKS["single_label"](), **choices)


@pytest.mark.parametrize(
    ("task", "how", "words"),
    [
        ("single_label", {"weight": 0, "unlabelled": ["word1"]}, "for weight is 0; leave it out"),
        ("regression", {}, "for the teacher's numbers are compared as they are; leave it out"),
    ],
)
def test_a_temperature_that_softens_nothing(
    task: str, how: dict[str, Any], words: str, teachers: Callable[[str], Adapted], backbone: Callable[..., Path]
) -> None:
    with pytest.raises(OptionError, match=rf"temperature is 4, and there is nothing to soften, {words}"):
        begun(teachers(task), backbone("bert"), TASKS[task](), temperature=4.0, **how)
    assert begun(teachers(task), backbone("bert"), TASKS[task](), **how)[2].described.temperature == 2.0


@pytest.mark.parametrize("teacher", [None, 3, ("one", "two")])
def test_a_teacher_that_is_no_model(teacher: Any, backbone: Callable[..., Path]) -> None:
    with pytest.raises(OptionError, match=rf"of type {type(teacher).__name__}; give a trained model, or its folder"):
        adapt.distill(teacher, backbone("bert"), TASKS["single_label"](), "head", **SHORT)


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("spans", "trained for kind sequence_classification, and the data are for token_classification"),
        ("regression", "trained for problem single_label, and the data are for regression"),
        ("pairs", "trained on single texts, and the data are pairs of texts"),
    ],
)
def test_a_teacher_of_another_task(
    task: str, words: str, teachers: Callable[[str], Adapted], backbone: Callable[..., Path]
) -> None:
    with pytest.raises(OptionError, match=words):
        adapt.distill(teachers("single_label"), backbone("bert"), TASKS[task](), "head", **SHORT)


def test_a_teacher_whose_head_was_never_trained(backbone: Callable[..., Path]) -> None:
    data = TASKS["single_label"]()
    untrained = adapt.fit(backbone("bert"), data, "untrained", **SHORT)
    with pytest.raises(OptionError, match=r"'untrained', trains nothing, .* give a teacher that was trained"):
        begun(untrained, backbone("bert"), data)


def test_a_language_model_as_it_was_pretrained_may_teach(backbone: Callable[..., Path]) -> None:
    data = TASKS["completion"]()
    untrained = adapt.fit(backbone("gpt2"), data, "untrained", **SHORT)
    assert begun(untrained, backbone("gpt2"), data)[2].teacher is untrained


def test_a_teacher_of_other_classes(teachers: Callable[[str], Adapted], backbone: Callable[..., Path]) -> None:
    data = adapt.data.load((["word1", "word2"] * 20, ["red", "green"] * 20))
    with pytest.raises(OptionError, match=r"classes that the teacher does not know \(green, red\); give a teacher"):
        adapt.distill(teachers("single_label"), backbone("bert"), data, "head", **SHORT)


def test_a_language_model_with_another_vocabulary(
    teachers: Callable[[str], Adapted], backbone: Callable[..., Path]
) -> None:
    data = TASKS["completion"]()
    with pytest.raises(Unsupported, match=r"vocabulary .* is not the student's .* weight=0 and unlabelled prompts"):
        adapt.distill(teachers("completion"), "tiny-decoder", data, "head", **SHORT)
    prompts = [row["prompt"] for row in data.splits["test"]]
    student = adapt.distill(teachers("completion"), "tiny-decoder", data, "head", weight=0, unlabelled=prompts, **SHORT)
    assert student.result is not None
    with pytest.raises(Unsupported, match=r"token by token; give a teacher that has the student's tokenizer"):
        adapt.distill(teachers("masked"), "tiny-encoder", TASKS["masked"](), "head", **SHORT)


def test_rows_without_labels_that_are_of_another_form(teachers: Callable[[str], Adapted]) -> None:
    said = [{"role": role, "content": "word1"} for role in ("user", "assistant", "user")]
    with pytest.raises(DataError, match="trained on prompts, and this conversation is more than one turn of a user"):
        labelled_by(teachers("messages"), [said], TASKS["completion"]())
    found = labelled_by(teachers("completion"), [said[:1]], TASKS["messages"]())
    assert [turn["role"] for turn in found.rows[0]["messages"]] == ["user", "assistant"]


def test_rows_without_labels_that_cannot_be_read(
    teachers: Callable[[str], Adapted], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said that these are meant, for the data are read too."""
    data, teacher = TASKS["single_label"](), teachers("single_label")
    with pytest.raises(DataError, match="unlabelled: the texts, row 2: no text"):
        labelled_by(teacher, ["word1", ""], data)

    def refuse(*_: Any) -> None:
        raise RowError(1, None, "nothing is made of it; take it out")

    monkeypatch.setattr(type(teacher.fitted.kind), "encode", refuse)
    with pytest.raises(DataError, match="unlabelled: Row 2: nothing is made of it"):
        labelled_by(teacher, ["word1 word1", "word2 word1"], data)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (
            {"template": "Q {prompt}"},
            r"with template '{prompt}', .* to be with 'Q {prompt}'; .*task\.template=",
        ),
        ({"separator": " "}, r"trained with separator '\\n', .* to be with ' '"),
        ({"max_length": 65}, "max_length is 65, and the teacher has positions for 64 tokens; lower it"),
    ],
)
def test_a_teacher_that_would_read_other_tokens(
    changed: dict[str, Any], words: str, teachers: Callable[[str], Adapted], backbone: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Said before it is asked about any row; where it only labels rows, it reads them in its own way."""
    teacher, data = teachers("completion"), TASKS["completion"]()
    prompts = [row["prompt"] for row in data.splits["test"]]
    student = "tiny-decoder" if "max_length" in changed else backbone("gpt2")
    if "max_length" in changed:
        monkeypatch.setattr(type(teacher.fitted.tokenizer), "get_vocab", lambda self: {})
    with monkeypatch.context() as patched:
        patched.setattr(adapt.training, "predict", None)
        with pytest.raises(OptionError, match=words):
            begun(teacher, student, data, unlabelled=prompts, **changed)
    assert begun(teacher, student, data, unlabelled=prompts, weight=0, **changed)[2].extra is not None


def test_a_teacher_elsewhere(teachers: Callable[[str], Adapted], backbone: Callable[..., Path]) -> None:
    teacher = teachers("completion")
    model = copy.deepcopy(teacher.fitted.model).to("meta")
    far = dataclasses.replace(teacher, fitted=dataclasses.replace(teacher.fitted, model=model))
    with pytest.raises(OptionError, match="The teacher is on device 'meta', and the student is to be trained on 'cpu'"):
        begun(far, backbone("gpt2"), TASKS["completion"]())


def test_another_chat_template(teachers: Callable[[str], Adapted], backbone: Callable[..., Path]) -> None:
    teacher = teachers("messages")
    tokenizer = copy.deepcopy(teacher.fitted.tokenizer)
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    other = dataclasses.replace(teacher, fitted=dataclasses.replace(teacher.fitted, tokenizer=tokenizer))
    with pytest.raises(OptionError, match="The chat template of the student's tokenizer is not that of the teacher's"):
        begun(other, backbone("llama"), TASKS["messages"]())


def test_a_teacher_that_takes_some_part_of_every_context_for_an_answer(
    teachers: Callable[[str], Adapted], backbone: Callable[..., Path]
) -> None:
    answered = TASKS["answers"]().splits["train"].to_list()
    rows = [
        {name: row[name] for name in ("question", "context")}
        | {"answers": {"text": row["answer_texts"], "answer_start": row["answer_starts"]}}
        for row in answered
    ]
    rows += [{**row, "question": "why ?", "answers": {"text": [], "answer_start": []}} for row in rows[:20]]
    some = adapt.data.load(rows)
    for given in ({}, {"weight": 0, "unlabelled": rows[:5]}):
        with pytest.raises(OptionError, match="have questions without an answer, and the teacher was trained on none"):
            adapt.distill(teachers("answers"), backbone("distilbert"), some, "head", **given, **SHORT)
    knows = adapt.fit(backbone("distilbert"), some, "head", **SHORT)
    for data in (some, TASKS["answers"]()):
        assert begun(knows, backbone("distilbert"), data)[2].teacher is knows


def test_a_masked_language_model_without_a_pretrained_head_is_no_teacher() -> None:
    texts = [f"word{i} of many" for i in range(20)]
    teacher = adapt.fit("tiny-encoder", texts, "untrained", kind="masked_lm", device="cpu")

    assert not teacher.fitted.model.fresh_names
    teacher.fitted.model.fresh_names = frozenset({"cls.predictions.bias"})
    with pytest.raises(OptionError, match="trains nothing, so that its head for masked_lm knows nothing"):
        adapt.distill(teacher, "tiny-encoder", adapt.data.load(texts, kind="masked_lm"), device="cpu")
