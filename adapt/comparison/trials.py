"""Learning rates tried for each strategy, and the choice among them by validation scores."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from adapt.spec import OptionError, Strategy


def rates_around(rate: float, trials: int) -> list[float]:
    """A rate and others half a power of ten apart, below and above in turn, of two digits."""
    steps = [(i + 1) // 2 * (-1) ** i for i in range(trials)]
    return [float(f"{rate * 10 ** (step / 2):.2g}") if step else rate for step in steps]


def tried(strategies: Sequence[Strategy], trials: int) -> list[Strategy]:
    """Each strategy at each of its rates; one that trains nothing has none.

    Raises:
        OptionError: There is no trial.
    """
    if trials < 1:
        raise OptionError(f"trials is {trials}; give at least 1.")
    found: list[Strategy] = []
    for strategy in strategies:
        rate = strategy.learning_rate
        if rate is None:
            found.append(strategy)
        else:
            rates = rates_around(rate, trials)
            found += [dataclasses.replace(strategy, learning_rate=each) for each in rates]  # type: ignore[type-var]
    # those given may lie that far apart
    return [strategy for i, strategy in enumerate(found) if strategy not in found[:i]]
