"""What people mistake in Python is one error that names it and says what to do."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny

import adapt
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
        (("tiny-encoder", DATA, adapt.LoRA), {}, r"LoRA.*; give an instance of a dataclass"),
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
        (("tiny-encoder", DATA), {"warmup": None}, r"^warmup is None; give a number from 0 to below 1\.$"),
    ],
)
def test_what_cannot_be_fitted(arguments: tuple[Any, ...], choices: dict[str, Any], message: str) -> None:
    refused(lambda: adapt.fit(*(each() if each is DATA else each for each in arguments), **choices), message)


@pytest.mark.parametrize(
    ("arguments", "choices", "message"),
    [
        ((DATA,), {}, r"^The backbone is of type Data; give its name, or the folder"),
        (("tiny-encoder", DATA, ["lora", adapt.Full]), {}, r"Full.*; give an instance of a dataclass"),
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


def test_a_model_is_no_backbone_of_a_plan() -> None:
    refused(lambda: adapt.plan(object(), "lora"), r"^The backbone is of type object; give its name")  # type: ignore[arg-type]
