"""The memo of a frozen encoder: every row is encoded once, and nothing else changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from torch import nn

from adapt.adapted import assemble, load_model
from adapt.backbones import Loader
from adapt.backbones import memo as memo_module
from adapt.backbones.calls import goes_on
from adapt.backbones.memo import Memo, memos_of
from adapt.backbones.memoise import MemoBase, MemoDecoder, hand_on, memoise, release, share
from adapt.backbones.shelf import KEY_BYTES, ROW_BYTES, Features, Shelf
from adapt.data import Data
from adapt.inputs import Inputs
from adapt.result import Result
from adapt.run import fit
from adapt.spec import Unsupported
from adapt.strategies import Head
from adapt.tasks import SequenceClassification
from adapt.training import train


class Encoder(nn.Module):
    """Token features that tell by their values which token, segment and place they came from."""

    def __init__(self, pooled: bool) -> None:
        super().__init__()
        self.pooled = pooled
        self.calls: list[tuple[int, ...]] = []

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor | None = None
    ) -> torch.Tensor:
        self.calls.append(tuple(input_ids.shape))
        place = attention_mask.cumsum(1) * attention_mask
        segment = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
        features = torch.stack([input_ids, place, segment], -1).float() + 100 * (1 - attention_mask)[..., None]
        return (features * attention_mask[..., None]).sum(1) if self.pooled else features


def batch_of(rows: list[list[int]], left: bool = False, segments: list[int] | None = None) -> dict[str, torch.Tensor]:
    length = max(map(len, rows))

    def pad(row: list[int]) -> list[int]:
        return [0] * (length - len(row)) + row if left else row + [0] * (length - len(row))

    batch = {
        "input_ids": torch.tensor([pad(row) for row in rows]),
        "attention_mask": torch.tensor([pad([1] * len(row)) for row in rows]),
    }
    if segments is not None:
        batch["token_type_ids"] = torch.tensor([pad([s] * len(r)) for s, r in zip(segments, rows, strict=True)])
    return batch


ROWS = [[5, 6, 7], [8], [5, 6], [9, 9, 9, 9], [5, 6, 7]]


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("max_bytes", [0, 12, 60, 2**20])
def test_the_memo_gives_what_the_encoder_gives(pooled: bool, left: bool, max_bytes: int) -> None:
    memo, plain = Memo(Encoder(pooled), max_bytes), Encoder(pooled)
    for rows in (ROWS, ROWS[::-1], ROWS[1:3], [[1, 2, 3, 4, 5, 6]], ROWS):
        batch = batch_of(rows, left)
        expected = plain(**batch)
        if not pooled:
            expected = expected * batch["attention_mask"][..., None]
        assert torch.equal(memo(**batch), expected)
        assert memo.nbytes <= max_bytes


def test_each_row_is_encoded_once_also_where_rows_are_equal() -> None:
    memo = Memo(Encoder(True), 2**20)
    memo(**batch_of(ROWS))
    assert memo.encoded_rows == 4  # of five rows two are the same
    assert memo.features.calls == [(4, 4)]
    memo(**batch_of(ROWS[::-1]))
    memo(**batch_of([ROWS[1], ROWS[1]]))
    assert memo.encoded_rows == 4
    memo(**batch_of([[1, 2], *ROWS, [1, 2]]))
    assert memo.features.calls == [(4, 4), (1, 2)]  # only the new row, cut to its own length


def test_a_row_is_padded_alike_in_whatever_batch_it_comes() -> None:
    memo = Memo(Encoder(True), 1, longest=10)  # room for none of them
    rows = [[1] * n for n in (1, 7, 8, 9, 10)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        memo(**batch_of(rows))
        assert sorted(memo.features.calls) == [(2, 10), (3, 8)]  # no further than the encoder has positions
        memo.features.calls.clear()
        for row in rows:
            memo(**batch_of([row]))
    assert memo.features.calls == [(1, 8), (1, 8), (1, 8), (1, 10), (1, 10)]


def test_rows_beyond_the_budget_are_encoded_each_time() -> None:
    memo = Memo(Encoder(True), 2 * 3 * 4)  # two vectors of three float32
    for _ in range(3):
        memo(**batch_of([[1], [2], [3], [4]]))
    assert memo.encoded_rows == 4 + 2 + 2
    assert memo.nbytes == 24


@pytest.mark.parametrize("left", [False, True])
def test_a_memo_that_may_keep_nothing_encodes_each_batch_as_it_is(left: bool) -> None:
    memo = Memo(Encoder(False), 0)
    batch = batch_of(ROWS, left)
    for _ in range(2):
        with torch.autocast("cpu", dtype=torch.bfloat16):  # rows that are kept would be padded to multiples
            features = memo(**batch)
        assert torch.equal(features, Encoder(False)(**batch) * batch["attention_mask"][..., None])
    assert memo.features.calls == [(5, 4), (5, 4)]
    assert memo.encoded_rows == 10
    assert memo.buffer is None


def test_segments_tell_rows_apart() -> None:
    memo = Memo(Encoder(False), 2**20)
    first = memo(**batch_of([[5, 6]], segments=[0]))
    second = memo(**batch_of([[5, 6]], segments=[1]))
    assert memo.encoded_rows == 2
    assert not torch.equal(first, second)


def test_what_lies_in_the_padding_does_not_matter() -> None:
    memo = Memo(Encoder(False), 2**20)
    batch = batch_of([[5, 6], [7, 8, 9]])
    memo(**batch)
    batch["input_ids"][0, 2] = 33
    memo(**batch)
    assert memo.encoded_rows == 2


def test_neighbours_of_ids_are_not_confused() -> None:
    """Keys are bytes: rows whose ids run together must stay apart."""
    memo = Memo(Encoder(True), 2**20)
    rows = [[1], [256], [1, 0], [0, 1], [1, 256], [65536]]
    batch = batch_of(rows, segments=[0] * 6)
    assert torch.equal(memo(**batch), Encoder(True)(**batch))
    assert memo.encoded_rows == len(rows)


def test_rows_that_differ_in_anything_have_keys_of_their_own() -> None:
    """Each beside the first, in one thing: its mask, its segments, its target, the mask of that, where one ends."""
    rows = [
        ([5, 6], [1, 1], [0, 0], [7, 8], [1, 1]),
        ([5, 6], [1, 0], [0, 0], [7, 8], [1, 1]),
        ([5, 6], [1, 1], [0, 1], [7, 8], [1, 1]),
        ([5, 6], [1, 1], [0, 0], [7, 9], [1, 1]),
        ([5, 6], [1, 1], [0, 0], [7, 8], [1, 0]),
    ]
    names = ("input_ids", "attention_mask", "token_type_ids", "decoder_input_ids", "decoder_attention_mask")
    batch = {name: torch.tensor(values) for name, values in zip(names, zip(*rows, strict=True), strict=True)}
    memo = Memo(Encoder(True), 2**20)
    assert len(set(memo.keys(batch))) == len(rows)
    parted = {"input_ids": [[1, 2, 0], [2, 0, 0]], "decoder_input_ids": [[3, 0, 0], [3, 1, 0]]}
    masks = {"attention_mask": [[1, 1, 0], [1, 0, 0]], "decoder_attention_mask": [[1, 0, 0], [1, 1, 0]]}
    one, other = memo.keys({name: torch.tensor(value) for name, value in {**parted, **masks}.items()})
    assert one != other  # whose targets and sources run together alike


def test_the_encoder_stays_in_eval_mode() -> None:
    memo = Memo(nn.Sequential(nn.Dropout(0.5)), 0)
    assert memo.train() is memo
    assert memo.training
    assert not any(module.training for module in memo.features.modules())


@pytest.fixture(scope="session")
def doubled(task_data: Callable[[str], Data]) -> Data:
    """Training rows that are each there twice."""
    import dataclasses

    data = task_data("single_label")
    train = data.splits["train"]
    return dataclasses.replace(
        data, splits={**data.splits, "train": train.select([i for i in range(len(train)) for _ in "ab"])}
    )


def trained(backbone: Path, data: Data, pooling: Any, *, memo: bool, max_bytes: int = 2**30) -> Any:
    run, _, source = assemble(
        backbone, data, Head(learning_rate=2e-2), pooling=pooling, epochs=3, batch_size=16, precision="fp32",
        device="cpu", dropout=0.0,
    )  # fmt: skip
    loader = Loader(source, run.task, run.budget, 0)
    model = tiny.without_dropout(loader(frozen=True))
    encoder = model.base_model
    seen: list[int] = []
    encoder.register_forward_hook(lambda module, inputs, out: seen.append(len(out[0])))
    if memo:
        memoise(model, max_bytes)
    kind = SequenceClassification(run.task, loader.tokenizer())
    parts = {name: kind.encode(rows) for name, rows in data.splits.items()}
    done = train(
        model, kind, parts["train"], parts["validation"], run.budget, learning_rate=2e-2, metric="accuracy",
        higher_is_better=True, seed=0,
    )  # fmt: skip
    return model, done, sum(seen), {tuple(e["input_ids"]) for rows in parts.values() for e in rows}, parts


@pytest.mark.parametrize(
    ("architecture", "pooling"),
    [("bert", "mean"), ("bert", "native"), ("albert", "native"), ("modernbert", "native"), ("distilbert", "native"),
     ("deberta-v2", "native"), ("electra", "native"), ("roberta", "mean")],
)  # fmt: skip
@pytest.mark.parametrize("max_bytes", [2**30, 3000])
def test_training_behind_a_memo_is_training_without_one(
    backbone: Callable[..., Path], doubled: Data, architecture: str, pooling: str, max_bytes: int
) -> None:
    """Also with BERT's own pooler, which is trained where the checkpoint lacks it, and where memory runs out."""
    folder = backbone(architecture)
    plain, expected, every, _, _ = trained(folder, doubled, pooling, memo=False)
    model, found, encoded, _, parts = trained(folder, doubled, pooling, memo=True, max_bytes=max_bytes)
    assert [p["loss"] for p in found.curve] == pytest.approx([p["loss"] for p in expected.curve], abs=1e-5)
    for (name, one), (other, two) in zip(
        ((n, p) for n, p in plain.named_parameters() if p.requires_grad),
        ((n, p) for n, p in model.named_parameters() if p.requires_grad),
        strict=True,
    ):
        assert name == other
        torch.testing.assert_close(two, one, rtol=1e-3, atol=1e-4)
    rows = {tuple(e["input_ids"]) for e in (*parts["train"], *parts["validation"])}
    assert every == 3 * (len(parts["train"]) + len(parts["validation"]))
    if max_bytes == 2**30:
        assert encoded == len(rows)  # once a row: neither once an epoch, nor once for each copy
    else:
        assert len(rows) < encoded < every


