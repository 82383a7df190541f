"""Sentiment in Javanese, 500 training rows (NusaX, Winata et al. 2023): six strategies in one table.

    python recipes/low_resource_sentiment.py --data ../shared/data/nusax_jav --jobs 2

Hardware: two CPU cores with AVX512-BF16 or AMX, 4 GB of memory. Run time: 4 minutes of training.
Expected test score: macro f1, %: full 68.4, head 61.1, lora 69.2, bottleneck 64.8, prefix 62.9, qlora 68.5.
"""

import sys

from _arguments import arguments

import adapt
from adapt.comparison.progress import Progress


def main() -> None:
    options = arguments(__doc__, data="indonlp/NusaX-senti", config="jav", revision="refs/convert/parquet")
    data = adapt.data.load(options.data, name="nusax_jav", config=options.config, revision=options.revision)
    with Progress(sys.stderr) as progress:
        done = adapt.compare(
            options.backbone, data, options.strategies, seeds=options.seeds, out=options.out, jobs=options.jobs,
            on_event=progress, max_steps=options.max_steps, dropout=0.0, epochs=4, metric="macro_f1",
        )  # fmt: skip
    print(done.table)


if __name__ == "__main__":
    main()
