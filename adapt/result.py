"""What a result is, and its file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from adapt.display import one_line, shows_fields
from adapt.spec import SCHEMA, Run

Status = Literal["ok", "out_of_memory", "unsupported", "diverged", "failed"]

FOUND_FEATURES = "found the features of rows where an earlier run had left them"
"""How the note of a result ends whose training was spared the first epoch's work."""


@shows_fields
@dataclass(frozen=True)
class Result:
    """Outcome of one run. None means not measured."""

    run: Run
    status: Status
    reason: str | None = None
    """Why the status is not `ok`."""
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Split (`validation`, `test`) to metric name to value."""
    learning_rate: float | None = None
    """Peak learning rate used."""
    trainable: int | None = None
    """Parameters with `requires_grad`, the head included."""
    total: int | None = None
    """All parameters, the head and what the strategy added included."""
    head: int | None = None
    """Parameters of the task's head, which every strategy trains."""
    seen_words: int | None = None
    """Words whose embeddings were held as trainable, which are those that occur in the training rows; None: all, or
    none."""
    saved_bytes: int | None = None
    """Size of the safetensors file that holds every trainable tensor."""
    memory: Mapping[str, Any] = field(default_factory=dict)
    """What tensors held at the peak of a training step over the longest rows: `adapt.memory.Memory` as plain values."""
    process_bytes: int | None = None
    """Peak of the process during training: its resident set on the CPU, torch's allocated bytes on CUDA."""
    baseline_bytes: int | None = None
    """The same measure just before the backbone was loaded: interpreter, libraries and data."""
    evaluate_seconds: float | None = None
    """Wall-clock seconds of predicting and scoring: validation after each epoch, and the last split."""
    train_seconds: float | None = None
    """Wall-clock seconds of the training steps, without validation and test."""
    examples_per_second: float | None = None
    """Training rows gone through a second of `train_seconds`."""
    predicted_per_second: float | None = None
    """Rows of the split scored last over the seconds of predicting them, without scoring; None: none were predicted."""
    micro_batch: int | None = None
    """Rows of a forward pass that training came down to because memory ran out; None: it never did, and they are the
    budget's `batch_size`. The rows of an optimizer step are the same in either case."""
    best_epoch: int | None = None
    """Epoch (from 1) that the validation metric chose."""
    curve: Sequence[Mapping[str, Any]] = ()
    """One entry an epoch: epoch, step, loss, seconds, rows, validation scores."""
    test_outcomes: Sequence[Any] = ()
    """What every test row, in order, adds to the metrics, of which intervals are made; what it is, the kind says."""
    test_groups: Mapping[str, Any] = field(default_factory=dict)
    """Which test rows belong together: `of` what they have in common (context, source, prompt, text, or the column that
    was named for it), and `numbers`, one a row, equal for rows of one group; empty: each row counts as alone."""
    baseline: Mapping[str, Any] = field(default_factory=dict)
    """`name` and `scores` of a prediction made without a model (majority, copy), on the split scored last; of a fold
    also its `outcomes`, as `test_outcomes`."""
    forgetting: Mapping[str, Any] = field(default_factory=dict)
    """Loss on the run's general texts under the backbone's own language-model head, in nats a token: `before`, `after`,
    of how many `tokens`, and what it `predicts` (`adapt/training/forgetting.py`); empty: not measured."""
    notes: Sequence[str] = ()
    """What a reader must be told: rows left out, answers lost by truncation, a padding token that was set."""
    environment: Mapping[str, Any] = field(default_factory=dict)
    """Versions, device, threads, commit, command, and of how many trials it was one: recorded, not hashed."""

    def __repr__(self) -> str:
        metric = self.run.task.metric
        scores = [f"{split} {metric} {of[metric]:.4f}" for split, of in self.scores.items() if metric in of]
        said = self.status if self.reason is None else f"{self.status} ({self.reason})"
        return one_line(f"<Result: {self.run}; {', '.join((said, *scores))}>")

    def to_json(self) -> dict[str, Any]:
        """The result file's content, as plain values.

        - `status`: `ok`, `diverged`, `unsupported` (a comparison does it again with other versions or hardware),
          `out_of_memory` or `failed` (done again next time); `reason`: why it is not `ok`.
        - `backbone`, `task`, `strategy`: names; `settings`: the strategy's fields, with the learning rate used; `seed`.
        - `scores`: `validation` and `test`, each by metric name.
        - `params`: `trainable`, `total`, `head` (parameters), `saved_bytes` (file of all trainable tensors), and
          `seen_words` where only embeddings of words that occur were held as trainable.
        - `memory`: `peak_bytes`, what tensors hold at the peak of a training step; `breakdown`, the same by category;
          `process_bytes` and `baseline_bytes`, the process in training and before the backbone was loaded. Without a
          breakdown (older results) the peak is the process's, and tables leave it out.
        - `time`: `train_seconds`, of training steps only; `evaluate_seconds`, of predicting and scoring.
        - `throughput`: `examples_per_second`, rows trained on; `predicted_per_second`, rows predicted after training.
        - `micro_batch`, `best_epoch`, `curve` (by epoch), `test_outcomes` (by row), `test_groups`, `baseline`,
          `forgetting`, `notes` and `environment` (with `command`, of whose paths there is the last part): as the fields
          of this class.
        - `spec`: everything that decides the result, and `key`, the hash of it; `schema`: the layout's number.
        """
        spec = self.run.spec()
        settings = {k: v for k, v in spec["strategy"].items() if k != "name"}
        meant = self.run.budget.learning_rate or settings.get("learning_rate")  # of a run that did not come to train
        settings["learning_rate"] = self.learning_rate if self.status == "ok" else meant
        return {
            "schema": SCHEMA,
            "key": self.run.key(),
            "status": self.status,
            "reason": self.reason,
            "backbone": self.run.backbone.name,
            "task": self.run.task.name,
            "strategy": self.run.strategy.name,
            "settings": settings,
            "seed": self.run.seed,
            "scores": {split: dict(values) for split, values in self.scores.items()},
            "params": {
                "trainable": self.trainable,
                "total": self.total,
                "head": self.head,
                **({} if self.seen_words is None else {"seen_words": self.seen_words}),
                "saved_bytes": self.saved_bytes,
            },
            "memory": {
                "peak_bytes": self.memory.get("peak"),
                "breakdown": {name: value for name, value in self.memory.items() if name != "peak"},
                "process_bytes": self.process_bytes,
                "baseline_bytes": self.baseline_bytes,
            },
            "time": {"train_seconds": self.train_seconds, "evaluate_seconds": self.evaluate_seconds},
            "throughput": {
                "examples_per_second": self.examples_per_second,
                "predicted_per_second": self.predicted_per_second,
            },
            "micro_batch": self.micro_batch,
            "best_epoch": self.best_epoch,
            "curve": [dict(point) for point in self.curve],
            "test_outcomes": list(self.test_outcomes),
            **({"test_groups": dict(self.test_groups)} if self.test_groups else {}),
            "baseline": dict(self.baseline),
            "forgetting": dict(self.forgetting),
            "notes": list(self.notes),
            "environment": dict(self.environment),
            "spec": spec,
        }


Content = Mapping[str, Any]
"""What a result file holds, as `Result.to_json` gives it."""


def text_of(content: Content) -> str:
    """The text of a result file, in which the outcomes of a test row are one line, and all groups of rows another."""
    dumped = partial(json.dumps, ensure_ascii=False, allow_nan=False)
    rows = [dumped(row) for row in content.get("test_outcomes") or ()]
    lines = {"test_outcomes": "[\n  " + ",\n  ".join(rows) + "\n ]" if rows else "[]"}
    if "test_groups" in content:
        lines["test_groups"] = dumped(content["test_groups"])
    text = dumped({**content, **dict.fromkeys(lines)}, indent=1)
    for name, line in lines.items():  # a string of the content cannot hold this, for its quotation marks are escaped
        text = text.replace(f'\n "{name}": null', f'\n "{name}": {line}', 1)
    return text + "\n"
