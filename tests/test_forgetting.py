"""What a backbone forgets: its loss on general text under its own language-model head, before and after a run."""

from __future__ import annotations

import dataclasses
import gzip
import json
import math
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import tiny_tasks
import torch
import transformers
from click.testing import CliRunner
from comparison_helpers import in_this_process

import adapt
from adapt import params
from adapt.adapted import Adapted, fit_model
from adapt.backbones import Loader
from adapt.backbones.chunked import few_tokens
from adapt.backbones.language_head import language_class, put_under
from adapt.cli import cli
from adapt.comparison import grid
from adapt.data import Data
from adapt.data.general import read_general
from adapt.spec import AdaptError, DataError, OptionError, Unsupported
from adapt.tasks.general import GeneralText, text_rows
from adapt.tasks.language import language_losses
from adapt.training.forgetting import forgetting

_draw = random.Random(7)
TEXTS = [" ".join(_draw.choices(tiny.VOCABULARY[5:], k=k)) for k in (2, 3, 5, 8, 13, 21, 30, 44, 60)]
CHOICES: dict[str, Any] = {
    "epochs": 1, "batch_size": 16, "device": "cpu", "precision": "fp32", "max_length": 32, "general": TEXTS,
}  # fmt: skip
HEADED = {
    "bert": transformers.BertForMaskedLM,
    "roberta": transformers.RobertaForMaskedLM,
    "distilbert": transformers.DistilBertForMaskedLM,
    "electra": transformers.ElectraForMaskedLM,
    "albert": transformers.AlbertForMaskedLM,
    "deberta-v2": transformers.DebertaV2ForMaskedLM,
    "modernbert": transformers.ModernBertForMaskedLM,
    "gpt2": transformers.GPT2LMHeadModel,
    "llama": transformers.LlamaForCausalLM,
    "qwen3": transformers.Qwen3ForCausalLM,
}
"""The class that each architecture was pretrained as."""


