"""Reads questions from SQuAD's JSON, 1.1 and 2.0, and from rows as ``datasets`` writes them."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bertjax.cli.showing import quoted, short
from bertjax.data.corpus.compressed import ending
from bertjax.data.corpus.files import LONGEST_LINE, Report, lines
from bertjax.errors import DataError
from bertjax.tasks.examples import QuestionExample, Warn, not_empty, silent
from bertjax.tasks.numbered_lines import decoded, json_objects, refuse_binary
from bertjax.tasks.questions import Row, checked_questions

_BY_LINE = (".jsonl", ".ndjson")
_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"')


def read_questions(path: str | Path, warn: Warn = silent) -> list[QuestionExample]:
    """The questions of a file (also .gz .xz .zst), in its order, every answer checked against its context.

    It holds SQuAD's tree of articles, paragraphs and questions; or rows, each with its context, as a JSON list, under
    "data", or as an object a line (always in .jsonl and .ndjson). A question without ``answers`` is one to predict.
    warn: see ``checked_questions``. Raises DataError that begins with "path:line:", the line of the question's id.
    """
    path = Path(path)
    return not_empty(checked_questions(_rows(path), warn), f"{path}:1: there is no question in it")


def _rows(path: Path) -> Iterator[Row]:
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
    except UnicodeDecodeError:
        for number, line in enumerate(data.split(b"\n"), start=1):
            decoded(line, path, number)
        raise


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


def _questions(item: Any, where: str, line: Callable[[str], int], path: Path, index: int) -> Iterator[Row]:
    """The rows of an article with paragraphs, of a paragraph with ``qas``, or of a row. line: finds a string's line."""
    if isinstance(item, dict) and isinstance(item.get("question"), str):
        id = item.get("id")
        where = f"{path}:{line(id if isinstance(id, str) else item['question'])}"
        yield Row(where, str(index) if id is None else _id(item, where), item, item.get("context"))
    elif isinstance(item, dict) and isinstance(item.get("qas"), list):
        where = f"{path}:{line('qas')}"
        for own in item["qas"]:
            id = _id(own, where)
            where = f"{path}:{line(own['id'] if isinstance(own['id'], str) else str(own.get('question')))}"
            yield Row(where, id, own, item.get("context"))
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
