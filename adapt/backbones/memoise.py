"""Putting a memo where the frozen part of a model stands, whatever its architecture, and taking it away again."""

from __future__ import annotations

from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers.modeling_outputs import (
    BaseModelOutput,
    BaseModelOutputWithPastAndCrossAttentions,
    BaseModelOutputWithPoolingAndCrossAttentions,
    Seq2SeqModelOutput,
)

from adapt.backbones.calls import goes_on, lone_decoder, longest_of, padding_of, rows_of
from adapt.backbones.classes import LANGUAGE_MODELS, REDRAWN
from adapt.backbones.first import reads_first
from adapt.backbones.heads import MeanPoolingClassifier
from adapt.backbones.lower import restore_lower
from adapt.backbones.memo import Memo, memos_of
from adapt.backbones.shelf import Shelf
from adapt.backbones.standardised import Standardised, linear_head
from adapt.spec import Unsupported


def memoise(model: Any, max_bytes: int) -> None:
    """Put the frozen pretrained part of `model` behind a memo, in place; the head is left as it is.

    Args:
        model: What `Loader` gives with `frozen=True`.
        max_bytes: Bytes the memo may take; it keeps nothing of rows that are others in each epoch.

    Raises:
        Unsupported: The model's class has neither an inner base model nor T5's two stacks, or reads more of them than
            their last hidden states.
    """
    max_bytes = 0 if getattr(model, "task_kind", None) in REDRAWN else max_bytes
    if isinstance(model, MeanPoolingClassifier):
        base = model.base_model
        model.features = Memo(model.features, max_bytes, longest_of(base), padding_of(base.config))
    elif model.base_model is not model:
        if hasattr(model.config, "disable_ngram_loss"):  # ProphetNet
            raise Unsupported(
                f"the output layer of '{model.config.model_type}' reads streams for several tokens ahead, which are "
                "not kept; use a strategy that trains more than the head"
            )
        part = lone_decoder(model.base_model)
        holder, name = (model.base_model, part) if part else (model, model.base_model_prefix)
        setattr(holder, name, MemoBase(getattr(holder, name), max_bytes))
        language_model = getattr(model, "task_kind", None) in LANGUAGE_MODELS  # reads all; too large to try
        if not language_model and not model.config.is_encoder_decoder and reads_first(model, holder, name):
            getattr(holder, name).keep_first()
    elif hasattr(model, "encoder") and hasattr(model, "decoder"):
        model.decoder = MemoDecoder(model, max_bytes)
    else:
        raise Unsupported(f"no place is known where the features of {type(model).__name__} could be kept")


def standardise(model: Any) -> None:
    """Let the head of a model behind a memo train on standardised features; `release` folds them into it.

    Raises:
        Unsupported: The head is not one linear layer.
    """
    layer = linear_head(model)
    (memo,) = memos_of(model)
    memo.scaling = Standardised(layer.in_features, layer.weight.device)


def share(model: Any, folder: Path) -> None:
    """Take features from a folder that runs share, and put there those that the model is the first to compute.

    Args:
        model: Any; one without a memo is left as it is.
        folder: For runs with the same frozen weights, computed in the same way (`adapt.backbones.shelf.name_of`).
    """
    for memo in memos_of(model):
        memo.share(Shelf(folder / memo.name, memo.max_bytes))


def hand_on(model: Any) -> int:
    """Write what `share` asks for. Returns how many rows other runs had encoded."""
    memos = memos_of(model)
    for memo in memos:
        memo.hand_on()
    return sum(memo.shared_rows for memo in memos)


def fold(model: Any) -> None:
    """Make a head that was trained on standardised features one for the features as they are."""
    for memo in memos_of(model):
        if memo.scaling is not None:
            memo.scaling.fold_into(linear_head(model))
            memo.scaling = None


def release(model: Any) -> None:
    """Undo `memoise`, where it was done: predicting new rows needs no memo, and its memory is given back.

    A head that was trained on standardised features becomes one for the features as they are (`fold`).
    """
    fold(model)
    restore_lower(model)
    _restore(model)
    _restore(model.base_model)


def _restore(holder: Any) -> None:
    for name, module in list(holder.named_children()):
        if isinstance(module, Memo):
            setattr(holder, name, module.features)
        elif isinstance(module, MemoBase | MemoDecoder):
            setattr(holder, name, module.restored())


class _StandIn(nn.Module):
    """Stands where a frozen module stood, which it is in all but its forward pass."""

    memo: Memo
    inner = "base"
    """What the module is called among the memo's features."""

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "memo":
                raise
            return getattr(self.replaced, name)

    @property
    def replaced(self) -> Any:
        """The module that stood here."""
        return getattr(self.memo.features, self.inner)


