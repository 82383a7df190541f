"""A word before training where the plan does not fit the device."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from adapt.backbones.source import Backbone
from adapt.memory.budget import allowance, shown, verdict
from adapt.spec import AdaptError, Run

_SMALL = 0.5
"""No plan is needed where a backbone's weights, four times over and once more for every 64 tokens of a batch, are below
this share of the memory: no backbone was found to take twice as much."""
_PROC, _GROUPS = Path("/proc"), Path("/sys/fs/cgroup")
_LIMITS = {
    "": ("memory.max", "memory.current", "inactive_file"),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}
"""Of control groups of the second and the first version, by their folder: the files of limit and use, and what of the
use is a copy of files, that the system lets go of."""


def available(device: str) -> int | None:
    """Bytes that are free on the device, for torch or in the container's limit; None where the system does not tell."""
    if device == "cuda":
        import torch

        reused = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
        return int(torch.cuda.mem_get_info()[0]) + reused
    found = [int(line.split()[1]) * 1024 for line in _lines(_PROC / "meminfo") if line.startswith("MemAvailable:")]
    return min([*found, *_within_limits()], default=None)


def _within_limits() -> Iterator[int]:
    """Bytes that each control group of this process, as a container is, has below its limit."""
    for line in _lines(_PROC / "self" / "cgroup"):
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        root = _GROUPS / controllers
        group = root / path.lstrip("/")
        limit, use, given_back = _LIMITS[controllers]
        for folder in (group, *group.parents):
            if not folder.is_relative_to(root):
                break
            bounds = [int(text) for name in (limit, use) for text in _lines(folder / name) if text.isdigit()]
            if len(bounds) == 2:
                stat = dict(text.split() for text in _lines(folder / "memory.stat"))
                yield bounds[0] - bounds[1] + int(stat.get(given_back, 0))


def _lines(file: Path) -> list[str]:
    """Lines of a file; none where it cannot be read."""
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def foresee(spec: Run, backbone: Backbone, length: int) -> str | None:
    """What to say before training, where it will hardly fit: a plan costs seconds, so that small ones are not made.

    Args:
        spec: The run.
        backbone: Its backbone.
        length: Tokens of the longest training row.
    """
    budget, task = spec.budget, spec.task
    room = available(budget.device)
    weights = sum(file.stat().st_size for file in backbone.path.glob("*.safetensors"))
    likely = weights * (4 + budget.batch_size * length / 64)
    if room is None or spec.strategy.learning_rate is None or likely < _SMALL * room:
        return None
    from adapt.memory.planner import Planner, Setting
    from adapt.memory.shapes import shape_at

    try:
        setting = Setting(shape_at(backbone.path, backbone.source.name), spec.strategy, task, budget)
        peak = Planner(setting).memory(budget.batch_size, length).peak
    except AdaptError:
        return None  # what is wrong is said where it is met
    required = peak + allowance(peak, budget.device, running=True)
    judged = verdict(required, room)
    if judged == "fits":
        return None
    how = "hardly fits" if judged == "tight" else "does not fit"
    return (
        f"{spec.strategy.name} needs about {shown(required)} with {budget.batch_size} rows of {length} tokens, which "
        f"{how} the {shown(room)} that {budget.device} has free; see adapt plan for what would"
    )
