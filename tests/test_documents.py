"""The README and the recipes do what they say."""

from __future__ import annotations

import csv
import inspect
import json
import operator
import os
import re
import runpy
import shlex
import subprocess
import sys
import textwrap
import tomllib
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from comparison_helpers import contents, in_this_process, result_of, run_of
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import adapt
from adapt import pretrain
from adapt.backbones.source import SHIPPED
from adapt.cli import cli
from adapt.comparison import grid
from adapt.data import Data
from adapt.extraction import Probing
from adapt.memory import shapes
from adapt.strategies import SHIPPED_SETTINGS, STRATEGIES, make, remade
from adapt.tasks import KINDS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SHORT = sorted(path for path in (ROOT / "recipes").glob("*.py") if not path.stem.startswith(("_", "pretrain_")))
RECIPES = [path for path in SHORT if path.stem != "probing"]
"""Those that compare strategies."""
COMPARING = [path for path in SHORT if "\n    recipe(" in path.read_text(encoding="utf-8")]
"""Those that do nothing else."""


def test_nothing_lies_about_beside_the_package_and_its_customary_files() -> None:
    if (ROOT / ".git").exists():
        listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        there = {line.split("/")[0] for line in listed.splitlines()}
    else:  # a copy of what git lists, in which tests run
        ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").split()
        patterns = [".*", *(line.strip("/") for line in ignored)]
        there = {path.name for path in ROOT.iterdir() if not any(map(path.match, patterns))}
    folders = {".ci", "adapt", "benchmarks", "recipes", "results", "tests"}
    files = {".gitignore", "CHANGELOG.md", "CONTRIBUTING.md", "README.md", "constraints.txt", "pyproject.toml"}
    assert there <= folders | files


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    """A folder with the files that the README's examples name."""
    words = {"good": ["lovely", "fine", "bright", "warm"], "bad": ["awful", "dull", "broken", "cold"]}
    rows = [(f"a {word} film about {i} {thing}", label) for label, found in words.items() for word in found
            for i, thing in enumerate(("ships", "towns", "songs"))]  # fmt: skip
    for name, header, lines in (
        ("reviews", ["text", "label"], rows),
        ("labelled", ["text", "label"], rows[:6] + rows[-6:]),
        ("new", ["text"], [row[:1] for row in rows]),
    ):
        with (tmp_path / f"{name}.csv").open("w", newline="", encoding="utf-8") as handle:
            csv.writer(handle).writerows([header, *lines])
    (tmp_path / "texts.txt").write_text("".join(f"{text}\n" for text, _ in rows), encoding="utf-8")
    return tmp_path