@pytest.fixture(scope="session")
def headed(backbone: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folder of a tiny backbone that has the head it was pretrained with; made once."""
    root = tmp_path_factory.mktemp("headed")

    def make(architecture: str) -> Path:
        folder = root / architecture
        if not folder.exists():
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(3)
                model = HEADED[architecture].from_pretrained(backbone(architecture))
                for name, parameter in model.named_parameters():
                    if name.endswith("bias"):
                        torch.nn.init.normal_(parameter, std=0.3)
            model.save_pretrained(folder)
            tiny.tokenizer_for(architecture).save_pretrained(folder)
        return folder

    return make


@pytest.fixture
def data(task_data: Callable[[str], Data]) -> Data:
    return task_data("single_label")


def measured(model: Adapted) -> dict[str, Any]:
    assert model.result is not None
    assert not [note for note in model.result.notes if "forgetting" in note]
    assert set(model.result.forgetting) == {"before", "after", "tokens", "predicts"}
    return dict(model.result.forgetting)


def plain_loss(model: Any, architecture: str) -> tuple[float, int]:
    """transformers' own loss of each text by itself, over their tokens."""
    tokenizer = tiny.tokenizer_for(architecture)
    text = GeneralText(tokenizer, architecture in tiny.ENCODERS)
    total, count = 0.0, 0
    for row in text.encode(TEXTS, 32):
        inputs = {name: torch.tensor([row[name]]) for name in row}
        n = sum(label != -100 for label in row["labels"][0 if text.masked else 1 :])
        with torch.no_grad():
            total += n * float(model.eval()(**inputs).loss)
        count += n
    return total / count, count


@pytest.mark.parametrize("architecture", HEADED)
def test_it_is_the_loss_that_transformers_gives_the_adapted_weights(
    architecture: str, headed: Callable[[str], Path], data: Data
) -> None:
    folder = headed(architecture)
    model = fit_model(folder, data, adapt.Full(learning_rate=1e-2), **CHOICES)
    found = measured(model)
    plain = HEADED[architecture].from_pretrained(folder)
    assert plain_loss(plain, architecture) == (pytest.approx(found["before"], rel=1e-5), found["tokens"])
    body = {name: value for name, value in model.fitted.model.base_model.state_dict().items() if "pooler" not in name}
    plain.base_model.load_state_dict(body)  # and with it an output layer that is tied to its word embeddings
    assert plain_loss(plain, architecture) == (pytest.approx(found["after"], rel=1e-5), found["tokens"])
    assert abs(found["after"] - found["before"]) > 2e-4
    assert found["predicts"] == ("masked tokens" if architecture in tiny.ENCODERS else "next tokens")


@pytest.mark.parametrize(
    ("strategy", "precision", "architecture"),
    [("head", "bf16", "bert"), ("head", "bf16", "llama"), *(("untrained", "fp32", name) for name in HEADED)],
)
def test_a_backbone_that_was_not_changed_has_forgotten_nothing(
    strategy: str, precision: str, architecture: str, headed: Callable[[str], Path], data: Data
) -> None:
    found = measured(fit_model(headed(architecture), data, strategy, **{**CHOICES, "precision": precision}))
    assert found["after"] == found["before"]


@pytest.mark.parametrize(
    ("strategy", "dtype"),
    [(adapt.LoRA(), torch.bfloat16), (adapt.LoRA(embedding_rank=2), torch.bfloat16), (adapt.Full(), torch.float32)],
)
def test_the_backbone_is_loaded_once_more_as_its_frozen_weights_are(
    strategy: Any, dtype: torch.dtype, headed: Callable[[str], Path], data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    load = Loader.language_model

    def language_model(loader: Loader, of: torch.dtype) -> Any:
        seen.append(of)
        return load(loader, of)

    monkeypatch.setattr(Loader, "language_model", language_model)
    measured(fit_model(headed("bert"), data, strategy, **{**CHOICES, "precision": "bf16"}))
    assert seen == [dtype]


@pytest.mark.parametrize("architecture", ["bert", "modernbert", "llama"])
@pytest.mark.parametrize("strategy", [name for name in tiny.STRATEGIES if name not in ("full", "head")])
def test_every_adaptation_takes_part_and_none_is_changed_by_it(
    strategy: str, architecture: str, headed: Callable[[str], Path], data: Data
) -> None:
    made = fit_model(headed(architecture), data, tiny.STRATEGIES[strategy], **CHOICES)
    found = measured(made)
    again = forgetting(made.fitted.model, made.fitted.loader, TEXTS)
    assert again == found
    tiny.moved(made.fitted.model, 0.3)
    moved = forgetting(made.fitted.model, made.fitted.loader, TEXTS)
    assert moved["before"] == found["before"]
    assert abs(moved["after"] - found["after"]) > 1e-3


def test_a_merged_model_has_the_loss_of_the_one_that_was_measured(
    headed: Callable[[str], Path], data: Data, tmp_path: Path
) -> None:
    lora = adapt.LoRA(learning_rate=1e-2, rank=4, embedding_rank=2, embedding_rate=0.05)
    made = fit_model(headed("gpt2"), data, lora, **CHOICES)
    found = measured(made)
    assert abs(found["after"] - found["before"]) > 0.01
    body = transformers.AutoModel.from_pretrained(made.merge(tmp_path / "merged"))
    plain = HEADED["gpt2"].from_pretrained(headed("gpt2"))
    frozen = plain.lm_head.weight.detach().clone()
    plain.base_model.load_state_dict(body.state_dict())
    plain.lm_head.weight = torch.nn.Parameter(frozen)  # an update of the word embeddings leaves the output layer alone
    assert plain_loss(plain, "gpt2")[0] == pytest.approx(found["after"], rel=1e-4)


@pytest.mark.parametrize(
    ("architecture", "strategy"),
    [
        *(("gpt2", name) for name in tiny.STRATEGIES),
        *((a, name) for a in ("llama", "qwen3") for name in ("full", "head")),
    ],
)
def test_a_language_model_is_measured_as_it_is(strategy: str, architecture: str, headed: Callable[[str], Path]) -> None:
    folder = headed(architecture)
    made = fit_model(folder, tiny_tasks.TASKS["completion"](), tiny.STRATEGIES[strategy], **CHOICES)
    found = measured(made)
    assert plain_loss(HEADED[architecture].from_pretrained(folder), architecture)[0] == pytest.approx(
        found["before"], rel=1e-5
    )
    assert plain_loss(made.fitted.model, architecture)[0] == pytest.approx(found["after"], rel=1e-5)
    assert found["after"] != found["before"]  # under the head alone too, which trains the output layer


def test_a_text_is_scored_alike_alone_and_beside_longer_ones(headed: Callable[[str], Path], data: Data) -> None:
    made = fit_model(headed("roberta"), data, "lora", **CHOICES)
    loader = dataclasses.replace(made.fitted.loader, budget=dataclasses.replace(made.run.budget, batch_size=1))
    alone = forgetting(made.fitted.model, loader, TEXTS)
    assert alone == {**measured(made), **{name: pytest.approx(alone[name], rel=1e-5) for name in ("before", "after")}}


@pytest.mark.parametrize("strategy", ["full", "prefix"])
def test_nothing_else_of_a_run_is_changed_by_it(strategy: str, headed: Callable[[str], Path], data: Data) -> None:
    with_it, without = (
        fit_model(headed("bert"), data, tiny.STRATEGIES[strategy], **{**CHOICES, "general": general})
        for general in (TEXTS, None)
    )
    states = [params.trainable_state(model.fitted.model) for model in (with_it, without)]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    first, second = with_it.result, without.result
    assert first is not None
    assert second is not None
    assert first.scores == second.scores
    assert first.test_outcomes == second.test_outcomes
    assert first.memory == second.memory
    assert [(p["loss"], p["validation"]) for p in first.curve] == [(p["loss"], p["validation"]) for p in second.curve]
    assert first.notes == second.notes
    assert second.forgetting == {}
    assert with_it.predict(["sunny word1"]) == without.predict(["sunny word1"])
    assert with_it.run.key() != without.run.key()
    assert "general" not in without.run.spec()
    assert with_it.run.spec()["general"] == {"name": "texts", "sha256": read_general(TEXTS).source.sha256}


def test_a_model_that_was_measured_is_saved_and_loaded(
    headed: Callable[[str], Path], data: Data, tmp_path: Path
) -> None:
    made = fit_model(headed("bert"), data, "lora", **CHOICES)
    loaded = adapt.load(made.save(tmp_path / "model"), device="cpu")
    assert loaded.run == made.run
    assert json.loads((tmp_path / "model" / "result.json").read_text())["forgetting"] == measured(made)


@pytest.mark.parametrize(
    ("architecture", "reason"),
    [
        (
            "distilbert",
            "the checkpoint has no language-model head that transformers reads (it lacks vocab_layer_norm.bias",
        ),
        ("modernbert", "the checkpoint has no language-model head that transformers reads (it lacks decoder.bias"),
        (
            "electra",
            "the checkpoint has no language-model head that transformers reads (it lacks generator_lm_head.bias",
        ),
        ("t5", "'t5' is an encoder-decoder, which predicts a text from another"),
        ("bart", "'bart' is an encoder-decoder, which predicts a text from another"),
    ],
)
def test_without_a_pretrained_head_the_run_goes_on_and_says_so(
    architecture: str, reason: str, backbone: Callable[..., Path], data: Data
) -> None:
    result = fit_model(backbone(architecture), data, "lora", **CHOICES).result
    assert result is not None
    assert result.scores["test"]
    assert result.forgetting == {}
    (note,) = (note for note in result.notes if "forgetting" in note)
    assert note.startswith(f"forgetting was not measured: {reason}")


@pytest.mark.parametrize("architecture", ["bert", "roberta", "albert", "deberta-v2"])
def test_a_head_whose_bias_has_two_names_may_be_missing(
    architecture: str, headed: Callable[[str], Path], data: Data, tmp_path: Path
) -> None:
    transformers.AutoModel.from_pretrained(headed(architecture)).save_pretrained(tmp_path)
    tiny.tokenizer_for(architecture).save_pretrained(tmp_path)
    result = fit_model(tmp_path, data, "head", **CHOICES).result
    assert result is not None
    assert result.notes[-1].startswith(
        "forgetting was not measured: the checkpoint has no language-model head that transformers reads (it lacks "
    )


def test_a_checkpoint_of_the_body_alone_has_the_head_that_is_tied_to_it(
    backbone: Callable[..., Path], data: Data, tmp_path: Path
) -> None:
    """GPT-2's output layer is its word embeddings; Llama's is its own, without which there is none."""
    for architecture in ("gpt2", "llama"):
        body = transformers.AutoModel.from_pretrained(backbone(architecture))
        body.save_pretrained(tmp_path / architecture)
        tiny.tokenizer_for(architecture).save_pretrained(tmp_path / architecture)
    tied = fit_model(tmp_path / "gpt2", data, "untrained", **CHOICES)
    assert plain_loss(HEADED["gpt2"].from_pretrained(backbone("gpt2")), "gpt2")[0] == pytest.approx(
        measured(tied)["before"], rel=1e-5
    )
    result = fit_model(tmp_path / "llama", data, "untrained", **CHOICES).result
    assert result is not None
    assert "it lacks lm_head.weight)" in result.notes[-1]


def test_the_head_is_that_of_the_pretraining() -> None:
    both = [transformers.BertConfig(), transformers.BertConfig(is_decoder=True)]
    assert [language_class(config) for config in both] == [
        (transformers.BertForMaskedLM, True), (transformers.BertLMHeadModel, False),
    ]  # fmt: skip
    for config, reason in [
        (transformers.XLNetConfig(), "'xlnet' predicts tokens in an order that is drawn"),
        (transformers.CanineConfig(), "transformers has no language-model head for 'canine'"),
        (transformers.LlamaConfig(is_causal=False), "'llama' attends to later tokens, too, as its configuration says"),
        (transformers.Gemma3TextConfig(use_bidirectional_attention=True), "'gemma3_text' attends to later tokens, too"),
        (transformers.BertGenerationConfig(), "'bert-generation' attends to later tokens, too, as its configuration"),
        (transformers.CpmAntConfig(), "'cpmant' attends to later tokens, too"),
        (transformers.MarianConfig(), "'marian' is an encoder-decoder, which predicts a text from another"),
    ]:
        with pytest.raises(Unsupported, match=reason):
            language_class(config)


def test_a_head_takes_the_pretrained_part_of_its_own_architecture(headed: Callable[[str], Path]) -> None:
    head, model = (HEADED[name].from_pretrained(headed(name)) for name in ("bert", "roberta"))
    with pytest.raises(Unsupported, match="the pretrained part is a RobertaModel, and not BertModel"):
        put_under(head, model)


def test_a_backbone_that_was_quantised_before_is_said(
    headed: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    loader = tiny.loader_for(headed("bert"), "sequence_classification")
    monkeypatch.setattr("adapt.backbones.load.Loader.quantised", lambda self: {"load_in_8bit": True})
    with pytest.raises(Unsupported, match="the backbone's own weights are quantised"):
        loader.language_model(torch.float32)


def test_a_tokenizer_without_a_mask_is_said(headed: Callable[[str], Path], data: Data, tmp_path: Path) -> None:
    folder = tmp_path / "unmasked"
    HEADED["bert"].from_pretrained(headed("bert")).save_pretrained(folder)
    tokenizer = tiny.tokenizer_for("bert")
    tokenizer.mask_token = None
    tokenizer.save_pretrained(folder)
    result = fit_model(folder, data, "untrained", **CHOICES).result
    assert result is not None
    assert result.notes[-1] == "forgetting was not measured: the tokenizer has no mask token"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (AdaptError("its weights lack decoder.weight"), "its weights lack decoder.weight"),
        (NotImplementedError("get_input_embeddings"), "NotImplementedError: get_input_embeddings"),
    ],
)
def test_a_head_that_fails_costs_no_result(
    error: Exception, said: str, headed: Callable[[str], Path], data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr("adapt.backbones.load.Loader.language_model", fail)
        result = fit_model(headed("bert"), data, "head", **CHOICES).result
    assert result is not None
    assert result.status == "ok"
    assert result.scores["test"]
    assert result.notes[-1] == f"forgetting was not measured: {said}"


def test_a_head_that_does_not_call_its_output_layer_is_scored_by_all_logits(tmp_path: Path, data: Data) -> None:
    config = transformers.MobileBertConfig(
        vocab_size=len(tiny.tokenizer_for("bert")), hidden_size=32, embedding_size=16, num_hidden_layers=2,
        num_attention_heads=2, intermediate_size=32, intra_bottleneck_size=16, true_hidden_size=16,
        max_position_embeddings=64,
    )  # fmt: skip
    torch.manual_seed(0)
    transformers.MobileBertForMaskedLM(config).save_pretrained(tmp_path)
    tiny.tokenizer_for("bert").save_pretrained(tmp_path)
    found = measured(fit_model(tmp_path, data, "untrained", **CHOICES))
    assert found["before"] == found["after"] > 0


def test_what_only_one_strategy_meets_is_said_with_its_name(
    headed: Callable[[str], Path], data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    with monkeypatch.context() as patch:
        patch.setattr("adapt.backbones.load.Loader.language_model", no_memory)
        result = fit_model(headed("bert"), data, "lora", **CHOICES).result
    assert result is not None
    assert result.notes[-1] == (
        "lora: forgetting was not measured: memory ran out while the backbone was loaded once more (2.00 GiB more were "
        "asked for); leave general texts out"
    )
    monkeypatch.setattr("adapt.training.forgetting.predict", lambda *_: [{"nll": math.nan, "tokens": 3}])
    result = fit_model(headed("bert"), data, "lora", **CHOICES).result
    assert result is not None
    assert result.notes[-1] == "lora: forgetting was not measured: a loss on the general texts is not finite"


def test_a_share_of_the_tokens_is_hidden_and_the_same_each_time() -> None:
    tokenizer = tiny.tokenizer_for("bert")
    text = GeneralText(tokenizer, True)
    rows = text.encode(TEXTS, 32)
    assert rows == text.encode(TEXTS, 32)
    whole = [row for row, _ in text_rows(tokenizer, TEXTS, 32)]
    for row, before in zip(rows, whole, strict=True):
        hidden = [i for i, label in enumerate(row["labels"]) if label != -100]
        assert len(hidden) == max(1, round(0.15 * (len(before["input_ids"]) - 2)))
        assert 0 < min(hidden) <= max(hidden) < len(before["input_ids"]) - 1  # never [CLS] or [SEP]
        assert [row["input_ids"][i] for i in hidden] == [tokenizer.mask_token_id] * len(hidden)
        found = [
            label if label != -100 else token for label, token in zip(row["labels"], row["input_ids"], strict=True)
        ]
        assert found == before["input_ids"]
    assert max(len(row["input_ids"]) for row in rows) == 32


def test_texts_of_one_token_are_left_out_and_unknown_words_are_text() -> None:
    tokenizer = tiny.tokenizer_for("bert")
    kept = text_rows(tokenizer, ["warm", "warm kind", "? ?", "[SEP] [SEP]"], 32)
    assert [row["input_ids"][1:-1] for row, _ in kept] == [[7, 8], [1, 1]]
    assert [own for _, own in kept] == [[1, 2], [1, 2]]
    with pytest.raises(OptionError, match="max_length is 2, of which the tokenizer's own tokens take 2"):
        text_rows(tokenizer, TEXTS, 2)


def test_unknown_words_are_not_asked_for() -> None:
    """As in pretraining, in which they were never to be found."""
    tokenizer = tiny.tokenizer_for("bert")
    texts = [*(["warm ? kind ? ? cold ? ?"] * 40), "? ?"]
    rows = GeneralText(tokenizer, True).encode(texts, 32)
    assert [row["row"] for row in rows] == [*range(40)]
    asked = {label for row in rows for label in row["labels"]} - {-100}
    assert asked == set(tokenizer.convert_tokens_to_ids(["warm", "kind", "cold"]))
    assert len(GeneralText(tokenizer, False).encode(texts, 32)) == 41
    data = adapt.data.load((["warm", "cold"] * 20, ["a", "b"] * 20))
    with pytest.raises(DataError, match="the tokenizer knows no word of it; give text in the language of the backbone"):
        adapt.fit("tiny-encoder", data, "head", epochs=1, device="cpu", general=["ሰላም ለዓለም", "እንዴት ነህ"])


@pytest.mark.parametrize("changes", [False, True])
def test_few_logits_are_held_at_a_time_on_every_device(changes: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere than on the CPU, where those of a batch are made at once; of models that cap them those of a row."""
    monkeypatch.setattr("adapt.backbones.chunked.kernels_of", lambda _: "cuda")
    monkeypatch.setattr("adapt.backbones.chunked._LEAST", 2)
    monkeypatch.setattr("adapt.backbones.chunked._CHUNK", 3 * len(tiny.VOCABULARY))
    model = tiny.ARCHITECTURES["llama"](1).eval()
    model.changes_logits = changes
    ids = torch.randint(5, 30, (4, 9), generator=torch.Generator().manual_seed(0))
    inputs, labels = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}, ids[:, 1:]
    sizes: list[int] = []
    hook = model.lm_head.register_forward_hook(lambda *args: sizes.append(args[2].shape[:-1].numel()))
    few = language_losses(model, inputs, labels, few=True)
    hook.remove()
    assert max(sizes) == (9 if changes else 3)
    assert few_tokens(model) == (None if changes else 3)
    torch.testing.assert_close(few, language_losses(model, inputs, labels))


def test_texts_are_those_of_a_file_of_lines_a_table_or_a_list(tmp_path: Path) -> None:
    lines = tmp_path / "news.txt"
    lines.write_text("\ufeffone two\r\n\n  three\u2028four  \n", encoding="utf-8")
    (tmp_path / "news.csv").write_text("text,label\none two,1\nthree\u2028four,2\n", encoding="utf-8")
    (tmp_path / "news.txt.gz").write_bytes(gzip.compress(lines.read_bytes()))
    (tmp_path / "news.csv.gz").write_bytes(gzip.compress((tmp_path / "news.csv").read_bytes()))
    files = ["news.txt", "news.csv", "news.txt.gz", "news.csv.gz"]
    given = (*(tmp_path / name for name in files), ["one two", "three\u2028four"])
    found = [read_general(each) for each in given]
    assert {general.texts for general in found} == {("one two", "three\u2028four")}
    assert len({general.source.sha256 for general in found}) == 1
    assert [general.source.name for general in found] == [*files, "texts"]
    assert read_general(found[0]) is found[0]
    assert read_general(["one two"]).source.sha256 != found[0].source.sha256


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "{file}: no such file; check the path"),
        ("", "{file}: the file is empty; give one with rows"),
        ("\n \n", "{file}: the file is empty; give one with rows"),
        ("warm\nkind\n", "texts.txt: no text has two tokens within 32; give longer ones, one a line."),
    ],
)
def test_a_file_that_cannot_be_used_is_one_error(
    content: str | None, message: str, tmp_path: Path, backbone: Callable[..., Path], data: Data
) -> None:
    file = tmp_path / "texts.txt"
    if content is not None:
        file.write_text(content)
    for fit in (fit_model, adapt.compare):
        with pytest.raises(DataError) as error:
            fit(backbone("bert"), data, "head", **{**CHOICES, "general": file})
        assert str(error.value) == message.format(file=file)


def test_a_packed_file_that_is_not_whole_is_said(tmp_path: Path) -> None:
    packed = tmp_path / "news.txt.gz"
    for content in (gzip.compress(b"one two")[:-4], b"one two"):
        packed.write_bytes(content)
        with pytest.raises(DataError, match=r"news\.txt\.gz: is no whole gzip file .*; pack it again"):
            read_general(packed)


@pytest.mark.parametrize(("given", "what"), [([("a b", "c d")], "pairs of texts"), ([["a", "b"]], "lists of words")])
def test_rows_of_another_form_are_refused(given: Any, what: str) -> None:
    with pytest.raises(DataError, match=rf"General texts \(texts\) are {what}; give single texts\."):
        read_general(given)


def test_a_comparison_measures_it_and_knows_which_results_have_it(
    headed: Callable[[str], Path], data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grid, "execute", in_this_process)
    file = tmp_path / "news.txt"
    file.write_text("\n".join(TEXTS))
    choices = {**CHOICES, "strategies": ["head", adapt.LoRA(rank=4)], "seeds": 1, "out": tmp_path / "out"}
    events: list[Any] = []

    def compared(general: Any) -> Any:
        events.clear()
        return adapt.compare(headed("bert"), data, **{**choices, "general": general}, on_event=events.append)

    compared(None)
    done = compared(file)
    assert [event.what for event in events if event.what in ("found", "started")] == ["started", "started"]
    head, lora = (result["forgetting"] for result in done.results)
    assert head["before"] == head["after"] == lora["before"] != lora["after"]
    assert done.results[0]["spec"]["general"]["name"] == "news.txt"
    alone = fit_model(headed("bert"), data, adapt.LoRA(rank=4), **CHOICES)
    assert {name: lora[name] for name in ("tokens", "predicts")} == {
        name: measured(alone)[name] for name in ("tokens", "predicts")
    }
    assert lora["after"] == pytest.approx(measured(alone)["after"], rel=1e-5)
    assert "forgetting [95 % CI], nats a token |" in done.table.markdown()
    assert "- Forgetting: loss on news.txt (content " in done.table.markdown()
    compared(file)
    assert [event.what for event in events] == ["found", "found"]
    compared(TEXTS[1:])
    assert [event.what for event in events if event.what in ("found", "started")] == ["started", "started"]


def test_the_command_line_measures_it(headed: Callable[[str], Path], data: Data, tmp_path: Path) -> None:
    rows = data.splits["train"]
    source = tmp_path / "words.csv"
    source.write_text("text,label\n" + "".join(f"{row['text']},{data.labels[row['label']]}\n" for row in rows))
    (tmp_path / "news.txt").write_text("\n".join(TEXTS))
    arguments = [
        "fit", "--backbone", str(headed("bert")), "--data", str(source), "--strategy", "head", "--epochs", "1",
        "--device", "cpu", "--out", str(tmp_path / "model"),
    ]  # fmt: skip
    done = CliRunner().invoke(cli, [*arguments, "--general", str(tmp_path / "news.txt")], catch_exceptions=False)
    (said,) = re.findall(r"^forgetting: ([\d.]+) to ([\d.]+) nats a token of general text$", done.output, re.MULTILINE)
    assert said[0] == said[1]
    assert "forgetting" not in CliRunner().invoke(cli, arguments, catch_exceptions=False).output
    taught = ["distill", arguments[-1], *arguments[1:-1], str(tmp_path / "student")]
    done = CliRunner().invoke(cli, [*taught, "--general", str(tmp_path / "news.txt")], catch_exceptions=False)
    assert f"forgetting: {said[0]} to {said[0]} nats a token of general text\n" in done.output
    assert re.search(r"^words: the teacher is asked about \d+ rows$", done.output, re.MULTILINE)
    compared = ["compare", "--data", str(tmp_path / "nowhere.csv")]
    for command in (arguments, taught, compared):  # before the data are read
        done = CliRunner().invoke(cli, [*command, "--general", str(tmp_path / "new.txt")])
        assert isinstance(done.exception, DataError)
        assert str(done.exception) == f"{tmp_path / 'new.txt'}: no such file (did you mean 'news.txt'?); check the path"
