"""Plans against a budget: what fits, the most that fits, and what would make it fit."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from adapt.backbones.classes import LANGUAGE_MODELS
from adapt.backbones.load import SHORT
from adapt.backbones.seen import spares
from adapt.memory.budget import FIXED, GROWN, Verdict, allowance, mask_bytes, parse_bytes, shown, verdict
from adapt.memory.planner import Planner, setting_of
from adapt.memory.trace import Setting
from adapt.memory.types import CATEGORIES, Memory
from adapt.spec import FieldError, Strategy, Unsupported
from adapt.strategies import SMALLER, make

_SHORTEST = 8
"""Tokens of the shortest text that is thought of."""
_PARTS = (50, 20, 10, 5, 2)
"""Parts of a vocabulary that may be what occurs of it."""


@dataclass(frozen=True)
class Plan:
    """A strategy's plan for a batch, and how it stands to a budget."""

    strategy: str
    """Name, with the fields that differ from the defaults."""
    memory: Memory | None
    """The peak by category; None where the strategy does not go with the architecture."""
    allowance: int
    """Bytes beside the peak: context or libraries, and fragmentation (`adapt.memory.budget`)."""
    verdict: Verdict | None = None
    """`fits`, `tight` (above nine tenths of the budget) or `no`; None without a budget."""
    largest_batch: int | None = None
    """Most rows of this length that fit; 0 where not one does; None without a budget."""
    longest_text: int | None = None
    """Most tokens that a row may have where there are so many rows; 0 where none fit; None without a budget."""
    attention: str | None = None
    """The attention kernel: `sdpa` (fused) or `eager`; None where there is no plan."""
    at_limit: bool = False
    """Whether the longest text is the longest that the model has positions for."""
    advice: str | None = None
    """What would make it fit, where it does not."""
    reason: str | None = None
    """Why there is no plan."""

    @property
    def required(self) -> int | None:
        """Bytes needed in all."""
        return None if self.memory is None else self.memory.peak + self.allowance

    def as_dict(self) -> dict[str, Any]:
        """Plain values, bytes: what `adapt plan --json` prints."""
        parts = {name: getattr(self.memory, name, None) for name in (*CATEGORIES, "peak")}
        return {
            "strategy": self.strategy, **parts, "allowance": self.allowance, "required": self.required,
            "verdict": self.verdict, "largest_batch": self.largest_batch, "longest_text": self.longest_text,
            "at_limit": self.at_limit, "attention": self.attention, "advice": self.advice, "reason": self.reason,
        }  # fmt: skip


def plan_within(setting: Setting, label: str, batch: tuple[int, int], budget: int | None) -> Plan:
    """A plan with its verdict, with what is the most that fits, and with what would make it fit.

    Args:
        setting: From `setting_of`.
        label: What the strategy is called in tables.
        batch: Rows and tokens.
        budget: Bytes of the device; None: no verdict.
    """
    planner, device = Planner(setting), setting.budget.device
    rows, length = batch
    found = planner.memory(rows, length)
    besides = allowance(found.peak, device) + masks(setting, rows, length)
    if budget is None:
        return Plan(label, found, besides, attention=planner.attention(length))

    judged = verdict(found.peak + besides, budget)
    largest = longest = 0
    if _left(found.weights, budget, device) >= 0:  # else nothing need be tried
        largest = most(lambda n: _room(planner, n, length, budget), rows)
        for shortest, limit in _lengths(planner.longest, device):
            least = min(shortest, length) if shortest <= _SHORTEST else shortest
            start = max(least, min(length, limit))
            longest = longest or most(lambda n: _room(planner, rows, n, budget), start, limit, least=least)
    advice = None
    if judged == "no" and budget <= FIXED[device] + GROWN[device]:
        advice = f"more memory than this: {shown(FIXED[device] + GROWN[device])} are taken before any model"
    elif judged == "no":
        few, other = _few_words(planner, batch, budget), advise(planner, batch, budget, largest, longest)
        advice = other if few is None else f"{few}, or {other}"
    return Plan(
        label, found, besides, judged, largest, longest,
        attention=planner.attention(length), at_limit=longest == planner.longest, advice=advice,
    )  # fmt: skip


