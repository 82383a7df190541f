"""Which results belong together in a row of a table, and how the row is named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from adapt.result import Content
from adapt.spec import Teacher
from adapt.strategies import STRATEGIES, make, recorded

_BELOW = ("learning_rate", "warmup")
"""Fields of a strategy that are named below the table."""


def groups(results: Sequence[Content], *, by_rate: bool = True) -> dict[str, list[Content]]:
    """The results of each row, by its label: the strategy's name, its fields that are not the defaults, the teacher,
    and the model that it started from.

    Learning rate and warm-up are named below the table. They are in the label, too, where a strategy has several, each
    of which makes a row of its own; without `by_rate` learning rates do not. Teachers and starts of one name share a
    row, for each seed may have its own, unless a seed then had several.
    """
    below: dict[tuple[str, str], set[Any]] = {}
    for strategy in (result["spec"]["strategy"] for result in results):
        fields = recorded(strategy)
        for field in _BELOW:
            below.setdefault((str(strategy["name"]), field), set()).add(_plain(fields.get(field)))
    found: dict[str, list[Content]] = {}
    for result in results:
        spec = result["spec"]
        strategy = spec["strategy"]
        name = str(strategy["name"])
        defaults = vars(make(name)) if name in STRATEGIES else {}
        hidden = {field for field in _BELOW if len(below[name, field]) < 2} | (set() if by_rate else {"learning_rate"})
        fields = recorded(strategy)
        ordered = [*(k for k in defaults if k in fields), *(k for k in fields if k not in defaults)]
        changed = [f"{k}={_plain(fields[k])}" for k in ordered if k not in hidden and defaults.get(k) != fields[k]]
        label = f"{name}({', '.join(changed)})" if changed else name
        label += _taught(spec["teacher"]) if "teacher" in spec else ""
        label += f", started from {spec['start']['name']}" if "start" in spec else ""
        found.setdefault(label, []).append(result)
    return {label: group for each in found.items() for label, group in _by_content(*each).items()}


def _taught(teacher: Mapping[str, Any]) -> str:
    """By whom, and how where that is not the default."""
    how = [f"{name} {teacher[name]:g}" for name in ("temperature", "weight") if teacher[name] != getattr(Teacher, name)]
    if teacher["unlabelled_rows"]:
        how.append("on rows that it labelled, too")
    return f", taught by {teacher['name']}" + (f" ({', '.join(how)})" if how else "")


def _by_content(label: str, group: list[Content]) -> dict[str, list[Content]]:
    """The group as it is; where a seed had several teachers or starts, a group for each content of these, named in its
    label."""
    found: dict[str, list[Content]] = {}
    for result in group:
        teacher, start = (result["spec"].get(name, {}) for name in ("teacher", "start"))
        digests = (teacher.get("sha256"), teacher.get("unlabelled_sha256"), start.get("sha256"))
        content = "".join(digest[:6] for digest in digests if digest)
        found.setdefault(f"{label}, content {content}", []).append(result)
    of_seeds = {(result["seed"], name) for name, its in found.items() for result in its}
    return {label: group} if len(of_seeds) == len({result["seed"] for result in group}) else found


def _plain(value: Any) -> str:
    return "+".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
