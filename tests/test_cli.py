"""The command line: every option as promised, and bad input as one line that says what to do."""

from __future__ import annotations

import errno
import inspect
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from comparison_helpers import behave, result_of, run_of

from adapt import cli, fit, load
from adapt.backbones import resolve
from adapt.cli.fitting import _report
from adapt.cli.given import read_data
from adapt.comparison import Store
from adapt.comparison.given import EMBEDDED_BACKBONES, EMBEDDED_BUDGETS
from adapt.machine import short_waits
from adapt.spec import OptionError
from adapt.strategies import LoRA
from adapt.tasks import KINDS

Command = Callable[..., tuple[int, str, str]]
HEAVY = ("torch", "transformers", "peft", "datasets", "pandas", "numpy", "scipy", "accelerate", "evaluate", "sklearn")


@pytest.fixture
def adapt(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs `adapt ARGUMENTS` in this process; gives its exit code, output and errors."""
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)
    monkeypatch.setenv("GOMP_SPINCOUNT", "10000")  # what a command would leave here
    monkeypatch.setattr("adapt.cli.few_threads", lambda given: {})
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)

    def command(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["adapt", *map(str, arguments)])
        code = 0
        capsys.readouterr()
        try:
            cli.main()
        except SystemExit as error:
            code = int(str(error.code))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return command


def refused(result: tuple[int, str, str]) -> str:
    """The one line of an error of ours."""
    code, out, error = result
    assert code == 2
    assert out == ""
    assert error.count("\n") == 1
    assert error.startswith("adapt: ")
    return error.removeprefix("adapt: ").rstrip("\n")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    file = tmp_path / "words.csv"
    rows = "".join(f"a {word} word,{word}\n" for word in ("good", "bad") for _ in range(20))
    file.write_text("text,label\n" + rows)
    return file


@pytest.fixture
def tiny(backbone: Callable[..., Path]) -> Path:
    return backbone("bert")


def loaded_by(program: str) -> list[str]:
    """Heavy modules in memory after a program."""
    code = f"import sys\n{program}\nprint([m for m in {HEAVY} if m in sys.modules], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return eval(done.stderr.splitlines()[-1])  # our own list


@pytest.mark.parametrize(
    "program",
    [
        "import adapt; dir(adapt); adapt.LoRA(); adapt.Run",
        "from adapt.cli import main; sys.argv = ['adapt', '--help']; main()",
        "from adapt.cli import main; sys.argv = ['adapt', 'compare', '--help']; main()",
        "from adapt.cli import main; sys.argv = ['adapt', 'compare', '--strategies', 'lroa']\n"
        "try: main()\nexcept SystemExit as e: assert e.code == 2",
    ],
)
def test_nothing_heavy_is_imported_before_it_is_needed(program: str) -> None:
    assert loaded_by(program) == []


def test_threads_of_a_command_wait_awake_for_a_moment_only(adapt: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"HOME": "/"})
    assert adapt("--version")[0] == 0
    assert os.environ == {"HOME": "/", **short_waits({})}


def test_a_command_has_no_more_threads_than_its_container_has_time_for(
    adapt: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for a comparison, which shares the cores out itself."""
    monkeypatch.setattr("adapt.cli.few_threads", lambda given: {"OMP_NUM_THREADS": "3"})
    for words, threads in ((("fit", "--help"), "3"), (("compare", "--help"), None)):
        monkeypatch.setattr(os, "environ", {"HOME": "/"})
        monkeypatch.setattr(sys, "argv", ["adapt", *words])
        assert adapt(*words)[0] == 0
        assert os.environ.get("OMP_NUM_THREADS") == threads


@pytest.mark.parametrize(
    "words",
    [
        ("fit", "--backbone", "gpt2", "--data", "x.csv", "--out", "gpt2"),
        ("fit", "--backbone", "gpt2", "--data", "x.csv", "--out", "gpt2/one/two"),
        ("fit", "--backbone", "tiny-encoder", "--data", "some/imdb", "--out", "./some/imdb"),
        ("compare", "--backbone", "org/model@v1", "--data", "x.csv", "--out", "org/model/"),
    ],
)
def test_a_folder_does_not_take_the_name_of_something_on_the_hub(
    adapt: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, told = adapt(*words)
    assert code == 2
    assert "of the hub from then on; give another, such as models/" in told
    assert not list(tmp_path.iterdir())


def test_everything_public_is_there() -> None:
    import adapt

    for name in adapt.__all__:
        assert getattr(adapt, name) is not None
    assert set(dir(adapt)) == set(adapt.__all__) == set(adapt._PUBLIC)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = adapt.nothing


def test_what_the_help_of_public_names_refers_to_is_public() -> None:
    import adapt

    public = [getattr(adapt, name) for name in adapt.__all__]
    inner = [vars(each)[name] for each in public for name in vars(each) if isinstance(each, type) and name[0] != "_"]
    text = "\n".join(inspect.getdoc(each) or "" for each in [*public, *inner] if not isinstance(each, str))
    named = set(re.findall(r"`adapt\.(\w+)", text)) - {"json"}  # adapt.json is a file
    assert {"backbones", "comparison", "fit", "tasks"} <= named <= set(adapt.__all__)


OPTIONS = {
    "compare": [
        "--backbone", "--data", "--strategies", "--seeds", "--epochs", "--max-train", "--few-shot", "--device",
        "--precision", "--set", "--out", "--text", "--text-pair", "--label", "--jobs", "--learning-rate", "--kind",
        "--column", "--repair-tags", "--bad-answers", "--general", "--teacher", "--unlabelled", "--temperature",
        "--weight", "--config", "--revision", "--split", "--start",
    ],
    "fit": ["--backbone", "--data", "--strategy", "--out", "--set", "--seed", "--epochs", "--device", "--precision",
            "--general", "--start"],
    "distill": [
        "--backbone", "--data", "--strategy", "--out", "--unlabelled", "--temperature", "--weight", "--set", "--seed",
        "--general",
    ],
    "predict": ["--input", "--output", "--backbone", "--device", "--text", "--text-pair", "--column"],
    "table": [],
}  # fmt: skip


@pytest.mark.parametrize("command", OPTIONS)
def test_every_promised_option_is_there(command: str) -> None:
    result = CliRunner().invoke(cli.cli, [command, "--help"])
    assert result.exit_code == 0
    there = {o for p in cli.cli.commands[command].params if isinstance(p, click.Option) for o in p.opts}
    assert set(OPTIONS[command]) <= there
    for option in OPTIONS[command]:
        assert option in result.output


@pytest.mark.parametrize("command", cli.cli.commands.values(), ids=lambda command: command.name)
def test_every_option_says_what_it_is(command: click.Command) -> None:
    for option in (p for p in command.params if isinstance(p, click.Option)):
        assert option.help, option.opts
        assert not option.help.startswith("["), option.opts


@pytest.mark.parametrize(
    ("command", "said", "never"),
    [
        ("compare", ["OUT/curve.csv", "OUT/answers", "embedded tasks up to 5", "a learning curve"], []),
        ("table", ["FOLDER/curve.csv"], []),
        ("fit", ["epoch"], ["embedded task", "compare also", "in the table", "file names"]),
        ("distill", ["epoch"], ["embedded task", "compare also", "in the table", "file names"]),
        ("probe", ["penalty"], ["epoch", "file names"]),
        ("predict", ["question"], ["answers", "group"]),
        ("represent", ["tokens"], ["answers", "tags", "group", "question"]),
    ],
)
def test_the_help_of_a_command_speaks_of_that_command(command: str, said: list[str], never: list[str]) -> None:
    text = " ".join(CliRunner().invoke(cli.cli, [command, "--help"]).output.split())
    assert [words for words in said if words not in text] == []
    assert [words for words in never if words in text] == []


def test_the_defaults_are_those_promised() -> None:
    options: dict[str, Any] = {p.name or "": p for p in cli.cli.commands["compare"].params}
    assert not options["backbone"].required
    assert EMBEDDED_BACKBONES["sequence_classification"] == "tiny-encoder"
    assert set(EMBEDDED_BACKBONES) == set(EMBEDDED_BUDGETS) == set(KINDS)
    assert all(resolve(name).source.name == name for name in EMBEDDED_BACKBONES.values())
    assert options["strategies"].default == "all"
    assert options["seeds"].default == 3
    assert options["device"].type.choices == ("auto", "cpu", "cuda")
    assert options["precision"].type.choices == ("auto", "fp32", "bf16")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--strategies", "full,lroa"], "There is no strategy 'lroa' (did you mean 'lora'?); choose from full, head"),
        (["--set", "lora.rnk=4"], "Strategy 'lora' has no field 'rnk' (did you mean 'rank'?); it has learning_rate"),
        (["--set", "lroa.rank=4"], "There is no strategy 'lroa' (did you mean 'lora'?)"),
        (["--set", "lora.rank=four"], "lora.rank is 'four'; give a whole number."),
        (["--set", "lora.rank"], "--set lora.rank cannot be read; write strategy.field=value, such as lora.rank=16."),
        (["--set", "rank=4"], "--set rank=4 cannot be read"),
        (["--set", "lora.rank=4", "--strategies", "full"], "Settings are given for lora, which is not among the str"),
        (["--learning-rate", "0"], "learning_rate is 0.0; give a finite number above zero, such as 1e-4."),
        (["--learning-rate", "-1e-3"], "learning_rate is -0.001; give a finite number above zero"),
        (["--learning-rate", "nan"], "learning_rate is nan; give a finite number above zero"),
        (["--learning-rate", "inf"], "learning_rate is inf; give a finite number above zero"),
        (
            ["--learning-rate", "2e-3", "--set", "full.learning_rate=1e-4"],
            "learning_rate is 0.002 for all",
        ),
        (["--set", "full.learning_rate=nan"], "full.learning_rate is nan; give a finite number above zero"),
        (["--set", "full.learning_rate=0"], "full.learning_rate is 0.0; give a finite number above zero"),
        (["--set", "lora.alpha=inf"], "lora.alpha is inf; give a finite number."),
        (["--set", "task.epochs=3"], "--set task.epochs is not a field of the task's kind; use --epochs."),
        (["--set", "task.seed=3"], "--set task.seed: no kind of task has this field; there are answer_marker, beams,"),
        (["--set", "task.command=x"], "--set task.command: no kind of task has this field; there are"),
        (["--set", "task.beam=2"], "--set task.beam: no kind of task has this field (did you mean 'beams'?)"),
        (["--seeds", "0"], "seeds is 0; give how many (at least 1)"),
        (["--jobs", "0"], "jobs is 0; give a whole number of at least 1."),
        (["--weight", "0.2"], "unlabelled, temperature and weight say how a teacher teaches, and none is given; give"),
        (["--epochs", "0"], "epochs is 0; give a whole number of at least 1."),
        (["--max-train", "-1"], "max_train is -1; give a whole number of at least 1."),
        (["--metric", "bleu"], "Metric 'bleu' does not go with single_label; choose one of accuracy, macro_f1, mcc."),
        (["--test", "1.5"], "test=1.5: give the share of the rows to cut out, from 0 to below 1"),
        (
            ["--kind", "ner"],
            "words.csv: no tokens column found among 'text', 'label' (line 1 must name the columns); name",
        ),
        (
            ["--kind", "sentiment"],
            "kind='sentiment' is unknown; choose one of sequence_classification, token_classific",
        ),
        (["--column", "tokens"], "--column tokens cannot be read; write role=name, such as tokens=words."),
        (["--column", "text=a", "--column", "text=b"], "--column text is given twice; give it once."),
        (
            ["--column", "text=txet"],
            "words.csv: no column 'txet' for text (did you mean 'text'?); name one of 'text', 'label'",
        ),
        (["--repair-tags"], "repair_tags is for token_classification and the data are for sequence_classification"),
        (["--bad-answers", "drop"], "bad_answers is for question_answering and the data are for sequence_classific"),
        (["--text", ""], "words.csv: no column '' for text; name one of 'text', 'label'"),
        (["--backbone", ""], "'' is no path that can be used: it is empty; give another."),
        (["--text", "txet"], "words.csv: no column 'txet' for text (did you mean 'text'?); name one of 'text'"),
    ],
)
def test_options_that_cannot_be_are_one_line(
    adapt: Command, tiny: Path, data: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    common = ["--backbone", tiny, "--data", data, "--out", tmp_path / "out", "--device", "cpu", "--precision", "fp32"]
    error = refused(adapt("compare", *common, *arguments))
    assert message in error
    assert not list((tmp_path / "out").glob("runs/*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare", "--epochs", "many"], "Invalid value for '--epochs': 'many' is not a valid integer."),
        (["compare", "--device", "tpu"], "Invalid value for '--device': 'tpu' is not one of"),
        (["compare", "--epoch", "3"], "No such option"),
        (["compare", "more"], "Got unexpected extra argument (more)"),
        (["fit", "--data", "x.csv", "--out", "o"], "Missing option '--backbone'."),
        (["predict", "folder", "--output", "o.csv"], "Missing option '--input'."),
        (["comapre"], "No such command 'comapre'."),
    ],
)
def test_a_mistyped_command_shows_the_usage(adapt: Command, arguments: list[str], message: str) -> None:
    code, out, error = adapt(*arguments)
    assert (code, out) == (2, "")
    assert error.startswith("Usage: adapt")
    assert message in error


