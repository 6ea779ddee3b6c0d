"""Scores as text, the same in a run's lines, its summary and ``evaluate``."""

from collections.abc import Mapping
from types import MappingProxyType

_OF_POSITIVE = ("f1", "precision", "recall")


def score_title(name: str, positive: str | None) -> str:
    """The name of a score; F1, precision and recall with the ``positive`` label, if the task has one."""
    return f"{name} of {positive!r}" if positive is not None and name in _OF_POSITIVE else name


def format_scores(
    scores: Mapping[str, float],
    undefined: Mapping[str, str],
    positive: str | None = None,
    suffixes: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """For example: accuracy 0.9000, f1 of 'yes' 0.8000, mcc undefined (all predictions are 'no').

    undefined: score -> reason. suffixes: score -> what follows its value.
    """
    title = lambda name: score_title(name.replace("_", " "), positive)
    values = defined_scores(scores, undefined).items()
    parts = [f"{title(name)} {value:.4f}{suffixes.get(name, '')}" for name, value in values]
    return ", ".join([*parts, *[f"{title(name)} undefined ({reason})" for name, reason in undefined.items()]])


def defined_scores(scores: Mapping[str, float], undefined: Mapping[str, str]) -> dict[str, float]:
    """The scores that have a value."""
    return {name: value for name, value in scores.items() if name not in undefined}
