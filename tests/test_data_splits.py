"""Cutting splits, few-shot samples and smaller training sets."""

from __future__ import annotations

import random
import unicodedata
from collections import Counter
from typing import Any

import datasets
import numpy
import pytest

from adapt.data import Data, few_shot, folds, load, subsample
from adapt.data.samples import quotas
from adapt.data.splits import size_of
from adapt.spec import DataError, OptionError


def rows(counts: dict[str, int], seed: int = 0) -> tuple[list[str], list[str]]:
    """Shuffled labels with these counts, and texts that tell the position."""
    labels = [name for name, n in counts.items() for _ in range(n)]
    random.Random(seed).shuffle(labels)
    return [f"row {i:05d}" for i in range(len(labels))], labels


def canonical(labels: list[Any]) -> datasets.Dataset:
    return datasets.Dataset.from_dict({"text": [f"row {i:05d}" for i in range(len(labels))], "label": labels})


def texts(dataset: datasets.Dataset) -> list[str]:
    return list(dataset["text"])


def test_cut_is_stratified_disjoint_and_in_order() -> None:
    source = rows({"a": 600, "b": 300, "c": 95, "d": 3, "e": 2})
    data = load(source, validation=0.1, test=0.2, seed=3)
    parts = {split: texts(data.splits[split]) for split in ("train", "validation", "test")}
    assert {split: len(part) for split, part in parts.items()} == {
        "train": 700,
        "validation": 100,
        "test": 200,
    }
    for part in parts.values():
        assert part == sorted(part)
    assert sorted(t for part in parts.values() for t in part) == source[0]
    counts = {split: Counter(data.splits[split]["label"]) for split in parts}
    assert counts["test"][0] == pytest.approx(120, abs=1)
    assert counts["test"][2] == pytest.approx(19, abs=1)
    assert counts["validation"][1] == pytest.approx(30, abs=1)
    assert [counts[split][3] for split in parts] == [1, 1, 1]
    assert [counts[split][4] for split in parts] == [1, 0, 1], "the last example stays in train"


def test_cut_depends_on_the_seed_alone() -> None:
    source = rows({"a": 60, "b": 40})
    state = numpy.random.get_state()[1].copy()  # type: ignore[union-attr]
    cut = [texts(load(source, seed=seed).splits["test"]) for seed in (0, 0, 1)]
    assert cut[0] == cut[1] != cut[2]
    assert cut[0] == texts(load(source, validation=0.5).splits["test"]), "whatever the validation share"
    assert cut[0] == texts(load(source, validation=0).splits["test"])
    assert (numpy.random.get_state()[1] == state).all(), "the global generator is not touched"


@pytest.mark.parametrize(
    ("counts", "total", "caps", "sizes"),
    [
        ([50, 30, 20], 10, None, [5, 3, 2]),
        ([98, 1, 1], 10, None, [8, 1, 1]),  # one of each class, at the cost of the largest
        ([44, 36, 20], 5, None, [2, 2, 1]),  # shares of 2.2, 1.8 and 1: the largest remainder
        ([58, 40, 1, 1], 5, None, [2, 1, 1, 1]),  # shares of 2.9 and 2: that which has lost least
        ([5, 5], 6, [2, 5], [2, 4]),
        ([1, 1, 1], 2, None, [1, 1, 1]),
        ([2, 2], 9, [1, 2], [1, 2]),
    ],
)
def test_each_class_has_its_share_at_least_one_row_and_at_most_what_can_be_spared(
    counts: list[int], total: int, caps: list[int] | None, sizes: list[int]
) -> None:
    assert quotas(counts, total, caps or counts) == sizes


def test_a_share_of_rows_is_rounded_to_the_nearest_number_and_is_one_at_least() -> None:
    assert [size_of(share, 15) for share in (0.01, 0.1, 0.24, 0.3, 0.5)] == [1, 2, 4, 4, 8]


def test_zero_means_no_split() -> None:
    source = rows({"a": 10, "b": 10})
    assert list(load(source, test=0).splits) == ["train", "validation"]
    assert list(load(source, validation=0, test=0).splits) == ["train"]


