"""A table of word embeddings of which only the words that occur in the training rows are trained.

A word that occurs in no row has no gradient, and an optimizer that holds moments for it holds zeros. Full fine-tuning
of a multilingual encoder spends most of its memory so: two thirds of the parameters of XLM-R's base model are word
embeddings, few of which a small data set in one language uses. Williams & Aletras (2023, Vocabulary-level Memory
Efficiency for Language Model Fine-tuning) train a matrix of the words that occur, and put it back afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from adapt.backbones.calls import padding_of
from adapt.backbones.classes import REDRAWN
from adapt.backbones.exhausted import explained
from adapt.spec import Unsupported

_MARK = "trains_seen_words"
_ADVICE = "leave embeddings='seen' out"


def train_seen_words(model: Any) -> None:
    """Have training hold only the word embeddings that occur in its rows as trainable; nothing where all are frozen.

    Args:
        model: As `Loader` gives it; marked in place.

    Raises:
        Unsupported: Its word embeddings are shared with an output layer, do more than look words up, or are not found;
            or words of its rows are drawn at random.
    """
    what = f"'{model.config.model_type}'"
    try:
        table = model.base_model.get_input_embeddings()
    except NotImplementedError:  # CANINE's, which hashes characters
        table = None
    weight = getattr(table, "weight", None)
    if not isinstance(weight, nn.Parameter):
        raise Unsupported(f"{what} has no table of word embeddings; {_ADVICE}")
    if not weight.requires_grad:
        return
    if model.task_kind in REDRAWN:
        raise Unsupported(f"which words occur is not known before {model.task_kind} draws them; {_ADVICE}")
    for name, module in _places(model, weight):
        if not isinstance(module, nn.Embedding):
            raise Unsupported(
                f"the word embeddings of {what} are shared with {name}, so that words which occur in no row have "
                f"gradients, too; {_ADVICE}"
            )
        if type(module) is not nn.Embedding or module.max_norm is not None or module.scale_grad_by_freq:
            how = type(module).__name__
            raise Unsupported(f"the word embeddings of {what} ({how}) do more than look words up; {_ADVICE}")
    setattr(model, _MARK, True)


def _places(model: nn.Module, weight: torch.Tensor) -> list[tuple[str, nn.Module]]:
    """Names and modules that hold a parameter, each name that a module has."""
    modules = model.named_modules(remove_duplicate=False)
    return [(name, module) for name, module in modules if any(p is weight for p in module._parameters.values())]


def spares(words: int, vocabulary: int) -> bool:
    """Whether it is worth while: the embeddings of words that occur are held twice."""
    return 2 * words <= vocabulary


def words_of(examples: Sequence[Mapping[str, Any]], config: Any, kind: str, *brought: int) -> list[int]:
    """Indices of the words of encoded rows, in order, with those that batches bring.

    Args:
        examples: Encoded training rows.
        config: The backbone's configuration (transformers).
        kind: The task kind; a decoder reads the words of targets, too.
        brought: Indices of tokens that batches bring and the configuration may not name: what fills them up, and what a
            decoder begins with.
    """
    begin = getattr(config, "decoder_start_token_id", None)
    words = {padding_of(config), *brought, *([] if begin is None else [begin])}
    for example in examples:
        words.update(example["input_ids"])
        if kind == "seq2seq":
            words.update(example.get("labels", ()))
    return sorted(word for word in words if word >= 0)


@contextmanager
def only_seen_words(model: Any, examples: Sequence[Mapping[str, Any]], padding: int) -> Iterator[int | None]:
    """Within the block only the embeddings of words that occur are trainable, if `train_seen_words` marked the model.

    Nothing is done where they are more than half of all.

    Args:
        model: Its table is put back at the end, trainable; with what was learnt, if nothing went wrong.
        examples: Encoded training rows.
        padding: Index of the token that fills batches up.

    Yields:
        The number of words; None where all are trained that are trainable.
    """
    held = None
    if getattr(model, _MARK, False):
        begin = getattr(getattr(model, "generation_config", None), "decoder_start_token_id", None)
        brought = [padding] if begin is None else [padding, begin]
        held = _hold(model, words_of(examples, model.base_model.config, model.task_kind, *brought))
    if held is None:
        yield None
        return
    seen, places = held
    try:
        yield len(seen.words)
        seen.write_back()
    finally:
        seen.table.requires_grad_(True)
        for name, module in places:
            model.set_submodule(name, module)


def hold_some(model: nn.Module, number: int | None) -> None:
    """Have a model that is marked hold so many words as trainable, whichever they are; for planning.

    Args:
        model: As its strategy built it.
        number: Different words of the rows; None: all.
    """
    if number is not None and getattr(model, _MARK, False):
        _hold(model, range(number))


def _hold(model: Any, words: Sequence[int]) -> tuple[SeenEmbedding, list[tuple[str, nn.Module]]] | None:
    """Put a `SeenEmbedding` in all places of the table of words, and give what was there; None where it spares nothing.

    Raises:
        OutOfMemory: There is no room for it.
    """
    table = model.base_model.get_input_embeddings()
    if not spares(len(words), len(table.weight)):
        return None
    places = _places(model, table.weight)
    with explained("while the embeddings of words that occur were copied", _ADVICE):
        seen = SeenEmbedding(table, words)
    for name, _ in places:
        model.set_submodule(name, seen)
    return seen, places


class SeenEmbedding(nn.Module):
    """In training, looks up rows of a small trainable table; else in the whole one, which has what was learnt."""

    words: torch.Tensor
    """Index of each trained row in the whole table."""
    places: torch.Tensor
    """Row of each word in the small table; of words that are not there one beyond its end."""

    def __init__(self, table: nn.Embedding, words: Sequence[int]) -> None:
        """
        Args:
            table: (vocabulary, hidden); frozen here.
            words: Different indices in it.
        """
        super().__init__()
        self.table = table.requires_grad_(False)
        device = table.weight.device
        places = torch.full((len(table.weight),), len(words), dtype=torch.int32)
        places[torch.tensor(words)] = torch.arange(len(words), dtype=torch.int32)
        self._padding = words.index(table.padding_idx) if table.padding_idx in words else None
        self.register_buffer("words", torch.tensor(words, device=device))
        self.register_buffer("places", places.to(device))
        self.seen = nn.Parameter(table.weight[self.words].detach().clone())
        """(words, hidden): what is trained."""

    @property
    def weight(self) -> torch.Tensor:
        """The whole table's weight: what transformers looks at for shape and dtype."""
        return self.table.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """(...) to (..., hidden).

        Raises:
            IndexError: In training, a word that is not among those trained.
        """
        if not self.training:
            return self.table(ids)
        return nn.functional.embedding(self.places[ids], self.seen, padding_idx=self._padding)

    def train(self, mode: bool = True) -> SeenEmbedding:
        """Write what was learnt to the whole table where training pauses."""
        if self.training and not mode:
            self.write_back()
        super().train(mode)
        return self

    @torch.no_grad()
    def write_back(self) -> None:
        """Have the whole table hold what was learnt."""
        self.table.weight[self.words] = self.seen