def test_a_fitted_model_has_no_memo(backbone: Callable[..., Path], doubled: Data, tmp_path: Path) -> None:
    from adapt.adapted import Adapted

    for pooling in ("mean", "native"):
        run, data, source = assemble(
            backbone("bert"), doubled, Head(), pooling=pooling, epochs=1, device="cpu", precision="fp32"
        )
        result, fitted = fit(run, Inputs(data, source))
        loaded = load_model(Adapted(fitted, run, source, result).save(tmp_path), device="cpu")
        for model in (fitted.model, loaded.fitted.model):
            assert not any(isinstance(module, (Memo, MemoBase)) for module in model.modules())


@pytest.mark.parametrize("architecture", tiny.ENCODERS)
@pytest.mark.parametrize("pooling", ["mean", "native"])
def test_release_undoes_memoise(backbone: Callable[..., Path], doubled: Data, architecture: str, pooling: Any) -> None:
    run, _, source = assemble(backbone(architecture), doubled, Head(), pooling=pooling, device="cpu", precision="fp32")
    loader = Loader(source, run.task, run.budget, 0)
    model: Any = loader(frozen=True)
    kind = SequenceClassification(run.task, loader.tokenizer())
    batch = kind.collate(kind.encode(doubled.splits["test"].remove_columns("label")))
    names = [name for name, _ in model.named_parameters()]
    with torch.no_grad():
        expected = model.eval()(**batch).logits
        memoise(model, 2**20)
        torch.testing.assert_close(model.eval()(**batch).logits, expected)  # padded otherwise
        release(model)
        assert torch.equal(model.eval()(**batch).logits, expected)
    assert sorted(name for name, _ in model.named_parameters()) == sorted(names)


