"""The memos of plans, whose rows have no contents and are equally long.

A memo handles rows one by one, and an operation on fake tensors takes as long as on real ones: thousands of rows would
take minutes. Here it is done for one row, and the bytes of all are counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from adapt.backbones.masks import masks_traced
from adapt.backbones.memo import Memo


class Alike(Memo):
    """A memo of rows without padding, of which no two are the same."""

    block: int

    def keys(self, batch: dict[str, torch.Tensor]) -> list[bytes]:
        """Numbers."""
        return [str(row).encode() for row in range(len(batch["input_ids"]))]

    def lengths(self, batch: dict[str, torch.Tensor]) -> dict[str, list[int]]:
        """All tokens."""
        return {name: [mask.shape[1]] * len(mask) for name, mask in batch.items() if name.endswith("attention_mask")}

    def _encode(self, batch: dict[str, torch.Tensor], rows: list[int]) -> list[torch.Tensor]:
        """As ever; with the masks of attention where rows are padded to the length that they are encoded in."""
        own = {n for of_rows in self.lengths(batch).values() for n in of_rows}
        by_row = torch.is_autocast_enabled(batch["input_ids"].device.type)
        with masks_traced(by_row and any(self._padded(n) > n for n in own)):
            return super()._encode(batch, rows)

    def parted(self, features: torch.Tensor, token: torch.Tensor) -> Sequence[torch.Tensor]:
        """The last row as ever; for each other one the same part of a storage that is as large as all of theirs."""
        if features.dim() == 2:
            return [features[:1]] * len(features)
        tokens, hidden = features.shape[1:]
        size = tokens * hidden * features.itemsize
        held = -(-size // self.block) * self.block // features.itemsize
        others = features.new_empty(len(features) - 1, held)
        alike = [row[: tokens * hidden].view(tokens, hidden) for row in others[:1]]
        return [*alike * len(others), features[-1][token[-1]]]

    def write(self, start: int, feature: torch.Tensor) -> None:
        """Nothing: there is nothing in them."""

    def joined(self, keys: Sequence[bytes], overflow: Mapping[bytes, torch.Tensor]) -> torch.Tensor:
        """A new tensor of the size."""
        vectors = sum(len(overflow[key]) if key in overflow else self._rows[key][1] for key in keys)
        one = next(iter(overflow.values()), self.buffer)
        assert one is not None
        return one.new_empty(vectors, one.shape[-1])


def counting(memo: Memo, block: int) -> None:
    """Make a memo one of rows that are alike, in place.

    Args:
        memo: Of a model of fake tensors.
        block: Bytes that sizes of storages are rounded up to.
    """
    memo.__class__ = Alike
    assert isinstance(memo, Alike)
    memo.block = block
