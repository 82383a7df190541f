"""Tiny seeded backbones, data sets and runs for the tests; nothing is fetched."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AlbertConfig,
    AlbertModel,
    AutoModelForMaskedLM,
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForMaskedLM,
    DebertaV2Config,
    DebertaV2Model,
    DistilBertConfig,
    DistilBertModel,
    ElectraConfig,
    ElectraModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    ModernBertConfig,
    ModernBertModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
    RobertaConfig,
    RobertaForMaskedLM,
    T5Config,
    T5ForConditionalGeneration,
)

import adapt.data
from adapt.adapted import Adapted, assemble
from adapt.backbones import Loader, resolve
from adapt.backbones.memoise import release
from adapt.data import Data
from adapt.run import Fitted
from adapt.spec import Budget, Source, Strategy, Task
from adapt.strategies import BottleneckAdapter, Full, Head, LoRA, Prefix, QLoRA
from adapt.tasks import KINDS as KINDS_OF_TASKS

HIDDEN, INNER, EMBEDDING, LAYERS, HEADS, BUCKETS, VIRTUAL, RANK, REDUCTION = 32, 48, 24, 2, 4, 16, 5, 4, 8.0
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
GOOD, BAD = ["sunny", "sweet", "warm", "kind"], ["rotten", "cold", "bitter", "cruel"]
FILL = [f"word{i}" for i in range(24)]
VOCABULARY = [*SPECIAL, *GOOD, *BAD, *FILL]

STRATEGIES: dict[str, Strategy] = {
    "full": Full(learning_rate=2e-3),
    "head": Head(learning_rate=3e-2),
    "lora": LoRA(learning_rate=1e-2, rank=RANK, alpha=8.0),
    "bottleneck": BottleneckAdapter(learning_rate=1e-2, reduction_factor=REDUCTION, warmup=0.0),
    "prefix": Prefix(learning_rate=3e-2, virtual_tokens=VIRTUAL, warmup=0.0),
    "qlora": QLoRA(learning_rate=1e-2, rank=RANK, alpha=8.0),
}
"""One strategy of each name, with settings that suit the tiny backbones."""
VARIANTS: dict[str, Strategy] = {"qlora4": QLoRA(learning_rate=1e-2, rank=RANK, alpha=8.0, bits=4)}
"""Further ones, that compute otherwise than those of their name."""

_SIZES: dict[str, Any] = {
    "vocab_size": len(VOCABULARY),
    "hidden_size": HIDDEN,
    "intermediate_size": INNER,
    "num_attention_heads": HEADS,
    "num_hidden_layers": LAYERS,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "initializer_range": 0.15,
}
"""Weights are drawn wide, so that a random backbone tells its rows apart."""


def _bert(layers: int) -> Any:
    # from the masked-language model, which has no pooler: the pooler of the classifier is newly initialised
    return BertForMaskedLM(BertConfig(**{**_SIZES, "num_hidden_layers": layers}, type_vocab_size=2))


def _roberta(layers: int) -> Any:
    return RobertaForMaskedLM(RobertaConfig(**{**_SIZES, "num_hidden_layers": layers}, type_vocab_size=1))


def _distilbert(layers: int) -> Any:
    sizes = {"vocab_size": len(VOCABULARY), "dim": HIDDEN, "hidden_dim": INNER, "n_heads": HEADS, "n_layers": layers}
    return DistilBertModel(DistilBertConfig(**sizes, max_position_embeddings=64, initializer_range=0.15))


def _electra(layers: int) -> Any:
    return ElectraModel(ElectraConfig(**{**_SIZES, "num_hidden_layers": layers}, embedding_size=EMBEDDING))


def _albert(layers: int) -> Any:
    return AlbertModel(AlbertConfig(**{**_SIZES, "num_hidden_layers": layers}, embedding_size=EMBEDDING))


def _deberta(layers: int) -> Any:
    relative = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_biased_input": False}
    relative |= {"share_att_key": True, "position_buckets": BUCKETS, "norm_rel_ebd": "layer_norm"}  # as in version 3
    return DebertaV2Model(DebertaV2Config(**{**_SIZES, "num_hidden_layers": layers}, **relative, type_vocab_size=0))


def _modernbert(layers: int) -> Any:
    tokens = {"cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}
    window = {"local_attention": 8, "global_attn_every_n_layers": 2, "reference_compile": False}
    return ModernBertModel(ModernBertConfig(**{**_SIZES, "num_hidden_layers": layers}, **tokens, **window))


KV_HEADS = 2
"""Heads of keys and values where queries are grouped (Llama, Qwen3)."""
END = 3
"""Index of the token that ends a text, in decoders and encoder-decoders."""


def _gpt2(layers: int) -> Any:
    sizes = {"vocab_size": len(VOCABULARY), "n_embd": HIDDEN, "n_inner": INNER, "n_head": HEADS, "n_layer": layers}
    return GPT2LMHeadModel(
        GPT2Config(**sizes, n_positions=64, initializer_range=0.15, bos_token_id=END, eos_token_id=END)
    )


def _llama(layers: int) -> Any:
    sizes = {**_SIZES, "num_hidden_layers": layers, "num_key_value_heads": KV_HEADS, "pad_token_id": None}
    return LlamaForCausalLM(LlamaConfig(**sizes, bos_token_id=2, eos_token_id=END))


def _qwen3(layers: int) -> Any:
    sizes = {**_SIZES, "num_hidden_layers": layers, "num_key_value_heads": KV_HEADS, "pad_token_id": None}
    return Qwen3ForCausalLM(Qwen3Config(**sizes, head_dim=8, eos_token_id=END, tie_word_embeddings=True))


def _t5(layers: int) -> Any:
    sizes = {"vocab_size": len(VOCABULARY), "d_model": HIDDEN, "d_ff": INNER, "num_heads": HEADS, "d_kv": 8}
    config = T5Config(**sizes, num_layers=layers, pad_token_id=0, eos_token_id=END, decoder_start_token_id=0)
    return T5ForConditionalGeneration(config)


def _bart(layers: int) -> Any:
    sizes = {"vocab_size": len(VOCABULARY), "d_model": HIDDEN, "max_position_embeddings": 64, "init_std": 0.15}
    for part in ("encoder", "decoder"):
        sizes |= {f"{part}_layers": layers, f"{part}_ffn_dim": INNER, f"{part}_attention_heads": HEADS}
    tokens = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": END, "decoder_start_token_id": END}
    return BartForConditionalGeneration(BartConfig(**sizes, **tokens, forced_eos_token_id=END))


ENCODERS = ("bert", "roberta", "distilbert", "electra", "albert", "deberta-v2", "modernbert")
DECODERS = ("gpt2", "llama", "qwen3")
ENCODER_DECODERS = ("t5", "bart")

ARCHITECTURES: dict[str, Callable[[int], Any]] = {
    "bert": _bert,
    "roberta": _roberta,
    "distilbert": _distilbert,
    "electra": _electra,
    "albert": _albert,
    "deberta-v2": _deberta,
    "modernbert": _modernbert,
    "gpt2": _gpt2,
    "llama": _llama,
    "qwen3": _qwen3,
    "t5": _t5,
    "bart": _bart,
}
"""By `model_type`; each is saved without a classification head."""

KINDS: dict[str, tuple[str, ...]] = {
    "sequence_classification": tuple(ARCHITECTURES),
    "token_classification": tuple(a for a in ARCHITECTURES if a != "bart"),
    "question_answering": tuple(ARCHITECTURES),
    "seq2seq": ENCODER_DECODERS,
    "causal_lm": DECODERS,
}
"""Task kinds and the architectures that transformers has a head for."""


def tokenizer_for(architecture: str) -> PreTrainedTokenizerFast:
    """A WordPiece tokenizer that knows `VOCABULARY`; segment ids where the family has them.

    Decoders add no token, know one that ends a text and none that pads; encoder-decoders end each text with it.
    """
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    names = ["input_ids", "attention_mask"]
    if architecture in DECODERS:
        special = {"unk_token": "[UNK]", "eos_token": "[SEP]"}
    elif architecture in ENCODER_DECODERS:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="$A [SEP]", pair="$A $B [SEP]", special_tokens=[("[SEP]", END)]
        )
        special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "eos_token": "[SEP]"}
    else:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
        special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
        special["mask_token"] = "[MASK]"
    if architecture in ("bert", "electra", "albert"):
        names.insert(1, "token_type_ids")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_input_names=names, **special)


def save_backbone(
    folder: Path, architecture: str, layers: int = LAYERS, seed: int = 0, *, masked: bool = False
) -> Path:
    """A random backbone with its tokenizer, as a user would have it on disk; `masked`: an encoder with the head that
    finds masked tokens."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = ARCHITECTURES[architecture](layers)
        if masked:
            model = AutoModelForMaskedLM.from_config(model.config)
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):  # transformers starts biases at 0, which would hide a bias that is lost
                torch.nn.init.normal_(parameter, std=0.1)
            elif parameter.dim() == 1:  # and norms at 1
                torch.nn.init.normal_(parameter, mean=1.0, std=0.1)
    model.save_pretrained(folder)
    tokenizer_for(architecture).save_pretrained(folder)
    return folder


