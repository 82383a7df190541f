"""Metrics against scikit-learn and scipy, with the network cut off."""

from __future__ import annotations

import math
import random
import socket
import unicodedata
from typing import Any

import numpy
import pytest
import scipy.stats
import sklearn.metrics

from adapt.metrics import LOSSES, LOWER_IS_BETTER, METRICS, added_rows, metric, numbers, score, spans
from adapt.metrics import texts as texts_module
from adapt.metrics.numbers import correlation, f1
from adapt.metrics.texts import answer_scores, bleu, bleu_counts, bleu_of, chrf_counts, chrf_of, rouge_l
from adapt.spec import OptionError


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a metric asked for the network")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def classes(n: int, k: int, seed: int) -> list[int]:
    rng = random.Random(seed)
    return [rng.randrange(k) for _ in range(n)]


@pytest.mark.parametrize("k", [2, 5])
def test_single_label_scores_are_those_of_scikit_learn(k: int) -> None:
    truth, guess = classes(200, k, 0), classes(200, k, 1)
    assert score("single_label", guess, truth) == {
        "accuracy": pytest.approx(sklearn.metrics.accuracy_score(truth, guess)),
        "macro_f1": pytest.approx(sklearn.metrics.f1_score(truth, guess, average="macro")),
        "mcc": pytest.approx(sklearn.metrics.matthews_corrcoef(truth, guess)),
    }


def test_single_label_scores_by_hand() -> None:
    found = score("single_label", [1, 1, 0, 0], [1, 0, 0, 0])
    # class 0: precision 1, recall 2/3; class 1: precision 1/2, recall 1; MCC: (1*2 - 1*0) / sqrt(2*1*3*2)
    assert found["accuracy"] == pytest.approx(0.75)
    assert found["macro_f1"] == pytest.approx((0.8 + 2 / 3) / 2)
    assert found["mcc"] == pytest.approx(2 / math.sqrt(12))


def test_multi_label_scores_are_those_of_scikit_learn() -> None:
    rng = numpy.random.default_rng(0)
    truth, guess = rng.integers(0, 2, (100, 4)), rng.integers(0, 2, (100, 4))
    found = score("multi_label", guess.tolist(), truth.tolist())
    assert found == {
        "macro_f1": pytest.approx(sklearn.metrics.f1_score(truth, guess, average="macro")),
        "micro_f1": pytest.approx(sklearn.metrics.f1_score(truth, guess, average="micro")),
        "exact_match": pytest.approx((truth == guess).all(1).mean()),
    }


def test_a_label_that_no_row_has_and_nobody_predicts_does_not_count() -> None:
    perfect = [[1, 0, 0], [0, 1, 0]]
    assert score("multi_label", perfect, perfect) == {"macro_f1": 1.0, "micro_f1": 1.0, "exact_match": 1.0}
    assert score("multi_label", [[1, 0, 0], [1, 0, 0]], perfect)["macro_f1"] == pytest.approx((2 / 3 + 0) / 2)
    assert score("multi_label", [[1, 0, 1], [0, 1, 0]], perfect)["macro_f1"] == pytest.approx((1 + 1 + 0) / 3)
    assert score("multi_label", [[0, 0]] * 2, [[0, 0]] * 2)["macro_f1"] == 0.0


def test_a_label_that_nobody_predicts_counts_as_zero_without_a_warning() -> None:
    found = score("multi_label", [[1, 0], [1, 0]], [[1, 1], [1, 0]])
    assert found["macro_f1"] == pytest.approx(0.5)
    assert score("single_label", [0, 0], [0, 1])["mcc"] == 0.0
    assert score("single_label", [1, 1], [1, 1])["mcc"] == 0.0


def test_regression_scores_are_those_of_scipy() -> None:
    rng = numpy.random.default_rng(1)
    truth = rng.normal(size=80)
    guess = truth**3 + rng.normal(size=80)
    found = score("regression", guess.tolist(), truth.tolist())
    assert found == {
        "spearman": pytest.approx(scipy.stats.spearmanr(truth, guess)[0]),
        "pearson": pytest.approx(scipy.stats.pearsonr(truth, guess)[0]),
        "mse": pytest.approx(((truth - guess) ** 2).mean()),
    }


