"""A student learns what its teacher says: whole runs, and what is said of them."""

from __future__ import annotations

import dataclasses
import json
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
from comparison_helpers import contents, result_of, run_of
from distillation_helpers import OPTIONS, QUICK, SHORT, begun
from tiny_tasks import TASKS
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

import adapt
import adapt.distillation.teaching
import adapt.training
from adapt.adapted import Adapted, load_model
from adapt.backbones import Loader, resolve
from adapt.data import Data, load
from adapt.distillation import Lessons
from adapt.distillation.language import Tokens
from adapt.memory import measure
from adapt.memory.foresee import foresee
from adapt.memory.planner import Planner, setting_of
from adapt.memory.step import made_up
from adapt.memory.tracker import held_bytes
from adapt.run import run_from
from adapt.spec import DataError, Teacher
from adapt.tables.table import table_of


@pytest.mark.parametrize("strategy", tiny.STRATEGIES)
def test_every_strategy_comes_nearer_to_the_teacher(
    strategy: str, teachers: Callable[[str], Adapted], backbone: Callable[..., Path]
) -> None:
    """Labels of no use (weight 1), another architecture as the teacher: what is learnt is the teacher's."""
    teacher, data = teachers("single_label"), TASKS["single_label"]()
    student = adapt.distill(
        teacher, backbone("electra"), data, tiny.STRATEGIES[strategy], weight=1.0, epochs=6, **QUICK
    )
    assert student.result is not None
    losses = [point["loss"] for point in student.result.curve]
    assert losses[-1] < 0.8 * losses[0]


def test_a_student_is_a_model_like_any_other(
    teachers: Callable[[str], Adapted], backbone: Callable[..., Path], tmp_path: Path
) -> None:
    teacher, data = teachers("single_label"), TASKS["single_label"]()
    before = [p.clone() for p in teacher.fitted.model.parameters()]
    notes = list(teacher.fitted.kind.notes)
    made = [adapt.distill(teacher, backbone("electra"), data, "lora", temperature=3, **SHORT) for _ in range(2)]
    assert made[0].result is not None
    assert made[0].run.teacher == Teacher("bert-2-0 full", made[0].run.teacher.sha256, 3.0, 0.5)  # type: ignore[union-attr]
    assert all(a.equal(b) for a, b in zip(before, teacher.fitted.model.parameters(), strict=True))
    assert teacher.fitted.kind.notes == notes
    texts = [row["text"] for row in data.splits["test"]]
    assert made[0].predict(texts) == made[1].predict(texts)
    made[0].save(tmp_path / "student")
    loaded = adapt.load(tmp_path / "student", device="cpu")
    assert loaded.predict(texts) == made[0].predict(texts)
    assert loaded.run == made[0].run
    content = made[0].result.to_json()
    assert run_from(content["spec"]) == made[0].run
    plain = dataclasses.replace(made[0].run, teacher=None)
    assert plain.key() != made[0].run.key()
    assert "teacher" not in plain.spec()


def test_a_saved_teacher_says_the_same(
    teachers: Callable[[str], Adapted], backbone: Callable[..., Path], tmp_path: Path
) -> None:
    teacher, data = teachers("single_label"), TASKS["single_label"]()
    folder = teacher.save(tmp_path / "teacher")
    made = [adapt.distill(t, backbone("electra"), data, "head", **SHORT) for t in (teacher, folder, str(folder))]
    assert made[0].run == made[1].run == made[2].run
    results = [student.result.scores for student in made if student.result is not None]
    assert results[0] == results[1] == results[2]


