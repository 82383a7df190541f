"""Seq2seq: loss against transformers', generation against a plain loop, scores."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import Any

import datasets
import pytest
import sacrebleu
import torch
from task_helpers import (
    SENTENCE,
    greedy,
    kind,
    model,
    multilingual,
    one_by_one,
    outputs,
    scores_by_transformers,
    wordpiece,
)
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from adapt.adapted import fit_model
from adapt.metrics.texts import bleu_counts, chrf_counts
from adapt.spec import AdaptError, DataError, Diverged, OptionError, Unsupported
from adapt.strategies import LoRA
from adapt.tasks.generation import generate
from adapt.tasks.losses import IGNORED

MODELS = ["T5", "Bart"]
SOURCES = ["anna saw bob", "the big red cat sat there while anna walked in paris", "who ?", "a tree house on monday"]
TARGETS = ["bob saw anna", "there sat the cat", "anna and bob and the cat in the house .", "where"]


def tokenizer(side: str = "right") -> Any:
    made = wordpiece(single="$A [SEP]", cls=False, side=side)
    assert made.eos_token == "[SEP]"
    return made


def bound(metric: str = "chrf", side: str = "right", length: int = 64, **options: Any) -> Any:
    return kind("seq2seq", tokenizer(side), "text", metric, length=length, **options)


def table(sources: list[str] = SOURCES, targets: list[str] | None = TARGETS) -> datasets.Dataset:
    rows: dict[str, Any] = {"source": sources}
    if targets is not None:
        rows |= {"target": targets, "references": [[target] for target in targets]}
    return datasets.Dataset.from_dict(rows)


@pytest.mark.parametrize("name", MODELS)
def test_the_loss_is_that_of_transformers(name: str) -> None:
    made = bound()
    net = model(name, "ConditionalGeneration", made.tokenizer)
    examples = made.encode(table(), split="train")
    batch = made.collate(examples)
    theirs = scores_by_transformers(net, batch)
    with torch.no_grad():
        ours = made.loss(net, batch)
    assert ours.dtype == torch.float32
    assert float(ours) == theirs["loss"]
    assert made.score(outputs(made, net, examples, final=False), examples) == theirs


def _t5(tokens: Any) -> Any:
    return model("T5", "ConditionalGeneration", tokens)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("side", ["left", "right"])
def test_rows_alone_and_together_and_texts_by_a_plain_loop(name: str, side: str) -> None:
    made = bound(side=side, max_target_length=9)
    net = model(name, "ConditionalGeneration", made.tokenizer)
    examples = made.encode(table(), split="test")
    together, alone = outputs(made, net, examples), one_by_one(made, net, examples)
    end, begin = made.tokenizer.eos_token_id, net.config.decoder_start_token_id
    for a, b, example in zip(together, alone, examples, strict=True):
        assert a["text"] == b["text"]
        assert a["tokens"] == b["tokens"] == len(example["labels"])
        assert a["nll"] == pytest.approx(b["nll"], rel=1e-4)
        limit = 8 if name == "Bart" else 9  # BART's configuration forces the end at the longest length
        ids = greedy(net, example["input_ids"], limit, end, [begin])
        assert a["text"] == made.tokenizer.decode(ids, skip_special_tokens=True)
    assert len({row["text"] for row in together}) > 1
    assert any(row["text"] for row in together)


@pytest.mark.parametrize("name", MODELS)
def test_texts_begin_with_the_token_that_the_loss_has_before_them(name: str) -> None:
    """The configuration's, whether the generation configuration has another, or none."""
    made = bound(max_target_length=9)
    net = model(name, "ConditionalGeneration", made.tokenizer)
    examples = made.encode(table(), split="test")
    batch, expected = made.collate(examples), outputs(made, net, examples)
    start = net.config.decoder_start_token_id
    for other in (made.tokenizer.unk_token_id, None):
        assert other != start
        net.generation_config.decoder_start_token_id = other
        assert made.asked(net, batch)[0]["decoder_input_ids"][:, 0].tolist() == [start] * len(examples)
        assert outputs(made, net, examples) == expected
    net.config.decoder_start_token_id, net.generation_config.decoder_start_token_id = None, start
    assert outputs(made, net, examples) == expected


