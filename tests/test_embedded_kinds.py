"""The embedded tasks of the other kinds: rules written apart from the generators, noise, held-out words."""

import re
from collections import Counter

import pytest

from adapt.data.embedded import GENERATORS, choices, embedded, entities, errands, facts, offers, sentences
from adapt.data.embedded.build import NOISE
from adapt.spec import OptionError

MODULES = {"token_classification": entities, "question_answering": facts, "seq2seq": offers, "causal_lm": errands}


@pytest.fixture(scope="module")
def tasks():
    return {kind: module.generate(0) for kind, module in MODULES.items()}


def text_of(row: dict) -> str:
    """All text of a row."""
    return " ".join(" ".join(value) if isinstance(value, list) else value for name, value in row.items()
                    if name not in ("tags", "answer_starts", "id"))  # fmt: skip


def noise_of(rows: list[dict], rule) -> float:
    return sum(not rule(row) for row in rows) / len(rows)


@pytest.mark.parametrize("kind", MODULES)
def test_rows_are_seeded_sized_and_unique(kind, tasks):
    module, splits = MODULES[kind], tasks[kind]
    assert {split: len(rows) for split, rows in splits.items()} == module.SIZES
    assert module.generate(0) == splits
    assert module.generate(1)["train"] != splits["train"]
    asked = [text_of({k: v for k, v in row.items() if k not in ("target", "references", "completion", "answer_texts")})
             for rows in splits.values() for row in rows]  # fmt: skip
    assert len(set(asked)) == len(asked)


@pytest.mark.parametrize("kind", MODULES)
def test_data_is_canonical(kind, tasks):
    data = embedded(kind)
    assert data.kind == kind
    assert list(data.splits) == ["train", "validation", "test"]
    for split, rows in data.splits.items():
        assert rows.to_list() == tasks[kind][split]
    assert embedded(kind).sha256 == data.sha256
    assert embedded(kind, seed=1).sha256 != data.sha256


HASHES = {
    "token_classification": "901c565f4378",
    "question_answering": "b4c52843a39a",
    "seq2seq": "72a202cb3627",
    "causal_lm": "160419273453",
}
"""First digits: what results on these tasks hold, so a change of a generator is seen."""


@pytest.mark.parametrize("kind", MODULES)
def test_rows_are_the_same_on_every_machine(kind):
    assert embedded(kind).sha256[:12] == HASHES[kind]


def test_unknown_kind():
    with pytest.raises(OptionError, match=r"no embedded task for kind 'ner'; choose one of sequence_classification"):
        embedded("ner")
    assert list(GENERATORS) == ["sequence_classification", *MODULES, "masked_lm"]


def test_plain_sentences_are_those_of_two_other_tasks(tasks):
    splits = sentences.generate(0)
    assert {split: len(rows) for split, rows in splits.items()} == {
        split: choices.SIZES[split] + entities.SIZES[split] for split in entities.SIZES
    }
    for split, rows in splits.items():
        named = {" ".join(row["tokens"]) for row in tasks["token_classification"][split]}
        assert {row["text"] for row in rows} == {*choices.generate(0)[split][0], *named}
    assert embedded("masked_lm").sha256[:12] == "cc36acf9a754"


def words_of(module, part: str) -> set[str]:
    """Lower-cased nouns of the training rows or of the test rows."""
    if module is entities:
        pools = [pool[part] for pool in (module.NAMES, module.SURNAMES, module.COUNTRIES, module.SUBJECTS)]
    elif module is errands:
        pools = list({"train": choices.TRAINED, "test": choices.HELD_OUT}[part].values())
    else:
        words = {"train": module.TRAINED, "test": module.HELD_OUT}[part]
        pools = [words[name] for name in ("people", "things", "places")]
    return {word.lower() for pool in pools for word in pool}


