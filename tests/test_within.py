"""Plans against a budget: the most that fits, and what is advised where it does not."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from transformers import BertConfig, MambaConfig

import adapt
from adapt.backbones import resolve
from adapt.backbones.load import SHORT
from adapt.memory.budget import allowance
from adapt.memory.planner import Planner, Setting, setting_of
from adapt.memory.trace import Trace
from adapt.memory.within import _instead, advise, masks, most, plan_within, plans, with_budget
from adapt.spec import OptionError
from adapt.strategies import Head, make


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the configuration of the shipped decoder, with one of its layers, so that plans are made faster."""
    folder = tmp_path_factory.mktemp("decoder")
    values = json.loads((resolve("tiny-decoder").path / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**values, "num_hidden_layers": 1}))
    return folder


def advised(setting: Setting, batch: tuple[int, int], peak: int, most_rows: int = 0) -> str:
    """Advice for a device that holds such a peak and no more."""
    return advise(Planner(setting), batch, peak + allowance(peak, setting.budget.device) + 1000, most_rows, 0)


def test_the_most_that_fits_fits_and_one_more_does_not(decoder: Path) -> None:
    setting = setting_of(decoder, "lora", kind="causal_lm", device="cpu")
    peak = Planner(setting).memory(4, 64).peak
    budget = peak + allowance(peak, "cpu") + 1000
    found = plan_within(setting, "lora", (4, 64), budget)
    assert (found.verdict, found.largest_batch, found.longest_text) == ("tight", 4, 64)
    said = found.as_dict()
    assert (said["longest_text"], said["at_limit"], said["attention"], said["advice"]) == (64, False, "eager", None)

    small = plan_within(setting, "lora", (4, 64), budget - 2**20)
    assert small.verdict == "no"
    assert small.advice is not None
    for rows, fits in ((small.largest_batch, True), (small.largest_batch + 1, False)):  # type: ignore[operator]
        peak = Planner(setting).memory(rows, 64).peak  # type: ignore[arg-type]
        assert (peak + allowance(peak, "cpu") <= budget - 2**20) == fits
    assert "checkpointing" in small.advice


@pytest.mark.parametrize("largest", [0, 1, 2, 7, 100, 12_345])
@pytest.mark.parametrize("start", [1, 8, 4096])
def test_the_largest_number_is_found(largest: int, start: int) -> None:
    for grows in (lambda n: n, lambda n: n * n, lambda n: 5 if n <= largest else 10**9):
        asked: list[int] = []

        def room(n: int, grows: Any = grows, asked: list[int] = asked) -> int:
            asked.append(n)
            return int(grows(max(largest, 1)) * (largest > 0) - grows(n))

        assert most(room, start) == largest
        assert len(set(asked)) < 80
    assert most(lambda n: 1, start, limit=4096) == 4096


def test_fewer_bits_are_advised_where_nothing_else_serves(decoder: Path) -> None:
    saved = {"checkpointing": True, "loss_chunk": 1024, "kind": "causal_lm", "device": "cpu"}
    peak = Planner(setting_of(decoder, make("qlora", {"bits": 4}), **saved)).memory(1, 64).peak
    full = setting_of(decoder, "full", **saved)
    assert advised(full, (1, 64), peak).endswith("qlora with bits 4")


@pytest.mark.parametrize(
    ("share", "most_traces"), [(0.5, 6), (1.0, 11)], ids=["of the weights", "of the weights alone"]
)
def test_little_is_traced_where_nothing_fits(
    decoder: Path, monkeypatch: pytest.MonkeyPatch, share: float, most_traces: int
) -> None:
    setting = setting_of(decoder, "lora", kind="causal_lm", device="cuda")
    room = int(share * Planner(setting).memory(4, 64).weights)
    traced: list[tuple[int, int]] = []
    run = Trace.run

    def watched(self: Trace, rows: int, length: int, *targets: Any) -> Any:
        traced.append((rows, length))
        return run(self, rows, length, *targets)

    monkeypatch.setattr(Trace, "run", watched)
    found = plan_within(setting, "lora", (4, 64), room + allowance(room, "cuda"))
    assert (found.verdict, found.largest_batch, found.longest_text) == ("no", 0, 0)
    assert traced.count((4, 64)) == 1
    assert len(traced) <= most_traces


def test_what_is_advised_in_its_place_keeps_the_fields_that_both_have() -> None:
    lora = make("lora", {"rank": 2, "alpha": 3.0, "layers": "last:1", "learning_rate": 0.5})
    assert _instead(lora, "qlora", {"bits": 4}) == make(
        "qlora", {"rank": 2, "alpha": 3.0, "layers": "last:1", "learning_rate": 0.5, "bits": 4}
    )
    bottleneck = make("bottleneck", {"reduction_factor": 2.0, "embedding_rank": 4})
    assert _instead(bottleneck, "qlora", {}) == make(
        "qlora", {"embedding_rank": 4, "learning_rate": bottleneck.learning_rate}
    )


