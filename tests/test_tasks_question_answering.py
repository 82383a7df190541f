"""Question answering: where answers lie, windows, the best span, no answer."""

from __future__ import annotations

import itertools
import random
import unicodedata
from typing import Any

import datasets
import pytest
import torch
from task_helpers import SENTENCE, WORDS, byte_level, kind, model, one_by_one, outputs, wordpiece
from tokenizers import Tokenizer, models, normalizers, processors
from transformers import PreTrainedTokenizerFast

from adapt.metrics.texts import end_of_words
from adapt.spec import DataError, Diverged, OptionError, Unsupported
from adapt.tasks.question_answering import _whole_character, best_span

MODELS = ["Bert", "GPT2", "Llama", "T5", "Bart"]


def qa(tokenizer: Any = None, length: int = 64, **options: Any) -> Any:
    return kind("question_answering", tokenizer or wordpiece(), "answers", "answer_f1", length=length, **options)


def table(*rows: tuple[str, str, list[str]]) -> datasets.Dataset:
    """Question, context and answers, each found at its first place in the context."""
    return datasets.Dataset.from_list([
        {"id": f"q{i}", "question": q, "context": c, "answer_texts": a, "answer_starts": [c.index(t) for t in a]}
        for i, (q, c, a) in enumerate(rows)
    ])  # fmt: skip


def random_rows(n: int, seed: int, words: int = 40) -> datasets.Dataset:
    rng = random.Random(seed)
    plain = [word for word in WORDS if word.isalpha()]
    rows: list[dict[str, Any]] = []
    for _ in range(n):
        context = [rng.choice(plain) for _ in range(words)]
        at = rng.randrange(1, words - 3)
        answer = " ".join(context[at : at + rng.randint(1, 3)])
        start = len(" ".join(context[:at])) + 1
        rows.append({"id": f"r{len(rows)}", "question": "who saw the cat ?", "context": " ".join(context)}
                    | {"answer_texts": [answer], "answer_starts": [start]})  # fmt: skip
    return datasets.Dataset.from_list(rows)


def perfect(examples: list[Any]) -> list[torch.Tensor]:
    """Outputs that point at each window's target."""
    made = []
    for example in examples:
        logits = torch.zeros(2, 1 + len(example["offsets"]))
        for side, place in enumerate(example["target"]):
            logits[side, 0 if place == example["null"] else place - example["first"] + 1] = 5.0
        made.append(logits)
    return made


def test_a_tokenizer_of_another_script_makes_nothing_of_an_a() -> None:
    letters = Tokenizer(models.BPE({"<pad>": 0, "</s>": 1, "ሀ": 2, "\n": 3}, []))
    tokens = PreTrainedTokenizerFast(tokenizer_object=letters, pad_token="<pad>", eos_token="</s>")
    (example,) = qa(tokenizer=tokens).encode(table(("ሀ", "ሀሀ", ["ሀ"])))
    assert (example["input_ids"], example["first"], example["target"]) == ([2, 3, 2, 2], 2, (2, 2))


def test_a_row_by_hand() -> None:
    bound = qa()
    rows = table(("who sat there?", "The cat, walking, sat there.", ["cat, walking"]), ("what?", "a tree", []))
    examples = bound.encode(rows, split="train")
    tokens = [bound.tokenizer.convert_ids_to_tokens(e["input_ids"]) for e in examples]
    assert " ".join(tokens[0]) == "[CLS] who sat there ? [SEP] [UNK] cat , walk ##ing , sat there . [SEP]"
    assert examples[0]["target"] == (7, 10)
    assert examples[1]["target"] == (0, 0)
    batch = bound.collate(examples)
    assert batch["labels"].tolist() == [[7, 10], [0, 0]]
    assert batch["choices"][0].nonzero()[:, 0].tolist() == [0, *range(6, 15)]
    assert batch["choices"][1].nonzero()[:, 0].tolist() == [0, 4, 5]
    bound.fit(examples)
    assert bound.decode(perfect(examples), examples) == [
        {"id": "q0", "answer": "cat, walking", "start": 4, "score": 10.0},
        {"id": "q1", "answer": "", "start": None, "score": -10.0},
    ]
    assert bound.score(perfect(examples), examples) == {"answer_f1": 1.0, "answer_exact_match": 1.0}


