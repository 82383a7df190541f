"""Each run is a process of its own, forked from one warm parent; whatever happens to one, the others go on.

Most runs here are those of `fake_worker.py`: the runner and the worker are the real ones, the training is not.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from click.testing import CliRunner
from comparison_helpers import FAKE, behave, execute, result_of, run_of, words

from adapt import machine
from adapt.backbones import Backbone, resolve
from adapt.cli import cli
from adapt.comparison import Store, ended, runner, worker
from adapt.comparison.jobs import Todo
from adapt.comparison.progress import Progress
from adapt.comparison.times import Times
from adapt.machine import short_waits
from adapt.spec import AdaptError, OutOfMemory, Source, Teacher

GRID = [run_of(strategy, seed) for seed in (0, 1) for strategy in ("full", "lora")]


def gone(pid: int, seconds: float = 10.0) -> bool:
    """Whether a process ends within some seconds; one that waits to be collected has ended."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.05)
    return False


def children() -> list[int]:
    return [child.pid for child in psutil.Process().children(recursive=True)]


def test_each_run_has_a_process_of_its_own_from_one_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    behave(monkeypatch)
    before = children()
    store, events = execute(GRID, tmp_path, jobs=2)
    seen = [content["environment"] for content in store.all()]
    assert len({s["pid"] for s in seen}) == len(GRID)
    assert len({s["parent"] for s in seen}) == 1
    assert os.getpid() not in {*(s["pid"] for s in seen), *(s["parent"] for s in seen)}
    assert children() == before
    for run in GRID:
        of_run = [event for event in events if event.run == run]
        assert [event.what for event in of_run] == ["started", "step", "step", "ended"]
        assert [(e.done, e.total, e.loss) for e in of_run[1:3]] == [(1, 2, 0.5), (2, 2, 0.25)]
        assert (of_run[-1].status, of_run[-1].reason) == ("ok", None)
    ended = [event for event in events if event.what == "ended"]
    assert [(event.done, event.total) for event in ended] == [(n, len(GRID)) for n in range(1, len(GRID) + 1)]
    assert (ended[0].seconds_left, ended[-1].seconds_left) == (None, 0)


def test_a_run_that_failed_is_told_of_where_there_is_no_such_signal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(signal, "SIGKILL")  # as on Windows
    behave(monkeypatch, full_0="exit")
    (event,) = (event for event in execute(GRID[:1], tmp_path)[1] if event.what == "ended")
    assert str(event.reason).startswith("the process ended with exit code 3 and left no result: the last words")


@pytest.mark.parametrize("jobs", [1, 2])
def test_no_more_runs_at_a_time_than_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jobs: int) -> None:
    behave(monkeypatch, every="short")
    most = at_once = 0
    for event in execute(GRID[:3], tmp_path, jobs=jobs)[1]:
        at_once += {"started": 1, "ended": -1}.get(event.what, 0)
        most = max(most, at_once)
    assert most == jobs


def test_a_package_found_by_the_user_is_found_by_its_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = Path(runner.__file__).parents[2]
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    for path, folder in (([""], package), ([""], tmp_path), ([os.path.relpath(package)], Path.cwd())):
        monkeypatch.setattr(sys, "path", [*path, "elsewhere"])
        monkeypatch.chdir(folder)  # maybe after it was found, as notebooks do
        assert runner._environment(1)["PYTHONPATH"] == os.pathsep.join((str(package), "elsewhere"))
    monkeypatch.setattr(runner, "_INSTALLED", (package.name,))
    assert runner._environment(1)["PYTHONPATH"] == "elsewhere"


