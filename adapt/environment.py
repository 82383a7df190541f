"""What a run is made by: versions of packages, the state of this package's code, device and threads."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from adapt.machine import hardware
from adapt.spec import Run


@cache
def versions() -> dict[str, str | None]:
    """Python's version and those of the packages that decide what a run computes; None: not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in (
        "adapt",
        "torch",
        "transformers",
        "peft",
        "bitsandbytes",
        "accelerate",
        "datasets",
        "evaluate",
        "seqeval",
        "sacrebleu",
        "rouge-score",
    ):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def environment(spec: Run) -> dict[str, Any]:
    """Versions, device and threads: recorded with the result, not part of what decides it."""
    import torch

    return {
        "versions": versions(),
        **code_state(),
        "device": spec.budget.device,
        "hardware": hardware(spec.budget.device),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }


@cache
def code_state() -> dict[str, str | None]:
    """Commit and content of this package's modules, as they were when it was first asked for."""
    return {"commit": _commit(), "code": _code()}


def _code() -> str:
    """The first digits of a hash of this package's modules, which an installed package has no commit for."""
    package = Path(__file__).parent
    hashed = hashlib.sha256()
    for file in sorted(package.rglob("[!.]*.py")):  # an editor's own are hidden
        hashed.update(f"{file.relative_to(package).as_posix()}\0".encode())
        with contextlib.suppress(OSError):
            hashed.update(file.read_bytes())
    return hashed.hexdigest()[:12]


def _commit() -> str | None:
    """Commit of the checkout this package is imported from, marked where it has changes; None outside one."""
    import subprocess

    package = Path(__file__).parent
    if not (package.parent / ".git").exists():
        return None
    try:
        described = subprocess.run(
            ["git", "-C", str(package), "describe", "--always", "--abbrev=12", "--dirty"],
            capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip()
