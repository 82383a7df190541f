"""A model that is fitted, saved and loaded predicts the rows of a file in their order, or writes nothing."""

from __future__ import annotations

import csv
import dataclasses
import functools
import json
import pickle
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import tiny
from fit_helpers import QUICK, TEXTS, fitted, jsonl, leftovers, write
from safetensors import SafetensorError
from transformers import AutoTokenizer

import adapt
from adapt.adapted import Adapted, write_predictions
from adapt.backbones import resolve
from adapt.distillation.said import digest_of
from adapt.extraction.reading import reader
from adapt.spec import AdaptError, DataError, Load, OptionError, RowError, Task, key_of

pytestmark = pytest.mark.xdist_group("predicted")  # the model is fitted once


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, backbone: Callable[..., Path]) -> Path:
    """A saved model that tells praise from blame."""
    model = adapt.fit(
        backbone("bert"), tiny.classification(192, 32), adapt.Full(learning_rate=2e-3), epochs=10, dropout=0.0, **QUICK
    )
    return model.save(tmp_path_factory.mktemp("saved") / "model")


@pytest.fixture(scope="module")
def model(folder: Path) -> Adapted:
    return adapt.load(folder, device="cpu")


def predicting(rows: Iterable[dict[str, Any]], *labels: str) -> Any:
    """What predicts these rows, and knows these labels."""
    task = SimpleNamespace(labels=labels)
    return SimpleNamespace(iterate=lambda *_: rows, run=SimpleNamespace(task=task))


WITHOUT = r"Row 2{} \('{}'\): its token '{}' has no embedding, .* has 37; give .*resize_token_embeddings\(len\(tok"


def added(backbone: Path, folder: Path, word: str) -> Path:
    """A backbone whose tokenizer was given a word, and which was not itself."""
    shutil.copytree(backbone, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([word])
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("pooling", ["native", "mean"])
def test_a_token_without_an_embedding_is_named_before_anything_is_trained(
    backbone: Callable[..., Path], tmp_path: Path, pooling: str
) -> None:
    own, steps = added(backbone("bert"), tmp_path / "own", "zanzibar"), []
    rows = [{"text": f"{word} word1", "label": word} for word in ("sunny", "cold")] * 4
    other = [rows[0], {"text": "zanzibar word1", "label": "cold"}]
    how = {**QUICK, "on_step": lambda *step: steps.append(step), "pooling": pooling}
    with pytest.raises(RowError, match=WITHOUT.format(" of the test split", "zanzibar word1", "zanzibar")):
        adapt.fit(own, {"train": rows, "validation": rows, "test": other}, adapt.Head(), max_steps=1, **how)
    assert not steps
    model = adapt.fit(own, {"train": rows, "validation": rows, "test": rows}, adapt.Head(), max_steps=1, **how)
    new = WITHOUT.format("", "zanzibar word1", "zanzibar")
    with pytest.raises(RowError, match=new):
        model.predict(["sunny", "zanzibar word1"])
    with pytest.raises(RowError, match=new.replace("Row 2", "Row 1026")):
        model.predict(["sunny"] * 1025 + ["zanzibar word1"])
    with pytest.raises(RowError, match=WITHOUT.format(" of the scored split", "zanzibar word1", "zanzibar")):
        adapt.score(model, other)
    with pytest.raises(RowError, match=new):
        adapt.representations(own, ["sunny", "zanzibar word1"])


@pytest.mark.parametrize("architecture", ["t5", "bart"])
def test_a_token_of_a_target_without_an_embedding_is_named(
    backbone: Callable[..., Path], tmp_path: Path, architecture: str
) -> None:
    own = added(backbone(architecture), tmp_path / "own", "zanzibar")
    rows = [{"source": "cold", "target": "sunny"}, {"source": "cold", "target": "zanzibar"}]
    with pytest.raises(RowError, match=WITHOUT.format(" of the train split", "zanzibar", "zanzibar")):
        adapt.fit(own, dict.fromkeys(("train", "validation", "test"), rows), adapt.Head(), kind="seq2seq", **QUICK)


def test_a_token_of_general_texts_without_an_embedding_is_named(backbone: Callable[..., Path], tmp_path: Path) -> None:
    own = added(backbone("bert", masked=True), tmp_path / "own", "zanzibar")
    rows = [{"text": "sunny cold word1", "label": label} for label in "ab"] * 4
    data = dict.fromkeys(("train", "validation", "test"), rows)
    result = adapt.fit(own, data, "head", general=["sunny cold word1", "sunny zanzibar"], **QUICK).result
    assert result is not None
    assert any(
        note.startswith("forgetting was not measured: Row 2") and "'zanzibar' has no embedding" in note
        for note in result.notes
    )


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_hidden_token_without_an_embedding_is_named(
    backbone: Callable[..., Path], tmp_path: Path, split: str
) -> None:
    """Which a masked row does not show."""
    own = added(backbone("bert", masked=True), tmp_path / "own", "zanzibar")
    rows = [{"text": "sunny cold word1"}] * 4
    data = {**dict.fromkeys(("train", "validation", "test"), rows), split: [rows[0], {"text": "zanzibar"}]}
    with pytest.raises(RowError, match=rf"^Row 2 of the {split} split .*'zanzibar' has no embedding"):
        adapt.fit(own, data, adapt.Full(), kind="masked_lm", max_steps=1, **QUICK)


def test_a_model_can_be_a_key(model: Adapted) -> None:
    assert {model: "kept"}[model] == "kept"
    assert model == model
    assert model != dataclasses.replace(model)


def test_predictions_say_labels_by_the_names_given(model: Adapted) -> None:
    rows = model.predict(TEXTS)
    assert [row["label"] for row in rows] == ["praise", "blame"] * 3
    for row in rows:
        assert list(row) == ["label", "probabilities"]
        assert list(row["probabilities"]) == ["blame", "praise"]
        assert sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-6)
        assert max(row["probabilities"], key=row["probabilities"].get) == row["label"]


