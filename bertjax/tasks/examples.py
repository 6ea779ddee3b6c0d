"""Labelled examples, the same from a file and from lists in memory."""

import ast
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bertjax.cli.showing import quoted
from bertjax.errors import ConfigError, DataError

Warn = Callable[[str], None]  # gets warnings, a line each
silent: Warn = lambda line: None
MOST_INCOMPLETE = 0.01  # of all examples
_LARGEST = float(np.finfo(np.float32).max)  # numbers are learned in float32
_COMMA = re.compile(r"[+-]?[0-9]*,[0-9]+")
_FLAGS = ("0", "1", "0.0", "1.0", "false", "true")
_ITEM = re.compile(r"'[^'\\]*'|\"[^\"\\]*\"|-?(?:0|[1-9][0-9]*)\.?[0-9]*")
_BY_NUMPY = re.compile(rf"\[\s*(?:{_ITEM.pattern})(?:\s+(?:{_ITEM.pattern}))+\s*\]")
_HALF_CHARACTER = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class TextExample:
    """A text or a pair of texts. where: "path:line" or "texts[3]", for error lines. label: str (classification), tuple
    of str (multi_label), float (regression; embedding, where given), None. negatives: texts that do not belong to the
    first, for embedding; not in the repr, of which stored runs have fingerprints."""

    where: str
    text: str
    second: str | None
    label: Any
    negatives: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class TaggedExample:
    """Words of a sentence and their tags; ``where`` is the place of the first word. lines: the line of each word in a
    file."""

    where: str
    words: tuple[str, ...]
    tags: tuple[str, ...] | None
    lines: tuple[int, ...] | None = field(default=None, compare=False, repr=False)

    def place(self, word: int) -> str:
        """The place of a word, given by its index: "path:line" or "sentences[3][2]"."""
        return f"{self.where}[{word}]" if self.lines is None else f"{self.where.rpartition(':')[0]}:{self.lines[word]}"


@dataclass(frozen=True)
class Answer:
    """A span of a context; ``start`` counts characters."""

    text: str
    start: int


@dataclass(frozen=True)
class QuestionExample:
    """A question about a context. ``answers``: () = the context does not answer it, None = not known."""

    where: str
    id: str
    question: str
    context: str
    answers: tuple[Answer, ...] | None


class Incomplete(DataError):
    """An example lacks what it needs; the rest of the data may be sound."""


def drop_incomplete(items: Iterable[Any], make: Callable[[Any], Any], warn: Warn) -> list[Any]:
    """``make(item)`` of all items except those for which it raises ``Incomplete``; a line to ``warn`` counts these.
    Raises DataError with the place of the first if they are more than ``MOST_INCOMPLETE`` of all."""
    made: list[Any] = []
    missing: list[Incomplete] = []
    for item in items:
        try:
            made.append(make(item))
        except Incomplete as error:
            missing.append(error)
    count, total = len(missing), len(made) + len(missing)
    if count > MOST_INCOMPLETE * total:
        others = f" ({count - 1:,} more like it among {total:,} examples)" * (count > 1)
        advice = f"remove such examples: only up to {MOST_INCOMPLETE:.0%} of them are left out"
        raise DataError(f"{missing[0]}{others}; {advice}")
    if missing:
        more = f", and {count - 1:,} more" * (count > 1)
        warn(f"{count:,} of {total:,} examples left out: {missing[0]}{more}")
    return made


