"""Captions from English to German (Multi30k, Elliott et al. 2016): a tiny encoder-decoder, 2,000 training rows.

    python recipes/translation.py --data ../shared/data/multi30k_en_de --jobs 2

Hardware: two CPU cores with AVX512-BF16 or AMX, 4 GB of memory. Run time: 3 minutes of training, 3 of scoring.
Expected test score: chrf, %: full 31.3, head 18.2, lora 21.6, bottleneck 17.0, prefix 15.6, qlora 21.6.
"""

from _recipe import recipe

if __name__ == "__main__":
    recipe(
        __doc__,
        "multi30k_en_de",
        hub="bentrevett/multi30k",
        on_hub={"columns": {"source": "en", "target": "de"}},
        backbone="tiny-encoder-decoder",
        kind="translation",
        epochs=3,
        max_train=2000,
    )
