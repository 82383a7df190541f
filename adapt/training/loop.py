"""The one training loop. It knows a model, a task kind and a budget; never a strategy."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn

from adapt import params
from adapt.backbones.checkpointing import saves_memory, weight_bits
from adapt.backbones.classes import LANGUAGE_MODELS
from adapt.backbones.exhausted import explained
from adapt.backbones.standardised import Standardised
from adapt.spec import Budget
from adapt.tasks import Example, Kind, Lesson
from adapt.tasks.kind import Asked
from adapt.training.allocator import memory_kept
from adapt.training.aside import Aside
from adapt.training.batching import by_length, evenly, length_bucketed, lengths_of, steps_of, targets_of
from adapt.training.graphs import Graphs, graphs_for
from adapt.training.halving import halving, parts
from adapt.training.on_cpu import faster_on_cpu
from adapt.training.optimizer import optimizer_for, schedule_for
from adapt.training.peak import PeakMemory
from adapt.training.step import (
    accelerator_for,
    clip_of,
    gradients,
    on,
    random_state,
    save_memory,
    set_random_state,
)
from adapt.training.watch import Watch


@dataclass(frozen=True)
class Trained:
    """What training gave besides the model."""

    curve: list[dict[str, Any]] = field(default_factory=list)
    """One entry an epoch: epoch, step, loss, seconds, rows (encoded) and validation scores."""
    best_epoch: int | None = None
    """Epoch (from 1) with the best validation score, of equals the first, whose parameters the model holds now."""
    seconds: float | None = None
    """Wall-clock seconds of the training steps; None where nothing was trained."""
    evaluate_seconds: float = 0.0
    """Wall-clock seconds of scoring after epochs."""
    rows: int = 0
    """Encoded training rows gone through: of long rows each window."""
    process_bytes: int | None = None
    """Peak memory of the training steps."""
    micro_batch: int | None = None
    """Rows of a forward pass that training came down to because memory ran out; None: it never did."""
    graphs: int = 0
    """CUDA graphs that were captured."""
    held_bytes: int = 0
    """Bytes of the best epoch's weights that were held in memory, because no file could be written."""


