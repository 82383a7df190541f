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

    Source: Reimers & Gurevych 2019 (Sentence-BERT), section 3, which takes it by default.
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


class MeanPoolingClassifier(nn.Module):
    """Mean pooling, dropout and one linear layer."""

    def __init__(self, encoder: Any, labels: int, dropout: float) -> None:
        super().__init__()
        self.config = encoder.config
        self.features: nn.Module = MeanPooling(encoder)
        self.dropout = nn.Dropout(dropout)
        size = getattr(self.config, "word_embed_proj_dim", self.config.hidden_size)  # what OPT projects its outputs to
        self.classifier = nn.Linear(size, labels)

    @property
    def base_model(self) -> nn.Module:
        """The pretrained encoder, also where a memo of its means stands before it."""
        return getattr(self.features, "features", self.features).encoder  # type: ignore[return-value]

    def forward(self, **inputs: torch.Tensor) -> SequenceClassifierOutput:
        """
        Args:
            inputs: `input_ids` and `attention_mask` (batch, length), `token_type_ids` where the encoder has them.

        Returns:
            Object with `logits` (batch, labels), float32 in every precision.
        """
        pooled = self.features(**inputs)
        with torch.autocast(pooled.device.type, enabled=False):
            logits = self.classifier(self.dropout(pooled.float()))
        return SequenceClassifierOutput(logits=logits)
