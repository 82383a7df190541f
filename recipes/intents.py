"""77 intents of bank customers (Banking77, Casanueva et al. 2020): six strategies on 2,000 training rows.

    python recipes/intents.py --data ../shared/data/banking77 --jobs 2

Hardware: two CPU cores with AVX512-BF16 or AMX, 4 GB of memory. Run time: 5 minutes of training.
Expected test score: accuracy, %: full 77.0, head 88.0, lora 88.2, bottleneck 86.5, prefix 87.8, qlora 88.1.
"""

import sys

from _arguments import arguments

import adapt
from adapt.comparison.progress import Progress


def main() -> None:
    options = arguments(__doc__, data="mteb/banking77")
    data = adapt.data.load(options.data, name="banking77", config=options.config, revision=options.revision)
    with Progress(sys.stderr) as progress:
        done = adapt.compare(
            options.backbone, data, options.strategies, seeds=options.seeds, out=options.out, jobs=options.jobs,
            on_event=progress, max_steps=options.max_steps, dropout=0.0, epochs=3, max_train=2000,
        )  # fmt: skip
    print(done.table)


if __name__ == "__main__":
    main()
