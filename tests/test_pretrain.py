"""Pretraining: the corpus, the masking, the start from counts and the loop, on a masked language model."""

import gzip
import random
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForMaskedLM,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    DebertaV2Config,
    DebertaV2ForMaskedLM,
    MobileBertConfig,
    MobileBertForMaskedLM,
)

from adapt.backbones.checkpointing import checkpoint_layers
from adapt.pretrain import (
    CausalLM,
    MaskedLM,
    Pretraining,
    evaluate,
    export,
    exportable,
    for_decoder,
    mask_tokens,
    masked_logits,
    pack,
    pretrain,
    read_corpus,
    schedule,
    split_documents,
    train_byte_tokenizer,
    train_tokenizer,
    warm_start,
)
from adapt.spec import DataError, Diverged, OptionError, OutOfMemory, Unsupported

SUBJECTS = ["the cat", "a dog", "my horse", "the old bird", "every fish"]
VERBS = ["sees", "follows", "likes", "knows"]
PLACES = ["in the garden", "near the river", "at home", "on the hill"]


def sentences(count: int) -> list[str]:
    rng = random.Random(0)
    return [f"{rng.choice(SUBJECTS)} {rng.choice(VERBS)} us {rng.choice(PLACES)}." for _ in range(count)]


@pytest.fixture(scope="module")
def documents():
    lines = sentences(400)
    return [lines[i : i + 10] for i in range(0, 400, 10)]


@pytest.fixture(scope="module")
def tokenizer(documents):
    return train_tokenizer(documents, vocab_size=120, max_length=16)


@pytest.fixture(scope="module")
def rows(documents, tokenizer):
    return pack(documents, tokenizer, length=16)


def tiny(tokenizer, dropout: float = 0.0, seed: int = 0) -> BertForMaskedLM:
    torch.manual_seed(seed)
    return BertForMaskedLM(
        BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=16,
            initializer_range=0.1,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
            attn_implementation="eager",
        )
    )


def write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


# ---------------------------------------------------------------- corpus


def test_corpus_is_read_in_order_of_file_names(tmp_path):
    write(tmp_path / "b.txt", "third\n")
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress("one\n two \n\n\nsecond, été".encode()))
    write(tmp_path / "c.txt", "left out")
    write(tmp_path / "README.md", "not text")
    assert read_corpus(tmp_path, leave_out=["c.txt"]) == [["one", "two"], ["second, été"], ["third"]]


def test_corpus_errors_name_the_file(tmp_path):
    with pytest.raises(OptionError, match=r"leave_out is 'gum\.txt'; give a list of names of files"):
        read_corpus(tmp_path, "gum.txt")
    with pytest.raises(DataError, match="no-such-folder does not exist"):
        read_corpus(tmp_path / "no-such-folder")
    with pytest.raises(DataError, match="holds no text"):
        read_corpus(tmp_path)
    write(tmp_path / "blank.txt", "\n\n  \n")
    with pytest.raises(DataError, match="holds no text"):
        read_corpus(tmp_path)
    (tmp_path / "latin.txt").write_bytes("caf\u00e9".encode("latin-1"))
    with pytest.raises(DataError, match=r"latin\.txt: not UTF-8 at byte 3"):
        read_corpus(tmp_path)


@pytest.mark.parametrize(
    "damage",
    [lambda raw: raw[:-12], lambda raw: b"no gzip" + raw, lambda raw: raw[:20] + b"\xff" * 20 + raw[40:]],
)
def test_damaged_gzip_is_an_error(tmp_path, damage):
    (tmp_path / "text.txt.gz").write_bytes(damage(gzip.compress("\n".join(sentences(50)).encode())))
    with pytest.raises(DataError, match=r"text\.txt\.gz: cannot be read"):
        read_corpus(tmp_path)


def test_split_holds_out_whole_documents(documents):
    train, held_out = split_documents(documents, share=0.1, seed=3)
    assert len(held_out) == 4
    assert sorted(train + held_out) == sorted(documents)
    assert split_documents(documents, share=0.1, seed=3)[1] == held_out
    assert split_documents(documents, share=0.1, seed=4)[1] != held_out
    with pytest.raises(DataError, match="one document"):
        split_documents(documents[:1], share=0.1, seed=0)
    assert [len(part) for part in split_documents(documents, share=0.999, seed=0)] == [1, len(documents) - 1]
    for share in (-0.1, 1.0, 2.0):
        with pytest.raises(OptionError, match=f"share is {share}; give a number from 0 to below 1"):
            split_documents(documents, share, 0)


