"""A memo of a frozen encoder: each row is encoded once, however often it is asked for.

With a frozen backbone the features of a row never change, so epochs after the first only look them up. The memo
stands where the encoder stood and is keyed on the row's token and segment ids (in an encoder-decoder, on the ids of
both sides); the training loop does not know.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from adapt.backbones.exhausted import is_out_of_memory
from adapt.backbones.shelf import KEY_BYTES, ROW_BYTES, Features, Shelf
from adapt.backbones.standardised import Standardised

_MULTIPLE = 8
"""Under autocast rows are encoded in lengths that are multiples of this, with others of the same padded length."""


_PART_BYTES = 64 * 2**20
"""Most that is copied at a time of what is handed on."""


class Memo(nn.Module):
    """A frozen feature function with its results kept, row by row.

    Rows are encoded in eval mode without gradients. Features of a row are a vector (pooled) or one vector a token;
    they lie in one growing buffer, so that a batch of hits is one indexed read.

    How much padding a row has would show in the last bits of its features. Under autocast it is decided by the row
    alone, not by the batch it came in: features are the same to the bit whoever asks first, and can be shared between
    runs. In float32 this would not suffice, for products depend on the number of rows, and rows stay in their batch.
    """

    def __init__(
        self, features: nn.Module, max_bytes: int, longest: int = 10**9, padding: int = 0, name: str = "whole"
    ) -> None:
        """
        Args:
            features: Maps `input_ids`, `attention_mask` (batch, length) to (batch, hidden) or
                (batch, length, hidden).
            max_bytes: Bytes the buffer may take; rows beyond it are encoded anew each time, and with 0 each batch as it
                is.
            longest: Tokens that the encoder has positions for.
            padding: Index of the token that pads, by which some encoder-decoders find where a text ends.
            name: What is computed, for memos that share features.
        """
        super().__init__()
        self.features = features.eval().requires_grad_(False)
        self.max_bytes = max_bytes
        self.longest = longest
        self.padding = padding
        self.name = name
        self.encoded_rows = 0
        """Rows that went through the encoder so far."""
        self._rows: dict[bytes, tuple[int, int]] = {}
        self.buffer: torch.Tensor | None = None
        """(vectors, hidden): what is kept of rows, and room for more."""
        self._used = 0
        self._pooled: bool | None = None
        self._shelf: Shelf | None = None
        self._new: list[bytes] = []
        self.shared_rows = 0
        """Rows that were asked for and had been encoded by another run."""
        self._lying: dict[bytes, tuple[torch.Tensor, int, int]] = {}  # rows on the shelf: part of what lies in a file
        self._handed_on: set[bytes] = set()
        self.scaling: Standardised | None = None
        """Applied to what is looked up, where the head is trained on standardised features."""

    def share(self, shelf: Shelf) -> None:
        """Take the features of rows that are asked for from the shelf, where they lie there."""
        self._shelf = shelf
        for found in shelf.read():
            start, self._pooled = 0, found.pooled
            for key, n in zip(found.keys, found.lengths, strict=True):
                self._lying.setdefault(key, (found.values, start, n))
                start += n

    def hand_on(self) -> None:
        """Put what was encoded here on the shelf, where there is one, as much as it takes: some rows at a time, for of
        these there is a copy meanwhile."""
        if self._shelf is None:
            return
        new, self._new = self._new, []
        room, first = self._shelf.room(), 0
        while first < len(new):
            part, size = [], 0
            for key in new[first:]:
                own = self._read(key).nbytes + ROW_BYTES
                if size + own > min(room, max(_PART_BYTES, own)):
                    break
                part.append(key)
                size += own
            values = torch.cat([self._read(key) for key in part]).cpu() if part else None
            lengths = [self._rows[key][1] for key in part]
            if values is None or not self._shelf.write(Features(part, lengths, values, bool(self._pooled))):
                break
            self._handed_on.update(part)
            room, first = self._shelf.room(), first + len(part)

    def train(self, mode: bool = True) -> Memo:
        """The encoder stays in eval mode: its features must not depend on dropout."""
        self.training = mode
        self.features.eval()
        if self.scaling is not None:
            self.scaling.train(mode)
        return self

    @property
    def nbytes(self) -> int:
        """Bytes held by the buffer."""
        return 0 if self.buffer is None else self.buffer.nbytes

    def keys(self, batch: dict[str, torch.Tensor]) -> list[bytes]:
        """One key a row, of its token ids and further ids without padding."""
        arrays = {name: batch[name].cpu().numpy() for name in sorted(batch)}
        ids = [(value, arrays[_mask_of(name)] != 0) for name, value in arrays.items() if name != _mask_of(name)]
        texts = (b"|".join(value[i][mask[i]].tobytes() for value, mask in ids) for i in range(len(batch["input_ids"])))
        return [hashlib.blake2b(text, digest_size=KEY_BYTES).digest() for text in texts]

    def lengths(self, batch: dict[str, torch.Tensor]) -> dict[str, list[int]]:
        """Tokens of each row, by the name of their mask."""
        return {name: mask.sum(1).tolist() for name, mask in batch.items() if name == _mask_of(name)}

    def parted(self, features: torch.Tensor, token: torch.Tensor) -> Sequence[torch.Tensor]:
        """What is kept of each row: (1, hidden) where features are pooled, else (its tokens, hidden).

        Args:
            features: (rows, hidden) or (rows, length, hidden).
            token: (rows, length), bool: False at padding.
        """
        if features.dim() == 2:
            return features.split(1)
        return [feature[real] for feature, real in zip(features, token, strict=True)]

    def write(self, start: int, feature: torch.Tensor) -> None:
        """Copy what is kept of a row into the buffer, from its vector `start` on."""
        assert self.buffer is not None
        self.buffer[start : start + len(feature)] = feature

    def joined(self, keys: Sequence[bytes], overflow: Mapping[bytes, torch.Tensor]) -> torch.Tensor:
        """(vectors of all rows, hidden): what is kept of rows, or found no room in the buffer, one after the other."""
        return torch.cat([overflow[key] if key in overflow else self._read(key) for key in keys])

    def forget(self) -> None:
        """Encode every row anew from now on; the buffer stays, to be written again."""
        self._rows, self._used, self._new, self._lying = {}, 0, [], {}

    def clear(self) -> None:
        """Forget every row, and let go of the buffer."""
        self.forget()
        self.buffer = None

    @torch.no_grad()
    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **inputs: Any) -> torch.Tensor:
        """
        Args:
            input_ids: (batch, length), padded on either side.
            attention_mask: (batch, length).
            inputs: Further inputs of shape (batch, length), such as `token_type_ids`; in an encoder-decoder
                `decoder_input_ids` and `decoder_attention_mask` (batch, target length).

        Returns:
            What the feature function returns, token features (of the decoder's tokens, where there are any) zero at
            padding; standardised, where that is asked for.
        """
        batch = {"input_ids": input_ids, "attention_mask": attention_mask, **inputs}
        out_mask = batch.get("decoder_attention_mask", attention_mask)
        nothing_kept = self.max_bytes == 0 and not self._lying
        found = self._passed(batch, out_mask) if nothing_kept else self._look_up(batch, out_mask)
        return found if self.scaling is None else self.scaling(found, out_mask)

    def _passed(self, batch: dict[str, torch.Tensor], out_mask: torch.Tensor) -> torch.Tensor:
        """Features of the batch as it is, for a memo that may keep none: no row is looked for, nor padded otherwise."""
        features = self.features(**batch)
        self._pooled = features.dim() == 2
        self.encoded_rows += len(features)
        if self._pooled:
            return features
        return features.masked_fill(out_mask[..., None] == 0, 0)

    def _look_up(self, batch: dict[str, torch.Tensor], out_mask: torch.Tensor) -> torch.Tensor:
        keys = self.keys(batch)
        missing = {key: i for i, key in enumerate(keys) if key not in self._rows}  # equal rows once
        overflow: dict[bytes, torch.Tensor] = {}
        for key in [key for key in missing if key in self._lying]:
            del missing[key]
            values, start, n = self._lying[key]
            if self._keep(key, values[start : start + n]):
                self.shared_rows += key not in self._handed_on
            else:
                overflow[key] = values[start : start + n]
        if missing:
            encoded = self._encode(batch, list(missing.values()))
            overflow |= {key: f for key, f in zip(missing, encoded, strict=True) if not self._keep(key, f)}
            self._new += [key for key in missing if key not in overflow]
        if not overflow and self.buffer is not None and self._pooled:
            index = torch.tensor([self._rows[key][0] for key in keys], device=self.buffer.device)
            return self.buffer[index].to(out_mask.device)
        return self._assemble(self.joined(keys, overflow), out_mask)

    def _encode(self, batch: dict[str, torch.Tensor], rows: list[int]) -> list[torch.Tensor]:
        """Features of some rows of the batch, in low precision those of equal padded length together."""
        lengths = self.lengths(batch)
        alike: dict[tuple[int, ...], list[int]] = {}
        longest = tuple(max(of_rows[i] for i in rows) for of_rows in lengths.values())
        by_row = torch.is_autocast_enabled(batch["input_ids"].device.type)
        for i in rows:
            padded = tuple(self._padded(of_rows[i]) for of_rows in lengths.values()) if by_row else longest
            alike.setdefault(padded, []).append(i)
        found: dict[int, torch.Tensor] = {}
        for padded, members in alike.items():
            width = dict(zip(lengths, padded, strict=True))
            index = torch.tensor(members, device=batch["input_ids"].device)
            picked = {
                name: _repadded(
                    value[index],
                    batch[_mask_of(name)][index],
                    width[_mask_of(name)],
                    self.padding if name.endswith("input_ids") else 0,
                )
                for name, value in batch.items()
            }
            features = self.features(**picked)
            token = picked.get("decoder_attention_mask", picked["attention_mask"]).bool()
            self._pooled = features.dim() == 2
            found.update(zip(members, self.parted(features, token), strict=True))
        self.encoded_rows += len(rows)
        return [found[i] for i in rows]

    def _padded(self, length: int) -> int:
        return max(length, min(-(-length // _MULTIPLE) * _MULTIPLE, self.longest))

    def _keep(self, key: bytes, feature: torch.Tensor) -> bool:
        """Whether there was room; on the device too, where the buffer must grow."""
        n, width = feature.shape
        row_bytes = width * feature.element_size()
        needed = self._used + n
        if needed * row_bytes > self.max_bytes:
            return False
        if self.buffer is None or needed > len(self.buffer):
            capacity = min(max(2 * needed, 1024), self.max_bytes // row_bytes)
            try:
                grown = feature.new_empty(capacity, width)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self.max_bytes = self.nbytes  # what is held stays; further rows are encoded each time
                return self._keep(key, feature)
            if self.buffer is not None:
                grown[: self._used] = self.buffer[: self._used]
            self.buffer = grown
        self.write(self._used, feature)
        self._rows[key] = (self._used, n)
        self._used = needed
        return True

    def _read(self, key: bytes) -> torch.Tensor:
        start, n = self._rows[key]
        assert self.buffer is not None
        return self.buffer[start : start + n]

    def _assemble(self, vectors: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        if self._pooled:
            return vectors
        out = vectors.new_zeros(*mask.shape, vectors.shape[-1])
        out[mask.bool()] = vectors
        return out


def memos_of(model: nn.Module) -> list[Memo]:
    """The memos among a model's modules."""
    return [module for module in model.modules() if isinstance(module, Memo)]


def _repadded(value: torch.Tensor, mask: torch.Tensor, width: int, padding: int) -> torch.Tensor:
    """(rows, width): what stands in the rows where their mask is set, padded on the right."""
    if bool(mask[:, 0].all()):  # as it is already
        kept = value[:, :width]
        return nn.functional.pad(kept, (0, width - kept.shape[1]), value=padding)
    out = value.new_full((len(value), width), padding)
    for j, (row, real) in enumerate(zip(value, mask.bool(), strict=True)):
        out[j, : int(real.sum())] = row[real]
    return out


def _mask_of(name: str) -> str:
    return "decoder_attention_mask" if name.startswith("decoder_") else "attention_mask"
