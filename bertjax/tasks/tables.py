"""tsv, csv and jsonl -> examples: rows with line numbers, columns named in the config or found from the header."""

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertjax.cli.command import whole_number
from bertjax.cli.showing import listed, quoted
from bertjax.data.corpus.files import ending
from bertjax.errors import ConfigError, DataError
from bertjax.tasks.examples import (
    Incomplete,
    TextExample,
    Warn,
    check_text,
    checked_label,
    drop_incomplete,
    drop_unlabelled,
    not_empty,
    silent,
)
from bertjax.tasks.records import DELIMITED, json_objects

# The usual names of columns; the first of several that occur is taken.
_PAIRS = (
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("question", "passage"),
    ("#1 string", "#2 string"),
    ("text1", "text2"),
    ("text", "text_pair"),
    ("anchor", "positive"),
    ("query", "positive"),
)
_SINGLES = ("sentence", "text", "content", "review", "question", "tweet", "comment", "message", "utterance", "document")
_LABELS = ("gold_label", "label", "labels", "class", "category", "is_duplicate", "quality")
_LABELS += ("sentiment", "intent", "topic", "target")
_NUMBERS = ("score", "similarity_score", "label", "gold_label")
_LABEL_NAMES = {
    "classification": _LABELS,
    "multi_label": ("labels", *_LABELS),
    "regression": _NUMBERS,
    "embedding": (*_NUMBERS, "similarity", "relatedness_score", "is_duplicate", "quality"),
}
# Columns of texts that do not belong to the first of a pair.
_NEGATIVE = re.compile(r"(hard_)?negatives?(_?\d+)?", re.IGNORECASE)
_NAME = re.compile(r"[^\W\d][\w.#-]*")
# With at least so many examples, of which at most this share are single words, a single word is a column's name.
_LEAST, _SINGLE = 5, 0.1


@dataclass(frozen=True)
class Columns:
    """Which column holds what: a name in the header, or a number from 0 as a string. None: found from the header.

    If ``text`` is given, there is a second text only if ``second`` is given. ``separator`` separates the labels of a
    cell with several. ``no_label``: the cell of an example without a label; None: "-" in a column gold_label, as in
    SNLI, and nothing elsewhere.
    """

    text: str | None = None
    second: str | None = None
    label: str | None = None
    separator: str = ","
    no_label: str | None = None


def read_texts(path: str | Path, columns: Columns, kind: str, warn: Warn = silent) -> list[TextExample]:
    """Examples of a .tsv, .csv or .jsonl file (also .gz .xz .zst), in its order.

    ``kind``: classification, multi_label, regression, or embedding, where the label may be missing. The first line of
    .tsv and .csv is a header if a column is named, or if it consists of usual names. Leaves out examples without a
    label (``Columns.no_label``) and, up to one in a hundred, those with an empty cell; a line to ``warn`` says how
    many. Raises DataError that begins with "path:line:", ConfigError for impossible columns.
    """
    path = Path(path)
    if kind not in _LABEL_NAMES:
        raise ConfigError(f"kind = {kind!r}; allowed: {', '.join(_LABEL_NAMES)}")
    if columns.second is not None and columns.text is None:
        raise ConfigError("the column of the second text is given without that of the text")
    if ending(path) not in (*DELIMITED, ".jsonl"):
        raise DataError(
            f"{path} is not a known kind of file; known are .tsv, .csv and .jsonl (also .gz .xz .zst): name a file "
            f".tsv if tabs separate its columns, .csv if something else does, .jsonl if it has a JSON object a line"
        )
    by_name = ending(path) == ".jsonl"
    stream = json_objects(path) if by_name else DELIMITED[ending(path)](path)
    stream = (record for record in stream if by_name or any(cell.strip() for cell in record[1]))
    first = next(stream, None)
    if first is None:
        raise DataError(f"{path}:1: the file is empty")
    found, rows = (_objects if by_name else _delimited)(path, first, stream, columns, kind)

    def make(row: _Row) -> TextExample:
        try:
            return _example(row[1], found, f"{path}:{row[0]}", kind, columns.separator)
        except DataError as error:
            if row is not first or not found.is_numbered or isinstance(error, Incomplete):
                raise
            raise DataError(f"{error}; if the line is a header, give the columns by name, not by number") from None

    examples = not_empty(drop_incomplete(rows, make, warn), f"{path}:1: there is a header and no example")
    line, cells = first
    if found.is_header and found.is_numbered:
        # What looked like a header is an example if its label occurs elsewhere.
        label = None if found.label is None else cells[found.label].strip()
        is_example = any(example.label in (label, (label,)) for example in examples if label)
        examples = [make(first)] * is_example + examples
    elif not found.is_header:
        chosen = [cells[i] for i in (found.text, found.second, found.label) if i is not None]
        _check_is_example(chosen, examples, f"{path}:{line}")
    no_label = "-" if columns.no_label is None and found.label_name.lower() == "gold_label" else columns.no_label
    return drop_unlabelled(examples, no_label, warn)


