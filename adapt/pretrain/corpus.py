"""From files of plain text to rows of token ids."""

from __future__ import annotations

import random
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adapt.data.files import lines_of, text_of
from adapt.files import path_of
from adapt.spec import DataError, OptionError, Unsupported
from adapt.tasks.tokens import frame, special_ids


def read_corpus(folder: str | Path, leave_out: Iterable[str] = ()) -> list[list[str]]:
    """Documents of all `.txt` and `.txt.gz` files of a folder, in the order of the file names.

    Args:
        folder: Its files hold UTF-8 text, one sentence or paragraph a line, documents separated by empty lines; a byte
            order mark is left out.
        leave_out: Whole names of files that are not read, if they are there.

    Returns:
        A list of documents, each the list of its lines.

    Raises:
        DataError: The folder is missing or holds no text, or a file is damaged or not UTF-8.
        OptionError: The folder is no path, or `leave_out` is one name and no list of them.
    """
    if isinstance(leave_out, str):
        raise OptionError(f"leave_out is {leave_out!r}; give a list of names of files, such as [{leave_out!r}].")
    folder = path_of(folder)
    if not folder.is_dir():
        raise DataError(f"corpus folder {folder} does not exist: give a folder of .txt or .txt.gz files")
    documents: list[list[str]] = []
    skip = set(leave_out)
    paths = [p for p in folder.iterdir() if p.name.casefold().endswith((".txt", ".txt.gz")) and p.name not in skip]
    for path in sorted(paths):
        document: list[str] = []
        for line in [*lines_of(text_of(path)), ""]:
            if line:
                document.append(line)
            elif document:
                documents.append(document)
                document = []
    if not documents:
        raise DataError(f"corpus folder {folder} holds no text in .txt or .txt.gz files")
    return documents


def split_documents(documents: Sequence[list[str]], share: float, seed: int) -> tuple[list[list[str]], list[list[str]]]:
    """Cut whole documents into training and held-out ones; at least one is in each, drawn with the seed."""
    if not 0 <= share < 1:
        raise OptionError(f"share is {share}; give a number from 0 to below 1")
    if len(documents) < 2:
        raise DataError("the corpus has one document: separate documents by empty lines, one is held out")
    count = min(max(1, round(share * len(documents))), len(documents) - 1)
    held_out = set(random.Random(seed).sample(range(len(documents)), count))
    return (
        [document for i, document in enumerate(documents) if i not in held_out],
        [document for i, document in enumerate(documents) if i in held_out],
    )


def pack(documents: Iterable[Sequence[str]], tokenizer: Any, length: int = 128) -> Tensor:
    """Pack text into rows without padding, each with the special tokens that the tokenizer puts round a text.

    That is `[CLS]`, the running text, `[SEP]` for a BERT tokenizer, `<s>` and text for one of a decoder, text and
    `</s>` for one of an encoder-decoder. Lines follow one another within and across documents, with a line feed
    between the lines of a document (which WordPiece drops) and a `[SEP]` or `</s>` after each document
    (FULL-SENTENCES of RoBERTa, Liu et al. 2019, section 4.2); what does not fill the last row is dropped, and so are
    special tokens that a text spells. A document is encoded at once.

    Returns:
        Token ids, int32 (rows, length).

    Raises:
        DataError: The text does not fill a row.
        OptionError: A row has no place for text, or a document is a text instead of its lines.
        Unsupported: The tokenizer has no token to set documents apart by.
    """
    before, after = frame(tokenizer)
    inner = length - len(before) - len(after)
    if inner < 1:
        raise OptionError(f"length={length} leaves no room for text; give {length - inner + 1} or more")
    end = tokenizer.eos_token_id if tokenizer.sep_token_id is None else tokenizer.sep_token_id
    if end is None:
        raise Unsupported("rows need a tokenizer with a token of separator or end: set sep_token or eos_token")
    stream = array("i")  # a list takes nine times the memory
    for document in as_lines(documents):
        stream.extend(encoded(["\n".join(document)], tokenizer)[0])
        stream.append(end)
    count = len(stream) // inner
    if count == 0:
        raise DataError(f"the text has {len(stream)} tokens, fewer than the {inner} of one row: add text")
    text = torch.frombuffer(stream, dtype=torch.int32, count=count * inner).view(count, inner)
    edges = [torch.tensor(ids, dtype=torch.int32).expand(count, len(ids)) for ids in (before, after)]
    return torch.cat([edges[0], text, edges[1]], 1)


def as_lines(documents: Iterable[Sequence[str]]) -> Iterator[Sequence[str]]:
    """The documents, one after another.

    Raises:
        OptionError: One is a text, whose letters would be taken for lines.
    """
    for number, document in enumerate(documents):
        if isinstance(document, str):
            raise OptionError(f"document {number} is a text; give each as a list of its lines.")
        yield document


def encoded(texts: Sequence[str], tokenizer: Any) -> list[list[int]]:
    """Ids of each text, without the special tokens that it spells."""
    if not texts:
        return []
    special = special_ids(tokenizer)
    found = tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
    return [[token for token in ids if token not in special] for ids in found]


def before_padding(rows: Tensor, padding: int | None) -> Tensor:
    """Which tokens come before the padding at the end of their row, all without a padding id; bool (rows, length)."""
    text = (rows != padding) if padding is not None else torch.ones_like(rows)
    return text.flip(1).cumsum(1).flip(1) > 0


def check_vocabulary(tokens: int, embeddings: int) -> None:
    """
    Raises:
        OptionError: There are more tokens than embeddings.
    """
    if tokens > embeddings:
        raise OptionError(
            f"there are {tokens} tokens, and the model has embeddings for {embeddings}: make it with "
            f"vocab_size={tokens}"
        )
