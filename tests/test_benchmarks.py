"""The benchmarks' arithmetic, and that their committed pages are made from their committed numbers."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from adapt.environment import code_state
from adapt.spec import fields_of
from adapt.strategies import make, recorded

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results" / "benchmarks"


def module(name: str) -> ModuleType:
    if str(ROOT / "benchmarks") not in sys.path:  # as where a script is run
        sys.path.append(str(ROOT / "benchmarks"))
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = found  # where dataclasses look up their annotations
    spec.loader.exec_module(found)
    return found


ENVIRONMENT = {
    "hardware": "a CPU", "cores": 2, "python": "3", "torch": "2", "transformers": "5", "peft": "0", "bitsandbytes": "0",
    "accelerate": "1", "peers": [], "commit": "abc123",
}  # fmt: skip


def run(side: str, seconds: float, repeat: int = 0, strategy: str = "lora", **other: Any) -> dict[str, Any]:
    settings = None if side == "ours" else "default"
    return {
        "workload": "sst2", "strategy": strategy, "side": side, "settings": settings, "attention": None,
        "repeat": repeat, "seconds": seconds, "rows": 64, "updates": 2, "peak": 2**20, "accuracy": 0.75,
        "precision": "bf16", "attention_used": "eager", "environment": ENVIRONMENT, "versions": {side: "1"}, **other,
    }  # fmt: skip


def test_a_ratio_is_that_of_the_same_repeat() -> None:
    speed = module("speed")
    runs = [run("ours", s, i) for i, s in enumerate((1.0, 2.0, 4.0))]
    runs += [run("trainer", s, i) for i, s in enumerate((3.0, 4.0, 20.0))]
    runs += [run("ours", s, i, strategy="full") for i, s in enumerate((1.5, 3.0, 8.0))]
    rows = {row["peer"]: row for row in speed.ratios(runs)}
    assert rows.keys() == {"HF Trainer + PEFT", "adapt, full"}
    peer = rows["HF Trainer + PEFT"]
    assert (peer["ratio_min"], peer["ratio_median"], peer["ratio_max"], peer["repeats"]) == (2.0, 3.0, 5.0, 3)
    assert peer["accuracy_ours"] == [0.75] * 3
    assert rows["adapt, full"]["ratio_median"] == 1.5


def test_the_peers_best_is_with_its_faster_kernel() -> None:
    speed = module("speed")
    best = [run("trainer", s, 0, settings="best", attention=a) for s, a in ((3.0, "eager"), (2.0, "sdpa"))]
    best += [
        run("trainer", s, i, settings="best", attention=a)
        for i, pair in ((1, (3.5, 4.0)), (2, (3.0, 4.5)))
        for s, a in zip(pair, ("eager", "sdpa"), strict=True)
    ]
    (row,) = speed.ratios([*(run("ours", 1.0, i) for i in range(3)), *best])
    assert row["attention_peer"] == "eager", "of all repeats, not of the first"
    assert (row["ratio_min"], row["ratio_max"]) == (3.0, 3.5)
    assert row["peer_at_best"] == speed.AT_BEST


def test_rows_whose_peer_was_not_at_its_best_are_dropped() -> None:
    speed = module("speed")
    (best,) = speed.ratios([run("ours", 1.0), run("trainer", 2.0, settings="best", attention="eager")])
    (plain,) = speed.ratios([run("ours", 1.0), run("trainer", 2.0)])
    old = {name: value for name, value in best.items() if name != "peer_at_best"} | {"workload": "wnut17"}
    (other,) = speed.ratios([run("ours", 1.0, strategy="full"), run("trainer", 2.0, strategy="full")])
    assert speed.beside([old, best, other], [plain]) == [other, plain, best], "what is not measured anew stays"


def test_sides_that_did_not_do_the_same_are_not_compared() -> None:
    speed = module("speed")
    with pytest.raises(SystemExit, match="did not do the same work"):
        speed.ratios([run("ours", 1.0), run("trainer", 2.0, updates=3)])


@pytest.mark.parametrize("other", [{"commit": "abc124"}, {"torch": "3"}, {"hardware": "another"}, None])
def test_runs_of_several_environments_make_no_ratio(other: dict[str, Any] | None) -> None:
    speed = module("speed")
    environment = None if other is None else ENVIRONMENT | other
    with pytest.raises(SystemExit, match=r"Runs of sst2 are of several machines.*runs\.jsonl"):
        speed.ratios([run("ours", 1.0), run("trainer", 2.0, environment=environment)])
    if environment is not None:
        elsewhere = [run(side, 1.0, environment=environment, workload="wnut17") for side in ("ours", "trainer")]
        rows = speed.ratios([run("ours", 1.0), run("trainer", 2.0), *elsewhere])
        assert [row["environment"] for row in rows] == [ENVIRONMENT, environment]


def test_runs_of_another_environment_are_found_before_any_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    speed = module("speed")
    (tmp_path / "runs.jsonl").write_text(json.dumps(run("ours", 1.0)) + "\n", encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["speed.py", "--data", str(tmp_path), "--work", str(tmp_path)])
    with pytest.raises(SystemExit, match="Runs of sst2 are of several machines"):
        speed.main()


def test_ratios_of_another_processor_stay_beside_new_ones() -> None:
    speed = module("speed")
    other = {"environment": ENVIRONMENT | {"hardware": "another CPU"}}
    (here,), (elsewhere,) = (speed.ratios([run("ours", 1.0, **how), run("trainer", 2.0, **how)]) for how in ({}, other))
    again, more = here | {"ratio_median": 3.0}, here | {"environment": ENVIRONMENT | {"cores": 4}}
    assert speed.beside([more], [again]) == [again, more]
    assert speed.beside([elsewhere, here], [again]) == [again, elsewhere]
    page = speed.page([again, elsewhere])
    assert (
        page.index("## a CPU, 2 cores\n")
        < page.index("| 3.00 ")
        < page.index("## another CPU, 2 cores\n")
        < page.index("| 2.00 ")
    )
    plot = speed.plot([again, elsewhere])
    assert "default; another CPU, 2 cores<" in plot
    assert "a CPU" not in speed.plot([again])


def test_a_page_names_the_commit_where_it_is_known() -> None:
    speed = module("speed")
    assert speed.environment()["commit"] == module("_state").commit()
    rows = speed.ratios([run("ours", 1.0), run("trainer", 2.0)])
    assert "accelerate 1; commit abc123; 1 repeats" in speed.page(rows)
    rows[0]["environment"] = {name: value for name, value in ENVIRONMENT.items() if name != "commit"}
    assert "accelerate 1; 1 repeats" in speed.page(rows)


def test_the_state_of_the_code_is_the_last_commit_that_changed_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = module("_state")
    monkeypatch.setattr(state, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))

    def commit(file: str) -> None:
        path = tmp_path / file
        path.parent.mkdir(exist_ok=True)
        path.write_text(file)
        git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run([*git, "add", "."], check=True)
        subprocess.run([*git, "commit", "-q", "-m", file], check=True)

    def found() -> str:
        state.commit.cache_clear()
        found: str = state.commit()
        return found

    assert found() == f"code-{code_state()['code']}"
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    commit("of-another.py")
    (tmp_path / "adapt").mkdir()
    (tmp_path / "adapt/a.py").touch()
    assert found() == f"code-{code_state()['code']}"
    commit("adapt/a.py")
    first = found()
    assert len(first) == 12
    commit("results/table.md")
    (tmp_path / "results" / "table.md").write_text("anew")
    assert found() == first
    (tmp_path / "adapt" / "a.py").write_text("changed")
    changed = found()
    assert changed.startswith(f"{first}-dirty-")
    (tmp_path / "adapt" / "a.py").write_text("changed otherwise")
    assert found() not in (first, changed)
    assert found().startswith(f"{first}-dirty-")
    commit("benchmarks/b.py")
    assert "dirty" not in found()
    assert found() != first


def test_pages_escape_what_they_show() -> None:
    speed = module("speed")
    rows = speed.ratios([run("ours", 1.0), run("trainer", 2.0)])
    rows[0]["workload"] = "<b>&"
    assert "<b>" not in speed.plot(rows)
    assert "&lt;b&gt;&amp;" in speed.plot(rows)
    assert "| 2.00 [2.00, 2.00] |" in speed.page(rows)


def test_on_a_gpu_ratios_are_of_equal_epochs_and_full_counts_its_weights_gradients() -> None:
    gpu = module("gpu_speed")
    base = {"shape": "s", "updates": 4, "tokens": 1000, "weights": 10**6, "gpu": "g", "graphs": 0, **gpu.made_by()}
    runs = [
        {**base, "side": "ours", "strategy": "lora", "epochs": [8.0, 2.0, 2.0], "peak": 50},
        {**base, "side": "trainer", "strategy": "lora", "epochs": [4.0, 5.0, 6.0], "peak": 100},
        {**base, "side": "ours", "strategy": "full", "epochs": [8.0, 3.0, 3.0], "peak": 200},
    ]
    rows = {row["peer"]: row for row in gpu.ratios(runs, 0.004)}
    assert rows.keys() == {"HF Trainer + PEFT", "adapt, full"}
    peer = rows["HF Trainer + PEFT"]
    assert (peer["ratio_min"], peer["ratio_median"], peer["ratio_max"], peer["repeats"]) == (2.5, 2.75, 3.0, 2)
    assert (peer["ratio_first"], peer["peak_ratio"]) == (0.5, 0.5)
    assert peer["share_of_peak_flops"] == 0.5  # 4 * 10^6 * 1000 / 2 s of 4 * 10^9 a second
    assert rows["adapt, full"]["ratio_median"] == 1.5
    assert gpu.flops_of(runs[2]) == 1.5 * gpu.flops_of(runs[0])
    with pytest.raises(SystemExit, match="did not do the same work"):
        gpu.ratios([runs[0], {**runs[1], "updates": 5}], None)


def test_on_a_gpu_some_cases_leave_the_ratios_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = module("gpu_speed")
    names = {"strategy": "lora", "peer": "adapt, full"}
    numbers = {"ratio_median": 2.0, "ratio_min": 2.0, "ratio_max": 2.0, "ratio_first": 1.0, "gpu": "g"}
    rows = [{"shape": shape, **names, **numbers, "peak_ratio": None, "share_of_peak_flops": None} for shape in "abb"]
    rows[2] = {**rows[2], "ratio_median": 3.0}
    monkeypatch.setattr(gpu, "warm", lambda: None)
    monkeypatch.setattr(gpu, "Forked", lambda *given: SimpleNamespace(result=lambda: "g"))
    for made in (rows[:2], rows[2:]):
        monkeypatch.setattr(gpu, "ratios", lambda *given, made=made: made)
        monkeypatch.setattr(sys, "argv", ["gpu_speed.py", f"--work={tmp_path}", f"--out={tmp_path}", "--cases=none"])
        gpu.main()
    assert json.loads((tmp_path / "gpu_speed.json").read_text()) == [rows[0], rows[2]]


def test_on_a_gpu_runs_of_other_versions_or_epochs_are_not_gone_on_with() -> None:
    gpu = module("gpu_speed")
    made = {"gpu": "g", **gpu.made_by()}
    kept: dict[str, Any] = made | {"epochs": [1.0, 1.0]}
    others = [kept | {name: "other"} for name in made] + [kept | {"epochs": [1.0] * 4}]
    assert gpu.alike([*others, kept], made, 2) == [kept]


@pytest.mark.parametrize(("visible", "seen"), [(None, "0"), ("2,3", "2"), ("GPU-1a", "GPU-1a"), ("", "")])
def test_work_in_forks_sees_one_gpu(visible: str | None, seen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    forked = module("_forked")
    monkeypatch.setattr(forked, "import_all", lambda names: None)
    monkeypatch.setenv("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible or "")
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    forked.warm()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == seen


def test_a_profile_shares_out_torchs_operations_alone() -> None:
    profile = module("profile_cpu")
    own = {"aten::addmm": 60.0, "aten::bernoulli_": 20.0, "aten::view": 20.0, "Optimizer.step#AdamW.step": 1000.0}
    found = profile.shares(own)
    assert (found["products"], found["dropout's random numbers"], found["other"]) == (0.6, 0.2, 0.2)


def test_padding_is_counted() -> None:
    padding = module("padding")
    found = padding.shares([10] * 8 + [20] * 8, 8)
    assert found["loop"] == 0.0
    assert found["random"] > 0.1
    assert found["graphs"] == pytest.approx(1 - 240 / (8 * 16 + 8 * 20), abs=1e-4)  # to 16, and to the longest row


def test_growth_of_a_line_is_linear() -> None:
    scaling = module("scaling")
    found = scaling.growth((1, 2, 4, 8), [3.0, 5.0, 9.0, 17.0])  # 1 + 2 x
    assert found["r_squared"] == 1.0
    assert found["start_of_the_first"] == pytest.approx(1 / 3, abs=1e-3)
    assert found["slope_of_the_first"] == pytest.approx(2 / 3, abs=1e-3)
    square = scaling.growth((1, 2, 4, 8), [1.0, 4.0, 16.0, 64.0])
    assert square["exponent"] == 2.0
    assert square["r_squared"] < 0.99


PAGES = (
    "speed",
    "scaling",
    "gpu_speed",
    "memory",
    "memory_allocator",
    "memory_plans",
    "padding",
    "profile_cpu",
    "seen_words",
    "waiting",
)


@pytest.mark.parametrize("name", PAGES)
def test_committed_pages_are_made_from_the_committed_numbers(name: str) -> None:
    content = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    benchmark = module(name.removesuffix("_plans").removesuffix("_allocator"))
    page = benchmark.measured_page if name in ("memory", "memory_allocator") else benchmark.page
    beside = [json.loads((RESULTS / "speed.json").read_text(encoding="utf-8"))] if name == "profile_cpu" else []
    assert (RESULTS / f"{name}.md").read_text(encoding="utf-8") == page(content, *beside)
    if name == "speed":
        assert (RESULTS / "speed.svg").read_text(encoding="utf-8") == benchmark.plot(content)
        assert all(row["repeats"] >= 3 for row in content)


@pytest.mark.parametrize(("name", "most"), [("memory", 0.009), ("memory_allocator", 0.006)])
def test_plans_are_within_a_hundredth_of_what_the_allocator_held_but_for_the_workspace_of_its_library(
    name: str, most: float
) -> None:
    rows = [row for row in json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8")) if "measured" in row]
    assert {row["shape"] for row in rows} == {"shape:bert-large", "shape:llama-1b", "shape:llama-8b"}
    assert all(abs(row["difference_with_workspace"]) < most for row in rows)
    assert all(row["workspace"] < 70 * 2**20 for row in rows)


def test_what_a_cpu_plan_allows_beside_the_peak_is_enough_for_nine_runs_in_ten() -> None:
    from adapt.memory.budget import allowance

    found = [json.loads(path.read_text(encoding="utf-8"))["memory"] for path in ROOT.glob("results/**/runs/*.json")]
    told = [(m["peak_bytes"], m["process_bytes"]) for m in found if m.get("peak_bytes") and m.get("process_bytes")]
    assert len(told) > 500
    enough = sum(process <= peak + allowance(peak, "cpu") for peak, process in told)
    assert 0.9 < enough / len(told) < 0.97


class Done:
    """Stands in for a fork: the work is done at once."""

    done = True

    def __init__(self, work: Any, *arguments: Any) -> None:
        self.result = lambda: work(*arguments)


def run_cases(
    memory: ModuleType,
    file: Path,
    found: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    total: int,
    keep: bool = False,
) -> list[dict[str, Any]]:
    """Do what is not there on a GPU of so many bytes, on which each plan takes 1 GB; give what was done."""
    ran: list[dict[str, Any]] = []

    def measured(case: dict[str, Any], plan: dict[str, Any], made: int, total: int) -> dict[str, Any]:
        ran.append(case | {"made": made})
        done = {"left_out": "too large"} if total < 10**9 else {"measured": {}, "difference": 0.0}
        return {"gpu": "g", "total": total, "planned": plan, **done}

    stands_in = {
        "warm": lambda: None, "gpu_bytes": lambda: total, "gpu_name": lambda: "g", "Forked": Done, "measured": measured,
        "planned": lambda case: {"peak": 10**9, "weights": 16 * 10**9},
    }  # fmt: skip
    for name, value in stands_in.items():
        monkeypatch.setattr(memory, name, value)
    assert memory.run_all(file, found, keep=keep) == 0
    assert json.loads(file.read_text(encoding="utf-8")) == found
    return ran


def test_cases_are_measured_anew_with_newer_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory, file, found = module("memory"), tmp_path / "memory.json", list[dict[str, Any]]()
    every = len(list(memory.cases()))
    monkeypatch.setattr(memory, "commit", lambda: "first")
    assert len(run_cases(memory, file, found, monkeypatch, 80 * 10**9)) == every
    assert all(row["commit"] == "first" and row["torch"] for row in found)
    lost = next(row for row in found if row["strategy"] == "qlora")
    found.remove(lost)
    (again,) = run_cases(memory, file, found, monkeypatch, 80 * 10**9)
    assert again["made"] == 16 * 10**9  # by LoRA's plan, which was made earlier
    found[0]["torch"] = "2.6.0"
    del found[1]["commit"]
    assert len(run_cases(memory, file, found, monkeypatch, 80 * 10**9)) == 2
    monkeypatch.setattr(memory, "commit", lambda: "second")
    lost = found.pop()
    (again,) = run_cases(memory, file, found, monkeypatch, 80 * 10**9, keep=True)
    assert again.items() >= {name: lost[name] for name in ("shape", "strategy", "fields")}.items()
    assert len(run_cases(memory, file, found, monkeypatch, 10**8)) == every - 1  # the last is of this commit
    assert all("measured" in row for row in found)
    assert len(run_cases(memory, file, found, monkeypatch, 80 * 10**9)) == every - 1
    assert len(found) == every


def test_a_case_without_a_plan_does_not_keep_the_others_from_being_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    memory, found = module("memory"), list[dict[str, Any]]()

    def planned(case: dict[str, Any]) -> dict[str, Any]:
        if case["strategy"] == "qlora":
            raise RuntimeError("quantised loading needs the package bitsandbytes")
        return {"peak": 10**9, "weights": 10**9}

    stands_in = {
        "warm": lambda: None, "gpu_bytes": lambda: 80 * 10**9, "gpu_name": lambda: "g", "Forked": Done,
        "planned": planned, "measured": lambda *_: {"gpu": "g", "total": 80 * 10**9, "measured": {}, "difference": 0.0},
    }  # fmt: skip
    for name, value in stands_in.items():
        monkeypatch.setattr(memory, name, value)
    lost = [case for case in memory.cases() if case["strategy"] == "qlora"]
    assert memory.run_all(tmp_path / "memory.json", found) == len(lost)
    assert len(found) == len(list(memory.cases())) - len(lost)
    assert capsys.readouterr().err.count("needs the package bitsandbytes") == len(lost)


@pytest.mark.parametrize(("here", "there"), [("a stand-in for a GPU", "g"), ("g", "a stand-in for a GPU")])
def test_what_a_gpu_held_and_what_its_stand_in_did_are_kept_apart(
    here: str, there: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = module("memory")
    for name, value in {"warm": None, "gpu_bytes": 80 * 10**9, "gpu_name": here}.items():
        monkeypatch.setattr(memory, name, lambda value=value: value)
    monkeypatch.setattr(memory, "Forked", Done)
    with pytest.raises(SystemExit, match=r"memory\.json is of another kind of GPU; give the files another --name"):
        memory.run_all(tmp_path / "memory.json", [{"gpu": there, "measured": {}, "total": 1}])


def test_what_cannot_be_made_whole_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = module("memory")
    import torch

    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "g")
    case = next(case for case in memory.cases() if case["strategy"] == "qlora")
    for peak, made, reason in (
        (6, 16, "made in bf16 first, which would not fit"), (16, 16, "planned not to fit"),
    ):  # fmt: skip
        row = memory.measured(case, {"peak": peak * 10**9}, made * 10**9, 12 * 10**9)
        assert row["left_out"] == reason
        assert "measured" not in row


def test_rows_of_an_earlier_state_of_the_code_are_shown_as_such() -> None:
    memory = module("memory")
    old = json.loads((RESULTS / "memory.json").read_text(encoding="utf-8"))[:2]
    new = [row | {"commit": "abc123"} for row in old]
    assert "an earlier state of the code" in memory.measured_page([old[0], new[1]])
    assert memory.measured_page([old[0], new[1]]).count(f"{old[0]['gpu']}, abc123 |") == 1
    assert "an earlier state of the code" not in memory.measured_page(new)


def test_a_measured_case_is_planned_in_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the GPU has it only by emulation."""
    import torch

    memory = module("memory")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert memory._setting(next(memory.cases())).budget.precision == "bf16"


