"""One cell of the matrix, made: built, fitted, saved, and looked at."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import closed_forms
import tiny
import torch
import transformers
from matrix import Cell
from safetensors import safe_open
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from adapt.adapted import Adapted, assemble
from adapt.backbones import Backbone, Loader, resolve
from adapt.backbones.load import SHORT
from adapt.inputs import Inputs
from adapt.run import fit
from adapt.spec import Run
from adapt.tasks import KINDS

HEADS = {
    "sequence_classification": "AutoModelForSequenceClassification",
    "token_classification": "AutoModelForTokenClassification",
    "question_answering": "AutoModelForQuestionAnswering",
    "seq2seq": "AutoModelForSeq2SeqLM",
    "causal_lm": "AutoModelForCausalLM",
    "masked_lm": "AutoModelForMaskedLM",
}
LANGUAGE = ("seq2seq", "causal_lm", "masked_lm")
"""Kinds whose output layer is pretrained: nothing is fresh."""
BRIEF = {"seq2seq": {"max_target_length": 8}, "causal_lm": {"max_new_tokens": 8}}
"""Kind to the option that ends a text; a random model does not."""


def flat(outputs: Any) -> torch.Tensor:
    """All numbers of a kind's outputs, one after the other."""

    def numbers(value: Any) -> Iterator[torch.Tensor]:
        if isinstance(value, torch.Tensor):
            yield value.detach().float().flatten()
        elif isinstance(value, (bool, int, float)):
            yield torch.tensor([float(value)])
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            yield from numbers([getattr(value, f.name) for f in dataclasses.fields(value)])
        elif isinstance(value, dict):
            yield from numbers(list(value.values()))
        elif isinstance(value, (list, tuple)):
            for part in value:
                yield from numbers(part)

    return torch.cat([torch.empty(0), *numbers(outputs)])  # texts alone have none