@pytest.mark.parametrize("which", ["wordpiece", "gpt2", "roberta", "llama3"])
@pytest.mark.parametrize(("length", "stride"), [(200, 8), (30, 8), (24, 100), (40, 0)])
def test_answers_are_found_again_in_the_windows(which: str, length: int, stride: int) -> None:
    tokenizer = wordpiece() if which == "wordpiece" else byte_level(which)
    bound = qa(tokenizer, length, stride=stride)
    rows = random_rows(20, 0)
    examples = bound.encode(rows, split="test")
    assert all(len(e["input_ids"]) <= length for e in examples)
    bound.fit(examples)
    found = bound.decode(perfect(examples), examples)
    held = {e["row"] for e in examples if e["target"][0] != e["null"]}
    assert len(held) > 10
    lost = len(rows) - len(held)
    assert [n for n in bound.notes if "answers" in n] == (
        [f"{lost} answers of the test split lie in no window of {length} tokens"] if lost else []
    )
    for i, row in enumerate(rows):
        assert found[i]["id"] == row["id"]
        context = row["context"]
        if i in held:
            (text,), (start,) = row["answer_texts"], row["answer_starts"]
            assert (found[i]["answer"], found[i]["start"]) == (text, start)
        ids = tokenizer(context, add_special_tokens=False)["input_ids"]
        parts = [e for e in examples if e["row"] == i]
        for e in parts:
            n = len(e["offsets"])
            assert e["input_ids"][e["first"] : e["first"] + n] == ids[e["begin"] : e["begin"] + n]
        assert {t for e in parts for t in range(e["begin"], e["begin"] + len(e["offsets"]))} == set(range(len(ids)))


def test_training_rows_whose_answer_is_cut_are_left_out_and_counted() -> None:
    long = ("who ?", SENTENCE, [SENTENCE[:-6]])
    short = ("who ?", SENTENCE, ["anna"])
    bound = qa(length=12, stride=2)
    examples = bound.encode(table(long, short, long), split="train")
    assert {e["row"] for e in examples} == {1}
    assert bound.notes == ["2 answers of the train split lie in no window of 12 tokens"]
    assert {e["row"] for e in bound.encode(table(long, short), split="validation")} == {0, 1}
    with pytest.raises(DataError, match="No answer of the train split lies in a window of 12 tokens; raise max_length"):
        bound.encode(table(long), split="train")


def test_a_long_question_is_cut() -> None:
    bound = qa(length=30)
    (example,) = bound.encode(table((" ".join(["who"] * 15), "the cat", ["cat"])), split="train")
    assert bound.tokenizer.convert_ids_to_tokens(example["input_ids"])[:12] == ["[CLS]", *["who"] * 10, "[SEP]"]
    assert bound.notes == ["1 questions of the train split were cut to 10 tokens"]
    assert example["target"] == (13, 13)


def test_a_tokenizer_that_adds_nothing_gets_a_line_break() -> None:
    tokenizer = byte_level("gpt2")
    (example,) = qa(tokenizer).encode(table(("who ?", "the cat", ["cat"])))
    assert tokenizer.decode(example["input_ids"]) == "who ?\nthe cat"
    assert example["null"] == 0
    assert example["target"][0] > example["first"]


@pytest.mark.parametrize("seed", range(4))
def test_the_best_span_is_the_best_of_all(seed: int) -> None:
    for n, longest in itertools.product((1, 2, 5, 11), (1, 3, 30)):
        logits = torch.randn(2, 1 + n, generator=torch.Generator().manual_seed(seed))
        start, end = logits[:, 1:].tolist()
        every = {(a, b): start[a] + end[b] for a in range(n) for b in range(a, min(n, a + longest))}
        value, a, b = best_span(logits, longest)
        assert (a, b) == max(every, key=lambda span: every[span])
        assert value == pytest.approx(every[a, b])
    assert best_span(torch.zeros(2, 1), 3) == (float("-inf"), -1, -1)