def test_tokenizer_is_berts(tokenizer):
    assert tokenizer.convert_ids_to_tokens(range(5)) == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert len(tokenizer) <= 120
    encoded = tokenizer("The CAT", "sees")
    assert tokenizer.convert_ids_to_tokens(encoded["input_ids"]) == [
        "[CLS]",
        "the",
        "cat",
        "[SEP]",
        "sees",
        "[SEP]",
    ]
    assert encoded["token_type_ids"] == [0, 0, 0, 0, 1, 1]
    assert tokenizer.tokenize("the 中") == ["the", "[UNK]"]


def test_same_text_same_vocabulary(documents, tokenizer):
    assert train_tokenizer(documents, vocab_size=120, max_length=16).get_vocab() == tokenizer.get_vocab()


def test_rows_hold_the_running_text(documents, tokenizer, rows):
    assert rows.dtype == torch.int32
    assert rows.shape[1] == 16
    assert (rows[:, 0] == tokenizer.cls_token_id).all()
    assert (rows[:, -1] == tokenizer.sep_token_id).all()
    text = tokenizer.decode(rows[:, 1:-1].flatten()[:60], skip_special_tokens=True)
    assert " ".join(documents[0]).replace(".", "").startswith(text.replace(" .", "").replace(".", "")[:100])
    with pytest.raises(DataError, match="fewer than the 14"):
        pack([["the cat"]], tokenizer, length=16)
    for length in (1, 2):
        with pytest.raises(OptionError, match=rf"length={length} leaves no room for text; give 3 or more"):
            pack(documents, tokenizer, length)


def test_text_that_spells_a_special_token_holds_none(documents, tokenizer):
    spelt = [["the cat [SEP] sees [MASK] us [PAD] at home near the river on the hill."]]
    plain = [["the cat sees us at home near the river on the hill."]]
    assert torch.equal(pack(spelt, tokenizer, 8), pack(plain, tokenizer, 8))
    assert (pack([["the 中 cat sees us at home"]], tokenizer, 8) == tokenizer.unk_token_id).any()
    decoder = for_decoder(train_byte_tokenizer(documents, vocab_size=300))
    decoder.unk_token = decoder.eos_token  # as GPT-2's
    assert (pack([["the </s> cat"]], decoder, 8) == decoder.eos_token_id).sum() == 1  # at the end of the document


# ---------------------------------------------------------------- masking and objective


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


def test_logits_at_masked_positions_equal_those_of_the_whole_model(tokenizer, rows):
    model = tiny(tokenizer).eval()
    inputs, targets = mask_tokens(rows[:8], tokenizer, torch.Generator().manual_seed(0))
    mask = torch.ones_like(inputs)
    mask[:, 12:] = 0
    with torch.no_grad():
        for attention_mask in (None, mask):
            expected = model(input_ids=inputs, attention_mask=attention_mask).logits[targets != -100]
            torch.testing.assert_close(masked_logits(model, inputs, targets, attention_mask), expected)


def test_model_without_a_separate_head_is_unsupported(tokenizer, rows):
    with pytest.raises(Unsupported, match="BertModel has no masked-language-model head"):
        masked_logits(tiny(tokenizer).bert, rows[:1].long(), rows[:1].long())


# ---------------------------------------------------------------- start from counts


def test_warm_start_puts_words_of_like_contexts_together(tokenizer, rows):
    first, second = tiny(tokenizer), tiny(tokenizer)
    for model in (first, second):
        warm_start(model, rows)
    embeddings = first.bert.embeddings.word_embeddings.weight.detach()
    assert torch.equal(embeddings, second.bert.embeddings.word_embeddings.weight)
    vector = {word: embeddings[tokenizer.convert_tokens_to_ids(word)] for word in ("garden", "river", "sees", "likes")}

    def likeness(a: str, b: str) -> float:
        return torch.cosine_similarity(vector[a], vector[b], dim=0).item()

    assert likeness("garden", "river") > likeness("garden", "sees") + 0.2
    assert likeness("sees", "likes") > likeness("river", "likes") + 0.2
    assert embeddings.std() == pytest.approx(0.1, rel=0.2)  # of `initializer_range`
    assert embeddings[tokenizer.pad_token_id].norm() == 0  # never seen: as it was


