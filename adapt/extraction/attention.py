"""The attention maps of a text: what each head of each layer looks at."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from adapt.backbones.attended import all_keys
from adapt.display import counted, one_line
from adapt.extraction.reading import Reader, reader
from adapt.extraction.representations import layers_of
from adapt.extraction.shown import shown, words_of
from adapt.spec import OptionError, Unsupported
from adapt.tasks import Example
from adapt.tasks.tokens import special_ids

_ROWS, _PAIRS = 32, 1 << 17
"""Most texts, and pairs of their tokens, whose maps are made at a time."""


@dataclass(frozen=True, eq=False)
class Attention:
    """The attention of one text, padding left out.

    Each row of a map is one query's softmax, before dropout, and sums to 1. Learned keys (prefix tuning) come before
    the text's; a layer that has none gives them 0. Keys that are attended to apart, through a gate, are left out.
    """

    tokens: tuple[str, ...]
    """As a reader would write them."""
    weights: np.ndarray
    """(layers, heads, tokens, prefix + tokens), float32: by query and key."""
    layers: tuple[int, ...]
    """Numbers of the layers, from 1."""
    prefix: int = 0
    """Learned keys in front of the text's."""
    special: frozenset[int] = frozenset()
    """Places of the tokens that stand for no text, such as those that the tokenizer adds."""
    words: tuple[tuple[str, int], ...] | None = None
    """The words in order, each with how many tokens it has, special tokens among them; None: they are not known."""
    source: str = ""
    """The model's name."""
    cut: bool = False
    """Whether tokens were left out of the text, which is longer than the model was to read."""

    def __repr__(self) -> str:
        layers, heads, tokens, _ = self.weights.shape
        read = counted(tokens, "token") + (f" and {counted(self.prefix, 'learned key')}" if self.prefix else "")
        text = " ".join(self.tokens[:8]) + (" ..." if tokens > 8 else "")
        return one_line(f"<Attention: {counted(layers, 'layer')} of {counted(heads, 'head')}, {read}: {text}>")

    @property
    def keys(self) -> tuple[str, ...]:
        """What the columns of a map are for."""
        return (*(f"prefix {i + 1}" for i in range(self.prefix)), *self.tokens)

    def by_word(self) -> Attention:
        """The attention between words (Clark et al. 2019, section 4.1).

        Attention to a word is the sum over its tokens, attention from it their mean, so that rows sum to 1.

        Raises:
            Unsupported: The tokenizer does not tell which word a token belongs to.
        """
        if self.words is None:
            raise Unsupported("which word a token belongs to is not known: only fast tokenizers tell")
        sizes = np.array([size for _, size in self.words])
        starts = sizes.cumsum() - sizes
        columns = [*range(self.prefix), *(starts + self.prefix)]
        to_words = np.add.reduceat(self.weights, columns, axis=-1)
        weights = np.add.reduceat(to_words, starts, axis=-2) / sizes[:, None]
        return dataclasses.replace(
            self,
            tokens=tuple(word for word, _ in self.words),
            weights=weights.astype(np.float32),
            special=frozenset(i for i, start in enumerate(starts) if start in self.special),
            words=tuple((word, 1) for word, _ in self.words),
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values; weights have six decimals, as nested lists."""
        return {
            "tokens": list(self.tokens),
            "prefix": self.prefix,
            "special": sorted(self.special),
            "words": None if self.words is None else [list(word) for word in self.words],
            "cut": self.cut,
            "layers": list(self.layers),
            "weights": self.weights.astype(np.float64).round(6).tolist(),
        }

    def to_html(self, file: str | Path) -> Path:
        """Write the maps as a page of their own; see `adapt.extraction.write_maps`."""
        from adapt.extraction.maps import write_maps

        return write_maps([self], file)


def attention(source: Any, rows: Any, **options: Any) -> list[Attention]:
    """The attention maps of texts in input order; the public `adapt.attention`.

    Args:
        source: An adapted model, its folder, or a backbone, as `adapt.extraction.reader` takes it.
        rows: A list of texts, of pairs of texts or of lists of words; or anything that `adapt.data.read_texts` reads.
        options: `layers`, `columns`, `max_length`, `device`, `precision` and `backbone`, as for
            `adapt.extraction.each_attention`, which gives the maps one by one.

    Raises:
        AdaptError: As there.
    """
    return list(each_attention(source, rows, **options))


def each_attention(
    source: Any,
    rows: Any,
    *,
    layers: Any = "all",
    columns: Mapping[str, str] | None = None,
    max_length: int | None = None,
    device: str = "auto",
    precision: str | None = None,
    backbone: str | Path | None = None,
) -> Iterator[Attention]:
    """The attention maps of texts in input order, of which few are held at a time.

    They are those of an encoder's self-attention, or of a decoder's where there is no encoder. In bfloat16 weights are
    rounded to it, and then made to sum to 1.

    Args:
        source: As for `adapt.extraction.reader`.
        rows: As for `Reader.encode`.
        layers: As for `adapt.representations`, but for the embeddings, which have no attention.
        columns: As for `Reader.encode`.
        max_length: Tokens that a row is cut to; None: as for `adapt.extraction.reader`.
        device: `auto`, `cpu` or `cuda`.
        precision: `fp32` or `bf16`; None: that of training, for a backbone fp32.
        backbone: As for `adapt.extraction.reader`.

    Raises:
        AdaptError: The source, a row or an option cannot be used.
        Unsupported: The architecture gives no weights of every token on every other, layer by layer.
    """
    made = reader(source, device=device, precision=precision, max_length=max_length, backbone=backbone)
    chosen = _numbers(layers, made.layers)
    return _each(dataclasses.replace(made, attention="eager"), made.encode(rows, columns), chosen)


def _numbers(layers: Any, depth: int) -> tuple[int, ...]:
    """
    Raises:
        OptionError: There is no such layer, or it has no attention.
    """
    numbers = tuple(range(1, depth + 1)) if isinstance(layers, str) and layers == "all" else layers_of(layers, depth)
    if 0 in numbers:
        raise OptionError(f"Layer 0 are the embeddings, which have no attention; give layers from 1 to {depth}.")
    return numbers


def _each(made: Reader, examples: Sequence[Example], layers: Sequence[int]) -> Iterator[Attention]:
    special = special_ids(made.tokenizer)
    for part in _parts(examples):
        maps: dict[int, tuple[np.ndarray, int]] = {}
        made.through(part, partial(_keep, maps, made, part, layers))
        for i, example in enumerate(part):
            ids, (weights, prefix) = example["input_ids"], maps.pop(i)
            tokens = shown(made.tokenizer, ids)
            places = frozenset(i for i, token in enumerate(ids) if token in special)
            words = words_of(example, tokens)
            yield Attention(tokens, weights, tuple(layers), prefix, places, words, made.name, example["cut"])


def _keep(
    maps: dict[int, tuple[np.ndarray, int]],
    made: Reader,
    part: Sequence[Example],
    layers: Sequence[int],
    indices: Sequence[int],
    batch: Mapping[str, torch.Tensor],
) -> None:
    """Put the maps of a batch beside the others."""
    lengths = [len(part[i]["input_ids"]) for i in indices]
    maps.update(zip(indices, _maps(made, batch, lengths, layers), strict=True))


def _parts(examples: Sequence[Example]) -> Iterator[list[Example]]:
    """Examples in order, as many as make `_ROWS` or, padded, `_PAIRS` at most, but one at least."""
    part: list[Example] = []
    longest = 0
    for example in examples:
        length = len(example["input_ids"])
        longest = max(longest, length)
        if part and (len(part) == _ROWS or (len(part) + 1) * longest**2 > _PAIRS):
            yield part
            part, longest = [], length
        part.append(example)
    if part:
        yield part


def _maps(
    made: Reader, batch: Mapping[str, torch.Tensor], lengths: Sequence[int], layers: Sequence[int]
) -> list[tuple[np.ndarray, int]]:
    """Weights, (layers, heads, tokens, prefix + tokens), and number of learned keys, of each row of a batch."""
    with all_keys() as extra:
        found = getattr(made.forward(batch, output_attentions=True), "attentions", None) or ()
    rows, length = batch["input_ids"].shape
    windows = getattr(made.model.config, "attention_window", None)  # Longformer's, whose columns are places in these
    whole = [isinstance(w, torch.Tensor) and w.dim() == 4 and w.shape[::2] == (rows, length) for w in found]
    if windows or len(found) != made.layers or not all(whole) or {w.shape[3] - length for w in found} - {0, *extra}:
        raise Unsupported(
            f"the attention of '{_family(made)}' does not give weights of every token on every other, layer by layer"
        )
    prefix = max(w.shape[3] for w in found) - length
    kept = [_probabilities(found[layer - 1], lengths, made, prefix) for layer in layers]
    if len({w.shape[1] for w in kept}) > 1:
        raise Unsupported(f"the layers of '{_family(made)}' have different numbers of heads; name one")
    return [
        (np.stack([layer[row, :, :tokens, : prefix + tokens] for layer in kept]), prefix)
        for row, tokens in enumerate(lengths)
    ]


def _probabilities(weights: torch.Tensor, lengths: Sequence[int], made: Reader, prefix: int) -> np.ndarray:
    """A layer's weights as float32, (batch, heads, length, prefix + length)."""
    found = weights.detach().float().cpu()
    sums = found.sum(-1, keepdim=True)
    real = torch.arange(found.shape[2]) < torch.tensor(lengths)[:, None]
    off = float((sums[..., 0] - 1).abs().amax(1)[real].max())
    whole = weights.dtype == torch.float32
    if not off < (1e-3 if whole else 0.05):
        raise Unsupported(
            f"the attention weights of '{_family(made)}' do not sum to 1: some of its attention goes to no token"
        )
    if not whole:
        found = found / sums
    return torch.nn.functional.pad(found, (prefix + found.shape[2] - found.shape[3], 0)).numpy()


def _family(made: Reader) -> str:
    return str(getattr(made.model.config, "model_type", made.name))
