"""Sentiment of Chinese hotel reviews (ChnSentiCorp, Tan & Zhang 2008): six strategies on 300 training rows.

    python recipes/chinese_sentiment.py --data ../shared/data/chnsenticorp_htl --jobs 2

Hardware: two CPU cores with AVX512-BF16 or AMX, 4 GB of memory. Run time: 3 minutes of training, 4 of scoring.
Expected test score: accuracy, %: full 57.2, head 62.6, lora 62.6, bottleneck 60.5, prefix 60.5, qlora 62.4.
The scores are of hotel reviews alone; the set on the hub is larger and has reviews of laptops and books, too.
"""

from _recipe import recipe

if __name__ == "__main__":
    recipe(
        __doc__,
        "chnsenticorp_htl",
        hub="lansinuote/ChnSentiCorp",
        on_hub={"name": "chnsenticorp"},
        dropout=0.0,
        epochs=3,
        max_train=300,
        max_length=96,
    )