def test_warm_start_knows_the_frequencies(tokenizer, rows):
    model = tiny(tokenizer)
    before = evaluate(model, MaskedLM(tokenizer), rows)["loss"]
    warm_start(model, rows)
    assert evaluate(model, MaskedLM(tokenizer), rows)["loss"] < before - 0.3


def test_warm_start_counts_an_end_token_that_is_padding_too(tokenizer, rows):
    model, end = tiny(tokenizer), tokenizer.sep_token_id
    before = model.bert.embeddings.word_embeddings.weight.detach().clone()
    model.config.pad_token_id = end
    warm_start(model, rows)  # ends of documents stand within rows
    assert not torch.equal(model.bert.embeddings.word_embeddings.weight[end], before[end])
    assert model.cls.predictions.bias[end] > model.cls.predictions.bias[tokenizer.mask_token_id]


def test_warm_start_needs_a_vocabulary_as_large_as_the_width(tokenizer, rows):
    model = tiny(tokenizer)
    model.resize_token_embeddings(20)
    with pytest.raises(OptionError, match="vocabulary of 20 cannot fill embeddings of width 32"):
        warm_start(model, rows)


def test_warm_start_takes_no_vocabulary_that_fills_the_memory(tokenizer, rows):
    model = tiny(tokenizer)
    model.resize_token_embeddings(10_001, mean_resizing=False)
    before = model.bert.embeddings.word_embeddings.weight.detach().clone()
    with pytest.raises(OptionError, match=r"vocabulary of 10001 is too large .* at most 10000: do without warm_start"):
        warm_start(model, rows)
    assert torch.equal(model.bert.embeddings.word_embeddings.weight, before)


def test_warm_start_of_words_narrower_than_the_model(tokenizer, rows):
    """MobileBERT's positions are wider than its words, and the head of DeBERTa gives its inner layer as the last."""
    shape = {
        "vocab_size": len(tokenizer), "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 64, "max_position_embeddings": 16,
    }  # fmt: skip
    narrow = MobileBertForMaskedLM(MobileBertConfig(embedding_size=16, true_hidden_size=32, **shape))
    warm_start(narrow, rows)
    positions = narrow.base_model.embeddings.position_embeddings.weight
    assert (positions[0, 0::2] == 0).all()
    assert positions[1, 1::2].diff().ge(0).all()  # longer periods turn less
    inner = DebertaV2ForMaskedLM(DebertaV2Config(legacy=False, **shape))
    before = inner.get_output_embeddings().bias.detach().clone()
    warm_start(inner, rows)
    assert torch.equal(inner.get_output_embeddings().bias, before)


# ---------------------------------------------------------------- the loop


SETTINGS = Pretraining(steps=120, batch_size=16, learning_rate=1e-2, precision="fp32", checkpoint_every=40)


def quiet(line: str) -> None:
    pass


def test_schedule_rises_then_falls_to_zero():
    settings = Pretraining(steps=100, warmup=0.1)
    factors = [schedule(step, settings) for step in range(101)]
    assert factors[0] == pytest.approx(0.1)
    assert max(factors) == factors[9] == factors[10] == 1.0
    assert factors[100] == 0.0
    assert factors[10:] == sorted(factors[10:], reverse=True)


class Narrow(MaskedLM):
    """Has no memory for more than a few rows at a time."""

    most = 5

    def answers(self, model, batch):
        if len(batch["input_ids"]) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return super().answers(model, batch)


