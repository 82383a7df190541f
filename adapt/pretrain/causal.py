"""Causal language modelling: predict each token from those before it (Radford et al. 2018, section 3.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class CausalLM:
    """Predict the next token at every position of a row, which has no padding; nothing is left to chance."""

    def draw(self, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """`input_ids` and `targets`, both int64 (rows, length - 1): all but the last token, and all but the first."""
        rows = rows.long()
        return {"input_ids": rows[:, :-1], "targets": rows[:, 1:]}

    def answers(self, model: Any, batch: dict[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
        """`next_token`: logits (rows * (length - 1), vocabulary) and next ids, in row-major order."""
        logits = model(input_ids=batch["input_ids"], use_cache=False).logits
        return {"next_token": (logits.flatten(0, 1), batch["targets"].flatten())}
