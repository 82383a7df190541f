"""One run from its spec to its result: seed, data, build, fit, score."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapt import params
from adapt.backbones import Loader
from adapt.backbones.checkpointing import weight_bits
from adapt.backbones.exhausted import asked_for, explained, is_out_of_memory
from adapt.data import Data
from adapt.data.table import column_of
from adapt.environment import code_state, environment
from adapt.fields import fill
from adapt.inputs import Encoded, Inputs
from adapt.memory.budget import shown
from adapt.metrics import LOWER_IS_BETTER
from adapt.options import seed_of
from adapt.result import FOUND_FEATURES, Result
from adapt.spec import (
    AdaptError,
    Budget,
    Diverged,
    FieldError,
    OutOfMemory,
    Run,
    Source,
    Strategy,
    Task,
    Teacher,
    Unsupported,
)
from adapt.strategies import remade
from adapt.tasks import Kind
from adapt.tasks.tokens import check_embedded

if TYPE_CHECKING:
    from torch import nn

    from adapt.training import Trained

OnStep = Callable[[int, int, float], None]
OnNote = Callable[[str], None]


def _warn(note: str) -> None:
    warnings.warn(note, stacklevel=3)


@dataclass(frozen=True)
class Fitted:
    """A trained model with what is needed to use it."""

    model: nn.Module
    kind: Kind
    tokenizer: Any
    loader: Loader


def run(spec: Run, inputs: Inputs, on_step: OnStep | None = None, on_note: OnNote = _warn) -> Result:
    """Train and score; what goes wrong for a reason of this run alone becomes the result's status.

    Args:
        spec: Everything that decides the result.
        inputs: What it is done with.
        on_step: Called after each optimizer step with steps done, steps in all, and the loss.
        on_note: Told before the first step what is foreseen.

    Returns:
        A result with status `ok`, `unsupported`, `diverged` or `out_of_memory`.

    Raises:
        AdaptError: Bad input, which no other run of the comparison would survive either.
    """
    notes: list[str] = []

    def noted(note: str) -> None:
        notes.append(note)
        on_note(note)

    def ended(status: Any, error: Exception) -> Result:
        return Result(run=spec, status=status, reason=str(error), notes=notes, environment=environment(spec))

    try:
        return fit(spec, inputs, on_step, noted)[0]
    except (Unsupported, FieldError) as error:
        return ended("unsupported", error)
    except Diverged as error:
        return ended("diverged", error)
    except OutOfMemory as error:
        return ended("out_of_memory", error)
    except (RuntimeError, OSError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return ended("out_of_memory", OutOfMemory(f"memory ran out{asked_for(error)}; use a smaller backbone"))


def fit(spec: Run, inputs: Inputs, on_step: OnStep | None = None, on_note: OnNote = _warn) -> tuple[Result, Fitted]:
    """Train and score, and keep the model; see `run` for the arguments.

    Raises:
        Unsupported: The combination cannot be had.
        Diverged: The loss is not finite.
        OutOfMemory: The model, or one row of training or scoring, does not fit.
        AdaptError: Bad input.
    """
    import torch

    from adapt.backbones.memoise import fold, hand_on, release, share
    from adapt.backbones.seen import only_seen_words
    from adapt.memory.foresee import foresee
    from adapt.memory.observe import observe
    from adapt.training import Trained, train
    from adapt.training.batching import largest
    from adapt.training.peak import PeakMemory

    code_state()  # of what is imported, whatever is written there meanwhile
    task, budget, begin = spec.task, spec.budget, inputs.begin
    if budget.device == "cuda" and not torch.cuda.is_available():
        raise Unsupported("device 'cuda' was asked for, but torch finds no CUDA device; use --device cpu")
    loader = Loader(inputs.backbone, task, budget, spec.seed)
    encoded = inputs.encoded(spec)
    kind, splits = encoded.kind, encoded.splits
    kind.fit(splits["train"])
    lesson = kind if encoded.lesson is None else encoded.lesson()

    foreseen = foresee(spec, inputs.backbone, splits["train"], lesson)
    if foreseen is not None:
        on_note(foreseen)
    before = PeakMemory(budget.device).now()
    torch.manual_seed(spec.seed)
    with explained(
        "while the model was loaded", "use a smaller backbone, precision bf16 or a backbone in 8 or 4 bits (qlora)"
    ):
        model = spec.strategy.build(loader, task)
        kind.start(model)
    check(model)
    for split, rows in splits.items():
        check_embedded(model, kind.tokenizer, rows, split)
    assert (begin is None) == (spec.start is None)  # or the result would claim a start that it did not have
    begun = [] if begin is None else begin(model, kind)
    shelf = _shelf_of(model, loader, inputs.features)
    if shelf is not None:
        share(model, shelf)
    trainable, total = params.count(model)
    selection = task.selection or task.metric
    trained, memory, learning_rate, words, told = Trained(), dict[str, Any](), None, None, list[str]()
    if spec.strategy.learning_rate is not None:  # else the strategy says that nothing is trained
        learning_rate = spec.strategy.learning_rate if budget.learning_rate is None else budget.learning_rate
        with only_seen_words(model, splits["train"], kind.tokenizer.pad_token_id) as words:
            trained = train(
                model,
                kind,
                splits["train"],
                splits.get("validation", []),
                replace(budget, warmup=max(budget.warmup, getattr(spec.strategy, "warmup", 0.0))),
                learning_rate=learning_rate,
                metric=selection,
                higher_is_better=selection not in LOWER_IS_BETTER,
                seed=spec.seed,
                on_step=on_step,
                lesson=lesson,
            )
            hand_on(model)
            at_a_time = trained.micro_batch or budget.batch_size
            memory, measured = observe(model, lesson, splits["train"], budget, at_a_time)
            if 0 < measured < min(at_a_time, largest(len(splits["train"]), budget.batch_size, budget.accumulation)):
                told.append(
                    f"{spec.strategy.name}: peak memory is that of {measured} rows at a time, for as many of the "
                    "longest as a batch may have did not fit"
                )
        if shelf is not None:  # a memo is empty after a look at it
            share(model, shelf)
    fold(model)  # what is scored is the model as it is handed over
    scored = _scored(spec, inputs.data, encoded, model, trained)
    notes = [*begun, *_told(spec, foreseen, trained), *told]
    if hand_on(model):
        notes.append(f"{spec.strategy.name} {FOUND_FEATURES}")
    rows_trained = trained.rows * encoded.train_rows / len(splits["train"])
    result = Result(
        run=spec,
        status="ok",
        learning_rate=learning_rate,
        trainable=trainable,
        total=total,
        head=getattr(model, "head_size", None),
        seen_words=words,
        saved_bytes=params.saved_bytes(model),
        memory=memory,
        process_bytes=trained.process_bytes,
        baseline_bytes=before,
        train_seconds=trained.seconds,
        examples_per_second=rows_trained / trained.seconds if trained.seconds else None,
        micro_batch=trained.micro_batch,
        best_epoch=trained.best_epoch,
        curve=trained.curve,
        notes=[*inputs.data.notes, *loader.notes, *kind.notes, *notes],
        environment={**environment(spec), "train_rows": encoded.train_rows},
        **scored,
    )
    release(model)
    if spec.general is not None:
        result = _with_forgetting(result, model, loader, inputs.general)
    return result, Fitted(model, kind, loader.tokenizer(), loader)


def _shelf_of(model: nn.Module, loader: Loader, features: Path | None) -> Path | None:
    """The folder, within `features`, of the runs that have the same features of a row; None where none is shared.

    They are the same to the last bit only in bfloat16 on the CPU, and of most families: elsewhere these depend on the
    batch a row comes in.
    """
    import torch

    from adapt.backbones.families import computes_by_row
    from adapt.backbones.shelf import name_of

    task, budget = loader.task, loader.budget
    if features is None or budget.device != "cpu" or budget.precision != "bf16" or weight_bits(model) == 8:
        return None
    if not computes_by_row(loader.config(dropout=False)):
        return None
    decides = [loader.backbone.source.sha256, task.kind, task.pooling, loader.attention(), torch.get_num_threads()]
    return features / name_of(decides)


def _scored(spec: Run, data: Data, encoded: Encoded, model: nn.Module, trained: Trained) -> dict[str, Any]:
    """The result's fields about scores: of validation at the epoch chosen, and of the last split, which is test where
    there is one."""
    from adapt.training import predict

    kind, splits = encoded.kind, encoded.splits
    scores: dict[str, dict[str, float]] = {}
    found: dict[str, Any] = {"scores": scores, "evaluate_seconds": trained.evaluate_seconds}
    if trained.best_epoch is not None:
        scores["validation"] = dict(trained.curve[trained.best_epoch - 1]["validation"])
    last = "test" if splits.get("test") else "validation"
    if last == "test" or (splits.get(last) and spec.task.metric not in scores.get(last, {})):
        started = time.perf_counter()
        outputs = predict(model, kind, splits[last], spec.budget)
        found["predicted_per_second"] = len(data.splits[last]) / (time.perf_counter() - started)
        scores[last] = scores.get(last, {}) | kind.score(outputs, splits[last])
        found["evaluate_seconds"] += time.perf_counter() - started
        if last == "test":
            found["test_outcomes"] = kind.outcomes(outputs, splits[last])
            found["test_groups"] = data.test_groups
    labelled = splits["train"] if encoded.labelled is None else encoded.labelled
    if spec.task.few_shot is not None:  # of which no class is more frequent
        labelled = [{"label": label} for label in column_of(data.splits["train"], "label")]
    if splits.get(last) and (simple := kind.baseline(labelled, splits[last])) is not None:
        found["baseline"] = {"name": simple[0], "scores": kind.score(simple[1], splits[last])}
        if spec.task.fold and last == "test":  # whose scores alone would not give that of all folds together
            found["baseline"]["outcomes"] = kind.outcomes(simple[1], splits[last])
    return found


def _told(spec: Run, foreseen: str | None, trained: Trained) -> list[str]:
    """What a reader is told of how training went; in a table it stands beside other strategies' notes."""
    name, notes = spec.strategy.name, [foreseen] if foreseen else []
    if trained.micro_batch is not None:
        notes.append(
            f"{name} ran out of memory with {spec.budget.batch_size} rows at a time and went on with "
            f"{trained.micro_batch}, with the same rows in each optimizer step"
        )
    if trained.graphs:
        held = (
            "" if trained.process_bytes is None else f", with which tensors held up to {shown(trained.process_bytes)}"
        )
        notes.append(
            f"{name}: batches of {trained.graphs} shapes ran as CUDA graphs{held}; the peak is of a step without any"
        )
    if trained.held_bytes:
        notes.append(
            f"{name} held the weights of its best epoch in memory, {shown(trained.held_bytes)} beside the peak, "
            "because no folder for temporary files (TMPDIR) on a disk had room for them"
        )
    return notes


