"""An adapted model: use it, save it, merge it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from adapt import params
from adapt.adapted.card import write_card
from adapt.backbones import Backbone
from adapt.backbones.classes import ends_at_padding
from adapt.backbones.exhausted import explained
from adapt.backbones.source import ADAPTED, ADAPTER, check_hides_none, has_model_type
from adapt.data import read_inputs
from adapt.data.kinds import given_roles
from adapt.data.learnt import Learnt
from adapt.display import labelled, shows_fields, with_notes
from adapt.files import path_of, writable_folder, write_atomically
from adapt.result import Result, text_of
from adapt.run import Fitted
from adapt.spec import SCHEMA, OptionError, RowError, Run, Unsupported
from adapt.strategies import is_known
from adapt.tasks.tokens import check_embedded, of_split

MODEL_FILE = ADAPTED
_CHUNK = 1024
"""Rows encoded and predicted at a time, so that a file of any size fits in memory."""


@shows_fields
@dataclass(frozen=True, eq=False)
class Adapted:
    """A trained model with its tokenizer, task and result. It equals itself alone, and can be a key of a dict."""

    fitted: Fitted
    run: Run
    backbone: Backbone
    result: Result | None
    """Scores and costs of the training; None after loading."""
    earlier: dict[str, Any] | None = None
    """After loading: what `result.json` says, which is saved again with the model."""
    columns: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Role to column, as named in training: where rows to be predicted have one of that name, it is taken."""
    learnt: Learnt | None = None
    """The rows that it was trained on, and those of a model that it went on from or that taught it, by their hashes;
    None: it, or one of these, was saved by an earlier version, which did not say."""

    def __repr__(self) -> str:
        task, record = self.run.task, self.record or {}
        scores = "".join(
            f", {split} {task.metric} {of[task.metric]:.4f}"
            for split, of in record.get("scores", {}).items() if task.metric in of
        )  # fmt: skip
        said = f"<Adapted: {self.run}; {labelled(task.kind, task.problem, task.labels)}{scores}>"
        return with_notes(said, record.get("notes", ()))

    @property
    def record(self) -> dict[str, Any] | None:
        """The content of its result file, if it has one."""
        return self.earlier if self.result is None else self.result.to_json()

    @property
    def key(self) -> str:
        """Key of the run that trained it, which is not that of `run` where it was loaded on another device."""
        return self.run.key() if self.earlier is None else str(self.earlier["key"])

    def predict(
        self,
        rows: Any,
        columns: Mapping[str, str] | None = None,
        *,
        text: str | None = None,
        text_pair: str | None = None,
    ) -> list[dict[str, Any]]:
        """Predictions in input order.

        Args:
            rows: A list of texts or of pairs of texts, of lists of words (token classification), of pairs (question,
                context), of prompts or of conversations; or anything that `adapt.data.read_inputs` reads.
            columns: What a column is for to its name, where that is unusual and not as it was in training.
            text: The name of the text's column, or of the first of two, likewise.
            text_pair: That of the second text of a pair.

        Returns:
            For each row what the task kind's `decode` gives: for classification `label` and `probabilities` by label
            name; `labels` for multi-label; `value` for regression. Names of labels are texts, also where they were
            numbers in the data (`'1'`).

        Raises:
            DataError: A row is empty or not what the task kind needs.
            OptionError: A column is named for what rows of this kind do not have.
            OutOfMemory: One row does not fit.
        """
        return list(self.iterate(rows, given_roles(columns, {"text": text, "text_pair": text_pair})))

    def iterate(
        self,
        source: Any,
        columns: Mapping[str, str] | None = None,
        on_done: Callable[[int, int], None] = lambda done, total: None,
    ) -> Iterator[dict[str, Any]]:
        """As `predict`, chunk after chunk; `on_done` is told of rows that are done, and all."""
        from adapt.training import predict

        rows = read_inputs(source, self.run.task, columns, self.columns)

        def told(start: int, size: int, examples: int, done: int) -> None:  # long rows are several examples
            on_done(start + done * size // examples, len(rows))

        for start in range(0, len(rows), _CHUNK):
            size = min(_CHUNK, len(rows) - start)
            try:
                examples = self.fitted.kind.encode(rows.select(range(start, start + size)))
                check_embedded(self.fitted.model, self.fitted.tokenizer, examples)
            except RowError as error:
                raise error.after(start) from None
            outputs = predict(
                self.fitted.model, self.fitted.kind, examples, self.run.budget,
                on_done=partial(told, start, size, len(examples)),
            )  # fmt: skip
            yield from self.fitted.kind.decode(outputs, examples)

    @property
    def notes(self) -> list[str]:
        """What must be said of the rows predicted so far, such as how many texts were cut."""
        counts: dict[str, int] = {}
        for note in self.fitted.kind.notes:
            number, _, what = note.partition(" ")
            if f" of {of_split(None)} " in note and number.isdigit():
                counts[what] = counts.get(what, 0) + int(number)
        return [f"{number} {what}" for what, number in counts.items()]

    def save(self, folder: str | Path) -> Path:
        """Write what is trained (safetensors) and what rebuilds the rest; `adapt.load(folder)` reads it.

        Strategies that build on PEFT write their adapter in PEFT's format to `folder/peft` too. `README.md` is a card
        with scores and costs, unless there is one by somebody else. `adapt.json` is written after all that a model
        needs and holds the hash of the tensors, so that a folder cut short is never taken for whole; a model that was
        there stays where there is no room for these. It also holds short hashes of training rows without their labels,
        50,000 at most, by which it is seen whether rows that are scored are among them.

        Raises:
            OptionError: The folder cannot be written, is the backbone's own, or holds a model of transformers.
        """
        check_hides_none(folder, self.backbone.reference)
        path = model_folder(folder, self.backbone.path)
        result, strategy = self.record, self.run.strategy
        size = params.save(self.fitted.model, path)
        for old in (MODEL_FILE, "result.json", "peft/adapter_config.json", "peft/adapter_model.safetensors"):
            try:
                (path / old).unlink(missing_ok=True)
            except OSError as error:
                raise OptionError(f"{path / old} cannot be replaced: {error.strerror}; give another folder.") from error
        export = getattr(strategy, "export", None)
        if export is not None:
            export(self.fitted.model, path / "peft", self.backbone.found_again_by)
        if result is not None:
            write_atomically(path / "result.json", text_of(result))
        content = {
            "schema": SCHEMA,
            "reference": self.backbone.found_again_by,
            "kind_state": self.fitted.kind.state(),
            "sha256": sha256_of(path / params.STATE_FILE),
            "bytes": size,
            "columns": dict(self.columns),
            "learnt": None if self.learnt is None else self.learnt.content(),
            "own_strategy": None if is_known(strategy) else type(strategy).__name__,
            "spec": self.run.spec(),
        }
        write_atomically(path / MODEL_FILE, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
        self._write_card(path)  # last: what goes wrong with it takes no model along
        return path

    def merge(self, folder: str | Path) -> Path:
        """Write a plain transformers model, float32, with the adaptation merged into the weights, and the tokenizer.

        The class for the task kind (`AutoModelForSequenceClassification`, ...) loads it without this package, with the
        same outputs for the same token ids: to rounding where training was in float32, nearly where it was in bfloat16
        or the backbone in 8 bits. The card says how texts are written for it, and for regression, whose output is the
        target in standard deviations from its mean over the training rows, what these are; so does `regression_scale`
        of the configuration.

        Raises:
            Unsupported: The strategy adds to the model what no weight can hold, or does not say how it is merged; the
                backbone's own weights are quantised; or transformers has no class for its head (mean pooling).
            OptionError: The folder cannot be written, is the backbone's own, or holds a saved model or an adapter.
            AdaptError: The backbone is gone, or has changed.
            OutOfMemory: Memory ran out.
        """
        from adapt.backbones.plain import save_plain

        merge = merging(self.run)
        budget = dataclasses.replace(self.run.budget, precision="fp32", dropout=None, device="cpu")
        loader = dataclasses.replace(self.fitted.loader, budget=budget)
        if loader.quantised() is not None:
            raise Unsupported(
                "a model whose backbone's own weights are quantised cannot be merged; keep the saved model, or fit "
                "on the backbone as it was before"
            )
        check_hides_none(folder, self.backbone.reference)
        check_holds_no_other(folder, merged=True)
        self.backbone.check_unchanged()
        with explained("while the model was merged", _MORE_MEMORY):
            plain = merge(self.fitted.model, loader)
        if self.run.task.kind == "sequence_classification":  # which transformers' pipelines go by
            problem = self.run.task.problem
            plain.config.problem_type = problem if problem == "regression" else f"{problem}_classification"
            if problem == "regression":
                plain.config.regression_scale = self.fitted.kind.state()
        path = model_folder(folder, self.backbone.path, merged=True)
        save_plain(plain, loader, path, self.fitted.kind.writes(self.fitted.model))
        self._write_card(path, type(plain).__name__)
        return path

    def _write_card(self, path: Path, plain: str | None = None) -> None:
        """The card of what is in a folder; `plain`: the class of transformers of a merged model."""
        kind = self.fitted.kind
        scale = kind.state() if self.run.task.problem == "regression" else None
        beside = kind.beside_plain()
        if plain is None:
            told = getattr(self.run.strategy, "beside_export", None)
            beside = [*beside, *self._padding(), *(told(self.fitted.model) if told else [])]
        in_code = getattr(self.run.strategy, "base_in_code", None) if plain is None else None
        write_card(
            path, self.run, self.record, hub=self.backbone.hub_name, plain=plain, scale=scale, beside=beside,
            base=in_code(self.fitted.model) if in_code else (),
        )  # fmt: skip

    def _padding(self) -> list[str]:
        """What who puts an adapter on the backbone must set, where that finds the end of a row by its padding."""
        if self.run.task.pooling == "mean":
            return []
        own, padding = self.fitted.loader.config(dropout=False), self.fitted.tokenizer.pad_token_id
        if not ends_at_padding(self.run.task.kind, own) or getattr(own, "pad_token_id", None) == padding:
            return []
        return [f"Set model.config.pad_token_id = {padding}, the token that rows are padded with, to find their ends."]


_MORE_MEMORY = "use a machine with more memory, for a copy of the whole model in float32 is made"


def merging(run: Run) -> Callable[[Any, Any], Any]:
    """How a strategy merges what it trained into the weights: from the model and a loader to a plain model.

    Raises:
        Unsupported: It does not, or the task pools in a way that transformers has no class for.
    """
    merge = getattr(run.strategy, "merge", None)
    if merge is None and not is_known(run.strategy):
        raise Unsupported(
            f"'{run.strategy.name}', a strategy of your own, does not say how it is merged; give it a method "
            "merge(model, load), or keep the saved model"
        )
    if merge is None:
        raise Unsupported(
            f"'{run.strategy.name}' cannot be merged: it adds to the model what its weights cannot hold; keep the "
            "saved model, or use LoRA"
        )
    if run.task.pooling == "mean":
        raise Unsupported(
            "a model with mean pooling cannot be merged: transformers has no class for it; keep the saved model, "
            "or fit with pooling='native'"
        )
    return merge


def model_folder(folder: str | Path, backbone: Path, *, merged: bool = False) -> Path:
    """A folder that a model may be written to, which that of its backbone is not.

    Args:
        folder: What somebody gives.
        backbone: The folder of the backbone.
        merged: The model is a plain one of transformers, else a saved one.

    Raises:
        OptionError: It cannot be written, is the backbone's own, or, as for `check_holds_no_other`, has another model.
    """
    if path_of(folder).resolve() == backbone.resolve():
        raise OptionError(f"{folder} is the folder of the backbone, which must stay as it is; give another.")
    check_holds_no_other(folder, merged=merged)
    return writable_folder(path_of(folder))


def check_holds_no_other(folder: str | Path, *, merged: bool) -> None:
    """Nothing is written.

    Raises:
        OptionError: The folder holds a model of the other sort, which one that is written there would be read as, or an
            adapter that a merged one would be loaded with.
    """
    path = path_of(folder)
    if (path / MODEL_FILE).is_file() if merged else has_model_type(path):
        held, own = ("saved model", "merged") if merged else ("model of transformers", "saved")
        raise OptionError(f"{folder} holds a {held}, which the {own} one would be taken for; give another folder.")
    if merged and (path / ADAPTER).is_file():
        raise OptionError(
            f"{folder} holds an adapter of PEFT, which transformers would load with the merged model; give another "
            "folder."
        )


def sha256_of(file: Path) -> str:
    """The hash of a file's content, in hexadecimal digits."""
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
