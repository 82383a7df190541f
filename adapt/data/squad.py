"""The nested JSON of SQuAD (Rajpurkar et al. 2016; with unanswerable questions, 2018) as flat rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from adapt.data.table import Table
from adapt.spec import DataError

_COLUMNS = ("id", "title", "question", "context", "answers")


def is_squad(document: Any) -> bool:
    """Whether a JSON document has articles, each with a list of paragraphs."""
    articles = document.get("data") if isinstance(document, dict) else None
    return isinstance(articles, list) and all(
        isinstance(article, dict) and isinstance(article.get("paragraphs"), list) for article in articles
    )


def read_squad(path: Path, document: Any) -> Table:
    """A row for each question, in order; where `is_impossible` is true, it has no answer.

    Questions of which none has answers, to be predicted, make a table without that column.

    Raises:
        DataError: A paragraph or a question lacks a field.
    """
    rows = list(_rows(path, document))
    lacking = [row["id"] for row in rows if "answers" not in row]
    if 0 < len(lacking) < len(rows):
        raise DataError(f"{path}: question {lacking[0]!r} has no answers, and others have; give each its own")
    names = _COLUMNS[:-1] if lacking else _COLUMNS
    return Table(str(path), names, len(rows), lambda name: [row[name] for row in rows])


def _rows(path: Path, document: Any) -> Iterator[dict[str, Any]]:
    for number, article in enumerate(document["data"], 1):
        for n, paragraph in enumerate(article["paragraphs"], 1):
            where = f"{path}, article {number}, paragraph {n}"
            try:
                for question in paragraph["qas"]:
                    row = {
                        "id": question["id"],
                        "title": article.get("title"),
                        "question": question["question"],
                        "context": paragraph["context"],
                    }
                    if question.get("is_impossible"):
                        row["answers"] = []
                    elif "answers" in question:
                        row["answers"] = question["answers"]
                    yield row
            except (KeyError, TypeError, AttributeError) as error:
                raise DataError(f"{where}: not as SQuAD has it ({error!r}); write id, question and answers") from error
