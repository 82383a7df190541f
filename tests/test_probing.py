"""Probes beside closed forms, of models whose layers hold what was put there, of every architecture and strategy."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import task_helpers
import tiny
import tiny_tasks
import torch
import transformers

import adapt
from adapt.data import Data
from adapt.extraction import Probing, Reader, reader
from adapt.extraction.linear import PENALTIES, Fit, Vectors, _classifiers, best, fits, measure
from adapt.extraction.probes import Part, control_targets
from adapt.extraction.probing import _draw
from adapt.spec import AdaptError, DataError, OptionError, Unsupported
from adapt.stats import mean_interval, paired_difference

RNG = np.random.default_rng(0)


def vectors(rows: int, targets: Any) -> Vectors:
    return Vectors(RNG.normal(size=(rows, 6)).astype(np.float32), np.asarray(targets))


def fit(problem: Any, train: Vectors, validation: Vectors) -> Fit:
    return best(fits(problem, train), validation.values, lambda found: measure(problem, found, validation.targets))


# ---------------------------------------------------------------- the probe


def test_a_ridge_probe_is_the_closed_form() -> None:
    x = RNG.normal(3, 2, size=(60, 6)).astype(np.float32)
    y = x @ RNG.normal(size=6) + 7 + RNG.normal(size=60)
    found = fit("regression", Vectors(x[:40], y[:40]), Vectors(x[40:], y[40:]))
    z, centre = (x - x[:40].mean(0)) / x[:40].std(0), y[:40].mean()
    expected = {}
    for penalty in PENALTIES:
        w = np.linalg.solve(z[:40].T @ z[:40] + penalty * np.eye(6), z[:40].T @ (y[:40] - centre))
        expected[penalty] = z @ w + centre
    scores = {p: measure("regression", guess[40:], y[40:]) for p, guess in expected.items()}
    assert found.penalty == max(PENALTIES, key=lambda p: scores[p])
    np.testing.assert_allclose(found.decide(x), expected[found.penalty], rtol=1e-4)
    large = y.astype(np.float64) * 1e-2 + 1e6  # whose differences would be lost beside their size
    there = fit("regression", Vectors(x[:40], large[:40]), Vectors(x[40:], large[40:])).decide(x)
    np.testing.assert_allclose((there - 1e6) * 1e2, expected[found.penalty], rtol=1e-3)


def test_a_logistic_probe_is_where_its_loss_has_no_gradient() -> None:
    x, y = RNG.normal(size=(80, 5)), RNG.integers(3, size=80)
    for penalty, found in zip(PENALTIES, _classifiers(x, y), strict=True):
        w, b, _ = found.args
        logits = x @ w.T + b
        shares = np.exp(logits - logits.max(1, keepdims=True))
        rest = shares / shares.sum(1, keepdims=True) - np.eye(3)[y]
        # summed cross-entropy and half the penalty times the squared norm of the coefficients
        assert np.abs(rest.T @ x + penalty * w).max() < 0.05
        assert np.abs(rest.sum(0)).max() < 0.05


def test_a_penalty_is_chosen_on_validation() -> None:
    """Of labels that are noise but for the majority the strongest, of a clean border a weak one."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(400, 6)).astype(np.float32)
    clean, noise = (x[:, 0] + x[:, 1] > 0).astype(int), (rng.random(400) < 0.3).astype(int)
    weak, strong = (fit("single_label", Vectors(x[:60], y[:60]), Vectors(x[60:], y[60:])) for y in (clean, noise))
    assert (weak.decide(x) == clean).mean() > 0.9
    assert weak.penalty < 100
    assert strong.penalty == max(PENALTIES)


def test_labels_that_training_does_not_have() -> None:
    one = fit("single_label", vectors(9, [2] * 9), vectors(5, [2, 0, 1, 1, 2]))
    assert one.decide(RNG.normal(size=(4, 6))).tolist() == [2, 2, 2, 2]
    some = fit("single_label", vectors(9, [4, 1] * 4 + [1]), vectors(5, [4, 0, 1, 1, 2]))
    assert set(some.decide(RNG.normal(size=(40, 6))).tolist()) <= {1, 4}
    several = fit("multi_label", vectors(8, [[0, 1], [1, 1]] * 4), vectors(2, [[0, 1], [1, 0]]))
    assert several.decide(RNG.normal(size=(40, 6)))[:, 1].tolist() == [1] * 40


