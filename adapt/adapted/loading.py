"""Loading a model that was saved."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from adapt import options, params
from adapt.adapted.model import MODEL_FILE, Adapted, sha256_of
from adapt.backbones import Backbone, Loader, resolve
from adapt.backbones.exhausted import explained
from adapt.backbones.weights import computed
from adapt.data.learnt import Learnt
from adapt.fields import check_count
from adapt.files import path_of, reading
from adapt.run import Fitted, run_from
from adapt.spec import SCHEMA, AdaptError, OptionError, Run, Strategy, fields_of, left_out
from adapt.tables.damage import content_of
from adapt.tasks import KINDS

_PLACE = (
    "with --backbone of predict, score, merge, represent and attention, or give the model that adapt.load(..., "
    "backbone=...) makes"
)
"""How the place of a saved model's backbone is named; where a command trains, its option is for another backbone."""


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
        OutOfMemory: Memory ran out.
    """
    from adapt.backbones.memoise import release

    path = path_of(folder)
    if strategy is not None:
        strategy = options.check_strategy(strategy)
    content, spec = read_model(path, strategy)
    source = _backbone(path, content["reference"]) if backbone is None else resolve(backbone)
    if source.source.sha256 != spec.backbone.sha256:
        raise AdaptError(
            f"Backbone {source.reference} is not the one that the model in {path} was trained on "
            f"('{spec.backbone.name}', content {spec.backbone.sha256[:12]}, found {source.source.sha256[:12]}); say "
            f"where the right one is {_PLACE}."
        )
    budget = dataclasses.replace(spec.budget, device=options.device_of(device))
    loader = Loader(source, spec.task, budget, spec.seed)
    tokenizer = loader.tokenizer()
    with _reading(path, OptionError):
        kind = KINDS[spec.task.kind](spec.task, tokenizer)
        kind.load_state(content["kind_state"])
    with explained("while the model was loaded", "use --device cpu, or a machine with more memory"):
        model = spec.strategy.build(loader, spec.task)
        params.load(model, path, computed(model))
    release(model)
    model.eval()
    fitted = Fitted(model, kind, tokenizer, loader)
    spec = dataclasses.replace(spec, budget=budget)
    return Adapted(fitted, spec, source, None, _result(path), content["columns"], content["learnt"])


@contextmanager
def _reading(path: Path, *also: type[AdaptError]) -> Iterator[None]:
    """Report what goes wrong with the content of `adapt.json`, the errors `also` included, as damage of that file.

    Raises:
        AdaptError: The file is damaged.
    """
    wrong: tuple[type[Exception], ...] = (AttributeError, KeyError, TypeError, ValueError, *also)
    try:
        yield
    except wrong as error:
        reason = error if isinstance(error, AdaptError) else repr(error)
        raise AdaptError(f"{path / MODEL_FILE} is damaged ({reason}); save the model again.") from error


def read_model(path: Path, strategy: Strategy | None = None) -> tuple[dict[str, Any], Run]:
    """What `adapt.json` of a whole folder holds, and the run that made the model; `strategy` as for `load_model`.

    Raises:
        AdaptError: The folder cannot be read, or is not whole, or the strategy is another one.
    """
    with reading(f"The model in {path}"):
        content = _read_model_file(path)
        sha256 = sha256_of(path / params.STATE_FILE)
    if sha256 != content["sha256"]:
        raise AdaptError(f"{path / params.STATE_FILE} is not the file that was saved; save the model again.")
    with _reading(path):
        _check_own(path, content, strategy)
    with _reading(path, OptionError):
        content["columns"] = {str(role): str(name) for role, name in content.get("columns", {}).items()}
        learnt = content.get("learnt")
        content["learnt"] = None if learnt is None else Learnt.from_content(learnt)
        run = run_from(content["spec"], strategy)
        for name, value in (("max_length", run.task.max_length), ("batch_size", run.budget.batch_size)):
            check_count(name, value)
    return content, run


def _check_own(path: Path, content: Mapping[str, Any], strategy: Strategy | None) -> None:
    """
    Raises:
        OptionError: The strategy is not the one, of a user's own, that a model was trained with.
    """
    own, recorded = content.get("own_strategy"), content["spec"]["strategy"]
    same = strategy is None or {"name": strategy.name, **fields_of(strategy)} == recorded
    if same and own == (None if strategy is None else type(strategy).__name__):
        return
    said = {name: value for name, value in recorded.items() if name != "name"}
    if strategy is not None and type(strategy).__name__ == own:
        for name, neutral in left_out(strategy).items():
            if getattr(type(strategy), name, None) != neutral:  # left out, and not what it is unless given
                said.setdefault(name, neutral)
    fields = ", ".join(f"{name}={value!r}" for name, value in said.items())
    if own is None:
        raise OptionError(f"The model in {path} was trained with the library's {recorded['name']}; leave strategy out.")
    raise OptionError(
        f"The model in {path} was trained with a strategy of your own; load it with "
        f"adapt.load(..., strategy={own}({fields})), and give what that loads in place of the folder."
    )


def _result(path: Path) -> dict[str, Any] | None:
    """The result that was saved with a model; None where there is none that can be read."""
    try:
        content, wrong = content_of((path / "result.json").read_bytes())
    except OSError:
        return None
    return None if wrong else dict(content)


def _backbone(path: Path, reference: str) -> Backbone:
    try:
        return resolve(reference)
    except AdaptError as error:
        raise AdaptError(
            f"The model in {path} does not find its backbone: {error} If that was moved, say where it is {_PLACE}."
        ) from error


def _read_model_file(path: Path) -> dict[str, Any]:
    file = path / MODEL_FILE
    if not file.is_file():
        raise AdaptError(f"{path} does not hold a saved model (no {MODEL_FILE}); give the folder that fit wrote.")
    try:
        content = dict(json.loads(file.read_text(encoding="utf-8")))
    except (RecursionError, ValueError, TypeError) as error:
        raise AdaptError(f"{file} is damaged ({error}); save the model again.") from error
    missing = {"schema", "reference", "kind_state", "sha256", "spec"} - content.keys()
    if missing or content["schema"] != SCHEMA:
        raise AdaptError(f"{file} was written by another version of adapt; fit the model again.")
    if not (path / params.STATE_FILE).is_file():
        raise AdaptError(f"{path / params.STATE_FILE} is missing; save the model again.")
    return content
