"""Causal LM: what is learnt of a row, loss against transformers', generation against a plain loop."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import datasets
import pytest
import torch
import transformers
from task_helpers import (
    SENTENCE,
    SIZES,
    byte_level,
    greedy,
    kind,
    model,
    one_by_one,
    outputs,
    scores_by_transformers,
    wordpiece,
)
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from adapt.metrics.texts import chrf_counts
from adapt.spec import AdaptError, DataError, Diverged, OptionError
from adapt.tasks.generation import Written
from adapt.tasks.prompts import Prompts, plain

MODELS = ["GPT2", "Llama"]
PROMPTS = ["who saw the cat ?", "the big red cat sat there while anna saw the tree . who ?", "where"]
COMPLETIONS = ["anna saw it", "bob", "in paris on monday"]
CHAT = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "<s>{{ m.role }}: {{ m.content }}</s>{% endfor %}{% if add_generation_prompt %}<s>assistant: {% endif %}"
)


def bound(metric: str = "perplexity", tokenizer: Any = None, length: int = 64, **options: Any) -> Any:
    return kind("causal_lm", tokenizer or byte_level(), "completion", metric, length=length, **options)


def table(prompts: list[str] = PROMPTS, completions: list[str] | None = COMPLETIONS) -> datasets.Dataset:
    return datasets.Dataset.from_dict(
        {"prompt": prompts} | ({} if completions is None else {"completion": completions})
    )


def chats(*rows: list[tuple[str, str]]) -> datasets.Dataset:
    return datasets.Dataset.from_list([{"messages": [{"role": r, "content": c} for r, c in row]} for row in rows])


def parts(made: Any, example: dict[str, Any]) -> tuple[str, str]:
    """What is read and what is learnt of a row."""
    learnt = [i for i, label in enumerate(example["labels"]) if label != -100]
    ids = example["input_ids"]
    assert learnt == list(range(learnt[0], len(ids)))
    assert [example["labels"][i] for i in learnt] == ids[learnt[0] :]
    return made.tokenizer.decode(ids[: learnt[0]]), made.tokenizer.decode(ids[learnt[0] :])


def test_the_prompt_is_read_and_the_completion_learnt() -> None:
    made = bound(template="Q: {prompt} {x}", separator=" A:")
    examples = made.encode(table(), split="train")
    assert parts(made, examples[0]) == ("Q: who saw the cat ? {x} A:", "anna saw it<end>")
    assert "prompt_ids" not in examples[0]
    made = bound()
    assert parts(made, made.encode(table(), split="train")[2]) == ("where\n", "in paris on monday<end>")
    made = bound(separator=" ")
    (example,) = made.encode(table(["who saw"], ["the cat"]), split="train")
    assert example["input_ids"][:-1] == made.tokenizer("who saw the cat")["input_ids"]  # the space is the word's
    assert parts(made, example) == ("who saw", " the cat<end>")


@pytest.mark.parametrize("spaces", [0, 1, 2, 8])
def test_spaces_at_the_end_of_a_prompt_are_kept(spaces: int) -> None:
    sentencepiece = Tokenizer(
        models.BPE({"<unk>": 0, "</s>": 1, "▁": 2, "a": 3, ":": 4, "\n": 5}, [], unk_token="<unk>")
    )
    sentencepiece.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    sentencepiece.decoder = decoders.Metaspace(prepend_scheme="first", split=False)
    for tokenizer in (
        byte_level(), PreTrainedTokenizerFast(tokenizer_object=sentencepiece, eos_token="</s>", pad_token="</s>")
    ):  # fmt: skip
        made = bound(tokenizer=tokenizer, separator="")
        (example,) = made.encode(table(["a:\n" + " " * spaces], ["a"]), split="train")
        written = made.tokenizer.decode(example["input_ids"][:-1])
        # what SentencePiece puts before every text stands after the prompt's line break too
        assert written == "a:\n" + " " * (spaces if tokenizer.eos_token == "<end>" else max(spaces, 1)) + "a"


def test_a_text_without_prompt_follows_a_token_that_begins_one() -> None:
    made = bound()
    assert parts(made, made.encode(table([""], ["the cat"]), split="train")[0]) == ("<end>", "the cat<end>")
    own = wordpiece(cls=False, single="[BOS] $A [SEP]")
    made = bound(tokenizer=own)
    examples = made.encode(table(["", "who"], ["the cat", "anna"]), split="train")
    assert [own.convert_ids_to_tokens(e["input_ids"]) for e in examples] == [
        ["[BOS]", "the", "cat", "[SEP]"], ["[BOS]", "who", "anna", "[SEP]"],
    ]  # fmt: skip


@pytest.mark.parametrize("prompted", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_the_loss_is_that_of_transformers(name: str, prompted: bool) -> None:
    """Of a text without prompt that is every token's, the first one's, too."""
    made = bound()
    net = net_of(name, made.tokenizer)
    examples = made.encode(table(PROMPTS if prompted else [""] * 3), split="train")
    if not prompted:
        assert made.terms(examples) == sum(len(example["input_ids"]) - 1 for example in examples)
    batch = made.collate(examples)
    theirs = scores_by_transformers(net, batch)
    with torch.no_grad():
        ours = made.loss(net, batch)
    assert ours.dtype == torch.float32
    assert float(ours) == theirs["loss"]
    assert made.score(outputs(made, net, examples), examples) == theirs


def _gpt2(tokens: Any) -> Any:
    torch.manual_seed(3)
    config = transformers.GPT2Config(
        n_embd=32, n_layer=2, n_head=4, n_positions=96, vocab_size=len(tokens), initializer_range=0.3,
        eos_token_id=tokens.eos_token_id, bos_token_id=tokens.bos_token_id, pad_token_id=tokens.pad_token_id,
    )  # fmt: skip
    return transformers.GPT2LMHeadModel(config).eval()


def net_of(name: str, tokens: Any) -> Any:
    return _gpt2(tokens) if name == "GPT2" else model(name, "CausalLM", tokens)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("side", ["left", "right"])
def test_rows_alone_and_together_and_texts_by_a_plain_loop(name: str, side: str) -> None:
    made = bound("chrf", byte_level(side=side), max_new_tokens=8)
    net = net_of(name, made.tokenizer)
    examples = made.encode(table(), split="test")
    together, alone = outputs(made, net, examples), one_by_one(made, net, examples)
    for a, b, example in zip(together, alone, examples, strict=True):
        assert a["text"] == b["text"]
        assert a["tokens"] == b["tokens"] == sum(label != -100 for label in example["labels"])
        assert a["nll"] == pytest.approx(b["nll"], rel=1e-4)
        ids = greedy(net, example["prompt_ids"], 8, made.tokenizer.eos_token_id)
        assert a["text"] == made.tokenizer.decode(ids, skip_special_tokens=True).strip()
    assert len({row["text"] for row in together}) > 1
    assert {"chrf", "rouge_l", "text_exact_match", "loss", "perplexity"} == set(made.score(together, examples))


RECURRENT: dict[str, Callable[..., Any]] = {
    "recurrent_gemma": lambda **ids: transformers.RecurrentGemmaConfig(
        **{**SIZES, "num_hidden_layers": 3}, **ids, lru_width=32, head_dim=8, attention_window_size=16
    ),
    "xlstm": lambda **ids: transformers.xLSTMConfig(
        hidden_size=64, num_heads=4, num_hidden_layers=2, qk_dim_factor=1.0, chunk_size=8, **ids
    ),
    "mamba": lambda **ids: transformers.MambaConfig(hidden_size=32, num_hidden_layers=2, **ids),
}


@pytest.mark.parametrize("family", RECURRENT)
def test_texts_of_recurrent_layers_do_not_depend_on_the_batch(family: str) -> None:
    made = bound("chrf", max_new_tokens=8)
    prompts = [*PROMPTS, "when"]
    torch.manual_seed(5)
    net = transformers.AutoModelForCausalLM.from_config(
        RECURRENT[family](vocab_size=len(made.tokenizer), pad_token_id=0, bos_token_id=1, eos_token_id=1)
    ).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.25)
    examples = made.encode(table(prompts, None))
    together, alone = outputs(made, net, examples), one_by_one(made, net, examples)
    assert [row["text"] for row in together] == [row["text"] for row in alone]
    assert len({row["text"] for row in together}) > 1


def test_texts_are_written_only_where_a_metric_or_a_new_row_needs_them() -> None:
    made = bound()
    net = net_of("GPT2", made.tokenizer)
    labelled = made.encode(table(), split="test")
    assert [row["text"] for row in outputs(made, net, labelled)] == [None] * 3
    new = made.encode(table(completions=None))
    found = outputs(made, net, new)
    assert [row["nll"] for row in found] == [None] * 3
    assert made.decode(found, new) == [{"text": row["text"]} for row in found]
    assert any(row["text"] for row in found)
    judged = bound("text_exact_match")
    assert "prompt_ids" not in judged.encode(table(), split="train")[0]
    validation = judged.encode(table(), split="validation")
    assert [row["text"] for row in outputs(judged, net, validation, final=False)] == [None] * 3
    assert judged.selection("text_exact_match") == judged.selection("chrf") == "loss"
    assert judged.selection("perplexity") is None


def test_where_training_had_no_prompt_a_new_one_is_the_beginning_of_a_text() -> None:
    story = "the cat sat there"
    made = bound(template="Q: {prompt}")
    before = made.encode(table([story], None))
    assert made.tokenizer.decode(before[0]["input_ids"]) == f"Q: {story}\n"
    (learnt,) = made.encode(table([""], [story]), split="train")
    (held_out,) = made.encode(table([story], [" anna"]), split="test")
    begun = learnt["input_ids"][:-1]
    assert held_out["input_ids"][: len(begun)] == begun  # no template, as new texts have none
    loaded = bound(template="Q: {prompt}")
    loaded.load_state(made.state())
    for kind_ in (made, loaded):
        (new,) = kind_.encode(table([story], None))
        assert new["input_ids"] == new["prompt_ids"] == learnt["input_ids"][:-1]
    for state in ({}, _state_of([story, ""])):  # that of an older model, and of one whose rows had prompts
        loaded.load_state(state)
        assert loaded.encode(table([story], None)) == before


def _state_of(prompts: list[str]) -> dict[str, float]:
    made = bound()
    made.fit(made.encode(table(prompts, ["anna"] * len(prompts)), split="train"))
    return made.state()


def test_completions_that_spell_special_tokens_are_told_of() -> None:
    made = bound("chrf", wordpiece(cls=False, single="[BOS] $A"), length=32, separator="")
    made.encode(table(["who saw [SEP]", "who"], ["anna", "bob [SEP]"]), split="test")
    (note,) = made.notes
    assert note.startswith(
        "1 completions of the test split spell special tokens of the tokenizer, such as [SEP], which"
    )


def test_a_long_prompt_loses_its_beginning() -> None:
    tokens = wordpiece(cls=False, single="[BOS] $A")
    made = bound("chrf", tokens, length=8, max_new_tokens=3, separator="")
    examples = made.encode(table([SENTENCE, "who saw"], ["anna saw", "bob"]), split="test")
    words = [tokens.convert_ids_to_tokens(e["input_ids"]) for e in examples]
    assert words[0] == ["[BOS]", "the", "cat", "sat", "there", "anna", "saw", "[SEP]"]
    assert words[1] == ["[BOS]", "who", "saw", "bob", "[SEP]"]
    assert tokens.convert_ids_to_tokens(examples[0]["prompt_ids"]) == ["[BOS]", "the", "cat", "sat", "there"]
    assert made.notes == ["1 prompts of the test split lost their beginning to fit 8 tokens"]
    made.notes.clear()
    (new,) = made.encode(table([SENTENCE], None))
    assert new["input_ids"] == new["prompt_ids"] == examples[0]["prompt_ids"]
    assert made.notes == ["1 prompts of new rows lost their beginning to fit 8 tokens"]
    made = bound(tokenizer=wordpiece(single="[CLS] [BOS] $A"), length=4, separator="")
    (example,) = made.encode(table(["anna"], None))
    assert len(example["input_ids"]) == 3
    assert made.notes == []  # the one token has room


def test_an_answer_that_leaves_no_room_loses_its_end() -> None:
    tokens = wordpiece(cls=False)
    made = bound("chrf", tokens, length=8, separator="", max_new_tokens=3)
    fits = " ".join(SENTENCE.split()[:6])  # six words, the end, and one token of the prompt
    long = fits + " while the"

    def read_and_learnt(prompts: list[str], answer: str, split: str = "train") -> list[tuple[str, str]]:
        made.notes.clear()
        return [parts(made, example) for example in made.encode(table(prompts, [answer] * len(prompts)), split=split)]

    assert read_and_learnt(["who saw"], fits) == [("saw", fits + " [SEP]")]
    assert made.notes == ["1 prompts of the train split lost their beginning to fit 8 tokens"]
    assert read_and_learnt(["who", "who saw the cat sat"], long) == [
        ("who", fits + " while"), ("saw the cat sat", "anna saw bob in"),
    ]  # fmt: skip
    assert made.notes == [
        "1 prompts of the train split lost their beginning to fit 8 tokens",
        "2 answers of the train split lost their end to fit 8 tokens; losses count the tokens kept",
    ]
    (example,) = made.encode(table(["who"], [long]), split="test")
    assert example["references"] == [long]
    found = outputs(made, net_of("Llama", tokens), [example])
    assert found[0]["tokens"] == 7


def test_a_long_text_becomes_blocks() -> None:
    tokens = wordpiece(cls=False)
    made = bound(tokenizer=tokens, length=5)
    examples = made.encode(table(["", ""], [SENTENCE, "cat"]), split="train")
    assert [e["row"] for e in examples] == [0, 0, 0, 0, 1]
    assert all(tokens.convert_ids_to_tokens(e["input_ids"])[0] == "[BOS]" for e in examples)
    assert tokens.decode([t for e in examples[:4] for t in e["labels"] if t != -100]) == SENTENCE + " [SEP]"
    assert made.notes == ["1 texts of the train split were cut into blocks of 5 tokens"]
    net = net_of("Llama", tokens)
    made_outputs = outputs(made, net, examples)
    assert made.outcomes(made_outputs, examples) == [
        [round(sum(o["nll"] for o in made_outputs[:4]), 4), 13], [round(made_outputs[4]["nll"], 4), 2],
    ]  # fmt: skip
    total = sum(o["nll"] for o in made_outputs)
    assert made.score(made_outputs, examples)["loss"] == pytest.approx(total / 15)


def test_a_prompt_that_is_cut_for_a_text_to_be_written_is_counted() -> None:
    tokens = wordpiece(cls=False)
    made = bound("chrf", tokens, length=12, max_new_tokens=6)
    rows = table(["the big red cat sat there while anna", "who"], ["anna", "bob"])
    made.encode(rows, split="train")
    assert made.notes == []
    made.encode(rows, split="test")
    assert made.notes == [
        "1 prompts of the test split lost their beginning where a text was written, to leave room for 6 tokens in 12 "
        "tokens"
    ]


def test_answers_longer_than_what_is_written_are_counted() -> None:
    rows = table(["who", "who", "who"], ["anna saw the cat", "anna saw", "bob"])
    for new, length in ((3, 64), (50, 7)):  # what is asked for, and half of the length
        made = bound("chrf", wordpiece(cls=False), length=length, max_new_tokens=new)
        made.encode(rows, split="train")
        assert made.notes == []
        made.encode(rows, split="test")
        assert "1 answers of the test split are longer than the 3 tokens that are written" in made.notes[-1]
    made = bound("perplexity", wordpiece(cls=False), max_new_tokens=3)
    made.encode(rows, split="test")
    assert made.notes == []


def test_outcomes_tell_right_texts_from_wrong_ones_row_by_row() -> None:
    made = bound("text_exact_match", wordpiece(cls=False), max_new_tokens=4, answer_marker="####")
    examples = made.encode(table(["who", "who"], ["so #### 1,200", "so #### 7"]), split="test")
    written = [{"nll": 1.0, "tokens": 2, "text": text} for text in ("so well #### 1200", "so #### 8")]
    found = made.outcomes(written, examples)
    assert [row[:2] for row in found] == [[1.0, 2], [1.0, 2]]
    assert [row[3] for row in found] == [1.0, 0.0]
    assert made.score(written, examples)["text_exact_match"] == 0.5
    assert all(0 < row[2] < 1 for row in found)
    assert found[0][4] == chrf_counts("so well #### 1200", ["so #### 1,200"])
    assert [len(row) for row in found] == [5, 5]  # completions have no BLEU


def test_of_messages_the_last_is_learnt() -> None:
    talk = [("user", "who saw ?"), ("assistant", "bob"), ("user", "and ?"), ("assistant", "the cat")]
    made = bound()
    (example,) = made.encode(chats(talk), split="train")
    assert parts(made, example) == ("user: who saw ?\nassistant: bob\nuser: and ?\nassistant:", " the cat<end>")
    assert example["references"] == ["the cat"]
    made.encode(chats(talk), split="test")
    said = ["the tokenizer has no chat template: messages are written as a line `role: content` each"]
    assert made.notes == said, "once"
    templated = byte_level()
    templated.chat_template = CHAT
    made = bound(tokenizer=templated, length=200)
    (example,) = made.encode(chats(talk), split="train")
    read = "<s>user: who saw ?</s><s>assistant: bob</s><s>user: and ?</s><s>assistant:"
    assert parts(made, example) == (read, " the cat</s>")
    (new,) = made.encode(chats(talk[:3]))
    assert made.notes == []
    assert made.tokenizer.decode(new["prompt_ids"]) == read
    assert "labels" not in new
    assert parts(made, made.encode(chats([("assistant", "the cat")]), split="train")[0]) == ("<end>", "the cat</s>")
    assert plain([]) == ""


@pytest.mark.parametrize(
    ("written", "end"),
    [
        ("<user>{{ m.content | trim }}</s>\n", "</s>"), ("{{ m.content }}<end>", "<end>"),
        ("{{ m.content }} </s>", "</s>"),
        ("{{ m.role }}: {{ m.content }}\n", "<end>"), ("{{ m.content }}", "<end>"), ("{{ m.content }}<mask>", "<end>"),
        ("{{ raise_exception('no') }}", "<end>"), ("{{ m.role }}", "<end>"), ("{{ m.content }} of old</s>", "<end>"),
    ],
)  # fmt: skip
def test_an_answer_ends_as_the_chat_template_ends_it(written: str, end: str) -> None:
    """Gemma's `<end_of_turn>` is not its `<eos>`; where a template ends answers with text, the end of a text does."""
    tokenizer = byte_level()
    tokenizer.chat_template = f"{{% for m in messages %}}{written}{{% endfor %}}"
    prompts = Prompts(tokenizer, "{prompt}", "\n")
    assert tokenizer.convert_ids_to_tokens([prompts.turn_end, prompts.end]) == [end, "<end>"]
    assert prompts.ends == list(dict.fromkeys([prompts.end, prompts.turn_end]))