def test_a_cut_of_few_rows_has_every_class() -> None:
    data = load(rows({"a": 5, "b": 5}))
    assert {s: Counter(d["label"]) for s, d in data.splits.items()} == {
        "train": {0: 3, 1: 3},
        "validation": {0: 1, 1: 1},
        "test": {0: 1, 1: 1},
    }


def test_regression_is_cut_at_random() -> None:
    scores = [i / 7 for i in range(100)]
    data = load(([f"row {i:05d}" for i in range(100)], scores), validation=0.2)
    assert {split: len(part) for split, part in data.splits.items()} == {
        "train": 70,
        "validation": 20,
        "test": 10,
    }
    assert texts(data.splits["test"]) == sorted(texts(data.splits["test"]))
    assert max(data.splits["test"]["label"]) - min(data.splits["test"]["label"]) > 3


def test_multi_label_cut_leaves_every_label_in_train() -> None:
    labels = [["common"] if i % 2 else ["common", "other"] for i in range(38)] + [
        ["rare"],
        ["rare", "common"],
    ]
    for seed in range(20):
        data = load(([f"row {i}" for i in range(40)], labels), validation=0.3, test=0.3, seed=seed)
        assert {len(data.splits[s]) for s in ("validation", "test")} == {12}
        positives = numpy.array(data.splits["train"]["label"]).sum(0)
        assert (positives > 0).all()


LABELLED: dict[str, Any] = {
    "classes": lambda i: {"label": "abc"[i % 3]},
    "numbers": lambda i: {"label": i / 7},
    "several": lambda i: {"label": ["a"] if i % 3 else ["a", "b"]},
    "pairs": lambda i: {"text_pair": f"pair {i % 4}", "label": "ab"[i % 2]},
    "nothing": lambda i: {},
}


@pytest.mark.parametrize("labels", LABELLED)
def test_rows_of_one_input_are_cut_out_together(labels: str) -> None:
    """Else a test split drawn from train would hold what was learnt, and score too well."""
    rows = [{"text": f"row {i}", **LABELLED[labels](i)} for i in range(120) for _ in range(1 + (i % 5 == 0))]
    kind = {"kind": "masked_lm"} if labels == "nothing" else {}
    for seed in range(5):
        data = load(rows, validation=0.2, test=0.2, seed=seed, **kind)
        parts = {split: texts(part) for split, part in data.splits.items()}
        assert sorted(text for part in parts.values() for text in part) == sorted(row["text"] for row in rows)
        assert not any(set(parts[a]) & set(parts[b]) for a, b in (("train", "test"), ("train", "validation")))
        assert not set(parts["validation"]) & set(parts["test"])
        assert all(27 <= len(parts[split]) <= 29 for split in ("validation", "test"))
        assert not data.notes
        classes = [Counter(map(str, part["label"])) for part in data.splits.values()] if labels == "classes" else []
        assert all(max(n.values()) - min(n.values()) <= 3 for n in classes)


def test_rows_of_one_text_and_several_classes_are_cut_out_together() -> None:
    """As where several annotators labelled it: else it is learnt under the one label and scored under the other."""
    rows = [
        {"text": f"text {i}", "label": "ab"[(i + (turn == 2 and i % 3 == 0)) % 2]}
        for i in range(200)
        for turn in range(3)
    ]
    for seed in range(3):
        data = load(rows, validation=0.2, test=0.2, seed=seed)
        assert not parted(data)
        assert sum(map(len, data.splits.values())) == 600
        for split in ("validation", "test"):
            part = data.splits[split]
            assert 114 <= len(part) <= 120
            assert 0.45 < sum(part["label"]) / len(part) < 0.55
    made = folds(load(rows, validation=0, test=0), 5, validation=0.1)
    assert not any(parted(part) for part in made.parts)


def test_a_text_of_two_classes_leaves_the_others_their_shares() -> None:
    given = [{"text": f"t{c} {i}", "label": f"c{c:03}"} for c in range(50) for i in range(4)]
    for more in ([], [{"text": "t0 0", "label": "c001"}]):
        data = load([*given, *more])
        assert all(set(part["label"]) == {*range(50)} for part in data.splits.values())
        assert not parted(data)


