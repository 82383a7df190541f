"""The start of pretraining from counts of words."""

import pytest
import torch
from pretrain_helpers import tiny
from transformers import (
    BertConfig,
    BertForMaskedLM,
    DebertaV2Config,
    DebertaV2ForMaskedLM,
    MobileBertConfig,
    MobileBertForMaskedLM,
)

from adapt.pretrain import MaskedLM, evaluate, warm_start
from adapt.spec import OptionError


def test_warm_start_puts_words_of_like_contexts_together(tokenizer, rows):
    first, second = tiny(tokenizer), tiny(tokenizer)
    for model in (first, second):
        warm_start(model, rows)
    embeddings = first.bert.embeddings.word_embeddings.weight.detach()
    assert torch.equal(embeddings, second.bert.embeddings.word_embeddings.weight)
    vector = {word: embeddings[tokenizer.convert_tokens_to_ids(word)] for word in ("garden", "river", "sees", "likes")}

    def likeness(a: str, b: str) -> float:
        return torch.cosine_similarity(vector[a], vector[b], dim=0).item()

    assert likeness("garden", "river") > likeness("garden", "sees") + 0.2
    assert likeness("sees", "likes") > likeness("river", "likes") + 0.2
    assert embeddings.std() == pytest.approx(0.1, rel=0.2)  # of `initializer_range`
    assert embeddings[tokenizer.pad_token_id].norm() == 0  # never seen: as it was


def test_warm_start_knows_the_frequencies(tokenizer, rows):
    model = tiny(tokenizer)
    before = evaluate(model, MaskedLM(tokenizer), rows)["loss"]
    warm_start(model, rows)
    assert evaluate(model, MaskedLM(tokenizer), rows)["loss"] < before - 0.3


def test_warm_start_counts_an_end_token_that_is_padding_too(tokenizer, rows):
    model, end = tiny(tokenizer), tokenizer.sep_token_id
    before = model.bert.embeddings.word_embeddings.weight.detach().clone()
    model.config.pad_token_id = end
    warm_start(model, rows)  # ends of documents stand within rows
    assert not torch.equal(model.bert.embeddings.word_embeddings.weight[end], before[end])
    assert model.cls.predictions.bias[end] > model.cls.predictions.bias[tokenizer.mask_token_id]


def test_warm_start_needs_a_vocabulary_as_large_as_the_width(tokenizer, rows):
    model = tiny(tokenizer)
    model.resize_token_embeddings(20)
    with pytest.raises(OptionError, match="vocabulary of 20 cannot fill embeddings of width 32"):
        warm_start(model, rows)


def test_warm_start_takes_no_vocabulary_that_fills_the_memory(tokenizer, rows):
    model = tiny(tokenizer)
    model.resize_token_embeddings(10_001, mean_resizing=False)
    before = model.bert.embeddings.word_embeddings.weight.detach().clone()
    with pytest.raises(OptionError, match=r"vocabulary of 10001 is too large .* at most 10000: do without warm_start"):
        warm_start(model, rows)
    assert torch.equal(model.bert.embeddings.word_embeddings.weight, before)


def test_warm_start_of_an_odd_width(tokenizer, rows):
    model = BertForMaskedLM(
        BertConfig(
            vocab_size=len(tokenizer), hidden_size=33, num_hidden_layers=1, num_attention_heads=3, intermediate_size=64,
            max_position_embeddings=16,
        )
    )  # fmt: skip
    warm_start(model, rows)
    positions = model.bert.embeddings.position_embeddings.weight.detach()
    lengths = positions[:, :-1:2] ** 2 + positions[:, 1::2] ** 2
    assert torch.allclose(lengths, lengths[0, 0].expand(16, 16)), "a sine and a cosine of each angle"


def test_warm_start_of_words_narrower_than_the_model(tokenizer, rows):
    """MobileBERT's positions are wider than its words, and the head of DeBERTa gives its inner layer as the last."""
    shape = {
        "vocab_size": len(tokenizer), "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 64, "max_position_embeddings": 16,
    }  # fmt: skip
    narrow = MobileBertForMaskedLM(MobileBertConfig(embedding_size=16, true_hidden_size=32, **shape))
    warm_start(narrow, rows)
    positions = narrow.base_model.embeddings.position_embeddings.weight
    assert (positions[0, 0::2] == 0).all()
    assert positions[1, 1::2].diff().ge(0).all()  # longer periods turn less
    inner = DebertaV2ForMaskedLM(DebertaV2Config(legacy=False, **shape))
    before = inner.get_output_embeddings().bias.detach().clone()
    warm_start(inner, rows)
    assert torch.equal(inner.get_output_embeddings().bias, before)


def test_warm_start_needs_embeddings_for_all_tokens(tokenizer, rows):
    model = tiny(tokenizer)
    most = int(rows.max())
    model.resize_token_embeddings(most)
    with pytest.raises(OptionError, match=f"there are {most + 1} tokens, and the model has embeddings for {most}"):
        warm_start(model, rows)
