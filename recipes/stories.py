"""Plain text continued (TinyStories, Eldan & Li 2023, or any texts): six strategies, perplexity of a tiny story model.

    python recipes/stories.py --data ../shared/data/ag_news --backbone ../shared/models/stories260K --jobs 2

Hardware: two CPU cores with AVX512-BF16 or AMX, 4 GB of memory. Run time: not measured.
Expected test score: not measured.
"""

from _recipe import recipe

if __name__ == "__main__":
    recipe(
        __doc__,
        "stories",
        hub="roneneldan/TinyStories",
        backbone="tiny-decoder",
        kind="causal_lm",
        settings={
            "full": {"learning_rate": 1e-3},
            "head": {"learning_rate": 1e-2},
            "lora": {"learning_rate": 5e-3},
            "bottleneck": {"learning_rate": 5e-3},
            "prefix": {"learning_rate": 3e-2},
            "qlora": {"learning_rate": 5e-3},
        },
        epochs=3,
        max_train=1000,
        max_length=256,
    )
