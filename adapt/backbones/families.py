"""Where the parts of each architecture family are: names that no configuration tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from adapt.spec import Unsupported

if TYPE_CHECKING:
    from torch import nn


_AFTER_PADDING = frozenset({
    "roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "camembert", "data2vec-text", "ibert",
    "longformer", "luke", "markuplm", "mpnet", "xmod",
})  # fmt: skip
"""Families that number tokens from the padding index + 1, so that the positions before are never a token's."""


_FLOAT32_ALONE = {
    "deberta": "masks attention with a number that bfloat16 has not",
    "fnet": "mixes tokens by transforms that are in float32",
}
"""Families that cannot be trained in bfloat16 under every strategy, and why."""


def check_precision(model_type: str, precision: str) -> None:
    """
    Raises:
        Unsupported: The family cannot be trained in that precision.
    """
    if precision == "bf16" and model_type in _FLOAT32_ALONE:
        raise Unsupported(f"'{model_type}' {_FLOAT32_ALONE[model_type]}; use precision fp32 (--precision fp32)")


def least_tokens(config: Any) -> int:
    """Tokens that a batch must be long at the least, its padding included.

    Funnel halves its positions before each block but the first, and fails where too few are left to be halved.
    """
    if config.model_type != "funnel" or config.attention_type != "relative_shift" or len(config.block_sizes) < 2:
        return 1
    return int(1 + 2 ** (len(config.block_sizes) - (1 if config.separate_cls else 2)))


def attend_to_all(config: Any) -> int | None:
    """Have BigBird attend to all tokens, as transformers' class does for good from the first short batch on.

    Its sparse attention would make what it computes of a long row depend on the batches before, and on their padding.

    Args:
        config: Changed in place, where a model made of it would attend to blocks.

    Returns:
        The tokens up to which it would attend to all anyway; None: it does whatever their number.
    """
    if getattr(config, "attention_type", None) != "block_sparse":
        return None
    config.attention_type = "original_full"
    return int((5 + 2 * config.num_random_blocks) * config.block_size)


_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
"""What configurations call their numbers of experts."""


def computes_by_row(config: Any) -> bool:
    """Whether what a model makes of a row is the same to the last bit whichever rows are beside it, as far as the sizes
    of its products decide that: not where it multiplies windows of all rows at once, or the tokens of an expert."""
    parts = [part for part in (config, getattr(config, "ffn_config", None)) if part is not None]  # the second is DBRX's
    counts = [getattr(part, name, None) or 0 for part in parts for name in _EXPERTS]
    apart = all(isinstance(count, int) and count < 2 for count in counts)
    return apart and not getattr(config, "attention_window", None)


