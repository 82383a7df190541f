"""Token classification: alignment, windows, scores by hand."""

from __future__ import annotations

import random
from typing import Any

import datasets
import pytest
import torch
from task_helpers import WORDS, byte_level, kind, model, one_by_one, outputs, wordpiece
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from adapt.backbones.classes import head_names
from adapt.metrics.spans import spans_of
from adapt.spec import DataError, Diverged, OptionError, Unsupported

SPANS = ("O", "B-LOC", "B-PER", "I-LOC", "I-PER")
TAGS = ("ADJ", "NOUN", "VERB")
ENCODERS = ["Bert", "GPT2", "Llama", "T5"]


def spans(tokenizer: Any = None, length: int = 64, **options: Any) -> Any:
    return kind(
        "token_classification", tokenizer or wordpiece(), "spans", "span_f1", labels=SPANS, length=length, **options
    )


def tags(tokenizer: Any = None, length: int = 64) -> Any:
    return kind("token_classification", tokenizer or wordpiece(), "tags", "token_accuracy", labels=TAGS, length=length)


def table(words: list[list[str]], found: list[list[int]] | None = None) -> datasets.Dataset:
    return datasets.Dataset.from_dict({"tokens": words} | ({} if found is None else {"tags": found}))


def random_rows(n: int, seed: int, most: int = 12) -> datasets.Dataset:
    rng = random.Random(seed)
    plain = [word for word in WORDS if word.isalpha()]
    words = [[rng.choice(plain) for _ in range(rng.randint(1, most))] for _ in range(n)]
    return table(words, [[rng.randrange(3) for _ in row] for row in words])


def test_the_tag_sits_on_the_first_piece_of_its_word() -> None:
    bound = spans()
    (example,) = bound.encode(table([["Anna", "walking", "sings", "."]], [[2, 1, 0, 3]]), split="train")
    tokenizer = bound.tokenizer
    pieces = ["[CLS]", "[UNK]", "walk", "##ing", "sing", "##s", ".", "[SEP]"]
    assert tokenizer.convert_ids_to_tokens(example["input_ids"]) == pieces
    batch = bound.collate([example])
    assert batch["labels"].tolist() == [[-100, 2, 1, -100, 0, -100, 3, -100]]
    assert batch["read"].tolist() == [[False, True, True, False, True, False, True, False]]
    assert bound.notes == []


@pytest.mark.parametrize("which", ["gpt2", "roberta", "llama3"])
def test_words_become_the_tokens_that_they_have_in_a_text(which: str) -> None:
    tokenizer = byte_level(which)
    words = ["anna", "saw", "it's", "the", "Zürich", "cat"]
    (example,) = tags(tokenizer).encode(table([words]))
    assert example["input_ids"] == tokenizer(" " + " ".join(words))["input_ids"]
    read = [tokenizer.convert_ids_to_tokens(example["input_ids"][position]) for position in example["positions"]]
    assert len(read) == len(words)
    assert all(token.lstrip("Ġ")[:1] == word[0] for token, word in zip(read, words, strict=True))


@pytest.mark.parametrize(("one", "other"), [("1515", "2024"), ("我", "在"), ("Zürich", "Lyon")])
def test_a_causal_model_has_seen_something_of_the_word_it_reads(one: str, other: str) -> None:
    tokenizer = byte_level("llama3")
    bound = tags(tokenizer)
    examples = bound.encode(table([["the", one], ["the", other], ["the", " "]]))
    ids = [tokenizer.convert_ids_to_tokens(example["input_ids"]) for example in examples]
    assert [row[1] for row in ids[:2]] == ["Ġ", "Ġ"]
    assert [example["positions"] for example in examples] == [[0, 2], [0, 2], [0, 1]]
    net = model("Llama", "TokenClassification", tokenizer, len(TAGS))
    (first, a), (second, b), _ = (list(row) for row in outputs(bound, net, examples))
    torch.testing.assert_close(first, second)
    assert not torch.allclose(a, b, atol=1e-2)