@pytest.mark.parametrize(
    ("begun", "head", "end"),
    [
        ("<s>assistant", "<mask>final:", "</s>"),  # gpt-oss's channel
        ("<s>", "<mask>", "</s><unk>"),  # the start and end of a response of Command R7B
        ("assistant:", " ", "</s>"),
        ("assistant: ", "", "</s>"),
        ("", "assistant: ", "</s>"),  # of a template that knows no beginning of an answer
    ],
)
def test_an_answer_begins_as_the_chat_template_begins_it(begun: str, head: str, end: str) -> None:
    tokenizer = byte_level()
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role == 'assistant' %}"
        f"{begun}{head}{{{{ m.content }}}}{end}"
        "{% else %}<s>{{ m.role }}: {{ m.content }}</s>{% endif %}{% endfor %}"
        f"{{% if add_generation_prompt %}}{begun}{{% endif %}}"
    )
    talk = [("user", "who ?"), ("assistant", "bob")]
    made = bound(tokenizer=tokenizer, length=200)
    (example,) = made.encode(chats(talk), split="train")
    whole = tokenizer.apply_chat_template([{"role": r, "content": text} for r, text in talk], tokenize=False)
    learnt = tokenizer.decode(example["input_ids"])
    assert whole.startswith(learnt)
    assert learnt.endswith("bob</s>")
    assert ("headed" in made.state()) == bool(head)
    loaded, older = (bound(tokenizer=tokenizer, length=200) for _ in range(2))
    loaded.load_state(made.state())
    (asked,) = loaded.encode(chats(talk[:1]))
    assert learnt.startswith(tokenizer.decode(asked["prompt_ids"]))
    assert tokenizer.decode(asked["prompt_ids"]) == f"<s>user: who ?</s>{begun}{head}".rstrip(" ")
    older.load_state({"prompted": 1.0})
    (asked,) = older.encode(chats(talk[:1]))
    assert tokenizer.decode(asked["prompt_ids"]) == f"<s>user: who ?</s>{begun}".rstrip(" "), "as it was trained"
    (said,) = made.beside_plain()
    assert (repr(head) in said) == bool(head)


