"""Sentiment in Javanese, 500 training rows (NusaX, Winata et al. 2023): six strategies in one table.

    python recipes/low_resource_sentiment.py --data ../shared/data/nusax_jav --jobs 2

Hardware: two CPU cores with AVX512-BF16 or AMX, 4 GB of memory. Run time: 4 minutes of training.
Expected test score: macro f1, %: full 68.4, head 61.1, lora 69.2, bottleneck 64.8, prefix 62.9, qlora 68.5.
"""

from _recipe import recipe

if __name__ == "__main__":
    recipe(
        __doc__,
        "nusax_jav",
        hub="indonlp/NusaX-senti",
        on_hub={"config": "jav", "revision": "refs/convert/parquet"},
        dropout=0.0,
        epochs=4,
    )