def test_cuda_where_there_is_none(adapt: Command, tiny: Path, data: Path, tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    common = ["--backbone", tiny, "--data", data, "--out", tmp_path / "out", "--device", "cuda"]
    message = "Device 'cuda' was asked for, but torch finds no CUDA device; use --device cpu or auto."
    assert refused(adapt("compare", *common)) == message
    assert refused(adapt("fit", *common)) == message


def test_a_teacher_that_is_none(adapt: Command, tiny: Path, data: Path, tmp_path: Path) -> None:
    common = ["--backbone", tiny, "--data", data, "--out", tmp_path / "out", "--device", "cpu"]
    message = f"{tmp_path / 'nobody'} does not hold a saved model (no adapt.json); give the folder that fit wrote."
    assert refused(adapt("distill", tmp_path / "nobody", *common)) == message
    assert refused(adapt("compare", "--teacher", tmp_path / "nobody", *common)) == message


@pytest.mark.parametrize("command", ["compare", "fit"])
def test_an_output_folder_that_cannot_be_written(
    adapt: Command, tiny: Path, data: Path, tmp_path: Path, command: str
) -> None:
    for out, reason in (
        (data, "it is a file"),
        (data / "below", "Not a directory"),
        ("/dev/null/x", "Not a directory"),
    ):
        error = refused(adapt(command, "--backbone", tiny, "--data", data, "--out", out))
        assert error == f"Output folder {out} cannot be written: {reason}; choose another."


def test_a_model_does_not_go_where_its_backbone_or_its_input_is(
    adapt: Command, tiny: Path, data: Path, tmp_path: Path
) -> None:
    """Said before anything is trained or predicted."""
    error = refused(adapt("fit", "--backbone", tiny, "--data", tmp_path / "nowhere.csv", "--out", tiny))
    assert error == f"{tiny} is the folder of the backbone, which must stay as it is; give another."
    other = Path(shutil.copytree(tiny, tmp_path / "other"))
    error = refused(adapt("fit", "--backbone", tiny, "--data", tmp_path / "nowhere.csv", "--out", other))
    assert (
        error == f"{other} holds a model of transformers, which the saved one would be taken for; give another folder."
    )
    error = refused(adapt("distill", tiny, "--backbone", tiny, "--data", tmp_path / "nowhere.csv", "--out", tiny))
    assert error == f"{tiny} is the folder of the teacher, which must stay as it is; give another."
    before = data.read_text()
    error = refused(adapt("predict", tmp_path / "no-model", "--input", data, "--output", data))
    assert error == f"Output {data} is the input, which would be lost; give another file."
    assert data.read_text() == before


BACKBONES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no config": (lambda folder: (folder / "config.json").unlink(), "has no config.json; give the folder of a"),
    "no weights": (
        lambda folder: (folder / "model.safetensors").unlink(),
        "has no weights (*.safetensors). Only safetensors weights are read.",
    ),
    "pickled weights": (
        lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"),
        "has no weights (*.safetensors). It has pytorch_model.bin, which may run code when read; convert it",
    ),
    "no tokenizer": (
        lambda folder: (folder / "tokenizer.json").unlink(),
        "has no tokenizer (tokenizer.json, vocab.txt,",
    ),
}