# (line of a record, its cells by column): in a .jsonl a column is a name, elsewhere a number.
_Row = tuple[int, Any]


@dataclass(frozen=True)
class _Found:
    """The columns of a file. is_header: line 1 names them; is_numbered: all are given by number.
    negatives: the columns of negatives; None: those of each row with such a name."""

    text: Any
    second: Any
    label: Any
    label_name: str
    is_header: bool
    is_numbered: bool
    negatives: Sequence[Any] | None


def _example(cells: Any, found: _Found, where: str, kind: str, separator: str) -> TextExample:
    text, second = cells[found.text], None if found.second is None else cells[found.second]
    check_text(text, where, f"the text (column {found.text})")
    if found.second is not None:
        check_text(second, where, f"the second text (column {found.second})")
    label = None if found.label is None else checked_label(cells[found.label], kind, where, separator)
    columns = filter(_NEGATIVE.fullmatch, cells) if found.negatives is None else found.negatives
    # Their cells may be empty or null, or hold a list.
    values = [cells[column] for column in columns]
    texts = itertools.chain.from_iterable(value if isinstance(value, list) else [value] for value in values)
    negatives = tuple(text for text in texts if text is not None and (not isinstance(text, str) or text.strip()))
    for negative in negatives:
        check_text(negative, where, "a negative")
    return TextExample(where, text, second, label, negatives)


def _delimited(
    path: Path, first_row: _Row, others: Iterator[_Row], columns: Columns, kind: str
) -> tuple[_Found, Iterator[_Row]]:
    line, first = first_row
    names = [cell.strip() for cell in first]
    found = _columns(names, columns, kind, f"{path}:{line}")
    # With or without a byte order mark.
    in_any_order = lambda row: sorted(cell.strip("\ufeff \t").lower() for cell in row)

    def rows() -> Iterator[_Row]:
        if not found.is_header:
            yield first_row
        for number, cells in others:
            # Only empty cells at the end may differ, as after a last delimiter.
            if not any(cell.strip() for cell in cells[len(first) :] or first[len(cells) :]):
                cells = [*cells, *[""] * (len(first) - len(cells))][: len(first)]
            if len(cells) != len(first):
                raise DataError(
                    f"{path}:{number}: fields: {len(cells)}, while line {line} has {len(first)}; in a .csv, quote "
                    f"a text that contains the delimiter or a line break"
                )
            if found.is_header and in_any_order(cells) == in_any_order(names):
                raise DataError(
                    f"{path}:{number}: the header of line {line} again, as after joining files; remove the line"
                )
            yield number, cells

    return found, rows()


def _check_is_example(cells: Sequence[str], examples: Sequence[TextExample], where: str) -> None:
    """Raises DataError if the first line, read as an example because columns are numbered, looks like a header. It does
    if its label occurs nowhere else and is the only one that is not a number, or if its texts are single words and the
    others are not. cells: of its text, second text and label."""
    first, others = examples[0], examples[1:]
    if first.where != where or not others or not all(_NAME.fullmatch(cell.strip()) for cell in cells):
        return
    own, elsewhere = set(_labels_of(first)), {name for example in others for name in _labels_of(example)}
    if own & elsewhere:
        return
    odd_label = bool(own) and bool(elsewhere) and all(_is_number(name) for name in elsewhere)
    single = [len(example.text.split()) == 1 for example in others]
    odd_text = len(single) >= _LEAST and sum(single) <= _SINGLE * len(single)
    if odd_label or odd_text:
        names = ", ".join(repr(cell.strip()) for cell in cells)
        raise DataError(
            f"{where}: the line looks like a header, {names}, and the columns are numbered; give them by these names, "
            f"or, if it is an example, do not let it be the first"
        )


def _labels_of(example: TextExample) -> tuple[Any, ...]:
    label = example.label
    return label if isinstance(label, tuple) else () if label is None else (label,)


def _is_number(name: Any) -> bool:
    try:
        return float(name) is not None
    except (TypeError, ValueError):
        return False


