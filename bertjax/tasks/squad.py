"""Questions about contexts, their answers checked against these: from SQuAD's JSON 1.1 and 2.0, rows, or memory."""

import json
import numbers
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bertjax.cli.showing import quoted, short
from bertjax.data.corpus.files import LONGEST_LINE, Report, ending, lines
from bertjax.errors import DataError
from bertjax.tasks.examples import Answer, QuestionExample, Warn, check_text, named, not_empty, python_value, silent
from bertjax.tasks.records import decoded, json_objects, refuse_binary

# A larger share of questions with a misplaced answer means that the file is wrong.
MOST_MISALIGNED = 0.01
_BY_LINE = (".jsonl", ".ndjson")
_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"')


class _Row(NamedTuple):
    """A question: ``item`` is an object of SQuAD's ``qas``, not checked further."""

    where: str
    id: str
    item: Mapping[str, Any]
    context: Any


class _Misaligned(NamedTuple):
    """Answers of a question, (text, start), that its context does not have there. place: how messages name it."""

    place: str
    context: str
    answers: list[tuple[str, int]]


def read_questions(path: str | Path, warn: Warn = silent) -> list[QuestionExample]:
    """The questions of a file (also .gz .xz .zst), in its order, every answer checked against its context.

    It holds SQuAD's tree of articles, paragraphs and questions; or rows, each with its context, as a JSON list, under
    "data", or as an object a line (always in .jsonl and .ndjson). A question without ``answers`` is one to predict.
    warn: see ``_checked_questions``. Raises DataError that begins with "path:line:", the line of the question's id.
    """
    path = Path(path)
    return not_empty(_checked_questions(_rows(path), warn), f"{path}:1: there is no question in it")


def _rows(path: Path) -> Iterator[_Row]:
    tree, text = _tree(path)
    if tree is None:
        for number, item in json_objects(path):
            yield from _questions(item, f"{path}:{number}", lambda string, number=number: number, path, number - 1)
        return
    is_row = isinstance(tree, dict) and any(name in tree for name in ("question", "paragraphs", "qas"))
    items = tree.get("data") if isinstance(tree, dict) and not is_row else tree
    items = items if isinstance(items, list) else [tree]
    places = _Places(text if "\n" in text else "")
    for index, item in enumerate(items):
        yield from _questions(item, f"{path}:{places.here}", places.line, path, index)


def _tree(path: Path) -> tuple[Any, str]:
    """(the value of the file, its text); (None, "") if it has an object a line. Raises DataError."""
    if ending(path) in _BY_LINE:
        return None, ""
    text = _text(path)
    if not text.strip():
        raise DataError(f"{path}:1: the file is empty")
    try:
        return json.loads(text), text
    except json.JSONDecodeError as error:
        before = text[: error.pos]  # of what follows the first value
        is_object = before.lstrip().startswith("{") and "\n" in before and "\n" not in before.strip()
        if error.msg == "Extra data" and is_object:
            return None, ""
        raise DataError(
            f"{path}:{error.lineno}: not valid JSON, or truncated: {error.msg}, column {error.colno}"
        ) from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}:1: not JSON that can be read: {short(error, 120)}") from None


def _text(path: Path) -> str:
    """The text of a file; ``lines`` splits longer lines into pieces of LONGEST_LINE."""
    parts: list[bytes] = []
    for line in lines(path, Report()):
        parts += [line] if len(line) == LONGEST_LINE else [line, b"\n"]
    data = b"".join(parts).removesuffix(b"\n")
    refuse_binary(path, data)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        number = data.count(b"\n", 0, error.start) + 1
        return decoded(data.split(b"\n")[number - 1], path, number)  # raises


class _Places:
    """Line numbers of strings, looked up in the order of the file."""

    def __init__(self, text: str) -> None:
        self._text, self._position, self.here = text, 0, 1

    def line(self, string: str) -> int:
        """The line of the next such JSON string, however escaped; the line of the one before if it is not found."""
        for found in _STRING.finditer(self._text, self._position):
            if found[0][1:-1] == string or ("\\" in found[0] and json.loads(found[0]) == string):
                self.here += self._text.count("\n", self._position, found.start())
                self._position = found.end()
                break
        return self.here


def _questions(item: Any, where: str, line: Callable[[str], int], path: Path, index: int) -> Iterator[_Row]:
    """The rows of an article with paragraphs, of a paragraph with ``qas``, or of a row. line: finds a string's line."""
    if isinstance(item, dict) and isinstance(item.get("question"), str):
        id = item.get("id")
        where = f"{path}:{line(id if isinstance(id, str) else item['question'])}"
        yield _Row(where, str(index) if id is None else _id(item, where), item, item.get("context"))
    elif isinstance(item, dict) and isinstance(item.get("qas"), list):
        where = f"{path}:{line('qas')}"
        for own in item["qas"]:
            id = _id(own, where)
            where = f"{path}:{line(own['id'] if isinstance(own['id'], str) else str(own.get('question')))}"
            yield _Row(where, id, own, item.get("context"))
    elif isinstance(item, dict) and isinstance(item.get("paragraphs"), list):
        line("paragraphs")
        for paragraph in item["paragraphs"]:
            if not isinstance(paragraph, dict) or not isinstance(paragraph.get("qas"), list):
                raise _not_squad(paragraph, where, "qas")
            yield from _questions(paragraph, where, line, path, index)
    else:
        raise _not_squad(item, where, "paragraphs" if isinstance(item, dict) and not item else "data")


