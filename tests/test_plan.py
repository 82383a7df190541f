"""Plans of memory from a configuration alone: of known models, beside a budget, before training, and what has none."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from task_helpers import multilingual
from tiny_tasks import TASKS
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import BertConfig, GPTNeoConfig, T5GemmaConfig

import adapt
from adapt.adapted import assemble, fit_model
from adapt.backbones import resolve
from adapt.backbones.families import positions_of
from adapt.backbones.load import SHORT
from adapt.backbones.quantised import place_rest
from adapt.cli import cli
from adapt.memory import CATEGORIES, Memory, plan
from adapt.memory.blueprint import without_padding
from adapt.memory.budget import allowance, parse_batch, parse_bytes, verdict
from adapt.memory.foresee import foresee
from adapt.memory.planner import Planner, setting_of
from adapt.memory.trace import Trace
from adapt.options import budget_of
from adapt.spec import AdaptError, OptionError, Source, Unsupported
from adapt.strategies import STRATEGIES, make
from adapt.tasks import KINDS


def test_a_batch_may_be_written_as_on_the_command_line() -> None:
    assert adapt.plan("tiny-encoder", "head", batch="4x16") == adapt.plan("tiny-encoder", "head", batch=(4, 16))
    with pytest.raises(OptionError, match="4 by 16"):
        adapt.plan("tiny-encoder", "head", batch="4 by 16")


def test_numpys_numbers_are_planned_with() -> None:
    given = {"batch": (np.int64(4), np.int32(16)), "labels": np.int64(3), "words": np.int64(50)}
    assert plan("tiny-encoder", "head", **given) == plan("tiny-encoder", "head", batch=(4, 16), labels=3, words=50)  # type: ignore[arg-type]


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


@pytest.mark.parametrize(
    ("strategy", "checkpointing"),
    [*((name, False) for name in STRATEGIES), *((name, True) for name in ("full", "prefix", "qlora"))],
)
def test_many_layers_are_a_few_carried_on(strategy: str, checkpointing: bool) -> None:
    setting = setting_of("shape:bert-base", strategy, checkpointing=checkpointing)
    config = type(setting.shape.config).from_dict({**setting.shape.config.to_dict(), "num_hidden_layers": 8})
    setting = dataclasses.replace(setting, shape=dataclasses.replace(setting.shape, config=config))
    planner = Planner(setting)
    whole = max(Trace(setting, config, 64).run(2, 64).values(), key=lambda memory: memory.peak)
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
    [
        ("12GiB", 12 * 2**30),
        ("24 GB", 24 * 10**9),
        ("800mib", 800 * 2**20),
        ("1.5GiB", 3 * 2**29),
        ("2000000", 2 * 10**6),
    ],
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
        (lambda: parse_bytes("0GiB"), "'0GiB' is 0 bytes"),
        (lambda: parse_bytes("12"), "'12' is 12 bytes; give one with its unit, such as 12GiB"),
        (lambda: parse_batch("2048"), "write rows x tokens"),
        (lambda: parse_batch("0x2048"), "at least one row"),
        (lambda: plan("tiny-encoder", "lora", batch=(0, 8)), "batch has 0 rows"),
        (lambda: plan("tiny-encoder", "lora", batch=32), "The batch '32' cannot be read; write rows x tokens"),
        (lambda: plan("tiny-encoder", "lora", batch=(4, 4096)), "texts of 4096 tokens, and tiny-encoder has positions"),
        (lambda: plan("shape:llama-9b", "lora"), "There is no shape 'llama-9b' \\(did you mean 'llama-8b'"),
        (lambda: plan("tiny-encoder", "lora", device="tpu"), "a plan is for cpu or cuda"),
        (lambda: plan("tiny-encoder", "lora", epoch=3), "plan has no option 'epoch'"),
        (lambda: plan("tiny-encoder", "lora", batch_size=4), r"no option 'batch_size'; give batch=\(4, tokens\)"),
        (lambda: plan("tiny-encoder", "lora", max_length=64), r"no option 'max_length'; give batch=\(rows, 64\)"),
        (lambda: plan("tiny-encoder", "lorra"), "did you mean 'lora'"),
        (lambda: plan("tiny-encoder", "lora", labels=1), "labels is 1"),
        (lambda: plan("tiny-encoder", "lora", pooling="max"), "pooling is 'max'; choose one of auto, mean, native"),
        (lambda: plan("no-one/no-model", "lora"), "'no-one/no-model' is neither a local folder nor could"),
        (lambda: plan("tiny-encoder", make("full", {"head_factor": 0})), "full.head_factor is 0"),
        (lambda: plan("tiny-encoder", "lora", loss_chunk=64), "loss_chunk is for .*; leave it out for sequence_class"),
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
    with pytest.raises(Unsupported, match=r"LlamaForCausalLM depends on what its tensors hold .*; a run .* measures"):
        plan("tiny-decoder", "full", kind="causal_lm", batch=(2, 8))


def test_a_model_whose_configuration_names_each_layer_has_a_plan(tmp_path: Path) -> None:
    """GPT-Neo's is not valid with another number of layers."""
    values: dict[str, Any] = {"hidden_size": 32, "num_heads": 4, "vocab_size": 64, "max_position_embeddings": 64}
    GPTNeoConfig(num_layers=12, attention_types=[[["global", "local"], 6]], **values).save_pretrained(tmp_path)
    assert plan(tmp_path, "lora", kind="causal_lm", batch=(2, 16), device="cpu").peak > 0


