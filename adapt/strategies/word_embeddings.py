"""A low-rank update of a frozen table of word embeddings, which strategies that leave the table alone may add.

Full fine-tuning moves the embedding of each word it sees; strategies that work inside the layers cannot tell words
apart better than the frozen table does. E + A·B, with a row of A for each word, gives that back for few parameters: it
is LoRA (Hu et al. 2021, section 4.1) on the table.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from adapt.backbones.classes import LANGUAGE_MODELS, output_layer, untie_output_layer
from adapt.spec import Unsupported


class UpdatedEmbedding(nn.Module):
    """E + A·B, looked up; E is frozen, A begins at zero."""

    def __init__(self, table: nn.Embedding, rank: int) -> None:
        """
        Args:
            table: (words, hidden); its weights may be shared with an output layer, which the update leaves alone.
            rank: Columns of A.
        """
        super().__init__()
        words, hidden = table.weight.shape
        device = table.weight.device
        self.table = table
        self.enabled = True
        self.coefficients = nn.Parameter(torch.zeros(words, rank, device=device))
        """A: (words, rank)."""
        self.directions = nn.Parameter(torch.empty(rank, hidden, device=device))
        """B: (rank, hidden)."""
        nn.init.kaiming_uniform_(self.directions, a=5**0.5)

    @property
    def weight(self) -> torch.Tensor:
        """The frozen table's weight: what transformers looks at for shape and dtype."""
        return self.table.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """(...) to (..., hidden), in the table's dtype."""
        found = self.table(ids)
        if not self.enabled:
            return found
        unused = getattr(self.table, "padding_idx", None)
        update = nn.functional.embedding(ids, self.coefficients, padding_idx=unused) @ self.directions
        return found + update.to(found.dtype)

    def merged(self) -> torch.Tensor:
        """(words, hidden): E + A·B in float32."""
        return torch.addmm(self.table.weight.detach().float(), self.coefficients.detach(), self.directions.detach())


def update_word_embeddings(model: Any, rank: int, rate: float) -> None:
    """Give the word embeddings of a frozen model a trainable update, in place.

    Args:
        model: As `Loader` gives it with `frozen=True`.
        rank: 0: nothing is done.
        rate: Peak learning rate of the update.

    Raises:
        Unsupported: More than one module of the model looks words up, or one that does more than that: Gemma's scales
            what it finds.
    """
    if not rank:
        return
    base = model.base_model
    table = base.get_input_embeddings()
    places = [
        name
        for name, module in base.named_modules(remove_duplicate=False)
        if isinstance(module, nn.Embedding) and module.weight is table.weight
    ]
    if len(places) != 1:
        raise Unsupported(
            f"embedding_rank is for models with one table of words, and '{base.config.model_type}' looks them up in "
            f"{len(places)} places ({', '.join(places)}); set embedding_rank=0"
        )
    if type(table) is not nn.Embedding:
        raise Unsupported(
            f"embedding_rank is for plain tables of words, and that of '{base.config.model_type}' "
            f"({type(table).__name__}) does something with what it finds; set embedding_rank=0"
        )
    words = UpdatedEmbedding(table, rank)
    base.set_submodule(places[0], words)
    own = {id(words.coefficients), id(words.directions)}
    model.own_rates = {name: rate for name, parameter in model.named_parameters() if id(parameter) in own}


def updated_embedding(base: Any) -> tuple[str, UpdatedEmbedding] | None:
    """Name within the base model and module of its updated word embeddings, if they are."""
    return next(((name, m) for name, m in base.named_modules() if isinstance(m, UpdatedEmbedding)), None)


def merge_word_embeddings(model: Any) -> None:
    """Put E + A·B in place of updated word embeddings, if they are; an output layer that shared E keeps E.

    Raises:
        Unsupported: A language model has no output layer of its own, and multiplies by E.
    """
    found = updated_embedding(model.base_model)
    if found is None:
        return
    name, words = found
    if output_layer(model) is not None:
        untie_output_layer(model)
    elif model.task_kind in LANGUAGE_MODELS:
        raise Unsupported(
            f"the language-model head of '{model.config.model_type}' multiplies by its word embeddings, which merging "
            "would change; keep the saved model, or set embedding_rank=0"
        )
    words.table.weight = nn.Parameter(words.merged(), requires_grad=False)
    model.base_model.set_submodule(name, words.table)
