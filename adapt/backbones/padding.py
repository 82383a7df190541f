"""Whether what a family of models makes of a row depends on how long the row is padded."""

from __future__ import annotations

import copy
from typing import Any

from adapt.backbones.classes import base_class
from adapt.backbones.families import FAMILIES

READ_BEFORE = frozenset({"minimax", "recurrent_gemma", "xlstm"})
"""Families, by `model_type`, whose recurrent layers read the padding before a row's tokens, masked as it is (MiniMax's
where a text goes on).

They are named, for a layer of their checkpoints is too large to be tried. Others of recurrent layers mask it (Mamba,
Zamba2, Jamba, Bamba, Falcon-H1, LFM2, Qwen3-Next).
"""
_WORDS, _TOKENS, _PADDING = 32, 12, 8
_LARGEST = 2**26
"""Parameters above which a layer would take long to make."""


def reads_padding(config: Any) -> bool:
    """Whether a model, of a layer with random weights, gives other states of a row's tokens where padding follows.

    Families whose attention is the one that transformers has in common, and those in `FAMILIES`, do not, but for those
    that join the embeddings of neighbours (MobileBERT's trigrams). Nor are encoder-decoders taken to, or one that
    cannot be made so small.

    Args:
        config: Of the backbone; it is left as it is.
    """
    import torch

    cls = base_class(config)
    joins = getattr(config, "trigram_input", False)
    known = cls._supports_attention_backend or config.model_type in FAMILIES
    if (known and not joins) or getattr(config, "is_encoder_decoder", False):
        return False
    ids = torch.arange(1, 1 + _TOKENS)[None]
    longer = torch.nn.functional.pad(ids, (0, _PADDING))
    try:
        small = copy.deepcopy(config)
        if hasattr(small, "block_sizes"):  # Funnel's depths, whose sum cannot be set
            small.block_sizes, small.num_decoder_layers = [1] * len(small.block_sizes), 1
        else:
            small.num_hidden_layers = 1
        small.vocab_size, small.pad_token_id = _WORDS, 0
        with torch.device("meta"):
            if sum(p.numel() for p in cls(small).parameters()) > _LARGEST:
                return False
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            model = cls(small).eval()
            for table in (m for m in model.modules() if isinstance(m, torch.nn.Embedding)):
                if table.padding_idx is not None:  # drawn as zeros, which a checkpoint need not have
                    table.weight[table.padding_idx] = table.weight[-1]
            alone, padded = (model(input_ids=x, attention_mask=(x > 0).long())[0] for x in (ids, longer))
        return not torch.allclose(alone, padded[:, :_TOKENS], rtol=1e-3, atol=1e-3)
    except Exception:  # of a family that nobody has tried; it must not cost the run
        return False
