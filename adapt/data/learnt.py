"""Which rows a model has learnt from, so that it is said where they are scored."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adapt.data.canonical import Data
from adapt.data.remarks import WORTH_SAYING, inputs_of
from adapt.data.table import column_of
from adapt.spec import Task

if TYPE_CHECKING:
    import datasets

_MOST = 20_000
"""Hashes kept: those of more rows are told apart by the smallest of them (bottom-k sketch; Cohen & Kaplan 2007)."""
_BYTES = 5
"""Of a hash: of 20,000 rows and as many others one in 2,700 times two are taken for the same."""


@dataclass(frozen=True)
class Learnt:
    """The hashes of rows' inputs, without their labels, ids and groups; of many rows the smallest."""

    hashes: frozenset[bytes]

    @staticmethod
    def of(rows: datasets.Dataset) -> Learnt:
        """Of rows in canonical form."""
        return Learnt(_fewer(_hashes(rows)))

    def __or__(self, other: Learnt) -> Learnt:
        """Of the rows of both."""
        return Learnt(_fewer(self.hashes | other.hashes))

    def among(self, rows: datasets.Dataset) -> float:
        """The share of rows in canonical form that are among them; where these are more than are kept, an estimate."""
        found = _hashes(rows)
        if len(self.hashes) == _MOST:
            last = max(self.hashes)
            found = [each for each in found if each <= last]
        return sum(each in self.hashes for each in found) / len(found) if found else 0.0

    def told(self, who: str, rows: datasets.Dataset, which: str) -> list[str]:
        """What must be said of rows that are scored, where a model has learnt from some of them.

        Args:
            who: What the model is called.
            rows: In canonical form.
            which: What they are called: `rows of test`.
        """
        share = self.among(rows)
        if share < WORTH_SAYING:
            return []
        about = "about " if len(self.hashes) == _MOST else ""
        return [
            f"{about}{round(share * len(rows)):,} of {len(rows):,} {which} are among those that {who} was trained on "
            f"({share:.0%}), so that scores on them do not tell how it does on new ones"
        ]

    def text(self) -> str:
        """The hashes, one after the other, in base 64."""
        return base64.b64encode(b"".join(sorted(self.hashes))).decode()

    @staticmethod
    def from_text(text: Any) -> Learnt:
        """From what `text` gave.

        Raises:
            ValueError: It is none such.
            TypeError: It is no text.
        """
        joined = base64.b64decode(text, validate=True)
        if len(joined) % _BYTES:
            raise ValueError(f"hashes of {len(joined)} bytes in all")
        return Learnt(frozenset(joined[i : i + _BYTES] for i in range(0, len(joined), _BYTES)))


def held_out(who: str, its: Task, learnt: Learnt | None, data: Data, whose: str) -> list[str]:
    """What must be said where a model may have learnt from held-out rows, if for their kind of task.

    Args:
        who: What the model is called.
        its: What it was trained for.
        learnt: The rows that it was trained on; None: it does not tell, as those that an earlier version saved.
        data: Whose held-out rows are scored.
        whose: Of what the scores are, by which the model is judged.
    """
    if its.kind != data.kind:
        return []
    if learnt is not None:
        apart = {split: rows for split, rows in data.splits.items() if split != "train"}
        return [note for split, rows in apart.items() for note in learnt.told(who, rows, f"rows of {split}")]
    if its.data.name != data.name or its.data.sha256 == data.sha256:
        return []
    return [
        f"{who} was trained on {data.name} as well, but cut into other splits or with other rows (content "
        f"{its.data.sha256[:12]}): rows that are scored here may be among those that it learnt, by which {whose} "
        "would score too well"
    ]


def _hashes(rows: datasets.Dataset) -> list[bytes]:
    columns = {name: column_of(rows, name) for name in sorted(rows.column_names)}
    return [hashlib.blake2b(row.encode(errors="replace"), digest_size=_BYTES).digest() for row in inputs_of(columns)]


def _fewer(hashes: Sequence[bytes] | frozenset[bytes]) -> frozenset[bytes]:
    return frozenset(sorted(set(hashes))[:_MOST])
