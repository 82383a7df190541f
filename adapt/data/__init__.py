"""Labelled text from anywhere, in one form: `load` gives `Data`, whose splits have canonical columns."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from adapt.data import kinds, sources
from adapt.data.canonical import Data, LabelledRows, dataset_of, hash_of
from adapt.data.columns import NoColumn, by_name, first, named
from adapt.data.cross import Folds, folds
from adapt.data.forms import FORMS, Form, Wishes, sequence_classification, token_classification
from adapt.data.groups import GROUP, belonging
from adapt.data.remarks import beyond, contradicting, groups_seen_before, seen_before, without_spans
from adapt.data.samples import few_shot, shortened, subsample
from adapt.data.splits import check_options, cut_missing, sizes_of_missing
from adapt.data.table import Table, column_of
from adapt.data.values import check_rows, group_names
from adapt.fields import refuses_others
from adapt.spec import DataError, OptionError, Problem, Source, Task

if TYPE_CHECKING:
    import datasets

_Found = TypeVar("_Found")

__all__ = ["Data", "Folds", "few_shot", "folds", "load", "read_inputs", "read_labelled", "read_texts", "subsample"]


@refuses_others
def load(
    source: Any,
    *,
    kind: str | None = None,
    name: str | None = None,
    text: str | None = None,
    text_pair: str | None = None,
    label: str | None = None,
    columns: Mapping[str, str] | None = None,
    repair_tags: bool = False,
    bad_answers: Literal["refuse", "drop"] = "refuse",
    validation: float = 0.1,
    test: float = 0.1,
    max_validation: int | None = None,
    max_test: int | None = None,
    seed: int = 0,
    problem: Problem | None = None,
    config: str | None = None,
    revision: str | None = None,
    splits: Mapping[str, str] | None = None,
) -> Data:
    """Load a data set for any task kind.

    The kind is told by the columns, found by their usual names (upper and lower case are the same):

    - token_classification: `tokens` and `tags` (names, or indices of names that the data set declares);
    - question_answering: `question`, `context` and `answers`, which are `{"text": [...], "answer_start": [...]}` or a
      list of such single answers, or texts that occur once in the context; or the nested JSON of SQuAD;
    - causal_lm: `messages` (`role` and `content`), `prompt` and `completion`, `instruction` (with `input`) and
      `output`, `question` and `answer`; where it is asked for, also a lone `text`;
    - seq2seq: `source` and `target`, `document` and `summary` and the like, `translation` (a dict of languages, of
      which `columns` says which is source and which is target); and `references`, further right answers;
    - masked_lm: a lone `text`, where it is asked for;
    - sequence_classification: else, and wherever there is a text with a `label`.

    Labels that are strings make classes in alphabetical order, integers and booleans in numeric order; class names that
    a data set declares keep their order. Numbers that are not all whole make a regression; where most labels of what is
    no CSV or TSV file are such numbers written as strings, they are refused, unless single_label is asked for. Lists
    (of names, of indices, or of 0 and 1 all of one length) make a multi-label problem.

    A first line such as `sep=;` of a CSV file says what separates the fields of the others, and rows of empty fields at
    the end of CSV and TSV files are none. The labels of these files are numbers if all of them are, in every split
    (whole ones, where the problem is single_label). If most are and not all of those are whole, the others are refused,
    unless single_label is asked for. White space and unseen marks around a label, a tag or a column's name are dropped,
    and names that differ in Unicode's normal form alone are one (NFC).

    A held-out split of which the labels, tags, answers, targets or completions are withheld counts as missing: there is
    no column of them, or nothing in it; all labels are -1, or lists of it; or no question has an answer, and all of
    train have.

    Args:
        source: The name of a data set of the hub; the path of a CSV, TSV, JSON, Parquet, CoNLL (`.conll`, `.bio`) or
            plain text (`.txt`, one text a line) file, all but Parquet also packed by gzip (`.csv.gz`), or of a folder
            with files `train`, `validation` (or `valid`, `val`, `dev`, `development`, `eval`, `evaluation`) and `test`;
            a pandas DataFrame; a `datasets.Dataset` or `DatasetDict`; a dict of columns; a list of dicts; two lists
            `(texts, labels)`, where a text may be a pair of texts; a list of texts, where rows are no more than that
            (masked_lm, causal_lm); or a dict of splits, each any of these but a hub name.
        kind: A key of `adapt.tasks.KINDS`, or a short name (`adapt.data.kinds.ALIASES`); None lets the columns tell.
        name: Readable name; None takes the hub name (and `:` and the configuration) or the last part of the path, else
            "data".
        text: Column of the text, or of the first text of a pair; None looks for the usual names. Given
            without `text_pair`, it asks for single texts.
        text_pair: Column of the second text of a pair.
        label: Column of the labels.
        columns: What a column is for (`tokens`, `tags`, `question`, `source`, ...) to its name, where that is unusual.
            Data of any kind may have a `group`: rows that have the same value there (a document, a speaker, a patient)
            are no independent examples, so that they stay together where rows are divided, and count together in the
            intervals of tables. CoNLL files that say where documents begin have a column `document`.
        repair_tags: Make an I- tag that continues no span a B- tag, instead of refusing it.
        bad_answers: What to do with rows whose answer is not where it should be in the context.
        validation: Share of train's rows to cut out for validation where that split is missing; 0: none.
        test: The same for test.
        max_validation: Rows of validation, at most: so many are cut out, or drawn of a split that has more, the same
            for all runs, each class with its share (single_label). Where the rows of one group, context, source or
            prompt that are cut out are more, the others are in no split. What scoring costs after each epoch is in
            proportion to them. None: all.
        max_test: The same for test.
        seed: Decides which rows are cut out or drawn.
        problem: Overrides the problem that the labels or tags suggest.
        config: Configuration of a hub data set.
        revision: Revision (branch, tag or commit) of a hub data set.
        splits: `train`, `validation` or `test` to what the source calls it (a split's name, a file's without suffix),
            where that is another name: `{"validation": "validation_matched"}`. What is named here is no other split.

    Returns:
        The data. Splits that are missing are cut from train with their rows in order: each class in proportion
        (single_label), an example of each class or tag left in train, and questions about one context, targets of one
        source, or completions of one prompt (unless it is that of more rows than the split has), together; likewise
        rows of the same input, which count as of the class that most of them are of. Rows with spans (spans) are about
        in proportion. Where there is a `group`, whole groups are drawn, with classes (single_label) about in
        proportion, too.

    Raises:
        DataError: A file, column, row or label cannot be used; the message says which and what to do.
        OptionError: An option's value cannot be used.
    """
    if isinstance(source, Folds):
        raise OptionError(
            "folds are for adapt.compare, which trains a model on each; give the data that they were made of, or one "
            "of them (folds.parts[0])"
        )
    if not isinstance(name, str | None):
        raise OptionError(f"name={name!r}: give a text")
    shares = {"validation": validation, "test": test}
    most = {"validation": max_validation, "test": max_test}
    check_options(shares, seed, most)
    known, problem = kinds.resolve(kind, problem)
    given = kinds.given_roles(columns, {"text": text, "text_pair": text_pair, "label": label})
    group = given.pop(GROUP, None)
    found, tables, not_used = sources.read(source, config=config, revision=revision, splits=splits)
    for split, table in tables.items():
        check_rows(table, split=split != "train")
    train = tables["train"]
    if group is not None:
        group = named(train, GROUP, group)
    decided = known or kinds.detect(train, given, group)
    kinds.check_roles(decided, given)
    _check_wishes(decided, repair_tags, bad_answers)
    wanted = kinds.prefer(train, kind, given)
    form = FORMS[decided]
    read_from = tables
    if group is not None and kinds.taken_elsewhere(form, train, wanted, group):
        read_from = {split: table.without(group) for split, table in tables.items()}
    read = form.read(read_from, wanted, Wishes(problem, repair_tags, bad_answers))
    if problem is None:
        kinds.check_named(kind, read.problem, train.where)
    rows = dict(read.rows)
    used = {**form.find(read_from["train"], wanted), **given}
    if group is not None:
        used[GROUP] = group
        for split in rows:
            rows[split] = {**rows[split], GROUP: _groups(tables[split], group, read.left_out.get(split, ()))}
    whole = rows["train"]
    sizes = sizes_of_missing(shares, most, rows)
    parts = cut_missing(whole, read.problem, read.labels, sizes, most, seed, where=train.where)
    rows |= {split: {c: [whole[c][i] for i in part] for c in whole} for split, part in parts.items()}
    rows, fewer = shortened({split: rows[split] for split in sources.SPLITS if split in rows}, read.problem, most, seed)
    made = {split: dataset_of(of_split, read.problem, read.labels) for split, of_split in rows.items()}
    notes = (
        *(f"{others}; to use one, {sources.HOW}" for others in not_used),
        *read.notes,
        *fewer,
        *beyond(whole, read.problem, read.labels, parts, sizes, most),
        *seen_before(rows),
        *groups_seen_before(rows),
        *contradicting(whole, read.problem),
        *without_spans(rows, read.problem, read.labels),
    )
    title = (name or found).encode(errors="replace").decode()  # a file may have a name that is not UTF-8
    sha256 = hash_of(read.problem, read.labels, rows)
    return Data(title, read.problem, read.labels, made, sha256, decided, notes, used)


def data_of(given: Any, kind: str | None = None) -> Data:
    """`Data` as they are, and anything else as `load` reads it for a kind of task.

    Raises:
        DataError: It cannot be read.
        OptionError: `Data` are for another kind, or there is no such kind.
    """
    if not isinstance(given, Data):
        return load(given, kind=kind)
    if kind is not None:
        name, problem = kinds.resolve(kind, None)
        if name != given.kind or problem not in (None, given.problem):
            raise OptionError(f"kind is '{kind}', but the data are for {given.kind} ({given.problem}); leave kind out.")
    return given


def read_labelled(
    source: Any,
    task: Task,
    *,
    split: str = "test",
    columns: Mapping[str, str] | None = None,
    usual: Mapping[str, str] | None = None,
    repair_tags: bool = False,
    bad_answers: Literal["refuse", "drop"] = "refuse",
    config: str | None = None,
    revision: str | None = None,
) -> LabelledRows:
    """Read labelled rows that a model is scored on: their classes or tags are among those it knows.

    Args:
        source: As for `load`; it needs no `train`.
        task: Decides the kind and problem, the labels, and whether texts come in pairs.
        split: Which one is read, where the source has splits: `train`, `validation`, `test`, or what the source calls
            another. Where it has none all rows are, and no other split than the default can be named.
        columns: What a column is for to its name, where that is unusual.
        usual: The same for roles that `columns` does not name, as they were in training; names that the rows do not
            have are passed over.
        repair_tags: As for `load`.
        bad_answers: As for `load`.
        config: Configuration of a hub data set.
        revision: Revision of one.

    Raises:
        DataError: A file, split, column, row or label cannot be used; the message says which and what to do.
        OptionError: An option's value cannot be used.
    """
    given, usual = kinds.given_roles(columns), dict(usual or {})
    kinds.check_roles(task.kind, given)
    _check_wishes(task.kind, repair_tags, bad_answers)
    group, group_before = given.pop(GROUP, None), usual.pop(GROUP, None)
    other = {} if split in sources.SPLITS else {"test": split}
    name, tables, not_used = sources.read(source, config=config, revision=revision, splits=other, train=False)
    which = None if sources.WHOLE in tables else "test" if other else split
    if which is None and split != "test":
        raise OptionError(f"{split!r} is to be scored, and {name} has no splits; name none")
    if which is not None and which not in tables:
        there = "; ".join([", ".join(tables), *not_used])
        raise DataError(f"{name}: no split {split!r} (it has {there}); name one of these as split")
    table = tables[which or sources.WHOLE]
    check_rows(table)
    form = FORMS[task.kind]
    expanded = form.expand(table, {**usual, **given})
    wanted = {**_there(form, table, usual, given), **_there(form, expanded, usual, given), **given}
    wishes = Wishes(task.problem, repair_tags, bad_answers, task.labels, task.pair)
    if group is None and group_before is not None:
        group = by_name(table, group_before)
    try:
        read = _apart(table, group, wanted, lambda part: form.read({"train": part}, wanted, wishes))
    except NoColumn as error:
        raise error.scored(usual.get(error.role)) from None
    rows = form.like_training(read.rows["train"], usual)
    if group is not None:
        rows[GROUP] = _groups(table, group, read.left_out.get("train", ()))
    made, sha256 = dataset_of(rows, task.problem, task.labels), hash_of(task.problem, task.labels, {"test": rows})
    both = {"test": made}
    if task.problem == "completion" and which not in (None, "train") and "train" in tables:
        with contextlib.suppress(DataError):  # rows that are not scored
            train = form.read({"train": tables["train"]}, wanted, wishes).rows["train"]
            both["train"] = dataset_of(form.like_training(train, usual), task.problem)
    belong = belonging(both, task.problem, group)
    return LabelledRows(name, made, sha256, which and split, tuple(read.notes), belong)


def as_learnt(rows: datasets.Dataset, task: Task, usual: Mapping[str, str]) -> datasets.Dataset:
    """Canonical rows in the form that a model learnt them in: prompts as conversations, or such as prompts.

    Args:
        rows: Of the kind of the task.
        task: Of the model.
        usual: What a column was for to its name, as they were in training.

    Raises:
        DataError: Prompts were learnt, and a conversation has other turns.
    """
    columns = {name: column_of(rows, name) for name in rows.column_names}
    learnt = FORMS[task.kind].like_training(columns, usual)
    return rows if learnt.keys() == columns.keys() else dataset_of(learnt, task.problem)


def read_inputs(
    source: Any,
    task: Task,
    columns: Mapping[str, str] | None = None,
    usual: Mapping[str, str] | None = None,
    *,
    every_line: bool = True,
) -> datasets.Dataset:
    """Read rows without labels, for prediction.

    Args:
        source: A path (a string is always a path), a DataFrame, a `datasets.Dataset`, a dict of columns, a list of
            dicts; or a list, array or series of texts or pairs of texts (classification), lists of words (token
            classification), pairs (question, context) (question answering), sources (seq2seq), prompts or
            conversations (causal LM), or texts with masks (masked LM).
        task: Decides the kind, and whether texts come in pairs.
        columns: What a column is for to its name, as for `load`; columns with labels or groups are left aside.
        usual: The same for roles that `columns` does not name, as they were in training; names that the rows do not
            have are passed over, and all of them where rows are a plain list. Where training had conversations, a
            prompt is the user's turn of one.
        every_line: Whether rows are to be those of the lines of a plain text file, so that a blank one before its end
            is a row without text, which is refused but as a prompt; else blank lines are passed over.

    Returns:
        The canonical columns of the kind without those of labels; rows as they came.

    Raises:
        DataError: A file, column or row cannot be used; the message says which and what to do.
        OptionError: A column is named for what rows of this kind do not have.
    """
    form, given = FORMS[task.kind], kinds.given_roles(columns)
    kinds.check_roles(task.kind, given)
    group = given.get(GROUP, (usual or {}).get(GROUP))
    given, usual = ({role: name for role, name in roles.items() if role != GROUP} for roles in (given, usual or {}))
    table, plain = sources.read_rows(source, form.plain, every_line=every_line)
    check_rows(table)
    table = form.expand(table, {**usual, **given})
    wanted = {**({} if plain else _there(form, table, usual, given)), **given}
    found = _apart(table, group, wanted, lambda part: form.inputs(part, wanted, task))
    return dataset_of(form.like_training(found, usual))


def _apart(table: Table, group: str | None, wanted: Mapping[str, str], read: Callable[[Table], _Found]) -> _Found:
    """What is read from a table without the column that says which rows belong together, unless that is named for
    something else, too, or something else is missing without it."""
    if group is not None and group in table.names and group not in wanted.values():
        with contextlib.suppress(NoColumn):
            return read(table.without(group))
    return read(table)


def _there(form: Form, table: Table, usual: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """Of the columns named in training those that the table has, but for alternatives to one that is `given`."""
    passed_over = form.alternatives if any(role in given for role in form.alternatives) else ()
    return {role: name for role, name in usual.items() if by_name(table, name) and role not in passed_over}


def read_texts(
    source: Any, columns: Mapping[str, str] | None = None, usual: Mapping[str, str] | None = None
) -> datasets.Dataset:
    """Read texts, pairs of texts or lists of words, whichever the rows are.

    Args:
        source: As for `read_inputs`; in a list, a tuple of two is a pair of texts and a list is one of words.
        columns: What a column is for (`text`, `text_pair`, `tokens`) to its name, where that is unusual.
        usual: The same for roles that `columns` does not name; names that the rows do not have are passed over.

    Returns:
        The column `tokens`; or `text` and, where there are two texts a row, `text_pair`. Where a table has words and
        a column `text`, the texts; other columns beside words, such as a title, are texts only where they are named.

    Raises:
        DataError: A file, column or row cannot be used; the message says which and what to do.
        OptionError: A column is named for something else.
    """
    given = {r: name for r, name in kinds.given_roles(columns).items() if r not in ("label", "tags", GROUP)}
    kinds.check_roles("token_classification" if "tokens" in given else "sequence_classification", given)
    table, plain = sources.read_rows(source, _plain_texts)
    check_rows(table)
    if not given and not plain:
        roles = ("text", "text_pair", "tokens")
        given = {role: name for role, name in (usual or {}).items() if role in roles and by_name(table, name)}
    if given or first(table, ("text",)):
        words = "tokens" in given
    else:
        words = first(table, token_classification.NAMES["tokens"]) is not None
    task = Task("texts", Source("texts", ""))
    if words:
        return dataset_of(token_classification.inputs(table, given, task))
    pair = "text_pair" in sequence_classification.find(table, given, labelled=False)
    return dataset_of(sequence_classification.inputs(table, given, replace(task, pair=pair)))


def _plain_texts(rows: list[Any]) -> dict[str, list[Any]]:
    """Columns of a plain list, by what its first row is."""
    form = token_classification if rows and isinstance(rows[0], list) else sequence_classification
    return form.plain(rows)


def _check_wishes(kind: str, repair_tags: bool, bad_answers: str) -> None:
    if bad_answers not in ("refuse", "drop"):
        raise OptionError(f"bad_answers={bad_answers!r} is unknown; choose refuse or drop")
    if repair_tags and kind != "token_classification":
        raise OptionError(f"repair_tags is for token_classification and the data are for {kind}; leave it out")
    if bad_answers != "refuse" and kind != "question_answering":
        raise OptionError(f"bad_answers is for question_answering and the data are for {kind}; leave it out")


def _groups(table: Table, name: str, left_out: Collection[int]) -> list[str]:
    """The group of each row that is not left out."""
    return [value for row, value in enumerate(group_names(table, named(table, GROUP, name))) if row not in left_out]