class Made:
    """What the tests need of one cell; each part is computed once, when it is first asked for."""

    def __init__(self, cell: Cell, folder: Path, data: Any, out: Path) -> None:
        self.cell, self.folder, self.data, self.out = cell, folder, data, out
        self.strategy, self.architecture, self.task, self.pooling, self.attention = cell

    def run_of(self, seed: int = 0, **choices: Any) -> Run:
        budget = {"epochs": 2, "batch_size": 16, "precision": "fp32", "device": "cpu", "max_length": 48}
        budget |= {**BRIEF.get(self.cell.kind, {}), **choices}
        strategy = {**tiny.STRATEGIES, **tiny.VARIANTS}[self.strategy]
        run = assemble(self.folder, self.data, strategy, seed=seed, pooling=self.pooling, **budget)[0]
        if self.attention == "sdpa":  # of rows that are no longer for that
            run = dataclasses.replace(run, task=dataclasses.replace(run.task, max_length=SHORT + 1))
        return run

    @cached_property
    def run(self) -> Run:
        return self.run_of()

    @cached_property
    def backbone(self) -> Backbone:
        return resolve(self.folder)

    def loader(self, run: Run | None = None) -> Loader:
        run = run or self.run
        return Loader(self.backbone, run.task, run.budget, run.seed)

    def build(self, run: Run | None = None) -> nn.Module:
        run = run or self.run
        torch.manual_seed(run.seed)
        return run.strategy.build(self.loader(run), run.task)

    @cached_property
    def start(self) -> nn.Module:
        """The model before training, to be looked at and not changed."""
        return self.build()

    @cached_property
    def base(self) -> nn.Module:
        """The model as it is without the strategy, to be looked at and not changed."""
        quantised = {"quantization_config": self.run.strategy._quantization()} if self.cell.quantised else {}
        return self.loader()(frozen=self.strategy != "full", output_layer=self.strategy == "head", **quantised)

    def fit(self, **choices: Any) -> Adapted:
        run = self.run_of(**choices)
        result, fitted = fit(run, Inputs(self.data, self.backbone))
        return Adapted(fitted, run, self.backbone, result)

    @cached_property
    def fitted(self) -> Adapted:
        return self._watched[0]

    @property
    def moved(self) -> set[int]:
        """Of the fitted model's parameters those that had a gradient within the first two steps, by `id`."""
        return self._watched[1]

    @cached_property
    def _watched(self) -> tuple[Adapted, set[int]]:
        steps, moved = 0, set[int]()

        def look(optimizer: torch.optim.Optimizer, *_: Any) -> None:
            nonlocal steps
            steps += 1
            if steps <= 2:
                every = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
                moved.update(id(p) for p in every if bool(p.grad.abs().max() > 0))

        handle = register_optimizer_step_pre_hook(look)
        try:
            return self.fit(), moved
        finally:
            handle.remove()

    @cached_property
    def saved(self) -> Path:
        return self.fitted.save(self.out)

    @cached_property
    def kind(self) -> Any:
        kind = KINDS[self.run.task.kind](self.run.task, self.loader().tokenizer())
        kind.fit(kind.encode(self.data.splits["train"], split="train"))
        return kind

    @cached_property
    def train_batch(self) -> dict[str, torch.Tensor]:
        return self.kind.collate(self.kind.encode(self.data.splits["train"], split="train"))

    def outputs(self, model: nn.Module, batch: dict[str, torch.Tensor] | None = None) -> torch.Tensor:
        """The kind's outputs for a labelled batch, without generation."""
        with torch.no_grad():
            return flat(self.kind.outputs(model.eval(), self.train_batch if batch is None else batch, final=False))

    @cached_property
    def auto(self) -> Any:
        return getattr(transformers, HEADS[self.cell.kind])

    @cached_property
    def config(self) -> Any:
        config = transformers.AutoConfig.from_pretrained(self.folder)
        if self.cell.kind in ("sequence_classification", "token_classification"):
            config.num_labels = max(len(self.run.task.labels), 1)
        if config.pad_token_id is None:
            config.pad_token_id = self.loader().tokenizer().pad_token_id
        return config

    @cached_property
    def plain(self) -> Any:
        """What transformers makes of the configuration, without weights."""
        with torch.device("meta"):
            if self.pooling == "mean":
                return transformers.AutoModel.from_config(self.config, **self.without_pooler)
            return self.auto.from_config(self.config)

    @property
    def without_pooler(self) -> dict[str, bool]:
        return {"add_pooling_layer": False} if self.architecture == "bert" else {}

    @property
    def tied(self) -> bool:
        """Whether the output layer is the input embeddings."""
        return bool(self.config.tie_word_embeddings)

    @cached_property
    def whole(self) -> int:
        """Parameters of the model without the strategy, shared ones once."""
        pooled = closed_forms.dense(tiny.HIDDEN, len(self.run.task.labels)) if self.pooling == "mean" else 0
        own = dict(self.plain.named_parameters())
        if self.cell.kind in LANGUAGE and self.tied:  # not yet tied on meta
            own = {n: p for n, p in own.items() if n not in (self.plain.all_tied_weights_keys or {})}
        return sum(p.numel() for p in own.values()) + pooled

    @cached_property
    def head(self) -> int:
        """Parameters that are trained whatever the strategy; of a language model, its output layer under head only."""
        if self.cell.kind in LANGUAGE:
            width = tiny.EMBEDDING if self.architecture in ("electra", "albert") else tiny.HIDDEN
            biased = self.cell.kind == "masked_lm"
            return len(tiny.VOCABULARY) * (width + biased) if self.strategy == "head" else 0
        if self.pooling == "mean":
            return closed_forms.dense(tiny.HIDDEN, len(self.run.task.labels))
        return sum(p.numel() for n, p in self.plain.named_parameters() if n in self.fresh)

    @property
    def copied(self) -> int:
        """Parameters of an output layer of its own, where it shared them: of its weight, and in some families bias."""
        alone = self.cell.kind == "masked_lm" and self.architecture in ("distilbert", "electra", "modernbert")
        return self.head - alone * len(tiny.VOCABULARY) if self.tied else 0

    @cached_property
    def fresh(self) -> set[str]:
        """Names of the parameters that the checkpoint lacks, found from the files alone."""
        if self.pooling == "mean":
            return {"classifier.weight", "classifier.bias"}
        with safe_open(self.folder / "model.safetensors", "pt") as file:
            held = set(file.keys())
        prefix = self.plain.base_model_prefix + "."
        # Llama's question answering calls "transformer" what checkpoints call "model"
        held |= {name.removeprefix(prefix) for name in held} | {name.removeprefix("model.") for name in held}
        names = {n for n, _ in self.plain.named_parameters()} - set(self.plain.all_tied_weights_keys or {})
        return {n for n in names if n not in held and n.removeprefix(prefix) not in held}
