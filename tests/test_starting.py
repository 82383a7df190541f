"""Going on from an adapted model: what is taken from it, what is not, and what is said and recorded of it."""

from __future__ import annotations

import copy
import dataclasses
import json
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import tiny
import tiny_tasks
import torch
from comparison_helpers import contents, result_of, run_of
from fit_helpers import QUICK, TEXTS

import adapt
from adapt.adapted import MODEL_FILE, Adapted, assemble, start_of
from adapt.backbones.classes import name_of_base
from adapt.params import STATE_FILE, trainable_state
from adapt.run import run_from
from adapt.spec import AdaptError, OptionError, Source, Unsupported, canonical
from adapt.strategies import make
from adapt.tables.table import table_of
from adapt.training import Trained

MOST = {"max_steps": 2, "batch_size": 8, "max_length": 48, **QUICK}
Tensors = dict[str, torch.Tensor]


@pytest.fixture
def untouched(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Adapted]:
    """`adapt.fit` without a training step and without scores: what training would start from."""

    def fit(*given: Any, **named: Any) -> Adapted:
        with monkeypatch.context() as patch:
            patch.setattr("adapt.training.train", lambda *args, **rest: Trained(seconds=0.0))
            patch.setattr("adapt.memory.observe.observe", lambda *args: ({}, 0))
            patch.setattr("adapt.run._scored", lambda *args: {})
            return adapt.fit(*given, **{**MOST, **named})

    return fit


def outputs(model: Adapted) -> torch.Tensor:
    """Logits of three rows."""
    architecture = model.backbone.model_type
    with torch.no_grad():
        return tiny.outputs_of(model.fitted.model.eval(), tiny.inputs_for(architecture, model.run.task.kind))


def told(model: Adapted) -> list[str]:
    """What the result says of the start."""
    assert model.result is not None
    return [note for note in model.result.notes if " starts from " in note]


def within(model: Adapted) -> Tensors:
    """What is trained within the pretrained part, by its names there."""
    prefix = name_of_base(model.fitted.model)
    inside = f"{prefix}." if prefix else ""
    head = model.fitted.model.head_names
    state = {n: t for n, t in trainable_state(model.fitted.model).items() if n not in head and n.startswith(inside)}
    return {name.removeprefix(inside): tensor for name, tensor in state.items()}


def head(model: Adapted) -> Tensors:
    names = model.fitted.model.head_names
    return {n: t for n, t in trainable_state(model.fitted.model).items() if n in names}


def same(one: Tensors, other: Tensors) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def trained(backbone: Callable[..., Path]) -> Callable[..., Adapted]:
    """A model that is far from where its strategy starts, made once."""
    made: dict[tuple[str, str, str], Adapted] = {}

    def make(strategy: str, task: str, architecture: str = "bert") -> Adapted:
        key = (strategy, task, architecture)
        if key not in made:
            folder, data = backbone(architecture, masked=architecture == "bert"), tiny_tasks.TASKS[task]()
            made[key] = tiny.adapted(folder, data, tiny.STRATEGIES[strategy], precision="fp32")
        return made[key]

    return make


