"""Knowledge distillation: a student learns from a trained teacher's predictions beside the labels (Hinton et al. 2015).

`distill` is `adapt.fit` with a teacher: any strategy on any backbone, with rows that have no labels where there are
some. A teacher's predictions are made once a row, by its own tokenizer; only a language model is asked at every step,
for what it gives a token is as large as the vocabulary, and must share the student's. `teaching_of` is what runs in
other processes are made students by: `Teaching.lessons` asks the teacher, and `Lessons.encode`, which needs it no more,
stands for `adapt.run.encode`.
"""

from adapt.distillation.checks import how_of
from adapt.distillation.fit import distill
from adapt.distillation.kind import Distilled
from adapt.distillation.teaching import Lessons, Teaching, teaching_of
from adapt.distillation.unlabelled import labelled_by

__all__ = ["Distilled", "Lessons", "Teaching", "distill", "how_of", "labelled_by", "teaching_of"]
