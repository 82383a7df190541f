"""Text and a tiny masked language model for the tests of pretraining."""

import random

import torch
from transformers import BertConfig, BertForMaskedLM

from adapt.pretrain import Pretraining

SUBJECTS = ["the cat", "a dog", "my horse", "the old bird", "every fish"]
VERBS = ["sees", "follows", "likes", "knows"]
PLACES = ["in the garden", "near the river", "at home", "on the hill"]


def sentences(count: int) -> list[str]:
    rng = random.Random(0)
    return [f"{rng.choice(SUBJECTS)} {rng.choice(VERBS)} us {rng.choice(PLACES)}." for _ in range(count)]


def tiny(tokenizer, dropout: float = 0.0, seed: int = 0) -> BertForMaskedLM:
    torch.manual_seed(seed)
    return BertForMaskedLM(
        BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=16,
            initializer_range=0.1,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
            attn_implementation="eager",
        )
    )


SETTINGS = Pretraining(steps=120, batch_size=16, learning_rate=1e-2, precision="fp32", checkpoint_every=40)


def quiet(line: str) -> None:
    pass