def test_a_class_that_is_in_shared_texts_alone_stays_in_train() -> None:
    given = [{"text": f"t {i}", "label": "ab"[i % 2]} for i in range(60)]
    given += [{"text": f"t {i}", "label": "c"} for i in (0, 1)]
    for seed in range(20):
        data = load(given, seed=seed)
        assert data.labels == ("a", "b", "c")
        assert list(data.splits["train"]["label"]).count(2) == 2
        assert not parted(data)


def test_each_class_stays_in_train_whatever_texts_it_shares() -> None:
    few = [{"text": "T", "label": label} for label in "aab"] + [{"text": f"o{i}", "label": "b"} for i in range(27)]
    for seed in range(30):
        assert set(load(few, seed=seed).splits["train"]["label"]) == {0, 1}
    three = [{"text": f"t{i}", "label": label} for i in range(90) for label in ("ab", "ac", "bc")[i % 3]]
    both = [{"text": f"t{i}", "label": label} for i in range(50) for label in "ab"]
    for given in (three, both):
        data = load(given)
        assert all(set(part["label"]) == {*range(len(data.labels))} for part in data.splits.values())
        assert not parted(data)


def test_texts_that_stand_twice_are_cut_out_together() -> None:
    data = load([{"text": f"text {i}"} for i in range(60) for _ in range(1 + (i % 4 == 0))], kind="causal_lm", test=0.2)
    parts = [set(part["completion"]) for part in data.splits.values()]
    assert sum(map(len, parts)) == len(set[str]().union(*parts)) == 60
    assert not data.notes


def parted(data: Data) -> bool:
    there = [set(texts(part)) for part in data.splits.values()]
    return any(there[a] & there[b] for a, b in ((0, 1), (0, 2), (1, 2)))


@pytest.mark.parametrize("times", [2, 3])
def test_texts_of_rare_classes_are_not_parted(times: int) -> None:
    rows = [{"text": f"text {c} {i}", "label": f"class {c}"} for c in range(20) for i in range(7) for _ in range(times)]
    for most in (None, 10):
        data = load(rows, max_test=most, max_validation=most)
        sizes = {split: len(part) for split, part in data.splits.items()}
        assert not parted(data)
        assert sizes["test"] == sizes["validation"] == (most or 14 * times)
        left_out = len(rows) - sum(sizes.values())
        assert data.notes == (f"{left_out} rows are in no split: others of their text are held out",)
        of_classes = Counter(data.splits["test"]["label"])
        assert max(of_classes.values()) <= 3
        assert len(of_classes) == min(20, sizes["test"])


def test_classes_have_their_shares_though_few_texts_are_all_that_they_have() -> None:
    rows = [{"text": f"spam {i % 4}", "label": "spam"} for i in range(100)]
    data = load(rows + [{"text": f"text {i}", "label": "ham"} for i in range(1900)])
    assert not parted(data)
    assert [Counter(part["label"])[1] for part in data.splits.values()] == [50, 8, 10]  # of 75 that test leaves
    assert data.notes == ("32 rows are in no split: others of their text are held out",)


def test_texts_of_unequal_numbers_leave_classes_their_shares() -> None:
    spam = ["once", *(f"spam {i % 9}" for i in range(99))]
    rows = [{"text": text, "label": "spam"} for text in spam] + [{"text": f"{i}", "label": "ham"} for i in range(900)]
    for seed in range(5):
        data = load(rows, seed=seed)
        assert not parted(data)
        assert [len(part) for part in data.splits.values()][2] == 100
        assert Counter(data.splits["test"]["label"])[1] == 10
    most = [*["buy"] * 90, *(f"spam {i % 5}" for i in range(15))]  # of which none is given up for a row more
    rows = [{"text": text, "label": "spam"} for text in most] + [{"text": f"{i}", "label": "ham"} for i in range(900)]
    for seed in range(5):
        data = load(rows, seed=seed)
        assert not parted(data)
        assert Counter(data.splits["test"]["label"])[1] == 9
        assert Counter(data.splits["train"]["label"])[1] >= 90
    few = ["a", "b", *["c"] * 18]  # a text for each split, of which test must not have two
    rows = [{"text": text, "label": "few"} for text in few] + [{"text": f"{i}", "label": "many"} for i in range(180)]
    for seed in range(5):
        data = load(rows, seed=seed)
        assert not parted(data)
        assert all(0 in part["label"] for part in data.splits.values())


