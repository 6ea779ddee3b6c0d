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
from typing import NamedTuple

from bertjax.cli.digits import whole_number
from bertjax.cli.showing import quoted
from bertjax.errors import ConfigError, DataError
from bertjax.tasks.entities import are_entities
from bertjax.tasks.examples import Warn

_DOCUMENT = "-DOCSTART-"
_COMMENT = re.compile(r"#\s*[\w.:]+\s+=\s|#\s*[\w.:]+\s*=\s*\S+$")
_WORD_NAME = re.compile(r"(word|token|form|text|surface|char(acter)?)s?", re.IGNORECASE)
_TAG_NAME = re.compile(r"(tag|label|ner?|iob\d?|bio|[ux]?pos|chunk|entity|class)s?([-_ ].*)?", re.IGNORECASE)
Tagged = tuple[int, str, str]  # number of the line, word, tag
_Rows = list[list[tuple[int, list[str]]]]  # (number of the line, cells) of the words of each sentence


class Line(NamedTuple):
    """A line that is not blank, without its line break; number: from 1."""

    number: int
    text: str


class _Layout(NamedTuple):
    """first: number of the line whose columns were counted. word, tag: columns from 0."""

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
    blocks = [own for block in blocks if (own := [line for line in block if _apart(line.text)[0] != _DOCUMENT])]
    if not blocks:
        return
    plain = [line for block in blocks for line in block if not line.text.startswith("#")]
    counted = plain[0] if plain else blocks[0][0]
    by_tabs = "\t" in counted.text
    count = len(_split(counted.text, by_tabs))
    # The first line that may be a header: comments have no tabs.
    head = next(
        line
        for block in blocks
        for line in block
        if not line.text.startswith("#") or not plain or (by_tabs and len(_split(line.text, by_tabs)) == count)
    )
    layout = _layout(path, head, counted.number, by_tabs, tag, word)
    is_followed = blocks[0][0] == head and any(line.text.startswith("#") for line in blocks[0][1:2])
    if is_followed and _is_header([cell.strip() for cell in _cells(head, layout)], layout.tag):
        blocks[:1] = [blocks[0][:1], blocks[0][1:]]  # a sentence begins after the header
    # A "#" within a sentence is a word.
    certain = [line for block in blocks for n, line in enumerate(block) if n or not line.text.startswith("#")]
    tags = {cells[layout.tag].strip() for line in certain if len(cells := _cells(line, layout)) == count}
    blocks, comments = _without_comments(blocks, layout, tags)
    if comments:
        count_of = "it is" if len(comments) == 1 else f"{len(comments):,} such lines of the file are"
        warn(f"{path}:{comments[0]}: a comment, not a word; {count_of} skipped")
    if blocks and blocks[0][0] == head:
        blocks, layout = _without_header(path, blocks, layout, tag, word, warn)
    rows = [[(line.number, _row(path, line, layout, tags)) for line in block] for block in blocks]
    _check_index(path, rows, layout, word is not None, tag is not None)
    if word is None:
        _check_order(path, rows, layout)
    for block in rows:
        yield [_tagged(path, number, cells, layout) for number, cells in block if cells[layout.word] != _DOCUMENT]


def _apart(text: str) -> list[str]:
    return re.split("[ \t]+", text.strip(" \t"))


def _split(text: str, by_tabs: bool) -> list[str]:
    return text.split("\t") if by_tabs else _apart(text)


def _check_has_label(cells: list[str], where: str, why: str = "") -> None:
    if len(cells) == 1:
        why = why or "; tabs or blanks must separate them" * any(sign in cells[0][1:-1] for sign in ",;|")
        raise DataError(f"{where}: the word {quoted(cells[0])} has no label; a line is a word and its label{why}")


def _layout(path: Path, head: Line, counted: int, by_tabs: bool, tag: str | None, word: str | None) -> _Layout:
    """Columns given by name are looked up in ``head``, the first line that is not a comment."""
    cells = _split(head.text, by_tabs)
    where = f"{path}:{head.number}"
    _check_has_label(cells, where)
    found = {"tag": len(cells) - 1, "word": 0}
    for name, given in (("tag", tag), ("word", word)):
        if given is not None:
            found[name] = _position(given, cells, where)
    if word is None and _is_header(cells, found["tag"]):
        found["word"] = next(i for i, cell in enumerate(cells) if _WORD_NAME.fullmatch(cell.strip()))
    if found["tag"] == found["word"]:
        raise ConfigError(
            f"{where}: column {found['tag']} cannot hold both words and tags; choose two of its {len(cells)} columns, "
            f"numbered from 0: words with data.text, tags with data.label"
        )
    return _Layout(by_tabs, len(cells), counted, **found)


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


def _without_comments(blocks: list[list[Line]], layout: _Layout, tags: set[str]) -> tuple[list[list[Line]], list[int]]:
    """(the blocks without comments and empty blocks, line numbers of the comments)."""
    kept = [list(itertools.dropwhile(lambda line: _is_comment(line, layout, tags), block)) for block in blocks]
    comments = [line.number for block, own in zip(blocks, kept, strict=True) for line in block[: len(block) - len(own)]]
    return [block for block in kept if block], comments


def _is_comment(line: Line, layout: _Layout, tags: set[str]) -> bool:
    if not line.text.startswith("#"):
        return False
    cells = _cells(line, layout)
    if len(cells) != layout.count or (not layout.by_tabs and _COMMENT.match(line.text)):
        return True
    return not layout.by_tabs and cells[0] == "#" and bool(tags) and cells[layout.tag] not in tags


