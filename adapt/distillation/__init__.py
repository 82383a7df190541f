"""Knowledge distillation: a student learns from a trained teacher's predictions beside the labels (Hinton et al. 2015).

`distill` is `adapt.fit` with a teacher: any strategy on any backbone, with rows that have no labels where there are
some; `prepare` is the same up to training, so that one can see by its key whether a run has been done. A teacher's
predictions are made once a row, by its own tokenizer; only a language model is asked at every step, for what it gives
a token is as large as the vocabulary, and must share the student's.
"""

from adapt.distillation.fit import Student, distill, prepare
from adapt.distillation.kind import Distilled
from adapt.distillation.unlabelled import Labelled, labelled_by

__all__ = ["Distilled", "Labelled", "Student", "distill", "labelled_by", "prepare"]
