"""The grid of strategies and seeds on one task, done where it is not done yet, as a table."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapt.adapted import Adapted, assemble, preset, with_general
from adapt.backbones.classes import LANGUAGE_MODELS
from adapt.backbones.exhausted import give_back
from adapt.backbones.source import check_hides_none, check_reference
from adapt.comparison.choice import arguments_of, choose, fit_arguments
from adapt.comparison.given import (
    EMBEDDED_BACKBONES,
    EMBEDDED_BUDGETS,
    MOST_TRIALS,
    check_settings,
    distinct,
    embedded_data,
    parts_of,
    samples_of,
    seeds_of,
    strategies_of,
    tried,
)
from adapt.comparison.jobs import Todo
from adapt.comparison.progress import Progress
from adapt.comparison.runner import Event, OnEvent, execute
from adapt.comparison.started import Given, Starts
from adapt.comparison.store import Store
from adapt.data import Data
from adapt.data.general import read_general
from adapt.display import Rendered, counted, one_line, shows_fields
from adapt.fields import check_count
from adapt.files import scratch_folder
from adapt.inputs import drawn
from adapt.machine import cores
from adapt.options import check_rates, check_strategy, plain, shows_choices
from adapt.spec import OptionError, Run, Source, Strategy, Teacher
from adapt.strategies import FLOORS, STRATEGIES
from adapt.tables.table import Table, table_of

if TYPE_CHECKING:
    import pandas

_SMALL_BYTES = 16 * 2**20
"""Weights below which one core serves a run as well as several, so that runs are done side by side."""
_IN_FRAME = (
    "backbone", "task", "strategy", "seed", "status", "reason", "settings", "scores", "params", "memory", "time",
    "throughput", "best_epoch",
)  # fmt: skip
"""Fields of a result that are columns of a data frame."""


@shows_fields
@dataclass(frozen=True)
class Comparison(Rendered):
    """A finished comparison."""

    table: Table
    """Of this comparison alone."""
    results: list[dict[str, Any]]
    """Contents of the result files, in the order of the grid."""
    folder: Path
    """Where `runs/`, `table.md` and `table.csv` are (and `curve.csv`, of learning curves); the tables hold every run of
    the folder (`adapt.comparison.table_of`)."""
    starts: Mapping[str, Given] = field(default_factory=dict)
    """What runs went on from, as it was given, by the hash that their spec has of it."""

    def __str__(self) -> str:
        return str(self.table)

    def __repr__(self) -> str:
        bad = sum(result["status"] != "ok" for result in self.results)
        but = f", {bad} of which did not end well" if bad else ""
        return one_line(f"<Comparison: {counted(len(self.results), 'run')}{but}; {self.table!r} in {self.folder}>")

    def to_frame(self) -> pandas.DataFrame:
        """A row for each run, with columns as result files have fields: `scores.test.accuracy`, `params.trainable`."""
        import pandas

        rows = [
            {
                **{name: result[name] for name in _IN_FRAME},
                **{name: result["spec"]["task"][name] for name in ("max_train", "few_shot")},
                "fold": result["spec"]["task"].get("fold", [None])[0],
            }
            for result in self.results
        ]
        return pandas.json_normalize(rows)

    def chosen(self, strategy: str | None = None) -> dict[str, Any]:
        """Keyword arguments with which `adapt.fit` makes a run of this comparison again, for its model; those of a run
        that had a teacher are for `adapt.distill`, which is given the teacher and the rows without labels again.

        It is the first seed's that ended well, under the settings with the best mean validation score: of a strategy,
        of a row by its name in the table (`lora(rank=4)`), or (None) of all that were trained. A `max_train` and a
        `patience` of the comparison are among them: to train on all rows, or without a validation split, leave them
        out.

        Raises:
            OptionError: None ended well; there is no validation score to choose by; or the runs had a teacher, and went
                on from a model, which `adapt.distill` does not.
        """
        spec = choose(self.results, strategy)["spec"]
        if "teacher" in spec and "start" not in spec:
            return {**arguments_of(spec), **{name: spec["teacher"][name] for name in ("temperature", "weight")}}
        begun = {"start": self.starts[spec["start"]["sha256"]]} if "start" in spec else {}
        return {**fit_arguments(spec), **begun}


@shows_choices
def compare(
    backbone: str | Path | None = None,
    data: Any = None,
    strategies: str | Strategy | Sequence[str | Strategy] = "all",
    *,
    kind: str | None = None,
    seeds: int | Sequence[int] = 3,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    general: Any = None,
    start: Given | Sequence[Given] | None = None,
    teacher: Adapted | str | Path | None = None,
    unlabelled: Any = None,
    temperature: float = Teacher.temperature,
    weight: float = Teacher.weight,
    out: str | Path = "adapt-results",
    jobs: int | None = None,
    trials: int = 1,
    command: str | None = None,
    progress: bool = True,
    on_event: OnEvent | None = None,
    **choices: Any,
) -> Comparison:
    """Run strategies on one task with several seeds and tabulate accuracy against cost.

    A run whose result lies in `out` is not run again, so a comparison that was stopped goes on where it was.

    Args:
        backbone: Shipped name, local folder or hub name; None takes that of `start`, or the shipped one for the kind of
            task.
        data: `Data`, or anything that `adapt.data.load` reads; or what `adapt.data.folds` gives, for cross-validation:
            a run for each fold, whose test rows are scored as one (of correlations the mean is taken). None takes the
            embedded task of the kind.
        strategies: `all`, names with commas between them, a strategy, or a list of names and strategies. With `all`, a
            language model is also scored once without training.
        kind: Task kind, or a short name such as `ner` (`adapt.data.load`); None: what the data tells, or
            classification.
        seeds: How many (0, 1, ...) or which.
        settings: Strategy name to field to value, for strategies given by name. On shipped backbones, which are tiny,
            those not given here have learning rates that suit them (`adapt.strategies.SHIPPED_SETTINGS`).
        general: Texts on which each run measures what its backbone has forgotten, as for `adapt.fit`.
        start: Adapted models, or their folders, to go on from as `adapt.fit` does: each is a row beside those of
            `strategies`, with the strategy of the model. Those that know all classes of the data know the same ones;
            where they have one pooling, it is that of all rows, unless another is given.
        teacher: Whose students all are that are trained, as for `adapt.distill`, and `unlabelled`, `temperature` and
            `weight` too. It is asked before the first run, and then let go of; a language model's is loaded by each.
        out: Folder of the results.
        jobs: Runs done at the same time; None: one, or one a core where the backbone is tiny, and so is a teacher that
            runs beside each student.
        trials: Learning rates of each strategy, half a power of ten apart, around its own: as many for each. With
            several the table shows, of each strategy, the one with the best mean validation score, and what it was
            chosen from.
        command: What to type to have this comparison made: recorded with each of its runs, and shown below the table.
        progress: Whether standard error shows each run that ends, and on a terminal a bar for each that goes on.
        on_event: Told when a run is found done, starts, makes a step, and ends, and how far the teacher has been asked.
        choices: Fields of the budget and the task, as for `adapt.fit`. Of `max_train` or `few_shot` there may be
            several, such as (50, 200, 1000): everything is run with each, once with all rows there are, and the table
            shows the learning curve.

    Raises:
        AdaptError: Bad input. What cannot be done by one strategy only is a row of the table with its reason.
    """
    from adapt.distillation import how_of, said_of, teaching_of

    if "seed" in choices:
        raise OptionError("A comparison has no option 'seed'; give seeds, how many or which.")
    if backbone is not None:
        check_reference(backbone)
    check_hides_none(out, *(each for each in (backbone, data) if isinstance(each, str)))
    trials, jobs = plain(trials), plain(jobs)
    for name, value in (("trials", trials), ("jobs", 1 if jobs is None else jobs)):
        check_count(name, value)
    if trials > MOST_TRIALS:
        raise OptionError(f"trials is {trials}; give at most {MOST_TRIALS}, three powers of ten to each side.")
    numbers = seeds_of(seeds)
    samples = samples_of(choices)
    texts = None if general is None else read_general(general)
    starts = Starts.of(start)
    if backbone is None and starts.described:
        backbone = starts.described[0].backbone(None)
    if teacher is not None:
        temperature, weight = how_of(temperature, weight, unlabelled)
    elif unlabelled is not None or (temperature, weight) != (Teacher.temperature, Teacher.weight):
        raise OptionError("unlabelled, temperature and weight say how a teacher teaches, and none is given; give one.")
    check_settings(settings)
    if isinstance(strategies, Mapping):
        raise OptionError(
            f"strategies is {strategies!r}; give a list of names, and a dict of their fields as settings."
        )
    if not isinstance(strategies, str):
        strategies = list(strategies) if isinstance(strategies, Iterable) else [strategies]
    usual: Mapping[str, Any] = {}
    if data is None:
        data = embedded_data(kind)
        if backbone in (None, EMBEDDED_BACKBONES[data.kind]):
            usual = EMBEDDED_BUDGETS[data.kind]
    parts = starts.data(parts_of(data, kind))
    choices = {**usual, **starts.choices(parts[0], choices)}
    if teacher is not None and parts[0].fold is not None:
        raise OptionError(
            "Folds score every row, and which of them the teacher was trained on is not known, so that it may tell its "
            "students the answers; give data with a test split that the teacher has not seen."
        )
    task_kind = parts[0].kind
    backbone = EMBEDDED_BACKBONES[task_kind] if backbone is None else backbone
    own = [] if isinstance(strategies, str) else [check_strategy(s) for s in strategies if not isinstance(s, str)]
    rate = choices.get("learning_rate")
    check_rates(rate, own, settings or {})
    if trials > 1 and rate is not None:
        raise OptionError(
            f"learning_rate is {rate} for all strategies, and {trials} trials each want several; give one."
        )
    presets = {name: preset(backbone, task_kind, name, rate) for name in STRATEGIES}
    chosen = strategies_of(strategies, settings or {}, presets)
    samples = distinct(samples, parts)
    if trials > 1 and "validation" not in parts[0].splits:
        raise OptionError(f"{trials} trials are judged by validation scores, and the data have no validation split.")
    first, _, source = assemble(backbone, parts[0], chosen[0], seed=numbers[0], **{**choices, **samples[0]})
    first = with_general(first, texts, source)
    shown: list[tuple[Strategy, Source | None]] = [(check_strategy(each), None) for each in tried(chosen, trials)]
    for strategy, origin in starts.strategies(first.backbone, rate):
        shown += [(check_strategy(each), origin) for each in tried([strategy], trials)]
    for sample in samples:  # what a class has too few rows for is found before a teacher is asked or anything trained
        for part in parts:
            drawn(replace(first, task=replace(first.task, **sample)), part)
    store = Store(out)
    store.check_tables()

    tell = Progress(sys.stderr if progress else None, rates=trials > 1, on_event=on_event)

    def on_asked(done: int, total: int) -> None:
        tell(Event("asked", first, done, total))

    ask = partial(said_of, on_asked=on_asked, kept=store.folder / "answers")
    teaching = None
    if teacher is not None:
        with tell:
            teaching = teaching_of(
                teacher, first, parts[0], source, temperature=temperature, weight=weight, unlabelled=unlabelled, ask=ask
            )
        starts.check_classes(parts[0], teaching.data)
        first, parts = teaching.student(first), [teaching.data]
    rows = [(seed, *each) for seed in numbers for each in shown]
    if strategies == "all" and task_kind in LANGUAGE_MODELS:
        rows += [(numbers[0], floor(), None) for floor in FLOORS.values()]
    grid = _grid(first, parts, samples, rows)
    if jobs is None:
        loaded = [source, *([teaching.teacher.backbone] if teaching is not None and teaching.runs_beside else [])]
        size = sum(each.weight_bytes for each in loaded)
        jobs = cores() if size < _SMALL_BYTES and first.budget.device == "cpu" else 1
    undone = _not_done(grid, store, tell)
    made_by = {"command": command, "trials": trials if trials > 1 else None}
    try:
        with scratch_folder() as folder, tell:
            lessons = None
            if teaching is not None:
                lessons = teaching.lessons([run for run, _ in undone], source, folder, ask)
                teacher = teaching = None
            give_back(first.budget.device)  # which processes of their own do the runs
            todo = Todo(
                undone, source, lessons=lessons, general=texts.texts if texts else (),
                starts=starts.places(folder) if undone else {},
                made_by={name: value for name, value in made_by.items() if value is not None},
            )  # fmt: skip
            execute(todo, store, jobs=jobs, on_event=tell)
    finally:
        store.write_table(tuned={run.key() for run, _ in grid} if trials > 1 else None)
    results = [content for run, _ in grid if (content := store.read(run, failed=True)) is not None]
    return Comparison(table_of(results, tuned=trials > 1), results, store.folder, starts.given)


def _grid(
    first: Run,
    parts: Sequence[Data],
    samples: Sequence[Mapping[str, Any]],
    rows: Sequence[tuple[int, Strategy, Source | None]],
) -> list[tuple[Run, Data]]:
    """Every run with its data.

    Args:
        first: Any of them; what trains nothing has no teacher.
        parts: The data, or each division of cross-validation.
        samples: What replaces `max_train` or `few_shot` of the task, one after the other.
        rows: Seed, strategy and start.
    """
    grid: list[tuple[Run, Data]] = []
    for sample in samples:
        for part in parts:
            sizes = {split: len(of_split) for split, of_split in part.splits.items()}
            task = replace(first.task, rows=sizes, fold=part.fold, **sample)
            for seed, strategy, start in rows:
                teacher = None if strategy.learning_rate is None else first.teacher
                run = replace(first, task=task, seed=seed, strategy=strategy, teacher=teacher, start=start)
                grid.append((run, part))
    return grid


def _not_done(grid: Sequence[tuple[Run, Data]], store: Store, on_event: OnEvent) -> list[tuple[Run, Data]]:
    """What has no result that stands; of the others it is told."""
    undone = []
    for run, part in grid:
        content = store.read(run)
        if content is None:
            undone.append((run, part))
        else:
            on_event(Event("found", run, status=content["status"], reason=content["reason"]))
    return undone
