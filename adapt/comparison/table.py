"""The table of a comparison, made from result files alone."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import harmonic_mean
from typing import Any

from adapt.comparison.cells import digits, escape, interval, line, share, unit_of
from adapt.comparison.folds import found_features, merged, without_fold
from adapt.comparison.store import Store
from adapt.comparison.trials import best_rate, rate_of
from adapt.files import write_atomically
from adapt.memory.budget import shown
from adapt.metrics import LOWER_IS_BETTER
from adapt.metrics.jackknife import pseudo_values
from adapt.spec import Budget, Teacher, canonical
from adapt.stats import Interval, crossed_interval, mean_interval, pareto_front

COLUMNS = (
    "task", "strategy", "seeds", "metric", "mean", "ci_low", "ci_high", "trainable", "trainable_share",
    "saved_bytes", "peak_bytes", "train_seconds", "examples_per_second",
)  # fmt: skip
"""Columns of `table.csv`: scores and shares as fractions, sizes in bytes, times in seconds; empty: not measured."""

BASELINE = "full"
"""Name of the strategy that the others are compared with."""

_SCHEDULE = {"decay": "decay", "warmup": "warm-up", "weight_decay": "weight decay", "clip": "gradients clipped at"}
"""Fields of the budget that are named where they are not the defaults."""


@dataclass(frozen=True)
class Row:
    """One strategy on one task, over its seeds."""

    task: str
    strategy: str
    """Name, with the settings that are not the defaults."""
    metric: str
    runs: int
    """Runs done, whatever their status."""
    statuses: Mapping[str, str | None]
    """Status of the runs that did not end well, with the reason of one of them."""
    scores: Mapping[int, float]
    """Seed to test score (validation score where there is no test split) of the runs that ended well."""
    parts: Mapping[int, Sequence[float]]
    """Seed to what each test row adds to its score (`adapt.metrics.jackknife`), where the results of all tell."""
    score: Interval | None
    """Over seeds and test rows; over seeds alone where there are no `parts`."""
    difference: Interval | None
    """Score minus that of full fine-tuning, with the same seeds and on the same rows."""
    pairs: int
    """Seeds that both have."""
    trainable: int | None
    trainable_share: float | None
    saved_bytes: int | None
    peak_bytes: int | None
    train_seconds: float | None
    examples_per_second: float | None
    predicted_per_second: float | None = None
    forgetting: Interval | None = None
    """Loss on general text after adaptation minus before, in nats a token."""


@dataclass(frozen=True)
class Section:
    """The rows of one task, backbone, budget and general texts, with what a reader must know about them."""

    task: str
    rows: Sequence[Row]
    results: Sequence[Mapping[str, Any]]
    """Those that the rows are of."""
    tried: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """A row's strategy to the learning rates that its own was chosen from, the lowest first."""


