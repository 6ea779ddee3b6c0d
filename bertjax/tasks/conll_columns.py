"""The columns of a CoNLL file: what separates them, which hold words and tags, which lines are headers and comments.

Tabs separate the columns if the first word's line has one, else blanks do. "-DOCSTART-" is not a word. A first line
whose cells are names of columns, such as "word" and "tag", is a header if no other line has its tag. A line that begins
with "#" at the head of a sentence is a comment if it has fewer or more columns than other lines, or "# " and a last
cell that is no other line's tag. A hashtag in a column of its own stays a word.
"""

import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bertjax.cli.command import whole_number
from bertjax.cli.showing import quoted
from bertjax.errors import ConfigError, DataError
from bertjax.tasks.entities import are_entities
from bertjax.tasks.examples import Warn

_DOCUMENT = "-DOCSTART-"
_COMMENT = re.compile(r"#\s*[\w.:]+\s+=\s|#\s*[\w.:]+\s*=\s*\S+$")
_WORD_NAME = re.compile(r"(word|token|form|text|surface|char(acter)?)s?", re.IGNORECASE)
_TAG_NAME = re.compile(r"(tag|label|ner?|iob\d?|bio|[ux]?pos|chunk|entity|class)s?([-_ ].*)?", re.IGNORECASE)
Tagged = tuple[int, str, str]  # number of the line, word, tag


class Line(NamedTuple):
    """A line that is not blank, without its line break; number: from 1."""

    number: int
    text: str


class _Row(NamedTuple):
    number: int
    text: str
    cells: list[str]


_Blocks = list[list[_Row]]  # the rows of each sentence


class _Layout(NamedTuple):
    """first: number of the line whose columns were counted. word, tag: columns from 0."""

    path: Path
    by_tabs: bool
    count: int
    first: int
    word: int
    tag: int


def read_columns(
    path: Path, blocks: list[list[Line]], tag: str | None, word: str | None, warn: Warn
) -> Iterator[list[Tagged]]:
    """The words of each block of lines; see ``conll.read_tagged`` for the arguments."""
    for name, given in (("tag", tag), ("word", word)):
        if given is not None and not given.strip():
            raise ConfigError(
                f"the column of the {name} is {given!r}; it must be a number from 0, or a name in the header"
            )
    words = [
        own for block in blocks if (own := [line for line in block if _split(line.text, by_tabs=False)[0] != _DOCUMENT])
    ]
    if not words:
        return
    plain = [line for block in words for line in block if not line.text.startswith("#")]
    counted = plain[0] if plain else words[0][0]
    by_tabs = "\t" in counted.text
    count = len(_split(counted.text, by_tabs))
    found = [[_Row(*line, _split(line.text, by_tabs)) for line in block] for block in words]
    # The first line that may be a header: comments have no tabs.
    head = next(
        row
        for block in found
        for row in block
        if not row.text.startswith("#") or not plain or (by_tabs and len(row.cells) == count)
    )
    layout = _layout(path, head, counted.number, by_tabs, tag, word)
    is_followed = found[0][0] == head and any(row.text.startswith("#") for row in found[0][1:2])
    if is_followed and _is_header(head.cells, layout.tag):
        found[:1] = [found[0][:1], found[0][1:]]  # a sentence begins after the header
    # A "#" within a sentence is a word.
    certain = [row for block in found for n, row in enumerate(block) if n or not row.text.startswith("#")]
    tags = {row.cells[layout.tag].strip() for row in certain if len(row.cells) == count}
    is_comment = lambda row: _is_comment(row, layout, tags)
    comments = [row.number for block in found for row in itertools.takewhile(is_comment, block)]
    found = [own for block in found if (own := list(itertools.dropwhile(is_comment, block)))]
    if comments:
        count_of = "it is" if len(comments) == 1 else f"{len(comments):,} such lines of the file are"
        warn(f"{path}:{comments[0]}: a comment, not a word; {count_of} skipped")
    if found and found[0][0] == head:
        found, layout = _without_header(found, layout, tag, word, warn)
    found = [[row._replace(cells=_checked_cells(row, layout, tags)) for row in block] for block in found]
    _check_index(found, layout, tag, word)
    if word is None:
        _check_order(found, layout)
    for block in found:
        yield [_tagged(row, layout) for row in block if row.cells[layout.word] != _DOCUMENT]


