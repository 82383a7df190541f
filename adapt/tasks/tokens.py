"""What the task kinds share: checks of options and tokenizers, padding, windows over long rows, spaces before words."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from adapt.backbones.classes import LANGUAGE_MODELS
from adapt.fields import check_count
from adapt.metrics.texts import closed_up, text_exact_match
from adapt.spec import OptionError, RowError, Unsupported

if TYPE_CHECKING:
    import torch

    from adapt.tasks.kind import Example

TOKEN_FIELDS = ("input_ids", "token_type_ids")
"""Fields of an encoded row that the model takes, one value a token; the attention mask follows from their length."""


def check_at_least(options: Any, **least: int) -> None:
    """
    Raises:
        OptionError: A field of the options is below its least value.
    """
    for name, smallest in least.items():
        check_count(name, getattr(options, name), smallest)


def check_fast(tokenizer: Any, what: str) -> None:
    """
    Raises:
        Unsupported: The tokenizer does not say which part of the text a token stands for.
    """
    if not tokenizer.is_fast:
        raise Unsupported(
            f"{what} needs to know which part of the text a token stands for, which only a fast tokenizer tells; "
            "convert it (a folder with tokenizer.json holds a fast one)"
        )


def special_ids(tokenizer: Any) -> set[int]:
    """Ids of the special tokens; the one for unknown words counts as text, unless it is another one, too (GPT-2's)."""
    others = {getattr(tokenizer, f"{role}_token_id", None) for role in ("bos", "eos", "cls", "sep", "mask")}
    return set(tokenizer.all_special_ids) - ({tokenizer.unk_token_id} - others)


def unknown_share(tokenizer: Any, rows: Iterable[Sequence[int]]) -> float:
    """The share of a text's tokens that stand for unknown words, of all rows; special tokens are none of them."""
    unknown, special = tokenizer.unk_token_id, special_ids(tokenizer)
    if unknown is None or unknown in special:
        return 0.0
    found = Counter(token for row in rows for token in row if token >= 0 and token not in special)
    return found[unknown] / max(1, found.total())


def check_room(
    tokenizer: Any, most: int, *, pair: bool, option: str = "max_length", prefix: str = "", more: int = 0
) -> None:
    """
    Args:
        tokenizer: Puts tokens of its own around a text.
        most: What the option says.
        pair: Whether there are two texts.
        option: What an error calls it.
        prefix: Stands before a text.
        more: Tokens that are put to a text beside the tokenizer's own.

    Raises:
        OptionError: The option's maximum leaves no room for a text, or a pair, beside all these.
    """
    taken, what = tokenizer.num_special_tokens_to_add(pair=pair) + more, "the tokenizer's own tokens"
    if prefix:
        taken += len(tokenizer(prefix, add_special_tokens=False)["input_ids"])
        what = f"the prefix and {what}"
    if most <= taken + pair:
        raise OptionError(f"{option} is {most}, of which {what} take {taken}; give at least {taken + 1 + pair}.")


def check_embedded(
    model: Any, tokenizer: Any, examples: Sequence[Example], split: str | None = None, who: str = "the backbone"
) -> None:
    """
    Args:
        model: With the tables that its tokens are looked up in.
        tokenizer: Made the examples.
        examples: Encoded rows.
        split: Which split they are; None: new rows.
        who: Whose model it is.

    Raises:
        RowError: One has a token that was added to the tokenizer and not to the model.
    """
    base = getattr(model, "base_model", model)
    read = {"input_ids": base, "prompt_ids": base}
    if getattr(model, "task_kind", None) in LANGUAGE_MODELS:  # whose labels are tokens, some of them in no input
        read["labels"] = getattr(base, "decoder", base)
    tables = {name: _rows_of_table(part) for name, part in read.items() if examples and name in examples[0]}
    for name, rows in tables.items():
        for i, example in enumerate(examples):
            if max(example[name], default=0) < rows:
                continue
            token = next(token for token in example[name] if token >= rows)
            raise RowError(
                example.get("row", i), split,
                f"its token {tokenizer.decode([token]).strip()!r} has no embedding, of which {who} has {rows}; "
                "give it more with resize_token_embeddings(len(tokenizer)), and save it with its tokenizer.",
                tokenizer.decode([token for token in example[name] if token >= 0], skip_special_tokens=True),
            )  # fmt: skip


def rows_needed(tokenizer: Any) -> int:
    """Word embeddings that a tokenizer's tokens need: one more than its last token, for there may be gaps before."""
    return 1 + max(tokenizer.get_vocab().values())


def _rows_of_table(part: Any) -> int:
    """Word embeddings of a part of a model."""
    try:
        return len(part.get_input_embeddings().weight)
    except (AttributeError, NotImplementedError):  # CANINE's, which hashes characters
        return 10**9


def frame(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The special tokens that a tokenizer puts before and after a text."""
    tokens = (tokenizer.decode([token]) for token in range(len(tokenizer)))
    for text in itertools.chain("a", tokens):  # of some script it makes nothing of an a
        made = tokenizer(text, return_special_tokens_mask=True)
        ids, special = made["input_ids"], made["special_tokens_mask"]
        if 0 in special:
            return ids[: special.index(0)], ids[len(ids) - special[::-1].index(0) :]
    return [], []


def between(tokenizer: Any) -> str:
    """What must stand between two texts: a line break where the tokenizer puts nothing there, as many decoders'."""
    sides = tokenizer("a", "a").sequence_ids(0) if tokenizer.is_fast else [None]
    found = sides[sides.index(0) : sides.index(1)] if 0 in sides else sides  # it may make nothing of an a
    return "" if None in found else "\n"


def cut_texts(
    tokenizer: Any, columns: Mapping[str, list[str]], most: int, **how: Any
) -> tuple[dict[str, list[list[int]]], list[bool]]:
    """Texts as token fields, a list a row, and whether each row was longer than `most` tokens; see `cut_slices`."""
    found: dict[str, list[list[int]]] = {}
    longer: list[bool] = []
    known: dict[int, int] = {}
    for _, tokens, cut in cut_slices(tokenizer, columns, most, **how):
        longer += cut
        for name, rows in tokens.items():
            found.setdefault(name, []).extend(shared(ids, known) for ids in rows)
    return found, longer


def cut_slices(
    tokenizer: Any, columns: Mapping[str, list[str]], most: int, **how: Any
) -> Iterator[tuple[int, Any, list[bool]]]:
    """Texts as token ids, some rows at a time: the first one's number, what the tokenizer makes of them, and whether
    each was longer than `most` tokens.

    It is then cut to so many, of a pair the longer text first. Where the tokenizer puts nothing between two texts, the
    second begins with a line break.

    Args:
        tokenizer: Any tokenizer.
        columns: By the tokenizer's names: `text`, and `text_pair` where rows are pairs; or `text_target`.
        most: Tokens of a row, the tokenizer's own included.
        how: Further options of the tokenizer.
    """
    if "text_pair" in columns and (apart := between(tokenizer)):
        columns = {**columns, "text_pair": [apart + text for text in columns["text_pair"]]}
    for start, end in _slices(list(columns.values())):
        some = {name: texts[start:end] for name, texts in columns.items()}
        tokens = tokenizer(**some, truncation=True, max_length=most, return_attention_mask=False, **how)
        if tokens.encodings is not None:
            yield start, tokens, [bool(row.overflowing) for row in tokens.encodings]
        else:  # of one that is not a fast one
            whole = tokenizer(**some, truncation=False, verbose=False, **how)["input_ids"]
            yield start, tokens, [len(ids) > most for ids in whole]


_AT_ONCE, _CHARACTERS = 1000, 2**20
"""Rows, or characters, that are encoded at once: a tokenizer holds hundreds of bytes for each token, cut or not."""


def _slices(columns: Sequence[Sequence[str]]) -> Iterator[tuple[int, int]]:
    """Start and end of rows that are encoded at once; none of no rows."""
    start = held = 0
    for row, texts in enumerate(zip(*columns, strict=True)):
        own = sum(map(len, texts))
        if row > start and (row - start == _AT_ONCE or held + own > _CHARACTERS):
            yield start, row
            start, held = row, 0
        held += own
    if len(columns[0]) > start:
        yield start, len(columns[0])


def shared(ids: Sequence[int], known: dict[int, int]) -> list[int]:
    """The same ids, equal ones as one object, which takes a pointer for each where 32 bytes more were taken; processes
    that are forked share these, too.

    Args:
        ids: Of a row.
        known: Those of other rows, to which these are added.
    """
    return list(map(known.setdefault, ids, ids))


def spelling_special(tokenizer: Any, texts: Sequence[str], what: str) -> list[str]:
    """What must be said of texts to be learnt that spell special tokens, which are read as these and never written.

    Args:
        tokenizer: Any tokenizer.
        texts: To be learnt.
        what: What the note calls them: `targets of the train split`.
    """
    special = _special(tokenizer)
    spelt = [found[0] for text in texts if (found := special.search(text))]
    if not spelt:
        return []
    return [
        f"{len(spelt)} {what} spell special tokens of the tokenizer, such as {spelt[0]}, which are read as these and "
        "left out of what is written"
    ]


def _special(tokenizer: Any) -> re.Pattern[str]:
    tokens = filter(None, map(str, tokenizer.all_special_tokens))
    return re.compile("|".join(map(re.escape, tokens)) or "(?!)")


def decoded(tokenizer: Any, ids: Sequence[int], *, special: bool = False) -> str:
    """The text that a model has written in these tokens, of special ones without or with their names; letters of
    scripts without spaces are not parted where it is the tokenizer that parts them."""
    text = tokenizer.decode(ids, skip_special_tokens=not special, clean_up_tokenization_spaces=False)
    return closed_up(text) if _parts_letters(tokenizer) else text


def _parts_letters(tokenizer: Any) -> bool:
    """Whether a tokenizer puts spaces between Chinese letters that had none."""
    if tokenizer not in _PARTS:
        ids = tokenizer("今天", add_special_tokens=False)["input_ids"]
        _PARTS[tokenizer] = " " in tokenizer.decode(ids, clean_up_tokenization_spaces=False).strip()
    return _PARTS[tokenizer]


_PARTS: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


def unlike(tokenizer: Any, texts: Sequence[str], what: str, *, target: bool = False) -> list[str]:
    """What must be said of true texts that the tokenizer's tokens do not write as they are, so that no model can; but
    for those of `spelling_special`.

    Args:
        tokenizer: Any tokenizer.
        texts: The true ones.
        what: What the note calls them: `targets of the test split`.
        target: Whether they are written as targets are, of which some tokenizers have a vocabulary of its own.
    """
    special = _special(tokenizer)
    texts = [text for text in texts if not special.search(text)]
    if not texts:
        return []
    pairs = []
    for start, end in _slices([texts]):
        some = {"text_target" if target else "text": texts[start:end]}
        every = tokenizer(**some, add_special_tokens=False, truncation=False, verbose=False)["input_ids"]
        pairs += [(text, decoded(tokenizer, ids)) for text, ids in zip(texts[start:end], every, strict=True)]
    lost = [pair for pair in pairs if not text_exact_match([pair[1]], [[pair[0]]])]
    if not lost:
        return []
    place = next((i for i, (a, b) in enumerate(zip(*lost[0], strict=False)) if a != b), min(map(len, lost[0])))
    said, made = (repr(text[max(0, place - 10) : place + 10]) for text in lost[0])
    return [
        f"{len(lost)} {what} cannot be written exactly with the tokenizer, which makes {made} of {said}: with these "
        "exact match is out of reach"
    ]


def token_fields(tokens: Any, row: int) -> Example:
    """`TOKEN_FIELDS` of one of the rows that a tokenizer has encoded, where it gives them."""
    return {name: tokens[name][row] for name in TOKEN_FIELDS if name in tokens}


def distinct_rows(rows: int, length: int) -> list[list[int]]:
    """Rows of the token ids 0 and 1, no two the same where their length allows: their numbers in binary."""
    return [[row >> i & 1 for i in range(length)] for row in range(rows)]


def made_up(tokenizer: Any, rows: int, length: int) -> list[dict[str, Any]]:
    """Token fields of made-up rows, as the tokenizer would have them: `distinct_rows`, each the first of a pair."""
    numbered = "token_type_ids" in tokenizer.model_input_names
    numbers = {"token_type_ids": [0] * length} if numbered else {}
    return [{"input_ids": row, **numbers} for row in distinct_rows(rows, length)]


def of_split(split: str | None) -> str:
    """What a note calls the rows of a split."""
    return "new rows" if split is None else f"the {split} split"


def rounded_length(tokens: int) -> int:
    """The least length of at least `tokens` among few: multiples of 8, beyond 128 of an eighth of a power of two."""
    step = max(8, 1 << max(0, (tokens - 1).bit_length() - 4))
    return -(-tokens // step) * step


def padded_length(rows: Iterable[Sequence[Any]], longest: int | None) -> int:
    """The length that rows are padded to: that of the longest, or, where `longest` is given, one of few
    (`rounded_length`), at most that."""
    length = max(map(len, rows))
    return length if longest is None else max(length, min(rounded_length(length), longest))


def pad(rows: Sequence[Sequence[int]], fill: int, *, left: bool = False, longest: int | None = None) -> torch.Tensor:
    """Rows padded with `fill` to their `padded_length`, on the right unless `left`: (rows, length)."""
    import numpy
    import torch

    length = padded_length(rows, longest)

    def padded(row: Sequence[int]) -> list[int]:
        extra = [fill] * (length - len(row))
        return [*extra, *row] if left else [*row, *extra]

    return torch.tensor(numpy.array([padded(row) for row in rows], dtype=numpy.int64))  # sooner than of lists


def token_tensors(
    tokenizer: Any, examples: Sequence[Example], *, longest: int | None = None
) -> dict[str, torch.Tensor]:
    """`TOKEN_FIELDS` of the examples and `attention_mask`, each (batch, length), as `pad` does.

    Padding is on the right, whatever side the tokenizer's is: then positions are counted from a row's first token in
    every family, and a row's outputs are the same alone and in a batch.
    """
    padding = {"input_ids": tokenizer.pad_token_id, "token_type_ids": tokenizer.pad_token_type_id}
    batch = {
        name: pad([example[name] for example in examples], padding[name], longest=longest)
        for name in TOKEN_FIELDS
        if name in examples[0]
    }
    ones = [[1] * len(example["input_ids"]) for example in examples]
    batch["attention_mask"] = pad(ones, 0, longest=longest)
    return batch


def windows(tokens: int, size: int, stride: int) -> list[tuple[int, int]]:
    """Start and end (exclusive) of the windows over a row; always one, even over no token.

    Args:
        tokens: Tokens of the row.
        size: Most tokens of a window, at least 1.
        stride: Tokens that neighbours share; at most half of `size` is taken.
    """
    stride = min(stride, size // 2)
    return [(start, min(start + size, tokens)) for start in range(0, max(tokens - stride, 1), size - stride)]


def windows_within(
    fields: Mapping[str, list[int]], own: Sequence[int], most: int, stride: int
) -> tuple[int, list[tuple[int, int, Example]]]:
    """Windows over a part of a row's tokens, each within the tokens around that part.

    Args:
        fields: Token fields of the row.
        own: Places of the part's tokens, which follow each other.
        most: Tokens of a window with those around it.
        stride: As for `windows`.

    Returns:
        The place of the part's first token, in the row and in each window; and of each window start and end (exclusive)
        in the row, and its token fields. There is none where those around leave no room.
    """
    length = len(fields["input_ids"])
    first, last = (own[0], own[-1] + 1) if own else (length, length)
    size = most - (length - (last - first))
    if size < 1:
        return first, []
    places = [(first + a, first + b) for a, b in windows(last - first, size, stride)]
    return first, [(a, b, {name: v[:first] + v[a:b] + v[last:] for name, v in fields.items()}) for a, b in places]


def by_row(examples: Sequence[Example]) -> list[list[int]]:
    """The windows of each row, as indices of examples, in the order of rows."""
    rows: dict[int, list[int]] = {}
    for i, example in enumerate(examples):
        rows.setdefault(example["row"], []).append(i)
    return list(rows.values())


def lead(encode: Callable[[list[str]], list[list[int]]], text: list[int]) -> str:
    """What a word needs before it to become the tokens that it has within a text: a space, or nothing.

    Byte-level tokenizers (GPT-2, RoBERTa) make the space before a word a part of its first token; without it the word
    would become tokens that pretraining saw within words only.

    Args:
        encode: Tokens of each of two words.
        text: Tokens of the text "a a".
    """
    plain, spaced = encode(["a", "a"]), encode([" a", " a"])
    within = text[len(plain[0]) :]
    return " " if within == spaced[1] and within != plain[1] else ""


def encoded_words(tokenizer: Any, rows: Sequence[Sequence[str]], **how: Any) -> Any:
    """Lists of words as token ids, each word as the tokens that it has within a text; see `lead`.

    Args:
        tokenizer: A fast one.
        rows: Words.
        how: The tokenizer's arguments.
    """

    def encode(pair: list[str]) -> list[list[int]]:
        made = tokenizer(pair, is_split_into_words=True, add_special_tokens=False)
        owners = made.word_ids(0)
        return [[i for i, word in zip(made["input_ids"], owners, strict=True) if word == n] for n in (0, 1)]

    space = lead(encode, tokenizer("a a", add_special_tokens=False)["input_ids"])
    return tokenizer([[space + word for word in words] for words in rows], is_split_into_words=True, **how)


_SPACES = "Ġ▁ "
"""A space, as byte-level and SentencePiece vocabularies write it, and as it is."""


def read_at(owners: Sequence[int | None], tokens: Sequence[str]) -> dict[int, int]:
    """The token at which each word is read: its first that is more than white space, or else its first.

    Args:
        owners: The word that each token belongs to; None: to none.
        tokens: What the vocabulary calls each token.
    """
    first: dict[int, int] = {}
    written: dict[int, int] = {}
    for i, (word, token) in enumerate(zip(owners, tokens, strict=True)):
        if word is not None:
            first.setdefault(word, i)
            if token.strip(_SPACES):
                written.setdefault(word, i)
    return first | written


def model_inputs(batch: Mapping[str, torch.Tensor], *names: str) -> dict[str, torch.Tensor]:
    """The tensors of a batch that the model takes: token fields, attention mask, and `names`."""
    return {name: batch[name] for name in (*TOKEN_FIELDS, "attention_mask", *names) if name in batch}
