"""What the task kinds share: windows, padding, losses, spaces before words."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
import tiny
import torch
from task_helpers import SENTENCE, byte_level, kind, wordpiece
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertTokenizer, PreTrainedTokenizerFast

from adapt.backbones import resolve
from adapt.inputs import encode_splits
from adapt.metrics.texts import closed_up
from adapt.spec import DataError, Diverged, OptionError
from adapt.tasks import KINDS, losses, tokens
from adapt.tasks.tokens import decoded, unlike


def test_windows_cover_every_token_and_share_their_stride() -> None:
    for n in range(40):
        for size in range(1, 14):
            for stride in range(9):
                found = tokens.windows(n, size, stride)
                assert {i for a, b in found for i in range(a, b)} == set(range(n))
                assert all(b - a <= size for a, b in found)
                shared = {found[i][1] - found[i + 1][0] for i in range(len(found) - 1)}
                assert shared <= {min(stride, size // 2)}
                assert found[-1][1] == n
                assert len(found) == 1 or found[-2][1] < n  # no window too many


def test_padding_on_either_side() -> None:
    rows = [[1, 2, 3], [4]]
    assert tokens.pad(rows, 9).tolist() == [[1, 2, 3], [4, 9, 9]]
    assert tokens.pad(rows, 9, left=True).tolist() == [[1, 2, 3], [9, 9, 4]]


def test_what_stands_around_a_text_is_known_of_a_tokenizer_of_another_script() -> None:
    letters = Tokenizer(models.BPE({"<pad>": 0, "<s>": 1, "</s>": 2, "ሀ": 3}, []))  # which makes nothing of an a
    letters.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    made = PreTrainedTokenizerFast(tokenizer_object=letters, pad_token="<pad>", bos_token="<s>", eos_token="</s>")
    assert tokens.frame(made) == ([1], [2])


def test_losses_of_tokens_against_a_loop() -> None:
    logits = torch.randn(3, 4, 7, dtype=torch.bfloat16)
    labels = torch.tensor([[1, -100, 2, 6], [-100, -100, -100, -100], [0, 0, 5, -100]])
    found = losses.token_losses(logits, labels)
    assert found.dtype == torch.float32
    kept = []
    for i in range(3):
        for j in range(4):
            if labels[i, j] == -100:
                assert found[i, j] == 0
                continue
            kept.append(-float(logits[i, j].float().log_softmax(-1)[labels[i, j]]))
            assert float(found[i, j]) == pytest.approx(kept[-1], rel=1e-6)
    assert float(losses.mean_loss(logits, labels)) == pytest.approx(sum(kept) / len(kept), rel=1e-6)


def test_a_batch_with_nothing_to_learn_has_loss_zero_and_no_gradient() -> None:
    logits = torch.randn(2, 3, 5, requires_grad=True)
    loss = losses.mean_loss(logits, torch.full((2, 3), -100))
    loss.backward()
    assert float(loss.detach()) == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def _byte_words(add_prefix_space: bool) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE({c: i for i, c in enumerate(pre_tokenizers.ByteLevel.alphabet())}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    return tokenizer


@pytest.mark.parametrize(("spaced", "expected"), [(False, " "), (True, "")])
def test_words_get_a_space_only_where_the_tokenizer_does_not_add_it(spaced: bool, expected: str) -> None:
    tokenizer = _byte_words(spaced)

    def encode(pair: list[str]) -> list[list[int]]:
        return [tokenizer.encode(word).ids for word in pair]

    assert tokens.lead(encode, tokenizer.encode("a a").ids) == expected


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite(bad: float) -> None:
    losses.check_finite([1.0, 2.0])
    losses.check_finite([torch.zeros(2), torch.zeros(0)])
    with pytest.raises(Diverged, match="not finite; lower the learning rate"):
        losses.check_finite([1.0, bad])
    with pytest.raises(Diverged, match="not finite; lower the learning rate"):
        losses.check_finite([torch.zeros(2), torch.tensor([0.0, bad])])


def test_windows_of_a_row_are_found_again() -> None:
    rows = [0, 0, 1, 3, 3, 3]
    assert tokens.by_row([{"row": row} for row in rows]) == [[0, 1], [2], [3, 4, 5]]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("make", [wordpiece, byte_level])
def test_the_mask_follows_the_padding(make: Any, side: str) -> None:
    rng = random.Random(0)
    examples = [{"input_ids": [rng.randrange(5, 20) for _ in range(n)], "row": n} for n in (3, 7, 1)]
    batch = tokens.token_tensors(make(side=side), examples)
    assert set(batch) == {"input_ids", "attention_mask"}
    for i, example in enumerate(examples):
        assert batch["input_ids"][i][batch["attention_mask"][i].bool()].tolist() == example["input_ids"]
        assert bool(batch["attention_mask"][i, 0])


@pytest.mark.parametrize("pair", [False, True])
def test_a_length_without_room_for_text_is_refused(pair: bool) -> None:
    table = {"text": ["anna saw"], **({"text_pair": ["cat"]} if pair else {})}
    rows, least = datasets.Dataset.from_dict(table), 5 if pair else 3

    def made(length: int) -> Any:
        bound = kind("sequence_classification", wordpiece(), "single_label", "accuracy", length=length)
        bound.task = dataclasses.replace(bound.task, pair=pair)
        return bound

    assert len(made(least).encode(rows)[0]["input_ids"]) == least
    with pytest.raises(OptionError, match=rf"max_length is {least - 1}, of which .* give at least {least}\."):
        made(least - 1).encode(rows)


@pytest.mark.parametrize("pair", [False, True])
def test_an_end_token_in_a_text_is_plain_text(backbone: Callable[..., Path], pair: bool) -> None:
    """T5's head looks for one end token a row."""
    load = tiny.loader_for(backbone("t5"), "sequence_classification")
    task = dataclasses.replace(load.task, pair=pair)
    bound, end = KINDS["sequence_classification"](task, load.tokenizer()), load.tokenizer().eos_token
    texts = ["sunny", f"cold {end} word5", f"{end}"]
    table = {"text": texts, **({"text_pair": texts[::-1]} if pair else {})}
    examples = bound.encode(datasets.Dataset.from_dict(table), split="test")
    own = load.tokenizer().eos_token_id
    counts = [example["input_ids"].count(own) for example in examples]
    assert set(counts) == {examples[0]["input_ids"].count(own) if not pair else counts[0]}
    number = 3 if pair else 2
    assert bound.notes == [f"{number} rows of the test split have {end} in their text, which was read as plain text"]
    model = load(frozen=True)
    with torch.no_grad():
        assert bound.outputs(model.eval(), bound.collate(examples), final=True)