@pytest.mark.parametrize("kind", MODULES)
def test_held_out_words_are_new_in_test(kind, tasks):
    words = {
        split: {word.lower() for row in rows for word in re.findall(r"[A-Za-z]+", text_of(row))}
        for split, rows in tasks[kind].items()
    }
    trained, held_out = words_of(MODULES[kind], "train"), words_of(MODULES[kind], "test")
    assert words["train"] & held_out == words["validation"] & held_out == set()
    assert trained <= words["train"]
    assert words["test"] & trained == set()
    assert held_out <= words["test"]
    assert words["test"] - held_out <= words["train"]  # everything but the nouns is known


# ---------------------------------------------------------------- entities


def spans(row: dict) -> list[tuple[str, str]]:
    """Type and words of each entity of a row."""
    found: list[tuple[str, list[str]]] = []
    for token, tag in zip(row["tokens"], row["tags"], strict=True):
        label = entities.LABELS[tag]
        if label.startswith("B"):
            found.append((label[2:], [token]))
        elif label.startswith("I"):
            assert found[-1][0] == label[2:]
            found[-1][1].append(token)
    return [(kind, " ".join(words)) for kind, words in found]


def test_tags_are_bio_and_every_type_is_common(tasks):
    assert entities.LABELS[0] == "O"
    assert list(entities.LABELS[1:]) == sorted(entities.LABELS[1:])
    for rows in tasks["token_classification"].values():
        counts = Counter(kind for row in rows for kind, _ in spans(row))
        assert min(counts.values()) > 0.2 * sum(counts.values())
        assert all(len(row["tokens"]) == len(row["tags"]) <= 25 for row in rows)
        assert sum(words.count(" ") > 0 for row in rows for _, words in spans(row)) > 0.3 * sum(counts.values())


CUES = {
    r"was born in (.+) \.": "place",
    r"^(.+) wrote": "person",
    r"I read (.+) on the way": "work",
    r"way to (.+) \.": "place",
    r"tells the story of (.+) \.": "person",
    r"written by (.+) \.": "person",
    r"a copy of (.+) \.": "work",
    r"never read (.+) \.": "work",
    r"near (.+) \.": "place",
}
"""What stands in a context, whatever it is called."""


def test_frames_tell_the_type_but_for_the_noise(tasks):
    right = wrong = 0
    for rows in tasks["token_classification"].values():
        for row in rows:
            for cue, kind in CUES.items():
                if match := re.search(cue, " ".join(row["tokens"])):
                    first = " ".join(row["tokens"])[: match.start(1)].count(" ")
                    tagged = entities.LABELS[row["tags"][first]]
                    right, wrong = right + (tagged == f"B-{kind}"), wrong + (tagged != f"B-{kind}")
    assert right > 600
    assert 0.3 * NOISE < wrong / (right + wrong) < NOISE  # one of up to three entities of a noisy row


def test_names_alone_do_not_tell_the_type(tasks):
    """The commonest type of each name in train, on the names of train: what a dictionary would reach."""
    kinds: dict[str, Counter] = {}
    for row in tasks["token_classification"]["train"]:
        for kind, words in spans(row):
            kinds.setdefault(words.split()[-1], Counter())[kind] += 1
    found = [(kind, kinds[words.split()[-1]].most_common(1)[0][0])
             for row in tasks["token_classification"]["validation"] for kind, words in spans(row)
             if words.split()[-1] in kinds]  # fmt: skip
    assert 0.6 < sum(kind == guess for kind, guess in found) / len(found) < 0.85


# ---------------------------------------------------------------- facts


def parts(sentence: str) -> dict[str, str]:
    """Who, what, where and when of a sentence, found by words and not by frames; one of the last three is there."""
    both = (facts.TRAINED, facts.HELD_OUT)
    pools = {
        "who": [word for words in both for word in words["people"]],
        "what": [f"the {word}" for words in both for word in words["things"]],
        "where": [f"the {word}" for words in both for word in words["places"]],
        "when": list(facts.TIMES),
    }
    return {
        part: word
        for part, pool in pools.items()
        for word in pool
        if re.search(rf"\b{word}\b", sentence, re.IGNORECASE)
    }


