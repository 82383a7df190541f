"""Whether two sentences say the same (MRPC, Dolan & Brockett 2005): six strategies on 800 training rows.

    python recipes/paraphrase.py --data ../shared/data/mrpc --jobs 2

Hardware: two CPU cores with AVX512-BF16 or AMX, 4 GB of memory. Run time: 6 minutes of training, 4 of scoring.
Expected test score: accuracy, %: full 70.8, head 67.1, lora 71.2, bottleneck 69.3, prefix 68.0, qlora 71.2.
"""

from _recipe import recipe

if __name__ == "__main__":
    recipe(__doc__, "mrpc", hub="nyu-mll/glue", on_hub={"config": "mrpc"}, dropout=0.0, epochs=3, max_train=800)
