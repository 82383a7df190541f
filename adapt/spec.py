"""What decides a result, and the errors of bad input.

Every type here is a frozen dataclass whose constructor only stores. Nothing heavy is imported, so that the
command line can name, hash and list runs without loading torch.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, get_args, get_type_hints, runtime_checkable

from adapt.display import labelled, one_line, shows_fields

SCHEMA = 1
"""Number of the layout that `Run.key` hashes and that a result file holds; raised when either changes."""

Problem = Literal[
    "single_label", "multi_label", "regression", "spans", "tags", "answers", "text", "completion", "masked"
]  # fmt: skip
"""What is predicted of a row: one class, any number of classes, or a number (sequence classification); spans of tokens
in BIO tags, or a tag for each token (token classification); a part of a context (question answering); a text (seq2seq);
what follows a prompt (causal LM); tokens that are masked (masked LM)."""


class AdaptError(Exception):
    """Bad input or a run that cannot be done: one message that names the cause and says what to do."""


class DataError(AdaptError):
    """A file, row, column or label that cannot be used."""


class RowError(DataError):
    """A row that cannot be used.

    Args:
        row: Its number, from 0.
        split: Its split; None: new rows, to be predicted.
        message: What is wrong with it and what to do.
        text: Some of its text, by which it is found where rows were drawn.
    """

    def __init__(self, row: int, split: str | None, message: str, text: str = "") -> None:
        self.given = row, split, message, text
        where = f"Row {row + 1}" if split is None else f"Row {row + 1} of the {split} split"
        shown = f" ({text[:40]!r}{'...' if len(text) > 40 else ''})" if text else ""
        super().__init__(f"{where}{shown}: {message}")

    def after(self, rows: int) -> RowError:
        """The same error where so many rows came before."""
        row, split, message, text = self.given
        return RowError(row + rows, split, message, text)

    def __reduce__(self) -> tuple[type[RowError], tuple[int, str | None, str, str]]:
        """An exception is pickled by its arguments, which are not its message here."""
        return RowError, self.given


class OptionError(AdaptError):
    """An option, field or name that does not exist or whose value cannot be used."""


class FieldError(OptionError):
    """A field of a strategy that does not fit the backbone, which other strategies of a comparison may."""


class Unsupported(AdaptError):
    """A combination of strategy, task kind, backbone and device that cannot be had, with its reason."""


class Diverged(AdaptError):
    """The loss is no longer finite."""


class OutOfMemory(AdaptError):
    """Memory ran out, and nothing is left to be made smaller."""


@dataclass(frozen=True)
class Source:
    """Where something came from: its name and the hash of its content, never a path of this machine."""

    name: str
    """Hub name (of a backbone with `@` and the branch or tag that was asked for), or the last part of a local path."""
    sha256: str
    """Hash of the content (64 hexadecimal digits)."""


def texts_in_words(pair: bool) -> str:
    """What the rows of a task hold (`Task.pair`)."""
    return "pairs of texts" if pair else "single texts"


@shows_fields
@dataclass(frozen=True)
class Task:
    """A downstream task without its rows: what is predicted, from which data, and how it is judged."""

    name: str
    """Short readable name; in file names and tables."""
    data: Source
    """Name and content hash of the rows of all splits, before training rows are sampled."""
    kind: str = "sequence_classification"
    """Key in `adapt.tasks.KINDS`."""
    problem: Problem = "single_label"
    """One class of several, any number of labels, or a real number."""
    labels: tuple[str, ...] = ()
    """Label names in index order; empty for regression."""
    pair: bool = False
    """Whether rows hold two texts."""
    metric: str = "accuracy"
    """The validation score that chooses the epoch and stands in the table."""
    max_length: int = 128
    """Tokens of a row. Longer ones are cut; of tagged words, contexts and plain texts they are read in parts."""
    pooling: Literal["mean", "native"] = "native"
    """`mean` averages the last hidden states over tokens; `native` is the head transformers gives the family."""
    class_weights: Literal["none", "balanced"] = "none"
    """`balanced` weights the loss of a class by n / (classes that occur * count), as scikit-learn does; of a label that
    rows may have several of, by its rows without it over those with it, where it is there."""
    max_train: int | None = None
    """Training rows kept, a sample drawn with the run's seed; None keeps all."""
    few_shot: int | None = None
    """Training rows kept of each class, drawn with the run's seed; None keeps all."""
    rows: Mapping[str, int] = field(default_factory=dict)
    """Rows of each split before sampling."""
    selection: str | None = field(default=None, metadata={"neutral": None})
    """The validation score that chooses the epoch, where it is not `metric` (which may need slow generation)."""
    fold: tuple[int, int] | None = field(default=None, metadata={"neutral": None})
    """Of cross-validation: the number, from 1, of the fold that is the test split, and how many there are."""
    options: Mapping[str, Any] = field(default_factory=dict, metadata={"neutral": {}})
    """The kind's own options: fields of the `Options` of its class in `adapt.tasks.KINDS`."""

    def __repr__(self) -> str:
        return one_line(f"<Task {self.name}: {labelled(self.kind, self.problem, self.labels)}; by {self.metric}>")


