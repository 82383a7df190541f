"""A comparison whose runs are all students of one teacher."""

from __future__ import annotations

import dataclasses
import io
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from comparison_helpers import by_job_files, in_this_process, run_of
from distillation_helpers import OPTIONS, SHORT, begun
from tiny_tasks import TASKS
from tokenizers.normalizers import Replace

import adapt
import adapt.distillation.teaching
import adapt.training
from adapt.adapted import Adapted
from adapt.comparison import grid, runner
from adapt.comparison.jobs import Todo
from adapt.comparison.progress import Progress
from adapt.data import folds, load
from adapt.distillation import Lessons
from adapt.spec import AdaptError, DataError, OptionError
from adapt.training import predict

STRATEGIES = [adapt.Head(learning_rate=3e-2), adapt.LoRA(learning_rate=1e-2, rank=2)]


def decided(content: dict[str, Any]) -> dict[str, Any]:
    """What a run decides, without what the clock says."""
    return {
        "losses": [point["loss"] for point in content["curve"]],
        **{name: content[name] for name in ("key", "status", "scores", "params", "test_outcomes", "forgetting")},
        "weights": content["memory"]["breakdown"]["weights"],
        "notes": content["notes"],
    }


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows a model was asked about in this process, time after time."""
    numbers: list[int] = []

    def counted(model: Any, kind: Any, examples: Any, budget: Any, **more: Any) -> Any:
        numbers.append(len(examples))
        return predict(model, kind, examples, budget, **more)

    monkeypatch.setattr(adapt.training, "predict", counted)
    return numbers


def test_the_chosen_student_is_made_again_with_its_teacher(
    teachers: Callable[[str], Adapted], backbone: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grid, "execute", in_this_process)
    data, teacher, texts = TASKS["single_label"](), teachers("single_label"), ["word1 word2", "cold"]
    given: dict[str, Any] = {"unlabelled": texts, "device": "cpu"}
    done = adapt.compare(
        backbone("electra"), data, "head", seeds=[4], teacher=teacher, temperature=3, weight=0.7, out=tmp_path,
        **given, **{name: value for name, value in SHORT.items() if name not in given},
    )  # fmt: skip
    student = adapt.distill(teacher, backbone("electra"), data, unlabelled=texts, progress=False, **done.chosen())
    assert student.result is not None
    assert student.result.run.key() == done.results[0]["key"]
    assert dict(student.result.scores["test"]) == done.results[0]["scores"]["test"]


def test_each_run_is_what_distill_gives_and_the_teacher_is_asked_once(
    teachers: Callable[[str], Adapted], backbone: Callable[..., Path], tmp_path: Path, asked: list[int],
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Where runs find its answers, and general texts, in files; that these are written is not shown."""
    data, folder = TASKS["single_label"](), teachers("single_label").save(tmp_path / "teacher")
    (tmp_path / "news.txt").write_text("word1 word2 word3\nword4 word5 word6\n")
    how: dict[str, Any] = {"unlabelled": list(data.splits["test"]["text"]), "temperature": 3, "weight": 0.25}
    how["general"] = tmp_path / "news.txt"
    given = {"backbone": backbone("gpt2"), "data": data, "strategies": STRATEGIES, "seeds": 2}
    given |= {"out": tmp_path / "out", "teacher": folder, **SHORT, **how}
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(grid, "execute", by_job_files)
    events: list[runner.Event] = []
    asked_before: list[int] = []

    def on_event(event: runner.Event) -> None:
        if "started" not in [each.what for each in events]:
            asked_before[:] = asked
        events.append(event)

    del asked[:]
    done = adapt.compare(**given, on_event=on_event)
    assert "Saving" not in capfd.readouterr().err
    told = [(event.done, event.total) for event in events if event.what == "asked"]
    for number in (len(how["unlabelled"]), len(data.splits["train"])):  # up to 64 rows at a time
        expected = [(0, number), *((rows, number) for rows in range(64, number, 64)), (number, number)]
        told, said = told[len(expected) :], told[: len(expected)]
        assert said == expected
    assert not told
    assert [event.what for event in events].index("started") > len(said)
    assert asked_before == [len(how["unlabelled"]), len(data.splits["train"])]
    assert [(r["strategy"], r["seed"], r["status"]) for r in done.results] == [
        (strategy, seed, "ok") for seed in (0, 1) for strategy in ("head", "lora")
    ]
    alone = adapt.distill(folder, backbone("gpt2"), data, STRATEGIES[1], seed=1, **SHORT, **how).result
    assert alone is not None
    assert alone.forgetting["before"] != alone.forgetting["after"]
    assert decided(alone.to_json()) == decided(done.results[3])
    assert [row.strategy for row in done.table.rows][:2] == [
        "head, taught by bert-2-0 full (temperature 3, weight 0.25, on rows that it labelled, too)",
        "lora(rank=2), taught by bert-2-0 full (temperature 3, weight 0.25, on rows that it labelled, too)",
    ]
    monkeypatch.setattr(grid, "execute", runner.execute)
    monkeypatch.setattr(runner, "WORKER", ("/nowhere/python",))
    del asked[:]
    assert adapt.compare(**given).results == done.results
    assert not asked