@pytest.fixture(scope="module")
def saved(trained: Callable[..., Adapted], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The folder of one."""
    root = tmp_path_factory.mktemp("saved")
    return lambda *given: trained(*given).save(root / "-".join(given))


CELLS = [
    *((strategy, "single_label", "bert") for strategy in tiny.STRATEGIES),
    ("lora", "multi_label", "bert"), ("bottleneck", "regression", "bert"), ("prefix", "spans", "bert"),
    ("bottleneck", "answers", "bert"), ("prefix", "masked", "bert"), ("head", "masked", "bert"),
    ("lora", "text", "t5"), ("full", "text", "bart"), ("qlora", "completion", "llama"),
]  # fmt: skip


@pytest.mark.parametrize(("strategy", "task", "architecture"), CELLS)
def test_for_the_same_task_training_starts_from_the_models_outputs(
    trained: Callable[..., Adapted], untouched: Callable[..., Adapted], strategy: str, task: str, architecture: str
) -> None:
    first, data = trained(strategy, task, architecture), tiny_tasks.TASKS[task]()
    begun = untouched(None, data, start=first, seed=5)
    assert torch.equal(outputs(begun), outputs(first))
    assert begun.run.strategy == first.run.strategy
    assert told(begun) == []


FROM_TO = [
    *((strategy, "masked", "spans", "bert") for strategy in tiny.STRATEGIES if strategy != "head"),
    ("bottleneck", "spans", "single_label", "bert"), ("full", "single_label", "masked", "bert"),
    ("lora", "completion", "answers", "llama"), ("prefix", "text", "single_label", "t5"),
    ("full", "text", "spans", "t5"), ("bottleneck", "spans", "text", "t5"),
]  # fmt: skip


@pytest.mark.parametrize(("strategy", "before", "after", "architecture"), FROM_TO)
def test_for_another_task_all_but_the_head_is_taken(
    trained: Callable[..., Adapted], untouched: Callable[..., Adapted], strategy: str, before: str, after: str,
    architecture: str,
) -> None:  # fmt: skip
    first, data = trained(strategy, before, architecture), tiny_tasks.TASKS[after]()
    begun = untouched(None, data, start=first, seed=5)
    bare = untouched(first.backbone.path, data, first.run.strategy, seed=5)
    given, taken, own = within(first), within(begun), within(bare)
    both = given.keys() & taken.keys()
    assert both
    assert all(torch.equal(taken[name], given[name]) for name in both)
    assert all(not torch.equal(own[name], given[name]) for name in both)
    rest = taken.keys() - both
    assert all(torch.equal(taken[name], own[name]) for name in rest)  # such as a decoder that was not there
    assert same(head(begun), head(bare))
    (note,) = told(begun)
    left = "" if strategy == "full" or not rest else f" and {len(rest)} of {len(taken)} other tensors"
    start, end = f"{strategy} starts from {first.run.task.name} in all but the head{left}", first.run.task.kind
    assert note.startswith(start)
    assert note.endswith(f": that is a model for {end.replace('_', ' ')}")


@pytest.mark.parametrize(
    ("before", "architecture", "options"),
    [("completion", "llama", {"template": "Q: {prompt}", "separator": " A: "}), ("text", "t5", {"prefix": "write: "})],
)
def test_a_start_that_read_rows_in_another_form_is_told_of(
    trained: Callable[..., Adapted], untouched: Callable[..., Adapted], before: str, architecture: str,
    options: dict[str, str],
) -> None:  # fmt: skip
    first, data = trained("lora", before, architecture), tiny_tasks.TASKS[before]()
    for choices, expected in (({}, []), (options, list(options))):
        result = untouched(None, data, start=first, **choices).result
        assert result is not None
        notes = [note for note in result.notes if "and training goes on with" in note]
        assert [note.split(" was trained with ")[1].split(" ")[0] for note in notes] == expected
        assert all(repr(choices[name]) in note for name, note in zip(expected, notes, strict=True))


def test_the_head_is_fresh_where_it_reads_or_says_something_else(
    trained: Callable[..., Adapted], untouched: Callable[..., Adapted]
) -> None:
    first, data = trained("bottleneck", "single_label"), tiny_tasks.TASKS["single_label"]()
    others = adapt.data.load([{"text": text, "label": f"class {i % 3}"} for i, text in enumerate(TEXTS * 6)])
    for rows, choices, why in [
        (data, {"pooling": "mean"}, "has native pooling"),
        (others, {}, f"has other classes ({', '.join(data.labels)})"),
        (tiny_tasks.TASKS["multi_label"](), {}, "is a model for the problem single_label"),
    ]:
        begun = untouched(None, rows, start=first, seed=5, **choices)
        assert same(within(begun), within(first))
        assert same(head(begun), head(untouched(first.backbone.path, rows, first.run.strategy, seed=5, **choices)))
        assert told(begun) == [f"bottleneck starts from {first.run.task.name} in all but the head: that {why}"]


def test_the_model_is_the_same_however_the_start_is_given(
    trained: Callable[..., Adapted], saved: Callable[..., Path], tmp_path: Path
) -> None:
    """In memory, loaded or by its folder, which need not exist any more afterwards; no path of it is kept."""
    folder = Path(shutil.copytree(saved("bottleneck", "masked"), tmp_path / "first"))
    data, starts = tiny_tasks.TASKS["spans"](), (folder, trained("bottleneck", "masked"), adapt.load(folder))
    models = [adapt.fit(None, data, start=start, **MOST) for start in starts]
    assert len({model.run.key() for model in models}) == 1
    assert all(torch.equal(outputs(model), outputs(models[0])) for model in models[1:])
    models[0].save(tmp_path / "second")
    shutil.rmtree(folder)
    again = adapt.load(tmp_path / "second", device="cpu")
    assert torch.equal(outputs(again), outputs(models[0]))
    assert again.run == models[0].run
    for name in (MODEL_FILE, "result.json"):
        assert str(folder) not in (tmp_path / "second" / name).read_text()
    assert not torch.equal(outputs(models[0]), outputs(adapt.fit(None, data, start=models[0], **MOST)))


def test_what_a_run_starts_from_is_part_of_its_key(
    trained: Callable[..., Adapted], untouched: Callable[..., Adapted]
) -> None:
    data, first = tiny_tasks.TASKS["spans"](), trained("bottleneck", "masked")
    bare = assemble(first.backbone.path, data, first.run.strategy, **MOST)[0]
    assert "start" not in bare.spec()
    one = untouched(None, data, start=first)
    other = untouched(None, data, start=one)
    assert len({bare.key(), one.run.key(), other.run.key()}) == 3
    assert one.run.start is not None
    assert one.run.spec()["start"] == {"name": first.run.task.name, "sha256": one.run.start.sha256}
    assert dataclasses.replace(one.run, start=None) == bare
    assert run_from(json.loads(canonical(one.run.spec()))) == one.run


def test_a_start_is_known_by_all_that_it_hands_on(trained: Callable[..., Adapted], saved: Callable[..., Path]) -> None:
    """Its tensors, what its head says of which class, and what its kind has found; not where it lies or how it is
    trained on."""
    first = trained("bottleneck", "single_label")
    known = start_of(first).source.sha256
    assert start_of(saved("bottleneck", "single_label")).source.sha256 == known
    budget = dataclasses.replace(first.run.budget, epochs=7)
    assert (
        start_of(dataclasses.replace(first, run=dataclasses.replace(first.run, budget=budget))).source.sha256 == known
    )
    task = first.run.task
    others = [
        dataclasses.replace(first, run=dataclasses.replace(first.run, task=dataclasses.replace(task, **changes)))
        for changes in ({"labels": task.labels[::-1]}, {"pooling": "mean" if task.pooling == "native" else "native"},
                        {"problem": "multi_label"}, {"kind": "token_classification"})
    ]  # fmt: skip
    kind = copy.copy(first.fitted.kind)
    kind.load_state({"mean": 3.0, "std": 2.0})
    others.append(dataclasses.replace(first, fitted=dataclasses.replace(first.fitted, kind=kind)))
    model = copy.deepcopy(first.fitted.model)
    next(p for p in model.parameters() if p.requires_grad).data.view(-1)[0] += 1
    others.append(dataclasses.replace(first, fitted=dataclasses.replace(first.fitted, model=model)))
    assert len({known, *(start_of(other).source.sha256 for other in others)}) == 1 + len(others)


def test_memory_and_forgetting_are_those_of_a_run_from_the_backbone(
    trained: Callable[..., Adapted], saved: Callable[..., Path]
) -> None:
    """The loss before is that of the backbone as its checkpoint has it."""
    data, texts = tiny_tasks.TASKS["single_label"](), ["word1 word2 word3 word4", "sunny word5 word6 kind word7"]
    first = trained("full", "single_label")
    begun = adapt.fit(None, data, start=saved("full", "single_label"), general=texts, **MOST).result
    bare = adapt.fit(first.backbone.path, data, first.run.strategy, general=texts, **MOST).result
    assert begun is not None
    assert bare is not None
    assert begun.memory == bare.memory
    assert (begun.trainable, begun.saved_bytes) == (bare.trainable, bare.saved_bytes)
    assert begun.forgetting["before"] == bare.forgetting["before"]
    assert begun.forgetting["after"] != bare.forgetting["after"]


def test_what_was_trained_is_not_held_while_training_goes_on(
    saved: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    start, held = start_of(saved("bottleneck", "single_label")), list[bool]()
    tensors = [weakref.ref(tensor) for tensor in start.state.values()]
    trained = Trained(seconds=0.0)
    monkeypatch.setattr(
        "adapt.training.train", lambda *given, **rest: held.append(any(ref() is not None for ref in tensors)) or trained
    )
    adapt.fit(None, tiny_tasks.TASKS["single_label"](), start=start, **MOST)
    assert held == [False]


def test_rows_of_some_of_the_models_classes_keep_its_head(
    trained: Callable[..., Adapted], untouched: Callable[..., Adapted]
) -> None:
    first, data = trained("lora", "spans"), tiny_tasks.TASKS["spans"]()
    rows = [
        {"tokens": row["tokens"], "tags": [data.labels[tag] for tag in row["tags"]]} for row in data.splits["train"]
    ]
    some = adapt.data.load([row for row in rows if "B-blame" not in row["tags"]])
    assert set(some.labels) < set(data.labels)
    begun = untouched(None, some, start=first)
    assert begun.run.task.labels == data.labels
    assert torch.equal(outputs(begun), outputs(first))
    assert told(begun) == []


@pytest.mark.parametrize("task", ["single_label", "multi_label", "spans"])
def test_rows_under_more_labels_have_the_ones_that_they_had(task: str) -> None:
    def named(value: Any, labels: tuple[str, ...]) -> Any:
        if task == "multi_label":
            return {name for name, on in zip(labels, value, strict=True) if on}
        return [labels[tag] for tag in value] if task == "spans" else labels[value]

    data = tiny_tasks.TASKS[task]()
    more = ("first", *reversed(data.labels), "last")
    under = data.under(more, "the teacher")
    assert under.notes == (
        *data.notes, f"2 of {len(more)} classes are the teacher's alone, of which no row has the label: first, last"
    )  # fmt: skip
    assert (under.labels, under.kind, under.problem) == (more, data.kind, data.problem)
    assert under.sha256 != data.sha256
    column = "tags" if task == "spans" else "label"
    for split, rows in data.splits.items():
        assert rows.remove_columns(column).to_list() == under.splits[split].remove_columns(column).to_list()
        assert rows.features.type == under.splits[split].features.type
        for before, after in zip(rows[column], under.splits[split][column], strict=True):
            assert named(after, more) == named(before, data.labels)
    assert data.under(data.labels, "a model") is data


def test_a_regression_keeps_the_scale_that_its_head_was_trained_for(
    trained: Callable[..., Adapted], untouched: Callable[..., Adapted]
) -> None:
    first = trained("bottleneck", "regression")
    state = first.fitted.kind.state()
    for scale, same in ((1.5, True), (0.6, True), (3, False), (0.3, False)):
        labels = [state["mean"] + scale * state["std"] * (-1) ** i + i / 1e6 for i in range(24)]
        rows = [{"text": text, "label": label} for text, label in zip(TEXTS * 4, labels, strict=True)]
        more = untouched(None, adapt.data.load(rows), start=first)
        assert (more.predict(TEXTS) == first.predict(TEXTS)) == same
        assert more.result is not None
        assert any("is taken to be on the scale of the training rows" in n for n in more.result.notes) != same
    far = [{"text": text, "label": state["mean"] + 50 * state["std"] + i / 9} for i, text in enumerate(TEXTS * 4)]
    values = [row["value"] for row in untouched(None, adapt.data.load(far), start=first).predict(TEXTS)]
    assert min(values) > state["mean"] + 20 * state["std"], "the head gives deviations from the new mean"


def test_questions_without_an_answer_stay_possible(
    trained: Callable[..., Adapted], untouched: Callable[..., Adapted], saved: Callable[..., Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(saved("bottleneck", "answers"), tmp_path / "first"))
    content = json.loads((folder / MODEL_FILE).read_text())
    assert content["kind_state"] == {"unanswerable": 0.0}
    (folder / MODEL_FILE).write_text(json.dumps({**content, "kind_state": {"unanswerable": 1.0}}))
    begun = untouched(None, tiny_tasks.TASKS["answers"](), start=folder)
    assert begun.fitted.kind.state() == {"unanswerable": 1.0}


def test_the_learning_rate_is_the_one_that_the_model_had_unless_one_is_given(
    trained: Callable[..., Adapted], untouched: Callable[..., Adapted]
) -> None:
    data, first = tiny_tasks.TASKS["single_label"](), trained("lora", "single_label")
    own = first.run.strategy

    def rate(start: Any, *given: Any, **named: Any) -> tuple[Adapted, float | None]:
        model = untouched(None, data, *given, start=start, **named)
        assert model.result is not None
        return model, model.result.learning_rate

    assert rate(first)[1] == rate(first, "lora")[1] == own.learning_rate != adapt.LoRA().learning_rate
    second, used = rate(first, learning_rate=1e-3)
    assert used == 1e-3
    assert rate(second)[1] == 1e-3  # what it was trained with, though that was for whatever strategy
    assert rate(first, dataclasses.replace(own, learning_rate=3e-3))[1] == 3e-3


def test_how_a_model_is_trained_may_change_and_what_it_computes_may_not(
    trained: Callable[..., Adapted], untouched: Callable[..., Adapted]
) -> None:
    data = tiny_tasks.TASKS["single_label"]()
    for strategy, changes, said in [
        ("lora", {"rank": 2}, r"lora\.rank=4, on which what it computes depends, and 2 is given"),
        ("lora", {"alpha": 4.0}, r"lora\.alpha=8\.0, .*, and 4\.0 is given"),
        ("bottleneck", {"non_linearity": "gelu"}, r"bottleneck\.non_linearity=relu, .*, and gelu is given"),
        ("bottleneck", {"embedding_rank": 2}, r"bottleneck\.embedding_rank=0, .*, and 2 is given"),
        ("prefix", {"gated": True}, r"prefix\.gated=False, .*, and True is given"),
    ]:
        changed = dataclasses.replace(tiny.STRATEGIES[strategy], **changes)  # type: ignore[type-var]
        with pytest.raises(OptionError, match=rf"The model to start from was trained with {said}; give the same"):
            adapt.fit(None, data, changed, start=trained(strategy, "single_label"), **MOST)
    for strategy, changes in [
        ("full", {"head_factor": 2.0}), ("head", {"memo_bytes": 0}), ("lora", {"dropout": 0.2, "embedding_rate": 1e-3}),
        ("prefix", {"init": "random"}),
    ]:  # fmt: skip
        changed = dataclasses.replace(tiny.STRATEGIES[strategy], **changes)  # type: ignore[type-var]
        first = trained(strategy, "single_label")
        begun = untouched(None, data, changed, start=first)
        assert begun.run.strategy == changed
        assert torch.equal(outputs(begun), outputs(first))


def test_the_trained_words_and_gates_of_a_model_go_on(
    backbone: Callable[..., Path], untouched: Callable[..., Adapted]
) -> None:
    strategy = adapt.Prefix(virtual_tokens=4, gated=True, embedding_rank=2)
    first = tiny.adapted(backbone("bert", masked=True), tiny_tasks.TASKS["masked"](), strategy, precision="fp32")
    begun = untouched(None, tiny_tasks.TASKS["single_label"](), start=first)
    assert same(within(begun), within(first))
    kinds = {name.rpartition(".")[2] for name in within(first)}
    assert kinds == {"keys", "values", "gate", "coefficients", "directions"}


def test_what_cannot_be_gone_on_from_is_refused(
    saved: Callable[..., Path], backbone: Callable[..., Path], tmp_path: Path
) -> None:
    data, start = tiny_tasks.TASKS["single_label"](), saved("lora", "single_label")
    for given, said in [
        ((backbone("bert", seed=1), data), r"on 'bert.*' \(content .*\), which the backbone given, .*, is not; give"),
        ((None, data, "bottleneck"), r"with lora, from which bottleneck cannot go on; leave the strategy out"),
        ((None, data, adapt.BottleneckAdapter()), r"with lora, from which bottleneck cannot go on; leave the strategy"),
    ]:
        with pytest.raises(AdaptError, match=rf"The model in .* was trained {said}"):
            adapt.fit(*given, start=start, **MOST)
    with pytest.raises(OptionError, match=r"backbone is None; give one, or a model to start from"):
        adapt.fit(None, data)
    with pytest.raises(OptionError, match=r"start is 3; give the folder of a saved model, or the model itself"):
        adapt.fit(None, data, start=3)  # type: ignore[arg-type]
    for folder in (tmp_path / "nowhere", backbone("bert")):
        with pytest.raises(AdaptError, match=r" does not hold a saved model \(no adapt\.json\)"):
            adapt.fit(None, data, start=folder)
    broken = Path(shutil.copytree(start, tmp_path / "broken"))
    (broken / STATE_FILE).write_bytes((broken / STATE_FILE).read_bytes()[:-1])
    with pytest.raises(AdaptError, match=r"trainable\.safetensors is not the file that was saved"):
        adapt.fit(None, data, start=broken)


def test_a_backbone_that_was_moved_is_named_where_it_is_now(
    saved: Callable[..., Path], backbone: Callable[..., Path], untouched: Callable[..., Adapted], tmp_path: Path
) -> None:
    data, moved = tiny_tasks.TASKS["single_label"](), shutil.copytree(saved("lora", "single_label"), tmp_path / "moved")
    content = json.loads((moved / MODEL_FILE).read_text())
    (moved / MODEL_FILE).write_text(json.dumps({**content, "reference": str(tmp_path / "gone")}))
    with pytest.raises(
        AdaptError, match=r"The model in .*moved does not find its backbone: .*gone does not exist.*Say"
    ):
        adapt.fit(None, data, start=moved)
    assert untouched(backbone("bert", masked=True), data, start=moved).run.start is not None


def test_a_head_alone_is_for_no_other_task(
    trained: Callable[..., Adapted], untouched: Callable[..., Adapted], backbone: Callable[..., Path]
) -> None:
    with pytest.raises(
        Unsupported, match=r"nothing that head could go on from but a head, and that is a model for mas"
    ):
        untouched(None, tiny_tasks.TASKS["spans"](), start=trained("head", "masked"))
    with pytest.raises(Unsupported, match=r"nothing that head could go on from but a head, and that is a model for "):
        untouched(None, tiny_tasks.TASKS["single_label"](), pooling="mean", start=trained("head", "masked"))
    data = tiny_tasks.TASKS["masked"]()
    first = tiny.adapted(backbone("bert", masked=True), data, make("untrained"))
    with pytest.raises(Unsupported, match=r"nothing that untrained could go on from; leave the start out"):
        untouched(None, data, start=first)


def test_a_head_goes_on_upon_features_as_they_are(
    backbone: Callable[..., Path], untouched: Callable[..., Adapted]
) -> None:
    """A saved head reads them so, whatever it was trained on."""
    data = tiny.classification(16, 4)
    first = untouched(backbone("bert"), data, adapt.Head(standardise=True), pooling="mean")
    with pytest.raises(Unsupported, match=r"reads features as they are; set standardise=False"):
        untouched(None, data, start=first, pooling="mean")
    for pooling in ({"pooling": "mean"}, {}):  # that of the start where none is given
        assert torch.equal(outputs(untouched(None, data, adapt.Head(), start=first, **pooling)), outputs(first))


@dataclasses.dataclass(frozen=True)
class Norms:
    """Train the norms and the head."""

    name: ClassVar[str] = "norms"
    learning_rate: float = 1e-2

    def build(self, load: Any, task: Any) -> Any:
        model = load(frozen=True)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(parameter.requires_grad or "LayerNorm" in name)
        return model


@dataclasses.dataclass(frozen=True)
class Late(Norms):
    """With a field that came later, whose default is not what earlier models had."""

    size: int = dataclasses.field(default=4, metadata={"neutral": 0})
    names: list[str] = dataclasses.field(default_factory=list, metadata={"neutral": []})


def test_a_strategy_of_ones_own_goes_on(
    backbone: Callable[..., Path], untouched: Callable[..., Adapted], tmp_path: Path
) -> None:
    data = tiny_tasks.TASKS["single_label"]()
    first = tiny.adapted(backbone("bert"), data, Norms(), precision="fp32")
    assert torch.equal(outputs(untouched(None, data, start=first)), outputs(first))
    with pytest.raises(OptionError, match=r"with a strategy of your own; load it with adapt\.load\(\.\.\., strategy=N"):
        untouched(None, data, start=first.save(tmp_path / "own"))
    folder = tiny.adapted(backbone("bert"), data, Late(size=0), precision="fp32").save(tmp_path / "late")
    with pytest.raises(OptionError, match=r"strategy=Late\(learning_rate=0\.01, size=0, names=\[\]\)\)"):
        adapt.load(folder, strategy=Late())


def test_a_table_has_a_row_for_what_a_run_starts_from() -> None:
    """Each seed may have a start of its own; two of one seed are told apart. Others are compared to what has none."""

    def content(seed: int, start: Source | None, strategy: str = "full") -> dict[str, Any]:
        return contents([result_of(dataclasses.replace(run_of(strategy, seed), start=start))])[0]

    one, other = Source("texts", "a" * 64), Source("texts", "b" * 64)
    table = table_of([content(seed, start) for seed, start in ((0, None), (1, None), (0, one), (1, other))])
    assert [(row.strategy, sorted(row.scores)) for row in table.rows] == [
        ("full", [0, 1]), ("full, started from texts", [0, 1])
    ]  # fmt: skip
    assert table.rows[0].difference is None
    assert table.rows[1].difference is not None
    rows = table_of([content(0, one), content(0, other), content(1, one)]).rows
    assert [(row.strategy, sorted(row.scores)) for row in rows] == [
        ("full, started from texts, content aaaaaa", [0, 1]), ("full, started from texts, content bbbbbb", [0])
    ]  # fmt: skip


def test_starts_of_several_rates_are_told_apart_in_a_tuned_table() -> None:
    """Which have rates of their own, so that none is tried at the other's."""
    starts = [Source("texts", digest * 64) for digest in "ab"]
    runs = [
        dataclasses.replace(run_of("lora", seed, settings={"learning_rate": rate}), start=start)
        for start, rates in zip(starts, ((1e-3, 2e-3), (3e-3, 4e-3)), strict=True)
        for rate in rates
        for seed in (0, 1)
    ]
    rows = table_of(contents(map(result_of, runs)), tuned=True).rows
    assert [(row.strategy, len(row.scores)) for row in rows] == [
        ("lora, started from texts, content aaaaaa", 2), ("lora, started from texts, content bbbbbb", 2)
    ]  # fmt: skip