@dataclass(frozen=True)
class Table:
    """A table of one or several tasks."""

    sections: Sequence[Section]

    @property
    def rows(self) -> list[Row]:
        """All rows."""
        return [row for section in self.sections for row in section.rows]

    def csv(self) -> str:
        """The table with the columns `COLUMNS`."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in self.rows:
            score = row.score or Interval(None, None, None)  # type: ignore[arg-type]
            values: dict[str, Any] = {
                "task": row.task, "strategy": row.strategy, "seeds": len(row.scores), "metric": row.metric,
                "mean": _number(score.mean), "ci_low": _number(score.low), "ci_high": _number(score.high),
                "trainable": row.trainable, "trainable_share": _number(row.trainable_share),
                "saved_bytes": row.saved_bytes, "peak_bytes": row.peak_bytes,
                "train_seconds": _number(row.train_seconds),
                "examples_per_second": _number(row.examples_per_second),
            }  # fmt: skip
            writer.writerow([values[column] for column in COLUMNS])
        return out.getvalue()

    def markdown(self) -> str:
        """The table for readers, a section for each task, with the facts below it."""
        return "\n".join(_section(section) for section in self.sections)

    def __str__(self) -> str:
        return self.markdown()


def table_of(results: Iterable[Mapping[str, Any]], *, tuned: bool = False) -> Table:
    """The table of result files' contents: sections by task, backbone, budget and general texts; rows by strategy,
    settings and teacher.

    With `tuned` a strategy that was run at several learning rates has a row for the one with the best mean validation
    score alone, where the seeds tell.
    """
    sections: dict[str, list[Mapping[str, Any]]] = {}
    for result in merged(results):
        spec = without_fold(result["spec"])
        key = canonical({name: spec.get(name) for name in ("backbone", "task", "budget", "general")})
        sections.setdefault(key, []).append(result)
    ordered = sorted(sections.values(), key=lambda s: (s[0]["task"], s[0]["backbone"]))
    return Table([_make_section(section, tuned) for section in ordered])


def write_table(store: Store, *, tuned: bool = False) -> Table:
    """Write `table.md` and `table.csv` of all runs of a folder; see `table_of` for `tuned`."""
    table = table_of(store.all(), tuned=tuned)
    write_atomically(store.folder / "table.md", table.markdown())
    write_atomically(store.folder / "table.csv", table.csv())
    return table


def _make_section(results: Sequence[Mapping[str, Any]], tuned: bool) -> Section:
    kept, tried = _chosen(results) if tuned else (results, {})
    others = _groups(results, by_rate=False) if tuned else {}
    made = [
        (group[0]["spec"], _make_row(group, label, others.get(label, ()))) for label, group in _groups(kept).items()
    ]
    base = _baseline([row for spec, row in made if spec["strategy"]["name"] == BASELINE and "teacher" not in spec])
    order = _strategy_order()
    made.sort(key=lambda pair: (order.get(pair[0]["strategy"]["name"], len(order)), pair[1].strategy))
    rows = [_with_difference(row, base) for _, row in made] + _without_model(kept)
    return Section(results[0]["task"], rows, kept, tried)


def _chosen(results: Sequence[Mapping[str, Any]]) -> tuple[list[Mapping[str, Any]], dict[str, list[float]]]:
    """The results at each strategy's best learning rate, and the rates tried, where it was run at several."""
    kept: list[Mapping[str, Any]] = []
    tried: dict[str, list[float]] = {}
    for label, group in _groups(results, by_rate=False).items():
        rates = {rate_of(result) for result in group if result["spec"]["strategy"].get("learning_rate") is not None}
        best = best_rate(group) if len(rates) > 1 else None
        if best is None:
            kept += group
        else:
            kept += [result for result in group if rate_of(result) == best]
            tried[label] = sorted(rates)
    return kept, tried


def _without_model(results: Sequence[Mapping[str, Any]]) -> list[Row]:
    """A row for what is reached without a model (majority, copy), which each run computed on its own rows."""
    metric = results[0]["spec"]["task"]["metric"]
    found: dict[str, dict[int, float]] = {}
    for result in results:
        simple = result.get("baseline") or {}
        if metric in simple.get("scores", {}):
            found.setdefault(simple["name"], {})[result["seed"]] = float(simple["scores"][metric])
    empty = dict.fromkeys(
        ("difference", "trainable", "trainable_share", "saved_bytes", "peak_bytes", "train_seconds",
         "examples_per_second")
    )  # fmt: skip
    return [
        Row(
            task=results[0]["task"], strategy=name, metric=metric, runs=len(scores), statuses={}, scores=scores,
            parts={}, score=mean_interval(list(scores.values())), pairs=0, **empty,
        )
        for name, scores in found.items()
    ]  # fmt: skip


def _baseline(rows: Sequence[Row]) -> Row | None:
    """Of rows of full fine-tuning that with the default settings, else the only one."""
    default = [row for row in rows if row.strategy == BASELINE]
    return default[0] if default else rows[0] if len(rows) == 1 else None


def _make_row(group: Sequence[Mapping[str, Any]], label: str, others: Sequence[Mapping[str, Any]]) -> Row:
    """The row of a group; `others` are alike but for their learning rate, by whose times one can know its own."""
    good = sorted((r for r in group if r["status"] == "ok"), key=lambda r: r["seed"])
    timed = [r for r in good if not found_features(r)]
    timed = timed or [r for r in others if r["status"] == "ok" and not found_features(r)]
    first = group[0]
    metric = first["spec"]["task"]["metric"]
    scores = {r["seed"]: float(_final(r)[metric]) for r in good if metric in _final(r)}
    parts = _parts([r for r in good if r["seed"] in scores], metric)
    trainable, total = _one(good, "params", "trainable"), _one(good, "params", "total")
    lost = [found["after"] - found["before"] for r in good if (found := r.get("forgetting"))]
    return Row(
        task=first["task"],
        strategy=label,
        metric=metric,
        runs=len(group),
        statuses={r["status"]: r["reason"] for r in group if r["status"] != "ok"},
        scores=scores,
        parts=parts,
        score=_interval(list(scores.values()), list(parts.values())) if scores else None,
        difference=None,
        pairs=0,
        trainable=trainable,
        trainable_share=trainable / total if trainable is not None and total else None,
        saved_bytes=_one(good, "params", "saved_bytes"),
        peak_bytes=_one([r for r in good if r["memory"].get("breakdown")], "memory", "peak_bytes"),
        train_seconds=_mean(timed, "time", "train_seconds"),
        examples_per_second=_rate(timed),
        predicted_per_second=_predicted(timed),
        forgetting=mean_interval(lost) if lost else None,
    )


