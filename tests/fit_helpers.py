"""Texts, files and quick fits for the tests of fitting and predicting."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import tiny

import adapt
from adapt.adapted import Adapted

TEXTS = [
    "word1 sunny word2",
    "rotten word3",
    "word4 word5 word6 kind",
    "word7 cold",
    "sweet word8 word9",
    "word1 cruel",
]
QUICK: dict[str, Any] = {"device": "cpu", "precision": "fp32"}


def fitted(backbone: Path, task: str) -> Adapted:
    return adapt.fit(backbone, tiny.TASKS[task](), adapt.Head(learning_rate=3e-2), max_steps=3, **QUICK)


def write(path: Path, texts: list[Any], columns: tuple[str, ...] = ("text",), **options: Any) -> Path:
    with path.open("w", newline="", encoding=options.pop("encoding", "utf-8")) as handle:
        writer = csv.writer(handle, **options)
        writer.writerow(columns)
        writer.writerows([[text] if isinstance(text, str) else text for text in texts])
    return path


def jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def leftovers(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}
