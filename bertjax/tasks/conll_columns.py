"""The columns of a CoNLL file: what divides them, which hold words and tags, which lines are none of either.

Columns are divided by tabs where the first word's line has one, else by blanks. "-DOCSTART-" is no word. A first line
whose cells are names of columns, such as "word" and "tag", is a header where no other line has its tag. Lines that
begin with "#" at the head of a sentence are comments where they do not read as a word: fewer or more columns than
other lines, or "# " with a last cell that is no other line's tag. A hashtag in a column of its own stays a word.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from bertjax.cli.digits import whole_number
from bertjax.errors import ConfigError, DataError
from bertjax.tasks.entities import are_entities
from bertjax.tasks.examples import shown

_DOCUMENT = "-DOCSTART-"
_COMMENT = re.compile(r"#\s*[\w.:]+\s+=\s|#\s*[\w.:]+\s*=\s*\S+$")
_WORD_NAME = re.compile(r"(word|token|form|text|surface|char(acter)?)s?", re.IGNORECASE)
_TAG_NAME = re.compile(r"(tag|label|ner?|iob\d?|bio|[ux]?pos|chunk|entity|class)s?([-_ ].*)?", re.IGNORECASE)


class Line(NamedTuple):
    """A line that is not blank, without its line break; number: from 1."""

    number: int
    text: str


class _Layout(NamedTuple):
    """first: the number of the line that the columns were counted on. word, tag: columns from 0."""

    divided_by_tabs: bool
    count: int
    first: int
    word: int
    tag: int


def read_columns(
    path: Path, blocks: list[list[Line]], tag: str | None, word: str | None, warn: Callable[[str], None]
) -> Iterator[list[tuple[int, str, str]]]:
    """The (number of the line, word, tag) of each block of lines; see ``conll.read_tagged`` for the arguments."""
    for name, given in (("tag", tag), ("word", word)):
        if given is not None and not given.strip():
            raise ConfigError(
                f"the column of the {name} is {given!r}; it must be a number from 0, or a name of the header"
            )
    blocks = [own for block in blocks if (own := [line for line in block if _apart(line.text)[0] != _DOCUMENT])]
    if not blocks:
        return
    plain = [line for block in blocks for line in block if not line.text.startswith("#")]
    counted = plain[0] if plain else blocks[0][0]
    divided = "\t" in counted.text
    count = len(_split(counted.text, divided))
    # What a header may be: comments have no tabs.
    head = next(
        line
        for block in blocks
        for line in block
        if not line.text.startswith("#") or not plain or (divided and len(_split(line.text, divided)) == count)
    )
    layout = _layout(path, head, counted.number, divided, tag, word)
    is_followed = blocks[0][0] == head and any(line.text.startswith("#") for line in blocks[0][1:2])
    if is_followed and _is_header([cell.strip() for cell in _cells(head, layout)], layout.tag):
        blocks[:1] = [blocks[0][:1], blocks[0][1:]]  # a sentence begins after the header
    # A "#" within a sentence is a word.
    sure = [line for block in blocks for n, line in enumerate(block) if n or not line.text.startswith("#")]
    tags = {cells[layout.tag].strip() for line in sure if len(cells := _cells(line, layout)) == count}
    blocks, comments = _without_comments(blocks, layout, tags)
    if len(comments) == 1:
        warn(f"{path}:{comments[0]}: a comment, not a word; it is passed over")
    elif comments:
        warn(f"{path}:{comments[0]}: a comment, not a word; {len(comments):,} such lines of the file are passed over")
    if blocks and blocks[0][0] == head:
        blocks, layout = _without_header(path, blocks, layout, tag, word, warn)
    rows = [[(line.number, _row(path, line, layout, tags)) for line in block] for block in blocks]
    _check_index(path, rows, layout, word is not None, tag is not None)
    if word is None:
        _check_order(path, rows, layout)
    for block in rows:
        yield [_checked(path, number, cells, layout) for number, cells in block if cells[layout.word] != _DOCUMENT]


def _apart(text: str) -> list[str]:
    return re.split("[ \t]+", text.strip(" \t"))


def _split(text: str, by_tabs: bool) -> list[str]:
    return text.split("\t") if by_tabs else _apart(text)


def _layout(path: Path, head: Line, counted: int, divided: bool, tag: str | None, word: str | None) -> _Layout:
    """Columns that are asked for by name are looked up in ``head``, the first line that is no comment."""
    cells = _split(head.text, divided)
    where = f"{path}:{head.number}"
    if len(cells) == 1:
        why = "; there are tabs or blanks between them" * any(sign in cells[0][1:-1] for sign in ",;|")
        raise DataError(f"{where}: the word {shown(cells[0])} has no label; a line is a word and its label{why}")
    found = {"tag": len(cells) - 1, "word": 0}
    for name, given in (("tag", tag), ("word", word)):
        if given is None:
            continue
        number = whole_number(given)
        if number is None:
            number = _named(given, cells, where)
        if number >= len(cells):
            raise DataError(f"{where}: there is no column {given}; the {len(cells)} columns are numbered from 0")
        found[name] = number
    if word is None and _is_header(cells, found["tag"]):
        found["word"] = next(i for i, cell in enumerate(cells) if _WORD_NAME.fullmatch(cell.strip()))
    if found["tag"] == found["word"]:
        raise ConfigError(
            f"{where}: column {found['tag']} is to hold both words and tags; of its {len(cells)} columns, numbered "
            f"from 0, give two: the words by data.text, the tags by data.label"
        )
    return _Layout(divided, len(cells), counted, **found)


def _named(given: str, cells: Sequence[str], where: str) -> int:
    names = [cell.strip().casefold() for cell in cells]
    if given.strip().casefold() not in names:
        listed = ", ".join(cell.strip() for cell in cells)
        raise ConfigError(
            f"column = {given!r} must be the number of a column, from 0, or a name of the header; {where} has "
            f"{shown(listed)}"
        )
    return names.index(given.strip().casefold())


def _is_header(cells: Sequence[str], tag: int) -> bool:
    has_word = any(_WORD_NAME.fullmatch(cell.strip()) for number, cell in enumerate(cells) if number != tag)
    return has_word and _TAG_NAME.fullmatch(cells[tag].strip()) is not None


def _without_comments(blocks: list[list[Line]], layout: _Layout, tags: set[str]) -> tuple[list[list[Line]], list[int]]:
    """(the blocks, none of them empty, numbers of the comments)."""
    comments: list[int] = []
    kept = []
    for block in blocks:
        begin = 0
        while begin < len(block) and _is_comment(block[begin], layout, tags):
            comments.append(block[begin].number)
            begin += 1
        kept.append(block[begin:])
    return [block for block in kept if block], comments


def _is_comment(line: Line, layout: _Layout, tags: set[str]) -> bool:
    if not line.text.startswith("#"):
        return False
    cells = _cells(line, layout)
    if len(cells) != layout.count or (not layout.divided_by_tabs and _COMMENT.match(line.text)):
        return True
    return not layout.divided_by_tabs and cells[0] == "#" and bool(tags) and cells[layout.tag] not in tags


def _without_header(
    path: Path,
    blocks: list[list[Line]],
    layout: _Layout,
    tag: str | None,
    word: str | None,
    warn: Callable[[str], None],
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
            f"{path}:{head.number}: not a header, as other lines have its {shown(cells[layout.tag])}, too; without "
            f"one, columns are numbers from 0"
        )
    if not named and not (_is_header(cells, layout.tag) and alone()):
        # Its names say nothing then, either.
        return blocks, layout if word is not None else layout._replace(word=0)
    warn(
        f"{path}:{head.number}: a header, not a word; the words are in the column {shown(cells[layout.word])}, "
        f"the tags in {shown(cells[layout.tag])}"
    )
    return [block for block in [blocks[0][1:], *blocks[1:]] if block], layout


def _cells(line: Line, layout: _Layout) -> list[str]:
    return _split(line.text, layout.divided_by_tabs)


def _row(path: Path, line: Line, layout: _Layout, tags: set[str]) -> list[str]:
    """The cells of a word's line. Raises DataError where they are too few or too many."""
    cells = _cells(line, layout)
    if layout.divided_by_tabs and len(cells) != layout.count and "\t" not in line.text:
        # A line of a file divided by tabs that has blanks in their place.
        apart = _apart(line.text)
        if len(apart) == layout.count and apart[layout.tag] in tags:
            return apart
    where = f"{path}:{line.number}"
    why = "; a comment must stand before a sentence, after a blank line" if line.text.startswith("#") else ""
    if len(cells) == 1:
        why = why or "; there are tabs or blanks between them" * any(sign in cells[0][1:-1] for sign in ",;|")
        raise DataError(f"{where}: the word {shown(cells[0])} has no label; a line is a word and its label{why}")
    if len(cells) != layout.count:
        raise DataError(f"{where}: {len(cells)} columns where line {layout.first} has {layout.count}{why}")
    tag = cells[layout.tag].strip()
    if re.search(r"\s", tag) and tag.split()[-1] in tags:
        raise DataError(
            f"{where}: the label {shown(tag)} is two columns; those of the file are divided by tabs, as line "
            f"{layout.first} has one"
        )
    return cells


