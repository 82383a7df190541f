"""Sentiment in Javanese, 500 training rows (NusaX, Winata et al. 2023): six strategies in one table.

    python recipes/low_resource_sentiment.py --data ../shared/data/nusax_jav --jobs 2

Hardware: two CPU cores with AVX512-BF16 or AMX, 4 GB of memory. Run time: 5 minutes of training, 2 of scoring.
Expected test score: macro f1, %: full 69.5, head 60.3, lora 70.0, bottleneck 68.0, prefix 61.8, qlora 68.9.
With --trials 3 each strategy is run at three learning rates, of which validation chooses one (results/tuned).
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
        metric="macro_f1",
    )