def _split(text: str, by_tabs: bool) -> list[str]:
    return text.split("\t") if by_tabs else re.split("[ \t]+", text.strip(" \t"))


def _check_has_label(cells: list[str], where: str, why: str = "") -> None:
    if len(cells) == 1:
        why = why or "; tabs or blanks must separate them" * any(sign in cells[0][1:-1] for sign in ",;|")
        raise DataError(f"{where}: the word {quoted(cells[0])} has no label; a line is a word and its label{why}")


def _layout(path: Path, head: _Row, counted: int, by_tabs: bool, tag: str | None, word: str | None) -> _Layout:
    """Columns given by name are looked up in ``head``, the first line that is not a comment."""
    cells, where = head.cells, f"{path}:{head.number}"
    _check_has_label(cells, where)
    of_tag = len(cells) - 1 if tag is None else _position(tag, cells, where)
    of_word = 0 if word is None else _position(word, cells, where)
    if word is None and _is_header(cells, of_tag):
        of_word = next(i for i, cell in enumerate(cells) if _WORD_NAME.fullmatch(cell.strip()))
    if of_tag == of_word:
        raise ConfigError(
            f"{where}: column {of_tag} cannot hold both words and tags; choose two of its {len(cells)} columns, "
            f"numbered from 0: words with data.text, tags with data.label"
        )
    return _Layout(path, by_tabs, len(cells), counted, of_word, of_tag)


def _position(given: str, cells: Sequence[str], where: str) -> int:
    number, names = whole_number(given), [cell.strip().casefold() for cell in cells]
    if number is not None:
        if number >= len(cells):
            raise DataError(f"{where}: there is no column {given}; the {len(cells)} columns are numbered from 0")
        return number
    if given.strip().casefold() not in names:
        listed = ", ".join(cell.strip() for cell in cells)
        raise ConfigError(
            f"column = {given!r} must be the number of a column, from 0, or a name in the header; {where} has "
            f"{quoted(listed)}"
        )
    return names.index(given.strip().casefold())


def _is_header(cells: Sequence[str], tag: int) -> bool:
    has_word = any(_WORD_NAME.fullmatch(cell.strip()) for number, cell in enumerate(cells) if number != tag)
    return has_word and _TAG_NAME.fullmatch(cells[tag].strip()) is not None


def _is_comment(row: _Row, layout: _Layout, tags: set[str]) -> bool:
    if not row.text.startswith("#"):
        return False
    if len(row.cells) != layout.count or (not layout.by_tabs and _COMMENT.match(row.text)):
        return True
    return not layout.by_tabs and row.cells[0] == "#" and bool(tags) and row.cells[layout.tag] not in tags


def _without_header(
    blocks: _Blocks, layout: _Layout, tag: str | None, word: str | None, warn: Warn
) -> tuple[_Blocks, _Layout]:
    head = blocks[0][0]
    cells, where = [cell.strip() for cell in head.cells], f"{layout.path}:{head.number}"
    named = any(given is not None and whole_number(given) is None for given in (tag, word))
    is_alone = cells[layout.tag] not in {
        row.cells[layout.tag].strip()
        for block in blocks
        for row in block
        if row is not head and len(row.cells) == layout.count
    }
    if named and not is_alone:
        raise ConfigError(
            f"{where}: not a header, since other lines also have its {quoted(cells[layout.tag])}; without a header, "
            f"columns are numbers from 0"
        )
    if not named and not (is_alone and _is_header(cells, layout.tag)):
        # Then its cells do not name columns either.
        return blocks, layout if word is not None else layout._replace(word=0)
    warn(
        f"{where}: a header, not a word; the words are in the column {quoted(cells[layout.word])}, the tags in "
        f"{quoted(cells[layout.tag])}"
    )
    return [block for block in [blocks[0][1:], *blocks[1:]] if block], layout