# Shared between runs


@pytest.mark.parametrize("architecture", tiny.ENCODERS)
def test_features_are_the_same_to_the_bit_in_any_batch(
    backbone: Callable[..., Path], doubled: Data, architecture: str
) -> None:
    """In bf16: float32 products on CPUs depend in their last bits on the number of rows."""
    run, _, source = assemble(backbone(architecture), doubled, Head(), device="cpu", precision="bf16")
    loader = Loader(source, run.task, run.budget, 0)
    kind = SequenceClassification(run.task, loader.tokenizer())
    examples = kind.encode(doubled.splits["train"].remove_columns("label"))[:20]
    found = []
    for size in (20, 7, 1):
        model: Any = loader(frozen=True)
        memoise(model, 2**20)
        (memo,) = memos_of(model)
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            for start in range(0, len(examples), size):
                model.eval()(**kind.collate(examples[start : start + size]))
        found.append({key: memo._read(key) for key in memo._rows})
    assert found[0].keys() == found[1].keys() == found[2].keys()
    for key, feature in found[0].items():
        assert torch.equal(feature, found[1][key])
        assert torch.equal(feature, found[2][key])


def head_run(backbone: Path, data: Data, seed: int, shelf: Path | None) -> tuple[Result, nn.Module]:
    run, rows, source = assemble(backbone, data, Head(), seed=seed, epochs=2, device="cpu", precision="bf16")
    result, fitted = fit(run, Inputs(rows, source, features=shelf))
    return result, fitted.model