@pytest.mark.parametrize("lack", BACKBONES)
def test_a_backbone_folder_that_lacks_something(
    adapt: Command, tiny: Path, data: Path, tmp_path: Path, lack: str
) -> None:
    import shutil

    change, message = BACKBONES[lack]
    folder = tmp_path / "backbone"
    shutil.copytree(tiny, folder)
    change(folder)
    error = refused(adapt("fit", "--backbone", folder, "--data", data, "--out", tmp_path / "out", "--device", "cpu"))
    assert error.startswith(f"Backbone {folder} {message}")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("./nowhere", "Backbone folder ./nowhere does not exist."),
        ("/nowhere/at/all", "Backbone folder /nowhere/at/all does not exist."),
        (
            "no-such/backbone",
            "Backbone 'no-such/backbone' is neither a local folder nor could it be fetched from the hub",
        ),
    ],
)
def test_a_backbone_that_is_not_there(adapt: Command, data: Path, tmp_path: Path, name: str, message: str) -> None:
    error = refused(adapt("compare", "--backbone", name, "--data", data, "--out", tmp_path / "out", "--device", "cpu"))
    assert error.startswith(message)
    error = refused(adapt("fit", "--backbone", data, "--data", data, "--out", tmp_path / "out", "--device", "cpu"))
    assert error == f"Backbone {data} is a file; give the folder that holds config.json and weights."


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        ("", "the file is empty; give one with rows"),
        ("text,label\ngood,a\n,b\n", "words.csv, line 3: no text in column 'text'; fill it in or take the row out"),
        ("text,label\ngood,a\nbad,a\nfine,a\n", "every label is 'a'; a classifier needs rows of two classes at least"),
        ("sentence|label\ngood|a\n", "fields seem to be separated by '|'"),
        ("body,verdict\ngood,a\n", "no label column found among 'body', 'verdict'"),
        ("text,label\ngood\xff,a\n", "words.csv, line 2: byte 15 (0xff) is not UTF-8; save the file as UTF-8"),
    ],
)
def test_data_that_cannot_be_used(
    adapt: Command, tiny: Path, tmp_path: Path, content: str | None, message: str
) -> None:
    file = tmp_path / "words.csv"
    if content is not None:
        file.write_bytes(content.encode("latin-1"))
    for command in ("compare", "fit"):
        error = refused(
            adapt(command, "--backbone", tiny, "--data", file, "--out", tmp_path / "out", "--device", "cpu")
        )
        assert message in error
        assert str(file) in error


