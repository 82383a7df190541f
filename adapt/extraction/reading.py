"""What knowledge is read from: the pretrained part of a backbone or of an adapted model, and rows as it takes them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from adapt import options, params
from adapt.adapted import MODEL_FILE, Adapted, load_model
from adapt.adapted.loading import read_model
from adapt.backbones import Loader, resolve
from adapt.backbones.classes import configs_of, encoder_of
from adapt.backbones.exhausted import explained
from adapt.backbones.families import positions_of
from adapt.backbones.memoise import release
from adapt.data import read_texts
from adapt.data.learnt import Learnt
from adapt.extraction.encoding import encode
from adapt.fields import check_choice, check_count
from adapt.files import path_of
from adapt.spec import Budget, OptionError, Source, Task, Unsupported
from adapt.tasks import Example
from adapt.tasks.tokens import check_embedded, model_inputs, token_tensors
from adapt.training.batching import lengths_of
from adapt.training.halving import halving
from adapt.training.on_cpu import faster_on_cpu
from adapt.training.step import on

LONGEST = 512
"""Tokens that rows are cut to where nothing else is asked for and the backbone has positions for more."""
_TOKENS = 8192
"""Tokens of a batch, padding included."""
_KERNELS = ("eager", "sdpa")
_locks: WeakKeyDictionary[nn.Module, Lock] = WeakKeyDictionary()
"""Of the models that are read: the kernel is in their configurations, which all threads see."""


@dataclass(frozen=True)
class Reader:
    """The pretrained part of a model, the encoder's where there are two, and how rows are put to it."""

    model: nn.Module
    """In evaluation mode, with the strategy's adaptation in force. Of an adapted model it is that model's own."""
    tokenizer: Any
    name: str
    """Backbone, and strategy and task where it is adapted; for tables."""
    device: str
    precision: str
    """`fp32`, or `bf16`: matrix products under autocast."""
    max_length: int
    """Tokens that a row is cut to."""
    layers: int
    """Transformer layers: how many hidden states there are beside the embeddings."""
    attention: str | None = None
    """The attention kernel in a forward pass, `eager` or `sdpa`; None: as the model was loaded."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Role to column, as named in training: where rows have one of that name, it is taken."""
    notes: tuple[str, ...] = ()
    """What must be said of the model, such as a padding token that was set."""
    origin: Mapping[str, str] = field(default_factory=dict)
    """`backbone`, the hash of its content, and `run`, the key of the run that adapted it."""
    task: Task | None = None
    """What it was adapted to, if it was."""
    learnt: Learnt | None = None
    """The rows that it was then trained on, where it tells."""

    def encode(self, rows: Any, columns: Mapping[str, str] | None = None) -> list[Example]:
        """Rows to token ids, cut to `max_length`, in order; see `adapt.extraction.encoding.encode` for the fields.

        Texts stand as they are: the template or prefix of a task is for the caller to put round them.

        Args:
            rows: A list of texts, of pairs of texts (tuples) or of lists of words; or anything that
                `adapt.data.read_texts` reads.
            columns: What a column is for (`text`, `text_pair`, `tokens`) to its name, where that is unusual.

        Raises:
            DataError: A row cannot be used.
            OptionError: `max_length` leaves no room for text.
            Unsupported: Rows are lists of words, and the tokenizer does not say which token is of which.
        """
        examples = encode(self.tokenizer, read_texts(rows, columns, self.columns), self.max_length)
        check_embedded(self.model, self.tokenizer, examples)
        return examples

    def batches(self, examples: Sequence[Example]) -> Iterator[tuple[list[int], dict[str, torch.Tensor]]]:
        """Indices of examples and their tensors, each (batch, length), the longest rows first.

        Rows are padded on the right; a batch has rows of similar length, as many as make some 8,000 tokens.
        """
        lengths = lengths_of(examples)
        order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
        start = 0
        while start < len(order):
            indices = order[start : start + max(1, _TOKENS // lengths[order[start]])]
            start += len(indices)
            yield indices, token_tensors(self.tokenizer, [examples[i] for i in indices])

    def through(
        self, examples: Sequence[Example], work: Callable[[Sequence[int], dict[str, torch.Tensor]], None]
    ) -> None:
        """Do some work with each batch, in parts of half as many rows wherever memory runs out.

        Args:
            examples: As `encode` gives them.
            work: Takes indices of examples and their tensors, each (batch, length), and keeps of the model's output
                what it needs, on the CPU. Of a batch that did not fit it takes rows again.

        Raises:
            OutOfMemory: One row does not fit.
        """
        tokens = _TOKENS
        for indices, batch in self.batches(examples):
            length = batch["input_ids"].shape[1]

            def in_parts(rows: int, indices: Sequence[int] = indices, batch: dict[str, torch.Tensor] = batch) -> None:
                for start in range(0, len(indices), rows):
                    part = slice(start, start + rows)
                    work(indices[part], {name: tensor[part] for name, tensor in batch.items()})

            fitting = max(1, tokens // length)
            _, rows = halving(in_parts, fitting, self.device, advice=self._advice(), all_rows=len(indices))
            if rows < fitting:
                tokens = rows * length

    def _advice(self) -> str:
        """What makes the reading of one row smaller."""
        return f"{'read it in bf16 (precision) or ' if self.precision == 'fp32' else ''}cut texts shorter (max_length)"

    def forward(self, batch: Mapping[str, torch.Tensor], **flags: Any) -> Any:
        """transformers' output of the pretrained part, without gradients; one thread at a time reads a model.

        Args:
            batch: As `batches` gives it; what the model does not take is left aside.
            flags: `output_hidden_states`, `output_attentions`.

        Raises:
            RuntimeError: torch's own, where the batch does not fit in memory; `through` has fewer rows then.
        """
        device = torch.device(self.device)
        autocast = torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16")
        self.model.eval()
        with (
            _locks.setdefault(self.model, Lock()), _kernel(self.model, self.attention), torch.no_grad(), autocast,
            faster_on_cpu(),
        ):  # fmt: skip
            return self.model(**on(model_inputs(batch), device), **flags)

    def hidden_states(self, batch: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """States of the embeddings and of each layer, each (batch, length, hidden).

        The last are the model's `last_hidden_state`, after a final norm where the architecture has one, unless these
        have another size (OPT's).

        Raises:
            Unsupported: The model does not hand on a vector a token for each layer.
        """
        out = self.forward(batch, output_hidden_states=True)
        states, shape = out.hidden_states, batch["input_ids"].shape
        if states is None or len(states) != self.layers + 1 or any(s.shape[:2] != shape for s in states):
            raise Unsupported(f"the layers of {self.name} do not give a vector a token, row by row")
        last = out.last_hidden_state
        return (*states[:-1], last if last.shape == states[-1].shape else states[-1])


def reader(
    source: Any,
    *,
    device: str = "auto",
    precision: str | None = None,
    max_length: int | None = None,
    attention: str | None = None,
    backbone: str | Path | None = None,
) -> Reader:
    """What reads a model.

    Args:
        source: An `Adapted`, the folder that one was saved to, or a backbone as `adapt.fit` takes it; or a `Reader`,
            which is handed back, and takes no options.
        device: `auto`, `cpu` or `cuda`; `auto` leaves an `Adapted` where it is.
        precision: `fp32` or `bf16`; None: that of training, for a backbone fp32. In another than that of training the
            adaptation is put on the backbone anew.
        max_length: Tokens that a row is cut to; None: as in training, for a backbone as many as it has positions, at
            most 512.
        attention: `eager` (which alone gives weights) or `sdpa`; None: as the model is trained.
        backbone: Where the backbone of a folder's model is now, if not where it was.

    Raises:
        AdaptError: The source or an option cannot be used.
    """
    if isinstance(source, Reader):
        given = {"precision": precision, "max_length": max_length, "attention": attention, "backbone": backbone}
        given["device"] = None if device == "auto" else device
        some = [name for name, value in given.items() if value is not None]
        if some:
            raise OptionError(f"A Reader reads as it was made to; give {', '.join(some)} to adapt.extraction.reader.")
        return source
    if attention is not None:
        check_choice("attention", attention, _KERNELS)
    max_length = options.plain(max_length)
    if max_length is not None:
        check_count("max_length", max_length)
    if not isinstance(source, Adapted | str | Path):
        raise OptionError(
            f"{type(source).__name__} is nothing that can be read; give an adapted model, the folder of one, or a "
            "backbone."
        )
    if not isinstance(source, Adapted) and (path_of(source) / MODEL_FILE).is_file():
        source = load_model(source, device=device, backbone=backbone)
    elif backbone is not None:
        raise OptionError(
            "backbone says where that of a saved model is now, and this is no folder of one; leave it out."
        )
    if isinstance(source, Adapted):
        return _of_adapted(source, device, precision, max_length, attention)
    found = resolve(source)
    place = options.device_of(device)
    chosen = options.precision_of(precision or "fp32", place)
    positions = positions_of(found.config)
    length = min(max_length or LONGEST, positions)
    task = Task(found.source.name, Source(found.source.name, ""), max_length=length)
    loader = Loader(found, task, Budget(device=place, precision=chosen), 0)
    with explained("while the model was loaded", "use --device cpu, or a machine with more memory"):
        model = loader.pretrained()
    return Reader(
        model, loader.tokenizer(), found.source.name, place, chosen, length, _depth(model), attention,
        notes=tuple(loader.notes), origin={"backbone": found.source.sha256},
    )  # fmt: skip


def precision_of_all(sources: Sequence[Any]) -> str | None:
    """In what several models are read, so that none differs from another by rounding: where all that were adapted were
    trained in one precision, in that, else in fp32; None, of one alone: as `reader` says.

    Raises:
        AdaptError: The folder of a saved model is not whole.
    """
    if len(sources) == 1:
        return None
    own: set[str] = set()
    for source in sources:
        if isinstance(source, Reader):
            own.add(source.precision)
        elif isinstance(source, Adapted):
            own.add(source.run.budget.precision)
        elif isinstance(source, str | Path) and (path_of(source) / MODEL_FILE).is_file():
            own.add(read_model(path_of(source))[1].budget.precision)
    return own.pop() if len(own) == 1 else "fp32"


def _of_adapted(
    adapted: Adapted, device: str, precision: str | None, max_length: int | None, attention: str | None
) -> Reader:
    run, fitted = adapted.run, adapted.fitted
    place = run.budget.device if device == "auto" else options.device_of(device)
    chosen = options.precision_of(precision or run.budget.precision, place)
    budget = dataclasses.replace(run.budget, device=place, precision=chosen)
    model = fitted.model if budget == run.budget else _rebuilt(adapted, budget)
    part = encoder_of(model.base_model)
    length = min(max_length or run.task.max_length, positions_of(adapted.backbone.config))
    return Reader(
        part, fitted.tokenizer, f"{run.backbone.name}, {run.strategy.name} on {run.task.name}", budget.device,
        budget.precision, length, _depth(part), attention, adapted.columns, tuple(fitted.loader.notes),
        {"backbone": run.backbone.sha256, "run": adapted.key}, run.task,
        adapted.learnt,
    )  # fmt: skip


def _rebuilt(adapted: Adapted, budget: Budget) -> Any:
    """The same adaptation in another precision or on another device."""
    fitted, run = adapted.fitted, adapted.run
    adapted.backbone.check_unchanged()
    model = run.strategy.build(dataclasses.replace(fitted.loader, budget=budget), run.task)
    params.fill(model, params.trainable_state(fitted.model), "the trained state")
    release(model)
    return model.eval()


def _depth(model: Any) -> int:
    return int(getattr(model.config, "encoder_layers", None) or model.config.num_hidden_layers)


def kernel_of(model: nn.Module) -> str:
    """The attention kernel that a model was loaded with, `eager` or `sdpa`; empty where it has another or none."""
    names = {str(getattr(config, "_attn_implementation", "")) for config in configs_of(model)}
    return next((kernel for kernel in _KERNELS if any(name.endswith(kernel) for name in names)), "")


@contextmanager
def _kernel(model: Any, kernel: str | None) -> Iterator[None]:
    """Have the attention of a model computed by another kernel; a strategy's own function around it stays."""
    before = [(config, str(config._attn_implementation)) for config in (configs_of(model) if kernel else ())]
    try:
        for config, name in before:
            config._attn_implementation = re.sub(rf"({'|'.join(_KERNELS)})$", str(kernel), name)
        yield
    finally:
        for config, name in before:
            config._attn_implementation = name