class _Lenient:
    """An output with None for whatever else a class may look for, such as the routing of a mixture of experts."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


class _OfBase(_Lenient, BaseModelOutputWithPoolingAndCrossAttentions):
    pass


class _OfTwoStacks(_Lenient, Seq2SeqModelOutput):
    pass


class _OfEncoder(_Lenient, BaseModelOutput):
    pass


class _OfDecoder(_Lenient, BaseModelOutputWithPastAndCrossAttentions):
    pass


_ACTIVATIONS = ("pooler_activation", "activation")
"""What base models whose pooler is a bare linear layer call what follows it (ALBERT, BigBird)."""


class MemoBase(_StandIn):
    """A frozen base model behind a memo, with the base model's pooler, if any, applied to the memo's result."""

    def __init__(self, base: Any, max_bytes: int) -> None:
        super().__init__()
        pooler = getattr(base, "pooler", None)
        self.pooler = pooler if isinstance(pooler, nn.Module) else None
        bare = [name for name in _ACTIVATIONS if isinstance(pooler, nn.Linear) and hasattr(base, name)]
        self.pooler_activation = getattr(base, bare[0]) if bare else None
        if self.pooler is not None:
            base.pooler = nn.Identity()
        pooled = self.pooler is not None and self.pooler_activation is None
        self.memo = Memo(_LastHidden(base, pooled), max_bytes, longest_of(base), padding_of(base.config))
        self.parameters_of_base = list(signature(base.forward).parameters)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """As the base model's: an output with `last_hidden_state` and, where it has a pooler, `pooler_output`.

        The last hidden state is (batch, 1, hidden) where only the first token's is kept (`keep_first`).
        A call that goes on from earlier ones, as in generation, is the base model's own.
        """
        call = {**dict(zip(self.parameters_of_base, args, strict=False)), **kwargs}
        if goes_on(call):
            out = self.replaced(**call)
            if self.pooler is not None:
                out.pooler_output = self._pool(out[0])
            return out
        hidden = self.memo(**rows_of(call, self.memo.padding))
        if self.memo.features.first:
            hidden = hidden[:, None]
        if self.config.is_encoder_decoder and hasattr(self.replaced, "decoder"):
            return _OfTwoStacks(last_hidden_state=hidden)
        return _OfBase(last_hidden_state=hidden, pooler_output=self._pool(hidden))

    def keep_first(self) -> None:
        """Keep a row's first token alone, which suits a head that reads no other (`reads_first`)."""
        features: Any = self.memo.features
        features.first = True
        self.memo.name = "first"

    def _pool(self, hidden: torch.Tensor) -> torch.Tensor | None:
        if self.pooler is None:
            return None
        if self.pooler_activation is None:
            return self.pooler(hidden)
        return self.pooler_activation(self.pooler(hidden[:, 0]))

    def restored(self) -> Any:
        """The base model with its pooler."""
        if self.pooler is not None:
            self.replaced.pooler = self.pooler
        return self.replaced


class MemoDecoder(_StandIn):
    """The decoder of a model without an inner base model (T5's), behind a memo of encoder and decoder together.

    Before each call of the model the ids of the source are put where the encoder's states would be, so that the model
    does not run its encoder and hands them through to here. In generation the encoder is run, and this is the decoder.
    """

    inner = "decoder"

    def __init__(self, model: Any, max_bytes: int) -> None:
        super().__init__()
        self.memo = Memo(_Stacks(model.encoder, model.decoder), max_bytes, longest_of(model), padding_of(model.config))
        self.hook = model.register_forward_pre_hook(_hand_ids_through, with_kwargs=True)

    def forward(self, encoder_hidden_states: torch.Tensor, **kwargs: Any) -> Any:
        """
        Args:
            encoder_hidden_states: (batch, length): ids of the source; or (batch, length, hidden), as the decoder's.
            kwargs: As the decoder's; `input_ids` and `attention_mask` (batch, target length) are those of the target.
        """
        if encoder_hidden_states.is_floating_point():
            return self.replaced(encoder_hidden_states=encoder_hidden_states, **kwargs)
        call = {
            "input_ids": encoder_hidden_states, "attention_mask": kwargs["encoder_attention_mask"],
            "decoder_input_ids": kwargs["input_ids"], "decoder_attention_mask": kwargs["attention_mask"],
        }  # fmt: skip
        hidden = self.memo(**rows_of(call, self.memo.padding))
        return _OfDecoder(last_hidden_state=hidden)

    def restored(self) -> Any:
        """The decoder."""
        self.hook.remove()
        return self.replaced


def _hand_ids_through(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if args or goes_on(kwargs):
        return None
    return args, {**kwargs, "encoder_outputs": _OfEncoder(last_hidden_state=kwargs["input_ids"])}


class _LastHidden(nn.Module):
    def __init__(self, base: Any, pooled: bool) -> None:
        super().__init__()
        self.base = base
        self.pooled = pooled
        """Whether a pooler is applied to the result, which the base model itself hands on in its stead."""
        self.first = False
        """Whether the first token's state is given alone, (batch, hidden)."""

    def forward(self, **inputs: Any) -> torch.Tensor:
        out = self.base(**inputs)
        hidden: torch.Tensor = out[0]
        given = out.pooler_output if self.pooled else hidden
        if given is not hidden and not (given.shape == hidden.shape and torch.equal(given, hidden)):
            raise Unsupported(
                f"the pooler of '{self.base.config.model_type}' reads more than the last hidden states, which alone "
                "are kept; use a strategy that trains more than the head"
            )
        return hidden[:, 0] if self.first else hidden


class _Stacks(nn.Module):
    """T5's encoder and decoder in turn."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        decoder_input_ids: torch.Tensor,
        decoder_attention_mask: torch.Tensor,
    ) -> torch.Tensor:
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask)[0]
        return self.decoder(
            input_ids=decoder_input_ids,
            attention_mask=decoder_attention_mask,
            encoder_hidden_states=states,
            encoder_attention_mask=attention_mask,
        )[0]