def test_held_out_rows_are_scored_in_the_memory_there_is(tokenizer, rows, monkeypatch):
    model = tiny(tokenizer)
    whole = evaluate(model, MaskedLM(tokenizer), rows)
    assert evaluate(model, Narrow(tokenizer), rows) == pytest.approx(whole)
    assert model.training
    monkeypatch.setattr(Narrow, "most", 0)
    with pytest.raises(OutOfMemory, match="one row at a time; use shorter rows, or a smaller model"):
        evaluate(model, Narrow(tokenizer), rows)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_loss_falls_well_below_what_frequencies_give(tokenizer, rows, precision):
    model = tiny(tokenizer)
    warm_start(model, rows[:-20])
    before = evaluate(model, MaskedLM(tokenizer), rows[-20:])
    settings = Pretraining(steps=200, batch_size=16, learning_rate=5e-3, precision=precision, checkpoint_every=80)
    lines: list[str] = []
    history = pretrain(model, MaskedLM(tokenizer), rows[:-20], rows[-20:], settings, report=lines.append)
    assert [entry["step"] for entry in history] == [80, 160, 200]
    assert lines[-1].startswith("step 200/200")
    assert history[-1]["loss"] == pytest.approx(evaluate(model, MaskedLM(tokenizer), rows[-20:])["loss"])
    frequency = torch.bincount(rows[:-20, 1:-1].flatten()) / rows[:-20, 1:-1].numel()
    unigram = -(frequency * frequency.clamp(min=1e-9).log()).sum().item()  # loss of the best guess without context
    assert history[-1]["loss"] < unigram - 0.5
    assert history[-1]["accuracy"] > before["accuracy"] + 0.1
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    assert all(p.dtype == torch.float32 for p in model.parameters())


def test_a_model_in_bfloat16_is_trained_in_float32(tokenizer, rows):
    settings = Pretraining(**{**vars(SETTINGS), "steps": 3})
    works = (
        lambda model: warm_start(model, rows),
        lambda model: pretrain(model, MaskedLM(tokenizer), rows, rows[:8], settings, report=quiet),
    )
    for work in works:
        given, same = tiny(tokenizer).bfloat16(), tiny(tokenizer).bfloat16().float()
        for model in (given, same):
            work(model)
        assert next(given.parameters()).dtype == torch.float32
        for name, tensor in given.state_dict().items():
            assert torch.equal(tensor, same.state_dict()[name]), name


def test_resumed_training_ends_with_the_same_bits(tokenizer, rows, tmp_path):
    whole = tiny(tokenizer, dropout=0.1)
    history = pretrain(whole, MaskedLM(tokenizer), rows, rows[:8], SETTINGS, report=quiet)

    def stop_at_80(line: str) -> None:
        if line.startswith("step 120"):
            raise KeyboardInterrupt

    file = tmp_path / "state.safetensors"
    with pytest.raises(KeyboardInterrupt):
        pretrain(tiny(tokenizer, dropout=0.1), MaskedLM(tokenizer), rows, rows[:8], SETTINGS, file, stop_at_80)
    resumed = tiny(tokenizer, dropout=0.1, seed=7)
    assert pretrain(resumed, MaskedLM(tokenizer), rows, rows[:8], SETTINGS, file, quiet) == history
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name
    assert (
        pretrain(resumed, MaskedLM(tokenizer), rows, rows[:8], SETTINGS, file, quiet) == history
    )  # nothing left to do
    assert not list(tmp_path.glob("*.partial"))


def test_a_later_stage_is_resumed_in_another_process(tokenizer, rows, tmp_path):
    """Where a model is exported on the way, as recipes do."""
    first = Pretraining(**{**vars(SETTINGS), "steps": 3})
    second = Pretraining(**{**vars(SETTINGS), "steps": 6, "checkpoint_every": 3})

    def stages(model: BertForMaskedLM, folder: Path, last: str) -> None:
        def report(line: str) -> None:
            export(model, tokenizer, folder / "model")
            if line.startswith(last):
                raise KeyboardInterrupt

        folder.mkdir(exist_ok=True)
        for settings in (first, second):
            file = folder / f"{settings.steps}.safetensors"
            pretrain(model, MaskedLM(tokenizer), rows, rows[:8], settings, file, report)

    whole, resumed = tiny(tokenizer, dropout=0.1), tiny(tokenizer, dropout=0.1)
    stages(whole, tmp_path / "whole", "never")
    with pytest.raises(KeyboardInterrupt):
        stages(tiny(tokenizer, dropout=0.1), tmp_path / "parts", "step 6")
    stages(resumed, tmp_path / "parts", "never")
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_the_seed_alone_decides_what_dropout_drops(tokenizer, rows):
    settings = Pretraining(**{**vars(SETTINGS), "steps": 3})
    models = [tiny(tokenizer, dropout=0.1) for _ in range(2)]
    for model, state in zip(models, (5, 6), strict=True):
        torch.manual_seed(state)
        pretrain(model, MaskedLM(tokenizer), rows, rows[:8], settings, report=quiet)
    for name, tensor in models[0].state_dict().items():
        assert torch.equal(tensor, models[1].state_dict()[name]), name