@pytest.mark.parametrize(("single", "eos"), [("$A", "[SEP]"), ("[CLS] $A", "[SEP]"), ("$A [SEP]", None)])
def test_a_target_ends_in_a_token_at_which_texts_end(single: str, eos: str | None) -> None:
    tokens = wordpiece(single=single, cls=False)
    tokens.eos_token = eos
    made = kind("seq2seq", tokens, "text", "chrf", length=64, max_target_length=4)
    end = tokens.convert_tokens_to_ids("[SEP]")
    whole = kind("seq2seq", tokens, "text", "chrf", length=64, max_target_length=64).encode(table(), split="train")
    assert all(example["labels"][-1] == end and example["labels"].count(end) == 1 for example in whole)
    examples = made.encode(table(), split="train")
    for example, every in zip(examples, whole, strict=True):  # one that is cut does not end there
        cut = len(every["labels"]) > 4
        assert example["labels"] == (every["labels"][:4] if cut else every["labels"])
    assert any("tokens, after which they do not end" in note for note in made.notes)
    own = tokens.num_special_tokens_to_add()
    least = 1 + max(1, own + (end not in tokens("a")["input_ids"]))
    few = kind("seq2seq", tokens, "text", "chrf", length=64, max_target_length=least)
    assert all(0 < len(example["labels"]) <= least for example in few.encode(table(), split="train"))
    with pytest.raises(OptionError, match=f"max_target_length is {least - 1}, .*; give at least {least}"):
        kind("seq2seq", tokens, "text", "chrf", length=64, max_target_length=least - 1).encode(table(), split="train")
    net = model("Bart", "ConditionalGeneration", tokens)
    net.config.decoder_start_token_id, net.generation_config.eos_token_id = tokens.unk_token_id, None
    net.final_logits_bias[0, end] = 1e9
    assert made.writes(net)["eos_token_id"] == end
    net.generation_config.eos_token_id = tokens.unk_token_id
    assert made.writes(net)["eos_token_id"] == [tokens.unk_token_id, end], "the checkpoint's own, too"
    net.generation_config.eos_token_id = None
    batch = made.collate(examples)
    assert [(written.text, written.ids) for written in made.written(net.eval(), batch)] == [("", ())] * len(examples)


def test_a_checkpoints_own_way_of_generating_is_set_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    made = bound(max_target_length=9)
    net = _t5(made.tokenizer)
    examples = made.encode(table(), split="test")
    expected = [row["text"] for row in outputs(made, net, examples)]
    net.generation_config.update(
        do_sample=True, temperature=3.0, top_k=3, top_p=0.4, no_repeat_ngram_size=1, repetition_penalty=9.0,
        min_length=8, min_new_tokens=8, num_beams=3, max_length=4, early_stopping=True, length_penalty=3.0,
    )  # fmt: skip
    told: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: told.append(record.getMessage())  # type: ignore[method-assign]
    monkeypatch.setattr(logging.getLogger("transformers"), "handlers", [handler])  # it hands nothing on to the root
    assert [row["text"] for row in outputs(made, net, examples)] == expected
    assert told == []


@pytest.mark.parametrize(
    "setting",
    [
        {"encoder_repetition_penalty": 3.0}, {"exponential_decay_length_penalty": (2, 1.5)}, {"max_time": 1e-4},
        {"sequence_bias": {(8,): 5.0}}, {"penalty_alpha": 0.6, "top_k": 4}, {"stop_strings": ["a"]},
        {"num_beam_groups": 2, "num_beams": 4, "diversity_penalty": 1.0}, {"guidance_scale": 1.5},
        {"prompt_lookup_num_tokens": 3}, {"dola_layers": "high"},
    ],
    ids=lambda setting: next(iter(setting)),
)  # fmt: skip
def test_no_setting_of_a_checkpoint_changes_or_stops_generation(setting: dict[str, Any]) -> None:
    for beams in (1, 2):
        made = bound(max_target_length=9, beams=beams)
        net = _t5(made.tokenizer)
        examples = made.encode(table(), split="test")
        expected = outputs(made, net, examples)
        net.generation_config.update(**setting)
        own = net.generation_config
        assert outputs(made, net, examples) == expected
        assert net.generation_config is own