def test_a_feature_that_does_not_vary_is_no_trouble() -> None:
    x = RNG.normal(size=(50, 6)).astype(np.float32)
    y = (x[:, 1] > 0).astype(int)
    x[:, 0] = 1 / 3
    found = fit("single_label", Vectors(x, y), Vectors(x, y))
    assert np.isfinite(x).all()
    assert (found.decide(x) == y).mean() > 0.9


def test_a_probe_is_fitted_on_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    from threadpoolctl import threadpool_info, threadpool_limits

    from adapt.extraction import linear

    seen: list[int] = []
    plain = linear._classes_of

    def watched(*given: Any) -> Any:
        seen.extend(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas")
        return plain(*given)

    monkeypatch.setattr(linear, "_classes_of", watched)
    with threadpool_limits(2, "blas"):
        fit("tags", vectors(2, [0, 1]), vectors(2, [0, 1]))
    assert set(seen) == {1}


# ---------------------------------------------------------------- the control task


def parts(words: list[list[str]], targets: np.ndarray) -> list[Part]:
    return [Part([], np.empty(0), targets, types, types, targets) for types in words]


def test_a_control_target_is_a_word_types() -> None:
    train = np.array([0] * 90 + [1] * 10)
    words = [[f"w{i}" for i in range(1000)] + ["w0"], ["w3", "new", "w3"]]
    one, two = control_targets(parts(words, train), 0)
    assert one[0] == one[1000]
    assert two[0] == two[2] == one[3]
    assert 0.05 < one.mean() < 0.15  # the frequencies of the true ones
    again, other = control_targets(parts(words, train), 0), control_targets(parts(words, train), 1)
    assert np.array_equal(one, again[0])
    assert not np.array_equal(one, other[0])
    labels = control_targets(parts([["a", "b", "a"]], np.array([[0, 1], [1, 1]])), 0)[0]
    assert labels.shape == (3, 2)
    assert np.array_equal(labels[0], labels[2])


def test_control_targets_do_not_depend_on_what_a_tokenizer_reads() -> None:
    words, tags = [f"w{i}" for i in range(100)], np.arange(100)
    whole = Part([], np.empty(0), tags, words, words, tags)
    less = Part([], np.empty(0), tags[1::2], words[1::2], words, tags)
    assert np.array_equal(control_targets([whole], 0)[0][1::2], control_targets([less], 0)[0])


# ---------------------------------------------------------------- models whose layers are known


class Planted(torch.nn.Module):
    """Layer 0 tells nothing, layer 1 a word's class, layer 2 the word."""

    def __init__(self, classes: list[int]) -> None:
        super().__init__()
        self.word = torch.eye(len(classes))
        self.cls = torch.nn.functional.pad(torch.eye(3)[classes], (0, len(classes) - 3))

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **_: Any) -> Any:
        states = (torch.ones_like(self.word[input_ids]), self.cls[input_ids], self.word[input_ids])
        return SimpleNamespace(hidden_states=states, last_hidden_state=states[-1])


@pytest.fixture(scope="module")
def planted() -> Reader:
    classes = [{True: 1}.get(w in tiny.GOOD, 2 if w in tiny.BAD else 0) for w in tiny.VOCABULARY]
    return Reader(Planted(classes), tiny.tokenizer_for("distilbert"), "planted", "cpu", "fp32", 128, 2)


@pytest.fixture(scope="module")
def tagged() -> Data:
    """A tag for each word that its type decides."""
    rng = random.Random(0)

    def row() -> dict[str, list[str]]:
        words = rng.choices(tiny.GOOD + tiny.BAD + tiny.FILL[:8], k=8)
        tags = ["good" if w in tiny.GOOD else "bad" if w in tiny.BAD else "other" for w in words]
        return {"tokens": words, "tags": tags}

    return adapt.data.load({s: [row() for _ in range(n)] for s, n in (("train", 60), ("validation", 20), ("test", 25))})


