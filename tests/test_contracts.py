"""The contracts of every strategy on every architecture: one matrix.

A cell is a strategy, an architecture, a pooling and a problem. Each is trained once on a tiny task; the tests look at
what came out. Cells that cannot be had are listed in `UNSUPPORTED`, with the words of their reason.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification

from adapt import params
from adapt.adapted import MODEL_FILE, Adapted, assemble, load_model
from adapt.backbones import Loader
from adapt.run import Fitted, fit, run
from adapt.spec import AdaptError, Run, Unsupported
from adapt.tasks import KINDS
from adapt.training.loop import predict

Cell = tuple[str, str, str, str]
"""Strategy, architecture, pooling, problem."""

CELLS: list[Cell] = [
    *((s, a, "native", "single_label") for a in tiny.ARCHITECTURES for s in tiny.STRATEGIES),
    *((s, a, "mean", "single_label") for a in ("bert", "electra", "modernbert") for s in tiny.STRATEGIES),
    *((s, "bert", "native", p) for p in ("pairs", "multi_label", "regression") for s in tiny.STRATEGIES),
]
UNSUPPORTED: dict[tuple[str, str], str] = {}
SUPPORTED = [cell for cell in CELLS if cell[:2] not in UNSUPPORTED]
FROZEN = [cell for cell in SUPPORTED if cell[0] != "full"]
ON_PEFT = [cell for cell in SUPPORTED if cell[0] in ("lora", "qlora")]


def named(cells: list[Cell]) -> Any:
    return pytest.mark.parametrize("cell", cells, ids=["-".join(cell) for cell in cells])


class Made:
    """What the tests need of one cell; each part is computed once, when it is first asked for."""

    def __init__(self, cell: Cell, folder: Path, data: Any, out: Path) -> None:
        self.cell, self.folder, self.data, self.out = cell, folder, data, out
        self.strategy, self.architecture, self.pooling, self.problem = cell

    def run_of(self, seed: int = 0, **choices: Any) -> Run:
        budget = {"epochs": 3, "batch_size": 16, "precision": "fp32", "device": "cpu", **choices}
        return assemble(
            self.folder, self.data, tiny.STRATEGIES[self.strategy], seed=seed, pooling=self.pooling, **budget
        )[0]

    @cached_property
    def run(self) -> Run:
        return self.run_of()

    def loader(self, run: Run | None = None) -> Loader:
        run = run or self.run
        backbone = assemble(self.folder, self.data, run.strategy, device="cpu")[2]
        return Loader(backbone, run.task, run.budget, run.seed)

    def build(self, run: Run | None = None) -> nn.Module:
        run = run or self.run
        torch.manual_seed(run.seed)
        return run.strategy.build(self.loader(run), run.task)

    def fit(self, **choices: Any) -> Adapted:
        run = self.run_of(**choices)
        loader = self.loader(run)
        result, fitted = fit(run, self.data, loader.backbone)
        return Adapted(fitted, run, loader.backbone, result)

    @cached_property
    def fitted(self) -> Adapted:
        return self.fit()

    @cached_property
    def saved(self) -> Path:
        return self.fitted.save(self.out)

    @cached_property
    def kind(self) -> Any:
        kind = KINDS[self.run.task.kind](self.run.task, self.loader().tokenizer())
        kind.fit(kind.encode(self.data.splits["train"]))
        return kind

    @cached_property
    def train_batch(self) -> dict[str, torch.Tensor]:
        return self.kind.collate(self.kind.encode(self.data.splits["train"]))

    def logits(self, model: nn.Module, **batch: torch.Tensor) -> torch.Tensor:
        inputs = {name: value for name, value in (batch or self.train_batch).items() if name != "labels"}
        with torch.no_grad():
            return model.eval()(**inputs).logits.float()

    @cached_property
    def fresh(self) -> set[str]:
        """Names of the parameters that the checkpoint lacks, found from the files alone."""
        with safe_open(self.folder / "model.safetensors", "pt") as file:
            held = set(file.keys())
        config = AutoConfig.from_pretrained(self.folder)
        config.num_labels = max(len(self.run.task.labels), 1)
        with torch.device("meta"):
            whole = AutoModelForSequenceClassification.from_config(config)
        prefix = whole.base_model_prefix + "."
        if self.pooling == "mean":
            return {"classifier.weight", "classifier.bias"}
        return {n for n, _ in whole.named_parameters() if n not in held and n.removeprefix(prefix) not in held}


@pytest.fixture(scope="session")
def cells(
    backbone: Callable[..., Path], task_data: Callable[[str], Any], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Cell], Made]:
    root, made = tmp_path_factory.mktemp("cells"), {}

    def make(cell: Cell) -> Made:
        if cell not in made:
            made[cell] = Made(cell, backbone(cell[1]), task_data(cell[3]), root / "-".join(cell))
        return made[cell]

    return make


@pytest.fixture
def made(cells: Callable[[Cell], Made], cell: Cell) -> Made:
    return cells(cell)


@named([cell for cell in CELLS if cell[:2] in UNSUPPORTED])
def test_an_unsupported_cell_says_why(made: Made) -> None:
    with pytest.raises(Unsupported, match=UNSUPPORTED[made.cell[:2]]):
        made.build()
    result = run(made.run, made.data, made.loader().backbone)
    assert result.status == "unsupported"
    assert UNSUPPORTED[made.cell[:2]] in str(result.reason)


@named(FROZEN)
def test_1_frozen_weights_keep_their_bits(made: Made) -> None:
    before = {n: p.detach().clone() for n, p in made.build().named_parameters() if not p.requires_grad}
    after = dict(made.fitted.fitted.model.named_parameters())
    assert before
    names = {_without_memo(name): name for name in before}
    for name in after.keys() - {n for n, p in after.items() if p.requires_grad}:
        assert torch.equal(before[names[name]], after[name]), name
        assert after[name].grad is None, name
    assert len(names) == sum(not p.requires_grad for p in after.values())


def _without_memo(name: str) -> str:
    return name.replace("features.features.", "features.").replace("memo.features.base.", "")


@named([cell for cell in FROZEN if cell[0] != "qlora"])
def test_1_the_checkpoint_is_what_is_frozen(made: Made) -> None:
    weights = load_file(made.folder / "model.safetensors").values()
    held = {(tuple(value.shape), value.double().sum().item()) for value in weights}
    for name, p in made.fitted.fitted.model.named_parameters():
        if not p.requires_grad:
            assert (tuple(p.shape), p.double().sum().item()) in held, name


@named(SUPPORTED)
def test_2_every_new_parameter_is_trained_and_saved(made: Made) -> None:
    assert made.fresh
    before = {n: p.detach().clone() for n, p in made.build().named_parameters() if n in made.fresh}
    after = {n: p for n, p in made.fitted.fitted.model.named_parameters() if p.requires_grad}
    with safe_open(made.saved / params.STATE_FILE, "pt") as file:
        saved = set(file.keys())
    assert before.keys() == made.fresh
    assert made.fresh <= saved
    assert saved == after.keys()
    for name in made.fresh:
        assert not torch.equal(before[name], after[name]), name
        assert after[name].dtype == torch.float32


@named(SUPPORTED)
def test_2_the_head_starts_from_the_same_bits_under_every_strategy(made: Made, cells: Callable[[Cell], Made]) -> None:
    reference = dict(cells(("full", *made.cell[1:])).build().named_parameters())
    model = made.build()
    for name, parameter in model.named_parameters():
        if name in made.fresh:
            assert torch.equal(parameter, reference[name]), name
            if parameter.dim() > 1:
                assert parameter.std() > 0
    assert model.head_size >= sum(reference[name].numel() for name in made.fresh)
    assert model.head_size == cells(("full", *made.cell[1:])).build().head_size


@named([cell for cell in SUPPORTED if cell[0] != "prefix"])
def test_3_a_strategy_starts_as_a_no_op(made: Made) -> None:
    quantised = {"quantization_config": made.run.strategy._quantization()} if made.strategy == "qlora" else {}
    base = made.loader()(frozen=made.strategy != "full", **quantised)
    assert torch.equal(made.logits(base), made.logits(made.build()))


@named(SUPPORTED)
def test_4_every_trainable_parameter_gets_a_gradient_within_two_steps_and_the_loss_falls(made: Made) -> None:
    model = tiny.without_dropout(made.build(made.run_of(dropout=0.0)))
    trainable = {n: p for n, p in model.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(trainable.values(), lr=made.run.strategy.learning_rate / 2)
    moved: set[str] = set()
    with torch.no_grad():
        before = made.kind.loss(model.eval(), made.train_batch)
    for step in range(8):
        optimizer.zero_grad()
        made.kind.loss(model.train(), made.train_batch).backward()
        if step < 2:
            moved |= {n for n, p in trainable.items() if p.grad is not None and bool(p.grad.abs().max() > 0)}
        optimizer.step()
    with torch.no_grad():
        after = made.kind.loss(model.eval(), made.train_batch)
    assert trainable.keys() - moved == set()
    assert all(p.grad is None for p in model.parameters() if not p.requires_grad)
    assert after < before


FRESH_PROCESS = """
import json, sys
import torch
torch.set_num_threads(1)
from adapt.adapted import load_model
from adapt.training import predict
for folder, texts in json.load(open(sys.argv[1])):
    model = load_model(folder, device="cpu")
    rows = [tuple(text) if isinstance(text, list) else text for text in texts]
    torch.save((predictions := model.predict(rows), logits_of(model, rows)), folder + "/fresh.pt")
