"""Loading a pretrained transformer: what it is, its tokenizer, its weights, its head."""

from adapt.backbones.load import Loader
from adapt.backbones.source import EMBEDDED, Backbone, resolve

__all__ = ["EMBEDDED", "Backbone", "Loader", "resolve"]
