"""Next sentence prediction beside masked language modelling."""

import random

import pytest
import torch
from pretrain_helpers import quiet
from transformers import AutoModel, BertConfig, BertForMaskedLM, BertForPreTraining

from adapt.pretrain import (
    CausalLM,
    MaskedLM,
    NextSentence,
    Pretraining,
    evaluate,
    export,
    for_decoder,
    pack,
    pack_pairs,
    pretrain,
    train_byte_tokenizer,
    train_tokenizer,
    warm_start,
)
from adapt.pretrain.loop import _check_room
from adapt.pretrain.pairs import _partners
from adapt.spec import DataError, OptionError, Unsupported

LENGTH = 24
TOPICS = (("cat", "dog", "horse"), ("red", "green", "blue"))


def documents(count: int = 200, seed: int = 0) -> list[list[str]]:
    """Each about one topic, so that a sentence tells from which document it is."""
    rng = random.Random(seed)
    found = []
    for _ in range(count):
        words = rng.choice(TOPICS)
        found.append(
            [
                f"we saw the {rng.choice(words)} and the {rng.choice(words)}" + " today" * rng.randint(0, 3)
                for _ in range(7)
            ]
        )
    return found


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(documents(), vocab_size=90, max_length=LENGTH)


@pytest.fixture(scope="module")
def rows(tokenizer):
    return pack_pairs(documents(), tokenizer, LENGTH)


def model_of(tokenizer, seed: int = 0) -> BertForPreTraining:
    torch.manual_seed(seed)
    return BertForPreTraining(
        BertConfig(
            vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
            max_position_embeddings=LENGTH, initializer_range=0.1, hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0, pad_token_id=tokenizer.pad_token_id,
        )
    )  # fmt: skip


def parts(row: list[int], tokenizer) -> tuple[list[int], list[int]]:
    """First and second text of a row, written apart from the objective."""
    assert row[0] == tokenizer.cls_token_id
    middle = row.index(tokenizer.sep_token_id)
    end = row.index(tokenizer.sep_token_id, middle + 1)
    assert set(row[end + 1 :]) <= {tokenizer.pad_token_id}
    return row[1:middle], row[middle + 1 : end]


# ---------------------------------------------------------------- rows


def test_rows_are_neighbours_of_a_document(tokenizer, rows):
    assert rows.dtype == torch.int32
    assert rows.shape[1] == LENGTH
    texts = [" ".join(document) for document in documents()]
    place = 0
    for row in rows.tolist():
        first, second = parts(row, tokenizer)
        assert first
        assert second
        found = f"{tokenizer.decode(first)} {tokenizer.decode(second)}"
        while found not in texts[place]:  # documents come in their order
            place += 1
        assert abs(len(first) - len(second)) <= 10  # no longer than a line
    assert place == len(texts) - 1


def test_all_lines_but_lonely_last_ones_are_in_rows(tokenizer):
    lines = ["we saw the cat", "the dog and the horse", "red and blue", "the green"]
    (row,) = pack_pairs([lines], tokenizer, LENGTH).tolist()
    assert [tokenizer.decode(part) for part in parts(row, tokenizer)] == [" ".join(lines[:2]), " ".join(lines[2:])]
    both = pack_pairs([lines], tokenizer, 13).tolist()
    assert [[tokenizer.decode(part) for part in parts(row, tokenizer)] for row in both] == [lines[:2], lines[2:]]
    lonely = pack_pairs([lines[:3], lines[:1]], tokenizer, 13).tolist()
    assert [[tokenizer.decode(part) for part in parts(row, tokenizer)] for row in lonely] == [lines[:2]]


def test_long_lines_are_cut_at_their_outer_ends(tokenizer):
    (row,) = pack_pairs([["red blue green the cat", "the dog and the horse today"]], tokenizer, 9).tolist()
    first, second = (tokenizer.decode(part) for part in parts(row, tokenizer))
    assert (first, second) == ("green the cat", "the dog and")
    (row,) = pack_pairs([["the cat", "the dog and the horse today"]], tokenizer, 9).tolist()
    assert [tokenizer.decode(part) for part in parts(row, tokenizer)] == ["the cat", "the dog and the"]


def test_text_that_spells_a_special_token_is_no_separator(tokenizer):
    (row,) = pack_pairs([["the cat [SEP] today", "the dog [PAD] and"]], tokenizer, LENGTH).tolist()
    assert [tokenizer.decode(part) for part in parts(row, tokenizer)] == ["the cat today", "the dog and"]


def test_a_long_document_is_packed_in_time(tokenizer):
    lines = ["we saw the cat"] * 100_000
    assert len(pack_pairs([lines], tokenizer, 13)) == 50_000


@pytest.mark.parametrize("length", [0, 4])
def test_rows_without_room_for_two_texts_are_an_error(tokenizer, length):
    with pytest.raises(OptionError, match=f"length={length} leaves no room for two texts; give 5 or more"):
        pack_pairs(documents(), tokenizer, length)
    assert pack_pairs([["the cat today", "red blue"]], tokenizer, 5).shape == (1, 5)


