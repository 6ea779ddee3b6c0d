"""Reads words with tags from CoNLL and CoNLL-U files: a word a line, a blank line after each sentence."""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

from bertjax.cli.showing import quoted
from bertjax.config_schema import nearest
from bertjax.data.corpus.files import ending
from bertjax.errors import ConfigError, DataError
from bertjax.tasks.conll_columns import Line, Tagged, read_columns
from bertjax.tasks.examples import TaggedExample, Warn, not_empty, silent
from bertjax.tasks.records import numbered_lines

# https://universaldependencies.org/format.html
_FIELDS = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
_RANGE_OR_EMPTY_NODE = re.compile(r"\d+[-.]\d+")
_JSON = re.compile(r'\[?\s*\{\s*"[^"]*"\s*:|\[\[\s*"')  # how an object, or a list of them or of lists, begins
_LONGEST_SENTENCE = 1000  # words; a file of one longer sentence probably lacks blank lines


def read_tagged(
    path: str | Path, tag: str | None = None, word: str | None = None, warn: Warn = silent
) -> list[TaggedExample]:
    """Examples of a CoNLL file, or of a CoNLL-U file if its name ends in .conllu (also .gz .xz .zst).

    tag, word: their columns. CoNLL: a number from 0, or a name in the header; by default the last column, and the
    header's "word" or the first column. CoNLL-U: upos (default), xpos, feats or deprel, and form (default) or lemma.
    warn: gets lines on what was skipped and on likely mistakes. Raises DataError that begins with "path:line:",
    ConfigError for the columns.
    """
    path = Path(path)
    lines = (Line(number, line.rstrip("\r")) for number, line in numbered_lines(path))
    groups = itertools.groupby(lines, key=lambda line: not line.text.strip())
    blocks = [list(block) for is_blank, block in groups if not is_blank]
    if blocks and _JSON.match(blocks[0][0].text):
        raise DataError(
            f"{path}:{blocks[0][0].number}: JSON, not CoNLL: a line must be a word and its tag, with a blank line "
            f"after each sentence; from Python, bertjax.finetune.run also takes (sentences, tags)"
        )
    read = _conllu if ending(path) == ".conllu" else read_columns
    sentences = [words for words in read(path, blocks, tag, word, warn) if words]
    columns = [tuple(zip(*words, strict=True)) for words in sentences]
    examples = [TaggedExample(f"{path}:{numbers[0]}", words, tags, numbers) for numbers, words, tags in columns]
    not_empty(examples, f"{path}:1: the file is empty, it has no words")
    if len(examples) == 1 and len(examples[0].words) > _LONGEST_SENTENCE:
        warn(
            f"{examples[0].where}: the file is one sentence of {len(examples[0].words):,} words; there should be a "
            f"blank line after each sentence"
        )
    return examples


def _conllu(
    path: Path, blocks: list[list[Line]], tag: str | None, word: str | None, warn: Warn
) -> Iterator[list[Tagged]]:
    name, form = (tag or "upos").lower(), (word or "form").lower()
    for given, asked, known in ((tag, name, ("upos", "xpos", "feats", "deprel")), (word, form, ("form", "lemma"))):
        if asked not in known:
            raise ConfigError(f"column = {given!r} of a .conllu file; {nearest(asked, known)}")
    for block in blocks:
        words: list[Tagged] = []
        for number, line in block:
            where = f"{path}:{number}"
            if line.startswith("#"):
                continue
            fields = line.split("\t")
            if len(fields) != len(_FIELDS):
                raise DataError(f"{where}: {len(fields)} fields between tabs; CoNLL-U has {len(_FIELDS)}")
            if _RANGE_OR_EMPTY_NODE.fullmatch(fields[0]):
                continue
            if fields[0] != str(len(words) + 1):
                raise DataError(
                    f"{where}: the word has the number {quoted(fields[0])} instead of {len(words) + 1}; a sentence "
                    f"begins with 1, after a blank line"
                )
            own, its = fields[_FIELDS.index(form)], fields[_FIELDS.index(name)]
            if not own.strip():
                raise DataError(f"{where}: the word is empty")
            if name != "feats" and its.strip() in ("", "_"):
                raise DataError(f"{where}: the word {quoted(own)} has no label in its column {name}")
            words.append((number, own, its))
        yield words