def check_length(least: int, base: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Called before the forward pass of a pretrained part.

    Raises:
        Unsupported: The batch is shorter than `least` tokens.
    """
    ids = kwargs.get("input_ids", args[0] if args else None)
    if ids is not None and ids.shape[1] < least:
        raise Unsupported(
            f"'{base.config.model_type}' reads no batch of fewer than {least} tokens, and one has {ids.shape[1]}; "
            "leave out the texts that are so short, or use another backbone"
        )


@dataclass(frozen=True)
class Family:
    """Module names inside one transformer layer, as suffixes of the full names."""

    query_value: tuple[str, ...]
    """Query and value projections (one module where they are fused), of self- and cross-attention."""
    attention_outputs: tuple[str, ...]
    """Projections whose output is added to the residual after attention, self- and cross-attention."""
    feed_forward_outputs: tuple[str, ...]
    """Projections whose output is added to the residual after the feed-forward block."""
    last_norm: str | None = None
    """Norm of that sum; None where layers norm their inputs instead."""


_BERT = Family(
    ("attention.self.query", "attention.self.value"), ("attention.output.dense",), ("output.dense",), "output.LayerNorm"
)
_DEBERTA = replace(_BERT, query_value=("attention.self.query_proj", "attention.self.value_proj"))
_LLAMA = Family(("self_attn.q_proj", "self_attn.v_proj"), ("self_attn.o_proj",), ("mlp.down_proj",))
_T5 = Family(
    ("SelfAttention.q", "SelfAttention.v", "EncDecAttention.q", "EncDecAttention.v"),
    ("SelfAttention.o", "EncDecAttention.o"),
    ("DenseReluDense.wo",),
)
_BART = Family(
    ("self_attn.q_proj", "self_attn.v_proj", "encoder_attn.q_proj", "encoder_attn.v_proj"),
    ("self_attn.out_proj", "encoder_attn.out_proj"),
    ("fc2",),
    "final_layer_norm",
)

FAMILIES: dict[str, Family] = {
    "bert": _BERT,
    "roberta": _BERT,
    "xlm-roberta": _BERT,
    "camembert": _BERT,
    "electra": _BERT,
    "deberta-v2": _DEBERTA,
    "distilbert": Family(
        ("attention.q_lin", "attention.v_lin"), ("attention.out_lin",), ("ffn.lin2",), "output_layer_norm"
    ),
    "albert": Family(
        ("attention.query", "attention.value"), ("attention.dense",), ("ffn_output",), "full_layer_layer_norm"
    ),
    "modernbert": Family(("attn.Wqkv",), ("attn.Wo",), ("mlp.Wo",)),
    "gpt2": Family(("attn.c_attn",), ("attn.c_proj",), ("mlp.c_proj",)),
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "t5": _T5,
    "mt5": _T5,
    "bart": _BART,
    "mbart": replace(_BART, last_norm=None),
}
"""By `model_type`."""


def family_of(model_type: str) -> Family:
    """The family's names.

    Raises:
        Unsupported: The family is not listed.
    """
    if model_type not in FAMILIES:
        raise Unsupported(
            f"the layers of architecture '{model_type}' are not known; known are {', '.join(sorted(FAMILIES))}"
        )
    return FAMILIES[model_type]


def is_projection(module: Any) -> bool:
    """Whether a module is a linear layer: torch's own (quantised too), or GPT-2's, whose weight is transposed."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, nn.Linear | Conv1D)


def residual_projections(base: nn.Module) -> tuple[list[str], list[str]]:
    """Names of the projections that end the attentions, and of those that end the feed-forward blocks.

    Raises:
        Unsupported: The family is not known, or there are not as many as the layers have.
    """
    config: Any = base.config
    family = family_of(config.model_type)
    names = [name for name, module in base.named_modules() if is_projection(module)]
    attention = [name for name in names if _ends(name, family.attention_outputs)]
    # "output.dense" also ends "attention.output.dense"
    feed_forward = [name for name in names if _ends(name, family.feed_forward_outputs) and name not in attention]
    for what, found, expected in zip(
        ("attentions", "feed-forward blocks"), (attention, feed_forward), _blocks(base), strict=True
    ):
        if len(found) != expected:
            raise Unsupported(f"the outputs of {len(found)} of {expected} {what} of '{config.model_type}' were found")
    return attention, feed_forward


def end_of_layer(base: nn.Module, projection: str) -> tuple[str, str | None]:
    """Names of the module that gives the residual sum after a feed-forward block, and of the norm within it that this
    sum goes through; None where layers norm their inputs instead.

    Args:
        base: Of a known family.
        projection: Name of the block's last projection, as `residual_projections` gives it.
    """
    family = family_of(base.config.model_type)  # type: ignore[union-attr,arg-type]
    ending = next(each for each in family.feed_forward_outputs if _ends(projection, (each,)))
    around = projection.removesuffix(f".{ending}")
    return around, None if family.last_norm is None else f"{around}.{family.last_norm}"


def _blocks(base: nn.Module) -> tuple[int, int]:
    """Attentions and feed-forward blocks, by the configuration; layers that share weights count once."""
    config: Any = base.config
    groups = getattr(config, "num_hidden_groups", None)
    if groups is not None:
        layers = int(groups) * int(getattr(config, "inner_group_num", 1))
        return layers, layers
    encoder = int(getattr(config, "encoder_layers", config.num_hidden_layers))
    if not (hasattr(base, "encoder") and hasattr(base, "decoder")):
        return encoder, encoder
    decoder = int(getattr(config, "decoder_layers", getattr(config, "num_decoder_layers", 0)))
    return encoder + 2 * decoder, encoder + decoder  # the decoder attends to itself and to the encoder


def _ends(name: str, endings: tuple[str, ...]) -> bool:
    return any(name.endswith("." + ending) for ending in endings)


_POSITIONS = ("max_position_embeddings", "max_encoder_position_embeddings", "max_decoder_position_embeddings")
_WITHIN = ("text_config", "encoder", "decoder")
"""Where the configuration of a model of several parts has those that read texts."""


def positions_of(config: Mapping[str, Any]) -> int:
    """Tokens that a backbone has positions for, by the values of its configuration; of several parts the fewest."""
    found = [config.get(name) for name in _POSITIONS]
    # T5's n_positions are relative alone, MPNet's both
    if found[0] is None and "relative_attention_num_buckets" not in config:
        found.append(config.get("n_positions"))
    family, unused = config.get("model_type"), 0
    if family in _AFTER_PADDING or (family == "esm" and config.get("position_embedding_type") == "absolute"):
        padding = config.get("pad_token_id") if family != "mpnet" else None  # which has 1, whatever the token is
        unused = 2 if padding is None else padding + 1
    counts = [count - unused for count in found if isinstance(count, int) and count > 0]
    parts = [positions_of(config[name]) for name in _WITHIN if isinstance(config.get(name), Mapping)]
    return min([*counts, *parts], default=10**9)
