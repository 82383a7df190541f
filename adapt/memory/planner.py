"""Predicts what a training step holds in memory, from a configuration alone."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

from adapt.backbones.classes import CLASSIFIERS
from adapt.backbones.families import positions_of
from adapt.backbones.load import SHORT
from adapt.data.kinds import kind_named, problem_of
from adapt.fields import check_count
from adapt.memory.budget import parse_batch
from adapt.memory.shapes import shape_of
from adapt.memory.trace import MEASURE, Setting, Trace
from adapt.memory.types import CATEGORIES, Memory
from adapt.metrics import METRICS
from adapt.options import BUDGET_FIELDS, budget_of, check_loss_chunk, check_strategy, plain, pooling_of, precision_of
from adapt.spec import AdaptError, OptionError, Source, Strategy, Task, Unsupported
from adapt.strategies import make
from adapt.tasks import KINDS

_SHALLOW = (4, 5, 6)
"""Numbers of layers that are traced in place of many: each segment's peak is affine in the depth, as three show."""


def plan(
    backbone: str | Path,
    strategy: str | Strategy,
    *,
    kind: str = "sequence_classification",
    batch: tuple[int, int] | str = (32, 128),
    precision: str = "auto",
    device: str = "cuda",
    labels: int = 2,
    pooling: str = "auto",
    words: int | None = None,
    targets: int | None = None,
    **choices: Any,
) -> Memory:
    """What a training step will hold in memory at its peak, by category, in bytes; no weights are read.

    The step that would train is run on tensors without contents, whose sizes are counted as those of real ones are.
    All rows are taken to be equally long. A model of many equal layers is
    traced with four, five and six, and carried on to its own number. Features of earlier rows that are kept where a
    frozen backbone, or its lower layers, compute them once (up to 1 GiB) are not among it.

    Args:
        backbone: As for `adapt.fit`, or `shape:` and a name in `adapt.memory.shapes.SHAPES`; of a folder or a hub name
            only `config.json` is needed.
        strategy: A strategy, or its name.
        kind: A task kind, by a short name or its full one.
        batch: Rows of a forward pass, and tokens of each row: `(4, 2048)` or `"4x2048"`.
        precision: `bf16`, `fp32`, or `auto`: what training takes here; for a GPU that is not here bf16.
        device: `cuda` or `cpu`; it need not be there. Attention is what the loop takes there: fused on CUDA, where the
            architecture has that.
        labels: Classes, where the kind has some.
        pooling: As for `adapt.fit`.
        words: Different tokens of the training rows, special ones among them, which decide what full fine-tuning takes
            with `embeddings="seen"`; None: as many as the vocabulary has.
        targets: Tokens of each target in seq2seq; None: as many as of the source, at most 64 (`max_target_length`).
        choices: Further fields of `adapt.Budget`: `checkpointing`, `loss_chunk`, `optimizer`, `dropout`, ...

    Raises:
        OptionError: An option cannot be used, or the text is longer than the model has positions.
        Unsupported: The strategy or the kind does not go with the architecture, or nothing is trained.
    """
    if "batch_size" in choices:
        raise OptionError(f"plan has no option 'batch_size'; give batch=({choices['batch_size']}, tokens).")
    if "max_length" in choices:
        raise OptionError(f"plan has no option 'max_length'; give batch=(rows, {choices['max_length']}).")
    if "budget" in choices:
        raise OptionError("plan has no option 'budget'; adapt.memory.plans says what fits one.")
    setting = setting_of(
        backbone, strategy, kind=kind, precision=precision, device=device, labels=labels, pooling=pooling,
        words=words, targets=targets, **choices,
    )  # fmt: skip
    rows, length = batch if isinstance(batch, tuple | list) and len(batch) == 2 else parse_batch(str(batch))
    return Planner(setting).memory(plain(rows), plain(length))


def planned_precision(precision: str, device: str) -> str:
    """What `auto` is: what the device here trains in; for a GPU that is not here bf16."""
    if precision != "auto":
        return precision
    import torch

    return "bf16" if device == "cuda" and not torch.cuda.is_available() else precision_of("auto", device)