def test_the_space_that_sentencepiece_parts_from_a_word_is_not_read() -> None:
    tokenizer = Tokenizer(models.Unigram([("<unk>", 0.0), ("▁", -2.0), ("▁cat", -1.0), ("我", -1.0)], unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    bound = tags(PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<unk>"))
    (example,) = bound.encode(table([["cat", "我", "▁"]]))
    assert bound.tokenizer.convert_ids_to_tokens(example["input_ids"]) == ["▁cat", "▁", "我", "▁"]
    assert example["positions"] == [0, 2, 3]


def test_words_that_the_tokenizer_makes_nothing_of_are_predicted_too() -> None:
    rows = table([["anna", "\u200b", "saw", " "], ["\x00"]], [[1, 2, 0, 1], [2]])
    net = model("Bert", "TokenClassification", wordpiece(), len(SPANS))
    bound = spans()
    examples = bound.encode(rows, split="train")
    assert [e["words"] for e in examples] == [[0, 2], []]
    decoded = bound.decode(outputs(bound, net, examples), examples)
    assert [len(row["tags"]) for row in decoded] == [4, 1]
    assert decoded[0]["tags"][1] == decoded[0]["tags"][3] == decoded[1]["tags"][0] == "O"
    assert bound.loss(net, bound.collate(examples[1:])) == 0
    other = tags()
    other.fit(other.encode(rows, split="train"))
    assert other.state() == {"common": 1.0}  # NOUN and VERB are equally frequent: the first
    fresh = tags()
    fresh.load_state(other.state())
    found = fresh.decode([torch.zeros(2, 3), torch.zeros(0, 3)], examples)
    assert found == [{"tags": ["ADJ", "NOUN", "ADJ", "NOUN"]}, {"tags": ["NOUN"]}]


def test_a_row_of_which_nothing_is_left_has_one_token() -> None:
    tokenizer = wordpiece(cls=False)
    bound = tags(tokenizer)
    examples = bound.encode(table([["\u200b"], ["cat"]]))
    assert [len(e["input_ids"]) for e in examples] == [1, 1]
    net = model("GPT2", "TokenClassification", tokenizer, 3)
    assert [len(o) for o in outputs(bound, net, examples)] == [0, 1]


@pytest.mark.parametrize(("length", "stride"), [(9, 3), (8, 0), (16, 7), (12, 100), (3, 1)])
def test_a_long_row_is_read_word_by_word_where_there_is_most_context(length: int, stride: int) -> None:
    rows = random_rows(12, 3, most=40)
    words = [[word + ("ing" if i % 5 == 0 else "") for i, word in enumerate(row)] for row in rows["tokens"]]
    bound = spans(length=length, stride=stride)
    examples = bound.encode(table(words, rows["tags"]), split="train")
    assert len(bound.notes) == 1
    assert f"longer than {length} tokens and were cut into windows" in bound.notes[0]
    whole = spans(length=1000).encode(table(words, rows["tags"]))
    size = length - 2
    shared = min(stride, size // 2)
    for row in range(len(words)):
        parts = [e for e in examples if e["row"] == row]
        assert sorted(word for e in parts for word in e["words"]) == list(range(len(words[row])))
        body = whole[row]["input_ids"][1:-1]
        starts = list(range(0, max(len(body) - shared, 1), size - shared))
        for example in parts:
            ids = example["input_ids"]
            assert len(ids) <= length
            assert (ids[0], ids[-1]) == (2, 3)
            assert example["tags"] == [rows["tags"][row][word] for word in example["words"]]
            for word, position in zip(example["words"], example["positions"], strict=True):
                place = whole[row]["positions"][word] - 1
                assert ids[position] == body[place]
                start = place - (position - 1)
                assert body[start : start + len(ids) - 2] == ids[1:-1]
                reach = [min(place - s, min(s + size, len(body)) - 1 - place) for s in starts]
                assert start in starts
                assert reach[starts.index(start)] == max(reach)
    assert [e["row_words"] for e in examples if "row_words" in e] == words


@pytest.mark.parametrize("name", ENCODERS)
def test_the_loss_is_that_of_transformers(name: str) -> None:
    tokenizer = byte_level() if name == "GPT2" else wordpiece()
    bound = spans(tokenizer)
    examples = bound.encode(random_rows(5, 1), split="train")
    net = model(name, "TokenClassification", tokenizer, len(SPANS))
    batch = bound.collate(examples)
    theirs = net(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=batch["labels"]).loss
    ours = bound.loss(net, batch)
    assert ours.dtype == torch.float32
    assert float(ours.detach()) == pytest.approx(float(theirs.detach()), rel=1e-5)


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_row_has_the_same_outputs_alone_and_in_a_batch(name: str, side: str) -> None:
    tokenizer = byte_level(side=side) if name == "GPT2" else wordpiece(side=side)
    bound = spans(tokenizer, length=24, stride=4)
    examples = bound.encode(random_rows(6, 2, most=30), split="test")
    net = model(name, "TokenClassification", tokenizer, len(SPANS))
    together, alone = outputs(bound, net, examples), one_by_one(bound, net, examples)
    for a, b, example in zip(together, alone, examples, strict=True):
        assert a.shape == (len(example["words"]), len(SPANS))
        assert a.dtype == torch.float32
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert max(float(o.std()) for o in together) > 0.05


def hot(found: list[list[int]], labels: int) -> list[torch.Tensor]:
    return [torch.eye(labels)[row] for row in found]


def test_spans_by_hand() -> None:
    bound = spans()
    words = [["anna", "red", "saw", "paris"], ["the", "cat"], ["bob", "sat"]]
    # true: PER(0,2) LOC(3,4); none; PER(0,1)
    examples = bound.encode(table(words, [[2, 4, 0, 1], [0, 0], [2, 0]]), split="test")
    # predicted: PER(0,1) LOC(3,4); a lone I-LOC, which is no span; PER(0,1) LOC(1,2)
    made = hot([[2, 0, 0, 1], [0, 3], [2, 1]], len(SPANS))
    assert bound.outcomes(made, examples) == [[1, 1, 1, 3, 4], [0, 0, 0, 1, 2], [1, 1, 0, 1, 2]]
    found = bound.score(made, examples)
    assert found == {
        "span_precision": pytest.approx(2 / 4),
        "span_recall": pytest.approx(2 / 3),
        "span_f1": pytest.approx(4 / 7),
        "token_accuracy": pytest.approx(5 / 8),
    }
    assert bound.decode(made, examples)[0] == {
        "tags": ["B-PER", "O", "O", "B-LOC"],
        "spans": [
            {"type": "PER", "start": 0, "end": 1, "text": "anna"},
            {"type": "LOC", "start": 3, "end": 4, "text": "paris"},
        ],
    }
    truth = hot([[2, 4, 0, 1], [0, 0], [2, 0]], len(SPANS))
    assert bound.score(truth, examples)["span_f1"] == 1.0
    assert bound.decode(truth, examples)[0]["spans"][0] == {"type": "PER", "start": 0, "end": 2, "text": "anna red"}
    name, nothing = bound.baseline(examples, examples)
    assert name == "majority"
    assert bound.score(nothing, examples) == {
        "span_f1": 0.0, "span_precision": 0.0, "span_recall": 0.0, "token_accuracy": 0.5,
    }  # fmt: skip


def test_longer_spans_than_a_model_knows_are_missed() -> None:
    labels = ("O", "B-LOC", "B-PER", "I-PER", "B-MISC")
    bound = kind("token_classification", wordpiece(), "spans", "span_f1", labels=labels, length=64)
    # true: LOC(0,2) MISC(2,4); tags without a name are numbered in the order of their types
    examples = bound.encode(table([["red", "house", "the", "cat"], ["cat"]], [[1, 5, 4, 6], [1]]), split="test")
    made = hot([[1, 0, 4, 3], [1]], len(labels))
    assert bound.outcomes(made, examples) == [[0, 2, 2, 2, 4], [1, 0, 0, 1, 1]]
    assert bound.score(made, examples) == {
        "span_f1": pytest.approx(1 / 3), "span_precision": pytest.approx(1 / 3), "span_recall": pytest.approx(1 / 3),
        "token_accuracy": pytest.approx(3 / 5),
    }  # fmt: skip


def test_what_is_outside_of_spans_is_the_baseline_wherever_its_tag_stands() -> None:
    """Also of words whose every tag was another, and of those that the tokenizer makes nothing of."""
    bound = kind("token_classification", wordpiece(), "spans", "span_f1", labels=("B-X", "I-X", "O"))
    examples = bound.encode(table([["anna", "\x07"], ["anna", "anna"]], [[0, 0], [0, 2]]), split="train")
    bound.fit(examples)
    assert bound.state() == {"common": 2.0}
    name, made = bound.baseline(examples, examples)
    assert name == "majority"
    assert [row["tags"] for row in bound.decode(made, examples)] == [["O", "O"], ["O", "O"]]


def test_spans_are_those_of_seqeval() -> None:
    from seqeval.scheme import IOB2, Entities

    rng = random.Random(0)
    for _ in range(300):
        row = [rng.choice(["O", "B-A", "I-A", "B-B-C", "I-B-C"]) for _ in range(rng.randint(1, 9))]
        theirs = {(e.tag, e.start, e.end) for e in Entities([row], IOB2).entities[0]}
        assert set(spans_of(row)) == theirs


def test_tags_by_hand() -> None:
    bound = tags()
    train = bound.encode(table([["cat", "sat", "red"], ["cat", "cat", "sat"]], [[1, 2, 0], [1, 2, 2]]), split="train")
    bound.fit(train)
    test = bound.encode(table([["cat", "house"], ["red"]], [[1, 2], [1]]), split="test")
    name, made = bound.baseline(train, test)
    assert name == "majority"
    assert bound.decode(made, test) == [{"tags": ["NOUN", "VERB"]}, {"tags": ["ADJ"]}]  # unseen: VERB, three of six
    taught = tags()
    taught.fit([*train, *taught.encode(table([["sat"] * 9], [[1] * 9]), split="train")])
    assert torch.equal(torch.cat(taught.baseline(train, test)[1]), torch.cat(made)), "whatever a teacher said of others"
    assert bound.outcomes(made, test) == [[2, 2], [0, 1]]
    found = bound.score(made, test)
    assert found["token_accuracy"] == pytest.approx(2 / 3)
    assert found["macro_f1"] == pytest.approx((0 + 2 / 3 + 1) / 3)


def test_the_most_frequent_tag_is_that_of_all_words_and_of_equals_the_first() -> None:
    """Also of those that the tokenizer makes nothing of."""
    bound = tags()
    for found, common in (([1, 2, 2], 2), ([2, 1, 0], 0), ([2, 2, 1], 2)):
        bound.fit(bound.encode(table([["cat", "\x07", "\x07"]], [found]), split="train"))
        assert bound.state() == {"common": float(common)}
    train = bound.encode(table([["cat", "cat", "red"]], [[2, 1, 0]]), split="train")
    _, made = bound.baseline(train, bound.encode(table([["cat"]])))
    assert [row.argmax(-1).tolist() for row in made] == [[1]]


@pytest.mark.parametrize("name", ENCODERS)
def test_the_head_starts_from_the_frequencies_of_the_tags(name: str) -> None:
    bound = tags()
    made = model(name, "TokenClassification", bound.tokenizer, len(TAGS))
    made.fresh_names = frozenset(head_names(made))
    before = {n: p.clone() for n, p in made.named_parameters()}
    bound.fit(bound.encode(table([["the", "cat", "sings"], ["cat", "cat"]], [[0, 1, 2], [1, 1]]), split="train"))
    bound.start(made)
    changed = [n for n, p in made.named_parameters() if not torch.equal(p, before[n])]
    assert len(changed) == 1
    bias = dict(made.named_parameters())[changed[0]]
    assert bias.exp().tolist() == pytest.approx([2 / 8, 4 / 8, 2 / 8])  # one more than each was seen
    made.fresh_names = frozenset()  # a checkpoint's, for the same tags
    bias.data.zero_()
    bound.start(made)
    assert not bias.any()


def test_what_cannot_be_used() -> None:
    class Slow:
        is_fast, pad_token_id = False, 0

    with pytest.raises(Unsupported, match="only a fast tokenizer tells"):
        tags(Slow())
    with pytest.raises(OptionError, match="stride is -1; give a whole number of at least 0"):
        spans(stride=-1)
    with pytest.raises(OptionError, match="has no field 'strides'"):
        spans(strides=1)
    with pytest.raises(OptionError, match="Metric 'mcc' does not go with spans"):
        kind("token_classification", wordpiece(), "spans", "mcc", labels=SPANS)
    with pytest.raises(DataError, match="Tag 'S-PER' is not a BIO tag"):
        kind("token_classification", wordpiece(), "spans", "span_f1", labels=["O", "S-PER"])
    with pytest.raises(OptionError, match="max_length is 2, which the tokenizer's special tokens fill"):
        tags(length=2).encode(table([["cat"]]))
    bound = tags()
    examples = bound.encode(table([["cat"]], [[0]]))
    with pytest.raises(Diverged):
        bound.score([torch.full((1, 3), float("nan"))], examples)
    assert bound.encode(table([["cat"]], [[0]]).select([])) == []
    assert bound.selection("macro_f1") is None


def test_a_very_long_row_is_cut_in_time_that_grows_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each token looks at the windows that hold it, not at all."""
    asked = 0

    def counting(*values: Any) -> Any:
        nonlocal asked
        asked += 1
        return min(*values)

    monkeypatch.setattr("adapt.tasks.token_classification.min", counting, raising=False)
    counts = {}
    for words in (500, 1000):
        asked = 0
        tags(length=32).encode(table([["cat"] * words]))
        counts[words] = asked
    assert counts[1000] < 2.2 * counts[500]
