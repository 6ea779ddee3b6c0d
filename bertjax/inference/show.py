"""Answers of ``python -m bertjax.predict`` as a person reads them on a terminal."""

from __future__ import annotations

from typing import Any

_MOST_SHOWN = 5  # labels of a text


def fillings(answer: dict[str, Any]) -> None:
    """The tokens for each mask, with their probabilities."""
    print(answer["text"])
    for number, mask in enumerate(answer["fillings"], start=1):
        if len(answer["fillings"]) > 1:
            print(f"  mask {number}")
        width = max(len(filling["token"]) for filling in mask)
        for filling in mask:
            print(f"  {filling['score']:6.1%}  {filling['token']:<{width}}  {filling['text']}")


def labels(answer: dict[str, Any]) -> None:
    """The labels of a text or pair with their probabilities, or its number."""
    print(" | ".join(answer[name] for name in ("text", "second") if name in answer))
    if "score" in answer:
        print(f"  {answer['score']:.4g}")
        return
    given = answer.get("labels", list(answer["probabilities"]))
    for label in sorted(given, key=lambda label: -answer["probabilities"][label])[:_MOST_SHOWN]:
        print(f"  {answer['probabilities'][label]:6.1%}  {label}")
    if not given:
        print("  (no label)")


def tags(answer: dict[str, Any]) -> None:
    """The entities of a text, or where tags make none every word with its tag."""
    print(answer["text"])
    found = answer.get("entities", answer["words"])
    rows = [(one.get("type") or one["tag"], _line(one["text"]), f"[{one['start']}:{one['end']}]") for one in found]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for one, row in zip(found, rows, strict=True):
        cells = "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        print(f"  {one['probability']:6.1%}  {cells}")
    if not rows:
        print("  (none)")


def answers(answer: dict[str, Any]) -> None:
    """The answers to a question with their places, the given one first."""
    print(answer["question"])
    for one in answer["n_best"]:
        place = "(no answer)" if one["start"] is None else f"{_line(one['text'])}  [{one['start']}:{one['end']}]"
        print(f"  {one['probability']:6.1%}  {place}")


def similarity(answer: dict[str, Any]) -> None:
    """A pair in one line."""
    print(f"{answer['similarity']:7.4f}  {_line(answer['text'])} | {_line(answer['second'])}")


def _line(text: str) -> str:
    return " ".join(text.split())
