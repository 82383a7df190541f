"""Plain text continued (TinyStories, Eldan & Li 2023, or any texts): six strategies, perplexity of a tiny decoder.

    python recipes/stories.py --data ../shared/data/ag_news --backbone ../shared/models/stories260K --jobs 2

Hardware: two CPU cores with AVX512-BF16 or AMX, 4 GB of memory. Run time: 5 minutes of training, 9 of scoring.
Expected test score: perplexity: full 16.7, head 27.6, lora 20.6, bottleneck 37.6, prefix 57.0, qlora 20.7.
These rates are for tiny decoders; larger ones have the package's own.
With --general FILE of stories the table says how much of them the model forgets over the news.
Without --data all 2.1 million texts of TinyStories are read, which takes several times their 1.9 GB of memory, and one
in 2,000 becomes test; its 22,000 validation texts are scored after each epoch.
"""

from _recipe import recipe

if __name__ == "__main__":
    recipe(
        __doc__,
        "stories",
        hub="roneneldan/TinyStories",
        folder="ag_news",
        on_hub={"test": 0.0005},
        backbone="tiny-decoder",
        kind="causal_lm",
        settings={
            "full": {"learning_rate": 1e-3},
            "head": {"learning_rate": 1e-2},
            "lora": {"learning_rate": 5e-3},
            "bottleneck": {"learning_rate": 5e-3, "warmup": 0.0},
            "prefix": {"learning_rate": 3e-2, "warmup": 0.0},
            "qlora": {"learning_rate": 5e-3},
        },
        tiny=True,
        epochs=3,
        max_train=1000,
        max_length=256,
    )