def _without_header(
    path: Path, blocks: list[list[Line]], layout: _Layout, tag: str | None, word: str | None, warn: Warn
) -> tuple[list[list[Line]], _Layout]:
    head = blocks[0][0]
    cells = [cell.strip() for cell in _cells(head, layout)]
    named = any(given is not None and whole_number(given) is None for given in (tag, word))
    others = (line for block in blocks for line in block if line is not head)
    alone = lambda: all(
        len(own := _cells(line, layout)) != layout.count or own[layout.tag].strip() != cells[layout.tag]
        for line in others
    )
    if named and not alone():
        raise ConfigError(
            f"{path}:{head.number}: not a header, since other lines also have its {quoted(cells[layout.tag])}; without "
            f"a header, columns are numbers from 0"
        )
    if not named and not (_is_header(cells, layout.tag) and alone()):
        # Then its cells do not name columns either.
        return blocks, layout if word is not None else layout._replace(word=0)
    warn(
        f"{path}:{head.number}: a header, not a word; the words are in the column {quoted(cells[layout.word])}, "
        f"the tags in {quoted(cells[layout.tag])}"
    )
    return [block for block in [blocks[0][1:], *blocks[1:]] if block], layout


def _cells(line: Line, layout: _Layout) -> list[str]:
    return _split(line.text, layout.by_tabs)


def _row(path: Path, line: Line, layout: _Layout, tags: set[str]) -> list[str]:
    """The cells of a word's line. Raises DataError for too few or too many."""
    cells = _cells(line, layout)
    if layout.by_tabs and len(cells) != layout.count and "\t" not in line.text:  # blanks in a file with tabs
        apart = _apart(line.text)
        if len(apart) == layout.count and apart[layout.tag] in tags:
            return apart
    where = f"{path}:{line.number}"
    why = "; a comment must stand before a sentence, after a blank line" if line.text.startswith("#") else ""
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


def _tagged(path: Path, number: int, cells: list[str], layout: _Layout) -> Tagged:
    word, tag = cells[layout.word], cells[layout.tag].strip()
    if not word.strip(" ") or not tag:
        raise DataError(f"{path}:{number}: the {'word' if tag else 'label'} is empty")
    return number, word, tag


def _check_order(path: Path, rows: _Rows, layout: _Layout) -> None:
    """Raises DataError if only the column of the words has tags."""
    if are_entities(sorted(_values(rows, layout.word))) and not are_entities(sorted(_values(rows, layout.tag))):
        line, cells = rows[0][0]
        raise DataError(
            f"{path}:{line}: the words are tags, such as {quoted(cells[layout.word])}: choose the column of the words "
            f"with --config.data.text={layout.tag} and that of the tags with --config.data.label={layout.word}, in "
            f"evaluate with --columns={layout.tag},{layout.word}"
        )


def _check_index(path: Path, rows: _Rows, layout: _Layout, is_given: bool, tag_is_given: bool) -> None:
    """Raises DataError if the column of the words numbers them, or if numbers start again within a sentence.

    is_given, tag_is_given: whether the user chose the column of the words, of the tags.
    """
    found = [[whole_number(cells[0]) for _, cells in block] for block in rows]
    numbers = [[number for number in block if number is not None] for block in found]
    if numbers != found:
        return
    if layout.word != 0:
        for block, own in zip(rows, numbers, strict=True):
            for (line, _), before, here in zip(block[1:], own, own[1:], strict=False):
                if here <= before:
                    raise DataError(
                        f"{path}:{line}: the word has number {here} after {before}; there must be a blank line between "
                        f"two sentences"
                    )
    elif not is_given and _count_words(numbers):
        first, (line, cells) = numbers[0][0], rows[0][0]
        word = next((number for number in range(1, layout.count) if number != layout.tag), None)
        advice = ""
        if word is not None:
            tag = layout.tag if tag_is_given else _tag_beside(rows, layout, word)
            label = f" and --config.data.label={tag}" if tag != layout.tag else ""
            advice = (
                f"; choose that of the words, such as {word} (here {quoted(cells[word])}), with "
                f"--config.data.text={word}{label}, in evaluate with --columns={word},{tag}"
            )
        if layout.count == 10:
            advice += "; the name of a CoNLL-U file must end in .conllu"
        raise DataError(
            f"{path}:{line}: the words are {first}, {first + 1}, ... in every sentence: column 0 counts them{advice}"
        )


def _tag_beside(rows: _Rows, layout: _Layout, word: int) -> int:
    """The last column after the words that has entity tags; the column of the tags if there is none."""
    columns = reversed(range(word + 1, layout.count))
    return next((number for number in columns if are_entities(sorted(_values(rows, number)))), layout.tag)


def _values(rows: _Rows, column: int) -> set[str]:
    return {cells[column].strip() for block in rows for _, cells in block}


def _count_words(numbers: list[list[int]]) -> bool:
    """Whether they increase by one in each sentence, from 0, from 1, or on from the sentence before."""
    last = -1
    for block in numbers:
        if block != list(range(block[0], block[0] + len(block))) or block[0] not in (0, 1, last + 1):
            return False
        last = block[-1]
    return max(map(len, numbers), default=0) > 1
