"""`adapt.distill`: fit a student that has a teacher."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from adapt.adapted import Adapted, begun
from adapt.backbones.exhausted import give_back
from adapt.display import AskedBar, steps_shown
from adapt.distillation.checks import how_of
from adapt.distillation.said import OnAsked, said_of
from adapt.distillation.teaching import teaching_of
from adapt.inputs import drawn
from adapt.options import shows_choices
from adapt.run import OnStep, fit
from adapt.spec import OptionError, Strategy, Teacher


@shows_choices
def distill(
    teacher: Adapted | str | Path,
    backbone: str | Path,
    data: Any,
    strategy: Strategy | str = "full",
    *,
    kind: str | None = None,
    unlabelled: Any = None,
    columns: Mapping[str, str] | None = None,
    temperature: float = Teacher.temperature,
    weight: float = Teacher.weight,
    seed: int = 0,
    general: Any = None,
    progress: bool = True,
    on_step: OnStep | None = None,
    on_asked: OnAsked = lambda done, total: None,
    **choices: Any,
) -> Adapted:
    """Adapt a backbone to data and to what a teacher says of them; the public `adapt.distill`.

    The loss is (1 - weight) times that of the labels, plus weight times temperature squared times the KL divergence of
    the student's distribution from the teacher's, both softened by the temperature (Hinton et al. 2015, "Distilling the
    Knowledge in a Neural Network", section 2): over classes, over the tags of each word, over the first and last token
    of an answer, over the next token or a masked one. For regression it is weight times the squared difference from
    the teacher's number. Scores are those of the true labels.

    Args:
        teacher: What `adapt.fit` or `adapt.load` gave, or the folder of a saved model. It was trained for the same kind
            of task and all classes of the data, on whatever data, backbone and strategy. Further classes that it knows
            are the student's, too.
        backbone: Of the student, as for `adapt.fit`.
        data: The labelled rows, as for `adapt.fit`.
        strategy: Of the student.
        kind: As for `adapt.fit`.
        unlabelled: Further rows for training without labels, in any form that can be predicted: the teacher's
            predictions stand for their labels.
        columns: What a column of these is for to its name.
        temperature: From 0.1 to 100. Where it is high, what the teacher thinks of the classes that it does not choose
            counts for more.
        weight: From 0 to 1; 0 with rows without labels: the teacher's predictions alone are learnt from.
        seed: As for `adapt.fit`, and `general`, `progress`, `on_step` and `choices` too.
        on_asked: Told how many rows the teacher has been asked about, and about how many it will be.

    Raises:
        OptionError: The teacher is for another task, the strategy trains nothing, or an option cannot be used.
        Unsupported: A language model's teacher has another vocabulary.
        AdaptError: Bad input, as for `adapt.fit`.
    """
    temperature, weight = how_of(temperature, weight, unlabelled)
    run, inputs = begun(backbone, data, strategy, kind=kind, seed=seed, general=general, **choices)
    if run.strategy.learning_rate is None:
        raise OptionError(f"'{run.strategy.name}' trains nothing, so that nobody learns; give another strategy.")
    drawn(run, inputs.data)  # what a class has too few rows for is found before the teacher labels any
    with closing(AskedBar(sys.stderr if progress else None, inputs.data.name, on_asked)) as asked:
        ask = partial(said_of, on_asked=asked)
        teaching = teaching_of(
            teacher, run, inputs.data, inputs.backbone, temperature=temperature, weight=weight, unlabelled=unlabelled,
            columns=columns, ask=ask,
        )  # fmt: skip
        run = teaching.student(run)
        learnt = teaching.learnt(run)
        lessons = teaching.lessons([run], inputs.backbone, ask=ask)
        inputs = replace(inputs, data=teaching.data, encoded_by=lessons.encode)
    del teaching  # and the teacher, if it was loaded here and need not be asked any more
    give_back(run.budget.device)
    with steps_shown(run.strategy.name, on_step, progress) as told:
        result, fitted = fit(run, inputs, told)
    return Adapted(fitted, run, inputs.backbone, result, columns=inputs.data.columns, learnt=learnt)