@pytest.mark.parametrize("pooling", ["bert", "gpt2", "t5"])
def test_runs_share_features_and_give_the_same_bits(
    backbone: Callable[..., Path], doubled: Data, pooling: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[int] = []
    encode = Memo._encode
    monkeypatch.setattr(
        Memo, "_encode", lambda self, batch, rows: (encoded.append(len(rows)), encode(self, batch, rows))[1]
    )
    folder = backbone(pooling)
    alone, model = head_run(folder, doubled, 1, None)
    first, _ = head_run(folder, doubled, 0, tmp_path)
    encoded.clear()
    second, other = head_run(folder, doubled, 1, tmp_path)
    assert encoded == [16]  # the step whose memory is measured
    assert second.scores == alone.scores
    assert [p["loss"] for p in second.curve] == [p["loss"] for p in alone.curve]
    for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    assert any("an earlier run had left them" in note for note in second.notes)
    assert not any("an earlier run" in note for note in (*alone.notes, *first.notes))
    for file in tmp_path.glob("*/*.safetensors"):
        file.write_bytes(file.read_bytes()[:50])  # what cannot be read is computed again
    third, _ = head_run(folder, doubled, 1, tmp_path)
    assert sum(encoded) > 16
    assert third.scores == alone.scores


def test_a_shelf_is_for_one_backbone_and_one_way_to_compute(
    backbone: Callable[..., Path], doubled: Data, tmp_path: Path
) -> None:
    for architecture, choices in (
        ("bert", {}),
        ("bert", {"precision": "fp32"}),
        ("electra", {}),
        ("bert", {"pooling": "native"}),
    ):
        run, rows, source = assemble(
            backbone(architecture),
            doubled,
            Head(),
            epochs=1,
            device="cpu",
            **{"precision": "bf16", "pooling": "mean", **choices},
        )
        result, _ = fit(run, Inputs(rows, source, features=tmp_path))
        assert not any("an earlier run" in note for note in result.notes)
    assert len(list(tmp_path.iterdir())) == 3  # in float32 nothing is shared


def test_a_shelf_holds_no_more_than_it_may(tmp_path: Path) -> None:
    for max_bytes, files in ((100, 0), (1000, 1)):
        for token in (1, 2, 3):
            memo = Memo(Encoder(False), 2**20)
            memo.share(Shelf(tmp_path, max_bytes))
            memo(**batch_of([[token] * 30]))
            memo.hand_on()
        assert len(list(tmp_path.glob("*"))) == files
    assert sum(file.stat().st_size for file in tmp_path.glob("*")) <= 1000
    memo = Memo(Encoder(False), 100)  # nor does a memo take over more than it may
    memo.share(Shelf(tmp_path, 1000))
    assert torch.equal(memo(**batch_of([[1] * 30])), Encoder(False)(**batch_of([[1] * 30])))


def test_a_shelf_has_a_file_for_the_rows_of_each_run_and_one_for_equal_ones(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, 2**20)
    one, other = (Features([bytes([i]) * KEY_BYTES], [2], torch.full((2, 4), float(i)), False) for i in (1, 2))
    for features in (one, other, one):
        assert shelf.write(features)
    found = {features.keys[0]: features.values for features in shelf.read()}
    assert len(list(tmp_path.iterdir())) == len(found) == 2
    assert all(torch.equal(found[features.keys[0]], features.values) for features in (one, other))


def test_a_shelf_is_as_large_as_the_memo_that_uses_it(tmp_path: Path) -> None:
    for token in (1, 2):
        memo = Memo(Encoder(False), 500, name="here")
        share(nn.Sequential(memo), tmp_path)
        memo(**batch_of([[token] * 30]))
        assert hand_on(nn.Sequential(memo)) == 0
        assert len(list((tmp_path / "here").iterdir())) == 1


# Every kind on every architecture


def memo_of(model: Any) -> Memo:
    return next(iter(memos_of(model)))


def parts(inputs: dict[str, torch.Tensor], rows: list[int]) -> dict[str, torch.Tensor]:
    """Some rows, padded to their own longest."""
    picked = {name: value[rows] for name, value in inputs.items()}
    length = int(picked["attention_mask"].sum(1).max())
    return {n: v if n.startswith("decoder_") else v[:, :length] for n, v in picked.items()}


@pytest.mark.parametrize(
    ("kind", "architecture", "precision"),
    [*((*cell, "fp32") for cell in tiny.TASK_CELLS), *((*cell, "bf16") for cell in tiny.BODIES)],
)
def test_the_body_runs_once_a_row_and_gets_no_gradient(
    backbone: Callable[..., Path], kind: str, architecture: str, precision: str
) -> None:
    load = tiny.loader_for(backbone(architecture), kind, precision=precision)
    plain = tiny.without_dropout(load(frozen=True, output_layer=True)).eval()
    model = tiny.without_dropout(Head().build(load, load.task)).train()
    inputs = tiny.inputs_for(architecture, kind)
    # what is computed for the body is counted beyond the memo's own count
    body = [m for m in model.modules() if isinstance(m, nn.Embedding) and m.num_embeddings == len(tiny.VOCABULARY)]
    seen: list[int] = []
    for module in {id(m): m for m in body}.values():
        module.register_forward_hook(lambda m, args, out: seen.append(len(out)))
    batches = [[0, 1, 2], [2, 1], [1], [0, 2], [2, 1, 0]]
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")
    close = {"rtol": 1e-4, "atol": 1e-5} if precision == "fp32" else {"rtol": 0.05, "atol": 0.1}
    for rows in batches:
        batch = parts(inputs, rows)
        with autocast:
            found = tiny.outputs_of(model, batch)
            with torch.no_grad():
                expected = tiny.outputs_of(plain, batch)
        torch.testing.assert_close(found.float(), expected.float(), **close)
        found.float().pow(2).sum().backward()
        assert memo_of(model).encoded_rows == 3
    assert sum(seen) == 3 * (2 if "decoder_input_ids" in inputs or both_sides(architecture, kind) else 1)
    gradients = {name for name, p in model.named_parameters() if p.grad is not None}
    assert gradients == model.head_names == {name for name, p in model.named_parameters() if p.requires_grad}


def both_sides(architecture: str, kind: str) -> bool:
    """Whether encoder and decoder embed the same text, each on its own."""
    return architecture in tiny.ENCODER_DECODERS and kind != "token_classification"


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("architecture", tiny.ENCODER_DECODERS)
def test_rows_of_an_encoder_decoder_are_told_apart_by_both_sides(
    backbone: Callable[..., Path], architecture: str, given: bool
) -> None:
    load = tiny.loader_for(backbone(architecture), "seq2seq")
    model, plain = Head().build(load, load.task).eval(), load(frozen=True, output_layer=True).eval()
    inputs = tiny.inputs_for(architecture, "seq2seq")
    ids = inputs["input_ids"]
    turned = {**inputs, "decoder_input_ids": inputs["decoder_input_ids"].roll(1, 0)}
    source = {**inputs, "decoder_input_ids": torch.cat([inputs["decoder_input_ids"][:, :1], ids[:, :-1]], 1)}
    for batch, count in ((inputs, 3), (turned, 6), (inputs, 6), (source, 9), (turned, 9)):
        if given:
            mask = (batch["decoder_input_ids"] != 0).long()
            mask[:, 0] = 1
            batch = {**batch, "decoder_attention_mask": mask}
        with torch.no_grad():
            found, expected = tiny.outputs_of(model, batch), tiny.outputs_of(plain, batch)
            if batch is source:
                found, expected = (x * batch["attention_mask"][..., None] for x in (found, expected))
        assert memo_of(model).encoded_rows == count
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("kind", "architecture"), [c for c in tiny.TASK_CELLS if c[0] in ("seq2seq", "causal_lm")])
@pytest.mark.parametrize("choices", [{}, {"num_beams": 3}, {"use_cache": False}], ids=str)
def test_generation_goes_past_the_memo(
    backbone: Callable[..., Path], kind: str, architecture: str, choices: dict[str, Any]
) -> None:
    load = tiny.loader_for(backbone(architecture), kind)
    model: Any = tiny.moved(Head().build(load, load.task)).eval()
    plain: Any = tiny.moved(load(frozen=True, output_layer=True)).eval()
    inputs = tiny.inputs_for(architecture, kind)
    prompt = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    if kind == "causal_lm":
        prompt = {name: value.flip(1) for name, value in prompt.items()}  # padded on the left
    with torch.no_grad():
        before = tiny.outputs_of(model, inputs)
    options = {"max_new_tokens": 6, "do_sample": False, **choices}
    expected = plain.generate(**prompt, **options)
    assert torch.equal(model.generate(**prompt, **options), expected)
    with torch.no_grad():
        assert torch.equal(tiny.outputs_of(model, inputs), before)
    release(model)
    assert torch.equal(model.generate(**prompt, **options), expected)


