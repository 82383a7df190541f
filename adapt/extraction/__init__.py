"""What a model knows, read out of it: representations of its layers, their similarity, probes, attention."""

from adapt.extraction.reading import Reader, reader
from adapt.extraction.representations import Representations, representations
from adapt.extraction.similarity import similarity

__all__ = ["Reader", "Representations", "reader", "representations", "similarity"]
