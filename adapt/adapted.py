"""An adapted model: fit it, use it, save it, load it."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

from adapt import options, params
from adapt.backbones import Backbone, Loader, resolve
from adapt.backbones.source import MINILM, SHIPPED
from adapt.data import Data, load, read_inputs
from adapt.data.general import General, read_general
from adapt.files import output_file, whole, writable_folder, write_atomically
from adapt.run import Fitted, OnStep, fit, run_from
from adapt.spec import (
    SCHEMA,
    AdaptError,
    DataError,
    OptionError,
    Result,
    RowError,
    Run,
    Strategy,
    Unsupported,
    fields_of,
    text_of,
)
from adapt.strategies import SHIPPED_SETTINGS, is_known, make
from adapt.tasks import KINDS
from adapt.tasks.general import text_rows
from adapt.tasks.tokens import of_split

MODEL_FILE = "adapt.json"
PREDICTION_FILES = (".jsonl", ".csv", ".tsv")
"""How the name of a file of predictions may end."""
_CHUNK = 1024
"""Rows encoded and predicted at a time, so that a file of any size fits in memory."""


@dataclass(frozen=True)
class Adapted:
    """A trained model with its tokenizer, task and result."""

    fitted: Fitted
    run: Run
    backbone: Backbone
    result: Result | None
    """Scores and costs of the training; None after loading."""
    earlier: dict[str, Any] | None = None
    """After loading: what `result.json` says, which is saved again with the model."""
    columns: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Role to column, as named in training: where rows to be predicted have one of that name, it is taken."""

    def predict(self, rows: Any) -> list[dict[str, Any]]:
        """Predictions in input order.

        Args:
            rows: A list of texts or of pairs of texts, of lists of words (token classification), of pairs (question,
                context), of prompts or of conversations; or anything that `adapt.data.read_inputs` reads.

        Returns:
            For each row what the task kind's `decode` gives: for classification `label` and `probabilities` by label
            name; `labels` for multi-label; `value` for regression.

        Raises:
            DataError: A row is empty or not what the task kind needs.
        """
        return list(self.iterate(rows))

    def iterate(self, source: Any, columns: Mapping[str, str] | None = None) -> Iterator[dict[str, Any]]:
        """As `predict`, chunk after chunk; `columns` is that of `adapt.data.read_inputs`."""
        from adapt.training import predict

        rows = read_inputs(source, self.run.task, columns, self.columns)
        for start in range(0, len(rows), _CHUNK):
            try:
                examples = self.fitted.kind.encode(rows.select(range(start, min(start + _CHUNK, len(rows)))))
            except RowError as error:
                raise error.after(start) from None
            outputs = predict(self.fitted.model, self.fitted.kind, examples, self.run.budget)
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

        Strategies that build on PEFT write their adapter in PEFT's format to `folder/peft` too. `adapt.json` is
        written last and holds the hash of the tensors, so that a folder cut short is never taken for whole.

        Raises:
            OptionError: The folder cannot be written, or is the backbone's own.
        """
        path = model_folder(folder, self.backbone.path)
        result = self.result.to_json() if self.result is not None else self.earlier
        strategy = self.run.strategy
        for old in (MODEL_FILE, "result.json", "peft/adapter_config.json", "peft/adapter_model.safetensors"):
            (path / old).unlink(missing_ok=True)
        size = params.save(self.fitted.model, path)
        export = getattr(strategy, "export", None)
        if export is not None:
            export(self.fitted.model, path / "peft", self._reference())
        if result is not None:
            write_atomically(path / "result.json", text_of(result))
        content = {
            "schema": SCHEMA,
            "reference": self._reference(),
            "kind_state": self.fitted.kind.state(),
            "sha256": _sha256(path / params.STATE_FILE),
            "bytes": size,
            "columns": dict(self.columns),
            "own_strategy": None if is_known(strategy) else type(strategy).__name__,
            "spec": self.run.spec(),
        }
        write_atomically(path / MODEL_FILE, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
        return path

    def merge(self, folder: str | Path) -> Path:
        """Write a plain transformers model, float32, with the adaptation merged into the weights, and the tokenizer.

        The class for the task kind (`AutoModelForSequenceClassification`, ...) loads it with the same outputs, without
        this package. For regression its output is the target in standard deviations from its mean over the training
        rows.

        Raises:
            Unsupported: The strategy adds to the model what no weight can hold, or does not say how it is merged; the
                backbone's own weights are quantised; or transformers has no class for its head (mean pooling).
            OptionError: The folder cannot be written, or is the backbone's own.
        """
        from adapt.backbones.plain import save_plain

        strategy = self.run.strategy
        merge = getattr(strategy, "merge", None)
        if merge is None and not is_known(strategy):
            raise Unsupported(
                f"'{strategy.name}', a strategy of your own, does not say how it is merged; give it a method "
                "merge(model, load), or keep the saved model"
            )
        if merge is None:
            raise Unsupported(
                f"'{strategy.name}' cannot be merged: it adds to the model what its weights cannot hold; keep the "
                "saved model, or use LoRA"
            )
        if self.run.task.pooling == "mean":
            raise Unsupported(
                "a model with mean pooling cannot be merged: transformers has no class for it; keep the saved model, "
                "or fit with pooling='native'"
            )
        budget = dataclasses.replace(self.run.budget, precision="fp32", dropout=None, device="cpu")
        loader = dataclasses.replace(self.fitted.loader, budget=budget)
        if loader.quantised() is not None:
            raise Unsupported(
                "a model whose backbone's own weights are quantised cannot be merged; keep the saved model, or fit "
                "on the backbone as it was before"
            )
        plain = merge(self.fitted.model, loader)
        if self.run.task.kind == "sequence_classification":  # which transformers' pipelines go by
            problem = self.run.task.problem
            plain.config.problem_type = problem if problem == "regression" else f"{problem}_classification"
        path = model_folder(folder, self.backbone.path)
        save_plain(plain, loader, path)
        return path

    def _reference(self) -> str:
        """Where the backbone is found from any working folder."""
        reference = self.backbone.reference
        local = reference not in {*SHIPPED, MINILM} and Path(reference).expanduser().is_dir()
        return str(self.backbone.path.resolve()) if local else reference


def model_folder(folder: str | Path, backbone: Path) -> Path:
    """A folder that a model may be written to, which that of its backbone is not.

    Raises:
        OptionError: It cannot be written, or is the backbone's own.
    """
    path = Path(folder).expanduser()
    if path.resolve() == backbone.resolve():
        raise OptionError(f"{folder} is the folder of the backbone, which must stay as it is; give another.")
    return writable_folder(path)


def preset(backbone: str | Path, kind: str, strategy: str, rate: float | None) -> Mapping[str, Any]:
    """Fields of a strategy given by its name that suit a shipped backbone, which is tiny; none for any other.

    Nor where there is a rate for all: a run is the same run however its strategy was given.
    """
    return SHIPPED_SETTINGS.get(kind, {}).get(strategy, {}) if backbone in SHIPPED and rate is None else {}


def fit_model(
    backbone: str | Path,
    data: Any,
    strategy: Strategy | str = "lora",
    *,
    seed: int = 0,
    general: Any = None,
    on_step: OnStep | None = None,
    **choices: Any,
) -> Adapted:
    """Adapt a backbone to data; the public `adapt.fit`.

    Args:
        backbone: Shipped name, local folder or hub name (see `adapt.backbones.resolve`).
        data: `Data`, or anything that `adapt.data.load` reads.
        strategy: A strategy, or its name. On shipped backbones, which are tiny, one given by its name has a learning
            rate that suits them (`adapt.strategies.SHIPPED_SETTINGS`).
        seed: Decides the sample, the head's initialisation and the order of rows.
        general: Texts on which it is measured what the backbone has forgotten (`Result.forgetting`): a file of plain
            text, one text a line, or whatever else `adapt.data.general.read_general` reads.
        on_step: Called after each optimizer step with steps done, steps in all, and the loss.
        choices: Fields of `adapt.spec.Budget` (`epochs`, `batch_size`, `learning_rate`, `precision`, ...) and of
            the task (`metric`, `max_length`, `pooling`, `class_weights`, `max_train`, `few_shot`), and the options of
            its kind (fields of `adapt.tasks.KINDS[kind].Options`).

    Raises:
        AdaptError: Bad input, an unsupported combination, or a loss that is not finite.
    """
    own = [] if isinstance(strategy, str) else [options.check_strategy(strategy)]
    options.check_rates(choices.get("learning_rate"), own)
    texts = None if general is None else read_general(general)
    spec, rows, source = assemble(backbone, data, strategy, seed=seed, **choices)
    spec = with_general(spec, texts, source)
    result, fitted = fit(spec, rows, source, on_step, general=texts.texts if texts else ())
    return Adapted(fitted, spec, source, result, columns=rows.columns)


def with_general(run: Run, general: General | None, backbone: Backbone) -> Run:
    """The run with texts on which it is measured what its backbone has forgotten, if there are any.

    Raises:
        DataError: None of them has two tokens.
        OptionError: Texts are cut to less than the tokenizer's own tokens.
    """
    if general is None:
        return run
    tokenizer, most, some = backbone.tokenizer, run.task.max_length, 1000
    if not any(text_rows(tokenizer, general.texts[i : i + some], most) for i in range(0, len(general.texts), some)):
        raise DataError(
            f"{general.source.name}: no text has two tokens within {run.task.max_length}; give longer ones, one a line."
        )
    return dataclasses.replace(run, general=general.source)


def assemble(
    backbone: str | Path, data: Any, strategy: Strategy | str, *, seed: int = 0, **choices: Any
) -> tuple[Run, Data, Backbone]:
    """Everything that decides a run, checked; see `fit_model` for the arguments."""
    if isinstance(strategy, str):
        make(strategy)  # a mistyped name is found before the data is read
    budget = options.budget_of(**{n: v for n, v in choices.items() if n in options.BUDGET_FIELDS})
    rows = data if isinstance(data, Data) else load(data)
    if isinstance(strategy, str):
        strategy = make(strategy, preset(backbone, rows.kind, strategy, budget.learning_rate))
    chosen = options.check_strategy(strategy)
    options.check_budget(budget, rows.kind)
    choices = {name: options.plain(value) for name, value in choices.items()}
    own = {n: v for n, v in choices.items() if n not in options.BUDGET_FIELDS and n not in options.TASK_OPTIONS}
    known = [f.name for f in dataclasses.fields(KINDS[rows.kind].Options)]
    for name in own.keys() - set(known):
        if name in signature(load).parameters:
            raise OptionError(f"'{name}' is an option of adapt.data.load; give what that returns as data.")
        every = ", ".join((*options.BUDGET_FIELDS, *options.TASK_OPTIONS, *known))
        raise OptionError(f"There is no option '{name}' for {rows.kind}; there are {every}.")
    source = resolve(backbone)
    task = options.task_of(rows, source, own, **{n: v for n, v in choices.items() if n in options.TASK_OPTIONS})
    return Run(source.source, task, chosen, budget, options.seed_of(seed)), rows, source


def load_model(
    folder: str | Path,
    *,
    backbone: str | Path | None = None,
    device: str = "auto",
    strategy: Strategy | None = None,
) -> Adapted:
    """Load what `Adapted.save` wrote; the public `adapt.load`.

    Args:
        folder: Where it was saved.
        backbone: Where the backbone is now, if not where it was.
        device: `auto`, `cpu` or `cuda`.
        strategy: The one it was trained with, where that is a class of your own.

    Raises:
        AdaptError: The folder is not whole, the backbone or strategy is another one, or a tensor is missing, extra or
            misshapen.
    """
    from adapt.backbones.memoise import release

    path = Path(folder).expanduser()
    if strategy is not None:
        strategy = options.check_strategy(strategy)
    content = _read_model_file(path)
    if _sha256(path / params.STATE_FILE) != content["sha256"]:
        raise AdaptError(f"{path / params.STATE_FILE} is not the file that was saved; save the model again.")
    try:
        _check_own(path, content, strategy)
        spec = run_from(content["spec"], strategy)
    except (KeyError, TypeError) as error:
        raise AdaptError(f"{path / MODEL_FILE} is damaged ({error!r}); save the model again.") from error
    source = _backbone(content["reference"]) if backbone is None else resolve(backbone)
    if source.source.sha256 != spec.backbone.sha256:
        raise AdaptError(
            f"Backbone {source.reference} is not the one this model was trained on ('{spec.backbone.name}', content "
            f"{spec.backbone.sha256[:12]}, found {source.source.sha256[:12]}); pass the right folder as backbone."
        )
    budget = dataclasses.replace(spec.budget, device=options.device_of(device))
    loader = Loader(source, spec.task, budget, spec.seed)
    tokenizer = loader.tokenizer()
    kind = KINDS[spec.task.kind](spec.task, tokenizer)
    kind.load_state(content["kind_state"])
    model = spec.strategy.build(loader, spec.task)
    params.load(model, path)
    release(model)
    model.eval()
    fitted = Fitted(model, kind, tokenizer, loader)
    return Adapted(
        fitted, dataclasses.replace(spec, budget=budget), source, None, _result(path), content.get("columns", {})
    )


def _check_own(path: Path, content: Mapping[str, Any], strategy: Strategy | None) -> None:
    """
    Raises:
        OptionError: The strategy is not the one, of a user's own, that a model was trained with.
    """
    own, recorded = content.get("own_strategy"), content["spec"]["strategy"]
    same = strategy is None or {"name": strategy.name, **fields_of(strategy)} == recorded
    if same and own == (None if strategy is None else type(strategy).__name__):
        return
    fields = ", ".join(f"{name}={value!r}" for name, value in recorded.items() if name != "name")
    if own is None:
        raise OptionError(f"The model in {path} was trained with the library's {recorded['name']}; leave strategy out.")
    raise OptionError(
        f"The model in {path} was trained with a strategy of your own; load it with "
        f"adapt.load(..., strategy={own}({fields}))."
    )


def _result(path: Path) -> dict[str, Any] | None:
    """The result that was saved with a model; None where there is none that can be read."""
    try:
        return dict(json.loads((path / "result.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _backbone(reference: str) -> Backbone:
    try:
        return resolve(reference)
    except AdaptError as error:
        raise AdaptError(
            f"{error} If it was moved, name its place with the option backbone, or give the model that "
            "adapt.load(..., backbone=...) makes."
        ) from error


def _read_model_file(path: Path) -> dict[str, Any]:
    file = path / MODEL_FILE
    if not file.is_file():
        raise AdaptError(f"{path} does not hold a saved model (no {MODEL_FILE}); give the folder that fit wrote.")
    try:
        content = dict(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise AdaptError(f"{file} is damaged ({error}); save the model again.") from error
    missing = {"schema", "reference", "kind_state", "sha256", "spec"} - content.keys()
    if missing or content["schema"] != SCHEMA:
        raise AdaptError(f"{file} was written by another version of adapt; fit the model again.")
    if not (path / params.STATE_FILE).is_file():
        raise AdaptError(f"{path / params.STATE_FILE} is missing; save the model again.")
    return content


def write_predictions(
    model: Adapted, source: str | Path, target: str | Path, columns: Mapping[str, str] | None = None
) -> int:
    """Predict the rows of a file and write one prediction a row, in input order.

    Args:
        model: The model.
        source: A file that `adapt.data.read_inputs` reads.
        target: `.jsonl`, `.csv` or `.tsv`; appears whole or not at all.
        columns: What a column is for (`text`, `tokens`, `question`, ...) to its name, where that is unusual.

    Returns:
        Rows written.

    Raises:
        OptionError: The suffix is not known or the file cannot be written.
        DataError: The input cannot be used.
    """
    path = output_file(target, PREDICTION_FILES, source)
    written, writer = 0, None
    with whole(path) as handle:
        for row in model.iterate(source, columns):
            written += 1
            if path.suffix == ".jsonl":
                handle.write(json.dumps(row, ensure_ascii=False) + "\n")
                continue
            cells = _cells(row)
            if writer is None:
                delimiter = "\t" if path.suffix == ".tsv" else ","
                writer = csv.DictWriter(handle, list(cells), delimiter=delimiter, lineterminator="\n")
                writer.writeheader()
            writer.writerow(cells)
    return written


_JOINED = {"labels": "|", "tags": " "}
"""What stands between the names of a list in a cell of CSV or TSV; other lists are written as JSON."""


def _cells(row: Mapping[str, Any]) -> dict[str, Any]:
    """A prediction as cells of CSV or TSV, by column."""
    cells: dict[str, Any] = {}
    for name, value in row.items():
        if name == "probabilities":
            cells |= {f"probability_{label}": p for label, p in value.items()}
        elif name in _JOINED:
            cells[name] = _JOINED[name].join(value)
        else:
            cells[name] = json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value
    return cells


def _sha256(file: Path) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
