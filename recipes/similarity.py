"""How alike two sentences are, from 0 to 5 (STS-B, Cer et al. 2017): six strategies on 1,000 training rows.

    python recipes/similarity.py --data ../shared/data/stsb --jobs 2

Hardware: two CPU cores with AVX512-BF16 or AMX, 4 GB of memory. Run time: 3 minutes of training.
Expected test score: spearman, %: full 76.9, head 35.4, lora 78.0, bottleneck 76.6, prefix 44.7, qlora 78.0.
"""

import sys

from _arguments import arguments

import adapt
from adapt.comparison.progress import Progress


def main() -> None:
    options = arguments(__doc__, data="sentence-transformers/stsb")
    data = adapt.data.load(options.data, name="stsb", config=options.config, revision=options.revision)
    with Progress(sys.stderr) as progress:
        done = adapt.compare(
            options.backbone, data, options.strategies, seeds=options.seeds, out=options.out, jobs=options.jobs,
            on_event=progress, max_steps=options.max_steps, dropout=0.0, epochs=3, max_train=1000,
        )  # fmt: skip
    print(done.table)


if __name__ == "__main__":
    main()
