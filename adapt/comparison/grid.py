"""The grid of strategies and seeds on one task, done where it is not done yet, as a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from adapt.adapted import Adapted, assemble, preset, with_general
from adapt.backbones.exhausted import give_back
from adapt.backbones.source import EMBEDDED
from adapt.comparison.choice import choose, fit_arguments
from adapt.comparison.runner import Event, OnEvent, execute
from adapt.comparison.started import Given, Starts
from adapt.comparison.store import Store
from adapt.comparison.trials import tried
from adapt.comparison.written import write_table
from adapt.data import Data, Folds, load
from adapt.data.general import read_general
from adapt.data.kinds import resolve
from adapt.files import scratch_folder
from adapt.machine import cores
from adapt.options import check_count, check_rates, check_strategy, plain, seed_of
from adapt.run import drawn
from adapt.spec import OptionError, Run, Source, Strategy, Teacher
from adapt.strategies import FLOORS, STRATEGIES, is_known, make
from adapt.tables.table import Table, table_of
from adapt.tasks import KINDS

_SMALL_BYTES = 16 * 2**20
"""Weights below which one core serves a run as well as several, so that runs are done side by side."""

EMBEDDED_BACKBONES = {
    "sequence_classification": EMBEDDED,
    "token_classification": EMBEDDED,
    "question_answering": EMBEDDED,
    "seq2seq": "tiny-encoder-decoder",
    "causal_lm": "tiny-decoder",
    "masked_lm": EMBEDDED,
}
"""Task kind to the shipped backbone that does it."""

EMBEDDED_BUDGETS: dict[str, dict[str, Any]] = {
    "sequence_classification": {"epochs": 5, "max_length": 32, "pooling": "mean"},
    "token_classification": {"epochs": 5, "max_length": 48},
    "question_answering": {"epochs": 5, "max_length": 96},
    "seq2seq": {"epochs": 3, "max_length": 64},
    "causal_lm": {"epochs": 3, "max_length": 96, "separator": ""},
    "masked_lm": {"epochs": 5, "max_length": 48},
}
"""What `compare` takes for the embedded task of a kind on its shipped backbone where nothing else is given."""


@dataclass(frozen=True)
class Comparison:
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

    def chosen(self, strategy: str | None = None) -> dict[str, Any]:
        """Keyword arguments with which `adapt.fit` makes a run of this comparison again, for its model.

        It is the first seed's that ended well, under the settings with the best mean validation score: of a strategy,
        or (None) of all that were trained.

        Raises:
            OptionError: None ended well; there is no validation score to choose by; or the runs had a teacher.
        """
        spec = choose(self.results, strategy)["spec"]
        begun = {"start": self.starts[spec["start"]["sha256"]]} if "start" in spec else {}
        return {**fit_arguments(spec), **begun}


def compare(
    backbone: str | Path | None = None,
    data: Any = None,
    strategies: str | Strategy | Sequence[str | Strategy] = "all",
    *,
    kind: str | None = None,
    seeds: int | Sequence[int] = 3,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    general: Any = None,
    start: Given | Sequence[Given] = (),
    teacher: Adapted | str | Path | None = None,
    unlabelled: Any = None,
    temperature: float = Teacher.temperature,
    weight: float = Teacher.weight,
    out: str | Path = "adapt-results",
    jobs: int | None = None,
    trials: int = 1,
    command: str | None = None,
    on_event: OnEvent = lambda event: None,
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
            `strategies`, with the strategy of the model.
        teacher: Whose students all are that are trained, as for `adapt.distill`, and `unlabelled`, `temperature` and
            `weight` too. It is asked before the first run, and then let go of; a language model's is loaded by each.
        out: Folder of the results.
        jobs: Runs done at the same time; None: one, or one a core where the backbone is tiny, and so is a teacher that
            runs beside each student.
        trials: Learning rates of each strategy, half a power of ten apart, around its own: as many for each. With
            several the table shows, of each strategy, the one with the best mean validation score, and what it was
            chosen from.
        command: What to type to have this comparison made: recorded with each of its runs, and shown below the table.
        on_event: Told when a run is found done, starts, makes a step, and ends, and how far the teacher has been asked.
        choices: Fields of the budget and the task, as for `adapt.fit`. Of `max_train` or `few_shot` there may be
            several, such as (50, 200, 1000): everything is run with each, once with all rows there are, and the table
            shows the learning curve.

    Raises:
        AdaptError: Bad input. What cannot be done by one strategy only is a row of the table with its reason.
    """
    from adapt.distillation import how_of, teaching_of

    if "seed" in choices:
        raise OptionError("A comparison has no option 'seed'; give seeds, how many or which.")
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
    if not isinstance(strategies, str):
        strategies = list(strategies) if isinstance(strategies, Iterable) else [strategies]
    if data is None:
        data = embedded_data(kind)
        if backbone in (None, EMBEDDED_BACKBONES[data.kind]):
            choices = {**EMBEDDED_BUDGETS[data.kind], **choices}
    parts = starts.data(_parts(data, kind))
    if teacher is not None and parts[0].fold is not None:
        raise OptionError(
            "Folds score every row, and which of them the teacher was trained on is not known, so that it may tell its "
            "students the answers; give data with a test split that the teacher has not seen."
        )
    task_kind = parts[0].kind
    backbone = backbone or EMBEDDED_BACKBONES[task_kind]
    own = [] if isinstance(strategies, str) else [check_strategy(s) for s in strategies if not isinstance(s, str)]
    rate = choices.get("learning_rate")
    check_rates(rate, own, settings or {})
    if trials > 1 and rate is not None:
        raise OptionError(
            f"learning_rate is {rate} for all strategies, and {trials} trials each want several; give one."
        )
    presets = {name: preset(backbone, task_kind, name, rate) for name in STRATEGIES}
    chosen = strategies_of(strategies, settings or {}, presets)
    if jobs is not None and jobs < 1:
        raise OptionError(f"jobs is {jobs}; give at least 1.")
    samples = _distinct(samples, parts)
    store = Store(out)
    if trials > 1 and "validation" not in parts[0].splits:
        raise OptionError(f"{trials} trials are judged by validation scores, and the data have no validation split.")
    first, _, source = assemble(backbone, parts[0], chosen[0], seed=numbers[0], **{**choices, **samples[0]})
    first = with_general(first, texts, source)
    for sample in samples:  # what a class has too few rows for is found before a teacher is asked or anything trained
        for part in parts:
            drawn(replace(first, task=replace(first.task, **sample)), part)

    def on_asked(done: int, total: int) -> None:
        on_event(Event("asked", first, done, total))

    teaching = None
    if teacher is not None:
        teaching = teaching_of(
            teacher, first, parts[0], source, temperature=temperature, weight=weight, unlabelled=unlabelled,
            on_asked=on_asked,
        )  # fmt: skip
        first, parts = teaching.student(first), [teaching.data]
    shown: list[tuple[Strategy, Source | None]] = [(strategy, None) for strategy in tried(chosen, trials)]
    for own_of, origin in starts.strategies(first, rate):
        shown += [(strategy, origin) for strategy in tried([own_of], trials)]
    shown = [(check_strategy(strategy), origin) for strategy, origin in shown]
    every = [(seed, *each) for seed in numbers for each in shown]
    if strategies == "all" and KINDS[task_kind].pretrained_output:
        every += [(numbers[0], floor(), None) for floor in FLOORS.values()]
    grid: list[tuple[Run, Data]] = []
    for sample in samples:
        for part in parts:
            rows = {split: len(of_split) for split, of_split in part.splits.items()}
            run = replace(first, task=replace(first.task, rows=rows, fold=part.fold, **sample))
            grid += [(_of(run, *each), part) for each in every]
    made_by = {"command": command, "trials": trials if trials > 1 else None}
    if jobs is None:
        loaded = [source, *([teaching.teacher.backbone] if teaching is not None and teaching.beside else [])]
        size = sum(file.stat().st_size for each in loaded for file in each.path.glob("*.safetensors"))
        jobs = cores() if size < _SMALL_BYTES and first.budget.device == "cpu" else 1
    todo = []
    for run, part in grid:
        content = store.read(run)
        if content is None:
            todo.append((run, part))
        else:
            on_event(Event("found", run, status=content["status"], reason=content["reason"]))
    try:
        with scratch_folder() as folder:
            lessons = None
            if teaching is not None:
                lessons = teaching.lessons([run for run, _ in todo], source, folder, on_asked)
                teacher = teaching = None
                give_back(first.budget.device)
            execute(
                todo, source, store, jobs=jobs, on_event=on_event, lessons=lessons,
                general=texts.texts if texts else (), starts=starts.places(folder) if todo else {},
                made_by={name: value for name, value in made_by.items() if value is not None},
            )  # fmt: skip
    finally:
        write_table(store, tuned=True if trials > 1 else None)
    results = [content for run, _ in grid if (content := store.read(run, failed=True)) is not None]
    return Comparison(table_of(results, tuned=trials > 1), results, store.folder, starts.given)