def setting_of(
    backbone: str | Path,
    strategy: str | Strategy,
    *,
    kind: str = "sequence_classification",
    precision: str = "auto",
    device: str = "cuda",
    labels: int = 2,
    pooling: str = "auto",
    words: int | None = None,
    targets: int | None = None,
    **choices: Any,
) -> Setting:
    """The checked options of `plan`, as values."""
    if device not in ("cpu", "cuda"):
        raise OptionError(f"Device '{device}' is not known; a plan is for cpu or cuda.")
    precision = planned_precision(precision, device)
    shape = shape_of(backbone)
    full = kind_named(kind)
    problem = problem_of(kind)
    for name in choices:
        if name not in BUDGET_FIELDS:
            known = ", ".join(sorted(BUDGET_FIELDS))
            raise OptionError(f"plan has no option '{name}'; fields of adapt.Budget are {known}.")
    paged = device == "cuda" and choices.get("optimizer") == "paged_adamw_8bit"
    # checked for the CPU, since a GPU need not be here; but for that optimizer, which CPUs have not
    budget = budget_of(precision=precision, device="cpu", **(choices | {"optimizer": "adamw"} if paged else choices))
    budget = dataclasses.replace(
        budget,
        device=cast(Literal["cpu", "cuda"], device),
        optimizer=choices.get("optimizer", budget.optimizer),
    )
    check_loss_chunk(budget, full)
    pooled = pooling_of(pooling, full, shape)
    labels, words, targets = plain(labels), plain(words), plain(targets)
    check_count("labels", labels, 2)
    if words is not None:
        check_count("words", words)
    names = tuple(map(str, range(labels))) if full in CLASSIFIERS and problem != "regression" else ()
    task = Task(
        name="plan", data=Source("plan", ""), kind=full, problem=problem, labels=names, metric=METRICS[problem][0],
        pooling=pooled,
    )  # fmt: skip
    chosen = check_strategy(make(strategy) if isinstance(strategy, str) else strategy)
    if targets is not None:
        check_count("targets", targets)
        if KINDS[full].most_target(task) is None:
            raise OptionError(f"targets is {targets}, and rows of {full} have none of their own; leave it out.")
    return Setting(shape, chosen, task, budget, words=words, targets=targets)


class Planner:
    """Plans of one setting for any size of batch; what was traced once is not traced again."""

    def __init__(self, setting: Setting) -> None:
        """
        Args:
            setting: From `setting_of`.

        Raises:
            Unsupported: The strategy trains nothing.
        """
        if setting.strategy.learning_rate is None:
            raise Unsupported("it trains nothing, so that there is no step to plan")
        self.setting = setting
        self._known: dict[tuple[int, int, int | None], Memory] = {}
        self._segments: dict[tuple[int | None, int, int, int | None], dict[str, Memory]] = {}
        self._traces: dict[tuple[int | None, bool], Trace] = {}
        self._affine = False

    @cached_property
    def longest(self) -> int:
        """Tokens that the backbone has positions for."""
        return positions_of(self.setting.shape.config.to_dict())

    def memory(self, rows: int, length: int, targets: int | None = None) -> Memory:
        """The plan for `rows` rows of `length` tokens, in seq2seq with targets of so many, or as in the setting.

        Raises:
            OptionError: One of them is below 1, or there are more tokens than positions.
        """
        for name, value in (("rows", rows), ("tokens", length)):
            if not isinstance(value, int) or value < 1:
                raise OptionError(f"batch has {value} {name}; give a whole number of at least 1, as in 4x2048.")
        if length > self.longest:
            raise OptionError(
                f"batch has texts of {length} tokens, and {self.setting.shape.name} has positions for {self.longest}; "
                "give shorter ones."
            )
        if self.setting.targets is not None and self.setting.targets > self.longest:
            raise OptionError(
                f"targets is {self.setting.targets}, and {self.setting.shape.name} has positions for {self.longest} "
                "tokens; give fewer."
            )
        if targets is None:
            most = KINDS[self.setting.task.kind].most_target(self.setting.task)
            usual = None if most is None or most >= length else most
            targets = usual if self.setting.targets is None else self.setting.targets
        batch = rows, length, targets
        if batch not in self._known:
            self._known[batch] = self._plan(*batch)
        return self._known[batch]

    def attention(self, length: int) -> str:
        """The attention kernel of rows of so many tokens, once they are planned: `sdpa` (fused) or `eager`."""
        return next(trace.attention for (_, long), trace in self._traces.items() if long == (length > SHORT))

    def can_run(self, length: int) -> bool:
        """Whether there is a plan for a row of so many tokens, found out with as few layers as may be."""
        for depth in (*self._shallow[:1], None):
            with contextlib.suppress(OptionError, Unsupported):
                self._trace(depth, 1, length, None)
                return True
        return False

    def _plan(self, rows: int, length: int, targets: int | None) -> Memory:
        depth, segments = _depth(self.setting.shape.config), None
        if depth is not None and self._shallow:
            depths = self._shallow[1:] if self._affine else self._shallow
            with contextlib.suppress(OptionError, Unsupported):  # something names a layer further up, or each one
                found = [self._trace(d, rows, length, targets) for d in depths]
                segments = _carried_on(found, depth - depths[-1])
        self._affine = segments is not None
        if segments is None:
            segments = self._trace(None, rows, length, targets)
        return max(segments.values(), key=lambda memory: memory.peak)

    @cached_property
    def _shallow(self) -> tuple[int, ...]:
        """Numbers of layers that are traced in place of the model's own; none where it has hardly more."""
        depths = tuple(n + self._adapted_layers for n in _SHALLOW)
        depth = _depth(self.setting.shape.config)
        return depths if depth is not None and depth > depths[-1] + 1 else ()

    @property
    def _adapted_layers(self) -> int:
        """Uppermost layers that alone are adapted; 0: all are. Fewer layers than these do not show how a peak grows."""
        last = str(getattr(self.setting.strategy, "layers", "all")).rpartition(":")[2]
        return int(last) if last.isdigit() else 0

    def _trace(self, depth: int | None, rows: int, length: int, targets: int | None) -> dict[str, Memory]:
        """The segments of a model with so many layers, or with its own number.

        Raises:
            Unsupported: The model cannot be built so, or does what fake tensors cannot.
        """
        batch, key, shape = (depth, rows, length, targets), (depth, length > SHORT), self.setting.shape.config
        if batch in self._segments:
            return self._segments[batch]
        if key not in self._traces:
            what = f"'{shape.model_type}' cannot be built from its configuration under {self.setting.strategy.name}"
            with _told_as(what, "see to its config.json, or take another strategy"):
                config = shape if depth is None else _at_depth(shape, depth)
                self._traces[key] = Trace(self.setting, config, length)
        with _told_as(f"a step of '{shape.model_type}' cannot be run without contents", MEASURE):
            self._segments[batch] = self._traces[key].run(rows, length, targets)
        return self._segments[batch]