_PROBLEMS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "sequence_classification": ("single_label", ("a", "b", "c")),
    "token_classification": ("spans", ("O", "B-x", "I-x")),
    "question_answering": ("answers", ()),
    "seq2seq": ("text", ()),
    "causal_lm": ("completion", ()),
    "masked_lm": ("masked", ()),
}
TASK_CELLS = [(kind, architecture) for kind, every in KINDS.items() for architecture in every]
"""Every kind on every architecture that has a head for it."""
BODIES = [
    *(("sequence_classification", architecture) for architecture in ARCHITECTURES),
    ("token_classification", "t5"), ("seq2seq", "t5"), ("seq2seq", "bart"), ("causal_lm", "gpt2"),
]  # fmt: skip
"""Every architecture, and those whose head of another kind stands on other layers: for what no head decides."""


def loader_for(folder: Path, kind: str, seed: int = 0, **budget: Any) -> Loader:
    """Loads a backbone for a task kind, without data."""
    problem, labels = _PROBLEMS[kind]
    task = Task("tiny", Source("tiny", "0" * 64), kind=kind, problem=problem, labels=labels, max_length=32)
    return Loader(resolve(folder), task, Budget(**budget), seed)


def inputs_for(architecture: str, kind: str) -> dict[str, torch.Tensor]:
    """Rows of different lengths, padded, as a kind would collate them; (3, length) each."""
    tokenizer = tokenizer_for(architecture)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    texts = ["sunny word1 word2 warm", "rotten", "cold word5 kind word7 word8 word9"]
    inputs = dict(tokenizer(texts, padding=True, return_tensors="pt"))
    inputs.pop("token_type_ids", None)
    if kind == "seq2seq":
        targets = tokenizer(["warm word3", "cold", "word3 word4 word9 kind"], padding=True, return_tensors="pt")
        start = torch.full((3, 1), 0 if architecture == "t5" else END)
        inputs["decoder_input_ids"] = torch.cat([start, targets["input_ids"][:, :-1]], 1)
    return inputs