def test_values_keep_double_precision() -> None:
    assert score("regression", [1e-9, 0.0], [0.0, 0.0])["mse"] == pytest.approx(5e-19)


def test_a_constant_prediction_has_correlation_zero() -> None:
    found = score("regression", [2.0, 2.0, 2.0], [1.0, 2.0, 3.0])
    assert (found["pearson"], found["spearman"]) == (0.0, 0.0)


def test_a_metric_can_be_asked_again() -> None:
    for guess, expected in (([1, 1], 0.5), ([1, 0], 1.0), ([0, 1], 0.0)):
        assert metric("accuracy").compute(predictions=guess, references=[1, 0]) == {"accuracy": expected}


def test_they_are_modules_of_evaluate() -> None:
    import evaluate

    for problem, names in METRICS.items():
        for name in names:
            found = metric(name, problem == "multi_label")
            assert isinstance(found, evaluate.Metric)
            assert found.description


def test_an_unknown_metric_lists_what_there_is() -> None:
    with pytest.raises(OptionError, match=r"no metric 'meteor'; choose one of accuracy, macro_f1"):
        metric("meteor")


def test_only_errors_and_losses_are_better_when_lower() -> None:
    names = {name for names in METRICS.values() for name in names}
    assert names & LOWER_IS_BETTER == {"mse", "loss", "perplexity"}


def test_span_scores_by_hand() -> None:
    truth = [["B-PER", "I-PER", "O", "B-LOC"], ["O", "O"], ["B-PER", "B-PER"]]
    guess = [["B-PER", "O", "O", "B-LOC"], ["O", "I-LOC"], ["B-PER", "B-LOC"]]
    # right: LOC in the first row, PER in the third; the lone I-LOC is no span
    assert score("spans", guess, truth) == {
        "span_f1": pytest.approx(0.5),
        "span_precision": 0.5,
        "span_recall": 0.5,
        "token_accuracy": pytest.approx(5 / 8),
    }


def test_without_any_span_the_scores_are_zero_without_a_warning() -> None:
    for guess in ("O", "B-X"):
        for truth in ("O", "B-X"):
            found = score("spans", [[guess, "O"]], [[truth, "O"]])
            assert found["span_f1"] == found["span_recall"] == float(guess == truth == "B-X")


def test_tag_scores_are_those_of_scikit_learn() -> None:
    rng = random.Random(0)
    rows = [[[rng.choice("NVAX") for _ in range(n)] for n in (1, 5, 3)] for _ in range(2)]
    guess, truth = ([tag for row in side for tag in row] for side in rows)
    assert score("tags", *rows) == {
        "token_accuracy": pytest.approx(sklearn.metrics.accuracy_score(truth, guess)),
        "macro_f1": pytest.approx(sklearn.metrics.f1_score(truth, guess, average="macro", zero_division=0.0)),
    }