def _checked(path: Path, number: int, cells: list[str], layout: _Layout) -> tuple[int, str, str]:
    word, tag = cells[layout.word], cells[layout.tag].strip()
    if not word.strip(" ") or not tag:
        raise DataError(f"{path}:{number}: the {'word' if tag else 'label'} is empty")
    return number, word, tag


def _check_order(path: Path, rows: list[list[tuple[int, list[str]]]], layout: _Layout) -> None:
    """Raises DataError where tags stand in the place of words, and something else in that of tags."""
    words, tags = ({cells[number].strip() for block in rows for _, cells in block} for number in layout[-2:])
    if are_entities(sorted(words)) and not are_entities(sorted(tags)):
        line, cells = rows[0][0]
        raise DataError(
            f"{path}:{line}: the words are tags, such as {shown(cells[layout.word])}: give the column of the words by "
            f"--config.data.text={layout.tag} and that of the tags by --config.data.label={layout.word}, in evaluate "
            f"by --columns={layout.tag},{layout.word}"
        )


def _check_index(
    path: Path, rows: list[list[tuple[int, list[str]]]], layout: _Layout, is_given: bool, tag_is_given: bool
) -> None:
    """Raises DataError where the words are their own numbers, or numbers begin anew within a sentence.

    is_given, tag_is_given: whether the column of the words, of the tags, was asked for.
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
                        f"{path}:{line}: the word is numbered {here} after {before}; a blank line must stand between "
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
                f"; name that of the words, such as {word} (here {shown(cells[word])}), by --config.data.text={word}"
                f"{label}, in evaluate by --columns={word},{tag}"
            )
        if layout.count == 10:
            advice += "; a CoNLL-U file must end in .conllu"
        raise DataError(
            f"{path}:{line}: the words are {first}, {first + 1}, ... in every sentence: column 0 counts them{advice}"
        )


def _tag_beside(rows: list[list[tuple[int, list[str]]]], layout: _Layout, word: int) -> int:
    """The last column after that of the words with tags of entities; the last one where none has."""
    for number in reversed(range(word + 1, layout.count)):
        if are_entities(sorted({cells[number].strip() for block in rows for _, cells in block})):
            return number
    return layout.tag


def _count_words(numbers: list[list[int]]) -> bool:
    """Whether they go up by one in each sentence, from 0 or 1 or on from the sentence before."""
    last = -1
    for block in numbers:
        if block != list(range(block[0], block[0] + len(block))) or block[0] not in (0, 1, last + 1):
            return False
        last = block[-1]
    return max(map(len, numbers), default=0) > 1
