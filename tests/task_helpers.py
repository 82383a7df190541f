"""Tokenizers, tiny random models and tasks for the tests of task kinds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers import decoders as token_decoders
from transformers import PreTrainedTokenizerFast

from adapt.spec import Source, Task
from adapt.tasks import KINDS, Example, Kind

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[BOS]"]
_TEXT = """
anna saw bob in paris on monday while the cat sat there and who what where is a red big old tree house
play walk sing ##ing ##ed ##s . , ? : x
"""
WORDS = _TEXT.split()
SENTENCE = "anna saw bob in paris on monday while the cat sat there"
SIZES: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}


def wordpiece(*, cls: bool = True, side: str = "right", single: str | None = None) -> PreTrainedTokenizerFast:
    """A few lower-case words and endings; `[CLS]` and `[SEP]` around, or (`single`) another frame."""
    vocabulary = {word: i for i, word in enumerate([*SPECIAL, *WORDS])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)  # leaves out control characters
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = token_decoders.WordPiece()
    ids = [("[CLS]", 2), ("[SEP]", 3), ("[BOS]", 4)]
    if single is not None:
        tokenizer.post_processor = processors.TemplateProcessing(single=single, pair="$A $B", special_tokens=ids)
    elif cls:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ids
        )
    special = {"cls_token": "[CLS]", "sep_token": "[SEP]"} if cls else {"eos_token": "[SEP]", "bos_token": "[BOS]"}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", padding_side=side,
        model_input_names=["input_ids", "attention_mask"], **special,
    )  # fmt: skip


def byte_level(kind: str = "gpt2", *, side: str = "right") -> PreTrainedTokenizerFast:
    """Byte-level BPE: `gpt2` (no space before the first word), `roberta` (one, and `[CLS]`), `llama3` (words split by
    a pattern before their bytes are looked at)."""
    tokenizer = Tokenizer(models.BPE())
    whole = pre_tokenizers.ByteLevel(add_prefix_space=kind == "roberta")
    parted = pre_tokenizers.Sequence([
        pre_tokenizers.Split(pattern=r" ?\w+|[^\w\s]+|\s+", behavior="isolated", invert=False),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])  # fmt: skip
    tokenizer.pre_tokenizer = whole
    tokenizer.decoder = token_decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330, special_tokens=["<pad>", "<end>", "<s>", "</s>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    tokenizer.train_from_iterator([SENTENCE, "the red house and the old tree", "who saw the cat ?"] * 5, trainer)
    if kind == "llama3":
        tokenizer.pre_tokenizer = parted
    special: dict[str, str] = {"eos_token": "<end>", "bos_token": "<end>"}
    if kind == "roberta":
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 2), ("</s>", 3)]
        )
        special = {"cls_token": "<s>", "sep_token": "</s>", "eos_token": "</s>", "bos_token": "<s>"}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", padding_side=side,
        model_input_names=["input_ids", "attention_mask"], **special,
    )  # fmt: skip


def byte_fallback() -> PreTrainedTokenizerFast:
    """As Llama-2's: a space before the first word, alone where no piece begins with it; bytes of unknown characters."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *"▁thecat12", "▁t", "▁th", "▁the"]
    tokenizer = Tokenizer(
        models.BPE(
            {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}, [("▁", "t"), ("▁t", "h"), ("▁th", "e")],
            unk_token="<unk>", byte_fallback=True, fuse_unk=True,
        )
    )  # fmt: skip
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = token_decoders.Sequence([
        token_decoders.Replace("▁", " "), token_decoders.ByteFallback(), token_decoders.Fuse(),
        token_decoders.Strip(" ", 1, 0),
    ])  # fmt: skip
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="</s>"
    )