def test_a_probe_finds_what_was_planted(planted: Reader, tagged: Data) -> None:
    found = adapt.probe(planted, tagged, seeds=4)
    nothing, cls, word = found.models[0].layers
    tags = [tag for row in tagged.splits["test"]["tags"] for tag in row]
    train = [tag for row in tagged.splits["train"]["tags"] for tag in row]
    common = max(set(train), key=train.count)
    assert nothing.scores == pytest.approx([tags.count(common) / len(tags)] * 4)
    assert set(cls.scores) == set(word.scores) == {1.0}
    assert set(cls.accuracies) == {1.0}
    assert set(word.controls) == {1.0}  # whoever knows the word can learn anything by heart
    assert word.selectivities == [0.0] * 4
    assert min(cls.selectivities) > 0.1  # three classes do not tell the targets of sixteen words
    assert found.baseline == (("majority", 1.0),) * 4  # each word's most frequent tag
    assert found.counts == {
        "train": [{"vectors": 480, "rows": 60}] * 4, "validation": {"vectors": 160, "rows": 20},
        "test": {"vectors": 200, "rows": 25},
    }  # fmt: skip


def test_a_penalty_is_chosen_by_the_metric_that_is_asked_for(planted: Reader) -> None:
    rng = np.random.default_rng(3)

    def rows(n: int) -> dict[str, list[Any]]:
        texts = [" ".join(rng.choice(tiny.GOOD + tiny.BAD + tiny.FILL, size=6)) for _ in range(n)]
        return {
            "text": texts,
            "label": [sum(w in tiny.GOOD for w in t.split()) + float(rng.normal(0, 2)) for t in texts],
        }

    data = adapt.data.load({"train": rows(40), "validation": rows(60), "test": rows(60)})
    values = {s: adapt.representations(planted, of["text"][:], layers=[2]).values[0] for s, of in data.splits.items()}
    y = {split: np.array(of["label"][:]) for split, of in data.splits.items()}
    tried = fits("regression", Vectors(values["train"], y["train"]))
    errors = [((one.decide(values["validation"]) - y["validation"]) ** 2).mean() for one in tried]
    ranks = [measure("regression", one.decide(values["validation"]), y["validation"]) for one in tried]
    by_error, by_rank = tried[int(np.argmin(errors))], tried[int(np.argmax(ranks))]
    assert by_error.penalty != by_rank.penalty
    for metric, chosen in (("mse", by_error), ("spearman", by_rank)):
        found = adapt.probe(planted, data, layers=[2], seeds=1, metric=metric)
        (layer,) = found.models[0].layers
        assert layer.penalties == (chosen.penalty,)
        assert layer.accuracies == pytest.approx([measure("regression", by_rank.decide(values["test"]), y["test"])])
        assert f"chosen on validation by {metric}" in found.table()
        assert ("(by spearman for what selectivity compares)" in found.table()) == (metric == "mse")
    assert found.models[0].layers[0].scores == pytest.approx(layer.accuracies)


def test_a_seed_draws_other_rows_than_a_model_was_trained_on(task_data: Callable[[str], Data], tagged: Data) -> None:
    """With the same seed, of which a model that is probed would else know just those."""
    data = task_data("single_label")
    trained = adapt.data.subsample(data.splits["train"], "single_label", 16, 0)["text"][:]
    drawn = [_draw(data, "train", 16, seed)["text"][:] for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1]
    assert len({tuple(rows) for rows in (trained, drawn[0], drawn[2])}) == 3
    assert len(_draw(tagged, "train", 80, 0)) == 10


def test_words_that_a_tokenizer_does_not_know_are_told_of(tagged: Data) -> None:
    rows = [{"tokens": ["ሰላም", "ነው", "kind"], "tags": ["A", "B", "A"]} for _ in range(10)]
    data = adapt.data.load(dict.fromkeys(("train", "validation", "test"), rows))
    told = [any("does not know" in note for note in adapt.probe("tiny-encoder", one, seeds=1, layers=[0]).notes)
            for one in (data, tagged)]  # fmt: skip
    assert told == [True, False]


def test_a_seed_draws_whole_rows(planted: Reader, tagged: Data) -> None:
    found = adapt.probe(planted, tagged, seeds=3, max_train=50, max_held_out=30, control=False, layers=[2])
    assert found.counts["train"] == [{"vectors": 48, "rows": 6}] * 3
    assert found.counts["test"] == {"vectors": 24, "rows": 3}
    assert found.models[0].layers[0].controls == ()
    assert found.models[0].layers[0].selectivities == []
    one = adapt.probe(planted, tagged, seeds=1, max_train=1, max_held_out=1)
    assert one.counts["train"] == [{"vectors": 8, "rows": 1}]