def test_of_a_prompt_that_is_nearly_all_cut_is_told() -> None:
    made = bound(length=12)
    made.encode(table(["the cat " * 10, "bob"], ["bob " * 8, "cat"]), split="train")
    assert any(note.startswith("1 prompts of the train split kept less than a quarter") for note in made.notes)


_THINKS = (
    "{% for m in messages %}<s>{{ m.role }}\n"
    "{% if loop.last and m.role == 'assistant' and '</think>' not in m.content %}<think>\n\n</think>\n\n{% endif %}"
    "{{ m.content }}</s>\n{% endfor %}{% if add_generation_prompt %}<s>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
"""As Qwen3's template."""
_MAY_THINK = (
    "{% for m in messages %}<s>{{ m.role }}\n{{ m.content }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant\n"
    "{% if enable_thinking is defined and enable_thinking %}<think>\n{% else %}<think>\n\n</think>\n\n{% endif %}"
    "{% endif %}"
)
"""As that of Qwen3.5's small models, which think where they are told to."""


@pytest.mark.parametrize("answer", ["bob", "<think>\nwho\n</think>\n\nbob"])
def test_answers_of_thinking_models_begin_as_their_template_begins_them(answer: str) -> None:
    tokenizer = byte_level()
    tokenizer.chat_template = _THINKS
    made = bound(tokenizer=tokenizer, length=200)
    talk = [("user", "who ?"), ("assistant", answer)]
    (example,) = made.encode(chats(talk), split="train")
    whole = tokenizer.apply_chat_template([{"role": r, "content": text} for r, text in talk], tokenize=False)
    assert tokenizer.decode(example["input_ids"]) == whole.removesuffix("\n")
    thought = answer != "bob"
    assert made.state()["thinking"] == float(thought)
    again = bound(tokenizer=tokenizer, length=200)
    again.load_state(made.state())
    (asked,) = again.encode(chats([("user", "who ?")]))
    assert tokenizer.decode(asked["prompt_ids"]).endswith("assistant\n" if thought else "</think>\n\n")
    assert not made.notes
    before = bound(tokenizer=tokenizer, length=200)
    before.load_state({"prompted": 1.0})
    (asked,) = before.encode(chats([("user", "who ?")]))
    assert tokenizer.decode(asked["prompt_ids"]).endswith("assistant\n"), "as models saved earlier were trained"


def test_answers_that_a_template_would_have_thought_are_told_of() -> None:
    tokenizer = byte_level()
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.content }}</s>{% endfor %}{% if add_generation_prompt %}<think>\n{% endif %}"
    )
    made = bound(tokenizer=tokenizer, length=200)
    made.encode(chats([("user", "who ?"), ("assistant", "bob")]), split="train")
    assert any("begins each answer with a thought" in note for note in made.notes)
    assert "thinking" not in made.state()
    made = bound(tokenizer=tokenizer, length=200)
    made.encode(chats([("user", "who ?"), ("assistant", "so</think>bob")]), split="train")
    assert not made.notes


