"""A loss from the logits of a few tokens at a time is the loss, and so is its gradient."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny
import torch
import transformers
from tiny_tasks import TASKS
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from adapt.adapted import assemble, fit_model
from adapt.backbones import Loader, chunked, resolve
from adapt.backbones.checkpointing import checkpoint_layers
from adapt.backbones.chunked import chunk_logits
from adapt.backbones.classes import output_layer
from adapt.inputs import Inputs
from adapt.memory import plan
from adapt.run import run
from adapt.spec import OptionError, Unsupported
from adapt.tasks import KINDS
from adapt.training import predict

ARCHITECTURES = {"gpt2": "completion", "llama": "completion", "qwen3": "completion", "t5": "text", "bart": "text"}
CELLS = [(s, a) for a in ARCHITECTURES for s in ("full", "lora", "head", "qlora", "prefix")]


class Made:
    """A model, its kind, and rows with prompts (or targets) of different lengths."""

    def __init__(self, folder: Path, strategy: str, architecture: str, **budget: Any) -> None:
        options = {"precision": "fp32", "device": "cpu", "dropout": 0.0, "max_length": 32, **budget}
        data = TASKS[ARCHITECTURES[architecture]]()
        spec, _, backbone = assemble(folder, data, tiny.STRATEGIES[strategy], **options)
        loader = Loader(backbone, spec.task, spec.budget, 0)
        torch.manual_seed(0)
        self.budget = spec.budget
        self.kind: Any = KINDS[spec.task.kind](spec.task, loader.tokenizer())
        self.model: Any = tiny.without_dropout(tiny.moved(spec.strategy.build(loader, spec.task), 0.02))
        if hasattr(self.model, "final_logits_bias"):  # BART's, zero in checkpoints
            self.model.final_logits_bias.normal_(generator=torch.Generator().manual_seed(1))
        self.examples = self.kind.encode(data.splits["train"], split="train")[:6]
        self.batch = self.kind.collate(self.examples)

    def backward(self, tokens: int | None) -> tuple[float, dict[str, torch.Tensor]]:
        """Loss and gradients."""
        self.model.zero_grad()
        self.chunk(tokens)
        loss = self.kind.loss(self.model.train(), self.batch)
        loss.backward()
        assert (loss.dtype, loss.shape) == (torch.float32, ())
        return loss.item(), {n: p.grad.clone() for n, p in self.model.named_parameters() if p.grad is not None}

    def chunk(self, tokens: int | None) -> None:
        """Have so many tokens' logits made at a time; None: all at once."""
        self.model.loss_chunk, self.model.changes_logits = tokens, True if tokens is None else None

    def agrees(self, tokens: int, rtol: float = 1e-4) -> None:
        (loss, gradients), (other, others) = self.backward(None), self.backward(tokens)
        assert other == pytest.approx(loss, rel=1e-5)
        assert gradients
        assert others.keys() == gradients.keys()
        for name, gradient in gradients.items():
            torch.testing.assert_close(others[name], gradient, rtol=rtol, atol=1e-6)


@pytest.mark.parametrize(("strategy", "architecture"), CELLS)
def test_loss_and_gradients_are_those_of_all_logits(
    backbone: Callable[..., Path], strategy: str, architecture: str
) -> None:
    made = Made(backbone(architecture), strategy, architecture)
    for tokens in (1, 5, 10_000):
        made.agrees(tokens)


@pytest.mark.parametrize("strategy", ["lora", "full"])
@pytest.mark.parametrize("architecture", ["llama", "t5", "bart"])
def test_it_goes_with_gradient_checkpointing_and_bf16(
    backbone: Callable[..., Path], architecture: str, strategy: str
) -> None:
    made = Made(backbone(architecture), strategy, architecture)
    checkpoint_layers(made.model)
    made.agrees(5)
    exact = together(made.backward(None)[1])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded, chunked = (together(made.backward(tokens)[1]) for tokens in (None, 5))
    assert not torch.equal(rounded, exact)
    assert torch.dist(chunked, exact) < 1.5 * torch.dist(rounded, exact)


