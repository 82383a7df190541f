"""Put what the committed result files say into the README and into the openings of the recipes.

    python results/update.py [--check]

In the README, between marks: `<!-- table: embedded -->` is the table of `adapt compare` without arguments
(`results/embedded`), `real` has a row for each data set of `results/runs`, `strategies` lists the strategies and their
fields, `kinds` the options of each kind of task, and `support` is what the matrix of contracts (`tests/matrix.py`)
holds. In each recipe: run time and expected score. `results/probing/table.md` is made of the JSON files beside it. With
--check nothing is written; the exit code tells whether all is up to date.
"""

import dataclasses
import importlib
import inspect
import json
import re
import sys
from pathlib import Path
from typing import Any

from adapt.adapted import preset
from adapt.comparison import Store, Table, table_of
from adapt.extraction.probed import Probing, tables
from adapt.metrics import LOWER_IS_BETTER
from adapt.stats import mean_interval
from adapt.strategies import FLOORS, STRATEGIES, make
from adapt.tables.cells import limits_of, line, share
from adapt.tables.curve import curves, training_rows
from adapt.tables.section import Row, Section
from adapt.tasks import KINDS

RESULTS = Path(__file__).parent
README = RESULTS.parent / "README.md"
RECIPES = RESULTS.parent / "recipes"
PROBING = RESULTS / "probing"


def overview(table: Table) -> str:
    """Data sets by strategies: mean test score with its interval, and the floor without a model.

    In points of a hundred, but for metrics that are lower where they are better, which are in their own unit. A star
    marks cells whose strategy was given fields other than those that it has by default with that backbone.
    """
    rows = {(row.task, _name(row)): row for row in table.rows}
    if len(rows) < len(table.rows):
        raise SystemExit("results/runs holds a data set on two backbones or budgets, which have no place in one table")
    known = [name for name in {**STRATEGIES, **FLOORS} if any(_name(row) == name for row in table.rows)]
    head = ["data set (metric)", "training rows", *known, "without a model"]
    lines = [line(head), line(["---", *["---:"] * (len(head) - 1)])]
    for section in table.sections:
        floor = next((row for row in section.rows if row.trainable is None and row.strategy not in known), None)
        lines.append(line([
            f"{section.task} ({section.rows[0].metric.replace('_', ' ')})",
            f"{training_rows(section.results[0]['spec']['task'])[1]:,.0f}",
            *(_cell(row := rows.get((section.task, name))) + " *" * _is_set(row, section) for name in known),
            f"{_cell(floor)} ({floor.strategy})" if floor else "",
        ]))  # fmt: skip
    shares = [
        max((row.trainable_share for row in table.rows if _name(row) == name and row.trainable_share), default=None)
        for name in known
    ]
    lines.append(line(["trainable share, at most", "", *("" if s is None else share(s) for s in shares)]) + " |")
    return "\n".join(lines)


def _name(row: Row) -> str:
    """The strategy without its settings."""
    return row.strategy.partition("(")[0]


def _is_set(row: Row | None, section: Section) -> bool:
    """Whether the strategy of a row was given fields, its learning rate among them."""
    if row is None:
        return False
    spec = next(result["spec"] for result in section.results if result["strategy"] == _name(row))
    given = spec["strategy"]
    usual = preset(spec["backbone"]["name"], spec["task"]["kind"], given["name"], spec["budget"]["learning_rate"])
    own = json.loads(json.dumps(vars(make(given["name"], dict(usual)))))
    by_all = spec["budget"]["learning_rate"] is not None
    return by_all or any(given[name] != value for name, value in own.items() if name in given)


def _cell(row: Row | None) -> str:
    if row is None or row.score is None:
        return ""
    limits = limits_of(row.score, None)
    return _mean(row) + (f" ± {_scale(row) * (limits[1] - limits[0]) / 2:.1f}" if limits else "")


def _mean(row: Row) -> str:
    assert row.score is not None
    return f"{_scale(row) * row.score.mean:.1f}"


def _scale(row: Row) -> int:
    return 1 if row.metric in LOWER_IS_BETTER else 100


