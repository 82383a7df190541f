"""What every task kind supplies to the loop, which knows nothing else about a task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from adapt.fields import fill
from adapt.metrics import check_metric
from adapt.spec import AdaptError, Task
from adapt.tasks.tokens import between, unknown_share

if TYPE_CHECKING:
    import datasets
    import torch
    from torch import nn

_MANY_UNKNOWN = 0.05
"""Share of tokens that stand for unknown words from which on a row is read without part of what it says."""

Example = dict[str, Any]
"""One encoded row, or one window of a long row: `input_ids` and further lists of token values, the labels where it is
labelled, and `row`, the number of its row among those encoded together, where a row may have several windows."""


class Asked(Protocol):
    """How a model is asked about encoded rows, and what it answers."""

    def collate(self, examples: Sequence[Example], *, longest: int | None = None) -> dict[str, torch.Tensor]:
        """The model's inputs, each (batch, length), and `labels`.

        Args:
            examples: Encoded rows.
            longest: None: rows are padded to the longest of them; else to one of few lengths, at most this.
        """

    def outputs(self, model: nn.Module, batch: Mapping[str, torch.Tensor], *, final: bool = True) -> list[Any]:
        """One output an example, on the CPU.

        Args:
            model: In eval mode.
            batch: As `collate` gives it, without labels where rows have none.
            final: Whether everything is to be scored; else only what `selection` asks for (no generation).
        """


class Lesson(Protocol):
    """What a model learns from training rows: the labels of a kind, or what a teacher says beside them."""

    @property
    def beside(self) -> Sequence[nn.Module]:
        """Models that each step runs beside the one that learns, and whose weights are held with its own."""

    def collate(self, examples: Sequence[Example], *, longest: int | None = None) -> dict[str, torch.Tensor]:
        """As `Asked.collate`, of training rows, with what the loss needs besides."""

    def loss(self, model: nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Mean loss of a batch, a float32 scalar."""

    def terms(self, examples: Sequence[Example]) -> int:
        """How many terms the mean of `loss` is over, so that parts of a batch add up: rows or windows, unless it is
        tokens that are learnt."""

    def planned(self, kind: Kind, stand_in: Callable[[nn.Module], nn.Module]) -> Lesson:
        """The same from made-up rows, for planning.

        Args:
            kind: Made them.
            stand_in: Gives what runs in place of a model beside.
        """


@dataclass(frozen=True)
class NoOptions:
    """Of a kind that has no options beside the fields of `Task`."""


