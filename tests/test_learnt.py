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
KIND = "sequence_classification"


def cut(rows: int, seed: int = 0, **choices: Any) -> Data:
    return load((TEXTS[:rows], LABELS[:rows]), name="words", seed=seed, **choices)


def overlap(who: str, one: Data, other: Data, split: str = "test") -> str:
    """What is to be said of rows of the other that the one trains on."""
    mine, theirs = set(one.splits["train"]["text"]), list(other.splits[split]["text"])
    n = sum(text in mine for text in theirs)
    assert n
    return (
        f"{who} was trained on {n} of the {len(theirs)} rows of {split} ({n / len(theirs):.0%}): scores on these are "
        "not those of new rows"
    )


def said(notes: Any) -> list[str]:
    return [note for note in notes if "scores on these are not those of new rows" in note]


START = "the model for words that training began with"


@pytest.fixture(scope="module")
def model(backbone: Callable[..., Path]) -> Adapted:
    return adapt.fit(backbone("bert"), cut(60), "head", epochs=1, **QUICK)


@pytest.mark.parametrize("saved", [False, True])
def test_a_start_that_was_trained_on_held_out_rows_is_told_of(model: Adapted, tmp_path: Path, saved: bool) -> None:
    start = model.save(tmp_path / "start") if saved else model
    more = adapt.fit(None, cut(100), start=start, epochs=1, **QUICK)
    assert more.result is not None
    found = said(more.result.notes)
    assert found == [overlap(START, cut(60), cut(100), split) for split in ("validation", "test")]
    again = adapt.fit(None, cut(60), start=start, epochs=1, **QUICK)
    assert again.result is not None
    assert not said(again.result.notes)
    own = set(cut(60).splits["train"]["text"]) | set(cut(100).splits["train"]["text"])
    assert more.learnt == Learnt.of(dataset_of({"text": list(own)}), KIND), "those of the start are among them"


def test_comparisons_say_so_of_rows_that_went_on(
    model: Adapted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grid, "execute", in_this_process)
    done = adapt.compare(None, cut(60, 1), "head", start=model, seeds=1, epochs=1, out=tmp_path / "out", **QUICK)
    notes = {"start" in result["spec"]: said(result["notes"]) for result in done.results}
    assert notes[False] == []
    assert notes[True][-1] == overlap(START, cut(60), cut(60, 1))


def test_scores_say_how_many_rows_are_those_of_training(model: Adapted, tmp_path: Path) -> None:
    every = cut(60, validation=0, test=0).splits["train"].to_pandas()
    every["label"] = every["label"].map({0: "bad", 1: "good"})
    (note,) = said(adapt.score(model, every).notes)
    assert note.startswith("head on bert-2-0 was trained on 48 of the 60 rows scored (80%): ")
    notes = adapt.score(model.save(tmp_path / "m"), cut(60, 1)).notes
    assert said(notes) == [overlap("m", cut(60), cut(60, 1))]
    assert not said(adapt.score(model, cut(60)).notes)


def test_a_student_has_learnt_what_its_teacher_has(model: Adapted, backbone: Callable[..., Path]) -> None:
    student = adapt.distill(model, backbone("bert"), cut(100), "head", unlabelled=["new text"], epochs=1, **QUICK)
    assert student.result is not None
    told = [overlap("the teacher", cut(60), cut(100), split) for split in ("validation", "test")]
    assert said(student.result.notes) == told
    assert student.learnt is not None
    assert student.learnt.among(dataset_of({"text": ["new text", *cut(60).splits["train"]["text"]]}), KIND) == (49, 49)


def test_texts_that_were_read_for_another_kind_of_task_are_new(backbone: Callable[..., Path]) -> None:
    """Further pretraining on unlabelled texts is no training on their labels."""
    texts = load(TEXTS[:60], kind="masked_lm", validation=0, test=0)
    first = adapt.fit(backbone("bert"), texts, "lora", epochs=1, **QUICK)
    model = adapt.fit(None, cut(60), start=first, epochs=1, **QUICK)
    assert model.result is not None
    assert not said([*model.result.notes, *adapt.score(model, cut(60)).notes])
    assert len(said(adapt.score(model, cut(60), split="train").notes)) == 1