def test_threads_of_runs_wait_awake_for_a_moment_only(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    assert short_waits({}).items() <= runner._environment(2).items()
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    assert runner._environment(2)["GOMP_SPINCOUNT"] == "7"


def test_a_run_that_dies_has_failed_and_the_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    behave(monkeypatch, full_0="kill", lora_0="exit", full_1="raise", lora_1="leave", head_0="noise")
    store, events = execute([*GRID, run_of("head"), run_of("head", 1)], tmp_path, jobs=2)
    found = {f"{c['strategy']}_{c['seed']}": c for c in store.all()}
    assert {name: content["status"] for name, content in found.items()} == {
        "full_0": "failed", "lora_0": "failed", "full_1": "failed", "lora_1": "failed",
        "head_0": "ok", "head_1": "ok",
    }  # fmt: skip
    assert found["full_0"]["reason"] == "the process was ended by signal 9; the system may have run out of memory"
    assert found["lora_0"]["reason"] == "the process ended with exit code 3 and left no result: the last words"
    assert found["full_1"]["reason"] == "KeyError: 'weights.bin'"  # the path, which is this machine's, is not told
    assert found["lora_1"]["reason"] == "the process ended with exit code 0 and left no result"
    assert str(Path(__file__).parent) not in "".join(path.read_text() for path in store.runs.glob("*.json"))
    log = store.log(run_of("full", 1)).read_text()
    assert "Traceback" in log
    assert "secret-folder" in log
    told = {f"{e.run.strategy.name}_{e.run.seed}": e for e in events if e.what == "ended"}
    assert str(store.log(run_of("full", 1))) in str(told["full_1"].reason)

    monkeypatch.setenv("FAKE_WORKER", "{}")
    again = [run for run in GRID if store.read(run) is None]
    assert again == GRID
    execute(again, tmp_path)
    assert {content["status"] for content in store.all()} == {"ok"}
    assert not list(store.runs.glob("*.log"))


def test_a_run_that_the_system_killed_for_want_of_memory_ran_out_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    behave(monkeypatch, full_0="kill", lora_0="exit", full_1="kill", lora_1="kill")
    counts = tmp_path / "vmstat"
    counts.write_text("oom_kill 2\n")
    monkeypatch.setattr(machine, "_OWN_GROUPS", tmp_path / "none")
    monkeypatch.setattr(machine, "_VMSTAT", counts)

    def on_event(event: runner.Event) -> None:
        if event.what == "step" and (event.run.strategy.name, event.run.seed) != ("lora", 1):
            counts.write_text(f"oom_kill {3 + GRID.index(event.run)}\n")  # another process, or this one

    store, _ = execute(GRID, tmp_path, on_event=on_event)
    found = {f"{c['strategy']}_{c['seed']}": (c["status"], c["reason"]) for c in store.all()}
    reason = "memory ran out, and the system killed the process; use fewer jobs, a smaller batch_size or backbone"
    assert found.pop("full_0") == found.pop("full_1") == ("out_of_memory", reason)
    assert {status for status, _ in found.values()} == {"failed"}
    assert [path.name[:11] for path in sorted(store.runs.glob("*.log"))] == ["words-lora-"] * 2
    assert [store.read(run) for run in GRID] == [None] * 4  # all are done again


def test_where_memory_ran_out_for_what_does_the_runs_that_is_the_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    behave(monkeypatch, every="kill the worker")
    counts = tmp_path / "vmstat"
    counts.write_text("oom_kill 2\n")
    monkeypatch.setattr(machine, "_OWN_GROUPS", tmp_path / "none")
    monkeypatch.setattr(machine, "_VMSTAT", counts)
    said = r"Memory ran out, and the system killed the process that does the runs; use fewer jobs, .*so far are kept"
    with pytest.raises(OutOfMemory, match=said):
        execute(GRID[:1], tmp_path, on_event=lambda event: counts.write_text("oom_kill 3\n"))


def test_what_is_foreseen_is_shown_before_the_first_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    behave(monkeypatch, full_0="note")
    _, events = execute([run_of("full"), run_of("lora")], tmp_path)
    assert [event.what for event in events] == [
        "started",
        "note",
        *["step"] * 2,
        "ended",
        "started",
        *["step"] * 2,
        "ended",
    ]
    stream = io.StringIO()
    with Progress(stream) as progress:
        for event in events:
            progress(event)
    assert "words full seed 0: needs about 3 GiB, which does not fit" in stream.getvalue().splitlines()


def test_what_a_run_finds_out_about_itself_is_its_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    behave(monkeypatch, full_0="unsupported", lora_0="diverged")
    store, events = execute(GRID[:2], tmp_path)
    assert [(c["status"], c["reason"]) for c in store.all()] == [
        ("unsupported", "not on this device"), ("diverged", "the loss is nan at step 2"),
    ]  # fmt: skip
    assert [e.status for e in events if e.what == "ended"] == ["unsupported", "diverged"]


def test_bad_input_in_a_run_stops_the_comparison(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    behave(monkeypatch, lora_0="bad input", full_1="slow")
    before = children()
    with pytest.raises(AdaptError, match=r"^row 3 has no text$"):
        execute(GRID, tmp_path)
    assert [content["strategy"] for content in Store(tmp_path).all()] == ["full"]
    assert children() == before


def test_a_worker_that_cannot_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "WORKER", (sys.executable, "-c", "raise ImportError('libtorch.so is not there')"))
    with pytest.raises(AdaptError, match=r"exit code 1 unexpectedly: ImportError: libtorch.so is not there. Results"):
        execute(GRID, tmp_path)


def test_a_worker_that_dies_is_one_error_and_takes_its_runs_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    behave(monkeypatch, lora_0="kill the worker", full_1="slow")
    mark = str(tmp_path)
    monkeypatch.setenv("FAKE_WORKER_OF", mark)
    started = time.monotonic()
    with pytest.raises(AdaptError, match=r"was ended by signal 9 unexpectedly.*Results so far are kept"):
        execute(GRID, tmp_path, jobs=1)
    assert time.monotonic() - started < 120  # not the minutes that the slow run would hold it
    assert [content["strategy"] for content in Store(tmp_path).all()] == ["full"]
    mine = [p for p in psutil.process_iter(["environ"]) if (p.info["environ"] or {}).get("FAKE_WORKER_OF") == mark]
    assert all(gone(p.pid) for p in mine)


def test_a_folder_for_temporary_files_may_have_spaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    behave(monkeypatch)
    folder = tmp_path / "two words é"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    store, events = execute(GRID[:1], tmp_path / "out")
    assert [content["status"] for content in store.all()] == ["ok"]
    assert [event.what for event in events] == ["started", "step", "step", "ended"]
    assert list(folder.iterdir()) == []


def test_a_full_disk_of_temporary_files_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("adapt.comparison.jobs._save_rows", full)
    with pytest.raises(
        AdaptError, match=f"^Folder {tmp_path} cannot be written: No space left on device; free .*TMPDIR"
    ):
        execute(GRID[:1], tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    ("given", "jobs", "threads"), [("3", 2, "3"), ("2,1", 1, "2"), (None, 2, "half"), ("", 1, "all")]
)
def test_the_cores_are_shared_out_unless_the_user_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str | None, jobs: int, threads: str
) -> None:
    behave(monkeypatch)
    monkeypatch.setattr(runner, "cores", lambda: 6)
    if given is None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    environment = runner._environment(runner._threads(jobs))
    expected = {"half": "3", "all": "6"}.get(threads, threads)
    assert [environment[n] for n in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")] == [expected, expected]
    assert environment["TOKENIZERS_PARALLELISM"] == "false"


def test_of_a_seed_the_run_that_takes_longest_starts_first() -> None:
    strategies = [run.strategy for run in GRID[:2]]
    full, lora = map(id, strategies)
    both = [dataclasses.replace(run_of(seed=seed), strategy=strategy) for seed in (0, 1) for strategy in strategies]
    runs = {str(i): run for i, run in enumerate(both)}
    assert runner.next_of(list("0123"), runs, {}) == "0"
    assert runner.next_of(list("123"), runs, {full: 1.0}) == "1"
    assert runner.next_of(list("123"), runs, {full: 2.0, lora: 1.0}) == "1"
    assert runner.next_of(list("23"), runs, {full: 1.0, lora: 2.0}) == "3"
    assert runner.next_of(list("23"), runs, {full: 2.0, lora: 1.0}) == "2"


def test_how_long_the_others_take_is_known_once_one_of_each_kind_has_ended() -> None:
    full, lora, other = run_of("full"), run_of("lora"), run_of("lora", few_shot=2)
    one, two = Times(1), Times(2)
    for times in (one, two):
        assert times.left([]) == 0
        assert times.left([(full, 0.0)]) is None
        times.took(full, 1.0, "failed")
        assert times.left([(full, 0.0)]) == 1
        times.took(full, 10.0, "ok")
        times.took(full, 1.0, "failed")  # at once, which tells nothing of others
        times.took(lora, 4.0, "ok")
        assert times.left([(full, 0.0), (other, 0.0)]) is None  # on other rows
    assert one.left([(full, 0.0), (lora, 0.0), (lora, 0.0)]) == 18
    assert two.left([(full, 0.0), (lora, 0.0), (lora, 0.0)]) == 10  # one core has but one of them
    assert one.left([(full, 7.0), (lora, 9.0)]) == 3  # what takes longer than before ends at once


def test_what_runs_have_in_common_is_made_once(tmp_path: Path) -> None:
    runs = [run_of("full"), run_of("lora", 1), run_of("lora", 1), *(run_of("lora", i, few_shot=2) for i in (1, 1, 2))]
    runs[2] = dataclasses.replace(runs[2], teacher=Teacher("big", "0" * 64))
    rows = words()
    Todo([(run, rows) for run in runs], resolve("tiny-encoder")).save(tmp_path, Store(tmp_path / "out"))

    def shared(number: int, before: worker.Shared | None) -> worker.Shared | None:
        return worker.share(tmp_path / f"{number}.json", before)

    first = shared(0, None)
    assert first is not None
    assert [len(rows) for rows in first.inputs.encoded(runs[0]).splits.values()] == [8, 8, 8]
    assert shared(1, first) is first
    assert shared(2, first) is not first
    few = shared(3, first)
    assert few is not None
    assert len(few.inputs.encoded(runs[3]).splits["train"]) == 4
    assert shared(4, few) is few
    other = shared(5, few)
    assert other is not None
    assert other is not few
    assert worker.share(tmp_path / "nowhere.json", few) is None  # what is wrong the run will say


def test_the_processes_of_runs_have_the_rows_that_were_encoded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    behave(monkeypatch, encode="yes")
    store, _ = execute(GRID, tmp_path, backbone=resolve("tiny-encoder"))
    found = [content["environment"]["encoded"] for content in store.all()]
    assert found == len(GRID) * [found[0]]  # one object, in the memory that forks inherit
    assert found[0][1:] == [8, 8, 8]


@pytest.mark.parametrize("raised", [ValueError, KeyboardInterrupt, type("PanicException", (BaseException,), {})])
def test_rows_that_cannot_be_encoded_beforehand_are_left_to_each_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raised: type[BaseException]
) -> None:
    def encode(*given: Any) -> None:
        raise raised

    source = Backbone(Source("tiny", "b" * 64), "tiny", tmp_path)
    Todo([(run_of(), words())], source).save(tmp_path, Store(tmp_path / "out"))
    monkeypatch.setattr("adapt.comparison.jobs.encode", encode)
    with pytest.raises(raised) if raised is KeyboardInterrupt else contextlib.nullcontext():
        assert worker.share(tmp_path / "0.json", None) is None