@memory_kept()
def train(
    model: nn.Module,
    kind: Kind,
    examples: Sequence[Example],
    validation: Sequence[Example],
    budget: Budget,
    *,
    learning_rate: float,
    metric: str,
    higher_is_better: bool,
    seed: int,
    on_step: Callable[[int, int, float], None] | None = None,
    lesson: Lesson | None = None,
) -> Trained:
    """Train what is trainable, keep the epoch that the validation metric prefers.

    When memory runs out within a step, it is done again from its start with half as many rows in a forward pass and
    twice as many passes, over the same rows in the same order; so are the steps after it. Where CUDA graphs hold
    memory, they are let go of first.

    Args:
        model: Its trainable parameters are updated in place.
        kind: Draws rows anew, and scores.
        examples: Encoded training rows.
        validation: Encoded validation rows; without any, the last epoch is kept.
        budget: Epochs or steps, batches, schedule, clipping, precision, patience.
        learning_rate: Peak learning rate.
        metric: Validation score that chooses the epoch.
        higher_is_better: Its direction.
        seed: Decides the order of rows and everything drawn while training.
        on_step: Called after each optimizer step with steps done, steps in all, and the loss; on a GPU while the next
            step is under way, for the last of an epoch at its end.
        lesson: Collates training rows, and computes the loss; None: the kind does.

    Raises:
        Diverged: The loss or its gradient is not finite; on a GPU that is seen a step later.
        OptionError: Nothing is trainable.
        OutOfMemory: A step does not fit with one row at a time, or the optimizer's state does not.
        Unsupported: Gradient checkpointing is asked for, and transformers does not have it for the architecture; or a
            loss in chunks, and the model does with its logits what is not known.
    """
    lesson = lesson or kind
    save_memory(model, budget)
    accelerator = accelerator_for(budget)
    order = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    lengths, targets = lengths_of(examples), targets_of(examples)
    terms = [lesson.terms([example]) for example in examples]  # of tokens drawn anew about as many
    terms_a_row = sum(terms) / len(examples)
    steps = budget.epochs * steps_of(len(examples), budget.batch_size, budget.accumulation)
    if budget.max_steps is not None:
        steps = min(steps, budget.max_steps)
    optimizer = optimizer_for(model, budget, learning_rate)
    schedule = schedule_for(optimizer, budget, steps)
    trainable = list(params.trainable(model).values())
    graphs = graphs_for(model, lesson, accelerator, budget, lengths)
    counting = [module for module in model.modules() if isinstance(module, Standardised)]
    watch = Watch(budget.device, steps, on_step)
    memory = PeakMemory(budget.device)
    curve: list[dict[str, Any]] = []
    best: tuple[float, int] | None = None
    step = rows = 0
    micro, advice = budget.batch_size, _advice(budget, model)
    seconds = evaluating = 0.0

    with Aside() as aside:
        for epoch in range(1, budget.epochs + 1):
            if step == steps:
                break
            batches = length_bucketed(lengths, budget.batch_size, order, targets, budget.accumulation)
            seen = kind.redraw(examples, seed, epoch)
            model.train()
            losses: list[torch.Tensor] = []
            started, rows_before = time.perf_counter(), rows
            with memory.track():
                for members in evenly(batches, budget.accumulation)[: steps - step]:
                    group = [[seen[i] for i in batch] for batch in members]
                    total, micro = halving(
                        partial(gradients, model, lesson, group, accelerator, terms_a_row=terms_a_row, graphs=graphs),
                        micro,
                        budget.device,
                        advice=advice,
                        all_rows=max(map(len, group)),
                        reset=_undo(optimizer, graphs, counting, budget.device),
                    )
                    usual = terms_a_row * sum(map(len, members))
                    clip = clip_of(budget.clip, sum(terms[i] for batch in members for i in batch), usual)
                    watch.see(total, accelerator.clip_grad_norm_(trainable, clip))
                    with explained("while the optimizer made its state", _advice_on_state(budget)):
                        optimizer.step()
                    optimizer.zero_grad(set_to_none=graphs is None or not graphs.in_place)
                    schedule.step()
                    step, rows = step + 1, rows + sum(map(len, group))
                    losses.append(total)
                    watch.tell()
                watch.finish()
            elapsed = time.perf_counter() - started
            model.eval()  # also where nothing is scored: what the first epoch counts ends with it
            seconds += elapsed
            point: dict[str, Any] = {
                "epoch": epoch,
                "step": step,
                "loss": float(torch.stack(losses).mean()),
                "seconds": elapsed,
                "rows": rows - rows_before,
            }
            curve.append(point)
            if validation:
                started = time.perf_counter()
                let_go = None if graphs is None else graphs.drop  # their memory, which they hold between steps
                outputs = predict(model, kind, validation, budget, final=False, reset=let_go)
                scores = kind.score(outputs, validation)
                evaluating += time.perf_counter() - started
                point["validation"] = scores
                value = scores[metric] if higher_is_better else -scores[metric]
                if best is None or value > best[0]:
                    best = (value, epoch)
                    if step < steps:  # else these are the weights that stay
                        aside.put(model)
                elif budget.patience is not None and epoch - best[1] >= budget.patience:
                    break
        if graphs is not None:
            graphs.drop()  # and the gradients that they wrote to
        if best is not None and best[1] != curve[-1]["epoch"]:
            aside.restore(model)
    return Trained(
        curve,
        best_epoch=best[1] if best is not None else None,
        seconds=seconds,
        evaluate_seconds=evaluating,
        rows=rows,
        process_bytes=memory.peak_bytes,
        micro_batch=micro if micro < budget.batch_size else None,
        graphs=graphs.captured if graphs is not None else 0,
        held_bytes=aside.held_bytes,
    )


