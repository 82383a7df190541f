"""Where the parts of each architecture family are: names that no configuration tells."""

from __future__ import annotations

from dataclasses import dataclass

from adapt.spec import Unsupported


@dataclass(frozen=True)
class Family:
    """Module names inside one transformer layer, as suffixes of the full names."""

    query_value: tuple[str, ...]
    """Query and value projections (one module where they are fused)."""
    attention_output: str
    """Projection whose output is added to the residual after attention."""
    feed_forward_output: str
    """Projection whose output is added to the residual after the feed-forward block."""


_BERT = Family(("attention.self.query", "attention.self.value"), "attention.output.dense", "output.dense")
_DEBERTA = Family(("attention.self.query_proj", "attention.self.value_proj"), "attention.output.dense", "output.dense")

FAMILIES: dict[str, Family] = {
    "bert": _BERT,
    "roberta": _BERT,
    "xlm-roberta": _BERT,
    "camembert": _BERT,
    "electra": _BERT,
    "deberta-v2": _DEBERTA,
    "distilbert": Family(("attention.q_lin", "attention.v_lin"), "attention.out_lin", "ffn.lin2"),
    "albert": Family(("attention.query", "attention.value"), "attention.dense", "ffn_output"),
    "modernbert": Family(("attn.Wqkv",), "attn.Wo", "mlp.Wo"),
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
