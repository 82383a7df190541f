"""What pretraining asks of a model: the one interface between the loop and its objectives."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor


class Objective(Protocol):
    """How rows of text become questions, and a model's answers to them."""

    def draw(self, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Questions about some rows, drawn anew at each call from `generator` alone.

        Args:
            rows: Token ids (rows, length) from `pack`.
            generator: The only source of chance.

        Returns:
            Tensors by name, on the CPU, a row of each for each of the rows; what `answers` needs, for some rows too.
        """

    def answers(self, model: Any, batch: dict[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
        """Logits (asked, classes) and right classes (asked,) for each sort of question, by its name.

        The loss is the sum of their mean cross-entropies: one sort for language models, two for `NextSentence`.
        """
