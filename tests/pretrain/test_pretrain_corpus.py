"""The corpus of pretraining: its files, tokenizers trained on it, and rows of running text."""

import gzip
import warnings
from pathlib import Path

import pytest
import torch
from pretrain_helpers import sentences

from adapt.pretrain import (
    for_decoder,
    pack,
    pack_pairs,
    read_corpus,
    split_documents,
    train_byte_tokenizer,
    train_tokenizer,
)
from adapt.spec import DataError, OptionError, Unsupported


def write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def test_corpus_is_read_in_order_of_file_names(tmp_path):
    write(tmp_path / "b.txt", "third\n")
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress("one\n two \n\n\nsecond, été".encode()))
    write(tmp_path / "c.txt", "left out")
    write(tmp_path / "README.md", "not text")
    assert read_corpus(tmp_path, leave_out=["c.txt"]) == [["one", "two"], ["second, été"], ["third"]]
    write(tmp_path / "b.txt", "\ufeffthird\r\n\r\nfourth\r\n")  # as editors on Windows write it
    assert read_corpus(tmp_path, leave_out=["c.txt"])[2:] == [["third"], ["fourth"]]


def test_corpus_errors_name_the_file(tmp_path):
    with pytest.raises(OptionError, match=r"leave_out is 'gum\.txt'; give a list of names of files"):
        read_corpus(tmp_path, "gum.txt")
    with pytest.raises(DataError, match="no-such-folder does not exist"):
        read_corpus(tmp_path / "no-such-folder")
    with pytest.raises(DataError, match="holds no text"):
        read_corpus(tmp_path)
    write(tmp_path / "blank.txt", "\n\n  \n")
    with pytest.raises(DataError, match="holds no text"):
        read_corpus(tmp_path)
    (tmp_path / "latin.txt").write_bytes("caf\u00e9".encode("latin-1"))
    with pytest.raises(DataError, match=r"latin\.txt, line 1: byte 3 .* is not UTF-8"):
        read_corpus(tmp_path)


@pytest.mark.parametrize(
    "damage",
    [lambda raw: raw[:-12], lambda raw: b"no gzip" + raw, lambda raw: raw[:20] + b"\xff" * 20 + raw[40:]],
)
def test_damaged_gzip_is_an_error(tmp_path, damage):
    (tmp_path / "text.txt.gz").write_bytes(damage(gzip.compress("\n".join(sentences(50)).encode())))
    with pytest.raises(DataError, match=r"text\.txt\.gz: is no whole gzip file"):
        read_corpus(tmp_path)


def test_split_holds_out_whole_documents(documents):
    train, held_out = split_documents(documents, share=0.1, seed=3)
    assert len(held_out) == 4
    assert sorted(train + held_out) == sorted(documents)
    assert split_documents(documents, share=0.1, seed=3)[1] == held_out
    assert split_documents(documents, share=0.1, seed=4)[1] != held_out
    with pytest.raises(DataError, match="one document"):
        split_documents(documents[:1], share=0.1, seed=0)
    assert [len(part) for part in split_documents(documents, share=0.999, seed=0)] == [1, len(documents) - 1]
    for share in (-0.1, 1.0, 2.0):
        with pytest.raises(OptionError, match=f"share is {share}; give a number from 0 to below 1"):
            split_documents(documents, share, 0)


def test_tokenizer_is_berts(tokenizer):
    assert tokenizer.convert_ids_to_tokens(range(5)) == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert len(tokenizer) <= 120
    encoded = tokenizer("The CAT", "sees")
    assert tokenizer.convert_ids_to_tokens(encoded["input_ids"]) == [
        "[CLS]",
        "the",
        "cat",
        "[SEP]",
        "sees",
        "[SEP]",
    ]
    assert encoded["token_type_ids"] == [0, 0, 0, 0, 1, 1]
    assert tokenizer.tokenize("the 中") == ["the", "[UNK]"]


def test_same_text_same_vocabulary(documents, tokenizer):
    assert train_tokenizer(documents, vocab_size=120, max_length=16).get_vocab() == tokenizer.get_vocab()


def test_rows_hold_the_running_text(documents, tokenizer, rows):
    assert rows.dtype == torch.int32
    assert rows.shape[1] == 16
    assert (rows[:, 0] == tokenizer.cls_token_id).all()
    assert (rows[:, -1] == tokenizer.sep_token_id).all()
    text = tokenizer.decode(rows[:, 1:-1].flatten()[:60], skip_special_tokens=True)
    assert " ".join(documents[0]).replace(".", "").startswith(text.replace(" .", "").replace(".", "")[:100])
    with pytest.raises(DataError, match="fewer than the 14"):
        pack([["the cat"]], tokenizer, length=16)
    for length in (1, 2):
        with pytest.raises(OptionError, match=rf"length={length} leaves no room for text; give 3 or more"):
            pack(documents, tokenizer, length)