def _undo(
    optimizer: torch.optim.Optimizer, graphs: Graphs | None, counting: Sequence[Standardised], device: str
) -> Callable[[], bool]:
    """What takes back an unfinished try of a step that begins now: gradients, rows counted and random numbers.

    It tells whether there were graphs, whose memory is then free.
    """
    state, counts = random_state(device), [norm.counted() for norm in counting]

    def undo() -> bool:
        freed = graphs is not None and graphs.drop()
        optimizer.zero_grad(set_to_none=True)
        set_random_state(state)
        for norm, counted in zip(counting, counts, strict=True):
            norm.set_counted(counted)
        return freed

    return undo


def _advice(budget: Budget, model: nn.Module) -> str:
    """What makes a step of one row smaller and is not done yet."""
    ways = ["gradient checkpointing (checkpointing)"] if not budget.checkpointing and saves_memory(model) else []
    language_model = getattr(model, "task_kind", None) in LANGUAGE_MODELS
    if language_model and budget.loss_chunk is None and budget.device != "cpu":  # where it is done unasked
        ways.append("logits of fewer tokens at a time (loss_chunk)")
    ways.append("shorter texts (max_length)")
    bits = weight_bits(model)
    if bits != 4:
        ways.append(f"a backbone in {'4' if bits == 8 else '8 or 4'} bits (qlora)")
    return f"use {' or '.join([', '.join(ways[:-1]), ways[-1]] if len(ways) > 1 else ways)}"


def _advice_on_state(budget: Budget) -> str:
    """What makes the optimizer's state smaller, or has it leave the device, and is not done yet."""
    paged = "paged_adamw_8bit" if budget.device == "cuda" and budget.optimizer == "adamw_8bit" else None
    better = "adamw_8bit" if budget.optimizer == "adamw" else paged
    return f"use {f'optimizer {better}, or ' if better else ''}a strategy that trains fewer parameters"


@memory_kept()
@torch.no_grad()
def predict(
    model: nn.Module,
    kind: Asked,
    examples: Sequence[Example],
    budget: Budget,
    *,
    final: bool = True,
    on_done: Callable[[int], None] = lambda rows: None,
    reset: Callable[[], bool] | None = None,
) -> list[Any]:
    """Outputs of each row in the order given, computed in batches of similar length.

    When memory runs out, batches are halved from there on.

    Args:
        model: Put into eval mode.
        kind: Collates and reads the outputs.
        examples: Encoded rows; labels are not needed.
        budget: Batch size (twice that of training is used), precision and device.
        final: As in `Kind.outputs`.
        on_done: Told after each batch how many rows are done.
        reset: Lets go of memory that is not needed when it runs out; true where there was some.

    Raises:
        OutOfMemory: One row does not fit.
    """
    model.eval()
    results: list[Any] = [None] * len(examples)
    device = torch.device(budget.device)
    autocast = torch.autocast(device.type, dtype=torch.bfloat16, enabled=budget.precision == "bf16")

    def outputs_of(members: Sequence[Example], rows: int) -> list[Any]:
        outputs: list[Any] = []
        for part in parts(members, rows):
            outputs += kind.outputs(model, on(kind.collate(part), device), final=final)
        return outputs

    rows, done = 2 * budget.batch_size, 0
    with autocast, faster_on_cpu():  # around all batches: weights in float32 are cast once
        for indices in by_length(lengths_of(examples), rows):
            outputs, rows = halving(
                partial(outputs_of, [examples[i] for i in indices]),
                rows,
                budget.device,
                advice="cut texts shorter (max_length), or have shorter texts written",
                all_rows=len(indices),
                reset=reset,
            )
            for index, output in zip(indices, outputs, strict=True):
                results[index] = output
            done += len(indices)
            on_done(done)
    return results