@shows_fields
@dataclass(frozen=True)
class Budget:
    """How long and how a model is trained; the same for every strategy of a comparison, each of which may have a
    learning rate and a longer warm-up of its own."""

    epochs: int = 3
    """Passes over the training rows."""
    max_steps: int | None = None
    """Optimizer steps after which training ends even within an epoch; None: no such limit."""
    batch_size: int = 32
    """Rows of one forward pass; of rows that are longer than `max_length`, windows."""
    accumulation: int = 1
    """Forward passes to one optimizer step."""
    learning_rate: float | None = None
    """Peak learning rate; None: the strategy's default."""
    weight_decay: float = 0.01
    """Decoupled weight decay (AdamW, Loshchilov & Hutter 2019) on matrices, not on biases and norms."""
    warmup: float = 0.1
    """Share of all steps in which the learning rate rises linearly from zero; a strategy may have a longer one."""
    decay: Literal["linear", "cosine", "constant"] = "linear"
    """Course of the learning rate after warm-up."""
    clip: float = 1.0
    """Largest global L2 norm of the gradient; where tokens are learnt, of as many as rows have on average, for other
    numbers going with their square root."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Arithmetic of matrix products; trainable parameters are float32 in either case."""
    dropout: float | None = None
    """Dropout probability set throughout the backbone, not in the head; with 0 no layer is left out at random either
    (LayerDrop). None keeps the backbone's own."""
    patience: int | None = None
    """Epochs without a better validation score after which training stops; None: never early."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where it runs."""
    checkpointing: bool = field(default=False, metadata={"neutral": False})
    """Gradient checkpointing (Chen et al. 2016): activations are computed again in the backward pass."""
    loss_chunk: int | None = field(default=None, metadata={"neutral": None})
    """Tokens whose logits over the vocabulary are held at a time, with their gradient made beside them; None: those of
    the whole batch on CUDA, and as many as suit the caches on CPUs. For language models."""
    optimizer: Literal["adamw", "adamw_8bit", "paged_adamw_8bit"] = field(
        default="adamw", metadata={"neutral": "adamw"}
    )
    """AdamW with its two moments in float32, or in 8 bits by bitsandbytes (Dettmers et al. 2022), or those in memory
    that CUDA pages out to the host when it runs short (Dettmers et al. 2023)."""
    graphs: Literal["auto", "off"] = field(default="auto", metadata={"neutral": "auto"})
    """CUDA graphs: `auto` takes them where a step is bound by the launching of its kernels, as small models' are."""


class Load(Protocol):
    """Loads the backbone with the task's fresh head; what a strategy's `build` receives."""

    def __call__(self, *, frozen: bool = False, output_layer: bool = False, quantization_config: Any = None) -> Any:
        """Load the model: trainable throughout, or (`frozen`) in what is newly initialised only, or quantised as well.

        `output_layer`: a pretrained output layer (that of a language model) is trained too, untied from the input
        embeddings.
        """


class Strategy(Protocol):
    """One way of adapting a pretrained model: a frozen dataclass of hyper-parameters and `build`.

    A field that decides how a model is trained, not what it computes once it is, says so: metadata `{"course": True}`.
    A field `warmup`, a share of all steps, has the learning rate rise for as long where the budget's is shorter.
    """

    name: ClassVar[str]
    """The name on the command line."""

    @property
    def learning_rate(self) -> float | None:
        """Default peak learning rate; None where nothing is trained."""

    def build(self, load: Load, task: Task) -> Any:
        """Load a model and make trainable (`requires_grad`) exactly what this strategy trains, and the head."""


@runtime_checkable
class Checked(Protocol):
    """A strategy that can tell by its fields alone that they cannot be used."""

    def check(self) -> None:
        """
        Raises:
            OptionError: A field is out of range, or two do not go together, whatever the backbone.
        """