def test_a_model_that_its_configuration_does_not_make_is_unsupported(tmp_path: Path) -> None:
    BertConfig(vocab_size=64, hidden_size=32, num_hidden_layers=1, num_attention_heads=2).save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(values | {"pad_token_id": 99}))
    with pytest.raises(
        Unsupported, match=r"'bert' cannot be built .* under lora \(AssertionError: Padding.*config.json"
    ):
        plan(tmp_path, "lora", batch=(2, 8), device="cpu")


def test_what_no_fake_tensor_can_do_is_unsupported_and_no_matter_to_training(
    monkeypatch: pytest.MonkeyPatch, task_data: Any
) -> None:
    def failing(*_: Any) -> Any:
        raise NotImplementedError("no kernel\nand a page of where")

    monkeypatch.setattr(Trace, "run", failing)
    with pytest.raises(
        Unsupported,
        match=r"'bert' cannot be run without contents \(NotImplementedError: no kernel\); a run .* measures",
    ):
        plan("tiny-encoder", "lora", batch=(2, 8))
    monkeypatch.setattr("adapt.memory.foresee._SMALL", 0.0)
    assert fit_model("tiny-encoder", task_data("single_label"), "lora", max_steps=1, device="cpu").result is not None


def test_positions_are_those_of_the_part_with_the_fewest() -> None:
    assert positions_of({"max_encoder_position_embeddings": 4096, "max_decoder_position_embeddings": 1024}) == 1024
    padded = {"max_position_embeddings": 64, "pad_token_id": 1}
    assert positions_of({**padded, "model_type": "markuplm"}) == 62
    assert positions_of({**padded, "model_type": "esm", "position_embedding_type": "absolute"}) == 62
    assert positions_of({**padded, "model_type": "esm", "position_embedding_type": "rotary"}) == 64
    parts = {"encoder": {"model_type": "roberta", "max_position_embeddings": 514}, "decoder": {"n_positions": 1024}}
    assert positions_of(parts) == 512
    assert positions_of({"text_config": {"max_position_embeddings": 96}, "vision_config": {"image_size": 8}}) == 96


def test_a_folder_needs_no_weights(tmp_path: Path) -> None:
    source = resolve("tiny-decoder").path
    (tmp_path / "config.json").write_text((source / "config.json").read_text())
    assert plan(tmp_path, "lora", kind="causal_lm", batch=(2, 16)) == plan(
        "tiny-decoder", "lora", kind="causal_lm", batch=(2, 16)
    )


