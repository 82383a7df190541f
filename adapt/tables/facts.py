"""What stands below a table: all that a reader must know to judge its numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from adapt.display import counted
from adapt.metrics import LOWER_IS_BETTER
from adapt.result import Content
from adapt.spec import Budget, fields_of
from adapt.stats import one_prevails, pareto_front
from adapt.strategies import recorded
from adapt.tables.cells import digits, escape, machine, named
from adapt.tables.folds import environments_of, found_features
from adapt.tables.section import Row, Section, goodness, of_most_seeds
from adapt.tasks import KINDS

_SCHEDULE = {"decay": "decay", "warmup": "warm-up", "weight_decay": "weight decay", "clip": "gradients clipped at"}
"""Fields of the budget that are named where they are not the defaults."""
_IN_COMMON = frozenset({"context", "source", "prompt", "text"})
"""What test rows of a group have in common, unless a column was named for it."""


def facts(section: Section) -> list[str]:
    """What a reader must know: data, backbone, budget, tuning, seeds, trade-offs, hardware, versions, the command."""
    results = section.results
    good = [r for r in results if r["status"] == "ok"]
    spec = (good or results)[0]["spec"]
    task, backbone = spec["task"], spec["backbone"]
    split = "test" if "test" in task["rows"] else "validation" if "validation" in task["rows"] else "nothing"
    found = any(map(found_features, good))
    return [
        _data(task, split, good),
        f"- Backbone: {escape(backbone['name'])} (content {backbone['sha256'][:12]}), {_head(task)}.",
        f"- Budget: {_budget(spec['budget'])}; {_rates(section, spec['budget']['learning_rate'])}"
        f"{_warmups(section, spec['budget'].get('warmup', Budget.warmup))}.",
        f"- Seeds: {', '.join(map(str, sorted({r['seed'] for r in results})))}; a seed fixes sample, head and order of "
        f"rows for every strategy alike; {_uncertainty(section, 'fold' in task)}.",
        *_starts(good),
        *_teachers(good),
        *_trade_off(section.rows),
        *_without_model(section),
        "- Memory: what tensors hold at the peak of a training step on the longest rows. Time: training steps without "
        "scoring" + (", of the runs that computed all features themselves (empty where none did)." if found else "."),
        *_predictions(section.rows, split, found),
        *_forgetting(good),
        *_made([environment for environment in environments_of(good or results) if environment]),
        *(f"- Note: {escape(note)}" for note in dict.fromkeys(n for r in results for n in r.get("notes", ()))),
    ]


def _data(task: Mapping[str, Any], split: str, good: Sequence[Content]) -> str:
    """Which rows, how many of them are trained on, and which are scored when."""
    sizes = ", ".join(f"{task['rows'][s]:,} {s}" for s in ("train", "validation", "test") if s in task["rows"])
    scored = split
    if fold := task.get("fold"):
        sizes = sizes if all(r["folds"]["alike"] for r in good) else f"up to {sizes}"
        sizes += f" in one of {fold[1]} folds, of which each row is in the test split of one and scored there"
        pooled = all(r["folds"]["pooled"] for r in good)
        scored = f"the test rows of {'all folds together' if pooled else 'each fold, and the mean over rows taken'}"
    sizes += f", {task['few_shot']} a class" if task["few_shot"] else ""
    sizes += f", at most {task['max_train']:,} of the training rows" if task["max_train"] else ""
    sizes += ", loss weighted by class" if task["class_weights"] == "balanced" else ""
    texts = KINDS[task["kind"]].long_texts.format(task["max_length"])
    epoch = f"at the epoch with the best validation {(task.get('selection') or task['metric']).replace('_', ' ')}"
    return (
        f"- Data: {escape(task['data']['name'])} (content {task['data']['sha256'][:12]}), rows: {sizes}; "
        f"{texts}; scored on {scored}, "
        f"{epoch if 'validation' in task['rows'] else 'after the last epoch'}."
    )


def _budget(budget: Mapping[str, Any]) -> str:
    """How long and how it was trained; what is as it is by default is left out."""
    parts = [counted(budget["epochs"], "epoch")]
    if budget["max_steps"]:
        parts.append(f"at most {counted(budget['max_steps'], 'step')}")
    if budget["patience"]:
        parts.append(f"stopped after {counted(budget['patience'], 'epoch')} without a better score")
    parts += [f"batch {budget['batch_size']} × {budget['accumulation']}", budget["precision"]]
    parts.append("the backbone's dropout" if budget["dropout"] is None else f"dropout {budget['dropout']:g}")
    for name, words in _SCHEDULE.items():
        if name in budget and budget[name] != getattr(Budget, name):
            parts.append(f"{words} {escape(str(budget[name]))}")
    if budget.get("checkpointing"):
        parts.append("gradient checkpointing")
    if "loss_chunk" in budget:
        parts.append(f"logits of {budget['loss_chunk']} tokens at a time")
    if "optimizer" in budget:
        parts.append(escape(budget["optimizer"]))
    if "graphs" in budget:
        parts.append(f"CUDA graphs {escape(budget['graphs'])}")
    return ", ".join(parts)


def _made(environments: Sequence[Mapping[str, Any]]) -> list[str]:
    """On which hardware, with which versions and states of the code, and by which command; nothing if none says so."""
    if not environments:
        return []
    machines = list(dict.fromkeys(map(machine, environments)))
    states = list(dict.fromkeys(filter(None, map(_code, environments))))
    commands = dict.fromkeys(command for each in environments if (command := each.get("command")))
    several = f"runs were made in {len(machines)} surroundings, so that times are not alike: "
    return [
        f"- Hardware: {several if machines[1:] else ''}{'; or '.join(machines)}.",
        *([f"- Code: runs were made with {len(states)} states of it ({', '.join(states)})."] if states[1:] else []),
        *([f"- Made by: {'; '.join(map(escape, commands))}"] if commands else []),
    ]


def _uncertainty(section: Section, folds: bool) -> str:
    """What the intervals are over."""
    scored = [row for row in section.rows if row.score and row.trainable is not None]
    of, numbers = section.test_groups.get("of"), section.test_groups.get("numbers", ())
    one, by = (of, "") if of in _IN_COMMON else ("group", f" by {escape(str(of))}")
    several = f"{one}s{by}"
    if not scored:
        return "there are no scores to make intervals of"
    seeds_alone = [named(row.strategy) for row in scored if not row.parts]
    rows_alone = [named(row.strategy) for row in scored if row.parts and len(row.scores) == 1]
    if len(seeds_alone) == len(scored):
        return (
            "intervals are Student's t over seeds, differences paired by seed; the choice of rows scored is not in them"
            + (f", for most are of one {one}{by}" if one_prevails(numbers) else "")
        )
    by_rows = [row.difference.by_rows for row in section.rows if row.difference is not None]
    others = f"{several} than the {len(set(numbers)):,} of these test rows" if numbers else "test rows like these"
    paired = "both" if all(by_rows) else "both where both rows tell" if any(by_rows) else "seed alone"
    one_seed = len(rows_alone) == len(scored)
    text = f"intervals are for other {'' if one_seed else 'seeds and other '}{others}"
    text += "" if one_seed else " (crossed random effects)"
    text += f", differences paired by {'row' if one_seed else paired}" if by_rows else ""
    text += "; what another seed would change is not in them" if one_seed else ""
    if folds:
        text += "; that models of several folds share training rows is not in them, which makes them somewhat narrow"
    what = several if numbers else "rows"
    if rows_alone and not one_seed:
        text += f"; of {', '.join(rows_alone)}, with one seed, for other {what} alone"
    several_seeds = [row for row in section.rows if len(row.scores) > 1]
    few = [named(row.strategy) for row in several_seeds if row.difference and row.difference.seeds == 1]
    if few:
        text += f"; differences of {', '.join(few)}, over the one seed that both have, for other {what} alone"
    text += f"; of {', '.join(seeds_alone)} for other seeds alone" if seeds_alone else ""
    alike = [named(row.strategy) for row in scored if row.parts and row.score and row.score.low == row.score.high]
    none = f"; of {', '.join(alike)}, whose {what} all have the same mean score, none can be made"
    return text + (none if alike else "")


def _trade_off(rows: Sequence[Row]) -> list[str]:
    """Which rows no other is as good as in score, memory and time."""
    costed = [row for row in rows if row.score and row.peak_bytes is not None and row.train_seconds is not None]
    told = of_most_seeds(costed)
    if len(told) < 2:
        return []
    points = [(goodness(row), -(row.peak_bytes or 0), -(row.train_seconds or 0)) for row in told]
    front = ", ".join(named(told[i].strategy) for i in pareto_front(points))
    fewer = " and as many seeds" if len(told) < len(costed) else ""
    return [
        f"- Trade-off: on the Pareto front of mean score, peak memory and train time: {front}; each other row with "
        f"all three{fewer} is matched or beaten in all of them by one of these."
    ]


def _without_model(section: Section) -> list[str]:
    """Which rows are no better than what is reached without a model."""
    scored = [row for row in section.rows if row.score is not None]
    reached = max((row for row in scored if row.strategy not in section.groups), key=goodness, default=None)
    if reached is None:
        return []
    behind = [row for row in scored if row.strategy in section.groups and not _is_better(row, reached)]
    names = ", ".join(named(row.strategy) for row in behind)
    said = f"- Without a model: {named(reached.strategy)} has at least as good a mean score as {names}."
    return [said] if behind else []


def _is_better(row: Row, reached: Row) -> bool:
    """Whether the mean is better than another, over the seeds that both have, if there are such."""
    shared = row.scores.keys() & reached.scores.keys()
    if not shared:
        return goodness(row) > goodness(reached)
    ours, theirs = (fmean(each.scores[seed] for seed in shared) for each in (row, reached))
    return ours < theirs if row.metric in LOWER_IS_BETTER else ours > theirs


def _rates(section: Section, of_all: float | None) -> str:
    """The learning rates, and what they were chosen from."""
    if of_all is not None:
        return f"learning rate {of_all:g} for all"
    used = {label: group[0]["settings"]["learning_rate"] for label, group in section.groups.items()}
    tried = section.tried
    each = ("; " if tried else ", ").join(
        f"{named(label)} {rate:g}"
        + (f" of {', '.join(f'{other:g}' for other in tried[label])}" if label in tried else "")
        for label, rate in sorted(used.items())
        if rate
    )
    if not tried:
        return f"each strategy's own learning rate ({each})"
    task = section.results[0]["spec"]["task"]
    metric = (task.get("selection") or task["metric"]).replace("_", " ")
    edge = [named(label) for label in sorted(tried) if used[label] in (tried[label][0], tried[label][-1])]
    beyond = f"; of {', '.join(edge)} it is the lowest or highest tried, so that one beyond it may be better still"
    over = " over all folds, also of rows that others are scored on" if task.get("fold") else ""
    return f"learning rates by the best mean validation {metric}{over} ({each}){beyond if edge else ''}"


def _warmups(section: Section, of_all: float) -> str:
    """Which rows have a longer warm-up than the budget's; nothing if none has."""
    own = {label: recorded(group[0]["spec"]["strategy"]).get("warmup") for label, group in section.groups.items()}
    shares = [(label, share) for label, share in sorted(own.items()) if isinstance(share, int | float)]
    longer = [f"{named(label)} {share:g}" for label, share in shares if share > of_all]
    return f"; a longer warm-up (share of the steps) of {', '.join(longer)}" if longer else ""


