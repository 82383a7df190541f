"""What is wrong with what should be the content of a result file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from adapt.result import Status
from adapt.spec import SCHEMA, key_of

_NEEDED: dict[str, tuple[str, ...]] = {
    "key": (), "status": (), "reason": (), "backbone": (), "task": (), "strategy": (), "seed": (), "scores": (),
    "settings": ("learning_rate",), "params": ("trainable", "total", "saved_bytes"), "memory": ("peak_bytes",),
    "time": ("train_seconds",), "throughput": ("examples_per_second",), "environment": (), "spec": (),
}  # fmt: skip
"""Names that a result file has, and the names within them."""


def damage(content: Any, key: str | None = None) -> str | None:
    """What is wrong with a result file's content; None: nothing."""
    if not isinstance(content, Mapping):
        return "it is not a JSON object"
    if content.get("schema") != SCHEMA:
        return "another version of adapt wrote it"
    missing = [name for name in _NEEDED if name not in content]
    missing += [
        f"{name}.{inner}"
        for name, within in _NEEDED.items()
        for inner in within
        if name in content and not (isinstance(content[name], Mapping) and inner in content[name])
    ]
    if missing:
        return f"it lacks {', '.join(missing)}"
    if content["status"] not in get_args(Status):
        return f"its status is {content['status']!r}"
    if content["key"] != key_of(content["spec"]):
        return "its key is not that of its spec"
    return "it is the result of another run" if key not in (None, content["key"]) else None
