"""`adapt probe` and `adapt represent`: what they print and write is what the functions give."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import adapt
from adapt.cli import cli
from adapt.extraction import Probing
from adapt.spec import AdaptError, OptionError


@pytest.fixture
def data(tmp_path: Path) -> Path:
    file = tmp_path / "words.csv"
    rows = "".join(f"a {word} word{i},{word}\n" for word in ("good", "bad") for i in range(20))
    file.write_text("text,label\n" + rows)
    return file


def call(*arguments: object) -> Any:
    return CliRunner().invoke(cli, [*map(str, arguments)], catch_exceptions=False)


def test_probe_prints_the_table_and_writes_it(backbone: Callable[..., Path], data: Path, tmp_path: Path) -> None:
    options = ["--layers", "0,-1", "--seeds", "2", "--max-train", "20", "--validation", "0.2", "--name", "mine"]
    done = call("probe", backbone("bert"), "tiny-encoder", "--data", data, *options, "--device", "cpu",
                "--out", tmp_path / "out")  # fmt: skip
    assert done.exit_code == 0
    found = Probing.from_json(json.loads((tmp_path / "out" / "probe.json").read_text()))
    assert (tmp_path / "out" / "probe.md").read_text() == found.table()
    assert done.stdout == found.table() + "\n"
    rows = adapt.data.load(data, validation=0.2, name="mine")
    assert found == adapt.probe([backbone("bert"), "tiny-encoder"], rows, layers=[0, -1], seeds=2, max_train=20,
                                device="cpu")  # fmt: skip
    assert [layer.layer for layer in found.models[1].layers] == [0, 4]
    assert "tiny-encoder, seed 1, layer 4: accuracy" in done.stderr


def test_probe_without_control(data: Path) -> None:
    done = call("probe", "tiny-encoder", "--data", data, "--no-control", "--seeds", "1", "--layers", "last",
                "--metric", "macro_f1", "--pooling", "last", "--device", "cpu")  # fmt: skip
    assert done.exit_code == 0
    assert done.stdout.splitlines()[2] == "| model | layer | macro f1, % [95 % CI] |"
    assert "by last pooling" in done.stdout
    assert "texts cut to 128 tokens" in done.stdout


def test_represent_writes_what_the_function_gives(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "new" / "found.safetensors"
    done = call("represent", "tiny-encoder", "--input", data, "--output", file, "--layers", "1",
                "--pooling", "words", "--max-length", "4", "--device", "cpu")  # fmt: skip
    assert done.exit_code == 0
    found = adapt.Representations.load(file)
    texts = [line.split(",")[0] for line in data.read_text().splitlines()[1:]]
    expected = adapt.representations("tiny-encoder", texts, layers=1, pooling="words", max_length=4, device="cpu")
    assert np.array_equal(found.values, expected.values)
    assert "Note: 40 of 40 rows were cut to 4 tokens" in done.stderr
    assert f"{len(found.rows)} vectors of 160 in layers 1: {file}" in done.stderr


def test_represent_reads_the_column_that_is_named(data: Path, tmp_path: Path) -> None:
    done = call("represent", "tiny-encoder", "--input", data, "--output", tmp_path / "found.safetensors", "--column",
                "text=label", "--device", "cpu")  # fmt: skip
    assert done.exit_code == 0
    found = adapt.Representations.load(tmp_path / "found.safetensors")
    expected = adapt.representations("tiny-encoder", ["good"] * 20 + ["bad"] * 20, device="cpu")
    assert np.array_equal(found.values, expected.values)


def test_a_backbone_that_was_moved(data: Path, tmp_path: Path) -> None:
    shutil.copytree(adapt.backbones.resolve("tiny-encoder").path, tmp_path / "mine")
    adapt.fit(tmp_path / "mine", data, "head", max_steps=1, device="cpu", max_length=16).save(tmp_path / "model")
    (tmp_path / "mine").rename(tmp_path / "moved")
    commands = [
        ["represent", tmp_path / "model", "--input", data, "--output", tmp_path / "found.safetensors"],
        ["attention", tmp_path / "model", "--input", data],
        ["probe", tmp_path / "model", "--data", data],
    ]
    for command in commands:
        with pytest.raises(AdaptError, match=r"--backbone of .* or give the model.*adapt\.load\(\.\.\., backbone="):
            call(*command)
    for command in commands[:2]:
        assert call(*command, "--backbone", tmp_path / "moved").exit_code == 0
    with pytest.raises(OptionError, match="this is no folder of one; leave it out"):
        call("attention", "tiny-encoder", "--input", data, "--backbone", tmp_path / "moved")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["probe", "tiny-encoder", "--data", "words.csv", "--layers", "9"], OptionError, "no layer 9"),
        (["probe", "nowhere/at/all", "--data", "words.csv"], OptionError, "does not exist"),
        (["probe", "tiny-encoder", "--data", "words.csv", "--out", "words.csv"], OptionError, "it is a file"),
        (
            ["represent", "tiny-encoder", "--input", "words.csv", "--output", "x.csv"],
            OptionError,
            "write to .safetensors",
        ),
        (["represent", "tiny-encoder", "--input", "none.csv", "--output", "x.safetensors"], AdaptError, "none.csv"),
    ],
)
def test_what_cannot_be_used_is_one_error(
    arguments: list[str], error: type[AdaptError], message: str, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(data.parent)
    with pytest.raises(error, match=message):
        call(*arguments)
    assert sorted(path.name for path in data.parent.iterdir()) == ["words.csv"]
