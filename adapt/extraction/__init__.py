"""What a model knows, read out of it: representations of its layers, their similarity, probes, attention.

Example:
    A backbone before and after adaptation (`reviews-lora` is a folder that `adapt.fit` or `Adapted.save` wrote).

    ```python
    import adapt

    data = adapt.data.load("reviews.csv")
    print(adapt.probe(["tiny-encoder", "reviews-lora"], data, seeds=2).table())

    texts = list(data.splits["train"]["text"])
    models = "tiny-encoder", "reviews-lora"
    alike = {"max_length": 128, "precision": "fp32"}
    before, after = (adapt.representations(model, texts, **alike) for model in models)
    print(adapt.similarity(before, after).diagonal())  # layer by layer: 1 where nothing has changed

    first = adapt.attention("reviews-lora", texts)[0]
    print(first.weights.shape)  # layers, heads, queries, keys; a learned prefix comes first
    ```
"""

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
