"""Hidden states of backbones and of adapted models, beside what transformers gives row by row."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from time import sleep
from typing import Any

import numpy as np
import pytest
import task_helpers
import tiny
import tiny_tasks
import torch
import transformers
from safetensors.torch import save_file

import adapt
import adapt.data
from adapt import options
from adapt.adapted import Adapted
from adapt.extraction import reader
from adapt.extraction.encoding import encode
from adapt.extraction.representations import read
from adapt.spec import AdaptError, DataError, OptionError, OutOfMemory, Unsupported

TEXTS = ["sunny word1 word2 warm", "rotten", "cold word5 kind word7 word8 word9", "word3 bitter"]


def alone(model: Any, tokenizer: Any, text: str) -> torch.Tensor:
    """(layers, length, hidden) of one text without padding."""
    inputs = dict(tokenizer(text, return_tensors="pt"))
    with torch.no_grad():
        out = model.eval()(**inputs, output_hidden_states=True)
    assert torch.equal(out.hidden_states[-1], out.last_hidden_state)
    return torch.stack(out.hidden_states)[:, 0]


@pytest.fixture(scope="module")
def adapted(backbone: Callable[..., Path], task_data: Callable[[str], Any]) -> Callable[..., Adapted]:
    """A backbone after a strategy, moved far from where it starts."""
    made: dict[tuple[str, str, str], Adapted] = {}

    def make(strategy: str, architecture: str, precision: str = "fp32") -> Adapted:
        key = strategy, architecture, precision
        if key not in made:
            data, chosen = task_data("single_label"), tiny.STRATEGIES[strategy]
            made[key] = tiny.adapted(backbone(architecture), data, chosen, precision=precision, max_length=32)
        return made[key]

    return make


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_a_backbone_gives_what_transformers_gives(backbone: Callable[..., Path], architecture: str) -> None:
    folder = backbone(architecture)
    plain = transformers.AutoModel.from_pretrained(folder, attn_implementation="eager")
    plain = plain.get_encoder() if plain.config.is_encoder_decoder else plain
    tokenizer = tiny.tokenizer_for(architecture)
    every = {p: adapt.representations(folder, TEXTS, pooling=p, device="cpu")
             for p in ("tokens", "mean", "first", "last")}  # fmt: skip
    assert every["mean"].layers == tuple(range(tiny.LAYERS + 1))
    assert every["mean"].values.dtype == np.float32
    for row, text in enumerate(TEXTS):
        expected = alone(plain, tokenizer, text)
        for pooling, reference in {
            "tokens": expected, "mean": expected.mean(1, keepdim=True), "first": expected[:, :1],
            "last": expected[:, -1:],
        }.items():  # fmt: skip
            np.testing.assert_allclose(every[pooling].of(row), reference.numpy(), rtol=1e-4, atol=1e-5)


CELLS = [
    (strategy, architecture)
    for strategy in tiny.STRATEGIES
    for architecture in tiny.ARCHITECTURES
    if strategy in ("lora", "prefix") or architecture in ("bert", "modernbert", "gpt2", "t5")
]


@pytest.mark.parametrize(("strategy", "architecture"), CELLS)
def test_an_adapted_model_gives_its_own_states(
    adapted: Callable[..., Adapted], backbone: Callable[..., Path], strategy: str, architecture: str
) -> None:
    """Those of its own class, asked row by row, and other ones than the backbone's unless only a head was trained."""
    model = adapted(strategy, architecture)
    base: Any = model.fitted.model.base_model
    base = base.encoder if base.config.is_encoder_decoder else base
    found = adapt.representations(model, TEXTS, pooling="tokens")
    for row, text in enumerate(TEXTS):
        np.testing.assert_allclose(
            found.of(row), alone(base, tiny.tokenizer_for(architecture), text).numpy(), rtol=1e-4, atol=2e-5
        )
    plain = adapt.representations(backbone(architecture), TEXTS, pooling="tokens", device="cpu")
    assert found.values.shape == plain.values.shape  # virtual tokens are none of the output's
    moved = np.abs(found.values - plain.values).max((1, 2)) > 1e-3
    assert moved[1:].tolist() == [strategy != "head"] * tiny.LAYERS or strategy == "qlora"  # whose weights are rounded


EXAMPLES = {"sequence_classification": "pairs", "token_classification": "tags", "question_answering": "answers",
            "seq2seq": "text", "causal_lm": "completion"}  # fmt: skip
