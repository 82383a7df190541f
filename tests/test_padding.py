"""Families of models that read the padding of a batch are found, and told of; so are batches that one cannot read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from torch import nn
from transformers import (
    CanineConfig,
    ConvBertConfig,
    FNetConfig,
    FunnelConfig,
    LongformerConfig,
    MobileBertConfig,
    MPNetConfig,
    NystromformerConfig,
    XLNetConfig,
    YosoConfig,
)

from adapt.backbones.classes import base_class
from adapt.backbones.families import least_tokens
from adapt.backbones.padding import reads_padding
from adapt.spec import Unsupported

WIDE = {**tiny._SIZES, "vocab_size": 1000}
FUNNEL: dict[str, Any] = {"vocab_size": 1000, "d_model": 32, "n_head": 4, "d_head": 8, "d_inner": 48}
CONFIGURATIONS: dict[str, tuple[Callable[[], Any], bool]] = {
    "canine": (lambda: CanineConfig(**tiny._SIZES), True),
    "convbert": (lambda: ConvBertConfig(**WIDE, embedding_size=32), True),
    "fnet": (lambda: FNetConfig(vocab_size=1000, hidden_size=32, num_hidden_layers=2, intermediate_size=48), True),
    "nystromformer": (lambda: NystromformerConfig(**WIDE), True),
    "yoso": (lambda: YosoConfig(**WIDE), True),
    "funnel": (lambda: FunnelConfig(**FUNNEL, block_sizes=[1, 2], num_decoder_layers=1), True),
    "mobilebert": (
        lambda: MobileBertConfig(**WIDE, embedding_size=32, intra_bottleneck_size=32, use_bottleneck=False),
        True,
    ),
    "longformer": (lambda: LongformerConfig(**WIDE, attention_window=8), False),
    "mpnet": (lambda: MPNetConfig(**WIDE), False),
    "xlnet": (lambda: XLNetConfig(vocab_size=1000, d_model=32, n_layer=2, n_head=4, d_inner=48), False),
}


@pytest.mark.parametrize("family", CONFIGURATIONS)
def test_what_reads_padding_is_found_on_a_small_model(family: str) -> None:
    make, expected = CONFIGURATIONS[family]
    config = make()
    model = base_class(config)(config).eval()
    for table in (m for m in model.modules() if isinstance(m, nn.Embedding) and m.padding_idx is not None):
        table.weight.data[table.padding_idx] = table.weight.data[-1]  # as pretraining may have left it
    ids = torch.arange(900, 917)[None]
    longer = nn.functional.pad(ids, (0, 10), value=config.pad_token_id)
    mask = nn.functional.pad(torch.ones_like(ids), (0, 10))
    with torch.no_grad():
        alone = model(input_ids=ids, attention_mask=torch.ones_like(ids))[0]
        padded = model(input_ids=longer, attention_mask=mask)[0][:, :17]
    before, state = config.to_dict(), torch.get_rng_state()
    assert reads_padding(config) is expected is not torch.allclose(alone, padded, rtol=1e-3, atol=1e-3)
    assert config.to_dict() == before
    assert torch.equal(torch.get_rng_state(), state)


def of(folder: Path, config: Any) -> Any:
    """A loader of a model of this configuration with random weights."""
    base_class(config)(config).save_pretrained(folder)
    tiny.tokenizer_for("bert").save_pretrained(folder)
    return tiny.loader_for(folder, "token_classification")


@pytest.mark.parametrize(("family", "noted"), [("convbert", True), ("mobilebert", True), ("mpnet", False)])
def test_a_result_tells_of_padding_that_is_read(tmp_path: Path, family: str, noted: bool) -> None:
    load = of(tmp_path, CONFIGURATIONS[family][0]())
    load(frozen=True)
    said = f"'{family}' reads padding: what it makes of a row depends on how long others of its batch are"
    assert load.notes == [said] * noted


@pytest.mark.parametrize("separate", [True, False])
@pytest.mark.parametrize("blocks", [2, 3])
def test_a_batch_that_is_too_short_for_funnel_is_refused(tmp_path: Path, blocks: int, separate: bool) -> None:
    config = FunnelConfig(**FUNNEL, block_sizes=[1] * blocks, num_decoder_layers=1, separate_cls=separate)
    model, plain = of(tmp_path, config)().eval(), base_class(config)(config).eval()
    least = least_tokens(config)
    assert least > 1
    for length in range(1, least + 2):
        ids = torch.arange(1, 1 + length)[None]
        if length >= least:
            assert model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.shape[:2] == (1, length)
            continue
        with pytest.raises((RuntimeError, IndexError)):
            plain(input_ids=ids, attention_mask=torch.ones_like(ids))
        with pytest.raises(Unsupported, match=f"no batch of fewer than {least} tokens, and one has {length}; leave"):
            model(input_ids=ids, attention_mask=torch.ones_like(ids))
