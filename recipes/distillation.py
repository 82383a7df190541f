"""A small model taught by a large one with few labels (SST-2, Socher et al. 2013): alone, taught, with further texts.

    python recipes/distillation.py --data ../shared/data/sst2

Hardware: two CPU cores with AVX512-BF16 or AMX, 4 GB of memory. Run time: 4 minutes of training.
Expected test score: accuracy, %: teacher 83.3; full 67.0, 67.7, 78.7; lora 65.6, 65.3, 75.3.
The teacher has the same labelled rows as its student, drawn with the seed; the other rows of train lose their labels.
"""

import argparse
from pathlib import Path

import adapt
from adapt.adapted import assemble
from adapt.cli import plain_errors
from adapt.comparison import Store
from adapt.comparison.table import write_table
from adapt.distillation import prepare
from adapt.run import drawn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="SetFit/sst2", help="hub name, file, or folder of split files")
    parser.add_argument("--teacher", default="minilm", help="the teacher's backbone")
    parser.add_argument("--backbone", default="tiny-encoder", help="the student's backbone")
    parser.add_argument("--strategies", default="full,lora", help="of the student, names with commas between them")
    parser.add_argument("--labelled", type=int, default=500, help="rows whose labels are used")
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--max-steps", type=int, help="optimizer steps after which training ends, for a quick look")
    parser.add_argument("--out", default="recipe-results", help="folder of results; what is there is not done again")
    options = parser.parse_args()
    with plain_errors(goes_on=True):
        data = adapt.data.load(options.data, name="sst2")
        store, strategies = Store(options.out), options.strategies.split(",")
        same = {"pooling": "mean", "max_train": options.labelled, "max_steps": options.max_steps, "epochs": 5}
        adapt.compare(options.backbone, data, strategies, seeds=options.seeds, out=options.out, jobs=1, **same)
        for seed in range(options.seeds):
            wanted, *_ = assemble(options.teacher, data, adapt.LoRA(), seed=seed, **same)
            folder = Path(options.out) / f"teacher-seed{seed}-{wanted.key()[:12]}"
            if (folder / "adapt.json").exists():
                teacher = adapt.load(folder)
            else:
                teacher = adapt.fit(options.teacher, data, adapt.LoRA(), seed=seed, **same)
                if teacher.result is not None:
                    store.write(teacher.result)
                teacher.save(folder)
            known = set(drawn(teacher.run, data)["train"]["text"])
            rest = [text for text in data.splits["train"]["text"] if text not in known]
            for strategy in strategies:
                for texts in (None, rest) if rest else (None,):
                    student = prepare(teacher, options.backbone, data, strategy, unlabelled=texts, seed=seed, **same)
                    if store.read(student.run) is None and (result := student.fit().result) is not None:
                        store.write(result)
        print(write_table(store))


if __name__ == "__main__":
    main()