def support() -> str:
    """Kinds of task with the architectures on which the matrix of contracts holds every strategy to them."""
    sys.path.insert(0, str(RESULTS.parent / "tests"))
    matrix: Any = importlib.import_module("matrix")

    kinds: dict[str, list[str]] = {}
    for kind in dict.fromkeys(matrix.TASKS.values()):
        there = {
            architecture: {c.strategy for c in matrix.CELLS if (c.architecture, c.kind) == (architecture, kind)}
            for architecture in matrix.TASKS_OF
        }
        lacking = {name: [s for s in STRATEGIES if s not in found] for name, found in there.items() if found}
        cell = ", ".join(
            name + (f" (not {', '.join(without)})" if without else "") for name, without in lacking.items()
        )
        kinds.setdefault(cell, []).append(kind.replace("_", " "))
    lines = [line(["kind of task", "architectures"]), line(["---", "---"])]
    return "\n".join([*lines, *(line([", ".join(alike), cell]) for cell, alike in kinds.items())])


def strategies() -> str:
    """A row for each strategy, from its dataclass."""
    rows = [line(["name", "what it does", "fields (`--set name.field=value`)", "learning rate"])]
    rows.append(line(["---", "---", "---", "---:"]))
    for name, cls in STRATEGIES.items():
        values: dict[str, Any] = dataclasses.asdict(make(name))  # type: ignore[call-overload]
        rate = values.pop("learning_rate")
        inherited = [other for other, base in STRATEGIES.items() if base in cls.__mro__[1:]]
        own = [f"`{field}={value}`" for field, value in values.items() if not inherited or field in vars(cls)]
        fields = ", ".join([*(f"those of `{other}`" for other in inherited), *own])
        summary = " ".join((inspect.getdoc(cls) or "").split("\n\n")[0].split()).rstrip(".")
        rows.append(line([f"`{name}`", summary, fields, f"{rate:g}"]))
    return "\n".join(rows)


def kinds() -> str:
    """A row for each kind of task that has options, from their dataclass."""
    rows = [line(["kind", "options (set as `--set task.beams=4`)"]), line(["---", "---"])]
    for name, kind in KINDS.items():
        values = dataclasses.asdict(kind.Options())
        options = ", ".join(f"`{option}={_typed(value)}`" for option, value in values.items())
        rows += [line([f"`{name}`", options])] if options else []
    return "\n".join(rows)


def _typed(value: Any) -> str:
    """A default as it would be typed; a text with what cannot be seen in it as its escapes."""
    return value.encode("unicode_escape").decode() if isinstance(value, str) else str(value)


def readme(text: str, real: Table, embedded: Table) -> str:
    """The README with its tables made anew."""
    tables = {
        "embedded": embedded.markdown().strip(), "real": overview(real), "strategies": strategies(),
        "kinds": kinds(), "support": support(),
    }  # fmt: skip
    for name, table in tables.items():
        before, mark, rest = text.partition(f"<!-- table: {name} -->\n")
        _, end, after = rest.partition("<!-- end -->")
        if not end:
            raise SystemExit(f"README.md has no mark <!-- table: {name} -->")
        text = f"{before}{mark}{table}\n{end}{after}"
    return text


def recipe(text: str, real: Table, results: list[dict[str, Any]]) -> str:
    """A recipe with its run time and expected score made anew; unchanged where its data set has no results."""
    named = re.search(r'\brecipe\(\s*__doc__,\s*"(\w+)"', text)
    task = named[1] if named else ""
    rows = [row for row in real.rows if row.task == task and row.score is not None]
    if not rows:
        return text
    metric = rows[0].metric
    unit = "" if metric in LOWER_IS_BETTER else ", %"
    scores = ", ".join(f"{_name(row)} {_mean(row)}" for row in rows if row.trainable)
    text = _timed(text, [result for result in results if result["task"] == task])
    return _stated(text, "test score", f"{metric.replace('_', ' ')}{unit}: {scores}")


def _timed(text: str, results: list[dict[str, Any]]) -> str:
    """A recipe with the run time of its results, of which as many were made at once as the cores had room for."""

    def minutes(name: str) -> int:
        seconds = (
            (result["time"][name] or 0) * result["environment"]["threads"] / result["environment"]["cores"]
            for result in results
        )
        return max(1, round(sum(seconds) / 60))

    told = f"Run time: {minutes('train_seconds')} minutes of training, {minutes('evaluate_seconds')} of scoring.\n"
    return re.sub(r"Run time: .*\.\n", told, text, count=1)


