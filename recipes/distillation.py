"""A small model taught by a large one with few labels (SST-2, Socher et al. 2013): alone, taught, with further texts.

    python recipes/distillation.py --data ../shared/data/sst2

Hardware: two CPU cores with AVX512-BF16 or AMX, 4 GB of memory. Run time: 14 minutes of training, 5 of scoring.
Expected test score: accuracy, %: teacher 83.1; full 67.4, 67.7, 78.6, 66.9; lora 65.7, 65.7, 75.4, 64.7.
The teacher has the same labelled rows as its student, drawn with the seed; the other rows of train lose their labels.
Besides, the 872 labelled rows of validation choose the epoch. With further texts an epoch has 14 times the steps; for
as many, students are trained alone, too, which is the last of each one's scores.
"""

from _recipe import command, fitted, name_of, parser_of

import adapt
from adapt.cli import plain_errors
from adapt.comparison import Store
from adapt.inputs import drawn

HUB = "SetFit/sst2"
EPOCHS = 5
"""Of the labelled rows, alone or with further texts."""


def main() -> None:
    parser = parser_of(__doc__, data=HUB, backbone="tiny-encoder", strategies="full,lora")
    parser.add_argument("--teacher", default="minilm", help="the teacher's backbone; the others are the student's")
    parser.add_argument("--labelled", type=int, default=500, help="rows whose labels are used")
    options = parser.parse_args()
    with plain_errors(goes_on=True):
        data = adapt.data.load(options.data, name=name_of(options.data, HUB, "sst2"))
        seeds = list(range(options.seeds))
        same = {"pooling": "mean", "max_train": options.labelled, "max_steps": options.max_steps, "epochs": EPOCHS}
        of_students = {"strategies": options.strategies, "out": options.out, "jobs": 1, "command": command(), **same}
        as_long = EPOCHS * len(data.splits["train"]) // min(options.labelled, len(data.splits["train"]))
        for epochs in dict.fromkeys((EPOCHS, as_long)):
            adapt.compare(options.backbone, data, seeds=seeds, **{**of_students, "epochs": epochs})
        for seed in seeds:
            name = f"teacher-seed{seed}"
            teacher, run = fitted(options.out, name, options.teacher, data, adapt.LoRA(), seed=seed, **same)
            known = set(drawn(run, data)["train"]["text"])
            rest = [text for text in data.splits["train"]["text"] if text not in known]
            for texts in (None, rest) if rest else (None,):
                adapt.compare(options.backbone, data, seeds=[seed], teacher=teacher, unlabelled=texts, **of_students)
        print(Store(options.out).write_table())


if __name__ == "__main__":
    main()
