"""Features of a frozen encoder on disk, for the runs of a comparison to share.

A shelf is a folder of safetensors files, each written whole by one run, with the features of the rows that it was the
first to encode. Which runs share one is decided by its folder's name: see `name_of`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

KEY_BYTES = 16
ROW_BYTES = KEY_BYTES + 8
"""What a row takes beside its features: its key and how many vectors it has."""


@dataclass(frozen=True)
class Features:
    """Features of rows, one after the other."""

    keys: list[bytes]
    """What tells a row from all others, `KEY_BYTES` bytes each."""
    lengths: list[int]
    """Vectors of each row: its tokens, or one."""
    values: torch.Tensor
    """(sum of lengths, hidden)."""
    pooled: bool
    """A row's features are one vector, whatever its length."""


@dataclass(frozen=True)
class Shelf:
    """A folder of features, of at most so many bytes."""

    folder: Path
    max_bytes: int

    def read(self) -> list[Features]:
        """What runs have written so far; a file that cannot be read is left out, for its rows can be encoded again."""
        found = []
        for file in sorted(self.folder.glob("*.safetensors")):
            try:
                tensors = load_file(file)
                raw = tensors["keys"].numpy().tobytes()
                keys = [raw[i : i + KEY_BYTES] for i in range(0, len(raw), KEY_BYTES)]
                pooled = bool(tensors["pooled"])
                found.append(Features(keys, tensors["lengths"].tolist(), tensors["values"], pooled))
            except (OSError, SafetensorError, KeyError):
                continue
        return found

    def room(self) -> int:
        """Bytes of tensors that it takes yet."""
        return self.max_bytes - sum(file.stat().st_size for file in self.folder.glob("*.safetensors"))

    def write(self, features: Features) -> bool:
        """Add a file. Returns whether there was room for it, here and on the disk."""
        tensors = {
            "keys": torch.frombuffer(bytearray(b"".join(features.keys)), dtype=torch.uint8),
            "lengths": torch.tensor(features.lengths),
            "values": features.values.contiguous(),
            "pooled": torch.tensor(features.pooled),
        }
        if sum(value.nbytes for value in tensors.values()) > self.room():
            return False
        part = self.folder / f"{secrets.token_hex(6)}.part"
        digest = hashlib.blake2b(b"".join(features.keys), digest_size=KEY_BYTES).hexdigest()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            save_file(tensors, part)
            part.replace(self.folder / f"{digest}.safetensors")
        except (OSError, SafetensorError):  # a full disk: the next run encodes its rows itself
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            return False
        return True


def name_of(decides: Sequence[Any]) -> str:
    """The folder's name of a shelf, from everything besides a row's ids that decides its features."""
    text = json.dumps(decides)
    return hashlib.blake2b(text.encode(), digest_size=KEY_BYTES).hexdigest()
