"""Sentiment of film-review sentences (SST-2, Socher et al. 2013): six strategies in one table.

    python recipes/sentiment.py --data ../shared/data/sst2 --jobs 2

Hardware: two CPU cores with AVX512-BF16 or AMX, 4 GB of memory. Run time: 20 minutes of training.
Expected test score: accuracy, %: full 89.4, head 80.9, lora 88.0, bottleneck 87.6, prefix 86.1, qlora 88.7.
"""

import sys

from _arguments import arguments

import adapt
from adapt.comparison.progress import Progress


def main() -> None:
    options = arguments(__doc__, data="SetFit/sst2")
    data = adapt.data.load(options.data, name="sst2", config=options.config, revision=options.revision)
    with Progress(sys.stderr) as progress:
        done = adapt.compare(
            options.backbone, data, options.strategies, seeds=options.seeds, out=options.out, jobs=options.jobs,
            on_event=progress, max_steps=options.max_steps, dropout=0.0, epochs=3,
        )  # fmt: skip
    print(done.table)


if __name__ == "__main__":
    main()
