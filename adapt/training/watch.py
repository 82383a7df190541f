"""Loss and norm of each step, looked at without holding up a GPU."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from adapt.spec import Diverged


class Watch:
    """Checks that loss and gradient are finite, and tells the loss.

    On the CPU a step is looked at before it changes the model. To read a number back from a GPU is to wait for all that
    was launched before; so there each step is looked at while the next is under way, and the last at the end.
    """

    def __init__(self, device: str, steps: int, on_step: Callable[[int, int, float], None] | None) -> None:
        """
        Args:
            device: `cpu` or `cuda`.
            steps: Optimizer steps in all.
            on_step: Called with steps done, steps in all, and the loss.
        """
        self._cuda, self._steps, self._on_step = device == "cuda", steps, on_step
        self._done = 0
        self._seen: list[float] = []
        self._under_way: tuple[torch.Tensor, torch.cuda.Event] | None = None

    def see(self, loss: torch.Tensor, norm: torch.Tensor) -> None:
        """Look at a step, or at the one before it, before the model is changed.

        Args:
            loss: Scalar.
            norm: Scalar, of the gradient.

        Raises:
            Diverged: One is not finite.
        """
        if not self._cuda:
            self._check(float(loss), float(norm))
            return
        values = torch.empty(2, pin_memory=True)
        values.copy_(torch.stack([loss.float(), norm.float()]), non_blocking=True)
        event = torch.cuda.Event()
        event.record()
        self._read()
        self._under_way = values, event

    def tell(self) -> None:
        """Tell the losses that were looked at, after the model was changed."""
        for loss in self._seen:
            self._done += 1
            if self._on_step is not None:
                self._on_step(self._done, self._steps, loss)
        self._seen = []

    def finish(self) -> None:
        """Wait for the device, look at what is under way, and tell it.

        Raises:
            Diverged: As `see`.
        """
        if self._cuda:
            torch.cuda.synchronize()
        self._read()
        self.tell()

    def _read(self) -> None:
        if self._under_way is not None:
            values, event = self._under_way
            self._under_way = None
            event.synchronize()
            self._check(*values.tolist())

    def _check(self, loss: float, norm: float) -> None:
        step = self._done + len(self._seen) + 1
        for name, value in (("loss", loss), ("gradient's norm", norm)):
            if not math.isfinite(value):
                raise Diverged(f"the {name} is {value} at step {step} of {self._steps}; lower the learning rate")
        self._seen.append(loss)
