"""The contracts of every strategy on every kind of task and architecture: one matrix.

`matrix.py` lists the cells. Each is trained once on a tiny task; the tests look at what came out. Their numbers are
those of the contracts: frozen bits, the fresh head, no-op start, gradients, save and load, seeds, padding, disabling,
merging, plain PEFT, closed-form counts, checkpointing and bf16.
"""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import closed_forms
import matrix
import pytest
import tiny
import tiny_tasks
import torch
import transformers
from made import LANGUAGE, Made, flat
from matrix import CELLS, Cell
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from adapt import params
from adapt.adapted import MODEL_FILE, load_model
from adapt.backbones.checkpointing import checkpoint_layers
from adapt.backbones.memo import memos_of
from adapt.backbones.memoise import release
from adapt.data import read_inputs
from adapt.inputs import Inputs
from adapt.memory import observe
from adapt.run import Fitted, fit, run
from adapt.spec import AdaptError, Run, Unsupported
from adapt.strategies import disabled, make
from adapt.tasks import KINDS
from adapt.training.loop import predict
from adapt.training.step import accelerator_for

FROZEN = [cell for cell in CELLS if cell.strategy != "full"]
ON_PEFT = [cell for cell in CELLS if cell.strategy == "lora" or cell.quantised]
MERGEABLE = ("full", "head", "lora", "qlora", "qlora4")
HALVES = ("full", "prefix", "qlora", "qlora4"), ("head", "lora", "bottleneck")
"""Strategies whose tests take about half of the time."""


def half(strategies: tuple[str, ...]) -> Any:
    """Marks tests that one process does, which trains each cell once."""
    return pytest.mark.xdist_group("-".join(strategies))


def named(cells: list[Cell]) -> Any:
    """Parametrised over cells; all tests of a strategy are done by one process."""
    marks = {strategy: half(strategies) for strategies in HALVES for strategy in strategies}
    marked = [pytest.param(cell, id=str(cell), marks=marks[cell.strategy]) for cell in cells]
    return pytest.mark.parametrize("cell", marked)


@pytest.fixture(scope="session")
def cells(backbone: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[Cell], Made]:
    root, made, data = tmp_path_factory.mktemp("cells"), dict[Cell, Made](), dict[str, Any]()

    def make(cell: Cell) -> Made:
        if cell.task not in data:
            data[cell.task] = tiny_tasks.TASKS[cell.task]()
        if cell not in made:
            masked = cell.task == "masked" and cell.architecture in matrix.ENCODERS
            made[cell] = Made(cell, backbone(cell.architecture, masked=masked), data[cell.task], root / str(cell))
        return made[cell]

    return make


@pytest.fixture
def made(cells: Callable[[Cell], Made], cell: Cell) -> Made:
    return cells(cell)


@pytest.mark.parametrize(("architecture", "task"), matrix.NO_HEAD)
def test_a_head_that_transformers_lacks_is_unsupported(
    cells: Callable[[Cell], Made], architecture: str, task: str
) -> None:
    made = cells(Cell("full", architecture, task))
    with pytest.raises(Unsupported, match=rf"no .* head for '{architecture}'|'{architecture}' was not pretrained to"):
        made.build()
    result = run(made.run, Inputs(made.data, made.loader().backbone))
    assert result.status == "unsupported"
    assert re.search(rf"{architecture}|has no mask token", str(result.reason))


@named(FROZEN)
def test_1_frozen_weights_keep_their_bits(made: Made) -> None:
    model = made.start
    if made.strategy == "head":
        release(model := made.build())  # its memo, which training undoes too, would change the names
    before = {n: p for n, p in model.named_parameters() if not p.requires_grad}
    after = {n: p for n, p in made.fitted.fitted.model.named_parameters() if not p.requires_grad}
    assert before
    assert before.keys() == after.keys()
    for name, parameter in after.items():
        assert torch.equal(before[name], parameter), name
        assert parameter.grad is None, name


@named([cell for cell in FROZEN if not cell.quantised])
def test_1_the_checkpoint_is_what_is_frozen(made: Made) -> None:
    weights = load_file(made.folder / "model.safetensors").values()
    held = {(tuple(value.shape), value.double().sum().item()) for value in weights}
    for name, p in made.fitted.fitted.model.named_parameters():
        if not p.requires_grad:
            assert (tuple(p.shape), p.double().sum().item()) in held, name