def _with_forgetting(result: Result, model: nn.Module, loader: Loader, texts: Sequence[str]) -> Result:
    """The result with what the model has forgotten of general texts, or a note that says why that is not known."""
    from adapt.training.forgetting import forgetting

    try:
        return replace(result, forgetting=forgetting(model, loader, texts))
    except (Diverged, OutOfMemory) as error:
        note = f"{result.run.strategy.name}: forgetting was not measured: {error}"
    except AdaptError as error:  # true of the backbone, under every strategy
        note = f"forgetting was not measured: {error}"
    except Exception as error:  # of a head that nobody has tried; it must not cost the result
        note = f"forgetting was not measured: {type(error).__name__}: {error}"
    return replace(result, notes=[*result.notes, note])


def check(model: nn.Module) -> None:
    """Every strategy's promise: what is trainable is in float32.

    Raises:
        AdaptError: It does not hold.
    """
    import torch

    wrong = [name for name, p in params.trainable(model).items() if p.dtype != torch.float32]
    if wrong:
        raise AdaptError(
            f"Trainable parameters must be float32; these are not: {', '.join(wrong[:5])}. A strategy gets them so by "
            "load() without `frozen`."
        )


def run_from(spec: Mapping[str, Any], own: Strategy | None = None) -> Run:
    """The run whose `spec()` this is.

    Args:
        spec: The canonical form.
        own: Its strategy, where that is none of the library's.

    Raises:
        OptionError: It names a strategy or a field that does not exist, or a value has not the type of its field.
    """
    types = {
        "backbone": Source, "task": Task, "budget": Budget, "teacher": Teacher, "general": Source, "start": Source,
    }  # fmt: skip
    given = {name: fill(cls, spec[name], f"The {name}", f"{name}.") for name, cls in types.items() if name in spec}
    own = remade(spec["strategy"]) if own is None else own
    return Run(strategy=own, seed=seed_of(spec["seed"]), **given)