def text_examples(
    texts: Sequence[str | Sequence[str]],
    labels: Sequence[Any] | None = None,
    *,
    kind: str = "classification",
    no_label: str | None = None,
    warn: Warn = silent,
) -> list[TextExample]:
    """Examples of texts, or pairs of texts, with their labels.

    Labels: str, int or bool (classification), a list of these (multi_label), numbers (regression), numbers or None
    (embedding, where texts after the second are negatives). Examples with the label ``no_label`` are left out, and so
    are those without a text or a label, up to one in a hundred; a line to ``warn`` says how many. Raises DataError that
    names the text, ConfigError for lists of different lengths.
    """
    texts, labels = _lists("texts", texts, "labels", labels)

    def example(i: int) -> TextExample:
        item, where = texts[i], f"texts[{i}]"
        parts = (item,) if isinstance(item, str) else item
        if item is None:
            raise Incomplete(f"{where}: there is no text")
        if not isinstance(parts, Sequence) or not parts or (len(parts) > 2 and kind != "embedding"):
            raise DataError(f"{where}: must be a string or a pair of strings, not {quoted(item)}")
        label = None if labels is None else checked_label(labels[i], kind, f"labels[{i}]")
        for number, text in enumerate(parts):
            check_text(text, where, ("the text", "the second text", "a negative")[min(number, 2)])
        return TextExample(where, parts[0], parts[1] if len(parts) > 1 else None, label, tuple(parts[2:]))

    examples = not_empty(drop_incomplete(range(len(texts)), example, warn), "texts: there is no text")
    return drop_unlabelled(examples, no_label, warn)


def drop_unlabelled(examples: list[TextExample], no_label: str | None, warn: Warn = silent) -> list[TextExample]:
    """The examples with another label than ``no_label``; a line to ``warn`` counts the rest. Raises DataError if none
    is left."""
    without = [one for one in examples if no_label is not None and one.label in (no_label, (no_label,))]
    if not without:
        return examples
    first, count = without[0].where, f"{len(without):,} of {len(examples):,} examples"
    warn(f"{count} have no label ({no_label!r}, the first at {first}) and are left out")
    found = [one for one in examples if one.label not in (no_label, (no_label,))]
    return not_empty(found, f"{first}: no example has a label, all have {no_label!r}")


def tagged_examples(
    sentences: Sequence[Sequence[str]], tags: Sequence[Sequence[str]] | None = None
) -> list[TaggedExample]:
    """Examples from sentences, which are lists of words, with a tag for every word. Raises DataError, ConfigError."""
    sentences, tags = _lists("sentences", sentences, "tags", tags)
    examples = []
    for i, sentence in enumerate(sentences):
        where = f"sentences[{i}]"
        words = _strings(sentence)
        if not words or not all(word.strip(" ") for word in words):
            raise DataError(
                f"{where}: must be a list of words, each a string that is not empty, not {quoted(sentence)}"
            )
        check_text(" ".join(words), where, "the sentence")
        own = None
        if tags is not None and tags[i] is not None:
            own = tuple(tag.strip() for tag in _strings(tags[i]))
            if len(own) != len(words) or not all(own):
                raise DataError(f"{where}: must have a tag for each of its {len(words)} words, not {quoted(tags[i])}")
        examples.append(TaggedExample(where, words, own))
    return not_empty(examples, "sentences: there is no sentence")


def _strings(items: Any) -> tuple[str, ...]:
    """The strings of a list or an array; () for anything else, or if it holds something else."""
    found = list(items) if isinstance(items, Iterable) and not isinstance(items, str) else []
    return tuple(map(str, found)) if all(isinstance(item, str) for item in found) else ()


def check_text(text: Any, where: str, what: str) -> None:
    """Raises DataError if ``text`` is not a string or holds a lone surrogate, Incomplete if it is missing or blank."""
    if not isinstance(text, str):
        missing = text is None or (isinstance(text, float) and math.isnan(text))
        raise (Incomplete if missing else DataError)(f"{where}: {what} must be a string, not {quoted(text)}")
    if not text.strip():
        raise Incomplete(f"{where}: {what} is empty")
    if not text.isascii() and _HALF_CHARACTER.search(text):
        raise DataError(f"{where}: {what} holds half of a surrogate pair, which is not a character")


def checked_label(value: Any, kind: str, where: str, separator: str = ",") -> Any:
    """The label of a TextExample from a cell of a file or a Python value. Names of classes are strings without blanks
    around them: 1 and "1" are one label, True is "true". Several labels are a list, also one written as in JSON or
    Python, or a string with ``separator`` between them, and may be none at all. A missing label of another kind raises
    Incomplete, a wrong one DataError."""
    return _LABELS[kind](value, where, separator)


