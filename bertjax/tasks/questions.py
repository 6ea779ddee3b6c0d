"""Questions about contexts with their answers, checked against the contexts, from a file's rows or from memory."""

import numbers
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from bertjax.cli.showing import quoted
from bertjax.errors import DataError
from bertjax.tasks.examples import Answer, QuestionExample, Warn, check_text, named, not_empty, python_value, silent

# A larger share of questions with a misplaced answer means that the file is wrong.
MOST_MISALIGNED = 0.01


class Row(NamedTuple):
    """A question of a file: ``item`` is an object of SQuAD's ``qas``, not checked further."""

    where: str
    id: str
    item: Mapping[str, Any]
    context: Any


class _Misaligned(NamedTuple):
    """line: the message about it. answers: (text, start) that the context does not have there."""

    line: str
    context: str
    answers: list[tuple[str, int]]


def question_examples(questions: Sequence[Mapping[str, Any]], warn: Warn = silent) -> list[QuestionExample]:
    """Examples from objects with ``question``, ``context`` and, if known, ``answers`` and ``id`` (else the index).

    ``answers``: a list of ``{"text": ..., "answer_start": ...}`` as in SQuAD's files, or an object with both as lists
    as in ``datasets``; [] if there is no answer. Raises DataError.
    """
    rows = []
    for i, item in enumerate(questions):
        where = f"questions[{i}]"
        if not isinstance(item, Mapping):
            raise DataError(f"{where}: must be an object with 'question' and 'context', not {quoted(item)}")
        rows.append(Row(where, str(item.get("id", i)), item, item.get("context")))
    return not_empty(checked_questions(rows, warn), "questions: there is no question")


def checked_questions(rows: Iterable[Row], warn: Warn) -> list[QuestionExample]:
    """The examples of the rows.

    Leaves out answers that are not at their place in the context, questions that have no other answer, and all answers
    of questions marked as impossible, which can only be plausible ones; ``warn`` gets a line on each. Raises DataError
    for any other mistake, such as a repeated id, and if more than ``MOST_MISALIGNED`` of the questions have a misplaced
    answer.
    """
    found: list[QuestionExample] = []
    misaligned: list[_Misaligned] = []
    impossible: list[str] = []
    seen: dict[str, str] = {}
    for row in rows:
        if row.id in seen:
            raise DataError(f"{row.where}: question {named(row.id)} is already at {seen[row.id]}")
        seen[row.id] = row.where
        place = f"{row.where}: question {named(row.id)}"
        check_text(row.context, row.where, "the context")
        check_text(row.item.get("question"), place, "the text")
        given = _given_answers(row.item, place)
        if given and _is_impossible(row.item, place):
            impossible.append(place)
            given = []
        answers, wrong = _aligned(given or [], row.context, place)
        if wrong is not None:
            misaligned.append(wrong)
        if answers or wrong is None:
            known = None if given is None else tuple(answers)
            found.append(QuestionExample(row.where, row.id, row.item["question"], row.context, known))
    if impossible:
        warn(
            f"{impossible[0]}: marked as impossible, but has answers, which are taken to be plausible ones; "
            f"{len(impossible):,} of {len(seen):,} questions {'are' if len(impossible) > 1 else 'is'} like this"
        )
    if misaligned:
        _judge(misaligned, len(seen), len(seen) - len(found), warn)
    return found


def _judge(misaligned: Sequence[_Misaligned], questions: int, left_out: int, warn: Warn) -> None:
    count = f"{len(misaligned):,} of {questions:,} questions {'have' if len(misaligned) > 1 else 'has'} such an answer"
    if len(misaligned) > MOST_MISALIGNED * questions:
        raise DataError(f"{misaligned[0].line}; {count}, more than {MOST_MISALIGNED:.0%}{_unit_of(misaligned)}")
    without = f", and so {'are' if left_out > 1 else 'is'} {left_out:,} question{'s' * (left_out > 1)} without another"
    warn(f"{misaligned[0].line}; {count}; it is left out{without if left_out else ''}")