def test_a_checkpoint_holds_what_a_gpu_draws_from(tokenizer, rows, tmp_path, monkeypatch):
    from adapt.pretrain import checkpoint

    file, settings, state = tmp_path / "state.safetensors", Pretraining(**{**vars(SETTINGS), "steps": 1}), [1]
    put: list[int] = []
    monkeypatch.setattr(checkpoint, "_device", lambda model: "cuda")
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda: torch.tensor(state, dtype=torch.uint8))
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda given: put.extend(given.tolist()))
    pretrain(tiny(tokenizer), MaskedLM(tokenizer), rows, rows[:8], settings, file, quiet)
    state[:] = [2]
    pretrain(tiny(tokenizer), MaskedLM(tokenizer), rows, rows[:8], settings, file, quiet)
    assert put == [1]
    monkeypatch.setattr(checkpoint, "_device", lambda model: "cpu")  # gone on without a GPU
    pretrain(tiny(tokenizer), MaskedLM(tokenizer), rows, rows[:8], settings, file, quiet)
    assert put == [1]


def test_a_checkpointed_layer_drops_the_same_again(tokenizer, rows):
    settings = Pretraining(**{**vars(SETTINGS), "steps": 3})
    models = [tiny(tokenizer, dropout=0.1) for _ in range(2)]
    checkpoint_layers(models[1])
    for model in models:
        pretrain(model, MaskedLM(tokenizer), rows, rows[:8], settings, report=quiet)
    for name, tensor in models[0].state_dict().items():
        assert torch.equal(tensor, models[1].state_dict()[name]), name


def test_another_seed_gives_other_weights(tokenizer, rows):
    short = {**vars(SETTINGS), "steps": 3}
    models = [tiny(tokenizer) for _ in range(3)]
    for model, seed in zip(models, (0, 0, 1), strict=True):
        pretrain(model, MaskedLM(tokenizer), rows, rows[:8], Pretraining(**{**short, "seed": seed}), report=quiet)
    first, same, other = (model.bert.embeddings.word_embeddings.weight for model in models)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_loop_errors(tokenizer, rows, tmp_path):
    with pytest.raises(DataError, match="do not fill a batch of 16"):
        pretrain(tiny(tokenizer), MaskedLM(tokenizer), rows[:5], rows, SETTINGS)
    for name, value, message in (
        ("precision", "bfloat16", "precision is 'bfloat16'; choose one of bf16, fp32"),
        ("checkpoint_every", 0, "checkpoint_every is 0; give a whole number of at least 1"),
        ("steps", 0, "steps is 0; give a whole number"),
        ("batch_size", -1, "batch_size is -1; give a whole number"),
        ("clip", 0.0, "clip is 0.0; give a finite number above 0"),
        ("warmup", 1.5, "warmup is 1.5; give a number from 0 to below 1"),
        ("weight_decay", -0.1, "weight_decay is -0.1; give a finite number of at least 0"),
        ("learning_rate", -1e-3, "learning_rate is -0.001; give a finite number above zero"),
    ):
        wrong = Pretraining(**{**vars(SETTINGS), name: value})
        with pytest.raises(OptionError, match=message):
            pretrain(tiny(tokenizer), MaskedLM(tokenizer), rows, rows[:8], wrong, report=quiet)
    with pytest.raises(DataError, match="no rows are held out: give some text"):
        pretrain(tiny(tokenizer), MaskedLM(tokenizer), rows, rows[:0], SETTINGS, report=quiet)
    with pytest.raises(OptionError, match="is a folder; give the name of a file, such as one in it"):
        pretrain(tiny(tokenizer), MaskedLM(tokenizer), rows, rows[:8], SETTINGS, tmp_path, quiet)
    file = tmp_path / "state.safetensors"
    pretrain(
        tiny(tokenizer), MaskedLM(tokenizer), rows, rows[:8], Pretraining(**{**vars(SETTINGS), "steps": 1}), file, quiet
    )
    with pytest.raises(OptionError, match="written with other settings"):
        pretrain(tiny(tokenizer), MaskedLM(tokenizer), rows, rows[:8], SETTINGS, file, quiet)
    settings = Pretraining(**{**vars(SETTINGS), "steps": 1})
    with pytest.raises(OptionError, match="written with other settings"):
        pretrain(tiny(tokenizer), CausalLM(), rows, rows[:8], settings, file, quiet)
    other = tiny(tokenizer)
    other.bert.encoder.layer[0].intermediate.dense = torch.nn.Linear(32, 65)
    with pytest.raises(OptionError, match=r"another model \(bert.encoder.layer.0.intermediate.dense.bias differs"):
        pretrain(other, MaskedLM(tokenizer), rows, rows[:8], settings, file, quiet)
    for damaged in (file.read_bytes()[:-50], b"nonsense"):
        file.write_bytes(damaged)
        with pytest.raises(OptionError, match=r"state\.safetensors is no checkpoint"):
            pretrain(tiny(tokenizer), MaskedLM(tokenizer), rows, rows[:8], settings, file, quiet)
    broken = tiny(tokenizer)
    broken.bert.embeddings.LayerNorm.weight.data.fill_(float("nan"))
    with pytest.raises(Diverged, match="step 1"):
        pretrain(broken, MaskedLM(tokenizer), rows, rows[:8], SETTINGS, report=quiet)