class Kind(Asked, Lesson, ABC):
    """A task kind bound to a task and a tokenizer: `KIND(task, tokenizer)`."""

    Options: ClassVar[type] = NoOptions
    """Frozen dataclass of the kind's own options, whose fields are `Task.options`."""

    beside: Sequence[nn.Module] = ()
    """None: labels need no other model."""

    pipeline: ClassVar[str | None] = None
    """What the Hugging Face hub calls models that do it, if it has one name for them."""
    long_texts: ClassVar[str] = "texts cut to {} tokens"
    """What becomes of rows of more tokens than `max_length`, in words."""
    form: ClassVar[tuple[str, ...]] = ()
    """Its options that decide in which form a model reads rows."""
    decides_loss: ClassVar[tuple[str, ...]] = ()
    """Its options, and fields of `Task`, that decide what the loss is of: under others it is no measure of a model."""
    decides_texts: ClassVar[tuple[str, ...]] = ()
    """Its options that decide how texts are written, of which no loss tells."""

    def __init__(self, task: Task, tokenizer: Any) -> None:
        """
        Raises:
            OptionError: The metric does not go with the problem, or an option does not exist or cannot be read.
            AdaptError: The tokenizer has no padding token.
        """
        check_metric(task.metric, task.problem)
        self.options = self.options_of(task)
        if tokenizer.pad_token_id is None:
            raise AdaptError("The tokenizer has no padding token, which batches need; set one and save it.")
        self.task = task
        self.tokenizer = tokenizer
        self.notes: list[str] = []
        """What a reader of the result must be told; filled by `encode`."""
        self.left_out = 0
        """Training rows of which nothing is learnt; counted by `encode`."""

    @classmethod
    def options_of(cls, task: Task) -> Any:
        """The `Options` of a task of this kind."""
        return fill(cls.Options, task.options, f"Task kind {task.kind}", "")

    @classmethod
    def most_target(cls, task: Task) -> int | None:
        """Tokens of a target at most, where rows have targets that are padded on their own; None: they have none."""
        return None

    @classmethod
    def selection(cls, metric: str) -> str | None:
        """The validation score by which the epoch is chosen where `metric` costs too much; None: `metric` itself."""
        return None

    @abstractmethod
    def encode(self, rows: datasets.Dataset, *, split: str | None = None) -> list[Example]:
        """Rows to token ids, in order; labels are taken along where the rows have them.

        Args:
            rows: Rows in canonical form (`adapt.data`).
            split: Which split they are, for windows that are made in training only, and for what is said of them;
                None: new rows to be predicted.
        """

    def unknown(self, examples: Sequence[Example], which: str = "the rows") -> list[str]:
        """What must be said of words of encoded rows, called `which`, that the tokenizer does not know, where they are
        many."""
        share = unknown_share(self.tokenizer, [example["input_ids"] for example in examples])
        if share < _MANY_UNKNOWN:
            return []
        return [
            f"{share:.0%} of the tokens of {which} stand for words that the tokenizer does not know; a backbone that "
            "was pretrained on their language and script would read them"
        ]

    def fit(self, examples: Sequence[Example]) -> None:
        """Take from the training rows what the loss needs (class weights, scale of the target), if anything."""

    def start(self, model: nn.Module) -> None:
        """Set what the fresh head of a model that was just built starts from, by what `fit` found, if anything."""

    def heed(self, model: nn.Module) -> None:
        """Give no row what a model that reads it, too, has no embedding for."""

    def state(self) -> dict[str, float]:
        """What `fit` found and prediction needs; plain values, saved with the model."""
        return {}

    def load_state(self, state: Mapping[str, float]) -> None:
        """Set back what `state` gave."""

    def go_on(self, state: Mapping[str, float]) -> list[str]:
        """Take over, after `fit`, what the outputs of a trained head mean: `state` of the model that it comes from.

        Returns:
            What must be said of it.
        """
        return []

    def end_of(self, columns: Collection[str]) -> int | None:
        """The token that ends what is learnt of rows with these canonical columns; None: the kind puts none there."""
        return None

    def writes(self, model: nn.Module) -> dict[str, int | list[int]]:
        """The tokens, by transformers' names, that the texts a model writes begin or end with, where the kind gives
        them and not the checkpoint."""
        return {}

    def beside_plain(self) -> list[str]:
        """What must be said to who uses a model by transformers or PEFT alone: how rows are written for it."""
        pair = (
            ["The second of two texts begins with a line break."] if self.task.pair and between(self.tokenizer) else []
        )
        own = {name: getattr(self.options, name) for name in self.form}
        return [*pair, *(f"Texts were written with {name} {value!r}." for name, value in own.items() if value)]

    def redraw(self, examples: Sequence[Example], seed: int, epoch: int) -> Sequence[Example]:
        """The training rows as an epoch (from 1) sees them, each as long as it was: as they are, unless the kind draws
        something of them anew by seed and epoch."""
        return examples

    @classmethod
    def planned_task(cls, task: Task) -> Task:
        """The task for planning: without what only a real tokenizer can be told and no size depends on."""
        return task

    @abstractmethod
    def examples(self, rows: int, length: int) -> list[Example]:
        """Made-up encoded rows of `length` tokens each, labelled, for planning: no tokenizer is asked."""

    @abstractmethod
    def loss(self, model: nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Mean loss of a batch, a float32 scalar."""

    def terms(self, examples: Sequence[Example]) -> int:
        """Rows or windows, unless it is tokens that are learnt; see `Lesson.terms`."""
        return len(examples)

    def planned(self, kind: Kind, stand_in: Callable[[nn.Module], nn.Module]) -> Lesson:
        """What `kind` learns, as this one does."""
        return kind

    @abstractmethod
    def score(self, outputs: Sequence[Any], examples: Sequence[Example]) -> dict[str, float]:
        """Metric name to value over labelled rows."""

    def digest(self, examples: Sequence[Example]) -> str | None:
        """A hash of what labelled rows ask for, where the tokenizer or options decide it; None: the rows alone do."""
        return None

    @abstractmethod
    def outcomes(self, outputs: Sequence[Any], examples: Sequence[Example]) -> list[Any]:
        """One small JSON value a row: what it adds to the metrics, which `adapt.metrics.jackknife` reads."""

    @abstractmethod
    def decode(self, outputs: Sequence[Any], examples: Sequence[Example]) -> list[dict[str, Any]]:
        """One readable prediction a row."""

    @abstractmethod
    def baseline(self, train: Sequence[Example], examples: Sequence[Example]) -> tuple[str, list[Any]] | None:
        """A prediction for `examples` that needs no model (majority, copy): its name and its outputs, as `outputs`
        gives them; None where there is none worth showing."""