def _encoded(name: str, size: int) -> Callable[[str, str, int], bool]:
    """Whether a context has a text at an offset in units of ``size`` bytes."""
    encode = lambda text: text.encode(name, "surrogatepass")
    return lambda context, text, start: encode(context).startswith(encode(text), size * start)


# What offsets may count instead of characters from 0.
_UNITS: dict[str, Callable[[str, str, int], bool]] = {
    "bytes of UTF-8": _encoded("utf-8", 1),
    "units of UTF-16": _encoded("utf-16-le", 2),
    "characters from 1": lambda context, text, start: context.startswith(text, start - 1),
}


def _unit_of(misaligned: Sequence[_Misaligned]) -> str:
    found = [
        name
        for name, fits in _UNITS.items()
        if all(start > 0 and fits(one.context, text, start) for one in misaligned for text, start in one.answers)
    ]
    if found:
        return f"; all fit if they count {' or '.join(found)}: answer_start must count characters from 0"
    return "; correct their answer_start, or take them out of the file"


def _given_answers(item: Mapping[str, Any], place: str) -> list[Any] | None:
    """The answers of a question as a list of objects; None if they are unknown. Raises DataError."""
    answers = item.get("answers")
    if answers is None:
        return [] if _is_impossible(item, place) else None
    if isinstance(answers, Mapping) and {"text", "answer_start"} <= answers.keys():
        texts, starts = (_as_list(answers[name]) for name in ("text", "answer_start"))
        if len(texts) != len(starts):
            raise DataError(f"{place}: 'answers' has {len(texts)} texts and {len(starts)} starts")
        found = [{"text": text, "answer_start": start} for text, start in zip(texts, starts, strict=True)]
    elif isinstance(answers, Mapping | str) or not isinstance(python_value(answers), Sequence):
        raise DataError(
            f"{place}: 'answers' must be a list, or an object with the lists 'text' and 'answer_start', not "
            f"{quoted(answers)}"
        )
    else:
        found = list(python_value(answers))
    if not found and item.get("is_impossible") is not None and not _is_impossible(item, place):
        raise DataError(f"{place}: is marked as not impossible, but has no answer")
    return found


def _is_impossible(item: Mapping[str, Any], place: str) -> bool:
    given = python_value(item.get("is_impossible"))
    if given not in (None, True, False):
        raise DataError(f"{place}: 'is_impossible' must be true or false, not {quoted(given)}")
    return bool(given)


def _as_list(value: Any) -> list[Any]:
    value = python_value(value)
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]


def _aligned(given: Sequence[Any], context: str, place: str) -> tuple[list[Answer], _Misaligned | None]:
    """(the answers that are at their places, the others). Raises DataError for an invalid answer."""
    found: list[Answer] = []
    wrong: list[tuple[str, int]] = []
    for item in given:
        values = item if isinstance(item, Mapping) else {}
        text, start = values.get("text"), python_value(values.get("answer_start"))
        if isinstance(start, float) and start.is_integer():
            start = int(start)
        if not isinstance(text, str) or not isinstance(start, numbers.Integral) or isinstance(start, bool):
            raise DataError(
                f"{place}: an answer must have a string 'text' and a number 'answer_start', not {quoted(item)}"
            )
        if not text.strip():
            raise DataError(f"{place}: an answer is empty; a question without an answer needs the list []")
        answer = _at(context, text, int(start))
        if answer is None:
            wrong.append((text, int(start)))
        else:
            found.append(answer)
    if not wrong:
        return found, None
    text, start = wrong[0]
    there, at = quoted(context[max(start, 0) :][: len(text)]), context.find(text)
    hint = f"it is at {at}" if at >= 0 else "the context does not contain it"
    line = f"{place}: the answer {quoted(text)} is not at {start} in its context, but {there} is; {hint}"
    return found, _Misaligned(line, context, wrong)


def _at(context: str, text: str, start: int) -> Answer | None:
    """The answer if it is at its place, at least without the white space around it."""
    if start < 0:
        return None
    if context.startswith(text, start):
        return Answer(text, start)
    bare = text.strip()
    places = (start + text.index(bare), start) if bare != text else ()
    return next((Answer(bare, begin) for begin in places if context.startswith(bare, begin)), None)