def test_a_kind_can_be_said_of_what_does_not_tell_it(model: Adapted) -> None:
    texts = [f"{word} {text}" for word in ("a", "the") for text in TEXTS]
    once: Any = {"max_steps": 1, "batch_size": 8, "max_length": 16, "device": "cpu", "progress": False}
    told = adapt.fit("tiny-encoder", texts, "lora", kind="mlm", **once)
    assert told.run.task.kind == "masked_lm"
    assert adapt.distill(told, "tiny-encoder", texts, "lora", kind="masked_lm", **once).run.task.kind == "masked_lm"
    assert adapt.fit(None, texts, kind="mlm", start=told, **once).run.task.kind == "masked_lm"
    with pytest.raises(DataError, match=r"no label column found .* name the kind: masked_lm or causal_lm"):
        adapt.fit("tiny-encoder", texts, **once)
    for start in (None, model):
        with pytest.raises(OptionError, match=r"kind is 'ner', but the data are for sequence_classification"):
            adapt.fit("tiny-encoder", tiny.classification(16, 8), kind="ner", start=start, **once)
    with pytest.raises(OptionError, match="did you mean"):
        adapt.fit("tiny-encoder", texts, kind="sequence_clasification", **once)


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".tsv"])
def test_the_order_of_the_input_is_kept_over_many_chunks(
    model: Adapted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    texts = [f"{'word1 ' * (i * 7 % 11)}{TEXTS[i % 6]}" for i in range(50)]
    whole = model.predict(texts)
    monkeypatch.setattr("adapt.adapted.model._CHUNK", 7)
    source, target = write(tmp_path / "in.csv", texts), tmp_path / f"out{suffix}"
    assert write_predictions(model, source, target) == 50
    if suffix == ".jsonl":
        rows = jsonl(target)
        assert [list(row) for row in rows] == [["label", "probabilities"]] * 50
        found = [(row["label"], row["probabilities"]["praise"]) for row in rows]
    else:
        assert "\r" not in target.read_text()
        with target.open(newline="") as handle:
            flat = list(csv.DictReader(handle, delimiter="," if suffix == ".csv" else "\t"))
        assert list(flat[0]) == ["label", "probability_blame", "probability_praise"]
        found = [(row["label"], float(row["probability_praise"])) for row in flat]
        for row in flat:
            assert float(row["probability_blame"]) + float(row["probability_praise"]) == pytest.approx(1, abs=1e-6)
    assert [label for label, _ in found] == [row["label"] for row in whole]
    assert [p for _, p in found] == pytest.approx([row["probabilities"]["praise"] for row in whole], abs=1e-5)
    assert leftovers(tmp_path) == {"in.csv", target.name}


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_a_prediction_is_one_row_whatever_it_holds(tmp_path: Path, suffix: str) -> None:
    """Also where the writer of CSV would leave a carriage return alone, which readers take for the end of a row."""
    texts = ["a\rb", "c\nd", 'e "f"', "g\r\nh", "i\t,j"]
    model: Any = predicting({"text": text} for text in texts)
    (tmp_path / "in.csv").write_text("text\n")
    assert write_predictions(model, tmp_path / "in.csv", tmp_path / f"out{suffix}") == len(texts)
    with (tmp_path / f"out{suffix}").open(newline="") as handle:
        assert [row["text"] for row in csv.DictReader(handle, delimiter="," if suffix == ".csv" else "\t")] == texts


def test_every_kind_of_file_gives_the_same(model: Adapted, tmp_path: Path) -> None:
    import pandas

    texts = ['word1 "sunny", word2', "rotten\nword3", "word4\r\nkind", "word7\u2028cold"]
    expected = model.predict(texts)
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"id": 1, "text": t}) + "\n" for t in texts))
    pandas.DataFrame({"text": texts}).to_parquet(tmp_path / "in.parquet")
    write(tmp_path / "in.csv", texts)
    write(tmp_path / "bom.csv", texts, encoding="utf-8-sig")
    write(tmp_path / "in.tsv", [["1", t] for t in texts], columns=("id", "text"), delimiter="\t")
    write(tmp_path / "named.csv", [["x", t] for t in texts], columns=("text", "body"))
    for name in ("in.jsonl", "in.parquet", "in.csv", "bom.csv", "in.tsv", "named.csv"):
        columns = {"text": "body"} if name == "named.csv" else None
        assert model.predict(tmp_path / name, text="body" if columns else None) == expected, name
        assert write_predictions(model, tmp_path / name, tmp_path / "out.jsonl", columns) == len(texts)
        assert jsonl(tmp_path / "out.jsonl") == expected, name