"""Kind to one of its tiny tasks."""


@pytest.mark.parametrize(
    ("kind", "architecture"), [c for c in tiny.TASK_CELLS if c[1] in ("bert", "gpt2", "llama", "t5", "bart")]
)
def test_a_model_of_every_kind_is_read(backbone: Callable[..., Path], kind: str, architecture: str) -> None:
    data = tiny_tasks.TASKS[EXAMPLES[kind]]()
    model = tiny.adapted(backbone(architecture), data, tiny.STRATEGIES["lora"], precision="fp32", max_length=48)
    base: Any = model.fitted.model.base_model
    base = base.encoder if base.config.is_encoder_decoder else base
    found = adapt.representations(model, TEXTS, pooling="tokens")
    for row, text in enumerate(TEXTS):
        np.testing.assert_allclose(
            found.of(row), alone(base, tiny.tokenizer_for(architecture), text).numpy(), rtol=1e-4, atol=2e-5
        )


@pytest.mark.parametrize(
    ("kind", "architecture"),
    [("token_classification", "t5"), ("question_answering", "llama"), ("sequence_classification", "bert")],
)
def test_a_merged_model_is_read_whatever_its_class_calls_its_parts(
    backbone: Callable[..., Path], kind: str, architecture: str, tmp_path: Path
) -> None:
    data = tiny_tasks.TASKS[EXAMPLES[kind]]()
    model = tiny.adapted(backbone(architecture), data, tiny.STRATEGIES["lora"], precision="fp32", max_length=48)
    model.merge(tmp_path / "merged")
    found = adapt.representations(tmp_path / "merged", TEXTS, device="cpu")
    np.testing.assert_allclose(found.values, adapt.representations(model, TEXTS).values, rtol=1e-4, atol=1e-5)


def test_an_encoder_that_was_saved_without_its_decoder_is_read(backbone: Callable[..., Path], tmp_path: Path) -> None:
    transformers.T5EncoderModel.from_pretrained(backbone("t5")).save_pretrained(tmp_path / "encoder")
    tiny.tokenizer_for("t5").save_pretrained(tmp_path / "encoder")
    found, whole = (adapt.representations(f, TEXTS, device="cpu") for f in (tmp_path / "encoder", backbone("t5")))
    assert np.array_equal(found.values, whole.values)
    config = json.loads((tmp_path / "encoder" / "config.json").read_text())
    for said in (True, False):  # as T5's own token classifiers say
        (tmp_path / "encoder" / "config.json").write_text(json.dumps({**config, "is_encoder_decoder": said}))
        for pooling, message in (("native", "its weights lack .*decoder"), ("mean", "mean pooling is for encoders")):
            with pytest.raises(AdaptError, match=message):
                adapt.fit(tmp_path / "encoder", tiny_tasks.TASKS["single_label"](), "head", pooling=pooling)


@pytest.mark.parametrize("strategy", tiny.STRATEGIES)
def test_a_saved_model_gives_the_same(adapted: Callable[..., Adapted], strategy: str, tmp_path: Path) -> None:
    model = adapted(strategy, "bert")
    model.save(tmp_path / "model")
    before = adapt.representations(model, TEXTS)
    after = adapt.representations(tmp_path / "model", TEXTS, device="cpu")
    assert np.array_equal(before.values, after.values)
    assert before.source == after.source == f"bert-2-0, {strategy} on words"


@pytest.mark.parametrize("strategy", tiny.STRATEGIES)
def test_an_adaptation_is_put_on_the_backbone_anew_in_another_precision(
    adapted: Callable[..., Adapted], strategy: str
) -> None:
    model = adapted(strategy, "bert", "bf16")
    own, exact = (adapt.representations(model, TEXTS, precision=p) for p in (None, "fp32"))
    assert reader(model).precision == "bf16"
    assert not np.array_equal(own.values, exact.values)
    np.testing.assert_allclose(own.values, exact.values, atol=0.15)
    assert np.array_equal(exact.values, adapt.representations(model, TEXTS, precision="fp32").values)


