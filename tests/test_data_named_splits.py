"""Which split of a source is which, where its own names do not tell."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pandas
import pytest
from click.testing import CliRunner
from data_helpers import write_csv

from adapt import cli
from adapt.data import load, read_labelled
from adapt.spec import AdaptError, DataError, OptionError, Source, Task

OWN = ("train", "validation_matched", "validation_mismatched", "test_matched")
NAMED = {"validation": "validation_matched", "test": "validation_mismatched"}


def rows_of(split: str, count: int = 4) -> list[dict[str, str]]:
    """Rows by whose texts the split is known."""
    return [{"text": f"{split} {i}", "label": "ab"[i % 2]} for i in range(count)]


def folder_of(folder: Path) -> Path:
    for split in OWN:
        write_csv(folder / f"{split}.csv", rows_of(split))
    return folder


def dataset_dict_of(_: Path) -> datasets.DatasetDict:
    return datasets.DatasetDict({split: datasets.Dataset.from_list(rows_of(split)) for split in OWN})


SOURCES: dict[str, Callable[[Path], Any]] = {
    "folder": folder_of,
    "DatasetDict": dataset_dict_of,
    "dict": lambda _: {split: rows_of(split) for split in OWN},
}


@pytest.mark.parametrize("source", SOURCES)
def test_splits_are_what_the_caller_says(source: str, tmp_path: Path) -> None:
    given = SOURCES[source](tmp_path)
    data = load(given, splits=NAMED)
    expected = {"train": "train", **NAMED}
    assert {split: rows["text"][0] for split, rows in data.splits.items()} == {s: f"{n} 0" for s, n in expected.items()}
    assert data.sha256 == load({split: rows_of(name) for split, name in expected.items()}).sha256
    assert ["test_matched" in note for note in data.notes] == [True]


@pytest.mark.parametrize("source", SOURCES)
def test_a_split_that_is_named_is_no_other(source: str, tmp_path: Path) -> None:
    given = SOURCES[source](tmp_path)
    data = load(given, splits={"train": "validation_matched", "test": "train"}, validation=0.5)
    assert {split: len(rows) for split, rows in data.splits.items()} == {"train": 2, "validation": 2, "test": 4}
    assert data.splits["test"]["text"][0] == "train 0"
    assert all(text.startswith("validation_matched") for text in data.splits["validation"]["text"])


@pytest.mark.parametrize("source", SOURCES)
def test_a_name_that_is_not_there_is_refused(source: str, tmp_path: Path) -> None:
    given = SOURCES[source](tmp_path)
    with pytest.raises(DataError, match=r"no (split|file) 'validation_macthed'.* for validation") as error:
        load(given, splits={"validation": "validation_macthed"})
    assert "'validation_matched" in str(error.value), "what there is"


BAD: dict[str, tuple[Any, str]] = {
    "a split that there is not": ({"dev": "x"}, "splits: there is no split 'dev'; say what the source calls train"),
    "one for two": ({"validation": "x", "test": "x"}, "splits: 'x' is validation and test, which have no row in"),
    "a number": ({"validation": 1}, "splits={'validation': 1}: give a dict of splits to what"),
    "a text": ("validation", "splits='validation': give a dict"),
    "rows without splits": ({"validation": "x"}, "'x' is to be the validation split, and the data has no splits"),
}


@pytest.mark.parametrize("case", BAD)
def test_splits_that_cannot_be_named(case: str) -> None:
    splits, message = BAD[case]
    with pytest.raises(OptionError, match=message):
        load(rows_of("train"), splits=splits)


def test_a_file_has_no_splits(tmp_path: Path) -> None:
    file = write_csv(tmp_path / "rows.csv", rows_of("train"))
    with pytest.raises(OptionError, match=r"rows\.csv has no splits; name none"):
        load(file, splits=NAMED)


@pytest.mark.parametrize("source", SOURCES)
def test_a_model_is_scored_on_a_split_by_its_own_name(source: str, tmp_path: Path) -> None:
    task = Task("x", Source("x", ""), labels=("a", "b"))
    found = read_labelled(SOURCES[source](tmp_path), task, split="validation_matched")
    assert (found.split, found.rows["text"][0]) == ("validation_matched", "validation_matched 0")
    assert found.notes == (), "nothing need be said of the others"
    with pytest.raises(AdaptError, match=r"no (split|file) 'tset'"):
        read_labelled(SOURCES[source](tmp_path), task, split="tset")
    with pytest.raises(DataError, match=r"(no split 'validation' \(it has .*|unknown split )'validation_matched"):
        read_labelled(SOURCES[source](tmp_path), task, split="validation")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """A hub set of two configurations, which `datasets` reads from a folder; gives the revisions asked for."""
    folder, asked = tmp_path / "hub", list[str | None]()
    lines = ["---", "configs:"]
    for config, names in {"mnli": OWN, "sst2": ("train", "validation", "test")}.items():
        lines += [f"- config_name: {config}", "  data_files:"]
        (folder / config).mkdir(parents=True)
        for split in names:
            write_csv(folder / config / f"{split}.csv", rows_of(f"{config} {split}"))
            lines += [f"  - split: {split}", f"    path: {config}/{split}.csv"]
    (folder / "README.md").write_text("\n".join([*lines, "---", ""]))
    real = datasets.load_dataset

    def load_dataset(path: str, *, revision: str | None = None, **how: Any) -> Any:
        assert path == "somebody/glue"
        asked.append(revision)
        return real(str(folder), cache_dir=str(tmp_path / "cache"), **how)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return asked


def test_the_hubs_own_parquet_files_are_in_a_folder_for_each_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On that branch no card names the configurations."""
    folder, real = tmp_path / "hub", datasets.load_dataset
    for config in ("sw", "swa"):
        for split in ("train", "validation", "test"):
            (folder / config / split).mkdir(parents=True)
            pandas.DataFrame(rows_of(f"{config} {split}")).to_parquet(folder / config / split / "0000.parquet")

    def load_dataset(path: str, *, revision: str, **how: Any) -> Any:
        assert (path, revision) == ("some/names", "refs/convert/parquet")
        return real(str(folder), cache_dir=str(tmp_path / "cache"), **how)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    read = load("some/names", config="swa", revision="refs/convert/parquet")
    assert read.name == "some/names:swa"
    assert {split: rows["text"][0] for split, rows in read.splits.items()} == {
        split: f"swa {split} 0" for split in ("train", "validation", "test")
    }
    with pytest.raises(DataError, match="could not give it either"):
        load("some/names", config="sv", revision="refs/convert/parquet")


