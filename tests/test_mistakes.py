"""What people mistake in Python is one error that names it and says what to do."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pandas
import pytest
import tiny
from fit_helpers import fitted

import adapt
from adapt.adapted import Adapted
from adapt.comparison import Comparison, table_of
from adapt.spec import AdaptError

DATA = tiny.TASKS["single_label"]


def refused(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(AdaptError) as caught:
        call()
    assert re.search(message, str(caught.value)), str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "choices", "message"),
    [
        ((DATA, "tiny-encoder"), {}, r"^The backbone is of type Data; give its name, or the folder"),
        ((object(), DATA), {}, r"^The backbone is of type object; give its name"),
        (("tiny-encoder", DATA, adapt.LoRA), {}, r"^LoRA is a class; give one of it: LoRA\(\)\.$"),
        (("tiny-encoder", DATA, "lroa"), {}, r"^There is no strategy 'lroa' \(did you mean 'lora'\?\)"),
        (("tiny-encoder", DATA), {"epochs": "3"}, r"^epochs is '3'; give a whole number of at least 1\.$"),
        (("tiny-encoder", DATA), {"learning_rate": "1e-4"}, r"^learning_rate is '1e-4'; give a finite number"),
        (("tiny-encoder", DATA), {"dropout": "0.1"}, r"^dropout is '0\.1'; give a number from 0 to below 1\.$"),
        (("tiny-encoder", DATA), {"rank": 4}, r"^'rank' is a field of lora; give it to LoRA\(rank=\.\.\.\)\.$"),
        (
            ("tiny-encoder", DATA),
            {"epoch": 4},
            r"^There is no option 'epoch' .* \(did you mean 'epochs'\?\); there are",
        ),
        (("tiny-encoder", DATA), {"max_step": 4}, r"^There is no option 'max_step' .* \(did you mean 'max_steps'\?\)"),
        (("tiny-encoder", DATA), {"seeds": 3}, r"^There is no argument 'seeds' \(did you mean 'seed'\?\)\.$"),
        (("tiny-encoder", DATA), {"targets": "x"}, r"^'targets' is a field of lora"),
        (
            ("tiny-encoder", DATA),
            {"split_seed": 3},
            r"^'split_seed' is an option of adapt\.data\.load, where it is called 'seed'; give what that",
        ),
        (("tiny-encoder", DATA), {"warmup": None}, r"^warmup is None; give a number from 0 to below 1\.$"),
    ],
)
def test_what_cannot_be_fitted(arguments: tuple[Any, ...], choices: dict[str, Any], message: str) -> None:
    refused(lambda: adapt.fit(*(each() if each is DATA else each for each in arguments), **choices), message)


@pytest.mark.parametrize(
    ("function", "name", "message"),
    [
        ("load", "split_seed", r"^adapt\.data\.load has no argument 'split_seed'; it is called 'seed' here\.$"),
        ("load", "column", r"^adapt\.data\.load has no argument 'column'; it is called 'columns' here\.$"),
        ("load", "lable", r"^adapt\.data\.load has no argument 'lable' \(did you mean 'label'\?\)\.$"),
        ("load", "xyz", r"^adapt\.data\.load has no argument 'xyz'\.$"),
        ("folds", "split_seed", r"^adapt\.data\.folds has no argument 'split_seed'; it is called 'seed' here\.$"),
        ("folds", "column", r"^adapt\.data\.folds has no argument 'column' \(did you mean 'count'\?\)\.$"),
    ],
)
def test_arguments_that_there_are_not(function: str, name: str, message: str) -> None:
    refused(lambda: getattr(adapt.data, function)(DATA(), **{name: 3}), message)


@pytest.mark.parametrize(
    ("arguments", "choices", "message"),
    [
        ((DATA,), {}, r"^The backbone is of type Data; give its name, or the folder"),
        (("tiny-encoder", DATA, ["lora", adapt.Full]), {}, r"^Full is a class; give one of it: Full\(\)\.$"),
        (("tiny-encoder", DATA), {"seeds": "3"}, r"^seeds is '3'; give how many \(at least 1\), or distinct numbers"),
        (("tiny-encoder", DATA), {"seeds": None}, r"^seeds is None; give how many"),
        (("tiny-encoder", DATA), {"seeds": 2.5}, r"^seeds is 2\.5; give how many"),
        (("tiny-encoder", DATA, {"lora": {"rank": 4}}), {}, r"^strategies is \{'lora'.*; give a list of names"),
        (
            ("tiny-encoder", DATA),
            {"settings": "lora.rank=4"},
            r"^settings is 'lora\.rank=4'; give a dict of strategies",
        ),
        (("tiny-encoder", DATA), {"settings": {"rank": 4}}, r"^settings is \{'rank': 4\}; give a dict of strategies"),
        (
            ("tiny-encoder", DATA),
            {"strategy": "lora"},
            r"^There is no argument 'strategy' \(did you mean 'strategies'\?\)\.$",
        ),
        (("tiny-encoder", DATA), {"label": "y"}, r"^'label' is an option of adapt\.data\.load; give what"),
        (("tiny-encoder", DATA), {"settings": {"lora": {"rank": 0}}}, r"^lora\.rank is 0; give at least 1\.$"),
        (("tiny-encoder", DATA), {"trials": 99999}, r"^trials is 99999; give at most 13, three powers of ten"),
        (("tiny-encoder", DATA), {"trials": "3"}, r"^trials is '3'; give a whole number of at least 1\.$"),
        (("tiny-encoder", DATA), {"jobs": 1.5}, r"^jobs is 1\.5; give a whole number of at least 1\.$"),
    ],
)
def test_what_cannot_be_compared(
    arguments: tuple[Any, ...], choices: dict[str, Any], message: str, tmp_path: Path
) -> None:
    given = (each() if each is DATA else each for each in arguments)
    refused(lambda: adapt.compare(*given, **choices, out=tmp_path / "out"), message)
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def model(backbone: Callable[..., Path]) -> Adapted:
    return fitted(backbone("bert"), "single_label")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("a fine film", r"^a fine film: no such file; check the path, or give texts as a list$"),
        (["a film", 5], r"^the texts, row 2: column 'text' holds 5 \(int\), not text"),
        ([], r"^the texts: there are no rows; give at least one"),
        ({"a", "b"}, r"cannot read set as a table; give a path, .* a list of dicts, or a list of texts$"),
        (DATA(), r"cannot read Data as a table; give one of its splits, such as splits\['test'\]$"),
        (
            {"tekst": ["a film"]},
            r"no text column found among 'tekst'; name it with the option text or columns=\{'text': NAME",
        ),
    ],
)
def test_what_cannot_be_predicted(model: Adapted, rows: Any, message: str) -> None:
    refused(lambda: model.predict(rows), message)


def test_the_columns_of_new_rows_may_be_named(model: Adapted) -> None:
    expected = model.predict(["a film"])
    assert model.predict({"tekst": ["a film"]}, {"text": "tekst"}) == expected
    assert model.predict(pandas.Series(["a film"], index=[7])) == expected
    assert model.predict(numpy.array(["a film"])) == expected


def test_what_cannot_be_read_scored_folded_or_chosen(model: Adapted) -> None:
    frame = pandas.DataFrame({"text": ["a", "b"], "label": ["x", "y"]})
    tagged = [["a", "b", "c"]] * 3, [["O", "O", "B-x"]] * 3
    refused(lambda: adapt.data.load(tagged), r"^the lists, row 1: a list of 3, .* columns, 'tokens' and 'tags'$")
    refused(
        lambda: adapt.data.load((frame, frame)), r"cannot read tuple as a table; give a dict of splits \(train, val"
    )
    refused(
        lambda: adapt.data.folds(frame, 2), r"^folds are of data that were read, .* DataFrame; give adapt\.data\.load"
    )
    refused(
        lambda: adapt.score(frame, model), r"^What is to be scored is of type DataFrame; give a model, or its folder"
    )
    chosen = Comparison(table_of([]), [], Path("out")).chosen
    refused(lambda: chosen(adapt.LoRA), r"^There is no strategy '.*LoRA'>'; choose from full, head")  # type: ignore[arg-type]


def test_a_model_is_no_backbone_of_a_plan() -> None:
    refused(lambda: adapt.plan(object(), "lora"), r"^The backbone is of type object; give its name")  # type: ignore[arg-type]
