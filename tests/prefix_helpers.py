"""Tiny models of every architecture with a prefix, and batches for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from torch import nn

from adapt.strategies.prefix_attention import attach

HIDDEN, HEADS, LAYERS, VOCABULARY, TOKENS, SIZE = 32, 4, 2, 40, 3, 8
KERNELS = ("eager", "sdpa")
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": HIDDEN,
    "intermediate_size": 48,
    "num_attention_heads": HEADS,
    "num_hidden_layers": LAYERS,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
    "pad_token_id": 0,
}
_ENDS = {"bos_token_id": 1, "eos_token_id": 2}
_QWEN = {**SIZES, **_ENDS, "num_key_value_heads": 2, "head_dim": 12}
_WINDOW = {"use_sliding_window": True, "sliding_window": 4, "layer_types": ["full_attention", "sliding_attention"]}
_T5 = {"d_model": HIDDEN, "d_kv": SIZE, "d_ff": 48, "num_layers": 3, "num_heads": HEADS, "vocab_size": VOCABULARY}
_DEBERTA = {
    "relative_attention": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
    "position_buckets": 8,
}

CONFIGS: dict[str, Callable[[], Any]] = {
    "bert": lambda: transformers.BertConfig(**SIZES),
    "roberta": lambda: transformers.RobertaConfig(**SIZES),
    "distilbert": lambda: transformers.DistilBertConfig(
        vocab_size=VOCABULARY, dim=HIDDEN, hidden_dim=48, n_heads=HEADS, n_layers=LAYERS, initializer_range=0.2,
        max_position_embeddings=64,
    ),
    "electra": lambda: transformers.ElectraConfig(**SIZES, embedding_size=24),
    "albert": lambda: transformers.AlbertConfig(**SIZES, embedding_size=24),
    "deberta-v2": lambda: transformers.DebertaV2Config(**SIZES, **_DEBERTA, share_att_key=True),
    "deberta-v2-own": lambda: transformers.DebertaV2Config(**SIZES, **{**_DEBERTA, "pos_att_type": ["c2p"]}),
    "modernbert": lambda: transformers.ModernBertConfig(
        **SIZES, cls_token_id=1, sep_token_id=2, **_ENDS, local_attention=4, global_attn_every_n_layers=2,
        reference_compile=False,
    ),
    "gpt2": lambda: transformers.GPT2Config(
        vocab_size=VOCABULARY, n_embd=HIDDEN, n_head=HEADS, n_layer=LAYERS, n_positions=64, initializer_range=0.2,
        pad_token_id=0, **_ENDS,
    ),
    "llama": lambda: transformers.LlamaConfig(**SIZES, **_ENDS, num_key_value_heads=2),
    "qwen3": lambda: transformers.Qwen3Config(**_QWEN),
    "qwen3-window": lambda: transformers.Qwen3Config(**_QWEN, **_WINDOW),
    "t5": lambda: transformers.T5Config(
        **_T5, num_decoder_layers=LAYERS, decoder_start_token_id=0, pad_token_id=0, eos_token_id=2
    ),
    "bart": lambda: transformers.BartConfig(
        vocab_size=VOCABULARY, d_model=HIDDEN, encoder_layers=3, decoder_layers=LAYERS, encoder_attention_heads=HEADS,
        decoder_attention_heads=2, encoder_ffn_dim=48, decoder_ffn_dim=48, max_position_embeddings=64, init_std=0.2,
        pad_token_id=0, decoder_start_token_id=2, forced_eos_token_id=None, **_ENDS,
    ),
}  # fmt: skip
"""Tiny configurations; names after the dash tell variants apart."""
DECODERS = ("gpt2", "llama", "qwen3", "qwen3-window")
PAIRS = ("t5", "bart")
on_architectures = pytest.mark.parametrize("architecture", CONFIGS)
on_kernels = pytest.mark.parametrize("kernel", KERNELS)
on_architectures_and_kernels = pytest.mark.parametrize(
    ("architecture", "kernel"),
    [(name, kernel) for name in CONFIGS for kernel in KERNELS if kernel == "eager" or not name.startswith("deberta")],
)
"""DeBERTa computes its attention by itself."""
gated_or_not = pytest.mark.parametrize("gated", [False, True])
on_generators = pytest.mark.parametrize("architecture", [*DECODERS, *PAIRS])


def make(architecture: str, kernel: str = "eager", cls: Any = None) -> Any:
    """A tiny frozen model in eval mode, with a language-model head where it can generate."""
    pairs, decoders = transformers.AutoModelForSeq2SeqLM, transformers.AutoModelForCausalLM
    cls = cls or (pairs if architecture in PAIRS else decoders if architecture in DECODERS else transformers.AutoModel)
    kernel = "eager" if architecture.startswith("deberta") else kernel
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = cls.from_config(CONFIGS[architecture](), attn_implementation=kernel)
        if hasattr(model, "lm_head") and architecture == "t5":  # tied, a random T5 repeats its last word for ever
            model.lm_head.weight = nn.Parameter(torch.randn(VOCABULARY, HIDDEN))
    return model.requires_grad_(False).eval()


def prefixed(
    architecture: str, kernel: str = "eager", cls: Any = None, std: float = 0.7, *, gated: bool = False
) -> Any:
    """The same model with a prefix that matters."""
    model = make(architecture, kernel, cls)
    generator = torch.Generator().manual_seed(1)
    for prefix in attach(model, TOKENS, gated=gated):
        for parameter in prefix.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator) * std
    return model


def batch(architecture: str, left: bool = False) -> dict[str, torch.Tensor]:
    """Two rows of words, the second shorter and padded."""
    ids = torch.randint(3, VOCABULARY, (2, 9), generator=torch.Generator().manual_seed(2))
    mask = torch.ones_like(ids)
    mask[1, : 3 if left else None] = 0
    if not left:
        mask[1] = torch.tensor([1] * 6 + [0] * 3)
    inputs = {"input_ids": ids * mask, "attention_mask": mask}
    if architecture in DECODERS:
        inputs["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)
    if architecture in PAIRS:
        inputs["decoder_input_ids"] = torch.randint(3, VOCABULARY, (2, 7), generator=torch.Generator().manual_seed(3))
    return inputs


def second_alone(inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The second row without its padding."""
    kept = inputs["attention_mask"][1].bool()
    return {name: value[1:] if name.startswith("decoder") else value[1:, kept] for name, value in inputs.items()}


def outputs(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        return model(**inputs)[0]


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
