"""What a model knows, read out of it: representations of its layers, their similarity, probes, attention."""

from adapt.extraction.attention import Attention, attention, each_attention
from adapt.extraction.flows import flow, rollout
from adapt.extraction.maps import write_maps
from adapt.extraction.measures import HeadMeasures, heads
from adapt.extraction.probed import LayerProbe, Probed, Probing
from adapt.extraction.probing import probe
from adapt.extraction.reading import Reader, reader
from adapt.extraction.report import report_heads
from adapt.extraction.representations import Representations, representations
from adapt.extraction.similarity import similarity

__all__ = [
    "Attention", "HeadMeasures", "LayerProbe", "Probed", "Probing", "Reader", "Representations", "attention",
    "each_attention", "flow", "heads", "probe", "reader", "report_heads", "representations", "rollout", "similarity",
    "write_maps",
]  # fmt: skip
