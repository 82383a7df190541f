"""Training of tokenizers."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

from adapt.pretrain.corpus import as_lines
from adapt.spec import DataError, OptionError

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""Of WordPiece, in the order of their ids."""
BYTE_SPECIAL_TOKENS = ("<pad>", "<s>", "</s>", "<unk>", *(f"<extra_id_{i}>" for i in range(32)))
"""Of byte-level BPE, in the order of their ids: padding, begin, end, unknown (never used), sentinels for spans."""

_LONGEST = 100
"""Characters of the longest word that WordPiece takes apart."""
_MOST_LOST = 0.01
"""Share of the text in unknown words above which there is a warning."""


def train_tokenizer(
    documents: Iterable[Sequence[str]],
    vocab_size: int = 4096,
    max_length: int = 128,
    *,
    alphabet_size: int = 128,
    strip_accents: bool = True,
) -> Any:
    """Train a lower-casing WordPiece tokenizer; returns a `BertTokenizer` of transformers.

    The vocabulary holds the five special tokens first, `[PAD]` at 0. The same text gives the same vocabulary.

    Args:
        documents: Lines of each.
        vocab_size: Entries at most, of which special tokens take five and each character kept takes two.
        max_length: Tokens of a text that the tokenizer is for.
        alphabet_size: Characters kept, the most frequent ones; words with others become `[UNK]`, and so do those of
            more than 100 characters, as text of a script without spaces has them. Ethiopic script, say, needs more than
            the default. A warning says where they are more than 1 % of the text.
        strip_accents: Leave out combining marks, as BERT does. Where they tell words apart, as tones do in Yoruba, or
            are the vowels of a script, keep them.

    Raises:
        DataError: The documents hold no text.
        OptionError: The vocabulary has no room for the characters, or a document is a text instead of its lines.
    """
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertTokenizer

    trainer = BertWordPieceTokenizer(lowercase=True, strip_accents=strip_accents)
    lines = [line for document in as_lines(documents) for line in document]
    normalised = map(trainer.normalizer.normalize_str, lines)
    words = Counter(word for line in normalised for word, _ in trainer.pre_tokenizer.pre_tokenize_str(line))
    counts = Counter[str]()
    for word, count in words.items():
        for character in word:
            counts[character] += count
    if not counts:
        raise _no_text()
    alphabet = sorted(sorted(counts, key=lambda character: (-counts[character], character))[:alphabet_size])
    _check_room(vocab_size, len(SPECIAL_TOKENS) + 2 * len(alphabet), "; or a smaller alphabet_size")
    known = set(alphabet)
    lost = sum(len(word) * n for word, n in words.items() if len(word) > _LONGEST or not known.issuperset(word))
    if lost > _MOST_LOST * counts.total():
        warnings.warn(
            f"{100 * lost / counts.total():.0f} % of the text is in words that become [UNK], for they have more than "
            f"{_LONGEST} characters or others than the {len(alphabet)} kept of {len(counts)}: have a larger "
            "alphabet_size, and spaces between words.",
            stacklevel=2,
        )
    trainer.train_from_iterator(
        lines,
        vocab_size=vocab_size,
        min_frequency=2,
        limit_alphabet=len(alphabet),
        initial_alphabet=alphabet,
        # The trainer numbers what it meets in no fixed order and breaks ties by number: number it beforehand.
        special_tokens=[*SPECIAL_TOKENS, *alphabet, *(f"##{character}" for character in alphabet)],
        show_progress=False,
    )
    return BertTokenizer(
        vocab=trainer.get_vocab(), do_lower_case=True, strip_accents=strip_accents, model_max_length=max_length
    )


def train_byte_tokenizer(documents: Iterable[Sequence[str]], vocab_size: int = 4096) -> Any:
    """Train a cased, lossless byte-pair tokenizer (Sennrich et al. 2016) on bytes (Radford et al. 2019, section 2.2).

    Digits stand alone, so that numbers can be copied. The vocabulary holds `BYTE_SPECIAL_TOKENS` first, then the 256
    bytes, then merges; lines of a document are learnt from with the line feeds between them. The same text gives the
    same vocabulary. Returns a `tokenizers.Tokenizer`; `for_decoder` and `for_encoder_decoder` make tokenizers of
    transformers from it. Raises `OptionError` where the vocabulary has no room for the bytes, or a document is a text
    instead of its lines, and `DataError` where the documents hold no text.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    _check_room(vocab_size, len(BYTE_SPECIAL_TOKENS) + 256)
    texts = ("\n".join(document) for document in as_lines(documents))
    first = next(filter(None, texts), None)
    if first is None:
        raise _no_text()
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=list(BYTE_SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(chain([first], texts), trainer)
    return tokenizer


def for_decoder(tokenizer: Any, max_length: int = 256) -> Any:
    """A tokenizer of transformers for a causal model: `<s>` before each text; `</s>`, which ends one, is not added."""
    return _with_frame(tokenizer, "<s> $A", "<s> $A $B", max_length)


def for_encoder_decoder(tokenizer: Any, max_length: int = 256) -> Any:
    """A tokenizer of transformers for an encoder-decoder: `</s>` after each text."""
    return _with_frame(tokenizer, "$A </s>", "$A </s> $B </s>", max_length)


def _no_text() -> DataError:
    return DataError("the documents hold no text to train a tokenizer on: give some, each as a list of its lines")


def _check_room(vocab_size: int, least: int, otherwise: str = "") -> None:
    """
    Raises:
        OptionError: A vocabulary is smaller than what is always in it.
    """
    if vocab_size < least:
        raise OptionError(
            f"vocab_size is {vocab_size}; give at least {least}, as special tokens and characters take{otherwise}."
        )


def _with_frame(tokenizer: Any, single: str, pair: str, max_length: int) -> Any:
    from tokenizers import Tokenizer, processors
    from transformers import PreTrainedTokenizerFast

    own = Tokenizer.from_str(tokenizer.to_str())
    ids = {token: own.token_to_id(token) for token in ("<s>", "</s>")}
    own.post_processor = processors.TemplateProcessing(single=single, pair=pair, special_tokens=list(ids.items()))
    return PreTrainedTokenizerFast(
        tokenizer_object=own,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        extra_special_tokens=list(BYTE_SPECIAL_TOKENS[4:]),
        model_max_length=max_length,
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
    )
