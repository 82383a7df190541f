"""Answers to maths word problems (GSM8K, Cobbe et al. 2021): six strategies, perplexity of a tiny decoder.

    python recipes/maths.py --data ../shared/data/gsm8k --jobs 2

Hardware: two CPU cores with AVX512-BF16 or AMX, 4 GB of memory. Run time: not measured.
Expected test score: not measured.
"""

from _recipe import recipe

if __name__ == "__main__":
    recipe(
        __doc__,
        "gsm8k",
        hub="openai/gsm8k",
        on_hub={"config": "main"},
        backbone="tiny-decoder",
        kind="instructions",
        epochs=3,
        max_train=500,
        max_length=256,
        max_new_tokens=8,
    )