def test_several_labels(backbone: Callable[..., Path], tmp_path: Path) -> None:
    made = fitted(backbone("bert"), "multi_label")
    names = ("cold", "kind", "warm")
    for row in made.predict(TEXTS):
        assert list(row) == ["labels", "probabilities"]
        assert row["labels"] == [name for name in names if row["probabilities"][name] > 0.5]
    write_predictions(made, write(tmp_path / "in.csv", TEXTS), tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(newline="") as handle:
        flat = list(csv.DictReader(handle))
    assert list(flat[0]) == ["labels", *(f"probability_{name}" for name in names)]
    assert [row["labels"] for row in flat] == ["|".join(row["labels"]) for row in made.predict(TEXTS)]


def test_numbers(backbone: Callable[..., Path], tmp_path: Path) -> None:
    made = fitted(backbone("bert"), "regression")
    loaded = adapt.load(made.save(tmp_path / "m"), device="cpu")
    rows = loaded.predict(TEXTS)
    assert rows == made.predict(TEXTS)
    assert all(list(row) == ["value"] for row in rows)
    assert all(100 < row["value"] < 450 for row in rows)  # in the units of the target, whose mean is 275.5
    write_predictions(loaded, write(tmp_path / "in.csv", TEXTS), tmp_path / "out.tsv")
    assert (tmp_path / "out.tsv").read_text().splitlines() == ["value", *(repr(row["value"]) for row in rows)]


def test_predictions_of_every_kind_fit_in_a_cell(tmp_path: Path) -> None:
    spans = [{"type": "x", "text": "é"}]
    made = [
        {"tags": ["B-x", "O"], "spans": spans, "answer": "a\nb", "score": 0.5, "text": ""},
        {"tags": ["O"], "spans": [], "answer": "", "score": 1.0, "text": "t"},
    ]
    for suffix, delimiter in ((".csv", ","), (".tsv", "\t")):
        target = tmp_path / f"out{suffix}"
        assert write_predictions(predicting(made, "O", "B-x"), "in.csv", target) == 2
        with target.open(newline="", encoding="utf-8") as handle:
            rows = list(csv.DictReader(handle, delimiter=delimiter))
        span = '[{"type": "x", "text": "é"}]'
        assert rows == [
            {"tags": "B-x O", "spans": span, "answer": "a\nb", "score": "0.5", "text": ""},
            {"tags": "O", "spans": "[]", "answer": "", "score": "1.0", "text": "t"},
        ]


@pytest.mark.parametrize(
    ("column", "names", "cells"),
    [
        ("labels", ("a b", "c"), ["a b|c", "c", ""]),
        ("labels", ("a|b", "c"), ['["a|b", "c"]', '["c"]', "[]"]),
        ("labels", ('["c"]', "c"), ['["[\\"c\\"]", "c"]', '["c"]', "[]"]),
        ("tags", ("B-a|b", "O"), ["B-a|b O", "O", ""]),
        ("tags", ("B-ä b", "O"), ['["B-ä b", "O"]', '["O"]', "[]"]),
    ],
)
def test_names_that_hold_what_joins_others_are_told_from_several(
    tmp_path: Path, column: str, names: tuple[str, str], cells: list[str]
) -> None:
    """In every row alike."""
    made = [{column: list(found)} for found in (names, names[1:], ())]
    write_predictions(predicting(made, *names), "in.csv", tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as handle:
        assert [row[column] for row in csv.DictReader(handle)] == cells


def test_pairs(backbone: Callable[..., Path], tmp_path: Path) -> None:
    made = fitted(backbone("bert"), "pairs")
    both = [(a, b) for a in TEXTS[:3] for b in TEXTS[3:]]
    expected = made.predict(both)
    assert made.predict([(b, a) for a, b in both]) != expected
    source = write(tmp_path / "in.csv", both, columns=("premise", "hypothesis"))
    write_predictions(made, source, tmp_path / "out.jsonl")
    assert jsonl(tmp_path / "out.jsonl") == expected
    write_predictions(made, source, tmp_path / "out.jsonl", {"text": "hypothesis", "text_pair": "premise"})
    assert jsonl(tmp_path / "out.jsonl") == made.predict([(b, a) for a, b in both])
    with pytest.raises(DataError, match="no text_pair column found"):
        write_predictions(made, write(tmp_path / "one.csv", TEXTS), tmp_path / "none.jsonl")
    assert not (tmp_path / "none.jsonl").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text\nword1 sunny\n\nrotten\n", r"in.csv, line 3: no text in column 'text'"),
        ('text,n\nword1,1\n"  ",2\n', r"in.csv, line 3: no text in column 'text'"),
        ("body_of_it,n\nword1,1\n", r"no text column found among 'body_of_it', 'n'.*option text"),
        ("text\n", "in.csv: there are no rows"),
        ("", "in.csv: the file is empty"),
        ("text,n\nword1,1,2\n", "in.csv, line 2: 3 fields where the header has 2"),
    ],
)
def test_input_that_cannot_be_used_leaves_no_output(model: Adapted, tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "in.csv").write_text(content)
    with pytest.raises(DataError, match=message):
        write_predictions(model, tmp_path / "in.csv", tmp_path / "out.csv")
    assert leftovers(tmp_path) == {"in.csv"}


