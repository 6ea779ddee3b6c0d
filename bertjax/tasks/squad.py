"""SQuAD's json, 1.1 and 2.0 -> questions."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bertjax.data.files import LONGEST_LINE, DataError, Report, lines
from bertjax.tasks.examples import QuestionExample, check_distinct, not_empty, question_example, shown
from bertjax.tasks.lines import decoded

_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"')


def read_questions(path: str | Path) -> list[QuestionExample]:
    """The questions of a SQuAD file (also .gz .xz .zst), in its order, every answer checked against its context.

    A question without ``answers`` is one to predict. Raises DataError that begins with "path:line:"; the line is that
    of the question's id, line 1 in a file that is one line.
    """
    path = Path(path)
    text = _whole(path)
    if not text.strip():
        raise DataError(f"{path}:1: the file is empty")
    try:
        tree = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: no JSON, or cut short: {error.msg}, column {error.colno}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}:1: no JSON that can be read: {' '.join(str(error).split())[:120]}") from None
    examples = list(_questions(tree, path, _Places(text if "\n" in text else "")))
    check_distinct(examples)
    return not_empty(examples, f"{path}:1: there is no question in it")


def _whole(path: Path) -> str:
    """The text of a file. Lines come in pieces of LONGEST_LINE where they are longer."""
    parts: list[bytes] = []
    for line in lines(path, Report()):
        parts += [line] if len(line) == LONGEST_LINE else [line, b"\n"]
    data = b"".join(parts).removesuffix(b"\n")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        for number, line in enumerate(data.split(b"\n"), start=1):
            decoded(line, path, number)
        raise


class _Places:
    """Line numbers of strings that are asked for in the order of the file."""

    def __init__(self, text: str) -> None:
        self._text, self._position, self._line = text, 0, 1

    def line(self, string: str) -> int:
        """The line of the next such JSON string, however spelled; that of the one before where it is not found."""
        for found in _STRING.finditer(self._text, self._position):
            if found[0][1:-1] == string or ("\\" in found[0] and json.loads(found[0]) == string):
                self._line += self._text.count("\n", self._position, found.start())
                self._position = found.end()
                break
        return self._line


def _questions(tree: Any, path: Path, places: _Places) -> Iterator[QuestionExample]:
    for article in _list(tree, "data", f"{path}:1"):
        for paragraph in _list(article, "paragraphs", f"{path}:{places.line('paragraphs')}"):
            where = f"{path}:{places.line('qas')}"
            for item in _list(paragraph, "qas", where):
                if not isinstance(item, dict) or not isinstance(item.get("id"), str):
                    raise DataError(f"{where}: a question must be an object with a string 'id', not {shown(item)}")
                where = f"{path}:{places.line(item['id'])}"
                yield question_example(where, item, paragraph.get("context"), item["id"])


def _list(tree: Any, key: str, where: str) -> list[Any]:
    value = tree.get(key) if isinstance(tree, dict) else None
    if not isinstance(value, list):
        raise DataError(f"{where}: no SQuAD file: there must be an object with a list {key!r}, not {shown(tree)}")
    return value
