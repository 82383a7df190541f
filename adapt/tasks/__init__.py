"""Task kinds: how rows become tensors, what the loss is, how outputs are decoded and scored."""

from __future__ import annotations

from adapt.tasks.causal_lm import CausalLM
from adapt.tasks.kind import Example, Kind, Lesson
from adapt.tasks.masked_lm import MaskedLM
from adapt.tasks.question_answering import QuestionAnswering
from adapt.tasks.seq2seq import Seq2Seq
from adapt.tasks.sequence_classification import SequenceClassification
from adapt.tasks.token_classification import TokenClassification

KINDS: dict[str, type[Kind]] = {
    "sequence_classification": SequenceClassification,
    "token_classification": TokenClassification,
    "question_answering": QuestionAnswering,
    "seq2seq": Seq2Seq,
    "causal_lm": CausalLM,
    "masked_lm": MaskedLM,
}
"""Task kinds by name."""

__all__ = [
    "KINDS", "CausalLM", "Example", "Kind", "Lesson", "MaskedLM", "QuestionAnswering", "Seq2Seq",
    "SequenceClassification", "TokenClassification",
]  # fmt: skip