@pytest.mark.parametrize(
    ("answer", "references", "exact", "f1"),
    [
        ("The  Cat!", ["cat"], 1, 1),
        ("cat", ["a dog", "the cat."], 1, 1),
        ("the big cat", ["cat"], 0, 2 / 3),
        ("cat cat", ["cat sat cat on"], 0, 2 / 3),  # a word counts as often as it is on both sides
        ("theatre", ["the atre"], 0, 0),  # articles are whole words
        ("an\u0304", ["an\u0304a"], 0, 0),  # of which marks that do not compose are a part
        ("U.S.", ["US"], 1, 1),
        ("", ["cat"], 0, 0),
        ("cat", [], 0, 0),
        ("", [], 1, 1),
        ("the", [], 1, 1),  # nothing is left of it
        ("", ["the", "cat"], 0, 0),  # nor of that reference, which is left out where there is another
        ("", ["the"], 1, 1),
        ("naïve", ["Naïve"], 1, 1),
        ("nai\u0308ve", ["Na\u00efve"], 1, 1),  # one text, encoded in two ways
        ("दिल्ली।", ["दिल्ली"], 1, 1),  # punctuation of any script
        ("$5 [x]", ["5 x"], 1, 1),
        ("北京大学", ["北京"], 0, 2 / 3),  # letters, where words have no spaces between them
        ("อยู่ที่นี่", ["ที่นี่"], 0, 2 / 3),  # which keep their marks
        ("བོད་ཡིག་གི", ["བོད་ཡིག"], 0, 4 / 5),  # syllables that punctuation parts
        ("ሰላም፡ለዓለም፡ሁሉ", ["ሰላም፡ለዓለም"], 0, 4 / 5),
        ("ሰላም፡ለዓለም", ["ሰላም ለዓለም።"], 1, 1),
        ("ꦲꦏ꧀ꦱꦫ", ["ꦲꦏ꧀"], 0, 2 / 3),
    ],
)
def test_answers_are_normalised_as_in_squad(answer: str, references: list[str], exact: float, f1: float) -> None:
    assert answer_scores(answer, references) == (exact, pytest.approx(f1))
    found = score("answers", [answer, ""], [references, []])
    assert found == {"answer_exact_match": (exact + 1) / 2, "answer_f1": pytest.approx((f1 + 1) / 2)}


def test_text_scores_are_those_of_sacrebleu_and_rouge_score() -> None:
    import sacrebleu
    from rouge_score.rouge_scorer import RougeScorer

    texts = ["the cat sat on the mat today", "a dog runs .", "", "The U.S. has 50 states"]
    references = [["the cat sat on a mat", "a cat sat on the mat"], ["a dog ran ."], ["something"], ["the US has 50"]]
    streams = [[r[0] for r in references], [r[-1] if len(r) > 1 else None for r in references]]
    scorer = RougeScorer(["rougeL"])
    found = score("text", texts, references, ["chrf", "bleu", "rouge_l", "text_exact_match"])
    assert found == {
        "chrf": pytest.approx(sacrebleu.corpus_chrf(texts, streams).score / 100),
        "bleu": pytest.approx(sacrebleu.corpus_bleu(texts, streams).score / 100),
        "rouge_l": pytest.approx(
            sum(scorer.score_multi(r, t)["rougeL"].fmeasure for t, r in zip(texts, references, strict=True)) / 4
        ),
        "text_exact_match": 0.0,
    }
    assert 0 < found["bleu"] < found["chrf"] < 1
    for counts, whole, name in ((chrf_counts, chrf_of, "chrf"), (bleu_counts, bleu_of, "bleu")):
        rows = [counts(text, several) for text, several in zip(texts, references, strict=True)]
        assert whole([sum(column) for column in zip(*rows, strict=True)]) == pytest.approx(found[name], rel=1e-12)


def test_white_space_around_a_text_and_its_references_is_none_of_theirs() -> None:
    for text, several, found in (
        (" a cat\n", ["a cat"], 1.0),
        ("a cat", ["x", "\ta cat "], 1.0),
        ("a  cat", ["a cat"], 0.0),
    ):
        assert score("text", [text], [several], ["text_exact_match"]) == {"text_exact_match": found}


def test_bleu_of_a_corpus_too_short_for_its_longest_n_grams_is_zero() -> None:
    """As sacrebleu has it for a corpus; lengths that there are none of are left out for single sentences alone."""
    import sacrebleu

    assert score("text", ["the cat"], [["the cat"]], ["bleu"]) == {"bleu": 0.0}
    assert sacrebleu.sentence_bleu("the cat", ["the cat"]).score == pytest.approx(100)
    assert bleu_of(bleu_counts("the cat", ["the cat"])) == 0.0
    long = score("text", ["the cat", "a dog sat there"], [["the cat"], ["a dog sat there"]], ["bleu"])
    assert long == {"bleu": pytest.approx(1.0)}


def test_a_perfect_text_has_score_one_and_no_more() -> None:
    texts = ["kucing itu duduk di atas tikar", "Ёлка и снег лежат здесь"]
    found = score("text", texts, [[text, "x"] for text in texts], ["chrf", "bleu", "rouge_l", "text_exact_match"])
    assert found == {"chrf": 1.0, "bleu": 1.0, "rouge_l": 1.0, "text_exact_match": 1.0}


