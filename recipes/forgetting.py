"""What a backbone forgets over a task (Biderman et al. 2024): SST-2, and the loss on other text before and after.

    python recipes/forgetting.py --data ../shared/data/sst2 --general ../shared/data/corpus/gum.txt.gz --jobs 2

Hardware: two CPU cores with AVX512-BF16 or AMX, 4 GB of memory. Run time: 4 minutes of training, 1 of scoring.
Expected test score: accuracy, %: full 73.4, head 66.2, lora 69.8, bottleneck 68.3, prefix 65.8, qlora 70.1.
Expected forgetting: nats a token: full +0.73, head +0.00, lora +0.44, bottleneck +0.95, prefix +0.67, qlora +0.42.
The text is of many genres (GUM, Zeldes 2017) and was no part of what the tiny encoder was pretrained on.
"""

from _recipe import recipe

if __name__ == "__main__":
    recipe(
        __doc__,
        "film_reviews",
        hub="SetFit/sst2",
        folder="sst2",
        backbone="tiny-encoder",
        validation=False,  # which would choose epochs, of which each has forgotten more than those before
        pooling="mean",
        epochs=5,
        max_train=2000,
    )
