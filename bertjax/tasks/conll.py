"""CoNLL and CoNLL-U files -> words with tags: a word a line, a blank line after each sentence."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from bertjax.data.files import DataError
from bertjax.digits import whole_number
from bertjax.keys import ConfigError, nearest
from bertjax.tasks.examples import TaggedExample, not_empty, shown
from bertjax.tasks.lines import ending, numbered_lines

# https://universaldependencies.org/format.html
_FIELDS = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
_TAGS = ("upos", "xpos", "feats", "deprel")
_RANGE_OR_EMPTY_NODE = re.compile(r"\d+[-.]\d+")

# (word, tag) of a line, given the number of words before it in its sentence; None for a line that is no word. Raises
# DataError that begins with the place, the second argument.
_Parse = Callable[[str, str, int], tuple[str, str] | None]


def read_tagged(path: str | Path, column: str | None = None) -> list[TaggedExample]:
    """Examples of a CoNLL file, or of a CoNLL-U file where its name ends in .conllu (also .gz .xz .zst).

    ``column`` holds the tags. CoNLL: a number from 0, by default the last column; the word is in the first one;
    columns are divided by tabs where the first word's line has one, else by blanks. CoNLL-U: upos (default), xpos,
    feats or deprel; comments, ranges of multiword tokens and empty nodes are passed over. Raises DataError that
    begins with "path:line:", ConfigError for ``column``.
    """
    path = Path(path)
    parse = _conllu(column) if ending(path) == ".conllu" else _conll(column)
    return not_empty(list(_sentences(path, parse)), f"{path}:1: the file is empty, there is no word in it")


def _sentences(path: Path, parse: _Parse) -> Iterator[TaggedExample]:
    words: list[tuple[str, str]] = []
    where = ""
    for number, line in numbered_lines(path):
        if line.strip(" \t\r"):
            pair = parse(line, f"{path}:{number}", len(words))
            if pair is not None:
                where = where if words else f"{path}:{number}"
                words.append(pair)
        elif words:
            yield _sentence(where, words)
            words = []
    if words:
        yield _sentence(where, words)


def _sentence(where: str, pairs: list[tuple[str, str]]) -> TaggedExample:
    words, tags = zip(*pairs, strict=True)
    return TaggedExample(where, words, tags)


def _conll(column: str | None) -> _Parse:
    if column is not None and whole_number(column) is None:
        raise ConfigError(f"column = {column!r} must be the number of a column, from 0; only .conllu has names")
    divided, count, first = True, 0, ""

    def parse(line: str, where: str, before: int) -> tuple[str, str] | None:
        nonlocal divided, count, first
        if not count:
            divided = "\t" in line
        fields = line.split("\t") if divided else re.split("[ \t]+", line.strip(" \t"))
        if fields[0] == "-DOCSTART-":
            return None
        if len(fields) == 1:
            raise DataError(f"{where}: the word {shown(fields[0])} has no label; a line is a word and its label")
        if not count:
            count, first = len(fields), where.rpartition(":")[2]
            if column is not None and int(column) >= count:
                raise DataError(f"{where}: there is no column {column}; the {count} columns are numbered from 0")
        if len(fields) != count:
            raise DataError(f"{where}: {len(fields)} columns where line {first} has {count}")
        word, tag = fields[0], fields[-1 if column is None else int(column)].strip()
        if not word.strip(" ") or not tag:
            raise DataError(f"{where}: the {'word' if tag else 'label'} is empty")
        return word, tag

    return parse


def _conllu(column: str | None) -> _Parse:
    name = "upos" if column is None else column.lower()
    if name not in _TAGS:
        raise ConfigError(f"column = {column!r} of a .conllu file; {nearest(name, _TAGS)}")
    position = _FIELDS.index(name)

    def parse(line: str, where: str, before: int) -> tuple[str, str] | None:
        if line.startswith("#"):
            return None
        fields = line.split("\t")
        if len(fields) != len(_FIELDS):
            raise DataError(f"{where}: {len(fields)} fields between tabs; CoNLL-U has {len(_FIELDS)}")
        if _RANGE_OR_EMPTY_NODE.fullmatch(fields[0]):
            return None
        if fields[0] != str(before + 1):
            raise DataError(
                f"{where}: the word is numbered {shown(fields[0])} where {before + 1} comes next; a sentence begins "
                f"with 1, after a blank line"
            )
        if not fields[1].strip(" "):
            raise DataError(f"{where}: the word is empty")
        if name != "feats" and fields[position].strip() in ("", "_"):
            raise DataError(f"{where}: the word {shown(fields[1])} has no label in its column {name}")
        return fields[1], fields[position]

    return parse