def test_export_is_loaded_by_transformers(tokenizer, rows, tmp_path):
    model, folder = tiny(tokenizer), tmp_path / "encoder"
    config, state = model.config.to_dict(), torch.get_rng_state()
    export(model, tokenizer, folder)
    assert model.config.to_dict() == config
    assert torch.equal(torch.get_rng_state(), state)
    (folder / "README.md").write_text("# kept")
    model.cls.predictions.bias.data.fill_(0.5)
    export(model, tokenizer, folder, held_out={"loss": 1.5})
    assert [path.name for path in tmp_path.iterdir()] == ["encoder"]
    assert (folder / "README.md").read_text() == "# kept"
    assert (folder / "model.safetensors").stat().st_mode & 0o777 == 0o644
    assert next(model.parameters()).dtype == torch.float32  # the model itself is left alone
    loaded = AutoModelForMaskedLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    assert loaded.config.pretraining == {"held_out": {"loss": 1.5}}
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], tensor, rtol=0.01, atol=1e-6)
    assert AutoTokenizer.from_pretrained(folder)("the cat")["input_ids"] == tokenizer("the cat")["input_ids"]


def test_a_checkpoint_goes_with_its_text_and_its_objective(tokenizer, rows, tmp_path):
    from adapt.pretrain import Copying, Mixture, PrefixLM
    from adapt.pretrain.checkpoint import described, digest

    file, settings = tmp_path / "state.safetensors", Pretraining(**{**vars(SETTINGS), "steps": 1})
    pretrain(tiny(tokenizer), MaskedLM(tokenizer), rows, rows[:8], settings, file, quiet)
    for other, held_out in ((rows.flip(0), rows[:8]), (rows, rows[8:16])):
        with pytest.raises(OptionError, match="other settings or text"):
            pretrain(tiny(tokenizer), MaskedLM(tokenizer), other, held_out, settings, file, quiet)
    assert digest(rows) != digest(rows[1:])
    assert described(Mixture((PrefixLM(0.25), Copying()))) != described(Mixture((PrefixLM(0.5), Copying())))
    assert described(Mixture((PrefixLM(),))) != described(Mixture((Copying(),)))


def test_a_checkpoint_goes_with_its_model(tokenizer, rows, tmp_path):
    """Another number of heads or another activation has weights of the same shapes."""
    file, settings = tmp_path / "state.safetensors", Pretraining(**{**vars(SETTINGS), "steps": 1})
    pretrain(tiny(tokenizer), MaskedLM(tokenizer), rows, rows[:8], settings, file, quiet)
    for change in ({"num_attention_heads": 1}, {"hidden_act": "relu"}):
        config = tiny(tokenizer).config
        config.update(change)
        with pytest.raises(OptionError, match=r"other settings or text \(model"):
            pretrain(BertForMaskedLM(config), MaskedLM(tokenizer), rows, rows[:8], settings, file, quiet)