def _of(run: Run, seed: int, strategy: Strategy, start: Source | None) -> Run:
    """The same run with another seed, strategy and start; it has no teacher where nothing is trained."""
    teacher = None if strategy.learning_rate is None else run.teacher
    return replace(run, seed=seed, strategy=strategy, teacher=teacher, start=start)


def _distinct(samples: Sequence[dict[str, Any]], parts: Sequence[Data]) -> list[dict[str, Any]]:
    """Of several `max_train` that are all training rows there are, which would be the same training, the smallest."""
    most = max(len(part.splits["train"]) for part in parts)
    beyond = sorted(number for sample in samples if (number := sample.get("max_train", 0)) >= most)
    return [sample for sample in samples if sample.get("max_train") not in beyond[1:]]


def _parts(data: Any, kind: str | None) -> Sequence[Data]:
    """The data; of cross-validation each division.

    Raises:
        AdaptError: They cannot be read, or are for another kind.
    """
    if not isinstance(data, Data | Folds):
        return (load(data, kind=kind),)
    parts = data.parts if isinstance(data, Folds) else (data,)
    if kind is not None:
        name, problem = resolve(kind, None)
        known = parts[0]
        if name != known.kind or problem not in (None, known.problem):
            raise OptionError(f"kind is '{kind}', but the data are for {known.kind} ({known.problem}); leave kind out.")
    return parts