@pytest.mark.parametrize("name", MODELS)
def test_the_loss_is_that_of_a_softmax_over_null_and_context(name: str) -> None:
    tokenizer = byte_level() if name == "GPT2" else wordpiece(cls=name == "Bert")
    bound = qa(tokenizer, 90)
    examples = bound.encode(random_rows(4, 1, words=20), split="train")
    net = model(name, "QuestionAnswering", tokenizer)
    batch = bound.collate(examples)
    total = 0.0
    with torch.no_grad():
        for example in examples:
            found = net(input_ids=torch.tensor([example["input_ids"]]))
            own = [example["null"], *range(example["first"], example["first"] + len(example["offsets"]))]
            for logits, place in zip((found.start_logits, found.end_logits), example["target"], strict=True):
                total -= float(logits[0, own].log_softmax(-1)[own.index(place)])
        ours = bound.loss(net, batch)
    assert ours.dtype == torch.float32
    assert float(ours) == pytest.approx(total / 2 / len(examples), rel=1e-4)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_row_has_the_same_outputs_alone_and_in_a_batch(name: str, side: str) -> None:
    tokenizer = byte_level(side=side) if name == "GPT2" else wordpiece(cls=name == "Bert", side=side)
    bound = qa(tokenizer, 40, stride=6)
    rows = [*random_rows(3, 2), *random_rows(2, 3, words=9)]
    examples = bound.encode(datasets.Dataset.from_list(rows), split="test")
    net = model(name, "QuestionAnswering", tokenizer)
    for a, b, example in zip(outputs(bound, net, examples), one_by_one(bound, net, examples), examples, strict=True):
        assert a.shape == (2, 1 + len(example["offsets"]))
        assert a.dtype == torch.float32
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_no_answer_is_predicted_only_where_training_had_such_questions() -> None:
    rows = table(("who ?", "anna saw bob", ["anna"]), ("what ?", "the cat sat", []))
    bound = qa()
    examples = bound.encode(rows, split="train")
    made = [torch.tensor([[0.0, 1, 0, 0], [0, 1, 0, 0]]), torch.tensor([[1.5, 1, 0, 0], [1.5, 0, 2, 0]])]
    bound.fit(examples[:1])
    assert bound.state() == {"unanswerable": 0.0}
    assert [row["answer"] for row in bound.decode(made, examples)] == ["anna", "the cat"]
    assert bound.outcomes(made, examples) == [[1, 1.0], [0, 0.0]]
    other = qa()
    other.load_state({"unanswerable": 1.0})  # null 3.0 against "the cat" 3.0: the span is not exceeded
    assert [row["answer"] for row in other.decode(made, examples)] == ["anna", "the cat"]
    made[1][0, 0] = 1.6
    assert [row["answer"] for row in other.decode(made, examples)] == ["anna", ""]
    assert other.outcomes(made, examples) == [[1, 1.0], [1, 1.0]]
    strict = qa(null_threshold=0.2)
    strict.load_state({"unanswerable": 1.0})
    assert [row["answer"] for row in strict.decode(made, examples)] == ["anna", "the cat"]


def test_the_lowest_null_score_of_the_windows_counts() -> None:
    bound = qa(length=10, stride=0)
    bound.load_state({"unanswerable": 1.0})
    examples = bound.encode(table(("who ?", SENTENCE, ["cat"])), split="test")
    made = perfect(examples)
    assert [e["target"][0] != e["null"] for e in examples].count(True) == 1
    assert bound.decode(made, examples)[0]["answer"] == "cat"  # though the other windows are sure of no answer


def test_windows_without_the_answer_are_no_questions_without_one() -> None:
    bound = qa(length=10, stride=0)
    examples = bound.encode(table(("who ?", SENTENCE, ["cat"])), split="train")
    assert len(examples) > 1
    bound.fit(examples)
    assert bound.state() == {"unanswerable": 0.0}


def test_a_head_that_goes_on_answers_as_either_training_had_it() -> None:
    """What was trained on questions without an answer before may be trained on others now, and the other way round."""
    for before, now in itertools.product((0.0, 1.0), repeat=2):
        bound = qa()
        bound.load_state({"unanswerable": now})
        bound.go_on({"unanswerable": before})
        assert bound.state() == {"unanswerable": max(before, now)}


