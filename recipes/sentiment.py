"""Sentiment of film-review sentences (SST-2, Socher et al. 2013): six strategies in one table.

    python recipes/sentiment.py --data ../shared/data/sst2 --jobs 2

Hardware: two CPU cores with AVX512-BF16 or AMX, 4 GB of memory. Run time: 26 minutes of training, 3 of scoring.
Expected test score: accuracy, %: full 89.3, head 81.4, lora 88.8, bottleneck 88.9, prefix 87.0, qlora 89.0.
"""

from _recipe import recipe

SETTINGS: dict[str, dict[str, object]] = {
    "head": {"standardise": True, "learning_rate": 1e-3},
    "lora": {"embedding_rank": 4, "learning_rate": 1e-3},
    "bottleneck": {"embedding_rank": 8, "learning_rate": 1e-3},
    "prefix": {"embedding_rank": 8, "gated": True, "learning_rate": 1e-2},
    "qlora": {"embedding_rank": 4, "learning_rate": 1e-3},
}
"""Sentiment hangs on single words, whose embeddings full fine-tuning moves. Explored on this data set; full has its
defaults."""

if __name__ == "__main__":
    recipe(__doc__, "sst2", hub="SetFit/sst2", settings=SETTINGS, pooling="mean", dropout=0.0, epochs=3)