def test_text_without_pairs_is_an_error(tokenizer):
    with pytest.raises(DataError, match="no document has two lines: give text with a sentence a line"):
        pack_pairs([["the cat"], ["the dog"]], tokenizer, LENGTH)


def test_a_document_without_lines_makes_no_rows(tokenizer):
    pair = ["the cat today", "red blue"]
    assert torch.equal(pack_pairs([[], pair, []], tokenizer, LENGTH), pack_pairs([pair], tokenizer, LENGTH))


def test_pairs_need_a_class_token():
    decoder = for_decoder(train_byte_tokenizer(documents(), vocab_size=300))
    with pytest.raises(Unsupported, match="tokens of class, separator and padding"):
        pack_pairs(documents(), decoder, LENGTH)


# ---------------------------------------------------------------- the objective


def test_half_of_the_second_texts_are_other_rows(tokenizer, rows):
    objective, generator = NextSentence(tokenizer), torch.Generator().manual_seed(0)
    exchanged = cut = 0
    for chosen in rows[:320].split(32):
        batch = objective.draw(chosen, generator)
        asked = batch["targets"] != -100
        ids = torch.where(asked, batch["targets"], batch["input_ids"])  # what stood there before tokens were hidden
        given = [parts(row, tokenizer) for row in chosen.tolist()]
        for index, row in enumerate(ids.tolist()):
            first, second = parts(row, tokenizer)
            assert first == given[index][0]
            if batch["random"][index]:
                others = [other for i, (_, other) in enumerate(given) if i != index]
                room = LENGTH - 3 - len(first)
                assert any(second == other[:room] for other in others)
                cut += second not in others
            else:
                assert second == given[index][1]
            length = 3 + len(first) + len(second)
            assert batch["attention_mask"][index].tolist() == [1] * length + [0] * (LENGTH - length)
            assert batch["token_type_ids"][index].nonzero().flatten().tolist() == [*range(2 + len(first), length)]
        exchanged += int(batch["random"].sum())
    assert 120 < exchanged < 200
    assert cut < exchanged / 10


def test_lengths_do_not_tell_whose_text_it_is(tokenizer, rows):
    objective, generator = NextSentence(tokenizer), torch.Generator().manual_seed(3)
    differences = []
    for _ in range(20):
        chosen = rows[torch.randperm(len(rows), generator=generator)[:32]]
        own = (chosen != tokenizer.pad_token_id).sum(1)
        differences.append(objective.draw(chosen, generator)["attention_mask"].sum(1) - own)
    found = torch.cat(differences).float()
    assert found.abs().mean() < 0.5
    assert abs(found.mean()) < 0.2
    assert own.float().std() > 1  # lengths that could be mixed up


def test_partners_are_each_others_and_of_like_length():
    lengths = torch.randint(5, 60, (33,), generator=torch.Generator().manual_seed(0))
    left = set()
    for seed in range(30):
        partner = _partners(lengths, torch.Generator().manual_seed(seed))
        assert torch.equal(partner[partner], torch.arange(33))
        (alone,) = (partner == torch.arange(33)).nonzero().flatten()
        left.add(int(alone))
        assert (lengths - lengths[partner]).abs().max() <= 8
    assert len(left) > 15, "whichever it is, its label is told by nothing"


@pytest.mark.parametrize("spoilt", [0, 1])
def test_rows_of_running_text_are_refused(tokenizer, rows, spoilt):
    other = rows[:4].clone()
    if spoilt:
        other[2, 0] = tokenizer.unk_token_id
    else:
        other = pack(documents(), tokenizer, LENGTH)[:4]
    with pytest.raises(DataError, match=r"has not two texts with their separators: make rows .* by `pack_pairs`"):
        NextSentence(tokenizer).draw(other, torch.Generator())


def test_what_is_drawn_follows_the_generator_alone(tokenizer, rows):
    objective = NextSentence(tokenizer)
    first, again = (objective.draw(rows[:16], torch.Generator().manual_seed(4)) for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["input_ids"], objective.draw(rows[:16], torch.Generator().manual_seed(5))["input_ids"])


def test_a_row_by_itself_keeps_its_own(tokenizer, rows):
    for seed in range(8):
        batch = NextSentence(tokenizer).draw(rows[:1], torch.Generator().manual_seed(seed))
        assert batch["random"].tolist() == [0]


def test_loss_is_that_of_transformers(tokenizer, rows):
    model, objective = model_of(tokenizer).eval(), NextSentence(tokenizer)
    batch = objective.draw(rows[:16], torch.Generator().manual_seed(0))
    answers = objective.answers(model, batch)
    assert list(answers) == ["masked", "next_sentence"]
    found = sum(torch.nn.functional.cross_entropy(logits, wanted) for logits, wanted in answers.values())
    inputs = {name: batch[name] for name in ("input_ids", "token_type_ids", "attention_mask")}
    expected = model(**inputs, labels=batch["targets"], next_sentence_label=batch["random"]).loss
    torch.testing.assert_close(found, expected)


