"""Emerging names in noisy text (WNUT-17, Derczynski et al. 2017): six strategies on 1,500 training rows.

    python recipes/named_entities.py --data ../shared/data/wnut17 --jobs 2

Hardware: two CPU cores with AVX512-BF16 or AMX, 4 GB of memory. Run time: 9 minutes of training, 3 of scoring.
Expected test score: span f1, %: full 43.0, head 23.7, lora 41.8, bottleneck 40.8, prefix 35.2, qlora 41.2.
"""

from _recipe import recipe

if __name__ == "__main__":
    recipe(
        __doc__,
        "wnut17",
        hub="leondz/wnut_17",
        on_hub={"revision": "refs/convert/parquet"},
        kind="ner",
        dropout=0.0,
        epochs=3,
        batch_size=8,
        max_train=1500,
    )
