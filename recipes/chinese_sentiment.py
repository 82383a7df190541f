"""Sentiment of Chinese hotel reviews (ChnSentiCorp, Tan & Zhang 2008): six strategies on 300 training rows.

    python recipes/chinese_sentiment.py --data ../shared/data/chnsenticorp_htl --jobs 2

Hardware: two CPU cores with AVX512-BF16 or AMX, 4 GB of memory. Run time: 3 minutes of training.
Expected test score: accuracy, %: full 61.4, head 63.0, lora 63.0, bottleneck 62.7, prefix 62.0, qlora 61.9.
"""

from _recipe import recipe

if __name__ == "__main__":
    recipe(
        __doc__, "chnsenticorp_htl", hub="lansinuote/ChnSentiCorp", dropout=0.0, epochs=3, max_train=300, max_length=96
    )  # fmt: skip