def test_options_of_data_need_data(adapt: Command, tmp_path: Path) -> None:
    assert refused(adapt("compare", "--text-pair", "b", "--out", tmp_path)) == (
        "--text-pair goes with --data, which is not given."
    )
    message = "--column goes with --data, which is not given."
    assert refused(adapt("compare", "--column", "tokens=words", "--out", tmp_path)) == message
    for option in ("--validation", "--test"):
        assert refused(adapt("compare", option, "0.3", "--out", tmp_path)) == (
            f"{option} goes with --data, which is not given."
        )
    assert refused(adapt("compare", "--split-seed", "0", "--out", tmp_path)).startswith("--split-seed goes with --data")
    message = "--repair-tags goes with --data, which is not given."
    assert refused(adapt("compare", "--repair-tags", "--out", tmp_path)) == message


def test_options_of_data_reach_the_reading(tmp_path: Path) -> None:
    file = tmp_path / "words.jsonl"
    file.write_text('{"w": ["a", "b"], "t": ["I-x", "O"]}\n' * 4)
    options = {
        "kind": "ner", "text": None, "text_pair": None, "label": None, "columns": {"tokens": "w", "tags": "t"},
        "problem": None, "repair_tags": True, "bad_answers": None, "name": None, "validation": 0.0, "test": 0.0,
        "split_seed": 0, "epochs": 2, "metric": None, "config": None, "revision": None, "splits": {},
        "max_validation": None, "max_test": None,
    }  # fmt: skip
    rows, choices = read_data(str(file), options)
    assert (rows.kind, rows.labels, list(rows.splits), rows.name) == (
        "token_classification", ("O", "B-x"), ["train"], "words",
    )  # fmt: skip
    assert rows.notes == ("4 I- tags that continued no span were made B-",)
    assert choices == {"epochs": 2}


