"""Put the tables made from the committed result files into the README, between its marks.

    python results/update_readme.py [--check]

`<!-- table: embedded -->` is the table of `adapt compare` without arguments (`results/embedded`), `real` has a column
for each data set of `results/runs`, and `strategies` lists the strategies and their fields. With --check nothing is
written; the exit code tells whether the README is up to date.
"""

import dataclasses
import inspect
import re
import sys
from functools import partial
from pathlib import Path

from adapt.comparison import Store, Table, table_of
from adapt.strategies import STRATEGIES, make

RESULTS = Path(__file__).parent
README = RESULTS.parent / "README.md"
"""Marks look like `<!-- table: NAME -->` and `<!-- end -->`, each on a line of its own."""


def overview(table: Table) -> str:
    """Strategies by data sets: mean test score with its interval, in points of a hundred, and what it costs."""
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
        lines.append(f"| {strategy} | " + " | ".join(cells) + f" | {100 * max(shares):.2f} % |")
    return "\n".join(lines)


def strategies() -> str:
    """A row for each strategy, from its dataclass."""
    rows = ["| name | what it does | fields (`--set name.field=value`) | learning rate |", "| --- | --- | --- | ---: |"]
    for name, cls in STRATEGIES.items():
        values = dataclasses.asdict(make(name))  # type: ignore[call-overload]
        rate = values.pop("learning_rate")
        fields = ", ".join(f"`{field}={value}`" for field, value in values.items())
        summary = " ".join((inspect.getdoc(cls) or "").split("\n\n")[0].split()).rstrip(".")
        rows.append(f"| `{name}` | {summary} | {fields} | {rate:g} |")
    return "\n".join(rows)


def updated(text: str) -> str:
    """The README with its tables made anew."""
    real = table_of(Store(RESULTS).all())
    embedded = table_of(Store(RESULTS / "embedded").all())
    tables = {"embedded": embedded.markdown().strip(), "real": overview(real), "strategies": strategies()}
    for name, table in tables.items():
        pattern = rf"(<!-- table: {name} -->\n).*?(<!-- end -->)"
        text, count = re.subn(pattern, partial(_filled, table=table), text, count=1, flags=re.DOTALL)
        if not count:
            raise SystemExit(f"README.md has no mark <!-- table: {name} -->")
    return text


def _filled(match: re.Match[str], table: str) -> str:
    return f"{match[1]}{table}\n{match[2]}"


def main() -> None:
    old = README.read_text(encoding="utf-8")
    new = updated(old)
    if "--check" in sys.argv[1:]:
        sys.exit(0 if new == old else "README.md is out of date; run python results/update_readme.py")
    README.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