@pytest.mark.parametrize(("kind", "architecture"), tiny.TASK_CELLS)
def test_release_undoes_memoise_on_every_kind(backbone: Callable[..., Path], kind: str, architecture: str) -> None:
    load = tiny.loader_for(backbone(architecture), kind)
    model: Any = load(frozen=True, output_layer=True).eval()
    inputs = tiny.inputs_for(architecture, kind)
    names = sorted(name for name, _ in model.named_parameters())
    with torch.no_grad():
        expected = tiny.outputs_of(model, inputs)
        memoise(model, 2**20)
        assert memos_of(model)
        torch.testing.assert_close(tiny.outputs_of(model, inputs), expected, rtol=1e-5, atol=1e-6)
        release(model)
        assert not any(isinstance(module, (Memo, MemoBase, MemoDecoder)) for module in model.modules())
        assert torch.equal(tiny.outputs_of(model, inputs), expected)
    assert sorted(name for name, _ in model.named_parameters()) == names
    assert not model._forward_pre_hooks


def test_a_model_without_a_known_place_for_a_memo_is_unsupported() -> None:
    class Whole(nn.Module):
        @property
        def base_model(self) -> nn.Module:
            return self

    with pytest.raises(Unsupported, match="features of Whole"):
        memoise(Whole(), 0)


