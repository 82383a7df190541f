"""The order of the layers, read from the imports; and what may not be imported early."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import adapt
from adapt.strategies import STRATEGIES

ROOT = Path(adapt.__file__).parent
LAYERS = (
    "display", "spec", "result", "fields", "params", "stats", "files", "machine", "environment", "metrics", "backbones",
    "data", "tasks", "strategies", "training", "options", "memory", "inputs", "run", "tables", "adapted",
    "distillation", "comparison", "scoring", "pretrain", "extraction", "cli", "__init__",
    "__main__",
)  # fmt: skip
"""A file imports only from layers to the left of its own, and from its own package."""
LEAVES = {"pretrain", "extraction"}
STRANGERS = {
    ("strategies", "tasks"), ("training", "strategies"), ("scoring", "distillation"), ("pretrain", "comparison"),
    ("pretrain", "distillation"), ("extraction", "distillation"), ("extraction", "pretrain"),
}  # fmt: skip
"""Layers that do not know each other, though their order would let them."""
FILES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))


def layer_of(file: str) -> str:
    return file.split("/")[0].removesuffix(".py")


def imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and layer of every import from this package, also those inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                package, _, rest = alias.name.partition(".")
                if package == "adapt":
                    yield node.lineno, rest.split(".")[0] or "__init__"
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports name their module in full"
            package, _, rest = (node.module or "").partition(".")
            if package == "adapt":
                yield from ((node.lineno, layer) for layer in ([rest.split(".")[0]] if rest else _names(node)))


def _names(node: ast.ImportFrom) -> list[str]:
    return [alias.name for alias in node.names]


def test_the_imports_are_seen() -> None:
    tree = ast.parse("from adapt import a, b\nimport adapt.c.d\ndef f():\n  from adapt.e.g import h\nimport adapt")
    assert sorted(imported(tree)) == [(1, "a"), (1, "b"), (2, "c"), (4, "e"), (5, "__init__")]


def test_every_file_has_a_layer() -> None:
    assert {layer_of(file) for file in FILES} == set(LAYERS)


@pytest.mark.parametrize("file", FILES)
def test_a_file_imports_only_from_layers_before_its_own(file: str) -> None:
    own = layer_of(file)
    for line, layer in imported(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
        where = f"adapt/{file}:{line} imports {layer}"
        assert layer in LAYERS, where
        assert layer == own or LAYERS.index(layer) < LAYERS.index(own), where
        assert (own, layer) not in STRANGERS, where
        assert layer not in LEAVES or own in {*LEAVES, "cli", "__init__"}, where


@pytest.mark.parametrize("file", [file for file in FILES if layer_of(file) == "strategies"])
def test_one_strategy_is_one_file(file: str) -> None:
    """Strategies share helpers and a base; only the table knows them all."""
    source = (ROOT / file).read_text(encoding="utf-8")
    known = {name for name in STRATEGIES if f"adapt.strategies.{STRATEGIES[name].__module__.split('.')[-1]} " in source}
    assert len(known) <= (len(STRATEGIES) if file.endswith("__init__.py") else 1)


def strings(tree: ast.AST) -> Iterator[ast.Constant]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))


@pytest.mark.parametrize("file", [file for file in FILES if layer_of(file) == "comparison"])
def test_the_comparison_names_no_strategy(file: str) -> None:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    classes = {cls.__name__ for cls in STRATEGIES.values()}
    for node in strings(tree):
        assert node.value not in STRATEGIES, f"adapt/{file}:{node.lineno}"
    for node in ast.walk(tree):
        name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else None
        assert name not in classes, f"adapt/{file} names {name}"


@pytest.mark.parametrize("file", [file for file in FILES if layer_of(file) != "strategies"])
def test_nothing_asks_which_strategy_it_is(file: str) -> None:
    for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
        if isinstance(node, (ast.Compare, ast.MatchValue)):
            for text in strings(node):
                assert text.value not in STRATEGIES, f"adapt/{file}:{text.lineno} compares with {text.value!r}"
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "isinstance":
            names = {child.id for child in ast.walk(node) if isinstance(child, ast.Name)}
            assert not names & {cls.__name__ for cls in STRATEGIES.values()}, f"adapt/{file}:{node.lineno}"


HEAVY = ("torch", "transformers", "peft", "bitsandbytes", "datasets", "pandas", "scipy", "sklearn", "accelerate")


@pytest.mark.parametrize(
    "statement",
    [
        "import adapt",
        "import adapt; adapt.LoRA(); adapt.Prefix(); adapt.Budget()",
        "import adapt.cli",
        "import sys; sys.argv = ['adapt', '--help']; from adapt.cli import main\ntry: main()\nexcept SystemExit: pass",
        "import adapt.options, adapt.spec, adapt.strategies, adapt.comparison.store, adapt.tables.table",
    ],
)
def test_nothing_heavy_is_imported_early(statement: str) -> None:
    script = f"{statement}\nimport sys\nprint('heavy:', *[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].split() == ["heavy:"]


def test_every_public_name_is_there() -> None:
    assert set(adapt.__all__) <= set(dir(adapt))
    for name in adapt.__all__:
        assert getattr(adapt, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = adapt.nonsense
