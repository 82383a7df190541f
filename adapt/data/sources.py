"""Reading what the caller has into tables: files, folders, hub names, data frames, data sets, lists.

Everything becomes a `Table`, so that nothing after this file asks where the rows came from.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapt.data.files import PLAIN, SUFFIXES, is_packed, kind_of, local_path, read_file, stem_of
from adapt.data.table import Table, classes_of, column_of, listing, no_duplicates
from adapt.data.values import texts_or_pairs
from adapt.fields import nearest
from adapt.spec import DataError, OptionError

if TYPE_CHECKING:
    import datasets
    import pandas

SPLITS = {
    "train": ("train",),
    "validation": ("validation", "valid", "val", "dev", "development", "eval", "evaluation"),
    "test": ("test",),
}
"""Split to the names that mean it, as file names and as keys, the likeliest first."""
WHOLE = "whole"
"""What the rows of a source without splits are called, where none of them need be trained on."""
_SPLIT_OF = {alias: split for split, aliases in SPLITS.items() for alias in aliases}
_HUB_NAME = re.compile(r"[\w-]+(/[\w.-]+)?")
_OF_HUB = re.compile(r"hf://|https?://(huggingface\.co|hf\.co)/|[\w-]+/[\w.-]+[@:]")
"""What names a data set of the hub, but not by its name alone."""
_NAME_ALONE = (
    "check the path; a data set of the hub is given by its name alone, such as org/name, beside revision (--revision) "
    "or config (--config)"
)


def read(
    source: Any,
    *,
    config: str | None = None,
    revision: str | None = None,
    splits: Mapping[str, str] | None = None,
    train: bool = True,
) -> tuple[str, dict[str, Table], list[str]]:
    """Read any source that `adapt.data.load` takes.

    Args:
        source: The source; what has no splits is "train", or `WHOLE` where there need be no "train".
        config: Configuration of a hub data set.
        revision: Revision of one.
        splits: Split to what the source calls it, where that is none of the names in `SPLITS` or not the likeliest.
        train: Whether there must be a split "train".

    Returns:
        A readable name; the tables of the splits that are there; and what must be said of others.

    Raises:
        DataError: The source or one of its splits cannot be had.
        OptionError: `config` or `revision` of local data; `splits` of what has none, or that cannot be read.
    """
    named_splits = _checked(splits)
    if isinstance(source, str | os.PathLike):
        path = local_path(source)
        named, known = str(os.fspath(source)), kind_of(path) in SUFFIXES
        hub = isinstance(source, str) and not known and _HUB_NAME.fullmatch(named) and not path.exists()
        if hub:
            title = f"{named}:{config}" if config else named
            return title, *_several(_load_hub(named, config, revision), named, train, named_splits)
        _local_only(config, revision)
        if path.is_dir():
            return path.resolve().name, *_folder(path, train, named_splits)
        _without_splits(named_splits, str(path))
        advice = _NAME_ALONE if _OF_HUB.match(named) else "check the path"
        return stem_of(path), {"train" if train else WHOLE: read_file(path, advice=advice)}, []
    _local_only(config, revision)
    import datasets

    if isinstance(source, datasets.DatasetDict):
        return "data", *_several(source, "the DatasetDict", train, named_splits)
    if isinstance(source, Mapping) and named_splits:
        return "data", *_several(source, "the splits", train, named_splits)
    if isinstance(source, Mapping) and source and ("train" in source or set(source) <= set(_SPLIT_OF)):
        return "data", _by_split(source, train), []
    _without_splits(named_splits, "the data")
    return "data", {"train" if train else WHOLE: _one(source)}, []


def read_rows(
    source: Any, columns_of: Callable[[list[Any]], Mapping[str, list[Any]]], *, every_line: bool = True
) -> tuple[Table, bool]:
    """Read one table without labels: a file, or rows in memory; and whether they came as a plain list, of which
    `columns_of` makes columns. For `every_line` see `read_file`."""
    if isinstance(source, str | os.PathLike):
        return read_file(source, advice="check the path, or give texts as a list", every_line=every_line), False
    if _is_list(source):
        rows = _plain(source)
        if not rows or not isinstance(rows[0], Mapping):
            return _columns(columns_of(rows), "the texts"), True
    return _one(source, lists="a list of texts"), False


def _local_only(config: str | None, revision: str | None) -> None:
    for option, value in (("config", config), ("revision", revision)):
        if value is not None:
            raise OptionError(f"{option}={value!r} is for data sets of the hub; leave it out for local data")


def _checked(splits: Mapping[str, str] | None) -> Mapping[str, str]:
    """
    Raises:
        OptionError: It is no mapping of splits to names, or a name is given to two of them.
    """
    if not splits:
        return {}
    if not isinstance(splits, Mapping) or not all(isinstance(name, str) for name in splits.values()):
        raise OptionError(f"splits={splits!r}: give a dict of splits to what the source calls them")
    for split in splits:
        if split not in SPLITS:
            raise OptionError(
                f"splits: there is no split {split!r}{nearest(str(split), SPLITS)}; say what the source calls "
                f"{', '.join(SPLITS)}"
            )
    names = list(splits.values())
    both = [split for split, name in splits.items() if names.count(name) > 1]
    if both:
        raise OptionError(f"splits: {splits[both[0]]!r} is {' and '.join(both)}, which have no row in common; name two")
    return splits


def _without_splits(splits: Mapping[str, str], where: str) -> None:
    for split, name in splits.items():
        raise OptionError(f"{name!r} is to be the {split} split, and {where} has no splits; name none")


def _load_hub(name: str, config: str | None, revision: str | None) -> datasets.DatasetDict:
    import datasets

    # the branch that the hub makes has a folder for each configuration, and no card that would name them
    place = {"data_dir": config} if revision == _PARQUET else {"name": config}
    try:
        return datasets.load_dataset(name, revision=revision, **place)
    except Exception as error:  # the client raises a dozen kinds; all mean that the rows cannot be had
        lines = (str(error).strip() or type(error).__name__).splitlines()
        reason = " ".join(lines[:2] if "onfig name is missing" in lines[0] else lines[:1])  # the second has the names
        raise DataError(
            f"{name!r}: no such file or folder, and the Hugging Face hub could not give it either "
            f"({reason}); check the spelling, the network and HF_HUB_OFFLINE, or give a path that exists"
        ) from error


def _several(
    source: Mapping[str, Any], where: str, train: bool, splits: Mapping[str, str]
) -> tuple[dict[str, Table], list[str]]:
    """The splits of what may have others, too."""
    for split, name in splits.items():
        if name not in source:
            raise DataError(
                f"{where}: no split {name!r}{nearest(name, map(str, source))}; name one of {listing(source)} for "
                f"{split}"
            )
    free = [name for name in source if name not in splits.values()]
    usual = {split: next((name for name in names if name in free), None) for split, names in SPLITS.items()}
    known = {split: found for split in SPLITS if (found := splits.get(split) or usual[split])}
    if not known or (train and "train" not in known):
        wanted, how = ("'train'", HOW) if train else (f"of {listing(SPLITS)}", "name one of these as split")
        raise DataError(f"{where}: no split {wanted} (it has {listing(source)}); give one, or {how}")
    tables = {split: _one(source[name], f"{where}, split {name!r}") for split, name in known.items()}
    return tables, _not_used("splits", [name for name in source if name not in known.values()])


_PARQUET = "refs/convert/parquet"
"""Branch of a hub data set that its viewer writes, where it has no script and none of its own files."""
HOW = "say which it is (splits, or --split, such as test=NAME)"
"""How a split is used that has another name."""


def _not_used(what: str, names: Sequence[str]) -> list[str]:
    """What must be said of files or splits that are passed over."""
    return [f"{what} that are not used: {listing(names)}"] if names else []


def _by_split(source: Mapping[str, Any], train: bool) -> dict[str, Table]:
    tables: dict[str, Table] = {}
    for key, value in source.items():
        split = _SPLIT_OF.get(key)
        if split is None:
            hint = nearest(str(key), _SPLIT_OF)
            raise DataError(f"unknown split {key!r}{hint} beside 'train'; splits are {listing(SPLITS)}")
        if split in tables:
            raise DataError(f"two splits mean {split!r} ({listing(source)}); keep one")
        tables[split] = _one(value, f"split {key!r}")
    if train and "train" not in tables:
        raise DataError(f"no split 'train' (given: {listing(source)}); give one")
    return tables


def _folder(folder: Path, train: bool, splits: Mapping[str, str]) -> tuple[dict[str, Table], list[str]]:
    named = {name: split for split, name in splits.items()}
    found: dict[str, list[Path]] = {}
    others: list[str] = []
    try:
        there = sorted(folder.iterdir())
        files = [p for p in there if kind_of(p) in SUFFIXES and not p.name.startswith(".") and p.is_file()]
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror}); check its permissions") from error
    for path in sorted(files, key=_rank):
        usual = _SPLIT_OF.get(stem_of(path).casefold())
        split = named.get(stem_of(path)) or (None if usual in splits else usual)
        if split is not None:
            found.setdefault(split, []).append(path)
        elif kind_of(path) != PLAIN:  # which may be a licence
            others.append(path.name)
    chosen: dict[str, Path] = {}
    for split, paths in found.items():
        likely = (splits[split].casefold(),) if split in splits else SPLITS[split]
        first, *rest = sorted(paths, key=lambda path: (*_rank(path), likely.index(stem_of(path).casefold())))
        if rest and _rank(first) == _rank(rest[0]) and stem_of(first).casefold() == stem_of(rest[0]).casefold():
            raise DataError(f"{folder}: both {first.name!r} and {rest[0].name!r} are the {split} split; keep one")
        chosen[split] = first
        others += [path.name for path in rest]
    holds = listing([path.name for path in there]) or "nothing"
    for split, name in splits.items():
        if split not in chosen:
            raise DataError(
                f"{folder}: no file {name!r} for {split} (it holds {holds}); give a name without its suffix"
            )
    if not chosen or (train and "train" not in chosen):
        wanted = "train" if train else "test"
        raise DataError(
            f"{folder}: no {wanted} file (it holds {holds}); name one {wanted}.csv, .tsv, .jsonl, .json, .parquet, "
            f".conll or .txt, or {HOW if train else 'name another as split'}"
        )
    return {split: read_file(path) for split, path in chosen.items()}, _not_used("files", sorted(others))


def _rank(path: Path) -> tuple[bool, bool]:
    """Tables before plain text, and what is not packed before what is, which may be a copy."""
    return kind_of(path) == PLAIN, is_packed(path)


def _one(
    source: Any, where: str | None = None, lists: str = "(texts, labels) as two lists, or a list of texts"
) -> Table:
    """One table from a file or from an object in memory; errors say which `lists` are read."""
    import datasets
    import pandas

    if isinstance(source, str | os.PathLike):
        return read_file(source)
    if isinstance(source, pandas.DataFrame):
        return _frame(source, where or "the DataFrame")
    if isinstance(source, datasets.Dataset):
        if source.format["type"] == "custom":
            raise DataError(
                f"{where or 'the Dataset'}: has a transform, which is not applied when rows are read; apply it with "
                "map, or take it off with reset_format"
            )
        features = source.features
        return Table(
            where or "the Dataset", tuple(features), len(source), lambda name: column_of(source, name),
            classes=classes_of(features),
        )  # fmt: skip
    if isinstance(source, Mapping):
        return _columns(source, where or "the columns")
    if type(source).__module__.partition(".")[0] in ("polars", "pyarrow") and hasattr(source, "to_pandas"):
        return _frame(pandas.DataFrame(source.to_pandas()), where or f"the {type(source).__name__}")
    if _is_list(source):
        rows = _plain(source)
        if all(isinstance(row, Mapping) for row in rows):
            rows = [{str(name): value for name, value in row.items()} for row in rows]
            names = tuple(dict.fromkeys(name for row in rows for name in row))
            return Table(where or "the rows", names, len(rows), lambda name: _plain([row.get(name) for row in rows]))
        if len(rows) == 2 and all(_is_list(part) for part in rows):
            where = where or "the lists"
            _refuse_words(rows[0], rows[1], where)
            return _columns({**texts_or_pairs(_plain(rows[0]), where), "label": rows[1]}, where)
        if rows and all(isinstance(row, str) and kind_of(Path(row)) in SUFFIXES for row in rows):
            raise DataError(
                f"{where or 'the data'}: a list of file names ({listing(rows, 3)}), which is neither one table nor "
                "texts; give one file, or a folder with files train, validation and test"
            )
        if any(isinstance(row, str) for row in rows):
            return _columns({"text": rows}, where or "the texts")
    known = f"a path, a DataFrame, a Dataset, a dict of columns ({{'text': [...]}}), a list of dicts, or {lists}"
    frames = [isinstance(part, pandas.DataFrame) for part in source] if isinstance(source, tuple | list) else []
    if frames and all(frames):
        known = "a dict of splits (train, validation, test) to DataFrames"
    elif any(frames):
        known = "texts and labels as two Series (df['text'], not df[['text']]), or one DataFrame with both columns"
    elif hasattr(source, "splits"):  # of data that were read before
        known = "one of its splits, such as splits['test']"
    package, what = type(source).__module__.partition(".")[0], type(source).__name__
    what = what if package in ("builtins", "adapt") else f"{package}.{what}"
    raise DataError(f"{where or 'the data'}: cannot read {what} as a table; give {known}")


def _refuse_words(first: Any, second: Any, where: str) -> None:
    """
    Raises:
        DataError: The rows are lists of two words with as many tags, which are no pairs of texts with two labels.
    """
    rows, labels = _plain(first), _plain(second)

    def are_strings(row: Any) -> bool:
        return isinstance(row, list) and len(row) == 2 and all(isinstance(item, str) for item in row)

    if rows and len(rows) == len(labels) and all(map(are_strings, rows)) and all(map(are_strings, labels)):
        raise DataError(
            f"{where}: two strings a row with two labels each, which may be words with tags or pairs of texts with "
            "several labels; give a dict of columns, 'tokens' and 'tags', or 'text', 'text_pair' and 'label'"
        )


def _is_list(value: Any) -> bool:
    if hasattr(value, "tolist"):
        return getattr(value, "ndim", 1) > 0  # a number of numpy is none
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _plain(values: Any) -> list[Any]:
    """A list of Python objects from a list, tuple, array or series; None where pandas says that a value is missing."""
    import pandas

    found = values.tolist() if hasattr(values, "tolist") else list(values)
    return [None if value is pandas.NA else value for value in found]


def _columns(source: Mapping[Any, Any], where: str) -> Table:
    columns: dict[str, list[Any]] = {}
    for name, values in source.items():
        if not _is_list(values):
            raise DataError(f"{where}: {name!r} is a {type(values).__name__}, not a list of values; give one a row")
        columns[str(name)] = _plain(values)
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{name!r} has {n}" for name, n in lengths.items())
        raise DataError(f"{where}: lengths differ ({counts} values); give one of each a row")
    rows = next(iter(lengths.values()), 0)
    return Table(where, tuple(columns), rows, columns.__getitem__)


def _frame(frame: pandas.DataFrame, where: str) -> Table:
    names = [str(name) for name in frame.columns]
    no_duplicates(names, where)

    def column(name: str) -> list[Any]:
        values = frame.iloc[:, names.index(name)]
        return [value if there else None for value, there in zip(values.tolist(), values.notna(), strict=True)]

    return Table(where, tuple(names), len(frame), column)
