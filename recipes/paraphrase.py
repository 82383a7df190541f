"""Whether two sentences say the same (MRPC, Dolan & Brockett 2005): six strategies on 800 training rows.

    python recipes/paraphrase.py --data ../shared/data/mrpc --jobs 2

Hardware: two CPU cores with AVX512-BF16 or AMX, 4 GB of memory. Run time: 4 minutes of training.
Expected test score: accuracy, %: full 71.0, head 67.3, lora 70.3, bottleneck 70.6, prefix 67.1, qlora 71.1.
"""

import sys

from _arguments import arguments

import adapt
from adapt.comparison.progress import Progress


def main() -> None:
    options = arguments(__doc__, data="nyu-mll/glue", config="mrpc")
    data = adapt.data.load(options.data, name="mrpc", config=options.config, revision=options.revision)
    with Progress(sys.stderr) as progress:
        done = adapt.compare(
            options.backbone, data, options.strategies, seeds=options.seeds, out=options.out, jobs=options.jobs,
            on_event=progress, max_steps=options.max_steps, dropout=0.0, epochs=3, max_train=800,
        )  # fmt: skip
    print(done.table)


if __name__ == "__main__":
    main()
