"""Full fine-tuning that holds only the embeddings of words that occur: the same model for less memory."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from torch import nn
from transformers import (
    BertConfig,
    BertModel,
    CanineConfig,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    PerceiverConfig,
    T5Config,
    T5ForConditionalGeneration,
)

import adapt
from adapt import params
from adapt.adapted import Adapted, assemble, fit_model
from adapt.backbones import Loader, resolve
from adapt.backbones.seen import SeenEmbedding, only_seen_words, train_seen_words, words_of
from adapt.data import Data
from adapt.memory import CATEGORIES, Memory, measure, plan
from adapt.memory.budget import allowance
from adapt.memory.foresee import foresee
from adapt.memory.planner import Planner, setting_of
from adapt.memory.step import made_up
from adapt.memory.trace import Setting
from adapt.memory.within import _few_words, _remedies, advise, plan_within, plans, with_budget
from adapt.spec import OptionError, Unsupported
from adapt.strategies import Full, LoRA, make
from adapt.tasks import KINDS

ALL, SEEN = Full(learning_rate=2e-3), Full(learning_rate=2e-3, embeddings="seen")
FREE: dict[str, Any] = {"weight_decay": 0.0, "clip": 1e9}
"""Without decay, which words that do not occur are spared, and without clipping, whose norm is rounded otherwise."""


def rows(kind: str, count: int, seed: int) -> list[dict[str, Any]]:
    rng, made = random.Random(seed), []
    for i in range(count):
        label = i % 2
        words = rng.choices(tiny.FILL[:4], k=rng.randint(2, 5))
        mark = (tiny.GOOD, tiny.BAD)[label][:2]
        if kind == "token_classification":
            made.append({"tokens": [*words, mark[0]], "tags": ["O"] * len(words) + ["B-mark"]})
        elif kind == "question_answering":
            context = " ".join([*words, mark[0]])
            answer = {"text": [mark[0]], "answer_start": [context.index(mark[0])]}
            made.append({"id": str(i), "question": tiny.FILL[0], "context": context, "answers": answer})
        elif kind == "seq2seq":
            made.append({"source": " ".join(words), "target": mark[0]})
        elif kind == "causal_lm":
            made.append({"prompt": " ".join(words), "completion": mark[0]})
        else:
            made.append({"text": " ".join([*words, rng.choice(mark)]), "label": ("good", "bad")[label]})
    return made


def few_words(kind: str = "sequence_classification") -> Data:
    """Rows with at most 8 words, besides special tokens, of a vocabulary of 37."""
    sizes = {"train": 24, "validation": 8, "test": 8}
    return adapt.data.load({s: rows(kind, n, seed) for seed, (s, n) in enumerate(sizes.items())}, kind=kind, name="few")


def fit(folder: Path, strategy: Any, kind: str = "sequence_classification", **options: Any) -> Adapted:
    known = {"epochs": 3, "device": "cpu", "precision": "fp32", "batch_size": 8, **options}
    return fit_model(folder, few_words(kind), strategy, **known)


def state(model: Adapted) -> dict[str, torch.Tensor]:
    return params.trainable_state(model.fitted.model)


@pytest.mark.parametrize("architecture", tiny.ENCODERS)
def test_the_trained_model_is_the_same_to_the_bit(backbone: Callable[..., Path], architecture: str) -> None:
    folder = backbone(architecture)
    every, seen = (fit(folder, s, **FREE) for s in (ALL, SEEN))
    theirs, ours = state(every), state(seen)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())
    assert seen.result.scores == every.result.scores
    assert [p["loss"] for p in seen.result.curve] == [p["loss"] for p in every.result.curve]
    assert (seen.result.trainable, seen.result.saved_bytes) == (every.result.trainable, every.result.saved_bytes)
    assert (seen.result.seen_words, every.result.seen_words) == (11, None)
    assert seen.result.to_json()["params"]["seen_words"] == 11
    assert "seen_words" not in every.result.to_json()["params"]


@pytest.mark.parametrize(
    ("kind", "architecture"),
    [("token_classification", "bert"), ("question_answering", "roberta"), ("causal_lm", "llama")],
)
def test_so_it_is_for_other_kinds(backbone: Callable[..., Path], kind: str, architecture: str) -> None:
    options = {**FREE, "accumulation": 2, "checkpointing": True, "dropout": 0.1}
    every, seen = (state(fit(backbone(architecture), s, kind, **options)) for s in (ALL, SEEN))
    assert all(torch.equal(seen[name], value) for name, value in every.items())


def test_an_earlier_epoch_is_put_back_and_a_saved_model_has_the_whole_table(
    backbone: Callable[..., Path], tmp_path: Path
) -> None:
    fast = [dataclasses.replace(s, learning_rate=0.03) for s in (ALL, SEEN)]
    every, seen = (fit(backbone("bert"), s, epochs=4, decay="constant", **FREE) for s in fast)
    assert seen.result.best_epoch == every.result.best_epoch
    assert seen.result.best_epoch is not None
    assert seen.result.best_epoch < 4, "the case that is meant"
    seen.save(tmp_path / "model")
    again = adapt.load(tmp_path / "model")
    texts = ["word20 word21 sunny", "rotten word3"]  # words that training has not seen, too
    expected = every.predict(texts)
    assert again.predict(texts) == expected == seen.predict(texts)


def test_words_that_do_not_occur_stay_as_they_are(backbone: Callable[..., Path]) -> None:
    folder = backbone("bert")
    model = fit(folder, SEEN, weight_decay=0.1)
    before = BertModel.from_pretrained(folder, add_pooling_layer=False).embeddings.word_embeddings.weight
    after = model.fitted.model.base_model.get_input_embeddings()
    assert type(after) is nn.Embedding
    assert after.weight.requires_grad
    encoded = model.fitted.kind.encode(few_words().splits["train"], split="train")
    occur = torch.tensor(words_of(encoded, model.fitted.model.config, "sequence_classification"))
    others = torch.ones(len(before), dtype=torch.bool).index_fill_(0, occur, value=False)
    assert torch.equal(after.weight[others], before[others])
    changed = (after.weight != before).any(1)
    assert changed.nonzero().flatten().tolist() == [w for w in occur.tolist() if w != 0]  # all but the padding
    decayed = fit(folder, ALL, weight_decay=0.1)
    assert not torch.equal(decayed.fitted.model.base_model.get_input_embeddings().weight[others], before[others])


def test_nothing_is_done_where_most_words_occur(backbone: Callable[..., Path], task_data: Any) -> None:
    folder, data = backbone("bert"), task_data("single_label")  # 36 of 37
    every, seen = (fit_model(folder, data, s, epochs=1, device="cpu", precision="fp32") for s in (ALL, SEEN))
    assert all(torch.equal(state(seen)[name], value) for name, value in state(every).items())
    assert seen.result.memory == every.result.memory
    assert seen.result.seen_words is None


def test_frozen_embeddings_stay_frozen(backbone: Callable[..., Path]) -> None:
    some = fit(backbone("bert"), dataclasses.replace(SEEN, layers="last:1"))
    assert not some.fitted.model.base_model.get_input_embeddings().weight.requires_grad
    assert some.result.seen_words is None


@pytest.mark.parametrize(
    ("architecture", "kind", "reason"),
    [
        ("gpt2", "causal_lm", "embeddings of 'gpt2' are shared with lm_head, so that words which occur in no row"),
        ("t5", "seq2seq", "embeddings of 't5' are shared with lm_head"),
        ("bart", "seq2seq", r"embeddings of 'bart' \(BartScaledWordEmbedding\) do more than look words up"),
        ("bert", "masked_lm", "which words occur is not known before masked_lm draws them"),
    ],
)
def test_it_is_refused_where_other_words_have_gradients(
    backbone: Callable[..., Path], architecture: str, kind: str, reason: str
) -> None:
    with pytest.raises(Unsupported, match=f"{reason}.*leave embeddings='seen' out"):
        plan(backbone(architecture), SEEN, kind=kind, batch=(2, 8), device="cpu")


def test_a_table_that_does_more_than_look_up_is_refused(tmp_path: Path) -> None:
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4}
    config = Gemma2Config(
        **sizes, vocab_size=37, num_key_value_heads=2, head_dim=8, pad_token_id=0, tie_word_embeddings=False
    )
    Gemma2ForCausalLM(config).save_pretrained(tmp_path)
    tiny.tokenizer_for("llama").save_pretrained(tmp_path)
    with pytest.raises(Unsupported, match=r"word embeddings of 'gemma2' \(\w+\) do more than look words up"):
        fit(tmp_path, SEEN, "causal_lm")


def test_what_is_no_choice_is_refused() -> None:
    with pytest.raises(OptionError, match="embeddings"):
        make("full", {"embeddings": "some"})


def test_a_word_that_was_not_announced_is_an_error_in_training_alone() -> None:
    model = BertModel(BertConfig(vocab_size=37, hidden_size=8, num_hidden_layers=1, num_attention_heads=2))
    model.trains_seen_words = True
    table = model.get_input_embeddings()
    model.task_kind = "sequence_classification"
    with only_seen_words(model, [{"input_ids": [5, 6]}], 0) as words:
        held = model.get_input_embeddings()
        assert isinstance(held, SeenEmbedding)
        assert words == 3
        assert params.trainable(model)["embeddings.word_embeddings.seen"].shape == (3, 8)
        held.train()
        with pytest.raises(IndexError):
            held(torch.tensor([7]))
        with torch.no_grad():
            held.seen += 1
        expected = torch.cat([held.seen[1:2], table.weight[7:8]])
        assert torch.equal(held.eval()(torch.tensor([5, 7])), expected)
    assert model.get_input_embeddings() is table
    assert table.weight.requires_grad


def big_vocabulary(folder: Path, layers: int = 1) -> Path:
    """A BERT most of whose parameters are word embeddings."""
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": layers, "num_attention_heads": 4}
    torch.manual_seed(0)
    config = BertConfig(**sizes, vocab_size=5000, max_position_embeddings=64)
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    tiny.tokenizer_for("bert").save_pretrained(folder)
    return folder


def test_memory_is_that_of_the_words_that_occur(tmp_path: Path) -> None:
    folder = big_vocabulary(tmp_path)
    every, seen = (fit(folder, s).result.memory for s in (ALL, SEEN))
    row = 4 * 32
    assert every["optimizer"] - seen["optimizer"] == 2 * row * (5000 - 11)
    assert seen["weights"] - every["weights"] == row * 11 + 4 * 5000 + 8 * 11  # and which they are
    assert every["peak"] - seen["peak"] > 2.5 * row * (5000 - 11)


def test_a_plan_is_told_how_many_words_there_are(tmp_path: Path) -> None:
    options: dict[str, Any] = {"batch": (8, 16), "device": "cpu", "precision": "fp32"}
    folder = big_vocabulary(tmp_path)
    every = plan(folder, "full", **options)
    assert plan(folder, SEEN, **options) == every  # as many as there are, if nothing is said
    assert plan(folder, "full", words=11, **options) == every
    assert plan(folder, SEEN, words=2501, **options) == every
    assert plan(folder, SEEN, words=2500, **options).peak < every.peak
    with pytest.raises(OptionError, match="words is 0"):
        plan(folder, SEEN, words=0, **options)


BATCH = (4, 32)


def full(folder: Path, **options: Any) -> Setting:
    """Full fine-tuning with checkpointing, so that little else than words can be left out."""
    return setting_of(folder, "full", **{"device": "cpu", "precision": "fp32", "checkpointing": True, **options})


def room_for(setting: Setting) -> int:
    """Bytes of a device that holds a step of such a setting, and hardly more."""
    peak = Planner(setting).memory(*BATCH).peak
    return peak + allowance(peak, "cpu") + 4096


def with_seen_words(setting: Setting) -> Setting:
    return dataclasses.replace(setting, strategy=SEEN, words=500)


def advised(setting: Setting, room: int) -> str:
    """Advice for a device that holds not one row."""
    return advise(Planner(setting), BATCH, room, 0, 0)


def test_advice_knows_it_where_the_number_of_words_is_given(tmp_path: Path) -> None:
    setting = full(big_vocabulary(tmp_path), words=500)
    assert advised(setting, room_for(with_seen_words(setting))) == "embeddings seen"


def test_advice_says_how_many_words_may_occur_where_nobody_knows(tmp_path: Path) -> None:
    setting = full(big_vocabulary(tmp_path))
    planner, room = Planner(setting), room_for(with_seen_words(setting))
    for more, words in ((2**19, "1,000"), (-(2**13), "250")):
        found = _few_words(planner, BATCH, room + more)
        assert found == f"embeddings seen, if at most {words} of 5,000 words occur"
    advice = plan_within(setting, "full", BATCH, room).advice
    assert advice == "embeddings seen, if at most 500 of 5,000 words occur, or qlora"


def test_few_words_and_checkpointing_are_advised_together_where_neither_is_enough(tmp_path: Path) -> None:
    setting = full(big_vocabulary(tmp_path, layers=2))
    room, often = room_for(with_seen_words(setting)), with_budget(setting, checkpointing=False)
    assert advised(dataclasses.replace(often, words=500), room) == "embeddings seen and checkpointing"
    found = _few_words(Planner(often), BATCH, room)
    assert found == "embeddings seen and checkpointing, if at most 500 of 5,000 words occur"


def test_how_many_words_may_occur_is_told_where_those_that_occur_alone_are_trained(tmp_path: Path) -> None:
    setting = full(big_vocabulary(tmp_path, layers=2))
    room = room_for(with_seen_words(setting))
    given = dataclasses.replace(setting, strategy=SEEN)
    assert plan_within(given, "full", BATCH, room).advice == "as it is, if at most 500 of 5,000 words occur, or qlora"
    often = with_budget(given, checkpointing=False)
    assert _few_words(Planner(often), BATCH, room) == "checkpointing, if at most 500 of 5,000 words occur"
    assert _few_words(Planner(dataclasses.replace(given, words=5000)), BATCH, room) is None, "it was said how many do"


def test_words_are_not_thought_of_where_they_are_less_than_half_of_a_model() -> None:
    assert _few_words(Planner(full("tiny-encoder")), BATCH, 2**40) is None  # a third of which are its embeddings


@pytest.mark.parametrize(
    ("layers", "words", "remedies"),
    [("all", 2500, ["embeddings seen"]), ("all", 2501, []), ("last:1", 500, []), ("all", None, [])],
)
def test_embeddings_seen_are_a_remedy_where_they_are_trained_and_few_words_occur(
    tmp_path: Path, layers: str, words: int | None, remedies: list[str]
) -> None:
    setting = full(big_vocabulary(tmp_path), words=words)
    setting = dataclasses.replace(setting, strategy=dataclasses.replace(ALL, layers=layers))
    assert [name for name, _ in _remedies(setting)] == remedies


def test_words_of_upper_layers_alone_are_not_thought_of(tmp_path: Path) -> None:
    upper = dataclasses.replace(full(big_vocabulary(tmp_path)), strategy=dataclasses.replace(ALL, layers="last:1"))
    assert _few_words(Planner(upper), BATCH, 2**40) is None


def test_a_strategy_that_has_no_such_field_is_advised_without_it(tmp_path: Path) -> None:
    setting = full(big_vocabulary(tmp_path, layers=2), words=2500, checkpointing=False)
    room = room_for(dataclasses.replace(setting, strategy=make("qlora"))) + 2**15
    assert advised(setting, room) == "checkpointing, qlora"


def advisable(setting: Setting) -> bool:
    """Whether to train the embeddings of words that occur is a remedy of a setting, and one that can be had."""
    seen = [change(setting) for name, change in _remedies(setting) if name == "embeddings seen"]
    return any(Planner(changed).can_run(BATCH[1]) for changed in seen)


SIZES = {"num_hidden_layers": 1, "num_attention_heads": 4}


@pytest.mark.parametrize(
    "config",
    [
        CanineConfig(**SIZES, hidden_size=32, intermediate_size=48),
        PerceiverConfig(vocab_size=5000, d_model=32, d_latents=32, num_latents=4, num_self_attends_per_block=1),
    ],
    ids=["no vocabulary", "no hidden size"],
)
def test_a_model_that_does_not_say_its_sizes_is_not_advised_to_leave_words_out(tmp_path: Path, config: Any) -> None:
    config.save_pretrained(tmp_path)
    (found,) = plans(tmp_path, [ALL], batch=(1, 8), budget=1501 * 2**20, device="cpu")
    assert found.reason is None
    assert (found.verdict, found.advice) == ("no", "a smaller backbone")
    assert not advisable(setting_of(tmp_path, ALL, device="cpu", words=500))


def test_a_shared_table_is_not_advised_to_leave_words_out(tmp_path: Path) -> None:
    sizes = {"n_embd": 32, "n_inner": 48, "n_layer": 1, "n_head": 4, "n_positions": 64}
    GPT2Config(**sizes, vocab_size=5000).save_pretrained(tmp_path)
    setting = full(tmp_path, kind="causal_lm")
    found = plan_within(setting, "full", BATCH, room_for(setting) - 2**13)
    assert found.verdict == "no"
    assert "embeddings" not in str(found.advice)
    assert not advisable(dataclasses.replace(setting, words=100))


def test_the_warning_before_training_counts_the_words_of_the_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, asked = big_vocabulary(tmp_path), []
    much = Memory(**dict.fromkeys(CATEGORIES, 2**20))
    spec, data, source = assemble(folder, few_words(), SEEN, device="cpu", precision="fp32")
    kind = KINDS[spec.task.kind](spec.task, tiny.tokenizer_for("bert"))
    monkeypatch.setattr("adapt.memory.foresee.free_memory", lambda device: 2**20)
    planned = "adapt.memory.planner.Planner.memory"
    monkeypatch.setattr(planned, lambda self, *_: asked.append(self.setting.words) or much)
    encoded = kind.encode(data.splits["train"], split="train")
    assert "see adapt plan for what would" in str(foresee(spec, source, encoded))
    assert asked == [11]  # with the padding, which batches bring
    every = dataclasses.replace(spec, strategy=ALL)
    assert "see adapt plan --words 11 for what would" in str(foresee(every, source, encoded))


def test_other_strategies_are_not_concerned(backbone: Callable[..., Path]) -> None:
    model = fit(backbone("bert"), LoRA(rank=4))
    assert model.result.seen_words is None


@pytest.mark.parametrize("words", [11, 2501])
@pytest.mark.parametrize("choices", [{}, {"checkpointing": True}, {"optimizer": "adamw_8bit"}, {"accumulation": 2}])
def test_a_plan_is_what_is_measured_to_the_byte(tmp_path: Path, words: int, choices: dict[str, Any]) -> None:
    setting = setting_of(big_vocabulary(tmp_path), SEEN, device="cpu", precision="fp32", words=words, **choices)
    task = dataclasses.replace(setting.task, max_length=16)
    step = made_up(Loader(resolve(str(tmp_path)), task, setting.budget, 0), SEEN, 8, 16, words)
    assert Planner(setting).memory(8, 16) == measure(step)


def test_a_plan_for_the_words_of_a_run_is_what_the_run_measured(tmp_path: Path) -> None:
    result = fit(big_vocabulary(tmp_path), SEEN, max_length=16).result
    length = 8  # five words, a mark, and both ends
    planned = plan(tmp_path, SEEN, batch=(8, length), device="cpu", precision="fp32", words=result.seen_words)
    assert planned.as_dict() == result.memory


@pytest.mark.parametrize("kind", ["token_classification", "sequence_classification", "seq2seq"])
def test_one_table_under_several_names_is_held_once(tmp_path: Path, kind: str) -> None:
    """T5's, whose decoder has it too, and in later versions shares it with no output layer."""
    sizes = {"d_model": 32, "d_ff": 48, "num_heads": 4, "d_kv": 8, "num_layers": 1, "vocab_size": 37}
    config = T5Config(**sizes, pad_token_id=0, eos_token_id=3, decoder_start_token_id=0)
    torch.manual_seed(0)
    model = T5ForConditionalGeneration(config)
    model.lm_head.weight = nn.Parameter(torch.randn(37, 32))  # as in version 1.1 and mT5
    model.save_pretrained(tmp_path)
    tiny.tokenizer_for("t5").save_pretrained(tmp_path)
    every, seen = (fit(tmp_path, s, kind, **FREE) for s in (ALL, SEEN))
    assert seen.result.seen_words is not None
    assert all(torch.equal(state(seen)[name], value) for name, value in state(every).items())
    assert seen.result.scores == every.result.scores