def test_classes_that_have_not_a_text_for_each_split_are_divided() -> None:
    toy = [("one", "a"), ("two", "b")] * 10
    for rows in (toy, [(f"{c} {i % 2}", c) for c in "abcdefgh" for i in range(8)]):
        data = load([{"text": text, "label": label} for text, label in rows])
        assert sum(map(len, data.splits.values())) == len(rows)
        assert all(len(set(part["label"])) == len(data.labels) for part in data.splits.values())
        assert [note for note in data.notes if "of test are in train too (100%)" in note]
    two = [{"text": f"text {i}", "label": "a" if i < 20 else "b"} for i in range(22)]
    assert load(two).notes == ("validation has no row of 'b': too few rows for every split",)
    assert not load(two, max_validation=1).notes, "as few as were asked for"


def test_rows_of_an_input_that_more_have_than_the_split_are_divided() -> None:
    rows = [{"text": "the same" if i < 40 else f"row {i}", "label": "ab"[i % 2]} for i in range(100)]
    data = load(rows, seed=1)
    assert {split: len(part) for split, part in data.splits.items()} == {"train": 80, "validation": 10, "test": 10}
    assert any("of test are in train too" in note for note in data.notes)


def test_a_split_that_is_small_for_labels_of_one_example_is_told_of() -> None:
    labels = [["common", f"rare {i}"] if i < 88 else ["common"] for i in range(100)]
    data = load(([f"row {i}" for i in range(100)], labels))
    assert {split: len(rows) for split, rows in data.splits.items()} == {"train": 88, "validation": 2, "test": 10}
    assert data.notes == (
        "validation has 2 rows, where 10 were asked for: each class, label or tag has at least one in train",
    )
    data = load(([f"row {i}" for i in range(100)], labels[5:] + [["common"]] * 5))
    assert (len(data.splits["validation"]), data.notes) == (7, ()), "two thirds"


def test_few_shot() -> None:
    labels = [int(x) for x in rows({"0": 50, "1": 7, "2": 4})[1]]
    full = canonical(labels)
    sample = few_shot(full, "single_label", 4, seed=1)
    assert Counter(sample["label"]) == {0: 4, 1: 4, 2: 4}
    assert texts(sample) == sorted(texts(sample))
    assert texts(sample) == texts(few_shot(full, "single_label", 4, seed=1))
    assert texts(sample) != texts(few_shot(full, "single_label", 4, seed=2))
    at = dict(zip(full["text"], full["label"], strict=True))
    assert [at[t] for t in texts(sample)] == list(sample["label"])


def test_few_shot_of_label_lists() -> None:
    labels = [[1, int(i % 3 == 0), int(i in (5, 11, 17))] for i in range(30)]
    sample = few_shot(canonical(labels), "multi_label", 3, seed=0)
    assert (numpy.array(sample["label"]).sum(0) >= 3).all()
    assert len(sample) <= 6, "a row counts for each of its labels"


def test_few_shot_of_label_lists_has_rows_without_labels() -> None:
    labels = [[int(i % 10 == 0), int(i % 10 == 1)] for i in range(100)]
    assert Counter(map(tuple, few_shot(canonical(labels), "multi_label", 3, seed=0)["label"])) == {
        (1, 0): 3, (0, 1): 3, (0, 0): 3
    }  # fmt: skip
    few = [label for label in labels if any(label)] + [[0, 0]]
    assert list(few_shot(canonical(few), "multi_label", 3, seed=0)["label"]).count([0, 0]) == 1


