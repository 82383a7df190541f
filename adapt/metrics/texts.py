"""Metrics of answers and of generated texts, by sacrebleu and rouge-score.

Of several references the best counts. Every score is a share from 0 to 1, also where its inventors write 0 to 100.
Texts are compared in Unicode's normal form C: how letters with accents are encoded is no matter of what is written, and
many tokenizers can write them in one way only.
"""

from __future__ import annotations

import itertools
import math
import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any

_UNSPACED = "".join(rf"\p{{{script}}}" for script in (
    "Han", "Hiragana", "Katakana", "Thai", "Lao", "Khmer", "Myanmar", "Javanese", "Balinese", "Tai_Tham", "New_Tai_Lue",
    "Tai_Viet",
))  # fmt: skip
"""Scripts that are written without spaces between words."""
_WIDE = re.compile("[\u3000-\u303f\u30fc\uff00-\uffef]")
"""Punctuation and letters of full width, and the mark of a long vowel, which are of no such script by themselves."""
_SEPARATORS = str.maketrans(dict.fromkeys("\u0f0b\u0f0c\u1361", " "))
"""Punctuation that parts words or syllables: Tibetan's tshegs, and the Ethiopic word space."""


def normalise(answer: str) -> str:
    """SQuAD's normalisation: lower case, without punctuation, English articles and surplus white space.

    As in MLQA's (Lewis et al. 2020), punctuation is that of all scripts.
    """
    return " ".join(_articles().sub(" ", _punctuation().sub("", _same(answer.lower()).translate(_SEPARATORS))).split())


def _same(text: str) -> str:
    return unicodedata.normalize("NFC", text)


@cache
def _articles() -> Any:
    """Articles that are words: a letter with a mark that composes with it to none, as in Nuer, is no border of one."""
    import regex

    return regex.compile(r"(?<![\w\p{M}])(?:a|an|the)(?![\w\p{M}])")


@cache
def _punctuation() -> Any:
    import regex

    return regex.compile(rf"[\p{{P}}{re.escape(string.punctuation)}]")


def answer_scores(prediction: str, references: Sequence[str]) -> tuple[float, float]:
    """Exact match and F1 of an answer, each the best over the references, as the SQuAD v2 script counts them, but for
    punctuation (`normalise`) and for scripts without spaces between words, of which each letter counts as a word (MLQA;
    Lewis et al. 2020).

    Args:
        prediction: The answer; empty for none.
        references: True answers; empty where the question has none.

    Returns:
        Exact match, 0 or 1; F1 of words, from 0 to 1. Where either side is empty both must be.
    """
    guess = normalise(prediction)
    # a reference of which nothing is left cannot be met; where that is all there is, no answer is the right one
    truths = [truth for truth in map(normalise, references) if truth] or [""]
    return max(float(guess == truth) for truth in truths), max(_word_f1(guess, truth) for truth in truths)


def _word_f1(guess: str, truth: str) -> float:
    if not guess or not truth:
        return float(guess == truth)
    words, true_words = _answer_words(guess), _answer_words(truth)
    common = sum((Counter(words) & Counter(true_words)).values())
    return 2 * common / (len(words) + len(true_words))


def _answer_words(answer: str) -> list[str]:
    return _unspaced().sub(r" \g<0> ", answer).split()


@cache
def _unspaced() -> Any:
    import regex

    return regex.compile(rf"[{_UNSPACED}]\p{{M}}*")


def closed_up(text: str) -> str:
    """Without the spaces between Chinese letters and others of scripts that have none between words, or punctuation of
    full width, as tokenizers write them that part these letters (BERT's)."""
    return str(_gaps().sub("", text))


@cache
def _gaps() -> Any:
    import regex

    letter = rf"[{_UNSPACED}\p{{M}}{_WIDE.pattern[1:-1]}]"
    parted = rf"[\p{{Han}}{_WIDE.pattern[1:-1]}]"
    return regex.compile(rf"(?<={parted}) +(?={letter})|(?<={letter}) +(?={parted})")


def end_of_words(text: str, count: int) -> int:
    """The character where so many words of a text end, as answers are compared by them: in scripts without spaces each
    letter is one."""
    return max((found.end() for found in itertools.islice(_words().finditer(text), count)), default=0)


@cache
def _words() -> Any:
    import regex

    return regex.compile(rf"[{_UNSPACED}]\p{{M}}*|[^\s{_UNSPACED}]+")


