"""Masked LM: what is hidden of a row, loss against transformers', masks that are filled, blocks, a teacher."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
import task_helpers
import tiny
import torch
from task_helpers import SENTENCE, kind, outputs, scores_by_transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch.nn import functional as F
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertTokenizerLegacy,
    PreTrainedTokenizerFast,
    XLMConfig,
    XLMWithLMHeadModel,
)

import adapt
from adapt.backbones import Backbone, resolve
from adapt.backbones.chunked import chunk_logits
from adapt.backbones.classes import model_class, untie_output_layer
from adapt.distillation.language import Tokens
from adapt.metrics.jackknife import pseudo_values, score_of
from adapt.spec import DataError, OptionError, RowError, Unsupported
from adapt.strategies import Full, Head
from adapt.tasks.losses import IGNORED
from adapt.tasks.masking import ordinary_tokens
from adapt.tasks.tokens import rows_needed

KNOWN = ["sunny word1 word2 warm kind word3", "rotten word4", "word5 cold word6 bitter word7"]
"""In words of the tiny backbones."""
TEXTS = [SENTENCE, "the big red cat sat there while anna saw the old tree house", "who saw bob ?", "walking"]


def sentencepiece() -> Any:
    """As XLM-R's: what stands between spaces, each after the mark of one."""
    pieces = ["<pad>", "<unk>", "<s>", "</s>", "\u2581", *"acehnrst", "\u2581cat", "\u2581the", "\u2581an"]
    tokens = Tokenizer(models.Unigram([(piece, -(len(piece) ** -1.0)) for piece in pieces], unk_id=1))
    tokens.pre_tokenizer = pre_tokenizers.Metaspace()
    tokens.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 2), ("</s>", 3)]
    )
    names = {"pad_token": "<pad>", "unk_token": "<unk>", "cls_token": "<s>", "sep_token": "</s>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokens, **names)


WORDS: dict[str, Callable[[], tuple[Any, list[str]]]] = {
    "wordpiece": lambda: (task_helpers.wordpiece(), ["the", "cat", "walking", "sat", "."]),
    "byte-level": lambda: (task_helpers.byte_level("roberta"), [" the", "cat", "ran", "at"]),
    "sentencepiece": lambda: (sentencepiece(), ["the", "cat", "cat", "an", "rest", "as"]),
}
"""A tokenizer of a family, and words of one and of more tokens."""


def tokenizer() -> Any:
    made = task_helpers.wordpiece()
    made.add_special_tokens({"mask_token": "[MASK]"})
    return made


def bound(length: int = 64, **options: Any) -> Any:
    return bound_to(tokenizer(), length, **options)


def bound_to(tokens: Any, length: int = 64, **options: Any) -> Any:
    return kind("masked_lm", tokens, "masked", "perplexity", length=length, **options)


def rows(*texts: str) -> datasets.Dataset:
    return datasets.Dataset.from_dict({"text": list(texts)})


def whole(example: dict[str, Any]) -> list[int]:
    pairs = zip(example["input_ids"], example["labels"], strict=True)
    return [token if label == IGNORED else label for token, label in pairs]


def net(made: Any) -> Any:
    return task_helpers.model("Bert", "MaskedLM", made.tokenizer)


def filled(made: Any, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The batch as transformers takes it."""
    _, labels = made.asked(None, batch)
    return {**{name: batch[name] for name in ("input_ids", "attention_mask")}, "labels": labels}


# What is hidden


def test_of_held_out_rows_a_share_is_the_mask_and_the_tokens_decide_which() -> None:
    made = bound()
    examples = made.encode(rows(*TEXTS), split="test")
    ids = made.tokenizer(TEXTS)["input_ids"]
    for example, own in zip(examples, ids, strict=True):
        assert whole(example) == own
        hidden = [i for i, label in enumerate(example["labels"]) if label != IGNORED]
        assert len(hidden) == max(1, round(0.15 * (len(own) - 2)))
        assert all(example["input_ids"][i] == made.tokenizer.mask_token_id for i in hidden)
        assert not {0, len(own) - 1} & set(hidden)
    turned = made.encode(rows(*reversed(TEXTS)), split="validation")
    assert [{**e, "row": 0} for e in turned[::-1]] == [{**e, "row": 0} for e in examples]
    more = bound(masked_share=0.5).encode(rows(*TEXTS), split="test")
    assert [made.terms([e]) for e in more] == [round(0.5 * (len(own) - 2)) or 1 for own in ids]


def test_in_training_other_tokens_are_hidden_in_each_epoch_and_with_each_seed() -> None:
    made = bound()
    examples = made.encode(rows(*TEXTS[:2] * 300), split="train")
    drawn = {at: list(made.redraw(examples, *at)) for at in ((0, 1), (0, 2), (1, 1))}
    assert drawn[0, 1] == list(made.redraw(examples, 0, 1))
    assert len({str(found) for found in drawn.values()}) == 3
    ways: Counter[str] = Counter()
    ordinary = set(range(len(made.tokenizer))) - set(made.tokenizer.all_special_ids)
    for found in drawn.values():
        assert len(found) == len(examples)
        for example, before in zip(found, examples, strict=True):
            assert whole(example) == whole(before)
            assert made.terms([example]) == made.terms([before])
            for token, label in zip(example["input_ids"], example["labels"], strict=True):
                if label != IGNORED:
                    assert label in ordinary
                    way = {made.tokenizer.mask_token_id: "mask", label: "itself"}.get(token, "another")
                    assert way != "another" or token in ordinary
                    ways[way] += 1
    total = ways.total()
    assert ways["mask"] / total == pytest.approx(0.8, abs=0.03)
    assert ways["itself"] / total == pytest.approx(0.1, abs=0.03)


def test_what_stands_for_unknown_words_is_never_to_be_found() -> None:
    made = bound(masked_share=1.0)
    (example,) = made.encode(rows("zzz the zzz cat"), split="train")
    the, cat = made.tokenizer.convert_tokens_to_ids(["the", "cat"])
    (drawn,) = [*made.redraw([example], 0, 1)]
    for row in (example, drawn):
        assert row["labels"] == [IGNORED, IGNORED, the, IGNORED, cat, IGNORED]
        assert [row["input_ids"][i] for i in (1, 3)] == [made.tokenizer.unk_token_id] * 2
    share = "50% of the tokens of the train split stand for words that the tokenizer does not know, and are never those"
    assert made.notes == [f"{share} to be found"]
    with pytest.raises(DataError, match="nothing to be found in the test split: the backbone's tokenizer knows no"):
        made.encode(rows("zzz", "[SEP]"), split="test")


@pytest.mark.parametrize("family", ["wordpiece", "byte-level", "sentencepiece"])
def test_all_tokens_of_a_word_are_hidden_together(family: str) -> None:
    tokens, words = WORDS[family]()
    tokens.add_special_tokens({"mask_token": "[MASK]"})
    made, text = bound_to(tokens, masking="words", masked_share=0.4), " ".join(words)
    examples = made.encode(rows(text), split="train")
    own = [len(ids) for ids in tokens(words, add_special_tokens=False)["input_ids"]]
    assert max(own) > 1
    ends = [sum(own[: i + 1]) for i in range(len(own))]
    begin = tokens(text, return_special_tokens_mask=True)["special_tokens_mask"].index(0)
    parts = [set(range(begin + end - n, begin + end)) for n, end in zip(own, ends, strict=True)]
    most, seen = round(0.4 * sum(own)), set()
    drawn = [row for epoch in range(1, 80) for row in made.redraw(examples, 0, epoch)]
    for example in (examples[0], *drawn):
        hidden = {i for i, label in enumerate(example["labels"]) if label != IGNORED}
        assert 0 < len(hidden) <= most
        chosen = [i for i, part in enumerate(parts) if part & hidden]
        assert hidden == set().union(*(parts[i] for i in chosen)), "whole words"
        seen |= set(chosen)
    assert seen == {i for i, part in enumerate(parts) if len(part) <= most}
    mask = tokens.mask_token_id
    (row,) = examples  # before it is drawn, and so held out
    assert [token == mask for token in row["input_ids"]] == [label != IGNORED for label in row["labels"]]
    longest = parts[own.index(max(own))]
    assert {True, False} in [
        {row["input_ids"][i] == mask for i in longest} for row in drawn if row["labels"][min(longest)] != IGNORED
    ], "each token of a word is drawn for itself"


def test_where_no_word_is_short_enough_tokens_are_hidden() -> None:
    made = bound(masking="words")
    (example,) = made.encode(rows("walking"), split="test")
    assert (example["words"], made.terms([example])) == ([0, 1, 1, 3], 1)


def test_tokenizers_that_tell_no_words_apart(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cat"]))
    slow, whole = BertTokenizerLegacy(tmp_path / "vocab.txt"), task_helpers.byte_fallback()
    whole.add_special_tokens({"mask_token": "[MASK]"})
    for tokens, reason in ((slow, "masking='words' needs to know which part"), (whole, "does not part texts into wo")):
        with pytest.raises(Unsupported, match=reason):
            bound_to(tokens, masking="words").encode(rows("cat"), split="train")
    with pytest.raises(OptionError, match=r"masking"):
        bound(masking="spans")


@pytest.mark.parametrize("masking", ["tokens", "words"])
def test_training_texts_may_be_joined_to_blocks(masking: str) -> None:
    made, alone = bound(16, joined=True, masking=masking), bound(16, masking=masking)
    texts = [*TEXTS, "the cat sat ."] * 3
    joined, plain = (kind.encode(rows(*texts), split="train") for kind in (made, alone))
    assert [example["row"] for example in joined] == [*range(len(joined))]
    assert len(joined) < len(plain)
    sep, cls = made.tokenizer.sep_token_id, made.tokenizer.cls_token_id
    ids = [whole(example) for example in joined]
    assert all(row[0] == cls and row[-1] == sep and len(row) <= 16 for row in ids)
    expected = [part for example in plain for part in (*whole(example)[1:-1], sep)]
    assert [token for row in ids for token in row[1:]] == expected, "in order, whole, a separator after each"
    room = [16 - len(row) for row in ids]
    following = [row[1:].index(sep) + 1 for row in ids[1:]]
    assert all(left < more for left, more in zip(room, following, strict=False)), "as many as there is room for"
    assert made.notes[-1] == f"the texts of the train split were joined into {len(joined)} blocks of at most 16 tokens"
    assert all(
        len(value) == len(row) for e, row in zip(joined, ids, strict=True) for k, value in e.items() if k != "row"
    )
    if masking == "words":
        count, before = (sum(len(set(row["words"])) for row in encoded) for encoded in (joined, plain))
        assert count == before - len(plain) + len(joined), "those of the texts, and each token of the tokenizer's own"
    assert made.encode(rows(*texts), split="test") == alone.encode(rows(*texts), split="test")
    assert made.collate([*made.redraw(joined, 0, 1)])["input_ids"].shape[1] == max(map(len, ids))


@pytest.mark.parametrize("single", ["$A", "[BOS] $A", "[CLS] $A [SEP]"])
def test_texts_of_no_token_are_left_out_of_joined_blocks(single: str) -> None:
    tokens = task_helpers.wordpiece(single=single)
    tokens.add_special_tokens({"mask_token": "[MASK]"})
    (example,) = bound_to(tokens, joined=True).encode(rows("\x07", "anna saw", "\x07", "bob", "\x07"), split="train")
    assert tokens.decode(whole(example)) == single.replace("$A", "anna saw [SEP] bob")


def test_tokens_that_the_backbone_has_no_embeddings_for() -> None:
    """A tokenizer may have been given more, and the backbone not."""
    made = bound(masked_share=1.0)
    model = net(made)
    made.tokenizer.add_tokens([f"added{i}" for i in range(10_000)])
    made = bound_to(made.tokenizer, masked_share=1.0)
    made.start(model)
    examples = [*made.redraw(made.encode(rows(*TEXTS * 20), split="train"), 0, 1)]
    assert max(max(example["input_ids"]) for example in examples) < model.config.vocab_size
    model.config.vocab_size = made.tokenizer.mask_token_id
    with pytest.raises(
        Unsupported, match=r"has no embedding for \[MASK\], by which its tokenizer hides tokens; use an"
    ):
        made.start(model)


def test_training_draws_and_leaves_the_rows_as_they_were(backbone: Callable[..., Path], monkeypatch: Any) -> None:
    seen: list[tuple[int, int]] = []
    redraw = adapt.tasks.MaskedLM.redraw

    def counted(self: Any, examples: Any, seed: int, epoch: int) -> Any:
        seen.append((seed, epoch))
        return redraw(self, examples, seed, epoch)

    monkeypatch.setattr(adapt.tasks.MaskedLM, "redraw", counted)
    data = adapt.data.load({"train": rows(*KNOWN * 4), "test": rows(*KNOWN)}, kind="mlm", validation=0)
    model = adapt.fit(backbone("bert", masked=True), data, Full(), seed=3, epochs=2, batch_size=8, device="cpu")
    assert seen == [(3, 1), (3, 2)]
    assert model.result.scores["test"].keys() == {"perplexity", "loss", "masked_accuracy"}


def test_a_long_text_becomes_blocks_that_are_scored_together() -> None:
    made = bound(length=8)
    examples = made.encode(rows(SENTENCE, "who saw bob ?"), split="test")
    assert [example["row"] for example in examples] == [0, 0, 1]
    framed = [whole(example) for example in examples]
    assert all(ids[0] == made.tokenizer.cls_token_id and ids[-1] == made.tokenizer.sep_token_id for ids in framed)
    assert [*framed[0][1:-1], *framed[1][1:-1]] == made.tokenizer(SENTENCE, add_special_tokens=False)["input_ids"]
    assert made.notes == ["1 texts of the test split were cut into blocks of 8 tokens"]
    model = net(made)
    outcomes = made.outcomes(outputs(made, model, examples), examples)
    one, two, three = outputs(made, model, examples)
    both = [round(one["nll"] + two["nll"], 4), *(one[name] + two[name] for name in ("tokens", "right"))]
    assert outcomes == [both, [round(three["nll"], 4), three["tokens"], three["right"]]]


def test_blocks_are_in_the_order_of_their_text_whichever_side_is_cut() -> None:
    made = bound(length=8, masking="words")
    made.tokenizer.truncation_side = "left"
    examples = made.encode(rows("walking", SENTENCE, "who saw bob ?"), split="test")
    assert [example["row"] for example in examples] == [0, 1, 1, 2]
    assert made.tokenizer.decode([*whole(examples[1])[1:-1], *whole(examples[2])[1:-1]]) == SENTENCE


def test_a_tokenizer_that_is_no_fast_one_gives_the_same_blocks(tmp_path: Path) -> None:
    made = bound(length=8)
    words = sorted(made.tokenizer.get_vocab().items(), key=lambda word: word[1])
    (tmp_path / "vocab.txt").write_text("".join(f"{word}\n" for word, _ in words))
    names = made.tokenizer.model_input_names
    slow = bound_to(BertTokenizerLegacy(tmp_path / "vocab.txt", do_lower_case=False, model_input_names=names), 8)
    for split in ("train", None):
        texts = rows(*(text if split else f"[MASK] {text}" for text in TEXTS))
        assert slow.encode(texts, split=split) == made.encode(texts, split=split)
    assert not slow.tokenizer.is_fast
    assert slow.notes == made.notes


# Losses and scores


@pytest.mark.parametrize("chunk", [None, 2], ids=["as the device has it", "chunks"])
def test_loss_and_gradient_are_those_of_transformers(chunk: int | None) -> None:
    made = bound()
    model = net(made)
    if chunk is not None:
        chunk_logits(model, chunk)
    examples = [*made.redraw(made.encode(rows(*TEXTS), split="train"), 0, 1)]
    batch = made.collate(examples)
    ours = made.loss(model, batch)
    ours.backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    theirs = model(**filled(made, batch)).loss
    theirs.backward()
    torch.testing.assert_close(ours, theirs)
    for name, p in model.named_parameters():
        torch.testing.assert_close(found[name], p.grad, msg=name)


def test_where_a_model_changes_its_logits_they_are_taken_as_they_are() -> None:
    made = bound()

    class Scaled(BertForMaskedLM):
        def forward(self, **inputs: Any) -> Any:
            out = super().forward(**inputs)
            return dataclasses.replace(out, logits=0.5 * F.pad(out.logits, (0, 0, 0, 3)))  # of more positions, too

    plain = net(made)
    model = Scaled(plain.config).eval()
    model.load_state_dict(plain.state_dict())
    batch = made.collate(made.encode(rows(*TEXTS), split="test"))
    inputs = filled(made, batch)
    labels = inputs.pop("labels")
    expected = F.cross_entropy(0.5 * plain(**inputs).logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED)
    for _ in range(2):  # found out once, then known
        torch.testing.assert_close(made.loss(model, batch), expected)
    chunk_logits(model, 4)
    with pytest.raises(Unsupported, match="changes its logits after the output layer; leave loss_chunk out"):
        made.loss(model, batch)


def test_few_lengths_are_padded_with_what_takes_no_part(monkeypatch: Any) -> None:
    """As CUDA graphs ask for, beside which all logits are made at once."""
    monkeypatch.setattr("adapt.backbones.chunked.loss_chunk", lambda *_: None)
    made = bound(masked_share=0.6)
    model = net(made)
    examples = made.encode(rows(*TEXTS), split="test")
    plain, padded = made.collate(examples), made.collate(examples, longest=64)
    assert len(padded["places"]) == len(padded["targets"]) == 24 > len(plain["places"])
    torch.testing.assert_close(made.loss(model, padded), made.loss(model, plain))
    first = made.examples(2, 16)  # to be found at the place that pads
    assert torch.equal(made.asked(model, made.collate(first, longest=16))[1], made.asked(model, made.collate(first))[1])


def test_scores_are_those_of_transformers_and_of_outcomes() -> None:
    made = bound(masked_share=0.3)
    model = net(made)
    examples = made.encode(rows(*TEXTS), split="test")
    found = outputs(made, model, examples)
    scores = made.score(found, examples)
    batch = filled(made, made.collate(examples))
    assert scores == {**scores_by_transformers(model, batch), "masked_accuracy": scores["masked_accuracy"]}
    guess = model(**{name: batch[name] for name in ("input_ids", "attention_mask")}).logits.argmax(-1)
    asked = batch["labels"] != IGNORED
    right = (guess == batch["labels"])[asked]
    assert scores["masked_accuracy"] == pytest.approx(right.float().mean().item())
    outcomes = made.outcomes(found, examples)
    for metric, value in scores.items():
        assert score_of("masked", metric, outcomes) == pytest.approx(value, rel=1e-4)
        assert len(pseudo_values("masked", metric, outcomes) or ()) == len(TEXTS)


def test_the_baseline_is_the_share_of_each_token_in_the_training_texts() -> None:
    made = bound()
    train = made.encode(rows("who saw the cat", "the cat sat"), split="train")
    test = made.encode(rows("the"), split="test")
    name, (found,) = made.baseline(train, test)
    assert name == "unigram"
    assert (found["nll"], found["tokens"]) == (pytest.approx(math.log((7 + len(made.tokenizer)) / 3)), 1)
    cat = made.baseline(train, made.encode(rows("cat"), split="test"))[1][0]
    the = made.tokenizer.convert_tokens_to_ids("the")
    assert (found["right"], cat["right"]) == ((1, 0) if the < made.tokenizer.convert_tokens_to_ids("cat") else (0, 1))


# New rows


def test_masks_are_filled_by_their_likeliest_tokens() -> None:
    made = bound(length=8)
    model = net(made)
    text = "anna saw [MASK] in paris on monday while the [MASK] sat zzz there"
    examples = made.encode(rows(text, "who saw the [MASK] ?"))
    first, second = made.decode(outputs(made, model, examples), examples)
    assert [len(row["fills"]) for row in (first, second)] == [2, 1]
    best = [next(iter(fill)) for fill in first["fills"]]
    assert first["text"] == made.tokenizer.decode(
        made.tokenizer(f"anna saw {best[0]} in paris on monday while the {best[1]} sat zzz there",
                       add_special_tokens=False)["input_ids"], clean_up_tokenization_spaces=False,
    )  # fmt: skip
    assert "[UNK]" in first["text"], "no token of the text is lost"
    ids = torch.tensor([examples[-1]["input_ids"]])
    shares = model(input_ids=ids).logits[0, examples[-1]["input_ids"].index(made.tokenizer.mask_token_id)].softmax(-1)
    top = shares.topk(5)
    names = [made.tokenizer.decode([token]).strip() for token in top.indices.tolist()]
    assert list(second["fills"][0]) == names
    assert list(second["fills"][0].values()) == pytest.approx(top.values.tolist(), rel=1e-5)


def test_rows_of_a_model_that_are_no_tokens_fill_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Vocabularies of models are padded to round sizes."""
    made = bound()
    model = net(made)
    size = len(made.tokenizer)
    examples = made.encode(rows("who saw the [MASK] ?"))
    (expected,) = made.decode(outputs(made, model, examples), examples)
    model.resize_token_embeddings(size + 40, mean_resizing=False)
    output = model.get_output_embeddings()
    with torch.no_grad():
        output.bias[size:] = 3.0
    (found,) = made.decode(outputs(made, model, examples), examples)
    assert list(found["fills"][0]) == list(expected["fills"][0])
    assert sum(found["fills"][0].values()) < sum(expected["fills"][0].values())
    gap = size + 20  # between which and the others there are no tokens
    with torch.no_grad():
        output.bias[gap] = 9.0
    vocabulary = {**made.tokenizer.get_vocab(), "far": gap}
    monkeypatch.setattr(type(made.tokenizer), "get_vocab", lambda self: vocabulary)
    monkeypatch.setattr(type(made.tokenizer), "decode", lambda self, ids, **_: f"<{ids}>")
    fresh = bound_to(made.tokenizer)
    ((likeliest, *_),) = outputs(fresh, model, examples)[0]["fills"]
    assert likeliest[0] == gap


def test_each_of_several_masks_is_filled_at_its_place() -> None:
    made = bound()
    model = net(made)
    examples = made.encode(rows("anna saw bob in paris on [MASK]", "the [MASK] sat [MASK] bob"))
    found = made.decode(outputs(made, model, examples), examples)
    mask, decode = made.tokenizer.mask_token_id, made.tokenizer.decode
    for row, example, number in zip(found, examples, (1, 2), strict=True):
        best = model(input_ids=torch.tensor([example["input_ids"]])).logits[0].argmax(-1).tolist()
        wanted = [decode([token]) for token, there in zip(best, example["input_ids"], strict=True) if there == mask]
        assert [next(iter(fill)) for fill in row["fills"]] == wanted
        assert len(wanted) == number


def test_likeliest_tokens_that_read_alike_are_all_named() -> None:
    tokens = task_helpers.byte_level("roberta")
    tokens.add_special_tokens({"mask_token": "<mask>"})
    made = bound_to(tokens)
    names, shares = ["Ġcat", "cat", "Ġthe", "Ġ", "è", "é"], [0.5, 0.2, 0.1, 0.08, 0.05, 0.02]
    fill = [*zip(tokens.convert_tokens_to_ids(names), shares, strict=True)]
    (row,) = made.decode([{"fills": [fill]}], [{"row": 0, "input_ids": [tokens.mask_token_id]}])
    names[2] = "the"
    assert [*row["fills"][0].items()] == [*zip(names, shares, strict=True)]


def test_a_new_row_without_a_mask_is_named() -> None:
    with pytest.raises(RowError, match=r"Row 2 \('who saw bob \?'\): there is no \[MASK\], .* put one in"):
        bound().encode(rows("who saw [MASK] ?", "who saw bob ?"))


# What it does not go with


def test_options_and_tokenizers_that_cannot_be_used() -> None:
    for share in (0.0, 1.5):
        with pytest.raises(OptionError, match=f"masked_share is {share}; give a number above 0 and up to 1"):
            bound(masked_share=share)
    without = kind("masked_lm", task_helpers.wordpiece(), "masked", "loss")
    with pytest.raises(Unsupported, match=r"has no mask token .* or the kind causal_lm"):
        without.encode(rows("anna"), split="train")
    with pytest.raises(OptionError, match="max_length is 2"):
        bound(length=2).encode(rows("anna"), split="train")


def test_a_backbone_that_finds_no_masked_tokens_is_refused(backbone: Callable[..., Path]) -> None:
    with pytest.raises(Unsupported, match="'bart' was not pretrained to find masked tokens from both sides"):
        tiny.loader_for(backbone("bart"), "masked_lm")()
    bare = BertForMaskedLM(BertConfig(vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=1))
    bare.get_output_embeddings = lambda: None
    with pytest.raises(Unsupported, match="BertForMaskedLM has no output layer that could be trained alone; use"):
        untie_output_layer(bare)
    assert model_class("masked_lm", XLMConfig()) is XLMWithLMHeadModel
    with pytest.raises(Unsupported, match="'xlm' was not pretrained to find masked tokens from both sides"):
        model_class("masked_lm", XLMConfig(causal=True))


# Features and teachers


def test_nothing_is_kept_of_rows_that_change(backbone: Callable[..., Path]) -> None:
    from adapt.backbones.memo import memos_of

    load = tiny.loader_for(backbone("bert", masked=True), "masked_lm")
    for strategy in (Head(), Full(layers="last:1")):
        model = strategy.build(load, load.task)
        (memo,) = memos_of(model)
        model.eval()(input_ids=torch.tensor([[2, 5, 3]]), attention_mask=torch.ones(1, 3, dtype=torch.int64))
        assert (memo.encoded_rows, memo.nbytes) == (1, 0)


def test_a_teacher_teaches_its_distribution_over_what_is_hidden() -> None:
    made = bound(masked_share=0.4)
    student, teacher = net(made), net(made)
    with torch.no_grad():
        for p in teacher.parameters():
            p.mul_(0.7)
    batch = made.collate(made.encode(rows(*TEXTS), split="train"))
    lesson = Tokens(made, made, teacher, "fp32", len(made.tokenizer), temperature=2.0, weight=0.25)
    inputs = filled(made, batch)
    labels = inputs.pop("labels")
    logits, said = (model(**inputs).logits[labels != IGNORED] for model in (student, teacher))
    away = F.kl_div((logits / 2).log_softmax(-1), (said / 2).softmax(-1), reduction="batchmean")
    expected = 0.75 * F.cross_entropy(logits, labels[labels != IGNORED]) + 0.25 * 4 * away
    torch.testing.assert_close(lesson.loss(student, batch), expected)


def test_what_a_teacher_cannot_teach(backbone: Callable[..., Path]) -> None:
    data = adapt.data.load(rows(*KNOWN * 5), kind="masked_lm")
    folder = backbone("bert", masked=True)
    teacher = tiny.adapted(folder, data, Full())
    with pytest.raises(OptionError, match="unlabelled: rows for masked_lm are texts alone"):
        adapt.distill(teacher, folder, data, unlabelled=KNOWN, epochs=1, device="cpu")
    with pytest.raises(Unsupported, match=r"cannot be compared token by token; give a teacher that has the student's"):
        adapt.distill(teacher, "tiny-encoder", data, epochs=1, device="cpu")


def test_a_model_that_went_on_is_a_backbone(backbone: Callable[..., Path], tmp_path: Path) -> None:
    """What masked LM is for: the merged folder is taken as any pretrained model is."""
    data = adapt.data.load(rows(*KNOWN * 5), kind="masked_lm")
    folder = backbone("bert", masked=True)
    model = tiny.adapted(folder, data, tiny.STRATEGIES["lora"], precision="fp32")
    merged: Backbone = resolve(model.merge(tmp_path / "merged"))
    ours = tiny.loader_for(merged.path, "masked_lm")().eval()
    examples = model.fitted.kind.encode(rows("sunny [MASK] word1", "word2 [MASK]"))
    ids, mask = (model.fitted.kind.collate(examples)[name] for name in ("input_ids", "attention_mask"))
    expected = model.fitted.model.eval()(input_ids=ids, attention_mask=mask).logits
    torch.testing.assert_close(ours(input_ids=ids, attention_mask=mask).logits, expected, rtol=1e-4, atol=1e-4)
    assert tiny.loader_for(merged.path, "sequence_classification")().fresh_names


def test_tokens_of_a_vocabulary_with_gaps_are_all_known() -> None:
    made = Tokenizer(models.WordLevel({"a": 0, "b": 1, "[MASK]": 3, "c": 7}, unk_token="a"))
    gaps = PreTrainedTokenizerFast(tokenizer_object=made, mask_token="[MASK]")
    assert ordinary_tokens(gaps) == [0, 1, 7]
    assert ordinary_tokens(gaps, 7) == [0, 1]
    assert rows_needed(gaps) == 8
