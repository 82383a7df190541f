"""What a teacher says of its own tokens comes to those of its student."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import task_helpers
import torch
from tokenizers import processors

import adapt
import adapt.training
from adapt.distillation.language import Tokens
from adapt.distillation.said import Said, copy_of_kind
from adapt.distillation.soft import Places, Tags, _within, divergence
from adapt.spec import OptionError
from adapt.tasks.question_answering import _tokens_of


def encoded_by(tokenizer: Any, name: str, problem: str, rows: Any, length: int = 64, **more: Any) -> tuple[Any, Any]:
    metrics = {"tags": "token_accuracy", "answers": "answer_f1"}
    kind = task_helpers.kind(name, tokenizer, problem, metrics[problem], length=length, **more)
    return kind, kind.encode(rows, split="train")


def test_what_is_said_of_a_word_goes_to_its_first_token() -> None:
    data = adapt.data.load([{"tokens": ["anna", "playing", "\x07", "house"], "tags": ["n", "v", "n", "n"]}] * 3,
                           kind="pos", validation=0, test=0)  # fmt: skip
    rows = data.splits["train"]
    its, shown = encoded_by(task_helpers.byte_level("roberta"), "token_classification", "tags", rows, labels=["v", "n"],
                            length=8, stride=2)  # fmt: skip
    own, examples = encoded_by(task_helpers.wordpiece(), "token_classification", "tags", rows, labels=["n", "v"])
    assert len(shown) > len(examples)  # windows
    said = [torch.tensor([[float(word), -float(word)] for word in e["words"]]).reshape(-1, 2) for e in shown]
    lesson = Tags(own, 1.0, 1.0)
    lesson.teach(examples, lesson.rows(Said(its, shown, said)))
    batch = own.collate(examples[:1]) | lesson.collate(examples[:1])
    found = batch["teacher"][0][batch["read"][0]]
    assert found.tolist() == [[-0.0, 0.0], [-1.0, 1.0], [-3.0, 3.0]]  # the third is no word to WordPiece
    assert batch["teacher"].isfinite().all(-1).equal(batch["read"])
    logits = torch.randn(*batch["read"].shape, 2)
    distance = lesson.distance(type("Output", (), {"logits": logits}), batch)
    wanted = divergence(found, logits[0][batch["read"][0]], 1.0).mean()
    assert torch.allclose(distance, wanted)


def test_a_word_that_the_teacher_cannot_read_teaches_nothing() -> None:
    rows = adapt.data.load([{"tokens": ["anna", "\x07"], "tags": ["n", "v"]}] * 2, kind="pos", validation=0,
                           test=0).splits["train"]  # fmt: skip
    its, shown = encoded_by(task_helpers.wordpiece(), "token_classification", "tags", rows, labels=["n", "v"])
    own, examples = encoded_by(task_helpers.byte_level(), "token_classification", "tags", rows, labels=["n", "v"])
    lesson = Tags(own, 1.0, 1.0)
    lesson.teach(examples, lesson.rows(Said(its, shown, [torch.tensor([[3.0, 0.0]])] * 2)))
    batch = own.collate(examples) | lesson.collate(examples)
    student = torch.tensor([0.0, 1.0])  # of both words
    logits = student.repeat(*batch["read"].shape, 1).requires_grad_()
    loss = lesson.distance(type("Output", (), {"logits": logits}), batch)
    loss.backward()
    once = divergence(torch.tensor([3.0, 0.0]), student, 1.0)
    assert torch.allclose(loss, once / 2)  # a mean over both words
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


CONTEXT = "anna saw bob in paris on monday while the cat sat there"


def answers() -> Any:
    row = {"question": "who saw bob ?", "context": CONTEXT,
           "answers": {"text": ["paris"], "answer_start": [CONTEXT.index("paris")]}}  # fmt: skip
    return adapt.data.load([row] * 2, validation=0, test=0).splits["train"]


@pytest.mark.parametrize("length", [64, 14])
@pytest.mark.parametrize("tokenizer", ["wordpiece", "byte_level"])
def test_a_place_is_that_of_its_characters(tokenizer: str, length: int) -> None:
    """The mass of each of the teacher's tokens comes to stand where its characters are; none of it is lost."""
    rows = answers()
    its, shown = encoded_by(task_helpers.byte_level("roberta"), "question_answering", "answers", rows, length=24,
                            stride=4)  # fmt: skip
    own, examples = encoded_by(getattr(task_helpers, tokenizer)(), "question_answering", "answers", rows, length=length,
                               stride=2)  # fmt: skip
    sure = 40.0
    begin, end = CONTEXT.index("bob"), CONTEXT.index("paris") + len("paris")
    said = []
    for example in shown:
        logits = torch.zeros(2, 1 + len(example["offsets"]))
        for j, (a, b) in enumerate(example["offsets"]):
            if CONTEXT[a:b].strip() and a + len(CONTEXT[a:b]) - len(CONTEXT[a:b].lstrip()) == begin:
                logits[0, 1 + j] = sure
            if b == end:
                logits[1, 1 + j] = sure
        said.append(logits)
    lesson = Places(own, 1.0, 1.0)
    lesson.teach(examples, lesson.rows(Said(its, shown, said)))
    batch = own.collate(examples) | lesson.collate(examples)
    assert torch.allclose(batch["teacher"].sum(-1), torch.ones(len(examples), 2), atol=1e-5)
    assert not batch["teacher"][~batch["choices"][:, None].expand_as(batch["teacher"])].any()
    for row, example in zip(batch["teacher"], examples, strict=True):
        for side, character in ((0, begin), (1, end - 1)):
            places = [i for i, (a, b) in enumerate(example["offsets"]) if a <= character < b]
            wanted = example["first"] + places[0] if places else example["null"]
            assert row[side].argmax() == wanted
            assert row[side, wanted] > 0.999


