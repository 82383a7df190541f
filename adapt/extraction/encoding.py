"""Rows to token ids, with what tells which token is of which word."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from adapt.data.table import column_of
from adapt.spec import RowError
from adapt.tasks import Example
from adapt.tasks.tokens import between, check_fast, check_room, cut_slices, encoded_words, read_at, token_fields

if TYPE_CHECKING:
    import datasets

_WORD = re.compile(r"\S+")


def encode(tokenizer: Any, rows: datasets.Dataset, max_length: int) -> list[Example]:
    """Texts, pairs of texts or lists of words to token ids.

    Words of a text are what stands between white space. Each row has:

    - `input_ids` and, where the tokenizer numbers the texts of a pair, `token_type_ids`;
    - `cut`: whether tokens were left out, of a pair from the longer text first;
    - `read`: how many characters the tokens reach over, or of a tokenizer that is not a fast one how many there are;
    - `row_words`: its words; those of the second text of a pair follow those of the first;
    - where the tokenizer is a fast one, `words`: the word of each token; None for special tokens and white space;
      and for texts `offsets`: start and end (exclusive) of each token in its text, and `texts`: the text of each, 0 or
      1, or None.

    Args:
        tokenizer: With a padding token.
        rows: As `adapt.data.read_texts` gives them.
        max_length: Tokens that a row is cut to.

    Raises:
        RowError: The tokenizer makes nothing of a row.
        OptionError: `max_length` leaves no room beside the tokenizer's special tokens.
        Unsupported: Rows are lists of words, and the tokenizer is not a fast one.
    """
    pair = "text_pair" in rows.column_names
    check_room(tokenizer, max_length, pair=pair)
    made = _lists(tokenizer, rows, max_length) if "tokens" in rows.column_names else _texts(tokenizer, rows, max_length)
    for row, example in enumerate(made):
        if not example["input_ids"]:
            raise RowError(row, None, "the tokenizer makes no token of it; take it out", " ".join(example["row_words"]))
    return made


def _lists(tokenizer: Any, rows: datasets.Dataset, max_length: int) -> list[Example]:
    check_fast(tokenizer, "A list of words")
    every = column_of(rows, "tokens")
    tokens = encoded_words(tokenizer, every, truncation=True, max_length=max_length)
    return [
        {
            **token_fields(tokens, row),
            "cut": bool(tokens.encodings[row].overflowing),
            "read": _reached(tokens.word_ids(row), _within(words, tokens, row)),
            "row_words": words,
            "words": _written(tokens.word_ids(row), tokens.tokens(row)),
        }
        for row, words in enumerate(every)
    ]


def _texts(tokenizer: Any, rows: datasets.Dataset, max_length: int) -> list[Example]:
    columns = {name: column_of(rows, name) for name in ("text", "text_pair") if name in rows.column_names}
    apart = len(between(tokenizer)) if len(columns) > 1 else 0
    every = list(zip(*columns.values(), strict=True))
    return [
        example
        for start, tokens, cut in cut_slices(tokenizer, columns, max_length)
        for example in _of_slice(tokens, cut, every[start : start + len(cut)], apart)
    ]


def _of_slice(tokens: Any, cut: Sequence[bool], every: Sequence[tuple[str, ...]], apart: int) -> list[Example]:
    made: list[Example] = []
    for row, texts in enumerate(every):
        spans = [[found.span() for found in _WORD.finditer(text)] for text in texts]
        words = [text[a:b] for text, own in zip(texts, spans, strict=True) for a, b in own]
        example = {**token_fields(tokens, row), "cut": cut[row], "row_words": words}
        example["read"] = len(example["input_ids"])
        if tokens.encodings is not None:  # else the tokenizer is not a fast one
            encoding = tokens.encodings[row]
            of = list(encoding.sequence_ids)
            offsets = [
                (max(a - apart, 0), max(b - apart, 0)) if text == 1 else (a, b)
                for (a, b), text in zip(encoding.offsets, of, strict=True)
            ]
            example["words"] = _written(_owners(offsets, of, spans), encoding.tokens)
            example |= {"read": _reached(of, offsets), "offsets": offsets, "texts": of}
        made.append(example)
    return made


def _within(words: Sequence[str], tokens: Any, row: int) -> list[tuple[int, int]]:
    """Start and end of each token in its word, without a space that was put before that."""
    offsets, owners = tokens.encodings[row].offsets, tokens.word_ids(row)
    spans = zip(offsets, owners, strict=True)
    space = int(any(owner is not None and b > len(words[owner]) for (_, b), owner in spans))
    return [(max(a - space, 0), max(b - space, 0)) for a, b in offsets]


def _reached(of: Sequence[int | None], offsets: Sequence[tuple[int, int]]) -> int:
    """How many characters lie between the first and the last token of a text, or of a word; summed over all.

    Args:
        of: The text or word of each token.
        offsets: Start and end of each token in it.
    """
    spans: dict[int, tuple[int, int]] = {}
    for part, (a, b) in zip(of, offsets, strict=True):
        if part is not None and b > a:
            start, end = spans.get(part, (a, b))
            spans[part] = min(a, start), max(b, end)
    return max(1, sum(b - a for a, b in spans.values()))


def _written(owners: Sequence[int | None], tokens: Sequence[str]) -> list[int | None]:
    """The word of each token; None for the white space before the token at which a word is read."""
    read = read_at(owners, tokens)
    return [word if word is not None and i >= read[word] else None for i, word in enumerate(owners)]


def _owners(
    offsets: Sequence[tuple[int, int]],
    of: Sequence[int | None],
    spans: Sequence[Sequence[tuple[int, int]]],
) -> list[int | None]:
    """The word of each token: that of its first character that is no white space.

    Args:
        offsets: Start and end of each token in its text.
        of: The text of each token; None for special tokens.
        spans: Start and end of the words of each text.
    """
    word_at: list[dict[int, int]] = []
    before = 0
    for words in spans:
        word_at.append({i: before + w for w, (a, b) in enumerate(words) for i in range(a, b)})
        before += len(words)
    found: list[int | None] = []
    for (a, b), text in zip(offsets, of, strict=True):
        within = () if text is None else (word_at[text].get(i) for i in range(a, b))
        found.append(next((word for word in within if word is not None), None))
    return found