def _predictions(rows: Sequence[Row], split: str, found: bool) -> list[str]:
    """What the column of predictions says, where there is one."""
    if all(row.predicted_per_second is None for row in rows):
        return []
    return [
        f"- Predictions: rows of {split} a second after training, without scoring"
        + (", of the same runs" if found else "")
        + "; full fine-tuning has the backbone's own speed."
    ]


def _forgetting(good: Sequence[Content]) -> list[str]:
    """Which texts the column of forgetting is of, where there is one."""
    of = [r for r in good if r.get("forgetting")]
    if not of:
        return []
    general, found = of[0]["spec"]["general"], [r["forgetting"] for r in of]
    before = " or ".join(sorted({digits(f["before"]) for f in found}))
    epochs = sorted({epoch for r in of if (epoch := r.get("best_epoch"))})
    kept = f", of the models that were kept, after {epochs[0]} to {epochs[-1]} epochs" if len(epochs) > 1 else ""
    return [
        f"- Forgetting: loss on {escape(general['name'])} (content {general['sha256'][:12]}, {found[0]['tokens']:,} "
        f"{found[0]['predicts']}) after adaptation minus before (then {before}), under the backbone's own "
        f"language-model head{kept}; its intervals are over seeds."
    ]


def _starts(good: Sequence[Content]) -> list[str]:
    """What rows started from, where some did."""
    each = _models_before(good, "start")
    return [f"- Started from models trained before, which no column counts: {each}."] if each else []