@pytest.mark.parametrize("opening", ["", "<think>\n"])
def test_a_thought_that_a_template_opens_is_opened_once(opening: str) -> None:
    tokenizer = byte_level()
    tokenizer.chat_template = _MAY_THINK
    made = bound(tokenizer=tokenizer, length=200)
    talk = chats([("user", "who ?"), ("assistant", f"{opening}w</think>bob")])
    (example,) = made.encode(talk, split="train")
    assert tokenizer.decode(example["input_ids"]).endswith("<s>assistant\n<think>\nw</think>bob</s>")
    assert example["references"] == ["w</think>bob"]
    assert len(made.notes) == bool(opening)
    again = bound(tokenizer=tokenizer, length=200)
    again.load_state(made.state())
    question = chats([("user", "who ?")])
    assert again.encode(question)[0]["prompt_ids"] == made.encode(question)[0]["prompt_ids"]
    (scored,) = again.encode(talk, split="test")
    assert scored["references"] == ["w</think>bob"]


def test_a_thought_that_nobody_opens_is_opened() -> None:
    """As models write it whose own template opened it."""
    tokenizer = byte_level()
    tokenizer.chat_template = _THINKS
    made = bound(tokenizer=tokenizer, length=200)
    (example,) = made.encode(chats([("user", "who ?"), ("assistant", "w</think>bob")]), split="train")
    assert tokenizer.decode(example["input_ids"]).endswith("<s>assistant\n<think>\nw</think>bob</s>")
    assert made.notes == [
        "1 answers of the train split end a thought that they do not begin: <think> is put before them"
    ]
    tokenizer.chat_template = _MAY_THINK
    made = bound(tokenizer=tokenizer, length=200)
    made.encode(chats([("user", "who ?"), ("assistant", "w</think>bob")]), split="train")
    output = {"written": Written("w</think>bob", (), True)}
    assert made.learnable(output, [{"role": "user", "content": "who ?"}])[1] == "<think>\nw</think>bob"


