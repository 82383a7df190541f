"""The embedded task and the shipped encoder: what `adapt compare` uses where nothing is named."""

import re
from collections import Counter
from pathlib import Path

import pytest

import adapt
from adapt.data.embedded import embedded
from adapt.data.embedded.choices import HELD_OUT, KINDS, NOISE, SIZES, TRAINED, generate

FOLDER = Path(adapt.__file__).parent / "resources" / "tiny-encoder"


@pytest.fixture(scope="module")
def splits():
    return generate(seed=0)


# Written apart from the generator: which of the two things the sentence says was chosen.
THING = r"((?:the|that|this) [a-z ]+?)"
CHOSEN_FIRST = [
    rf"wanted {THING} , not {THING} \.",
    rf"took {THING} instead of {THING} \.",
    rf"about {THING} rather than {THING} \.",
    rf"not give up {THING} for {THING} \.",
    rf"asked for {THING} , although {THING} was there \.",
]
CHOSEN_LAST = [
    rf"wanted not {THING} but {THING} \.",
    rf"instead of {THING} [a-z]+ took {THING} \.",
    rf"rather than {THING} [a-z]+ mentioned {THING} \.",
    rf"gave up {THING} for {THING} \.",
    rf"asked for {THING} at first , but then for {THING} \.",
    rf"although {THING} was there [a-z]+ asked for {THING} \.",
    rf"{THING} was there , but [a-z]+ asked for {THING} \.",
]
KIND_OF = {noun: kind for nouns in (TRAINED, HELD_OUT) for kind, words in nouns.items() for noun in words}


def kinds(text: str) -> tuple[str, str]:
    """Kind of the thing chosen, kind of the thing passed over."""
    for patterns, chosen in ((CHOSEN_FIRST, 0), (CHOSEN_LAST, 1)):
        for pattern in patterns:
            if match := re.search(pattern, text):
                things = [KIND_OF[thing.split()[-1]] for thing in match.groups()]
                return things[chosen], things[1 - chosen]
    raise AssertionError(f"no rule for: {text}")


def test_same_seed_same_rows(splits):
    assert generate(seed=0) == splits
    assert generate(seed=1)["train"] != splits["train"]


def test_data_has_the_documented_splits(splits):
    data = embedded()
    assert data.name == "choices"
    assert data.problem == "single_label"
    assert data.labels == KINDS == ("machine", "person", "place", "work")
    assert {split: len(rows) for split, rows in data.splits.items()} == SIZES
    for split, rows in data.splits.items():
        texts, labels = splits[split]
        assert list(rows["text"]) == texts
        assert [KINDS[label] for label in rows["label"]] == labels
    assert data.sha256.startswith("4a9df5b847c0")  # committed results hold it
    assert embedded("sequence_classification").sha256 == data.sha256
    assert embedded(seed=1).sha256 != data.sha256


def test_rule_holds_but_for_the_noise(splits):
    for texts, labels in splits.values():
        rows = [(*kinds(text), label) for text, label in zip(texts, labels, strict=True)]
        assert all(chosen != passed_over for chosen, passed_over, _ in rows)
        wrong = sum(chosen != label for chosen, _, label in rows)
        assert wrong / len(rows) == pytest.approx(NOISE, abs=0.012)


def test_labels_and_frames_are_balanced(splits):
    for split, (texts, labels) in splits.items():
        assert Counter(labels) == dict.fromkeys(KINDS, SIZES[split] // len(KINDS))
        pairs = Counter(map(kinds, texts))
        assert len(pairs) == 12
        assert max(pairs.values()) - min(pairs.values()) <= 1


def test_no_row_twice(splits):
    texts = [text for texts, _ in splits.values() for text in texts]
    assert len(set(texts)) == len(texts) == sum(SIZES.values())


def test_held_out_words_are_new_in_test(splits):
    trained = {noun for words in TRAINED.values() for noun in words}
    held_out = {noun for words in HELD_OUT.values() for noun in words}
    words = {split: {word for text in texts for word in text.split()} for split, (texts, _) in splits.items()}
    assert words["train"] & held_out == words["validation"] & held_out == set()
    assert words["train"] & trained == trained
    assert words["test"] & trained == set()
    assert words["test"] & held_out == held_out
    assert words["test"] - held_out <= words["train"] - trained  # everything but the nouns is known


def test_words_alone_do_not_solve_it(splits):
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(CountVectorizer(), LogisticRegression(max_iter=1000)).fit(*splits["train"])
    assert model.score(*splits["validation"]) < 0.62  # words tell the two kinds, and guessing between them is half
    assert model.score(*splits["test"]) < 0.35  # 0.25 is chance


# ---------------------------------------------------------------- the shipped encoder


@pytest.fixture(scope="module")
def encoder():
    import torch
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    model = AutoModelForMaskedLM.from_pretrained(FOLDER, dtype=torch.float32, local_files_only=True).eval()
    return model, AutoTokenizer.from_pretrained(FOLDER, local_files_only=True)


def test_shipped_folder_is_small_and_says_where_it_came_from():
    files = {path.name: path for path in FOLDER.iterdir()}
    assert set(files) == {"README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert sum(path.stat().st_size for path in files.values()) <= 4_000_000
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in files.values())  # readable by everybody
    readme = files["README.md"].read_text()
    for source in ("recipes/pretrain_tiny_encoder.py", "CC BY 4.0", "CC BY-SA 4.0", "public domain", "MASC"):
        assert source in readme


def test_every_noun_is_one_token(encoder):
    vocabulary = encoder[1].get_vocab()
    assert [noun for noun in KIND_OF if noun not in vocabulary] == []


SENTENCES = [
    "The teacher opened the door and walked into the room.",
    "I did not like the film because the story was too long.",
    "The president said that the war would be over in a few years.",
    "She looked at him for a moment and then she began to laugh.",
    "This camera is very easy to use and the pictures are good.",
    "Most of the people in the north of the country work on farms.",
    "We want to show that our new model is better than the others.",
]


def test_masked_words_are_predicted_better_than_without_context(encoder):
    import torch

    model, tokenizer = encoder
    without_context = tokenizer("[MASK]", return_tensors="pt")
    losses = {"context": [], "no context": []}
    with torch.no_grad():
        unigram = model(**without_context).logits[0, 1].log_softmax(-1)
        for sentence in SENTENCES:
            ids = tokenizer(sentence, return_tensors="pt")["input_ids"][0]
            positions = range(1, len(ids) - 1)
            masked = ids.repeat(len(positions), 1)
            for row, position in enumerate(positions):
                masked[row, position] = tokenizer.mask_token_id
            logits = model(input_ids=masked).logits.log_softmax(-1)
            losses["context"] += [-logits[row, p, ids[p]].item() for row, p in enumerate(positions)]
            losses["no context"] += [-unigram[ids[p]].item() for p in positions]
    context, no_context = (sum(values) / len(values) for values in losses.values())
    assert context < no_context - 1.5  # nats a word


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("the united [MASK] of america", "states"),
        ("he opened the [MASK] and went out of the room", "door"),
        ("they did not [MASK] what to do", "know"),
    ],
)
def test_easy_words_are_among_the_first_five(encoder, text, word):
    model, tokenizer = encoder
    inputs = tokenizer(text, return_tensors="pt")
    logits = model(**inputs).logits[0, inputs["input_ids"][0].tolist().index(tokenizer.mask_token_id)]
    assert word in tokenizer.convert_ids_to_tokens(logits.topk(5).indices)