def embedded_data(kind: str | None) -> Data:
    """The embedded task of a kind; None: sequence classification.

    Raises:
        OptionError: There is no such kind, or its task is of another problem.
    """
    from adapt.data.embedded import embedded

    name, problem = resolve(kind, None)
    found = embedded(name or "sequence_classification")
    if problem not in (None, found.problem):
        raise OptionError(f"There is no embedded task for kind '{kind}' ({problem}); give data.")
    return found


def strategies_of(
    strategies: str | Sequence[str | Strategy],
    settings: Mapping[str, Mapping[str, Any]],
    presets: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> list[Strategy]:
    """The strategies meant.

    Args:
        strategies: `all`, names with commas between them, or a list of names and strategies.
        settings: Strategy name to field to value.
        presets: The same, for fields that `settings` does not give.

    Raises:
        OptionError: A name or field does not exist, a strategy is named twice, or a setting has no strategy.
    """
    if isinstance(strategies, str):
        strategies = list(STRATEGIES) if strategies == "all" else [s.strip() for s in strategies.split(",")]
    for name in settings:
        make(name, settings[name])  # a mistyped name or field is an error even where it is not run
    chosen = [make(s, {**presets.get(s, {}), **settings.get(s, {})}) if isinstance(s, str) else s for s in strategies]
    for strategy in chosen:
        if not is_known(strategy):
            raise OptionError(
                f"{type(strategy).__name__} is not the library's '{strategy.name}', and the processes of a comparison "
                "know no other; train it with adapt.fit."
            )
    if not chosen:
        raise OptionError(f"No strategy is given; choose 'all' or from {', '.join(STRATEGIES)}.")
    twice = {s.name for i, s in enumerate(chosen) if s in chosen[:i]}
    if twice:
        raise OptionError(f"Strategy {', '.join(sorted(twice))} is given twice.")
    idle = settings.keys() - {s for s in strategies if isinstance(s, str)}
    if idle:
        raise OptionError(
            f"Settings are given for {', '.join(sorted(idle))}, which is not among the strategies given by name."
        )
    return chosen


def samples_of(choices: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What is to replace `max_train` or `few_shot` where several are given, one after the other; else nothing, once.

    Raises:
        OptionError: None is given, one twice, or one that is no number of rows; or both options are given.
    """
    given = [name for name in ("max_train", "few_shot") if choices.get(name) is not None]
    several = [name for name in given if isinstance(choices[name], Iterable) and not isinstance(choices[name], str)]
    if not several:
        return [{}]
    name = several[0]
    numbers = [plain(number) for number in choices[name]]
    for number in numbers:
        check_count(name, number)
    if not numbers or len(set(numbers)) < len(numbers):
        raise OptionError(f"{name} is {choices[name]}; give at least one number of rows, and none twice.")
    if len(given) > 1:
        raise OptionError("max_train and few_shot are both given, and a learning curve is over one of them; give one.")
    return [{name: number} for number in numbers]


def seeds_of(seeds: int | Sequence[int]) -> list[int]:
    """
    Raises:
        OptionError: There is no seed, or one is negative or given twice.
    """
    given = plain(seeds)
    numbers = [seed_of(n) for n in (range(given) if isinstance(given, int) else given)]
    if not numbers or len(set(numbers)) < len(numbers):
        raise OptionError(f"seeds is {seeds}; give how many (at least 1), or distinct numbers from 0 up.")
    return numbers
