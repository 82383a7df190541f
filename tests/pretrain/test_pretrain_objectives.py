"""Pretraining of a decoder and of an encoder-decoder: byte tokenizer, causal LM, span corruption, prefix LM."""

from collections import Counter

import pytest
import torch
from pretrain_helpers import quiet, sentences
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    ByT5Tokenizer,
    CodeGenConfig,
    CodeGenForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    M2M100Config,
    M2M100ForConditionalGeneration,
    Qwen2Config,
    Qwen2ForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from adapt.pretrain import (
    CausalLM,
    Copying,
    Mixture,
    PrefixLM,
    Pretraining,
    SpanCorruption,
    evaluate,
    export,
    for_decoder,
    for_encoder_decoder,
    pack,
    pretrain,
    train_byte_tokenizer,
    warm_start,
)
from adapt.pretrain.denoising import divide
from adapt.spec import OptionError, Unsupported

VOCABULARY = 360  # 36 special tokens, 256 bytes, 68 merges


def documents() -> list[list[str]]:
    lines = sentences(400)
    return [lines[i : i + 10] for i in range(0, 400, 10)]


@pytest.fixture(scope="module")
def bpe():
    return train_byte_tokenizer(documents(), vocab_size=VOCABULARY)


@pytest.fixture(scope="module")
def decoder_rows(bpe):
    return pack(documents(), for_decoder(bpe), length=24)


@pytest.fixture(scope="module")
def text_rows(bpe):
    return pack(documents(), for_encoder_decoder(bpe), length=33)


def decoder() -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2,
            intermediate_size=64, max_position_embeddings=32, initializer_range=0.1, tie_word_embeddings=True,
            pad_token_id=0, bos_token_id=1, eos_token_id=2, attn_implementation="eager",
        )
    )  # fmt: skip


def encoder_decoder(seed: int = 0) -> T5ForConditionalGeneration:
    torch.manual_seed(seed)
    return T5ForConditionalGeneration(
        T5Config(
            vocab_size=VOCABULARY, d_model=32, d_kv=8, d_ff=64, num_layers=1, num_heads=4, dropout_rate=0.0,
            feed_forward_proj="gated-gelu", tie_word_embeddings=True, pad_token_id=0, eos_token_id=2,
            decoder_start_token_id=0,
        )
    )  # fmt: skip


# ---------------------------------------------------------------- tokenizer and rows


@pytest.mark.parametrize(
    "text", ["The cat sees us.", " two  spaces \n\n\tand tabs ", "naïve 中文 🙂", "1920s <pad> </s>"]
)
def test_byte_tokenizer_loses_nothing(bpe, text):
    for tokenizer in (for_decoder(bpe), for_encoder_decoder(bpe)):
        plain = text.replace("<pad>", "pad").replace("</s>", "/s")
        ids = tokenizer(plain)["input_ids"]
        assert tokenizer.decode(ids, skip_special_tokens=True) == plain
        assert tokenizer.unk_token_id not in ids