def test_no_answer_is_at_the_cls_token_wherever_it_stands() -> None:
    tokenizer = wordpiece()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="[BOS] [CLS] $A", pair="[BOS] [CLS] $A [SEP] $B",
        special_tokens=[("[BOS]", 4), ("[CLS]", 2), ("[SEP]", 3)],
    )  # fmt: skip
    bound = qa(tokenizer)
    (example,) = bound.encode(table(("who ?", "the cat", [])))
    assert tokenizer.convert_ids_to_tokens(example["input_ids"])[:2] == ["[BOS]", "[CLS]"]
    assert example["target"] == (1, 1)
    batch = bound.collate([example])
    assert batch["labels"].tolist() == [[1, 1]]
    assert batch["choices"][0].nonzero()[:, 0].tolist() == [1, 5, 6]


def test_the_longest_answer() -> None:
    bound = qa(max_answer_tokens=2)
    examples = bound.encode(table(("who ?", SENTENCE, ["anna saw bob"])), split="test")
    assert len(bound.decode(perfect(examples), examples)[0]["answer"].split()) <= 2


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("answer", ["café", "kọ́fí", "दिल्ली में", "الوَلَدُ", "न्\u200d", "한국"])
def test_an_answer_ends_with_the_marks_of_its_last_character(answer: str, form: str) -> None:
    """Where the tokenizer's normaliser takes them off, its tokens end before them."""
    answer = unicodedata.normalize(form, answer)
    tokenizer = byte_level()
    tokenizer.backend_tokenizer.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()])
    composed = byte_level()
    composed.backend_tokenizer.normalizer = normalizers.NFC()
    for bound in (qa(tokenizer), qa(composed), qa(byte_level())):
        examples = bound.encode(table(("who?", f"a {answer} b", [answer])), split="test")
        made = perfect(examples)
        assert [row["answer"] for row in bound.decode(made, examples)] == [answer]
        assert bound.score(made, examples)["answer_exact_match"] == 1.0


@pytest.mark.parametrize("text", ["این کتاب|\u200cهای خوب است", "ab 👩|\u200d👧 c", "क्|\u200dष", "a|\u0301\u200db"])
def test_an_answer_does_not_end_in_a_joiner_to_what_follows(text: str) -> None:
    """As Persian's before a suffix, of which the word before may be the whole answer."""
    context = text.replace("|", "")
    end = _whole_character(context, text.index("|"))
    assert context[:end] == text.split("|")[0] + ("\u0301" if "\u0301" in text else "")
    assert _whole_character(context, len(context)) == len(context)


def test_answers_longer_than_those_predicted_are_told_of() -> None:
    rows = table(("who?", SENTENCE, ["anna saw bob"]), ("who?", SENTENCE, ["bob"]), ("who?", SENTENCE, []))
    note = "1 answers of the test split are longer than the 2 tokens that are predicted at most (max_answer_tokens)"
    for most, told in ((3, []), (2, [note])):
        bound = qa(max_answer_tokens=most)
        bound.encode(rows, split="test")
        assert bound.notes == told


def test_the_baseline_is_the_first_words() -> None:
    bound = qa(length=12, stride=2)
    rows = table(("who ?", "walking  anna, " + SENTENCE, ["anna saw"]), ("who ?", "bob", ["bob"]))
    examples = bound.encode(rows, split="test")
    bound.load_state({"unanswerable": 1.0})
    name, made = bound.baseline(examples, examples)
    assert name == "first words"
    assert [row["answer"] for row in bound.decode(made, examples)] == ["walking  anna, anna", "bob"]
    assert bound.score(made, examples)["answer_exact_match"] == 0.5
    assert bound.outcomes(made, examples)[0] == [0, 0.4]  # walking anna anna against anna saw: 2 * 1 / (3 + 2)


def test_the_baseline_is_no_longer_than_answers_may_be_and_never_none() -> None:
    bound = qa(max_answer_tokens=2, null_threshold=-3.0)
    bound.load_state({"unanswerable": 1.0})
    examples = bound.encode(table(("who ?", SENTENCE, ["anna"])), split="test")
    _, made = bound.baseline(examples, examples)
    assert [row["answer"] for row in bound.decode(made, examples)] == ["anna saw"]