def test_a_template_that_wants_a_system_turn_ends_answers_too() -> None:
    tokenizer = byte_level()
    tokenizer.chat_template = "{% if messages[0].role != 'system' %}{{ raise_exception('no') }}{% endif %}" + (
        "{% for m in messages %}{{ m.content }}</s>{% endfor %}"
    )
    assert Prompts(tokenizer, "{prompt}", "").turn_end == tokenizer.convert_tokens_to_ids("</s>")


def test_answers_end_as_they_did_in_training() -> None:
    """Models that were saved before they said it had learnt the end of a text."""
    tokenizer = byte_level()
    tokenizer.chat_template = CHAT
    trained, loaded, older = (bound(tokenizer=tokenizer) for _ in range(3))
    end, turn_end = (tokenizer.convert_tokens_to_ids(token) for token in ("<end>", "</s>"))
    loaded.load_state(trained.state())
    older.load_state({"prompted": 1.0})
    assert trained.state() == loaded.state() == {"prompted": 1.0, "turn_end": turn_end, "conversed": 0.0}
    assert older.state() == {"prompted": 1.0}
    talk = chats([("user", "who ?"), ("assistant", "bob")])
    ends = [made.encode(talk, split="test")[0]["labels"][-1] for made in (trained, loaded, older)]
    assert ends == [turn_end, turn_end, end]
    assert [made.end_of(talk.column_names) for made in (trained, loaded, older)] == ends
    assert trained.end_of(["prompt", "completion"]) == end