def test_predict_takes_names_of_columns(adapt: Command, tiny: Path, data: Path, tmp_path: Path) -> None:
    common = ["--backbone", tiny, "--data", data, "--device", "cpu", "--precision", "fp32"]
    assert adapt("fit", *common, "--strategy", "head", "--max-steps", "1", "--out", tmp_path / "m")[0] == 0
    (tmp_path / "new.csv").write_text("text,body\n,good word\n,bad word\n")
    command = ["predict", tmp_path / "m", "--input", tmp_path / "new.csv", "--output", tmp_path / "out.csv"]
    written = []
    for option in (["--column", "text=body"], ["--text", "body"]):
        assert adapt(*command, "--device", "cpu", *option)[0] == 0
        written.append((tmp_path / "out.csv").read_text())
    assert written[0] == written[1]
    assert len(written[0].splitlines()) == 3
    assert "has no 'tokens'; name columns for text, text_pair" in refused(adapt(*command, "--column", "tokens=body"))


def test_fit_takes_settings_of_its_own_strategy_only(adapt: Command, tiny: Path, data: Path, tmp_path: Path) -> None:
    common = ["fit", "--backbone", tiny, "--data", data, "--out", tmp_path / "out"]
    assert refused(adapt(*common, "--strategy", "full", "--set", "lora.rank=4")) == (
        "Settings are given for lora, but the strategy is full."
    )
    assert "did you mean 'lora'?" in refused(adapt(*common, "--strategy", "lroa"))
    assert "There is no strategy ''" in refused(adapt(*common, "--strategy", ""))
    assert not (tmp_path / "out").exists()