def answered(row: dict) -> bool:
    asked = {"Where": "where", "What": "what", "Who": "who", "When": "when"}[row["question"].split()[0]]
    sentences = [parts(sentence) for sentence in row["context"].rstrip(".").split(". ")]
    assert 2 <= len(sentences) <= 4
    assert all(len(sentence) == 2 for sentence in sentences)
    (about,) = [s for s in sentences if any(re.search(rf"\b{value}\b", row["question"]) for value in s.values())]
    return row["answer_texts"][0].lower() == about.get(asked, "").lower()


def test_answers_stand_where_they_are_said_to_stand(tasks):
    for rows in tasks["question_answering"].values():
        assert len({row["id"] for row in rows}) == len(rows)
        for row in rows:
            ((text,), (start,)) = row["answer_texts"], row["answer_starts"]
            assert row["context"][start : start + len(text)] == text
            assert row["context"][0].isupper()
            assert len(re.findall(rf"\b{text}\b", row["context"], re.IGNORECASE)) == 1


def test_answers_follow_the_question_but_for_the_noise(tasks):
    for rows in tasks["question_answering"].values():
        assert noise_of(rows, answered) == pytest.approx(NOISE)
        assert min(Counter(row["question"].split()[0] for row in rows).values()) > 0.15 * len(rows)


def test_the_sort_of_the_answer_is_not_always_enough(tasks):
    """Where a thing, place or time is asked for, in how many contexts only one sentence has one."""
    alone = []
    for row in tasks["question_answering"]["train"]:
        if not row["question"].startswith("Who"):
            asked = row["question"].split()[0].lower()
            alone.append(sum(asked in parts(text) for text in row["context"].rstrip(".").split(". ")) == 1)
    assert 0.4 < sum(alone) / len(alone) < 0.75


# ---------------------------------------------------------------- offers and errands


def said(row: dict) -> bool:
    """Whether every reference holds all attributes and nothing of others."""
    given = dict(part.split(": ") for part in row["source"].split(" | "))
    needed = [f"the {given['who']}", f"the {given['thing']}", given["place"]]
    needed += [{"low": "costs very little", "high": "costs a lot"}[given["price"]]] if "price" in given else []
    return all(
        all(word.lower() in text.lower() for word in needed) and ("costs" in text) == ("price" in given)
        for text in row["references"]
    )


def test_references_say_what_the_source_says_but_for_the_noise(tasks):
    for rows in tasks["seq2seq"].values():
        assert noise_of(rows, said) == pytest.approx(NOISE, abs=0.004)
        assert all(row["target"] in row["references"] and len(set(row["references"])) == 3 for row in rows)
        assert 0.25 < sum(row["target"] == row["references"][0] for row in rows) / len(rows) < 0.42


RULE = {
    ("person", "yes"): "talk to them",
    ("person", "no"): "keep away from them",
    ("place", "yes"): "go there",
    ("place", "no"): "stay at home",
    ("work", "yes"): "look at it",
    ("work", "no"): "put it back",
    ("machine", "yes"): "make use of it",
    ("machine", "no"): "turn it off",
}
KIND_OF = {
    noun: kind for nouns in (choices.TRAINED, choices.HELD_OUT) for kind, words in nouns.items() for noun in words
}


def done(row: dict) -> bool:
    lines = dict(line.split(": ") for line in row["prompt"].splitlines()[:-1])
    action = re.fullmatch(rf" {lines['who']} should (.+) {lines['when']}\.", row["completion"])[1]
    return action == RULE[KIND_OF[lines["thing"]], lines["wanted"]]


def test_completions_follow_the_record_but_for_the_noise(tasks):
    for rows in tasks["causal_lm"].values():
        assert noise_of(rows, done) == pytest.approx(NOISE, abs=0.004)
        assert all(row["prompt"].endswith("\nreply:") for row in rows)
        assert min(Counter(row["completion"].split()[2] for row in rows).values()) > 0.05 * len(rows)