def test_few_shot_errors() -> None:
    data = canonical([0, 0, 0, 1, 1, 2])
    with pytest.raises(DataError, match=r"few_shot=3: too few training rows of 'no' \(2\), 'maybe' \(1\); ask for 1"):
        few_shot(data, "single_label", 3, seed=0, names=("yes", "no", "maybe"))
    with pytest.raises(DataError, match=r"of 2 \(1\); ask for 1 at most"):
        few_shot(data, "single_label", 2, seed=0)
    with pytest.raises(OptionError, match="use max_train instead"):
        few_shot(canonical([0.5, 0.7]), "regression", 1, seed=0)
    with pytest.raises(OptionError, match="few_shot=0: give a number of rows, 1 or more"):
        few_shot(data, "single_label", 0, seed=0)


@pytest.mark.parametrize("n", [3, 10, 57, 103])
def test_subsample_is_stratified(n: int) -> None:
    labels = [int(x) for x in rows({"0": 80, "1": 22, "2": 2})[1]]
    sample = subsample(canonical(labels), "single_label", n, seed=5)
    counts = Counter(sample["label"])
    assert len(sample) == n
    assert min(counts[i] for i in range(3)) >= 1
    assert counts[0] == pytest.approx(n * 80 / 104, abs=2)
    assert texts(sample) == sorted(texts(sample))
    assert texts(sample) == texts(subsample(canonical(labels), "single_label", n, seed=5))
    assert n == 3 or texts(sample) != texts(subsample(canonical(labels), "single_label", n, seed=6))


def test_subsample_of_fewer_rows_than_classes_and_of_all() -> None:
    data = canonical(list(range(10)))
    assert len(subsample(data, "single_label", 4, seed=0)) == 4
    assert texts(subsample(data, "single_label", 10, seed=0)) == texts(data)
    assert texts(subsample(data, "single_label", 99, seed=0)) == texts(data)
    with pytest.raises(OptionError, match="max_train=0: give a number of rows"):
        subsample(data, "single_label", 0, seed=0)


@pytest.mark.parametrize(
    ("problem", "labels"),
    [("regression", [i / 3 for i in range(30)]), ("multi_label", [[i % 2, 1] for i in range(30)])],
)
def test_subsample_without_classes(problem: Any, labels: list[Any]) -> None:
    data = canonical(labels)
    sample = subsample(data, problem, 11, seed=2)
    assert len(set(sample["text"])) == 11
    assert texts(sample) == sorted(texts(sample))


def test_samples_of_a_selection_in_any_format() -> None:
    data = canonical([i % 3 for i in range(60)])
    chosen = texts(few_shot(data, "single_label", 2, seed=0))
    assert (
        texts(few_shot(data.with_format("numpy", columns=["label"]).with_format(None), "single_label", 2, 0)) == chosen
    )
    assert list(few_shot(data.with_format("numpy"), "single_label", 2, seed=0)["text"]) == chosen
    part = data.select(range(10, 40))
    assert set(texts(few_shot(part, "single_label", 5, seed=0))) <= set(texts(part)), "rows of the selection"


SEEN = {
    "text": ({"text": "a", "label": "x"}, {"text": "a", "label": "y"}, {"text": "A", "label": "x"}),
    "pair": (
        {"premise": "a", "hypothesis": "b", "label": "x"},
        {"premise": "a", "hypothesis": "b", "label": "y"},
        {"premise": "b", "hypothesis": "a", "label": "x"},
    ),
    "words": (
        {"tokens": ["a", "b"], "tags": ["N", "V"]},
        {"tokens": ["a", "b"], "tags": ["V", "N"]},
        {"tokens": ["a b"], "tags": ["N"]},
    ),
    "question": (
        {"id": "1", "question": "q", "context": "c d", "answers": {"text": ["c"], "answer_start": [0]}},
        {"id": "2", "question": "q", "context": "c d", "answers": {"text": ["d"], "answer_start": [2]}},
        {"id": "3", "question": "r", "context": "c d", "answers": {"text": ["c"], "answer_start": [0]}},
    ),
    "source": ({"source": "a", "target": "b"}, {"source": "a", "target": "c"}, {"source": "c", "target": "b"}),
    "prompt": (
        {"prompt": "a", "completion": "b"},
        {"prompt": "a", "completion": "b"},
        {"prompt": "a", "completion": "c"},  # an instruction that rows have in common
    ),
}
"""Form to a row of train, a row that has the same input, and one that has not."""


