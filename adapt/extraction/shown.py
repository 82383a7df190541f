"""Tokens as a reader would write them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from adapt.tasks import Example

_UNKNOWN = "\ufffd"
"""What bytes that are no whole character decode to."""


def shown(tokenizer: Any, ids: Sequence[int]) -> tuple[str, ...]:
    """Tokens as text, without the space before a word; parts of a character by their bytes, such as `<0xC3>`."""
    every = {token: _shown(tokenizer, token) for token in dict.fromkeys(ids)}
    return tuple(every[token] for token in ids)


def _shown(tokenizer: Any, token: int) -> str:
    piece = str(tokenizer.convert_ids_to_tokens(token))
    text = str(tokenizer.decode([token], skip_special_tokens=False, clean_up_tokenization_spaces=False))
    if text in ("", _UNKNOWN) and len(piece) == 1 and 0x80 <= ord(piece) <= 0xFF:  # of a vocabulary of bytes (ByT5)
        return f"<0x{ord(piece):02X}>"
    if _UNKNOWN in text and _UNKNOWN not in piece:
        return _in_bytes(piece)
    return text.strip(" ") or " "  # a space by itself, which some decoders drop


def _in_bytes(piece: str) -> str:
    """A token that a byte-level vocabulary writes one character a byte, or that is a byte's name already."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    if re.fullmatch(r"<0x[0-9A-F]{2}>", piece):
        return piece
    values = {character: value for value, character in bytes_to_unicode().items()}
    if not all(character in values for character in piece):
        return piece
    return "".join(f"<0x{values[character]:02X}>" for character in piece).removeprefix("<0x20>")


def words_of(example: Example, tokens: Sequence[str]) -> tuple[tuple[str, int], ...] | None:
    """The words of a row, each with how many tokens it has; None where the tokenizer does not tell.

    A token that is of no word, a special one or white space, is one of its own.

    Args:
        example: As `Reader.encode` gives it.
        tokens: The row's, as `shown` gives them.
    """
    if "words" not in example:
        return None
    found: list[tuple[str, int]] = []
    before: int | None = None
    for token, word in zip(tokens, example["words"], strict=True):
        if word is not None and word == before:
            found[-1] = (found[-1][0], found[-1][1] + 1)
        else:
            found.append((token if word is None else example["row_words"][word], 1))
        before = word
    return tuple(found)