def test_a_shelf_on_a_full_disk_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors import SafetensorError

    from adapt.backbones import shelf

    def full(tensors: Any, path: Path) -> None:
        path.write_bytes(b"half")
        raise SafetensorError("No space left on device")

    monkeypatch.setattr(shelf, "save_file", full)
    features = shelf.Features([b"0" * shelf.KEY_BYTES], [1], torch.ones(1, 4), False)
    assert not Shelf(tmp_path / "s", 10_000).write(features)
    assert not list((tmp_path / "s").iterdir())


def test_of_features_that_do_not_all_fit_as_many_are_shared_as_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memo_module, "_PART_BYTES", 1000)  # so that there are several files
    rows = batch_of([[i % 50 + 1, i // 50 + 1] for i in range(100)])
    first, second, alone = (Memo(Encoder(False), 2**20) for _ in range(3))
    first.share(Shelf(tmp_path, 4000))
    expected = alone(**rows)
    assert torch.equal(first(**rows), expected)
    first.hand_on()
    assert len(list(tmp_path.glob("*"))) > 1
    held = sum(features.values.nbytes + ROW_BYTES * len(features.keys) for features in Shelf(tmp_path, 4000).read())
    assert held <= 4000
    second.share(Shelf(tmp_path, 4000))
    assert torch.equal(second(**rows), expected)
    assert second.shared_rows + second.encoded_rows == 100
    assert second.shared_rows > 20
    second.hand_on()
    assert sum(len(features.keys) for features in Shelf(tmp_path, 4000).read()) == second.shared_rows


def test_what_a_run_handed_on_itself_is_not_anothers(tmp_path: Path) -> None:
    rows = batch_of([[1, 2, 3]])
    for expected in (0, 1):
        memo = Memo(Encoder(False), 2**20)
        for _ in range(2):  # after its memory is measured a run looks at the shelf again
            memo.forget()
            memo.share(Shelf(tmp_path, 10_000))
            memo(**rows)
            memo.hand_on()
        assert (memo.shared_rows > 0) == bool(expected)


def test_a_memo_holds_the_rows_that_it_was_asked_for_and_no_others_of_the_shelf(tmp_path: Path) -> None:
    first, second = batch_of([[i % 50 + 1, i // 50 + 1] for i in range(2000)]), batch_of([[1, 1], [3, 2], [7, 7, 7]])
    other, alone, memo = (Memo(Encoder(False), 2**20) for _ in range(3))
    other.share(Shelf(tmp_path, 2**20))
    other(**first)
    other.hand_on()
    memo.share(Shelf(tmp_path, 2**20))
    assert torch.equal(memo(**second), alone(**second))
    assert memo.nbytes == alone.nbytes < other.nbytes
    assert (memo.shared_rows, memo.encoded_rows) == (2, 1)


def test_where_the_buffer_cannot_grow_rows_are_encoded_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    memo, plain = Memo(Encoder(True), 2**20), Encoder(True)
    first, second = batch_of(ROWS), batch_of([[i % 50 + 1, i // 50 + 1] for i in range(2000)])
    memo(**first)
    held = memo.nbytes
    grow = torch.Tensor.new_empty

    def full(self: torch.Tensor, *size: int, **options: object) -> torch.Tensor:
        if size[0] > 1024:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB.")
        return grow(self, *size, **options)

    monkeypatch.setattr(torch.Tensor, "new_empty", full)
    for _ in range(2):
        torch.testing.assert_close(memo(**second), plain(**second))
    assert memo.nbytes == held
    before = memo.encoded_rows
    memo(**first)
    assert memo.encoded_rows == before  # what was held stays


@pytest.mark.parametrize("name", ["cache", "past_key_values", "encoder_outputs", "inputs_embeds"])
def test_a_call_that_goes_on_from_an_earlier_one_is_told_from_one_of_rows(name: str) -> None:
    ids = torch.zeros(1, 2, dtype=torch.long)
    assert goes_on({"input_ids": ids, name: object()})
    assert not goes_on({"input_ids": ids, name: None})