def test_tokens_that_a_checkpoint_does_not_write_are_kept() -> None:
    made = bound(max_target_length=9)
    net = _t5(made.tokenizer)
    examples = made.encode(table(), split="test")
    word = " ".join(row["text"] for row in outputs(made, net, examples)).split()[0]
    token = made.tokenizer.convert_tokens_to_ids(word)
    for setting in ({"suppress_tokens": [token]}, {"bad_words_ids": [[token]]}):
        net = _t5(made.tokenizer)
        net.generation_config.update(**setting)
        texts = [row["text"] for row in outputs(made, net, examples)]
        assert word not in " ".join(texts).split()


@pytest.mark.parametrize("name", MODELS)
def test_an_end_that_is_forced_is_none(name: str) -> None:
    """BART's configuration has the end written where the most tokens are."""
    tokens = tokenizer()
    net = model(name, "ConditionalGeneration", tokens)
    inputs = dict(tokens([SENTENCE], return_tensors="pt"))
    (whole,) = generate(net, tokens, inputs, new_tokens=40, beams=1)
    most = len(whole.ids) // 2  # where the model itself comes to no end
    (written,) = generate(net, tokens, inputs, new_tokens=most, beams=1)
    assert len(written.ids) == most - (name == "Bart")
    assert not written.ended


def test_a_token_to_be_written_first_is_no_part_of_the_text() -> None:
    tokens = tokenizer()
    inputs = dict(tokens(["anna saw bob"], return_tensors="pt"))
    net = _t5(tokens)
    first = tokens.convert_tokens_to_ids("tree")
    ids = net.generate(**inputs, forced_bos_token_id=first, max_new_tokens=6)[0]
    assert int(ids[1]) == first
    (written,) = generate(net, tokens, inputs, new_tokens=6, beams=1, first=first)
    assert written.text == tokens.decode(ids[2:], skip_special_tokens=True)


@pytest.mark.parametrize(
    ("name", "source", "target", "last"),
    [
        ("M2M100", "fra_Latn", "deu_Latn", False),
        ("MBart50", "fr_XX", "de_DE", False),
        ("MBart", "fr_XX", "de_DE", True),
    ],
)
def test_a_multilingual_model_is_told_the_languages(name: str, source: str, target: str, last: bool) -> None:
    tokens, net = multilingual(name)
    made = kind("seq2seq", tokens, "text", "chrf", max_target_length=5, source_language=source, target_language=target)
    rows = table(["a b", "b"], ["b a", "a"])
    examples = made.encode(rows, split="train")
    (read,), (learnt,) = (tokens.convert_ids_to_tokens(examples[0][side][-1 if last else 0 :][:1])
                          for side in ("input_ids", "labels"))  # fmt: skip
    assert (read, learnt) == (source, target)
    inputs, wanted = made.asked(net, made.collate(examples))
    assert tokens.convert_ids_to_tokens(int(inputs["decoder_input_ids"][0, 0])) == (target if last else "</s>")
    asked = [tokens.convert_ids_to_tokens(row[row != IGNORED].tolist()) for row in wanted]
    assert [len(row) for row in asked] == [3, 2], "the text and its end; the language is given"
    assert made.terms(examples) == 5
    assert all(row[-1] == "</s>" and target not in row for row in asked)
    ids: list[torch.Tensor] = []
    own = net.generate
    net.generate = lambda **inputs: ids.append(own(**inputs)) or ids[-1]
    outputs(made, net, made.encode(rows.remove_columns(["target", "references"])))
    assert tokens.convert_ids_to_tokens(ids[0][:, 0 if last else 1].tolist()) == [target] * 2


