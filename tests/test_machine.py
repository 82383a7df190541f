"""Cores and memory of the machine, and of a container on it."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch

from adapt import machine

FREE = 8_000


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with six cores and a few KiB, and the folder of its control groups."""
    (tmp_path / "proc").mkdir()
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=FREE))
    monkeypatch.setattr(machine, "_OWN_GROUPS", tmp_path / "proc/cgroup")
    monkeypatch.setattr(machine, "_GROUPS", tmp_path / "groups")
    monkeypatch.setattr(machine, "_VMSTAT", tmp_path / "proc/vmstat")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(6), raising=False)
    return tmp_path / "groups"


def write(groups: Path, line: str, files: dict[str, str]) -> None:
    """Put the process into a control group, and content into the groups' files."""
    (groups.parent / "proc/cgroup").write_text(f"9:devices:/x\n{line}\n")
    for name, text in files.items():
        (groups / name).parent.mkdir(parents=True, exist_ok=True)
        (groups / name).write_text(text + "\n")


@pytest.mark.parametrize(
    ("line", "files", "expected"),
    [
        ("0::/", {}, 6),
        ("0::/", {"cpu.max": "max 100000"}, 6),
        ("0::/", {"cpu.max": "250000 100000"}, 3),
        ("0::/", {"cpu.max": "1000 100000"}, 1),
        ("0::/", {"cpu.max": "900000 100000"}, 6),
        ("0::/a/b", {"a/cpu.max": "200000 100000", "a/b/cpu.max": "max 100000"}, 2),
        ("0::/a/b", {"a/cpu.max": "400000 100000", "a/b/cpu.max": "100000 100000"}, 1),
        ("0::/of-the-host", {"cpu.max": "200000 100000"}, 2),
        ("0::/a", {"b/cpu.max": "200000 100000"}, 6),
        ("4:cpu,cpuacct:/a", {"cpu,cpuacct/a/cpu.cfs_quota_us": "200000",
                              "cpu,cpuacct/a/cpu.cfs_period_us": "100000"}, 2),
        ("4:cpu:/a", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 6),
        ("4:cpuset:/a", {"cpuset/a/cpu.cfs_quota_us": "200000", "cpuset/a/cpu.cfs_period_us": "100000"}, 6),
    ],
)  # fmt: skip
def test_a_container_has_the_cores_that_its_time_is_worth(
    groups: Path, line: str, files: dict[str, str], expected: int
) -> None:
    write(groups, line, files)
    assert machine.cores() == expected
    assert machine.few_threads({}) == ({"OMP_NUM_THREADS": str(expected)} if expected < 6 else {})
    for given in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        assert machine.few_threads({given: "7"}) == {}


@pytest.mark.parametrize(
    ("line", "files", "free"),
    [
        ("0::/", {}, FREE),
        ("0::/a/b", {"a/memory.max": "5000", "a/memory.current": "2000", "a/memory.stat": "file 9\ninactive_file 30"},
         3030),
        ("0::/gone", {"memory.max": "5000", "memory.current": "1970"}, 3030),
        ("0::/a", {"a/memory.max": "max", "a/memory.current": "1970"}, FREE),
        ("0::/a", {"a/memory.max": "9999999", "a/memory.current": "1970"}, FREE),
        ("4:memory:/a", {"memory/a/memory.limit_in_bytes": "5000", "memory/a/memory.usage_in_bytes": "2000",
                         "memory/a/memory.stat": "total_inactive_file 30"}, 3030),
    ],
)  # fmt: skip
def test_memory_ends_where_the_container_does(groups: Path, line: str, files: dict[str, str], free: int) -> None:
    write(groups, line, files)
    assert machine.free_memory("cpu") == free


@pytest.mark.parametrize(
    ("line", "files", "killed"),
    [
        ("0::/", {}, 0),
        ("0::/", {"../proc/vmstat": "oom_killer 3\noom_kill 7"}, 7),
        ("0::/a/b", {"a/memory.events": "oom_kill 4", "a/b/memory.events": "max 9\noom 2\noom_kill 1\noom_group_kill 5",
                     "../proc/vmstat": "oom_kill 7"}, 1),
        ("0::/of-the-host", {"memory.events": "oom 3\noom_kill 2"}, 2),
        ("4:memory:/a", {"memory/a/memory.oom_control": "oom_kill_disable 8\nunder_oom 0\noom_kill 3"}, 3),
    ],
)  # fmt: skip
def test_processes_killed_for_memory_are_counted(groups: Path, line: str, files: dict[str, str], killed: int) -> None:
    write(groups, line, files)
    assert machine.killed_for_memory() == killed


def test_without_control_groups_it_is_the_machine_that_counts(groups: Path) -> None:
    assert (machine.cores(), machine.free_memory("cpu")) == (6, FREE)


def test_free_memory_of_a_gpu_is_also_what_torch_holds_for_later(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (
        ("is_available", True), ("mem_get_info", (100, 1000)), ("memory_reserved", 70), ("memory_allocated", 50),
        ("get_device_name", "a GPU"),
    ):  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, lambda value=value: value)
    assert (machine.free_memory("cuda"), machine.hardware("cuda")) == (120, "a GPU")


def test_the_processor_has_a_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor : 0\nmodel name : Some CPU @ 2 GHz\nmodel name : Another\n")
    for file, name in ((tmp_path / "cpuinfo", "Some CPU @ 2 GHz"), (tmp_path / "none", "x86")):
        monkeypatch.setattr(machine, "_CPUINFO", file)
        monkeypatch.setattr(machine.platform, "processor", lambda: "x86")
        assert machine._processor.__wrapped__() == name


@pytest.mark.parametrize("said", [{"OMP_WAIT_POLICY": "ACTIVE"}, {"GOMP_SPINCOUNT": "5"}])
def test_threads_wait_awake_for_a_moment_only_unless_somebody_has_said_how(said: dict[str, str]) -> None:
    assert 0 < int(machine.short_waits({"HOME": "/root"})["GOMP_SPINCOUNT"]) < 300_000
    assert machine.short_waits(said) == {}