def test_a_comparison_that_goes_on_finds_what_the_teacher_said(
    teachers: Callable[[str], Adapted], backbone: Callable[..., Path], tmp_path: Path, asked: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Of rows without labels and of those of training; by other code, where its tokenizer makes other tokens of them,
    or where files are damaged, it is asked again."""
    data, folder, found = TASKS["single_label"](), teachers("single_label").save(tmp_path / "teacher"), list[Lessons]()
    monkeypatch.setattr(grid, "execute", lambda todo, *_, **__: found.append(todo.lessons))

    def begin(teacher: Path | Adapted = folder) -> None:
        adapt.compare(
            backbone("electra"), data, STRATEGIES[:1], seeds=1, teacher=teacher, unlabelled=["word1 word2", "cold"],
            out=tmp_path / "out", **SHORT,
        )  # fmt: skip

    del asked[:]
    begin()
    begin()
    once = [2, len(data.splits["train"])]
    assert asked == once
    first, again = found
    assert first.extra is not None
    assert again.extra is not None
    assert again.extra.rows.to_dict() == first.extra.rows.to_dict()
    assert len(first.answers) == 2
    assert again.answers.keys() == first.answers.keys()
    for key, answers in first.answers.items():
        assert again.answers[key].notes == answers.notes
        assert [row.tobytes() for row in again.answers[key].rows] == [row.tobytes() for row in answers.rows]
    for file in (tmp_path / "out" / "answers").iterdir():
        file.write_bytes(file.read_bytes()[:-1])
    begin()
    monkeypatch.setattr("adapt.distillation.said.code_state", lambda: {"code": "another"})
    begin()
    loaded = adapt.load(folder, device="cpu")
    loaded.fitted.tokenizer.backend_tokenizer.normalizer = Replace("o", "a")  # as another version of it may do
    begin(loaded)
    assert asked == once * 4


def test_how_far_a_teacher_was_asked_is_shown() -> None:
    """Questions may have several windows each, so that a batch is less than a row."""
    stream, run = io.StringIO(), run_of()
    with Progress(stream) as progress:
        for done in (0, 0, 1200, 2400):
            progress(runner.Event("asked", run, done, 2400))
        assert progress._teacher is not None
        assert progress._teacher._bar is None
        progress(runner.Event("asked", run, 0, 7))
    assert stream.getvalue().splitlines() == [f"words: the teacher is asked about {n} rows" for n in ("2,400", "7")]


def test_a_language_models_teacher_runs_beside_each_student(
    teachers: Callable[[str], Adapted], backbone: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What learns nothing has no teacher; as many run at a time as the weights of both let."""
    numbers: list[int] = []

    def counted(*given: Any, jobs: int, **options: Any) -> None:
        numbers.append(jobs)
        in_this_process(*given, **options)

    monkeypatch.setattr(grid, "execute", counted)
    monkeypatch.setattr(grid, "cores", lambda: 2)
    monkeypatch.setattr("adapt.comparison.given.STRATEGIES", {"head": adapt.Head})
    teacher, data, choices = teachers("completion"), TASKS["completion"](), {**SHORT, **OPTIONS["completion"]}
    size = (backbone("gpt2", seed=3) / "model.safetensors").stat().st_size
    monkeypatch.setattr(grid, "_SMALL_BYTES", size + 1)
    done = adapt.compare(backbone("gpt2", seed=3), data, "all", seeds=1, teacher=teacher, out=tmp_path, **choices)
    assert numbers == [1]
    alone = adapt.distill(teacher, backbone("gpt2", seed=3), data, "head", **choices).result
    assert alone is not None
    assert any("ran beside the student" in note for note in alone.notes)
    assert [r["strategy"] for r in done.results] == ["head", "untrained"]
    assert decided(done.results[0]) == decided(alone.to_json())
    assert ["teacher" in r["spec"] for r in done.results] == [True, False]


def test_a_language_models_teacher_that_is_another_one_by_now(
    teachers: Callable[[str], Adapted], backbone: Callable[..., Path], tmp_path: Path
) -> None:
    teacher, data = teachers("completion"), TASKS["completion"]()
    run, source, teaching = begun(teacher.save(tmp_path / "teacher"), backbone("gpt2"), data)
    encoded = teaching.lessons([run], source, away=tmp_path).encode(run, data, source)
    assert encoded.lesson is not None
    other = dataclasses.replace(teacher, run=dataclasses.replace(teacher.run, seed=7), result=None)
    other.save(tmp_path / "teacher")
    with pytest.raises(AdaptError, match=r"teacher is no longer the one that this comparison began with"):
        encoded.lesson()


@dataclasses.dataclass(frozen=True)
class Own(adapt.Full):
    """A strategy of a user's own."""


def test_a_language_models_teacher_must_be_one_that_other_processes_can_load(
    teachers: Callable[[str], Adapted], backbone: Callable[..., Path], tmp_path: Path
) -> None:
    teacher = teachers("completion")
    own = dataclasses.replace(teacher, run=dataclasses.replace(teacher.run, strategy=Own()))
    with pytest.raises(OptionError, match=r"a strategy of your own, .* train each student with adapt\.distill"):
        adapt.compare(backbone("gpt2"), TASKS["completion"](), "head", teacher=own, out=tmp_path, **SHORT)


def test_each_sample_of_a_learning_curve_is_asked_about_and_then_the_teacher_is_let_go_of(
    teachers: Callable[[str], Adapted], backbone: Callable[..., Path], tmp_path: Path, asked: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    data, folder = TASKS["single_label"](), teachers("single_label").save(tmp_path / "teacher")
    held: list[weakref.ref[Any]] = []
    learnt: list[int] = []

    def loaded(folder: Path, **options: Any) -> Adapted:
        model = adapt.load(folder, **options)
        held.append(weakref.ref(model.fitted.model))
        return model

    def encoded(todo: Todo, *_: Any, **__: Any) -> None:
        assert [model() for model in held] == [None]
        assert todo.lessons is not None
        for run, rows in todo.runs:
            made = todo.lessons.encode(run, rows, todo.backbone)
            assert made.lesson is not None
            assert made.lesson().collate(made.splits["train"])["teacher"].isfinite().all()
            learnt.append(len(made.splits["train"]))

    monkeypatch.setattr(adapt.distillation.teaching, "load_model", loaded)
    monkeypatch.setattr(grid, "execute", encoded)
    del asked[:]
    adapt.compare(
        backbone("electra"), data, STRATEGIES, seeds=2, teacher=folder, max_train=(8, 12), out=tmp_path / "out", **SHORT
    )
    assert learnt == [8] * 4 + [12] * 4
    assert asked == [8, 8, 12, 12]


def test_too_few_rows_of_a_class_are_found_before_the_teacher_is_asked(
    backbone: Callable[..., Path], tmp_path: Path
) -> None:
    data, teacher = TASKS["single_label"](), tmp_path / "none"
    with pytest.raises(DataError, match="few_shot"):
        adapt.compare(backbone("bert"), data, "head", teacher=teacher, few_shot=99, out=tmp_path)
    with pytest.raises(DataError, match="few_shot"):
        adapt.distill(teacher, backbone("bert"), data, few_shot=99)


def test_what_a_teacher_may_know_of_a_fold_is_not_known(
    teachers: Callable[[str], Adapted], backbone: Callable[..., Path], tmp_path: Path
) -> None:
    parts = folds(load((["word1", "word2"] * 9, ["bad", "good"] * 9), validation=0, test=0), 3)
    with pytest.raises(OptionError, match=r"Folds score every row, .* data with a test split that the teacher has not"):
        adapt.compare(backbone("bert"), parts, "head", teacher=teachers("single_label"), out=tmp_path, **SHORT)
