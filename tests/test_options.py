"""What a user leaves to us is decided from the backbone and the device; what cannot be used is named."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from comparison_helpers import words

from adapt import options
from adapt.adapted import assemble
from adapt.backbones.source import Backbone
from adapt.comparison import compare
from adapt.comparison.given import embedded_data, seeds_of, strategies_of
from adapt.data import Data, load
from adapt.fields import fill, settings_from
from adapt.spec import AdaptError, Budget, OptionError, Source
from adapt.strategies import STRATEGIES, BottleneckAdapter, Full, LoRA, Prefix, QLoRA, make
from adapt.tasks import KINDS

NAN, INFINITY = math.nan, math.inf


def with_config(folder: Path, **config: Any) -> Backbone:
    (folder / "config.json").write_text(json.dumps(config))
    return Backbone(Source("b", "b" * 64), "b", folder)


def numbers() -> Data:
    part = (["one", "two", "three", "four"], [0.5, 1.25, 2.0, 3.5])
    return load({"train": part, "validation": part, "test": part})


def test_a_budget_of_nothing_is_the_default() -> None:
    made = options.budget_of(device="cpu", precision="fp32")
    assert made == Budget()


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("epochs", [0, -1, 1.5, True, None, "3", NAN]),
        ("batch_size", [0, -4, 2.0, None]),
        ("accumulation", [0, 1.5, None]),
        ("max_steps", [0, -1, 2.5]),
        ("patience", [0, -1, 0.5]),
        ("learning_rate", [0, 0.0, -1e-4, NAN, INFINITY, "fast"]),
        ("weight_decay", [-0.1, NAN, INFINITY, None]),
        ("warmup", [-0.1, 1.0, 1.5, NAN, None]),
        ("dropout", [-0.1, 1.0, NAN]),
        ("clip", [0, -1.0, NAN, INFINITY, None]),
        ("decay", ["Linear", "step", None]),
        ("graphs", ["on", True, None]),
        ("loss_chunk", [0, -1, 0.5, True, "8"]),
        ("optimizer", ["sgd", "AdamW", "", None, 8]),
        ("precision", ["fp16", "int8", "", None]),
        ("device", ["gpu", "cuda:0", "", None]),
    ],
)
def test_a_value_out_of_range_is_named(name: str, values: list[Any]) -> None:
    for value in values:
        given = {"device": "cpu", "precision": "fp32", name: value}
        with pytest.raises(OptionError) as caught:
            options.budget_of(**given)
        assert name in str(caught.value).casefold()
        assert str(value) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 1), ("max_steps", 1), ("max_steps", None), ("patience", None), ("warmup", 0), ("warmup", 0.99),
        ("dropout", 0.0), ("dropout", None), ("weight_decay", 0), ("clip", 1e-3), ("learning_rate", 10),
        ("decay", "constant"),
    ],
)  # fmt: skip
def test_a_value_at_the_edge_is_taken(name: str, value: Any) -> None:
    assert getattr(options.budget_of(device="cpu", precision="fp32", **{name: value}), name) == value


def test_the_device_is_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert options.device_of("auto") == "cpu"
    with pytest.raises(OptionError, match="'cuda' was asked for, but torch finds no CUDA device"):
        options.device_of("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert options.device_of("auto") == "cuda"
    assert options.device_of("cuda") == "cuda"
    assert options.device_of("cpu") == "cpu"


@pytest.mark.parametrize(
    ("avx512", "amx", "expected"), [(True, False, "bf16"), (False, True, "bf16"), (False, False, "fp32")]
)
def test_bf16_is_for_processors_that_have_it(
    monkeypatch: pytest.MonkeyPatch, avx512: bool, amx: bool, expected: str
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert options.precision_of("auto", "cpu") == expected
    assert options.precision_of("fp32", "cpu") == "fp32"
    assert options.precision_of("bf16", "cpu") == "bf16"


@pytest.mark.parametrize(("supported", "expected"), [(True, "bf16"), (False, "fp32")])
def test_bf16_is_for_devices_that_do_not_emulate_it(
    monkeypatch: pytest.MonkeyPatch, supported: bool, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation or supported)
    assert options.precision_of("auto", "cuda") == expected


@pytest.mark.parametrize(
    ("config", "length"),
    [
        ({"model_type": "bert", "max_position_embeddings": 64}, 64),
        ({"model_type": "bert", "max_position_embeddings": 512}, 300),
        ({"model_type": "roberta", "max_position_embeddings": 66}, 64),
        ({"model_type": "xlm-roberta", "max_position_embeddings": 130}, 128),
        ({"model_type": "mpnet", "max_position_embeddings": 34, "relative_attention_num_buckets": 32}, 32),
        ({"model_type": "gpt2", "n_positions": 32}, 32),
        ({"model_type": "t5", "n_positions": 64, "relative_attention_num_buckets": 32}, 300),
        ({"model_type": "xlnet", "max_position_embeddings": -1}, 300),
        ({"model_type": "unheard-of"}, 300),
    ],
)
def test_rows_are_no_longer_than_the_backbone_has_positions(tmp_path: Path, config: Any, length: int) -> None:
    assert options.task_of(words(), with_config(tmp_path, **config), max_length=300).max_length == length


def test_the_pooling_left_to_us_is_that_of_the_folder(tmp_path: Path) -> None:
    backbone = with_config(tmp_path, model_type="bert")
    assert options.task_of(words(), backbone).pooling == "native"
    assert options.task_of(words(), backbone, pooling="mean").pooling == "mean"
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    assert options.task_of(words(), backbone).pooling == "mean"
    assert options.task_of(words(), backbone, pooling="native").pooling == "native"
    (tmp_path / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    assert options.task_of(words(), backbone).pooling == "native"


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"metric": "spearman"}, "'spearman' does not go with single_label; choose one of accuracy, macro_f1, mcc"),
        ({"pooling": "max"}, "pooling is 'max'; choose one of auto, mean, native"),
        ({"class_weights": "yes"}, "class_weights is 'yes'; choose one of none, balanced"),
        ({"max_length": 0}, "max_length is 0"),
        ({"max_train": 2.5}, "max_train is 2.5"),
        ({"few_shot": "4"}, "few_shot is '4'; give a whole number"),
        ({"few_shot": -1}, "few_shot is -1"),
    ],
)
def test_a_choice_about_the_task_that_cannot_be_is_named(tmp_path: Path, choices: Any, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        options.task_of(words(), with_config(tmp_path, model_type="bert"), **choices)


def test_a_regression_has_no_classes(tmp_path: Path) -> None:
    backbone = with_config(tmp_path, model_type="bert")
    task = options.task_of(numbers(), backbone)
    assert (task.problem, task.metric, task.labels) == ("regression", "spearman", ())
    with pytest.raises(OptionError, match="do not go with regression"):
        options.task_of(numbers(), backbone, class_weights="balanced")
    with pytest.raises(OptionError, match="few_shot counts rows of a class"):
        options.task_of(numbers(), backbone, few_shot=2)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"few_shot": 4}, "few_shot counts rows of a class, which token_classification does not have; give max_train"),
        ({"class_weights": "balanced"}, "class_weights is for sequence classification, and the data are for token_cla"),
        ({"pooling": "mean"}, "pooling is for sequence classification, and the data are for token_classification"),
    ],
)
def test_what_is_for_classes_of_rows_alone_is_named(tmp_path: Path, choices: Any, message: str) -> None:
    rows = load({"tokens": [["a", "b"]] * 4, "tags": [["O", "B-x"]] * 4}, validation=0, test=0)
    with pytest.raises(OptionError, match=message):
        options.task_of(rows, with_config(tmp_path, model_type="bert"), **choices)


def test_a_target_is_no_longer_than_the_positions(tmp_path: Path) -> None:
    rows = load({"source": ["a", "b"] * 5, "target": ["c", "d"] * 5}, validation=0, test=0)
    backbone = with_config(tmp_path, model_type="bart", max_position_embeddings=32)
    with pytest.raises(
        OptionError, match="max_target_length is 33, and the backbone has 32 positions; give at most those"
    ):
        options.task_of(rows, backbone, {"max_target_length": 33})
    for given in ({"max_target_length": 32}, {}):
        assert options.task_of(rows, backbone, given).options["max_target_length"] == 32


def test_patience_needs_a_validation_split() -> None:
    without = load((["one", "two"] * 4, ["a", "b"] * 4), validation=0, test=0)
    with pytest.raises(OptionError, match=r"patience is 2, .* no validation split .*; leave patience out"):
        assemble("tiny-encoder", without, "full", patience=2)
    assert assemble("tiny-encoder", words(), "full", patience=2)[0].budget.patience == 2


def test_an_unknown_option_lists_those_that_there_are() -> None:
    with pytest.raises(OptionError, match=r"no option 'lr' for sequence_classification; there are .*learning_rate"):
        assemble("tiny-encoder", words(), "full", lr=3)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("lroa", {}, r"no strategy 'lroa' \(did you mean 'lora'\?\)"),
        ("adapter", {}, r"no strategy 'adapter'.*choose from full, head, lora, bottleneck, prefix, qlora"),
        ("", {}, "no strategy ''; choose from"),
        ("lora", {"rnk": 4}, r"'lora' has no field 'rnk' \(did you mean 'rank'\?\); it has learning_rate, rank"),
        ("lora", {"name": "x"}, "no field 'name'"),
        ("lora", {"rank": "four"}, "lora.rank is 'four'; give a whole number"),
        ("lora", {"rank": "8.5"}, "lora.rank is '8.5'; give a whole number"),
        ("lora", {"rank": 8.5}, "lora.rank is 8.5; give a whole number"),
        ("lora", {"rank": INFINITY}, "lora.rank is inf; give a whole number"),
        ("lora", {"rank": True}, "lora.rank is True; give a whole number"),
        ("lora", {"rank": None}, "lora.rank is None; give a whole number"),
        ("lora", {"dora": "maybe"}, "lora.dora is 'maybe'; give true or false"),
        ("lora", {"alpha": "much"}, "lora.alpha is 'much'; give a number"),
        ("lora", {"targets": 3}, "lora.targets is 3; give several names or a name"),
        ("qlora", {"bits": "3"}, "qlora.bits is '3'; give one of 8, 4"),
        ("bottleneck", {"placement": "houlsy"}, "bottleneck.placement is 'houlsy'; give one of houlsby, pfeiffer"),
    ],
)
def test_a_strategy_that_cannot_be_made_says_what_there_is(name: str, settings: Any, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        make(name, settings)


def test_strings_are_read_as_the_type_of_the_field() -> None:
    assert make("lora", {"rank": "4", "alpha": "8", "dora": "yes", "rslora": "0"}) == LoRA(rank=4, alpha=8.0, dora=True)
    assert make("qlora", {"bits": "4"}) == QLoRA(bits=4)
    assert make("qlora", {"bits": 4}) == QLoRA(bits=4)
    assert make("prefix", {"virtual_tokens": "5"}) == Prefix(virtual_tokens=5)
    assert make("bottleneck", {"placement": "pfeiffer", "reduction_factor": "8"}) == BottleneckAdapter(
        placement="pfeiffer", reduction_factor=8.0
    )
    assert make("lora", {"rank": " 4", "dora": " yes "}) == LoRA(rank=4, dora=True)
    assert make("lora", {"targets": "query, value"}) == LoRA(targets=("query", "value"))
    assert make("lora", {"targets": ["query"]}) == LoRA(targets=("query",))
    for name, cls in STRATEGIES.items():
        assert make(name) == cls()


@pytest.mark.parametrize("value", [sys.maxsize, str(sys.maxsize), 2**53 + 1])
def test_whole_numbers_are_read_to_the_last_digit(value: Any) -> None:
    """A result file is read with what it was written from."""
    assert fill(Budget, {"patience": value}, "Budget", "").patience == int(value)


@pytest.mark.parametrize(
    "strategy",
    [
        Full(learning_rate=0.0), Full(learning_rate=-1.0), Full(learning_rate=NAN), LoRA(learning_rate=INFINITY),
        LoRA(alpha=NAN), LoRA(dropout=INFINITY), BottleneckAdapter(reduction_factor=NAN),
    ],
)  # fmt: skip
def test_numbers_of_a_strategy_are_finite(strategy: Any) -> None:
    changed = [
        f.name for f in dataclasses.fields(strategy) if getattr(strategy, f.name) != getattr(type(strategy)(), f.name)
    ]
    with pytest.raises(OptionError, match=rf"{strategy.name}\.{changed[0]} is .*; give a finite number"):
        options.check_strategy(strategy)


def test_strategies_are_named_in_many_ways() -> None:
    assert [s.name for s in strategies_of("all", {})] == list(STRATEGIES)
    assert strategies_of("lora, full", {"lora": {"rank": 4}}) == [LoRA(rank=4), Full()]
    assert strategies_of([LoRA(rank=2), "lora"], {}) == [LoRA(rank=2), LoRA()]
    for strategies, settings, message in (
        ([LoRA(rank=4)], {"lora": {"rank": 8}}, "Settings are given for lora, which is not among .* given by name"),
        ("lora,lora", {}, "lora is given twice"),
        ([LoRA(targets=["query"]), LoRA(targets=("query",))], {}, "lora is given twice"),  # type: ignore[arg-type]
        ([LoRA(targets="query"), LoRA(targets=("query",))], {}, "lora is given twice"),
        ([LoRA(rank="4"), LoRA(rank=4)], {}, "lora is given twice"),  # type: ignore[arg-type]
        ([], {}, "No strategy is given"),
        ("full", {"lora": {"rank": 4}}, "Settings are given for lora, which is not among the strategies"),
        ("full", {"lora": {"rnk": 4}}, "no field 'rnk'"),
        ("full", {"lroa": {}}, "no strategy 'lroa'"),
        ("full,,lora", {}, "no strategy ''"),
    ):
        with pytest.raises(OptionError, match=message):
            strategies_of(strategies, settings)


def test_seeds_are_how_many_or_which() -> None:
    assert seeds_of(3) == [0, 1, 2]
    assert seeds_of([5, 2]) == [5, 2]
    for seeds in (0, -1, [], [1, 1], [-1]):
        with pytest.raises(AdaptError, match=r"seeds? is .*; give (how many|a whole number)"):
            seeds_of(seeds)


def test_white_space_of_a_text_is_kept() -> None:
    given = settings_from(["task.prefix=translate: ", "task.stop=\n", "lora.rank= 8 "])
    assert given == {"task": {"prefix": "translate: ", "stop": "\n"}, "lora": {"rank": " 8 "}}
    read = fill(KINDS["seq2seq"].Options, {"prefix": given["task"]["prefix"]}, "Task kind", "")
    assert read.prefix == "translate: "
    assert make("lora", given["lora"]) == LoRA(rank=8)


def test_a_comparison_takes_seeds_not_a_seed() -> None:
    with pytest.raises(OptionError, match="no option 'seed'; give seeds"):
        compare(seed=1)


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        (QLoRA(bits=2), r"qlora\.bits is 2; give one of 8, 4"),  # type: ignore[arg-type]
        (BottleneckAdapter(placement="Pfeiffer"), "bottleneck.placement is 'Pfeiffer'"),  # type: ignore[arg-type]
        (Prefix(init="words"), "prefix.init is 'words'"),  # type: ignore[arg-type]
        (None, r"None is no strategy: it has no name, learning_rate, build; give a name"),
        (LoRA(rank=2.5), r"lora\.rank is 2.5; give a whole number"),  # type: ignore[arg-type]
    ],
)
def test_a_strategy_made_in_python_is_checked_like_one_from_the_command_line(strategy: Any, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        options.check_strategy(strategy)


def test_a_list_of_targets_is_as_good_as_a_tuple() -> None:
    assert options.check_strategy(LoRA(targets=["query"])) == LoRA(targets=("query",))  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", [-1, True, 0.5, "0", None, 2**63])
def test_a_seed_is_a_whole_number(seed: Any) -> None:
    with pytest.raises(OptionError, match=r"seed is .*; give a whole number from 0 to below"):
        options.seed_of(seed)


def test_numpys_numbers_are_pythons() -> None:
    import numpy

    given = {"epochs": numpy.int64(2), "learning_rate": numpy.float64(1e-3), "checkpointing": numpy.bool_(True)}
    made = options.budget_of(**given, device="cpu")
    assert [type(getattr(made, name)) for name in given] == [int, float, bool]
    assert made == options.budget_of(epochs=2, learning_rate=1e-3, checkpointing=True, device="cpu")
    with pytest.raises(OptionError, match="checkpointing is 'false'; give True or False"):
        options.budget_of(checkpointing="false")


def test_numpys_numbers_are_fields_of_a_strategy() -> None:
    import numpy

    given = LoRA(rank=numpy.int64(4), alpha=numpy.float32(8), dora=numpy.bool_(True))  # type: ignore[arg-type]
    made = options.check_strategy(given)
    assert made == LoRA(rank=4, alpha=8.0, dora=True)
    assert [type(getattr(made, name)) for name in ("rank", "alpha", "dora")] == [int, float, bool]
    with pytest.raises(OptionError, match=r"lora\.targets is .*; give several names"):
        options.check_strategy(LoRA(targets={"query"}))  # type: ignore[arg-type]


def test_numpys_numbers_are_seeds() -> None:
    import numpy

    assert [type(seed) for seed in seeds_of(numpy.arange(3))] == [int] * 3
    assert seeds_of(numpy.arange(3)) == [0, 1, 2]


def test_a_comparison_knows_the_librarys_strategies_alone() -> None:
    class Mine(LoRA):
        pass

    with pytest.raises(OptionError, match="Mine is not the library's 'lora'"):
        strategies_of([Mine()], {})


@pytest.mark.parametrize("kind", ["regression", "pos"])
def test_an_embedded_task_of_another_problem_is_not_taken(kind: str) -> None:
    with pytest.raises(OptionError, match=f"no embedded task for kind '{kind}'"):
        embedded_data(kind)


@pytest.mark.parametrize("alpha", [0.0, -1.0])
def test_an_update_of_scale_zero_is_an_error(alpha: float) -> None:
    with pytest.raises(OptionError, match=r"lora.alpha is .*; give a finite number above zero"):
        options.check_strategy(LoRA(alpha=alpha))


def test_a_strategy_s_own_warmup_is_a_share_of_the_steps() -> None:
    assert options.check_strategy(Prefix(warmup=0.9)).name == "prefix"
    for value in (-0.1, 1.0, 100):
        with pytest.raises(OptionError, match=rf"^prefix\.warmup is {float(value)}; give a number from 0 to below 1"):
            options.check_strategy(Prefix(warmup=value))