def test_byte_tokenizer_has_its_special_tokens_first(bpe):
    tokenizer = for_decoder(bpe)
    assert len(tokenizer) == VOCABULARY
    assert tokenizer.convert_ids_to_tokens([0, 1, 2, 3, 4, 35]) == [
        "<pad>", "<s>", "</s>", "<unk>", "<extra_id_0>", "<extra_id_31>",
    ]  # fmt: skip
    assert (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (0, 1, 2)
    assert set(range(36)) == set(tokenizer.all_special_ids)


def test_digits_stand_alone(bpe):
    assert for_decoder(bpe).tokenize("in 1066")[-4:] == ["1", "0", "6", "6"]


def test_frames(bpe):
    decoder_ids, text_ids = for_decoder(bpe)("a cat")["input_ids"], for_encoder_decoder(bpe)("a cat")["input_ids"]
    plain = for_decoder(bpe)("a cat", add_special_tokens=False)["input_ids"]
    assert decoder_ids == [1, *plain]
    assert text_ids == [*plain, 2]


def test_same_text_same_byte_vocabulary(bpe):
    assert train_byte_tokenizer(documents(), vocab_size=VOCABULARY).to_str() == bpe.to_str()


def test_rows_of_a_decoder_begin_and_those_of_an_encoder_decoder_end(bpe, decoder_rows, text_rows):
    tokenizer = for_decoder(bpe)
    assert decoder_rows.shape[1] == 24
    assert (decoder_rows[:, 0] == 1).all()
    assert (text_rows[:, -1] == 2).all()
    text = "</s>".join("\n".join(document) for document in documents())
    for rows in (decoder_rows[:, 1:], text_rows[:, :-1]):
        found = tokenizer.decode(rows.flatten())
        assert text.startswith(found[: len(text)])
        assert len(found) > len(text) - 100


# ---------------------------------------------------------------- objectives


def test_causal_lm_is_transformers_loss(decoder_rows):
    model = decoder().eval()
    batch = CausalLM().draw(decoder_rows[:6], torch.Generator())
    ((logits, wanted),) = CausalLM().answers(model, batch).values()
    assert logits.shape == (6 * 23, VOCABULARY)
    expected = model(input_ids=decoder_rows[:6].long(), labels=decoder_rows[:6].long()).loss
    torch.testing.assert_close(torch.nn.functional.cross_entropy(logits, wanted), expected)


def test_text_to_text_is_transformers_loss(bpe, text_rows):
    model, objective = encoder_decoder().eval(), SpanCorruption(for_encoder_decoder(bpe))
    batch = objective.draw(text_rows[:6], torch.Generator().manual_seed(0))
    ((logits, wanted),) = objective.answers(model, batch).values()
    torch.testing.assert_close(torch.nn.functional.cross_entropy(logits, wanted), model(**batch).loss)


def restored(inputs: list[int], labels: list[int]) -> list[int]:
    """The row that inputs and labels were made from, written apart from the objective."""
    marks = range(4, 36)
    spans: dict[int, list[int]] = {}
    for token in labels[:-1]:
        if token in marks:
            current = spans.setdefault(token, [])
        else:
            current.append(token)
    return [token for item in inputs for token in (spans[item] if item in marks else [item])]


def test_span_corruption_hides_15_percent_in_spans_of_3(bpe):
    rows = torch.randint(36, VOCABULARY, (500, 101), generator=torch.Generator().manual_seed(1))
    rows[:, -1] = 2
    batch = SpanCorruption(for_encoder_decoder(bpe)).draw(rows, torch.Generator().manual_seed(2))
    inputs, labels = batch["input_ids"], batch["labels"]
    assert inputs.shape == (500, 100 - 15 + 5 + 1)
    assert labels.shape == (500, 15 + 6 + 1)  # a sentinel before each span, one at the end, and the end token
    assert (labels[:, 0] == 4).all()
    assert (labels[:, -2:] == torch.tensor([9, 2])).all()
    assert ((inputs >= 4) & (inputs < 36)).sum(1).eq(5).all()
    assert [restored(i.tolist(), t.tolist()) for i, t in zip(inputs, labels, strict=True)] == rows.tolist()
    hidden = torch.tensor([[token not in visible for token in row] for row, visible in
                           zip(rows.tolist(), [set(i.tolist()) for i in inputs], strict=True)])  # fmt: skip
    assert not hidden[:, [0, -2, -1]].any()
    assert hidden[:, 5:95].float().mean(0).std() < 0.03  # about 0.016 by chance: no place is favoured
    lengths = Counter(len(span) for row in labels.tolist() for span in _spans(row))
    assert sum(length * n for length, n in lengths.items()) / sum(lengths.values()) == 3.0
    assert {1, 2, 3, 4, 5} <= lengths.keys()


def _spans(labels: list[int]) -> list[list[int]]:
    spans: list[list[int]] = []
    for token in labels[:-2]:
        if 4 <= token < 36:
            spans.append([])
        else:
            spans[-1].append(token)
    return spans


def test_whole_texts_are_restored_on_demand(bpe, text_rows):
    tokenizer = for_encoder_decoder(bpe)
    spans = SpanCorruption(tokenizer).draw(text_rows, torch.Generator().manual_seed(3))
    whole = SpanCorruption(tokenizer, whole=True).draw(text_rows, torch.Generator().manual_seed(3))
    assert torch.equal(spans["input_ids"], whole["input_ids"])
    assert torch.equal(whole["labels"], text_rows.long())


def test_divisions_are_all_alike():
    drawn = divide(5, 3, 6000, torch.Generator().manual_seed(0))
    counts = Counter(map(tuple, drawn.tolist()))
    assert set(counts) == {(1, 1, 3), (1, 2, 2), (1, 3, 1), (2, 1, 2), (2, 2, 1), (3, 1, 1)}
    assert max(counts.values()) < 1000 + 5 * 29  # five standard deviations
    assert divide(4, 1, 2, torch.Generator()).tolist() == [[4], [4]]
    assert divide(3, 3, 1, torch.Generator()).tolist() == [[1, 1, 1]]


def test_too_few_sentinels(bpe):
    rows = torch.full((2, 800), 50)
    with pytest.raises(OptionError, match="needs 41 sentinel tokens and the tokenizer has no <extra_id_40>"):
        SpanCorruption(for_encoder_decoder(bpe)).draw(rows, torch.Generator())


def test_prefix_and_rest_make_the_text(text_rows):
    cuts, longest = set(), set()
    for seed in range(60):
        batch = PrefixLM().draw(text_rows[:4], torch.Generator().manual_seed(seed))
        longest.add(max(side.shape[1] for side in batch.values()))
        assert torch.equal(torch.cat([batch["input_ids"][:, :-1], batch["labels"]], 1), text_rows[:4].long())
        assert (batch["input_ids"][:, -1] == 2).all()
        cuts.add(batch["input_ids"].shape[1] - 1)
    assert min(cuts) >= 8
    assert max(cuts) <= 24
    assert len(cuts) > 8
    assert max(longest) == PrefixLM().longest(text_rows)


def test_copying_asks_for_the_same_tokens_in_an_order_that_no_language_has(text_rows):
    first, again, other = (Copying().draw(text_rows[:4], torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(first["input_ids"], first["labels"])
    assert torch.equal(first["input_ids"], again["input_ids"])
    assert not torch.equal(first["input_ids"], other["input_ids"])
    assert torch.equal(first["input_ids"].sort(1).values, text_rows[:4].long().sort(1).values)
    assert torch.equal(first["input_ids"][:, -1], text_rows[:4, -1].long())
    assert not torch.equal(first["input_ids"], text_rows[:4].long())


def test_mixture_draws_every_part(bpe, text_rows):
    tokenizer = for_encoder_decoder(bpe)
    mixture = Mixture((SpanCorruption(tokenizer), SpanCorruption(tokenizer, whole=True), PrefixLM()))
    generator, kinds = torch.Generator().manual_seed(0), Counter()
    for _ in range(300):
        labels = mixture.draw(text_rows[:1], generator)["labels"]
        kinds["spans" if 4 <= labels[0, 0] < 36 else "whole" if labels.shape[1] == 33 else "prefix"] += 1
    assert set(kinds) == {"spans", "whole", "prefix"}
    assert min(kinds.values()) > 70


def test_a_mixture_of_nothing_is_an_error():
    with pytest.raises(OptionError, match="a mixture has no parts: give objectives to draw from"):
        Mixture(())


def test_every_part_of_a_mixture_is_scored_on_all_rows(bpe, text_rows):
    parts = (SpanCorruption(for_encoder_decoder(bpe)), Copying(), PrefixLM())
    model, held_out = encoder_decoder(), text_rows[:40]
    each = [evaluate(model, part, held_out) for part in parts]
    found = evaluate(model, Mixture(parts), held_out)
    assert found == {name: pytest.approx(sum(one[name] for one in each) / 3) for name in ("loss", "accuracy")}


# ---------------------------------------------------------------- start, loop and folder


@pytest.mark.parametrize("make", [decoder, encoder_decoder])
def test_warm_start_without_positions_and_bias(make, bpe, decoder_rows):
    model, vocabulary = make(), bpe.get_vocab()
    before = model.get_input_embeddings().weight.std()
    warm_start(model, decoder_rows)
    words = model.get_input_embeddings().weight.detach()
    assert words.std() == pytest.approx(before.item(), rel=0.5)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight

    def likeness(a: str, b: str) -> float:
        return torch.cosine_similarity(words[vocabulary[a]], words[vocabulary[b]], dim=0).item()

    assert likeness("Ġgarden", "Ġriver") > likeness("Ġgarden", "Ġsees") + 0.2


def test_decoder_learns_and_resumes(decoder_rows, tmp_path):
    frequency = torch.bincount(decoder_rows[:, 1:].flatten()) / decoder_rows[:, 1:].numel()
    unigram = -(frequency * frequency.clamp(min=1e-9).log()).sum().item()
    settings = Pretraining(steps=60, batch_size=16, learning_rate=1e-2, precision="fp32", checkpoint_every=30)
    whole, file = decoder(), tmp_path / "state.safetensors"
    history = pretrain(whole, CausalLM(), decoder_rows[:-20], decoder_rows[-20:], settings, report=quiet)
    assert history[-1]["loss"] < unigram - 1.5
    assert history[-1]["loss"] == evaluate(whole, CausalLM(), decoder_rows[-20:])["loss"]

    def stop(line: str) -> None:
        if line.startswith("step 30"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain(decoder(), CausalLM(), decoder_rows[:-20], decoder_rows[-20:], settings, file, stop)
    resumed = decoder()
    assert pretrain(resumed, CausalLM(), decoder_rows[:-20], decoder_rows[-20:], settings, file, quiet) == history
    assert resumed.lm_head.weight is resumed.model.embed_tokens.weight
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


@pytest.mark.parametrize("which", ["spans", "whole", "prefix"])
def test_encoder_decoder_learns(which, bpe, text_rows):
    tokenizer = for_encoder_decoder(bpe)
    objective = {
        "spans": SpanCorruption(tokenizer), "whole": SpanCorruption(tokenizer, whole=True), "prefix": PrefixLM(),
    }[which]  # fmt: skip
    model = encoder_decoder()
    before = evaluate(model, objective, text_rows[-20:])["loss"]
    precision = "bf16" if which == "spans" else "fp32"  # which some CPUs have to emulate
    settings = Pretraining(steps=40, batch_size=16, learning_rate=1e-2, precision=precision, checkpoint_every=40)
    history = pretrain(model, objective, text_rows[:-20], text_rows[-20:], settings, report=quiet)
    assert history[-1]["loss"] < before - 2


@pytest.mark.parametrize(
    ("make", "frame", "auto"),
    [(decoder, for_decoder, AutoModelForCausalLM), (encoder_decoder, for_encoder_decoder, AutoModelForSeq2SeqLM)],
)
def test_export_is_loaded_by_the_auto_classes(make, frame, auto, bpe, tmp_path):
    model, tokenizer, text = make(), frame(bpe), "The cat \n sees 12 us."
    export(model, tokenizer, tmp_path / "model", held_out={"loss": 1.5})
    loaded = auto.from_pretrained(tmp_path / "model", dtype=torch.float32)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], tensor, rtol=0.01, atol=1e-6)
    again = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert again(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert again.decode(again(text)["input_ids"], skip_special_tokens=True) == text
    assert again.all_special_ids == tokenizer.all_special_ids
    assert again.model_max_length == tokenizer.model_max_length


def test_a_tokenizer_without_a_vocabulary_is_exported(tmp_path):
    export(encoder_decoder(), ByT5Tokenizer(), tmp_path / "model")
    assert AutoTokenizer.from_pretrained(tmp_path / "model")("a cat")["input_ids"] == ByT5Tokenizer()("a cat").input_ids


def test_a_tokenizer_that_is_loaded_as_another_is_told_of(bpe, tmp_path):
    config = Qwen2Config(
        vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2,
        intermediate_size=64,
    )  # fmt: skip
    with pytest.warns(UserWarning, match="makes a Qwen2Tokenizer of its tokenizer, with another normalizer"):
        export(Qwen2ForCausalLM(config), for_decoder(bpe), tmp_path / "model")


@pytest.mark.parametrize(
    ("share", "mean_span", "length", "message"),
    [
        (0.5, 1.0, 9, "4 spans of 4 hidden tokens cannot be parted in rows of 8"),
        (0.15, 3.0, 2, "0 spans of 0 hidden tokens cannot be parted in rows of 1"),
        *(
            (share, 3.0, 33, f"share is {share}; give a number above 0 and up to 0.5")
            for share in (0.0, 0.6, float("nan"))
        ),
    ],
)
def test_spans_that_cannot_be_parted_are_an_error(
    bpe, share: float, mean_span: float, length: int, message: str
) -> None:
    spans = SpanCorruption(for_encoder_decoder(bpe), share=share, mean_span=mean_span)
    with pytest.raises(OptionError, match=message):
        spans.draw(torch.ones(2, length, dtype=torch.int64), torch.Generator())


def test_spans_of_less_than_a_token_are_an_error(bpe) -> None:
    for mean_span in (0.0, 0.5, float("nan")):
        with pytest.raises(OptionError, match=f"mean_span is {mean_span}; give a number of at least 1"):
            SpanCorruption(for_encoder_decoder(bpe), mean_span=mean_span).draw(torch.ones(2, 33), torch.Generator())


def test_a_prefix_that_leaves_no_place_for_a_cut_is_an_error() -> None:
    rows = torch.ones(2, 10, dtype=torch.int64)  # nine tokens and an end
    with pytest.raises(OptionError, match="no two sides of 5: choose a smaller least"):
        PrefixLM(least=0.6).draw(rows, torch.Generator())
    assert PrefixLM(least=0.4).draw(rows, torch.Generator())["labels"].shape[1] in (5, 6, 7)


def test_models_that_leave_out_what_others_have(bpe, decoder_rows, text_rows):
    """M2M100 does not shift its labels, and CodeGen's configuration has no padding."""
    torch.manual_seed(0)
    sizes = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
             "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}  # fmt: skip
    config = M2M100Config(vocab_size=VOCABULARY, pad_token_id=0, decoder_start_token_id=2, **sizes)
    model = M2M100ForConditionalGeneration(config).eval()
    batch = PrefixLM().draw(text_rows[:4], torch.Generator().manual_seed(0))
    logits, labels = PrefixLM().answers(model, batch)["target"]
    loss = torch.nn.functional.cross_entropy(logits, labels)
    torch.testing.assert_close(loss, model(input_ids=batch["input_ids"], labels=batch["labels"]).loss)
    model.config.decoder_start_token_id = None
    with pytest.raises(Unsupported, match="does not say with which token a target is begun"):
        PrefixLM().answers(model, batch)
    decoder = CodeGenForCausalLM(
        CodeGenConfig(vocab_size=VOCABULARY, n_embd=32, n_layer=1, n_head=4, rotary_dim=4, n_positions=64)
    )
    warm_start(decoder, decoder_rows)
    settings = Pretraining(steps=1, batch_size=4, learning_rate=1e-3, precision="fp32", checkpoint_every=1)
    assert len(pretrain(decoder, CausalLM(), decoder_rows, decoder_rows[:4], settings, None, quiet)) == 1