def _parts(results: Sequence[Mapping[str, Any]], metric: str) -> dict[int, list[float]]:
    """What each test row adds to the score, by seed; nothing where one of the results does not tell."""
    found: dict[int, list[float]] = {}
    for result in results:
        values = pseudo_values(result["spec"]["task"]["problem"], metric, result.get("test_outcomes") or ())
        if values is None:
            return {}
        found[result["seed"]] = values
    return found if len(set(map(len, found.values()))) == 1 else {}


def _interval(scores: Sequence[float], parts: Sequence[Sequence[float]]) -> Interval:
    """Over seeds and rows, or over seeds alone."""
    alone = mean_interval(scores)
    return crossed_interval(parts, alone.mean) if parts else alone


def _final(result: Mapping[str, Any]) -> Mapping[str, float]:
    return result["scores"].get("test") or result["scores"].get("validation") or {}


def _with_difference(row: Row, base: Row | None) -> Row:
    if base is None or row is base:
        return row
    seeds = sorted(row.scores.keys() & base.scores.keys())
    if not seeds:
        return row
    scores = [row.scores[s] - base.scores[s] for s in seeds]
    pairs = [(row.parts[s], base.parts[s]) for s in seeds if row.parts and base.parts]
    alike = all(len(ours) == len(theirs) for ours, theirs in pairs)
    parts = [[a - b for a, b in zip(*pair, strict=True)] for pair in pairs] if alike else []
    return replace(row, difference=_interval(scores, parts), pairs=len(seeds))


def _values(results: Sequence[Mapping[str, Any]], group: str, field: str) -> list[float]:
    return [r[group][field] for r in results if r[group][field] is not None]


def _one(results: Sequence[Mapping[str, Any]], group: str, field: str) -> int | None:
    """Largest over seeds: counts agree, peaks differ by little."""
    values = _values(results, group, field)
    return int(max(values)) if values else None


def _mean(results: Sequence[Mapping[str, Any]], group: str, field: str) -> float | None:
    values = _values(results, group, field)
    return sum(values) / len(values) if values else None


def _rate(results: Sequence[Mapping[str, Any]]) -> float | None:
    """Rows of all runs over the seconds of all of them."""
    timed = [
        (r["throughput"]["examples_per_second"] * seconds, seconds)
        for r in results
        if (seconds := r["time"]["train_seconds"]) and r["throughput"]["examples_per_second"] is not None
    ]
    return sum(rows for rows, _ in timed) / sum(seconds for _, seconds in timed) if timed else None


def _predicted(results: Sequence[Mapping[str, Any]]) -> float | None:
    """Rows predicted by all runs, each of which predicts the same, over the seconds of all of them."""
    rates = [rate for r in results if (rate := r["throughput"].get("predicted_per_second")) is not None]
    return harmonic_mean(rates) if rates else None


def _groups(results: Sequence[Mapping[str, Any]], *, by_rate: bool = True) -> dict[str, list[Mapping[str, Any]]]:
    """The results of each row, by its label: the strategy's name, the fields that are not as they are by default, and
    the teacher.

    The learning rate, which is said below the table, is among the fields only where a strategy has several, and only
    `by_rate`. Teachers of one name are one row, as where each seed has its own, unless a seed has several results.
    """
    from adapt.spec import fields_of
    from adapt.strategies import STRATEGIES, make

    rates: dict[str, set[Any]] = {}
    for result in results:
        strategy = result["spec"]["strategy"]
        rates.setdefault(strategy["name"], set()).add(strategy.get("learning_rate"))
    found: dict[str, list[Mapping[str, Any]]] = {}
    for result in results:
        spec = result["spec"]
        strategy = spec["strategy"]
        name = str(strategy["name"])
        defaults = fields_of(make(name)) if name in STRATEGIES else {}
        hidden = {"name"} if by_rate and len(rates[name]) > 1 else {"name", "learning_rate"}
        changed = [f"{k}={_plain(v)}" for k, v in strategy.items() if k not in hidden and defaults.get(k) != v]
        label = f"{name}({', '.join(changed)})" if changed else name
        label += _taught(spec["teacher"]) if "teacher" in spec else ""
        found.setdefault(label, []).append(result)
    return {label: group for each in found.items() for label, group in _by_teacher(*each).items()}