def _name(value: Any, where: str, separator: str = ",") -> str:
    plain = python_value(value)
    if isinstance(plain, bool):
        return str(plain).lower()
    if isinstance(plain, float) and not math.isfinite(plain):
        raise (Incomplete if math.isnan(plain) else DataError)(f"{where}: the label is {plain}, not a name")
    name = plain.strip() if isinstance(plain, str) else str(value) if isinstance(plain, int | float) else None
    if name is None:
        kind = Incomplete if value is None else DataError
        raise kind(f"{where}: the label must be a string or a number, not {quoted(value)}")
    if not name:
        raise Incomplete(f"{where}: the label is empty")
    return name


def _names(value: Any, where: str, separator: str) -> tuple[str, ...]:
    if isinstance(value, str):
        written = written_list(value)
        value = [part for part in value.split(separator) if part.strip()] if written is None else written
    if not isinstance(value, list | tuple):
        kind = Incomplete if value is None else DataError
        raise kind(f"{where}: the labels must be a list or a string, not {quoted(value)}")
    names = [_name(one, where) for one in value]
    flags = len(names) > 1 and all(name in _FLAGS for name in names)
    if flags and (len(set(names)) < len(names) or any(isinstance(python_value(one), bool) for one in value)):
        raise DataError(
            f"{where}: the labels {quoted(value)} are a yes or no for each label; list the names, or the numbers, of "
            f"those that the text has"
        )
    return tuple(dict.fromkeys(names))


def written_list(text: str) -> list[Any] | None:
    """The list in a text such as ``['a', 'b']``, as data frames write one into a cell, or ``['a' 'b']``, as NumPy does;
    None for other text."""
    text = text.strip()
    if not (text.startswith("[") and text.endswith("]")):
        return None
    if _BY_NUMPY.fullmatch(text):  # for Python 'a' 'b' is one string
        return [ast.literal_eval(item[0]) for item in _ITEM.finditer(text)]
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    return found if isinstance(found, list) else None


def _number(value: Any, where: str, separator: str = ",") -> float:
    plain = python_value(value)
    if plain is None or (isinstance(plain, str) and not plain.strip()):
        raise Incomplete(f"{where}: the label is empty, it must be a number")
    try:
        # float() would read True as one, "1_0" as ten.
        number = float("" if isinstance(plain, bool) or (isinstance(plain, str) and "_" in plain) else plain)
    except OverflowError:
        number = math.inf
    except (TypeError, ValueError):
        comma = "; a decimal point is a point" if isinstance(plain, str) and _COMMA.fullmatch(plain.strip()) else ""
        raise DataError(f"{where}: the label must be a number, not {quoted(value)}{comma}") from None
    if not abs(number) <= _LARGEST:
        raise DataError(f"{where}: the label must be a finite number, not {quoted(value)}; float32 ends at 3.4e38")
    return number


def _number_or_none(value: Any, where: str, separator: str = ",") -> float | None:
    return None if value is None or (isinstance(value, str) and not value.strip()) else _number(value, where)


def python_value(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else value


_LABELS = {"classification": _name, "multi_label": _names, "regression": _number, "embedding": _number_or_none}


def named(id: str) -> str:
    """The id of a question for an error line: as it is, or quoted if it is long or odd."""
    return id if len(id) <= 60 and id.isprintable() else quoted(id)


def not_empty(examples: list[Any], message: str) -> list[Any]:
    if not examples:
        raise DataError(message)
    return examples


def _lists(name: str, items: Any, other_name: str, others: Any) -> tuple[list[Any], list[Any] | None]:
    """Both as lists of one length, whatever they were: a column of a data frame has its own index."""
    if isinstance(items, str) or isinstance(others, str):
        raise ConfigError(f"{name} and {other_name} must be lists")
    items, others = list(items), None if others is None else list(others)
    if others is not None and len(items) != len(others):
        raise ConfigError(f"{name} and {other_name} must be of one length, not {len(items)} and {len(others)}")
    return items, others
