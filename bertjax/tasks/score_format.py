"""Scores in words, the same in a run's lines, its summary and ``evaluate``."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

_OF_POSITIVE = ("f1", "precision", "recall")


def score_title(name: str, positive: str | None) -> str:
    """The name of a score; of F1, precision and recall with the label that they are of, where one is positive."""
    return f"{name} of {positive!r}" if positive is not None and name in _OF_POSITIVE else name


def format_scores(
    scores: Mapping[str, float],
    undefined: Mapping[str, str],
    positive: str | None = None,
    beside: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Such as: accuracy 0.9000, mcc undefined (all predictions are 'no'), f1 of 'yes' 0.8000.

    undefined: score -> reason. beside: what follows the value of a score.
    """
    shown = lambda name: score_title(name.replace("_", " "), positive)
    parts = [
        f"{shown(name)} {value:.4f}{beside.get(name, '')}" for name, value in defined_scores(scores, undefined).items()
    ]
    return ", ".join([*parts, *[f"{shown(name)} undefined ({why})" for name, why in undefined.items()]])


def defined_scores(scores: Mapping[str, float], undefined: Mapping[str, str]) -> dict[str, float]:
    """The scores that have a value."""
    return {name: value for name, value in scores.items() if name not in undefined}
