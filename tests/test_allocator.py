"""Freed memory is kept for the next step while a model is trained, and given back afterwards."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adapt.training import allocator
from adapt.training.allocator import memory_kept
from adapt.training.loop import predict, train
from adapt.training.peak import PeakMemory

glibc_only = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")

SET_UP = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_ARENA_MAX", "GLIBC_TUNABLES")


class Recorded:
    """Stands where the C library stands, and writes down what it is told."""

    most = 2**31

    def __init__(self) -> None:
        self.calls: list[tuple[str, int, int]] = []

    def mallopt(self, parameter: int, value: int) -> bool:
        self.calls.append(("mallopt", parameter, value))
        return value <= self.most

    def malloc_trim(self, kept: int) -> None:
        self.calls.append(("malloc_trim", 0, kept))


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    recorded = Recorded()
    monkeypatch.setattr(allocator, "_glibc", lambda: recorded)
    return recorded


@pytest.fixture
def found_anew(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in SET_UP:
        monkeypatch.delenv(name, raising=False)
    allocator._glibc.cache_clear()
    yield
    allocator._glibc.cache_clear()


def test_the_outermost_of_several_sets_the_allocator_and_sets_it_back(library: Recorded) -> None:
    with memory_kept():
        kept = list(library.calls)
        with memory_kept():
            pass
        assert library.calls == kept
    given_back = library.calls[len(kept) :]
    before, after = ({parameter: value for _, parameter, value in calls} for calls in (kept, given_back[:-1]))
    assert before.keys() == after.keys()
    assert all(0 < after[parameter] != before[parameter] for parameter in after)
    assert given_back[-1] == ("malloc_trim", 0, 0)


def test_an_old_library_gets_the_most_that_it_takes(library: Recorded) -> None:
    library.most = 2**28
    with memory_kept():
        set_to = {parameter: value for _, parameter, value in library.calls if value <= library.most}
    assert set_to == {-1: -1, -2: 2**28, -3: 2**25}


def test_it_is_set_back_after_an_error(library: Recorded) -> None:
    with pytest.raises(KeyError), memory_kept():
        raise KeyError
    assert library.calls[-1] == ("malloc_trim", 0, 0)


@pytest.mark.parametrize("work", [train, predict])
def test_training_and_predicting_keep_memory(library: Recorded, work: Any) -> None:
    with pytest.raises(TypeError):
        work()
    assert library.calls[-1] == ("malloc_trim", 0, 0)


@glibc_only
@pytest.mark.parametrize("name", SET_UP)
def test_an_allocator_that_the_user_has_set_up_is_left_alone(
    found_anew: None, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    assert allocator._glibc() is not None
    allocator._glibc.cache_clear()
    monkeypatch.setenv(name, "1")
    assert allocator._glibc() is None


FAULTS = """
import resource
import torch
from adapt.training.allocator import memory_kept

def faults(times):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        torch.empty(2**24).zero_()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(faults(8))
with memory_kept():
    faults(1)
    print(faults(8))
print(faults(8))
"""


@glibc_only
@pytest.mark.skipif(sys.platform != "linux", reason="counts page faults as Linux does")
def test_pages_are_fetched_once_within_and_every_time_outside(found_anew: None) -> None:
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    before, within, after = (int(line) for line in done.stdout.split())
    assert within < before / 4  # a block that lies elsewhere than the first is fetched once more
    assert within < after / 4


def test_a_peak_is_of_its_block_alone_also_where_freed_memory_is_kept() -> None:
    """What scoring held between two epochs, and gave back, is none of the second's."""
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("Linux alone tells")
    peak = PeakMemory("cpu")
    with memory_kept():
        before = peak.now()
        large = [bytearray(b"1" * 2**20) for _ in range(300)]
        del large
        with peak.track():
            pass
    assert peak.peak_bytes is not None
    assert before is not None
    assert peak.peak_bytes < before + 100 * 2**20