def test_the_device_that_reads_decides_an_automatic_precision(
    adapted: Callable[..., Adapted], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = adapted("lora", "bert", "bf16")
    on_a_gpu = replace(model, run=replace(model.run, budget=replace(model.run.budget, device="cuda")))
    monkeypatch.setattr(options, "precision_of", lambda precision, device: {"cpu": "fp32", "cuda": "bf16"}[device])
    assert reader(on_a_gpu, device="cpu", precision="auto").precision == "fp32"


def test_another_kernel_is_taken_for_a_forward_pass_alone(adapted: Callable[..., Adapted]) -> None:
    model = adapted("prefix", "bert")
    config = model.fitted.model.base_model.config
    before = config._attn_implementation
    one, two = (adapt.representations(model, TEXTS, attention=kernel) for kernel in ("eager", "sdpa"))
    assert config._attn_implementation == before
    np.testing.assert_allclose(one.values, two.values, rtol=1e-4, atol=1e-5)
    batch = next(reader(model, attention="eager").batches(reader(model).encode(TEXTS)))[1]
    weights = reader(model, attention="eager").forward(batch, output_attentions=True).attentions
    assert [w.shape[-1] for w in weights] == [batch["input_ids"].shape[1]] * tiny.LAYERS


def test_threads_that_read_one_model_leave_it_as_it_was(adapted: Callable[..., Adapted]) -> None:
    """One is within its forward pass when the other asks for another kernel."""
    model = adapted("lora", "bert")
    base: Any = model.fitted.model.base_model
    inside = Event()
    seen: list[str] = []

    def waiting(*_: Any) -> None:
        inside.set()
        sleep(0.2)  # in which the other would change it
        seen.append(base.config._attn_implementation)

    before, hook = base.config._attn_implementation, base.register_forward_pre_hook(waiting)
    try:
        first = Thread(target=lambda: adapt.representations(model, TEXTS, attention="sdpa"))
        first.start()
        inside.wait()
        adapt.representations(model, TEXTS, attention="eager")
        first.join()
    finally:
        hook.remove()
    assert seen == ["sdpa", "eager"]
    assert base.config._attn_implementation == before


def test_a_row_is_the_same_alone_and_among_others(backbone: Callable[..., Path]) -> None:
    texts = [" ".join(tiny.FILL[: 1 + i % 20]) for i in range(700)]  # several batches
    found = adapt.representations(backbone("bert"), texts, device="cpu")
    assert np.array_equal(found.rows, np.arange(700))
    again = adapt.representations(backbone("bert"), texts, device="cpu")
    assert np.array_equal(found.values, again.values)
    for row in (0, 19, 699):
        one = adapt.representations(backbone("bert"), [texts[row]], device="cpu")
        np.testing.assert_allclose(found.of(row), one.values, rtol=1e-5, atol=1e-6)


def test_layers_are_named_in_many_ways(backbone: Callable[..., Path]) -> None:
    every = adapt.representations(backbone("bert"), TEXTS, device="cpu")
    for layers, chosen in (
        ("last", (2,)),
        (-1, (2,)),
        (1, (1,)),
        ("0, -1", (0, 2)),
        ([2, 0, 2], (2, 0)),
        ("all", (0, 1, 2)),
    ):
        found = adapt.representations(backbone("bert"), TEXTS, layers=layers, device="cpu")
        assert found.layers == chosen
        assert np.array_equal(found.values, every.values[list(chosen)])


@pytest.mark.parametrize("kind", ["gpt2", "roberta", "llama3", "wordpiece"])
def test_words_are_found_among_tokens(kind: str) -> None:
    tokenizer = task_helpers.wordpiece() if kind == "wordpiece" else task_helpers.byte_level(kind)
    text = "  the big  tree\tplaying . sat"
    (example,) = encode(tokenizer, adapt.data.read_texts([text]), 64)
    assert example["row_words"] == text.split()
    for word, written in enumerate(text.split()):
        tokens = [i for i, owner in enumerate(example["words"]) if owner == word]
        start, end = example["offsets"][tokens[0]][0], example["offsets"][tokens[-1]][1]
        assert text[start:end].strip() == written
    (listed,) = encode(tokenizer, adapt.data.read_texts([text.split()]), 64)
    (single,) = encode(tokenizer, adapt.data.read_texts([" ".join(text.split())]), 64)
    if kind == "wordpiece":  # others write the space before a word into its token
        assert listed["input_ids"] == single["input_ids"]
        assert listed["words"] == single["words"]
    assert set(listed["words"]) == set(single["words"])


def test_a_space_before_a_word_is_none_of_its_tokens() -> None:
    tokenizer = task_helpers.byte_fallback()
    for text in ("12 the cat 21", "the 1"):
        (example,) = encode(tokenizer, adapt.data.read_texts([text]), 64)
        (listed,) = encode(tokenizer, adapt.data.read_texts([text.split()]), 64)
        assert example["input_ids"] == listed["input_ids"]
        assert example["words"] == listed["words"]
        spaces = [i for i, token in enumerate(tokenizer.convert_ids_to_tokens(example["input_ids"])) if token == "▁"]
        assert {example["words"][i] for i in spaces} == {None}
        assert set(example["words"]) == {None, *range(len(text.split()))}


def test_words_of_a_pair_are_counted_on() -> None:
    tokenizer = task_helpers.wordpiece()
    (example,) = encode(tokenizer, adapt.data.read_texts([("the cat", "sat there")]), 64)
    assert example["words"] == [None, 0, 1, None, 2, 3, None]
    assert example["texts"] == [None, 0, 0, None, 1, 1, None]
    assert example["row_words"] == ["the", "cat", "sat", "there"]


@pytest.mark.parametrize("name", ["tiny-decoder", "tiny-encoder"])
def test_words_of_a_second_text_are_read_where_they_stand(name: str) -> None:
    """Also where a line break is put before it."""
    read = reader(name, device="cpu")
    pair = ("a man sleeps", "is he 7 b ok?")
    (example,) = read.encode([pair])
    assert example["row_words"] == " ".join(pair).split()
    written: dict[int, str] = {}
    for (a, b), text, word in zip(example["offsets"], example["texts"], example["words"], strict=True):
        if word is not None:
            part = pair[text][a:b].strip()
            assert part
            written[word] = written.get(word, "") + part
    assert [written[word] for word in range(len(written))] == example["row_words"]
    tokens = adapt.representations(name, [pair], pooling="tokens", device="cpu").values
    words = adapt.representations(name, [pair], pooling="words", device="cpu").values
    np.testing.assert_array_equal(words, tokens[:, [example["words"].index(word) for word in range(len(written))]])


@pytest.mark.parametrize("most", [4096, 700, 100])
def test_a_batch_that_does_not_fit_is_read_in_halves(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [" ".join(["good day"] * n) for n in range(1, 101)]
    whole = adapt.representations("tiny-encoder", texts, device="cpu")
    maps = adapt.attention("tiny-encoder", texts[:40], device="cpu")
    read = reader("tiny-encoder", device="cpu")
    plain, taken = read.model.forward, list[int]()

    def narrow(*given: Any, **named: Any) -> Any:
        if named["input_ids"].numel() > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        taken.append(named["input_ids"].numel())
        return plain(*given, **named)

    monkeypatch.setattr(read.model, "forward", narrow)
    if most < 200:
        with pytest.raises(OutOfMemory, match=r"with one row at a time; read it in bf16 \(precision\) or cut texts"):
            adapt.representations(read, texts)
        return
    np.testing.assert_allclose(adapt.representations(read, texts).values, whole.values, rtol=1e-4, atol=1e-5)
    assert max(taken) > most / 3  # what fitted is remembered: batches are not read row by row
    for one, other in zip(adapt.attention(read, texts[:40]), maps, strict=True):
        assert one.tokens == other.tokens
        np.testing.assert_allclose(one.weights, other.weights, rtol=1e-4, atol=1e-6)


def test_vectors_of_words() -> None:
    words = [["sunny", "word1"], ["kind"]]
    tokens = adapt.representations("tiny-encoder", [" ".join(row) for row in words], pooling="tokens", device="cpu")
    read = {p: adapt.representations("tiny-encoder", words, pooling=p, device="cpu") for p in ("words", "word_means")}
    texts = adapt.representations("tiny-encoder", [" ".join(row) for row in words], pooling="words", device="cpu")
    (example, _) = reader("tiny-encoder", device="cpu").encode(words)
    assert read["words"].rows.tolist() == [0, 0, 1]
    assert read["words"].positions.tolist() == [0, 1, 0]
    np.testing.assert_allclose(read["words"].values, texts.values, rtol=1e-5, atol=1e-6)
    for word in (0, 1):
        of = [i for i, owner in enumerate(example["words"]) if owner == word]
        np.testing.assert_allclose(read["words"].of(0)[:, word], tokens.of(0)[:, of[0]], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(read["word_means"].of(0)[:, word], tokens.of(0)[:, of].mean(1), rtol=1e-5, atol=1e-5)


def test_words_beyond_the_cut_have_no_vector(backbone: Callable[..., Path]) -> None:
    found = adapt.representations(
        backbone("bert"), [tiny.FILL[:9], ["kind"]], pooling="words", max_length=6, device="cpu"
    )
    assert found.rows.tolist() == [0, 0, 0, 0, 1]
    assert found.positions.tolist() == [0, 1, 2, 3, 0]
    assert found.cut.tolist() == [20, 0]  # four words of five characters
    assert found.notes == ("1 of 2 rows were cut to 6 tokens",)


def test_every_kind_of_rows_gives_the_same(backbone: Callable[..., Path], tmp_path: Path) -> None:
    import pandas

    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    (tmp_path / "words.jsonl").write_text("".join(json.dumps({"tokens": text.split()}) + "\n" for text in TEXTS))
    expected = adapt.representations(backbone("bert"), TEXTS, device="cpu").values
    others: list[Any] = [
        tmp_path / "rows.jsonl", str(tmp_path / "words.jsonl"), pandas.DataFrame({"text": TEXTS}), {"text": TEXTS},
        [text.split() for text in TEXTS], np.array(TEXTS),
    ]  # fmt: skip
    for rows in others:
        assert np.array_equal(adapt.representations(backbone("bert"), rows, device="cpu").values, expected)
    named = adapt.representations(backbone("bert"), {"a": TEXTS, "b": [1] * 4}, columns={"text": "a"}, device="cpu")
    assert np.array_equal(named.values, expected)
    pairs = adapt.representations(
        backbone("bert"), {"sentence1": TEXTS, "sentence2": TEXTS[::-1]}, device="cpu", pooling="last"
    )
    in_list = adapt.representations(
        backbone("bert"), list(zip(TEXTS, TEXTS[::-1], strict=True)), device="cpu", pooling="last"
    )
    assert np.array_equal(pairs.values, in_list.values)
    assert not np.array_equal(pairs.values, adapt.representations(backbone("bert"), TEXTS, pooling="last").values)


def test_words_and_texts_in_one_table() -> None:
    table = {"title": ["A cat"], "tokens": [["the", "cat"]]}
    assert adapt.data.read_texts(table).column_names == ["tokens"]
    assert adapt.data.read_texts({**table, "Text": ["the cat"]}).to_dict() == {"text": ["the cat"]}
    assert adapt.data.read_texts(table, {"text": "title"}).to_dict() == {"text": ["A cat"]}


def test_what_is_saved_is_loaded(backbone: Callable[..., Path], tmp_path: Path) -> None:
    found = adapt.representations(backbone("bert"), TEXTS, layers=[2, 0], pooling="words", max_length=5, device="cpu")
    loaded = adapt.Representations.load(found.save(tmp_path / "new" / "found.safetensors"))
    for name in ("values", "rows", "positions", "cut"):
        assert np.array_equal(getattr(loaded, name), getattr(found, name))
    for name in ("layers", "pooling", "source", "notes"):
        assert getattr(loaded, name) == getattr(found, name)
    assert found.notes


def test_files_that_are_no_representations(tmp_path: Path) -> None:
    for name, content in (("none", None), ("text", b"nonsense")):
        file = tmp_path / f"{name}.safetensors"
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(AdaptError, match=rf"{name}\.safetensors cannot be read"):
            adapt.Representations.load(file)
    save_file({"values": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(AdaptError, match="holds no representations"):
        adapt.Representations.load(tmp_path / "other.safetensors")
    found = adapt.representations("tiny-encoder", TEXTS, layers="last", device="cpu")
    for name, value in (
        ("values", found.values.astype(np.float64)), ("values", found.values[0]), ("values", found.values[:, :1]),
        ("rows", found.rows + 1), ("positions", found.positions[:-1]), ("cut", found.cut[:, None]),
        ("layers", (1, 2)), ("layers", 7), ("layers", ("x",)), ("pooling", []), ("source", None), ("notes", None),
        ("notes", (1,)),
    ):  # fmt: skip
        replace(found, **{name: value}).save(tmp_path / "edited.safetensors")
        with pytest.raises(AdaptError, match=r"edited\.safetensors cannot be read \(.*\); save the repr"):
            adapt.Representations.load(tmp_path / "edited.safetensors")
    with pytest.raises(OptionError, match=r"ends in '\.npy'; write to \.safetensors"):
        found.save(tmp_path / "found.npy")
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(OptionError, match="is a folder; give a file"):
        found.save(tmp_path / "folder.safetensors")


def test_numpys_numbers_are_options(backbone: Callable[..., Path]) -> None:
    found = adapt.representations(backbone("bert"), TEXTS, layers=np.arange(2), max_length=np.int64(5), device="cpu")
    assert found.layers == (0, 1)
    assert np.array_equal(
        found.values, adapt.representations(backbone("bert"), TEXTS, layers=[0, 1], max_length=5, device="cpu").values
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": 3}, "no layer 3; the model has the layers 0 .* to 2"),
        ({"layers": -4}, "no layer -4"),
        ({"layers": "upper"}, "layers is 'upper'; give all, last"),
        ({"layers": []}, "layers names none"),
        ({"pooling": "max"}, "pooling is 'max'; choose one of mean, first"),
        ({"attention": "flash"}, "attention is 'flash'; choose one of eager, sdpa"),
        ({"max_length": 2}, "max_length is 2, of which the tokenizer's own tokens take 2; give at least 3"),
        ({"max_length": 0}, "max_length is 0; give a whole number"),
        ({"precision": "fp8"}, "precision is 'fp8'"),
        ({"device": "tpu"}, "device is 'tpu'"),
        ({"columns": {"texts": "a"}}, "has no 'texts'"),
    ],
)
def test_options_that_cannot_be_used(backbone: Callable[..., Path], options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        adapt.representations(backbone("bert"), TEXTS, **{"device": "cpu", **options})


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["kind", " "], "row 2.*"),
        ([], "there are no rows"),
        ([["kind"], []], "row 2.*no word"),
        (["kind", 3], "row 2.*not text"),
        ("nowhere.jsonl", "nowhere.jsonl"),
    ],
)
def test_rows_that_cannot_be_used(backbone: Callable[..., Path], rows: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        adapt.representations(backbone("bert"), rows, device="cpu")


def test_a_row_of_no_token_is_named(backbone: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    model = reader(backbone("gpt2"), device="cpu")
    object.__setattr__(model, "tokenizer", task_helpers.wordpiece(cls=False))
    with pytest.raises(DataError, match=r"Row 2 \('\\x01'\): the tokenizer makes no token of it"):
        model.encode([["the"], ["\x01"]])


def test_sources_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="int is nothing that can be read"):
        reader(3)
    with pytest.raises(OptionError, match="does not exist"):
        reader(tmp_path / "none")


def test_words_need_a_tokenizer_that_tells_them(backbone: Callable[..., Path]) -> None:
    model = reader(backbone("bert"), device="cpu")
    examples = [{n: v for n, v in e.items() if n != "words"} for e in model.encode(TEXTS)]
    with pytest.raises(Unsupported, match="only a fast tokenizer"):
        read(model, examples, (0,), "words")


def test_layers_that_give_no_vector_a_token(backbone: Callable[..., Path]) -> None:
    model = reader(backbone("bert"), device="cpu")
    object.__setattr__(model, "layers", 7)
    with pytest.raises(Unsupported, match="do not give a vector a token"):
        adapt.representations(model, TEXTS)


def test_a_padding_token_that_was_set_is_told_of(backbone: Callable[..., Path]) -> None:
    found = adapt.representations(backbone("gpt2"), TEXTS, layers="last", device="cpu")
    assert found.notes == ("The tokenizer has no padding token; its end-of-text token '[SEP]' pads instead.",)


def test_states_that_are_not_finite(backbone: Callable[..., Path]) -> None:
    model = reader(backbone("bert"), device="cpu")
    next(model.model.parameters()).data.fill_(float("nan"))
    with pytest.raises(AdaptError, match="Hidden states of bert-2-0 are not finite; read it in fp32"):
        adapt.representations(model, TEXTS)


def test_a_reader_takes_no_options() -> None:
    """It would read as it was made to, whatever they say."""
    made = reader("tiny-encoder")
    for given in ({"max_length": 3}, {"precision": "bf16"}, {"device": "cpu"}, {"backbone": "tiny-encoder"}):
        (name,) = given
        with pytest.raises(
            OptionError, match=f"A Reader reads as it was made to; give {name} to adapt.extraction.reader"
        ):
            reader(made, **given)
    assert reader(made) is made
