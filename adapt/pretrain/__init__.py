"""Pretraining of small language models from plain text, on one CPU or GPU.

`read_corpus`, `split_documents`, a tokenizer and `pack` (`pack_pairs` for `NextSentence`) make rows of token ids; an
objective (`MaskedLM`, `NextSentence`, `CausalLM`, `SpanCorruption`, `PrefixLM`, `Copying`, or a `Mixture`) says what is
asked about them; `pretrain` is the one loop; `export` writes the folder. Dropout is that of the model's configuration.
The recipes `recipes/pretrain_tiny_*.py` put the parts together, without dropout (Geiping & Goldstein 2023, "Cramming").
"""

from adapt.pretrain.causal import CausalLM
from adapt.pretrain.corpus import pack, read_corpus, split_documents
from adapt.pretrain.counts import warm_start
from adapt.pretrain.denoising import Copying, Mixture, PrefixLM, SpanCorruption
from adapt.pretrain.folder import export, exportable
from adapt.pretrain.loop import Objective, Pretraining, evaluate, pretrain, schedule
from adapt.pretrain.masked import MaskedLM, mask_tokens, masked_logits
from adapt.pretrain.pairs import NextSentence, pack_pairs
from adapt.pretrain.vocabulary import for_decoder, for_encoder_decoder, train_byte_tokenizer, train_tokenizer

__all__ = [
    "CausalLM", "Copying", "MaskedLM", "Mixture", "NextSentence", "Objective", "PrefixLM", "Pretraining",
    "SpanCorruption", "evaluate", "export", "exportable", "for_decoder", "for_encoder_decoder", "mask_tokens",
    "masked_logits", "pack", "pack_pairs", "pretrain", "read_corpus", "schedule", "split_documents",
    "train_byte_tokenizer", "train_tokenizer", "warm_start",
]  # fmt: skip