def test_an_error_in_the_middle_leaves_the_output_as_it_was(
    model: Adapted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = write(tmp_path / "in.csv", TEXTS), tmp_path / "out.jsonl"
    encode, calls = model.fitted.kind.encode, []

    def breaks(rows: Any) -> Any:
        calls.append(len(rows))
        if len(calls) == 3:
            raise DataError("the third chunk is bad")
        return encode(rows)

    monkeypatch.setattr("adapt.adapted.model._CHUNK", 2)
    monkeypatch.setattr(model.fitted.kind, "encode", breaks)
    for before in (None, "what was there"):
        calls.clear()
        if before:
            target.write_text(before)
        with pytest.raises(DataError, match="the third chunk is bad"):
            write_predictions(model, source, target)
        assert calls == [2, 2, 2]
        assert leftovers(tmp_path) == {"in.csv", *(["out.jsonl"] if before else [])}
        assert before is None or target.read_text() == before


def test_an_output_that_cannot_be_written(model: Adapted, tmp_path: Path) -> None:
    source = write(tmp_path / "in.csv", TEXTS)
    (tmp_path / "folder.csv").mkdir()
    for target, message in (
        (tmp_path / "out.txt", r"ends in '\.txt'; write to \.jsonl, \.csv or \.tsv"),
        (tmp_path / "out", "ends in ''"),
        (tmp_path / "folder.csv", "is a folder; give a file"),
        (source / "out.csv", "cannot be written"),
        (Path("/dev/null/out.csv"), "cannot be written"),
    ):
        with pytest.raises(OptionError, match=message):
            write_predictions(model, source, target)
    assert leftovers(tmp_path) == {"in.csv", "folder.csv"}
    assert write_predictions(model, source, tmp_path / "a" / "b" / "out.csv") == len(TEXTS)


def unreadable(file: Path) -> None:
    """Put in its place what not even root can read from the start."""
    file.unlink()
    file.symlink_to("/proc/self/mem")


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "nothing": (shutil.rmtree, r"does not hold a saved model \(no adapt.json\)"),
    "no adapt.json": (lambda folder: (folder / "adapt.json").unlink(), "does not hold a saved model"),
    "not readable": (lambda folder: unreadable(folder / "adapt.json"), r"model in .* cannot be read .*see to its"),
    "no readable tensors": (lambda folder: unreadable(folder / "trainable.safetensors"), "cannot be read"),
    "cut off": (lambda folder: (folder / "adapt.json").write_text('{"schema": 1'), r"adapt.json is damaged \("),
    "a list": (lambda folder: (folder / "adapt.json").write_text("[1]"), "adapt.json is damaged"),
    "another schema": (
        lambda folder: (folder / "adapt.json").write_text('{"schema": 0}'), "was written by another version of adapt",
    ),
    "spec cut": (
        lambda folder: (folder / "adapt.json").write_text(
            json.dumps({**json.loads((folder / "adapt.json").read_text()), "spec": {"strategy": {"name": "full"}}})
        ),
        "adapt.json is damaged",
    ),
    "no tensors": (lambda folder: (folder / "trainable.safetensors").unlink(), "trainable.safetensors is missing"),
    "other tensors": (
        lambda folder: (folder / "trainable.safetensors").write_bytes(b"x" * 100), "is not the file that was saved",
    ),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_folder_that_is_not_whole_is_not_loaded(folder: Path, tmp_path: Path, damage: str) -> None:
    copy = tmp_path / "model"
    shutil.copytree(folder, copy)
    change, message = DAMAGE[damage]
    change(copy)
    with pytest.raises(AdaptError, match=message) as caught:
        adapt.load(copy, device="cpu")
    assert str(copy) in str(caught.value)


@pytest.mark.parametrize(
    ("names", "value", "message"),
    [
        ("kind_state", None, "TypeError"),
        ("kind_state", {}, "KeyError"),
        ("kind_state.mean", "x", "ValueError"),
        ("columns", "x", "AttributeError"),
        ("spec.backbone.sha256", None, "backbone.sha256 is None; give a name"),
        ("spec.task", "x", "AttributeError"),
        ("spec.task.kind", "songs", "KeyError"),
        ("spec.task.problem", 3, "task.problem is 3; give one of single_label"),
        ("spec.task.labels", ["a", []], "task.labels is .*; give a name"),
        ("spec.task.max_length", None, "task.max_length is None; give a whole number"),
        ("spec.task.max_length", -1, "max_length is -1; give a whole number of at least 1"),
        ("spec.task.data", [], "task.data is .*; give names with values"),
        ("spec.task.options", [], "task.options is .*; give names with values"),
        ("spec.strategy", "x", "TypeError"),
        ("spec.budget.batch_size", "x", "budget.batch_size is 'x'; give a whole number"),
        ("spec.budget.batch_size", 0, "batch_size is 0; give a whole number of at least 1"),
        ("spec.seed", None, "seed is None"),
    ],
)
def test_a_value_of_a_wrong_type_is_told_of_the_file(
    folder: Path, tmp_path: Path, names: str, value: Any, message: str
) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "model"))
    content = json.loads((copy / "adapt.json").read_text())
    *above, last = names.split(".")
    functools.reduce(dict.__getitem__, above, content)[last] = value
    (copy / "adapt.json").write_text(json.dumps(content))
    with pytest.raises(AdaptError, match=rf"{copy / 'adapt.json'} is damaged \(.*({message})"):
        adapt.load(copy, device="cpu")


