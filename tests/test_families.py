"""What modules are called in each family of models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
import torch
from torch import nn
from transformers import AutoConfig, AutoModel
from transformers.pytorch_utils import Conv1D

from adapt.backbones.families import FAMILIES, family_of, residual_projections
from adapt.spec import Unsupported


def test_an_unknown_family_is_unsupported() -> None:
    with pytest.raises(Unsupported, match=r"architecture 'mamba' are not known; known are albert, bart, bert"):
        family_of("mamba")


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_the_names_of_a_family_are_those_of_the_model(backbone: Callable[..., Path], architecture: str) -> None:
    config = AutoConfig.from_pretrained(backbone(architecture))
    with torch.device("meta"):
        model = AutoModel.from_config(config)
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear | Conv1D)]
    family = FAMILIES[architecture]
    for ending in (*family.query_value, *family.attention_outputs, *family.feed_forward_outputs):
        assert any(name.endswith("." + ending) for name in linear), ending


@pytest.mark.parametrize("architecture", sorted(FAMILIES.keys() - tiny.ARCHITECTURES.keys()))
def test_the_names_of_other_members_of_a_family(architecture: str) -> None:
    config = AutoConfig.for_model(architecture)
    with torch.device("meta"):
        model = AutoModel.from_config(config)
    attention, feed_forward = residual_projections(model)
    both = architecture in ("mt5", "mbart")
    assert len(feed_forward) == config.num_hidden_layers * (2 if both else 1)
    assert len(attention) == config.num_hidden_layers * (3 if both else 1)
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    assert all(any(n.endswith("." + ending) for n in linear) for ending in FAMILIES[architecture].query_value)