@contextlib.contextmanager
def _told_as(what: str, advice: str) -> Iterator[None]:
    """Errors of transformers, PEFT or torch, for architectures that are not known here, as one that says what to do."""
    try:
        yield
    except AdaptError:
        raise
    except Exception as error:
        told = str(error).strip().partition("\n")[0]
        raise Unsupported(f"{what} ({type(error).__name__}: {told}); {advice}") from error


def _carried_on(found: Sequence[Mapping[str, Memory]], more: int) -> dict[str, Memory] | None:
    """The peak of each segment with `more` layers above the last of the traces; None where they do not rise evenly."""
    if any(trace.keys() != found[0].keys() for trace in found):
        return None
    carried = {}
    for segment, last in found[-1].items():
        parts = [[getattr(trace[segment], name) for name in CATEGORIES] for trace in found]
        steps = [[b - a for a, b in zip(low, high, strict=True)] for low, high in itertools.pairwise(parts)]
        if any(step != steps[0] for step in steps):
            return None
        values = {name: getattr(last, name) + more * step for name, step in zip(CATEGORIES, steps[-1], strict=True)}
        carried[segment] = dataclasses.replace(last, **values)
    return carried


_DEPTHS = (("encoder_layers", "decoder_layers"), ("num_layers", "num_decoder_layers"))
"""What encoder-decoders call the numbers of layers of their two stacks."""


def _depth_names(config: Any) -> tuple[str, ...]:
    values = config.to_dict()
    for names in _DEPTHS:
        if all(isinstance(values.get(name), int) for name in names):
            return names
    return (config.attribute_map.get("num_hidden_layers", "num_hidden_layers"),)


def _depth(config: Any) -> int | None:
    """The number of equal layers; None where they are not equal, or not known to be."""
    depths = {getattr(config, name, None) for name in _depth_names(config)}
    kinds = getattr(config, "layer_types", None)
    if len(depths) != 1 or (kinds is not None and len(set(kinds)) > 1):
        return None
    return next(iter(depths))


def _at_depth(config: Any, depth: int) -> Any:
    values = config.to_dict()
    if values.get("layer_types"):
        values["layer_types"] = values["layer_types"][:depth]
    return type(config).from_dict({**values, **dict.fromkeys(_depth_names(config), depth)})