@pytest.mark.parametrize("text", ["anna “saw” bob", "安娜在巴黎看见鲍勃", "café – naïve ☃☃ bob"])
@pytest.mark.parametrize("length", [64, 20])
def test_tokens_that_share_a_character_keep_what_is_theirs(text: str, length: int) -> None:
    """Tokens of bytes: what a teacher of the same tokenizer says is what the student is taught, to the last token."""
    row = {"question": "who ?", "context": text, "answers": {"text": [text[:2]], "answer_start": [0]}}
    rows = adapt.data.load([row] * 2, validation=0, test=0).splits["train"]
    its, shown = encoded_by(task_helpers.byte_level("roberta"), "question_answering", "answers", rows, length=64)
    own, examples = encoded_by(task_helpers.byte_level("roberta"), "question_answering", "answers", rows, length=length)
    said = [torch.randn(2, 1 + len(example["offsets"])) for example in shown]
    lesson = Places(own, 1.0, 1.0)
    lesson.teach(examples, lesson.rows(Said(its, shown, said)))
    for example in examples:
        assert np.allclose(example["teacher"].sum(1), 1.0, atol=1e-5)
    if length == 64:
        shares, wanted = said[0].softmax(-1).numpy(), np.zeros((2, len(said[0][0])))
        wanted[:, 0] = shares[:, 0]
        for token, (a, b) in enumerate(shown[0]["offsets"]):
            for side, place in enumerate(_tokens_of(shown[0]["offsets"], a, b)):  # type: ignore[arg-type]
                wanted[side, 1 + place] += shares[side, 1 + token]
        assert np.allclose(examples[0]["teacher"], wanted, atol=1e-6)


def test_a_token_that_begins_with_the_space_before_a_window_is_in_it() -> None:
    """Of byte-level vocabularies a word's token has the space before it, of others it has not."""
    shares = np.zeros((2, 3))
    shares[:, 2] = 1.0
    words = np.array([(0, 6), (6, 12)])
    assert _within([(7, 12)], shares, words).tolist() == [[0.0, 1.0], [0.0, 1.0]]
    assert _within([(0, 6)], shares, words).tolist() == [[1.0, 0.0], [1.0, 0.0]]
    assert _within([], shares, words).tolist() == [[1.0], [1.0]]


def test_of_overlapping_windows_the_one_with_most_context_is_believed() -> None:
    rows = answers()
    its, shown = encoded_by(task_helpers.wordpiece(), "question_answering", "answers", rows, length=14, stride=4)
    own, examples = encoded_by(task_helpers.wordpiece(), "question_answering", "answers", rows)
    shown = [example for example in shown if example["row"] == 0]
    said = [torch.full((2, 1 + len(example["offsets"])), float(i)) for i, example in enumerate(shown)]
    lesson = Places(own, 1.0, 1.0)
    lesson.teach(examples[:1], lesson.rows(Said(its, shown, said)))
    tokens = len(examples[0]["offsets"])
    best = []
    for token in range(tokens):
        room = [min(token - e["begin"], e["begin"] + len(e["offsets"]) - 1 - token) for e in shown]
        best.append(float(room.index(max(room))))
    wanted = torch.tensor([0.0, *best]).softmax(-1)  # of no answer the least of any window
    assert torch.allclose(torch.from_numpy(examples[0]["teacher"]), wanted.expand(2, -1), atol=1e-6)


@pytest.mark.parametrize("name", ["M2M100", "MBart50", "MBart"])
def test_a_teacher_of_many_languages_begins_as_its_student_does(name: str) -> None:
    tokens, net = task_helpers.multilingual(name)
    languages = ("fra_Latn", "deu_Latn") if name == "M2M100" else ("fr_XX", "de_DE")
    kind = task_helpers.kind("seq2seq", tokens, "text", "chrf", max_target_length=5, source_language=languages[0],
                             target_language=languages[1])  # fmt: skip
    rows = adapt.data.load({"train": [{"source": "a b", "target": "b a"}] * 3}, validation=0, test=0).splits["train"]
    batch = kind.collate(kind.encode(rows))
    teacher = SimpleNamespace(run=SimpleNamespace(task=kind.task), fitted=SimpleNamespace(tokenizer=tokens, kind=kind))
    lesson = Tokens(kind, copy_of_kind(teacher), net, "fp32", len(tokens), 2.0, 1.0)  # type: ignore[arg-type]
    assert lesson.loss(net, batch).abs() < 1e-6


