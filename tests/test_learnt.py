"""What a model was trained on is known to it, and said where it is scored on it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from comparison_helpers import in_this_process
from fit_helpers import QUICK

import adapt
from adapt.adapted import MODEL_FILE, Adapted
from adapt.comparison import grid
from adapt.data import Data, learnt, load
from adapt.data.canonical import dataset_of
from adapt.data.learnt import Learnt
from adapt.spec import AdaptError

TEXTS = [f"word{i} word{i % 7}" for i in range(100)]
LABELS = ["good", "bad"] * 50


def cut(rows: int, seed: int = 0, **choices: Any) -> Data:
    return load((TEXTS[:rows], LABELS[:rows]), name="words", seed=seed, **choices)


def overlap(one: Data, other: Data, split: str = "test") -> str:
    """What is to be said of rows of the other that the one trains on."""
    mine, theirs = set(one.splits["train"]["text"]), list(other.splits[split]["text"])
    n = sum(text in mine for text in theirs)
    assert n
    return f"{n} of {len(theirs)} rows of {split} are among those that"


def said(notes: Any) -> list[str]:
    return [note for note in notes if "was trained on (" in note]


@pytest.fixture(scope="module")
def model(backbone: Callable[..., Path]) -> Adapted:
    return adapt.fit(backbone("bert"), cut(60), "head", epochs=1, **QUICK)


@pytest.mark.parametrize("saved", [False, True])
def test_a_start_that_was_trained_on_held_out_rows_is_told_of(model: Adapted, tmp_path: Path, saved: bool) -> None:
    start = model.save(tmp_path / "start") if saved else model
    more = adapt.fit(None, cut(100), start=start, epochs=1, **QUICK)
    assert more.result is not None
    found = said(more.result.notes)
    assert [note.partition(" the model for words that training began with")[0] for note in found] == [
        overlap(cut(60), cut(100), split) for split in ("validation", "test")
    ]
    assert "(" in found[0]
    again = adapt.fit(None, cut(60), start=start, epochs=1, **QUICK)
    assert again.result is not None
    assert not said(again.result.notes)
    own = set(cut(60).splits["train"]["text"]) | set(cut(100).splits["train"]["text"])
    assert more.learnt == Learnt.of(dataset_of({"text": list(own)})), "those of the start are among them"


def test_comparisons_say_so_of_rows_that_went_on(
    model: Adapted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grid, "execute", in_this_process)
    done = adapt.compare(None, cut(60, 1), "head", start=model, seeds=1, epochs=1, out=tmp_path / "out", **QUICK)
    notes = {"start" in result["spec"]: said(result["notes"]) for result in done.results}
    assert notes[False] == []
    assert notes[True][-1].startswith(overlap(cut(60), cut(60, 1)))


def test_scores_say_how_many_rows_are_those_of_training(model: Adapted, tmp_path: Path) -> None:
    every = cut(60, validation=0, test=0).splits["train"].to_pandas()
    every["label"] = every["label"].map({0: "bad", 1: "good"})
    (note,) = said(adapt.score(model, every).notes)
    train = len(cut(60).splits["train"])
    assert note.startswith(f"{train} of 60 rows scored are among those that head on bert-2-0")
    assert said(adapt.score(model.save(tmp_path / "m"), cut(60, 1)).notes)[0].startswith(overlap(cut(60), cut(60, 1)))
    assert not said(adapt.score(model, cut(60)).notes)


def test_a_student_has_learnt_what_its_teacher_has(model: Adapted, backbone: Callable[..., Path]) -> None:
    student = adapt.distill(model, backbone("bert"), cut(100), "head", unlabelled=["new text"], epochs=1, **QUICK)
    assert student.result is not None
    assert [note.partition(" the teacher was")[0] for note in said(student.result.notes)] == [
        overlap(cut(60), cut(100), split) for split in ("validation", "test")
    ]
    assert student.learnt is not None
    assert student.learnt.among(dataset_of({"text": ["new text", *cut(60).splits["train"]["text"]]})) == 1.0


def test_models_that_were_saved_by_earlier_versions_do_not_tell(model: Adapted, tmp_path: Path) -> None:
    """Then the names of the data do."""
    folder = model.save(tmp_path / "old")
    content = json.loads((folder / MODEL_FILE).read_text(encoding="utf-8"))
    del content["learnt"]
    (folder / MODEL_FILE).write_text(json.dumps(content), encoding="utf-8")
    assert adapt.load(folder, device="cpu").learnt is None
    for data, may in ((cut(60, 1), True), (cut(60), False), (replace(cut(60, 1), name="ours"), False)):
        result = adapt.fit(None, data, start=folder, epochs=1, **QUICK).result
        assert result is not None
        assert any("was trained on words as well, but cut into other splits" in note for note in result.notes) == may


@pytest.mark.parametrize("wrong", ["?", "QUJD", 7])
def test_what_it_does_not_tell_rightly_is_damage(model: Adapted, tmp_path: Path, wrong: Any) -> None:
    folder = model.save(tmp_path / "m")
    content = json.loads((folder / MODEL_FILE).read_text(encoding="utf-8"))
    (folder / MODEL_FILE).write_text(json.dumps({**content, "learnt": wrong}), encoding="utf-8")
    with pytest.raises(AdaptError, match="is damaged"):
        adapt.load(folder)


def test_of_many_rows_some_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learnt, "_MOST", 500)
    rows = dataset_of({"text": [f"text {i}" for i in range(4000)]})
    known = Learnt.of(rows.select(range(3000)))
    assert len(known.hashes) == 500
    assert known == Learnt.of(rows.select(range(2000))) | Learnt.of(rows.select(range(1000, 3000)))
    assert known == Learnt.from_text(known.text())
    assert known.among(rows.select(range(2000, 4000))) == pytest.approx(0.5, abs=0.1)
    (note,) = known.told("it", rows.select(range(2000, 4000)), "rows of test")
    assert note.startswith("about ")
    assert known.told("it", rows.select(range(3000, 4000)), "rows of test") == []


def test_labels_ids_and_the_order_of_columns_are_no_matter() -> None:
    pairs = {"text": ["a", "b"], "text_pair": ["c", "d"]}
    one = Learnt.of(dataset_of({**pairs, "label": [0, 1]}, "single_label"))
    assert one == Learnt.of(dataset_of({**dict(reversed(pairs.items())), "label": [1, 1]}, "single_label"))
    assert one != Learnt.of(dataset_of({"text": ["c", "b"], "text_pair": ["a", "d"]}))
