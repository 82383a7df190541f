"""Hidden states of each layer, pooled over the tokens of a row or kept for each word or token."""

from __future__ import annotations

import json
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch

from adapt import params
from adapt.display import counted, shows_fields, with_notes
from adapt.extraction.reading import Reader, reader
from adapt.fields import check_choice
from adapt.files import output_file, path_of
from adapt.spec import AdaptError, OptionError, Unsupported
from adapt.tasks import Example

Pooling = Literal["mean", "first", "last", "words", "word_means", "tokens"]
REPRESENTATION_FILES = (".safetensors",)
"""How the name of a file of representations may end."""
_FORMAT = "adapt representations 2"
"""What the metadata of a file say that `Representations.save` wrote."""


@shows_fields
@dataclass(frozen=True)
class Representations:
    """Vectors of rows, words or tokens in several layers of one model."""

    values: np.ndarray
    """(layers, vectors, hidden), float32; a vector for each row, or for each word or token of all rows in order."""
    layers: tuple[int, ...]
    """Number of each layer: 0 are the embeddings, 1 is the first transformer layer."""
    pooling: Pooling
    """See `representations`."""
    source: str
    """The model's name."""
    rows: np.ndarray
    """(vectors,), int64: the row that each vector is of."""
    positions: np.ndarray
    """(vectors,), int64: which word or token of its row each vector is of; 0 where there is one vector a row."""
    cut: np.ndarray
    """(rows,), int64: how much was read of a row that was cut: characters, or tokens where the tokenizer is not a fast
    one; 0 for a row that was read whole."""
    notes: tuple[str, ...] = ()
    """What must be said, such as how many texts were cut."""

    def __repr__(self) -> str:
        layers, vectors, hidden = self.values.shape
        what = f"{counted(layers, 'layer')}, {counted(vectors, 'vector')} of {hidden} ({self.pooling})"
        return with_notes(f"<Representations by {self.source}: {what} of {counted(len(self.cut), 'row')}>", self.notes)

    def of(self, row: int) -> np.ndarray:
        """The vectors of a row: (layers, vectors of the row, hidden)."""
        return self.values[:, self.rows == row]

    def save(self, file: str | Path) -> Path:
        """Write a safetensors file: `values`, `rows`, `positions` and `cut`, the rest in its metadata.

        Raises:
            OptionError: The file cannot be written, or its name does not end in .safetensors.
        """
        path = output_file(file, REPRESENTATION_FILES)
        rest = {"layers": self.layers, "pooling": self.pooling, "source": self.source, "notes": self.notes}
        arrays = {name: torch.from_numpy(np.ascontiguousarray(getattr(self, name))) for name in _ARRAYS}
        params.write(arrays, path, {"content": _FORMAT, "about": json.dumps(rest, ensure_ascii=False)})
        return path

    @classmethod
    def load(cls, file: str | Path) -> Representations:
        """Read what `save` wrote.

        Raises:
            AdaptError: The file is not there, damaged, or another one.
        """
        from safetensors import SafetensorError, safe_open

        path = path_of(file)
        try:
            with safe_open(path, "np") as handle:
                about = handle.metadata() or {}
                if about.get("content") != _FORMAT or set(handle.keys()) != set(_ARRAYS):
                    raise AdaptError(f"{path} holds no representations; give a file that Representations.save wrote.")
                arrays = {name: handle.get_tensor(name) for name in _ARRAYS}
                rest: dict[str, Any] = json.loads(about["about"])
            found = cls(
                layers=tuple(map(operator.index, rest["layers"])), pooling=rest["pooling"], source=rest["source"],
                notes=tuple(rest["notes"]), **arrays,
            )  # fmt: skip
            found._check()
        except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
            raise AdaptError(f"{path} cannot be read ({error}); save the representations again.") from error
        return found

    def _check(self) -> None:
        """
        Raises:
            ValueError: What belongs together does not fit.
        """
        if any(getattr(self, name).dtype != kind for name, kind in _ARRAYS.items()):
            raise ValueError("an array is of another type")
        shapes = [getattr(self, name).shape for name in _ARRAYS]
        if [len(shape) for shape in shapes] != [3, 1, 1, 1] or len({shapes[0][1], *shapes[1], *shapes[2]}) > 1:
            raise ValueError("its arrays are not of the same vectors")
        if len(self.layers) != len(self.values) or not set(self.rows.tolist()) <= set(range(len(self.cut))):
            raise ValueError("its arrays are not of the layers and rows it names")
        if self.pooling not in get_args(Pooling) or {*map(type, (self.source, *self.notes))} != {str}:
            raise ValueError("it does not say how it was made")


_ARRAYS = {"values": "float32", "rows": "int64", "positions": "int64", "cut": "int64"}
"""Field to the type of its elements."""


