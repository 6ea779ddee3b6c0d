"""Label maps: the names of labels by id, and the ids of examples; names that a person takes for the same."""

import contextlib
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from bertjax.config_schema import nearest
from bertjax.errors import ConfigError, DataError
from bertjax.tasks.examples import TaggedExample, TextExample

Labelled = Sequence[TextExample] | Sequence[TaggedExample]
# Labels that mean yes or no, and what negates another label.
_YES = {"true", "yes", "y", "t", "pos", "positive", "+", "+1"}
_NO = {"0", "-1", "false", "no", "n", "f", "neg", "negative", "-"}
_NO |= {"none", "other", "normal", "ham", "benign", "ok", "clean", "neutral", "background"}
_NOT = re.compile(r"(not|non|no|un|in|ir|im|dis)[ _-]?")
# Confusable names, which a person takes for the same, differ in these, in spaces, the form of a number, or case.
_INVISIBLE = ("Cc", "Cf")
_INVISIBLE_TOO = "\u034f\u115f\u1160\u3164\uffa0" + "".join(map(chr, range(0xFE00, 0xFE10)))
_QUOTES = "\"'`\u2018\u2019\u201a\u201c\u201d\u201e\u00ab\u00bb"
_WHOLE = re.compile(r"\+?(-?(?:0|[1-9][0-9]*))(?:\.0*)?")


def label_map(examples: Labelled) -> tuple[str, ...]:
    """The names of all labels, which do not depend on the order of the examples; ("score",) for numbers. Sorted: "O"
    before the other tags, numbers by value, the rest by characters. Raises DataError for an example without a label, if
    all texts, or all words, have the same label, and for two labels that look alike."""
    if all(isinstance(_label(example), float) for example in examples):
        return ("score",)
    counts = count_labels(examples)
    if not counts:
        raise DataError(f"{examples[-1].where}: up to here no example has a label")
    _check_two(examples, counts)
    _check_no_confusables(examples, counts)
    values = {name: value_of(name) for name in counts}
    are_numbers = None not in values.values()
    return tuple(sorted(counts, key=lambda name: (values[name] if are_numbers else name != "O", name)))


def label_ids(examples: Labelled, labels: Sequence[str], advice: str = "") -> Any:
    """Ids by ``labels``: int32 [N]; multi-label float32 [N, C] of zeros and ones; numbers float32 [N]; tagged sentences
    a list of N int32 [words]. Raises DataError, which ends with ``advice``, for a label that is not in the map."""
    ids = {name: i for i, name in enumerate(labels)}
    for example in examples:
        for number, name in enumerate(_names(example)):
            if name not in ids:
                where = example.place(number) if isinstance(example, TaggedExample) and example.lines else example.where
                raise unknown_label(name, ids, where, advice)
    found = [[ids[name] for name in _names(example)] for example in examples]
    if isinstance(examples[0], TaggedExample):
        return [np.array(row, np.int32) for row in found]
    first = _label(examples[0])
    if isinstance(first, float):
        return np.array([_label(example) for example in examples], np.float32)
    if isinstance(first, str):
        return np.array(found, np.int32)[:, 0]
    several = np.zeros((len(examples), len(labels)), np.float32)
    for row, own in zip(several, found, strict=True):
        row[own] = 1
    return several


def unused_labels(examples: Labelled, labels: Sequence[str]) -> list[str]:
    """One line on the labels of the map that no training example has, if there are any. Raises DataError if all texts,
    or all words, have the same label."""
    if isinstance(_label(examples[0]), float):
        return []
    counts = count_labels(examples)
    _check_two(examples, counts)
    missing = ", ".join(repr(name) for name in labels if name not in counts)
    return [f"no training example has the label {missing}, of which nothing is learned"] if missing else []


def _check_two(examples: Labelled, counts: Counter[str]) -> None:
    last = examples[-1]
    tagged = isinstance(last, TaggedExample)
    if len(counts) == 1 and (tagged or isinstance(_label(last), str)):
        what = "words have the tag" if tagged else "examples have the label"
        column = "" if not tagged or last.lines is None else "; choose another column with config.data.label"
        raise DataError(f"{last.where}: up to here all {what} {next(iter(counts))!r}; there must be two{column}")


def count_labels(examples: Labelled) -> Counter[str]:
    """How many examples (words, for tags) have each label. Empty for numbers."""
    return Counter(name for example in examples for name in _names(example))