@pytest.mark.parametrize("form", SEEN)
def test_held_out_rows_that_are_in_train_too_are_told(form: str) -> None:
    row, same, other = SEEN[form]
    train = [row, {**row, next(iter(row)): "z", "label": "y"}] if "label" in row else [row]
    splits = {"train": train, "validation": [same, other], "test": [other]}
    assert load(splits).notes == ("1 of 2 rows of validation are in train too (50%)",)
    assert load(splits | {"validation": [other], "test": [same]}).notes == (
        "1 of 1 rows of test are in train too (100%)",
    )


def test_a_few_held_out_rows_in_train_are_not_worth_a_word() -> None:
    train = [(f"text {i}", i % 2) for i in range(300)]
    held_out = [("text 0", 0), *((f"other {i}", i % 2) for i in range(100))]

    def notes(rows: list[tuple[str, int]]) -> tuple[str, ...]:
        return load(
            {"train": list(zip(*train, strict=True)), "test": list(zip(*rows, strict=True))}, validation=0
        ).notes

    assert notes(held_out) == ()
    assert notes(held_out[:-1]) == ("1 of 100 rows of test are in train too (1%)",)
    assert notes(train[:10] + held_out[1:])[0].startswith("10 of 110 rows of test are in train too")


def test_a_text_in_another_normal_form_is_the_same() -> None:
    """Corpora from several sources have both, and to many tokenizers they are one."""
    plain = [f"Ẹ̀kọ́ {i}" for i in range(60)]
    forms = [unicodedata.normalize(form, text) for text in plain for form in ("NFC", "NFD")]
    data = load({"text": forms, "label": [i // 2 % 2 for i in range(120)]})
    found = {split: {unicodedata.normalize("NFC", t) for t in rows["text"]} for split, rows in data.splits.items()}
    assert not found["train"] & (found["validation"] | found["test"])
    rows = {"text": plain, "label": [i % 2 for i in range(60)]}
    decomposed = {**rows, "text": [unicodedata.normalize("NFD", text) for text in plain]}
    assert load({"train": rows, "test": decomposed}, validation=0).notes == (
        "60 of 60 rows of test are in train too (100%)",
    )
    pairs = {"source": forms, "target": forms}
    seq2seq = load(pairs, kind="seq2seq", validation=0)
    sources = [
        {unicodedata.normalize("NFC", t) for t in seq2seq.splits[split]["source"]} for split in ("train", "test")
    ]
    assert not sources[0] & sources[1]
    assert max(seq2seq.test_groups["numbers"]) == len(sources[1]) - 1, "rows of one source"


def test_quotas_are_those_of_the_largest_remainders() -> None:
    rng = random.Random(0)

    def one_by_one(counts: list[int], total: int, caps: list[int]) -> list[int]:
        shares = [total * count / sum(counts) for count in counts]
        sizes = [min(cap, max(1, int(share))) for share, cap in zip(shares, caps, strict=True)]
        while sum(sizes) > total and max(sizes) > 1:
            sizes[max((i for i, n in enumerate(sizes) if n > 1), key=lambda i: sizes[i] - shares[i])] -= 1
        while sum(sizes) < total and any(n < cap for n, cap in zip(sizes, caps, strict=True)):
            free = [i for i, cap in enumerate(caps) if sizes[i] < cap]
            sizes[max(free, key=lambda i: shares[i] - sizes[i])] += 1
        return sizes

    for _ in range(300):
        counts = [rng.randrange(1, 30) for _ in range(rng.randrange(1, 9))]
        caps = [rng.randrange(count + 1) for count in counts]
        total = rng.randrange(1, sum(counts) + 3)
        assert quotas(counts, total, [n - 1 for n in counts]) == one_by_one(counts, total, [n - 1 for n in counts])
        assert quotas(counts, total, caps) == one_by_one(counts, total, caps)
