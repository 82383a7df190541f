"""Trained models on new labelled rows: training's own scores found again, differences, rows that cannot be used."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pytest
import tiny
import tiny_tasks
from click.testing import CliRunner

import adapt
from adapt.adapted import Adapted
from adapt.cli import cli
from adapt.data import read_labelled
from adapt.metrics import METRICS
from adapt.spec import AdaptError, DataError, OptionError, Source, Task
from adapt.stats import RIGHT_OR_WRONG, RIGHT_OR_WRONG_PAIRED, crossed_interval
from adapt.tasks import KINDS

CLASSES = Task("t", Source("t", ""), labels=("bad", "good", "1"))
DECIMALS = Task("t", Source("t", ""), labels=("1.0", "1.5", "2.0"))
MIXED = Task("t", Source("t", ""), labels=("1", "2.5"))
LISTS = Task("t", Source("t", ""), problem="multi_label", labels=("0", "1", "2"))
NUMBERS = Task("t", Source("t", ""), problem="regression")
SPANS = Task("t", Source("t", ""), kind="token_classification", problem="spans", labels=("O", "B-x", "I-x"))
ANSWERS = Task("t", Source("t", ""), kind="question_answering", problem="answers")
TRANSLATION = Task("t", Source("t", ""), kind="seq2seq", problem="text")
TEXTS = Task("t", Source("t", ""), kind="causal_lm", problem="completion")
TURNS = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]


def raw(data: adapt.data.Data) -> list[dict[str, Any]]:
    """The rows of the test split as users have them: labels by name."""
    rows = []
    for row in data.splits["test"]:
        if "tags" in row:
            row["tags"] = [data.labels[tag] for tag in row["tags"]]
        if data.problem == "single_label":
            row["label"] = data.labels[row["label"]]
        if data.problem == "multi_label":
            row["label"] = [name for name, there in zip(data.labels, row["label"], strict=True) if there]
        if "answer_texts" in row:
            row["answers"] = {"text": row.pop("answer_texts"), "answer_start": row.pop("answer_starts")}
        rows.append(row)
    return rows


@pytest.fixture(scope="module")
def fitted(backbone: Callable[..., Path]) -> Callable[[str, str], Adapted]:
    def fit(task: str, architecture: str, strategy: adapt.spec.Strategy | None = None, steps: int = 2) -> Adapted:
        data = tiny_tasks.TASKS[task]()
        return adapt.fit(
            backbone(architecture), data, strategy or adapt.Head(), epochs=steps, max_steps=steps, device="cpu",
            precision="fp32",
        )  # fmt: skip

    return fit


@pytest.mark.parametrize(
    ("task", "architecture"),
    [("pairs", "bert"), ("multi_label", "bert"), ("regression", "bert"), ("spans", "bert"), ("tags", "bert"),
     ("answers", "bert"), ("text", "t5"), ("messages", "llama")],
)  # fmt: skip
def test_the_scores_of_training_are_found_again(
    fitted: Callable[[str, str], Adapted], task: str, architecture: str
) -> None:
    model = fitted(task, architecture)
    data = tiny_tasks.TASKS[task]()
    assert model.result is not None
    for found in (adapt.score(model, raw(data)), adapt.score([model], data)):
        assert (found.rows, found.metric) == (len(data.splits["test"]), model.run.task.metric)
        assert found.models[0].scores == model.result.scores["test"]
        assert list(found.models[0].outcomes) == list(model.result.test_outcomes)
        assert all("that the tokenizer does not know" in note for note in found.notes)


def test_models_are_compared_on_the_same_rows(fitted: Any, tmp_path: Path) -> None:
    names = ("a_head", "b")
    for name, strategy, steps in zip(names, (adapt.Head(), adapt.Full(learning_rate=1e-3)), (2, 12), strict=True):
        fitted("single_label", "bert", strategy, steps).save(tmp_path / name)
    rows = raw(tiny_tasks.TASKS["single_label"]())
    (tmp_path / "new.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "scores.json"
    folders = [str(tmp_path / name) for name in names]
    done = CliRunner().invoke(cli, ["score", *folders, "--data", str(tmp_path / "new.jsonl"), "--output", str(out)])
    assert done.exit_code == 0, done.output
    entries = sorted((e for e in os.scandir(tmp_path) if e.is_dir()), key=lambda entry: entry.name)
    found = adapt.score(entries, tmp_path / "new.jsonl", device="cpu")
    assert done.stdout == found.table() + "\n"
    assert found.name == "new"
    unnamed = CliRunner().invoke(cli, ["score", *folders, "--data", str(tmp_path / "new.jsonl"), "--label", ""])
    assert "no column '' for label" in str(unnamed.exception)
    content = json.loads(out.read_text())
    assert [model["name"] for model in content["models"]] == [*names]
    first, second = ([float(guess == truth) for guess, truth in model.outcomes] for model in found.models)
    expected, shown = crossed_interval([first], found.models[0].scores["accuracy"]), found.interval(0, "accuracy")
    assert expected.high is not None
    assert (shown.low, shown.high) == (expected.low, min(expected.high, 1))
    gain = found.models[1].scores["accuracy"] - found.models[0].scores["accuracy"]
    assert gain, "models that score alike would show no difference"
    expected = crossed_interval([[b - a for a, b in zip(first, second, strict=True)]], gain)
    assert found.difference(1) == expected
    assert content["models"][1]["difference"] == {"mean": expected.mean, "interval": [expected.low, expected.high]}
    assert content["models"][0]["difference"] is None
    head = "| model | accuracy, % [95 % CI] | macro f1, % [95 % CI] | mcc × 100 [95 % CI] | accuracy: difference to a"
    assert head in found.table()
    assert "differences paired by row" in found.table()

    one_class = [row for row in rows if row["label"] == "praise"]
    alone = adapt.score(tmp_path / "b", {"validation": one_class, "test": rows}, split="validation")
    assert (alone.rows, alone.split) == (len(one_class), "validation")
    speakers = [{**row, "speaker": i // 4} for i, row in enumerate(rows)]
    grouped = adapt.score(tmp_path / "b", speakers, columns={"group": "speaker"})
    numbers = [i // 4 for i in range(len(rows))]
    assert grouped.groups == {"of": "speaker", "numbers": numbers}
    score = grouped.models[0].scores["accuracy"]
    expected, shown = crossed_interval([second], score, groups=numbers), grouped.interval(0, "accuracy")
    assert expected.high is not None
    assert (shown.low, shown.high) == (expected.low, min(expected.high, 1))
    assert f"Intervals are for other groups of rows by speaker than these {len(rows) // 4};" in grouped.table()
    one_speaker = adapt.score(tmp_path / "b", [{**row, "speaker": 0} for row in rows], columns={"group": "speaker"})
    assert one_speaker.interval(0, "accuracy").low is None
    assert "There are no intervals, for most rows are of one speaker." in one_speaker.table()
    assert "Intervals are for" not in one_speaker.table()
    few = replace(found.models[1], outcomes=[(0, 0), (0, 0), (1, 1), (0, 1)], scores={"accuracy": 0.75})
    assert replace(found, models=(few,)).to_json()["models"][0]["intervals"]["accuracy"] == [0.0, 1.0]
    assert "validation split" in alone.table()
    assert "paired" not in alone.table()
    other = fitted("pairs", "bert")
    with pytest.raises(OptionError, match=r"^head on .* is for .*\('other', 'same'\), and b for .*'praise'"):
        adapt.score([tmp_path / "b", other], rows)
    with pytest.raises(OptionError, match=r"^pairs is not for sequence_classification, single_label \('blame'"):
        adapt.score(tmp_path / "b", tiny_tasks.TASKS["pairs"]())
    with pytest.raises(OptionError, match=r"say how data are read, and these have been; give them to adapt\.data"):
        adapt.score(tmp_path / "b", tiny_tasks.TASKS["single_label"](), columns={"group": "speaker"})
    with pytest.raises(OptionError, match=r"^text, text_pair, label, columns, .* say how data are read"):
        adapt.score(tmp_path / "b", tiny_tasks.TASKS["single_label"](), label="label")
    with pytest.raises(OptionError, match="no model to be scored"):
        adapt.score([], rows)


def test_models_that_learnt_other_columns_are_compared_by_one_alone(backbone: Callable[..., Path]) -> None:
    """Else a difference would be paired by row between scores of other labels."""
    rows = [{"text": f"word{i % 9}", "one": "ab"[i % 2], "two": "ab"[i % 3 == 0]} for i in range(24)]
    fit = {"max_steps": 1, "device": "cpu", "precision": "fp32"}
    read = [adapt.data.load(rows, label=name, test=0) for name in ("one", "two")]
    models = [adapt.fit(backbone("bert"), data, "head", **fit) for data in read]
    with pytest.raises(OptionError, match=r"^head on .* is scored by another label than head on .*columns="):
        adapt.score(models, rows)
    for column in ("one", "two"):
        found = adapt.score(models, rows, label=column)
        assert found.to_json() == adapt.score(models, rows, columns={"label": column}).to_json()
        assert [truth for _, truth in found.models[0].outcomes] == [truth for _, truth in found.models[1].outcomes]
        assert found.difference(1) is not None


def test_data_are_scored_as_the_model_reads_rows(fitted: Any) -> None:
    both = [fitted("completion", "llama"), fitted("messages", "llama")]
    asked = [{"prompt": "who ?", "completion": "anna"}, {"prompt": "saw", "completion": "bob saw"}]
    assert not any("other columns" in note for note in adapt.score(both, asked).notes)
    said = {"role": "assistant", "content": "anna"}
    more = [{**asked[0], "messages": [{"role": "user", "content": content}, said]} for content in ("who ?", "saw")]
    columns = [{"prompt": "prompt", "completion": "completion"}, {"messages": "messages"}]
    models = [replace(model, columns=each) for model, each in zip(both, columns, strict=True)]
    assert any("other columns" in note for note in adapt.score(models, more).notes)
    rows = [{"prompt": "who ?", "completion": "anna"}, {"prompt": "saw", "completion": "bob saw"}]
    turns = [(("user", row["prompt"]), ("assistant", row["completion"])) for row in rows]
    chats = [{"messages": [{"role": role, "content": said} for role, said in row]} for row in turns]
    for model, given in ((fitted("completion", "llama"), chats), (fitted("messages", "llama"), rows)):
        read = adapt.data.load({"train": given, "test": given}, validation=0)
        assert adapt.score(model, read).models == adapt.score(model, given).models
    pairs = tiny_tasks.TASKS["pairs"]()
    run = fitted("pairs", "bert").run
    single = replace(fitted("pairs", "bert"), run=replace(run, task=replace(run.task, pair=False)))
    with pytest.raises(OptionError, match="pairs is of pairs of texts, and the model was trained on single texts"):
        adapt.score(single, pairs)


def test_models_that_read_other_texts_are_said_to(backbone: Callable[..., Path]) -> None:
    rows = [{"title": f"word{i % 9}", "body": f"word{i % 7}", "label": "ab"[i % 2]} for i in range(24)]
    fit = {"max_steps": 1, "device": "cpu", "precision": "fp32"}
    read = [adapt.data.load(rows, text=name, test=0) for name in ("title", "body")]
    title, body = (adapt.fit(backbone("bert"), data, "head", **fit) for data in read)
    assert not any("columns" in note for note in adapt.score([title, title], rows).notes)
    [note] = [note for note in adapt.score([title, body], rows).notes if "columns" in note]
    assert re.fullmatch(r"head on .* \(2\) reads other columns of the rows than head on .*, as in training", note)
    assert not any("columns" in note for note in adapt.score([title, body], rows, columns={"text": "title"}).notes)


def test_models_of_prompts_and_of_conversations_are_scored_by_the_same_answers(fitted: Any) -> None:
    models = [fitted("completion", "llama"), fitted("messages", "llama")]
    rows = [{"prompt": "who ?", "completion": "anna"}, {"prompt": "saw", "completion": "bob saw"}]
    found = adapt.score(models, rows)
    assert [len(each.outcomes) for each in found.models] == [2, 2]


def test_classes_in_another_order_are_the_same_classes(backbone: Callable[..., Path]) -> None:
    rows = [{"text": f"word{i % 9}", "label": "ab"[i % 2]} for i in range(12)]
    fit = {"max_steps": 1, "device": "cpu", "precision": "fp32"}
    ordered = [datasets.ClassLabel(names=names) for names in (["a", "b"], ["b", "a"])]
    read = [datasets.Dataset.from_list(rows).cast_column("label", names) for names in ordered]
    models = [adapt.fit(backbone("bert"), adapt.data.load(each, test=0), "head", **fit) for each in read]
    assert [model.run.task.labels for model in models] == [("a", "b"), ("b", "a")]
    assert adapt.score(models, rows).difference(1) is not None


def test_exact_match_of_other_parts_of_texts_is_not_compared(fitted: Any) -> None:
    model = fitted("completion", "llama")
    rows = raw(tiny_tasks.TASKS["completion"]())
    task = replace(model.run.task, metric="text_exact_match")
    of_answer = replace(task, options={**task.options, "answer_marker": "####"})
    whole, part = (
        replace(
            model,
            run=replace(model.run, task=each),
            fitted=replace(model.fitted, kind=KINDS[task.kind](each, model.fitted.tokenizer)),
        )
        for each in (task, of_answer)
    )
    same, apart = adapt.score([whole, whole], rows), adapt.score([whole, part], rows)
    assert same.difference(1) is not None
    assert apart.difference(1) is None
    assert replace(apart, metric="chrf").difference(1) is not None
    assert "text exact match is of other parts of the texts (" in apart.table()
    assert "what follows ####" in apart.table()
    assert "not compared" not in same.table()


def test_rows_are_read_as_those_of_training_and_judged_by_the_same_metric(backbone: Callable[..., Path]) -> None:
    data = tiny_tasks.TASKS["single_label"]()
    made = tiny.adapted(backbone("bert"), data, adapt.Head(), precision="fp32", metric="mcc")
    model = replace(made, columns={"text": "body", "label": "stars"})
    wrong = {"text": "word1", "label": data.labels[0]}
    rows = [{"body": row["text"], "stars": row["label"]} for row in raw(data)]
    expected = adapt.score(made, data)
    assert (expected.metric, expected.groups) == ("mcc", {})
    usual = adapt.score(model, [{**wrong, **row} for row in rows])
    named = adapt.score(model, [{**wrong, "words": row["body"], **row, "body": "x"} for row in rows],
                        columns={"text": "words"})  # fmt: skip
    for found in (usual, named):
        assert (found.metric, found.models[0].outcomes) == ("mcc", expected.models[0].outcomes)
    assert adapt.score([model, replace(made, run=replace(made.run, task=replace(made.run.task, metric="accuracy")))],
                       rows, columns={"text": "body", "label": "stars"}).metric == "mcc"  # fmt: skip


def test_groups_of_data_that_were_read_are_those_of_the_split_that_is_scored(backbone: Callable[..., Path]) -> None:
    rows = [{**row, "speaker": i // 4} for i, row in enumerate(raw(tiny_tasks.TASKS["single_label"]()))]
    data = adapt.data.load({"train": rows, "validation": rows[::-1], "test": rows[2:]}, columns={"group": "speaker"})
    model = tiny.adapted(backbone("bert"), data, adapt.Head(), precision="fp32")
    for split, numbers in (
        ("train", [i // 4 for i in range(16)]), ("validation", [i // 4 for i in range(16)]),
        ("test", [(i + 2) // 4 for i in range(14)]),
    ):  # fmt: skip
        found = adapt.score(model, data, split=split)
        assert (found.split, found.groups) == (split, {"of": "speaker", "numbers": numbers})


def test_groups_are_those_that_any_model_learnt_in_whatever_order(backbone: Callable[..., Path]) -> None:
    rows = [{**row, "speaker": i // 4, "doc": i // 2} for i, row in enumerate(raw(tiny_tasks.TASKS["single_label"]()))]
    model = tiny.adapted(backbone("bert"), tiny_tasks.TASKS["single_label"](), adapt.Head(), precision="fp32")
    alone, speaker, doc = (replace(model, columns=each) for each in ({}, {"group": "speaker"}, {"group": "doc"}))
    for models in ([alone, speaker], [speaker, alone]):
        found = adapt.score(models, rows)
        assert found.groups == {"of": "speaker", "numbers": [i // 4 for i in range(16)]}
        assert not any("intervals are for groups" in note for note in found.notes)
    assert any(
        note.startswith("intervals are for groups by doc; ") and note.endswith(" learnt from rows in groups by speaker")
        for note in adapt.score([alone, doc, speaker], rows).notes
    )


def test_what_is_said_of_the_rows_reaches_who_reads_them(
    backbone: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny.adapted(backbone("bert"), tiny_tasks.TASKS["single_label"](), adapt.Head(), precision="fp32")
    said: dict[str, Any] = {
        "split": "validation", "columns": {"group": "speaker"}, "repair_tags": True, "bad_answers": "drop",
        "config": "en", "revision": "main",
    }  # fmt: skip
    seen: list[Any] = []

    def read(*given: Any, **named: Any) -> Any:
        seen.append((given, named))
        raise DataError("read")

    monkeypatch.setattr("adapt.scoring.read_labelled", read)
    with pytest.raises(DataError, match="read"):
        adapt.score(replace(model, columns={"text": "body"}), "rows", **said)
    assert seen == [(("rows", model.run.task), {**said, "usual": {"text": "body"}})]


def test_language_models_are_compared_by_what_all_have(fitted: Any) -> None:
    model = fitted("completion", "llama")
    rows = raw(tiny_tasks.TASKS["completion"]())
    task = replace(model.run.task, metric="chrf")
    kind = KINDS[task.kind](task, model.fitted.tokenizer)
    judged = replace(model, run=replace(model.run, task=task), fitted=replace(model.fitted, kind=kind))
    for models in ([judged, model], [model, judged]):
        found = adapt.score(models, rows)
        assert found.metric == "perplexity"
        assert found.difference(1) is not None
        assert "Note: not every model writes texts to be judged, so that " in found.table()
        assert "chrf" not in found.table().splitlines()[2]
    first, second = found.models
    apart = replace(found, models=(first, replace(second, asked="of other tokens")))
    assert apart.difference(1) is None
    assert apart.to_json()["models"][1]["difference"] is None
    assert "loss and perplexity are per token, and head on" in apart.table()
    assert "they are not compared" not in found.table()
    by_text = replace(
        apart, metric="chrf", models=tuple(replace(m, scores={**m.scores, "chrf": 0.5}) for m in apart.models)
    )
    assert "they are not compared" in by_text.table()


def test_a_metric_of_written_texts_is_given_to_models_that_were_trained_without_any(fitted: Any) -> None:
    model = fitted("completion", "llama")
    rows = raw(tiny_tasks.TASKS["completion"]())
    plain = adapt.score(model, rows)
    assert set(plain.models[0].scores) == {"perplexity", "loss"}
    found = adapt.score([model, model], rows, metric="chrf")
    assert found.metric == "chrf"
    assert found.models[0].scores.keys() == set(METRICS["completion"])
    assert found.models[0].scores["loss"] == pytest.approx(plain.models[0].scores["loss"])
    assert found.difference(1).mean == 0
    assert model.fitted.kind.task.metric == "perplexity", "as it was"
    with pytest.raises(OptionError, match="Metric 'accuracy' does not go with completion"):
        adapt.score(model, rows, metric="accuracy")


def test_models_are_compared_by_the_metric_that_is_asked_for(fitted: Any) -> None:
    model = fitted("pairs", "bert")
    found = adapt.score([model, model], raw(tiny_tasks.TASKS["pairs"]()), metric="macro_f1")
    assert found.metric == "macro_f1"
    assert "macro f1: difference to" in found.table()


def test_models_that_find_other_masked_tokens_are_not_compared(backbone: Callable[..., Path]) -> None:
    """Though they find as many: two of a text, or one of each half."""
    model = tiny.adapted(backbone("bert", masked=True), tiny_tasks.TASKS["masked"](), adapt.Full(), precision="fp32")
    task = replace(model.run.task, max_length=8)
    other = replace(model, fitted=replace(model.fitted, kind=KINDS[task.kind](task, model.fitted.tokenizer)))
    rows = [{"text": " ".join(tiny.FILL[i : i + 12])} for i in range(3)]
    same, apart = adapt.score([model, model], rows), adapt.score([model, other], rows)
    assert same.difference(1) == crossed_interval([[0.0] * 3], 0.0)
    assert [each.name for each in same.models[1:]] == [f"{same.models[0].name} (2)"]
    assert not same.notes
    assert {tokens for scored in apart.models for _, tokens, _ in scored.outcomes} == {2}
    for found in (apart, replace(apart, metric="masked_accuracy")):
        assert found.difference(1) is None
        assert "the tokens that are hidden, which are others for full on bert" in found.table()


@pytest.mark.parametrize(
    ("task", "rows", "column", "expected"),
    [
        (CLASSES, {"text": ["a", "b"], "label": ["good", "good"]}, "label", [1, 1]),
        (CLASSES, {"text": ["a", "b"], "label": [1, 1]}, "label", [2, 2]),
        (CLASSES, {"text": ["a", "b"], "label": ["1 ", "bad"]}, "label", [2, 0]),
        (DECIMALS, {"text": ["a", "b"], "label": [1, 2]}, "label", [0, 2]),
        (DECIMALS, {"text": ["a", "b"], "label": [1.0, 1.5]}, "label", [0, 1]),
        (MIXED, {"text": ["a", "b"], "label": [1.0, 2.5]}, "label", [0, 1]),
        (LISTS, {"text": ["a", "b"], "label": [[2], []]}, "label", [[0, 0, 1], [0, 0, 0]]),
        (LISTS, {"text": ["a", "b"], "label": [[0, 1, 1], [0, 0, 1]]}, "label", [[0, 1, 1], [0, 0, 1]]),
        (LISTS, {"text": ["a", "b"], "label": [["1"], ["2", "0"]]}, "label", [[0, 1, 0], [1, 0, 1]]),
        (LISTS, {"text": ["a", "b"], "label": [[0, 1], [1, 0]]}, "label", [[1, 1, 0], [1, 1, 0]]),
        (NUMBERS, {"text": ["a", "b"], "label": [1, 2]}, "label", [1.0, 2.0]),
        (SPANS, {"tokens": [["a"]], "tags": [["O"]]}, "tags", [[0]]),
        (SPANS, {"tokens": [["a", "b"]], "tags": [["B-x", "I-x"]]}, "tags", [[1, 2]]),
        (TEXTS, {"prompt": ["a"], "completion": ["b"]}, "completion", ["b"]),
    ],
)  # fmt: skip
def test_labels_are_those_that_the_model_knows(task: Task, rows: Any, column: str, expected: Any) -> None:
    assert list(read_labelled(rows, task).rows[column]) == expected


@pytest.mark.parametrize("cells", [("1", "2"), ("1", "1.50"), ("1.0", "2e0")])
def test_classes_of_a_csv_file_are_the_numbers_that_the_model_knows(tmp_path: Path, cells: tuple[str, str]) -> None:
    (tmp_path / "x.csv").write_text("text,label\n" + "".join(f"words,{cell}\n" for cell in cells))
    found = read_labelled(tmp_path / "x.csv", DECIMALS).rows["label"]
    assert [float(DECIMALS.labels[label]) for label in found] == list(map(float, cells))


def test_rows_are_read_as_those_of_training_were() -> None:
    usual = {"text": "body", "label": "stars"}
    found = read_labelled({"text": ["a"], "body": ["b"], "stars": ["bad"]}, CLASSES, usual=usual).rows
    assert found[0] == {"text": "b", "label": 0}
    pair = {"question": ["q"], "sentence": ["s"], "label": ["bad"]}
    assert read_labelled(pair, CLASSES, columns={"text": "sentence"}).rows[0]["text"] == "s"
    turned = read_labelled({"prompt": ["hi"], "completion": ["ho"]}, TEXTS, usual={"messages": "messages"})
    assert turned.rows[0] == {"messages": TURNS}
    plain = read_labelled({"messages": [TURNS]}, TEXTS, usual={"prompt": "p", "completion": "c"})
    assert plain.rows[0] == {"prompt": "hi", "completion": "ho"}
    named = read_labelled(
        {"messages": [TURNS], "p": ["x"], "completion": ["y"]}, TEXTS,
        columns={"prompt": "p", "completion": "completion"}, usual={"messages": "messages"},
    )  # fmt: skip
    assert named.rows[0]["messages"][0]["content"] == "x"
    pairs = [{"en": "a", "de": "b"}, {"en": "c", "de": "d"}]
    languages = {"source": "en", "target": "de", "references": "others", "group": "doc"}
    table = {"translation": pairs, "others": [["x"], None], "doc": [7, 7]}
    for found in (
        read_labelled(table, TRANSLATION, usual=languages),
        read_labelled(table, TRANSLATION, columns=languages),
    ):
        assert found.rows[0] == {"source": "a", "target": "b", "references": ["b", "x"], "group": "7"}
        assert found.groups == {"of": "doc", "numbers": [0, 0]}
    same = read_labelled(
        {"prompt": ["p", "p", "q", "q", "p"], "completion": [*"abcde"]}, TEXTS, usual={"prompt": "prompt"}
    )
    assert same.groups == {"of": "prompt", "numbers": [0, 1, 2, 2, 3]}, "most rows have an instruction in common"
    asked = {"prompt": [*"pqpq"], "completion": [*"abcd"]}
    assert read_labelled({"test": asked, "train": asked}, TEXTS).groups == {}, "train has these instructions too"
    assert read_labelled({"test": asked, "train": {"prompt": ["p"]}}, TEXTS).groups["numbers"] == [0, 1, 0, 1]
    lost = {"question": ["q"] * 2, "context": ["a b"] * 2, "answers": ["b", "c"]}
    dropped = read_labelled(lost, ANSWERS, bad_answers="drop")
    assert (len(dropped.rows), dropped.notes) == (1, ("1 of 2 rows left out: their answers are not in their contexts",))
    mended = read_labelled({"tokens": [["a"]], "tags": [["I-x"]]}, SPANS, repair_tags=True)
    assert (list(mended.rows["tags"]), mended.notes) == ([[1]], ("1 I- tags that continued no span were made B-",))


def test_spans_may_be_longer_than_those_of_training(fitted: Any) -> None:
    model = fitted("spans", "bert")
    assert "I-praise" not in model.run.task.labels
    rows = {"tokens": [["kind", "warm"], ["word1"]], "tags": [["B-praise", "I-praise"], ["O"]]}
    found = adapt.score(model, rows)
    assert found.notes == ("tag 'I-praise' is none that the model knows, where 'B-praise' is (words: 1)",)
    right, _, missed, *words = found.models[0].outcomes[0]
    assert (right, missed, words[1]) == (0, 1, 2)
    assert found.models[0].scores["span_recall"] == 0.0
    twice = adapt.score([model, model], rows)
    assert [each.scores for each in twice.models] == [found.models[0].scores] * 2
    with pytest.raises(DataError, match=r"word 1 .*: tag 'I-praise' is the first and so continues no span"):
        adapt.score(model, {"tokens": [["a"]], "tags": [["I-praise"]]})
    mended = adapt.score(model, {"tokens": [["warm"]], "tags": [["I-praise"]]}, repair_tags=True)
    assert mended.notes == ("1 I- tags that continued no span were made B-",)


TWO = {"train": {"text": ["a"], "label": ["bad"]}, "validation": {"text": ["b"], "label": ["bad"]}}
BAD: dict[str, tuple[Any, Task, dict[str, Any], str]] = {
    "an unknown class": (
        {"text": ["a", "b"], "label": ["bad", "fine"]}, CLASSES, {},
        r"row 2: label 'fine' is none that the model knows \('bad', 'good', '1'\); mend it, or take its rows out$",
    ),
    "a number of no class": (
        {"text": ["a", "b"], "label": [1.0, 1.5]}, CLASSES, {}, r"row 2: label '1\.5' is none that the model knows",
    ),
    "a number of two classes": (
        {"text": ["a"], "label": [1.10]}, replace(DECIMALS, labels=("1.10", "1.100")), {},
        r"row 1: label '1\.1' is none that the model knows \('1\.10', '1\.100'\)",
    ),
    "a text that looks like the number of a class": (
        {"text": ["a"], "label": ["1"]}, DECIMALS, {}, r"row 1: label '1' is none that the model knows",
    ),
    "a number that a float cannot tell from a class": (
        {"text": ["a"], "label": [2**53 + 1]}, replace(MIXED, labels=("1", "9007199254740992")), {},
        r"label '9007199254740993' is none that the model knows",
    ),
    "an unknown label": ({"text": ["a"], "label": [["x"]]}, LISTS, {}, r"label 'x' is none that the model knows"),
    "more zeros and ones": (
        {"text": ["a"], "label": [[0, 1, 0, 1]]}, LISTS, {}, "4 zeros and ones a row, and the model knows 3 labels",
    ),
    "zeros and ones for labels that have names": (
        {"text": ["a", "b"], "label": [[1, 0, 1], [0, 1, 0]]}, replace(LISTS, labels=("x", "y", "z")), {},
        "the columns: 3 zeros and ones a row, and the model knows 'x', 'y', 'z'; give lists of their names",
    ),
    "zeros and ones for labels that are other numbers": (
        {"text": ["a", "b"], "label": [[0, 1, 1], [0, 0, 1]]}, replace(LISTS, labels=("1", "2", "5")), {},
        "the columns: 3 zeros and ones a row, and the model knows '1', '2', '5'; give lists of their names",
    ),
    "an unknown tag": (
        {"tokens": [["a", "b"]], "tags": [["O", "B-y"]]}, SPANS, {},
        r"row 1, word 2 \('b'\): tag 'B-y' is none that the model knows",
    ),
    "a tag, by itself, that the model lacks": (
        {"tokens": [["a", "b"]], "tags": [["B-x", "I-x"]]}, replace(SPANS, problem="tags", labels=("O", "B-x")), {},
        r"row 1, word 2 \('b'\): tag 'I-x' is none that the model knows \('O', 'B-x'\)",
    ),
    "no labels": (
        {"text": ["a"]}, CLASSES, {"usual": {"label": "stars"}},
        r"no label column found among 'text', with which scoring compares what is predicted; name it with the option "
        r"label or columns=\{'label': NAME\}, or give rows that have one \(in training it was 'stars'\)$",
    ),
    "no targets": (
        {"source": ["a"]}, TRANSLATION, {},
        r"no target column found among 'source', with which .* --column target=NAME, or give rows that have one$",
    ),
    "no text": ({"label": ["bad"]}, CLASSES, {}, r"no text column found among 'label'; name it with the option text"),
    "an answer that is not there, of a row without an id": (
        {"question": ["q"] * 2, "context": ["a b"] * 2, "answers": ["b", "c"]}, ANSWERS, {},
        r"^the columns, row 2: no start is given for answer 'c' in its context",
    ),
    "two texts": ({"text": ["a"], "text_pair": ["b"], "label": ["bad"]}, CLASSES, {}, "one text a row is needed"),
    "no such split": (TWO, CLASSES, {}, r"data: no split 'test' \(it has train, validation\); name one of these as"),
    "one split, and not that one": (
        {"train": TWO["train"]}, CLASSES, {}, r"data: no split 'test' \(it has train\); name one of these as split",
    ),
    "a split that cannot be": (TWO, CLASSES, {"split": "dev"}, r"no split 'dev'; name one of 'train', 'validation'"),
    "one split of data without any": (
        {"text": ["a"], "label": ["bad"]}, CLASSES, {"split": "validation"},
        "'validation' is to be scored, and data has no splits; name none",
    ),
    "a column for nothing": (TWO, CLASSES, {"columns": {"tags": "x"}}, "tags"),
    "tags of classes": (TWO, CLASSES, {"split": "train", "repair_tags": True}, "repair_tags is for token_class"),
    "a conversation for a model of prompts": (
        {"messages": [[*TURNS, *TURNS]]}, TEXTS, {"usual": {"prompt": "prompt"}}, "row 1: the model was",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_rows_that_cannot_be_scored(case: str) -> None:
    rows, task, options, message = BAD[case]
    with pytest.raises(AdaptError, match=message):
        read_labelled(rows, task, **options)


def test_a_folder_needs_no_train(tmp_path: Path) -> None:
    (tmp_path / "test.csv").write_text("text,label\na,bad\n")
    assert len(read_labelled(tmp_path, CLASSES).rows) == 1
    with pytest.raises(DataError, match=r"no train file"):
        adapt.data.load(tmp_path)
    (tmp_path / "test.csv").rename(tmp_path / "mine.csv")
    with pytest.raises(DataError, match=r"no test file \(it holds 'mine.csv'\); name one test.csv"):
        read_labelled(tmp_path, CLASSES)


@pytest.mark.parametrize(
    ("split", "called"), [("validation", "the validation split"), ("train", "the scored split"), (None, "the scored")]
)
def test_notes_name_the_split_that_is_scored(fitted: Any, split: str | None, called: str) -> None:
    model = fitted("single_label", "bert")
    rows = {"text": ["word1 " * 200], "label": [model.run.task.labels[0]]}
    found = adapt.score(model, {split: rows}, split=split) if split else adapt.score(model, rows)
    assert len(found.notes) == 1
    assert f"1 texts of {called}" in found.notes[0]


def test_documents_of_a_conll_file_are_the_groups_that_training_named(tmp_path: Path) -> None:
    (tmp_path / "t.conll").write_text("-DOCSTART- O\n\nAda B-x\nsaw O\n\nBob B-x\nran O\n\n" * 12)
    data = adapt.data.load(tmp_path / "t.conll", columns={"group": "document"})
    model = adapt.fit("tiny-encoder", data, "head", epochs=1, max_steps=1, device="cpu", precision="fp32")
    found = adapt.score(model, tmp_path / "t.conll").groups
    assert found == {"of": "document", "numbers": [i // 2 for i in range(24)]}


def test_rows_that_are_all_right_leave_others_that_may_be_wrong(fitted: Any) -> None:
    """As in tables: of a mean over rows that are right or wrong, and of a difference of two."""
    model = fitted("pairs", "bert")
    found = adapt.score([model, model], raw(tiny_tasks.TASKS["pairs"]()))
    rows = found.rows
    right = tuple(replace(m, scores={**m.scores, "accuracy": 1.0}, outcomes=((1, 1),) * rows) for m in found.models)
    sure = replace(found, models=right)
    expected = crossed_interval([[1.0] * rows], 1.0, added=RIGHT_OR_WRONG)
    assert (sure.interval(0, "accuracy").low, sure.interval(0, "accuracy").high) == (expected.low, 1.0)
    assert expected.low is not None
    assert expected.low < 1
    assert sure.difference(1) == crossed_interval([[0.0] * rows], 0.0, added=RIGHT_OR_WRONG_PAIRED)
    assert sure.interval(0, "macro_f1").low is None, "which may hang on a few of them"
