"""Exact match and F1 of answers by the rules of SQuAD's official evaluation, 1.1 and 2.0.

The rules (Rajpurkar et al. 2016, section 6.1; 2018, section 5.1, and the programs that came with the data): answers
are compared in lower case, without ASCII punctuation, without the words a, an, the, and with single blanks; F1 counts
words; of several right answers the best counts. All figures are fractions of 1; the official programs print them
times 100. In contexts of scripts without spaces F1 counts characters.

Chinese and Japanese follow CMRC 2018, MLQA and JaQuAD: every Chinese character and kana is a token, what is between
them is split into words ("2020", "NHK"), punctuation of any script is dropped, articles are kept ("A" of "A座" names a
building). Full-width forms become the usual ones (NFKC): ２０２０ and 2020 are one answer. Thai, Lao, Khmer and Burmese
have no published rules; a character with its marks is a token. Korean has spaces and is split into words.
"""

import functools
import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from bertjax.errors import DataError
from bertjax.tasks.examples import QuestionExample, named
from bertjax.text.languages import CHINESE

AnswerTokenizer = Callable[[str], list[str]]

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")
# Kana with its marks of iteration and length, bopomofo, Chinese; Thai and Lao; Burmese; Khmer.
_UNSPACED = re.compile(
    "[々〆〇\u3041-\u3096\u3099\u309a\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u3105-\u312f\u31a0-\u31bf\u31f0-\u31ff\uff66-\uff9d"
    + "".join(f"{chr(first)}-{chr(last)}" for first, last in CHINESE)
    + "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ece\u1000-\u103f\u1780-\u17d3]"
)
# Of the letters of a context: more than the names of people and places in an English text have.
_LEAST_SHARE = 0.2


def word_tokens(answer: str) -> list[str]:
    return _ARTICLES.sub(" ", answer.lower().translate(_PUNCTUATION)).split()


def character_tokens(answer: str) -> list[str]:
    """Characters of scripts without spaces, with their marks, and the words between them."""
    plain = unicodedata.normalize("NFKC", answer).lower()
    kept = "".join(c for c in plain if c not in string.punctuation and not unicodedata.category(c).startswith("P"))
    words: list[str] = []
    for part in re.split(f"({_UNSPACED.pattern})", kept):
        if words and part and _UNSPACED.fullmatch(part) and unicodedata.category(part).startswith("M"):
            words[-1] += part
        else:
            words += part.split()
    return words


@functools.lru_cache(maxsize=1024)
def answer_tokenizer(context: str) -> AnswerTokenizer:
    """``character_tokens`` if many letters of the context belong to such scripts, else ``word_tokens``."""
    if context.isascii():
        return word_tokens
    is_unspaced = len(_UNSPACED.findall(context)) > _LEAST_SHARE * sum(map(str.isalpha, context))
    return character_tokens if is_unspaced else word_tokens


def counted_in_characters(contexts: Iterable[str]) -> int:
    return sum(answer_tokenizer(context) is character_tokens for context in contexts)


def token_f1(prediction: str, answer: str, words: AnswerTokenizer = word_tokens) -> float:
    """Harmonic mean of precision and recall of words, each counted as often as it occurs; 0 without a common word."""
    ours, theirs = words(prediction), words(answer)
    common = (Counter(ours) & Counter(theirs)).total()
    return 2 * common / (len(ours) + len(theirs)) if common else 0.0


def question_scores(
    predictions: Mapping[str, str], questions: Sequence[QuestionExample]
) -> tuple[np.ndarray, np.ndarray]:
    """(exact match, F1) float64 [N] of every question, by 2.0 if one of them has no answer, else by 1.1.
    ``predictions``: text by id, "" for no answer. In 1.1 a question without a prediction scores 0. Raises DataError for
    questions with unknown answers, and in 2.0 for a missing prediction."""
    is_second = has_unanswerable(questions)
    exact, f1 = np.zeros(len(questions)), np.zeros(len(questions))
    for i, question in enumerate(questions):
        if question.answers is None:
            raise DataError(f"{question.where}: question {named(question.id)} has no answers to compare with")
        prediction, words = predictions.get(question.id), answer_tokenizer(question.context)
        if prediction is None:
            if is_second:
                raise DataError(f"{question.where}: there is no prediction for question {named(question.id)}")
            continue
        golds = [answer.text for answer in question.answers]
        if is_second:  # an answer of nothing but articles and punctuation does not count
            golds = list(filter(words, golds)) or [""]
        exact[i] = any(words(prediction) == words(gold) for gold in golds)
        f1[i] = max(token_f1(prediction, gold, words) for gold in golds)
        if is_second and not words(prediction):  # then only another answer of no words is right
            f1[i] = exact[i]
    return exact, f1


def has_unanswerable(questions: Sequence[QuestionExample]) -> bool:
    return any(question.answers == () for question in questions)


def has_answer(questions: Sequence[QuestionExample]) -> np.ndarray:
    """bool [N]: which questions have an answer."""
    return np.array([bool(question.answers) for question in questions])


def summary(exact: np.ndarray, f1: np.ndarray, answered: np.ndarray, parted: bool) -> dict[str, float]:
    """``f1`` and ``exact_match``, means of the scores by question [N]; ``answered``: which questions have an answer.
    parted: also ``has_answer_f1``, ``no_answer_f1`` and so on, if there are such questions."""
    scores = {"f1": float(f1.mean()), "exact_match": float(exact.mean())}
    for name, chosen in (("has_answer", answered), ("no_answer", ~answered)):
        if parted and chosen.any():
            scores |= {f"{name}_f1": float(f1[chosen].mean()), f"{name}_exact_match": float(exact[chosen].mean())}
    return scores


def null_margins(values: Sequence[float]) -> np.ndarray:
    """``margins`` of ``best_scores``, float64 [N], with infinite values replaced by the highest finite one plus one."""
    found = np.array(values, np.float64)
    finite = found[np.isfinite(found)]
    return np.minimum(found, (finite.max() if len(finite) else 0.0) + 1.0)


def best_scores(exact: np.ndarray, f1: np.ndarray, answered: np.ndarray, margins: np.ndarray) -> dict[str, float]:
    """``best_f1`` and ``best_exact`` with the best threshold for no answer, ``best_f1_thresh`` and
    ``best_exact_thresh``; names and meaning are the official program's.

    exact, f1, answered: by question [N], of the best answers that are not empty. margins: by how much the score of no
    answer exceeds that of the best one; above the threshold the prediction is no answer.
    """
    # Raise the threshold through the margins: questions up to it get their answer, the others none.
    order = np.argsort(margins, kind="stable")
    ordered, unanswerable = np.asarray(margins, np.float64)[order], (~answered).astype(np.float64)
    # Equal values are on the same side of any threshold: only the last of them is one.
    is_last = np.append(ordered[1:] != ordered[:-1], True)
    # Below all values nothing is answered; 0 is the official program's way to say so of probabilities.
    thresholds = np.append(min(0.0, np.nextafter(ordered[0], -np.inf)), ordered[is_last])
    found = {}
    for name, scores in (("exact", exact), ("f1", f1)):
        gains = np.cumsum(scores[order] - unanswerable[order])
        totals = np.append(0.0, gains[is_last]) + unanswerable.sum()
        best = int(np.argmax(totals))  # of equals the lowest threshold
        found |= {f"best_{name}": float(totals[best] / len(scores)), f"best_{name}_thresh": float(thresholds[best])}
    return found
