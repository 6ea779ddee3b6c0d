"""Which of two classes is the positive one: that F1, precision and recall are of."""

from __future__ import annotations

import re
from collections.abc import Sequence

from bertjax.config_schema import nearest
from bertjax.errors import ConfigError

_YES = {"true", "yes", "y", "t", "pos", "positive", "+", "+1"}
_NO = {"0", "-1", "false", "no", "n", "f", "neg", "negative", "-"}
_NO |= {"none", "other", "normal", "ham", "benign", "ok", "clean", "neutral", "background"}
_NOT = re.compile(r"(not|non|no|un|in|ir|im|dis)[ _-]?")


def positive_label(labels: Sequence[str], given: str | None = None) -> str | None:
    """The label that is ``given``; else of two labels the one that says yes, the one beside a label that says no, the
    one that the other negates (``not_entailment``, ``irrelevant``), else the second. None of more labels than two.

    Raises ConfigError for one that is not among them.
    """
    if given is not None and given not in labels:
        raise ConfigError(f"config.data.positive_label = {given!r} is none of the labels; {nearest(given, labels)}")
    if len(labels) != 2:
        if given is not None:
            raise ConfigError(
                f"config.data.positive_label = {given!r} is of two labels, and there are {len(labels)}; leave it out: "
                f"f1_macro is over all of them"
            )
        return None
    if given is not None:
        return given
    first, second = (label.strip().lower() for label in labels)
    for is_first, is_second in (
        (first in _YES, second in _YES),
        (second in _NO, first in _NO),
        (_negates(second, first), _negates(first, second)),
    ):
        if is_first != is_second:
            return labels[0] if is_first else labels[1]
    return labels[1]


def _negates(label: str, other: str) -> bool:
    """Whether ``label`` is ``other`` with a word or syllable of negation before it."""
    return label.endswith(other) and _NOT.fullmatch(label[: -len(other)]) is not None
