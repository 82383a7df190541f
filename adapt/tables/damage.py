"""What is wrong with what should be the content of a result file."""

from __future__ import annotations

import json
from typing import Any, NoReturn, get_args

from adapt.result import Status
from adapt.spec import SCHEMA, key_of

_NUMBER = int | float | None
_TYPES: dict[str, Any] = {
    "key": str, "status": str, "reason": str | None, "backbone": str, "task": str, "strategy": str, "seed": int,
    "scores": dict, "settings.learning_rate": _NUMBER, "params.trainable": _NUMBER, "params.total": _NUMBER,
    "params.saved_bytes": _NUMBER, "memory.peak_bytes": _NUMBER, "time.train_seconds": _NUMBER,
    "throughput.examples_per_second": _NUMBER, "environment": dict, "spec": dict,
    "notes": list, "baseline": dict | None, "forgetting": dict | None, "test_outcomes": list | None,
    "test_groups": dict | None, "params.head": _NUMBER, "time.evaluate_seconds": _NUMBER,
    "throughput.predicted_per_second": _NUMBER, "environment.versions": dict, "environment.commit": str | None,
    "environment.command": str | None, "baseline.name": str, "baseline.scores": dict, "baseline.outcomes": list,
    "forgetting.before": int | float,
    "forgetting.after": int | float, "forgetting.tokens": int, "forgetting.predicts": str, "test_groups.of": str,
    "test_groups.numbers": list,
}  # fmt: skip
"""Names in a result file, those within others after a dot, to the types of what may stand there."""
_LATER = frozenset({
    "notes", "baseline", "forgetting", "test_outcomes", "test_groups", "params.head", "time.evaluate_seconds",
    "throughput.predicted_per_second", "environment.versions", "environment.commit", "environment.command",
    "baseline.outcomes",
})  # fmt: skip
"""Those that not every result has; one that has anything within them has all of it that is named here."""
_AGAIN = {"backbone": "backbone.name", "task": "task.name", "strategy": "strategy.name", "seed": "seed"}
"""What a result says once more beside its spec, and where the spec has it."""


def content_of(text: bytes, key: str | None = None) -> tuple[Any, str | None]:
    """What a result file holds, and what is wrong with it; None: nothing.

    Args:
        text: Of the file.
        key: Key of the run whose result it should be; None: any run's.
    """
    try:
        content = json.loads(text.decode("utf-8"), parse_constant=_refuse)
        return content, _damage(content, key)
    except (RecursionError, ValueError) as error:  # also of a spec with what no key is made of
        return None, f"it is not JSON: {error}"


def is_newer(content: Any) -> bool:
    """Whether a later version of adapt wrote it, in a layout that this one does not know."""
    schema = content.get("schema") if isinstance(content, dict) else None
    return isinstance(schema, int) and schema > SCHEMA


def _damage(content: Any, key: str | None) -> str | None:
    if not isinstance(content, dict):
        return "it is not a JSON object"
    if content.get("schema") != SCHEMA:
        return f"{'a later' if is_newer(content) else 'another'} version of adapt wrote it"
    there = {name: found[0] for name in _TYPES if (found := _at(content, name))}
    wrong = [name for name, value in there.items() if not isinstance(value, _TYPES[name])]
    missing = [name for name in _TYPES if name not in there and _must_be(name, content)]
    if missing and not wrong:
        return f"it lacks {', '.join(missing)}"
    if wrong := wrong or _mixed(content, there):
        return f"what it has as {', '.join(wrong)} is of another type"
    if content["status"] not in get_args(Status):
        return f"its status is {content['status']!r}"
    if content["key"] != key_of(content["spec"]):
        return "its key is not that of its spec"
    if other := [name for name, place in _AGAIN.items() if _at(content["spec"], place) != (content[name],)]:
        return f"its {', '.join(other)} is not that of its spec"
    return "it is the result of another run" if key not in (None, content["key"]) else None


def _at(content: Any, name: str) -> tuple[Any, ...]:
    """What stands there, if anything does."""
    for part in name.split("."):
        if not (isinstance(content, dict) and part in content):
            return ()
        content = content[part]
    return (content,)


def _must_be(name: str, content: dict[str, Any]) -> bool:
    """Whether something that is not there is missing."""
    parent = name.partition(".")[0]
    return name not in _LATER and (parent not in _LATER or bool(content.get(parent)))


def _mixed(content: dict[str, Any], there: dict[str, Any]) -> list[str]:
    """The names of lists and mappings, themselves of the right type, that hold something of another type."""
    right = {
        "scores": all(map(_are_numbers, content["scores"].values())),
        "notes": all(isinstance(note, str) for note in there.get("notes", ())),
        "baseline.scores": _are_numbers(there.get("baseline.scores", {})),
        "test_groups.numbers": all(isinstance(number, int) for number in there.get("test_groups.numbers", ())),
    }
    return [name for name, holds in right.items() if not holds]


def _are_numbers(scores: Any) -> bool:
    return isinstance(scores, dict) and all(isinstance(score, int | float) for score in scores.values())


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number")
