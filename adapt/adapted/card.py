"""The card of a saved model (Mitchell et al. 2019): what it is, how it is used, what it scores and costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from adapt.files import write_atomically
from adapt.metrics import added_rows
from adapt.metrics.jackknife import pseudo_values
from adapt.result import Content
from adapt.spec import Run
from adapt.stats import Interval, interval_over_rows
from adapt.tables.cells import escape, grid, interval, unit_of
from adapt.tables.table import table_of
from adapt.tasks import KINDS

CARD_FILE = "README.md"
_MARK = "<!-- Written by adapt, which writes it anew with the model as long as this line is here. -->"


def write_card(
    folder: Path,
    run: Run,
    result: Content | None,
    *,
    hub: str | None = None,
    plain: str | None = None,
    scale: Mapping[str, float] | None = None,
    beside: Sequence[str] = (),
    base: Sequence[str] = (),
) -> None:
    """Write `README.md`, with the fields that the Hugging Face hub reads at its head; one of the user's own stays.

    Args:
        folder: Of the model, whose files are there.
        run: What it was trained as.
        result: The content of its result file; None: it has none.
        hub: The backbone's name on the hub, if that is where it is from.
        plain: Class of transformers that loads the folder, of a merged model.
        scale: `mean` and `std` of a regression's target over the training rows.
        beside: What must be said to who uses it without this package.
        base: Lines of Python that say how the backbone is loaded that PEFT puts the adapter on.
    """
    file = folder / CARD_FILE
    if file.exists() and not (file.is_file() and _MARK in file.read_text(encoding="utf-8", errors="replace")):
        return
    title = f"{run.strategy.name} on {escape(run.backbone.name)}, for {escape(run.task.name)}"
    parts = [_head(run, hub, plain), f"{_MARK}\n", f"# {title}\n", _use(folder, run, plain, scale, beside, base)]
    if result is not None:
        spec = result["spec"]  # without its fold: the run of one is whole as it is
        task = {name: value for name, value in spec["task"].items() if name != "fold"}
        alone = {**result, "spec": {**spec, "task": task}}
        parts += [_scores(result), table_of([alone]).markdown()]
    write_atomically(file, "\n".join(parts))


def _head(run: Run, hub: str | None, plain: str | None) -> str:
    """The fields of the hub."""
    from huggingface_hub import ModelCardData

    fields = ModelCardData(
        base_model=hub, library_name="transformers" if plain else "adapt",
        pipeline_tag=KINDS[run.task.kind].pipeline, tags=["adapt", run.strategy.name],
    )  # fmt: skip
    return f"---\n{fields.to_yaml()}\n---\n"


def _use(
    folder: Path, run: Run, plain: str | None, scale: Mapping[str, float] | None, beside: Sequence[str],
    base: Sequence[str],
) -> str:  # fmt: skip
    """How it is loaded, and what its outputs mean to who uses it without this package."""
    backbone = escape(run.backbone.name)
    if plain is not None:
        what = f"A model of transformers, of {backbone} with what was trained merged into its weights."
        lines = [f"from transformers import {plain}", "", f"model = {plain}.from_pretrained(FOLDER)"]
    else:
        what = f"What was trained, to be loaded on {backbone} (content {run.backbone.sha256[:12]})."
        lines = ["import adapt", "", "model = adapt.load(FOLDER)", "model.predict(rows)"]
    in_peft = (folder / "peft" / "adapter_config.json").is_file()
    if in_peft:
        trained_on = getattr(run.strategy, "exported_for", lambda precision: "its own dtype")(run.budget.precision)
        if run.task.pooling == "mean":
            what += (
                " The folder `peft` holds the encoder's part of it in PEFT's format, without the head on the mean of "
            )
            what += f"its outputs: for transformers' `AutoModel` in {trained_on}, as it was trained."
            scale = None
        else:
            what += f" The folder `peft` holds it in PEFT's format, for a backbone in {trained_on}, as it was trained."
    whose = "The target is its output" if plain is not None else "For PEFT the target is the model's output"
    said = [*([f"{whose} times {scale['std']:.8g} plus {scale['mean']:.8g}."] if scale is not None else []), *beside]
    what += "".join(f" {escape(one)}" for one in said) if plain is not None or in_peft else ""
    labels = ", ".join(map(escape, run.task.labels))
    does = f" It does {run.task.kind.replace('_', ' ')}."
    does += f" Labels, in the order of its outputs: {labels}." if labels else ""
    under = ["PEFT needs the backbone to be loaded with", "", "```python", *base, "```", ""] if base and in_peft else []
    return "\n".join([what + does, "", "```python", *lines, "```", "", *under])


def _scores(result: Content) -> str:
    """Every metric of each split, of the one scored last with its interval."""
    scores = result["scores"]
    metrics = list(dict.fromkeys(name for of_split in scores.values() for name in of_split))
    rows = [
        [
            f"{metric.replace('_', ' ')}{unit_of(metric)}",
            *(interval(score_in(result, s, metric), metric) if metric in scores[s] else "" for s in scores),
        ]
        for metric in metrics
    ]
    return "\n".join([*grid(["metric [95 % CI]", *scores], rows), ""]) if metrics else ""


def score_in(result: Content, split: str, metric: str) -> Interval:
    """A score of a result file's content; of the split scored last with its 95 % interval for other rows like these."""
    score, task = result["scores"][split][metric], result["spec"]["task"]
    if split != ("test" if "test" in result["scores"] else "validation"):
        return Interval(score, None, None)
    values = pseudo_values(task["problem"], metric, result.get("test_outcomes") or ())
    groups = (result.get("test_groups") or {}).get("numbers", ())
    return interval_over_rows(score, values, groups, added_rows(metric))