def answer_exact_match(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Mean exact match of answers."""
    return _mean([answer_scores(p, r)[0] for p, r in zip(predictions, references, strict=True)])


def answer_f1(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Mean F1 of answers."""
    return _mean([answer_scores(p, r)[1] for p, r in zip(predictions, references, strict=True)])


def text_exact_match(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Share of texts equal to a reference."""
    pairs = zip(predictions, references, strict=True)
    return _mean([float(_same(text).strip() in [_same(r).strip() for r in several]) for text, several in pairs])


def chrf(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """chrF2 of the corpus: character n-grams up to 6, no word n-grams."""
    return _sacrebleu("CHRF").corpus_score(list(map(_same, predictions)), _streams(references)).score / 100


def bleu(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """BLEU-4 of the corpus with sacrebleu's tokens (13a) and smoothing (exp); each letter of scripts without spaces
    between words is a token, as sacrebleu's own tokens for Chinese are."""
    # sacrebleu's exponential of a sum of logarithms may come out a rounding error above 100
    parted = [_parted(text) for text in predictions], [[_parted(text) for text in several] for several in references]
    return min(_sacrebleu("BLEU").corpus_score(parted[0], _streams(parted[1])).score / 100, 1.0)


def _parted(text: str) -> str:
    """With spaces around letters of scripts without any, and around punctuation and letters of full width, and in place
    of punctuation that parts words or syllables."""
    return _WIDE.sub(r" \g<0> ", str(_unspaced().sub(r" \g<0> ", _same(text).translate(_SEPARATORS))))


def chrf_counts(prediction: str, references: Sequence[str]) -> list[int]:
    """For each of six lengths the n-grams of a text, of the reference nearest to it, and of both; chrF is made of their
    sums over texts."""
    return _counts("CHRF", prediction, references)


def bleu_counts(prediction: str, references: Sequence[str]) -> list[int]:
    """Tokens of a text and of the reference nearest in length; n-grams of four lengths that are right, and all."""
    return _counts("BLEU", _parted(prediction), [_parted(text) for text in references])


def chrf_of(counts: Sequence[int]) -> float:
    """chrF2 from sums of `chrf_counts`."""
    return _sacrebleu("CHRF")._compute_score_from_stats(list(counts)).score / 100


def bleu_of(counts: Sequence[int]) -> float:
    """BLEU-4 from sums of `bleu_counts`."""
    return min(_sacrebleu("BLEU")._compute_score_from_stats(list(counts)).score / 100, 1.0)


def _counts(name: str, prediction: str, references: Sequence[str]) -> list[int]:
    # what sacrebleu's own resampling of rows is made of
    rows = _sacrebleu(name)._extract_corpus_statistics([_same(prediction)], _streams([references]))
    return [int(count) for count in rows[0]]


def rouge_l(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Mean ROUGE-L F over texts."""
    scorer = _rouge()
    pairs = zip(predictions, references, strict=True)
    return _mean([scorer.score_multi(list(several), text)["rougeL"].fmeasure for text, several in pairs])


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _streams(references: Sequence[Sequence[str]]) -> list[list[str | None]]:
    """References as sacrebleu takes them: the first of every row, the second of every row, ...; None where it lacks."""
    most = max(len(several) for several in references)
    return [[_same(several[i]) if i < len(several) else None for several in references] for i in range(most)]


@cache
def _sacrebleu(name: str) -> Any:
    import sacrebleu.metrics

    # `force` only silences the remark that a text looks tokenised
    return sacrebleu.metrics.BLEU(force=True) if name == "BLEU" else sacrebleu.metrics.CHRF()


class _Words:
    """rouge-score's own tokens are a-z and 0-9; these are the same for such texts, and words in any other script.

    A letter keeps its marks (vowel signs, accents); where words have no spaces between them, each letter is a token.
    """

    def __init__(self) -> None:
        import regex

        letter, mark = rf"[[\p{{L}}\p{{N}}]--[{_UNSPACED}]]", r"\p{M}"
        self._word = regex.compile(rf"[{_UNSPACED}]{mark}*|{letter}(?:{letter}|{mark})*", regex.VERSION1)

    def tokenize(self, text: str) -> list[str]:
        return [str(word) for word in self._word.findall(_same(text).lower())]


@cache
def _rouge() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"], tokenizer=_Words())