def test_fit_goes_on_from_a_model(adapt: Command, tiny: Path, data: Path, tmp_path: Path) -> None:
    """Its backbone and strategy need not be said again, and its folder may be the one that is written."""
    quick = ["--data", data, "--device", "cpu", "--precision", "fp32", "--max-steps", "1", "--name", "a\ab"]
    lora = ["--backbone", tiny, "--strategy", "lora", "--set", "lora.rank=2", "--set", "lora.learning_rate=0.003"]
    folder = tmp_path / "m"
    assert adapt("fit", *quick, *lora, "--out", folder)[0] == 0
    before = load(folder, device="cpu")
    onward = ["fit", *quick, "--start", folder, "--out"]
    assert adapt(*onward, folder)[0] == 0
    after = load(folder, device="cpu")
    assert (after.run.strategy, after.run.backbone) == (before.run.strategy, before.run.backbone)
    assert (before.run.start, getattr(after.run.start, "name", None)) == (None, before.run.task.name)
    assert adapt(*onward, tmp_path / "n", "--strategy", "lora", "--learning-rate", "0.004")[0] == 0
    assert adapt(*onward, tmp_path / "o", "--set", "lora.learning_rate=0.005", "--set", "lora.dropout=0.1")[0] == 0
    strategies = [load(tmp_path / name, device="cpu").run.strategy for name in ("n", "o")]
    assert strategies == [LoRA(rank=2), LoRA(rank=2, learning_rate=0.005, dropout=0.1)]
    assert "was trained with lora.rank=2, on" in refused(adapt(*onward, tmp_path / "p", "--set", "lora.rank=4"))
    data.write_text(data.read_text().replace("good", "fine"))
    notes = adapt(*onward, tmp_path / "q")[2].splitlines()
    assert r"Note: lora starts from a\x07b in all but the head: that has other classes (bad, good)" in notes
    assert "from which head cannot go on" in refused(adapt(*onward, tmp_path / "p", "--strategy", "head"))
    assert "does not hold a saved model" in refused(adapt("fit", *quick, "--start", tmp_path, "--out", tmp_path / "p"))


def test_a_comparison_takes_several_models_to_start_from(
    adapt: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any, **choices: Any) -> None:
        raise OptionError(f"starts: {', '.join(choices['start'])}")

    monkeypatch.setattr("adapt.comparison.compare", stop)
    assert refused(adapt("compare", "--start", "one", "--start", "two", "--out", tmp_path)) == "starts: one, two"


