"""The pretraining loop and its checkpoints, on a masked language model."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pretrain_helpers import SETTINGS, quiet, tiny
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForMaskedLM, RobertaConfig, RobertaForMaskedLM

from adapt.backbones.checkpointing import checkpoint_layers
from adapt.pretrain import (
    CausalLM,
    Copying,
    MaskedLM,
    Mixture,
    PrefixLM,
    Pretraining,
    evaluate,
    export,
    exportable,
    pretrain,
    schedule,
    warm_start,
)
from adapt.pretrain.checkpoint import described, digest
from adapt.spec import DataError, Diverged, OptionError, OutOfMemory
from adapt.training.step import random_state, set_random_state


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
    """In the middle of the second time through the rows, and once there is nothing left to do."""
    whole, settings = tiny(tokenizer, dropout=0.1), replace(SETTINGS, steps=30, checkpoint_every=10)
    assert 10 < len(rows) // settings.batch_size < 20
    history = pretrain(whole, MaskedLM(tokenizer), rows, rows[:8], settings, report=quiet)

    def stop_at_20(line: str) -> None:
        if line.startswith("step 20"):
            raise KeyboardInterrupt

    file = tmp_path / "state.safetensors"
    with pytest.raises(KeyboardInterrupt):
        pretrain(tiny(tokenizer, dropout=0.1), MaskedLM(tokenizer), rows, rows[:8], settings, file, stop_at_20)
    resumed = tiny(tokenizer, dropout=0.1)
    assert pretrain(resumed, MaskedLM(tokenizer), rows, rows[:8], settings, file, quiet) == history
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name
    done = tiny(tokenizer, dropout=0.1)
    assert pretrain(done, MaskedLM(tokenizer), rows, rows[:8], settings, file, quiet) == history  # nothing left to do
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
        stages(tiny(tokenizer, dropout=0.1), tmp_path / "parts", "step 3/6")
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
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: torch.tensor(state, dtype=torch.uint8))
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda given, device: put.extend(given.tolist()))
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
        ("seed", 1.5, "seed is 1.5; give a whole number"),
        ("steps", 0, "steps is 0; give a whole number"),
        ("steps", 2.5, "steps is 2.5; give a whole number"),
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
    whole = file.read_bytes()
    cut = [whole.replace(old, new, 1) for old, new in ((b'"generator"', b'"operators"'), (b"step\\", b"stop\\"))]
    for damaged in (whole[:-50], b"nonsense", whole.replace(b'"{', b'"[', 1), *cut):
        assert damaged != whole
        file.write_bytes(damaged)
        with pytest.raises(OptionError, match=r"state\.safetensors is no checkpoint"):
            pretrain(tiny(tokenizer), MaskedLM(tokenizer), rows, rows[:8], settings, file, quiet)
    broken = tiny(tokenizer)
    broken.bert.embeddings.LayerNorm.weight.data.fill_(float("nan"))
    with pytest.raises(Diverged, match="step 1"):
        pretrain(broken, MaskedLM(tokenizer), rows, rows[:8], SETTINGS, report=quiet)


def test_a_checkpoint_goes_with_its_text_and_its_objective(tokenizer, rows, tmp_path):
    file, settings = tmp_path / "state.safetensors", Pretraining(**{**vars(SETTINGS), "steps": 1})
    pretrain(tiny(tokenizer), MaskedLM(tokenizer), rows, rows[:8], settings, file, quiet)
    for other, held_out in ((rows.flip(0), rows[:8]), (rows, rows[8:16])):
        with pytest.raises(OptionError, match="other settings or text"):
            pretrain(tiny(tokenizer), MaskedLM(tokenizer), other, held_out, settings, file, quiet)
    assert digest(rows) != digest(rows[1:])
    assert described(Mixture((PrefixLM(0.25), Copying()))) != described(Mixture((PrefixLM(0.5), Copying())))
    assert described(Mixture((PrefixLM(),))) != described(Mixture((Copying(),)))
    assert described(Mixture([PrefixLM(), Copying()])) == described(Mixture((PrefixLM(), Copying())))


def test_numbers_of_numpy_describe_an_objective_too() -> None:
    assert described(PrefixLM(np.float32(0.25))) == described(PrefixLM(0.25)) != described(PrefixLM(np.float32(0.5)))


def test_an_objective_is_described_with_what_is_in_its_lists():
    @dataclass
    class Several:
        parts: list
        shares: list

    first = described(Several([PrefixLM()], [0.25, 0.75]))
    assert first == ["Several", {"parts": [["PrefixLM", {"least": 0.25}]], "shares": [0.25, 0.75]}]
    assert first == described(Several((PrefixLM(),), (0.25, 0.75)))


def test_a_checkpoint_goes_with_its_model(tokenizer, rows, tmp_path):
    """Another number of heads or another activation has weights of the same shapes."""
    file, settings = tmp_path / "state.safetensors", Pretraining(**{**vars(SETTINGS), "steps": 1})
    pretrain(tiny(tokenizer), MaskedLM(tokenizer), rows, rows[:8], settings, file, quiet)
    for change in ({"num_attention_heads": 1}, {"hidden_act": "relu"}):
        config = tiny(tokenizer).config
        config.update(change)
        with pytest.raises(OptionError, match=r"other settings or text \(model"):
            pretrain(BertForMaskedLM(config), MaskedLM(tokenizer), rows, rows[:8], settings, file, quiet)


def test_a_checkpoint_goes_with_the_weights_that_training_began_with(tokenizer, rows, tmp_path):
    """As a second stage has others where the first was trained anew."""
    file, settings = tmp_path / "state.safetensors", Pretraining(**{**vars(SETTINGS), "steps": 1})
    history = pretrain(tiny(tokenizer), MaskedLM(tokenizer), rows, rows[:8], settings, file, quiet)
    with pytest.raises(OptionError, match=r"state\.safetensors is of a training that began with other weights: give"):
        pretrain(tiny(tokenizer, seed=7), MaskedLM(tokenizer), rows, rows[:8], settings, file, quiet)
    with safe_open(file, "pt") as content:
        facts = json.loads(content.metadata()["state"])
    del facts["settings"]["weights"]  # as earlier versions wrote it
    save_file(load_file(file), file, metadata={"state": json.dumps(facts)})
    assert pretrain(tiny(tokenizer), MaskedLM(tokenizer), rows, rows[:8], settings, file, quiet) == history


def test_a_model_that_is_too_small_for_the_rows(tokenizer, rows):
    """Found before the first step; torch would end in an index error, on a GPU in a failed assertion."""
    config = tiny(tokenizer).config
    words = len(tokenizer)
    for change, message in (
        ({"max_position_embeddings": 8}, "rows have 16 tokens, and the model positions for 8: have shorter rows"),
        ({"vocab_size": words - 1}, f"are {words} tokens, and the model has embeddings for {words - 1}: make it"),
    ):
        small = BertForMaskedLM(BertConfig(**{**config.to_dict(), **change}))
        with pytest.raises(OptionError, match=message):
            pretrain(small, MaskedLM(tokenizer), rows, rows[:8], SETTINGS, report=quiet)
    few = BertForMaskedLM(BertConfig(**{**config.to_dict(), "vocab_size": int(rows.max())}))
    with pytest.raises(OptionError, match=f"are {int(rows.max()) + 1} tokens, and the model has embeddings for"):
        pretrain(few, CausalLM(), rows, rows[:8], SETTINGS, report=quiet)  # which knows no tokenizer
    short = BertForMaskedLM(BertConfig(**{**config.to_dict(), "max_position_embeddings": 11}))
    for objective in (PrefixLM(), Mixture((PrefixLM(), PrefixLM()))):  # wherever the first batch is cut
        with pytest.raises(OptionError, match="rows have 12 tokens, and the model positions for 11"):
            pretrain(short, objective, rows, rows[:8], SETTINGS, report=quiet)


def test_a_seed_of_numpy_is_a_seed(tokenizer, rows, tmp_path):
    one, other = tiny(tokenizer), tiny(tokenizer)
    for model, seed in ((one, 3), (other, np.int64(3))):
        settings = Pretraining(**{**vars(SETTINGS), "steps": 2, "seed": seed})
        pretrain(model, MaskedLM(tokenizer), rows, rows[:8], settings, tmp_path / type(seed).__name__, quiet)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


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


def test_nothing_stays_of_a_checkpoint_that_finds_no_room(tokenizer, rows, tmp_path, monkeypatch):
    from adapt.pretrain import checkpoint

    def full(tensors, file, metadata):
        Path(file).write_bytes(b"as much as there is room for")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    file, settings = tmp_path / "state.safetensors", Pretraining(**{**vars(SETTINGS), "steps": 1})
    with pytest.raises(OptionError, match="No space left on device; free some space"):
        pretrain(tiny(tokenizer), MaskedLM(tokenizer), rows, rows[:8], settings, file, quiet)
    assert not list(tmp_path.iterdir())


def test_a_model_that_pads_with_a_token_of_the_text(tokenizer, rows):
    """As RoBERTa's configuration does unless it is told: it gives that token no position of its own."""
    text = rows.clone()
    text[:, 3] = tokenizer.unk_token_id
    config = RobertaConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=20,
    )  # fmt: skip
    assert config.pad_token_id == tokenizer.unk_token_id
    settings = Pretraining(**{**vars(SETTINGS), "steps": 1})
    with pytest.raises(
        OptionError, match=r"pads with the token 1, which the rows hold as text, and the tokenizer with"
    ):
        pretrain(RobertaForMaskedLM(config), MaskedLM(tokenizer), text, text[:8], settings, None, quiet)
    config.pad_token_id = tokenizer.pad_token_id
    assert len(pretrain(RobertaForMaskedLM(config), MaskedLM(tokenizer), text, text[:8], settings, None, quiet)) == 1


def test_the_generator_of_the_models_own_gpu_is_kept(monkeypatch):
    asked = []
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: asked.append(device) or torch.zeros(1))
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: asked.append(device))
    set_random_state(random_state("cuda:1"), "cuda:1")
    set_random_state(random_state("cpu"), "cpu")
    assert asked == ["cuda:1", "cuda:1"]
