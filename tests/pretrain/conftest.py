"""Fixtures of the tests of pretraining: documents, a tokenizer trained on them, and rows of their text."""

import pytest
from pretrain_helpers import sentences

from adapt.pretrain import pack, train_tokenizer


@pytest.fixture(scope="module")
def documents():
    lines = sentences(400)
    return [lines[i : i + 10] for i in range(0, 400, 10)]


@pytest.fixture(scope="module")
def tokenizer(documents):
    return train_tokenizer(documents, vocab_size=120, max_length=16)


@pytest.fixture(scope="module")
def rows(documents, tokenizer):
    return pack(documents, tokenizer, length=16)
