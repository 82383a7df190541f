"""Rows that belong together: they stay together where rows are divided, and results know which they are."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from adapt.data import Data, folds, load, read_inputs, read_labelled, read_texts
from adapt.data.groups import Division
from adapt.spec import DataError, OptionError, Source, Task

NONE: Any = {"validation": 0, "test": 0}
GROUP = {"group": "doc"}
SEVERAL = [{"text": f"text {i}", "label": "abc"[i % 3 if i < 80 else 0], "doc": i // 4} for i in range(120)]
"""Four rows a document; `b` and `c` are in twenty of thirty."""


def by_split(data: Data, column: str = "group") -> dict[str, list[Any]]:
    return {split: list(rows[column]) for split, rows in data.splits.items()}


def test_rows_of_one_group_stay_together_and_every_class_stays_in_train() -> None:
    data = load(SEVERAL, columns=GROUP, test=0.2)
    found = by_split(data)
    assert {split: len(rows) for split, rows in found.items()} == {"train": 84, "validation": 12, "test": 24}
    assert sum(len(set(rows)) for rows in found.values()) == len(set().union(*found.values())) == 30
    assert data.columns["group"] == "doc"
    assert found != by_split(load(SEVERAL, columns=GROUP, test=0.2, seed=1))
    rare = [{**row, "label": "abc"[0 if i < 112 else 1 if i < 116 else 2]} for i, row in enumerate(SEVERAL)]
    for seed in range(5):
        train = load(rare, columns=GROUP, test=0.4, validation=0.4, seed=seed).splits["train"]
        assert set(train["label"]) == {0, 1, 2}
    assert load(SEVERAL, columns=GROUP, **NONE).sha256 != load(SEVERAL, **NONE).sha256
    dated = [{**row, "score": i / 7} for i, row in enumerate(SEVERAL)]
    numbers = load(dated, label="score", columns=GROUP)
    assert not set(numbers.splits["train"]["group"]) & set(numbers.splits["test"]["group"])


def test_whole_groups_keep_classes_about_in_proportion() -> None:
    sizes = [2 + doc * 7 % 9 for doc in range(100)]
    rows = [{"text": f"{d} {i}", "label": "ab"[d % 4 == 0], "doc": d} for d, n in enumerate(sizes) for i in range(n)]
    whole, mean = sum(row["label"] == "b" for row in rows) / len(rows), len(rows) / 100
    of_a_group = []
    for seed in range(10):
        data = load(rows, columns=GROUP, seed=seed)
        for split in ("validation", "test"):
            labels, documents = data.splits[split]["label"], set(data.splits[split]["group"])
            assert sum(labels) / len(labels) == pytest.approx(whole, abs=0.04)
            assert len(labels) == pytest.approx(0.1 * len(rows), rel=0.05)
            of_a_group.append(len(labels) / len(documents))
    assert sum(of_a_group) / len(of_a_group) == pytest.approx(mean, rel=0.15), "groups are of any size"


def test_groups_of_one_class_as_large_as_the_split_are_drawn_by_the_seed() -> None:
    rows = [{"text": f"{d} {i}", "label": "ab"[d % 2], "doc": d} for d in range(10) for i in range(10)]
    drawn = {tuple(load(rows, columns=GROUP, validation=0, seed=seed).splits["test"]["group"]) for seed in range(8)}
    assert all(len(documents) == 20 for documents in drawn), "one of each class"
    assert len(drawn) > 3


def test_a_split_of_whole_groups_has_a_group_of_each_class_that_can_spare_one() -> None:
    """Else the epoch could be chosen by one class, and scored by the other."""
    authors = [(author, "ab"[author % 2]) for author in range(16)] + [(16, "c"), (17, "d"), (18, "d"), (19, "d")]
    rows = [{"text": f"{d} {i}", "label": label, "doc": d} for d, label in authors for i in range(60)]
    for seed in range(4):
        data = load(rows, columns=GROUP, seed=seed)
        for split in ("validation", "test"):
            assert set(data.splits[split]["label"]) == {0, 1, 3}
            assert any(note.startswith(f"{split} has no row of 'c': rows of one group") for note in data.notes)
    assert not any("has no row" in note for note in load(rows[:-240], columns=GROUP).notes)


@pytest.mark.parametrize(
    ("others", "group", "found"),
    [
        ({"utterance": "u", "emotion": "e"}, "document", {"text": "utterance", "label": "emotion"}),
        ({"article": "a", "summary": "s"}, "document", {"source": "article", "target": "summary"}),
        ({"text": "t", "rating": "r"}, "topic", {"text": "text", "label": "rating"}),
        ({"question": "q", "label": "l"}, "passage", {"text": "question", "text_pair": "passage", "label": "label"}),
        ({"label": "l"}, "document", {"text": "document", "label": "label"}),
    ],
)
def test_the_group_is_not_taken_for_something_else_that_another_column_is(
    others: dict[str, str], group: str, found: dict[str, str]
) -> None:
    rows = [{group: f"g{i // 2}", **{n: f"{v} {i % 2 if v in 'erl' else i}" for n, v in others.items()}}
            for i in range(60)]  # fmt: skip
    for columns in (rows, [dict(reversed(row.items())) for row in rows]):
        assert load(columns, columns={"group": group}).columns == {**found, "group": group}


def test_of_rows_for_a_model_the_group_is_not_taken_for_the_text() -> None:
    rows = [{"document": f"g{i // 2}", "message": f"m{i}", "emotion": "ab"[i % 2]} for i in range(6)]
    task = Task("t", Source("t", ""), labels=("a", "b"))
    before = {"text": "utterance", "label": "emotion", "group": "document"}
    for named, usual in ((None, before), (GROUP | {"group": "document"}, {})):
        assert list(read_inputs(rows, task, named, usual)["text"]) == [row["message"] for row in rows]
        found = read_labelled(rows, task, columns=named, usual=usual)
        assert list(found.rows["text"]) == [row["message"] for row in rows]
        assert found.groups["numbers"] == [0, 0, 1, 1, 2, 2]
    alone = [{"document": row["document"], "emotion": row["emotion"]} for row in rows]
    assert list(read_labelled(alone, task, usual=before).rows["text"]) == [row["document"] for row in rows]
    assert list(read_inputs(alone, task, None, before)["text"]) == [row["document"] for row in rows]


def test_the_group_is_something_else_where_it_is_named_for_both() -> None:
    rows = [{"document": f"d{i // 2}", "utterance": f"u {i}", "emotion": "ab"[i % 2]} for i in range(60)]
    found = load(rows, text="document", columns={"group": "document"}).columns
    assert found == {"text": "document", "label": "emotion", "group": "document"}


def test_groups_of_missing_classes_are_taken_as_far_as_there_is_room() -> None:
    def cut(groups: list[str], of: int = 20, **choices: Any) -> Data:
        rows = [{"text": f"{d} {i}", "label": label, "doc": d} for d, label in enumerate(groups) for i in range(of)]
        return load(rows, columns=GROUP, **choices)

    def sizes(data: Data) -> list[int]:
        return [len(data.splits[split]) for split in ("train", "validation", "test")]

    few = cut(["a", "a", "b", "b"])
    assert sizes(few) == [40, 20, 20], "a class of two groups has none to spare for two splits"
    assert sum("has no row of" in note for note in few.notes) == 2
    names = [f"c{i}" for i in range(20)]
    assert sizes(cut(names * 2)) == [560, 160, 80], "the last split may take all that are spared"
    assert sizes(cut(names * 4)) == [1600 - 2 * 320, 320, 320], "twice what was asked for, at most"
    assert sizes(cut(["a", "a", "a", "b", "b", "b"], max_test=10, max_validation=10))[1:] == [10, 10]
    large = [{"text": f"{d} {i}", "label": "c" if i == 0 and d > 49 else "ab"[d % 2], "doc": d}
             for d in range(53) for i in range(20 if d < 50 else 1000)]  # fmt: skip
    assert max(sizes(load(large, columns=GROUP))[1:]) <= 400, "not a thousand rows for one"
    parts = folds(cut(["a", "b"] * 10, **NONE), 5).parts
    assert all(set(part.splits[split]["label"]) == {0, 1} for part in parts for split in ("validation", "test"))


def test_folds_say_how_many_rows_are_of_a_class_that_only_they_have() -> None:
    rows = [{"text": f"{d} {i}", "label": "ab"[d == 0], "doc": d} for d in range(10) for i in range(5)]
    notes = folds(load(rows, columns=GROUP, **NONE), 5, validation=0).parts[0].notes
    assert "5 of 50 rows are of a class that their fold alone has, so that their model never saw it" in notes
    plain = folds(load(SEVERAL, columns=GROUP, **NONE), 5, validation=0).parts[0].notes
    assert not any("their fold alone" in note for note in plain)


def test_rows_of_one_group_are_in_one_fold_and_classes_in_each() -> None:
    data = load(SEVERAL, columns=GROUP, **NONE)
    parts = folds(data, 5).parts
    for part in parts:
        found = by_split(part)
        assert sum(len(set(rows)) for rows in found.values()) == 30
        assert len(found["test"]) == 24
        counts = Counter(part.splits["test"]["label"])
        assert all(4 <= counts[label] <= 7 for label in (1, 2))  # of 27 and 26 in all
    assert parts[0].sha256 != folds(load(SEVERAL, **NONE), 5).parts[0].sha256
    with pytest.raises(DataError, match="rows of 30 groups cannot be divided in 31 folds, for those of one stay toget"):
        folds(data, 31)


def test_a_prompt_of_more_rows_than_the_smaller_part_holds_none_together() -> None:
    """But a context, or a group, does."""
    held = [*"aabbb"]
    for by, parted in (("prompt", [(2, "b"), (3, "b"), (4, "b")]), ("context", [*"bbb"]), ("group", [*"bbb"])):
        found = Division([()] * 5, held, by, False)
        assert found.units(range(5), 2) == ["a", "a", *parted]
        assert found.units([0, 2, 3], 2) == ["a", "b", "b"]
    assert list(Division([()] * 5, None, None, False).units([0, 2], 1)) == [0, 2]


def test_groups_are_those_of_the_rows_that_are_left() -> None:
    answers = [{"text": ["cat"], "answer_start": [0 if i % 3 else 4]} for i in range(12)]
    rows = [
        {"question": f"who {i}", "context": f"the cat {i}", "answers": found, "doc": f"d{i // 2}"}
        for i, found in enumerate(answers)
    ]
    data = load({"train": rows, "test": rows}, columns=GROUP, bad_answers="drop", validation=0)
    assert list(data.splits["test"]["group"]) == ["d0", "d1", "d3", "d4"]


def test_the_groups_of_test_rows_are_known() -> None:
    def of(rows: list[dict[str, Any]], train: Any = None, **options: Any) -> dict[str, Any]:
        return load({"train": train or rows[:1], "test": rows}, validation=0, **options).test_groups

    found = {"text": ["a"], "answer_start": [0]}
    questions = [{"question": f"q {i}", "context": f"a {i % 2}", "answers": found, "doc": i} for i in range(3)]
    assert of(questions) == {"of": "context", "numbers": [0, 1, 0]}
    assert of(questions, columns=GROUP) == {}  # where rows are alone by the column named
    targets = [{"source": source, "target": "x"} for source in "aab"]
    assert of(targets) == {"of": "source", "numbers": [0, 0, 1]}
    assert of(targets[1:]) == {}
    prompts = [{"prompt": prompt, "completion": f"{i}"} for i, prompt in enumerate(["", "who", "do", "do", "who", ""])]
    instructed = [{"prompt": "do", "completion": "it"}]
    assert of(prompts, instructed) == {"of": "prompt", "numbers": [0, 1, 2, 3, 1, 4]}
    talks = [
        {"messages": [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["completion"]}]}
        for row in prompts[1:5]
    ]
    assert of(talks, talks[1:2]) == {"of": "prompt", "numbers": [0, 1, 2, 0]}
    assert of(SEVERAL[:6], SEVERAL, columns=GROUP) == {"of": "doc", "numbers": [0, 0, 0, 0, 1, 1]}
    assert of(SEVERAL[:6], SEVERAL) == {}
    copies = [{"text": text, "label": label} for text, label in ("ab", "cd", "ad", "ef", "gb")]
    assert of(copies, copies) == {"of": "text", "numbers": [0, 1, 0, 2, 3]}
    words = [{"tokens": [*text], "tags": ["N", "V"]} for text in ("ab", "cd", "ab")]
    assert of(words, problem="tags") == {"of": "text", "numbers": [0, 1, 0]}
    alone = [{"text": f"text {i}", "label": "ab"[i % 2]} for i in range(150)]
    assert of([*alone, alone[0]], alone) == {}, "too few to matter"
    assert len(of([*alone, *alone[:2]], alone)["numbers"]) == 152
    texts = [f"text {i % 3}" for i in range(6)]
    for kind in ("masked_lm", "causal_lm"):  # of which the one has no prompts
        assert of(texts, ["other"], kind=kind) == {"of": "text", "numbers": [0, 1, 2] * 2}
        assert of(texts[:3], ["other"], kind=kind) == {}
    twice = [*prompts, *prompts[2:4], {"prompt": "", "completion": "5"}]  # copies of rows with a common prompt or none
    assert of(twice, instructed) == {"of": "prompt", "numbers": [0, 1, 2, 3, 1, 4, 2, 3, 4]}
    assert of([prompts[2], *prompts[2:4]], instructed) == {"of": "text", "numbers": [0, 0, 1]}
    many = [*prompts, *({"prompt": "", "completion": f"text {i % 299}"} for i in range(300))]
    assert len(set(of(many, instructed)["numbers"])) == 305, "too few copies to matter beside groups"
    assert load(SEVERAL, columns=GROUP, **NONE).test_groups == {}  # there is no test split


def test_groups_of_held_out_rows_that_train_has_are_said() -> None:
    note = "5 of 6 rows of test are of groups that train has rows of, too"
    other = [{**SEVERAL[0], "doc": "other"}]
    test = [*SEVERAL[:5], *other]
    seen = load({"train": SEVERAL, "test": test}, columns=GROUP, validation=0)
    assert [said for said in seen.notes if "groups" in said] == [note]
    assert "groups" not in "".join(load({"train": SEVERAL, "test": other}, columns=GROUP, validation=0).notes)
    assert "groups" not in "".join(load({"train": SEVERAL, "test": test}, validation=0).notes)


@pytest.mark.parametrize("mark", ["-DOCSTART- O\n\n", "-DOCSTART-\n", "# newdoc id = x\n", "# newdoc\n"])
def test_documents_of_conll_files_are_a_column(tmp_path: Path, mark: str) -> None:
    words = "Ada B-PER\nsaw O\n\n"
    (tmp_path / "x.conll").write_text(f"{mark}{words * 2}{mark}{words}")
    data = load(tmp_path / "x.conll", columns={"group": "document"}, **NONE)
    assert list(data.splits["train"]["group"]) == ["x-1", "x-1", "x-2"]
    assert "group" not in load(tmp_path / "x.conll", **NONE).splits["train"].column_names
    (tmp_path / "y.conll").write_text(words * 2)
    with pytest.raises(DataError, match="no column 'document' for group; name one of 'tokens', 'tags'"):
        load(tmp_path / "y.conll", columns={"group": "document"}, **NONE)


def test_a_group_is_neither_input_nor_label() -> None:
    data = load({"train": SEVERAL, "test": [{**SEVERAL[0], "doc": 99}]}, columns=GROUP, validation=0)
    assert data.notes == ("1 of 1 rows of test are in train too (100%)",)
    task = Task("t", Source("t", "0" * 64))
    new = [{"text": "new"}]
    assert read_inputs(new, task, GROUP, data.columns).to_dict() == {"text": ["new"]}
    assert read_texts(new, GROUP, data.columns).to_dict() == {"text": ["new"]}
    assert load(SEVERAL, columns={"group": "DOC "}, **NONE).columns["group"] == "doc"


@pytest.mark.parametrize(
    ("docs", "options", "message"),
    [
        ([1, 2, None, " "], NONE, r"row 3: no group in column 'doc' \(and in 1 more rows\); fill it in"),
        ([1, 2, 1.5, 3], NONE, "row 3: 1.5 in column 'doc' is no group; give a text or an integer"),
        ([1, 2, 1, True], NONE, "row 4: True in column 'doc' is no group"),
        ([1, 2, 1, "\ud83d"], NONE, "row 4: column 'doc' holds half of a surrogate pair"),
        (["a"] * 4, {}, "cutting out test: every row has the same group, so that no split can be cut out; give every"),
        (["a", "b", "a", "b"], {}, "no group can be cut out without taking a label's last example; add rows; give"),
    ],
)
def test_groups_that_cannot_be_used(docs: list[Any], options: dict[str, Any], message: str) -> None:
    rows = [{"text": "t", "label": "xy"[i % 2], "doc": doc} for i, doc in enumerate(docs)]
    with pytest.raises(DataError, match=message):
        load(rows, columns=GROUP, **options)


def test_a_mistyped_role_may_be_that_of_the_group() -> None:
    with pytest.raises(OptionError, match=r"there is no 'grop' \(did you mean 'group'\?\); name columns for .*, group"):
        load(SEVERAL, columns={"grop": "doc"})


def test_names_of_groups_are_tidy() -> None:
    """White space and Unicode's forms do not make two speakers of one."""
    names = ["ann", "ann ", "a\u00f1a", "an\u0303a", 7, "7"]
    rows = {"text": [f"text {i}" for i in range(6)], "label": ["a", "b"] * 3, "doc": [*map(str, names)]}
    assert by_split(load(rows, columns=GROUP, **NONE)) == {"train": ["ann", "ann", "a\u00f1a", "a\u00f1a", "7", "7"]}


def test_folds_say_that_correlations_of_few_rows_are_too_low() -> None:
    rows = [{"text": f"t{i}", "label": i / 7} for i in range(100)]
    for count, told in ((5, False), (6, True)):
        notes = folds(load(rows, **NONE), count).parts[0].notes
        assert any("as here with 16 rows" in note for note in notes) == told
