"""What a comparison is given: data, strategies and their learning rates, seeds, numbers of rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from adapt.backbones.source import EMBEDDED
from adapt.data import Data, Folds, data_of
from adapt.data.kinds import resolve
from adapt.fields import check_count
from adapt.options import check_strategy, plain, seed_of
from adapt.spec import OptionError, Strategy
from adapt.strategies import STRATEGIES, is_known, make

EMBEDDED_BACKBONES = {
    "sequence_classification": EMBEDDED,
    "token_classification": EMBEDDED,
    "question_answering": EMBEDDED,
    "seq2seq": "tiny-encoder-decoder",
    "causal_lm": "tiny-decoder",
    "masked_lm": EMBEDDED,
}
"""Task kind to the shipped backbone that does it."""

EMBEDDED_BUDGETS: dict[str, dict[str, Any]] = {
    "sequence_classification": {"epochs": 5, "max_length": 32, "pooling": "mean"},
    "token_classification": {"epochs": 5, "max_length": 48},
    "question_answering": {"epochs": 5, "max_length": 96},
    "seq2seq": {"epochs": 3, "max_length": 64},
    "causal_lm": {"epochs": 3, "max_length": 96, "separator": ""},
    "masked_lm": {"epochs": 5, "max_length": 48},
}
"""What `compare` takes for the embedded task of a kind on its shipped backbone where nothing else is given."""


def parts_of(data: Any, kind: str | None) -> Sequence[Data]:
    """The data; of cross-validation each division.

    Raises:
        AdaptError: They cannot be read, or are for another kind.
    """
    if not isinstance(data, Folds):
        return (data_of(data, kind),)
    data_of(data.parts[0], kind)
    return data.parts


def embedded_data(kind: str | None) -> Data:
    """The embedded task of a kind; None: sequence classification.

    Raises:
        OptionError: There is no such kind, or its task is of another problem.
    """
    from adapt.data.embedded import embedded

    name, problem = resolve(kind, None)
    found = embedded(name or "sequence_classification")
    if problem not in (None, found.problem):
        raise OptionError(f"There is no embedded task for kind '{kind}' ({problem}); give data.")
    return found


def check_settings(settings: Any) -> None:
    """
    Raises:
        OptionError: It is neither None nor a mapping of names to mappings.
    """
    several = {} if settings is None else settings
    if not isinstance(several, Mapping) or not all(isinstance(fields, Mapping) for fields in several.values()):
        raise OptionError(f"settings is {settings!r}; give a dict of strategies' names to dicts of their fields.")


def strategies_of(
    strategies: str | Sequence[str | Strategy],
    settings: Mapping[str, Mapping[str, Any]],
    presets: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> list[Strategy]:
    """The strategies meant.

    Args:
        strategies: `all`, names with commas between them, or a list of names and strategies.
        settings: Strategy name to field to value.
        presets: The same, for fields that `settings` does not give.

    Raises:
        OptionError: A name or field does not exist, a strategy is named twice, or a setting has no strategy.
    """
    if isinstance(strategies, str):
        strategies = list(STRATEGIES) if strategies == "all" else [s.strip() for s in strategies.split(",")]
    for name in settings:
        make(name, settings[name])  # a mistyped name or field is an error even where it is not run
    chosen = [make(s, {**presets.get(s, {}), **settings.get(s, {})}) if isinstance(s, str) else s for s in strategies]
    for strategy in chosen:
        if not is_known(strategy):
            raise OptionError(
                f"{type(strategy).__name__} is not the library's '{strategy.name}', and the processes of a comparison "
                "know no other; train it with adapt.fit."
            )
    chosen = [check_strategy(strategy) for strategy in chosen]  # which has each field in one form
    if not chosen:
        raise OptionError(f"No strategy is given; choose 'all' or from {', '.join(STRATEGIES)}.")
    twice = {s.name for i, s in enumerate(chosen) if s in chosen[:i]}
    if twice:
        raise OptionError(f"Strategy {', '.join(sorted(twice))} is given twice.")
    idle = settings.keys() - {s for s in strategies if isinstance(s, str)}
    if idle:
        raise OptionError(
            f"Settings are given for {', '.join(sorted(idle))}, which is not among the strategies given by name."
        )
    return chosen


def samples_of(choices: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What is to replace `max_train` or `few_shot` where several are given, one after the other; else nothing, once.

    Raises:
        OptionError: None is given, one twice, or one that is no number of rows; or both options are given.
    """
    given = [name for name in ("max_train", "few_shot") if choices.get(name) is not None]
    several = [name for name in given if isinstance(choices[name], Iterable) and not isinstance(choices[name], str)]
    if not several:
        return [{}]
    name = several[0]
    numbers = [plain(number) for number in choices[name]]
    for number in numbers:
        check_count(name, number)
    if not numbers or len(set(numbers)) < len(numbers):
        raise OptionError(f"{name} is {choices[name]}; give at least one number of rows, and none twice.")
    if len(given) > 1:
        raise OptionError("max_train and few_shot are both given, and a learning curve is over one of them; give one.")
    return [{name: number} for number in numbers]


def seeds_of(seeds: int | Sequence[int]) -> list[int]:
    """
    Raises:
        OptionError: There is no seed, or one is negative or given twice.
    """
    given = plain(seeds)
    several: Any = range(given) if isinstance(given, int) else given
    numbers = [seed_of(n) for n in several] if isinstance(several, Iterable) and not isinstance(several, str) else []
    if not numbers or len(set(numbers)) < len(numbers):
        raise OptionError(f"seeds is {seeds!r}; give how many (at least 1), or distinct numbers from 0 up.")
    return numbers


def distinct(samples: Sequence[dict[str, Any]], parts: Sequence[Data]) -> list[dict[str, Any]]:
    """Of several `max_train` that are all training rows there are, which would be the same training, the smallest."""
    most = max(len(part.splits["train"]) for part in parts)
    beyond = sorted(number for sample in samples if (number := sample.get("max_train", 0)) >= most)
    return [sample for sample in samples if sample.get("max_train") not in beyond[1:]]


MOST_TRIALS = 13
"""Most learning rates of one strategy: a thousandth to a thousand times its own."""


def rates_around(rate: float, trials: int) -> list[float]:
    """A rate and others half a power of ten apart, below and above in turn, of two digits."""
    steps = [(i + 1) // 2 * (-1) ** i for i in range(trials)]
    return [float(f"{rate * 10 ** (step / 2):.2g}") if step else rate for step in steps]


def tried(strategies: Sequence[Strategy], trials: int) -> list[Strategy]:
    """Each strategy at each of its rates; one that trains nothing has none."""
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
