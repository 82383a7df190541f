"""What sets apart sections of a table that are of one task and one backbone."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from adapt.spec import Budget, Task, canonical, left_out
from adapt.tables.curve import rows_in_words
from adapt.tables.folds import without_fold
from adapt.tables.section import Section
from adapt.tasks import KINDS

_NAMED_OTHERWISE = ("name", "data", "rows", "options")
"""Fields of a task that are the section's name, that the contents and the number of rows stand for, or that have parts
with names of their own."""
_LAST = ("max_train", "few_shot", "validation", "test")
"""Fields that the number of rows, or the content, stands for, unless it is the same."""


def set_apart(sections: Sequence[Section]) -> list[Section]:
    """The sections, each with what others of the same task and backbone have otherwise, such as `32 rows, epochs=3`.

    Nothing where there are no others. Contents are named by the first digits of their SHA-256.
    """
    alike: dict[tuple[str, str], list[dict[str, str]]] = {}
    settings = []
    for section in sections:
        spec = section.results[0]["spec"]
        others = alike.setdefault((spec["task"]["name"], spec["backbone"]["name"]), [])
        rows = {} if spec["task"].get("fold") else {"rows": rows_in_words(spec["task"])}
        others.append({**rows, **_held_out(spec["task"]), **_settings(without_fold(spec))})
        settings.append((others, others[-1]))
    return [
        replace(section, setting=", ".join(_apart(own, others)))
        for section, (others, own) in zip(sections, settings, strict=True)
    ]


def _apart(own: Mapping[str, str], others: Sequence[Mapping[str, str]]) -> list[str]:
    """What tells a section's settings from the others'."""
    several = [name for name in own if len({found.get(name) for found in others}) > 1]
    first = [name for name in several if name not in _LAST]
    alike = [found for found in others if all(found.get(name) == own[name] for name in first)]
    last = [name for name in _LAST if len({found[name] for found in alike}) > 1]
    return [own[name] for name in (*first, *last)]


def _held_out(task: Mapping[str, Any]) -> dict[str, str]:
    """The rows of the held-out splits, in words; those of folds go without saying."""
    sizes = {} if task.get("fold") else task["rows"]
    return {split: f"{sizes[split]:,} {split}" if split in sizes else f"no {split}" for split in ("validation", "test")}


def _settings(spec: Mapping[str, Any]) -> dict[str, str]:
    """All else that a section's runs have in common, each in words."""
    task, backbone, general = spec["task"], spec["backbone"], spec.get("general")
    fields = {
        **{name: value for name, value in (left_out(Task) | task).items() if name not in _NAMED_OTHERWISE},
        **(left_out(KINDS[task["kind"]].Options) if task["kind"] in KINDS else {}),
        **task.get("options", {}),
        **left_out(Budget),
        **spec["budget"],
    }
    return {
        "data": f"data {task['data']['sha256'][:6]}",
        "backbone": f"backbone {backbone['sha256'][:6]}",
        **{name: _words(name, value) for name, value in fields.items()},
        "general": "no general texts" if general is None else _words("general texts", general),
    }


def _words(name: str, value: Any) -> str:
    """A setting in words; of one with parts the first digits of its SHA-256; of folds their number."""
    if name == "fold":
        return f"{value} folds" if value else "no folds"
    if isinstance(value, list | dict):
        return f"{name} {hashlib.sha256(canonical(value).encode()).hexdigest()[:6]}"
    return f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"
