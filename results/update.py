"""Put what the committed result files say into the README and into the openings of the recipes.

    python results/update.py [--check]

In the README, between marks: `<!-- table: embedded -->` is the table of `adapt compare` without arguments
(`results/embedded`), `real` has a row for each data set of `results/runs`, `strategies` lists the strategies and their
fields, and `support` is what the matrix of contracts (`tests/matrix.py`) holds. In each recipe: run time and expected
score. `results/probing/table.md` is made of the JSON files beside it. With --check nothing is written; the exit code
tells whether all is up to date.
"""

import dataclasses
import importlib
import inspect
import json
import re
import sys
from functools import partial
from pathlib import Path
from typing import Any

from adapt.comparison import Store, Table, table_of
from adapt.extraction.probed import Probing, tables
from adapt.metrics import LOWER_IS_BETTER
from adapt.stats import mean_interval
from adapt.strategies import FLOORS, STRATEGIES, make
from adapt.tables.cells import share
from adapt.tables.curve import curves
from adapt.tables.section import Row

RESULTS = Path(__file__).parent
README = RESULTS.parent / "README.md"
RECIPES = RESULTS.parent / "recipes"
PROBING = RESULTS / "probing"


def overview(table: Table) -> str:
    """Data sets by strategies: mean test score with its interval, and the floor without a model.

    In points of a hundred, but for metrics that are lower where they are better, which are in their own unit.
    """
    rows = {(row.task, _name(row)): row for row in table.rows}
    if len(rows) < len(table.rows):
        raise SystemExit("results/runs holds a data set on two backbones or budgets, which have no place in one table")
    known = [name for name in {**STRATEGIES, **FLOORS} if any(_name(row) == name for row in table.rows)]
    lines = ["| data set (metric) | " + " | ".join(known) + " | without a model |"]
    lines.append("| --- |" + " ---: |" * (len(known) + 1))
    for section in table.sections:
        metric = section.rows[0].metric
        cells = [_cell(rows.get((section.task, name)), metric) for name in known]
        floor = next((row for row in section.rows if row.trainable is None and row.strategy not in known), None)
        cells.append(f"{_cell(floor, metric)} ({floor.strategy})" if floor else "")
        lines.append(f"| {section.task} ({metric.replace('_', ' ')}) | " + " | ".join(cells) + " |")
    shares = [
        max((row.trainable_share for row in table.rows if _name(row) == name and row.trainable_share), default=None)
        for name in known
    ]
    lines.append("| trainable share, at most | " + " | ".join("" if s is None else share(s) for s in shares) + " | |")
    return "\n".join(lines)


def _name(row: Row) -> str:
    """The strategy without its settings."""
    return row.strategy.partition("(")[0]


def _cell(row: Row | None, metric: str) -> str:
    if row is None or row.score is None:
        return ""
    text, scale = _mean(row, metric), 1 if metric in LOWER_IS_BETTER else 100
    if row.score.low is None or row.score.high is None or row.score.low == row.score.high:
        return text
    return f"{text} ± {scale * (row.score.high - row.score.low) / 2:.1f}"


def _mean(row: Row, metric: str) -> str:
    assert row.score is not None
    return f"{(1 if metric in LOWER_IS_BETTER else 100) * row.score.mean:.1f}"