@pytest.mark.parametrize(
    ("shape", "strategies"),
    [("shape:bert-large", {"full", "head", "lora", "bottleneck", "prefix", "qlora"}), ("shape:llama-1b", {"full"})],
)
def test_todays_plans_are_what_was_counted_on_a_gpu(shape: str, strategies: set[str]) -> None:
    """But that head-only keeps less since then: of a row its first token."""
    memory = module("memory")
    rows = json.loads((RESULTS / "memory.json").read_text(encoding="utf-8"))
    for row in rows:
        if row["shape"] == shape and row["strategy"] in strategies:
            planned, counted = memory.planned(row)["peak"], row["measured"]["peak"]
            if row["strategy"] == "head":
                assert 0.98 * counted < planned < counted
            else:
                assert planned == pytest.approx(counted, rel=0.002)


def test_a_setting_of_a_short_schedule_is_judged_by_validation_over_sets_and_seeds() -> None:
    short = module("short_schedules")

    def result(task: str, metric: str, value: float, **fields: float) -> dict[str, Any]:
        return {
            "strategy": "prefix",
            "spec": {
                "strategy": {"name": "prefix", "learning_rate": 0.01, **fields},
                "task": {"name": task, "metric": metric},
            },
            "scores": {"validation": {metric: value, "loss": 9.0}, "test": {metric: 0.0}},
        }

    before = [result("one", "macro_f1", 0.2), result("one", "macro_f1", 0.4), result("two", "spearman", 0.7)]
    after = [result("one", "macro_f1", 0.5, warmup=0.3), result("two", "spearman", 0.9, warmup=0.3)]
    before += [result("two", "spearman", 0.7)]
    after += [result("one", "macro_f1", 0.5, warmup=0.3), result("two", "spearman", 0.9, warmup=0.3)]
    assert short.means(before + after) == {
        ("prefix", 0.01, 0.0): pytest.approx((0.5, 0.05)),  # results from before the field have none
        ("prefix", 0.01, 0.3): pytest.approx((0.7, 0.0)),
    }


def test_what_was_chosen_for_short_schedules_is_the_default_and_its_page_is_made_from_the_results() -> None:
    short, folder = module("short_schedules"), ROOT / "results" / "short_schedules"
    results = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((folder / "runs").glob("*.json"))]
    assert (folder / "validation.md").read_text(encoding="utf-8") == short.page(results)
    defaults = {name: recorded({"name": name, **fields_of(make(name))}) for name in short.RATES}
    assert short.chosen(results) == {name: (own["learning_rate"], own["warmup"]) for name, own in defaults.items()}


def test_the_learning_rates_that_were_chosen_are_the_defaults() -> None:
    """But those of bottleneck adapters and prefixes, which shorter schedules chose."""
    rates, runs = module("learning_rates"), (ROOT / "results" / "learning_rates" / "runs").glob("*.json")
    found = rates.chosen([json.loads(path.read_text(encoding="utf-8")) for path in sorted(runs)])
    for name in ("full", "head", "lora"):
        assert found[name] == make(name).learning_rate
    assert make("qlora").learning_rate == make("lora").learning_rate