def test_a_remedy_that_a_model_cannot_have_does_not_take_the_others_along(
    decoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Granite scales its logits, so that they are not made in chunks. A remedy is tried with the rows of the batch."""
    values = json.loads((decoder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**values, "logits_scaling": 8.0}))
    setting = setting_of(tmp_path, "lora", kind="causal_lm", device="cuda")
    fewer = Planner(with_budget(setting, checkpointing=True, accumulation=2)).memory(1, 128).peak
    for changes, rows in (({"checkpointing": True}, 2), ({"accumulation": 2}, 1)):
        assert Planner(with_budget(setting, **changes)).memory(rows, 128).peak > fewer
    asked: list[int] = []
    memory = Planner.memory

    def watched(self: Planner, rows: int, length: int) -> Any:
        if self.setting.budget == with_budget(setting, checkpointing=True).budget:
            asked.append(rows)
        return memory(self, rows, length)

    monkeypatch.setattr(Planner, "memory", watched)
    assert advised(setting, (2, 128), fewer) == "checkpointing, batch 1 with accumulation 2"
    assert list(dict.fromkeys(asked)) == [1, 2]  # where one row had no room, two would not be tried


@pytest.mark.parametrize(("rows", "largest", "advice"), [(6, 4, "batch 3 with accumulation 2"), (5, 4, "batch 1 with")])
def test_accumulation_keeps_the_rows_of_an_update(decoder: Path, rows: int, largest: int, advice: str) -> None:
    setting = setting_of(decoder, "lora", kind="causal_lm", device="cpu", checkpointing=True)
    peak = Planner(with_budget(setting, accumulation=2)).memory(largest, 32).peak
    assert advised(setting, (rows, 32), peak, largest).startswith(advice)


def test_accumulation_there_is_already_is_multiplied(decoder: Path) -> None:
    setting = setting_of(decoder, "lora", kind="causal_lm", device="cpu", checkpointing=True, accumulation=3)
    assert advised(setting, (4, 32), Planner(setting).memory(2, 32).peak, 2) == "batch 2 with accumulation 6"


def test_shorter_texts_are_advised_where_they_would_fit(decoder: Path) -> None:
    """Also where the plan itself has no room for any, but one with fewer bits a weight does."""
    saved = {"kind": "causal_lm", "device": "cpu", "checkpointing": True}
    peak = Planner(setting_of(decoder, make("qlora", {"bits": 4}), **saved)).memory(1, 16).peak
    full = setting_of(decoder, "full", **saved)
    assert advised(full, (1, 256), peak) == "shorter texts, or a smaller backbone"
    assert advised(full, (1, 256), 2**20) == "a smaller backbone"


def test_where_bits_are_as_few_as_can_be_a_smaller_backbone_is_advised(decoder: Path) -> None:
    strategy = make("qlora", {"bits": 4})
    done = {"checkpointing": True, "optimizer": "adamw_8bit"}
    setting = setting_of(decoder, strategy, kind="causal_lm", device="cpu", **done)
    assert advised(setting, (1, 64), 2**20) == "a smaller backbone"


def test_shorter_texts_are_advised_where_no_fewer_bits_can_be_had(
    decoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapt.memory.within.SMALLER", (("qlora", {"bits": 8, "dora": True}),))  # which is unsupported
    setting = setting_of(decoder, "lora", kind="causal_lm", device="cpu")
    peak = Planner(with_budget(setting, checkpointing=True)).memory(1, 8).peak
    assert advised(setting, (1, 256), peak) == "shorter texts, or a smaller backbone"


@pytest.mark.parametrize("installed", [True, False])
def test_8_bit_states_are_advised_where_they_can_be_had(
    decoder: Path, monkeypatch: pytest.MonkeyPatch, installed: bool
) -> None:
    full = setting_of(decoder, "full", kind="causal_lm", device="cpu", checkpointing=True)
    peak = Planner(with_budget(full, optimizer="adamw_8bit")).memory(1, 32).peak
    if not installed:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert (advised(full, (1, 32), peak) == "optimizer adamw_8bit") == installed
    if installed:
        done = with_budget(full, optimizer="adamw_8bit")
        assert "adamw_8bit" not in advised(done, (1, 32), 2**20)


def test_a_strategy_without_a_plan_does_not_take_the_others_along() -> None:
    chosen = [make("lora", {"targets": "q_proj"}), make("untrained"), make("head")]
    reasons = [found.reason for found in plans("tiny-encoder", chosen, batch=(2, 8), budget=None, device="cpu")]
    assert "lora.targets names 'q_proj'" in str(reasons[0])
    assert reasons[1:] == ["it trains nothing, so that there is no step to plan", None]


class Own(Head):
    name = "own"


def test_a_strategy_of_ones_own_has_a_plan_and_is_called_by_what_differs_from_its_defaults() -> None:
    (found,) = plans("tiny-encoder", [Own(memo_bytes=0)], batch=(1, 8), budget=None, device="cpu")
    assert (found.strategy, found.reason) == ("own(memo_bytes=0)", None)


def test_the_longest_text_does_not_depend_on_the_one_asked_for(tmp_path: Path) -> None:
    """On CPUs memory falls where attention takes another kernel, after 256 tokens."""
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 4}
    BertConfig(vocab_size=100, max_position_embeddings=SHORT + 64, **sizes).save_pretrained(tmp_path)
    setting = setting_of(tmp_path, "lora", device="cpu", precision="bf16", dropout=0.0)
    short, long = (Planner(setting).memory(8, length).peak for length in (SHORT, SHORT + 1))
    assert long < short
    budget = (long + short) // 2
    budget += allowance(budget, "cpu")
    found = {plan_within(setting, "lora", (8, length), budget).longest_text for length in (128, 300)}
    assert len(found) == 1
    assert found.pop() > SHORT  # type: ignore[operator]


def test_a_remedy_that_the_architecture_lacks_is_left_out(backbone: Any) -> None:
    setting = setting_of(backbone("albert", layers=1), "full", kind="sequence_classification", device="cpu")
    smaller = Planner(dataclasses.replace(setting, strategy=make("qlora"))).memory(1, 32).peak
    assert advised(setting, (1, 32), smaller) == "qlora"


def test_a_language_model_on_a_gpu_is_advised_to_make_logits_in_chunks(decoder: Path) -> None:
    setting = setting_of(decoder, "head", kind="causal_lm", device="cuda")
    chunked = Planner(with_budget(setting, loss_chunk=1024)).memory(512, 64).peak
    assert chunked < Planner(with_budget(setting, checkpointing=True)).memory(512, 64).peak
    advice = advised(setting, (512, 64), chunked)
    assert advice is not None
    assert "loss_chunk 1024" in advice
    on_cpu = setting_of(decoder, "head", kind="causal_lm", device="cpu")
    assert "loss_chunk" not in (advised(on_cpu, (512, 64), chunked) or ""), "where it is done unasked"


def test_strategies_may_be_names_and_the_room_a_text(decoder: Path) -> None:
    found = plans(decoder, ["lora", Head()], batch=(2, 8), budget="1GiB", kind="causal_lm")
    assert [each.strategy for each in found] == ["lora", "head"]
    assert found[0] == plans(decoder, [make("lora")], batch=(2, 8), budget=2**30, kind="causal_lm")[0]
    with pytest.raises(OptionError, match="memory budget 'much' cannot be read"):
        plans(decoder, ["lora"], batch=(2, 8), budget="much", kind="causal_lm")
    with pytest.raises(OptionError, match=r"plan has no option 'budget'; adapt.memory.plans says what fits one"):
        adapt.plan(decoder, "lora", kind="causal_lm", budget="12GiB")


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_of_less_than_libraries_take_no_backbone_is_small_enough(decoder: Path, device: str) -> None:
    (found,) = plans(decoder, ["lora"], batch=(2, 8), budget="500MiB", kind="causal_lm", device=device)
    assert found.verdict == "no"
    assert (
        found.advice
        == f"more memory than this: {'1.5 GiB' if device == 'cpu' else '600.0 MiB'} are taken before any model"
    )


def test_the_mask_of_padded_rows_is_allowed_for_on_a_gpu(decoder: Path) -> None:
    one, two = (
        plans(decoder, ["lora"], batch=(rows, 64), budget="8GiB", kind="causal_lm")[0].allowance for rows in (1, 2)
    )
    peaks = [Planner(setting_of(decoder, "lora", kind="causal_lm")).memory(rows, 64).peak for rows in (1, 2)]
    assert one == allowance(peaks[0], "cuda")
    assert two == allowance(peaks[1], "cuda") + 3 * 2 * 64**2


def test_a_model_without_attention_has_no_mask(decoder: Path, tmp_path: Path) -> None:
    MambaConfig(vocab_size=50, hidden_size=32, state_size=4, num_hidden_layers=1).save_pretrained(tmp_path)
    assert masks(setting_of(tmp_path, "full", kind="causal_lm"), 2, 64) == 0
    assert masks(setting_of(decoder, "full", kind="causal_lm"), 2, 64) == 3 * 2 * 64**2
