"""Strategies by their names and fields, and those that add nothing: full, head and untrained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from strategy_helpers import Build

from adapt.adapted import assemble
from adapt.spec import OptionError
from adapt.strategies import STRATEGIES, Full, Head, LoRA, QLoRA, make


def test_full_trains_everything_and_head_the_head_alone(build: Build) -> None:
    assert all(p.requires_grad for p in build(Full()).parameters())
    trainable = {n for n, p in build(Head()).named_parameters() if p.requires_grad}
    assert trainable == {"classifier.weight", "classifier.bias"}


def test_a_strategy_is_made_from_its_name_and_fields() -> None:
    assert make("lora", {"rank": "16", "rslora": "true", "targets": "query,value"}) == LoRA(
        rank=16, rslora=True, targets=("query", "value")
    )
    assert make("lora", {"targets": "attention", "alpha": 8}) == LoRA(targets="attention", alpha=8.0)
    assert make("qlora", {"bits": 4}) == QLoRA(bits=4)
    assert all(make(name).name == name for name in STRATEGIES)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("loar", {}, r"no strategy 'loar' \(did you mean 'lora'\?\)"),
        ("lora", {"rnk": 4}, r"no field 'rnk' \(did you mean 'rank'\?\)"),
        ("lora", {"rank": "four"}, r"lora\.rank is 'four'"),
        ("lora", {"rank": 2.5}, r"lora\.rank is 2\.5"),
        ("lora", {"dora": "perhaps"}, r"lora\.dora is 'perhaps'"),
        ("bottleneck", {"placement": "parallel"}, r"bottleneck\.placement is 'parallel'"),
        ("qlora", {"bits": "3"}, r"qlora\.bits is '3'"),
    ],
)
def test_bad_names_and_values_are_named(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        make(name, settings)


def test_bits_are_read_from_text() -> None:
    assert make("qlora", {"bits": "4"}) == QLoRA(bits=4)


def test_each_field_is_documented_and_each_strategy_names_its_source() -> None:
    import ast
    import inspect

    for cls in STRATEGIES.values():
        assert cls.__doc__
        tree = ast.parse(inspect.getsource(cls)).body[0]
        assert isinstance(tree, ast.ClassDef)
        for field, following in zip(tree.body, tree.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and "ClassVar" not in ast.unparse(field.annotation):
                documented = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
                assert documented, f"{cls.__name__}.{ast.unparse(field.target)}"


def test_untrained_scores_the_model_as_it_is(backbone: Callable[..., Path], task_data: Callable[[str], Any]) -> None:
    from adapt.inputs import Inputs
    from adapt.run import fit
    from adapt.strategies import FLOORS, Untrained

    spec, rows, source = assemble(backbone("bert"), task_data("single_label"), "untrained", device="cpu")
    result, fitted = fit(spec, Inputs(rows, source))
    assert (result.status, result.trainable, result.learning_rate, result.train_seconds) == ("ok", 0, None, None)
    assert result.scores.keys() == {"test"}
    assert not [name for name, p in fitted.model.named_parameters() if p.requires_grad]
    assert spec.strategy == Untrained()
    assert not FLOORS.keys() & STRATEGIES.keys()