def command(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(cli, ["plan", *arguments], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.stdout


def test_the_command_prints_a_table_or_json(tmp_path: Path) -> None:
    values = json.loads((resolve("tiny-encoder").path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**values, "num_hidden_layers": 1}))
    common = ("--backbone", str(tmp_path), "--batch", "4x32", "--device", "cpu")
    text = command(*common, "--strategies", "lora", "--budget", "2GiB")
    assert all(part in text for part in ("| lora |", "| fits |", "Allowance: 1.5 GiB for libraries, rows and the like"))
    rows = json.loads(command(*common, "--strategies", "full,lora", "--json"))
    assert [row["strategy"] for row in rows] == ["full", "lora"]
    for row in rows:
        assert row["peak"] == sum(row[name] for name in CATEGORIES)
        assert row["required"] == row["peak"] + row["allowance"]
        assert row["verdict"] is None


def test_a_strategy_that_does_not_go_with_the_architecture_has_a_line_with_its_reason() -> None:
    given = ("--backbone", "tiny-encoder", "--kind", "seq2seq", "--batch", "2x8", "--strategies", "lora")
    text = command(*given, code=1)
    assert "lora has no plan: transformers has no seq2seq head for 'bert'; use an encoder-decoder (such as T5" in text
    assert json.loads(command(*given, "--json", code=1))[0]["reason"].startswith("transformers has no seq2seq head")


def foreseen(
    monkeypatch: pytest.MonkeyPatch, data: Any, examples: list[dict[str, Any]], **choices: Any
) -> list[tuple[int, int, int | None]]:
    """The rows, their tokens and those of their targets that were planned before training."""
    asked: list[tuple[int, int, int | None]] = []
    spec, _, source = assemble(choices.pop("backbone", "tiny-encoder"), data, "full", device="cpu", **choices)
    monkeypatch.setattr(Planner, "memory", lambda self, *batch: asked.append(batch) or Memory(*[2**40] * 6))
    foresee(spec, source, examples)
    return asked


def test_a_plan_is_made_for_a_small_backbone_where_the_batch_is_large(
    monkeypatch: pytest.MonkeyPatch, task_data: Any
) -> None:
    monkeypatch.setattr("adapt.memory.foresee.free_memory", lambda device: 2**30)
    data = task_data("single_label")
    assert foreseen(monkeypatch, data, [{"input_ids": [5] * 64}] * 9, batch_size=8) == []
    many = [{"input_ids": [5] * 64}, {"input_ids": [5] * 128}] * 600
    assert foreseen(monkeypatch, data, many, batch_size=600) == [(600, 128, None)]
    assert foreseen(monkeypatch, data, many, batch_size=1024) == [(600, 128, None)], "of two batches of one size"
    assert foreseen(monkeypatch, data, many[:1000], batch_size=1024) == [(1000, 128, None)], "there are no more rows"


def test_before_training_targets_are_as_long_as_they_are(monkeypatch: pytest.MonkeyPatch, little: None) -> None:
    own = [{"input_ids": [5] * 24, "labels": [5] * 9}, {"input_ids": [5] * 4, "labels": [5] * 4}]
    chosen = {"backbone": "tiny-encoder-decoder", "batch_size": 2}
    assert foreseen(monkeypatch, TASKS["text"](), own, **chosen) == [(2, 24, 9)]
    same = [{"input_ids": [5] * 24, "labels": [5] * 24}]
    assert foreseen(monkeypatch, TASKS["text"](), same, **chosen) == [(1, 24, None)]


def test_on_cpus_a_plan_takes_the_attention_of_the_run() -> None:
    """Which is that for the longest rows that there may be, though none of them is that long."""
    setting = setting_of("tiny-encoder", "head", device="cpu")
    for most, kernel in ((128, "eager"), (SHORT + 1, "sdpa")):
        planner = Planner(dataclasses.replace(setting, task=dataclasses.replace(setting.task, max_length=most)))
        planner.memory(2, 16)
        assert planner.attention(16) == kernel


def test_a_table_says_what_was_planned(backbone: Any) -> None:
    common = ("--batch", "2x16", "--strategies", "head")
    found = command("--backbone", str(backbone("deberta-v2")), *common)
    assert "attention eager, its weights kept;" in found
    assert "features of the batch alone (head and layers=last:N keep up to 1 GiB" in found
    common = ("--batch", "2x16", "--strategies", "head,prefix")
    found = command("--backbone", "tiny-encoder", *common, "--kind", "mlm")
    assert "attention fused, no mask kept;" in found
    assert "features of the batch alone.\n" in found, "rows are others in each epoch"


@pytest.fixture
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapt.memory.foresee.free_memory", lambda device: 4 * 2**20)


def test_training_is_foretold_not_to_fit(little: None, task_data: Any) -> None:
    with pytest.warns(UserWarning, match="lora needs about .* does not fit the 4.0 MiB that cpu has free"):
        made = fit_model("tiny-encoder", task_data("single_label"), "lora", epochs=1, batch_size=8, device="cpu")
    assert made.result is not None
    assert any("see adapt plan" in note for note in made.result.notes)


def test_budget_options_reach_the_plan() -> None:
    assert setting_of("tiny-encoder", "lora", device="cuda").budget == budget_of(
        device="cpu", precision="bf16"
    ).__class__(**{**vars(budget_of(device="cpu", precision="bf16")), "device": "cuda"})
    assert setting_of("tiny-encoder", "lora").task.data == Source("plan", "")


def test_weights_that_cannot_be_read_are_no_matter_to_a_plan(backbone: Any, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(backbone("bert"), tmp_path / "copy"))
    before = plan(folder, "lora", kind="token_classification", batch=(2, 16), device="cpu")
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1")
    assert plan(folder, "lora", kind="token_classification", batch=(2, 16), device="cpu") == before


def test_a_gpus_attention_keeps_no_mask_of_its_dropout_whoever_asks_for_it(tmp_path: Path) -> None:
    layers, hidden = 2, 768
    BertConfig(num_hidden_layers=layers, hidden_size=hidden).save_pretrained(tmp_path)
    options: dict[str, Any] = {"batch": (2, 512), "device": "cuda", "precision": "bf16"}
    own = plan(tmp_path, "lora", **options)
    assert plan(tmp_path, "lora", dropout=0.1, **options) == own  # which is what its configuration has
    without = plan(tmp_path, "lora", dropout=0.0, **options)
    masks = 2 * layers - 1  # after attention and feed-forward; at the peak that of the last is no more
    kept = masks * 2 * 512 * hidden  # a byte an element
    assert 0.9 * kept < own.activations - without.activations < 1.1 * kept


def test_targets_of_a_plan_are_those_that_training_keeps() -> None:
    """As many as of the source, and no more than 64 unless it is told so."""

    def logits(length: int, targets: int | None = None) -> int:
        return plan("tiny-encoder-decoder", "lora", kind="seq2seq", batch=(4, length), targets=targets).logits

    assert logits(128) == logits(128, 64) == logits(64)
    assert logits(128, 128) == pytest.approx(2 * logits(128), rel=1e-3)
    with pytest.raises(OptionError, match="targets is 8, and rows of sequence_classification have none of their own"):
        plan("tiny-encoder", "lora", targets=8)
    said = CliRunner().invoke(
        cli, ["plan", "--backbone", "tiny-encoder-decoder", "--kind", "seq2seq", "--strategies", "lora"]
    )
    assert "targets as long as sources but of at most 64 tokens (--targets)" in said.output


def test_a_run_of_a_multilingual_model_is_foreseen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, little: None
) -> None:
    """Though no plan has a tokenizer that knows languages."""
    monkeypatch.setattr("adapt.memory.foresee._SMALL", 0.0)
    tokens, net = multilingual("M2M100")
    for each in (tokens, net):
        each.save_pretrained(tmp_path / "own")
    rows = {split: [{"source": "a b", "target": "b a"}] * 4 for split in ("train", "validation", "test")}
    chosen: dict[str, Any] = {"kind": "seq2seq", "device": "cpu", "precision": "fp32", "batch_size": 4}
    languages = {"source_language": "fra_Latn", "target_language": "deu_Latn"}
    spec, _, source = assemble(tmp_path / "own", rows, "full", **chosen, **languages)
    examples = [{"input_ids": [5] * 24, "labels": [5] * 9}] * 4
    monkeypatch.setattr("adapt.memory.foresee.free_memory", lambda device: 2**16)
    assert "full needs about" in (foresee(spec, source, examples) or "")


def test_a_step_of_one_batch_is_foreseen_and_measured_as_such_whatever_accumulation_says(task_data: Any) -> None:
    """As where there are no more rows: the second batch of a step would find gradients."""
    peaks = {}
    for rows in (8, 16):
        for accumulation in (1, 4):
            made = fit_model(
                "tiny-encoder", task_data("single_label"), "full", max_train=rows, batch_size=8, epochs=1,
                accumulation=accumulation, device="cpu", precision="fp32", progress=False,
            )  # fmt: skip
            assert made.result is not None
            peaks[rows, accumulation] = made.result.memory["peak"]
    assert peaks[8, 4] == peaks[8, 1]
    assert peaks[16, 4] > peaks[16, 1]