def _id(item: Any, where: str) -> str:
    id = item.get("id") if isinstance(item, dict) else None
    if not isinstance(id, str | int) or isinstance(id, bool):
        raise DataError(
            f"{where}: a question must be an object with a string 'id', or a whole number, not {quoted(item)}"
        )
    return str(id)


def _not_squad(item: Any, where: str, key: str) -> DataError:
    return DataError(
        f"{where}: not a SQuAD file: there must be an object with a list {key!r}, or rows with 'question', 'context' "
        f"and 'answers', not {quoted(item)}"
    )


def question_examples(questions: Sequence[Mapping[str, Any]], warn: Warn = silent) -> list[QuestionExample]:
    """Examples from objects with ``question``, ``context`` and, if known, ``answers`` and ``id`` (else the index).
    ``answers``: a list of ``{"text": ..., "answer_start": ...}`` as in SQuAD's files, or an object with both as lists
    as in ``datasets``; [] if there is no answer. Raises DataError."""
    rows = []
    for i, item in enumerate(questions):
        where = f"questions[{i}]"
        if not isinstance(item, Mapping):
            raise DataError(f"{where}: must be an object with 'question' and 'context', not {quoted(item)}")
        rows.append(_Row(where, str(item.get("id", i)), item, item.get("context")))
    return not_empty(_checked_questions(rows, warn), "questions: there is no question")


def _checked_questions(rows: Iterable[_Row], warn: Warn) -> list[QuestionExample]:
    """The examples of the rows, without answers that are not at their place in the context, questions that have no
    other answer, and all answers of questions marked as impossible, which can only be plausible ones; ``warn`` gets a
    line on each. Raises DataError for any other mistake, and if more than ``MOST_MISALIGNED`` of the questions have a
    misplaced answer."""
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
        given, marked = _given_answers(row.item, place), python_value(row.item.get("is_impossible"))
        if marked not in (None, True, False):
            raise DataError(f"{place}: 'is_impossible' must be true or false, not {quoted(marked)}")
        if given == [] and marked is not None and not marked:
            raise DataError(f"{place}: is marked as not impossible, but has no answer")
        if given and marked:
            impossible.append(place)
        given = [] if marked else given
        answers, wrong = _aligned(given or [], row.context, place)
        if wrong:
            misaligned.append(_Misaligned(place, row.context, wrong))
        if answers or not wrong:
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
    place, context, answers = misaligned[0]
    text, start = answers[0]
    there, at = quoted(context[max(start, 0) :][: len(text)]), context.find(text)
    hint = f"it is at {at}" if at >= 0 else "the context does not contain it"
    count = f"{len(misaligned):,} of {questions:,} questions {'have' if len(misaligned) > 1 else 'has'} such an answer"
    line = f"{place}: the answer {quoted(text)} is not at {start} in its context, but {there} is; {hint}; {count}"
    if len(misaligned) > MOST_MISALIGNED * questions:
        units = [
            name
            for name, fits in _UNITS.items()
            if all(start > 0 and fits(one.context, text, start) for one in misaligned for text, start in one.answers)
        ]
        advice = "correct their answer_start, or take them out of the file"
        if units:
            advice = f"all fit if they count {' or '.join(units)}: answer_start must count characters from 0"
        raise DataError(f"{line}, more than {MOST_MISALIGNED:.0%}; {advice}")
    without = f", and so {'are' if left_out > 1 else 'is'} {left_out:,} question{'s' * (left_out > 1)} without another"
    warn(f"{line}; it is left out{without if left_out else ''}")


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


def _given_answers(item: Mapping[str, Any], place: str) -> list[Any] | None:
    """The answers of a question as a list of objects; None if they are unknown. Raises DataError."""
    answers = python_value(item.get("answers"))
    if isinstance(answers, Mapping) and {"text", "answer_start"} <= answers.keys():
        texts, starts = (_as_list(answers[name]) for name in ("text", "answer_start"))
        if len(texts) != len(starts):
            raise DataError(f"{place}: 'answers' has {len(texts)} texts and {len(starts)} starts")
        return [{"text": text, "answer_start": start} for text, start in zip(texts, starts, strict=True)]
    if answers is not None and (isinstance(answers, Mapping | str) or not isinstance(answers, Sequence)):
        raise DataError(
            f"{place}: 'answers' must be a list, or an object with the lists 'text' and 'answer_start', not "
            f"{quoted(answers)}"
        )
    return None if answers is None else list(answers)


def _as_list(value: Any) -> list[Any]:
    value = python_value(value)
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]


def _aligned(given: Sequence[Any], context: str, place: str) -> tuple[list[Answer], list[tuple[str, int]]]:
    """(the answers that are at their places, text and start of the others). Raises DataError for an invalid answer."""
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
    return found, wrong


def _at(context: str, text: str, start: int) -> Answer | None:
    """The answer if it is at its place, at least without the white space around it."""
    bare = text.strip()
    places = [(text, start), (bare, start + text.index(bare)), (bare, start)] if start >= 0 else []
    return next((Answer(own, begin) for own, begin in places if context.startswith(own, begin)), None)
