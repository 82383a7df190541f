"""Masking of tokens, and logits at the masked ones."""

import pytest
import torch
from pretrain_helpers import tiny
from tiny import ARCHITECTURES, ENCODERS
from transformers import AutoModelForMaskedLM
from transformers.modeling_outputs import MaskedLMOutput

from adapt.pretrain import for_decoder, mask_tokens, masked_logits, train_byte_tokenizer
from adapt.spec import DataError, OptionError, Unsupported


def test_masking_is_15_percent_and_80_10_10(tokenizer):
    ids = torch.randint(5, len(tokenizer), (2000, 64), generator=torch.Generator().manual_seed(1))
    ids[:, 0], ids[:, -1] = tokenizer.cls_token_id, tokenizer.sep_token_id
    inputs, targets = mask_tokens(ids, tokenizer, torch.Generator().manual_seed(2))
    asked = targets != -100
    assert asked.sum() == round(0.15 * 2000 * 62)
    assert (targets[asked] == ids[asked]).all()
    assert (inputs[~asked] == ids[~asked]).all()
    count = asked.sum().item()
    masked = (inputs == tokenizer.mask_token_id).sum().item() / count
    changed = ((inputs != ids) & (inputs != tokenizer.mask_token_id)).sum().item() / count
    assert masked == pytest.approx(0.8, abs=0.012)  # four standard errors of a share of 18,600
    assert changed == pytest.approx(0.1 * (1 - 1 / (len(tokenizer) - 5)), abs=0.009)
    assert asked.float().mean(0)[1:-1] == pytest.approx(0.15, abs=0.04)  # every position alike


def test_special_tokens_are_never_masked_or_drawn(tokenizer, rows):
    special = torch.tensor(tokenizer.all_special_ids)
    ids = rows.clone()
    ids[:, 10:] = tokenizer.pad_token_id
    for seed in range(20):
        inputs, targets = mask_tokens(ids, tokenizer, torch.Generator().manual_seed(seed))
        assert not torch.isin(targets, special).any()
        new = inputs[(inputs != ids) & (inputs != tokenizer.mask_token_id)]
        assert not torch.isin(new, special).any()
    with pytest.raises(DataError, match="special tokens only"):
        mask_tokens(ids[:, 10:], tokenizer, torch.Generator())


def test_what_cannot_be_masked_is_an_error(documents, tokenizer, rows):
    for share in (15, 0, -0.1):
        with pytest.raises(OptionError, match=f"share is {share}; give a number above 0 and up to 1"):
            mask_tokens(rows, tokenizer, torch.Generator(), share)
    unmasked = for_decoder(train_byte_tokenizer(documents, vocab_size=300))
    with pytest.raises(Unsupported, match="has no mask token to hide others by: take one like BERT's"):
        mask_tokens(rows, unmasked, torch.Generator())


def test_masking_follows_the_generator_alone(tokenizer, rows):
    first = mask_tokens(rows, tokenizer, torch.Generator().manual_seed(5))
    torch.manual_seed(99)
    generator = torch.Generator().manual_seed(5)
    again, next_draw = mask_tokens(rows, tokenizer, generator), mask_tokens(rows, tokenizer, generator)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[1], next_draw[1])


@pytest.mark.parametrize("architecture", ENCODERS)
def test_logits_at_masked_positions_equal_those_of_the_whole_model(tokenizer, rows, architecture):
    model = tiny(tokenizer)
    if architecture != "bert":
        config = ARCHITECTURES[architecture](1).config
        config.vocab_size = len(tokenizer)
        model = AutoModelForMaskedLM.from_config(config)
    model.eval()
    inputs, targets = mask_tokens(rows[:8], tokenizer, torch.Generator().manual_seed(0))
    mask = torch.ones_like(inputs)
    mask[:, 12:] = 0
    with torch.no_grad():
        for attention_mask in (None, mask):
            expected = model(input_ids=inputs, attention_mask=attention_mask).logits[targets != -100]
            torch.testing.assert_close(masked_logits(model, inputs, targets, attention_mask), expected)


def test_a_model_without_a_head_is_unsupported(tokenizer, rows):
    with pytest.raises(Unsupported, match="BertModel has no masked-language-model head"):
        masked_logits(tiny(tokenizer).bert, rows[:1].long(), rows[:1].long())


def test_a_head_in_parts_is_taken_whole(tokenizer, rows):
    model = tiny(tokenizer).eval()

    class Between(type(model)):
        """As architectures that have a projection between their layers and the head."""

        def forward(self, input_ids, attention_mask=None):
            hidden = self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            return MaskedLMOutput(logits=self.cls(self.between(hidden)))

    torch.manual_seed(0)
    model.between = torch.nn.Linear(model.config.hidden_size, model.config.hidden_size)
    model.__class__ = Between
    inputs, targets = mask_tokens(rows[:8], tokenizer, torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model(input_ids=inputs).logits[targets != -100]
        torch.testing.assert_close(masked_logits(model, inputs, targets), expected)
