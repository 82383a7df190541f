"""The one pretraining loop, and what it asks of an objective."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, Protocol, get_args, get_type_hints

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from adapt.backbones.families import positions_of
from adapt.fields import check_choice, check_count
from adapt.files import path_of, writable_folder
from adapt.options import check_learning_rate, check_steps, seed_of
from adapt.pretrain.checkpoint import Progress, described, described_model, digest, digest_of_weights, restore, save
from adapt.pretrain.corpus import check_vocabulary
from adapt.spec import DataError, Diverged, OptionError
from adapt.tasks.tokens import rows_needed
from adapt.training.allocator import memory_kept
from adapt.training.halving import halving
from adapt.training.on_cpu import faster_on_cpu


class Objective(Protocol):
    """How rows of text become questions, and a model's answers to them."""

    def draw(self, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Questions about some rows, drawn anew at each call from `generator` alone.

        Args:
            rows: Token ids (rows, length) from `pack`.
            generator: The only source of chance.

        Returns:
            Tensors by name, on the CPU, each with one row for each of the rows; `answers` may get some of these alone.
        """

    def answers(self, model: Any, batch: dict[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
        """Logits (asked, classes) and right classes (asked,) for each sort of question, by its name.

        The loss is the sum of their mean cross-entropies: one sort for language models, two for `NextSentence`.
        """


@dataclass(frozen=True)
class Pretraining:
    """How a language model is pretrained; the defaults suit a model of some two million parameters."""

    steps: int = 10_000
    """Optimizer steps."""
    batch_size: int = 32
    """Rows a step."""
    learning_rate: float = 1e-3
    """Peak learning rate of AdamW (Loshchilov & Hutter 2019), betas 0.9 and 0.98."""
    warmup: float = 0.05
    """Share of the steps in which the learning rate rises linearly from zero; it then falls linearly to zero."""
    weight_decay: float = 0.01
    """Decoupled weight decay on matrices, not on biases and norms."""
    clip: float = 1.0
    """Largest global L2 norm of the gradient."""
    precision: Literal["bf16", "fp32"] = "bf16"
    """`bf16`: matrix products under autocast, weights and optimizer in float32; `fp32`: no autocast."""
    seed: int = 0
    """Seed of row order, of the objective and of dropout. The weights are initialised by whoever builds the model."""
    checkpoint_every: int = 1000
    """Steps between checkpoints, held-out scores and progress lines."""


def evaluate(model: Any, objective: Objective, rows: Tensor, batch_size: int = 64, seed: int = 0) -> dict[str, float]:
    """Held-out `loss` (nats a question, such as a token hidden) and `accuracy`; the same seed asks the same each time.

    Rows come in an order drawn with the seed, as in training, so that those of a batch are of many documents. Where
    memory runs out, the questions about a batch are answered for fewer rows at a time.

    Where the objective asks questions of several sorts, the loss is the sum of theirs, the accuracy the first's, and
    each sort has its own too (`masked_loss`, `masked_accuracy`, `next_sentence_loss`, ...). Of an
    objective that has `parts`, of which it draws one a batch, each is scored on all rows, and their means are given.

    Raises:
        OutOfMemory: The questions about one row cannot be answered.
    """
    parts: Sequence[Objective] = getattr(objective, "parts", ())
    if parts:
        each = [evaluate(model, part, rows, batch_size, seed) for part in parts]
        return {name: fmean(found[name] for found in each) for name in ("loss", "accuracy")}
    was_training, device = model.training, next(model.parameters()).device
    model.eval()

    def summed(at_once: int) -> dict[str, list[float]]:
        """For each sort of question: loss, right answers, questions."""
        generator = torch.Generator().manual_seed(seed)
        sums: dict[str, list[float]] = {}
        for rows_ in rows[torch.randperm(len(rows), generator=generator)].split(batch_size):
            batch = objective.draw(rows_, generator)
            for start in range(0, len(rows_), at_once):
                end = start + at_once
                part = {n: (t[start:end] if at_once < len(rows_) else t).to(device) for n, t in batch.items()}
                for sort, (logits, wanted) in objective.answers(model, part).items():
                    total = sums.setdefault(sort, [0.0, 0.0, 0.0])
                    total[0] += cross_entropy(logits.float(), wanted, reduction="sum").item()
                    total[1] += (logits.argmax(-1) == wanted).sum().item()
                    total[2] += len(wanted)
        return sums

    with torch.no_grad():
        sums, _ = halving(summed, batch_size, device.type, advice="use shorter rows, or a smaller model")
    model.train(was_training)
    scores = {
        f"{sort}_{name}": value / count
        for sort, (loss, right, count) in sums.items()
        for name, value in (("loss", loss), ("accuracy", right))
    }
    loss = sum(scores[f"{sort}_loss"] for sort in sums)
    return {"loss": loss, "accuracy": scores[f"{next(iter(sums))}_accuracy"], **(scores if len(sums) > 1 else {})}


@memory_kept()
def pretrain(
    model: Any,
    objective: Objective,
    rows: Tensor,
    held_out: Tensor,
    settings: Pretraining,
    checkpoint: str | Path | None = None,
    report: Callable[[str], None] = print,
) -> list[dict[str, float]]:
    """Train a language model in place.

    Args:
        model: Stays on its device; its weights become float32, since bfloat16 would lose most updates in rounding.
        objective: What is asked about the rows.
        rows: Token ids, (rows, length), from `pack`, or from `pack_pairs` for `NextSentence` and `MaskedLM`, which know
            padding.
        held_out: The same, of other text.
        settings: How it is trained.
        checkpoint: A safetensors file. Training goes on where it stopped, and ends with the same weights as if it had
            never stopped; the model is given as it was when training began.
        report: Told of progress every `checkpoint_every` steps.

    Returns:
        `step`, `train_loss` and what `evaluate` gives, every `checkpoint_every` steps.

    Raises:
        OptionError: A setting cannot be used, the model has too few embeddings or positions, or the checkpoint belongs
            to other settings, text or starting weights, or to another model.
        DataError: The rows do not fill a batch, or none are held out.
        Diverged: The loss is not finite.
    """
    settings = _checked(settings)
    if checkpoint is not None:
        checkpoint = writable_folder(path_of(checkpoint).parent) / Path(checkpoint).name
        if checkpoint.is_dir():
            raise OptionError(f"checkpoint {checkpoint} is a folder; give the name of a file, such as one in it.")
    if len(rows) < settings.batch_size:
        raise DataError(f"{len(rows)} rows do not fill a batch of {settings.batch_size}: add text")
    if len(held_out) == 0:
        raise DataError("no rows are held out: give some text that is not trained on")
    for part in (rows, held_out):
        _check_room(model, objective, part, settings)
    model.float()
    optimizer = _optimizer(model, settings)
    generator = torch.Generator().manual_seed(settings.seed)
    torch.manual_seed(settings.seed)
    progress = Progress(torch.empty(0, dtype=torch.int64))
    shared = {
        **asdict(settings), "objective": described(objective), "rows": digest(rows), "held_out": digest(held_out),
        "model": described_model(model), "weights": digest_of_weights(model),
    }  # fmt: skip
    if checkpoint is not None and Path(checkpoint).exists():
        progress = restore(checkpoint, shared, model, optimizer, generator)

    model.train()
    running = torch.zeros(())
    started, first, last = time.perf_counter(), progress.step, progress.step
    while progress.step < settings.steps:
        if len(progress.order) < settings.batch_size:
            progress.order = torch.randperm(len(rows), generator=generator)
        chosen = rows[progress.order[: settings.batch_size]]
        progress.order = progress.order[settings.batch_size :]
        running += _step(model, objective, objective.draw(chosen, generator), optimizer, settings, progress.step)
        progress.step += 1
        if progress.step % settings.checkpoint_every == 0 or progress.step == settings.steps:
            train_loss = running.item() / (progress.step - last)
            scores = {"train_loss": train_loss, **evaluate(model, objective, held_out)}
            progress.history.append({"step": progress.step, **scores})
            running, last = torch.zeros(()), progress.step
            pace = (time.perf_counter() - started) / (progress.step - first)
            if checkpoint is not None:
                save(checkpoint, shared, progress, model, optimizer, generator)
            report(
                f"step {progress.step}/{settings.steps}  {_shown(scores)}  {chosen.numel() / pace:.0f} tokens/s  "
                f"{pace * (settings.steps - progress.step) / 60:.0f} min left"
            )
    return progress.history


def _optimizer(model: Any, settings: Pretraining) -> torch.optim.Optimizer:
    groups = [
        {"params": [p for p in model.parameters() if p.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.98), fused=True)


def _step(
    model: Any, objective: Objective, questions: dict[str, Tensor], optimizer: torch.optim.Optimizer,
    settings: Pretraining, step: int,
) -> Tensor:  # fmt: skip
    """Make an optimizer step; its loss, on the CPU.

    Raises:
        Diverged: The loss is not finite.
    """
    device = next(model.parameters()).device
    batch = {name: tensor.to(device) for name, tensor in questions.items()}
    with faster_on_cpu():
        with torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
            answers = objective.answers(model, batch)
        loss = sum(
            (cross_entropy(logits.float(), wanted) for logits, wanted in answers.values()),
            torch.zeros((), device=device),
        )
        if not math.isfinite(loss.item()):
            raise Diverged(f"loss {loss.item()} at step {step + 1}: lower the learning rate")
        loss.backward()  # draws again for checkpointed layers
    torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
    for group in optimizer.param_groups:
        group["lr"] = settings.learning_rate * schedule(step, settings)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.detach().cpu()


def _shown(scores: Mapping[str, float]) -> str:
    """The scores of a progress line."""
    names = {"train_loss": "train loss", "loss": "held-out loss"}
    losses = "  ".join(f"{shown} {scores[name]:.3f}" for name, shown in names.items())
    others = (f"{name.replace('_', ' ')} {score:.3f}" for name, score in scores.items() if name not in names)
    return f"{losses} {', '.join(others)}"


def schedule(step: int, settings: Pretraining) -> float:
    """Factor of the peak learning rate at a step, counted from 0: linear warm-up, then linear decay to zero."""
    warmup = max(1, round(settings.warmup * settings.steps))
    return min((step + 1) / warmup, (settings.steps - step) / max(1, settings.steps - warmup))


def _checked(settings: Pretraining) -> Pretraining:
    """
    Raises:
        OptionError: A setting cannot be used.
    """
    check_choice("precision", settings.precision, get_args(get_type_hints(Pretraining)["precision"]))
    for name in ("steps", "batch_size", "checkpoint_every"):
        check_count(name, getattr(settings, name))
    check_steps(settings)
    check_learning_rate(settings.learning_rate, "learning_rate")
    return replace(settings, seed=seed_of(settings.seed))


def _check_room(model: Any, objective: Objective, rows: Tensor, settings: Pretraining) -> None:
    """
    Raises:
        OptionError: The model has fewer embeddings than rows or objective have tokens, or too few positions; or the
            objective needs larger batches, or rows without padding.
    """
    words = len(model.get_input_embeddings().weight)
    parts: Sequence[Objective] = getattr(objective, "parts", (objective,))
    tokenizers = [part.tokenizer for part in parts if hasattr(part, "tokenizer")]
    check_vocabulary(max([int(rows.max()) + 1, *map(rows_needed, tokenizers)]), words)
    least = max(getattr(part, "least_rows", 1) for part in parts)
    if settings.batch_size < least:
        raise OptionError(f"batch_size={settings.batch_size} is too small for the objective; give {least} or more")
    pad = getattr(model.config, "pad_token_id", None)
    for part in parts:
        ends: list[Any] = []
        for one in (getattr(part, "tokenizer", None), model.config):
            for name in ("eos_token_id", "sep_token_id"):
                found = getattr(one, name, None)
                ends += found if isinstance(found, list) else [found]
        own = getattr(getattr(part, "tokenizer", None), "pad_token_id", None)
        if pad is not None and own not in (None, pad) and pad not in ends and (rows == pad).any():
            raise OptionError(
                f"the model pads with the token {pad}, which the rows hold as text, and the tokenizer with {own}: make "
                "the model with pad_token_id=tokenizer.pad_token_id"
            )
        if pad is not None and pad not in ends and not getattr(part, "pads", False) and (rows[:, -1] == pad).any():
            raise OptionError(
                f"rows end in padding, which {type(part).__name__} would learn as text; make them by `pack`, which "
                "leaves none"
            )
    drawn = [part.draw(rows[: settings.batch_size], torch.Generator().manual_seed(settings.seed)) for part in parts]
    length = max((t.shape[1] for batch in drawn for t in batch.values() if t.ndim > 1), default=0)
    length = max([length, *(part.longest(rows) for part in parts if hasattr(part, "longest"))])
    most = positions_of(model.config.to_dict())
    if length > most:
        raise OptionError(f"rows have {length} tokens, and the model positions for {most}: have shorter rows")