def test_a_loaded_teacher_is_let_go_of_before_the_student_is_trained(
    teachers: Callable[[str], Adapted], backbone: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, loaded, held = teachers("single_label").save(tmp_path / "teacher"), [], []

    def load(*given: Any, **more: Any) -> Adapted:
        found = load_model(*given, **more)
        loaded.append(weakref.ref(found.fitted.model))
        return found

    monkeypatch.setattr(adapt.distillation.teaching, "load_model", load)
    asked: list[tuple[int, int]] = []
    adapt.distill(
        folder, backbone("electra"), TASKS["single_label"](), "head", unlabelled=["word1 word2"],
        on_step=lambda *_: held.append([model() for model in loaded]), on_asked=lambda *of: asked.append(of), **SHORT,
    )  # fmt: skip
    assert [asked[0], asked[-1]] == [(0, 1), (48, 48)]
    assert held
    assert all(models == [None] for models in held)


@pytest.mark.parametrize("larger", ["teacher", "student"])
def test_a_token_that_one_of_two_language_models_lacks_is_not_compared(
    larger: str, backbone: Callable[..., Path], tmp_path: Path
) -> None:
    """As where a padding token was added to the tokenizer and to the words of one model alone."""
    data, folders = TASKS["completion"](), {}
    for name in ("teacher", "student"):
        folders[name] = Path(shutil.copytree(backbone("gpt2"), tmp_path / name))
        tokenizer = AutoTokenizer.from_pretrained(folders[name])
        tokenizer.add_tokens("[MORE]")
        tokenizer.save_pretrained(folders[name])
        if name == larger:
            model = AutoModelForCausalLM.from_pretrained(folders[name])
            model.resize_token_embeddings(len(tokenizer))
            model.save_pretrained(folders[name])
    choices = {**SHORT, **OPTIONS["completion"]}
    teacher = adapt.fit(folders["teacher"], data, "untrained", **choices)
    result = adapt.distill(teacher, folders["student"], data, "lora", weight=1.0, **choices).result
    assert result is not None
    assert result.curve[0]["loss"] < 1e-2  # the same model, but for the token


@pytest.mark.parametrize("task", ["completion", "masked"])
def test_a_token_that_the_teacher_has_no_embedding_for_is_found_before_training(
    task: str, backbone: Callable[..., Path], tmp_path: Path
) -> None:
    """Torch would end in an index error; in masked LM at the step in which it is drawn."""
    architecture, loads = ("gpt2", AutoModelForCausalLM) if task == "completion" else ("bert", AutoModelForMaskedLM)
    folders = {}
    for name in ("teacher", "student"):
        folders[name] = Path(shutil.copytree(backbone(architecture, masked=task == "masked"), tmp_path / name))
        tokenizer = AutoTokenizer.from_pretrained(folders[name])
        tokenizer.add_tokens(["[MORE]"])
        tokenizer.save_pretrained(folders[name])
    model = loads.from_pretrained(folders["student"])
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(folders["student"])
    choices = {**SHORT, **OPTIONS.get(task, {})}
    teacher = adapt.fit(folders["teacher"], TASKS[task](), "untrained", **choices)
    column = "prompt" if task == "completion" else "text"
    rows = TASKS[task]().splits["train"].to_list()
    said = adapt.data.load([{**row, column: f"[MORE] {row[column]}"} for row in rows], kind=TASKS[task]().kind)
    with pytest.raises(DataError, match=r"its token '\[MORE\]' has no embedding, of which the teacher has \d+; give"):
        adapt.distill(teacher, folders["student"], said, "lora", **choices)
    if task == "masked":
        student = adapt.distill(teacher, folders["student"], TASKS[task](), "lora", **choices)
        assert student.fitted.kind._masking.embeddings == len(tokenizer) - 1


def test_a_teacher_in_bfloat16_teaches_a_student_in_float32(backbone: Callable[..., Path]) -> None:
    data = TASKS["completion"]()
    teacher = adapt.fit(
        backbone("gpt2"), data, tiny.STRATEGIES["lora"], **{**SHORT, "precision": "bf16"}, **OPTIONS["completion"]
    )
    student = adapt.distill(teacher, backbone("gpt2"), data, "lora", **SHORT, **OPTIONS["completion"])
    assert student.result is not None
    assert student.result.scores["test"]["perplexity"] > 0


# --- what is said of it ---


def test_the_memory_of_training_holds_a_language_models_teacher(backbone: Callable[..., Path]) -> None:
    data = TASKS["completion"]()
    choices = {**SHORT, **OPTIONS["completion"], "max_length": 48}
    teacher = adapt.fit(backbone("gpt2", 5), data, "lora", **choices)
    alone = adapt.fit(backbone("gpt2", 1), data, "lora", **choices).result
    taught_ = adapt.distill(teacher, backbone("gpt2", 1), data, "lora", **choices).result
    assert alone is not None
    assert taught_ is not None
    held = sum({p.data_ptr(): p.nbytes for p in teacher.fitted.model.parameters()}.values())
    held += sum(b.nbytes for b in teacher.fitted.model.buffers())
    assert taught_.memory["weights"] - alone.memory["weights"] == held
    (note,) = (note for note in taught_.notes if "ran beside" in note)
    assert note.endswith("are part of the memory shown")


def test_a_plan_knows_what_a_teacher_holds_that_runs_beside() -> None:
    """To the byte."""
    setting = setting_of("tiny-decoder", "lora", kind="causal_lm", device="cpu")
    load = Loader(resolve("tiny-decoder"), setting.task, setting.budget, 0)
    step, alone = made_up(load, setting.strategy, 4, 32), Planner(setting).memory(4, 32)
    model = tiny.STRATEGIES["prefix"].build(load, setting.task).eval()
    lesson = Tokens(step.lesson, step.lesson, model, setting.budget.precision, len(load.tokenizer()), 2.0, 0.5)
    found = measure(dataclasses.replace(step, lesson=lesson))
    assert Planner(dataclasses.replace(setting, lesson=lesson)).memory(4, 32) == found
    assert found.peak > alone.peak + held_bytes([model])


def test_it_is_said_beforehand_where_a_teacher_has_no_room(
    teachers: Callable[[str], Adapted], backbone: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, source, teaching = begun(teachers("completion"), backbone("gpt2"), TASKS["completion"]())
    encoded = teaching.lessons([run], source).encode(run, teaching.data, source)
    assert encoded.lesson is not None
    monkeypatch.setattr("adapt.memory.foresee.free_memory", lambda device: 2**20)
    told = [foresee(run, source, encoded.splits["train"], lesson) or "" for lesson in (encoded.lesson(), encoded.kind)]
    sizes = [float(said.split(" MiB with")[0].rpartition(" ")[2]) for said in told]
    assert told[0].startswith("full and its teacher need about ")
    assert told[1].startswith("full needs about ")
    assert sizes[0] > sizes[1]


def test_texts_that_a_teacher_does_not_read_whole_are_told(
    teachers: Callable[[str], Adapted], backbone: Callable[..., Path]
) -> None:
    data = TASKS["single_label"]()
    teacher = adapt.fit(backbone("bert"), data, "head", **SHORT, max_length=5)
    texts = ["word1 word2 word3 word4 word5", "word1"]
    student = adapt.distill(teacher, backbone("bert"), data, "head", **SHORT, unlabelled=texts)
    assert student.result is not None
    told = [note for note in student.result.notes if note.startswith("the teacher: ")]
    assert "the teacher: 1 texts of the rows without labels were cut to 5 tokens" in told
    (other,) = set(told) - {"the teacher: 1 texts of the rows without labels were cut to 5 tokens"}
    assert other.endswith(" texts of the train split were cut to 5 tokens")


def test_a_teacher_of_the_same_rows_in_other_splits_is_told_of(backbone: Callable[..., Path], tmp_path: Path) -> None:
    """Also by lessons that were written for other processes."""
    texts, labels = [f"word{i} word{i % 7}" for i in range(60)], ["good", "bad"] * 30

    def cut(seed: int, name: str = "words", rows: int = 60) -> Data:
        return load((texts[:rows], labels[:rows]), name=name, seed=seed)

    teacher = adapt.fit(backbone("bert"), cut(0), "head", **SHORT)
    said = {}
    for key, data in {"other": cut(1), "same": cut(0), "name": cut(1, "ours"), "rows": cut(1, rows=40)}.items():
        run, source, teaching = begun(teacher, backbone("bert"), data)
        lessons = teaching.lessons([run], source)
        lessons.save(tmp_path / key)
        for each in (lessons, Lessons.load(tmp_path / key)):
            said[key] = each.encode(run, data, source).kind.notes
            assert any("the teacher was trained on " in note for note in said[key]) == (key != "same")
    known = set(cut(0).splits["train"]["text"])
    told = [note for note in said["other"] if "the tokenizer does not know" not in note]
    for split, note in zip(("validation", "test"), told, strict=True):
        held_out = list(cut(1).splits[split]["text"])
        n = sum(text in known for text in held_out)
        assert note == (
            f"the teacher was trained on {n} of the {len(held_out)} rows of {split} ({n / len(held_out):.0%}): "
            "scores on these are not those of new rows"
        )


def test_teachers_of_one_name_are_one_row() -> None:
    """Each seed has a teacher of its own; two of one seed are told apart."""

    def content(seed: int, digest: str, rows: int) -> dict[str, Any]:
        teacher = Teacher("big lora", digest * 64, unlabelled_rows=rows, unlabelled_sha256=digest * 64)
        return json.loads(json.dumps(result_of(dataclasses.replace(run_of("full", seed), teacher=teacher)).to_json()))

    (row,) = table_of([content(0, "a", 1200), content(1, "b", 1201)]).rows
    assert (row.strategy, len(row.scores)) == ("full, taught by big lora (on rows that it labelled, too)", 2)
    assert row.score is not None
    assert row.score.low is not None
    rows = table_of([content(0, "a", 1200), content(0, "b", 1200), content(1, "a", 1200)]).rows
    assert [(row.strategy.split(", content ")[1], sorted(row.scores)) for row in rows] == [
        ("aaaaaaaaaaaa", [0, 1]), ("bbbbbbbbbbbb", [0]),
    ]  # fmt: skip


# --- the table ---


def test_a_table_has_a_row_for_each_teacher() -> None:
    teacher = Teacher("big lora", "0" * 64)
    how = [None, teacher, dataclasses.replace(teacher, temperature=4.0, unlabelled_rows=1200)]
    runs = [dataclasses.replace(run_of("full", seed), teacher=t) for t in how for seed in (0, 1)]
    table = table_of(contents(result_of(run, 0.7 + 0.1 * (run.teacher is not None)) for run in runs))
    assert len(table.sections) == 1
    assert [row.strategy for row in table.rows] == [
        "full",
        "full, taught by big lora",
        "full, taught by big lora (temperature 4, on rows that it labelled, too)",
    ]
    taught = '"full, taught by big lora"'
    more = '"full, taught by big lora (temperature 4, on rows that it labelled, too)"'
    assert f"each strategy's own learning rate (full 0.0001, {taught} 0.0001, {more} 0.0001)." in table.markdown()
    assert f"train time: {taught}, {more}; each other row" in table.markdown()
    assert table.rows[0].difference is None
    gains = [row.difference.interval.mean for row in table.rows[1:] if row.difference is not None]
    assert gains == pytest.approx([0.1, 0.1])


def test_where_all_are_students_differences_are_to_full_fine_tuning_as_a_student() -> None:
    runs = [dataclasses.replace(run_of(name), teacher=Teacher("big", "0" * 64)) for name in ("full", "lora")]
    full, lora = table_of(contents(result_of(run, 0.7 + 0.1 * (run is runs[1])) for run in runs)).rows
    assert full.difference is None
    assert lora.difference is not None
    assert lora.difference.interval.mean == pytest.approx(0.1)