def test_models_that_were_saved_by_earlier_versions_do_not_tell(model: Adapted, tmp_path: Path) -> None:
    """Then the names of the data do."""
    folder = model.save(tmp_path / "old")
    content = json.loads((folder / MODEL_FILE).read_text(encoding="utf-8"))
    del content["learnt"]
    (folder / MODEL_FILE).write_text(json.dumps(content), encoding="utf-8")
    assert adapt.load(folder, device="cpu").learnt is None
    assert adapt.fit(None, cut(60), start=folder, epochs=1, **QUICK).learnt is None, "nor what goes on from them"
    for data, may in ((cut(60, 1), True), (cut(60), False), (replace(cut(60, 1), name="ours"), False)):
        result = adapt.fit(None, data, start=folder, epochs=1, **QUICK).result
        assert result is not None
        assert any("was trained on words as well, but cut into other splits" in note for note in result.notes) == may


@pytest.mark.parametrize(
    "wrong", [7, {"hashes": "?", "every": True}, {"hashes": "QUJD", "every": True}, {"hashes": "", "every": False}, {}]
)
def test_what_it_does_not_tell_rightly_is_damage(model: Adapted, tmp_path: Path, wrong: Any) -> None:
    folder = model.save(tmp_path / "m")
    content = json.loads((folder / MODEL_FILE).read_text(encoding="utf-8"))
    (folder / MODEL_FILE).write_text(json.dumps({**content, "learnt": wrong}), encoding="utf-8")
    with pytest.raises(AdaptError, match="is damaged"):
        adapt.load(folder)


def test_of_many_rows_some_are_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learnt, "_MOST", 500)
    rows = dataset_of({"text": [f"text {i}" for i in range(4000)]})
    known = Learnt.of(rows.select(range(3000)), KIND)
    assert (len(known.hashes), known.every) == (500, False)
    assert known == Learnt.of(rows.select(range(2000)), KIND) | Learnt.of(rows.select(range(1000, 3000)), KIND)
    assert known == Learnt.from_content(known.content())
    n, of = known.among(rows.select(range(2000, 4000)), KIND)
    assert n / of == pytest.approx(0.5, abs=0.1)
    (note,) = known.told("it", rows.select(range(2000, 4000)), KIND, "rows of test")
    assert note.startswith(f"it was trained on {n} of {of} rows of test that were looked up, of 2,000 ({n / of:.0%}): ")
    assert known.told("it", rows.select(range(3000, 4000)), KIND, "rows of test") == []
    some = Learnt.of(rows.select(range(500)), KIND)
    assert some.every
    assert some.among(rows.select(range(400, 600)), KIND) == (100, 200)


def test_labels_ids_and_the_order_of_columns_are_no_matter() -> None:
    pairs = {"text": ["a", "b"], "text_pair": ["c", "d"]}
    one = Learnt.of(dataset_of({**pairs, "label": [0, 1]}, "single_label"), KIND)
    assert one == Learnt.of(dataset_of({**dict(reversed(pairs.items())), "label": [1, 1]}, "single_label"), KIND)
    assert one != Learnt.of(dataset_of({"text": ["c", "b"], "text_pair": ["a", "d"]}), KIND)
    assert one != Learnt.of(dataset_of(pairs), "masked_lm")


def test_a_model_that_trains_nothing_has_learnt_nothing(backbone: Callable[..., Path], tmp_path: Path) -> None:
    plain = adapt.fit(backbone("bert"), cut(60), "untrained", **QUICK)
    rows = [{"text": text, "label": label} for text, label in zip(TEXTS[:60], LABELS[:60], strict=True)]
    for model in (plain, adapt.load(plain.save(tmp_path / "plain"))):
        assert model.learnt == Learnt(frozenset(), True)
        assert not said(adapt.score(model, rows).notes)


@pytest.mark.parametrize("role", ["teacher", "start"])
def test_labels_beyond_the_sample_of_a_run_are_told_of(backbone: Callable[..., Path], role: str) -> None:
    """Which a teacher or a start brings that was trained on others, as where a seed draws another sample."""
    data, choices = cut(100), {"epochs": 1, "max_train": 20, **QUICK}
    first = adapt.fit(backbone("bert"), data, "head", **choices)
    told = {}
    for seed in (0, 1):
        if role == "teacher":
            model = adapt.distill(first, backbone("bert"), data, "head", seed=seed, **choices)
        else:
            model = adapt.fit(None, data, start=first, seed=seed, **choices)
        assert model.result is not None
        told[seed] = [note for note in model.result.notes if "the sample of a run leaves out" in note]
    who = "the teacher" if role == "teacher" else START
    assert told == {0: [], 1: [f"{who} has learnt from training rows that the sample of a run leaves out, so that it "
                               "brings more labels"]}  # fmt: skip