def test_where_the_system_cannot_fork_each_run_starts_afresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    behave(monkeypatch, lora_0="exit", full_1="raise")
    monkeypatch.delattr(os, "fork")
    store, events = execute(GRID[:3], tmp_path, jobs=2)
    found = {f"{c['strategy']}_{c['seed']}": c for c in store.all()}
    assert {name: content["status"] for name, content in found.items()} == {
        "full_0": "ok", "lora_0": "failed", "full_1": "failed",
    }  # fmt: skip
    assert found["lora_0"]["reason"].endswith("exit code 3 and left no result: the last words")
    assert found["full_1"]["reason"] == "KeyError: 'weights.bin'"
    assert found["full_0"]["environment"]["parent"] == os.getpid()
    assert [event.what for event in events] == ["started", "ended"] * 3
    monkeypatch.setenv("FAKE_WORKER", json.dumps({"lora_0": "bad input"}))
    with pytest.raises(AdaptError, match="row 3 has no text"):
        execute([GRID[1]], tmp_path)


def test_imports_leave_the_gpu_to_the_runs() -> None:
    """bitsandbytes takes hold of it when it is imported, and peft imports that."""
    code = (
        "import sys, torch, importlib.util; from adapt.comparison.worker import import_all; "
        "torch.version.cuda = '13.0'; import_all(['peft']); "
        "assert 'bitsandbytes' not in sys.modules; assert importlib.util.find_spec('bitsandbytes'); "
        "from peft.import_utils import is_bnb_available; assert is_bnb_available(); "
        "import bitsandbytes; assert bitsandbytes.nn.Linear8bitLt; "
        "torch.cuda.is_initialized = lambda: True\n"
        "try:\n import_all([])\nexcept RuntimeError as error:\n print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "taken hold of the GPU" in done.stdout


def test_nothing_to_do_starts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "WORKER", ("/nowhere/python",))
    assert execute([], tmp_path)[1] == []


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("OSError: '/home/me/models/weights.bin' is not there", "OSError: 'weights.bin' is not there"),
        ("at /tmp/a/b: see https://host.org/a/b and 3/4 it/s", "at b: see https://host.org/a/b and 3/4 it/s"),
        ("in ./a/b or a/b/c", "in ./a/b or a/b/c"),
        (r"OSError: 'C:\Users\me\weights.bin' is not there", "OSError: 'weights.bin' is not there"),
        (str(FileNotFoundError(2, "no", r"C:\Users\me\weights.bin")), "[Errno 2] no: 'weights.bin'"),
        (r"at \\server\share\a\b.txt: as C: is", "at b.txt: as C: is"),
    ],
)
def test_paths_of_this_machine_are_cut_from_a_reason(text: str, kept: str) -> None:
    assert ended._without_paths(text) == kept