def test_what_cannot_be_written_is_found_before_the_work(tokenizer, rows, tmp_path):
    settings = Pretraining(**{**vars(SETTINGS), "steps": 2, "checkpoint_every": 1})
    (tmp_path / "file").write_text("")
    with pytest.raises(OptionError, match="file cannot be written: it is a file"):
        pretrain(tiny(tokenizer), MaskedLM(tokenizer), rows, rows[:8], settings, tmp_path / "file" / "state", quiet)
    for folder, message in (("file/model", "cannot be written"), ("", "holds more than a model")):
        with pytest.raises(OptionError, match=message):
            exportable(tmp_path / folder)
    assert exportable(tmp_path / "a/b") == tmp_path / "a/b"
    file = tmp_path / "new" / "state.safetensors"

    def report(line: str) -> None:
        assert file.exists()  # whatever becomes of what is done with the report
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        pretrain(tiny(tokenizer), MaskedLM(tokenizer), rows, rows[:8], settings, file, report)
    assert len(pretrain(tiny(tokenizer), MaskedLM(tokenizer), rows, rows[:8], settings, file, quiet)) == 2


def test_export_replaces_a_model_and_nothing_else(tokenizer, rows, tmp_path):
    model, folder = tiny(tokenizer), tmp_path / "models"
    (folder / "other").mkdir(parents=True)
    (folder / "other" / "model.safetensors").write_bytes(b"dear")
    with pytest.raises(OptionError, match="models holds more than a model"):
        export(model, tokenizer, folder)
    assert (folder / "other" / "model.safetensors").read_bytes() == b"dear"
    kept = tmp_path / "kept"
    export(model, tokenizer, kept)
    kept.rename(tmp_path / ".kept.old")  # ended between the last two steps
    export(model, tokenizer, kept)
    assert [path.name for path in tmp_path.glob("*kept*")] == ["kept"]


def test_export_keeps_what_is_no_part_of_a_model(tokenizer, rows, tmp_path):
    model, folder = tiny(tokenizer), tmp_path / "model"
    export(model, tokenizer, folder)
    settings = Pretraining(**{**vars(SETTINGS), "steps": 2, "checkpoint_every": 1})
    state = folder / "state.safetensors"
    (folder / "notes.txt").write_text("dear")
    (folder / "model-00001-of-00002.safetensors").write_bytes(b"of an older model")

    def report(line: str) -> None:
        export(model, tokenizer, folder)

    pretrain(model, MaskedLM(tokenizer), rows, rows[:8], settings, state, report)
    assert (folder / "notes.txt").read_text() == "dear"
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json", "model.safetensors", "notes.txt", "state.safetensors", "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip
    assert len(pretrain(tiny(tokenizer), MaskedLM(tokenizer), rows, rows[:8], settings, state, quiet)) == 2


def test_export_goes_where_a_link_leads(tokenizer, tmp_path, monkeypatch):
    model, link = tiny(tokenizer), tmp_path / "link"
    (tmp_path / "disk").mkdir()
    link.symlink_to(tmp_path / "disk")
    for _ in range(2):
        export(model, tokenizer, link)
    assert link.is_symlink()
    assert (tmp_path / "disk" / "config.json").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", "link"]
    monkeypatch.chdir(link)
    with pytest.raises(OptionError, match="disk is the working directory, which cannot be replaced; give another"):
        exportable(".")


def test_a_vocabulary_without_room_for_its_characters_is_an_error(documents):
    with pytest.raises(OptionError, match=r"vocab_size is 40; give at least 49, .*; or a smaller alphabet_size"):
        train_tokenizer(documents, vocab_size=40)
    assert len(train_tokenizer(documents, vocab_size=49)) == 49
    with pytest.raises(OptionError, match="vocab_size is 291; give at least 292, as"):
        train_byte_tokenizer(documents, vocab_size=291)


def test_marks_that_tell_words_apart_can_be_kept() -> None:
    lines = [["ọkọ́ ọkọ̀ oko ọkọ"] * 20]
    stripped, kept = (train_tokenizer(lines, 120, 16, strip_accents=strip) for strip in (True, False))
    words = ["ọkọ́", "ọkọ̀", "oko", "ọkọ"]
    assert len({tuple(stripped(word)["input_ids"]) for word in words}) == 1
    assert len({tuple(kept(word)["input_ids"]) for word in words}) == 4
    unknown = train_tokenizer(lines, 120, 16, alphabet_size=1, strip_accents=False)
    assert unknown.unk_token_id in unknown("ọkọ́")["input_ids"]
