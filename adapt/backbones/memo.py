"""A memo of a frozen encoder: each row is encoded once, however often it is asked for.

With a frozen backbone the features of a row never change, so epochs after the first only look them up. The memo
stands where the encoder stood and is keyed on the row's token and segment ids; the training loop does not know.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers.modeling_outputs import BaseModelOutputWithPooling


class Memo(nn.Module):
    """A frozen feature function with its results kept, row by row.

    Rows are encoded in eval mode without gradients. Features of a row are a vector (pooled) or one vector a token;
    they lie in one growing buffer, so that a batch of hits is one indexed read.
    """

    def __init__(self, features: nn.Module, max_bytes: int) -> None:
        """
        Args:
            features: Maps `input_ids`, `attention_mask` (batch, length) to (batch, hidden) or
                (batch, length, hidden).
            max_bytes: Bytes the buffer may take; rows beyond it are encoded anew each time.
        """
        super().__init__()
        self.features = features.eval().requires_grad_(False)
        self.max_bytes = max_bytes
        self.encoded_rows = 0
        """Rows that went through the encoder so far."""
        self._rows: dict[bytes, tuple[int, int]] = {}
        self._buffer: torch.Tensor | None = None
        self._used = 0

    def train(self, mode: bool = True) -> Memo:
        """The encoder stays in eval mode: its features must not depend on dropout."""
        super().train(mode)
        self.features.eval()
        return self

    @property
    def nbytes(self) -> int:
        """Bytes held by the buffer."""
        return 0 if self._buffer is None else self._buffer.nbytes

    @torch.no_grad()
    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **inputs: Any) -> torch.Tensor:
        """
        Args:
            input_ids: (batch, length), padded on either side.
            attention_mask: (batch, length).
            inputs: Further inputs of shape (batch, length), such as `token_type_ids`.

        Returns:
            What the feature function returns, token features zero at padding.
        """
        keys = _keys(input_ids, attention_mask, inputs)
        missing = {key: i for i, key in enumerate(keys) if key not in self._rows}  # equal rows once
        overflow: dict[bytes, torch.Tensor] = {}
        if missing:
            encoded = self._encode(input_ids, attention_mask, inputs, list(missing.values()))
            overflow = {key: f for key, f in zip(missing, encoded, strict=True) if not self._keep(key, f)}
        if not overflow and self._buffer is not None and self._buffer.dim() == 2 and self._pooled:
            index = torch.tensor([self._rows[key][0] for key in keys], device=self._buffer.device)
            return self._buffer[index].to(input_ids.device)
        rows = [overflow[key] if key in overflow else self._read(key) for key in keys]
        return self._assemble(rows, attention_mask)

    _pooled = False

    def _encode(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, inputs: dict[str, Any], rows: list[int]
    ) -> list[torch.Tensor]:
        index = torch.tensor(rows, device=input_ids.device)
        mask = attention_mask[index]
        columns = mask.any(0)
        picked = {
            name: value[index][:, columns]
            for name, value in {"input_ids": input_ids, "attention_mask": attention_mask, **inputs}.items()
        }
        features = self.features(**picked)
        self._pooled = features.dim() == 2
        self.encoded_rows += len(rows)
        token = picked["attention_mask"].bool()
        return [feature[None] if self._pooled else feature[token[j]] for j, feature in enumerate(features)]

    def _keep(self, key: bytes, feature: torch.Tensor) -> bool:
        """Whether there was room."""
        n, width = feature.shape
        row_bytes = width * feature.element_size()
        needed = self._used + n
        if needed * row_bytes > self.max_bytes:
            return False
        if self._buffer is None or needed > len(self._buffer):
            capacity = min(max(2 * needed, 1024), self.max_bytes // row_bytes)
            grown = feature.new_empty(capacity, width)
            if self._buffer is not None:
                grown[: self._used] = self._buffer[: self._used]
            self._buffer = grown
        self._buffer[self._used : needed] = feature
        self._rows[key] = (self._used, n)
        self._used = needed
        return True

    def _read(self, key: bytes) -> torch.Tensor:
        start, n = self._rows[key]
        assert self._buffer is not None
        return self._buffer[start : start + n]

    def _assemble(self, rows: list[torch.Tensor], attention_mask: torch.Tensor) -> torch.Tensor:
        if self._pooled:
            return torch.cat(rows)
        out = rows[0].new_zeros(*attention_mask.shape, rows[0].shape[-1])
        out[attention_mask.bool()] = torch.cat(rows)
        return out


def _keys(input_ids: torch.Tensor, attention_mask: torch.Tensor, inputs: dict[str, Any]) -> list[bytes]:
    """One key a row: its token ids and further ids without padding."""
    mask = attention_mask.bool().cpu().numpy()
    columns = [input_ids.cpu().numpy(), *(value.cpu().numpy() for _, value in sorted(inputs.items()))]
    return [b"|".join(column[i][mask[i]].tobytes() for column in columns) for i in range(len(mask))]


class MemoBase(nn.Module):
    """A frozen base model behind a memo, with the base model's pooler, if any, applied to the memo's result."""

    def __init__(self, base: nn.Module, max_bytes: int) -> None:
        super().__init__()
        pooler = getattr(base, "pooler", None)
        self.pooler = pooler if isinstance(pooler, nn.Module) else None
        self.pooler_activation = getattr(base, "pooler_activation", None)
        if self.pooler is not None:
            base.pooler = None  # type: ignore[assignment]
        self.memo = Memo(_LastHidden(base), max_bytes)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **kwargs: Any) -> Any:
        """As the base model's: an output with `last_hidden_state` and, where it has a pooler, `pooler_output`."""
        inputs = {k: v for k, v in kwargs.items() if isinstance(v, torch.Tensor) and v.shape == input_ids.shape}
        hidden = self.memo(input_ids, attention_mask, **inputs)
        return BaseModelOutputWithPooling(last_hidden_state=hidden, pooler_output=self._pool(hidden))

    def _pool(self, hidden: torch.Tensor) -> torch.Tensor | None:
        if self.pooler is None:
            return None
        if self.pooler_activation is None:
            return self.pooler(hidden)
        return self.pooler_activation(self.pooler(hidden[:, 0]))  # ALBERT's pooler is a bare linear layer


class _LastHidden(nn.Module):
    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base

    def forward(self, **inputs: Any) -> torch.Tensor:
        return self.base(**inputs)[0]


def release(model: Any) -> None:
    """Undo `memoise`, where it was done: predicting new rows needs no memo, and its memory is given back."""
    for name, module in list(model.named_children()):
        if isinstance(module, Memo):
            setattr(model, name, module.features)
        elif isinstance(module, MemoBase):
            base: Any = module.memo.features.base
            if module.pooler is not None:
                base.pooler = module.pooler
            setattr(model, name, base)


def memoise(model: Any, max_bytes: int) -> None:
    """Put the frozen pretrained part of `model` behind a memo, in place; the head is left as it is.

    Args:
        model: A classifier from `Loader` loaded with `frozen=True`.
        max_bytes: Bytes the memo may take.
    """
    from adapt.backbones.heads import MeanPoolingClassifier

    if isinstance(model, MeanPoolingClassifier):
        model.features = Memo(model.features, max_bytes)
    else:
        setattr(model, model.base_model_prefix, MemoBase(model.base_model, max_bytes))
