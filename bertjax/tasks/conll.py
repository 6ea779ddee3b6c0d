"""CoNLL and CoNLL-U files -> words with tags: a word a line, a blank line after each sentence."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from bertjax.config_schema import nearest
from bertjax.data.corpus.compressed import ending
from bertjax.errors import ConfigError, DataError
from bertjax.tasks.conll_columns import Line, read_columns
from bertjax.tasks.examples import TaggedExample, not_empty, shown
from bertjax.tasks.numbered_lines import numbered_lines

# https://universaldependencies.org/format.html
_FIELDS = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
_TAGS = ("upos", "xpos", "feats", "deprel")
_WORDS = ("form", "lemma")
_RANGE_OR_EMPTY_NODE = re.compile(r"\d+[-.]\d+")
_JSON = re.compile(r'\[?\s*\{\s*"[^"]*"\s*:|\[\[\s*"')  # how an object, or a list of them or of lists, begins
_LONGEST_SENTENCE = 1000  # words; a file that is one longer sentence has hardly been divided into sentences

_Word = tuple[int, str, str]  # number of the line, word, tag


def read_tagged(
    path: str | Path,
    tag: str | None = None,
    word: str | None = None,
    warn: Callable[[str], None] = lambda line: None,
) -> list[TaggedExample]:
    """Examples of a CoNLL file, or of a CoNLL-U file where its name ends in .conllu (also .gz .xz .zst).

    tag, word: the columns that hold them. CoNLL: a number from 0, or a name where line 1 is a header; by default the
    last column, and the header's "word" or the first one; see ``conll_columns`` for headers and comments. CoNLL-U:
    upos (default), xpos, feats or deprel, and form (default) or lemma; comments, ranges of multiword tokens and empty
    nodes are passed over. warn: gets a line on what was passed over or is hardly meant. Raises DataError that begins
    with "path:line:", ConfigError for the columns.
    """
    path = Path(path)
    blocks = _blocks(path)
    if blocks and _JSON.match(blocks[0][0].text):
        raise DataError(
            f"{path}:{blocks[0][0].number}: JSON, not CoNLL: a line is to be a word and its tag, and a blank line "
            f"stands after each sentence; from Python bertjax.finetune.run takes (sentences, tags), too"
        )
    read = _conllu if ending(path) == ".conllu" else read_columns
    sentences = [words for words in read(path, blocks, tag, word, warn) if words]
    examples = not_empty(
        [_example(path, words) for words in sentences], f"{path}:1: the file is empty, there is no word in it"
    )
    if len(examples) == 1 and len(examples[0].words) > _LONGEST_SENTENCE:
        warn(
            f"{examples[0].where}: the file is one sentence of {len(examples[0].words):,} words; a blank line should "
            f"stand after each sentence"
        )
    return examples


def _example(path: Path, words: list[_Word]) -> TaggedExample:
    lines, plain, tags = zip(*words, strict=True)
    return TaggedExample(f"{path}:{lines[0]}", plain, tags, lines)


def _blocks(path: Path) -> list[list[Line]]:
    """The lines between blank ones."""
    blocks: list[list[Line]] = [[]]
    for number, line in numbered_lines(path):
        if line.strip():
            blocks[-1].append(Line(number, line.rstrip("\r")))
        elif blocks[-1]:
            blocks.append([])
    return [block for block in blocks if block]


def _conllu(
    path: Path, blocks: list[list[Line]], tag: str | None, word: str | None, warn: Callable[[str], None]
) -> Iterator[list[_Word]]:
    name, form = (tag or "upos").lower(), (word or "form").lower()
    for given, asked, known in ((tag, name, _TAGS), (word, form, _WORDS)):
        if asked not in known:
            raise ConfigError(f"column = {given!r} of a .conllu file; {nearest(asked, known)}")
    for block in blocks:
        words: list[_Word] = []
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
                    f"{where}: the word is numbered {shown(fields[0])} where {len(words) + 1} comes next; a sentence "
                    f"begins with 1, after a blank line"
                )
            own, its = fields[_FIELDS.index(form)], fields[_FIELDS.index(name)]
            if not own.strip():
                raise DataError(f"{where}: the word is empty")
            if name != "feats" and its.strip() in ("", "_"):
                raise DataError(f"{where}: the word {shown(own)} has no label in its column {name}")
            words.append((number, own, its))
        yield words
