"""What a model knows, read out of it: representations of its layers, their similarity, probes, attention."""

from adapt.extraction.reading import Reader, reader
from adapt.extraction.representations import Representations, representations

__all__ = ["Reader", "Representations", "reader", "representations"]