@pytest.mark.parametrize(
    ("name", "source", "target", "token", "said"),
    [
        ("M2M100", "fra_Latn", "deu_Latn", "forced_bos_token_id", True),
        ("MBart", "fr_XX", "de_DE", "decoder_start_token_id", True),
        ("MBart", "fr_XX", "de_DE", "decoder_start_token_id", False),
    ],
)
def test_a_merged_multilingual_model_writes_the_language_it_was_trained_on(
    tmp_path: Path, name: str, source: str, target: str, token: str, said: bool
) -> None:
    tokens, net = multilingual(name)
    own = tmp_path / "own"
    net.save_pretrained(own)
    tokens.save_pretrained(own)
    settings = json.loads((own / "generation_config.json").read_text()) | {"temperature": 0.5}
    (own / "generation_config.json").unlink()
    if said:
        (own / "generation_config.json").write_text(json.dumps(settings))
    rows = [{"source": "a b", "target": "b a"}] * 4
    made = fit_model(
        own, {"train": rows, "validation": rows, "test": rows}, LoRA(rank=2), kind="seq2seq", source_language=source,
        target_language=target, max_target_length=8, max_steps=1, device="cpu", precision="fp32", progress=False,
    )  # fmt: skip
    merged = made.merge(tmp_path / "merged")
    language = tokens.convert_tokens_to_ids(target)
    written = json.loads((merged / "generation_config.json").read_text())
    assert written[token] == language
    if said:
        assert written == settings | {token: language}
    plain = AutoModelForSeq2SeqLM.from_pretrained(merged)
    if token == "decoder_start_token_id":
        assert plain.config.decoder_start_token_id == language
    read = AutoTokenizer.from_pretrained(merged)
    sources = ["a b a", "b b"]
    found = plain.generate(**read(sources, return_tensors="pt", padding=True), max_new_tokens=8, do_sample=False)
    assert read.batch_decode(found, skip_special_tokens=True) == [row["text"] for row in made.predict(sources)]
    assert found[:, 0 if token == "decoder_start_token_id" else 1].tolist() == [language] * 2


def test_a_merged_model_begins_its_texts_as_the_saved_one(tmp_path: Path) -> None:
    tokens = tokenizer()
    net = model("Bart", "ConditionalGeneration", tokens)
    net.generation_config.decoder_start_token_id = other = tokens.unk_token_id
    assert net.config.decoder_start_token_id != other
    for each in (net, tokens):
        each.save_pretrained(tmp_path / "own")
    rows = [{"source": "anna saw bob", "target": "bob saw anna"}] * 4
    made = fit_model(
        tmp_path / "own", {"train": rows, "validation": rows, "test": rows}, LoRA(rank=2), kind="seq2seq", max_steps=1,
        device="cpu", precision="fp32", progress=False,
    )  # fmt: skip
    written = json.loads((made.merge(tmp_path / "merged") / "generation_config.json").read_text())
    assert written["decoder_start_token_id"] == net.config.decoder_start_token_id


def test_a_tokenizer_is_told_as_soon_as_there_is_a_kind() -> None:
    """For whoever reads a loaded model with the tokenizer alone."""
    tokens, _ = multilingual("M2M100")
    kind("seq2seq", tokens, "text", "chrf", source_language="fra_Latn", target_language="deu_Latn")
    assert tokens.convert_ids_to_tokens(tokens("a")["input_ids"][0]) == "fra_Latn"


def test_languages_that_cannot_be_used() -> None:
    tokens, _ = multilingual("M2M100")

    def encode(tokenizer: Any, **options: Any) -> Any:
        return kind("seq2seq", tokenizer, "text", "chrf", **options).encode(table())

    with pytest.raises(OptionError, match=r"told the language of the targets: --set task\.target_language=.*ace_Arab"):
        encode(tokens, source_language="fra_Latn")
    with pytest.raises(OptionError, match=r"target_language is 'deu_Lat' \(did you mean 'deu_Latn'\?\); .*knows ace_A"):
        encode(tokens, target_language="deu_Lat")
    with pytest.raises(OptionError, match=r"source_language is 'eng_Latn', but .* has no languages"):
        encode(tokenizer(), source_language="eng_Latn")
    tokens.tgt_lang = "deu_Latn"
    assert tokens.convert_ids_to_tokens(encode(tokens)[0]["labels"][0]) == "deu_Latn"