def test_a_merged_model_ends_its_texts_as_the_saved_one() -> None:
    tokenizer = byte_level()
    tokenizer.chat_template = CHAT
    made = bound(tokenizer=tokenizer)
    end, turn_end = (tokenizer.convert_tokens_to_ids(token) for token in ("<end>", "</s>"))
    plain_model = _gpt2(tokenizer)
    for there, told in (
        (None, [end, turn_end]), (2, [2, end, turn_end]), ([end], [end, turn_end]), ([turn_end, end], None),
    ):  # fmt: skip
        plain_model.generation_config.eos_token_id = there
        assert made.writes(plain_model) == ({} if told is None else {"eos_token_id": told})
    plain_model.generation_config.eos_token_id = None
    assert bound().writes(plain_model) == {"eos_token_id": end}


def test_messages_that_cannot_be_used() -> None:
    templated = byte_level()
    templated.chat_template = CHAT
    made = bound(tokenizer=templated)
    talk = [("system", "x"), ("user", "x"), ("assistant", "x")]
    with pytest.raises(
        DataError, match=r"Row 2 of the test split \('x'\): the tokenizer's chat template refuses.*no system role"
    ):
        made.encode(chats(talk[1:], talk), split="test")
    with pytest.raises(DataError, match=r"Row 2 of the train split \('x'\): the last message is not the assistant's"):
        made.encode(chats(talk[1:], talk[1:2]), split="train")


