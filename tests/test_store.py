"""A result file is whole or not there; what is damaged is set aside, and its run done again."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas
import pytest
from comparison_helpers import result_of, run_of, words

from adapt.adapted import start_of
from adapt.backbones import resolve
from adapt.comparison.choice import choose_from
from adapt.comparison.jobs import Job, Todo
from adapt.comparison.store import Store, given_result, read_result
from adapt.environment import code_state, versions
from adapt.files import writable_folder, write_atomically
from adapt.machine import hardware
from adapt.spec import SCHEMA, AdaptError, OptionError, Run
from adapt.tables.table import Table


@pytest.fixture
def run() -> Run:
    return run_of("lora", 1)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "out")


def test_what_is_written_is_read(store: Store, run: Run) -> None:
    path = store.write(result_of(run))
    assert path.name.startswith("words-lora-seed1-")
    content = store.read(run)
    assert content == json.loads(path.read_text())
    assert store.all() == [content]
    assert store.read(run_of("lora", 2)) is None


def test_the_outcomes_of_a_row_are_one_line(store: Store, run: Run) -> None:
    outcomes = [[1, 0], [0.25, [3, 4]], ["é", None]]
    groups = {"of": '"speaker\n', "numbers": [0, 1, 0]}
    reason = '\n "test_outcomes": null\n "test_groups": null'
    result = result_of(run, reason=reason, test_outcomes=outcomes, test_groups=groups)
    text = store.write(result).read_text(encoding="utf-8")
    assert '\n "test_groups": {"of": "\\"speaker\\n", "numbers": [0, 1, 0]},\n' in text
    assert '\n "test_outcomes": [\n  [1, 0],\n  [0.25, [3, 4]],\n  ["é", null]\n ],\n' in text
    assert json.loads(text) == json.loads(json.dumps(result.to_json()))
    assert list(json.loads(text)) == list(result.to_json())
    store.write(result_of(run, test_outcomes=[]))
    content = store.read(run)
    assert content is not None
    assert content["test_outcomes"] == []
    assert "test_groups" not in content


@pytest.mark.parametrize(
    ("status", "stands"),
    [("ok", True), ("unsupported", True), ("diverged", True), ("out_of_memory", False), ("failed", False)],
)
def test_what_may_end_otherwise_next_time_is_done_again(store: Store, run: Run, status: Any, stands: bool) -> None:
    environment = {"versions": versions(), "hardware": hardware("cpu"), "code": code_state()["code"]}
    store.write(result_of(run, status=status, reason="why", environment=environment))
    assert (store.read(run) is not None) == stands
    content = store.read(run, failed=True)
    assert content is not None
    assert (content["status"], content["reason"]) == (status, "why")


@pytest.mark.parametrize(("status", "stands"), [("ok", True), ("unsupported", False), ("diverged", True)])
@pytest.mark.parametrize(
    "other", [{"versions": {**versions(), "bitsandbytes": None}}, {"hardware": "a smaller GPU"}, {"code": "earlier"}]
)
def test_what_other_packages_hardware_or_code_may_do_is_done_again_with_them(
    store: Store, run: Run, status: Any, stands: bool, other: dict[str, Any]
) -> None:
    alike = {"versions": versions(), "hardware": hardware("cpu"), "code": code_state()["code"]}
    store.write(result_of(run, status=status, reason="why", environment={**alike, **other}))
    assert (store.read(run) is not None) == stands


@pytest.mark.parametrize("moment", ["open", "fsync", "replace"])
def test_a_crash_while_writing_leaves_the_old_file(
    store: Store, run: Run, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    path = store.write(result_of(run, 0.25))
    before = path.read_bytes()

    def crash(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    if moment == "open":
        monkeypatch.setattr(Path, "open", crash)
    elif moment == "fsync":
        monkeypatch.setattr(os, "fsync", crash)
    else:
        monkeypatch.setattr(Path, "replace", crash)
    with pytest.raises(KeyboardInterrupt):
        store.write(result_of(run, 0.5))
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert list(store.runs.iterdir()) == [path]


def test_a_first_write_that_crashes_leaves_nothing(store: Store, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OptionError, match="cannot be written: No space left on device"):
        store.write(result_of(run))
    monkeypatch.undo()
    assert list(store.runs.iterdir()) == []
    assert store.read(run) is None


def _change(**changes: Any) -> Any:
    return lambda content: json.dumps({**content, **changes}).encode()


DAMAGE: dict[str, Any] = {
    "cut off": lambda content: json.dumps(content).encode()[:-40],
    "empty": lambda content: b"",
    "zeros": lambda content: b"\0" * 100,
    "not JSON": lambda content: b"<html>",
    "not UTF-8": lambda content: b'{"status": "\xff"}',
    "a list": lambda content: b"[]",
    "a number": lambda content: b"3",
    "null": lambda content: b"null",
    "without scores": lambda content: json.dumps({k: v for k, v in content.items() if k != "scores"}).encode(),
    "without params": lambda content: json.dumps({k: v for k, v in content.items() if k != "params"}).encode(),
    "params null": _change(params=None),
    "memory empty": _change(memory={}),
    "another schema": _change(schema=0),
    "a status of its own": _change(status="fine"),
    "another key": _change(key="0" * 64),
    "another spec": lambda content: json.dumps({**content, "spec": {**content["spec"], "seed": 7}}).encode(),
    "another run's": lambda content: json.dumps(result_of(run_of("lora", 9)).to_json()).encode(),
    "not a number": lambda content: json.dumps({**content, "spec": {**content["spec"], "seed": float("nan")}}).encode(),
    "infinite": lambda content: _change(spec={**content["spec"], "seed": "X"})(content).replace(b'"X"', b"1e999"),
    "half of a surrogate pair": lambda content: _change(spec={**content["spec"], "seed": "\ud800"})(content),
    "too deep": lambda content: b"[" * 100_000,
    "no score": _change(scores={"test": {"accuracy": None}}),
    "scores a list": _change(scores={"test": [0.5]}),
    "environment null": _change(environment=None),
    "a time in words": _change(time={"train_seconds": "2 s"}),
    "notes null": _change(notes=None),
    "a note that is a number": _change(notes=["one", 2]),
    "a baseline without name": _change(baseline={"scores": {"accuracy": 0.5}}),
    "a baseline's score in words": _change(baseline={"name": "majority", "scores": {"accuracy": "half"}}),
    "a baseline's outcomes in words": _change(
        baseline={"name": "majority", "scores": {"accuracy": 0.5}, "outcomes": "right"}
    ),
    "forgetting in part": _change(forgetting={"before": 3.0}),
    "groups in words": _change(test_groups={"of": "speaker", "numbers": ["one"]}),
    "versions a text": _change(environment={"versions": "torch 2"}),
    "a command in words": _change(environment={"versions": {}, "command": ["adapt", "compare"]}),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_set_aside_with_one_warning(store: Store, run: Run, damage: str) -> None:
    path = store.write(result_of(run))
    broken = DAMAGE[damage](json.loads(path.read_text()))
    path.write_bytes(broken)
    with pytest.warns(UserWarning, match="is set aside as") as caught:
        assert store.read(run) is None
    assert len(caught) == 1
    assert path.name in str(caught[0].message)
    assert [file.name for file in store.runs.iterdir()] == [path.name + ".damaged"]
    assert path.with_name(path.name + ".damaged").read_bytes() == broken
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert store.read(run) is None
        assert store.all() == []


@pytest.mark.parametrize(
    ("name", "value"), [("seed", 7), ("strategy", "full"), ("task", "others"), ("backbone", "another")]
)
def test_a_file_that_says_something_else_than_its_spec_is_set_aside(
    store: Store, run: Run, name: str, value: Any
) -> None:
    """Tables are of what stands beside the spec, and a run is known by its spec."""
    path = store.write(result_of(run))
    path.write_bytes(_change(**{name: value})(json.loads(path.read_text())))
    with pytest.warns(UserWarning, match=rf"is set aside as .* \(its {name} is not that of its spec\)"):
        assert store.all() == []


def test_what_a_later_version_wrote_stays_for_that_version(store: Store, run: Run) -> None:
    store.write(result_of(run_of("full")))
    path = store.write(result_of(run))
    path.write_bytes(_change(schema=2)(json.loads(path.read_text())))
    with pytest.warns(UserWarning, match=r"is left out \(a later version of adapt wrote it\), which it stays for"):
        assert [content["strategy"] for content in store.all()] == ["full"]
    assert path.exists()


def test_what_a_later_version_wrote_is_no_result_of_this_one(store: Store, run: Run) -> None:
    """Its run is done again where it is asked for, and a file that the user names is refused as it is."""
    path = store.write(result_of(run))
    later = _change(schema=SCHEMA + 1)(json.loads(path.read_text()))
    path.write_bytes(later)
    with pytest.raises(AdaptError, match=r"is no result file \(a later version of adapt wrote it\); give one"):
        given_result(path)
    assert path.read_bytes() == later
    with pytest.warns(UserWarning, match=r"set aside as .*\(a later version of adapt wrote it\); compare does"):
        assert store.read(run) is None
    assert path.with_name(path.name + ".damaged").read_bytes() == later


def test_one_damaged_file_does_not_hide_the_others(store: Store) -> None:
    store.write(result_of(run_of("full")))
    store.write(result_of(run_of("head"))).write_text("{")
    store.write(result_of(run_of("lora")))
    with pytest.warns(UserWarning, match="words-head-seed0"):
        found = store.all()
    assert [content["strategy"] for content in found] == ["full", "lora"]


def test_a_file_that_the_system_withholds_is_an_error(store: Store, run: Run) -> None:
    store.path(run).mkdir()
    with pytest.raises(AdaptError, match="cannot be read: Is a directory"):
        read_result(store.path(run))


def test_a_file_that_the_system_withholds_does_not_hide_the_others(store: Store, run: Run) -> None:
    """Found after the last run, it would cost the table of all."""
    store.write(result_of(run_of("full")))
    store.path(run).mkdir()
    with pytest.warns(UserWarning, match="cannot be read: Is a directory; move it away or mend it. Until then it is"):
        assert [content["strategy"] for content in store.all()] == ["full"]


@pytest.mark.parametrize(("asked", "named"), [("is_dir", ""), ("iterdir", "runs")])
def test_a_folder_that_the_system_withholds_is_an_error_and_not_one_without_results(
    store: Store, run: Run, monkeypatch: pytest.MonkeyPatch, asked: str, named: str
) -> None:
    store.write(result_of(run))
    folder, whole = store.folder / named, getattr(Path, asked)

    def withheld(path: Path) -> Any:
        if store.folder in (path, path.parent):
            raise PermissionError(errno.EACCES, "Permission denied")
        return whole(path)

    monkeypatch.setattr(Path, asked, withheld)
    with pytest.raises(AdaptError, match=rf"^Folder {re.escape(str(folder))} cannot be read \(.*; see to its permis"):
        choose_from(store.folder)


def test_the_log_of_a_failure_goes_when_the_run_succeeds(store: Store, run: Run) -> None:
    store.write(result_of(run, status="failed"))
    store.log(run).write_text("Traceback")
    store.write(result_of(run, status="failed"))
    assert store.log(run).exists()
    store.write(result_of(run))
    assert not store.log(run).exists()


def test_an_output_folder_that_cannot_be_written_is_an_error_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file" / "out", tmp_path / "file", Path("/dev/null/out"), Path("/proc/out")):
        with pytest.raises(OptionError, match=r"Output folder .* cannot be written") as caught:
            Store(folder)
        assert str(folder) in str(caught.value)
    assert writable_folder(tmp_path / "a" / "b").is_dir()
    assert list((tmp_path / "a" / "b").iterdir()) == []


@pytest.mark.parametrize("taking", [writable_folder, partial(Store, reading=True), choose_from, start_of])
def test_the_home_of_nobody_is_an_error(taking: Callable[[str], Any]) -> None:
    with pytest.raises(OptionError, match=r"'~nobody-of-that-name/x' is no path that can be used: Could not determine"):
        taking("~nobody-of-that-name/x")


def test_threads_may_write_the_same_file(tmp_path: Path) -> None:
    texts = [letter * 10_000 for letter in "abcd"]

    def write(text: str) -> None:
        for _ in range(20):
            write_atomically(writable_folder(tmp_path / "out") / "text", text)

    with ThreadPoolExecutor(len(texts)) as pool:
        list(pool.map(write, texts))
    assert (tmp_path / "out/text").read_text() in texts
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["text"]


def test_text_is_written_as_it_is(tmp_path: Path) -> None:
    write_atomically(tmp_path / "text", "one\r\ntwo\nthrée\u2028")
    assert (tmp_path / "text").read_bytes() == "one\r\ntwo\nthrée\u2028".encode()
    with pytest.raises(OptionError, match="cannot be written"):
        write_atomically(tmp_path / "text" / "below", "x")


def test_what_ran_out_of_memory_does_not_replace_what_another_comparison_has_done(store: Store, tmp_path: Path) -> None:
    run = run_of("head")
    Todo([(run, words())], resolve("tiny-encoder")).save(tmp_path, store)
    job = Job.read(tmp_path / "0.json")
    for status in ("ok", "out_of_memory", "unsupported", "failed"):
        job.store(result_of(run) if status == "ok" else result_of(run, status=status, reason="so", scores={}))
    found = store.read(run)
    assert found is not None
    assert found["status"] == "ok"


def test_tables_are_not_written_over_files_of_others(store: Store, run: Run) -> None:
    store.write(result_of(run))
    store.write_table()
    store.check_tables()
    for name in ("table.md", "table.csv", "curve.csv"):
        file = store.folder / name
        before = file.read_text() if file.exists() else None
        file.write_text("text,label\nmine,1\n")
        with pytest.raises(OptionError, match=rf"{name} is no table of adapt, and would be written over; give another"):
            store.write_table()
        assert file.read_text() == "text,label\nmine,1\n"
        file.unlink() if before is None else file.write_text(before)


def test_json_of_others_stays(store: Store, run: Run) -> None:
    store.write(result_of(run))
    (store.runs / "config.json").write_text('{"mine": 1}')
    with pytest.warns(UserWarning, match=r"config\.json is left out \(another version of adapt wrote it\)"):
        assert len(store.all()) == 1
    assert (store.runs / "config.json").read_text() == '{"mine": 1}'


def test_a_copy_of_a_result_is_no_further_run(store: Store, run: Run) -> None:
    path = store.write(result_of(run))
    (path.parent / f"{path.stem} (1).json").write_text(path.read_text())
    store.write(result_of(run, 0.25))
    assert [content["scores"]["test"]["accuracy"] for content in store.all()] == [0.25]  # the copy's name comes first
    path.unlink()
    assert len(store.all()) == 1


def test_where_nothing_was_trained_no_learning_rate_was_used() -> None:
    run = run_of("lora", 0)
    assert result_of(run, learning_rate=None).to_json()["settings"]["learning_rate"] is None
    unsupported = result_of(run, status="unsupported", reason="why", learning_rate=None).to_json()
    assert unsupported["settings"]["learning_rate"] == run.strategy.learning_rate


def test_a_table_that_was_being_made_does_not_replace_a_later_one(
    store: Store, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write(result_of(run))
    plain, calls = Table.markdown, []

    def slow(table: Table) -> str:
        if not calls:
            calls.append(1)
            store.write(result_of(replace(run, seed=run.seed + 1)))
            Store(store.folder).write_table()
        return plain(table)

    monkeypatch.setattr(Table, "markdown", slow)
    store.write_table()
    assert len(pandas.read_csv(store.folder / "table.csv")) == 1
    assert "Seeds: 1, 2" in (store.folder / "table.md").read_text()


def test_a_backbone_that_changes_meanwhile_is_told_of(store: Store, tmp_path: Path) -> None:
    """Else later runs would have other weights under the name of the first ones."""
    place = Path(shutil.copytree(resolve("tiny-encoder").path, tmp_path / "backbone"))
    (tmp_path / "jobs").mkdir()
    Todo([(run_of("head"), words())], resolve(place)).save(tmp_path / "jobs", store)
    job = Job.read(tmp_path / "jobs" / "0.json")
    inputs = job.inputs()
    (place / "model.safetensors").touch()
    (place / "notes.md").write_text("of mine")
    assert job.begun(inputs) is inputs, "only its times have changed"
    content = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps({**content, "layer_norm_eps": 1e-3}))
    with pytest.raises(AdaptError, match="no longer the one that this comparison began with; leave the"):
        job.begun(inputs)