def _stated(text: str, what: str, value: str) -> str:
    """A recipe with what is expected of it in its opening."""
    return re.sub(rf"Expected {what}: .*\.\n", f"Expected {what}: {value}.\n", text, count=1)


def distillation(table: Table) -> dict[str, str]:
    """The teachers' score, and each student's alone, taught, and with further texts."""
    by_way: dict[str, list[str]] = {}
    for row in _trained(table):
        who = "teacher" if row in table.sections[0].rows else row.strategy.partition(",")[0]
        by_way.setdefault(who, []).append(_mean(row))
    scores = "; ".join(f"{who} {', '.join(means)}" for who, means in by_way.items())
    return {"test score": f"accuracy, %: {scores}"}


def forgetting(table: Table) -> dict[str, str]:
    """Test scores, and how much more the loss on general text is after adaptation."""
    rows = _trained(table)
    scores = ", ".join(f"{_name(row)} {_mean(row)}" for row in rows)
    lost = ", ".join(f"{_name(row)} {row.forgetting.mean:+.2f}" for row in rows if row.forgetting is not None)
    return {"test score": f"accuracy, %: {scores}", "forgetting": f"nats a token: {lost}"}


def few_labels(table: Table) -> dict[str, str]:
    """The best mean at each number of rows."""
    (curve,) = curves(table.sections)
    means = {rows: max(float(_mean(row)) for row in _trained(section)) for rows, section in curve.columns.items()}
    return {"test score": f"best accuracy, %: {', '.join(f'{rows} {mean}' for rows, mean in means.items())}"}


def further_pretraining(table: Table) -> dict[str, str]:
    """What each strategy scores on a backbone as it was, and on one that went on."""
    found: dict[str, dict[bool, str]] = {}
    for section in table.sections:
        went_on = section.results[0]["backbone"].startswith("further-")
        for row in _trained(section) if not section.task.endswith("_texts") else ():
            found.setdefault(_name(row), {})[went_on] = _mean(row)
    scores = "; ".join(f"{name} {of[False]} and {of[True]}" for name, of in found.items())
    return {"test score": f"span f1, %, without and with: {scores}"}


def _trained(part: Table | Section) -> list[Row]:
    return [row for row in part.rows if row.score is not None and row.trainable]


def probing(results: list[Probing]) -> str:
    """Each data set's best layer, before and after adaptation."""
    found = []
    for result in results:
        best = [max(mean_interval(layer.scores).mean for layer in model.layers) for model in result.models[:2]]
        found.append(f"{result.name} " + " and ".join(f"{100 * score:.1f}" for score in best))
    return f"best layers, before and after, %: {'; '.join(found)}"


OF_ONE_RECIPE = {
    "distillation": distillation, "forgetting": forgetting, "few_labels": few_labels,
    "further_pretraining": further_pretraining,
}  # fmt: skip
"""Recipe with a folder of results of its own, of the same name, to what its opening says is expected."""


def results_of(folder: Path) -> list[dict[str, Any]]:
    """What the result files of a folder say; there must be some."""
    found = Store(folder, reading=True).all()
    if not found:
        sys.exit(f"{folder} holds no results; take the folder from the repository again")
    return found


def main() -> None:
    results = results_of(RESULTS)
    real, embedded = table_of(results), table_of(results_of(RESULTS / "embedded"))
    new = {README: readme(README.read_text(encoding="utf-8"), real, embedded)}
    new |= {path: recipe(path.read_text(encoding="utf-8"), real, results) for path in RECIPES.glob("*.py")}
    probes = [Probing.from_json(json.loads(p.read_text(encoding="utf-8"))) for p in sorted(PROBING.glob("*.json"))]
    new[PROBING / "table.md"] = tables(probes)
    for name, expected in OF_ONE_RECIPE.items():
        path, found = RECIPES / f"{name}.py", results_of(RESULTS / name)
        new[path] = _timed(new[path], found)
        for what, value in expected(table_of(found)).items():
            new[path] = _stated(new[path], what, value)
    path = RECIPES / "probing.py"
    new[path] = _stated(new[path], "test score", probing(probes))
    changed = [path for path, text in new.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if "--check" not in sys.argv[1:]:
        for path in changed:
            path.write_text(new[path], encoding="utf-8")
    elif changed:
        names = ", ".join(path.name for path in changed)
        sys.exit(f"{names}: not what the result files say; run python results/update.py")


if __name__ == "__main__":
    main()