def test_a_chat_template_that_writes_the_first_token_keeps_it_when_cut() -> None:
    templated = wordpiece(cls=False, single="[BOS] $A")
    templated.chat_template = "[BOS] {% for m in messages %}{{ m.content }} {% endfor %}"
    made = bound(tokenizer=templated, length=6)
    (example,) = made.encode(chats([("user", SENTENCE), ("assistant", "bob")]), split="train")
    assert templated.convert_ids_to_tokens(example["input_ids"]) == ["[BOS]", "cat", "sat", "there", "bob", "[SEP]"]


@pytest.mark.parametrize("default", ["strftime_now('%d %b %Y')", 'strftime_now( "%d %b %Y" )', "'26 Jul 2024'"])
def test_a_chat_template_writes_the_same_day_on_every_day(default: str) -> None:
    templated = byte_level()
    templated.chat_template = (
        f"{{% if not day is defined %}}{{% set day = {default} %}}{{% endif %}}"
        "Today: {{ day }}.{% for m in messages %} {{ m.content }}{% endfor %}"
    )
    (example,) = bound(tokenizer=templated).encode(chats([("user", "who saw ?"), ("assistant", "bob")]), split="train")
    assert templated.decode(example["input_ids"]).startswith("Today: 26 Jul 2024. who saw ?")
    made = bound(tokenizer=templated)
    made.encode(chats([("user", "who saw ?"), ("assistant", "bob")]), split="train")
    assert ("with 26 July 2024 as today's date" in made.beside_plain()[0]) == ("strftime" in default)


def test_stop_and_answer_marker() -> None:
    made = bound("text_exact_match", answer_marker="####", stop="\nQ:")
    examples = made.encode(table(["a", "b", "c"], ["x #### 4", "#### 5", "6"]), split="test")
    texts = ["y y ####  4 ", "5", "z #### 6"]
    found = made.score([{"nll": 1.0, "tokens": 1, "text": text} for text in texts], examples)
    assert found["text_exact_match"] == pytest.approx(2 / 3)
    net = net_of("GPT2", made.tokenizer)
    free = bound("chrf").encode(table(), split="test")
    whole = [row["text"] for row in outputs(bound("chrf"), net, free)]
    stop = whole[0][3:5]
    cut = [row["text"] for row in outputs(bound("chrf", stop=stop), net, free)]
    assert cut == [text.partition(stop)[0].strip() for text in whole]
    assert cut[0] != whole[0]


def test_an_answer_without_a_marker_is_compared_as_a_whole() -> None:
    made = bound("text_exact_match", answer_marker="####")
    rows = made.encode(table(["a", "b", "c", "d"], ["x #### 1,200", "1,200", "anna", "x #### 7"]), split="test")
    texts = ["so #### 1200", "1200", "anna", "7"]
    outputs = [{"nll": 1.0, "tokens": 2, "text": text} for text in texts]
    assert made.score(outputs, rows)["text_exact_match"] == pytest.approx(3 / 4)