def support() -> str:
    """Architectures by kinds of task: which strategies the matrix of contracts holds to its twelve contracts."""
    sys.path.insert(0, str(RESULTS.parent / "tests"))
    matrix: Any = importlib.import_module("matrix")

    kinds = list(dict.fromkeys(matrix.TASKS.values()))
    lines = ["| architecture | " + " | ".join(kind.replace("_", " ") for kind in kinds) + " |"]
    lines.append("| --- |" + " --- |" * len(kinds))
    for architecture in matrix.TASKS_OF:
        cells = []
        for kind in kinds:
            there = {c.strategy for c in matrix.CELLS if c.architecture == architecture and c.kind == kind}
            lacking = [name for name in STRATEGIES if name not in there]
            cells.append("no such head" if not there else f"all but {', '.join(lacking)}" if lacking else "all")
        lines.append(f"| {architecture} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def strategies() -> str:
    """A row for each strategy, from its dataclass."""
    rows = ["| name | what it does | fields (`--set name.field=value`) | learning rate |", "| --- | --- | --- | ---: |"]
    for name, cls in STRATEGIES.items():
        values: dict[str, Any] = dataclasses.asdict(make(name))  # type: ignore[call-overload]
        rate = values.pop("learning_rate")
        fields = ", ".join(f"`{field}={value}`" for field, value in values.items())
        summary = " ".join((inspect.getdoc(cls) or "").split("\n\n")[0].split()).rstrip(".")
        rows.append(f"| `{name}` | {summary} | {fields} | {rate:g} |")
    return "\n".join(rows)


def readme(text: str, real: Table, embedded: Table) -> str:
    """The README with its tables made anew."""
    tables = {"embedded": embedded.markdown().strip(), "real": overview(real), "strategies": strategies()}
    tables["support"] = support()
    for name, table in tables.items():
        pattern = rf"(<!-- table: {name} -->\n).*?(<!-- end -->)"
        text, count = re.subn(pattern, partial(_filled, table=table), text, count=1, flags=re.DOTALL)
        if not count:
            raise SystemExit(f"README.md has no mark <!-- table: {name} -->")
    return text


def recipe(text: str, real: Table, results: list[dict[str, Any]]) -> str:
    """A recipe with its run time and expected score made anew; unchanged where its data set has no results."""
    named = re.search(r'\brecipe\(\s*__doc__,\s*"(\w+)"', text)
    task = named[1] if named else ""
    rows = [row for row in real.rows if row.task == task and row.score is not None]
    if not rows:
        return text
    seconds = sum(r["time"]["train_seconds"] or 0 for r in results if r["task"] == task)
    metric = rows[0].metric
    scores = ", ".join(f"{_name(row)} {_mean(row, metric)}" for row in rows if row.trainable)
    unit = "" if metric in LOWER_IS_BETTER else ", %"
    return _stated(text, seconds / 2, f"{metric.replace('_', ' ')}{unit}: {scores}")


def _stated(text: str, seconds: float, scores: str) -> str:
    """The opening of a recipe with its run time and expected score."""
    minutes = f"Run time: {max(1, round(seconds / 60))} minutes of training.\n"
    text = re.sub(r"Run time: .*\.\n", minutes, text, count=1)
    return re.sub(r"Expected test score: .*\.\n", f"Expected test score: {scores}.\n", text, count=1)


def distillation_recipe(text: str, table: Table, results: list[dict[str, Any]]) -> str:
    """The recipe of distillation: its teachers' score, and each student's alone, taught, and with further texts."""
    by_way: dict[str, list[str]] = {}
    for row in table.rows:
        if row.score is not None and row.trainable:
            who = "teacher" if row in table.sections[0].rows else row.strategy.partition(",")[0]
            by_way.setdefault(who, []).append(_mean(row, row.metric))
    scores = "; ".join(f"{who} {', '.join(means)}" for who, means in by_way.items())
    return _stated(text, sum(r["time"]["train_seconds"] or 0 for r in results), f"accuracy, %: {scores}")


def forgetting_recipe(text: str, table: Table, results: list[dict[str, Any]]) -> str:
    """The recipe of forgetting: test scores, and how much more the loss on general text is after adaptation."""
    rows = [row for row in table.rows if row.score is not None and row.trainable]
    scores = ", ".join(f"{_name(row)} {_mean(row, row.metric)}" for row in rows)
    text = _stated(text, sum(r["time"]["train_seconds"] or 0 for r in results) / 2, f"accuracy, %: {scores}")
    lost = ", ".join(f"{_name(row)} {row.forgetting.mean:+.2f}" for row in rows if row.forgetting is not None)
    return re.sub(r"Expected forgetting: .*\.\n", f"Expected forgetting: nats a token: {lost}.\n", text, count=1)


def few_labels_recipe(text: str, table: Table, results: list[dict[str, Any]]) -> str:
    """The recipe of few labels: the best mean at each number of rows."""
    (curve,) = curves(table.sections)
    means = {
        rows: max(float(_mean(row, row.metric)) for row in section.rows if row.score and row.trainable)
        for rows, section in curve.columns.items()
    }
    scores = ", ".join(f"{rows} {mean}" for rows, mean in means.items())
    return _stated(text, sum(r["time"]["train_seconds"] or 0 for r in results) / 2, f"best accuracy, %: {scores}")


def further_recipe(text: str, table: Table, results: list[dict[str, Any]]) -> str:
    """The recipe of further pretraining: what each strategy scores on a backbone as it was, and one that went on."""
    found: dict[str, dict[bool, str]] = {}
    for section in (section for section in table.sections if not section.task.endswith("_texts")):
        went_on = section.results[0]["backbone"].startswith("further-")
        for row in section.rows:
            if row.score is not None and row.trainable:
                found.setdefault(_name(row), {})[went_on] = _mean(row, row.metric)
    scores = "; ".join(f"{name} {of[False]} and {of[True]}" for name, of in found.items())
    seconds = sum(r["time"]["train_seconds"] or 0 for r in results)
    return _stated(text, seconds, f"span f1, %, without and with: {scores}")


def probing_recipe(text: str, results: list[Probing]) -> str:
    """The recipe of probes with its expected scores: each data set's best layer, before and after adaptation."""
    found = []
    for result in results:
        best = [max(mean_interval(layer.scores).mean for layer in model.layers) for model in result.models[:2]]
        found.append(f"{result.name} " + " and ".join(f"{100 * score:.1f}" for score in best))
    line = f"Expected test score: best layers, before and after, %: {'; '.join(found)}.\n"
    return re.sub(r"Expected test score: .*\.\n", line, text, count=1)


OF_ONE_RECIPE = {
    "distillation": distillation_recipe,
    "forgetting": forgetting_recipe,
    "few_labels": few_labels_recipe,
    "further_pretraining": further_recipe,
}
"""Folders of results that a recipe of that name makes, and what writes its lines."""


def _filled(match: re.Match[str], table: str) -> str:
    return f"{match[1]}{table}\n{match[2]}"


def main() -> None:
    results = Store(RESULTS).all()
    real, embedded = table_of(results), table_of(Store(RESULTS / "embedded").all())
    new = {README: readme(README.read_text(encoding="utf-8"), real, embedded)}
    new |= {path: recipe(path.read_text(encoding="utf-8"), real, results) for path in RECIPES.glob("*.py")}
    probes = [Probing.from_json(json.loads(p.read_text(encoding="utf-8"))) for p in sorted(PROBING.glob("*.json"))]
    new[PROBING / "table.md"] = tables(probes)
    for name, rewritten in OF_ONE_RECIPE.items():
        path, found = RECIPES / f"{name}.py", Store(RESULTS / name).all()
        new[path] = rewritten(new[path], table_of(found), found)
    new[RECIPES / "probing.py"] = probing_recipe(new[RECIPES / "probing.py"], probes)
    changed = [path for path, text in new.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if "--check" not in sys.argv[1:]:
        for path in changed:
            path.write_text(new[path], encoding="utf-8")
    elif changed:
        names = ", ".join(path.name for path in changed)
        sys.exit(f"{names}: not what the result files say; run python results/update.py")


if __name__ == "__main__":
    main()
