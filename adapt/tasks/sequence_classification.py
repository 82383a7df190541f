"""Classification and regression of a text or a pair of texts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from adapt.data.table import column_of
from adapt.metrics import score
from adapt.spec import OptionError, RowError, Task
from adapt.tasks.kind import Example, Kind
from adapt.tasks.losses import check_finite
from adapt.tasks.tokens import check_room, cut_texts, made_up, model_inputs, of_split, token_fields, token_tensors

if TYPE_CHECKING:
    import datasets
    import torch
    from torch import nn


def other_scale(who: str, its: Mapping[str, float], own: Mapping[str, float], rows: int) -> str | None:
    """That the numbers a regression learnt are on another scale than those of its rows; None: they may be on the same.

    Args:
        who: What is called so that learnt them.
        its: `SequenceClassification.state` of it.
        own: The same of the rows.
        rows: How many there are. Of few the mean may lie further off by chance, and the spread tells nothing.
    """
    near = abs(own["mean"] - its["mean"]) <= its["std"] * (1 + 3 / rows**0.5)
    if near and (rows < _FEW or its["std"] / 2 <= own["std"] <= 2 * its["std"]):
        return None
    return (
        f"the numbers of {who} have mean {its['mean']:.3g} and standard deviation {its['std']:.3g}, those of the "
        f"training rows {own['mean']:.3g} and {own['std']:.3g}"
    )


_FEW = 20
"""Rows; of more, drawn from the numbers learnt (normal), the spread is half or twice theirs in fewer than one of 1,000
cases."""


class SequenceClassification(Kind):
    """One or several classes, or a number, for each row.

    Single label: cross-entropy. Multi-label: binary cross-entropy of each label. Regression: mean squared error of
    the target scaled to mean 0 and standard deviation 1 over the training rows, so that one learning rate serves
    targets of any range; predictions are in the target's own units.
    """

    pipeline: ClassVar[str | None] = "text-classification"

    def __init__(self, task: Task, tokenizer: Any) -> None:
        """
        Raises:
            OptionError: The metric or the class weighting does not go with the problem.
        """
        super().__init__(task, tokenizer)
        if task.problem == "regression" and task.class_weights != "none":
            raise OptionError("Class weights do not go with regression; leave class_weights at 'none'.")
        self._mean, self._std, self._rows = 0.0, 1.0, 1
        self._weights: torch.Tensor | None = None

    def encode(self, rows: datasets.Dataset, *, split: str | None = None) -> list[Example]:
        """Texts to token ids, cut to the task's maximum length (the longer text of a pair first).

        Where the tokenizer ends each row by an end token, one that is written in a text is read as plain text: T5 and
        BART classify by the row's only one.

        Raises:
            OptionError: The maximum length leaves no room for text.
            RowError: The tokenizer, which adds no token of its own, makes nothing of a row.
        """
        if not len(rows):
            return []
        check_room(self.tokenizer, self.task.max_length, pair=self.task.pair)
        columns = {name: column_of(rows, name) for name in (("text", "text_pair") if self.task.pair else ("text",))}
        tokens, longer = cut_texts(self.tokenizer, columns, self.task.max_length)
        for row, ids in enumerate(tokens["input_ids"]):
            if not ids:
                raise RowError(row, split, "the tokenizer makes no token of it; take it out", columns["text"][row])
        cut = sum(longer)
        if cut:
            what = "pairs of texts" if self.task.pair else "texts"
            self.notes.append(f"{cut} {what} of {of_split(split)} were cut to {self.task.max_length} tokens")
        self._read_end_tokens(tokens, columns, split)
        examples = [token_fields(tokens, i) for i in range(len(rows))]
        if "label" in rows.column_names:
            for example, label in zip(examples, column_of(rows, "label"), strict=True):
                example["label"] = label
        return examples

    def _read_end_tokens(self, tokens: Any, columns: Mapping[str, Sequence[str]], split: str | None) -> None:
        """Put plain text in place of end tokens that a text spells, where the tokenizer puts some to each row.

        Raises:
            RowError: A text makes one however it is read.
        """
        end, token = self.tokenizer.eos_token, self.tokenizer.eos_token_id
        own = self.tokenizer(*["a"] * len(columns))["input_ids"].count(token)
        ended = [i for i, ids in enumerate(tokens["input_ids"]) if own and ids.count(token) > own]
        if not ended:
            return
        place = {row: n for n, row in enumerate(ended)}
        rest, parts = ended, {name: [column[i] for i in ended] for name, column in columns.items()}
        for broken in (end, f"{end[0]} {end[1:]}"):  # of some the vocabulary has the token as a piece of text, too
            texts = {name: [parts[name][place[i]].replace(end, broken) for i in rest] for name in parts}
            plain, _ = cut_texts(self.tokenizer, texts, self.task.max_length, split_special_tokens=True)
            for name in tokens:
                for i, values in zip(rest, plain[name], strict=True):
                    tokens[name][i] = values
            rest = [i for i in rest if tokens["input_ids"][i].count(token) > own]
            if not rest:
                break
        for i in rest:
            raise RowError(
                i, split, f"the tokenizer makes {end} of a part of it, by which a row ends; take that out",
                columns["text"][i],
            )  # fmt: skip
        self.notes.append(
            f"{len(ended)} rows of {of_split(split)} have {end} in their text, which was read as plain text"
        )

    def fit(self, examples: Sequence[Example]) -> None:
        """Scale of the target (regression) or class weights, from the training rows."""
        import torch

        labels = torch.tensor([example["label"] for example in examples], dtype=torch.float64)
        if self.task.problem == "regression":
            self._mean, self._rows = float(labels.mean()), len(labels)
            same = bool((labels == labels[0]).all())  # whose mean may be another number by rounding
            self._std = 1.0 if same else float(labels.std(correction=0)) or 1.0  # the square of a tiny number is 0
        elif self.task.class_weights == "balanced":
            n = len(examples)
            if self.task.problem == "single_label":
                counts = torch.bincount(labels.long(), minlength=len(self.task.labels))
                self._weights = (n / (int((counts > 0).sum()) * counts.clamp(min=1))).float()
            else:
                positive = labels.sum(0).clamp(min=1)
                self._weights = ((n - positive).clamp(min=1) / positive).float()

    def start(self, model: nn.Module) -> None:
        """Read the head for a number that a checkpoint brings along on its own scale.

        Of a merged model its configuration says that (`regression_scale`); where it is trained, `go_on` tells whether
        it is kept. The head of another checkpoint gives numbers as they are where it is not trained; else what it gives
        is taken to be on the scale of the training rows.
        """
        from torch import nn

        from adapt.backbones.classes import head_names

        if self.task.problem != "regression":
            return
        own = head_names(model) - getattr(model, "fresh_names", frozenset())
        scale: dict[str, float] | None = getattr(model.config, "regression_scale", None)
        for name, layer in model.named_modules():
            if isinstance(layer, nn.Linear) and layer.out_features == 1 and f"{name}.weight" in own:
                if not layer.weight.requires_grad:
                    self.load_state(scale or {"mean": 0.0, "std": 1.0})
                elif scale is not None:
                    self.notes += self.go_on(scale)

    def state(self) -> dict[str, float]:
        """Mean and standard deviation of the target."""
        return {"mean": self._mean, "std": self._std}

    def load_state(self, state: Mapping[str, float]) -> None:
        """Set mean and standard deviation of the target."""
        self._mean, self._std = float(state["mean"]), float(state["std"])

    def go_on(self, state: Mapping[str, float]) -> list[str]:
        """Keep the scale of the target that a regression's head was trained for, unless the training rows' is another.

        The head gives standard deviations from the mean. Where the scales differ, those of the training rows are meant:
        in the old ones these could lie further off than clipped steps lead.
        """
        if self.task.problem != "regression":
            return []
        other = other_scale("the model that training began with", state, self.state(), self._rows)
        if other is None:
            self.load_state(state)
            return []
        return [f"{other}: what the head gives is taken to be on the scale of the training rows"]

    def examples(self, rows: int, length: int) -> list[Example]:
        """Made-up rows of `length` tokens, for planning."""
        label: Any = 0
        if self.task.problem == "multi_label":
            label = [0.0] * len(self.task.labels)
        elif self.task.problem == "regression":
            label = 0.0
        return [{**row, "label": label} for row in made_up(self.tokenizer, rows, length)]

    def collate(self, examples: Sequence[Example], *, longest: int | None = None) -> dict[str, torch.Tensor]:
        """Rows padded on the right to the longest: (batch, length) each; `labels` (batch, ...), scaled."""
        import torch

        batch = token_tensors(self.tokenizer, examples, longest=longest)
        if "label" in examples[0]:
            labels = [example["label"] for example in examples]
            if self.task.problem == "regression":  # here, where numbers are still exact
                labels = [(label - self._mean) / self._std for label in labels]
            dtype = torch.long if self.task.problem == "single_label" else torch.float32
            batch["labels"] = torch.tensor(labels, dtype=dtype)
        return batch

    def loss(self, model: nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Mean loss of a batch, a float32 scalar."""
        from torch.nn import functional as F

        logits, labels = self._logits(model, batch), batch["labels"]
        if self._weights is not None:  # moved once: where CUDA graphs are captured nothing may wait for the device
            self._weights = self._weights.to(logits.device, non_blocking=True)
        weights = self._weights
        if self.task.problem == "single_label":
            # over rows, not over their weights, so that a batch in parts has the same mean
            return F.cross_entropy(logits, labels, weight=weights, reduction="none").mean()
        if self.task.problem == "multi_label":
            return F.binary_cross_entropy_with_logits(logits, labels, pos_weight=weights)
        return F.mse_loss(logits[:, 0], labels)

    def outputs(self, model: nn.Module, batch: Mapping[str, torch.Tensor], *, final: bool = True) -> list[Any]:
        """Logits of each row, a list of (labels,) tensors; for regression (1,) in the target's units."""
        logits = self._logits(model, batch).detach()
        if self.task.problem == "regression":
            logits = logits.double() * self._std + self._mean
        return list(logits.cpu())

    @staticmethod
    def _logits(model: nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return model(**model_inputs(batch)).logits.float()

    def score(self, outputs: Sequence[Any], examples: Sequence[Example]) -> dict[str, float]:
        """All metrics of the problem (`adapt.metrics.METRICS`).

        Raises:
            Diverged: An output is not finite.
        """
        check_finite(outputs)
        return score(self.task.problem, self._decisions(outputs), [example["label"] for example in examples])

    def outcomes(self, outputs: Sequence[Any], examples: Sequence[Example]) -> list[Any]:
        """Predicted and true class index, 0/1 for each label, or number (the predicted to a millionth of the deviation
        of those learnt)."""
        decisions = self._decisions(outputs)
        if self.task.problem == "regression":
            places = 6 - math.floor(math.log10(self._std))
            decisions = [round(d, places) for d in decisions]
        return [[decision, example["label"]] for decision, example in zip(decisions, examples, strict=True)]

    def _decisions(self, outputs: Sequence[Any]) -> list[Any]:
        import torch

        logits = torch.stack(list(outputs))
        if self.task.problem == "single_label":
            return logits.argmax(-1).tolist()
        return (logits > 0).int().tolist() if self.task.problem == "multi_label" else logits[:, 0].tolist()

    def decode(self, outputs: Sequence[Any], examples: Sequence[Example]) -> list[dict[str, Any]]:
        """`label` and `probabilities` by label name; for multi-label `labels`; for regression `value`."""
        import torch

        if not outputs:
            return []
        logits, names = torch.stack(list(outputs)), self.task.labels
        if self.task.problem == "regression":
            return [{"value": value} for value in logits[:, 0].tolist()]
        single = self.task.problem == "single_label"
        probabilities = (logits.softmax(-1) if single else logits.sigmoid()).tolist()
        rows = []
        for row, decision in zip(probabilities, self._decisions(outputs), strict=True):
            chosen: dict[str, Any] = (
                {"label": names[decision]}
                if single
                else {"labels": [name for name, on in zip(names, decision, strict=True) if on]}
            )
            rows.append({**chosen, "probabilities": dict(zip(names, row, strict=True))})
        return rows

    def baseline(self, train: Sequence[Example], examples: Sequence[Example]) -> tuple[str, list[Any]] | None:
        """The most frequent class for every row; each label as most rows have it; the mean."""
        import torch

        labels = torch.tensor([example["label"] for example in train], dtype=torch.float64)
        if self.task.problem == "single_label":
            counts = torch.bincount(labels.long(), minlength=len(self.task.labels))
            return "majority", [counts.float()] * len(examples)
        if self.task.problem == "multi_label":
            return "majority", [labels.mean(0).float() - 0.5] * len(examples)
        return "mean", [labels.mean(0, keepdim=True)] * len(examples)
