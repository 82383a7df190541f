"""The memory of a run: a step over its longest rows, outside the timed loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from adapt import params
from adapt.backbones.exhausted import give_back, is_out_of_memory
from adapt.memory.step import Step, measure
from adapt.spec import Budget
from adapt.tasks import Example, Kind
from adapt.training.batching import sizes_of
from adapt.training.loop import accelerator_for
from adapt.training.optimizer import optimizer_for, unpaged
from adapt.training.step import random_state, set_random_state


def observe(model: nn.Module, kind: Kind, examples: Sequence[Example], budget: Budget, rows: int) -> dict[str, Any]:
    """What training held at the most, as plain values (`Memory.as_dict`).

    The step is the loop's, over a whole batch of the longest rows, source and target together; with accumulation over
    two, for the second finds gradients. The model's weights, what is random and the result of the
    run are as if nothing had been measured.

    Args:
        model: As training left it, its layers checkpointed where the budget says so.
        kind: Collates and computes the loss.
        examples: Encoded training rows.
        budget: As in training.
        rows: Most rows of a forward pass, as training had them last.

    Returns:
        Empty where memory runs out, which only the second optimizer's state can cause.
    """
    sizes = sizes_of(examples)
    longest = sorted(range(len(examples)), key=lambda i: -sizes[i])[: budget.batch_size]
    group = [[examples[i] for i in longest]] * min(budget.accumulation, 2)
    kept = params.trainable_state(model)
    state, training = random_state(budget.device), model.training
    try:
        optimizer = optimizer_for(model, unpaged(budget), 1e-9)  # bitsandbytes never gives a paged one's memory back
        step = Step(model, kind, optimizer, accelerator_for(budget), group, rows, budget.clip)
        return measure(step).as_dict()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        give_back(budget.device)
        return {}
    finally:
        for parameter in model.parameters():
            parameter.grad = None
        params.fill(model, kept, "the trained state")
        model.train(training)
        set_random_state(state)