def _checked_cells(row: _Row, layout: _Layout, tags: set[str]) -> list[str]:
    """The cells of a word's line. Raises DataError for too few or too many."""
    cells = row.cells
    if layout.by_tabs and len(cells) != layout.count and "\t" not in row.text:  # blanks in a file with tabs
        apart = _split(row.text, by_tabs=False)
        if len(apart) == layout.count and apart[layout.tag] in tags:
            return apart
    where = f"{layout.path}:{row.number}"
    why = "; a comment must stand before a sentence, after a blank line" if row.text.startswith("#") else ""
    _check_has_label(cells, where, why)
    if len(cells) != layout.count:
        raise DataError(f"{where}: {len(cells)} columns, but line {layout.first} has {layout.count}{why}")
    tag = cells[layout.tag].strip()
    if re.search(r"\s", tag) and tag.split()[-1] in tags:
        raise DataError(
            f"{where}: the label {quoted(tag)} is two columns; tabs separate those of the file, as in line "
            f"{layout.first}"
        )
    return cells


def _tagged(row: _Row, layout: _Layout) -> Tagged:
    word, tag = row.cells[layout.word], row.cells[layout.tag].strip()
    if not word.strip(" ") or not tag:
        raise DataError(f"{layout.path}:{row.number}: the {'word' if tag else 'label'} is empty")
    return row.number, word, tag


def _check_order(blocks: _Blocks, layout: _Layout) -> None:
    """Raises DataError if only the column of the words has tags."""
    if _has_entities(blocks, layout.word) and not _has_entities(blocks, layout.tag):
        first = blocks[0][0]
        raise DataError(
            f"{layout.path}:{first.number}: the words are tags, such as {quoted(first.cells[layout.word])}: choose the "
            f"column of the words with --config.data.text={layout.tag} and that of the tags with "
            f"--config.data.label={layout.word}, in evaluate with --columns={layout.tag},{layout.word}"
        )


def _check_index(blocks: _Blocks, layout: _Layout, tag: str | None, word: str | None) -> None:
    """Raises DataError if the column of the words numbers them, or if numbers start again within a sentence. tag, word:
    the columns that the user chose."""
    numbers: list[Any] = [[whole_number(row.cells[0]) for row in block] for block in blocks]
    if any(None in own for own in numbers):
        return
    if layout.word != 0:
        for block, own in zip(blocks, numbers, strict=True):
            for row, before, here in zip(block[1:], own, own[1:], strict=False):
                if here <= before:
                    raise DataError(
                        f"{layout.path}:{row.number}: the word has number {here} after {before}; there must be a blank "
                        f"line between two sentences"
                    )
    elif word is None and _count_words(numbers):
        number, first = numbers[0][0], blocks[0][0]
        own = next((column for column in range(1, layout.count) if column != layout.tag), None)
        advice = ""
        if own is not None:
            # Without a choice, the last column after the words that has entity tags.
            columns = [] if tag is not None else reversed(range(own + 1, layout.count))
            beside = next((column for column in columns if _has_entities(blocks, column)), layout.tag)
            label = f" and --config.data.label={beside}" if beside != layout.tag else ""
            advice = (
                f"; choose that of the words, such as {own} (here {quoted(first.cells[own])}), with "
                f"--config.data.text={own}{label}, in evaluate with --columns={own},{beside}"
            )
        if layout.count == 10:
            advice += "; the name of a CoNLL-U file must end in .conllu"
        raise DataError(
            f"{layout.path}:{first.number}: the words are {number}, {number + 1}, ... in every sentence: column 0 "
            f"counts them{advice}"
        )


def _has_entities(blocks: _Blocks, column: int) -> bool:
    return are_entities(sorted({row.cells[column].strip() for block in blocks for row in block}))


def _count_words(numbers: list[list[int]]) -> bool:
    """Whether they increase by one in each sentence, from 0, from 1, or on from the sentence before."""
    last = -1
    for block in numbers:
        if block != list(range(block[0], block[0] + len(block))) or block[0] not in (0, 1, last + 1):
            return False
        last = block[-1]
    return max(map(len, numbers), default=0) > 1