def test_a_list_of_texts_is_no_list_of_documents(documents, tokenizer):
    """Whose letters would be taken for lines."""
    texts = [" ".join(document) for document in documents]
    for read in (
        lambda: pack(texts, tokenizer, 16), lambda: pack_pairs(texts, tokenizer, 16),
        lambda: train_tokenizer(texts, 120), lambda: train_byte_tokenizer(texts, 300),
    ):  # fmt: skip
        with pytest.raises(OptionError, match="document 0 is a text; give each as a list of its lines"):
            read()


@pytest.mark.parametrize("documents", [[], [[]], [[""], []]])
def test_a_tokenizer_is_trained_on_some_text(documents):
    for train, size in ((train_tokenizer, 120), (train_byte_tokenizer, 300)):
        with pytest.raises(DataError, match="the documents hold no text to train a tokenizer on: give some"):
            train(documents, size)


def test_only_line_feeds_end_lines(tmp_path):
    """Form feeds of a converted PDF, U+2028 and U+0085 do not, and none of them ends a document."""
    (tmp_path / "BOOK.TXT").write_text("end of page.\n\x0cnext\u2028page\r\na\u0085b\n \n\x0c\nlast", encoding="utf-8")
    assert read_corpus(tmp_path) == [["end of page.", "next\u2028page", "a\u0085b"], ["last"]]
    (tmp_path / "BOOK.TXT").write_bytes(b"as old\rMacs\r\rended them")
    assert read_corpus(tmp_path) == [["as old", "Macs"], ["ended them"]]


def test_documents_need_a_token_between_them(documents):
    decoder = for_decoder(train_byte_tokenizer(documents, vocab_size=300))
    decoder.eos_token = None
    with pytest.raises(Unsupported, match="a token of separator or end: set sep_token or eos_token"):
        pack(documents, decoder)


def test_text_that_spells_a_special_token_holds_none(documents, tokenizer):
    spelt = [["the cat [SEP] sees [MASK] us [PAD] at home near the river on the hill."]]
    plain = [["the cat sees us at home near the river on the hill."]]
    assert torch.equal(pack(spelt, tokenizer, 8), pack(plain, tokenizer, 8))
    assert (pack([["the 中 cat sees us at home"]], tokenizer, 8) == tokenizer.unk_token_id).any()
    decoder = for_decoder(train_byte_tokenizer(documents, vocab_size=300))
    decoder.unk_token = decoder.eos_token  # as GPT-2's
    assert (pack([["the </s> cat"]], decoder, 8) == decoder.eos_token_id).sum() == 1  # at the end of the document


def test_a_vocabulary_without_room_for_its_characters_is_an_error(documents):
    with pytest.raises(OptionError, match=r"vocab_size is 40; give at least 49, .*; or a smaller alphabet_size"):
        train_tokenizer(documents, vocab_size=40)
    assert len(train_tokenizer(documents, vocab_size=49)) == 49
    with pytest.raises(OptionError, match="vocab_size is 291; give at least 292, as"):
        train_byte_tokenizer(documents, vocab_size=291)


def test_marks_that_tell_words_apart_can_be_kept() -> None:
    lines = [["ọkọ́ ọkọ̀ oko ọkọ"] * 20]
    stripped, kept = (train_tokenizer(lines, 120, 16, strip_accents=strip) for strip in (True, False))
    words = ["ọkọ́", "ọkọ̀", "oko", "ọkọ"]
    assert len({tuple(stripped(word)["input_ids"]) for word in words}) == 1
    assert len({tuple(kept(word)["input_ids"]) for word in words}) == 4


def test_a_script_of_more_characters_than_are_kept_is_warned_of() -> None:
    common, rare = ["ok ko"] * 99, ["ሰላም"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train_tokenizer([common, rare], 120)
        train_tokenizer([["ok " * 1000, "中"]], 120, alphabet_size=2)
    lost = r"3 % of the text .* more than 100 characters or others than the 2 kept of 5: have a larger alphabet_size"
    with pytest.warns(UserWarning, match=lost):
        tokenizer = train_tokenizer([["ok ko"] * 24, rare], 120, alphabet_size=2)
    assert tokenizer.tokenize("ok ሰላም") == ["ok", "[UNK]"]
    with pytest.warns(UserWarning, match="9. % of the text"):
        tokenizer = train_tokenizer([["ok", "ab" * 51]], 120)
    assert tokenizer.tokenize("ab" * 51) == ["[UNK]"]