def outputs_of(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """Logits (of start and end, where answers are looked for), zero at padding."""
    out = model(**inputs)
    start = getattr(out, "start_logits", None)
    logits: torch.Tensor = out.logits if start is None else torch.stack([start, out.end_logits], -1)
    if logits.dim() == 2:
        return logits
    mask = inputs["attention_mask"]
    if "decoder_input_ids" in inputs:
        mask = (inputs["decoder_input_ids"] != 0).flip(1).cumsum(1).flip(1).clamp(max=1)
        mask[:, 0] = 1
    return logits * mask[..., None]


def moved(model: Any, std: float = 0.1) -> Any:
    """The model with everything trainable moved, as training would, so that no branch is zero."""
    generator = torch.Generator().manual_seed(5)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data + torch.randn(parameter.shape, generator=generator) * std
    return model


def adapted(folder: Path, data: Data, strategy: Strategy, **choices: Any) -> Adapted:
    """A model moved far from where its strategy starts, as by a long training, without the seconds of that."""
    run, rows, source = assemble(folder, data, strategy, device="cpu", **choices)
    loader = Loader(source, run.task, run.budget, run.seed)
    kind = KINDS_OF_TASKS[run.task.kind](run.task, loader.tokenizer())
    kind.fit(kind.encode(rows.splits["train"], split="train"))
    torch.manual_seed(run.seed)
    model = run.strategy.build(loader, run.task)
    kind.start(model)
    release(model)
    return Adapted(Fitted(moved(model).eval(), kind, loader.tokenizer(), loader), run, source, None)


def without_dropout(model: torch.nn.Module) -> Any:
    """The model with every dropout switched off, that of its head too."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model


def _texts(rows: int, rng: random.Random) -> tuple[list[str], list[int]]:
    texts, labels = [], []
    for i in range(rows):
        words = rng.choices(FILL, k=rng.randint(2, 10))
        words.insert(rng.randint(0, len(words)), rng.choice((BAD, GOOD)[i % 2]))
        texts.append(" ".join(words))
        labels.append(i % 2)
    return texts, labels


def classification(rows: int = 48, held_out: int = 16, seed: int = 0) -> Data:
    """A word of praise or of blame somewhere among others."""
    rng = random.Random(seed)
    parts = {"train": rows, "validation": held_out, "test": held_out}
    return adapt.data.load({name: _named(*_texts(n, rng)) for name, n in parts.items()}, name="words")


def _named(texts: list[str], labels: list[int]) -> tuple[list[str], list[str]]:
    return texts, [("blame", "praise")[label] for label in labels]


def pairs(rows: int = 48, held_out: int = 16) -> Data:
    """Whether two texts are of one kind."""
    rng = random.Random(1)

    def part(n: int) -> tuple[list[tuple[str, str]], list[str]]:
        both, same = [], []
        for i in range(n):
            (one, two), (a, b) = _texts(2, rng)
            other = rng.choice((BAD, GOOD)[a if i % 2 else b])
            both.append((one, f"{two.split()[0]} {other}"))
            same.append("same" if i % 2 else "other")
        return both, same

    return adapt.data.load({"train": part(rows), "validation": part(held_out), "test": part(held_out)}, name="pairs")


def multi_label(rows: int = 48, held_out: int = 16) -> Data:
    """Three words of which any number is there."""
    rng = random.Random(2)

    def part(n: int) -> tuple[list[str], list[list[str]]]:
        labels = [[word for bit, word in enumerate(("cold", "kind", "warm")) if (i % 8) >> bit & 1] for i in range(n)]
        texts = []
        for chosen in labels:
            words = [*chosen, *rng.choices(FILL, k=rng.randint(2, 8))]
            rng.shuffle(words)
            texts.append(" ".join(words))
        return texts, labels

    return adapt.data.load(
        {"train": part(rows), "validation": part(held_out), "test": part(held_out)}, name="many", problem="multi_label"
    )


def regression(rows: int = 48, held_out: int = 16) -> Data:
    """How many words of praise, as a number far from 0 and 1."""
    rng = random.Random(3)

    def part(n: int) -> tuple[list[str], list[float]]:
        texts, values = [], []
        for i in range(n):
            words = rng.choices(GOOD, k=i % 4) + rng.choices(FILL, k=4)
            rng.shuffle(words)
            texts.append(" ".join(words))
            values.append(200.5 + 50 * (i % 4))
        return texts, values

    return adapt.data.load({"train": part(rows), "validation": part(held_out), "test": part(held_out)}, name="degree")


TASKS: dict[str, Callable[[], Data]] = {
    "single_label": classification,
    "pairs": pairs,
    "multi_label": multi_label,
    "regression": regression,
}
"""Synthetic tasks that a tiny model can learn."""