def together(gradients: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([gradient.flatten() for gradient in gradients.values()])


def test_its_gradient_can_be_scaled_and_added_to(backbone: Callable[..., Path]) -> None:
    """As where a batch is a part of a step."""
    made = Made(backbone("gpt2"), "full", "gpt2")
    once = together(made.backward(5)[1])
    loss = 3.0 * made.kind.loss(made.model, made.batch)
    loss.backward()
    twice = together({n: p.grad for n, p in made.model.named_parameters() if p.grad is not None})
    torch.testing.assert_close(twice, 4 * once, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("strategy", ["lora", "full", "head"])
def test_it_needs_no_gradients(backbone: Callable[..., Path], strategy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Made(backbone("llama"), strategy, "llama")
    expected, _ = made.backward(5)
    monkeypatch.setattr(torch.autograd, "grad", None)
    with torch.no_grad():
        loss = made.kind.loss(made.model, made.batch)
    assert not loss.requires_grad
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_its_gradient_is_handed_out_once(backbone: Callable[..., Path]) -> None:
    made = Made(backbone("llama"), "lora", "llama")
    loss = made.kind.loss(made.model, made.batch)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="was made with it, and is handed out once"):
        loss.backward()


def test_on_a_cpu_it_is_done_unasked(backbone: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    made = Made(backbone("llama"), "full", "llama")
    assert not hasattr(made.model, "loss_chunk")
    monkeypatch.setattr("adapt.backbones.chunked._LEAST", 7)
    monkeypatch.setattr("adapt.backbones.chunked._CHUNK", 0)
    with Logits() as held:
        made.kind.loss(made.model.train(), made.batch).backward()
    assert held.rows == 7
    with Logits() as scored:
        made.kind.outputs(made.model.eval(), made.batch, final=False)
    assert scored.rows == 7


def test_an_output_layer_with_a_low_rank_update_or_in_8_bits(backbone: Callable[..., Path]) -> None:
    from bitsandbytes.nn import Linear8bitLt
    from peft import LoraConfig, inject_adapter_in_model

    made = Made(backbone("llama"), "lora", "llama")
    inject_adapter_in_model(LoraConfig(r=2, target_modules=["lm_head"], init_lora_weights=False), made.model, "other")
    made.agrees(5)
    assert any("lm_head" in name for name in made.backward(5)[1])
    made = Made(backbone("llama"), "lora", "llama")
    weight = made.model.lm_head.weight.data
    made.model.lm_head = Linear8bitLt(weight.shape[1], weight.shape[0], bias=False, has_fp16_weights=False)
    made.model.lm_head.load_state_dict({"weight": weight})
    made.model.lm_head.to("cpu").requires_grad_(False)
    made.agrees(5)


def test_a_batch_that_holds_nothing_to_be_learnt_has_no_loss(backbone: Callable[..., Path]) -> None:
    made = Made(backbone("llama"), "full", "llama")
    made.batch["labels"].fill_(-100)
    loss, gradients = made.backward(5)
    assert loss == 0.0
    assert not any(gradient.any() for gradient in gradients.values())


class Logits(TorchDispatchMode):
    """The most rows over the vocabulary in any tensor made, the output layer's own weight aside."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        for tensor in (leaf for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor) and leaf.dim() > 1):
            if tensor.shape[-1] == len(tiny.VOCABULARY) and tensor.shape[0] != tiny.HIDDEN:
                self.rows = max(self.rows, tensor.numel() // tensor.shape[-1])
        return out


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "t5", "bart"])
def test_no_more_logits_are_ever_held(backbone: Callable[..., Path], architecture: str) -> None:
    made = Made(backbone(architecture), "full", architecture)
    with Logits() as whole:
        made.backward(None)
    with Logits() as parts:
        made.backward(3)
    assert whole.rows >= made.batch["labels"].numel() - len(made.batch["labels"])
    assert parts.rows == 3
    with Logits() as scored, torch.no_grad():
        made.kind.outputs(made.model.eval(), made.batch, final=False)
    assert scored.rows == 3


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "t5", "bart"])
def test_no_logits_are_kept_for_the_backward_pass(backbone: Callable[..., Path], architecture: str) -> None:
    made, kept = Made(backbone(architecture), "lora", architecture), []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.shape)
        return tensor

    def logits_kept(tokens: int | None) -> bool:
        kept.clear()
        made.chunk(tokens)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            made.kind.loss(made.model.train(), made.batch)
        return any(s[-1:] == (len(tiny.VOCABULARY),) and s[0] != tiny.HIDDEN for s in kept)

    assert logits_kept(None)
    assert not logits_kept(3)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_scores_are_the_same(backbone: Callable[..., Path], architecture: str) -> None:
    made, found = Made(backbone(architecture), "full", architecture), []
    for tokens in (None, 4):
        made.chunk(tokens)
        found.append(predict(made.model, made.kind, made.examples, made.budget, final=False))
    for one, other in zip(*found, strict=True):
        assert other["nll"] == pytest.approx(one["nll"], rel=1e-5)
        assert other["tokens"] == one["tokens"]


@pytest.mark.parametrize(("architecture", "task"), [("gpt2", "completion"), ("t5", "text")])
def test_training_with_it_is_training_without(backbone: Callable[..., Path], architecture: str, task: str) -> None:
    options: dict[str, Any] = {"epochs": 2, "batch_size": 8, "device": "cpu", "precision": "fp32", "max_length": 32}
    found = []
    for tokens in (None, 4):
        model = fit_model(backbone(architecture), TASKS[task](), tiny.STRATEGIES["lora"], loss_chunk=tokens, **options)
        assert model.result is not None
        assert getattr(model.fitted.model, "loss_chunk", None) == tokens
        found.append(model.result)
    losses, others = ([point["loss"] for point in result.curve] for result in found)
    assert others == pytest.approx(losses, rel=1e-3)
    assert found[0].run.key() != found[1].run.key()


# What it does not go with


def test_a_task_without_a_vocabulary_is_named(backbone: Callable[..., Path], task_data: Callable[[str], Any]) -> None:
    with pytest.raises(
        OptionError, match=r"loss_chunk is for seq2seq, causal_lm, masked_lm, .* for sequence_classification"
    ):
        fit_model(backbone("bert"), task_data("single_label"), loss_chunk=8, device="cpu")
    with pytest.raises(Unsupported, match="Linear has no output layer over a vocabulary; leave loss_chunk out"):
        chunk_logits(nn.Linear(2, 2), 8)


def test_a_model_that_does_more_with_its_logits_is_unsupported(
    backbone: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Gemma 2 caps and Granite scales them: then chunks would give another loss."""
    forward = transformers.LlamaForCausalLM.forward

    def capped(self: Any, *args: Any, **kwargs: Any) -> Any:
        return SimpleNamespace(logits=30 * torch.tanh(forward(self, *args, **kwargs).logits / 30))

    monkeypatch.setattr(transformers.LlamaForCausalLM, "forward", capped)
    spec, data, source = assemble(
        backbone("llama"), TASKS["completion"](), "lora", loss_chunk=8, device="cpu", precision="fp32", max_length=32
    )
    result = run(spec, Inputs(data, source))
    assert result.status == "unsupported"
    assert result.reason == "LlamaForCausalLM changes its logits after the output layer; leave loss_chunk out"


def test_unasked_such_a_model_has_the_loss_of_all_its_logits(
    backbone: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Made(backbone("llama"), "full", "llama")
    forward = transformers.LlamaForCausalLM.forward

    def scaled(self: Any, *args: Any, **kwargs: Any) -> Any:
        return SimpleNamespace(logits=forward(self, *args, **kwargs).logits / 4)

    before = made.backward(None)[0]
    monkeypatch.setattr(transformers.LlamaForCausalLM, "forward", scaled)
    expected = made.backward(None)[0]
    assert abs(expected - before) > 1e-3
    made.model.changes_logits = None
    for _ in range(2):  # found out in the first pass, known in the second
        assert made.kind.loss(made.model, made.batch).item() == pytest.approx(expected, rel=1e-5)
        assert made.model.changes_logits


@pytest.mark.parametrize("field", ["final_logit_softcapping", "logits_soft_cap", "logits_scaling", "logit_scale"])
def test_a_plan_knows_that_too(backbone: Callable[..., Path], tmp_path: Path, field: str) -> None:
    folder = Path(shutil.copytree(backbone("llama"), tmp_path / "copy"))
    config = json.loads((folder / "config.json").read_text())
    for value, supported in ((1.0, True), (0.5, False)):
        (folder / "config.json").write_text(json.dumps(config | {field: value}))
        options: dict[str, Any] = {"kind": "causal_lm", "batch": (2, 16), "device": "cpu", "loss_chunk": 8}
        if supported:
            assert plan(folder, "lora", **options).peak > 0
            continue
        with pytest.raises(Unsupported, match=rf"changes its logits after the output layer \({field}\)"):
            plan(folder, "lora", **options)


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_a_trained_output_layer_has_one_gradient_in_float32(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside it autocast's copy and the gradient of a chunk, in bf16: 8 bytes a weight, and little else."""
    monkeypatch.setattr(chunked, "_CHUNK", 2**14)
    found = plan("tiny-decoder", "head", kind="causal_lm", batch=(4, 64), precision="bf16", device=device, loss_chunk=4)
    config = transformers.AutoConfig.from_pretrained(resolve("tiny-decoder").path)
    assert found.at == "forward"
    assert 8 <= (found.logits + found.temporary) / (config.vocab_size * config.hidden_size) < 8.5


@pytest.mark.parametrize(("strategy", "architecture"), CELLS)
def test_gradients_of_autocasts_copies_have_the_bits_of_the_weights_own(
    backbone: Callable[..., Path], strategy: str, architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Made(backbone(architecture), strategy, architecture)
    monkeypatch.setattr(chunked, "_CHUNK", 64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = made.backward(3)
        monkeypatch.setattr(chunked, "_before_casts", lambda _, trained: list(trained))
        expected = made.backward(3)
    assert found[0] == expected[0]
    assert found[1].keys() == expected[1].keys()
    assert all(torch.equal(value, expected[1][name]) for name, value in found[1].items())


@pytest.mark.parametrize("shape", [(), (0, 3), (7,), (7, 3)])
def test_gradients_of_any_shape_are_added(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunked, "_CHUNK", 4)
    held, gradient = torch.randn(shape), torch.randn(shape).bfloat16()
    expected = held + gradient
    chunked._add(held, gradient)
    assert torch.equal(held, expected)


def test_no_hook_is_left_behind(backbone: Callable[..., Path]) -> None:
    made = Made(backbone("llama"), "lora", "llama")
    made.backward(4)
    layer = output_layer(made.model)
    assert layer is not None
    assert not layer._forward_pre_hooks