def test_a_backbone_without_a_table_is_refused() -> None:
    model = BertModel(BertConfig(vocab_size=37, hidden_size=8, num_hidden_layers=1, num_attention_heads=2))

    def missing() -> Any:
        raise NotImplementedError("not auto-handled")

    model.get_input_embeddings = missing  # as CANINE's, which hashes characters
    with pytest.raises(Unsupported, match="'bert' has no table of word embeddings; leave embeddings='seen' out"):
        train_seen_words(model)


def test_the_table_is_put_back_when_training_fails() -> None:
    model = BertModel(BertConfig(vocab_size=37, hidden_size=8, num_hidden_layers=1, num_attention_heads=2))
    model.trains_seen_words, model.task_kind = True, "sequence_classification"
    table = model.get_input_embeddings()
    with pytest.raises(RuntimeError, match="stop"), only_seen_words(model, [{"input_ids": [5]}], 0):
        raise RuntimeError("stop")
    assert model.get_input_embeddings() is table
    assert table.weight.requires_grad


def test_what_a_decoder_begins_with_is_among_them_whichever_file_says_it() -> None:
    sizes = {"d_model": 8, "d_ff": 8, "num_heads": 2, "d_kv": 4, "num_layers": 1, "vocab_size": 37}
    model = T5ForConditionalGeneration(T5Config(**sizes, pad_token_id=0, eos_token_id=3))
    model.lm_head.weight = nn.Parameter(torch.randn(37, 8))
    model.trains_seen_words, model.task_kind = True, "seq2seq"
    rows = [{"input_ids": [5, 3], "labels": [6, 3]}]
    for start in (None, 11):
        model.config.decoder_start_token_id, model.generation_config.decoder_start_token_id = None, start
        with only_seen_words(model, rows, 0) as words:
            assert words == 4 + (start is not None)