def test_beams_are_those_of_transformers() -> None:
    made = bound(max_target_length=7, beams=3, length_penalty=2.0)
    net = _t5(made.tokenizer)
    examples = made.encode(table(), split="test")
    found = [row["text"] for row in outputs(made, net, examples)]
    for text, example in zip(found, examples, strict=True):
        ids = net.generate(
            input_ids=torch.tensor([example["input_ids"]]), num_beams=3, length_penalty=2.0, max_new_tokens=7
        )
        assert text == made.tokenizer.decode(ids[0], skip_special_tokens=True)
    assert found != [row["text"] for row in outputs(bound(max_target_length=7), net, examples)]


def test_what_is_cut_is_counted() -> None:
    made = bound(length=5, max_target_length=3, prefix="what : ")
    examples = made.encode(table(), split="train")
    tokens = [made.tokenizer.convert_ids_to_tokens(e["input_ids"]) for e in examples]
    assert tokens[0] == ["what", ":", "anna", "saw", "[SEP]"]
    assert tokens[2] == ["what", ":", "who", "?", "[SEP]"]
    assert [made.tokenizer.convert_ids_to_tokens(e["labels"]) for e in examples][2:] == [
        ["anna", "and", "bob"], ["where", "[SEP]"],
    ]  # fmt: skip
    assert made.notes == [
        "3 sources of the train split were cut to 5 tokens", "3 targets of the train split were cut to 3 tokens, "
        "after which they do not end",
    ]  # fmt: skip
    assert [e["source"] for e in examples] == SOURCES
    whole = bound()
    whole.encode(table(), split="train")
    assert whole.notes == []


def test_targets_that_spell_special_tokens_are_told_of() -> None:
    made = bound()
    made.encode(table(["anna saw"] * 3, ["anna [SEP] bob", "bob", "who [MASK] [SEP]"]), split="train")
    (note,) = made.notes
    assert note.startswith("2 targets of the train split spell special tokens of the tokenizer, such as [SEP], which")


def test_padding_takes_no_part() -> None:
    made = bound()
    batch = made.collate(made.encode(table(), split="train"))
    labels = batch["labels"]
    assert labels.shape == (4, 11)
    assert [(row != -100).sum().item() for row in labels] == [4, 5, 11, 2]
    assert batch["attention_mask"].sum(1).tolist() == [4, 13, 3, 6]


def test_scores_are_those_of_sacrebleu() -> None:
    made = bound()
    rows = table()
    rows = rows.remove_columns("references").add_column(
        "references", [[t, "the cat sat in the house ."] for t in TARGETS]
    )
    examples = made.encode(rows, split="test")
    texts = ["bob saw anna", "the cat sat there", "the cat sat in the house", ""]
    made_outputs = [{"nll": 2.0 * n, "tokens": n, "text": text} for n, text in enumerate(texts, start=1)]
    found = made.score(made_outputs, examples)
    streams = [TARGETS, ["the cat sat in the house ."] * 4]
    assert found == {
        "loss": 2.0,
        "perplexity": pytest.approx(math.exp(2)),
        "chrf": pytest.approx(sacrebleu.corpus_chrf(texts, streams).score / 100),
        "bleu": pytest.approx(sacrebleu.corpus_bleu(texts, streams).score / 100),
        # the second: "the cat sat there" and "the cat sat in the house": 3 of 4 and of 6; the third: 6 of 6 and of 6
        "rouge_l": pytest.approx((1 + 0.6 + 1 + 0) / 4),
        "text_exact_match": 0.25,
    }
    outcomes = made.outcomes(made_outputs, examples)
    assert [row[:4] for row in outcomes] == [[2, 1, 1, 1], [4, 2, 0.6, 0], [6, 3, 1, 0], [8, 4, 0, 0]]
    assert [row[4:] for row in outcomes] == [
        [chrf_counts(text, e["references"]), bleu_counts(text, e["references"])]
        for text, e in zip(texts, examples, strict=True)
    ]
    assert made.outcomes([{"nll": 1.0, "tokens": 3, "text": None}], examples[:1]) == [[1.0, 3]]
    with pytest.raises(Diverged):
        made.score([{"nll": math.nan, "tokens": 1, "text": None}], examples[:1])