"""

LOGITS_OF = '''
def logits_of(model, texts):
    """Raw outputs, on which bits are compared."""
    from adapt.data import read_inputs
    from adapt.training import predict

    examples = model.fitted.kind.encode(read_inputs(texts, model.run.task))
    return torch.stack(predict(model.fitted.model, model.fitted.kind, examples, model.run.budget))
'''
exec(LOGITS_OF)


def texts_of(made: Made) -> list[Any]:
    """Rows seen in training, and others."""
    rows = [*made.data.splits["train"].select(range(20)), *made.data.splits["test"]]
    return [(row["text"], row["text_pair"]) if made.data.pair else row["text"] for row in rows]


def test_5_a_saved_model_gives_the_same_bits_in_a_fresh_process(cells: Callable[[Cell], Made], tmp_path: Path) -> None:
    all_made = [cells(cell) for cell in SUPPORTED]
    jobs = [(str(made.saved), texts_of(made)) for made in all_made]
    (tmp_path / "jobs.json").write_text(json.dumps(jobs), encoding="utf-8")
    script = "import torch\n" + LOGITS_OF + FRESH_PROCESS
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "jobs.json")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # nothing that would disturb a user either
    different = []
    for made in all_made:
        predictions, logits = torch.load(made.saved / "fresh.pt", weights_only=False)
        same = torch.equal(logits, logits_of(made.fitted, texts_of(made)))  # type: ignore[name-defined]  # noqa: F821
        if not same or predictions != made.fitted.predict(texts_of(made)):
            different.append("-".join(made.cell))
    assert not different


@named(SUPPORTED)
def test_5_what_is_saved_holds_nothing_of_the_backbone(made: Made) -> None:
    size = (made.saved / params.STATE_FILE).stat().st_size
    assert made.fitted.result is not None
    assert made.fitted.result.saved_bytes is not None
    assert abs(made.fitted.result.saved_bytes - size) < 200  # the header may name less
    assert 4 * (made.fitted.result.trainable or 0) <= size <= 4 * (made.fitted.result.trainable or 0) + 20_000


@pytest.fixture
def folder(cells: Callable[[Cell], Made], tmp_path: Path) -> Path:
    """A model folder of its own, to be damaged."""
    return cells(("lora", "bert", "native", "single_label")).fitted.save(tmp_path / "model")


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
    with pytest.raises(AdaptError, match=r"bert-2-7 is not the one this model was trained on \('bert-2-0'"):
        load_model(folder, backbone=backbone("bert", seed=7), device="cpu")


@named(SUPPORTED)
def test_6_a_seed_decides_every_bit(made: Made) -> None:
    first, again = made.fitted, made.fit()
    state, same = params.trainable_state(first.fitted.model), params.trainable_state(again.fitted.model)
    assert state.keys() == same.keys()
    assert all(torch.equal(state[name], same[name]) for name in state)
    assert first.result is not None
    assert again.result is not None
    assert first.result.scores == again.result.scores
    assert first.result.test_outcomes == again.result.test_outcomes
    assert [p["loss"] for p in first.result.curve] == [p["loss"] for p in again.result.curve]


@named(SUPPORTED)
def test_6_another_seed_gives_other_bits(made: Made) -> None:
    state = params.trainable_state(made.build())
    other = params.trainable_state(made.build(made.run_of(seed=1)))
    for name in made.fresh:
        if state[name].dim() > 1:
            assert not torch.equal(state[name], other[name]), name


@named(SUPPORTED)
def test_7_a_row_is_the_same_alone_and_in_a_padded_batch(made: Made) -> None:
    model, kind = made.fitted.fitted.model, made.fitted.fitted.kind
    examples = kind.encode(made.data.splits["test"].remove_columns("label"))
    assert len({len(example["input_ids"]) for example in examples}) > 3
    together = made.logits(model, **kind.collate(examples))
    alone = torch.cat([made.logits(model, **kind.collate([example])) for example in examples])
    # 8-bit products round each activation to one of 255 steps, which a last bit before it can tip over
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=2e-2 if made.strategy == "qlora" else 2e-5)


@named(ON_PEFT)
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft asks for it
def test_10_the_exported_adapter_loads_in_plain_peft(made: Made) -> None:
    from peft import PeftModel

    ours = made.fitted
    config = AutoConfig.from_pretrained(made.folder)
    config.num_labels = max(len(made.run.task.labels), 1)
    options: dict[str, Any] = {"config": config, "attn_implementation": "eager", "dtype": torch.float32}
    if made.strategy == "qlora":  # the same base: quantised but for the head
        quantization = made.run.strategy._quantization()
        skip = {name.rpartition(".")[0] for name in made.fresh} | {"pooler.dense", "albert.pooler"}
        quantization.llm_int8_skip_modules = sorted(skip)
        options |= {"quantization_config": quantization, "device_map": "cpu"}
    native = made.pooling == "native"
    base = (AutoModelForSequenceClassification if native else AutoModel).from_pretrained(made.folder, **options)
    theirs = PeftModel.from_pretrained(base, str(made.saved / "peft")).eval()
    batch = {n: v for n, v in made.train_batch.items() if n != "labels"}
    with torch.no_grad():
        expected = ours.fitted.model.eval()(**batch).logits
        out = theirs(**batch)
        if native:
            logits = out.logits
        else:
            mask = batch["attention_mask"][..., None]
            mean = (out.last_hidden_state * mask).sum(1) / mask.sum(1)
            logits = ours.fitted.model.classifier(mean)
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-6 if made.strategy == "lora" else 1e-3)


H, INNER, E, C, L = tiny.HIDDEN, tiny.INNER, tiny.EMBEDDING, 2, tiny.LAYERS
V, P = len(tiny.VOCABULARY), 64


def dense(n: int, m: int) -> int:
    return n * m + m


LAYER = 4 * dense(H, H) + dense(H, INNER) + dense(INNER, H) + 2 * 2 * H  # attention, feed-forward, two norms
TOTAL = {  # backbone without pooler
    "bert": V * H + P * H + 2 * H + 2 * H + L * LAYER,
    "roberta": V * H + P * H + H + 2 * H + L * LAYER,
    "distilbert": V * H + P * H + 2 * H + L * LAYER,
    "electra": V * E + P * E + 2 * E + 2 * E + dense(E, H) + L * LAYER,
    "albert": V * E + P * E + 2 * E + 2 * E + dense(E, H) + LAYER + dense(H, H),  # layers shared; it has a pooler
    "deberta-v2": V * H + 2 * H + L * LAYER + 2 * tiny.BUCKETS * H + 2 * H,  # relative positions and their norm
    # no biases; norms of one vector: embeddings, two a layer but for the first's attention, and the last
    "modernbert": V * H + H + L * (H * 3 * H + H * H + H * 2 * INNER + INNER * H) + (2 * L - 1) * H + H,
}
HEAD = {  # native pooling: the head, and the pooler where the checkpoint lacks it
    "bert": dense(H, H) + dense(H, C),
    "roberta": dense(H, H) + dense(H, C),
    "distilbert": dense(H, H) + dense(H, C),
    "electra": dense(H, H) + dense(H, C),
    "albert": dense(H, C),
    "deberta-v2": dense(H, H) + dense(H, C),
    "modernbert": H * H + H + dense(H, C),
}
_BERT_LINEAR = L * (4 * (H + H) + 2 * (H + INNER))
LINEAR = {  # inputs plus outputs of each linear layer
    "bert": _BERT_LINEAR,
    "roberta": _BERT_LINEAR,
    "distilbert": _BERT_LINEAR,
    "electra": _BERT_LINEAR + E + H,
    "albert": _BERT_LINEAR // L + E + H,
    "deberta-v2": _BERT_LINEAR,
    "modernbert": L * ((H + 3 * H) + (H + H) + (H + 2 * INNER) + (INNER + H)),
}


@named([cell for cell in SUPPORTED if cell[3] == "single_label"])
def test_11_the_trainable_count_is_the_closed_form(made: Made) -> None:
    a = made.architecture
    head = HEAD[a] if made.pooling == "native" else dense(H, C)
    layers = 1 if a == "albert" else L  # ALBERT's layers share one set of weights
    small = round(H / tiny.REDUCTION)
    added = {
        "full": TOTAL[a],
        "head": 0,
        "lora": tiny.RANK * LINEAR[a],
        "bottleneck": layers * 2 * (dense(H, small) + dense(small, H)),
        "prefix": layers * 2 * tiny.VIRTUAL * H,
        "qlora": tiny.RANK * LINEAR[a],
    }[made.strategy]
    model, result = made.fitted.fitted.model, made.fitted.result
    assert result is not None
    assert result.trainable == added + head
    assert result.total == TOTAL[a] + head + (0 if made.strategy == "full" else added)
    assert params.count(model) == (result.trainable, result.total)
    assert result.head == head


@named(SUPPORTED)
def test_12_bf16_changes_no_result_beyond_rounding(made: Made) -> None:
    """The parameters trained in float32, run in bf16; and one training step's loss in either."""
    run = made.run_of(precision="bf16")
    model = made.build(run)
    params.load(model, made.saved)
    fitted = made.fitted.fitted
    examples = fitted.kind.encode(made.data.splits["test"])
    expected = torch.stack(predict(fitted.model, fitted.kind, examples, made.run.budget))
    found = torch.stack(predict(model, fitted.kind, examples, run.budget))
    unit = fitted.kind.state()["std"]  # of a logit: 1, or the standard deviation of the target
    assert found.dtype == torch.float32
    assert not torch.equal(found, expected)  # it did run in bf16
    assert (found - expected).abs().max().item() < 0.05 * unit
    assert all(p.dtype == torch.float32 for p in model.parameters() if p.requires_grad)
    frozen = [p for p in model.parameters() if not p.requires_grad and p.is_floating_point()]
    assert {p.dtype for p in frozen} <= {torch.bfloat16}