@pytest.mark.parametrize("text", ["[]", '{"key": 1}', '{"scores": {}}', "{"])
def test_what_is_no_result_is_left_out(folder: Path, tmp_path: Path, text: str) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "model"))
    (copy / "result.json").write_text(text)
    loaded = adapt.load(copy, device="cpu")
    assert loaded.earlier is None
    assert not (loaded.save(tmp_path / "again") / "result.json").exists()


def test_a_model_loaded_on_another_device_is_of_the_run_that_trained_it(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "model"))
    content, result = (json.loads((copy / name).read_text()) for name in ("adapt.json", "result.json"))
    for each in (content, result):
        each["spec"]["budget"]["device"] = "cuda"
    result["key"] = key_of(result["spec"])
    (copy / "adapt.json").write_text(json.dumps(content))
    (copy / "result.json").write_text(json.dumps(result))
    loaded = adapt.load(copy, device="cpu")
    assert loaded.run.budget.device == "cpu"
    assert reader(loaded).origin["run"] == loaded.key == result["key"] != loaded.run.key()
    budget = dataclasses.replace(loaded.run.budget, device="cuda")
    as_trained = dataclasses.replace(loaded, run=dataclasses.replace(loaded.run, budget=budget), earlier=None)
    assert digest_of(loaded) == digest_of(as_trained)  # so that its students' runs have one key