@pytest.mark.parametrize("frame", ["$A </s>", "$A </s> xx"])
def test_an_end_token_that_is_a_piece_of_text_too_is_broken(frame: str) -> None:
    """As T5's, whose vocabulary of pieces has it with the best score of all; mBART puts its language behind it."""
    pieces = ["<pad>", "</s>", "<unk>", "▁", "▁cold", "▁new", "<", "/", "s", ">", "xx"]
    made = Tokenizer(models.Unigram([(piece, 0.0 if i < 3 else -3.0) for i, piece in enumerate(pieces)], unk_id=2))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.normalizer = normalizers.NFKC()
    made.post_processor = processors.TemplateProcessing(
        single=frame, pair=frame.replace("$A", "$A </s> $B"), special_tokens=[("</s>", 1), ("xx", 10)]
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
    assert tokenizer("cold </s> new", split_special_tokens=True)["input_ids"].count(1) == 2, "or it need not be broken"
    bound = kind("sequence_classification", tokenizer, "single_label", "accuracy")
    rows = datasets.Dataset.from_dict({"text": ["cold new", "cold </s> new", "</s>"]})
    examples = bound.encode(rows, split="test")
    assert [example["input_ids"].count(1) for example in examples] == [1, 1, 1]
    pieces = bound.tokenizer.convert_ids_to_tokens(examples[1]["input_ids"])
    assert pieces[:8] == ["▁cold", "▁", "<", "▁", "/", "s", ">", "▁new"]
    assert bound.notes == ["2 rows of the test split have </s> in their text, which was read as plain text"]
    with pytest.raises(DataError, match=r"Row 1 \(.*\): the tokenizer makes </s> of a part of it, by which a row ends"):
        bound.encode(datasets.Dataset.from_dict({"text": ["cold ＜/s＞"]}))


def test_texts_of_a_pair_are_apart_where_the_tokenizer_puts_nothing_between_them() -> None:
    """Else a decoder could not tell where the first one ends."""
    decoder, encoder = (resolve(name).tokenizer for name in ("tiny-decoder", "tiny-encoder"))
    assert (tokens.between(decoder), tokens.between(encoder)) == ("\n", "")
    columns = {"text": ["a man sleeps", "a man"], "text_pair": ["is he awake", "sleeps is he awake"]}
    found, cut = tokens.cut_texts(decoder, columns, 64)
    assert decoder.batch_decode(found["input_ids"], skip_special_tokens=True) == [
        "a man sleeps\nis he awake", "a man\nsleeps is he awake",
    ]  # fmt: skip
    assert cut == [False, False]
    for most in range(4, 12):  # however much is cut
        short, _ = tokens.cut_texts(decoder, columns, most)
        assert all("\n" in text for text in decoder.batch_decode(short["input_ids"]))
    assert tokens.cut_texts(encoder, columns, 64)[0]["input_ids"] == encoder(**columns)["input_ids"]


@pytest.mark.parametrize("role", [None, "bos", "eos", "cls", "sep", "mask"])
def test_a_token_for_unknown_words_is_text_unless_it_has_another_part_too(role: str | None) -> None:
    tokenizer = wordpiece()
    framing = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    if role is not None:
        setattr(tokenizer, f"{role}_token", tokenizer.unk_token)
        framing = set(tokenizer.all_special_ids)
    assert (tokenizer.unk_token_id in tokens.special_ids(tokenizer)) == (role is not None)
    assert tokens.special_ids(tokenizer) == framing


# ---------------------------------------------------------------- words that a tokenizer does not know


def test_unknown_words_are_told_of_where_they_are_many() -> None:
    made = kind("sequence_classification", wordpiece(), "single_label", "accuracy")
    known = made.encode(datasets.Dataset.from_dict({"text": ["the cat"] * 19}))
    assert made.unknown(known) == []
    strange = made.encode(datasets.Dataset.from_dict({"text": ["ሰላም ለዓለም", "ሰላም the"]}))
    assert made.unknown([*known, *strange])[0].startswith("7% of the tokens of the rows stand for words that")
    assert kind("sequence_classification", byte_level(), "single_label", "accuracy").unknown(strange) == []
    few = datasets.Dataset.from_dict({"text": ["ሰላም ለዓለም"]})
    many = datasets.Dataset.from_dict({"text": ["the cat"] * 99})
    encode_splits(made, {"train": many, "test": few})
    assert [note.split(" stand for")[0] for note in made.notes] == ["100% of the tokens of the test split"]
    other = kind("sequence_classification", wordpiece(), "single_label", "accuracy")
    encode_splits(other, {"train": few, "test": few})
    assert [note.split(" stand for")[0] for note in other.notes] == ["100% of the tokens of the rows"]


def test_unknown_words_that_are_to_be_predicted_are_told_of() -> None:
    """A loss over them is the lower the less the tokenizer knows."""
    made = kind("seq2seq", wordpiece(), "text", "loss")
    rows = {"source": ["the cat"] * 20, "target": ["the cat"] * 19 + ["ሰላም"]}
    rows["references"] = [[text] for text in rows["target"]]
    examples = made.encode(datasets.Dataset.from_dict(rows), split="train")
    assert made.unknown(examples) == [
        "3% of the tokens that are to be predicted stand for words that the tokenizer does not know: losses count "
        "them, and such words cannot be written"
    ]
    assert made.unknown(examples[:19]) == []


def test_texts_are_asked_for_alike_where_the_tokens_are_the_same_whatever_their_numbers() -> None:
    made = [
        kind("causal_lm", tokenizer, "completion", "loss") for tokenizer in (byte_level(), byte_level(), wordpiece())
    ]
    made[1].tokenizer.eos_token = "</s>"
    rows = datasets.Dataset.from_dict({"prompt": ["who ?", ""], "completion": ["the cat", "bob"]})
    digests = [bound.digest(bound.encode(rows, split="test")) for bound in made]
    assert digests[0] == digests[1] != digests[2]
    long = kind("causal_lm", byte_level(), "completion", "loss", length=4)
    text = datasets.Dataset.from_dict({"prompt": [""], "completion": [SENTENCE]})
    assert long.digest(long.encode(text, split="test")) == made[0].digest(made[0].encode(text, split="test"))


def test_letters_that_a_tokenizer_parts_are_closed_up_again() -> None:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"今天很好，北京。《》、", "cat", "a"]
    chinese = BertTokenizer(vocab={word: i for i, word in enumerate(words)})
    text = "今天很好，北京。"
    ids = chinese(text, add_special_tokens=False)["input_ids"]
    assert chinese.decode(ids) != text
    assert decoded(chinese, ids) == text
    marks = "《北》、《京》。"
    assert decoded(chinese, chinese(marks)["input_ids"]) == marks
    assert closed_up("สวัสดี ครับ カメラ スタンド") == "สวัสดี ครับ カメラ スタンド", "whose spaces are the writer's"
    assert decoded(chinese, chinese("cat a")["input_ids"]) == "cat a"
    assert decoded(chinese, chinese("cat")["input_ids"], special=True) == "[CLS] cat [SEP]"
    assert unlike(chinese, [text, "a cat"], "targets") == []
    (note,) = unlike(chinese, [text, "a cat\na cat", "spells [SEP]"], "targets")
    assert note.startswith(
        "1 targets cannot be written exactly with the tokenizer, which makes 'a cat a cat' of 'a cat\\n"
    )