def representations(
    source: Any,
    rows: Any,
    *,
    layers: Any = "all",
    pooling: Pooling = "mean",
    columns: Mapping[str, str] | None = None,
    **options: Any,
) -> Representations:
    """Hidden states of rows; the public `adapt.representations`.

    Args:
        source: An adapted model, its folder, or a backbone; see `adapt.extraction.reader`.
        rows: Texts, pairs of texts (tuples), lists of words, or what `adapt.data.read_texts` reads.
        layers: `all`, `last`, a number, several, or a text such as `1,6`; negative numbers count from the end. 0 are
            the embeddings; the last is the model's `last_hidden_state`, after a final norm where there is one.
        pooling: One vector a row: `mean` over its tokens, special tokens included and padding not, as sentence
            encoders pool (Reimers & Gurevych 2019); `first`, the first token, or `last`, the last that is not padding
            (each a special token where the tokenizer puts one there). One vector a word: `words`, the word's first
            token that is more than white space, or `word_means`, the mean of its tokens. `tokens`: one vector a token,
            special tokens included. A word of which no token is left, by a cut or else, has none.
        columns: What a column is for to its name, where that is unusual.
        options: `device`, `precision`, `max_length`, `attention`, `backbone`, as for `adapt.extraction.reader`.

    Raises:
        AdaptError: The source, a row or an option cannot be used.
    """
    check_choice("pooling", pooling, get_args(Pooling))
    model = reader(source, **options)
    chosen = layers_of(layers, model.layers)
    examples = model.encode(rows, columns)
    values, counts, positions = read(model, examples, chosen, pooling)
    cut = np.array([example["read"] if example["cut"] else 0 for example in examples], dtype=np.int64)
    notes = list(model.notes)
    if cut.any():
        notes.append(f"{(cut > 0).sum()} of {len(cut)} rows were cut to {model.max_length} tokens")
    of = np.repeat(np.arange(len(examples)), counts)
    return Representations(values, chosen, pooling, model.name, of, positions, cut, tuple(notes))


def read(
    model: Reader, examples: Sequence[Example], layers: Sequence[int], pooling: Pooling
) -> tuple[np.ndarray, list[int], np.ndarray]:
    """Vectors of encoded rows, in order.

    Args:
        model: What reads them.
        examples: Token fields, and for `words` and `word_means` the word of each token (`words`).
        layers: Numbers of the layers, from 0.
        pooling: As for `representations`.

    Returns:
        Values (layers, vectors, hidden), float32; vectors of each row; the word or token that each vector is of.

    Raises:
        Unsupported: Words are asked for, and the tokenizer does not say which token is of which.
        AdaptError: A state is not finite.
    """
    groups = [_groups(example, pooling) for example in examples]
    counts = [len(group) for group in groups]
    ends = np.cumsum(counts)
    values = np.empty((len(layers), 0, 0), dtype=np.float32)

    def keep(indices: Sequence[int], batch: dict[str, torch.Tensor]) -> None:
        nonlocal values
        states = model.hidden_states(batch)
        if not values.size:  # as large as all at once, since the size of vectors is known
            values = np.empty((len(layers), ends[-1], states[layers[0]].shape[-1]), dtype=np.float32)
        for place, i in enumerate(indices):
            row = torch.stack([states[layer][place, : len(examples[i]["input_ids"])] for layer in layers]).float().cpu()
            values[:, ends[i] - counts[i] : ends[i]] = _pooled(row, list(groups[i].values()))

    model.through(examples, keep)
    if not np.isfinite(values).all():
        raise AdaptError(f"Hidden states of {model.name} are not finite; read it in fp32, or fit it at a lower rate.")
    return values, counts, np.array([n for group in groups for n in group], dtype=np.int64)


def _groups(example: Example, pooling: Pooling) -> dict[int, list[int]]:
    """The tokens of each vector, by the number of the word or token that it is of."""
    length = len(example["input_ids"])
    if pooling == "tokens":
        return {i: [i] for i in range(length)}
    if pooling in ("mean", "first", "last"):
        return {0: {"mean": list(range(length)), "first": [0], "last": [length - 1]}[pooling]}
    if "words" not in example:
        raise Unsupported(
            "vectors of words need to know which part of the text a token stands for, which only a fast tokenizer "
            "tells; pool by mean, first, last or tokens"
        )
    groups: dict[int, list[int]] = {}
    for token, word in enumerate(example["words"]):
        if word is not None:
            groups.setdefault(word, []).append(token)
    return {word: tokens[:1] if pooling == "words" else tokens for word, tokens in sorted(groups.items())}


def _pooled(states: torch.Tensor, groups: Sequence[Sequence[int]]) -> np.ndarray:
    """
    Args:
        states: (layers, length, hidden).
        groups: The tokens of each vector.

    Returns:
        (layers, vectors, hidden): means over the tokens.
    """
    if not groups:
        return np.empty((states.shape[0], 0, states.shape[2]), dtype=np.float32)
    return torch.stack([states[:, list(tokens)].mean(1) for tokens in groups], 1).numpy()


def layers_of(layers: Any, depth: int) -> tuple[int, ...]:
    """Numbers of the layers that are asked for, in the order given, each once.

    Args:
        layers: As for `representations`.
        depth: Transformer layers of the model.

    Raises:
        OptionError: It is none of these, or there is no such layer.
    """
    if isinstance(layers, str) and layers in ("all", "last"):
        return tuple(range(depth + 1)) if layers == "all" else (depth,)
    given = layers.split(",") if isinstance(layers, str) else layers if hasattr(layers, "__iter__") else [layers]
    try:
        numbers = [int(str(number).strip()) for number in given]
    except ValueError:
        raise OptionError(f"layers is {layers!r}; give all, last, or numbers with commas between them.") from None
    for number in numbers:
        if not -depth - 1 <= number <= depth:
            raise OptionError(f"There is no layer {number}; the model has the layers 0 (embeddings) to {depth}.")
    if not numbers:
        raise OptionError("layers names none; give all, last, or numbers with commas between them.")
    return tuple(dict.fromkeys(number % (depth + 1) for number in numbers))