def test_json_too_deep_to_be_read(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "model"))
    (copy / "result.json").write_text("[" * 100_000)
    assert adapt.load(copy, device="cpu").earlier is None
    (copy / "adapt.json").write_text("[" * 100_000)
    with pytest.raises(AdaptError, match=r"adapt\.json is damaged"):
        adapt.load(copy, device="cpu")


def test_saving_where_nothing_can_be_written(model: Adapted, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OptionError, match=r"Output folder .* cannot be written"):
        model.save(tmp_path / "file" / "m")
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "peft").write_text("")
    with pytest.raises(OptionError, match=r"adapter_config\.json cannot be replaced: Not a directory"):
        model.save(tmp_path / "m")


@pytest.mark.parametrize("given", [None, 7, "", "~nobody-of-that-name/m", "a\0b", "\ud800", "x" * 5000])
def test_what_is_no_path(model: Adapted, given: Any) -> None:
    for use in (model.save, adapt.load, *([resolve] if isinstance(given, str) else [])):
        with pytest.raises(OptionError, match=r"is no path that can be used: .*; give another"):
            use(given)


def test_a_single_string_is_a_path_not_a_text(model: Adapted) -> None:
    with pytest.raises(DataError, match="a fine film: no such file"):
        model.predict("a fine film")


@pytest.fixture
def one_by_one(model: Adapted) -> Iterator[dict[str, Any]]:
    return model.iterate(TEXTS)


def test_predictions_may_be_taken_one_by_one(model: Adapted, one_by_one: Iterator[dict[str, Any]]) -> None:
    assert next(one_by_one) == model.predict(TEXTS)[0]