def _teachers(good: Sequence[Content]) -> list[str]:
    """What rows were taught by, where some were."""
    each = _models_before(good, "teacher")
    return [f"- Taught by models whose training and answers no column counts: {each}."] if each else []


def _models_before(good: Sequence[Content], role: str) -> str:
    """Names and contents of the models that runs have in a role, and whether some of several seeds share one; empty
    where there are none."""
    seeds: dict[str, dict[str, set[int]]] = {}
    for r in good:
        if found := r["spec"].get(role):
            seeds.setdefault(found["name"], {}).setdefault(found["sha256"], set()).add(r["seed"])
    each = "; ".join(
        f"{escape(name)} (content {', '.join(sha256[:12] for sha256 in sorted(contents))})"
        for name, contents in seeds.items()
    )
    shared = any(len(of_one) > 1 for contents in seeds.values() for of_one in contents.values())
    return each + ("; seeds share one, and what another one would change is in no interval" if shared else "")


def _code(environment: Mapping[str, Any]) -> str:
    """The state of this package's code, as far as it is known: of a checkout and of its modules."""
    commit, content = environment.get("commit"), environment.get("code")
    return escape(", ".join(filter(None, (commit, content and f"content {content}"))))


def _head(task: Mapping[str, Any]) -> str:
    """Pooling of a classifier, or the kind of task with its options, but for what is off, or empty, by default."""
    if task["kind"] == "sequence_classification":
        return f"{task['pooling']} pooling"
    kind, options = KINDS.get(task["kind"]), task.get("options", {})
    defaults = {} if kind is None else fields_of(kind.Options())
    chosen = ", ".join(
        f"{name.replace('_', ' ')} {_legible(value)}"
        for name, value in options.items()
        if value or value != defaults.get(name, value)
    )
    return escape(task["kind"].replace("_", " ") + (f" ({chosen})" if chosen else ""))


def _legible(value: Any) -> str:
    """An option's value; a text is in quotes, its line breaks escaped, where white space of it would not be seen."""
    seen = not isinstance(value, str) or (value and value == " ".join(value.split()))
    return str(value) if seen else json.dumps(value, ensure_ascii=False)
