"""Exact match and F1 of answers by the rules of SQuAD's official evaluation, 1.1 and 2.0.

The rules (Rajpurkar et al. 2016, section 6.1; 2018, section 5.1, and the programs that came with the data): answers
are compared in lower case, without ASCII punctuation, without the words a, an, the, and with single blanks; F1 counts
words; of several right answers the best counts. All figures are fractions of 1; the official programs print them
times 100. In contexts of scripts without spaces F1 counts characters: ``answer_tokens``.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from bertjax.errors import DataError
from bertjax.tasks.answer_tokens import AnswerTokenizer, answer_tokenizer, word_tokens
from bertjax.tasks.examples import QuestionExample, named


def exact_match(prediction: str, answer: str, words: AnswerTokenizer = word_tokens) -> float:
    return float(words(prediction) == words(answer))


def token_f1(prediction: str, answer: str, words: AnswerTokenizer = word_tokens) -> float:
    """Harmonic mean of precision and recall of words, each counted as often as it occurs; 0 without a common word."""
    ours, theirs = words(prediction), words(answer)
    common = sum((Counter(ours) & Counter(theirs)).values())
    return 2 * common / (len(ours) + len(theirs)) if common else 0.0


def token_f1_or_nothing(prediction: str, answer: str, words: AnswerTokenizer = word_tokens) -> float:
    """``token_f1`` as in 2.0: if one of them has no word, 1 if neither has, else 0."""
    if not words(prediction) or not words(answer):
        return exact_match(prediction, answer, words)
    return token_f1(prediction, answer, words)


def question_scores(
    predictions: Mapping[str, str], questions: Sequence[QuestionExample]
) -> tuple[np.ndarray, np.ndarray]:
    """(exact match, F1) float64 [N] of every question, by 2.0 if one of them has no answer, else by 1.1.

    ``predictions``: text by id, "" for no answer. In 1.1 a question without a prediction scores 0. Raises DataError
    for questions with unknown answers, and in 2.0 for a missing prediction.
    """
    is_second = has_unanswerable(questions)
    f1_of = token_f1_or_nothing if is_second else token_f1
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
        exact[i] = max(exact_match(prediction, gold, words) for gold in golds)
        f1[i] = max(f1_of(prediction, gold, words) for gold in golds)
    return exact, f1


def has_unanswerable(questions: Sequence[QuestionExample]) -> bool:
    """Whether any question has no answer, as in SQuAD 2.0."""
    return any(question.answers == () for question in questions)


def has_answer(questions: Sequence[QuestionExample]) -> np.ndarray:
    """bool [N]: which questions have an answer."""
    return np.array([bool(question.answers) for question in questions])


def summary(exact: np.ndarray, f1: np.ndarray, answered: np.ndarray, parted: bool) -> dict[str, float]:
    """``f1`` and ``exact_match``, means of the scores by question [N]; ``answered``: which questions have an answer.

    parted: also ``has_answer_f1``, ``no_answer_f1`` and so on, if there are such questions.
    """
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
    found = {}
    for name, scores in (("exact", exact), ("f1", f1)):
        found[f"best_{name}"], found[f"best_{name}_thresh"] = _best(scores, answered, margins)
    return found


def _best(scores: np.ndarray, answered: np.ndarray, margins: np.ndarray) -> tuple[float, float]:
    """(the best mean score, the lowest threshold that reaches it)."""
    values, unanswerable = np.asarray(margins, np.float64), (~answered).astype(np.float64)
    # Raise the threshold through the values: questions up to it get their answer, the others none.
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    gains = np.cumsum(scores[order] - unanswerable[order])
    # Equal values are on the same side of any threshold: only the last of them is one.
    is_last = np.append(ordered[1:] != ordered[:-1], True)
    # Below all values nothing is answered; 0 is the official program's way to say so of probabilities.
    thresholds = np.append(min(0.0, np.nextafter(ordered[0], -np.inf)), ordered[is_last])
    totals = np.append(0.0, gains[is_last]) + unanswerable.sum()
    best = int(np.argmax(totals))
    return float(totals[best] / len(scores)), float(thresholds[best])