def _taught(teacher: Mapping[str, Any]) -> str:
    """By whom, and how where that is not as it is by default."""
    how = [f"{name} {teacher[name]:g}" for name in ("temperature", "weight") if teacher[name] != getattr(Teacher, name)]
    if teacher["unlabelled_rows"]:
        how.append("on rows that it labelled, too")
    return f", taught by {teacher['name']}" + (f" ({', '.join(how)})" if how else "")


def _by_teacher(label: str, group: list[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """The group as it is, or a group for each teacher's content, which its label then says."""
    if len({result["seed"] for result in group}) == len(group) or "teacher" not in group[0]["spec"]:
        return {label: group}
    found: dict[str, list[Mapping[str, Any]]] = {}
    for result in group:
        teacher = result["spec"]["teacher"]
        content = "".join(digest[:6] for digest in (teacher["sha256"], teacher["unlabelled_sha256"]) if digest)
        found.setdefault(f"{label}, content {content}", []).append(result)
    return found


def _plain(value: Any) -> str:
    return "+".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _strategy_order() -> dict[str, int]:
    from adapt.strategies import STRATEGIES

    return {name: i for i, name in enumerate(STRATEGIES)}


def _number(value: float | None) -> float | str:
    """Six digits that matter."""
    return "" if value is None else float(f"{value:.6g}")


def _section(section: Section) -> str:
    metric = section.rows[0].metric
    name = metric.replace("_", " ")
    unit = unit_of(metric)
    better = ", lower is better" if metric in LOWER_IS_BETTER else ""
    head = ["strategy", f"{name}{unit} [95 % CI]{better}", "seeds", "difference to full", "trainable", "share", "saved",
            "peak memory", "train time", "examples/s"]  # fmt: skip
    further = _further(section.rows)
    head += further
    backbone = section.results[0]["backbone"]
    lines = [
        f"### {escape(section.task)}, {escape(backbone)}",
        "",
        line(head),
        line(["---"] + ["---:"] * (len(head) - 1)),
    ]
    for row, *more in zip(section.rows, *further.values(), strict=True):
        bad = "; ".join(f"{status}: {reason}" if reason else status for status, reason in row.statuses.items())
        score = interval(row.score, bool(unit)) if row.score else "" if bad else "not scored"
        lines.append(line([
            escape(row.strategy),
            ", ".join(part for part in (score, escape(bad)) if part),
            str(row.runs) if len(row.scores) == row.runs else f"{len(row.scores)} of {row.runs}",
            _difference(row, bool(unit)),
            "" if row.trainable is None else f"{row.trainable:,}",
            "" if row.trainable_share is None else share(row.trainable_share),
            "" if row.saved_bytes is None else shown(row.saved_bytes),
            "" if row.peak_bytes is None else shown(row.peak_bytes),
            "" if row.train_seconds is None else f"{row.train_seconds:.1f} s",
            "" if row.examples_per_second is None else digits(row.examples_per_second),
            *more,
        ]))  # fmt: skip
    return "\n".join([*lines, "", *_facts(section), ""])


def _further(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Head and cells of the columns that older results have nothing for, where some row has something."""
    columns = {
        "predictions/s": ["" if row.predicted_per_second is None else digits(row.predicted_per_second) for row in rows],
        "forgetting [95 % CI], nats a token": [
            "" if row.forgetting is None else interval(row.forgetting, False, signed=True) for row in rows
        ],
    }
    return {name: cells for name, cells in columns.items() if any(cells)}


def _facts(section: Section) -> list[str]:
    """What a reader must know: data, backbone, budget, tuning, seeds, trade-offs, hardware, versions."""
    results = section.results
    first = next((r for r in results if r["status"] == "ok"), results[0])
    spec = first["spec"]
    task, budget = spec["task"], spec["budget"]
    sizes = ", ".join(f"{task['rows'][s]:,} {s}" for s in ("train", "validation", "test") if s in task["rows"])
    fold = task.get("fold")
    if fold:
        sizes += f" in one of {fold[1]} folds, of which each row is in the test split of one and scored there"
    sample = f", {task['few_shot']} a class" if task["few_shot"] else ""
    sample += f", at most {task['max_train']:,} of the training rows" if task["max_train"] else ""
    sample += ", loss weighted by class" if task["class_weights"] == "balanced" else ""
    epoch = f"at the epoch with the best validation {(task.get('selection') or task['metric']).replace('_', ' ')}"
    scored = (
        "the test rows of all folds together"
        if fold
        else "test"
        if "test" in task["rows"]
        else "validation"
        if "validation" in task["rows"]
        else "nothing"
    )
    steps = f"{budget['epochs']} epochs" + (f", at most {budget['max_steps']} steps" if budget["max_steps"] else "")
    steps += f", stopped after {budget['patience']} without a better score" if budget["patience"] else ""
    machines = list(dict.fromkeys(_machine(r["environment"]) for r in results if r["status"] == "ok"))
    machines = machines or [_machine(first["environment"])]
    good = [r for r in results if r["status"] == "ok"]
    found = any(map(found_features, good))
    states = list(dict.fromkeys(state for r in good if (state := _code(r["environment"]))))
    dropout = "the backbone's dropout" if budget["dropout"] is None else f"dropout {budget['dropout']:g}"
    for name, words in _SCHEDULE.items():
        if name in budget and budget[name] != getattr(Budget, name):
            dropout += f", {words} {escape(str(budget[name]))}"
    if budget.get("checkpointing"):
        dropout += ", gradient checkpointing"
    if "loss_chunk" in budget:
        dropout += f", logits of {budget['loss_chunk']} tokens at a time"
    if "optimizer" in budget:
        dropout += f", {escape(budget['optimizer'])}"
    if "graphs" in budget:
        dropout += f", CUDA graphs {escape(budget['graphs'])}"
    return [
        f"- Data: {escape(task['data']['name'])} (content {task['data']['sha256'][:12]}), rows: {sizes}{sample}; "
        f"texts cut to {task['max_length']} tokens; scored on {scored}, "
        f"{epoch if 'validation' in task['rows'] else 'after the last epoch'}.",
        f"- Backbone: {escape(spec['backbone']['name'])} (content {spec['backbone']['sha256'][:12]}), {_head(task)}.",
        f"- Budget: {steps}, batch {budget['batch_size']} × {budget['accumulation']}, {budget['precision']}, "
        f"{dropout}; {_rates(section, budget['learning_rate'])}.",
        f"- Seeds: {', '.join(map(str, sorted({r['seed'] for r in results})))}; a seed draws sample, head and order of "
        f"rows alike for every strategy; {_uncertainty(section.rows, bool(fold))}.",
        *_trade_off(section.rows),
        "- Memory: what tensors hold at the peak of a training step over the longest rows; time: training steps "
        "without scoring"
        + (", of runs that computed all features themselves (empty where none did)." if found else "."),
        *_predictions(good, scored, found),
        *_forgetting(good),
        f"- Hardware: {machines[0]}."
        if len(machines) == 1
        else f"- Hardware: runs were made in {len(machines)} surroundings, so that times are not alike: "
        + "; or ".join(machines)
        + ".",
        *([f"- Code: runs were made with {len(states)} states of it ({', '.join(states)})."] if states[1:] else []),
        *(f"- Note: {escape(note)}" for note in dict.fromkeys(n for r in results for n in r.get("notes", ()))),
    ]


def _uncertainty(rows: Sequence[Row], folds: bool) -> str:
    """What the intervals are over."""
    scored = [row for row in rows if row.score and row.trainable is not None]
    seeds_alone = [escape(row.strategy) for row in scored if not row.parts]
    rows_alone = [escape(row.strategy) for row in scored if row.parts and len(row.scores) == 1]
    if len(seeds_alone) == len(scored):
        return (
            "intervals are Student's t over seeds, differences paired by seed; the choice of rows scored is not in them"
        )
    text = (
        "intervals are for other seeds and other test rows like these (crossed random effects), differences paired by "
        "both"
    )
    if folds:
        text += "; that models of several folds share training rows is not in them, which makes them somewhat narrow"
    text += f"; of {', '.join(rows_alone)}, with one seed, for other rows alone" if rows_alone else ""
    return text + (f"; of {', '.join(seeds_alone)} for other seeds alone" if seeds_alone else "")


def _trade_off(rows: Sequence[Row]) -> list[str]:
    """Which rows no other is as good as in score, memory and time."""
    told = [
        (
            row,
            (-row.score.mean if row.metric in LOWER_IS_BETTER else row.score.mean, -row.peak_bytes, -row.train_seconds),
        )
        for row in rows
        if row.score is not None and row.peak_bytes is not None and row.train_seconds is not None
    ]
    if len(told) < 2:
        return []
    front = ", ".join(escape(told[i][0].strategy) for i in pareto_front([point for _, point in told]))
    return [
        f"- Trade-off: on the Pareto front of mean score, peak memory and train time: {front}; any other row with all "
        "three is no better than one of them in any."
    ]


def _rates(section: Section, of_all: float | None) -> str:
    """The learning rates, and what they were chosen from."""
    if of_all is not None:
        return f"learning rate {of_all:g} for all"
    used = {label: group[0]["settings"]["learning_rate"] for label, group in _groups(section.results).items()}
    tried = section.tried
    each = ("; " if tried else ", ").join(
        f"{escape(label)} {rate:g}"
        + (f" of {', '.join(f'{other:g}' for other in tried[label])}" if label in tried else "")
        for label, rate in sorted(used.items())
        if rate
    )
    if not tried:
        return f"each strategy's own learning rate ({each})"
    task = section.results[0]["spec"]["task"]
    metric = (task.get("selection") or task["metric"]).replace("_", " ")
    edge = [escape(label) for label in sorted(tried) if used[label] in (tried[label][0], tried[label][-1])]
    beyond = f"; of {', '.join(edge)} it is the lowest or highest tried, so that one beyond it may be better still"
    return f"learning rates by the best mean validation {metric} ({each}){beyond if edge else ''}"


def _predictions(good: Sequence[Mapping[str, Any]], scored: str, found: bool) -> list[str]:
    """What the column of predictions says, where there is one."""
    if _predicted([r for r in good if not found_features(r)]) is None:
        return []
    return [
        f"- Predictions: rows of {scored} a second once training has ended, without scoring"
        + (", of the same runs" if found else "")
        + "; that of full fine-tuning is the backbone's own."
    ]


def _forgetting(good: Sequence[Mapping[str, Any]]) -> list[str]:
    """Which texts the column of forgetting is of, where there is one."""
    of = [r for r in good if r.get("forgetting")]
    if not of:
        return []
    general, found = of[0]["spec"]["general"], [r["forgetting"] for r in of]
    before = " or ".join(sorted({digits(f["before"]) for f in found}))
    return [
        f"- Forgetting: loss on {escape(general['name'])} (content {general['sha256'][:12]}, {found[0]['tokens']:,} "
        f"{found[0]['predicts']}) after adaptation minus before (then {before}), under the backbone's own "
        "language-model head."
    ]


def _code(environment: Mapping[str, Any]) -> str:
    """The state of this package's code, as far as it is known: of a checkout and of its modules."""
    commit, content = environment.get("commit"), environment.get("code")
    return escape(", ".join([*([commit] if commit else []), *([f"content {content}"] if content else [])]))


def _machine(environment: Mapping[str, Any]) -> str:
    """What a run was made on, and with."""
    named = ", ".join(f"{name} {v}" for name, v in environment.get("versions", {}).items() if v)
    hardware = f"{environment.get('hardware', 'unknown')}, {environment.get('device')}"
    return escape(f"{hardware}, {environment.get('threads')} threads; {named}")


def _head(task: Mapping[str, Any]) -> str:
    """Pooling of a classifier, or the kind of task with its options."""
    if task["kind"] == "sequence_classification":
        return f"{task['pooling']} pooling"
    chosen = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in task.get("options", {}).items() if value)
    return escape(task["kind"].replace("_", " ") + (f" ({chosen})" if chosen else ""))


def _difference(row: Row, times_100: bool) -> str:
    if row.difference is None:
        return ""
    shared = "" if row.pairs == len(row.scores) else f" ({row.pairs} seed{'s' if row.pairs > 1 else ''})"
    return interval(row.difference, times_100, signed=True) + shared
