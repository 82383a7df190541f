"""Which task kind a data set is for: by name, or by its columns."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from types import MappingProxyType

from adapt.data.columns import first
from adapt.data.forms import FORMS, token_classification
from adapt.data.forms.form import Form
from adapt.data.forms.sequence_classification import NAMES, PAIRS, PLAIN_LABELS
from adapt.data.groups import GROUP
from adapt.data.table import Table, listing
from adapt.data.values import plain
from adapt.fields import nearest
from adapt.spec import DataError, OptionError, Problem

ALIASES: dict[str, tuple[str, Problem | None]] = {
    "classification": ("sequence_classification", None),
    "regression": ("sequence_classification", "regression"),
    "ner": ("token_classification", "spans"),
    "pos": ("token_classification", "tags"),
    "tagging": ("token_classification", None),
    "qa": ("question_answering", None),
    "translation": ("seq2seq", None),
    "summarisation": ("seq2seq", None),
    "summarization": ("seq2seq", None),
    "data_to_text": ("seq2seq", None),
    "instructions": ("causal_lm", None),
    "dialogue": ("causal_lm", None),
    "mlm": ("masked_lm", None),
}
"""Short name to kind, and to the problem where the name tells it."""
PREFERRED: dict[str, tuple[str, tuple[str, ...]]] = {
    "ner": ("tags", ("ner_tags", "ner")),
    "pos": ("tags", ("upos", "pos_tags", "pos", "xpos")),
}
"""Short name to a role and to the columns that it means, where a table holds several that would do."""


def kind_named(kind: str) -> str:
    """The kind that a name, short or full, means.

    Raises:
        OptionError: There is no such kind; the nearest is named.
    """
    return str(resolve(kind, None)[0])


def problem_of(kind: str) -> Problem:
    """The problem that a name, short or full, means, where there are no data to tell it; of tags that of plain ones.

    Raises:
        OptionError: There is no such kind; the nearest is named.
    """
    found, problem = resolve(kind, None)
    if problem == "spans" or (problem is None and found == "token_classification"):
        return "tags"
    return problem or FORMS[str(found)].problems[0]


def resolve(kind: str | None, problem: Problem | None) -> tuple[str | None, Problem | None]:
    """Kind and problem from what the caller gave; the kind is None where the columns must tell it.

    Raises:
        OptionError: One of them is unknown, or they do not go together.
    """
    found = kind
    if kind is not None and kind not in FORMS:
        if kind not in ALIASES:
            known = [*FORMS, *ALIASES]
            raise OptionError(f"kind={kind!r} is unknown{nearest(str(kind), known)}; choose one of {', '.join(known)}")
        found, known_problem = ALIASES[kind]
        if known_problem == "regression" and problem not in (None, known_problem):
            raise OptionError(
                f"kind={kind!r} means problem={known_problem!r}, and problem={problem!r} is given; give one"
            )
        problem = problem or known_problem
    if problem is None:
        return found, None
    of = next((name for name, form in FORMS.items() if problem in form.problems), None)
    if of is None or (found is not None and found != of):
        allowed = FORMS[found].problems if found else [p for form in FORMS.values() for p in form.problems]
        raise OptionError(
            f"problem={problem!r} is unknown{f' for {found}' if found else ''}; choose one of {', '.join(allowed)}"
        )
    return of, problem


def check_named(kind: str | None, problem: Problem, where: str) -> None:
    """
    Raises:
        OptionError: A classification is asked for by its short name, and the labels make a regression.
    """
    if kind == "classification" and problem == "regression":
        raise OptionError(
            f"{where}: the labels are numbers that are not all whole, which make a regression; give kind='regression', "
            "or problem='single_label' to make classes of them"
        )


def given_roles(
    columns: Mapping[str, str] | None, own: Mapping[str, str | None] = MappingProxyType({})
) -> dict[str, str]:
    """Role to column from the option `columns` and from the options that name one column each.

    Raises:
        OptionError: It is no mapping of names, or a name is no text, or two options name a column for one role.
    """
    given = dict(columns or {}) if isinstance(columns, Mapping | None) else None
    if given is None or not all(isinstance(role, str) and isinstance(name, str) for role, name in given.items()):
        raise OptionError(f"columns={columns!r}: give a dict of what a column is for to its name")
    for role, name in own.items():
        if not isinstance(name, str | None):
            raise OptionError(f"{role}={name!r}: give the name of a column as text (that of a DataFrame's 0 is '0')")
        if name is not None and given.setdefault(role, name) != name:
            raise OptionError(f"{role}={name!r}, and columns say {given[role]!r}; give one of them")
    return given


def prefer(table: Table, kind: str | None, given: Mapping[str, str]) -> dict[str, str]:
    """The columns that the caller named, and those that the short name of the kind means."""
    role, usual = PREFERRED.get(str(kind), ("", ()))
    column = first(table, usual, given.values())
    return {role: column, **given} if column else dict(given)


def taken_elsewhere(form: Form, table: Table, wanted: Mapping[str, str], group: str) -> bool:
    """Whether a column that says which rows belong together has the usual name of something else (`document`, `topic`),
    for which another column is there too, so that nobody can have meant it for both.

    It may still be one of a pair: questions with their passages, which stay together by passage.
    """
    if group in wanted.values():
        return False
    roles = form.find(table, wanted)
    if group not in roles.values():
        return False
    try:
        return form.find(table.without(group), wanted).keys() == roles.keys()
    except DataError:
        return False


def check_roles(kind: str, given: Mapping[str, str]) -> None:
    """
    Raises:
        OptionError: A column is named for what rows of this kind do not have.
    """
    roles = (*FORMS[kind].roles, GROUP)
    for role in given:
        if role not in roles:
            raise OptionError(
                f"columns: {kind} has no {role!r}{nearest(role, roles)}; name columns for {', '.join(roles)}"
            )


def detect(table: Table, given: Mapping[str, str], group: str | None = None) -> str:
    """The kind that the columns tell.

    A column `text` beside any label, or any text beside a label of a plain name (`PLAIN_LABELS`), makes a
    classification whatever else is there: of the words, where each has a label, else of the text. Without them it is
    the first kind of `FORMS` whose columns are there, or else a classification.

    Args:
        table: The training rows.
        given: Role to column, as the caller named them.
        group: The column that says which rows belong together, which is nothing else where the others make a kind.

    Raises:
        OptionError: The roles are those of no kind.
    """
    if group is not None and group not in given.values():
        others = table.without(group)
        with contextlib.suppress(DataError):
            kind = detect(others, given)
            FORMS[kind].find(others, given)
            return kind
    kinds = [kind for kind, form in FORMS.items() if set(given) <= set(form.roles)]
    if not kinds:
        every = dict.fromkeys((*(role for form in FORMS.values() for role in form.roles), GROUP))
        unknown = next((role for role in given if role not in every), None)
        raise OptionError(
            f"columns: there is no {unknown!r}{nearest(unknown, every)}; name columns for {', '.join(every)}"
            if unknown
            else f"columns: no kind has {listing(given)} together; name the kind with the option kind"
        )
    label = None if given else _plain_label(table)
    if label is not None and _one_a_word(table, label):
        return "token_classification"
    if "sequence_classification" in kinds and (given or label is not None):
        return "sequence_classification"
    for kind in kinds:
        with contextlib.suppress(DataError):
            if kind != "sequence_classification" and "text" not in FORMS[kind].find(table, given):
                return kind  # a lone text is for a causal LM only where that is asked for
    return kinds[0]


def _plain_label(table: Table) -> str | None:
    """The label of a text, where one is there and has a plain name."""
    if first(table, ("text",)):
        label = first(table, NAMES["label"], ["target"] if "source" in table.names else [])
        if label is not None:
            return label
    one_of = (*NAMES["text"], *(name for both in PAIRS for name in both))
    label = first(table, PLAIN_LABELS)
    return label if label is not None and first(table, one_of, [label]) else None


def _one_a_word(table: Table, label: str) -> bool:
    """Whether each row has a list of labels with one for each of its words."""
    words = first(table, token_classification.NAMES["tokens"], [label])
    if words is None:
        return False
    rows = [(plain(one), plain(two)) for one, two in zip(table.column(words), table.column(label), strict=True)]
    return all(isinstance(one, list) and isinstance(two, list) and len(one) == len(two) for one, two in rows)