def _columns(names: list[str], columns: Columns, kind: str, where: str) -> _Found:
    """The columns of a file by number, and whether its first line, ``names``, is a header."""

    def position(column: str | None) -> int | None:
        number = None if column is None else whole_number(column)
        if number is not None and number >= len(names):
            raise DataError(f"{where}: there is no column {column}; the {len(names)} columns are numbered from 0")
        advice = "; if this is not a header, give the columns by number, from 0"
        return _position(column, names, where, advice) if number is None else number

    wanted = _usual(names, columns, kind, where)
    positions = text, second, label = [position(column) for column in wanted]
    _check_apart(positions, names, where)
    # If columns are numbered, the file may still have a header.
    usual = {name for pair in _PAIRS for name in pair} | {*_SINGLES, *_LABEL_NAMES[kind]}
    is_named = any(column is not None and whole_number(column) is None for column in wanted)
    is_header = is_named or all(names[i].lower() in usual for i in positions if i is not None)
    label_name = names[label] if is_header and label is not None else ""
    negatives = [i for i, name in enumerate(names) if is_header and kind == "embedding" and _NEGATIVE.fullmatch(name)]
    return _Found(text, second, label, label_name, is_header, not is_named, negatives)


def _check_apart(chosen: Sequence[Any], names: Sequence[str], where: str) -> None:
    """Raises ConfigError if two of text, second text and label are one column. chosen: columns, by name or number."""
    what = ("the text", "the second text", "the label")
    for (one, mine), (other, theirs) in itertools.combinations(zip(chosen, what, strict=True), 2):
        if one is not None and one == other:
            raise ConfigError(
                f"{where}: the column {quoted(one)} cannot be both {mine} and {theirs}; choose another with "
                f"config.data.text, config.data.second or config.data.label, in evaluate with --columns; the columns "
                f"are {_listed(names)}"
            )


def _position(column: str | None, names: list[str], where: str, advice: str = "") -> int | None:
    """The index of the one column with this name, or with the name in another case. advice: if there is none."""
    if column is None:
        return None
    found = [i for i, name in enumerate(names) if name == column]
    found = found or [i for i, name in enumerate(names) if name.lower() == column.lower()]
    if len(found) == 1:
        return found[0]
    what = "several columns" if found else "no column"
    advice = _undivided(names) or advice * (not found)
    raise DataError(f"{where}: {what} {column!r}; the columns are {_listed(names)}{advice}")


def _usual(names, columns: Columns, kind: str, where: str) -> tuple[str, str | None, str | None]:
    lower = [name.lower() for name in names]
    text, second = columns.text, columns.second
    if text is None:
        usual = [*_PAIRS, *((name, None) for name in _SINGLES)]
        text, second = next((pair for pair in usual if {*pair} <= {*lower, None}), (None, None))
        if text is None:
            raise DataError(
                f"{where}: no column has a usual name of a text; name the columns, by number if there is no "
                f"header; the columns are {_listed(names)}{_undivided(names)}"
            )
    label = columns.label or next((name for name in _LABEL_NAMES[kind] if name in lower), None)
    if label is None and kind != "embedding":
        raise DataError(
            f"{where}: no column has a usual name of a label ({', '.join(_LABEL_NAMES[kind])}); name it; the columns "
            f"are {_listed(names)}"
        )
    return text, second, label


def _undivided(names: list[str]) -> str:
    if len(names) == 1 and any(delimiter in names[0] for delimiter in ",;|"):
        return "; tabs separate the columns of a .tsv, name the file .csv"
    is_quoted = all(len(name) > 1 and name[0] == name[-1] == '"' for name in names)
    return "; in a .tsv quotes belong to the cells, name the file .csv" * is_quoted


def _listed(names: Sequence[str]) -> str:
    return listed([quoted(name) for name in names], 12)


def _objects(
    path: Path, first_row: _Row, others: Iterator[_Row], columns: Columns, kind: str
) -> tuple[_Found, Iterator[_Row]]:
    line, first = first_row
    names, where = list(first), f"{path}:{line}"
    positions = [_position(column, names, where) for column in _usual(names, columns, kind, where)]
    wanted = text, second, label = [None if i is None else names[i] for i in positions]
    _check_apart(wanted, names, where)

    def rows() -> Iterator[_Row]:
        for number, cells in itertools.chain([first_row], others):
            scores = [name for name in cells if name.lower() in _LABEL_NAMES[kind]] if label is None else []
            if scores and cells[scores[0]] is not None:
                raise DataError(
                    f"{path}:{number}: the pair has a {scores[0]}, but that of line {line} has none; give every pair "
                    "a score, or none"
                )
            for column in wanted:
                if column is not None and column not in cells:
                    raise DataError(f"{path}:{number}: no column {column!r}; the columns are {_listed(list(cells))}")
            yield number, cells

    negatives = None if kind == "embedding" else ()
    return _Found(text, second, label, label or "", is_header=True, is_numbered=False, negatives=negatives), rows()
