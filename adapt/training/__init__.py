"""The one training loop, and batched prediction."""

from adapt.training.loop import Trained, predict, train

__all__ = ["Trained", "predict", "train"]