_CONFIGS: dict[str, Callable[[Any], Any]] = {
    "Bert": lambda ids: transformers.BertConfig(**SIZES, **ids, max_position_embeddings=96),
    "GPT2": lambda ids: transformers.GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=96, **ids),
    "Llama": lambda ids: transformers.LlamaConfig(**SIZES, **ids, max_position_embeddings=96),
    "T5": lambda ids: transformers.T5Config(
        d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, decoder_start_token_id=0, **ids
    ),
    "Bart": lambda ids: transformers.BartConfig(
        d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4,
        encoder_ffn_dim=48, decoder_ffn_dim=48, max_position_embeddings=96, decoder_start_token_id=ids["eos_token_id"],
        forced_eos_token_id=ids["eos_token_id"], **ids,
    ),
}  # fmt: skip


def model(name: str, head: str, tokenizer: Any, labels: int = 2) -> Any:
    """A random model such as `BertForTokenClassification`, in eval mode; weights are wide, so that rows differ."""
    torch.manual_seed(7)
    end = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.sep_token_id
    bos = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else end
    ids = {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": end,
        "bos_token_id": bos,
    }
    config = _CONFIGS[name](ids)
    config.num_labels = labels
    made = getattr(transformers, f"{name}For{head}")(config)
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.25)
    return made.eval()


def multilingual(name: str) -> tuple[Any, Any]:
    """A tokenizer that tags its texts with their language, and a model that reads them."""
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "▁", "a", "b", "▁a", "▁b"]
    tokens: Any = (
        transformers.NllbTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[("▁", "a"), ("▁", "b")])
        if name == "M2M100"
        else {"MBart": transformers.MBartTokenizer, "MBart50": transformers.MBart50Tokenizer}[name](
            vocab=[(p, -1.0) for p in pieces]
        )
    )
    torch.manual_seed(3)
    config = transformers.MBartConfig if name.startswith("MBart") else transformers.M2M100Config
    cls = (
        transformers.MBartForConditionalGeneration
        if name.startswith("MBart")
        else transformers.M2M100ForConditionalGeneration
    )
    net = cls(config(
        vocab_size=len(tokens), d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=48, decoder_ffn_dim=48, max_position_embeddings=64,
        pad_token_id=1, bos_token_id=0, eos_token_id=2, decoder_start_token_id=2, init_std=0.5,
    ))  # fmt: skip
    return tokens, net.eval()


def kind(name: str, tokenizer: Any, problem: Any, metric: str, *, labels: Sequence[str] = (), length: int = 64,
         **options: Any) -> Any:  # fmt: skip
    """A task kind bound to a task with these options."""
    task = Task("t", Source("t", "0" * 64), kind=name, problem=problem, labels=tuple(labels), metric=metric,
                max_length=length, options=options)  # fmt: skip
    return KINDS[name](task, tokenizer)


@torch.no_grad()
def outputs(bound: Kind, net: Any, examples: Sequence[Example], *, final: bool = True) -> list[Any]:
    """Outputs of all examples in one batch."""
    return bound.outputs(net, bound.collate(examples), final=final)


@torch.no_grad()
def scores_by_transformers(net: Any, batch: dict[str, torch.Tensor]) -> dict[str, Any]:
    """A language model's loss and perplexity by transformers, to be compared with."""
    loss = float(net(**{name: batch[name] for name in ("input_ids", "attention_mask", "labels")}).loss)
    return {"loss": pytest.approx(loss, rel=1e-5), "perplexity": pytest.approx(math.exp(loss), rel=1e-4)}


def one_by_one(bound: Kind, net: Any, examples: Sequence[Example]) -> list[Any]:
    """Outputs of the examples, each alone."""
    return [outputs(bound, net, [example])[0] for example in examples]


@torch.no_grad()
def greedy(net: Any, ids: list[int], new: int, end: int, begin: list[int] | None = None) -> list[int]:
    """The most likely tokens by a plain loop without cache; `begin`: the decoder's first tokens, for which `ids` are
    the source."""
    made: list[int] = []
    while len(made) < new:
        if begin is None:
            logits = net(input_ids=torch.tensor([ids + made])).logits
        else:
            logits = net(input_ids=torch.tensor([ids]), decoder_input_ids=torch.tensor([begin + made])).logits
        made.append(int(logits[0, -1].argmax()))
        if made[-1] == end:
            return made[:-1]
    return made
