"""The forms that labelled text comes in, one file for each task kind."""

from __future__ import annotations

from adapt.data.forms import (
    causal_lm,
    masked_lm,
    question_answering,
    seq2seq,
    sequence_classification,
    token_classification,
)
from adapt.data.forms.form import Columns, Form, Wishes

FORMS: dict[str, Form] = {
    "sequence_classification": sequence_classification.FORM,
    "token_classification": token_classification.FORM,
    "question_answering": question_answering.FORM,
    "causal_lm": causal_lm.FORM,
    "seq2seq": seq2seq.FORM,
    "masked_lm": masked_lm.FORM,
}
"""Forms by task kind; where the kind is not given, the first after sequence classification that fits is it."""

__all__ = ["FORMS", "Columns", "Form", "Wishes"]
