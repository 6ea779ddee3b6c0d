"""Which of two classes is the positive one, whose F1, precision and recall are scored."""

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
    """``given``, else of two labels: the one that means yes, the one whose counterpart means no, the one that the other
    negates (``not_entailment``, ``irrelevant``), or the second. None for more labels than two.

    Raises ConfigError if ``given`` is not among them.
    """
    if given is not None and given not in labels:
        raise ConfigError(f"config.data.positive_label = {given!r} is not one of the labels; {nearest(given, labels)}")
    if len(labels) != 2:
        if given is not None:
            raise ConfigError(
                f"config.data.positive_label = {given!r} needs two labels, and there are {len(labels)}; leave it out: "
                f"f1_macro covers all of them"
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
    """Whether ``label`` is ``other`` after a negating word or prefix."""
    return label.endswith(other) and _NOT.fullmatch(label[: -len(other)]) is not None
