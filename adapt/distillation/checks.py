"""Whether a teacher can teach a student: said before anything is predicted or trained."""

from __future__ import annotations

from typing import Any

from adapt.adapted import Adapted
from adapt.backbones.classes import LANGUAGE_MODELS
from adapt.backbones.families import positions_of
from adapt.data import Data
from adapt.data.table import column_of
from adapt.distillation.unlabelled import AS_LABELS
from adapt.options import plain
from adapt.spec import OptionError, Run, Teacher, Unsupported, texts_in_words
from adapt.tasks import KINDS
from adapt.tasks.tokens import frame

_TEMPERATURES = (0.1, 100.0)
"""Least and most: below, next to no gradient is left of logits that differ; above, the divergence of two distributions
that are both nearly uniform is lost in the rounding of float32."""


def how_of(temperature: Any, weight: Any, unlabelled: Any = None) -> tuple[float, float]:
    """How a teacher teaches: temperature and weight.

    Raises:
        OptionError: One of them is out of range, or nothing would be learnt from the teacher.
    """
    temperature, weight = plain(temperature), plain(weight)
    least, most = _TEMPERATURES
    if not (isinstance(temperature, int | float) and least <= temperature <= most):
        raise OptionError(f"temperature is {temperature}; give a number from {least:g} to {most:g}.")
    if not (isinstance(weight, int | float) and 0 <= weight <= 1):
        raise OptionError(f"weight is {weight}; give a number from 0 to 1.")
    if weight == 0 and unlabelled is None:
        raise OptionError("weight is 0, with which the teacher teaches nothing; raise it, or give unlabelled rows.")
    return float(temperature), float(weight)


def check_softens(temperature: float, weight: float, run: Run) -> None:
    """
    Raises:
        OptionError: A temperature is given, and there are no distributions that it could soften.
    """
    if temperature != Teacher.temperature and (weight == 0 or run.task.problem == "regression"):
        why = "weight is 0" if weight == 0 else "the teacher's numbers are compared as they are"
        raise OptionError(f"temperature is {temperature:g}, and there is nothing to soften, for {why}; leave it out.")


def check_same_task(teacher: Adapted, run: Run) -> None:
    """
    Raises:
        OptionError: The teacher was trained for something else than the student is to learn, or for nothing, so that
            its head is a random one.
    """
    its, own = teacher.run.task, run.task
    pretrained = its.kind in LANGUAGE_MODELS and not teacher.fitted.model.fresh_names
    if teacher.run.strategy.learning_rate is None and not pretrained:
        raise OptionError(
            f"The teacher's strategy, '{teacher.run.strategy.name}', trains nothing, so that its head for {its.kind} "
            "knows nothing of the task; give a teacher that was trained."
        )
    for what, theirs, ours in (("kind", its.kind, own.kind), ("problem", its.problem, own.problem)):
        if theirs != ours:
            raise OptionError(
                f"The teacher was trained for {what} {theirs}, and the data are for {ours}; give another."
            )
    if its.pair != own.pair:
        one, other = map(texts_in_words, (its.pair, own.pair))
        raise OptionError(f"The teacher was trained on {one}, and the data are {other}; give another teacher.")
    unknown = sorted(set(own.labels) - set(its.labels))
    if unknown:
        raise OptionError(
            f"The data, or a model to start from, have classes that the teacher does not know "
            f"({', '.join(unknown[:5])}); give a teacher that was trained on all of theirs."
        )


def check_knows_none(teacher: Adapted, data: Data) -> None:
    """
    Raises:
        OptionError: The data have questions without an answer, and the teacher was trained on none, so that it takes
            some part of every context for one.
    """
    train, known = data.splits["train"], teacher.fitted.kind.state().get("unanswerable")
    if known == 0 and not all(column_of(train, "answer_texts")):
        raise OptionError(
            "The data have questions without an answer, and the teacher was trained on none; give a teacher that was "
            "trained on some."
        )


def check_reads_alike(teacher: Adapted, run: Run, data: Data, tokenizer: Any) -> None:
    """A language model's teacher reads the very tokens that its student reads, beside it.

    Args:
        teacher: Trained for the same task.
        run: The student's.
        data: The student's.
        tokenizer: The student's.

    Raises:
        Unsupported: The two tokenizers do not number the same tokens alike.
        OptionError: The teacher reads rows in another form, has too few positions, or is on another device.
    """
    its = teacher.fitted.tokenizer
    theirs, own = its.get_vocab(), tokenizer.get_vocab()
    if theirs != own:
        advice = "give a teacher that has the student's tokenizer"
        if run.task.kind in AS_LABELS:
            advice = "have it write texts to learn from: weight=0 and unlabelled prompts or sources"
        raise Unsupported(
            f"the teacher's vocabulary ({len(theirs):,} tokens) is not the student's ({len(own):,}), so that they "
            f"cannot be compared token by token; {advice}"
        )
    before, now = (KINDS[task.kind].options_of(task) for task in (teacher.run.task, run.task))
    for name in KINDS[run.task.kind].form:
        if getattr(before, name) != getattr(now, name):
            raise OptionError(
                f"The teacher was trained with {name} {getattr(before, name)!r}, and the student is to be with "
                f"{getattr(now, name)!r}; give the student the teacher's (--set task.{name}=...)."
            )
    learnt = [role for role in ("messages", "prompt", "text") if role in teacher.columns]
    columns = data.splits["train"].column_names
    conversed = "messages" in columns
    if learnt and ("messages" in learnt) != conversed:
        one, other = ("prompts", "conversations") if conversed else ("conversations", "prompts")
        raise OptionError(
            f"The teacher was trained on {one}, and the student's rows are {other}, so that they do not read the same "
            f"tokens; give the student {one}, or take weight=0 with unlabelled rows."
        )
    if conversed and its.chat_template != tokenizer.chat_template:
        raise OptionError(
            "The chat template of the student's tokenizer is not that of the teacher's; save the teacher's with the "
            "student's tokenizer, or take weight=0 with unlabelled conversations."
        )
    positions = positions_of(teacher.backbone.config)
    for name, length in (
        ("max_length", run.task.max_length),
        ("max_target_length", getattr(now, "max_target_length", 0)),
    ):
        if length > positions:
            raise OptionError(f"{name} is {length}, and the teacher has positions for {positions} tokens; lower it.")
    kinds = teacher.fitted.kind, KINDS[run.task.kind](run.task, tokenizer)
    ends = [kind.end_of(columns) for kind in kinds]
    if ends[0] != ends[1]:
        one, other = (
            "none" if end is None else kind.tokenizer.convert_ids_to_tokens(end)
            for kind, end in zip(kinds, ends, strict=True)
        )
        raise OptionError(
            f"The teacher ends texts with the token {one}, and the student is to end them with {other}; train a "
            "teacher with the student's tokenizer."
        )
    if not ("messages" in columns and tokenizer.chat_template):  # which writes what conversations begin with
        begins = [frame(kind.tokenizer)[0] for kind in kinds]
        if begins[0] != begins[1]:
            raise OptionError(
                "The teacher's tokenizer puts other tokens before a text than the student's; train a teacher with the "
                "student's tokenizer."
            )
    place = next(teacher.fitted.model.parameters()).device.type
    if place != run.budget.device:
        raise OptionError(
            f"The teacher is on device '{place}', and the student is to be trained on '{run.budget.device}'; load the "
            "teacher there: adapt.load(folder, device=...)."
        )
