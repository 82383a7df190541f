"""77 intents of bank customers (Banking77, Casanueva et al. 2020): six strategies on 2,000 training rows.

    python recipes/intents.py --data ../shared/data/banking77 --jobs 2

Hardware: two CPU cores with AVX512-BF16 or AMX, 4 GB of memory. Run time: 6 minutes of training, 3 of scoring.
Expected test score: accuracy, %: full 85.7, head 87.9, lora 88.0, bottleneck 88.6, prefix 88.5, qlora 88.1.
"""

from _recipe import recipe

if __name__ == "__main__":
    recipe(__doc__, "banking77", hub="mteb/banking77", dropout=0.0, epochs=3, max_train=2000)