def test_how_letters_with_accents_are_encoded_is_no_matter_of_scores() -> None:
    texts = ["ọmọ náà ń lọ sí ilé ìwé rẹ̀", "বাড়ি দূরে নয়"]
    metrics = ["chrf", "bleu", "rouge_l", "text_exact_match"]
    for form in ("NFC", "NFD"):
        written, other = ([unicodedata.normalize(f, text) for text in texts] for f in (form, "NFD"))
        assert score("text", written, [[text, "x"] for text in other], metrics) == dict.fromkeys(metrics, 1.0)
        assert chrf_counts(written[0], [other[0]]) == chrf_counts(other[0], [written[0]])
        assert bleu_counts(written[0], [other[0]]) == bleu_counts(other[0], [written[0]])


def test_bleu_of_texts_without_spaces_is_of_letters() -> None:
    import sacrebleu

    texts = ["我们今天去北京看长城和故宫吧好", "他昨天在图书馆里读了一本很好的书"]
    others = ["我们今天去北京看长城和故宫吧了", "他昨天在图书馆里读了一本很旧的书"]
    chinese = sacrebleu.corpus_bleu(texts, [others], tokenize="zh").score / 100
    assert bleu(texts, [[text] for text in others]) == pytest.approx(chinese)
    counts = [bleu_counts(text, [other]) for text, other in zip(texts, others, strict=True)]
    assert bleu_of(numpy.sum(counts, 0).tolist()) == pytest.approx(chinese)
    mixed = ["我昨天买了iPhone，很好用。", "北约（NATO）于1949年成立，总部在布鲁塞尔。", "スーパーAで買った。"]
    written = ["我昨天买了iPhone。很好用了", "北约（NATO）是1949年成立，总部在布鲁塞尔！", "スーパーBで買いました。"]
    chinese = sacrebleu.corpus_bleu(written[:2], [mixed[:2]], tokenize="zh").score / 100
    assert bleu(written[:2], [[text] for text in mixed[:2]]) == pytest.approx(chinese)
    assert bleu_counts(written[2], [mixed[2]])[:2] == [12, 10]
    assert bleu(["สวัสดีตอนเช้า"], [["สวัสดีตอนเย็น"]]) > 0.3
    syllables = bleu(["བོད་སྐད་ནི་སྙན་པོ་ཡིན"], [["བོད་སྐད་ནི་སྙན་མོ་ཡིན"]])
    assert syllables == bleu(["a b c d e f"], [["a b c d g f"]]) > 0.3
    assert bleu(["ሰላም፡ለዓለም፡ሁሉ፡ዛሬ"], [["ሰላም ለዓለም ሁሉ ዛሬ"]]) == pytest.approx(1)


def test_loss_and_perplexity_are_over_all_tokens_together() -> None:
    found = score("completion", [6.0, 1.0], [2, 5], LOSSES)
    assert found == {"loss": 1.0, "perplexity": pytest.approx(math.e)}
    assert score("text", [1e6], [1], ["perplexity"])["perplexity"] == pytest.approx(math.exp(700))


def test_one_label_alone_is_scored_as_among_others() -> None:
    """Of the column that says whether the label is there, as scikit-learn's micro average has it beside others."""
    predictions, references = [[1], [0], [1]], [[1], [1], [1]]
    for average in ("macro", "micro"):
        assert f1(average, predictions, references) == pytest.approx(0.8)
    wide = ([[p, 1] for (p,) in predictions], [[r, 1] for (r,) in references])
    assert f1("macro", *wide) == pytest.approx((0.8 + 1.0) / 2)


@pytest.mark.parametrize("kind", ["pearson", "spearman"])
def test_a_single_row_has_no_correlation(kind: str) -> None:
    assert correlation(kind, [0.3], [0.5]) == 0.0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The cat's 3rd_try, 42!", ["the", "cat", "s", "3rd", "try", "42"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("cafe\u0301 Déjà", ["caf\u00e9", "d\u00e9j\u00e0"]),
        ("我喜欢 BERT 模型", ["我", "喜", "欢", "bert", "模", "型"]),
        ("ひらがなABC", ["ひ", "ら", "が", "な", "abc"]),
    ],
)
def test_words_of_rouge_in_any_script(text: str, words: list[str]) -> None:
    assert texts_module._Words().tokenize(text) == words


