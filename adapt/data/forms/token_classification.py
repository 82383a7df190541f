"""A tag for each word of a sentence: named entities (IOB2; Tjong Kim Sang & Veenstra 1999), parts of speech.

Columns `tokens`, the words, and `tags`, indices into the tag names. The problem is `spans` where every tag of train is
`O`, `B-x` or `I-x`, else `tags`. The names of `spans` are `O`, then the others in alphabetical order; those of `tags`
are in alphabetical order, or as the data set declares them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from adapt.data.columns import all_named, by_usual_names, needed, tidy
from adapt.data.forms.form import Columns, Form, Read, Wishes
from adapt.data.labels import unseen, withheld
from adapt.data.remarks import alike
from adapt.data.table import Table, listing
from adapt.data.values import check_characters, labelled, lists
from adapt.metrics.spans import TAG, unpredicted
from adapt.spec import DataError, OptionError, Task

NAMES: dict[str, tuple[str, ...]] = {
    "tokens": ("tokens", "words"),
    "tags": (
        "tags", "ner_tags", "ner", "labels", "ner_labels", "word_labels", "upos", "pos_tags", "pos", "xpos",
        "chunk_tags", "slots",
    ),
}  # fmt: skip
"""Usual names of a column, the likeliest first."""
_BIO = re.compile(r"O|[BI]-.+")
_SCHEME = (
    "tags look like spans, not all of them in BIO, and are scored as tags; convert them to BIO for scores of spans"
)
_MOSTLY_O = "most words have the tag O, and tags are scored one by one; write spans as B-x and I-x for scores of spans"
_NUMBERS = "tags are numbers without names, and are scored as tags; give names, in BIO for scores of spans"
_Splits = dict[str, list[list[str]]]


def find(table: Table, given: Mapping[str, str]) -> dict[str, str]:
    """The columns of words and of tags."""
    found = by_usual_names(table, given, NAMES, NAMES)
    return {role: found[role] for role in NAMES}


def read(tables: Mapping[str, Table], given: Mapping[str, str], wishes: Wishes) -> Read:
    """
    Raises:
        DataError: A word, tag or row cannot be used, a tag breaks BIO or is none of spans where most are, or a tag is
            not in train, or none that a model knows.
    """
    chosen = find(tables["train"], given)
    tables, notes = labelled(tables, chosen, "tags", NAMES["tags"])
    columns = {split: all_named(table, chosen) for split, table in tables.items()}
    for split in [split for split in tables if split != "train"]:
        if withheld(tables[split], columns[split]["tags"], tables["train"], chosen["tags"], empty=True):
            del tables[split], columns[split]
            notes.append(f"the {split} split is left out: its tags are withheld")
    tokens = {split: _tokens(table, columns[split]["tokens"]) for split, table in tables.items()}
    tags = {split: _tags(table, columns[split]["tags"], tokens[split]) for split, table in tables.items()}
    train = {tag for row in tags["train"] for tag in row}
    problem = wishes.problem or ("spans" if _is_bio(train) else "tags")
    if wishes.problem is None:
        _refuse_odd(tables["train"], tokens["train"], tags["train"], train)
    if problem == "spans":
        if wishes.labels is None:
            _check_scheme(tables["train"], train)
        notes += _mended(tables, tokens, tags, wishes.repair_tags)
    further: list[str] = []
    if wishes.labels is not None:
        names = list(wishes.labels)
        further = unpredicted(names) if problem == "spans" else []
        known = {*names, *further}
        notes += _missing(further, tags, "none that the model knows")
    elif problem == "spans":
        names, said = _names_of_spans(tags)
        known = set(names)
        notes += [*said, *_once(tags["train"])]
    else:
        names, known = _in_order(train, tables["train"].classes.get(columns["train"]["tags"])), train
        if _is_other_scheme(train):
            notes.append(_SCHEME)
        elif all(map(str.isdecimal, train)):
            notes.append(_NUMBERS)
        elif _is_mostly_o(tags["train"]):
            notes.append(_MOSTLY_O)
    if len(names) < 2:
        raise DataError(f"{tables['train'].where}: every tag is {names[0]!r}; a tagger needs two different tags")
    for split, table in tables.items():
        _refuse_unseen(table, split, tokens[split], tags[split], known, wishes.labels)
    index = {name: i for i, name in enumerate([*names, *further])}
    encoded = {split: [[index[tag] for tag in row] for row in rows] for split, rows in tags.items()}
    rows: dict[str, Columns] = {split: {"tokens": tokens[split], "tags": encoded[split]} for split in tables}
    return Read(problem, tuple(names), rows, (*notes, *alike(names, "tags")))


def plain(rows: list[Any]) -> Columns:
    """Lists of words."""
    return {"tokens": rows}


def inputs(table: Table, given: Mapping[str, str], task: Task) -> Columns:
    """`tokens`."""
    return {"tokens": _tokens(table, needed(table, given, "tokens", NAMES["tokens"]))}


def _word(table: Table, row: int, words: Sequence[Any], position: int) -> str:
    """What an error calls a word."""
    return f"{table.at(row)}, word {position + 1} ({words[position]!r:.40})"


def _tokens(table: Table, column: str) -> list[list[str]]:
    values = lists(table, column, "tokens")
    for row, words in enumerate(values):
        if not words:
            raise DataError(f"{table.at(row)}: column {column!r} holds no word; take the row out")
        for position, word in enumerate(words):
            if not isinstance(word, str):
                raise DataError(f"{_word(table, row, words, position)}: not text; give every word as text")
            if not word.strip():
                raise DataError(f"{_word(table, row, words, position)}: the word is empty; take it and its tag out")
            check_characters(table, row, f"column {column!r}", word)
    return values


def _tags(table: Table, column: str, tokens: Sequence[Sequence[str]]) -> list[list[str]]:
    values = lists(table, column, "tags")
    classes = table.classes.get(column)
    found = []
    for row, (words, tags) in enumerate(zip(tokens, values, strict=True)):
        if len(words) != len(tags):
            raise DataError(
                f"{table.at(row)}: {len(words)} tokens and {len(tags)} tags in column {column!r}; "
                f"give one tag for each token"
            )
        found.append([_tag(table, row, words, position, tag, classes) for position, tag in enumerate(tags)])
    return found


def _tag(table: Table, row: int, words: Sequence[str], position: int, tag: Any, classes: Sequence[str] | None) -> str:
    if isinstance(tag, int) and not isinstance(tag, bool):
        if classes is None and tag >= 0:
            return str(tag)
        if classes is not None and 0 <= tag < len(classes):
            return tidy(classes[tag])
    name = tidy(tag) if isinstance(tag, str) else ""
    if not name:
        wanted = "its name" if classes is None else f"its name or its index among the {len(classes)} tag names"
        raise DataError(f"{_word(table, row, words, position)}: {tag!r:.40} is no tag; give {wanted}")
    check_characters(table, row, "a tag", name)
    return name


def _is_bio(tags: set[str]) -> bool:
    return all(map(_BIO.fullmatch, tags)) and tags != {"O"}


def _is_other_scheme(tags: set[str]) -> bool:
    return not _is_bio(tags) and "O" in tags and len(tags) > 1 and all(map(TAG.fullmatch, tags))


def _is_mostly_o(rows: list[list[str]]) -> bool:
    """Whether most words have the tag `O`, in upper or lower case, as they are outside of entities."""
    found = Counter(tag.casefold() == "o" for tags in rows for tag in tags)
    return found[True] > found[False]


def _refuse_odd(table: Table, tokens: list[list[str]], tags: list[list[str]], train: set[str]) -> None:
    """Raise where a tag has not the form of spans and at least half of the different tags besides `O` have it, as no
    set of parts of speech does."""
    odd = {tag for tag in train if not TAG.fullmatch(tag)}
    if not odd or len(odd) > len(train - odd - {"O"}):
        return
    row, position = next((i, j) for i, names in enumerate(tags) for j, tag in enumerate(names) if tag in odd)
    raise DataError(
        f"{_word(table, row, tokens[row], position)}: tag {tags[row][position]!r} is not O, B-x or I-x, and most tags "
        f"are; mend it, or pass problem='tags' (--problem tags) to score them one by one"
    )


def _check_scheme(table: Table, train: set[str]) -> None:
    """
    Raises:
        OptionError: Tags are not those of spans.
    """
    if not _is_bio(train):
        odd = sorted(tag for tag in train if not _BIO.fullmatch(tag))
        raise OptionError(
            f"{table.where}: problem='spans' needs the tags O, B-x and I-x, and there are "
            f"{listing(odd, 5) or 'none but O'}; convert them, or pass problem='tags'"
        )


def _names_of_spans(tags: _Splits) -> tuple[list[str], list[str]]:
    """Names of the tags, and what must be said of them.

    An I- tag that train lacks is a name too if train has its B- tag: the type is known, and that train happens to have
    only spans of one word of it says nothing of other rows.
    """
    train = {tag for row in tags["train"] for tag in row}
    every = {tag for rows in tags.values() for row in rows for tag in row}
    extra = sorted(tag for tag in every - train if tag[0] == "I" and f"B{tag[1:]}" in train)
    return ["O", *sorted({*train, *extra} - {"O"})], _missing(extra, tags, "not in train")


def _missing(names: Sequence[str], tags: _Splits, what: str) -> list[str]:
    """What must be said of I- tags that are there, and missing where their B- tags are."""
    counts = Counter(tag for rows in tags.values() for row in rows for tag in row)
    return [f"tag {tag!r} is {what}, where {'B' + tag[1:]!r} is (words: {counts[tag]})" for tag in names if counts[tag]]


def _once(train: list[list[str]]) -> list[str]:
    """What must be said of types that have one span of a hundred or more in train, as a type that is mistyped has."""
    spans = Counter(tag[2:] for row in train for tag in row if tag[0] == "B")
    once = sorted(name for name, count in spans.items() if count == 1)
    if not once or spans.total() < 100:
        return []
    return [f"types of one span in train, which may be mistyped: {listing(once, 5)}"]


def _mended(tables: Mapping[str, Table], tokens: _Splits, tags: _Splits, repair: bool) -> list[str]:
    """Mend every I- tag that continues no span of its type, if that is asked for; what must be said of it.

    Raises:
        DataError: There is such a tag, and it is not to be mended.
    """
    mended = 0
    for split, table in tables.items():
        bad = [
            (row, position)
            for row, names in enumerate(tags[split])
            for position, tag in enumerate(names)
            if tag.startswith("I-") and (position == 0 or names[position - 1] not in (tag, f"B{tag[1:]}"))
        ]
        if bad and not repair:
            row, position = bad[0]
            tag = tags[split][row][position]
            before = f"follows {tags[split][row][position - 1]!r}" if position else "is the first"
            more = f" (and {len(bad) - 1} more such tags)" if len(bad) > 1 else ""
            raise DataError(
                f"{_word(table, row, tokens[split][row], position)}: tag {tag!r} {before} and so continues no span"
                f"{more}; mend it, or pass repair_tags=True (--repair-tags) to make it {'B' + tag[1:]!r}"
            )
        for row, position in bad:
            tags[split][row][position] = f"B{tags[split][row][position][1:]}"
        mended += len(bad)
    return [f"{mended} I- tags that continued no span were made B-"] if mended else []


def _in_order(tags: set[str], declared: Sequence[str] | None) -> list[str]:
    names = list(dict.fromkeys(map(tidy, declared or ())))
    if tags <= set(names):
        return names
    return sorted(tags, key=lambda tag: (not tag.isdecimal(), int(tag) if tag.isdecimal() else 0, tag))


def _refuse_unseen(
    table: Table,
    split: str,
    tokens: list[list[str]],
    tags: list[list[str]],
    names: set[str],
    known: Sequence[str] | None,
) -> None:
    for row, found in enumerate(tags):
        for position, tag in enumerate(found):
            if tag not in names:
                raise unseen(_word(table, row, tokens[row], position), f"tag {tag!r}", split, known)


FORM = Form(("spans", "tags"), ("tokens", "tags"), find, read, plain, inputs)