@named([cell for cell in SUPPORTED if cell[2:] == ("native", "single_label")])
def test_12_training_in_bf16_follows_training_in_fp32(made: Made) -> None:
    low = made.fit(precision="bf16", epochs=1)
    assert low.result is not None
    assert made.fitted.result is not None
    assert low.result.curve[0]["loss"] == pytest.approx(made.fit(epochs=1).result.curve[0]["loss"], rel=0.03)  # type: ignore[union-attr]


def test_the_matrix_names_every_strategy_and_family() -> None:
    from adapt.backbones.families import FAMILIES
    from adapt.strategies import STRATEGIES

    assert {cell[0] for cell in CELLS} == STRATEGIES.keys()
    assert FAMILIES.keys() - {cell[1] for cell in CELLS} == {"xlm-roberta", "camembert"}  # RoBERTa by other names


def test_a_fitted_model_is_what_the_run_describes(cells: Callable[[Cell], Made]) -> None:
    made = cells(("lora", "bert", "native", "single_label"))
    assert isinstance(made.fitted.fitted, Fitted)
    loaded = load_model(made.saved, device="cpu")
    assert loaded.run == made.run
    assert loaded.run.key() == made.run.key()
    assert dataclasses.asdict(loaded.run.strategy) == dataclasses.asdict(made.run.strategy)