def test_rouge_l_of_texts_without_spaces() -> None:
    assert 0.8 < rouge_l(["我喜欢这部电影"], [["我不喜欢这部电影"]]) < 1.0


EXAMPLES: dict[str, tuple[list[Any], list[Any]]] = {
    "single_label": ([0, 2, 1, 1], [0, 1, 1, 2]),
    "multi_label": ([[1, 0], [1, 1], [0, 0]], [[1, 0], [0, 1], [0, 1]]),
    "regression": ([0.1, 2.0, -3.5], [0.0, 2.5, -1.0]),
    "spans": ([["B-a", "I-a"], ["O"]], [["B-a", "O"], ["B-b"]]),
    "tags": ([["n", "v"], ["n"]], [["n", "n"], ["v"]]),
    "answers": (["the cat", ""], [["cat", "a cat"], []]),
    "text": (["the cat sat", "a dog"], [["the cat sat down"], ["a dog", "dogs"]]),
}


@pytest.mark.parametrize("problem", EXAMPLES)
def test_scores_are_those_of_the_modules(problem: Any) -> None:
    """Which are gone by, for they take more time than what they compute."""
    predictions, references = EXAMPLES[problem]
    for name, value in score(problem, predictions, references, set(METRICS[problem]) - set(LOSSES)).items():
        given: Any = (predictions, references)
        if problem in ("spans", "tags") and not name.startswith("span"):
            every = [[tag for row in rows for tag in row] for rows in given]
            index = {tag: i for i, tag in enumerate(sorted({*every[0], *every[1]}))}
            given = [[index[tag] for tag in tags] for tags in every]
        found = metric(name, problem == "multi_label").compute(predictions=given[0], references=given[1])
        assert found == {name: pytest.approx(value, abs=1e-9)}


@pytest.mark.parametrize("problem", METRICS)
def test_rows_are_added_to_means_over_rows_alone(problem: Any) -> None:
    means = {"accuracy", "exact_match", "answer_exact_match", "answer_f1", "text_exact_match"}
    for name in METRICS[problem]:
        assert bool(added_rows(name)) == (name in means)
        assert bool(added_rows(name, of_difference=True)) == (name in means)


def test_the_counts_of_spans_give_what_seqeval_gives() -> None:
    rng = random.Random(0)
    tags = ["O", "O", "O", "B-A", "I-A", "B-B", "I-B"]
    for rows in (1, 5, 60):
        drawn = [[[rng.choice(tags) for _ in range(rng.randrange(1, 9))] for _ in range(rows)] for _ in range(2)]
        guesses = [[*guess, *["O"] * len(truth)][: len(truth)] for guess, truth in zip(*drawn, strict=True)]
        assert spans.summed(guesses, drawn[1]) == spans.scores(guesses, drawn[1])
    assert spans.summed([["O"]], [["O"]]) == {"span_precision": 0.0, "span_recall": 0.0, "span_f1": 0.0}
    assert spans.summed([["O"]], [["B-A"]]) == spans.scores([["O"]], [["B-A"]])


def test_mcc_of_many_classes_is_scikit_learns_and_takes_little_memory() -> None:
    rng = numpy.random.default_rng(0)
    for classes in (2, 5, 40):
        truth, guess = rng.integers(0, classes, (2, 300))
        guess[:150] = truth[:150]
        assert numbers.mcc(guess, truth) == pytest.approx(sklearn.metrics.matthews_corrcoef(truth, guess), abs=1e-12)
    assert numbers.mcc([1, 1, 1], [0, 1, 2]) == numbers.mcc([1], [1]) == numbers.mcc([], []) == 0.0
    many = numpy.arange(200_000)  # a table of all by all has 320 gigabytes
    assert numbers.mcc(many, many) == pytest.approx(1)