def test_configurations_and_splits_of_the_hub_on_the_command_line(
    hub: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[Any] = []
    monkeypatch.setattr("adapt.comparison.compare", lambda backbone, data, *_, **__: found.append(data))
    words = ["--config", "mnli", "--revision", "v2", "--split", "validation=validation_matched"]
    words += ["--split", "test = validation_mismatched"]
    CliRunner().invoke(cli.cli, ["compare", "--data", "somebody/glue", *words])
    assert hub == ["v2"]
    assert found[0].name == "somebody/glue:mnli"
    texts = {split: rows["text"][0] for split, rows in found[0].splits.items()}
    assert texts == {"train": "mnli train 0", **{split: f"mnli {name} 0" for split, name in NAMED.items()}}
    with pytest.raises(DataError, match=r"Config name is missing.*mnli.*sst2"):
        load("somebody/glue")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--split", "validation"], "--split validation cannot be read; write split=name, such as validation=valid"),
        (["--split", "test=a", "--split", "test=b"], "--split test is given twice; give it once"),
    ],
)
def test_words_that_name_no_split(words: list[str], message: str) -> None:
    error = CliRunner().invoke(cli.cli, ["compare", "--data", "x.csv", *words]).exception
    assert isinstance(error, OptionError)
    assert message in str(error)


def test_what_says_how_data_are_read_goes_with_data() -> None:
    for option, value in (("--split", "test=a"), ("--config", "sst2"), ("--revision", "main")):
        error = CliRunner().invoke(cli.cli, ["compare", option, value]).exception
        assert str(error) == f"{option} goes with --data, which is not given."


@pytest.mark.parametrize("command", ["compare", "fit", "distill", "probe", "score"])
def test_every_command_that_reads_labelled_rows_reads_those_of_the_hub(command: str) -> None:
    there = {option for parameter in cli.cli.commands[command].params for option in parameter.opts}
    assert there >= {"--config", "--revision", "--split"}
