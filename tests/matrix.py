"""What the matrix of contracts spans; read by the tests, and by what makes the README's table of support.

A cell is a strategy, an architecture, a task, a pooling and the kernel of attention. `tests/test_contracts.py` holds
each cell to the contracts.
"""

from __future__ import annotations

from typing import NamedTuple

STRATEGIES = ("full", "head", "lora", "bottleneck", "prefix", "qlora")
ENCODERS = ("bert", "roberta", "distilbert", "electra", "albert", "deberta-v2", "modernbert")
DECODERS = ("gpt2", "llama", "qwen3")
TASKS = {
    "single_label": "sequence_classification",
    "pairs": "sequence_classification",
    "multi_label": "sequence_classification",
    "regression": "sequence_classification",
    "spans": "token_classification",
    "tags": "token_classification",
    "answers": "question_answering",
    "text": "seq2seq",
    "completion": "causal_lm",
    "messages": "causal_lm",
    "masked": "masked_lm",
}
"""Tiny task (`tests/tiny_tasks.py`) to its kind."""

_BASIC = ("single_label", "spans", "answers")
TASKS_OF = {
    **dict.fromkeys(ENCODERS, (*_BASIC, "masked")),
    **dict.fromkeys(DECODERS, (*_BASIC, "completion")),
    "t5": (*_BASIC, "text"),
    "bart": ("single_label", "answers", "text"),
}
"""Architecture to one task of each kind for which transformers has a head."""

MORE = {"bert": ("pairs", "multi_label", "regression", "tags"), "llama": ("messages",)}
"""Further tasks of some architectures."""
MEAN_POOLED = ("bert", "electra", "modernbert")
SDPA = (("bert", "single_label"), ("modernbert", "spans"), ("llama", "completion"), ("t5", "text"), ("bart", "answers"))
"""Architectures and tasks that are held to the contracts under that kernel, too."""
FOUR_BITS = (("bert", "single_label"), ("llama", "completion"), ("t5", "text"))
"""Architectures and tasks that are held to the contracts in 4 bits, too."""


class Cell(NamedTuple):
    """One place of the matrix."""

    strategy: str
    architecture: str
    task: str
    pooling: str = "native"
    attention: str = "eager"
    """As for short rows on CPUs; `sdpa`: as for long ones, and on GPUs."""

    @property
    def quantised(self) -> bool:
        """Whether the backbone's weights are held in 8 bits, or in 4."""
        return self.strategy in ("qlora", "qlora4")

    @property
    def kind(self) -> str:
        """The task's kind."""
        return TASKS[self.task]

    def __str__(self) -> str:
        return "-".join(part for part in self if part != "eager")


CELLS = [
    *(Cell(s, a, t) for a, tasks in TASKS_OF.items() for t in (*tasks, *MORE.get(a, ())) for s in STRATEGIES),
    *(Cell(s, a, "single_label", "mean") for a in MEAN_POOLED for s in STRATEGIES),
    *(Cell(s, "bert", "pairs", "mean") for s in STRATEGIES),
    *(Cell(s, a, t, attention="sdpa") for a, t in SDPA for s in STRATEGIES),
    *(Cell("qlora4", a, t) for a, t in FOUR_BITS),
]
NOT_CHECKPOINTED = ("albert",)
"""Architectures for which transformers has no gradient checkpointing."""
NO_HEAD = [
    *((a, t) for a in ENCODERS for t in ("text",)),
    *((a, t) for a in DECODERS for t in ("text", "masked")),
    *((a, "completion") for a in ("t5",)),
    ("bart", "spans"),
]
"""Architecture and task for which transformers has no head."""