def test_new_rows_need_no_answers() -> None:
    rows = table(("who ?", SENTENCE, ["cat"])).select_columns(["id", "question", "context"])
    bound = qa()
    examples = bound.encode(rows)
    assert "labels" not in bound.collate(examples)
    (found,) = bound.decode(outputs(bound, model("Bert", "QuestionAnswering", bound.tokenizer), examples), examples)
    assert found["answer"] == SENTENCE[found["start"] : found["start"] + len(found["answer"])]
    assert found["answer"]


def test_what_cannot_be_used() -> None:
    class Slow:
        is_fast, pad_token_id = False, 0

    with pytest.raises(Unsupported, match="only a fast tokenizer tells"):
        qa(Slow())
    with pytest.raises(OptionError, match="max_answer_tokens is 0; give a whole number of at least 1"):
        qa(max_answer_tokens=0)
    with pytest.raises(OptionError, match="max_length is 4, which leaves no room for the context"):
        qa(length=4).encode(table(("who", "the cat", ["cat"])))
    for tokenizer in (wordpiece(single="$A"), wordpiece()):
        with pytest.raises(
            DataError, match=r"Row 2 of the test split \('cat'\): the tokenizer makes nothing of the question"
        ):
            qa(tokenizer).encode(table(("who", "cat", ["cat"]), ("\x00", "cat", ["cat"])), split="test")
    bound = qa()
    examples = bound.encode(table(("who", "the cat", ["cat"])))
    with pytest.raises(Diverged):
        bound.score([torch.full((2, 3), float("nan"))], examples)
    assert bound.encode(table(("who", "the cat", ["cat"])).select([])) == []


def test_segment_ids_are_cut_with_their_tokens() -> None:
    import tiny

    tokens = tiny.tokenizer_for("bert")
    context = " ".join(tiny.FILL)
    examples = qa(tokens, 16, stride=4).encode(table(("sunny warm", context, ["word20"])), split="train")
    assert len(examples) > 2
    for example in examples:
        assert example["token_type_ids"] == [0] * 4 + [1] * (len(example["input_ids"]) - 4)
        assert tokens.convert_ids_to_tokens(example["input_ids"])[:4] == ["[CLS]", "sunny", "warm", "[SEP]"]
    assert set(qa(tokens, 16).collate(examples)) == {
        "input_ids", "token_type_ids", "attention_mask", "choices", "labels",
    }  # fmt: skip


@pytest.mark.parametrize("threshold", [0.0, -30.0, 30.0])
@pytest.mark.parametrize("none", [0, 1, 3])
def test_the_baseline_is_no_answer_where_that_is_the_better_guess(none: int, threshold: float) -> None:
    answered = [("who ?", SENTENCE, [" ".join(SENTENCE.split()[:3])]), ("who ?", SENTENCE, ["cat"])]
    bound = qa(null_threshold=threshold)
    train = bound.encode(table(*answered, *[("why ?", SENTENCE, [])] * none), split="train")
    test = bound.encode(table(*answered, ("why ?", SENTENCE, [])), split="test")
    bound.fit(train)
    name, made = bound.baseline(train, test)
    assert name == ("no answer" if none == 3 else "first words")
    assert bound.score(made, test)["answer_exact_match"] == pytest.approx(1 / 3)
    assert [row["answer"] for row in bound.decode(made, test)] == (
        [""] * 3 if none == 3 else [" ".join(SENTENCE.split()[:3])] * 3
    )


def test_words_of_a_text_end_where_answers_have_them() -> None:
    for text, ends in (
        ("  the big  cat sat", (5, 9, 14, 18, 18)), ("北京大学 at 北", (1, 2, 3, 4, 7)), ("ค่ำ", (2, 3, 3)),
        ("", (0, 0)),
    ):  # fmt: skip
        assert tuple(end_of_words(text, n) for n in range(1, len(ends) + 1)) == ends, text


def test_rows_whose_answers_lie_in_no_window_are_not_counted_as_learnt() -> None:
    made = qa(length=16)
    long = ("the cat " * 40).strip()
    rows = table(("who sat ?", "bob sat", ["bob"]), ("who sat ?", long, [long]))
    made.encode(rows, split="train")
    assert made.left_out == 1
