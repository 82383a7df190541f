"""How alike two sentences are (STS-B, Cer et al. 2017): six strategies on 1,000 training rows.

    python recipes/similarity.py --data ../shared/data/stsb --jobs 2

Hardware: two CPU cores with AVX512-BF16 or AMX, 4 GB of memory. Run time: 4 minutes of training, 4 of scoring.
Expected test score: spearman, %: full 76.7, head 34.3, lora 78.3, bottleneck 78.0, prefix 63.1, qlora 78.4.
"""

from _recipe import recipe

if __name__ == "__main__":
    recipe(__doc__, "stsb", hub="sentence-transformers/stsb", dropout=0.0, epochs=3, max_train=1000)
