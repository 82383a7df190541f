"""From a comparison to the model: what is chosen by validation, and that `fit` makes the run of a result again."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from comparison_helpers import contents, in_this_process, result_of, run_of

import adapt
from adapt.cli import cli
from adapt.comparison import grid
from adapt.comparison.choice import best_epochs, choose, choose_from, differences, fit_arguments
from adapt.comparison.store import Store
from adapt.options import check_rates
from adapt.result import Result
from adapt.spec import OptionError, Run, Source, Teacher
from adapt.strategies import FLOORS

CHOICES: dict[str, Any] = {"epochs": 1, "device": "cpu", "precision": "fp32", "batch_size": 16}


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    """A file of some rows of two classes."""
    rows = [f"{word} word {i},{label}" for i in range(12) for word, label in (("good", "yes"), ("bad", "no"))]
    path = tmp_path / "reviews.csv"
    path.write_text("\n".join(["text,label", *rows]) + "\n", encoding="utf-8")
    return path


def made(name: str, seed: int, validation: float, *, test: float = 0.5, **changes: Any) -> Result:
    run = run_of(name, seed, **{key: changes.pop(key) for key in ("settings", "budget") if key in changes})
    run = dataclasses.replace(run, task=dataclasses.replace(run.task, **changes.pop("task", {})))
    return result_of(run, scores={"validation": {"accuracy": validation}, "test": {"accuracy": test}}, **changes)


def masked(name: str, perplexity: float, options: dict[str, Any]) -> Result:
    task = {"kind": "masked_lm", "problem": "masked", "metric": "perplexity", "labels": (), "options": options}
    return result_of(run_of(name, **task), scores={"validation": {"perplexity": perplexity}})


def chosen(*results: Result, strategy: str | None = None) -> tuple[str, int, Any]:
    found = choose(contents(results), strategy)
    return found["strategy"], found["seed"], found["spec"]["strategy"].get("rank")


def test_of_a_learning_curve_the_most_rows_are_chosen() -> None:
    results = [made("lora", 0, score, task={"max_train": n}) for n, score in ((20, 0.7), (8, 0.8))]
    assert choose(contents(results))["spec"]["task"]["max_train"] == 20
    results += [made("head", 0, 0.6), made("lora", 0, 0.9, task={"few_shot": 2})]
    assert choose(contents(results))["strategy"] == "head"
    assert choose(contents(results), "lora")["spec"]["task"]["max_train"] == 20
    few = [made("lora", 0, score, task={"few_shot": n}) for n, score in ((16, 0.6), (3, 0.9))]
    assert choose(contents([few[0], *results[:2]]))["spec"]["task"]["few_shot"] == 16, "32 rows"
    assert choose(contents([few[1], results[1]]))["spec"]["task"]["max_train"] == 8


def written(name: str, loss: float, metric: str = "chrf", **options: Any) -> Result:
    task = {"kind": "causal_lm", "problem": "completion", "metric": metric, "labels": (), "options": options}
    task |= {"selection": "loss"} if metric == "chrf" else {}
    scores = {"validation": {"loss": loss, "perplexity": loss}, "test": {metric: 0.5}}
    return result_of(run_of(name, **task), scores=scores)


def test_what_no_validation_loss_tells_apart_is_not_chosen_by_it() -> None:
    said = r"The best settings differ from others in beams, stop alone, .*; give the file of one result"
    with pytest.raises(OptionError, match=said):
        chosen(written("lora", 0.5), written("lora", 0.5, beams=4, stop="x"), written("full", 0.6))
    assert chosen(written("lora", 0.5), written("lora", 0.5, beams=4), written("full", 0.4))[0] == "full"
    assert chosen(*(written("lora", 2.0, "perplexity", beams=n) for n in (1, 4)))[0] == "lora"
    bad = dataclasses.replace(written("lora", 0.5, beams=8), status="out_of_memory", scores={})
    assert choose(contents([written("lora", 0.5), bad]))["status"] == "ok"
    both = contents([written("lora", 0.5), written("lora", 0.5, beams=4)])
    assert choose(both, otherwise={"beams"})["strategy"] == "lora"


@pytest.mark.parametrize("option", [{"separator": " "}, {"template": "Q: {prompt}"}])
def test_losses_over_other_tokens_are_not_compared(option: dict[str, str]) -> None:
    with pytest.raises(OptionError, match="of 2 problems"):
        chosen(written("lora", 0.5), written("lora", 0.4, **option))


def test_the_best_mean_validation_score_chooses_and_its_first_seed_is_taken() -> None:
    results = [made("full", seed, 0.7, test=0.9) for seed in (1, 0)]
    results += [made("lora", 0, 0.6), made("lora", 1, 0.9), made("lora", 0, 0.7, settings={"rank": 2})]
    results += [made("lora", 1, 0.9, settings={"rank": 2})]
    assert chosen(*results) == ("lora", 0, 2)
    assert chosen(*results, strategy="full") == ("full", 0, None)
    floor = result_of(dataclasses.replace(results[0].run, strategy=FLOORS["untrained"]()), learning_rate=None)
    assert chosen(*results[2:4], floor) == ("lora", 0, 16)
    bad = dataclasses.replace(results[2], status="diverged", scores={})
    assert chosen(bad, results[3]) == ("lora", 1, 16)


def test_a_row_is_chosen_by_its_name_in_the_table() -> None:
    results = [made("lora", seed, 0.9) for seed in (1, 0)] + [made("full", 0, 0.95)]
    results += [made("lora", seed, 0.7, settings={"rank": 2}) for seed in (2, 1)]
    assert chosen(*results, strategy="lora") == ("lora", 0, 16)
    assert chosen(*results, strategy="lora(rank=2)") == ("lora", 1, 2)
    results += [made("lora", 2, 0.8, settings={"rank": 2, "learning_rate": rate}) for rate in (0.1, 0.2)]
    assert chosen(*results, strategy="lora(rank=2)") == ("lora", 2, 2)  # of its learning rates the best
    of_rate = choose(contents(results), "lora(learning_rate=0.2, rank=2)")["spec"]["strategy"]
    assert (of_rate["rank"], of_rate["learning_rate"]) == (2, 0.2)
    with pytest.raises(OptionError, match=r"No row is called 'lora\(rank=3\)'; give one of 'full', 'lora"):
        chosen(*results, strategy="lora(rank=3)")
    with pytest.raises(OptionError, match="did you mean 'lora'"):
        chosen(*results, strategy="lor(rank=3)")


def test_a_row_is_chosen_by_the_name_that_it_has_beside_another_backbone() -> None:
    """Whose runs have a warm-up of another length, which all rows together would be named by."""
    one, other = (
        contents([made("bottleneck", 0, score, settings={"reduction_factor": 4, "warmup": warmup})])[0]
        for score, warmup in ((0.7, 0.0), (0.9, 0.3))
    )
    other["spec"]["backbone"]["sha256"] = "e" * 64
    row, own = "bottleneck(reduction_factor=4.0)", one["spec"]["backbone"]["sha256"]
    for backbone, expected in ((own, one), ("e" * 64, other)):
        assert choose([one, other], row, backbone=lambda found=backbone: found) is expected


def test_a_result_file_is_of_the_row_that_is_named(tmp_path: Path) -> None:
    path = Store(tmp_path).write(made("lora", 0, 0.5, settings={"rank": 8}))
    for name in (None, "lora", "lora(rank=8)"):
        assert choose_from(path, name)["strategy"] == "lora"
    for name in ("full", "lora(rank=4)"):
        with pytest.raises(OptionError, match=r"is a result of lora\(rank=8\), not .*; leave the strategy out"):
            choose_from(path, name)


def test_with_a_start_the_choice_is_among_runs_that_went_on_from_it() -> None:
    results = [made("lora", 0, 0.9), made("lora", 0, 0.7), made("lora", 0, 0.8, settings={"rank": 2})]
    results[1:] = [dataclasses.replace(r, run=dataclasses.replace(r.run, start=Source("further", "a" * 64)))
                   for r in results[1:]]  # fmt: skip
    assert choose(contents(results))["key"] == results[0].run.key()
    assert choose(contents(results), start="a" * 64)["key"] == results[2].run.key()
    assert choose(contents(results), start="b" * 64)["key"] == results[0].run.key()


def test_a_run_that_failed_is_of_no_other_problem() -> None:
    """Such as one out of memory, that was done again with shorter texts."""
    failed, done = (masked("full", 28.0, {"masked_share": share}) for share in (0.4, 0.1))
    failed = dataclasses.replace(failed, status="out_of_memory", scores={})
    assert choose(contents([failed, done]))["key"] == done.run.key()


def test_settings_whose_seeds_have_starts_of_their_own_are_one() -> None:
    """As in a row of the table; where a seed has several starts of a name, they are several."""
    plain = [made("lora", seed, 0.5) for seed in range(3)]
    started = [dataclasses.replace(made("lora", seed, 0.6 + seed / 10), run=dataclasses.replace(
        plain[seed].run, start=Source("old", str(seed) * 64))) for seed in range(3)]  # fmt: skip
    assert choose(contents([*plain, *started]))["key"] == started[0].run.key()
    assert choose(contents(started), "lora, started from old")["key"] == started[0].run.key()
    other = made("lora", 0, 0.9)
    other = dataclasses.replace(other, run=dataclasses.replace(other.run, start=Source("old", "9" * 64)))
    assert choose(contents([started[0], other]))["key"] == other.run.key()


def test_of_several_backbones_and_data_those_given_are_meant() -> None:
    """Where there are runs of them; folds, say, are of other data than their rows alone."""
    results = [
        made(name, 0, score, task={"data": Source(data, data * 64)})
        for name, score, data in (("full", 0.7, "a"), ("lora", 0.9, "a"), ("head", 0.8, "b"))
    ]
    other = dataclasses.replace(results[0].run, backbone=Source("other", "c" * 64))
    results.append(dataclasses.replace(results[0], run=other))
    found = contents(results)
    own = results[0].run.backbone.sha256
    with pytest.raises(OptionError, match="results are of 3 problems"):
        choose(found)
    assert choose(found, backbone=lambda: own, data="a" * 64)["strategy"] == "lora"
    assert choose(found, backbone=lambda: own, data="b" * 64)["strategy"] == "head"
    assert choose(found, backbone=lambda: "c" * 64)["key"] == other.key()
    with pytest.raises(OptionError, match="results are of 2 problems"):
        choose(found, backbone=lambda: own, data="d" * 64)
    other_kind = contents([made("lora", 0, 0.5, task={"kind": "seq2seq", "problem": "text"})])
    with pytest.raises(OptionError, match=r"one result, or say of which kind the data are \(seq2seq, sequence_class"):
        choose([*found, *other_kind])
    assert choose([*found, *other_kind], kind="seq2seq")["key"] == other_kind[0]["key"]
    assert choose(found, backbone=lambda: "c" * 64, kind="seq2seq")["key"] == other.key(), "there are none of it"
    bad = [{**content, "status": "failed"} if content["key"] == other.key() else content for content in found]
    with pytest.raises(OptionError, match="No run ended well there"):
        choose(bad, backbone=lambda: "c" * 64)


def test_folds_are_judged_as_one_and_are_no_part_of_the_settings() -> None:
    folds = [
        made(name, 0, score, task={"fold": (number, 2)}, test_outcomes=[[0, 0], [1, 1]])
        for name, scores in (("full", (0.9, 0.5)), ("lora", (0.8, 0.7)))
        for number, score in zip((1, 2), scores, strict=True)
    ]
    assert chosen(*folds) == ("lora", 0, 16)
    assert "fold" not in fit_arguments(choose(contents(folds))["spec"])


@pytest.mark.parametrize(
    ("results", "strategy", "said"),
    [
        ([made("full", 0, 0.5)], "lora", "No run of lora ended well there; give one of full"),
        ([made("full", 0, 0.5, status="failed")], None, r"No run ended well there\."),
        ([made("full", 0, 0.5)], "loras", "loras"),
        ([made("full", 0, 0.5), made("full", 0, 0.5, task={"metric": "mcc"})], None, "The results are of 2 problems"),
        (
            [masked("full", 28.0, {"masked_share": 0.05}), masked("full", 39.8, {"masked_share": 0.4})],
            None,
            "2 problems .*what the loss is of differ",
        ),
        ([made("full", 0, 0.5), made("lora", 1, 0.5)], None, "no seed has a validation score under all"),
    ],
)
def test_what_cannot_be_chosen_is_said(results: list[Result], strategy: str | None, said: str) -> None:
    with pytest.raises(OptionError, match=said):
        choose(contents(results), strategy)


def test_a_student_is_not_made_again_without_its_teacher() -> None:
    run = dataclasses.replace(run_of("lora"), teacher=Teacher("tiny full", "a" * 64))
    with pytest.raises(OptionError, match=r"taught by tiny full.*adapt distill.*or name a strategy that has runs with"):
        fit_arguments(run.spec())


def test_students_and_runs_that_went_on_are_chosen_only_where_no_others_are_or_by_name() -> None:
    plain, run = made("lora", 0, 0.5), run_of("lora")
    student = made("lora", 0, 0.9)
    student = dataclasses.replace(student, run=dataclasses.replace(run, teacher=Teacher("tiny full", "a" * 64)))
    started = dataclasses.replace(student, run=dataclasses.replace(run, start=Source("old", "c" * 64)))
    for other in (student, started):
        assert choose(contents([plain, other]), "lora")["key"] == plain.run.key()
        assert choose(contents([plain, other]))["key"] == other.run.key()
        assert choose(contents([other]), "lora")["key"] == other.run.key()
    assert choose(contents([plain, started]), "lora, started from old")["key"] == started.run.key()


def test_what_differs_between_two_runs_is_named() -> None:
    one, other = run_of("lora"), run_of("lora", 1, settings={"rank": 2}, budget={"epochs": 9})
    assert differences(one.spec(), other.spec()) == ["strategy.rank", "budget.epochs", "seed"]
    assert differences(one.spec(), {**one.spec(), "general": {"name": "text"}}) == ["general"]
    assert differences(one.spec(), one.spec()) == []


def test_results_that_are_not_ones_own_are_read_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Store(tmp_path).write(made("lora", 0, 0.5))

    def refuse(folder: Path) -> Path:
        raise OptionError(f"Output folder {folder} cannot be written")

    monkeypatch.setattr("adapt.comparison.store.writable_folder", refuse)
    assert choose_from(tmp_path)["strategy"] == "lora"


def test_a_run_that_went_on_from_a_model_is_not_made_again_without_it(reviews: Path, tmp_path: Path) -> None:
    first = made("lora", 0, 0.5)
    begun = dataclasses.replace(first, run=dataclasses.replace(first.run, start=Source("news", "a" * 64)))
    path = Store(tmp_path).write(begun)
    words = ["fit", "--backbone", "tiny-encoder", "--data", str(reviews), "--like", str(path)]
    with pytest.raises(OptionError, match=r"of lora went on from a model for news \(content a{12}\); give .*--start"):
        CliRunner().invoke(cli, [*words, "--out", str(tmp_path / "m")], catch_exceptions=False)


def test_a_run_at_a_rate_for_all_is_made_again_whatever_the_default_was_then() -> None:
    def run(rate: float) -> Run:
        return run_of("prefix", settings={"learning_rate": rate, "warmup": 0.0}, budget={"learning_rate": 1e-3})

    own = adapt.Prefix()
    found = fit_arguments(run(own.learning_rate / 2).spec())
    assert (found["learning_rate"], found["strategy"]) == (1e-3, adapt.Prefix(warmup=0.0))
    check_rates(found["learning_rate"], [found["strategy"]])
    alone = fit_arguments(run_of("prefix", settings={"learning_rate": 0.5}).spec())
    assert (alone["learning_rate"], alone["strategy"]) == (None, adapt.Prefix(learning_rate=0.5))
    floor = run_of("untrained", budget={"learning_rate": 1e-3})
    assert fit_arguments(floor.spec())["strategy"] == floor.strategy


def test_a_named_file_that_is_no_result_stays_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text('{"schema": 1}', encoding="utf-8")
    with pytest.raises(adapt.AdaptError, match=r"config\.json is no result file \(it lacks key"):
        choose_from(file)
    assert file.read_text(encoding="utf-8") == '{"schema": 1}'
    with pytest.raises(OptionError, match="neither a result file nor the folder of a comparison"):
        choose_from(tmp_path)
    path = Store(tmp_path).write(made("lora", 0, 0.5))
    assert choose_from(path)["strategy"] == choose_from(tmp_path)["strategy"] == "lora"
    with pytest.raises(OptionError, match="is a result of lora, not full; leave the strategy out"):
        choose_from(path, "full")
    with pytest.raises(OptionError, match=f"{tmp_path}: No run of full ended well there; give one of lora"):
        choose_from(tmp_path, "full")


def test_fit_makes_the_chosen_run_again(
    backbone: Callable[..., Path], reviews: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grid, "execute", in_this_process)
    model, out = str(backbone("bert")), tmp_path / "compared"
    data = adapt.data.load(reviews)
    done = adapt.compare(
        model,
        data,
        "head",
        trials=2,
        seeds=(3, 4),
        max_length=9,
        class_weights="balanced",
        patience=1,
        out=out,
        jobs=1,
        **CHOICES,
    )
    keys = {result["key"]: result for result in done.results}
    again = adapt.fit(model, data, **done.chosen("head"))
    assert again.result is not None
    recorded = keys[again.result.run.key()]
    assert again.result.run.seed == 3
    assert {split: dict(scores) for split, scores in again.result.scores.items()} == recorded["scores"]

    def fitted(*given: str) -> str:
        words = ["fit", "--backbone", model, "--data", str(reviews), "--like", str(out), "--device", "cpu", *given]
        ran = CliRunner().invoke(cli, [*words, "--out", str(tmp_path / "model")], catch_exceptions=False)
        assert ran.exit_code == 0, ran.output
        return ran.stderr

    assert f"The run {recorded['key'][:12]} of head, seed 3\n" in fitted()
    saved = adapt.load(tmp_path / "model").earlier
    assert saved is not None
    assert (saved["key"], saved["scores"]) == (recorded["key"], recorded["scores"])
    with monkeypatch.context() as patch:
        patch.setattr("torch.get_num_threads", lambda: 7)
        assert "of head, seed 3, but for threads (1 there, 7 here: OMP_NUM_THREADS), which the last bits" in fitted()
    assert "of head, seed 3, but for strategy.learning_rate, budget.epochs, seed\n" in fitted(
        "--set", "head.learning_rate=0.5", "--epochs", "2", "--seed", "0"
    )
    said = fitted("--learning-rate", "0.5", "--split-seed", "7", "--validation", "0.2")
    assert "of head, seed 3, but for task.data.sha256, task.rows.train, task.rows.validation, " in said
    assert "budget.learning_rate" in said
    assert "validation" not in fitted("--test", "0", "--validation", "0", "--max-steps", "1").split("but for")[0]


def test_a_sample_of_the_rows_is_told_of_and_may_be_another(
    backbone: Callable[..., Path], reviews: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grid, "execute", in_this_process)
    out, model = tmp_path / "out", str(backbone("bert"))
    adapt.compare(model, str(reviews), "head", seeds=1, out=out, few_shot=2, epochs=1, device="cpu", progress=False)

    def fitted(*given: str) -> str:
        words = ["fit", "--backbone", model, "--data", str(reviews), "--like", str(out), "--device", "cpu", *given]
        ran = CliRunner().invoke(cli, [*words, "--out", str(tmp_path / "model")], catch_exceptions=False)
        assert ran.exit_code == 0, ran.output
        task = json.loads((tmp_path / "model" / "result.json").read_text())["spec"]["task"]
        assert (task["few_shot"], task["max_train"]) == ((None, 1000) if given else (2, None))
        return ran.stderr

    assert "Note: trained on some of the rows, as that run was (--few-shot 2); --max-train takes more\n" in fitted()
    assert "some of the rows" not in fitted("--max-train", "1000")
    adapt.compare(model, str(reviews), "head", seeds=1, out=tmp_path / "all", max_train=1000, epochs=1, device="cpu",
                  progress=False)  # fmt: skip
    assert "some of the rows" not in fitted("--like", str(tmp_path / "all"))


def test_of_several_kinds_it_is_that_of_results_on_the_data(
    backbone: Callable[..., Path], reviews: Path, tmp_path: Path
) -> None:
    """Whatever these would be read as, and whatever else is in the folder."""
    data = adapt.data.load(reviews, kind="causal_lm")
    task = {
        "kind": data.kind, "problem": data.problem, "metric": "perplexity", "labels": (), "max_length": 16,
        "data": Source("reviews", data.sha256),
    }  # fmt: skip
    scores = {"validation": {"perplexity": 3.0}}
    quick = {"epochs": 1, "batch_size": 8}
    Store(tmp_path / "out").write(result_of(run_of("head", 5, budget=quick, **task), scores=scores))
    Store(tmp_path / "out").write(made("lora", 0, 0.9))
    told = adapt.data.load(reviews)
    words = ["fit", "--backbone", str(backbone("gpt2")), "--data", str(reviews), "--device", "cpu", "--max-steps", "1"]
    words += ["--like", str(tmp_path / "out"), "--out", str(tmp_path / "model")]
    ran = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert "of head, seed 5, but for " in ran.stderr
    assert adapt.load(tmp_path / "model").run.task.kind == "causal_lm"
    for metric in ("accuracy", "macro_f1"):  # an error among results on the data as they tell is one
        Store(tmp_path / "out").write(made("lora", 0, 0.9, task={"data": Source("a", told.sha256), "metric": metric}))
    with pytest.raises(OptionError, match="The results are of 2 problems"):
        CliRunner().invoke(cli, words, catch_exceptions=False)


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("whole", [True, False])
def test_the_kind_is_that_of_the_result_where_the_data_do_not_tell_it(
    backbone: Callable[..., Path], reviews: Path, tmp_path: Path, labelled: bool, whole: bool
) -> None:
    """A text is one for a causal LM where that is asked for alone."""
    if not labelled:
        rows = [line.rpartition(",")[0] for line in reviews.read_text().splitlines()]
        reviews.write_text("\n".join(rows) + "\n")
    data = adapt.data.load(reviews, kind="causal_lm")
    task = {"kind": data.kind, "problem": data.problem, "metric": "perplexity", "labels": (), "max_length": 16}
    run = run_of("lora", 5, settings={"rank": 2}, budget={"epochs": 1, "batch_size": 8}, **task)
    path = Store(tmp_path / "out").write(result_of(run))
    words = ["fit", "--backbone", str(backbone("gpt2")), "--data", str(reviews), "--device", "cpu", "--max-steps", "1"]
    words += ["--like", str(tmp_path / "out" if whole else path), "--out", str(tmp_path / "model")]
    ran = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert "of lora, seed 5, but for " in ran.stderr
    assert adapt.load(tmp_path / "model").run.task.kind == "causal_lm"


def test_a_model_of_all_rows_is_said_to_be_that_of_the_last_epoch(
    backbone: Callable[..., Path], reviews: Path, tmp_path: Path
) -> None:
    """What is repeated was scored as it was after the best one."""
    task = {"labels": adapt.data.load(reviews).labels, "max_length": 16}
    path = Store(tmp_path / "out").write(result_of(run_of("head", budget={"epochs": 3}, **task)))
    words = ["fit", "--backbone", str(backbone("bert")), "--data", str(reviews), "--device", "cpu"]
    words += ["--like", str(path), "--out", str(tmp_path / "model")]
    said = CliRunner().invoke(cli, [*words, "--validation", "0", "--test", "0"], catch_exceptions=False).stderr
    assert (
        "Note: trained for all 3 epochs, for there are no validation rows to choose one by; that run was scored as it "
        "was after epoch 2\n" in said
    )
    assert "trained for all" not in CliRunner().invoke(cli, words, catch_exceptions=False).stderr
    short = [*words, "--validation", "0", "--test", "0", "--epochs", "9", "--max-steps", "1"]
    assert "trained for all" not in CliRunner().invoke(cli, short, catch_exceptions=False).stderr


def test_the_epochs_of_all_folds_are_those_that_a_run_was_scored_after() -> None:
    results = contents([result_of(run_of("head", fold=(number, 2)), best_epoch=number) for number in (1, 2)])
    assert best_epochs(choose(results)) == [1, 2]
    assert best_epochs(results[0]) == [1]
    assert best_epochs({**results[0], "best_epoch": None}) == []


def test_data_that_cannot_be_of_the_kind_of_the_result_are_told_which_it_is(
    backbone: Callable[..., Path], reviews: Path, tmp_path: Path
) -> None:
    path = Store(tmp_path).write(made("lora", 0, 0.5, task={"kind": "seq2seq", "problem": "text"}))
    words = ["fit", "--backbone", str(backbone("t5")), "--data", str(reviews), "--like", str(path)]
    with pytest.raises(OptionError, match=r"result is of seq2seq \(text\), and .*; give --kind seq2seq, and --problem"):
        CliRunner().invoke(cli, [*words, "--out", str(tmp_path / "model")], catch_exceptions=False)


def test_the_kind_of_the_data_must_be_that_of_the_result(
    backbone: Callable[..., Path], reviews: Path, tmp_path: Path
) -> None:
    path = Store(tmp_path).write(made("lora", 0, 0.5, task={"problem": "multi_label"}))
    words = ["fit", "--backbone", str(backbone("bert")), "--data", str(reviews), "--like", str(path)]
    with pytest.raises(OptionError, match=r"result is of sequence_classification \(multi_label\), and the data are"):
        CliRunner().invoke(cli, [*words, "--out", str(tmp_path / "model")], catch_exceptions=False)
