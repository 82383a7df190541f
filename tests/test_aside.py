"""Weights set aside in a file: bits, what is held in memory meanwhile, disks that fail."""

from __future__ import annotations

import gc
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import pytest
import torch
from torch import nn

from adapt.adapted import fit_model
from adapt.memory.observe import observe
from adapt.spec import AdaptError, Budget, Diverged
from adapt.training import Trained, train
from adapt.training.aside import Aside

SIZE = 1009
"""Numbers in a weight: a prime, so that no other tensor has as many."""


class Wide(nn.Module):
    """A weight that is trained, two that share one, and one that is frozen."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.w = nn.Parameter(torch.randn(SIZE, generator=generator))
        self.alone = nn.Parameter(torch.tensor(0.5))
        self.turned = nn.Parameter(torch.randn(3, 2, generator=generator).to(torch.bfloat16).T)
        self.again = self.turned
        self.frozen = nn.Parameter(torch.ones(2), requires_grad=False)


class Scripted:
    """A kind whose loss moves the weights, and whose scores are those of a list."""

    beside = ()

    def __init__(self, scores: Sequence[float], worst: float = 0.0) -> None:
        self.scores = list(scores)
        self.worst = worst
        self.alive: list[int] = []
        """Of each step, how many tensors of a weight's size there are while the loss is made."""

    def collate(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        return {"x": torch.tensor([example["x"] for example in examples])}

    def terms(self, examples: Sequence[Any]) -> int:
        return len(examples)

    def redraw(self, examples: Sequence[Any], seed: int, epoch: int) -> Sequence[Any]:
        return examples

    def loss(self, model: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        self.alive.append(copies())
        return (model.w * batch["x"].sum()).sum() + model.alone + model.turned.float().sum() + self.worst

    def outputs(self, model: nn.Module, batch: Mapping[str, torch.Tensor], *, final: bool = True) -> list[Any]:
        return batch["x"].tolist()

    def score(self, outputs: Sequence[Any], examples: Sequence[Any]) -> dict[str, float]:
        return {"score": self.scores.pop(0)}


ROWS = [{"input_ids": [0], "x": float(i)} for i in range(4)]
BUDGET = Budget(epochs=4, batch_size=2, warmup=0.0, decay="constant")


def trained(kind: Scripted) -> tuple[Wide, Trained]:
    model = Wide()
    done = train(
        model, kind, ROWS, ROWS, BUDGET,  # type: ignore[arg-type]
        learning_rate=0.1, metric="score", higher_is_better=True, seed=0,
    )  # fmt: skip
    return model, done


def copies() -> int:
    gc.collect()
    tensors = [found for found in gc.get_objects() if isinstance(found, torch.Tensor) and found.numel() == SIZE]
    return len({tensor.untyped_storage()._cdata for tensor in tensors})


def bits(model: Wide) -> list[bytes]:
    return [p.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() for p in model.parameters()]


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[IO[bytes]]:
    """Temporary files that were opened, all of them in `tmp_path`."""
    opened: list[IO[bytes]] = []
    make = tempfile.TemporaryFile

    def recorded(**options: Any) -> IO[bytes]:
        opened.append(make(**options))
        return opened[-1]

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(tempfile, "TemporaryFile", recorded)
    return opened


def full(**options: Any) -> IO[bytes]:
    """A file on a disk that has no room."""
    return Path("/dev/full").open("w+b")


def no_folder(**options: Any) -> IO[bytes]:
    raise PermissionError(13, "Permission denied")


LINUX = pytest.mark.skipif(sys.platform != "linux", reason="Linux alone has this")
FAILING = [no_folder, pytest.param(full, marks=LINUX)]


@pytest.mark.parametrize("disk", [tempfile.TemporaryFile, *FAILING])
def test_weights_come_back_to_the_bit(monkeypatch: pytest.MonkeyPatch, disk: Any) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", disk)
    model = Wide()
    with torch.no_grad():
        model.w[:3] = torch.tensor([float("nan"), -0.0, float("inf")])
    before = bits(model)
    with Aside() as kept:
        kept.put(model)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(1)
        assert bits(model)[:3] != before[:3]
        kept.restore(model)
        kept.restore(model)
    assert bits(model)[:3] == before[:3]
    assert model.frozen.tolist() == [2, 2]
    assert kept.held_bytes == (4 * SIZE + 4 + 2 * 6 if disk in (no_folder, full) else 0)


def test_the_weights_of_the_best_epoch_take_no_memory(files: list[IO[bytes]]) -> None:
    kind = Scripted([0.1, 0.5, 0.3, 0.2])
    _, done = trained(kind)
    assert done.best_epoch == 2
    assert done.held_bytes == 0
    assert {more - kind.alive[0] for more in kind.alive[1:]} == {2}  # AdamW's moments
    assert len(files) == 2


def test_what_is_measured_after_training_holds_no_copy() -> None:
    kind, model = Scripted([]), Wide()
    weights, before = bits(model), copies()
    assert observe(model, kind, ROWS, BUDGET, 2)  # type: ignore[arg-type]
    assert kind.alive == [before, before + 2]  # AdamW's moments
    assert bits(model) == weights


def test_the_last_epoch_is_not_set_aside(files: list[IO[bytes]]) -> None:
    trained(Scripted([0.1, 0.1, 0.1, 0.5]))
    assert len(files) == 1


@pytest.mark.parametrize("disk", FAILING)
def test_a_disk_that_takes_nothing_loses_nothing(monkeypatch: pytest.MonkeyPatch, disk: Any) -> None:
    scores = [0.1, 0.5, 0.3, 0.2]
    expected, _ = trained(Scripted(scores))
    monkeypatch.setattr(tempfile, "TemporaryFile", disk)
    kind = Scripted(scores)
    model, done = trained(kind)
    assert bits(model) == bits(expected)
    assert done.held_bytes == 4 * SIZE + 4 + 2 * 6
    assert kind.alive[-1] - kind.alive[0] == 3


def test_a_disk_that_fills_up_loses_nothing(monkeypatch: pytest.MonkeyPatch, files: list[IO[bytes]]) -> None:
    """The second of two better epochs finds no room, when the first is gone."""
    expected, _ = trained(Scripted([0.1, 0.5, 0.3, 0.2]))
    make, calls = tempfile.TemporaryFile, []

    def filling(**options: Any) -> IO[bytes]:
        calls.append(options)
        return make(**options) if len(calls) == 1 else no_folder()

    monkeypatch.setattr(tempfile, "TemporaryFile", filling)
    model, done = trained(Scripted([0.1, 0.5, 0.3, 0.2]))
    assert bits(model) == bits(expected)
    assert done.held_bytes


@pytest.mark.parametrize("worst", [0.0, float("nan")])
def test_files_are_gone_however_training_ends(files: list[IO[bytes]], tmp_path: Path, worst: float) -> None:
    class Failing(Scripted):
        def loss(self, model: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
            if len(self.alive) == 6:
                self.worst = worst
                assert not list(tmp_path.iterdir()) or sys.platform == "win32"  # without a name, also if killed now
            return super().loss(model, batch)

    kind = Failing([0.1, 0.5, 0.3, 0.2])
    if worst:
        with pytest.raises(Diverged):
            trained(kind)
    else:
        trained(kind)
    assert files
    assert all(file.closed for file in files)
    assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_read_back_is_an_error(files: list[IO[bytes]]) -> None:
    model = Wide()
    with Aside() as kept:
        kept.put(model)
        files[0].truncate(100)
        with pytest.raises(AdaptError, match=r"cannot be read back \(it ends too early\); train again, with TMPDIR"):
            kept.restore(model)


def test_a_result_says_what_was_held_beside_its_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = (["good", "bad"] * 8, ["yes", "no"] * 8)
    choices: dict[str, Any] = {"epochs": 2, "batch_size": 4, "max_steps": 7, "device": "cpu"}
    plain = fit_model("tiny-encoder", rows, "head", **choices)
    monkeypatch.setattr(tempfile, "TemporaryFile", no_folder)
    assert plain.result is not None
    assert not any("held" in note for note in plain.result.notes)
    result = fit_model("tiny-encoder", rows, "head", **choices).result
    assert result is not None
    (note,) = [note for note in result.notes if "held" in note]
    assert note.startswith("head held the weights of its best epoch in memory, 101.9 KiB beside the peak, because no")
    assert result.scores == plain.result.scores
