"""What stands below a table."""

from __future__ import annotations

from typing import Any

from comparison_helpers import contents, result_of, run_of

from adapt.result import Result
from adapt.spec import fields_of
from adapt.tables.table import table_of
from adapt.tasks import KINDS


def table(*results: Result) -> str:
    return table_of(contents(results)).markdown()


def test_options_of_a_kind_are_shown_where_they_are_not_empty_by_default() -> None:
    def shown(kind: str, metric: str, **options: Any) -> str:
        options = {**fields_of(KINDS[kind].Options()), **options}
        text = table(result_of(run_of("lora", kind=kind, metric=metric, options=options)))
        return text.partition("(content bbbbbbbbbbbb), ")[2].partition("\n")[0]

    usual = "causal lm (max new tokens 64, beams 1, template {prompt}, separator "
    assert shown("causal_lm", "perplexity") == usual + r'"\\n").'
    assert shown("causal_lm", "perplexity", separator="") == usual + '"").'
    assert shown("causal_lm", "perplexity", separator=" =>", stop="END") == usual + '" =&gt;", stop END).'
    assert shown("seq2seq", "chrf") == "seq2seq (max target length 64, beams 1, length penalty 1.0)."
    assert shown("seq2seq", "chrf", length_penalty=0.0).endswith("beams 1, length penalty 0.0).")


def test_code_of_several_states_is_said() -> None:
    environment = result_of(run_of("full", 0)).environment
    runs = [
        result_of(run_of("full", s), 0.5, environment={**environment, "commit": commit})
        for s, commit in enumerate(["abc", "abc", "def-dirty", None])
    ]
    assert "- Code: runs were made with 2 states of it (abc, def-dirty)." in table(*runs)
    assert "Code:" not in table(*runs[:2])
    installed = [
        result_of(run_of("full", s), 0.5, environment={**environment, "commit": None, "code": code})
        for s, code in enumerate(["12", "12", "34"])
    ]
    assert "- Code: runs were made with 2 states of it (content 12, content 34)." in table(*installed)
    assert "Code:" not in table(*installed[:2])


def test_where_no_run_lived_to_say_what_it_was_made_on_nothing_is_said_of_it() -> None:
    killed = [result_of(run_of("full", seed), status="failed", scores={}, environment={}) for seed in (0, 1)]
    assert "- Hardware:" not in table(*killed)
    assert "- Hardware: unknown, cpu, 1 thread; torch 2.\n" in table(*killed, result_of(run_of("full", 2)))
    unsupported = result_of(run_of("full", 2), status="unsupported", scores={})
    assert "- Hardware: unknown, cpu, 1 thread; torch 2.\n" in table(*killed, unsupported)


def test_a_warmup_longer_than_that_of_the_budget_is_said_below_the_table_and_several_are_rows() -> None:
    def shown(*settings: dict[str, Any], **budget: Any) -> str:
        runs = [run_of("prefix", settings=fields, budget=budget) for fields in settings]
        return table(*map(result_of, runs), result_of(run_of("lora", budget=budget)))

    assert "; a longer warm-up (share of the steps) of prefix 0.3.\n" in shown({})
    assert "a longer warm-up" not in shown({"warmup": 0.05})
    wide = shown({}, warmup=0.4)
    assert "warm-up 0.4" in wide
    assert "a longer warm-up" not in wide
    both = shown({}, {"warmup": 0.0})  # such as results from before the field
    assert "\n| prefix | " in both
    assert "\n| prefix(warmup=0.0) | " in both
    assert "(share of the steps) of prefix 0.3.\n" in both
    assert "\n| prefix | " in shown({"warmup": 0.0})


def test_rows_of_a_strategy_of_ones_own_stay_apart() -> None:
    def row(**fields: float) -> dict[str, Any]:
        (content,) = contents([result_of(run_of("lora"))])
        spec = {**content["spec"], "strategy": {"name": "mine", **fields}}
        return {**content, "strategy": "mine", "spec": spec}

    made = table_of([row(size=3.0), row(size=3.0, warmup=0.3)])
    assert [shown.strategy for shown in made.rows] == ["mine(size=3.0)", "mine(size=3.0, warmup=0.3)"]
    assert "a longer warm-up (share of the steps) of mine(size=3.0, warmup=0.3) 0.3" in made.markdown()
    assert "a longer warm-up" not in table_of([row(size=3.0, warmup="linear")]).markdown()  # type: ignore[arg-type]
