"""The memory of a run: a step over its longest rows, outside the timed loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from adapt.backbones.exhausted import is_out_of_memory
from adapt.memory.step import Step, measure
from adapt.spec import Budget, OutOfMemory
from adapt.tasks import Example, Lesson
from adapt.training.aside import Aside
from adapt.training.batching import batches_of_step, largest, sizes_of
from adapt.training.halving import halving
from adapt.training.optimizer import optimizer_for, unpaged
from adapt.training.step import accelerator_for, random_state, set_random_state


def observe(
    model: nn.Module, lesson: Lesson, examples: Sequence[Example], budget: Budget, rows: int
) -> tuple[dict[str, Any], int]:
    """What training held at the most, as plain values (`Memory.as_dict`), and with how many rows at a time.

    The step is the loop's, over a whole batch of the longest rows, source and target together; where it has several,
    over two, for the second finds gradients. Afterwards the weights and the state of random generators are what they
    were.

    Args:
        model: As training left it, its layers checkpointed where the budget says so.
        lesson: Collates and computes the loss.
        examples: Encoded training rows.
        budget: As in training.
        rows: Most rows of a forward pass, as training had them last. They are halved where memory runs out, as it may:
            no batch of training need have held all of the longest rows.

    Returns:
        Empty, and 0, where not one row fits, as may be where training's own optimizer was a paged one, or where the
        trained weights cannot be set aside.
    """
    sizes = sizes_of(examples)
    longest = sorted(range(len(examples)), key=lambda i: -sizes[i])
    longest = longest[: largest(len(examples), budget.batch_size, budget.accumulation)]
    batches = batches_of_step(len(examples), budget.batch_size, budget.accumulation)
    group = [[examples[i] for i in longest]] * min(batches, 2)
    state, training = random_state(budget.device), model.training

    def measured(most: int) -> dict[str, Any]:
        optimizer = optimizer_for(model, unpaged(budget), 1e-9)  # bitsandbytes never gives a paged one's memory back
        return measure(Step(model, lesson, optimizer, accelerator_for(budget), group, most, budget.clip)).as_dict()

    with Aside() as aside:
        try:
            aside.put(model)
        except (RuntimeError, MemoryError) as error:  # where no disk takes them, and no memory
            if not is_out_of_memory(error):
                raise
            return {}, 0
        try:
            return halving(measured, min(rows, len(longest)), budget.device, advice="", reset=model.zero_grad)
        except OutOfMemory:
            return {}, 0
        finally:
            model.zero_grad()
            aside.restore(model)
            model.train(training)
            set_random_state(state)
