"""Answers of ``python -m bertjax.predict`` as a person reads them on a terminal."""

from __future__ import annotations

from typing import Any

from bertjax.showing import plain, plain_text, say

_MOST_SHOWN = 5  # labels of a text


def fillings(answer: dict[str, Any]) -> None:
    """The tokens for each mask, with their probabilities."""
    _say_text(answer["text"])
    for number, mask in enumerate(answer["fillings"], start=1):
        if len(answer["fillings"]) > 1:
            say(f"  mask {number}")
        width = max(len(plain(filling["token"])) for filling in mask)
        for filling in mask:
            _say_text(f"  {filling['score']:6.1%}  {plain(filling['token']):<{width}}  {filling['text']}")


def labels(answer: dict[str, Any]) -> None:
    """The labels of a text or pair with their probabilities, or its number."""
    _say_text(" | ".join(answer[name] for name in ("text", "second") if name in answer))
    if "score" in answer:
        say(f"  {answer['score']:.4g}")
        return
    given = answer.get("labels", list(answer["probabilities"]))
    for label in sorted(given, key=lambda label: -answer["probabilities"][label])[:_MOST_SHOWN]:
        say(f"  {answer['probabilities'][label]:6.1%}  {label}")
    if not given:
        say("  (no label)")


def tags(answer: dict[str, Any]) -> None:
    """The entities of a text, or where tags make none every word with its tag."""
    _say_text(answer["text"])
    found = answer.get("entities", answer["words"])
    named = ((plain(one.get("type") or one["tag"]), plain(_line(one["text"]))) for one in found)
    rows = [(*names, f"[{one['start']}:{one['end']}]") for names, one in zip(named, found, strict=True)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for one, row in zip(found, rows, strict=True):
        cells = "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        say(f"  {one['probability']:6.1%}  {cells}")
    if not rows:
        say("  (none)")


def answers(answer: dict[str, Any]) -> None:
    """The answers to a question with their places, the given one first."""
    _say_text(answer["question"])
    for one in answer["n_best"]:
        place = "(no answer)" if one["start"] is None else f"{_line(one['text'])}  [{one['start']}:{one['end']}]"
        say(f"  {one['probability']:6.1%}  {place}")


def similarity(answer: dict[str, Any]) -> None:
    """A pair in one line."""
    say(f"{answer['similarity']:7.4f}  {_line(answer['text'])} | {_line(answer['second'])}")


def _say_text(text: str) -> None:
    """What was asked, with its own line breaks."""
    print(plain_text(text))


def _line(text: str) -> str:
    return " ".join(text.split())