def test_a_model_with_both_heads_learns_masked_tokens_alone_too(tokenizer, rows):
    model, objective = model_of(tokenizer).eval(), MaskedLM(tokenizer)
    batch = objective.draw(rows[:16], torch.Generator().manual_seed(0))
    logits, _ = objective.answers(model, batch)["masked"]
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    expected = model(**inputs).prediction_logits[batch["targets"] != -100]
    torch.testing.assert_close(logits, expected)
    assert torch.equal(inputs["attention_mask"].bool(), rows[:16] != tokenizer.pad_token_id)
    assert "attention_mask" not in objective.draw(pack(documents(), tokenizer, LENGTH)[:16], torch.Generator())


def test_a_model_without_the_head_is_unsupported(tokenizer, rows):
    objective = NextSentence(tokenizer)
    batch = objective.draw(rows[:4], torch.Generator())
    with pytest.raises(Unsupported, match="BertForMaskedLM has no head for next sentence prediction: take BertForPre"):
        objective.answers(BertForMaskedLM(model_of(tokenizer).config), batch)


def test_padding_is_no_word_to_start_from(tokenizer, rows):
    model = model_of(tokenizer)
    words, padding = model.bert.embeddings.word_embeddings.weight, tokenizer.pad_token_id
    before = words[padding].clone()
    warm_start(model, rows)
    assert torch.equal(words[padding], before)
    bias = model.cls.predictions.bias
    assert bias[padding] == bias[tokenizer.mask_token_id] < bias[tokenizer.convert_tokens_to_ids("saw")]


def test_training_teaches_both(tokenizer, rows, tmp_path):
    objective = NextSentence(tokenizer)
    model = model_of(tokenizer, seed=1)
    held_out = pack_pairs(documents(40, seed=1), tokenizer, LENGTH)
    settings = Pretraining(steps=500, batch_size=32, learning_rate=5e-3, precision="fp32", checkpoint_every=500)
    lines: list[str] = []
    before = evaluate(model, objective, held_out)
    history = pretrain(model, objective, rows, held_out, settings, report=lines.append)
    after = history[-1]
    assert set(before) == {
        "loss", "accuracy", "masked_loss", "masked_accuracy", "next_sentence_loss", "next_sentence_accuracy",
    }  # fmt: skip
    assert after["loss"] == pytest.approx(after["masked_loss"] + after["next_sentence_loss"])
    assert after["accuracy"] == after["masked_accuracy"] > before["accuracy"] + 0.2
    # half of the rows exchanged are about another topic: three quarters are told at best
    assert 0.65 < after["next_sentence_accuracy"] < 0.85
    assert f"next sentence accuracy {after['next_sentence_accuracy']:.3f}" in lines[-1]
    export(model, tokenizer, tmp_path / "model")
    pooler = AutoModel.from_pretrained(tmp_path / "model").pooler.dense.weight
    torch.testing.assert_close(pooler.float(), model.bert.pooler.dense.weight.bfloat16().float())


def test_one_sort_of_questions_has_no_further_scores(tokenizer, rows):
    model = BertForMaskedLM(model_of(tokenizer).config)
    assert set(evaluate(model, MaskedLM(tokenizer), rows[:20])) == {"loss", "accuracy"}
    settings = Pretraining(steps=1, batch_size=8, checkpoint_every=1)
    (entry,) = pretrain(model, MaskedLM(tokenizer), rows, rows[:20], settings, report=quiet)
    assert set(entry) == {"step", "train_loss", "loss", "accuracy"}


def test_a_batch_of_one_row_has_no_other_text(tokenizer, rows):
    settings = Pretraining(steps=1, batch_size=1)
    with pytest.raises(OptionError, match="batch_size=1 is too small for the objective; give 2 or more"):
        pretrain(model_of(tokenizer), NextSentence(tokenizer), rows, rows[:4], settings, report=lambda _: None)


def test_an_end_that_is_the_padding_token_too_is_no_padding(tokenizer):
    model = model_of(tokenizer)
    packed = pack(documents(), tokenizer, LENGTH)
    packed[:, -1] = tokenizer.pad_token_id
    settings = Pretraining(steps=1, batch_size=4)
    for name, value in (("eos_token_id", tokenizer.pad_token_id), ("eos_token_id", [1, tokenizer.pad_token_id])):
        setattr(model.config, name, value)
        _check_room(model, CausalLM(), packed, settings)


def test_padding_is_learnt_by_no_objective(tokenizer, rows):
    """Next words of a padded row would be padding."""
    settings = Pretraining(steps=1, batch_size=4)
    with pytest.raises(OptionError, match="rows end in padding, which CausalLM would learn as text; make them by"):
        pretrain(model_of(tokenizer), CausalLM(), rows, rows[:4], settings, report=lambda _: None)