def blocks(language: str, text: str) -> list[str]:
    """A text's fenced blocks of a language."""
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def command(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_shell_examples(reviews: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One as a shell runs it, the others without importing everything anew; plans are of one layer."""
    lines = [line for block in blocks("sh", README) for line in block.splitlines() if line.startswith("adapt ")]
    (of_the_shell,) = [line for line in lines if line.startswith("adapt predict ")]
    assert len(lines) >= 3
    monkeypatch.chdir(reviews)
    monkeypatch.setattr(grid, "execute", in_this_process)
    monkeypatch.setattr(shapes, "SHAPES", {n: {**s, "num_hidden_layers": 1} for n, s in shapes.SHAPES.items()})
    for line in lines:
        if line == of_the_shell:
            done = command(shlex.split(line), reviews)
            assert done.returncode == 0, f"{line}\n{done.stderr}"
        else:
            assert CliRunner().invoke(cli, shlex.split(line)[1:], catch_exceptions=False).exit_code == 0, line
    predictions = (reviews / "predictions.jsonl").read_text().splitlines()
    assert len(predictions) == len((reviews / "new.csv").read_text().splitlines()) - 1
    assert set(json.loads(predictions[0])["probabilities"]) == {"good", "bad"}
    assert (reviews / "compared" / "table.csv").exists()
    done = [json.loads(path.read_text()) for path in reviews.rglob("runs/*.json")]
    assert {result["status"] for result in done} == {"ok"}
    assert sum(result["environment"].get("trials") == 3 for result in done) == 6
    assert (reviews / "attention.html").read_text(encoding="utf-8").count("<section>") == 3
    assert "tiny-encoder, lora on reviews" in (reviews / "probed" / "probe.md").read_text()
    assert adapt.Representations.load(reviews / "new.safetensors").layers == (1, 4)


def test_python_examples(reviews: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The README's, then that of `help(adapt.extraction)`, which reads what it wrote."""
    (first,) = blocks("python", README)
    monkeypatch.chdir(reviews)
    monkeypatch.setattr(grid, "execute", in_this_process)
    outputs = []
    for block in (first, *blocks("python", inspect.getdoc(adapt.extraction) or "")):
        exec(compile(textwrap.dedent(block), "extraction", "exec", dont_inherit=True), {"__name__": "__main__"})
        outputs.append(capsys.readouterr().out)
    assert {"good", "bad"} & set(outputs[0].splitlines())
    assert "\n| lora on tiny-encoder | " in outputs[0]
    assert "| full |" in outputs[0]
    assert "| tiny-encoder, lora on reviews | 4 |" in outputs[1]
    *_, diagonal, shape = outputs[1].splitlines()
    alike = [float(value) for value in diagonal.strip("[]").split()]
    assert alike[0] == pytest.approx(1)
    assert 0 < alike[-1] < 1
    assert re.fullmatch(r"\(4, \d+, (\d+), \1\)", shape)


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_lead_to_what_is_there(name: str) -> None:
    """To a file, or to a heading as GitHub names it; and paths in the text are those of files."""
    text = re.sub(r"```.*?```", "", (ROOT / name).read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = {re.sub(r"[^\w -]", "", line).replace(" ", "-").lower() for line in re.findall(r"^#+ (.*)$", text, re.M)}
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        place, _, heading = link.partition("#")
        assert (ROOT / place).exists(), link
        assert not heading or heading in headings, link
    for path in re.findall(r"`((?:adapt|benchmarks|recipes|results|tests)/[\w/.]+)`", text):
        assert (ROOT / path).exists(), path


def test_the_readme_names_options_and_fields_that_there_are() -> None:
    own = {
        option for command in cli.commands.values() for p in command.params for option in (*p.opts, *p.secondary_opts)
    }
    of_others = {"--dist", "--extra-index-url", "--help"}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", README)) - of_others <= own
    fields = re.findall(r"\b(?!name)(\w+)\.(\w+)=", README)
    assert len(fields) > 5
    owners: dict[str, list[Any]] = {name: [strategy] for name, strategy in STRATEGIES.items()}
    owners["task"] = [kind.Options for kind in KINDS.values()]
    for name, field in fields:
        assert any(field in owner.__dataclass_fields__ for owner in owners[name]), f"{name}.{field}"


def test_the_readme_points_at_help_that_there_is() -> None:
    named = re.findall(r"help\(adapt\.([\w.]+)\)", README)
    assert len(named) > 5
    for name in named:
        assert inspect.getdoc(operator.attrgetter(name)(adapt)), name


def test_the_readme_names_every_recipe() -> None:
    part = README.partition("\n## Recipes\n")[2].partition("\n## ")[0]
    named = {name for line in part.splitlines() if line.startswith("|") for name in re.findall(r"`(\w+)`", line)}
    assert named == {path.stem for path in (ROOT / "recipes").glob("*.py") if not path.stem.startswith("_")}


def test_tables_are_those_of_the_committed_results(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(ROOT / "results")
    monkeypatch.setattr(sys, "argv", ["update.py", "--check"])
    try:
        runpy.run_path(str(ROOT / "results" / "update.py"), run_name="__main__")
    except SystemExit as ended:
        assert not ended.code, capsys.readouterr().err  # noqa: PT017


def test_a_star_marks_what_has_other_settings_than_by_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from adapt.comparison import table_of
    from adapt.spec import Source

    monkeypatch.syspath_prepend(ROOT / "results")
    overview = runpy.run_path(str(ROOT / "results" / "update.py"))["overview"]

    def cells(settings: dict[str, float], budget: dict[str, float]) -> list[str]:
        runs = [run_of("lora", settings=settings, budget=budget), run_of("head", budget=budget)]
        named = [replace(run, backbone=Source("some", "b" * 64)) for run in runs]
        row = overview(table_of(contents(result_of(run) for run in named))).splitlines()[2]
        return [cell.strip() for cell in row.split("|")[3:5]]

    assert cells({}, {}) == ["75.0", "75.0"]
    assert cells({"learning_rate": 0.5}, {}) == ["75.0", "75.0 *"]
    assert cells({"rank": "4"}, {}) == ["75.0", "75.0 *"]
    assert cells({}, {"learning_rate": 0.5}) == ["75.0 *", "75.0 *"]


def test_committed_tables_are_made_from_the_committed_runs() -> None:
    from adapt.comparison import table_of
    from adapt.comparison.store import read_result

    folders = [path.parent for path in (ROOT / "results").rglob("runs") if path.is_dir()]
    assert folders
    for folder in folders:
        results = [content for path in sorted((folder / "runs").glob("*.json")) if (content := read_result(path))]
        table = table_of(results, tuned=folder.name == "tuned")
        assert (folder / "table.csv").read_text(encoding="utf-8") == table.csv(), folder
        assert (folder / "curve.csv").exists() == bool(table.curve_csv()), folder
        assert (folder / "table.md").read_text(encoding="utf-8") == table.markdown(), folder


def recipe_row(name: str, split: str, i: int) -> dict[str, object]:
    """A row of the recipe's form; answers to maths are of all the lengths that GSM8K has."""
    text = f"the {'good' if i % 2 else 'bad'} one of {split} {i}"
    if name in {"paraphrase", "similarity"}:
        return {
            "text": text,
            "text_pair": f"one more of {i}",
            "label": 5.0 * (i % 7) / 7 + 0.1 if name[0] == "s" else i % 2,
        }
    if name in {"named_entities", "low_resource_entities", "further_pretraining"}:
        return {"tokens": text.split(), "tags": ["O", "B-thing", "I-thing", "O", "O", "O"]}
    if name == "part_of_speech":
        return {"tokens": text.split(), "tags": ["DET", "ADJ", "NOUN", "ADP", "NOUN", "NUM"]}
    if name == "question_answering":
        answers = {"text": [split], "answer_start": [text.index(split)]}
        return {"id": f"{split} {i}", "question": "which one ?", "context": text, "answers": answers}
    if name in {"data_to_text", "translation"}:
        return {"source": text, "target": f"{i} {split}"}
    if name == "stories":
        return {"text": text}
    if name == "maths":
        steps = f"He buys {i} more, so he has 12 + {i} = <<12+{i}={12 + i}>>{12 + i} of them now.\n"
        return {"question": text, "answer": f"{steps * (1 + 3 * (i % 4))}#### {i}"}
    return {"text": text, "label": i % 2}


def recipe_data(name: str, folder: Path) -> None:
    """A small data set of the recipe's form, as three JSON-lines files."""
    for split, n in (("train", 24), ("validation", 8), ("test", 8)):
        rows = [json.dumps(recipe_row(name, split, i)) for i in range(n)]
        (folder / f"{split}.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (folder / "general.txt").write_text("made up for a test\n", encoding="utf-8")


TINY = {"data_to_text": "tiny-encoder-decoder", "translation": "tiny-encoder-decoder", "maths": "tiny-decoder",
        "stories": "tiny-decoder"}  # fmt: skip
"""Recipe to the shipped backbone it is tried with; the others take the encoder."""
MORE = {
    "distillation": ["--teacher", "tiny-encoder", "--labelled", "12"],
    "stories": ["--general", "general.txt"],
    "forgetting": ["--general", "general.txt"],
}
"""Recipe to options of its own."""
RUNS = {"distillation": 5, "further_pretraining": 3}
"""Recipe to the runs that one strategy and seed makes, where these are more than one: the teacher's, and a student's
alone, taught, taught with further rows, and alone for as long; the further pretraining, and what is trained without it
and with it."""


def test_bad_input_of_a_recipe_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "recipes/sentiment.py"), "--data", str(tmp_path / "none.csv")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("adapt: ")
    assert len(done.stderr.splitlines()) == 1
    assert "none.csv" in done.stderr


def test_an_option_of_a_recipe_is_not_taken_for_another(tmp_path: Path) -> None:
    """`--seed 42` for 42 seeds."""
    command = [sys.executable, str(ROOT / "recipes/sentiment.py"), "--data", str(tmp_path), "--seed", "42"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert "unrecognized arguments: --seed 42" in done.stderr


@pytest.mark.parametrize("large", [False, True])
def test_rates_of_tiny_decoders_are_for_these(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: bool) -> None:
    asked: list[dict[str, Any]] = []

    def compare(*_: Any, settings: dict[str, Any], **__: Any) -> None:
        asked.append(settings)
        raise LookupError

    recipe_data("stories", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(ROOT / "recipes")
    monkeypatch.setattr(sys, "argv", ["stories.py", "--data", ".", "--set", "lora.rank=4"])
    monkeypatch.setattr("adapt.compare", compare)
    if large:
        monkeypatch.setattr("adapt.backbones.source.Backbone.weight_bytes", 10**9)
    with pytest.raises(LookupError):
        runpy.run_path(str(ROOT / "recipes" / "stories.py"), run_name="__main__")
    assert asked[0]["lora"] == {**({} if large else {"learning_rate": 5e-3}), "rank": "4"}
    assert ("full" in asked[0]) == (not large)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_recipe(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe_data(recipe.stem, tmp_path)
    options = [
        "--data", ".", "--backbone", TINY.get(recipe.stem, "tiny-encoder"), "--strategies", "head", "--seeds", "1",
        "--max-steps", "2", "--out", "out", *MORE.get(recipe.stem, []),
    ]  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(recipe.parent)
    monkeypatch.setattr(sys, "argv", [str(recipe), *options])
    monkeypatch.setattr(grid, "execute", in_this_process)
    runpy.run_path(str(recipe), run_name="__main__")
    printed = capsys.readouterr().out
    assert f"\n- Made by: python recipes/{recipe.name} --data . {' '.join(options[2:8])}" in printed
    assert "\n| head" in printed
    results = [json.loads(path.read_text()) for path in (tmp_path / "out" / "runs").glob("*.json")]
    assert len(results) == RUNS.get(recipe.stem, 1)
    assert {result["status"] for result in results} == {"ok"}
    if recipe in COMPARING:
        assert {result["task"] for result in results} == {tmp_path.name}, "own data have their own name"
    assert {result["spec"]["budget"]["max_steps"] for result in results} == {2}
    measured = [bool(result["forgetting"]) for result in results]
    assert all(measured) if "--general" in options else not any(measured)


def asked_for(monkeypatch: pytest.MonkeyPatch, recipe: str, *words: str) -> dict[str, Any]:
    """The options with which a recipe loads its data."""
    asked: list[dict[str, Any]] = []

    def load(source: str, **options: Any) -> None:
        asked.append(options)
        raise LookupError

    monkeypatch.syspath_prepend(ROOT / "recipes")
    monkeypatch.setattr(sys, "argv", [recipe, *words])
    monkeypatch.setattr("adapt.data.load", load)
    with pytest.raises(LookupError):
        runpy.run_path(str(ROOT / "recipes" / f"{recipe}.py"), run_name="__main__")
    return asked[0]


@pytest.mark.parametrize(
    ("recipe", "name", "share"), [("stories", "stories", 0.0005), ("question_answering", "squad_v11_subset", 0.01)]
)
def test_a_large_set_of_the_hub_gives_a_small_test_split(
    recipe: str, name: str, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = asked_for(monkeypatch, recipe)
    assert (asked["test"], asked["name"]) == (share, name)


@pytest.mark.parametrize(("folder", "name"), [("sst2", "few_labels"), ("mine", None)])
def test_a_recipe_without_validation_cuts_none_out(
    folder: str, name: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = asked_for(monkeypatch, "few_labels", "--data", str(tmp_path / folder))
    assert (asked["validation"], asked["name"]) == (0, name)


@pytest.mark.parametrize("recipe", COMPARING, ids=lambda path: path.stem)
def test_the_results_of_a_recipe_are_of_the_strategies_that_it_has_today(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []

    def load(source: str, *, name: str, **options: Any) -> Any:
        given.append(name)
        return Data(name, "sequence_classification", "single_label", {}, (), "0" * 64)

    def compare(*args: Any, settings: Any = None, **options: Any) -> None:
        given.append(settings or {})
        raise LookupError

    monkeypatch.syspath_prepend(ROOT / "recipes")
    monkeypatch.setattr(sys, "argv", [recipe.name])
    monkeypatch.setattr("adapt.data.load", load)
    monkeypatch.setattr("adapt.compare", compare)
    with pytest.raises(LookupError):
        runpy.run_path(str(recipe), run_name="__main__")
    task, settings = given
    for place in ("results", f"results/{recipe.stem}"):
        for path in (ROOT / place / "runs").glob(f"{task}-*.json"):
            spec = json.loads(path.read_text(encoding="utf-8"))["spec"]
            name, kind = spec["strategy"]["name"], spec["task"]["kind"]
            shipped = SHIPPED_SETTINGS[kind].get(name, {}) if spec["backbone"]["name"] in SHIPPED else {}
            assert remade(spec["strategy"]) == make(name, {**shipped, **settings.get(name, {})}), path.name


CHOSEN_BY_TORCH = ("nvidia-", "cuda-", "triton")
"""How the names begin of what torch's build for GPUs needs, in versions whose bounds torch sets itself."""


def test_whatever_the_readmes_commands_install_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [Requirement(text) for text in project["dependencies"]]
    asked += [Requirement(text) for extra in ("dev", "minilm") for text in project["optional-dependencies"][extra]]
    found: set[tuple[str, frozenset[str]]] = set()
    while asked:
        wanted = asked.pop()
        key = (canonicalize_name(wanted.name), frozenset(wanted.extras))
        if key in found or key[0].startswith(CHOSEN_BY_TORCH):
            continue
        found.add(key)
        for requirement in map(Requirement, metadata.requires(wanted.name) or []):
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in {"", *wanted.extras}):
                asked.append(requirement)
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {canonicalize_name(line.split("==")[0]) for line in lines if "==" in line}
    assert {name for name, _ in found} - pinned == set()


@pytest.mark.parametrize("name", ["encoder", "decoder", "encoder_decoder"])
def test_a_pretraining_recipe_leaves_its_checkpoints_beside_its_model(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    (tmp_path / "corpus").mkdir()
    document = "\n".join(f"the {word} one of {i}" for i in range(100) for word in ("good", "bad"))
    (tmp_path / "corpus" / "text.txt").write_text(f"{document}\n\n{document}\n", encoding="utf-8")
    files: list[str] = []

    def recorded(model: Any, objective: Any, rows: Any, held_out: Any, settings: Any, file: str, report: Any) -> Any:
        files.append(file)
        return [{}]

    monkeypatch.setattr(pretrain, "pretrain", recorded)
    for left_out in ("warm_start", "export", "evaluate"):
        monkeypatch.setattr(pretrain, left_out, lambda *_, **__: None)
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    monkeypatch.syspath_prepend(ROOT / "recipes")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["recipe", "--corpus", "corpus", "--out", "made/model/"])
    runpy.run_path(str(ROOT / "recipes" / f"pretrain_tiny_{name}.py"), run_name="__main__")
    assert len(files) >= 2
    assert all(re.fullmatch(r"made/model-\d+\.safetensors", file) for file in files)


def test_the_recipe_of_probes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, form in (("sst2", "sentiment"), ("ud_ewt_pos", "part_of_speech")):
        (tmp_path / name).mkdir()
        recipe_data(form, tmp_path / name)
    options = ["--data", ".", "--models", "tiny-encoder", "--seeds", "1", "--max-steps", "2", "--out", "out"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["probing.py", *options])
    runpy.run_path(str(ROOT / "recipes" / "probing.py"), run_name="__main__")
    table = (tmp_path / "out" / "table.md").read_text()
    assert table in capsys.readouterr().out
    for name in ("sst2", "ud_ewt_pos"):
        found = Probing.from_json(json.loads((tmp_path / "out" / f"{name}.json").read_text()))
        assert found.table() in table
        assert [model.name for model in found.models] == ["tiny-encoder", f"tiny-encoder, lora on {name}"]


@pytest.mark.parametrize("name", ["encoder", "decoder", "encoder_decoder"])
def test_a_corpus_that_cannot_be_used_is_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--corpus", str(tmp_path / "none"), "--out", str(tmp_path / "out")]
    monkeypatch.setattr("torch.set_num_threads", lambda count: None)
    monkeypatch.setattr("adapt.cli.ending.heed_signals", lambda: None)
    monkeypatch.syspath_prepend(ROOT / "recipes")
    monkeypatch.setattr(sys, "argv", ["recipe", *options])
    with pytest.raises(SystemExit, match="2"):
        runpy.run_path(str(ROOT / "recipes" / f"pretrain_tiny_{name}.py"), run_name="__main__")
    error = capsys.readouterr().err
    assert error == f"adapt: corpus folder {tmp_path / 'none'} does not exist: give a folder of .txt or .txt.gz files\n"


@pytest.mark.parametrize("recipe", SHORT, ids=lambda path: path.stem)
def test_recipes_are_short_and_open_alike(recipe: Path) -> None:
    text = recipe.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 60
    opening = text.split('"""')[1]
    assert f"python recipes/{recipe.name} --data" in opening
    for word in ("Hardware:", "Run time:", "Expected test score:"):
        assert word in opening
    assert "@" not in opening
