"""Put what the committed result files say into the README and into the openings of the recipes.

    python results/update.py [--check]

In the README, between marks: `<!-- table: embedded -->` is the table of `adapt compare` without arguments
(`results/embedded`), `real` has a column for each data set of `results/runs`, and `strategies` lists the strategies and
their fields. In each recipe: run time and expected score. With --check nothing is written; the exit code tells whether
all is up to date.
"""

import dataclasses
import inspect
import re
import sys
from functools import partial
from pathlib import Path
from typing import Any

from adapt.comparison import Store, Table, table_of
from adapt.strategies import STRATEGIES, make

RESULTS = Path(__file__).parent
README = RESULTS.parent / "README.md"
RECIPES = RESULTS.parent / "recipes"


def overview(table: Table) -> str:
    """Strategies by data sets: mean test score with its interval, in points of a hundred, and what is trained."""
    rows = {(row.task, row.strategy): row for row in table.rows}
    tasks = [section.task for section in table.sections]
    metrics = {row.task: row.metric.replace("_", " ") for row in table.rows}
    head = ["strategy", *(f"{task} ({metrics[task]})" for task in tasks), "trainable share"]
    lines = ["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * (len(head) - 1)]
    for strategy in dict.fromkeys(row.strategy for row in table.rows):
        cells = []
        for task in tasks:
            row = rows.get((task, strategy))
            if row is None or row.score is None:
                cells.append("")
            elif row.score.low is None or row.score.high is None:
                cells.append(f"{100 * row.score.mean:.1f}")
            else:
                cells.append(f"{100 * row.score.mean:.1f} ± {50 * (row.score.high - row.score.low):.1f}")
        shares = [row.trainable_share for row in table.rows if row.strategy == strategy and row.trainable_share]
        lines.append(f"| {strategy} | " + " | ".join(cells) + f" | {100 * max(shares, default=0):.2f} % |")
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
    for name, table in tables.items():
        pattern = rf"(<!-- table: {name} -->\n).*?(<!-- end -->)"
        text, count = re.subn(pattern, partial(_filled, table=table), text, count=1, flags=re.DOTALL)
        if not count:
            raise SystemExit(f"README.md has no mark <!-- table: {name} -->")
    return text


def recipe(text: str, real: Table, results: list[dict[str, Any]]) -> str:
    """A recipe with its run time and expected score made anew; unchanged where its data set has no results."""
    named = re.search(r"--data \S*/(\w+) ", text)
    task = named[1] if named else ""
    rows = [row for row in real.rows if row.task == task and row.score is not None]
    if not rows:
        return text
    seconds = sum(r["time"]["train_seconds"] or 0 for r in results if r["task"] == task)
    scores = ", ".join(f"{row.strategy} {100 * row.score.mean:.1f}" for row in rows if row.score is not None)
    metric = rows[0].metric.replace("_", " ")
    text = re.sub(
        r"Run time: .*\.\n", f"Run time: {max(1, round(seconds / 120))} minutes of training.\n", text, count=1
    )
    return re.sub(r"Expected test score: .*\.\n", f"Expected test score: {metric}, %: {scores}.\n", text, count=1)


def _filled(match: re.Match[str], table: str) -> str:
    return f"{match[1]}{table}\n{match[2]}"


def main() -> None:
    results = Store(RESULTS).all()
    real, embedded = table_of(results), table_of(Store(RESULTS / "embedded").all())
    new = {README: readme(README.read_text(encoding="utf-8"), real, embedded)}
    new |= {path: recipe(path.read_text(encoding="utf-8"), real, results) for path in RECIPES.glob("*.py")}
    changed = [path for path, text in new.items() if path.read_text(encoding="utf-8") != text]
    if "--check" not in sys.argv[1:]:
        for path in changed:
            path.write_text(new[path], encoding="utf-8")
    elif changed:
        names = ", ".join(path.name for path in changed)
        sys.exit(f"{names}: not what the result files say; run python results/update.py")


if __name__ == "__main__":
    main()
