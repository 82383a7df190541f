"""Whether two sentences say the same (MRPC, Dolan & Brockett 2005): six strategies on 800 training rows.

    python recipes/paraphrase.py --data ../shared/data/mrpc --jobs 2

Hardware: two CPU cores with AVX512-BF16 or AMX, 4 GB of memory. Run time: 6 minutes of training.
Expected test score: accuracy, %: full 71.0, head 67.3, lora 71.3, bottleneck 69.7, prefix 67.4, qlora 70.3.
"""

from _recipe import recipe

if __name__ == "__main__":
    recipe(__doc__, "mrpc", hub="nyu-mll/glue", on_hub={"config": "mrpc"}, dropout=0.0, epochs=3, max_train=800)
