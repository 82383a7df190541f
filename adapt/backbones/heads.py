"""A classification head on the mean of an encoder's last hidden states."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers.modeling_outputs import SequenceClassifierOutput

_DROPOUT_FIELDS = (
    "classifier_dropout", "classifier_dropout_prob", "seq_classif_dropout", "cls_dropout", "hidden_dropout_prob",
    "dropout",
)  # fmt: skip
"""What families call the dropout in front of their classification head's last layer, and their general one."""


def head_dropout(config: Any) -> float:
    """Dropout in front of the head's last layer: the configuration's own for it, else its general one."""
    return next((float(p) for name in _DROPOUT_FIELDS if (p := getattr(config, name, None)) is not None), 0.0)


class MeanPooling(nn.Module):
    """An encoder followed by the mean of its last hidden states over the tokens of each row.

    Source: Reimers & Gurevych 2019 (Sentence-BERT), section 3: the pooling that served best.
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """
        Args:
            input_ids: (batch, length).
            attention_mask: (batch, length), 1 for tokens and 0 for padding.

        Returns:
            (batch, hidden), float32.
        """
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask, **kwargs)[0].float()
        mask = attention_mask[..., None].to(hidden.dtype)
        return (hidden * mask).sum(1) / mask.sum(1).clamp(min=1)


class Standardised(nn.Module):
    """(x - mean) / standard deviation by feature, both over the training rows; linear probing then trains evenly.

    He et al. 2022 (masked autoencoders, section A.1) put a batch normalisation without affine part in front of a linear
    probe for the same reason. Here mean and variance are those of all rows seen so far (Chan et al. 1979), and stay as
    they are from the first evaluation on, when every row has been seen.
    """

    mean: torch.Tensor
    squares: torch.Tensor

    def __init__(self, width: int, device: torch.device) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width, device=device), persistent=False)
        self.register_buffer("squares", torch.zeros(width, device=device), persistent=False)
        self.rows = 0
        self.fixed = False

    @property
    def deviation(self) -> torch.Tensor:
        """(features); 1 before any row was seen."""
        if self.rows == 0:
            return torch.ones_like(self.squares)
        return (self.squares / self.rows + 1e-8).sqrt()

    def train(self, mode: bool = True) -> Standardised:
        """Evaluation ends the counting."""
        self.fixed = self.fixed or (not mode and self.rows > 0)
        return super().train(mode)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(rows, features), float32."""
        if self.training and not self.fixed:
            with torch.no_grad():
                rows, mean = len(x), x.mean(0)
                apart, total = mean - self.mean, self.rows + rows
                self.squares.add_((x - mean).square().sum(0) + apart.square() * (self.rows * rows / total))
                self.mean.add_(apart * (rows / total))
                self.rows = total
        return (x - self.mean) / self.deviation

    @torch.no_grad()
    def fold_into(self, layer: nn.Linear) -> None:
        """Let the layer that reads the output read the input instead, and forget mean and deviation."""
        layer.weight.div_(self.deviation)
        layer.bias.sub_(layer.weight @ self.mean)
        self.mean.zero_()
        self.squares.zero_()
        self.rows, self.fixed = 0, True


class MeanPoolingClassifier(nn.Module):
    """Mean pooling, dropout and one linear layer."""

    def __init__(self, encoder: Any, labels: int, dropout: float) -> None:
        super().__init__()
        self.config = encoder.config
        self.features: nn.Module = MeanPooling(encoder)
        self.scaling: nn.Module = nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(self.config.hidden_size, labels)

    def standardise(self) -> None:
        """Train the linear layer on standardised features; `fold` makes it one for the features as they are."""
        self.scaling = Standardised(self.config.hidden_size, self.classifier.weight.device)

    def fold(self) -> None:
        """Undo `standardise`, where it was done, and keep the outputs."""
        if isinstance(self.scaling, Standardised):
            self.scaling.fold_into(self.classifier)

    @property
    def base_model(self) -> nn.Module:
        """The pretrained encoder."""
        return self.features.encoder  # type: ignore[return-value]

    def forward(self, **inputs: torch.Tensor) -> SequenceClassifierOutput:
        """
        Args:
            inputs: `input_ids` and `attention_mask` (batch, length), `token_type_ids` where the encoder has them.

        Returns:
            Object with `logits` (batch, labels), float32 in every precision.
        """
        pooled = self.scaling(self.features(**inputs))
        with torch.autocast(pooled.device.type, enabled=False):
            logits = self.classifier(self.dropout(pooled.float()))
        return SequenceClassifierOutput(logits=logits)