def _check_no_confusables(examples: Labelled, counts: Counter[str]) -> None:
    commonest: dict[str, str] = {}
    for name in sorted(counts, key=lambda name: (-counts[name], name != canonical(name))):
        other = commonest.setdefault(canonical(name), name)
        if other != name:
            mine, theirs, words = _quoted_pair(name, other)
            raise DataError(
                f"{_place(examples, name)}: the label {mine} differs from {theirs} ({_place(examples, other)}) only in "
                f"{words}; write one of them everywhere, or, if you mean two, list all labels in config.data.labels"
            )


def _place(examples: Labelled, name: str) -> str:
    example = next(example for example in examples if name in _names(example))
    return example.place(_names(example).index(name)) if isinstance(example, TaggedExample) else example.where


def _label(example: TextExample | TaggedExample) -> Any:
    label = example.tags if isinstance(example, TaggedExample) else example.label
    if label is None:
        raise DataError(f"{example.where}: no label")
    return label


def _names(example: TextExample | TaggedExample) -> tuple[str, ...]:
    label = _label(example)
    return (label,) if isinstance(label, str) else () if isinstance(label, float) else label


def value_of(name: str) -> float | None:
    """The finite number that a name spells; None if it spells none."""
    with contextlib.suppress(ValueError):
        return value if math.isfinite(value := float(name)) else None
    return None


def positive_label(labels: Sequence[str], given: str | None = None) -> str | None:
    """``given``, else of two labels: the one that means yes, the one whose counterpart means no, the one that the other
    negates (``not_entailment``, ``irrelevant``), or the second. None for more labels than two. Raises ConfigError if
    ``given`` is not among them."""
    if given is not None:
        key = f"config.data.positive_label = {given!r}"
        if given not in labels:
            raise ConfigError(f"{key} is not one of the labels; {nearest(given, labels)}")
        if len(labels) != 2:
            raise ConfigError(
                f"{key} needs two labels, and there are {len(labels)}; leave it out: f1_macro covers all of them"
            )
        return given
    if len(labels) != 2:
        return None
    first, second = (label.strip().lower() for label in labels)
    negates = lambda label, other: label.endswith(other) and _NOT.fullmatch(label[: -len(other)]) is not None
    for is_first, is_second in (
        (first in _YES, second in _YES),
        (second in _NO, first in _NO),
        (negates(second, first), negates(first, second)),
    ):
        if is_first != is_second:
            return labels[0] if is_first else labels[1]
    return labels[1]


def _visible(name: str) -> str:
    kept = (c for c in name if unicodedata.category(c) not in _INVISIBLE and c not in _INVISIBLE_TOO)
    return "".join(kept).strip()


def _unquoted(name: str) -> str:
    return name[1:-1].strip() if len(name) > 2 and name[0] in _QUOTES and name[-1] in _QUOTES else name


def _number(name: str) -> str:
    """1 for 1.0 and +1. 01 stays, it may be a code; so do fractions: 1.1 and 1.10 may be sections."""
    whole = _WHOLE.fullmatch(name)
    return name if whole is None else "0" if whole[1] == "-0" else whole[1]


# What two names may differ in -> their form without it.
_DIFFERENCES: dict[str, Callable[[str], str]] = {
    "characters that cannot be seen": _visible,
    "the kind or number of their spaces": lambda name: " ".join(name.split()),
    "how Unicode writes their characters": lambda name: unicodedata.normalize("NFKC", name),
    "the quotes around it": _unquoted,
    "how the number is written": _number,
    "case": str.casefold,
}


def canonical(name: str) -> str:
    """The form that all confusable names share."""
    for form in (*_DIFFERENCES.values(), *[*_DIFFERENCES.values()][:2]):
        name = form(name)
    return name


def unknown_label(name: str, known: Iterable[str], where: str, advice: str = "") -> DataError:
    """The error for a label outside the label map: the known label that a person takes for the same, or the nearest."""
    other, shown = confusable_with(name, known), repr(name)
    hint = nearest(name, known)
    if other is not None:
        shown, theirs, words = _quoted_pair(name, other)
        hint = f"it differs from {theirs} only in {words}"
    return DataError(f"{where}: the label {shown} is not in the label map; {hint}{advice}")


def confusable_with(name: str, names: Iterable[str]) -> str | None:
    plain = canonical(name)
    return next((other for other in names if other != name and canonical(other) == plain), None)


def _quoted_pair(one: str, other: str) -> tuple[str, str, str]:
    """Two confusable names in quotes, spelled so that they look different, and what they differ in."""
    alone = (words for words, form in _DIFFERENCES.items() if form(one) == form(other))
    words = next(alone, "how it is written")
    spelled = repr if words in ("case", "how the number is written", "the quotes around it") else ascii
    return spelled(one), spelled(other), words
