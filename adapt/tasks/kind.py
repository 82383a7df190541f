"""What every task kind supplies to the loop, which knows nothing else about a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import datasets
    import torch
    from torch import nn

Example = dict[str, Any]
"""One encoded row: `input_ids` and further lists of token values, and `label` where it is labelled."""


class Kind(Protocol):
    """A task kind bound to a task and a tokenizer."""

    def encode(self, rows: datasets.Dataset) -> list[Example]:
        """Rows to token ids, in order; labels are taken along where the rows have them."""

    def fit(self, examples: Sequence[Example]) -> None:
        """Take from the training rows what the loss needs (class weights, scale of the target)."""

    def state(self) -> dict[str, float]:
        """What `fit` found and prediction needs; plain values, saved with the model."""

    def load_state(self, state: Mapping[str, float]) -> None:
        """Set back what `state` gave."""

    def collate(self, examples: Sequence[Example]) -> dict[str, torch.Tensor]:
        """Pad to the longest row: the model's inputs, each (batch, length), and `labels`."""

    def loss(self, model: nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Mean loss of a batch, a float32 scalar."""

    def outputs(self, model: nn.Module, batch: Mapping[str, torch.Tensor]) -> list[Any]:
        """One output a row, on the CPU."""

    def score(self, outputs: Sequence[Any], examples: Sequence[Example]) -> dict[str, float]:
        """Metric name to value over labelled rows."""

    def outcomes(self, outputs: Sequence[Any]) -> list[Any]:
        """One small JSON value a row, enough for paired tests."""

    def decode(self, outputs: Sequence[Any]) -> list[dict[str, Any]]:
        """One readable prediction a row."""