def test_the_command_line_does_the_same(
    folder: Path, model: Adapted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from click.testing import CliRunner

    from adapt.cli import cli

    source = write(tmp_path / "in.csv", TEXTS)
    arguments = [
        "predict",
        str(folder),
        "--input",
        str(source),
        "--output",
        str(tmp_path / "out.jsonl"),
        "--device",
        "cpu",
    ]
    result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert result.stderr == f"6 predictions: {tmp_path / 'out.jsonl'}\n"
    assert jsonl(tmp_path / "out.jsonl") == model.predict(TEXTS)
    rows = "".join(f"{t},{'ab'[i % 2]}\n" for i, t in enumerate(TEXTS * 8))
    (tmp_path / "train.csv").write_text("text,label\n" + rows)
    reference = json.loads((folder / "adapt.json").read_text())["reference"]
    arguments = [
        "fit", "--backbone", reference, "--data", str(tmp_path / "train.csv"), "--strategy", "lora",
        "--set", "lora.rank=2", "--epochs", "1", "--batch-size", "8", "--device", "cpu", "--precision", "fp32",
        "--out", str(tmp_path / "fitted"),
    ]  # fmt: skip
    result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    names = [line.split(":")[0] for line in result.stdout.splitlines()]
    assert names == ["validation", "test", "trainable"]
    notes = [line for line in result.stderr.splitlines() if line.startswith("Note: ")]
    assert any("rows of test are in train too" in note for note in notes)
    (tmp_path / "long.csv").write_text("text\n" + "word " * 300 + "\nword\n" + "word " * 200 + "\n")
    monkeypatch.setattr("adapt.adapted.model._CHUNK", 2)
    arguments = ["predict", str(folder), "--input", str(tmp_path / "long.csv"), "--output", str(tmp_path / "l.csv")]
    result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert result.stderr.splitlines()[0] == "Note: 2 texts of new rows were cut to 64 tokens"
    assert adapt.load(tmp_path / "fitted", device="cpu").run.strategy == adapt.LoRA(rank=2)


def test_a_row_is_named_by_its_place_in_the_input(model: Adapted, monkeypatch: pytest.MonkeyPatch) -> None:
    encode = model.fitted.kind.encode

    def refuses(rows: Any) -> Any:
        for row, text in enumerate(rows["text"]):
            if text == TEXTS[5]:
                raise RowError(row, None, "it is bad.", text)
        return encode(rows)

    monkeypatch.setattr("adapt.adapted.model._CHUNK", 2)
    monkeypatch.setattr(model.fitted.kind, "encode", refuses)
    with pytest.raises(DataError, match=r"Row 6 \(.*\): it is bad") as caught:
        model.predict(TEXTS)
    assert repr(TEXTS[5][:40]) in str(caught.value)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (type(again), str(again)) == (RowError, str(caught.value))


def test_the_majority_is_that_of_all_rows_where_classes_are_drawn_alike(backbone: Callable[..., Path]) -> None:
    """Whatever the names of the classes, which are in order."""
    for rare, common in (("a", "b"), ("b", "a")):
        rows = [{"text": f"word{i}", "label": rare if i % 5 == 0 else common} for i in range(60)]
        data = adapt.data.load(rows, validation=0, test=0.5)
        made = adapt.fit(backbone("bert"), data, adapt.Head(), few_shot=2, max_steps=1, **QUICK)
        assert made.result is not None
        assert made.result.baseline is not None
        assert made.result.baseline["scores"]["accuracy"] == pytest.approx(0.8, abs=0.05)


def test_a_model_is_not_saved_into_its_backbone(model: Adapted) -> None:
    before = model.backbone.source.sha256
    for write_to in (model.save, model.merge):
        with pytest.raises(OptionError, match="is the folder of the backbone"):
            write_to(model.backbone.path)
    assert resolve(model.backbone.path).source.sha256 == before


def test_saved_and_merged_models_do_not_share_a_folder(model: Adapted, tmp_path: Path) -> None:
    """Commands would read the one or the other."""
    saved, merged = model.save(tmp_path / "saved"), tmp_path / "merged"
    shutil.copytree(model.backbone.path, merged)
    with pytest.raises(OptionError, match=r"saved holds a saved model, which the merged one .*; give another folder"):
        model.merge(saved)
    with pytest.raises(OptionError, match=r"merged holds a model of transformers, which the saved one .*; give anoth"):
        model.save(merged)
    assert not (saved / "config.json").exists()
    assert not (merged / "adapt.json").exists()
    (saved / "config.json").write_text('{"of": "something else"}')
    model.save(saved)
    model.merge(merged)


def test_a_merged_model_does_not_lie_beside_an_adapter(model: Adapted, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(OptionError, match=r"holds an adapter of PEFT, which transformers would load with the merged"):
        model.merge(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["adapter_config.json"]


def test_a_full_disk_is_an_error_of_ours(model: Adapted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any, **kwargs: Any) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    before = {path.name: path.read_bytes() for path in model.save(tmp_path / "old").iterdir()}
    monkeypatch.setattr("safetensors.torch.save_file", full)
    for name in ("m", "old"):
        with pytest.raises(OptionError, match=r"trainable\.safetensors cannot be written \(.*No space left"):
            model.save(tmp_path / name)
    with pytest.raises(AdaptError, match="does not hold a saved model"):
        adapt.load(tmp_path / "m")
    assert {path.name: path.read_bytes() for path in (tmp_path / "old").iterdir()} == before


def test_an_output_that_is_the_input_by_another_name(model: Adapted, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    source = write(tmp_path / "in.csv", TEXTS)
    for given, target in (("~/in.csv", source), (source, "~/in.csv")):
        with pytest.raises(OptionError, match="is the input, which would be lost"):
            write_predictions(model, given, target)
    assert write_predictions(model, "~/in.csv", "~/out.jsonl") == len(TEXTS)
    assert (tmp_path / "out.jsonl").exists()


def test_a_home_folder_is_the_users(model: Adapted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert model.save("~/mine") == tmp_path / "mine"
    assert adapt.load("~/mine", device="cpu").predict(TEXTS[:1]) == model.predict(TEXTS[:1])


@dataclasses.dataclass(frozen=True)
class Biases:
    """A strategy that a user made."""

    name: ClassVar[str] = "biases"
    learning_rate: float = 1e-2
    ends: tuple[str, ...] = ("bias",)

    def build(self, load: Load, task: Task) -> Any:
        model = load()
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in model.head_names or name.endswith(self.ends))
        return model


@dataclasses.dataclass(frozen=True)
class Unlike(adapt.LoRA):
    """Another strategy under a name that the library has."""

    def build(self, load: Load, task: Task) -> Any:
        model = super().build(load, task)
        model.base_model.embeddings.word_embeddings.weight.requires_grad_(True)
        return model


@pytest.mark.parametrize("strategy", [Biases(), Unlike(rank=2)], ids=lambda s: type(s).__name__)
def test_a_strategy_that_a_user_made(backbone: Callable[..., Path], tmp_path: Path, strategy: Any) -> None:
    made = adapt.fit(backbone("bert"), tiny.classification(), strategy, max_steps=3, **QUICK)
    folder = made.save(tmp_path / "model")
    loaded = adapt.load(folder, device="cpu", strategy=strategy)
    assert loaded.predict(TEXTS) == made.predict(TEXTS)
    again = adapt.load(loaded.save(tmp_path / "again"), device="cpu", strategy=strategy)
    assert again.predict(TEXTS) == made.predict(TEXTS)
    name = type(strategy).__name__
    for other in (None, dataclasses.replace(strategy, learning_rate=1e-3), adapt.LoRA(rank=2)):
        message = (
            rf"of your own; load it with adapt.load\(..., strategy={name}\(learning_rate={strategy.learning_rate}, "
        )
        with pytest.raises(OptionError, match=message):
            adapt.load(folder, device="cpu", strategy=other)


def test_a_strategy_that_a_model_was_not_trained_with(folder: Path) -> None:
    with pytest.raises(OptionError, match="trained with the library's full; leave strategy out"):
        adapt.load(folder, device="cpu", strategy=Biases())
    with pytest.raises(OptionError, match=r"Biases is a class; give one of it: Biases\(\)\."):
        adapt.load(folder, device="cpu", strategy=Biases)  # type: ignore[arg-type]


def test_a_strategy_that_could_not_be_saved_is_not_trained(backbone: Callable[..., Path]) -> None:
    class Plain:
        name, learning_rate, build = "plain", 1e-2, Biases.build

    for strategy in (Plain(), Biases(ends={"bias"})):  # type: ignore[arg-type]
        with pytest.raises(
            OptionError, match=r"cannot be recorded .* give an instance of a dataclass whose fields are"
        ):
            adapt.fit(backbone("bert"), tiny.classification(), strategy, **QUICK)


def test_who_waits_for_predictions_is_told_how_many_rows_are_done(
    model: Adapted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapt.adapted.model._CHUNK", 5)
    told: list[tuple[int, int]] = []
    source = tmp_path / "new.csv"
    source.write_text("text\n" + "".join(f"word{i} warm\n" for i in range(12)))
    assert write_predictions(model, source, tmp_path / "out.jsonl", on_done=lambda *both: told.append(both)) == 12
    assert told == sorted(told)
    assert (told[-1], len({done for done, _ in told})) == ((12, 12), len(told))