def _room(planner: Planner, rows: int, length: int, budget: int) -> int:
    """Bytes of the budget that a batch leaves free; below zero where it does not fit."""
    free = _left(planner.memory(rows, length).peak, budget, planner.setting.budget.device)
    return free - masks(planner.setting, rows, length)


def masks(setting: Setting, rows: int, length: int) -> int:
    """`mask_bytes` of padded rows; none where the architecture has no attention, as Mamba's has none."""
    if getattr(setting.shape.config, "num_attention_heads", None) is None:
        return 0
    return mask_bytes(rows, length, setting.budget.device, setting.budget.precision)


def _left(size: int, budget: int, device: str) -> int:
    """Bytes of the budget beside so many that tensors hold, and what these take besides."""
    return budget - size - allowance(size, device)


def _lengths(longest: int, device: str) -> list[tuple[int, int]]:
    """Ranges of text lengths in which memory rises; on CPUs it falls where attention takes another kernel."""
    if device != "cpu" or longest <= SHORT:
        return [(min(_SHORTEST, longest), longest)]
    return [(SHORT + 1, longest), (_SHORTEST, SHORT)]


def most(room: Callable[[int], int], start: int, limit: int | None = None, least: int = 1) -> int:
    """The largest whole number for which there is room, by secants; 0 where there is none for the least.

    Args:
        room: Falls as its argument rises; there is room while it is not negative.
        start: A first guess.
        limit: The largest number allowed.
        least: The smallest.
    """
    if room(least) < 0:
        return 0
    low, high, guess, halve = least, None, start, False
    while low != limit and (high is None or high - low > 1):
        top = limit if high is None else high - 1
        guess = max(low + 1, guess if top is None else min(guess, top))
        before = low, high
        low, high = (guess, high) if room(guess) >= 0 else (low, guess)
        if high is None:  # along the line through the last two, but not further than sixteenfold
            fall = room(before[0]) - room(low)
            guess = min(16 * low, low + room(low) * (low - before[0]) // fall) if fall > 0 else 16 * low
        elif halve or room(low) == room(high):
            guess, halve = (low + high) // 2, False
        else:
            guess = low + room(low) * (high - low) // (room(low) - room(high))
            halve = before[1] is not None  # every other time the middle, where the line misleads
    return low


def advise(planner: Planner, batch: tuple[int, int], budget: int, most_rows: int, longest: int) -> str:
    """The first of the usual remedies that make a plan fit: alone, then together, then with fewer rows at a time, then
    with fewer bits of the optimizer's state, or of the weights.

    Plans cost seconds, so that few are made: where the weights alone do not fit, only what has others is tried, and no
    batch where one of its rows does not fit.

    Args:
        planner: Of what does not fit.
        batch: Rows and tokens.
        budget: Bytes of the device.
        most_rows: Rows of that length that fit.
        longest: Tokens of so many rows that fit.
    """
    (rows, length), setting = batch, planner.setting
    single = [(name, change, Planner(change(setting))) for name, change in _remedies(setting)]
    single = [remedy for remedy in single if remedy[2].can_run(length)]
    remedies = [(name, tried) for name, _, tried in single]
    if len(single) > 1:
        together = functools.reduce(lambda changed, remedy: remedy[1](changed), single, setting)
        remedies.append((_joined(remedies), Planner(together)))
    saved = remedies[-1][1] if remedies else planner

    def fits(planner: Planner, rows: int = rows, length: int = length) -> bool:
        try:
            return all(_room(planner, n, length, budget) >= 0 for n in sorted({1, rows}))
        except Unsupported:  # such as 8 bits, where the architecture or the optimizer's state cannot be held in them
            return False

    def accumulated(planner: Planner) -> str | None:
        """Fewer rows at a time, as many of an update; with several batches to a step gradients are held meanwhile."""
        if rows == 1 or not fits(planner, 1):
            return None
        several = Planner(with_budget(planner.setting, accumulation=max(2, setting.budget.accumulation)))
        largest = most(partial(_room, several, length=length, budget=budget), rows // 2, rows - 1)
        count = next((n for n in range(largest, 0, -1) if rows % n == 0), 0)
        return f"batch {count} with accumulation {rows // count * setting.budget.accumulation}" if count else None

    smaller = [(name, Planner(changed)) for name, changed in _smaller(saved.setting)]
    last = [saved, *(tried for _, tried in smaller[-1:])]
    if _left(planner.memory(rows, length).weights, budget, setting.budget.device) < 0:
        remedies, most_rows, last = [], 0, last[1:]
        smaller = [(name, tried) for name, tried in smaller if tried.setting.strategy != saved.setting.strategy]
    for name, tried in remedies:
        if fits(tried):
            return name
    if most_rows and (fewer := accumulated(planner)):
        return fewer
    if remedies and (fewer := accumulated(saved)):
        return f"{remedies[-1][0]}, {fewer}"
    for name, tried in smaller:
        other = tried.setting.strategy != saved.setting.strategy  # which has not the fields of this one
        before = _joined([each for each in single if not other or each[2].setting.strategy == setting.strategy])
        start = f"{before}, " if before else ""
        if fits(tried):
            return f"{start}{name}"
        if fewer := accumulated(tried):
            return f"{start}{name}, {fewer}"
    shortest = min(_SHORTEST, length)
    shorter = longest or any(fits(tried, 1, shortest) for tried in last)
    return "shorter texts, or a smaller backbone" if shorter else "a smaller backbone"


def _few_words(planner: Planner, batch: tuple[int, int], budget: int) -> str | None:
    """What would do where most of a model is word embeddings, and nobody said how many words occur."""
    setting = planner.setting
    vocabulary = None if setting.words is not None else _vocabulary(setting, ("all", "seen"))
    if vocabulary is None:
        return None
    config = setting.shape.config.get_text_config()
    width = getattr(config, "embedding_size", None) or getattr(config, "hidden_size", None) or 0  # unsaid by Perceiver
    if 2 * 4 * vocabulary * width < planner.memory(*batch).weights:
        return None
    few = _with_seen_words(setting)
    done = few == setting
    ways = {"as it is" if done else "embeddings seen": few}
    if not setting.budget.checkpointing:
        name = "checkpointing" if done else "embeddings seen and checkpointing"
        ways[name] = with_budget(few, checkpointing=True)

    def fits(seen: Setting, words: int) -> bool:
        with contextlib.suppress(Unsupported):  # an output layer shares them, or there is no checkpointing
            return _room(Planner(dataclasses.replace(seen, words=words)), *batch, budget) >= 0
        return False

    fewest, *more = (vocabulary // part for part in _PARTS)
    for name, seen in ways.items():
        if fits(seen, fewest):  # else it is of no use
            words = next((words for words in reversed(more) if fits(seen, words)), fewest)
            return f"{name}, if at most {words:,} of {vocabulary:,} words occur"
    return None


def _vocabulary(setting: Setting, embeddings: Collection[str]) -> int | None:
    """Words of the vocabulary, where all layers are trained and so are the `embeddings` named; None where it is not so,
    or the model has no vocabulary (CANINE)."""
    fields = vars(setting.strategy)
    trained = fields.get("layers") == "all" and fields.get("embeddings") in embeddings
    return getattr(setting.shape.config.get_text_config(), "vocab_size", None) if trained else None


def _joined(remedies: Sequence[tuple[Any, ...]]) -> str:
    """The names of several remedies as one."""
    return " and ".join(name for name, *_ in remedies)


def _smaller(setting: Setting) -> list[tuple[str, Setting]]:
    """What is to be done, and the setting in which it is, where what is held is rounded to ever fewer bits."""
    found = []
    if setting.budget.optimizer == "adamw":
        found.append(("optimizer adamw_8bit", with_budget(setting, optimizer="adamw_8bit")))
    for name, fields in SMALLER:
        other = _instead(setting.strategy, name, fields)
        plain = vars(make(name))
        own = {
            field: value for field, value in vars(other).items() if value != plain[field] and field != "learning_rate"
        }
        how = ", ".join(f"{field} {value}" for field, value in own.items())
        if other != setting.strategy:
            found.append((f"{name}{f' with {how}' if how else ''}", dataclasses.replace(setting, strategy=other)))
    return found


def _instead(strategy: Strategy, name: str, fields: Mapping[str, Any]) -> Strategy:
    """Another strategy with the fields that it shares with the one it takes the place of."""
    known = vars(make(name))
    return make(name, {**{field: value for field, value in vars(strategy).items() if field in known}, **fields})


def with_budget(setting: Setting, **changes: Any) -> Setting:
    """The same with other fields of its budget."""
    return dataclasses.replace(setting, budget=dataclasses.replace(setting.budget, **changes))


def _remedies(setting: Setting) -> list[tuple[str, Callable[[Setting], Setting]]]:
    """What saves memory and is not done yet: its name, and what it makes of a setting. First what costs no time."""
    found: list[tuple[str, Callable[[Setting], Setting]]] = []
    vocabulary = _vocabulary(setting, ("all",))  # of which words that do not occur are trained for nothing
    if vocabulary is not None and setting.words is not None and spares(setting.words, vocabulary):
        found.append(("embeddings seen", _with_seen_words))
    unchunked = setting.budget.loss_chunk is None and setting.budget.device != "cpu"  # where it is done unasked
    if setting.task.kind in LANGUAGE_MODELS and unchunked:
        found.append(("loss_chunk 1024", partial(with_budget, loss_chunk=1024)))
    if not setting.budget.checkpointing:
        found.append(("checkpointing", partial(with_budget, checkpointing=True)))
    return found


def _with_seen_words(setting: Setting) -> Setting:
    strategy: Any = setting.strategy
    return dataclasses.replace(setting, strategy=dataclasses.replace(strategy, embeddings="seen"))


def plans(
    backbone: str | Path,
    strategies: Sequence[Strategy | str],
    *,
    batch: tuple[int, int],
    budget: int | str | None,
    **options: Any,
) -> list[Plan]:
    """Plans of several strategies, with the reason where one has none; the options are those of `adapt.memory.plan`.

    Args:
        backbone: As for `adapt.memory.plan`.
        strategies: Strategies, or names of some, in the order of the list.
        batch: Rows and tokens.
        budget: Bytes of the device, or as text (`12GiB`); None: no verdicts.
        options: Further options of `adapt.memory.plan`.

    Raises:
        OptionError: An option cannot be used.
    """
    found = []
    budget = None if budget is None else parse_bytes(budget)
    for strategy in [make(each) if isinstance(each, str) else each for each in strategies]:
        setting = setting_of(backbone, strategy, **options)
        try:
            found.append(plan_within(setting, label_of(strategy), batch, budget))
        except (Unsupported, FieldError) as error:
            found.append(Plan(label_of(strategy), None, 0, reason=str(error)))
    return found


def label_of(strategy: Strategy) -> str:
    """Its name, with the fields that differ from the defaults."""
    default = type(strategy)  # of which the defaults are attributes
    changed = {name: value for name, value in vars(strategy).items() if value != getattr(default, name, None)}
    return strategy.name + (f"({', '.join(f'{n}={v}' for n, v in changed.items())})" if changed else "")