@named(CELLS)
def test_2_every_new_parameter_is_trained_and_saved(made: Made) -> None:
    assert bool(made.fresh) == (made.cell.kind not in LANGUAGE)
    before = {n: p for n, p in made.start.named_parameters() if n in made.fresh}
    after = {n: p for n, p in made.fitted.fitted.model.named_parameters() if p.requires_grad}
    with safe_open(made.saved / params.STATE_FILE, "pt") as file:
        saved = set(file.keys())
    assert before.keys() == made.fresh
    assert made.fresh <= saved
    assert saved == after.keys()
    for name in made.fresh:
        assert not torch.equal(before[name], after[name]), name
        assert after[name].dtype == torch.float32


@named(CELLS)
def test_2_the_head_starts_from_the_same_bits_under_every_strategy(made: Made, cells: Callable[[Cell], Made]) -> None:
    reference = dict(cells(made.cell._replace(strategy="full")).start.named_parameters())
    for name, parameter in made.start.named_parameters():
        if name in made.fresh:
            assert torch.equal(parameter, reference[name]), name
            if parameter.dim() > 1:
                assert parameter.std() > 0
    if made.cell.kind in LANGUAGE:
        held = [value for value in load_file(made.folder / "model.safetensors").values() if value.dim() == 2]
        output = made.start.get_output_embeddings().weight
        assert any(torch.equal(output, value) for value in held if value.shape == output.shape)
        assert output.requires_grad == (made.strategy in ("full", "head"))


@named([cell for cell in CELLS if cell.strategy != "prefix"])
def test_3_a_strategy_starts_as_a_no_op(made: Made) -> None:
    assert torch.equal(made.outputs(made.base), made.outputs(made.start))


@named(CELLS)
def test_4_every_trainable_parameter_gets_a_gradient_within_two_steps_and_the_loss_falls(made: Made) -> None:
    model = made.fitted.fitted.model
    trainable = {n: p for n, p in model.named_parameters() if p.requires_grad}
    assert {n for n, p in trainable.items() if id(p) not in made.moved} <= _unused(made)
    if not _loss(made, model) < _loss(made, made.start):  # it went too far, or another metric chose the epoch
        slow = dataclasses.replace(made.run.strategy, learning_rate=made.run.strategy.learning_rate / 4)
        result, _ = fit(dataclasses.replace(made.run_of(epochs=4), strategy=slow), Inputs(made.data, made.backbone))
        assert result.curve[-1]["loss"] < result.curve[0]["loss"]


def _loss(made: Made, model: nn.Module) -> float:
    with torch.no_grad():
        return float(made.kind.loss(model.eval(), made.train_batch))


def _unused(made: Made) -> set[str]:
    """The bias of start and end scores, which moves the scores of all positions alike."""
    named = made.start.named_parameters()
    return {n for n, p in named if made.task == "answers" and n.endswith(".bias") and p.shape == (2,)}


COLUMNS = ("text", "text_pair", "tokens", "id", "question", "context", "source", "prompt", "messages")
"""Canonical columns that are not labels."""

SHARED = '''
def predictions_of(model, rows):
    """What a model predicts for rows without labels, and the raw outputs behind it, on which bits are compared."""
    from unittest import mock

    import adapt.training

    predict, outputs = adapt.training.predict, []

    def kept(*args, **how):
        outputs.append(predict(*args, **how))
        return outputs[-1]

    with mock.patch.object(adapt.training, "predict", kept):
        return model.predict(rows), outputs
'''
WARNED_OF = "ignore:`torch.jit.script` is deprecated:DeprecationWarning"
"""By torch 2.11, of DeBERTa as transformers 5.17 has it."""
FRESH_PROCESS = """
import json, pathlib, sys
import torch
torch.set_num_threads(1)
from adapt.adapted import load_model
for folder, rows in json.loads(pathlib.Path(sys.argv[1]).read_text()):
    model = load_model(folder, device="cpu")
    torch.save(predictions_of(model, rows), folder + "/fresh.pt")
"""
exec(SHARED)


