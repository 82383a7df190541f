"""One JSON file a run, written atomically and read with suspicion."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

from adapt.files import writable_folder, write_atomically
from adapt.spec import Result, Run

_FINAL = frozenset({"ok", "unsupported", "diverged", "out_of_memory"})
"""Statuses that the same run would reach again; a run that `failed` (crashed, was killed) is done again."""


class Store:
    """The result files of a folder: `folder/runs/*.json`."""

    def __init__(self, folder: str | Path) -> None:
        """
        Raises:
            OptionError: The folder cannot be written.
        """
        self.folder = writable_folder(folder)
        self.runs = writable_folder(self.folder / "runs")

    def path(self, run: Run) -> Path:
        """Where the run's result is or will be."""
        return self.runs / run.filename()

    def read(self, run: Run, *, failed: bool = False) -> dict[str, Any] | None:
        """The run's result, if there is one that stands; with `failed` also one that is to be done again."""
        path = self.path(run)
        content = read_result(path) if path.exists() else None
        if content is None or content["key"] != run.key():
            return None
        return content if failed or content["status"] in _FINAL else None

    def write(self, result: Result) -> Path:
        """Write a result, whole or not at all."""
        path = self.path(result.run)
        write_atomically(path, json.dumps(result.to_json(), indent=1, ensure_ascii=False, allow_nan=False) + "\n")
        return path

    def all(self) -> list[dict[str, Any]]:
        """Every result of the folder that can be read, in the order of file names."""
        found = (read_result(path) for path in sorted(self.runs.glob("*.json")))
        return [content for content in found if content is not None]


def read_result(path: Path) -> dict[str, Any] | None:
    """A result file's content; a file that is cut off or not a result is set aside with a warning.

    The file is renamed to `*.json.damaged`, so that its run is done again and nothing is lost.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        missing = {"status", "key", "task", "strategy", "seed", "scores", "spec"} - content.keys()
        reason = f"it lacks {', '.join(sorted(missing))}" if missing else None
    except (ValueError, AttributeError) as error:
        content, reason = None, str(error)
    if reason is None:
        return content
    aside = path.with_name(path.name + ".damaged")
    path.replace(aside)
    warnings.warn(
        f"Result file {path} cannot be read ({reason}); it was renamed to {aside.name} and its run will be done again.",
        stacklevel=2,
    )
    return None
