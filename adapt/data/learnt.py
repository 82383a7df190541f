"""Which rows a model has learnt from, so that it is said where they are scored."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adapt.data.canonical import Data
from adapt.data.groups import WORTH_SAYING, inputs_of
from adapt.data.table import column_of
from adapt.spec import Task

if TYPE_CHECKING:
    import datasets

_MOST = 50_000
"""Hashes kept: of more rows the smallest, by which a sample of any other rows is looked up (bottom-k sketch; Cohen &
Kaplan 2007)."""
_BYTES = 5
"""Of a hash: two sets of 20,000 rows share one by chance once in 2,700 cases."""


@dataclass(frozen=True)
class Learnt:
    """The rows that a model was trained on, by hashes of the kind of task and their inputs: without labels, ids and
    groups."""

    hashes: frozenset[bytes]
    every: bool
    """Whether all hashes were kept."""

    @staticmethod
    def of(rows: datasets.Dataset, kind: str) -> Learnt:
        """Of rows in canonical form, for a kind of task."""
        return _kept(frozenset(_hashes(rows, kind)))

    def __or__(self, other: Learnt) -> Learnt:
        """Of the rows of both."""
        return _kept(self.hashes | other.hashes, self.every and other.every)

    def among(self, rows: datasets.Dataset, kind: str) -> tuple[int, int]:
        """How many rows in canonical form are among them, and how many were looked up."""
        found = _hashes(rows, kind)
        if not self.every:
            last = max(self.hashes)
            found = [each for each in found if each <= last]
        return sum(each in self.hashes for each in found), len(found)

    def told(self, who: str, rows: datasets.Dataset, kind: str, which: str) -> list[str]:
        """What must be said of rows that are scored, where a model has learnt from some of them.

        Args:
            who: What the model is called.
            rows: In canonical form.
            kind: Of task.
            which: What they are called: `rows of test`.
        """
        n, of = self.among(rows, kind)
        if n < WORTH_SAYING * of or not n:
            return []
        what = f"the {of:,} {which}" if of == len(rows) else f"{of:,} {which} that were looked up, of {len(rows):,}"
        return [f"{who} was trained on {n:,} of {what} ({n / of:.0%}): scores on these are not those of new rows"]

    def content(self) -> dict[str, Any]:
        """As JSON has it: the hashes one after the other in base 64."""
        return {"hashes": base64.b64encode(b"".join(sorted(self.hashes))).decode(), "every": self.every}

    @staticmethod
    def from_content(content: Mapping[str, Any]) -> Learnt:
        """From what `content` gave.

        Raises:
            ValueError, TypeError or KeyError: It is none such.
        """
        joined = base64.b64decode(content["hashes"], validate=True)
        if len(joined) % _BYTES or not (joined or content["every"]):
            raise ValueError(f"hashes of {len(joined)} bytes in all")
        hashes = frozenset(joined[i : i + _BYTES] for i in range(0, len(joined), _BYTES))
        return Learnt(hashes, bool(content["every"]))


def held_out(who: str, its: Task, learnt: Learnt | None, data: Data, whose: str) -> list[str]:
    """What must be said where a model may have learnt from held-out rows, if for their kind of task.

    Args:
        who: What the model is called.
        its: What it was trained for.
        learnt: The rows that it was trained on; None: it does not tell, as those that an earlier version saved.
        data: Whose held-out rows are scored.
        whose: Of what the scores are, by which the model is judged.
    """
    if learnt is not None:
        apart = {split: rows for split, rows in data.splits.items() if split != "train"}
        return [note for split, rows in apart.items() for note in learnt.told(who, rows, data.kind, f"rows of {split}")]
    if its.kind != data.kind or its.data.name != data.name or its.data.sha256 == data.sha256:
        return []
    return [
        f"{who} was trained on {data.name} as well, but cut into other splits or with other rows (content "
        f"{its.data.sha256[:12]}): rows that are scored here may be among those that it learnt, by which {whose} "
        "would score too well"
    ]


def beyond_sample(
    who: str, learnt: Learnt | None, sample: datasets.Dataset, train: datasets.Dataset, kind: str
) -> list[str]:
    """What must be said where a model that a run builds on has learnt from training rows that its sample leaves out.

    Args:
        who: What the model is called.
        learnt: The rows that it was trained on; None: it does not tell.
        sample: The run's training rows.
        train: Those that they were drawn from.
        kind: Of task.
    """
    if learnt is None or len(sample) == len(train):
        return []
    more = learnt.among(train, kind)[0] - learnt.among(sample, kind)[0]
    if more < max(1, WORTH_SAYING * len(sample)):
        return []
    return [f"{who} has learnt from training rows that the sample of a run leaves out, so that it brings more labels"]


def _hashes(rows: datasets.Dataset, kind: str) -> list[bytes]:
    columns = {name: column_of(rows, name) for name in sorted(rows.column_names)}
    texts = (f"{kind} {row}".encode(errors="replace") for row in inputs_of(columns))
    return [hashlib.blake2b(text, digest_size=_BYTES).digest() for text in texts]


def _kept(hashes: frozenset[bytes], every: bool = True) -> Learnt:
    if len(hashes) <= _MOST:
        return Learnt(hashes, every)
    return Learnt(frozenset(sorted(hashes)[:_MOST]), False)