def test_a_teacher_that_was_told_of_languages_is_asked_by_a_student_of_the_same(tmp_path: Path) -> None:
    """The tokenizer of the student's backbone is told of them when its rows are encoded."""
    tokens, net = task_helpers.multilingual("M2M100")
    folder = tmp_path / "own"
    for part in (tokens, net):
        part.save_pretrained(folder)
    rows = [{"source": "a b", "target": "b a"}] * 4
    options: dict[str, Any] = {
        "kind": "seq2seq", "source_language": "fra_Latn", "target_language": "deu_Latn", "max_target_length": 6,
        "max_length": 12, "epochs": 1, "device": "cpu", "precision": "fp32", "metric": "loss",
    }  # fmt: skip
    data = dict.fromkeys(("train", "validation", "test"), rows)
    teacher = adapt.fit(folder, data, "head", **options)
    student = adapt.distill(teacher.save(tmp_path / "teacher"), folder, data, "head", **options)
    assert student.result is not None
    assert student.result.status == "ok"


def test_what_ends_an_answer_is_compared_not_what_ends_a_text(tmp_path: Path) -> None:
    """A chat model's tokenizer may end texts as it ends answers, and that of its base model not."""
    template = "{% for m in messages %}{{ m.content }}</s>{% endfor %}"
    folders = []
    for name, eos in (("chat", "</s>"), ("base", "<end>")):
        tokens = task_helpers.byte_level()
        tokens.eos_token, tokens.chat_template = eos, template
        net = task_helpers.model("Llama", "CausalLM", tokens)
        folders.append(tmp_path / name)
        for part in (tokens, net):
            part.save_pretrained(folders[-1])
    options: dict[str, Any] = {"epochs": 1, "device": "cpu", "precision": "fp32", "max_length": 32}
    chat = [[{"role": "user", "content": "who ?"}, {"role": "assistant", "content": "bob"}]] * 4
    talk, texts = {"messages": chat}, {"prompt": ["who ?"] * 4, "completion": ["bob"] * 4}
    every = [dict.fromkeys(("train", "validation", "test"), rows) for rows in (talk, texts)]
    assert adapt.distill(adapt.fit(folders[0], every[0], "head", **options), folders[1], every[0], "head", **options)
    teacher = adapt.fit(folders[0], every[1], "head", **options)
    with pytest.raises(OptionError, match=r"ends texts with the token </s>, and the student is to end them with <end>"):
        adapt.distill(teacher, folders[1], every[1], "head", **options)


def test_what_begins_a_text_is_that_of_the_student(tmp_path: Path) -> None:
    """A teacher that has read a token before every text would be asked about texts without it."""
    folders = []
    for name, single in (("with", "<s> $A"), ("without", "$A")):
        tokens = task_helpers.byte_level()
        tokens.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single=single, pair=f"{single} $B", special_tokens=[("<s>", tokens.convert_tokens_to_ids("<s>"))]
        )
        net = task_helpers.model("Llama", "CausalLM", tokens)
        folders.append(tmp_path / name)
        for part in (tokens, net):
            part.save_pretrained(folders[-1])
    options: dict[str, Any] = {"epochs": 1, "device": "cpu", "precision": "fp32", "max_length": 32}
    rows = [{"prompt": "who ?", "completion": "bob"}] * 4
    data = dict.fromkeys(("train", "validation", "test"), rows)
    teacher = adapt.fit(folders[0], data, "head", **options)
    assert adapt.distill(teacher, folders[0], data, "head", **options).result is not None
    with pytest.raises(OptionError, match="puts other tokens before a text than the student's"):
        adapt.distill(teacher, folders[1], data, "head", **options)


def test_no_answer_is_that_of_the_window_that_decides() -> None:
    """Of windows with logits of no answer (5, -1) and (-1, 5) either decides, and not (-1, -1)."""
    rows = answers()
    its, shown = encoded_by(task_helpers.wordpiece(), "question_answering", "answers", rows, length=14, stride=4)
    own, examples = encoded_by(task_helpers.wordpiece(), "question_answering", "answers", rows)
    shown = [example for example in shown if example["row"] == 0]
    assert len(shown) > 1
    said = [torch.zeros(2, 1 + len(example["offsets"])) for example in shown]
    for i, output in enumerate(said):
        output[:, 0] = torch.tensor([5.0, -1.0] if i % 2 else [-1.0, 5.0])
    lesson = Places(own, 1.0, 1.0)
    lesson.teach(examples[:1], lesson.rows(Said(its, shown, said)))
    tokens = len(examples[0]["offsets"])
    wanted = torch.tensor([[-1.0, *[0.0] * tokens], [5.0, *[0.0] * tokens]]).softmax(-1)
    assert torch.allclose(torch.from_numpy(examples[0]["teacher"]), wanted, atol=1e-6)