def test_the_baseline_copies_the_source() -> None:
    made = bound(prefix="what : ")
    examples = made.encode(table(SOURCES, [*SOURCES[:3], "who"]), split="test")
    name, copied = made.baseline(examples, examples)
    assert name == "copy"
    found = made.score(copied, examples)
    assert found["text_exact_match"] == 0.75
    assert "loss" not in found


def test_generation_is_for_the_end_only() -> None:
    made = bound()
    assert made.selection("chrf") == made.selection("text_exact_match") == "loss"
    assert made.selection("loss") is None
    assert made.selection("perplexity") is None
    net = _t5(made.tokenizer)
    net.generate = None
    examples = made.encode(table(), split="validation")
    assert [row["text"] for row in outputs(made, net, examples, final=False)] == [None] * 4


def test_new_rows_need_no_targets() -> None:
    made = bound(max_target_length=4)
    examples = made.encode(table(targets=None))
    found = made.decode(outputs(made, _t5(made.tokenizer), examples), examples)
    assert [list(row) for row in found] == [["text"]] * 4
    assert all(len(row["text"].split()) <= 4 for row in found)


def test_what_cannot_be_used() -> None:
    with pytest.raises(DataError, match=r"Row 2 of the train split \(.*\): the tokenizer makes nothing of the source"):
        bound(prefix="what : ").encode(table(["anna", "\x00"], ["a", "a"]), split="train")
    with pytest.raises(OptionError, match="beams is 0; give a whole number of at least 1"):
        bound(beams=0)
    with pytest.raises(OptionError, match="max_target_length is 0"):
        bound(max_target_length=0)
    for short, option in ((bound(length=1), "max_length"), (bound(max_target_length=1), "max_target_length")):
        with pytest.raises(OptionError, match=f"^{option} is 1, of which the tokenizer's own tokens take 1; give at"):
            short.encode(table())
    with pytest.raises(OptionError, match=r"^max_length is 3, of which the prefix and the tokenizer's own .* take 3"):
        bound(length=3, prefix="what : ").encode(table())
    with pytest.raises(OptionError, match="Metric 'accuracy' does not go with text"):
        bound("accuracy")
    for made in (kind("seq2seq", wordpiece(cls=False), "text", "chrf"), bound()):
        with pytest.raises(DataError, match=r"Row 1 \('anna'\): the tokenizer makes nothing of the target"):
            made.encode(table(["anna"], ["\x00"]))
    unpadded = tokenizer()
    unpadded.pad_token = None
    with pytest.raises(AdaptError, match="no padding token"):
        kind("seq2seq", unpadded, "text", "chrf").encode(table())
    made = bound()
    net = _t5(made.tokenizer)
    net.config.decoder_start_token_id = net.generation_config.decoder_start_token_id = None
    net.config.bos_token_id, net.generation_config.bos_token_id = 3, None
    asked, _ = made.asked(net, made.collate(made.encode(table())))
    assert asked["decoder_input_ids"][:, 0].unique().tolist() == [3], "as T5Gemma's"
    net.config.bos_token_id = None
    with pytest.raises(Unsupported, match="lacks decoder_start_token_id"):
        made.loss(net, made.collate(made.encode(table())))
    assert made.encode(table().select([])) == []


def test_texts_that_are_cut_lose_their_end(tmp_path: Path) -> None:
    """Also by a tokenizer that was saved to cut chats at their beginning."""
    left, right = tokenizer(), tokenizer()
    left.truncation_side = "left"
    made = [kind("seq2seq", one, "text", "chrf", max_target_length=2, length=4) for one in (left, right)]
    assert made[0].encode(table()) == made[1].encode(table())
