"""Small data sets, their files, and the columns that are read from them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from adapt.data import Data
from adapt.spec import Source, Task

TEXTS = [
    "NA",
    "null",
    "007",
    'a "quoted", text',
    "two\nlines",
    "the separator\u2028stays",
    "Dinggo pesen tiket",
    "酒店不错",
]
LABELS = ["good", "bad", "bad", "good", "bad", "good", "good", "bad"]
ROWS = [{"text": t, "label": x} for t, x in zip(TEXTS, LABELS, strict=True)]
WORDS = [["Ada", "saw", "New", "York"], ["it", "rained"], ["Bo", "left"]]
CONTEXT = "Ada saw New York. Ada left."
TURNS = [
    [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "ho"},
    ],
    [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}],
]
NONE: Any = {"validation": 0, "test": 0}
"""Splits are not cut."""


def write_csv(path: Path, rows: list[dict[str, Any]], delimiter: str = ",", bom: bool = False) -> Path:
    with path.open("w", newline="", encoding="utf-8-sig" if bom else "utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def columns(data: Data, split: str = "train") -> dict[str, list[Any]]:
    return {name: data.splits[split].to_dict()[name] for name in data.splits[split].column_names}


def task(kind: str) -> Task:
    return Task("task", Source("task", "0" * 64), kind=kind)