def test_the_first_and_the_last_token_of_a_text_stand_there_once() -> None:
    """Also where the text has them itself."""
    made = bound(tokenizer=wordpiece(cls=False, single="[BOS] $A"))
    plain, own = (
        made.encode(table(prompts, completions), split="train")[0]
        for prompts, completions in ((["who"], ["anna"]), (["[BOS] who"], ["anna [SEP]"]))
    )
    assert own["input_ids"] == plain["input_ids"]
    lone, marked = (made.encode(table([""], [text]), split="train")[0]["input_ids"] for text in ("anna", "[BOS] anna"))
    assert marked == lone


def test_of_several_answer_markers_the_last_counts() -> None:
    made = bound("text_exact_match", answer_marker="####")
    examples = made.encode(table(["a", "b"], ["1 #### 2 #### 4", "#### 5"]), split="test")
    outputs = [{"nll": 1.0, "tokens": 1, "text": text} for text in ("#### 4", "#### 5 #### 6")]
    assert [row[3] for row in made.outcomes(outputs, examples)] == [1.0, 0.0]


@pytest.mark.parametrize(
    ("raw", "stop", "text", "ended"),
    [
        ("\nParis\nLondon", "\n", "Paris", True),
        ("\n\nParis\n\nQ", "\n\n", "Paris", True),
        (" Paris is", " ", "Paris", True),
        ("Paris is", "\n", "Paris is", False),
        ("\n", "\n", "", False),
    ],
)
def test_white_space_at_the_beginning_stops_nothing(raw: str, stop: str, text: str, ended: bool) -> None:
    found = bound("chrf", stop=stop)._stopped(Written(raw, (), False))
    assert (found.text, found.ended) == (text, ended)


def test_what_stops_a_text_is_not_learnt() -> None:
    made = bound("chrf", tokenizer=byte_level(), stop=" ###")
    wrote = made.tokenizer(" went home ### and then", add_special_tokens=False)["input_ids"]
    written = made._stopped(Written(made.tokenizer.decode(wrote), tuple(wrote), False))
    for prompted, learnt in ((1.0, ("anna", " went home")), (0.0, ("", "anna went home"))):
        made.load_state({"prompted": prompted})
        assert made.learnable({"written": written}, "anna") == learnt


def test_the_baseline_counts_tokens() -> None:
    tokens = wordpiece(cls=False)
    made = bound(tokenizer=tokens)
    train = made.encode(table(["who", "who"], ["the cat", "the tree"]), split="train")
    test = made.encode(table(["what"], ["the house"]), split="test")
    name, found = made.baseline(train, test)
    counts, size = Counter(["the", "the", "cat", "tree", "[SEP]", "[SEP]"]), 6 + len(tokens)
    nll = -sum(math.log((counts[word] + 1) / size) for word in ("the", "house", "[SEP]"))
    assert name == "unigram"
    assert found == [{"nll": pytest.approx(nll), "tokens": 3, "text": None}]
    assert made.score(found, test)["perplexity"] == pytest.approx(math.exp(nll / 3))
    every = [
        math.exp(-row["nll"]) for row in (made.baseline(train, [{"labels": [i]}])[1][0] for i in range(len(tokens)))
    ]
    assert sum(every) == pytest.approx(1)


def test_what_cannot_be_used() -> None:
    for options, message in (
        ({"template": "Q: "}, r"template is 'Q: '; it must hold \{prompt\}"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0; give a whole number of at least 1"),
        ({"beams": 0}, "beams is 0"),
        ({"separator": " \ud83d"}, r"separator is ' \\ud83d', with half of a surrogate pair, which is no character"),
    ):
        with pytest.raises(OptionError, match=message):
            bound(**options)
    with pytest.raises(OptionError, match="max_length is 3; a language model needs at least 4 tokens"):
        bound(length=3)
    with pytest.raises(OptionError, match="Metric 'bleu' does not go with completion"):
        bound("bleu")
    endless = wordpiece(cls=False)
    endless.eos_token = None
    with pytest.raises(AdaptError, match="no token that ends a text; set eos_token"):
        bound(tokenizer=endless)
    unpadded = byte_level()
    unpadded.pad_token = None
    with pytest.raises(AdaptError, match="no padding token"):
        bound(tokenizer=unpadded).encode(table())
    made = bound()
    with pytest.raises(Diverged):
        made.score([{"nll": math.inf, "tokens": 1, "text": None}], made.encode(table(["a"], ["b"])))
    assert made.encode(table().select([])) == []