def rows_of(made: Made) -> list[Any]:
    """Rows without labels, some seen in training."""
    rows = [*made.data.splits["train"].select(range(3)), *made.data.splits["test"].select(range(6))]
    rows = [{name: value for name, value in row.items() if name in COLUMNS} for row in rows]
    if made.task == "masked":
        return [{"text": f"[MASK] {row['text']}"} for row in rows]
    return [{"messages": row["messages"][:-1]} if "messages" in row else row for row in rows]


@pytest.mark.parametrize("strategies", [pytest.param(names, marks=half(names), id="-".join(names)) for names in HALVES])
def test_5_a_saved_model_gives_the_same_bits_in_a_fresh_process(
    cells: Callable[[Cell], Made], strategies: tuple[str, ...], tmp_path: Path
) -> None:
    all_made = [cells(cell) for cell in CELLS if cell.strategy in strategies]
    jobs = [(str(made.saved), rows_of(made)) for made in all_made]
    (tmp_path / "jobs.json").write_text(json.dumps(jobs), encoding="utf-8")
    code, warned = "import torch\n" + SHARED + FRESH_PROCESS, ("-W", "error", "-W", WARNED_OF)
    done = subprocess.run(
        [sys.executable, *warned, "-c", code, str(tmp_path / "jobs.json")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # nothing that would disturb a user either
    different = []
    for made in all_made:
        predictions, outputs = torch.load(made.saved / "fresh.pt", weights_only=False)
        wanted, expected = predictions_of(made.fitted, rows_of(made))  # type: ignore[name-defined]  # noqa: F821
        if not torch.equal(flat(outputs), flat(expected)) or predictions != wanted:
            different.append(str(made.cell))
    assert not different


@named(CELLS)
def test_5_what_is_saved_holds_nothing_of_the_backbone(made: Made) -> None:
    size = (made.saved / params.STATE_FILE).stat().st_size
    result = made.fitted.result
    assert result is not None
    assert result.saved_bytes is not None
    assert result.trainable is not None
    assert abs(result.saved_bytes - size) < 400  # the header may name less
    assert 4 * result.trainable <= size <= 4 * result.trainable + 20_000


@pytest.fixture
def folder(cells: Callable[[Cell], Made], tmp_path: Path) -> Path:
    """A model folder of its own, to be damaged."""
    return cells(Cell("lora", "bert", "single_label")).fitted.save(tmp_path / "model")


def _tamper(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    """Change the tensors and make the recorded hash fit, so that only the tensors themselves are wrong."""
    import hashlib

    file = folder / params.STATE_FILE
    state = load_file(file)
    change(state)
    save_file(state, file, metadata={"format": "pt"})
    content = json.loads((folder / MODEL_FILE).read_text())
    content["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
    (folder / MODEL_FILE).write_text(json.dumps(content))


def test_5_a_missing_tensor_is_named(folder: Path) -> None:
    _tamper(folder, lambda state: state.pop("classifier.bias"))
    with pytest.raises(AdaptError, match=r"trainable\.safetensors.*missing: classifier\.bias"):
        load_model(folder, device="cpu")


def test_5_an_extra_tensor_is_named(folder: Path) -> None:
    _tamper(folder, lambda state: state.update(odd=torch.zeros(1)))
    with pytest.raises(AdaptError, match=r"not expected: odd"):
        load_model(folder, device="cpu")


def test_5_a_misshapen_tensor_is_named(folder: Path) -> None:
    _tamper(folder, lambda state: state.update({"classifier.weight": torch.zeros(2, 7)}))
    with pytest.raises(AdaptError, match=r"classifier\.weight has shape \(2, 7\), expected \(2, 32\)"):
        load_model(folder, device="cpu")


@pytest.mark.parametrize("name", [MODEL_FILE, params.STATE_FILE])
def test_5_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(AdaptError, match=name):
        load_model(folder, device="cpu")


@pytest.mark.parametrize("keep", [0, 4, 1000])
def test_5_cut_off_tensors_are_named(folder: Path, keep: int) -> None:
    file = folder / params.STATE_FILE
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(AdaptError, match=params.STATE_FILE):
        load_model(folder, device="cpu")


@pytest.mark.parametrize("text", ["", "{", '{"schema": 1}', "[]", "1"])
def test_5_a_damaged_description_is_named(folder: Path, text: str) -> None:
    (folder / MODEL_FILE).write_text(text, encoding="utf-8")
    with pytest.raises(AdaptError, match=MODEL_FILE):
        load_model(folder, device="cpu")


def test_5_another_backbone_is_refused(folder: Path, backbone: Callable[..., Path]) -> None:
    with pytest.raises(AdaptError, match=r"bert-2-7 is not the one that the model in .* was trained on \('bert-2-0'"):
        load_model(folder, backbone=backbone("bert", seed=7), device="cpu")


@named(CELLS)
def test_6_a_seed_decides_every_bit(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the memory of a step is measured in between or not."""
    first = made.fitted
    monkeypatch.setattr(observe, "observe", lambda *args: ({}, 0))
    again = made.fit()
    state, same = params.trainable_state(first.fitted.model), params.trainable_state(again.fitted.model)
    assert state.keys() == same.keys()
    assert all(torch.equal(state[name], same[name]) for name in state)
    assert first.result is not None
    assert again.result is not None
    assert first.result.scores == again.result.scores
    assert first.result.test_outcomes == again.result.test_outcomes
    assert [p["loss"] for p in first.result.curve] == [p["loss"] for p in again.result.curve]


@named([cell for cell in CELLS if cell.kind not in LANGUAGE or cell.strategy not in ("full", "head")])
def test_6_another_seed_gives_other_bits(made: Made) -> None:
    """To the head, or to the adaptation where nothing of the head is fresh."""
    state = params.trainable_state(made.start)
    other = params.trainable_state(made.build(made.run_of(seed=1)))
    drawn = [name for name in made.fresh or state if state[name].dim() > 1 and state[name].std() > 0]
    assert drawn
    for name in drawn:
        assert not torch.equal(state[name], other[name]), name


@named(CELLS)
def test_7_a_row_is_the_same_alone_and_in_a_padded_batch(made: Made) -> None:
    model, kind = made.fitted.fitted.model, made.fitted.fitted.kind
    encoded = kind.encode(made.data.splits["test"], split="test")
    examples = list({len(example["input_ids"]): example for example in encoded}.values())
    assert len(examples) > 3
    together = made.outputs(model, kind.collate(examples))
    alone = torch.cat([made.outputs(model, kind.collate([example])) for example in examples])
    # 8-bit products round each activation to one of 255 steps, which a last bit before it can tip over
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=2e-2 if made.strategy == "qlora" else 3e-5)


@named([cell for cell in CELLS if cell.kind in ("seq2seq", "causal_lm") and cell.strategy != "qlora"])
def test_7_generation_is_the_same_alone_in_a_batch_and_without_a_cache(made: Made) -> None:
    model, kind = made.fitted.fitted.model, made.fitted.fitted.kind
    examples = kind.encode(read_inputs(rows_of(made)[-3:], made.run.task))
    generate = type(model).generate
    words = {"suppress_tokens": [i for i in range(len(tiny.SPECIAL)) if i != tiny.END], "min_new_tokens": 4}
    for how in ({}, words):  # as it writes, and where it must write some words
        found = []
        for batches, cache in (([range(3)], True), ([[0], [1], [2]], True), ([range(3)], False)):
            forced = {**how, "use_cache": cache}
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(
                    type(model),
                    "generate",
                    lambda self, *a, _forced=forced, **k: generate(self, *a, **{**k, **_forced}),
                )
                found.append([row["text"] for rows in batches for row in _decoded(model, kind, examples, rows)])
        assert found[0] == found[1] == found[2]
    assert all(found[0])


def _decoded(model: nn.Module, kind: Any, examples: Any, chosen: Any) -> list[dict[str, Any]]:
    picked = [examples[i] for i in chosen]
    with torch.no_grad():
        return kind.decode(kind.outputs(model.eval(), kind.collate(picked), final=True), picked)


@named(FROZEN)
def test_8_disabled_the_model_is_its_base_with_the_trained_head(made: Made) -> None:
    base, model = made.base, made.fitted.fitted.model
    state = load_file(made.saved / params.STATE_FILE)
    own = {name: base.get_parameter(name).detach().clone() for name in base.head_names & state.keys()}
    _put(base, {name: state[name] for name in own})
    adapted, expected = made.outputs(model), made.outputs(base)
    _put(base, own)
    with disabled(model):
        assert torch.equal(made.outputs(model), expected)
    assert torch.equal(made.outputs(model), adapted)
    if made.strategy != "head":
        assert not torch.equal(adapted, expected)


def _put(model: nn.Module, values: dict[str, torch.Tensor]) -> None:
    with torch.no_grad():
        for name, value in values.items():
            model.get_parameter(name).copy_(value)


def test_8_full_fine_tuning_cannot_be_disabled_and_says_so(cells: Callable[[Cell], Made]) -> None:
    made = cells(Cell("full", "bert", "single_label"))
    with pytest.raises(Unsupported, match="cannot be switched off"), disabled(made.fitted.fitted.model):
        pass


@named([cell for cell in CELLS if cell.strategy in MERGEABLE and cell.pooling == "native"])
def test_9_a_merged_model_is_a_plain_one_with_the_same_outputs(made: Made, tmp_path: Path) -> None:
    made.fitted.merge(tmp_path / "plain")
    ours = made.fitted.fitted.model
    before = params.trainable_state(ours)
    plain, loading = made.auto.from_pretrained(
        tmp_path / "plain", attn_implementation=made.attention, output_loading_info=True
    )
    assert not loading["missing_keys"]
    assert not loading["unexpected_keys"]
    assert type(plain) is type(ours)
    assert {p.dtype for p in plain.parameters()} == {torch.float32}
    assert transformers.AutoTokenizer.from_pretrained(tmp_path / "plain").pad_token is not None
    assert not [n for n, _ in plain.named_parameters() if "lora" in n or "memo" in n]
    assert all(torch.equal(before[name], value) for name, value in params.trainable_state(ours).items())
    found = made.outputs(plain)
    if made.strategy == "qlora":
        # 8-bit weights are merged into the unquantised ones, from which they differ by their rounding
        torch.testing.assert_close(found, made.outputs(ours), rtol=0.25, atol=0.25)
        fields = {name: value for name, value in vars(made.run.strategy).items() if name != "bits"}
        ours = made.build(dataclasses.replace(made.run, strategy=make("lora", fields))).eval()
        params.load(ours, made.saved)
    torch.testing.assert_close(found, made.outputs(ours), rtol=1e-4, atol=2e-5)


@named([cell for cell in CELLS if cell.strategy not in MERGEABLE and cell.task == "single_label"])
def test_9_what_cannot_be_merged_says_so(made: Made, tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="cannot be merged"):
        made.fitted.merge(tmp_path / "plain")


@named(ON_PEFT)
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft asks for it
def test_10_the_exported_adapter_loads_in_plain_peft(made: Made) -> None:
    from peft import PeftModel

    options: dict[str, Any] = {"config": made.config, "attn_implementation": made.attention, "dtype": torch.float32}
    if made.cell.quantised:  # the same base: quantised but for the head
        code = re.search(r"loaded with\n\n```python\n(.*?)```", (made.saved / "README.md").read_text(), re.DOTALL)
        assert code is not None
        said: dict[str, Any] = {}
        exec(code[1], said)  # our own card, as its reader would
        options |= {"quantization_config": said["quantization_config"], "device_map": "cpu"}
    if made.task == "answers" and made.architecture in ("llama", "qwen3"):
        options["key_mapping"] = {r"^model\.": "transformer."}  # without it transformers leaves the body random
    native = made.pooling == "native"
    base = (made.auto if native else transformers.AutoModel).from_pretrained(made.folder, **options)
    theirs = PeftModel.from_pretrained(base, str(made.saved / "peft")).eval()
    ours = made.fitted.fitted.model
    told = json.loads((made.saved / "peft" / "adapter_config.json").read_text())
    if made.cell.kind in LANGUAGE:
        assert told["modules_to_save"] is None
    elif native:
        heads = {name for name in ours.head_names if any(name.startswith(f"{m}.") for m in told["modules_to_save"])}
        assert heads == ours.head_names
    adapted = [sum(hasattr(module, "lora_A") for module in model.modules()) for model in (theirs, ours)]
    assert adapted[0] == adapted[1] > 0
    if made.task == "answers":
        theirs = theirs.get_base_model()  # PEFT's own forward for question answering drops the segment ids
    if not native:
        theirs = _pooled(theirs, ours)
    atol = 1e-5 if made.strategy == "lora" else 4e-3  # 8-bit products round their inputs
    torch.testing.assert_close(made.outputs(theirs), made.outputs(ours), rtol=1e-5, atol=atol)


def _pooled(encoder: nn.Module, ours: Any) -> nn.Module:
    """A plain encoder with our mean pooling and trained head on top."""

    class Pooled(nn.Module):
        def forward(self, **batch: torch.Tensor) -> Any:
            mask = batch["attention_mask"][..., None]
            mean = (encoder(**batch).last_hidden_state * mask).sum(1) / mask.sum(1)
            return transformers.modeling_outputs.SequenceClassifierOutput(logits=ours.classifier(mean))

    return Pooled()


@named([cell for cell in CELLS if cell.task not in ("pairs", "multi_label", "regression", "tags", "messages")])
def test_11_the_trainable_count_is_the_closed_form(made: Made) -> None:
    added = closed_forms.added(made.strategy, made.architecture, decoder=made.task != "spans")
    whole, head = made.whole, made.head
    trainable = {"full": whole, "head": head}.get(made.strategy, added + head)
    total = whole + added + (made.copied if made.strategy == "head" and made.cell.kind in LANGUAGE else 0)
    result = made.fitted.result
    assert result is not None
    assert (result.trainable, result.total) == (trainable, total)
    assert params.count(made.fitted.fitted.model) == (trainable, total)


@named(CELLS)
def test_12_bf16_changes_no_result_beyond_rounding(made: Made) -> None:
    """The parameters trained in float32, run in bf16; and one training step's loss in either."""
    low = made.run_of(precision="bf16")
    model = made.build(low)
    params.load(model, made.saved)
    fitted = made.fitted.fitted
    examples = fitted.kind.encode(made.data.splits["test"], split="test")
    expected = flat(predict(fitted.model, fitted.kind, examples, made.run.budget, final=False))
    found = flat(predict(model, fitted.kind, examples, low.budget, final=False))
    unit = fitted.kind.state().get("std", 1.0)  # of a logit: 1, or the standard deviation of the target
    size = max(1.0, float(expected.abs().max()) / 10) if made.cell.kind in LANGUAGE else 1.0
    assert not torch.equal(found, expected)  # it did run in bf16
    if made.task == "masked":  # after likelihood and number how many are right, which rounding may decide
        found, expected = (values.view(-1, 3)[:, :2] for values in (found, expected))
    assert (found - expected).abs().max().item() < (0.2 if made.cell.quantised else 0.1) * unit * size
    assert all(p.dtype == torch.float32 for p in model.parameters() if p.requires_grad)
    (loss, slope), (low_loss, low_slope) = (_step(made, run) for run in (made.run, low))
    assert low_loss == pytest.approx(loss, rel=0.05)
    assert torch.nn.functional.cosine_similarity(slope, low_slope, dim=0).item() > 0.98
    frozen = [p for p in model.parameters() if not p.requires_grad and p.is_floating_point()]
    assert {p.dtype for p in frozen} <= {torch.bfloat16}


def _step(made: Made, run: Run) -> tuple[float, torch.Tensor]:
    """Loss and gradients of a batch of training rows, in the precision of a run, near where training starts: where it
    ends gradients may be as small as what is rounded."""
    model = tiny.without_dropout(tiny.moved(made.build(run), 0.03))
    with accelerator_for(run.budget).autocast():
        loss = made.kind.loss(model.train(), made.train_batch)
    loss.backward()
    slopes = [p.grad.flatten().float() for p in model.parameters() if p.grad is not None]
    return loss.item(), torch.cat(slopes)


@named([Cell(s, a, t) for a, t in (("bert", "single_label"), ("llama", "completion")) for s in matrix.STRATEGIES])
def test_12_a_model_trained_in_bf16_keeps_the_contracts_of_bits(made: Made, tmp_path: Path) -> None:
    """Frozen weights stay, a seed decides, what is saved predicts alike; and a row in a padded batch to rounding."""
    low = made.run_of(precision="bf16")
    frozen = {n: p for n, p in made.build(low).named_parameters() if not p.requires_grad}
    if made.strategy == "head":
        release(start := made.build(low))
        frozen = {n: p for n, p in start.named_parameters() if not p.requires_grad}
    first, again = made.fit(precision="bf16"), made.fit(precision="bf16")
    after = dict(first.fitted.model.named_parameters())
    assert bool(frozen) == (made.strategy != "full")
    assert all(torch.equal(p, after[n]) for n, p in frozen.items())
    state, same = (params.trainable_state(model.fitted.model) for model in (first, again))
    assert all(torch.equal(state[name], same[name]) for name in state)
    assert {value.dtype for value in state.values()} == {torch.float32}
    loaded = load_model(first.save(tmp_path / "model"), device="cpu")
    found, expected = (predictions_of(model, rows_of(made)) for model in (loaded, first))  # type: ignore[name-defined]  # noqa: F821
    assert found[0] == expected[0]
    assert torch.equal(flat(found[1]), flat(expected[1]))
    kind, model = first.fitted.kind, first.fitted.model
    examples = kind.encode(made.data.splits["test"], split="test")
    together = flat(predict(model, kind, examples, low.budget, final=False))
    alone = flat([predict(model, kind, [example], low.budget, final=False) for example in examples])
    torch.testing.assert_close(alone, together, rtol=0.02, atol=0.1 if made.cell.quantised else 0.03)


@named([Cell(s, a, "single_label") for a in matrix.NOT_CHECKPOINTED for s in ("full", "lora", "bottleneck", "prefix")])
def test_12_gradient_checkpointing_that_transformers_lacks_is_unsupported(made: Made) -> None:
    with pytest.raises(Unsupported, match="gradient checkpointing"):
        made.fit(checkpointing=True)


@named([cell for cell in CELLS if cell.architecture not in matrix.NOT_CHECKPOINTED])
def test_12_gradient_checkpointing_changes_no_loss_and_no_gradient_and_less_is_kept(
    made: Made, capfd: pytest.CaptureFixture[str]
) -> None:
    model, found = tiny.without_dropout(tiny.moved(made.build(made.run_of(dropout=0.0)))), []
    capfd.readouterr()  # what came before
    for checkpointing in (False, True):
        if checkpointing:
            checkpoint_layers(model)
        model.zero_grad()
        for memo in memos_of(model):
            memo.forget()
        kept = Kept()
        with torch.autograd.graph.saved_tensors_hooks(kept.keep, lambda tensor: tensor):
            loss = made.kind.loss(model.train(), made.train_batch)
        loss.backward()
        gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        found.append((loss.item(), gradients, kept.beside(model)))
    (plain, gradients, kept_at_first), (checkpointed, others, fewer) = found
    assert checkpointed == pytest.approx(plain, rel=1e-5)
    assert gradients.keys() == others.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(others[name], gradient, rtol=1e-3, atol=1e-5)
    if made.strategy != "head":
        assert fewer < kept_at_first
    assert capfd.readouterr().err == ""  # nor is a cache complained of


class Kept:
    """The storages that autograd keeps for a backward pass."""

    def __init__(self) -> None:
        self._bytes: dict[int, int] = {}

    def keep(self, tensor: torch.Tensor) -> torch.Tensor:
        self._bytes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    def beside(self, model: nn.Module) -> int:
        """Bytes, those of the model's own parameters left out."""
        own = {p.untyped_storage().data_ptr() for p in model.parameters()}
        return sum(n for pointer, n in self._bytes.items() if pointer not in own)


def test_the_matrix_names_every_strategy_kind_and_family() -> None:
    from adapt.backbones.families import FAMILIES
    from adapt.strategies import STRATEGIES

    assert {cell.strategy for cell in CELLS} - tiny.VARIANTS.keys() == STRATEGIES.keys()
    assert {strategy.name for strategy in tiny.VARIANTS.values()} <= STRATEGIES.keys()
    assert {cell.kind for cell in CELLS} == KINDS.keys()
    assert {cell.architecture for cell in CELLS} <= FAMILIES.keys()
    assert set(matrix.TASKS_OF) == set(tiny.ARCHITECTURES)


def test_a_fitted_model_is_what_the_run_describes(cells: Callable[[Cell], Made]) -> None:
    made = cells(Cell("lora", "bert", "single_label"))
    assert isinstance(made.fitted.fitted, Fitted)
    loaded = load_model(made.saved, device="cpu")
    assert loaded.run == made.run
    assert loaded.run.key() == made.run.key()
    assert dataclasses.asdict(loaded.run.strategy) == dataclasses.asdict(made.run.strategy)