def test_rows_that_no_seed_draws_are_read_once(planted: Reader, tagged: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    from adapt.extraction import probes

    asked: list[int] = []
    plain = probes.read

    def counted(model: Reader, examples: Any, *rest: Any) -> Any:
        asked.append(len(examples))
        return plain(model, examples, *rest)

    monkeypatch.setattr(probes, "read", counted)
    whole = adapt.probe(planted, tagged, seeds=3, layers=[1])
    assert asked == [20, 25, 60]
    (layer,) = whole.models[0].layers
    assert len(layer.scores) == len(layer.controls) == len(layer.penalties) == 3
    assert len(set(layer.controls)) > 1  # whose targets a seed draws in any case
    alone = [adapt.probe(planted, tagged, seeds=n, layers=[1]).models[0].layers[0] for n in (1, 2)]
    assert layer.controls[:2] == alone[1].controls
    assert layer.controls[:1] == alone[0].controls


def test_windows_of_long_rows_are_read_too(planted: Reader, tagged: Data) -> None:
    whole, parts = (adapt.probe(planted, tagged, seeds=1, layers=[1, 2], max_length=n) for n in (128, 6))
    assert whole.counts == parts.counts
    assert [layer.scores for layer in whole.models[0].layers] == [layer.scores for layer in parts.models[0].layers]
    assert any("cut into windows" in note for note in parts.notes)
    assert not any("windows" in note for note in whole.notes)


@pytest.mark.parametrize("words", [False, True])
def test_every_model_reads_as_many_tokens_as_each_can(backbone: Callable[..., Path], words: bool) -> None:
    folder, kinds = backbone("bert"), ("sunny", "cold")
    most = transformers.AutoConfig.from_pretrained(folder).max_position_embeddings
    texts = [[kinds[i % 2], *(f"word{i % 20}" for i in range(most))] for i in range(20)]
    rows = [
        {"tokens": text, "tags": ["X", *"Y" * most]} if words else {"text": " ".join(text), "label": text[0]}
        for text in texts
    ]
    found = adapt.probe(["tiny-encoder", folder], adapt.data.load(rows), seeds=1, layers=[1], device="cpu")
    assert found.settings["max_length"] == most < 128
    assert f"every model reads {most} tokens at a time, for bert-2-0 reads no more" in found.notes
    assert any(f"{most} tokens" in note for note in found.notes[1:])
    alone = adapt.probe("tiny-encoder", adapt.data.load(rows), seeds=1, layers=[1], device="cpu", max_length=most)
    assert alone.models[0] == found.models[0]


def test_a_control_task_that_cannot_be_learnt_by_heart_is_told_of() -> None:
    def notes(first: Callable[[int], str], control: bool = True) -> list[str]:
        rows = [{"text": f"{first(i)} word{i}", "label": "ab"[i % 2]} for i in range(60)]
        found = adapt.probe("tiny-encoder", adapt.data.load(rows), seeds=1, layers=[1], device="cpu", control=control)
        return [note for note in found.notes if "control task" in note]

    assert notes(lambda i: f"word{i % 30}") == []
    assert notes(lambda i: f"word{i % 30 if i % 4 == 0 else 0}") == [
        "half of the first words of train are of 1 type: the control task asks for hardly more than which of them it "
        "is, and selectivity tells little of learning by heart"
    ]
    assert notes(lambda i: f"text{i}") == [
        "0% of the first words of test occur as such in train, too: what the control task asks for cannot be learnt by "
        "heart, and selectivity is hardly more than the distance from a guess"
    ]
    assert notes(lambda i: "Review:") == [
        "all first words of train are 'Review:', so that the control task has one target and selectivity tells nothing"
    ]
    assert notes(lambda i: "Review:", control=False) == []


def test_notes_of_several_models_name_the_one_that_they_are_of(backbone: Callable[..., Path]) -> None:
    rows = [{"text": " ".join(f"word{j}" for j in range(i)), "label": "ab"[i % 2]} for i in range(1, 61)]
    given = ["tiny-encoder", backbone("bert")]
    found = adapt.probe(given, adapt.data.load(rows), seeds=1, layers=[1], device="cpu", max_length=20)
    cut = [note for note in found.notes if " were cut to 20 tokens" in note]
    assert cut
    assert {note.partition(":")[0] for note in cut} == {model.name for model in found.models}


# ---------------------------------------------------------------- every kind, architecture and strategy


@pytest.mark.parametrize("task", ["single_label", "pairs", "multi_label", "regression", "spans", "tags"])
def test_every_problem_is_probed(task: str) -> None:
    data = tiny_tasks.TASKS[task]()
    found = adapt.probe("tiny-encoder", data, seeds=1, layers=[0, 2], device="cpu", max_train=40)
    assert [layer.layer for layer in found.models[0].layers] == [0, 2]
    best = max(mean_interval(layer.scores).mean for layer in found.models[0].layers)
    assert best > mean_interval([score for _, score in found.baseline]).mean
    again = adapt.probe("tiny-encoder", data, seeds=1, layers=[0, 2], device="cpu", max_train=40)
    assert again == found


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_every_architecture_is_probed(backbone: Callable[..., Path], architecture: str) -> None:
    """Token by token, too, where transformers has no such head."""
    for task in ("single_label", "tags"):
        data = tiny_tasks.TASKS[task]()
        found = adapt.probe(backbone(architecture), data, seeds=1, control=False, device="cpu")
        (model,) = found.models
        assert [layer.layer for layer in model.layers] == list(range(tiny.LAYERS + 1))
        assert all(0 <= layer.scores[0] <= 1 for layer in model.layers)
    assert max(layer.scores[0] for layer in model.layers) > 0.8  # its type tells a word's tag


def test_rows_that_a_model_may_have_learnt_are_told_of(backbone: Callable[..., Path], tmp_path: Path) -> None:
    texts, labels = [f"word{i} word{i % 7}" for i in range(60)], ["good", "bad"] * 30
    choices = {"epochs": 1, "device": "cpu", "precision": "fp32", "max_length": 16}

    def cut(seed: int, **shares: float) -> Data:
        return adapt.data.load((texts, labels), name="words", seed=seed, **shares)

    model = adapt.fit(backbone("bert"), cut(0, validation=0, test=0), "head", **choices)
    said = "bert-2-0, head on words was trained on 6 of the 6 rows of test (100%)"
    given = [backbone("bert"), model.save(tmp_path / "model")]
    found = adapt.probe(given, replace(cut(0), name="others"), seeds=1, layers=[0], device="cpu")
    assert any(said in note for note in found.notes)
    same = adapt.fit(backbone("bert"), cut(1), "head", **choices)
    notes = adapt.probe(same, cut(1), seeds=1, layers=[0], device="cpu").notes
    assert not any(said in note for note in notes)


@pytest.mark.parametrize("strategy", tiny.STRATEGIES)
def test_models_are_compared_before_and_after_every_strategy(
    backbone: Callable[..., Path], task_data: Callable[[str], Data], strategy: str, tmp_path: Path
) -> None:
    data, folder = task_data("single_label"), backbone("bert")
    model = adapt.fit(folder, data, tiny.STRATEGIES[strategy], epochs=1, device="cpu", precision="fp32", max_length=32)
    tiny.moved(model.fitted.model)
    found = adapt.probe([folder, model, model.save(tmp_path / "model")], data, seeds=2, max_train=20, device="cpu")
    names = [one.name for one in found.models]
    assert names == ["bert-2-0", f"bert-2-0, {strategy} on words", f"bert-2-0, {strategy} on words (2)"]
    plain, adapted, loaded = (one.layers for one in found.models)
    assert adapted == loaded
    assert plain[0].controls == adapted[0].controls or strategy in ("full", "qlora")
    assert (plain == adapted) == (strategy == "head")
    assert found.models[1].origin["run"] == model.run.key()
    assert found.models[0].origin == {"backbone": model.backbone.source.sha256, "precision": "fp32"}
    key = model.run.key()[:12]
    assert f"(backbone's content {model.backbone.source.sha256[:12]}, run {key}, read in fp32)" in found.table()


def test_models_are_read_alike(
    backbone: Callable[..., Path], task_data: Callable[[str], Data], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backbone that `head` leaves as it is differs from itself by nothing, whatever it was trained in."""
    data, folder = task_data("single_label"), backbone("bert")
    fitted = [adapt.fit(folder, data, "head", epochs=1, device="cpu", precision=precision, max_length=32)
              for precision in ("bf16", "fp32")]  # fmt: skip

    def read(*models: Any, precision: str | None = None) -> tuple[set[str], bool]:
        found = adapt.probe(list(models), data, seeds=1, control=False, device="cpu", layers=[1], precision=precision)
        told = any("different precisions" in note for note in found.notes)
        assert told or all(one.layers == found.models[0].layers for one in found.models)
        return {one.origin["precision"] for one in found.models}, told

    saved = fitted[0].save(tmp_path / "model")
    assert read(folder, fitted[0], saved) == ({"bf16"}, False)
    assert read(folder, *fitted) == ({"fp32"}, False)
    assert read(folder, fitted[1], precision="bf16") == ({"bf16"}, False)
    assert read(saved) == ({"bf16"}, False)
    upper = adapt.fit(
        folder, data, adapt.Full(layers="last:1"), epochs=1, device="cpu", precision="bf16", max_length=32
    )
    assert read(folder, upper) == ({"fp32"}, False), "its weights are held in float32, those of the first layer too"
    assert read(folder, upper, precision="bf16") == ({"bf16"}, True)
    monkeypatch.setattr("adapt.backbones.load.SHORT", 31)
    longer = adapt.fit(folder, data, "head", epochs=1, device="cpu", precision="bf16", max_length=32)
    monkeypatch.setattr("adapt.backbones.load.SHORT", 256)
    assert read(folder, longer) == ({"bf16"}, False), "whatever kernel of attention it was trained with"
    readers = (reader(fitted[0], device="cpu"), reader(folder, device="cpu"))
    assert read(*readers) == ({"bf16", "fp32"}, True)


# ---------------------------------------------------------------- JSON and table


@pytest.fixture(scope="module")
def result(planted: Reader) -> Probing:
    data = tiny_tasks.TASKS["spans"]()
    return adapt.probe([planted, "tiny-encoder"], data, seeds=3, layers=[0, 2], device="cpu", max_train=100)


def test_what_is_written_is_read(result: Probing) -> None:
    content = json.loads(json.dumps(result.to_json()))
    assert Probing.from_json(content) == result
    settings, counts, first = content["settings"], content["counts"], content["models"][0]
    for broken in (
        {}, {**content, "schema": 0}, {**content, "models": [{"name": "x"}]}, {**content, "baseline": 3},
        {**content, "models": []}, {**content, "models": [{**first, "layers": []}]}, {**content, "notes": [1]},
        {**content, "settings": {**settings, "seeds": 10**12}}, {**content, "settings": {**settings, "metric": None}},
        {**content, "counts": {**counts, "train": []}}, {**content, "environment": None}, {**content, "name": 3},
    ):  # fmt: skip
        with pytest.raises(AdaptError, match="This is no result of probes"):
            Probing.from_json(broken)


def test_the_table_says_what_was_found(result: Probing) -> None:
    lines = result.table().splitlines()
    assert lines[0] == "### spans, probes of layers"
    head = [cell.strip() for cell in lines[2].strip("|").split("|")]
    assert head == [
        "model", "layer", "span f1, % [95 % CI]", "difference to planted", "token accuracy, %", "control, %",
        "selectivity",
    ]  # fmt: skip
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[4:9]]
    assert [row[:2] for row in rows[:4]] == [["planted", "0"], ["planted", "2"], ["tiny-encoder", "0"],
                                             ["tiny-encoder", "2"]]  # fmt: skip
    ours, base = result.models[1].layers[1], result.models[0].layers[1]
    score, difference = mean_interval(ours.scores), paired_difference(ours.scores, base.scores)
    assert rows[3][2].startswith(f"{100 * score.mean:.1f}")
    assert rows[3][3].startswith(f"{100 * difference.mean:+.1f}")
    assert rows[3][6].startswith(f"{100 * mean_interval(ours.selectivities).mean:+.1f}")
    assert rows[4][0] == "majority"
    facts = "\n".join(lines[9:])
    assert "words: 9" in facts
    assert "texts read in windows of at most 128 tokens" in facts
    assert "train (at most 100)" in facts
    assert "Hewitt & Liang 2019" in facts
    assert "Seeds: 0, 1, 2;" in facts


def test_what_selectivity_is_of_is_shown_where_it_is_not_the_score(result: Probing) -> None:
    """As of words that the tokenizer makes nothing of, which are scored and have no control."""

    def heads(of: Probing) -> list[str]:
        return [cell.strip() for cell in of.table().splitlines()[2].strip("|").split("|")]

    [model] = result.models[:1]
    layers = tuple(replace(layer, accuracies=layer.scores) for layer in model.layers)
    tags = replace(result, settings={**result.settings, "problem": "tags", "metric": "token_accuracy"}, baseline=())
    alike = replace(tags, models=(replace(model, layers=layers),))
    assert heads(alike)[2:] == ["token accuracy, % [95 % CI]", "control, %", "selectivity"]
    other = replace(model, layers=(replace(layers[0], accuracies=(1.0,) * 3), *layers[1:]))
    assert heads(replace(tags, models=(other,)))[3] == "of words that have tokens, %"


def test_names_do_not_become_markup(result: Probing) -> None:
    one = replace(result.models[0], name="<b>|x*")
    table = replace(result, name="a|<i>", models=(one, result.models[1]), notes=("<script>",)).table()
    assert "<b>" not in table
    assert "<i>" not in table
    assert "<script>" not in table
    assert "\n| &lt;b&gt;\\|x\\* | 0 |" in table


def test_a_table_of_one_model_without_control(planted: Reader, tagged: Data) -> None:
    table = adapt.probe(planted, tagged, seeds=1, control=False).table()
    assert table.splitlines()[2] == "| model | layer | token accuracy, % [95 % CI] |"
    assert "Hewitt" not in table
    assert "paired" not in table


# ---------------------------------------------------------------- what cannot be used


def test_numpys_numbers_are_options(task_data: Callable[[str], Data]) -> None:
    options = {"seeds": 1, "max_train": 20, "max_held_out": 10, "max_length": 16}
    numpys = {name: np.int64(value) for name, value in options.items()}
    one, other = (
        adapt.probe("tiny-encoder", task_data("single_label"), layers=0, device="cpu", **each)  # type: ignore[arg-type]
        for each in (options, numpys)
    )
    assert other.to_frame().equals(one.to_frame())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seeds": 0}, "seeds is 0; give a whole number"),
        ({"max_train": -1}, "max_train is -1"),
        ({"max_held_out": 0}, "max_held_out is 0"),
        ({"pooling": "words"}, "pooling is 'words'; choose one of mean, first, last"),
        ({"metric": "bleu"}, "Metric 'bleu' does not go with single_label"),
        ({"layers": 9}, "no layer 9"),
        ({"max_length": 2}, "max_length is 2"),
    ],
)
def test_options_that_cannot_be_used(task_data: Callable[[str], Data], options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        adapt.probe("tiny-encoder", task_data("single_label"), **{"device": "cpu", **options})


@pytest.mark.parametrize(
    ("other", "options", "message"),
    [
        ("nowhere/at/all", {}, "does not exist"),
        ("bert", {"layers": [4]}, "no layer 4; the model has the layers 0 .* to 2"),
        ("odd", {"max_length": 3}, "max_length is 3"),
    ],
)
def test_no_model_is_probed_before_all_can_be(
    backbone: Callable[..., Path], planted: Reader, other: str, options: dict[str, Any], message: str
) -> None:
    told: list[str] = []
    source: Any = other
    if other == "bert":
        source = backbone(other)
    elif other == "odd":
        source = replace(planted, tokenizer=task_helpers.wordpiece(single="[CLS] [BOS] $A [SEP]"))
    with pytest.raises(OptionError, match=message):
        adapt.probe(["tiny-encoder", source], tiny_tasks.TASKS["single_label"](), **options, report=told.append)
    assert not told


def test_data_that_cannot_be_probed() -> None:
    with pytest.raises(Unsupported, match="the data are for question_answering"):
        adapt.probe("tiny-encoder", tiny_tasks.TASKS["answers"](), device="cpu")
    with pytest.raises(OptionError, match="kind is 'pos', but the data are for sequence_classification"):
        adapt.probe("tiny-encoder", tiny_tasks.TASKS["single_label"](), kind="pos", device="cpu")
    texts = [f"word{i % 9} {'kind' if i % 2 else 'cold'}" for i in range(20)]
    data = adapt.data.load((texts, [i % 2 for i in range(20)]), validation=0)
    with pytest.raises(DataError, match="has no validation split, which probes need"):
        adapt.probe("tiny-encoder", data, device="cpu")
    with pytest.raises(OptionError, match="no model to be probed"):
        adapt.probe([], tiny_tasks.TASKS["tags"]())
    rows = {"tokens": [["cold"], ["kind"]] * 2, "tags": [["a"], ["b"]] * 2}
    unread = adapt.data.load({"train": {**rows, "tokens": [["\u200b"]] * 4}, "validation": rows, "test": rows})
    with pytest.raises(
        DataError, match="tiny-encoder: its tokenizer makes no token of any word of train; give it words"
    ):
        adapt.probe("tiny-encoder", unread, device="cpu")
