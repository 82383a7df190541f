"""Knowledge distillation: a student learns from a trained teacher's predictions beside the labels (Hinton et al. 2015).

`distill` is `adapt.fit` with a teacher: any strategy on any backbone, and further rows without labels. A teacher
predicts each row once, with a tokenizer of its own. Only a language model's runs at every step, since what it says of a
token is as large as the vocabulary, which must be the student's. Where students are trained in other processes,
`teaching_of` checks the teacher, `Teaching.lessons` asks it, and `Lessons.encode`, which needs it no more, stands for
`adapt.inputs.encode`.
"""

from adapt.distillation.checks import how_of
from adapt.distillation.fit import distill
from adapt.distillation.said import said_of
from adapt.distillation.teaching import Lessons, Teaching, teaching_of
from adapt.distillation.unlabelled import labelled_by

__all__ = ["Lessons", "Teaching", "distill", "how_of", "labelled_by", "said_of", "teaching_of"]