def computing(strategy: Any) -> dict[str, Any]:
    """Those fields of a strategy that decide what a trained model computes, not only how it is trained: all but the
    learning rate and those whose metadata have `course`."""
    fields = (f for f in dataclasses.fields(strategy) if f.name != "learning_rate" and not f.metadata.get("course"))
    return {f.name: getattr(strategy, f.name) for f in fields}


def fields_of(value: Any) -> dict[str, Any]:
    """The fields of a frozen dataclass as plain JSON values; a whole number given for a float is that float.

    A field whose metadata name a `neutral` value came later than the first results: it is left out where it has that
    value, so that those keep their keys. That need not be its default.
    """
    cls: Any = type(value)
    fields = json.loads(json.dumps(dataclasses.asdict(value)))
    for name, neutral in left_out(value).items():
        if fields[name] == neutral:
            del fields[name]
    for name, hint in hints_of(cls).items():
        if type(fields.get(name)) is int and (hint is float or float in get_args(hint)):
            fields[name] = float(fields[name])
    return fields


@functools.cache
def hints_of(cls: Any) -> dict[str, Any]:
    """The type of each field of a dataclass, not to be changed."""
    return get_type_hints(cls)


def left_out(cls: Any) -> dict[str, Any]:
    """The fields of a dataclass that `fields_of` leaves out, each with the value at which it does."""
    return {f.name: f.metadata["neutral"] for f in dataclasses.fields(cls) if "neutral" in f.metadata}


@shows_fields
@dataclass(frozen=True)
class Teacher:
    """The trained model that a student learns from beside the labels (Hinton et al. 2015)."""

    name: str
    """Readable name: its backbone and its strategy."""
    sha256: str
    """Hash of what decided its training and of the tensors that it gave (64 hexadecimal digits)."""
    temperature: float = 2.0
    """What both models' logits are divided by before their distributions are compared (section 2)."""
    weight: float = 0.5
    """Share of the loss that is the teacher's; the rest is that of the labels."""
    unlabelled_rows: int = 0
    """Further training rows, whose labels are what the teacher predicts."""
    unlabelled_sha256: str | None = None
    """Hash of these rows and labels."""


@shows_fields
@dataclass(frozen=True)
class Run:
    """Everything that decides a result; the environment is recorded with the result, not here."""

    backbone: Source
    task: Task
    strategy: Any
    budget: Budget
    seed: int
    teacher: Teacher | None = None
    general: Source | None = None
    """The texts on which it is measured what the backbone has forgotten."""
    start: Source | None = None
    """The adapted model whose trained tensors are the first values of this run's: name of its task, and the hash of its
    tensors and of what they predict. None: those of the backbone, and what the seed draws."""

    def __str__(self) -> str:
        return one_line(f"{self.strategy.name} on {self.backbone.name} for {self.task.name}, seed {self.seed}")

    def __repr__(self) -> str:
        return f"<Run: {self}>"

    def spec(self) -> dict[str, Any]:
        """Canonical form: nested plain values, the strategy as its name and fields (one that came later is left out at
        the value that earlier runs had); `teacher`, `general` and `start` where there is one."""
        given = {"teacher": self.teacher, "general": self.general, "start": self.start}
        return {
            "schema": SCHEMA,
            "backbone": fields_of(self.backbone),
            "task": fields_of(self.task),
            "strategy": {"name": self.strategy.name, **fields_of(self.strategy)},
            "budget": fields_of(self.budget),
            "seed": self.seed,
            **{name: fields_of(value) for name, value in given.items() if value is not None},
        }

    def key(self) -> str:
        """SHA-256 of the canonical form: two runs with the same key have the same result by the same state of the code.

        A result says which state it was (`environment`), and a table where it is not one. On the CPU a run has the same
        bits on the same machine with the same number of threads; on a GPU it has them up to the order in which
        attention's backward pass adds, for longer rows and in DeBERTa's, which
        `torch.use_deterministic_algorithms(True)` fixes too.
        """
        return key_of(self.spec())

    def filename(self) -> str:
        """Readable name of the result file, unique by the first 12 digits of the key."""
        safe = "".join(c if c.isalnum() or c in "-_." else "-" for c in self.task.name[:40])
        return f"{safe}-{self.strategy.name}-seed{self.seed}-{self.key()[:12]}.json"


def key_of(spec: Mapping[str, Any]) -> str:
    """The key of the run whose `spec()` this is."""
    return hashlib.sha256(canonical(spec).encode()).hexdigest()


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical(value: Any) -> str:
    """The one JSON text of a value: sorted keys, no white space, no NaN."""
    return _CANONICAL.encode(value)