PROGRAM = """
import sys
from adapt.comparison import runner
runner.WORKER = {worker!r}
from adapt.cli import main
main()
"""


@pytest.fixture
def command(tmp_path: Path, backbone: Callable[..., Path]) -> list[str]:
    """Arguments of `adapt`: a comparison, two runs at a time."""
    rows = "".join(f"a {word} word,{word}\n" for word in ("good", "bad") for _ in range(20))
    (tmp_path / "words.csv").write_text("text,label\n" + rows)
    return [
        "compare", "--backbone", str(backbone("bert")), "--data", str(tmp_path / "words.csv"), "--strategies",
        "full,lora", "--seeds", "2", "--jobs", "2", "--device", "cpu", "--precision", "fp32", "--out",
    ]  # fmt: skip


def heed_interrupts() -> None:
    """A shell starts background jobs, and so perhaps these tests, with interrupts ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def stop(process: subprocess.Popen[str], number: int) -> str:
    """Send a signal, again every few seconds as a person would, until the process has ended; its standard error."""
    for _ in range(12):
        process.send_signal(number)
        try:
            return process.communicate(timeout=5)[1]
        except subprocess.TimeoutExpired:
            continue
    process.kill()
    raise AssertionError(f"signal {number} does not stop the comparison")


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_comparison_that_is_stopped_goes_on_where_it_was(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {**os.environ, "FAKE_WORKER": json.dumps({"full_1": "until stopped", "lora_1": "until stopped"})}
    program = [sys.executable, "-c", PROGRAM.format(worker=FAKE), *command]
    behave(monkeypatch)
    whole = CliRunner().invoke(cli, [*command, str(tmp_path / "whole")], catch_exceptions=False)
    numbers = {signal.SIGTERM: 130, signal.SIGHUP: 130, signal.SIGKILL: -signal.SIGKILL, signal.SIGINT: 130}
    for number, code in numbers.items():
        out = tmp_path / f"stopped by {number}"
        process = subprocess.Popen(
            [*program, str(out)], env=environment, stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts
        )
        end = time.monotonic() + 60
        offspring: list[int] = []  # the worker and a run, the third
        while (len(list(out.glob("runs/*.json"))) < 2 or len(offspring) < 2) and time.monotonic() < end:
            time.sleep(0.02)
            offspring = [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
        kept = {path: path.read_bytes() for path in out.glob("runs/*.json")}
        assert len(offspring) >= 2
        error = stop(process, number)
        assert process.returncode == code
        if code == 130:
            assert error.splitlines()[-1] == (
                "adapt: stopped; results so far are kept, the same command goes on from there."
            )
            assert "Traceback" not in error
        assert all(gone(pid) for pid in offspring)
        assert len(list(out.glob("runs/*.json"))) < 4
        assert not list(out.glob("runs/*.log"))
        if number != signal.SIGINT:
            continue
        again = CliRunner().invoke(cli, [*command, str(out)], catch_exceptions=False)
        assert again.stderr.count("done before") == len(kept)
        assert {path: path.read_bytes() for path in kept} == kept
        for name in ("table.md", "table.csv"):
            assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
        assert again.stdout == whole.stdout


STOPPED_TWICE = """
import os, signal, sys
import click
from adapt.cli import plain_errors

