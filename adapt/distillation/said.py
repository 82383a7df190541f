"""What a teacher says of rows. It is asked once about the same rows, whatever students they are for."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from adapt import params
from adapt.adapted import Adapted
from adapt.data.groups import LABELS
from adapt.distillation.kept import load_outputs, save_outputs
from adapt.environment import code_state, versions
from adapt.machine import hardware
from adapt.spec import canonical
from adapt.tasks import KINDS, Example, Kind
from adapt.tasks.tokens import check_embedded, of_split

if TYPE_CHECKING:
    import datasets
    from torch import nn

_LABELS = (*LABELS, "completion")
"""Columns that a teacher is not shown."""

OnAsked = Callable[[int, int], None]
"""Told how many rows a teacher has been asked about, and about how many it will be: from 0 to all."""

_known: WeakKeyDictionary[nn.Module, dict[tuple[str, str], Said]] = WeakKeyDictionary()
"""What was said, by model, and by the hashes of the teacher (`digest_of`) and of the rows."""


@dataclass(frozen=True)
class Said:
    """A teacher's outputs for rows, all of them, in order."""

    kind: Kind
    """The teacher's, bound to its own tokenizer."""
    examples: Sequence[Example]
    """As `kind` encodes the rows."""
    outputs: Sequence[Any]
    """As `Kind.outputs` gives them, one an example."""

    def notes(self, rows: str) -> list[str]:
        """What of the rows the teacher did not read; `rows` is what a note calls them."""
        return [f"the teacher: {note.replace(of_split(None), rows)}" for note in self.kind.notes]


Ask = Callable[[Adapted, "datasets.Dataset"], Said]
"""What `said_of` does."""


def said_of(
    teacher: Adapted,
    rows: datasets.Dataset,
    on_asked: OnAsked = lambda done, total: None,
    kept: Path | None = None,
) -> Said:
    """What a teacher says of rows in canonical form, without a look at their labels.

    Args:
        teacher: Predicts.
        rows: In canonical form.
        on_asked: Told how far it has come, where it has not been asked before.
        kept: A folder where what it said is kept, and found again where its tokenizer makes the same of the rows, by
            the same code, with the same packages on the same hardware.

    Raises:
        RowError: The teacher's kind cannot use a row.
        OptionError: The folder cannot be written.
    """
    from adapt.training import predict

    model = teacher.fitted.model
    rows = shown(rows)
    key = digest_of(teacher), hash_of(rows)
    found = _known.setdefault(model, {})
    if key not in found:
        kind = copy_of_kind(teacher)
        examples = kind.encode(rows)
        check_embedded(model, kind.tokenizer, examples)
        kind.notes += kind.unknown(examples, of_split(None))
        file = None if kept is None else kept / _name_of(key[0], examples, teacher.run.budget.device)
        outputs = None if file is None else load_outputs(file)
        if outputs is None:
            on_asked(0, len(rows))
            outputs = predict(
                model, kind, examples, teacher.run.budget,
                on_done=lambda done: on_asked(done * len(rows) // len(examples), len(rows)),
            )  # fmt: skip
            if file is not None:
                save_outputs(file, outputs)
        found[key] = Said(kind, examples, outputs)
    return found[key]


def _name_of(teacher: str, examples: Sequence[Example], device: str) -> str:
    """The name of the file of what a teacher, known by its hash, says of examples, by them and by what computes it."""
    decides = [teacher, hash_of(examples), device, hardware(device), versions(), code_state()["code"]]
    return hashlib.sha256(canonical(decides).encode()).hexdigest()[:24]


def shown(rows: datasets.Dataset) -> datasets.Dataset:
    """What a teacher is shown of rows: all but their labels."""
    return rows.remove_columns([name for name in _LABELS if name in rows.column_names])


def copy_of_kind(teacher: Adapted) -> Kind:
    """The teacher's kind, with notes of its own."""
    task = teacher.run.task
    kind = KINDS[task.kind](task, teacher.fitted.tokenizer)
    kind.load_state(teacher.fitted.kind.state())
    return kind


def digest_of(teacher: Adapted) -> str:
    """Hash of what decided the teacher's training and of the tensors that it gave."""
    return params.digest(params.trainable(teacher.fitted.model), teacher.key)


def hash_of(rows: datasets.Dataset | Sequence[Example]) -> str:
    """Hash of the rows in order (64 hexadecimal digits)."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(canonical(row).encode() + b"\n")
    return digest.hexdigest()
