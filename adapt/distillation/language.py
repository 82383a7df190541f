"""The lesson of a language model: at each position that is learnt, its distribution over the whole vocabulary.

That of all rows would not fit anywhere, so the teacher runs beside the student, over the same tokens (word-level
distillation; Kim & Rush 2016, section 3.1).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from adapt.distillation.soft import divergence
from adapt.tasks import Example, Kind, Lesson
from adapt.tasks.language import learnt_states
from adapt.tasks.losses import IGNORED

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class Tokens:
    """The next token of a text, or one that is masked: what `soft.Classes` is for classes."""

    kind: Any
    """The student's: `CausalLM`, `Seq2Seq` or `MaskedLM`."""
    teachers_kind: Any
    """The same for the teacher, of the same vocabulary."""
    teacher: nn.Module
    """In evaluation mode, on the student's device."""
    precision: Literal["fp32", "bf16"]
    """Of the teacher's arithmetic."""
    vocabulary: int
    """Size of the vocabulary; further outputs that a model has, and tokens that one lacks, are not compared."""
    temperature: float
    weight: float

    @property
    def beside(self) -> Sequence[nn.Module]:
        """The teacher."""
        return (self.teacher,)

    def collate(self, examples: Sequence[Example], *, longest: int | None = None) -> dict[str, torch.Tensor]:
        """The student's batch, which the teacher reads too."""
        batch: dict[str, torch.Tensor] = self.kind.collate(examples, longest=longest)
        return batch

    def terms(self, examples: Sequence[Example]) -> int:
        """Positions that are learnt."""
        return int(self.kind.terms(examples))

    def planned(self, kind: Kind, stand_in: Callable[[nn.Module], nn.Module]) -> Lesson:
        """The same, of which both models read made-up rows; of masked LM all their tokens are taken to be learnt."""
        return replace(self, kind=kind, teachers_kind=kind, teacher=stand_in(self.teacher))

    def loss(self, model: nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Mean over positions of (1 - weight) times the kind's own loss plus weight times the divergence from the
        teacher; of logits of a few tokens at a time, where the student's own loss is made so."""
        import torch

        from adapt.backbones.chunked import summed

        inputs, labels = self.kind.asked(model, batch)
        learnt = labels != IGNORED
        wanted, said = labels[learnt], self._said(batch)
        count = learnt.sum().clamp(min=1)

        def of(logits: torch.Tensor, which: slice) -> tuple[torch.Tensor, torch.Tensor]:
            with torch.enable_grad():
                leaf = logits.requires_grad_()
                loss = self._mixed(leaf, wanted[which], said(which))
                (slope,) = torch.autograd.grad(loss, leaf)
            return loss.detach(), slope

        found = learnt_states(model, inputs, labels)
        if found is None:
            logits = model(**inputs).logits[:, : labels.shape[1]][learnt]
        else:
            total = summed(model, found.states, of, found.logits, found.tokens)
            if total is not None:
                return total / count
            logits = found.logits(found.states[None])[0]
        return self._mixed(logits, wanted, said(slice(None))) / count

    def _mixed(self, logits: torch.Tensor, wanted: torch.Tensor, said: torch.Tensor) -> torch.Tensor:
        """Sum over positions."""
        from torch.nn import functional as F

        own = F.cross_entropy(logits.float(), wanted, reduction="sum")
        shared = min(logits.shape[1], said.shape[1])
        found = logits[:, :shared].float()
        return (1 - self.weight) * own + self.weight * divergence(said[:, :shared], found, self.temperature).sum()

    def _said(self, batch: Mapping[str, torch.Tensor]) -> Callable[[slice], torch.Tensor]:
        """What makes the teacher's logits of some of the learnt positions, (positions, vocabulary) in float32."""
        import torch

        device = batch["input_ids"].device
        precise = torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16")
        inputs, labels = self.teachers_kind.asked(self.teacher, batch)
        with torch.no_grad(), precise:
            found = learnt_states(self.teacher, inputs, labels)
            if found is None:
                every = self.teacher(**inputs).logits[:, : labels.shape[1]][labels != IGNORED]

        def said(which: slice) -> torch.Tensor:
            with torch.no_grad(), precise:
                logits = every[which] if found is None else found.logits(found.states[which][None])[0]
                return logits[:, : self.vocabulary].float()

        return said