class Last:  # Python lets go of it once it has undone the handlers of signals
    def __del__(self, again=os.kill, own=os.getpid(), number=signal.SIGTERM):
        again(own, number)

last = Last()
if sys.argv[1] == "while it is said":
    click.echo = lambda text, err: (signal.raise_signal(signal.SIGTERM), print(text, file=sys.stderr))
with plain_errors(goes_on=False):
    signal.raise_signal(signal.SIGTERM)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("moment", ["while it is said", "as Python ends"])
def test_a_signal_to_what_stops_already_changes_nothing(moment: str) -> None:
    done = subprocess.run([sys.executable, "-c", STOPPED_TWICE, moment], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "adapt: stopped.\n")


def test_an_interrupt_that_python_drops_stops_the_comparison_nevertheless(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A finaliser of a progress bar may be running when the signal comes; what it raises there is lost."""
    behave(monkeypatch)
    before = signal.getsignal(signal.SIGINT)
    heed_interrupts()
    told: list[runner.Event] = []

    def on_event(event: runner.Event) -> None:
        told.append(event)
        if event.what == "ended":
            with contextlib.suppress(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)

    runs = [run_of("full", seed) for seed in range(3)]
    try:
        with pytest.raises(KeyboardInterrupt):
            execute(runs, tmp_path, on_event=on_event)
        assert sum(event.what == "ended" for event in told) == 1
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_run_that_another_comparison_has_done_is_not_failed(tmp_path: Path) -> None:
    kills = machine.killed_for_memory()  # of what else runs here
    store, one = Store(tmp_path / "out"), GRID[0]
    store.write(result_of(one))
    job = tmp_path / "job"
    job.with_suffix(".log").write_text("killed")
    before = store.path(one).read_bytes()
    assert ended.outcome(job, one, -9, store, kills) == ("ok", None)
    assert ended.outcome(job, one, 1, store, kills) == ("ok", None)
    assert store.path(one).read_bytes() == before
    store.write(result_of(one, status="failed", reason="why"))
    assert ended.outcome(job, one, -9, store, kills)[0] == "failed"
    assert ended.outcome(job, one, 0, store, kills)[0] == "failed"


def test_words_for_which_the_disk_had_no_room_are_no_error_of_no_words(tmp_path: Path) -> None:
    store, job = Store(tmp_path / "out"), tmp_path / "job"
    for suffix in (".error", ".reason"):
        job.with_suffix(suffix).touch()
    job.with_suffix(".log").write_text("OSError: [Errno 28] No space left on device\n")
    status, reason = ended.outcome(job, GRID[0], 1, store, 0)
    assert status == "failed"
    assert "left no result: OSError: [Errno 28] No space left on device (see " in str(reason)
