"""Rows in canonical form: the data set they make, and the hash that tells them from others."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from adapt.spec import Problem, canonical

if TYPE_CHECKING:
    import datasets


def dataset_of(columns: Mapping[str, Sequence[Any]], problem: Problem | None = None) -> datasets.Dataset:
    """A data set of canonical columns; the problem decides the type of labels."""
    import datasets

    string, integer = datasets.Value("string"), datasets.Value("int64")
    label = datasets.Value("float64") if problem == "regression" else integer
    special = {
        "label": datasets.List(label) if problem == "multi_label" else label,
        "tokens": datasets.List(string),
        "tags": datasets.List(integer),
        "answer_texts": datasets.List(string),
        "answer_starts": datasets.List(integer),
        "references": datasets.List(string),
        "messages": datasets.List({"role": string, "content": string}),
    }
    features = datasets.Features({name: special.get(name, string) for name in columns})
    return datasets.Dataset.from_dict(dict(columns), features=features)


def hash_of(problem: Problem, labels: Sequence[str], splits: Mapping[str, Mapping[str, Sequence[Any]]]) -> str:
    """SHA-256 over lines of canonical JSON: what the labels mean, then the size and rows of each split."""
    digest = hashlib.sha256(canonical({"problem": problem, "labels": labels}).encode())
    for split, columns in splits.items():
        digest.update(f"\n{split} {len(next(iter(columns.values())))}".encode())
        for row in zip(*columns.values(), strict=True):
            digest.update(b"\n" + canonical(dict(zip(columns, row, strict=True))).encode())
    return digest.hexdigest()
