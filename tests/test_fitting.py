"""What fitting takes, and the folder that it makes."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import tiny
from fit_helpers import QUICK, TEXTS, fitted, leftovers, write
from safetensors import SafetensorError

import adapt
from adapt.adapted import assemble
from adapt.comparison.given import strategies_of
from adapt.environment import _code
from adapt.spec import AdaptError, OptionError
from adapt.strategies import SHIPPED_SETTINGS


def test_a_fitted_model_predicts_what_the_loaded_one_does(backbone: Callable[..., Path], tmp_path: Path) -> None:
    made = fitted(backbone("bert"), "single_label")
    assert made.result is not None
    assert made.result.status == "ok"
    assert made.predict(TEXTS) == adapt.load(made.save(tmp_path / "m"), device="cpu").predict(TEXTS)
    assert {path.name for path in (tmp_path / "m").iterdir()} == {
        "README.md", "adapt.json", "result.json", "trainable.safetensors",
    }  # fmt: skip
    assert str(tmp_path) not in (tmp_path / "m" / "result.json").read_text()


def test_what_must_be_said_of_the_data_is_in_the_result(backbone: Callable[..., Path]) -> None:
    data = dataclasses.replace(tiny.classification(24, 8), notes=("2 of 26 train rows left out",))
    made = adapt.fit(backbone("bert"), data, "head", max_steps=1, **QUICK)
    assert made.result is not None
    assert made.result.notes[0] == "2 of 26 train rows left out"


def test_the_model_is_found_from_any_working_folder(
    backbone: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(backbone("bert"), tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    made = adapt.fit("mine", tiny.classification(16, 4), adapt.LoRA(rank=2), max_steps=1, **QUICK)
    made.save("saved")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert adapt.load("../saved", device="cpu").predict(TEXTS) == made.predict(TEXTS)
    config = json.loads((tmp_path / "saved" / "peft" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(tmp_path / "mine")
    assert adapt.load(made.save("../again"), device="cpu").predict(TEXTS) == made.predict(TEXTS)

    (tmp_path / "mine").rename(tmp_path / "moved")
    with pytest.raises(AdaptError, match="mine does not exist"):
        made.merge("../merged")
    shutil.copytree(backbone("bert", seed=1), tmp_path / "mine")
    with pytest.raises(AdaptError, match="Backbone mine is no longer what the model was made on; put that back"):
        made.merge("../merged")
    with pytest.raises(AdaptError, match="Backbone mine is no longer what the model was made on"):
        adapt.representations(made, TEXTS, precision="bf16")
    shutil.rmtree(tmp_path / "mine")
    with pytest.raises(AdaptError, match=r"in \.\./saved does not find .*mine does not exist.*where it is with"):
        adapt.load("../saved", device="cpu")
    assert adapt.load("../saved", backbone="../moved", device="cpu").predict(TEXTS) == made.predict(TEXTS)
    with pytest.raises(AdaptError, match=r"is not the one that the model in \.\./saved was trained on"):
        adapt.load("../saved", backbone=backbone("bert", seed=1), device="cpu")


def test_fitting_into_a_folder_replaces_what_is_there(backbone: Callable[..., Path], tmp_path: Path) -> None:
    data = tiny.classification(16, 4)
    first = adapt.fit(backbone("bert"), data, adapt.LoRA(rank=2), max_steps=1, **QUICK)
    first.save(tmp_path / "m")
    assert leftovers(tmp_path / "m" / "peft") == {"adapter_config.json", "adapter_model.safetensors"}
    (tmp_path / "m" / "notes.txt").write_text("mine")
    second = adapt.fit(backbone("bert"), data, adapt.Full(), max_steps=1, **QUICK)
    second.save(tmp_path / "m")
    ours = {"README.md", "adapt.json", "result.json", "trainable.safetensors"}
    assert leftovers(tmp_path / "m") == {*ours, "peft", "notes.txt"}
    assert leftovers(tmp_path / "m" / "peft") == set()  # another strategy's adapter is not left to be taken for ours
    assert "`peft`" not in (tmp_path / "m" / "README.md").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "m" / "result.json").read_text())["strategy"] == "full"
    loaded = adapt.load(tmp_path / "m", device="cpu")
    assert loaded.run.strategy == adapt.Full()
    assert loaded.predict(TEXTS) == second.predict(TEXTS)
    for name in ("m", "n"):  # what a model cost is saved with it again
        loaded.save(tmp_path / name)
        assert json.loads((tmp_path / name / "result.json").read_text())["strategy"] == "full"
    assert adapt.load(tmp_path / "m", device="cpu").predict(TEXTS) == second.predict(TEXTS)


def test_the_adapter_for_peft_is_written_as_the_rest_is(
    backbone: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = adapt.fit(backbone("bert"), tiny.classification(16, 8), adapt.LoRA(rank=2), max_steps=1, **QUICK)
    folder = made.save(tmp_path / "m")
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {"adapter_config.json", "adapter_model.safetensors"} < {path.name for path in files}
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in files)
    whole = safetensors.torch.save_file

    def full(state: Any, file: Path, **options: Any) -> None:
        if file.name == "adapter_model.safetensors":
            raise SafetensorError("I/O error: No space left on device (os error 28)")
        whole(state, file, **options)

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(OptionError, match=r"adapter_model\.safetensors cannot be written \(.*No space left"):
        made.save(tmp_path / "full")


def test_a_strategy_given_by_name_has_the_rate_that_suits_a_shipped_backbone() -> None:
    for strategy in ("lora", "prefix"):
        spec, _, _ = assemble("tiny-encoder", tiny.classification(8, 2), strategy)
        (same,) = strategies_of(strategy, {}, SHIPPED_SETTINGS["sequence_classification"])
        assert spec.strategy == same
    assert assemble("tiny-encoder", tiny.classification(8, 2), adapt.Prefix())[0].strategy == adapt.Prefix()


def test_the_columns_of_training_are_those_of_prediction(backbone: Callable[..., Path], tmp_path: Path) -> None:
    """Found by a usual name in training, `title` is not left for a name that is likelier still."""
    rows = [{"title": text, "label": i % 2} for i, text in enumerate([*tiny.GOOD[:4], *tiny.BAD[:4]] * 5)]
    model = adapt.fit(backbone("bert"), adapt.data.load(rows), "head", epochs=1, device="cpu", precision="fp32")
    model.save(tmp_path / "m")
    new = [{"title": row["title"], "description": "word1"} for row in rows]
    expected = model.predict([row["title"] for row in rows])
    for one in (model, adapt.load(tmp_path / "m", device="cpu")):
        assert one.predict(new) == expected
        assert one.predict([{"TITLE": row["title"], "description": "word1"} for row in rows]) == expected
        assert one.predict([{"text": row["title"]} for row in rows]) == expected  # where it is called otherwise
    named = adapt.data.load(
        [{"Text": "x", "Summary": row["title"], "label": row["label"]} for row in rows], text="summary"
    )
    model = adapt.fit(backbone("bert"), named, "head", epochs=1, device="cpu", precision="fp32")
    both = [{"Text": "x", "Summary": row["title"]} for row in rows]
    assert model.predict(both) == model.predict([row["title"] for row in rows])


def test_a_file_whose_name_is_not_utf8_gives_a_model(backbone: Callable[..., Path], tmp_path: Path) -> None:
    file = tmp_path / os.fsdecode(b"caf\xe9.csv")
    try:
        write(file, [[text, str(i % 2)] for i, text in enumerate(TEXTS * 4)], columns=("text", "label"))
    except OSError:
        pytest.skip("this file system has no such names")
    model = adapt.fit(backbone("bert"), adapt.data.load(file), "head", epochs=1, device="cpu", precision="fp32")
    model.save(tmp_path / "m")
    assert json.loads((tmp_path / "m" / "result.json").read_text())["task"] == "caf?"
    shutil.copytree(backbone("bert"), tmp_path / os.fsdecode(b"b\xe9rt"))
    with pytest.raises(OptionError, match="has a name that is not UTF-8; rename it"):
        adapt.fit(tmp_path / os.fsdecode(b"b\xe9rt"), adapt.data.load(file), "head", device="cpu")


def test_options_of_the_data_are_told_from_those_of_training() -> None:
    for name in ("name", "label", "test"):
        with pytest.raises(OptionError, match=rf"'{name}' is an option of adapt\.data\.load; give what that returns"):
            adapt.fit("tiny-encoder", tiny.classification(), **{name: "regression"})


def test_a_rate_for_all_and_one_of_its_own_are_too_many() -> None:
    with pytest.raises(
        OptionError, match=r"learning_rate is 0\.01 for all .*, and lora\.learning_rate is 0\.001; give"
    ):
        adapt.fit("tiny-encoder", tiny.classification(), adapt.LoRA(learning_rate=1e-3), learning_rate=1e-2)


def test_the_code_of_a_run_is_that_of_its_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "environment.py").write_text("")
    monkeypatch.setattr("adapt.environment.__file__", str(tmp_path / "environment.py"))
    before = _code()
    (tmp_path / ".#run.py").symlink_to("somebody@somewhere.1234")  # an editor's, of a file that is not saved yet
    (tmp_path / "gone.py").symlink_to("nothing")
    assert _code() != before
    (tmp_path / "gone.py").unlink()
    assert _code() == before
    asked: list[str] = []
    monkeypatch.setattr("adapt.run.code_state", lambda: asked.append("code") or {"commit": None, "code": "c"})
    monkeypatch.setattr("adapt.run.Loader", lambda *given: asked.append("loaded") or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        adapt.fit("tiny-encoder", tiny.classification(), "head", device="cpu")
    assert asked == ["code", "loaded"]