def test_texts_of_the_task_may_have_line_breaks_as_a_shell_has_them(
    adapt: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: dict[str, Any] = {}

    def stop(*_: Any, **choices: Any) -> None:
        taken.update(choices)
        raise OptionError("read")

    monkeypatch.setattr("adapt.comparison.compare", stop)
    settings = [r"task.template=### Question:\n{prompt}", r"task.separator=\t\\n\q", "task.stop=\n", "task.beams=2"]
    options = [item for setting in settings for item in ("--set", setting)]
    assert refused(adapt("compare", "--kind", "instructions", *options, "--out", tmp_path)) == "read"
    assert {name: taken[name] for name in ("template", "separator", "stop", "beams")} == {
        "template": "### Question:\n{prompt}", "separator": "\t\\n\\q", "stop": "\n", "beams": "2",
    }  # fmt: skip


def test_a_command_is_shown_without_folders_of_this_machine(data: Path) -> None:
    long = "x" * 5000
    words = ["compare", f"--data={data}", "--out", data.name, "--out=a/b", "--set", f"task.stop={long}", "a b/c"]
    assert cli.shown_command("adapt", words) == f"adapt compare --data={data.name} --set task.stop={long} 'a b/c'"
    shown = cli.shown_command(f"python {data}", ["--general", str(data), "/", ""])
    assert shown == f"python {data} --general {data.name} / ''"
    assert cli.shown_command("adapt", []) == "adapt"
    no_utf8 = "caf\udce9.csv"
    assert cli.shown_command("adapt", ["--data", no_utf8]) == "adapt --data 'caf?.csv'"


def test_compare_runs_what_is_asked_and_shows_what_is_there(
    adapt: Command, tiny: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    behave(monkeypatch, lora_1="exit")
    out = tmp_path / "out"
    command = [
        "compare", "--backbone", tiny, "--data", data, "--strategies", "lora,qlora", "--seeds", "2", "--set",
        "lora.rank=4", "--set", "qlora.bits=4", "--epochs", "2", "--max-train", "10", "--device", "cpu",
        "--precision", "fp32", "--out", out, "--name", "a task",
    ]  # fmt: skip
    code, text, error = adapt(*command)
    assert code == 0
    assert text == (out / "table.md").read_text() + "\n"
    assert "| lora(rank=4) | 50.0, failed: the process ended with exit code 3" in text
    assert "| qlora(bits=4) |" in text
    assert "2 epochs" in text
    assert "at most 10 of the training rows" in text
    made_by = (
        f"adapt compare --backbone {tiny.name} --data {data.name} --strategies lora,qlora --seeds 2 --set lora.rank=4"
    )
    assert f"- Made by: {made_by} --set qlora.bits=4 --epochs 2 --max-train 10" in text
    assert "--precision fp32 --name 'a task'\n" in text
    assert "a task 10 rows lora seed 0: ok (" in error
    assert "a task 10 rows lora seed 1: failed: the process ended with exit code 3" in error
    assert re.search(r" \(4 of 4\)\n", error)
    assert error.endswith(f"Results: {out}\n")
    assert len(list(out.glob("runs/a-task-*.json"))) == 4

    damaged = next(out.glob("runs/a-task-qlora-seed0-*.json"))
    damaged.write_text(damaged.read_text()[:-100])
    monkeypatch.setenv("FAKE_WORKER", "{}")
    with pytest.warns(UserWarning, match=f"{damaged.name} is set aside as") as caught:
        code, text, error = adapt(*command)
    assert len(caught) == 1
    assert warnings.formatwarning(caught[0].message, UserWarning, "store.py", 1).startswith("adapt: Result file")
    assert code == 0
    assert "failed" not in text
    assert error.count("done before") == 2
    assert damaged.exists()
    assert damaged.with_name(damaged.name + ".damaged").exists()


@pytest.mark.parametrize(("how", "said"), [("raise", "KeyError"), ("unsupported", "not on this device")])
def test_a_comparison_in_which_no_run_ended_well_says_so_by_its_exit_code(
    adapt: Command, tiny: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, said: str
) -> None:
    behave(monkeypatch, every=how)
    code, text, _ = adapt(
        "compare", "--backbone", tiny, "--data", data, "--strategies", "full", "--seeds", "1", "--out", tmp_path / "o",
        "--device", "cpu", "--precision", "fp32",
    )  # fmt: skip
    assert code == 1
    assert said in text


def test_a_stop_is_one_line(adapt: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("adapt.cli.fitting.settings_from", stop)
    assert adapt("fit", "--backbone", "b", "--data", "d", "--out", "o") == (130, "", "\nadapt: stopped.\n")


def test_the_table_is_made_again_byte_for_byte(adapt: Command, tmp_path: Path) -> None:
    store = Store(tmp_path / "out")
    for strategy in ("full", "lora"):
        for seed in range(3):
            store.write(result_of(run_of(strategy, seed), 0.8 - 0.01 * seed))
    store.write_table()
    before = {name: (store.folder / name).read_bytes() for name in ("table.md", "table.csv")}
    for name in before:
        (store.folder / name).unlink()
    code, text, error = adapt("table", store.folder)
    assert (code, error) == (0, "")
    assert {name: (store.folder / name).read_bytes() for name in before} == before
    assert text == before["table.md"].decode() + "\n"


def test_a_table_that_cannot_be_written_is_printed(
    adapt: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "out")
    store.write(result_of(run_of("full")))
    _, expected, _ = adapt("table", shutil.copytree(store.folder, tmp_path / "copy"))
    broken = store.write(result_of(run_of("lora")))
    broken.write_text("{")
    opened = Path.open

    def refuse(path: Path, mode: str = "", *given: Any, **rest: Any) -> Any:
        if mode in ("r", "rb"):
            return opened(path, mode, *given, **rest)
        raise OSError(errno.EROFS, "Read-only file system")

    for name in ("open", "touch", "mkdir", "replace", "unlink"):
        monkeypatch.setattr(Path, name, refuse)
    with pytest.warns(UserWarning, match="is left out .* cannot be set aside: Read-only file system"):
        code, text, error = adapt("table", store.folder)
    monkeypatch.undo()
    assert (code, text) == (2, expected)
    assert error == f"adapt: {store.folder / 'table.md'} cannot be written: Read-only file system.\n"
    assert [path.name for path in store.folder.iterdir()] == ["runs"]
    assert broken.read_text() == "{"


def test_a_table_of_nothing_is_an_error(adapt: Command, tmp_path: Path) -> None:
    assert "has no folder 'runs'; give the folder" in refused(adapt("table", tmp_path))
    assert "has no folder 'runs'" in refused(adapt("table", tmp_path / "nowhere"))
    (tmp_path / "runs").mkdir()
    assert "holds no result" in refused(adapt("table", tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_version_and_help(adapt: Command) -> None:
    from importlib.metadata import version

    assert adapt("--version")[:2] == (0, f"adapt, version {version('adapt')}\n")
    for flag in ("--help", "-h"):
        code, text, _ = adapt(flag)
        assert code == 0
        for command in ("compare", "fit", "predict", "table"):
            assert command in text


def test_a_small_share_of_parameters_is_not_shown_as_none(capsys: pytest.CaptureFixture[str]) -> None:
    _report(result_of(run_of(), trainable=66, total=2_000_000))
    assert "trainable: 66 of 2,000,000 parameters (< 0.01 %)\n" in capsys.readouterr().out


def test_nothing_is_written_before_a_model_can_be_merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder would be taken for the backbone of the hub that has its name."""
    rows = (["good", "bad"] * 8, ["yes", "no"] * 8)
    model = fit("tiny-encoder", rows, "lora", max_steps=1, device="cpu", pooling="native")
    saved = model.save(tmp_path / "saved")
    content = json.loads((saved / "adapt.json").read_text())
    (saved / "adapt.json").write_text(json.dumps({**content, "reference": "some/encoder"}))
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli.cli, ["merge", "saved", "--out", "some/encoder/merged"])
    assert "would be taken for the some/encoder of the hub" in str(done.exception)
    assert not (tmp_path / "some").exists()
    head = fit("tiny-encoder", rows, "bottleneck", max_steps=1, device="cpu").save(tmp_path / "bottleneck")
    done = CliRunner().invoke(cli.cli, ["merge", str(head), "--out", "new"])
    assert "'bottleneck' cannot be merged" in str(done.exception)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("line", "callee", "expected"),
    [
        ("predict saved --input i.csv --output o.csv --backbone b --device cpu", "adapt.adapted.load_model",
         {"backbone": "b", "device": "cpu"}),
        ("merge saved --out merged --backbone b", "adapt.adapted.load_model", {"backbone": "b", "device": "cpu"}),
        ("score saved --data i.csv --metric mcc --split dev --backbone b", "adapt.scoring.score",
         {"metric": "mcc", "split": "dev", "backbone": "b"}),
        ("compare --data i.csv --trials 3 --general i.csv --seeds 2 --jobs 3", "adapt.comparison.compare",
         {"trials": 3, "seeds": 2, "jobs": 3}),
        ("probe tiny-encoder --data i.csv --max-held-out 5 --max-length 7 --precision bf16 --max-train 9",
         "adapt.extraction.probe", {"max_held_out": 5, "max_length": 7, "precision": "bf16", "max_train": 9}),
        ("represent tiny-encoder --input i.csv --output o.safetensors --precision bf16 --max-length 9 --backbone b",
         "adapt.extraction.representations", {"precision": "bf16", "max_length": 9, "backbone": "b"}),
    ],
)  # fmt: skip
def test_options_reach_what_they_are_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, callee: str, expected: dict[str, Any]
) -> None:
    class Reached(Exception):
        pass

    found: dict[str, Any] = {}

    def reached(*_: Any, **options: Any) -> None:
        found.update(options)
        raise Reached

    monkeypatch.chdir(tmp_path)
    (tmp_path / "i.csv").write_text("text,label\n" + "".join(f"row {i},{'ab'[i % 2]}\n" for i in range(40)))
    monkeypatch.setattr(callee, reached)
    monkeypatch.setattr("adapt.adapted.read_model", lambda _: ({"reference": "tiny-encoder"}, None))
    monkeypatch.setattr("adapt.adapted.merging", lambda _: None)
    done = CliRunner().invoke(cli.cli, line.split())
    assert isinstance(done.exception, Reached), (done.output, done.exception)
    assert {name: found.get(name) for name in expected} == expected
